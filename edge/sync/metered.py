"""The cloud over a link that is counted: every request is allowed by a ``Meter`` before it goes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from edge.sync.client import Cloud
from edge.sync.meter import OVERHEAD_BYTES, Meter
from shared.sync.blobs import Blob
from shared.sync.streams import Batch, Receipt, StreamAnswer
from shared.wire.link import MAX_CHANGES, MAX_FIXES, SPARE, Changes, Clashes, FixPage, Heads, HeardFixes

T = TypeVar("T")


class MeteredCloud:
    """Implements ``Cloud`` over another one; raises LinkSpent where the link may carry no more today."""

    def __init__(self, cloud: Cloud, meter: Meter) -> None:
        self._cloud = cloud
        self._meter = meter

    @property
    def bytes_up(self) -> int:
        """Bytes of bodies that went up."""
        return self._cloud.bytes_up

    @property
    def bytes_down(self) -> int:
        """Bytes of bodies that came down."""
        return self._cloud.bytes_down

    async def put_batch(self, batch: Batch) -> Receipt | StreamAnswer:
        """Bring a batch; raises CorruptBatch where it arrived damaged."""
        return await self._asked(
            self._cloud.put_batch(batch), len(batch.payload), is_urgent=batch.channel == "alerts",
            is_spare=batch.channel in SPARE,
        )  # fmt: skip

    async def heads(self, epoch: str) -> Heads:
        """Return the heads of this station's streams in one of its epochs."""
        return await self._asked(self._cloud.heads(epoch))

    async def changes(self, epoch: str | None, since: int, limit: int = MAX_CHANGES) -> Changes:
        """Return what changed after ``since``; raises StaleCursor where ``epoch`` is not the cloud's any more."""
        return await self._asked(self._cloud.changes(epoch, since, min(limit, self._meter.profile.max_changes)))

    async def heard(
        self, epoch: str | None, since: int, after: str | None, limit: int = MAX_FIXES
    ) -> HeardFixes | None:
        """Return fixes that the cloud took itself, after a cursor."""
        return await self._asked(self._cloud.heard(epoch, since, after, limit))

    async def newest(self, epoch: str | None, since: int, limit: int = MAX_FIXES) -> HeardFixes | None:
        """Return the newest fix of each collar of which some wait."""
        return await self._asked(self._cloud.newest(epoch, since, limit))

    async def clashes(self, epoch: str | None, since: int) -> Clashes | None:
        """Return conflicts that concern this station after a cursor."""
        return await self._asked(self._cloud.clashes(epoch, since))

    async def fixes(self, collar_id: str, after: str | None, limit: int = MAX_FIXES) -> FixPage:
        """Return the cloud's fixes of a collar after the id ``after`` (hex digits)."""
        return await self._asked(self._cloud.fixes(collar_id, after, limit))

    async def blob_offset(self, sha256: str) -> int:
        """Return how many bytes of a file the cloud has."""
        return await self._asked(self._cloud.blob_offset(sha256))

    async def put_blob(self, blob: Blob, offset: int, part: bytes) -> int:
        """Bring a part of a file and return how many bytes the cloud has."""
        return await self._asked(self._cloud.put_blob(blob, offset, part), len(part))

    async def close(self) -> None:
        """End the connection."""
        await self._cloud.close()

    async def _asked(
        self, request: Awaitable[T], size: int = 0, *, is_urgent: bool = False, is_spare: bool = False
    ) -> T:
        try:
            await self._meter.allow(size + OVERHEAD_BYTES, is_urgent=is_urgent, is_spare=is_spare)
        except BaseException:
            getattr(request, "close", lambda: None)()  # it was never sent
            raise
        before = self._cloud.bytes_down
        try:
            return await request
        finally:
            await self._meter.settle(self._cloud.bytes_down - before)
