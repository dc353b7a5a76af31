/** What the map looks like. Colours come from the page's own, so that a theme is one place. */
import type { LayerSpecification } from "maplibre-gl";
import { boot } from "../boot";

const NAMES = ["sea", "land", "border", "grid", "quiet", "text", "halo", "water", "road", "green", "resting", "foraging", "migrating",
  "unknown", "fresh", "late", "silent", "accent", "critical", "high", "medium", "low", "corridor"] as const;
export type Palette = Record<(typeof NAMES)[number], string>;

export function palette(): Palette {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--map-${name}`).trim() || "#888"])) as Palette;
}

export const GROUPS: Record<string, string[]> = {
  trails: ["trails-line"],
  predictions: ["predictions-fill", "predictions-line", "predictions-way"],
  zones: ["zones-fill", "zones-line", "zones-name"],
  corridors: ["corridors-fill", "corridors-line", "corridors-name"],
  names: ["animals-name", "world-name"],
  path_width: ["paths-band"],
  rangers: ["rangers-dot", "rangers-name"],
  grid: ["grid-lines", "grid-names"],
  all_fixes: ["fixes-dot"],
};
/** No glyphs are fetched: the engine draws letters with the browser's own fonts. */
const FONT = ["sans-serif"];

export function layersOf(p: Palette): LayerSpecification[] {
  const by = (key: string, ...pairs: string[]) => ["match", ["get", key], ...pairs] as never;
  const state = by("state", "resting", p.resting, "foraging", p.foraging, "migrating", p.migrating, p.unknown);
  const risk = by("risk", "high", p.critical, "medium", p.medium, p.low);
  const text = { "text-color": p.text, "text-halo-color": p.halo, "text-halo-width": 1.4 };
  const polygons = ["==", ["geometry-type"], "Polygon"] as never;
  const lines = ["==", ["geometry-type"], "LineString"] as never;
  const points = ["==", ["geometry-type"], "Point"] as never;
  // a fill's smooth edge is drawn as lines of its own: each of ours has a line above it
  const whole = { "fill-antialias": false };
  const layers: LayerSpecification[] = [
    { id: "sea", type: "background", paint: { "background-color": p.sea } },
    { id: "world-land", type: "fill", source: "world-land", paint: { ...whole, "fill-color": p.land } },
    { id: "world-coast", type: "line", source: "world-land", paint: { "line-color": p.border, "line-width": 0.6 } },
    { id: "world-border", type: "line", source: "world-borders", paint: { "line-color": p.border, "line-width": 1, "line-dasharray": [4, 2] } },
    { id: "world-name", type: "symbol", source: "world-names", maxzoom: 7, layout: { "text-field": ["get", "name"], "text-font": FONT, "text-size": 12,
      "symbol-sort-key": ["-", 0, ["get", "area"]] }, paint: { "text-color": p.quiet, "text-halo-color": p.halo, "text-halo-width": 1.2 } },
    { id: "grid-lines", type: "line", source: "grid", filter: lines, paint: { "line-color": p.grid, "line-width": 0.6 } },
    { id: "grid-names", type: "symbol", source: "grid", filter: points, layout: { "text-field": ["get", "name"], "text-font": FONT, "text-size": 11, "text-anchor": "bottom-left" },
      paint: { "text-color": p.quiet, "text-halo-color": p.halo, "text-halo-width": 1 } },
    { id: "corridors-fill", type: "fill", source: "corridors", filter: polygons, paint: { ...whole, "fill-color": p.corridor, "fill-opacity": 0.14 } },
    { id: "corridors-line", type: "line", source: "corridors", paint: { "line-color": p.corridor, "line-width": 2, "line-dasharray": [2, 1.5] } },
    { id: "corridors-name", type: "symbol", source: "corridors", minzoom: 7, layout: { "text-field": ["get", "name"], "text-font": FONT, "text-size": 12 }, paint: { ...text, "text-color": p.corridor } },
    { id: "zones-fill", type: "fill", source: "zones", paint: { ...whole, "fill-color": risk, "fill-opacity": 0.14 } },
    { id: "zones-line", type: "line", source: "zones", paint: { "line-color": risk, "line-width": 1.6 } },
    { id: "zones-name", type: "symbol", source: "zones", minzoom: 7, layout: { "text-field": ["get", "name"], "text-font": FONT, "text-size": 12 }, paint: { ...text, "text-color": risk } },
    // as wide on the ground as the model says: a doubling of the scale with each zoom; from afar that is less than a dot
    { id: "paths-band", type: "line", source: "paths", minzoom: 9, layout: { "line-join": "round", "line-cap": "round" }, paint: { "line-color": p.accent, "line-opacity": 0.18,
      "line-width": ["interpolate", ["exponential", 2], ["zoom"], 0, ["get", "dots"], 22, ["*", ["get", "dots"], 4_194_304]] } },
    { id: "trails-line", type: "line", source: "trails", paint: { "line-color": state, "line-width": ["interpolate", ["linear"], ["zoom"], 5, 1, 12, 2.6], "line-opacity": 0.85 } },
    { id: "predictions-fill", type: "fill", source: "predictions", filter: polygons, paint: { ...whole, "fill-color": p.accent, "fill-opacity": ["case", ["!", ["get", "isWhole"]], 0.03, ["==", ["get", "share"], 50], 0.16, 0.06] } },
    { id: "predictions-line", type: "line", source: "predictions", filter: polygons, paint: { "line-color": p.accent, "line-width": ["case", ["get", "isWhole"], 1.4, 0.6], "line-opacity": ["case", ["get", "isWhole"], 0.9, 0.45] } },
    { id: "predictions-way", type: "line", source: "predictions", filter: lines, paint: { "line-color": p.accent, "line-width": 1.2, "line-dasharray": [1, 1.5] } },
    { id: "cells-fill", type: "fill", source: "cells", paint: { ...whole, "fill-color": p.accent, "fill-opacity": 0.12 } },
    { id: "cells-line", type: "line", source: "cells", paint: { "line-color": p.accent, "line-width": 1, "line-dasharray": [2, 2] } },
    { id: "cells-name", type: "symbol", source: "cells", minzoom: 8, layout: { "text-field": ["get", "name"], "text-font": FONT, "text-size": 11, "text-offset": [0, 2.6] }, paint: text },
    { id: "rangers-dot", type: "symbol", source: "rangers", layout: { "text-field": ["case", ["get", "isAlarm"], "⚠", "▲"], "text-font": FONT, "text-size": 18, "text-allow-overlap": true },
      paint: { "text-color": ["case", ["get", "isAlarm"], p.critical, p.text], "text-halo-color": p.halo, "text-halo-width": 2 } },
    { id: "rangers-name", type: "symbol", source: "rangers", layout: { "text-field": ["get", "name"], "text-font": FONT, "text-size": 11, "text-offset": [0, 1], "text-anchor": "top", "text-optional": true }, paint: text },
    { id: "animals-ring", type: "circle", source: "animals", paint: {
      "circle-radius": ["case", ["get", "isChosen"], 13, 9.5], "circle-color": "rgba(0,0,0,0)",
      "circle-stroke-color": by("age", "fresh", p.fresh, "late", p.late, p.silent), "circle-stroke-width": by("age", "fresh", 3 as never, "late", 2 as never, 1 as never) } },
    { id: "animals-alarm", type: "circle", source: "animals", filter: [">", ["get", "alarm"], 0], paint: {
      "circle-radius": 15, "circle-color": "rgba(0,0,0,0)", "circle-stroke-color": ["case", ["==", ["get", "alarm"], 2], p.critical, p.high], "circle-stroke-width": 2 } },
    { id: "animals-dot", type: "circle", source: "animals", paint: { "circle-radius": 5.5, "circle-color": state, "circle-stroke-color": p.halo, "circle-stroke-width": 1.2,
      "circle-opacity": by("age", "silent", 0.45 as never, 1 as never) } },
    { id: "animals-name", type: "symbol", source: "animals", layout: { "text-field": ["get", "label"], "text-font": FONT, "text-size": 12, "text-offset": [0, 1.1], "text-anchor": "top", "text-optional": true,
      "symbol-sort-key": ["-", 0, ["get", "alarm"]] }, paint: text },
    { id: "drawing-fill", type: "fill", source: "drawing", filter: polygons, paint: { ...whole, "fill-color": p.accent, "fill-opacity": 0.2 } },
    { id: "drawing-line", type: "line", source: "drawing", paint: { "line-color": p.accent, "line-width": 2 } },
    { id: "drawing-corners", type: "circle", source: "drawing", filter: points, paint: { "circle-radius": 6, "circle-color": p.accent, "circle-stroke-color": p.halo, "circle-stroke-width": 2 } },
  ];
  if (boot.home === "cloud") {
    const place = layers.findIndex((each) => each.id === "trails-line");
    layers.splice(place, 0, { id: "fixes-dot", type: "circle", source: "fixes", "source-layer": "fixes", paint: {
      "circle-radius": ["interpolate", ["linear"], ["zoom"], 3, 1, 12, 3], "circle-color": p.foraging, "circle-opacity": 0.5 } });
  }
  return layers;
}
