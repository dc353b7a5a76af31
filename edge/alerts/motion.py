"""Rules about how an animal moves: too still, in flight, too fast, unlike itself."""

from __future__ import annotations

import math
import statistics
from typing import Final

from edge.alerts.judging import HOUR_MS, Judging, telling_at
from edge.alerts.rules import PoachingRisk, RuleName, StationaryTooLong
from edge.alerts.seen import Seen
from edge.alerts.watch import Flight, Newest, Run, Stay, Usual, Watch
from shared.movement.geodesy import haversine_m
from shared.sayings import say

#: Log speeds are counted in bins of 10 % from 1 mm/s on.
_N_BINS: Final = 100
_BIN: Final = 0.1
_SLOWEST_MPS: Final = 0.001
#: Below so many steps an animal's own speeds say nothing of its fastest thousandth, or hundredth.
_LEARN_STEPS: Final = 1000
_LEARN_FLIGHT: Final = 200
#: How slowly what is usual follows what is.
_USUAL_STEPS: Final = 500
_SURE: Final = 0.8


def solar_hour(at_ms: int, lon_deg: float) -> float:
    """Return the local mean solar time in hours, 0 <= hour < 24."""
    return (at_ms / HOUR_MS + lon_deg / 15.0) % 24.0


def step_speed_mps(before: Newest, seen: Seen, max_gap_hours: float) -> float | None:
    """Return the mean speed of the step to ``seen``; None across a gap."""
    gap_s = (seen.recorded_ms - before.recorded_ms) / 1000
    if not 0 < gap_s <= max_gap_hours * 3600:
        return None
    return haversine_m(before.lon_deg, before.lat_deg, seen.lon_deg, seen.lat_deg) / gap_s


def poaching_risk(judging: Judging, seen: Seen, before: Newest | None) -> None:
    """Judge a stillness that follows a sudden flight."""
    numbers = judging.rules.poaching_risk
    if not numbers.is_on:
        return
    watch = judging.watch
    if before is not None and (speed := step_speed_mps(before, seen, numbers.max_gap_hours)) is not None:
        own = own_speed_mps(watch, seen, before, 1.0 - numbers.flight_share, _LEARN_FLIGHT)
        if speed >= max(numbers.flight_mps, own or 0.0):
            begins_ms = before.recorded_ms
            if watch.flight is not None and watch.flight.ended_ms == begins_ms:
                begins_ms = watch.flight.began_ms
            watch.flight = Flight(began_ms=begins_ms, ended_ms=seen.recorded_ms, speed_mps=speed)
    gap_s = _gap_s(before, seen, numbers)
    stay = _stayed(judging, "poaching_risk", seen, numbers, gap_s)
    flight = watch.flight
    if stay is None or flight is None or stay.counted_s < numbers.still_hours * 3600:
        return
    if 0 <= stay.since_ms - flight.ended_ms <= numbers.within_hours * HOUR_MS or judging.event("poaching_risk"):
        name = judging.subject.name
        judging.holds(
            "poaching_risk",
            telling_at(
                seen,
                alert_type="poaching_risk",
                severity="critical",
                title=say("alarm.fled", animal=name),
                message=say(
                    "alarm.fled_more",
                    animal=name,
                    speed=f"{flight.speed_mps * 3.6:.1f}",
                    hours=f"{stay.counted_s / 3600:.1f}",
                ),
            ),
            began_ms=stay.since_ms,
        )


