"""Early warnings on real tracks: how often they ring, how many come true, and how long before."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from edge.alerts.engine import Engine
from edge.alerts.seen import Seen, Subject
from edge.pipeline.lookout import AGAIN, REACH_M
from models.forecast.calibration import OWN_DAYS
from models.forecast.features import MEMORY_DAYS
from models.hmm.datasets import DATASETS, trajectories
from models.hmm.features import FloatArray, usable_fixes
from models.live.ahead import Shape, aheads, shape_within
from models.live.forecasts import MOST_FIXES, OwnPast, worked_out
from models.live.runtime import Fixes, Models
from shared.insight import Ahead
from shared.movement.areas import Nearby
from tests.benchmarks.alarm_replay import DAY_MS, HOUR_MS, METRES_A_DEGREE, Track, replay
from tests.benchmarks.tables import Table

#: The newest days of a track: the forecast was fitted on its beginning.
DAYS: Final = 30
VILLAGES: Final = 6
RADIUS_M: Final = 1_000.0
BUFFER_M: Final = 500.0
#: A warning has come true if the animal is at the village within so long; an entry was foretold if it was told so.
WITHIN_MS: Final = 24 * HOUR_MS
#: One that had been inside less long ago is the same visit.
_AWAY_MS: Final = 12 * HOUR_MS
_BATCH: Final = 32
_SUBJECT: Final = Subject(animal_id="", name="", species="", collar_id="collar")
_SPAN_S: Final = (OWN_DAYS + MEMORY_DAYS) * 86_400.0


class Foretold(msgspec.Struct, kw_only=True):
    """What early warnings of one animal came to."""

    name: str
    months: float
    entries: int = 0
    warned: int = 0
    leads_h: list[float] = []
    rang: int = 0
    came_true: int = 0
    #: fixes in reach of a village and not at it, and those after which it was at it as soon as that
    in_reach: int = 0
    in_reach_true: int = 0
    chances: list[tuple[float, bool]] = []

    def row(self) -> tuple[str, ...]:
        """Return a row of the table."""
        sure = [is_inside for chance, is_inside in self.chances if chance >= 0.3]
        return (
            self.name, f"{self.months:.1f}", str(self.entries), str(self.warned),
            f"{statistics.median(self.leads_h):.1f} h" if self.leads_h else "-", str(self.rang), str(self.came_true),
            f"{self.in_reach_true / self.in_reach:.2f}" if self.in_reach else "-",
            f"{self.rang / self.months:.2f}" if self.months else "-",
            f"{np.mean([chance for chance, _ in self.chances if chance >= 0.3]):.2f}" if sure else "-",
            f"{np.mean(sure):.2f}" if sure else "-",
        )  # fmt: skip


def foretold(engine: Engine, folder: Path, say: Callable[[str], object] = lambda _: None) -> tuple[Table, bool]:
    """Return what early warnings come to on the last days of each track; false where they cry wolf.

    They cry wolf where they ring more often than the animals go to villages, or where fewer than half come true.
    """
    models, rng = Models(), np.random.default_rng(19)
    found = []
    for track, shapes in _tracks(folder, models, rng):
        say(f"  {track.subject.name}")
        found.append(_measured(engine, track, shapes))
    everyone = Foretold(
        name="all", months=sum(each.months for each in found), entries=sum(each.entries for each in found),
        warned=sum(each.warned for each in found), leads_h=[lead for each in found for lead in each.leads_h],
        in_reach=sum(each.in_reach for each in found), in_reach_true=sum(each.in_reach_true for each in found),
        rang=sum(each.rang for each in found), came_true=sum(each.came_true for each in found),
        chances=[pair for each in found for pair in each.chances],
    )  # fmt: skip
    columns = (
        "animal", "months", "entries", "foretold", "before, median", "warnings", "came true", "of any fix in reach",
        "a month",
        "chance said of .3 and more", "inside then",
    )  # fmt: skip
    rows = [each.row() for each in [*found, everyone]]
    is_kept = bool(found) and everyone.came_true >= everyone.rang / 2
    return Table(f"Early warnings of {VILLAGES} villages, last {DAYS} days", columns, rows), is_kept


def _tracks(folder: Path, models: Models, rng: np.random.Generator) -> Iterator[tuple[Track, list[Shape]]]:
    """Yield the last days of each track, with what the forecast said at each fix that is near a village."""
    for dataset in DATASETS:
        if not (folder / dataset.file).is_file():
            continue
        for one in trajectories(folder / dataset.file):
            order = usable_fixes(one.times_s, one.lon_deg, one.lat_deg, one.flags)
            times, lon, lat = one.times_s[order], one.lon_deg[order], one.lat_deg[order]
            first = int(np.searchsorted(times, times[-1] - DAYS * 86_400.0))
            if len(times) - first < 100:
                continue
            shapes, far_m = _villages(lon[first:], lat[first:], rng)
            said = _said(models, one.species, (times, lon, lat), first, far_m, shapes)
            seen = tuple(
                Seen(
                    recorded_ms=round(times[first + n] * 1000), received_ms=round(times[first + n] * 1000) + 5_000,
                    lon_deg=float(lon[first + n]), lat_deg=float(lat[first + n]), nearby=_near(shapes, far_m[:, n]),
                    ahead=said[n],
                )
                for n in range(len(times) - first)
            )  # fmt: skip
            subject = msgspec.structs.replace(
                _SUBJECT, animal_id=one.individual, name=one.individual, species=one.species
            )
            yield Track(subject=subject, seen=seen), shapes


def _villages(lon: FloatArray, lat: FloatArray, rng: np.random.Generator) -> tuple[list[Shape], FloatArray]:
    """Draw villages where the animal was at the edge of its range; return them and how far each fix is from each."""
    shrink = math.cos(math.radians(float(lat.mean())))
    x_m, y_m = (lon - lon[0]) * METRES_A_DEGREE * shrink, (lat - lat[0]) * METRES_A_DEGREE
    from_middle = np.hypot(x_m - np.median(x_m), y_m - np.median(y_m))
    edge = np.flatnonzero(from_middle > np.quantile(from_middle, 0.9))
    shapes, far = [], []
    for number, at in enumerate(rng.choice(edge, VILLAGES).tolist()):
        turns = np.linspace(0, 2 * math.pi, 49)
        ring = np.stack(
            (
                lon[at] + RADIUS_M * np.cos(turns) / METRES_A_DEGREE / shrink,
                lat[at] + RADIUS_M * np.sin(turns) / METRES_A_DEGREE,
            ),
            axis=1,
        )
        ahead = Ahead(kind="zone", id=f"v{number}", name=f"village {number}", zone_type="settlement", risk_level="high")
        geometry = {"type": "Polygon", "coordinates": [ring.tolist()]}
        shapes.append(shape_within(ahead, json.dumps(geometry)))
        far.append(np.hypot(x_m - x_m[at], y_m - y_m[at]) - RADIUS_M)
    return shapes, np.array(far)


def _near(shapes: Sequence[Shape], far_m: FloatArray) -> tuple[Nearby, ...]:
    return tuple(
        Nearby(
            kind="zone", id=shape.ahead.id, name=shape.ahead.name, distance_m=max(0.0, float(apart)),
            is_inside=bool(apart <= 0), zone_type="settlement", risk_level="high", buffer_m=BUFFER_M,
        )
        for shape, apart in zip(shapes, far_m, strict=True)
        if apart < 1_500.0
    )  # fmt: skip


def _said(
    models: Models,
    species: str,
    track: tuple[FloatArray, FloatArray, FloatArray],
    first: int,
    far_m: FloatArray,
    shapes: Sequence[Shape],
) -> list[tuple[Ahead, ...] | None]:
    """Return what lies ahead of each fix, as the station would work it out when it comes."""
    times, lon, lat = track
    said: list[tuple[Ahead, ...] | None] = [None] * far_m.shape[1]
    past = OwnPast()
    wanted, last_s = [], -math.inf
    nearest_m = np.asarray(far_m.min(axis=0))
    for n in range(nearest_m.size):
        if times[first + n] - last_s < AGAIN.total_seconds():
            continue  # nobody looks so soon again
        last_s = float(times[first + n])
        said[n] = ()
        if nearest_m[n] < REACH_M:
            wanted.append(n)
    for begin in range(0, len(wanted), _BATCH):
        asked = []
        for n in wanted[begin : begin + _BATCH]:
            end = first + n + 1
            since = max(int(np.searchsorted(times, times[end - 1] - _SPAN_S)), end - MOST_FIXES)
            nothing = np.full(end - since, np.nan)
            asked.append((
                species,
                Fixes(times_s=times[since:end], lon_deg=lon[since:end], lat_deg=lat[since:end], h_acc_m=nothing,
                      hdop=nothing),
            ))  # fmt: skip
        told = worked_out(models, asked, past, [0] * len(asked))
        for n, predicted in zip(wanted[begin : begin + _BATCH], told, strict=True):
            if not isinstance(predicted, str):
                said[n] = aheads(predicted, shapes, species)
    return said


def _measured(engine: Engine, track: Track, shapes: Sequence[Shape]) -> Foretold:
    found = Foretold(name=track.subject.name, months=track.months)
    rang: dict[str, list[int]] = {shape.ahead.id: [] for shape in shapes}
    for each in replay(engine, track.subject, track.seen):
        if each.act.rule == "zone_ahead" and each.act.rings and each.act.kind == "raise":
            rang[each.act.columns["zone_id"]].append(each.act.columns["detected_ms"])
    times_ms = np.array([fix.recorded_ms for fix in track.seen])
    for zone_id, told_ms in rang.items():
        near = [next((n for n in fix.nearby if n.id == zone_id), None) for fix in track.seen]
        inside = np.array([n is not None and n.is_inside for n in near])
        at = np.array([n is not None and n.distance_m <= n.buffer_m for n in near])
        last_ms = -DAY_MS * 9_999
        for ms in times_ms[inside].tolist():
            if ms - last_ms > _AWAY_MS and ms - times_ms[0] > WITHIN_MS:
                found.entries += 1
                before = [each for each in told_ms if 0 < ms - each <= WITHIN_MS]
                found.warned += bool(before)
                found.leads_h += [(ms - min(before)) / HOUR_MS] if before else []
            last_ms = ms
        found.rang += len(told_ms)
        ends = np.searchsorted(times_ms, times_ms + WITHIN_MS, side="right")
        visits = np.append(0, np.cumsum(at))
        far = _far_m(track, shapes[[shape.ahead.id for shape in shapes].index(zone_id)])
        reached = (visits[ends] - visits[np.arange(len(at)) + 1] > 0)[~at & (far < REACH_M)]
        found.in_reach, found.in_reach_true = found.in_reach + len(reached), found.in_reach_true + int(reached.sum())
        found.came_true += sum(bool(((times_ms > ms) & (times_ms <= ms + WITHIN_MS) & at).any()) for ms in told_ms)
        found.chances += _held(track.seen, times_ms, inside, zone_id)
    return found


def _far_m(track: Track, shape: Shape) -> FloatArray:
    """Return how far each fix is from the middle of a village."""
    west, south, east, north = shape.box
    lon, lat = (np.array([getattr(fix, name) for fix in track.seen]) for name in ("lon_deg", "lat_deg"))
    shrink = math.cos(math.radians(float(lat.mean())))
    return np.asarray(np.hypot((lon - (west + east) / 2) * shrink, lat - (south + north) / 2) * METRES_A_DEGREE)


def _held(seen: Sequence[Seen], times_ms: np.ndarray, inside: np.ndarray, zone_id: str) -> list[tuple[float, bool]]:
    """Return each chance that was said, with whether the animal was inside at that instant, where a fix tells."""
    pairs = []
    for fix in seen:
        for each in fix.ahead or ():
            if each.id != zone_id:
                continue
            for hours, chance in each.chances:
                at_ms = fix.recorded_ms + hours * HOUR_MS
                n = int(np.argmin(np.abs(times_ms - at_ms)))
                if abs(int(times_ms[n]) - at_ms) <= HOUR_MS / 4 + hours * HOUR_MS / 20:
                    pairs.append((chance, bool(inside[n])))
    return pairs
