"""Maps as files: windows, coordinates, missing values, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine, from_origin

from models.habitat import features
from models.habitat.covariates import covariate_names
from models.habitat.features import Window, open_rasters
from models.habitat.layers import Layer, Rasters
from shared.errors import Invalid
from tests.unit.models.habitat.maps import CELL_M, NORTH, WEST, smooth_noise, write_map

pytestmark = [pytest.mark.unit, pytest.mark.ml]

HEIGHT = Layer(kind="elevation", file="a.tif", unit="m")


def rasters(folder: Path, *layers: Layer) -> Rasters:
    return Rasters(layer=layers or (HEIGHT,), folder=folder)


def test_a_window_is_the_map_and_nothing_outside_it(tmp_path: Path) -> None:
    values = np.arange(1.0, 101.0).reshape(10, 10)
    values[2, 3] = -9999
    write_map(tmp_path / "a.tif", values)
    with open_rasters(rasters(tmp_path)) as maps:
        found = maps.read(Window(-2, -1, 14, 12))["elevation"]
        assert maps.grid.cell_m == (CELL_M, CELL_M)
        assert np.isnan(maps.read(Window(40, 40, 2, 2))["elevation"]).all()
    assert found.shape == (14, 12)
    assert np.isnan(found[:2]).all()
    assert np.isnan(found[12:]).all()
    assert np.isnan(found[:, [0, 11]]).all()
    assert np.isnan(found[4, 4])
    assert found[2, 1] == 1.0
    assert found[11, 10] == 100.0


def test_positions_are_found_in_their_cells(tmp_path: Path) -> None:
    values = np.arange(1.0, 101.0).reshape(10, 10)
    write_map(tmp_path / "a.tif", values)
    with open_rasters(rasters(tmp_path)) as maps:
        x = np.asarray(WEST + (np.arange(10) + 0.5) * CELL_M, dtype=np.float64)
        lon, lat = maps.grid.to_degrees(x, np.full(10, NORTH - 3.5 * CELL_M))
        found = maps.at(("elevation",), lon, lat)
        assert found[:, 0].tolist() == values[3].tolist()
        nowhere = maps.at(("elevation",), np.array([0.0, np.nan, float(lon[0])]), np.array([0.0, 0.0, np.nan]))
        assert np.isnan(nowhere).all()
        x_m, y_m = maps.grid.to_metres(lon, lat)
        again = maps.grid.from_metres(x_m, y_m)
    assert x_m == pytest.approx(x, abs=0.01)
    assert np.stack(again) == pytest.approx(np.stack((lon, lat)), abs=1e-7)


@pytest.mark.parametrize("cell_m", [100.0, 430.0])
def test_windows_give_what_the_whole_gives(tmp_path: Path, cell_m: float) -> None:
    shape = (310, 290)
    noise = 500 + 100 * smooth_noise(shape, 4)
    noise[100:110, 120:130] = -9999
    write_map(tmp_path / "a.tif", noise, transform=from_origin(WEST, NORTH, cell_m, cell_m))
    names = covariate_names(["elevation"])
    with open_rasters(rasters(tmp_path)) as maps:
        whole = maps.covariates(names, Window(0, 0, *shape))
        parts = np.full_like(whole, np.nan)
        for window in maps.grid.blocks():
            rows = slice(window.row, window.row + window.rows)
            columns = slice(window.column, window.column + window.columns)
            parts[:, rows, columns] = maps.covariates(names, window)
        scattered = maps.at_cells(names, np.array([5, 300, 105, 0]), np.array([280, 3, 125, 0]))
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-4)
    assert scattered == pytest.approx(whole[:, [5, 300, 105, 0], [280, 3, 125, 0]].T, rel=1e-5, abs=1e-4, nan_ok=True)
    assert np.isnan(scattered[2]).all()
    assert np.isfinite(whole[0]).sum() == shape[0] * shape[1] - 100


def test_maps_of_other_cells_and_coordinates_are_brought_to_the_grid(tmp_path: Path) -> None:
    write_map(tmp_path / "a.tif", np.full((60, 60), 700.0))
    # The same ground in degrees, rising from west to east, without a word on missing values, and only the western half.
    with open_rasters(rasters(tmp_path)) as maps:
        lon, lat = maps.grid.to_degrees(np.array([WEST, WEST + 3_000]), np.array([NORTH, NORTH - 6_000]))
    size = 0.0005
    columns = int((lon[1] - lon[0]) / size)
    rows = int((lat[0] - lat[1]) / size) + 20
    rising = np.tile(np.linspace(10, 20, columns), (rows, 1))
    degrees = {"crs": "EPSG:4326", "transform": from_origin(lon[0], lat[0] + 10 * size, size, size)}
    write_map(tmp_path / "b.tif", rising, nodata=None, **degrees)
    write_map(tmp_path / "c.tif", np.where(rising > 15, 2, 1), dtype="uint8", nodata=None, **degrees)
    woody = Layer(kind="woody_cover", file="b.tif", unit="percent")
    cover = Layer(kind="land_cover", file="c.tif", categories={"1": "grass", "2": "forest"})
    with open_rasters(rasters(tmp_path, HEIGHT, woody, cover)) as maps:
        found = maps.read(Window(0, 0, 60, 60))
    west, east = found["woody_cover"][30, 2:28], found["woody_cover"][30, 34:]
    assert (np.diff(west) > 0).all()
    assert west[0] == pytest.approx(10.6, abs=0.4)
    assert np.isnan(east).all()
    assert set(found["land_cover"][30, 2:28].tolist()) == {1.0, 2.0}
    assert np.isnan(found["land_cover"][30, 34:]).all()
    with open_rasters(rasters(tmp_path, woody)) as maps:
        height_m, width_m = maps.grid.cell_m
        assert height_m == pytest.approx(size * 111_320)
        assert width_m == pytest.approx(height_m * np.cos(np.radians(lat.mean())), rel=0.01)


def test_a_map_over_the_date_line_is_one_piece(tmp_path: Path) -> None:
    write_map(tmp_path / "a.tif", np.arange(1.0, 101).reshape(10, 10), crs="EPSG:3832",
              transform=from_origin(3_338_000.0, 0.0, 500.0, 500.0))  # fmt: skip
    with open_rasters(rasters(tmp_path)) as maps:
        x, y = np.array([3_338_250.0, 3_342_750.0]), np.array([-250.0, -4_750.0])
        lon, lat = maps.grid.to_degrees(x, y)
        assert lon[0] > 179.9
        assert lon[1] < -179.9
        assert maps.at(("elevation",), lon, lat)[:, 0].tolist() == [1.0, 100.0]
        assert maps.at(("elevation",), lon + np.array([-360, 360]), lat)[:, 0].tolist() == [1.0, 100.0]


def test_positions_far_from_a_map_have_no_coordinates(tmp_path: Path) -> None:
    write_map(tmp_path / "a.tif", np.full((4, 4), 700.0))
    with open_rasters(rasters(tmp_path)) as maps:
        lon, lat = (one.ravel() for one in np.meshgrid(np.linspace(-180, 180, 40), np.linspace(-90, 90, 40)))
        x, y = maps.grid.project(lon, lat)
        assert np.isnan(x).sum() > 1_550
        assert (np.isnan(x) == np.isnan(y)).all()
        assert np.isnan(maps.at(("elevation",), lon, lat)).all()


def test_units_are_converted_and_what_cannot_be_is_missing(tmp_path: Path) -> None:
    write_map(tmp_path / "a.tif", np.array([[0.1, 0.5], [3.0, np.nan]]))
    with open_rasters(rasters(tmp_path, Layer(kind="woody_cover", file="a.tif", unit="1"))) as maps:
        found = maps.read(Window(0, 0, 2, 2))["woody_cover"]
    assert found[0] == pytest.approx([10.0, 50.0], rel=1e-6)
    assert np.isnan(found[1]).all()


def test_a_large_map_without_overviews_is_judged_by_windows_and_not_read_whole(tmp_path: Path) -> None:
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    write_map(tmp_path / "a.tif", np.full((2_100, 1_500), 4_000.0), **tiles)
    wrong = rasters(tmp_path, Layer(kind="woody_cover", file="a.tif", unit="percent"))
    with pytest.raises(Invalid, match="is the unit or the band another"), open_rasters(wrong):
        pass
    with open_rasters(rasters(tmp_path, Layer(kind="elevation", file="a.tif", unit="m"))) as maps:
        assert maps.grid.rows == 2_100
    with rasterio.open(tmp_path / "a.tif") as source:
        values, is_there = features._sampled(source, 1)
    assert values.shape == is_there.shape == (16, 32, 32)  # a seventh of its tiles at most
    assert is_there.all()
    with rasterio.open(tmp_path / "a.tif", "r+") as source:
        source.build_overviews([4, 16])
    with rasterio.open(tmp_path / "a.tif") as source:
        assert features._sampled(source, 1)[0].shape == (128, 128)


def test_a_season_reads_its_own_map(tmp_path: Path) -> None:
    write_map(tmp_path / "wet.tif", np.full((3, 3), 0.8))
    write_map(tmp_path / "dry.tif", np.full((3, 3), 0.2))
    wet = Layer(kind="ndvi", file="wet.tif", unit="1", months=(1, 2, 3, 4, 5, 6))
    dry = Layer(kind="ndvi", file="dry.tif", unit="1", months=(7, 8, 9, 10, 11, 12))
    with open_rasters(rasters(tmp_path, wet, dry)) as maps:
        assert maps.covariates(("ndvi",), Window(1, 1, 1, 1), 2).item() == pytest.approx(0.8)
        assert maps.covariates(("ndvi",), Window(1, 1, 1, 1), 8).item() == pytest.approx(0.2)
        assert np.isnan(maps.covariates(("ndvi",), Window(1, 1, 1, 1)).item())


@pytest.mark.parametrize(
    ("profile", "layer", "said"),
    [
        ({"crs": None}, HEIGHT, "does not say its coordinate system"),
        ({"transform": Affine(90, 40, WEST, 40, -90, NORTH)}, HEIGHT, "bring it to the north with gdalwarp"),
        ({"transform": Affine(100, 0, WEST, 0, 100, NORTH)}, HEIGHT, "bring it to the north with gdalwarp"),
        ({}, Layer(kind="elevation", file="a.tif", unit="m", band=2), "band 2, but the file has 1"),
        ({}, Layer(kind="slope", file="a.tif", unit="degree"), "is the unit or the band another?"),
        ({}, Layer(kind="elevation", file="b.tif", unit="m"), "b.tif: no such file"),
    ],
)
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_map_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, profile: dict[str, Any], layer: Layer, said: str
) -> None:
    write_map(tmp_path / "a.tif", np.full((4, 4), 700.0), **profile)
    with pytest.raises(Invalid) as error, open_rasters(rasters(tmp_path, layer)):
        pass
    assert said in error.value.detail
    assert ".tif" in error.value.detail


def test_a_file_that_is_no_map_or_is_cut_off_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0 not a map")
    with pytest.raises(Invalid, match=r"a\.tif: not a map"), open_rasters(rasters(tmp_path)):
        pass
    (tmp_path / "a.tif").unlink()
    whole = write_map(tmp_path / "a.tif", np.random.default_rng(1).normal(500, 10, (400, 400))).read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Invalid, match=r"a\.tif"), open_rasters(rasters(tmp_path)) as maps:
        maps.read(Window(0, 0, 400, 400))
