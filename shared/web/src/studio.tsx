/** The corridor studio: two places, a region that bounds the search where one is drawn, a search that tells how far it is, and what was found side by side. */
import { useEffect, useRef, useState } from "preact/hooks";
import { all, call, get, post, withFactor, type Paged } from "./api";
import { Watch, hasEnded, type Job as AnyJob } from "./jobs";
import { loadAreas } from "./live";
import type { Feature, Pair } from "./map/shapes";
import { corners } from "./map/shapes";
import type { MapView } from "./map/view";
import { collars, corridors, live, use, zones } from "./state";
import { t, word } from "./strings";
import type { Corridor, Geometry } from "./types";
import { Act, Page, Time, askCode, confirmed, options, say, sayError } from "./ui";
import { distance } from "./words";
import { drawn as drawnRing, read as readRing, written as writtenRing } from "./outline";

interface Scores {
  cost: number; terms: Record<string, number>; bound: number; bound_terms: Record<string, number>; cost_ratio: number;
  length_m: number; exposed_m: number | null; mean_habitat: number | null; min_width_m: number;
}
interface Searched extends Corridor {
  start_point: { lat: number; lon: number } | null; end_point: { lat: number; lon: number } | null;
  optimization_data: { scores?: Scores; model_version?: string; missing?: string[]; goal?: string; region?: Geometry | null } | null; created_at: string;
}
/** Two bars may be compared by their pattern and their words, not by colour alone. */
const TERMS = ["distance", "habitat", "conflict", "settlement", "road", "slope", "water", "cover", "use", "width", "crossings", "fragmentation"];

const NUMBERS = new Set(["studio.over", "studio.length", "studio.width", "studio.exposed"]);

const written = (at: Pair | null) => (at ? `${at[0].toFixed(5)} ${at[1].toFixed(5)}` : "");
function read(text: string): Pair | null {
  const [lon, lat, ...more] = text.trim().split(/[\s,;]+/).map(Number);
  if (lon === undefined || lat === undefined || more.length || !(Math.abs(lon) <= 180) || !(Math.abs(lat) <= 90)) return null;
  return [lon, lat];
}

type Job = AnyJob<{ corridor_id: string }, { species: string; algorithm: string; name: string | null }, { cost?: number; cost_ratio?: number }>;
const best = (job: Job) => job.best?.cost_ratio ? t("studio.ratio", { n: job.best.cost_ratio.toFixed(3) }) : job.best?.cost ? t("studio.best", { n: job.best.cost.toFixed(1) }) : "";

interface Bar { id: string; name: string; terms: Record<string, number>; cost: number }
/** What each route costs by term, on one scale, beside the exact least-cost path between the same places. */
function Compared({ rows }: { rows: Searched[] }) {
  const bars: Bar[] = rows.flatMap((row) => {
    const scores = row.optimization_data!.scores!;
    return [
      { id: row.id, name: row.name, terms: scores.terms, cost: scores.cost },
      { id: `${row.id}-bound`, name: t("studio.least", { name: row.name }), terms: scores.bound_terms, cost: Object.values(scores.bound_terms).reduce((a, b) => a + b, 0) },
    ];
  });
  const most = Math.max(...bars.map((each) => each.cost), 1e-9);
  const shown = TERMS.filter((term) => bars.some((each) => (each.terms[term] ?? 0) > 0));
  return (
    <section class="compare" aria-label={t("studio.compare")}>
      <h2>{t("studio.compare")}</h2>
      <ul class="legend still">{shown.map((term) => <li key={term}><i class={`term term-${TERMS.indexOf(term)}`} />{t(`term.${term}`)}</li>)}</ul>
      {bars.map((bar) => (
        <div key={bar.id} class="bar" data-bar={bar.id}>
          <div class="row small"><span>{bar.name}</span><span class="grow" /><span>{bar.cost.toFixed(1)}</span></div>
          <div class="terms" aria-hidden="true">{shown.map((term) => {
            const value = bar.terms[term] ?? 0;
            return value > 0 ? <svg key={term} class={`term term-${TERMS.indexOf(term)}`} width={`${(100 * value) / most}%`} height="18"><title>{`${t(`term.${term}`)}: ${value.toFixed(2)}`}</title></svg> : null;
          })}</div>
        </div>))}
      <div class="scroll" tabIndex={0} role="region" aria-label={t("studio.table")}><table>
        <thead><tr><th scope="col">{t("studio.term")}</th>{bars.map((bar) => <th key={bar.id} scope="col" class="number">{bar.name}</th>)}</tr></thead>
        <tbody>{shown.map((term) => <tr key={term}><th scope="row">{t(`term.${term}`)}</th>{bars.map((bar) => <td key={bar.id} class="number">{(bar.terms[term] ?? 0).toFixed(2)}</td>)}</tr>)}</tbody>
      </table></div>
    </section>
  );
}

