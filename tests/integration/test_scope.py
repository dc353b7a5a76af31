"""What a station is told of lies in its scope: an area, animals, what it brings; it enters, stays and leaves."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest

from cloud.store import scope, stations
from cloud.store.scope import Scope
from shared.errors import Invalid, NotFound
from shared.sync.clashes import Clash
from shared.sync.operations import STANDS_FOR, Operation
from shared.sync.records import SCOPED, Record
from shared.wire.batch import decode_fixes, decode_records
from shared.wire.link import OWN, Changes, Clashes, HeardFixes
from tests.clouds import START_MS, VIEW, Cloud, Station, fix_row, operation, rows_of, serving, wipe
from tests.fakes import START

pytestmark = [pytest.mark.integration, pytest.mark.sync]

DAY: Final = 24 * 60
INSIDE: Final = {"lon_e7": 375_000_000, "lat_e7": -25_000_000}
OUTSIDE: Final = {"lon_e7": 395_000_000, "lat_e7": -25_000_000}


def square(lon: float, lat: float, half: float = 0.5) -> str:
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    ring = [[lon + half * x, lat + half * y] for x, y in corners]
    return msgspec.json.encode({"type": "Polygon", "coordinates": [ring]}).decode()


AREA: Final = square(37.5, -2.5)


@pytest.fixture
async def cloud(database_url: str) -> AsyncIterator[Cloud]:
    """Give an empty cloud."""
    wipe(database_url)
    async with serving(database_url) as cloud:
        yield cloud


async def limit(cloud: Cloud, station_id: str, **wanted: Any) -> None:
    async with cloud.database.transaction() as connection:
        await stations.set_scope(connection, station_id, Scope(**wanted))


class Replica:
    """What a station has that takes every page of changes as it comes."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.cursor = 0
        self.rows: dict[tuple[str, str], Record] = {}
        self.left: list[tuple[str, str]] = []

    async def pull(self, page_size: int = 3) -> set[tuple[str, str]]:
        """Take what is new, and return the records that came."""
        came: set[tuple[str, str]] = set()
        while True:
            epoch = (await self.station.changes(0, limit=1)).epoch
            page: Changes = await self.station.changes(self.cursor, limit=page_size, epoch=epoch)
            for key in page.left:
                self.rows.pop(key, None)
                self.left.append(key)
            records: list[Record] = decode_records(page.batch, Record)
            for record in records:
                assert (record.entity, record.id) not in page.left
                self.rows[record.entity, record.id] = record
                came.add((record.entity, record.id))
                for column in ("animal_id", "collar_id") if record.entity == "deployment" else ():
                    assert (column.removesuffix("_id"), record.columns[column]) in self.rows
            self.cursor = page.next
            if not page.is_more:
                return came

    @property
    def living(self) -> set[tuple[str, str]]:
        return {key for key, record in self.rows.items() if not record.is_deleted}


async def heard(station: Station, limit: int = 5_000) -> list[dict[str, Any]]:
    """Read every fix that comes down, page after page."""
    found: list[dict[str, Any]] = []
    query = f"since=0&limit={limit}"
    while True:
        answer = await station.send("GET", "/heard", query)
        assert answer.status_code == 200, answer.text
        page = msgspec.msgpack.decode(answer.content, type=HeardFixes)
        found += rows_of(decode_fixes(page.batch))
        if not page.is_more:
            return found
        query = f"since={page.next}&epoch={page.epoch}&limit={limit}" + (f"&after={page.after}" if page.after else "")


async def wearing(cloud: Cloud, name: str, collar_id: str) -> str:
    """Enter an animal in the cloud that wears a collar."""
    animal = await cloud.store.create_animal(VIEW, {"name": name, "species": "elephant"})
    await cloud.store.create_deployment(
        VIEW, {"animal_id": animal.id, "collar_id": collar_id, "started_at": START, "ended_at": None}
    )
    return animal.id


