"""The alarms on real animals, on jittered borders and on injected events: ``python -m tests.benchmarks.alarms``.

Real tracks pass through the engine as a station would hear them, fix by fix, each received when it was recorded, with
the states of the packaged behaviour models and zones and a corridor drawn by a seeded hand. What rings there rings on
ordinary life, so each rule's rate is its false alarms. Events are then put into the same tracks at seeded instants.
Exits 1 where a promise is not kept.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
import typer

from edge.alerts.engine import Engine
from edge.alerts.rules import RULES, RuleBook, category_of
from edge.alerts.seen import CORRIDOR_REACH_M, Moment, Nearby, Seen, Subject
from edge.alerts.watch import Act, Watch
from models.hmm.datasets import DATASETS, Trajectory, trajectories
from models.hmm.features import FloatArray, usable_fixes
from models.hmm.runtime import Tracker, load_model, median_interval_s
from shared.errors import ModelUnavailable
from tests.benchmarks.tables import Table, console, write
from tests.real_data import FOLDER

README: Final = Path(__file__).parents[2] / "edge" / "alerts" / "README.md"
MARKS: Final = (
    "<!-- tables: written by `python -m tests.benchmarks.alarms --write` -->",
    "<!-- end of tables -->",
)
#: A rule that rings more often on ordinary life is mis-set: once a week per animal.
MAX_PER_MONTH: Final = 30.0 / 7.0
CROSSINGS: Final = 1000
HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000
_BATCH: Final = 24
_METRES_A_DEGREE: Final = 111_195.0


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """A real animal as the engine sees it."""

    subject: Subject
    seen: tuple[Seen, ...]

    @property
    def months(self) -> float:
        """How long it was followed, gaps and all."""
        return (self.seen[-1].recorded_ms - self.seen[0].recorded_ms) / 86_400_000 / 30


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the engine did, and when on the station's clock."""

    at_ms: int
    act: Act


def replay(engine: Engine, subject: Subject, seen: Sequence[Seen], *, tick_until_ms: int | None = None) -> list[Rung]:
    """Return what the engine does with ``seen`` in batches, with ticks where nothing is heard for long."""
    watch = Watch(animal_id=subject.animal_id)
    done: list[Rung] = []
    batch: list[Seen] = []

    def flush() -> None:
        nonlocal watch
        watch, acts = engine.judge(watch, subject, batch)
        done.extend(Rung(at_ms=batch[-1].received_ms if batch else 0, act=act) for act in acts)
        batch.clear()

    def tick(begin_ms: int, end_ms: int) -> None:
        nonlocal watch
        for now_ms in range(begin_ms + 10 * MINUTE_MS, end_ms, 10 * MINUTE_MS):
            watch, acts = engine.tick(watch, subject, Moment(now_ms=now_ms, is_clock_sure=True))
            done.extend(Rung(at_ms=now_ms, act=act) for act in acts)
            if now_ms - begin_ms > 15 * 86_400_000:
                return

    previous: Seen | None = None
    for fix in seen:
        if previous is not None and fix.received_ms - previous.received_ms > 2 * HOUR_MS:
            flush()
            tick(previous.received_ms, fix.received_ms)
        batch.append(fix)
        if len(batch) == _BATCH:
            flush()
        previous = fix
    flush()
    if tick_until_ms is not None and previous is not None:
        tick(previous.received_ms, tick_until_ms)
    return done


# --- real tracks


def tracks(folder: Path) -> Iterator[Track]:
    """Yield every real track with states, and what a seeded hand drew around it."""
    rng = np.random.default_rng(7)
    for dataset in DATASETS:
        if not (folder / dataset.file).is_file():
            continue
        for trajectory in trajectories(folder / dataset.file):
            yield _track(trajectory, rng)


