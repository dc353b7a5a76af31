"""A worker that is killed in a corridor job: the next one ends it, and there is one corridor, never two."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from cloud.jobs.kinds import Kinds
from cloud.jobs.service import Jobs
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from shared.privacy import OPERATOR
from tests.clouds import ask
from tests.faults.corridor_process import CorridorWorker, kind_in
from tests.faults.station_process import until
from tests.integration.test_corridor_jobs import wish_of, write_ground
from tests.workers import now

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.corridors]
WAIT_S = 60


@pytest.mark.parametrize("when", ["early", "late"])
async def test_a_corridor_job_whose_worker_is_killed_is_ended_by_the_next_with_one_corridor(
    database_url: str, tmp_path: Path, when: str
) -> None:
    maps = write_ground(tmp_path)
    (tmp_path / when).touch()
    async with Database.open(database_url) as database:
        kinds = Kinds([kind_in(tmp_path, PostgresStore(database, now=now), maps)])
        jobs = Jobs(database, kinds, now=now)
        made = await jobs.submit("corridor", wish_of(maps, algorithm="ppo"), OPERATOR)
        first = CorridorWorker(database_url, tmp_path, maps)
        try:
            await asyncio.to_thread(until, (tmp_path / "waits.1").exists, "the first attempt", WAIT_S)
            stored = ask(database_url, "SELECT count(*) FROM corridors")
            assert stored == [(1 if when == "late" else 0,)]
            assert first.end(signal.SIGKILL) == -signal.SIGKILL, first.tail()
        finally:
            first.close()
        second = CorridorWorker(database_url, tmp_path, maps)
        try:
            await asyncio.to_thread(
                until, lambda: ask(database_url, "SELECT state FROM jobs") == [("succeeded",)], "its end", WAIT_S
            )
        finally:
            second.close()
        job = await jobs.job(OPERATOR, made.id)
    assert job.attempts == 2
    result = json.loads(bytes(job.result or b""))
    assert ask(database_url, "SELECT id FROM corridors WHERE deleted_ms IS NULL") == [(result["corridor_id"],)]
