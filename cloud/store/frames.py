"""The cloud's ledger of frames in PostgreSQL, and what its decoder writes in one transaction.

::

    link --append, commit--> frames --read_after(cursor)--> codecs --take--> fixes, undecoded, cursor: one transaction

Identical frames of one link in one UTC day are one row with a count. Numbers are given while the counter's row is held
to the commit, so a number never appears below one that was read already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from cloud.store.batches import halving
from cloud.store.database import Connection
from cloud.store.fixes import FixWriter
from cloud.store.records import Noted, lock_for_fixes, note, one
from cloud.store.texts import cleaned
from shared.domain import HeardDevice, NewFix
from shared.sync.fixes import DAY_MS
from shared.sync.records import from_ms, to_ms

CONSUMER: Final = "decode"
_SHOWN_BYTES: Final = 64


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A frame on its way into the ledger. ``received_at`` is by the cloud's clock, whose state is ``clock``."""

    link: str
    framing: str
    topic: str
    device: str
    payload: bytes
    received_at: datetime
    clock: str


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


class Said(msgspec.Struct, frozen=True):
    """What one frame says, or why it cannot be read."""

    seq: int
    fixes: Sequence[NewFix] = ()
    heard: Sequence[HeardDevice] = ()
    #: None where it could be read
    refusal: str | None = None


class Undecoded(msgspec.Struct, frozen=True, kw_only=True):
    """A frame that cannot be read, and why; ``head`` is its beginning in hex digits."""

    seq: int
    link: str
    framing: str
    topic: str
    reason: str
    received_at: datetime
    copies: int
    size_bytes: int
    head: str


class Written(msgspec.Struct):
    """What became of a stretch of the ledger."""

    fixes: int = 0
    new_fixes: int = 0
    enriched_fixes: int = 0
    undecoded: int = 0


