// Whose rows wait on a phone that several people use. A home takes what it is sent in the name of the token that came
// with it, so each row is pushed with a token of who wrote it or not at all; and nobody changes what waits in another
// one's name, because a row is pushed whole and would be his.
import type { Database, Model } from "@nozbe/watermelondb";
import type { Changes } from "./sync.ts";

/** A row waits to be sent in the name of somebody else; it may be changed once it has been sent. */
export class PendingOfAnother extends Error {
  readonly author: string;
  constructor(author: string) {
    super("this row waits to be sent in the name of somebody else");
    this.author = author;
  }
}

/** Who removed which row, until it is sent: a removed row tells nothing of itself. */
const REMOVED = "outpost.removed";
type Removed = Record<string, Record<string, string>>;

/** Note whose new row it is; to be called inside `create`. */
export function authored(row: Model, user: string): void {
  row._setRaw("author", user);
}

/** Remove a row in the name of `user`. */
export async function removed(record: Model, user: string): Promise<void> {
  check(record, user);
  const { database } = record.collection;
  const known = await read(database);
  (known[record.table] ??= {})[record.id] = user;
  await database.localStorage.set(REMOVED, known);
  await record.markAsDeleted();
}

/** Throw PendingOfAnother where a row waits in the name of somebody else than `user`. */
export function check(record: Model, user: string): void {
  const raw = record._raw as Record<string, unknown>;
  const author = raw["author"];
  if (user && raw["_status"] !== "synced" && author && author !== user) throw new PendingOfAnother(String(author));
}

/** Part changes by who made them; "" is the user who is logged in, to whom belongs what carries no author. */
export async function byAuthor(database: Database, changes: Changes, user = ""): Promise<Map<string, Changes>> {
  const gone = await read(database);
  const parts = new Map<string, Changes>();
  const into = (author: unknown, table: string) => {
    const whose = !user || !author || author === user ? "" : String(author);
    const part = parts.get(whose) ?? {};
    parts.set(whose, part);
    return (part[table] ??= { created: [], updated: [], deleted: [] });
  };
  for (const [table, { created, updated, deleted }] of Object.entries(changes)) {
    for (const row of created) into(row["author"], table).created.push(row);
    for (const row of updated) into(row["author"], table).updated.push(row);
    for (const id of deleted) into(gone[table]?.[id], table).deleted.push(id);
  }
  return parts;
}

/** The ids of all rows of changes, by their tables. */
export function idsOf(changes: Changes): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(changes).map(([table, { created, updated, deleted }]) => [
      table,
      [...created, ...updated].map((row) => row.id).concat(deleted),
    ]),
  );
}

/** Forget who removed what has been sent. */
export async function forgetRemoved(database: Database, sent: Changes, kept: Record<string, string[]>): Promise<void> {
  const known = await read(database);
  for (const [table, { deleted }] of Object.entries(sent)) {
    for (const id of deleted) if (!kept[table]?.includes(id)) delete known[table]?.[id];
  }
  await database.localStorage.set(REMOVED, known);
}

async function read(database: Database): Promise<Removed> {
  return (await database.localStorage.get<Removed>(REMOVED)) ?? {};
}
