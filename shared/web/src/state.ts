/** What the pages show, kept in small cells; a component that uses one is drawn again when it changes. */
import { useEffect, useState } from "preact/hooks";
import type { Alert, Collar, Corridor, Live, LiveRanger, Station, StationHealth, Trails, Zone } from "./types";

export class Cell<T> {
  private readonly listeners = new Set<() => void>();
  constructor(private kept: T) {}
  get value(): T {
    return this.kept;
  }
  set(value: T): void {
    this.kept = value;
    for (const listener of [...this.listeners]) listener();
  }
  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}
export function use<T>(cell: Cell<T>): T {
  const [, draw] = useState(0);
  useEffect(() => cell.listen(() => draw((n) => n + 1)), [cell]);
  return cell.value;
}

export interface Connection { isUp: boolean; since: number; isStreaming: boolean }

export const alerts = new Cell<Alert[] | null>(null);
export const live = new Cell<Live[] | null>(null);
export const collars = new Cell<Map<string, Collar>>(new Map());
export const zones = new Cell<Zone[]>([]);
export const corridors = new Cell<Corridor[]>([]);
/** Where rangers are: field staff alone are told. */
export const rangers = new Cell<LiveRanger[] | null>(null);
export const trails = new Cell<Trails | null>(null);
export const health = new Cell<StationHealth | null>(null);
export const stations = new Cell<Station[] | null>(null);
export const connection = new Cell<Connection>({ isUp: true, since: Date.now(), isStreaming: false });
/** Frames of each link a minute, the newest last: what two looks at its counter differ by. */
export const sparks = new Cell<Map<string, number[]>>(new Map());
export const selected = new Cell<string | null>(null);
/** The home's time less this browser's, in ms: ages are counted on the home's clock. */
export const skewMs = new Cell(0);
export const homeNow = () => Date.now() + skewMs.value;
