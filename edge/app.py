"""Runs the station: opens its parts, lets them work, listens and answers, and ends all of it in order."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog
from litestar import Litestar

from edge import RELEASED_AT
from edge.api.app import create_app
from edge.api.station_health import StationHealth
from edge.api.trust import Trust, redirecting
from edge.config import Config
from edge.ingest.decode import CONSUMER, Decoder
from edge.ingest.group_commit import LedgerWriter
from edge.ingest.intake import Intake, replay
from edge.ingest.receive import discipline, receive
from edge.locked import Lock, hearing, is_locked, spool_dir
from edge.ops.discovery import announce, service_of
from edge.ops.heal import Healed, heal, mark_of
from edge.ops.notify import Supervisor
from edge.ops.room import Room
from edge.ops.system_clock import follow_kernel, system_clock
from edge.ops.trust import Authority, own_addresses
from edge.ops.update import back_to_schema
from edge.parts import Parts, assembled
from edge.pipeline.habitat import HabitatStage
from edge.serving import listen, serving
from edge.store.accounts import secret_of
from edge.store.ledger import check_key
from edge.store.store import SpatialiteStore
from edge.sync.session import new_epoch
from edge.sync.sweeping import sweep_hourly
from firmware_bridge.frames import Link
from firmware_bridge.transports.spec import link_from
from shared.accounts.audit import Entry
from shared.accounts.moments import moments_of
from shared.accounts.passwords import Hasher, calibrated
from shared.accounts.sealing import derived
from shared.accounts.service import Accounts
from shared.accounts.tokens import Signer
from shared.clock import Clock, StationClock, VirtualClock
from shared.collector import settle
from shared.configuration import LOOPBACK, boot_id, own_hosts
from shared.ending import end
from shared.errors import ConfigError, DatabaseCorrupt, StoreError
from shared.logs import configure_logging
from shared.privacy import OPERATOR

log = structlog.get_logger()

#: The background check of every page starts this long after the station, so that it slows no start.
CHECK_AFTER_S: Final = 60.0
#: Set by ``deploy/outpost-release`` for a program that was gone back to.
ROLLED_BACK: Final = "OUTPOST_ROLLED_BACK"
#: An operator's token is good for a quarter of an hour; this long it is used again.
TOKEN_REUSED_S: Final = 600.0


def url_file(config: Config) -> Path:
    """Return where a running station writes its address."""
    return config.station.data_dir / "station.url"


def authority_of(config: Config, key: bytes | None, clock: Clock) -> Authority:
    """Return the station's certificate authority, made once."""
    names = own_hosts(socket.gethostname(), config.api.allowed_hosts)
    folder = config.station.data_dir / "tls"
    return Authority(folder, config.station.id, key, names=names, built_at=RELEASED_AT, clock=clock)


def trust_of(config: Config, authority: Authority) -> Trust:
    """Return what the page of trust shows."""
    return Trust(station=config.station.id, fingerprint=authority.fingerprint, pin=authority.pin, pem=authority.pem)


def operator_token(config: Config) -> str:
    """Return a token of fifteen minutes for the operator on this machine, who can read the database anyway."""
    if not config.database.exists():
        raise ConfigError(f"{config.database}: there is no station here yet; `outpost-station init` makes one")
    secret, key = secret_of(config.database, config.key())
    signer = Signer(derived(secret, "tokens"), f"outpost-station:{config.station.id}", key)
    return signer.access_token(OPERATOR.user_id, "", moments_of(system_clock(), boot_id())())


def operator_tokens(config: Config) -> Callable[[], str]:
    """Return what gives an operator's token whenever one is needed, a fresh one every ten minutes."""
    made: list[tuple[float, str]] = []

    def token() -> str:
        if not made or time.monotonic() - made[-1][0] > TOKEN_REUSED_S:
            made.append((time.monotonic(), operator_token(config)))
        return made[-1][1]

    return token


