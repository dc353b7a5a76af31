"""The chain against sums over all paths, and the emissions against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from models.hmm import chain
from models.hmm.chain import IntArray
from models.hmm.emissions import FloatArray, Parameters, log_densities, log_i0, statistics

pytestmark = [pytest.mark.unit, pytest.mark.ml]

THREE = Parameters(
    step_mean=(5.0, 100.0, 500.0),
    step_sd=(4.0, 80.0, 300.0),
    zero_mass=(0.1, 0.0, 0.0),
    angle_mean=(3.0, 0.1, 0.0),
    angle_concentration=(0.5, 1.0, 3.0),
    transitions=((0.7, 0.2, 0.1), (0.1, 0.8, 0.1), (0.05, 0.25, 0.7)),
    start=(0.2, 0.5, 0.3),
)


def _case(n: int = 6, seed: int = 3) -> tuple[FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    start = rng.dirichlet(np.ones(3))
    transitions = rng.dirichlet(np.ones(3), size=3)
    return np.log(start), np.log(transitions), rng.normal(0, 3, (n, 3))


def test_forward_backward_and_viterbi_agree_with_all_paths() -> None:
    log_start, log_transitions, emissions = _case()
    paths = list(itertools.product(range(3), repeat=6))
    scores = np.array(
        [
            log_start[path[0]]
            + sum(emissions[t, state] for t, state in enumerate(path))
            + sum(log_transitions[a, b] for a, b in itertools.pairwise(path))
            for path in paths
        ]
    )
    starts = np.array([0])
    filtered, log_likelihood = chain.forward(log_start, log_transitions, emissions, starts)
    assert log_likelihood == pytest.approx(np.logaddexp.reduce(scores), abs=1e-12)
    probability = np.exp(scores - log_likelihood)
    exact = np.array([[probability[[p[t] == k for p in paths]].sum() for k in range(3)] for t in range(6)])
    later = chain.backward(log_transitions, emissions, starts)
    assert np.allclose(chain.smoothed(filtered, later), exact, atol=1e-12)
    assert np.allclose(chain.fixed_lag(filtered, log_transitions, emissions, starts, 5), exact, atol=1e-12)
    assert np.allclose(chain.fixed_lag(filtered, log_transitions, emissions, starts, 0), np.exp(filtered), atol=1e-12)
    assert tuple(chain.viterbi(log_start, log_transitions, emissions, starts)) == paths[int(scores.argmax())]


def test_bursts_are_independent() -> None:
    log_start, log_transitions, emissions = _case(9)
    whole = chain.forward(log_start, log_transitions, emissions, np.array([0, 4]))
    parts = [chain.forward(log_start, log_transitions, part, np.array([0])) for part in np.split(emissions, [4])]
    assert whole[1] == pytest.approx(sum(part[1] for part in parts))
    assert np.allclose(whole[0], np.concatenate([part[0] for part in parts]))
    later = chain.backward(log_transitions, emissions, np.array([0, 4]))
    assert np.allclose(later[3], 0)
    lagged = chain.fixed_lag(whole[0], log_transitions, emissions, np.array([0, 4]), 20)
    assert np.allclose(lagged, chain.smoothed(whole[0], later))
    path = chain.viterbi(log_start, log_transitions, emissions, np.array([0, 4]))
    again = [chain.viterbi(log_start, log_transitions, part, np.array([0])) for part in np.split(emissions, [4])]
    assert path.tolist() == np.concatenate(again).tolist()


def _bursts(lengths: list[int]) -> IntArray:
    return np.cumsum([0, *lengths[:-1]], dtype=np.int64)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_bursts_abreast_are_the_same_to_the_last_bit_as_row_by_row(
    lengths: list[int], n_states: int, varies: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n_rows, starts = sum(lengths), _bursts(lengths)
    emissions = rng.normal(0, 5, (n_rows, n_states))
    log_start = np.log(rng.dirichlet(np.ones(n_states)))
    transitions = rng.dirichlet(np.ones(n_states), size=(n_rows, n_states) if varies else n_states)
    expected = chain._row_by_row(log_start, np.log(transitions), emissions, starts)
    for mine, theirs in zip(
        chain._abreast_in_logs(log_start, np.log(transitions), emissions, starts), expected, strict=True
    ):
        assert np.array_equal(mine, theirs)
    if not varies:
        given = np.exp(log_start), transitions, np.exp(emissions), starts
        assert np.array_equal(chain._one_by_one(*given), chain._side_by_side(*given))


@pytest.mark.parametrize("lengths", [[40], [3] * 20, [200, 1, 1], []])
def test_either_way_is_taken_and_says_what_decoding_says(lengths: list[int]) -> None:
    log_start, log_transitions, emissions = _case(sum(lengths))
    starts = _bursts(lengths) if lengths else np.empty(0, dtype=np.int64)
    filtered, _ = chain.forward_rows(log_start, log_transitions, emissions, starts)
    plain = chain.filtered_probabilities(np.exp(log_start), np.exp(log_transitions), np.exp(emissions), starts)
    assert np.allclose(plain, np.exp(filtered), atol=1e-12)
    assert plain.shape == (sum(lengths), 3)


def test_transitions_that_do_not_vary_may_be_given_for_each_row() -> None:
    log_start, log_transitions, emissions = _case(7)
    starts = np.array([0, 3])
    varying = np.repeat(log_transitions[None], 7, axis=0)
    assert chain.forward(log_start, varying, emissions, starts)[1] == pytest.approx(
        chain.forward(log_start, log_transitions, emissions, starts)[1]
    )
    assert np.allclose(chain.backward(varying, emissions, starts), chain.backward(log_transitions, emissions, starts))
    assert np.array_equal(
        chain.viterbi(log_start, varying, emissions, starts),
        chain.viterbi(log_start, log_transitions, emissions, starts),
    )


def test_a_row_that_all_states_find_all_but_impossible_does_no_harm() -> None:
    log_start, log_transitions, emissions = _case()
    emissions[3] = -1e6
    assert np.isfinite(chain.forward(log_start, log_transitions, emissions, np.array([0]))[1])


def test_the_first_row_must_begin_a_burst() -> None:
    with pytest.raises(ValueError, match="begins a burst"):
        chain.viterbi(*_case(), np.array([2]))


def test_densities_are_those_of_gamma_and_von_mises() -> None:
    step = np.array([3.0, 250.0, 0.0, np.nan, 80.0])
    angle = np.array([np.nan, -1.2, np.nan, np.nan, 3.1])
    found = log_densities(THREE, step, angle)
    for k in range(3):
        shape = (THREE.step_mean[k] / THREE.step_sd[k]) ** 2
        gamma = stats.gamma(shape, scale=THREE.step_mean[k] / shape)
        mises = stats.vonmises(THREE.angle_concentration[k], loc=THREE.angle_mean[k])
        moved = np.log(1 - THREE.zero_mass[k])
        assert found[0, k] == pytest.approx(moved + gamma.logpdf(3.0))
        assert found[1, k] == pytest.approx(moved + gamma.logpdf(250.0) + mises.logpdf(-1.2))
        assert found[4, k] == pytest.approx(moved + gamma.logpdf(80.0) + mises.logpdf(3.1))
    assert found[2, 0] == pytest.approx(np.log(0.1))
    assert found[2, 1] < -600
    assert found[3].tolist() == [0, 0, 0]


def test_the_bessel_function_is_smooth_where_its_two_forms_meet() -> None:
    around = log_i0(np.array([499.999, 500.0, 500.001, 501.0]))
    assert np.diff(around)[:2] == pytest.approx(0.001 * 0.999, rel=1e-3)
    assert log_i0(np.array([0.0])).tolist() == [0.0]


def test_the_stationary_distribution_stays() -> None:
    share = np.array(THREE.stationary())
    assert np.allclose(share @ np.array(THREE.transitions), share)


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        statistics(np.array([-1.0]), np.array([0.0]))


def test_parameters_need_one_value_a_state() -> None:
    with pytest.raises(ValueError, match="one value a state"):
        Parameters(
            step_mean=(1.0, 2.0), step_sd=(1.0,), zero_mass=(0, 0), angle_mean=(0, 0), angle_concentration=(1, 1),
            transitions=((1, 0), (0, 1)), start=(1, 0),
        )  # fmt: skip
