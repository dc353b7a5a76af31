"""When a rule may ring."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from edge.alerts.schedule import Day, Schedule
from shared.sync.records import to_ms

pytestmark = pytest.mark.unit


def at(day: int, hour: int, minute: int = 0) -> int:
    """Return an instant of June 2026 in UTC; the first is a Monday."""
    return to_ms(datetime(2026, 6, day, hour, minute, tzinfo=UTC))


@pytest.mark.parametrize(
    ("hour", "minute", "covers"),
    [(14, 59, False), (15, 0, True), (23, 0, True), (2, 59, True), (3, 0, False), (12, 0, False)],
)
def test_a_night_in_nairobi_is_three_hours_ahead_of_utc(hour: int, minute: int, covers: bool) -> None:
    night = Schedule(timezone="Africa/Nairobi", begins="18:00", ends="06:00")
    assert night.covers(at(2, hour, minute)) is covers


def test_a_day_is_from_its_begin_up_to_its_end() -> None:
    day = Schedule(timezone="UTC", begins="08:00", ends="17:30")
    assert [day.covers(at(1, *time)) for time in ((7, 59), (8, 0), (17, 29), (17, 30))] == [False, True, True, False]


def test_a_night_belongs_to_the_day_on_which_it_began() -> None:
    days: tuple[Day, ...] = ("mon",)
    night = Schedule(timezone="UTC", begins="18:00", ends="06:00", days=days)
    assert night.covers(at(1, 20))
    assert night.covers(at(2, 5))
    assert not night.covers(at(1, 5))
    assert not night.covers(at(2, 20))


def test_the_same_two_times_mean_the_whole_day() -> None:
    whole = Schedule(timezone="UTC", begins="00:00", ends="00:00")
    assert all(whole.covers(at(1, hour)) for hour in range(24))


def test_summer_time_moves_with_the_zone() -> None:
    day = Schedule(timezone="Europe/Berlin", begins="08:00", ends="09:00")
    assert day.covers(to_ms(datetime(2026, 6, 1, 6, 30, tzinfo=UTC)))
    assert day.covers(to_ms(datetime(2026, 12, 1, 7, 30, tzinfo=UTC)))
    assert not day.covers(to_ms(datetime(2026, 12, 1, 6, 30, tzinfo=UTC)))
