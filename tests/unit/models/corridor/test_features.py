"""From maps to surfaces: windows, coarser cells, roads, missing values, areas in degrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin

from models.corridor.features import cost_in, filled, outline, surface_between, surface_in, write_cost
from models.corridor.surface import Cell, read_weights
from models.habitat.features import Window, open_rasters
from models.habitat.layers import Layer, Rasters
from shared.errors import Invalid
from tests.unit.models.habitat.maps import CELL_M, NORTH, WEST, smooth_noise, write_map

pytestmark = [pytest.mark.unit, pytest.mark.corridors, pytest.mark.ml]

WEIGHTS = read_weights()["default"]
LAYERS = (
    Layer(kind="habitat_suitability", file="a.tif", unit="1"),
    Layer(kind="distance_to_road", file="a.tif", unit="m", band=2),
    Layer(kind="elevation", file="a.tif", unit="m", band=3),
)
SHAPE = (60, 300)


@pytest.fixture
def reserve(tmp_path: Path) -> Rasters:
    suitability = np.clip(0.5 + 0.3 * smooth_noise(SHAPE, 1), 0, 1)
    suitability[5:9, 5:9] = -9999
    road = np.abs(np.arange(SHAPE[1]) - 150.0)[None, :].repeat(SHAPE[0], axis=0) * CELL_M
    write_map(tmp_path / "a.tif", np.stack((suitability, road, 500 + 20 * smooth_noise(SHAPE, 2))))
    return Rasters(layer=LAYERS, folder=tmp_path)


def test_a_surface_is_the_maps_weighed_and_the_same_in_windows_and_as_a_file(reserve: Rasters, tmp_path: Path) -> None:
    with open_rasters(reserve) as maps:
        placed = surface_in(maps, WEIGHTS, Window(0, 0, *SHAPE))
        parts = np.full(SHAPE, np.nan, dtype=np.float32)
        for window in maps.grid.blocks():
            rows, columns = slice(window.row, window.row + window.rows), slice(window.column, None)
            parts[rows, columns.start : columns.start + window.columns] = cost_in(maps, WEIGHTS, window)
        said: list[float] = []
        write_cost(maps, WEIGHTS, tmp_path / "cost.tif", progress=said.append)
    surface = placed.surface
    assert set(surface.terms) == {"distance", "habitat", "road", "slope"}
    assert surface.cell_m == pytest.approx(CELL_M)
    is_there = np.isfinite(parts)
    assert np.array_equal(is_there, surface.is_passable)
    assert not surface.is_passable[6, 6]
    np.testing.assert_allclose(surface.cost[is_there], parts[is_there], rtol=1e-5)
    assert surface.is_road[:, 150].all()
    assert not surface.is_road[:, :149].any()
    assert said[-1] == 1.0
    with open_rasters(Rasters(layer=(Layer(kind="biomass", file="cost.tif", unit="1"),), folder=tmp_path)) as written:
        again = written.read(Window(0, 0, *SHAPE))["biomass"]
    np.testing.assert_allclose(again[is_there], surface.cost[is_there], rtol=1e-5)


def test_a_large_part_of_a_map_is_made_coarser_and_says_so(reserve: Rasters) -> None:
    with open_rasters(reserve) as maps:
        fine = surface_in(maps, WEIGHTS, Window(0, 0, *SHAPE))
        coarse = surface_in(maps, WEIGHTS, Window(0, 0, *SHAPE), most_cells=2_000)
    assert coarse.coarseness == 3
    assert coarse.surface.shape == (20, 100)
    assert coarse.surface.cell_m == pytest.approx(3 * CELL_M)
    block = fine.surface.terms["habitat"][30:33, 90:93]
    assert coarse.surface.terms["habitat"][10, 30] == pytest.approx(float(block.mean()), rel=1e-4)
    assert coarse.surface.is_road[:, 50].all()


def test_positions_come_back_as_they_went_in_and_outside_is_refused(reserve: Rasters) -> None:
    with open_rasters(reserve) as maps:
        lon, lat = maps.grid.to_degrees(
            np.array([WEST + 20.5 * CELL_M, WEST + 90.5 * CELL_M]), np.array([NORTH - 30.5 * CELL_M] * 2)
        )
        ends = list(zip(lon.tolist(), lat.tolist(), strict=True))
        placed = surface_between(maps, WEIGHTS, ends[0], ends[1])
        cells = [placed.cell(*end) for end in ends]
        with pytest.raises(Invalid, match="end_point is outside the maps"):
            surface_between(maps, WEIGHTS, ends[0], (0.0, 0.0))
        with pytest.raises(Invalid, match="start_point is outside the maps"):
            surface_between(maps, WEIGHTS, (float("nan"), 0.0), ends[1])
    assert (cells[1].row - cells[0].row, cells[1].column - cells[0].column) == (0, 70)
    back = placed.positions(np.array(cells, dtype=np.float64))
    assert np.stack(back, axis=1) == pytest.approx(np.array(ends), abs=1e-7)


def test_an_area_in_degrees_covers_the_cells_that_it_was_made_of(reserve: Rasters) -> None:
    with open_rasters(reserve) as maps:
        placed = surface_in(maps, WEIGHTS, Window(0, 0, *SHAPE))
    path = np.stack((np.full(40, 30), np.arange(100, 140)), axis=1)
    area = outline(placed, path, 2)
    assert area["type"] == "Polygon"
    cells = filled(placed, [area])
    assert cells[28:33, 98:142].all()
    assert cells.sum() <= 7 * 46
    assert placed.surface.shape == SHAPE
    assert Cell(30, 100) == (30, 100)


def test_cells_that_are_not_square_are_refused(tmp_path: Path) -> None:
    write_map(tmp_path / "a.tif", np.ones((20, 20)), transform=from_origin(WEST, NORTH, 100.0, 300.0))
    layer = Layer(kind="habitat_suitability", file="a.tif", unit="1")
    with open_rasters(Rasters(layer=(layer,), folder=tmp_path)) as maps, pytest.raises(Invalid, match="square"):
        surface_in(maps, WEIGHTS, Window(0, 0, 20, 20))
