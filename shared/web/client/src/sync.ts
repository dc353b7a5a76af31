// How an app syncs with whichever home it finds: a station on its Wi-Fi, or the cloud in town.
//
// The home decides what merges: it knows what was changed since `base_rev`, keeps its own value of a column that both
// changed, and keeps the other for a person. So the resolver leaves the phone's edit on top until the home has ruled.
import { type Database, type Model, Q } from "@nozbe/watermelondb";
import type { SyncArgs, SyncConflictResolver } from "@nozbe/watermelondb/sync/index.js";
import { OWNED } from "./schema.ts";
import { byAuthor, check, forgetRemoved, idsOf } from "./authors.ts";
import { synchronize } from "@nozbe/watermelondb/sync/index.js";

/** What a user should read about a row of his. */
export type Message = { table: string; id: string; code: string; detail: string };
export type Clash = { table: string; id: string; columns: string[] };

export type Row = { id: string; [column: string]: unknown };
export type TableChanges = { created: Row[]; updated: Row[]; deleted: string[] };
export type Changes = Record<string, TableChanges>;

export type Home = {
  /** Where the home is, without a slash at its end: `https://192.168.4.1:8000`. */
  url: string;
  /** A UUID that the app keeps for as long as it is installed: a phone's own edits never clash with each other. */
  deviceId: string;
  /** Asked before each request, so that a token that has run out is never sent. */
  token: () => Promise<string> | string;
  fetch?: typeof fetch;
  /** The id of the user who is logged in, on a phone of several: rows of others are not sent in his name. */
  user?: string;
  /** A token of somebody else who used this phone; null where there is none, and his rows wait until he logs in. */
  tokenOf?: (user: string) => Promise<string | null> | string | null;
};

export type Options = {
  /** Rows of a page of a pull. */
  pageRows?: number;
  /** Days of positions that the phone keeps. */
  days?: number;
  /** Rows of one push; a phone marks them as synced in a time that grows with their square. */
  pushRows?: number;
  migrationsEnabledAtVersion?: number;
  onMessages?: (messages: Message[], clashes: Clash[]) => void;
  log?: SyncArgs["log"];
};

/** A home's refusal; `status` 0 is no answer at all. */
export class SyncRefused extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, detail: string) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

export type PullAnswer = {
  changes: Changes;
  timestamp: number;
  has_more: boolean;
  next: string | null;
  messages: Message[];
};
export type PushAnswer = {
  conflicts: Clash[];
  messages: Message[];
  experimentalRejectedIds?: Record<string, string[]>;
};

/**
 * Keeps an unsent edit on top of what the home sent, where the row says what its user had before him (`base_rev`): the
 * home rules on it. An edit that does not say so cannot be told from a newer one, so the home's row comes before it.
 */
export const conflictResolver: SyncConflictResolver = (_table, local, remote, resolved) => {
  if (local["_status"] === "updated" && typeof local["base_rev"] !== "number") {
    return { ...remote, id: local.id, _status: "synced", _changed: "" };
  }
  // what waits stays its author's, whatever the home sends
  return local["_status"] !== "synced" && local["author"] ? { ...resolved, author: local["author"] } : resolved;
};

/**
 * Write `changes` to a row; its first edit since the last sync notes what the user had before him (0: his own row). On a
 * phone of several `user` says whose edit it is; throws PendingOfAnother where the row waits in another one's name.
 */
export async function edited(record: Model, changes: Record<string, unknown>, user = ""): Promise<void> {
  check(record, user);
  await record.update((row) => {
    const raw = row._raw as Record<string, unknown>;
    if (raw["_status"] === "synced") row._setRaw("base_rev", (raw["rev"] as number | null) ?? 0);
    if (user) row._setRaw("author", user);
    for (const [name, value] of Object.entries(changes)) row._setRaw(name, value as never);
  });
}

/** Pull, then push, once; after a true race (409) once more. */
export async function sync(database: Database, home: Home, options: Options = {}): Promise<void> {
  try {
    await once(database, home, options);
  } catch (error) {
    if (!(error instanceof SyncRefused) || error.status !== 409) throw error;
    await once(database, home, options);
  }
}

async function once(database: Database, home: Home, options: Options): Promise<void> {
  let before: number | null = null;
  await synchronize({
    database,
    sendCreatedAsUpdated: true,
    conflictResolver,
    ...(options.migrationsEnabledAtVersion !== undefined && {
      migrationsEnabledAtVersion: options.migrationsEnabledAtVersion,
    }),
    ...(options.log && { log: options.log }),
    pullChanges: async ({ lastPulledAt, schemaVersion, migration }) => {
      before = lastPulledAt ?? null;
      const pulled = await pull(home, options, before, schemaVersion, migration);
      await spare(database, pulled.changes);
      return pulled as never;
    },
    pushChanges: async ({ changes, lastPulledAt }) => {
      const rejected: Record<string, string[]> = {};
      const reject = (ids: Record<string, string[]>): void => {
        for (const [table, some] of Object.entries(ids)) (rejected[table] ??= []).push(...some);
      };
      for (const [author, theirs] of await byAuthor(database, changes as unknown as Changes, home.user)) {
        const token = author === "" ? await home.token() : ((await home.tokenOf?.(author)) ?? null);
        if (token === null) {
          reject(idsOf(theirs)); // they wait on the phone until their author logs in
          continue;
        }
        for (const part of parts(theirs, options.pushRows ?? 500)) {
          const answer = await push({ ...home, token: () => token }, part, lastPulledAt, before);
          options.onMessages?.(answer.messages, answer.conflicts);
          reject(answer.experimentalRejectedIds ?? {});
        }
      }
      await forgetRemoved(database, changes as unknown as Changes, rejected);
      return Object.keys(rejected).length ? ({ experimentalRejectedIds: rejected } as never) : undefined;
    },
  });
}

