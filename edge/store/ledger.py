"""The ledger: every frame that was heard, on disk before anything else happens to it.

A directory of encrypted segments, ``ledger-<first seq>.db``, each a database of its own and none of them the station's
main database: another medium can hold it. Rules:

- ``append`` returns after a commit with ``synchronous=FULL``; only then may a link be acknowledged.
- ``seq`` grows for ever, across segments. It may have holes.
- Identical frames of one link within a UTC day are one row with a count: a collar that re-sends its whole flash log on
  every ping costs an update each.
- A segment is closed when the day changes and it is large or old, so that this rule needs one segment only. A closed
  segment is never written again and is removed whole, once every consumer and the cloud are past it.
- A segment whose pages do not add up is evidence: it is closed as it is, keeps its name and its bytes and is never
  removed, and appending goes on in a new one. Readers take from it what can still be read, say what they passed over,
  and go on to what came later. With a key that opens the station's database, or another segment, a segment that does
  not open is damaged, not written with another key.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from edge.store.driver import Connection, Synchronous, connect, insert_rows, quick_check, transaction, translated
from shared.errors import DatabaseCorrupt, SchemaTooNew, StoreError, WrongKey

SCHEMA: Final = 1
SEGMENT_BYTES: Final = 64 * 2**20
SEGMENT_DAYS: Final = 7
SEGMENT_BYTES_HARD: Final = 2**30
DAY_MS: Final = 86_400_000
PAGE_BYTES: Final = 4_096
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
_INSERT = (
    "INSERT INTO frames (seq, day, digest, link, framing, topic, device, payload, received_ms, monotonic_ns, boot,"
    " clock, last_received_ms)"
)
_ON_COPY = "ON CONFLICT (day, digest) DO UPDATE SET copies = copies + 1, last_received_ms = excluded.last_received_ms"
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


class _Segment(msgspec.Struct, frozen=True):
    """A segment that takes frames, and what it held when it was opened."""

    path: Path
    connection: Connection
    last_seq: int
    frames: int
    oldest_day: int | None
    newest_day: int | None


class Ledger:
    """Not safe to share between threads: one thread appends; a reader opens a ``LedgerReader``.

    ``is_key_proven`` says that the key opens the station's database. Raises WrongKey where nothing opens with it.
    """

    def __init__(
        self,
        folder: Path,
        key: bytes | None,
        *,
        boot: str,
        synchronous: Synchronous = "FULL",
        segment_bytes: int = SEGMENT_BYTES,
        is_key_proven: bool = False,
    ) -> None:
        self._folder = folder
        self._key = key
        self._boot = boot
        self._synchronous = synchronous
        self._segment_bytes = segment_bytes
        self._path: Path
        self._connection: Connection
        self._seq: int
        self._open_frames: int
        self._newest_day: int | None
        self._oldest_day: int | None
        self._closed_frames = 0
        #: segments that are damaged: closed as they are, with all their bytes
        self.set_aside: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._use(self._open_newest(is_key_proven=is_key_proven))

    def append(self, entries: Sequence[Entry]) -> int:
        """Commit ``entries`` and return the seq of the newest frame; raises StoreFull or StoreError: none is kept."""
        if not entries:
            return self._seq
        day = entries[-1].received_ms // DAY_MS
        if self._is_rotation_due(day):
            self._rotate()
        try:
            self._insert(entries)
        except DatabaseCorrupt:
            # a page went bad under the open segment: nothing more may depend on it
            self.set_aside.append(self._path)
            self._begin_new(self._seq + 1)
            self._insert(entries)
        self._newest_day = day
        self._oldest_day = day if self._oldest_day is None else self._oldest_day
        return self._seq

    def _insert(self, entries: Sequence[Entry]) -> None:
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
            insert_rows(self._connection, _INSERT, _ON_COPY, rows)
            fresh, newest = self._connection.execute(
                "SELECT count(*), max(seq) FROM frames WHERE seq > ?", (self._seq,)
            ).fetchone()
            if fresh:
                self._connection.execute("UPDATE tally SET frames = frames + ?", (fresh,))
        if fresh:
            self._seq = int(newest)
            self._open_frames += int(fresh)

    @property
    def last_seq(self) -> int:
        """The seq of the newest frame."""
        return self._seq

    def go_on_after(self, seq: int) -> bool:
        """Give out no seq up to ``seq``; say whether one would have been.

        A consumer that is further than the ledger has read frames that a damaged log took away afterwards. A frame that
        got one of their places would never be read.
        """
        if seq <= self._seq:
            return False
        self._begin_new(seq + 1)
        return True

    def facts(self) -> LedgerFacts:
        """Count and size what is kept."""
        paths = _segments(self._folder)
        size = sum(_whole_size_bytes(path) for _, path in paths)
        return LedgerFacts(len(paths), size, self._seq, self._closed_frames + self._open_frames)

    def remove_before(self, seq: int, received_before_ms: int) -> int:
        """Remove closed segments whose frames all have a seq up to ``seq`` and are older than the instant.

        A damaged segment stays: what was in it nobody can tell.
        """
        paths = _segments(self._folder)
        removed = 0
        for (_, path), (next_first, _) in itertools.pairwise(paths):
            if next_first - 1 > seq:
                break
            try:
                newest, frames = self._ask(path, "SELECT max(last_received_ms), (SELECT frames FROM tally) FROM frames")
            except (DatabaseCorrupt, WrongKey):
                continue
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

    def _ask(self, path: Path, question: str) -> Sequence[Any]:
        """Return the one row that a closed segment answers with; raises DatabaseCorrupt, WrongKey or StoreError."""
        segment = self._connect(path, is_readonly=True)
        try:
            with translated(path):
                answer: Sequence[Any] = segment.execute(question).fetchone()
                return answer
        finally:
            segment.close()

    def _open_newest(self, *, is_key_proven: bool) -> _Segment:
        paths = _segments(self._folder)
        for _, path in paths[:-1]:
            try:
                frames, _ = self._ask(path, "SELECT (SELECT frames FROM tally), max(seq) FROM frames")
                self._closed_frames += int(frames)
                is_key_proven = True
            except (DatabaseCorrupt, WrongKey):
                self.set_aside.append(path)
        first, newest = paths[-1] if paths else (1, _segment_path(self._folder, 1))
        try:
            return self._open(first, newest)
        except WrongKey:
            if not is_key_proven:
                raise
        except DatabaseCorrupt:
            pass
        self.set_aside.append(newest)
        first += 2**32  # beyond every seq that it can have held
        return self._open(first, _segment_path(self._folder, first))

    def _open(self, first: int, path: Path) -> _Segment:
        connection = self._connect(path)
        try:
            with translated(path):
                version = int(connection.execute("PRAGMA user_version").fetchone()[0])
                if version > SCHEMA:
                    raise SchemaTooNew(version, SCHEMA)
                if version == 0:
                    with transaction(connection):
                        connection.execute(_SCHEMA_SQL)
                        connection.execute("CREATE UNIQUE INDEX frames_by_digest ON frames (day, digest)")
                        # counting the rows themselves would read the whole segment at each start
                        connection.execute("CREATE TABLE tally (frames INTEGER NOT NULL)")
                        connection.execute("INSERT INTO tally VALUES (0)")
                        connection.execute(f"PRAGMA user_version = {SCHEMA}")
                last, frames, newest_day, oldest_day = connection.execute(
                    "SELECT max(seq), (SELECT frames FROM tally), (SELECT day FROM frames ORDER BY seq DESC LIMIT 1),"
                    " (SELECT day FROM frames ORDER BY seq LIMIT 1) FROM frames"
                ).fetchone()
        except BaseException:
            connection.close()
            raise
        last_seq = first - 1 if last is None else int(last)
        return _Segment(path, connection, last_seq, int(frames), oldest_day, newest_day)

    def _use(self, segment: _Segment) -> None:
        self._path = segment.path
        self._connection = segment.connection
        self._seq = segment.last_seq
        self._open_frames = segment.frames
        self._oldest_day = segment.oldest_day
        self._newest_day = segment.newest_day

    def _is_rotation_due(self, day: int) -> bool:
        if self._newest_day is None or self._oldest_day is None:
            return False
        with translated(self._path):
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()  # the file itself may lag by its log
        size_bytes = int(pages) * PAGE_BYTES
        if size_bytes > SEGMENT_BYTES_HARD:  # a flood: copies across the cut cost a row each, nothing else
            return True
        is_new_day = day != self._newest_day
        return is_new_day and (size_bytes > self._segment_bytes or day - self._oldest_day >= SEGMENT_DAYS)

    def _rotate(self) -> None:
        with translated(self._path):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._begin_new(self._seq + 1)

    def _begin_new(self, first: int) -> None:
        """Go on in a new segment; where it cannot be made (a full disk), the old one stays in use."""
        path = _segment_path(self._folder, first)
        try:
            segment = self._open(first, path)
        except BaseException:
            # the old segment will give out seqs from ``first`` on: a reader must not look for them here
            for suffix in ("-shm", "-wal", ""):
                with contextlib.suppress(OSError):
                    path.with_name(path.name + suffix).unlink()
            raise
        self._connection.close()
        self._closed_frames += self._open_frames
        self._use(segment)


class LedgerReader:
    """Reads the ledger in order while another thread appends; keeps one segment open."""

    def __init__(self, folder: Path, key: bytes | None) -> None:
        self._folder = folder
        self._key = key
        self._first = -1
        self._connection: Connection | None = None
        #: segments with frames that could not be read, and the driver's words
        self.damaged: dict[Path, str] = {}

    def read(self, after_seq: int, limit: int) -> list[Row]:
        """Return up to ``limit`` rows with a seq above ``after_seq``, in order; what is damaged is passed over."""
        rows: list[Row] = []
        paths = _segments(self._folder)
        for index, (first, path) in enumerate(paths):
            last = paths[index + 1][0] - 1 if index + 1 < len(paths) else None
            if last is not None and last <= after_seq:
                continue
            try:
                rows += self._select(first, path, after_seq, limit - len(rows))
            except (DatabaseCorrupt, WrongKey) as error:
                self.damaged[path] = error.detail
                if rows:
                    break  # these first; the damage comes up again with the next call
                rows = self._salvage(first, path, after_seq, limit, last)
                if rows:
                    break
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

    def _select(self, first: int, path: Path, after_seq: int, limit: int) -> list[Row]:
        connection = self._open(first, path)
        with translated(path):
            if self._is_unmade(connection):
                return []
            found = connection.execute(f"{_SELECT} WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)).fetchall()
        return [Row(*row) for row in found]

    def _salvage(self, first: int, path: Path, after_seq: int, limit: int, last: int | None) -> list[Row]:
        """Return the rows up to the first that cannot be read or, where that is the very first, the next that can."""
        rows = self._until_damage(first, path, after_seq, limit)
        if rows:
            return rows
        end = after_seq + 2**32 if last is None else last
        bad, step = after_seq, 1
        while True:
            good = min(bad + step, end)
            if good <= bad:
                return []
            if self._until_damage(first, path, good, 1):
                break
            bad, step = good, step * 2
        while good - bad > 1:
            middle = (bad + good) // 2
            if self._until_damage(first, path, middle, 1):
                good = middle
            else:
                bad = middle
        return self._until_damage(first, path, good, limit)

    def _until_damage(self, first: int, path: Path, after_seq: int, limit: int) -> list[Row]:
        """Return what can be read of one stretch; on a connection of its own, since the cipher fails for good once."""
        self.close()
        rows: list[Row] = []
        try:
            connection = self._open(first, path)
            with translated(path):
                for row in connection.execute(f"{_SELECT} WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)):
                    rows.append(Row(*row))  # noqa: PERF401 - what came before the damage must stay
        except (DatabaseCorrupt, WrongKey):
            self.close()
        return rows

    @staticmethod
    def _is_unmade(connection: Connection) -> bool:
        """Say whether the writer is still making this segment; raises SchemaTooNew."""
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA:
            raise SchemaTooNew(version, SCHEMA)
        return version == 0

    def _open(self, first: int, path: Path) -> Connection:
        if self._connection is None or self._first != first:
            self.close()
            self._connection = connect(path, self._key, is_spatial=False, is_readonly=True, cache_kib=2_000)
            self._first = first
        return self._connection


def check_key(folder: Path, key: bytes | None) -> None:
    """Raise WrongKey before anything is made, if no segment in ``folder`` opens with ``key``.

    One that does proves the key: any other that does not is damaged.
    """
    refusal: WrongKey | None = None
    for _, path in _segments(folder):
        try:
            connect(path, key, is_spatial=False, is_readonly=True).close()
        except WrongKey as error:
            refusal = error
        except StoreError:
            continue  # it opens far enough to tell that its pages do not add up: says nothing about the key
        else:
            return
    if refusal is not None:
        raise refusal


def is_key_proven(folder: Path, key: bytes | None) -> bool:
    """Say whether some segment opens with ``key``: then whatever else does not is damaged."""
    for _, path in _segments(folder):
        try:
            connect(path, key, is_spatial=False, is_readonly=True).close()
        except StoreError:
            continue
        return True
    return False


def is_segment(name: str) -> bool:
    """Say whether a file of this name is a segment."""
    return _NAME.fullmatch(name) is not None


def _segment_path(folder: Path, first: int) -> Path:
    return folder / f"ledger-{first:012d}.db"


def _segments(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)) is not None]
    return sorted(found)


def _whole_size_bytes(path: Path) -> int:
    """Return what a segment takes with its write-ahead log, where the newest frames may still be."""
    return _size_bytes(path) + _size_bytes(path.with_name(f"{path.name}-wal"))


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # the last reader of a closed segment takes its log away
        return 0
