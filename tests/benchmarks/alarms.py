"""The alarms on real animals, on jittered borders and on injected events: ``python -m tests.benchmarks.alarms``.

Real tracks pass through the engine as a station would hear them, fix by fix, each received when it was recorded, with
the states of the packaged behaviour models and zones and a corridor drawn by a seeded hand. What rings there rings on
ordinary life, so each rule's rate is its false alarms. Events are then put into the same tracks at seeded instants.
Exits 1 where a promise is not kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
import typer

from edge.alerts.engine import Engine
from edge.alerts.rules import RULES, RuleBook, rule_book
from edge.alerts.seen import CORRIDOR_REACH_M, Seen, Subject
from edge.alerts.watch import Act, Watch
from models.hmm.datasets import DATASETS, Trajectory, trajectories
from models.hmm.features import FloatArray, usable_fixes
from models.hmm.runtime import load_model, median_interval_s
from models.hmm.tracker import Tracker
from shared.errors import ModelUnavailable
from shared.movement.areas import Nearby
from shared.movement.kinds import category_of
from tests.benchmarks.alarm_ahead import foretold
from tests.benchmarks.alarm_events import injected
from tests.benchmarks.alarm_replay import DAY_MS, METRES_A_DEGREE, MINUTE_MS, Rung, Track, replay
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


# --- real tracks


def tracks(folder: Path) -> Iterator[Track]:
    """Yield every real track with states, and what a seeded hand drew around it."""
    rng = np.random.default_rng(7)
    for dataset in DATASETS:
        if not (folder / dataset.file).is_file():
            continue
        for trajectory in trajectories(folder / dataset.file):
            yield track_of(trajectory, rng)


def track_of(trajectory: Trajectory, rng: np.random.Generator) -> Track:
    """Return a trajectory as the engine sees it."""
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
    return (lon - lon0) * METRES_A_DEGREE * math.cos(math.radians(lat0)), (lat - lat0) * METRES_A_DEGREE


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
    return np.asarray(np.hypot(x_m - x_m[begin] - along * dx, y_m - y_m[begin] - along * dy), dtype=np.float64)


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


def rates(book: RuleBook, real: Sequence[Track]) -> tuple[Table, bool]:
    """Return how often each rule rings on ordinary life, per animal and month of 30 days.

    In brackets how often it would if it could ring again about the same thing at once (``repeat_days`` 0), where that
    is more. Villages are drawn where the animal was, so it visits them: beside their alarms stands how often a fix is
    in their surroundings, or inside, after one that was not, which is how often an engine without memory would ring.
    """
    eager = Engine(rule_book({rule: {"repeat_days": 0.0} for rule in RULES}))
    rows, is_kept = [], True
    for track in real:
        rang, would = (
            Counter(each.act.rule for each in replay(engine, track.subject, track.seen) if each.act.kind == "raise")
            for engine in (Engine(book), eager)
        )
        is_kept &= all(rang[rule] / track.months <= MAX_PER_MONTH for rule in _JUDGED)
        is_kept &= rang["zone_entry"] <= _approaches(track)
        rows.append((
            track.subject.name, category_of(track.subject.species), f"{len(track.seen):,}", f"{track.months:.1f}",
            *(_rate(rang[rule], would[rule], track.months) for rule in _JUDGED),
            f"{rang['zone_entry'] / track.months:.2f}", f"{_approaches(track) / track.months:.2f}",
        ))  # fmt: skip
    columns = ("animal", "kind", "fixes", "months", *_JUDGED, "zone_entry", "approaches")
    return Table("Alarms per animal and month on real tracks", columns, rows), is_kept


def _rate(rang: int, would: int, months: float) -> str:
    return f"{rang / months:.2f}" + (f" ({would / months:.2f})" if would > rang else "")


def _approaches(track: Track) -> int:
    """Return how often a fix is nearer to a village than the one before: around it, or inside."""
    count, before = 0, dict[str, int]()
    for fix in track.seen:
        now = {n.id: 2 if n.is_inside else 1 for n in fix.nearby if n.kind == "zone" and n.distance_m <= n.buffer_m}
        count += sum(level > before.get(village, 0) for village, level in now.items())
        before = now
    return count


#: Rules that tracks alone can set off: the others need batteries, signals and company.
_JUDGED: Final = tuple(
    rule
    for rule in RULES
    if rule not in ("zone_entry", "zone_ahead", "low_battery", "weak_signal", "collar_fault", "proximity")
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
                recorded_ms=at_ms, received_ms=at_ms + 3000, lon_deg=37.0 + distance_m / METRES_A_DEGREE, lat_deg=-2.0,
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
        at_ms = seen[-1].recorded_ms + 3 * DAY_MS
        done = _zone_acts(replay(engine, subject, seen))
        ids += [act.alert_id for act in done if act.kind == "raise"]
        on_time += _counted(done)
        held = [msgspec.structs.replace(fix, received_ms=fix.received_ms + 3 * DAY_MS) for fix in seen]
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


def main(
    data: Annotated[Path, typer.Option(help="The folder of the track files.")] = FOLDER,
    crossings: Annotated[int, typer.Option(help="Jittered border crossings.")] = CROSSINGS,
    injections: Annotated[int, typer.Option(help="Events of each kind put into each track.")] = 10,
    do_write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
) -> None:
    """Measure the alarms. Exits 1 where a promise is not kept."""
    notes = console(is_stderr=True)
    engine = Engine(RuleBook())
    notes.print("reading tracks, states by the packaged models")
    real = list(tracks(data))
    made, verdicts = [], []
    parts: tuple[tuple[str, Callable[[], tuple[Table, bool]]], ...] = (
        ("borders", lambda: borders(engine, crossings)),
        ("ordinary life", lambda: rates(engine.book, real)),
        ("early warnings", lambda: foretold(engine, data, notes.print)),
        ("events put in", lambda: injected(engine, real, injections, notes.print)),
    )
    for what, run in parts:
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
