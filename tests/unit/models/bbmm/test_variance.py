"""The motion variance, one for all and by windows."""

from __future__ import annotations

import numpy as np
import pytest

from models.bbmm.variance import dynamic_variance, filled, motion_variance
from tests.unit.models.bbmm.tracks import brownian, track

pytestmark = [pytest.mark.unit, pytest.mark.ml]


@pytest.mark.parametrize("variance", [0.5, 20.0])
def test_the_variance_of_a_brownian_walk_is_found(variance: float) -> None:
    found = motion_variance(brownian(4_000, variance))
    # The error of the fix that is left out is in its distance: 100 m2 on T/4 = 1800 s.
    assert found.variance_m2_per_s == pytest.approx(variance + 100 / 1_800, rel=0.08)
    assert found.left_out == 3_998


def test_one_triple_has_its_variance_in_closed_form() -> None:
    found = motion_variance(track([0, 100, 200], [0, 0, 0], [0, 100, 0]))
    # d^2 / 2 = T a (1 - a) v + (e0^2 + e1^2) / 4
    assert found.variance_m2_per_s == pytest.approx((100**2 / 2 - 200) / 50, rel=1e-6)


def test_every_second_fix_is_left_out_anew_in_each_burst() -> None:
    times = [0.0, 1, 2, 3, 1_000, 1_001, 1_002]
    found = motion_variance(track(times, [0.0] * 7, [0.0, 50, 0, 0, 0, 90, 0]), max_gap_s=10, left_out="second")
    assert found.left_out == 2


def test_a_fix_beside_a_gap_is_not_asked() -> None:
    calm = track([0, 10, 20, 10_000, 10_010, 10_020], [0, 1, 0, 9_000, 9_001, 9_000], [0.0] * 6)
    assert motion_variance(calm, max_gap_s=100).left_out == 2


@pytest.mark.parametrize("fixes", [0, 1, 2])
def test_too_few_fixes_have_no_variance(fixes: int) -> None:
    with pytest.raises(ValueError, match="nothing to estimate"):
        motion_variance(track([0.0, 1.0][:fixes], [0.0] * fixes, [0.0] * fixes))


def test_an_animal_that_stands_still_has_next_to_none() -> None:
    assert motion_variance(track([0, 1, 2, 3], [0.0] * 4, [0.0] * 4)).variance_m2_per_s < 1e-5


def test_the_dynamic_variance_follows_a_change() -> None:
    changing = brownian(400, np.repeat([1.0, 25.0], [200, 199]))
    found = dynamic_variance(changing)
    assert found.shape == (399,)
    assert np.nanmedian(found[:190]) == pytest.approx(1.0, rel=0.35)
    assert np.nanmedian(found[210:]) == pytest.approx(25.0, rel=0.35)
    assert np.isnan(found[:10]).all()
    assert np.isnan(found[-10:]).all()
    assert np.isfinite(found[10:-10]).all()


def test_without_a_break_the_dynamic_variance_is_that_of_its_windows() -> None:
    walk = brownian(31, 4.0)
    found = dynamic_variance(walk)
    every_second = motion_variance(walk, left_out="second").variance_m2_per_s
    assert found[10:20] == pytest.approx([every_second] * 10, rel=0.01)


def test_windows_do_not_reach_over_a_gap() -> None:
    walk = brownian(80, 4.0)
    late = np.where(np.arange(80) >= 40, 100_000.0, 0.0)
    parted = dynamic_variance(
        track((walk.times_s + late).tolist(), walk.x_m.tolist(), walk.y_m.tolist(), 10.0), max_gap_s=7_200
    )
    assert np.isnan(parted[29:50]).all()
    assert np.isfinite(parted[10:29]).all()


def test_many_windows_are_judged_in_parts_with_the_same_result() -> None:
    walk = brownian(4_500, 4.0)
    whole = dynamic_variance(walk)
    part = dynamic_variance(walk.part(slice(4_000, 4_300)))
    assert whole[4_050:4_250] == pytest.approx(part[50:250], rel=1e-9)


def test_a_track_shorter_than_a_window_has_no_dynamic_variance() -> None:
    assert np.isnan(dynamic_variance(brownian(20, 1.0))).all()


@pytest.mark.parametrize(("window", "margin"), [(30, 11), (31, 10), (31, 17), (5, 1)])
def test_windows_without_room_for_a_break_are_refused(window: int, margin: int) -> None:
    with pytest.raises(ValueError, match="must be odd"):
        dynamic_variance(brownian(40, 1.0), window=window, margin=margin)


def test_missing_variances_take_the_nearest() -> None:
    gaps = np.array([np.nan, np.nan, 3.0, np.nan, np.nan, 7.0, np.nan])
    assert filled(gaps, 1.0).tolist() == [3, 3, 3, 3, 7, 7, 7]
    assert filled(np.array([np.nan]), 1.0).tolist() == [1.0]
