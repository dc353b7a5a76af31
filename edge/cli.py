"""``outpost-station``: every command of the station. Facts come as ``--json`` too; exit code 0 means success only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import httpx
import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from edge import app
from edge.config import DEFAULT_PATH, Config, load
from edge.ingest.decode import redecode as redecode_ledger
from edge.ops.import_tracks import import_tracks
from edge.ops.system_clock import system_clock
from edge.ops.verify import verify as verify_tracks
from edge.ops.verify_cloud import verify_cloud
from edge.ops.watch import watch as watch_station
from edge.store import outbox, shell
from edge.store.export import export_tracks
from edge.store.ledger import LedgerReader, check_key
from edge.store.store import SpatialiteStore
from edge.sync.background import sole_session
from edge.sync.client import CloudClient
from edge.sync.client import enrol as enrol_at
from edge.sync.session import new_epoch, sync_once
from firmware_bridge.codecs.explain import explain
from shared.console import console, errors, print_facts, print_json, run_program
from shared.errors import ConfigError, Conflict, OutpostError
from shared.privacy import OPERATOR, view_for
from shared.sync.records import to_ms
from shared.wire.signatures import new_key

T = TypeVar("T")

#: How long a command waits for the running station's own session with the cloud.
WAIT_FOR_STATION_S: Final = 60.0

cli = typer.Typer(
    name="outpost-station",
    help="A station in a ranger post: hears collars, keeps every fix, works with no internet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
ConfigOption = Annotated[Path | None, typer.Option("--config", help=f"TOML file; {DEFAULT_PATH} by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]


def main() -> None:
    """Run the program; an error of ours is one line on stderr and exit code 1."""
    run_program(cli)


@cli.command()
def init(
    config: ConfigOption = None,
    data_dir: Annotated[Path, typer.Option(help="Where the station keeps its data.")] = Path("/var/lib/outpost"),
    key_file: Annotated[
        Path, typer.Option(help="Where the key goes; better a USB token than the card that holds the data.")
    ] = Path("/etc/outpost/station.key"),
    station_id: Annotated[str, typer.Option(help="The station's name in topics and files.")] = "station",
) -> None:
    """Make a new station: its configuration, its key and its empty database. Nothing that exists is overwritten."""
    path = config or DEFAULT_PATH
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"[station]\nid = {json.dumps(station_id)}\ndata_dir = {json.dumps(str(data_dir.absolute()))}\n\n"
            f"[store]\nkey_file = {json.dumps(str(key_file.absolute()))}\n\n"
            "# One block for each wire to collars, for example:\n"
            '# [[links]]\n# kind = "serial"\n# name = "base"\n# path = "/dev/serial/by-id/..."\n'
            '#\n# [[links]]\n# kind = "mqtt"\n# name = "chirpstack"\n# host = "127.0.0.1"\n',
            encoding="utf-8",
        )
        console.print(f"wrote {path}", highlight=False, markup=False)
    settings = load(path)
    if settings.store.is_encrypted and not settings.store.key_file.exists():
        if settings.database.exists():
            raise ConfigError(
                f"{settings.database} exists and its key {settings.store.key_file} does not: bring the key"
            )
        settings.store.key_file.parent.mkdir(parents=True, exist_ok=True)
        settings.store.key_file.touch(mode=0o600)
        settings.store.key_file.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
        console.print(f"wrote {settings.store.key_file}: without it the data cannot be read; keep a copy elsewhere")
    _with_store(settings, _nothing)
    console.print(f"the station's data lies in {settings.station.data_dir}; start it with `outpost-station run`")


@cli.command()
def run(
    config: ConfigOption = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port of the LAN interface; 0 takes a free one.")
    ] = None,
) -> None:
    """Run the station until it is told to stop."""
    asyncio.run(app.serve(load(config), port=port))


@cli.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say how the running station is: clock, disk, ledger, links, what could not be decoded."""
    detail = _detail(load(config))
    if as_json:
        print_json(detail)
        return
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, value in detail.items():
        if name == "links":
            for link in value:
                state = "up" if link["is_up"] else f"DOWN {link['last_error']}"
                table.add_row(
                    f"link {link['name']}",
                    Text(
                        f"{state}, {link['frames']} frames, {link['damaged_frames']} damaged, "
                        f"{link['skipped_bytes']} bytes of noise, {link['reconnects']} reconnects"
                    ),
                )
        elif name == "cloud" and value is not None:
            table.add_row(name, Text(_cloud_line(value)))
        elif isinstance(value, dict):
            facts = ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
            table.add_row(name, Text(facts))
        else:
            table.add_row(name, Text("; ".join(value) if isinstance(value, list) else str(value)))
    console.print(table)


