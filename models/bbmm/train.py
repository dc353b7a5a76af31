"""Calibration: location error per HDOP, the variance of a species, and the radii that hold 50 and 95 % of hidden fixes.

Only the earlier half of each track is used; the later half is for ``evaluate``. What is shipped is what was tested.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from models.artifact import Manifest, versions
from models.bbmm.export import export
from models.bbmm.features import FloatArray, LocationErrors, Track
from models.bbmm.heldout import DAY_S, Case, Hidden, Recorded, coverage, halves, hide, read_cases
from models.bbmm.runtime import GENERIC, Calibration
from models.bbmm.variance import Residuals, motion_variance, residuals
from shared.errors import Invalid

HOUR_S: Final = 3_600.0
#: Upper ends of the classes of gaps.
UP_TO_GAP_S: Final = np.array([1.5, 3.0, 6.0, 9.0, 24.0]) * HOUR_S
# Hidden fixes of one gap are much alike: a class with fewer of them takes the radii of the nearest class with enough.
_FEWEST_HIDDEN: Final = 1_000
# The reference fits assume it, and no track at hand tells otherwise: see the README.
_UNSTATED_ERROR_M: Final = 20.0
# Left-out fixes that share one variance while the location error is sought.
_STRETCH: Final = 6


class Made(NamedTuple):
    """A calibration, and the cases behind it with the number of fixes of each."""

    calibration: Calibration
    trained_on: list[tuple[Case, int]]


def calibrate(data: Path, version: int) -> list[Made]:
    """Return a calibration for each species at hand and the generic one, which is the mean of theirs.

    Raises Invalid where the folder has no known track.
    """
    cases = read_cases(data)
    if not cases:
        raise Invalid(f"{data}: none of the track files that the calibration knows is here")
    errors = LocationErrors(unstated_m=_UNSTATED_ERROR_M, per_hdop_m=per_hdop_m([recorded for _, recorded in cases]))
    made = []
    for model in dict.fromkeys(case.model for case, _ in cases):
        of_model = [(case, halves(recorded.track(errors))[0]) for case, recorded in cases if case.model == model]
        made.append(
            Made(_calibration(model, version, errors, of_model), [(case, len(track)) for case, track in of_model])
        )
    species = [one.calibration for one in made]
    generic = Calibration(
        name=GENERIC,
        version=version,
        errors=errors,
        variance_m2_per_s=float(np.median([one.variance_m2_per_s for one in species])),
        max_gap_s=DAY_S,
        up_to_gap_s=UP_TO_GAP_S,
        radius_50=np.mean([one.radius_50 for one in species], axis=0),
        radius_95=np.mean([one.radius_95 for one in species], axis=0),
    )
    return [*made, Made(generic, [case for one in made for case in one.trained_on])]


def train(data: Path, folder: Path, *, version: int | None = None) -> list[Manifest]:
    """Calibrate on the tracks in ``data`` and write artefacts into ``folder``, by default as its next version."""
    cases = read_cases(data)
    number = version if version is not None else max([0, *versions(folder, "bbmm")]) + 1
    written = []
    for calibration, trained_on in calibrate(data, number):
        metrics: dict[str, float] = {}
        for row in coverage(
            [(case, one) for case, one in cases if calibration.name in (case.model, GENERIC)], calibration
        ):
            if row.individual is None:
                metrics |= {f"coverage_50_{row.gaps}": row.covered_50, f"coverage_95_{row.gaps}": row.covered_95}
        written.append(export(folder, calibration, trained_on, metrics))
    return written


def per_hdop_m(recorded: list[Recorded]) -> float | None:
    """Return the location error of one unit of HDOP: the median over the individuals that state it, None without one.

    The variance may differ between stretches of six fixes and the error may not: what is left when an animal rests is
    the error. It is an upper bound, since an animal at rest still moves a little.
    """
    ladder = np.geomspace(0.5, 15.0, 24)
    best = []
    for one in recorded:
        track, _ = halves(one.track(LocationErrors(unstated_m=1.0, per_hdop_m=1.0, floor_m=0.1)))
        if not np.isfinite(one.hdop).mean() > 0.5:
            continue
        likelihoods = [_stretches(_with_errors(track, track.error_m * rung)) for rung in ladder]
        best.append(float(ladder[int(np.argmax(likelihoods))]))
    return float(np.median(best)) if best else None


def _calibration(model: str, version: int, errors: LocationErrors, cases: list[tuple[Case, Track]]) -> Calibration:
    variance = float(np.median([motion_variance(track, max_gap_s=DAY_S).variance_m2_per_s for _, track in cases]))
    hidden = [hide(track, every, variance) for case, track in cases for every in case.keep_every]
    inner, outer = radii(hidden)
    return Calibration(
        name=model,
        version=version,
        errors=errors,
        variance_m2_per_s=variance,
        max_gap_s=DAY_S,
        up_to_gap_s=UP_TO_GAP_S,
        radius_50=inner,
        radius_95=outer,
    )


def radii(hidden: list[Hidden]) -> tuple[FloatArray, FloatArray]:
    """Return the radii of 50 and 95 % of each class of gaps, in standard deviations; gaps above a day do not count."""
    gap_s = np.concatenate([one.gap_s for one in hidden])
    distance_sd = np.concatenate([one.distance_sd for one in hidden])[gap_s <= DAY_S]
    gap_s = gap_s[gap_s <= DAY_S]
    which = np.searchsorted(UP_TO_GAP_S, gap_s)
    counts = np.bincount(which, minlength=UP_TO_GAP_S.size)
    enough = np.flatnonzero(counts >= min(_FEWEST_HIDDEN, int(counts.max())))
    found = []
    for number in range(UP_TO_GAP_S.size):
        nearest = enough[np.abs(enough - number).argmin()]
        found.append(np.quantile(distance_sd[which == nearest], (0.5, 0.95)))
    inner, outer = np.array(found).T
    return inner, outer


def _stretches(found: Residuals) -> float:
    ladder = np.concatenate(([1e-7], np.geomspace(1e-4, 1e3, 60)))
    whole = found.fixes.size // _STRETCH * _STRETCH
    spread = found.per_variance_s[:whole, None] * ladder + found.added_m2[:whole, None]
    likelihood = -np.log(spread) - found.squared_m2[:whole, None] / (2 * spread)
    return float(likelihood.reshape(-1, _STRETCH, ladder.size).sum(axis=1).max(axis=1).sum())


def _with_errors(track: Track, error_m: FloatArray) -> Residuals:
    found = residuals(
        Track(times_s=track.times_s, x_m=track.x_m, y_m=track.y_m, error_m=error_m),
        DAY_S,
    )
    # The fix that is left out has an error of its own; the bridge does not know it, the distance does.
    own_m2 = error_m[found.fixes.astype(np.int64)] ** 2
    return Residuals(found.fixes, found.per_variance_s, found.added_m2 + own_m2, found.squared_m2)