def stationary_too_long(judging: Judging, seen: Seen, before: Newest | None) -> None:
    """Judge how long an animal has not left a small circle; sleep counts less, and what flight preceded is told so."""
    numbers = judging.rules.stationary_too_long
    if not numbers.is_on:
        return
    counted_s = _gap_s(before, seen, numbers)
    if before is not None:
        hour = solar_hour((before.recorded_ms + seen.recorded_ms) // 2, seen.lon_deg)
        begins, ends = numbers.sleep_from, numbers.sleep_to
        is_sleep = begins <= hour < ends if begins <= ends else hour >= begins or hour < ends
        is_busy = seen.state not in (None, "resting") and (seen.state_confidence or 0.0) >= _SURE
        counted_s *= (numbers.sleep_weight if is_sleep else 1.0) * (numbers.busy_weight if is_busy else 1.0)
    stay = _stayed(judging, "stationary_too_long", seen, numbers, counted_s)
    if stay is None or stay.counted_s < numbers.hours * 3600 or judging.event("poaching_risk") is not None:
        return
    name = judging.subject.name
    hours = (seen.recorded_ms - stay.since_ms) / HOUR_MS
    judging.holds(
        "stationary_too_long",
        telling_at(
            seen,
            alert_type="stationary_too_long",
            severity="high",
            title=say("alarm.still", animal=name, hours=f"{hours:.0f}"),
            message=say("alarm.still_more", animal=name, metres=f"{numbers.radius_m:.0f}", hours=f"{hours:.1f}"),
        ),
        began_ms=stay.since_ms,
    )


def _gap_s(before: Newest | None, seen: Seen, numbers: StationaryTooLong | PoachingRisk) -> float:
    if before is None:
        return 0.0
    return min((seen.recorded_ms - before.recorded_ms) / 1000, numbers.max_gap_hours * 3600)


def _stayed(
    judging: Judging, rule: RuleName, seen: Seen, numbers: StationaryTooLong | PoachingRisk, counted_s: float
) -> Stay | None:
    """Return the stay that ``seen`` goes on with; None where it begins a new one, or is on its way out."""
    stays = judging.watch.stays
    stay = stays.get(rule)
    if stay is not None:
        away_m = haversine_m(stay.lon_deg, stay.lat_deg, seen.lon_deg, seen.lat_deg) - (seen.h_acc_m or 0.0)
        if away_m <= numbers.radius_m:
            stay.n += 1
            stay.counted_s += counted_s
            stay.lon_deg += (seen.lon_deg - stay.lon_deg) / stay.n
            stay.lat_deg += (seen.lat_deg - stay.lat_deg) / stay.n
            return stay
        if judging.event(rule) is not None and away_m <= numbers.clear_radii * numbers.radius_m:
            return None
    judging.clears(rule)
    stays[rule] = Stay(since_ms=seen.recorded_ms, lon_deg=seen.lon_deg, lat_deg=seen.lat_deg)
    return None


def rapid_movement(judging: Judging, seen: Seen, before: Newest | None) -> None:
    """Judge a run of steps faster than the kind's threshold and the animal's own fastest, and learn its speeds."""
    numbers = judging.rules.rapid_movement
    if not numbers.is_on or before is None:
        return
    watch = judging.watch
    speed = step_speed_mps(before, seen, numbers.max_gap_hours)
    own = own_speed_mps(watch, seen, before, 0.999, _LEARN_STEPS)
    threshold = max(numbers.speed_mps, numbers.own_factor * (own or 0.0))
    if speed is not None and speed >= threshold:
        _run(judging, seen, before, speed)
    else:
        for interval, fast in [] if watch.run is None else watch.run.steps:
            _learn_speed(watch, interval, fast)
        watch.run = None
        watch.n_slow = watch.n_slow + 1 if speed is None or speed < numbers.clear_share * threshold else 0
        if watch.n_slow >= numbers.clear_fixes:
            judging.clears("rapid_movement")
        if speed is not None:
            _learn_speed(watch, _class_of(seen, before), speed)


def _run(judging: Judging, seen: Seen, before: Newest, speed_mps: float) -> None:
    watch = judging.watch
    metres = speed_mps * (seen.recorded_ms - before.recorded_ms) / 1000
    if watch.run is None:
        watch.run = Run(began_ms=before.recorded_ms, ended_ms=seen.recorded_ms, metres=metres)
    else:
        watch.run.ended_ms, watch.run.metres = seen.recorded_ms, watch.run.metres + metres
    watch.run.steps.append((_class_of(seen, before), speed_mps))  # a run must not become usual while it lasts
    watch.n_slow = 0
    minutes = (watch.run.ended_ms - watch.run.began_ms) / 60_000
    if minutes < judging.rules.rapid_movement.minutes and judging.event("rapid_movement") is None:
        return
    name = judging.subject.name
    judging.holds(
        "rapid_movement",
        telling_at(
            seen,
            alert_type="rapid_movement",
            severity="medium",
            title=say("alarm.fast", animal=name),
            message=say("alarm.fast_more", animal=name, km=f"{watch.run.metres / 1000:.1f}", minutes=f"{minutes:.0f}"),
        ),
        began_ms=watch.run.began_ms,
    )


def _class_of(seen: Seen, before: Newest) -> str:
    """Return the class of a step's interval: a long step is slower than the short ones that it is made of."""
    minutes = max(1.0, (seen.recorded_ms - before.recorded_ms) / 60_000)
    return str(min(5, max(-2, round(math.log2(minutes / 15)))))


def own_speed_mps(watch: Watch, seen: Seen, before: Newest, share: float, learn_steps: int) -> float | None:
    """Return the speed that ``share`` of the animal's steps over such an interval stay below; None: not known yet."""
    counts = watch.speeds.get(_class_of(seen, before))
    total = sum(counts) if counts else 0
    if counts is None or total < learn_steps:
        return None
    left = share * total
    for index, count in enumerate(counts):
        left -= count
        if left <= 0:
            return _SLOWEST_MPS * math.exp(_BIN * (index + 1))
    return _SLOWEST_MPS * math.exp(_BIN * _N_BINS)


def _learn_speed(watch: Watch, interval: str, speed_mps: float) -> None:
    counts = watch.speeds.setdefault(interval, [0] * _N_BINS)
    index = int(math.log(max(speed_mps, _SLOWEST_MPS) / _SLOWEST_MPS) / _BIN)
    counts[min(_N_BINS - 1, index)] += 1


def unusual_behavior(judging: Judging, seen: Seen) -> None:
    """Judge the likelihood of an animal's steps against its own usual one, and learn it."""
    numbers = judging.rules.unusual_behavior
    if not numbers.is_on or seen.log_likelihood is None or not math.isfinite(seen.log_likelihood):
        return
    if judging.watch.usual.model != seen.model:
        judging.watch.usual = Usual(model=seen.model)
        judging.clears("unusual_behavior")
    usual = judging.watch.usual
    usual.last = [*usual.last, seen.log_likelihood][-numbers.window_steps :]
    usual.n += 1
    if len(usual.last) < numbers.window_steps:
        return
    recent = statistics.fmean(usual.last)
    spread = math.sqrt(usual.variance)
    below = (usual.mean - recent) / spread if spread > 0 else 0.0
    weight = 1.0 / min(_USUAL_STEPS, usual.n - numbers.window_steps + 1)
    off = recent - usual.mean
    usual.mean += weight * off
    usual.variance = (1.0 - weight) * (usual.variance + weight * off * off)
    if usual.n < numbers.learn_steps:
        return
    if below >= numbers.spreads:
        name = judging.subject.name
        judging.holds(
            "unusual_behavior",
            telling_at(
                seen,
                alert_type="unusual_behavior",
                severity="low",
                title=say("alarm.unusual", animal=name),
                message=say("alarm.unusual_more", animal=name, steps=numbers.window_steps, spreads=f"{below:.1f}"),
            ),
            began_ms=seen.recorded_ms,
        )
    elif below <= numbers.clear_spreads:
        judging.clears("unusual_behavior")
