"""The worker: takes jobs from the queue, runs them, and finds again those whose worker is gone.

One process runs one heavy job and a few light ones at a time; start more processes for more. Killed anywhere it loses
nothing: its heartbeat stops, after ``stalled_s`` another worker (or the next start) takes its jobs up again, and an
attempt that wakes up late can write no more. Stopped in order it lets every job end at its next step and puts it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

import msgspec
import structlog
from procrastinate import App
from procrastinate.exceptions import ProcrastinateException
from procrastinate.worker import Worker

from cloud.jobs import queue
from cloud.jobs.attempt import Attempt, FileLimits
from cloud.jobs.kinds import JobCancelled, JobInterrupted, JobKind, JobSuperseded, Kinds
from cloud.jobs.queue import HEAVY, LIGHT, TryAgain
from cloud.store import jobs
from cloud.store.database import Database
from cloud.store.jobs import Begun
from shared.ending import end
from shared.errors import OutpostError, StoreError
from shared.privacy import Principal
from shared.sync.records import to_ms

log = structlog.get_logger(__name__)

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
_MB: Final = 1_000_000
#: A kind that this worker does not know may be one that a newer one knows.
_UNKNOWN_KIND_S: Final = 60.0


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works. Polling is what finds jobs where notifications do not come, behind a pooler for one."""

    light_jobs: int = 4
    poll_s: float = 2.0
    heartbeat_s: float = 5.0
    stalled_s: float = 30.0
    recover_s: float = 10.0
    stop_s: float = 20.0
    keep_days: int = 30
    file_hours: int = 24
    file_limit_mb: int = 1_000


