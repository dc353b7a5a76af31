"""Counts what goes over a link, so that a cap of bytes a day holds whatever the clock says, over every restart.

A day is any 24 hours of *measured* time: monotonic seconds of this station, added up over restarts. A station may not
know the time, and hours in which it was off count for nothing, so a cap is never exceeded, only used more slowly. A
tenth of it is kept for alerts, and half from what may wait for ever (``SPARE``). How many bytes come down is known when
they are there: one answer may go beyond the cap, and is then paid for by the next day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from edge.store.driver import Connection
from edge.store.jobs import run
from edge.store.store import SpatialiteStore
from edge.sync.profiles import Profile
from shared.accounts.facts import fact, set_fact
from shared.clock import Clock
from shared.errors import LinkError

#: What a request costs beside its body: its line, headers, signature, the answer's, and their share of TLS.
OVERHEAD_BYTES: Final = 900
_HOUR_S: Final = 3_600.0
#: So many hours make sure that a whole day lies in them, wherever in an hour it begins.
_HOURS: Final = 25
_FOR_ALERTS: Final = 10
_AGE: Final = "link.age"


class LinkSpent(LinkError):
    """The link has carried all that it may today: what waits goes on waiting."""


class _Age(msgspec.Struct, frozen=True):
    """Seconds that this station has measured, as of ``mono_s`` of a boot."""

    boot: str
    mono_s: float
    age_s: float


class Meter:
    """Counts what goes over a link under one profile, on disk, and says when it is enough."""

    def __init__(
        self,
        store: SpatialiteStore,
        profile: Profile,
        clock: Clock,
        boot: str,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.profile = profile
        self._store = store
        self._clock = clock
        self._boot = boot
        self._pause = pause
        self._free_s = clock.monotonic()

    async def allow(self, size: int, *, is_urgent: bool = False, is_spare: bool = False) -> None:
        """Count ``size`` bytes before they go, and wait until the link is free; raises LinkSpent, and counts nothing.

        Counted first: what ends the process on the way must not make the day's use forgotten.
        """
        cap, mono_s = self.profile.bytes_a_day, self._clock.monotonic()
        if cap is not None:
            limit = cap if is_urgent else cap // 2 if is_spare else cap - cap // _FOR_ALERTS

            def job(db: Connection) -> int:
                used, hour = _used(db, self.profile.name, self._boot, mono_s)
                if used + size <= limit:
                    _count(db, self.profile.name, hour, size)
                return used

            if (used := await self._store.write(job)) + size > limit:
                raise LinkSpent(f"{used} of {cap} bytes of this day are spent over {self.profile.name}: the rest waits")
        if self.profile.bytes_a_second is not None:
            if self._free_s > mono_s:
                await self._pause(self._free_s - mono_s)
            self._free_s = max(self._free_s, mono_s) + size / self.profile.bytes_a_second

    async def settle(self, size: int) -> None:
        """Count ``size`` bytes that came down, whose number nobody knew before."""
        if self.profile.bytes_a_day is not None and size:
            mono_s = self._clock.monotonic()

            def job(db: Connection) -> None:
                _, hour = _used(db, self.profile.name, self._boot, mono_s)
                _count(db, self.profile.name, hour, size)

            await self._store.write(job)
        if self.profile.bytes_a_second is not None:
            self._free_s = max(self._free_s, self._clock.monotonic()) + size / self.profile.bytes_a_second


def used_today(db: Connection, name: str) -> int:
    """Return the bytes of the last measured day, for people."""
    kept = run(db, fact(_AGE))
    hour = 0 if kept is None else int(msgspec.json.decode(kept, type=_Age).age_s // _HOUR_S)
    (used,) = db.execute(
        "SELECT coalesce(sum(bytes), 0) FROM link_usage WHERE profile = ? AND hour > ?", (name, hour - _HOURS)
    ).fetchone()
    return int(used)


def _used(db: Connection, name: str, boot: str, mono_s: float) -> tuple[int, int]:
    """Move the age on and return what was used in the last day, and the hour that it is."""
    kept = run(db, fact(_AGE))
    age = _Age(boot, mono_s, 0.0) if kept is None else msgspec.json.decode(kept, type=_Age)
    passed_s = max(mono_s - age.mono_s, 0.0) if age.boot == boot else 0.0
    age = _Age(boot, mono_s, age.age_s + passed_s)
    run(db, set_fact(_AGE, msgspec.json.encode(age).decode()))
    hour = int(age.age_s // _HOUR_S)
    db.execute("DELETE FROM link_usage WHERE profile = ? AND hour <= ?", (name, hour - _HOURS))
    (used,) = db.execute("SELECT coalesce(sum(bytes), 0) FROM link_usage WHERE profile = ?", (name,)).fetchone()
    return int(used), hour


def _count(db: Connection, name: str, hour: int, size: int) -> None:
    db.execute(
        "INSERT INTO link_usage (profile, hour, bytes) VALUES (?, ?, ?)"
        " ON CONFLICT (profile, hour) DO UPDATE SET bytes = bytes + excluded.bytes",
        (name, hour, size),
    )
