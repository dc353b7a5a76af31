"""From a reserve's maps to a cost surface, in windows: what is read at once does not grow with the maps.

The maps are those of ``rasters.toml`` (``models.habitat``), any GeoTIFF or COG in any coordinates, brought to the cells
of one of them. Habitat is the layer ``habitat_suitability`` or, where there is none, the habitat model's. Where a map
has no data in a layer that has a weight, nothing walks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from models.corridor.surface import (
    TERMS,
    BoolArray,
    Cell,
    Float32Array,
    FloatArray,
    IntArray,
    Surface,
    Weights,
    surface_of,
    terms_of,
)
from models.habitat.features import Grid, RasterSet, Window, write_geotiff
from models.habitat.runtime import HabitatModel
from shared.errors import Invalid
from shared.symbols import own_symbols

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
    around: Sequence[tuple[float, float]] = (),
    month: int | None = None,
    habitat: HabitatModel | None = None,
    most_cells: int = MOST_CELLS,
) -> Placed:
    """Return the surface around two positions (longitude, latitude), with room for detours, and for ``around`` too.

    Raises Invalid where one of them is outside the maps, or where no layer is there that has a weight.
    """
    grid = maps.grid
    rows, columns = grid.cells(np.array([start_deg[0], end_deg[0]]), np.array([start_deg[1], end_deg[1]]))
    for name, row, column in zip(("start_point", "end_point"), rows.tolist(), columns.tolist(), strict=True):
        if not (0 <= row < grid.rows and 0 <= column < grid.columns):  # also where a coordinate is no number
            raise Invalid(f"{name} is outside the maps")
    away = max(float(np.ptp(rows)), float(np.ptp(columns)))
    margin = round(_MARGIN_SHARE * away) + _MARGIN_CELLS
    rows = np.array([rows.min() - margin, rows.max() + margin])
    columns = np.array([columns.min() - margin, columns.max() + margin])
    if around:
        more = grid.cells(np.array([one[0] for one in around]), np.array([one[1] for one in around]))
        rows, columns = (
            np.concatenate((own, other[np.isfinite(other)])) for own, other in zip((rows, columns), more, strict=True)
        )
    top, left = max(0, int(rows.min())), max(0, int(columns.min()))
    bottom = min(grid.rows, int(rows.max()) + 1)
    right = min(grid.columns, int(columns.max()) + 1)
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


def filled(placed: Placed, shapes: list[dict[str, Any]]) -> BoolArray:
    """Return the cells of a surface that GeoJSON areas or lines in WGS 84 touch."""
    features = _rasterio_features()
    drawn = [_on_cells(placed, shape) for shape in shapes]
    found = features.rasterize(
        [(shape, 1) for shape in drawn], out_shape=placed.surface.shape, fill=0, all_touched=True, dtype="uint8"
    )
    return np.asarray(found == 1)


def outline(placed: Placed, path: IntArray, reach: int) -> dict[str, Any]:
    """Return the area of the cells within reach of a path, as GeoJSON (Polygon or MultiPolygon) in WGS 84."""
    features = _rasterio_features()
    is_near = np.zeros(placed.surface.shape, dtype=np.uint8)
    for row, column in path.tolist():
        is_near[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = 1
    rings = [shape["coordinates"] for shape, _ in features.shapes(is_near, mask=is_near == 1)]
    polygons = [[_ring_deg(placed, ring) for ring in polygon] for polygon in rings]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _ring_deg(placed: Placed, ring: list[tuple[float, float]]) -> list[list[float]]:
    corners = np.array(ring)
    lon, lat = placed.positions(np.stack((corners[:, 1], corners[:, 0]), axis=1) - 0.5)
    return [[round(x, 7), round(y, 7)] for x, y in zip(lon.tolist(), lat.tolist(), strict=True)]


def _on_cells(placed: Placed, shape: dict[str, Any]) -> dict[str, Any]:
    """Return a GeoJSON shape with columns and rows of the surface in the place of longitudes and latitudes."""

    def moved(part: Any) -> Any:
        if isinstance(part[0], int | float):
            row, column = placed.grid.cells(np.array([part[0]]), np.array([part[1]]))
            if not (np.isfinite(row[0]) and np.isfinite(column[0])):
                # far outside the maps, where the system has no coordinates: any place outside will do
                return [-1e6, -1e6]
            return [
                float(column[0] - placed.column) / placed.coarseness, float(row[0] - placed.row) / placed.coarseness,
            ]  # fmt: skip
        return [moved(one) for one in part]

    return {"type": shape["type"], "coordinates": moved(shape["coordinates"])}


def _rasterio_features() -> Any:
    with own_symbols():
        import rasterio.features
    return rasterio.features
