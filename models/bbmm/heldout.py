"""Hidden fixes: how often the animal was inside the region that the bridge drew for it.

Of a track every k-th fix is kept and the others are hidden; variance, path and width come from the kept ones alone. Of
each hidden fix the distance from the path is noted, in standard deviations of the bridge there. The radius that holds
half of these distances is the one that a region of 50 % should have. The first half of each track, by fixes, is for
measuring radii, the second for testing them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.bbmm.density import bridges_of, positions_at
from models.bbmm.features import FloatArray, Frame, LocationErrors, Track, frame_for, track_of
from models.bbmm.runtime import GAUSSIAN_50, GAUSSIAN_95, Calibration, gaps_at, variances
from shared.movement.tracks import good_rows

DAY_S: Final = 86_400.0

_CC0: Final = "CC0 1.0"
_WALL: Final = "Wall J et al. 2014 Methods Ecol Evol doi:10.1111/2041-210X.12218, data doi:10.5441/001/1.f321pf80"
_TSALYUK: Final = "Tsalyuk M et al. 2018, data doi:10.5441/001/1.3nj3qj45, as in the R package stmove"
_CROSS: Final = "Cross PC et al. 2016 doi:10.5441/001/1.j900f88t, as in the R package ctmm"
_CORNELIS: Final = "Cornelis D et al., W National Park, as in the R package adehabitatLT"
_STABACH: Final = "Stabach JA et al. 2020 doi:10.5441/001/1.h0t27719"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """An individual of a data set, and how its track is thinned: every 2nd, 4th, ... fix is kept."""

    model: str
    file: str
    individual: str
    keep_every: tuple[int, ...]
    licence: str
    citation: str


def _cases(model: str, file: str, names: str, keep_every: tuple[int, ...], licence: str, citation: str) -> list[Case]:
    return [
        Case(model=model, file=file, individual=name, keep_every=keep_every, licence=licence, citation=citation)
        for name in names.split(",")
    ]


CASES: Final = (
    *_cases("elephant", "elephant_wall2014_movebank.csv", "Salif Keita", (2, 4, 8), _CC0, _WALL),
    *_cases("elephant", "elephant_wall2014_movebank.csv", "Habiba", (2, 4, 8, 16), _CC0, _WALL),
    *_cases("elephant", "elephant_etosha_getz2010.csv", "AG195,AG268", (3, 6, 12, 24), "GPL-3 package", _TSALYUK),
    *_cases("buffalo", "buffalo_kruger_cross2016.csv", "Cilla,Gabs,Mvubu,Pepper", (2, 4, 8), "GPL-3 package", _CROSS),
    *_cases("buffalo", "buffalo_Wniger_activity.csv", "buf", (2, 4, 8, 16), "GPL >= 2 package", _CORNELIS),
    *_cases("wildebeest", "wildebeest_mara_stabach.csv", "Naboisho,Nagol,Naserian,Fifteen", (2, 4, 8), _CC0, _STABACH),
)


class Recorded(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Fixes of one individual as its file has them, arrays (n,); HDOP is NaN where it is not stated."""

    times_s: FloatArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    hdop: FloatArray

    def track(self, errors: LocationErrors, frame: Frame | None = None) -> Track:
        """Return the track in metres, in the frame that suits it if none is given."""
        chosen = frame or frame_for(self.lon_deg, self.lat_deg)
        return track_of(self.times_s, self.lon_deg, self.lat_deg, chosen, errors, hdop=self.hdop)


def read(path: Path, individuals: Sequence[str]) -> dict[str, Recorded]:
    """Return the positions of some individuals of a track file; one that is not in it is not in the answer."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for row in good_rows(path):
        if row.individual in individuals and row.lon_deg is not None and row.lat_deg is not None:
            fix = (row.recorded_at.timestamp(), row.lon_deg, row.lat_deg, float(row.extras.get("hdop", np.nan)))
            found.setdefault(row.individual, []).append(fix)
    columns = {name: np.array(fixes, dtype=np.float64).T for name, fixes in found.items()}
    return {name: Recorded(times_s=t, lon_deg=x, lat_deg=y, hdop=h) for name, (t, x, y, h) in columns.items()}


def read_cases(data: Path) -> list[tuple[Case, Recorded]]:
    """Return the cases whose tracks are in the folder, those with too few fixes to be halved left out."""
    found = []
    for file in dict.fromkeys(case.file for case in CASES):
        if not (data / file).is_file():
            continue
        of_file = [case for case in CASES if case.file == file]
        recorded = read(data / file, [case.individual for case in of_file])
        found += [(case, recorded[case.individual]) for case in of_file if case.individual in recorded]
    return [(case, recorded) for case, recorded in found if recorded.times_s.size >= _FEWEST_FIXES]


_FEWEST_FIXES: Final = 200


class Hidden(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Of each hidden fix, (k,): its distance from the path in metres and in standard deviations, and its gap."""

    distance_m: FloatArray
    distance_sd: FloatArray
    gap_s: FloatArray