async def test_a_station_with_an_area_is_told_of_what_lies_in_it_and_of_no_more(cloud: Cloud) -> None:
    north, south = cloud.station("post-1"), cloud.station("post-2")
    near, far = await wearing(cloud, "Near", "K1"), await wearing(cloud, "Far", "K2")
    here = await cloud.store.create_zone(VIEW, zone(37.8))
    buffered = await cloud.store.create_zone(VIEW, zone(38.08, buffer_m=4_000.0))
    there = await cloud.store.create_zone(VIEW, zone(39.5))
    await south.bring_fixes(
        *(fix_row(minute, "K1", **INSIDE) for minute in range(5)),
        *(fix_row(minute, "K2", **OUTSIDE) for minute in range(5)),
        fix_row(0, "K3", **INSIDE),
        fix_row(0, "K4", **OUTSIDE),
    )
    everything = Replica(south)
    await everything.pull()
    await limit(cloud, "post-1", area=AREA)
    told = Replica(north)
    await told.pull()

    names = {key for key in told.living if key[0] != "deployment"}
    assert names == {("animal", near), ("collar", "K1"), ("collar", "K3"), ("zone", here.id), ("zone", buffered.id)}
    assert [record.columns["animal_id"] for (kind, _), record in told.rows.items() if kind == "deployment"] == [near]
    assert {("animal", far), ("zone", there.id), ("collar", "K4")} <= everything.living
    assert {(row["collar_id"], row["raw_ms"]) for row in await heard(north, limit=2)} == {
        *(("K1", START_MS + minute * 60_000) for minute in range(5)), ("K3", START_MS)
    }  # fmt: skip
    assert await heard(south) == []  # without a scope what stations brought goes to nobody


async def test_what_enters_comes_down_with_its_fixes_and_what_leaves_goes(cloud: Cloud) -> None:
    north, south = cloud.station("post-1"), cloud.station("post-2")
    first, second = await wearing(cloud, "First", "K1"), await wearing(cloud, "Second", "K2")
    await south.bring_fixes(*(fix_row(minute, f"K{1 + minute % 2}", **OUTSIDE) for minute in range(40)))
    await north.bring_operations(operation("animal", "mine", {"name": "Mine", "species": "lion"}))
    told = Replica(north)
    await told.pull()
    assert {("animal", first), ("animal", second), ("animal", "mine")} <= told.living

    await limit(cloud, "post-1", animals=[first])
    await told.pull()
    assert {key for key in told.living if key[0] in ("animal", "collar")} == {
        ("animal", first), ("animal", "mine"), ("collar", "K1")
    }  # fmt: skip
    assert {row["collar_id"] for row in await heard(north)} == {"K1"}

    await limit(cloud, "post-1", animals=[first, second])
    came = await told.pull()
    assert {("animal", second), ("collar", "K2")} <= came
    assert len({(row["collar_id"], row["raw_ms"]) for row in await heard(north, limit=7)}) == 40

    await limit(cloud, "post-1", animals=[])
    await told.pull()
    assert {key for key in told.living if key[0] in ("animal", "collar", "deployment")} == {("animal", "mine")}
    assert await heard(north) == []

    await limit(cloud, "post-1")
    await told.pull()
    assert {("animal", first), ("animal", second), ("animal", "mine"), ("collar", "K1")} <= told.living
    assert not cloud.count("station_rows")


async def test_an_animal_is_in_the_area_for_thirty_days_after_it_was_there(cloud: Cloud) -> None:
    north, south = cloud.station("post-1"), cloud.station("post-2")
    walker = await wearing(cloud, "Walker", "K1")
    await limit(cloud, "post-1", area=AREA)
    told = Replica(north)
    for day, place, is_told in (
        (0, OUTSIDE, False), (1, INSIDE, True), (2, OUTSIDE, True), (31, OUTSIDE, True), (32, OUTSIDE, False),
        (20, INSIDE, True),  # it came late, and was there twelve days before the newest
    ):  # fmt: skip
        await south.bring_fixes(fix_row(day * DAY, "K1", **place))
        await told.pull()
        assert (("animal", walker) in told.living, ("collar", "K1") in told.living) == (is_told, is_told), day


async def test_what_a_station_hears_itself_is_in_its_scope_with_what_wears_it(cloud: Cloud) -> None:
    north, south = cloud.station("post-1"), cloud.station("post-2")
    animal = await wearing(cloud, "Visitor", "K1")
    await south.bring_fixes(fix_row(0, "K1", **OUTSIDE))
    await limit(cloud, "post-1", animals=[])
    told = Replica(north)
    await told.pull()
    assert ("animal", animal) not in told.living
    told.left.clear()
    await north.bring_fixes(fix_row(0, "K1", **OUTSIDE))  # a copy: no fix is new, the station is
    await told.pull()
    assert {("animal", animal), ("collar", "K1")} <= told.living
    assert told.left == []


