# ruff: noqa: ASYNC240 - the tests look at small files between steps; nothing else runs then
"""The station's store over a real encrypted SpatiaLite file: what the contract suite cannot see from outside."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edge.store import shell
from edge.store.driver import Connection, connect, load_spatialite, transaction
from edge.store.migrate import migrate, migrations, schema_version
from edge.store.queries import list_fixes
from edge.store.store import HeardDevice, SpatialiteStore, Undecoded
from shared.domain import AddedFix, Fix, FixFlag, NewFix, is_usable
from shared.errors import Conflict, DatabaseCorrupt, Invalid, NotFound, SchemaTooNew, StoreError, WrongKey
from shared.movement.quality import ROLLOVER_MS
from shared.privacy import OPERATOR, view_for
from shared.store import AnimalQuery, BoundingBox, FixQuery, ObservationQuery
from shared.sync.records import to_ms
from tests.fakes import START, FakeClock

pytestmark = pytest.mark.integration

KEY = bytes(range(32))
VIEW = view_for(OPERATOR)
HOUR = timedelta(hours=1)
ROLLOVER = timedelta(milliseconds=ROLLOVER_MS)
EUI = "eui:0101010101010101"


def fix_of(
    device: str = EUI, at: datetime = START, *, lon: float | None = 37.5, lat: float | None = -2.5, **fields: Any
) -> NewFix:
    """Return a fix that was received as it was recorded, unless ``fields`` say otherwise."""
    said: dict[str, Any] = {"device": device, "recorded_at": at, "received_at": at, "lon_deg": lon, "lat_deg": lat}
    return NewFix(**{**said, **fields})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "station.db"


@pytest.fixture(scope="module")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of an empty store: its spatial reference systems take longer to write than to copy."""
    path = tmp_path_factory.mktemp("new") / "station.db"
    SpatialiteStore(path, KEY, now=FakeClock().now).close_now()
    return path


@pytest.fixture
async def store(path: Path, clock: FakeClock, new_database: Path) -> AsyncIterator[SpatialiteStore]:
    """Give an empty store; when the test is over its database must be sound."""
    shutil.copyfile(new_database, path)
    store = SpatialiteStore(path, KEY, now=clock.now, synchronous="NORMAL")
    yield store
    try:
        await assert_sound(store)
    finally:
        await store.close()


