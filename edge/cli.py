"""``outpost-station``: the program, and its commands of data; those of operation and of people lie beside it.

Facts come as ``--json`` too; exit code 0 means success only.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.table import Column, Table
from rich.text import Text

from edge.config import Config, EarthrangerSection, load
from edge.founding import founding
from edge.ingest.decode import redecode as redecode_ledger
from edge.operation import operation
from edge.ops.import_deployments import import_deployments
from edge.ops.import_tracks import import_tracks
from edge.ops.system_clock import system_clock
from edge.ops.verify import verify as verify_tracks
from edge.ops.verify_cloud import verify_cloud
from edge.parts import accounts_of
from edge.people import audit, keys, user
from edge.store import outbox, shell
from edge.store.accounts import SqliteTables
from edge.store.export import FORMATS, Selection, export_tracks
from edge.store.ledger import LedgerReader, check_key
from edge.store.store import SpatialiteStore
from edge.sync import stick
from edge.sync.background import sole_session
from edge.sync.client import CloudClient, checked
from edge.sync.client import enrol as enrol_at
from edge.sync.frames import Frames
from edge.sync.meter import Meter
from edge.sync.metered import MeteredCloud
from edge.sync.outgoing import send
from edge.sync.people import exchange
from edge.sync.profiles import profile_of
from edge.sync.session import new_epoch, sync_once
from edge.terminal import ConfigOption, JsonOption, progress_of, with_store
from firmware_bridge.codecs.explain import explain
from shared.accounts.audit import Entry
from shared.accounts.rosters import forget_trust
from shared.configuration import boot_id
from shared.console import console, errors, print_facts, print_json, run_program
from shared.errors import ConfigError, Conflict, OutpostError
from shared.exchange import earthranger, gundi
from shared.exchange.formats import IMPORTED, ImportFormat, format_of, rows_in, written_format
from shared.exchange.sites import Site
from shared.exchange.times import instant, zone_called
from shared.logs import configure_logging
from shared.privacy import OPERATOR, view_for
from shared.sync.records import to_ms
from shared.wire.signatures import new_key

#: How long a command waits for the running station's own session with the cloud.
WAIT_FOR_STATION_S: Final = 60.0

cli = typer.Typer(
    name="outpost-station",
    help="A station in a ranger post: hears collars, keeps every fix, works with no internet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
cli.add_typer(founding)
cli.add_typer(operation)
cli.add_typer(user, name="user")
cli.add_typer(keys, name="keys")
cli.add_typer(audit, name="audit")
TimezoneOption = Annotated[
    str | None, typer.Option(help="Time zone of times that carry none, AREA/CITY like Africa/Nairobi.")
]
UtcOption = Annotated[bool, typer.Option("--utc", help="Times that carry no time zone are UTC.")]


def main() -> None:
    """Run the program; an error of ours is one line on stderr and exit code 1."""
    run_program(cli)


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
        with progress_of("decoding", as_json=as_json) as advance:
            return await redecode_ledger(reader, store, advance)

    try:
        found = with_store(settings, job)
    finally:
        reader.close()
    print_facts(found, as_json=as_json)


@cli.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="Tidy CSV, Movebank CSV, GPX or GeoJSON.")],
    config: ConfigOption = None,
    form: Annotated[str | None, typer.Option("--format", help=f"{', '.join(IMPORTED)}; seen from the file.")] = None,
    timezone: TimezoneOption = None,
    utc: UtcOption = False,
    individual: Annotated[str | None, typer.Option(help="Whose the tracks are that name nobody.")] = None,
    species: Annotated[str | None, typer.Option(help="Species of new animals whose rows name none.")] = None,
    refused: Annotated[Path | None, typer.Option(help="Write every refused row to this CSV: line, reason.")] = None,
    keep_twins: Annotated[
        bool, typer.Option("--keep-twins", help="Store rows that repeat others at a whole half hour's distance.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Import a file of fixes, or Movebank's of deployments. Twice is once; bad rows are listed, good ones kept."""
    settings, zone = load(config), _zone(timezone, is_utc=utc)
    kind = _import_format(form) or format_of(file)
    view = view_for(OPERATOR)

    async def job(store: SpatialiteStore) -> Any:
        with _refusals(refused) as refuse:
            if kind == "movebank-reference":
                return await import_deployments(store, view, file, species=species, refused=refuse)
            with progress_of("importing", as_json=as_json, total=rows_in(file, kind)) as advance:
                return await import_tracks(
                    store, view, file, received_at=datetime.now(UTC), form=kind, zone=zone, individual=individual,
                    species=species, is_keeping_twins=keep_twins, progress=advance, refused=refuse,
                )  # fmt: skip

    done = with_store(settings, job)
    print_facts(done, as_json=as_json)
    if done.refused:
        raise typer.Exit(1)


