"""Fixes for tests of the alarms: an elephant that walks along a line, minutes from the same noon on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from edge.alerts.engine import Engine
from edge.alerts.rules import RuleBook, rule_book
from edge.alerts.seen import Moment, Mute, Seen, Subject
from edge.alerts.watch import Act, Watch
from shared.clock import ClockState
from shared.movement.areas import Nearby
from shared.sync.records import to_ms
from tests.fakes import START

NOON_MS = to_ms(START)
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
ALPHA = Subject(animal_id="alpha", name="Alpha", species="elephant", collar_id="C1")
_DEGREE_M = 111_195.0


def fix(minute: float, east_m: float = 0.0, **said: Any) -> Seen:
    """Return a fix that was received as it was recorded, ``east_m`` along the line, unless told otherwise."""
    at_ms = NOON_MS + round(minute * MINUTE_MS)
    return Seen(
        **{
            "recorded_ms": at_ms, "received_ms": at_ms + 1000, "lat_deg": -2.0,
            "lon_deg": 37.0 + east_m / (_DEGREE_M * math.cos(math.radians(2.0))), **said,
        }
    )  # fmt: skip


def late(seen: Seen, hours: float) -> Seen:
    """Return the same fix as it comes ``hours`` later."""
    return msgspec.structs.replace(seen, received_ms=seen.received_ms + round(hours * HOUR_MS))


def farm(distance_m: float, **said: Any) -> Nearby:
    """Return a farm at that distance, negative inside, with a buffer of a kilometre."""
    return Nearby(
        **{
            "kind": "zone", "id": "farm", "name": "the farm", "distance_m": max(0.0, distance_m),
            "is_inside": distance_m <= 0, "zone_type": "agriculture", "risk_level": "high", "buffer_m": 1000.0, **said,
        }
    )  # fmt: skip


def by_farm(minute: float, distance_m: float, **said: Any) -> Seen:
    """Return a fix at that distance from the farm; farther than 2 km nobody lists it."""
    return fix(minute, distance_m, nearby=(farm(distance_m),) if distance_m < 2000 else (), **said)


class Station:
    """The engine with the watch of one animal, and everything that it did."""

    def __init__(self, subject: Subject = ALPHA, *layers: dict[str, Any]) -> None:
        self.engine = Engine(rule_book(*layers) if layers else RuleBook())
        self.subject = subject
        self.watch = Watch(animal_id=subject.animal_id)
        self.mutes: tuple[Mute, ...] = ()
        self.acts: list[Act] = []

    def hears(self, *seen: Seen) -> list[Act]:
        """Judge fixes; return what was done."""
        self.watch, acts = self.engine.judge(self.watch, self.subject, seen, self.mutes)
        self.acts += acts
        return acts

    def finds_late(self, *stretch: Seen) -> list[Act]:
        """Judge a stretch of the past."""
        self.watch, acts = self.engine.judge_late(self.watch, self.subject, stretch)
        self.acts += acts
        return acts

    def ticks(self, minute: float, state: ClockState = ClockState.NTP, **said: Any) -> list[Act]:
        """Judge what time alone brings."""
        now_ms = NOON_MS + round(minute * MINUTE_MS)
        moment = Moment(now_ms=now_ms, is_clock_sure=state.is_sure, **said)
        self.watch, acts = self.engine.tick(self.watch, self.subject, moment, self.mutes)
        self.acts += acts
        return acts

    def ticks_through(self, begin: int, end: int) -> list[Act]:
        """Tick every ten minutes."""
        return [act for minute in range(begin, end, 10) for act in self.ticks(minute)]


def told(acts: Iterable[Act]) -> list[tuple[str, str | None]]:
    """Return what was done to alerts, and to which type where that is said."""
    return [(act.kind, act.columns.get("alert_type")) for act in acts]


def rung(acts: Iterable[Act]) -> list[Act]:
    """Return what somebody was told aloud."""
    return [act for act in acts if act.rings]


def of_rule(acts: Sequence[Act], rule: str) -> list[Act]:
    """Return the acts of one rule."""
    return [act for act in acts if act.rule == rule]
