"""The models at work: decoding beside hmmlearn, the pipeline on one core, and from a frame to its event.

`python -m tests.benchmarks.pipeline`, a part of `make bench`.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import msgspec
import numpy as np
import typer
from hmmlearn.hmm import GaussianHMM  # type: ignore[import-untyped] # it ships no types

from edge.alerts.engine import Engine
from edge.alerts.keeper import Keeper
from edge.alerts.rules import RuleBook
from edge.ops.system_clock import system_clock
from edge.pipeline.alarms import AlarmJudge
from edge.pipeline.lookout import Lookout
from edge.pipeline.pipeline import ANIMALS, Pipeline
from edge.store.store import SpatialiteStore
from models.hmm.features import Rows
from models.hmm.runtime import Variant, load_model
from models.hmm.tracker import Tracker
from models.live.runtime import Models
from shared.domain import NewFix
from shared.privacy import OPERATOR, view_for
from tests.benchmarks import fill, machine, tables
from tests.benchmarks.figures import quantile
from tests.benchmarks.herd import COLLARS, INTERVAL, device_of, frame_of, id_of, position_e7, recorded_at
from tests.benchmarks.station import Station, configure, station
from tests.benchmarks.tables import Table

ROOT: Final = Path(__file__).parents[2]
README: Final = Path(__file__).with_name("README.md")
MARKS: Final = (
    "<!-- tables: written by `python -m tests.benchmarks.pipeline --write` -->",
    "<!-- end of tables of the pipeline -->",
)
RATE_HZ: Final = 50.0
ARRIVE_S: Final = 30.0


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Short rounds: shows that it runs.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
    readme: Annotated[Path, typer.Option(help="Where --write puts them.")] = README,
) -> None:
    """Measure the models at work and print the tables."""
    console = tables.console()
    made = [
        decoding(2_000 if quick else 20_000, 2 if quick else 5),
        asyncio.run(one_core(400 if quick else 40_000, 200 if quick else 4_000)),
        asyncio.run(one_core(400 if quick else 40_000, 200 if quick else 4_000, is_whole=True)),
        frame_to_event(2.0 if quick else 20.0),
        Table("Machine, models at work", ("what", "value"), machine.facts(ROOT, 0.1 if quick else 1.0)),
    ]
    for table in made:
        console.print(table.on_terminal())
    if write:
        tables.write(made, readme, MARKS)
        console.print(f"written: {readme}")


# --- decoding


def rows_of_a_walk(count: int) -> Rows:
    """Return rows of bursts of 500 steps, resting, feeding and walking by turns."""
    rng = np.random.default_rng(1)
    state = np.arange(count) // 12 % 3
    mean_m = np.array([60.0, 400.0, 1_500.0])[state]
    angle = rng.vonmises(0.0, np.array([0.3, 0.5, 3.0])[state])
    starts = np.arange(0, count, 500)
    angle[starts] = np.nan
    index = np.arange(count)
    return Rows(
        step_m=rng.gamma(2.0, mean_m / 2), angle_rad=angle, fix=index + 1, previous_fix=index, starts=starts,
        n_fixes_used=count + 1,
    )  # fmt: skip


def decoding(count: int, runs: int) -> Table:
    """Return the time of decoding rows, beside hmmlearn's decoder of as many Gaussian rows with as many states."""
    rows = rows_of_a_walk(count)
    variant = load_model("elephant").variant_for(3600)
    peer = _peer(rows, variant)
    observed = np.column_stack((np.log(rows.step_m), np.nan_to_num(rows.angle_rad)))
    ours_s = [_seconds(lambda: variant.viterbi(rows)) for _ in range(runs)]
    all_s = [_seconds(lambda: variant.decode(rows)) for _ in range(runs)]
    theirs_s = [_seconds(lambda: peer.predict(observed, rows.lengths)) for _ in range(runs)]
    tracker_s = _tracking_s(variant, min(count, 4_000))
    return Table(
        f"Decoding {count:,} rows with 3 states, one thread",
        ("how", "rows/s", "beside hmmlearn's Viterbi"),
        [
            _rate("hmmlearn 0.3 Gaussian, Viterbi (compiled)", count, theirs_s, theirs_s),
            _rate("ours: quantised tables, Viterbi (numpy)", count, ours_s, theirs_s),
            _rate("ours: filter, shown state and Viterbi", count, all_s, theirs_s),
            ("ours: Tracker, fix by fix", f"{1 / tracker_s:,.0f}", f"{tracker_s * 1e6:,.0f} us a fix"),
        ],
    )


