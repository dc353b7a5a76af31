"""A map of habitat scored over Dask: cells a second and peak memory, one process against a cluster of two workers.

``python -m tests.benchmarks.science [--side 10000] [--write]``; the cluster is a real scheduler with two worker
processes. Processor's time stands beside the clock's: on a machine that does other things, too, it is what counts.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from cloud.jobs.science import habitat_map
from cloud.jobs.spread import SCHEDULER, spread
from tests.benchmarks import machine, tables
from tests.benchmarks.tables import Table
from tests.clusters import cluster
from tests.integration.test_spread import write_reserve

ROOT: Final = Path(__file__).parents[2]
README: Final = Path(__file__).with_name("README.md")
MARKS: Final = (
    "<!-- tables: written by `python -m tests.benchmarks.science --write` -->",
    "<!-- end of tables of batch science -->",
)
_TICKS_A_S: Final = os.sysconf("SC_CLK_TCK")


def scored(maps: str, out: str, address: str) -> tuple[float, float, float]:
    """Score the map; return seconds, those of this process' processor, and its peak in MB. In a process of its own."""
    environment = {SCHEDULER: address} if address else {}
    begun, used = time.perf_counter(), time.process_time()
    with spread(1, environment) as over, tables.console(is_stderr=True).status("scoring") as line:
        habitat_map(
            over,
            Path(maps),
            "Syncerus caffer",
            6,
            Path(out),
            progress=lambda _share, what: line.update(f"{what} scored"),
        )
    # not getrusage: its peak is also that of the program before exec, here of whoever wrote the map
    return time.perf_counter() - begun, time.process_time() - used, worker_of(os.getpid())[1]


def worker_of(pid: int) -> tuple[float, float]:
    """Return the seconds of processor's time and the peak in MB of a process that runs."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    peak_kib = next(
        int(line.split()[1])
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmHWM:")
    )
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_S, peak_kib * 1024 / 1e6


def measured(side: int) -> Table:
    """Return the table of a map of ``side`` by ``side`` cells."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    fresh = multiprocessing.get_context("spawn")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        maps = write_reserve(folder, side)
        with fresh.Pool(1) as pool:
            took_s, used_s, asking_mb = pool.apply(scored, (str(maps), str(folder / "here.tif"), ""))
        rows.append(_row("one process", side, took_s, used_s, asking_mb, "-"))
        with cluster(folder) as (address, pids), fresh.Pool(1) as pool:
            before_s = sum(worker_of(pid)[0] for pid in pids)
            took_s, used_s, asking_mb = pool.apply(scored, (str(maps), str(folder / "far.tif"), address))
            workers = [worker_of(pid) for pid in pids]
            used_s += sum(each[0] for each in workers) - before_s
            peaks = ", ".join(f"{each[1]:,.0f}" for each in workers)
        rows.append(_row("two workers", side, took_s, used_s, asking_mb, peaks))
        is_same = (folder / "here.tif").read_bytes() == (folder / "far.tif").read_bytes()
    if not is_same:
        raise RuntimeError("the cluster's map is not the one that one process makes")
    return Table(
        f"A map of {side:,} x {side:,} cells scored",
        ("where", "s", "cells/s", "processor's s", "cells/s of one core", "peak MB, asking", "peak MB, each worker"),
        rows,
    )


def _row(where: str, side: int, took_s: float, used_s: float, asking_mb: float, peaks: str) -> tuple[str, ...]:
    cells = side * side
    return (
        where, f"{took_s:,.0f}", f"{cells / took_s:,.0f}", f"{used_s:,.0f}", f"{cells / used_s:,.0f}",
        f"{asking_mb:,.0f}", peaks,
    )  # fmt: skip


def main(
    side: Annotated[int, typer.Option(help="Cells along a side of the map.")] = 10_000,
    quick: Annotated[bool, typer.Option("--quick", help="A small map: shows that it runs.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
    readme: Annotated[Path, typer.Option(help="Where --write puts them.")] = README,
) -> None:
    """Measure and print the tables."""
    made = [
        measured(700 if quick else side),
        Table("Machine, batch science", ("what", "value"), machine.facts(ROOT, 0.1 if quick else 1.0)),
    ]
    for table in made:
        tables.console().print(table.on_terminal())
    if write:
        tables.write(made, readme, MARKS)
        tables.console().print(f"written: {readme}")


if __name__ == "__main__":
    typer.run(main)
