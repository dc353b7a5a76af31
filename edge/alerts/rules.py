"""The table of rules: every number of every rule, by what kind of animal it is for.

A rule's numbers are a struct; ``TABLE`` says what a kind of animal has otherwise. ``[alerts.rules]`` of the
configuration, or a file of its own, changes any of them::

    [stationary_too_long]            # for every animal
    hours = 7.0
    [stationary_too_long.elephant]   # for elephants alone
    radius_m = 60.0
    [rapid_movement.schedule]        # it rings only then
    timezone = "Africa/Nairobi"
    begins = "18:00"
    ends = "06:00"

Where numbers come from is told in README.md, with what they do on real animals.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from edge.alerts.schedule import Schedule
from shared.domain import ZoneType
from shared.errors import ConfigError
from shared.movement.kinds import Category, category_of

RuleName = Literal[
    "zone_entry", "zone_ahead", "corridor_exit", "stationary_too_long", "poaching_risk", "rapid_movement",
    "unusual_behavior", "proximity", "silent_collar", "low_battery", "weak_signal", "collar_fault",
]  # fmt: skip

RULES: Final[tuple[RuleName, ...]] = get_args(RuleName)
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)

Hours = Annotated[float, msgspec.Meta(gt=0, le=24 * 365)]
Days = Annotated[float, msgspec.Meta(ge=0, le=3650)]
Metres = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Speed = Annotated[float, msgspec.Meta(gt=0, le=60)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Factor = Annotated[float, msgspec.Meta(gt=0, le=1e4)]


class Numbers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every rule has."""

    #: whether the rule is judged at all
    is_on: bool = True
    #: the same rule about the same thing is quiet for this long after it rang
    repeat_days: Days = 0.0


class ZoneEntry(Numbers, frozen=True, kw_only=True):
    """``high_risk_zone`` inside a zone, ``zone_warning`` inside its buffer; one event, which may rise."""

    #: kinds of zone that ring at all; an animal in a protected area is where it should be
    zone_types: tuple[ZoneType, ...] = ("agriculture", "settlement", "road", "infrastructure", "buffer_zone")
    #: kinds of zone of which the inside is a warning as well
    warning_types: tuple[ZoneType, ...] = ("buffer_zone",)
    #: how far outside it has left; twice the error that the fix admits, where that is more
    margin_m: Metres = 50.0
    #: for how long it must have stayed outside
    clear_hours: Hours = 0.5


class ZoneAhead(Numbers, frozen=True, kw_only=True):
    """``zone_warning`` before an animal is there: its forecast puts it into a zone soon enough and surely enough."""

    repeat_days: Days = 0.5
    zone_types: tuple[ZoneType, ...] = ("agriculture", "settlement", "road", "infrastructure", "buffer_zone")
    #: the chance that it is inside at one of the horizons of the next ``hours``
    chance: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    hours: Hours = 12.0
    #: below this at all of them, for so long: over
    clear_chance: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    clear_hours: Hours = 2.0


class CorridorExit(Numbers, frozen=True, kw_only=True):
    """An animal that kept to an active corridor for its species leaves it."""

    repeat_days: Days = 7.0
    #: how far outside it has left
    margin_m: Metres = 500.0
    #: how long and with how many fixes it was inside before
    inside_hours: Hours = 6.0
    inside_fixes: Count = 4
    #: fixes outside, one after the other
    exit_fixes: Count = 2
    #: back inside for this long, or away for ``away_hours``: over
    clear_hours: Hours = 0.5
    away_hours: Hours = 24.0


class StationaryTooLong(Numbers, frozen=True, kw_only=True):
    """It has not left a small circle for longer than its kind rests."""

    radius_m: Metres = 50.0
    #: waking hours: those of sleep count ``sleep_weight``
    hours: Hours = 6.0
    #: what an hour counts between ``sleep_from`` and ``sleep_to`` of local solar time
    sleep_weight: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    sleep_from: Annotated[float, msgspec.Meta(ge=0, lt=24)] = 22.0
    sleep_to: Annotated[float, msgspec.Meta(ge=0, lt=24)] = 6.0
    #: what a step counts of which the model is sure that the animal was not resting
    busy_weight: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    #: of a gap between two fixes no more than this counts
    max_gap_hours: Hours = 4.0
    #: it moves again beyond this many radii
    clear_radii: Factor = 2.0


