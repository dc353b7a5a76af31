"""Room on the disk: what goes, and in which order, before frames are refused; and what goes because it is old.

::

    20 % free   warned
    10 % free   1 older copies beside the data, copies of older schemas
                2 closed segments of the ledger that are decoded and whose fixes the cloud has confirmed
    250 MiB     failing: frames that no disk takes are held on the link, nothing is acknowledged

A frame that the cloud has not confirmed, or that no codec can read, is never removed. Nothing is removed on an unsure
clock but copies that are there twice, and nothing of the ledger where there is no cloud. Journald limits the log. What
is older than ninety days, decoded and confirmed goes without need. Drawn occurrence stays: it is small and would be
drawn again in the next idle moment.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from edge.ops.backup import newest
from edge.store import outbox, unsent
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from shared.clock import Clock
from shared.errors import StoreError
from shared.sync.records import to_ms

log = structlog.get_logger()

ACT_SHARE: Final = 0.10
EVERY_S: Final = 60.0
#: Age is looked at in one of so many turns: all that waits for the cloud is read for it.
AGE_EVERY: Final = 60
RAW_KEPT: Final = timedelta(days=90)
#: Under pressure so much raw data stays even when it is confirmed: what a person may want to look into today.
RAW_KEPT_UNDER_PRESSURE: Final = timedelta(days=2)


class Usage(Protocol):
    """What ``shutil.disk_usage`` returns."""

    @property
    def total(self) -> int:
        """Bytes of the medium."""
        ...

    @property
    def free(self) -> int:
        """Bytes that can still be written."""
        ...


class Shed(msgspec.Struct, kw_only=True):
    """What a round removed."""

    copies: int = 0
    segments: int = 0

    @property
    def is_nothing(self) -> bool:
        """Say whether nothing was removed."""
        return not (self.copies or self.segments)


class Confirmed(msgspec.Struct, frozen=True):
    """Frames up to ``seq`` that came before ``before_ms`` are decoded, and their fixes are in the cloud."""

    seq: int
    before_ms: int


def confirmed(db: Connection, consumer: str) -> Confirmed | None:
    """Return which frames nobody needs any more; None where that cannot be told, or there is no cloud."""
    here = outbox.enrolment(db)
    if here is None or here.last_receipt_ms is None:
        return None
    row = db.execute("SELECT position FROM cursors WHERE consumer = ?", (consumer,)).fetchone()
    (unread,) = db.execute("SELECT min(ledger_seq) FROM undecoded").fetchone()
    if row is None:
        return None
    oldest_ms = unsent.oldest_waiting_ms(db)
    before_ms = here.last_receipt_ms if oldest_ms is None else min(here.last_receipt_ms, oldest_ms)
    return Confirmed(int(row[0]) if unread is None else min(int(row[0]), int(unread) - 1), before_ms)


class Room:
    """Keeps room on the media of the data; ``remove_before`` is the ledger's, run in its own thread."""

    def __init__(
        self,
        store: SpatialiteStore,
        remove_before: Callable[[int, int], Awaitable[int]],
        clock: Clock,
        *,
        consumer: str,
        database: Path,
        ledger: Path,
        backups: Path,
        usage: Callable[[Path], Usage] = shutil.disk_usage,
    ) -> None:
        self._store = store
        self._remove_before = remove_before
        self._clock = clock
        self._consumer = consumer
        self._database = database
        self._ledger = ledger
        self._backups = backups
        self._usage = usage
        self._turns = 0
        #: what was removed since the start
        self.total = Shed()

    async def run(self) -> None:
        """Look once a minute, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.turn()
            except StoreError as error:
                log.error("room.refused", code=error.code, detail=error.detail)

    async def turn(self) -> Shed:
        """Remove what is old and, step by step while there is too little room, what can be missed."""
        done = Shed()
        if self._turns % AGE_EVERY == 0:
            done.segments += await self._forget_raw(RAW_KEPT)
        self._turns += 1
        if self._is_scarce(self._database):
            done.copies = await asyncio.to_thread(self._forget_copies)
        if self._is_scarce(self._ledger):
            done.segments += await self._forget_raw(RAW_KEPT_UNDER_PRESSURE)
        if not done.is_nothing:
            log.warning("room.made", copies=done.copies, segments=done.segments)
            for name in done.__struct_fields__:
                setattr(self.total, name, getattr(self.total, name) + getattr(done, name))
        return done

    def _is_scarce(self, path: Path) -> bool:
        usage = self._usage(path if path.exists() else path.parent)
        return usage.free < usage.total * ACT_SHARE

    def _forget_copies(self) -> int:
        removed = 0
        if self._backups.exists() and self._backups.stat().st_dev == self._database.stat().st_dev:
            for copy in newest(self._backups / "hourly")[1:]:
                shutil.rmtree(copy, ignore_errors=True)
                removed += 1
        for copy in self._database.parent.glob(f"{self._database.name}.schema-*"):
            copy.unlink()
            removed += 1
        return removed

    async def _forget_raw(self, kept: timedelta) -> int:
        if not self._clock.state.is_sure:
            return 0
        known = await self._store.read(lambda db: confirmed(db, self._consumer))
        if known is None:
            return 0
        return await self._remove_before(known.seq, min(known.before_ms, to_ms(self._clock.now() - kept)))
