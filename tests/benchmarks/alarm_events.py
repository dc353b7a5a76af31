"""Events put into real tracks at seeded instants: whether they are told, and how soon."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from edge.alerts.engine import Engine
from edge.alerts.rules import RuleName
from edge.alerts.seen import Seen, Subject
from shared.movement.kinds import category_of
from tests.benchmarks.alarm_replay import DAY_MS, HOUR_MS, METRES_A_DEGREE, Rung, Track, replay
from tests.benchmarks.tables import Table

#: Fixes of the animal's own past before the event: what the rules learn from.
_PAST: Final = 1_200
_FLIGHT_MPS: Final = 2.5
_DRIVEN_MPS: Final = 2.2
_TICKED_MS: Final = 14 * DAY_MS


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of event: what the collar says from it on, which rules should tell it, and of how many at least."""

    what: str
    make: Callable[[Sequence[Seen], np.random.Generator], list[Seen]]
    rules: frozenset[RuleName]
    #: nothing is heard after it
    is_last: bool = False
    least_share: float = 0.95
    #: kinds of animals for which no such promise is made
    not_for: tuple[str, ...] = ()


def _moved(fix: Seen, at_ms: int, east_m: float, north_m: float) -> Seen:
    lon = fix.lon_deg + east_m / (METRES_A_DEGREE * math.cos(math.radians(fix.lat_deg)))
    return Seen(
        recorded_ms=at_ms, received_ms=at_ms + 5000, lon_deg=lon, lat_deg=fix.lat_deg + north_m / METRES_A_DEGREE
    )


def _step_ms(before: Sequence[Seen]) -> int:
    return int(statistics.median(b.recorded_ms - a.recorded_ms for a, b in itertools.pairwise(before)))


