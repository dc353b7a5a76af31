"""The station's side: trees in bytes beside the booster, models that are refused, maps and tiles."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import rasterio

from models.artifact import PACKAGED, load
from models.habitat.datasets import Points, Settings
from models.habitat.export import export, quantised
from models.habitat.features import Window, open_rasters
from models.habitat.runtime import (
    END_BIN,
    HabitatModel,
    load_model,
    missing_covariates,
    model_name,
    suitability_map,
    suitability_of,
    suitability_tile,
)
from models.habitat.tiles import empty_tile
from models.habitat.train import FloatModel, fit
from shared.errors import Invalid, ModelUnavailable
from tests.unit.models.habitat.maps import write_map, write_reserve

pytestmark = [pytest.mark.unit, pytest.mark.ml]

NAMES = ("elevation", "woody_cover", "distance_to_water", "slope")


def points(seed: int = 1, count: int = 3_000) -> Points:
    """Places that are used where it is low and near water, with holes in what is known."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, 4)).astype(np.float32) * (100, 20, 500, 5) + np.float32(300)
    chance = 1 / (1 + np.exp((values[:, 0] - 300) / 60 + np.abs(values[:, 2] - 300) / 300))
    values[rng.random(values.shape) < 0.1] = np.nan
    return Points(
        names=NAMES,
        own=NAMES[:3],
        values=values.astype(np.float32),
        is_used=(rng.random(count) < chance).astype(np.float64),
        x_m=rng.uniform(0, 30_000, count),
        y_m=rng.uniform(0, 30_000, count),
        animal=np.zeros(count, dtype=np.int64),
        months=np.ones(count, dtype=np.int64),
        individuals=("A",),
    )


@pytest.fixture(scope="module")
def trained() -> FloatModel:
    return fit(points(), Settings(depth=4, rounds=60, bins=200, least_weight=1.0, l2=1.0, bags=2), seed=3)


@pytest.fixture(scope="module")
def small(trained: FloatModel) -> HabitatModel:
    return quantised(trained, name="elephant", version=1, held_out="blocks", metrics={"auc": 0.7, "boyce": 0.9})


@pytest.fixture(scope="module")
def reserve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reserve(tmp_path_factory.mktemp("reserve"))


def save(folder: Path, model: HabitatModel) -> None:
    export(folder, model, metrics={"auc": 0.7}, trained_on=(), gain={"elevation": 1.0}, settings=Settings())


def chance(log_odds: Any) -> Any:
    return 1 / (1 + np.exp(-log_odds))


def test_trees_in_bytes_say_what_the_boosters_say(trained: FloatModel, small: HabitatModel) -> None:
    values = points(7, 20_000).values
    found, wanted = small.score(values), chance(trained.log_odds(values))
    assert float(np.nanmax(np.abs(found - wanted))) < 1e-4
    top = 200
    assert set(np.argsort(-found)[:top].tolist()) == set(np.argsort(-wanted)[:top].tolist())


def test_a_value_at_a_threshold_goes_where_it_went_in_training(trained: FloatModel, small: HabitatModel) -> None:
    begin = 0
    for place, end in enumerate(small.ends.tolist()):
        at = small.thresholds[begin:end]
        begin = end
        rows = np.tile(np.float32(300), (3 * at.size, 4))
        rows[:, place] = np.concatenate((at, np.nextafter(at, np.float32(-1e9)), np.nextafter(at, np.float32(1e9))))
        assert np.abs(small.score(rows) - chance(trained.log_odds(rows))).max() < 1e-4


def test_what_is_missing_goes_the_way_that_training_chose(trained: FloatModel, small: HabitatModel) -> None:
    values = points(8, 500).values
    values[:, 2] = np.nan
    values[:, 0] = 300
    assert np.abs(small.score(values) - chance(trained.log_odds(values))).max() < 1e-4
    assert np.isnan(small.score(np.full((2, 4), np.nan, dtype=np.float32))).all()
    one = np.array([[np.inf, 300, 300, 300], [np.nan, 300, 300, 300]], dtype=np.float32)
    assert small.score(one)[0] == small.score(one)[1]


