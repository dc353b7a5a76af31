"""Time-zone twins: a collar's fixes once more, a whole number of half hours later, from a logger in local time.

A file that was written in local time and read as UTC, or a logger whose clock follows daylight saving, gives each fix a
second time: the same place to the last digit, the same second of the half hour, one to fourteen hours away. One such
pair may be chance, an animal that rests on a coarse grid of places gives many. What it does not give is a way walked
twice, so a pair counts only where another pair of the same shift stands at another place near it in time:

    interleaved   the second fix of one lies between the fixes of the other: A B A B, where a rest gives A A B B;
    fine          within a day, where places are finer than 1e-5 degree: there no rest repeats two places by chance.

A schedule of a day or more leaves no second pair so near: its twins are not found.

The rules of ``shared.movement.quality`` look at a minute and at a few neighbours for every fix that arrives; twins lie
hours apart, and they come in files. So they are looked for where a file comes in, before its rows are stored: on one
schedule a twin also claims the instants of true fixes, and would put those in doubt.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence

import msgspec

#: Offsets of time zones are multiples of this (but for Nepal's and Chatham's three quarters).
GRAIN_MS = 1_800_000
#: The widest offset there is.
REACH_MS = 14 * 3_600_000
#: A second pair is looked for so far around the first.
NEAR_MS = 86_400_000
#: Places nearer than this are one place.
APART_M = 30.0
_FINE_E7 = 100
_M_PER_E7 = 0.0111195


class Place(msgspec.Struct, frozen=True, gc=False):
    """When and where a fix of one collar was, on the grids on which they are stored."""

    time_ms: int
    lon_e7: int
    lat_e7: int


class Twin(msgspec.Struct, frozen=True, gc=False):
    """The fix at index ``later`` repeats the one at ``earlier``, ``shift_ms`` after it."""

    earlier: int
    later: int
    shift_ms: int


def zone_twins(fixes: Sequence[Place]) -> list[Twin]:
    """Return the twins among fixes of one collar, given in any order, by the time of the later one.

    Of several earlier fixes at the place of one the nearest in time is named.
    """
    pairs: dict[int, list[Twin]] = defaultdict(list)
    for pair in _pairs(fixes):
        pairs[pair.shift_ms].append(pair)
    found: dict[int, Twin] = {}
    for some in pairs.values():
        for pair in _confirmed(some, fixes):
            if pair.later not in found or pair.shift_ms < found[pair.later].shift_ms:
                found[pair.later] = pair
    return sorted(found.values(), key=lambda pair: (fixes[pair.later].time_ms, pair.later))


def _pairs(fixes: Sequence[Place]) -> Iterator[Twin]:
    """Yield every two fixes at one place, a whole number of half hours apart, by the time of the earlier."""
    by_place: dict[tuple[int, int, int], deque[int]] = defaultdict(deque)
    found = []
    for later in sorted(range(len(fixes)), key=lambda i: fixes[i].time_ms):
        fix = fixes[later]
        same = by_place[fix.lon_e7, fix.lat_e7, fix.time_ms % GRAIN_MS]
        while same and fix.time_ms - fixes[same[0]].time_ms > REACH_MS:
            same.popleft()
        shifts_ms = [fix.time_ms - fixes[earlier].time_ms for earlier in same]
        found += [Twin(i, later, shift_ms) for i, shift_ms in zip(same, shifts_ms, strict=True) if shift_ms > 0]
        same.append(later)
    yield from sorted(found, key=lambda pair: fixes[pair.earlier].time_ms)


def _confirmed(pairs: Sequence[Twin], fixes: Sequence[Place]) -> Iterator[Twin]:
    """Yield the pairs of one shift that have a second one at another place near them."""
    confirmed = [False] * len(pairs)
    for i, pair in enumerate(pairs):
        one = fixes[pair.earlier]
        for j in range(i + 1, len(pairs)):
            other = fixes[pairs[j].earlier]
            apart_ms = other.time_ms - one.time_ms
            if apart_ms > max(NEAR_MS, pair.shift_ms) or (confirmed[i] and confirmed[j]):
                break
            if _is_apart(one, other) and (0 < apart_ms <= pair.shift_ms or (_is_fine(one) and _is_fine(other))):
                confirmed[i] = confirmed[j] = True
    return (pair for pair, is_confirmed in zip(pairs, confirmed, strict=True) if is_confirmed)


def _is_fine(place: Place) -> bool:
    return bool(place.lon_e7 % _FINE_E7 or place.lat_e7 % _FINE_E7)


def _is_apart(a: Place, b: Place) -> bool:
    east_m = (a.lon_e7 - b.lon_e7) * _M_PER_E7 * math.cos(math.radians(a.lat_e7 * 1e-7))
    return math.hypot(east_m, (a.lat_e7 - b.lat_e7) * _M_PER_E7) > APART_M
