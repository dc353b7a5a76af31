"""Workers for tests: in this process over a test's database, quick to poll, and kinds of job to give them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from cloud.jobs import queue
from cloud.jobs.kinds import JobKind, Kinds, Reporter, Run
from cloud.jobs.service import Jobs
from cloud.jobs.worker import JobWorker, WorkerSettings
from cloud.store.database import Database
from shared.jobs import Job
from shared.privacy import OPERATOR, Principal

#: A guard against what never comes; no machine is so busy.
GUARD_S = 120.0
QUICK = WorkerSettings(poll_s=0.1, heartbeat_s=0.2, stalled_s=1.5, recover_s=0.2, stop_s=5.0)


class Wish(msgspec.Struct, frozen=True):
    """What the jobs of tests are asked for."""

    n: int = 3
    word: str = ""


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


async def operator(_user_id: str) -> Principal:
    """Return the operator, whoever is asked for."""
    return OPERATOR


def kind_of(run: Callable[[Run[Wish]], Awaitable[Any]], **fields: Any) -> JobKind[Wish]:
    """Return a kind of job."""
    return JobKind(**{"name": "test", "parameters": Wish, "run": run, "first_pause_s": 0.0, **fields})


class Working:
    """A worker in this process, and the jobs that it is given."""

    def __init__(self, database: Database, kinds: Kinds) -> None:
        self.database = database
        self.jobs = Jobs(database, kinds, now=now)

    async def until(self, job: Job | str, is_so: Callable[[Job], bool], timeout_s: float = GUARD_S) -> Job:
        """Wait until a job is so, and return it."""
        identity = job if isinstance(job, str) else job.id
        deadline = time.monotonic() + timeout_s
        while True:
            found = await self.jobs.job(OPERATOR, identity)
            if is_so(found):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.03)

    async def ended(self, job: Job | str) -> Job:
        """Wait until a job has ended, and return it."""
        return await self.until(job, lambda found: found.has_ended)


@contextlib.asynccontextmanager
async def working(
    url: str, *kinds: JobKind[Any], settings: WorkerSettings = QUICK, is_pooled: bool = False
) -> AsyncIterator[Working]:
    """Give a running worker over the database of ``url``; it is told to stop at the end."""
    known = Kinds(kinds)
    async with Database.open(url, pool_min=1, pool_max=6, is_pooled=is_pooled) as database:
        told = asyncio.Event()
        worker = JobWorker(database, known, owner_of=operator, now=now, settings=settings)
        task = asyncio.create_task(worker.run(queue.working(url, is_pooled=is_pooled), told, does_listen=not is_pooled))
        try:
            yield Working(database, known)
        finally:
            told.set()
            await task


class Gate:
    """Where a job waits until a test lets it go on, also in a thread."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def wait(self, reporter: Reporter) -> None:
        """Wait in a thread, looking up all the time."""
        self.reached.set()
        while not self.open.wait(0.02):
            reporter.check()

    async def wait_here(self, run: Run[Any]) -> None:
        """Wait on the loop, looking up all the time."""
        self.reached.set()
        while not self.open.is_set():
            run.check()
            await asyncio.sleep(0.02)

    async def is_reached(self) -> None:
        """Wait until a job has come here."""
        assert await asyncio.to_thread(self.reached.wait, GUARD_S), "no job has come here"