class JobWorker:
    """Runs jobs of ``kinds`` until told to stop. ``owner_of`` says with which rights somebody's job runs now.

    ``rounds`` enters the jobs whose time has come; every worker goes them, so it must stand being gone by several.
    """

    def __init__(
        self,
        database: Database,
        kinds: Kinds,
        *,
        owner_of: Callable[[str], Awaitable[Principal]],
        now: Callable[[], datetime],
        settings: WorkerSettings,
        rounds: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._database = database
        self._kinds = kinds
        self._owner_of = owner_of
        self._now = now
        self._settings = settings
        self._rounds = rounds
        self._running: set[Attempt[Any]] = set()
        self._limits = FileLimits(settings.file_limit_mb * _MB, settings.file_hours * _HOUR_MS)

    async def run(self, app: App, told: asyncio.Event, *, does_listen: bool) -> None:
        """Work until ``told`` is set; ``does_listen`` False where the database's notifications do not arrive.

        Raises StoreError, and sets ``told``, where its housekeeping fell.
        """
        # its messages name what we tell ourselves, in our own words
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
        app.task(name=queue.TASK, retry=queue.RETRY)(self.run_one)
        async with app.open_async():
            keeping = asyncio.create_task(self._keep_house(app), name="housekeeping")
            # without it nobody finds the jobs of a worker that is gone: this one ends, and is started again whole
            keeping.add_done_callback(lambda _: told.set())
            log.info("worker.ready", kinds=self._kinds.names, light_jobs=self._settings.light_jobs)
            try:
                await asyncio.gather(
                    self._work(app, told, HEAVY, 1, does_listen=does_listen),
                    self._work(app, told, LIGHT, self._settings.light_jobs, does_listen=does_listen),
                )
            finally:
                (fallen,) = await end(keeping)
            if isinstance(fallen, Exception):
                log.critical("task.fell", task=keeping.get_name(), exc_info=fallen)
                raise StoreError("the worker ended because its housekeeping fell; see the log") from fallen

    async def _work(self, app: App, told: asyncio.Event, name: str, jobs_at_once: int, *, does_listen: bool) -> None:
        """Take jobs from one queue; begin again when the database was away.

        It is told to stop by the library's own word and not by a cancellation. While it begins it may wait for a
        connection of the pool, and a cancellation that comes together with the connection is lost there (see
        ``shared/ending.py``): it would begin its work and never hear of the end. Its word is kept from the first step
        of ``run`` on, which is taken before anybody can have said it.
        """
        pause_s = 1.0
        while not told.is_set():
            worker = Worker(
                app, queues=[name], name=name, concurrency=jobs_at_once, listen_notify=does_listen,
                fetch_job_polling_interval=self._settings.poll_s, install_signal_handlers=False,
                update_heartbeat_interval=self._settings.heartbeat_s,
                stalled_worker_timeout=self._settings.stalled_s,
                shutdown_graceful_timeout=self._settings.stop_s, delete_jobs="always",
            )  # fmt: skip
            working = asyncio.create_task(worker.run(), name=f"queue {name}")  # type: ignore[no-untyped-call]
            stop = asyncio.create_task(told.wait(), name=f"told {name}")
            await asyncio.wait((working, stop), return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not working.done():
                for attempt in list(self._running):
                    attempt.stop(JobInterrupted)
                worker.stop()  # type: ignore[no-untyped-call]
                await asyncio.wait((working,), timeout=self._settings.stop_s + 5.0)
            (ended,) = await end(working)  # one that hangs, with the database for one, is not waited for
            if told.is_set():
                return
            log.warning("worker.lost_database", queue=name, error=repr(ended), again_s=pause_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await told.wait()
            pause_s = min(pause_s * 2, 30.0)

    # --- one job

    async def run_one(self, job_id: str) -> None:
        """Make one attempt at a job; raises TryAgain where another is to follow."""
        async with self._database.transaction() as connection:
            name = await jobs.kind_of(connection, job_id)
            kind = None if name is None else self._kinds.get(name)
            if kind is None:
                if name is None:
                    return
                log.error("job.kind_unknown", job=job_id, kind=name)
                raise TryAgain(_UNKNOWN_KIND_S)
            begun = await jobs.begin(connection, job_id, self._now_ms(), kind.most_failures)
        if begun is not None:
            log.info("job.begun", job=job_id, kind=kind.name, attempt=begun.attempt)
            await self._attempt(kind, job_id, begun)

    async def _attempt(self, kind: JobKind[Any], job_id: str, begun: Begun) -> None:
        try:
            parameters = msgspec.json.decode(begun.parameters, type=kind.parameters)
            owner = await self._owner_of(begun.owner)
            attempt = Attempt(
                self._database, job_id, begun, parameters, owner, now=self._now, limits=self._limits
            )  # fmt: skip
            self._running.add(attempt)
            try:
                async with attempt.pulsing():
                    result = msgspec.json.encode(await kind.run(attempt))
            finally:
                self._running.discard(attempt)
            async with self._database.transaction() as connection:
                is_done = await jobs.succeed(connection, job_id, begun.attempt, result, self._now_ms())
            log.info("job.succeeded" if is_done else "job.superseded", job=job_id, kind=kind.name)
        except JobCancelled:
            async with self._database.transaction() as connection:
                await jobs.cancelled(connection, job_id, begun.attempt, self._now_ms())
            log.info("job.cancelled", job=job_id, kind=kind.name)
        except JobSuperseded:
            log.warning("job.superseded", job=job_id, kind=kind.name, attempt=begun.attempt)
        except (JobInterrupted, asyncio.CancelledError):
            await self._put_back(job_id, begun)
            raise TryAgain(0) from None
        except kind.hopeless as error:
            await self._fail(kind, job_id, begun, error.code, error.detail)
        except msgspec.ValidationError as error:
            await self._fail(kind, job_id, begun, "invalid", f"its parameters are of another version: {error}")
        except Exception as error:  # noqa: BLE001 - a job's code may raise anything, and its owner has to hear of it
            await self._failed(kind, job_id, begun, error)

    async def _failed(self, kind: JobKind[Any], job_id: str, begun: Begun, error: Exception) -> None:
        """Let a job be tried again, or end it where it has failed too often."""
        if isinstance(error, OutpostError):
            code, detail = error.code, error.detail
            log.warning("job.failed_once", job=job_id, kind=kind.name, code=code, detail=detail)
        else:
            code, detail = "internal", "the job failed; the worker's log says why"
            log.error("job.failed_once", job=job_id, kind=kind.name, exc_info=error)
        failures = begun.failures + 1
        if failures >= kind.most_failures:
            await self._fail(kind, job_id, begun, code, detail)
            return
        pause_s = kind.pause_s(failures)
        async with self._database.transaction() as connection:
            due_ms = self._now_ms() + round(pause_s * 1000)
            await jobs.put_back(
                connection, job_id, begun.attempt, due_ms=due_ms, is_failure=True, error=(code, detail),
                now_ms=self._now_ms(),
            )  # fmt: skip
        raise TryAgain(pause_s)

    async def _put_back(self, job_id: str, begun: Begun) -> None:
        now_ms = self._now_ms()
        async with self._database.transaction() as connection:
            await jobs.put_back(
                connection, job_id, begun.attempt, due_ms=now_ms, is_failure=False, error=None, now_ms=now_ms
            )
        log.info("job.put_back", job=job_id)

    async def _fail(self, kind: JobKind[Any], job_id: str, begun: Begun, code: str, detail: str) -> None:
        async with self._database.transaction() as connection:
            await jobs.fail(connection, job_id, begun.attempt, code, detail, self._now_ms())
        log.warning("job.failed", job=job_id, kind=kind.name, code=code, detail=detail)

    def _now_ms(self) -> int:
        return to_ms(self._now())

    # --- keeping house

    async def _keep_house(self, app: App) -> None:
        while True:
            try:
                await self.recover(app)
                if self._rounds is not None:
                    await self._rounds()
                async with self._database.transaction() as connection:
                    await jobs.sweep(connection, self._now_ms(), self._settings.keep_days * _DAY_MS)
            except (OutpostError, ProcrastinateException) as error:
                log.warning("worker.housekeeping_missed", error=repr(error))
            await asyncio.sleep(self._settings.recover_s)

    async def recover(self, app: App) -> int:
        """Put jobs back whose worker is gone, and enter those that the queue has lost; return how many."""
        n = 0
        for entry in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=self._settings.stalled_s):
            with contextlib.suppress(ProcrastinateException):  # another worker was faster
                await app.job_manager.retry_job(entry)
                log.warning("job.worker_lost", job=entry.task_kwargs.get("job_id"))
                n += 1
        async with self._database.transaction() as connection:
            for job_id, name in await jobs.lost(connection):
                if (kind := self._kinds.get(name)) is not None:
                    await jobs.set_queue_id(connection, job_id, await queue.enter(app, connection, kind, job_id))
                    log.warning("job.entered_again", job=job_id)
                    n += 1
        return n
