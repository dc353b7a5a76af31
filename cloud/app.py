"""Wires the cloud together, and nothing else: the one place that opens the database and the port."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
import uvicorn

from cloud.accounts.rosters import Rosters
from cloud.accounts.secret import read_secret
from cloud.api.app import create_app
from cloud.config import Config
from cloud.notify.codes import CodeSender
from cloud.notify.mail import Mailer, MailServer
from cloud.notify.sms import Texter, TwilioAccount
from cloud.store.accounts import PostgresTables
from cloud.store.database import Database
from cloud.store.migrate import known_versions, schema_version
from cloud.store.store import PostgresStore
from shared.accounts.moments import moments_of, sure_ms
from shared.accounts.passwords import Hasher, calibrated
from shared.accounts.service import Accounts
from shared.clock import Clock
from shared.configuration import boot_id, own_hosts
from shared.console import configure_logging
from shared.errors import ConfigError, StoreError

log = structlog.get_logger()


def accounts_of(config: Config, database: Database, clock: Clock) -> Accounts:
    """Return the accounts of the cloud; raises ConfigError where its secret is missing."""
    return Accounts(
        PostgresTables(database), home="cloud", name=config.accounts.name,
        secret=read_secret(config.accounts.key_file), moments=moments_of(clock, boot_id()),
        now_ms=lambda: sure_ms(clock), messenger=messenger_of(config), species=config.species(),
    )  # fmt: skip


def messenger_of(config: Config) -> CodeSender | None:
    """Return what sends codes, None where nothing is set up."""
    notify = config.notify
    mailer = texter = None
    if notify.email_host:
        mailer = Mailer(
            MailServer(
                host=notify.email_host, port=notify.email_port, is_tls=notify.email_use_tls,
                user=notify.email_host_user, password=notify.email_host_password,
                sender=notify.email_from or notify.email_host_user,
            )
        )  # fmt: skip
    if notify.twilio_account_sid:
        texter = Texter(
            TwilioAccount(
                account_sid=notify.twilio_account_sid, auth_token=notify.twilio_auth_token,
                phone_number=notify.twilio_phone_number, url=notify.twilio_url,
            )
        )  # fmt: skip
    outbox = Path(notify.outbox_file) if notify.outbox_file else None
    if mailer is None and texter is None and outbox is None:
        return None
    return CodeSender(mailer=mailer, texter=texter, outbox=outbox)


async def serve(config: Config, *, clock: Clock, port: int | None = None) -> None:
    """Run the cloud until SIGTERM or SIGINT; what was answered is in the database whatever ends it."""
    configure_logging()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with running(config, clock=clock, port=port) as (_, ended):
        asked = asyncio.create_task(told.wait(), name="told")
        await asyncio.wait((asked, ended), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
    log.info("cloud.stopped")


@contextlib.asynccontextmanager
async def running(
    config: Config, *, clock: Clock, port: int | None = None
) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    """A running cloud as a context; yields its address and the task that ends with it."""
    url = config.database_url()
    found, newest = await asyncio.to_thread(schema_version, url), known_versions()[-1]
    if found != newest:
        raise StoreError(
            f"the database has schema {found or 'none'}, this program {newest}: run `outpost-cloud migrate`"
        )
    section = config.database
    async with Database.open(
        url, pool_min=section.pool_min, pool_max=section.pool_max, is_pooled=section.is_pooled,
        statement_timeout_s=section.statement_timeout_s,
    ) as database:  # fmt: skip
        store = PostgresStore(database, now=clock.now)
        accounts = accounts_of(config, database, clock)
        rosters = Rosters(database, accounts, read_secret(config.accounts.key_file))
        app = create_app(
            store, clock=clock, accounts=accounts, rosters=rosters,
            allowed_hosts=own_hosts(socket.gethostname(), config.api.allowed_hosts),
            allowed_origins=config.api.allowed_origins,
        )  # fmt: skip
        calibrating = asyncio.create_task(_calibrate(accounts), name="calibrate")
        server = _Server(
            uvicorn.Config(
                app, host=config.api.host, port=config.api.port if port is None else port, http="httptools",
                log_config=None, access_log=False, timeout_graceful_shutdown=5, server_header=False,
            )
        )  # fmt: skip
        task = asyncio.create_task(_serve(server), name="http")
        try:
            while not server.started:
                if task.done():
                    await task
                    raise ConfigError(
                        f"port {config.api.port if port is None else port} on {config.api.host} cannot be had; choose "
                        "another with --port"
                    )
                await asyncio.sleep(0.005)
            bound = server.servers[0].sockets[0].getsockname()[1]
            host = f"[{config.api.host}]" if ":" in config.api.host else config.api.host
            address = f"http://{host}:{bound}"
            log.info("cloud.ready", url=address, database=database.where, schema=newest)
            yield address, task
        finally:
            server.should_exit = True
            await task
            calibrating.cancel()
            await asyncio.gather(calibrating, return_exceptions=True)
            await accounts.drain()


async def _calibrate(accounts: Accounts) -> None:
    """Let a password take a quarter of a second here; hashes of lower cost are made anew as people log in."""
    time_cost = await asyncio.to_thread(calibrated, time.monotonic)
    if time_cost > accounts.hasher.time_cost:
        accounts.hasher = Hasher(time_cost)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: it would raise the signal again and end the program before the pool."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def] # as uvicorn declares it
        yield


async def _serve(server: uvicorn.Server) -> None:
    # uvicorn leaves with SystemExit where it cannot have the port; as an exception of a task that would end the loop
    with contextlib.suppress(SystemExit):
        await server.serve()