def test_one_cell_and_many_are_scored_alike(small: HabitatModel) -> None:
    values = points(9, 20_000).values
    whole = small.score(values)
    assert [float(small.score(values[n : n + 1])[0]) for n in (0, 8_191, 8_192, 19_999)] == whole[
        [0, 8_191, 8_192, 19_999]
    ].tolist()
    with pytest.raises(ValueError, match="4 covariates"):
        small.score(values[:, :3])


def test_what_is_exported_is_loaded(tmp_path: Path, small: HabitatModel) -> None:
    save(tmp_path, small)
    found = load_model("Loxodonta africana", tmp_path)
    values = points(4, 100).values
    assert found.score(values).tolist() == small.score(values).tolist()
    assert (found.auc, found.held_out, found.names) == (0.7, "blocks", NAMES)
    manifest = load(tmp_path, "habitat", 1, "elephant").manifest
    assert [(one.name, one.unit) for one in manifest.inputs][2:] == [("distance_to_water", "m"), ("slope", "degree")]
    assert manifest.settings["training"]["rounds"] == Settings().rounds


@pytest.mark.parametrize(
    ("species", "name"),
    [
        ("Loxodonta africana", "elephant"), ("African bush elephants", "elephant"), ("Puma concolor", "cougar"),
        ("Canis latrans", "coyote"), ("Cervus elaphus", "red_deer"), ("Syncerus caffer", "buffalo"),
        ("Panthera leo", "panthera_leo"), ("../../etc", "generic"), ("", "generic"), (None, "generic"),
    ],
)  # fmt: skip
def test_a_species_has_its_model(species: str | None, name: str) -> None:
    assert model_name(species) == name


def test_a_species_without_a_model_gets_the_generic_one_and_says_why(tmp_path: Path, small: HabitatModel) -> None:
    save(tmp_path, small)
    with pytest.raises(ModelUnavailable):
        load_model("Panthera leo", tmp_path)
    save(tmp_path, msgspec.structs.replace(small, name="generic"))
    assert load_model("Panthera leo", tmp_path).name == "generic"
    (tmp_path / "habitat" / "1" / "elephant.bin").write_bytes(b"\0" * 10)
    found = load_model("elephant", tmp_path)
    assert found.name == "generic"
    assert "bytes" in found.refused[0]


def test_a_guess_is_given_to_those_alone_who_ask_for_it(tmp_path: Path, small: HabitatModel) -> None:
    export(tmp_path, msgspec.structs.replace(small, name="generic"), metrics={"auc": 0.52}, trained_on=(), gain={},
           settings=Settings())  # fmt: skip
    with pytest.raises(ModelUnavailable, match="no better than chance"):
        load_model("Panthera leo", tmp_path)
    assert load_model("Panthera leo", tmp_path, is_guess_allowed=True).is_guess
    export(tmp_path, msgspec.structs.replace(small, name="generic", version=2), metrics={}, trained_on=(), gain={},
           settings=Settings())  # fmt: skip
    with pytest.raises(ModelUnavailable, match="no better than chance"):
        load_model("Panthera leo", tmp_path)


def test_an_altered_model_gives_way_to_the_version_before(tmp_path: Path, small: HabitatModel) -> None:
    save(tmp_path, small)
    save(tmp_path, msgspec.structs.replace(small, version=2))
    path = tmp_path / "habitat" / "2" / "elephant.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = load_model("elephant", tmp_path)
    assert found.version == 1
    assert "sha256" in found.refused[0]


