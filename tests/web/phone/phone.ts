// The real client as a process: one JSON operation a line, one JSON answer a line. Driven from tests/phones.py.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const client = new URL("../../../shared/web/client/", import.meta.url);
const require = createRequire(client);
const { appSchema, Database, tableSchema } = require("@nozbe/watermelondb");
const { addColumns, createTable, schemaMigrations } = require("@nozbe/watermelondb/Schema/migrations");
const { hasUnsyncedChanges } = require("@nozbe/watermelondb/sync");
const { diagnoseSyncConsistency } = require("@nozbe/watermelondb/diagnostics");
const logger = require("@nozbe/watermelondb/utils/common/logger").default;
logger.silence();
const { authored, COLUMNS, modelClasses, edited, photoUrl, pull, removed, schema, sendPhotos, sync } = await import(new URL("src/index.ts", client).href);

type Answer = unknown;
let database: any;
let home: any;
let pages: number | undefined;
const photos = new Map<string, Buffer>();
let told: unknown[] = [];
let clashes: unknown[] = [];
// what befalls requests to come: "lost" the answer, "cut" the request, "race": somebody else is faster by `others`
type Fault = { path: string; fault: string; others?: { method: string; path: string; body: unknown } };
let faults: Fault[] = [];
let requests = 0;

async function unreliable(address: string, init: RequestInit): Promise<Response> {
  requests += 1;
  const at = faults.findIndex((fault) => address.includes(`/${fault.path}?`));
  const { fault, others } = at < 0 ? { fault: "", others: undefined } : faults.splice(at, 1)[0]!;
  if (fault === "cut") throw new Error("cut");
  if (fault === "race") {
    const headers = { authorization: `Bearer ${home.token()}`, "content-type": "application/json" };
    const done = await fetch(`${home.url}${others!.path}`, { method: others!.method, headers, body: JSON.stringify(others!.body) });
    if (!done.ok) throw new Error(`the other one was refused: ${await done.text()}`);
  }
  const answer = await fetch(address, init);
  const body = await answer.text();
  if (fault === "lost") throw new Error("lost");
  return new Response(body, { status: answer.status, headers: answer.headers });
}

// version 1 knows neither patrols nor the words of an observation: what an app was before it grew
function schemaOf(version: number): [unknown, unknown] {
  if (version === 0) return [schema, undefined];
  const tables = Object.entries(COLUMNS)
    .filter(([name]) => version > 1 || name !== "patrols")
    .map(([name, columns]: any) =>
      tableSchema({
        name,
        columns: columns.filter((column: any) => version > 1 || name !== "observations" || column.name !== "description"),
      }),
    );
  const patrols = createTable({ name: "patrols", columns: COLUMNS["patrols"] });
  const words = addColumns({
    table: "observations",
    columns: COLUMNS["observations"].filter((column: any) => column.name === "description"),
  });
  return [
    appSchema({ version, tables }),
    schemaMigrations({ migrations: version > 1 ? [{ toVersion: 2, steps: [patrols, words] }] : [] }),
  ];
}

