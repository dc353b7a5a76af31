"""Rules about places: zones, corridors, and who is near."""

from __future__ import annotations

from typing import Final

from edge.alerts.judging import HOUR_MS, Judging, telling_at
from edge.alerts.seen import Seen
from edge.alerts.watch import Event, Inside
from shared.domain import Severity
from shared.insight import Ahead
from shared.movement.areas import Nearby
from shared.movement.kinds import is_meant
from shared.sayings import say

_INSIDE: Final[dict[str | None, Severity]] = {"high": "critical", "medium": "high", "low": "medium"}
_AROUND: Final[dict[str | None, Severity]] = {"high": "high", "medium": "medium", "low": "low"}
_ZONE: Final = "zone_entry"
_AHEAD: Final = "zone_ahead"
_WARNED, _ENTERED = 1, 2


def zone_entry(judging: Judging, seen: Seen) -> None:
    """Judge where an animal stands to each zone.

    Around a zone and inside it are two levels of one event. Having left the inside for long enough resolves its alert;
    the event falls back to the surroundings in silence, and only a new entry rings from there.
    """
    numbers = judging.rules.zone_entry
    if not numbers.is_on:
        return
    near = {n.id: n for n in seen.nearby if n.kind == "zone" and n.zone_type in numbers.zone_types}
    going_on = [event.subject for event in judging.watch.events.values() if event.rule == _ZONE]
    for zone_id in sorted({*near, *going_on}):
        event = judging.event(_ZONE, zone_id)
        was = 0 if event is None else event.level
        zone = near.get(zone_id)
        level = 0 if zone is None else _level(judging, seen, zone, was)
        if zone is not None and level and level >= was:
            _zone_holds(judging, seen, zone, level)
        elif judging.clears(_ZONE, zone_id, after_s=numbers.clear_hours * 3600) and level == _WARNED:
            assert event is not None
            judging.watch.events[f"{_ZONE}|{zone_id}"] = Event(
                rule=_ZONE, subject=zone_id, began_ms=seen.recorded_ms, level=level, telling=event.telling,
                closed_level=level,
            )  # fmt: skip


def _level(judging: Judging, seen: Seen, zone: Nearby, was: int) -> int:
    numbers = judging.rules.zone_entry
    margin_m = max(numbers.margin_m, 2 * (seen.h_acc_m or 0.0)) if was else 0.0
    if zone.zone_type not in numbers.warning_types and (
        zone.is_inside or (was == _ENTERED and zone.distance_m <= margin_m)
    ):
        return _ENTERED
    return _WARNED if zone.is_inside or zone.distance_m <= zone.buffer_m + margin_m else 0


def _zone_holds(judging: Judging, seen: Seen, zone: Nearby, level: int) -> None:
    name = judging.subject.name
    is_entry = level == _ENTERED
    where = "alarm.zone_inside" if is_entry else "alarm.zone_in" if zone.is_inside else "alarm.zone_close"
    kind, risk = zone.zone_type or "zone", zone.risk_level or "unknown"
    judging.holds(
        _ZONE,
        telling_at(
            seen,
            alert_type="high_risk_zone" if is_entry else "zone_warning",
            severity=(_INSIDE if is_entry else _AROUND).get(zone.risk_level, "medium"),
            title=say(where, animal=name, zone=zone.name),
            message=say(f"{where}_more", animal=name, zone=zone.name, kind=kind, risk=risk),
            zone_id=zone.id,
        ),
        subject=zone.id,
        began_ms=seen.recorded_ms,
        level=level,
    )


def zone_ahead(judging: Judging, seen: Seen) -> None:
    """Judge whether an animal will soon be in a zone that it is not at yet.

    Of an animal in a zone or around it ``zone_entry`` tells, so its early warning has come true and ends in silence.
    Where nobody looked ahead from a fix, nothing begins and nothing ends.
    """
    numbers = judging.rules.zone_ahead
    if not numbers.is_on or seen.ahead is None:
        return
    at = {n.id for n in seen.nearby if n.kind == "zone" and (n.is_inside or n.distance_m <= n.buffer_m)}
    ahead = {each.id: each for each in seen.ahead if each.kind == "zone" and each.zone_type in numbers.zone_types}
    going_on = [event.subject for event in judging.watch.events.values() if event.rule == _AHEAD]
    for zone_id in sorted({*ahead, *going_on}):
        event, zone = judging.event(_AHEAD, zone_id), ahead.get(zone_id)
        if zone_id in at:
            if event is not None:
                judging.ends(event, rings=False)
        elif zone is not None and (first := zone.first(numbers.chance, numbers.hours)) is not None:
            _ahead_holds(judging, seen, zone, *first)
        elif zone is None or zone.first(numbers.clear_chance, numbers.hours) is None:
            judging.clears(_AHEAD, zone_id, after_s=numbers.clear_hours * 3600)
        elif event is not None:
            event.clear_since_ms = None


