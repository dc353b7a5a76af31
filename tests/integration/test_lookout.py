"""Early warnings over a real store: from a fix to a forecast to an alert, once, and never of the past."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge.alerts.engine import Engine
from edge.alerts.keeper import Keeper
from edge.alerts.rules import rule_book
from edge.pipeline.alarms import AlarmJudge
from edge.pipeline.insight import KeptInsight
from edge.pipeline.lookout import Lookout
from edge.pipeline.pipeline import Pipeline
from edge.store.store import SpatialiteStore
from models.live.insight import OnDemand
from models.live.runtime import Models
from shared.domain import Alert, NewFix
from shared.store import AlertQuery
from shared.wire.events import Told
from shared.wire.live import LiveStatusOut
from tests.fakes import START, FakeClock
from tests.integration.station_store import EUI, HOUR, VIEW, add, deploy, elephant, fix_of

pytestmark = [pytest.mark.integration, pytest.mark.ml]

#: The village lies between 37.55 and 37.65 east, without a buffer.
VILLAGE = [[37.55, -2.6], [37.65, -2.6], [37.65, -2.4], [37.55, -2.4], [37.55, -2.6]]


@pytest.fixture
async def store(store: SpatialiteStore) -> SpatialiteStore:
    area = json.dumps({"type": "Polygon", "coordinates": [VILLAGE]})
    said = {"name": "Village", "zone_type": "settlement", "risk_level": "high", "geometry": area}
    await store.create_zone(VIEW, said)
    line = json.dumps({"type": "LineString", "coordinates": [[37.3, -2.5], [37.7, -2.5]]})
    route = {"name": "River", "species": "elephant", "status": "active", "geometry": line, "width_m": 20_000.0}
    await store.create_corridor(VIEW, route)
    return store


@pytest.fixture
def heard() -> list[Told]:
    return []


@pytest.fixture(scope="module")
def models() -> Models:
    return Models()


@pytest.fixture
def make(
    store: SpatialiteStore, clock: FakeClock, heard: list[Told], models: Models
) -> Iterator[Callable[[], Pipeline]]:
    """Give a function that starts a pipeline, as a station that was killed starts one."""
    made: list[Pipeline] = []

    def start() -> Pipeline:
        keeper = Keeper(store, Engine(rule_book()), clock, heard.append)
        made.append(
            Pipeline(store, models, lambda _name, _data: None, judge=AlarmJudge(keeper), lookout=Lookout(models))
        )
        return made[-1]

    yield start
    for each in made:
        each.close()


def march(hours: int, *, delay: timedelta = timedelta(0)) -> list[NewFix]:
    """Return hourly fixes of an elephant that has walked east for days, ending a good kilometre before the village."""
    return [
        fix_of(EUI, at := START + n * HOUR, lon=37.54 - 0.011 * (hours - 1 - n), lat=-2.5, received_at=at + delay)
        for n in range(hours)
    ]


async def warnings(store: SpatialiteStore) -> list[Alert]:
    found = await store.alerts(VIEW, AlertQuery(alert_type="zone_warning", ordering="detected_at", limit=100))
    return found.results


async def live(pipeline: Pipeline, store: SpatialiteStore, clock: FakeClock, fixes: list[NewFix]) -> None:
    for fix in fixes:
        clock.at = fix.received_at
        await add(store, fix)
        await pipeline.drain()


async def test_an_animal_that_walks_towards_a_village_is_told_before_it_is_there(
    store: SpatialiteStore, make: Callable[[], Pipeline], clock: FakeClock, heard: list[Told], models: Models
) -> None:
    await deploy(store, await elephant(store))
    pipeline = make()
    await live(pipeline, store, clock, march(60))
    (alert,) = await warnings(store)
    assert alert.title.startswith("Alpha may enter Village within ")
    assert "chance" in alert.message
    assert (alert.severity, alert.status, alert.is_late) == ("high", "active", False)
    assert "37." not in alert.title + alert.message
    assert [told.rings for told in heard if told.id == alert.id] == [True]
    for insight in (KeptInsight(store, models, pipeline.occurrence, clock), OnDemand(store, models, clock)):
        (said,) = await insight.live(VIEW)
        kinds = {each.kind: each for each in said.ahead}
        assert kinds["zone"].name == "Village"
        assert kinds["zone"].likeliest[1] >= 0.3
        assert kinds["corridor"].likeliest[1] > 0.9
        public = LiveStatusOut.of(said).early_warnings
        assert [each.probability for each in public] == [each.likeliest[1] for each in said.ahead]
        assert all(each.lead_hours in (1, 3, 6, 12, 24) for each in public)

    inside = fix_of(EUI, START + 60 * HOUR, lon=37.56, lat=-2.5)
    await live(make(), store, clock, [inside, inside])
    (alert,) = await warnings(store)
    assert alert.status == "resolved", "it has come true"
    assert [told.rings for told in heard if told.id == alert.id] == [True, False]
    rang = [told.alert_type for told in heard if told.rings]
    assert rang[-1] == "high_risk_zone"


async def test_a_station_that_is_killed_after_every_fix_tells_it_once(
    store: SpatialiteStore, make: Callable[[], Pipeline], clock: FakeClock, heard: list[Told]
) -> None:
    await deploy(store, await elephant(store))
    fixes = march(60)
    await live(make(), store, clock, fixes[:-4])
    for fix in fixes[-4:]:
        await live(make(), store, clock, [fix])
    assert len(await warnings(store)) == 1
    assert sum(told.rings for told in heard if told.alert_type == "zone_warning") == 1


async def test_of_a_backfill_nothing_is_foretold(
    store: SpatialiteStore, make: Callable[[], Pipeline], clock: FakeClock, heard: list[Told]
) -> None:
    await deploy(store, await elephant(store))
    fixes = march(60, delay=timedelta(days=1))
    clock.at = fixes[-1].received_at
    await add(store, *fixes)
    await make().drain()
    assert await warnings(store) == []
    assert heard == []


async def test_without_a_forecast_nothing_is_foretold_and_nothing_stops(
    store: SpatialiteStore, clock: FakeClock, heard: list[Told], tmp_path: Path
) -> None:
    nothing = Models(tmp_path)
    keeper = Keeper(store, Engine(rule_book()), clock, heard.append)
    pipeline = Pipeline(
        store, nothing, lambda _name, _data: None, judge=AlarmJudge(keeper), lookout=Lookout(nothing)
    )  # fmt: skip
    try:
        await deploy(store, await elephant(store))
        await live(pipeline, store, clock, [*march(5), fix_of(EUI, START + 5 * HOUR, lon=37.56, lat=-2.5)])
        assert await warnings(store) == []
        assert [told.alert_type for told in heard if told.rings] == ["high_risk_zone"]
    finally:
        pipeline.close()
