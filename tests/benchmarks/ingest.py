"""Durable ingest beside the plain insert of the same rows: both encrypted, FULL, on one disk, in one run.

The plain insert goes into a copy of the station's own database, made while it was stopped. So both tables have the same
schema, indices, triggers and size, and each round's rows, read back from the station, are the same to the byte.
"""

from __future__ import annotations

import os
import shutil
import statistics
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from edge.config import Config
from edge.store.driver import Connection, connect
from edge.store.fixes import COLUMNS, INSERT
from tests.benchmarks.herd import frame_of
from tests.benchmarks.station import Committed, Station, station

PLAIN_BATCH: Final = 50
_WRITE_BYTES: Final = 4_096
_POLL_S: Final = 0.005


class Round(msgspec.Struct, frozen=True):
    """Fixes per second of the station and of the plain insert."""

    durable: float
    plain: float

    @property
    def ratio(self) -> float:
        """Durable ingest as a share of the plain insert."""
        return self.durable / self.plain


class Ingest(msgspec.Struct, frozen=True):
    """The rounds at one size, and the station's memory after them."""

    rounds: list[Round]
    pss_mb: float
    start_s: float
    pss_at_start_mb: float

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(round_.ratio for round_ in self.rounds)


def measure(folder: Path, config: Config, first: int, count: int, rounds: int, warm_up: int) -> Ingest:
    """Start the station and alternate rounds of ``count`` new fixes, numbered from ``first`` on."""
    copy = folder / "plain.db"
    _copy(config.database, copy)
    try:
        with station(folder) as running:
            pss_at_start_mb = running.pss_mb()
            plain = Plain(config, copy)
            try:
                durable_fixes_per_s(running, first, warm_up)
                plain.insert_what_is_new()
                first += warm_up
                pairs = []
                for number in range(rounds):
                    durable = durable_fixes_per_s(running, first + number * count, count)
                    pairs.append(Round(durable, plain.insert_what_is_new()))
            finally:
                plain.close()
            return Ingest(pairs, running.pss_mb(), running.start_s, pss_at_start_mb)
    finally:
        for path in folder.glob(f"{copy.name}*"):
            path.unlink()


def durable_fixes_per_s(running: Station, first: int, count: int) -> float:
    """Return fixes per second from the first byte on the line to the last commit."""
    data = b"".join(frame_of(number) for number in range(first, first + count))
    committed = Committed(running.config)
    try:
        goal = committed.fixes() + count
        writer = threading.Thread(target=_pump, args=(running.line, data), daemon=True)
        began = time.perf_counter()
        writer.start()
        while committed.fixes() < goal:
            if time.perf_counter() - began > 60 + count / 100:
                raise RuntimeError(f"{goal - committed.fixes()} of {count} fixes do not come: {running.detail()}")
            time.sleep(_POLL_S)
        took_s = time.perf_counter() - began
        writer.join()
    finally:
        committed.close()
    return count / took_s


class Plain:
    """The plain insert: ``executemany`` with the station's own statement, 50 rows a commit."""

    def __init__(self, config: Config, target: Path) -> None:
        self._source = connect(config.database, config.key(), is_readonly=True)
        self._target = connect(target, config.key())
        self._last_pk = _last_pk(self._target)

    def insert_what_is_new(self) -> float:
        """Insert the rows that the station has and the copy has not; return rows per second of the insert alone."""
        rows = self._source.execute(
            f"SELECT {', '.join(COLUMNS)} FROM fixes WHERE pk > ? ORDER BY pk", (self._last_pk,)
        ).fetchall()
        statement = f"{INSERT} VALUES ({', '.join('?' * len(COLUMNS))})"
        began = time.perf_counter()
        for start in range(0, len(rows), PLAIN_BATCH):
            self._target.execute("BEGIN IMMEDIATE")
            self._target.executemany(statement, rows[start : start + PLAIN_BATCH])
            self._target.execute("COMMIT")
        took_s = time.perf_counter() - began
        self._last_pk = _last_pk(self._target)
        return len(rows) / took_s

    def close(self) -> None:
        """Close both databases."""
        self._source.close()
        self._target.close()


def _last_pk(connection: Connection) -> int:
    (last,) = connection.execute("SELECT max(pk) FROM fixes").fetchone()
    return int(last)


def _copy(database: Path, target: Path) -> None:
    wal = database.with_name(f"{database.name}-wal")
    if wal.exists() and wal.stat().st_size:
        raise RuntimeError(f"{database} was not closed: its log still holds rows")
    shutil.copyfile(database, target)


def _pump(line: int, data: bytes) -> None:
    """Write to the line as fast as the station reads it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(line, rest[:_WRITE_BYTES]) :]
