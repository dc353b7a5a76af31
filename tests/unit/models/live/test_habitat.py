"""Habitat behind a process of maps: what it answers, and that nothing which goes wrong with it goes further."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import signal
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.artifact import PACKAGED, Manifest
from models.habitat.features import open_rasters
from models.habitat.runtime import load_model, suitability_of
from models.live import habitat_child as child
from models.live.habitat import MappedHabitat
from models.live.standing import Spot, standings
from shared.errors import Invalid, ModelUnavailable, TooLarge
from shared.movement.areas import Place
from tests.unit.models.habitat.maps import NORTH, WEST, write_map, write_reserve

pytestmark = [pytest.mark.unit, pytest.mark.ml]

SPECIES = "Syncerus caffer"


@pytest.fixture(scope="module")
def reserve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with maps, and one of land cover."""
    folder = write_reserve(tmp_path_factory.mktemp("reserve"))
    cover = np.ones((160, 170))
    cover[:, 85:] = 2
    write_map(folder / "cover.tif", cover)
    with (folder / "rasters.toml").open("a", encoding="utf-8") as file:
        file.write('[[layer]]\nkind = "land_cover"\nfile = "cover.tif"\ncategories = { 1 = "forest", 2 = "grass" }\n')
    return folder


@pytest.fixture
async def habitat(reserve: Path) -> AsyncIterator[MappedHabitat]:
    """Give the habitat of a home that has maps."""
    found = MappedHabitat(reserve)
    yield found
    found.close()


def place_at(row: float, column: float) -> Place:
    """Return the place of a cell of the maps."""
    from rasterio.warp import transform

    lon, lat = transform("EPSG:32736", "EPSG:4326", [WEST + column * 100], [NORTH - row * 100])
    return Place(lon[0], lat[0])


async def test_a_place_has_the_suitability_of_the_model_itself(reserve: Path, habitat: MappedHabitat) -> None:
    places = [place_at(20.5, 30.5), place_at(80.5, 90.5), Place(0.0, 0.0)]
    found = await habitat.suitability(SPECIES, places, 7)
    with open_rasters(reserve / "rasters.toml") as maps:
        lon, lat = (np.array([getattr(place, name) for place in places]) for name in ("lon_deg", "lat_deg"))
        wanted = suitability_of(load_model(SPECIES), maps, lon, lat, 7)
    assert found.suitability[:2] == pytest.approx(wanted.suitability[:2])
    assert found.suitability[2] is None, "outside the maps"
    assert math.isnan(wanted.suitability[2])
    assert (found.model, found.month, found.missing) == ("buffalo", 7, wanted.missing)
    assert found.model_auc is not None
    assert 0.55 < found.model_auc < 1
    assert not found.is_guess
    with pytest.raises(ModelUnavailable, match="no better than chance"):
        await habitat.suitability("okapi", places, 7)


async def test_the_ground_is_what_the_maps_say_of_a_place_and_around_it(habitat: MappedHabitat) -> None:
    place = place_at(50.5, 84.5)
    found = await habitat.ground(place, 250.0, 1)
    assert found.cells == 21  # cells of 100 m whose middles lie within 250 m
    layers = {layer.kind: layer for layer in found.layers}
    height = layers["elevation"]
    assert height.unit == "m"
    assert height.lowest is not None
    assert height.value is not None
    assert height.highest is not None
    assert height.lowest <= height.value <= height.highest
    cover = layers["land_cover"]
    assert (cover.category, cover.value) == ("forest", None)
    assert cover.shares == {"forest": pytest.approx(13 / 21, abs=1e-3), "grass": pytest.approx(8 / 21, abs=1e-3)}
    assert (await habitat.ground(place, 0.0, 1)).cells == 1
    with pytest.raises(TooLarge, match="radius"):
        await habitat.ground(place, 60_000.0, 1)
    with pytest.raises(ModelUnavailable, match="outside the maps"):
        await habitat.ground(Place(0.0, 0.0), 10.0, 1)


async def test_a_tile_is_drawn_once(habitat: MappedHabitat) -> None:
    place = place_at(80, 85)
    zoom = 10
    x = int((place.lon_deg + 180) / 360 * 2**zoom)
    y = int((1 - math.asinh(math.tan(math.radians(place.lat_deg))) / math.pi) / 2 * 2**zoom)
    first = await habitat.tile(SPECIES, zoom, x, y, 7)
    assert first.startswith(b"\x89PNG")
    rows = zlib.decompress(first[first.index(b"IDAT") + 4 :])
    assert len(set(rows)) > 20, "more than one colour"
    assert await habitat.tile(SPECIES, zoom, x, y, 7) is first
    for z, column, row in ((23, 0, 0), (1, 2, 0), (1, 0, -1)):
        with pytest.raises(Invalid, match="no tile"):
            await habitat.tile(SPECIES, z, column, row, 7)


