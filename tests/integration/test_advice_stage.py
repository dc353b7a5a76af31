"""The stage of corridors at a station: advice on real rows, anew where areas or fixes change, in live_tracking."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.pipeline.advice import AdviceStage
from edge.pipeline.insight import KeptInsight
from edge.pipeline.pipeline import Pipeline
from edge.store.store import SpatialiteStore
from models.artifact import PACKAGED
from models.live.advice import Advisor
from models.live.habitat import MappedHabitat
from models.live.insight import OnDemand
from models.live.runtime import Models
from shared.insight import AnimalInsight
from shared.wire.live import LiveTrackingOut
from tests.fakes import START, FakeClock
from tests.integration.station_store import EUI, HOUR, VIEW, add, ask, deploy, fix_of, opened

pytestmark = [pytest.mark.integration, pytest.mark.ml, pytest.mark.corridors]

OTHER = "eui:0303030303030303"


class Post:
    """A station's store with pipeline, stage and what answers; two animals that walk east."""

    def __init__(self, store: SpatialiteStore, clock: FakeClock) -> None:
        self.store, self.clock, self.models = store, clock, Models()
        self.advisor, self.habitat = Advisor(), MappedHabitat(None)
        self.pipeline = Pipeline(store, self.models, lambda _name, _data: None)
        self.stage = AdviceStage(store, self.advisor, clock, self.habitat)
        self.insight = KeptInsight(store, self.models, self.pipeline.occurrence, clock, self.habitat, self.advisor)

    async def settle(self) -> int:
        """Let models and advice come to everything; return how many turns the advice took."""
        await self.pipeline.drain()
        turns = 0
        while await self.stage.advance():
            turns += 1
        self.clock.tick(6)  # areas are read again by then
        return turns

    async def said(self) -> dict[str, AnimalInsight]:
        return {each.live.animal.species: each for each in await self.insight.live(VIEW)}

    def close(self) -> None:
        self.stage.close()
        self.pipeline.close()


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    clock = FakeClock()
    async with opened(tmp_path / "station.db", clock) as store:
        post = Post(store, clock)
        for device, species in ((EUI, "African elephant"), (OTHER, "okapi")):
            animal = await store.create_animal(VIEW, {"name": species, "species": species})
            await deploy(store, animal.id, device)
            for hour in range(3):
                await add(store, fix_of(device, START + hour * HOUR, lon=16.0 + 0.005 * hour, lat=-19.0))
        clock.tick(2 * 3600)
        yield post
        post.close()


async def draw(post: Post, **fields: Any) -> str:
    line = {"type": "LineString", "coordinates": [[15.8, -19.0], [16.2, -19.0]]}
    made = await post.store.create_corridor(
        VIEW, {"name": "pan to spring", "status": "active", "width_m": 2000.0, "geometry": json.dumps(line), **fields}
    )
    return made.id


async def test_live_tracking_has_advice_for_a_species_that_the_policy_knows_and_the_reason_for_another(
    post: Post,
) -> None:
    before = (await post.said())["African elephant"]
    assert (before.advice, before.missing["corridor"]) == (None, "waits for its turn")
    corridor_id = await draw(post, species="African elephant")
    assert await post.settle() == 1
    said = await post.said()
    elephant, okapi = said["African elephant"].advice, said["okapi"]
    assert elephant is not None
    assert (elephant.recommendation, elephant.corridor_id, elephant.model) == ("stay_course", corridor_id, "ppo 1")
    assert elephant.bearing_deg == pytest.approx(90, abs=23)
    assert okapi.advice is None
    assert "no corridor policy was trained for okapi" in okapi.missing["corridor"]
    tracked = {row.species: row for row in LiveTrackingOut.of(list(said.values()), post.clock.now()).species_data}
    row = tracked["African elephant"]
    assert (row.recommendation, row.bearing, row.corridor_id) == ("stay_course", elephant.bearing_deg, corridor_id)
    assert row.reward == pytest.approx(sum(row.reward_terms.values()), abs=2e-3)
    assert row.models["corridor"] == "ppo 1"
    assert tracked["okapi"].recommendation is None
    # what is worked out on demand, as in the cloud, says the same
    cloud = OnDemand(post.store, post.models, post.clock, post.habitat, post.advisor)
    assert {each.live.animal.species: each.advice for each in await cloud.live(VIEW)}["African elephant"] == elephant


async def test_advice_is_given_anew_where_a_zone_is_drawn_or_the_animal_walks_on_and_else_never(post: Post) -> None:
    await draw(post)
    assert await post.settle() == 1
    assert await post.settle() == 0
    ring = [[16.02, -19.01], [16.05, -19.01], [16.05, -18.99], [16.02, -18.99], [16.02, -19.01]]
    await post.store.create_zone(VIEW, {
        "name": "village", "zone_type": "settlement", "risk_level": "high", "buffer_m": 200.0,
        "geometry": json.dumps({"type": "Polygon", "coordinates": [ring]}),
    })  # fmt: skip
    assert await post.settle() == 1
    advice = (await post.said())["African elephant"].advice
    assert advice is not None
    assert advice.recommendation == "avoid_settlement"
    await add(post.store, fix_of(EUI, START + 3 * HOUR, lon=16.01, lat=-18.95))
    post.clock.tick(3600)
    await post.pipeline.drain()
    assert "corridor" in (await post.said())["African elephant"].missing  # the old advice is of another place
    assert await post.settle() == 1
    north = (await post.said())["African elephant"].advice
    assert north is not None
    assert north.recommendation == "return_to_corridor"
    assert 90 < north.bearing_deg < 270


async def test_an_old_fix_gets_no_advice(post: Post) -> None:
    await draw(post)
    await post.settle()
    post.clock.tick(timedelta(hours=25).total_seconds())
    old = (await post.said())["African elephant"]
    assert (old.advice, old.missing["corridor"]) == (None, "its newest fix is too old")


async def test_another_policy_is_asked_of_every_animal_and_one_that_is_missing_stops_nothing(
    post: Post, tmp_path: Path
) -> None:
    await draw(post)
    await post.settle()
    await post.stage.take(tmp_path / "nothing")
    assert await post.settle() == 1
    said = (await post.said())["African elephant"]
    assert said.advice is None
    assert "no usable corridor model" in said.missing["corridor"]
    assert said.step is not None  # the other models speak on
    await post.stage.take(PACKAGED)
    await post.settle()
    assert (await post.said())["African elephant"].advice is not None
    assert await ask(post.store, "SELECT count(*) FROM advice") == [(2,)]
