# ruff: noqa: ASYNC240 - the tests look at small files between steps; nothing else runs then
"""The station's store over a real encrypted SpatiaLite file: what the contract suite cannot see from outside."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edge.store import shell
from edge.store.driver import Connection, connect, load_spatialite, transaction
from edge.store.migrate import migrate, migrations, schema_version, statements
from edge.store.queries import list_fixes
from edge.store.store import SpatialiteStore
from edge.store.undecoded_frames import Undecoded
from shared.domain import FixFlag, HeardDevice, is_usable
from shared.errors import DatabaseCorrupt, Invalid, SchemaTooNew, StoreError, WrongKey
from shared.ids import fix_id
from shared.movement.quality import ROLLOVER_MS
from shared.store import AnimalQuery, BoundingBox, FixQuery, ObservationQuery
from shared.sync.records import to_ms
from tests.fakes import START, FakeClock
from tests.integration.station_store import (
    EUI,
    HOUR,
    KEY,
    VIEW,
    add,
    ask,
    assert_sound,
    deploy,
    elephant,
    fix_of,
    fixes,
    opened,
    outcomes,
)

pytestmark = pytest.mark.integration

ROLLOVER = timedelta(milliseconds=ROLLOVER_MS)


# --- one fix is one row
async def test_a_fix_over_two_links_http_and_a_replay_is_one_row(store: SpatialiteStore) -> None:
    await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    serial = fix_of(EUI, link="base-1", rssi_dbm=-90.0)
    copies = [
        replace(serial, link="broker", rssi_dbm=-80.0, received_at=START + HOUR),
        replace(serial, device="collar:K1", link=None, rssi_dbm=None),
        replace(serial, device="K1", source="imported", is_clock_sure=False, received_at=START + 9 * HOUR),
    ]
    assert outcomes(await add(store, serial)) == ["new"]
    for copy in copies:
        assert outcomes(await add(store, copy)) == ["duplicate"]
    assert outcomes(await add(store, serial, *copies)) == ["duplicate"] * 4
    (kept,) = await fixes(store)
    assert (kept.collar_id, kept.link, kept.rssi_dbm, kept.source) == ("K1", "base-1", -80.0, "collar")
    assert kept.received_at == START


async def test_a_richer_copy_fills_what_is_empty_and_the_more_cautious_value_stays(store: SpatialiteStore) -> None:
    await add(store, fix_of(hdop=1.0, sats=9, received_at=START + HOUR))
    richer = fix_of(hdop=2.0, sats=7, alt_m=1200.0, battery_mv=3600, received_at=START)
    assert outcomes(await add(store, richer)) == ["enriched"]
    assert outcomes(await add(store, richer)) == ["duplicate"]
    (kept,) = await fixes(store)
    assert (kept.hdop, kept.sats, kept.alt_m, kept.battery_mv, kept.received_at) == (2.0, 7, 1200.0, 3600, START)


async def test_a_copy_that_names_the_animal_gives_it_the_fix(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await add(store, fix_of())
    await add(store, fix_of(animal_id=animal_id))
    await add(store, fix_of("eui:02"), fix_of("eui:02", animal_id=animal_id))
    assert [fix.animal_id for fix in await fixes(store)] == [animal_id, animal_id]


async def test_a_ten_millionth_of_a_degree_survives(store: SpatialiteStore) -> None:
    places = [(37.3380611, -2.3828796), (-0.0000003, 89.9999999), (179.9999999, -89.9999999), (-180.0, 90.0)]
    for index, (lon, lat) in enumerate(places):
        await add(store, fix_of(at=START + index * HOUR, lon=lon, lat=lat))
    assert [(fix.lon_deg, fix.lat_deg) for fix in await fixes(store)] == places


async def test_a_batch_larger_than_every_statement_is_stored_once(store: SpatialiteStore) -> None:
    many = [fix_of(at=START + timedelta(minutes=10 * index)) for index in range(1500)]
    assert outcomes(await add(store, *many)) == ["new"] * 1500
    assert outcomes(await add(store, *many[::-1], *many)) == ["duplicate"] * 3000
    assert (await store.facts()).fixes == 1500


# --- broken positions and clocks
async def test_a_failed_fix_is_an_event_without_geometry(store: SpatialiteStore) -> None:
    await add(store, fix_of(lon=None, lat=None), fix_of(at=START + HOUR))
    failed, good = await fixes(store)
    assert failed.flags == FixFlag.NO_FIX
    assert (failed.lon_deg, failed.lat_deg) == (None, None)
    assert good.flags == 0
    assert await ask(store, "SELECT count(*) FROM fixes WHERE geom IS NULL") == [(1,)]
    assert outcomes(await add(store, fix_of(lon=None, lat=None, battery_mv=3600))) == ["enriched"]


async def test_a_position_off_the_globe_is_kept_without_geometry(store: SpatialiteStore) -> None:
    await add(store, fix_of(lon=200.0), fix_of(at=START + HOUR, lat=-90.0000001))
    assert [fix.flags & FixFlag.OUT_OF_RANGE for fix in await fixes(store)] == [FixFlag.OUT_OF_RANGE] * 2
    assert (await fixes(store))[0].lon_deg == 200.0
    assert await ask(store, "SELECT count(*) FROM fixes WHERE geom IS NOT NULL") == [(0,)]
    assert await ask(store, "SELECT count(*) FROM idx_fixes_geom") == [(0,)]


async def test_the_future_is_flagged_on_a_sure_clock_only(store: SpatialiteStore) -> None:
    ahead = fix_of(at=START + 2 * HOUR, received_at=START)
    await add(store, replace(ahead, is_clock_sure=False))
    assert [fix.flags for fix in await fixes(store)] == [0]
    await add(store, ahead)
    assert [fix.flags for fix in await fixes(store)] == [FixFlag.FUTURE]


@pytest.mark.parametrize("has_deployment_first", [True, False])
async def test_a_week_rollover_is_corrected_within_the_deployment(
    store: SpatialiteStore, has_deployment_first: bool
) -> None:
    animal_id = await elephant(store)
    raw = START + HOUR - ROLLOVER
    rolled = fix_of(at=raw, received_at=START + HOUR, is_clock_sure=False)
    if has_deployment_first:
        await deploy(store, animal_id, end=START + 9 * HOUR)
    (added,) = await add(store, rolled)
    if not has_deployment_first:
        assert (await store.fix(VIEW, added.id)).recorded_at == raw
        await deploy(store, animal_id, end=START + 9 * HOUR)
    (kept,) = await fixes(store)
    assert (kept.recorded_at, kept.raw_recorded_at) == (START + HOUR, raw)
    assert (kept.id, kept.animal_id, kept.flags) == (added.id, animal_id, FixFlag.WEEK_ROLLOVER)
    assert is_usable(kept.flags)
    assert outcomes(await add(store, rolled)) == ["duplicate"]


@pytest.mark.parametrize("is_one_batch", [True, False])
async def test_a_copy_on_a_sure_clock_corrects_a_rollover_that_the_first_could_not(
    store: SpatialiteStore, is_one_batch: bool
) -> None:
    unsure = fix_of(at=START - ROLLOVER, received_at=START, is_clock_sure=False)
    sure = replace(unsure, is_clock_sure=True, received_at=START + HOUR)
    for batch in [[unsure, sure]] if is_one_batch else [[unsure], [sure]]:
        await add(store, *batch)
    (kept,) = await fixes(store)
    assert (kept.recorded_at, kept.flags) == (START, FixFlag.WEEK_ROLLOVER)


# --- by hand
async def test_a_word_by_hand_survives_judging_again(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await deploy(store, animal_id)
    good, bad = await add(store, fix_of(), fix_of(at=START + HOUR, hdop=99.0))
    await store.flag_fix(VIEW, good.id, is_excluded=True)
    await store.flag_fix(VIEW, bad.id, is_excluded=False)
    await add(store, fix_of(at=START + timedelta(minutes=30)), fix_of(sats=9), fix_of(at=START + HOUR, alt_m=1.0))
    await store.update_animal(VIEW, animal_id, {"species": "lion"})
    assert (await store.fix(VIEW, good.id)).flags == FixFlag.EXCLUDED_BY_HAND
    assert (await store.fix(VIEW, bad.id)).flags == FixFlag.POOR_DOP | FixFlag.REINSTATED
    assert [fix.id for fix in await fixes(store, is_usable=False)] == [good.id]
    assert (await store.flag_fix(VIEW, good.id, is_excluded=False)).flags == 0


async def test_a_live_animal_is_shown_however_many_bad_fixes_are_newer(store: SpatialiteStore) -> None:
    animal_id = await elephant(store, collar_id=EUI)
    ahead = [fix_of(at=START + 999 * HOUR + index * HOUR, received_at=START) for index in range(120)]
    first, second, *_ = await add(store, fix_of(), fix_of(at=START + HOUR, received_at=START + HOUR), *ahead)
    (live,) = await store.live_animals(VIEW)
    assert live.animal.id == animal_id
    assert (live.fix.id, live.previous and live.previous.id) == (second.id, first.id)


# --- transactions, cursor, outbox
async def test_the_outbox_counts_every_fix_of_a_run(store: SpatialiteStore) -> None:
    await add(store, fix_of())
    before = (await store.facts()).outbox
    await add(store, *(fix_of(at=START + index * HOUR) for index in range(10)))
    assert (await store.facts()).outbox == before + 9
    covered = await ask(
        store, "SELECT count(*) FROM fixes f WHERE EXISTS (SELECT 1 FROM outbox o WHERE o.entity = 'fix'"
        " AND f.pk BETWEEN o.first_pk AND o.last_pk)",
    )  # fmt: skip
    assert covered == [(10,)]


async def test_what_fails_leaves_neither_rows_nor_outbox_nor_cursor(store: SpatialiteStore) -> None:
    await add(store, fix_of())
    before = await everything(store)

    def broken(reason: Any) -> Undecoded:
        return Undecoded(1, "base", "cobs", "", reason, START, 1, b"x")

    with pytest.raises(StoreError):
        await store.take_decoded(
            "decode", 9, [fix_of(at=START + HOUR), fix_of("eui:new")], [HeardDevice(EUI, 5)], [broken(None)]
        )
    assert await everything(store) == before
    assert await store.cursor("decode") == 0

    class Mishap(Exception):
        pass

    def job(db: Connection) -> None:
        db.execute("INSERT INTO cursors VALUES ('x', 1)")
        raise Mishap

    with pytest.raises(Mishap):
        await store.write(job)
    assert await everything(store) == before
    stored = await store.take_decoded("decode", 9, [fix_of(at=START + HOUR)], [], [broken("reason")])
    assert [each.outcome for each in stored] == ["new"]
    assert await store.cursor("decode") == 9


async def everything(store: SpatialiteStore) -> list[Any]:
    tables = ("fixes", "collars", "animals", "deployments", "outbox", "cursors", "undecoded", "counters")
    return [await ask(store, f"SELECT * FROM {table}") for table in tables]


async def test_the_cursor_never_goes_back(store: SpatialiteStore) -> None:
    await store.take_decoded("decode", 9, [], [], [])
    await store.take_decoded("decode", 4, [], [], [])
    assert await store.cursor("decode") == 9
    assert await store.cursor("other") == 0


async def test_writes_from_many_tasks_are_all_there(store: SpatialiteStore) -> None:
    await asyncio.gather(*(add(store, fix_of(f"K{index % 7}", START + index * HOUR)) for index in range(60)))
    assert (await store.facts()).fixes == 60


async def test_closing_finishes_what_is_queued(path: Path, clock: FakeClock) -> None:
    store = SpatialiteStore(path, KEY, now=clock.now, synchronous="NORMAL")
    writes = [asyncio.create_task(add(store, fix_of(at=START + index * HOUR))) for index in range(20)]
    await asyncio.sleep(0)
    await store.close()
    assert [outcomes(added) for added in await asyncio.gather(*writes)] == [["new"]] * 20
    again = SpatialiteStore(path, KEY, now=clock.now)
    assert (await again.facts()).fixes == 20
    await again.close()


async def test_another_process_that_writes_makes_this_one_look_again(
    store: SpatialiteStore, path: Path, clock: FakeClock
) -> None:
    await add(store, fix_of())  # collar and neighbourhood are in this one's memory now
    other = SpatialiteStore(path, KEY, now=clock.now, synchronous="NORMAL")
    try:
        animal_id = await elephant(other)
        await deploy(other, animal_id)
        # 500 m off a minute later: only who knows both neighbours can tell that the middle one is wrong
        await add(other, fix_of(at=START + timedelta(minutes=2), lat=-2.5001))
        await add(store, fix_of(at=START + timedelta(minutes=1), lat=-2.6))
        assert [fix.animal_id for fix in await fixes(store)] == [animal_id] * 3
        assert [fix.flags for fix in await fixes(store)] == [0, FixFlag.IMPOSSIBLE_SPEED, 0]
        assert outcomes(await add(store, fix_of(at=START + timedelta(minutes=2), lat=-2.5001))) == ["duplicate"]
    finally:
        await other.close()


# --- lists
async def test_paging_is_complete_and_stable_though_times_are_equal(store: SpatialiteStore) -> None:
    await add(store, *(fix_of(f"K{index}", START) for index in range(23)))
    for ordering in ("timestamp", "-timestamp", "received_at", "-received_at", "created_at", "-created_at"):
        seen: list[str] = []
        for offset in range(0, 23, 5):
            page = await store.fixes(VIEW, FixQuery(ordering=ordering, offset=offset, limit=5))
            assert page.count == 23
            seen += [fix.id for fix in page.results]
        assert len(set(seen)) == 23
    with pytest.raises(Invalid, match="ordering"):
        await store.fixes(VIEW, FixQuery(ordering="f.pk; DROP TABLE fixes"))


@pytest.mark.parametrize(
    ("search", "found"),
    [("%", ["5% up"]), ("_", ["a_b"]), ("\\", ["c\\d"]), ("A_B", ["a_b"]), ("'", [])],
)
async def test_search_takes_every_sign_literally(store: SpatialiteStore, search: str, found: list[str]) -> None:
    for index, name in enumerate(("5% up", "a_b", "axb", "c\\d")):
        animal_id = await elephant(store, name, collar_id=f"K{index}")
        await add(store, fix_of(f"K{index}"))
        await store.create_observation(VIEW, {"animal_id": animal_id, "description": name})
    assert [each.name for each in (await store.animals(VIEW, AnimalQuery(search=search))).results] == found
    assert len(await fixes(store, search=search)) == len(found)
    page = await store.observations(VIEW, ObservationQuery(search=search))
    assert [each.description for each in page.results] == found


BOXES = [
    (BoundingBox(west=10, south=-5, east=20, north=5), ["in", "edge-ne", "edge-sw"]),
    (BoundingBox(west=10.0000001, south=-5, east=20, north=5), ["in", "edge-ne"]),
    (BoundingBox(west=10, south=-5, east=19.9999999, north=5), ["in", "edge-sw"]),
    (BoundingBox(west=10, south=-4.9999999, east=20, north=4.9999999), ["in"]),
    (BoundingBox(west=170, south=-90, east=-170, north=90), ["far-east", "far-west", "dateline"]),
    (BoundingBox(west=179.9999999, south=0, east=-179.9999999, north=0), ["dateline"]),
    (
        BoundingBox(west=-180, south=-90, east=180, north=90),
        ["in", "edge-ne", "edge-sw", "far-east", "far-west", "dateline"],
    ),
    (BoundingBox(west=15, south=0, east=15, north=0), ["in"]),
    (BoundingBox(west=16, south=1, east=17, north=2), []),
]  # fmt: skip


@pytest.mark.parametrize(("box", "found"), BOXES)
async def test_a_box_includes_its_edges_and_crosses_the_antimeridian(
    store: SpatialiteStore, box: BoundingBox, found: list[str]
) -> None:
    places = {
        "in": (15.0, 0.0), "edge-ne": (20.0, 5.0), "edge-sw": (10.0, -5.0), "far-east": (175.0, 1.0),
        "far-west": (-175.0, 1.0), "dateline": (180.0, 0.0), "off": (200.0, 0.0),
    }  # fmt: skip
    await add(store, *(fix_of(name, lon=lon, lat=lat) for name, (lon, lat) in places.items()))
    await add(store, fix_of("failed", lon=None, lat=None))
    assert {fix.collar_id for fix in await fixes(store, bbox=box)} == set(found)
    assert (await store.fixes(VIEW, FixQuery(bbox=box, limit=1))).count == len(found)


class Spy:
    """A connection that notes what is asked."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self.asked: list[tuple[str, Any]] = []

    def execute(self, sql: str, values: Any = ()) -> Any:
        self.asked.append((sql, values))
        return self._db.execute(sql, values)