def altered(small: HabitatModel, how: str) -> HabitatModel:
    """A model that verifies, since its hash is of what it is, and cannot be."""
    bins, features = small.bins.copy(), small.features.copy()
    changes: dict[str, Any] = {}
    if how == "threshold that is not there":
        bins[0, 0] = END_BIN - 1
        changes["bins"] = bins
    elif how == "covariate that is not there":
        features[0, 0] = 9
        changes["features"] = features
    elif how == "thresholds that fall":
        changes["thresholds"] = small.thresholds[::-1].copy()
    elif how == "leaves of half a tree":
        changes["leaves"] = small.leaves[:, :11].copy()
    elif how == "a covariate twice":
        changes["names"] = ("elevation", *small.names[:3])
    elif how == "nodes of other trees":
        changes["bins"] = bins[1:]
    elif how == "no spread":
        changes["linear"] = np.zeros_like(small.linear)
    elif how == "cut elsewhere":
        changes["ends"] = small.ends + 1
    elif how == "a side that is none":
        changes["no_data_right"] = small.no_data_right + np.uint8(2)
    elif how == "base":
        changes["base"] = float("inf")
    elif how == "other numbers":
        changes["leaves"] = small.leaves.astype(np.int32)
    return msgspec.structs.replace(small, **changes)


@pytest.mark.parametrize(
    "how",
    [
        "threshold that is not there", "covariate that is not there", "thresholds that fall", "leaves of half a tree",
        "a covariate twice", "nodes of other trees", "no spread", "cut elsewhere", "a side that is none", "base",
        "other numbers",
    ],
)  # fmt: skip
def test_a_model_of_the_wrong_shape_is_unavailable(tmp_path: Path, small: HabitatModel, how: str) -> None:
    save(tmp_path, msgspec.structs.replace(altered(small, how), name="generic"))
    with pytest.raises(ModelUnavailable):
        load_model("zebra", tmp_path)


def test_a_place_a_track_and_a_map_have_one_suitability(tmp_path: Path, reserve: Path, small: HabitatModel) -> None:
    with open_rasters(reserve / "rasters.toml") as maps:
        missing = suitability_map(small, maps, tmp_path / "map.tif")
        grid = maps.grid
        x = grid.west + (np.array([10.0, 60, 120]) + 0.5) * grid.cell_x
        y = grid.north - (np.array([20.0, 70, 90]) + 0.5) * grid.cell_y
        lon, lat = grid.to_degrees(x, y)
        found = suitability_of(small, maps, lon, lat)
        single = suitability_of(small, maps, lon[1:2], lat[1:2])
        outside = suitability_of(small, maps, np.array([0.0]), np.array([0.0]))
    assert missing == found.missing == ()
    assert (found.model, found.version, found.model_auc) == ("elephant", 1, 0.7)
    assert single.suitability[0] == found.suitability[1]
    assert np.isnan(outside.suitability[0])
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.tags()["MODEL"] == "habitat/1/elephant"
        assert (file.crs.to_epsg(), file.shape) == (32736, (160, 170))
        values = file.read(1)
        assert values[[20, 70, 90], [10, 60, 120]] == pytest.approx(found.suitability, rel=1e-6)
        assert ((values >= 0) & (values <= 1)).all()
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]


def test_missing_maps_are_said_and_nothing_is_invented(reserve: Path, small: HabitatModel) -> None:
    with open_rasters(reserve / "rasters.toml") as maps:
        other = msgspec.structs.replace(small, names=("elevation", "ndvi_mean_500m", "land_cover_forest", "slope"))
        assert missing_covariates(other, maps) == ("ndvi_mean_500m", "land_cover_forest")
        lon, lat = maps.grid.to_degrees(np.array([maps.grid.west + 5_000]), np.array([maps.grid.north - 5_000]))
        assert suitability_of(other, maps, lon, lat).missing == ("ndvi_mean_500m", "land_cover_forest")
        none = msgspec.structs.replace(small, names=("ndvi", "rainfall", "temperature", "biomass"))
        with pytest.raises(Invalid, match="it asks for ndvi, rainfall"):
            suitability_of(none, maps, lon, lat)
        with pytest.raises(Invalid, match="month 13"):
            suitability_of(small, maps, lon, lat, 13)


