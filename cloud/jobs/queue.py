"""Whose turn it is: procrastinate, over the same PostgreSQL. This and the worker are all that know the library.

The queue holds one number and the id of our job for each job that is to run; everything that people see lies in our own
tables. An entry is made in the transaction that enters the job, so neither is ever without the other.
"""

from __future__ import annotations

from typing import Any, Final

from procrastinate import App, BaseRetryStrategy, PsycopgConnector, RetryDecision
from procrastinate.jobs import Job as Entry

from cloud.jobs.kinds import JobKind
from cloud.store.database import Connection, parameters

#: The queue of each kind: one heavy job at a time in each worker, light ones beside it.
HEAVY: Final = "outpost_heavy"
LIGHT: Final = "outpost_light"
TASK: Final = "outpost.job"
APPLICATION: Final = "outpost-cloud worker"
_LONGEST_S: Final = 300


class TryAgain(Exception):
    """A job is to be tried again after ``pause_s``."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self.pause_s = pause_s


class _Retry(BaseRetryStrategy):
    """Puts back whatever did not end: whether a job has ended is decided in our own tables."""

    def get_retry_decision(self, *, exception: BaseException, job: Entry) -> RetryDecision:
        """Return when the next attempt is due."""
        pause_s = (
            exception.pause_s if isinstance(exception, TryAgain) else min(2.0 ** min(job.attempts, 10), _LONGEST_S)
        )
        return RetryDecision(retry_in={"milliseconds": round(pause_s * 1000)})


RETRY: Final = _Retry()


def submitting() -> App:
    """Return the queue for one who only submits: it opens nothing, entries go through the caller's transaction."""
    return App(connector=PsycopgConnector())


def working(url: str, *, is_pooled: bool) -> App:
    """Return the queue for a worker, with a small pool of its own."""
    return App(
        connector=PsycopgConnector(
            kwargs={**parameters(url, APPLICATION), "prepare_threshold": None if is_pooled else 5},
            min_size=1,
            max_size=4,
        )
    )


def queue_of(kind: JobKind[Any]) -> str:
    """Return the queue that a kind waits in."""
    return HEAVY if kind.is_heavy else LIGHT


async def enter(app: App, connection: Connection, kind: JobKind[Any], job_id: str) -> int:
    """Enter a job in the transaction of ``connection`` and return its number there."""
    return await app.configure_task(TASK, queue=queue_of(kind), connection=connection).defer_async(job_id=job_id)