def _track(trajectory: Trajectory, rng: np.random.Generator) -> Track:
    order = usable_fixes(trajectory.times_s, trajectory.lon_deg, trajectory.lat_deg, trajectory.flags)
    times, lon, lat = trajectory.times_s[order], trajectory.lon_deg[order], trajectory.lat_deg[order]
    x_m, y_m = _metres(lon, lat, float(lon[0]), float(lat[0]))
    drawn = _drawn(x_m, y_m, rng)
    states = _states(trajectory.species, times, lon, lat)
    seen = []
    for i, time_s in enumerate(times.tolist()):
        state, confidence, likelihood = states.get(time_s, (None, None, None))
        seen.append(
            Seen(
                recorded_ms=round(time_s * 1000), received_ms=round(time_s * 1000) + 5_000, lon_deg=float(lon[i]),
                lat_deg=float(lat[i]), nearby=drawn[i], state=state, state_confidence=confidence,
                log_likelihood=likelihood,
            )
        )  # fmt: skip
    subject = Subject(
        animal_id=trajectory.individual, name=trajectory.individual, species=trajectory.species, collar_id="collar"
    )
    return Track(subject=subject, seen=tuple(seen))


def _metres(lon: FloatArray, lat: FloatArray, lon0: float, lat0: float) -> tuple[FloatArray, FloatArray]:
    return (lon - lon0) * _METRES_A_DEGREE * math.cos(math.radians(lat0)), (lat - lat0) * _METRES_A_DEGREE


def _drawn(x_m: FloatArray, y_m: FloatArray, rng: np.random.Generator) -> list[tuple[Nearby, ...]]:
    """Draw two villages at the edge of the range, of 1 km with 500 m around, and a corridor through its middle."""
    near: list[list[Nearby]] = [[] for _ in x_m]
    from_middle = np.hypot(x_m - np.median(x_m), y_m - np.median(y_m))
    edge = np.flatnonzero(from_middle > np.quantile(from_middle, 0.95))
    for number, at in enumerate(rng.choice(edge, 2).tolist()):
        distance = np.hypot(x_m - x_m[at], y_m - y_m[at]) - 1000.0
        for i in np.flatnonzero(distance < 1500.0).tolist():
            near[i].append(
                Nearby(
                    kind="zone", id=f"village {number}", name=f"village {number}",
                    distance_m=max(0.0, float(distance[i])), is_inside=bool(distance[i] <= 0),
                    zone_type="settlement", risk_level="high", buffer_m=500.0,
                )
            )  # fmt: skip
    begin, end = rng.choice(np.flatnonzero(from_middle <= np.median(from_middle)), 2).tolist()
    distance = _to_segment_m(x_m, y_m, begin, end) - 1500.0
    for i in np.flatnonzero(distance < CORRIDOR_REACH_M).tolist():
        near[i].append(
            Nearby(
                kind="corridor", id="corridor", name="the corridor", distance_m=max(0.0, float(distance[i])),
                is_inside=bool(distance[i] <= 0), status="active",
            )
        )  # fmt: skip
    return [tuple(each) for each in near]


def _to_segment_m(x_m: FloatArray, y_m: FloatArray, begin: int, end: int) -> FloatArray:
    dx, dy = x_m[end] - x_m[begin], y_m[end] - y_m[begin]
    along = np.clip(((x_m - x_m[begin]) * dx + (y_m - y_m[begin]) * dy) / max(1.0, dx * dx + dy * dy), 0.0, 1.0)
    return np.hypot(x_m - x_m[begin] - along * dx, y_m - y_m[begin] - along * dy)


def _states(species: str, times: FloatArray, lon: FloatArray, lat: FloatArray) -> dict[float, tuple[str, float, float]]:
    """Return what the station's model says of the step that ends at each fix, as it says it when that fix comes."""
    interval_s = median_interval_s(times)
    if interval_s is None:
        return {}
    try:
        tracker = Tracker(load_model(species).variant_for(interval_s))
    except ModelUnavailable:
        return {}
    said = {}
    for time_s, lon_deg, lat_deg in zip(times.tolist(), lon.tolist(), lat.tolist(), strict=True):
        for step in tracker.add(time_s, lon_deg, lat_deg).changed:
            if step.ended_at_s == time_s:
                said[time_s] = (step.state, step.confidence, step.log_likelihood)
    return said


