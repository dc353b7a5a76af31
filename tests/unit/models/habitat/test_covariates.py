"""Covariates beside the plain definition of each."""

from __future__ import annotations

import numpy as np
import pytest

from models.habitat.covariates import covariate_names, covariates, layers_of, margin_cells, own_names, unit_of
from models.habitat.layers import KINDS

pytestmark = [pytest.mark.unit, pytest.mark.ml]

CELL_M = (200.0, 250.0)


def test_means_and_differences_are_those_of_the_square_around() -> None:
    rng = np.random.default_rng(3)
    woody = rng.uniform(0, 100, (40, 36))
    woody[rng.random(woody.shape) < 0.1] = np.nan
    margin = margin_cells(CELL_M)
    found = covariates(
        ("woody_cover_mean_1000m", "woody_cover_above_1000m", "woody_cover"), {"woody_cover": woody}, {}, CELL_M, margin
    )
    assert found.shape == (3, 40 - 2 * margin[0], 36 - 2 * margin[1])
    for row in range(found.shape[1]):
        for column in range(found.shape[2]):
            r, c = row + margin[0], column + margin[1]
            mean = np.nanmean(woody[r - 5 : r + 6, c - 4 : c + 5])
            wanted = np.array([mean, woody[r, c] - mean, woody[r, c]])
            if np.isnan(woody[r, c]):
                wanted[:] = np.nan
            assert found[:, row, column] == pytest.approx(wanted, rel=1e-5, abs=1e-4, nan_ok=True)


def test_a_plane_has_one_slope_and_faces_where_it_falls() -> None:
    rows, columns = np.mgrid[0:60, 0:60].astype(float)
    margin = margin_cells((100.0, 100.0))
    # Falls 30 m a cell to the south and 40 m to the east: 50 m on 100 m.
    plane = 9_000 - 30 * rows - 40 * columns
    found = covariates(("slope", "south", "east"), {"elevation": plane}, {}, (100.0, 100.0), margin)
    assert found[0] == pytest.approx(np.degrees(np.arctan(0.5)), abs=1e-3)
    assert found[1] == pytest.approx(0.6, abs=1e-5)
    assert found[2] == pytest.approx(0.8, abs=1e-5)
    flat = covariates(("slope", "south", "east"), {"elevation": plane * 0}, {}, (100.0, 100.0), margin)
    assert (flat == 0).all()


def test_land_cover_is_a_share_and_an_unknown_category_is_missing() -> None:
    cover = np.ones((60, 60))
    cover[:, 30:] = 2
    cover[0, 0] = np.nan
    names = covariate_names(["land_cover"], ["forest", "grass"])
    found = covariates(
        (*names, "land_cover_swamp"), {"land_cover": cover}, {1: "forest", 2: "grass"}, (100, 100), (21, 21)
    )
    by_name = dict(zip((*names, "land_cover_swamp"), found, strict=True))
    assert (by_name["land_cover_forest"] + by_name["land_cover_grass"] == 1).all()
    assert by_name["land_cover_forest_mean_500m"][0, 8] == pytest.approx(6 / 11)
    assert np.isnan(by_name["land_cover_swamp"]).all()


def test_a_layer_that_is_not_there_gives_nothing() -> None:
    found = covariates(
        ("ndvi", "ndvi_mean_500m", "slope"), {"woody_cover": np.ones((60, 60))}, {}, (100, 100), (21, 21)
    )
    assert np.isnan(found).all()


def test_names_say_layers_and_units() -> None:
    names = covariate_names(KINDS, ["forest"])
    assert len(set(names)) == len(names)
    for name in names:
        assert set(layers_of(name)) <= set(KINDS), name
    assert layers_of("slope_mean_500m") == ("slope", "elevation")
    assert layers_of("land_cover_forest_mean_500m") == ("land_cover",)
    assert layers_of("distance_to_water") == ("distance_to_water",)
    assert (unit_of("temperature_above_500m"), unit_of("land_cover_forest"), unit_of("east")) == ("celsius", "1", "1")
    assert own_names(["elevation"], covariate_names(["elevation"])) == ("elevation",)
    assert list(own_names(KINDS, names)) == [
        "elevation", "slope", "ndvi", "woody_cover", "biomass", "temperature", "rainfall", "distance_to_water",
        "distance_to_road", "distance_to_settlement", "distance_to_protected_area", "land_cover_forest",
    ]  # fmt: skip
    assert "slope" in covariate_names(["elevation"])


def test_a_cell_wider_than_the_square_is_its_own_surroundings() -> None:
    woody = np.arange(30.0).reshape(5, 6)
    margin = margin_cells((5_000.0, 5_000.0))
    found = covariates(
        ("woody_cover_mean_500m", "woody_cover_above_500m"), {"woody_cover": woody}, {}, (5e3, 5e3), margin
    )
    assert (found[0] == woody[1:-1, 1:-1]).all()
    assert (found[1] == 0).all()
