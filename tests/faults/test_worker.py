"""A worker that is killed while a job runs: the job ends well with another worker, and nothing is there twice."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import msgspec
import pytest

from cloud.jobs.kinds import Kinds
from cloud.jobs.service import Jobs
from cloud.store.database import Database
from shared.privacy import OPERATOR
from tests.clouds import ask
from tests.faults.station_process import until
from tests.faults.worker_process import WorkerProcess, kind_in
from tests.workers import Wish, now

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_a_job_whose_worker_ends_is_finished_by_the_next_with_one_effect(
    database_url: str, tmp_path: Path, how: signal.Signals
) -> None:
    async with Database.open(database_url) as database:
        jobs = Jobs(database, Kinds([kind_in(tmp_path)]), now=now)
        made = await jobs.submit("test", Wish(n=4), OPERATOR)
        first = WorkerProcess(database_url, tmp_path)
        try:
            await asyncio.to_thread(until, lambda: _kept(database_url) == "[1,1]", "the first attempt's half")
            assert first.end(how) == (0 if how == signal.SIGTERM else -signal.SIGKILL), first.tail()
        finally:
            first.close()
        (tmp_path / "leave").touch()
        second = WorkerProcess(database_url, tmp_path)
        try:
            await asyncio.to_thread(
                until, lambda: ask(database_url, "SELECT state FROM jobs") == [("succeeded",)], "its end", 20
            )
        finally:
            second.close()
        job = await jobs.job(OPERATOR, made.id)
    assert (job.result, job.attempts) == (msgspec.Raw(b"[1,1,2,2]"), 2)
    assert ask(database_url, "SELECT value FROM facts WHERE name LIKE 'effect %'") == [("<2>",)]
    assert ask(database_url, "SELECT failures FROM jobs") == [(1 if how == signal.SIGKILL else 0,)]


async def test_a_worker_that_was_frozen_and_wakes_up_late_changes_nothing(database_url: str, tmp_path: Path) -> None:
    async with Database.open(database_url) as database:
        jobs = Jobs(database, Kinds([kind_in(tmp_path)]), now=now)
        made = await jobs.submit("test", Wish(n=4), OPERATOR)
        first = WorkerProcess(database_url, tmp_path)
        second = None
        try:
            await asyncio.to_thread(until, lambda: _kept(database_url) == "[1,1]", "the first attempt's half")
            first._process.send_signal(signal.SIGSTOP)
            second = WorkerProcess(database_url, tmp_path)
            await asyncio.to_thread(until, lambda: (tmp_path / f"{made.id}.2").exists(), "the second attempt")
            (tmp_path / "leave").touch()
            first._process.send_signal(signal.SIGCONT)
            await asyncio.to_thread(
                until, lambda: ask(database_url, "SELECT state FROM jobs") == [("succeeded",)], "its end", 20
            )
            assert first.end(signal.SIGTERM) == 0, first.tail()
        finally:
            first.close()
            if second is not None:
                second.close()
        job = await jobs.job(OPERATOR, made.id)
    (effect,) = ask(database_url, "SELECT value FROM facts WHERE name LIKE 'effect %'")
    assert effect == (f"<{job.attempts}>",)
    assert job.attempts >= 2


def _kept(url: str) -> str | None:
    found = ask(url, "SELECT kept FROM jobs")
    return str(found[0][0]) if found and found[0][0] is not None else None
