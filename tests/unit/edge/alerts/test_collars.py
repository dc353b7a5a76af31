"""Silence by the collar's own schedule, batteries, signals, faults."""

from __future__ import annotations

from typing import Any

import pytest

from edge.alerts.collars import days_left
from edge.alerts.seen import Mute, Seen, Subject
from shared.clock import ClockState
from tests.alarms import ALPHA, HOUR_MS, NOON_MS, Station, fix, late, of_rule, rung, told

pytestmark = pytest.mark.unit


def hourly(count: int, begin: int = 0, **said: Any) -> list[Seen]:
    return [fix(begin + 60 * n, 900 * (begin / 60 + n), **said) for n in range(count)]


def test_a_collar_is_silent_by_its_own_schedule_once_and_its_voice_is_the_all_clear() -> None:
    station = Station()
    station.hears(*hourly(24))
    last = 23 * 60
    assert station.ticks_through(last, last + 350) == []
    assert told(station.ticks_through(last + 350, last + 6000)) == [("raise", "silent_collar")]
    assert told(station.hears(fix(last + 6010, 30_000))) == [("clear", None)]


def test_a_slow_collar_has_more_time() -> None:
    station = Station()
    station.hears(*(fix(720 * n, 5000 * n) for n in range(10)))
    last = 9 * 720
    assert station.ticks_through(last, last + 2000) == []
    assert told(station.ticks_through(last + 2000, last + 6000)) == [("raise", "silent_collar")]


def test_a_collar_that_often_pauses_has_more_time() -> None:
    station = Station()
    minutes = [0, 60, 120, 720, 780, 840, 1440, 1500, 1560, 2160, 2220]
    station.hears(*(fix(minute, 10 * minute) for minute in minutes))
    assert station.ticks_through(2220, 2220 + 1700) == []


def test_before_a_schedule_is_known_the_configured_one_counts() -> None:
    known = Station(Subject(animal_id="alpha", name="Alpha", species="elephant", collar_id="C1", fix_interval_s=3600))
    unknown = Station()
    for station in (known, unknown):
        station.hears(fix(0))
        station.ticks_through(10, 3000)
    assert told(known.acts) == [("raise", "silent_collar")]
    assert unknown.acts == []


def test_on_an_unsure_clock_nothing_is_silent() -> None:
    station = Station()
    station.hears(*hourly(24))
    for state in (ClockState.UNSET, ClockState.HELD):
        assert station.ticks(100_000, state) == []


def test_a_collar_heard_on_an_unsure_clock_is_silent_from_when_the_time_is_known() -> None:
    station = Station()
    station.hears(*hourly(24, is_clock_sure=False))
    begin = 50_000
    assert of_rule(station.ticks_through(begin, begin + 350), "silent_collar") == []
    assert told(of_rule(station.ticks_through(begin + 350, begin + 800), "silent_collar")) == [
        ("raise", "silent_collar")
    ]


def test_a_collar_that_was_never_heard_live_is_not_silent() -> None:
    station = Station()
    assert station.ticks(1000) == []
    station.hears(*(late(each, 24 * 300) for each in hourly(24)))
    assert station.ticks_through(24 * 300 * 60, 24 * 300 * 60 + 20_000) == []


def test_the_time_that_the_station_did_not_run_is_no_silence() -> None:
    station = Station()
    station.hears(*hourly(24))
    last = 23 * 60
    deaf = ((NOON_MS + (last + 5) * 60_000, NOON_MS + (last + 2880) * 60_000),)
    assert station.ticks(last + 2890, deaf=deaf) == []
    assert told(station.ticks(last + 2880 + 360, deaf=deaf)) == [("raise", "silent_collar")]


def test_silence_in_flight_is_poaching_sooner_and_told_once() -> None:
    station = Station()
    station.hears(*hourly(24), fix(24 * 60, 24 * 900 + 7200))
    acts = station.ticks_through(24 * 60, 24 * 60 + 5000)
    assert told(acts) == [("raise", "poaching_risk")]
    assert (acts[0].columns["detected_ms"] - NOON_MS) / HOUR_MS - 24 <= 4.2
    assert told(station.hears(fix(24 * 60 + 5010, 40_000))) == [("clear", None)]


def test_a_muted_silence_rings_when_the_mute_is_over() -> None:
    station = Station()
    station.hears(*hourly(24))
    last = 23 * 60
    station.mutes = (Mute(rule="silent_collar", until_ms=NOON_MS + (last + 1000) * 60_000),)
    assert station.ticks_through(last, last + 1000) == []
    assert told(station.ticks_through(last + 1000, last + 1100)) == [("raise", "silent_collar")]


