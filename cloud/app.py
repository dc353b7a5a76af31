"""Wires the cloud together, and nothing else: the one place that opens the database and the port."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvicorn
from litestar.types import ASGIApp

from cloud.accounts.rosters import Rosters
from cloud.accounts.secret import read_secret
from cloud.api.app import create_app
from cloud.api.traces import traced
from cloud.config import Config, IngestSection
from cloud.ingest.service import DirectIp, Ingest, MqttSource
from cloud.jobs import queue
from cloud.jobs.export import export_kind
from cloud.jobs.kinds import Kinds
from cloud.jobs.report import report_kind
from cloud.jobs.sending import Destinations
from cloud.jobs.service import Jobs
from cloud.jobs.worker import JobWorker, WorkerSettings
from cloud.notify.codes import CodeSender
from cloud.notify.mail import Mailer, MailServer
from cloud.notify.sms import Texter, TwilioAccount
from cloud.ops.hang import PATIENCE_S, answers_at, end_if_hung, loop_turns
from cloud.store import stations
from cloud.store.accounts import PostgresTables
from cloud.store.database import Database
from cloud.store.migrate import known_versions, schema_version
from cloud.store.store import PostgresStore
from cloud.store.tidying import tidy
from models.artifact import PACKAGED
from models.live.advice import Advisor
from models.live.habitat import MappedHabitat
from models.live.runtime import Models
from models.live.shelf import HomeShelf, folder_of
from shared.accounts.moments import moments_of, sure_ms
from shared.accounts.passwords import Hasher, calibrated
from shared.accounts.service import Accounts
from shared.clock import Clock
from shared.collector import settle
from shared.configuration import boot_id, own_hosts
from shared.ending import end
from shared.errors import ConfigError, StoreError
from shared.habitat import Habitat
from shared.logs import configure_logging
from shared.sync.records import to_ms
from shared.sync.sweeping import EVERY_S, sweep

if TYPE_CHECKING:
    from cloud.corridors.router import MapRouter

log = structlog.get_logger()


def accounts_of(config: Config, database: Database, clock: Clock) -> Accounts:
    """Return the accounts of the cloud; raises ConfigError where its secret is missing."""
    accounts = Accounts(
        PostgresTables(database), home="cloud", name=config.accounts.name,
        secret=read_secret(config.accounts.key_file), moments=moments_of(clock, boot_id()),
        now_ms=lambda: sure_ms(clock), messenger=messenger_of(config), species=config.species(),
    )  # fmt: skip
    database.fields = accounts.fields
    return accounts


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
    return CodeSender(mailer=mailer, texter=texter, outbox=outbox, language=notify.language)


@contextlib.asynccontextmanager
async def shelf_of(config: Config, database: Database, clock: Clock) -> AsyncIterator[HomeShelf]:
    """The models of the cloud as a context: laid out in a folder of this process alone, anew where others choose."""

    async def knows(station_id: str) -> bool:
        async with database.snapshot() as connection:
            return any(each.id == station_id and not each.is_retired for each in await stations.stations(connection))

    base = Path(config.models.folder) if config.models.folder else PACKAGED
    with tempfile.TemporaryDirectory(prefix="outpost-models-") as folder:
        shelf = HomeShelf(
            PostgresTables(database), Path(folder), base=base, publishers=config.models.publishers,
            forced=config.models.forced, now_ms=lambda: to_ms(clock.now()), knows_station=knows,
        )  # fmt: skip
        await folder_of(shelf, base)
        looking = asyncio.create_task(shelf.run(), name="models")
        try:
            yield shelf
        finally:
            await end(looking)


def kinds_of(store: PostgresStore, accounts: Accounts, config: Config, shelf: HomeShelf) -> Kinds:
    """Return the kinds of job that this program knows: what is heavy to import, a kind imports as it runs.

    Without maps there is no search for corridors, and whoever asks for one is told so.
    """

    @contextlib.contextmanager
    def habitat() -> Iterator[Habitat]:
        maps = MappedHabitat(Path(config.habitat.dir) if config.habitat.dir else None, shelf.folder)
        try:
            yield maps
        finally:
            maps.close()

    reports = report_kind(store, accounts.view, habitat, store.now)
    sending = Destinations(store.database, accounts, now=store.now).kind()
    kinds = Kinds([export_kind(store.database, accounts.view), reports, sending])
    router = router_of(store, config, shelf)
    if router is not None:
        from cloud.corridors.job import CorridorSearch

        kinds.register(CorridorSearch(store, router, accounts.view).kind())
    return kinds


def router_of(store: PostgresStore, config: Config, shelf: HomeShelf, *, is_apart: bool = False) -> MapRouter | None:
    """Return what finds routes over the reserve's maps; None where no maps are named."""
    section = config.corridors
    maps = section.maps or (str(Path(config.habitat.dir) / "rasters.toml") if config.habitat.dir else "")
    if not maps:
        return None
    from cloud.corridors.router import MapRouter

    return MapRouter(
        store, maps=Path(maps),
        weights=Path(section.weights) if section.weights else None,
        artifacts=lambda: shelf.folder, forced=config.models.forced.get("corridor"),
        is_apart=is_apart,
    )  # fmt: skip


