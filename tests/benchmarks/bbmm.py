"""The bridge beside a plain evaluation of the same integral, and how it grows: ``python -m tests.benchmarks.bbmm``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from models.bbmm.density import Bridges, Grid, bridges_of, occurrence_of
from models.bbmm.features import FloatArray, Track
from models.bbmm.variance import dynamic_variance, motion_variance
from tests.benchmarks.tables import Table, console

_VARIANCE: Final = 21.0
_SLICES: Final = 25
_RUNS: Final = 5
_WIDE: Final = (120, 84)
_CELL_M: Final = 200.0


def walk(fixes: int) -> Track:
    """Return hourly fixes of an animal that wanders in a range of some 20 km by 14 km."""
    rng = np.random.default_rng(1)
    x_m, y_m = 0.0, 0.0
    places = []
    for step_x, step_y in rng.normal(scale=np.sqrt(_VARIANCE * 3600), size=(fixes, 2)):
        x_m, y_m = 0.99 * x_m + step_x, 0.99 * y_m + step_y
        places.append((x_m, y_m))
    x, y = np.array(places).T
    return Track(times_s=np.arange(fixes, dtype=np.float64) * 3600.0, x_m=x, y_m=y, error_m=np.full(fixes, 20.0))


def grid(columns: int, rows: int, cell_m: float) -> Grid:
    """Return a grid about the middle."""
    return Grid(x_m=-columns * cell_m / 2, y_m=-rows * cell_m / 2, cell_m=cell_m, columns=columns, rows=rows)


def plain(bridges: Bridges, on: Grid) -> FloatArray:
    """Return seconds per cell: each time slice of each bridge evaluated on the whole grid, in numpy."""
    columns = on.x_m + on.cell_m * np.arange(on.columns)
    rows = on.y_m + on.cell_m * np.arange(on.rows)
    seconds = np.zeros((on.rows, on.columns))
    weights = np.full(_SLICES, 1 / (_SLICES - 1))
    weights[[0, -1]] /= 2
    for n in range(len(bridges)):
        length_s = bridges.end_s[n] - bridges.start_s[n]
        for share, weight in zip(np.linspace(0, 1, _SLICES), weights, strict=True):
            mean_x = bridges.x0_m[n] + share * (bridges.x1_m[n] - bridges.x0_m[n])
            mean_y = bridges.y0_m[n] + share * (bridges.y1_m[n] - bridges.y0_m[n])
            spread = length_s * share * (1 - share) * bridges.variance_m2_per_s[n]
            spread += ((1 - share) * bridges.error0_m[n]) ** 2 + (share * bridges.error1_m[n]) ** 2
            squared = (columns - mean_x)[None, :] ** 2 + (rows - mean_y)[:, None] ** 2
            seconds += np.exp(-squared / (2 * spread)) * (weight * length_s * on.cell_m**2 / (2 * np.pi * spread))
    return seconds


def median_s(run: Callable[[], object], runs: int = _RUNS) -> float:
    """Return the median time of some runs, after one that does not count."""
    run()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def figures() -> list[Table]:
    """Measure and return the tables."""
    month = bridges_of(walk(720), _VARIANCE)
    on = grid(*_WIDE, _CELL_M)
    ours_s = median_s(lambda: occurrence_of(month, on))
    plain_s = median_s(lambda: plain(month, on), runs=1)
    difference = float(np.abs(occurrence_of(month, on).seconds - plain(month, on)).sum() / plain(month, on).sum())
    beside = Table(
        "A month of hourly fixes on 120 x 84 cells",
        ("how", "s", "ratio"),
        [
            ("matrix products on the cells that a bridge reaches", f"{ours_s:.3f}", "1"),
            ("plain numpy, each slice on the whole grid", f"{plain_s:.3f}", f"{plain_s / ours_s:.0f}"),
            ("share of time that differs", f"{difference:.1e}", "-"),
        ],
    )
    rows = []
    for fixes in (720, 1_440, 2_880, 5_760):
        track = walk(fixes)
        bridges = bridges_of(track, _VARIANCE)
        spent = (
            median_s(lambda bridges=bridges: occurrence_of(bridges, on), 3),  # type: ignore[misc] # bound for this turn
            median_s(lambda track=track: motion_variance(track), 3),  # type: ignore[misc] # bound for this turn
            median_s(lambda track=track: dynamic_variance(track), 3),  # type: ignore[misc] # bound for this turn
        )
        rows.append((f"{fixes} fixes, 120 x 84 cells", *(f"{one:.3f}" for one in spent)))
    for finer in (2, 4, 8):
        fine = grid(_WIDE[0] * finer, _WIDE[1] * finer, _CELL_M / finer)
        spent_s = median_s(lambda fine=fine: occurrence_of(month, fine), 3)  # type: ignore[misc] # bound for this turn
        rows.append((f"720 fixes, {fine.columns} x {fine.rows} cells of {fine.cell_m:g} m", f"{spent_s:.3f}", "-", "-"))
    return [beside, Table("Growth", ("case", "occurrence s", "variance s", "dynamic variance s"), rows)]


if __name__ == "__main__":
    for table in figures():
        console().print(table.on_terminal())
