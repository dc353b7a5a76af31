/** The first page: the map, the alerts, and every animal in a table beside it. */
import { useEffect, useRef, useState } from "preact/hooks";
import { ageOf } from "./ages";
import { boot, isField } from "./boot";
import { Feed } from "./alerts";
import type { MapView } from "./map/view";
import { collars, corridors, homeNow, live, rangers, selected, trails, use, zones } from "./state";
import { t, word } from "./strings";
import type { Live } from "./types";
import { Table, Time } from "./ui";
import { cellSize, distance, place } from "./words";

export const ageOfAnimal = (each: Live) =>
  ageOf(homeNow() - Date.parse(each.current_position.timestamp), each.collar_id ? collars.value.get(each.collar_id) : undefined);

/** Of a place that is not shown, the area around it, where it has a name that may be told. */
const areaOf = (animal: Live) => (animal.current_position.area ? t("precision.area", { area: animal.current_position.area }) : t("precision.hidden"));

export function Place({ of: animal, digits = 5 }: { of: Live; digits?: number }) {
  const { lat, lon } = animal.current_position;
  if (lat === null) return <>{areaOf(animal)}</>;
  return animal.cell_deg === null ? <>{place(lat, lon, digits)}</> : <>{place(lat, lon, 2)} <span class="tag">{cellSize(animal.cell_deg)}</span></>;
}

