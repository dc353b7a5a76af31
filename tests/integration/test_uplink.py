"""Stations and the cloud over HTTP: what is acknowledged is stored once, what cannot be stored is kept and said."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from msgspec.structs import replace

from cloud.store.accounts import PostgresTables
from cloud.store.stations import new_code, retire
from cloud.sync.queue import CloudQueue
from shared.domain import FixFlag
from shared.errors import Conflict, CorruptBatch
from shared.ids import fix_id, id_text
from shared.movement.quality import ROLLOVER_MS
from shared.privacy import Principal
from shared.store import FixQuery
from shared.sync import blobs, log
from shared.sync.decisions import Decision
from shared.sync.operations import Operation
from shared.sync.records import Record, to_ms
from shared.sync.streams import GENESIS, Batch, Exceptional, Receipt
from shared.wire.batch import MAX_BATCH_BYTES, decode_records, encode_fixes, encode_records
from shared.wire.batch.container import RECORDS, pack
from shared.wire.link import HASH, MESSAGES, PREVIOUS, Enrolled, Heads
from shared.wire.signatures import new_key, sign
from tests.clouds import EPOCH, START_MS, VIEW, Cloud, Station, columns_of, fix_row, operation, refusal, serving, wipe
from tests.fakes import START
from tests.services import Postgres

pytestmark = [pytest.mark.integration, pytest.mark.sync, pytest.mark.asyncio(loop_scope="module")]

SQUARE = '{"type":"Polygon","coordinates":[[[37,-2],[38,-2],[38,-3],[37,-2]]]}'


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    """Give one database to all tests here; each finds it empty."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(url: str) -> AsyncIterator[Cloud]:
    """Give one application to all tests here: making one takes longer than most of them."""
    async with serving(url) as cloud:
        yield cloud


@pytest_asyncio.fixture(loop_scope="module")
async def cloud(served: Cloud) -> AsyncIterator[Cloud]:
    wipe(served.url)
    served.clock.at = START
    yield served
    counted, rows, last, lines = served.ask(
        "SELECT (SELECT value FROM counters WHERE name = 'fixes'), (SELECT count(*) FROM fixes),"
        " (SELECT value FROM counters WHERE name = 'change'), (SELECT count(*) FROM changes)"
    )[0]
    assert (counted, last) == (rows, lines)


@pytest.fixture
def station(cloud: Cloud) -> Station:
    return cloud.station()


# --- enrolment ------------------------------------------------------------------------------------------------------


async def code_for(cloud: Cloud, identity: str = "post-1", minutes: int = 10) -> str:
    async with cloud.database.transaction() as connection:
        return await new_code(connection, identity, f"Post {identity}", to_ms(cloud.clock.now()), minutes * 60_000)


async def enrol(cloud: Cloud, code: str, public: bytes) -> httpx.Response:
    return await cloud.client.post("/api/v1/stations/enrol", json={"code": code, "public_key": public.hex()})


async def test_a_code_lets_a_station_in_under_the_clouds_name_for_it(cloud: Cloud) -> None:
    seed, public = new_key()
    code = await code_for(cloud)
    assert [len(part) for part in code.split("-")] == [4, 4, 4, 4]
    answer = await enrol(cloud, code, public)
    assert answer.status_code == 201
    enrolled = msgspec.json.decode(answer.content, type=Enrolled)
    station = Station(cloud.client, enrolled.station_id, seed, EPOCH)
    assert (enrolled.station_id, enrolled.name) == ("post-1", "Post post-1")
    assert enrolled.cloud_epoch == (await station.changes()).epoch


async def test_a_code_is_read_as_people_type_it(cloud: Cloud) -> None:
    code = (await code_for(cloud)).lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert (await enrol(cloud, code, new_key()[1])).status_code == 201


async def test_a_code_that_is_unknown_expired_or_used_by_another_is_refused_alike(cloud: Cloud) -> None:
    unknown = await enrol(cloud, "0000-0000-0000-0000", new_key()[1])
    code = await code_for(cloud, "post-2")
    assert (await enrol(cloud, code, new_key()[1])).status_code == 201
    used = await enrol(cloud, code, new_key()[1])
    code = await code_for(cloud, "post-3", minutes=10)
    cloud.clock.tick(601)
    expired = await enrol(cloud, code, new_key()[1])
    assert [each.status_code for each in (unknown, used, expired)] == [403, 403, 403]
    assert unknown.json() == used.json() == expired.json()
    assert cloud.ask("SELECT id FROM stations") == [("post-2",)]


