"""Zones, corridors and company: one alarm an event, one all-clear, and nothing at a jittered border."""

from __future__ import annotations

import pytest

from edge.alerts.engine import heed
from edge.alerts.seen import Mute, Seen, Subject
from edge.alerts.watch import Watch
from shared.clock import ClockState
from shared.movement.areas import Nearby
from tests.alarms import ALPHA, HOUR_MS, NOON_MS, Station, by_farm, farm, fix, late, of_rule, rung, told

pytestmark = pytest.mark.unit


def visit(station: Station) -> None:
    station.hears(by_farm(0, 1600), by_farm(10, 900), by_farm(20, -100), by_farm(30, 700), by_farm(40, 1500))


def test_a_warning_rises_to_an_entry_and_is_cleared_once() -> None:
    station = Station()
    visit(station)
    station.hears(*(by_farm(50 + 10 * n, 1700) for n in range(12)))
    acts = of_rule(station.acts, "zone_entry")
    assert told(acts) == [("raise", "zone_warning"), ("change", "high_risk_zone"), ("clear", None)]
    assert len({act.alert_id for act in acts}) == 1
    assert acts[1].columns["severity"] == "critical"
    assert acts[2].columns["status"] == "resolved"
    assert not station.watch.events


@pytest.mark.parametrize(("risk", "inside", "around"), [("high", "critical", "high"), ("low", "medium", "low")])
def test_severity_follows_the_risk_of_the_zone(risk: str, inside: str, around: str) -> None:
    station = Station()
    station.hears(*(fix(n, nearby=(farm(d, risk_level=risk),)) for n, d in ((0, 500.0), (10, -10.0))))
    assert [act.columns["severity"] for act in station.acts] == [around, inside]


def test_an_animal_in_a_protected_area_is_where_it_should_be() -> None:
    station = Station()
    assert station.hears(fix(0, nearby=(farm(-500, zone_type="protected_area"),))) == []


def test_inside_a_buffer_zone_is_a_warning() -> None:
    station = Station()
    assert told(station.hears(fix(0, nearby=(farm(-5, zone_type="buffer_zone", buffer_m=0.0),)))) == [
        ("raise", "zone_warning")
    ]


def test_jitter_about_the_border_rings_once() -> None:
    station = Station()
    station.hears(*(by_farm(10 * n, 45.0 if n % 2 else -5.0) for n in range(60)))
    assert told(station.acts) == [("raise", "high_risk_zone")]


def test_poor_accuracy_widens_the_margin() -> None:
    station = Station()
    station.hears(*(by_farm(10 * n, 150.0 if n % 4 else -5.0, h_acc_m=80.0) for n in range(60)))
    assert told(station.acts) == [("raise", "high_risk_zone")]


def test_who_leaves_the_zone_for_its_surroundings_is_cleared_and_rings_again_at_the_next_entry() -> None:
    station = Station()
    station.hears(by_farm(0, -100), *(by_farm(10 + 10 * n, 500) for n in range(6)))
    assert told(station.acts) == [("raise", "high_risk_zone"), ("clear", None)]
    station.hears(*(by_farm(100 + 10 * n, 500) for n in range(6)))
    assert len(station.acts) == 2
    again = station.hears(by_farm(200, -100))
    assert told(again) == [("raise", "high_risk_zone")]
    assert again[0].alert_id != station.acts[0].alert_id


def test_stepping_out_for_less_than_the_all_clear_takes_is_one_event() -> None:
    station = Station()
    station.hears(by_farm(0, -100), by_farm(10, 400), by_farm(20, 1800), by_farm(30, -100))
    assert told(station.acts) == [("raise", "high_risk_zone")]


def test_a_zone_that_is_no_more_is_cleared() -> None:
    station = Station()
    station.hears(by_farm(0, -100), fix(10), fix(50))
    assert told(station.acts) == [("raise", "high_risk_zone"), ("clear", None)]


def test_a_late_fix_is_written_down_and_does_not_ring() -> None:
    station = Station()
    acts = station.hears(*(late(by_farm(10 * n, d), 30) for n, d in enumerate([3000, -100, *[3000] * 6])))
    assert told(acts) == [("raise", "high_risk_zone"), ("clear", None)]
    assert rung(acts) == []
    assert acts[0].columns["is_late"] is True