function Card({ animal, close }: { animal: Live; close: () => void }) {
  const at = animal.current_position;
  const m = animal.movement;
  const rows: [string, preact.ComponentChildren][] = [
    [t("animal.species"), animal.species],
    [t("animal.place"), <Place of={animal} />],
    [t("animal.fix_at"), <><Time at={at.timestamp} /> (<Time at={at.timestamp} ago />)</>],
    [t("animal.received_at"), <Time at={at.received_at} />],
    [t("animal.age"), t(`age.${ageOfAnimal(animal)}`)],
    [t("animal.behaviour"), m.behavior_state ? `${word("state", m.behavior_state)}${m.behavior_confidence !== null ? ` ${Math.round(m.behavior_confidence * 100)} %` : ""}` : "–"],
    [t("animal.speed"), m.speed_kmh === null ? "–" : `${m.speed_kmh} km/h`],
    [t("animal.day"), m.distance_24h_km === null ? "–" : `${m.distance_24h_km} km`],
    [t("animal.width"), m.path_width_m === null ? "–" : distance(m.path_width_m)],
    [t("animal.risk"), animal.conflict_risk.current.reason ?? "–"],
    [t("animal.corridor"), animal.corridor_status.corridor_name ?? "–"],
    [t("animal.collar"), `${animal.collar_id ?? "–"}${m.battery_level ? ` · ${m.battery_level}` : ""}`],
  ];
  return (
    <section class="card" aria-label={animal.name}>
      <header class="row"><h2>{animal.name}</h2><span class="grow" /><button class="icon" onClick={close} aria-label={t("form.close")}>✕</button></header>
      <dl>{rows.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
      {animal.predictions.length > 0 && <table class="small"><caption>{t("animal.predicted")}</caption><tbody>
        {animal.predictions.map((each) => <tr key={each.hours}><th scope="row">+{each.hours} h</th><td>{place(each.lat, each.lon, 3)}</td><td>90 %: {distance(each.semi_major_90_m)} × {distance(each.semi_minor_90_m)}</td></tr>)}
      </tbody></table>}
      {Object.entries(animal.missing).map(([stage, why]) => <p class="quiet" key={stage}>{word("stage", stage)}: {why}</p>)}
    </section>
  );
}

const LAYERS = ["trails", "path_width", "predictions", "rangers", "zones", "corridors", "names", "grid"] as const;
/** A map of the reserve is a layer by the name of its file. */
export type LayerName = (typeof LAYERS)[number] | "all_fixes" | `reserve-${string}`;
const NDVI = /ndvi/i;
const titleOf = (name: string) => name.replace(/\.pmtiles$/, "").replace(/[_-]+/g, " ");

/** On a phone the map is no larger than a hand: what its colours mean is told on request. */
const isNarrow = matchMedia("(max-width: 800px)").matches;

function MapPane() {
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState<MapView | null>(null);
  const [error, setError] = useState("");
  const [off, setOff] = useState<Set<LayerName>>(new Set<LayerName>([
    ...(boot.home === "cloud" ? [] : ["all_fixes" as const]), ...boot.maps.filter((each) => NDVI.test(each)).map((each) => `reserve-${each}` as const)]));
  const data = { live: use(live), trails: use(trails), zones: use(zones), corridors: use(corridors), collars: use(collars), selected: use(selected), rangers: use(rangers) };
  useEffect(() => {
    let isGone = false;
    let made: MapView | null = null;
    // the engine is larger than all the rest: it comes after the page can be used
    const begin = () => import("./map/view").then(({ MapView }) => {
      if (isGone || !box.current) return;
      made = new MapView(box.current, { pick: (id) => selected.set(id) });
      setView(made);
    }).catch((fault: unknown) => setError(String(fault)));
    const idle = setTimeout(() => void begin(), 0);
    return () => { isGone = true; clearTimeout(idle); made?.remove(); };
  }, []);
  useEffect(() => view?.draw(data), [view, ...Object.values(data)]);
  useEffect(() => view?.show(off), [view, off]);
  const layers: LayerName[] = [...LAYERS, ...(boot.home === "cloud" ? ["all_fixes" as const] : []), ...boot.maps.map((each) => `reserve-${each}` as const)].filter((name) => isField || name !== "rangers");
  return (
    <div class="map">
      <div ref={box} class="canvas" data-map={view ? "loading" : "none"} />
      {error && <p class="banner bad" role="alert">{t("map.failed")} {error}</p>}
      <div class="tools">
        <button class="icon" onClick={() => view?.zoom(1)} aria-label={t("map.nearer")}>+</button>
        <button class="icon" onClick={() => view?.zoom(-1)} aria-label={t("map.farther")}>−</button>
        <button class="icon" onClick={() => view?.fit()} aria-label={t("map.fit")} title={t("map.fit")}>◎</button>
      </div>
      <details class="layers"><summary>{t("map.layers")}</summary>
        {layers.map((name) => <label key={name} class="yes"><input type="checkbox" checked={!off.has(name)} onChange={(event) => {
          const next = new Set(off);
          if (event.currentTarget.checked) next.delete(name); else next.add(name);
          setOff(next);
        }} /><span>{name.startsWith("reserve-") ? titleOf(name.slice(8)) : t(`layer.${name}`)}</span></label>)}
      </details>
      <details class="legend" open={!isNarrow}><summary>{t("map.legend")}</summary><ul>
        {["resting", "foraging", "migrating", "unknown"].map((each) => <li key={each}><i class={`state-${each}`} />{t(`state.${each}`)}</li>)}
        {["fresh", "late", "silent"].map((each) => <li key={each}><i class={`ring age-${each}`} />{t(`age.${each}`)}</li>)}
        {isField && <li><span aria-hidden="true">▲ </span>{t("role.ranger")}</li>}
      </ul></details>
    </div>
  );
}

export function AnimalTable() {
  const found = use(live);
  use(collars);
  return <Table rows={(found ?? []).map((each) => ({ ...each, id: each.animal_id }))} label={t("map.table")} onRow={(row) => selected.set(row.animal_id)} start="age" columns={[
    { key: "name", label: t("animal.name"), cell: (row) => row.name, sort: (row) => row.name },
    { key: "age", label: t("animal.seen"), cell: (row) => <span class={`age-${ageOfAnimal(row)}`}><Time at={row.current_position.timestamp} ago /> · {t(`age.${ageOfAnimal(row)}`)}</span>, sort: (row) => Date.parse(row.current_position.timestamp) },
    { key: "state", label: t("animal.behaviour"), cell: (row) => word("state", row.movement.behavior_state), sort: (row) => row.movement.behavior_state ?? "" },
    { key: "place", label: t("animal.place"), cell: (row) => <Place of={row} digits={4} /> },
  ]} />;
}

/** A larger herd's table is closed at first, and no row of it is made. */
const LISTED = 12;

export function Home() {
  const found = use(live);
  const chosen = use(selected);
  const [isListed, setListed] = useState<boolean | null>(null);
  const isOpen = isListed ?? (found !== null && found.length <= LISTED);
  const animal = found?.find((each) => each.animal_id === chosen);
  return (
    <div class="home">
      <MapPane />
      <aside>
        {animal && <Card animal={animal} close={() => selected.set(null)} />}
        <Feed />
        <details class="fold" open={isOpen} onToggle={(event) => { if (event.currentTarget.open !== isOpen) setListed(event.currentTarget.open); }}>
          <summary>{t("map.table")} ({found?.length ?? 0})</summary>{isOpen && <AnimalTable />}
        </details>
      </aside>
    </div>
  );
}
