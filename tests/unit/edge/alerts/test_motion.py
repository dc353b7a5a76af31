"""Too still, in flight, too fast, unlike itself."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from edge.alerts.motion import solar_hour
from edge.alerts.seen import Seen
from edge.alerts.watch import Act
from tests.alarms import NOON_MS, Station, fix, late, of_rule, rung, told

pytestmark = pytest.mark.unit


def walk(hours: int, speed_mps: float = 0.3, begin: int = 0, east_m: float = 0.0) -> list[Seen]:
    """Return fixes every half hour of an animal that goes east."""
    return [fix(begin + 30 * n, east_m + 1800 * speed_mps * n) for n in range(2 * hours)]


def lying(hours: int, begin: int, east_m: float, noise_m: float = 8.0, seed: int = 1) -> list[Seen]:
    """Return fixes every half hour of a collar that lies still, as a receiver sees it."""
    noise = np.random.default_rng(seed).normal(0, noise_m, 2 * hours)
    return [fix(begin + 30 * n, east_m + float(noise[n])) for n in range(2 * hours)]


def hours_to(acts: Iterable[Act], begin: int) -> float:
    (act,) = acts
    return float((act.columns["detected_ms"] - NOON_MS) / 3_600_000 - begin / 60)


def test_solar_time_follows_the_longitude() -> None:
    assert solar_hour(NOON_MS, 0.0) == pytest.approx(12.0)
    assert solar_hour(NOON_MS, 37.5) == pytest.approx(14.5)
    assert solar_hour(NOON_MS, -150.0) == pytest.approx(2.0)


def test_stillness_rings_once_and_clears_when_it_moves() -> None:
    station = Station()
    station.hears(*walk(4), *lying(30, 240, 4000), *walk(2, begin=240 + 1800, east_m=4500))
    assert told(station.acts) == [("raise", "stationary_too_long"), ("clear", None)]


def test_sleep_counts_half() -> None:
    by_day, by_night = Station(), Station()
    by_day.hears(*lying(30, -7 * 60, 0))  # 7:30 of local solar time
    by_night.hears(*lying(30, 8 * 60, 0))  # 22:30
    day, night = hours_to(by_day.acts, -7 * 60), hours_to(by_night.acts, 8 * 60)
    assert day == pytest.approx(6.0, abs=0.5)
    assert night == pytest.approx(7.5 + (6 - 3.75), abs=0.6)


def test_an_elephant_that_sleeps_at_night_and_at_noon_is_not_dead() -> None:
    station = Station()
    east_m = 0.0
    for day in range(10):
        begin = 1440 * day
        station.hears(*lying(3, begin, east_m), *walk(9, begin=begin + 180, east_m=east_m + 300))
        east_m += 300 + 9 * 1080
        station.hears(*lying(5, begin + 720, east_m, seed=day), *walk(7, begin=begin + 1020, east_m=east_m + 300))
        east_m += 300 + 7 * 1080
    assert station.acts == []


def test_steps_that_are_surely_not_rest_count_less() -> None:
    still, busy = Station(), Station()
    still.hears(*lying(30, 0, 0))
    busy.hears(*(fix(30 * n, 0, state="foraging", state_confidence=0.95) for n in range(60)))
    assert hours_to(busy.acts, 0) > hours_to(still.acts, 0) + 2


def test_a_long_gap_is_not_a_long_stillness() -> None:
    station = Station()
    assert station.hears(fix(0), fix(30), fix(60 * 24), fix(60 * 24 + 30)) == []


def test_stillness_after_flight_is_poaching_and_not_told_twice() -> None:
    station = Station()
    flight = [fix(240, 4000), fix(270, 4000 + 1800 * 2.0)]
    station.hears(*walk(4), *flight, *lying(30, 300, 7600))
    assert told(station.acts) == [("raise", "poaching_risk")]
    assert station.acts[0].columns["severity"] == "critical"
    assert hours_to(station.acts, 300) < 5


def test_stillness_long_after_flight_is_no_poaching() -> None:
    station = Station()
    station.hears(*walk(4), fix(240, 7600), *walk(3, begin=270, east_m=8000), *lying(30, 450, 11500))
    assert told(station.acts) == [("raise", "stationary_too_long")]


def test_a_late_death_is_written_down_and_does_not_ring() -> None:
    station = Station()
    acts = station.hears(*(late(each, 40) for each in lying(20, 0, 0)))
    assert told(acts) == [("raise", "stationary_too_long")]
    assert rung(acts) == []


def test_a_run_rings_when_it_lasts_and_clears_when_it_is_over() -> None:
    station = Station()
    fast = [fix(30 * n, 1800 * 2.0 * n) for n in range(5)]
    station.hears(*fast, *walk(3, begin=150, east_m=20_000))
    assert told(of_rule(station.acts, "rapid_movement")) == [("raise", "rapid_movement"), ("clear", None)]


def test_a_second_run_on_the_same_day_is_quiet_and_one_on_the_next_rings() -> None:
    station = Station()
    east_m = 0.0
    for minute in (0, 600, 2000):
        station.hears(*(fix(minute + 30 * n, east_m + 3600 * n) for n in range(4)))
        station.hears(*walk(2, begin=minute + 120, east_m=east_m + 12_000))
        east_m += 20_000
    raised = [act for act in of_rule(station.acts, "rapid_movement") if act.kind == "raise"]
    assert [round((act.columns["detected_ms"] - NOON_MS) / 3_600_000) for act in raised] == [1, 34]


def test_a_run_does_not_become_usual_while_it_lasts() -> None:
    station = Station()
    station.hears(*(fix(15 * n, 270 * n) for n in range(1200)))
    station.hears(*(fix(18_000 + 15 * n, 324_000 + 900 * 2.2 * n) for n in range(12)))
    assert told(of_rule(station.acts, "rapid_movement")) == [("raise", "rapid_movement")]


def test_one_fast_step_is_no_run() -> None:
    station = Station()
    station.hears(*walk(3), fix(180, 8000), *walk(3, begin=210, east_m=8200))
    assert of_rule(station.acts, "rapid_movement") == []


def test_an_animal_that_is_often_fast_has_a_threshold_of_its_own() -> None:
    station = Station()
    east_m, seen = 0.0, []
    for n in range(1300):
        east_m += 1800 * (1.5 if n % 10 in (0, 1) else 0.2)
        seen.append(fix(30 * n, east_m))
    station.hears(*seen)
    last = of_rule(station.acts, "rapid_movement")
    assert all(act.columns.get("detected_ms", 0) < NOON_MS + 1_150 * 1_800_000 for act in last if act.kind == "raise")


def steps(count: int, begin: int, mean: float, rng: np.random.Generator) -> list[Seen]:
    return [
        fix(60 * (begin + n), 900 * (begin + n), log_likelihood=float(rng.normal(mean, 1.0)), model="elephant 1")
        for n in range(count)
    ]


def test_steps_far_less_likely_than_its_own_are_unusual() -> None:
    station, rng = Station(), np.random.default_rng(3)
    assert of_rule(station.hears(*steps(900, 0, -7.0, rng)), "unusual_behavior") == []
    assert told(of_rule(station.hears(*steps(40, 900, -13.0, rng)), "unusual_behavior")) == [
        ("raise", "unusual_behavior")
    ]
    assert told(of_rule(station.hears(*steps(60, 940, -7.0, rng)), "unusual_behavior")) == [("clear", None)]


def test_another_model_begins_to_learn_anew() -> None:
    station, rng = Station(), np.random.default_rng(3)
    station.hears(*steps(900, 0, -7.0, rng))
    other = [fix(60 * (900 + n), 900 * n, log_likelihood=-30.0, model="elephant 2") for n in range(100)]
    assert of_rule(station.hears(*other), "unusual_behavior") == []
