"""From a link into the ledger: read, commit, receipt, acknowledge, in this order and no other."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from edge.store.ledger import Entry
from firmware_bridge.codecs.registry import decode_frame
from firmware_bridge.frames import Frame, Heard, Link
from shared.clock import Clock, StationClock
from shared.errors import FrameError, LinkClosed, LinkError, StoreError
from shared.sync.records import to_ms

log = structlog.get_logger()

#: How long a frame that the disk refused waits before it is offered again.
RETRY_S: Final = 1.0


class Appends(Protocol):
    """Takes frames and comes back once they are on disk."""

    async def append(self, entries: Sequence[Entry]) -> int:
        """Return once ``entries`` are on disk; raises StoreFull or StoreError."""
        ...


async def receive(link: Link, ledger: Appends, clock: Clock, committed: Callable[[], None]) -> None:
    """Carry frames from ``link`` to the ledger until it closes; ``committed`` is called after each commit.

    A disk that is full refuses: the frames are held here, nothing is acknowledged, the link is not read on, and the
    commit is tried again until there is room.
    """
    while True:
        try:
            heard = await link.read()
        except LinkClosed:
            return
        now = clock.now()
        received_ms, clock_state = to_ms(now), str(clock.state)
        monotonic_ns = int(clock.monotonic() * 1e9)
        entries = [
            Entry(
                link.name, item.frame.framing, item.frame.topic, item.frame.payload, received_ms, monotonic_ns,
                clock_state, link.device,
            )
            for item in heard
        ]  # fmt: skip
        await _commit(link, ledger, entries)
        committed()
        await _confirm(link, heard)


async def _commit(link: Link, ledger: Appends, entries: Sequence[Entry]) -> None:
    has_failed = False
    while True:
        try:
            await ledger.append(entries)
        except StoreError as error:
            if not has_failed:
                log.error("ledger.refused", link=link.name, frames=len(entries), reason=error.detail)
            has_failed = True
            await asyncio.sleep(RETRY_S)
        else:
            if has_failed:
                log.info("ledger.recovered", link=link.name)
            return


async def _confirm(link: Link, heard: Sequence[Heard]) -> None:
    """Send the receipts, one for all copies of a frame, then acknowledge: what brings the next frames comes last.

    A gateway sends again whatever has no receipt. If acknowledgements went first, a slow broker would hand over copies
    faster than it takes the receipts that would end them.
    """
    receipts = dict.fromkeys(receipt for item in heard if (receipt := receipt_for(item.frame)) is not None)
    try:
        await asyncio.gather(*(link.publish(*receipt) for receipt in receipts))
        await link.acknowledge(heard)
    except LinkError as error:
        # the peer sends again and the ledger counts a copy
        log.warning("link.unconfirmed", link=link.name, frames=len(heard), reason=error.detail)


def receipt_for(frame: Frame) -> tuple[str, bytes] | None:
    """Return topic and body of the receipt that the sender of ``frame`` waits for, if it waits for one.

    It says what is on this station's disk, by the digest of the sender's own bytes and, where they can be read, by
    collar, instant and sequence number; an unreadable message is kept too and the receipt says why it cannot be read.
    """
    if not (frame.topic.startswith("outpost/") and frame.topic.endswith("/fix")):
        return None
    body: dict[str, object] = {"sha256": hashlib.sha256(frame.payload).hexdigest(), "status": "kept"}
    try:
        uplinks = decode_frame(frame)
    except FrameError as error:
        body |= {"status": "undecoded", "detail": error.detail}
    else:
        for uplink in uplinks:
            for fix in uplink.fixes:
                body |= {
                    "collar_id": uplink.device.removeprefix("collar:"),
                    "recorded_at": fix.recorded_at,
                    "seq": fix.seq,
                }
    return f"{frame.topic.removesuffix('fix')}ack", msgspec.json.encode(body)


async def discipline(link: Link, clock: StationClock) -> None:
    """Set the clock by the station's own receiver on ``link``, until it closes; nothing of it is stored."""
    while True:
        try:
            heard = await link.read()
        except LinkClosed:
            return
        await link.acknowledge(heard)
        for item in heard:
            try:
                uplinks = decode_frame(item.frame)
            except FrameError:
                continue  # counted by the link's decoder or not the kind that tells the time
            for uplink in uplinks:
                for fix in uplink.fixes:
                    if fix.recorded_at is not None and fix.lon_deg is not None:
                        clock.gnss_says(fix.recorded_at)
