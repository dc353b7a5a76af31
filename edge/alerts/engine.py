"""The engine: fixes and ticks in, acts on alerts out. Pure: what it remembers comes in and goes out as a ``Watch``.

``judge`` takes fixes that are newer than all before; ``judge_late`` a stretch in which older ones were found; ``tick``
what time alone brings. Any split of the same fixes into calls of ``judge`` gives the same acts, because nothing but the
fixes themselves is asked for their age. A fix that was judged is not judged again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from edge.alerts import collars, motion, places
from edge.alerts.judging import DAY_MS, HOUR_MS, TOLD_LATE, Judging, alert_id_of
from edge.alerts.rules import RuleBook
from edge.alerts.seen import Moment, Mute, Seen, Subject
from edge.alerts.watch import MAX_PAST, Act, Newest, Past, Watch, copied
from shared.domain import AlertStatus, AnimalStatus

#: Nobody needs to be told of these animals.
_UNWATCHED: Final[frozenset[AnimalStatus]] = frozenset({"inactive", "deceased"})
_BY_TIME: Final = frozenset({collars.SILENCE, collars.NO_POSITION})
#: Two finds of one event may differ by what clears it, and by a step at either end.
_SAME_EVENT_MS: Final = 2 * HOUR_MS
#: A collar that is slower than what is fresh has its own interval, up to so many times that.
_SLOW: Final = 3
_REPEATS_KEPT_MS: Final = 60 * DAY_MS


class Engine:
    """Judges by one book of rules."""

    def __init__(self, book: RuleBook) -> None:
        self.book = book

    def judge(
        self, watch: Watch, subject: Subject, seen: Sequence[Seen], mutes: Sequence[Mute] = ()
    ) -> tuple[Watch, list[Act]]:
        """Judge usable fixes in the order of their time; those no newer than what was judged change nothing."""
        watch = copied(watch)
        acts: list[Act] = []
        for fix in seen:
            if watch.newest is None or fix.recorded_ms > watch.newest.recorded_ms:
                acts += self._judge_fix(watch, subject, fix, mutes)
        _forget_old(watch)
        return watch, acts

    def _judge_fix(self, watch: Watch, subject: Subject, seen: Seen, mutes: Sequence[Mute]) -> list[Act]:
        age_ms = seen.received_ms - seen.recorded_ms
        is_fresh = seen.is_clock_sure and age_ms <= self._fresh_ms(watch, subject)
        before = watch.newest
        watch.since_ms = seen.recorded_ms if watch.since_ms is None else watch.since_ms
        watch.newest = Newest(
            recorded_ms=seen.recorded_ms, received_ms=seen.received_ms, lon_deg=seen.lon_deg, lat_deg=seen.lat_deg,
            is_dated=seen.is_clock_sure, is_fresh=is_fresh,
        )  # fmt: skip
        collars.remember(watch, subject, seen, before)
        watch.collar.was_live |= is_fresh or not seen.is_clock_sure
        if subject.status in _UNWATCHED:
            return []
        judging = Judging(
            watch, subject, self.book, mutes,
            at_ms=seen.recorded_ms,
            sure_now_ms=seen.received_ms if seen.is_clock_sure else None,
            is_fresh=is_fresh,
            is_recorded=not seen.is_clock_sure or age_ms <= self.book.late_days * DAY_MS,
        )  # fmt: skip
        for event in list(watch.events.values()):
            if not judging.rules.of(event.rule).is_on:  # switched off while it went on
                judging.ends(event)
        collars.heard(judging, seen)
        places.zone_entry(judging, seen)
        places.zone_ahead(judging, seen)
        places.corridor_exit(judging, seen)
        places.proximity(judging, seen)
        motion.poaching_risk(judging, seen, before)
        motion.stationary_too_long(judging, seen, before)
        motion.rapid_movement(judging, seen, before)
        motion.unusual_behavior(judging, seen)
        collars.low_battery(judging, seen)
        collars.weak_signal(judging, seen)
        collars.collar_fault(judging, seen)
        return judging.acts

    def _fresh_ms(self, watch: Watch, subject: Subject) -> float:
        """Return how old a fix of this collar may be to tell of the present."""
        fresh_ms = self.book.fresh_hours * HOUR_MS
        usual_ms = 1000 * (collars.interval_s(watch, subject) or 0.0)
        return max(fresh_ms, min(usual_ms, _SLOW * fresh_ms))

    def judge_late(self, watch: Watch, subject: Subject, stretch: Sequence[Seen]) -> tuple[Watch, list[Act]]:
        """Judge a stretch of the past in which fixes were found later; nothing rings.

        ``stretch`` holds the fixes that came late and those around them. An event in it that was known, or touches one
        that was, is left as it was told, unless it was worse than was known; another is written down, resolved and
        marked late.
        """
        horizon_ms = self.book.late_days * DAY_MS
        fixes = [fix for fix in stretch if fix.received_ms - fix.recorded_ms <= horizon_ms or not fix.is_clock_sure]
        if not fixes or watch.newest is None or subject.status in _UNWATCHED:
            return watch, []
        watch = copied(watch)
        known = [*watch.past, *_going_on(watch)]
        acts = []
        for act, past in self._found(Watch(animal_id=watch.animal_id), subject, fixes):
            if any(_is_same(past, each) for each in known):
                continue
            columns = {**act.columns, "is_late": True, "status": "resolved", "resolved_ms": past.ended_ms}
            alert_id = alert_id_of(subject.animal_id, past.rule, past.subject, past.began_ms, past.level)
            acts.append(Act(kind="raise", alert_id=alert_id, rule=act.rule, columns=columns, rings=False))
            known.append(past)
            watch.past.append(past)
        watch.past.sort(key=lambda past: (past.ended_ms, past.rule, past.subject, past.began_ms))
        del watch.past[:-MAX_PAST]
        return watch, acts

    def _found(self, then: Watch, subject: Subject, fixes: Sequence[Seen]) -> list[tuple[Act, Past]]:
        """Return what would have been told of ``fixes``, with when it began and ended."""
        raised: dict[str, Act] = {}
        for fix in fixes:
            for act in self._judge_fix(then, subject, fix, ()):
                if act.kind == "raise" and act.rule in TOLD_LATE:
                    raised[act.alert_id] = act
                elif act.kind == "change" and act.alert_id in raised:
                    more = {**raised[act.alert_id].columns, **act.columns}
                    raised[act.alert_id] = msgspec.structs.replace(raised[act.alert_id], columns=more)
        spans = {
            alert_id_of(subject.animal_id, past.rule, past.subject, past.began_ms, level): past
            for past in [*then.past, *_going_on(then)]
            for level in (1, 2)
        }
        return [(act, spans[alert_id]) for alert_id, act in raised.items() if alert_id in spans]

    def tick(
        self, watch: Watch, subject: Subject, moment: Moment, mutes: Sequence[Mute] = ()
    ) -> tuple[Watch, list[Act]]:
        """Judge what time alone brings: silence, and what has not rung yet and still holds."""
        if watch.newest is None or subject.status in _UNWATCHED:
            return watch, []
        watch = copied(watch)
        newest = watch.newest
        assert newest is not None
        by_time = self._ticking(watch, subject, moment, mutes, is_fresh=moment.is_clock_sure)
        by_fix = self._ticking(watch, subject, moment, mutes, is_fresh=self._holds_now(watch, subject, moment))
        if moment.is_clock_sure:
            collars.silent_collar(by_time, moment)
        for event in list(watch.events.values()):
            if event.clear_since_ms is None:
                (by_time if event.subject in _BY_TIME else by_fix).tell(event)
        return watch, [*by_time.acts, *by_fix.acts]

    def _ticking(
        self, watch: Watch, subject: Subject, moment: Moment, mutes: Sequence[Mute], *, is_fresh: bool
    ) -> Judging:
        assert watch.newest is not None
        return Judging(
            watch, subject, self.book, mutes,
            at_ms=moment.now_ms if moment.is_clock_sure else watch.newest.recorded_ms,
            sure_now_ms=moment.now_ms if moment.is_clock_sure else None,
            is_fresh=is_fresh,
            is_recorded=False,
        )  # fmt: skip

    def _holds_now(self, watch: Watch, subject: Subject, moment: Moment) -> bool:
        """Say whether what the newest fix shows may ring: it is fresh still, or nobody can know that it is not."""
        newest = watch.newest
        assert newest is not None
        if newest.is_dated and not newest.is_fresh:
            return False
        return not moment.is_clock_sure or moment.now_ms - newest.recorded_ms <= self._fresh_ms(watch, subject)


def heed(watch: Watch, statuses: Mapping[str, AlertStatus]) -> Watch:
    """Take note of what people did: an event whose alert is closed or gone is silent until it was clear.

    ``statuses`` are those of ``watch.open_alerts()``; one that is missing there is gone.
    """
    if all(statuses.get(alert_id) in ("active", "acknowledged") for alert_id in watch.open_alerts()):
        return watch
    watch = copied(watch)
    for event in watch.events.values():
        if event.alert_id is not None and statuses.get(event.alert_id) not in ("active", "acknowledged"):
            event.closed_level = event.told_level
            event.alert_id = None
            event.is_late = False
    return watch


def _going_on(watch: Watch) -> list[Past]:
    """Return what goes on as if it ended with the newest fix."""
    until_ms = 0 if watch.newest is None else watch.newest.recorded_ms
    return [Past(each.rule, each.subject, each.began_ms, until_ms, each.level) for each in watch.events.values()]


def _is_same(found: Past, known: Past) -> bool:
    """Say whether what was found is known: the same thing at about the same time, and no worse."""
    return (
        (found.rule, found.subject) == (known.rule, known.subject)
        and found.level <= known.level
        and found.began_ms <= known.ended_ms + _SAME_EVENT_MS
        and known.began_ms <= found.ended_ms + _SAME_EVENT_MS
    )


def _forget_old(watch: Watch) -> None:
    if watch.newest is not None and watch.rang_ms:
        limit_ms = watch.newest.recorded_ms - _REPEATS_KEPT_MS
        watch.rang_ms = {key: at_ms for key, at_ms in watch.rang_ms.items() if at_ms >= limit_ms}
