"""What models say of a whole herd in the cloud: as of each animal alone, a few at a time, and new when something is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from cloud.api.insight import CloudInsight
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from models.live.insight import MOVED_AT_ONCE, MOVED_S, OnDemand
from models.live.runtime import Models
from shared.domain import NewFix
from shared.movement.areas import REACH_M, Place
from shared.privacy import OPERATOR, view_for
from tests.fakes import START, FakeClock

pytestmark = [pytest.mark.integration, pytest.mark.ml]

VIEW = view_for(OPERATOR)
N = MOVED_AT_ONCE + 5
SPECIES = "Loxodonta africana"


class Herd:
    """A herd in a cloud's store, walking an hour a step."""

    def __init__(self, store: PostgresStore, clock: FakeClock) -> None:
        self.store = store
        self.clock = clock
        self.models = Models()

    async def enter(self, n: int) -> None:
        """Enter animals with their collars."""
        for k in range(n):
            animal = await self.store.create_animal(VIEW, {"name": f"A{k:02}", "species": SPECIES})
            began = START - timedelta(days=9)
            span = {"animal_id": animal.id, "collar_id": f"K{k}", "started_at": began, "ended_at": None}
            await self.store.create_deployment(VIEW, span)

    async def walk(self, collars: range, hours: range, **more: Any) -> None:
        """Store a fix of each collar for each hour."""
        fixes = [
            NewFix(
                device=f"collar:K{k}", recorded_at=START + timedelta(hours=hour), lon_deg=37 + k * 0.3 + hour * 0.01,
                received_at=START + timedelta(hours=hour), lat_deg=-2.5 + hour % 5 * 0.01, hdop=1.0 + k % 3, **more,
            )
            for k in collars for hour in hours
        ]  # fmt: skip
        await self.store.add_fixes(VIEW, fixes)


@pytest.fixture
async def herd(database_url: str) -> AsyncIterator[Herd]:
    clock = FakeClock(START + timedelta(hours=50))
    async with Database.open(database_url) as database:
        yield Herd(PostgresStore(database, now=clock.now), clock)


