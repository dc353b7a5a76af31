"""Where an animal went between its fixes: the likely path, and occurrence drawn as a map that tiles are cut from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import numpy as np
import numpy.typing as npt

from models.bbmm.features import Frame, frame_for, track_of
from models.bbmm.runtime import Grid, Occurrence, Utilisation, bridges_of, path_at, variances
from models.live import maps
from models.live.runtime import Fixes, Models
from models.live.telling import columns_of
from shared import insight
from shared.domain import Fix
from shared.errors import Invalid, ModelUnavailable
from shared.sync.records import from_ms


class DrawnMap(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Occurrence of one animal, drawn: what tiles are cut from."""

    answer: insight.Occurrence
    levels: npt.NDArray[np.uint8]
    grid: Grid
    frame: Frame


def likely_path(models: Models, species: str | None, fixes: Sequence[Fix], points: int) -> insight.LikelyPath:
    """Return ``points`` instants evenly over the fixes, those in gaps left out; raises ModelUnavailable."""
    if points < 2:
        raise Invalid("points: a path has at least 2")
    calibration = models.calibration(species)
    if len(fixes) < 2:
        raise ModelUnavailable("there is no path yet: fewer than two fixes")
    columns = columns_of(fixes)
    frame = frame_for(columns.lon_deg, columns.lat_deg)
    track = track_of(
        columns.times_s, columns.lon_deg, columns.lat_deg, frame, calibration.errors, h_acc_m=columns.h_acc_m,
        hdop=columns.hdop,
    )  # fmt: skip
    found = path_at(track, np.linspace(columns.times_s[0], columns.times_s[-1], points), calibration)
    is_there = np.isfinite(found.x_m)
    lon, lat = frame.to_degrees(found.x_m[is_there], found.y_m[is_there])
    rows = zip(
        found.times_s[is_there].tolist(), lon.tolist(), lat.tolist(), found.sd_m[is_there].tolist(),
        found.radius_50_m[is_there].tolist(), found.radius_95_m[is_there].tolist(), strict=True,
    )  # fmt: skip
    return insight.LikelyPath(
        points=[
            insight.PathPoint(
                at=from_ms(round(at_s * 1000)), lon_deg=round(x, 7), lat_deg=round(y, 7), sd_m=sd_m,
                radius_50_m=inner_m, radius_95_m=outer_m,
            )
            for at_s, x, y, sd_m, inner_m, outer_m in rows
        ],
        model=f"{calibration.name} {calibration.version}",
    )  # fmt: skip


def drawn_map(found: Occurrence, frame: Frame, *, since: datetime, until: datetime, model: str) -> DrawnMap:
    """Return occurrence with its answer and its levels."""
    answer = maps.answer_of(found, frame, since=since, until=until, model=model)
    return DrawnMap(answer=answer, levels=found.levels(), grid=found.grid, frame=frame)


def drawn_of(models: Models, species: str | None, fixes: Sequence[Fix]) -> DrawnMap:
    """Return occurrence over usable fixes, drawn; raises ModelUnavailable where there are too few."""
    if len(fixes) < 2:
        raise ModelUnavailable("there is no occurrence yet: fewer than two usable fixes")
    return drawn_from(models, species, columns_of(fixes), since=fixes[0].recorded_at, until=fixes[-1].recorded_at)


def drawn_from(models: Models, species: str | None, columns: Fixes, *, since: datetime, until: datetime) -> DrawnMap:
    """Return where an animal was between its fixes, drawn; raises ModelUnavailable where there are too few."""
    calibration = models.calibration(species)
    if len(columns) < 2:
        raise ModelUnavailable("there is no occurrence yet: fewer than two usable fixes")
    box = maps.corners(
        float(columns.lon_deg.min()), float(columns.lat_deg.min()), float(columns.lon_deg.max()),
        float(columns.lat_deg.max()),
    )  # fmt: skip
    frame = frame_for(*box)
    used = Utilisation(frame, maps.cell_m_for(frame.to_metres(*box)))
    track = track_of(
        columns.times_s, columns.lon_deg, columns.lat_deg, frame, calibration.errors, h_acc_m=columns.h_acc_m,
        hdop=columns.hdop,
    )  # fmt: skip
    variance = variances(track, calibration.variance_m2_per_s, calibration.max_gap_s)
    used.add(bridges_of(track, variance, calibration.max_gap_s))
    return drawn_map(
        used.occurrence(), frame, since=since, until=until, model=f"{calibration.name} {calibration.version}"
    )
