"""Tidy track files: ``individual,timestamp,lon,lat`` and what else a column may say, one row a fix, any size.

``timestamp`` is RFC 3339 with its offset, or ``YYYY-MM-DD HH:MM:SS[.fff]`` which is taken as UTC. Empty ``lon`` and
``lat`` are a failed fix: an event without geometry. Other columns are taken where their names are known and ignored
otherwise.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from shared.errors import Invalid

REQUIRED: Final = ("individual", "timestamp", "lon", "lat")
_NUMBERS: Final = {
    "altitude": "alt_m", "alt_m": "alt_m", "speed_mps": "speed_mps", "heading": "heading_deg",
    "heading_deg": "heading_deg", "hdop": "hdop", "pdop": "pdop", "sats": "sats", "battery_mv": "battery_mv",
    "temperature_c": "temperature_c",
}  # fmt: skip
_WHOLE: Final = frozenset({"sats", "battery_mv"})
_WHOLE_MAX: Final = 10**6


class TrackRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a track file; ``extras`` are columns of a fix by their names in ``NewFix``."""

    line: int
    individual: str
    recorded_at: datetime
    lon_deg: float | None
    lat_deg: float | None
    species: str | None
    collar_id: str | None
    extras: dict[str, float | int]


class BadRow(msgspec.Struct, frozen=True):
    """A row that cannot be a fix, and why."""

    line: int
    reason: str


def read_tracks(path: Path) -> Iterator[TrackRow | BadRow]:
    """Yield the rows of ``path`` as they are read; raises Invalid when it is no track file."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in REQUIRED if name not in _names(reader, path)]
            if missing:
                found = ascii(",".join(reader.fieldnames or ()))[:200] if reader.fieldnames else "an empty file"
                raise Invalid(f"{path}: no column {', '.join(missing)}; needed are {','.join(REQUIRED)}, found {found}")
            rows = iter(reader)
            while True:
                try:
                    row = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield BadRow(reader.reader.line_num, str(error))
                    continue
                try:
                    yield track_row(reader.line_num, row)
                except ValueError as error:
                    yield BadRow(reader.line_num, str(error))
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error


def good_rows(path: Path) -> Iterator[TrackRow]:
    """Yield the rows of ``path`` that can be fixes."""
    for row in read_tracks(path):
        if isinstance(row, TrackRow):
            yield row


def _names(reader: csv.DictReader[str], path: Path) -> Sequence[str]:
    try:
        return reader.fieldnames or ()
    except csv.Error as error:
        raise Invalid(f"{path}: its first line names no columns: {error}") from error


def track_row(line: int, row: Mapping[str, str | None]) -> TrackRow:
    """Return what a row by its columns says; raises ValueError naming the column."""
    individual, species, collar_id = (_text(row, name) for name in ("individual", "species", "collar_id"))
    if individual is None:
        raise ValueError("individual: is empty")
    lon_deg, lat_deg = _number(row, "lon"), _number(row, "lat")
    if (lon_deg is None) != (lat_deg is None):
        raise ValueError("lon, lat: one is given and the other is not")
    if lon_deg is not None and lat_deg is not None and not (abs(lon_deg) <= 180 and abs(lat_deg) <= 90):
        raise ValueError("lon, lat: out of range")
    extras: dict[str, float | int] = {}
    for name, column in _NUMBERS.items():
        value = _number(row, name)
        if value is not None:
            if column in _WHOLE and abs(value) > _WHOLE_MAX:
                raise ValueError(f"{name}: {value:g} is out of range")
            extras[column] = round(value) if column in _WHOLE else value
    return TrackRow(
        line=line,
        individual=individual,
        recorded_at=parse_instant(row["timestamp"] or ""),
        lon_deg=lon_deg,
        lat_deg=lat_deg,
        species=species,
        collar_id=collar_id,
        extras=extras,
    )


def parse_instant(text: str) -> datetime:
    """Return the aware UTC instant of an RFC 3339 text; without an offset it is UTC. Raises ValueError."""
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"timestamp: {text!r} is not YYYY-MM-DDTHH:MM:SSZ") from None
    try:
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"timestamp: {text!r} is beyond the calendar") from None


def _text(row: Mapping[str, str | None], name: str) -> str | None:
    text = (row.get(name) or "").strip()
    if not text.isprintable():
        raise ValueError(f"{name}: is not readable text")
    return text or None


def _number(row: Mapping[str, str | None], name: str) -> float | None:
    text = (row.get(name) or "").strip()
    if not text or text in {"NA", "NaN", "nan"}:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name}: {text!r} is no number") from None
    if not math.isfinite(value):
        raise ValueError(f"{name}: {text!r} is no number")
    return value
