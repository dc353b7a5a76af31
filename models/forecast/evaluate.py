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
from models.forecast.bars import bars_of
from models.forecast.baselines import HORIZONS_H, FloatArray
from models.forecast.calibration import OWN, OWN_DAYS, is_known_by, own_anchors
from models.forecast.datasets import Animal, read
from models.forecast.engines import NumpyEngine
from models.forecast.features import COMMON_VECTORS, DAY_S, N_VECTORS, Anchors, BoolArray, Known, context_slice
from models.forecast.findings import (
    FLOAT,
    SERVED,
    WITHOUT,
    Against,
    Evaluation,
    Int8Cost,
    Row,
    Speed,
    Without,
    pairs,
    report,
)
from models.forecast.fitted import ENGINES, NETWORK, Fitted, Network, fitted_of, network_of, scaling_of, weights_of
from models.forecast.heads import Distribution
from models.forecast.runtime import Forecaster, load_forecaster
from models.forecast.samples import Samples, known_of, rows_of, samples_of
from shared.errors import ModelUnavailable

__all__ = ["evaluate", "report"]

#: Fewer truths than this are no row.
FEWEST: Final = 40
#: What the network is not told, in turn, to see what its skill rests on.
PARTS: Final = ("state", "hour", "season", "group", "memory of places", "the last day, hour by hour")

_WEEK_S: Final = 7 * 86_400.0
_RESAMPLES: Final = 1_000
_SPEED_TRACKS: Final = 20
_AT_ONCE: Final = 500


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
        bars=bars_of(rows, against, costs, speed),
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
        said[f"{WITHOUT}{part}"] = forecaster.of_network(_hidden(samples.anchors, part, served))
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
        compared = pairs(rows, f"network, int8 {engine}", FLOAT)
        changes = [mine.mean_m / theirs.mean_m - 1 for mine, theirs in compared]
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
        ratios = [mine.mean_m / theirs.mean_m for mine, theirs in pairs(rows, f"{WITHOUT}{part}", NETWORK)]
        found.append(Without(part=part, change=float(np.mean(ratios)) - 1))
    return found


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
