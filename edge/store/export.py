"""The store as a tidy track file, the form that ``import`` and ``verify`` read."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any, Final, TextIO

import sqlite_utils

from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from shared.domain import FixFlag, is_usable
from shared.sync.records import from_ms

COLUMNS: Final = (
    "individual", "timestamp", "lon", "lat", "species", "collar_id", "altitude", "speed_mps", "heading", "hdop", "sats",
    "battery_mv", "temperature_c", "flags",
)  # fmt: skip
_SQL: Final = """
SELECT a.name AS individual, f.recorded_ms, f.lon_e7, f.lat_e7, a.species, c.id AS collar_id, f.alt_m AS altitude,
  f.speed_mps, f.heading_deg AS heading, f.hdop, f.sats, f.battery_mv, f.temperature_c, f.flags
FROM fixes f JOIN animals a ON a.pk = f.animal_pk AND a.deleted_ms IS NULL JOIN collars c ON c.pk = f.collar_pk
WHERE :animal IS NULL OR a.name = :animal ORDER BY a.name, a.pk, f.recorded_ms, f.pk"""


async def export_tracks(store: SpatialiteStore, path: Path, *, animal: str | None, is_usable_only: bool) -> int:
    """Write the fixes of one animal, or of all, to ``path`` (``-``: standard output), streaming; return how many."""

    def job(db: Connection) -> int:
        if str(path) == "-":
            return _write(db, sys.stdout, animal, is_usable_only=is_usable_only)
        with path.open("w", encoding="utf-8", newline="") as file:
            return _write(db, file, animal, is_usable_only=is_usable_only)

    return await store.read(job)


def _write(db: Connection, file: TextIO, animal: str | None, *, is_usable_only: bool) -> int:
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    count = 0
    for row in sqlite_utils.Database(db).query(_SQL, {"animal": animal}):
        if is_usable_only and not is_usable(row["flags"]):
            continue
        writer.writerow(_cells(row))
        count += 1
    return count


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {name: row[name] for name in COLUMNS if name in row}
    cells["timestamp"] = from_ms(row["recorded_ms"]).isoformat().replace("+00:00", "Z")
    for name in ("lon", "lat"):
        e7 = row[f"{name}_e7"]
        cells[name] = "" if e7 is None else f"{e7 / 1e7:.7f}"
    cells["flags"] = " ".join(flag.name.lower() for flag in FixFlag if row["flags"] & flag and flag.name)
    return cells
