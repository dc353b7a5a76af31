"""Radii that hold what they say: distances measured on validation data, then more and more the animal's own.

How far truths lay out, in units of the ellipse, is kept as ``N_LEVELS`` quantiles by group, model and horizon. An
animal's own forecasts of the last weeks, whose truths are known by now, count beside them: the radius that holds a
share is the quantile of both together, where the group counts as ``PRIOR`` own ones. So a new collar has the group's
ellipses, and an animal that strays further than its kind gets wider ones within days (split conformal prediction,
with the calibration set moving along with time).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.forecast.baselines import HORIZONS_H, FloatArray
from models.forecast.features import HOUR_S, IntArray
from models.forecast.heads import FREEDOM

#: The shares that the ellipses hold.
SHARES: Final = (0.5, 0.9)
N_LEVELS: Final = 60
#: How many of its own forecasts the group's experience is worth.
PRIOR: Final = 40.0
#: The own forecasts that count: at most so many, of so many days.
OWN: Final = 32
OWN_DAYS: Final = 14


def levels(distances: FloatArray) -> FloatArray:
    """Return the middle quantiles of distances (n,), NaN left out; shape (N_LEVELS,). Raises ValueError for none."""
    known = distances[np.isfinite(distances)]
    if not known.size:
        raise ValueError("there is no distance to learn from")
    return np.asarray(np.quantile(known, (np.arange(N_LEVELS) + 0.5) / N_LEVELS))


def levels_of_t() -> FloatArray:
    """Return what ``levels`` would be if truths came from the t distribution itself; shape (N_LEVELS,)."""
    middle = (np.arange(N_LEVELS) + 0.5) / N_LEVELS
    return np.asarray(np.sqrt(FREEDOM * ((1 - middle) ** (-2 / FREEDOM) - 1)))


def radii(group: FloatArray, own: FloatArray) -> FloatArray:
    """Return the radius of each share.

    Shapes: ``group`` (..., N_LEVELS), ``own`` (..., k) with NaN where a truth is not known; result (..., 2).
    """
    both = np.concatenate((group, own), axis=-1)
    weight = np.concatenate((np.full(group.shape, PRIOR / N_LEVELS), np.isfinite(own).astype(np.float64)), axis=-1)
    order = np.argsort(np.where(np.isfinite(both), both, np.inf), axis=-1)
    sorted_both = np.take_along_axis(both, order, axis=-1)
    summed = np.cumsum(np.take_along_axis(weight, order, axis=-1), axis=-1)
    found = [
        np.take_along_axis(sorted_both, (summed >= share * summed[..., -1:]).argmax(axis=-1)[..., None], axis=-1)
        for share in SHARES
    ]
    return np.concatenate(found, axis=-1)


def own_anchors(times_s: FloatArray, now: int) -> IntArray:
    """Return which earlier anchors count for the one at index ``now``: spread evenly over the last weeks."""
    first = int(np.searchsorted(times_s, times_s[now] - OWN_DAYS * 24 * HOUR_S))
    n = now - first
    if n <= OWN:
        return np.arange(first, now)
    return np.asarray(first + (np.arange(OWN) * n) // OWN)


def is_known_by(anchor_times_s: FloatArray, now_s: float) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which truths of earlier anchors (k,) are known at ``now_s``, by horizon; shape (k, H)."""
    return np.asarray(anchor_times_s[:, None] + np.array(HORIZONS_H) * HOUR_S <= now_s)
