/** How the equipment is: collars, links, what waits for the cloud, frames that nobody can read, stations. */
import { useEffect, useRef, useState } from "preact/hooks";
import { ageOf } from "./ages";
import { get, type Paged } from "./api";
import { boot } from "./boot";
import { daysLeft, heardOf } from "./heard";
import { reasonsOf, uplinkOf } from "./shell";
import { collars, health, homeNow, live, sparks, trails, use } from "./state";
import { t, word } from "./strings";
import type { Collar, Undecoded } from "./types";
import { Page, Table, Time } from "./ui";
import { span } from "./words";

const AGES = ["silent", "late", "unknown", "fresh"];
const batteryOf = (said: string | null) => {
  const text = said ?? "";
  return text.endsWith("%") ? Number.parseFloat(text) : text.endsWith("V") ? Number.parseFloat(text) * 20 : 1000;
};

/** Days that a battery has left by its own course of a month, asked for once the row is in sight. */
const left = new Map<string, Promise<number | null>>();
const leftOf = (animalId: string) => get<{ readings: { at: string; percent: number | null }[] }>(`/api/v1/charts/battery/?animal_id=${animalId}&days=30`)
  .then((found) => daysLeft(found.readings), () => null);

function DaysLeft({ animalId }: { animalId: string | undefined }) {
  const [days, setDays] = useState<number | null>(null);
  const box = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    if (!animalId || !box.current) return;
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((each) => each.isIntersecting)) return;
      seen.disconnect();
      const asked = left.get(animalId) ?? leftOf(animalId);
      left.set(animalId, asked);
      void asked.then(setDays);
    });
    seen.observe(box.current);
    return () => seen.disconnect();
  }, [animalId]);
  return <span ref={box}>{days === null ? "–" : `≈ ${days}`}</span>;
}

export function Collars() {
  const found = use(collars);
  const animals = new Map((use(live) ?? []).map((each) => [each.collar_id, each]));
  const day = use(trails);
  const heardOfRow = (row: Collar) => heardOf(day, animals.get(row.id)?.animal_id, row.fix_interval_s);
  /** When it was heard, or where its positions came another way, when it took the last. */
  const last = (collar: Collar) => collar.last_heard_at ?? animals.get(collar.id)?.current_position.timestamp ?? null;
  const age = (collar: Collar) => { const at = last(collar); return at === null ? "unknown" : ageOf(homeNow() - Date.parse(at), collar); };
  const batteryText = (collar: Collar) => collar.battery_level ?? animals.get(collar.id)?.movement.battery_level ?? null;
  return (
    <Page title={t("nav.collars")}>
      <Table rows={[...found.values()]} label={t("nav.collars")} start="age" columns={[
        { key: "age", label: t("collar.health"), cell: (row) => <span class={`age-${age(row)}`}>{t(`age.${age(row)}`)}</span>, sort: (row) => AGES.indexOf(age(row)) },
        { key: "animal", label: t("animal.name"), cell: (row) => animals.get(row.id)?.name ?? "–", sort: (row) => animals.get(row.id)?.name ?? "" },
        { key: "id", label: t("animal.collar"), cell: (row) => row.id, sort: (row) => row.id },
        { key: "battery", label: t("collar.battery"), cell: (row) => batteryText(row) ?? "–", sort: (row) => batteryOf(batteryText(row)), isNumber: true },
        { key: "days", label: t("collar.days_left"), cell: (row) => <DaysLeft animalId={animals.get(row.id)?.animal_id} />, isNumber: true },
        { key: "heard", label: t("collar.heard"), cell: (row) => row.last_heard_at ? <><Time at={row.last_heard_at} /> (<Time at={row.last_heard_at} ago />)</> : "–", sort: (row) => row.last_heard_at ?? "" },
        { key: "fix", label: t("animal.fix_at"), cell: (row) => <Time at={animals.get(row.id)?.current_position.timestamp} />, sort: (row) => animals.get(row.id)?.current_position.timestamp ?? "" },
        { key: "interval", label: t("collar.interval"), cell: (row) => row.fix_interval_s ? span(row.fix_interval_s * 1000) : "–", sort: (row) => row.fix_interval_s ?? 0 },
        { key: "success", label: t("collar.success"), cell: (row) => { const heard = heardOfRow(row); return heard ? `${Math.round((100 * heard.fixes) / heard.expected)} % (${heard.fixes}/${heard.expected})` : "–"; }, sort: (row) => { const heard = heardOfRow(row); return heard ? heard.fixes / heard.expected : 2; }, isNumber: true },
        { key: "gaps", label: t("collar.gaps"), cell: (row) => heardOfRow(row)?.gaps ?? "–", sort: (row) => heardOfRow(row)?.gaps ?? -1, isNumber: true },
        { key: "signal", label: t("collar.signal"), cell: (row) => { const dbm = animals.get(row.id)?.movement.signal_strength; return dbm == null ? "–" : `${dbm} dBm`; }, sort: (row) => animals.get(row.id)?.movement.signal_strength ?? -999, isNumber: true },
        { key: "model", label: t("collar.model"), cell: (row) => [row.model, row.firmware].filter(Boolean).join(" · ") || "–" },
      ]} />
    </Page>
  );
}

