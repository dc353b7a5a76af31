"""Implements ``shared.api.sync_log.Queue`` over the station's store."""

from __future__ import annotations

from collections.abc import Callable

from edge.store import queue
from edge.store.store import SpatialiteStore
from shared.store import Page
from shared.sync.log import Item, Whose
from shared.sync.records import to_ms


class StationQueue:
    """What this station sends to the cloud; ``wake`` has it sent soon."""

    def __init__(self, store: SpatialiteStore, *, wake: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._wake = wake

    async def pending(self, whose: Whose, offset: int, limit: int) -> Page[Item]:
        """Return what waits for the cloud, what is on its way first."""
        return await self._store.read(lambda db: queue.pending(db, whose, offset, limit))

    async def retry(self, item: Item) -> Item:
        """Have an item wait for the cloud again."""
        tried = await self._store.write(lambda db: queue.send_again(db, item, to_ms(self._store.now())))
        self._wake()
        return tried
