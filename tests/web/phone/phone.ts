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
const { COLUMNS, modelClasses, edited, pull, schema, sync } = await import(new URL("src/index.ts", client).href);

type Answer = unknown;
let database: any;
let home: any;
let pages: number | undefined;
let told: unknown[] = [];
let clashes: unknown[] = [];
// what befalls requests to come: "lost" the answer, "cut" the request, "race": somebody else is faster by `others`
type Fault = { path: string; fault: string; others?: { method: string; path: string; body: unknown } };
let faults: Fault[] = [];
let requests = 0;

async function unreliable(address: string, init: RequestInit): Promise<Response> {
  requests += 1;
  const at = faults.findIndex((fault) => address.includes(`/sync/${fault.path}?`));
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
  async open({ url, token, device, version = 0, file = null }) {
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
    home = { url, token: () => token, deviceId: device, fetch: unreliable };
    return null;
  },
  async roam({ url, token }) {
    home = { ...home, url, token: () => token };
    return null;
  },
  async create({ table, row }) {
    return await database.write(async () => {
      const made = await database.get(table).create((record: any) => {
        for (const [name, value] of Object.entries(row)) {
          if (name === "id") record._raw.id = value;
          else record._setRaw(name, value);
        }
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
      if (!plainly) return await edited(record, changes);
      await record.update((row: any) => {
        for (const [name, value] of Object.entries(changes)) row._setRaw(name, value);
      });
    });
    return null;
  },
  async delete({ table, id }) {
    await database.write(async () => (await database.get(table).find(id)).markAsDeleted());
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
