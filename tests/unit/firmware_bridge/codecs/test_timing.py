"""What can be made of a fix whose device does not tell the whole time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.codecs.timing import AHEAD, latest, recorded_at
from firmware_bridge.frames import DecodedFix, TimeOfDay

NOW = datetime(2026, 3, 1, 0, 5, tzinfo=UTC)


def fix(at: datetime | None = None, said: TimeOfDay | None = None) -> DecodedFix:
    return DecodedFix(recorded_at=at, lon_deg=37.5, lat_deg=-2.5, time_of_day=said)


def test_the_devices_own_time_is_never_replaced() -> None:
    long_ago = datetime(2010, 1, 1, tzinfo=UTC)
    assert recorded_at(fix(long_ago, TimeOfDay(1, 2, 3)), network_time=NOW, received_at=NOW) == (long_ago, "")


def test_the_networks_time_stands_in_where_the_device_gives_none() -> None:
    assert recorded_at(fix(), network_time=NOW, received_at=None) == (NOW, "")


def test_the_stations_time_never_stands_in() -> None:
    at, reason = recorded_at(fix(), network_time=None, received_at=NOW)
    assert at is None
    assert reason == "a position without the device's time"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (TimeOfDay(0, 4, 59), datetime(2026, 3, 1, 0, 4, 59, tzinfo=UTC)),
        (TimeOfDay(0, 14), datetime(2026, 3, 1, 0, 14, tzinfo=UTC)),  # a clock that runs ahead
        (TimeOfDay(0, 16), datetime(2026, 2, 28, 0, 16, tzinfo=UTC)),
        (TimeOfDay(23, 59, 30), datetime(2026, 2, 28, 23, 59, 30, tzinfo=UTC)),
        (TimeOfDay(12, 0, day_of_month=28), datetime(2026, 2, 28, 12, 0, tzinfo=UTC)),
        (TimeOfDay(12, 0, day_of_month=31), datetime(2026, 1, 31, 12, 0, tzinfo=UTC)),
        (TimeOfDay(12, 0, day_of_month=1), datetime(2026, 2, 1, 12, 0, tzinfo=UTC)),
    ],
)
def test_a_sure_clock_supplies_the_date_and_only_the_date(said: TimeOfDay, meant: datetime) -> None:
    assert recorded_at(fix(None, said), network_time=None, received_at=NOW) == (meant, "")
    assert recorded_at(fix(None, said), network_time=NOW, received_at=None) == (meant, "")


def test_without_a_sure_clock_a_time_of_day_stays_one() -> None:
    at, reason = recorded_at(fix(None, TimeOfDay(1, 2)), network_time=None, received_at=None)
    assert (at, reason) == (None, "a time without a date, and no sure clock to supply it")


@pytest.mark.parametrize("said", [TimeOfDay(25, 0), TimeOfDay(0, 60), TimeOfDay(0, 0, day_of_month=32)])
def test_a_time_that_does_not_exist_is_none(said: TimeOfDay) -> None:
    assert recorded_at(fix(None, said), network_time=NOW, received_at=None)[0] is None


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    until_s=st.integers(946_684_800, 4_102_444_800),
    ago_s=st.integers(0, 86_399),
)
def test_any_time_of_the_last_day_is_found_again(until_s: int, ago_s: int) -> None:
    until = datetime.fromtimestamp(until_s + 0.5, UTC)
    meant = (until - timedelta(seconds=ago_s)).replace(microsecond=0)
    assert latest(TimeOfDay(meant.hour, meant.minute, meant.second), until) == meant
    assert latest(TimeOfDay(meant.hour, meant.minute, meant.second, meant.day), until) == meant


def test_a_clock_may_run_ahead_by_minutes_not_by_hours() -> None:
    assert timedelta(minutes=1) <= AHEAD < timedelta(hours=1)
