"""The ledger: every frame that was heard, on disk before anything else happens to it.

A directory of encrypted segments, ``ledger-<first seq>.db``, each a database of its own and none of them the station's
main database: another medium can hold it. Rules:

- ``append`` returns after a commit with ``synchronous=FULL``; only then may a link be acknowledged.
- ``seq`` grows for ever, across segments. It may have holes.
- Identical frames of one link within a UTC day are one row with a count: a collar that re-sends its whole flash log on
  every ping costs an update each.
- A segment is closed when the day changes and it is large or old, so that this rule needs one segment only. A closed
  segment is never written again and is removed whole, once every consumer and the cloud are past it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from edge.store.driver import Connection, Synchronous, connect, quick_check, transaction, translated
from shared.errors import DatabaseCorrupt, SchemaTooNew, StoreError, WrongKey

SCHEMA: Final = 1
SEGMENT_BYTES: Final = 64 * 2**20
SEGMENT_DAYS: Final = 7
SEGMENT_BYTES_HARD: Final = 2**30
DAY_MS: Final = 86_400_000
_NAME = re.compile(r"ledger-(\d{12})\.db")

_SCHEMA_SQL = """
CREATE TABLE frames (
  seq INTEGER PRIMARY KEY,
  day INTEGER NOT NULL,
  digest BLOB NOT NULL,
  link TEXT NOT NULL,
  framing TEXT NOT NULL,
  topic TEXT NOT NULL,
  device TEXT NOT NULL,
  payload BLOB NOT NULL,
  received_ms INTEGER NOT NULL,
  monotonic_ns INTEGER NOT NULL,
  boot TEXT NOT NULL,
  clock TEXT NOT NULL,
  copies INTEGER NOT NULL DEFAULT 1,
  last_received_ms INTEGER NOT NULL
)
"""
_INSERT = """
INSERT INTO frames (seq, day, digest, link, framing, topic, device, payload, received_ms, monotonic_ns, boot, clock,
  last_received_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, digest) DO UPDATE SET copies = copies + 1, last_received_ms = excluded.last_received_ms
