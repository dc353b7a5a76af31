"""Bursts: the gap-free runs of a trajectory. Steps across a gap say nothing about how an animal moved."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]


def burst_starts(times_s: FloatArray, max_gap_s: float) -> IntArray:
    """Return the index of the first fix of each burst.

    Shapes: ``times_s`` (n,) in seconds; result (k,), beginning with 0, empty for n = 0. A gap of exactly
    ``max_gap_s`` does not end a burst. Raises ValueError where times run backwards or are no numbers.
    """
    times = np.asarray(times_s, dtype=np.float64)
    if times.ndim != 1:
        raise ValueError(f"times must be one row, not of shape {times.shape}")
    if times.size == 0:
        return np.empty(0, dtype=np.int64)
    gaps_s = np.diff(times)
    if not np.isfinite(times).all() or bool((gaps_s < 0).any()):
        raise ValueError("times must be finite and in order")
    return np.concatenate(([0], np.flatnonzero(gaps_s > max_gap_s) + 1)).astype(np.int64)


def bursts(times_s: FloatArray, max_gap_s: float) -> list[slice]:
    """Return each burst as a slice of the trajectory, in order; together they cover it."""
    starts = burst_starts(times_s, max_gap_s).tolist()
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(times_s)], strict=False)]
