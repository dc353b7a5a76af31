"""A map of habitat scored over Dask: cells a second and peak memory, one process against a cluster of two workers.

``python -m tests.benchmarks.science [--side 10000]``; the cluster is a real scheduler with two worker processes.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from cloud.jobs.science import habitat_map
from cloud.jobs.spread import SCHEDULER, spread
from tests.clusters import cluster
from tests.integration.test_spread import write_reserve


def scored(maps: str, out: str, address: str) -> tuple[float, float]:
    """Score the map and return seconds and the peak of this process in MB; run in a process of its own."""
    environment = {SCHEDULER: address} if address else {}
    begun = time.perf_counter()
    with spread(1, environment) as over:
        habitat_map(over, Path(maps), "Syncerus caffer", 6, Path(out))
    return time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_mb(pid: int) -> float:
    """Return the most memory that a process ever had, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main(side: Annotated[int, typer.Option(help="Cells along a side of the map.")] = 10_000) -> None:
    """Print the table."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    fresh = multiprocessing.get_context("spawn")
    print("| cells | where | s | cells/s | peak MB, asking | peak MB, each worker |\n|---|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        maps = write_reserve(folder, side)
        with fresh.Pool(1) as pool:
            seconds, asking_mb = pool.apply(scored, (str(maps), str(folder / "here.tif"), ""))
        print(f"| {side:,}^2 | one process | {seconds:.0f} | {side * side / seconds:,.0f} | {asking_mb:.0f} | - |")
        with cluster(folder) as (address, pids), fresh.Pool(1) as pool:
            seconds, asking_mb = pool.apply(scored, (str(maps), str(folder / "far.tif"), address))
            each = ", ".join(f"{peak_mb(pid):.0f}" for pid in pids)
        print(f"| {side:,}^2 | two workers | {seconds:.0f} | {side * side / seconds:,.0f} | {asking_mb:.0f} | {each} |")


if __name__ == "__main__":
    typer.run(main)
