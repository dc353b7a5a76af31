"""What the process of maps does: rasterio and the maps are opened here, in a process of their own that others start.

The process keeps the maps open that it was last asked for, and opens them anew where ``rasters.toml`` has changed. What
is wrong with a map is no fault of who asks: it comes back as ModelUnavailable, which names the file.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.habitat.features import RasterSet, Window, open_rasters
from models.habitat.layers import KINDS, LAND_COVER
from models.habitat.runtime import HabitatModel, load_model, suitability_of, suitability_tile
from shared.errors import Invalid, ModelUnavailable, TooLarge
from shared.habitat import Ground, LayerSaid, Suited
from shared.movement.areas import Place

#: Cells that one question about the surroundings of a place reads at most, of each map.
MOST_CELLS: Final = 1_000_000
#: Megabytes that GDAL keeps of what it has read.
_CACHE_MB: Final = "32"


class _Opened(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The maps that are open, the file that says which, and how it was then."""

    stack: contextlib.ExitStack
    maps: RasterSet
    path: Path
    looked: tuple[int, int]


_opened: list[_Opened] = []
_models: dict[tuple[str | None, Path], HabitatModel] = {}


def begin() -> None:
    """Set the process up: it ends with the one that started it, and leaves the keyboard to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("GDAL_CACHEMAX", _CACHE_MB)
    os.nice(5)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def open_maps(path: Path) -> None:
    """Open the maps that ``path`` names and say nothing; raises ModelUnavailable where they cannot be used."""
    with _maps(path):
        pass


def suitability(path: Path, artifacts: Path, species: str | None, places: Sequence[Place], month: int) -> Suited:
    """Return how suitable places are; raises ModelUnavailable."""
    model = _model(species, artifacts)
    with _maps(path) as maps:
        found = suitability_of(
            model, maps, np.array([place.lon_deg for place in places]), np.array([place.lat_deg for place in places]),
            month,
        )  # fmt: skip
    return Suited(
        suitability=tuple(None if math.isnan(each) else float(each) for each in found.suitability.tolist()),
        model=found.model,
        version=found.version,
        month=month,
        missing=found.missing,
        model_auc=_known(found.model_auc),
        model_boyce=_known(found.model_boyce),
        is_guess=found.is_guess,
    )


def tile(path: Path, artifacts: Path, species: str, z: int, x: int, y: int, month: int) -> bytes:
    """Return a tile of suitability; raises ModelUnavailable."""
    model = _model(species, artifacts)
    with _maps(path) as maps:
        return suitability_tile(model, maps, z, x, y, month)


def ground(path: Path, place: Place, radius_m: float, month: int) -> Ground:
    """Return what each map says of a place and around it; raises ModelUnavailable, and TooLarge for a wide radius."""
    with _maps(path) as maps:
        grid = maps.grid
        height_m, width_m = grid.cell_m
        up, across = math.ceil(radius_m / height_m), math.ceil(radius_m / width_m)
        if (2 * up + 1) * (2 * across + 1) > MOST_CELLS:
            raise TooLarge(
                f"radius: {radius_m:g} m are more than {MOST_CELLS:,} cells of {width_m:g} m; ask for a narrower one"
            )
        row, column = grid.cells(np.array([place.lon_deg]), np.array([place.lat_deg]))
        if not np.isfinite(row[0]) or not (0 <= row[0] < grid.rows and 0 <= column[0] < grid.columns):
            raise ModelUnavailable("the place lies outside the maps of this home")
        window = Window(math.floor(row[0]) - up, math.floor(column[0]) - across, 2 * up + 1, 2 * across + 1)
        down_m = (window.row + np.arange(window.rows)[:, None] + 0.5 - row[0]) * height_m
        right_m = (window.column + np.arange(window.columns)[None, :] + 0.5 - column[0]) * width_m
        is_near = np.hypot(down_m, right_m) <= radius_m
        is_near[up, across] = True
        names = {kind: layer.names for kind, layer in maps.rasters.at(month).items()}
        layers = maps.read(window, month)
        return Ground(
            place=place,
            radius_m=radius_m,
            month=month,
            cell_m=width_m,
            cells=int(is_near.sum()),
            layers=tuple(
                _said(kind, float(values[up, across]), values[is_near], names[kind]) for kind, values in layers.items()
            ),
        )


def _said(kind: str, here: float, around: np.ndarray, names: dict[int, str]) -> LayerSaid:
    known = around[np.isfinite(around)]
    unit = KINDS[kind].unit
    if kind == LAND_COVER:
        codes, counts = np.unique(known.astype(np.int64), return_counts=True)
        shares = {
            names.get(int(code), f"category {code}"): round(int(n) / known.size, 4)
            for code, n in zip(codes, counts, strict=True)
        }
        return LayerSaid(
            kind=kind, unit=unit, category=None if math.isnan(here) else names.get(int(here)), shares=shares
        )  # fmt: skip
    if known.size == 0:
        return LayerSaid(kind=kind, unit=unit)
    return LayerSaid(
        kind=kind,
        unit=unit,
        value=_known(here),
        mean=float(known.mean()),
        lowest=float(known.min()),
        highest=float(known.max()),
    )


def _model(species: str | None, artifacts: Path) -> HabitatModel:
    key = species, artifacts
    if key not in _models:
        if len(_models) >= 64:
            _models.clear()
        _models[key] = load_model(species, artifacts)
    return _models[key]


@contextlib.contextmanager
def _maps(path: Path) -> Iterator[RasterSet]:
    """Give the maps, opened anew where the file that names them has changed; an unusable map is ModelUnavailable."""
    try:
        about = path.stat()
        looked = about.st_mtime_ns, about.st_size
        if not _opened or (_opened[0].path, _opened[0].looked) != (path, looked):
            _close()
            stack = contextlib.ExitStack()
            _opened.append(_Opened(stack=stack, maps=stack.enter_context(open_rasters(path)), path=path, looked=looked))
        yield _opened[0].maps
    except OSError as error:
        raise ModelUnavailable(f"the maps cannot be used: {path}: {error.strerror or error}") from error
    except Invalid as error:
        _close()
        raise ModelUnavailable(f"the maps cannot be used: {error.detail}") from error


def _close() -> None:
    while _opened:
        _opened.pop().stack.close()


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