@pytest.mark.parametrize("west", [1.0, 179.0], ids=["plain", "antimeridian"])
async def test_a_box_is_answered_by_the_spatial_index(store: SpatialiteStore, west: float) -> None:
    query = FixQuery(bbox=BoundingBox(west=west, south=1, east=-179.0 if west > 2 else 2.0, north=2))

    def job(db: Connection) -> list[tuple[str, Any]]:
        spy = Spy(db)
        list_fixes(spy, query)
        return spy.asked

    asked = await store.read(job)
    assert len(asked) == 2  # the number and the page
    for sql, values in asked:
        plan = " | ".join(row[3] for row in await ask(store, f"EXPLAIN QUERY PLAN {sql}", *values))
        assert "idx_fixes_geom VIRTUAL TABLE INDEX 2" in plan
        assert "SCAN f " not in f"{plan} "


# --- opening
async def test_a_newer_database_is_refused_and_untouched(path: Path, clock: FakeClock) -> None:
    await SpatialiteStore(path, KEY, now=clock.now).close()
    db = connect(path, KEY, is_spatial=False)
    db.execute("PRAGMA user_version = 999")
    db.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match="schema 999"):
        SpatialiteStore(path, KEY, now=clock.now)
    assert path.read_bytes() == before


@pytest.mark.parametrize("key", [bytes(32), None], ids=["another", "none"])
async def test_the_wrong_key_is_refused_and_touches_nothing(path: Path, clock: FakeClock, key: bytes | None) -> None:
    await SpatialiteStore(path, KEY, now=clock.now).close()
    before = path.read_bytes()
    with pytest.raises(WrongKey):
        SpatialiteStore(path, key, now=clock.now)
    assert path.read_bytes() == before


