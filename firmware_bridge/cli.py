"""``outpost-sim``: a herd, or a track file, on real pseudo-terminals and a real broker."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from firmware_bridge.simulator.base_station import BaseStation, BrokerBaseStation, SerialBaseStation
from firmware_bridge.simulator.collar import Habits
from firmware_bridge.simulator.delivery import LinkCount, deliver
from firmware_bridge.simulator.herd import FIELD, LIGHT, PERFECT, Herd, HerdMember, herd_manifest, write_manifest
from firmware_bridge.simulator.plan import Faults, Outgoing, Plan, Wrapping
from firmware_bridge.simulator.tracks import TrackFile
from firmware_bridge.simulator.transmission import Transmission
from shared.clock import VirtualClock
from shared.errors import Invalid, OutpostError

app = typer.Typer(
    help="Simulate collars and base stations: a herd that walks, or a track file, over real ports.",
    no_args_is_help=True,
    add_completion=False,
)
console = Console(stderr=True)


class FaultLevel(StrEnum):
    """How rough the field is: ``none`` is a perfect one, ``field`` loses frames as the field does."""

    NONE = "none"
    LIGHT = "light"
    FIELD = "field"


class MqttFormat(StrEnum):
    """What gateways publish."""

    CHIRPSTACK = "chirpstack"
    OUTPOST = "outpost"


_LEVELS: dict[FaultLevel, tuple[Habits, Faults]] = {
    FaultLevel.NONE: (PERFECT, Faults()),
    FaultLevel.LIGHT: (LIGHT, Faults(duplicate=0.05, reorder=5, corrupt=0.005, noise=0.01)),
    FaultLevel.FIELD: (FIELD, Faults(duplicate=0.15, reorder=20, corrupt=0.02, noise=0.02, may_lose=True)),
}

Pty = Annotated[
    list[Path] | None,
    typer.Option(
        help="Make a serial base station at this path; may be repeated. Without --pty and --mqtt: one in /tmp."
    ),
]
Mqtt = Annotated[str | None, typer.Option(help="Publish to this broker too.", metavar="HOST:PORT")]
Format = Annotated[MqttFormat, typer.Option("--mqtt-format", help="What the broker's gateways publish.")]
Station = Annotated[str, typer.Option(help="The station in the topics outpost/STATION/GATEWAY/fix.")]
Seed = Annotated[int, typer.Option(help="Seed of all randomness: one seed, the same bytes.")]
Start = Annotated[str | None, typer.Option(help="Virtual time at the origin, RFC 3339.")]
OriginS = Annotated[float | None, typer.Option(help="The system's monotonic clock at --start; now if not given.")]
Json = Annotated[bool, typer.Option("--json", help="Print facts as JSON lines on standard output.")]


class Summary(msgspec.Struct, kw_only=True):
    """What a run did."""

    is_complete: bool
    rows: int
    duplicates: int
    corrupted: int
    lost: int
    seconds: float
    links: list[LinkCount]


class Beginning(msgspec.Struct, kw_only=True):
    """What ``herd --json`` prints first."""

    links: list[str]
    herd: list[HerdMember]


@app.command()
def herd(
    animals: Annotated[int, typer.Option(min=1, max=10_000, help="Animals in the herd.")] = 12,
    seed: Seed = 1,
    speed: Annotated[float, typer.Option(min=1e-3, help="Virtual seconds in a real second.")] = 1.0,
    start: Start = None,
    origin_s: OriginS = None,
    pty: Pty = None,
    mqtt: Mqtt = None,
    mqtt_format: Format = MqttFormat.CHIRPSTACK,
    station: Station = "station",
    fix_interval: Annotated[int, typer.Option(min=1, help="Seconds between the fixes of a collar.")] = 900,
    duration: Annotated[float | None, typer.Option(min=0, help="End after so many virtual seconds.")] = None,
    faults: Annotated[FaultLevel, typer.Option(help="How collars and links misbehave.")] = FaultLevel.LIGHT,
    manifest: Annotated[Path | None, typer.Option(help="Write the animals and their collars here, as JSON.")] = None,
    as_json: Json = False,
) -> None:
    """A herd that walks near an invented centre; it ends after --duration or by Ctrl-C."""
    habits, link_faults = _LEVELS[faults]
    with _errors_said(), tempfile.TemporaryDirectory(prefix="outpost-sim-") as folder:
        clock, began = _clock(start, datetime.now(UTC), speed, origin_s)
        simulated = Herd(animals=animals, seed=seed, start=began, fix_interval_s=fix_interval, habits=habits)
        members = herd_manifest(animals=animals, fix_interval_s=fix_interval)
        if manifest is not None:
            write_manifest(manifest, members)
        until = None if duration is None else began + timedelta(seconds=duration)
        run = _Run(_wrappings(pty, mqtt, mqtt_format), link_faults, seed, station)
        summary = run.over(
            lambda: _stations(pty, mqtt, station, Path(folder)),
            _until(simulated.transmissions(), until),
            clock,
            begun=lambda links: _say_beginning(links, members, as_json=as_json),
            total=None,
        )
    _say_end(summary, as_json=as_json)
    # A herd without end is ended by Ctrl-C: that is no failure.
    raise typer.Exit(0 if summary.is_complete or duration is None else 1)


@app.command()
def replay(
    tracks: Annotated[Path, typer.Option(help="CSV file: individual,timestamp,lon,lat[,species].")],
    speed: Annotated[float, typer.Option(min=1e-3, help="Virtual seconds in a real second.")] = 1.0,
    start: Start = None,
    origin_s: OriginS = None,
    pty: Pty = None,
    mqtt: Mqtt = None,
    mqtt_format: Format = MqttFormat.CHIRPSTACK,
    station: Station = "station",
    duplicate: Annotated[float, typer.Option(min=0, max=1, help="Probability that a fix is sent twice.")] = 0.0,
    reorder: Annotated[int, typer.Option(min=0, help="How many later fixes may pass a held one.")] = 0,
    corrupt: Annotated[float, typer.Option(min=0, max=1, help="Probability of a damaged copy beside a fix.")] = 0.0,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Send every row of a track file over the links; exit 0 when the other sides have all of them."""
    with _errors_said(), tempfile.TemporaryDirectory(prefix="outpost-sim-") as folder:
        file = TrackFile(tracks)
        wrappings = _wrappings(pty, mqtt, mqtt_format)
        if file.json_rows and all(wrapping == "serial" for wrapping in wrappings):
            raise Invalid(f"{tracks}: {file.json_rows} rows have a time that only JSON can carry: --mqtt is needed")
        clock, _ = _clock(start, file.started_at, speed, origin_s)
        run = _Run(wrappings, Faults(duplicate=duplicate, reorder=reorder, corrupt=corrupt), seed, station)
        summary = run.over(
            lambda: _stations(pty, mqtt, station, Path(folder)),
            file.transmissions(),
            clock,
            begun=lambda links: _say_links(links, as_json=as_json),
            total=len(file),
        )
    _say_end(summary, as_json=as_json)
    raise typer.Exit(0 if summary.is_complete else 1)


