"""Laws of the quality rules: order of arrival, incremental judging, injected faults, and clean real tracks."""

from __future__ import annotations

import bisect
import csv
import math
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain import FixFlag
from shared.ids import fix_id
from shared.movement.quality import (
    ROLLOVER_MS,
    Judged,
    Limits,
    corrected_ms,
    intrinsic_flags,
    judge,
    limits_for,
    rejudge,
    stands_alone,
)
from tests import real_data

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
LIMITS = limits_for("elephant")
START_MS = 1_700_000_040_000  # a whole minute
TRACK_FILES = [
    "buffalo_Wniger_activity.csv",
    "buffalo_kruger_cross2016.csv",
    "coyote_cougar_utah_mahoney2016.csv",
    "elephant_etosha_getz2010.csv",
    "elephant_wall2014_movebank.csv",
    "reddeer_amt.csv",
    "wildebeest_mara_stabach.csv",
]


def examples(n: int) -> settings:
    return settings(max_examples=n * 10 if NIGHTLY else n, deadline=None, derandomize=True, database=None)


class SortedFixes:
    """A collar's fixes as a store would hold them: one a key, fetched in order; counts its calls."""

    def __init__(self, fixes: Iterable[Judged] = ()) -> None:
        self._keys: list[tuple[int, bytes]] = []
        self._by_key: dict[tuple[int, bytes], Judged] = {}
        self.calls: list[str] = []
        for fix in fixes:
            self.put(fix)

    def put(self, fix: Judged) -> None:
        key = (fix.time_ms, fix.id)
        if key not in self._by_key:
            bisect.insort(self._keys, key)
        self._by_key[key] = fix

    def remove(self, fix: Judged) -> None:
        key = (fix.time_ms, fix.id)
        del self._by_key[key]
        self._keys.remove(key)

    def all(self) -> list[Judged]:
        return [self._by_key[key] for key in self._keys]

    def between(self, lo_ms: int, hi_ms: int) -> list[Judged]:
        self.calls.append("between")
        return self._slice(
            bisect.bisect_left(self._keys, (lo_ms, b"")), bisect.bisect_left(self._keys, (hi_ms + 1, b""))
        )

    def before(self, ms: int, n: int) -> list[Judged]:
        self.calls.append("before")
        end = bisect.bisect_left(self._keys, (ms, b""))
        return self._slice(max(0, end - n), end)

    def after(self, ms: int, n: int) -> list[Judged]:
        self.calls.append("after")
        start = bisect.bisect_left(self._keys, (ms + 1, b""))
        return self._slice(start, start + n)

    def _slice(self, start: int, end: int) -> list[Judged]:
        return [self._by_key[key] for key in self._keys[start:end]]


def whole(fixes: Sequence[Judged]) -> dict[bytes, int]:
    return dict(zip((fix.id for fix in fixes), judge(fixes, LIMITS), strict=True))


def named(flags: int) -> FixFlag:
    return FixFlag(flags)


# Few instants, few places: copies, disagreements, runs of outliers and of fixes that do not count all collide.
TIMES = st.one_of(
    st.integers(0, 12).map(lambda k: START_MS + 60_000 * k),
    st.integers(0, 180).map(lambda k: START_MS + 1_000 * k),
    st.integers(0, 12_000).map(lambda k: START_MS + k),
    st.integers(0, 40).map(lambda k: START_MS + 1_800_000 * k),
)
PLACES = st.sampled_from(
    [
        (355_000_000, -15_000_000),
        (355_001_000, -15_000_000),  # 11 m
        (355_002_500, -15_000_500),  # 28 m
        (355_009_000, -15_000_000),  # 100 m
        (355_900_000, -15_000_000),  # 10 km
        (391_000_000, 15_000_000),  # 500 km
        (0, 0),
        (1 << 28, 1 << 27),
        (None, None),
        (1_900_000_000, 0),
    ]
)


