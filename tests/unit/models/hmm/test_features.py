"""Fixes become steps of one length in time."""

from __future__ import annotations

import numpy as np
import pytest

from models.hmm.features import FloatArray, regular_chain, rows_of
from shared.domain import FixFlag

pytestmark = [pytest.mark.unit, pytest.mark.ml]

HOUR = 3600.0


def _walk(n: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    i = np.arange(n, dtype=np.float64)
    return i * HOUR, 15.0 + 0.01 * np.sin(i), -19.0 + 0.01 * i


def test_a_regular_track_is_one_burst() -> None:
    rows = rows_of(*_walk(10), HOUR)
    assert rows.step_m.shape == (9,)
    assert rows.starts.tolist() == [0]
    assert np.isnan(rows.angle_rad).tolist() == [True] + [False] * 8
    assert rows.fix.tolist() == list(range(1, 10))
    assert rows.previous_fix.tolist() == list(range(9))
    assert rows.n_fixes_used == 10


def test_the_order_of_the_fixes_does_not_matter() -> None:
    times, lon, lat = _walk(20)
    shuffled = np.random.default_rng(1).permutation(20)
    rows, again = rows_of(times, lon, lat, HOUR), rows_of(times[shuffled], lon[shuffled], lat[shuffled], HOUR)
    assert np.array_equal(rows.step_m, again.step_m)
    assert np.array_equal(shuffled[again.fix], rows.fix)


def test_a_gap_cuts_a_burst_and_no_step_spans_it() -> None:
    times, lon, lat = _walk(10)
    keep = np.delete(np.arange(10), 5)
    rows = rows_of(times[keep], lon[keep], lat[keep], HOUR)
    assert rows.lengths == [4, 3]
    assert np.isnan(rows.angle_rad[[0, 4]]).all()
    assert rows.step_m.max() < 2000


def test_two_gaps_in_a_row_leave_no_empty_burst() -> None:
    times, lon, lat = _walk(12)
    keep = np.delete(np.arange(12), [4, 6])
    assert rows_of(times[keep], lon[keep], lat[keep], HOUR).lengths == [3, 4]


def test_minutes_that_drift_do_not_cut() -> None:
    times, lon, lat = _walk(200)
    assert rows_of(times * 1.01, lon, lat, HOUR).lengths == [199]


def test_a_faster_collar_is_thinned_to_the_nearest_fix_not_the_first() -> None:
    times = np.arange(0, 9 * HOUR + 1, 600.0)
    kept, begins = regular_chain(times.tolist(), HOUR, 900.0)
    assert [times[i] for i in kept] == [HOUR * i for i in range(10)]
    assert begins == [True] + [False] * 9


def test_a_fix_out_of_schedule_is_passed_over() -> None:
    times, lon, lat = _walk(6)
    extra = rows_of(np.append(times, 2.2 * HOUR), np.append(lon, 15.0), np.append(lat, -18.9), HOUR)
    assert np.array_equal(extra.step_m, rows_of(times, lon, lat, HOUR).step_m)


def test_bad_fixes_are_left_out() -> None:
    times, lon, lat = _walk(8)
    flags = np.zeros(9, dtype=np.int64)
    flags[8] = FixFlag.IMPOSSIBLE_SPEED
    rows = rows_of(np.append(times, 3 * HOUR + 1), np.append(lon, 70.0), np.append(lat, 40.0), HOUR, flags=flags)
    assert np.array_equal(rows.step_m, rows_of(times, lon, lat, HOUR).step_m)
    flags[8] |= FixFlag.REINSTATED
    reinstated = rows_of(np.append(times, 3 * HOUR - 1), np.append(lon, 70.0), np.append(lat, 40.0), HOUR, flags=flags)
    assert reinstated.fix.size == rows.fix.size


def test_fixes_without_a_place_and_copies_in_time_are_left_out() -> None:
    times, lon, lat = _walk(5)
    rows = rows_of(
        np.concatenate((times, times[1:2], [2.1 * HOUR, np.nan])),
        np.concatenate((lon, lon[1:2], [np.nan, 15.0])),
        np.concatenate((lat, lat[1:2], [np.nan, -19.0])),
        HOUR,
    )
    assert rows.lengths == [4]


def test_beside_a_step_of_length_zero_there_is_no_angle() -> None:
    times, lon, lat = _walk(6)
    lon[3], lat[3] = lon[2], lat[2]
    rows = rows_of(times, lon, lat, HOUR)
    assert rows.step_m[2] == 0
    assert np.isnan(rows.angle_rad).tolist() == [True, False, True, True, False]


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_fixes_give_no_rows(n: int) -> None:
    rows = rows_of(*_walk(n), HOUR)
    assert rows.step_m.size == rows.starts.size == rows.n_fixes_used == 0


@pytest.mark.parametrize(("interval_s", "tolerance"), [(0.0, 0.1), (HOUR, 0.4), (HOUR, -0.1)])
def test_impossible_settings_are_refused(interval_s: float, tolerance: float) -> None:
    with pytest.raises(ValueError, match="interval must be positive"):
        rows_of(*_walk(3), interval_s, tolerance=tolerance)
