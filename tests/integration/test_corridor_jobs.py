"""Corridors in the cloud: a wish becomes a stored corridor, once, whatever happens to its worker; routes for others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cloud.api.app import create_app
from cloud.corridors.job import CorridorSearch
from cloud.corridors.router import MapRouter
from cloud.jobs.kinds import JobKind, Run
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from models.artifact import PACKAGED
from models.habitat.features import open_rasters
from shared.errors import Invalid, ModelUnavailable
from shared.jobs import CorridorWish
from shared.movement.areas import Place
from shared.privacy import OPERATOR, view_for
from shared.routing import RouteAsked, RouteLimits
from shared.store import CorridorQuery
from tests.access import accounts_over, operator_of, rosters_over
from tests.clouds import wipe
from tests.contract.conftest import client_of
from tests.fakes import FakeClock
from tests.unit.models.habitat.maps import CELL_M, NORTH, WEST, smooth_noise, write_map
from tests.workers import Gate, Working, now, working

pytestmark = [pytest.mark.integration, pytest.mark.corridors]

VIEW = view_for(OPERATOR)
SIDE = 90
RASTERS = """
[[layer]]
kind = "habitat_suitability"
file = "ground.tif"
unit = "1"

[[layer]]
kind = "distance_to_road"
file = "ground.tif"
band = 2
unit = "m"
"""


#: An area that lies nowhere near.
AFAR = '{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,1],[0,0]]]}'


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    return write_ground(tmp_path)


def write_ground(tmp_path: Path) -> Path:
    """Write the maps of a small reserve and return the file that names them."""
    suitability = np.clip(0.5 + 0.3 * smooth_noise((SIDE, SIDE), 3), 0, 1)
    suitability[:30, :10] = -9999  # no data in a corner
    road = np.abs(np.arange(SIDE) - 45.0)[None, :].repeat(SIDE, axis=0) * CELL_M
    write_map(tmp_path / "ground.tif", np.stack((suitability, road)))
    (tmp_path / "rasters.toml").write_text(RASTERS)
    return tmp_path / "rasters.toml"


def place(maps: Path, row: float, column: float) -> Place:
    with open_rasters(maps) as opened:
        lon, lat = opened.grid.to_degrees(
            np.array([WEST + (column + 0.5) * CELL_M]), np.array([NORTH - (row + 0.5) * CELL_M])
        )
    return Place(lon_deg=float(lon[0]), lat_deg=float(lat[0]))


def wish_of(maps: Path, **fields: Any) -> CorridorWish:
    start, end = place(maps, 80, 8), place(maps, 8, 80)
    return CorridorWish(**{
        "species": "African elephant", "start_lon_deg": start.lon_deg, "start_lat_deg": start.lat_deg,
        "end_lon_deg": end.lon_deg, "end_lat_deg": end.lat_deg, "seed": 7, **fields,
    })  # fmt: skip


def kind_of(store: PostgresStore, maps: Path) -> JobKind[CorridorWish]:
    router = MapRouter(store, maps=maps, weights=None, artifacts=PACKAGED)
    return CorridorSearch(store, router, view_for).kind()


async def corridors(database: Database) -> list[Any]:
    return (await PostgresStore(database, now=now).corridors(VIEW, CorridorQuery(limit=100))).results


async def submitted(at: Working, maps: Path, **fields: Any) -> Any:
    return await at.jobs.submit("corridor", wish_of(maps, **fields), OPERATOR)


async def test_a_wish_becomes_a_corridor_with_scores_and_bound(database_url: str, maps: Path) -> None:
    wipe(database_url)
    async with Database.open(database_url, pool_min=1, pool_max=2) as database:
        store = PostgresStore(database, now=now)
        async with working(database_url, kind_of(store, maps)) as at:
            jobs = [await at.ended(await submitted(at, maps, algorithm="ppo")) for _ in range(2)]
            assert [job.state for job in jobs] == ["succeeded", "succeeded"], jobs[0].error
        found = await corridors(database)
    results = [json.loads(bytes(job.result or b"")) for job in jobs]
    assert {one.id for one in found} == {result["corridor_id"] for result in results}
    first, again = (json.loads(one.optimization_data) for one in found)
    assert first == again  # the same seed
    assert first["model_version"].startswith("ppo ")
    assert 1 <= first["scores"]["cost_ratio"] < 1.1
    assert sum(first["scores"]["terms"].values()) == pytest.approx(first["scores"]["cost"], abs=0.01)
    line = json.loads(found[0].geometry)
    assert line["type"] == "LineString"
    assert line["coordinates"][0] == pytest.approx([found[0].start_lon_deg, found[0].start_lat_deg], abs=2e-3)
    assert first["area"]["type"] == "Polygon"
    assert "conflict" in first["missing"]
    assert found[0].optimization_score == pytest.approx(1 / first["scores"]["cost_ratio"], abs=1e-6)


async def test_a_corridor_stays_in_the_region_that_was_drawn_and_so_does_its_bound(
    database_url: str, maps: Path
) -> None:
    wipe(database_url)
    corners = [(85, 3), (85, 87), (3, 87), (3, 75), (74, 75), (74, 3)]  # an L: along the south, then along the east
    ring = [[at.lon_deg, at.lat_deg] for at in (place(maps, *corner) for corner in [*corners, corners[0]])]
    region = json.dumps({"type": "Polygon", "coordinates": [ring]})
    async with Database.open(database_url, pool_min=1, pool_max=2) as database:
        async with working(database_url, kind_of(PostgresStore(database, now=now), maps)) as at:
            for fields in ({}, {"region": region}):
                job = await at.ended(await submitted(at, maps, algorithm="ppo", **fields))
                assert job.state == "succeeded", job.error
        found = {json.loads(one.optimization_data)["region"] is not None: one for one in await corridors(database)}
    with open_rasters(maps) as opened:

        def cells(one: Any) -> list[tuple[float, float]]:
            lon, lat = np.array(json.loads(one.geometry)["coordinates"]).T
            return list(zip(*(each.tolist() for each in opened.grid.cells(lon, lat)), strict=True))

        assert all(row > 72 or column > 73 for row, column in cells(found[True]))
        assert any(row < 72 and column < 73 for row, column in cells(found[False]))
    bound, free = (json.loads(found[each].optimization_data)["scores"]["bound"] for each in (True, False))
    assert bound > free  # the exact least cost is that inside the region too
    assert json.loads(found[True].optimization_data)["region"] == json.loads(region)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"start_lon_deg": 0.0}, "start_point is outside the maps"),
        ({"model_version": "newest"}, "no version"),
        ({"end_lat_deg": 80.0}, "end_point is outside the maps"),
        ({"region": AFAR}, "start_point is outside the region"),
    ],
)
async def test_a_wish_that_cannot_be_is_refused_with_the_reason(
    database_url: str, maps: Path, fields: dict[str, Any], said: str
) -> None:
    wipe(database_url)
    async with Database.open(database_url, pool_min=1, pool_max=2) as database:
        async with working(database_url, kind_of(PostgresStore(database, now=now), maps)) as at:
            job = await at.ended(await submitted(at, maps, **fields))
        assert (job.state, job.error_code) == ("failed", "invalid")
        assert said in (job.error or "")
        assert await corridors(database) == []


async def test_an_attempt_that_was_killed_after_storing_leaves_one_corridor(database_url: str, maps: Path) -> None:
    wipe(database_url)
    async with Database.open(database_url, pool_min=1, pool_max=2) as database:
        whole = kind_of(PostgresStore(database, now=now), maps)

        async def killed_at_the_end(run: Run[CorridorWish]) -> Any:
            result = await whole.run(run)
            if run.attempt == 1:
                raise ConnectionError("the machine is gone")
            return result

        kind: JobKind[CorridorWish] = JobKind(
            name="corridor", parameters=CorridorWish, run=killed_at_the_end, is_heavy=True, first_pause_s=0.0
        )
        async with working(database_url, kind) as at:
            job = await at.ended(await submitted(at, maps, algorithm="least_cost"))
        assert (job.state, job.attempts) == ("succeeded", 2)
        assert len(await corridors(database)) == 1


async def test_a_job_that_is_cancelled_as_it_searches_stores_no_corridor(database_url: str, maps: Path) -> None:
    wipe(database_url)
    async with Database.open(database_url, pool_min=1, pool_max=2) as database:
        whole, gate = kind_of(PostgresStore(database, now=now), maps), Gate()

        async def waiting(run: Run[CorridorWish]) -> Any:
            await run.in_thread(gate.wait)
            return await whole.run(run)

        kind = msgspec.structs.replace(whole, run=waiting)
        async with working(database_url, kind) as at:
            job = await submitted(at, maps, algorithm="ppo")
            await gate.is_reached()
            assert (await at.jobs.cancel(OPERATOR, job.id)).is_cancel_asked
            ended = await at.ended(job)
        assert (ended.state, ended.result) == ("cancelled", None)
        assert await corridors(database) == []


async def test_routes_are_generated_and_evaluated_over_http_in_a_process_beside_the_webs(
    database_url: str, maps: Path
) -> None:
    wipe(database_url)
    async with Database.open(database_url, pool_min=1, pool_max=2) as database:
        store, clock = PostgresStore(database, now=now), FakeClock()
        router = MapRouter(store, maps=maps, weights=None, artifacts=PACKAGED, is_apart=True)
        accounts = accounts_over(store, clock)
        app = create_app(store, clock=clock, accounts=accounts, rosters=rosters_over(store, accounts), router=router)
        start, end = place(maps, 80, 8), place(maps, 8, 80)
        async with client_of(app, operator_of(app)) as client:
            try:
                made = await client.post("/api/v1/ml/corridor/generate/", json={
                    "species": "elephant", "start_point": {"lat": start.lat_deg, "lon": start.lon_deg},
                    "end_point": {"lat": end.lat_deg, "lon": end.lon_deg}, "algorithm": "ppo", "seed": 3,
                })  # fmt: skip
                assert made.status_code == 200, made.text
                path = made.json()["path"]
                scored = await client.post("/api/v1/ml/corridor/evaluate/", json={"species": "elephant", "path": path})
                assert scored.status_code == 200, scored.text
                bad = await client.post("/api/v1/ml/corridor/generate/", json={
                    "species": "elephant", "start_point": {"lat": 0.0, "lon": 0.0},
                    "end_point": {"lat": end.lat_deg, "lon": end.lon_deg},
                })  # fmt: skip
                assert (bad.status_code, bad.json()["code"]) == (400, "invalid")
                assert router.pids  # none of it was read in this process
            finally:
                router.close()


async def test_a_router_finds_and_scores_routes_and_zones_send_them_elsewhere(database_url: str, maps: Path) -> None:
    wipe(database_url)
    async with Database.open(database_url, pool_min=1, pool_max=2) as database:
        store = PostgresStore(database, now=now)
        router = MapRouter(store, maps=maps, weights=None, artifacts=PACKAGED)
        asked = RouteAsked(species="elephant", start=place(maps, 80, 8), end=place(maps, 8, 80), seed=1)
        before = await router.generate(VIEW, asked)
        assert before.score.cost_ratio == pytest.approx(1, abs=0.05)
        middle = before.path[len(before.path) // 2]
        reach = 0.008
        ring = [
            [middle.lon_deg + x * reach, middle.lat_deg + y * reach]
            for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
        ]
        await store.create_zone(VIEW, {
            "name": "fields", "zone_type": "agriculture", "risk_level": "high", "buffer_m": 300.0,
            "geometry": json.dumps({"type": "Polygon", "coordinates": [ring]}),
        })  # fmt: skip
        after = await router.generate(VIEW, asked)
        old = await router.evaluate(VIEW, "elephant", before.path)
        assert old.conflict_exposure_m is not None
        assert after.score.conflict_exposure_m is not None
        assert after.score.conflict_exposure_m < old.conflict_exposure_m
        assert after.score.cost < old.cost
        leading = await router.generate(VIEW, RouteAsked(species="elephant", start=place(maps, 80, 8), steps=30))
        assert leading.score.bound_cost is None
        assert len(leading.path) <= 30
        with pytest.raises(Invalid, match="constraints: no route"):
            await router.generate(
                VIEW, RouteAsked(species="elephant", start=asked.start, end=asked.end,
                                 limits=RouteLimits(most_road_crossings=0)),
            )  # fmt: skip
        with pytest.raises(ModelUnavailable, match="zebra"):
            await router.generate(VIEW, RouteAsked(species="zebra", start=asked.start, end=asked.end, algorithm="ppo"))
        nowhere = MapRouter(store, maps=None, weights=None, artifacts=PACKAGED)
        assert nowhere.missing is not None
        with pytest.raises(ModelUnavailable, match=r"corridors\.maps"):
            await nowhere.generate(VIEW, asked)