def main() -> None:
    """Run ``outpost-sim``."""
    # Standard output belongs to the facts; what goes wrong on a link is said beside them.
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    app()


class _Run:
    """One simulation from its first byte to its last."""

    def __init__(self, wrappings: Sequence[Wrapping], faults: Faults, seed: int, station: str) -> None:
        self._plan = Plan(wrappings, faults=faults, seed=seed, station=station)
        self._counts: list[LinkCount] = []

    def over(
        self,
        make_stations: Callable[[], list[BaseStation]],
        transmissions: Iterator[Transmission],
        clock: VirtualClock,
        *,
        begun: Callable[[list[str]], None],
        total: int | None,
    ) -> Summary:
        """Send all; a summary comes in any case, complete or interrupted."""
        began_s = time.monotonic()
        is_complete = asyncio.run(_unless_told(self._send(make_stations, transmissions, clock, begun, total)))
        return Summary(
            is_complete=is_complete,
            rows=self._plan.transmissions,
            duplicates=self._plan.duplicates,
            corrupted=self._plan.corrupted,
            lost=self._plan.lost,
            seconds=round(time.monotonic() - began_s, 3),
            links=self._counts,
        )

    async def _send(
        self,
        make_stations: Callable[[], list[BaseStation]],
        transmissions: Iterator[Transmission],
        clock: VirtualClock,
        begun: Callable[[list[str]], None],
        total: int | None,
    ) -> None:
        stations = make_stations()
        self._counts = [LinkCount(address=station.address) for station in stations]
        begun([station.address for station in stations])
        try:
            with _progress(total) as advance:

                def on_sent(outgoing: Outgoing) -> None:
                    self._counts[outgoing.link].count(outgoing)
                    if outgoing.kind == "frame":
                        advance()

                await deliver(self._plan.outgoing(transmissions), stations, clock, on_sent=on_sent)
        finally:
            for station in stations:
                await station.close()


