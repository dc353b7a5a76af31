"""What an animal could have used instead."""

from __future__ import annotations

import numpy as np
import pytest

from models.habitat.availability import convex_hull, fit_gamma, fit_von_mises, home_range, steps
from shared.errors import Invalid

pytestmark = [pytest.mark.unit, pytest.mark.ml]


def test_places_of_the_home_range_are_uniform_in_the_hull() -> None:
    corners_x, corners_y = np.array([0.0, 4.0, 4.0, 0.0, 2.0]), np.array([0.0, 0.0, 4.0, 4.0, 1.0])
    assert sorted(map(tuple, convex_hull(corners_x, corners_y).tolist())) == [(0, 0), (0, 4), (4, 0), (4, 4)]
    x, y = home_range(corners_x, corners_y, 40_000, np.random.default_rng(1))
    assert x.min() >= 0
    assert x.max() <= 4
    counts = np.histogram2d(x, y, bins=4, range=((0, 4), (0, 4)))[0]
    assert counts.min() > 0.92 * 2_500
    assert counts.max() < 1.08 * 2_500


def test_a_triangle_has_no_places_outside_it() -> None:
    x, y = home_range(np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]), 5_000, np.random.default_rng(2))
    assert (x + y <= 1 + 1e-12).all()
    assert x.mean() == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("points", [([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]), ([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])])
def test_fixes_without_an_area_have_no_home_range(points: tuple[list[float], list[float]]) -> None:
    with pytest.raises(Invalid, match="span no home range"):
        home_range(np.array(points[0]), np.array(points[1]), 5, np.random.default_rng(1))


def test_steps_are_drawn_as_the_animal_makes_them() -> None:
    rng = np.random.default_rng(3)
    heading = np.cumsum(rng.vonmises(0.0, 1.5, 4_000))
    length = rng.gamma(0.8, 450.0, 4_000)
    x, y = (np.cumsum(length * turn(heading), dtype=np.float64) for turn in (np.cos, np.sin))
    times = np.arange(4_000, dtype=np.float64) * 3_600
    times[2_000:] += 1e6
    ends, free_x, free_y = steps(times, x, y, 5, np.random.default_rng(4))
    assert free_x.shape == (ends.size, 5)
    # After the gap a heading is missing for two fixes.
    assert set(range(2, 4_000)) - set(ends.tolist()) == {2_000, 2_001}
    drawn = np.hypot(free_x - x[ends - 1][:, None], free_y - y[ends - 1][:, None])
    made = np.hypot(x[ends] - x[ends - 1], y[ends] - y[ends - 1])
    assert drawn.mean() == pytest.approx(made.mean(), rel=0.03)
    assert drawn.std() == pytest.approx(made.std(), rel=0.05)
    turned = np.arctan2(free_y - y[ends - 1][:, None], free_x - x[ends - 1][:, None])
    before = np.arctan2(y[ends - 1] - y[ends - 2], x[ends - 1] - x[ends - 2])[:, None]
    assert np.cos(turned - before).mean() == pytest.approx(np.cos(np.diff(heading)).mean(), abs=0.03)


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(Invalid, match="use home_range"):
        steps(np.arange(10.0), np.arange(10.0), np.zeros(10), 5, np.random.default_rng(1))


def test_distributions_are_fitted_to_what_made_them() -> None:
    rng = np.random.default_rng(5)
    shape, scale = fit_gamma(rng.gamma(0.77, 472.5, 20_000))
    assert shape == pytest.approx(0.77, rel=0.03)
    assert scale == pytest.approx(472.5, rel=0.04)
    assert fit_von_mises(rng.vonmises(0.0, 2.0, 20_000)) == pytest.approx(2.0, rel=0.04)
    assert fit_von_mises(np.full(10, np.pi)) == 0.0
