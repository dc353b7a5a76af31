"""``outpost-cloud``: the commands of the service itself, and all others put together. Facts come as ``--json`` too.

Exit code 0 means success only. The rooms of the cloud are imported by the commands that open them, so ``--help`` works
without the cloud's packages.
"""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version
from typing import Annotated

import msgspec
import typer

from cloud.commands import carrying, copies, science, stations
from cloud.commands.destinations import destination_commands
from cloud.commands.opening import (
    ConfigOption,
    JsonOption,
    load_config,
    over_database,
    plain,
    print_rows,
    print_stations,
    read_database,
    server_clock,
    with_accounts,
    with_destinations,
)
from cloud.commands.releases import release_commands
from shared.accounts.moments import sure_ms
from shared.accounts.service import Accounts
from shared.accounts.tokens import ACCESS_S
from shared.console import console, print_facts, print_json, run_program
from shared.people import operator_token_of, user_commands
from shared.privacy import OPERATOR

cli = typer.Typer(
    name="outpost-cloud",
    help="The service that joins stations, owns PostgreSQL and serves managers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
cli.add_typer(carrying.commands)
cli.add_typer(copies.commands)
cli.add_typer(copies.keys, name="keys")
cli.add_typer(copies.audit, name="audit")
cli.add_typer(stations.commands, name="station")
cli.add_typer(science.commands, name="science")
cli.add_typer(user_commands(with_accounts, home="cloud"), name="user")
cli.add_typer(release_commands(with_accounts, load_config), name="release")
cli.add_typer(destination_commands(with_destinations), name="destination")


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


@cli.command()
def migrate(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring the database to this program's schema; safe to run again, and by several at once."""
    from cloud.store.migrate import migrate as bring_up

    print_facts({"schema": bring_up(load_config(config).database_url())}, as_json=as_json)


@cli.command()
def run(
    config: ConfigOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = None,
) -> None:
    """Run the service until it is told to stop."""
    from cloud import app

    asyncio.run(app.serve(load_config(config), clock=server_clock(), port=port))


@cli.command()
def worker(config: ConfigOption = None) -> None:
    """Run long jobs until it is told to stop; start as many as there are machines for them."""
    from cloud import app

    asyncio.run(app.work(load_config(config), clock=server_clock()))


@cli.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say what the database holds and when each station was last heard of."""
    from cloud.store.facts import facts

    found = read_database(load_config(config), facts)
    if as_json:
        print_json(found)
        return
    print_facts({name: value for name, value in plain(found).items() if name != "stations"}, as_json=False)
    print_stations(found.stations)


@cli.command()
def token(
    name: Annotated[str, typer.Argument(metavar="USER", help="An address or id; `operator` is this machine itself.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print an access token of 15 minutes, for whoever can read the cloud's secret anyway."""
    made = with_accounts(config, lambda accounts: operator_token_of(accounts, name))
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

    api = load_config(config).api
    token = with_accounts(config, lambda accounts: operator_token_of(accounts, OPERATOR.user_id))
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

    found = asyncio.run(look_around(load_config(config), for_deployment=is_deployment))
    if as_json:
        print_json(found)
    else:
        steps = [f"{each.cause}\n-> {each.next_step}" if each.cause else "" for each in found]
        print_rows(["", "", ""], [(each.name, each.state, step) for each, step in zip(found, steps, strict=True)])
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
    from cloud.store.tidying import tidy
    from shared.sync.sweeping import Swept
    from shared.sync.sweeping import sweep as sweep_now

    async def job(accounts: Accounts) -> Swept:
        return await sweep_now(accounts, sure_ms(server_clock()))

    swept = with_accounts(config, job)
    done = {
        "removed": swept.removed, "sync_log": swept.sync_log, "files": swept.files,
        "ranger_positions": swept.ranger_positions, "resealed": swept.resealed,
        "numbers": swept.numbers,
    }  # fmt: skip
    tidied = asyncio.run(over_database(load_config(config), lambda database: tidy(database, sure_ms(server_clock()))))
    done |= msgspec.structs.asdict(tidied)
    if audit_days is not None:
        done["audit_lines"] = with_accounts(config, lambda accounts: accounts.prune_audit(audit_days))
    print_facts(done, as_json=as_json)