async def test_a_herd_is_told_as_each_animal_alone_and_all_of_it_at_the_second_view(herd: Herd) -> None:
    await herd.enter(N)
    await herd.walk(range(N), range(48))
    await herd.walk(range(2), range(3), speed_mps=1.0)  # copies
    at = START + timedelta(minutes=30)  # and a failed one
    await herd.store.add_fixes(
        VIEW, [NewFix(device="collar:K0", recorded_at=at, received_at=at, lon_deg=None, lat_deg=None)]
    )
    insight = CloudInsight(herd.store, herd.models, herd.clock)
    first = await insight.live(VIEW)
    assert len(first) == N
    told = [each for each in first if each.step is not None]
    assert len(told) == MOVED_AT_ONCE
    assert {each.missing.get("behaviour") for each in first if each.step is None} == {"waits for its turn"}
    assert insight._catching_up is not None
    await asyncio.wait_for(insight._catching_up, 60)
    second = {each.live.animal.id: each for each in await insight.live(VIEW)}
    alone = OnDemand(herd.store, herd.models, herd.clock)
    for each in (await herd.store.live_animals(VIEW))[::5]:
        (said,) = await alone._live(VIEW, [each])
        here = second[each.animal.id]
        assert (here.step, here.distance_24h_m, here.path_sd_m) == (said.step, said.distance_24h_m, said.path_sd_m)
    for animal in (await herd.store.live_animals(VIEW))[:3]:
        (one,), (other,) = await insight._tracks(VIEW, [animal]), await alone._tracks(VIEW, [animal])
        (far,), (other_far,) = (
            await insight._forecast_tracks(VIEW, [animal]),
            await alone._forecast_tracks(VIEW, [animal]),
        )
        for name in ("times_s", "lon_deg", "lat_deg", "h_acc_m", "hdop"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            np.testing.assert_array_equal(getattr(far, name), getattr(other_far, name))


async def test_what_comes_late_is_heard_of_within_a_minute_and_a_track_that_is_as_it_was_is_not_worked_out(
    herd: Herd, monkeypatch: pytest.MonkeyPatch
) -> None:
    await herd.enter(2)
    await herd.walk(range(2), range(0, 48, 2))
    insight = CloudInsight(herd.store, herd.models, herd.clock)
    before = {each.live.animal.name: each.distance_24h_m for each in await insight.live(VIEW)}
    worked_out: list[int] = []
    from models.live import runtime

    said_of_each = runtime.said_of_each

    def counted(models: Models, asked: Sequence[runtime.Asked]) -> list[runtime.Said]:
        worked_out.extend(len(each.fixes) for each in asked)
        return said_of_each(models, asked)

    monkeypatch.setattr(runtime, "said_of_each", counted)
    herd.clock.tick(MOVED_S + 1)
    await herd.walk(range(1), range(43, 44))  # late, of the first
    after = {each.live.animal.name: each.distance_24h_m for each in await insight.live(VIEW)}
    assert len(worked_out) == 1
    assert after["A00"] != before["A00"]
    assert after["A01"] == before["A01"]
    herd.clock.tick(MOVED_S + 1)
    await insight.live(VIEW)
    assert len(worked_out) == 1
    herd.models.turn_to(herd.models._folder)  # other models: all is said anew
    herd.clock.tick(MOVED_S + 1)
    await insight.live(VIEW)
    assert len(worked_out) == 3


async def test_what_is_near_is_known_until_an_area_changes(herd: Herd) -> None:
    await herd.enter(1)
    await herd.walk(range(1), range(3))
    ring = [[36.9, -2.6], [37.2, -2.6], [37.2, -2.3], [36.9, -2.3], [36.9, -2.6]]
    area = '{"type":"Polygon","coordinates":[' + str(ring) + "]}"
    insight = CloudInsight(herd.store, herd.models, herd.clock)

    async def near() -> list[str]:
        (each,) = await insight.live(VIEW)
        return [zone.name for zone in each.nearby]

    assert await near() == []
    zone = await herd.store.create_zone(VIEW, {"name": "Village", "zone_type": "settlement", "geometry": area})
    assert await near() == ["Village"]
    await herd.store.update_zone(VIEW, zone.id, {"name": "Town"})
    assert await near() == ["Town"]
    await herd.store.delete_zone(VIEW, zone.id)
    assert await near() == []


async def test_places_asked_together_are_answered_as_each_alone_across_the_date_line_too(herd: Herd) -> None:
    def box(west: float, south: float) -> str:
        ring = [[west, south], [west + 0.2, south], [west + 0.2, south + 0.2], [west, south + 0.2], [west, south]]
        return '{"type":"Polygon","coordinates":[' + str(ring) + "]}"

    for name, west in (("A", 37.0), ("B", 37.3), ("C", 179.8), ("D", -180.0)):
        await herd.store.create_zone(VIEW, {"name": name, "zone_type": "road", "geometry": box(west, -2.0)})
    line = '{"type":"LineString","coordinates":[[37.0,-2.0],[37.6,-1.7]]}'
    await herd.store.create_corridor(VIEW, {"name": "E", "geometry": line, "width_m": 900.0})
    places = [Place(37.1, -1.9), Place(37.25, -1.9), Place(0.0, 50.0), Place(179.99, -1.9), Place(-179.999, -1.9)]
    together = await herd.store.areas_near(VIEW, places, REACH_M)
    assert together == [(await herd.store.areas_near(VIEW, [place], REACH_M))[0] for place in places]
    assert [{each.name for each in near} for near in together] == [
        {"A", "E"}, {"A", "B", "E"}, set(), {"C", "D"}, {"C", "D"},
    ]  # fmt: skip
    assert await herd.store.areas_near(VIEW, [], REACH_M) == []
