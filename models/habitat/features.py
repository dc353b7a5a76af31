"""Maps opened by rasterio, read in windows, and brought to the cells of one of them, whatever their coordinates.

rasterio is imported on first use: a station that has no maps never loads it. What cannot be used is refused when it is
opened, with the file and the reason: no coordinate system, rows that do not run along the axes, a band that is not
there. Outside a map, and where it has no data, everything is NaN; nothing is filled in.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from models.habitat.covariates import Float32Array, FloatArray, IntArray, covariates, margin_cells
from models.habitat.layers import KINDS, LAND_COVER, Layer, Rasters, read_rasters
from shared.errors import Invalid, OutpostError
from shared.symbols import own_symbols

__all__ = ["Float32Array", "FloatArray", "Grid", "RasterSet", "Window", "open_rasters", "read_rasters"]

BoolArray = npt.NDArray[np.bool_]

#: Rows and columns that are read at once: about 30 MB for ten layers with margins.
BLOCK_CELLS: Final = 256
# A band is judged by values from all over it: so many rows and columns of one that is thinned out, or so many windows
# by so many of so many cells a side of one that is larger than this and has no overviews.
_SAMPLED_CELLS: Final = 128
_THINNED_CELLS: Final = 2_048
_SAMPLED_WINDOWS: Final = 4
_SAMPLED_SIDE: Final = 32
# How far outside a map a position still has coordinates in its system.
_NEAR_DEG: Final = 2.0
_METRES_A_DEGREE: Final = 111_320.0
_WGS84: Final = "EPSG:4326"


class Window(NamedTuple):
    """A part of a grid: first row and column, and how many of each."""

    row: int
    column: int
    rows: int
    columns: int


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """The cells of a map: coordinate system as WKT, corner and size of a cell in its units, rows and columns."""

    crs: str
    west: float
    north: float
    cell_x: float
    cell_y: float
    rows: int
    columns: int
    is_geographic: bool
    metres_a_unit: float = 1.0
    west_deg: float = -180.0
    south_deg: float = -90.0
    east_deg: float = 180.0
    north_deg: float = 90.0

    @property
    def cell_m(self) -> tuple[float, float]:
        """Height and width of a cell in metres; of a grid in degrees, at its middle."""
        if not self.is_geographic:
            return self.cell_y * self.metres_a_unit, self.cell_x * self.metres_a_unit
        middle = math.radians(self.north - self.cell_y * self.rows / 2)
        return self.cell_y * _METRES_A_DEGREE, self.cell_x * _METRES_A_DEGREE * math.cos(middle)

    def cells(self, lon_deg: FloatArray, lat_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return rows and columns of positions as real numbers: 0.5 is the middle of the first cell."""
        x, y = self.project(lon_deg, lat_deg)
        return (self.north - y) / self.cell_y, (x - self.west) / self.cell_x

    def project(self, lon_deg: FloatArray, lat_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the coordinates of positions in the grid's system; NaN far from the map.

        Far away a system may have no coordinates, or those of another place.
        """
        lon, lat = np.asarray(lon_deg, dtype=np.float64), np.asarray(lat_deg, dtype=np.float64)
        # Eastwards from the western edge, so that a map over the date line is one piece.
        width_deg = (self.east_deg - self.west_deg) % 360.0 or 360.0
        east_of = np.mod(lon - self.west_deg + _NEAR_DEG, 360.0)
        is_near = (east_of <= width_deg + 2 * _NEAR_DEG) & (lat >= self.south_deg - _NEAR_DEG)
        is_near &= lat <= self.north_deg + _NEAR_DEG
        return _transformed(_WGS84, self.crs, np.where(is_near, lon, np.nan), lat)

    def to_metres(self, lon_deg: FloatArray, lat_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return positions in the grid's plane, in metres; a grid in degrees is stretched as at its middle."""
        x, y = self.project(lon_deg, lat_deg)
        height_m, width_m = self.cell_m
        return x * (width_m / self.cell_x), y * (height_m / self.cell_y)

    def from_metres(self, x_m: FloatArray, y_m: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return longitude and latitude of metres in the grid's plane."""
        height_m, width_m = self.cell_m
        return self.to_degrees(x_m * (self.cell_x / width_m), y_m * (self.cell_y / height_m))

    def to_degrees(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return longitude and latitude of coordinates in the grid's system."""
        return _transformed(self.crs, _WGS84, x, y)

    def blocks(self) -> Iterator[Window]:
        """Walk over the grid in windows of bounded size."""
        for row in range(0, self.rows, BLOCK_CELLS):
            for column in range(0, self.columns, BLOCK_CELLS):
                yield Window(row, column, min(BLOCK_CELLS, self.rows - row), min(BLOCK_CELLS, self.columns - column))


class RasterSet:
    """Open maps of a reserve over one grid; made by ``open_rasters``."""

    def __init__(self, rasters: Rasters, grid: Grid, bands: dict[tuple[str, tuple[int, ...]], Any]) -> None:
        self.rasters = rasters
        self.grid = grid
        self._bands = bands

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of layer that are here, in any season."""
        return tuple(dict.fromkeys(one.kind for one in self.rasters.layer))

    def read(self, window: Window, month: int | None = None) -> dict[str, FloatArray]:
        """Return the layers of a window by kind, in their own unit; NaN outside the map and where it has no data."""
        return {
            kind: _converted(_read(self._bands[layer.key], layer, window, self.rasters.folder), layer)
            for kind, layer in self.rasters.at(month).items()
        }

    def covariates(self, names: tuple[str, ...], window: Window, month: int | None = None) -> Float32Array:
        """Return the named covariates of a window, shape (names, rows, columns)."""
        margin = margin_cells(self.grid.cell_m)
        wide = Window(
            window.row - margin[0],
            window.column - margin[1],
            window.rows + 2 * margin[0],
            window.columns + 2 * margin[1],
        )
        layers = self.read(wide, month)
        if not layers:
            return np.full((len(names), window.rows, window.columns), np.nan, dtype=np.float32)
        cover = self.rasters.at(month).get(LAND_COVER)
        return covariates(names, layers, cover.names if cover else {}, self.grid.cell_m, margin)

    def at(
        self, names: tuple[str, ...], lon_deg: FloatArray, lat_deg: FloatArray, month: int | None = None
    ) -> Float32Array:
        """Return the named covariates of positions, shape (n, names); NaN outside the map."""
        row, column = self.grid.cells(np.atleast_1d(lon_deg), np.atleast_1d(lat_deg))
        found = np.full((row.size, len(names)), np.nan, dtype=np.float32)
        here = np.flatnonzero((row >= 0) & (row < self.grid.rows) & (column >= 0) & (column < self.grid.columns))
        found[here] = self.at_cells(names, row[here].astype(np.int64), column[here].astype(np.int64), month)
        return found

    def at_cells(
        self, names: tuple[str, ...], rows: IntArray, columns: IntArray, month: int | None = None
    ) -> Float32Array:
        """Return the named covariates of cells of the grid, shape (n, names); memory is that of one block."""
        found = np.full((rows.size, len(names)), np.nan, dtype=np.float32)
        blocks = rows // BLOCK_CELLS * (self.grid.columns // BLOCK_CELLS + 1) + columns // BLOCK_CELLS
        order = np.argsort(blocks, kind="stable")
        for here in np.split(order, np.flatnonzero(np.diff(blocks[order])) + 1):
            if here.size == 0:
                continue
            top, left = int(rows[here].min()), int(columns[here].min())
            window = Window(top, left, int(rows[here].max()) - top + 1, int(columns[here].max()) - left + 1)
            values = self.covariates(names, window, month)
            found[here] = values[:, rows[here] - top, columns[here] - left].T
        return found


@contextlib.contextmanager
def open_rasters(rasters: Rasters | Path) -> Iterator[RasterSet]:
    """Open the maps that ``rasters.toml`` names; raises Invalid, naming the file, where one cannot be used."""
    described = read_rasters(rasters) if isinstance(rasters, Path) else rasters
    rasterio = _rasterio()
    with contextlib.ExitStack() as stack:
        opened = [_opened(rasterio, described.folder / layer.file, layer, stack) for layer in described.layer]
        grid = _grid(opened[described.layer.index(described.first)])
        bands = {
            layer.key: _over(grid, source, layer, stack) for layer, source in zip(described.layer, opened, strict=True)
        }
        yield RasterSet(described, grid, bands)


def write_geotiff(path: Path, grid: Grid, parts: Iterator[tuple[Window, Float32Array]], tags: dict[str, str]) -> None:
    """Write one band of float32, window by window, tiled and compressed; NaN is *no data*. The file appears whole."""
    rasterio = _rasterio()
    beside = path.with_name(f"{path.name}.part")
    beside.unlink(missing_ok=True)
    profile = {
        "driver": "GTiff", "dtype": "float32", "count": 1, "height": grid.rows, "width": grid.columns,
        "crs": grid.crs, "nodata": math.nan, "tiled": True, "blockxsize": BLOCK_CELLS, "blockysize": BLOCK_CELLS,
        "compress": "deflate", "predictor": 3,
        "transform": rasterio.transform.from_origin(grid.west, grid.north, grid.cell_x, grid.cell_y),
    }  # fmt: skip
    try:
        with rasterio.open(beside, "w", **profile) as file:
            for window, values in parts:
                file.write(values, 1, window=_rasterio_window(window))
            file.update_tags(**tags)
        beside.replace(path)
    except rasterio.errors.RasterioError as error:
        raise Invalid(f"{path}: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _rasterio() -> Any:
    try:
        with own_symbols():
            import rasterio
            import rasterio.errors
            import rasterio.transform
            import rasterio.vrt
            import rasterio.warp
            import rasterio.windows
    except ModuleNotFoundError as error:
        raise OutpostError(f"maps need {error.name}: install outpost[station]") from error
    return rasterio


def _opened(rasterio: Any, path: Path, layer: Layer, stack: contextlib.ExitStack) -> Any:
    if not path.is_file():
        raise Invalid(f"{path}: no such file ({layer.kind})")
    try:
        source = stack.enter_context(rasterio.open(path))
    except rasterio.errors.RasterioError as error:
        raise Invalid(f"{path}: not a map that can be read: {error}") from error
    if layer.band > source.count:
        raise Invalid(f"{path}: {layer.kind} is band {layer.band}, but the file has {source.count}")
    if source.crs is None:
        raise Invalid(f"{path}: it does not say its coordinate system; set it with gdal_edit.py -a_srs")
    transform = source.transform
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise Invalid(
            f"{path}: its rows do not run from west to east, north to south; bring it to the north with gdalwarp"
        )
    _check_values(source, path, layer)
    return source


def _check_values(source: Any, path: Path, layer: Layer) -> None:
    """Refuse a map of which no sampled value can be what it is said to be: the unit is wrong, or the band."""
    try:
        values, is_there = _sampled(source, layer.band)
    except _rasterio().errors.RasterioError as error:
        raise Invalid(f"{path}: damaged or cut off: {error}") from error
    is_there &= np.isfinite(values)
    if layer.nodata is not None:
        is_there &= values != layer.nodata
    if is_there.any() and not np.isfinite(_converted(values[is_there], layer)).any():
        kind = KINDS[layer.kind]
        raise Invalid(
            f"{path}: no value of band {layer.band} can be {layer.kind} in {layer.unit or kind.unit}: "
            f"{kind.lowest:g} to {kind.highest:g} {kind.unit}; is the unit or the band another?"
        )


def _sampled(source: Any, band: int) -> tuple[FloatArray, BoolArray]:
    """Some values of a band from all over the map, and whether each is there.

    A map with overviews, or a small one, is read thinned out. Of any other that would read all of it, for minutes where
    it is large: small windows are read instead.
    """
    if max(source.height, source.width) <= _THINNED_CELLS or source.overviews(band):
        shape = (min(source.height, _SAMPLED_CELLS), min(source.width, _SAMPLED_CELLS))
        values = source.read(band, out_shape=shape, out_dtype="float64")
        return values, source.read_masks(band, out_shape=shape) > 0
    parts = []
    for place in range(_SAMPLED_WINDOWS**2):
        row, column = divmod(place, _SAMPLED_WINDOWS)
        rows, columns = min(_SAMPLED_SIDE, source.height), min(_SAMPLED_SIDE, source.width)
        top = (source.height - rows) * (2 * row + 1) // (2 * _SAMPLED_WINDOWS)
        left = (source.width - columns) * (2 * column + 1) // (2 * _SAMPLED_WINDOWS)
        window = _rasterio_window(Window(top, left, rows, columns))
        parts.append(
            (source.read(band, window=window, out_dtype="float64"), source.read_masks(band, window=window) > 0)
        )
    return np.stack([values for values, _ in parts]), np.stack([mask for _, mask in parts])


def _grid(source: Any) -> Grid:
    transform = source.transform
    bounds = _rasterio().warp.transform_bounds(source.crs, _WGS84, *source.bounds)
    return Grid(
        **dict(zip(("west_deg", "south_deg", "east_deg", "north_deg"), bounds, strict=True)),
        crs=source.crs.to_wkt(),
        west=transform.c,
        north=transform.f,
        cell_x=transform.a,
        cell_y=-transform.e,
        rows=source.height,
        columns=source.width,
        is_geographic=bool(source.crs.is_geographic),
        metres_a_unit=1.0 if source.crs.is_geographic else float(source.crs.linear_units_factor[1]),
    )


def _over(grid: Grid, source: Any, layer: Layer, stack: contextlib.ExitStack) -> Any:
    """Return the source itself where it has the grid's cells, and otherwise a view of it that has."""
    if _grid(source) == grid:
        return source
    rasterio = _rasterio()
    nodata = layer.nodata if layer.nodata is not None else source.nodata
    options = {"src_nodata": nodata, "nodata": nodata} if nodata is not None else {"add_alpha": True}
    resampling = rasterio.enums.Resampling
    return stack.enter_context(
        rasterio.vrt.WarpedVRT(
            source,
            crs=grid.crs,
            transform=rasterio.transform.from_origin(grid.west, grid.north, grid.cell_x, grid.cell_y),
            width=grid.columns,
            height=grid.rows,
            resampling=resampling.nearest if layer.kind == LAND_COVER else resampling.bilinear,
            **options,
        )
    )


def _read(band: Any, layer: Layer, window: Window, folder: Path) -> FloatArray:
    found = np.full((window.rows, window.columns), np.nan)
    top, left = max(window.row, 0), max(window.column, 0)
    bottom = min(window.row + window.rows, band.height)
    right = min(window.column + window.columns, band.width)
    if top >= bottom or left >= right:
        return found
    inner = _rasterio_window(Window(top, left, bottom - top, right - left))
    try:
        values = band.read(layer.band, window=inner, out_dtype="float64")
        # A view of a map without a word on missing values has a band more that says where the map is.
        is_view = isinstance(band, _rasterio().vrt.WarpedVRT) and band.nodatavals[layer.band - 1] is None
        is_there = (band.read(band.count, window=inner) if is_view else band.read_masks(layer.band, window=inner)) > 0
    except _rasterio().errors.RasterioError as error:
        raise Invalid(f"{folder / layer.file}: damaged or cut off: {error}") from error
    if layer.nodata is not None:
        is_there &= values != layer.nodata
    values[~is_there | ~np.isfinite(values)] = np.nan
    found[top - window.row : bottom - window.row, left - window.column : right - window.column] = values
    return found


def _converted(values: FloatArray, layer: Layer) -> FloatArray:
    """Return the values in the unit of the kind; what the kind cannot be is no data."""
    factor, shift = layer.conversion()
    kind = KINDS[layer.kind]
    converted = values * factor + shift
    with np.errstate(invalid="ignore"):
        return np.where((converted >= kind.lowest) & (converted <= kind.highest), converted, np.nan)


def _transformed(source: str, target: str, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    is_known = np.isfinite(x) & np.isfinite(y)
    found = np.full((2, *np.shape(x)), np.nan)
    if is_known.any():
        found[:, is_known] = _rasterio().warp.transform(source, target, x[is_known].tolist(), y[is_known].tolist())
    found[~np.isfinite(found)] = np.nan
    return found[0], found[1]


def _rasterio_window(window: Window) -> Any:
    return _rasterio().windows.Window(window.column, window.row, window.columns, window.rows)
