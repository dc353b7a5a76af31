"""One tiny training for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.forecast.train import Recipe, train
from tests.unit.models.forecast.commuters import write_tracks

RECIPE = Recipe(epochs=3, batch=128, hidden=8, dense=(16, 16), n_folds=1)


def quiet(text: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="session")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of simulated tracks."""
    return write_tracks(tmp_path_factory.mktemp("herd"))


@pytest.fixture(scope="session")
def trained(herd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of artefacts, trained on the herd. Copy it before altering it."""
    folder = tmp_path_factory.mktemp("artifacts")
    train(herd, folder, recipe=RECIPE, progress=quiet)
    return folder
