/** Series as charts, each with its numbers in a table beneath: the way of each day, behaviour by hour, battery, bytes. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "./api";
import { boot, isField, isManager } from "./boot";
import { daysLeft } from "./heard";
import type { Drawing } from "./plot";
import { useRows } from "./records";
import { homeNow, selected } from "./state";
import { t, word } from "./strings";
import type { Animal } from "./types";
import { Page, Table, sayError, type Column } from "./ui";
import { bytes, dayOf, local } from "./words";

interface Movement { days: { day: string; distance_km: number | null }[]; is_cut: boolean; missing: string | null }
interface Behaviour { states: string[]; hours: { hour: number; steps: number; shares: Record<string, number> }[]; model: string | null; missing: string | null }
interface Battery { readings: { at: string; percent: number | null; volts: number | null }[] }
interface Traffic { since: string; until: string; stations: { station: string; days: { day: string; bytes_up: number; bytes_down: number }[] }[] }

const SPANS = [7, 14, 30, 92];
const COLOURS = 6;
const DAY_MS = 86_400_000;
const percent = (share: number) => `${Math.round(share * 100)} %`;

/** A chart that is drawn when its engine has come, and the same in a table. */
function Chart<Row extends { id: string }>({ name, title, said, drawing, rows, columns, note }: {
  name: string; title: string; said: string; drawing: Drawing; rows: Row[]; columns: Column<Row>[]; note?: ComponentChildren;
}) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    let made: { size: (width: number) => void; remove: () => void } | null = null;
    let isGone = false;
    const draw = () => import("./plot").then(({ plot }) => {
      made?.remove();
      made = isGone || !box.current ? null : plot(box.current, drawing);
      if (box.current) box.current.dataset.chart = "drawn";
    }).catch(sayError);
    void draw();
    const watch = new ResizeObserver(() => { if (box.current) made?.size(box.current.clientWidth); });
    watch.observe(box.current!);
    const again = () => void draw();
    addEventListener("outpost-theme", again);
    return () => { isGone = true; watch.disconnect(); removeEventListener("outpost-theme", again); made?.remove(); };
  }, [JSON.stringify([drawing.x, drawing.series])]);
  return (
    <figure class="chart" data-figure={name}>
      <figcaption><h2>{title}</h2></figcaption>
      <div ref={box} class="plot" role="img" aria-label={`${title}. ${said}`} />
      {drawing.series.length > 1 && <ul class="legend still" aria-label={t("map.legend")}>{drawing.series.map((each) => <li key={each.name}><Swatch colour={each.colour} />{each.name}</li>)}</ul>}
      {note}
      <details><summary>{t("chart.table")}</summary><Table rows={rows} columns={columns} label={title} /></details>
    </figure>
  );
}
/** A square of a colour; a style of its own would be an inline one. */
const Swatch = ({ colour }: { colour: string }) => <i class={`swatch ${colour.replace("--map-", "state-").replace("--", "")}`} />;
const Missing = ({ title, why }: { title: string; why: string }) => <section class="chart"><h2>{title}</h2><p class="quiet">{why}</p></section>;

function MovementChart({ found }: { found: Movement }) {
  const title = t("chart.movement");
  if (found.missing) return <Missing title={title} why={found.missing} />;
  const known = found.days.filter((each) => each.distance_km !== null);
  if (!known.length) return <Missing title={title} why={t("chart.nothing")} />;
  const mean = known.reduce((sum, each) => sum + each.distance_km!, 0) / known.length;
  const most = Math.max(...known.map((each) => each.distance_km!));
  return <Chart name="movement" title={title} said={t("chart.movement_said", { mean: mean.toFixed(1), most: most.toFixed(1) })}
    drawing={{ isLine: false, x: found.days.map((_, n) => n), series: [{ name: title, colour: "--accent", values: found.days.map((each) => each.distance_km) }],
      below: (n) => (found.days[n] ? dayOf(found.days[n].day) : ""), beside: (km) => `${km} km` }}
    note={<p class="quiet">{t("chart.movement_said", { mean: mean.toFixed(1), most: most.toFixed(1) })} {found.is_cut && t("chart.cut")}</p>}
    rows={found.days.map((each) => ({ id: each.day, ...each }))} columns={[
      { key: "day", label: t("chart.day"), cell: (row) => dayOf(row.day), sort: (row) => row.day },
      { key: "km", label: t("chart.km"), cell: (row) => row.distance_km?.toFixed(2) ?? "–", sort: (row) => row.distance_km ?? -1, isNumber: true },
    ]} />;
}

