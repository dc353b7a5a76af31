"""Sends a plan at its pace: never before a transmission's time, and never faster than the links take it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec

from firmware_bridge.simulator.base_station import BaseStation
from firmware_bridge.simulator.plan import Outgoing
from shared.clock import VirtualClock
from shared.errors import OutpostError

_QUEUE = 512
_BATCH = 128


class LinkCount(msgspec.Struct, kw_only=True):
    """What went over one link."""

    address: str
    frames: int = 0
    duplicates: int = 0
    damaged: int = 0
    noise: int = 0
    bytes: int = 0

    def count(self, outgoing: Outgoing) -> None:
        """Add one."""
        self.bytes += len(outgoing.data)
        if outgoing.kind == "frame":
            self.frames += 1
        elif outgoing.kind == "duplicate":
            self.duplicates += 1
        elif outgoing.kind == "damaged":
            self.damaged += 1
        else:
            self.noise += 1


async def deliver(
    plan: Iterable[Outgoing],
    stations: Sequence[BaseStation],
    clock: VirtualClock,
    *,
    on_sent: Callable[[Outgoing], None],
) -> None:
    """Send everything over the station of its link and wait until the other sides have it.

    An error of ours, in the plan or on a link, ends all of it and is raised as itself.
    """
    try:
        await _deliver(plan, stations, clock, on_sent)
    except BaseExceptionGroup as group:
        ours, others = group.split(OutpostError)
        if ours is None or others is not None:
            raise
        raise _first(ours) from group


def _first(group: BaseExceptionGroup[OutpostError]) -> OutpostError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, OutpostError)
    return error


async def _deliver(
    plan: Iterable[Outgoing],
    stations: Sequence[BaseStation],
    clock: VirtualClock,
    on_sent: Callable[[Outgoing], None],
) -> None:
    queues: list[asyncio.Queue[Outgoing | None]] = [asyncio.Queue(_QUEUE) for _ in stations]
    async with asyncio.TaskGroup() as tasks:
        for station, queue in zip(stations, queues, strict=True):
            tasks.create_task(_carry(station, queue, on_sent))
        for number, outgoing in enumerate(plan):
            # A timer may ring a little early; the loop waits for the rest.
            while (wait_s := clock.real_seconds_until(outgoing.at)) > 0:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(wait_s)
            await queues[outgoing.link].put(outgoing)
            if number % 64 == 0:
                # A queue with room does not yield; the links must have their turn.
                await asyncio.sleep(0)
        for queue in queues:
            await queue.put(None)


async def _carry(
    station: BaseStation, queue: asyncio.Queue[Outgoing | None], on_sent: Callable[[Outgoing], None]
) -> None:
    is_last = False
    while not is_last:
        batch: list[Outgoing] = []
        upcoming = await queue.get()
        while upcoming is not None:
            batch.append(upcoming)
            if len(batch) == _BATCH or queue.empty():
                break
            upcoming = queue.get_nowait()
        is_last = upcoming is None
        await station.send([(outgoing.topic, outgoing.data) for outgoing in batch])
        for outgoing in batch:
            on_sent(outgoing)
    await station.drain()