async def _unless_told(work: Coroutine[Any, Any, None]) -> bool:
    """Run ``work``; True when it ended by itself, False when SIGINT or SIGTERM ended it.

    It is ready for them before anything of ``work`` can be seen from outside: a shell starts what runs in its
    background with SIGINT ignored, and one that came before would be lost.
    """
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for which in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(which, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return False
    return True


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal, nothing elsewhere; gives a function that counts one frame."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("frames sent", total=total)
        yield lambda: bar.advance(task)


@contextmanager
def _errors_said() -> Iterator[None]:
    """Say an error of ours as one sentence and exit with 1."""
    try:
        yield
    except OutpostError as error:
        console.print(f"[red]{error.detail}[/]", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _wrappings(ptys: list[Path] | None, mqtt: str | None, form: MqttFormat) -> list[Wrapping]:
    """Return how each link carries a transmission, in the order of ``_stations``."""
    wrappings: list[Wrapping] = ["serial"] * len(ptys or ())
    if mqtt is not None:
        wrappings.append("chirpstack" if form is MqttFormat.CHIRPSTACK else "outpost")
    return wrappings or ["serial"]


def _stations(ptys: list[Path] | None, mqtt: str | None, station: str, folder: Path) -> list[BaseStation]:
    """Open the links; without any, one pseudo-terminal in ``folder``."""
    stations: list[BaseStation] = [SerialBaseStation(path) for path in ptys or ()]
    if mqtt is not None:
        host, port = _host_and_port(mqtt)
        stations.append(BrokerBaseStation(host, port, client_id=f"outpost-sim-{station}-{os.getpid()}"))
    return stations or [SerialBaseStation(folder / "tty-base-1")]


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise Invalid(f"--mqtt {text}: write it as HOST:PORT")
    return host.strip("[]"), int(port)


def _clock(
    start: str | None, otherwise: datetime, speed: float, origin_s: float | None
) -> tuple[VirtualClock, datetime]:
    """Return the clock that the simulation runs on and the instant that it began at."""
    began = otherwise
    if start is not None:
        try:
            began = datetime.fromisoformat(start)
        except ValueError as error:
            raise Invalid(f"--start {start}: write it as 2026-01-01T00:00:00Z") from error
        began = began.replace(tzinfo=UTC) if began.tzinfo is None else began.astimezone(UTC)
    return VirtualClock(began, speed, time.monotonic, time.monotonic() if origin_s is None else origin_s), began


def _until(transmissions: Iterator[Transmission], end: datetime | None) -> Iterator[Transmission]:
    if end is None:
        return transmissions
    return itertools.takewhile(lambda sent: sent.at <= end, transmissions)


def _say_beginning(links: list[str], members: list[HerdMember], *, as_json: bool) -> None:
    if as_json:
        _print_json(Beginning(links=links, herd=members))
    else:
        _say_links(links, as_json=False)


def _say_links(links: list[str], *, as_json: bool) -> None:
    if not as_json:
        for link in links:
            console.print(f"base station at [bold]{link}[/]", highlight=False, soft_wrap=True)


def _say_end(summary: Summary, *, as_json: bool) -> None:
    if as_json:
        _print_json(summary)
        return
    table = Table("link", "frames", "copies", "damaged", "noise", "bytes")
    for link in summary.links:
        counts = (link.frames, link.duplicates, link.damaged, link.noise, link.bytes)
        table.add_row(link.address, *(str(count) for count in counts))
    console.print(table)
    end = "all delivered" if summary.is_complete else "interrupted"
    console.print(f"{summary.rows} transmissions in {summary.seconds:.1f} s, {end}", highlight=False)


def _print_json(what: msgspec.Struct) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()
