"""Where an animal spent its time: the Brownian bridges of a track added up on a grid.

Between two fixes the position at the share ``a`` of the time T is normal about the straight line, with the variance
T a (1 - a) v + (1 - a)^2 e0^2 + a^2 e1^2 along either axis. Its density is a product of one factor in x and one in y,
so a bridge, integrated over time slices of weight w, is one matrix product ``Gy^T diag(w) Gx`` of (slices, columns) and
(slices, rows). Each bridge is drawn on the cells that it can reach alone: the cost grows with the fixes and with the
cells that the animal used, not with the map. A bridge's cells do not depend on what else is drawn, so bridges can be
added and taken away one by one.

The density is taken at the middle of a cell, as the usual programs do. A cell wider than about twice the location
error lets mass fall between the middles: ``Occurrence.mass_on_grid`` says how much is there.

What comes out is occurrence during the record: where the animal was while it was followed. It says nothing of where
it would go in more time, which is what a home range is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from models.bbmm.features import BoolArray, FloatArray, Track

#: Time slices of a bridge at least; a long one has more, so that no two lie further apart than half a cell or error.
_MIN_SLICES: Final = 25
_MAX_SLICES: Final = 401
# Six standard deviations hold all but 1e-8 of a bridge.
_REACH_SD: Final = 6.0
_ROOT_TAU: Final = math.sqrt(2 * math.pi)

#: uint8 code of a cell in the innermost part of a utilisation distribution; 0 is a cell outside all of it.
INNERMOST: Final = 255
_OUTERMOST_SHARE: Final = 0.999


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Square cells; ``x_m`` and ``y_m`` are the middle of the cell (0, 0), rows go north."""

    x_m: float
    y_m: float
    cell_m: float
    columns: int
    rows: int


def grid_around(track: Track, cell_m: float, margin_m: float) -> Grid:
    """Return the grid of whole multiples of the cell that holds the track and a margin around it."""
    x_m = math.floor((float(track.x_m.min()) - margin_m) / cell_m) * cell_m
    y_m = math.floor((float(track.y_m.min()) - margin_m) / cell_m) * cell_m
    columns = math.ceil((float(track.x_m.max()) + margin_m - x_m) / cell_m)
    rows = math.ceil((float(track.y_m.max()) + margin_m - y_m) / cell_m)
    return Grid(x_m=x_m, y_m=y_m, cell_m=cell_m, columns=max(1, columns), rows=max(1, rows))


