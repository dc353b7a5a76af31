"""The border of a set of cells as closed rings: exact, along the edges of the cells.

Each edge between a cell inside and one outside is walked with the inside on its left, so outer rings run
counter-clockwise and holes clockwise, as GeoJSON has them. Where two cells touch at a corner alone, the walk turns left
and keeps them apart: rings never cross.
"""

from __future__ import annotations

import itertools
from typing import TypeAlias

import numpy as np

from models.bbmm.density import Grid
from models.bbmm.features import BoolArray, Frame

#: A corner of cells: column and row of the cell to its upper right.
Corner: TypeAlias = tuple[int, int]
Ring: TypeAlias = list[Corner]


def rings(inside: BoolArray) -> list[Ring]:
    """Return the rings around the cells, closed, without corners on straight lines."""
    padded = np.pad(inside, 1)
    core = padded[1:-1, 1:-1]
    leaving: dict[Corner, list[Corner]] = {}
    sides = (
        (core & ~padded[:-2, 1:-1], (0, 0), (1, 0)),
        (core & ~padded[1:-1, 2:], (1, 0), (1, 1)),
        (core & ~padded[2:, 1:-1], (1, 1), (0, 1)),
        (core & ~padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    for cells, start, end in sides:
        for row, column in np.argwhere(cells).tolist():
            leaving.setdefault((column + start[0], row + start[1]), []).append((column + end[0], row + end[1]))
    found = []
    while leaving:
        first = next(iter(leaving))
        ring = [first, leaving[first][0]]
        _take(leaving, *ring)
        while ring[-1] != first:
            (was_x, was_y), (x, y) = ring[-2:]
            left = (x - (y - was_y), y + (x - was_x))
            choices = leaving[x, y]
            ring.append(left if left in choices else choices[0])
            _take(leaving, (x, y), ring[-1])
        found.append(_without_straights(ring))
    return found


def multipolygon(inside: BoolArray, grid: Grid, frame: Frame) -> list[list[list[list[float]]]]:
    """Return the coordinates of a GeoJSON MultiPolygon in degrees: polygons, each an outer ring and its holes."""
    polygons: list[list[Ring]] = []
    holes: list[Ring] = []
    for ring in rings(inside):
        if _doubled_area(ring) > 0:
            polygons.append([ring])
        else:
            holes.append(ring)
    for hole in holes:
        # The smallest outer ring around it: islands may lie in holes of others.
        around = [polygon for polygon in polygons if _is_inside(hole, polygon[0])]
        min(around, key=lambda polygon: _doubled_area(polygon[0])).append(hole)
    return [[_degrees(ring, grid, frame) for ring in polygon] for polygon in polygons]


def _take(leaving: dict[Corner, list[Corner]], start: Corner, end: Corner) -> None:
    leaving[start].remove(end)
    if not leaving[start]:
        del leaving[start]


def _without_straights(ring: Ring) -> Ring:
    corners = ring[:-1]
    kept = [
        at
        for before, at, after in zip([corners[-1], *corners[:-1]], corners, [*corners[1:], corners[0]], strict=True)
        if (at[0] - before[0]) * (after[1] - at[1]) != (at[1] - before[1]) * (after[0] - at[0])
    ]
    return [*kept, kept[0]]


def _doubled_area(ring: Ring) -> int:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(ring))


def _is_inside(hole: Ring, outer: Ring) -> bool:
    # A hole runs clockwise: half a cell to the right of its first side lies within it, on no line of cells.
    (x0, y0), (x1, y1) = hole[:2]
    step_x, step_y = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
    x, y = x0 + step_x / 2 + step_y / 2, y0 + step_y / 2 - step_x / 2
    is_in = False
    for (ax, ay), (_, by) in itertools.pairwise(outer):
        if ay != by and (ay > y) != (by > y) and ax > x:
            is_in = not is_in
    return is_in


def _degrees(ring: Ring, grid: Grid, frame: Frame) -> list[list[float]]:
    corners = np.asarray(ring, dtype=np.float64) - 0.5
    lon, lat = frame.to_degrees(grid.x_m + corners[:, 0] * grid.cell_m, grid.y_m + corners[:, 1] * grid.cell_m)
    return [[round(x, 6), round(y, 6)] for x, y in zip(lon.tolist(), lat.tolist(), strict=True)]
