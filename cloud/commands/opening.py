"""What every command of the cloud opens: its configuration, its clock, its database and accounts; and how it prints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from shared.accounts.service import Accounts
from shared.clock import StationClock
from shared.console import console

if TYPE_CHECKING:
    from cloud.config import Config
    from cloud.jobs.sending import Destinations
    from cloud.store.database import Connection, Database


T = TypeVar("T")

ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file; /etc/outpost/cloud.toml by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]

#: The program's own date: a clock that stands before it is wrong.
_BUILT_AT = datetime(2026, 11, 1, tzinfo=UTC)


def with_accounts(config: Path | None, job: Callable[[Accounts], Awaitable[T]]) -> T:
    from cloud.app import accounts_of
    from cloud.store.database import Database

    settings = load_config(config)

    async def run_job() -> T:
        async with Database.open(
            settings.database_url(), pool_min=1, pool_max=1, is_pooled=settings.database.is_pooled
        ) as database:
            accounts = accounts_of(settings, database, server_clock())
            await accounts.use_keys()
            return await job(accounts)

    return asyncio.run(run_job())


def server_clock() -> StationClock:
    clock = StationClock(time.time, time.monotonic, built_at=_BUILT_AT)
    clock.kernel_says(is_synchronised=True)  # a server keeps time; one that stands before this program does not count
    return clock


def load_config(path: Path | None) -> Config:
    from cloud.config import load

    return load(path)


def with_destinations(config: Path | None, job: Callable[[Destinations, Accounts], Awaitable[T]]) -> T:
    settings = load_config(config)

    async def run_job(database: Database) -> T:
        from cloud.app import accounts_of
        from cloud.jobs.sending import Destinations

        accounts = accounts_of(settings, database, server_clock())
        return await job(Destinations(database, accounts, now=server_clock().now), accounts)

    return asyncio.run(over_database(settings, run_job))


def read_database(config: Config, job: Callable[[Connection], Awaitable[T]]) -> T:
    return asyncio.run(_with_database(config, job, is_snapshot=True))


def write_database(config: Config, job: Callable[[Connection], Awaitable[T]]) -> T:
    return asyncio.run(_with_database(config, job, is_snapshot=False))


async def over_database(
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


def plain(found: object) -> dict[str, object]:
    import msgspec

    plain: dict[str, object] = msgspec.to_builtins(found)
    return plain


def print_stations(found: object) -> None:
    table = Table(box=None)
    for heading in ("station", "name", "enrolled", "last seen", "changes read", ""):
        table.add_column(heading, overflow="fold")
    for each in found if isinstance(found, list) else []:
        seen = "never" if each.last_seen_at is None else f"{each.last_seen_at:%Y-%m-%d %H:%M:%S}"
        notes = {
            "retired": each.is_retired, "runs twice": each.doubled_at is not None and not each.is_retired,
            "has a scope": each.has_scope,
        }  # fmt: skip
        said = ", ".join(note for note, holds in notes.items() if holds)
        table.add_row(Text(each.id), Text(each.name), f"{each.enrolled_at:%Y-%m-%d}", seen, str(each.cursor), said)
    console.print(table)


def print_rows(columns: list[str], rows: list[tuple[object, ...]]) -> None:
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    if columns:
        console.print(table)
