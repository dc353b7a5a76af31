"""Tidy track files: ``individual,timestamp,lon,lat`` and what else a column may say, one row a fix, any size.

``timestamp`` is RFC 3339 with its offset, or ``YYYY-MM-DD HH:MM:SS[.fff]`` in the zone that the reader is told; an
import is told by a person, or refuses the file. Empty ``lon`` and ``lat`` are a failed fix: an event without geometry.
Other columns are taken where their names are known and ignored otherwise. Of ``flags`` counts what no rule can find
again: a person's decision, a clock that was never set, and that somebody else's rules took the fix out.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Concatenate, Final, ParamSpec

import msgspec

from shared.domain import EXCLUDING, FixFlag
from shared.errors import Invalid
from shared.exchange.times import NoZone, instant

P = ParamSpec("P")

REQUIRED: Final = ("individual", "timestamp", "lon", "lat")
_NUMBERS: Final = {
    "altitude": "alt_m", "alt_m": "alt_m", "speed_mps": "speed_mps", "heading": "heading_deg",
    "heading_deg": "heading_deg", "hdop": "hdop", "pdop": "pdop", "sats": "sats", "battery_mv": "battery_mv",
    "temperature_c": "temperature_c", "h_acc_m": "h_acc_m", "seq": "seq", "battery_pct": "battery_pct",
}  # fmt: skip
_WHOLE_MAX: Final = {"sats": 10**6, "battery_mv": 10**6, "seq": 2**53}
_FLAGS: Final = {str(flag.name).lower(): flag for flag in FixFlag}
#: Taken out elsewhere for a reason that may be missing here: the reception, the neighbours, the collar's number. A
#: copy's twin that is not in the file is no reason to take out the copy.
_DOUBT: Final = EXCLUDING & ~(FixFlag.NO_FIX | FixFlag.DUPLICATE | FixFlag.CLOCK_UNSET | FixFlag.EXCLUDED_BY_HAND)


class TrackRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a track file; ``extras`` are columns of a fix by their names in ``NewFix``.

    ``individual`` is empty for a fix that is known by its collar alone. ``is_excluded`` and ``is_reinstated`` are what
    a person decided, ``is_doubted`` what somebody else's rules found.
    """

    line: int
    individual: str
    recorded_at: datetime
    lon_deg: float | None
    lat_deg: float | None
    species: str | None
    collar_id: str | None
    extras: dict[str, float | int]
    is_clock_unset: bool = False
    is_excluded: bool = False
    is_reinstated: bool = False
    is_doubted: bool = False


class BadRow(msgspec.Struct, frozen=True):
    """A row that cannot be a fix, and why."""

    line: int
    reason: str