async def work(config: Config, *, clock: Clock) -> None:
    """Run jobs until SIGTERM or SIGINT; each ends at its next step then and waits for another worker."""
    configure_logging(config.logs.levels)
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    watching = asyncio.create_task(end_if_hung(loop_turns), name="watch")
    try:
        await work_until(told, config, clock=clock)
    finally:
        watching.cancel()
    log.info("worker.stopped")


async def work_until(told: asyncio.Event, config: Config, *, clock: Clock) -> None:
    """Run jobs until ``told`` is set."""
    url, section, jobs = await _checked_url(config), config.database, config.jobs
    async with (
        Database.open(
            url, pool_min=1, pool_max=section.pool_max, is_pooled=section.is_pooled, statement_timeout_s=0,
            application_name=queue.APPLICATION,
        ) as database,
        shelf_of(config, database, clock) as shelf,
    ):  # fmt: skip
        accounts = accounts_of(config, database, clock)
        await accounts.use_keys()
        kinds = kinds_of(PostgresStore(database, now=clock.now), accounts, config, shelf)
        destinations, submitting = Destinations(database, accounts, now=clock.now), Jobs(database, kinds, now=clock.now)
        worker = JobWorker(
            database, kinds, owner_of=accounts.principal, rounds=lambda: destinations.enter_due(submitting),
            now=clock.now, settings=WorkerSettings(
                light_jobs=jobs.light_jobs, poll_s=jobs.poll_s, keep_days=jobs.keep_days, file_hours=jobs.file_hours,
                file_limit_mb=jobs.file_limit_mb,
            ),
        )  # fmt: skip
        await worker.run(queue.working(url, is_pooled=section.is_pooled), told, does_listen=not section.is_pooled)


async def _checked_url(config: Config) -> str:
    url = config.database_url()
    found, newest = await asyncio.to_thread(schema_version, url), known_versions()[-1]
    if found != newest:
        raise StoreError(
            f"the database has schema {found or 'none'}, this program {newest}: run `outpost-cloud migrate`"
        )
    return url


