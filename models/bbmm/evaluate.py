"""The bridge beside reference programs, on the same rows, and on fixes that it was not shown.

The reference figures are those of adehabitatHR (``liker``, ``kernelbb``) and move (dynamic variance, window 31, margin
11), as ``bbmm.json``, ``dbbmm.json`` and ``bbmm_numpy_crosscheck.json`` in the reference folder have them.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from models.bbmm.density import bridges_of, grid_around, occurrence_of
from models.bbmm.features import LocationErrors
from models.bbmm.heldout import Coverage, Recorded, coverage, read, read_cases
from models.bbmm.runtime import load_calibration
from models.bbmm.variance import dynamic_variance, motion_variance
from shared.errors import Invalid
from shared.movement.tracks import parse_instant

_ERROR_M: Final = 20.0
# The margin of the reference grids.
_MARGIN_M: Final = 3_000.0


class _Case(msgspec.Struct, frozen=True):
    name: str
    file: str
    individual: str
    begin: str
    end: str
    cell_m: float


_WHOLE: Final = ("1990-01-01", "2030-01-01")
_CASES: Final = (
    _Case("salif_2008_04", "elephant_wall2014_movebank.csv", "Salif Keita", "2008-04-01", "2008-05-01", 200.0),
    _Case("habiba_all", "elephant_wall2014_movebank.csv", "Habiba", *_WHOLE, 100.0),
    _Case("cilla_all", "buffalo_kruger_cross2016.csv", "Cilla", *_WHOLE, 200.0),
    _Case("buf_Wniger", "buffalo_Wniger_activity.csv", "buf", *_WHOLE, 100.0),
    _Case("naboisho_2011_01", "wildebeest_mara_stabach.csv", "Naboisho", "2011-01-01", "2011-02-01", 200.0),
)


class AgainstReference(msgspec.Struct, frozen=True, kw_only=True):
    """One data set; areas in km2 are those of the reference's sigma; deviations are shares of the reference."""

    data_set: str
    fixes: int
    fixes_dropped: int
    cell_m: float
    location_error_m: float
    sigma: float
    sigma_every_second: float
    sigma_reference: float
    sigma_deviation: float
    area_95_km2: float
    area_95_deviation: float
    area_50_km2: float
    area_50_deviation: float
    mass_on_grid: float
    occurrence_s: float
    dynamic_median_m2_per_min: float
    dynamic_deviation: float | None
    dynamic_s: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    against_reference: list[AgainstReference]
    coverage: list[Coverage]


def evaluate(data: Path, reference: Path) -> Evaluation:
    """Return the figures for the tracks in ``data`` and the reference results in ``reference``.

    Raises Invalid where neither has anything to compare.
    """
    rows = _against_reference(data, reference / "models" if (reference / "models").is_dir() else reference)
    covered = [row for model, cases in _by_model(data).items() for row in coverage(cases, load_calibration(model))]
    if not rows and not covered:
        raise Invalid(f"{data}: none of the tracks that the bridge is measured on is here")
    return Evaluation(against_reference=rows, coverage=covered)


