"""Which alarms leave, to whom, and once: a cursor for each way, moved after the message is handed over.

Alerts are numbered in the order in which they were raised. An alarm that is late, closed already, or less grave than
asked for is passed over. A way that fails keeps its cursor and is tried again, later and later; the other goes on. A
kill between message and cursor repeats one message: better twice than never. No text has a position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import structlog

from edge.notify import targets as services
from edge.notify.sms import write_message
from edge.store.driver import Connection
from edge.store.jobs import run
from edge.store.store import SpatialiteStore
from shared.accounts.facts import fact, set_fact
from shared.clock import Clock
from shared.errors import LinkError, OutpostError, StoreError
from shared.sayings import Language, in_words, said, words_of
from shared.sync.records import from_ms

log = structlog.get_logger()

SEVERITIES: Final = ("low", "medium", "high", "critical")
LOOK_S: Final = 30.0
_LONGEST_WAIT_S: Final = 900.0
#: A storm of alarms must not empty the card: beyond so many in an hour of the monotonic clock one message says so.
MOST_AN_HOUR: Final = 20
_HOUR_S: Final = 3_600.0


class Alarm(msgspec.Struct, frozen=True):
    """An alert as it is told."""

    pk: int
    id: str
    title: str
    severity: str
    detected_ms: int


class Way(msgspec.Struct, kw_only=True):
    """One way out: its name, what hands an alarm over, and how it fares."""

    name: str
    hand_over: Callable[[Alarm, str], Awaitable[None]]
    #: that an alarm may have been raised since its last turn; its own, so that no other way's turn takes it away
    news: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    wait_s: float = LOOK_S
    told_s: list[float] = []
    last_error: str | None = None


class Delivery:
    """Carries alarms out of the store."""

    def __init__(
        self, store: SpatialiteStore, clock: Clock, station: str, *, severity: str, sms_outbox: Path | None,
        sms_to: Sequence[str], targets: Sequence[str], language: Language = "en",
    ) -> None:  # fmt: skip
        self._store = store
        self._clock = clock
        self._station = station
        self._least = SEVERITIES.index(severity)
        self._outbox = sms_outbox
        self._numbers = tuple(sms_to)
        self._targets = tuple(targets)
        self._words = words_of(language)
        self.ways: list[Way] = []
        if sms_outbox is not None:
            self.ways.append(Way(name="sms", hand_over=self._sms))
        if targets:
            self.ways.append(Way(name="targets", hand_over=self._tell_targets))

    def wake(self) -> None:
        """Say that an alarm may have been raised."""
        for way in self.ways:
            way.news.set()

    async def run(self) -> None:
        """Carry alarms out, for ever."""
        await asyncio.gather(*(self._follow(way) for way in self.ways))

    async def _follow(self, way: Way) -> None:
        while True:
            way.news.clear()
            await self.turn(way)
            try:
                async with asyncio.timeout(way.wait_s):
                    await way.news.wait()
            except TimeoutError:
                continue
            if way.last_error is not None:  # news are no reason to hurry a way that fails
                await asyncio.sleep(way.wait_s)

    async def turn(self, way: Way) -> int:
        """Hand over what is new to a way; return how many alarms."""
        done = 0
        try:
            for alarm in await self._store.read(lambda db: _new(db, way.name)):
                if SEVERITIES.index(alarm.severity) >= self._least and (text := self._text(way, alarm)) is not None:
                    await way.hand_over(alarm, text)
                    done += 1
                await self._store.write(lambda db, pk=alarm.pk: run(db, set_fact(_cursor(way.name), str(pk))))  # type: ignore[misc]
        except (StoreError, LinkError) as error:
            way.wait_s = min(way.wait_s * 2, _LONGEST_WAIT_S)
            if way.last_error != error.detail:
                log.error("notify.failed", way=way.name, detail=error.detail)
            way.last_error = error.detail
        else:
            way.wait_s, way.last_error = LOOK_S, None
        return done

    async def begin(self) -> None:
        """Leave out what was raised before a way was configured: nobody wants the season's alarms at once."""
        for way in self.ways:
            await self._store.write(lambda db, name=way.name: _begin(db, name))  # type: ignore[misc]

    def _text(self, way: Way, alarm: Alarm) -> str | None:
        """Return what is said of an alarm; None where the hour's share is used up."""
        now_s = self._clock.monotonic()
        way.told_s = [each for each in way.told_s if now_s - each < _HOUR_S]
        if len(way.told_s) > MOST_AN_HOUR:
            return None
        way.told_s.append(now_s)
        if len(way.told_s) > MOST_AN_HOUR:
            return said("message.many", station=self._station).within(self._words)
        at: datetime = from_ms(alarm.detected_ms)
        title = in_words(self._words, "alarm", alarm.title)
        severity = self._words[f"severity.{alarm.severity}"].lower()
        told = said("message.alarm", station=self._station, title=title, severity=severity, at=f"{at:%H:%M}")
        return told.within(self._words)

    async def _sms(self, alarm: Alarm, text: str) -> None:
        outbox = self._outbox
        assert outbox is not None
        for serial, number in enumerate(self._numbers):
            await asyncio.to_thread(
                write_message, outbox, number, text, severity=alarm.severity, serial=serial,
                at=from_ms(alarm.detected_ms), note=alarm.id.replace("_", "-"),
            )  # fmt: skip

    async def _tell_targets(self, alarm: Alarm, text: str) -> None:
        try:
            await asyncio.to_thread(services.send, self._targets, f"Outpost {self._station}", text)
        except OutpostError:
            raise
        except Exception as error:  # a library of a hundred services: whatever it raises, the alarm waits
            raise LinkError(f"notify.targets: {type(error).__name__}") from error


def _cursor(way: str) -> str:
    return f"notify.{way}"


def _begin(db: Connection, way: str) -> None:
    if run(db, fact(_cursor(way))) is None:
        (newest,) = db.execute("SELECT coalesce(max(pk), 0) FROM alerts").fetchone()
        run(db, set_fact(_cursor(way), str(newest)))


def _new(db: Connection, way: str) -> list[Alarm]:
    after = int(run(db, fact(_cursor(way))) or 0)
    rows = db.execute(
        "SELECT pk, id, title, severity, detected_ms FROM alerts WHERE pk > ? AND is_late = 0 AND status = 'active'"
        " AND deleted_ms IS NULL ORDER BY pk LIMIT 100",
        (after,),
    ).fetchall()
    return [Alarm(*row) for row in rows]
