"""Movebank's event data as CSV, both ways, and its reference data (deployments) beside it.

Event data have one row an event. ``timestamp`` is ``yyyy-MM-dd HH:mm:ss.SSS`` and UTC by Movebank's own definition.
A row of a GPS sensor with empty coordinates is a fix that failed. Rows are never deleted; ``visible`` sums up what is
to be left out::

    ours                                         Movebank's
    EXCLUDED_BY_HAND                         <-> manually-marked-outlier
    REINSTATED                               <-> manually-marked-valid
    any rule that excludes, but NO_FIX        -> algorithm-marked-outlier
    EXCLUDED_BY_HAND                         <-  import-marked-outlier; and algorithm-marked-outlier or visible=false
                                                 alone, where our own rules find nothing after the import

``event-id`` is made from what makes the row itself, so the same row has the same number in every export. Rows of other
sensors (acceleration, Argos) are no fixes of a collar's receiver and are passed over, with a count.

Reference data have one row a deployment. A date without a time begins a deployment at its first instant and ends one at
its last, in UTC as everything in Movebank.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final, TextIO

import msgspec

from shared.domain import EXCLUDING, FixFlag, Gender
from shared.exchange.rows import TrackFix, degrees, number
from shared.exchange.times import instant, iso_text
from shared.movement.tracks import BadRow, Rows, TrackRow, csv_rows, extra_cells, place_cells, text_cell

REQUIRED: Final = ("timestamp", "location-long", "location-lat")
REQUIRED_REFERENCE: Final = ("animal-id", "tag-id")
GPS: Final = "gps"
#: What a fix says beside time and place. Our height does not say above what, so it leaves as Movebank's raw one.
_EXTRAS: Final = {
    "alt_m": "height-raw", "battery_pct": "battery-charge-percent", "temperature_c": "external-temperature",
    "hdop": "gps:hdop", "pdop": "gps:pdop", "sats": "gps:satellite-count", "speed_mps": "ground-speed",
    "heading_deg": "heading", "h_acc_m": "location-error-numerical", "seq": "sequence-number",
    "battery_mv": "tag-voltage",
}  # fmt: skip
_NUMBERS: Final = {
    "height-above-ellipsoid": "alt_m", "height-above-msl": "alt_m", "height-above-mean-sea-level": "alt_m",
    **{theirs: ours for ours, theirs in _EXTRAS.items()}, "internal-temperature": "temperature_c",
}  # fmt: skip
COLUMNS: Final = (
    "event-id", "visible", "timestamp", "location-long", "location-lat", "algorithm-marked-outlier",
    "battery-charge-percent", "external-temperature", "gps:hdop", "gps:pdop", "gps:satellite-count", "ground-speed",
    "heading", "height-raw", "import-marked-outlier", "location-error-numerical", "manually-marked-outlier",
    "manually-marked-valid", "sequence-number", "tag-voltage", "sensor-type", "individual-taxon-canonical-name",
    "tag-local-identifier", "individual-local-identifier", "study-name",
)  # fmt: skip
REFERENCE_COLUMNS: Final = (
    "tag-id", "animal-id", "animal-taxon", "deploy-on-date", "deploy-off-date", "animal-sex", "deployment-comments",
    "deployment-id", "tag-model",
)  # fmt: skip
_SEXES: Final[Mapping[str, Gender]] = {"m": "male", "f": "female", "u": "unknown"}
_BY_RULE: Final = EXCLUDING & ~(FixFlag.NO_FIX | FixFlag.EXCLUDED_BY_HAND)
_STANDS_FOR: Final = "animal:"
_DAY: Final = timedelta(days=1)


class OtherSensor(msgspec.Struct, frozen=True):
    """A row of a sensor that takes no fixes."""

    line: int
    sensor: str


class DeploymentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of reference data, inwards (``line``) or outwards; an open end is None."""

    line: int = 0
    collar_id: str
    individual: str
    species: str | None
    gender: Gender = "unknown"
    started_at: datetime | None
    ended_at: datetime | None
    notes: str | None = None
    identity: str = ""
    model: str | None = None


# --- event data
def read(path: Path, zone: tzinfo | None = None) -> Iterator[TrackRow | BadRow | OtherSensor]:
    """Yield the rows of event data as they are read; raises Invalid when ``path`` holds none.

    ``zone`` is for a person who knows that the times of this file are not UTC, as Movebank's are.
    """
    rows = Rows(path)
    for line, row in csv_rows(path, REQUIRED):
        if isinstance(row, str):
            yield BadRow(line, row)
            continue
        sensor = (row.get("sensor-type") or GPS).strip().lower()
        yield rows.read(event_row, line, row, zone or UTC) if sensor == GPS else OtherSensor(line, sensor)


def event_row(line: int, row: Mapping[str, str | None], zone: tzinfo) -> TrackRow:
    """Return what a row of event data says; raises ValueError naming the column."""
    individual = text_cell(row, "individual-local-identifier")
    collar_id = text_cell(row, "tag-local-identifier")
    if individual is None and collar_id is None:
        raise ValueError("individual-local-identifier, tag-local-identifier: both are empty")
    if individual is None and collar_id is not None and collar_id.startswith(_STANDS_FOR):
        raise ValueError(f"tag-local-identifier: {_STANDS_FOR} stands for an animal, and the row names none")
    lon_deg, lat_deg = place_cells(row, "location-long", "location-lat")
    is_valid = _is_true(row, "manually-marked-valid")
    is_marked = _is_true(row, "manually-marked-outlier") or _is_true(row, "import-marked-outlier")
    is_doubted = _is_true(row, "algorithm-marked-outlier") or (row.get("visible") or "").strip().lower() == "false"
    return TrackRow(
        line=line,
        individual=individual or "",
        recorded_at=instant(row["timestamp"] or "", zone),
        lon_deg=lon_deg,
        lat_deg=lat_deg,
        species=text_cell(row, "individual-taxon-canonical-name"),
        collar_id=collar_id,
        extras=extra_cells(row, _NUMBERS),
        is_excluded=is_marked and not is_valid,
        is_reinstated=is_valid,
        is_doubted=is_doubted and not is_marked and not is_valid,
    )


