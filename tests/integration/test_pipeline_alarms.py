"""From a fix to an alarm at the station: what is near, what the models say and what rings, in one transaction."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from edge.alerts.engine import Engine
from edge.alerts.keeper import Keeper
from edge.alerts.rules import rule_book
from edge.app import running
from edge.config import ApiSection, Config, StationSection, StoreSection
from edge.pipeline.alarms import AlarmJudge
from edge.pipeline.pipeline import Pipeline
from edge.store.areas import areas_near_each
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from models.live.runtime import Models
from shared.domain import Alert, NewFix
from shared.store import AlertQuery, ZoneQuery
from shared.wire.events import Told
from tests.access import operator_of_station
from tests.fakes import START, FakeClock
from tests.integration.station_store import EUI, VIEW, add, ask, deploy, elephant, fix_of

pytestmark = [pytest.mark.integration, pytest.mark.ml]

OTHER = "eui:0202020202020202"
MINUTES = timedelta(minutes=30)
#: The village lies between 37.55 and 37.60 east; its buffer reaches a kilometre further.
VILLAGE = [[37.55, -2.6], [37.6, -2.6], [37.6, -2.4], [37.55, -2.4], [37.55, -2.6]]
#: Where an animal is every half hour: it comes, is inside, goes away.
VISIT = (37.50, 37.52, 37.545, 37.56, 37.575, 37.56, 37.53, 37.51, 37.50, 37.49, 37.48)


@pytest.fixture
async def store(store: SpatialiteStore) -> SpatialiteStore:
    await store.create_zone(
        VIEW,
        {
            "name": "Village", "zone_type": "settlement", "risk_level": "high", "buffer_m": 1_000.0,
            "geometry": json.dumps({"type": "Polygon", "coordinates": [VILLAGE]}),
        },
    )  # fmt: skip
    return store


@pytest.fixture
def heard() -> list[Told]:
    return []


@pytest.fixture
def keeper(store: SpatialiteStore, clock: FakeClock, heard: list[Told]) -> Keeper:
    return Keeper(store, Engine(rule_book()), clock, heard.append)


@pytest.fixture
def pipeline(store: SpatialiteStore, keeper: Keeper) -> Iterator[Pipeline]:
    pipeline = Pipeline(store, Models(), lambda _name, _data: None, judge=AlarmJudge(keeper))
    yield pipeline
    pipeline.close()


def visit(start: datetime = START, device: str = EUI) -> list[NewFix]:
    """Return the fixes of a visit, each received when it was recorded."""
    return [fix_of(device, start + n * MINUTES, lon=lon, lat=-2.5) for n, lon in enumerate(VISIT)]


async def alerts(store: SpatialiteStore) -> list[Alert]:
    return (await store.alerts(VIEW, AlertQuery(ordering="detected_at", limit=100))).results


async def live(pipeline: Pipeline, store: SpatialiteStore, clock: FakeClock, fixes: list[NewFix]) -> None:
    """Let fixes come one by one, each at its time."""
    for fix in fixes:
        clock.at = fix.recorded_at
        await add(store, fix)
        await pipeline.drain()


async def test_a_visit_to_a_village_is_one_alarm_and_one_all_clear(
    store: SpatialiteStore, pipeline: Pipeline, clock: FakeClock, heard: list[Told]
) -> None:
    animal = await elephant(store)
    await deploy(store, animal)
    await live(pipeline, store, clock, visit())
    (alert,) = [each for each in await alerts(store) if each.zone_id is not None]
    assert (alert.alert_type, alert.severity, alert.status) == ("high_risk_zone", "critical", "resolved")
    assert (alert.animal_id, alert.is_late) == (animal, False)
    of_zone = [told for told in heard if told.id == alert.id]
    assert [(told.alert_type, told.status, told.rings) for told in of_zone] == [
        ("zone_warning", "active", True), ("high_risk_zone", "active", True), ("high_risk_zone", "resolved", True),
    ]  # fmt: skip
    assert "37." not in alert.title + alert.message
    assert (await ask(store, "SELECT count(*) FROM outbox WHERE entity = 'alert'"))[0][0] >= 3


async def test_a_dump_of_old_days_rings_nothing(
    store: SpatialiteStore, pipeline: Pipeline, clock: FakeClock, heard: list[Told]
) -> None:
    await deploy(store, await elephant(store))
    received = START + timedelta(days=1)
    clock.at = received
    await add(store, *(replace(fix, received_at=received) for fix in visit()))
    await pipeline.drain()
    assert [told for told in heard if told.rings] == []
    assert all(each.is_late for each in await alerts(store))


async def test_a_visit_that_is_found_later_is_written_down_in_silence(
    store: SpatialiteStore, pipeline: Pipeline, clock: FakeClock, heard: list[Told]
) -> None:
    await deploy(store, await elephant(store))
    fixes = visit()
    await live(pipeline, store, clock, [fixes[0], fixes[1], *fixes[8:]])
    assert [each for each in await alerts(store) if each.zone_id is not None] == []
    received = fixes[-1].recorded_at + MINUTES
    clock.at = received
    await add(store, *(replace(fix, received_at=received) for fix in fixes[2:8]))
    await pipeline.drain()
    (alert,) = [each for each in await alerts(store) if each.zone_id is not None]
    assert (alert.alert_type, alert.status, alert.is_late) == ("high_risk_zone", "resolved", True)
    assert [told.rings for told in heard if told.id == alert.id] == [False]


async def test_what_is_computed_again_rings_no_second_time(
    store: SpatialiteStore, pipeline: Pipeline, clock: FakeClock, heard: list[Told]
) -> None:
    await deploy(store, await elephant(store))
    await live(pipeline, store, clock, visit())
    told, before = list(heard), await alerts(store)
    await store.write(lambda db: db.execute("INSERT INTO to_compute SELECT pk, 0, 1 FROM animals"))
    await pipeline.drain()
    assert heard == told
    assert await alerts(store) == before


async def test_a_turn_that_is_killed_before_its_commit_alarms_when_it_is_taken_again(
    store: SpatialiteStore, keeper: Keeper, clock: FakeClock, heard: list[Told]
) -> None:
    class Killed(Exception):
        pass

    class Kills(AlarmJudge):
        def judge(self, db: Connection, outcomes: Any) -> Any:
            super().judge(db, outcomes)
            raise Killed

    await deploy(store, await elephant(store))
    fixes = visit()
    for fix in fixes:
        clock.at = fix.recorded_at
        await add(store, fix)
        killed = Pipeline(store, Models(), lambda _name, _data: None, judge=Kills(keeper))
        with pytest.raises(Killed):
            await killed.turn()
        killed.close()
        again = Pipeline(store, Models(), lambda _name, _data: None, judge=AlarmJudge(keeper))
        await again.drain()
        again.close()
    (alert,) = [each for each in await alerts(store) if each.zone_id is not None]
    assert [told.status for told in heard if told.id == alert.id] == ["active", "active", "resolved"]


async def test_a_zone_that_is_drawn_while_a_turn_is_computed_counts_for_what_the_turn_writes(
    store: SpatialiteStore, keeper: Keeper, clock: FakeClock, heard: list[Told]
) -> None:
    class Draws(AlarmJudge):
        def look(self, db: Connection, outcomes: Any) -> None:
            super().look(db, outcomes)
            drawing.set()
            assert drawn.wait(20)

    drawing, drawn = threading.Event(), threading.Event()
    (village,) = (await store.zones(VIEW, ZoneQuery(limit=9))).results
    await store.update_zone(VIEW, village.id, {"is_active": False})
    await deploy(store, await elephant(store))
    clock.at = visit()[5].recorded_at
    await add(store, *visit()[:6])
    pipeline = Pipeline(store, Models(), lambda _name, _data: None, judge=Draws(keeper))
    turn = asyncio.create_task(pipeline.turn())
    assert await asyncio.to_thread(drawing.wait, 120)
    await store.update_zone(VIEW, village.id, {"is_active": True})
    drawn.set()
    await turn
    pipeline.close()
    assert [each.zone_id for each in await alerts(store) if each.zone_id is not None] == [village.id]


async def test_what_is_near_is_not_measured_in_the_transaction_that_writes(
    store: SpatialiteStore, pipeline: Pipeline, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def measured(db: Connection, places: Any, *, reach_m: float) -> Any:
        if places:
            asked.append(bool(db.in_transaction and db.execute("PRAGMA query_only").fetchone()[0] == 0))
        return areas_near_each(db, places, reach_m=reach_m)

    monkeypatch.setattr("edge.pipeline.alarms.areas_near_each", measured)
    await deploy(store, await elephant(store))
    await live(pipeline, store, clock, visit())
    assert asked
    assert not any(asked)


async def test_an_animal_that_nobody_entered_alarms_nobody(
    store: SpatialiteStore, pipeline: Pipeline, clock: FakeClock, heard: list[Told]
) -> None:
    await live(pipeline, store, clock, visit())
    assert (heard, await alerts(store)) == ([], [])


async def test_animals_that_mind_each_other_are_told_of_when_near(
    store: SpatialiteStore, clock: FakeClock, heard: list[Told]
) -> None:
    book = rule_book({"proximity": {"elephant": {"others": ["buffalo"], "distance_m": 500.0}}})
    pipeline = Pipeline(
        store, Models(), lambda _name, _data: None, judge=AlarmJudge(Keeper(store, Engine(book), clock, heard.append))
    )
    alpha, beta = await elephant(store), await elephant(store, "Beta", species="buffalo")
    await deploy(store, alpha)
    await deploy(store, beta, OTHER)
    await live(pipeline, store, clock, [fix_of(OTHER, START, lon=37.403, lat=-2.5)])
    await live(pipeline, store, clock, [fix_of(EUI, START + MINUTES / 2, lon=37.4, lat=-2.5)])
    pipeline.close()
    assert [told.alert_type for told in heard] == ["proximity"]
    assert "Beta" in heard[0].title


async def test_a_running_station_says_state_and_alarm_on_its_stream(tmp_path: Path) -> None:
    key = tmp_path / "station.key"
    key.write_text("0f" * 32)
    config = Config(
        station=StationSection(data_dir=tmp_path / "data"), store=StoreSection(key_file=key), api=ApiSection(port=0)
    )
    area = {"type": "Polygon", "coordinates": [VILLAGE]}
    zone = {"name": "Village", "zone_type": "settlement", "risk_level": "high", "geometry": area}
    at = datetime.now(UTC) - timedelta(minutes=20)
    auth = operator_of_station(config.database, config.key(), config.station.id)
    async with running(config) as url, httpx.AsyncClient(base_url=url, timeout=120, auth=auth) as client:
        animal = {"name": "Alpha", "species": "elephant", "collar_id": "K1"}
        made = (await client.post("/api/v1/animals/", json=animal)).json()
        start = {"started_at": (at - timedelta(days=1)).isoformat()}
        (wearing,) = (await client.get(f"/api/v1/deployments/?animal={made['id']}")).json()["results"]
        assert (await client.patch(f"/api/v1/deployments/{wearing['id']}/", json=start)).status_code == 200
        assert (await client.post("/api/v1/conflict-zones/", json=zone)).status_code == 201
        found: dict[str, dict[str, Any]] = {}
        async with asyncio.timeout(120), client.stream("GET", "/api/v1/events") as stream:
            lines = stream.aiter_lines()
            while await anext(lines) != ": listening":
                pass
            for n, lon in enumerate((37.547, 37.555)):
                item = {"collar_id": "K1", "timestamp": (at + timedelta(minutes=10 * n)).isoformat(), "lat": -2.5}
                assert (await client.post("/api/v1/tracking/", json={**item, "lon": lon})).status_code == 201
            name = ""
            async for line in lines:
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    found[name] = json.loads(line.removeprefix("data: "))
                    if "state" in found and found.get("alert", {}).get("rings"):
                        break
    assert found["state"]["animal"] == made["id"]
    assert (found["alert"]["alert_type"], found["alert"]["status"]) == ("high_risk_zone", "active")
    assert "37." not in json.dumps(found["alert"])
