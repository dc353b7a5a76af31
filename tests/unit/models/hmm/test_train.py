"""Training finds the states of simulated animals."""

from __future__ import annotations

import numpy as np
import pytest

from models.hmm.covariates import fit_with_covariates, hour_of_day, log_transitions
from models.hmm.evaluate import WELL_SEPARATED, simulate, simulated_cases, viterbi
from models.hmm.train import fit, log_likelihood

pytestmark = [pytest.mark.unit, pytest.mark.ml]


def test_states_of_simulated_animals_are_found() -> None:
    separated = simulated_cases(seed=11, most_rows=5000)
    assert {case.n_states for case in separated} == {2, 3}
    for case in separated:
        assert case.accuracy_own_fit >= 0.9
        assert case.accuracy_station_shown >= 0.9
        assert abs(case.accuracy_own_fit - case.accuracy_true_parameters) <= 0.01


def test_a_fit_is_at_least_as_likely_as_the_truth_and_its_states_are_ordered() -> None:
    step, angle, _ = simulate(WELL_SEPARATED, 2000, np.random.default_rng(4))
    found = fit(step, angle, [1200, 800], 3, seed=1)
    starts = np.array([0, 1200])
    assert found.log_likelihood >= log_likelihood(WELL_SEPARATED, step, angle, starts)
    assert found.log_likelihood == pytest.approx(log_likelihood(found.parameters, step, angle, starts), abs=1e-6)
    assert list(found.parameters.step_mean) == sorted(found.parameters.step_mean)
    assert found.parameters.step_mean == pytest.approx(WELL_SEPARATED.step_mean, rel=0.15)


def test_the_same_seed_gives_the_same_fit() -> None:
    step, angle, _ = simulate(WELL_SEPARATED, 600, np.random.default_rng(4))
    assert fit(step, angle, [600], 2, seed=3) == fit(step, angle, [600], 2, seed=3)


def test_the_unit_of_the_steps_does_not_matter() -> None:
    step, angle, _ = simulate(WELL_SEPARATED, 1500, np.random.default_rng(4))
    metres, kilometres = fit(step, angle, [1500], 3), fit(step / 1000, angle, [1500], 3)
    assert kilometres.log_likelihood - metres.log_likelihood == pytest.approx(
        np.log(1000) * np.count_nonzero(step), abs=0.01
    )
    starts = np.array([0])
    same = viterbi(metres.parameters, step, angle, starts) == viterbi(kilometres.parameters, step / 1000, angle, starts)
    assert same.mean() > 0.999


def test_four_states_and_missing_values_can_be_fitted() -> None:
    step, angle, _ = simulate(WELL_SEPARATED, 1500, np.random.default_rng(9))
    step[::50] = np.nan
    angle[::30] = np.nan
    found = fit(step, angle, [1500], 4, n_starts=3, tolerance=0.1)
    assert found.parameters.n_states == 4
    assert np.isfinite(found.log_likelihood)


def test_a_standing_animal_is_no_trap() -> None:
    step = np.full(200, 5.0)
    step[::3] = 0.0
    found = fit(step, np.full(200, np.nan), [200], 2, n_starts=2)
    assert np.isfinite(found.log_likelihood)


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit(np.ones(12), np.zeros(12), [12], 2)


def test_without_an_effect_covariates_change_nothing() -> None:
    beta = np.array([[-1.0, 0.5], [0.0, 0.0]])
    each = log_transitions(beta, np.array([[3.0], [-2.0]]))
    assert np.allclose(each[0], each[1])
    assert np.allclose(np.exp(each).sum(axis=2), 1)
    assert each[0, 0, 1] - each[0, 0, 0] == pytest.approx(-1.0)


def test_an_effect_of_the_hour_is_found_and_one_of_chance_is_small() -> None:
    rng = np.random.default_rng(6)
    hours = hour_of_day(np.arange(0.0, 800 * 3600.0, 3600.0), np.zeros(800))
    beta = np.array([[-2.0, -2.0], [1.5, -1.5], [0.0, 0.0]])
    chances = np.exp(log_transitions(beta, hours))
    states = [0]
    for t in range(1, 800):
        states.append(int(rng.random() < chances[t, states[-1], 1]))
    step = rng.gamma(2.0, np.where(np.array(states) == 0, 10.0, 400.0))
    angle = rng.uniform(-np.pi, np.pi, 800)
    without = fit(step, angle, [800], 2, n_starts=2, tolerance=0.01)
    starts = np.array([0])
    with_hour = fit_with_covariates(step, angle, starts, hours, without.parameters, tolerance=0.1)
    assert with_hour.log_likelihood > without.log_likelihood + 25
    assert with_hour.beta == pytest.approx(beta, abs=0.8)
    noise = fit_with_covariates(step, angle, starts, rng.normal(size=(800, 1)), without.parameters, tolerance=0.1)
    assert -0.2 < noise.log_likelihood - without.log_likelihood < 6


def test_a_missing_covariate_is_refused() -> None:
    step, angle, _ = simulate(WELL_SEPARATED, 200, np.random.default_rng(4))
    with pytest.raises(ValueError, match="covariate is missing"):
        fit_with_covariates(step, angle, np.array([0]), np.full((200, 1), np.nan), WELL_SEPARATED)


def test_the_hour_is_that_of_the_sun() -> None:
    assert hour_of_day(np.array([0.0, 43_200.0]), np.array([0.0, 0.0])) == pytest.approx(np.array([[1, 0], [-1, 0]]))
    assert hour_of_day(np.array([0.0]), np.array([90.0])) == pytest.approx(np.array([[0, 1]]))
