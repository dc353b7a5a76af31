"""What the alarms look at, from what the pipeline has just computed: in the same transaction, published after it.

Fixes that are newer than all that were judged are judged in their order. Where something older changed (a fix came
late, one was flagged, a deployment was entered) the stretch around it is looked through once more, and nothing of it
rings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge.alerts.keeper import Keeper, subject_of
from edge.alerts.seen import COMPANY_REACH_M, CORRIDOR_REACH_M, Seen
from edge.pipeline.outcome import Outcome
from edge.store import watches
from edge.store.areas import areas_mark, areas_near_each
from edge.store.computing import Attempt, Computed, Fix, Step, attempts_between, battery_of, company_of
from edge.store.driver import Connection
from shared.domain import FixFlag
from shared.insight import Ahead
from shared.movement.areas import Nearby, Place
from shared.wire.events import Told

#: A change of the past is looked through with as many fixes before it: an event may have begun with them.
BEFORE: Final = 24
_CLOCK_FAULTS: Final = int(FixFlag.CLOCK_UNSET | FixFlag.FUTURE)


class AlarmJudge:
    """Implements ``edge.pipeline.pipeline.Judge`` over a keeper of alarms."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        others = {name for rules in keeper.engine.book.by_category.values() for name in rules.proximity.others}
        self._minds_animals = bool(others - {"ranger"})
        #: what is near the places of a turn, and the zones and corridors that it was measured against
        self._near: dict[Place, list[Nearby]] = {}
        self._near_mark: tuple[int, ...] = ()

    def look(self, db: Connection, outcomes: Sequence[Outcome]) -> None:
        """Measure what is near the fixes that will be judged, on a reader: of many areas it takes seconds."""
        self._near_mark = areas_mark(db)
        places = {
            _place(fix)
            for outcome in outcomes
            for _, fixes in _to_judge(outcome, watches.judged_ms(db, outcome.window.subject.id))
            for fix in fixes
        }
        found = areas_near_each(db, list(places), reach_m=CORRIDOR_REACH_M)
        self._near = dict(zip(places, found, strict=True))

    def judge(self, db: Connection, outcomes: Sequence[Outcome]) -> list[Told]:
        """Judge what is new of each animal, write alerts and return what to announce once all of it is committed."""
        told: list[Told] = []
        if areas_mark(db) != self._near_mark:  # somebody has drawn something since
            self._near = {}
        for outcome in outcomes:
            told += self._judge_one(db, outcome)
        return told

    def announce(self, told: Sequence[Told]) -> None:
        """Publish what a committed transaction told."""
        self._keeper.announce(told)

    def _judge_one(self, db: Connection, outcome: Outcome) -> list[Told]:
        found = watches.watched_animals(db, outcome.window.subject.id)
        if not found:
            return []
        subject = subject_of(found[0])
        told: list[Told] = []
        for is_late, fixes in _to_judge(outcome, watches.judged_ms(db, subject.animal_id)):
            seen = self._seen(db, outcome, fixes)
            if is_late:
                told += self._keeper.judge_late_within(db, subject, seen)
                continue
            told += self._keeper.judge_within(db, subject, seen)
            if not self._keeper.is_clock_sure:
                told += self._keeper.tick_within(db, found[0])  # what has no age must not wait a minute to ring
        return told

    def _seen(self, db: Connection, outcome: Outcome, fixes: Sequence[Fix]) -> list[Seen]:
        if not fixes:
            return []
        animal_pk = outcome.window.subject.pk
        near = self._areas(db, [_place(fix) for fix in fixes])
        steps = {step.ended_ms: step for step in outcome.steps}
        before = [fix.recorded_ms for fix in outcome.window.fixes.fixes if fix.recorded_ms < fixes[0].recorded_ms]
        since_ms = before[-1] if before else fixes[0].recorded_ms - 1
        attempts = attempts_between(db, animal_pk, since_ms, fixes[-1].recorded_ms)
        battery = battery_of(db, animal_pk)
        seen = []
        for fix, areas in zip(fixes, near, strict=True):
            failed = [each for each in attempts if since_ms < each.recorded_ms <= fix.recorded_ms]
            since_ms = fix.recorded_ms
            company: list[Nearby] = []
            if self._minds_animals and fix is fixes[-1]:
                company = company_of(db, animal_pk, fix, COMPANY_REACH_M)
            said = battery if fix is fixes[-1] and battery is not None else (None, None)
            ahead = outcome.ahead if fix is outcome.window.fixes.fixes[-1] else None
            step = steps.get(fix.recorded_ms)
            seen.append(_seen_of(fix, step, outcome.computed, failed, (*areas, *company), said, ahead))
        return seen

    def _areas(self, db: Connection, places: Sequence[Place]) -> list[list[Nearby]]:
        """Return what is near places, as it was measured beforehand where nothing has changed since."""
        unknown = [place for place in places if place not in self._near]
        if unknown:
            found = areas_near_each(db, unknown, reach_m=CORRIDOR_REACH_M)
            self._near |= dict(zip(unknown, found, strict=True))
        return [self._near[place] for place in places]


def _to_judge(outcome: Outcome, judged_ms: int | None) -> list[tuple[bool, list[Fix]]]:
    """Return the stretch that is looked through once more, and the fixes that are newer than all that were judged."""
    fixes, since_ms = outcome.window.fixes.fixes, outcome.window.due.since_ms
    found: list[tuple[bool, list[Fix]]] = []
    if judged_ms is not None and since_ms <= judged_ms:
        first = next((n for n, fix in enumerate(fixes) if fix.recorded_ms >= since_ms), len(fixes))
        found.append((True, [fix for fix in fixes[max(0, first - BEFORE) :] if fix.recorded_ms <= judged_ms]))
    fresh = [fix for fix in fixes if judged_ms is None or fix.recorded_ms > judged_ms]
    return [*found, (False, fresh)] if fresh else found


def _place(fix: Fix) -> Place:
    return Place(fix.lon_e7 / 1e7, fix.lat_e7 / 1e7)


def _seen_of(
    fix: Fix,
    step: Step | None,
    computed: Computed,
    failed: Sequence[Attempt],
    nearby: tuple[Nearby, ...],
    battery: tuple[int | None, float | None],
    ahead: tuple[Ahead, ...] | None,
) -> Seen:
    """Return a fix with what is near and what is said of it; where it states no battery, what its collar last said."""
    says_battery = fix.battery_mv is not None or fix.battery_pct is not None
    return Seen(
        recorded_ms=fix.recorded_ms,
        received_ms=fix.received_ms if fix.sure_received_ms is None else fix.sure_received_ms,
        is_clock_sure=fix.sure_received_ms is not None,
        lon_deg=fix.lon_e7 / 1e7,
        lat_deg=fix.lat_e7 / 1e7,
        speed_mps=fix.speed_mps,
        battery_mv=fix.battery_mv if says_battery else battery[0],
        battery_pct=fix.battery_pct if says_battery else battery[1],
        rssi_dbm=fix.rssi_dbm,
        h_acc_m=fix.h_acc_m,
        nearby=nearby,
        ahead=ahead,
        state=None if step is None else step.state,
        state_confidence=None if step is None else step.confidence,
        is_state_settled=step is not None and step.is_settled,
        log_likelihood=None if step is None else step.log_likelihood,
        model=None if step is None else f"{computed.model} {computed.version} {computed.interval_s:g}",
        n_failed=sum(not each.is_usable for each in failed),
        n_clock_faults=sum(bool(each.flags & _CLOCK_FAULTS) for each in failed),
    )