/**
 * Leave out of `deleted` what the phone has edited meanwhile: the client would destroy the edit before anybody has seen it.
 * So it is pushed, the home keeps it for a person, and the next pull takes the row away.
 */
async function spare(database: Database, changes: Changes): Promise<void> {
  for (const [table, rows] of Object.entries(changes)) {
    const edited = new Set<string>();
    for (let at = 0; at < rows.deleted.length; at += 500) {
      const some = rows.deleted.slice(at, at + 500);
      const found = await database.get(table).query(Q.where("id", Q.oneOf(some))).fetch();
      for (const record of found) if (record.syncStatus === "updated") edited.add(record.id);
    }
    if (edited.size) rows.deleted = rows.deleted.filter((id) => !edited.has(id));
  }
}

/** Read every page of a pull; the cursor is the first page's, so what changed meanwhile comes again next time. */
export async function pull(
  home: Home,
  options: Options,
  lastPulledAt: number | null,
  schemaVersion: number,
  migration: unknown,
): Promise<{ changes: Changes; timestamp: number }> {
  const asked = {
    last_pulled_at: String(lastPulledAt ?? 0),
    schema_version: String(schemaVersion),
    migration: JSON.stringify(migration ?? null),
    limit: String(options.pageRows ?? 5000),
    ...(options.days && { days: String(options.days) }),
    device_id: home.deviceId,
  };
  const first = await request<PullAnswer>(home, "GET", "pull", asked);
  let page = first;
  const told = [...first.messages];
  while (page.has_more) {
    page = await request<PullAnswer>(home, "GET", "pull", {
      ...asked,
      until: String(first.timestamp),
      after: page.next ?? "",
    });
    add(first.changes, page.changes);
    told.push(...page.messages);
  }
  if (told.length) options.onMessages?.(told, []);
  for (const [table, rows] of Object.entries(first.changes)) {
    // whose a row was is the phone's own: with the home's answer it is nobody's
    if (!OWNED.has(table)) continue;
    for (const row of [...rows.created, ...rows.updated]) row["author"] = null;
  }
  return { changes: first.changes, timestamp: first.timestamp };
}

function add(into: Changes, more: Changes): void {
  for (const [table, rows] of Object.entries(more)) {
    const known = (into[table] ??= { created: [], updated: [], deleted: [] });
    const later = new Set([...rows.created, ...rows.updated].map((row) => row.id));
    const gone = new Set(rows.deleted);
    // no id twice, and the later page is right
    known.created = [...known.created.filter((row) => !later.has(row.id) && !gone.has(row.id)), ...rows.created];
    known.updated = [...known.updated.filter((row) => !later.has(row.id) && !gone.has(row.id)), ...rows.updated];
    known.deleted = [...known.deleted.filter((id) => !later.has(id) && !gone.has(id)), ...rows.deleted];
  }
}

function push(
  home: Home,
  changes: Changes,
  lastPulledAt: number,
  before: number | null,
): Promise<PushAnswer> {
  const asked = {
    last_pulled_at: String(lastPulledAt),
    ...(before && { previous_pulled_at: String(before) }),
    device_id: home.deviceId,
  };
  return request<PushAnswer>(home, "POST", "push", asked, changes);
}

/** Split changes into pushes of at most `size` rows, parents before what names them. */
export function parts(changes: Changes, size: number): Changes[] {
  const order = ["animals", "patrols", "observations", "alerts", "tracking"];
  const tables = Object.keys(changes).sort((a, b) => (order.indexOf(a) + 1 || 99) - (order.indexOf(b) + 1 || 99));
  const found: Changes[] = [];
  let room = 0;
  for (const table of tables) {
    for (const kind of ["created", "updated", "deleted"] as const) {
      for (const row of changes[table]?.[kind] ?? []) {
        if (room === 0) {
          found.push({});
          room = size;
        }
        const part = found.at(-1)!;
        const rows = (part[table] ??= { created: [], updated: [], deleted: [] })[kind] as unknown[];
        rows.push(row);
        room -= 1;
      }
    }
  }
  return found;
}

async function request<T>(
  home: Home,
  method: string,
  path: string,
  asked: Record<string, string>,
  body?: unknown,
): Promise<T> {
  const address = `${home.url}/api/v1/sync/${path}?${new URLSearchParams(asked)}`;
  let answer: Response;
  try {
    answer = await (home.fetch ?? fetch)(address, {
      method,
      headers: {
        authorization: `Bearer ${await home.token()}`,
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  } catch (error) {
    throw new SyncRefused(0, "unreachable", `the home does not answer: ${String(error)}`);
  }
  if (!answer.ok) {
    const said = (await answer.json().catch(() => ({}))) as { code?: string; detail?: string };
    throw new SyncRefused(answer.status, said.code ?? "error", said.detail ?? answer.statusText);
  }
  return (await answer.json()) as T;
}