async def test_after_a_lost_answer_the_same_code_and_key_are_answered_again(cloud: Cloud) -> None:
    code, public = await code_for(cloud), new_key()[1]
    answers = [await enrol(cloud, code, public) for _ in range(3)]
    assert {each.status_code for each in answers} == {201}
    assert len({each.content for each in answers}) == 1


async def test_a_new_code_replaces_the_key_and_an_older_code_is_worth_nothing(cloud: Cloud) -> None:
    old_seed, old = new_key()
    seed, public = new_key()
    assert (await enrol(cloud, await code_for(cloud), old)).status_code == 201
    forgotten = await code_for(cloud)
    assert (await enrol(cloud, await code_for(cloud), public)).status_code == 201
    assert (await enrol(cloud, forgotten, old)).status_code == 403
    refused = await Station(cloud.client, "post-1", old_seed, EPOCH).send("GET", "/changes")
    assert refused.status_code == 401
    assert (await Station(cloud.client, "post-1", seed, EPOCH).send("GET", "/changes")).status_code == 200


async def test_a_retired_station_is_refused_until_a_new_code_lets_it_in(cloud: Cloud) -> None:
    seed, public = new_key()
    code = await code_for(cloud)
    await enrol(cloud, code, public)
    async with cloud.database.transaction() as connection:
        await retire(connection, "post-1", START_MS)
    station = Station(cloud.client, "post-1", seed, EPOCH)
    assert (await station.send("GET", "/changes")).status_code == 401
    assert (await enrol(cloud, code, public)).status_code == 403
    assert (await enrol(cloud, await code_for(cloud), public)).status_code == 201
    assert (await station.send("GET", "/changes")).status_code == 200


async def test_two_stations_with_one_code_at_once_are_one(cloud: Cloud) -> None:
    code = await code_for(cloud)
    answers = await asyncio.gather(*(enrol(cloud, code, new_key()[1]) for _ in range(4)))
    assert sorted(each.status_code for each in answers) == [201, 403, 403, 403]


@pytest.mark.parametrize("said", [
    {"code": "0000-0000-0000-0000", "public_key": "00"}, {"code": "0000-0000-0000-0000", "public_key": "z" * 64},
    {"code": "what?", "public_key": "00" * 32}, {"code": "\0" * 16, "public_key": "00" * 32}, {"code": 7}, {}, [],
])  # fmt: skip
async def test_what_is_no_enrolment_is_invalid(cloud: Cloud, said: Any) -> None:
    answer = await cloud.client.post("/api/v1/stations/enrol", json=said)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


# --- signatures -----------------------------------------------------------------------------------------------------


async def test_a_request_is_refused_unless_the_station_of_the_path_signed_it_as_it_came(
    cloud: Cloud, station: Station
) -> None:
    other = cloud.station("post-2")
    seed, _ = new_key()
    path = f"{station.path}/changes"

    async def answer_to(headers: dict[str, str], query: str = "since=0", body: bytes = b"") -> int:
        answer = await cloud.client.request("GET", f"{path}?{query}", content=body, headers=headers)
        return answer.status_code

    good = sign(station._seed, station.id, "GET", path, "since=0", b"")
    assert await answer_to(good) == 200
    assert await answer_to({}) == 401
    assert await answer_to(good, query="since=1") == 401
    assert await answer_to(good, query="") == 401
    assert await answer_to(good, body=b"{}") == 401
    assert await answer_to(sign(station._seed, station.id, "PUT", path, "since=0", b"")) == 401
    assert await answer_to(sign(station._seed, station.id, "GET", path + "x", "since=0", b"")) == 401
    assert await answer_to(sign(other._seed, other.id, "GET", path, "since=0", b"")) == 401
    assert await answer_to(sign(other._seed, station.id, "GET", path, "since=0", b"")) == 401
    assert await answer_to(sign(seed, "nobody", "GET", path, "since=0", b"")) == 401