@cli.command()
def export(
    file: Annotated[Path | None, typer.Argument(help="The file to write; - for standard output.")] = None,
    config: ConfigOption = None,
    form: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(FORMATS)}; seen from the name, else tidy.")
    ] = None,
    animal: Annotated[str | None, typer.Option(help="Only this animal, by its name.")] = None,
    since: Annotated[str | None, typer.Option(help="From this instant on, like 2026-01-31T00:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this instant.")] = None,
    usable: Annotated[bool, typer.Option(help="Leave out fixes that a quality rule excludes.")] = False,
    to: Annotated[str | None, typer.Option(help="Send to earthranger or gundi, as configured, what is new.")] = None,
    again: Annotated[bool, typer.Option("--again", help="With --to: begin anew at the first fix.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write every fix of a known animal in a format of other systems, or send what is new to one of them."""
    settings = load(config)
    if to is not None:
        if file is not None or form or animal or since or until:
            raise typer.BadParameter("--to sends every fix that is new: it goes with --again and --json alone")
        _export_to(settings, _site(settings, to), is_again=again, as_json=as_json)
        return
    if file is None:
        raise typer.BadParameter("name the file to write, - for standard output, or a system with --to")
    path = file
    selection = Selection(
        animal=animal, since=_instant("--since", since), until=_instant("--until", until), is_usable_only=usable
    )

    async def job(store: SpatialiteStore) -> int:
        with progress_of("exporting", as_json=as_json) as advance:
            rows = await export_tracks(
                store, view_for(OPERATOR), path, selection, form=form or written_format(path), progress=advance
            )
        await _note_export(settings, store, f"{rows} fixes of {animal or 'all'} to {path.name}")
        return rows

    rows = with_store(settings, job)
    what = "deployments" if form == "movebank-reference" else "fixes"
    if as_json and str(path) != "-":
        print_json({what: rows})
    else:
        errors.print(f"{rows} {what}")


def _site(settings: Config, name: str) -> Site:
    """Return the system that the configuration calls ``name``; raises ConfigError where it is not told whole."""
    if name not in ("earthranger", "gundi"):
        raise typer.BadParameter(f"--to: {name!r} is none of earthranger, gundi")
    section = settings.earthranger if name == "earthranger" else settings.gundi
    for field in section.__struct_fields__:
        if not getattr(section, field):
            variable = f"OUTPOST_{name.upper()}_{field.upper()}"
            raise ConfigError(f"{name}.{field}: is set neither in the configuration nor as {variable}")
    url = checked(section.url)
    if isinstance(section, EarthrangerSection):
        return earthranger.site(url, section.provider, section.token, sensor=section.sensor)
    return gundi.site(url, section.token)


def _export_to(settings: Config, site: Site, *, is_again: bool, as_json: bool) -> None:
    async def job(store: SpatialiteStore) -> Any:
        with sole_session(settings.station.data_dir, f"export-{site.name}.lock") as is_ours:
            if not is_ours:
                raise Conflict(f"another export to {site.name} is running")
            with progress_of("sending", as_json=as_json) as advance:
                run = await send(store, view_for(OPERATOR), site, is_again=is_again, progress=advance)
            await _note_export(settings, store, f"what was new to {site.name}")
            return run

    run = with_store(settings, job)
    print_facts(run, as_json=as_json)
    if run.refused:
        raise typer.Exit(1)


async def _note_export(settings: Config, store: SpatialiteStore, words: str) -> None:
    """Leave a line in the audit log: what goes out is exact."""
    accounts = await accounts_of(settings, store, system_clock())
    await accounts.note([Entry(to_ms(datetime.now(UTC)), OPERATOR.user_id, "export", words)])


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
            # another cloud has another key, and has not heard of this station's people
            await SqliteTables(store).write(forget_trust())
        return f"enrolled at {url} as {made.station_id} ({made.name})"

    console.print(with_store(settings, job), highlight=False, markup=False, soft_wrap=True)


@cli.command()
def sync(
    once: Annotated[
        bool, typer.Option("--once", help="Hold one session now; a running station holds its own.")
    ] = False,
    profile: Annotated[str | None, typer.Option(help="What the link may carry: lan, cell or sat.")] = None,
    target: Annotated[
        Path | None, typer.Option("--export", help="Write all that waits onto a USB stick; this is where it is.")
    ] = None,
    source: Annotated[Path | None, typer.Option("--import", help="Take the cloud's answers from a stick.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send what waits to the cloud and take what changed there, over a link or by a stick that somebody carries.

    Exit code 1 when the cloud cannot be reached, or something on a stick could not be taken.
    """
    if [once, target is not None, source is not None].count(True) != 1:
        raise typer.BadParameter("a running station sends by itself; give one of --once, --export and --import")
    if target is not None or source is not None:
        settings = load(config)
        configure_logging(settings.logs.levels)
        _carry(settings, target, source, as_json=as_json)
        return
    settings = load(config)
    configure_logging(settings.logs.levels)  # to stderr: what is printed is facts alone
    section = settings.cloud
    link = profile_of(
        profile or section.profile, section.bytes_a_day if profile in (None, section.profile) else None,
        section.windows, frames=section.frames if profile in (None, section.profile) else None,
    )  # fmt: skip

    async def job(store: SpatialiteStore) -> Any:
        frames = Frames(settings.ledger_dir, settings.key())
        async with contextlib.aclosing(frames), _sole_session(settings), await _cloud(store) as cloud:
            people = await accounts_of(settings, store, system_clock())
            await exchange(cloud, await store.read(outbox.enrolled), people)
            with progress_of("sending", as_json=as_json) as advance:
                return await sync_once(
                    store, MeteredCloud(cloud, Meter(store, link, system_clock(), boot_id())), system_clock(),
                    batch_fixes=section.batch_fixes, profile=link, frames=frames, progress=advance,
                )  # fmt: skip

    print_facts(with_store(settings, job), as_json=as_json)


def _carry(settings: Config, target: Path | None, source: Path | None, *, as_json: bool) -> None:
    async def job(store: SpatialiteStore) -> stick.Exported | stick.Imported:
        clock = system_clock()
        people = await accounts_of(settings, store, clock)
        async with _sole_session(settings):
            if source is not None:
                return await stick.take(store, people, source, clock)
            assert target is not None
            with progress_of("writing", as_json=as_json) as advance:
                return await stick.export(
                    store, people, target, clock, batch_fixes=settings.cloud.batch_fixes, progress=advance
                )

    done = with_store(settings, job)
    print_facts(done, as_json=as_json)
    if isinstance(done, stick.Imported) and done.refused:
        raise typer.Exit(1)


@cli.command()
def verify(
    against: Annotated[Path, typer.Option(help="A track file of any format of `import`; or the word cloud.")],
    config: ConfigOption = None,
    timezone: TimezoneOption = None,
    utc: UtcOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the store with a track file or with the cloud: every fix exactly once. Exit code 1 on any difference."""
    zone = _zone(timezone, is_utc=utc)

    async def job(store: SpatialiteStore) -> Any:
        if str(against) != "cloud":
            return await verify_tracks(store, against, zone=zone)
        async with await _cloud(store) as cloud:
            with progress_of("comparing", as_json=as_json) as advance:
                return await verify_cloud(store, cloud, advance)

    found = with_store(load(config), job)
    facts = {**msgspec.to_builtins(found), "differences": found.differences}
    print_facts(facts, as_json=as_json)
    if found.differences:
        raise typer.Exit(1)


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


def _zone(name: str | None, *, is_utc: bool) -> tzinfo | None:
    if name is not None and is_utc:
        raise typer.BadParameter("give one of --timezone and --utc")
    return UTC if is_utc else None if name is None else zone_called(name)


def _instant(option: str, text: str | None) -> datetime | None:
    try:
        return None if text is None else instant(text, None, column=option)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _import_format(name: str | None) -> ImportFormat | None:
    for form in IMPORTED:
        if form == name:
            return form
    if name is not None:
        raise typer.BadParameter(f"--format: {name!r} cannot be imported; {', '.join(IMPORTED)} can")
    return None


@contextlib.contextmanager
def _refusals(path: Path | None) -> Iterator[Callable[[int, str], None]]:
    """Give what writes every refused row to ``path``, or to nowhere."""
    if path is None:
        yield lambda _, __: None
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("line", "reason"))
        yield lambda line, reason: writer.writerow((line, ascii(reason) if not reason.isprintable() else reason))


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