def _peer(rows: Rows, variant: Variant) -> GaussianHMM:
    peer = GaussianHMM(n_components=variant.n_states, covariance_type="diag", init_params="", params="")
    peer.startprob_ = np.full(3, 1 / 3)
    peer.transmat_ = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    peer.means_ = np.array([[4.0, 0.0], [6.0, 0.0], [7.3, 0.0]])
    peer.covars_ = np.array([[1.0, 2.0], [0.8, 2.0], [0.6, 0.5]])
    return peer


def _tracking_s(variant: Variant, count: int) -> float:
    tracker = Tracker(variant)
    rng = np.random.default_rng(2)
    lon, lat = 37 + np.cumsum(rng.normal(0, 0.003, count)), -2 + np.cumsum(rng.normal(0, 0.003, count))
    began = time.perf_counter()
    for hour in range(count):
        tracker.add(hour * 3600.0, float(lon[hour]), float(lat[hour]))
    return (time.perf_counter() - began) / count


def _rate(name: str, count: int, ours_s: list[float], theirs_s: list[float]) -> tuple[str, str, str]:
    ratios = [theirs / ours for ours, theirs in zip(ours_s, theirs_s, strict=True)]
    return name, f"{count / statistics.median(ours_s):,.0f}", f"{statistics.median(ratios):.2f}"


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


# --- the pipeline on one core


