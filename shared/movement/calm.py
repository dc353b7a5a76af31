"""Judging what comes after everything, for many collars at once and without looking back.

Most fixes that arrive are the next ones of animals that walk on. What the rules (``shared.movement.quality``) say of
such a fix needs no neighbours read from a database where the collar's *calm end* is known::

    ... fixes ...  c4 --> c3 --> c2 --> c1  (uncounted ones)  |  new, new, new
                   '----- calm ------'  ^ the end                ^ every one a minute or more after the one before

An end is calm when the newest ``CALM`` countable fixes, or all that there are, have no impossible leg and no number
that runs backwards between them. A batch of a collar may be *appended* when each of its fixes lies ``REACH_MS`` or more
after whatever the collar had before, no leg of its countable fixes is impossible from that end on, and no number falls.
Then

- no fix is another's copy or contradicts it: these look less than ``REACH_MS`` ahead;
- nobody is accused and nobody's sentence changes: an accusation takes an impossible leg, or a number that falls;

so each new fix has its intrinsic flags and no other fix's flags change, which is what ``rejudge`` would find. Legs are
worked out here by numpy, there by ``math``: one within a billionth of its bound is left to the rules. Where anything of
this does not hold, the collar is left to them altogether.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from shared.movement.quality import (
    BEFORE_COLLARS_MS,
    CALM,
    HALF_E7_RAD,
    LAT_MAX_E7,
    LON_MAX_E7,
    M_PER_E7,
    MAX_FALL,
    REACH_MS,
    RESTARTED,
    TURN_E7,
    U16,
    UNCOUNTED,
    UNSTATED_ERROR_M,
    Judged,
    Limits,
    intrinsic_flags,
    is_impossible_leg,
    runs_backwards,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Such a part of its bound a leg may be off by, because two libraries round differently.
_DOUBT: Final = 1e-9
_NOTHING_MS: Final = -(2**62)
_NO_NUMBER: Final = -(2**62)
#: Numbers nearer to the ends of 64 bits could not be subtracted.
_MAX_NUMBER: Final = 2**61
#: The rules' columns of a fix.
COLUMNS: Final = (
    "raw_ms", "lon_e7", "lat_e7", "hdop", "pdop", "sats", "h_acc_m", "seq", "sure_received_ms", "is_clock_unset",
)  # fmt: skip


class CalmEnd(msgspec.Struct, frozen=True, gc=False):
    """The newest countable fix of a collar whose end is calm."""

    time_ms: int
    lon_e7: int
    lat_e7: int
    h_acc_m: float
    seq: int | None


class CollarEnd(msgspec.Struct, gc=False):
    """Where a collar stands before a batch: ``last_ms`` is None where it has no fix, ``end`` where none is known.

    ``may_append`` is False where the caller knows a reason why the rules must be asked.
    """

    last_ms: int | None
    end: CalmEnd | None
    limits: Limits
    may_append: bool = True


class Appended(msgspec.Struct):
    """Which collars took their fixes as an append; of these the flags of each fix, and where they end now."""

    is_appended: list[bool]
    flags: list[int]
    ends: list[CalmEnd | None]


def calm_end(fixes: Sequence[Judged], flags: Sequence[int], limits: Limits, *, is_whole: bool) -> CalmEnd | None:
    """Return the calm end of a collar whose newest fixes, in order, are ``fixes``; None where it is not calm.

    ``is_whole``: the collar has none before them.
    """
    end: Judged | None = None
    later: Judged | None = None
    n = 0
    for fix, flag in zip(reversed(fixes), reversed(flags), strict=True):
        if flag & UNCOUNTED:
            continue
        if later is None:
            end = fix
        else:
            is_falling = fix.seq is not None and later.seq is not None and runs_backwards(fix.seq, later.seq)
            if is_falling or is_impossible_leg(fix, later, limits):
                return None
        later = fix
        n += 1
        if n == CALM:
            break
    if end is None or (n < CALM and not is_whole):
        return None
    assert end.lon_e7 is not None and end.lat_e7 is not None  # noqa: PT018 - one claim: it counts
    return CalmEnd(end.time_ms, end.lon_e7, end.lat_e7, end.h_acc_m or 0.0, end.seq)


def append(of: Sequence[int], columns: Mapping[str, Sequence[Any]], collars: Sequence[CollarEnd]) -> Appended:
    """Judge a batch in which the fix at each place is of the collar ``collars[of[place]]``.

    ``columns`` has the rules' columns; no time is corrected. What cannot be worked out in 64 bits is left to the rules.
    """
    n, m = len(of), len(collars)
    try:
        table = _Table(of, columns, collars)
    except (OverflowError, TypeError):  # a number beyond 64 bits, which the database will refuse
        return Appended([False] * m, [0] * n, [None] * m)
    return table.judged()


class _Table:
    """A batch as arrays, by collar and time."""

    def __init__(self, of: Sequence[int], columns: Mapping[str, Sequence[Any]], collars: Sequence[CollarEnd]) -> None:
        self.columns, self.collars = columns, collars
        where, times = np.array(of, np.int64), np.array(columns["raw_ms"], np.int64)
        self.order: Ints = np.lexsort((times, where))
        self.of: Ints = where[self.order]
        self.time_ms: Ints = times[self.order]
        self.lon: Ints = self._ints("lon_e7", 4 * LON_MAX_E7)
        self.lat: Ints = self._ints("lat_e7", 4 * LAT_MAX_E7)
        self.seq: Ints | None = None
        if not _is_empty(columns["seq"]):
            if any(seq is not None and abs(seq) > _MAX_NUMBER for seq in columns["seq"]):
                raise OverflowError
            self.seq = self._ints("seq", _NO_NUMBER)
        self.acc: Floats | None = None if _is_empty(columns["h_acc_m"]) else self._floats("h_acc_m", 0.0)
        kinds: dict[Limits, int] = {}
        self.kind_of: Ints = np.array([kinds.setdefault(each.limits, len(kinds)) for each in collars], np.int64)
        self.kinds = list(kinds)

    def _ints(self, name: str, missing: int) -> Ints:
        values = [missing if value is None else value for value in self.columns[name]]
        return np.array(values, np.int64)[self.order]

    def _floats(self, name: str, missing: float) -> Floats:
        values = [missing if value is None else value for value in self.columns[name]]
        return np.array(values, np.float64)[self.order]

    def _limit(self, name: str) -> Floats:
        """Return a limit for each row."""
        found: Floats = np.array([getattr(limits, name) for limits in self.kinds], np.float64)[self.kind_of[self.of]]
        return found

    def judged(self) -> Appended:
        collars = self.collars
        is_good = np.array([collar.may_append for collar in collars], np.bool_)
        is_first = np.ones(len(self.of), np.bool_)
        is_first[1:] = self.of[1:] != self.of[:-1]
        last_ms = np.array([_NOTHING_MS if each.last_ms is None else each.last_ms for each in collars], np.int64)
        before_ms = np.empty_like(self.time_ms)
        before_ms[1:] = self.time_ms[:-1]
        before_ms[is_first] = last_ms[self.of[is_first]]
        is_good[self.of[self.time_ms - before_ms < REACH_MS]] = False
        # what has fixes and no calm end is left to the rules
        is_good &= np.array([each.end is not None or each.last_ms is None for each in collars], np.bool_)
        flags = self._intrinsic(is_good)
        chain = np.flatnonzero((flags & UNCOUNTED) == 0)
        is_good[self.of[chain[~self._is_possible(chain)]]] = False
        ends: list[CalmEnd | None] = [each.end for each in collars]
        for place in chain[np.append(self.of[chain[1:]] != self.of[chain[:-1]], [True])[: len(chain)]].tolist():
            ends[self.of[place]] = self._end(place)
        in_order = np.empty_like(flags)
        in_order[self.order] = flags
        return Appended(is_good.tolist(), in_order.tolist(), ends)

    def _end(self, place: int) -> CalmEnd:
        at = int(self.order[place])
        columns = self.columns
        return CalmEnd(
            columns["raw_ms"][at], columns["lon_e7"][at], columns["lat_e7"][at], columns["h_acc_m"][at] or 0.0,
            columns["seq"][at],
        )  # fmt: skip

    def _intrinsic(self, is_good: Bools) -> Ints:
        """Return the flags that depend on a fix alone: by the rules themselves wherever something may be wrong."""
        columns = self.columns
        is_doubtful = (self.lon > LON_MAX_E7) | (self.lon < -LON_MAX_E7) | (self.time_ms < BEFORE_COLLARS_MS)
        is_doubtful |= (self.lat > LAT_MAX_E7) | (self.lat < -LAT_MAX_E7)
        lon, lat = np.abs(self.lon), np.abs(self.lat)
        is_doubtful |= ((lon & (lon - 1)) | (lat & (lat - 1))) == 0
        radius_e7 = self._limit("null_island_deg") * 1e7
        is_doubtful |= (lon <= radius_e7) & (lat <= radius_e7)
        if not _is_empty(columns["sure_received_ms"]):
            until_ms = self._ints("sure_received_ms", -_NOTHING_MS)
            is_doubtful |= self.time_ms > until_ms + self._limit("future_tolerance_ms").astype(np.int64)
        for name, limit in (("hdop", "max_hdop"), ("pdop", "max_pdop"), ("h_acc_m", "max_h_acc_m")):
            if not _is_empty(columns[name]):
                is_doubtful |= ~(self._floats(name, -1.0) <= self._limit(limit))  # what is no number is doubtful too
        if not _is_empty(columns["sats"]):
            is_doubtful |= self._ints("sats", 2**62) < self._limit("min_sats")
        if any(columns["is_clock_unset"]):
            is_doubtful |= self._ints("is_clock_unset", 0) != 0
        flags = np.zeros(len(self.of), np.int64)
        for place in np.flatnonzero(is_doubtful & is_good[self.of]).tolist():
            flags[place] = intrinsic_flags(self._fix(place), self.collars[self.of[place]].limits)
        return flags

    def _fix(self, place: int) -> Judged:
        said = {name: self.columns[name][self.order[place]] for name in COLUMNS}
        received_ms, is_clock_unset = said.pop("sure_received_ms"), bool(said.pop("is_clock_unset"))
        return Judged(id=b"", time_ms=said["raw_ms"], received_ms=received_ms, is_clock_unset=is_clock_unset, **said)

    def _is_possible(self, chain: Ints) -> Bools:
        """Say of each countable fix whether the animal can have come there from the one before, and its number too."""
        of = self.of[chain]
        is_first = np.ones(len(chain), np.bool_)
        is_first[1:] = of[1:] != of[:-1]
        ends = [self.collars[collar].end for collar in of[is_first].tolist()]
        firsts = np.flatnonzero(is_first)
        is_from_end = np.array([end is not None for end in ends], np.bool_)
        known = [end for end in ends if end is not None]
        at = firsts[is_from_end]
        is_leg = ~is_first
        is_leg[at] = True

        def before(values: npt.NDArray[Any], of_ends: list[Any]) -> npt.NDArray[Any]:
            shifted = np.empty_like(values)
            shifted[1:] = values[:-1]
            shifted[at] = np.array(of_ends, values.dtype)
            return shifted

        time_ms, lon, lat = self.time_ms[chain], self.lon[chain], self.lat[chain]
        dt_s = (time_ms - before(time_ms, [end.time_ms for end in known])) / 1000
        dlon = np.abs(lon - before(lon, [end.lon_e7 for end in known])).astype(np.float64)
        dlon = np.where(dlon > LON_MAX_E7, TURN_E7 - dlon, dlon)
        lat_before = before(lat, [end.lat_e7 for end in known])
        distance_m = M_PER_E7 * np.hypot(dlon * np.cos((lat + lat_before) * HALF_E7_RAD), (lat - lat_before) * 1.0)
        limits = {name: self._limit(name)[chain] for name in ("max_speed_mps", "sprint_mps", "sprint_s")}
        faster = np.maximum(limits["sprint_mps"] - limits["max_speed_mps"], 0.0)
        reach_m = limits["max_speed_mps"] * dt_s + faster * np.minimum(dt_s, limits["sprint_s"])
        error_m: Floats | float = UNSTATED_ERROR_M
        if self.acc is not None or any(end.h_acc_m for end in known):
            acc = np.zeros(len(chain)) if self.acc is None else self.acc[chain]
            error_m = np.maximum(acc + before(acc, [end.h_acc_m for end in known]), UNSTATED_ERROR_M)
        is_good: Bools = ~is_leg | (distance_m <= (reach_m + error_m) * (1 - _DOUBT))
        if self.seq is not None:
            seq = self.seq[chain]
            numbers = [_NO_NUMBER if end.seq is None else end.seq for end in known]
            is_good &= ~is_leg | ~_run_backwards(before(seq, numbers), seq)
        return is_good


def _run_backwards(earlier: Ints, later: Ints) -> Bools:
    """Say where a number runs backwards, as ``runs_backwards`` does; a fix without one does not."""
    fall = earlier - later
    is_short = (earlier >= 0) & (earlier < U16) & (later >= 0) & (later < U16)
    fall = np.where(is_short, fall % U16, fall)
    is_restart = (later >= 0) & (later < RESTARTED)
    is_missing = (earlier == _NO_NUMBER) | (later == _NO_NUMBER)
    is_falling: Bools = ~is_restart & ~is_missing & (fall > 0) & (fall <= MAX_FALL)
    return is_falling


def _is_empty(values: Sequence[Any]) -> bool:
    return values.count(None) == len(values)