function Spark({ of }: { of: number[] }) {
  if (of.length < 2) return <span class="quiet">–</span>;
  const most = Math.max(...of, 1);
  const points = of.map((each, n) => `${(n / (of.length - 1)) * 96 + 2},${22 - (each / most) * 20}`).join(" ");
  return <svg class="spark" viewBox="0 0 100 24" width="100" height="24" role="img" aria-label={t("link.spark", { n: of.at(-1)!.toFixed(0) })}><polyline points={points} fill="none" stroke="currentColor" stroke-width="1.5" /></svg>;
}

interface Waiting { id: string; data_type: string; data: Record<string, unknown>; status: string; created_at: string }
const SHOWN = 50;
/** What a row is, in a few words: its name, what was seen, or else its id. */
const nameOf = (row: Waiting) => String(row.data.name ?? row.data.title ?? row.data.description ?? row.data.collar_id ?? row.id).slice(0, 80);

/** What waits for the cloud one by one, asked for again as the number changes. */
function OnlyHere({ waiting }: { waiting: number }) {
  const [found, setFound] = useState<Paged<Waiting> | null>(null);
  useEffect(() => { void get<Paged<Waiting>>(`/api/v1/sync/queue/pending/?page_size=${SHOWN}`).then(setFound, () => {}); }, [waiting]);
  if (!found) return null;
  return (
    <details><summary>{t("sync.only_here")} ({found.count})</summary>
      <Table rows={found.results} label={t("sync.only_here")} empty={t("sync.nothing_here")} columns={[
        { key: "kind", label: t("sync.kind"), cell: (row) => word("entity", row.data_type), sort: (row) => row.data_type },
        { key: "name", label: t("user.name"), cell: nameOf, sort: nameOf },
        { key: "since", label: t("sync.since"), cell: (row) => <Time at={row.created_at} />, sort: (row) => row.created_at },
      ]} />
      {found.count > found.results.length && <p class="quiet">{t("sync.more", { n: found.count - found.results.length })}</p>}
    </details>
  );
}

