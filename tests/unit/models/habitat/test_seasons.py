"""Seasons: an animal that is seen in one of them learns from its map, and the other map is another suitability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.habitat.datasets import Settings, animals_of, points_of, studies_in
from models.habitat.evaluate import evaluate
from models.habitat.export import quantised
from models.habitat.features import open_rasters
from models.habitat.runtime import suitability_of
from models.habitat.train import fit
from tests.unit.models.habitat.maps import smooth_noise, write_map, write_reserve

pytestmark = [pytest.mark.unit, pytest.mark.ml]


def test_a_fix_learns_from_the_map_of_its_month(tmp_path: Path) -> None:
    write_reserve(tmp_path, fixes=300)
    wet, dry = (np.clip(0.5 + 0.2 * smooth_noise((160, 170), seed), 0, 1) for seed in (11, 12))
    write_map(tmp_path / "wet.tif", wet)
    write_map(tmp_path / "dry.tif", dry)
    (tmp_path / "rasters.toml").write_text(
        '[[layer]]\nkind = "ndvi"\nfile = "wet.tif"\nunit = "1"\nmonths = [11, 12, 1, 2, 3, 4]\n'
        '[[layer]]\nkind = "ndvi"\nfile = "dry.tif"\nunit = "1"\nmonths = [5, 6, 7, 8, 9, 10]\n',
        encoding="utf-8",
    )
    (study,) = studies_in(tmp_path)
    settings = Settings(rounds=10, per_used=2)
    with open_rasters(study.rasters) as maps:
        # All fixes are of January.
        points = points_of(animals_of(tmp_path, study), maps, settings, seed=1)
        lon, lat = maps.grid.from_metres(points.x_m, points.y_m)
        row, column = (one.astype(int) for one in maps.grid.cells(lon, lat))
        assert points.values[:, points.names.index("ndvi")] == pytest.approx(wet[row, column], rel=1e-5)
        model = quantised(fit(points, settings, 1), name="any", version=1, held_out="blocks", metrics={})
        in_wet, in_dry = (suitability_of(model, maps, lon[:50], lat[:50], month).suitability for month in (1, 7))
        assert (in_wet != in_dry).any()
    (tmp_path / "habitat.toml").write_text("rounds = 5\nper_used = 2\nblock_m = 2500\n", encoding="utf-8")
    assert evaluate(tmp_path, tmp_path, seeds=1).quantisation[0].cells == 160 * 170
