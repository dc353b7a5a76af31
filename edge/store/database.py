"""The station's database file behind two doors: one thread that writes, a few readers.

What a job of the writer stands on (``Made``: caches over its connection) is made anew with each connection, and
forgotten when a transaction fails or another process has committed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

import structlog

from edge.store.driver import Connection, Synchronous, connect, sqlite, transaction, translated
from edge.store.home_secret import field_keys
from edge.store.migrate import migrate
from edge.store.upgrading import prepare
from shared.errors import DatabaseCorrupt, StoreError

T = TypeVar("T")

READERS: Final = 3
#: Work on the database that takes longer is named in the log.
SLOW_S: Final = 0.5

log = structlog.get_logger()


class Made(Protocol):
    """What the writer's jobs keep over its connection from one transaction to the next."""

    def forget(self) -> None:
        """Drop what is cached."""


M = TypeVar("M", bound=Made)


class Database(Generic[M]):
    """One encrypted SpatiaLite file, brought up to date as it is opened.

    ``made`` is what ``make`` made of the writer's connection.
    """

    def __init__(
        self, path: Path, key: bytes | None, make: Callable[[Connection], M], *, synchronous: Synchronous, readers: int
    ) -> None:
        self.path: Final = path
        self._key = key
        self._make = make
        self._synchronous: Synchronous = synchronous
        self._writer_thread = concurrent.futures.ThreadPoolExecutor(1, "store-writer")
        self._reader_threads = concurrent.futures.ThreadPoolExecutor(readers, "store-reader")
        self._readers: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            prepare(path, key)
        self._db = connect(path, key, synchronous=synchronous)
        self._open_readers: list[Connection] = []
        try:
            with translated(path):
                self.schema: Final = migrate(self._db)
                #: what seals and opens personal fields
                self.fields: Final = field_keys(self._db)
            for _ in range(readers):
                reader = self._opened(connect(path, key, is_readonly=True))
                self._open_readers.append(reader)
                self._readers.put(reader)
        except BaseException:
            self._close_connections()
            raise
        self._write_over(self._db)

    def _write_over(self, connection: Connection) -> None:
        self._db = self._opened(connection)
        self.made = self._make(connection)
        self._data_version = -1

    def _opened(self, connection: Connection) -> Connection:
        connection.fields = self.fields
        return connection

    def close(self) -> None:
        """Finish what is queued and close every connection, from a thread that may wait."""
        self._writer_thread.shutdown()
        self._reader_threads.shutdown()
        self._close_connections()

    def _close_connections(self) -> None:
        for connection in [*self._open_readers, self._db]:
            connection.close()

    def size_bytes(self) -> int:
        """Return what the file and its log take on the disk."""
        wal = self.path.with_name(self.path.name + "-wal")
        return self.path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)

    async def write(self, job: Callable[[Connection], T]) -> T:
        """Run ``job`` in one transaction of the writer thread; its error comes back to the caller."""
        return await asyncio.wrap_future(self._writer_thread.submit(self._transact, job))

    async def read(self, job: Callable[[Connection], T]) -> T:
        """Run ``job`` on one of the readers, in one snapshot."""
        return await asyncio.wrap_future(self._reader_threads.submit(self._snapshot, job))

    def _transact(self, job: Callable[[Connection], T]) -> T:
        began_s = time.monotonic()
        try:
            with translated(self.path), transaction(self._db):
                self._notice_other_writers()
                return job(self._db)
        except BaseException as error:
            self.made.forget()
            if isinstance(error, DatabaseCorrupt) or _is_spoilt(self._db):
                self._db.close()
                self._write_over(connect(self.path, self._key, synchronous=self._synchronous))
            raise
        finally:
            _tell_slow(job, began_s)

    def _notice_other_writers(self) -> None:
        """Forget what is cached when another process (an import, a command) has committed since the last look."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            self._data_version = version
            self.made.forget()

    def _snapshot(self, job: Callable[[Connection], T]) -> T:
        reader = self._readers.get()
        began_s = time.monotonic()
        try:
            with translated(self.path):
                reader.execute("BEGIN")
                try:
                    return job(reader)
                finally:
                    reader.execute("COMMIT")
        except StoreError as error:
            if isinstance(error, DatabaseCorrupt) or _is_spoilt(reader):
                with contextlib.suppress(StoreError):  # the medium is away: whoever reads next tries again
                    reader = self._replaced(reader)
            raise
        finally:
            _tell_slow(job, began_s)
            self._readers.put(reader)

    def _replaced(self, spoilt: Connection) -> Connection:
        """Return a new reader in the place of one that may have failed for good, which stays where none can open."""
        fresh = self._opened(connect(self.path, self._key, is_readonly=True))
        self._open_readers[self._open_readers.index(spoilt)] = fresh
        spoilt.close()
        return fresh


def _tell_slow(job: Callable[[Connection], object], began_s: float) -> None:
    """Name work on the database that others had to wait for; what it was asked stays out, which may tell a place."""
    took_s = time.monotonic() - began_s
    if took_s > SLOW_S:
        log.warning("store.slow", job=getattr(job, "__qualname__", str(type(job))), took_ms=round(took_s * 1000))


def _is_spoilt(connection: Connection) -> bool:
    """Say whether a connection has failed for good, as SQLCipher's does at a page that it cannot decrypt."""
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except (sqlite.DatabaseError, MemoryError):
        return True
    return False
