"""The station's sweep: what both homes forget, and batches that the cloud acknowledged long ago."""

from __future__ import annotations

import asyncio

import structlog

from edge.store import outbox
from edge.store.store import SpatialiteStore
from shared.accounts.moments import sure_ms
from shared.accounts.service import Accounts
from shared.clock import Clock
from shared.errors import StoreError
from shared.sync import sweeping
from shared.sync.sweeping import EVERY_S, Swept

log = structlog.get_logger()


async def sweep(store: SpatialiteStore, accounts: Accounts, clock: Clock) -> Swept:
    """Forget what is of no use any more; nothing by date on an unsure clock."""
    now_ms = sure_ms(clock)
    done = await sweeping.sweep(accounts, now_ms)
    if now_ms is not None:
        before_ms = now_ms - outbox.RETAINED_MS
        done.batches = await store.write(lambda db: outbox.forget_acknowledged(db, before_ms))
    return done


async def sweep_hourly(store: SpatialiteStore, accounts: Accounts, clock: Clock, *, every_s: float = EVERY_S) -> None:
    """Sweep now and from time to time; a disk that takes no write must not end the station."""
    while True:
        try:
            done = await sweep(store, accounts, clock)
            log.info("station.swept", removed=done.removed, sync_log=done.sync_log, files=done.files)
        except StoreError as error:
            log.warning("station.unswept", code=error.code, detail=error.detail)
        await asyncio.sleep(every_s)
