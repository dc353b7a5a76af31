"""`make soak`: half an hour of ingest and readers; memory, logs and latencies must stay where they are.

A station with some history hears 50 fixes/s and sends them to a cloud over a link that is cut again and again, at first
with all that it has. Twenty clients read: four listen to events, eight look at the live status and eight at the newest
fixes, each once a second, as screens do that are left open. One more client fetches every fix as it comes, another asks
ten times a second whether the process is alive: what it waits is the lag of the event loop, and its own. A line a
minute; at the end the link stays and all has to be in the cloud, and what was promised stands beside what was measured.
Exits 1 where that is not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import httpx
import msgspec
import typer

from shared.accounts.tokens import ACCESS_S
from tests.benchmarks import fill, tables
from tests.benchmarks.figures import quantile
from tests.benchmarks.flapping import CONFIG, FlappingCloud, flapping_cloud
from tests.benchmarks.herd import frame_of, id_of
from tests.benchmarks.latency import ARRIVE_S, RATE_HZ, Probe
from tests.benchmarks.small import MEMORY_MB, small_box
from tests.benchmarks.station import Station, configure, station
from tests.benchmarks.tables import Table

ROOT: Final = Path(__file__).parents[2]

MAX_GROWTH: Final = 0.05
MAX_WAL_MB: Final = 64.0
MAX_INGEST_P99_MS: Final = 2_000.0
MAX_API_P95_MS: Final = 300.0
MAX_ALIVE_P99_MS: Final = 50.0

#: Of the whole time: what is left out while caches fill, and what is compared at either end of the rest.
WARM_UP_SHARE: Final = 1 / 6
WINDOW_SHARE: Final = 1 / 6
_SAMPLE_S: Final = 5.0
_ALIVE_EVERY_S: Final = 0.1
_SCREEN_EVERY_S: Final = 1.0
_LISTENERS: Final = 4
_SCREENS: Final = 8

console = tables.console()


class Timed(msgspec.Struct, frozen=True):
    """Something that took ``took_ms`` and ended at ``at_s`` of the soak."""

    at_s: float
    took_ms: float


class Sample(msgspec.Struct, frozen=True):
    """What the kernel says of the station at ``at_s`` of the soak."""

    at_s: float
    pss_mb: float
    rss_mb: float
    wal_mb: float


class Seen:
    """What the threads of a soak have measured; lists are only ever appended to."""

    def __init__(self) -> None:
        self.began_s = time.perf_counter()
        self.fixes: list[Timed] = []
        self.answers: list[Timed] = []
        self.alive: list[Timed] = []
        self.samples: list[Sample] = []
        self.errors: list[str] = []
        self.sent_s: dict[str, float] = {}
        self.is_over = threading.Event()
        #: on a small machine: the most memory in use, where the kernel counted it
        self.is_small = False
        self.peak_mb: float | None = None
        #: how often the link to the cloud was cut, and how many fixes it did not have at the end
        self.cuts = 0
        self.not_in_cloud = 0

    def now_s(self) -> float:
        """Return the time since the soak began."""
        return time.perf_counter() - self.began_s

    def arrived(self, identity: str, _: float, answered_s: float) -> None:
        """Take note of a fix that the API has shown."""
        self.fixes.append(Timed(answered_s - self.began_s, (answered_s - self.sent_s.pop(identity)) * 1e3))


def main(
    minutes: Annotated[float, typer.Option(help="How long.")] = 30.0,
    fixes: Annotated[int, typer.Option(help="How many are stored before it begins.")] = 100_000,
    rate: Annotated[float, typer.Option(help="Fixes a second.")] = RATE_HZ,
    is_small: Annotated[bool, typer.Option("--small", help="On one core, in 512 MB of memory.")] = False,
    folder: Annotated[Path, typer.Option("--dir", help="A folder on the disk to use.")] = ROOT / "var",
) -> None:
    """Soak a station. Ctrl-C ends it early and judges what was seen."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="soak-", dir=folder.resolve()))
    try:
        console.print(f"filling a station with {fixes:,} fixes")
        config = configure(place)
        fill.herd_up(config)
        fill.grow(config, 0, fixes)
        with flapping_cloud() as cloud, small_box() if is_small else contextlib.nullcontext() as box:
            cloud.enrol(config, place / "station.toml")
            if box is not None and not box.is_held:
                console.print("no control group of memory can be made here: one core, and memory is measured, not held")
            with station(place, () if box is None else box.prefix, CONFIG) as running:
                cloud.begin()
                seen = soak(running, cloud, fixes, minutes * 60, rate)
                seen.peak_mb = None if box is None else box.peak_mb()
                seen.not_in_cloud = cloud.drained(running.detail()["store"]["fixes"])
                seen.cuts = cloud.cuts
            seen.is_small = box is not None
    finally:
        shutil.rmtree(place)
    verdict, is_kept = judged(seen)
    console.print(verdict.on_terminal())
    for error in seen.errors[:10]:
        console.print(f"[red]{error}")
    if not is_kept:
        raise typer.Exit(1)


