"""Occurrence as people see it: regions as GeoJSON, tiles as PNG, and what must be said beside both."""

from __future__ import annotations

import io
import math
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.bbmm.features import FloatArray, Frame
from models.bbmm.runtime import Grid, Occurrence, level_of, multipolygon
from shared import insight

#: Cells are this wide; an animal that roams wider has wider ones, so that a map has at most so many in a row.
CELL_M: Final = 40.0
CELLS: Final = 2_500

TILE_PIXELS: Final = 256
MAX_ZOOM: Final = 22

#: From which share of the time on which colour, the innermost last: red, green, blue, opacity.
_COLOURS: Final = (
    (0.95, (253, 231, 37, 70)), (0.75, (122, 209, 81, 110)), (0.5, (34, 168, 132, 150)), (0.25, (65, 68, 135, 190)),
)  # fmt: skip


def corners(west: float, south: float, east: float, north: float) -> tuple[FloatArray, FloatArray]:
    """Return longitudes and latitudes of the corners of a box in degrees, (4,) each."""
    return np.array([west, east, west, east]), np.array([south, south, north, north])


def cell_m_for(corners_m: tuple[FloatArray, FloatArray]) -> float:
    """Return how wide cells are for an animal that roams this far: 40 m, doubled until the map has few enough."""
    roams_m = max(float(np.ptp(axis)) for axis in corners_m)
    doublings = max(0, math.ceil(math.log2(max(roams_m, 1.0) / (CELL_M * CELLS))))
    return CELL_M * float(2**doublings)


def answer_of(found: Occurrence, frame: Frame, *, since: datetime, until: datetime, model: str) -> insight.Occurrence:
    """Return occurrence with its regions and what it was made with."""
    inner, outer = found.region(0.5), found.region(0.95)
    cell_km2 = found.grid.cell_m**2 / 1e6
    return insight.Occurrence(
        since=since,
        until=until,
        region_50=_shape(inner, found.grid, frame),
        region_95=_shape(outer, found.grid, frame),
        area_50_km2=int(inner.sum()) * cell_km2,
        area_95_km2=int(outer.sum()) * cell_km2,
        cell_m=found.grid.cell_m,
        sigma_m_per_root_s=found.sigma_m_per_root_s,
        location_error_m=found.location_error_m,
        mass_on_grid=found.mass_on_grid,
        bridges=found.bridges,
        gaps=found.gaps,
        gap_hours=found.gaps_s / 3600,
        fixes_dropped=found.fixes_dropped,
        model=model,
    )


def _shape(inside: npt.NDArray[np.bool_], grid: Grid, frame: Frame) -> dict[str, Any]:
    return {"type": "MultiPolygon", "coordinates": multipolygon(inside, grid, frame)}


def tile_png(levels: npt.NDArray[np.uint8], grid: Grid, frame: Frame, z: int, x: int, y: int) -> bytes:
    """Return the tile (z, x, y) of Web Mercator as a PNG with transparency; ``levels`` are those of ``grid``.

    Raises ValueError for a tile that is not on the map.
    """
    from PIL import Image  # on first use: a station whose maps nobody looks at does without

    if not (0 <= z <= MAX_ZOOM and 0 <= x < 2**z and 0 <= y < 2**z):
        raise ValueError(f"there is no tile {z}/{x}/{y}")
    sampled = _sampled(levels, grid, frame, z, x, y)
    pixels = np.zeros((TILE_PIXELS, TILE_PIXELS, 4), dtype=np.uint8)
    for share, colour in _COLOURS:
        pixels[sampled >= level_of(share)] = colour
    with io.BytesIO() as buffer:
        Image.fromarray(pixels, "RGBA").save(buffer, "PNG", optimize=False, compress_level=6)
        return buffer.getvalue()


def _sampled(levels: npt.NDArray[np.uint8], grid: Grid, frame: Frame, z: int, x: int, y: int) -> npt.NDArray[np.uint8]:
    """Return the level at the middle of each pixel, (256, 256), rows going south."""
    along = (np.arange(TILE_PIXELS) + 0.5) / TILE_PIXELS
    lon = (x + along) / 2**z * 360.0 - 180.0
    lat = np.degrees(np.arctan(np.sinh(math.pi * (1 - 2 * (y + along) / 2**z))))
    x_m, y_m = frame.to_metres(np.tile(lon, TILE_PIXELS), np.repeat(lat, TILE_PIXELS))
    found = np.zeros(x_m.shape, dtype=np.uint8)
    is_finite = np.isfinite(x_m) & np.isfinite(y_m)
    column = np.full(x_m.shape, -1, dtype=np.int64)
    row = np.full(x_m.shape, -1, dtype=np.int64)
    column[is_finite] = np.rint((x_m[is_finite] - grid.x_m) / grid.cell_m).astype(np.int64)
    row[is_finite] = np.rint((y_m[is_finite] - grid.y_m) / grid.cell_m).astype(np.int64)
    is_on = (column >= 0) & (row >= 0) & (column < grid.columns) & (row < grid.rows)
    found[is_on] = levels[row[is_on], column[is_on]]
    return found.reshape(TILE_PIXELS, TILE_PIXELS)