async def test_a_station_that_nobody_knows_is_answered_as_a_wrong_signature(cloud: Cloud, station: Station) -> None:
    for identity in ("nobody", "post%2D2", "%FF"):
        path = f"/api/v1/stations/{identity}/changes"
        signed = sign(station._seed, station.id, "GET", path, "", b"")
        assert (await cloud.client.get(path, headers=signed)).status_code == 401


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


# --- fixes ----------------------------------------------------------------------------------------------------------


async def test_fixes_are_counted_as_new_enriched_or_duplicate_and_have_the_stations_ids(
    cloud: Cloud, station: Station
) -> None:
    receipt = await station.bring_fixes(fix_row(0), fix_row(10), fix_row(10, link="base"))
    assert receipt.counts == {"applied": 2, "duplicate": 1}
    receipt = await station.bring_fixes(fix_row(0, battery_mv=3600), fix_row(10, link="base"), fix_row(20))
    assert receipt.counts == {"applied": 2, "duplicate": 1}
    assert (receipt.exceptions, receipt.n) == ((), 2)
    ids = [id_text(fix_id("K1", START_MS + ms, 375_000_000, -25_000_000)) for ms in (0, 600_000, 1_200_000)]
    assert [str(identity) for (identity,) in cloud.ask("SELECT id FROM fixes ORDER BY id")] == ids
    assert cloud.ask("SELECT battery_mv, link FROM fixes ORDER BY id") == [(3600, None), (None, "base"), (None, None)]


async def test_fixes_hang_on_animals_that_the_sender_named_and_on_stand_ins(cloud: Cloud, station: Station) -> None:
    await station.bring_operations(
        operation("animal", "a1", {"name": "Alpha", "species": "elephant"}),
        operation("animal", "a2", {"name": "Beta", "species": "lion"}),
        operation("deployment", "d1", {"collar_id": "K2", "animal_id": "a2", "started_ms": START_MS}),
    )
    receipt = await station.bring_fixes(
        fix_row(0, said_animal_id="a1"),
        fix_row(0, "K2", said_animal_id="a1"),
        fix_row(0, "animal:a1", source="manual"),
        fix_row(0, "K3", said_animal_id="nobody"),
    )
    assert receipt.counts == {"applied": 4}
    wearers = cloud.ask(
        "SELECT c.id, a.id FROM fixes f JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.animal_pk"
        " ORDER BY 1"
    )
    assert wearers == [("K1", "a1"), ("K2", "a2"), ("K3", None), ("animal:a1", "a1")]
    page = await cloud.store.collars(VIEW, search=None, offset=0, limit=10)
    assert [collar.id for collar in page.results] == ["K1", "K2", "K3"]


async def test_a_stand_in_that_comes_before_its_animal_is_that_animals_once_it_comes(
    cloud: Cloud, station: Station
) -> None:
    await station.bring_fixes(fix_row(0, "animal:a1", source="manual"))
    await station.bring_operations(operation("animal", "a1", {"name": "Alpha", "species": "elephant"}))
    assert cloud.ask("SELECT a.id FROM fixes f JOIN animals a ON a.pk = f.animal_pk") == [("a1",)]
    assert (await cloud.store.collars(VIEW, search=None, offset=0, limit=10)).count == 0
    assert [record.entity for record in await station.all_changes(limit=10)] == ["animal"]


async def test_text_keeps_all_but_the_character_zero(cloud: Cloud, station: Station) -> None:
    receipt = await station.bring_fixes(fix_row(0, "K\0", notes="a\0b", link="\0", local_id="ÿ\u2028'\"\\\t"))
    assert receipt.counts == {"applied": 1}
    row = cloud.ask("SELECT c.id, notes, link, local_id FROM fixes f JOIN collars c ON c.pk = f.collar_pk".replace(
        "notes", "f.notes"))  # fmt: skip
    assert row == [("K\ufffd", "a\ufffdb", "\ufffd", "ÿ\u2028'\"\\\t")]
    assert cloud.count("station_collars") == 1