async def serve(config: Config, *, port: int | None = None, file: Path | None = None) -> None:
    """Run the station until SIGTERM or SIGINT; what was acknowledged is on disk whatever ends it."""
    configure_logging(config.logs.levels)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    async def live() -> None:
        async with running(config, port=port, file=file):
            settle()
            is_up.set()
            await ended.wait()

    is_up = asyncio.Event()
    living, asked = asyncio.create_task(live(), name="station"), asyncio.create_task(ended.wait(), name="ended")
    await asyncio.wait((living, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not is_up.is_set():  # locked, or still starting: there is nothing to wait for
        living.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await living
    log.info("station.stopped")


@contextlib.asynccontextmanager
async def running(config: Config, *, port: int | None = None, file: Path | None = None) -> AsyncIterator[str]:
    """A running station as a context; yields its address. ``file`` is where the configuration was read from."""
    must_wait = is_locked(config)
    key = None if must_wait else config.key()
    config.station.data_dir.mkdir(parents=True, exist_ok=True)
    config.ledger_dir.mkdir(parents=True, exist_ok=True)
    if not config.database.exists() and not must_wait:
        check_key(config.ledger_dir, key)
    clock = _clock(config)
    links = [link_from(spec, now=clock.now) for spec in config.named_links()]
    supervisor, tasks = Supervisor(os.environ), Tasks()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(sole_owner(config.station.data_dir))
        spooled = await _until_unlocked(config, port, links, clock, supervisor, tasks) if must_wait else None
        if spooled is not None:
            key = spooled.key
        healed = await _healed(config, key)
        parts = await assembled(config, key, clock, stack, file=file)
        health = StationHealth(
            clock, parts.store, parts.ledger, parts.decoder, parts.pipeline, links, config.station.data_dir,
            is_encrypted=key is not None, uplink=parts.uplink, backups=parts.backups, healed=healed,
        )  # fmt: skip
        authority = authority_of(config, key, parts.real) if config.api.is_tls else None
        app = _application(config, parts, health, authority)
        # a port that is taken ends the start before anything runs
        listening = listen(config.api.host, config.api.port if port is None else port)
        stack.push_async_callback(parts.decoder.close)
        stack.callback(parts.pipeline.close)
        stack.push_async_callback(tasks.cancel)
        _start_models(parts, tasks)
        before = await _hear(config, parts, links, key, spooled, supervisor, tasks)
        for link in links:
            stack.push_async_callback(link.close)
        if before:
            said = f"{before} frames were heard while the station was locked"
            await parts.accounts.note([Entry(parts.accounts.moments().ms, OPERATOR.user_id, "station.unlocked", said)])
        await _start_rounds(config, parts, health, tasks)
        stack.callback(supervisor.stopping)
        url = await _answer(config, app, listening, authority, stack, tasks)
        stack.callback(parts.hub.close)
        health.has_started = True
        _tell_url(config, url)
        stack.callback(url_file(config).unlink, missing_ok=True)
        supervisor.ready(f"serving {url}")
        log.info("station.ready", url=url, links=len(links), clock=str(clock.state))
        yield url
        if tasks.fallen is not None:
            raise StoreError(f"the station ended because its task {tasks.fallen} fell; see the log")


def _application(config: Config, parts: Parts, health: StationHealth, authority: Authority | None) -> Litestar:
    return create_app(
        parts.store, health=health, events=parts.hub, clock=parts.clock, accounts=parts.accounts, insight=parts.insight,
        alarms=parts.alarms, habitat=parts.habitat, shelf=parts.shelf,
        allowed_hosts=own_hosts(socket.gethostname(), config.api.allowed_hosts),
        trust=None if authority is None else trust_of(config, authority),
        maps=config.station.data_dir / "maps", unread=parts.store.undecoded,
    )  # fmt: skip


def _start_models(parts: Parts, tasks: Tasks) -> None:
    """Let what was heard be decoded, and the models follow it."""
    tasks.start("decode", parts.decoder.run())
    tasks.start("pipeline", parts.pipeline.run())
    tasks.start("habitat", HabitatStage(parts.store, parts.habitat).run())
    tasks.start("advice", parts.advice.run())


async def _hear(
    config: Config,
    parts: Parts,
    links: Sequence[Link],
    key: bytes | None,
    spooled: Unlocked | None,
    supervisor: Supervisor,
    tasks: Tasks,
) -> int:
    """Hear the links, or go on hearing them; return how many frames were heard while the station was locked."""
    if spooled is not None:
        return await _taken_over(config, spooled, parts.ledger, parts.decoder)
    before = await replay(spool_dir(config), key, parts.ledger)
    intake = Intake(parts.ledger, parts.decoder.wake)
    _listen(config, links, intake, parts.clock, tasks)
    tasks.start("heartbeat", supervisor.beat(intake.proof))
    return before


async def _start_rounds(config: Config, parts: Parts, health: StationHealth, tasks: Tasks) -> None:
    """Start what goes on beside hearing and answering: alarms, their delivery, sync, backups, tidying."""
    if isinstance(parts.real, StationClock):
        tasks.start("clock", follow_kernel(parts.real))
    tasks.start("alerts", parts.alarms.run())
    if parts.delivery.ways:
        await parts.delivery.begin()
        tasks.start("notify", parts.delivery.run())
    tasks.start("calibrate", _calibrate(parts.accounts))
    room = Room(
        parts.store, parts.ledger.remove_before, parts.real, consumer=CONSUMER, database=config.database,
        ledger=config.ledger_dir, backups=config.backup_dir,
    )  # fmt: skip
    tasks.start("room", room.run())
    tasks.start("check", _check_later(parts.store, health, mark_of(config.database)))
    if parts.backups.is_enabled:
        tasks.start("backup", parts.backups.run())
    if parts.uplink is not None:
        tasks.start("sync", parts.uplink.run())
    tasks.start("models", parts.shelf.run())  # what a stick brought was chosen by another process
    tasks.start("sweep", sweep_hourly(parts.store, parts.accounts, parts.clock))


async def _answer(
    config: Config,
    app: Litestar,
    listening: socket.socket,
    authority: Authority | None,
    stack: contextlib.AsyncExitStack,
    tasks: Tasks,
) -> str:
    """Serve the API, with TLS where the station has an authority, and be found by name; return the address."""
    lan_port = listening.getsockname()[1]
    if authority is None:
        await stack.enter_async_context(serving(app, listening))
        url = f"http://{_written(config.api.host)}:{lan_port}"
    else:
        url = await _serve_tls(config, app, listening, authority, stack, tasks)
    if config.api.is_announced and config.api.host not in LOOPBACK:
        machine = socket.gethostname().partition(".")[0]
        service = service_of(config.station.id, machine, own_addresses(), lan_port, is_tls=config.api.is_tls)
        tasks.start("discovery", announce(service))
    return url


async def _healed(config: Config, key: bytes | None) -> Healed | None:
    """Leave a schema that an update was gone back from, and set a damaged database aside.

    In threads: who has heard locked hears on meanwhile, and systemd hears of it.
    """
    if os.environ.get(ROLLED_BACK):
        left = await asyncio.to_thread(back_to_schema, config.database, key, new_epoch())
        if left is not None:
            log.critical("update.schema_left", kept=str(left))
    return await asyncio.to_thread(heal, config.database, config.ledger_dir, key, config.backup_dir, epoch=new_epoch)


async def _taken_over(config: Config, spooled: Unlocked, ledger: LedgerWriter, decoder: Decoder) -> int:
    """Take what was heard while the station was locked into the ledger; return how many frames. Hearing goes on."""
    n = await replay(spool_dir(config), spooled.key, ledger, is_open=True)
    spooled.intake.lead_to(ledger, decoder.wake)
    await spooled.writer.close()
    n += await replay(spool_dir(config), spooled.key, ledger)
    decoder.wake()
    return n


async def _serve_tls(
    config: Config,
    app: Litestar,
    listening: socket.socket,
    authority: Authority,
    stack: contextlib.AsyncExitStack,
    tasks: Tasks,
) -> str:
    """Serve the network with TLS and programs of this machine without; return the address for these."""
    lan_port = listening.getsockname()[1]
    own = listen("127.0.0.1", 0)  # commands on this machine need no certificate
    context = authority.context(own_addresses())
    tasks.start("certificate", authority.keep(context))
    await stack.enter_async_context(serving(app, own))
    await stack.enter_async_context(serving(app, listening, context=context, is_second=True))
    if config.api.redirect_port:
        plain = listen(config.api.host, config.api.redirect_port)
        hosts = own_hosts(socket.gethostname(), config.api.allowed_hosts)
        await stack.enter_async_context(serving(redirecting(trust_of(config, authority), lan_port, hosts), plain))
    log.info("tls.serving", url=f"https://{_written(config.api.host)}:{lan_port}", authority=authority.fingerprint)
    return f"http://127.0.0.1:{own.getsockname()[1]}"


def _written(host: str) -> str:
    """Return ``host`` as it stands in an address."""
    return f"[{host}]" if ":" in host else host


class Unlocked(msgspec.Struct, frozen=True):
    """The key that came to a locked station, and where its frames go until the ledger takes them."""

    key: bytes
    writer: LedgerWriter
    intake: Intake


async def _until_unlocked(
    config: Config, port: int | None, links: Sequence[Link], clock: Clock, supervisor: Supervisor, tasks: Tasks
) -> Unlocked:
    """Hear and seal until the key is there; the links go on being heard afterwards."""
    lock = Lock(config)
    async with contextlib.AsyncExitStack() as undo:
        async with hearing(config, port, links, lock) as (url, writer, intake):
            undo.push_async_callback(writer.close)
            for link in links:
                undo.push_async_callback(link.close)
            undo.push_async_callback(tasks.cancel)
            _listen(config, links, intake, clock, tasks)
            tasks.start("heartbeat", supervisor.beat(intake.proof))
            _tell_url(config, url)
            undo.callback(url_file(config).unlink, missing_ok=True)
            supervisor.ready("LOCKED: bring the key")
            key = await lock.key()
        log.info("station.unlocked")
        undo.pop_all()
    return Unlocked(key, writer, intake)


def _listen(config: Config, links: Sequence[Link], intake: Intake, clock: Clock, tasks: Tasks) -> None:
    """Carry what links hear to the intake; receivers of the station's own set its clock."""
    for link in links:
        if link.name in config.clock.gnss_links:
            if isinstance(clock, StationClock):
                tasks.start(link.name, discipline(link, clock))
        else:
            tasks.start(link.name, receive(link, intake, clock, intake.committed))


def _tell_url(config: Config, url: str) -> None:
    fresh = url_file(config).with_suffix(".new")
    fresh.write_text(f"{url}\n", encoding="ascii")
    fresh.replace(url_file(config))  # whole or not at all: others wait for it to appear and read it at once


@contextlib.contextmanager
def sole_owner(data_dir: Path) -> Iterator[None]:
    """Hold the folder against a second station, which would give out the same places in the ledger."""
    with (data_dir / "station.lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"{data_dir}: another station runs on this data") from error
        yield


class Tasks:
    """The station's background tasks. One that falls ends the process: a supervisor starts it again, whole."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        #: the name of the first task that fell
        self.fallen: str | None = None

    def start(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Run ``work`` until it ends or ``cancel`` is called."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._done)
        self._tasks.append(task)

    async def cancel(self) -> None:
        """End every task and wait for it."""
        await end(*self._tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("task.fell", task=task.get_name(), exc_info=error)
            self.fallen = self.fallen or task.get_name()
            signal.raise_signal(signal.SIGTERM)


def _clock(config: Config) -> Clock:
    if config.clock.virtual_start is None:
        return system_clock()
    return VirtualClock(
        config.clock.virtual_start, config.clock.virtual_speed, time.monotonic, config.clock.virtual_origin_s
    )


async def _calibrate(accounts: Accounts) -> None:
    """Let a password take a quarter of a second here; hashes of lower cost are made anew as people log in."""
    time_cost = await asyncio.to_thread(calibrated, time.monotonic)
    if time_cost > accounts.hasher.time_cost:
        accounts.hasher = Hasher(time_cost)


async def _check_later(store: SpatialiteStore, health: StationHealth, mark: Path) -> None:
    await asyncio.sleep(CHECK_AFTER_S)
    try:
        await store.check()
        health.check = "ok"
    except DatabaseCorrupt as error:
        health.check = error.detail
        log.critical("store.corrupt", detail=error.detail)
        with contextlib.suppress(OSError):  # the next start checks every page and brings the newest good copy
            await asyncio.to_thread(mark.touch, mode=0o600)
