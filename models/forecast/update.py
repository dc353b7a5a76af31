"""Going on from a trained network on recent tracks, and taking the result only where it is better.

Each track is cut as in training: the first 60 % teach, the next 10 % choose and calibrate, the last 30 % decide. The
new network is written as the next version only if its mean error there is below that of the version before it by more
than chance (upper end of a 95 % interval, bootstrapped over animal-days). The version before it stays where it is.

Groups of which the tracks have no animal keep their circles, radii and choice of model, and could not be tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.artifact import PACKAGED, Loaded, load_newest, versions
from models.forecast.baselines import FloatArray
from models.forecast.datasets import Animal, Read, animal_of, read
from models.forecast.engines import NumpyEngine
from models.forecast.features import DAY_S, MEMORY_DAYS, BoolArray, IntArray
from models.forecast.fitted import ALL_GROUPS, Fitted, Network, fitted_of, scaling_of, weights_of
from models.forecast.runtime import Forecaster
from models.forecast.samples import Samples, samples_of
from models.forecast.train import Learned, Progress, Recipe, measured, net_of, say, train_net, trained_on, write
from shared.errors import Invalid

#: The days of each track that an update learns from.
RECENT_DAYS: Final = 180
#: A little of the training, so that what many animals taught is not forgotten over one.
RECIPE: Final = Recipe(epochs=4, rate=3e-4, n_folds=0)

_RESAMPLES: Final = 1_000
_FEWEST: Final = 100


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What an update came to.

    ``change`` of the mean error on held-out fixes, as a share, with its 95 % interval, over ``n`` forecasts;
    ``version`` is the one now served. ``untested`` names the groups of which the tracks have no animal.
    """

    is_promoted: bool
    version_before: int
    version: int
    change: float
    low: float
    high: float
    n: int
    untested: tuple[str, ...]


def update(data: Path, folder: Path = PACKAGED, *, recipe: Recipe = RECIPE, progress: Progress = say) -> Update:
    """Fine-tune the newest version on the tracks in ``data``; writes the next version only where it is better.

    Raises ModelUnavailable without a version to go on from, Invalid where the tracks decide nothing.
    """
    before, loaded = load_newest(folder, "forecast", "float", _learned)
    found = _recent(read(data))
    samples = [samples_of(animal, before.fitted.baselines) for animal in found.animals]
    progress(f"{len(samples)} animals read")
    net = net_of(before.weights, recipe.dropout)
    net = train_net(net, samples, before.scaling, before.fitted.growth, recipe, progress)
    fresh = measured(samples, before.fitted.baselines, before.fitted.growth, net.weights(), before.scaling)
    after = fresh._replace(fitted=_kept(before.fitted, fresh.fitted, found.animals))
    change, low, high, n = _change(samples, before, after)
    is_promoted = high < 0
    version = loaded.manifest.version
    if is_promoted:
        version = max(versions(folder, "forecast")) + 1
        settings = {
            "recipe": msgspec.to_builtins(recipe),
            "data_sha256": found.sha256,
            "updated_from": loaded.manifest.version,
            "held_out_change": [change, low, high],
        }
        sets = trained_on(found, [animal.title for animal in found.animals])
        write(folder, version, after, samples, (*loaded.manifest.trained_on, *sets), settings)
    groups = {animal.group or "other" for animal in found.animals}
    return Update(
        is_promoted=is_promoted,
        version_before=loaded.manifest.version,
        version=version,
        change=change,
        low=low,
        high=high,
        n=n,
        untested=tuple(group for group in ALL_GROUPS if group not in groups),
    )


def _learned(loaded: Loaded) -> Learned:
    weights = weights_of(loaded)
    return Learned(fitted_of(loaded), weights, scaling_of(loaded, NumpyEngine(weights).n_context))


def _recent(found: Read) -> Read:
    """The last days of each track, and the memory before them."""
    animals: list[Animal] = []
    for one in found.animals:
        kept = one.times_s >= one.times_s[-1] - (RECENT_DAYS + MEMORY_DAYS) * DAY_S
        fixes = one.times_s[kept], one.lon_deg[kept], one.lat_deg[kept]
        animal = animal_of(one.dataset, one.individual, one.species, *fixes)
        if animal is not None:
            animals.append(animal)
    if not animals:
        raise Invalid("no animal has enough fixes in its last days to learn from")
    return msgspec.structs.replace(found, animals=tuple(animals))


def _kept(before: Fitted, fresh: Fitted, animals: Sequence[Animal]) -> Fitted:
    """The fresh numbers of the groups that the tracks have, those from before of the others."""
    groups = {animal.group or "other" for animal in animals}
    has_animal = np.array([group in groups for group in ALL_GROUPS])
    return msgspec.structs.replace(
        fresh,
        spread=np.where(has_animal[:, None, None], fresh.spread, before.spread),
        levels=np.where(has_animal[:, None, None, None], fresh.levels, before.levels),
        share=np.where(has_animal[:, None], fresh.share, before.share),
        served=np.where(has_animal[:, None], fresh.served, before.served),
        served_plain=np.where(has_animal[:, None], fresh.served_plain, before.served_plain),
    )


def _change(samples: Sequence[Samples], before: Learned, after: Learned) -> tuple[float, float, float, int]:
    """The change of the served mean error on the last parts, its interval, and over how many forecasts.

    Errors count as shares of how far the animals of the same data set go to the same horizon.
    """
    old: list[FloatArray] = []
    new: list[FloatArray] = []
    gone: list[FloatArray] = []
    n = 0
    for one in samples:
        is_in = one.animal.split == 2
        if not bool(is_in.any()):
            continue
        n += int(is_in.sum())
        days, number = np.unique(one.anchors.times_s // DAY_S, return_inverse=True)
        still = np.hypot(one.target_m[..., 0], one.target_m[..., 1])
        # 1 m where there is none: such a column is never counted.
        mean = np.maximum(np.where(is_in, still, 0.0).sum(axis=0) / np.maximum(is_in.sum(axis=0), 1), 1.0)
        for sums, learned in ((old, before), (new, after)):
            sums.append(_by_day(_served_error_m(one, learned) / mean, is_in, number, days.size))
        gone.append(_by_day(np.ones(is_in.shape), is_in, number, days.size))
    if n < _FEWEST:
        raise Invalid(f"{n} held-out forecasts decide nothing: at least {_FEWEST} are needed")
    of_old, of_new, counts = (np.concatenate(part) for part in (old, new, gone))
    has_some = counts > 0
    of_old, of_new = of_old[has_some], of_new[has_some]
    rng = np.random.default_rng(5)
    drawn = rng.integers(0, of_old.size, (_RESAMPLES, of_old.size))
    changes = of_new[drawn].sum(axis=1) / of_old[drawn].sum(axis=1) - 1
    low, high = np.quantile(changes, (0.025, 0.975)).tolist()
    return float(of_new.sum() / of_old.sum() - 1), low, high, n


def _served_error_m(one: Samples, learned: Learned) -> FloatArray:
    network = Network(engine=NumpyEngine(learned.weights), scaling=learned.scaling, version=0)
    place = Forecaster(one.animal.species, learned.fitted, network).said(one.anchors).place_m
    return np.asarray(np.hypot(place[..., 0] - one.target_m[..., 0], place[..., 1] - one.target_m[..., 1]))


def _by_day(values: FloatArray, is_in: BoolArray, number: IntArray, n_days: int) -> FloatArray:
    total = np.where(is_in, np.nan_to_num(values), 0.0).sum(axis=1)
    return np.asarray(np.bincount(number, total, n_days), dtype=np.float64)