async def test_whatever_numbers_a_fix_holds_it_is_stored_or_kept_and_can_be_read(
    cloud: Cloud, station: Station
) -> None:
    big = 2**63 - 1
    last_ms = 253_402_128_000_000  # 9999-12-30
    rows = [
        fix_row(0, "N", lon_e7=big, lat_e7=-big),
        fix_row(0, "N", lon_e7=1_800_000_001, lat_e7=0),
        fix_row(0, "N", lon_e7=None, lat_e7=None, sats=big, seq=-big, battery_mv=big),
        fix_row(1, "N", alt_m=1.7e308, hdop=1.7e308, speed_mps=-1.7e308, rssi_dbm=big),
        fix_row(0, "T", raw_ms=last_ms), fix_row(0, "T", raw_ms=0), fix_row(0, "T", raw_ms=-62_135_596_800_000),
        fix_row(0, "T", received_ms=last_ms, sure_received_ms=last_ms),
    ]  # fmt: skip
    assert (await station.bring_fixes(*rows)).counts == {"applied": len(rows)}
    beyond = [
        fix_row(0, "B", raw_ms=big), fix_row(0, "B", raw_ms=-big), fix_row(0, "B", raw_ms=last_ms + 1),
        fix_row(0, "B", received_ms=big), fix_row(0, "B", received_ms=None, sure_received_ms=None),
        fix_row(1, "B", sure_received_ms=-big), fix_row(2, "B", network_ms=big),
    ]  # fmt: skip
    receipt = await station.bring_fixes(*beyond)
    assert receipt.counts == {"quarantined": len(beyond)}
    assert {each.code for each in receipt.exceptions} == {"invalid"}
    assert sorted(each.place for each in receipt.exceptions) == list(range(len(beyond)))
    assert (cloud.count("quarantine"), cloud.count("fixes")) == (len(beyond), len(rows))
    answer = await cloud.client.get("/api/v1/tracking/?page_size=100")
    assert (answer.status_code, answer.json()["count"]) == (200, len(rows))
    out_of_range = cloud.ask("SELECT count(*) FROM fixes WHERE flags & %s <> 0 AND geom IS NULL",
                             int(FixFlag.OUT_OF_RANGE))  # fmt: skip
    assert out_of_range == [(2,)]
    for collar_id in ("N", "T"):
        sent = sorted(map(repr, (row for row in rows if row["collar_id"] == collar_id)))
        found = [{name: row[name] for name in row if row[name] is not None} for row in await station.fixes(collar_id)]
        assert len(found) == len(sent)


def noise(seed: int) -> str:
    """Return a long text that no compression makes small."""
    return "".join(map(chr, random.Random(seed).choices(range(33, 900), k=9_000)))


POISONS: dict[str, dict[str, Any]] = {
    "an animal's id with the character 0": {"said_animal_id": "\0"},
    "a collar's id that no index holds": {"collar_id": noise(1)},
    "no time of reception": {"received_ms": None},
    "a time that no calendar has": {"raw_ms": 2**62},
    "a collar without a name": {"collar_id": ""},
    "a collar whose name is a prefix": {"collar_id": "collar:"},
}  # fmt: skip


@pytest.mark.parametrize("poison", POISONS)
async def test_one_fix_that_cannot_be_stored_is_kept_alone_with_all_that_it_held(
    cloud: Cloud, station: Station, poison: str
) -> None:
    rows = [fix_row(minutes, notes=f"n{minutes}") for minutes in range(200)]
    rows[77] |= {"alt_m": 12.5, **POISONS[poison]}
    receipt = await station.bring_fixes(*rows)
    assert receipt.counts == {"applied": 199, "quarantined": 1}
    assert len(receipt.exceptions) == 1
    ((channel, n, body),) = cloud.ask("SELECT channel, n, body FROM quarantine")
    assert (channel, n) == ("fixes", 1)
    assert msgspec.msgpack.decode(body) == columns_row(rows[77])
    flags = cloud.ask("SELECT DISTINCT flags FROM fixes")
    assert flags == [(0,)]
    assert (await station.bring_fixes(fix_row(300))).counts == {"applied": 1}


def columns_row(row: dict[str, Any]) -> dict[str, Any]:
    return {name: values[0] for name, values in columns_of([row]).items()}


