"""How far an animal strays from the straight line between two fixes: the Brownian motion variance, in m^2/s.

Each inner fix is left out in turn and predicted by the bridge between its neighbours (Horne et al. 2007,
doi:10.1890/06-0957.1). With ``a`` the share of the time between the neighbours that had passed, its distance from the
line is normal along either axis, with the variance::

    T a (1 - a) v  +  (1 - a)^2 e0^2 + a^2 e1^2

where T is the time between the neighbours, e0 and e1 their location errors and v what is sought. Horne leaves out
every second fix, so that no fix is both left out and a neighbour; ``every`` inner fix uses all that was measured and
moves less from one sample to the next. The likelihood is then a composite one: its maximum is as good, its curvature
is not used.

The dynamic variance (Kranstauber et al. 2012, doi:10.1111/j.1365-2656.2012.01955.x) slides a window over the fixes and
asks in each whether one variance or two, before and after a break, explain it better (BIC). Each bridge away from the
margins gets the variance of its side, and in the end the mean over all windows that it was in. In a window the second,
fourth, ... fix is left out, so a fix has the same two neighbours in each window; the likelihood of each fix is
tabulated once over a ladder of variances, and a window is a difference of two cumulative sums.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
import numpy as np

from models.bbmm.features import FloatArray, IntArray, Track

#: Left out: every inner fix, or the second, fourth, ... of each burst.
LeftOut = Literal["every", "second"]

_LOWEST: Final = 1e-7
_HIGHEST: Final = 1e8
# Between these lies the ladder of the dynamic variance, apart from its lowest rung.
_LADDER_FROM: Final = 1e-3
_LADDER_TO: Final = 1e5
_LADDER_RUNGS: Final = 160
_WINDOWS_AT_ONCE: Final = 4_096


class MotionVariance(msgspec.Struct, frozen=True, kw_only=True):
    """The variance with the highest likelihood, and how many left-out fixes speak for it."""

    variance_m2_per_s: float
    log_likelihood: float
    left_out: int


class Residuals(msgspec.Struct, frozen=True, eq=False):
    """For each left-out fix: its number, what v is multiplied by, what is added, the squared distance; each (m,)."""

    fixes: FloatArray
    per_variance_s: FloatArray
    added_m2: FloatArray
    squared_m2: FloatArray


def motion_variance(track: Track, *, max_gap_s: float | None = None, left_out: LeftOut = "every") -> MotionVariance:
    """Return the variance that explains the left-out fixes best; a fix beside a gap is not asked.

    Raises ValueError where there is no fix to leave out.
    """
    found = residuals(track, max_gap_s)
    if left_out == "second":
        is_second = _place_in_burst(track, max_gap_s)[found.fixes.astype(np.int64)] % 2 == 1
        found = Residuals(
            found.fixes[is_second],
            found.per_variance_s[is_second],
            found.added_m2[is_second],
            found.squared_m2[is_second],
        )
    if found.fixes.size == 0:
        raise ValueError("no fix has two neighbours without a gap: there is nothing to estimate a variance from")
    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    # The likelihood may have more than one hill: look at all of it, then climb between the neighbours of the top.
    log_variance, best = low, -np.inf
    for _ in range(8):
        ladder = np.linspace(low, high, 33)
        sums = np.array([_log_likelihoods(found, float(np.exp(rung))).sum() for rung in ladder])
        top = int(sums.argmax())
        log_variance, best = float(ladder[top]), float(sums[top])
        low, high = float(ladder[max(0, top - 1)]), float(ladder[min(32, top + 1)])
        if high - low < 1e-7:
            break
    return MotionVariance(
        variance_m2_per_s=float(np.exp(log_variance)), log_likelihood=best, left_out=int(found.fixes.size)
    )


def dynamic_variance(track: Track, *, window: int = 31, margin: int = 11, max_gap_s: float | None = None) -> FloatArray:
    """Return the variance of each bridge in m^2/s; shape (n - 1,), NaN for bridges that no window judges.

    ``window`` fixes are looked at together and ``margin`` of them stay on either side of a break; both are odd.
    A window never holds a gap. Raises ValueError for numbers that leave no room for a break.
    """
    if window % 2 == 0 or margin % 2 == 0 or margin < 3 or window < 2 * margin - 1:
        raise ValueError(
            f"window {window} and margin {margin} must be odd, with margin >= 3 and window >= 2 margin - 1"
        )
    count = len(track)
    total, votes = np.zeros(max(0, count - 1)), np.zeros(max(0, count - 1))
    if count >= window:
        first = np.flatnonzero(_gaps_within(track, max_gap_s, window) == 0).astype(np.int64)
        for begin in range(0, first.size, _WINDOWS_AT_ONCE):
            _vote(track, first[begin : begin + _WINDOWS_AT_ONCE], window, margin, total, votes)
    return np.where(votes > 0, total / np.maximum(votes, 1), np.nan)


def filled(variance: FloatArray, otherwise_m2_per_s: float) -> FloatArray:
    """Return the variance with that of the nearest judged bridge where it is NaN; the other value where none is."""
    known = np.flatnonzero(np.isfinite(variance))
    if known.size == 0:
        return np.full(variance.shape, otherwise_m2_per_s)
    places = np.arange(variance.size)
    after = np.clip(np.searchsorted(known, places), 0, known.size - 1)
    before = np.maximum(after - 1, 0)
    is_before = np.abs(places - known[before]) <= np.abs(known[after] - places)
    return np.asarray(variance[np.where(is_before, known[before], known[after])])


def residuals(track: Track, max_gap_s: float | None) -> Residuals:
    """Leave out each inner fix that has no gap beside it and predict it from its neighbours."""
    gaps_s = np.diff(track.times_s)
    if gaps_s.size < 2:
        none = np.empty(0)
        return Residuals(none, none, none, none)
    before_s, after_s = gaps_s[:-1], gaps_s[1:]
    share = before_s / (before_s + after_s)
    x_m, y_m, error_m = track.x_m, track.y_m, track.error_m
    off_x = x_m[1:-1] - ((1 - share) * x_m[:-2] + share * x_m[2:])
    off_y = y_m[1:-1] - ((1 - share) * y_m[:-2] + share * y_m[2:])
    keep = slice(None) if max_gap_s is None else (before_s <= max_gap_s) & (after_s <= max_gap_s)
    return Residuals(
        np.arange(1, len(track) - 1, dtype=np.float64)[keep],
        (before_s * (1 - share))[keep],
        (((1 - share) * error_m[:-2]) ** 2 + (share * error_m[2:]) ** 2)[keep],
        (off_x**2 + off_y**2)[keep],
    )


def _log_likelihoods(residuals: Residuals, variance_m2_per_s: float) -> FloatArray:
    spread_m2 = residuals.per_variance_s * variance_m2_per_s + residuals.added_m2
    return -np.log(2 * np.pi * spread_m2) - residuals.squared_m2 / (2 * spread_m2)


def _place_in_burst(track: Track, max_gap_s: float | None) -> FloatArray:
    places = np.arange(len(track), dtype=np.float64)
    if max_gap_s is None:
        return places
    begins = np.concatenate(([True], np.diff(track.times_s) > max_gap_s))
    return places - np.maximum.accumulate(np.where(begins, places, 0))


def _gaps_within(track: Track, max_gap_s: float | None, window: int) -> FloatArray:
    """Return the number of gaps inside the window that begins at each fix; shape (n - window + 1,)."""
    if max_gap_s is None:
        return np.zeros(len(track) - window + 1)
    summed = np.concatenate(([0], np.cumsum(np.diff(track.times_s) > max_gap_s)))
    return np.asarray(summed[window - 1 :] - summed[: len(track) - window + 1], dtype=np.float64)


def _vote(track: Track, first: IntArray, window: int, margin: int, total: FloatArray, votes: FloatArray) -> None:
    """Judge the windows that begin at ``first``, each fix tabulated once; adds to ``total`` and ``votes``."""
    begin, end = int(first[0]), int(first[-1]) + window
    part = residuals(track.part(slice(begin, end)), None)
    ladder = np.concatenate(([_LOWEST], np.geomspace(_LADDER_FROM, _LADDER_TO, _LADDER_RUNGS)))
    table = np.stack([_log_likelihoods(part, float(rung)) for rung in ladder], axis=1)
    # sums[i] holds fixes i, i - 2, i - 4, ... of the part; one row of zeros lies before each parity.
    sums = np.zeros((table.shape[0] + 3, ladder.size))
    sums[3::2] = np.cumsum(table[0::2], axis=0)
    sums[4::2] = np.cumsum(table[1::2], axis=0)
    at = first - begin

    def best(after: int, until: int) -> tuple[FloatArray, FloatArray]:
        """Return variance and likelihood of fixes after+1, after+3, ... before ``until`` of each window."""
        return _tops(sums[at + until + 1] - sums[at + after + 1], ladder)

    variance, likelihood = best(0, window - 1)
    bic = -2 * likelihood + np.log(window)
    left, right = variance, variance
    breaks = np.full(at.size, -1)
    for place in range(margin - 1, window - margin + 1, 2):
        left_variance, left_likelihood = best(0, place)
        right_variance, right_likelihood = best(place, window - 1)
        split_bic = -2 * (left_likelihood + right_likelihood) + 2 * np.log(window)
        is_better = split_bic < bic
        bic = np.where(is_better, split_bic, bic)
        breaks = np.where(is_better, place, breaks)
        left, right = np.where(is_better, left_variance, left), np.where(is_better, right_variance, right)
    for bridge in range(margin - 1, window - margin):
        np.add.at(total, first + bridge, np.where(bridge < breaks, left, right))
        np.add.at(votes, first + bridge, 1)


def _tops(likelihoods: FloatArray, ladder: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return where each row is highest, between the rungs by the parabola through three of them, and how high."""
    top = likelihoods.argmax(axis=1)
    rows = np.arange(top.size)
    inner = np.clip(top, 2, ladder.size - 2)
    below, at, above = (likelihoods[rows, inner + step] for step in (-1, 0, 1))
    bend = below - 2 * at + above
    is_inner = (inner == top) & (bend < 0)
    shift = np.where(is_inner, 0.5 * (below - above) / np.where(bend < 0, bend, -1.0), 0.0)
    rung = np.log(ladder[3] / ladder[2])
    variance = ladder[top] * np.exp(shift * rung)
    return variance, likelihoods[rows, top] - np.where(is_inner, 0.25 * (below - above) * shift, 0.0)