def test_a_key_of_another_length_is_refused(path: Path) -> None:
    with pytest.raises(WrongKey, match="32 bytes"):
        connect(path, b"short")
    assert not path.exists()


async def test_a_station_without_encryption_works_and_says_so_in_its_bytes(path: Path, clock: FakeClock) -> None:
    store = SpatialiteStore(path, None, now=clock.now)
    await add(store, fix_of())
    await assert_sound(store)
    await store.close()
    assert path.read_bytes().startswith(b"SQLite format 3\x00")


async def test_an_encrypted_file_shows_nothing(store: SpatialiteStore, path: Path) -> None:
    await elephant(store, "Nellie the secret")
    for file in path.parent.iterdir():
        assert b"Nellie" not in file.read_bytes()
        assert b"SQLite format" not in file.read_bytes()


def test_a_migration_runs_whole_or_not_at_all(path: Path) -> None:
    db = connect(path, KEY)
    db.execute("SELECT InitSpatialMetaDataFull(1)")
    db.execute("CREATE TABLE observations (in_the_way)")
    with pytest.raises(Exception, match="observations already exists"):
        migrate(db)
    assert schema_version(db) == 0
    assert not db.in_transaction
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert not tables & {"animals", "collars", "fixes", "deployments"}
    db.execute("DROP TABLE observations")
    assert migrate(db) == len(migrations())
    assert migrate(db) == schema_version(db) == len(migrations())
    db.close()


