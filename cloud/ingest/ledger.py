"""The way into the cloud's ledger: what returns without an error is on the database server's disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from cloud.store import frames
from cloud.store.database import Database
from cloud.store.frames import Entry
from shared.clock import Clock
from shared.errors import StoreError


class Taken(msgspec.Struct, kw_only=True):
    """What a link has brought since the program started."""

    frames: int = 0
    refused: int = 0
    last_error: str = ""


class LedgerWriter:
    """Appends frames of every link; ``committed`` is called after each commit, in the loop's thread."""

    def __init__(self, database: Database, clock: Clock, committed: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._clock = clock
        self._committed = committed
        #: by link
        self.taken: dict[str, Taken] = {}

    async def append(
        self, link: str, framing: str, payloads: Sequence[tuple[str, bytes]], *, within_s: float | None = None
    ) -> None:
        """Commit frames of one link, each with its topic; raises StoreError, and nothing may be acknowledged then.

        ``within_s`` is how long the sender waits. One that takes longer may still happen: sent again, it is a copy.
        """
        at, clock = self._clock.now(), str(self._clock.state)
        entries = [
            Entry(link=link, framing=framing, topic=topic, device="", payload=payload, received_at=at, clock=clock)
            for topic, payload in payloads
        ]
        taken = self.taken.setdefault(link, Taken())
        try:
            async with asyncio.timeout(within_s), self._database.transaction() as connection:
                await frames.append(connection, entries)
        except TimeoutError as error:
            raise StoreError(f"the database did not commit within {within_s:g} s") from error
        taken.frames += len(entries)
        self._committed()

    def refuse(self, link: str, reason: str) -> None:
        """Count what came over ``link`` and was no frame."""
        taken = self.taken.setdefault(link, Taken())
        taken.refused += 1
        taken.last_error = reason
