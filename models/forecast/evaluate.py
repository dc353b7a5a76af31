"""The forecast beside the plain ones, on the last 30 % of each track and on animals that training never saw.

*Forward in time*: the packaged network, trained on the first 60 % of each track, chosen and calibrated on the next
10 %, is asked at each anchor of the last 30 %. *Left out*: each fold's network is asked at every anchor of the animals
that it has not seen, with what it chose on the validation part of the animals that it has.

Errors are distances in metres between forecast and fix. Coverage is that of the ellipses as a station would draw them,
each from what was known at its anchor. Intervals are 95 % of a bootstrap over animal-weeks, since hours are not
independent. Means of several data sets or horizons are means of ratios, so that no herd of far walkers decides.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.artifact import PACKAGED, Loaded, load, load_newest
from models.forecast.baselines import HORIZONS_H, NAMES, FloatArray
from models.forecast.calibration import OWN, OWN_DAYS, is_known_by, own_anchors
from models.forecast.datasets import Animal, read
from models.forecast.engines import NumpyEngine
from models.forecast.features import COMMON_VECTORS, DAY_S, N_VECTORS, Anchors, BoolArray, Known, context_slice
from models.forecast.fitted import (
    ALL_GROUPS,
    ENGINES,
    NETWORK,
    Fitted,
    Network,
    fitted_of,
    network_of,
    scaling_of,
    weights_of,
)
from models.forecast.heads import Distribution
from models.forecast.runtime import Forecaster, load_forecaster
from models.forecast.samples import Samples, known_of, rows_of, samples_of
from shared.errors import ModelUnavailable

#: Fewer truths than this are no row.
FEWEST: Final = 40
#: Coverage over fewer forecasts than this, all of one or two animals, proves little either way.
LARGE: Final = 2_000
#: Gap to the best plain forecast, gains over persistence, coverage and cost of int8 that are promised.
MOST_ABOVE_BEST: Final = 0.005
BOUNDS_50: Final = (0.45, 0.55)
BOUNDS_90: Final = (0.87, 0.93)
MOST_INT8_COST: Final = 0.005
LEAST_WILDEBEEST_GAIN: Final = 0.2
SERVED: Final = "served"
FLOAT: Final = "network, float32"
#: What the network is not told, in turn, to see what its skill rests on.
PARTS: Final = ("state", "hour", "season", "group", "memory of places", "the last day, hour by hour")

_WITHOUT: Final = "network without "
_WEEK_S: Final = 7 * 86_400.0
_RESAMPLES: Final = 1_000
_SPEED_TRACKS: Final = 20
_AT_ONCE: Final = 500


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one set at one horizon; ``individual`` None for all of the set.

    ``nll`` is in nats, of a density per square metre. Coverage is given for what is served.
    """

    split: str
    dataset: str
    individual: str | None
    horizon_h: int
    model: str
    n: int
    mean_m: float
    median_m: float
    nll: float
    coverage_50: float | None = None
    coverage_90: float | None = None


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """What is served against a plain forecast, over all sets and horizons: mean of ratios less one, with interval."""

    split: str
    baseline: str
    change: float
    low: float
    high: float


class Int8Cost(msgspec.Struct, frozen=True, kw_only=True):
    """How much an int8 engine adds to the float network's mean error: over all sets and horizons, and at worst."""

    engine: str
    mean: float
    worst: float
    bytes: int


class Without(msgspec.Struct, frozen=True, kw_only=True):
    """How much the network's mean error grows, over all sets and horizons, when a part of what it knows is hidden."""

    part: str
    change: float


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of processor time of one ``predict`` with its calibration, with and without states to work out."""

    engine: str
    median_ms: float
    median_ms_given_states: float
    slowest_ms: float


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A promise, what was found, and whether it is kept."""

    promise: str
    found: str
    is_kept: bool


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    version: int
    served: dict[str, list[str]]
    refused_engines: list[str]
    rows: list[Row]
    against: list[Against]
    int8: list[Int8Cost]
    without: list[Without]
    speed: list[Speed]
    bars: list[Bar]


