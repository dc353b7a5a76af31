"""The first consumer of the ledger: frames to fixes, in order, with a cursor that moves with what it wrote.

Killed at any point it starts again at its cursor and writes the same rows again, which is writing them once. Frames
that no codec can read are listed as ``undecoded`` with the reason; ``redecode`` runs the whole ledger again when a
codec has learnt something, and changes nothing when nothing changed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from edge.store.fixes import StoredFix
from edge.store.ledger import LedgerReader, Row
from edge.store.store import SpatialiteStore
from edge.store.undecoded_frames import Undecoded
from firmware_bridge.reception import HEAD_BYTES, Received, facts_of
from shared.clock import ClockState
from shared.domain import HeardDevice, NewFix
from shared.errors import FrameError, StoreError
from shared.ids import id_text
from shared.logs import LEVELS_NOW
from shared.sync.records import from_ms

log = structlog.get_logger()

CONSUMER: Final = "decode"
BATCH: Final = 1_000
RETRY_S: Final = 1.0


class Decoded(msgspec.Struct):
    """What a stretch of the ledger says."""

    position: int
    fixes: list[NewFix] = []
    heard: list[HeardDevice] = []
    undecoded: list[Undecoded] = []
    decoded_seqs: list[int] = []
    is_full: bool = False


def decode_rows(rows: Sequence[Row]) -> Decoded:
    """Decode frames of the ledger; a frame that cannot be read becomes an ``Undecoded`` and costs no neighbour."""
    decoded = Decoded(rows[-1].seq, is_full=len(rows) >= BATCH)
    for row in rows:
        try:
            fixes, heard = facts_of(
                Received(
                    link=row.link, framing=row.framing, topic=row.topic, device=row.device,  # type: ignore[arg-type] # as stored
                    payload=row.payload, received_at=from_ms(row.received_ms),
                    is_clock_sure=ClockState(row.clock).is_sure,
                )
            )  # fmt: skip
        except FrameError as error:
            decoded.undecoded.append(
                Undecoded(
                    row.seq, row.link, row.framing, row.topic, error.detail, from_ms(row.received_ms),
                    len(row.payload), row.payload[:HEAD_BYTES],
                )
            )  # fmt: skip
            continue
        decoded.fixes += fixes
        decoded.heard += heard
        decoded.decoded_seqs.append(row.seq)
    return decoded


class Decoder:
    """Follows the ledger; ``wake`` after each commit, ``stored`` hears of what was new."""

    def __init__(
        self, reader: LedgerReader, store: SpatialiteStore, stored: Callable[[Sequence[StoredFix]], None]
    ) -> None:
        self._reader = reader
        self._store = store
        self._stored = stored
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "decode")
        self._news = asyncio.Event()
        self._reported: set[Path] = set()
        self.position = 0
        #: whether more frames wait than are decoded at once
        self.is_behind = False

    def wake(self) -> None:
        """Say that the ledger has grown; from the event loop's thread."""
        self._news.set()

    async def run(self) -> None:
        """Decode from the cursor on, for ever. A store that cannot write (a full disk) is tried again."""
        self.position = await self._store.cursor(CONSUMER)
        following: asyncio.Future[Decoded | None] | None = None
        has_failed = False
        while True:
            batch = await (following or self._next(self.position))
            following = None
            self._report_damage()
            self.is_behind = batch is not None and batch.is_full
            if batch is None:
                await self._news.wait()
                continue
            following = self._next(batch.position)  # decoded while the store writes this one
            try:
                stored = await self._write(batch)
            except StoreError as error:
                if not has_failed:
                    log.error("decode.refused", reason=error.detail)
                has_failed = True
                await asyncio.wait([following])
                following = None
                await asyncio.sleep(RETRY_S)
                continue
            if has_failed:
                log.info("decode.recovered")
                has_failed = False
            self.position = batch.position
            self._tell(stored)
            self._stored(stored)

    @property
    def damaged(self) -> Mapping[Path, str]:
        """The segments of the ledger with frames that could not be read, and why."""
        return self._reader.damaged

    async def close(self) -> None:
        """Close the reader, after ``run`` was cancelled."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._reader.close)
        self._thread.shutdown()

    def _next(self, after_seq: int) -> asyncio.Future[Decoded | None]:
        self._news.clear()  # before the ledger is read: a frame that comes later sets it again
        return asyncio.get_running_loop().run_in_executor(self._thread, self._read_and_decode, after_seq)

    def _tell(self, stored: Sequence[StoredFix]) -> None:
        """Name each fix in the log where somebody asked for that, without its place."""
        if LEVELS_NOW.allows(__name__, "debug"):
            for fix in stored:
                log.debug(
                    "fix.stored", id=id_text(fix.id), outcome=fix.outcome, collar=fix.collar_id, link=fix.link,
                    flags=fix.flags, recorded_at=from_ms(fix.recorded_ms).isoformat(), ledger_seq_up_to=self.position,
                )  # fmt: skip

    def _report_damage(self) -> None:
        for path in self._reader.damaged.keys() - self._reported:
            self._reported.add(path)
            log.error("ledger.damaged", file=str(path), reason=self._reader.damaged[path])

    def _read_and_decode(self, after_seq: int) -> Decoded | None:
        rows = self._reader.read(after_seq, BATCH)
        return decode_rows(rows) if rows else None

    def _write(self, batch: Decoded) -> Awaitable[list[StoredFix]]:
        return self._store.take_decoded(
            CONSUMER, batch.position, batch.fixes, batch.heard, batch.undecoded, batch.decoded_seqs
        )


class Redecoded(msgspec.Struct, kw_only=True):
    """What decoding the whole ledger again found."""

    frames: int = 0
    fixes: int = 0
    new_fixes: int = 0
    enriched_fixes: int = 0
    undecoded: int = 0


async def redecode(
    reader: LedgerReader, store: SpatialiteStore, progress: Callable[[int], None] = lambda _: None
) -> Redecoded:
    """Run decoding over the whole ledger; every fix that is stored already stays as it is."""
    found = Redecoded()
    position = 0
    while rows := await asyncio.to_thread(reader.read, position, BATCH):
        batch = await asyncio.to_thread(decode_rows, rows)
        stored = await store.take_decoded(
            CONSUMER, batch.position, batch.fixes, batch.heard, batch.undecoded, batch.decoded_seqs
        )
        found.frames += len(rows)
        found.fixes += len(stored)
        found.new_fixes += sum(fix.outcome == "new" for fix in stored)
        found.enriched_fixes += sum(fix.outcome == "enriched" for fix in stored)
        found.undecoded += len(batch.undecoded)
        position = batch.position
        progress(position)
    return found
