"""Stations and the cloud over HTTP: what is acknowledged is stored once, what cannot be stored is kept and said."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from shared.errors import CorruptBatch
from shared.sync.records import Record
from shared.sync.streams import GENESIS, Batch, Receipt
from shared.wire.batch import MAX_BATCH_BYTES, decode_records, encode_fixes, encode_records
from shared.wire.batch.container import RECORDS, pack
from shared.wire.link import HASH, MESSAGES, PREVIOUS, Heads
from tests.clouds import EPOCH, VIEW, Cloud, Station, alpha, columns_of, fix_row, operation, refusal
from tests.fakes import START

pytestmark = [pytest.mark.integration, pytest.mark.sync, pytest.mark.asyncio(loop_scope="module")]

SQUARE = '{"type":"Polygon","coordinates":[[[37,-2],[38,-2],[38,-3],[37,-2]]]}'


# --- streams --------------------------------------------------------------------------------------------------------


async def test_a_batch_is_applied_once_and_its_answer_repeated_to_the_byte(cloud: Cloud, station: Station) -> None:
    batch = station.batch("fixes", encode_fixes(columns_of([fix_row(0), fix_row(10)])))
    first = await station.put(batch)
    assert (first.status_code, first.headers["content-type"]) == (200, MESSAGES)
    station.heads[EPOCH, "fixes"] = batch.head
    await station.bring_fixes(fix_row(20))
    changes = cloud.count("changes")
    for _ in range(2):
        again = await station.put(batch)
        assert (again.status_code, again.content) == (200, first.content)
    assert (cloud.count("fixes"), cloud.count("changes"), cloud.count("receipts")) == (3, changes, 2)


async def test_the_same_batch_many_times_at_once_is_applied_once(cloud: Cloud, station: Station) -> None:
    batch = station.batch("fixes", encode_fixes(columns_of([fix_row(minutes) for minutes in range(20)])))
    answers = await asyncio.gather(*(station.put(batch) for _ in range(6)))
    assert {(each.status_code, each.content) for each in answers} == {(200, answers[0].content)}
    receipt = msgspec.msgpack.decode(answers[0].content, type=Receipt)
    assert receipt.counts == {"applied": 20}
    assert cloud.count("receipts") == 1


async def test_a_missing_batch_is_a_gap_and_another_history_a_fork(cloud: Cloud, station: Station) -> None:
    payload = encode_fixes(columns_of([fix_row(0)]))
    ahead = refusal(await station.put(Batch(EPOCH, "fixes", 3, bytes(32), payload)))
    assert (ahead.code, ahead.head) == ("gap", GENESIS)
    assert refusal(await station.put(Batch(EPOCH, "fixes", 2**70, bytes(32), payload))).code == "gap"
    await station.bring("fixes", payload)
    await station.bring_fixes(fix_row(10))
    head = station.heads[EPOCH, "fixes"]
    other = encode_fixes(columns_of([fix_row(5)]))
    for batch in (
        Batch(EPOCH, "fixes", 2, bytes(32), other),
        Batch(EPOCH, "fixes", 1, bytes(32), other),
        Batch(EPOCH, "fixes", 3, b"x" * 32, other),
    ):
        forked = refusal(await station.put(batch))
        assert (forked.code, forked.head) == ("fork", head)
    assert cloud.count("fixes") == 2


async def test_streams_are_apart_by_station_epoch_and_channel(cloud: Cloud, station: Station) -> None:
    await station.bring_fixes(fix_row(0))
    await station.bring_operations(operation("animal", "a1", {"name": "Alpha", "species": "elephant"}))
    other = cloud.station("post-2")
    receipt = await other.bring_fixes(fix_row(0))
    assert receipt.counts == {"duplicate": 1}
    station.epoch = "f" * 16
    assert (await station.bring_fixes(fix_row(0))).n == 1
    answer = await station.send("GET", f"/streams/{EPOCH}")
    heads = msgspec.msgpack.decode(answer.content, type=Heads)
    assert heads.heads == {
        "records": station.heads[EPOCH, "records"], "fixes": station.heads[EPOCH, "fixes"],
    }  # fmt: skip
    answer = await station.send("GET", "/streams/0000000000000000")
    assert msgspec.msgpack.decode(answer.content, type=Heads).heads == {}


async def test_two_cards_that_write_by_turns_under_one_name_are_told_and_a_station_that_starts_over_is_not(
    cloud: Cloud, station: Station
) -> None:
    async def doubled() -> Any:
        (shown,) = (await cloud.client.get("/api/v1/stations/")).json()
        return shown["doubled_at"]

    await station.bring_fixes(fix_row(0))
    station.epoch = "f" * 16  # it was put back, and begins anew
    for minute in (1, 2):
        await station.bring_fixes(fix_row(minute))
    assert await doubled() is None
    batch = Batch(EPOCH, "fixes", 1, GENESIS.hash, encode_fixes(columns_of([fix_row(0)])))
    assert (await station.put(batch)).status_code == 200  # what was late and is a repeat says nothing
    assert await doubled() is None
    station.epoch = EPOCH  # the card that was copied goes on as if nothing had been
    await station.bring_fixes(fix_row(3))
    assert await doubled() is not None
    assert cloud.count("fixes") == 4  # and what both bring is taken


async def test_what_was_damaged_on_the_way_is_corrupt_and_changes_nothing(cloud: Cloud, station: Station) -> None:
    batch = station.batch("fixes", encode_fixes(columns_of([fix_row(minutes * 50_000) for minutes in range(9)])))
    damaged = bytearray(batch.payload)
    damaged[-1] ^= 1
    for answer in (
        await station.put(batch, body=bytes(damaged)),
        await station.put(batch, hash=b"x" * 32),
        await station.put(replace(batch, prev_hash=b"y" * 32), hash=batch.hash),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, CorruptBatch.code)
    assert (cloud.count("fixes"), cloud.count("streams"), cloud.count("quarantine")) == (0, 0, 0)
    assert (await station.put(batch)).status_code == 200


async def test_a_request_that_names_no_stream_is_invalid(cloud: Cloud, station: Station) -> None:
    payload = encode_fixes(columns_of([fix_row(0)]))
    good = Batch(EPOCH, "fixes", 1, bytes(32), payload)
    for batch in (
        replace(good, n=0), replace(good, channel="gossip"), replace(good, epoch="0" * 15),
        replace(good, epoch="0" * 15 + "G"), replace(good, epoch="0" * 15 + "A"),
    ):  # fmt: skip
        answer = await station.put(batch)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), batch
    path = f"/streams/{EPOCH}/fixes/batches/1"
    for headers in (
        {},
        {PREVIOUS: "00" * 32},
        {PREVIOUS: "00" * 32, HASH: "00" * 31},
        {PREVIOUS: "00" * 32, HASH: "0x" + "0" * 62},
    ):
        assert (await station.send("PUT", path, body=payload, headers=headers)).status_code == 400
    assert (await station.send("PUT", f"/streams/{EPOCH}/fixes/batches/-1", body=payload)).status_code in (400, 404)
    assert cloud.count("streams") == 0


async def test_a_batch_that_is_too_large_is_refused_before_it_is_read(cloud: Cloud, station: Station) -> None:
    whole = Batch(EPOCH, "fixes", 1, bytes(32), bytes(MAX_BATCH_BYTES))
    assert (await station.put(whole)).status_code == 200  # unreadable, and of a size that is read
    answer = await station.put(Batch(EPOCH, "records", 1, bytes(32), bytes(MAX_BATCH_BYTES + 1)))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("channel", ["fixes", "records"])
@pytest.mark.parametrize("payload", [
    b"", b"\xcb", b"no batch at all", encode_records([]) + b"x", b"\xcbF\x00", b"\xcbR\x00", bytes(range(256)),
])  # fmt: skip
async def test_an_unreadable_batch_with_a_right_hash_is_kept_and_the_stream_goes_on(
    cloud: Cloud, station: Station, channel: str, payload: bytes
) -> None:
    receipt = await station.bring(channel, payload)
    assert receipt.counts == {"quarantined": 1}
    ((place, outcome, code),) = [(each.place, each.outcome, each.code) for each in receipt.exceptions]
    assert (place, outcome, code) == (0, "quarantined", "invalid")
    kept = cloud.ask("SELECT station_id, epoch, channel, n, code, body FROM quarantine")
    assert kept == [("post-1", EPOCH, channel, 1, "invalid", payload)]
    await station.bring_fixes(fix_row(0))
    assert (await station.bring_operations()).counts == {}
    assert cloud.count("fixes") == 1


# --- one transaction ------------------------------------------------------------------------------------------------

_FAILING = """
CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NEW; END $$;
CREATE TRIGGER failing BEFORE {} FOR EACH ROW EXECUTE FUNCTION fail()
"""
#: Where a batch can break off: at its receipt, at its head, at its numbers in the change log.
STEPS = {"INSERT ON receipts": "receipts", "UPDATE ON streams": "streams", "UPDATE ON counters": "counters"}
ENDS = {
    "an error": "RAISE EXCEPTION 'as a test wants it';",
    "a lost connection": "PERFORM pg_terminate_backend(pg_backend_pid());",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("step", STEPS)
async def test_rows_receipt_head_and_numbers_are_there_together_or_not_at_all(
    cloud: Cloud, station: Station, step: str, end: str
) -> None:
    fixes = station.batch("fixes", encode_fixes(columns_of([fix_row(0), fix_row(1)])))
    records = station.batch("records", encode_records([alpha()]))
    cloud.ask(_FAILING.format(ENDS[end], step))
    try:
        for batch in (fixes, records):
            answer = await station.put(batch)
            assert (answer.status_code, answer.json()["code"]) == (503, "store")
        for table in ("fixes", "collars", "animals", "receipts", "streams", "changes", "applied_operations"):
            assert cloud.count(table) == 0, table
    finally:
        cloud.ask(f"DROP TRIGGER failing ON {STEPS[step]}")
    for batch in (fixes, records):
        assert (await station.put(batch)).status_code == 200
    assert (cloud.count("fixes"), cloud.count("animals"), cloud.count("receipts")) == (2, 1, 2)


# --- changes --------------------------------------------------------------------------------------------------------


async def fill(cloud: Cloud, station: Station) -> None:
    store = cloud.store
    for n in range(5):
        await store.create_animal(VIEW, {"id": f"a{n}", "name": f"A{n}", "species": "elephant"})
    await station.bring_fixes(fix_row(0, "K7"), fix_row(0, "animal:a0", source="manual"))
    await store.create_deployment(VIEW, {"id": "d1", "collar_id": "K1", "animal_id": "a1", "started_at": START})
    await store.create_zone(VIEW, {"id": "z1", "name": "Z", "zone_type": "road", "geometry": SQUARE})
    await store.create_corridor(VIEW, {"id": "c1", "name": "C", "geometry": SQUARE})
    await store.create_observation(VIEW, {"id": "o1", "animal_id": "a1"})
    await store.update_animal(VIEW, "a1", {"name": "Other", "collar_id": "K2"})
    await store.delete_animal(VIEW, "a2")
    await store.put_collar(VIEW, "K3", {"aliases": ["K7"]})
    await store.update_animal(VIEW, "a3", {"notes": "late"})


def last_of_each(records: list[Record]) -> dict[tuple[str, str], Record]:
    return {(record.entity, record.id): record for record in records}


async def test_pages_of_any_size_give_the_same_records_tombstones_among_them(cloud: Cloud, station: Station) -> None:
    await fill(cloud, station)
    whole = last_of_each(await station.all_changes(limit=1_000))
    assert len(whole) == 5 + 4 + 2 + 1 + 1 + 1
    assert {identity for (_, identity), record in whole.items() if record.is_deleted} == {"a2", "K7", "d1"}
    assert whole["collar", "K3"].columns["aliases"] in (["K7"], ("K7",))
    for limit in range(1, 12):
        assert last_of_each(await station.all_changes(limit=limit)) == whole
    end = await station.changes()
    assert (end.is_more, end.next) == (False, cloud.ask("SELECT max(seq) FROM changes")[0][0])
    after = await station.changes(end.next, epoch=end.epoch)
    assert (after.next, after.is_more, decode_records(after.batch, Record)) == (end.next, False, [])
    assert cloud.ask("SELECT cursor FROM stations") == [(end.next,)]


async def test_animals_and_collars_come_no_later_than_the_deployments_that_name_them(
    cloud: Cloud, station: Station
) -> None:
    await fill(cloud, station)
    for limit in (1, 2, 3, 1_000):
        seen: set[str] = set()
        n_deployments = 0
        for record in await station.all_changes(limit=limit):
            seen.add(record.id)
            if record.entity == "deployment":
                n_deployments += 1
                assert {record.columns["animal_id"], record.columns["collar_id"]} <= seen
        assert n_deployments > 0


async def test_a_cursor_of_another_life_of_the_cloud_or_of_its_future_is_stale(cloud: Cloud, station: Station) -> None:
    await fill(cloud, station)
    end = await station.changes()
    for query in (
        f"since={end.next}&epoch={'0' * 16}", f"since={end.next}", f"since={end.next + 1}&epoch={end.epoch}",
        f"since={2**70}&epoch={end.epoch}",
    ):  # fmt: skip
        answer = await station.send("GET", "/changes", query)
        assert (answer.status_code, answer.json()["code"]) == (410, "must_refetch")
    assert (await station.send("GET", "/changes", f"since=0&epoch={'0' * 16}")).status_code == 200
    for query in ("since=-1", "limit=0", "limit=1001", "since=x"):
        assert (await station.send("GET", "/changes", query)).status_code == 400


def area(rings: int, digits: int, seed: int) -> str:
    """Return an area whose text no compression makes small: triangles with long numbers."""
    rng = random.Random(seed)
    ring = "[[0,0],[1,{}],[1,1],[0,0]]"
    rings_of = ",".join(ring.format(f"0.{rng.randrange(10**digits):0{digits}}") for _ in range(rings))
    return f'{{"type":"Polygon","coordinates":[{rings_of}]}}'


async def make_zone(cloud: Cloud, identity: str, geometry: str) -> None:
    columns = {"id": identity, "name": "Z", "zone_type": "road", "geometry": geometry}
    await cloud.store.create_zone(VIEW, columns)


async def test_large_areas_make_a_page_smaller(cloud: Cloud, station: Station) -> None:
    for n in range(4):
        await make_zone(cloud, f"z{n}", area(500, 2_000, n))
    page = await station.changes()
    assert page.is_more
    assert {record.id for record in await station.all_changes(limit=1_000)} == {f"z{n}" for n in range(4)}


async def test_an_area_that_no_batch_holds_stops_nobody(cloud: Cloud, station: Station) -> None:
    await make_zone(cloud, "z1", SQUARE)
    await make_zone(cloud, "z2", SQUARE)
    await make_zone(cloud, "z3", SQUARE)
    # nobody can enter such a one any more; it is what an import straight into the database leaves
    cloud.ask("UPDATE zones SET geometry = %s WHERE id = 'z2'", area(1_000, 4_000, 1))
    assert [record.id for record in await station.all_changes(limit=10)] == ["z1", "z3"]


async def test_changes_that_a_station_brought_come_back_to_it_with_the_clouds_ruling(
    cloud: Cloud, station: Station
) -> None:
    await station.bring_operations(alpha())
    (record,) = await station.all_changes(limit=10)
    assert (record.id, record.rev, record.cloud_rev) == ("a1", 1, 0)
    assert {mark.origin for mark in record.marks.values()} == {"post-1"}


async def test_a_batch_of_a_later_version_is_held_and_nothing_of_it_is_put_aside(
    cloud: Cloud, station: Station
) -> None:
    later = pack(RECORDS, 2, [b"what only a later program can read"])
    made = Batch(station.epoch, "records", 1, GENESIS.hash, later)
    for _ in range(2):
        answer = await station.put(made)
        assert (answer.status_code, answer.json()["code"]) == (426, "batch_too_new")
    for table in ("quarantine", "receipts", "sync_items"):
        assert cloud.count(table) == 0
    await station.bring("alerts", encode_records([]))
    await station.bring_operations(alpha())  # its number is free
