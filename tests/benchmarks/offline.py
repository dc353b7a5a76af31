"""A station that comes back after weeks without a link: how soon the cloud has everything, and what comes first.

`python -m tests.benchmarks.offline`. A station is grown by the shipped code to as many days as are asked for, 200
collars and a fix of each every quarter of an hour, with alerts and edits among them. Its whole backlog then goes to the
shipped cloud over HTTP and a durable PostgreSQL. The link is virtual and the work is real: a clock that stands still by
itself is moved by the bytes of every request and answer at the link's rate, by a round trip each, and by the time that
station and cloud really worked in between, one after the other. The profile's own meter does the waiting, so what is
measured is what it lets through.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import msgspec
import structlog
import typer

from cloud.demo.cluster import PrivateCluster
from cloud.store.migrate import migrate
from edge.config import Config
from edge.store import outbox
from edge.store.store import SpatialiteStore
from edge.sync.client import CloudClient
from edge.sync.meter import OVERHEAD_BYTES, Meter
from edge.sync.metered import MeteredCloud
from edge.sync.profiles import PROFILES, Profile
from edge.sync.session import new_epoch, sync_once
from shared.privacy import OPERATOR, view_for
from shared.store import AnimalQuery
from shared.sync.records import to_ms
from shared.sync.streams import Batch, Receipt, StreamAnswer
from tests.benchmarks import fill, herd, machine, reads, tables, wire
from tests.benchmarks.figures import quantile
from tests.benchmarks.reconcile import STATION, enter_station, running_cloud
from tests.benchmarks.station import configure, station
from tests.benchmarks.tables import Table
from tests.clouds import ask
from tests.fakes import FakeClock
from tests.real_data import FOLDER

ROOT: Final = Path(__file__).parents[2]
README: Final = Path(__file__).with_name("README.md")
MARKS: Final = (
    "<!-- tables: written by `python -m tests.benchmarks.offline --write` -->",
    "<!-- end of tables of the month offline -->",
)
FIXES_A_DAY: Final = herd.COLLARS * 96
#: 256 kbit/s, and what a request waits for beside its bytes.
BYTES_A_SECOND: Final = 32_000
ROUND_TRIP_S: Final = 0.2
#: The promise: 30 days are drained in this much time of the link.
MAX_DRAIN_S: Final = 600.0
DRAINED_DAYS: Final = 30
ALERTS: Final = 60
EDITS: Final = 120
#: The days and the cap of the run that shows that a cap is kept.
CAPPED_DAYS: Final = 2
CAP: Final = 150_000
_DAY_S: Final = 86_400.0
_HOUR_S: Final = 3_600.0
_MOST_HOURS: Final = 24 * 60

console = tables.console()
notes = tables.console(is_stderr=True)


class Sent(msgspec.Struct, frozen=True):
    """One request: when its answer was there, what it was for, its bytes up and down with what a request costs."""

    at_s: float
    channel: str
    size: int


class VirtualLink(CloudClient):
    """The station's client over real HTTP; a virtual clock is moved by a round trip and by the work of both sides."""

    def __init__(self, url: str, private_key: bytes, clock: FakeClock) -> None:
        super().__init__(url, STATION, private_key, now=clock.now)
        self._clock = clock
        self._idle_since_s = time.perf_counter()
        self._channel = ""
        self.sent: list[Sent] = []
        self.station_s = 0.0
        self.cloud_s = 0.0

    async def put_batch(self, batch: Batch) -> Receipt | StreamAnswer:
        """Bring a batch."""
        self._channel = batch.channel
        try:
            return await super().put_batch(batch)
        finally:
            self._channel = ""

    async def _send(
        self, method: str, path: str, asked: Mapping[str, Any] | None = None, *, body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:  # fmt: skip
        began_s = time.perf_counter()
        worked_s = began_s - self._idle_since_s
        answer = await super()._send(method, path, asked, body=body, headers=headers)
        self._idle_since_s = time.perf_counter()
        took_s = self._idle_since_s - began_s
        self.station_s += worked_s
        self.cloud_s += took_s
        self._clock.tick(worked_s + took_s + ROUND_TRIP_S)
        size = len(body) + answer.num_bytes_downloaded + OVERHEAD_BYTES
        self.sent.append(Sent(self._clock.monotonic(), self._channel, size))
        return answer


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """What the link carried and how long it took; times are seconds of the link from its first byte."""

    days: int
    fixes: int
    batches: int
    payload: int
    link_s: float
    station_s: float
    cloud_s: float
    alerts_s: float
    newest_s: float
    #: from when an alert was raised in the middle of the backlog until the cloud had it
    late_alert_s: float
    #: batches of other channels that went before an alert that waited
    before_alerts: int


class Capped(msgspec.Struct, frozen=True, kw_only=True):
    """What went over a link with a cap: the most in any day, and how many days it took."""

    fixes: int
    cap: int
    most: int
    days: float


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a station with so many days takes on the disk, and how soon it answers."""

    days: int
    fixes: int
    database_mb: float
    ledger_mb: float
    start_s: float
    reads: list[reads.Read]


def main(
    days: Annotated[str, typer.Option(help="Days to grow to, one after the other.")] = "30,90",
    quick: Annotated[bool, typer.Option("--quick", help="A fifth of a day: shows that it runs.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
    readme: Annotated[Path, typer.Option(help="Where --write puts them.")] = README,
    folder: Annotated[Path | None, typer.Option("--dir", help="The disk to work on.")] = None,
) -> None:
    """Measure and print; exits with 1 where a promise is not kept, --quick never does."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    sizes = [1] if quick else sorted(int(each) for each in days.split(","))
    per_day = FIXES_A_DAY // 5 if quick else FIXES_A_DAY
    (folder or ROOT / "var").mkdir(exist_ok=True)
    base = Path(tempfile.mkdtemp(prefix="offline-", dir=folder or ROOT / "var"))
    try:
        of_machine = machine.facts(base, 0.1 if quick else 1.0)
        capped = _capped(base / "capped", per_day * CAPPED_DAYS, CAP // 5 if quick else CAP)
        measured = list(_at_each_size(base / "station", sizes, per_day))
    finally:
        shutil.rmtree(base, ignore_errors=True)
    promises = list(_promises([drained for drained, _ in measured], capped))
    made = [
        *_tables(measured, capped, promises),
        *_wire(),
        Table("Machine, month offline", ("what", "value"), of_machine),
    ]
    for table in made:
        console.print(table.on_terminal())
    if write:
        tables.write(made, readme, MARKS)
        console.print(f"written: {readme}")
    if not quick and not all(is_kept for *_, is_kept in promises):
        raise typer.Exit(1)


def _at_each_size(folder: Path, sizes: list[int], per_day: int) -> Iterator[tuple[Drained, Held]]:
    """Grow one station to each size and send a copy of it to a cloud of its own."""
    config = configure(folder)
    fill.herd_up(config)
    grown = 0
    for days in sizes:
        fixes = days * per_day
        notes.print(f"{fixes - grown:,} fixes are stored")
        fill.grow(config, grown, fixes)
        grown = fixes
        held = _held(folder, days, fixes)
        copy = folder.with_name(f"copy-{days}")
        shutil.copytree(folder, copy)
        notes.print(f"{days} days go to the cloud")
        yield asyncio.run(_drain(configure(copy), days, fixes)), held
        shutil.rmtree(copy)


def _held(folder: Path, days: int, fixes: int) -> Held:
    with station(folder) as running:
        answers = reads.measure(running, fixes, 30)
        start_s = running.start_s
    config = configure(folder)
    return Held(
        days=days, fixes=fixes, start_s=start_s, reads=answers, database_mb=config.database.stat().st_size / 1e6,
        ledger_mb=sum(path.stat().st_size for path in config.ledger_dir.rglob("*") if path.is_file()) / 1e6,
    )  # fmt: skip


async def _drain(config: Config, days: int, fixes: int) -> Drained:
    """Send everything over a link of 256 kbit/s with no cap."""
    profile = msgspec.structs.replace(PROFILES["cell"], bytes_a_day=None, bytes_a_second=BYTES_A_SECOND)
    clock = FakeClock(herd.recorded_at(fixes) + timedelta(hours=1))
    with PrivateCluster(Path(tempfile.mkdtemp(prefix="outpost-offline-"))) as cluster:
        cluster.folder.chmod(0o755)
        cluster.create_database("cloud")
        migrate(cluster.url("cloud"))
        private_key = enter_station(cluster.url("cloud"))
        with running_cloud(cluster.url("cloud")) as address:
            store = SpatialiteStore(config.database, config.key(), now=clock.now)
            try:
                drained = await _drained(store, address, private_key, profile, clock, days)
            finally:
                await store.close()
            ((rows, ids),) = ask(
                cluster.url("cloud"), "SELECT count(*), count(DISTINCT (collar_pk, raw_ms, lon_e7, lat_e7)) FROM fixes"
            )
            if not rows == ids == fixes:
                raise RuntimeError(f"the cloud has {rows} rows of {ids} fixes, the station sent {fixes}")
    shutil.rmtree(cluster.folder, ignore_errors=True)
    return drained


async def _drained(
    store: SpatialiteStore, address: str, private_key: bytes, profile: Profile, clock: FakeClock, days: int
) -> Drained:
    await _enrol(store, address, private_key, clock)
    await _live(store)
    raised_s: list[float] = []
    tasks: list[asyncio.Task[object]] = []
    half = (await store.read(outbox.backlog)).channels["fixes"].items // 2

    def halfway(count: int) -> None:
        if count > half and not raised_s:
            raised_s.append(clock.monotonic())
            tasks.append(asyncio.create_task(_raise_alert(store, "in the middle")))

    link = VirtualLink(address, private_key, clock)
    async with link:
        meter = Meter(store, profile, clock, "boot", pause=_pausing(clock))
        began_s = clock.monotonic()
        done = await sync_once(store, MeteredCloud(link, meter), clock, profile=profile, progress=halfway)
        done_s = max(clock.monotonic(), meter._free_s)
        await asyncio.gather(*tasks)
    alerts = [each for each in link.sent if each.channel == "alerts"]
    in_time = [each for each in alerts if each.at_s <= raised_s[0]]
    late = [each for each in alerts if each.at_s > raised_s[0]]
    newest = [each for each in link.sent if each.channel == "newest"]
    before = [each for each in link.sent if each.channel not in ("", "alerts") and each.at_s < in_time[-1].at_s]
    return Drained(
        days=days, fixes=done.fixes, batches=done.batches, payload=done.bytes_up, link_s=done_s - began_s,
        station_s=link.station_s, cloud_s=link.cloud_s, alerts_s=in_time[-1].at_s - began_s,
        newest_s=newest[0].at_s - began_s if newest else 0.0,
        late_alert_s=late[0].at_s - raised_s[0] if late else float("inf"), before_alerts=len(before),
    )  # fmt: skip


def _capped(folder: Path, fixes: int, cap: int) -> Capped:
    """Send a backlog over the cellular profile with a cap that it exceeds, as long as it takes."""
    config = configure(folder)
    fill.herd_up(config)
    fill.grow(config, 0, fixes)
    profile = msgspec.structs.replace(PROFILES["cell"], bytes_a_day=cap)
    clock = FakeClock(herd.recorded_at(fixes) + timedelta(hours=1))
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o755)
        with PrivateCluster(Path(base) / "postgres") as cluster:
            cluster.create_database("cloud")
            migrate(cluster.url("cloud"))
            private_key = enter_station(cluster.url("cloud"))
            with running_cloud(cluster.url("cloud")) as address:
                return asyncio.run(_days_of(config, address, private_key, profile, clock, fixes, cap))


async def _days_of(
    config: Config, address: str, private_key: bytes, profile: Profile, clock: FakeClock, fixes: int, cap: int
) -> Capped:
    store = SpatialiteStore(config.database, config.key(), now=clock.now)
    try:
        await _enrol(store, address, private_key, clock)
        await _live(store)
        link = VirtualLink(address, private_key, clock)
        async with link:
            meter = Meter(store, profile, clock, "boot", pause=_pausing(clock))
            began_s = clock.monotonic()
            for _ in range(_MOST_HOURS):
                done = await sync_once(store, MeteredCloud(link, meter), clock, profile=profile)
                if not done.is_spent:
                    break
                clock.tick(_HOUR_S)
            else:
                raise RuntimeError(f"{fixes} fixes are not through after {_MOST_HOURS} hours")
            days = (clock.monotonic() - began_s) / _DAY_S
    finally:
        await store.close()
    return Capped(fixes=fixes, cap=cap, most=_most_in_a_day(link.sent), days=days)


def _most_in_a_day(sent: list[Sent]) -> int:
    """Return the most bytes that went in any 24 hours, with what requests cost beside their bodies."""
    most = used = first = 0
    for each in sent:
        used += each.size
        while sent[first].at_s <= each.at_s - _DAY_S:
            used -= sent[first].size
            first += 1
        most = max(most, used)
    return most


async def _enrol(store: SpatialiteStore, address: str, private_key: bytes, clock: FakeClock) -> None:
    await store.write(
        lambda db: outbox.enrol(
            db, url=address, station_id=STATION, private_key=private_key, cloud_epoch="", epoch=new_epoch(),
            now_ms=to_ms(clock.now()),
        )
    )  # fmt: skip


async def _live(store: SpatialiteStore) -> None:
    """Raise alerts and edit animals, as happens in a month."""
    view = view_for(OPERATOR)
    for number in range(ALERTS):
        await _raise_alert(store, f"number {number}")
    animals = (await store.animals(view, AnimalQuery(limit=EDITS))).results
    for number, animal in enumerate(animals):
        await store.update_animal(view, animal.id, {"notes": f"seen, {number}"})


async def _raise_alert(store: SpatialiteStore, what: str) -> object:
    columns = {"alert_type": "low_battery", "title": f"Battery low, {what}", "severity": "high"}
    return await store.create_alert(view_for(OPERATOR), columns)


def _pausing(clock: FakeClock) -> Any:
    async def pause(seconds: float) -> None:
        clock.tick(seconds)

    return pause


# --- tables


def _promises(drained: list[Drained], capped: Capped) -> Iterator[tuple[str, str, str, bool]]:
    for each in drained:
        if each.days == DRAINED_DAYS:
            name = f"{each.fixes:,} fixes of {each.days} days, 256 kbit/s"
            yield name, f"<= {MAX_DRAIN_S:.0f} s", f"{each.link_s:.0f} s", each.link_s <= MAX_DRAIN_S
        name = f"{each.days} days: batches that went before a waiting alert"
        yield name, "0", f"{each.before_alerts}", each.before_alerts == 0
    name = f"bytes in any 24 hours, {capped.fixes:,} fixes over a cap"
    yield name, f"<= {capped.cap:,}", f"{capped.most:,}", capped.most <= capped.cap


def _tables(
    measured: list[tuple[Drained, Held]], capped: Capped, promises: list[tuple[str, str, str, bool]]
) -> Iterator[Table]:
    yield Table(
        "A month offline: promises",
        ("what", "promised", "measured", "kept"),
        [(name, bar, figure, "yes" if is_kept else "NO") for name, bar, figure, is_kept in promises],
    )
    yield Table(
        "A backlog over 256 kbit/s, seconds of the link",
        (
            "days", "fixes", "batches", "bytes a fix", "all there", "of it station's work", "cloud's work",
            "waiting alerts there", "newest positions there", "alert raised halfway, there after",
        ),
        [
            (
                f"{it.days}", f"{it.fixes:,}", f"{it.batches:,}", f"{it.payload / it.fixes:.2f}", f"{it.link_s:.0f}",
                f"{it.station_s:.0f}", f"{it.cloud_s:.0f}", f"{it.alerts_s:.1f}", f"{it.newest_s:.1f}",
                f"{it.late_alert_s:.1f}",
            )
            for it, _ in measured
        ],
    )  # fmt: skip
    yield Table(
        "A cap of bytes a day",
        ("fixes", "cap", "most in any 24 hours", "days until all there"),
        [(f"{capped.fixes:,}", f"{capped.cap:,}", f"{capped.most:,}", f"{capped.days:.1f}")],
    )
    yield Table(
        "What the station holds",
        ("days", "fixes", "database, MB", "ledger, MB", "start to ready, s"),
        [
            (f"{it.days}", f"{it.fixes:,}", f"{it.database_mb:.0f}", f"{it.ledger_mb:.0f}", f"{it.start_s:.1f}")
            for _, it in measured
        ],
    )
    names = [read.name for read in measured[0][1].reads]
    yield Table(
        "Reads of the station, p50 / p95 ms",
        ("question", *(f"{it.days} days" for _, it in measured)),
        [
            (
                name,
                *(
                    f"{quantile(it.reads[place].took_ms, 0.5):.1f} / {quantile(it.reads[place].took_ms, 0.95):.1f}"
                    for _, it in measured
                ),
            )
            for place, name in enumerate(names)
        ],
    )


def _wire() -> list[Table]:
    """Return the table of bytes on the wire, where the real tracks are at hand."""
    return [wire.table()] if all((FOLDER / name).is_file() for name in wire.FILES) else []


if __name__ == "__main__":
    typer.run(main)