async def serve(config: Config, *, clock: Clock, port: int | None = None, patience_s: float = PATIENCE_S) -> None:
    """Run the cloud until SIGTERM or SIGINT; what was answered is in the database whatever ends it.

    A process that does not answer itself for ``patience_s`` ends too: whoever started it starts another.
    """
    configure_logging(config.logs.levels)
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with running(config, clock=clock, port=port) as (address, ended):
        settle()
        asked = asyncio.create_task(told.wait(), name="told")
        watching = asyncio.create_task(end_if_hung(answers_at(address), patience_s=patience_s), name="watch")
        await asyncio.wait((asked, ended), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        watching.cancel()
    log.info("cloud.stopped")


@contextlib.asynccontextmanager
async def running(
    config: Config, *, clock: Clock, port: int | None = None
) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    """A running cloud as a context; yields its address and the task that ends with it."""
    url, section = await _checked_url(config), config.database
    async with (
        Database.open(
            url, pool_min=section.pool_min, pool_max=section.pool_max, is_pooled=section.is_pooled,
            statement_timeout_s=section.statement_timeout_s,
        ) as database,
        shelf_of(config, database, clock) as shelf,
    ):  # fmt: skip
        store = PostgresStore(database, now=clock.now)
        accounts = accounts_of(config, database, clock)
        await accounts.use_keys()
        rosters = Rosters(database, accounts, read_secret(config.accounts.key_file))
        ingest = Ingest(store, clock, rockblock_keys=config.ingest.rockblock_keys)
        habitat = MappedHabitat(Path(config.habitat.dir) if config.habitat.dir else None, shelf.folder)
        models, advisor = Models(shelf.folder), Advisor(shelf.folder)

        router = router_of(store, config, shelf, is_apart=True)

        async def take(folder: Path) -> None:
            models.turn_to(folder)
            advisor.turn_to(folder)
            habitat.turn_to(folder)

        shelf.follow(take)
        app = create_app(
            store, clock=clock, accounts=accounts, rosters=rosters, ingest=ingest,
            kinds=kinds_of(store, accounts, config, shelf),
            habitat=habitat, router=router, models=models, advisor=advisor, shelf=shelf,
            releases_dir=Path(config.releases.dir) if config.releases.dir else None,
            maps=Path(config.pages.maps) if config.pages.maps else None,
            allowed_hosts=own_hosts(socket.gethostname(), config.api.allowed_hosts),
            allowed_origins=config.api.allowed_origins,
        )  # fmt: skip
        try:
            async with (
                ingest.running(
                    *_links(config.ingest)
                ) as tasks,  # until the last request has ended: it may hold a frame
                traced(app, config.traces.url, config.traces.share) as served,
                _http(served, config.api.host, config.api.port if port is None else port) as (address, http),
            ):
                log.info("cloud.ready", url=address, database=database.where, schema=known_versions()[-1])
                calibrating = asyncio.create_task(_calibrate(accounts), name="calibrate")
                sweeping = asyncio.create_task(_sweep_hourly(accounts, database, clock), name="sweep")
                ended = asyncio.create_task(_first(http, *tasks), name="ended")
                try:
                    yield address, ended
                finally:
                    why, _, _ = await end(ended, calibrating, sweeping)
                if isinstance(why, StoreError):
                    raise why
        finally:
            habitat.close()
            if router is not None:
                router.close()
            await accounts.drain()


async def _calibrate(accounts: Accounts) -> None:
    """Let a password take a quarter of a second here; hashes of lower cost are made anew as people log in."""
    time_cost = await asyncio.to_thread(calibrated, time.monotonic)
    if time_cost > accounts.hasher.time_cost:
        accounts.hasher = Hasher(time_cost)


async def _sweep_hourly(accounts: Accounts, database: Database, clock: Clock) -> None:
    """Forget from time to time what is of no use; each process of the service does, and finds little after another."""
    while True:
        try:
            done = await sweep(accounts, sure_ms(clock))
            tidied = await tidy(database, sure_ms(clock))
            log.info(
                "cloud.swept",
                removed=done.removed,
                sync_log=done.sync_log,
                files=done.files,
                frames=tidied.frames,
                lines=tidied.lines,
            )
        except StoreError as error:
            log.warning("cloud.unswept", code=error.code, detail=error.detail)
        await asyncio.sleep(EVERY_S)


async def _first(*tasks: asyncio.Task[None]) -> None:
    """Wait for the first task that ends; raises StoreError where it fell: a supervisor starts the program again."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("task.fell", task=task.get_name(), exc_info=error)
            raise StoreError(f"the cloud ended because its task {task.get_name()} fell; see the log")


def _links(section: IngestSection) -> tuple[list[MqttSource], DirectIp | None]:
    for each in section.things_stack:
        if each.tls_ca and not Path(each.tls_ca).is_file():
            raise ConfigError(
                f"ingest.things_stack {each.name}: there is no file {each.tls_ca} of authorities; on Debian install"
                " ca-certificates, or name another in tls_ca"
            )
    sources = [
        MqttSource(
            name=each.name, host=each.host, port=each.port, topics=each.topics,
            client_id=each.client_id or f"outpost-cloud-{each.name}", username=each.username, password=each.password,
            tls_ca=each.tls_ca or None, is_v5=each.mqtt_version == "5",
        )
        for each in section.things_stack
    ]  # fmt: skip
    directip = DirectIp(
        host=section.directip_host, port=section.directip_port, peers=section.directip_peers,
        does_confirm=section.directip_confirms,
    )  # fmt: skip
    return sources, directip if section.directip_host else None


@contextlib.asynccontextmanager
async def _http(app: ASGIApp, host: str, port: int) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    """Answer requests while the block runs; gives the address and the task that ends with it."""
    server = _Server(
        uvicorn.Config(
            app, host=host, port=port, http="httptools", log_config=None, access_log=False,
            timeout_graceful_shutdown=5, server_header=False,
        )
    )  # fmt: skip
    task = asyncio.create_task(_serve(server), name="http")
    try:
        while not server.started:
            if task.done():
                await task
                raise ConfigError(f"port {port} on {host} cannot be had; choose another with --port")
            await asyncio.sleep(0.005)
        bound = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}", task
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: it would raise the signal again and end the program before the pool."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def] # as uvicorn declares it
        yield


async def _serve(server: uvicorn.Server) -> None:
    # uvicorn leaves with SystemExit where it cannot have the port; as an exception of a task that would end the loop
    with contextlib.suppress(SystemExit):
        await server.serve()
