"""Does the store hold a track file: every row exactly once, and nothing else of these animals in its time?"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, tzinfo
from operator import itemgetter
from pathlib import Path
from typing import Final

import msgspec

from edge.store.store import SpatialiteStore
from shared.errors import Invalid
from shared.exchange.formats import format_of, read_rows
from shared.exchange.movebank import OtherSensor
from shared.movement.tracks import BadRow
from shared.sync.records import from_ms, to_ms

SHOWN: Final = 10


class Verified(msgspec.Struct, kw_only=True):
    """Counts of a comparison. A position is compared in 1e-7 degree, an instant in milliseconds."""

    individuals: int = 0
    rows: int = 0
    unreadable_rows: int = 0
    repeated_rows: int = 0
    stored: int = 0
    matching: int = 0
    missing: int = 0
    doubled: int = 0
    unexpected: int = 0
    examples: list[str] = []

    @property
    def differences(self) -> int:
        """How many things are not as the file says."""
        return self.unreadable_rows + self.missing + self.doubled + self.unexpected


async def verify(store: SpatialiteStore, path: Path, *, zone: tzinfo | None = None) -> Verified:
    """Compare the store with the track file at ``path``; an individual is the animal of its name.

    ``zone`` is that of times which carry none. Rows of other sensors and of collars alone are not compared.
    """
    expected: dict[str, Counter[tuple[int, int | None, int | None]]] = {}
    found = Verified()
    for row in read_rows(path, format_of(path), zone=zone):
        if isinstance(row, OtherSensor):
            continue
        found.rows += 1
        if isinstance(row, BadRow):
            found.unreadable_rows += 1
            if len(found.examples) < SHOWN:
                found.examples.append(f"line {row.line}: {row.reason}")
            continue
        if not row.individual:
            found.rows -= 1
            continue
        lon_e7 = None if row.lon_deg is None else round(row.lon_deg * 1e7)
        lat_e7 = None if row.lat_deg is None else round(row.lat_deg * 1e7)
        expected.setdefault(row.individual, Counter())[to_ms(row.recorded_at), lon_e7, lat_e7] += 1
    if not expected:
        raise Invalid(f"{path}: holds no fix to compare with")
    found.individuals = len(expected)
    for individual, rows in sorted(expected.items()):
        first_ms, last_ms = min(ms for ms, _, _ in rows), max(ms for ms, _, _ in rows)
        stored = await _stored(store, individual, first_ms, last_ms)
        found.repeated_rows += rows.total() - len(rows)
        found.stored += stored.total()
        for key in sorted(rows.keys() | stored.keys(), key=itemgetter(0)):
            if key not in stored:
                found.missing += 1
                _example(found, "missing", individual, key)
            elif key not in rows:
                found.unexpected += stored[key]
                _example(found, "not in the file", individual, key)
            elif stored[key] > 1:
                found.doubled += stored[key] - 1
                _example(found, f"stored {stored[key]} times", individual, key)
            else:
                found.matching += 1
    return found


async def _stored(
    store: SpatialiteStore, name: str, first_ms: int, last_ms: int
) -> Counter[tuple[int, int | None, int | None]]:
    rows = await store.read(
        lambda db: db.execute(
            "SELECT f.recorded_ms, f.lon_e7, f.lat_e7 FROM fixes f JOIN animals a ON a.pk = f.animal_pk"
            " WHERE a.name = ? AND a.deleted_ms IS NULL AND f.recorded_ms BETWEEN ? AND ?",
            (name, first_ms, last_ms),
        ).fetchall()
    )
    return Counter((ms, lon, lat) for ms, lon, lat in rows)


def _example(found: Verified, what: str, individual: str, key: tuple[int, int | None, int | None]) -> None:
    if len(found.examples) < SHOWN:
        ms, lon_e7, lat_e7 = key
        place = "no position" if lon_e7 is None or lat_e7 is None else f"{lon_e7 / 1e7:.7f} {lat_e7 / 1e7:.7f}"
        found.examples.append(f"{what}: {individual} {_text(from_ms(ms))} {place}")


def _text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
