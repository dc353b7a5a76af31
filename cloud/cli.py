"""``outpost-cloud``: every command of the cloud. Facts come as ``--json`` too; exit code 0 means success only.

The rooms of the cloud are imported by the commands that open them, so ``--help`` works without the cloud's packages.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from cloud.destinations import destination_commands
from cloud.release_commands import release_commands
from shared.accounts.moments import sure_ms
from shared.accounts.service import Accounts
from shared.accounts.tokens import ACCESS_S
from shared.clock import StationClock
from shared.console import console, errors, print_facts, print_json, progress_bar, run_program
from shared.errors import Invalid
from shared.key_commands import key_commands
from shared.people import operator_token_of, user_commands
from shared.privacy import OPERATOR
from shared.sealed_stream import new_recovery_key, recovery_key_of
from shared.sync.records import to_ms
from shared.wire.reading import bound

if TYPE_CHECKING:
    from cloud.config import Config
    from cloud.ingest.decode import Redecoded
    from cloud.jobs.sending import Destinations
    from cloud.store.database import Connection, Database

T = TypeVar("T")

_HEAD_DIGITS = 24
_TOLD_EVERY = 10_000

cli = typer.Typer(
    name="outpost-cloud",
    help="The service that joins stations, owns PostgreSQL and serves managers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
station = typer.Typer(help="The stations that this cloud knows.", no_args_is_help=True)
cli.add_typer(station, name="station")
science = typer.Typer(help="Work that outgrows one process: here, or on the Dask cluster of OUTPOST_DASK_SCHEDULER.")
cli.add_typer(science, name="science")

ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file; /etc/outpost/cloud.toml by default.")]
RecoveryKeyOption = Annotated[
    Path | None, typer.Option("--recovery-key", help="A file with the recovery key, as it was printed.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
#: The program's own date: a clock that stands before it is wrong.
_BUILT_AT = datetime(2026, 11, 1, tzinfo=UTC)


def main() -> None:
    """Run the program; an error of ours is one line on stderr and exit code 1."""
    run_program(cli)


@cli.callback(invoke_without_command=True)
def root(
    is_version_asked: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """The service that joins stations, owns PostgreSQL and serves managers."""
    if is_version_asked:
        typer.echo(version("outpost"))


@cli.command()
def init(
    config: ConfigOption = None,
    database: Annotated[
        str, typer.Option(help="postgresql://USER:PASSWORD@HOST:PORT/DATABASE; DATABASE_URL serves as well.")
    ] = "",
) -> None:
    """Write a configuration and bring the database to this program's schema. Nothing that exists is overwritten."""
    from cloud.config import DEFAULT_PATH

    path = config or DEFAULT_PATH
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # the address may hold a password
        given = f"url = {json.dumps(database)}\n" if database else '# url = "postgresql://..."  or DATABASE_URL\n'
        beside = json.dumps(str(path.with_suffix(".key").absolute()))
        path.write_text(
            f"[database]\n{given}\n[api]\nport = 8000\n\n[accounts]\nkey_file = {beside}\n", encoding="utf-8"
        )
        console.print(f"wrote {path}", highlight=False, markup=False)
    from cloud.accounts.secret import make_secret
    from cloud.config import load

    key_file = load(path).accounts.key_file
    if make_secret(key_file):
        console.print(f"wrote {key_file}: keep a copy elsewhere, TOTP secrets and stations depend on it")
    migrate(path)


