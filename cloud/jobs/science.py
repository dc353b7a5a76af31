"""What outgrows one process, spread over Dask: maps of habitat by chunks, occurrence of many animals, routes measured.

Each function gives its progress and takes a ``Spread``; what a worker does of an item is a function of this module, so
that it runs anywhere that this program is installed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from cloud.jobs.spread import Spread
from models.artifact import PACKAGED
from models.habitat.features import BLOCK_CELLS, Grid, Window, open_rasters, write_geotiff
from models.habitat.runtime import load_model, map_tags, missing_covariates, scored
from models.live.drawing import drawn_from
from models.live.runtime import Fixes, Models
from shared import insight
from shared.errors import ModelUnavailable

Float32Array = npt.NDArray[np.float32]
Progress = Callable[[float, str], None]

#: Rows and columns of one task: enough that a worker's time goes into scoring and not into the ground around, which
#: covariates look at up to two kilometres far; few enough to fit into memory. Whole tiles of the file that is written.
TASK_ROWS: Final = 2 * BLOCK_CELLS
TASK_COLUMNS: Final = 4 * BLOCK_CELLS


class MapMade(msgspec.Struct, frozen=True, kw_only=True):
    """A map of suitability: how large it is, which model made it, what it did not know."""

    path: str
    rows: int
    columns: int
    model: str
    missing: tuple[str, ...]
    where: str


def habitat_map(
    over: Spread,
    maps: Path,
    species: str | None,
    month: int | None,
    path: Path,
    *,
    artifacts: Path = PACKAGED,
    progress: Progress = lambda _share, _what: None,
) -> MapMade:
    """Write the suitability of a reserve's whole grid as a GeoTIFF; memory is that of the chunks under way.

    Raises ModelUnavailable without a model or maps, Invalid for maps that cannot be read.
    """
    model = load_model(species, artifacts)
    with open_rasters(maps) as opened:
        grid = opened.grid
        tags = map_tags(model, opened, month)
        missing = missing_covariates(model, opened, month)
    windows = list(_windows(grid))
    work = functools.partial(score_window, maps=maps, artifacts=artifacts, species=species, month=month)

    def parts() -> Iterator[tuple[Window, Float32Array]]:
        for number, (window, values) in enumerate(zip(windows, over.map(work, windows), strict=True)):
            yield window, values
            progress((number + 1) / len(windows), f"{number + 1} of {len(windows)} chunks")

    write_geotiff(path, grid, parts(), tags)
    return MapMade(
        path=str(path), rows=grid.rows, columns=grid.columns, model=f"{model.name} {model.version}", missing=missing,
        where=over.where,
    )  # fmt: skip


def score_window(window: Window, maps: Path, artifacts: Path, species: str | None, month: int | None) -> Float32Array:
    """Return the suitability of a window of a reserve's grid: what one worker does at a time."""
    model = load_model(species, artifacts)
    with open_rasters(maps) as opened:
        return scored(model, opened, window, month)


class Animal(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One animal and its fixes, by time."""

    id: str
    species: str
    fixes: Fixes
    since: datetime
    until: datetime


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """Where one animal was; ``missing``: why nobody can tell."""

    animal_id: str
    occurrence: insight.Occurrence | None
    missing: str | None = None


def utilisations(over: Spread, animals: Iterable[Animal], *, artifacts: Path = PACKAGED) -> Iterator[Used]:
    """Give the occurrence of many animals, in their order; one that fails costs no other its own."""
    yield from over.map(functools.partial(utilisation, artifacts=artifacts), animals)


def utilisation(animal: Animal, artifacts: Path) -> Used:
    """Return the occurrence of one animal: what one worker does at a time."""
    try:
        drawn = drawn_from(_models(artifacts), animal.species, animal.fixes, since=animal.since, until=animal.until)
    except ModelUnavailable as error:
        return Used(animal_id=animal.id, occurrence=None, missing=error.detail)
    except (ArithmeticError, ValueError, LookupError) as error:
        return Used(animal_id=animal.id, occurrence=None, missing=f"failed: {type(error).__name__}: {error}")
    return Used(animal_id=animal.id, occurrence=drawn.answer)


@functools.lru_cache(maxsize=2)
def _models(artifacts: Path) -> Models:
    return Models(artifacts)


def _windows(grid: Grid) -> Iterator[Window]:
    for row in range(0, grid.rows, TASK_ROWS):
        for column in range(0, grid.columns, TASK_COLUMNS):
            yield Window(row, column, min(TASK_ROWS, grid.rows - row), min(TASK_COLUMNS, grid.columns - column))
