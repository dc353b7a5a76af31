"""Occurrence of animals in the database: heads, tiles, the newest bridges. SQL and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from edge.store.driver import Connection
from shared.sync.listing import USABLE

_PLACED: Final = f"f.animal_pk = ? AND f.lon_e7 IS NOT NULL AND {USABLE}"
FIX_COLUMNS: Final = "f.recorded_ms, f.lon_e7, f.lat_e7, f.h_acc_m, f.hdop"


class Kept(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is stored of one animal's occurrence."""

    since_ms: int
    through_ms: int
    stale_ms: int | None
    species: str
    head: bytes
    recent: bytes


def kept(db: Connection, animal_pk: int) -> Kept | None:
    """Return what is stored of an animal's occurrence without its tiles."""
    row = db.execute(
        "SELECT since_ms, through_ms, stale_ms, species, head, recent FROM utilisations WHERE animal_pk = ?",
        (animal_pk,),
    ).fetchone()
    if row is None:
        return None
    since_ms, through_ms, stale_ms, species, head, recent = row
    return Kept(since_ms=since_ms, through_ms=through_ms, stale_ms=stale_ms, species=species, head=head, recent=recent)


def tiles(db: Connection, animal_pk: int) -> dict[tuple[int, int], bytes]:
    """Return the tiles of an animal by row and column."""
    found = db.execute('SELECT row, "column", cells FROM utilisation_tiles WHERE animal_pk = ?', (animal_pk,))
    return {(row, column): cells for row, column, cells in found.fetchall()}


def extent(db: Connection, animal_pk: int) -> tuple[int, int, int, int] | None:
    """Return west, south, east, north of an animal's usable fixes in 1e-7 degree."""
    row = db.execute(
        f"SELECT min(f.lon_e7), min(f.lat_e7), max(f.lon_e7), max(f.lat_e7) FROM fixes f WHERE {_PLACED}", (animal_pk,)
    ).fetchone()
    return None if row[0] is None else (row[0], row[1], row[2], row[3])


def fixes_after(
    db: Connection, animal_pk: int, through_ms: int | None, context: int, limit: int
) -> list[tuple[Any, ...]]:
    """Return up to ``limit`` fixes from ``through_ms`` on, after up to ``context`` before it, by time."""
    before: list[tuple[Any, ...]] = []
    if through_ms is not None:
        before = db.execute(
            f"SELECT {FIX_COLUMNS} FROM fixes f WHERE {_PLACED} AND f.recorded_ms < ?"
            " ORDER BY f.recorded_ms DESC, f.id DESC LIMIT ?",
            (animal_pk, through_ms, context),
        ).fetchall()[::-1]
    after = db.execute(
        f"SELECT {FIX_COLUMNS} FROM fixes f WHERE {_PLACED} AND f.recorded_ms >= ?"
        " ORDER BY f.recorded_ms, f.id LIMIT ?",
        (animal_pk, -(2**62) if through_ms is None else through_ms, limit),
    ).fetchall()
    return [*before, *after]


def last_before(db: Connection, animal_pk: int, ms: int) -> int | None:
    """Return the instant of the newest usable fix before ``ms``."""
    (found,) = db.execute(
        f"SELECT max(f.recorded_ms) FROM fixes f WHERE {_PLACED} AND f.recorded_ms < ?", (animal_pk, ms)
    ).fetchone()
    return None if found is None else int(found)


def write(
    db: Connection, animal_pk: int, found: Kept, changed: Mapping[tuple[int, int], bytes], *, is_new: bool
) -> None:
    """Write a head and the tiles that changed; ``found.stale_ms`` is what was read: a change since then stays noted."""
    if is_new:
        db.execute("DELETE FROM utilisation_tiles WHERE animal_pk = ?", (animal_pk,))
    db.execute(
        "INSERT INTO utilisations (animal_pk, since_ms, through_ms, stale_ms, species, head, recent)"
        " VALUES (?1, ?2, ?3, NULL, ?5, ?6, ?7) ON CONFLICT (animal_pk) DO UPDATE SET since_ms = ?2, through_ms = ?3,"
        " stale_ms = CASE WHEN stale_ms IS ?4 THEN NULL ELSE stale_ms END, species = ?5, head = ?6, recent = ?7",
        (animal_pk, found.since_ms, found.through_ms, found.stale_ms, found.species, found.head, found.recent),
    )
    db.executemany(
        'INSERT OR REPLACE INTO utilisation_tiles (animal_pk, row, "column", cells) VALUES (?, ?, ?, ?)',
        [(animal_pk, row, column, cells) for (row, column), cells in changed.items()],
    )


def behind(db: Connection, at_least: int, limit: int) -> list[int]:
    """Return animals with at least ``at_least`` fixes that their occurrence does not hold, or with changed ones."""
    found = db.execute(
        f"""SELECT a.pk FROM animals a LEFT JOIN utilisations u ON u.animal_pk = a.pk
        WHERE a.deleted_ms IS NULL AND (u.stale_ms IS NOT NULL OR EXISTS (
          SELECT 1 FROM fixes f WHERE f.animal_pk = a.pk AND f.recorded_ms > coalesce(u.through_ms, {-(2**62)})
          AND f.lon_e7 IS NOT NULL AND {USABLE} LIMIT 1 OFFSET ?)) LIMIT ?""",
        (at_least - 1, limit),
    )
    return [int(pk) for (pk,) in found.fetchall()]