def rates(engine: Engine, real: Sequence[Track]) -> tuple[Table, bool]:
    """Return how often each rule rings on ordinary life, per animal and month of 30 days."""
    rows, is_kept = [], True
    for track in real:
        rang = Counter(each.act.rule for each in replay(engine, track.subject, track.seen) if each.act.kind == "raise")
        per_month = {rule: rang[rule] / track.months for rule in _JUDGED}
        is_kept &= all(rate <= MAX_PER_MONTH for rate in per_month.values())
        rows.append((
            track.subject.name, category_of(track.subject.species), f"{len(track.seen):,}", f"{track.months:.1f}",
            *(f"{rate:.2f}" for rate in per_month.values()),
        ))  # fmt: skip
    return Table(
        "Alarms per animal and month on real tracks", ("animal", "kind", "fixes", "months", *_JUDGED), rows
    ), is_kept


#: Rules that tracks alone can set off: the others need batteries, signals and company.
_JUDGED: Final = tuple(
    rule for rule in RULES if rule not in ("low_battery", "weak_signal", "collar_fault", "proximity")
)


# --- borders


def crossing(rng: np.random.Generator, begin_ms: int) -> tuple[list[Seen], int]:
    """Return fixes every 10 minutes of an animal that visits a zone, and how many visits it made.

    It comes from 3 km outside, dwells on the border itself, goes in or along it, now and then steps out for less than
    the all-clear takes, leaves, and sometimes comes back after hours. Its receiver errs by 12 m, rarely by 40 m.
    """
    path: list[float] = [3000.0, 2000.0, 1200.0]
    visits = int(rng.integers(1, 3))
    for _ in range(visits):
        path += [600.0, 300.0, -60.0]
        path += rng.uniform(-25.0, 10.0, size=int(rng.integers(2, 13))).tolist()
        path += rng.uniform(-400.0, -80.0, size=int(rng.integers(1, 8))).tolist()
        if rng.random() < 0.4:
            path += [150.0, 200.0, -120.0]
        path += rng.uniform(-25.0, 10.0, size=int(rng.integers(0, 7))).tolist()
        path += [400.0, 900.0, 1500.0, *[2500.0] * int(rng.integers(12, 30))]
    seen = []
    for n, true_m in enumerate(path):
        at_ms = begin_ms + n * 10 * MINUTE_MS
        distance_m = true_m + rng.normal(0.0, 40.0 if rng.random() < 0.02 and abs(true_m) > 200 else 12.0)
        zone = Nearby(
            kind="zone", id="farm", name="the farm", distance_m=max(0.0, distance_m), is_inside=distance_m <= 0,
            zone_type="agriculture", risk_level="high", buffer_m=1000.0,
        )  # fmt: skip
        near = (zone,) if distance_m < 1500 else ()
        seen.append(
            Seen(
                recorded_ms=at_ms, received_ms=at_ms + 3000, lon_deg=37.0 + distance_m / _METRES_A_DEGREE, lat_deg=-2.0,
                nearby=near,
            )
        )  # fmt: skip
    return seen, visits


def borders(engine: Engine, count: int) -> tuple[Table, bool]:
    """Return what rang at jittered borders, on time and late."""
    rng = np.random.default_rng(11)
    subject = Subject(animal_id="crosser", name="Crosser", species="Loxodonta africana", collar_id="collar")
    visits, at_ms = 0, 1_700_000_000_000
    on_time, late, restarted = Counter[str](), Counter[str](), Counter[str]()
    ids: list[str] = []
    for _ in range(count):
        seen, made = crossing(rng, at_ms)
        visits += made
        at_ms = seen[-1].recorded_ms + 3 * 86_400_000
        done = _zone_acts(replay(engine, subject, seen))
        ids += [act.alert_id for act in done if act.kind == "raise"]
        on_time += _counted(done)
        held = [msgspec.structs.replace(fix, received_ms=fix.received_ms + 3 * 86_400_000) for fix in seen]
        late += _counted(_zone_acts(replay(engine, subject, held)))
        watch = Watch(animal_id=subject.animal_id)
        for fix in seen:  # one batch a fix, each given twice: a station that is killed after every one
            for again in (fix, fix):
                watch, acts = engine.judge(watch, subject, [again])
                restarted += _counted(_zone_acts([Rung(at_ms=0, act=act) for act in acts]))
    rows = [
        (name, f"{visits:,}", *(f"{counted[kind]:,}" for kind in ("raise", "change", "clear", "rings")))
        for name, counted in (("on time", on_time), ("killed after each fix", restarted), ("three days late", late))
    ]
    wanted = {"raise": visits, "change": visits, "clear": visits, "rings": 3 * visits}
    is_kept = len(set(ids)) == len(ids) == visits and on_time == wanted == restarted and not late["rings"]
    columns = ("fixes come", "visits", "alerts", "rose from warning to entry", "all-clears", "told aloud")
    return Table(f"{count:,} jittered border crossings", columns, rows), is_kept


