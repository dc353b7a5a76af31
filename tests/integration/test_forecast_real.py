"""The packaged forecast on real animals: what the README says of it must be found again."""

from __future__ import annotations

import pytest

from models.forecast.evaluate import SERVED, Evaluation, evaluate
from tests.real_data import tracks

pytestmark = [pytest.mark.integration, pytest.mark.ml, pytest.mark.predictions, pytest.mark.slow]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    folder = tracks("elephant_wall2014_movebank.csv").parent
    for name in ("elephant_etosha_getz2010.csv", "wildebeest_mara_stabach.csv", "buffalo_kruger_cross2016.csv"):
        tracks(name)
    return evaluate(folder, folder.parent / "reference")


@pytest.mark.timeout(600)
def test_promises_are_kept(evaluation: Evaluation) -> None:
    broken = [bar for bar in evaluation.bars if not bar.is_kept and "ms" not in bar.promise]
    assert not broken, broken


def test_no_set_is_left_without_a_figure(evaluation: Evaluation) -> None:
    served = {(row.split, row.dataset) for row in evaluation.rows if row.model == SERVED and row.individual is None}
    assert len({dataset for split, dataset in served if split == "forward"}) >= 4
    assert {dataset for split, dataset in served if split == "left out"} >= {
        "elephant_wall2014_movebank",
        "elephant_etosha_getz2010",
        "wildebeest_mara_stabach",
        "buffalo_kruger_cross2016",
    }
