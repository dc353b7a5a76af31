"""Quality rules: they flag a fix and never drop it, and a collar's flags depend on its set of fixes alone.

Three layers, each a pure function of the one below, so the order of arrival cannot matter::

    intrinsic   of the fix alone        NULL_ISLAND OUT_OF_RANGE FUTURE WEEK_ROLLOVER POOR_DOP FEW_SATELLITES
                                        CLOCK_UNSET NO_FIX
    local       of fixes in one minute  DUPLICATE, then POSITION_DISAGREEMENT among what is left at one instant
    chain       of neighbours in time   IMPOSSIBLE_SPEED, OUT_OF_ORDER

**Local.** A fix is *placed* when it has a position and a time worth comparing (not NO_FIX, OUT_OF_RANGE, NULL_ISLAND,
CLOCK_UNSET). Two placed fixes within ``duplicate_distance_m`` are copies when they share an instant, or when the time
of one, a whole minute or whole second, is the other's time truncated to it. The coarser copy is flagged; fineness is
a strict total order (finer time, then more columns, then the smaller id), so the finest of any heap of copies stays.
A truncated time lies before the true one: a fix depends only on fixes up to ``REACH_MS`` *after* it.
Placed fixes at one instant that are no duplicates and stand too far apart are all flagged as disagreeing, except that
a fix which is already known to be bad (poor DOP, say) has no vote. What cannot be told apart: a collar that samples
faster than once a minute and rests has its whole-minute fixes flagged as copies of the next one at the same place.

**Chain.** Countable fixes (none of the excluding flags above) follow each other in time; their times differ.

- A leg is impossible when it is longer than the species can go in its time: ``max_speed_mps`` throughout, and for up
  to ``sprint_s`` of it ``sprint_mps``, and the error of both positions on top. A fix is flagged when both its legs
  are impossible; one would accuse the neighbours of an outlier.
- Two or three outliers in a row stand at one wrong place, so the legs between them are short. A run of up to
  ``MAX_RUN`` fixes is flagged when the leg into it and the leg out of it are impossible and the way past it is
  possible, from a fix to a fix that are not flagged themselves by a shorter run: what is believed is the longer of two
  stretches that contradict each other. A fourth fix at the other place is believed, and with it the first three: the
  animal was carried there, or we do not know everything.
- The newest fix has one leg and is flagged by it, unless that leg starts from an outlier or a run of them, past which
  all is possible. The first fix is never flagged: nothing tells which end of its one leg is wrong.
- The collar's own number of its fixes must not run backwards against its clock. Of two neighbours that contradict
  each other the one is flagged whose removal mends the order. Where either would do or neither, it is the earlier
  one, with the higher number: it was recorded later, on a clock that had fallen behind, as a collar's does when it
  restarts from a stored time; a clock that ran ahead shows as FUTURE. The number restarts near zero at a reboot and
  wraps at 16 bits; neither is a contradiction. It must number fixes: an uplink counter says nothing about old fixes
  that a collar sends again.

**Rejudging.** A change at time t can alter local flags in ``[t - t % REACH_MS, t]`` only, and the chain flags of
``INNER`` countable fixes on either side of that; those depend on as many again, ``CONTEXT`` in all. ``rejudge`` loads
that much, widens where neighbours do not count, and returns what ``judge`` would say of the whole set.

Only integers and cheap arithmetic here: this runs for every fix that arrives.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated, Protocol

import msgspec

from shared.domain import EXCLUDING, FixFlag

#: A local flag depends on fixes less than this long after it, in milliseconds.
REACH_MS = 60_000
#: So many successive outliers are told from an animal that went there: one more is believed.
MAX_RUN = 3
#: Countable fixes on either side of a change whose flags it can alter: from the newest fix over the run before it and
#: the fix that the run leans on to the shorter run that this one may belong to, and to what that leans on.
INNER = 2 * MAX_RUN + 1
#: Countable fixes on either side of a change that must be judged with it for the inner ones to be exact.
CONTEXT = 2 * INNER

#: GPS counts weeks in ten bits: a receiver with old firmware is off by a multiple of this, in milliseconds.
ROLLOVER_MS = 1024 * 7 * 86_400_000

#: Before 1990 no animal wore a GPS collar: such a time counts from where an unset clock starts (1970, 1980).
BEFORE_COLLARS_MS = 631_152_000_000

# Plain integers: operations on enum members cost more than the rules do.
_DUPLICATE = int(FixFlag.DUPLICATE)
_POSITION_DISAGREEMENT = int(FixFlag.POSITION_DISAGREEMENT)
_NULL_ISLAND = int(FixFlag.NULL_ISLAND)
_OUT_OF_RANGE = int(FixFlag.OUT_OF_RANGE)
_FUTURE = int(FixFlag.FUTURE)
_WEEK_ROLLOVER = int(FixFlag.WEEK_ROLLOVER)
_IMPOSSIBLE_SPEED = int(FixFlag.IMPOSSIBLE_SPEED)
_POOR_DOP = int(FixFlag.POOR_DOP)
_FEW_SATELLITES = int(FixFlag.FEW_SATELLITES)
_OUT_OF_ORDER = int(FixFlag.OUT_OF_ORDER)
_CLOCK_UNSET = int(FixFlag.CLOCK_UNSET)
_NO_FIX = int(FixFlag.NO_FIX)

_UNPLACED = _NO_FIX | _OUT_OF_RANGE | _NULL_ISLAND | _CLOCK_UNSET
UNCOUNTED = int(EXCLUDING) & ~(_IMPOSSIBLE_SPEED | _OUT_OF_ORDER | int(FixFlag.EXCLUDED_BY_HAND))

LON_MAX_E7 = 1_800_000_000
LAT_MAX_E7 = 900_000_000
TURN_E7 = 3_600_000_000
# 111,195 m a degree on the sphere of the mean radius.
M_PER_E7 = 6_371_008.8 * math.pi / 180 * 1e-7
HALF_E7_RAD = math.radians(0.5e-7)

# The error of a leg between two fixes that do not state theirs: some 15 m for each end.
UNSTATED_ERROR_M = 30.0

# A number that falls by more than this is a reboot or a wrap with fixes lost, not a clock that went wrong.
MAX_FALL = 1000
# A number below this has restarted.
RESTARTED = 16
U16 = 0x1_0000

# An append alters no speed flag but its own where no leg to it and to the countable fixes before it is impossible: what
# it could accuse or clear is a run that ends there, and a run begins with such a leg. Only the order of numbers reaches
# back then, ``_ORDER_REACH`` fixes and as many again.
CALM = MAX_RUN + 1
_ORDER_REACH = 2
# Rows of a first fetch: the changed fix, its context, one instant that the limit may have cut, and two to spare.
_FIRST_FETCH = CONTEXT + 4


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of the rules for one species.

    ``max_speed_mps`` is what the animal can keep up from one fix to the next, ``sprint_mps`` what it can reach for
    ``sprint_s`` at most; zero: no sprint beyond. ``future_tolerance_ms`` leaves room for a station clock that a person
    set to the minute and that has drifted for a month since. ``max_h_acc_m`` is the bound at which open collars
    themselves call a fix failed.
    """

    max_speed_mps: float
    sprint_mps: float = 0.0
    sprint_s: float = 120.0
    max_hdop: float = 10.0
    max_pdop: float = 10.0
    min_sats: int = 4
    max_h_acc_m: float = 50.0
    future_tolerance_ms: int = 300_000
    null_island_deg: float = 0.1
    duplicate_distance_m: float = 30.0


class CollarLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the rules allow of one collar, in the place of what they allow of its species; None leaves that.

    A receiver that states dilutions of its own kind, a collar on a vehicle, a schedule that takes fixes under canopy.
    """

    max_speed_mps: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None
    sprint_mps: Annotated[float, msgspec.Meta(ge=0, le=1000)] | None = None
    sprint_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] | None = None
    max_hdop: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None
    max_pdop: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None
    min_sats: Annotated[int, msgspec.Meta(ge=0, le=64)] | None = None
    max_h_acc_m: Annotated[float, msgspec.Meta(gt=0, le=100_000)] | None = None

    def text(self) -> str | None:
        """Return the form in which it is kept, one for equal limits; None where it says nothing."""
        kept = msgspec.json.encode(self, order="sorted").decode()
        return None if kept == "{}" else kept


class Judged(msgspec.Struct, frozen=True, gc=False):
    """What the rules look at of a fix. All fixes that are judged together are of one collar.

    ``time_ms`` is corrected, ``raw_ms`` what the device said. ``received_ms`` is the earliest reception on a sure
    clock, None where there was none. ``richness`` is the number of optional columns that are filled.
    """

    id: bytes
    time_ms: int
    raw_ms: int
    lon_e7: int | None
    lat_e7: int | None
    hdop: float | None = None
    pdop: float | None = None
    sats: int | None = None
    h_acc_m: float | None = None
    seq: int | None = None
    received_ms: int | None = None
    is_clock_unset: bool = False
    richness: int = 0
    is_rolled: bool = False


class Fetch(Protocol):
    """The stored fixes of one collar, changes included. Every answer is ordered by (time_ms, id)."""

    def between(self, lo_ms: int, hi_ms: int) -> list[Judged]:
        """Return all fixes with lo_ms <= time_ms <= hi_ms."""
        ...

    def before(self, ms: int, n: int) -> list[Judged]:
        """Return the last ``n`` fixes with time_ms < ms; fewer only where there are no more."""
        ...

    def after(self, ms: int, n: int) -> list[Judged]:
        """Return the first ``n`` fixes with time_ms > ms; fewer only where there are no more."""
        ...


# (speed that can be kept up between fixes, sprint), metres a second.
#
# The bounds separate errors from animals, not slow animals from fast ones: a false flag hides a real position, an
# error inside the bound is small. Kept up: about twice the largest hourly speed in published tracks (elephant 1.6,
# wildebeest 1.75, buffalo 2.8 with one exceptional hour). Sprint: the top speed of the species, rounded up; measured
# for elephants (6.8, Hutchinson et al. 2003, doi:10.1038/422493a) and cheetahs (25.9, Wilson et al. 2013,
# doi:10.1038/nature12295), the commonly quoted figure for the others. One bound alone cannot serve: 7.5 km/h, the usual
# setting for elephants at hourly fixes, accuses any elephant that charges at one fix a minute.
_ELEPHANT = Limits(max_speed_mps=3.0, sprint_mps=7.0)
_BUFFALO = Limits(max_speed_mps=5.0, sprint_mps=16.0)
_WILDEBEEST = Limits(max_speed_mps=6.0, sprint_mps=22.0)
_ZEBRA = Limits(max_speed_mps=6.0, sprint_mps=18.0)
_GIRAFFE = Limits(max_speed_mps=5.0, sprint_mps=17.0)
_RHINO = Limits(max_speed_mps=4.0, sprint_mps=15.0)
_LION = Limits(max_speed_mps=4.0, sprint_mps=22.0)
_CHEETAH = Limits(max_speed_mps=5.0, sprint_mps=30.0)
_WILD_DOG = Limits(max_speed_mps=6.0, sprint_mps=20.0)
#: For a species that the table does not know: any land mammal.
GENERIC = Limits(max_speed_mps=10.0, sprint_mps=30.0)

# By scientific name, by genus, and by the last word of a common name.
_BY_NAME = {
    "loxodonta": _ELEPHANT,
    "elephas": _ELEPHANT,
    "elephant": _ELEPHANT,
    "syncerus": _BUFFALO,
    "buffalo": _BUFFALO,
    "connochaetes": _WILDEBEEST,
    "wildebeest": _WILDEBEEST,
    "gnu": _WILDEBEEST,
    "equus quagga": _ZEBRA,
    "equus grevyi": _ZEBRA,
    "equus zebra": _ZEBRA,
    "equus burchellii": _ZEBRA,
    "zebra": _ZEBRA,
    "giraffa": _GIRAFFE,
    "giraffe": _GIRAFFE,
    "diceros": _RHINO,
    "ceratotherium": _RHINO,
    "rhinoceros": _RHINO,
    "rhino": _RHINO,
    "panthera leo": _LION,
    "lion": _LION,
    "acinonyx": _CHEETAH,
    "cheetah": _CHEETAH,
    "lycaon": _WILD_DOG,
    "wild dog": _WILD_DOG,
    "painted dog": _WILD_DOG,
}


@functools.lru_cache(maxsize=1024)
def limits_for(species: str | None) -> Limits:
    """Return the limits of a species by its common or scientific name, in any case; ``GENERIC`` where unknown."""
    words = (species or "").lower().replace("_", " ").replace("-", " ").split()
    if not words:
        return GENERIC
    last = words[-1]
    singular = last[:-1] if last.endswith("s") and last not in _BY_NAME else last
    for name in (" ".join(words[:2]), words[0], " ".join([*words[-2:-1], singular]), singular):
        if name in _BY_NAME:
            return _BY_NAME[name]
    return GENERIC


def collar_limits(text: str | None) -> CollarLimits:
    """Return a collar's own limits from the form in which they are kept; raises ValueError."""
    try:
        return CollarLimits() if text is None else msgspec.json.decode(text, type=CollarLimits)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