class _Asked(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One animal: error and negative log-likelihood of each model (m, H), what counts, and the ellipses' hits."""

    animal: Animal
    split: str
    is_in: BoolArray
    error_m: dict[str, FloatArray]
    nll: dict[str, FloatArray]
    inside: FloatArray
    week: np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def evaluate(
    data: Path,
    reference: Path,  # noqa: ARG001 - every model takes it
    folder: Path = PACKAGED,
    *,
    is_whole: bool = True,
) -> Evaluation:
    """Return the figures for the tracks in ``data``; raises ModelUnavailable without a network to measure.

    Not ``is_whole``: without those of speed, and of a network from which a part is hidden.
    """
    animals = read(data).animals
    (fitted, networks, number), _ = load_newest(folder, "forecast", NETWORK, _opened)
    networks[FLOAT] = _float_network(folder, number)
    served = load_forecaster(None, folder).network()
    unseen = _folds(folder, number)
    forward: list[_Asked] = []
    left_out: dict[tuple[int, int], _Asked] = {}
    for place, animal in enumerate(animals):
        # What is known at an animal's anchors is most of the work, and the same whoever is asked.
        known = known_of(animal)
        forward.append(_forward(animal, known, fitted, networks, served, PARTS if is_whole else ()))
        for fold, (titles, its_fitted, network) in enumerate(unseen):
            if animal.title in titles:
                left_out[fold, place] = _left_out(animal, known, its_fitted, network)
    asked = [*forward, *(left_out[key] for key in sorted(left_out))]
    rows = [*_rows(asked, of_individuals=False), *_rows(asked, of_individuals=True)]
    against = [
        one
        for split in dict.fromkeys(one.split for one in asked)
        for one in _against([one for one in asked if one.split == split])
    ]
    costs = _costs(rows, networks, folder, number)
    speed = [_speed(animals, folder, engine) for engine in ENGINES if engine in networks and is_whole]
    loaded = load(folder, "forecast", number, NETWORK)
    return Evaluation(
        version=number,
        served=loaded.manifest.settings["served"],
        refused_engines=list(served.refused),
        rows=rows,
        against=against,
        int8=costs,
        without=_without(rows) if is_whole else [],
        speed=speed,
        bars=_bars(rows, against, costs, speed),
    )


def _opened(loaded: Loaded) -> tuple[Fitted, dict[str, Network], int]:
    networks: dict[str, Network] = {}
    for engine in ENGINES:
        try:
            networks[engine] = network_of(loaded, engine)
        except ModelUnavailable:
            continue
    return fitted_of(loaded), networks, loaded.manifest.version


def _float_network(folder: Path, version: int) -> Network:
    loaded = load(folder, "forecast", version, "float")
    engine = NumpyEngine(weights_of(loaded), "float32")
    return Network(engine=engine, scaling=scaling_of(loaded, engine.n_context), version=version)


def _forward(
    animal: Animal,
    known: Known,
    fitted: Fitted,
    networks: Mapping[str, Network],
    served: Network,
    hidden: Sequence[str],
) -> _Asked:
    # The test part, and before it what the first ellipses follow.
    times_s, is_test = animal.times_s[animal.at], (animal.split == 2).any(axis=1)
    first_s = float(times_s[is_test].min()) if bool(is_test.any()) else math.inf
    rows = np.asarray(times_s >= first_s - OWN_DAYS * DAY_S)
    samples = samples_of(animal, fitted.baselines, known=rows_of(known, rows), rows=rows)
    forecaster = Forecaster(animal.species, fitted, served)
    said = _said(samples, forecaster)
    for name, network in networks.items():
        title = name if name == FLOAT else f"network, int8 {name}"
        is_served = network.engine.name == served.engine.name
        said[title] = (
            said[NETWORK] if is_served else Forecaster(animal.species, fitted, network).of_network(samples.anchors)
        )
    for part in hidden:
        said[f"{_WITHOUT}{part}"] = forecaster.of_network(_hidden(samples.anchors, part, served))
    return _asked(samples, "forward", np.asarray(samples.split == 2), forecaster, said)


def _hidden(anchors: Anchors, part: str, network: Network) -> Anchors:
    """The anchors without a part of what is known: its numbers are the mean of training, its vectors zero."""
    context, vectors, tokens = anchors.context.copy(), anchors.vectors.copy(), anchors.tokens.copy()
    if part == "the last day, hour by hour":
        tokens[:] = 0.0
    elif part == "memory of places":
        first, last = len(COMMON_VECTORS), N_VECTORS - 2
        vectors[:, :, first:last] = 0.0
        # In the context the common vectors come once, then those of each horizon.
        own = np.arange(N_VECTORS - first)[None] + first + (N_VECTORS - first) * np.arange(len(HORIZONS_H))[:, None]
        where = own[:, : last - first].ravel()
        context[:, np.concatenate((2 * where, 2 * where + 1))] = 0.0
        context[:, context_slice("lengths").start + where] = 0.0
        for name in ("memory", "usual length"):
            context[:, context_slice(name)] = network.scaling.mean[context_slice(name)]
    else:
        for name in ("state known", "state") if part == "state" else (part,):
            context[:, context_slice(name)] = network.scaling.mean[context_slice(name)]
        if part == "state":
            tokens[..., 4:] = 0.0
    return msgspec.structs.replace(anchors, context=context, vectors=vectors, tokens=tokens)


def _folds(folder: Path, version: int) -> list[tuple[list[str], Fitted, Network]]:
    """The network of each fold with the titles of the animals that it has never seen."""
    found = []
    for path in sorted((folder / "forecast" / str(version)).glob("fold*.json")):
        loaded = load(folder, "forecast", version, path.stem)
        engine = NumpyEngine(weights_of(loaded))
        network = Network(engine=engine, scaling=scaling_of(loaded, engine.n_context), version=version)
        found.append((loaded.manifest.settings["left_out"], fitted_of(loaded), network))
    return found


def _left_out(animal: Animal, known: Known, fitted: Fitted, network: Network) -> _Asked:
    samples = samples_of(animal, fitted.baselines, known=known)
    forecaster = Forecaster(animal.species, fitted, network)
    has_truth = np.asarray(np.isfinite(samples.target_m).all(axis=2))
    return _asked(samples, "left out", has_truth, forecaster, _said(samples, forecaster))


def _said(samples: Samples, forecaster: Forecaster) -> dict[str, Distribution]:
    speaking = forecaster.by_speaker(samples.anchors)
    return {**speaking, SERVED: forecaster.said(samples.anchors, speaking)}


def _distances(place_m: FloatArray, target_m: FloatArray) -> FloatArray:
    return np.asarray(np.hypot(place_m[..., 0] - target_m[..., 0], place_m[..., 1] - target_m[..., 1]))


def _asked(
    samples: Samples, split: str, is_in: BoolArray, forecaster: Forecaster, said: Mapping[str, Distribution]
) -> _Asked:
    distance = said[SERVED].distance(samples.target_m)
    times_s = samples.anchors.times_s
    radii = []
    for begin in range(0, times_s.size, _AT_ONCE):
        those = range(begin, min(begin + _AT_ONCE, times_s.size))
        own = np.full((len(those), len(HORIZONS_H), OWN), np.nan)
        for row, now in enumerate(those):
            earlier = own_anchors(times_s, now)
            known = is_known_by(times_s[earlier], float(times_s[now]))
            own[row, :, : earlier.size] = np.where(known, distance[earlier], np.nan).T
        radii.append(forecaster.radii(own))
    return _Asked(
        animal=samples.animal,
        split=split,
        is_in=is_in,
        error_m={name: _distances(one.place_m, samples.target_m) for name, one in said.items()},
        nll={name: one.negative_log_likelihood(samples.target_m) for name, one in said.items()},
        inside=(distance[..., None] <= np.concatenate(radii)).astype(np.float64),
        week=(times_s // _WEEK_S).astype(np.int64),
    )


def _rows(asked: Sequence[_Asked], *, of_individuals: bool) -> Iterable[Row]:
    parts: dict[tuple[str, str, str | None], list[_Asked]] = {}
    for one in asked:
        individual = one.animal.individual if of_individuals else None
        parts.setdefault((one.split, one.animal.dataset, individual), []).append(one)
    for (split, dataset, individual), members in parts.items():
        for h, hours in enumerate(HORIZONS_H):
            n = sum(int(one.is_in[:, h].sum()) for one in members)
            if n < FEWEST:
                continue
            inside = np.concatenate([one.inside[one.is_in[:, h], h] for one in members]).mean(axis=0)
            for model in members[0].error_m:
                error = np.concatenate([one.error_m[model][one.is_in[:, h], h] for one in members])
                nll = np.concatenate([one.nll[model][one.is_in[:, h], h] for one in members])
                is_served = model == SERVED
                yield Row(
                    split=split,
                    dataset=Path(dataset).stem,
                    individual=individual,
                    horizon_h=hours,
                    model=model,
                    n=n,
                    mean_m=float(error.mean()),
                    median_m=float(np.median(error)),
                    nll=float(nll.mean()),
                    coverage_50=float(inside[0]) if is_served else None,
                    coverage_90=float(inside[1]) if is_served else None,
                )


def _against(asked: Sequence[_Asked]) -> list[Against]:
    """Served against persistence and ridge, with a bootstrap over animal-weeks within each data set."""
    baselines = ("persistence", "ridge")
    models = (SERVED, *baselines)
    rng = np.random.default_rng(3)
    cells: list[FloatArray] = []
    for dataset in dict.fromkeys(one.animal.dataset for one in asked):
        sums, counts = _weekly([one for one in asked if one.animal.dataset == dataset], models)
        drawn = rng.integers(0, len(counts), (_RESAMPLES, len(counts)))
        drawn[0] = np.arange(len(counts))
        total, n = sums[drawn].sum(axis=1), counts[drawn].sum(axis=1)
        mean = total / np.maximum(n, 1)[:, None]
        is_row = counts.sum(axis=0) >= FEWEST
        cells += [mean[:, :, h] for h in np.flatnonzero(is_row) if bool((n[:, h] > 0).all())]
    ratios = np.stack([cell[:, :1] / cell[:, 1:] for cell in cells]).mean(axis=0) - 1
    return [
        Against(
            split=asked[0].split,
            baseline=name,
            change=float(ratios[0, b]),
            low=float(np.quantile(ratios[1:, b], 0.025)),
            high=float(np.quantile(ratios[1:, b], 0.975)),
        )
        for b, name in enumerate(baselines)
    ]


def _weekly(asked: Sequence[_Asked], models: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Sums of errors (weeks, models, H) and how many (weeks, H), a row for each animal's week."""
    sums, counts = [], []
    for one in asked:
        _, number = np.unique(one.week, return_inverse=True)
        n = int(number.max()) + 1
        counts.append(np.stack([np.bincount(number, one.is_in[:, h], n) for h in range(len(HORIZONS_H))], axis=1))
        of_models = []
        for model in models:
            error = np.where(one.is_in, np.nan_to_num(one.error_m[model]), 0.0)
            of_models.append(np.stack([np.bincount(number, error[:, h], n) for h in range(len(HORIZONS_H))], axis=1))
        sums.append(np.stack(of_models, axis=1))
    return np.concatenate(sums), np.concatenate(counts)


def _costs(rows: Sequence[Row], networks: Mapping[str, Network], folder: Path, version: int) -> list[Int8Cost]:
    metrics = load(folder, "forecast", version, NETWORK).manifest.metrics
    files = {"litert": "bytes/tflite", "onnx": "bytes/onnx", "numpy": "bytes/numpy"}
    found = []
    for engine in networks:
        if engine == FLOAT:
            continue
        pairs = _pairs(rows, f"network, int8 {engine}", FLOAT)
        changes = [mine.mean_m / theirs.mean_m - 1 for mine, theirs in pairs]
        found.append(
            Int8Cost(
                engine=engine,
                mean=float(np.mean(changes)),
                worst=float(np.max(changes)),
                bytes=int(metrics[files[engine]]),
            )
        )
    return found


def _without(rows: Sequence[Row]) -> list[Without]:
    found = []
    for part in PARTS:
        ratios = [mine.mean_m / theirs.mean_m for mine, theirs in _pairs(rows, f"{_WITHOUT}{part}", NETWORK)]
        found.append(Without(part=part, change=float(np.mean(ratios)) - 1))
    return found


def _pairs(rows: Sequence[Row], model: str, other: str, split: str = "forward") -> list[tuple[Row, Row]]:
    """Rows of two models on the same set and horizon, individuals left out."""
    of_sets = {
        (row.dataset, row.horizon_h, row.model): row for row in rows if row.individual is None and row.split == split
    }
    return [
        (row, of_sets[dataset, hours, other])
        for (dataset, hours, name), row in of_sets.items()
        if name == model and (dataset, hours, other) in of_sets
    ]


def _speed(animals: Sequence[Animal], folder: Path, engine: str) -> Speed:
    """Time ``predict`` on pieces of hourly tracks, six weeks each, one animal at a time."""
    taken: dict[bool, list[float]] = {False: [], True: []}
    for animal in animals:
        forecaster = load_forecaster(animal.species, folder, engine=engine)
        for piece in range(max(1, _SPEED_TRACKS // len(animals))):
            end = animal.times_s.size * (piece + 1) // (_SPEED_TRACKS // len(animals) + 1)
            begin = int(np.searchsorted(animal.times_s, animal.times_s[end - 1] - 42 * 86_400.0))
            fixes = animal.times_s[begin:end], animal.lon_deg[begin:end], animal.lat_deg[begin:end]
            for is_given in (False, True):
                states = animal.states[begin:end] if is_given and animal.states is not None else None
                forecaster.predict(*fixes, states=states)
                began = time.process_time()
                forecaster.predict(*fixes, states=states)
                taken[is_given].append((time.process_time() - began) * 1_000)
    return Speed(
        engine=engine,
        median_ms=float(np.median(taken[False])),
        median_ms_given_states=float(np.median(taken[True])),
        slowest_ms=float(np.max(taken[False])),
    )


def _bars(
    rows: Sequence[Row], against: Sequence[Against], costs: Sequence[Int8Cost], speed: Sequence[Speed]
) -> list[Bar]:
    bars = [bar for split in ("forward", "left out") if (bar := _best_bar(rows, split)) is not None]
    bars += [
        Bar(
            promise=f"{one.split}: served is better than {one.baseline} over all sets and horizons",
            found=f"{one.change:+.1%} ({one.low:+.1%} to {one.high:+.1%})",
            is_kept=one.high < 0,
        )
        for one in against
    ]
    bars += _wildebeest_bars(rows)
    bars += _coverage_bars(rows)
    for cost in costs:
        bars.append(
            Bar(
                promise=f"int8 {cost.engine} costs at most {MOST_INT8_COST:.1%} of the mean error",
                found=f"{cost.mean:+.2%}, at worst {cost.worst:+.2%}",
                is_kept=cost.mean <= MOST_INT8_COST,
            )
        )
    for one_speed in speed:
        bars.append(
            Bar(
                promise=f"{one_speed.engine}: an animal takes less than 20 ms",
                found=f"median {one_speed.median_ms:.1f} ms, {one_speed.median_ms_given_states:.1f} ms given states",
                is_kept=one_speed.median_ms < 20,
            )
        )
    return bars


def _best_bar(rows: Sequence[Row], split: str) -> Bar | None:
    worst = (-math.inf, "")
    for mine, _ in _pairs(rows, SERVED, "persistence", split):
        best = min(
            theirs.mean_m
            for name in NAMES
            for row, theirs in _pairs(rows, SERVED, name, split)
            if (row.dataset, row.horizon_h) == (mine.dataset, mine.horizon_h)
        )
        worst = max(worst, (mine.mean_m / best - 1, f"{mine.dataset} at {mine.horizon_h} h"))
    if not worst[1]:
        return None
    return Bar(
        promise=f"{split}: served is at most {MOST_ABOVE_BEST:.1%} above the best plain forecast anywhere",
        found=f"{worst[0]:+.2%} ({worst[1]})",
        is_kept=worst[0] <= MOST_ABOVE_BEST,
    )


def _wildebeest_bars(rows: Sequence[Row]) -> list[Bar]:
    found = []
    for split in ("forward", "left out"):
        for mine, theirs in _pairs(rows, SERVED, "persistence", split):
            if mine.dataset.startswith("wildebeest") and mine.horizon_h == 12:
                gain = 1 - mine.mean_m / theirs.mean_m
                found.append(
                    Bar(
                        promise=f"{split}: wildebeest at 12 h are {LEAST_WILDEBEEST_GAIN:.0%} below persistence",
                        found=f"{gain:.1%}",
                        is_kept=gain >= LEAST_WILDEBEEST_GAIN,
                    )
                )
    return found


def _coverage_bars(rows: Sequence[Row]) -> list[Bar]:
    """The bars of coverage on left-out animals: of every set, and of those that are large enough to prove something."""
    served = [row for row in rows if row.split == "left out" and row.individual is None and row.model == SERVED]
    found = []
    for least, title in ((LARGE, f"each set of {LARGE:,} forecasts or more"), (0, "each set")):
        for share, bounds in ((0.5, BOUNDS_50), (0.9, BOUNDS_90)):
            values = [
                (value, f"{row.dataset} at {row.horizon_h} h")
                for row in served
                if row.n >= least and (value := row.coverage_50 if share == 0.5 else row.coverage_90) is not None
            ]
            if values:
                low, high = min(values), max(values)
                found.append(
                    Bar(
                        promise=f"left out: {share:.0%} ellipses hold {bounds[0]} to {bounds[1]} in {title}",
                        found=f"{low[0]:.3f} ({low[1]}) to {high[0]:.3f} ({high[1]})",
                        is_kept=bounds[0] <= low[0] and high[0] <= bounds[1],
                    )
                )
    return found


def report(found: Evaluation) -> str:
    """Return the tables in Markdown, as the README has them."""
    lines = [f"Version {found.version}.", "", "| promise | found | kept |", "|---|---|---|"]
    lines += [f"| {bar.promise} | {bar.found} | {'yes' if bar.is_kept else '**no**'} |" for bar in found.bars]
    for split in dict.fromkeys(row.split for row in found.rows):
        lines += ["", f"**{split}**: mean / median error in metres", ""]
        lines += _table([row for row in found.rows if row.split == split and row.individual is None])
    lines += ["", "**left out, by individual**: what is served, mean error in metres", ""]
    lines += _individuals([row for row in found.rows if row.split == "left out" and row.individual is not None])
    lines += ["", "| engine | bytes | cost of int8 | at worst | ms an animal | with states given | slowest |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|"]
    for cost in found.int8:
        for speed in found.speed:
            if speed.engine == cost.engine:
                lines.append(
                    f"| {cost.engine} | {cost.bytes} | {cost.mean:+.3%} | {cost.worst:+.3%} | {speed.median_ms:.1f} "
                    f"| {speed.median_ms_given_states:.1f} | {speed.slowest_ms:.1f} |"
                )
    lines += ["", "| the network without | mean error |", "|---|--:|"]
    lines += [f"| {one.part} | {one.change:+.1%} |" for one in found.without]
    lines += [
        "",
        "| group | " + " | ".join(f"{hours} h" for hours in HORIZONS_H) + " |",
        "|---|" + "---|" * len(HORIZONS_H),
    ]
    lines += [f"| {group} | {' | '.join(found.served[group])} |" for group in ALL_GROUPS]
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> list[str]:
    models = [
        name for name in dict.fromkeys(row.model for row in rows) if not name.startswith(("network, int8", _WITHOUT))
    ]
    lines = [
        "| set | h | n | " + " | ".join(models) + " | nll | 50 % | 90 % |",
        "|---|--:|--:|" + "--:|" * (len(models) + 3),
    ]
    for dataset, hours in dict.fromkeys((row.dataset, row.horizon_h) for row in rows):
        cells = {row.model: row for row in rows if (row.dataset, row.horizon_h) == (dataset, hours)}
        served = cells[SERVED]
        errors = " | ".join(f"{cells[name].mean_m:.0f} / {cells[name].median_m:.0f}" for name in models)
        lines.append(
            f"| {dataset} | {hours} | {served.n} | {errors} | {served.nll:.2f} "
            f"| {served.coverage_50:.3f} | {served.coverage_90:.3f} |"
        )
    return lines


def _individuals(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| individual | h | n | served | persistence | ridge | 50 % | 90 % |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for individual, hours in dict.fromkeys((row.individual, row.horizon_h) for row in rows):
        cells = {row.model: row for row in rows if (row.individual, row.horizon_h) == (individual, hours)}
        served = cells[SERVED]
        lines.append(
            f"| {individual} | {hours} | {served.n} | {served.mean_m:.0f} | {cells['persistence'].mean_m:.0f} "
            f"| {cells['ridge'].mean_m:.0f} | {served.coverage_50:.3f} | {served.coverage_90:.3f} |"
        )
    return lines
