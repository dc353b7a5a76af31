"""Operations that stations bring to the cloud: in their order, once, and what is refused is kept and said."""

from __future__ import annotations

import hashlib
import random

import msgspec
import pytest
from msgspec.structs import replace

from cloud.store.accounts import PostgresTables
from cloud.sync.queue import CloudQueue
from shared.domain import FixFlag
from shared.errors import Conflict
from shared.privacy import Principal
from shared.store import FixQuery
from shared.sync import blobs, log
from shared.sync.decisions import Decision
from shared.sync.operations import Operation
from shared.sync.streams import Exceptional
from shared.wire.batch import encode_records
from tests.clouds import START_MS, VIEW, Cloud, Station, alpha, fix_row, noise, operation

pytestmark = [pytest.mark.integration, pytest.mark.sync, pytest.mark.asyncio(loop_scope="module")]

SQUARE = '{"type":"Polygon","coordinates":[[[37,-2],[38,-2],[38,-3],[37,-2]]]}'


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