def test_a_map_is_scored_in_the_memory_of_a_window(tmp_path: Path, small: HabitatModel) -> None:
    tables = {name: getattr(small, name)[:3] for name in ("features", "bins", "no_data_right", "leaves")}
    few = msgspec.structs.replace(small, **tables)
    rows = np.linspace(200, 400, 2_400, dtype=np.float32)
    write_map(tmp_path / "a.tif", np.tile(rows[:, None], (1, 1_200)), tiled=True, blockxsize=256, blockysize=256)
    (tmp_path / "rasters.toml").write_text('[[layer]]\nkind = "elevation"\nfile = "a.tif"\nunit = "m"\n')
    with open_rasters(tmp_path / "rasters.toml") as maps:
        tracemalloc.start()
        suitability_map(few, maps, tmp_path / "map.tif")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # All covariates of the whole map alone would be 46 MB.
    assert peak < 24e6


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_tile_shows_the_suitability_of_its_cells(tmp_path: Path, reserve: Path, small: HabitatModel) -> None:
    with open_rasters(reserve / "rasters.toml") as maps:
        grid = maps.grid
        lon, lat = grid.to_degrees(np.array([grid.west + 8_000.0]), np.array([grid.north - 8_000.0]))
        zoom = 13
        x = int((lon[0] + 180) / 360 * 2**zoom)
        y = int((1 - np.arcsinh(np.tan(np.radians(lat[0]))) / np.pi) / 2 * 2**zoom)
        png = suitability_tile(small, maps, zoom, x, y)
        assert suitability_tile(small, maps, zoom, x, y) == png
        assert suitability_tile(small, maps, zoom, 0, 0) == empty_tile()
        world = suitability_tile(small, maps, 0, 0, 0)
        middles = (np.arange(256) + 0.5) / 256
        column_lon = (x + middles) / 2**zoom * 360 - 180
        row_lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * (y + middles) / 2**zoom))))
        places = np.stack(np.meshgrid(column_lon[::40], row_lat[::40])).reshape(2, -1)
        wanted = suitability_of(small, maps, *places).suitability.reshape(7, 7)
        for tile in ((zoom, 2**zoom, 0), (zoom, 0, -1), (23, 0, 0)):
            with pytest.raises(Invalid):
                suitability_tile(small, maps, *tile)
    (tmp_path / "tile.png").write_bytes(png)
    (tmp_path / "world.png").write_bytes(world)
    with rasterio.open(tmp_path / "tile.png") as file:
        indices = file.read(1)
        assert file.colormap(1)[0][3] == 0
        assert file.colormap(1)[1][3] == 255
    assert indices.shape == (256, 256)
    assert (indices[::40, ::40] - 1) / 254 == pytest.approx(wanted, abs=0.5 / 254 + 1e-6)
    assert len(png) < 40_000
    with rasterio.open(tmp_path / "world.png") as file:
        assert (file.read(1) > 0).sum() <= 1


def test_a_window_of_no_layer_in_this_month_is_missing(tmp_path: Path) -> None:
    write_map(tmp_path / "a.tif", np.full((4, 4), 0.5))
    (tmp_path / "rasters.toml").write_text(
        '[[layer]]\nkind = "ndvi"\nfile = "a.tif"\nunit = "1"\nmonths = [1]\n', encoding="utf-8"
    )
    with open_rasters(tmp_path / "rasters.toml") as maps:
        assert np.isnan(maps.covariates(("ndvi",), Window(0, 0, 4, 4), 2)).all()


def test_the_station_needs_numpy_alone_until_it_opens_a_map() -> None:
    script = (
        "import sys\n"
        "import models.habitat.runtime, models.habitat.features\n"
        "heavy = {'xgboost', 'scipy', 'sklearn', 'rasterio', 'onnxruntime', 'pyproj', 'models.habitat.train'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted((PACKAGED / "habitat").glob("*/*.json")), ids=lambda path: path.stem)
def test_packaged_models_load_and_name_what_they_learned_from(path: Path) -> None:
    found = load_model(path.stem, is_guess_allowed=True)
    assert found.refused == ()
    assert found.name == path.stem
    manifest = load(PACKAGED, "habitat", int(path.parent.name), path.stem).manifest
    assert all(one.individuals and one.licence and one.citation and one.rows > 0 for one in manifest.trained_on)
    assert manifest.metrics["quantisation_max_dp"] < 1e-4
    assert path.with_suffix(".bin").stat().st_size < 60_000
