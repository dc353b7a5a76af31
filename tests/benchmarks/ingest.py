"""Durable ingest beside the plain insert of the same rows: both encrypted, FULL, on one disk, in one run."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from edge.config import load
from edge.store.driver import connect
from edge.store.fixes import COLUMNS, INSERT
from edge.store.migrate import migrate
from tests.benchmarks.station import Station, frame_of, station, wait_for_fixes

PLAIN_BATCH = 50


def pump(running: Station, frames: list[bytes]) -> None:
    """Write frames to the line as fast as the station reads it."""
    data = memoryview(b"".join(frames))
    while data:
        data = data[os.write(running.line, data[:4096]) :]


def durable_fixes_per_s(running: Station, first: int, count: int) -> float:
    """Return fixes per second from the first byte on the line to the last commit."""
    frames = [frame_of(number) for number in range(first, first + count)]
    before = running.detail()["store"]["fixes"]
    writer = threading.Thread(target=pump, args=(running, frames))
    began = time.perf_counter()
    writer.start()
    wait_for_fixes(running, before + count)
    took = time.perf_counter() - began
    writer.join()
    return count / took


def plain_fixes_per_s(folder: Path, running: Station, count: int, target: Path) -> float:
    """Return fixes per second of ``executemany`` into the same table, in batches of 50, one commit each."""
    key = load(running.config, {}).key()
    source = connect(folder / "data" / "station.db", key, is_readonly=True)
    rows = source.execute(f"SELECT {', '.join(COLUMNS)} FROM fixes ORDER BY pk DESC LIMIT ?", (count,)).fetchall()[::-1]
    source.close()
    plain = connect(target, key)
    migrate(plain)
    plain.execute("PRAGMA foreign_keys = OFF")  # the rows stand without their collars here
    statement = f"{INSERT} VALUES ({', '.join('?' * len(COLUMNS))})"
    began = time.perf_counter()
    for start in range(0, len(rows), PLAIN_BATCH):
        plain.execute("BEGIN IMMEDIATE")
        plain.executemany(statement, rows[start : start + PLAIN_BATCH])
        plain.execute("COMMIT")
    took = time.perf_counter() - began
    plain.close()
    return len(rows) / took


def ratios(folder: Path, count: int, rounds: int = 3) -> list[tuple[float, float]]:
    """Return (durable, plain) fixes per second of alternating rounds on a growing station."""
    pairs = []
    with station(folder) as running:
        durable_fixes_per_s(running, 0, 2_000)  # the collars exist, caches are warm
        for number in range(rounds):
            durable = durable_fixes_per_s(running, 2_000 + number * count, count)
            plain = plain_fixes_per_s(folder, running, count, folder / f"plain-{number}.db")
            pairs.append((durable, plain))
    return pairs
