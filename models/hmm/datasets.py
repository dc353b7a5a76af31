"""The track files that the defaults are trained on, by name; their fixes as arrays, judged by the quality rules."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.hmm.features import FloatArray, IntArray
from shared.errors import Invalid
from shared.movement.quality import Judged, judge, limits_for
from shared.movement.tracks import TrackRow, good_rows


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A published set of tracks; ``file`` is its name in the data folder."""

    file: str
    licence: str
    citation: str


class Trajectory(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The fixes of one individual: seconds since 1970, WGS 84 degrees (NaN where none), quality flags; each (n,)."""

    individual: str
    species: str
    times_s: FloatArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    flags: IntArray
    label: FloatArray | None = None


DATASETS: Final = (
    Dataset(
        file="elephant_wall2014_movebank.csv",
        licence="CC0-1.0",
        citation="Wall et al. 2014, doi:10.5441/001/1.f321pf80",
    ),
    Dataset(
        file="elephant_etosha_getz2010.csv",
        licence="CC0-1.0 (published study); distributed with stmove, GPL-3",
        citation="Tsalyuk et al. 2018, doi:10.5441/001/1.3nj3qj45",
    ),
    Dataset(
        file="wildebeest_mara_stabach.csv",
        licence="CC0-1.0",
        citation="Stabach et al. 2020, doi:10.5441/001/1.h0t27719",
    ),
    Dataset(
        file="buffalo_kruger_cross2016.csv",
        licence="Movebank Data Repository; distributed with ctmm, GPL-3",
        citation="Cross et al. 2016, doi:10.5441/001/1.j900f88t",
    ),
    Dataset(
        file="buffalo_Wniger_activity.csv",
        licence="distributed with adehabitatLT, GPL-2 or later",
        citation="Cornelis et al., W National Park, Niger",
    ),
    Dataset(
        file="coyote_cougar_utah_mahoney2016.csv",
        licence="Movebank Data Repository",
        citation="Mahoney et al. 2016, handle 10255/move.590",
    ),
    Dataset(
        file="reddeer_amt.csv", licence="distributed with amt, GPL-3", citation="Verein fuer Wildtierforschung, in amt"
    ),
)


def trajectories(path: Path, label_column: str | None = None) -> list[Trajectory]:
    """Return the trajectories of a track file, by individual; ``label_column`` names a number to carry along.

    Raises Invalid where the file cannot be read.
    """
    by_individual: dict[str, list[TrackRow]] = {}
    for row in good_rows(path):
        by_individual.setdefault(row.individual, []).append(row)
    labels = _labels(path, label_column) if label_column else {}
    return [_trajectory(name, rows, labels) for name, rows in sorted(by_individual.items())]


def _trajectory(name: str, rows: list[TrackRow], labels: dict[int, float]) -> Trajectory:
    species = rows[0].species or ""
    judged = [
        Judged(
            id=row.line.to_bytes(8, "big"),
            time_ms=_ms(row),
            raw_ms=_ms(row),
            lon_e7=None if row.lon_deg is None else round(row.lon_deg * 1e7),
            lat_e7=None if row.lat_deg is None else round(row.lat_deg * 1e7),
            hdop=row.extras.get("hdop"),
            pdop=row.extras.get("pdop"),
        )
        for row in rows
    ]
    nowhere = float("nan")
    return Trajectory(
        individual=name,
        species=species,
        times_s=np.array([fix.time_ms / 1000 for fix in judged]),
        lon_deg=np.array([nowhere if row.lon_deg is None else row.lon_deg for row in rows]),
        lat_deg=np.array([nowhere if row.lat_deg is None else row.lat_deg for row in rows]),
        flags=np.array(judge(judged, limits_for(species)), dtype=np.int64),
        label=np.array([labels.get(row.line, nowhere) for row in rows]) if labels else None,
    )


def _ms(row: TrackRow) -> int:
    return round(row.recorded_at.timestamp() * 1000)


def _labels(path: Path, column: str) -> dict[int, float]:
    labels: dict[int, float] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if column not in (reader.fieldnames or ()):
            raise Invalid(f"{path}: no column {column}")
        for row in reader:
            try:
                labels[reader.line_num] = float(row[column])
            except ValueError:
                continue
    return labels
