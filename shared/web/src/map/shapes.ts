/** Shapes that the map draws of numbers: ellipses, cells, trails, a grid of degrees. Pure; degrees and metres. */
import type { Live, Trails } from "../types";

export type Pair = [number, number];
export interface Feature { type: "Feature"; properties: Record<string, unknown>; geometry: { type: string; coordinates: unknown } }
export const collection = (features: Feature[]) => ({ type: "FeatureCollection" as const, features });

const M_PER_DEGREE = 111_320;

/** A ring of so many corners; `bearing` is that of the long axis, clockwise from north. */
export function ellipse(lon: number, lat: number, majorM: number, minorM: number, bearing: number, sides = 48): Pair[] {
  const turn = (bearing * Math.PI) / 180;
  const shrink = Math.max(Math.cos((lat * Math.PI) / 180), 0.01);
  return Array.from({ length: sides + 1 }, (_, n) => {
    const at = (n / sides) * 2 * Math.PI;
    const [along, across] = [majorM * Math.cos(at), minorM * Math.sin(at)];
    const north = along * Math.cos(turn) - across * Math.sin(turn);
    const east = along * Math.sin(turn) + across * Math.cos(turn);
    return [lon + east / (M_PER_DEGREE * shrink), lat + north / M_PER_DEGREE];
  });
}

export function cell(lon: number, lat: number, side: number): Pair[] {
  const h = side / 2;
  return [[lon - h, lat - h], [lon + h, lat - h], [lon + h, lat + h], [lon - h, lat + h], [lon - h, lat - h]];
}

/** Each run of steps of one state is a line; a step belongs to the state that ended it. */
export function trailLines(found: Trails): Feature[] {
  const lines: Feature[] = [];
  for (const trail of found.animals) {
    let from = 0;
    for (let n = 1; n < trail.lon.length; n++) {
      const isEnd = n === trail.lon.length - 1;
      if (!isEnd && trail.state[n + 1] === trail.state[n]) continue;
      const line: Pair[] = [];
      for (let m = from; m <= n; m++) line.push([trail.lon[m]!, trail.lat[m]!]);
      lines.push({ type: "Feature", properties: { animal: trail.animal_id, state: found.states[trail.state[n]!] ?? "unknown" },
        geometry: { type: "LineString", coordinates: line } });
      from = n;
    }
  }
  return lines;
}

export function predicted(animal: Live, isWhole: boolean): Feature[] {
  const at = animal.current_position;
  if (at.lon === null || at.lat === null || animal.predictions.length === 0) return [];
  const shown = isWhole ? animal.predictions : animal.predictions.slice(0, 1); // all of all would hide the map
  const shares = (each: Live["predictions"][number]) => {
    const half = [each.semi_major_50_m, each.semi_minor_50_m, 50];
    return isWhole ? [[each.semi_major_90_m, each.semi_minor_90_m, 90], half] : [half];
  };
  const features: Feature[] = shown.flatMap((each) => shares(each).map(
    ([major, minor, share]): Feature => ({ type: "Feature", properties: { share, isWhole },
      geometry: { type: "Polygon", coordinates: [ellipse(each.lon, each.lat, major!, minor!, each.bearing, isWhole ? 48 : 24)] } })));
  features.push({ type: "Feature", properties: { isWhole }, geometry: { type: "LineString",
    coordinates: [[at.lon, at.lat], ...shown.map((each): Pair => [each.lon, each.lat])] } });
  return features;
}

/** How many metres of the map a picture's dot is at zoom 0, on the equator: tiles of 512. */
const M_PER_DOT = 40_075_016.7 / 512;
const PATH_STEPS = 12;

/** The newest steps of each animal with the width that the path model gives it; `dots` is that width at zoom 0. */
export function pathBands(found: Trails | null, animals: Live[]): Feature[] {
  const widths = new Map(animals.map((each) => [each.animal_id, each.movement.path_width_m]));
  return (found?.animals ?? []).flatMap((trail): Feature[] => {
    const width = widths.get(trail.animal_id);
    if (!width || trail.lon.length < 2) return [];
    const line = trail.lon.map((lon, n): Pair => [lon, trail.lat[n]!]).slice(-PATH_STEPS);
    const shrink = Math.max(Math.cos((line[line.length - 1]![1] * Math.PI) / 180), 0.01);
    return [{ type: "Feature", properties: { animal: trail.animal_id, dots: width / (M_PER_DOT * shrink) }, geometry: { type: "LineString", coordinates: line } }];
  });
}

/** Lines of degrees with their names, as wide apart as the map's width asks for. */
export function grid(west: number, south: number, east: number, north: number): Feature[] {
  const step = [30, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005].find((each) => (east - west) / each >= 4) ?? 0.002;
  const digits = step < 0.01 ? 3 : step < 0.1 ? 2 : step < 1 ? 1 : 0;
  const features: Feature[] = [];
  const line = (from: Pair, to: Pair, name: string, at: Pair) => features.push(
    { type: "Feature", properties: {}, geometry: { type: "LineString", coordinates: [from, to] } },
    { type: "Feature", properties: { name }, geometry: { type: "Point", coordinates: at } });
  for (let lon = Math.ceil(west / step) * step; lon <= east; lon += step)
    line([lon, Math.max(south, -85)], [lon, Math.min(north, 85)], `${lon.toFixed(digits)}°`, [lon, south + (north - south) * 0.02]);
  for (let lat = Math.ceil(south / step) * step; lat <= north; lat += step)
    line([west, lat], [east, lat], `${lat.toFixed(digits)}°`, [west + (east - west) * 0.02, lat]);
  return features;
}

export function boundsOf(points: Pair[]): [number, number, number, number] | null {
  if (points.length === 0) return null;
  const [lons, lats] = [points.map((each) => each[0]), points.map((each) => each[1])];
  return [Math.min(...lons), Math.min(...lats), Math.max(...lons), Math.max(...lats)];
}

/** Every corner of a GeoJSON geometry. */
export function corners(part: unknown): Pair[] {
  if (!Array.isArray(part)) return [];
  return typeof part[0] === "number" ? [[part[0], Number(part[1])]] : part.flatMap(corners);
}