@st.composite
def fixes(draw: st.DrawFn) -> Judged:
    time_ms = draw(TIMES)
    lon, lat = draw(PLACES)
    return Judged(
        id=draw(st.binary(min_size=3, max_size=3)),
        time_ms=time_ms,
        raw_ms=time_ms,
        lon_e7=lon,
        lat_e7=lat,
        hdop=draw(st.sampled_from([None, None, None, 1.0, 99.0, math.nan])),
        sats=draw(st.sampled_from([None, None, None, 9, 3])),
        h_acc_m=draw(st.sampled_from([None, None, 5.0, 40.0])),
        seq=draw(st.one_of(st.none(), st.integers(10, 30), st.sampled_from([0, 65_534, 65_535, 5000]))),
        received_ms=draw(st.sampled_from([None, START_MS + 3_600_000, START_MS + 10**9])),
        is_clock_unset=draw(st.sampled_from([False] * 9 + [True])),
        richness=draw(st.integers(0, 2)),
    )


SETS = st.lists(fixes(), max_size=40, unique_by=lambda fix: fix.id)


@examples(60)
@given(SETS, st.randoms(use_true_random=False))
def test_flags_do_not_depend_on_the_order_given(sent: list[Judged], rng: random.Random) -> None:
    shuffled = rng.sample(sent, len(sent))
    assert whole(shuffled) == whole(sent)


@examples(80)
@given(SETS, st.integers(1, 6))
def test_rejudging_after_each_arrival_is_judging_the_whole(sent: list[Judged], batch: int) -> None:
    store = SortedFixes()
    stored: dict[bytes, int] = {}
    for at in range(0, len(sent), batch):
        new = sent[at : at + batch]
        lo, hi = min(fix.time_ms for fix in new), max(fix.time_ms for fix in new)
        is_append = all(fix.time_ms < lo for fix in store.all())
        for fix in new:
            store.put(fix)
        stored.update(rejudge(store, (lo, hi), LIMITS, is_append=is_append))
        assert stored == whole(store.all())


@examples(50)
@given(SETS)
def test_appending_in_time_order_is_judging_the_whole(sent: list[Judged]) -> None:
    store = SortedFixes()
    stored: dict[bytes, int] = {}
    for fix in sorted(sent, key=lambda fix: (fix.time_ms, fix.id)):
        is_append = all(other.time_ms < fix.time_ms for other in store.all())
        store.put(fix)
        stored.update(rejudge(store, (fix.time_ms, fix.time_ms), LIMITS, is_append=is_append))
    assert stored == whole(store.all())


@examples(60)
@given(SETS.filter(lambda sent: len(sent) > 1), st.data())
def test_altering_and_removing_is_rejudged_exactly(sent: list[Judged], data: st.DataObject) -> None:
    store = SortedFixes(sent)
    stored = whole(sent)
    for fix in data.draw(st.lists(st.sampled_from(sent), max_size=4, unique_by=lambda fix: fix.id)):
        store.remove(fix)
        times = [fix.time_ms]
        if data.draw(st.booleans()):
            richer = msgspec.structs.replace(data.draw(fixes()), id=fix.id)
            store.put(richer)
            times.append(richer.time_ms)
        else:
            del stored[fix.id]
        stored.update(rejudge(store, (min(times), max(times)), LIMITS))
        assert stored == whole(store.all())


def crowd(rng: random.Random, n: int) -> list[Judged]:
    """Return fixes whose flags hang together: runs of outliers, copies and numbers out of order, close in time."""
    step_ms = rng.choice([400, 7_000, 21_000, 61_000, 1_800_000])
    grain_ms = rng.choice([1, 1000, 60_000])
    bad_share, far_share, odd_share = rng.random() * 0.6, rng.random() * 0.6, rng.random() * 0.6
    crowd = []
    for number in range(n):
        time_ms = START_MS + number * step_ms + rng.randint(0, step_ms)
        if rng.random() < 0.7:
            time_ms -= time_ms % grain_ms
        near, far = rng.choice([0, 800, 2_600, 4_000]), rng.choice([2_000_000, 9_000_000, 90_000_000])
        crowd.append(
            Judged(
                id=rng.randbytes(8),
                time_ms=time_ms,
                raw_ms=time_ms,
                lon_e7=355_000_000 + (far if rng.random() < far_share else near),
                lat_e7=-15_000_000,
                hdop=99.0 if rng.random() < bad_share else None,
                seq=number + 100 if rng.random() > odd_share else rng.choice([None, number + 98, number + 102, 100]),
                richness=rng.randint(0, 1),
            )
        )
    return crowd


