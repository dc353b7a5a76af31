"""What a policy sees: the ground around it at four scales, turned towards the goal, and how far the goal is.

::

    scale 1    7 x 7 cells, each itself               scale 9    7 x 7 boxes of 9 x 9 cells
    scale 3    7 x 7 boxes of 3 x 3 cells             scale 27   5 x 5 boxes of 27 x 27 cells

A box's value is the logarithm of its harmonic mean cost (a channel of good ground in bad counts), relative to the
surface's median, so that neither unit nor contrast of a cost surface matters. What is outside, and what nothing walks
on, is blocked. The frame is egocentric: of the eight ways to turn and mirror the ground that one is taken in which the
goal lies ahead and to the left at no more than 45 degrees; actions are moves in the same frame. So one policy serves
every heading, exactly. Nothing here knows the cost to go. Pure numpy; shared by training, the cloud and a station.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.corridor.surface import MOVES, Float32Array, FloatArray, IntArray

#: Side of a box in cells, and boxes to each side of the one in the middle.
SCALES: Final = ((1, 3), (3, 3), (9, 3), (27, 2))
#: Cells around a surface that count as blocked, so that no window leaves the array.
PAD: Final = max(size * reach for size, reach in SCALES) + 1
#: What cannot be walked on, in steps of 1/16 of a doubling; the worst ground that can be is 64.
BLOCKED: Final = 96
_STEPS: Final = 16
_LARGEST: Final = 64
_CHUNK: Final = 256
_WINDOW: Final = sum((2 * reach + 1) ** 2 for _, reach in SCALES)
#: Numbers beside the windows: direction (2), logarithm of the distance, both offsets near the goal, eight closed moves.
_BESIDE: Final = 5 + 8
SIZE: Final = _WINDOW + _BESIDE

Int8Array = npt.NDArray[np.int8]


class Pyramid(NamedTuple):
    """The ground of one or several surfaces of a size: ``levels`` (scales, surfaces, rows + 2 PAD, columns + 2 PAD)."""

    levels: Int8Array
    rows: int
    columns: int

    @property
    def stride(self) -> int:
        """Cells of a padded row."""
        return self.columns + 2 * PAD

    @property
    def plane(self) -> int:
        """Cells of a padded surface."""
        return (self.rows + 2 * PAD) * self.stride

    def offsets(self) -> IntArray:
        """Return where the windows of each frame lie, relative to a cell of the first level: (8, values)."""
        return _offsets(self.stride, self.levels.shape[1] * self.plane)


def pyramid(costs: npt.NDArray[np.float32]) -> Pyramid:
    """Return the ground of surfaces, shape (surfaces, rows, columns) or (rows, columns)."""
    stack = costs if costs.ndim == 3 else costs[None]
    count, rows, columns = stack.shape
    levels = np.full((len(SCALES), count, rows + 2 * PAD, columns + 2 * PAD), BLOCKED, dtype=np.int8)
    for number in range(count):
        is_there = np.isfinite(stack[number])
        middle = float(np.median(stack[number][is_there])) if is_there.any() else 1.0
        ease = np.zeros((rows + 2 * PAD, columns + 2 * PAD), dtype=np.float32)
        ease[PAD : PAD + rows, PAD : PAD + columns] = np.where(is_there, np.float32(middle) / stack[number], 0)
        for level, (size, _) in enumerate(SCALES):
            levels[level, number] = _steps(_box_means(ease, size))
    return Pyramid(levels, rows, columns)


def frames(row_ahead: IntArray, column_ahead: IntArray) -> IntArray:
    """Return which of the eight frames has the goal ahead and to the left; arrays (n,) of cells to the goal."""
    is_steep = np.abs(row_ahead) > np.abs(column_ahead)
    return np.asarray((row_ahead < 0) * 4 + (column_ahead < 0) * 2 + is_steep, dtype=np.int64)


def observe(
    ground: Pyramid,
    offsets: IntArray,
    at: IntArray,
    frame: IntArray,
    row_ahead: IntArray,
    column_ahead: IntArray,
    is_open: npt.NDArray[np.bool_],
    out: Float32Array | None = None,
) -> Float32Array:
    """Return the observations (n, SIZE) of cells.

    ``at``: place of each cell in the first level, padded, flat. ``is_open`` (n, 8): moves, in the frame, that are not
    closed.
    """
    found = np.empty((at.size, SIZE), dtype=np.float32) if out is None else out
    flat = ground.levels.reshape(-1)
    # In chunks whose places stay in the processor's cache: twice as fast as all at once.
    places = np.empty((min(_CHUNK, at.size), _WINDOW), dtype=np.int64)
    values = np.empty(places.shape, dtype=np.int8)
    for begin in range(0, at.size, _CHUNK):
        end = min(begin + _CHUNK, at.size)
        some = slice(0, end - begin)
        offsets.take(frame[begin:end], axis=0, out=places[some], mode="clip")
        places[some] += at[begin:end, None]
        flat.take(places[some], out=values[some], mode="clip")
        np.multiply(values[some], np.float32(1 / _STEPS), out=found[begin:end, :_WINDOW])
    ahead = np.maximum(np.abs(row_ahead), np.abs(column_ahead)).astype(np.float32)
    aside = np.minimum(np.abs(row_ahead), np.abs(column_ahead)).astype(np.float32)
    distance = np.sqrt(ahead * ahead + aside * aside) + np.float32(1e-6)
    found[:, _WINDOW] = ahead / distance
    found[:, _WINDOW + 1] = aside / distance
    found[:, _WINDOW + 2] = np.log2(1 + distance) / 4
    found[:, _WINDOW + 3] = np.minimum(ahead, 8) / 4
    found[:, _WINDOW + 4] = np.minimum(aside, 8) / 4
    found[:, _WINDOW + 5 :] = ~is_open
    return found


def _turns() -> IntArray:
    """Return how each frame turns an offset (ahead, aside) into (row, column): (8, 2, 2)."""
    found = np.zeros((8, 2, 2), dtype=np.int64)
    for frame in range(8):
        row_sign = -1 if frame & 4 else 1
        column_sign = -1 if frame & 2 else 1
        if frame & 1:
            found[frame] = [[row_sign, 0], [0, column_sign]]  # ahead is along the rows
        else:
            found[frame] = [[0, row_sign], [column_sign, 0]]
    return found


TURNS: Final = _turns()


def _moves_by_frame() -> IntArray:
    """Return the move that each action is in each frame: (8, 8). Action 0 goes ahead, 1 ahead and aside, and so on."""
    found = np.empty((8, 8), dtype=np.int64)
    for frame in range(8):
        for action in range(8):
            aside, ahead = int(MOVES[action, 0]), int(MOVES[action, 1])
            down, right = (int(value) for value in TURNS[frame] @ np.array([ahead, aside]))
            found[frame, action] = next(
                move for move in range(8) if (int(MOVES[move, 0]), int(MOVES[move, 1])) == (down, right)
            )
    return found


MOVE_OF: Final = _moves_by_frame()


def _offsets(stride: int, level: int) -> IntArray:
    found = np.empty((8, _WINDOW), dtype=np.int64)
    for frame in range(8):
        begin = 0
        for number, (size, reach) in enumerate(SCALES):
            steps = np.arange(-reach, reach + 1) * size
            ahead, aside = (one.ravel() for one in np.meshgrid(steps, steps, indexing="ij"))
            down, right = TURNS[frame] @ np.stack((ahead, aside))
            found[frame, begin : begin + ahead.size] = number * level + down * stride + right
            begin += ahead.size
    return found


def _box_means(values: Float32Array, size: int) -> FloatArray:
    """Return the mean of the square of ``size`` cells around each cell; what lies outside counts as 0."""
    if size == 1:
        return values.astype(np.float64)
    half = size // 2
    sums = np.pad(np.cumsum(np.cumsum(values, axis=0, dtype=np.float64), axis=1), ((1, 0), (1, 0)))
    rows, columns = values.shape
    top, bottom = np.clip(np.arange(rows) - half, 0, rows), np.clip(np.arange(rows) + half + 1, 0, rows)
    left, right = np.clip(np.arange(columns) - half, 0, columns), np.clip(np.arange(columns) + half + 1, 0, columns)
    wide = sums[bottom] - sums[top]
    return np.asarray((wide[:, right] - wide[:, left]) / size**2)


def _steps(ease: FloatArray) -> Int8Array:
    """Return the logarithm of costs in steps; a box with next to no way through is blocked."""
    is_blocked = ease < 2.0 ** (-_LARGEST / _STEPS - 2)
    steps = np.clip(np.rint(-_STEPS * np.log2(np.maximum(ease, 1e-12))), -_LARGEST, _LARGEST)
    return np.where(is_blocked, BLOCKED, steps).astype(np.int8)