def test_what_is_still_so_at_a_fresh_fix_rings_then_and_once() -> None:
    station = Station()
    station.hears(late(by_farm(0, -100), 30), late(by_farm(60, -100), 29))
    assert rung(station.acts) == []
    station.hears(by_farm(1800, -100), by_farm(1810, -100), by_farm(1820, -100))
    assert told(station.acts) == [("raise", "high_risk_zone"), ("change", "high_risk_zone")]
    assert [act.rings for act in station.acts] == [False, True]
    assert station.acts[1].columns["is_late"] is False
    assert station.acts[0].alert_id == station.acts[1].alert_id


def test_data_older_than_a_week_are_not_worth_an_alert() -> None:
    assert Station().hears(late(by_farm(0, -100), 24 * 8)) == []


def test_fixes_that_were_judged_change_nothing() -> None:
    station = Station()
    visit(station)
    before = station.watch
    assert station.hears(by_farm(20, -100), by_farm(5, -100)) == []
    assert station.watch == before


def test_on_an_unsure_clock_an_entry_rings_at_the_next_tick() -> None:
    station = Station()
    acts = station.hears(by_farm(0, -100, is_clock_sure=False, received_ms=0))
    assert [act.rings for act in acts] == [False]
    assert [act.rings for act in station.ticks(1, ClockState.UNSET)] == [True]
    assert station.ticks(2, ClockState.UNSET) == []


def test_an_undated_fix_that_turns_out_to_be_old_does_not_ring() -> None:
    station = Station()
    station.hears(by_farm(0, -100, is_clock_sure=False, received_ms=0))
    assert rung(station.ticks(60 * 24)) == []


@pytest.mark.parametrize("status", ["resolved", "false_alarm", None])
def test_what_a_person_closed_is_silent_until_it_was_clear(status: str | None) -> None:
    station = Station()
    (raised,) = station.hears(by_farm(0, -100))
    station.watch = heed(station.watch, {raised.alert_id: status} if status else {})  # type: ignore[dict-item]
    assert station.hears(*(by_farm(10 + 10 * n, -100) for n in range(20)), by_farm(300, 2500), by_farm(340, 2500)) == []
    assert told(station.hears(by_farm(350, -100))) == [("raise", "high_risk_zone")]


def test_a_late_alert_that_a_person_closed_does_not_ring_when_the_present_is_the_same() -> None:
    station = Station()
    (written,) = station.hears(late(by_farm(0, -100), 30))
    station.watch = heed(station.watch, {written.alert_id: "resolved"})
    assert station.hears(by_farm(1800, -100)) == []


def test_an_entry_after_a_person_closed_the_warning_rings_anew() -> None:
    station = Station()
    (warning,) = station.hears(by_farm(0, 500))
    station.watch = heed(station.watch, {warning.alert_id: "resolved"})
    (entry,) = station.hears(by_farm(10, 500), by_farm(20, -50))
    assert (entry.kind, entry.columns["alert_type"]) == ("raise", "high_risk_zone")
    assert entry.alert_id != warning.alert_id


def test_an_acknowledged_alert_is_cleared_too() -> None:
    station = Station()
    (raised,) = station.hears(by_farm(0, -100))
    station.watch = heed(station.watch, {raised.alert_id: "acknowledged"})
    assert told(station.hears(by_farm(10, 2500), by_farm(60, 2500))) == [("clear", None)]


def test_an_entry_makes_a_warning_that_someone_has_seen_active_again() -> None:
    station = Station()
    station.hears(by_farm(0, 500))
    (risen,) = station.hears(by_farm(10, -50))
    assert (risen.columns["status"], risen.columns["acknowledged_ms"]) == ("active", None)


def test_a_muted_rule_is_silent_and_what_still_holds_rings_afterwards() -> None:
    station = Station()
    station.mutes = (Mute(rule="zone_entry", until_ms=NOON_MS + HOUR_MS),)
    assert station.hears(by_farm(0, -100), by_farm(50, -100)) == []
    assert told(station.hears(by_farm(70, -100))) == [("raise", "high_risk_zone")]