def test_any_history_of_changes_ends_as_if_judged_whole() -> None:
    for seed in range(1_500 if NIGHTLY else 150):
        rng = random.Random(seed)
        waiting = crowd(rng, 60)
        store = SortedFixes(waiting[::2])
        stored = whole(store.all())
        for _ in range(20):
            new = rng.choice(waiting)
            times = [new.time_ms]
            if new.id in stored and rng.random() < 0.5:
                store.remove(new)
                del stored[new.id]
            else:
                store.put(new)
            if rng.random() < 0.5:  # a second change in the same transaction
                other = rng.choice(waiting)
                store.put(other)
                times.append(other.time_ms)
            stored.update(rejudge(store, (min(times), max(times)), LIMITS))
            assert stored == whole(store.all()), seed


def test_any_append_in_batches_ends_as_if_judged_whole() -> None:
    for seed in range(1_500 if NIGHTLY else 150):
        rng = random.Random(seed)
        waiting = sorted(crowd(rng, 60), key=lambda fix: fix.time_ms)
        store = SortedFixes()
        stored: dict[bytes, int] = {}
        while waiting:
            n = min(rng.randint(1, 5), len(waiting))
            while n < len(waiting) and waiting[n].time_ms == waiting[n - 1].time_ms:
                n += 1
            new, waiting = waiting[:n], waiting[n:]
            for fix in new:
                store.put(fix)
            stored.update(rejudge(store, (new[0].time_ms, new[-1].time_ms), LIMITS, is_append=True))
            assert stored == whole(store.all()), seed


@examples(50)
@given(SETS)
def test_rejudging_again_changes_nothing(sent: list[Judged]) -> None:
    store = SortedFixes(sent)
    flags = whole(sent)
    for fix in sent:
        again = rejudge(store, (fix.time_ms, fix.time_ms), LIMITS)
        assert fix.id in again
        assert again == {key: flags[key] for key in again}


@examples(50)
@given(SETS, fixes())
def test_a_fix_that_stands_alone_alters_no_other(sent: list[Judged], new: Judged) -> None:
    sent = [fix for fix in sent if fix.id != new.id]
    intrinsic = intrinsic_flags(new, LIMITS)
    after = whole([*sent, new])
    if stands_alone(intrinsic):
        assert after.pop(new.id) == intrinsic
        assert after == whole(sent)


@examples(50)
@given(SETS)
def test_some_copy_of_every_heap_survives(sent: list[Judged]) -> None:
    flags = whole(sent)
    copies = [fix for fix in sent if flags[fix.id] & FixFlag.DUPLICATE]
    for copy in copies:
        assert any(
            not flags[fix.id] & FixFlag.DUPLICATE and copy.time_ms <= fix.time_ms < copy.time_ms + 60_000
            for fix in sent
        )


def walk(seed: int, n: int, step_s: int) -> list[Judged]:
    """Return a plausible track with sequence numbers: at most 1 m/s, times with odd seconds and milliseconds."""
    rng = random.Random(seed)
    lon, lat, time_ms = 355_000_000, -15_000_000, START_MS
    track = []
    for number in range(n):
        time_ms += step_s * 1000 + rng.randint(1, 900)
        reach = int(step_s * 60)
        lon += rng.randint(-reach, reach)
        lat += rng.randint(-reach, reach)
        track.append(plain(time_ms, lon, lat, seq=(65_500 + number) % 65_536, richness=3))
    return track


def plain(
    time_ms: int,
    lon: int | None,
    lat: int | None,
    *,
    seq: int | None = None,
    richness: int = 0,
    hdop: float | None = None,
) -> Judged:
    return Judged(
        id=fix_id("collar:K7", time_ms, lon, lat),
        time_ms=time_ms,
        raw_ms=time_ms,
        lon_e7=lon,
        lat_e7=lat,
        hdop=hdop,
        seq=seq,
        richness=richness,
        received_ms=time_ms + 5_000,
    )


