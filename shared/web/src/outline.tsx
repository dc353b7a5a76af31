/** An outline that is drawn on a map, or written as numbers by who cannot point. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { MapView } from "./map/view";
import { corners, type Feature, type Pair } from "./map/shapes";
import { collars, corridors, live, zones } from "./state";
import { t } from "./strings";
import type { Zone } from "./types";

/** Corners as people write them: one a line, longitude and latitude. */
export const written = (ring: Pair[]) => ring.map(([lon, lat]) => `${lon.toFixed(5)} ${lat.toFixed(5)}`).join("\n");
export function read(text: string): Pair[] | null {
  const ring: Pair[] = [];
  for (const line of text.split("\n").map((each) => each.trim()).filter(Boolean)) {
    const [lon, lat, ...more] = line.split(/[\s,;]+/).map(Number);
    if (lon === undefined || lat === undefined || more.length || !(Math.abs(lon) <= 180) || !(Math.abs(lat) <= 90)) return null;
    ring.push([lon, lat]);
  }
  return ring;
}
export function drawn(ring: Pair[], isLine = false): Feature[] {
  const features: Feature[] = ring.map((at, n) => ({ type: "Feature", properties: { n }, geometry: { type: "Point", coordinates: at } }));
  if (ring.length > 2 && !isLine) features.unshift({ type: "Feature", properties: {}, geometry: { type: "Polygon", coordinates: [[...ring, ring[0]]] } });
  else if (ring.length > 1) features.unshift({ type: "Feature", properties: {}, geometry: { type: "LineString", coordinates: ring } });
  return features;
}

export interface Outline { ring: Pair[]; change: (ring: Pair[]) => void; isSimple: boolean; isLine: boolean; geometry: { type: string; coordinates: unknown } | null; start: Zone["geometry"] | null }
/** The outline of a form: an area, or a line; one of several parts, or with holes, is shown and left as it is. */
export function useOutline(start: Zone["geometry"] | null, kind: "area" | "line" = "area"): Outline {
  const rings = start?.type === "Polygon" ? (start.coordinates as Pair[][]) : null;
  const line = start?.type === "LineString" ? (start.coordinates as Pair[]) : null;
  const isLine = line !== null || (!start && kind === "line");
  const isSimple = !start || line !== null || rings?.length === 1;
  const [ring, change] = useState<Pair[]>(line ?? (rings && isSimple ? rings[0]!.slice(0, -1) : []));
  const geometry = !isSimple ? null
    : isLine ? (ring.length > 1 ? { type: "LineString", coordinates: ring } : null)
    : ring.length > 2 ? { type: "Polygon", coordinates: [[...ring, ring[0]]] } : null;
  return { ring, change, isSimple, isLine, start, geometry };
}

export function Canvas({ outline, without, children }: { outline: Outline; without?: string; children?: ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null);
  const view = useRef<MapView | null>(null);
  const held = useRef(outline.ring);
  held.current = outline.ring;
  useEffect(() => {
    let made: MapView | null = null;
    let isGone = false;
    void import("./map/view").then(({ MapView }) => {
      if (isGone || !box.current) return;
      made = new MapView(box.current, outline.isSimple ? {
        tap: (at) => outline.change([...held.current, at]),
        corner: (n, to) => outline.change(held.current.map((each, m) => (m === n ? to : each))),
      } : {});
      view.current = made;
      made.draw({ live: live.value, trails: null, zones: zones.value.filter((each) => each.id !== without), corridors: corridors.value.filter((each) => each.id !== without), collars: collars.value, selected: null });
      const points = outline.start ? corners(outline.start.coordinates) : [];
      if (points.length) setTimeout(() => made?.fitTo(points, false), 0);
      made.setDrawing(drawn(held.current, outline.isLine));
    });
    return () => { isGone = true; made?.remove(); };
  }, []);
  useEffect(() => view.current?.setDrawing(drawn(outline.ring, outline.isLine)), [outline.ring]);
  return (
    <div class="map"><div ref={box} class="canvas" />
      <p class="hint">{outline.isSimple ? t("zone.draw") : t("zone.many")}</p>
      {outline.isSimple && <div class="tools"><button onClick={() => outline.change(outline.ring.slice(0, -1))}>{t("zone.undo")}</button><button onClick={() => outline.change([])}>{t("zone.clear")}</button></div>}
      {children}
    </div>
  );
}

/** The same corners as numbers. */
export function Corners({ outline }: { outline: Outline }) {
  const [text, setText] = useState(written(outline.ring));
  const said = useRef(outline.ring);
  useEffect(() => { if (said.current !== outline.ring) setText(written(outline.ring)); }, [outline.ring]);
  if (!outline.isSimple) return null;
  return <label class="wide"><span>{t("zone.corners")}</span>
    <textarea rows={6} value={text} onInput={(event) => {
      setText(event.currentTarget.value);
      const next = read(event.currentTarget.value);
      if (next) { said.current = next; outline.change(next); }
    }} /><small>{t("zone.corners_hint")}</small></label>;
}
