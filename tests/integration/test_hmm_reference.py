"""The behaviour model against reference fits of other software, on the same rows of real animals."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest

from models.hmm.evaluate import REFERENCES, Evaluation, evaluate
from tests import real_data

pytestmark = [pytest.mark.integration, pytest.mark.ml, pytest.mark.slow]


@lru_cache(maxsize=1)
def _evaluation(reference: Path) -> Evaluation:
    return evaluate(real_data.FOLDER, reference)


@pytest.fixture
def evaluation() -> Evaluation:
    folders = {path.parent for name in REFERENCES if (path := real_data.reference(f"models/{name}.csv")) is not None}
    if not folders:
        pytest.skip("no reference rows: set OUTPOST_REAL_DATA to the track folder beside reference/models/hmm_*.csv")
    return _evaluation(folders.pop())


def test_log_likelihood_of_given_parameters_is_the_reference(evaluation: Evaluation) -> None:
    for case in evaluation.reference:
        assert abs(case.given_difference) < 1e-5, case
        assert case.given_viterbi_agreement >= 0.995, case
    for with_covariate in evaluation.covariates:
        assert abs(with_covariate.given_difference) < 1e-5, with_covariate
        assert with_covariate.given_viterbi_agreement >= 0.995, with_covariate
        assert with_covariate.fit_difference > -0.05, with_covariate


def test_own_fits_reach_the_reference_optimum(evaluation: Evaluation) -> None:
    assert evaluation.log_likelihood.keys() == {name.removeprefix("hmm_") for name in REFERENCES}
    for case in evaluation.reference:
        assert case.fit_difference > -0.05, case
        assert case.viterbi_agreement >= 0.995, case


def test_quantised_tables_give_the_same_states(evaluation: Evaluation) -> None:
    for case in evaluation.reference:
        assert case.quantised_viterbi_agreement >= 0.999, case


def test_the_shown_state_is_nearly_what_the_whole_burst_says(evaluation: Evaluation) -> None:
    for case in evaluation.reference:
        assert case.smoothed_viterbi_agreement > case.filter_viterbi_agreement, case


def test_the_activity_sensor_agrees(evaluation: Evaluation) -> None:
    assert {case.n_states for case in evaluation.labels} == {2, 3}
    for case in evaluation.labels:
        assert case.accuracy_viterbi >= 0.79, case


def test_20_000_rows_are_fitted_in_time(evaluation: Evaluation) -> None:
    case = max(evaluation.simulated, key=lambda case: case.rows)
    assert case.rows == 20_000
    assert case.fit_s < 30
    assert abs(case.accuracy_own_fit - case.accuracy_true_parameters) <= 0.01


def test_every_track_has_states(evaluation: Evaluation) -> None:
    assert {case.model for case in evaluation.species} == {"elephant", "wildebeest", "buffalo", "generic"}
    for case in evaluation.species:
        assert sum(case.share_by_state.values()) == pytest.approx(1)
        assert 0.5 < case.mean_confidence <= 1