def hide(track: Track, keep_every: int, otherwise_m2_per_s: float, *, is_dynamic: bool = True) -> Hidden:
    """Keep every k-th fix of a track and measure how far the others lie from the path."""
    is_kept = np.arange(len(track)) % keep_every == 0
    kept = Track(
        times_s=track.times_s[is_kept],
        x_m=track.x_m[is_kept],
        y_m=track.y_m[is_kept],
        error_m=track.error_m[is_kept],
    )
    variance = variances(kept, otherwise_m2_per_s, DAY_S, is_dynamic=is_dynamic)
    bridges = bridges_of(kept, variance)
    at_s = track.times_s[~is_kept]
    found = positions_at(bridges, at_s)
    distance_m = np.hypot(track.x_m[~is_kept] - found.x_m, track.y_m[~is_kept] - found.y_m)
    is_known = np.isfinite(distance_m)
    gap_s = gaps_at(bridges, at_s)
    return Hidden(
        distance_m=distance_m[is_known],
        distance_sd=(distance_m / found.sd_m)[is_known],
        gap_s=gap_s[is_known],
    )


def halves(track: Track) -> tuple[Track, Track]:
    """Return the earlier and the later half of a track, by fixes."""
    middle = len(track) // 2
    return track.part(slice(0, middle)), track.part(slice(middle, None))


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of hidden fixes of later halves inside the regions, by measured radius and by the Gaussian one.

    ``gaps`` is the class of the kept gaps; ``individual`` is None where all of a model count together.
    """

    model: str
    individual: str | None
    gaps: str
    hidden: int
    median_m: float
    covered_50: float
    covered_95: float
    gaussian_50: float
    gaussian_95: float
    one_variance_gaussian_50: float
    one_variance_gaussian_95: float


def coverage(cases: Sequence[tuple[Case, Recorded]], calibration: Calibration) -> list[Coverage]:
    """Return the coverage of each class of gaps, each individual by itself and then all together."""
    found = []
    for case, recorded in cases:
        later = halves(recorded.track(calibration.errors))[1]
        for every in case.keep_every:
            dynamic, single = (
                hide(later, every, calibration.variance_m2_per_s, is_dynamic=is_dynamic) for is_dynamic in (True, False)
            )
            found.append((case.individual, dynamic, single))
    names = [*dict.fromkeys(name for name, _, _ in found), None]
    rows = []
    for name in names:
        of_name = [(dynamic, single) for individual, dynamic, single in found if name in (individual, None)]
        dynamic, single = (_joined([pair[place] for pair in of_name]) for place in (0, 1))
        bounds = [0.0, *calibration.up_to_gap_s.tolist(), np.inf]
        for low, high in itertools.pairwise(bounds):
            is_in = (dynamic.gap_s > low) & (dynamic.gap_s <= high)
            if not is_in.any():
                continue
            inner, outer = calibration.multiples(dynamic.gap_s[is_in])
            far, far_single = dynamic.distance_sd[is_in], single.distance_sd[is_in]
            rows.append(
                Coverage(
                    model=calibration.name,
                    individual=name,
                    gaps=f"{low / 3600:g}-{high / 3600:g} h" if np.isfinite(high) else f"over {low / 3600:g} h",
                    hidden=int(is_in.sum()),
                    median_m=float(np.median(dynamic.distance_m[is_in])),
                    covered_50=float((far <= inner).mean()),
                    covered_95=float((far <= outer).mean()),
                    gaussian_50=float((far <= GAUSSIAN_50).mean()),
                    gaussian_95=float((far <= GAUSSIAN_95).mean()),
                    one_variance_gaussian_50=float((far_single <= GAUSSIAN_50).mean()),
                    one_variance_gaussian_95=float((far_single <= GAUSSIAN_95).mean()),
                )
            )
    return rows


def _joined(parts: Sequence[Hidden]) -> Hidden:
    return Hidden(
        distance_m=np.concatenate([one.distance_m for one in parts]),
        distance_sd=np.concatenate([one.distance_sd for one in parts]),
        gap_s=np.concatenate([one.gap_s for one in parts]),
    )
