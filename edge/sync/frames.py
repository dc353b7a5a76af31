"""The ledger as a session reads it: frames that go up, in a thread of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures
from pathlib import Path

from edge.store.ledger import LedgerReader, Row


class Frames:
    """Reads frames of the ledger; what is damaged is passed over, as everywhere (``LedgerReader``)."""

    def __init__(self, folder: Path, key: bytes | None) -> None:
        self._reader = LedgerReader(folder, key)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "frames")

    async def read(self, after_seq: int, limit: int) -> list[Row]:
        """Return up to ``limit`` frames after a place, in order."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._reader.read, after_seq, limit)

    async def aclose(self) -> None:
        """Close the file and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._reader.close)
        self._thread.shutdown()
