"""The models of a station: latency of each runtime, size of the artefacts, memory with all of them loaded.

`python -m tests.benchmarks.models`, a part of `make bench`. Exits 1 where artefacts or memory are over their limit.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from models.artifact import PACKAGED
from models.forecast.features import N_TOKENS, TOKEN_WIDTH
from models.forecast.fitted import ENGINES
from models.forecast.runtime import Track, load_forecaster
from models.live.usable import runs_at_stations
from shared.errors import ModelUnavailable
from tests.benchmarks import fill, tables
from tests.benchmarks.figures import quantile
from tests.benchmarks.herd import COLLARS
from tests.benchmarks.pipeline import RATE_HZ, _send
from tests.benchmarks.station import configure, station
from tests.benchmarks.tables import Table
from tests.unit.models.habitat.maps import write_reserve

README: Final = Path(__file__).with_name("README.md")
MARKS: Final = (
    "<!-- tables: written by `python -m tests.benchmarks.models --write` -->",
    "<!-- end of tables of the models -->",
)
MOST_BYTES: Final = 2_000_000
MOST_PSS_MB: Final = 250.0
_WEEKS_H: Final = 72 * 24
_ARRIVE_S: Final = 60.0


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Short rounds: shows that it runs.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
    readme: Annotated[Path, typer.Option(help="Where --write puts them.")] = README,
) -> None:
    """Measure the models and print the tables."""
    console = tables.console()
    sizes, is_small = artefacts()
    memory, is_light = loaded()
    made = [engines(20 if quick else 500), forecasts(3 if quick else 100), sizes, memory]
    for table in made:
        console.print(table.on_terminal())
    if write:
        tables.write(made, readme, MARKS)
        console.print(f"written: {readme}")
    if not (is_small and is_light) and not quick:
        raise typer.Exit(1)


def engines(runs: int) -> Table:
    """Return how long the network takes in each runtime, for one animal and for 32 at once."""
    rng = np.random.default_rng(3)
    rows = []
    for name in ENGINES:
        try:
            network = load_forecaster("elephant", engine=name).network()
        except ModelUnavailable as error:
            rows.append((name, "1", "-", "-", error.detail))
            continue
        for animals in (1, 32):
            tokens = rng.normal(size=(animals, N_TOKENS, TOKEN_WIDTH)).astype(np.float32)
            context = network.scaling.scaled(rng.normal(size=(animals, network.scaling.mean.size)).astype(np.float32))
            work = functools.partial(network.engine.heads, tokens, context)
            rows.append((name, str(animals), *_timed(runs, work), ""))
    return Table("The network in each runtime, one thread", ("runtime", "animals", "p50 ms", "p99 ms", "why not"), rows)


def forecasts(runs: int) -> Table:
    """Return how long a whole forecast takes from ten weeks of fixes: states, features, network, ellipses."""
    rng = np.random.default_rng(4)
    forecaster = load_forecaster("elephant")
    rows = []
    for minutes in (60, 15):
        n = _WEEKS_H * 60 // minutes
        track = Track(
            times_s=1.7e9 + np.arange(n, dtype=np.float64) * minutes * 60.0,
            lon_deg=37 + np.cumsum(rng.normal(0, 0.002, n)),
            lat_deg=-2 + np.cumsum(rng.normal(0, 0.002, n)),
        )  # fmt: skip
        ((_, own),) = forecaster.with_own([track])
        kept = Track(times_s=track.times_s, lon_deg=track.lon_deg, lat_deg=track.lat_deg, own=own)
        for how, asked in (("anew", track), ("from kept distances of its own past", kept)):
            began = time.process_time()
            p50, p99 = _timed(runs, functools.partial(forecaster.predict_many, [asked]))
            cpu_ms = (time.process_time() - began) / (runs + 1) * 1e3
            rows.append((f"{n:,} fixes, {minutes} min", how, p50, p99, f"{cpu_ms:.1f}"))
    return Table("A forecast of one animal", ("history", "how", "p50 ms", "p99 ms", "CPU ms"), rows)


def _timed(runs: int, work: Callable[[], object]) -> tuple[str, str]:
    work()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1e3)
    return f"{quantile(taken, 0.5):.2f}", f"{quantile(taken, 0.99):.2f}"


def artefacts() -> tuple[Table, bool]:
    """Return what the packaged artefacts take, manifests and all, and whether those of a station are small enough.

    Beside those that a station runs lie some that only the cloud, training and ``evaluate`` open.
    """
    rows, totals = [], [0, 0]
    for folder in sorted(PACKAGED.iterdir()):
        sizes, count = [0, 0], 0
        for path in (each for each in folder.rglob("*") if each.is_file()):
            is_elsewhere = not runs_at_stations(folder.name, path.stem)
            sizes[is_elsewhere] += path.stat().st_size
            count += not is_elsewhere
        totals = [total + size for total, size in zip(totals, sizes, strict=True)]
        rows.append((folder.name, str(count), *(f"{size:,}" for size in sizes), ""))
    is_kept = totals[0] < MOST_BYTES
    promised = f"< {MOST_BYTES:,}: {'yes' if is_kept else 'NO'}"
    rows.append(("together", "", *(f"{total:,}" for total in totals), promised))
    columns = ("model", "files of a station", "their bytes", "bytes for the cloud, training, evaluation", "promised")
    return Table("Artefacts", columns, rows), is_kept


def loaded() -> tuple[Table, bool]:
    """Return the memory of a station with a herd, every model loaded and maps open in the process of maps."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = configure(folder)
        asyncio.run(fill.herd_up_in(config))
        write_reserve(config.station.data_dir)
        with station(folder) as running:
            bare_mb = running.pss_mb()
            _send(running, range(COLLARS * 4), RATE_HZ * 8)
            running.wait_until(lambda: running.detail()["pipeline"]["owed"] == 0, "its first states", _ARRIVE_S)
            for path in ("animals/live_status/", "tracking/live_tracking/", "predictions/ml_status/"):
                running.api.get(f"/api/v1/{path}").raise_for_status()
            alone_mb = running.pss_mb()
            running.api.get("/api/v1/habitat/buffalo/10/602/581.png").raise_for_status()
            pss_mb, child_mb = running.pss_mb(), _children_mb(running.pid)
    is_kept = pss_mb + child_mb < MOST_PSS_MB
    rows = [
        ("the station when it is ready", f"{bare_mb:.0f}", ""),
        ("with all models of movement loaded", f"{alone_mb:.0f}", ""),
        ("the process of maps, with maps open and a tile drawn", f"{child_mb:.0f}", ""),
        ("together", f"{pss_mb + child_mb:.0f}", f"< {MOST_PSS_MB:.0f}: {'yes' if is_kept else 'NO'}"),
    ]
    return Table("Memory with all models", ("what", "PSS MB", "promised"), rows), is_kept


def _children_mb(pid: int) -> float:
    """Return the proportional set size of a process' children, in MB."""
    total_kib = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            for line in Path(f"/proc/{child}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    total_kib += int(line.split()[1])
    return total_kib * 1024 / 1e6


if __name__ == "__main__":
    typer.run(main)
