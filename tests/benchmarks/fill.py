"""Grows a station that is stopped to a size, by the shipped code alone: ledger, decoder, store; in batches of 5,000.

The result is what a station has that heard these frames: every fix stands in the ledger, is judged, indexed, in the
outbox and on an animal, the models have said what they say of it, and ``outpost-station redecode`` would find nothing
new. Only the batches are larger, so the outbox has fewer and longer runs than that of a station to which the fixes came
one by one.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from edge.config import Config
from edge.ingest.decode import CONSUMER, Decoded, decode_rows
from edge.pipeline.pipeline import Pipeline
from edge.store.driver import Connection
from edge.store.ledger import Entry, Ledger, LedgerReader
from edge.store.store import SpatialiteStore
from models.live.runtime import Models
from shared.clock import ClockState
from shared.privacy import OPERATOR, view_for
from shared.sync.records import to_ms
from tests.benchmarks.herd import COLLARS, SPECIES, START, device_of, payload_of, recorded_at

BATCH: Final = 5_000
LINK: Final = "base"
_CACHE_KIB: Final = 256_000


def grow(config: Config, first: int, last: int, progress: Callable[[int], None] = lambda _: None) -> None:
    """Store the fixes numbered ``first`` up to, not including, ``last``; ``progress`` hears how many were written."""
    asyncio.run(_grow(config, first, last, progress))


def herd_up(config: Config) -> None:
    """Make the database, with an animal on each of the collars."""
    asyncio.run(herd_up_in(config))


async def herd_up_in(config: Config) -> None:
    """Do the same in a loop that runs."""
    store = SpatialiteStore(config.database, config.key(), now=now)
    view = view_for(OPERATOR)
    try:
        for collar in range(COLLARS):
            animal = await store.create_animal(view, {"name": f"A{collar + 1:03}", "species": SPECIES})
            await store.put_collar(view, device_of(collar), {"model": "OpenCollar Edge", "fix_interval_s": 900})
            await store.create_deployment(
                view,
                {"animal_id": animal.id, "collar_id": device_of(collar), "started_at": START - timedelta(days=1)},
            )
    finally:
        await store.close()


async def _grow(config: Config, first: int, last: int, progress: Callable[[int], None]) -> None:
    key = config.key()
    store = SpatialiteStore(config.database, key, now=now)
    pipeline = Pipeline(store, Models(), lambda _name, _data: None)
    config.ledger_dir.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(config.ledger_dir, key, boot="benchmark", is_key_proven=True)
    reader = LedgerReader(config.ledger_dir, key)
    try:
        await store.write(_use_large_cache)
        starts = range(first, last, BATCH)
        prepare = functools.partial(_prepared, ledger, reader)
        following = asyncio.create_task(asyncio.to_thread(prepare, range(first, min(first + BATCH, last))))
        for start in starts:
            batch = await following
            if (after := start + BATCH) < last:
                following = asyncio.create_task(asyncio.to_thread(prepare, range(after, min(after + BATCH, last))))
            stored = await store.take_decoded(
                CONSUMER, batch.position, batch.fixes, batch.heard, batch.undecoded, batch.decoded_seqs
            )
            is_new = [fix.outcome == "new" for fix in stored]
            if batch.undecoded or not all(is_new):
                raise RuntimeError(f"of {len(is_new)} fixes from number {start} on, {is_new.count(False)} are not new")
            await pipeline.drain()
            progress(len(stored))
    finally:
        pipeline.close()
        reader.close()
        ledger.close()
        await store.close()


def _prepared(ledger: Ledger, reader: LedgerReader, numbers: range) -> Decoded:
    entries = []
    for number in numbers:
        received_ms = to_ms(recorded_at(number)) + 5_000
        entries.append(
            Entry(LINK, "cobs", "", payload_of(number), received_ms, received_ms * 1_000_000, str(ClockState.NTP))
        )
    before = ledger.last_seq
    ledger.append(entries)
    return decode_rows(reader.read(before, len(entries)))


def _use_large_cache(db: Connection) -> None:
    db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")


def now() -> datetime:
    """Return the time of this machine."""
    return datetime.now(UTC)