async def test_every_fix_of_a_batch_may_be_unfit_and_the_batch_is_still_answered(
    cloud: Cloud, station: Station
) -> None:
    receipt = await station.bring_fixes(*(fix_row(minutes, said_animal_id="\0") for minutes in range(9)))
    assert receipt.counts == {"quarantined": 9}
    assert (cloud.count("collars"), cloud.count("changes")) == (0, 0)
    assert (await station.bring_fixes()).counts == {}


async def test_a_station_reads_the_fixes_of_collars_that_it_brought_and_of_no_others(
    cloud: Cloud, station: Station
) -> None:
    rows = [fix_row(minutes, link="base", alt_m=minutes / 10) for minutes in range(11)]
    rows += [fix_row(0, raw_ms=START_MS - ROLLOVER_MS, link="base", alt_m=9.0)]  # corrected: time and id disagree
    await station.bring_fixes(*rows)
    other = cloud.station("post-2")
    assert await other.fixes("K1") == []
    await other.bring_fixes(fix_row(0, "K2"), fix_row(0))
    for limit in (1, 2, 3, 11, 12, 13, 5_000):
        found = await station.fixes("K1", limit=limit)
        key = lambda row: (row["raw_ms"], row["lon_e7"])  # noqa: E731  three words, used twice
        assert sorted(found, key=key) == sorted(map(columns_row, rows), key=key)
    assert len(await other.fixes("K1")) == 12
    assert await station.fixes("K2") == []
    assert await station.fixes("nobody") == []
    for query in ("collar_id=K1&after=zz", "collar_id=K1&limit=0", "collar_id=K1&limit=5001", "limit=1"):
        assert (await station.send("GET", "/fixes", query)).status_code == 400
    assert (await station.send("GET", "/fixes", "collar_id=%00")).status_code in (200, 400)


async def test_a_station_reads_the_fixes_of_a_collar_that_its_own_became(cloud: Cloud, station: Station) -> None:
    await station.bring_fixes(fix_row(0, "eui:01"), fix_row(1, "eui:01"))
    await cloud.store.put_collar(VIEW, "K1", {"aliases": ["eui:01"]})
    found = await station.fixes("K1")
    assert [(row["collar_id"], row["raw_ms"]) for row in found] == [("K1", START_MS), ("K1", START_MS + 60_000)]


# --- records --------------------------------------------------------------------------------------------------------


def alpha(**fields: Any) -> Operation:
    return operation("animal", "a1", {"name": "Alpha", "species": "elephant"}, **fields)


async def test_operations_are_applied_in_their_order(cloud: Cloud, station: Station) -> None:
    receipt = await station.bring_operations(
        alpha(),
        operation("animal", "a1", {"name": "Beta"}, id="2", kind="update", base_rev=1),
        operation("collar", "K1", {"aliases": ["eui:01"]}, id="3"),
        operation("deployment", "d1", {"collar_id": "eui:01", "animal_id": "a1", "started_ms": START_MS}, id="4"),
        operation("animal", "a1", {"name": "Gamma"}, id="5", kind="update", base_rev=2),
        operation("animal", "a2", {"name": "Delta", "species": "lion"}, id="6"),
        operation("animal", "a2", id="7", kind="delete", base_rev=1),
    )
    assert receipt.counts == {"applied": 7}
    animal = await cloud.store.animal(VIEW, "a1")
    assert (animal.name, animal.rev, animal.collar_id) == ("Gamma", 3, "K1")
    assert cloud.ask("SELECT name, deleted_ms, rev FROM animals WHERE id = 'a2'") == [("Delta", START_MS, 2)]
    assert cloud.ask("SELECT DISTINCT origin FROM changes") == [("post-1",)]
    assert cloud.ask("SELECT DISTINCT author FROM animals") == [("warden",)]


async def test_an_operation_is_taken_once_over_whatever_stream_it_comes(cloud: Cloud, station: Station) -> None:
    first = operation("animal", "a1", {"name": "Beta"}, id="2", kind="update", base_rev=1)
    assert (await station.bring_operations(alpha(), first, first)).counts == {"applied": 2, "duplicate": 1}
    await cloud.store.update_animal(VIEW, "a1", {"name": "Gamma"})
    for again in (station, cloud.station("post-2")):
        again.epoch = "f" * 16
        assert (await again.bring_operations(alpha(), first)).counts == {"duplicate": 2}
    animal = await cloud.store.animal(VIEW, "a1")
    assert (animal.name, animal.rev) == ("Gamma", 3)