@examples(60)
@given(st.integers(0, 10**6), st.sampled_from([70, 900, 3600]), st.data())
def test_one_outlier_is_flagged_and_its_neighbours_are_not(seed: int, step_s: int, data: st.DataObject) -> None:
    track = walk(seed, 12, step_s)
    assert not any(judge(track, LIMITS))
    at = data.draw(st.integers(1, len(track) - 1))
    away_e7 = data.draw(st.sampled_from([-1, 1])) * (step_s * 4_000 + 200_000)
    old = track[at]
    assert old.lon_e7 is not None
    track[at] = plain(old.time_ms, old.lon_e7 + away_e7, old.lat_e7, seq=old.seq)
    assert [k for k, flag in enumerate(judge(track, LIMITS)) if flag] == [at]
    assert named(judge(track, LIMITS)[at]) == FixFlag.IMPOSSIBLE_SPEED


@examples(60)
@given(st.integers(0, 10**6), st.data())
def test_one_wrong_clock_is_found_and_its_neighbours_are_not(seed: int, data: st.DataObject) -> None:
    track = walk(seed, 14, 3600)
    moved = data.draw(st.integers(2, len(track) - 3))
    to = data.draw(st.integers(1, len(track) - 3).filter(lambda to: abs(to - moved) > 1))
    time_ms = track[to].time_ms + 1_800_123
    old = track[moved]
    near = track[to]
    track[moved] = plain(time_ms, near.lon_e7, near.lat_e7, seq=old.seq)
    flags = judge(track, LIMITS)
    assert {k for k, flag in enumerate(flags) if flag & FixFlag.OUT_OF_ORDER} <= {moved}
    is_restart = old.seq is not None and old.seq < 16
    if not is_restart and not any(fix.seq is not None and fix.seq < 16 for fix in track):
        assert flags[moved] & FixFlag.OUT_OF_ORDER


def real_tracks(name: str) -> list[tuple[str, str, list[Judged]]]:
    path = real_data.tracks(name)
    tracks: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            time_ms = round(datetime.fromisoformat(row["timestamp"]).timestamp() * 1000)
            tracks[row["individual"], row["species"]].append(
                plain(
                    time_ms,
                    round(float(row["lon"]) * 1e7),
                    round(float(row["lat"]) * 1e7),
                    hdop=float(row["hdop"]) if row.get("hdop") else None,
                    richness=2,
                )
            )
    return [(individual, species, track) for (individual, species), track in tracks.items()]


@pytest.mark.parametrize("name", TRACK_FILES)
def test_clean_real_tracks_are_left_alone(name: str) -> None:
    total: dict[str, int] = defaultdict(int)
    flagged: dict[str, int] = defaultdict(int)
    for _, species, track in real_tracks(name):
        total[species] += len(track)
        flagged[species] += sum(flag != 0 for flag in judge(track, limits_for(species)))
    for species, n in total.items():
        assert flagged[species] < 0.001 * n, f"{species}: {flagged[species]} of {n} flagged"


