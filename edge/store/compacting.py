"""A database written anew without its empty pages, proved, and put in the place of the old one.

::

    station.db  --VACUUM INTO-->  station.db.compact  --compared table by table-->  renamed over station.db

Cut anywhere, one of the two is whole under the name that the station opens; a half-written one is removed by the next
try. SQLite's own VACUUM would do with less code, but keeps its copy in memory here (``temp_store``), more than a small
computer has, and proves nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from edge.store.driver import Connection, connect, sqlite, transaction, translated
from edge.store.snapshot import contents, prove_copy, sync
from shared.errors import Conflict, StoreFull

#: Room that stays free on the medium while the copy is there.
RESERVE_BYTES: Final = 250 * 2**20
#: With a smaller share of empty pages nothing is done: they are used again soon.
WORTH_SHARE: Final = 0.05


class Pages(msgspec.Struct, frozen=True):
    """How large a database is, and how much of it is empty."""

    size_bytes: int
    empty_bytes: int

    @property
    def is_worth_it(self) -> bool:
        """Say whether so much is empty that writing it anew gives something back."""
        return self.empty_bytes > self.size_bytes * WORTH_SHARE


def pages(db: Connection) -> Pages:
    """Return how large the database is."""
    size, count, empty = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_size", "page_count", "freelist_count")
    )
    return Pages(size * count, size * empty)


def needed_bytes(found: Pages) -> int:
    """Return how much room a compaction takes beside the database, with what has to stay free."""
    return found.size_bytes - found.empty_bytes + RESERVE_BYTES


def compact(
    path: Path, key: bytes | None, *, free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free
) -> Pages:
    """Write the database anew without its empty pages; return how large it is then.

    Nobody else has it open, which is tried: raises Conflict where somebody has, StoreFull where there is no room,
    DatabaseCorrupt where what was written does not hold what was there; the database is as it was then.
    """
    fresh = path.with_name(f"{path.name}.compact")
    remove_half(path)
    db = connect(path, key, is_spatial=False, busy_timeout_ms=2_000)
    try:
        with translated(path):
            _hold_alone(db, path)
            found = pages(db)
            free, needed = free_bytes(path.parent), needed_bytes(found)
            if free < needed:
                raise StoreFull(f"{path.parent}: {needed:,} bytes are needed to compact, {free:,} are free")
            with transaction(db):
                held = contents(db)
            with translated(fresh):
                db.execute("VACUUM INTO ?", (str(fresh),))
        prove_copy(fresh, key, held)
        fresh.replace(path)
        sync(path.parent)
    finally:
        db.close()
        remove_half(path)
    again = connect(path, key, is_spatial=False)
    try:
        return pages(again)
    finally:
        again.close()


def remove_half(path: Path) -> None:
    """Remove what a compaction that was cut left beside the database."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(f"{path.name}.compact{suffix}").unlink(missing_ok=True)


def _hold_alone(db: Connection, path: Path) -> None:
    """Have the database to itself, and its log folded into the file: whoever has it open makes this fail.

    Without a log nobody can write into a file that was renamed meanwhile: SQLite looks for that.
    """
    db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
    try:
        (mode,) = db.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite.OperationalError as error:
        raise Conflict(f"{path}: somebody has the database open: {error}") from error
    if mode != "delete":
        raise Conflict(f"{path}: somebody has the database open; stop the station to compact it")
    db.execute("BEGIN EXCLUSIVE")
    db.execute("COMMIT")
