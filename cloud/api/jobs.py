"""/api/v1/jobs: work that takes long, while it goes on and afterwards.

Events come as Server-Sent Events: ``state`` (the whole job, as it is now), ``progress`` and ``log``. Their ids are
numbers of the job's own, kept in the database: whoever reconnects with ``Last-Event-ID``, to whichever process, gets
every line and every change of state that it missed, and the newest progress. After the end there is nothing more: 204,
upon which browsers stop asking.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from litestar import Controller, Request, Response, delete, get
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, QueryParameter, SkipValidationMarker

from cloud.jobs.service import Jobs
from cloud.store.jobs import Told
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.errors import documented
from shared.api.listening import (
    KEEP_ALIVE_S,
    OPENING,
    RECHECK_S,
    SPOKEN,
    STILL_HERE,
    LastEventId,
    LastId,
    event_bytes,
    number_of,
    spoken,
    still_allowed,
)
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.errors import NotFound, RateLimited
from shared.jobs import JobState
from shared.privacy import Principal
from shared.sync.records import from_ms
from shared.wire.public.jobs import JobOut

JobsGiven: TypeAlias = Annotated[Jobs, Dependency(kind="named"), SkipValidationMarker()]

POLL_S: Final = 1.0
MAX_LISTENERS: Final = 64


class Progress(msgspec.Struct, frozen=True):
    """How far a job is."""

    percent: float
    message: str
    best: msgspec.Raw | None


class Line(msgspec.Struct, frozen=True):
    """A line of a job's log."""

    at: datetime
    line: str


class Listeners:
    """How many listen; each asks the database once a second."""

    def __init__(self, most: int = MAX_LISTENERS) -> None:
        self._most = most
        self._now = 0

    def admit(self) -> None:
        """Raise RateLimited where one more would harm the others."""
        if self._now >= self._most:
            raise RateLimited("too many clients listen to jobs", retry_after_s=30.0)

    def __enter__(self) -> None:
        self._now += 1

    def __exit__(self, *_: object) -> None:
        self._now -= 1


ListenersGiven: TypeAlias = Annotated[Listeners, Dependency(kind="named"), SkipValidationMarker()]


class JobRoutes(Controller):
    """Work that takes long."""

    path = "/api/v1/jobs"
    tags = ("jobs",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List jobs", responses=documented(404))
    async def list_jobs(
        self,
        jobs: JobsGiven,
        caller: CallerGiven,
        paging: PagingGiven,
        kind: Annotated[str | None, QueryParameter(description="Exactly this.", max_length=100)] = None,
        in_state: Annotated[JobState | None, QueryParameter(name="state", description="Exactly this.")] = None,
    ) -> Paged[JobOut]:
        """List your own jobs, newest first; an administrator sees everybody's."""
        wanted = None if kind is None else kind.replace("\0", "")
        page = await jobs.page(
            caller.principal, kind=wanted or None, state=in_state, offset=paging.offset, limit=paging.limit
        )
        return paging.of(page, JobOut.of)

    @get("/{job_id:str}", summary="Read a job", responses=documented(404))
    async def job(self, jobs: JobsGiven, caller: CallerGiven, job_id: FromPath[str]) -> JobOut:
        """Return a job as it stands."""
        return JobOut.of(await jobs.job(caller.principal, job_id))

    @delete("/{job_id:str}", summary="Cancel a job", status_code=200, responses=documented(404))
    async def cancel(self, jobs: JobsGiven, caller: CallerGiven, job_id: FromPath[str]) -> JobOut:
        """Cancel a job: at once where it waits, at its next step where it runs. One that has ended stays as it is."""
        return JobOut.of(await jobs.cancel(caller.principal, job_id))

    @get(
        "/{job_id:str}/events",
        summary="Listen to a job",
        media_type="text/event-stream",
        responses={
            **documented(404, 429),
            200: SPOKEN,
            204: ResponseSpec(None, description="The job has ended and you have heard all of it."),
        },
    )
    async def events(
        self,
        request: Request[Any, Any, Any],
        jobs: JobsGiven,
        listeners: ListenersGiven,
        caller: CallerGiven,
        accounts: AccountsGiven,
        job_id: FromPath[str],
        last_event_id: LastEventId = None,
        last_id: LastId = None,
    ) -> Response[Any]:
        """Stream what happens: state, progress, log. The stream ends with the job, or with the token."""
        listeners.admit()
        after = number_of(last_event_id or last_id)
        told = await jobs.told(caller.principal, job_id, after)
        if told.job.has_ended and after >= told.last_n:
            return Response(None, status_code=204)
        may_go_on = still_allowed(request, accounts, lambda principal: principal == caller.principal)
        return spoken(stream(jobs, listeners, caller.principal, job_id, after, may_go_on=may_go_on))


async def stream(
    jobs: Jobs,
    listeners: Listeners,
    principal: Principal,
    job_id: str,
    after: int,
    *,
    may_go_on: Callable[[], Awaitable[bool]],
    poll_s: float = POLL_S,
) -> AsyncGenerator[bytes, None]:
    """Yield what happens to a job after event number ``after``, until it has ended."""
    with listeners:
        yield OPENING
        spoke_s = asked_s = time.monotonic()
        while True:
            try:
                told = await jobs.told(principal, job_id, after)
            except NotFound:
                return  # swept away
            if lines := _events(told, after):
                yield b"".join(lines)
                after, spoke_s = told.last_n, time.monotonic()
            if told.job.has_ended:
                return
            await asyncio.sleep(poll_s)
            now_s = time.monotonic()
            if now_s - asked_s >= RECHECK_S:
                asked_s = now_s
                if not await may_go_on():
                    return
            if now_s - spoke_s >= KEEP_ALIVE_S:
                spoke_s = now_s
                yield STILL_HERE


def _events(told: Told, after: int) -> list[bytes]:
    """Return the events after number ``after``, in their order."""
    job = told.job
    found: list[tuple[int, str, Any]] = []
    for each in told.happened:
        if each.name == "log":
            found.append((each.n, "log", Line(from_ms(each.at_ms), each.text)))
        else:
            found.append((each.n, "state", JobOut.of(job)))
    if told.progress_n > after:
        found.append((told.progress_n, "progress", Progress(job.percent, job.message, job.best)))
    return [event_bytes(*event) for event in sorted(found, key=lambda event: event[0])]
