"""Implements ``shared.api.sync_log.Queue`` over the cloud: nothing waits here, and what failed is decided again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from cloud.store import batches
from cloud.store.accounts import run
from cloud.store.batches import Taken
from cloud.store.database import Connection
from cloud.store.records import note
from cloud.store.store import PostgresStore
from shared.errors import Conflict
from shared.ids import derived_id
from shared.store import Page
from shared.sync import log
from shared.sync.log import Item, Whose
from shared.sync.operations import Operation
from shared.sync.records import to_ms


class CloudQueue:
    """Items that stations and phones brought and the cloud could not take."""

    def __init__(self, store: PostgresStore, *, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    async def pending(self, whose: Whose, offset: int, limit: int) -> Page[Item]:
        """Return nothing: the cloud sends nothing on, stations fetch."""
        return Page(0, [])

    async def retry(self, item: Item) -> Item:
        """Decide an item anew, as if it had come now, and note what became of it."""
        if item.form not in ("operation", "fix") or item.body is None:
            raise Conflict("this item cannot be tried again here: its device has to send it again")
        now_ms = to_ms(self._now())
        if item.form == "fix":
            fix = msgspec.msgpack.decode(item.body, type=dict[str, Any])
            await self._store.partitions.ensure([fix["raw_ms"]])
        async with self._store.database.transaction() as connection:
            taken = await self._take(connection, item, now_ms)
            error = taken.exceptions[0].detail if taken.refused else None
            tried = await run(
                connection, log.retried(item, "failed" if taken.refused else "completed", now_ms, error=error)
            )
            await note(connection, taken.lines, new_fixes=taken.new_fixes)
            return tried

    async def _take(self, connection: Connection, item: Item, now_ms: int) -> Taken:
        assert item.body is not None
        if item.form == "operation":
            operation = msgspec.msgpack.decode(item.body, type=Operation)
            # under another id: the former one was answered for ever
            again = replace(operation, id=derived_id(item.id, f"try {item.attempts + 1}"), origin=item.device_id)
            return await batches.take_operations(connection, [again], now_ms)
        fix: Mapping[str, Any] = msgspec.msgpack.decode(item.body, type=dict[str, Any])
        columns = {name: [value] for name, value in fix.items()}
        return await batches.take_fixes(connection, columns, item.device_id, item.device_id, now_ms)