async def test_what_a_station_says_of_a_record_out_of_its_scope_is_answered_with_its_leaving(cloud: Cloud) -> None:
    north = cloud.station("post-1")
    animal = await cloud.store.create_animal(VIEW, {"name": "Other", "species": "elephant"})
    told = Replica(north)
    await told.pull()
    await limit(cloud, "post-1", animals=[])
    said = operation("animal", animal.id, {"notes": "limps"}, kind="update", base_rev=1)
    receipt = await north.bring_operations(said)
    assert receipt.counts == {"applied": 1}
    await told.pull()
    assert ("animal", animal.id) not in told.rows
    assert (await cloud.store.animal(VIEW, animal.id)).notes == "limps"
    cursor = told.cursor
    await north.bring_operations(msgspec.structs.replace(said, id="again"))
    page = await north.changes(cursor, epoch=(await north.changes()).epoch)
    assert page.left == [("animal", animal.id)]


async def test_conflicts_are_told_where_their_record_is_in_scope_and_when_it_enters(cloud: Cloud) -> None:
    north, south = cloud.station("post-1"), cloud.station("post-2")
    animal = await cloud.store.create_animal(VIEW, {"name": "Contested", "species": "elephant"})
    await limit(cloud, "post-1", animals=[])
    await cloud.store.update_animal(VIEW, animal.id, {"status": "missing"})
    await south.bring_operations(
        operation("animal", animal.id, {"status": "deceased"}, kind="update", base_rev=1, id="loses")
    )

    async def told(station: Station, since: int) -> tuple[list[Clash], int]:
        epoch = (await station.changes()).epoch
        answer = await station.send("GET", "/conflicts", f"since={since}&epoch={epoch}")
        page = msgspec.msgpack.decode(answer.content, type=Clashes)
        return page.clashes, page.next

    assert len((await told(south, 0))[0]) == 1
    nothing, cursor = await told(north, 0)
    assert nothing == []
    await limit(cloud, "post-1", animals=[animal.id])
    (clash,), _ = await told(north, cursor)
    assert (clash.row_id, clash.status) == (animal.id, "open")


async def test_observations_come_down_of_animals_in_scope_of_its_area_and_its_own(cloud: Cloud) -> None:
    north, south = Replica(cloud.station("post-1")), cloud.station("post-2")
    near, far = await wearing(cloud, "Near", "K1"), await wearing(cloud, "Far", "K2")
    await limit(cloud, "post-1", area=AREA, animals=[near])

    def seen(identity: str, **columns: Any) -> Operation:
        columns = {"observation_type": "sighting", "recorded_ms": START_MS, **columns}
        return operation("observation", identity, columns, id=f"op-{identity}")

    await south.bring_operations(
        seen("of-near", animal_id=near), seen("of-far", animal_id=far), seen("of-far-here", animal_id=far, **INSIDE),
        seen("here", **INSIDE), seen("there", **OUTSIDE), seen("of-nobody"),
    )  # fmt: skip
    await north.station.bring_operations(seen("own", **OUTSIDE), seen("own-of-far", animal_id=far))
    await north.pull()
    told = {identity for entity, identity in north.living if entity == "observation"}
    assert told == {"of-near", "here", "of-far-here", "own", "own-of-far"}
    assert ("animal", far) not in north.living
    await limit(cloud, "post-1", area=AREA, animals=[far])  # with the animal go and come its observations
    await north.pull()
    told = {identity for entity, identity in north.living if entity == "observation"}
    assert told == {"of-far", "here", "of-far-here", "own", "own-of-far"}
    await limit(cloud, "post-1")
    await north.pull()
    assert len([key for key in north.living if key[0] == "observation"]) == 8