@functools.lru_cache(maxsize=1024)
def limits_of(species: str | None, own: str | None) -> Limits:
    """Return the limits of a species with a collar's own in their place; raises ValueError where these are none."""
    limits = limits_for(species)
    said = {name: value for name, value in msgspec.structs.asdict(collar_limits(own)).items() if value is not None}
    return msgspec.structs.replace(limits, **said) if said else limits


def corrected_ms(raw_ms: int, lo_ms: int, hi_ms: int) -> tuple[int, bool]:
    """Return the time after undoing a GPS week rollover, and whether one was undone.

    A time before ``lo_ms`` moves forward by one to three times 1024 weeks if that lands it within [lo_ms, hi_ms].
    """
    if raw_ms < lo_ms:
        for k in (1, 2, 3):
            if lo_ms <= raw_ms + k * ROLLOVER_MS <= hi_ms:
                return raw_ms + k * ROLLOVER_MS, True
    return raw_ms, False


def intrinsic_flags(fix: Judged, limits: Limits) -> int:
    """Return the flags that depend on the fix alone. A failed fix is not judged by the quality of its position."""
    flags = 0
    if fix.is_clock_unset or (fix.time_ms < BEFORE_COLLARS_MS and not fix.is_rolled):
        flags = _CLOCK_UNSET
    if fix.is_rolled:
        flags |= _WEEK_ROLLOVER
    received_ms = fix.received_ms
    if received_ms is not None and fix.time_ms > received_ms + limits.future_tolerance_ms:
        flags |= _FUTURE
    lon = fix.lon_e7
    lat = fix.lat_e7
    if lon is None or lat is None:
        return flags | _NO_FIX
    lon = abs(lon)
    lat = abs(lat)
    if lon > LON_MAX_E7 or lat > LAT_MAX_E7:
        flags |= _OUT_OF_RANGE
    # Zero or a power of two in both is a stray bit in an empty record, wherever on the globe it points.
    if not (lon & (lon - 1) or lat & (lat - 1)):
        flags |= _NULL_ISLAND
    else:
        radius_e7 = limits.null_island_deg * 1e7
        if lon <= radius_e7 and lat <= radius_e7 and lon * lon + lat * lat <= radius_e7 * radius_e7:
            flags |= _NULL_ISLAND
    # "not <=" rather than ">": a dilution that is no number is a poor one.
    if (
        ((dop := fix.hdop) is not None and not dop <= limits.max_hdop)
        or ((dop := fix.pdop) is not None and not dop <= limits.max_pdop)
        or ((acc := fix.h_acc_m) is not None and not acc <= limits.max_h_acc_m)
    ):
        flags |= _POOR_DOP
    if (sats := fix.sats) is not None and sats < limits.min_sats:
        flags |= _FEW_SATELLITES
    return flags


