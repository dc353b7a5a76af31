"""A real Dask cluster for tests: a scheduler and workers, each a program of its own on this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cloud.jobs.spread import SCHEDULER, spread
from shared.errors import LinkError
from tests.faults.station_process import until
from tests.services import free_port

ROOT = Path(__file__).resolve().parents[1]
_ALONE = ("--nthreads", "1", "--no-dashboard", "--no-nanny", "--memory-limit", "0")


@contextlib.contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[tuple[str, list[int]]]:
    """Give the address of a scheduler and the process ids of its workers."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "dask.log").open("wb") as log:

        def begin(program: str, *words: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *words], cwd=folder, env=environment, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip

        own = [begin("dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show")]
        try:
            own += [begin("dask_worker", address, *_ALONE, "--name", f"w{number}") for number in range(workers)]
            until(lambda: _count(address) == workers, "all workers", 120)
            yield address, [process.pid for process in own[1:]]
        finally:
            for process in own:
                process.kill()
                process.wait(20)


def _count(address: str) -> int:
    try:
        with spread(environment={SCHEDULER: address}, connect_s=2.0) as over:
            return over.workers
    except LinkError:
        return 0
