"""Plain forecasts where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from models.forecast.baselines import HORIZONS_H, NAMES, fit
from models.forecast.features import FloatArray

pytestmark = [pytest.mark.unit, pytest.mark.ml]

H = len(HORIZONS_H)
NO_PENALTY = np.zeros(H)


def walk(n: int, rho: float, seed: int) -> tuple[FloatArray, FloatArray]:
    """Displacements that keep ``rho`` of the one before; lags (n, 48, 2) and what came after (n, H, 2)."""
    rng = np.random.default_rng(seed)
    steps = np.zeros((n + 80, 2))
    for t in range(1, len(steps)):
        steps[t] = rho * steps[t - 1] + rng.normal(0.0, 100.0, 2)
    place = np.cumsum(steps, axis=0)
    now = np.arange(50, 50 + n)
    lags = np.stack([steps[now - k] for k in range(48)], axis=1)
    ahead = np.stack([place[now + hours] - place[now] for hours in HORIZONS_H], axis=1)
    return lags, ahead


def known(n: int, state: int) -> FloatArray:
    return np.tile(np.eye(3)[state], (n, 1))


def test_an_animal_on_a_straight_line_goes_on() -> None:
    lags = np.tile(np.array([30.0, -40.0]), (50, 48, 1))
    ahead = np.array(HORIZONS_H)[None, :, None] * lags[:, :1]
    fitted = fit(lags, ahead, known(50, 1), known(50, 1), np.ones(50), NO_PENALTY)
    said = dict(zip(NAMES, fitted.all_m(lags, known(50, 1)), strict=True))
    assert np.allclose(said["persistence"], 0.0)
    for name in ("constant velocity", "damped velocity", "ridge"):
        assert np.allclose(said[name], ahead, rtol=1e-4), name


def test_a_walk_that_forgets_is_damped_as_much_as_it_forgets() -> None:
    rho = 0.7
    lags, ahead = walk(20_000, rho, 1)
    fitted = fit(lags, ahead, known(20_000, 2), known(20_000, 2), np.ones(20_000), NO_PENALTY)
    expected = [sum(rho**k for k in range(1, hours + 1)) for hours in HORIZONS_H]
    assert fitted.damping == pytest.approx(expected, rel=0.1)
    assert fitted.ridge[:, 0] == pytest.approx(expected, rel=0.1)
    assert np.abs(fitted.ridge[0, 1:]).max() < 0.05
    assert fitted.walk[:, 2] == pytest.approx(expected, rel=0.1)


def test_a_walk_by_state_mixes_as_its_states_follow_one_another() -> None:
    # State 0 stands still for ever, state 2 keeps half and turns into 0 half of the time.
    n = 4_000
    rng = np.random.default_rng(2)
    states = np.where((np.arange(n) % 2 == 0)[:, None], np.eye(3)[2], np.eye(3)[0])
    following = np.where((rng.random(n) < 0.5)[:, None] | (states[:, 0] == 1)[:, None], np.eye(3)[0], np.eye(3)[2])
    lags = np.zeros((n, 48, 2))
    lags[:, 0, 0] = 100.0
    ahead = np.zeros((n, H, 2))
    ahead[:, 0, 0] = np.where(states[:, 2] == 1, 50.0, 0.0)
    fitted = fit(lags, ahead, states, following, np.ones(n), NO_PENALTY)
    assert fitted.walk[:, 0] == pytest.approx(np.zeros(H), abs=1e-6)
    # 0.5 + 0.5 * p * 0.5 + ... with p the measured share that stays in state 2.
    stay = float(following[states[:, 2] == 1][:, 2].mean())
    expected = [0.5 * sum((0.5 * stay) ** k for k in range(hours)) for hours in HORIZONS_H]
    assert fitted.walk[:, 2] == pytest.approx(expected, rel=1e-4)


def test_an_unknown_state_is_no_state() -> None:
    lags, ahead = walk(500, 0.6, 3)
    unknown = np.full((500, 3), np.nan)
    fitted = fit(lags, ahead, unknown, unknown, np.ones(500), NO_PENALTY)
    assert np.allclose(fitted.walk, fitted.walk_unknown[:, None])
    assert np.isfinite(fitted.all_m(lags, unknown)).all()


def test_a_turned_track_turns_every_forecast() -> None:
    lags, ahead = walk(600, 0.6, 4)
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    states = known(600, 0)
    straight = fit(lags, ahead, states, states, np.ones(600), np.full(H, 10.0))
    turned = fit(lags @ turn, ahead @ turn, states, states, np.ones(600), np.full(H, 10.0))
    assert np.allclose(straight.all_m(lags, states) @ turn, turned.all_m(lags @ turn, states), atol=1e-6)


def test_a_penalty_makes_ridge_say_less() -> None:
    lags, ahead = walk(300, 0.6, 5)
    states = known(300, 0)
    loose = fit(lags, ahead, states, states, np.ones(300), NO_PENALTY)
    tight = fit(lags, ahead, states, states, np.ones(300), np.full(H, 1e6))
    assert np.abs(tight.ridge).max() < 0.05 * np.abs(loose.ridge).max()
