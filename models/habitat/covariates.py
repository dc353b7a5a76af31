"""From maps to the numbers that a model is given: the cell itself, and what lies around it at three distances.

An animal does not choose a cell of 30 m by that cell alone: whether it is greener, lower or cooler than what is around
says more, and says it in the same way in the next valley. So each continuous layer gives its value, the mean of the
square around it that reaches 500, 1000 and 2000 m to each side, and by how much the cell is above these means. From
elevation come slope, how far it faces south and east, and the same of the slope. Land cover gives each category by
itself and its share around. A distance is given as it is.

Cells without data do not count in a mean; a cell without data has none of its own and no difference. A name says what
it is made of, ``temperature_above_1000m``, so that a model knows by its names alone what to read. Means are sums of
running sums: cost does not grow with the square, and a window of a map gives the same as the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from models.habitat.layers import KINDS, LAND_COVER, ROUTE_KINDS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

RADII_M: Final = (500, 1_000, 2_000)
FURTHEST_M: Final = RADII_M[-1]
_ASPECTS: Final = ("south", "east")


def covariate_names(kinds: Iterable[str], categories: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the covariates that layers of these kinds give, in a fixed order."""
    present = set(kinds)
    names: list[str] = []
    for kind in KINDS:
        if kind not in present or kind in ROUTE_KINDS:
            continue
        if kind == LAND_COVER:
            for category in sorted(categories):
                names += [f"{kind}_{category}", *(f"{kind}_{category}_mean_{radius}m" for radius in RADII_M)]
        elif kind.startswith("distance_"):
            names.append(kind)
        elif kind == "elevation":
            names += [kind, *(f"{kind}_above_{radius}m" for radius in RADII_M), *_ASPECTS]
            if "slope" not in present:
                names += ["slope", *(f"slope_mean_{radius}m" for radius in RADII_M)]
        else:
            names += [kind, *(f"{kind}_mean_{radius}m" for radius in RADII_M)]
            if kind != "slope":
                names += [f"{kind}_above_{radius}m" for radius in RADII_M]
    return tuple(names)


def layers_of(name: str) -> tuple[str, ...]:
    """Return the kinds of layer that can give a covariate, the better one first."""
    base = _base(name)
    if base == "slope":
        return ("slope", "elevation")
    if base in _ASPECTS:
        return ("elevation",)
    return (LAND_COVER,) if base.startswith(f"{LAND_COVER}_") else (base,)


def unit_of(name: str) -> str:
    """Return the unit of a covariate."""
    base = _base(name)
    return KINDS[base].unit if base in KINDS else "1"


def own_names(kinds: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """Return those of the names that are values of the maps themselves, not made of surroundings or a slope."""
    own = set(kinds)
    return tuple(name for name in names if name == _base(name) and (name in own or name.startswith(f"{LAND_COVER}_")))


def margin_cells(cell_m: tuple[float, float]) -> tuple[int, int]:
    """Return how many rows and columns around a window its covariates need; ``cell_m`` is height and width."""
    return _half_width(FURTHEST_M, cell_m[0]) + 1, _half_width(FURTHEST_M, cell_m[1]) + 1


def covariates(
    names: Iterable[str],
    layers: Mapping[str, FloatArray],
    categories: Mapping[int, str],
    cell_m: tuple[float, float],
    margin: tuple[int, int],
) -> Float32Array:
    """Return the named covariates of the inner part of a window, shape (names, rows, columns).

    ``layers`` are the window with its margin by kind, NaN where there is no data. What a layer that is not among them
    would give is NaN.
    """
    wanted = tuple(names)
    made: dict[str, FloatArray] = {}
    shape = next(iter(layers.values())).shape
    rows, columns = shape[0] - 2 * margin[0], shape[1] - 2 * margin[1]
    found = np.full((len(wanted), rows, columns), np.nan, dtype=np.float32)
    for place, name in enumerate(wanted):
        base, how, radius_m = _parts(name)
        if base not in made:
            whole = _base_layer(base, layers, categories, cell_m)
            if whole is None:
                continue
            made[base] = whole
        key = f"{base}_mean_{radius_m}"
        if how is not None and key not in made:
            made[key] = _box_mean(made[base], _half_width(radius_m, cell_m[0]), _half_width(radius_m, cell_m[1]))
        values = made[base] if how is None else made[key] if how == "mean" else made[base] - made[key]
        found[place] = values[margin[0] : margin[0] + rows, margin[1] : margin[1] + columns]
    return found


def _base_layer(
    base: str, layers: Mapping[str, FloatArray], categories: Mapping[int, str], cell_m: tuple[float, float]
) -> FloatArray | None:
    if base in layers:
        return layers[base]
    if base.startswith(f"{LAND_COVER}_") and LAND_COVER in layers:
        cover = layers[LAND_COVER]
        numbers = [number for number, name in categories.items() if name == base.removeprefix(f"{LAND_COVER}_")]
        # A map that does not know the category cannot say that it is nowhere.
        return np.where(np.isnan(cover), np.nan, np.isin(cover, numbers).astype(np.float64)) if numbers else None
    if base in ("slope", *_ASPECTS) and "elevation" in layers:
        down, right = np.gradient(layers["elevation"], cell_m[0], cell_m[1])
        steepness = np.hypot(down, right)
        if base == "slope":
            return np.asarray(np.degrees(np.arctan(steepness)))
        # Rows go south: ground that falls southwards falls with the row.
        falls = -down if base == "south" else -right
        return np.where(steepness > 0, falls / np.where(steepness > 0, steepness, 1.0), 0.0 * steepness)
    return None


def _half_width(radius_m: float, cell_m: float) -> int:
    return round(radius_m / cell_m)


def _box_mean(values: FloatArray, half_rows: int, half_columns: int) -> FloatArray:
    is_known = np.isfinite(values)
    sums = _box_sum(np.where(is_known, values, 0.0), half_rows, half_columns)
    counts = _box_sum(is_known.astype(np.float64), half_rows, half_columns)
    return np.where(is_known, sums / np.maximum(counts, 1.0), np.nan)


def _box_sum(values: FloatArray, half_rows: int, half_columns: int) -> FloatArray:
    for axis, half in ((0, half_rows), (1, half_columns)):
        length = values.shape[axis]
        running = np.concatenate((np.zeros_like(values.take([0], axis)), np.cumsum(values, axis=axis)), axis=axis)
        places = np.arange(length)
        values = running.take(np.minimum(places + half + 1, length), axis) - running.take(
            np.maximum(places - half, 0), axis
        )
    return values


def _parts(name: str) -> tuple[str, str | None, int]:
    for how in ("mean", "above"):
        base, found, radius = name.rpartition(f"_{how}_")
        if found and radius.endswith("m") and radius[:-1].isdigit():
            return base, how, int(radius[:-1])
    return name, None, 0


def _base(name: str) -> str:
    return _parts(name)[0]