def _ahead_holds(judging: Judging, seen: Seen, zone: Ahead, hours: float, chance: float) -> None:
    name = judging.subject.name
    kind, risk = zone.zone_type or "zone", zone.risk_level or "unknown"
    judging.holds(
        _AHEAD,
        telling_at(
            seen,
            alert_type="zone_warning",
            severity=_AROUND.get(zone.risk_level, "medium"),
            title=say("alarm.zone_ahead", animal=name, zone=zone.name, hours=f"{hours:g}"),
            message=say(
                "alarm.zone_ahead_more",
                animal=name,
                zone=zone.name,
                kind=kind,
                risk=risk,
                hours=f"{hours:g}",
                chance=f"{chance:.0%}",
            ),
            zone_id=zone.id,
        ),
        subject=zone.id,
        began_ms=seen.recorded_ms,
    )


def corridor_exit(judging: Judging, seen: Seen) -> None:
    """Judge whether an animal that kept to a corridor has left it."""
    numbers = judging.rules.corridor_exit
    if not numbers.is_on:
        return
    known = judging.watch.corridors
    near = {n.id: n for n in seen.nearby if n.kind == "corridor" and _is_for(n, judging.subject.species)}
    for corridor_id in sorted({*near, *known}):
        corridor = near.get(corridor_id)
        memory = known.get(corridor_id)
        if corridor is None:  # far away, or no longer a corridor: neither is an exit now
            if (event := judging.event("corridor_exit", corridor_id)) is not None:
                judging.ends(event)
            known.pop(corridor_id, None)
        elif corridor.is_inside:
            if memory is None:
                memory = known[corridor_id] = Inside(
                    name=corridor.name, since_ms=seen.recorded_ms, last_ms=seen.recorded_ms, n=0
                )
            memory.n, memory.last_ms, memory.out_n, memory.out_ms = memory.n + 1, seen.recorded_ms, 0, None
            judging.clears("corridor_exit", corridor_id, after_s=numbers.clear_hours * 3600)
        elif memory is not None and corridor.distance_m > numbers.margin_m:
            _outside(judging, seen, corridor_id, memory)


def _outside(judging: Judging, seen: Seen, corridor_id: str, memory: Inside) -> None:
    numbers = judging.rules.corridor_exit
    memory.out_n += 1
    memory.out_ms = seen.recorded_ms if memory.out_ms is None else memory.out_ms
    kept_hours = (memory.last_ms - memory.since_ms) / HOUR_MS
    event = judging.event("corridor_exit", corridor_id)
    if seen.recorded_ms - memory.out_ms >= numbers.away_hours * HOUR_MS:
        if event is not None:
            judging.ends(event)
        del judging.watch.corridors[corridor_id]
    elif kept_hours < numbers.inside_hours or memory.n < numbers.inside_fixes:
        del judging.watch.corridors[corridor_id]
    elif event is not None or memory.out_n >= numbers.exit_fixes:
        name = judging.subject.name
        judging.holds(
            "corridor_exit",
            telling_at(
                seen,
                alert_type="corridor_exit",
                severity="medium",
                title=say("alarm.corridor_left", animal=name, corridor=memory.name),
                message=say("alarm.corridor_left_more", animal=name, corridor=memory.name, hours=f"{kept_hours:.0f}"),
            ),
            subject=corridor_id,
            began_ms=memory.out_ms,
        )


def _is_for(corridor: Nearby, species: str) -> bool:
    return corridor.status in (None, "active") and is_meant(corridor.species, species)


def proximity(judging: Judging, seen: Seen) -> None:
    """Judge who is near; of a pair of animals the one with the lesser id speaks."""
    numbers = judging.rules.proximity
    if not numbers.is_on:
        return
    near = {f"{n.kind}:{n.id}": n for n in seen.nearby if n.kind in ("animal", "ranger") and judging.minds(n)}
    going_on = [event.subject for event in judging.watch.events.values() if event.rule == "proximity"]
    for subject in sorted({*near, *going_on}):
        other = near.get(subject)
        is_known = judging.event("proximity", subject) is not None
        reach_m = numbers.distance_m * (numbers.clear_factor if is_known else 1.0)
        if other is None or other.distance_m > reach_m:
            judging.clears("proximity", subject, after_s=numbers.clear_hours * 3600)
            continue
        name = judging.subject.name
        judging.holds(
            "proximity",
            telling_at(
                seen,
                alert_type="proximity",
                severity="high" if other.kind == "ranger" else "medium",
                title=say("alarm.near", animal=name, other=other.name),
                message=say("alarm.near_more", animal=name, other=other.name, metres=f"{numbers.distance_m:.0f}"),
            ),
            subject=subject,
            began_ms=seen.recorded_ms,
        )