const operations: Record<string, (asked: any) => Promise<Answer>> = {
  async open({ url, token, device, version = 0, file = null, user = "" }) {
    const [appliedSchema, migrations] = schemaOf(version);
    const settings = { schema: appliedSchema, ...(migrations ? { migrations } : {}) } as any;
    const adapter = file
      ? new (require("@nozbe/watermelondb/adapters/sqlite").default)({ ...settings, dbName: file })
      : new (require("@nozbe/watermelondb/adapters/lokijs").default)({
          ...settings,
          useWebWorker: false,
          useIncrementalIndexedDB: true,
          extraLokiOptions: { autosave: false },
        });
    const tables = new Set(Object.keys((appliedSchema as any).tables));
    database = new Database({ adapter, modelClasses: modelClasses.filter((each: any) => tables.has(each.table)) });
    home = { url, token: () => token, deviceId: device, fetch: unreliable, ...(user && { user }) };
    return null;
  },
  // another home, or another user: `others` are tokens of those who used this phone before, by their ids
  async roam({ url = home.url, token, user = home.user, others = {} }) {
    home = { ...home, url, token: () => token, user, tokenOf: (id: string) => others[id] ?? null };
    return null;
  },
  async create({ table, row }) {
    return await database.write(async () => {
      const made = await database.get(table).create((record: any) => {
        for (const [name, value] of Object.entries(row)) {
          if (name === "id") record._raw.id = value;
          else record._setRaw(name, value);
        }
        if (home.user) authored(record, home.user);
      });
      return made.id;
    });
  },
  async createMany({ table, rows }) {
    await database.write(async () => {
      await database.batch(
        rows.map((row: any) =>
          database.get(table).prepareCreate((record: any) => {
            for (const [name, value] of Object.entries(row)) record._setRaw(name, value);
          }),
        ),
      );
    });
    return null;
  },
  async update({ table, id, changes, plainly = false }) {
    await database.write(async () => {
      const record = await database.get(table).find(id);
      if (!plainly) return await edited(record, changes, home.user);
      await record.update((row: any) => {
        for (const [name, value] of Object.entries(changes)) row._setRaw(name, value);
      });
    });
    return null;
  },
  async delete({ table, id }) {
    await database.write(async () => {
      const record = await database.get(table).find(id);
      await (home.user ? removed(record, home.user) : record.markAsDeleted());
    });
    return null;
  },
  async sync({ days, enabledAt, plainly = false }) {
    told = [];
    clashes = [];
    requests = 0;
    const log: any = {};
    try {
      await sync(database, home, {
        ...(pages && { pageRows: pages }),
        days: days ?? 3000,
        log,
        ...(enabledAt && { migrationsEnabledAtVersion: enabledAt }),
        onMessages: (messages: unknown[], kept: unknown[]) => {
          told.push(...messages);
          clashes.push(...kept);
        },
      });
    } catch (error: any) {
      return { error: String(error.message), status: error.status ?? null, told, clashes, requests };
    }
    return { told, clashes, requests, pulled: log.remoteChangeCount, pushed: log.localChangeCount };
  },
  // photographs in base64 by their hashes; what is stored leaves the queue
  async photograph({ sha256, base64 }) {
    photos.set(sha256, Buffer.from(base64, "base64"));
    return photoUrl(sha256);
  },
  async sendPhotos() {
    requests = 0;
    const queue = {
      waiting: async () =>
        [...photos].map(([sha256, bytes]) => ({
          sha256, size: bytes.length, mediaType: "image/jpeg", read: (first: number, end: number) => bytes.subarray(first, end),
        })),
      stored: async (sha256: string) => void photos.delete(sha256),
      failed: async (sha256: string, message: string) => void photos.delete(sha256) || wrong.push(message),
    };
    const wrong: string[] = [];
    try {
      return { sent: await sendPhotos(home, queue as any), wrong, requests };
    } catch (error: any) {
      return { error: String(error.message), wrong, requests };
    }
  },
  async pages({ rows }) {
    pages = rows ?? undefined;
    return null;
  },
  async faults({ list }) {
    faults = list;
    return null;
  },
  async rows({ table }) {
    return (await database.get(table).query().fetch()).map((record: any) => record._raw);
  },
  async count({ table }) {
    return await database.get(table).query().fetchCount();
  },
  async unsynced() {
    return await hasUnsyncedChanges({ database });
  },
  async diagnose() {
    let text = "";
    const issueCount = (
      await diagnoseSyncConsistency({
        db: database,
        synchronize: () => sync(database, home, { days: 3000 }),
        pullChanges: async ({ lastPulledAt, schemaVersion, migration }: any) =>
          (await pull(home, { days: 3000 }, lastPulledAt ?? null, schemaVersion, migration)).changes,
        isInconsistentRecordAllowed: async () => false,
        isExcessLocalRecordAllowed: async () => false,
        isMissingLocalRecordAllowed: async () => false,
        log: (line: string) => {
          text += `${line}\n`;
        },
      })
    ).issueCount;
    return { issueCount, text: issueCount ? text.slice(-3000) : "" };
  },
  async memory() {
    return process.memoryUsage().rss;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...asked } = JSON.parse(line);
  let answer: unknown;
  try {
    answer = { ok: (await operations[op]!(asked)) ?? null };
  } catch (error: any) {
    answer = { failed: `${error.message}\n${error.stack}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