/** The region and the ends of the route that is asked for; the region's corners alone are dragged. */
function drawn(start: Pair | null, end: Pair | null, ring: Pair[]): Feature[] {
  const ends = [start, end].filter((each): each is Pair => each !== null);
  const features: Feature[] = ends.map((at) => ({ type: "Feature", properties: { n: -1 }, geometry: { type: "Point", coordinates: at } }));
  if (ends.length === 2) features.unshift({ type: "Feature", properties: {}, geometry: { type: "LineString", coordinates: ends } });
  return [...drawnRing(ring), ...features];
}
const areaOf = (ring: Pair[]): Geometry => ({ type: "Polygon", coordinates: [[...ring, ring[0]]] });

function StudioMap({ shown, start, end, ring, tap, corner, hint }: {
  shown: Corridor[]; start: Pair | null; end: Pair | null; ring: Pair[]; tap: (at: Pair) => void; corner: (n: number, to: Pair) => void; hint: string;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState<MapView | null>(null);
  const doing = useRef({ tap, corner });
  doing.current = { tap, corner };
  useEffect(() => {
    let made: MapView | null = null;
    let isGone = false;
    void import("./map/view").then(({ MapView }) => {
      if (isGone || !box.current) return;
      made = new MapView(box.current, { tap: (at) => doing.current.tap(at), corner: (n, to) => doing.current.corner(n, to) });
      setView(made);
    }).catch(sayError);
    return () => { isGone = true; made?.remove(); };
  }, []);
  useEffect(() => view?.draw({ live: live.value, trails: null, zones: zones.value, corridors: shown, collars: collars.value, selected: null }), [view, shown]);
  useEffect(() => view?.setDrawing(drawn(start, end, ring)), [view, start, end, ring]);
  useEffect(() => {
    const points = shown.flatMap((each) => corners(each.geometry?.coordinates));
    if (points.length) view?.fitTo(points);
  }, [view, shown.map((each) => each.id).join()]);
  return <div class="map"><div ref={box} class="canvas" /><p class="hint">{hint}</p></div>;
}

export function Studio() {
  const everything = use(corridors);
  const [rows, setRows] = useState<Searched[] | null>(null);
  const [jobs, setJobs] = useState<Job[]>([]);
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [ends, setEnds] = useState<[Pair | null, Pair | null]>([null, null]);
  const [texts, setTexts] = useState<[string, string]>(["", ""]);
  const form = useRef<HTMLFormElement>(null);
  const held = useRef(ends);
  const set = (n: 0 | 1, at: Pair | null, text: string) => {
    held.current = n === 0 ? [at, held.current[1]] : [held.current[0], at];
    setEnds(held.current);
    setTexts((was) => (n === 0 ? [text, was[1]] : [was[0], text]));
  };
  const [isRegion, setRegion] = useState(false);
  const [ring, setRing] = useState<Pair[]>([]);
  const [ringText, setRingText] = useState("");
  const bound = (next: Pair[]) => { setRing(next); setRingText(writtenRing(next)); };
  const tap = (at: Pair) => (isRegion ? bound([...ring, at]) : set(held.current[0] && !held.current[1] ? 1 : 0, at, written(at)));
  const load = async () => {
    const found = await all<Searched>("/api/v1/corridors/?ordering=-created_at");
    setRows(found);
    await loadAreas();
  };
  useEffect(() => {
    void load().catch(sayError);
    void get<Paged<Job>>("/api/v1/jobs/?kind=corridor&page_size=20").then((found) => setJobs(found.results.filter((each) => !hasEnded(each))), sayError);
  }, []);
  const ended = (job: Job) => {
    if (job.result) setChosen((was) => new Set([...was, job.result!.corridor_id]));
    void load().catch(sayError);
  };
  const begin = async (body: Record<string, unknown>) => {
    const job = await post<Job>("/api/v1/corridors/optimize/", body);
    setJobs((was) => [job, ...was]);
  };
  const search = async () => {
    const data = new FormData(form.current!);
    const [start, end] = held.current;
    if (!start || !end) throw new Error(t("studio.places"));
    const said = (name: string) => String(data.get(name) ?? "").trim();
    if (!said("species")) throw new Error(t("studio.species"));
    if (ringText.trim() && (!readRing(ringText) || ring.length < 3)) throw new Error(t("studio.too_few"));
    await begin({
      species: said("species"), name: said("name") || null, algorithm: said("algorithm"), optimization_goal: said("goal"),
      start_point: { lon: start[0], lat: start[1] }, end_point: { lon: end[0], lat: end[1] },
      ...(ring.length ? { region: areaOf(ring) } : {}),
    });
  };
  const leastOf = (row: Searched) => () => begin({
    species: row.species, name: t("studio.least", { name: row.name }), algorithm: "least_cost", start_point: row.start_point, end_point: row.end_point, region: row.optimization_data?.region ?? null });
  const publish = (row: Searched) => async () => {
    if (await confirmed(t("studio.publish"), <p>{row.name}. {t("studio.publish_body")}</p>) === null) return;
    if (await withFactor(() => post(`/api/v1/corridors/${row.id}/publish/`), askCode)) { say(t("studio.published")); await load(); }
  };
  const withdraw = (row: Searched) => async () => {
    if (await confirmed(t("studio.withdraw"), <p>{row.name}</p>) === null) return;
    await call("PATCH", `/api/v1/corridors/${row.id}/`, { status: "inactive" });
    await load();
  };
  const toggle = (id: string, isOn: boolean) => { const next = new Set(chosen); if (isOn) next.add(id); else next.delete(id); setChosen(next); };
  const compared = (rows ?? []).filter((each) => chosen.has(each.id) && each.optimization_data?.scores);
  const shown = chosen.size ? everything.filter((each) => chosen.has(each.id)) : everything;
  const species = [...new Set([...(live.value ?? []).map((each) => each.species), ...(rows ?? []).flatMap((each) => each.species ?? [])])].sort();
  return (
    <Page title={t("nav.studio")}>
      <div class="editor">
        <StudioMap shown={shown} start={ends[0]} end={ends[1]} ring={ring} tap={tap} hint={t(isRegion ? "studio.tap_region" : "studio.tap")}
          corner={(n, to) => bound(ring.map((each, m) => (m === n ? to : each)))} />
        <form ref={form} class="sheet" onSubmit={(event) => { event.preventDefault(); void search().catch(sayError); }}>
          <h2>{t("studio.search")}</h2>
          <div class="fields">
            {([0, 1] as const).map((n) => <label key={n}><span>{t(n === 0 ? "studio.start" : "studio.end")} *</span>
              <input required value={texts[n]} onInput={(event) => set(n, read(event.currentTarget.value), event.currentTarget.value)} /><small>{t("studio.place_hint")}</small></label>)}
            <label><span>{t("animal.species")} *</span><input name="species" list="species" required /><datalist id="species">{species.map((each) => <option key={each} value={each} />)}</datalist></label>
            <label><span>{t("studio.algorithm")}</span><select name="algorithm">{options("algorithm", ["auto", "ppo", "dqn", "least_cost"]).map(([key, label]) => <option key={key} value={key}>{label}</option>)}</select></label>
            <label><span>{t("studio.goal")}</span><select name="goal">{options("goal", ["balanced", "shortest", "safest", "most_connected"]).map(([key, label]) => <option key={key} value={key}>{label}</option>)}</select></label>
            <label><span>{t("studio.name")}</span><input name="name" maxLength={200} /></label>
          </div>
          <details><summary>{t("studio.region")}{ring.length > 2 && ` (${ring.length})`}</summary>
            <p class="quiet">{t("studio.region_hint")}</p>
            <div class="row wrap"><button type="button" aria-pressed={isRegion} onClick={() => setRegion(!isRegion)}>{t("studio.draw_region")}</button>
              <button type="button" disabled={!ring.length} onClick={() => bound(ring.slice(0, -1))}>{t("zone.undo")}</button><button type="button" disabled={!ring.length} onClick={() => bound([])}>{t("studio.no_region")}</button></div>
            <label class="wide"><span>{t("zone.corners")}</span><textarea rows={4} value={ringText} onInput={(event) => {
              setRingText(event.currentTarget.value);
              const next = readRing(event.currentTarget.value);
              if (next) setRing(next);
            }} /><small>{t("zone.corners_hint")}</small></label>
          </details>
          <div class="row"><button class="main">{t("studio.begin")}</button><button type="button" onClick={() => { set(0, null, ""); set(1, null, ""); bound([]); }}>{t("zone.clear")}</button></div>
          {jobs.length > 0 && <ul class="feedlist" aria-label={t("studio.jobs")}>{jobs.map((each) => <Watch key={each.id} first={each} ended={ended} best={best}
            title={<><strong>{each.parameters.name ?? each.parameters.species}</strong><span class="tag">{t(`algorithm.${each.parameters.algorithm}`)}</span></>} />)}</ul>}
        </form>
      </div>
      {compared.length > 0 && <Compared rows={compared} />}
      <h2>{t("nav.corridors")}</h2>
      {rows === null ? <p class="quiet" aria-busy="true">{t("page.loading")}</p> : (
        <div class="scroll" tabIndex={0} role="region" aria-label={t("nav.corridors")}><table>
          <thead><tr>{["studio.compare", "studio.name", "animal.species", "animal.status", "studio.made_by", "studio.over", "studio.length", "studio.width", "studio.exposed", "audit.at", "table.acts"].map((key) => <th key={key} scope="col" class={NUMBERS.has(key) ? "number" : ""}>{t(key)}</th>)}</tr></thead>
          <tbody>{rows.length === 0 && <tr><td colSpan={11} class="quiet">{t("table.empty")}</td></tr>}{rows.map((row) => {
            const scores = row.optimization_data?.scores;
            return (
              <tr key={row.id} data-corridor={row.id}>
                <td><input type="checkbox" checked={chosen.has(row.id)} aria-label={`${t("studio.compare")}: ${row.name}`} onChange={(event) => toggle(row.id, event.currentTarget.checked)} /></td>
                <td>{row.name}</td><td>{row.species ?? "–"}</td><td>{t(`corridor_status.${row.status}`)}</td>
                <td>{row.optimization_data?.model_version ?? t("studio.by_hand")}{row.optimization_data?.missing?.length ? <small> {t("studio.missing", { what: row.optimization_data.missing.map((each) => word("term", each)).join(", ") })}</small> : null}</td>
                <td class="number">{scores ? `${((scores.cost_ratio - 1) * 100).toFixed(1)} %` : "–"}</td>
                <td class="number">{scores ? distance(scores.length_m) : "–"}</td><td class="number">{scores ? distance(scores.min_width_m) : distance(row.width_m)}</td>
                <td class="number">{scores?.exposed_m == null ? "–" : distance(scores.exposed_m)}</td><td><Time at={row.created_at} /></td>
                <td><span class="row wrap">
                  {row.status !== "active" && row.geometry && <Act class="main" act={publish(row)}>{t("studio.publish")}</Act>}
                  {row.status === "active" && <Act act={withdraw(row)}>{t("studio.withdraw")}</Act>}
                  {row.start_point && row.end_point && row.species && row.optimization_data?.model_version !== "least_cost" && <Act act={leastOf(row)}>{t("studio.least_search")}</Act>}
                </span></td>
              </tr>);
          })}</tbody>
        </table></div>)}
    </Page>
  );
}
