"""Copies of a database as it stood at one instant, and what such a copy holds, to compare it with where it came from.

A copy is made by SQLite's backup API inside a read transaction, in which the source is counted and hashed too: the two
speak of the same instant while the station goes on writing. A copy is encrypted with the same key as its source.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from edge.store.driver import Connection, connect, quick_check, transaction, translated
from edge.store.ledger import is_segment
from edge.store.migrate import migrate, migrations, schema_version
from edge.store.outbox import begin_epoch
from shared.errors import DatabaseCorrupt

_ROWS: Final = 500
_SIDES: Final = ("-wal", "-shm")


class TableContents(msgspec.Struct, frozen=True, array_like=True):
    """How many rows a table holds, and the digest of all of them in their order."""

    rows: int
    digest: str


#: What a database holds, by table; the spatial index follows from the rows.
Contents = dict[str, TableContents]


def contents(connection: Connection) -> Contents:
    """Count and hash every table; whoever wants one instant holds a transaction."""
    names = [
        name
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name")
        if not name.startswith("idx_") and not (sql or "").upper().startswith("CREATE VIRTUAL")
    ]
    return {name: _table(connection, name) for name in names}


def contents_of(path: Path, key: bytes | None) -> Contents:
    """Check every page of the database at ``path`` and return what it holds; raises DatabaseCorrupt or WrongKey."""
    connection = connect(path, key, is_spatial=False, is_readonly=True)
    try:
        quick_check(connection, path)
        with translated(path):
            return contents(connection)
    finally:
        connection.close()


def snapshot(source: Path, target: Path, key: bytes | None) -> Contents:
    """Copy ``source`` to ``target``, which does not exist yet, and return what both hold.

    The copy is on disk when this returns. Raises DatabaseCorrupt where it does not hold what the source held.
    """
    held = copied(source, target, key)
    prove_copy(target, key, held)
    return held


def copied(source: Path, target: Path, key: bytes | None) -> Contents:
    """Copy ``source`` to ``target`` and return what the source held at that instant; the copy is not proved yet.

    Until this returns the source's write-ahead log cannot be folded, and grows with all that is written meanwhile.
    """
    reader = connect(source, key, is_spatial=False, is_readonly=True)
    try:
        with translated(source):
            reader.execute("BEGIN")
            held = contents(reader)
        copy = connect(target, key, is_spatial=False)
        try:
            with translated(target):
                # A log of its own would hold the whole copy a second time; one that a power cut interrupts is no copy.
                copy.execute("PRAGMA journal_mode = OFF").fetchone()
                copy.execute("PRAGMA synchronous = OFF")
                reader.backup(copy)
        finally:
            copy.close()
        with translated(source):
            reader.execute("COMMIT")
    finally:
        reader.close()
    return held


def prove_copy(target: Path, key: bytes | None, held: Contents) -> None:
    """Have a copy on disk and read all of it; raises DatabaseCorrupt where it does not hold what its source held."""
    found = contents_of(target, key)
    for suffix in _SIDES:  # empty: all of it was folded into the file
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    if found != held:
        differing = [name for name in held.keys() | found.keys() if held.get(name) != found.get(name)]
        raise DatabaseCorrupt(f"{target}: the copy differs from its source in {', '.join(sorted(differing))}")
    sync(target)


def before_migration(path: Path, key: bytes | None) -> Path | None:
    """Keep a verified copy of a database that this program is about to bring to a newer schema, and return where.

    None where nothing will change. Copies of older schemas are removed. Raises StoreFull, and nothing was changed.
    """
    connection = connect(path, key, is_spatial=False, is_readonly=True)
    try:
        with translated(path):
            version = schema_version(connection)
    finally:
        connection.close()
    if not 0 < version < len(migrations()):
        return None
    kept = path.with_name(f"{path.name}.schema-{version}")
    fresh = kept.with_name(f"{kept.name}.part")
    _remove(fresh)
    try:
        snapshot(path, fresh, key)
    except BaseException:
        _remove(fresh)
        raise
    fresh.replace(kept)
    sync(kept.parent)
    for former in path.parent.glob(f"{path.name}.schema-*"):
        if former != kept:
            _remove(former)
    return kept


def set_aside(path: Path, mark: str) -> Path:
    """Rename a database with its log, so that nothing opens it any more; nothing of it is lost. Return its new name."""
    aside = path.with_name(f"{path.name}.{mark}")
    for suffix in (*_SIDES, ""):
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.rename(aside.with_name(aside.name + suffix))
    sync(path.parent)
    return aside


def begin_anew(path: Path, key: bytes | None, epoch: str) -> None:
    """Give a restored database a new epoch, in which it tells the cloud everything retained once more.

    It is brought to this program's schema first; raises SchemaTooNew where a later version wrote it.
    """
    connection = connect(path, key)
    try:
        with translated(path):
            migrate(connection)
            with transaction(connection):
                begin_epoch(connection, epoch)
    finally:
        connection.close()


def decode_all_again(path: Path, key: bytes | None) -> None:
    """Have every consumer of the ledger begin at its first frame: storing twice is storing once."""
    connection = connect(path, key, is_spatial=False)
    try:
        with translated(path), transaction(connection):
            connection.execute("DELETE FROM cursors")
    finally:
        connection.close()


def segments_of(folder: Path) -> list[Path]:
    """Return the segments of a ledger, the open one last."""
    return sorted(path for path in folder.iterdir() if is_segment(path.name)) if folder.is_dir() else []


def file_digest(path: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """Return the SHA-256 of a file, as hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the medium before this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _table(connection: Connection, name: str) -> TableContents:
    digest = hashlib.blake2b(digest_size=16)
    rows = 0
    cursor = connection.execute(f'SELECT * FROM "{name}"')
    while page := cursor.fetchmany(_ROWS):
        rows += len(page)
        digest.update(msgspec.msgpack.encode([tuple(row) for row in page]))
    return TableContents(rows, digest.hexdigest())


def _remove(path: Path) -> None:
    for suffix in (*_SIDES, ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
