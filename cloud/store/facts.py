"""What the cloud's database holds, counted."""

from __future__ import annotations

import msgspec

from cloud.store import jobs
from cloud.store.database import Connection
from cloud.store.records import one
from cloud.store.stations import Station, stations
from shared.sync.operations import STANDS_FOR


class CloudFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and size of what is kept; ``last_change`` is the newest number of the change log.

    ``frames`` came over the internet, ``frames_waiting`` of them are not decoded yet, ``frames_undecoded`` cannot be.
    ``jobs`` are counted by their state; ``workers`` are queues that a worker of the last half minute serves.
    """

    fixes: int
    animals: int
    collars: int
    quarantined: int
    lost_edits: int
    frames: int
    frames_waiting: int
    frames_undecoded: int
    last_change: int
    size_bytes: int
    jobs: dict[str, int]
    workers: int
    stations: list[Station]


async def facts(connection: Connection) -> CloudFacts:
    """Count what is kept."""
    fixes, animals, collars, quarantined, lost, frames, waiting, undecoded, last_change, size_bytes = await one(
        connection,
        "SELECT (SELECT value FROM counters WHERE name = 'fixes'),"
        " (SELECT count(*) FROM animals WHERE deleted_ms IS NULL),"
        " (SELECT count(*) FROM collars WHERE deleted_ms IS NULL AND NOT starts_with(id, %s)),"
        " (SELECT count(*) FROM quarantine), (SELECT count(*) FROM lost_edits),"
        " (SELECT value FROM counters WHERE name = 'frames'), (SELECT count(*) FROM frames WHERE seq >"
        "  coalesce((SELECT position FROM cursors WHERE consumer = 'decode'), 0)), (SELECT count(*) FROM undecoded),"
        " (SELECT value FROM counters WHERE name = 'change'), pg_database_size(current_database())",
        (STANDS_FOR,),
    )
    (workers,) = await one(
        connection, "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - interval '30 s'", ()
    )
    return CloudFacts(
        fixes=fixes, animals=animals, collars=collars, quarantined=quarantined, lost_edits=lost,
        frames=frames, frames_waiting=waiting, frames_undecoded=undecoded,
        last_change=last_change, size_bytes=size_bytes, jobs=await jobs.counts(connection),
        workers=workers, stations=await stations(connection),
    )  # fmt: skip
