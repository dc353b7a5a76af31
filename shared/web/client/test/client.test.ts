import assert from "node:assert/strict";
import { test } from "node:test";
import { chunks, conflictResolver, parts, pauseMs, schema, upload, wrong } from "../src/index.ts";
import type { Kind, Pending } from "../src/index.ts";

const uuid = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
const fix = (n: number) => ({ local_id: uuid(n), collar_id: "K1", lat: -2, lon: 37, timestamp: 1_780_000_000_000 + n });

test("the schema has the tables of the homes", () => {
  assert.deepEqual(Object.keys(schema.tables).sort(), [
    "alerts", "animals", "corridors", "observations", "patrols", "tracking", "zones",
  ]);
});

test("an unsent edit gives way only where it does not say what its user had before him", () => {
  const local = { id: "a", name: "mine", _status: "updated", _changed: "name" } as never;
  const remote = { id: "a", name: "theirs" } as never;
  const resolved = { id: "a", name: "mine", _status: "updated", _changed: "name" } as never;
  assert.deepEqual(conflictResolver("animals" as never, local, remote, resolved), {
    id: "a", name: "theirs", _status: "synced", _changed: "",
  });
  for (const base_rev of [0, 7]) {
    const noted = { ...(local as object), base_rev } as never;
    assert.equal(conflictResolver("animals" as never, noted, remote, resolved), resolved);
  }
});

test("a push is split into parts, parents first, and loses nothing", () => {
  const rows = (n: number) => Array.from({ length: n }, (_, k) => ({ id: `r${k}` }));
  const none = { updated: [], deleted: [] };
  const found = parts({ tracking: { created: rows(5), ...none }, animals: { created: rows(2), ...none } }, 3);
  assert.deepEqual(found.map((part) => Object.keys(part)), [["animals", "tracking"], ["tracking"], ["tracking"]]);
  assert.equal(found.flatMap((part) => part["tracking"]?.created ?? []).length, 5);
});

test("uploads have at most a hundred items, animals first", () => {
  const pending: Pending = {
    animals: [{ local_id: uuid(0), name: "A", species: "Elephant" }],
    tracking: Array.from({ length: 250 }, (_, n) => fix(n + 1)),
    observations: [],
  };
  const found = chunks(pending);
  assert.deepEqual(found.map((each) => each.animals.length + each.tracking.length), [100, 100, 51]);
  assert.equal(found[0]!.animals.length, 1);
});

test("pauses grow, are bounded and never alike for all", () => {
  assert.equal(pauseMs(1, 1), 2_000);
  assert.equal(pauseMs(3, 1), 8_000);
  assert.equal(pauseMs(3, 0), 4_000);
  assert.equal(pauseMs(40, 1), 900_000);
});

test("a row is looked at before it is sent", () => {
  assert.equal(wrong("tracking", fix(1)), "");
  assert.match(wrong("tracking", { ...fix(1), lat: 95 }), /lat/);
  assert.match(wrong("tracking", { ...fix(1), collar_id: "" }), /collar_id/);
  assert.match(wrong("animals", { local_id: "7" }), /UUID/);
});

test("only what the answer names is marked as stored; the rest stays pending with its error", async () => {
  const stored: string[] = [];
  const failed: string[] = [];
  const answer = {
    sync_id: "s",
    id_map: { animals: {}, tracking: { [uuid(1)]: "server-1", [uuid(2)]: "server-2" }, observations: {} },
    errors: [{ type: "tracking", local_id: uuid(3), code: "invalid", message: "no" }],
    conflicts: [{ type: "tracking", local_id: uuid(2), reason: "duplicate", server_id: "server-2", server_record: 5 }],
  };
  const home = {
    url: "http://home",
    deviceId: "d",
    token: () => "t",
    fetch: (async () => new Response(JSON.stringify(answer))) as typeof fetch,
  };
  await upload(home, {
    pending: async () => ({
      animals: [], tracking: [fix(1), fix(2), fix(3), fix(4), { ...fix(5), lat: 99 }], observations: [],
    }),
    stored: async (kind: Kind, id: string, server: string, kept: unknown) => {
      stored.push(`${kind} ${id} ${server} ${String(kept)}`);
    },
    failed: async (_kind: Kind, id: string) => {
      failed.push(id);
    },
  });
  assert.deepEqual(stored, [`tracking ${uuid(1)} server-1 null`, `tracking ${uuid(2)} server-2 5`]);
  assert.deepEqual(failed, [uuid(5), uuid(3)]);
});
