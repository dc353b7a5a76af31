"""What a station is made of: opened and joined to one another. ``app`` lets them run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
import structlog

from edge.alerts.engine import Engine
from edge.alerts.keeper import Keeper
from edge.api.events import EventHub
from edge.config import Config
from edge.ingest.decode import CONSUMER, Decoder
from edge.ingest.group_commit import LedgerWriter
from edge.notify.delivery import Delivery
from edge.notify.targets import check_targets
from edge.ops import update as updates
from edge.ops.backup import Source
from edge.ops.backup_rounds import BackupRounds
from edge.ops.system_clock import system_clock
from edge.pipeline.advice import AdviceStage
from edge.pipeline.alarms import AlarmJudge
from edge.pipeline.insight import KeptInsight
from edge.pipeline.lookout import Lookout
from edge.pipeline.pipeline import Pipeline
from edge.store.accounts import SqliteTables
from edge.store.fixes import StoredFix
from edge.store.home_secret import known_secret
from edge.store.ledger import Ledger, LedgerReader
from edge.store.spool import keep_public
from edge.store.store import SpatialiteStore
from edge.sync.audit_up import tell_audit
from edge.sync.background import Background
from edge.sync.client import CloudClient
from edge.sync.frames import Frames
from edge.sync.people import exchange
from edge.sync.profiles import profile_of
from edge.sync.releases import Fetching, take_release
from edge.sync.shelf import take_models
from models.artifact import PACKAGED
from models.live.advice import Advisor
from models.live.habitat import MappedHabitat
from models.live.runtime import Models
from models.live.shelf import HomeShelf, folder_of
from shared.accounts.moments import moments_of, sure_ms
from shared.accounts.service import Accounts
from shared.clock import Clock, StationClock
from shared.configuration import boot_id
from shared.errors import ConfigError
from shared.ids import id_text
from shared.sync.records import from_ms, to_ms
from shared.wire.events import Moved, Told

log = structlog.get_logger()


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """One station. ``clock`` is that of its data, which a replay sets; ``real`` is the machine's."""

    clock: Clock
    real: Clock
    hub: EventHub
    store: SpatialiteStore
    ledger: LedgerWriter
    decoder: Decoder
    pipeline: Pipeline
    alarms: Keeper
    delivery: Delivery
    accounts: Accounts
    habitat: MappedHabitat
    advice: AdviceStage
    insight: KeptInsight
    shelf: HomeShelf
    uplink: Background | None
    backups: BackupRounds


async def assembled(
    config: Config, key: bytes | None, clock: Clock, stack: contextlib.AsyncExitStack, *, file: Path | None = None
) -> Parts:
    """Return the parts of the station; ``stack`` closes what they hold open. ``file`` is the configuration's."""
    hub, models, advisor = EventHub(), Models(), Advisor()

    def stored(fixes: Sequence[StoredFix]) -> None:
        _announce(hub, fixes)
        pipeline.wake()

    def rung(told: Told) -> None:
        hub.publish("alert", told)
        delivery.wake()

    store = await asyncio.to_thread(SpatialiteStore, config.database, key, now=clock.now, stored=stored)
    stack.push_async_callback(store.close)
    ledger = await _ledger(config, key, store, stack)
    decoder = Decoder(LedgerReader(config.ledger_dir, key), store, stored)
    alarms = Keeper(store, Engine(config.rule_book()), clock, rung)
    pipeline = Pipeline(
        store, models, hub.publish, judge=AlarmJudge(alarms), lookout=Lookout(models),
        is_behind=lambda: decoder.is_behind,
    )  # fmt: skip
    real = clock if isinstance(clock, StationClock) else system_clock()
    accounts = await accounts_of(config, store, real, seen_by=clock)
    delivery = _delivery(config, store, real)
    habitat = MappedHabitat(config.maps_dir)
    stack.callback(habitat.close)
    advice = AdviceStage(store, advisor, clock, habitat)
    stack.callback(advice.close)
    shelf = HomeShelf(
        accounts.tables, config.station.data_dir / "models", publishers=config.models.publishers,
        forced=config.models.forced, now_ms=lambda: to_ms(clock.now()),
    )  # fmt: skip

    async def take(folder: Path) -> None:
        habitat.turn_to(folder)
        await pipeline.take(folder)
        await advice.take(folder)

    for each in (models, advisor, habitat):
        each.turn_to(await folder_of(shelf, PACKAGED))
    shelf.follow(take)
    return Parts(
        clock=clock, real=real, hub=hub, store=store, ledger=ledger, decoder=decoder, pipeline=pipeline, alarms=alarms,
        delivery=delivery, accounts=accounts, habitat=habitat, advice=advice, shelf=shelf,
        insight=KeptInsight(store, models, pipeline.occurrence, clock, habitat, advisor),
        uplink=_uplink(config, key, store, clock, accounts, shelf) if config.cloud.is_enabled else None,
        backups=_backups(config, file, key, real),
    )  # fmt: skip


