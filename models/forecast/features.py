"""From the fixes of one animal up to now to what the forecast is made of.

Everything is built of **vectors** in metres (where it went in the last hours, what it did yesterday at these hours,
where it was a day ago, the place that it comes back to, what it did when it was last near here) and of **invariants**
(their lengths, the hour by the sun, the season, the state). All vectors are turned into a frame whose first axis is the
animal's recent heading, so that a track turned on the map gives the same numbers and a forecast that is turned with it.

Fixes may be irregular: positions in between are interpolated, and where two fixes lie more than ``MAX_BRIDGE_S`` apart
the time between them counts as unknown. Nothing after an anchor (the fix that a forecast starts from) is ever read.

Metres are those of an equirectangular frame at the animal's anchor; over the tens of kilometres that matter here it is
within a few parts in a thousand of the ellipsoid, and it is the same for what is forecast and for what came.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from models.forecast.baselines import HORIZONS_H, RIDGE_LAGS_H, Baselines

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

HOUR_S: Final = 3_600.0
DAY_S: Final = 86_400.0

#: Hours of the past that are read one by one by the recurrent part.
N_TOKENS: Final = 24
#: Two fixes further apart say nothing of the time between them.
MAX_BRIDGE_S: Final = 9 * HOUR_S
#: Days of memory of places.
MEMORY_DAYS: Final = 28
#: Names of the states, in the order of ``models.hmm.runtime.STATE_NAMES[3]``.
N_STATES: Final = 3

#: Species groups that the network tells apart; any other animal is of none of them.
GROUPS: Final = ("elephant", "wildebeest", "buffalo")

# Past displacements, in hours.
_PAST_H: Final = (1, 2, 3, 6, 12, 24)
#: Vectors that are the same for every horizon, then those of each horizon.
COMMON_VECTORS: Final = (
    *(f"moved in the last {h} h" for h in _PAST_H),
    "to the mean of 3 days",
    "to the mean of 14 days",
)
HORIZON_VECTORS: Final = (
    "moved a day ago",
    "moved two days ago",
    "to where it was a day ago",
    "to where it was two days ago",
    "to where it is at this hour",
    "moved from near here",
    "moved from near here at this hour",
    "moves at this hour",
    "damped velocity",
    "ridge",
)
N_VECTORS: Final = len(COMMON_VECTORS) + len(HORIZON_VECTORS)
#: Numbers of one token: displacement along and across, its length, whether it is known, two states' probability.
TOKEN_WIDTH: Final = 6

# All vectors once, those of each horizon one horizon after the other.
_N_ALL: Final = len(COMMON_VECTORS) + len(HORIZONS_H) * len(HORIZON_VECTORS)
# Vectors that come from the memory of places.
_N_MEMORIES: Final = 8
#: What a context is made of, in order, with how many numbers.
CONTEXT_PARTS: Final[dict[str, int]] = {
    "vectors": 2 * _N_ALL,
    "lengths": _N_ALL,
    "common known": len(COMMON_VECTORS),
    "memory": len(HORIZONS_H) * _N_MEMORIES,
    "usual length": len(HORIZONS_H),
    "hour": 4,
    "season": 2,
    "scale": 1,
    "state known": 1,
    "state": N_STATES,
    "group": len(GROUPS),
}
N_CONTEXT: Final = sum(CONTEXT_PARTS.values())

# Metres by degree on the mean sphere: the frame is local, its scale is shared by forecast and truth.
_M_PER_DEG: Final = 6_371_008.8 * np.pi / 180
_LEAST_SCALE_M: Final = 20.0
# A memory within this many scales of here counts as here.
_NEAR_SCALES: Final = 2.0


def context_slice(part: str) -> slice:
    """Return where a part of the context lies."""
    names = list(CONTEXT_PARTS)
    begin = sum(CONTEXT_PARTS[name] for name in names[: names.index(part)])
    return slice(begin, begin + CONTEXT_PARTS[part])


class Anchors(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is known at n anchors of one animal; H horizons, V vectors; all vectors turned into each anchor's frame.

    ``scale_m`` (n,) is how far it usually goes in an hour. ``heading`` (n, 2) is the frame's first axis in east and
    north. ``tokens`` (n, T, 6), oldest first, and ``context`` (n, C) are for the network, in scales. ``vectors``
    (n, H, V, 2) are in metres, zero where unknown. ``lags_m`` (n, 48, 2) are hourly displacements, newest first.
    """

    times_s: FloatArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    scale_m: FloatArray
    heading: FloatArray
    tokens: npt.NDArray[np.float32]
    context: npt.NDArray[np.float32]
    vectors: FloatArray
    lags_m: FloatArray
    states: FloatArray

    def __len__(self) -> int:
        return int(self.times_s.size)

    def to_frame(self, east_north_m: FloatArray) -> FloatArray:
        """Return vectors (n, ..., 2) in east and north as along and across the heading."""
        return turned(east_north_m, self.heading)

    def to_map(self, along_across_m: FloatArray) -> FloatArray:
        """Return vectors (n, ..., 2) of the frame in east and north."""
        return turned(along_across_m, self.heading * np.array([1.0, -1.0]))

    def degrees(self, east_north_m: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return longitude and latitude of places (n, ..., 2) in metres east and north of the anchors."""
        wide = (slice(None),) + (None,) * (east_north_m.ndim - 2)
        lat = self.lat_deg[wide] + east_north_m[..., 1] / _M_PER_DEG
        lon = self.lon_deg[wide] + east_north_m[..., 0] / (_M_PER_DEG * np.cos(np.radians(self.lat_deg))[wide])
        return (lon + 180.0) % 360.0 - 180.0, np.clip(lat, -90.0, 90.0)


class Known(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is known at anchors before any regression: as ``Anchors``, less the regressions' vectors.

    ``rest`` is the part of the context after vectors and lengths.
    """

    times_s: FloatArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    scale_m: FloatArray
    heading: FloatArray
    tokens: npt.NDArray[np.float32]
    rest: npt.NDArray[np.float32]
    vectors: FloatArray
    lags_m: FloatArray
    states: FloatArray


class Hours(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The past of each anchor hour by hour, newest first: metres east and north of it (n, M, 2), and what is known."""

    place_m: FloatArray
    is_known: BoolArray


class Past(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What was read of tracks at their anchors (n,), before anything is worked out of it.

    ``place_m`` (n, M, 2) and ``is_known`` (n, M) are as in ``Hours``. ``states`` (n, 3) is NaN where unknown;
    ``hourly`` (n, T, 2) is the first and last state's probability of each hour of the past, newest first, zero where
    unknown; ``group`` (n, G) is one at the group of the species.
    """

    times_s: FloatArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    place_m: FloatArray
    is_known: BoolArray
    states: FloatArray
    hourly: FloatArray
    group: FloatArray

    def __len__(self) -> int:
        return int(self.times_s.size)


def turned(vectors: FloatArray, axis: FloatArray) -> FloatArray:
    """Return vectors (n, ..., 2) in a frame whose first axis is ``axis`` (n, 2), of length one."""
    wide = (slice(None),) + (None,) * (vectors.ndim - 2)
    c, s = axis[:, 0][wide], axis[:, 1][wide]
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack((c * x + s * y, c * y - s * x), axis=-1)


def local_m(lon_deg: FloatArray, lat_deg: FloatArray, lon0_deg: FloatArray, lat0_deg: FloatArray) -> FloatArray:
    """Return metres east and north of places (...) from origins that broadcast with them; shape (..., 2).

    Longitudes must not jump at the date line: see ``unwrapped``.
    """
    found = np.empty((*np.broadcast_shapes(lon_deg.shape, lon0_deg.shape), 2))
    found[..., 0] = (lon_deg - lon0_deg) * (np.cos(np.radians(lat0_deg)) * _M_PER_DEG)
    found[..., 1] = (lat_deg - lat0_deg) * _M_PER_DEG
    return found


def unwrapped(lon_deg: FloatArray) -> FloatArray:
    """Return the longitudes of a track without the jump at the date line; they may leave -180 to 180."""
    return np.unwrap(lon_deg, period=360.0)


def anchor_indices(times_s: FloatArray, spacing_s: float = 0.9 * HOUR_S) -> IntArray:
    """Return the fixes that forecasts start from: each at least ``spacing_s`` after the one before."""
    chosen: list[int] = []
    last = -np.inf
    for i, time_s in enumerate(times_s.tolist()):
        if time_s - last >= spacing_s:
            chosen.append(i)
            last = time_s
    return np.array(chosen, dtype=np.int64)


def targets_m(
    times_s: FloatArray, lon_deg: FloatArray, lat_deg: FloatArray, anchors: IntArray, tolerance_s: float = 900.0
) -> FloatArray:
    """Return where the animal was at each horizon, in metres east and north of each anchor; shape (n, H, 2).

    It is the fix nearest to the horizon, within ``tolerance_s`` (a sixth of the horizon if that is less); NaN where
    there is none. No place is interpolated: what did not come as a fix is not a truth.
    """
    found = np.full((anchors.size, len(HORIZONS_H), 2), np.nan)
    for h, hours in enumerate(HORIZONS_H):
        at = times_s[anchors] + hours * HOUR_S
        above = (
            np.clip(np.searchsorted(times_s, at), 1, times_s.size - 1) if times_s.size > 1 else np.zeros_like(anchors)
        )
        below = np.maximum(above - 1, 0)
        nearest = np.where(np.abs(times_s[below] - at) <= np.abs(times_s[above] - at), below, above)
        is_there = np.abs(times_s[nearest] - at) <= min(tolerance_s, hours * HOUR_S / 6)
        is_there &= nearest > anchors
        place = local_m(lon_deg[nearest], lat_deg[nearest], lon_deg[anchors], lat_deg[anchors])
        found[is_there, h] = place[is_there]
    return found


def hours_of(times_s: FloatArray, lon_deg: FloatArray, lat_deg: FloatArray, anchors: IntArray, n_hours: int) -> Hours:
    """Return the past of each anchor, ``n_hours`` hours and now, by interpolation between fixes."""
    at = times_s[anchors][:, None] - HOUR_S * np.arange(n_hours + 1)
    below = np.clip(np.searchsorted(times_s, at, side="right") - 1, 0, max(times_s.size - 2, 0))
    above = np.minimum(below + 1, times_s.size - 1)
    gap_s = times_s[above] - times_s[below]
    # At an anchor itself the fix is known, whatever the gap after it.
    share = np.clip((at - times_s[below]) / np.where(gap_s > 0, gap_s, 1.0), 0.0, 1.0)
    lon = lon_deg[below] + share * (lon_deg[above] - lon_deg[below])
    lat = lat_deg[below] + share * (lat_deg[above] - lat_deg[below])
    place = local_m(lon, lat, lon_deg[anchors][:, None], lat_deg[anchors][:, None])
    is_known = (at >= times_s[0]) & ((gap_s <= MAX_BRIDGE_S) | (share == 0.0))
    place[:, 0] = 0.0
    is_known[:, 0] = True
    return Hours(place_m=np.where(is_known[..., None], place, 0.0), is_known=is_known)


def lags_of(times_s: FloatArray, lon_deg: FloatArray, lat_deg: FloatArray, at: IntArray) -> FloatArray:
    """Return the hourly displacements before each fix ``at``, newest first, zero where unknown; shape (n, 48, 2)."""
    return _moved(hours_of(times_s, lon_deg, lat_deg, at, RIDGE_LAGS_H))


def past_at(
    times_s: FloatArray,
    lon_deg: FloatArray,
    lat_deg: FloatArray,
    at: IntArray,
    *,
    states: FloatArray | None = None,
    group: str | None = None,
) -> Past:
    """Return what the fixes of one animal say of its past at the fixes ``at``.

    Shapes: fixes (n,), strictly increasing in time, all usable, longitudes unwrapped; ``states`` (n, 3), the
    probability of each state given the fixes up to this one, NaN where unknown. ``group``: one of ``GROUPS`` or None.
    """
    hours = hours_of(times_s, lon_deg, lat_deg, at, MEMORY_DAYS * 24)
    return Past(
        times_s=times_s[at],
        lon_deg=lon_deg[at],
        lat_deg=lat_deg[at],
        place_m=hours.place_m,
        is_known=hours.is_known,
        states=np.full((at.size, N_STATES), np.nan) if states is None else states[at],
        hourly=_hourly_states(hours, times_s, at, states),
        group=np.array([[float(group == name) for name in GROUPS]]).repeat(at.size, axis=0),
    )


def known_of(past: Past) -> Known:
    """Return what is known at anchors, each from its own past alone, whoever else is asked about at once."""
    n = len(past)
    hours = Hours(place_m=past.place_m, is_known=past.is_known)
    moved = _moved(hours)
    scale = _scale_m(hours, moved)
    heading = _heading(hours, scale)
    common, common_known = _common_vectors(hours)
    own, own_known, usual = _memory(hours, scale)
    has_state = np.asarray(np.isfinite(past.states).all(axis=1), dtype=np.float64)
    everywhere = np.broadcast_to(common[:, None], (n, len(HORIZONS_H), *common.shape[1:]))
    rest = [
        common_known.astype(np.float64),
        np.log1p(own_known).reshape(n, -1),
        np.log1p(usual / scale[:, None]),
        _calendar(past.times_s, past.lon_deg, past.lat_deg),
        np.log(scale / 200.0)[:, None],
        has_state[:, None],
        np.nan_to_num(past.states),
        past.group,
    ]
    return Known(
        times_s=past.times_s,
        lon_deg=past.lon_deg,
        lat_deg=past.lat_deg,
        scale_m=scale,
        heading=heading,
        tokens=_tokens(hours, moved, scale, heading, past.hourly),
        rest=np.concatenate(rest, axis=1).astype(np.float32),
        vectors=turned(np.concatenate((everywhere, own), axis=2), heading),
        lags_m=moved[:, :RIDGE_LAGS_H],
        states=past.states,
    )


def known_at(
    times_s: FloatArray,
    lon_deg: FloatArray,
    lat_deg: FloatArray,
    at: IntArray,
    *,
    states: FloatArray | None = None,
    group: str | None = None,
) -> Known:
    """Return what is known at the fixes ``at`` of one animal; what is given is as for ``past_at``."""
    return known_of(past_at(times_s, lon_deg, lat_deg, at, states=states, group=group))


def anchors_of(known: Known, baselines: Baselines) -> Anchors:
    """Return anchors, with the vectors of a group's regressions among the others."""
    n, n_common = known.scale_m.size, len(COMMON_VECTORS)
    regressions = np.stack((baselines.damped_m(known.lags_m), baselines.ridge_m(known.lags_m)), axis=2)
    vectors = np.concatenate((known.vectors, turned(regressions, known.heading)), axis=2)
    once = np.concatenate((vectors[:, 0, :n_common], vectors[:, :, n_common:].reshape(n, -1, 2)), axis=1)
    in_scales = once / known.scale_m[:, None, None]
    columns = (np.arcsinh(in_scales).reshape(n, -1), np.log1p(np.sqrt((in_scales**2).sum(axis=2))), known.rest)
    return Anchors(
        times_s=known.times_s,
        lon_deg=known.lon_deg,
        lat_deg=known.lat_deg,
        scale_m=known.scale_m,
        heading=known.heading,
        tokens=known.tokens,
        context=np.concatenate(columns, axis=1).astype(np.float32),
        vectors=vectors,
        lags_m=known.lags_m,
        states=known.states,
    )


def _calendar(times_s: FloatArray, lon_deg: FloatArray, lat_deg: FloatArray) -> FloatArray:
    """Hour by the sun and season as points of circles; shape (n, 6)."""
    day = 2 * np.pi * ((times_s / HOUR_S + lon_deg / 15.0) % 24.0) / 24.0
    season = 2 * np.pi * ((times_s / (365.2425 * DAY_S)) % 1.0)
    # Midsummer of one hemisphere is midwinter of the other, and at the equator the sun makes no season.
    strength = np.clip(lat_deg / 10.0, -1.0, 1.0)
    columns = np.sin(day), np.cos(day), np.sin(2 * day), np.cos(2 * day)
    return np.stack((*columns, strength * np.sin(season), strength * np.cos(season)), axis=1)


def _moved(hours: Hours) -> FloatArray:
    """The displacement of each hour, newest first, zero where either end is unknown."""
    both = hours.is_known[:, :-1] & hours.is_known[:, 1:]
    return np.asarray(np.where(both[..., None], hours.place_m[:, :-1] - hours.place_m[:, 1:], 0.0))


def _scale_m(hours: Hours, moved: FloatArray) -> FloatArray:
    """How far it goes in an hour: the mean of the last week, at least 20 m."""
    week = slice(0, 7 * 24)
    known = hours.is_known[:, week] & hours.is_known[:, 1 : 7 * 24 + 1]
    length = np.hypot(moved[:, week, 0], moved[:, week, 1])
    mean = (length * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.asarray(np.maximum(mean, _LEAST_SCALE_M))


def _heading(hours: Hours, scale: FloatArray) -> FloatArray:
    """The direction of the last three hours; of a longer past where it hardly moved; north where nothing is known."""
    axis = np.tile(np.array([0.0, 1.0]), (scale.size, 1))
    is_set = np.zeros(scale.size, dtype=bool)
    for back in (3, 6, 12, 24, 48):
        past = -hours.place_m[:, back]
        length = np.hypot(past[:, 0], past[:, 1])
        is_far = ~is_set & hours.is_known[:, back] & (length > 0.5 * scale)
        axis[is_far] = past[is_far] / length[is_far, None]
        is_set |= is_far
    return axis


def _common_vectors(hours: Hours) -> tuple[FloatArray, BoolArray]:
    past = [-hours.place_m[:, h] for h in _PAST_H]
    known = [hours.is_known[:, h] for h in _PAST_H]
    for days in (3, 14):
        among = hours.is_known[:, : days * 24 + 1]
        past.append((hours.place_m[:, : days * 24 + 1] * among[..., None]).sum(axis=1) / among.sum(axis=1)[:, None])
        known.append(among.sum(axis=1) >= 12)
    vectors = np.stack(past, axis=1)
    is_known = np.stack(known, axis=1)
    return np.where(is_known[..., None], vectors, 0.0), is_known


def _memory(hours: Hours, scale: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Vectors of each horizon from the memory of places (n, H, 8, 2), how much each rests on (n, H, 8),
    and how far it usually goes from this hour on (n, H)."""
    n, n_hours = hours.is_known.shape
    n_horizons = len(HORIZONS_H)
    vectors = np.zeros((n, n_horizons, _N_MEMORIES, 2))
    weight = np.zeros((n, n_horizons, _N_MEMORIES))
    usual = np.zeros((n, n_horizons))
    square = (hours.place_m**2).sum(axis=2) / scale[:, None] ** 2
    known = hours.is_known.astype(np.float64)
    near = known * np.exp(square * (-0.5 / _NEAR_SCALES**2))
    apart_h = np.minimum(np.arange(n_hours) % 24, -np.arange(n_hours) % 24)
    at_this_hour = near * np.exp(-0.5 * (apart_h / 2.0) ** 2)
    homely = known / (1.0 + np.sqrt(square) / 8.0)
    fading = 0.9 ** np.arange(MEMORY_DAYS)
    for h, horizon in enumerate(HORIZONS_H):
        for slot, back in ((0, 24), (1, 48)):
            later = back - horizon
            vectors[:, h, slot] = hours.place_m[:, later] - hours.place_m[:, back]
            vectors[:, h, slot + 2] = hours.place_m[:, later]
            weight[:, h, slot] = known[:, back] * known[:, later]
            weight[:, h, slot + 2] = known[:, later]
        days = np.arange(1, MEMORY_DAYS + 1) * 24 - horizon
        vectors[:, h, 4], weight[:, h, 4] = _mean_of(hours.place_m[:, days], homely[:, days] * fading)
        # Times that were followed by as many hours as the horizon has.
        gone = hours.place_m[:, 1 : n_hours - horizon] - hours.place_m[:, 1 + horizon :]
        was_seen = known[:, 1 : n_hours - horizon]
        vectors[:, h, 5], weight[:, h, 5] = _mean_of(gone, near[:, 1 + horizon :] * was_seen)
        vectors[:, h, 6], weight[:, h, 6] = _mean_of(gone, at_this_hour[:, 1 + horizon :] * was_seen)
        same = np.arange(1, MEMORY_DAYS) * 24
        moves = hours.place_m[:, same - horizon] - hours.place_m[:, same]
        recent = known[:, same - horizon] * known[:, same] * fading[:-1]
        vectors[:, h, 7], weight[:, h, 7] = _mean_of(moves, recent)
        length = np.sqrt((moves**2).sum(axis=2))
        usual[:, h] = (recent * length).sum(axis=1) / np.maximum(recent.sum(axis=1), 1e-9)
    return np.where(weight[..., None] > 0, vectors, 0.0), weight, usual


def _mean_of(values: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The weighted mean of vectors (n, m, 2), and what it rests on (n,): 0 for next to nothing."""
    total = weights.sum(axis=1)
    mean = np.matmul(weights[:, None, :], values)[:, 0] / np.maximum(total, 1e-9)[:, None]
    return mean, np.where(total > 1e-3, total, 0.0)


def _hourly_states(hours: Hours, times_s: FloatArray, at: IntArray, states: FloatArray | None) -> FloatArray:
    """The probability of the first and the last state at each hour of the past, (n, T, 2), zero where unknown."""
    if states is None:
        return np.zeros((at.size, N_TOKENS, 2))
    when = times_s[at][:, None] - HOUR_S * np.arange(N_TOKENS)
    fix = np.maximum(np.searchsorted(times_s, when, side="right") - 1, 0)
    found = states[fix]
    is_fresh = np.isfinite(found).all(axis=-1) & (when - times_s[fix] <= MAX_BRIDGE_S)
    is_fresh &= hours.is_known[:, :N_TOKENS] & hours.is_known[:, 1 : N_TOKENS + 1]
    return np.where(is_fresh[..., None], np.nan_to_num(found[..., [0, 2]]), 0.0)


def _tokens(
    hours: Hours, moved: FloatArray, scale: FloatArray, heading: FloatArray, hourly: FloatArray
) -> npt.NDArray[np.float32]:
    steps = turned(moved[:, :N_TOKENS], heading) / scale[:, None, None]
    tokens = np.zeros((scale.size, N_TOKENS, TOKEN_WIDTH))
    tokens[..., 0:2] = np.arcsinh(steps)
    tokens[..., 2] = np.log1p(np.hypot(steps[..., 0], steps[..., 1]))
    tokens[..., 3] = hours.is_known[:, :N_TOKENS] & hours.is_known[:, 1 : N_TOKENS + 1]
    tokens[..., 4:6] = hourly
    return np.ascontiguousarray(tokens[:, ::-1]).astype(np.float32)
