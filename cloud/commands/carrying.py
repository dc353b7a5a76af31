"""What is carried in and out by hand: sticks, files of tracks, the original platform, frames once more."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.commands.opening import (
    ConfigOption,
    JsonOption,
    load_config,
    over_database,
    plain,
    print_rows,
    read_database,
    server_clock,
)
from shared.console import console, errors, print_facts, print_json
from shared.wire.reading import bound

if TYPE_CHECKING:
    from cloud.ingest.decode import Redecoded
    from cloud.store.database import Database


commands = typer.Typer()
_HEAD_DIGITS = 24
_TOLD_EVERY = 10_000


@commands.command()
def sync(
    source: Annotated[
        Path | None, typer.Option("--import", help="Take what stations wrote on a USB stick; this is where it is.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--export", help="Write receipts and what changed for them onto a stick.")
    ] = None,
    station_ids: Annotated[
        list[str] | None, typer.Option("--station", help="With --export: this station alone; repeatable.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Carry what stations sent by hand, in and out. Exit code 1 when something on a stick could not be taken."""
    from cloud.accounts.rosters import Rosters
    from cloud.accounts.secret import read_secret
    from cloud.app import accounts_of
    from cloud.store.store import PostgresStore
    from cloud.sync.stick import Exported, Imported, Sticks
    from cloud.sync.uplink import Uplink
    from shared.logs import configure_logging

    if (source is None) == (target is None):
        raise typer.BadParameter("give one of --import and --export")
    settings = load_config(config)
    configure_logging(settings.logs.levels)  # to stderr: what is printed is facts alone

    def told(n: int) -> None:
        if not as_json and n and n % _TOLD_EVERY == 0:
            errors.print(f"{n}", highlight=False, markup=False)

    async def job(database: Database) -> Imported | Exported:
        clock = server_clock()
        store = PostgresStore(database, now=clock.now)
        rosters = Rosters(database, accounts_of(settings, database, clock), read_secret(settings.accounts.key_file))
        sticks = Sticks(
            store,
            Uplink(store, now=clock.now),
            seed=rosters.seed,
            roster_of=rosters.of,
            now=clock.now,
            shelf_of=rosters.shelf_of,
        )
        if source is not None:
            return await sticks.take(source, told)
        assert target is not None
        return await sticks.write(target, station_ids or (), told)

    done = asyncio.run(over_database(settings, job))
    print_facts(done, as_json=as_json)
    if isinstance(done, Imported) and done.refused:
        raise typer.Exit(1)


@commands.command()
def export(
    file: Annotated[Path, typer.Argument(help="The file to write; - for standard output.")],
    config: ConfigOption = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="tidy, movebank, gpx, geojson, geojson-lines, kml or geoparquet; by the name."),
    ] = None,
    animal: Annotated[list[str] | None, typer.Option(help="Only this animal, by name or id; repeatable.")] = None,
    species: Annotated[str | None, typer.Option(help="Only this species.")] = None,
    since: Annotated[str | None, typer.Option(help="From this instant or day on.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this instant, or to the end of this day.")] = None,
    usable: Annotated[bool, typer.Option(help="Leave out fixes that a quality rule excludes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write every fix of a known animal, exactly, in a format of other systems; it leaves a line in the audit log."""
    from cloud.ops.export import export_file
    from cloud.store.export import Selection

    selection = Selection(
        animals=tuple(animal) if animal else None, species=species,
        since=None if since is None else bound("--since", since),
        until=None if until is None else bound("--until", until, is_end=True), is_usable_only=usable,
    )  # fmt: skip
    settings = load_config(config)

    async def job(database: Database) -> int:
        from cloud.app import accounts_of

        accounts = accounts_of(settings, database, server_clock())
        return await export_file(database, accounts, file, selection, form, errors if not as_json else None)

    rows = asyncio.run(over_database(settings, job, statement_timeout_s=0))
    if as_json and str(file) != "-":
        print_json({"fixes": rows})
    else:
        errors.print(f"{rows} fixes")


@commands.command("import-original")
def import_original(
    url: Annotated[str, typer.Argument(help="postgresql://... of the original platform's database; it is only read.")],
    config: ConfigOption = None,
    keep_roles: Annotated[
        bool, typer.Option("--keep-roles", help="Let people keep their roles; else everybody is a viewer.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write what was not taken, a line each, to this file; it holds no positions.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy people, animals, positions, observations, zones, corridors, alerts and rangers of the original platform.

    May be run again: what came once is left as it is here. Passwords are never copied.
    """
    from cloud.ops.import_original import ImportedOriginal
    from cloud.ops.import_original import import_original as copy
    from cloud.store.store import PostgresStore

    settings = load_config(config)

    async def job(database: Database) -> ImportedOriginal:
        from cloud.app import accounts_of

        store = PostgresStore(database, now=lambda: datetime.now(UTC))

        def told(table: str, n: int, total: int) -> None:
            if not as_json and n % _TOLD_EVERY == 0:
                errors.print(f"{table}: {n} of {total}", highlight=False, markup=False)

        with report.open("w", encoding="utf-8") if report else contextlib.nullcontext() as file:
            return await copy(
                url, store, accounts_of(settings, database, server_clock()), keeps_roles=keep_roles, told=told,
                refused=lambda problem: None if file is None else print(problem, file=file),
            )  # fmt: skip

    done = asyncio.run(over_database(settings, job, statement_timeout_s=0))
    if as_json:
        print_json(done)
        return
    tables = {name: value for name, value in plain(done).items() if isinstance(value, dict) and name != "left"}
    print_rows(["table", "rows", "new", "known", "refused"], [(name, *each.values()) for name, each in tables.items()])
    for problem in done.problems:
        console.print(f"  {problem}", highlight=False, markup=False)
    for name, rows in done.left.items():
        console.print(f"not read: {name}, {rows} rows", highlight=False, markup=False)


@commands.command()
def undecoded(
    config: ConfigOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List frames from the internet that cannot be read, and why; `redecode` tries them again."""
    from cloud.store import frames

    found = read_database(load_config(config), lambda connection: frames.undecoded(connection, limit))
    if as_json:
        print_json(found)
        return
    print_rows(
        ["frame", "received", "link", "copies", "bytes", "begins with", "why"],
        [
            (
                each.seq, f"{each.received_at:%Y-%m-%d %H:%M:%S}", each.link, each.copies, each.size_bytes,
                each.head[:_HEAD_DIGITS], each.reason,
            )
            for each in found
        ],
    )  # fmt: skip


@commands.command()
def redecode(
    config: ConfigOption = None,
    is_undecoded_only: Annotated[
        bool, typer.Option("--undecoded", help="Only what could not be read, not the whole ledger.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Decode the ledger of frames again, after a codec has learnt something. Changes nothing when nothing changed."""
    from cloud.ingest.decode import redecode as decode_again
    from cloud.store.store import PostgresStore

    async def job(database: Database) -> Redecoded:
        store = PostgresStore(database, now=lambda: datetime.now(UTC))

        def progress(frames: int) -> None:
            if not as_json:
                errors.print(f"{frames} frames", highlight=False, markup=False)

        return await decode_again(store, is_undecoded_only=is_undecoded_only, progress=progress)

    print_facts(asyncio.run(over_database(load_config(config), job)), as_json=as_json)
