"""Habitat on real animals and maps: beside the reference's points and folds, on ground that was held back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from models.habitat import folds
from models.habitat.datasets import Points, Settings, Study, animals_of, known_studies, points_of
from models.habitat.evaluate import reference_points
from models.habitat.features import open_rasters
from models.habitat.metrics import auc, boyce
from models.habitat.runtime import load_model, suitability_map, suitability_of, suitability_tile
from models.habitat.train import fitted, held_out, plain_glm, raw
from tests import real_data

pytestmark = [pytest.mark.integration, pytest.mark.ml, pytest.mark.slow]

SETTINGS = Settings()
SEEDS = 20 if os.environ.get("OUTPOST_NIGHTLY") else 2


def study(name: str, track: str, raster: str) -> Study:
    data = real_data.tracks(track).parent
    real_data.tracks(raster)
    return next(one for one in known_studies(data) if one.name == name)


@pytest.fixture(scope="module")
def utah() -> Study:
    return study("cougar", "coyote_cougar_utah_mahoney2016.csv", "rasters/coyote_cougar_utah_habitat_250m.tif")


@pytest.fixture(scope="module")
def kruger() -> Study:
    return study("kruger_buffalo", "buffalo_kruger_cross2016.csv", "rasters/kruger_woody_temp_200m.tif")


def skill(points: Points, fold: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Return AUC and Boyce index of the model, and the AUC of the textbook's regression."""
    ours = held_out(points, fold, fitted(SETTINGS, seed))
    plain = held_out(points, fold, lambda seen, out: plain_glm(seen).log_odds(raw(out)))
    return auc(points.is_used, ours), boyce(points.is_used, ours), auc(points.is_used, plain)


@pytest.mark.parametrize(("individual", "others_best", "amt"), [("C028", 0.648, 0.644), ("F53", 0.563, 0.519)])
def test_the_references_points_and_folds_are_told_apart_better(
    utah: Study, individual: str, others_best: float, amt: float
) -> None:
    reference = real_data.FOLDER.parent / "reference"
    with open_rasters(utah.rasters) as maps:
        given = reference_points(reference, individual, maps)
    if given is None:
        pytest.skip("reference/models is absent: it lies beside the folder that OUTPOST_REAL_DATA names")
    points, fold, others = given
    found, index, plain = skill(points, fold, 0)
    assert others["amt glm"] == pytest.approx(amt, abs=0.001)
    # Our regression is theirs: the reference's points are rounded, and no more.
    assert plain == pytest.approx(amt, abs=0.004)
    assert found > others_best + 0.05
    assert index > 0.6


def test_ground_that_was_held_back_is_told_apart_better_than_by_a_regression(utah: Study) -> None:
    with open_rasters(utah.rasters) as maps:
        points = points_of(animals_of(utah.rasters.folder, utah), maps, SETTINGS, seed=0)
    held_back = [skill(points, folds.block_folds(points.x_m, points.y_m, seed), seed) for seed in range(SEEDS)]
    for found, index, plain in held_back:
        assert found > plain
        assert index > 0.6
    flattered, _, _ = skill(points, folds.random_folds(points.is_used.size, 0), 0)
    assert all(flattered > found + 0.1 for found, _, _ in held_back)


def test_an_animal_that_was_left_out_is_told_apart_better_than_by_a_regression(kruger: Study) -> None:
    with open_rasters(kruger.rasters) as maps:
        points = points_of(animals_of(kruger.rasters.folder, kruger), maps, SETTINGS, seed=0)
    found, index, plain = skill(points, points.animal, 0)
    assert found > plain + 0.05
    assert found > 0.64
    assert index > 0.6


def test_a_station_maps_a_real_park(tmp_path: Path, kruger: Study) -> None:
    model = load_model("Syncerus caffer")
    with open_rasters(kruger.rasters) as maps:
        assert suitability_map(model, maps, tmp_path / "map.tif") == ()
        found = suitability_of(model, maps, np.array([31.75, 0.0]), np.array([-24.5, 0.0]))
        assert 0 < found.suitability[0] < 1
        assert np.isnan(found.suitability[1])
        assert len(suitability_tile(model, maps, 9, 301, 292)) > 1_000