async def append(connection: Connection, entries: Sequence[Entry]) -> int:
    """Write frames into the ledger and return its highest number then; they are kept once the transaction commits."""
    said_of: dict[tuple[int, bytes], list[Entry]] = {}
    for entry in entries:
        said_of.setdefault((to_ms(entry.received_at) // DAY_MS, _digest(entry)), []).append(entry)
    # held to the commit: whoever appends beside us waits, and gets higher numbers
    (last,) = await one(connection, "SELECT value FROM counters WHERE name = 'frame' FOR UPDATE")
    rows = []
    for seq, ((day, digest), said) in enumerate(said_of.items(), last + 1):
        first = said[0]
        rows.append((
            seq, day, digest, first.link, first.framing, cleaned(first.topic), first.device, first.payload,
            to_ms(first.received_at), first.clock, len(said), to_ms(said[-1].received_at),
        ))  # fmt: skip
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO frames AS f (seq, day, digest, link, framing, topic, device, payload, received_ms, clock,"
            " copies, last_received_ms) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (day, digest) DO UPDATE SET copies = f.copies + excluded.copies,"
            " last_received_ms = greatest(f.last_received_ms, excluded.last_received_ms)",
            rows,
        )
    newest, fresh = await one(
        connection, "SELECT coalesce(max(seq), %s), count(*) FROM frames WHERE seq > %s", (last, last)
    )
    await connection.execute(
        "UPDATE counters SET value = CASE name WHEN 'frame' THEN %s ELSE value + %s END"
        " WHERE name IN ('frame', 'frames')",
        (newest, fresh),
    )
    return int(newest)


async def position(connection: Connection) -> int:
    """Return how far the decoder has come; 0 before its first step."""
    found = await connection.execute("SELECT position FROM cursors WHERE consumer = %s", (CONSUMER,))
    row = await found.fetchone()
    return 0 if row is None else int(row[0])


async def read_after(connection: Connection, seq: int, limit: int, *, is_undecoded: bool = False) -> list[Row]:
    """Return up to ``limit`` frames with a higher number, in order; ``is_undecoded``: only those that are listed."""
    only = " AND seq IN (SELECT frame_seq FROM undecoded)" if is_undecoded else ""
    found = await connection.execute(
        "SELECT seq, link, framing, topic, device, payload, received_ms, clock, copies FROM frames"
        f" WHERE seq > %s{only} ORDER BY seq LIMIT %s".encode(),
        (seq, limit),
    )
    return [
        Row(seq, link, framing, topic, device, bytes(payload), received_ms, clock, copies)
        for seq, link, framing, topic, device, payload, received_ms, clock, copies in await found.fetchall()
    ]


async def take(connection: Connection, said: Sequence[Said], now_ms: int, reached: int | None = None) -> Written:
    """Store what frames say and, where ``reached`` is given, move the decoder's cursor there.

    The cursor never goes back, so two decoders at once write the same twice, which is writing it once. A frame whose
    fixes the database does not take is listed as one that cannot be read; its neighbours are stored.
    """
    await lock_for_fixes(connection)
    written = Written()
    lines: list[Noted] = []
    refused = {each.seq: each.refusal for each in said if each.refusal is not None}
    readable = [each for each in said if each.refusal is None]

    async def some(places: Sequence[int]) -> None:
        writer = FixWriter(connection, now_ms)
        await writer.hear(_newest([heard for place in places for heard in readable[place].heard]))
        added = await writer.add([fix for place in places for fix in readable[place].fixes])
        written.fixes += len(added.outcomes)
        written.new_fixes += added.outcomes.count("new")
        written.enriched_fixes += added.outcomes.count("enriched")
        lines.extend(added.lines)
        new_rows[0] += added.new

    def refuse(place: int, code: str, detail: str) -> None:
        refused[readable[place].seq] = f"{code}: {detail}"

    new_rows = [0]
    await halving(connection, list(range(len(readable))), some, refuse)
    written.undecoded = len(refused)
    await _list(connection, [each.seq for each in said], refused)
    if reached is not None:
        await connection.execute(
            "INSERT INTO cursors AS c (consumer, position) VALUES (%s, %s) ON CONFLICT (consumer) DO UPDATE"
            " SET position = greatest(c.position, excluded.position)",
            (CONSUMER, reached),
        )
    await note(connection, lines, new_fixes=new_rows[0])
    return written


async def undecoded(connection: Connection, limit: int = 100) -> list[Undecoded]:
    """Return the newest frames that cannot be read."""
    found = await connection.execute(
        "SELECT f.seq, f.link, f.framing, f.topic, u.reason, f.received_ms, f.copies, length(f.payload),"
        " encode(substring(f.payload FROM 1 FOR %s), 'hex') FROM undecoded u JOIN frames f ON f.seq = u.frame_seq"
        " ORDER BY f.seq DESC LIMIT %s",
        (_SHOWN_BYTES, limit),
    )
    return [
        Undecoded(
            seq=seq, link=link, framing=framing, topic=topic, reason=reason, received_at=from_ms(received_ms),
            copies=copies, size_bytes=size, head=head,
        )
        for seq, link, framing, topic, reason, received_ms, copies, size, head in await found.fetchall()
    ]  # fmt: skip


async def _list(connection: Connection, seqs: Sequence[int], refused: Mapping[int, str]) -> None:
    """Have exactly the frames of ``refused`` listed, of these ``seqs``."""
    await connection.execute(
        "DELETE FROM undecoded WHERE frame_seq = ANY(%s)", ([seq for seq in seqs if seq not in refused],)
    )
    rows: list[tuple[Any, ...]] = [(seq, cleaned(reason)) for seq, reason in sorted(refused.items())]
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO undecoded (frame_seq, reason) VALUES (%s, %s)"
            " ON CONFLICT (frame_seq) DO UPDATE SET reason = excluded.reason",
            rows,
        )


def _newest(heard: Sequence[HeardDevice]) -> list[HeardDevice]:
    """Return what is known of each device after all of it was heard."""
    known: dict[str, HeardDevice] = {}
    for each in heard:
        known[each.device] = each.folded(known.get(each.device))
    return list(known.values())


def _digest(entry: Entry) -> bytes:
    parts = (entry.link.encode(), entry.framing.encode(), entry.topic.encode(), entry.payload)
    return hashlib.blake2b(b"\x00".join(parts), digest_size=16).digest()