@contextmanager
def pinned() -> Iterator[None]:
    """Run on one core alone."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


async def one_core(at_once: int, one_by_one: int, *, is_whole: bool = False) -> Table:
    """Return fixes a second through the pipeline: many that came at once, and one a time from each animal.

    ``is_whole``: with alarms, and with a zone near every animal, so that each is forecast.
    """
    with tempfile.TemporaryDirectory() as folder, pinned():
        config = configure(Path(folder))
        await fill.herd_up_in(config)
        store = SpatialiteStore(config.database, config.key(), now=fill.now)
        models, more = Models(), dict[str, Any]()
        if is_whole:
            await _zones(store)
            keeper = Keeper(store, Engine(RuleBook()), system_clock(), lambda _told: None)
            more = {"judge": AlarmJudge(keeper), "lookout": Lookout(models)}
        pipeline = Pipeline(store, models, lambda _name, _data: None, **more)
        await pipeline.start()
        for start in range(0, at_once, 5_000):
            await store.add_fixes(_VIEW, [_fix(number) for number in range(start, min(start + 5_000, at_once))])
        began, used = time.perf_counter(), time.process_time()
        await pipeline.drain()
        bulk_s, bulk_spent_s = time.perf_counter() - began, time.process_time() - used
        live_s = spent_s = 0.0
        for start in range(at_once, at_once + one_by_one, ANIMALS):
            await store.add_fixes(_VIEW, [_fix(number) for number in range(start, start + ANIMALS)])
            began, used = time.perf_counter(), time.process_time()
            await pipeline.drain()
            live_s += time.perf_counter() - began
            spent_s += time.process_time() - used
        pipeline.close()
        await store.close()
    turns = -(-one_by_one // ANIMALS)
    return Table(
        f"The pipeline on one core: states, path{', forecasts, alarms' if is_whole else ''}, what is written and its"
        " commits",
        ("what came", "fixes", "fixes/s", "CPU ms a fix"),
        [
            (
                f"{at_once // COLLARS} fixes of each of {COLLARS} animals at once",
                f"{at_once:,}",
                f"{at_once / bulk_s:,.0f}",
                f"{1e3 * bulk_spent_s / at_once:.2f}",
            ),
            (
                f"one of each of {ANIMALS} animals in each turn",
                f"{turns * ANIMALS:,}",
                f"{turns * ANIMALS / live_s:,.0f}",
                f"{1e3 * spent_s / (turns * ANIMALS):.2f}",
            ),
        ],
    )


async def _zones(store: SpatialiteStore) -> None:
    """Draw zones of a kilometre so densely that one is within reach of every animal of the herd."""
    for lon in np.arange(36.9, 39.1, 0.12):
        for lat in np.arange(-2.1, -0.9, 0.12):
            ring = [[lon, lat], [lon + 0.01, lat], [lon + 0.01, lat + 0.01], [lon, lat + 0.01], [lon, lat]]
            area = json.dumps({"type": "Polygon", "coordinates": [ring]})
            said = {"name": f"{lon:.2f} {lat:.2f}", "zone_type": "settlement", "risk_level": "high", "geometry": area}
            await store.create_zone(_VIEW, said)


_VIEW: Final = view_for(OPERATOR)


def _fix(number: int) -> NewFix:
    lon_e7, lat_e7 = position_e7(number)
    at = recorded_at(number)
    return NewFix(
        device=device_of(number % COLLARS), recorded_at=at, lon_deg=lon_e7 / 1e7, lat_deg=lat_e7 / 1e7,
        received_at=at + timedelta(seconds=5), h_acc_m=4.0 + number % 7,
    )  # fmt: skip


# --- from frame to event


def frame_to_event(seconds: float) -> Table:
    """Return how long it takes from writing a frame to the event that says what the models make of it."""
    with tempfile.TemporaryDirectory() as folder:
        config = configure(Path(folder))
        fill.herd_up(config)
        with station(Path(folder)) as running:
            warm = COLLARS * 4
            _send(running, range(warm), RATE_HZ * 8)
            running.wait_until(lambda: running.detail()["pipeline"]["owed"] == 0, "its first states", ARRIVE_S)
            taken_ms = _latencies_ms(running, range(warm, warm + round(seconds * RATE_HZ)))
            pss_mb = running.pss_mb()
    return Table(
        f"From a frame to the event of its state at {RATE_HZ:g} fixes/s",
        ("fixes", "p50 ms", "p95 ms", "p99 ms", "PSS MB"),
        [(
            f"{len(taken_ms):,}",
            *(f"{quantile(taken_ms, share):,.0f}" for share in (0.5, 0.95, 0.99)),
            f"{pss_mb:,.0f}",
        )],
    )  # fmt: skip


def _latencies_ms(running: Station, numbers: range) -> list[float]:
    arrived_s: dict[str, float] = {}
    is_listening, has_ended = threading.Event(), threading.Event()

    def listen() -> None:
        with running.api.stream("GET", "/api/v1/events") as stream:
            event = ""
            for line in stream.iter_lines():
                if line == ": listening":
                    is_listening.set()
                elif line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: ") and event == "state":
                    arrived_s.setdefault(msgspec.json.decode(line.removeprefix("data: "))["fix"], time.perf_counter())
                if has_ended.is_set():
                    return

    def run() -> None:
        try:
            listen()
        except httpx.HTTPError:
            if not has_ended.is_set():
                raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if not is_listening.wait(ARRIVE_S):
        raise RuntimeError("the station's events do not answer")
    sent_s = _send(running, numbers, RATE_HZ)
    wanted = [id_of(number) for number in numbers]
    ends = time.perf_counter() + ARRIVE_S
    while time.perf_counter() < ends and not all(identity in arrived_s for identity in wanted):
        time.sleep(0.01)
    has_ended.set()
    missing = [identity for identity in wanted if identity not in arrived_s]
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(wanted)} fixes had no event of their state")
    return [(arrived_s[identity] - at) * 1e3 for identity, at in zip(wanted, sent_s, strict=True)]


def _send(running: Station, numbers: range, rate_hz: float) -> list[float]:
    """Write one frame after the other at a steady rate; return when each was written."""
    sent_s = []
    began = time.perf_counter()
    for index, number in enumerate(numbers):
        time.sleep(max(began + index / rate_hz - time.perf_counter(), 0))
        sent_s.append(time.perf_counter())
        os.write(running.line, frame_of(number))
    return sent_s


assert INTERVAL.total_seconds() < 3600  # each animal has one fix in flight: its states come one by one

if __name__ == "__main__":
    typer.run(main)
