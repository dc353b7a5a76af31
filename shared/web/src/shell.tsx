/** The frame: how the home is in one strip, the ways to the pages, and what this browser prefers. */
import type { ComponentChildren, FunctionComponent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { keepLoggedIn, post } from "./api";
import { boot, keep, role } from "./boot";
import { start } from "./live";
import { isSoundOn, setSound, startSound } from "./sound";
import { alerts, connection, health, homeNow, stations, use } from "./state";
import { t, told, word } from "./strings";
import type { StationHealth } from "./types";
import { Asked, Time, Toast, sayError } from "./ui";
import { span } from "./words";

export interface Way { path: string; label: string; page: FunctionComponent; isShown: boolean }

const LATE_RECEIPT_S = 600;

function Fact({ icon, children, tone, name }: { icon: string; children: ComponentChildren; tone?: string | undefined; name: string }) {
  return <li class={tone ?? ""} data-fact={name}><span aria-hidden="true">{icon}</span> {children}</li>;
}

/** What the station says of its way to the cloud: it never claims more than the other side has confirmed. */
export function uplinkOf(cloud: NonNullable<NonNullable<typeof health.value>["cloud"]> | null) {
  const waiting = Object.values(cloud?.waiting ?? {}).reduce((sum, each) => sum + each.items, 0);
  const isEnrolled = !!cloud?.station_id && cloud.is_enabled;
  const age = cloud?.last_receipt_age_s ?? null;
  const isOffline = isEnrolled && (cloud?.last_error !== null && cloud?.last_error !== "" || (age !== null && age > LATE_RECEIPT_S && waiting > 0));
  return { waiting, isEnrolled, isOffline, age };
}

/** Why a home is not in order, in this page's language. */
export const reasonsOf = (found: StationHealth) => found.reasons.map((each, n) => told(found.said[n], each));

function StationStrip() {
  const found = use(health);
  if (!found) return null;
  const up = uplinkOf(found.cloud);
  const used = 100 - Math.floor((100 * found.disk.free_bytes) / Math.max(found.disk.total_bytes, 1));  // as the home itself counts
  return (
    <>
      {up.isEnrolled
        ? <Fact name="uplink" icon={up.isOffline ? "⚠" : "↑"} tone={up.isOffline ? "warn" : ""}>
          {up.isOffline ? t("strip.offline", { since: up.age === null ? "–" : span(up.age * 1000) }) : t("strip.online")}
          {" · "}{t("strip.receipt")} <Time at={found.cloud?.last_receipt_at} />{" · "}{t("strip.waiting", { n: up.waiting })}</Fact>
        : <Fact name="uplink" icon="○">{t("strip.alone")}</Fact>}
      <Fact name="clock" icon="◷" tone={found.clock.is_sure ? "" : "warn"}>
        <Time at={found.clock.now} /> {word("clock", found.clock.state)}
        {found.clock.uncertainty_s !== null && ` ±${found.clock.uncertainty_s < 1 ? "1" : Math.round(found.clock.uncertainty_s)} s`}</Fact>
      <Fact name="disk" icon="▤" tone={used >= 80 ? "warn" : ""}>{t("strip.disk", { used })}</Fact>
      {found.backup && <Fact name="backup" icon="⛁" tone={!found.backup.is_enabled || found.backup.last_error ? "warn" : ""}>
        {t("strip.backup")} {found.backup.is_enabled ? <Time at={found.backup.last_hourly_at ?? found.backup.last_daily_at} /> : t("strip.no_backup")}</Fact>}
      <Fact name="links" icon="⇄" tone={found.links.some((each) => !each.is_up) ? "warn" : ""}>
        {t("strip.links", { up: found.links.filter((each) => each.is_up).length, all: found.links.length })}</Fact>
    </>
  );
}

function CloudStrip() {
  const found = use(stations);
  if (!found) return null;
  const there = found.filter((each) => !each.is_retired);
  const late = there.filter((each) => !each.last_seen_at || homeNow() - Date.parse(each.last_seen_at) > 3_600_000);
  return <Fact name="stations" icon="⌂" tone={late.length ? "warn" : ""}>{t(late.length ? "strip.stations_late" : "strip.stations", { n: there.length, late: late.length })}</Fact>;
}

function Strip() {
  const line = use(connection);
  const sound = use(isSoundOn);
  const found = use(health);
  use(alerts);
  return (
    <header class="strip">
      <a class="brand" href="#/" title={t("nav.map")}><svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true"><circle cx="16" cy="16" r="11" fill="none" stroke="currentColor" stroke-width="3" /><circle cx="16" cy="16" r="4" fill="currentColor" /></svg>
        <b>{boot.name}</b></a>
      <ul class="facts" aria-label={t("status.heading")}>
        {found && <Fact name="status" icon={found.status === "ok" ? "✓" : "⚠"} tone={found.status === "ok" ? "" : found.status === "failing" ? "bad" : "warn"}>
          <a href="#/system" title={reasonsOf(found).join("\n")}>{t(`status.${found.status}`)}</a></Fact>}
        {boot.home === "station" ? <StationStrip /> : <CloudStrip />}
        <Fact name="live" icon={line.isUp ? "●" : "⚠"} tone={line.isUp ? "" : "bad"}>
          {!line.isUp ? t("strip.lost", { since: span(Date.now() - line.since) }) : line.isStreaming ? t("strip.live") : t("strip.polling")}</Fact>
      </ul>
      <span class="grow" />
      <button class="icon" aria-pressed={sound} onClick={() => setSound(!sound)} title={t("sound.title")}>
        <Bell isOn={sound} /> <span>{sound ? t("sound.on") : t("sound.off")}</span></button>
      <Prefer />
    </header>
  );
}

function Bell({ isOn }: { isOn: boolean }) {
  return (
    <svg class="bell" viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2">
      <path d="M6 16V11a6 6 0 0 1 12 0v5l2 2H4zM10 21h4" />{!isOn && <path d="M3 3l18 18" />}
    </svg>
  );
}

function Prefer() {
  const theme = document.documentElement.dataset.theme ?? "";
  const logOut = async () => {
    try { await post("/api/v1/auth/logout/"); } catch (error) { sayError(error); return; }
    location.reload();
  };
  return (
    <details class="prefer">
      <summary title={t("prefer.heading")}>☰ <span>{t(`role.${role}`)}</span></summary>
      <div>
        <label>{t("prefer.theme")}<select value={theme} onChange={(event) => {
          const chosen = event.currentTarget.value;
          keep("outpost_theme", chosen);
          if (chosen) document.documentElement.dataset.theme = chosen; else delete document.documentElement.dataset.theme;
          dispatchEvent(new Event("outpost-theme"));
        }}>
          <option value="">{t("theme.system")}</option>
          {["light", "dark", "night"].map((each) => <option key={each} value={each} selected={each === theme}>{t(`theme.${each}`)}</option>)}
        </select></label>
        <label>{t("prefer.language")}<select value={boot.lang} onChange={(event) => { keep("outpost_lang", event.currentTarget.value); location.reload(); }}>
          <option value="en" selected={boot.lang === "en"}>English</option><option value="sw" selected={boot.lang === "sw"}>Kiswahili</option><option value="fr" selected={boot.lang === "fr"}>Français</option>
        </select></label>
        <a href="/api/docs/">{t("nav.api")}</a>
        <small>Outpost {boot.version}</small>
        <button onClick={() => void logOut()}>{t("session.end")}</button>
      </div>
    </details>
  );
}

function Banner() {
  const line = use(connection);
  const found = use(health);
  const up = uplinkOf(found?.cloud ?? null);
  if (!line.isUp) return <p class="banner bad" role="alert">{t("banner.lost", { since: span(Date.now() - line.since) })}</p>;
  if (up.isOffline) return <p class="banner warn" role="status" data-banner="offline">{t("banner.offline", { n: up.waiting })}</p>;
  return null;
}

const here = () => location.hash.replace(/^#\/?/, "").split("?")[0] ?? "";

export function Shell({ ways }: { ways: Way[] }) {
  const [path, setPath] = useState(here());
  const [, tick] = useState(0);
  useEffect(() => {
    const moved = () => setPath(here());
    addEventListener("hashchange", moved);
    const timer = setInterval(() => tick((n) => n + 1), 20_000);
    return () => { removeEventListener("hashchange", moved); clearInterval(timer); };
  }, []);
  const shown = ways.filter((each) => each.isShown);
  const way = shown.find((each) => each.path === path) ?? shown[0]!;
  const Current = way.page;
  const bar = useRef<HTMLElement>(null);
  // where the ways are more than the screen is wide, the one that is shown is in sight
  useEffect(() => { bar.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }); }, [way]);
  useEffect(() => { document.title = `${t(way.label)} · ${boot.name}`; }, [way]);
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => { event.preventDefault(); document.getElementById("content")?.focus(); }}>{t("nav.skip")}</a>
      <Strip />
      <Banner />
      <nav ref={bar} class="ways" aria-label={t("nav.heading")}>
        {shown.map((each) => <a key={each.path} href={`#/${each.path}`} aria-current={each === way ? "page" : undefined}>{t(each.label)}</a>)}
      </nav>
      <main id="content" tabIndex={-1}><Current /></main>
      <Toast />
      <Asked />
    </>
  );
}

export function begin(): void {
  keepLoggedIn();
  start();
  startSound();
}