def test_a_mute_ends_with_a_tick_too_and_is_of_one_animal() -> None:
    station = Station()
    station.mutes = (Mute(rule="zone_entry", until_ms=NOON_MS + HOUR_MS, animal_id="alpha"),)
    assert station.hears(by_farm(0, -100)) == []
    assert station.ticks(59) == []
    assert told(station.ticks(61)) == [("raise", "high_risk_zone")]
    station = Station()
    station.mutes = (Mute(rule="zone_entry", until_ms=NOON_MS + HOUR_MS, animal_id="beta"),)
    assert told(station.hears(by_farm(0, -100))) == [("raise", "high_risk_zone")]


def test_what_was_seen_long_ago_does_not_ring_when_a_mute_ends() -> None:
    station = Station()
    station.mutes = (Mute(rule="zone_entry", until_ms=NOON_MS + 10 * HOUR_MS),)
    assert station.hears(by_farm(0, -100)) == []
    assert station.ticks(11 * 60) == []
    assert told(station.hears(by_farm(12 * 60, -100))) == [("raise", "high_risk_zone")]


def test_on_an_unsure_clock_no_mute_ends() -> None:
    station = Station()
    station.mutes = (Mute(rule="zone_entry", until_ms=NOON_MS - HOUR_MS),)
    station.hears(by_farm(0, -100, is_clock_sure=False))
    assert station.ticks(1, ClockState.HELD) == []
    assert rung(station.acts) == []


def test_a_rule_with_a_schedule_rings_when_it_may() -> None:
    night = {"zone_entry": {"schedule": {"timezone": "Africa/Nairobi", "begins": "18:00", "ends": "06:00"}}}
    station = Station(ALPHA, night)
    assert station.hears(by_farm(0, -100), by_farm(170, -100)) == []  # noon in UTC is 15:00 there
    assert told(station.hears(by_farm(180, -100))) == [("raise", "high_risk_zone")]


def test_titles_and_messages_hold_no_coordinates() -> None:
    station = Station()
    visit(station)
    for act in station.acts:
        for text in (act.columns["title"], act.columns["message"]):
            assert "37." not in text
            assert "-2.0" not in text
    assert station.acts[0].columns["lat_e7"] == -20_000_000


def test_a_rule_that_is_switched_off_clears_what_it_told() -> None:
    on, off = Station(), Station(ALPHA, {"zone_entry": {"is_on": False}})
    on.hears(by_farm(0, -100))
    off.watch = on.watch
    assert told(off.hears(by_farm(10, -100))) == [("clear", None)]
    assert off.hears(by_farm(20, -100)) == []


# --- found later


def test_a_visit_found_later_is_written_down_once_and_does_not_ring() -> None:
    station = Station()
    station.hears(by_farm(0, 3000), by_farm(600, 3000))
    stretch = [by_farm(0, 3000), *(late(by_farm(n, -100), 20) for n in (100, 110)), by_farm(600, 3000)]
    (found,) = station.finds_late(*stretch)
    assert found.rings is False
    assert (found.columns["is_late"], found.columns["status"]) == (True, "resolved")
    assert station.finds_late(*stretch) == []
    assert station.finds_late(*stretch[1:]) == []


def test_more_fixes_of_a_visit_that_was_told_are_nothing_new() -> None:
    station = Station()
    visit(station)
    station.hears(by_farm(100, 2500), by_farm(200, 2500))
    assert station.finds_late(late(by_farm(15, -50), 5), late(by_farm(25, -50), 5)) == []


def test_an_entry_that_is_found_in_what_was_told_as_a_warning_is_written_down() -> None:
    station = Station()
    station.hears(by_farm(0, 500), by_farm(40, 500), by_farm(80, 1700), by_farm(120, 1700))
    assert told(station.acts) == [("raise", "zone_warning"), ("clear", None)]
    stretch = [by_farm(0, 500), late(by_farm(20, -100), 5), by_farm(40, 500), by_farm(80, 1700), by_farm(120, 1700)]
    (found,) = station.finds_late(*stretch)
    assert (found.columns["alert_type"], found.columns["is_late"], found.rings) == ("high_risk_zone", True, False)
    assert found.alert_id != station.acts[0].alert_id
    assert station.finds_late(*stretch) == []