def stands_alone(intrinsic: int) -> bool:
    """Say whether a fix with these intrinsic flags neither alters the flags of others nor has any but these.

    A store may keep such a new fix without rejudging: thousands can share one instant (the default of a clock that
    was never set).
    """
    return bool(intrinsic & _UNPLACED)


def judge(fixes: Sequence[Judged], limits: Limits) -> list[int]:
    """Return the flags of each fix of a collar, in the order given; they depend on the set alone."""
    order = sorted(range(len(fixes)), key=lambda i: (fixes[i].time_ms, fixes[i].id))
    flags = [0] * len(fixes)
    judged, _ = _judge_ordered([fixes[i] for i in order], limits)
    for i, flag in zip(order, judged, strict=True):
        flags[i] = flag
    return flags


def rejudge(fetch: Fetch, changed_ms: tuple[int, int], limits: Limits, *, is_append: bool = False) -> dict[bytes, int]:
    """Return the exact flags of every fix whose flags can differ after a change.

    ``changed_ms`` is the first and last corrected time of what was added, altered, moved or removed, old times
    included; ``fetch`` sees the set after the change. ``is_append`` promises that every stored fix at or after
    ``changed_ms[0]`` is new and none is later than ``changed_ms[1]``: then one ``before`` does.
    Raises ValueError for a range that runs backwards.
    """
    lo_ms, hi_ms = changed_ms
    if lo_ms > hi_ms:
        raise ValueError(f"the change ends at {hi_ms}, before it begins at {lo_ms}")
    core_ms = lo_ms - lo_ms % REACH_MS
    n_left = n_right = _FIRST_FETCH
    core, left, at_start = _load(fetch, core_ms, lo_ms, hi_ms)
    if is_append:
        right: list[Judged] = []
        at_end = True
        if not core or core[0].time_ms >= lo_ms:
            flags, _ = _judge_ordered(core, limits)
            if all(flag & UNCOUNTED for flag in flags):
                return {fix.id: flag for fix, flag in zip(core, flags, strict=True)}
        if (calm := _judge_calm(left, core, at_start=at_start, limits=limits)) is not None:
            return calm
    else:
        right = fetch.after(hi_ms, n_right)
        at_end = len(right) < n_right

    while True:
        window = left + core + right
        flags, _ = _judge_ordered(window, limits)
        begin, n_before = _countable_from(flags, range(len(left) - 1, -1, -1), 0, INNER)
        n_exact = len(window) if at_end else _exact_prefix(window)
        end, n_after = _countable_from(flags, range(len(left) + len(core), n_exact), len(window) - 1, INNER)
        is_left_done = at_start or n_before >= CONTEXT
        is_right_done = at_end or n_after >= CONTEXT
        if is_left_done and is_right_done:
            return {window[i].id: flags[i] for i in range(begin, end + 1)}
        if not is_left_done:
            n_left *= 4
            left, at_start = _whole_instants(fetch.before(core_ms, n_left), n_left)
        if not is_right_done:
            n_right *= 4
            right = fetch.after(hi_ms, n_right)
            at_end = len(right) < n_right


