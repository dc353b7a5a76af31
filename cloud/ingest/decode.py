"""The ledger's consumer: frames to fixes, in order, with a cursor that moves with what it wrote.

Killed at any point it starts again at its cursor and writes the same again, which is writing it once. Several at once
(one in each process of the service) do the same: the cursor never goes back. Frames that no codec can read are listed
with the reason; ``redecode`` tries them, or all, again when a codec has learnt something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from cloud.store import frames
from cloud.store.frames import Row, Said, Written
from cloud.store.store import PostgresStore
from firmware_bridge.reception import Received, facts_of
from shared.clock import ClockState
from shared.errors import FrameError, StoreError
from shared.sync.records import from_ms, to_ms

log = structlog.get_logger()

BATCH: Final = 500
#: The ledger is looked at this often without being told: another process may have written.
LOOK_S: Final = 2.0
RETRY_S: Final = 1.0


def said_by(rows: Sequence[Row]) -> list[Said]:
    """Decode frames of the ledger; one that cannot be read costs no neighbour."""
    said = []
    for row in rows:
        try:
            fixes, heard = facts_of(
                Received(
                    link=row.link,
                    framing=row.framing,  # type: ignore[arg-type] # as stored
                    topic=row.topic,
                    device=row.device,
                    payload=row.payload,
                    received_at=from_ms(row.received_ms),
                    is_clock_sure=ClockState(row.clock).is_sure,
                )
            )
        except FrameError as error:
            said.append(Said(row.seq, refusal=error.detail))
            continue
        # unlike a cable's end at a station, a link of the cloud carries many: what names no device is nobody's
        is_nameless = any(each.device == f"link:{row.link}" for each in heard)
        said.append(Said(row.seq, refusal="it names no device") if is_nameless else Said(row.seq, fixes, heard))
    return said


class Decoder:
    """Follows the ledger; ``wake`` after each commit."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Say that the ledger has grown; from the event loop's thread."""
        self._news.set()

    async def run(self) -> None:
        """Decode from the cursor on, for ever. A database that cannot be written to is tried again."""
        has_failed = False
        while True:
            self._news.clear()  # before the ledger is read: a frame that comes later sets it again
            try:
                is_more = await self.turn()
            except StoreError as error:
                if not has_failed:
                    log.error("ingest.decode_refused", reason=error.detail)
                has_failed = True
                await asyncio.sleep(RETRY_S)
                continue
            if has_failed:
                log.info("ingest.decode_recovered")
                has_failed = False
            if not is_more:
                await self._until_news()

    async def turn(self) -> bool:
        """Decode the next frames; say whether there may be more."""
        async with self._store.database.snapshot() as connection:
            rows = await frames.read_after(connection, await frames.position(connection), BATCH)
        if rows:
            written = await _write(self._store, rows, reached=rows[-1].seq)
            if written.undecoded:
                log.warning("ingest.undecoded", frames=written.undecoded)
        return len(rows) == BATCH

    async def _until_news(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._news.wait()
        except TimeoutError:
            pass


class Redecoded(msgspec.Struct, kw_only=True):
    """What decoding again found."""

    frames: int = 0
    fixes: int = 0
    new_fixes: int = 0
    enriched_fixes: int = 0
    undecoded: int = 0


async def redecode(
    store: PostgresStore, *, is_undecoded_only: bool = False, progress: Callable[[int], None] = lambda _: None
) -> Redecoded:
    """Decode the ledger again, whole or only what could not be read; every fix that is stored stays as it is."""
    found = Redecoded()
    seq = 0
    while True:
        async with store.database.snapshot() as connection:
            rows = await frames.read_after(connection, seq, BATCH, is_undecoded=is_undecoded_only)
        if not rows:
            return found
        written = await _write(store, rows, reached=None)
        found.frames += len(rows)
        found.fixes += written.fixes
        found.new_fixes += written.new_fixes
        found.enriched_fixes += written.enriched_fixes
        found.undecoded += written.undecoded
        seq = rows[-1].seq
        progress(found.frames)


async def _write(store: PostgresStore, rows: Sequence[Row], *, reached: int | None) -> Written:
    said = await asyncio.to_thread(said_by, rows)
    await store.partitions.ensure(to_ms(fix.recorded_at) for each in said for fix in each.fixes)
    async with store.database.transaction() as connection:
        return await frames.take(connection, said, to_ms(store.now()), reached)