SCHEMA_1 = f"""
INSERT INTO animals (pk, id, name, species, status, health_status, gender, author, rev, created_ms, updated_ms,
    deleted_ms)
  VALUES (1, 'a', 'Alpha', 'elephant', 'active', 'healthy', 'female', 'operator', 4, 5, 6, NULL),
         (2, 'b', 'Beta', 'elephant', 'active', 'healthy', 'female', 'operator', 2, 5, 6, 6);
INSERT INTO collars (pk, id, stands_for_animal_pk, model, last_heard_ms, rev, created_ms, updated_ms, deleted_ms)
  VALUES (1, '{EUI}~1', NULL, NULL, NULL, 2, 5, 6, 6), (2, 'K1', NULL, 'm', 7, 3, 5, 6, NULL),
         (3, 'eui:again~3', NULL, NULL, NULL, 2, 5, 6, 6), (4, 'eui:again', NULL, NULL, 7, 1, 6, 6, NULL),
         (5, 'eui:again~5', NULL, NULL, NULL, 2, 5, 6, 6), (6, 'animal:a', 1, NULL, NULL, 1, 5, 6, NULL);
INSERT INTO collar_aliases VALUES ('{EUI}', 2);
INSERT INTO deployments (pk, id, collar_pk, animal_pk, started_ms, rev, created_ms, updated_ms)
  VALUES (1, 'd', 2, 1, {to_ms(START)}, 2, 5, 6);
INSERT INTO fixes (id, collar_pk, animal_pk, recorded_ms, raw_ms, received_ms, sure_received_ms, lon_e7, lat_e7, flags,
    source, alt_m, geom)
  VALUES (x'{fix_id("K1", to_ms(START), 375000000, -25000000).hex()}', 2, 1, {to_ms(START)}, {to_ms(START)},
    {to_ms(START)}, {to_ms(START)}, 375000000, -25000000, 0, 'collar', 5.0, MakePoint(37.5, -2.5, 4326));
UPDATE counters SET value = 1;
INSERT INTO observations (pk, id, animal_pk, observation_type, description, recorded_ms, lon_e7, lat_e7, observer, rev,
    author, created_ms, updated_ms, deleted_ms)
  VALUES (1, 'o', 1, 'health', 'limps', 8, 375000000, -25000000, 'ranger', 3, 'operator', 5, 6, NULL),
         (2, 'p', NULL, 'sighting', '', 9, NULL, NULL, NULL, 1, NULL, 5, 6, NULL),
         (3, 'q', 2, 'sighting', 'gone', 9, NULL, NULL, NULL, 2, NULL, 5, 6, 6);
INSERT INTO outbox (entity, first_pk, last_pk, operation, body)
  VALUES ('deployment', 1, 1, 'insert', CAST('{{"collar_pk":2}}' AS BLOB)),
         ('animal', 1, 1, 'insert', CAST('{{"name":"Alpha"}}' AS BLOB)), ('fix', 1, 1, 'insert', NULL),
         ('collar', 3, 3, 'delete', CAST('{{"collar_pk":2}}' AS BLOB)),
         ('collar', 2, 2, 'insert', CAST('{{}}' AS BLOB)),
         ('observation', 1, 1, 'insert', CAST('{{"description":"limps"}}' AS BLOB));
INSERT INTO cursors VALUES ('decode', 9);
"""