"""
_SELECT = "SELECT seq, link, framing, topic, device, payload, received_ms, clock, copies FROM frames"


class Entry(msgspec.Struct, frozen=True):
    """A frame on its way into the ledger. ``received_ms`` is the station's clock, whose state is ``clock``.

    ``device`` is the link's own device, for payloads that name none; kept here so that decoding again, after the
    configuration changed, gives the same fixes.
    """

    link: str
    framing: str
    topic: str
    payload: bytes
    received_ms: int
    monotonic_ns: int
    clock: str
    device: str = ""


class Row(msgspec.Struct, frozen=True):
    """A frame as the ledger keeps it."""

    seq: int
    link: str
    framing: str
    topic: str
    device: str
    payload: bytes
    received_ms: int
    clock: str
    copies: int


class LedgerFacts(msgspec.Struct, frozen=True):
    """What the status page shows."""

    segments: int
    size_bytes: int
    last_seq: int
    frames: int


class Ledger:
    """Not safe to share between threads: one thread appends; a reader opens a ``LedgerReader``."""

    def __init__(
        self,
        folder: Path,
        key: bytes | None,
        *,
        boot: str,
        synchronous: Synchronous = "FULL",
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._folder = folder
        self._key = key
        self._boot = boot
        self._synchronous = synchronous
        self._segment_bytes = segment_bytes
        self._closed_frames = 0
        self._open_frames = 0
        self._seq = 0
        self._newest_day: int | None = None
        self._oldest_day: int | None = None
        self.set_aside: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._open_newest()

    def append(self, entries: Sequence[Entry]) -> int:
        """Commit ``entries`` and return the seq of the newest frame; raises StoreFull or StoreError: none is kept."""
        if not entries:
            return self._seq
        day = entries[-1].received_ms // DAY_MS
        if self._is_rotation_due(day):
            self._rotate()
        seq = self._seq
        rows = []
        for entry in entries:
            seq += 1
            digest = hashlib.blake2b(
                b"\x00".join((entry.link.encode(), entry.framing.encode(), entry.topic.encode(), entry.payload)),
                digest_size=16,
            ).digest()
            rows.append((
                seq, entry.received_ms // DAY_MS, digest, entry.link, entry.framing, entry.topic,
                entry.device, entry.payload, entry.received_ms, entry.monotonic_ns, self._boot, entry.clock,
                entry.received_ms,
            ))  # fmt: skip
        with translated(self._path), transaction(self._connection):
            self._connection.executemany(_INSERT, rows)
            fresh, newest = self._connection.execute(
                "SELECT count(*), max(seq) FROM frames WHERE seq > ?", (self._seq,)
            ).fetchone()
        if fresh:
            self._seq = int(newest)
            self._open_frames += int(fresh)
        self._newest_day = day
        self._oldest_day = day if self._oldest_day is None else self._oldest_day
        return self._seq

    @property
    def last_seq(self) -> int:
        """The seq of the newest frame."""
        return self._seq

    def facts(self) -> LedgerFacts:
        """Count and size what is kept."""
        paths = _segments(self._folder)
        size = sum(
            part.stat().st_size
            for _, path in paths
            for part in (path, path.with_name(path.name + "-wal"))
            if part.exists()
        )
        return LedgerFacts(len(paths), size, self._seq, self._closed_frames + self._open_frames)

    def remove_before(self, seq: int, received_before_ms: int) -> int:
        """Remove closed segments whose frames all have a seq up to ``seq`` and are older than the instant."""
        paths = _segments(self._folder)
        removed = 0
        for (_, path), (next_first, _) in itertools.pairwise(paths):
            if next_first - 1 > seq:
                break
            segment = self._connect(path, is_readonly=True)
            try:
                newest, frames = segment.execute("SELECT max(last_received_ms), count(*) FROM frames").fetchone()
            finally:
                segment.close()
            if newest is not None and newest >= received_before_ms:
                break
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._closed_frames -= int(frames)
            removed += 1
        return removed

    def close(self) -> None:
        """Close the open segment."""
        self._connection.close()

    def _connect(self, path: Path, *, is_readonly: bool = False) -> Connection:
        return connect(
            path, self._key, is_spatial=False, is_readonly=is_readonly, synchronous=self._synchronous, cache_kib=2_000
        )

    def _open_newest(self) -> None:
        paths = _segments(self._folder)
        first = paths[-1][0] if paths else 1
        for _, path in paths[:-1]:
            segment = self._connect(path, is_readonly=True)
            self._closed_frames += int(segment.execute("SELECT count(*) FROM frames").fetchone()[0])
            segment.close()
        try:
            self._open(first)
        except DatabaseCorrupt:
            # never delete evidence: keep the bytes under another name and begin after every seq it can have held
            path = _segment_path(self._folder, first)
            aside = path.with_name(f"{path.name}.corrupt")
            path.rename(aside)
            self.set_aside.append(aside)
            self._open(first + 2**32)

    def _open(self, first: int) -> None:
        path = _segment_path(self._folder, first)
        self._path = path
        self._connection = self._connect(path)
        try:
            with translated(path):
                version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
                if version > SCHEMA:
                    raise SchemaTooNew(version, SCHEMA)
                if version == 0:
                    with transaction(self._connection):
                        self._connection.execute(_SCHEMA_SQL)
                        self._connection.execute("CREATE UNIQUE INDEX frames_by_digest ON frames (day, digest)")
                        self._connection.execute(f"PRAGMA user_version = {SCHEMA}")
                last, self._open_frames, day, oldest = self._connection.execute(
                    "SELECT max(seq), count(*), (SELECT day FROM frames ORDER BY seq DESC LIMIT 1),"
                    " (SELECT day FROM frames ORDER BY seq LIMIT 1) FROM frames"
                ).fetchone()
        except BaseException:
            self._connection.close()
            raise
        self._seq = first - 1 if last is None else int(last)
        self._newest_day = day
        self._oldest_day = oldest

    def _is_rotation_due(self, day: int) -> bool:
        if self._newest_day is None or self._oldest_day is None:
            return False
        size_bytes = self._path.stat().st_size
        if size_bytes > SEGMENT_BYTES_HARD:  # a flood: copies across the cut cost a row each, nothing else
            return True
        is_new_day = day != self._newest_day
        return is_new_day and (size_bytes > self._segment_bytes or day - self._oldest_day >= SEGMENT_DAYS)

    def _rotate(self) -> None:
        frames = self._open_frames
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        self._open(self._seq + 1)
        self._closed_frames += frames


class LedgerReader:
    """Reads the ledger in order while another thread appends; keeps one segment open."""

    def __init__(self, folder: Path, key: bytes | None) -> None:
        self._folder = folder
        self._key = key
        self._first = -1
        self._connection: Connection | None = None

    def read(self, after_seq: int, limit: int) -> list[Row]:
        """Return up to ``limit`` rows with a seq above ``after_seq``, in order."""
        rows: list[Row] = []
        paths = _segments(self._folder)
        for index, (first, path) in enumerate(paths):
            is_past = index + 1 < len(paths) and paths[index + 1][0] - 1 <= after_seq
            if is_past:
                continue
            connection = self._open(first, path)
            with translated(path):
                found = connection.execute(
                    f"{_SELECT} WHERE seq > ? ORDER BY seq LIMIT ?",
                    (after_seq, limit - len(rows)),
                ).fetchall()
            rows += [Row(*row) for row in found]
            if len(rows) >= limit:
                break
        return rows

    def check(self) -> None:
        """Run SQLite's quick check over every segment; raises DatabaseCorrupt."""
        for first, path in _segments(self._folder):
            quick_check(self._open(first, path), path)

    def close(self) -> None:
        """Close what is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, first: int, path: Path) -> Connection:
        if self._connection is None or self._first != first:
            self.close()
            self._connection = connect(path, self._key, is_spatial=False, is_readonly=True, cache_kib=2_000)
            self._first = first
        return self._connection


def check_key(folder: Path, key: bytes | None) -> None:
    """Raise WrongKey before anything is made, if the ledger in ``folder`` was written with another key."""
    for _, path in _segments(folder)[-1:]:
        try:
            connect(path, key, is_spatial=False, is_readonly=True).close()
        except WrongKey:
            raise
        except StoreError:
            return


def _segment_path(folder: Path, first: int) -> Path:
    return folder / f"ledger-{first:012d}.db"


def _segments(folder: Path) -> list[tuple[int, Path]]:
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)) is not None]
    return sorted(found)
