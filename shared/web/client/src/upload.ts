// The original platform's bulk upload, with its seven practices: chunks of 100, UUIDs as local ids, a mark on what is
// synced, a trigger by the network, errors kept with growing pauses, the home's ids and values written back only for
// rows that the answer says are stored, and a look at each row before it is sent. For apps that do not sync by pull and
// push; nothing here knows WatermelonDB.
import { type Home, SyncRefused } from "./sync.ts";

export type Kind = "animals" | "tracking" | "observations";
export type Item = { local_id: string; [field: string]: unknown };
export type Pending = Record<Kind, Item[]>;

export type Answer = {
  sync_id: string;
  id_map: Record<Kind, Record<string, string>>;
  errors: { type: Kind; local_id: string | null; code: string; message: string }[];
  conflicts: { type: Kind; local_id: string | null; reason: string; server_id: string; server_record: unknown }[];
};

/** What the app's own database does for an upload. */
export type Rows = {
  /** Rows that are not marked as synced. */
  pending(): Promise<Pending>;
  /** Mark a row as synced, with the home's id; `kept` is the home's row where it was there before. */
  stored(kind: Kind, localId: string, serverId: string, kept: unknown): Promise<void>;
  /** Keep what is wrong with a row beside it. */
  failed(kind: Kind, localId: string, message: string): Promise<void>;
};

export const CHUNK = 100;
export const KINDS: readonly Kind[] = ["animals", "tracking", "observations"];
const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 15 * 60_000;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** What is wrong with an item, nothing where it may be sent. */
export function wrong(kind: Kind, item: Item): string {
  if (!UUID.test(item.local_id)) return "local_id: must be a UUID";
  if (kind === "animals") return item["name"] && item["species"] ? "" : "name and species are required";
  if (!item["timestamp"]) return "timestamp: is required";
  if (kind === "observations") return item["observation_type"] ? "" : "observation_type: is required";
  const { lat, lon } = item;
  const isPlace = typeof lat === "number" && typeof lon === "number" && Math.abs(lat) <= 90 && Math.abs(lon) <= 180;
  if (!isPlace) return "lat and lon: must be degrees";
  return item["animal"] || item["collar_id"] ? "" : "animal or collar_id: is required";
}

/** Split what waits into uploads of at most `size` items, animals before what names them. */
export function chunks(pending: Pending, size: number = CHUNK): Pending[] {
  const found: Pending[] = [];
  let room = 0;
  for (const kind of KINDS) {
    for (const item of pending[kind]) {
      if (room === 0) {
        found.push({ animals: [], tracking: [], observations: [] });
        room = size;
      }
      found.at(-1)![kind].push(item);
      room -= 1;
    }
  }
  return found;
}

/** The pause before the next try, in ms: doubled with each failure, with a part of it by chance. */
export function pauseMs(failures: number, chance: number = Math.random()): number {
  const whole = Math.min(FIRST_PAUSE_MS * 2 ** (failures - 1), LONGEST_PAUSE_MS);
  return Math.round(whole * (0.5 + chance / 2));
}

/** Upload what waits, chunk by chunk; what the home has not confirmed stays pending. */
export async function upload(home: Home, rows: Rows): Promise<Answer[]> {
  const waiting = await rows.pending();
  const sound: Pending = { animals: [], tracking: [], observations: [] };
  for (const kind of KINDS) {
    for (const item of waiting[kind]) {
      const why = wrong(kind, item);
      if (why) await rows.failed(kind, item.local_id, why);
      else sound[kind].push(item);
    }
  }
  const answers: Answer[] = [];
  for (const chunk of chunks(sound)) {
    const answer = await send(home, chunk);
    answers.push(answer);
    const kept = new Map(answer.conflicts.map((each) => [`${each.type} ${each.local_id}`, each.server_record]));
    for (const kind of KINDS) {
      for (const [localId, serverId] of Object.entries(answer.id_map[kind] ?? {})) {
        await rows.stored(kind, localId, serverId, kept.get(`${kind} ${localId}`) ?? null);
      }
    }
    for (const error of answer.errors) {
      if (error.local_id) await rows.failed(error.type, error.local_id, error.message);
    }
  }
  return answers;
}

/** Upload whenever `network` says that there is one, and again after a pause where it failed; returns what ends it. */
export function uploadWhenConnected(
  home: Home,
  rows: Rows,
  network: (listener: (isConnected: boolean) => void) => () => void,
  told: (error: unknown) => void = () => {},
): () => void {
  let failures = 0;
  let isBusy = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const go = async (): Promise<void> => {
    if (isBusy) return;
    isBusy = true;
    clearTimeout(timer);
    try {
      await upload(home, rows);
      failures = 0;
    } catch (error) {
      told(error);
      failures += 1;
      timer = setTimeout(() => void go(), pauseMs(failures));
    } finally {
      isBusy = false;
    }
  };
  const stop = network((isConnected) => {
    if (isConnected) void go();
  });
  return () => {
    clearTimeout(timer);
    stop();
  };
}

async function send(home: Home, chunk: Pending): Promise<Answer> {
  let answer: Response;
  try {
    answer = await (home.fetch ?? fetch)(`${home.url}/api/v1/sync/upload/`, {
      method: "POST",
      headers: { authorization: `Bearer ${await home.token()}`, "content-type": "application/json" },
      body: JSON.stringify({ device_id: home.deviceId, ...chunk }),
    });
  } catch (error) {
    throw new SyncRefused(0, "unreachable", `the home does not answer: ${String(error)}`);
  }
  if (!answer.ok) {
    const said = (await answer.json().catch(() => ({}))) as { code?: string; detail?: string };
    throw new SyncRefused(answer.status, said.code ?? "error", said.detail ?? answer.statusText);
  }
  return (await answer.json()) as Answer;
}