def test_a_visit_that_goes_on_is_nothing_new_either() -> None:
    station = Station()
    visit(station)
    assert station.finds_late(late(by_farm(12, -50), 5)) == []


# --- corridors


def in_corridor(minute: float, distance_m: float, **said: object) -> Seen:
    corridor = Nearby(
        kind="corridor", id="way", name="the way", distance_m=max(0.0, distance_m), is_inside=distance_m <= 0,
        **{"status": "active", "species": "African elephant", **said},  # type: ignore[arg-type]
    )  # fmt: skip
    return fix(minute, 40 * minute, nearby=(corridor,))


def test_who_kept_to_a_corridor_and_leaves_it_rings_once() -> None:
    station = Station()
    station.hears(*(in_corridor(60 * n, -10) for n in range(8)), in_corridor(480, 600), in_corridor(540, 900))
    assert told(station.acts) == [("raise", "corridor_exit")]
    station.hears(in_corridor(600, -10), in_corridor(660, -10), in_corridor(720, -10))
    assert told(station.acts) == [("raise", "corridor_exit"), ("clear", None)]


@pytest.mark.parametrize("distance_m", [100.0, 450.0])
def test_the_margin_of_a_corridor_is_no_exit(distance_m: float) -> None:
    station = Station()
    assert station.hears(*(in_corridor(60 * n, -10 if n < 8 else distance_m) for n in range(20))) == []


def test_who_only_crossed_a_corridor_has_not_left_it() -> None:
    station = Station()
    assert station.hears(*(in_corridor(60 * n, -10 if n < 3 else 2000) for n in range(10))) == []


@pytest.mark.parametrize("said", [{"species": "wildebeest"}, {"status": "planned"}])
def test_other_corridors_are_of_no_account(said: dict[str, str]) -> None:
    station = Station()
    assert station.hears(*(in_corridor(60 * n, -10 if n < 8 else 2000, **said) for n in range(12))) == []


def test_who_went_away_from_a_corridor_is_no_longer_told_of() -> None:
    station = Station()
    station.hears(*(in_corridor(60 * n, -10 if n < 8 else 2000) for n in range(8 + 30)))
    assert told(station.acts) == [("raise", "corridor_exit"), ("clear", None)]


# --- company


def near(minute: float, distance_m: float, **said: object) -> Seen:
    other = Nearby(**{"kind": "ranger", "id": "r1", "name": "patrol 1", "distance_m": distance_m, **said})  # type: ignore[arg-type]
    return fix(minute, 40 * minute, nearby=(other,))


def test_an_elephant_near_rangers_rings_and_clears_with_hysteresis() -> None:
    station = Station()
    station.hears(near(0, 250), near(10, 400), near(20, 320), near(30, 800), near(70, 800))
    assert told(station.acts) == [("raise", "proximity"), ("clear", None)]


def test_herd_mates_are_off_by_default() -> None:
    assert Station().hears(near(0, 20, kind="animal", species="elephant")) == []


def test_of_a_pair_of_animals_one_speaks() -> None:
    pairs = {"proximity": {"elephant": {"others": ["elephant"]}}}
    first, second = Station(ALPHA, pairs), Station(Subject(animal_id="beta", name="Beta", species="elephant"), pairs)
    assert told(first.hears(near(0, 20, kind="animal", id="beta", species="elephant"))) == [("raise", "proximity")]
    assert second.hears(near(0, 20, kind="animal", id="alpha", species="elephant")) == []


def test_an_animal_that_died_is_not_judged() -> None:
    station = Station(Subject(animal_id="alpha", name="Alpha", species="elephant", status="deceased"))
    assert station.hears(by_farm(0, -100)) == []
    assert station.watch.judged_ms == NOON_MS
    assert isinstance(station.watch, Watch)
    assert of_rule(station.acts, "zone_entry") == []
