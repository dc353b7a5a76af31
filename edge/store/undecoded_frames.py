"""The list of frames that no codec can read; the frames themselves lie in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from edge.store.driver import Connection
from shared.sync.records import from_ms, to_ms


class Undecoded(msgspec.Struct, frozen=True):
    """A frame of the ledger that no codec can read, and why."""

    ledger_seq: int
    link: str
    framing: str
    topic: str
    reason: str
    received_at: datetime
    size_bytes: int
    head: bytes


def note(db: Connection, undecoded: Sequence[Undecoded], decoded_seqs: Sequence[int]) -> None:
    """Enter frames that cannot be read; ``decoded_seqs`` can by now, and leave the list."""
    if decoded_seqs:
        listed = db.execute(
            "SELECT ledger_seq FROM undecoded WHERE ledger_seq BETWEEN ? AND ?", (min(decoded_seqs), max(decoded_seqs))
        ).fetchall()
        readable = set(decoded_seqs).intersection(seq for (seq,) in listed)
        db.executemany("DELETE FROM undecoded WHERE ledger_seq = ?", [(seq,) for seq in readable])
    db.executemany(
        "INSERT OR REPLACE INTO undecoded (ledger_seq, link, framing, topic, reason, received_ms, size_bytes, head)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (u.ledger_seq, u.link, u.framing, u.topic, u.reason, to_ms(u.received_at), u.size_bytes, u.head)
            for u in undecoded
        ],
    )


def newest(db: Connection, limit: int) -> list[Undecoded]:
    """Return the newest frames that no codec can read."""
    found = db.execute(
        "SELECT ledger_seq, link, framing, topic, reason, received_ms, size_bytes, head FROM undecoded"
        " ORDER BY ledger_seq DESC LIMIT ?",
        (limit,),
    )
    return [
        Undecoded(seq, link, framing, topic, reason, from_ms(received), size, head)
        for seq, link, framing, topic, reason, received, size, head in found
    ]
