"""AUC, Boyce index and the baseline beside their definitions."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from models.habitat import folds, glm
from models.habitat.metrics import auc, boyce, ranks
from shared.errors import Invalid

pytestmark = [pytest.mark.unit, pytest.mark.ml]


def test_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(1)
    is_used = (rng.random(80) < 0.3).astype(float)
    score = np.round(rng.normal(size=80) + is_used, 1)
    used, free = score[is_used > 0], score[is_used == 0]
    pairs = np.mean([[1.0 if u > f else 0.5 if u == f else 0.0 for f in free] for u in used])
    assert auc(is_used, score) == pytest.approx(pairs)
    assert np.isnan(auc(np.ones(3), np.arange(3.0)))


@pytest.mark.parametrize("windows", ["rank", "range"])
def test_boyce_is_one_where_use_rises_with_the_score(windows: Literal["range", "rank"]) -> None:
    score = np.random.default_rng(2).uniform(size=40_000)
    is_used = (np.random.default_rng(3).random(score.size) < 0.2 * score).astype(float)
    assert boyce(is_used, score, windows) > 0.97
    assert boyce(is_used, -score, windows) < -0.97
    by_chance = (np.random.default_rng(4).random(score.size) < 0.1).astype(float)
    assert abs(boyce(by_chance, score, windows)) < 0.9


def test_boyce_over_ranks_does_not_hang_on_the_scale() -> None:
    rng = np.random.default_rng(5)
    score = rng.normal(size=3_000)
    is_used = (rng.random(3_000) < 1 / (1 + np.exp(2 - score))).astype(float)
    assert boyce(is_used, score) == pytest.approx(boyce(is_used, np.exp(3 * score)))
    assert boyce(is_used, score, "range") != pytest.approx(boyce(is_used, np.exp(3 * score), "range"))


def test_what_cannot_be_measured_is_no_number() -> None:
    assert np.isnan(boyce(np.array([1.0, 0.0, 0.0]), np.zeros(3)))
    assert np.isnan(boyce(np.zeros(3), np.arange(3.0)))
    with pytest.raises(Invalid, match="no rank"):
        ranks(np.array([1.0, np.nan]))
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_the_baseline_finds_the_coefficients_that_made_the_data() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=(60_000, 2))
    odds = -1.0 + 0.8 * values[:, 0] - 0.5 * values[:, 1] ** 2
    is_used = (rng.random(60_000) < 1 / (1 + np.exp(-odds))).astype(float)
    found = glm.fit(values, is_used)
    assert found.log_odds(np.zeros((1, 2)))[0] == pytest.approx(-1.0, abs=0.05)
    assert found.coefficients[1:] == pytest.approx([0.8, 0.0, 0.0, -0.5], abs=0.05)
    held = glm.fit(values, is_used, ridge=1e7)
    assert np.abs(held.coefficients[1:]).max() < 0.01


def test_a_trend_is_level_beyond_its_reach_and_the_mean_where_nothing_is_known() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(size=(2_000, 1))
    found = glm.fit(values, (rng.random(2_000) < 1 / (1 + np.exp(-values[:, 0]))).astype(float), furthest_sd=2.0)
    at = found.log_odds(np.array([[50.0], [60.0], [np.nan]]))
    assert at[0] == at[1]
    assert at[2] == pytest.approx(found.log_odds(found.mean[None])[0])


def test_squares_are_held_back_whole_and_seeds_cut_differently() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.uniform(0, 40_000, (2, 5_000))
    fold = folds.block_folds(x, y, seed=1)
    squares = folds.blocks(x, y, seed=1)
    assert set(fold.tolist()) == set(range(folds.FOLDS))
    for square in np.unique(squares):
        inside = squares == square
        assert np.unique(fold[inside]).size == 1
        assert np.ptp(x[inside]) < 5_000
        assert np.ptp(y[inside]) < 5_000
    assert (fold == folds.block_folds(x, y, seed=1)).all()
    assert not (fold == folds.block_folds(x, y, seed=2)).all()
    mixed = folds.random_folds(5_000, seed=1)
    assert np.bincount(mixed).tolist() == [1_000] * 5


def test_a_small_range_is_cut_into_smaller_squares() -> None:
    x, y = np.random.default_rng(9).uniform(0, 3_000, (2, 500))
    assert folds.block_size_m(x, y) == 2_500.0 / 2
    assert folds.block_size_m(x * 10, y * 10) == folds.BLOCK_M