@pytest.mark.parametrize("name", TRACK_FILES)
def test_every_fault_injected_into_a_real_track_is_found(name: str) -> None:
    rng = random.Random(20_260_101)
    for _, species, track in real_tracks(name):
        limits = limits_for(species)
        clean = {fix.id: flag for fix, flag in zip(track, judge(track, limits), strict=True)}
        expected: dict[bytes, int] = {}
        dirty: list[Judged] = list(track)
        places = rng.sample(range(10, len(track) - 10, 10), min(60, len(track) // 10 - 3))
        for number, at in enumerate(places):
            fix, after = track[at], track[at + 1]
            assert fix.lon_e7 is not None and fix.lat_e7 is not None  # noqa: PT018
            middle_ms = (fix.time_ms + after.time_ms) // 2 + 1
            bad, flag = [
                # Half a leg away in time, and four times as far as the species can go in it.
                (
                    plain(
                        middle_ms,
                        fix.lon_e7,
                        fix.lat_e7 + round((after.time_ms - fix.time_ms) * limits.max_speed_mps * 0.18 + 2_000_000),
                    ),
                    FixFlag.IMPOSSIBLE_SPEED,
                ),
                (plain(middle_ms, rng.randint(-300_000, 300_000), rng.randint(-300_000, 300_000)), FixFlag.NULL_ISLAND),
                (plain(middle_ms, 1 << rng.randint(0, 30), 1 << rng.randint(0, 29)), FixFlag.NULL_ISLAND),
                (plain(middle_ms, 2_000_000_000, fix.lat_e7), FixFlag.OUT_OF_RANGE),
                (plain(middle_ms, None, None), FixFlag.NO_FIX),
                # The same fix on a coarser grid, and half a kilometre off at the same instant.
                (plain(fix.time_ms, fix.lon_e7 // 1000 * 1000, fix.lat_e7 + 501), FixFlag.DUPLICATE),
                (plain(middle_ms, fix.lon_e7, fix.lat_e7, hdop=25.0), FixFlag.POOR_DOP),
            ][number % 7]
            dirty.append(bad)
            expected[bad.id] = flag
        flags = dict(zip((fix.id for fix in dirty), judge(dirty, limits), strict=True))
        for key, wanted in expected.items():
            assert flags[key] & wanted, (named(flags[key]), named(wanted))
        assert {key: flags[key] for key in clean} == clean


@pytest.mark.parametrize("name", TRACK_FILES)
def test_minute_copies_and_rollovers_of_a_real_track_are_found(name: str) -> None:
    for _, species, track in real_tracks(name):
        limits = limits_for(species)
        first_ms, last_ms = track[0].time_ms, track[-1].time_ms
        for fix in track[:200]:
            # Newest and oldest alike: the receiver says 1024 weeks too early, the deployment says otherwise.
            assert corrected_ms(fix.time_ms - ROLLOVER_MS, first_ms, last_ms) == (fix.time_ms, True)
            assert corrected_ms(fix.time_ms, first_ms, last_ms) == (fix.time_ms, False)
        odd = [
            msgspec.structs.replace(fix, time_ms=fix.time_ms // 60_000 * 60_000 + 17_000 + k % 40_000)
            for k, fix in enumerate(track)
        ]
        copies = [
            plain(fix.time_ms // 60_000 * 60_000, None if fix.lon_e7 is None else fix.lon_e7 + 200, fix.lat_e7)
            for fix in odd[::5]
        ]
        flags = judge([*copies, *odd], limits)
        assert all(flag == FixFlag.DUPLICATE for flag in flags[: len(copies)])
        assert not any(flag & FixFlag.DUPLICATE for flag in flags[len(copies) :])


@pytest.mark.parametrize("name", ["elephant_wall2014_movebank.csv"])
def test_a_real_track_dumped_late_and_shuffled_ends_with_the_same_flags(name: str) -> None:
    rng = random.Random(7)
    _, species, track = real_tracks(name)[0]
    limits = limits_for(species)
    track = track[:600]
    for at in range(20, 600, 37):
        fix = track[at]
        track[at] = plain(fix.time_ms, (fix.lon_e7 or 0) + 3_000_000, fix.lat_e7)
    store = SortedFixes()
    stored: dict[bytes, int] = {}
    for fix in rng.sample(track, len(track)):
        store.put(fix)
        stored.update(rejudge(store, (fix.time_ms, fix.time_ms), limits))
    assert stored == dict(zip((fix.id for fix in track), judge(track, limits), strict=True))
    assert sum(flag == FixFlag.IMPOSSIBLE_SPEED for flag in stored.values()) == len(range(20, 600, 37))


def test_the_newest_fix_costs_one_fetch() -> None:
    track = walk(1, 50, 3600)
    store = SortedFixes(track)
    newest = track[-1].time_ms
    assert track[-1].id in rejudge(store, (newest, newest), LIMITS, is_append=True)
    assert store.calls == ["before"]


def test_limits_can_be_altered_for_one_collar() -> None:
    track = walk(2, 5, 3600)
    assert judge([plain(START_MS, 10**8, 10**8, hdop=4.0)], Limits(max_speed_mps=1.0, max_hdop=3.0)) == [
        FixFlag.POOR_DOP
    ]
    assert any(judge(track, Limits(max_speed_mps=0.0001)))
