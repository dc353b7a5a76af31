"""How well scores tell used from available places: area under the ROC curve, and the continuous Boyce index.

The Boyce index (Hirzel et al. 2006, doi:10.1016/j.ecolmodel.2006.05.017) slides a window of a tenth of the range over
the scores and compares, window by window, the share of used places with the share of available ones. It is the rank
correlation of that ratio with the place of the window: 1 where more suitable always means more used.

The windows may be a tenth of the range of scores, as usual, or of their ranks. The first hangs on the scale of the
scores and on a few extreme cells; the second is the same for every rising transformation, so that it treats log odds,
odds and probabilities alike.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from models.habitat.covariates import FloatArray
from shared.errors import Invalid

_WINDOWS = 101
_WIDTH = 0.1


def auc(is_used: FloatArray, score: FloatArray) -> float:
    """Return the chance that a used place scores higher than an available one, ties as half; NaN without both."""
    used = is_used > 0
    n_used, n_available = int(used.sum()), int((~used).sum())
    if not n_used or not n_available:
        return float("nan")
    return float((ranks(score)[used].sum() - n_used * (n_used + 1) / 2) / (n_used * n_available))


def boyce(is_used: FloatArray, score: FloatArray, windows: Literal["range", "rank"] = "rank") -> float:
    """Return the continuous Boyce index; NaN where the scores do not differ or a side is empty."""
    used = is_used > 0
    values = ranks(score) if windows == "rank" else np.asarray(score, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not used.any() or used.all() or high <= low:
        return float("nan")
    width = (high - low) * _WIDTH
    begins = np.linspace(low, high - width, _WINDOWS)
    shares = []
    for part in (np.sort(values[used]), np.sort(values[~used])):
        counts = np.searchsorted(part, begins + width, side="right") - np.searchsorted(part, begins)
        shares.append(counts / part.size)
    is_there = shares[1] > 0
    ratio = shares[0][is_there] / shares[1][is_there]
    # Windows of one ratio in a row say the same thing once.
    is_new = np.concatenate(([True], np.diff(ratio) != 0))
    return _correlation(ranks(ratio[is_new]), ranks(np.flatnonzero(is_there)[is_new].astype(np.float64)))


def ranks(values: FloatArray) -> FloatArray:
    """Return the ranks from 1, those of equal values averaged."""
    if not np.isfinite(values).all():
        raise Invalid("a score is not a number: it has no rank")
    _, back, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[back], dtype=np.float64)


def _correlation(left: FloatArray, right: FloatArray) -> float:
    if left.size < 3 or np.ptp(left) == 0:
        return float("nan")
    return float(np.corrcoef(left, right)[0, 1])