@science.command()
def habitat(
    species: Annotated[str, typer.Option(help="By common or scientific name.")],
    out: Annotated[Path, typer.Option(help="The GeoTIFF to write.")],
    month: Annotated[int | None, typer.Option(min=1, max=12, help="Whose maps are taken.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Local processes; without a cluster.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score the whole of the reserve's maps by chunks; memory is that of the chunks under way."""
    from cloud.jobs.science import habitat_map
    from cloud.jobs.spread import spread

    settings = _load(config)
    if not settings.habitat.dir:
        raise Invalid("habitat.dir: name the folder of the reserve's maps")
    maps = Path(settings.habitat.dir) / "rasters.toml"
    with spread(workers) as over, progress_bar("habitat") as told:
        made = habitat_map(over, maps, species, month, out, artifacts=_artifacts(settings), progress=told)
    print_facts(made, as_json=as_json)


@science.command()
def utilisations(
    out: Annotated[Path, typer.Option(help="The file of JSON lines to write, one an animal.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Local processes; without a cluster.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Work out where every animal was, exactly; for researchers on this machine. It leaves a line in the audit log."""
    from cloud.app import accounts_of
    from cloud.jobs.spread import spread
    from cloud.ops.science import write_utilisations
    from cloud.store.database import Database
    from cloud.store.store import PostgresStore
    from shared.accounts.audit import Entry
    from shared.privacy import OPERATOR

    settings = _load(config)

    async def job() -> dict[str, int]:
        async with Database.open(
            settings.database_url(), pool_min=1, pool_max=2, is_pooled=settings.database.is_pooled
        ) as database:
            store = PostgresStore(database, now=_clock().now)
            accounts = accounts_of(settings, database, _clock())

            async def note(words: str) -> None:
                await accounts.note([Entry(accounts.moments().ms, OPERATOR.user_id, "export", words)])

            with spread(workers) as over, progress_bar("utilisations") as told:
                return await write_utilisations(
                    store, _clock(), over, out, note=note, artifacts=_artifacts(settings), progress=told
                )

    print_facts(asyncio.run(job()), as_json=as_json)


@science.command()
def corridors(
    data: Annotated[Path, typer.Option(help="The folder of track files and rasters.")],
    out: Annotated[Path, typer.Option(help="The folder for JSON of each algorithm.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Local processes; without a cluster.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure routes over many landscapes, as `outpost-models evaluate corridor` does."""
    from cloud.jobs.spread import spread
    from models.corridor.evaluate import evaluate, write

    with spread(workers) as over, progress_bar("corridors") as told:
        found = evaluate(data, data.parent / "reference", progress=told, spread=over.map)
    print_facts({"files": [str(path) for path in write(found, out)]}, as_json=as_json)


def _artifacts(settings: Config) -> Path:
    from models.artifact import PACKAGED

    return Path(settings.models.folder) if settings.models.folder else PACKAGED


@cli.command()
def migrate(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring the database to this program's schema; safe to run again, and by several at once."""
    from cloud.store.migrate import migrate as bring_up

    print_facts({"schema": bring_up(_load(config).database_url())}, as_json=as_json)


@cli.command()
def run(
    config: ConfigOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = None,
) -> None:
    """Run the service until it is told to stop."""
    from cloud import app

    asyncio.run(app.serve(_load(config), clock=_clock(), port=port))


@cli.command()
def worker(config: ConfigOption = None) -> None:
    """Run long jobs until it is told to stop; start as many as there are machines for them."""
    from cloud import app

    asyncio.run(app.work(_load(config), clock=_clock()))


@cli.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say what the database holds and when each station was last heard of."""
    from cloud.store.facts import facts

    found = _read(_load(config), facts)
    if as_json:
        print_json(found)
        return
    print_facts({name: value for name, value in _plain(found).items() if name != "stations"}, as_json=False)
    _print_stations(found.stations)


@cli.command()
def token(
    name: Annotated[str, typer.Argument(metavar="USER", help="An address or id; `operator` is this machine itself.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print an access token of 15 minutes, for whoever can read the cloud's secret anyway."""
    made = _with_accounts(config, lambda accounts: operator_token_of(accounts, name))
    if as_json:
        print_json({"access": made, "expires_in": ACCESS_S})
    else:
        typer.echo(made)


@cli.command("log")
def log_level(
    level: Annotated[str, typer.Argument(help="debug, info, warning, error, critical, or `default`.")] = "",
    package: Annotated[str, typer.Argument(help="A package like cloud.sync; everything else if left out.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the running service logs or, with a level, change it for a package until its next start.

    Of several processes behind one address it is the one that answers; a worker's levels stand in its configuration.
    """
    from cloud.ops.levels import log_levels

    api = _load(config).api
    token = _with_accounts(config, lambda accounts: operator_token_of(accounts, OPERATOR.user_id))
    print_facts(log_levels(f"http://{api.host}:{api.port}/api/v1/logs/levels/", token, package, level), as_json=as_json)


@cli.command()
def check(
    is_deployment: Annotated[
        bool, typer.Option("--deploy", help="Refuse settings that are too weak for the internet.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for every trouble that is known, with its cause and the next step; exit code 1 where there is a fault."""
    from cloud.checks import look_around

    found = asyncio.run(look_around(_load(config), for_deployment=is_deployment))
    if as_json:
        print_json(found)
    else:
        steps = [f"{each.cause}\n-> {each.next_step}" if each.cause else "" for each in found]
        _print_rows(["", "", ""], [(each.name, each.state, step) for each, step in zip(found, steps, strict=True)])
    if any(each.state == "fault" for each in found):
        raise typer.Exit(1)


@cli.command()
def sweep(
    config: ConfigOption = None,
    audit_days: Annotated[
        int | None, typer.Option(min=30, help="Take lines older than so many days off the audit log, too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what is of no use any more, as the service does each hour."""
    from shared.sync.sweeping import Swept
    from shared.sync.sweeping import sweep as sweep_now

    async def job(accounts: Accounts) -> Swept:
        return await sweep_now(accounts, sure_ms(_clock()))

    swept = _with_accounts(config, job)
    done = {
        "removed": swept.removed, "sync_log": swept.sync_log, "files": swept.files,
        "ranger_positions": swept.ranger_positions, "resealed": swept.resealed,
        "numbers": swept.numbers,
    }  # fmt: skip
    if audit_days is not None:
        done["audit_lines"] = _with_accounts(config, lambda accounts: accounts.prune_audit(audit_days))
    print_facts(done, as_json=as_json)


@cli.command()
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
    settings = _load(config)
    configure_logging(settings.logs.levels)  # to stderr: what is printed is facts alone

    def told(n: int) -> None:
        if not as_json and n and n % _TOLD_EVERY == 0:
            errors.print(f"{n}", highlight=False, markup=False)

    async def job(database: Database) -> Imported | Exported:
        clock = _clock()
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

    done = asyncio.run(_over_database(settings, job))
    print_facts(done, as_json=as_json)
    if isinstance(done, Imported) and done.refused:
        raise typer.Exit(1)


@cli.command()
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
    settings = _load(config)

    async def job(database: Database) -> int:
        from cloud.app import accounts_of

        accounts = accounts_of(settings, database, _clock())
        return await export_file(database, accounts, file, selection, form, errors if not as_json else None)

    rows = asyncio.run(_over_database(settings, job, statement_timeout_s=0))
    if as_json and str(file) != "-":
        print_json({"fixes": rows})
    else:
        errors.print(f"{rows} fixes")


@cli.command("import-original")
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

    settings = _load(config)

    async def job(database: Database) -> ImportedOriginal:
        from cloud.app import accounts_of

        store = PostgresStore(database, now=lambda: datetime.now(UTC))

        def told(table: str, n: int, total: int) -> None:
            if not as_json and n % _TOLD_EVERY == 0:
                errors.print(f"{table}: {n} of {total}", highlight=False, markup=False)

        with report.open("w", encoding="utf-8") if report else contextlib.nullcontext() as file:
            return await copy(
                url, store, accounts_of(settings, database, _clock()), keeps_roles=keep_roles, told=told,
                refused=lambda problem: None if file is None else print(problem, file=file),
            )  # fmt: skip

    done = asyncio.run(_over_database(settings, job, statement_timeout_s=0))
    if as_json:
        print_json(done)
        return
    tables = {name: value for name, value in _plain(done).items() if isinstance(value, dict) and name != "left"}
    _print_rows(["table", "rows", "new", "known", "refused"], [(name, *each.values()) for name, each in tables.items()])
    for problem in done.problems:
        console.print(f"  {problem}", highlight=False, markup=False)
    for name, rows in done.left.items():
        console.print(f"not read: {name}, {rows} rows", highlight=False, markup=False)


@cli.command()
def undecoded(
    config: ConfigOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List frames from the internet that cannot be read, and why; `redecode` tries them again."""
    from cloud.store import frames

    found = _read(_load(config), lambda connection: frames.undecoded(connection, limit))
    if as_json:
        print_json(found)
        return
    _print_rows(
        ["frame", "received", "link", "copies", "bytes", "begins with", "why"],
        [
            (
                each.seq, f"{each.received_at:%Y-%m-%d %H:%M:%S}", each.link, each.copies, each.size_bytes,
                each.head[:_HEAD_DIGITS], each.reason,
            )
            for each in found
        ],
    )  # fmt: skip


@cli.command()
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

    print_facts(asyncio.run(_over_database(_load(config), job)), as_json=as_json)


@cli.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="Where backups go; the newest thirty stay.")] = Path(
        "/var/backups/outpost"
    ),
    is_unproved: Annotated[
        bool, typer.Option("--unproved", help="Do not restore it into a database of its own to compare.")
    ] = False,
    is_verifying: Annotated[
        bool, typer.Option("--verify", help="Make none: look at FOLDER, or the newest backup in it, again.")
    ] = False,
    recovery_key: RecoveryKeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back up database and configuration, sealed for the recovery key, and prove it by restoring it.

    The secret is not in it: keep a copy of it. With --verify each byte of a backup is looked at, and it is restored
    into a database of its own where it can be opened.
    """
    from cloud.config import DEFAULT_PATH
    from cloud.store import dump

    file = config or DEFAULT_PATH
    settings = _load(config)
    url = settings.database_url()
    if is_verifying:
        print_facts(dump.verify(folder, url, _recovery_key(recovery_key)), as_json=as_json)
        return
    made = dump.backup(
        url, folder, datetime.now(UTC), config=file, is_proving=not is_unproved,
        recovery_public=settings.backup.recovery_public,
    )  # fmt: skip
    if not made.is_sealed:
        errors.print("backup.recovery_public is empty: whoever finds this backup reads it", highlight=False)
    print_facts(made, as_json=as_json)


def _recovery_key(file: Path | None) -> bytes | None:
    return None if file is None else recovery_key_of(file.read_text(encoding="ascii"))


@cli.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A backup, or a folder of backups: the newest.")],
    recovery_key: RecoveryKeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fill the configured database, which must be empty, from a backup. It begins a new epoch: stations send again."""
    from cloud.store import dump

    manifest, epoch = dump.restore(source, _load(config).database_url(), _recovery_key(recovery_key))
    print_facts(
        {"made_at": manifest.made_at, "tables": len(manifest.tables), "rows": manifest.rows, "epoch": epoch},
        as_json=as_json,
    )


@cli.command()
def db(
    config: ConfigOption = None,
    sql: Annotated[str | None, typer.Option("--sql", help="Run this statement and end.")] = None,
) -> None:
    """Open a read-only SQL shell on the database, with PostGIS."""
    from cloud.store.shell import open_shell

    with open_shell(_load(config).database_url()) as ask:
        if sql is not None:
            _print_rows(*ask(sql))
            return
        while True:
            try:
                line = input("sql> ").strip()
            except (EOFError, KeyboardInterrupt):
                return
            if line:
                try:
                    _print_rows(*ask(line))
                except Invalid as error:
                    console.print(Text(error.detail, "red"), soft_wrap=True)


@station.command("add")
def station_add(
    name: Annotated[str, typer.Argument(help="What people call the post.")],
    identity: Annotated[
        str, typer.Option("--id", help="The station's id in topics, files and signatures; from the name if left out.")
    ] = "",
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How long the code is valid.")] = 10,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a one-time code by which a station enrols: `outpost-station enrol URL CODE`, there."""
    from cloud.store.stations import new_code

    station_id = identity or "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    if not station_id.isascii() or not station_id.replace("-", "").replace("_", "").isalnum() or len(station_id) > 64:
        raise Invalid("--id: letters, digits, - and _, 64 at most; give one where the name makes none")

    async def job(connection: Connection) -> str:
        return await new_code(connection, station_id, name, to_ms(datetime.now(UTC)), minutes * 60_000)

    code = _write(_load(config), job)
    facts = {"station_id": station_id, "code": code, "valid_minutes": minutes}
    print_facts(facts, as_json=as_json)


@station.command("list")
def station_list(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the stations."""
    from cloud.store.stations import stations

    found = _read(_load(config), stations)
    if as_json:
        print_json(found)
    else:
        _print_stations(found)


@station.command("retire")
def station_retire(
    station_id: Annotated[str, typer.Argument(help="Whose key is taken away.")], config: ConfigOption = None
) -> None:
    """Refuse a station from now on: stolen, replaced, given up. What it brought stays."""
    from cloud.store.stations import retire

    _write(_load(config), lambda connection: retire(connection, station_id, to_ms(datetime.now(UTC))))
    console.print(f"{station_id} is retired; a new code lets it in again", highlight=False, markup=False)


@station.command("follow")
def station_follow(
    station_id: Annotated[str, typer.Argument(help="Who reads.")],
    collars: Annotated[list[str] | None, typer.Argument(help="Ids of collars; none: no collar.")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Every collar, as at first.")] = False,
    config: ConfigOption = None,
) -> None:
    """Name the collars whose fixes from the internet a station reads. What was brought there stays there."""
    from cloud.store.stations import follow

    if is_all and collars:
        raise Invalid("--all: name collars or all of them")
    followed = None if is_all else list(collars or ())
    _write(_load(config), lambda connection: follow(connection, station_id, followed))
    said = "every collar" if followed is None else ", ".join(followed) or "no collar"
    console.print(f"{station_id} follows {said}", highlight=False, markup=False)


@station.command("scope")
def station_scope(
    station_id: Annotated[str, typer.Argument(help="Who is told.")],
    area: Annotated[Path | None, typer.Option(help="A GeoJSON Polygon or MultiPolygon, or a Feature of one.")] = None,
    animals: Annotated[
        list[str] | None, typer.Option("--animal", help="The id of an animal; as often as needed.")
    ] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Everything, as at first.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a station is told of: an area, animals, or everything. Without an option: show it.

    What it brings itself it always has. Of what is in scope the fixes of other stations go down to it, too; what leaves
    its scope goes from it, but for fixes that it holds.
    """
    from cloud.store.scope import Scope, scope_of
    from cloud.store.stations import set_scope

    settings = _load(config)
    if is_all or area is not None or animals:
        if is_all and (area is not None or animals):
            raise Invalid("--all: give an area and animals, or all")
        text = None if area is None else _area_of(area)
        wanted = Scope(area=text, animals=sorted(set(animals)) if animals else None)
        _write(settings, lambda connection: set_scope(connection, station_id, wanted))
    found = _read(settings, lambda connection: scope_of(connection, station_id))
    if as_json:
        print_json(found)
        return
    parts = [] if found.area is None else ["an area"]
    parts += [] if found.animals is None else [f"{len(found.animals)} animals"]
    said = " and ".join(parts) or "everything"
    console.print(f"{station_id} is told of {said}", highlight=False, markup=False)


def _area_of(path: Path) -> str:
    """Return the geometry in a GeoJSON file as text; raises Invalid."""
    try:
        said = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: is no GeoJSON: {error}") from error
    if isinstance(said, dict) and said.get("type") == "Feature":
        said = said.get("geometry")
    return msgspec.json.encode(said).decode()


def _with_accounts(config: Path | None, job: Callable[[Accounts], Awaitable[T]]) -> T:
    from cloud.app import accounts_of
    from cloud.store.database import Database

    settings = _load(config)

    async def run_job() -> T:
        async with Database.open(
            settings.database_url(), pool_min=1, pool_max=1, is_pooled=settings.database.is_pooled
        ) as database:
            accounts = accounts_of(settings, database, _clock())
            await accounts.use_keys()
            return await job(accounts)

    return asyncio.run(run_job())


def _clock() -> StationClock:
    clock = StationClock(time.time, time.monotonic, built_at=_BUILT_AT)
    clock.kernel_says(is_synchronised=True)  # a server keeps time; one that stands before this program does not count
    return clock


def _load(path: Path | None) -> Config:
    from cloud.config import load

    return load(path)


def _with_destinations(config: Path | None, job: Callable[[Destinations, Accounts], Awaitable[T]]) -> T:
    settings = _load(config)

    async def run_job(database: Database) -> T:
        from cloud.app import accounts_of
        from cloud.jobs.sending import Destinations

        accounts = accounts_of(settings, database, _clock())
        return await job(Destinations(database, accounts, now=_clock().now), accounts)

    return asyncio.run(_over_database(settings, run_job))


cli.add_typer(user_commands(_with_accounts, home="cloud"), name="user")
cli.add_typer(release_commands(_with_accounts, lambda path: _load(path)), name="release")
cli.add_typer(destination_commands(_with_destinations), name="destination")
_keys = key_commands(_with_accounts, home="cloud")
cli.add_typer(_keys, name="keys")


@_keys.command("recovery")
def recovery(as_json: JsonOption = False) -> None:
    """Make a recovery key for backups and print it, once: print it on paper, and put its public half where it says."""
    key, public = new_recovery_key()
    if as_json:
        print_json({"recovery_key": key, "recovery_public": public})
        return
    for line in (
        "recovery key, for paper and no disk of this server; without it no backup can be opened:", f"  {key}",
        "in the configuration:", "  [backup]", f'  recovery_public = "{public}"',
    ):  # fmt: skip
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _read(config: Config, job: Callable[[Connection], Awaitable[T]]) -> T:
    return asyncio.run(_with_database(config, job, is_snapshot=True))


def _write(config: Config, job: Callable[[Connection], Awaitable[T]]) -> T:
    return asyncio.run(_with_database(config, job, is_snapshot=False))


async def _over_database(
    config: Config, job: Callable[[Database], Awaitable[T]], *, statement_timeout_s: float = 30.0
) -> T:
    from cloud.store.database import Database as Pool

    async with Pool.open(
        config.database_url(), pool_min=1, pool_max=2, is_pooled=config.database.is_pooled,
        statement_timeout_s=statement_timeout_s,
    ) as pool:  # fmt: skip
        return await job(pool)


async def _with_database(config: Config, job: Callable[[Connection], Awaitable[T]], *, is_snapshot: bool) -> T:
    from cloud.store.database import Database

    async with (
        Database.open(config.database_url(), pool_min=1, pool_max=1, is_pooled=config.database.is_pooled) as database,
        database.snapshot() if is_snapshot else database.transaction() as connection,
    ):
        return await job(connection)


def _plain(found: object) -> dict[str, object]:
    import msgspec

    plain: dict[str, object] = msgspec.to_builtins(found)
    return plain


def _print_stations(found: object) -> None:
    table = Table(box=None)
    for heading in ("station", "name", "enrolled", "last seen", "changes read", ""):
        table.add_column(heading, overflow="fold")
    for each in found if isinstance(found, list) else []:
        seen = "never" if each.last_seen_at is None else f"{each.last_seen_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            Text(each.id), Text(each.name), f"{each.enrolled_at:%Y-%m-%d}", seen, str(each.cursor),
            "retired" if each.is_retired else "runs twice" if each.doubled_at is not None else "",
        )  # fmt: skip
    console.print(table)


def _print_rows(columns: list[str], rows: list[tuple[object, ...]]) -> None:
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    if columns:
        console.print(table)
