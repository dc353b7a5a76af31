"""Sessions with the cloud from time to time, for as long as the station runs. Nothing of the station waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import structlog

from edge.store import outbox, unsent
from edge.store.driver import Connection
from edge.store.outbox import Enrolment
from edge.store.store import SpatialiteStore
from edge.sync.client import Cloud, CloudBusy
from edge.sync.frames import Frames
from edge.sync.meter import Meter
from edge.sync.metered import MeteredCloud
from edge.sync.profiles import LAN, Profile
from edge.sync.session import sync_once
from edge.sync.synced import Synced
from firmware_bridge.transports.backoff import Backoff
from shared.clock import Clock
from shared.configuration import boot_id
from shared.errors import LinkError, OutpostError, StoreError

log = structlog.get_logger()

T = TypeVar("T")

#: Waits after a failed session, in seconds: doubling between these, shortened at random.
FIRST_WAIT_S: Final = 10.0
LONGEST_WAIT_S: Final = 900.0
#: While an alert waits behind a bad link, it is tried this often.
ALERT_WAIT_S: Final = 60.0
#: How often a station at rest looks for an alert that came meanwhile.
LOOK_S: Final = 5.0
#: A session with more to send makes way for the next one, which takes first what came down: who may enter among it.
SESSION_S: Final = 300.0


@contextlib.contextmanager
def sole_session(data_dir: Path, name: str = "sync.lock") -> Iterator[bool]:
    """Hold the folder's right to a session; False where another process holds one: two would send the same twice.

    ``name`` is the file of another such right: one for each system that fixes are sent to.

    Raises StoreError where the folder takes no file: a full disk must not end the station.
    """
    path = data_dir / name
    try:
        lock = path.open("w", encoding="ascii")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


class Background:
    """Holds a session every ``interval_s`` while the station runs; ``connect`` opens the cloud of an enrolment, and
    ``people`` brings its roster down before anything else, ``audit`` the audit log up and ``models`` what it chose of
    models down after everything else.

    A session that fails is tried again, later and later; one that brought something before the link failed is followed
    by another as soon as a first failure is. An alert ends the rest. A station may be enrolled anew while this runs.
    """

    def __init__(
        self,
        store: SpatialiteStore,
        connect: Callable[[Enrolment], Cloud],
        clock: Clock,
        data_dir: Path,
        *,
        interval_s: float,
        batch_fixes: int,
        profile: Profile = LAN,
        people: Callable[[Cloud, Enrolment], Awaitable[None]] | None = None,
        audit: Callable[[Cloud, Enrolment, Meter], Awaitable[int]] | None = None,
        models: Callable[[Cloud, Enrolment, Meter], Awaitable[int]] | None = None,
        release: Callable[[Cloud, Meter], Awaitable[bool]] | None = None,
        frames: Frames | None = None,
        rng: random.Random | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._connect = connect
        self._clock = clock
        self._data_dir = data_dir
        self._interval_s = interval_s
        self._batch_fixes = batch_fixes
        self.profile = profile
        self._meter = Meter(store, profile, clock, boot_id())
        self._people = people
        self._audit = audit
        self._models = models
        self._release = release
        self._frames = frames
        self._backoff = Backoff(rng, first_s=FIRST_WAIT_S, longest_s=LONGEST_WAIT_S)
        self._cloud: Cloud | None = None
        self._of: tuple[str, str, bytes] | None = None
        self._pause = pause
        #: the newest alert that there was when the last session began
        self._alert: int | None = None
        #: what the cloud has confirmed in the session
        self._confirmed = 0
        self._is_asked_to_wait = False
        #: why the last session failed; None where it did not, or none was held
        self.last_error: str | None = None
        #: what the last session did
        self.last: Synced | None = None

    async def run(self) -> None:
        """Hold sessions until cancelled; what is half done then goes on where it stopped."""
        try:
            while True:
                await self.rest(await self.turn())
        finally:
            await self._hang_up()
            if self._frames is not None:
                await self._frames.aclose()

    async def turn(self) -> float:
        """Hold a session if there is anybody to hold it with; return how long to wait for the next, in seconds."""
        try:
            self._alert = await self._store.read(unsent.newest_alert)
            with sole_session(self._data_dir) as is_ours:
                here = await self._store.read(outbox.enrolment) if is_ours else None
                if here is None:
                    return self._interval_s
                self._confirmed = 0
                cloud = await self._reach(here)
                if self._people is not None:  # who may enter goes before all data
                    await self._people(cloud, here)
                self.last = await sync_once(
                    self._store, MeteredCloud(cloud, self._meter), self._clock, batch_fixes=self._batch_fixes,
                    profile=self.profile, frames=self._frames, within_s=SESSION_S, progress=self._confirm,
                )  # fmt: skip
                if self._audit is not None:
                    await self._audit(cloud, here, self._meter)
                if self._models is not None:  # and models after it
                    await self._models(cloud, here, self._meter)
                if self._release is not None:
                    await self._release(cloud, self._meter)
        except OutpostError as error:
            return await self._failed(error)
        if self.last_error is not None:
            log.info("sync.works_again")
        self.last_error = None
        self._is_asked_to_wait = False
        self._backoff.reset()
        return 0.0 if self.last.has_more else self._interval_s

    async def rest(self, wait_s: float) -> None:
        """Wait for the next session; an alert that comes meanwhile ends it, unless the cloud asked to be left alone."""
        if self._is_asked_to_wait:
            await self._pause(wait_s)
            return
        while wait_s > 0:
            await self._pause(min(wait_s, LOOK_S))
            wait_s -= LOOK_S
            newest = await self._looked_up(unsent.newest_alert)
            if newest is not None and newest != self._alert:
                return

    def _confirm(self, items: int) -> None:
        self._confirmed = items

    async def _failed(self, error: OutpostError) -> float:
        if self.last_error != error.detail:
            tell = log.info if isinstance(error, LinkError) else log.warning
            tell("sync.failed", code=error.code, detail=error.detail)
        self.last_error = error.detail
        await self._hang_up()
        self._is_asked_to_wait = isinstance(error, CloudBusy)
        if not isinstance(error, LinkError):
            return LONGEST_WAIT_S
        if self._confirmed:
            self._backoff.reset()
        wait_s = self._backoff.next_s()
        if isinstance(error, CloudBusy):
            return max(wait_s, error.retry_after_s)
        return min(wait_s, ALERT_WAIT_S) if await self._looked_up(unsent.has_alerts) else wait_s

    async def _looked_up(self, question: Callable[[Connection], T]) -> T | None:
        """Ask the store; None where it does not answer, which others tell of."""
        try:
            return await self._store.read(question)
        except OutpostError:
            return None

    async def _reach(self, here: Enrolment) -> Cloud:
        whose = (here.url, here.station_id, here.private_key)
        if self._cloud is None or self._of != whose:
            await self._hang_up()
            self._cloud, self._of = self._connect(here), whose
        return self._cloud

    async def _hang_up(self) -> None:
        if self._cloud is not None:
            await self._cloud.close()
            self._cloud = None
