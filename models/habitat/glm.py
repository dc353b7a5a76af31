"""The baseline: logistic regression of used against available with quadratic terms, as resource selection has it.

Fitted by iteratively reweighted least squares on standardised columns. ``ridge`` holds the slopes back; the textbook
model has none to speak of.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from models.habitat.covariates import FloatArray

#: Beyond this many standard deviations a trend is held level: a curve that goes on says nonsense of new ground.
FURTHEST_SD: Final = 3.0
_ROUNDS: Final = 60
_FURTHEST: Final = 30.0
_SMALLEST_STEP: Final = 1e-7


class Glm(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Coefficients (1 + 2 k,) on standardised columns; missing values count as the mean.

    A value further than ``furthest_sd`` standard deviations from the mean counts as if it were there.
    """

    mean: FloatArray
    sd: FloatArray
    coefficients: FloatArray
    furthest_sd: float

    def log_odds(self, values: FloatArray) -> FloatArray:
        """Return the linear predictor for (n, k)."""
        return np.asarray(_terms(values, self.mean, self.sd, self.furthest_sd) @ self.coefficients)


def fit(
    values: FloatArray,
    is_used: FloatArray,
    weights: FloatArray | None = None,
    ridge: float = 1e-6,
    furthest_sd: float = np.inf,
) -> Glm:
    """Fit to (n, k) values; ``weights`` (n,) default to 1."""
    mean = np.nan_to_num(np.nanmean(values, axis=0))
    sd = np.nanstd(values, axis=0)
    sd = np.where(np.isfinite(sd) & (sd > 0), sd, 1.0)
    terms = _terms(values, mean, sd, furthest_sd)
    weight = np.ones(len(terms)) if weights is None else weights
    penalty = np.full(terms.shape[1], ridge)
    penalty[0] = 0.0
    found = np.zeros(terms.shape[1])
    for _ in range(_ROUNDS):
        odds = np.clip(terms @ found, -_FURTHEST, _FURTHEST)
        chance = 1.0 / (1.0 + np.exp(-odds))
        slope = terms.T @ (weight * (is_used - chance)) - penalty * found
        curvature = (terms * (weight * chance * (1.0 - chance))[:, None]).T @ terms + np.diag(penalty)
        step = np.linalg.lstsq(curvature, slope, rcond=None)[0]
        found = found + step
        if float(np.abs(step).max()) < _SMALLEST_STEP:
            break
    return Glm(mean=mean, sd=sd, coefficients=found, furthest_sd=furthest_sd)


def _terms(values: FloatArray, mean: FloatArray, sd: FloatArray, furthest_sd: float) -> FloatArray:
    standard = np.nan_to_num((np.asarray(values, dtype=np.float64) - mean) / sd)
    standard = np.clip(standard, -furthest_sd, furthest_sd)
    return np.column_stack((np.ones(len(standard)), standard, standard**2))
