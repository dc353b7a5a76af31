"""Distances and angles against values that hold by definition of the ellipsoid."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.movement.bursts import burst_starts, bursts
from shared.movement.geodesy import haversine_m, headings_deg, step_lengths_m, turning_angles_rad

pytestmark = pytest.mark.unit

EQUATOR_DEGREE_M = 6_378_137.0 * math.pi / 180
QUARTER_MERIDIAN_M = 10_001_965.729


def row(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array(values, dtype=np.float64)


def test_a_degree_of_the_equator_and_a_quarter_of_a_meridian_have_their_defined_lengths() -> None:
    assert step_lengths_m(row(10, 11), row(0, 0)) == pytest.approx([EQUATOR_DEGREE_M], abs=1e-3)
    assert step_lengths_m(row(10, 10, 10), row(-90, 0, 90)) == pytest.approx([QUARTER_MERIDIAN_M] * 2, abs=1e-2)


def test_a_step_across_the_antimeridian_is_short() -> None:
    assert step_lengths_m(row(179.5, -179.5), row(0, 0)) == pytest.approx([EQUATOR_DEGREE_M], abs=1e-3)
    assert haversine_m(179.5, 0, -179.5, 0) == pytest.approx(EQUATOR_DEGREE_M, rel=0.006)


def test_headings_run_clockwise_from_north() -> None:
    lon = row(0, 0, 1, 1, 0)
    lat = row(-0.5, 0, 0, -0.5, -0.5)
    headings = headings_deg(lon, lat)
    assert headings[:3] == pytest.approx([0, 90, 180])
    assert headings[3] == pytest.approx(270, abs=0.01)
    assert ((headings >= 0) & (headings < 360)).all()


def test_a_left_turn_is_positive_and_a_reversal_is_pi() -> None:
    north_then_west = turning_angles_rad(row(0, 0, -0.01), row(-0.01, 0, 0))
    assert north_then_west == pytest.approx([math.pi / 2], abs=1e-6)
    assert turning_angles_rad(row(0, 0, 0.01), row(-0.01, 0, 0)) == pytest.approx([-math.pi / 2], abs=1e-6)
    assert abs(turning_angles_rad(row(0, 0.01, 0), row(0, 0, 0))) == pytest.approx([math.pi])
    assert turning_angles_rad(row(0, 0, 0), row(0, 1, 2)) == pytest.approx([0], abs=1e-9)


def test_a_geodesic_has_no_turns_even_far_north() -> None:
    # A great circle over the pole: longitude jumps, direction does not.
    assert turning_angles_rad(row(0, 0, 180), row(80, 89, 89)) == pytest.approx([0], abs=1e-6)


def test_standing_still_has_no_direction() -> None:
    lon, lat = row(5, 5, 6), row(1, 1, 1)
    assert np.isnan(headings_deg(lon, lat)[0])
    assert np.isnan(turning_angles_rad(lon, lat)).all()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_short_tracks_have_few_steps_and_fewer_turns(n: int) -> None:
    lon = np.linspace(0, 1, n)
    assert step_lengths_m(lon, lon).shape == headings_deg(lon, lon).shape == (max(n - 1, 0),)
    assert turning_angles_rad(lon, lon).shape == (max(n - 2, 0),)


def test_rows_of_different_length_are_refused() -> None:
    for function in (step_lengths_m, headings_deg, turning_angles_rad):
        with pytest.raises(ValueError, match="one length"):
            function(row(1, 2, 3), row(1, 2))


def test_haversine_keeps_the_error_that_it_states() -> None:
    rng = np.random.default_rng(3)
    lon, lat = rng.uniform(-180, 180, 400), rng.uniform(-85, 85, 400)
    true_m = step_lengths_m(lon, lat)
    fast_m = [haversine_m(lon[k], lat[k], lon[k + 1], lat[k + 1]) for k in range(399)]
    # Nearly antipodal pairs are left out: there the two paths differ, not only their lengths.
    usual = true_m < 1.9e7
    assert np.array(fast_m)[usual] == pytest.approx(true_m[usual], rel=0.006)
    short = [haversine_m(a, b, a + 0.001, b + 0.001) for a, b in zip(lon, lat, strict=True)]
    pairs = [step_lengths_m(row(a, a + 0.001), row(b, b + 0.001))[0] for a, b in zip(lon, lat, strict=True)]
    assert short == pytest.approx(pairs, rel=0.006)


def test_haversine_of_antipodes_is_half_a_circle() -> None:
    assert haversine_m(0, 0, 180, 0) == pytest.approx(math.pi * 6_371_008.8)
    assert haversine_m(3, 4, 3, 4) == 0


def test_a_gap_longer_than_allowed_begins_a_burst() -> None:
    times_s = row(0, 60, 120, 1000, 1060, 5000)
    assert burst_starts(times_s, 60).tolist() == [0, 3, 5]
    assert bursts(times_s, 60) == [slice(0, 3), slice(3, 5), slice(5, 6)]


def test_bursts_of_nothing_and_of_one_fix() -> None:
    assert burst_starts(row(), 60).tolist() == []
    assert bursts(row(), 60) == []
    assert bursts(row(7), 60) == [slice(0, 1)]


@pytest.mark.parametrize("times_s", [row(0, 2, 1), row(0, math.nan), row(0, math.inf), np.zeros((2, 2))])
def test_times_that_cannot_be_cut_are_refused(times_s: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    with pytest.raises(ValueError, match="times must be"):
        burst_starts(times_s, 60)
