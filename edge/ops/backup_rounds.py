"""Backups from time to time while the station runs, each in a process of its own.

One that fails is said on the health page and tried again.
"""

from __future__ import annotations

import asyncio
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import structlog

from edge.ops.archive import SUFFIX
from edge.ops.aside import done_aside, step_back
from edge.ops.backup import Made, Source, daily, hourly, newest
from shared.clock import Clock
from shared.errors import StoreError

log = structlog.get_logger()

#: A station that has just started has something better to do.
FIRST_AFTER_S: Final = 600.0
HOUR_S: Final = 3_600.0
_DAY: Final = timedelta(hours=24)
#: So late a copy of every hour has certainly failed.
LATE: Final = timedelta(hours=3)


class BackupRounds:
    """Makes a copy every hour and an archive every day; an unsure clock makes archives by its own running time only."""

    def __init__(
        self, source: Source, folder: Path, clock: Clock, *, hourly_kept: int, daily_kept: int, is_enabled: bool
    ) -> None:
        self._source = source
        self.folder = folder
        self._clock = clock
        self._hourly_kept = hourly_kept
        self._daily_kept = daily_kept
        self.is_enabled = is_enabled
        self._last_daily_s = clock.monotonic()
        self._started_s = clock.monotonic()
        #: why the last round failed; None where it did not
        self.last_error: str | None = None

    async def run(self) -> None:
        """Make backups until cancelled."""
        await asyncio.sleep(FIRST_AFTER_S)
        while True:
            await self.turn()
            await asyncio.sleep(HOUR_S)

    async def turn(self) -> Made | None:
        """Make the backup that is due; None where it failed."""
        is_daily = self._is_daily_due()
        is_sealed = is_daily and (self._source.key is not None or bool(self._source.recovery_public))
        kept = self._daily_kept if is_sealed else self._hourly_kept
        try:
            made = await done_aside(_made, self._source, self.folder, self._clock.now(), kept, is_sealed)
        except BrokenProcessPool:
            made = Failed(code=StoreError.code, detail="the process that made the backup was ended")
        if isinstance(made, Failed):
            log.error("backup.failed", is_daily=is_daily, code=made.code, detail=made.detail)
            self.last_error = made.detail
            return None
        if is_daily:
            self._last_daily_s = self._clock.monotonic()
        self.last_error = None
        log.info("backup.made", is_daily=is_daily, file=str(made.path), size_bytes=made.size_bytes, rows=made.rows)
        return made

    @property
    def last_hourly_at(self) -> datetime | None:
        """When the newest copy was made."""
        return _made_at(self.folder / "hourly")

    @property
    def last_daily_at(self) -> datetime | None:
        """When the newest archive was made."""
        return _made_at(self.folder / "daily")

    @property
    def is_late(self) -> bool:
        """Say whether copies should have been made and were not, as far as the clock can tell."""
        if not self.is_enabled or self._clock.monotonic() - self._started_s < LATE.total_seconds():
            return False
        last = self.last_hourly_at
        return last is None or (self._clock.state.is_sure and self._clock.now() - last > LATE)

    @property
    def is_on_the_same_medium(self) -> bool:
        """Say whether the backups die with the card that they are a backup of."""
        try:
            return self.folder.stat().st_dev == self._source.database.stat().st_dev
        except OSError:
            return False

    def _is_daily_due(self) -> bool:
        if self._clock.state.is_sure:
            last = self.last_daily_at
            return last is None or self._clock.now() - last >= _DAY
        return self._clock.monotonic() - self._last_daily_s >= _DAY.total_seconds()


class Failed(msgspec.Struct, frozen=True):
    """Why there is no backup; exceptions do not travel between processes."""

    code: str
    detail: str


def _made(source: Source, folder: Path, now: datetime, kept: int, is_sealed: bool) -> Made | Failed:
    """Make a copy, or an archive where it is sealed."""
    try:
        make = daily if is_sealed else hourly
        # While a log is held every turn that is given away lets it grow.
        return make(source, folder, now, kept=kept, then=step_back)
    except StoreError as error:
        return Failed(error.code, error.detail)


def _made_at(folder: Path) -> datetime | None:
    for path in newest(folder):
        return datetime.strptime(path.name.removesuffix(SUFFIX).partition("-")[2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return None
