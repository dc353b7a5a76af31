/** How well a collar was heard of late, by its own schedule: of the trails that the map has loaded. */
import type { Trails } from "./types";

export interface Heard { fixes: number; expected: number; gaps: number }
/** So much longer than its interval, and a position is missing between two. */
const GAP_INTERVALS = 1.5;

/** Positions of the trails' span, how many the schedule asks for since the first of them, and holes between them. */
export function heardOf(trails: Trails | null, animalId: string | undefined, intervalS: number | null): Heard | null {
  const trail = trails?.animals.find((each) => each.animal_id === animalId);
  const first = trail?.at_ms[0];
  if (!trail || !trails || !intervalS || first === undefined) return null;
  const interval = intervalS * 1000;
  const gaps = trail.at_ms.filter((at, n) => n > 0 && at - trail.at_ms[n - 1]! > GAP_INTERVALS * interval).length;
  const whole = Math.floor((Date.parse(trails.until) - first) / interval) + 1;
  return { fixes: trail.at_ms.length, expected: Math.max(whole, trail.at_ms.length), gaps };
}

/** Days until a battery that falls as it did is empty, by a straight line through its readings; null where it tells nothing. */
export function daysLeft(readings: { at: string; percent: number | null }[]): number | null {
  const points = readings.flatMap((each) => (each.percent === null ? [] : [[Date.parse(each.at) / 86_400_000, each.percent] as const]));
  const last = points.at(-1);
  if (!last || last[0] - points[0]![0] < 2) return null;
  const [x, y] = [0, 1].map((n) => points.reduce((sum, each) => sum + each[n as 0 | 1], 0) / points.length) as [number, number];
  const slope = points.reduce((sum, each) => sum + (each[0] - x) * (each[1] - y), 0) / points.reduce((sum, each) => sum + (each[0] - x) ** 2, 0);
  return slope < -0.02 ? Math.round((y + slope * (last[0] - x)) / -slope) : null;
}