def write(fixes: Iterable[TrackFix], file: TextIO, *, study: str) -> int:
    """Write ``fixes`` as event data of ``study`` and return how many there were."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    n = 0
    for n, fix in enumerate(fixes, 1):  # noqa: B007 - the count is the answer
        writer.writerow(_event(fix, study))
    return n


def _event(fix: TrackFix, study: str) -> list[str]:
    is_marked = bool(fix.flags & FixFlag.EXCLUDED_BY_HAND)
    is_valid = bool(fix.flags & FixFlag.REINSTATED) and not is_marked
    is_doubted = bool(fix.flags & _BY_RULE)
    tag = f"{_STANDS_FOR}{fix.individual}" if fix.collar_id.startswith(_STANDS_FOR) else fix.collar_id
    cells = {
        "event-id": _event_id(fix, tag),
        "visible": _word(is_valid or not (is_marked or is_doubted)),
        "timestamp": _timestamp(fix.recorded_ms),
        "location-long": "" if fix.lon_e7 is None else degrees(fix.lon_e7),
        "location-lat": "" if fix.lat_e7 is None else degrees(fix.lat_e7),
        "algorithm-marked-outlier": _word(True) if is_doubted else "",
        "import-marked-outlier": "",
        "manually-marked-outlier": _word(True) if is_marked else "",
        "manually-marked-valid": _word(True) if is_valid else "",
        "sensor-type": GPS,
        "individual-taxon-canonical-name": fix.species,
        "tag-local-identifier": tag,
        "individual-local-identifier": fix.individual,
        "study-name": study,
    }
    for ours, theirs in _EXTRAS.items():
        cells[theirs] = number(getattr(fix, ours))
    return [cells[name] for name in COLUMNS]


def _event_id(fix: TrackFix, tag: str) -> str:
    text = f"{fix.individual}\0{tag}\0{fix.recorded_ms}\0{fix.lon_e7}\0{fix.lat_e7}"
    return str(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1)


def _timestamp(ms: int) -> str:
    text = iso_text(ms).rstrip("Z").replace("T", " ")
    return text if "." in text else f"{text}.000"


def _word(value: bool) -> str:
    return "true" if value else "false"


def _is_true(row: Mapping[str, str | None], name: str) -> bool:
    return (row.get(name) or "").strip().lower() in ("true", "1")


# --- reference data
def read_reference(path: Path) -> Iterator[DeploymentRow | BadRow]:
    """Yield the deployments of reference data; raises Invalid when ``path`` holds none."""
    for line, row in csv_rows(path, REQUIRED_REFERENCE):
        if isinstance(row, str):
            yield BadRow(line, row)
            continue
        try:
            yield reference_row(line, row)
        except ValueError as error:
            yield BadRow(line, str(error))


def reference_row(line: int, row: Mapping[str, str | None]) -> DeploymentRow:
    """Return the deployment of a row; raises ValueError naming the column."""
    individual, collar_id = text_cell(row, "animal-id"), text_cell(row, "tag-id")
    if individual is None or collar_id is None:
        raise ValueError("animal-id, tag-id: a deployment needs both")
    started_at, ended_at = _date(row, "deploy-on"), _date(row, "deploy-off")
    if started_at is not None and ended_at is not None and ended_at <= started_at:
        raise ValueError("deploy-off-date: is not after deploy-on-date")
    return DeploymentRow(
        line=line,
        collar_id=collar_id,
        individual=individual,
        species=text_cell(row, "animal-taxon"),
        gender=_SEXES.get((row.get("animal-sex") or "u").strip().lower()[:1], "unknown"),
        started_at=started_at,
        ended_at=ended_at,
        notes=text_cell(row, "deployment-comments"),
        model=text_cell(row, "tag-model"),
    )


def write_reference(deployments: Iterable[DeploymentRow], file: TextIO) -> int:
    """Write reference data, one row a deployment, and return how many there were."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(REFERENCE_COLUMNS)
    n = 0
    for n, each in enumerate(deployments, 1):  # noqa: B007 - the count is the answer
        dates = (
            "" if at is None else _timestamp(round(at.timestamp() * 1000)) for at in (each.started_at, each.ended_at)
        )
        sex = "" if each.gender == "unknown" else each.gender[0]
        writer.writerow(
            (each.collar_id, each.individual, each.species, *dates, sex, each.notes, each.identity, each.model)
        )
    return n


def _date(row: Mapping[str, str | None], name: str) -> datetime | None:
    """Return an instant; a bare date is its first one for ``deploy-on`` and the first after it for ``deploy-off``."""
    for column in (f"{name}-date", f"{name}-timestamp"):
        text = (row.get(column) or "").strip()
        if text:
            found = instant(text, UTC, column=column)
            return found + _DAY if len(text) == len("yyyy-mm-dd") and name == "deploy-off" else found
    return None
