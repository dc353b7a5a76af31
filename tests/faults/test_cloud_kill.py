"""Service and worker of the cloud killed together while two stations upload and jobs run.

What was receipted is there, what was not comes again; a job that was cut is taken up by the next worker and has one
effect, and one that had ended is not done again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from edge.ops.system_clock import system_clock
from edge.ops.verify_cloud import verify_cloud
from edge.store import outbox, unsent
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from edge.sync.client import CloudClient, enrol
from edge.sync.session import new_epoch, sync_once
from shared.domain import NewFix
from shared.errors import OutpostError
from shared.privacy import OPERATOR, view_for
from shared.sync.records import to_ms
from shared.wire.signatures import new_key
from tests.fakes import START
from tests.faults.cloud_process import CloudProcess
from tests.faults.station_process import until

pytestmark = [pytest.mark.faults, pytest.mark.slow]

IS_NIGHTLY = os.environ.get("OUTPOST_NIGHTLY") == "1"
#: a cut job waits for half a minute without a heartbeat before another worker may take it
KILLS = 10 if IS_NIGHTLY else 1
CHUNK = 40
VIEW = view_for(OPERATOR)


class Post:
    """A station whose uploads never pause; ``heard`` is how many fixes it has stored."""

    def __init__(self, name: str, folder: Path) -> None:
        self.collar = f"eui:{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        self.store = SpatialiteStore(folder / f"{name}.db", None, now=lambda: datetime.now(UTC), readers=1)
        self.private_key, self._public_key = new_key()
        self.station_id = self._url = ""
        self.heard = self.refused = 0

    async def enrol(self, url: str, code: str) -> None:
        """Become known at the cloud."""
        found = await enrol(url, code, self._public_key)
        self.station_id, self._url = found.station_id, url
        await self.store.write(
            lambda db: outbox.enrol(
                db, url=url, station_id=found.station_id, private_key=self.private_key, cloud_epoch=found.cloud_epoch,
                epoch=new_epoch(), now_ms=to_ms(datetime.now(UTC)),
            )
        )  # fmt: skip

    def client(self) -> CloudClient:
        """Return what speaks to the cloud."""
        return CloudClient(self._url, self.station_id, self.private_key, now=lambda: datetime.now(UTC))

    async def talk(self) -> bool:
        """Bring what waits; say whether the cloud was there all the time."""
        try:
            async with self.client() as client:
                await sync_once(self.store, client, system_clock(), batch_fixes=60)
        except OutpostError:
            self.refused += 1
            return False
        return True

    async def upload(self, told: asyncio.Event) -> None:
        """Hear and bring until told, then bring the rest."""
        while not told.is_set():
            times = [START + timedelta(minutes=n) for n in range(self.heard, self.heard + CHUNK)]
            await self.store.add_fixes(
                VIEW,
                [
                    NewFix(device=self.collar, recorded_at=at, received_at=at, lon_deg=37.5 + n * 1e-4, lat_deg=-2.5)
                    for n, at in enumerate(times)
                ],
            )
            self.heard += CHUNK
            if not await self.talk():
                await asyncio.sleep(0.05)
        deadline = asyncio.get_running_loop().time() + 60
        while not await self.talk() or await self.store.read(lambda db: bool(unsent.waiting_fixes(db))):
            assert asyncio.get_running_loop().time() < deadline, "what waits is not taken"
            await asyncio.sleep(0.05)

    async def receipted(self) -> set[str]:
        """Return the ids of fixes that the cloud has confirmed."""

        def job(db: Connection) -> set[str]:
            waits = {pk for run in unsent.waiting_fixes(db) for pk in range(run.first_pk, run.last_pk + 1)}
            return {str(each) for pk, each in db.execute("SELECT pk, lower(hex(id)) FROM fixes") if pk not in waits}

        return await self.store.read(job)


@asynccontextmanager
async def uploading(cloud: CloudProcess, folder: Path) -> AsyncIterator[list[Post]]:
    """Let two stations upload while the block lasts; when it ends each has brought all that it heard."""
    posts, told = [Post(name, folder) for name in ("north", "south")], asyncio.Event()
    for post in posts:
        made = await asyncio.to_thread(cloud.command, "station", "add", post.collar)
        await post.enrol(cloud.url, made["code"])
    tasks = [asyncio.create_task(post.upload(told)) for post in posts]
    try:
        yield posts
        told.set()
        await asyncio.gather(*tasks)
        for post in posts:
            async with post.client() as client:
                found = await verify_cloud(post.store, client)
            assert (found.differences, found.doubled, found.fixes) == (0, 0, post.heard)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for post in posts:
            await post.store.close()


def wear(cloud: CloudProcess, collars: list[str]) -> None:
    """Enter an animal for each collar: only known ones are exported."""
    with httpx.Client(base_url=f"{cloud.url}/api/v1", auth=cloud.auth) as api:
        for n, collar in enumerate(collars):
            body = {"name": f"Alpha {n}", "species": "elephant"}
            animal = api.post("/animals/", json=body).raise_for_status().json()["id"]
            deployment = {"animal": animal, "collar_id": collar, "started_at": "2000-01-01T00:00:00Z"}
            api.post("/deployments/", json=deployment).raise_for_status()


def export(cloud: CloudProcess) -> str:
    """Ask for an export and return the job."""
    with httpx.Client(base_url=f"{cloud.url}/api/v1", auth=cloud.auth, timeout=30) as api:
        return str(api.post("/exports/", json={}).raise_for_status().json()["id"])


def states(cloud: CloudProcess) -> dict[str, str]:
    return dict(cloud.rows("SELECT id, state FROM jobs WHERE kind = 'export'"))


def effects(cloud: CloudProcess) -> dict[str, tuple[Any, ...]]:
    """Return, by job, what people see of its end: how often it ended, by which attempt, and its file."""
    return {
        job: tuple(rest)
        for job, *rest in cloud.rows(
            "SELECT j.id, (SELECT count(*) FROM job_events e WHERE e.job_seq = j.seq AND e.name = 'state'"
            " AND e.text LIKE '%succeeded%'), j.attempts, f.attempt, f.bytes, f.sha256,"
            " (SELECT count(DISTINCT p.attempt) FROM job_parts p WHERE p.job_seq = j.seq)"
            " FROM jobs j LEFT JOIN job_files f ON f.job_seq = j.seq WHERE j.kind = 'export'"
        )
    }


@pytest.mark.timeout(1800 if IS_NIGHTLY else 600)
async def test_service_and_worker_killed_together_lose_no_receipt_and_do_no_job_twice(tmp_path: Path) -> None:
    cloud = CloudProcess(tmp_path / "cloud")
    try:
        await asyncio.to_thread(cloud.create)
        await asyncio.to_thread(cloud.start)
        cloud.start_worker()
        jobs: list[str] = []
        async with uploading(cloud, tmp_path) as posts:
            await asyncio.to_thread(wear, cloud, [post.collar for post in posts])
            jobs.append(await asyncio.to_thread(export, cloud))
            await asyncio.to_thread(until, lambda: states(cloud)[jobs[0]] == "succeeded", "the first export", 60)
            for _ in range(KILLS):
                ended = effects(cloud)
                with psycopg.connect(cloud.database_url) as other:
                    other.execute("LOCK TABLE job_files IN EXCLUSIVE MODE")  # the job waits with its file at hand
                    jobs.append(await asyncio.to_thread(export, cloud))
                    await asyncio.to_thread(until, lambda: "running" in states(cloud).values(), "a job at work", 60)
                    cloud.kill_both()
                    other.rollback()
                receipted = set[str]().union(*[await post.receipted() for post in posts])
                there = {each for (each,) in cloud.rows("SELECT replace(id::text, '-', '') FROM fixes")}
                assert receipted
                assert receipted <= there, "what was receipted is there although both were killed"
                await asyncio.to_thread(cloud.start)
                cloud.start_worker()
                await asyncio.to_thread(
                    until, lambda: set(states(cloud).values()) == {"succeeded"}, "the end of every job", 90
                )
                now = effects(cloud)
                assert {job: now[job] for job in ended} == ended, "what had ended was not done again"
        found = effects(cloud)
        assert set(found) == set(jobs)
        for endings, attempts, made_by, size, _, parts in found.values():
            assert (endings, parts) == (1, 1)
            assert made_by == attempts
            assert size > 0
        assert sum(post.refused for post in posts) > 0, "no upload met a cloud that was gone"
        assert any(attempts > 1 for _, attempts, *_ in found.values()), "no job was cut"
        fixes = cloud.rows("SELECT count(*), count(DISTINCT (collar_pk, raw_ms, lon_e7, lat_e7)) FROM fixes")
        assert fixes == [(sum(post.heard for post in posts),) * 2]
        assert cloud.rows("SELECT count(*) FROM quarantine") == [(0,)]
    finally:
        cloud.close()