export function System() {
  const found = use(health);
  const rates = use(sparks);
  const [unread, setUnread] = useState<Undecoded[] | null>(null);
  useEffect(() => { void get<Undecoded[]>("/api/v1/undecoded").then(setUnread, () => setUnread([])); }, [found?.ledger.undecoded]);
  if (!found) return <Page title={t("nav.system")}><p class="quiet">{t("page.loading")}</p></Page>;
  const up = uplinkOf(found.cloud);
  const waiting = Object.entries(found.cloud?.waiting ?? {}).map(([channel, each]) => ({ id: channel, ...each }));
  return (
    <Page title={`${boot.name}: ${t(`status.${found.status}`)}`}>
      {found.reasons.length > 0 && <ul class="reasons">{reasonsOf(found).map((each) => <li key={each}>⚠ {each}</li>)}</ul>}
      <h2>{t("system.links")}</h2>
      <Table rows={found.links.map((each) => ({ ...each, id: each.name }))} label={t("system.links")} columns={[
        { key: "name", label: t("link.name"), cell: (row) => <><span class={row.is_up ? "age-fresh" : "bad"}>{row.is_up ? "● " : "⚠ "}</span>{row.name}</> },
        { key: "kind", label: t("link.kind"), cell: (row) => `${row.kind} ${row.address}` },
        { key: "spark", label: t("link.rate"), cell: (row) => <Spark of={rates.get(row.name) ?? []} /> },
        { key: "frames", label: t("link.frames"), cell: (row) => row.frames, isNumber: true },
        { key: "damaged", label: t("link.damaged"), cell: (row) => row.damaged_frames, isNumber: true },
        { key: "heard", label: t("collar.heard"), cell: (row) => <Time at={row.last_frame_at} ago /> },
        { key: "error", label: t("link.error"), cell: (row) => row.last_error || "–" },
      ]} />
      <h2>{t("system.sync")}</h2>
      <p class="words">{t("sync.phone")} → <b>{t("sync.station")}</b> → {t("sync.cloud")} → {t("sync.review")}</p>
      {up.isEnrolled ? <>
        <p>{up.waiting === 0 ? t("sync.none") : t("sync.waiting", { n: up.waiting })} {t("strip.receipt")} <Time at={found.cloud?.last_receipt_at} />. {found.cloud?.last_error && <span class="error">{found.cloud.last_error}</span>}</p>
        <Table rows={waiting} label={t("system.sync")} columns={[
          { key: "channel", label: t("sync.channel"), cell: (row) => word("channel", row.id) },
          { key: "items", label: t("sync.items"), cell: (row) => row.items, isNumber: true },
          { key: "oldest", label: t("sync.oldest"), cell: (row) => <Time at={row.oldest_at} /> },
        ]} />
        <OnlyHere waiting={up.waiting} />
      </> : <p class="quiet">{t("strip.alone")}</p>}
      <h2>{t("system.unread")} ({found.ledger.undecoded})</h2>
      <Table rows={(unread ?? []).map((each) => ({ ...each, id: String(each.ledger_seq) }))} label={t("system.unread")} empty={t("system.all_read")} columns={[
        { key: "at", label: t("unread.at"), cell: (row) => <Time at={row.received_at} /> },
        { key: "link", label: t("link.name"), cell: (row) => row.link },
        { key: "reason", label: t("unread.reason"), cell: (row) => row.reason },
        { key: "size", label: t("unread.size"), cell: (row) => row.size_bytes, isNumber: true },
        { key: "head", label: t("unread.head"), cell: (row) => <code>{row.head}</code> },
      ]} />
      <h2>{t("system.facts")}</h2>
      <dl class="grid">
        <div><dt>{t("fact.fixes")}</dt><dd>{found.store.fixes}</dd></div>
        <div><dt>{t("fact.pending")}</dt><dd>{found.ledger.pending}</dd></div>
        <div><dt>{t("fact.encrypted")}</dt><dd>{found.store.is_encrypted ? t("form.yes") : t("form.no")}</dd></div>
        <div><dt>{t("fact.check")}</dt><dd>{found.store.check ?? "–"}</dd></div>
        <div><dt>{t("fact.uptime")}</dt><dd>{span(found.uptime_s * 1000)}</dd></div>
        <div><dt>{t("fact.version")}</dt><dd>{found.version}</dd></div>
      </dl>
    </Page>
  );
}