def _judge_calm(left: list[Judged], core: list[Judged], *, at_start: bool, limits: Limits) -> dict[bytes, int] | None:
    """Return what an append can alter where no leg around it is impossible; None where the whole context is needed."""
    start, n_placed = len(left), 0
    while start and n_placed < CALM + 2:  # one instant may have been cut, one more fix may not count
        start -= 1
        n_placed += left[start].lon_e7 is not None
    near = _without_first_instant(left[start:]) if start else left
    flags, is_calm = _judge_ordered(near + core, limits)
    begin, n_before = _countable_from(flags, range(len(near) - 1, -1, -1), 0, _ORDER_REACH)
    is_enough = n_before >= CALM or (at_start and len(near) == len(left))
    if not (is_calm and is_enough):
        return None
    return {fix.id: flag for fix, flag in zip(near[begin:] + core, flags[begin:], strict=True)}


def _load(fetch: Fetch, core_ms: int, lo_ms: int, hi_ms: int) -> tuple[list[Judged], list[Judged], bool]:
    """Return the fixes of [core_ms, hi_ms], a first helping of those before, and whether these are all."""
    if hi_ms - lo_ms <= REACH_MS:
        rows = fetch.before(hi_ms + 1, _FIRST_FETCH)
        if len(rows) < _FIRST_FETCH or rows[0].time_ms < core_ms:
            n_before = 0
            while n_before < len(rows) and rows[n_before].time_ms < core_ms:
                n_before += 1
            core = rows[n_before:]
            if len(rows) < _FIRST_FETCH:
                return core, rows[:n_before], True
            return core, _without_first_instant(rows[:n_before]), False
    left, at_start = _whole_instants(fetch.before(core_ms, _FIRST_FETCH), _FIRST_FETCH)
    return fetch.between(core_ms, hi_ms), left, at_start