def _running(before: Sequence[Seen], rng: np.random.Generator, speed_mps: float, lasts_ms: int) -> list[Seen]:
    """Return fixes at the collar's own interval of an animal that runs straight on for so long, at least one."""
    step_ms, heading = _step_ms(before), rng.uniform(0, 2 * math.pi)
    seen = []
    for n in range(1, max(1, lasts_ms // step_ms) + 1):
        far_m = speed_mps * min(n * step_ms, lasts_ms) / 1000
        at_ms = before[-1].recorded_ms + n * step_ms
        seen.append(_moved(before[-1], at_ms, far_m * math.sin(heading), far_m * math.cos(heading)))
    return seen


def _fled(before: Sequence[Seen], rng: np.random.Generator) -> list[Seen]:
    return _running(before, rng, _FLIGHT_MPS, max(HOUR_MS // 2, min(_step_ms(before), HOUR_MS)))


def _driven(before: Sequence[Seen], rng: np.random.Generator) -> list[Seen]:
    return _running(before, rng, _DRIVEN_MPS, 2 * HOUR_MS)


def _lies(before: Sequence[Seen], rng: np.random.Generator) -> list[Seen]:
    """Return five days of a collar that lies still, as a receiver that errs by 8 m sees that."""
    last, step_ms = before[-1], _step_ms(before)
    return [
        _moved(last, last.recorded_ms + (n + 1) * step_ms, float(rng.normal(0, 8)), float(rng.normal(0, 8)))
        for n in range(5 * DAY_MS // step_ms)
    ]


def _dies_in_flight(before: Sequence[Seen], rng: np.random.Generator) -> list[Seen]:
    fled = _fled(before, rng)
    return [*fled, *_lies([*before[:-1], *fled[-1:]], rng)]


CASES: Final = (
    Case(what="dies where it stands", make=_lies, rules=frozenset({"stationary_too_long"})),
    Case(
        what="flees and dies",
        make=_dies_in_flight,
        rules=frozenset({"poaching_risk", "stationary_too_long"}),
    ),
    Case(
        what="flees and dies: told as poaching_risk",
        make=_dies_in_flight,
        rules=frozenset({"poaching_risk"}),
        not_for=("predator", "ungulate"),
    ),
    Case(
        what="collar falls silent",
        make=lambda _before, _rng: [],
        rules=frozenset({"silent_collar", "poaching_risk"}),
        is_last=True,
    ),
    Case(
        what="collar falls silent in flight",
        make=_fled,
        rules=frozenset({"poaching_risk", "silent_collar"}),
        is_last=True,
    ),
    Case(
        what="collar falls silent in flight: told as poaching_risk",
        make=_fled,
        rules=frozenset({"poaching_risk"}),
        is_last=True,
        least_share=0.8,
        not_for=("predator", "ungulate"),
    ),
    Case(
        what="is driven for two hours",
        make=_driven,
        rules=frozenset({"rapid_movement"}),
        not_for=("predator", "ungulate"),
    ),
)


class Found(msgspec.Struct, kw_only=True):
    """How often an event was put in and told, and after how many hours."""

    tried: int = 0
    delays_h: list[float] = []

    def row(self, what: str, kind: str, unit_h: float, unit: str) -> tuple[str, ...]:
        """Return a row of the table."""
        if not self.delays_h:
            return (what, kind, str(self.tried), "0", "-", "-")
        delays = sorted(self.delays_h)
        tenth = delays[min(len(delays) - 1, int(0.9 * len(delays)))]
        return (
            what, kind, str(self.tried), str(len(delays)), f"{statistics.median(delays) / unit_h:.1f} {unit}",
            f"{tenth / unit_h:.1f} {unit}",
        )  # fmt: skip


def injected(
    engine: Engine, real: Sequence[Track], times: int, say: Callable[[str], object] = lambda _: None
) -> tuple[Table, bool]:
    """Return how soon deaths, silences, drives and failing batteries are told, and whether as promised.

    ``say`` hears of each kind of event before it is put in.
    """
    rng = np.random.default_rng(23)
    rows: list[tuple[str, ...]] = []
    is_kept = True
    for case in CASES:
        say(f"  {case.what}")
        found: dict[str, Found] = {}
        for track in real:
            kind = category_of(track.subject.species)
            for _ in range(times):
                _put_in(engine, track, case, rng, found.setdefault(kind, Found()))
        for of_kind, entry in sorted(found.items()):
            rows.append(entry.row(case.what, of_kind, 1.0, "h"))
            is_kept &= of_kind in case.not_for or len(entry.delays_h) >= case.least_share * entry.tried
    batteries = _batteries(engine, rng, 3 * times)
    rows.append(batteries.row("battery falls: told before it is empty by", "any", 24.0, "d"))
    is_kept &= len(batteries.delays_h) == batteries.tried and min(batteries.delays_h) > 7 * 24
    columns = ("event", "kind", "put in", "told", "after, median", "after, upper tenth")
    return Table("Events put into real tracks", columns, rows), is_kept


def _put_in(engine: Engine, track: Track, case: Case, rng: np.random.Generator, entry: Found) -> None:
    at = int(rng.integers(len(track.seen) // 2, len(track.seen) - 2))
    before = track.seen[max(0, at - _PAST) : at]
    after = case.make(before, rng)
    event_ms = after[-1].recorded_ms if case.is_last and after else before[-1].recorded_ms
    until_ms = event_ms + _TICKED_MS if case.is_last else None
    entry.tried += 1
    done = replay(engine, track.subject, [*before, *after], tick_until_ms=until_ms, stop_at=case.rules)
    told_ms = _told_ms(done, case.rules)
    if later_ms := [at_ms for at_ms in told_ms if at_ms > event_ms]:
        entry.delays_h.append((min(later_ms) - event_ms) / HOUR_MS)


def _told_ms(done: Sequence[Rung], rules: frozenset[RuleName]) -> list[int]:
    """Return when alerts of these rules were raised."""
    return [each.act.columns["detected_ms"] for each in done if each.act.kind == "raise" and each.act.rule in rules]


def _batteries(engine: Engine, rng: np.random.Generator, count: int) -> Found:
    """Return how long before it was empty a falling battery was told: readings in percent every 4 h, noise 1 %."""
    entry = Found()
    subject = Subject(animal_id="battery", name="Battery", species="Loxodonta africana", collar_id="collar")
    begin_ms = 1_700_000_000_000
    for _ in range(count):
        n = int(rng.integers(40, 200)) * 6
        seen = []
        for i in range(n):
            at_ms = begin_ms + 4 * i * HOUR_MS
            pct = min(100.0, max(0.0, 100.0 * (1 - i / n) + rng.normal(0, 1.0)))
            lon = 37.0 + 0.01 * math.sin(i)
            seen.append(Seen(recorded_ms=at_ms, received_ms=at_ms, lon_deg=lon, lat_deg=-2.0, battery_pct=pct))
        entry.tried += 1
        done = replay(engine, subject, seen)
        if told_ms := _told_ms(done, frozenset({"low_battery"})):
            entry.delays_h.append((begin_ms + 4 * n * HOUR_MS - told_ms[0]) / HOUR_MS)
    return entry
