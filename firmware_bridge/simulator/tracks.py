"""Replay of a track file: each row becomes one fix of the collar that its individual wears.

The file is comma separated with a header: ``individual,timestamp,lon,lat`` and perhaps ``species``; other columns are
ignored. ``timestamp`` is RFC 3339 or ``YYYY-mm-dd HH:MM:SS``, UTC where it has no offset. Empty ``lon`` and ``lat`` are
an attempt that failed. A row is a line.

Individuals may follow one another in the file although they lived at one time, so rows are sent in order of time, not
of the file: a first pass checks every row and keeps its time, offset and line, a second one reads the rows again in
order. The file itself is never held in memory.

Coordinates go out as integers of 1e-7 degree, which holds whatever a file gives to seven decimals. OpenCollar knows
whole seconds from 1970 to 2106; other rows go as a gateway's JSON.
"""

from __future__ import annotations

import csv
import hashlib
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from firmware_bridge.codecs import opencollar
from firmware_bridge.simulator.transmission import SimulatedFix, Transmission
from shared.errors import Invalid
from shared.movement.tracks import REQUIRED, TrackRow, track_row


def eui_for(individual: str) -> str:
    """Return the radio id that stands for an individual's collar, sixteen hex digits; the same name gives the same."""
    return hashlib.sha256(individual.encode("utf-8", "surrogateescape")).digest()[:8].hex()


def fits_opencollar(row: TrackRow) -> bool:
    """Say whether an OpenCollar message can hold the row's time."""
    return not row.recorded_at.microsecond and 0 <= row.recorded_at.timestamp() < 2**32


class TrackFile:
    """A checked track file. Raises Invalid, with the line's number, for the first row that is no fix."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: rows whose time OpenCollar cannot hold
        self.json_rows = 0
        self.species_by_individual: dict[str, str] = {}
        self._columns: list[str] = []
        times_us = array("q")
        offsets = array("q")
        lines = array("q")
        try:
            with path.open("rb") as file:
                self._read_header(file.readline())
                line, offset = 1, file.tell()
                while raw := file.readline():
                    line += 1
                    if raw.strip():
                        row = self._row(line, raw)
                        self.json_rows += not fits_opencollar(row)
                        self.species_by_individual.setdefault(row.individual, row.species or "unknown")
                        times_us.append(round(row.recorded_at.timestamp() * 1e6))
                        offsets.append(offset)
                        lines.append(line)
                    offset = file.tell()
        except OSError as error:
            raise Invalid(f"{path}: {error.strerror}") from error
        if not times_us:
            raise Invalid(f"{path}: it has no rows")
        order = np.argsort(np.frombuffer(times_us, dtype=np.int64), kind="stable")
        self._offsets = np.frombuffer(offsets, dtype=np.int64)[order]
        self._lines = np.frombuffer(lines, dtype=np.int64)[order]
        self.started_at = datetime.fromtimestamp(times_us[int(order[0])] / 1e6, UTC)
        self.ended_at = datetime.fromtimestamp(times_us[int(order[-1])] / 1e6, UTC)

    def __len__(self) -> int:
        return len(self._offsets)

    def rows(self) -> Iterator[TrackRow]:
        """Yield the rows in order of time, those of one instant in order of the file."""
        with self.path.open("rb") as file:
            for offset, line in zip(self._offsets, self._lines, strict=True):
                file.seek(int(offset))
                yield self._row(int(line), file.readline())

    def transmissions(self) -> Iterator[Transmission]:
        """Yield one transmission per row."""
        counters: dict[str, int] = {}
        for row in self.rows():
            counter = counters.get(row.individual, 0)
            counters[row.individual] = counter + 1
            fix = SimulatedFix(recorded_at=row.recorded_at, lon_deg=row.lon_deg, lat_deg=row.lat_deg)
            port, message = _opencollar(row)
            yield Transmission(
                at=row.recorded_at,
                eui=eui_for(row.individual),
                name=row.individual,
                counter=counter,
                port=port,
                message=message,
                fixes=(fix,),
            )

    def _read_header(self, raw: bytes) -> None:
        self._columns = [name.strip() for name in _fields(raw.removeprefix(b"\xef\xbb\xbf"), self.path, 1)]
        missing = [name for name in REQUIRED if name not in self._columns]
        if missing:
            found = ",".join(self._columns) or "nothing"
            raise Invalid(f"{self.path}: line 1: no column {', '.join(missing)}; found {found}")

    def _row(self, line: int, raw: bytes) -> TrackRow:
        fields = _fields(raw, self.path, line)
        if len(fields) != len(self._columns):
            raise Invalid(f"{self.path}: line {line}: {len(fields)} fields, the header has {len(self._columns)}")
        row = dict(zip(self._columns, (field.strip() for field in fields), strict=True))
        try:
            return track_row(line, row)
        except ValueError as error:
            raise Invalid(f"{self.path}: line {line}: {error}") from error


def _opencollar(row: TrackRow) -> tuple[int, bytes | None]:
    if not fits_opencollar(row):
        return opencollar.PORT_SHORT, None
    if row.lon_deg is None or row.lat_deg is None:
        return opencollar.PORT_LONG, opencollar.encode_long(recorded_at=row.recorded_at, lat_deg=None, lon_deg=None)
    return opencollar.PORT_SHORT, opencollar.encode_short(
        recorded_at=row.recorded_at, lat_deg=row.lat_deg, lon_deg=row.lon_deg
    )


def _fields(raw: bytes, path: Path, line: int) -> list[str]:
    try:
        return next(csv.reader([raw.decode("utf-8", "surrogateescape").rstrip("\r\n")], strict=True), [])
    except csv.Error as error:
        raise Invalid(f"{path}: line {line}: {error}") from error