class PoachingRisk(Numbers, frozen=True, kw_only=True):
    """Sudden flight and then stillness, or a collar that falls silent in flight."""

    #: a flight: a step at this speed or more, and above all but ``flight_share`` of its own
    flight_mps: Speed = 1.0
    flight_share: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.01
    #: the stillness begins this soon after it ...
    within_hours: Hours = 1.5
    radius_m: Metres = 40.0
    #: ... and lasts for so many hours, every hour counted in full
    still_hours: Hours = 4.0
    max_gap_hours: Hours = 4.0
    clear_radii: Factor = 3.0
    #: or silence follows it: so many usual intervals, or times the longest gaps, at least so long
    silent_intervals: Factor = 4.0
    silent_hours: Hours = 2.0
    silent_gap_factor: Factor = 1.5
    repeat_days: Days = 1.0


class RapidMovement(Numbers, frozen=True, kw_only=True):
    """It has moved faster, for longer, than its kind and itself do."""

    repeat_days: Days = 1.0
    speed_mps: Speed = 1.4
    minutes: Annotated[float, msgspec.Meta(ge=0, le=1440)] = 40.0
    #: and faster than this many times its own fastest thousandth
    own_factor: Factor = 1.1
    #: over when slower than this share of it for ``clear_fixes``
    clear_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.6
    clear_fixes: Count = 2
    max_gap_hours: Hours = 4.0


class UnusualBehavior(Numbers, frozen=True, kw_only=True):
    """Its steps have become far less likely, under the model of its kind, than its own usually are."""

    repeat_days: Days = 14.0
    #: steps over which the likelihood is averaged, and those known before it is judged
    window_steps: Count = 12
    learn_steps: Count = 500
    #: spreads below its own mean at which it rings, and at which it is over
    spreads: Factor = 3.5
    clear_spreads: Factor = 1.5


class Proximity(Numbers, frozen=True, kw_only=True):
    """It is near another animal of a configured pair, or near rangers."""

    repeat_days: Days = 0.25
    #: whom it is dangerous or worrying to be near: categories, species, or "ranger"
    others: tuple[str, ...] = ()
    distance_m: Metres = 300.0
    clear_factor: Factor = 1.5
    clear_hours: Hours = 0.5


class SilentCollar(Numbers, frozen=True, kw_only=True):
    """The collar has not been heard for far longer than by its own schedule."""

    #: so many usual intervals, and so many times the longest gaps (the upper tenth) of late, at least ``hours``
    intervals: Factor = 6.0
    gap_factor: Factor = 3.0
    hours: Hours = 3.0
    max_days: Days = 7.0


class LowBattery(Numbers, frozen=True, kw_only=True):
    """Its battery is low, or will be empty soon by its own course."""

    repeat_days: Days = 7.0
    pct: Annotated[float, msgspec.Meta(ge=0, le=100)] = 20.0
    clear_pct: Annotated[float, msgspec.Meta(ge=0, le=100)] = 30.0
    mv: Count = 3450
    clear_mv: Count = 3600
    #: at which voltage the collar stops
    empty_mv: Count = 3200
    days_left: Days = 21.0
    clear_days_left: Days = 35.0
    #: days of readings before a course is believed
    learn_days: Count = 7
    #: below this many days it is severe
    severe_days_left: Days = 5.0
    severe_pct: Annotated[float, msgspec.Meta(ge=0, le=100)] = 7.0


class WeakSignal(Numbers, frozen=True, kw_only=True):
    """Its collar is heard so faintly that it will soon not be heard."""

    repeat_days: Days = 7.0
    rssi_dbm: Annotated[float, msgspec.Meta(ge=-200, le=0)] = -125.0
    clear_rssi_dbm: Annotated[float, msgspec.Meta(ge=-200, le=0)] = -118.0
    #: the median of so many fixes
    fixes: Annotated[int, msgspec.Meta(ge=3, le=64)] = 12


class CollarFault(Numbers, frozen=True, kw_only=True):
    """The collar is heard, but what it says makes no sense: no position, a battery or a clock that cannot be."""

    repeat_days: Days = 7.0
    #: so many of the last ``of`` attempts failed
    failed: Count = 12
    of: Annotated[int, msgspec.Meta(ge=4, le=64)] = 16
    clear_failed: Annotated[int, msgspec.Meta(ge=0, le=63)] = 4
    #: so many impossible readings of battery or clock among the last ``of``
    nonsense: Count = 3
    #: heard for so many hours, and so many usual intervals, without a single position
    heard_hours: Hours = 12.0
    heard_intervals: Factor = 12.0


