"""Who read or changed what: lines that each carry the hash of the one before, so that none can be altered or taken out.

The hash covers the line's own words and the hash before it. A cut at the end shows where the last hash is kept
elsewhere: it is part of what a station tells of its health, and of what travels to the cloud.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from shared.accounts.users import Job

#: Before the first line.
GENESIS: Final = "0" * 64


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


def broken_at() -> Job[int | None]:
    """Return the number of the first line that does not follow from the one before; None for a whole chain."""
    rows = yield "SELECT seq, at_ms, actor, action, detail, prev_hash, hash FROM audit ORDER BY seq", ()
    prev_hash = GENESIS
    for seq, line in enumerate(map(_line, rows), 1):
        entry = Entry(line.at_ms, line.actor, line.action, line.detail)
        if (line.seq, line.prev_hash, line.hash) != (seq, prev_hash, line_hash(prev_hash, seq, entry)):
            return line.seq
        prev_hash = line.hash
    return None


def _line(row: Sequence[object]) -> Line:
    names = ("seq", "at_ms", "actor", "action", "detail", "prev_hash", "hash")
    return msgspec.convert(dict(zip(names, row, strict=True)), Line)
