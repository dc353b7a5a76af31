"""Frames as stations heard them: kept for a time, read by administrators, and nothing is computed of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from cloud.store.batches import Taken, halving_fit
from cloud.store.database import Connection
from shared.errors import Invalid
from shared.sync.records import check_text
from shared.wire.raw import RawFrame

#: A frame is kept so long after it came.
KEPT_MS: Final = 180 * 86_400_000
#: So many are removed in one transaction.
PRUNED_AT_ONCE: Final = 10_000
_MOST_MS: Final = 2**62
_MOST_COPIES: Final = 2**31 - 1
_NAMES: Final = ("link", "framing", "topic", "device", "clock")


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A frame and when it came."""

    frame: RawFrame
    taken_ms: int


async def take_frames(connection: Connection, frames: Sequence[RawFrame], station_id: str, now_ms: int) -> Taken:
    """Keep the frames of a batch; one that is here already takes the higher count of copies."""
    taken = Taken(Counter(), [], [], refused=[])

    def refuse(place: int, code: str, detail: str) -> None:
        taken.refused.append((code, detail, msgspec.msgpack.encode(frames[place])))
        taken.counts["quarantined"] += 1

    async def take(places: Sequence[int]) -> None:
        fresh: dict[bytes, RawFrame] = {}
        for frame in (frames[place] for place in places):
            known = fresh.get(frame.digest)
            if known is None or known.copies < frame.copies:
                fresh[frame.digest] = frame
        rows = [fresh[digest] for digest in sorted(fresh)]
        found = await connection.execute(
            "INSERT INTO station_frames AS f (station_id, digest, seq, link, framing, topic, device, payload,"
            " received_ms, clock, copies, taken_ms) SELECT %s, *, %s FROM unnest(%s::bytea[], %s::bigint[], %s::text[],"
            " %s::text[], %s::text[], %s::text[], %s::bytea[], %s::bigint[], %s::text[], %s::integer[])"
            " ON CONFLICT (station_id, digest) DO UPDATE SET copies = greatest(f.copies, excluded.copies)"
            " RETURNING xmax = 0",
            (
                station_id, now_ms, [row.digest for row in rows], [row.seq for row in rows],
                [row.link for row in rows], [row.framing for row in rows], [row.topic for row in rows],
                [row.device for row in rows], [row.payload for row in rows], [row.received_ms for row in rows],
                [row.clock for row in rows], [row.copies for row in rows],
            ),
        )  # fmt: skip
        new = sum(is_new for (is_new,) in await found.fetchall())
        taken.counts["applied"] += new
        taken.counts["duplicate"] += len(places) - new

    await halving_fit(connection, len(frames), lambda place: _check(frames[place]), take, refuse)
    return taken


async def frames_of(
    connection: Connection, station_id: str, since_ms: int, until_ms: int, after_seq: int, limit: int
) -> list[Frame]:
    """Return frames that a station heard in a span, by their place in its ledger, after one of them."""
    found = await connection.execute(
        "SELECT seq, link, framing, topic, device, payload, received_ms, clock, copies, taken_ms FROM station_frames"
        " WHERE station_id = %s AND received_ms >= %s AND received_ms < %s AND seq > %s ORDER BY seq, digest LIMIT %s",
        (station_id, since_ms, until_ms, after_seq, limit),
    )
    return [
        Frame(
            frame=RawFrame(
                seq=seq, link=link, framing=framing, topic=topic, device=device, payload=bytes(payload),
                received_ms=received_ms, clock=clock, copies=copies,
            ),
            taken_ms=taken_ms,
        )
        for seq, link, framing, topic, device, payload, received_ms, clock, copies, taken_ms in await found.fetchall()
    ]  # fmt: skip


async def forget(connection: Connection, before_ms: int, limit: int = PRUNED_AT_ONCE) -> int:
    """Remove frames that came before then, at most ``limit``, and return how many; call it on a sure clock."""
    done = await connection.execute(
        "DELETE FROM station_frames WHERE (station_id, digest) IN (SELECT station_id, digest FROM station_frames"
        " WHERE taken_ms < %s ORDER BY taken_ms LIMIT %s)",
        (before_ms, limit),
    )
    return done.rowcount


def _check(frame: RawFrame) -> None:
    for name in _NAMES:
        check_text(name, getattr(frame, name))
    if abs(frame.received_ms) > _MOST_MS or not 0 <= frame.seq <= _MOST_MS or not 0 < frame.copies <= _MOST_COPIES:
        raise Invalid("a frame has a place, an instant and a count of copies")
