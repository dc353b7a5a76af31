"""What the cloud's figures are, out of what its database holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from prometheus_client.core import Metric

from cloud.store import facts
from cloud.store.destinations import Destination, destinations
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
                receivers = await destinations(connection)
        except StoreError:
            return tuple(gauge("database_up", "1 where the database answers.", 0.0))
        return (
            *gauge("database_up", "1 where the database answers.", 1.0),
            *_of(found, clock.now()),
            *_of_receivers(receivers, clock.now()),
        )

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


def _of_receivers(found: list[Destination], now: datetime) -> Iterable[Metric]:
    """Return the figures of destinations, by their ids: names may say which animals a reserve has."""

    def by_id(name: str, help_: str, value: Callable[[Destination], float | None]) -> Iterable[Metric]:
        values = {each.id: figure for each in found if (figure := value(each)) is not None}
        return gauges(f"destination_{name}", help_, "destination", values)

    yield from by_id("sent", "Fixes that are there.", lambda each: each.sent)
    yield from by_id("waiting", "Fixes that are frozen to be sent.", lambda each: each.waiting)
    yield from by_id("held", "Fixes that wait for a rule, a deployment or their age.", lambda each: each.held)
    yield from by_id("refused", "Fixes that were not taken there.", lambda each: each.refused)
    yield from by_id("changes_waiting", "Numbers of the change log to look at.", lambda each: each.changes_waiting)
    yield from by_id("failures", "Runs that failed since the last that did not.", lambda each: each.failures)
    yield from by_id(
        "age_seconds", "Since a fix was sent there.",
        lambda each: None if each.last_sent_at is None else (now - each.last_sent_at).total_seconds(),
    )  # fmt: skip