def _whole_instants(rows: list[Judged], n: int) -> tuple[list[Judged], bool]:
    """Return the rows of which all at the same instant are known, and whether the collar has none before them."""
    if len(rows) < n:
        return rows, True
    return _without_first_instant(rows), False


def _without_first_instant(rows: list[Judged]) -> list[Judged]:
    """Drop the first instant: the limit of a fetch may have cut it in two."""
    first = 0
    while first < len(rows) and rows[first].time_ms == rows[0].time_ms:
        first += 1
    return rows[first:]


def _exact_prefix(window: list[Judged]) -> int:
    """Return how many fixes from the left have all that they depend on inside the window; more exist to the right."""
    last_ms = window[-1].time_ms
    for i, fix in enumerate(window):
        if fix.time_ms + _unit_ms(fix.time_ms) > last_ms:
            return i
    return len(window)


def _countable_from(flags: list[int], indices: range, beyond: int, nth: int) -> tuple[int, int]:
    """Return the index of the ``nth`` countable fix (``beyond`` where there are fewer), and how many there are."""
    found = beyond
    n = 0
    for i in indices:
        if not flags[i] & UNCOUNTED:
            n += 1
            if n == nth:
                found = i
    return found, n


def _unit_ms(time_ms: int) -> int:
    """Return the resolution that a time shows: a minute, a second, or a millisecond."""
    if time_ms % 1000:
        return 1
    return 1000 if time_ms % REACH_MS else REACH_MS


def _judge_ordered(fixes: list[Judged], limits: Limits) -> tuple[list[int], bool]:
    """Return the flags of fixes in their order, and whether every leg between them is possible."""
    flags = [intrinsic_flags(fix, limits) for fix in fixes]
    _flag_local(fixes, flags, limits.duplicate_distance_m)
    chain = [i for i, flag in enumerate(flags) if not flag & UNCOUNTED]
    is_calm = True
    if len(chain) > 1:
        is_calm = _flag_speed(fixes, flags, chain, limits)
        _flag_order(fixes, flags, chain)
    return flags, is_calm


def _flag_local(fixes: list[Judged], flags: list[int], near_m: float) -> None:
    n = len(fixes)
    shared_instants: set[int] = set()
    for i in range(n - 1):
        coarse = fixes[i]
        time_ms = coarse.time_ms
        next_ms = fixes[i + 1].time_ms
        if next_ms - time_ms >= REACH_MS or flags[i] & _UNPLACED:
            continue
        end_ms = time_ms + _unit_ms(time_ms)
        j = i + 1
        while j < n and (fine := fixes[j]).time_ms < end_ms:
            if not flags[j] & _UNPLACED:
                is_near = _distance_m(coarse, fine) <= near_m
                if fine.time_ms != time_ms:
                    if is_near:
                        flags[i] |= _DUPLICATE
                elif not is_near:
                    shared_instants.add(i)
                # Ids ascend within an instant, so of two equally rich copies the first is the finer.
                elif fine.richness > coarse.richness:
                    flags[i] |= _DUPLICATE
                else:
                    flags[j] |= _DUPLICATE
            j += 1
    # A duplicate has no voice in where the collar was at that instant: its time may be a truncated one.
    disagreeing: set[int] = set()
    for i in shared_instants:
        j = i + 1
        while j < n and fixes[j].time_ms == fixes[i].time_ms:
            if not (flags[i] | flags[j]) & UNCOUNTED and _distance_m(fixes[i], fixes[j]) > near_m:
                disagreeing.update((i, j))
            j += 1
    for i in disagreeing:
        flags[i] |= _POSITION_DISAGREEMENT