async def test_of_alerts_and_patrols_a_station_is_told_what_became_of_its_own_alone(cloud: Cloud) -> None:
    north, south = Replica(cloud.station("post-1")), Replica(cloud.station("post-2"))
    raised = {"alert_type": "rapid_movement", "title": "Runs", "detected_ms": START_MS}
    await north.station.bring_operations(
        operation("alert", "a1", raised),
        operation("patrol", "p1", {"started_ms": START_MS, "note": "fence"}),
        operation("patrol_log", "l1", {"log_type": "checkpoint", "title": "Gate", "recorded_ms": START_MS}),
    )
    await south.station.bring_operations(operation("alert", "a2", raised, id="op-a2"))
    await cloud.store.update_alert(VIEW, "a1", {"status": "acknowledged", "acknowledged_by": "ann"})
    assert await north.pull() >= {("alert", "a1"), ("patrol", "p1"), ("patrol_log", "l1")}
    assert north.rows["alert", "a1"].columns["status"] == "acknowledged"
    await south.pull()
    assert {key for key in south.living if key[0] in OWN} == {("alert", "a2")}
    await limit(cloud, "post-1", area=AREA)  # a scope takes none of them
    await cloud.store.update_alert(VIEW, "a1", {"status": "resolved"})
    await north.pull()
    assert north.rows["alert", "a1"].columns["status"] == "resolved"
    assert not [key for key in north.left if key[0] in OWN]


async def test_the_newest_fix_of_each_collar_can_be_had_before_the_others(cloud: Cloud) -> None:
    north, south = cloud.station("post-1"), cloud.station("post-2")
    await south.bring_fixes(*(fix_row(minute, f"K{1 + minute % 3}", **INSIDE) for minute in range(30)))
    await limit(cloud, "post-1", area=AREA)
    answer = await north.send("GET", "/heard/newest", "since=0")
    newest = rows_of(decode_fixes(msgspec.msgpack.decode(answer.content, type=HeardFixes).batch))
    assert sorted((row["collar_id"], row["raw_ms"]) for row in newest) == [
        ("K1", START_MS + 27 * 60_000), ("K2", START_MS + 28 * 60_000), ("K3", START_MS + 29 * 60_000)
    ]  # fmt: skip
    answer = await north.send("GET", "/heard/newest", "since=0&limit=1")
    (first,) = rows_of(decode_fixes(msgspec.msgpack.decode(answer.content, type=HeardFixes).batch))
    assert first["collar_id"] == "K3"


async def test_a_scope_that_is_none_is_refused_and_changes_nothing(cloud: Cloud) -> None:
    cloud.station("post-1")
    with pytest.raises(Invalid):
        await limit(cloud, "post-1", area='{"type":"Point","coordinates":[37,-2]}')
    with pytest.raises(NotFound, match="animal"):
        await limit(cloud, "post-1", animals=["nobody"])
    with pytest.raises(NotFound, match="station"):
        await limit(cloud, "post-9", area=AREA)
    assert cloud.ask("SELECT scope_area, scope_animals FROM stations") == [(None, None)]