async def test_a_database_of_schema_1_keeps_all_it_held(path: Path, clock: FakeClock) -> None:
    db = connect(path, KEY)
    db.execute("SELECT InitSpatialMetaDataFull(1)")
    with transaction(db):
        for statement in itertools.chain(statements(migrations()[0][1]), statements(SCHEMA_1)):
            db.execute(statement)
        db.execute("PRAGMA user_version = 1")
    db.close()
    store = SpatialiteStore(path, KEY, now=clock.now, synchronous="NORMAL")
    try:
        assert store.schema == len(migrations())
        await assert_sound(store)
        animal = await store.animal(VIEW, "a")
        assert (animal.name, animal.rev, animal.collar_id) == ("Alpha", 4, "K1")
        observations = (await store.observations(VIEW, ObservationQuery(ordering="timestamp"))).results
        assert [(each.id, each.animal_id, each.rev, each.observer) for each in observations] == [
            ("o", "a", 3, "ranger"), ("p", None, 1, None),
        ]  # fmt: skip
        assert (observations[0].description, observations[0].lon_deg) == ("limps", 37.5)
        assert await ask(
            store, "SELECT id, animal_id, rev, cloud_rev, marks, deleted_ms FROM observations LIMIT 2, 1"
        ) == [("q", "b", 2, 0, "{}", 6)]
        collars = "SELECT id, deleted_ms IS NOT NULL, cloud_rev, marks FROM collars ORDER BY pk"
        assert await ask(store, collars) == [
            (EUI, 1, 0, "{}"), ("K1", 0, 0, "{}"), ("eui:again", 0, 0, "{}"), ("animal:a", 0, 0, "{}"),
        ]  # fmt: skip
        assert await store.cursor("decode") == 9
        assert await ask(store, "SELECT entity, first_pk, operation, body FROM outbox ORDER BY oseq") == [
            ("fix", 1, "insert", None), ("animal", 1, "insert", None), ("collar", 2, "insert", None),
            ("collar", 4, "insert", None), ("deployment", 1, "insert", None), ("observation", 1, "insert", None),
            ("observation", 2, "insert", None),
        ]  # fmt: skip
        assert outcomes(await add(store, fix_of(EUI), fix_of(EUI, START + HOUR))) == ["duplicate", "new"]
        assert [fix.animal_id for fix in await fixes(store)] == ["a", "a"]
        await store.put_collar(VIEW, "K1", {"aliases": [EUI, "eui:again"]})
        await store.update_observation(VIEW, "p", {"animal_id": "a"})
        await assert_sound(store)
    finally:
        await store.close()