async def accounts_of(
    config: Config, store: SpatialiteStore, clock: Clock, *, seen_by: Clock | None = None
) -> Accounts:
    """Return the accounts of the station; ``clock`` is a real one, ``seen_by`` that of the data (a replay's)."""
    tables = SqliteTables(store)
    seen = clock if seen_by is None else seen_by
    accounts = Accounts(
        tables, home="station", name=config.station.id, secret=await tables.read(known_secret()),
        moments=moments_of(clock, boot_id()), now_ms=lambda: sure_ms(seen), species=config.species(),
        fields=store.fields,
    )  # fmt: skip
    await accounts.use_keys()
    return accounts


def backed_up(config: Config, file: Path | None, key: bytes | None) -> Source:
    """Return what a backup of this station holds; ``file`` is the configuration's."""
    beside = {"tls/authority.pem": config.station.data_dir / "tls" / "authority.pem"}
    if config.store.is_encrypted and config.store.key_file.exists():
        beside["station.key"] = config.store.key_file
    if file is not None:
        beside["station.toml"] = file
    return Source(
        station=config.station.id, database=config.database, ledger=config.ledger_dir, key=key,
        recovery_public=config.backup.recovery_public, beside=beside,
    )  # fmt: skip


async def _ledger(
    config: Config, key: bytes | None, store: SpatialiteStore, stack: contextlib.AsyncExitStack
) -> LedgerWriter:
    """Open the ledger, and say what of it was found damaged or lost."""
    frames = Ledger(config.ledger_dir, key, boot=secrets.token_hex(8), is_key_proven=True)
    ledger = LedgerWriter(frames)
    stack.push_async_callback(ledger.close)
    for aside in ledger.set_aside:
        log.error("ledger.set_aside", file=str(aside))
    keep_public(config.station.data_dir, key)
    if frames.go_on_after(decoded := await store.cursor(CONSUMER)):
        log.error("ledger.lost_its_end", decoded_seq=decoded)
    return ledger


def _delivery(config: Config, store: SpatialiteStore, clock: Clock) -> Delivery:
    notify = config.notify
    if bool(notify.sms_outbox) != bool(notify.sms_to):
        raise ConfigError("notify.sms_outbox, notify.sms_to: an outbox needs numbers and numbers an outbox")
    if notify.targets:
        check_targets(notify.targets)
    return Delivery(
        store, clock, config.station.id, severity=notify.severity,
        sms_outbox=Path(notify.sms_outbox) if notify.sms_outbox else None, sms_to=notify.sms_to,
        targets=notify.targets, language=notify.language,
    )  # fmt: skip


def _uplink(
    config: Config, key: bytes | None, store: SpatialiteStore, clock: Clock, accounts: Accounts, shelf: HomeShelf
) -> Background:
    section, architecture = config.update, updates.this_architecture()
    news = functools.partial(updates.wants, section.dir, running=version("outpost"), architecture=architecture)
    fetching = Fetching(inbox=section.inbox, public_keys=section.public_keys, architecture=architecture, is_news=news)
    return Background(
        store,
        lambda here: CloudClient(here.url, here.station_id, here.private_key, now=clock.now),
        clock,
        config.station.data_dir,
        interval_s=config.cloud.interval_s,
        batch_fixes=config.cloud.batch_fixes,
        profile=profile_of(
            config.cloud.profile, config.cloud.bytes_a_day, config.cloud.windows, frames=config.cloud.frames
        ),
        frames=Frames(config.ledger_dir, key),
        people=lambda cloud, here: exchange(cloud, here, accounts),
        audit=lambda cloud, here, meter: tell_audit(cloud, here, accounts, meter),
        models=lambda cloud, here, meter: take_models(cloud, here, accounts, shelf, meter),
        release=(lambda cloud, meter: take_release(cloud, meter, fetching)) if config.update.is_fetched else None,
    )


def _backups(config: Config, file: Path | None, key: bytes | None, clock: Clock) -> BackupRounds:
    return BackupRounds(
        backed_up(config, file, key), config.backup_dir, clock, hourly_kept=config.backup.hourly_kept,
        daily_kept=config.backup.daily_kept, is_enabled=config.backup.is_enabled,
    )  # fmt: skip


def _announce(hub: EventHub, fixes: Sequence[StoredFix]) -> None:
    if not hub.listeners:
        hub.pass_over(sum(fix.outcome == "new" for fix in fixes))
        return
    for fix in fixes:
        if fix.outcome == "new":
            moved = Moved(
                id=id_text(fix.id), collar_id=fix.collar_id, animal=fix.animal_id,
                recorded_at=from_ms(fix.recorded_ms), received_at=from_ms(fix.received_ms),
                lon=None if fix.lon_e7 is None else fix.lon_e7 / 1e7,
                lat=None if fix.lat_e7 is None else fix.lat_e7 / 1e7,
                flags=fix.flags, battery_mv=fix.battery_mv, link=fix.link,
            )  # fmt: skip
            hub.publish("fix", moved)
