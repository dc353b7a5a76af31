/** Keeps the cells fresh: events as they happen, a look every few seconds where no stream can be had. */
import { all, get, refresh, type Paged } from "./api";
import { boot, isField, isManager } from "./boot";
import { alerts, collars, connection, corridors, health, live, rangers, skewMs, sparks, stations, trails, zones } from "./state";
import type { Alert, Collar, Corridor, Live, LiveRanger, Station, StationHealth, Trails, Zone } from "./types";

const POLL_MS = 30_000;
const CLOUD_POLL_MS = 10_000;
const HEALTH_MS = 10_000;
const TRAILS_MS = 60_000;
/** The home itself keeps the live view for five seconds. */
const SETTLE_MS = 5_200;
const SPARKS = 30;

async function reached(act: () => Promise<void>): Promise<void> {
  const before = connection.value;
  try {
    await act();
    if (!before.isUp) connection.set({ ...connection.value, isUp: true, since: Date.now() });
  } catch (error) {
    if ((error as { status?: number }).status === 0 && before.isUp)
      connection.set({ ...connection.value, isUp: false, since: Date.now() });
  }
}

export const loadAlerts = () => reached(async () => {
  const [active, seen] = await Promise.all([
    get<Paged<Alert>>("/api/v1/alerts/?status=active&page_size=200"),
    get<Paged<Alert>>("/api/v1/alerts/?status=acknowledged&page_size=50"),
  ]);
  alerts.set([...active.results, ...seen.results]);
});
export const loadLive = () => reached(async () => live.set(await get<Live[]>("/api/v1/animals/live_status/")));
export const loadTrails = () => reached(async () => {
  const asked = Date.now();
  const found = await get<Trails>("/api/v1/animals/trails/?hours=24&points=200");
  skewMs.set(Date.parse(found.until) - (asked + Date.now()) / 2);
  trails.set(found);
});
export const loadAreas = () => reached(async () => {
  const [z, c] = await Promise.all([all<Zone>("/api/v1/conflict-zones/"), all<Corridor>("/api/v1/corridors/")]);
  zones.set(z);
  corridors.set(c);
});
export const loadCollars = () => reached(async () => {
  collars.set(new Map((await all<Collar>("/api/v1/collars/")).map((each) => [each.id, each])));
});
export const loadRangers = () => reached(async () => {
  if (isField) rangers.set(await get<LiveRanger[]>("/api/v1/rangers/live_status/"));
});
let lookedAt = 0;
export const loadHealth = () => reached(async () => {
  if (boot.home === "cloud") {
    if (isManager) stations.set(await get<Station[]>("/api/v1/stations/"));
    return;
  }
  const before = health.value;
  const found = await get<StationHealth>("/health/detail");
  const minutes = (Date.now() - lookedAt) / 60_000;
  lookedAt = Date.now();
  if (before) {
    const next = new Map(sparks.value);
    for (const link of found.links) {
      const was = before.links.find((each) => each.name === link.name);
      if (was && link.frames >= was.frames)
        next.set(link.name, [...(next.get(link.name) ?? []), (link.frames - was.frames) / minutes].slice(-SPARKS));
    }
    sparks.set(next);
  }
  skewMs.set(Date.parse(found.clock.now) - Date.now());
  health.set(found);
});

let settling: ReturnType<typeof setTimeout> | null = null;
function settle(): void {
  settling ??= setTimeout(() => { settling = null; void loadLive(); }, SETTLE_MS);
}

interface FixEvent { animal: string | null; lon: number | null; lat: number | null; recorded_at: string; received_at: string; flags: number }
/** A herd whose collars are heard together is drawn together: one at once, the rest so much later at most. */
const TOGETHER_MS = 200;
let heard = new Map<string, FixEvent>();
let drawnAt = 0;
let drawing: ReturnType<typeof setTimeout> | null = null;

/** Move a marker at once; what models say of the new place comes a few seconds later. */
function moved(fix: FixEvent): void {
  settle();
  if (fix.animal === null || fix.lon === null || fix.lat === null || fix.flags !== 0) return;
  const before = heard.get(fix.animal);
  if (!before || Date.parse(before.recorded_at) <= Date.parse(fix.recorded_at)) heard.set(fix.animal, fix);
  drawing ??= setTimeout(draw, Date.now() - drawnAt > TOGETHER_MS ? 0 : TOGETHER_MS);
}

function draw(): void {
  const fixes = heard;
  [heard, drawing, drawnAt] = [new Map(), null, Date.now()];
  const isNewer = (each: Live) => Date.parse(fixes.get(each.animal_id)?.recorded_at ?? "") >= Date.parse(each.current_position.timestamp);
  if (!live.value?.some(isNewer)) return;
  live.set(live.value.map((each) => {
    const fix = fixes.get(each.animal_id);
    if (!fix || !isNewer(each)) return each;
    const { lon, lat, recorded_at: timestamp, received_at } = fix;
    return { ...each, current_position: { ...each.current_position, lon, lat, timestamp, received_at } };
  }));
}

function listen(): void {
  const source = new EventSource("/api/v1/events");
  const streaming = (isStreaming: boolean) => {
    if (connection.value.isStreaming !== isStreaming) connection.set({ ...connection.value, isStreaming });
  };
  source.onopen = () => streaming(true);
  source.addEventListener("fix", (event) => moved(JSON.parse((event as MessageEvent<string>).data)));
  source.addEventListener("alert", () => void loadAlerts());
  source.addEventListener("lost", () => { void loadLive(); void loadAlerts(); void loadTrails(); });
  source.onerror = () => {
    streaming(false);
    if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
    // the stream ends with the login's token: it goes on with the next one
    setTimeout(() => void refresh().then(listen), 3000);
  };
}

export function start(): void {
  void Promise.all([loadAlerts(), loadLive(), loadCollars(), loadAreas(), loadTrails(), loadRangers()]);
  if (isField) {
    void loadHealth();
    setInterval(() => void loadHealth(), HEALTH_MS);
  }
  // the cloud tells a viewer nothing: when something comes tells of when it was heard
  if (boot.home === "station" || isField) listen();
  const poll = () => {
    if (connection.value.isStreaming && document.hidden) return;
    if (!connection.value.isStreaming) { void loadAlerts(); void loadLive(); }
  };
  setInterval(poll, boot.home === "station" ? POLL_MS : CLOUD_POLL_MS);
  setInterval(() => { void loadTrails(); void loadLive(); void loadAlerts(); void loadRangers(); }, TRAILS_MS);
  setInterval(() => { void loadCollars(); void loadAreas(); }, 5 * TRAILS_MS);
  addEventListener("online", () => { void loadAlerts(); void loadLive(); });
}
