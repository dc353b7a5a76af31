"""The forecast at the station: where an animal will be in 1, 3, 6, 12 and 24 hours, and how surely.

``load_forecaster(species).predict(times_s, lon_deg, lat_deg)`` needs the fixes of the last six weeks (fewer are taken
as they are) and nothing else. Each prediction names the model that spoke: the network, or the plain forecast that was
better for this group and horizon on validation data. Its ellipses are drawn for half and nine tenths of what comes,
and follow the animal's own past forecasts (see ``calibration``).

The network runs in one of three engines, tried in this order: LiteRT, ONNX Runtime, numpy. An engine must give the
stored answer to a stored question before it is used. Heavy libraries are imported when an engine is first opened. A
network that is missing, altered or of the wrong shape is refused, and the plain forecasts go on without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np

from models.artifact import PACKAGED, Loaded, load_newest
from models.forecast.baselines import HORIZONS_H, NAMES, FloatArray
from models.forecast.calibration import N_LEVELS, OWN_DAYS, is_known_by, own_anchors, radii
from models.forecast.features import (
    DAY_S,
    GROUPS,
    HOUR_S,
    MEMORY_DAYS,
    N_STATES,
    Anchors,
    IntArray,
    Past,
    anchor_indices,
    anchors_of,
    known_of,
    past_at,
    targets_m,
    unwrapped,
)
from models.forecast.fitted import ALL_GROUPS, ENGINES, NETWORK, SPEAKERS, Fitted, Network, fitted_of, network_of
from models.forecast.heads import Distribution, circles, drawn
from models.hmm.features import Rows as StepRows
from models.hmm.features import joined as joined_rows
from models.hmm.features import rows_of, usable_fixes
from models.hmm.runtime import BehaviourModel, Variant, load_model, median_interval_s, model_name
from shared.errors import Invalid, ModelUnavailable

_FARTHEST_BACK_S: Final = (OWN_DAYS + MEMORY_DAYS) * DAY_S
# Each takes about 100 kB while it is worked out.
_ANCHORS_AT_ONCE: Final = 64

Rows = TypeVar("Rows", Past, Anchors, Distribution)


class Ellipse(msgspec.Struct, frozen=True, kw_only=True):
    """An ellipse around a forecast; ``bearing_deg`` is that of its long axis, clockwise from north, below 180."""

    semi_major_m: float
    semi_minor_m: float
    bearing_deg: float


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Where an animal will be ``horizon_s`` after its last fix.

    ``model`` is who spoke, one of ``SPEAKERS``; ``n_own`` of its own past forecasts shaped the ellipses.
    """

    made_at_s: float
    horizon_s: float
    lon_deg: float
    lat_deg: float
    ellipse50: Ellipse
    ellipse90: Ellipse
    model: str
    n_own: int


