"""From fixes to the rows of the behaviour model: a step of the regular length in time, and the turn before it.

A model knows steps of one interval; a step over two hours is not twice a step over one. From the first fix on, the next
one kept is the fix *nearest* to one interval later, within the tolerance (the first within it would favour short
steps). Collars whose minutes drift stay whole, because each step is measured from the fix before and not from a grid;
a collar that is faster is thinned, and a fix out of schedule is passed over. Where no fix lies within the tolerance, a
new burst begins with the next fix: a step across a gap says nothing about how an animal moved.

Row r is the step that *ends* at its fix. Its turning angle, at the fix before, is missing in the first row of a burst
and beside a step of length zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from shared.domain import is_usable
from shared.movement.geodesy import steps_and_turns

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

#: How far a lag may be from the model's interval, as a share of it.
TOLERANCE: Final = 0.25


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one trajectory.

    ``step_m`` and ``angle_rad`` (NaN where missing), ``fix`` (the fix at which each step ends) and ``previous_fix``
    (where it begins, both indices into the trajectory that was given) are (n,); ``starts`` is the first row of each
    burst. ``n_fixes_used`` fixes are an end of some row.
    """

    step_m: FloatArray
    angle_rad: FloatArray
    fix: IntArray
    previous_fix: IntArray
    starts: IntArray
    n_fixes_used: int

    @property
    def lengths(self) -> list[int]:
        """The number of rows of each burst."""
        return [int(n) for n in np.diff(np.append(self.starts, self.step_m.size))]


#: Of a trajectory that has no step.
NO_ROWS: Final = Rows(
    step_m=np.empty(0), angle_rad=np.empty(0), fix=np.empty(0, dtype=np.int64),
    previous_fix=np.empty(0, dtype=np.int64), starts=np.empty(0, dtype=np.int64), n_fixes_used=0,
)  # fmt: skip


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several trajectories as those of one; ``fix`` and ``previous_fix`` stay those of each."""
    if len(parts) == 1:
        return parts[0]
    firsts = np.cumsum([0, *(rows.step_m.size for rows in parts[:-1])])
    return Rows(
        step_m=np.concatenate([rows.step_m for rows in parts]),
        angle_rad=np.concatenate([rows.angle_rad for rows in parts]),
        fix=np.concatenate([rows.fix for rows in parts]),
        previous_fix=np.concatenate([rows.previous_fix for rows in parts]),
        starts=np.concatenate([rows.starts + first for rows, first in zip(parts, firsts, strict=True)]),
        n_fixes_used=sum(rows.n_fixes_used for rows in parts),
    )


def usable_fixes(
    times_s: FloatArray, lon_deg: FloatArray, lat_deg: FloatArray, flags: IntArray | None = None
) -> IntArray:
    """Return the indices, by time, of fixes that a model may use: placed, not flagged, one at each instant.

    Shapes: inputs (n,), in any order. ``flags`` are the quality rules' ``FixFlag`` values.
    """
    good = np.isfinite(times_s) & (np.abs(lon_deg) <= 180) & (np.abs(lat_deg) <= 90)
    if flags is not None:
        good &= np.array([is_usable(int(flag)) for flag in flags], dtype=bool)
    order = np.flatnonzero(good)
    if bool((np.diff(times_s[order]) > 0).all()):
        return order
    order = order[np.lexsort((lat_deg[order], lon_deg[order], times_s[order]))]
    times = times_s[order]
    return order[np.concatenate(([True], np.diff(times) > 0))[: order.size]].astype(np.int64)


def regular_chain(times_s: list[float], interval_s: float, tolerance_s: float) -> tuple[list[int], list[bool]]:
    """Return the indices of the fixes that are kept, and for each whether it begins a burst.

    ``times_s`` strictly increase. What is kept up to some fix depends on later fixes only within twice the tolerance.
    """
    n = len(times_s)
    kept: list[int] = []
    begins: list[bool] = []
    i = 0
    is_first = True
    while i < n:
        kept.append(i)
        begins.append(is_first)
        target = times_s[i] + interval_s
        j = i + 1
        while j < n and times_s[j] < target - tolerance_s:
            j += 1
        nearest = -1
        distance = tolerance_s
        while j < n and times_s[j] <= target + tolerance_s:
            away = abs(times_s[j] - target)
            if away <= distance and (nearest < 0 or away < distance):
                nearest, distance = j, away
            j += 1
        is_first = nearest < 0
        i = j if is_first else nearest
    return kept, begins


def rows_of(
    times_s: FloatArray,
    lon_deg: FloatArray,
    lat_deg: FloatArray,
    interval_s: float,
    *,
    tolerance: float = TOLERANCE,
    flags: IntArray | None = None,
) -> Rows:
    """Return the rows of a trajectory for a model of steps over ``interval_s``.

    Shapes: inputs (n,), seconds and WGS 84 degrees, NaN where there is none, in any order; bad fixes are left out.
    Raises ValueError for an interval that is not positive or a tolerance that is not below a third.
    """
    if not interval_s > 0 or not 0 <= tolerance < 1 / 3:
        raise ValueError("the interval must be positive and the tolerance below a third of it")
    times, lon, lat = (np.asarray(values, dtype=np.float64) for values in (times_s, lon_deg, lat_deg))
    order = usable_fixes(times, lon, lat, flags)
    kept, begins = regular_chain(times[order].tolist(), interval_s, tolerance * interval_s)
    chosen = order[kept] if kept else order[:0]
    is_begin = np.array(begins, dtype=bool)
    step, turn = steps_and_turns(lon[chosen], lat[chosen])
    angle = np.full(chosen.size, np.nan)
    angle[2:] = turn[: max(0, chosen.size - 2)]
    # The angle at the first fix of a burst spans the gap.
    angle[1:][is_begin[:-1]] = np.nan
    is_row = ~is_begin
    number = np.cumsum(is_row) - 1
    follows_begin = np.flatnonzero(is_row[1:] & is_begin[:-1]) + 1
    ends = np.flatnonzero(is_row)
    return Rows(
        step_m=step[ends - 1],
        angle_rad=angle[ends],
        fix=chosen[ends],
        previous_fix=chosen[ends - 1],
        starts=number[follows_begin].astype(np.int64),
        n_fixes_used=ends.size + follows_begin.size,
    )
