"""``python -m cloud.demo``: what ``make run-cloud`` starts: a private PostgreSQL, the service, a code for a station."""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.live import Live
from rich.text import Text

from cloud import app
from cloud.accounts.secret import make_secret
from cloud.config import Config, load
from cloud.demo.cluster import PrivateCluster
from cloud.store.database import Database
from cloud.store.facts import CloudFacts, facts
from cloud.store.migrate import migrate
from cloud.store.stations import is_code_used, new_code
from shared.clock import StationClock
from shared.console import console, run_program
from shared.logs import configure_logging
from shared.people import demo_people, show_people
from shared.sync.records import to_ms

FOLDER: Final = Path("var/cloud")
STATION: Final = "demo"
#: Long enough to start a station at leisure; in the field a code lives ten minutes.
CODE_MINUTES: Final = 240
_LOOK_S: Final = 1.0


def main(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 0,
) -> None:
    """Run a cloud with a PostgreSQL of its own, unless DATABASE_URL names another, until Ctrl-C."""
    configured = load(None)
    if configured.database.url:
        asyncio.run(_run(configured, configured.database_url(), port))
        return
    with PrivateCluster((FOLDER / "postgres").absolute()) as cluster:
        if cluster.notice:
            console.print(cluster.notice, highlight=False)
        if not cluster.has_database("outpost"):
            cluster.create_database("outpost")
        url = cluster.url("outpost")
        section = msgspec.structs.replace(configured.database, url=url)
        asyncio.run(_run(msgspec.structs.replace(configured, database=section), url, port))


async def _run(config: Config, url: str, port: int) -> None:
    configure_logging(config.logs.levels)
    schema = await asyncio.to_thread(migrate, url)
    clock = StationClock(time.time, time.monotonic, built_at=datetime(2026, 11, 1, tzinfo=UTC))
    clock.kernel_says(is_synchronised=True)
    config = _with_accounts(config)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with (
        app.running(config, clock=clock, port=port) as (address, serving),
        Database.open(url, pool_min=1, pool_max=1, is_pooled=config.database.is_pooled) as database,
    ):
        code = await _invite(database, address, to_ms(clock.now()))
        console.print(f"[bold]{address}[/]  PostgreSQL with schema {schema}", highlight=False)
        console.print(f"API {address}/api/docs/   health {address}/health/detail", highlight=False, soft_wrap=True)
        show_people(await demo_people(app.accounts_of(config, database, clock), FOLDER / "people.json"), console)
        if config.notify.outbox_file:
            console.print(f"codes that it would send: {config.notify.outbox_file}", highlight=False, soft_wrap=True)
        console.print(f"It answers on {config.api.host}, as api.host says. Ctrl-C ends everything.\n", highlight=False)
        console.print("A station joins with, in another terminal:", highlight=False)
        console.print(f"  make run CLOUD={address} CODE={code}\n", highlight=False)
        working = asyncio.create_task(app.work_until(ended, config, clock=clock), name="worker")
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while not ended.is_set() and not serving.done():
                async with database.snapshot() as connection:
                    found = await facts(connection)
                    is_used = await is_code_used(connection, code)
                if is_used:
                    code = await _invite(database, address, to_ms(clock.now()))
                    live.console.print(f"A station has joined. The next code: {code}", highlight=False)
                live.update(Text(_line(found)), refresh=console.is_terminal)
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await ended.wait()
                except TimeoutError:
                    continue
        ended.set()
        await working


def _with_accounts(config: Config) -> Config:
    """Return the configuration with a secret of the demo's own and, where nothing sends codes, a file for them."""
    section, notify = config.accounts, config.notify
    if not section.key_file.exists():
        section = msgspec.structs.replace(section, key_file=(FOLDER / "cloud.key").absolute())
        make_secret(section.key_file)
    if app.messenger_of(config) is None:
        notify = msgspec.structs.replace(notify, outbox_file=str((FOLDER / "outbox.jsonl").absolute()))
    return msgspec.structs.replace(config, accounts=section, notify=notify)


async def _invite(database: Database, address: str, now_ms: int) -> str:
    """Return a code for the demo's station, and leave it with the address where a program finds both."""
    async with database.transaction() as connection:
        code = await new_code(connection, STATION, "Demo post", now_ms, CODE_MINUTES * 60_000)
    FOLDER.mkdir(parents=True, exist_ok=True)
    fresh = FOLDER / "cloud.url.new"
    fresh.touch(mode=0o600)  # it holds the code
    fresh.write_text(f"{address} {code}\n", encoding="ascii")
    fresh.replace(FOLDER / "cloud.url")
    return code


def _line(found: CloudFacts) -> str:
    stations = ", ".join(
        f"{each.id} (seen {each.last_seen_at:%H:%M:%S})" if each.last_seen_at else each.id for each in found.stations
    )
    return (
        f"{found.fixes} fixes   {found.animals} animals   {found.collars} collars   {found.quarantined} in quarantine"
        f"   {found.size_bytes / 1e6:.0f} MB   stations: {stations or 'none yet'}"
    )


if __name__ == "__main__":
    run_program(lambda: typer.run(main))
