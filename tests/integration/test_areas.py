"""Zones and corridors as geometries in both databases, however they came, and what the station finds near a fix."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud.store.database import Database
from cloud.store.migrate import migrate as migrate_cloud
from cloud.store.store import PostgresStore
from edge.store.areas import _CORRIDORS, _ZONES
from edge.store.driver import Connection, connect, transaction
from edge.store.fixes import FixWriter
from edge.store.migrate import migrations, statements
from edge.store.records import RecordWriter
from edge.store.store import SpatialiteStore
from shared.movement.areas import REACH_M, Nearby, Place
from shared.sync.records import ENTITIES, EntityName, Mark, Record, to_ms
from tests import clouds
from tests.fakes import START, FakeClock
from tests.integration.station_store import KEY, VIEW, ask, assert_sound

pytestmark = [pytest.mark.integration, pytest.mark.corridors]

ROOT = Path(__file__).resolve().parents[2]
Ring = list[list[float]]
RING: Ring = [[37, -2], [38, -2], [38, -3], [37, -2]]
BOW: Ring = [[37, -2], [38, -3], [38, -2], [37, -3], [37, -2]]
HEIGHTS: Ring = [[37, -2, 1200.5], [38, -2], [38, -3, 7, 8], [37, -2, 1300]]
ZEROS: Ring = [[0.0, -0.0], [1, 0], [1, 1], [-0.0, 0.0]]


def polygon(*rings: Ring) -> str:
    return msgspec.json.encode({"type": "Polygon", "coordinates": rings}).decode()


def line(*corners: list[float]) -> str:
    return msgspec.json.encode({"type": "LineString", "coordinates": corners}).decode()


#: What is drawn, and what both databases make of it.
SHAPES: list[tuple[str, str]] = [
    (polygon(RING), "MULTIPOLYGON(((37 -2,38 -2,38 -3,37 -2)))"),
    (polygon(BOW), "MULTIPOLYGON(((37 -2,38 -3,38 -2,37 -3,37 -2)))"),
    (polygon(HEIGHTS), "MULTIPOLYGON(((37 -2,38 -2,38 -3,37 -2)))"),
    (polygon(ZEROS), "MULTIPOLYGON(((0 0,1 0,1 1,0 0)))"),
    (polygon(RING)[:-1] + ',"crs":null,"bbox":[37,-3,38,-2]}', "MULTIPOLYGON(((37 -2,38 -2,38 -3,37 -2)))"),
    ('{"type":"MultiPolygon","coordinates":[[[[1,2],[2,2],[2,3],[1,2]]],[[[5,2],[6,2],[6,3],[5,2]]]]}',
     "MULTIPOLYGON(((1 2,2 2,2 3,1 2)),((5 2,6 2,6 3,5 2)))"),
]  # fmt: skip
LINES: list[tuple[str, str]] = [
    (line([37, -2], [38, -2.5, 1200]), "MULTILINESTRING((37 -2,38 -2.5))"),
    ('{"type":"MultiLineString","coordinates":[[[1,2],[2,2]],[[5,2],[6,2],[6,3]]]}',
     "MULTILINESTRING((1 2,2 2),(5 2,6 2,6 3))"),
]  # fmt: skip


async def kept(store: SpatialiteStore, table: str) -> list[tuple[str, int]]:
    rows = await ask(store, f"SELECT AsText(geom), Srid(geom) FROM {table} WHERE deleted_ms IS NULL ORDER BY pk")
    return [(text and text.replace(", ", ","), srid) for text, srid in rows]


# --- every write fills the geometry
async def test_a_station_keeps_what_is_drawn_as_a_geometry_too(store: SpatialiteStore) -> None:
    for geometry, _ in SHAPES:
        await store.create_zone(VIEW, {"name": "Z", "zone_type": "road", "geometry": geometry})
    for geometry, _ in [*SHAPES, *LINES]:
        await store.create_corridor(VIEW, {"name": "C", "geometry": geometry})
    assert await kept(store, "zones") == [(text, 4326) for _, text in SHAPES]
    assert await kept(store, "corridors") == [(text, 4326) for _, text in [*SHAPES, *LINES]]


async def test_the_cloud_keeps_what_is_drawn_as_a_geometry_too(database_url: str) -> None:
    async with Database.open(database_url, pool_min=1, pool_max=2) as database:
        store = PostgresStore(database, now=lambda: START)
        zones = [
            await store.create_zone(VIEW, {"name": "Z", "zone_type": "road", "geometry": geometry})
            for geometry, _ in SHAPES
        ]
        corridors = [
            await store.create_corridor(VIEW, {"name": "C", "geometry": geometry}) for geometry, _ in [*SHAPES, *LINES]
        ]
        texts = "SELECT ST_AsText(geom), ST_SRID(geom) FROM {} ORDER BY pk"
        assert clouds.ask(database_url, texts.format("zones")) == [(text, 4326) for _, text in SHAPES]
        assert clouds.ask(database_url, texts.format("corridors")) == [(text, 4326) for _, text in [*SHAPES, *LINES]]
        await store.update_zone(VIEW, zones[-1].id, {"geometry": SHAPES[0][0]})
        await store.update_zone(VIEW, zones[-1].id, {"name": "Y"})
        ends = {"start_lon_deg": 1.0, "start_lat_deg": 1.0, "end_lon_deg": 2.0, "end_lat_deg": 2.0}
        await store.update_corridor(VIEW, corridors[-1].id, {"geometry": None, **ends})
        assert clouds.ask(database_url, texts.format("zones"))[-1] == (SHAPES[0][1], 4326)
        assert clouds.ask(database_url, texts.format("corridors"))[-1] == (None, None)


async def test_a_change_of_a_geometry_moves_it_in_the_index(store: SpatialiteStore) -> None:
    zone = await store.create_zone(VIEW, {"name": "Z", "zone_type": "road", "geometry": polygon(RING)})
    route = await store.create_corridor(VIEW, {"name": "C", "geometry": line([37, -2], [38, -3])})
    here, there = Place(37.8, -2.5), Place(10.8, 40.5)
    assert [len(near) for near in await store.areas_near(VIEW, [here, there], 50_000.0)] == [2, 0]
    await store.update_zone(VIEW, zone.id, {"name": "Y", "is_active": True})
    await store.update_corridor(VIEW, route.id, {"status": "active"})
    assert [len(near) for near in await store.areas_near(VIEW, [here, there], 50_000.0)] == [2, 0]
    await store.update_zone(VIEW, zone.id, {"geometry": polygon([[10, 40], [11, 40], [11, 41], [10, 40]])})
    await store.update_corridor(VIEW, route.id, {"geometry": line([10, 40], [11, 41])})
    await assert_sound(store)
    assert [len(near) for near in await store.areas_near(VIEW, [here, there], 50_000.0)] == [0, 2]
    await store.delete_zone(VIEW, zone.id)
    ends = {"start_lon_deg": 10.0, "start_lat_deg": 40.0, "end_lon_deg": 11.0, "end_lat_deg": 41.0}
    await store.update_corridor(VIEW, route.id, {"geometry": None, **ends})
    assert [len(near) for near in await store.areas_near(VIEW, [here, there], 50_000.0)] == [0, 0]


async def test_what_the_cloud_sent_is_near_too_and_a_broken_geometry_stops_nobody(store: SpatialiteStore) -> None:
    def sent(entity: EntityName, row_id: str, **columns: Any) -> Record:
        full = {**ENTITIES[entity].columns, "name": row_id, **columns}
        return Record(
            entity=entity, id=row_id, columns=full, rev=3, marks={"name": Mark(3)}, created_ms=1, updated_ms=2
        )

    records = [
        sent("zone", "z", zone_type="road", geometry=polygon(RING)),
        sent("zone", "broken", zone_type="road", geometry='{"type":"Polygon","coordinates":[[[37]]]}'),
        sent("corridor", "c", geometry=line([37, -2], [38, -3])),
    ]
    taken = await store.write(lambda db: RecordWriter(db, FixWriter(db)).take(records, {}, to_ms(START)))
    assert taken == 3
    (near,) = await store.areas_near(VIEW, [Place(37.75, -2.5)], 50_000.0)
    assert [each.id for each in near] == ["z", "c"]
    assert (await store.zone(VIEW, "broken")).geometry == '{"type":"Polygon","coordinates":[[[37]]]}'


# --- older databases
async def test_zones_of_schema_2_get_their_geometries(path: Path, clock: FakeClock) -> None:
    db = connect(path, KEY)
    db.execute("SELECT InitSpatialMetaDataFull(1)")
    with transaction(db):
        for statement in itertools.chain(*(statements(script) for _, script in migrations()[:2])):
            db.execute(statement)
        for n, (geometry, _) in enumerate([*SHAPES, ("{}", "")]):
            db.execute(
                "INSERT INTO zones (id, name, zone_type, risk_level, geometry, buffer_m, description, is_active, rev,"
                " created_ms, updated_ms, deleted_ms) VALUES (?, 'Z', 'road', 'low', ?, 250, '', 1, 4, 5, 6, ?)",
                (f"z{n}", geometry, 7 if n == 1 else None),
            )
        db.execute("PRAGMA user_version = 2")
    db.close()
    store = SpatialiteStore(path, KEY, now=clock.now, synchronous="NORMAL")
    try:
        assert store.schema == len(migrations())
        await assert_sound(store)
        expected = [(text, 4326) for n, (_, text) in enumerate(SHAPES) if n != 1]
        assert await kept(store, "zones") == [*expected, (None, None)]
        zone = await store.zone(VIEW, "z0")
        assert (zone.geometry, zone.rev, zone.buffer_m) == (SHAPES[0][0], 4, 250.0)
        (near,) = await store.areas_near(VIEW, [Place(37.9, -2.1)], REACH_M)
        assert [(each.id, each.is_inside) for each in near] == [("z0", True), ("z2", True), ("z4", True)]
        made = await store.create_corridor(VIEW, {"name": "C", "geometry": LINES[0][0]})
        assert await store.corridor(VIEW, made.id) == made
    finally:
        await store.close()


async def test_zones_of_the_clouds_first_schema_get_their_geometries(blank_database_url: str, tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    for file in (ROOT / "cloud" / "store" / "migrations").glob("0001_*"):
        shutil.copy(file, first)
    assert migrate_cloud(blank_database_url, folder=first) == "0001"
    for n, (geometry, _) in enumerate([*SHAPES, ("{}", None)]):
        clouds.ask(
            blank_database_url,
            "INSERT INTO zones (id, name, zone_type, risk_level, geometry, buffer_m, description, is_active, rev,"
            " cloud_rev, marks, created_ms, updated_ms) VALUES (%s, 'Z', 'road', 'low', %s, 250, '', true, 4, 0, '{}',"
            " 5, 6)",
            f"z{n}", geometry,
        )  # fmt: skip
    migrate_cloud(blank_database_url)
    texts = clouds.ask(blank_database_url, "SELECT ST_AsText(geom) FROM zones ORDER BY pk")
    assert texts == [*((text,) for _, text in SHAPES), (None,)]
    async with Database.open(blank_database_url, pool_min=1, pool_max=2) as database:
        store = PostgresStore(database, now=lambda: START)
        assert (await store.zone(VIEW, "z0")).rev == 4
        made = await store.create_corridor(VIEW, {"name": "C", "geometry": LINES[0][0]})
        assert await store.corridor(VIEW, made.id) == made


# --- what is near
async def test_what_is_near_says_what_a_rule_must_know(store: SpatialiteStore) -> None:
    zone = await store.create_zone(
        VIEW, {"name": "Farms", "zone_type": "agriculture", "risk_level": "high", "buffer_m": 250.0,
               "geometry": polygon([[37, -2], [38, -2], [38, -3], [37, -3], [37, -2]])},
    )  # fmt: skip
    route = await store.create_corridor(
        VIEW, {"name": "Kitenden", "species": "elephant", "status": "active", "geometry": line([36, -2.5], [38, -2.5])}
    )
    inside, outside = await store.areas_near(VIEW, [Place(37.5, -2.4995), Place(36.995, -2.4)], REACH_M)
    assert inside == [
        Nearby(
            kind="corridor", id=route.id, name="Kitenden", distance_m=0.0, is_inside=True, species="elephant",
            status="active",
        ),
        Nearby(
            kind="zone", id=zone.id, name="Farms", distance_m=0.0, is_inside=True, zone_type="agriculture",
            risk_level="high", buffer_m=250.0,
        ),
    ]  # fmt: skip
    assert [(each.name, each.is_inside) for each in outside] == [("Farms", False)]
    assert outside[0].distance_m == pytest.approx(556.2, abs=0.5)
    assert await store.areas_near(VIEW, [], REACH_M) == []


async def test_a_hole_is_outside_and_an_area_that_crosses_itself_is_measured(store: SpatialiteStore) -> None:
    hole: Ring = [[37.4, -2.4], [37.6, -2.4], [37.6, -2.6], [37.4, -2.6], [37.4, -2.4]]
    outer: Ring = [[37, -2], [38, -2], [38, -3], [37, -3], [37, -2]]
    await store.create_zone(VIEW, {"id": "holed", "name": "H", "zone_type": "road", "geometry": polygon(outer, hole)})
    await store.create_zone(VIEW, {"id": "bow", "name": "B", "zone_type": "road", "geometry": polygon(BOW)})
    in_hole, in_bow, beside = await store.areas_near(
        VIEW, [Place(37.5, -2.45), Place(37.1, -2.2), Place(37.5, -2.1)], 1e5
    )
    assert [(each.id, each.is_inside) for each in in_hole] == [("bow", False), ("holed", False)]
    assert in_hole[1].distance_m == pytest.approx(5_529, abs=5)
    assert {each.id for each in in_bow if each.is_inside} == {"holed", "bow"}
    assert {each.id for each in beside if each.is_inside} == {"holed"}


async def test_only_active_zones_and_what_is_within_reach_or_reaches_out_are_near(store: SpatialiteStore) -> None:
    square = polygon([[37, -2], [37.01, -2], [37.01, -2.01], [37, -2.01], [37, -2]])
    for name, columns in (
        ("plain", {}), ("off", {"is_active": False}), ("wide", {"buffer_m": 80_000.0}), ("gone", {}),
    ):  # fmt: skip
        await store.create_zone(
            VIEW, {"id": name, "name": name, "zone_type": "road", "geometry": square, **columns}
        )  # fmt: skip
    await store.delete_zone(VIEW, "gone")
    for name, width_m in (("narrow", 100.0), ("broad", 90_000.0)):
        route = {"id": name, "name": name, "geometry": line([37, -2], [37.01, -2]), "width_m": width_m}
        await store.create_corridor(VIEW, route)
    assert {each.id for each in (await store.areas_near(VIEW, [Place(37.02, -2)], 5_000.0))[0]} == {
        "plain", "wide", "narrow", "broad",
    }  # fmt: skip
    # half a degree is 55 km: out of reach of all but what reaches out itself, or what is wide enough
    assert {each.id for each in (await store.areas_near(VIEW, [Place(37.51, -2)], 20_000.0))[0]} == {"wide", "broad"}
    assert {each.id for each in (await store.areas_near(VIEW, [Place(37.51, -2)], 5_000.0))[0]} == {"wide"}
    assert (await store.areas_near(VIEW, [Place(38.5, -2)], 5_000.0)) == [[]]


async def test_a_question_is_answered_by_the_indices(store: SpatialiteStore) -> None:
    values = dict.fromkeys(("lon", "lat", "scale", "west", "east", "south", "north"), 1.0)
    for statement, table in ((_ZONES, "zones"), (_CORRIDORS, "corridors")):

        def job(db: Connection, statement: str = statement) -> list[str]:
            return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()]

        plan = await store.read(job)
        assert any("VIRTUAL TABLE INDEX" in step for step in plan), (table, plan)
        assert not any(step.startswith("SCAN r") for step in plan), (table, plan)