class Rows:
    """Turns rows into what they say or why not; refuses a file whose first row already lacks a time zone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._has_zone = False

    def read(
        self, parse: Callable[Concatenate[int, P], TrackRow], line: int, *args: P.args, **more: P.kwargs
    ) -> TrackRow | BadRow:
        """Return ``parse(line, ...)``, or its ValueError as a BadRow; raises Invalid where no row had a zone yet."""
        try:
            row = parse(line, *args, **more)
        except NoZone as error:
            if self._has_zone:
                return BadRow(line, str(error))
            raise Invalid(
                f"{self._path}: line {line}: {error}; say which it is: --timezone AREA/CITY, or --utc"
            ) from error
        except ValueError as error:
            return BadRow(line, str(error))
        self._has_zone = True
        return row


def read_tracks(path: Path, zone: tzinfo | None = UTC) -> Iterator[TrackRow | BadRow]:
    """Yield the rows of ``path`` as they are read; raises Invalid when it is no track file.

    ``zone`` is that of times which carry none; None refuses a file of such times.
    """
    rows = Rows(path)
    for line, row in csv_rows(path, REQUIRED):
        yield BadRow(line, row) if isinstance(row, str) else rows.read(track_row, line, row, zone)


def csv_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str | None] | str]]:
    """Yield line number and cells of each row of a CSV, or why it cannot be read; raises Invalid for other files.

    A last row that lacks cells and its line's end was cut off while it was copied: what its last cell says is no fact.
    """
    rows = _csv_rows(path, required)
    last = next(rows, None)
    if last is None:
        return
    for row in rows:
        yield last
        last = row
    line, cells = last
    is_cut = not isinstance(cells, str) and None in cells.values() and path.is_file() and not _ends_with_line(path)
    yield (line, "the file ends inside this row") if is_cut else last


def _ends_with_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) in b"\r\n"


def _csv_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str | None] | str]]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in required if name not in csv_names(reader, path)]
            if missing:
                found = ascii(",".join(reader.fieldnames or ()))[:200] if reader.fieldnames else "an empty file"
                raise Invalid(f"{path}: no column {', '.join(missing)}; needed are {','.join(required)}, found {found}")
            rows = iter(reader)
            while True:
                try:
                    row = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield reader.reader.line_num, str(error)
                    continue
                yield reader.reader.line_num, row
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error


def good_rows(path: Path) -> Iterator[TrackRow]:
    """Yield the rows of ``path`` that can be fixes."""
    for row in read_tracks(path):
        if isinstance(row, TrackRow):
            yield row


def csv_names(reader: csv.DictReader[str], path: Path) -> Sequence[str]:
    """Return the names of the columns; raises Invalid where the first line names none."""
    try:
        return reader.fieldnames or ()
    except csv.Error as error:
        raise Invalid(f"{path}: its first line names no columns: {error}") from error


def track_row(line: int, row: Mapping[str, str | None], zone: tzinfo | None = UTC) -> TrackRow:
    """Return what a row by its columns says; raises ValueError naming the column."""
    individual, species, collar_id = (text_cell(row, name) for name in ("individual", "species", "collar_id"))
    if individual is None:
        raise ValueError("individual: is empty")
    lon_deg, lat_deg = place_cells(row, "lon", "lat")
    flags = flags_called(row.get("flags"))
    return TrackRow(
        line=line,
        individual=individual,
        recorded_at=instant(row["timestamp"] or "", zone),
        lon_deg=lon_deg,
        lat_deg=lat_deg,
        species=species,
        collar_id=collar_id,
        extras=extra_cells(row, _NUMBERS),
        **flags,
    )


def flags_called(names: str | None) -> dict[str, bool]:
    """Return what of a list of flags by name an import keeps, as arguments of a TrackRow; unknown names are ignored."""
    flags = FixFlag(0)
    for name in (names or "").split():
        flags |= _FLAGS.get(name, FixFlag(0))
    if not flags:
        return {}
    return {
        "is_clock_unset": bool(flags & FixFlag.CLOCK_UNSET),
        "is_excluded": bool(flags & FixFlag.EXCLUDED_BY_HAND),
        "is_reinstated": bool(flags & FixFlag.REINSTATED),
        "is_doubted": bool(flags & _DOUBT) and not flags & FixFlag.REINSTATED,
    }


def place_cells(
    row: Mapping[str, str | None], lon: str, lat: str, *, is_bounded: bool = True
) -> tuple[float | None, float | None]:
    """Return longitude and latitude by the names of their columns, both None for a failed fix; raises ValueError.

    ``is_bounded`` refuses what lies beyond the globe; our own files keep what a collar said.
    """
    lon_deg, lat_deg = number_cell(row, lon), number_cell(row, lat)
    if (lon_deg is None) != (lat_deg is None):
        raise ValueError(f"{lon}, {lat}: one is given and the other is not")
    if is_bounded and lon_deg is not None and lat_deg is not None and not (abs(lon_deg) <= 180 and abs(lat_deg) <= 90):
        raise ValueError(f"{lon}, {lat}: out of range")
    return lon_deg, lat_deg


def extra_cells(row: Mapping[str, str | None], columns: Mapping[str, str]) -> dict[str, float | int]:
    """Return the numbers of a row that a fix keeps; ``columns`` gives the name in the file and the one in NewFix.

    Of several columns for one name the first that says something counts. Raises ValueError.
    """
    extras: dict[str, float | int] = {}
    for name, column in columns.items():
        if name not in row or column in extras:
            continue
        value = number_cell(row, name)
        if value is not None:
            extras[column] = extra(name, column, value)
    return extras


def extra(name: str, column: str, value: float) -> float | int:
    """Return a number as the column of NewFix keeps it; raises ValueError where it is out of its range."""
    if (limit := _WHOLE_MAX.get(column)) is None:
        return value
    if abs(value) > limit:
        raise ValueError(f"{name}: {value:g} is out of range")
    return round(value)


def parse_instant(text: str) -> datetime:
    """Return the aware UTC instant of an RFC 3339 text; without an offset it is UTC. Raises ValueError."""
    return instant(text, UTC)


def text_cell(row: Mapping[str, str | None], name: str) -> str | None:
    """Return the text of a column, None where it is empty; raises ValueError for what cannot be printed."""
    text = (row.get(name) or "").strip()
    if not text.isprintable():
        raise ValueError(f"{name}: is not readable text")
    return text or None


def number_cell(row: Mapping[str, str | None], name: str) -> float | None:
    """Return the number of a column, None where it is empty or not available; raises ValueError for anything else."""
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