async def test_an_operation_that_was_refused_once_stays_refused(cloud: Cloud, station: Station) -> None:
    early = operation("deployment", "d1", {"collar_id": "K1", "animal_id": "a1", "started_ms": START_MS})
    assert (await station.bring_operations(early)).counts == {"quarantined": 1}
    assert (await station.bring_operations(alpha(), early)).counts == {"applied": 1, "duplicate": 1}
    assert cloud.count("quarantine") == 1


async def test_a_decision_on_a_fix_is_taken_once_and_only_on_what_the_station_brought(
    cloud: Cloud, station: Station
) -> None:
    row = fix_row()
    key = {name: row[name] for name in ("collar_id", "raw_ms", "lon_e7", "lat_e7")}
    out = Decision(id="d1", is_excluded=True, **key)
    early = await station.bring("flags", encode_records([out]))
    assert (early.counts, early.exceptions[0].code) == ({"quarantined": 1}, "not_found")
    await station.bring_fixes(row)
    later = Decision(id="d2", is_excluded=True, **key)
    assert (await station.bring("flags", encode_records([later, later]))).counts == {"applied": 1, "duplicate": 1}
    (fix,) = (await cloud.store.fixes(VIEW, FixQuery())).results
    assert fix.flags & FixFlag.EXCLUDED_BY_HAND
    foreign = Decision(id="d3", is_excluded=False, **key)
    receipt = await cloud.station("post-2").bring("flags", encode_records([foreign]))
    assert receipt.counts == {"quarantined": 1}
    back = Decision(id="d4", is_excluded=False, **key)
    assert (await station.bring("flags", encode_records([back]))).counts == {"applied": 1}
    (fix,) = (await cloud.store.fixes(VIEW, FixQuery())).results
    assert not fix.flags & FixFlag.EXCLUDED_BY_HAND


async def test_what_was_refused_is_taken_when_a_person_tries_it_again(cloud: Cloud, station: Station) -> None:
    early = operation("deployment", "d1", {"collar_id": "K1", "animal_id": "a1", "started_ms": START_MS})
    await station.bring_operations(early)
    queue, tables = CloudQueue(cloud.store, now=cloud.clock.now), PostgresTables(cloud.database)
    _, (item,) = await tables.read(log.items(log.EVERYBODY, "failed", 0, 10))
    assert (item.data_type, item.device_id, item.form) == ("deployment", "post-1", "operation")
    item = await queue.retry(item)
    assert (item.status, item.attempts) == ("failed", 2)
    await station.bring_operations(alpha())
    item = await queue.retry(item)
    assert (item.status, item.attempts, item.error_message) == ("completed", 3, None)
    assert (await cloud.store.animal(VIEW, "a1")).collar_id == "K1"
    with pytest.raises(Conflict, match="somebody else"):
        await queue.retry(msgspec.structs.replace(item, status="failed", attempts=2))
    count, sessions = await tables.read(log.sessions(log.EVERYBODY, 0, 10))
    assert (count, {each.path for each in sessions}, sum(each.failed for each in sessions)) == (2, {"batch"}, 1)


async def test_a_file_of_a_station_is_readable_by_those_who_may_see_its_station(cloud: Cloud, station: Station) -> None:
    content = random.Random(8).randbytes(5_000)
    name = hashlib.sha256(content).hexdigest()
    path = f"/blobs/{name}"
    assert (await station.send("GET", path)).status_code == 404
    for offset in (0, 2_000):
        part = content[offset : offset + 2_000 if not offset else None]
        asked = f"size=5000&offset={offset}&owner=r1"
        told = await station.send("PUT", path, asked, part, {"Content-Type": "image/png"})
        assert told.status_code == 200, told.text
    assert (await station.send("GET", path)).json()["received"] == 5_000
    tables = PostgresTables(cloud.database)
    blob = await tables.read(blobs.find(name))
    assert blob is not None
    assert (blob.owner, blob.origin, blob.is_whole) == ("r1", "post-1", True)
    assert await tables.read(blobs.read(name, 0, 5_000)) == content
    may = [
        blob.is_open_to(Principal(user_id=user, role="ranger", stations=stations))
        for user, stations in (("r1", ()), ("r2", ("post-1",)), ("r2", ("post-2",)), ("r2", None))
    ]
    assert may == [True, True, False, True]