def soak(running: Station, cloud: FlappingCloud, first: int, seconds: float, rate_hz: float) -> Seen:
    """Load the station for ``seconds``, print a line a minute, and return what was seen."""
    seen = Seen()
    probe = Probe(running.url, running.auth, seen.arrived)
    workers = [
        threading.Thread(target=work, args=(running, seen), daemon=True) for work in (_watch_alive, _read_as_screens)
    ]
    workers.append(threading.Thread(target=_send, args=(running, seen, first, rate_hz), daemon=True))
    for worker in workers:
        worker.start()
    console.print(_HEAD)
    minute_s = min(60.0, seconds / 4)
    try:
        said_s = 0.0
        while (now_s := seen.now_s()) < seconds and not seen.errors:
            seen.samples.append(Sample(now_s, running.pss_mb(), running.rss_mb(), running.wal_mb()))
            if now_s - said_s >= minute_s:
                _say(running, cloud, seen, said_s, now_s)
                said_s = now_s
            seen.is_over.wait(min(_SAMPLE_S, minute_s / 3))
    except KeyboardInterrupt:
        console.print("ended early")
    seen.is_over.set()
    for worker in workers:
        worker.join(10)
    ends = time.perf_counter() + ARRIVE_S
    while seen.sent_s and probe.error is None and time.perf_counter() < ends:
        time.sleep(0.05)
    probe.close()
    if probe.error is not None:
        seen.errors.append(f"the client that fetches each fix: {probe.error}")
    if seen.sent_s:
        seen.errors.append(f"{len(seen.sent_s)} fixes did not reach the API")
    return seen


def judged(seen: Seen) -> tuple[Table, bool]:
    """Return the promises with what was seen beside them, and whether all are kept."""
    end_s = seen.samples[-1].at_s
    warm_s = end_s * WARM_UP_SHARE
    window_s = end_s * WINDOW_SHARE
    early = [sample for sample in seen.samples if warm_s <= sample.at_s <= warm_s + window_s]
    late = [sample for sample in seen.samples if sample.at_s >= end_s - window_s]
    claims: list[tuple[str, float, float, str]] = []
    for name, early_mb, late_mb in (
        ("PSS", [each.pss_mb for each in early], [each.pss_mb for each in late]),
        ("RSS", [each.rss_mb for each in early], [each.rss_mb for each in late]),
    ):
        if early_mb and late_mb:
            growth = statistics.median(late_mb) / statistics.median(early_mb) - 1
            claims.append((f"{name} growth after warm-up", growth * 100, MAX_GROWTH * 100, "%"))
    claims.append(("largest write-ahead log", max(sample.wal_mb for sample in seen.samples), MAX_WAL_MB, "MB"))
    for name, timed, share, limit in (
        ("frame to API, p99", seen.fixes, 0.99, MAX_INGEST_P99_MS),
        ("API answers, p95", seen.answers, 0.95, MAX_API_P95_MS),
        ("/health/live (event loop), p99", seen.alive, 0.99, MAX_ALIVE_P99_MS),
    ):
        took_ms = [each.took_ms for each in timed]
        claims.append((name, quantile(took_ms, share) if took_ms else float("inf"), limit, "ms"))
    if seen.is_small:
        peak_mb = seen.peak_mb or max(sample.rss_mb for sample in seen.samples)
        claims.append((f"most memory, {'of the group' if seen.peak_mb else 'RSS'}", peak_mb, MEMORY_MB + 0.5, "MB"))
    claims.append((f"not in the cloud at the end, after {seen.cuts} cuts", seen.not_in_cloud, 1, ""))
    claims.append(("errors", len(seen.errors), 1, ""))
    rows = [
        (what, f"< {limit:.0f} {unit}".strip(), f"{figure:.1f} {unit}".strip(), "yes" if figure < limit else "NO")
        for what, figure, limit, unit in claims
    ]
    title = f"Soak of {end_s / 60:.1f} minutes: {len(seen.fixes):,} fixes, {len(seen.answers):,} answers"
    return Table(title, ("what", "promised", "measured", "kept"), rows), all(row[-1] == "yes" for row in rows)


