"""Early warnings: one an event, with hysteresis, never for late data, silent once they have come true."""

from __future__ import annotations

from typing import Any

import pytest

from edge.alerts.seen import Seen
from shared.insight import Ahead
from tests.alarms import Station, by_farm, fix, late, of_rule, rung, told

pytestmark = pytest.mark.unit

RULE = "zone_ahead"


def ahead(minute: float, chance: float | None, hours: float = 3.0, **said: Any) -> Seen:
    """Return a fix far from the farm whose forecast has a chance of it; None: of nothing."""
    farm = Ahead(
        kind="zone", id="farm", name="the farm", zone_type="agriculture", risk_level="high",
        chances=((1.0, 0.0), (hours, chance or 0.0)),
    )  # fmt: skip
    return fix(minute, 6_000 + 3 * minute, ahead=() if chance is None else (farm,), **said)


def test_it_is_told_once_with_its_chance_and_how_soon() -> None:
    station = Station()
    acts = station.hears(ahead(0, 0.45))
    assert told(acts) == [("raise", "zone_warning")]
    (act,) = rung(acts)
    assert act.columns["title"] == "Alpha may enter the farm within 3 h"
    assert "chance 45 %" in act.columns["message"].replace("45%", "45 %")
    assert (act.columns["severity"], act.columns["zone_id"]) == ("high", "farm")
    assert not any("37." in act.columns[name] for name in ("title", "message")), "no place may leave by SMS"
    assert station.hears(ahead(60, 0.6), ahead(120, 0.31), ahead(180, 0.9)) == []


def test_between_the_two_chances_it_goes_on_and_below_it_ends_after_a_while() -> None:
    station = Station()
    station.hears(ahead(0, 0.4))
    assert station.hears(*(ahead(60 * hour, 0.15) for hour in range(1, 8))) == []
    assert station.hears(ahead(480, 0.05), ahead(540, 0.2), ahead(600, 0.05), ahead(660, None)) == []
    assert told(station.hears(ahead(721, None))) == [("clear", None)]


def test_a_small_chance_or_one_far_ahead_tells_nothing() -> None:
    station = Station()
    assert station.hears(ahead(0, 0.29), ahead(60, 0.8, hours=24.0), ahead(120, None)) == []


def test_it_flutters_at_most_twice_a_day() -> None:
    station = Station()
    for hour in range(0, 96, 4):
        station.hears(ahead(60 * hour, 0.5), ahead(60 * hour + 10, 0.0), ahead(60 * hour + 150, 0.0))
    rang = [act for act in rung(of_rule(station.acts, RULE)) if act.kind == "raise"]
    assert len(rang) == 8
    assert len({act.alert_id for act in rang}) == 8


def test_what_came_true_ends_in_silence_and_the_entry_rings() -> None:
    station = Station()
    station.hears(ahead(0, 0.5))
    there = by_farm(240, 500.0, ahead=ahead(0, 0.9).ahead)
    acts = station.hears(there)
    assert told(rung(acts)) == [("raise", "zone_warning")], "close to the farm"
    assert [act.rule for act in rung(acts)] == ["zone_entry"]
    ended = of_rule(acts, RULE)
    assert [(act.kind, act.columns["status"], act.rings) for act in ended] == [("clear", "resolved", False)]
    assert of_rule(station.hears(by_farm(300, -50.0, ahead=there.ahead)), RULE) == []


def test_nothing_is_foretold_of_the_past() -> None:
    station = Station()
    assert station.hears(late(ahead(0, 0.9), hours=5)) == []
    assert station.finds_late(ahead(-600, 0.9), ahead(-540, 0.9)) == []
    assert told(station.hears(ahead(60, 0.9))) == [("raise", "zone_warning")], "what still holds at a fresh fix"


def test_where_nobody_looked_nothing_begins_and_nothing_ends() -> None:
    station = Station()
    station.hears(ahead(0, 0.5))
    assert of_rule(station.hears(*(fix(60 * hour, 6_000 + 500 * hour) for hour in range(1, 8))), RULE) == []
    assert told(station.hears(ahead(500, None), ahead(640, None))) == [("clear", None)]


def test_it_can_be_switched_off_and_set() -> None:
    off = Station(Station().subject, {RULE: {"is_on": False}})
    assert off.hears(ahead(0, 0.9)) == []
    shy = Station(Station().subject, {RULE: {"chance": 0.8}})
    assert shy.hears(ahead(0, 0.7)) == []
    assert told(shy.hears(ahead(60, 0.8))) == [("raise", "zone_warning")]
