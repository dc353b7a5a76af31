"""What the quality rules find of faults put into real tracks, and what they say of the tracks as they are.

`python -m tests.benchmarks.quality [--write]`. The real tracks were cleaned by their authors, so every fault is one
that was put in, seeded, one kind at a time; a fault is found when its fix has any excluding flag (or its time was put
right, or its row refused as a twin). What is flagged beside that and was not in the clean track is a false alarm.
"""

from __future__ import annotations

import csv
import math
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from shared.domain import EXCLUDING
from shared.ids import fix_id
from shared.movement.quality import ROLLOVER_MS, Judged, Limits, corrected_ms, judge, limits_for
from shared.movement.twins import Place, zone_twins
from tests.benchmarks import tables
from tests.benchmarks.tables import Table
from tests.real_data import FOLDER

FILES: Final = (
    "buffalo_Wniger_activity.csv", "buffalo_kruger_cross2016.csv", "coyote_cougar_utah_mahoney2016.csv",
    "elephant_etosha_getz2010.csv", "elephant_wall2014_movebank.csv", "reddeer_amt.csv", "wildebeest_mara_stabach.csv",
)  # fmt: skip
README: Final = Path(__file__).with_name("README.md")
MARKS: Final = (
    "<!-- quality: written by `python -m tests.benchmarks.quality --write` -->", "<!-- end of quality -->",
)  # fmt: skip
SEED: Final = 20_260_101
#: One fault in so many fixes, never nearer to each other or to an end than that.
EVERY: Final = 40
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000
_HALF_TURN_E7: Final = 1_800_000_000

Track = list[Judged]


class Faulty(msgspec.Struct):
    """A track with faults in it: which ids are faults; the others are as they were."""

    track: Track
    faults: set[bytes]


Injection = Callable[[Track, Limits, random.Random], Faulty]


class Score(msgspec.Struct):
    """Counts over all tracks."""

    injected: int = 0
    found: int = 0
    good: int = 0
    false_alarms: int = 0


def tracks_of(path: Path) -> dict[tuple[str, str], Track]:
    """Return the tracks of a file by individual and species, numbered and heard 5 s after they were recorded."""
    tracks: dict[tuple[str, str], Track] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            track = tracks[row["individual"], row["species"]]
            time_ms = round(datetime.fromisoformat(row["timestamp"]).timestamp() * 1000)
            lon, lat = round(float(row["lon"]) * 1e7), round(float(row["lat"]) * 1e7)
            track.append(
                Judged(
                    id=fix_id("collar:K", time_ms, lon, lat), time_ms=time_ms, raw_ms=time_ms, lon_e7=lon, lat_e7=lat,
                    hdop=float(row["hdop"]) if row.get("hdop") else None, seq=len(track) + 100,
                    received_ms=time_ms + 5_000, richness=2,
                )
            )  # fmt: skip
    return tracks


def places_of(path: Path) -> dict[tuple[str, str], list[Place]]:
    """Return when and where the individuals of a file were."""
    return {
        name: [Place(fix.time_ms, fix.lon_e7 or 0, fix.lat_e7 or 0) for fix in track]
        for name, track in tracks_of(path).items()
    }