async def test_administrators_read_and_set_it_over_http(cloud: Cloud) -> None:
    cloud.station("post-1")
    path = "/api/v1/stations/post-1/scope"
    assert (await cloud.client.get(path)).json() == {"area": None, "animals": None}
    asked = {"area": msgspec.json.decode(AREA), "animals": None}
    answer = await cloud.client.put(path, json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json() == asked == (await cloud.client.get(path)).json()
    (shown,) = (await cloud.client.get("/api/v1/stations/")).json()
    assert shown["has_scope"] is True
    assert (await cloud.client.put(path, json={"area": None, "animal": []})).status_code == 400
    assert (await cloud.client.put("/api/v1/stations/post-9/scope", json={})).status_code == 404


@pytest.mark.parametrize("seed", range(20 if os.environ.get("OUTPOST_NIGHTLY") else 2))
async def test_whatever_happens_a_station_has_what_is_in_its_scope_as_reckoned_from_the_start(
    cloud: Cloud, seed: int
) -> None:
    rng = random.Random(seed)
    posts = [cloud.station(f"post-{number}") for number in (1, 2, 3)]
    replicas = [Replica(post) for post in posts]
    animals = [await wearing(cloud, f"A{number}", f"K{number}") for number in range(4)]
    zones: list[str] = []
    for turn in range(40):
        await happen(cloud, rng, turn, posts, animals, zones)
        if rng.random() < 0.5:
            await rng.choice(replicas).pull(rng.choice((1, 2, 50)))
    for replica in replicas:
        await replica.pull()
    for replica in replicas:
        kept = await in_scope(cloud, replica.station.id)
        living = {key for entity in SCOPED for key in living_of(cloud, entity)}
        if kept is not None:
            assert kept == await reckoned(cloud, replica.station.id), replica.station.id
            living &= kept
        assert {key for key in replica.living if key[0] in SCOPED} == living, replica.station.id


async def happen(
    cloud: Cloud, rng: random.Random, turn: int, posts: list[Station], animals: list[str], zones: list[str]
) -> None:
    """Do something that may bring records into a scope or take them out."""
    post, chance = rng.choice(posts), rng.random()
    if chance < 0.45:
        day = rng.choice((rng.randrange(40), rng.randrange(200)))
        place = rng.choice((INSIDE, OUTSIDE))
        await post.bring_fixes(fix_row(day * DAY + turn, f"K{rng.randrange(6)}", **place))
    elif chance < 0.6:
        some = rng.sample(animals, rng.randrange(len(animals)))
        area = rng.choice((AREA, square(39.5, -2.5), None))
        await limit(
            cloud, post.id, **rng.choice(({"area": area}, {"animals": some}, {"area": area, "animals": some}, {}))
        )
    elif chance < 0.7:
        made = await cloud.store.create_zone(VIEW, zone(rng.choice((37.8, 39.2))))
        zones.append(made.id)
    elif chance < 0.75 and zones:
        await cloud.store.update_zone(
            VIEW, rng.choice(zones), {"geometry": square(rng.choice((37.8, 39.2)), -2.5, 0.05)}
        )
    elif chance < 0.85:
        await post.bring_operations(
            operation("animal", f"of-{turn}", {"name": "New", "species": "lion"}, id=f"op-{turn}"),
            operation(
                "animal", rng.choice(animals), {"notes": f"n{turn}"}, id=f"note-{turn}", kind="update", base_rev=1
            ),
        )
        animals.append(f"of-{turn}")
    elif chance < 0.9:
        seen = {"observation_type": "sighting", "recorded_ms": START_MS + turn, **rng.choice((INSIDE, OUTSIDE, {}))}
        whose = {"animal_id": rng.choice(animals)} if rng.random() < 0.5 else {}
        await post.bring_operations(operation("observation", f"seen-{turn}", seen | whose, id=f"see-{turn}"))
    elif chance < 0.95:
        worn = (await cloud.store.deployments(VIEW, animal_id=None, collar_id=None, offset=0, limit=50)).results
        if worn:
            chosen = rng.choice(worn)
            await cloud.store.update_deployment(VIEW, chosen.id, {"collar_id": f"N{turn}"})
    else:
        worn = (await cloud.store.deployments(VIEW, animal_id=None, collar_id=None, offset=0, limit=50)).results
        if worn:
            await cloud.store.delete_deployment(VIEW, rng.choice(worn).id)


def zone(lon: float, **more: Any) -> dict[str, Any]:
    return {"name": "Z", "zone_type": "road", "geometry": square(lon, -2.5, 0.05), **more}


def living_of(cloud: Cloud, entity: str) -> list[tuple[str, str]]:
    table = {"patrol_route": "patrol_routes"}.get(entity, f"{entity}s")
    found = cloud.ask(f"SELECT id FROM {table} WHERE deleted_ms IS NULL")
    return [(entity, identity) for (identity,) in found if not identity.startswith(STANDS_FOR)]


async def in_scope(cloud: Cloud, station_id: str) -> set[tuple[str, str]] | None:
    async with cloud.database.snapshot() as connection:
        if not await scope.is_limited(connection, station_id):
            return None
    return set(cloud.ask("SELECT entity, row_id FROM station_rows WHERE station_id = %s", station_id))


async def reckoned(cloud: Cloud, station_id: str) -> set[tuple[str, str]]:
    """Return what is in a station's scope as it is reckoned of all that is stored, in a transaction that is undone."""
    async with cloud.database.snapshot() as connection:
        wanted = await scope.scope_of(connection, station_id)
    async with cloud.database.transaction() as connection, connection.transaction(force_rollback=True):
        await connection.execute("DELETE FROM station_rows WHERE station_id = %s", (station_id,))
        await scope.assign(connection, station_id, wanted)
        rows = await connection.execute("SELECT entity, row_id FROM station_rows WHERE station_id = %s", (station_id,))
        found: set[tuple[str, str]] = set(await rows.fetchall())
    return found
