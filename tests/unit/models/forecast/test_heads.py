"""Distributions and radii: what they hold, measured."""

from __future__ import annotations

import numpy as np
import pytest

from models.forecast.calibration import (
    N_LEVELS,
    OWN,
    OWN_DAYS,
    PRIOR,
    is_known_by,
    levels,
    levels_of_t,
    own_anchors,
    radii,
)
from models.forecast.heads import FREEDOM, LONGEST, Distribution, circles, cut, drawn, spread_of
from tests.unit.models.forecast.commuters import HOUR_S

pytestmark = [pytest.mark.unit, pytest.mark.ml]


def one(correlation: float = 0.5) -> Distribution:
    return Distribution(
        place_m=np.array([[[10.0, -5.0]]]),
        spread_m=np.array([[[30.0, 12.0]]]),
        correlation=np.array([[correlation]]),
    )


def test_the_density_of_a_distribution_integrates_to_one() -> None:
    x, y = np.meshgrid(np.arange(-2_000.0, 2_000.0, 4.0), np.arange(-2_000.0, 2_000.0, 4.0))
    grid = np.stack((x.ravel(), y.ravel()), axis=1)[:, None]
    said = Distribution(
        place_m=np.repeat(one().place_m, len(grid), axis=0),
        spread_m=np.repeat(one().spread_m, len(grid), axis=0),
        correlation=np.repeat(one().correlation, len(grid), axis=0),
    )
    density = np.exp(-said.negative_log_likelihood(grid))
    assert density.sum() * 16.0 == pytest.approx(1.0, abs=2e-3)
    inner = density[said.distance(grid) <= levels_of_t()[N_LEVELS // 2]].sum() * 16.0
    assert inner == pytest.approx((N_LEVELS // 2 + 0.5) / N_LEVELS, abs=5e-3)


def test_a_spread_is_found_again() -> None:
    rng = np.random.default_rng(1)
    gaussian = rng.normal(0.0, 1.0, (50_000, 2)) * 0.3
    t = gaussian / np.sqrt(rng.chisquare(FREEDOM, (50_000, 1)) / FREEDOM)
    assert spread_of(np.hypot(t[:, 0], t[:, 1])) == pytest.approx(0.3, rel=0.05)
    assert spread_of(np.array([np.nan])) == 1.0


def test_what_lies_far_away_is_cut() -> None:
    vectors = np.array([[[[3.0, 4.0], [3_000.0, 4_000.0]]]])
    found = cut(vectors, np.array([[10.0]]))
    assert found[0, 0, 0] == pytest.approx([0.3, 0.4])
    assert found[0, 0, 1] == pytest.approx([0.6 * LONGEST, 0.8 * LONGEST])


def test_a_forecast_is_drawn_to_another_by_the_share() -> None:
    other = np.array([[[110.0, 95.0]]])
    assert drawn(one(), other, np.array([0.9])).place_m[0, 0] == pytest.approx([20.0, 5.0])
    assert drawn(one(), other, np.array([1.0])).place_m[0, 0] == pytest.approx([10.0, -5.0])


def test_a_plain_forecast_is_round() -> None:
    said = circles(np.zeros((1, 1, 2)), np.array([100.0]), np.array([2.0]), np.array([0.5]))
    assert said.distance(np.array([[[60.0, 80.0]]]))[0, 0] == pytest.approx(1.0)


def test_radii_of_a_new_collar_are_those_of_its_group() -> None:
    group = levels(np.linspace(0.0, 10.0, 10_001))
    inner, outer = radii(group, np.full(OWN, np.nan))
    assert inner == pytest.approx(5.0, abs=0.1)
    assert outer == pytest.approx(9.0, abs=0.1)


def test_an_animal_that_strays_gets_wider_ellipses() -> None:
    rng = np.random.default_rng(2)
    group = levels(rng.exponential(1.0, 20_000))
    truth = 3.0 * rng.exponential(1.0, (4_000, OWN))
    after = 3.0 * rng.exponential(1.0, 4_000)
    found = radii(np.broadcast_to(group, (4_000, N_LEVELS)), truth)
    alone = radii(group, np.full(OWN, np.nan))
    for share, held, held_alone in zip((0.5, 0.9), found.T, alone, strict=True):
        missed, missed_alone = (after > held).mean(), (after > held_alone).mean()
        assert abs(missed - (1 - share)) < 0.75 * abs(missed_alone - (1 - share))


def test_radii_hold_their_share_where_the_animal_is_like_its_group() -> None:
    rng = np.random.default_rng(3)
    group = levels(rng.exponential(1.0, 20_000))
    found = radii(np.broadcast_to(group, (5_000, N_LEVELS)), rng.exponential(1.0, (5_000, OWN)))
    after = rng.exponential(1.0, 5_000)
    assert (after <= found[:, 0]).mean() == pytest.approx(0.5, abs=0.03)
    assert (after <= found[:, 1]).mean() == pytest.approx(0.9, abs=0.02)


def test_a_group_counts_as_its_prior() -> None:
    group = np.ones(N_LEVELS)
    few = np.full((1, int(PRIOR) - 1), 100.0)
    many = np.full((1, int(PRIOR) + 2), 100.0)
    assert radii(group[None], few)[0, 0] == 1.0
    assert radii(group[None], many)[0, 0] == 100.0


def test_own_forecasts_that_count_are_recent_and_evenly_spread() -> None:
    times = np.arange(0.0, 60 * 24 * HOUR_S, HOUR_S)
    chosen = own_anchors(times, 1_000)
    assert chosen.size == OWN
    assert times[1_000] - times[chosen[0]] <= OWN_DAYS * 24 * HOUR_S
    assert chosen[-1] < 1_000
    assert np.ptp(np.diff(chosen)) <= 1
    assert own_anchors(times, 0).size == 0
    assert own_anchors(times, 5).tolist() == [0, 1, 2, 3, 4]


def test_a_truth_that_has_not_come_is_not_known() -> None:
    known = is_known_by(np.array([0.0, 23 * HOUR_S]), 24 * HOUR_S)
    assert known.tolist() == [[True] * 5, [True, False, False, False, False]]


def test_no_distances_are_refused() -> None:
    with pytest.raises(ValueError, match="no distance"):
        levels(np.array([np.nan]))