# --- faults
def _at(track: Track, rng: random.Random) -> list[int]:
    return [start + rng.randrange(EVERY // 2) for start in range(EVERY, len(track) - EVERY, EVERY)]


def _far(fix: Judged, after: Judged, limits: Limits, rng: random.Random, times: float) -> tuple[int, int]:
    """Return a place ``times`` as far from ``fix`` as the species can go until ``after``, in any direction."""
    dt_s = (after.time_ms - fix.time_ms) / 1000
    reach_m = limits.max_speed_mps * dt_s + max(limits.sprint_mps - limits.max_speed_mps, 0) * min(
        dt_s, limits.sprint_s
    )
    far_e7, turn = (reach_m + 60) * times * 90, rng.uniform(0, 2 * math.pi)
    assert fix.lon_e7 is not None and fix.lat_e7 is not None  # noqa: PT018 - the tracks have no failed fix
    lat = round(fix.lat_e7 + far_e7 * math.cos(turn))
    lon = round(fix.lon_e7 + far_e7 * math.sin(turn) / math.cos(math.radians(fix.lat_e7 * 1e-7)))
    return (lon + _HALF_TURN_E7) % (2 * _HALF_TURN_E7) - _HALF_TURN_E7, max(min(lat, 890_000_000), -890_000_000)


def _run(size: int, times: float) -> Injection:
    """Return what puts ``size`` fixes in a row at one wrong place, 15 m apart from each other."""

    def inject(track: Track, limits: Limits, rng: random.Random) -> Faulty:
        made = list(track)
        faults = set()
        for at in _at(track, rng):
            # Beyond what the longest of the legs around and inside the run allows.
            longest = max(range(at - 1, at + size), key=lambda i: track[i + 1].time_ms - track[i].time_ms)
            lon, lat = _far(replace(track[at], time_ms=track[longest].time_ms), track[longest + 1], limits, rng, times)
            for k in range(at, at + size):
                made[k] = _moved(track[k], lon + rng.randint(-1_300, 1_300), lat + rng.randint(-1_300, 1_300))
                faults.add(made[k].id)
        return Faulty(made, faults)

    return inject


def _moved(fix: Judged, lon: int | None, lat: int | None) -> Judged:
    return replace(fix, id=fix_id("collar:K", fix.raw_ms, lon, lat), lon_e7=lon, lat_e7=lat)


def _each(change: Callable[[Judged, Judged, random.Random], Judged]) -> Injection:
    """Return what replaces single fixes."""

    def inject(track: Track, limits: Limits, rng: random.Random) -> Faulty:
        made = list(track)
        for at in _at(track, rng):
            made[at] = change(track[at], track[at + 1], rng)
        return Faulty(made, {made[at].id for at in range(len(made)) if made[at] is not track[at]})

    return inject


def _added(copy: Callable[[Judged, Judged, random.Random], Judged]) -> Injection:
    """Return what adds a fix beside single ones."""

    def inject(track: Track, limits: Limits, rng: random.Random) -> Faulty:
        copies = [copy(track[at], track[at + 1], rng) for at in _at(track, rng)]
        known = {fix.id for fix in track}
        copies = [each for each in copies if each.id not in known]
        return Faulty([*track, *copies], {each.id for each in copies})

    return inject


def _null(fix: Judged, _: Judged, rng: random.Random) -> Judged:
    near = (rng.randint(-500_000, 500_000), rng.randint(-500_000, 500_000))
    return _moved(fix, *rng.choice([(0, 0), near, (1 << rng.randint(10, 30), 1 << rng.randint(10, 29))]))


def _swapped(fix: Judged, _: Judged, __: random.Random) -> Judged:
    return _moved(fix, fix.lat_e7, fix.lon_e7)


def _elsewhere(fix: Judged, _: Judged, rng: random.Random) -> Judged:
    return _moved(fix, (fix.lon_e7 or 0) + rng.choice([-1, 1]) * rng.randint(4_000, 40_000), fix.lat_e7)


def _rounded(fix: Judged, _: Judged, __: random.Random) -> Judged:
    return replace(_moved(fix, (fix.lon_e7 or 0) // 1_000 * 1_000 + 1, fix.lat_e7), richness=1)


def _minute(fix: Judged, _: Judged, rng: random.Random) -> Judged:
    time_ms = fix.time_ms // _MINUTE_MS * _MINUTE_MS
    lon = (fix.lon_e7 or 0) + rng.randint(-500, 500)
    return replace(
        _timed(fix, time_ms), id=fix_id("collar:K", time_ms, lon, fix.lat_e7), lon_e7=lon, richness=0, seq=None
    )


def _timed(fix: Judged, time_ms: int) -> Judged:
    return replace(fix, id=fix_id("collar:K", time_ms, fix.lon_e7, fix.lat_e7), time_ms=time_ms, raw_ms=time_ms)


def _future(fix: Judged, _: Judged, rng: random.Random) -> Judged:
    return _timed(fix, fix.time_ms + rng.randint(_HOUR_MS, 3_000 * _HOUR_MS))


def _never_set(fix: Judged, _: Judged, rng: random.Random) -> Judged:
    return _timed(fix, rng.choice([0, 315_964_800_000]) + rng.randint(1, 3_000 * _HOUR_MS))


def _rolled(fix: Judged, _: Judged, __: random.Random) -> Judged:
    return _timed(fix, fix.time_ms - ROLLOVER_MS)


def _fell_behind(fix: Judged, after: Judged, rng: random.Random) -> Judged:
    """The clock starts again from a stored time: the fix is numbered as it was, and dated some schedules back."""
    step_ms = after.time_ms - fix.time_ms
    return _timed(fix, fix.time_ms - step_ms * rng.randint(3, 15) - rng.randint(1_000, step_ms // 2 + 1_001))


def _zone_twins(track: Track, limits: Limits, rng: random.Random) -> Faulty:
    """A fifth of the track once more in another zone, as a file of a logger in local time brings it."""
    n = len(track) // 5
    start, shift_ms = rng.randrange(len(track) - n), rng.choice([1, 2, 3, 5.5]) * _HOUR_MS
    known = {fix.id for fix in track}
    copies = [_timed(fix, fix.time_ms + round(shift_ms)) for fix in track[start : start + n]]
    copies = [each for each in copies if each.id not in known]
    return Faulty([*track, *copies], {each.id for each in copies})


FAULTS: Final[dict[str, Injection]] = {
    "a spike, half as far as possible": _run(1, 0.5),
    "a spike, 1.5 times as far as possible": _run(1, 1.5),
    "a spike, 5 times as far": _run(1, 5.0),
    "two in a row at one wrong place": _run(2, 5.0),
    "three in a row at one wrong place": _run(3, 5.0),
    "four in a row at one wrong place": _run(4, 5.0),
    "(0, 0), near it, powers of two": _each(_null),
    "longitude and latitude swapped": _each(_swapped),
    "another place at the same instant": _added(_elsewhere),
    "the same fix, rounded": _added(_rounded),
    "the same fix, cut to the minute": _added(_minute),
    "a time in the future": _each(_future),
    "a clock that was never set": _each(_never_set),
    "a clock that fell behind": _each(_fell_behind),
    "1024 weeks too early": _each(_rolled),
    "a fifth of the track in another time zone": _zone_twins,
}


# --- what is found
def score_of(name: str, tracks: dict[tuple[str, str], Track]) -> Score:
    """Inject one kind of fault into every track and count."""
    score, rng = Score(), random.Random(f"{SEED} {name}")
    for (_, species), track in tracks.items():
        limits = limits_for(species)
        clean = _excluded(track, limits)
        faulty = FAULTS[name](track, limits, rng)
        made = faulty.track
        rng.shuffle(made)  # no flag may depend on the order
        found = _twins(made) if name == "a fifth of the track in another time zone" else _found(made, track, limits)
        flagged = found if found is not None else set()
        score.injected += len(faulty.faults)
        score.found += len(faulty.faults & flagged)
        good = {fix.id for fix in made} - faulty.faults
        score.good += len(good)
        # A disagreement of two places accuses both, and that is meant; it is counted all the same.
        score.false_alarms += len((flagged & good) - clean)
    return score


def _found(made: Sequence[Judged], track: Track, limits: Limits) -> set[bytes]:
    """Return the ids that have an excluding flag, or whose time a home puts right before it judges."""
    first_ms, last_ms = track[0].time_ms, track[-1].time_ms
    corrected = []
    righted = set()
    for fix in made:
        time_ms, is_rolled = corrected_ms(fix.raw_ms, first_ms, last_ms)
        corrected.append(replace(fix, time_ms=time_ms, is_rolled=is_rolled) if is_rolled else fix)
        if is_rolled:
            righted.add(fix.id)
    return _excluded(corrected, limits) | righted


def _excluded(fixes: Sequence[Judged], limits: Limits) -> set[bytes]:
    return {fix.id for fix, flags in zip(fixes, judge(fixes, limits), strict=True) if flags & EXCLUDING}


def _twins(made: Sequence[Judged]) -> set[bytes]:
    places = [Place(fix.time_ms, fix.lon_e7 or 0, fix.lat_e7 or 0) for fix in made]
    return {made[twin.later].id for twin in zone_twins(places)}


def tables_of(tracks: dict[tuple[str, str], Track]) -> list[Table]:
    """Return the clean tracks by species, and what was found of each fault."""
    species: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for (_, name), track in tracks.items():
        places = [Place(fix.time_ms, fix.lon_e7 or 0, fix.lat_e7 or 0) for fix in track]
        found = (len(track), len(_excluded(track, limits_for(name))), len(zone_twins(places)))
        species[name] = [a + b for a, b in zip(species[name], found, strict=True)]
    clean = [(name, f"{n:,}", str(flagged), str(twins)) for name, (n, flagged, twins) in sorted(species.items())]
    rows = []
    for name in FAULTS:
        score = score_of(name, tracks)
        share = 100 * score.found / score.injected
        false = 1e5 * score.false_alarms / score.good
        rows.append((name, f"{score.injected:,}", f"{share:.1f} %", str(score.false_alarms), f"{false:.1f}"))
    return [
        Table("Real tracks as they are: false alarms", ("species", "fixes", "flagged", "taken for twins"), clean),
        Table(
            "Faults put in, one kind at a time",
            ("fault", "put in", "found", "good fixes flagged", "per 100,000 good ones"),
            rows,
        ),
    ]


def main() -> None:
    """Print the tables; ``--write`` puts them into the README."""
    missing = [name for name in FILES if not (FOLDER / name).is_file()]
    if missing:
        raise SystemExit(f"{FOLDER / missing[0]} is absent: set OUTPOST_REAL_DATA to the folder of the tracks")
    tracks = {
        (f"{name} {whose}", species): track
        for name in FILES
        for (whose, species), track in tracks_of(FOLDER / name).items()
    }
    made = tables_of(tracks)
    for table in made:
        tables.console().print(table.on_terminal())
    if "--write" in sys.argv[1:]:
        tables.write(made, README, MARKS)


if __name__ == "__main__":
    main()