def _flag_speed(fixes: list[Judged], flags: list[int], chain: list[int], limits: Limits) -> bool:
    """Flag what legs and runs accuse, and say whether there is no impossible leg at all."""
    n = len(chain)
    # is_impossible[k] is of the leg from the fix before k to k; both ends of the chain have none beyond.
    is_impossible = [False] * (n + 1)
    before = fixes[chain[0]]
    for k in range(1, n):
        fix = fixes[chain[k]]
        is_impossible[k] = is_impossible_leg(before, fix, limits)
        before = fix
    if not any(is_impossible):
        return True
    accused = {k for k in range(1, n - 1) if is_impossible[k] and is_impossible[k + 1]}
    last = n - 1
    is_explained = last - 1 in accused and not is_impossible_leg(fixes[chain[last - 2]], fixes[chain[last]], limits)
    for size in range(2, MAX_RUN + 1):
        runs = [
            k
            for k in range(1, n - size)
            if is_impossible[k]
            and is_impossible[k + size]
            and not (k - 1 in accused or k + size in accused)
            and not is_impossible_leg(fixes[chain[k - 1]], fixes[chain[k + size]], limits)
        ]
        is_explained = is_explained or last - size in runs
        for k in runs:
            accused.update(range(k, k + size))
    if is_impossible[last] and not is_explained:
        accused.add(last)
    for k in accused:
        flags[chain[k]] |= _IMPOSSIBLE_SPEED
    return False


def is_impossible_leg(a: Judged, b: Judged, limits: Limits) -> bool:
    """Say whether the leg from ``a`` to the later ``b`` is longer than the animal can go in its time."""
    dt_s = (b.time_ms - a.time_ms) / 1000
    reach_m = limits.max_speed_mps * dt_s
    if limits.sprint_mps > limits.max_speed_mps:
        reach_m += (limits.sprint_mps - limits.max_speed_mps) * min(dt_s, limits.sprint_s)
    error_m = (a.h_acc_m or 0.0) + (b.h_acc_m or 0.0)
    return _distance_m(a, b) > reach_m + max(error_m, UNSTATED_ERROR_M)


def _flag_order(fixes: list[Judged], flags: list[int], chain: list[int]) -> None:
    n = len(chain)
    a = fixes[chain[0]].seq
    for k in range(1, n):
        b = fixes[chain[k]].seq
        if a is not None and b is not None and runs_backwards(a, b):
            before = fixes[chain[k - 2]].seq if k >= 2 else None
            after = fixes[chain[k + 1]].seq if k + 1 < n else None
            mends_without_a = before is not None and not runs_backwards(before, b)
            mends_without_b = after is not None and not runs_backwards(a, after)
            flags[chain[k] if mends_without_b and not mends_without_a else chain[k - 1]] |= _OUT_OF_ORDER
        a = b


def runs_backwards(earlier: int, later: int) -> bool:
    """Say whether a number runs backwards, other than by a restart or by wrapping at 16 bits."""
    if 0 <= later < RESTARTED:
        return False
    fall = earlier - later
    if 0 <= earlier < U16 and 0 <= later < U16:
        fall %= U16
    return 0 < fall <= MAX_FALL


def _distance_m(a: Judged, b: Judged) -> float:
    """Return the distance of two placed fixes on a plane at their mean latitude.

    Within 1 % of the geodesic up to 500 km and 70 degrees of latitude; beyond both, any leg of interest is impossible.
    """
    a_lon, a_lat, b_lon, b_lat = a.lon_e7, a.lat_e7, b.lon_e7, b.lat_e7
    assert a_lon is not None and a_lat is not None and b_lon is not None and b_lat is not None  # noqa: PT018 - one claim
    dlon = abs(a_lon - b_lon)
    if dlon > LON_MAX_E7:
        dlon = TURN_E7 - dlon
    return M_PER_E7 * math.hypot(dlon * math.cos((a_lat + b_lat) * HALF_E7_RAD), a_lat - b_lat)
