"""Occurrence on a grid, regions, levels and positions between fixes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.bbmm.density import (
    Grid,
    bridges_of,
    grid_around,
    level_of,
    level_tiles,
    occurrence_of,
    positions_at,
)
from tests.unit.models.bbmm.tracks import brownian, track

pytestmark = [pytest.mark.unit, pytest.mark.ml]


def test_the_separable_sum_is_the_integral_of_the_bridge() -> None:
    walk = brownian(12, 3.0, error_m=30.0)
    grid = grid_around(walk, 50.0, 600.0)
    found = occurrence_of(bridges_of(walk, 3.0), grid)
    columns = grid.x_m + grid.cell_m * np.arange(grid.columns)
    rows = grid.y_m + grid.cell_m * np.arange(grid.rows)
    plain = np.zeros((grid.rows, grid.columns))
    for n in range(11):
        for share in (np.arange(400) + 0.5) / 400:
            mean_x = walk.x_m[n] + share * (walk.x_m[n + 1] - walk.x_m[n])
            mean_y = walk.y_m[n] + share * (walk.y_m[n + 1] - walk.y_m[n])
            variance = 3600 * share * (1 - share) * 3.0 + 900 * ((1 - share) ** 2 + share**2)
            squared = (columns[None, :] - mean_x) ** 2 + (rows[:, None] - mean_y) ** 2
            plain += np.exp(-squared / (2 * variance)) / (2 * math.pi * variance) * 9.0 * 2500
    assert found.seconds == pytest.approx(plain, abs=plain.max() * 0.01)
    assert found.seconds.sum() == pytest.approx(plain.sum(), rel=1e-3)
    assert found.mass_on_grid == pytest.approx(1.0, abs=2e-3)


def test_a_resting_animal_occupies_a_circle_of_known_area() -> None:
    resting = track([0, 1e-3], [0, 0], [0, 0], error_m=100.0)
    found = occurrence_of(bridges_of(resting, 1e-9), grid_around(resting, 5.0, 600.0))
    # The mean of the variances of a bridge without motion is 2/3 of the error's: the ends are surest of nothing.
    assert found.area_km2(0.95) == pytest.approx(2 * math.pi * 100**2 * math.log(20) * 2 / 3 / 1e6, rel=0.05)


def test_what_lies_beyond_the_grid_is_missing_from_the_mass() -> None:
    walk = track([0, 3600], [0, 1_000], [0, 0])
    half = Grid(x_m=-1_000.0, y_m=-1_000.0, cell_m=25.0, columns=60, rows=80)
    assert occurrence_of(bridges_of(walk, 1.0), half).mass_on_grid == pytest.approx(0.5, abs=0.03)


def test_no_bridge_leads_over_a_gap_and_gaps_are_counted() -> None:
    walk = track([0, 10, 1_000, 1_010], [0, 1, 2, 3], [0, 0, 0, 0])
    found = bridges_of(walk, 1.0, max_gap_s=100)
    assert (len(found), found.gaps, found.gaps_s) == (2, 1, 990.0)
    at = positions_at(found, np.array([-1.0, 0.0, 5.0, 500.0, 1_005.0, 2_000.0]))
    assert np.isnan(at.x_m).tolist() == [True, False, False, True, False, True]


def test_a_position_between_fixes_has_the_width_of_the_bridge() -> None:
    found = positions_at(bridges_of(track([0, 100], [0, 100], [0, 0], 10.0), 4.0), np.array([0.0, 25.0, 100.0]))
    assert found.x_m == pytest.approx([0.0, 25.0, 100.0])
    assert found.sd_m == pytest.approx([10.0, math.sqrt(100 * 0.1875 * 4 + 100 * (0.5625 + 0.0625)), 10.0])


def test_a_region_is_the_smallest_that_holds_its_share() -> None:
    walk = brownian(60, 5.0)
    found = occurrence_of(bridges_of(walk, 5.0), grid_around(walk, 40.0, 800.0))
    seconds = found.seconds.astype(np.float64)
    for share in (0.5, 0.95, 1.0):
        inside = found.region(share)
        assert seconds[inside].sum() >= share * seconds.sum() * (1 - 1e-9)
        assert seconds[inside].sum() - seconds[inside].min() < share * seconds.sum()
    assert not (found.region(0.5) & ~found.region(0.95)).any()
    assert found.area_km2(0.5) < found.area_km2(0.95)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_no_region_holds_nothing_or_more_than_all(share: float) -> None:
    walk = track([0, 10], [0, 1], [0, 0])
    with pytest.raises(ValueError, match="share"):
        occurrence_of(bridges_of(walk, 1.0), grid_around(walk, 10.0, 100.0)).region(share)


def test_levels_of_one_byte_give_back_the_regions() -> None:
    walk = brownian(60, 5.0)
    found = occurrence_of(bridges_of(walk, 5.0), grid_around(walk, 40.0, 800.0))
    levels = found.levels()
    assert levels.dtype == np.uint8
    assert levels.max() == 255
    for share in (0.5, 0.95):
        from_levels = levels >= level_of(share)
        assert from_levels.sum() == pytest.approx(found.region(round(share * 255) / 255).sum(), abs=1)


def test_tiles_put_together_are_the_levels() -> None:
    walk = brownian(60, 5.0)
    found = occurrence_of(bridges_of(walk, 5.0), grid_around(walk, 40.0, 2_000.0))
    levels = found.levels()
    again = np.zeros((levels.shape[0] + 64, levels.shape[1] + 64), dtype=np.uint8)
    tiles = level_tiles(found, 16)
    for tile in tiles:
        square = np.frombuffer(tile.levels, dtype=np.uint8).reshape(16, 16)
        assert square.any()
        again[tile.row * 16 : tile.row * 16 + 16, tile.column * 16 : tile.column * 16 + 16] = square
    assert (again[: levels.shape[0], : levels.shape[1]] == levels).all()
    assert len(tiles) < levels.size / 256


def test_a_result_says_what_it_was_made_from() -> None:
    walk = track([0, 10, 20], [0, 1, 2], [0, 0, 0], error_m=12.0)
    found = occurrence_of(bridges_of(walk, np.array([1.0, 4.0])), grid_around(walk, 10.0, 100.0), fixes_dropped=3)
    assert (found.bridges, found.fixes_dropped, found.lasting_s) == (2, 3, 20.0)
    assert found.sigma_m_per_root_s == pytest.approx(math.sqrt(2.5))
    assert found.location_error_m == pytest.approx(12.0)
    assert found.grid.cell_m == 10.0


def test_without_bridges_there_is_nothing_on_the_map() -> None:
    alone = track([0], [0], [0])
    found = occurrence_of(bridges_of(alone, 1.0), grid_around(alone, 10.0, 100.0))
    assert found.mass_on_grid == 0.0
    assert found.area_km2(0.95) == 0.0
    assert not found.levels().any()
    assert level_tiles(found) == []
    assert np.isnan(positions_at(bridges_of(alone, 1.0), np.array([0.0])).x_m).all()