BAD: list[tuple[str, Operation]] = [
    ("no column", operation("animal", "a9", {"name": "N", "species": "s", "wings": 2})),
    ("no column, unspeakable", operation("animal", "a9", {"name": "N", "species": "s", "a\0b": 2})),
    ("required", operation("animal", "a9", {"name": "N"})),
    ("a wrong kind", operation("animal", "a9", {"name": 7, "species": "s"})),
    ("a nested kind", operation("animal", "a9", {"name": [["x"]], "species": {"a": "\0"}})),
    ("a wrong word", operation("animal", "a9", {"name": "N", "species": "s", "status": "asleep"})),
    ("the character 0", operation("animal", "a9", {"name": "N\0", "species": "s"})),
    ("the character 0 in the id", operation("animal", "a\0", {"name": "N", "species": "s"}, id="z")),
    ("the character 0 in a reference", operation("deployment", "d", {
        "collar_id": "K\0", "animal_id": "a\0", "started_ms": 0})),
    ("the character 0 in the author", operation("animal", "a9", {"name": "N", "species": "s"}, author="a\0")),
    ("the character 0 in its own id", operation("animal", "a9", {"name": "N", "species": "s"}, id="o\0")),
    ("no id", operation("animal", "a9", {"name": "N", "species": "s"}, id="")),
    ("an id that no index holds", operation("animal", "a9", {"name": "N", "species": "s"}, id=noise(2))),
    ("a name that no index holds", operation("animal", "a9", {"species": "s", "name": noise(3)})),
    ("a row that no index holds", operation("animal", noise(4), {"name": "N", "species": "s"}, id="z")),
    ("a number beyond all", operation("animal", "a9", {"name": "N", "species": "s", "age": 2**63})),
    ("an instant beyond all", operation("animal", "a9", {"name": "N", "species": "s"}, made_ms=2**62)),
    ("no such animal", operation("deployment", "d", {"collar_id": "K1", "animal_id": "x", "started_ms": 0})),
    ("a corridor that is nowhere", operation("corridor", "c", {"name": "C", "start_lon_e7": 0, "start_lat_e7": 0})),
    ("a width beyond all", operation("corridor", "c", {"name": "C", "geometry": SQUARE, "width_m": 1e300})),
    ("a geometry that is none", operation("zone", "z", {"name": "Z", "zone_type": "road", "geometry": "["})),
]  # fmt: skip


@pytest.mark.parametrize(("what", "bad"), BAD, ids=[what for what, _ in BAD])
async def test_an_operation_that_is_refused_is_kept_alone(
    cloud: Cloud, station: Station, what: str, bad: Operation
) -> None:
    before = [operation("animal", f"b{n}", {"name": f"B{n}", "species": "lion"}) for n in range(3)]
    after = [operation("animal", f"c{n}", {"name": f"C{n}", "species": "lion"}) for n in range(3)]
    receipt = await station.bring_operations(*before, bad, *after)
    assert receipt.counts == {"applied": 6, "quarantined": 1}
    ((place, outcome),) = [(each.place, each.outcome) for each in receipt.exceptions]
    assert (place, outcome) == (3, "quarantined")
    ((body,),) = cloud.ask("SELECT body FROM quarantine")
    kept = msgspec.msgpack.decode(body, type=Operation)
    assert replace(kept, origin="") == bad
    assert cloud.ask("SELECT count(*) FROM animals") == [(6,)]
    assert (await station.bring_operations(alpha())).counts == {"applied": 1}


