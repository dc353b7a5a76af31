"""Tracks whose truth is known."""

from __future__ import annotations

import numpy as np

from models.bbmm.features import FloatArray, Track


def brownian(
    fixes: int, variance_m2_per_s: float | FloatArray, *, seed: int = 1, step_s: float = 3600.0, error_m: float = 10.0
) -> Track:
    """Return a Brownian walk seen with an error; a variance for each step, (fixes - 1,), or one for all."""
    rng = np.random.default_rng(seed)
    scale = np.broadcast_to(np.sqrt(np.asarray(variance_m2_per_s) * step_s), (fixes - 1,))
    walk = np.concatenate((np.zeros((1, 2)), np.cumsum(rng.normal(size=(fixes - 1, 2)) * scale[:, None], axis=0)))
    seen = walk + rng.normal(scale=error_m, size=walk.shape)
    return Track(
        times_s=np.arange(fixes, dtype=np.float64) * step_s,
        x_m=seen[:, 0],
        y_m=seen[:, 1],
        error_m=np.full(fixes, error_m),
    )


def track(times_s: list[float], x_m: list[float], y_m: list[float], error_m: float = 20.0) -> Track:
    """Return a track of the given fixes."""
    return Track(
        times_s=np.array(times_s), x_m=np.array(x_m), y_m=np.array(y_m), error_m=np.full(len(times_s), error_m)
    )