class Track(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One animal's fixes (n,), in any order; ``states`` (n, 3) as the tracker filters them, NaN where unknown.

    ``own`` (H, k) are the distances of its own past forecasts as ``Forecaster.with_own`` gave them not long ago:
    working them out anew is most of the work. None: they are worked out.
    """

    times_s: FloatArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    states: FloatArray | None = None
    own: FloatArray | None = None


def group_of(species: str | None) -> str | None:
    """Return the group whose numbers serve a species, by its common or scientific name; None for any other."""
    name = model_name(species)
    return name if name in GROUPS else None


def behaviour_of(species: str | None) -> BehaviourModel | None:
    """Return the model of states of a species, None where none is usable."""
    try:
        return load_model(species)
    except ModelUnavailable:
        return None


def states_of(
    times_s: FloatArray, lon_deg: FloatArray, lat_deg: FloatArray, behaviour: BehaviourModel | None
) -> FloatArray | None:
    """Return the probability of each state at each fix given the fixes up to it; None where no model of states serves.

    Shapes: fixes (n,), in order; result (n, 3), NaN where a fix ends no regular step.
    """
    return states_of_each([(times_s, lon_deg, lat_deg)], behaviour)[0]


def states_of_each(
    tracks: Sequence[tuple[FloatArray, FloatArray, FloatArray]], behaviour: BehaviourModel | None
) -> list[FloatArray | None]:
    """Return what ``states_of`` says of each track; many are worked out sooner at once."""
    found: list[FloatArray | None] = [None] * len(tracks)
    groups: dict[int, tuple[Variant, list[tuple[int, StepRows]]]] = {}
    for number, (times_s, lon_deg, lat_deg) in enumerate(tracks):
        interval_s = median_interval_s(times_s)
        if interval_s is None or behaviour is None:
            continue
        try:
            variant = behaviour.variant_for(interval_s)
        except ModelUnavailable:
            continue
        if variant.n_states != N_STATES:
            continue
        rows = rows_of(times_s, lon_deg, lat_deg, variant.interval_s, tolerance=variant.tolerance)
        groups.setdefault(id(variant), (variant, []))[1].append((number, rows))
    for variant, group in groups.values():
        filtered = variant.filtered(joined_rows([rows for _, rows in group]))
        begin = 0
        for number, rows in group:
            states = np.full((tracks[number][0].size, N_STATES), np.nan)
            states[rows.fix] = filtered[begin : begin + rows.fix.size]
            found[number] = states
            begin += rows.fix.size
    return found


class _Cut(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A track as far back as its forecast looks, in order, and the fixes ``at`` which one is made, the last one last.

    ``states`` are None where the track brings none.
    """

    times_s: FloatArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    at: IntArray
    states: FloatArray | None


class Forecaster:
    """Forecasts for the animals of one group of species.

    ``unavailable`` says why there is no network, None where there is one.
    """

    def __init__(
        self, species: str | None, fitted: Fitted, network: Network | None, unavailable: str | None = None
    ) -> None:
        self.species = species
        self.group = group_of(species)
        self.unavailable = unavailable
        self._behaviour = behaviour_of(species)
        self._fitted = fitted
        self._network = network
        self._number = ALL_GROUPS.index(self.group or "other")
        served = fitted.served_plain if network is None else fitted.served
        self._speakers = tuple(int(i) for i in served[self._number])

    @property
    def models(self) -> dict[int, str]:
        """Who speaks at each horizon, in hours."""
        return {hours: SPEAKERS[i] for hours, i in zip(HORIZONS_H, self._speakers, strict=True)}

    def network(self) -> Network:
        """Return the network; raises ModelUnavailable where it was refused."""
        if self._network is None:
            raise ModelUnavailable(self.unavailable or "there is no network")
        return self._network

    def predict(
        self, times_s: FloatArray, lon_deg: FloatArray, lat_deg: FloatArray, *, states: FloatArray | None = None
    ) -> list[Prediction]:
        """Return where the animal will be at each horizon after its last fix.

        Shapes: fixes (n,), seconds and degrees, in any order, none that quality rules flagged; ``states`` (n, 3) as the
        tracker of ``models.hmm`` filters them, worked out here where they are not given. Raises Invalid without a fix.
        """
        return self.predict_many([Track(times_s=times_s, lon_deg=lon_deg, lat_deg=lat_deg, states=states)])[0]

    def predict_many(self, tracks: Sequence[Track]) -> list[list[Prediction]]:
        """Return the predictions of several animals of this group; the network is asked once."""
        return [predictions for predictions, _ in self.with_own(tracks)]

    def with_own(self, tracks: Sequence[Track]) -> list[tuple[list[Prediction], FloatArray]]:
        """Return the predictions of several animals, and with each the distances of its own past forecasts (H, k)."""
        if not tracks:
            return []
        prepared = self._prepared(tracks)
        baselines = self._fitted.baselines[self._number]
        anchors = _joined([anchors_of(known_of(_joined(part)), baselines) for part in _parts([p for p, _ in prepared])])
        everyone = self.said(anchors)
        found = []
        begin = 0
        for track, (past, targets) in zip(tracks, prepared, strict=True):
            end = begin + len(past)
            its, said = _slice(anchors, begin, end), _slice(everyone, begin, end)
            own = track.own if targets is None else _own(its, its.to_frame(targets), said)
            assert own is not None, "there are targets where the track brings no distances of its own"
            found.append((self._predictions(its, said, own), own))
            begin = end
        return found

    def said(self, anchors: Anchors, speaking: Mapping[str, Distribution] | None = None) -> Distribution:
        """Return the forecast served at each anchor and horizon, before calibration.

        ``speaking`` is what ``by_speaker`` said of these anchors, if it is at hand.
        """
        speaking = self.by_speaker(anchors) if speaking is None else speaking
        chosen = [speaking[SPEAKERS[i]] for i in self._speakers]
        return Distribution(
            place_m=np.stack([one.place_m[:, h] for h, one in enumerate(chosen)], axis=1),
            spread_m=np.stack([one.spread_m[:, h] for h, one in enumerate(chosen)], axis=1),
            correlation=np.stack([one.correlation[:, h] for h, one in enumerate(chosen)], axis=1),
        )

    def by_speaker(self, anchors: Anchors) -> dict[str, Distribution]:
        """Return what each model says at the anchors; without the network where there is none."""
        fitted, number = self._fitted, self._number
        turned = self._plain_m(anchors)
        found = {} if self._network is None else {NETWORK: self._drawn(self._network, anchors, turned)}
        for b, name in enumerate(NAMES):
            found[name] = circles(turned[b], anchors.scale_m, fitted.growth, fitted.spread[number, b])
        return found

    def of_network(self, anchors: Anchors) -> Distribution:
        """Return what the network alone says at the anchors; raises ModelUnavailable where it was refused."""
        return self._drawn(self.network(), anchors, self._plain_m(anchors))

    def _plain_m(self, anchors: Anchors) -> list[FloatArray]:
        """The place of each plain forecast in the frames of the anchors."""
        places = self._fitted.baselines[self._number].all_m(anchors.lags_m, anchors.states)
        return [anchors.to_frame(place_m) for place_m in places]

    def _drawn(self, network: Network, anchors: Anchors, plain_m: Sequence[FloatArray]) -> Distribution:
        fitted, number = self._fitted, self._number
        plain = [plain_m[int(i) - 1][:, h] for h, i in enumerate(fitted.served_plain[number])]
        return drawn(network.distribution(anchors, fitted.growth), np.stack(plain, axis=1), fitted.share[number])

    def radii(self, own: FloatArray) -> FloatArray:
        """Return the radius of both shares from own distances (..., H, k), NaN where no truth is known: (..., H, 2)."""
        levels = self._fitted.levels[self._number, list(self._speakers), np.arange(len(HORIZONS_H))]
        return radii(np.broadcast_to(levels, (*own.shape[:-1], N_LEVELS)), own)

    def _prepared(self, tracks: Sequence[Track]) -> list[tuple[Past, FloatArray | None]]:
        """The past of each animal's anchors that count, its last fix last.

        With it what came after each, (n, H, 2) in metres east and north; None where the track brings its own distances.
        """
        cuts = [_cut(track) for track in tracks]
        states = self._states(cuts)
        return [
            (
                past_at(cut.times_s, cut.lon_deg, cut.lat_deg, cut.at, states=its, group=self.group),
                targets_m(cut.times_s, cut.lon_deg, cut.lat_deg, cut.at) if track.own is None else None,
            )
            for track, cut, its in zip(tracks, cuts, states, strict=True)
        ]

    def _states(self, cuts: Sequence[_Cut]) -> list[FloatArray]:
        """The states at the fixes of each track, those that it brings or those of the time that counts."""
        wanted = [number for number, cut in enumerate(cuts) if cut.states is None]
        recent = [cuts[number].times_s >= cuts[number].times_s[cuts[number].at[0]] - 2 * DAY_S for number in wanted]
        those = [
            (cuts[number].times_s[its], cuts[number].lon_deg[its], cuts[number].lat_deg[its])
            for number, its in zip(wanted, recent, strict=True)
        ]
        found = [np.full((cut.times_s.size, N_STATES), np.nan) if cut.states is None else cut.states for cut in cuts]
        for number, its, states in zip(wanted, recent, states_of_each(those, self._behaviour), strict=True):
            if states is not None:
                found[number][its] = states
        return found

    def _predictions(self, anchors: Anchors, said: Distribution, own: FloatArray) -> list[Prediction]:
        now_s = float(anchors.times_s[-1])
        radius = self.radii(own)
        place_m = anchors.to_map(said.place_m)[-1:]
        lon, lat = _slice(anchors, len(anchors) - 1, len(anchors)).degrees(place_m)
        found = []
        for h, hours in enumerate(HORIZONS_H):
            unit = _ellipse(said.spread_m[-1, h], float(said.correlation[-1, h]), anchors.heading[-1])
            inner, outer = (_scaled(unit, float(r)) for r in radius[h])
            found.append(
                Prediction(
                    made_at_s=now_s,
                    horizon_s=hours * HOUR_S,
                    lon_deg=float(lon[0, h]),
                    lat_deg=float(lat[0, h]),
                    ellipse50=inner,
                    ellipse90=outer,
                    model=SPEAKERS[self._speakers[h]],
                    n_own=int(np.isfinite(own[h]).sum()),
                )
            )
        return found


def load_forecaster(species: str | None, folder: Path = PACKAGED, *, engine: str | None = None) -> Forecaster:
    """Return the forecaster of a species from the newest good version; ``engine`` insists on one of ``ENGINES``.

    Without a usable network the plain forecasts serve and ``unavailable`` says why. Raises ModelUnavailable where not
    even those can be used.
    """
    if engine is not None and engine not in ENGINES:
        raise Invalid(f"{engine}: no such engine; there are {', '.join(ENGINES)}")

    def build(loaded: Loaded) -> tuple[Network, Fitted]:
        return network_of(loaded, engine), fitted_of(loaded)

    try:
        (network, fitted), loaded = load_newest(folder, "forecast", NETWORK, build)
    except ModelUnavailable as error:
        fitted, _ = load_newest(folder, "forecast", "baselines", fitted_of)
        return Forecaster(species, fitted, None, error.detail)
    if loaded.refused:
        network = msgspec.structs.replace(network, refused=(*loaded.refused, *network.refused))
    return Forecaster(species, fitted, network)


def _cut(track: Track) -> _Cut:
    """Cut a track to what counts; raises Invalid where its columns are not of one length, or hold no fix."""
    times, lon, lat = (np.asarray(values, dtype=np.float64) for values in (track.times_s, track.lon_deg, track.lat_deg))
    if not times.ndim == lon.ndim == lat.ndim == 1 or not times.size == lon.size == lat.size:
        raise Invalid("times, longitudes and latitudes of fixes must be rows of one length")
    if track.states is not None and track.states.shape != (times.size, N_STATES):
        raise Invalid(f"states must be of shape {(times.size, N_STATES)}, not {track.states.shape}")
    order = usable_fixes(times, lon, lat)
    if not order.size:
        raise Invalid("a forecast needs a fix")
    back_s = _FARTHEST_BACK_S if track.own is None else MEMORY_DAYS * DAY_S
    order = order[times[order] >= times[order[-1]] - back_s]
    times, lon, lat = times[order], unwrapped(lon[order]), lat[order]
    at = np.array([times.size - 1], dtype=np.int64)
    if track.own is None:
        # Anchors from the last fix back, so that it is one of them.
        every = (times.size - 1 - anchor_indices(-times[::-1]))[::-1]
        at = every[np.append(own_anchors(times[every], every.size - 1), every.size - 1)]
    states = None if track.states is None else np.asarray(track.states, dtype=np.float64)[order]
    return _Cut(times_s=times, lon_deg=lon, lat_deg=lat, at=at, states=states)


def _own(anchors: Anchors, truth_m: FloatArray, said: Distribution) -> FloatArray:
    """The distances of the animal's own past forecasts, (H, k), NaN where what came is not known yet."""
    distance = said.distance(truth_m)[:-1]
    return np.where(is_known_by(anchors.times_s[:-1], float(anchors.times_s[-1])), distance, np.nan).T


def _parts(pasts: Sequence[Past]) -> Iterator[list[Past]]:
    """Pasts that are worked out at once: so many that numpy is asked rarely, so few that memory stays small."""
    part: list[Past] = []
    for past in pasts:
        if part and sum(map(len, part)) + len(past) > _ANCHORS_AT_ONCE:
            yield part
            part = []
        part.append(past)
    yield part


def _joined(parts: Sequence[Rows]) -> Rows:
    """One struct of the rows of all."""
    first = parts[0]
    if len(parts) == 1:
        return first
    names = first.__struct_fields__
    return type(first)(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _slice(rows: Rows, begin: int, end: int) -> Rows:
    return type(rows)(**{name: getattr(rows, name)[begin:end] for name in rows.__struct_fields__})


def _ellipse(spread_m: FloatArray, correlation: float, heading: FloatArray) -> Ellipse:
    """The ellipse of radius one of a spread (2,) along and across a ``heading`` (2,) in east and north."""
    along_m, across_m = float(spread_m[0]), float(spread_m[1])
    between = correlation * along_m * across_m
    middle = (along_m**2 + across_m**2) / 2
    half = (along_m**2 - across_m**2) / 2
    apart = math.hypot(half, between)
    # The long axis of a symmetric matrix of two rows, from the first axis of its frame.
    turn = math.atan2(between, half) / 2
    ahead, aside = math.cos(turn), math.sin(turn)
    east = float(heading[0]) * ahead - float(heading[1]) * aside
    north = float(heading[1]) * ahead + float(heading[0]) * aside
    return Ellipse(
        semi_major_m=math.sqrt(middle + apart),
        semi_minor_m=math.sqrt(max(middle - apart, 0.0)),
        bearing_deg=math.degrees(math.atan2(east, north)) % 180.0,
    )


def _scaled(unit: Ellipse, radius: float) -> Ellipse:
    return Ellipse(
        semi_major_m=radius * unit.semi_major_m,
        semi_minor_m=radius * unit.semi_minor_m,
        bearing_deg=unit.bearing_deg,
    )