class Bridges(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Pairs of fixes that follow each other, every array of the shape (m,); gaps are left out and counted."""

    start_s: FloatArray
    end_s: FloatArray
    x0_m: FloatArray
    y0_m: FloatArray
    x1_m: FloatArray
    y1_m: FloatArray
    error0_m: FloatArray
    error1_m: FloatArray
    variance_m2_per_s: FloatArray
    gaps: int = 0
    gaps_s: float = 0.0

    def __len__(self) -> int:
        return int(self.start_s.size)

    def part(self, which: slice | BoolArray) -> Bridges:
        """Return some of the bridges."""
        return Bridges(
            start_s=self.start_s[which],
            end_s=self.end_s[which],
            x0_m=self.x0_m[which],
            y0_m=self.y0_m[which],
            x1_m=self.x1_m[which],
            y1_m=self.y1_m[which],
            error0_m=self.error0_m[which],
            error1_m=self.error1_m[which],
            variance_m2_per_s=self.variance_m2_per_s[which],
        )


def bridges_of(track: Track, variance_m2_per_s: float | FloatArray, max_gap_s: float | None = None) -> Bridges:
    """Return the bridges between the fixes of a track, but none over a gap longer than ``max_gap_s``.

    The variance is one for all, or one for each pair of fixes, (n - 1,); a pair whose variance is NaN has no bridge.
    """
    pairs = max(0, len(track) - 1)
    variance = np.broadcast_to(np.asarray(variance_m2_per_s, dtype=np.float64), (pairs,))
    lengths_s = np.diff(track.times_s)
    keep = np.isfinite(variance) & (lengths_s > 0)
    if max_gap_s is not None:
        keep = keep & (lengths_s <= max_gap_s)
    return Bridges(
        start_s=track.times_s[:-1][keep],
        end_s=track.times_s[1:][keep],
        x0_m=track.x_m[:-1][keep],
        y0_m=track.y_m[:-1][keep],
        x1_m=track.x_m[1:][keep],
        y1_m=track.y_m[1:][keep],
        error0_m=track.error_m[:-1][keep],
        error1_m=track.error_m[1:][keep],
        variance_m2_per_s=variance[keep],
        gaps=int((~keep).sum()),
        gaps_s=float(lengths_s[~keep].sum()),
    )


class Positions(NamedTuple):
    """Expected positions and the standard deviation along either axis, each (k,); NaN where no bridge leads."""

    x_m: FloatArray
    y_m: FloatArray
    sd_m: FloatArray


def positions_at(bridges: Bridges, at_s: FloatArray) -> Positions:
    """Return the position at each instant; ``bridges`` are in time order, ``at_s`` is in any order, (k,)."""
    at = np.asarray(at_s, dtype=np.float64)
    if len(bridges) == 0:
        return Positions(*(np.full(at.shape, np.nan) for _ in range(3)))
    which = np.clip(np.searchsorted(bridges.start_s, at, side="right") - 1, 0, len(bridges) - 1)
    start, end = bridges.start_s[which], bridges.end_s[which]
    length_s = end - start
    share = np.where((at >= start) & (at <= end), (at - start) / length_s, np.nan)
    return Positions(
        bridges.x0_m[which] + share * (bridges.x1_m[which] - bridges.x0_m[which]),
        bridges.y0_m[which] + share * (bridges.y1_m[which] - bridges.y0_m[which]),
        _sd_m(share, length_s, bridges.variance_m2_per_s[which], bridges.error0_m[which], bridges.error1_m[which]),
    )


class Patch(NamedTuple):
    """Seconds spent in a block of cells, float64, (rows, columns); its first cell is (``row``, ``column``)."""

    row: int
    column: int
    seconds: FloatArray


def patches(bridges: Bridges, x_m: float, y_m: float, cell_m: float) -> Iterator[Patch]:
    """Yield the block of each bridge on the endless lattice of which one cell has its middle at (x_m, y_m)."""
    length_s = bridges.end_s - bridges.start_s
    step_x, step_y = bridges.x1_m - bridges.x0_m, bridges.y1_m - bridges.y0_m
    error_m = np.minimum(bridges.error0_m, bridges.error1_m)
    wanted = np.ceil(2 * np.hypot(step_x, step_y) / np.maximum(cell_m, error_m)) + 1
    slices = np.clip(wanted, _MIN_SLICES, _MAX_SLICES).astype(np.int64)
    # The widest place of a bridge is at most this wide, wherever it is.
    widest_m = np.sqrt(length_s * bridges.variance_m2_per_s / 4 + np.maximum(bridges.error0_m, bridges.error1_m) ** 2)
    reach_m = _REACH_SD * widest_m
    first_column = np.floor((np.minimum(bridges.x0_m, bridges.x1_m) - reach_m - x_m) / cell_m).astype(np.int64)
    last_column = np.ceil((np.maximum(bridges.x0_m, bridges.x1_m) + reach_m - x_m) / cell_m).astype(np.int64)
    first_row = np.floor((np.minimum(bridges.y0_m, bridges.y1_m) - reach_m - y_m) / cell_m).astype(np.int64)
    last_row = np.ceil((np.maximum(bridges.y0_m, bridges.y1_m) + reach_m - y_m) / cell_m).astype(np.int64)
    shares = {int(count): _shares(int(count)) for count in np.unique(slices)}
    for n in range(len(bridges)):
        share, weight = shares[int(slices[n])]
        sd_m = _sd_m(share, length_s[n], bridges.variance_m2_per_s[n], bridges.error0_m[n], bridges.error1_m[n])
        columns_m = x_m + cell_m * np.arange(first_column[n], last_column[n] + 1)
        rows_m = y_m + cell_m * np.arange(first_row[n], last_row[n] + 1)
        across = _densities(columns_m, bridges.x0_m[n] + share * step_x[n], sd_m)
        along = _densities(rows_m, bridges.y0_m[n] + share * step_y[n], sd_m)
        along *= (weight * (length_s[n] * cell_m * cell_m))[:, None]
        yield Patch(int(first_row[n]), int(first_column[n]), along.T @ across)


class Occurrence(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Occurrence during the record, with what must be said beside it. ``seconds`` is float32, (rows, columns).

    ``lasting_s`` is the time that the bridges last; ``mass_on_grid`` is the share of it found on the grid: less than
    one where the map is too small or its cells too wide, more where cells are wide and middles happen to be hit.
    """

    grid: Grid
    seconds: npt.NDArray[np.float32]
    lasting_s: float
    bridges: int
    gaps: int
    gaps_s: float
    fixes_dropped: int
    sigma_m_per_root_s: float
    location_error_m: float

    @property
    def mass_on_grid(self) -> float:
        """Return the share of the time that the cells hold."""
        return float(self.seconds.sum(dtype=np.float64)) / self.lasting_s if self.lasting_s > 0 else 0.0

    def shares_before(self) -> FloatArray:
        """Return for each cell the share of the time spent in cells used more than it; infinite where it is not used.

        Shape (rows, columns). The smallest region that holds the share p are the cells with ``shares_before < p``.
        """
        used = self.seconds.ravel()
        shares = np.full(used.size, np.inf)
        where = np.flatnonzero(used > 0)  # most cells of a wanderer's map were never used: they need no sorting
        seconds = used[where].astype(np.float64)
        order = np.argsort(-seconds, kind="stable")
        summed = np.cumsum(seconds[order])
        if summed.size:
            shares[where[order]] = (summed - seconds[order]) / summed[-1]
        return shares.reshape(self.seconds.shape)

    def region(self, share: float) -> BoolArray:
        """Return the smallest set of cells that holds ``share`` of the time, as a mask; 0 < share <= 1."""
        if not 0 < share <= 1:
            raise ValueError(f"a region holds a share above 0 and up to 1, not {share}")
        return np.asarray(self.shares_before() < share)

    def area_km2(self, share: float) -> float:
        """Return the area of the region that holds ``share`` of the time."""
        return int(self.region(share).sum()) * self.grid.cell_m**2 / 1e6

    def levels(self) -> npt.NDArray[np.uint8]:
        """Return the map for sync and display, (rows, columns): the region of p is ``levels >= level_of(p)``.

        Cells outside the region of 99.9 % are 0.
        """
        shares = self.shares_before()
        inside = shares < _OUTERMOST_SHARE
        return np.where(inside, INNERMOST - np.floor(np.where(inside, shares, 0.0) * INNERMOST), 0).astype(np.uint8)


def level_of(share: float) -> int:
    """Return the lowest uint8 level inside the region that holds ``share`` of the time, to 1/255."""
    return max(1, INNERMOST + 1 - round(share * INNERMOST))


class LevelTile(msgspec.Struct, frozen=True, kw_only=True):
    """A square of levels, one byte a cell, rows going north; ``column`` and ``row`` count tiles."""

    column: int
    row: int
    size: int
    levels: bytes


def level_tiles(occurrence: Occurrence, size: int = 64) -> list[LevelTile]:
    """Return the levels cut into squares, without those that are empty."""
    levels = occurrence.levels()
    rows, columns = (-(-length // size) for length in levels.shape)
    padded = np.zeros((rows * size, columns * size), dtype=np.uint8)
    padded[: levels.shape[0], : levels.shape[1]] = levels
    tiles = []
    for row in range(rows):
        for column in range(columns):
            square = padded[row * size : (row + 1) * size, column * size : (column + 1) * size]
            if square.any():
                tiles.append(LevelTile(column=column, row=row, size=size, levels=square.tobytes()))
    return tiles


def occurrence_of(bridges: Bridges, grid: Grid, *, fixes_dropped: int = 0) -> Occurrence:
    """Return the occurrence of bridges on a grid; what lies outside the grid is missing from ``mass_on_grid``."""
    seconds = np.zeros((grid.rows, grid.columns))
    for patch in patches(bridges, grid.x_m, grid.y_m, grid.cell_m):
        rows, columns = patch.seconds.shape
        top, left = max(0, patch.row), max(0, patch.column)
        bottom, right = min(grid.rows, patch.row + rows), min(grid.columns, patch.column + columns)
        if top < bottom and left < right:
            seconds[top:bottom, left:right] += patch.seconds[
                top - patch.row : bottom - patch.row, left - patch.column : right - patch.column
            ]
    lengths_s = bridges.end_s - bridges.start_s
    lasting_s = float(lengths_s.sum())
    return Occurrence(
        grid=grid,
        seconds=seconds.astype(np.float32),
        lasting_s=lasting_s,
        bridges=len(bridges),
        gaps=bridges.gaps,
        gaps_s=bridges.gaps_s,
        fixes_dropped=fixes_dropped,
        sigma_m_per_root_s=math.sqrt(float(lengths_s @ bridges.variance_m2_per_s) / lasting_s) if lasting_s else 0.0,
        location_error_m=float(bridges.error0_m.mean()) if len(bridges) else 0.0,
    )


def _shares(count: int) -> tuple[FloatArray, FloatArray]:
    """Return ``count`` shares of a bridge's time and their weights by the trapezoidal rule."""
    weight = np.full(count, 1 / (count - 1))
    weight[[0, -1]] /= 2
    return np.linspace(0.0, 1.0, count), weight


def _sd_m(
    share: FloatArray,
    length_s: FloatArray,
    variance_m2_per_s: FloatArray,
    error0_m: FloatArray,
    error1_m: FloatArray,
) -> FloatArray:
    rest = 1 - share
    return np.sqrt(length_s * share * rest * variance_m2_per_s + (rest * error0_m) ** 2 + (share * error1_m) ** 2)


def _densities(middles_m: FloatArray, mean_m: FloatArray, sd_m: FloatArray) -> FloatArray:
    """Return the normal density at each middle, (slices, cells)."""
    away = (middles_m[None, :] - mean_m[:, None]) / sd_m[:, None]
    np.square(away, out=away)
    away *= -0.5
    np.exp(away, out=away)
    away /= sd_m[:, None] * _ROOT_TAU
    return away
