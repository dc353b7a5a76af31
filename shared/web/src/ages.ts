/** How old a position is by its own collar's schedule: the same numbers by which the station calls a collar silent. */
import type { Collar } from "./types";

export type Age = "fresh" | "late" | "silent" | "unknown";
/** Six of its intervals, at least three hours: from then on the alarms call a collar silent (`silent_collar`). */
const SILENT_INTERVALS = 6;
const SILENT_MS = 3 * 3_600_000;
const LATE_INTERVALS = 2;

export function ageOf(ageMs: number, collar: Collar | undefined): Age {
  const interval = collar?.fix_interval_s;
  if (!interval) return ageMs < SILENT_MS ? "unknown" : "silent";
  if (ageMs >= Math.max(SILENT_INTERVALS * interval * 1000, SILENT_MS)) return "silent";
  return ageMs >= LATE_INTERVALS * interval * 1000 ? "late" : "fresh";
}
