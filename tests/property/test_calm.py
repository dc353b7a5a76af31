"""Laws of appending: whatever is judged without looking back is judged as the rules judge the whole."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence

import msgspec
import pytest

from shared.movement.calm import COLUMNS, CalmEnd, CollarEnd, append, calm_end
from shared.movement.quality import CALM, Judged, Limits, judge, limits_for

pytestmark = pytest.mark.unit

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
START_MS = 1_700_000_040_000
KINDS = [limits_for("elephant"), limits_for("cheetah"), limits_for(None), Limits(max_speed_mps=0.5, max_hdop=3.0)]


class Collar:
    """A collar's fixes, all of them judged at once after every batch, and where it ends."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.fixes: list[Judged] = []
        self.flags: dict[bytes, int] = {}
        self.end: CalmEnd | None = None

    def state(self) -> CollarEnd:
        last_ms = max((fix.time_ms for fix in self.fixes), default=None)
        return CollarEnd(last_ms=last_ms, end=self.end, limits=self.limits)

    def take(self, batch: Sequence[Judged]) -> None:
        self.fixes = sorted([*self.fixes, *batch], key=lambda fix: (fix.time_ms, fix.id))
        self.flags = dict(zip([fix.id for fix in self.fixes], judge(self.fixes, self.limits), strict=True))

    def end_by_the_rules(self, n: int) -> CalmEnd | None:
        newest = self.fixes[-n:]
        flags = [self.flags[fix.id] for fix in newest]
        return calm_end(newest, flags, self.limits, is_whole=len(newest) < n)


def columns_of(fixes: Sequence[Judged]) -> dict[str, list[object]]:
    names = {"sure_received_ms": "received_ms"}
    return {name: [getattr(fix, names.get(name, name)) for fix in fixes] for name in COLUMNS}


def herd(rng: random.Random, n: int) -> list[tuple[int, Judged]]:
    """Return fixes of four collars in the order of their time, each with its collar; some are at fault."""
    bad, far, odd, failed = (rng.choice([0.0, 0.02, 0.3]) for _ in range(4))
    step_ms = rng.choice([61_000, 60_000, 1_800_000, 20_000])
    made = []
    for number in range(n):
        collar = rng.randrange(len(KINDS))
        time_ms = START_MS + number * step_ms + rng.choice([0, 0, rng.randint(0, step_ms)])
        lon = 355_000_000 + rng.choice([0, 800, 2_600]) + (rng.choice([9_000_000, 10**8]) if rng.random() < far else 0)
        lat = -15_000_000
        fix = Judged(
            id=rng.randbytes(8), time_ms=time_ms, raw_ms=time_ms, lon_e7=lon, lat_e7=lat,
            hdop=rng.choice([99.0, math.nan, 5.0]) if rng.random() < bad else None,
            pdop=rng.choice([None, 2.0]), sats=3 if rng.random() < bad else rng.choice([None, 9]),
            h_acc_m=rng.choice([None, 0.0, 25.0, 49.0]) if rng.random() < odd else None,
            seq=rng.choice([None, -1, 5, 40, 65_535, number, number - 3]) if rng.random() < odd else number + 20,
            received_ms=time_ms + rng.choice([-400_000, 4_000]) if rng.random() < odd else None,
            is_clock_unset=rng.random() < failed / 4, richness=rng.randint(0, 2),
        )  # fmt: skip
        if rng.random() < failed:
            place = rng.choice([(None, None), (0, 0), (1 << 28, 1 << 27), (1_900_000_000, 5), (-(2**63), 5), (None, 7)])
            fix = msgspec.structs.replace(fix, lon_e7=place[0], lat_e7=place[1])
        made.append((collar, fix))
    return made


def test_any_history_of_appends_ends_as_if_judged_whole() -> None:
    n_appended = n_left = 0
    for seed in range(2_000 if NIGHTLY else 200):
        rng = random.Random(seed)
        waiting = herd(rng, 120)
        collars = [Collar(limits) for limits in KINDS]
        while waiting:
            n = rng.randint(1, 12)
            batch, waiting = waiting[:n], waiting[n:]
            if rng.random() < 0.1:  # one comes late
                waiting.insert(rng.randint(0, len(waiting)), batch.pop())
            rng.shuffle(batch)
            if not batch:
                continue
            of = [collar for collar, _ in batch]
            judged = append(of, columns_of([fix for _, fix in batch]), [collar.state() for collar in collars])
            for number, collar in enumerate(collars):
                mine = [(fix, judged.flags[at]) for at, (which, fix) in enumerate(batch) if which == number]
                if not mine:
                    continue
                before = dict(collar.flags)
                collar.take([fix for fix, _ in mine])
                if judged.is_appended[number]:
                    n_appended += len(mine)
                    assert collar.flags == before | {fix.id: flags for fix, flags in mine}, seed
                    collar.end = judged.ends[number]
                else:
                    n_left += len(mine)
                    collar.end = collar.end_by_the_rules(rng.choice([CALM, 2 * CALM]))
    assert n_appended > n_left / 3  # neither side is idle
    assert n_left > 1_000


def test_animals_that_walk_on_are_never_left_to_the_rules() -> None:
    rng = random.Random(1)
    states = [CollarEnd(last_ms=None, end=None, limits=limits_for("elephant")) for _ in range(30)]
    lon = [355_000_000 + 1_000 * number for number in range(30)]
    for turn in range(40):
        of = rng.sample(range(30), 30)
        time_ms = START_MS + turn * 900_000
        lon = [each + rng.randint(-5_000, 5_000) for each in lon]
        fixes = [Judged(id=b"", time_ms=time_ms, raw_ms=time_ms, lon_e7=lon[n], lat_e7=-15_000_000) for n in of]
        judged = append(of, columns_of(fixes), states)
        assert all(judged.is_appended)
        assert not any(judged.flags)
        for state, end in zip(states, judged.ends, strict=True):
            state.last_ms, state.end = time_ms, end


def test_a_number_beyond_what_can_be_worked_out_is_left_to_the_rules() -> None:
    state = CollarEnd(last_ms=None, end=None, limits=limits_for("elephant"))
    for seq in (2**63, 2**62, -(2**62)):
        fix = Judged(id=b"", time_ms=START_MS, raw_ms=START_MS, lon_e7=355_000_000, lat_e7=-15_000_000, seq=seq)
        assert append([0], columns_of([fix]), [state]).is_appended == [False]
