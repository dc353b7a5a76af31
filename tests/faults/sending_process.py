"""A worker that sends, as a process of its own, to be killed: ``python -m tests.faults.sending_process URL``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from cloud.jobs import queue
from cloud.jobs.kinds import Kinds
from cloud.jobs.sending import Destinations
from cloud.jobs.service import Jobs
from cloud.jobs.worker import JobWorker
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from tests.access import accounts_over
from tests.fakes import FakeClock
from tests.workers import QUICK, now, operator

ROOT = Path(__file__).resolve().parents[2]


async def main(url: str) -> None:
    """Work until it is killed; it enters by itself what is due."""
    async with Database.open(url) as database:
        destinations = Destinations(database, accounts_over(PostgresStore(database, now=now), FakeClock()), now=now)
        kinds = Kinds([destinations.kind()])
        jobs = Jobs(database, kinds, now=now)
        worker = JobWorker(
            database, kinds, owner_of=operator, now=now, settings=QUICK, rounds=lambda: destinations.enter_due(jobs)
        )
        await worker.run(queue.working(url, is_pooled=False), asyncio.Event(), does_listen=True)


def start(url: str, log: Path) -> subprocess.Popen[bytes]:
    """Start the process; the caller kills it."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.sending_process", url], cwd=ROOT, stdout=file, stderr=file
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