class AnimalRules(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of every rule for one kind of animal."""

    zone_entry: ZoneEntry = ZoneEntry()
    zone_ahead: ZoneAhead = ZoneAhead()
    corridor_exit: CorridorExit = CorridorExit()
    stationary_too_long: StationaryTooLong = StationaryTooLong()
    poaching_risk: PoachingRisk = PoachingRisk()
    rapid_movement: RapidMovement = RapidMovement()
    unusual_behavior: UnusualBehavior = UnusualBehavior()
    proximity: Proximity = Proximity()
    silent_collar: SilentCollar = SilentCollar()
    low_battery: LowBattery = LowBattery()
    weak_signal: WeakSignal = WeakSignal()
    collar_fault: CollarFault = CollarFault()

    def of(self, rule: RuleName) -> Numbers:
        """Return the numbers of a rule."""
        numbers: Numbers = getattr(self, rule)
        return numbers


#: What kinds of animals have that others do not.
TABLE: Final[Mapping[Category, AnimalRules]] = {
    "elephant": AnimalRules(proximity=Proximity(others=("ranger",))),
    "rhino": AnimalRules(
        stationary_too_long=StationaryTooLong(hours=8.0),
        proximity=Proximity(others=("ranger",), distance_m=200.0),
    ),
    "buffalo": AnimalRules(
        stationary_too_long=StationaryTooLong(hours=7.0),
        poaching_risk=PoachingRisk(flight_mps=0.8),
        rapid_movement=RapidMovement(speed_mps=1.2),
        proximity=Proximity(others=("ranger",)),
    ),
    "predator": AnimalRules(
        stationary_too_long=StationaryTooLong(hours=48.0, max_gap_hours=8.0),
        poaching_risk=PoachingRisk(is_on=False),
        rapid_movement=RapidMovement(speed_mps=2.0),
        proximity=Proximity(others=("ranger",), distance_m=200.0),
    ),
    "ungulate": AnimalRules(
        stationary_too_long=StationaryTooLong(hours=12.0, radius_m=30.0),
        rapid_movement=RapidMovement(speed_mps=1.8),
    ),
    "other": AnimalRules(stationary_too_long=StationaryTooLong(hours=24.0)),
}


class RuleBook(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a station: the table with its configuration on top, and when each may ring."""

    by_category: Mapping[Category, AnimalRules] = msgspec.field(default_factory=lambda: TABLE)
    schedules: Mapping[RuleName, Schedule] = {}
    #: a fix that was recorded longer before it was received than this is late; of a
    #: collar that is slower, than its interval, up to three times this
    fresh_hours: float = 2.0
    #: what is found in data older than this is not worth an alert
    late_days: float = 7.0

    def rules_for(self, species: str | None) -> AnimalRules:
        """Return the numbers for a species."""
        return self.by_category[category_of(species)]


class _General(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fresh_hours: Hours = 2.0
    late_days: Days = 7.0


def rule_book(*layers: Mapping[str, Any]) -> RuleBook:
    """Return the rules with each layer of configuration on top of those before; raises ConfigError."""
    by_category: dict[Category, dict[str, dict[str, Any]]] = {
        category: {rule: _fields(rules.of(rule)) for rule in RULES} for category, rules in TABLE.items()
    }
    schedules: dict[RuleName, Schedule] = {}
    general: dict[str, Any] = {}
    for layer in layers:
        for name, said in layer.items():
            if name in RULES:
                _overlay(name, said, by_category, schedules)
            else:
                general[name] = said
    plain = _converted("alerts", general, _General)
    return RuleBook(
        by_category={
            category: AnimalRules(
                **{rule: _converted(f"{rule}.{category}", fields, type(TABLE[category].of(_rule(rule))))
                   for rule, fields in rules.items()}
            )
            for category, rules in by_category.items()
        },
        schedules=schedules,
        fresh_hours=plain.fresh_hours,
        late_days=plain.late_days,
    )  # fmt: skip


def read_rules(path: Path) -> dict[str, Any]:
    """Return the layer of configuration in a TOML file; raises ConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _rule(name: str) -> RuleName:
    return next(rule for rule in RULES if rule == name)


def _fields(numbers: Numbers) -> dict[str, Any]:
    return {field.name: getattr(numbers, field.name) for field in msgspec.structs.fields(numbers)}


def _overlay(
    name: str,
    said: Any,
    by_category: dict[Category, dict[str, dict[str, Any]]],
    schedules: dict[RuleName, Schedule],
) -> None:
    if not isinstance(said, Mapping):
        raise ConfigError(f"alerts: {name} must be a table, [{name}]")
    everywhere = {key: value for key, value in said.items() if key != "schedule" and key not in CATEGORIES}
    for category in CATEGORIES:
        own = said.get(category, {})
        if not isinstance(own, Mapping):
            raise ConfigError(f"alerts: {name}.{category} must be a table")
        by_category[category][name] |= {**everywhere, **own}
    if "schedule" in said:
        schedules[_rule(name)] = _converted(f"{name}.schedule", said["schedule"], Schedule).checked(name)


def _converted(where: str, said: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"alerts: {where}: {error}") from error
