"""From "the rule holds" and "it no longer does" to what is done to alerts: the life of an event.

::

    (nothing) --holds--> going on --clear for long enough--> over
                            |  level rises: the same alert says more, and rings again
                            |  a person closed it: silent until it was clear, or until its level rises

An event rings when all of this is so: the fix that shows it is fresh, its rule is neither muted nor out of schedule,
the rule has not rung about the same subject within ``repeat_days``, no person has closed it. Where one of these is
missing the event goes on in silence, and rings at the first fix or tick at which it still holds and nothing is missing.
What a late fix shows is written down (``is_late``) and rings only if it is still so at a fresh one: the same alert then
loses its mark. On a clock that is not sure a fix has no age: it is written down like a late one, and the next tick
rings for what holds at the newest fix.

Each alert's id is derived from the animal, the rule, the subject, the event's first instant and its level, so an event
that is found twice is one alert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from edge.alerts.rules import AnimalRules, RuleBook, RuleName
from edge.alerts.seen import Mute, Seen, Subject
from edge.alerts.watch import MAX_PAST, Act, ActKind, Event, Past, Telling, Watch
from shared.ids import derived_id
from shared.movement.areas import Nearby
from shared.movement.kinds import category_of

#: Rules whose events are worth telling afterwards; of the others only the present matters.
TOLD_LATE: Final[frozenset[RuleName]] = frozenset(
    {"zone_entry", "corridor_exit", "stationary_too_long", "poaching_risk"}
)
DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000


class Judging:
    """One fix or tick being judged: the watch that it changes, the acts that come of it.

    ``at_ms`` is its instant, ``sure_now_ms`` the station's time where that is sure. ``is_fresh``: it may ring;
    ``is_recorded``: where it may not, it is worth writing down.
    """

    def __init__(
        self,
        watch: Watch,
        subject: Subject,
        book: RuleBook,
        mutes: Sequence[Mute],
        *,
        at_ms: int,
        sure_now_ms: int | None,
        is_fresh: bool,
        is_recorded: bool,
    ) -> None:
        self.watch = watch
        self.subject = subject
        self.rules: AnimalRules = book.rules_for(subject.species)
        self.at_ms = at_ms
        self.acts: list[Act] = []
        self._book = book
        self._mutes = mutes
        self._sure_now_ms = sure_now_ms
        self._is_fresh = is_fresh
        self._is_recorded = is_recorded

    def minds(self, other: Nearby) -> bool:
        """Say whether it is for this animal to tell that ``other`` is near."""
        if not _is_named(self.rules.proximity.others, other):
            return False
        if other.kind != "animal" or self.subject.animal_id < other.id:
            return True
        me = Nearby(
            kind="animal", id=self.subject.animal_id, name=self.subject.name, distance_m=other.distance_m,
            species=self.subject.species,
        )  # fmt: skip
        return not _is_named(self._book.rules_for(other.species).proximity.others, me)

    def event(self, rule: RuleName, subject: str = "") -> Event | None:
        """Return what goes on, if it does."""
        return self.watch.events.get(_key(rule, subject))

    def holds(self, rule: RuleName, telling: Telling, *, subject: str = "", began_ms: int, level: int = 1) -> None:
        """Say that a rule holds; tell it where it has not been told."""
        event = self.event(rule, subject)
        if event is None:
            event = Event(rule=rule, subject=subject, began_ms=began_ms, level=level, telling=telling)
            self.watch.events[_key(rule, subject)] = event
        elif level > event.level:
            if event.alert_id is None:  # what rises was not told yet, or was closed by a person: it begins here
                if event.closed_level:
                    self.watch.past.append(Past(rule, subject, event.began_ms, self.at_ms, event.level))
                event.began_ms = began_ms
            event.level, event.telling = level, telling
        event.clear_since_ms = None
        self.tell(event)

    def tell(self, event: Event) -> None:
        """Ring for an event, or write it down, where that is due."""
        if event.level <= max(event.rung_level, event.closed_level):
            return
        if self._is_fresh and self._may_ring(event):
            self._ring(event)
        elif not self._is_fresh and self._is_recorded and event.rule in TOLD_LATE:
            self._write_down(event)

    def clears(self, rule: RuleName, subject: str = "", *, after_s: float = 0.0) -> bool:
        """Say that a rule does not hold; return whether its event ended with that."""
        event = self.event(rule, subject)
        if event is None:
            return False
        if event.clear_since_ms is None:
            event.clear_since_ms = self.at_ms
        if self.at_ms - event.clear_since_ms < after_s * 1000:
            return False
        self.ends(event)
        return True

    def ends(self, event: Event, *, rings: bool = True) -> None:
        """End an event: what was told of it is resolved, unless a person did that; aloud, unless it came true."""
        del self.watch.events[_key(event.rule, event.subject)]
        ended_ms = max(event.began_ms, self.at_ms if event.clear_since_ms is None else event.clear_since_ms)
        self.watch.past.append(Past(event.rule, event.subject, event.began_ms, ended_ms, event.level))
        del self.watch.past[:-MAX_PAST]
        if event.alert_id is not None:
            columns = {"status": "resolved", "resolved_ms": self.at_ms}
            self._act("clear", event.alert_id, event.rule, columns, rings=rings and not event.is_late)

    def _ring(self, event: Event) -> None:
        if event.alert_id is None:
            self._raise(event, is_late=False)
        else:
            # who has seen the alert has not seen what it says now
            again = {"is_late": False, "status": "active", "acknowledged_ms": None, "acknowledged_by": None}
            self._act("change", event.alert_id, event.rule, {**_columns(event.telling), **again}, rings=True)
        event.is_late = False
        event.rung_level = event.told_level = event.level
        self.watch.rang_ms[_key(event.rule, event.subject)] = self.at_ms

    def _write_down(self, event: Event) -> None:
        if event.alert_id is None:
            self._raise(event, is_late=True)
            event.is_late = True
        elif event.told_level < event.level:
            self._act("change", event.alert_id, event.rule, _columns(event.telling), rings=False)
        else:
            return
        event.told_level = event.level

    def _raise(self, event: Event, *, is_late: bool) -> None:
        event.alert_id = alert_id_of(self.subject.animal_id, event.rule, event.subject, event.began_ms, event.level)
        columns = {
            **_columns(event.telling), "animal_id": self.subject.animal_id, "status": "active",
            "detected_ms": event.began_ms if is_late else self.at_ms, "is_late": is_late,
        }  # fmt: skip
        self._act("raise", event.alert_id, event.rule, columns, rings=not is_late)

    def _may_ring(self, event: Event) -> bool:
        for mute in self._mutes:
            # a mute ends on a sure clock alone, as everything does that expires
            is_over = self._sure_now_ms is not None and self._sure_now_ms >= mute.until_ms
            if mute.rule == event.rule and mute.animal_id in (None, self.subject.animal_id) and not is_over:
                return False
        schedule = self._book.schedules.get(event.rule)
        if schedule is not None and not schedule.covers(self.at_ms):
            return False
        rang_ms = self.watch.rang_ms.get(_key(event.rule, event.subject))
        repeat_ms = self.rules.of(event.rule).repeat_days * DAY_MS
        return rang_ms is None or event.rung_level > 0 or self.at_ms - rang_ms >= repeat_ms

    def _act(self, kind: ActKind, alert_id: str, rule: RuleName, columns: Mapping[str, Any], *, rings: bool) -> None:
        self.acts.append(Act(kind=kind, alert_id=alert_id, rule=rule, columns=dict(columns), rings=rings))


def alert_id_of(animal_id: str, rule: RuleName, subject: str, began_ms: int, level: int) -> str:
    """Return the id of the alert of an event: the same wherever and whenever the event is found."""
    return derived_id(animal_id, f"{rule} {subject} {began_ms} {level}")


def telling_at(seen: Seen | None, **said: Any) -> Telling:
    """Return what an alert says, with the place of a fix in its own columns."""
    if seen is not None:
        said |= {"lon_deg": seen.lon_deg, "lat_deg": seen.lat_deg}
    return msgspec.convert(said, Telling)


def _is_named(others: Sequence[str], other: Nearby) -> bool:
    if other.kind == "ranger":
        return "ranger" in others
    return category_of(other.species) in others or (other.species or "").lower() in others


def _columns(telling: Telling) -> dict[str, Any]:
    return {
        "alert_type": telling.alert_type, "severity": telling.severity, "title": telling.title,
        "message": telling.message, "zone_id": telling.zone_id,
        "lon_e7": None if telling.lon_deg is None else round(telling.lon_deg * 1e7),
        "lat_e7": None if telling.lat_deg is None else round(telling.lat_deg * 1e7),
    }  # fmt: skip


def _key(rule: RuleName, subject: str) -> str:
    return f"{rule}|{subject}"
