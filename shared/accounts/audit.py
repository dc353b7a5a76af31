"""Who read or changed what: lines that each carry the hash of the one before, so that none can be altered or taken out.

The hash covers the line's own words and the hash before it. A cut at the end shows where the lines are kept elsewhere
too: a station's travel to the cloud (``edge.sync.audit_up``), and ``audit export`` writes either home's to a file.

Old lines may be taken off the beginning. What is left begins at a checkpoint, number and hash of the last line that
went, and the chain itself has a line that says the same and who did it: a checkpoint without one is a chain that was
cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from shared.accounts.facts import fact, set_fact
from shared.accounts.moments import Moment
from shared.accounts.users import Job
from shared.errors import Conflict

#: Before the first line.
GENESIS: Final = "0" * 64
#: The action of the line that tells of lines that were taken off.
PRUNE: Final = "audit.prune"
#: The fact that names the last line that was taken off.
_CHECKPOINT: Final = "audit_checkpoint"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that somebody did; ``detail`` holds no position."""

    seq: int
    at_ms: int
    actor: str
    action: str
    detail: str
    prev_hash: str
    hash: str


class Entry(msgspec.Struct, frozen=True):
    """A line that is to be written."""

    at_ms: int
    actor: str
    action: str
    detail: str = ""


def line_hash(prev_hash: str, seq: int, entry: Entry) -> str:
    """Return the hash of a line."""
    words = msgspec.json.encode([prev_hash, seq, entry.at_ms, entry.actor, entry.action, entry.detail])
    return hashlib.sha256(words).hexdigest()


def write(entries: Sequence[Entry]) -> Job[None]:
    """Add lines to the chain."""
    rows = yield "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1", ()
    seq, prev_hash = (int(rows[0][0]), str(rows[0][1])) if rows else (0, GENESIS)
    for entry in entries:
        seq += 1
        hashed = line_hash(prev_hash, seq, entry)
        yield (
            "INSERT INTO audit (seq, at_ms, actor, action, detail, prev_hash, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (seq, entry.at_ms, entry.actor, entry.action, entry.detail, prev_hash, hashed),
        )
        prev_hash = hashed


def page(offset: int, limit: int) -> Job[tuple[int, list[Line]]]:
    """Return how many lines there are and some of them, newest first."""
    ((count,),) = yield "SELECT count(*) FROM audit", ()
    rows = yield (
        "SELECT seq, at_ms, actor, action, detail, prev_hash, hash FROM audit ORDER BY seq DESC LIMIT ? OFFSET ?",
        (limit, offset),
    )
    return int(count), [_line(row) for row in rows]


def after(seq: int, limit: int) -> Job[list[Line]]:
    """Return the next lines after a number, oldest first."""
    rows = yield (
        "SELECT seq, at_ms, actor, action, detail, prev_hash, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?",
        (seq, limit),
    )
    return [_line(row) for row in rows]


def is_itself(line: Line) -> bool:
    """Say whether a line is as it was written: its hash is that of its words."""
    return line.hash == line_hash(line.prev_hash, line.seq, Entry(line.at_ms, line.actor, line.action, line.detail))


def torn_in(lines: Iterable[Line]) -> int | None:
    """Return the number of the first line that does not follow from the one before it; None for a whole chain."""
    last: Line | None = None
    for line in lines:
        follows = last is None or (line.seq, line.prev_hash) == (last.seq + 1, last.hash)
        if not (follows and is_itself(line)):
            return line.seq
        last = line
    return None


def broken_at() -> Job[int | None]:
    """Return the number of the first line that does not follow from the one before; None for a whole chain."""
    rows = yield "SELECT seq, at_ms, actor, action, detail, prev_hash, hash FROM audit ORDER BY seq", ()
    checkpoint = yield from fact(_CHECKPOINT)
    begins, _, prev_hash = (checkpoint or f"0 {GENESIS}").partition(" ")
    is_told = checkpoint is None
    for seq, line in enumerate(map(_line, rows), int(begins) + 1):
        entry = Entry(line.at_ms, line.actor, line.action, line.detail)
        if (line.seq, line.prev_hash, line.hash) != (seq, prev_hash, line_hash(prev_hash, seq, entry)):
            return line.seq
        prev_hash = line.hash
        is_told = is_told or (line.action == PRUNE and line.detail == checkpoint)
    return None if is_told else int(begins)


def prune(before_ms: int, now: Moment, actor: str) -> Job[int]:
    """Take off the lines older than ``before_ms`` and say so in the chain; nothing on an unsure clock. Return how many.

    Only a beginning of the chain goes. A line that a wrong clock dated into the future is as old as its neighbours. A
    chain that is broken stays as it is: it is evidence. Raises Conflict for one.
    """
    if not now.is_sure:
        return 0
    if (broken := (yield from broken_at())) is not None:
        raise Conflict(f"the audit log is broken at line {broken}: nothing is taken off, keep a copy and find out why")
    rows = yield "SELECT min(seq) FROM audit WHERE at_ms >= ? AND at_ms <= ?", (before_ms, now.ms)
    ((last,),) = yield "SELECT max(seq) FROM audit", ()
    if last is None:
        return 0
    stays = int(last) + 1 if rows[0][0] is None else int(rows[0][0])
    gone = yield "SELECT seq, hash FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT 1", (stays,)
    if not gone:
        return 0
    ((n,),) = yield "SELECT count(*) FROM audit WHERE seq < ?", (stays,)
    checkpoint = f"{gone[0][0]} {gone[0][1]}"
    yield from write([Entry(now.ms, actor, PRUNE, checkpoint)])  # before the last line goes that it follows
    yield "DELETE FROM audit WHERE seq < ?", (stays,)
    yield from set_fact(_CHECKPOINT, checkpoint)
    return int(n)


def _line(row: Sequence[object]) -> Line:
    names = ("seq", "at_ms", "actor", "action", "detail", "prev_hash", "hash")
    return msgspec.convert(dict(zip(names, row, strict=True)), Line)