async def test_damaged_pages_are_found_by_the_check(path: Path, clock: FakeClock) -> None:
    store = SpatialiteStore(path, KEY, now=clock.now)
    await add(store, *(fix_of(at=START + index * HOUR) for index in range(2000)))
    await store.close()
    data = bytearray(path.read_bytes())
    data[-40_960:-36_864] = bytes(4096)
    path.write_bytes(data)
    store = SpatialiteStore(path, KEY, now=clock.now)
    with pytest.raises(DatabaseCorrupt):
        await store.check()
    await store.close()


async def test_a_damaged_page_costs_its_own_rows_and_no_later_read_or_write(path: Path, clock: FakeClock) -> None:
    """SQLCipher fails a connection for good at the first page that it cannot decrypt."""
    store = SpatialiteStore(path, KEY, now=clock.now)
    await add(store, *(fix_of(at=START + index * HOUR) for index in range(2000)))
    await store.close()
    data = bytearray(path.read_bytes())
    data[-4096:] = bytes(4096)  # of the fixes' own tree
    path.write_bytes(data)
    store = SpatialiteStore(path, KEY, now=clock.now, readers=1)
    with pytest.raises(DatabaseCorrupt):
        await store.check()
    assert (await store.animals(VIEW, AnimalQuery())).count == 0

    with contextlib.suppress(StoreError):  # the writer meets the page too, and says so now or with its next statement
        await store.write(lambda db: db.execute("PRAGMA quick_check").fetchall())
    with contextlib.suppress(StoreError):
        await elephant(store)
    animal_id = await elephant(store, "Beta")
    assert (await store.animal(VIEW, animal_id)).name == "Beta"
    await store.close()