async def test_a_clash_keeps_the_clouds_value_and_says_what_was_lost(cloud: Cloud, station: Station) -> None:
    await station.bring_operations(alpha())
    await cloud.store.update_animal(VIEW, "a1", {"name": "Cloud", "notes": None})
    receipt = await station.bring_operations(
        operation("animal", "a1", {"name": "Station", "age": 7.0}, id="m", kind="update", base_rev=1),
        operation("animal", "a1", {"name": "Again"}, id="s", kind="update", base_rev=1),
    )
    assert receipt.counts == {"merged": 1, "superseded": 1}
    assert receipt.exceptions == (
        Exceptional(place=0, outcome="merged", lost=("name",)),
        Exceptional(place=1, outcome="superseded", lost=("name",)),
    )
    lost = cloud.ask("SELECT operation_id, entity, row_id, origin, author, columns, kept FROM lost_edits ORDER BY pk")
    origin = "post-1"
    assert lost == [
        ("m", "animal", "a1", origin, "warden", {"name": "Station"}, {"name": "Cloud"}),
        ("s", "animal", "a1", origin, "warden", {"name": "Again"}, {"name": "Cloud"}),
    ]
    animal = await cloud.store.animal(VIEW, "a1")
    assert (animal.name, animal.age) == ("Cloud", 7.0)


async def test_what_lost_alone_is_kept_too(cloud: Cloud, station: Station) -> None:
    await station.bring_operations(alpha())
    await cloud.store.update_animal(VIEW, "a1", {"name": "Cloud"})
    late = operation("animal", "a1", {"name": "Late"}, id="l", kind="update", base_rev=1)
    assert (await station.bring_operations(late)).counts == {"superseded": 1}
    assert cloud.ask("SELECT operation_id, columns, kept FROM lost_edits") == [
        ("l", {"name": "Late"}, {"name": "Cloud"}),
    ]  # fmt: skip


async def test_a_collar_that_two_stations_heard_becomes_one_with_all_fixes(cloud: Cloud, station: Station) -> None:
    await station.bring_fixes(fix_row(0, "eui:01"), fix_row(1, "eui:01"))
    await station.bring_fixes(fix_row(1, "K1"), fix_row(2, "K1"))
    receipt = await station.bring_operations(operation("collar", "K1", {"aliases": ["eui:01"]}))
    assert receipt.counts == {"applied": 1}
    other = cloud.station("post-2")
    receipt = await other.bring_operations(operation("collar", "eui:01", {"model": "M"}, id="late"))
    assert receipt.counts == {"alias": 1}
    assert (await other.bring_fixes(fix_row(2, "eui:01"), fix_row(3, "eui:01"))).counts == {
        "applied": 1, "duplicate": 1,
    }  # fmt: skip
    page = await cloud.client.get("/api/v1/tracking/?page_size=100")
    assert page.json()["count"] == 4
    assert cloud.ask("SELECT DISTINCT c.id FROM fixes f JOIN collars c ON c.pk = f.collar_pk") == [("K1",)]


async def test_a_batch_does_what_its_operations_do_one_by_one(cloud: Cloud, station: Station) -> None:
    """A collar that is taken off the list behind its last deployment stays off, however they come."""
    operations = [
        alpha(),
        operation("deployment", "d1", {"collar_id": "K1", "animal_id": "a1", "started_ms": START_MS}),
        operation("deployment", "d1", id="x", kind="delete", base_rev=1),
        operation("collar", "K1", id="y", kind="delete", base_rev=1),
    ]
    assert (await station.bring_operations(*operations)).counts == {"applied": 4}
    assert cloud.ask("SELECT deleted_ms IS NOT NULL, rev FROM collars") == [(True, 2)]


async def test_a_collar_that_got_fixes_in_the_same_batch_cannot_be_deleted_in_it(
    cloud: Cloud, station: Station
) -> None:
    await station.bring_fixes(fix_row(0, "eui:01"))
    receipt = await station.bring_operations(
        operation("collar", "K1", {"aliases": ["eui:01"]}), operation("collar", "K1", id="y", kind="delete", base_rev=1)
    )
    assert receipt.counts == {"applied": 1, "quarantined": 1}
    assert cloud.ask("SELECT id FROM collars WHERE deleted_ms IS NULL") == [("K1",)]


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
        for record in await station.all_changes(limit=limit):
            seen.add(record.id)
            if record.entity == "deployment":
                assert {record.columns["animal_id"], record.columns["collar_id"]} <= seen


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