async def ask(store: SpatialiteStore, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    return await store.read(lambda db: [tuple(row) for row in db.execute(sql, values).fetchall()])


async def assert_sound(store: SpatialiteStore) -> None:
    """Check what must hold whatever happened: the spatial index, the counters, the geometries, the pages."""
    sound = await store.write(lambda db: db.execute("SELECT CheckSpatialIndex('fixes', 'geom')").fetchone())
    assert tuple(sound) == (1,)
    counted, rows = (await ask(store, "SELECT (SELECT value FROM counters), (SELECT count(*) FROM fixes)"))[0]
    assert counted == rows
    assert (await store.facts()).fixes == rows
    for x, y, srid, kind, lon_e7, lat_e7 in await ask(
        store, "SELECT ST_X(geom), ST_Y(geom), ST_SRID(geom), ST_GeometryType(geom), lon_e7, lat_e7 FROM fixes"
        " WHERE geom IS NOT NULL",
    ):  # fmt: skip
        assert (round(x * 1e7), round(y * 1e7), srid, kind) == (lon_e7, lat_e7, 4326, "POINT")
    assert await ask(store, "PRAGMA foreign_key_check") == []
    assert await ask(store, "PRAGMA quick_check('fixes')") == [("ok",)]


async def add(store: SpatialiteStore, *fixes: NewFix) -> list[AddedFix]:
    return await store.add_fixes(VIEW, fixes)


async def fixes(store: SpatialiteStore, **query: Any) -> list[Fix]:
    return (await store.fixes(VIEW, FixQuery(ordering="timestamp", limit=1000, **query))).results


async def elephant(store: SpatialiteStore, name: str = "Alpha", **columns: Any) -> str:
    return (await store.create_animal(VIEW, {"name": name, "species": "elephant", **columns})).id


async def deploy(
    store: SpatialiteStore, animal_id: str, collar_id: str = EUI, start: datetime = START, end: datetime | None = None
) -> str:
    columns = {"animal_id": animal_id, "collar_id": collar_id, "started_at": start, "ended_at": end}
    return (await store.create_deployment(VIEW, columns)).id


async def outbox(store: SpatialiteStore) -> list[tuple[str, str]]:
    return [(entity, operation) for entity, operation in await ask(store, "SELECT entity, operation FROM outbox")]


def outcomes(added: list[AddedFix]) -> list[str]:
    return [each.outcome for each in added]


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


# --- who wore the collar
async def test_fixes_of_an_unknown_collar_are_adopted_by_a_deployment_of_the_past(store: SpatialiteStore) -> None:
    await add(store, *(fix_of(at=START + index * HOUR) for index in range(6)))
    assert {(fix.collar_id, fix.animal_id) for fix in await fixes(store)} == {(EUI, None)}
    animal_id = await elephant(store)
    deployment = await deploy(store, animal_id, start=START + HOUR, end=START + 4 * HOUR)

    async def wearers() -> list[str | None]:
        return [fix.animal_id for fix in await fixes(store)]

    a = animal_id
    assert await wearers() == [None, a, a, a, None, None]
    await store.update_deployment(VIEW, deployment, {"started_at": START + 2 * HOUR, "ended_at": None})
    assert await wearers() == [None, None, a, a, a, a]
    await store.update_deployment(VIEW, deployment, {"collar_id": "eui:other"})
    assert await wearers() == [None] * 6
    await store.update_deployment(VIEW, deployment, {"collar_id": EUI})
    await store.delete_deployment(VIEW, deployment)
    assert await wearers() == [None] * 6


async def test_a_collar_used_again_gives_each_animal_its_own_fixes(store: SpatialiteStore) -> None:
    first, second = await elephant(store), await elephant(store, "Beta")
    await deploy(store, first, end=START + 2 * HOUR)
    await deploy(store, second, start=START + 3 * HOUR)
    await add(store, *(fix_of(at=START + index * HOUR) for index in range(5)))
    assert [fix.animal_id for fix in await fixes(store)] == [first, first, None, second, second]
    assert [fix.recorded_at for fix in await fixes(store, animal_id=second)] == [START + 3 * HOUR, START + 4 * HOUR]


async def test_overlapping_deployments_are_refused_and_change_nothing(store: SpatialiteStore) -> None:
    first, second = await elephant(store), await elephant(store, "Beta")
    await deploy(store, first, end=START + 4 * HOUR)
    before = await outbox(store)
    with pytest.raises(Conflict, match="collar is taken"):
        await deploy(store, second, start=START + 3 * HOUR)
    with pytest.raises(Conflict, match="animal is taken"):
        await deploy(store, first, "eui:unheard", start=START - HOUR)
    with pytest.raises(Invalid, match="ended_at"):
        await deploy(store, second, start=START + 5 * HOUR, end=START + 5 * HOUR)
    assert await outbox(store) == before
    with pytest.raises(NotFound):
        await store.collar(VIEW, "eui:unheard")
    await deploy(store, second, start=START + 4 * HOUR)  # one ends as the other begins


async def test_a_deployment_may_begin_with_the_epoch(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    deployment = await deploy(store, animal_id, start=epoch, end=START)
    assert (await store.deployment(VIEW, deployment)).started_at == epoch


async def test_another_species_judges_the_speed_anew(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await deploy(store, animal_id)
    await add(
        store, *(fix_of(at=START + index * HOUR, lat=-2.5 + 0.18 * (index == 1)) for index in range(4))
    )  # 20 km there and back, in an hour each
    assert [fix.flags for fix in await fixes(store)] == [0, FixFlag.IMPOSSIBLE_SPEED, 0, 0]
    await store.update_animal(VIEW, animal_id, {"species": "wildebeest"})
    assert [fix.flags for fix in await fixes(store)] == [0, 0, 0, 0]


async def test_another_species_judges_positions_without_a_collar_anew(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await add(
        store,
        *(
            fix_of(f"animal:{animal_id}", START + index * HOUR, lat=-2.5 + 0.18 * (index == 1), animal_id=animal_id)
            for index in range(4)
        ),
    )
    assert [fix.flags for fix in await fixes(store)] == [0, FixFlag.IMPOSSIBLE_SPEED, 0, 0]
    await store.update_animal(VIEW, animal_id, {"species": "wildebeest"})
    assert [fix.flags for fix in await fixes(store)] == [0, 0, 0, 0]


async def test_a_deleted_animal_leaves_a_word_for_each_deployment(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await deploy(store, animal_id, end=START + HOUR)
    await deploy(store, animal_id, start=START + HOUR)
    before = len(await outbox(store))
    await store.delete_animal(VIEW, animal_id)
    assert sorted((await outbox(store))[before:]) == [("animal", "delete")] + [("deployment", "delete")] * 2


# --- aliases
async def test_a_late_alias_rekeys_merges_and_moves_the_deployments(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await deploy(store, animal_id, EUI, end=START + 9 * HOUR)
    await add(store, *(fix_of(EUI, START + index * HOUR, alt_m=5.0) for index in range(3)))
    await add(store, *(fix_of("K1", START + index * HOUR, hdop=1.0) for index in range(1, 4)))
    assert (await store.facts()).fixes == 6
    collar = await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    assert collar.aliases == (EUI,)
    kept = await fixes(store)
    assert [(fix.collar_id, fix.alt_m, fix.hdop) for fix in kept] == [
        ("K1", 5.0, None), ("K1", 5.0, 1.0), ("K1", 5.0, 1.0), ("K1", None, 1.0),
    ]  # fmt: skip
    assert {fix.animal_id for fix in kept} == {animal_id}
    (deployment,) = (await store.deployments(VIEW, animal_id=animal_id, collar_id=None, offset=0, limit=9)).results
    assert deployment.collar_id == "K1"
    with pytest.raises(NotFound):
        await store.collar(VIEW, EUI)
    assert outcomes(await add(store, fix_of(EUI, START, alt_m=5.0))) == ["duplicate"]
    moved = await outbox(store)
    assert ("deployment", "update") in moved
    assert ("collar", "delete") in moved


async def test_an_alias_brings_its_own_aliases_along(store: SpatialiteStore) -> None:
    await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    await store.put_collar(VIEW, "K2", {"aliases": ["K1"]})
    await add(store, fix_of(EUI), fix_of("K1", START + HOUR), fix_of("K2", START + 2 * HOUR))
    assert [fix.collar_id for fix in await fixes(store)] == ["K2"] * 3
    assert (await store.collar(VIEW, "K2")).aliases == ("K1", EUI)


async def test_an_alias_that_would_put_one_collar_on_two_animals_is_refused(store: SpatialiteStore) -> None:
    await deploy(store, await elephant(store), EUI)
    await deploy(store, await elephant(store, "Beta"), "K1")
    with pytest.raises(Conflict, match="collar is taken"):
        await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    assert (await store.collar(VIEW, EUI)).aliases == ()


async def test_an_alias_named_twice_or_like_the_collar_itself_is_one(store: SpatialiteStore) -> None:
    assert (await store.put_collar(VIEW, "K1", {"aliases": [EUI, EUI, "K1"]})).aliases == (EUI,)
    with pytest.raises(Conflict, match=f"{EUI} belongs to collar K1"):
        await store.put_collar(VIEW, "K2", {"aliases": [EUI]})
    with pytest.raises(Conflict, match=f"{EUI} is an alias of collar K1"):
        await store.put_collar(VIEW, EUI, {})


async def test_a_word_by_hand_survives_a_late_alias(store: SpatialiteStore) -> None:
    added = await add(store, fix_of(EUI), fix_of("K1"), fix_of(EUI, START + HOUR))
    for each in (added[0], added[2]):
        await store.flag_fix(VIEW, each.id, is_excluded=True)
    await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    assert [fix.flags for fix in await fixes(store)] == [FixFlag.EXCLUDED_BY_HAND] * 2


async def test_what_an_alias_last_said_of_itself_is_kept(store: SpatialiteStore) -> None:
    await store.take_decoded("c", 1, [], [HeardDevice("K1", 1000, 3500, None, "old")], [])
    await store.take_decoded("c", 2, [], [HeardDevice(EUI, 2000, 3400)], [])
    collar = await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    assert (to_ms(collar.last_heard_at or START), collar.battery_mv, collar.firmware) == (2000, 3400, "old")


async def test_a_deleted_collar_that_is_heard_again_is_back(store: SpatialiteStore) -> None:
    await store.put_collar(VIEW, EUI, {"model": "m"})
    await store.delete_collar(VIEW, EUI)
    with pytest.raises(NotFound):
        await store.collar(VIEW, EUI)
    await add(store, fix_of(EUI))
    assert (await store.collar(VIEW, EUI)).model == "m"


async def test_the_row_that_stands_for_an_animal_is_no_collar(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await add(store, fix_of(f"animal:{animal_id}", animal_id=animal_id, source="manual"))
    assert (await store.collars(VIEW, search=None, offset=0, limit=9)).count == 0
    assert await fixes(store, search="animal") == []
    for call in (store.put_collar(VIEW, f"animal:{animal_id}", {}), store.put_collar(VIEW, "animal:x", {})):
        with pytest.raises(Invalid, match="animal:"):
            await call


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
async def test_every_write_leaves_its_outbox_row(store: SpatialiteStore) -> None:
    async def after(write: Any) -> list[tuple[str, str]]:
        before = len(await outbox(store))
        await write
        return (await outbox(store))[before:]

    animal_id = await elephant(store)
    assert await after(store.update_animal(VIEW, animal_id, {"age": 3.0})) == [("animal", "update")]
    assert await after(store.put_collar(VIEW, "K1", {"model": "m"})) == [("collar", "insert")]
    assert await after(store.put_collar(VIEW, "K1", {"model": "n"})) == [("collar", "update")]
    assert await after(deploy(store, animal_id, "K1")) == [("deployment", "insert")]
    assert await after(add(store, fix_of("K1"))) == [("fix", "insert")]
    assert await after(add(store, fix_of("K1"))) == []
    assert await after(add(store, fix_of("K1", alt_m=1.0))) == [("fix", "update")]
    assert await after(add(store, fix_of("new", START))) == [("collar", "insert"), ("fix", "insert")]
    (fix, _) = await fixes(store)
    assert await after(store.flag_fix(VIEW, fix.id, is_excluded=True)) == [("fix", "flag")]
    made = await store.create_observation(VIEW, {"description": "d"})
    assert await after(store.update_observation(VIEW, made.id, {"description": "e"})) == [("observation", "update")]
    assert await after(store.delete_observation(VIEW, made.id)) == [("observation", "delete")]


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


async def test_an_observation_that_exists_is_a_conflict(store: SpatialiteStore) -> None:
    made = await store.create_observation(VIEW, {"description": "d"})
    with pytest.raises(Conflict, match=made.id):
        await store.create_observation(VIEW, {"id": made.id})


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


async def test_a_deployment_that_had_not_begun_is_taken_back_when_the_collar_changes(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await deploy(store, animal_id, "early", START + 10_000 * HOUR)
    changed = await store.update_animal(VIEW, animal_id, {"collar_id": "now"})
    assert changed.collar_id == "now"
    deployments = await store.deployments(VIEW, animal_id=animal_id, collar_id=None, offset=0, limit=10)
    assert [found.collar_id for found in deployments.results] == ["now"]


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
