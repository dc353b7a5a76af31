"""What the cloud's figures are, out of what its database holds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from prometheus_client.core import Metric

from cloud.store import facts
from cloud.store.facts import CloudFacts
from cloud.store.store import PostgresStore
from shared.api.metrics import Told, gauge, gauges
from shared.clock import Clock
from shared.errors import StoreError


def cloud_metrics(store: PostgresStore, clock: Clock) -> Told:
    """Return what tells the cloud's figures; where the database does not answer, that alone is told."""

    async def told() -> Iterable[Metric]:
        try:
            async with store.database.snapshot() as connection:
                found = await facts.facts(connection)
        except StoreError:
            return tuple(gauge("database_up", "1 where the database answers.", 0.0))
        return (*gauge("database_up", "1 where the database answers.", 1.0), *_of(found, clock.now()))

    return told


def _of(found: CloudFacts, now: datetime) -> Iterable[Metric]:
    yield from gauge("store_fixes", "Fixes stored.", found.fixes)
    yield from gauge("store_bytes", "Size of the database.", found.size_bytes)
    yield from gauge("frames", "Frames that came over the internet.", found.frames)
    yield from gauge("frames_waiting", "Frames that wait to be decoded.", found.frames_waiting)
    yield from gauge("frames_undecoded", "Frames that no codec can read.", found.frames_undecoded)
    yield from gauge("quarantined", "Operations that could not be taken.", found.quarantined)
    yield from gauge("changes", "Newest number of the change log.", found.last_change)
    yield from gauges("jobs", "Jobs by state.", "state", {state: float(n) for state, n in found.jobs.items()})
    yield from gauge("workers", "Queues that a worker of the last half minute serves.", found.workers)
    ages = {
        each.id: (now - each.last_seen_at).total_seconds()
        for each in found.stations
        if each.last_seen_at is not None and not each.is_retired
    }
    yield from gauges("station_age_seconds", "Since a station was heard last.", "station", ages)