function BehaviourChart({ found }: { found: Behaviour }) {
  const title = t("chart.behaviour");
  if (found.missing || !found.hours.length) return <Missing title={title} why={found.missing ?? t("chart.nothing")} />;
  const hour = (n: number) => `${String(n).padStart(2, "0")}:00`;
  const often = (state: string) => found.hours.reduce((best, each) => ((each.shares[state] ?? 0) > (best.shares[state] ?? 0) ? each : best));
  const said = found.states.map((state) => t("chart.behaviour_said", { state: word("state", state), hour: hour(often(state).hour), share: percent(often(state).shares[state] ?? 0) })).join(" ");
  return <Chart name="behaviour" title={title} said={said}
    drawing={{ isLine: false, most: 1, x: found.hours.map((each) => each.hour), below: hour, beside: percent,
      series: found.states.map((state) => ({ name: word("state", state), colour: `--map-${state}`, values: found.hours.map((each) => (each.steps ? (each.shares[state] ?? 0) : null)) })) }}
    note={<p class="quiet">{t("chart.by", { model: found.model ?? "–" })}</p>}
    rows={found.hours.map((each) => ({ id: String(each.hour), ...each }))} columns={[
      { key: "hour", label: t("chart.hour"), cell: (row) => hour(row.hour), sort: (row) => row.hour },
      ...found.states.map((state): Column<{ id: string } & Behaviour["hours"][number]> => ({ key: state, label: word("state", state), cell: (row) => (row.steps ? percent(row.shares[state] ?? 0) : "–"), sort: (row) => row.shares[state] ?? -1, isNumber: true })),
      { key: "steps", label: t("chart.steps"), cell: (row) => row.steps, sort: (row) => row.steps, isNumber: true },
    ]} />;
}

function BatteryChart({ found }: { found: Battery }) {
  const title = t("chart.battery");
  const isPercent = found.readings.some((each) => each.percent !== null);
  const told = found.readings.filter((each) => (isPercent ? each.percent : each.volts) !== null);
  const valueOf = (each: Battery["readings"][number]) => (isPercent ? each.percent : each.volts)!;
  const text = (value: number) => (isPercent ? `${Math.round(value)} %` : `${value.toFixed(2)} V`);
  const last = told.at(-1);
  if (!last) return <Missing title={title} why={t("chart.nothing")} />;
  const isShort = Date.parse(last.at) - Date.parse(told[0]!.at) < 4 * DAY_MS;
  const left = daysLeft(found.readings);
  const said = t("chart.battery_said", { first: text(valueOf(told[0]!)), last: text(valueOf(last)), at: local(last.at) });
  return <Chart name="battery" title={title} said={said}
    drawing={{ isLine: true, x: told.map((each) => Date.parse(each.at) / 1000), series: [{ name: title, colour: "--accent", values: told.map(valueOf) }],
      below: (s) => { const at = new Date(s * 1000).toISOString(); return isShort ? local(at) : dayOf(at); }, beside: text, ...(isPercent ? { most: 100 } : {}) }}
    note={<p class="quiet">{said} {left !== null && t("chart.days_left", { n: left })}</p>} rows={[...found.readings].reverse().map((each) => ({ id: each.at, ...each }))} columns={[
      { key: "at", label: t("chart.at"), cell: (row) => local(row.at), sort: (row) => row.at },
      { key: "percent", label: "%", cell: (row) => row.percent ?? "–", isNumber: true },
      { key: "volts", label: "V", cell: (row) => row.volts ?? "–", isNumber: true },
    ]} />;
}

