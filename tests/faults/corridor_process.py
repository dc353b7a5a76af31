"""A worker of corridor jobs as a process, to be killed: ``python -m tests.faults.corridor_process URL FOLDER MAPS``.

Its first attempt waits for the file ``leave`` in ``FOLDER``: before it searches, or, with the file ``late`` there, when
the corridor is stored and the job has not ended yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from cloud.corridors.job import CorridorSearch
from cloud.corridors.router import MapRouter
from cloud.jobs import queue
from cloud.jobs.kinds import JobKind, Kinds, Run
from cloud.jobs.worker import JobWorker
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from models.artifact import PACKAGED
from shared.jobs import CorridorWish
from shared.privacy import view_for
from tests.workers import QUICK, now, operator

ROOT = Path(__file__).resolve().parents[2]


def kind_in(folder: Path, store: PostgresStore, maps: Path) -> JobKind[CorridorWish]:
    """Return the cloud's kind of job, with a place to wait."""
    whole = CorridorSearch(store, MapRouter(store, maps=maps, weights=None, artifacts=PACKAGED), view_for).kind()

    async def wait(run: Run[CorridorWish]) -> None:
        (folder / f"waits.{run.attempt}").touch()
        while run.attempt == 1 and not (folder / "leave").exists():
            run.check()
            await asyncio.sleep(0.02)

    async def run(run: Run[CorridorWish]) -> Any:
        is_late = (folder / "late").exists()
        if not is_late:
            await wait(run)
        found = await whole.run(run)
        if is_late:
            await wait(run)
        return found

    return JobKind(name="corridor", parameters=CorridorWish, run=run, is_heavy=True, most_failures=5, first_pause_s=0.0)


async def main(url: str, folder: Path, maps: Path) -> None:
    """Work until SIGTERM."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with Database.open(url) as database:
        kinds = Kinds([kind_in(folder, PostgresStore(database, now=now), maps)])
        worker = JobWorker(database, kinds, owner_of=operator, now=now, settings=QUICK)
        await worker.run(queue.working(url, is_pooled=False), told, does_listen=True)


class CorridorWorker:
    """The process, from the test's side."""

    def __init__(self, url: str, folder: Path, maps: Path) -> None:
        self._log = folder / "corridor.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.corridor_process", url, str(folder), str(maps)], cwd=ROOT,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def end(self, how: signal.Signals) -> int:
        """End it and return its exit code."""
        self._process.send_signal(how)
        return self._process.wait(30)

    def close(self) -> None:
        """End it whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            self.end(signal.SIGKILL)

    def tail(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-3_000:]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
