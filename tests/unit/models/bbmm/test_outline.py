"""Borders of regions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.bbmm.density import Grid
from models.bbmm.features import BoolArray, frame_for
from models.bbmm.outline import multipolygon, rings

pytestmark = [pytest.mark.unit, pytest.mark.ml]

FRAME = frame_for(np.array([37.0]), np.array([0.5]))


def cells(*rows: str) -> BoolArray:
    """Return a mask from a drawing whose last line is the first row."""
    return np.array([[mark == "#" for mark in row] for row in reversed(rows)])


def doubled_area(ring: list[tuple[int, int]]) -> int:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(ring))


def test_one_cell_has_a_square_counter_clockwise() -> None:
    assert rings(cells("#")) == [[(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]]


def test_corners_on_a_straight_line_are_left_out() -> None:
    assert rings(cells("###")) == [[(0, 0), (3, 0), (3, 1), (0, 1), (0, 0)]]


def test_cells_that_touch_at_a_corner_are_apart() -> None:
    for drawing in (("#.", ".#"), (".#", "#.")):
        found = rings(cells(*drawing))
        assert sorted(doubled_area(ring) for ring in found) == [2, 2]


def test_nothing_has_no_ring() -> None:
    assert rings(cells("...")) == []


def test_a_hole_belongs_to_the_ring_around_it_and_an_island_in_it_is_its_own() -> None:
    inside = cells("#####", "#...#", "#.#.#", "#...#", "#####", ".....", "###..", "#.#..", "###..")
    grid = Grid(x_m=500_000.0, y_m=55_000.0, cell_m=100.0, columns=5, rows=9)
    polygons = multipolygon(inside, grid, FRAME)
    assert sorted(len(polygon) for polygon in polygons) == [1, 2, 2]
    for polygon in polygons:
        assert all(ring[0] == ring[-1] for ring in polygon)


def test_rings_lie_on_the_borders_of_cells_whose_middle_is_the_grid() -> None:
    grid = Grid(x_m=500_000.0, y_m=55_000.0, cell_m=100.0, columns=1, rows=1)
    ((ring,),) = multipolygon(cells("#"), grid, FRAME)
    lon, lat = np.array(ring).T
    x_m, y_m = FRAME.to_metres(lon, lat)
    assert (x_m.min(), x_m.max()) == pytest.approx((499_950, 500_050), abs=0.1)
    assert (y_m.min(), y_m.max()) == pytest.approx((54_950, 55_050), abs=0.1)


def test_the_area_of_all_rings_is_that_of_the_cells() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        inside = rng.random((12, 9)) < 0.5
        assert sum(doubled_area(ring) for ring in rings(inside)) == 2 * int(inside.sum())
        assert len(multipolygon(inside, Grid(x_m=0.0, y_m=0.0, cell_m=1.0, columns=9, rows=12), FRAME)) > 0
