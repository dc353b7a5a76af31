"""Files that jobs made, for those who fetch them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import zstandard

from cloud.jobs.attempt import PART_BYTES
from cloud.store import jobs
from cloud.store.database import Database
from cloud.store.jobs import File
from shared.errors import StoreError
from shared.sync.records import to_ms


class Files:
    """The files that jobs made."""

    def __init__(self, database: Database, *, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def find(self, job_id: str) -> File | None:
        """Return the file of a job that has succeeded, None where there is none any more."""
        async with self._database.snapshot() as connection:
            return await jobs.file_of(connection, job_id, to_ms(self._now()))

    async def read(self, job_id: str) -> AsyncIterator[bytes]:
        """Give the file's bytes, a part at a time; raises StoreError where it goes while it is read."""
        file = await self.find(job_id)
        n, left = 0, 0 if file is None else file.size_bytes
        while file is not None and left > 0:
            async with self._database.snapshot() as connection:
                packed = await jobs.part(connection, file, n)
            if packed is None:
                raise StoreError("the file was removed while it was read")
            part = await asyncio.to_thread(_unpacked, packed)
            yield part
            n, left = n + 1, left - len(part)


def _unpacked(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=PART_BYTES)
