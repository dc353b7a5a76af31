"""The stage of maps at the station and on demand: suitability of the newest fix, over a real store and real maps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.pipeline.habitat import HabitatStage
from edge.pipeline.insight import KeptInsight
from edge.pipeline.pipeline import Pipeline
from edge.store.store import SpatialiteStore
from models.live.habitat import MappedHabitat
from models.live.insight import OnDemand
from models.live.runtime import Models
from shared.wire.live import LiveStatusOut
from tests.fakes import START, FakeClock
from tests.integration.station_store import EUI, HOUR, VIEW, add, ask, deploy, fix_of, opened
from tests.unit.models.habitat.maps import write_reserve
from tests.unit.models.live.test_habitat import place_at

pytestmark = [pytest.mark.integration, pytest.mark.ml]

OTHER = "eui:0202020202020202"
OF_PLACES = "SELECT suitability IS NOT NULL, habitat_model, habitat_missing FROM computed ORDER BY animal_pk"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SpatialiteStore]:
    async with opened(tmp_path / "station.db", FakeClock()) as store:
        yield store


async def herd(store: SpatialiteStore) -> None:
    """Enter a buffalo on the maps and an okapi, of which no model knows."""
    for device, species in ((EUI, "Syncerus caffer"), (OTHER, "okapi")):
        animal = await store.create_animal(VIEW, {"name": species, "species": species})
        await deploy(store, animal.id, device)
        for hour in range(3):
            place = place_at(20.5 + hour, 30.5)
            await add(store, fix_of(device, START + hour * HOUR, lon=place.lon_deg, lat=place.lat_deg))


async def test_the_newest_fix_has_the_suitability_of_its_place(store: SpatialiteStore, tmp_path: Path) -> None:
    models, clock = Models(), FakeClock()
    clock.tick(2 * 3600)
    maps = tmp_path / "maps"
    maps.mkdir()
    habitat = MappedHabitat(maps)
    pipeline = Pipeline(store, models, lambda _name, _data: None)
    stage = HabitatStage(store, habitat)
    insight = KeptInsight(store, models, pipeline.occurrence, clock, habitat)
    try:
        await herd(store)
        await pipeline.drain()
        said = {each.live.animal.species: each for each in await insight.live(VIEW)}
        assert all("no maps" in each.missing["habitat"] for each in said.values())
        assert await ask(store, OF_PLACES) == [(0, None, None)] * 2
        write_reserve(maps)
        assert await stage.advance()
        assert not await stage.advance(), "of each fix it is asked once"
        said = {each.live.animal.species: each for each in await insight.live(VIEW)}
        buffalo, okapi = said["Syncerus caffer"], said["okapi"]
        assert buffalo.models["habitat"] == "buffalo 1"
        assert "habitat" not in buffalo.missing
        assert okapi.suitability is None
        assert "no better than chance" in okapi.missing["habitat"]
        wanted = (await habitat.suitability("Syncerus caffer", [place_at(22.5, 30.5)], 6)).suitability[0]
        assert buffalo.suitability == pytest.approx(wanted)
        assert LiveStatusOut.of(buffalo).habitat_suitability == round(buffalo.suitability or 0, 3)
        there = {each.live.animal.species: each for each in await OnDemand(store, models, clock, habitat).live(VIEW)}
        assert there["Syncerus caffer"].suitability == pytest.approx(wanted), "the cloud works it out when it is asked"
        assert there["okapi"].missing["habitat"] == okapi.missing["habitat"]

        place = place_at(80.5, 90.5)
        await add(store, fix_of(EUI, START + 3 * HOUR, lon=place.lon_deg, lat=place.lat_deg))
        await pipeline.drain()
        (first, _) = await ask(store, OF_PLACES)
        assert first == (0, None, None), "a new fix is looked at anew"
        assert await stage.advance()
        after = {each.live.animal.species: each for each in await insight.live(VIEW)}["Syncerus caffer"]
        assert after.suitability != buffalo.suitability
    finally:
        habitat.close()
        pipeline.close()


async def test_maps_that_cannot_be_used_stop_nothing(store: SpatialiteStore, tmp_path: Path) -> None:
    (tmp_path / "rasters.toml").write_text("[[layer]]\nkind = 'weather'\nfile = 'w.tif'\n")
    habitat = MappedHabitat(tmp_path)
    pipeline = Pipeline(store, Models(), lambda _name, _data: None)
    try:
        await herd(store)
        await pipeline.drain()
        assert await HabitatStage(store, habitat).advance()
        rows = await ask(store, OF_PLACES)
        assert [row[0] for row in rows] == [0, 0]
        assert "unknown kind 'weather'" in rows[0][2]
        assert (await habitat.status()).status == "unavailable"
        assert (await ask(store, "SELECT count(*) FROM steps"))[0][0] > 0
    finally:
        habitat.close()
        pipeline.close()
