import assert from "node:assert/strict";
import { test } from "node:test";
import {
  chunks, conflictResolver, enrol, listen, PART_BYTES, parts, pauseMs, photoUrl, readInvitation, schema, sendPhotos, upload,
  wrong,
} from "../src/index.ts";
import type { Kind, Pending, Photo, Photos } from "../src/index.ts";

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

// a home that keeps parts as ours do, and a network that ends each connection after `parts`
function blobHome(parts: number) {
  const kept = new Map<string, number>();
  let left = parts;
  const answered = (status: number, body: unknown, headers = {}) =>
    new Response(status === 404 || body === null ? null : JSON.stringify(body), { status, headers });
  const home = {
    url: "http://home",
    deviceId: "d",
    token: () => "t",
    fetch: (async (address: string, init: RequestInit) => {
      const url = new URL(address);
      const name = url.pathname.split("/").at(-1)!;
      const has = kept.get(name);
      if (init.method === "HEAD") {
        return has === undefined ? answered(404, null) : answered(200, null, { "upload-offset": String(has) });
      }
      if (name.startsWith("bad")) return answered(400, { code: "invalid", detail: "no picture" });
      if (left-- <= 0) throw new Error("cut");
      assert.equal(Number(url.searchParams.get("offset")), has ?? 0);
      kept.set(name, (has ?? 0) + (init.body as Uint8Array).length);
      return answered(200, { received: kept.get(name) });
    }) as typeof fetch,
  };
  return { home, kept, again: () => (left = parts) };
}

test("photographs go on where a connection ended, and one that no home takes keeps none behind it", async () => {
  const { home, kept, again } = blobHome(2);
  const stored: string[] = [];
  const failed: string[] = [];
  const size = PART_BYTES * 3 + 5;
  const photo = (sha256: string): Photo => ({
    sha256, size, mediaType: "image/jpeg", read: (first, end) => new Uint8Array(end - first),
  });
  const photos: Photos = {
    waiting: async () => ["bad1", "one", "two"].filter((name) => ![...stored, ...failed].includes(name)).map(photo),
    stored: async (name) => void stored.push(name),
    failed: async (name) => void failed.push(name),
  };
  for (let n = 0; n < 3; n += 1) {
    await assert.rejects(sendPhotos(home, photos), { status: 0 });
    again();
  }
  assert.deepEqual([stored, failed], [["one"], ["bad1"]]);
  assert.equal(await sendPhotos(home, photos), 1);
  assert.deepEqual([...kept], [["one", size], ["two", size]]);
  assert.equal(photoUrl("one"), "/api/v1/blobs/one");
});

test("a phone that listens is told when it connects, when something changes and when that cannot be known", async () => {
  const sent = ["retry: 3000\n: listening\n\n", "id: 7\nevent: fix\ndata: {}\n\nid: 8\nevent: sy", 'nc\ndata: {"timestamp":1}\n\n',
    "id: 9\nevent: lost\ndata: {}\n\n"];
  const asked: (string | undefined)[] = [];
  const ended = new AbortController();
  const home = {
    url: "http://home", deviceId: "d", token: () => "t",
    fetch: (async (_: string, init: { headers: Record<string, string> }) => {
      asked.push(init.headers["last-event-id"]);
      return new Response(ReadableStream.from(sent.map((text) => new TextEncoder().encode(text))));
    }) as unknown as typeof fetch,
  };
  let told = 0;
  await listen(home, () => { if (++told === 3) ended.abort(); }, ended.signal);
  assert.deepEqual([told, asked], [3, [undefined]]);
});

test("a phone reads a QR code of ours, and signs what the home will verify", async () => {
  const text = "outpost://enrol?v=1&url=https%3A%2F%2F192.168.4.1%3A8000&home=outpost-station%3Apost&code=ABCD-EFGH-JKMN-PQRS&sha256=ab12";
  const invitation = readInvitation(text)!;
  assert.deepEqual(invitation, {
    url: "https://192.168.4.1:8000", home: "outpost-station:post", code: "ABCD-EFGH-JKMN-PQRS", sha256: "ab12",
  });
  for (const other of ["https://example.org/?v=1", "outpost://enrol?v=2&url=x&home=y&code=z", "outpost://enrol"]) {
    assert.equal(readInvitation(other), null);
  }
  let sent: { path: string; body: Record<string, string> } | undefined;
  const key = { publicKey: "00ff", sign: (said: string) => `signed ${said}` };
  const with_ = (async (address: string, init: { body: string }) => {
    sent = { path: new URL(address).pathname, body: JSON.parse(init.body) as Record<string, string> };
    return new Response(JSON.stringify({ phone: { id: "p" } }), { status: 201 });
  }) as unknown as typeof fetch;
  assert.equal((await enrol(invitation, key, "Samsung", with_)).phone.id, "p");
  assert.equal(sent!.path, "/api/v1/phones/enrol");
  assert.equal(sent!.body["signature"], "signed outpost phone enrol\noutpost-station:post\nABCDEFGHJKMNPQRS\n00ff");
});