def test_a_collar_that_is_heard_without_a_position_is_faulty_and_not_silent() -> None:
    station = Station()
    station.hears(*hourly(24))
    last = 23 * 60
    for minute in range(last, last + 1500, 10):
        station.subject = Subject(
            animal_id="alpha", name="Alpha", species="elephant", collar_id="C1",
            heard_ms=NOON_MS + (minute - minute % 60) * 60_000,
        )  # fmt: skip
        station.ticks(minute)
    assert told(station.acts) == [("raise", "collar_fault")]
    assert told(station.hears(fix(last + 1510, 30_000))) == [("clear", None)]


def test_an_animal_whose_collar_was_taken_off_is_not_silent() -> None:
    station = Station()
    station.hears(*hourly(24))
    station.subject = Subject(animal_id="alpha", name="Alpha", species="elephant")
    assert station.ticks_through(2000, 5000) == []


# --- batteries


def falling(days: int, begin_pct: float, per_day: float, begin: int = 0) -> list[Seen]:
    return [
        fix(60 * (begin * 24 + n), 900 * n, battery_pct=max(0.0, begin_pct - per_day * n / 24))
        for n in range(days * 24)
    ]


def test_a_falling_battery_is_told_once_with_its_days_and_becomes_severe() -> None:
    station = Station()
    station.hears(*falling(49, 100, 2.0))
    acts = of_rule(station.acts, "low_battery")
    assert told(acts) == [("raise", "low_battery"), ("change", "low_battery")]
    assert "about 20 days left" in acts[0].columns["message"]
    assert [act.columns["severity"] for act in acts] == ["medium", "high"]
    assert len({act.alert_id for act in acts}) == 1


def test_a_new_battery_is_the_all_clear() -> None:
    station = Station()
    station.hears(
        *falling(45, 100, 2.0), *(fix(60 * (45 * 24 + n), 900 * n, battery_pct=100.0) for n in range(30 * 24))
    )
    assert told(of_rule(station.acts, "low_battery"))[-1] == ("clear", None)


def test_a_battery_that_wavers_about_the_limit_rings_once() -> None:
    station = Station()
    station.hears(*(fix(60 * n, 900 * n, battery_pct=20.0 + (3 if n % 2 else -3)) for n in range(24 * 10)))
    assert told(of_rule(station.acts, "low_battery")) == [("raise", "low_battery")]


def test_a_battery_in_volts_is_judged_too() -> None:
    station = Station()
    station.hears(*(fix(60 * n, 900 * n, battery_mv=4000 - n) for n in range(24 * 25)))
    acts = of_rule(station.acts, "low_battery")
    assert acts[0].kind == "raise"
    assert "mV" in acts[0].columns["message"]


def test_a_full_battery_with_noise_has_no_course() -> None:
    assert days_left([(day, 95.0 + day % 2) for day in range(20)], 0.0, 3.0, 7) is None
    assert days_left([(day, 90.0 - day) for day in range(20)], 0.0, 3.0, 7) == pytest.approx(71.0)
    assert days_left([(day, 90.0 - day) for day in range(5)], 0.0, 3.0, 7) is None


# --- signals and faults


def test_a_weak_signal_is_told_once_with_hysteresis() -> None:
    station = Station()
    station.hears(*hourly(12, rssi_dbm=-110.0), *hourly(12, 720, rssi_dbm=-128.0), *hourly(24, 1440, rssi_dbm=-122.0))
    assert told(of_rule(station.acts, "weak_signal")) == [("raise", "weak_signal")]
    assert told(of_rule(station.hears(*hourly(12, 2880, rssi_dbm=-100.0)), "weak_signal")) == [("clear", None)]


def test_failed_fixes_are_a_fault_until_they_succeed() -> None:
    station = Station()
    station.hears(*hourly(6, n_failed=4))
    assert told(of_rule(station.acts, "collar_fault")) == [("raise", "collar_fault")]
    assert told(of_rule(station.hears(*hourly(16, 400)), "collar_fault")) == [("clear", None)]


@pytest.mark.parametrize("said", [{"battery_mv": 65535}, {"battery_pct": 250.0}, {"n_clock_faults": 1}])
def test_impossible_readings_are_a_fault(said: dict[str, Any]) -> None:
    station = Station()
    station.hears(*hourly(5, **said))
    assert told(of_rule(station.acts, "collar_fault")) == [("raise", "collar_fault")]
    assert of_rule(station.acts, "low_battery") == []


def test_late_batteries_and_signals_do_not_ring() -> None:
    station = Station()
    acts = station.hears(*(late(each, 24 * 5) for each in hourly(40, battery_pct=5.0, rssi_dbm=-130.0)))
    assert rung(acts) == []


def test_another_collar_begins_anew() -> None:
    station = Station()
    station.hears(*hourly(30))
    station.subject = Subject(animal_id="alpha", name="Alpha", species="elephant", collar_id="C2")
    station.hears(*hourly(2, 1800))
    assert station.watch.collar.collar_id == "C2"
    assert len(station.watch.collar.intervals_s) == 1
    assert ALPHA.collar_id == "C1"
