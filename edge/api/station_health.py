"""What the running station tells of itself."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from edge.api.health import (
    BackupHealth,
    CloudHealth,
    DiskHealth,
    HealthDetail,
    LedgerHealth,
    PipelineHealth,
    Status,
    StoreHealth,
    WaitingHealth,
    clock_health,
)
from edge.ingest.decode import Decoder
from edge.ingest.group_commit import LedgerWriter
from edge.ops.backup_rounds import BackupRounds
from edge.ops.heal import Healed
from edge.pipeline.pipeline import Pipeline
from edge.store import computing, outbox
from edge.store.jobs import run
from edge.store.store import SpatialiteStore
from edge.sync.background import Background
from edge.sync.meter import used_today
from firmware_bridge.frames import Link
from shared.accounts.facts import fact
from shared.accounts.roster import WARN_MS
from shared.accounts.service import ROSTER_TAKEN
from shared.clock import Clock
from shared.sayings import Said, said
from shared.sync.records import from_ms

#: Below the first share of the medium the station warns; below the second number of bytes it is failing.
WARN_SHARE: Final = 0.2
RESERVE_BYTES: Final = 250 * 2**20


class StationHealth:
    """Implements ``HealthSource`` over the parts of one station; ``app`` sets the flags."""

    def __init__(
        self,
        clock: Clock,
        store: SpatialiteStore,
        ledger: LedgerWriter,
        decoder: Decoder,
        pipeline: Pipeline,
        links: Sequence[Link],
        data_dir: Path,
        *,
        is_encrypted: bool,
        uplink: Background | None = None,
        backups: BackupRounds | None = None,
        healed: Healed | None = None,
    ) -> None:
        self._clock = clock
        self._store = store
        self._ledger = ledger
        self._decoder = decoder
        self._pipeline = pipeline
        self._links = links
        self._data_dir = data_dir
        self._is_encrypted = is_encrypted
        self._uplink = uplink
        self._backups = backups
        self._healed = healed
        self._started_s = clock.monotonic()
        self.has_started = False
        #: result of the last integrity check; None before the first
        self.check: str | None = None

    def is_ready(self) -> bool:
        """Say whether the station takes frames and answers reads."""
        return self.has_started

    def status(self) -> Status:
        """Sum up in a word."""
        return self._judge()[0]

    async def detail(self) -> HealthDetail:
        """Return everything."""
        status, reasons = self._judge()
        cloud = await self._cloud()
        if cloud.roster_age_s is not None and cloud.roster_age_s * 1000 > WARN_MS:
            reasons.append(said("fault.roster", days=f"{cloud.roster_age_s / 86_400:.0f}"))
            status = "degraded" if status == "ok" else status
        kept = await self._store.facts()
        heard = await self._ledger.facts()
        usage = shutil.disk_usage(self._data_dir)
        return HealthDetail(
            status=status,
            reasons=[each.text for each in reasons],
            said=reasons,
            version=version("outpost"),
            uptime_s=round(self._clock.monotonic() - self._started_s, 1),
            clock=clock_health(self._clock),
            disk=DiskHealth(path=str(self._data_dir), free_bytes=usage.free, total_bytes=usage.total),
            ledger=LedgerHealth(
                frames=heard.frames,
                pending=max(heard.last_seq - self._decoder.position, 0),
                undecoded=kept.undecoded,
            ),
            store=StoreHealth(
                schema=kept.schema,
                fixes=kept.fixes,
                animals=kept.animals,
                size_bytes=kept.size_bytes + heard.size_bytes,
                is_encrypted=self._is_encrypted,
                check=self.check,
            ),
            links=[link.status for link in self._links],
            pipeline=PipelineHealth(
                owed=await self._store.read(computing.count_due), refused=dict(self._pipeline.refused)
            ),
            cloud=cloud,
            backup=None if self._backups is None else _backup(self._backups),
        )

    async def _cloud(self) -> CloudHealth:
        backlog = await self._store.read(outbox.backlog)
        here = backlog.enrolment
        receipt_ms = None if here is None else here.last_receipt_ms
        receipt_at = None if receipt_ms is None else from_ms(receipt_ms)
        age_s = None if receipt_at is None else round((self._clock.now() - receipt_at).total_seconds(), 1)
        taken = await self._store.read(lambda db: run(db, fact(ROSTER_TAKEN)))
        taken_at = None if taken is None else from_ms(int(taken))
        is_sure = self._clock.state.is_sure
        profile = None if self._uplink is None else self._uplink.profile
        return CloudHealth(
            is_enabled=self._uplink is not None,
            url=None if here is None else here.url,
            station_id=None if here is None else here.station_id,
            last_receipt_at=receipt_at,
            last_receipt_age_s=age_s,
            waiting={
                channel: WaitingHealth(
                    items=waiting.items, oldest_at=None if waiting.oldest_ms is None else from_ms(waiting.oldest_ms)
                )
                for channel, waiting in backlog.channels.items()
            },
            unsendable=backlog.unsendable,
            held=backlog.held,
            profile=None if profile is None else profile.name,
            bytes_a_day=None if profile is None else profile.bytes_a_day,
            bytes_today=0 if profile is None else await self._store.read(lambda db: used_today(db, profile.name)),
            last_error=None if self._uplink is None else self._uplink.last_error,
            roster_taken_at=taken_at,
            roster_age_s=(self._clock.now() - taken_at).total_seconds() if taken_at is not None and is_sure else None,
        )

    def _judge(self) -> tuple[Status, list[Said]]:
        failing: list[Said] = []
        degraded: list[Said] = []
        usage = shutil.disk_usage(self._data_dir)
        if usage.free < RESERVE_BYTES:
            failing.append(said("fault.disk_low", mib=usage.free // 2**20))
        elif usage.free < usage.total * WARN_SHARE:
            degraded.append(said("fault.disk_full", used=100 - 100 * usage.free // usage.total))
        degraded += [said("fault.segment_closed", name=path.name) for path in self._ledger.set_aside]
        degraded += [
            said("fault.segment_damaged", name=path.name, reason=reason)
            for path, reason in self._decoder.damaged.items()
        ]
        if self._ledger.refusal is not None:
            failing.append(said("fault.ledger", reason=self._ledger.refusal))
        if self.check not in (None, "ok"):
            failing.append(said("fault.database", reason=self.check))
        if not self._clock.state.is_sure:
            degraded.append(said("fault.clock", clock=self._clock.state))
        degraded += [
            said("fault.link", link=link.name, reason=link.status.last_error)
            for link in self._links
            if not link.status.is_up
        ]
        degraded += [
            said("fault.model", model=model, reason=reason) for model, reason in self._pipeline.refused.items()
        ]
        degraded += self._of_backups()
        if failing:
            return "failing", failing + degraded
        return ("degraded", degraded) if degraded else ("ok", [])

    def _of_backups(self) -> list[Said]:
        found = []
        if self._healed is not None and self._healed.kept is None:
            found.append(said("fault.healed_in_use", reason=self._healed.reason))
        elif self._healed is not None and self._healed.kept is not None:
            found.append(said("fault.healed", reason=self._healed.reason, name=self._healed.kept.name))
        if self._backups is not None and self._backups.last_error is not None:
            found.append(said("fault.backup", reason=self._backups.last_error))
        elif self._backups is not None and self._backups.is_late:
            found.append(said("fault.backup_late"))
        return found


def _backup(rounds: BackupRounds) -> BackupHealth:
    return BackupHealth(
        path=str(rounds.folder), is_enabled=rounds.is_enabled, is_on_the_same_medium=rounds.is_on_the_same_medium,
        last_hourly_at=rounds.last_hourly_at, last_daily_at=rounds.last_daily_at, last_error=rounds.last_error,
    )  # fmt: skip