async def test_readers_and_the_writer_come_back_with_a_medium_that_was_away(
    path: Path, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(path, clock, readers=1) as store:
        await elephant(store, "Alpha")

        def meet_damage(db: Connection) -> None:
            raise DatabaseCorrupt("a page was not read")

        path.rename(tmp_path / "away.db")
        path.mkdir()  # where nothing can be opened
        for door in (store.read, store.write):
            for _ in range(2):
                with pytest.raises(StoreError):
                    await door(meet_damage)
        path.rmdir()
        (tmp_path / "away.db").rename(path)
        with contextlib.suppress(StoreError):  # the writer was closed, and opens what is there again
            await elephant(store, "Beta")
        await elephant(store, "Gamma")
        assert {each.name for each in (await store.animals(VIEW, AnimalQuery())).results} >= {"Alpha", "Gamma"}


# --- the shell
async def test_the_shell_reads_and_cannot_be_talked_into_writing(store: SpatialiteStore, path: Path) -> None:
    await elephant(store)
    with shell.open_shell(path, KEY) as session:
        assert session.run("SELECT name, ST_AsText(MakePoint(1, 2, 4326)) FROM animals") == (
            ["name", "ST_AsText(MakePoint(1, 2, 4326))"], [("Alpha", "POINT(1 2)")],
        )  # fmt: skip
        for statement in (
            "DELETE FROM animals",
            "CREATE TABLE x (y)",
            "PRAGMA query_only = OFF",
            "PRAGMA user_version = 7",
            "PRAGMA rekey = 'x'",
            f"ATTACH DATABASE '{path.parent / 'other.db'}' AS other",
            f"VACUUM INTO '{path.parent / 'copy.db'}'",
            "SELECT 1; SELECT 2",
            "no SQL at all",
        ):
            with pytest.raises(StoreError):
                session.run(statement)
        with pytest.raises(StoreError):
            session.run("DELETE FROM animals")
    assert len(await ask(store, "SELECT 1 FROM animals")) == 1
    assert {file.name.split("-")[0] for file in path.parent.iterdir()} == {"station.db"}


def test_the_shell_opens_no_database_that_is_not_there(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no database"), shell.open_shell(path, KEY):
        pass
    assert not path.exists()


def test_spatialite_can_be_loaded_into_any_connection(path: Path) -> None:
    db = connect(path, None, is_spatial=False)
    load_spatialite(db)
    with transaction(db):
        assert db.execute("SELECT ST_SRID(MakePoint(1, 2, 4326))").fetchone() == (4326,)
    db.close()
