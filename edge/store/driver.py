"""The one door to SQLite: SQLCipher's build of it, keyed, durable, with SpatiaLite.

Exactly one SQLite library may open a file in a process (a second copy drops the first one's POSIX locks and loses
commits without a word), so no other module of the station imports a driver. ``sqlcipher3`` carries a SQLite without the
WAL-reset fault that the copies of Debian 12 and of pysqlite3-binary have. ``pysqlite3`` serves where encryption is off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from shared.accounts.fields import NO_KEYS, FieldKeys
from shared.errors import DatabaseCorrupt, StoreError, StoreFull, WrongKey
from shared.wire.geojson import wkb_of

try:
    from sqlcipher3 import dbapi2 as sqlite

    CAN_ENCRYPT = True
except ModuleNotFoundError:  # a build without encryption; ``connect`` refuses a key then
    from pysqlite3 import dbapi2 as sqlite  # type: ignore[import-not-found]

    CAN_ENCRYPT = False

__all__ = [
    "CAN_ENCRYPT",
    "KEY_BYTES",
    "Connection",
    "Synchronous",
    "connect",
    "insert_rows",
    "load_spatialite",
    "quick_check",
    "sqlite",
    "transaction",
    "translated",
]

#: PEP 249 connection of the driver, which ships no types.
Connection = Any


class _Connection(sqlite.Connection):  # type: ignore[misc] # as above
    """The driver's connection, which knows how its home's personal fields are sealed once the store has told it."""

    fields: FieldKeys = NO_KEYS


KEY_BYTES: Final = 32
SPATIALITE: Final = "mod_spatialite"
#: The write-ahead log is folded into the database at 16 MB: rarely enough that a burst is not held up at every turn.
_WAL_PAGES: Final = 4_096
_STATEMENT_ROWS: Final = (64, 16, 4, 1)
Synchronous = Literal["FULL", "NORMAL"]


def connect(
    path: Path,
    key: bytes | None,
    *,
    is_spatial: bool = True,
    is_readonly: bool = False,
    synchronous: Synchronous = "FULL",
    cache_kib: int = 8_000,
    busy_timeout_ms: int = 10_000,
) -> Connection:
    """Open the database at ``path`` in autocommit mode, write-ahead logged, and prove that the key fits.

    ``synchronous`` exists for the fault tests, which show that anything but FULL loses acknowledged rows at
    a power cut.
    Raises WrongKey, DatabaseCorrupt or StoreError.
    """
    if key is not None and len(key) != KEY_BYTES:
        raise WrongKey(f"a key has {KEY_BYTES} bytes, this one {len(key)}")
    if key is not None and not CAN_ENCRYPT:
        raise StoreError("this build of the driver cannot encrypt: install sqlcipher3")
    with translated(path):
        connection = sqlite.connect(
            str(path), isolation_level=None, check_same_thread=False, cached_statements=256, factory=_Connection
        )
        try:
            if key is not None:
                connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
                connection.execute("PRAGMA cipher_log_level = NONE")  # its errors come back to the caller
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"PRAGMA cache_size = -{cache_kib}")
            connection.execute("PRAGMA foreign_keys = ON")
            if is_readonly:
                connection.execute("PRAGMA query_only = ON")
            else:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                if mode != "wal":  # SQLite keeps the old mode without raising, and the old mode is not what we promise
                    raise StoreError(f"{path}: the disk refused write-ahead logging")
                connection.execute(f"PRAGMA synchronous = {synchronous}")
                connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
                connection.execute(f"PRAGMA journal_size_limit = {_WAL_PAGES * 4096}")
            if is_spatial:
                load_spatialite(connection)
                connection.create_function("wkb_of_geojson", 1, wkb_of, deterministic=True)
        except BaseException:
            connection.close()
            raise
    return connection


def load_spatialite(connection: Connection) -> None:
    """Load SpatiaLite into ``connection``; raises StoreError naming the package where it is not installed."""
    try:
        connection.enable_load_extension(True)
        connection.load_extension(SPATIALITE)
        connection.enable_load_extension(False)
    except sqlite.OperationalError as error:
        raise StoreError(
            f"SpatiaLite cannot be loaded ({error}): install the Debian package libsqlite3-mod-spatialite"
        ) from error


@contextlib.contextmanager
def translated(path: Path | str) -> Iterator[None]:
    """Turn the driver's errors into ours, with the file they concern."""
    try:
        yield
    except sqlite.DatabaseError as error:
        text = str(error)
        if "full" in text:
            raise StoreFull(f"{path}: no room on the disk; nothing was written") from error
        if "not a database" in text or "hmac check failed" in text:
            raise WrongKey(f"{path}: the key does not fit, or this is no database") from error
        if "malformed" in text:
            raise DatabaseCorrupt(f"{path}: {text}") from error
        raise StoreError(f"{path}: {text}") from error
    except MemoryError as error:  # the driver's word for a codec that has failed for good
        raise DatabaseCorrupt(f"{path}: the connection met a damaged page, or there is no memory left") from error


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Run the block in one ``BEGIN IMMEDIATE`` transaction; any exception rolls it back and goes on."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def insert_rows(connection: Connection, head: str, tail: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run ``head`` VALUES (...), (...) ``tail`` over ``rows`` in as few statements as their number allows.

    The driver gives up and takes back Python's lock around each statement; with other threads at work, one statement a
    row costs several times what SQLite itself takes. Few sizes of statement, so that all of them stay prepared.
    """
    start = 0
    for size in _STATEMENT_ROWS:
        while len(rows) - start >= size:
            chunk = rows[start : start + size]
            marks = f"({', '.join('?' * len(chunk[0]))})"
            values = [value for row in chunk for value in row]
            connection.execute(f"{head} VALUES {', '.join([marks] * size)} {tail}", values)
            start += size


def quick_check(connection: Connection, path: Path) -> None:
    """Raise DatabaseCorrupt with SQLite's own words if the pages do not add up (about 11 s a gigabyte)."""
    with translated(path):
        found = [row[0] for row in connection.execute("PRAGMA quick_check(20)")]
    if found != ["ok"]:
        raise DatabaseCorrupt(f"{path}: {'; '.join(found)}")