def report(found: Evaluation) -> str:
    """Return the tables in Markdown, as the README has them."""
    header = (
        "| data set | fixes | cell m | sigma | reference | deviation | every second | 95 % km2 | 50 % km2 | mass | s "
        "| dynamic median m2/min | deviation |"
    )
    lines = [
        header,
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in found.against_reference:
        dynamic = "-" if row.dynamic_deviation is None else f"{row.dynamic_deviation:+.2%}"
        lines.append(
            f"| {row.data_set} | {row.fixes} | {row.cell_m:g} | {row.sigma:.3f} | {row.sigma_reference:.3f} "
            f"| {row.sigma_deviation:+.2%} | {row.sigma_every_second:.3f} "
            f"| {row.area_95_km2:.2f} ({row.area_95_deviation:+.2%}) "
            f"| {row.area_50_km2:.2f} ({row.area_50_deviation:+.2%}) "
            f"| {row.mass_on_grid:.4f} | {row.occurrence_s:.2f} | {row.dynamic_median_m2_per_min:.1f} | {dynamic} |"
        )
    lines += [
        "",
        "| species | gaps | hidden | median m | 50 % | 95 % | Gaussian 50 % | 95 % | one variance 50 % | 95 % |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in found.coverage:
        if one.individual is None:
            shares = (
                one.covered_50,
                one.covered_95,
                one.gaussian_50,
                one.gaussian_95,
                one.one_variance_gaussian_50,
                one.one_variance_gaussian_95,
            )
            cells = " | ".join(f"{share:.3f}" for share in shares)
            lines.append(f"| {one.model} | {one.gaps} | {one.hidden} | {one.median_m:.0f} | {cells} |")
    return "\n".join(lines)


def _by_model(data: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for case, recorded in read_cases(data):
        found.setdefault(case.model, []).append((case, recorded))
    return found


def _against_reference(data: Path, reference: Path) -> list[AgainstReference]:
    if not (reference / "bbmm_numpy_crosscheck.json").is_file():
        return []
    static = msgspec.json.decode((reference / "bbmm_numpy_crosscheck.json").read_bytes())
    exact = msgspec.json.decode((reference / "bbmm.json").read_bytes())
    dynamic = msgspec.json.decode((reference / "dbbmm.json").read_bytes())
    rows = []
    for case in _CASES:
        if case.name in static and (data / case.file).is_file():
            recorded = read(data / case.file, [case.individual]).get(case.individual)
            if recorded is not None:
                sigma = exact.get(case.name, {}).get("adehabitat_liker", {}).get("sig1")
                rows.append(_row(case, recorded, static[case.name], sigma, dynamic.get(case.name)))
    return rows


def _row(
    case: _Case, recorded: Recorded, reference: dict[str, Any], sigma: float | None, dynamic: dict[str, Any] | None
) -> AgainstReference:
    begin, end = (parse_instant(text).timestamp() for text in (case.begin, case.end))
    is_in = (recorded.times_s >= begin) & (recorded.times_s < end)
    columns = (recorded.times_s, recorded.lon_deg, recorded.lat_deg, recorded.hdop)
    times_s, lon_deg, lat_deg, hdop = (column[is_in] for column in columns)
    part = Recorded(times_s=times_s, lon_deg=lon_deg, lat_deg=lat_deg, hdop=hdop)
    track = part.track(LocationErrors(unstated_m=_ERROR_M))
    sigma_reference = sigma if sigma is not None else float(reference["sig1_adehabitat"])
    every, second = motion_variance(track), motion_variance(track, left_out="second")
    began = time.perf_counter()
    grid = grid_around(track, case.cell_m, _MARGIN_M)
    occurrence = occurrence_of(bridges_of(track, sigma_reference**2), grid, fixes_dropped=track.dropped)
    occurrence_s = time.perf_counter() - began
    began = time.perf_counter()
    median = float(np.nanmedian(dynamic_variance(track))) * 60
    dynamic_s = time.perf_counter() - began
    wanted = None if dynamic is None else float(dynamic["motion_variance_m2_per_min_quantiles"]["50%"])
    area_95, area_50 = occurrence.area_km2(0.95), occurrence.area_km2(0.5)
    return AgainstReference(
        data_set=case.name,
        fixes=len(track),
        fixes_dropped=track.dropped,
        cell_m=case.cell_m,
        location_error_m=_ERROR_M,
        sigma=math.sqrt(every.variance_m2_per_s),
        sigma_every_second=math.sqrt(second.variance_m2_per_s),
        sigma_reference=sigma_reference,
        sigma_deviation=math.sqrt(every.variance_m2_per_s) / sigma_reference - 1,
        area_95_km2=area_95,
        area_95_deviation=area_95 / float(reference["area95_adehabitat"]) - 1,
        area_50_km2=area_50,
        area_50_deviation=area_50 / float(reference["area50_adehabitat"]) - 1,
        mass_on_grid=occurrence.mass_on_grid,
        occurrence_s=occurrence_s,
        dynamic_median_m2_per_min=median,
        dynamic_deviation=None if wanted is None else median / wanted - 1,
        dynamic_s=dynamic_s,
    )