_HEAD: Final = (
    "  minute     fixes  in cloud  fixes/s  PSS MB  RSS MB  WAL MB  frame to API p50/p99 ms  API p50/p95 ms"
    "  alive p50/p99 ms"
)


def _say(running: Station, cloud: FlappingCloud, seen: Seen, since_s: float, now_s: float) -> None:
    last = seen.samples[-1]
    fixes = _since(seen.fixes, since_s)
    console.print(
        f"{now_s / 60:8.1f}{running.detail()['store']['fixes']:10,}{cloud.fixes():10,}"
        f"{len(fixes) / (now_s - since_s):9.1f}{last.pss_mb:8.1f}{last.rss_mb:8.1f}{last.wal_mb:8.1f}"
        f"{_pair(fixes, 0.99):>25}{_pair(_since(seen.answers, since_s), 0.95):>16}"
        f"{_pair(_since(seen.alive, since_s), 0.99):>18}"
    )


def _since(timed: Sequence[Timed], since_s: float) -> list[float]:
    taken = []
    for each in reversed(timed):
        if each.at_s < since_s:
            break
        taken.append(each.took_ms)
    return taken


def _pair(took_ms: Sequence[float], share: float) -> str:
    return f"{quantile(took_ms, 0.5):.1f}/{quantile(took_ms, share):.1f}" if took_ms else "-"


# --- the load, each part in a thread of its own -----------------------------------------------------------------------


def _send(running: Station, seen: Seen, first: int, rate_hz: float) -> None:
    with _reporting(seen, "the line"):
        for index, due_s in enumerate(_ticks(seen, 1 / rate_hz)):
            number = first + index
            frame = frame_of(number)
            seen.is_over.wait(max(due_s - seen.now_s(), 0))
            seen.sent_s[id_of(number)] = time.perf_counter()
            os.write(running.line, frame)


def _watch_alive(running: Station, seen: Seen) -> None:
    with _reporting(seen, "/health/live"), httpx.Client(base_url=running.url, timeout=30) as client:
        for due_s in _ticks(seen, _ALIVE_EVERY_S):
            seen.is_over.wait(max(due_s - seen.now_s(), 0))
            began = time.perf_counter()
            client.get("/health/live").raise_for_status()
            seen.alive.append(Timed(seen.now_s(), (time.perf_counter() - began) * 1e3))


def _read_as_screens(running: Station, seen: Seen) -> None:
    with _reporting(seen, "clients"):
        asyncio.run(_clients(running, seen))


async def _clients(running: Station, seen: Seen) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with (
        httpx.AsyncClient(base_url=running.url, timeout=30, limits=limits, auth=running.auth) as client,
        asyncio.TaskGroup() as tasks,
    ):
        listeners = [tasks.create_task(_listen(client)) for _ in range(_LISTENERS)]
        screens = [
            tasks.create_task(_look(client, seen, path, number / _SCREENS))
            for number in range(_SCREENS)
            for path in ("/api/v1/animals/live_status/", "/api/v1/tracking/?page_size=100")
        ]
        await asyncio.wait(screens)
        for listener in listeners:
            listener.cancel()


async def _listen(client: httpx.AsyncClient) -> None:
    while True:  # a stream ends with its token, after a quarter of an hour
        began = time.perf_counter()
        async with client.stream("GET", "/api/v1/events", timeout=httpx.Timeout(30)) as stream:
            async for _ in stream.aiter_raw():
                pass
        if time.perf_counter() - began < ACCESS_S:
            raise RuntimeError("a stream of events has ended before its token")


async def _look(client: httpx.AsyncClient, seen: Seen, path: str, offset_s: float) -> None:
    for due_s in _ticks(seen, _SCREEN_EVERY_S):
        await asyncio.sleep(max(due_s + offset_s - seen.now_s(), 0))
        began = time.perf_counter()
        (await client.get(path)).raise_for_status()
        seen.answers.append(Timed(seen.now_s(), (time.perf_counter() - began) * 1e3))


def _ticks(seen: Seen, every_s: float) -> Iterator[float]:
    """Yield the instants of a steady beat until the soak is over; one that comes late makes up for it."""
    begins_s = seen.now_s()
    index = 0
    while not seen.is_over.is_set():
        yield begins_s + index * every_s
        index += 1


@contextmanager
def _reporting(seen: Seen, what: str) -> Iterator[None]:
    try:
        yield
    except* (httpx.HTTPError, OSError, RuntimeError) as errors:
        seen.errors += [f"{what}: {error!r}" for error in errors.exceptions]


if __name__ == "__main__":
    typer.run(main)
