"""Plain forecasts: what the network must beat, and what is served where it does not.

- *persistence*: it stays where it is.
- *constant velocity*: it goes on as in the last hour.
- *damped velocity*: a share of that, one number a horizon.
- *ridge*: a weighted sum of the hourly displacements of the last two days. The weights are the same for east and north
  and there is no constant, so that a track turned on the map turns its forecast.
- *correlated random walk by state*: each hour's displacement is expected to be ``rho`` times the one before, where
  ``rho`` is the state's, and states follow one another as a Markov chain: with D = diag(rho) and transitions P the
  expected displacement after h hours in state k is e_k' (D + D P D + ... + (D P)^(h-1) D) 1 times the last hour's.

Each has a circle: errors in units of the animal's own hourly scale have a spread that was measured by horizon.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]

#: The horizons of a forecast, in hours.
HORIZONS_H: Final = (1, 3, 6, 12, 24)
#: Hours whose displacements the ridge regression weighs.
RIDGE_LAGS_H: Final = 48
#: Names of the plain forecasts, in the order in which they are tried.
NAMES: Final = ("persistence", "constant velocity", "damped velocity", "ridge", "correlated random walk")

_N_STATES: Final = 3
#: Strengths of the ridge penalty that validation chooses among, as a share of the mean square displacement.
PENALTIES: Final = (0.0, 1.0, 10.0, 100.0, 1_000.0, 10_000.0)


class Baselines(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Fitted numbers of one group of species.

    ``damping`` (H,), ``ridge`` (H, 48) newest hour first, ``walk`` (H, 3) by state, ``walk_unknown`` (H,) where no
    state is known.
    """

    damping: FloatArray
    ridge: FloatArray
    walk: FloatArray
    walk_unknown: FloatArray

    def damped_m(self, lags_m: FloatArray) -> FloatArray:
        """Return the damped velocity's displacements; shape (n, H, 2) from lags (n, 48, 2)."""
        return np.asarray(self.damping[None, :, None] * lags_m[:, None, 0])

    def ridge_m(self, lags_m: FloatArray) -> FloatArray:
        """Return the ridge regression's displacements; shape (n, H, 2) from lags (n, 48, 2)."""
        return np.asarray(np.einsum("hl,nlk->nhk", self.ridge, lags_m))

    def walk_m(self, lags_m: FloatArray, states: FloatArray) -> FloatArray:
        """Return the walk's displacements; shape (n, H, 2) from lags (n, 48, 2), states (n, 3) NaN where unknown."""
        is_known = np.asarray(np.isfinite(states).all(axis=1))
        share = np.where(is_known[:, None], np.nan_to_num(states) @ self.walk.T, self.walk_unknown)
        return np.asarray(share[:, :, None] * lags_m[:, None, 0])

    def all_m(self, lags_m: FloatArray, states: FloatArray) -> FloatArray:
        """Return every plain forecast in the order of ``NAMES``; shape (B, n, H, 2), metres east and north."""
        hours = np.array(HORIZONS_H, dtype=np.float64)[None, :, None]
        return np.stack(
            (
                np.zeros((lags_m.shape[0], len(HORIZONS_H), 2)),
                hours * lags_m[:, None, 0],
                self.damped_m(lags_m),
                self.ridge_m(lags_m),
                self.walk_m(lags_m, states),
            )
        )


def fit(
    lags_m: FloatArray,
    next_m: FloatArray,
    states: FloatArray,
    next_states: FloatArray,
    weights: FloatArray,
    penalty: FloatArray,
) -> Baselines:
    """Fit the plain forecasts by weighted least squares.

    Shapes: ``lags_m`` (n, 48, 2); ``next_m`` (n, H, 2), NaN where unknown; ``states`` (n, 3) and those an hour later;
    ``weights`` (n,); ``penalty`` (H,), one strength a horizon.
    """
    last = lags_m[:, 0]
    square = (last**2).sum(axis=1)
    damping = np.zeros(len(HORIZONS_H))
    ridge = np.zeros((len(HORIZONS_H), RIDGE_LAGS_H))
    for h in range(len(HORIZONS_H)):
        is_there = np.isfinite(next_m[:, h]).all(axis=1)
        w, ahead, lags = weights[is_there], next_m[is_there, h], lags_m[is_there]
        damping[h] = _ratio((w * (ahead * last[is_there]).sum(axis=1)).sum(), (w * square[is_there]).sum())
        # East and north are two rows of one regression.
        rows = (lags * np.sqrt(w)[:, None, None]).transpose(0, 2, 1).reshape(-1, RIDGE_LAGS_H)
        gram = rows.T @ rows
        moment = rows.T @ (ahead * np.sqrt(w)[:, None]).reshape(-1)
        strength = (penalty[h] / max(int(is_there.sum()), 1)) * np.trace(gram) / RIDGE_LAGS_H + 1e-9
        ridge[h] = np.linalg.solve(gram + strength * np.eye(RIDGE_LAGS_H), moment)
    walk, walk_unknown = _walk(last, next_m[:, 0], states, next_states, weights, damping[0])
    return Baselines(damping=damping, ridge=ridge, walk=walk, walk_unknown=walk_unknown)


def _walk(
    last: FloatArray,
    ahead: FloatArray,
    states: FloatArray,
    next_states: FloatArray,
    weights: FloatArray,
    pooled: float,
) -> tuple[FloatArray, FloatArray]:
    is_there = np.isfinite(ahead).all(axis=1) & np.isfinite(states).all(axis=1) & np.isfinite(next_states).all(axis=1)
    unknown = np.array([sum(pooled**k for k in range(1, hours + 1)) for hours in HORIZONS_H])
    if not bool(is_there.any()):
        return np.tile(unknown[:, None], (1, _N_STATES)), unknown
    w, s = weights[is_there], states[is_there]
    product = (ahead[is_there] * last[is_there]).sum(axis=1)
    square = (last[is_there] ** 2).sum(axis=1)
    rho = np.array([_ratio((w * s[:, k] * product).sum(), (w * s[:, k] * square).sum()) for k in range(_N_STATES)])
    transitions = np.einsum("n,nj,nk->jk", w, s, next_states[is_there]) + 1e-9
    transitions /= transitions.sum(axis=1, keepdims=True)
    damping = np.diag(np.clip(rho, 0.0, 0.99))
    term = damping @ np.ones(_N_STATES)
    total = np.zeros(_N_STATES)
    walk = np.zeros((len(HORIZONS_H), _N_STATES))
    for hour in range(1, HORIZONS_H[-1] + 1):
        total = total + term
        term = damping @ transitions @ term
        if hour in HORIZONS_H:
            walk[HORIZONS_H.index(hour)] = total
    return walk, unknown


def _ratio(product: float, square: float) -> float:
    return float(product / square) if square > 0 else 0.0
