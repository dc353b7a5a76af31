"""What charts are drawn of: series of one animal, and what synchronisation carried; days are the asker's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime

from msgspec import Struct

from shared.domain import Fix
from shared.sync.log import Carried


class DayOut(Struct, frozen=True, kw_only=True):
    """A day and how far the animal went on it; null where no step ended on it."""

    day: date
    distance_km: float | None


class MovementChart(Struct, frozen=True, kw_only=True):
    """How far an animal went each day, without steps over more than a day; ``missing``: why nothing is told.

    ``is_cut``: there are older positions in the span than the answer is made of.
    """

    animal_id: str
    days: list[DayOut]
    is_cut: bool
    missing: str | None

    @classmethod
    def of(
        cls, animal_id: str, days: Sequence[date], metres: Mapping[date, float], *, is_cut: bool, missing: str | None
    ) -> MovementChart:
        """Return the public form of the metres of some days."""
        rows = [
            DayOut(day=day, distance_km=round(metres[day] / 1000, 3) if day in metres else None)
            for day in (() if missing else days)
        ]
        return cls(animal_id=animal_id, days=rows, is_cut=is_cut, missing=missing)


class HourOut(Struct, frozen=True, kw_only=True):
    """An hour of the day: how many steps ended in it, and the share of each state, 0 to 1."""

    hour: int
    steps: int
    shares: dict[str, float]


class BehaviourChart(Struct, frozen=True, kw_only=True):
    """What an animal does at which hour of the day; ``missing``: why nothing is told."""

    animal_id: str
    states: list[str]
    hours: list[HourOut]
    model: str | None
    missing: str | None

    @classmethod
    def of(
        cls, animal_id: str, hours: Sequence[Counter[str]], model: str | None, missing: str | None
    ) -> BehaviourChart:
        """Return the public form of the counts of 24 hours."""
        states = sorted(set().union(*hours))
        rows = [
            HourOut(
                hour=hour, steps=(steps := sum(counts.values())),
                shares={state: round(count / steps, 4) for state, count in sorted(counts.items())},
            )
            for hour, counts in enumerate(hours)
        ]  # fmt: skip
        return cls(animal_id=animal_id, states=states, hours=rows if states else [], model=model, missing=missing)


class ReadingOut(Struct, frozen=True, kw_only=True):
    """What a collar said of its battery with one position."""

    at: datetime
    percent: float | None
    volts: float | None


class BatteryChart(Struct, frozen=True, kw_only=True):
    """The battery of the collars that an animal wore, by time: the newest of each slice of the span."""

    animal_id: str
    readings: list[ReadingOut]

    @classmethod
    def of(cls, animal_id: str, fixes: Sequence[Fix], most: int) -> BatteryChart:
        """Return at most ``most`` readings, evenly, of ``fixes`` by time; the newest is always among them."""
        told = [fix for fix in fixes if fix.battery_pct is not None or fix.battery_mv is not None]
        every = -(-len(told) // most) or 1
        rows = [
            ReadingOut(
                at=fix.recorded_at, percent=fix.battery_pct,
                volts=None if fix.battery_mv is None else round(fix.battery_mv / 1000, 3),
            )
            for fix in reversed(told[::-1][::every])
        ]  # fmt: skip
        return cls(animal_id=animal_id, readings=rows)


class TrafficDayOut(Struct, frozen=True, kw_only=True):
    """The bytes of bodies that sessions of one day carried, packed as they travelled."""

    day: date
    bytes_up: int
    bytes_down: int


class TrafficOut(Struct, frozen=True, kw_only=True):
    """What one station's sessions carried, day by day; days without a session are not there."""

    station: str
    days: list[TrafficDayOut]


class TrafficChart(Struct, frozen=True, kw_only=True):
    """What synchronisation carried between stations and the cloud, as this home counted it."""

    since: date
    until: date
    stations: list[TrafficOut]

    @classmethod
    def of(cls, since: date, until: date, carried: Sequence[Carried]) -> TrafficChart:
        """Return the public form of what each station's sessions carried."""
        found: dict[str, list[TrafficDayOut]] = {}
        for each in carried:
            day = TrafficDayOut(day=each.day, bytes_up=each.bytes_up, bytes_down=each.bytes_down)
            found.setdefault(each.device_id, []).append(day)
        return cls(
            since=since, until=until, stations=[TrafficOut(station=name, days=days) for name, days in found.items()]
        )
