"""Cells scored by trees in bytes beside the booster they came from: ``python -m tests.benchmarks.habitat``.

Both get 50,000 cells of a simulated reserve, one thread each. Artefacts are those of the package. Latency is that of
one cell whose covariates are at hand, and of one place on a map, with the windows that have to be read for it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import xgboost

from models.artifact import PACKAGED
from models.habitat.covariates import Float32Array
from models.habitat.datasets import Points, Settings, animals_of, points_of, studies_in
from models.habitat.export import quantised
from models.habitat.features import Window, open_rasters
from models.habitat.runtime import HabitatModel, suitability_map, suitability_of, suitability_tile
from models.habitat.train import FloatModel, fit
from tests.benchmarks.tables import Table, console
from tests.unit.models.habitat.maps import write_reserve

CELLS: Final = 50_000
_RUNS: Final = 7
_SINGLES: Final = 2_000
#: The second is the size that trees without our restraint have.
_SIZES: Final = (
    ("as shipped: 100 trees of depth 3", Settings()),
    ("300 trees of depth 6", Settings(rounds=300, depth=6, l2=1.0, least_weight=1.0, bins=200)),
)


def figures() -> list[Table]:
    """Measure and return the tables."""
    with tempfile.TemporaryDirectory() as folder:
        reserve = write_reserve(Path(folder), fixes=1_500)
        (study,) = studies_in(reserve)
        with open_rasters(study.rasters) as maps:
            points = points_of(animals_of(reserve, study), maps, Settings(), seed=1)
            grid = maps.grid
            whole = maps.covariates(points.names, Window(0, 0, grid.rows, grid.columns))
            cells = whole.reshape(len(points.names), -1).T.copy()
            cells = np.tile(cells, (CELLS // len(cells) + 1, 1))[:CELLS]
            rows = [_beside(title, points, settings, cells) for title, settings in _SIZES]
            small = _small(fit(points, Settings(), seed=1))
            latency = _latencies(small, cells, reserve, Path(folder))
    sizes = [
        (path.stem, f"{path.stat().st_size:,}", f"{path.with_suffix('.json').stat().st_size:,}")
        for path in sorted((PACKAGED / "habitat").glob("*/*.bin"))
    ]
    columns = ("model", "numpy ms", "xgboost ms", "ratio", "bytes", "booster's bytes", "largest difference")
    return [
        Table(f"{CELLS:,} cells, one thread", columns, rows),
        Table("Latency", ("what", "p50 ms", "p99 ms"), latency),
        Table("Artefacts", ("model", "bytes", "manifest's bytes"), sizes),
    ]


def _small(model: FloatModel) -> HabitatModel:
    return quantised(model, name="benchmark", version=1, held_out="blocks", metrics={"auc": 1.0, "boyce": 1.0})


def _beside(title: str, points: Points, settings: Settings, cells: Float32Array) -> tuple[str, ...]:
    model = fit(points, settings, seed=1)
    small = _small(model)
    (booster,) = model.boosters
    booster.set_param({"nthread": 1})

    def native() -> object:
        # The trees alone: in place, without the trend that ours adds.
        return booster.inplace_predict(cells, predict_type="margin", validate_features=False)

    ours_ms, native_ms = _best_ms(lambda: small.score(cells)), _best_ms(native)
    exact = 1 / (1 + np.exp(-model.log_odds(cells)))
    size = sum(
        getattr(small, name).nbytes for name in ("linear", "thresholds", "features", "bins", "no_data_right", "leaves")
    )
    return (
        title,
        f"{ours_ms:.0f}",
        f"{native_ms:.0f}",
        f"{ours_ms / native_ms:.1f}",
        f"{size:,}",
        f"{len(booster.save_raw(raw_format='ubj')):,}",
        f"{float(np.abs(exact - small.score(cells)).max()):.1e}",
    )


def _latencies(small: HabitatModel, cells: Float32Array, reserve: Path, folder: Path) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(1)
    picked = cells[rng.integers(0, CELLS, _SINGLES)]
    rows = [_latency("one cell, covariates at hand", [lambda row=row: small.score(row[None]) for row in picked])]  # type: ignore[misc] # bound for this turn
    with open_rasters(reserve / "rasters.toml") as maps:
        grid = maps.grid
        x = grid.west + rng.uniform(0, grid.columns * grid.cell_x, 200)
        y = grid.north - rng.uniform(0, grid.rows * grid.cell_y, 200)
        places = list(zip(*grid.to_degrees(x, y), strict=True))
        rows.append(
            _latency(
                "one place on maps of 100 m",
                [lambda at=at: suitability_of(small, maps, np.array([at[0]]), np.array([at[1]])) for at in places],  # type: ignore[misc] # bound for this turn
            )
        )
        lon, lat = places[0]
        tile_x = int((lon + 180) / 360 * 2**12)
        tile_y = int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**12)
        rows.append(_latency("a tile of zoom 12", [lambda: suitability_tile(small, maps, 12, tile_x, tile_y)] * 10))
        path = folder / "map.tif"
        rows.append(
            _latency(f"a map of {grid.rows * grid.columns:,} cells", [lambda: suitability_map(small, maps, path)] * 5)
        )
    return rows


def _latency(title: str, calls: list[Callable[[], object]]) -> tuple[str, ...]:
    spent = []
    calls[0]()
    for call in calls:
        began = time.perf_counter()
        call()
        spent.append((time.perf_counter() - began) * 1e3)
    return title, *(f"{value:.2f}" for value in np.percentile(spent, (50, 99)))


def _best_ms(run: Callable[[], object]) -> float:
    """Return the shortest of some runs: what else the machine does can only add."""
    run()
    times = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times) * 1e3


if __name__ == "__main__":
    xgboost.set_config(verbosity=0)
    for table in figures():
        console().print(table.on_terminal())
