"""How far the ledger's frames have gone up to the cloud: the channel ``frames``, a consumer of the ledger like others.

Frames are read outside of the transaction (``edge.sync.frames``), because the ledger is files of its own. What a batch
held are the places between two of the consumer's; a batch that is put back moves it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edge.store.driver import Connection
from edge.store.ledger import Row
from shared.wire.raw import RawFrame

CONSUMER: Final = "frames_up"
#: Only what was decoded, or tried, goes up: a ledger that lost its end gives no place twice up to there.
_DECODER: Final = "decode"


class Stretch(msgspec.Struct, frozen=True, array_like=True):
    """Places of the ledger after ``after_seq`` through ``last_seq``."""

    after_seq: int
    last_seq: int


def position(db: Connection) -> Stretch:
    """Return the places of the ledger that wait; the first call says that this station sends frames at all."""
    db.execute("INSERT OR IGNORE INTO cursors (consumer, position) VALUES (?, 0)", (CONSUMER,))
    return _position(db)


def waiting(db: Connection) -> int:
    """Return how many places wait; none at a station that never sent frames."""
    known = db.execute("SELECT 1 FROM cursors WHERE consumer = ?", (CONSUMER,)).fetchone()
    there = _position(db)
    return 0 if known is None else max(0, there.last_seq - there.after_seq)


def move(db: Connection, last_seq: int) -> None:
    """Note that everything through ``last_seq`` is in a batch, or is none."""
    db.execute("UPDATE cursors SET position = max(position, ?) WHERE consumer = ?", (last_seq, CONSUMER))


def put_back(db: Connection, held: Stretch) -> None:
    """Make what a batch held wait again."""
    db.execute("UPDATE cursors SET position = min(position, ?) WHERE consumer = ?", (held.after_seq, CONSUMER))


def wait_whole(db: Connection) -> None:
    """Make every frame that is here wait, as for a cloud that has none."""
    db.execute("UPDATE cursors SET position = 0 WHERE consumer = ?", (CONSUMER,))


def frames_of(rows: Sequence[Row]) -> list[RawFrame]:
    """Return rows of the ledger as they are sent."""
    return [
        RawFrame(
            seq=row.seq, link=row.link, framing=row.framing, topic=row.topic, device=row.device, payload=row.payload,
            received_ms=row.received_ms, clock=row.clock, copies=row.copies,
        )
        for row in rows
    ]  # fmt: skip


def _position(db: Connection) -> Stretch:
    found = dict(
        db.execute("SELECT consumer, position FROM cursors WHERE consumer IN (?, ?)", (CONSUMER, _DECODER)).fetchall()
    )
    return Stretch(int(found.get(CONSUMER, 0)), int(found.get(_DECODER, 0)))
