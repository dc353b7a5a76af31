"""Group commit: what arrives during one commit of the ledger goes into the next.

Each caller waits for its own frames to be on disk. A caller that waits reads no more from its link, so a slow disk is
felt by the links as back-pressure and nothing is dropped. A commit is bounded in frames and bytes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from edge.store.ledger import Entry, LedgerFacts

MAX_FRAMES: Final = 2_000
MAX_BYTES: Final = 2**20


class Appended(Protocol):
    """What frames are appended to: the ledger or, while the station is locked, the spool."""

    set_aside: list[Path]

    def append(self, entries: Sequence[Entry]) -> int:
        """Return once ``entries`` are on disk; raises StoreFull or StoreError."""
        ...

    def facts(self) -> LedgerFacts:
        """Count and size what is kept."""
        ...

    def remove_before(self, seq: int, received_before_ms: int) -> int:
        """Remove what is not needed any more."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class LedgerWriter:
    """Appends to a ledger from many tasks, in one thread of its own."""

    def __init__(self, ledger: Appended) -> None:
        self._ledger = ledger
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "ledger")
        self._waiting: deque[tuple[Sequence[Entry], asyncio.Future[int]]] = deque()
        self._committing: asyncio.Task[None] | None = None
        #: why the last commit was refused; None when it was not
        self.refusal: str | None = None
        #: segments that could not be opened and were set aside, bytes and all
        self.set_aside = ledger.set_aside

    async def append(self, entries: Sequence[Entry]) -> int:
        """Return, once ``entries`` are on disk, the highest seq of their commit; raises StoreFull or StoreError."""
        committed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, committed))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_waiting())
        return await committed

    async def facts(self) -> LedgerFacts:
        """Return what the status page shows."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ledger.facts)

    async def remove_before(self, seq: int, received_before_ms: int) -> int:
        """Remove closed segments up to ``seq`` that are older than the instant; return how many."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._ledger.remove_before, seq, received_before_ms
        )

    async def proof(self) -> None:
        """Come back once the thread that commits has done so: it does not hang."""
        await asyncio.get_running_loop().run_in_executor(self._thread, int)

    async def close(self) -> None:
        """Commit what waits and close the ledger."""
        if self._committing is not None:
            await asyncio.wait([self._committing])
        await asyncio.get_running_loop().run_in_executor(self._thread, self._ledger.close)
        self._thread.shutdown()

    async def _commit_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, waiters = self._take()
                try:
                    seq = await loop.run_in_executor(self._thread, self._ledger.append, batch)
                except Exception as error:  # noqa: BLE001 - whatever it was goes to those whose frames these are
                    self.refusal = str(error)
                    for waiter in waiters:
                        if not waiter.done():
                            waiter.set_exception(error)
                else:
                    self.refusal = None
                    for waiter in waiters:
                        if not waiter.done():
                            waiter.set_result(seq)
        finally:
            self._committing = None

    def _take(self) -> tuple[list[Entry], list[asyncio.Future[int]]]:
        batch: list[Entry] = []
        waiters = []
        size_bytes = 0
        while self._waiting and (not batch or (len(batch) < MAX_FRAMES and size_bytes < MAX_BYTES)):
            entries, committed = self._waiting.popleft()
            batch += entries
            size_bytes += sum(len(entry.payload) for entry in entries)
            waiters.append(committed)
        return batch, waiters
