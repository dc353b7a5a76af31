"""Laws of the alarms: no split, restart, repetition or late arrival changes what rings, and nothing rings twice."""

from __future__ import annotations

import itertools
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.alerts.engine import heed
from edge.alerts.seen import Seen
from edge.alerts.watch import Act, packed, unpacked
from shared.domain import AlertStatus
from shared.movement.areas import Nearby
from tests.alarms import Station, farm, fix, late, of_rule, rung

pytestmark = pytest.mark.unit

_N = 300 if os.environ.get("OUTPOST_NIGHTLY") else 60
LAW = settings(max_examples=_N, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def lives(draw: st.DrawFn, *, is_fresh: bool = False) -> list[Seen]:
    """A life in legs: walking, running, lying still, in and out of a farm and a corridor; late, undated."""
    seen: list[Seen] = []
    minute, east_m = 0, draw(st.sampled_from([3000.0, 500.0, -200.0]))
    battery = draw(st.floats(5.0, 100.0))
    for _ in range(draw(st.integers(1, 8))):
        speed_mps = draw(st.sampled_from([0.0, 0.0, 0.2, -0.2, 0.6, -0.6, 2.5, -2.5]))
        lag_h = 0.0 if is_fresh else draw(st.sampled_from([0.0, 0.0, 0.0, 5.0, 50.0, 300.0]))
        is_sure = is_fresh or draw(st.sampled_from([True, True, True, False]))
        n_failed = draw(st.sampled_from([0, 0, 0, 5]))
        for _ in range(draw(st.integers(1, 25))):
            minute += 30
            east_m += 1800 * speed_mps + draw(st.floats(-8.0, 8.0))
            battery = max(0.0, battery - 0.05)
            corridor = Nearby(
                kind="corridor", id="way", name="the way", distance_m=max(0.0, abs(east_m) - 4000),
                is_inside=abs(east_m) <= 4000, status="active",
            )  # fmt: skip
            ranger = Nearby(kind="ranger", id="r1", name="patrol", distance_m=abs(east_m - 1000))
            said = fix(
                minute, east_m, nearby=(farm(east_m), corridor, ranger), battery_pct=battery, rssi_dbm=-120.0,
                n_failed=n_failed, is_clock_sure=is_sure, h_acc_m=10.0,
            )  # fmt: skip
            seen.append(late(said, lag_h))
    return seen


cuts = st.lists(st.integers(0, 200), max_size=12)


def in_batches(seen: list[Seen], at: list[int]) -> list[list[Seen]]:
    edges = sorted({0, len(seen), *(cut for cut in at if cut < len(seen))})
    return [seen[begin:end] for begin, end in itertools.pairwise(edges)]


@LAW
@given(lives(), cuts)
def test_any_split_and_any_restart_give_the_same_acts(seen: list[Seen], at: list[int]) -> None:
    whole, split = Station(), Station()
    whole.hears(*seen)
    for batch in in_batches(seen, at):
        split.hears(*batch)
        split.watch = unpacked(packed(split.watch))
    assert split.acts == whole.acts
    assert split.watch == whole.watch


@LAW
@given(lives(), cuts)
def test_a_kill_before_or_after_any_commit_gives_the_same_acts(seen: list[Seen], at: list[int]) -> None:
    whole, killed = Station(), Station()
    whole.hears(*seen)
    for batch in in_batches(seen, at):
        kept = killed.watch
        killed.engine.judge(kept, killed.subject, batch)  # killed before the commit: nothing of it is kept
        assert killed.watch == kept
        killed.hears(*batch)
        assert killed.hears(*batch) == []  # killed after it: the same fixes come once more
    assert killed.acts == whole.acts


@LAW
@given(lives(), st.data())
def test_the_watch_that_is_handed_in_is_not_changed(seen: list[Seen], data: st.DataObject) -> None:
    station = Station()
    at = data.draw(st.integers(0, len(seen)))
    station.hears(*seen[:at])
    before = packed(station.watch)
    kept = station.watch
    station.hears(*seen[at:])
    assert packed(kept) == before


@LAW
@given(lives())
def test_each_alert_is_raised_once_and_cleared_at_most_once_after_that(seen: list[Seen]) -> None:
    station = Station()
    station.hears(*seen)
    assert_sound(station.acts)


def assert_sound(acts: list[Act]) -> None:
    order: dict[str, list[str]] = {}
    for act in acts:
        order.setdefault(act.alert_id, []).append(act.kind)
    for kinds in order.values():
        assert kinds[0] == "raise"
        assert kinds.count("raise") == 1
        assert kinds.count("clear") <= 1
        assert "clear" not in kinds[:-1]


@LAW
@given(lives())
def test_what_rings_is_fresh(seen: list[Seen]) -> None:
    station = Station()
    for each in seen:
        acts = station.hears(each)
        if each.received_ms - each.recorded_ms > 3 * 3_600_000 or not each.is_clock_sure:
            assert [act for act in rung(acts) if act.kind != "clear"] == []


@LAW
@given(lives(is_fresh=True), st.data())
def test_late_fixes_found_in_any_order_ring_nothing_and_are_told_once(seen: list[Seen], data: st.DataObject) -> None:
    station = Station()
    is_held = data.draw(st.lists(st.booleans(), min_size=len(seen), max_size=len(seen)))
    heard = [each for each, held in zip(seen, is_held, strict=True) if not held]
    if not heard:
        return
    station.hears(*heard)
    newest = station.watch.judged_ms or 0
    held_back = [late(each, 30) for each, held in zip(seen, is_held, strict=True) if held and each.recorded_ms < newest]
    shuffled = data.draw(st.permutations(held_back))
    size = data.draw(st.integers(1, 20))
    found: list[Act] = []
    for begin in range(0, len(shuffled), size):
        batch = sorted(shuffled[begin : begin + size], key=lambda each: each.recorded_ms)
        found += station.finds_late(*batch)
        assert station.finds_late(*batch) == []
        assert station.hears(*batch) == []
    assert rung(found) == []
    assert all(act.columns["is_late"] and act.columns["status"] == "resolved" for act in found)
    assert_sound(station.acts)


@LAW
@given(st.lists(st.floats(-45.0, 45.0), min_size=1, max_size=150), st.sampled_from([-5.0, -80.0, 0.0]))
def test_noise_below_the_margin_never_rings_twice(noise: list[float], border_m: float) -> None:
    station = Station()
    station.hears(*(fix(10 * n, e, nearby=(farm(border_m + e),)) for n, e in enumerate(noise)))
    raised = Counter(act.columns["alert_type"] for act in of_rule(station.acts, "zone_entry") if act.rings)
    assert all(count == 1 for count in raised.values())
    assert all(act.kind != "clear" for act in station.acts)


@LAW
@given(lives(is_fresh=True), st.sampled_from(["resolved", "false_alarm"]))
def test_what_a_person_closes_is_neither_cleared_nor_changed_by_the_engine(
    seen: list[Seen], status: AlertStatus
) -> None:
    station = Station()
    for each in seen:
        acts = station.hears(each)
        closed = {act.alert_id for act in station.acts[: len(station.acts) - len(acts)]}
        assert not [act for act in acts if act.kind != "raise" and act.alert_id in closed]
        station.watch = heed(station.watch, dict.fromkeys(station.watch.open_alerts(), status))
    assert_sound(station.acts)
