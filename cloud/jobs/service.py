"""Jobs as those who answer requests see them: submit, look, listen, cancel. Nothing here does the work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from cloud.jobs import queue
from cloud.jobs.kinds import Kinds
from cloud.store import jobs
from cloud.store.database import Connection, Database
from cloud.store.jobs import Told
from shared.errors import Invalid, ModelUnavailable, NotFound, RateLimited
from shared.ids import random_id
from shared.jobs import CorridorWish, Job
from shared.privacy import Principal
from shared.store import Page
from shared.sync.records import to_ms

#: The kind of job that searches corridors, once the program knows one.
CORRIDOR: Final = "corridor"
_MAX_KEY: Final = 200
_MAX_PARAMETERS: Final = 1_000_000


class Jobs:
    """The jobs of the cloud; implements ``shared.jobs.Optimiser``."""

    def __init__(self, database: Database, kinds: Kinds, *, now: Callable[[], datetime]) -> None:
        self._database = database
        self.kinds = kinds
        self._now = now
        self._queue = queue.submitting()

    async def submit(
        self, kind: str, parameters: msgspec.Struct, principal: Principal, *, key: str | None = None
    ) -> Job:
        """Queue a job and return it; the same ``key`` of the same person again is the same job.

        Durable when it returns. Raises ModelUnavailable where the program has no such kind, Invalid for a bad key,
        RateLimited where too many of this person's wait already.
        """
        async with self._database.transaction() as connection:
            return await self.submit_in(connection, kind, parameters, principal, key=key)

    async def submit_in(
        self, connection: Connection, kind: str, parameters: msgspec.Struct, principal: Principal, *,
        key: str | None = None,
    ) -> Job:  # fmt: skip
        """Do the same in the transaction of ``connection``: with it the job is there, or is not."""
        found = self.kinds.get(kind)
        if found is None:
            raise ModelUnavailable(f"nothing here does {kind} jobs")
        if not isinstance(parameters, found.parameters):
            raise TypeError(f"{kind} jobs take {found.parameters.__name__}")
        if key is not None and not (0 < len(key) <= _MAX_KEY and key.isprintable()):
            raise Invalid(f"Idempotency-Key: must have 1 to {_MAX_KEY} printable characters")
        body = msgspec.json.encode(parameters)
        if len(body) > _MAX_PARAMETERS:
            raise Invalid(f"the parameters have {len(body)} bytes, more than {_MAX_PARAMETERS}")
        identity = random_id()
        there = await jobs.insert(
            connection, identity=identity, kind=kind, owner=principal.user_id, parameters=body, key=key,
            now_ms=to_ms(self._now()),
        )  # fmt: skip
        if there is not None:
            return await jobs.job(connection, there, principal.user_id)
        if await jobs.alive(connection, principal.user_id, kind) > found.most_alive:
            raise RateLimited(f"{found.most_alive} {kind} jobs of yours wait or run: let one end first", 60.0)
        await jobs.set_queue_id(connection, identity, await queue.enter(self._queue, connection, found, identity))
        return await jobs.job(connection, identity, principal.user_id)

    async def optimise(self, principal: Principal, wish: CorridorWish, key: str | None) -> Job:
        """Queue the search for a corridor; raises ModelUnavailable where no optimiser is registered."""
        kind = self.kinds.get(CORRIDOR)
        if kind is None:
            raise ModelUnavailable(
                "this cloud has no optimiser of corridors yet: draw the corridor, or ask again later"
            )
        taken: Any = msgspec.convert(msgspec.to_builtins(wish), kind.parameters)
        return await self.submit(CORRIDOR, taken, principal, key=key)

    async def job(self, principal: Principal, identity: str) -> Job:
        """Return a job; raises NotFound for what is not there or somebody else's, unless an administrator asks."""
        async with self._database.snapshot() as connection:
            return await jobs.job(connection, identity, _owner(principal))

    async def job_in(self, connection: Connection, identity: str) -> Job:
        """Return whoever's job as the transaction of ``connection`` sees it."""
        return await jobs.job(connection, identity, None)

    async def told(self, principal: Principal, identity: str, after: int) -> Told:
        """Return a job and what has happened since event number ``after``."""
        async with self._database.snapshot() as connection:
            return await jobs.told(connection, identity, _owner(principal), after)

    async def page(
        self, principal: Principal, *, kind: str | None, state: str | None, offset: int, limit: int
    ) -> Page[Job]:
        """Return a page of the caller's jobs, of everybody's for an administrator; newest first."""
        async with self._database.snapshot() as connection:
            return await jobs.jobs(
                connection, owner=_owner(principal), kind=kind, state=state, offset=offset, limit=limit
            )

    async def cancel(self, principal: Principal, identity: str) -> Job:
        """Cancel a job: one that waits at once, one that runs at its next step, one that has ended not at all."""
        if "\0" in identity:
            raise NotFound(f"there is no job {identity}")
        async with self._database.transaction() as connection:
            return await jobs.ask_cancel(connection, identity, _owner(principal), to_ms(self._now()))


def _owner(principal: Principal) -> str | None:
    """Return whose jobs somebody sees: an administrator of all sees all."""
    return None if principal.role == "admin" and principal.stations is None else principal.user_id