async def test_without_maps_no_process_is_started(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        home = MappedHabitat(folder)
        assert home.missing() is not None
        assert (await home.status()).status == "unavailable"
        with pytest.raises(ModelUnavailable, match="no maps"):
            await home.suitability(SPECIES, [Place(31.0, -24.0)], 7)
        assert not home.is_running
        (said,) = await standings(home, [Spot(SPECIES, Place(31.0, -24.0), 7)])
        assert said.suitability is None
        assert said.missing is not None


async def test_maps_that_come_or_change_are_opened_anew(tmp_path: Path, reserve: Path) -> None:
    home = MappedHabitat(tmp_path / "maps")
    place = place_at(20.5, 30.5)
    try:
        with pytest.raises(ModelUnavailable, match="no maps"):
            await home.suitability(SPECIES, [place], 7)
        shutil.copytree(reserve, tmp_path / "maps")
        assert (await home.suitability(SPECIES, [place], 7)).suitability[0] is not None
        assert (await home.status()).status == "ready"
        toml = tmp_path / "maps" / "rasters.toml"
        whole = toml.read_text()
        toml.write_text(whole.replace("ground.tif", "gone.tif"))
        with pytest.raises(ModelUnavailable, match=r"gone\.tif: no such file"):
            await home.suitability(SPECIES, [place], 7)
        toml.write_text("layer = 1")
        with pytest.raises(ModelUnavailable, match="maps cannot be used"):
            await home.suitability(SPECIES, [place], 7)
        toml.write_text(whole)
        assert (await home.suitability(SPECIES, [place], 7)).suitability[0] is not None
    finally:
        home.close()


async def test_a_process_that_is_killed_costs_one_answer(habitat: MappedHabitat) -> None:
    place = place_at(20.5, 30.5)
    before = await habitat.suitability(SPECIES, [place], 7)
    (pid,) = habitat._apart.pids
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ModelUnavailable, match="fell"):
        await habitat.suitability(SPECIES, [place], 7)
    assert await habitat.suitability(SPECIES, [place], 7) == before


async def test_a_process_that_hangs_is_ended(reserve: Path) -> None:
    home = MappedHabitat(reserve, longest_s=0.001)
    try:
        with pytest.raises(ModelUnavailable, match="no answer within"):
            await home.suitability(SPECIES, [place_at(20.5, 30.5)], 7)
        assert not home.is_running
    finally:
        home.close()


async def test_a_process_that_nobody_asks_is_ended(reserve: Path) -> None:
    home = MappedHabitat(reserve, idle_s=0.01)
    await home.ground(place_at(20.5, 30.5), 0.0, 1)
    async with asyncio.timeout(120):
        while home.is_running:  # noqa: ASYNC110 # a timer ends it, and tells nobody
            await asyncio.sleep(0.01)


# --- artefacts that are not as they should be -------------------------------------------------------------------------
def damaged(folder: Path, name: str, change: Callable[[Path, Manifest], None]) -> None:
    """Change an artefact and let its manifest say what ``change`` leaves."""
    place = folder / "habitat" / "1" / f"{name}.json"
    change(place, msgspec.json.decode(place.read_bytes(), type=Manifest))


def altered(place: Path, _manifest: Manifest) -> None:
    data = bytearray(place.with_suffix(".bin").read_bytes())
    data[100] ^= 1
    place.with_suffix(".bin").write_bytes(data)


def misshapen(place: Path, manifest: Manifest) -> None:
    arrays = tuple(
        msgspec.structs.replace(each, shape=(each.shape[1], each.shape[0])) if each.name == "leaves" else each
        for each in manifest.arrays
    )
    place.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, arrays=arrays)))


def of_the_future(place: Path, manifest: Manifest) -> None:
    place.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, format=99)))


def with_fields_of_the_future(place: Path, _manifest: Manifest) -> None:
    known = msgspec.json.decode(place.read_bytes())
    place.write_bytes(msgspec.json.encode({**known, "distilled": True}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (altered, "sha256 differs"),
        (misshapen, "leaves"),
        (of_the_future, "format 99"),
        (with_fields_of_the_future, "not readable"),
    ],
    ids=["altered", "misshapen", "of the future", "with fields of the future"],
)
async def test_an_artefact_that_cannot_be_used_is_named_and_costs_its_own_species_alone(
    tmp_path: Path, reserve: Path, change: Callable[[Path, Manifest], None], words: str
) -> None:
    shutil.copytree(PACKAGED, tmp_path / "artifacts")
    damaged(tmp_path / "artifacts", "buffalo", change)
    home = MappedHabitat(reserve, tmp_path / "artifacts")
    try:
        status = await home.status()
        assert (status.status, sorted(status.versions)) == ("degraded", ["cougar", "coyote"])
        assert status.detail is not None
        assert words in status.detail
        with pytest.raises(ModelUnavailable, match=words):
            await home.suitability(SPECIES, [place_at(20.5, 30.5)], 7)
        assert (await home.suitability("coyote", [place_at(20.5, 30.5)], 7)).suitability[0] is not None
    finally:
        home.close()


async def test_a_newer_version_that_cannot_be_used_leaves_the_one_before_it(tmp_path: Path, reserve: Path) -> None:
    folder = tmp_path / "artifacts"
    shutil.copytree(PACKAGED, folder)
    (folder / "habitat" / "2").mkdir()
    for suffix in ("json", "bin"):
        shutil.copy(folder / "habitat" / "1" / f"buffalo.{suffix}", folder / "habitat" / "2" / f"buffalo.{suffix}")
    home = MappedHabitat(reserve, folder)
    try:
        status = await home.status()
        assert (status.status, status.versions["buffalo"]) == ("degraded", "1")
        assert "belongs to another artefact" in (status.detail or "")
        assert (await home.suitability(SPECIES, [place_at(20.5, 30.5)], 7)).version == 1
    finally:
        home.close()


def test_what_the_process_does_is_the_same_without_one(reserve: Path) -> None:
    """Coverage does not see into the process; its questions are plain functions."""
    place = place_at(50.5, 84.5)
    path = reserve / "rasters.toml"
    child.open_maps(path)
    assert child.suitability(path, PACKAGED, SPECIES, [place], 7).suitability[0] is not None
    assert child.tile(path, PACKAGED, SPECIES, 0, 0, 0, 7).startswith(b"\x89PNG")
    assert child.ground(path, place, 0.0, 7).cells == 1
    with pytest.raises(ModelUnavailable, match="cannot be used"):
        child.open_maps(reserve / "nothing.toml")
    child._close()
