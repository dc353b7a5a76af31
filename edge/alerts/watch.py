"""What the engine remembers of one animal from fix to fix, as plain values: kept in the database beside its alerts.

A field that is added later needs a default, so that what an older version kept is still read: an engine that forgot
what it told would tell it again.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from edge.alerts.rules import RuleName
from shared.domain import AlertType, Severity

ActKind = Literal["raise", "change", "clear"]

#: Events of the past that are remembered, to know a late fix's event when it was told already.
MAX_PAST: Final = 256


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """What an alert says. No coordinate stands in ``title`` or ``message``: they may leave by SMS."""

    alert_type: AlertType
    severity: Severity
    title: str
    message: str
    lon_deg: float | None = None
    lat_deg: float | None = None
    zone_id: str | None = None


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Something that goes on: a rule holds for a subject (a zone, another animal; "" where there is none).

    ``rung_level`` is the highest level that rang, ``closed_level`` the highest that a person has closed: neither rings
    again. ``alert_id`` is the alert that is open in this home's eyes.
    """

    rule: RuleName
    subject: str
    began_ms: int
    level: int
    telling: Telling
    alert_id: str | None = None
    is_late: bool = False
    told_level: int = 0
    rung_level: int = 0
    closed_level: int = 0
    clear_since_ms: int | None = None


class Past(msgspec.Struct, frozen=True, array_like=True):
    """An event that is over, and the highest level that it had."""

    rule: RuleName
    subject: str
    began_ms: int
    ended_ms: int
    level: int = 1


class Newest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest fix that was judged. ``is_dated``: its age at arrival is known; ``is_fresh``: and was small."""

    recorded_ms: int
    received_ms: int
    lon_deg: float
    lat_deg: float
    is_dated: bool
    is_fresh: bool


class Stay(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A stay within a small circle; the centre is the mean of its fixes. Seconds are counted as the rule says."""

    since_ms: int
    lon_deg: float
    lat_deg: float
    n: int = 1
    counted_s: float = 0.0


class Flight(msgspec.Struct, frozen=True, kw_only=True):
    """The last sudden flight."""

    began_ms: int
    ended_ms: int
    speed_mps: float


class Run(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Fast steps one after the other; ``steps`` are the class and speed of each, to be learned when it is over."""

    began_ms: int
    ended_ms: int
    metres: float
    steps: list[tuple[str, float]] = []


class Usual(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An animal's usual likelihood of its steps: the mean over the last few, and that mean's own mean and variance."""

    model: str | None = None
    n: int = 0
    last: list[float] = []
    mean: float = 0.0
    variance: float = 0.0


class Inside(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How long an animal has kept to a corridor, and since when and for how many fixes it is outside."""

    name: str
    since_ms: int
    last_ms: int
    n: int = 1
    out_n: int = 0
    out_ms: int | None = None


class BatteryDay(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A day's readings of one collar's battery, in sums."""

    day: int
    n: int = 0
    mv: float = 0.0
    n_pct: int = 0
    pct: float = 0.0


class OfCollar(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is remembered of the collar; another collar begins anew. Lists hold the newest last."""

    collar_id: str | None = None
    #: whether a fix of it ever came soon after it was recorded: what was only imported cannot fall silent
    was_live: bool = False
    intervals_s: list[int] = []
    gaps_s: list[int] = []
    battery: list[BatteryDay] = []
    rssi_dbm: list[float] = []
    #: 1 for a failed attempt, 0 for a position
    attempts: list[int] = []
    #: 1 for an impossible reading of battery or clock
    nonsense: list[int] = []
    #: where the last reception was on an unsure clock: the first sure tick after it
    silent_from_ms: int | None = None


class Watch(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything that is remembered of one animal."""

    animal_id: str
    since_ms: int | None = None
    newest: Newest | None = None
    collar: OfCollar = msgspec.field(default_factory=OfCollar)
    events: dict[str, Event] = {}
    past: list[Past] = []
    #: when a rule last rang about a subject, by "rule|subject"
    rang_ms: dict[str, int] = {}
    #: stays, by the rule that counts them
    stays: dict[str, Stay] = {}
    #: counts of log speeds, by class of interval
    speeds: dict[str, list[int]] = {}
    flight: Flight | None = None
    run: Run | None = None
    n_slow: int = 0
    usual: Usual = msgspec.field(default_factory=Usual)
    corridors: dict[str, Inside] = {}

    @property
    def judged_ms(self) -> int | None:
        """The instant of the newest fix that was judged."""
        return None if self.newest is None else self.newest.recorded_ms

    def open_alerts(self) -> list[str]:
        """Return the ids of the alerts of what goes on."""
        return [event.alert_id for event in self.events.values() if event.alert_id is not None]


_DECODER: Final = msgspec.msgpack.Decoder(Watch)


def packed(watch: Watch) -> bytes:
    """Return a watch as it is kept."""
    return msgspec.msgpack.encode(watch)


def unpacked(body: bytes) -> Watch:
    """Return a watch as it was kept."""
    return _DECODER.decode(body)


def copied(watch: Watch) -> Watch:
    """Return a copy that shares nothing with ``watch``."""
    return unpacked(packed(watch))


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done to an alert: ``raise`` a new one, ``change`` it (it rings again), or ``clear`` it.

    ``columns`` are those of the record, in stored form. ``rings``: somebody should be told now; what is late never is.
    """

    kind: ActKind
    alert_id: str
    rule: RuleName
    columns: dict[str, Any]
    rings: bool