def _zone_acts(done: Iterable[Rung]) -> list[Act]:
    return [each.act for each in done if each.act.rule == "zone_entry"]


def _counted(acts: Iterable[Act]) -> Counter[str]:
    counted = Counter[str]()
    for act in acts:
        counted[act.kind] += 1
        if act.rings:
            counted["rings"] += 1
    return counted


# --- injected events


class Injection(msgspec.Struct, kw_only=True):
    """How often one kind of event was put in and found, and after how long."""

    tried: int = 0
    delays_h: list[float] = []

    def row(self, what: str, unit_h: float, unit: str) -> tuple[str, ...]:
        """Return a row of the table."""
        if not self.delays_h:
            return (what, str(self.tried), "0", "-", "-")
        delays = sorted(self.delays_h)
        worst = delays[min(len(delays) - 1, int(0.9 * len(delays)))]
        return (
            what, str(self.tried), str(len(delays)), f"{statistics.median(delays) / unit_h:.1f} {unit}",
            f"{worst / unit_h:.1f} {unit}",
        )  # fmt: skip


def injected(engine: Engine, real: Sequence[Track], times: int) -> tuple[Table, bool]:
    """Return how soon deaths, silences and failing batteries are told."""
    rng = np.random.default_rng(23)
    found: dict[tuple[str, str], Injection] = {}
    for track in real:
        kind = category_of(track.subject.species)
        for _ in range(times):
            at = int(rng.integers(len(track.seen) // 2, len(track.seen) - 2))
            before = track.seen[max(0, at - 1500) : at]
            for what, seen, until_ms, rules in (
                (
                    "death after flight",
                    [*before, *_death(before, rng, is_flight=True)],
                    None,
                    {"poaching_risk", "stationary_too_long"},
                ),
                ("death in its sleep", [*before, *_death(before, rng, is_flight=False)], None, {"stationary_too_long"}),
                (
                    "collar silent",
                    list(before),
                    before[-1].received_ms + 14 * 86_400_000,
                    {"silent_collar", "poaching_risk"},
                ),
                (
                    "collar silent in flight",
                    [*before, *_flight(before, rng)],
                    before[-1].received_ms + 14 * 86_400_000,
                    {"poaching_risk"},
                ),
            ):
                event_ms = seen[-1].recorded_ms if until_ms else before[-1].recorded_ms
                row = found.setdefault((what, kind), Injection())
                row.tried += 1
                done = replay(engine, track.subject, seen, tick_until_ms=until_ms)
                rang = [
                    each.act.columns["detected_ms"] - event_ms
                    for each in done
                    if each.act.kind == "raise"
                    and each.act.rule in rules
                    and each.act.columns["detected_ms"] > event_ms
                ]
                if rang:
                    row.delays_h.append(min(rang) / HOUR_MS)
    rows = [(*entry.row(what, 1.0, "h"), kind) for (what, kind), entry in sorted(found.items())]
    rows = [(what, kind, *rest) for what, *rest, kind in rows]
    batteries = _batteries(engine, rng, times)
    what, *rest = batteries.row("battery falling: warned before it is empty by", 24.0, "d")
    rows.append((what, "any", *rest))
    is_kept = len(batteries.delays_h) == batteries.tried
    is_kept &= all(
        len(entry.delays_h) >= 0.95 * entry.tried
        for (what, kind), entry in found.items()
        if what in ("collar silent", "death in its sleep") or (what.startswith("death") and kind != "predator")
    )
    return Table(
        "Injected events", ("event", "kind", "put in", "told", "after, median", "after, upper tenth"), rows
    ), is_kept


def _moved(fix: Seen, at_ms: int, east_m: float, north_m: float) -> Seen:
    lon = fix.lon_deg + east_m / (_METRES_A_DEGREE * math.cos(math.radians(fix.lat_deg)))
    return Seen(
        recorded_ms=at_ms, received_ms=at_ms + 5000, lon_deg=lon, lat_deg=fix.lat_deg + north_m / _METRES_A_DEGREE
    )


def _step_ms(before: Sequence[Seen]) -> int:
    return int(statistics.median(b.recorded_ms - a.recorded_ms for a, b in itertools.pairwise(before)))


def _flight(before: Sequence[Seen], rng: np.random.Generator) -> list[Seen]:
    """Return one step of flight at 2.5 m/s for at most an hour, on top of where it was."""
    step_ms = _step_ms(before)
    far_m = 2.5 * min(step_ms / 1000, 3600.0)
    heading = rng.uniform(0, 2 * math.pi)
    return [_moved(before[-1], before[-1].recorded_ms + step_ms, far_m * math.sin(heading), far_m * math.cos(heading))]


def _death(before: Sequence[Seen], rng: np.random.Generator, *, is_flight: bool) -> list[Seen]:
    """Return five days of a collar that lies still, as its receiver sees that."""
    fled = _flight(before, rng) if is_flight else []
    last, step_ms = (fled or before)[-1], _step_ms(before)
    count = int(5 * 86_400_000 / step_ms)
    return fled + [
        _moved(last, last.recorded_ms + (n + 1) * step_ms, float(rng.normal(0, 8)), float(rng.normal(0, 8)))
        for n in range(count)
    ]


def _batteries(engine: Engine, rng: np.random.Generator, times: int) -> Injection:
    """Return how long before it was empty a falling battery was told: hourly readings in percent, noise 1 %."""
    entry = Injection()
    subject = Subject(animal_id="battery", name="Battery", species="Loxodonta africana", collar_id="collar")
    for _ in range(3 * times):
        days = int(rng.integers(40, 200))
        begin_ms = 1_700_000_000_000
        seen = []
        for hour in range(days * 24):
            at_ms = begin_ms + hour * HOUR_MS
            pct = 100.0 * (1 - hour / (days * 24)) + rng.normal(0, 1.0)
            seen.append(
                Seen(
                    recorded_ms=at_ms, received_ms=at_ms, lon_deg=37.0 + 0.01 * math.sin(hour), lat_deg=-2.0,
                    battery_pct=min(100.0, max(0.0, pct)),
                )
            )  # fmt: skip
        entry.tried += 1
        rang = [each.act.columns["detected_ms"] for each in replay(engine, subject, seen)
                if each.act.rule == "low_battery" and each.act.kind == "raise"]  # fmt: skip
        if rang:
            entry.delays_h.append((begin_ms + days * 24 * HOUR_MS - rang[0]) / HOUR_MS)
    return entry


def main(
    data: Annotated[Path, typer.Option(help="The folder of the track files.")] = FOLDER,
    crossings: Annotated[int, typer.Option(help="Jittered border crossings.")] = CROSSINGS,
    injections: Annotated[int, typer.Option(help="Events put into each track.")] = 20,
    do_write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
) -> None:
    """Measure the alarms."""
    notes = console(is_stderr=True)
    engine = Engine(RuleBook())
    notes.print("reading tracks, states by the packaged models")
    real = list(tracks(data))
    made, verdicts = [], []
    for what, run in (
        ("borders", lambda: borders(engine, crossings)),
        ("ordinary life", lambda: rates(engine, real)),
        ("injected events", lambda: injected(engine, real, injections)),
    ):
        notes.print(what)
        table, is_kept = run()
        made.append(table)
        verdicts.append((what, is_kept))
        console().print(table.on_terminal())
    for what, is_kept in verdicts:
        console().print(f"{what}: {'as promised' if is_kept else 'NOT as promised'}")
    if do_write:
        write(made, README, MARKS)
        notes.print(f"written: {README}")
    if not all(is_kept for _, is_kept in verdicts):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
