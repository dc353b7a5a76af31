"""From a reserve's maps to a cost surface, in windows: what is read at once does not grow with the maps.

The maps are those of ``rasters.toml`` (``models.habitat``), any GeoTIFF or COG in any coordinates, brought to the cells
of one of them. Habitat is the layer ``habitat_suitability`` or, where there is none, the habitat model's. Where a map
has no data in a layer that has a weight, nothing walks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.corridor.surface import (
    TERMS,
    BoolArray,
    Cell,
    Float32Array,
    FloatArray,
    Surface,
    Weights,
    surface_of,
    terms_of,
)
from models.habitat.features import Grid, RasterSet, Window, write_geotiff
from models.habitat.runtime import HabitatModel
from shared.errors import Invalid

#: Cells of a surface that a route is planned on; a larger part of a map is made coarser, and the answer says so.
MOST_CELLS: Final = 4_000_000
#: How far beyond the two ends a surface reaches, as a share of the way between them, and cells at least.
_MARGIN_SHARE: Final = 0.5
_MARGIN_CELLS: Final = 40
_PLAIN_LAYERS: Final = (
    "habitat_suitability", "conflict_risk", "utilisation", "distance_to_water", "distance_to_settlement",
    "distance_to_road", "land_cover",
)  # fmt: skip


class Placed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A surface and where it lies: its first cell in the grid, and cells of the grid to one of its own."""

    surface: Surface
    grid: Grid
    row: int
    column: int
    coarseness: int

    def cell(self, lon_deg: float, lat_deg: float) -> Cell:
        """Return the cell of a position; it may lie outside."""
        row, column = self.grid.cells(np.array([lon_deg]), np.array([lat_deg]))
        if not (math.isfinite(float(row[0])) and math.isfinite(float(column[0]))):
            return Cell(-1, -1)
        return Cell(
            math.floor((float(row[0]) - self.row) / self.coarseness),
            math.floor((float(column[0]) - self.column) / self.coarseness),
        )

    def positions(self, cells: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return longitudes and latitudes of the middles of cells, shape (n, 2)."""
        rows = self.row + (np.asarray(cells)[:, 0] + 0.5) * self.coarseness
        columns = self.column + (np.asarray(cells)[:, 1] + 0.5) * self.coarseness
        return self.grid.to_degrees(
            self.grid.west + columns * self.grid.cell_x, self.grid.north - rows * self.grid.cell_y
        )


def surface_between(
    maps: RasterSet,
    weights: Weights,
    start_deg: tuple[float, float],
    end_deg: tuple[float, float],
    *,
    month: int | None = None,
    habitat: HabitatModel | None = None,
    most_cells: int = MOST_CELLS,
) -> Placed:
    """Return the surface around two positions (longitude, latitude), with room for detours.

    Raises Invalid where one of them is outside the maps, or where no layer is there that has a weight.
    """
    grid = maps.grid
    rows, columns = grid.cells(np.array([start_deg[0], end_deg[0]]), np.array([start_deg[1], end_deg[1]]))
    for name, row, column in zip(("start_point", "end_point"), rows.tolist(), columns.tolist(), strict=True):
        if not (0 <= row < grid.rows and 0 <= column < grid.columns):  # also where a coordinate is no number
            raise Invalid(f"{name} is outside the maps")
    away = max(float(np.ptp(rows)), float(np.ptp(columns)))
    margin = round(_MARGIN_SHARE * away) + _MARGIN_CELLS
    top, left = max(0, int(rows.min()) - margin), max(0, int(columns.min()) - margin)
    bottom = min(grid.rows, int(rows.max()) + margin + 1)
    right = min(grid.columns, int(columns.max()) + margin + 1)
    window = Window(top, left, bottom - top, right - left)
    return surface_in(maps, weights, window, month=month, habitat=habitat, most_cells=most_cells)


def surface_in(
    maps: RasterSet,
    weights: Weights,
    window: Window,
    *,
    month: int | None = None,
    habitat: HabitatModel | None = None,
    most_cells: int = MOST_CELLS,
) -> Placed:
    """Return the surface of a window of the maps, coarser where it has more than ``most_cells``."""
    coarseness = math.ceil(math.sqrt(window.rows * window.columns / most_cells))
    rows, columns = math.ceil(window.rows / coarseness), math.ceil(window.columns / coarseness)
    whole: dict[str, Float32Array] = {}
    is_road, is_blocked = np.zeros((rows, columns), dtype=bool), np.zeros((rows, columns), dtype=bool)
    for top in range(0, rows, max(1, 256 // coarseness)):
        for left in range(0, columns, max(1, 256 // coarseness)):
            here = (
                slice(top, min(rows, top + max(1, 256 // coarseness))),
                slice(left, min(columns, left + max(1, 256 // coarseness))),
            )
            part = Window(
                window.row + top * coarseness, window.column + left * coarseness,
                min(window.rows - top * coarseness, (here[0].stop - top) * coarseness),
                min(window.columns - left * coarseness, (here[1].stop - left) * coarseness),
            )  # fmt: skip
            terms, road, blocked = _read(maps, weights, part, month, habitat)
            for name, values in terms.items():
                target = whole.setdefault(name, np.full((rows, columns), np.nan, dtype=np.float32))
                target[here] = _means(values, coarseness)
            is_road[here] = _any(road, coarseness)
            is_blocked[here] = _means(blocked.astype(np.float32), coarseness) > 0.5
    if not whole:
        raise Invalid("no map here says what a route is planned by: see rasters.toml and species.toml")
    height_m, width_m = maps.grid.cell_m
    if not 0.8 < height_m / width_m < 1.25:
        raise Invalid(f"cells of {height_m:.0f} x {width_m:.0f} m: routes need cells that are about square")
    surface = surface_of(
        whole, weights=weights, cell_m=math.sqrt(height_m * width_m) * coarseness, is_road=is_road,
        is_blocked=is_blocked,
    )  # fmt: skip
    return Placed(surface=surface, grid=maps.grid, row=window.row, column=window.column, coarseness=coarseness)


def write_cost(
    maps: RasterSet,
    weights: Weights,
    path: Path,
    *,
    month: int | None = None,
    habitat: HabitatModel | None = None,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Write the cost of every cell of the maps as a GeoTIFF, window by window; *no data* where nothing walks."""

    def parts() -> Iterator[tuple[Window, Float32Array]]:
        windows = list(maps.grid.blocks())
        for number, window in enumerate(windows):
            yield window, cost_in(maps, weights, window, month=month, habitat=habitat)
            if progress is not None:
                progress((number + 1) / len(windows))

    write_geotiff(path, maps.grid, parts(), {"species": weights.species, "unit": "cost a metre"})


def cost_in(
    maps: RasterSet,
    weights: Weights,
    window: Window,
    *,
    month: int | None = None,
    habitat: HabitatModel | None = None,
) -> Float32Array:
    """Return a metre's cost on the cells of a window, NaN where nothing walks."""
    terms, _, is_blocked = _read(maps, weights, window, month, habitat)
    cost = np.full((window.rows, window.columns), np.float32(weights.weights["distance"]), dtype=np.float32)
    for name in TERMS[1:]:
        if name in terms and weights.weights.get(name, 0) > 0:
            cost += np.float32(weights.weights[name]) * terms[name]
    cost[is_blocked] = np.nan
    return cost


def _read(
    maps: RasterSet, weights: Weights, window: Window, month: int | None, habitat: HabitatModel | None
) -> tuple[dict[str, Float32Array], BoolArray, BoolArray]:
    """Return terms, roads and what cannot be walked on in a window."""
    present = maps.rasters.at(month)
    layers = {kind: values for kind, values in maps.read(window, month).items() if kind in _PLAIN_LAYERS}
    if "slope" in present or "elevation" in present:
        layers["slope"] = maps.covariates(("slope",), window, month)[0].astype(np.float64)
    if "habitat_suitability" not in layers and habitat is not None:
        seen = maps.covariates(habitat.names, window, month)
        scores = habitat.score(seen.reshape(len(habitat.names), -1).T)
        layers["habitat_suitability"] = scores.reshape(window.rows, window.columns)
    cover = present.get("land_cover")
    terms = terms_of(layers, {} if cover is None else cover.names, weights)
    is_road = np.zeros((window.rows, window.columns), dtype=bool)
    if "distance_to_road" in layers:
        with np.errstate(invalid="ignore"):
            is_road = layers["distance_to_road"] < 0.5 * math.sqrt(math.prod(maps.grid.cell_m))
    is_blocked = np.zeros((window.rows, window.columns), dtype=bool)
    for kind, highest in weights.impassable.items():
        if kind in layers:
            with np.errstate(invalid="ignore"):
                is_blocked |= layers[kind] > highest
    return terms, is_road, is_blocked


def _means(values: Float32Array, size: int) -> Float32Array:
    """Return the means of squares of cells, NaN where more than half of one is; the last ones may be smaller."""
    if size == 1:
        return values
    padded = _padded(values, size)
    is_there = np.isfinite(padded)
    counts = is_there.sum(axis=(1, 3))
    sums = np.where(is_there, padded, 0).sum(axis=(1, 3))
    return np.where(counts * 2 >= size * size, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def _any(values: BoolArray, size: int) -> BoolArray:
    if size == 1:
        return values
    return np.asarray((_padded(values.astype(np.float32), size) == 1).any(axis=(1, 3)))


def _padded(values: Float32Array, size: int) -> Float32Array:
    rows, columns = (math.ceil(length / size) for length in values.shape)
    padded = np.pad(values, ((0, rows * size - values.shape[0]), (0, columns * size - values.shape[1])), mode="edge")
    return padded.reshape(rows, size, columns, size)
