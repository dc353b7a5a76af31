"""What a station asks of the bridge: the path between fixes with its width, and occurrence that grows with the fixes.

A bridge's normal regions hold too much at 50 %: animals rest and run, and one variance is the mean of both. So a region
is drawn with a radius that was measured: fixes of the same species were hidden, and the radius is the multiple of the
bridge's standard deviation within which half of them, and 95 %, lay (``Calibration``). The Gaussian multiples are kept
beside them.

``Utilisation`` adds bridges to square tiles of cells on an endless lattice and takes them away again, so a fix that
comes late replaces one bridge by two and nothing is computed anew. What it holds is the same as what
``density.occurrence_of`` draws of all bridges at once, but for rounding to float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from models.artifact import PACKAGED, Loaded, load_newest
from models.bbmm.density import (
    Bridges,
    Grid,
    LevelTile,
    Occurrence,
    Patch,
    Positions,
    bridges_of,
    grid_around,
    level_of,
    level_tiles,
    occurrence_of,
    patches,
    positions_at,
)
from models.bbmm.features import FloatArray, Frame, LocationErrors, Track, location_errors_m
from models.bbmm.outline import multipolygon
from models.bbmm.variance import MotionVariance, dynamic_variance, filled, motion_variance
from shared.errors import ArtifactError, ModelUnavailable

# A station imports this module and ``features`` alone: what it needs of the others is here by name.
__all__ = [
    "GAUSSIAN_50",
    "GAUSSIAN_95",
    "GENERIC",
    "Bridges",
    "Calibration",
    "Grid",
    "LevelTile",
    "LikelyPath",
    "MotionVariance",
    "Occurrence",
    "Positions",
    "Utilisation",
    "bridges_of",
    "calibration_name",
    "calibration_of",
    "dynamic_variance",
    "errors_of",
    "gaps_at",
    "grid_around",
    "level_of",
    "level_tiles",
    "load_calibration",
    "motion_variance",
    "multipolygon",
    "occurrence_of",
    "path_at",
    "positions_at",
    "variances",
]

GENERIC: Final = "generic"
#: Radii of a normal distribution in two dimensions that hold 50 and 95 %, in standard deviations along one axis.
GAUSSIAN_50: Final = math.sqrt(-2 * math.log(0.5))
GAUSSIAN_95: Final = math.sqrt(-2 * math.log(0.05))

_MODEL_OF: Final = {
    "loxodonta": "elephant", "elephas": "elephant", "elephant": "elephant",
    "syncerus": "buffalo", "buffalo": "buffalo", "buffaloe": "buffalo",
    "connochaetes": "wildebeest", "wildebeest": "wildebeest", "gnu": "wildebeest",
}  # fmt: skip


class Calibration(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What was measured of a species.

    ``up_to_gap_s`` (k,) are the upper ends of classes of gaps; ``radius_50`` and ``radius_95`` (k,) are multiples of
    the bridge's standard deviation. ``variance_m2_per_s`` serves an animal with too few fixes for its own; a gap longer
    than ``max_gap_s`` has no bridge.
    """

    name: str
    version: int
    errors: LocationErrors
    variance_m2_per_s: float
    max_gap_s: float
    up_to_gap_s: FloatArray
    radius_50: FloatArray
    radius_95: FloatArray
    refused: tuple[str, ...] = ()

    def multiples(self, gap_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return both radii for bridges that last ``gap_s``, in standard deviations."""
        which = np.minimum(np.searchsorted(self.up_to_gap_s, gap_s), self.up_to_gap_s.size - 1)
        return self.radius_50[which], self.radius_95[which]


def errors_of(calibration: Calibration, h_acc_m: FloatArray, hdop: FloatArray) -> FloatArray:
    """Return the standard deviation of each position along one axis; inputs (n,), NaN is *not stated*."""
    return location_errors_m(h_acc_m.size, calibration.errors, h_acc_m=h_acc_m, hdop=hdop)


def calibration_name(species: str | None) -> str:
    """Return which calibration serves a species, by its common or scientific name in any case."""
    words = (species or "").lower().replace("_", " ").replace("-", " ").split()
    for word in (*words[:1], *words[-1:], *(last.removesuffix("s") for last in words[-1:])):
        if word in _MODEL_OF:
            return _MODEL_OF[word]
    return GENERIC


def load_calibration(species: str | None, folder: Path = PACKAGED) -> Calibration:
    """Return the newest good calibration for a species; the generic one where it has none that is good.

    Raises ModelUnavailable where that cannot be used either.
    """
    name = calibration_name(species)
    refused: tuple[str, ...] = ()
    if name != GENERIC:
        try:
            calibration, loaded = load_newest(folder, "bbmm", name, calibration_of)
            return msgspec.structs.replace(calibration, refused=loaded.refused)
        except ModelUnavailable as error:
            refused = (error.detail,)
    calibration, loaded = load_newest(folder, "bbmm", GENERIC, calibration_of)
    return msgspec.structs.replace(calibration, refused=(*refused, *loaded.refused))


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    errors: LocationErrors
    variance_m2_per_s: float
    max_gap_s: float


def calibration_of(loaded: Loaded) -> Calibration:
    """Return what a verified artefact says; raises ArtifactError where its numbers cannot be."""
    manifest = loaded.manifest
    title = f"{manifest.model}/{manifest.version}/{manifest.name}"
    try:
        settings = msgspec.convert(manifest.settings, _Settings)
        gaps, inner, outer = (
            loaded.arrays[name].astype(np.float64) for name in ("up_to_gap_s", "radius_50", "radius_95")
        )
    except (msgspec.ValidationError, KeyError) as error:
        raise ArtifactError(f"{title}: lacks {error}") from error
    is_sound = gaps.ndim == 1 and gaps.shape == inner.shape == outer.shape
    if not (is_sound and bool((np.diff(gaps) > 0).all() and (inner > 0).all() and (outer > inner).all())):
        raise ArtifactError(f"{title}: gaps must rise and the radius of 95 % be beyond that of 50 %")
    if not (settings.variance_m2_per_s > 0 and settings.max_gap_s > 0 and settings.errors.unstated_m > 0):
        raise ArtifactError(f"{title}: variance, gap and error must be above zero")
    return Calibration(
        name=manifest.name,
        version=manifest.version,
        errors=settings.errors,
        variance_m2_per_s=settings.variance_m2_per_s,
        max_gap_s=settings.max_gap_s,
        up_to_gap_s=gaps,
        radius_50=inner,
        radius_95=outer,
    )


def variances(
    track: Track, otherwise_m2_per_s: float, max_gap_s: float | None = None, *, is_dynamic: bool = True
) -> FloatArray:
    """Return the variance of each bridge, (n - 1,): dynamic, else the animal's, else the given one of its species."""
    try:
        otherwise_m2_per_s = motion_variance(track, max_gap_s=max_gap_s).variance_m2_per_s
    except ValueError:
        return np.full(max(0, len(track) - 1), otherwise_m2_per_s)
    if not is_dynamic:
        return np.full(len(track) - 1, otherwise_m2_per_s)
    return filled(dynamic_variance(track, max_gap_s=max_gap_s), otherwise_m2_per_s)


class LikelyPath(NamedTuple):
    """The likely path, arrays (k,): instants, expected positions, their width and the radii that were measured."""

    times_s: FloatArray
    x_m: FloatArray
    y_m: FloatArray
    sd_m: FloatArray
    radius_50_m: FloatArray
    radius_95_m: FloatArray


def path_at(track: Track, at_s: FloatArray, calibration: Calibration) -> LikelyPath:
    """Return where the animal probably was at each instant; NaN in a gap and beyond the record."""
    variance = variances(track, calibration.variance_m2_per_s, calibration.max_gap_s)
    bridges = bridges_of(track, variance, calibration.max_gap_s)
    found = positions_at(bridges, at_s)
    inner, outer = calibration.multiples(gaps_at(bridges, at_s))
    return LikelyPath(at_s, found.x_m, found.y_m, found.sd_m, inner * found.sd_m, outer * found.sd_m)


def gaps_at(bridges: Bridges, at_s: FloatArray) -> FloatArray:
    """Return how long the bridge lasts that leads over each instant; NaN where none does."""
    if len(bridges) == 0:
        return np.full(np.shape(at_s), np.nan)
    which = np.clip(np.searchsorted(bridges.start_s, at_s, side="right") - 1, 0, len(bridges) - 1)
    start, end = bridges.start_s[which], bridges.end_s[which]
    return np.where((at_s >= start) & (at_s <= end), end - start, np.nan)


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    frame: Frame
    cell_m: float
    tile_cells: int
    bridges: int
    lasting_s: float
    variance_m2: float
    error_m: float
    gaps: int
    gaps_s: float
    fixes_dropped: int


class Utilisation:
    """Seconds per cell of one animal, in tiles; ``fixes_dropped`` is kept for the reader by who feeds it.

    Stored as a head and its tiles, float32 seconds in C order, little-endian: few bridges change few tiles.
    """

    def __init__(self, frame: Frame, cell_m: float, tile_cells: int = 32) -> None:
        if not (cell_m > 0 and tile_cells > 0):
            raise ValueError(f"cells of {cell_m} m in tiles of {tile_cells} cannot be")
        self.frame = frame
        self.cell_m = cell_m
        self.tile_cells = tile_cells
        self.fixes_dropped = 0
        self._tiles: dict[tuple[int, int], npt.NDArray[np.float32]] = {}
        self._bridges = 0
        self._lasting_s = 0.0
        self._variance_m2 = 0.0
        self._error_m = 0.0
        self._gaps = 0
        self._gaps_s = 0.0
        self._changed: set[tuple[int, int]] = set()

    @property
    def tiles(self) -> int:
        """How many tiles are in use."""
        return len(self._tiles)

    def add(self, bridges: Bridges) -> None:
        """Add what bridges say."""
        self._change(bridges, 1)

    def remove(self, bridges: Bridges) -> None:
        """Take away bridges that were added, with the numbers that they had then."""
        self._change(bridges, -1)

    def replace(self, old: Bridges, new: Bridges) -> None:
        """Put bridges in the place of others: a fix came late, or one was found to be wrong."""
        self.remove(old)
        self.add(new)

    def occurrence(self) -> Occurrence:
        """Return occurrence during the record on the grid of all tiles in use."""
        size = self.tile_cells
        rows, columns = [row for row, _ in self._tiles], [column for _, column in self._tiles]
        top, left = min(rows, default=0), min(columns, default=0)
        height, width = max(rows, default=0) - top + 1, max(columns, default=0) - left + 1
        seconds = np.zeros((height * size, width * size), dtype=np.float32)
        for (row, column), tile in self._tiles.items():
            y, x = (row - top) * size, (column - left) * size
            seconds[y : y + size, x : x + size] = tile
        # What was taken away leaves rounding behind, of either sign.
        np.maximum(seconds, 0, out=seconds)
        grid = Grid(
            x_m=left * size * self.cell_m,
            y_m=top * size * self.cell_m,
            cell_m=self.cell_m,
            columns=width * size,
            rows=height * size,
        )
        return Occurrence(
            grid=grid,
            seconds=seconds,
            lasting_s=self._lasting_s,
            bridges=self._bridges,
            gaps=self._gaps,
            gaps_s=self._gaps_s,
            fixes_dropped=self.fixes_dropped,
            sigma_m_per_root_s=math.sqrt(max(0.0, self._variance_m2 / self._lasting_s)) if self._bridges else 0.0,
            location_error_m=self._error_m / self._bridges if self._bridges else 0.0,
        )

    def head(self) -> bytes:
        """Return everything but the tiles as bytes, for the store."""
        return msgspec.msgpack.encode(
            _Head(
                frame=self.frame,
                cell_m=self.cell_m,
                tile_cells=self.tile_cells,
                bridges=self._bridges,
                lasting_s=self._lasting_s,
                variance_m2=self._variance_m2,
                error_m=self._error_m,
                gaps=self._gaps,
                gaps_s=self._gaps_s,
                fixes_dropped=self.fixes_dropped,
            )
        )

    def take_changed(self) -> dict[tuple[int, int], bytes]:
        """Return the tiles that changed since this was last asked, by row and column."""
        changed = {place: self._tiles[place].astype("<f4").tobytes() for place in sorted(self._changed)}
        self._changed.clear()
        return changed

    @classmethod
    def restored(cls, head: bytes, tiles: Mapping[tuple[int, int], bytes]) -> Utilisation:
        """Return what ``head`` and all the tiles gave; raises ArtifactError for bytes that are nothing of the kind."""
        try:
            state = msgspec.msgpack.decode(head, type=_Head)
            made = cls(state.frame, state.cell_m, state.tile_cells)
            shape = (state.tile_cells, state.tile_cells)
            for place, cells in tiles.items():
                made._tiles[place] = np.frombuffer(cells, dtype="<f4").reshape(shape).astype(np.float32)
        except (msgspec.DecodeError, ValueError) as error:
            raise ArtifactError(f"a stored utilisation cannot be read: {error}") from error
        made.fixes_dropped = state.fixes_dropped
        made._bridges, made._lasting_s = state.bridges, state.lasting_s
        made._variance_m2, made._error_m = state.variance_m2, state.error_m
        made._gaps, made._gaps_s = state.gaps, state.gaps_s
        return made

    def _change(self, bridges: Bridges, sign: int) -> None:
        for patch in patches(bridges, 0.0, 0.0, self.cell_m):
            self._draw(patch, sign)
        lengths_s = bridges.end_s - bridges.start_s
        self._bridges += sign * len(bridges)
        self._lasting_s += sign * float(lengths_s.sum())
        self._variance_m2 += sign * float(lengths_s @ bridges.variance_m2_per_s)
        self._error_m += sign * float(bridges.error0_m.sum())
        self._gaps += sign * bridges.gaps
        self._gaps_s += sign * bridges.gaps_s

    def _draw(self, patch: Patch, sign: int) -> None:
        size = self.tile_cells
        rows, columns = patch.seconds.shape
        for tile_row in range(patch.row // size, (patch.row + rows - 1) // size + 1):
            top, bottom = max(patch.row, tile_row * size), min(patch.row + rows, (tile_row + 1) * size)
            for tile_column in range(patch.column // size, (patch.column + columns - 1) // size + 1):
                left = max(patch.column, tile_column * size)
                right = min(patch.column + columns, (tile_column + 1) * size)
                part = patch.seconds[
                    top - patch.row : bottom - patch.row, left - patch.column : right - patch.column
                ].astype(np.float32)
                tile = self._tiles.get((tile_row, tile_column))
                if tile is None:
                    tile = self._tiles[tile_row, tile_column] = np.zeros((size, size), dtype=np.float32)
                self._changed.add((tile_row, tile_column))
                y, x = tile_row * size, tile_column * size
                tile[top - y : bottom - y, left - x : right - x] += sign * part