def _cloud_line(cloud: dict[str, Any]) -> str:
    waiting = ", ".join(f"{channel['items']} {name}" for name, channel in cloud["waiting"].items())
    said = [f"waiting: {waiting}"]
    if cloud["station_id"] is None:
        said.insert(0, "not enrolled")
    else:
        age_s = cloud["last_receipt_age_s"]
        receipt = "no receipt yet" if age_s is None else f"last receipt {cloud['last_receipt_at']}, {age_s:.0f} s ago"
        said = [f"{cloud['url']} as {cloud['station_id']}", receipt, *said]
    if not cloud["is_enabled"]:
        said.append("switched off")
    said += [f"{cloud[name]} {name.replace('_', ' ')}" for name in ("flags_by_hand", "unsendable") if cloud[name]]
    return ", ".join(said) + (f"; {cloud['last_error']}" if cloud["last_error"] else "")


@cli.command()
def watch(config: ConfigOption = None) -> None:
    """Show the live table of the running station; Ctrl-C ends it."""
    try:
        watch_station(_url(load(config)), console)
    except KeyboardInterrupt:
        raise typer.Exit from None


@cli.command()
def decode(
    format_name: Annotated[
        str, typer.Option("--format", help="opencollar, chirpstack_v4, cayenne_lpp, aprs, ...; a wrong name lists all.")
    ],
    port: Annotated[int | None, typer.Option(help="LoRaWAN fPort, where the format has one.")] = None,
    hex_bytes: Annotated[str | None, typer.Option("--hex", help="The frame as hex digits.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="The frame as a line of text.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json-file", help="A file with the JSON message.")] = None,
) -> None:
    """Print what a frame means, as JSON."""
    given = [value for value in (hex_bytes, text, json_file) if value is not None]
    if len(given) != 1:
        raise typer.BadParameter("give one of --hex, --text and --json-file")
    data: bytes | str | dict[str, Any] | list[Any]
    if hex_bytes is not None:
        try:
            data = bytes.fromhex(hex_bytes)
        except ValueError as error:
            raise typer.BadParameter(f"--hex: {error}") from error
    elif text is not None:
        data = text
    else:
        assert json_file is not None
        try:
            data = msgspec.json.decode(json_file.read_bytes(), type=dict[str, Any] | list[Any])
        except (OSError, msgspec.DecodeError) as error:
            raise typer.BadParameter(f"--json-file: {error}") from error
    print_json(explain(format_name, data=data, port=port))


@cli.command()
def redecode(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Decode the whole ledger again, after a codec has learnt something. Changes nothing when nothing changed."""
    settings = load(config)
    check_key(settings.ledger_dir, settings.key())
    reader = LedgerReader(settings.ledger_dir, settings.key())

    async def job(store: SpatialiteStore) -> Any:
        with _progress("decoding", as_json=as_json) as advance:
            return await redecode_ledger(reader, store, advance)

    try:
        found = _with_store(settings, job)
    finally:
        reader.close()
    print_facts(found, as_json=as_json)


@cli.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="Tidy CSV: individual,timestamp,lon,lat[,species,...].")],
    config: ConfigOption = None,
    species: Annotated[str | None, typer.Option(help="Species of new animals whose rows name none.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Import a track file. Importing twice is importing once; bad rows are listed, good ones kept."""

    async def job(store: SpatialiteStore) -> Any:
        with _progress("importing", as_json=as_json) as advance:
            return await import_tracks(
                store, view_for(OPERATOR), file, received_at=datetime.now(UTC), species=species, progress=advance
            )

    done = _with_store(load(config), job)
    print_facts(done, as_json=as_json)
    if done.refused:
        raise typer.Exit(1)


@cli.command()
def export(
    file: Annotated[Path, typer.Argument(help="The tidy CSV to write; - for standard output.")],
    config: ConfigOption = None,
    animal: Annotated[str | None, typer.Option(help="Only this animal, by its name.")] = None,
    usable: Annotated[bool, typer.Option(help="Leave out fixes that a quality rule excludes.")] = False,
) -> None:
    """Write every fix of a known animal as a tidy CSV that `import` and `verify` read."""

    async def job(store: SpatialiteStore) -> int:
        return await export_tracks(store, file, animal=animal, is_usable_only=usable)

    rows = _with_store(load(config), job)
    errors.print(f"{rows} fixes")


@cli.command()
def enrol(
    url: Annotated[str, typer.Argument(help="The cloud's address, https://...")],
    code: Annotated[str, typer.Argument(help="The one-time code that the cloud printed.")],
    config: ConfigOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="Enrol anew where there is an enrolment, and send everything again.")
    ] = False,
) -> None:
    """Make this station known at a cloud: from then on a running station sends what it has and takes what changed."""
    settings = load(config)

    async def job(store: SpatialiteStore) -> str:
        known = await store.read(outbox.enrolment)
        if known is not None and not again:
            raise Conflict(
                f"this station is enrolled at {known.url} as {known.station_id}; --again enrols it anew and sends"
                " everything again"
            )
        private_key, public_key = new_key()
        async with _sole_session(settings):
            made = await enrol_at(url, code, public_key)
            await store.write(
                lambda db: outbox.enrol(
                    db, url=url, station_id=made.station_id, private_key=private_key, cloud_epoch=made.cloud_epoch,
                    epoch=new_epoch(), now_ms=to_ms(datetime.now(UTC)), is_again=again,
                )
            )  # fmt: skip
        return f"enrolled at {url} as {made.station_id} ({made.name})"

    console.print(_with_store(settings, job), highlight=False, markup=False, soft_wrap=True)


@cli.command()
def sync(
    once: Annotated[
        bool, typer.Option("--once", help="Hold one session now; a running station holds its own.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send what waits to the cloud and take what changed there. Exit code 1 when the cloud cannot be reached."""
    if not once:
        raise typer.BadParameter("a running station sends by itself; --once holds one session now")
    settings = load(config)

    async def job(store: SpatialiteStore) -> Any:
        async with _sole_session(settings), await _cloud(store) as cloud:
            with _progress("sending", as_json=as_json) as advance:
                return await sync_once(
                    store, cloud, system_clock(), batch_fixes=settings.cloud.batch_fixes, progress=advance
                )

    print_facts(_with_store(settings, job), as_json=as_json)


@cli.command()
def verify(
    against: Annotated[Path, typer.Option(help="A tidy track file; or the word cloud.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the store with a track file or with the cloud: every fix exactly once. Exit code 1 on any difference."""

    async def job(store: SpatialiteStore) -> Any:
        if str(against) != "cloud":
            return await verify_tracks(store, against)
        async with await _cloud(store) as cloud:
            with _progress("comparing", as_json=as_json) as advance:
                return await verify_cloud(store, cloud, advance)

    found = _with_store(load(config), job)
    facts = {**msgspec.to_builtins(found), "differences": found.differences}
    print_facts(facts, as_json=as_json)
    if found.differences:
        raise typer.Exit(1)


@cli.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check every page of database and ledger (about 11 s a gigabyte)."""
    settings = load(config)
    reader = LedgerReader(settings.ledger_dir, settings.key())
    try:
        reader.check()
    finally:
        reader.close()
    _with_store(settings, lambda store: store.check())
    print_facts({"database": "ok", "ledger": "ok"}, as_json=as_json)


@cli.command()
def db(
    config: ConfigOption = None,
    sql: Annotated[str | None, typer.Option("--sql", help="Run this statement and end.")] = None,
) -> None:
    """Open a read-only SQL shell on the database, with the key and SpatiaLite."""
    settings = load(config)
    with shell.open_shell(settings.database, settings.key()) as session:
        statements = [sql] if sql is not None else iter(lambda: _ask(), None)
        for statement in statements:
            assert statement is not None
            try:
                columns, rows = session.run(statement)
            except OutpostError as error:
                errors.print(Text(error.detail, "red"), soft_wrap=True)
                if sql is not None:
                    raise typer.Exit(1) from error
                continue
            table = Table(*(Column(Text(name), overflow="fold") for name in columns), box=None)
            for row in rows:
                table.add_row(*(Text(shell.text_of(value)) for value in row))
            if columns:
                console.print(table)


def _ask() -> str | None:
    try:
        return input("sql> ") if sys.stdin.isatty() else (sys.stdin.readline() or None)
    except (EOFError, KeyboardInterrupt):
        return None


@contextlib.asynccontextmanager
async def _sole_session(settings: Config) -> AsyncIterator[None]:
    """Wait for the running station's own session to end; raises Conflict where it goes on for long."""
    did_say = False
    deadline_s = time.monotonic() + WAIT_FOR_STATION_S
    while True:
        with sole_session(settings.station.data_dir) as is_ours:
            if is_ours:
                yield
                return
        if time.monotonic() > deadline_s:
            raise Conflict("the running station is sending all the time: `outpost-station status` says how far it is")
        if not did_say:
            errors.print("the running station is sending; waiting for it to finish")
            did_say = True
        await asyncio.sleep(0.1)


async def _cloud(store: SpatialiteStore) -> CloudClient:
    here = await store.read(outbox.enrolled)
    return CloudClient(here.url, here.station_id, here.private_key, now=lambda: datetime.now(UTC))


async def _nothing(_: SpatialiteStore) -> None:
    return None


def _with_store(settings: Config, job: Callable[[SpatialiteStore], Awaitable[T]]) -> T:
    async def run_job() -> T:
        store = SpatialiteStore(settings.database, settings.key(), now=lambda: datetime.now(UTC))
        try:
            return await job(store)
        finally:
            await store.close()

    return asyncio.run(run_job())


class _progress:  # noqa: N801 - reads as a statement where it is used
    """A progress bar on a terminal, silence elsewhere."""

    def __init__(self, what: str, *, as_json: bool) -> None:
        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=errors, disable=as_json or not errors.is_terminal, transient=True,
        )  # fmt: skip
        self._what = what

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        task = self._bar.add_task(self._what, total=None)
        return lambda done: self._bar.update(task, completed=done)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _url(settings: Config) -> str:
    try:
        return app.url_file(settings).read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError("the station is not running; start it with `outpost-station run`") from error


def _detail(settings: Config) -> dict[str, Any]:
    url = _url(settings)
    try:
        detail: dict[str, Any] = httpx.get(f"{url}/health/detail", timeout=10).json()
    except (httpx.TransportError, ValueError) as error:
        raise ConfigError(f"the station does not answer at {url}: {error}") from error
    return detail