/** At a station what went up and came down; in the cloud what each station sent, the smaller ones together. */
function TrafficChart({ found }: { found: Traffic }) {
  const title = t("chart.traffic");
  const days = Array.from({ length: (Date.parse(found.until) - Date.parse(found.since)) / DAY_MS + 1 }, (_, n) => new Date(Date.parse(found.since) + n * DAY_MS).toISOString().slice(0, 10));
  const sent = found.stations.map((each) => ({ ...each, by: new Map(each.days.map((day) => [day.day, day])), all: each.days.reduce((sum, day) => sum + day.bytes_up + day.bytes_down, 0) }))
    .sort((a, b) => b.all - a.all);
  const all = sent.reduce((sum, each) => sum + each.all, 0);
  if (!all) return <Missing title={title} why={t("chart.no_traffic")} />;
  const column = (of: typeof sent, take: (day: { bytes_up: number; bytes_down: number }) => number) => days.map((day) => of.reduce((sum, each) => { const found = each.by.get(day); return sum + (found ? take(found) : 0); }, 0));
  const whole = (day: { bytes_up: number; bytes_down: number }) => day.bytes_up + day.bytes_down;
  const [large, small] = [sent.slice(0, COLOURS - 1), sent.slice(COLOURS - 1)];
  const parts = boot.home === "station"
    ? [{ name: t("chart.up"), values: column(sent, (day) => day.bytes_up) }, { name: t("chart.down"), values: column(sent, (day) => day.bytes_down) }]
    : [...large.map((each) => ({ name: each.station, values: column([each], whole) })), ...(small.length ? [{ name: t("chart.others"), values: column(small, whole) }] : [])];
  const series = parts.map((each, n) => ({ ...each, colour: `--series-${n}` }));
  const said = t("chart.traffic_said", { all: bytes(all), days: days.length });
  return <Chart name="traffic" title={title} said={said} note={<p class="quiet">{said}</p>}
    drawing={{ isLine: false, x: days.map((_, n) => n), series, below: (n) => (days[n] ? dayOf(days[n]) : ""), beside: bytes }}
    rows={days.map((day, n) => ({ id: day, day, values: series.map((each) => each.values[n]!) }))} columns={[
      { key: "day", label: t("chart.day"), cell: (row) => dayOf(row.day), sort: (row) => row.day },
      ...series.map((each, n): Column<{ id: string; day: string; values: number[] }> => ({ key: each.name, label: each.name, cell: (row) => bytes(row.values[n]!), sort: (row) => row.values[n]!, isNumber: true })),
    ]} />;
}

/** What a path answers; null until it does. */
function useAnswer<T>(path: string | null): T | null {
  const [found, setFound] = useState<{ path: string; answer: T } | null>(null);
  useEffect(() => {
    let isGone = false;
    if (path) void get<T>(path).then((answer) => { if (!isGone) setFound({ path, answer }); }, sayError);
    return () => { isGone = true; };
  }, [path]);
  return found && found.path === path ? found.answer : null;
}

export function Charts() {
  const [animals] = useRows<Animal>("/api/v1/animals/?ordering=name");
  const [chosen, setChosen] = useState(selected.value ?? "");
  const [days, setDays] = useState(14);
  const animal = animals?.find((each) => each.id === chosen) ?? animals?.find((each) => each.collar_id) ?? animals?.[0];
  const asked = `days=${days}&utc_offset_min=${-new Date(homeNow()).getTimezoneOffset()}`;
  const of = (name: string) => (animal ? `/api/v1/charts/${name}/?animal_id=${animal.id}&${asked}` : null);
  const [movement, behaviour, battery] = [useAnswer<Movement>(of("movement")), useAnswer<Behaviour>(of("behaviour")), useAnswer<Battery>(of("battery"))];
  const traffic = useAnswer<Traffic>(isManager || (isField && boot.home === "station") ? `/api/v1/charts/traffic/?${asked}` : null);
  return (
    <Page title={t("nav.charts")}>
      <div class="row wrap noprint">
        <label>{t("animal.name")} <select value={animal?.id} onChange={(event) => setChosen(event.currentTarget.value)}>
          {animals?.map((each) => <option key={each.id} value={each.id} selected={each.id === animal?.id}>{each.name}</option>)}</select></label>
        <label>{t("chart.span")} <select value={days} onChange={(event) => setDays(Number(event.currentTarget.value))}>
          {SPANS.map((each) => <option key={each} value={each} selected={each === days}>{t("span.days", { n: each })}</option>)}</select></label>
      </div>
      {animals?.length === 0 && <p class="quiet">{t("chart.nothing")}</p>}
      {(!animals || (animal && !(movement && behaviour && battery))) && <p class="quiet" aria-busy="true">{t("page.loading")}</p>}
      <div class="charts">
        {movement && <MovementChart found={movement} />}
        {behaviour && <BehaviourChart found={behaviour} />}
        {battery && <BatteryChart found={battery} />}
        {traffic && <TrafficChart found={traffic} />}
      </div>
    </Page>
  );
}
