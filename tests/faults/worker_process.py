"""A worker as a process of its own, to be killed: ``python -m tests.faults.worker_process URL FOLDER``.

Its one kind of job marks each attempt in ``FOLDER``, waits there for leave, and enters a row whose id is the job's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from cloud.jobs import queue
from cloud.jobs.kinds import JobKind, Kinds, Run
from cloud.jobs.worker import JobWorker
from cloud.store.database import Database
from tests.workers import GUARD_S, QUICK, Wish, now, operator

ROOT = Path(__file__).resolve().parents[2]


def kind_in(folder: Path) -> JobKind[Wish]:
    """Return the kind of job."""

    async def run(run: Run[Wish]) -> list[int]:
        (folder / f"{run.id}.{run.attempt}").touch()
        done: list[int] = run.kept or []
        while len(done) < run.parameters.n:
            done.append(run.attempt)
            await run.keep(done)
            while not (folder / "leave").exists() and len(done) == 2:
                run.check()
                await asyncio.sleep(0.02)
        async with run.committing() as connection:
            await connection.execute(
                "INSERT INTO facts (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value ="
                " facts.value || excluded.value",
                (f"effect {run.identity('row')}", f"<{run.attempt}>"),
            )
        return done

    return JobKind(name="test", parameters=Wish, run=run, is_heavy=True, most_failures=5)


async def main(url: str, folder: Path) -> None:
    """Work until SIGTERM."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with Database.open(url) as database:
        worker = JobWorker(database, Kinds([kind_in(folder)]), owner_of=operator, now=now, settings=QUICK)
        await worker.run(queue.working(url, is_pooled=False), told, does_listen=True)


class WorkerProcess:
    """The process, from the test's side."""

    def __init__(self, url: str, folder: Path) -> None:
        self._folder = folder
        with (folder / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.worker_process", url, str(folder)], cwd=ROOT, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip

    def end(self, how: signal.Signals) -> int:
        """End it and return its exit code."""
        self._process.send_signal(how)
        return self._process.wait(GUARD_S)

    def close(self) -> None:
        """End it whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            self.end(signal.SIGKILL)

    def tail(self) -> str:
        """Return the end of its log."""
        return (self._folder / "worker.log").read_text(errors="replace")[-3_000:]


if __name__ == "__main__":
    msgspec.json.encode(None)  # loaded before anything is timed
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
