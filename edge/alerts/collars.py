"""Rules about the collar: silent, nearly empty, hardly heard, or talking nonsense."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

from edge.alerts.judging import DAY_MS, HOUR_MS, Judging, telling_at
from edge.alerts.rules import LowBattery
from edge.alerts.seen import Moment, Seen, Subject
from edge.alerts.watch import BatteryDay, Newest, OfCollar, Telling, Watch
from shared.sayings import say

#: Subjects of events that time alone brings.
SILENCE: Final = "silence"
NO_POSITION: Final = "no position"

_KEPT_INTERVALS: Final = 32
_KEPT_DAYS: Final = 30
#: Receptions closer than this are one visit of the collar to the link.
_ONE_VISIT_MS: Final = 60_000
#: A collar fell silent in flight when its last fix came so many intervals after the last fast step, at most.
_SINCE_FLIGHT: Final = 1.5
#: What a battery of a collar can have: from one cell that is empty to a pack of six.
_POSSIBLE_MV: Final = (1_000, 30_000)
#: A course is believed when the whole of it is more than the readings' noise: percent, millivolts.
_NOISE_PCT: Final = 3.0
_NOISE_MV: Final = 40.0


def remember(watch: Watch, subject: Subject, seen: Seen, before: Newest | None) -> None:
    """Note what ``seen`` says of its collar's schedule; with another collar begin anew."""
    if watch.collar.collar_id != subject.collar_id:
        watch.collar = OfCollar(collar_id=subject.collar_id)
        before = None
    collar = watch.collar
    collar.silent_from_ms = None
    if before is None:
        return
    collar.intervals_s = _longer(collar.intervals_s, (seen.recorded_ms - before.recorded_ms) // 1000)
    gap_ms = seen.received_ms - before.received_ms
    if seen.is_clock_sure and before.is_dated and gap_ms >= _ONE_VISIT_MS:
        collar.gaps_s = _longer(collar.gaps_s, gap_ms // 1000)


def interval_s(watch: Watch, subject: Subject) -> float | None:
    """Return how far apart the collar's fixes usually are: of late, or else as configured; None: nobody knows."""
    if len(watch.collar.intervals_s) >= 4:
        return float(statistics.median(watch.collar.intervals_s))
    return None if not subject.fix_interval_s else float(subject.fix_interval_s)


def silence_s(watch: Watch, subject: Subject, intervals: float, gap_factor: float, least_s: float) -> float | None:
    """Return after how long without a word this collar is silent; None while its schedule is not known."""
    usual_s = interval_s(watch, subject)
    if usual_s is None:
        return None
    gaps = sorted(watch.collar.gaps_s)
    long_s = gaps[min(len(gaps) - 1, int(0.9 * len(gaps)))] if gaps else 0
    return max(intervals * usual_s, gap_factor * long_s, least_s)


def heard(judging: Judging, seen: Seen) -> None:
    """End a silence at the instant at which the collar was heard, with whatever it said."""
    judging.at_ms = max(seen.recorded_ms, seen.received_ms) if seen.is_clock_sure else seen.recorded_ms
    judging.clears("silent_collar", SILENCE)
    judging.clears("poaching_risk", SILENCE)
    judging.clears("collar_fault", NO_POSITION)
    judging.at_ms = seen.recorded_ms


def silent_collar(judging: Judging, moment: Moment) -> None:
    """Judge how long the collar has not been heard; call it on a sure clock alone."""
    watch, subject = judging.watch, judging.subject
    newest = watch.newest
    if newest is None or not watch.collar.was_live or subject.collar_id != watch.collar.collar_id:
        return
    if newest.is_dated:
        since_ms = newest.received_ms
    else:  # it came at a time that nobody knows: count from when the time was known
        if watch.collar.silent_from_ms is None:
            watch.collar.silent_from_ms = moment.now_ms
        since_ms = watch.collar.silent_from_ms
    is_heard = subject.heard_ms is not None and since_ms + _ONE_VISIT_MS < subject.heard_ms <= moment.now_ms
    if is_heard:
        _no_position(judging, moment.now_ms - since_ms - moment.deaf_ms(since_ms), newest)
        since_ms = subject.heard_ms or since_ms
    silent_ms = moment.now_ms - since_ms - moment.deaf_ms(since_ms)
    in_flight = _silent_in_flight(judging, silent_ms, newest)
    numbers = judging.rules.silent_collar
    limit_s = silence_s(watch, subject, numbers.intervals, numbers.gap_factor, numbers.hours * 3600)
    if not numbers.is_on or limit_s is None or in_flight:
        return
    if silent_ms >= min(limit_s, numbers.max_days * 86_400) * 1000:
        name = subject.name
        judging.holds(
            "silent_collar",
            _at(newest, "silent_collar", "medium", say("alarm.silent", animal=name),
                say("alarm.silent_more", animal=name, hours=f"{silent_ms / HOUR_MS:.0f}",
                    interval=_said(interval_s(watch, subject) or 0))),
            subject=SILENCE,
            began_ms=newest.recorded_ms,
        )  # fmt: skip
    elif is_heard:
        judging.clears("silent_collar", SILENCE)


def _silent_in_flight(judging: Judging, silent_ms: int, newest: Newest) -> bool:
    watch, subject, numbers = judging.watch, judging.subject, judging.rules.poaching_risk
    if judging.event("poaching_risk", SILENCE) is not None:
        return True
    usual_s = interval_s(watch, subject)
    flight = watch.flight
    if not numbers.is_on or flight is None or usual_s is None or not newest.is_fresh:
        return False
    limit_s = silence_s(
        watch, subject, numbers.silent_intervals, numbers.silent_gap_factor, numbers.silent_hours * 3600
    )
    if limit_s is None or silent_ms < limit_s * 1000:
        return False
    if newest.recorded_ms - flight.ended_ms > 1000 * _SINCE_FLIGHT * usual_s:
        return False
    name = subject.name
    judging.holds(
        "poaching_risk",
        _at(newest, "poaching_risk", "critical", say("alarm.fled_silent", animal=name),
            say("alarm.fled_silent_more", animal=name, speed=f"{flight.speed_mps * 3.6:.1f}",
                hours=f"{silent_ms / HOUR_MS:.1f}")),
        subject=SILENCE,
        began_ms=newest.recorded_ms,
    )  # fmt: skip
    return True


def _no_position(judging: Judging, positionless_ms: int, newest: Newest) -> None:
    numbers = judging.rules.collar_fault
    usual_s = interval_s(judging.watch, judging.subject)
    if not numbers.is_on or usual_s is None:
        return
    if positionless_ms >= 1000 * max(numbers.heard_hours * 3600, numbers.heard_intervals * usual_s):
        name = judging.subject.name
        judging.holds(
            "collar_fault",
            _at(newest, "collar_fault", "medium", say("alarm.no_position", animal=name),
                say("alarm.no_position_more", animal=name, hours=f"{positionless_ms / HOUR_MS:.0f}")),
            subject=NO_POSITION,
            began_ms=newest.recorded_ms,
        )  # fmt: skip


def low_battery(judging: Judging, seen: Seen) -> None:
    """Judge the battery by its charge and by its own course."""
    numbers = judging.rules.low_battery
    mv = seen.battery_mv if seen.battery_mv is not None and is_possible_mv(seen.battery_mv) else None
    pct = seen.battery_pct if seen.battery_pct is not None and 0 <= seen.battery_pct <= 100 else None
    if not numbers.is_on or (mv is None and pct is None):
        return
    days = _noted(judging.watch.collar, seen.recorded_ms // DAY_MS, mv, pct)
    if all(day.n_pct for day in days):
        course = [(day.day, day.pct / day.n_pct) for day in days]
        low, clear, empty, noise, unit = numbers.pct, numbers.clear_pct, 0.0, _NOISE_PCT, "%"
    elif all(day.n for day in days):
        course = [(day.day, day.mv / day.n) for day in days]
        low, clear, empty, noise, unit = numbers.mv, numbers.clear_mv, numbers.empty_mv, _NOISE_MV, " mV"
    else:
        return
    now = course[-1][1]
    left = days_left(course, empty, noise, numbers.learn_days)
    if now <= low or (left is not None and left <= numbers.days_left):
        _battery_holds(judging, seen, numbers, now, unit, left)
    elif now >= clear and (left is None or left >= numbers.clear_days_left):
        judging.clears("low_battery")


def _battery_holds(
    judging: Judging, seen: Seen, numbers: LowBattery, now: float, unit: str, left: float | None
) -> None:
    is_severe = (left is not None and left <= numbers.severe_days_left) or (unit == "%" and now <= numbers.severe_pct)
    name = judging.subject.name
    charge = f"{now:.0f}{unit}"
    judging.holds(
        "low_battery",
        telling_at(
            seen,
            alert_type="low_battery",
            severity="high" if is_severe else "medium",
            title=say("alarm.battery", animal=name),
            message=say("alarm.battery_more", animal=name, charge=charge)
            if left is None
            else say("alarm.battery_days", animal=name, charge=charge, days=f"{left:.0f}"),
        ),
        began_ms=seen.recorded_ms,
        level=2 if is_severe else 1,
    )


def _noted(collar: OfCollar, day: int, mv: int | None, pct: float | None) -> list[BatteryDay]:
    if not collar.battery or collar.battery[-1].day != day:
        collar.battery = [*collar.battery, BatteryDay(day=day)][-_KEPT_DAYS:]
    today = collar.battery[-1]
    if mv is not None:
        today.n, today.mv = today.n + 1, today.mv + mv
    if pct is not None:
        today.n_pct, today.pct = today.n_pct + 1, today.pct + pct
    return collar.battery


def days_left(course: Sequence[tuple[int, float]], empty: float, noise: float, learn_days: int) -> float | None:
    """Return in how many days a battery will be empty; None where its course does not tell.

    The course is the median slope between all pairs of days (Theil and Sen): a day of cold does not bend it.
    """
    if len(course) < learn_days:
        return None
    slope = statistics.median(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for i, earlier in enumerate(course)
        for later in course[i + 1 :]
    )
    if -slope * (course[-1][0] - course[0][0]) < noise:
        return None
    return max(0.0, (course[-1][1] - empty) / -slope)


def weak_signal(judging: Judging, seen: Seen) -> None:
    """Judge how faintly the collar is heard."""
    numbers = judging.rules.weak_signal
    if not numbers.is_on or seen.rssi_dbm is None:
        return
    collar = judging.watch.collar
    collar.rssi_dbm = [*collar.rssi_dbm, seen.rssi_dbm][-numbers.fixes :]
    if len(collar.rssi_dbm) < numbers.fixes:
        return
    usual_dbm = statistics.median(collar.rssi_dbm)
    if usual_dbm <= numbers.rssi_dbm:
        name = judging.subject.name
        judging.holds(
            "weak_signal",
            telling_at(
                seen,
                alert_type="weak_signal",
                severity="low",
                title=say("alarm.weak", animal=name),
                message=say("alarm.weak_more", animal=name, fixes=numbers.fixes, dbm=f"{usual_dbm:.0f}"),
            ),
            began_ms=seen.recorded_ms,
        )
    elif usual_dbm >= numbers.clear_rssi_dbm:
        judging.clears("weak_signal")


def collar_fault(judging: Judging, seen: Seen) -> None:
    """Judge failed attempts and impossible readings."""
    numbers = judging.rules.collar_fault
    if not numbers.is_on:
        return
    collar = judging.watch.collar
    collar.attempts = [*collar.attempts, *[1] * min(seen.n_failed, numbers.of), 0][-numbers.of :]
    n_wrong = seen.n_clock_faults + (seen.battery_mv is not None and not is_possible_mv(seen.battery_mv))
    n_wrong += seen.battery_pct is not None and not 0 <= seen.battery_pct <= 100
    collar.nonsense = [*collar.nonsense, *[1] * min(n_wrong, numbers.of), 0][-numbers.of :]
    name = judging.subject.name
    for subject, count, limit, clear, what in (
        (
            "fixes fail",
            sum(collar.attempts),
            numbers.failed,
            numbers.clear_failed,
            "alarm.faulty_fixes",
        ),
        ("nonsense", sum(collar.nonsense), numbers.nonsense, 0, "alarm.faulty_readings"),
    ):
        if count >= limit:
            judging.holds(
                "collar_fault",
                telling_at(
                    seen,
                    alert_type="collar_fault",
                    severity="medium",
                    title=say("alarm.faulty", animal=name),
                    message=say(what, animal=name, of=numbers.of, count=count),
                ),
                subject=subject,
                began_ms=seen.recorded_ms,
            )
        elif count <= clear:
            judging.clears("collar_fault", subject)


def is_possible_mv(battery_mv: int) -> bool:
    """Say whether a collar's battery can have this voltage."""
    return _POSSIBLE_MV[0] <= battery_mv <= _POSSIBLE_MV[1]


def _longer(kept: list[int], value: int) -> list[int]:
    return [*kept, value][-_KEPT_INTERVALS:]


def _said(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _at(newest: Newest, alert_type: str, severity: str, title: str, message: str) -> Telling:
    return telling_at(
        None, alert_type=alert_type, severity=severity, title=title, message=message, lon_deg=newest.lon_deg,
        lat_deg=newest.lat_deg,
    )  # fmt: skip
