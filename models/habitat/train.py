"""Training: shallow boosted trees on used against available places, blended with a penalised regression.

What holds a model back from remembering places is in the settings: trees of few questions, a strong penalty, leaves
that need much weight, few bins, a part of the covariates for each tree. Used places weigh as much as available ones in
sum, and among themselves less the more of them lie in one square of land (to the power ``crowding``): a den that a
collar reported a thousand times is one choice. The sum of weights is the same for any number of fixes, since a collar
that reports four times as often knows no more land.

The regression (linear and quadratic in every covariate, clipped at three standard deviations) carries smooth trends
into ground that no tree has seen; the trees add what is neither linear nor additive. ``blend`` is the share of the
trees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import xgboost
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from models.artifact import Manifest, TrainingSet, versions
from models.habitat import folds, glm
from models.habitat.covariates import FloatArray, IntArray
from models.habitat.datasets import Animal, Points, Settings, Study, animals_of, points_of, settings_in, studies_in
from models.habitat.export import export, quantised
from models.habitat.features import open_rasters
from models.habitat.glm import Glm
from models.habitat.metrics import auc, boyce
from models.habitat.runtime import BETTER_THAN_CHANCE, GENERIC, HabitatModel
from shared.console import errors
from shared.errors import Invalid

#: The sum of all weights; penalties of the settings are in this measure.
WEIGHT: Final = 40_000.0
#: The penalty of the regression's slopes, in the same measure.
RIDGE: Final = 3_000.0
_HELD_OUT_SEEDS: Final = 5


class FloatModel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A model as it was trained: boosters that are averaged, a regression, and the share of the boosters."""

    names: tuple[str, ...]
    boosters: tuple[Any, ...]
    regression: Glm
    blend: float

    def log_odds(self, values: npt.NDArray[Any]) -> FloatArray:
        """Return the log odds of used against available for covariates (n, k)."""
        data = xgboost.DMatrix(np.asarray(values, dtype=np.float32), feature_names=list(self.names), nthread=1)
        trees = np.mean([one.predict(data, output_margin=True) for one in self.boosters], axis=0, dtype=np.float64)
        return np.asarray(self.blend * trees + (1 - self.blend) * self.regression.log_odds(values))

    def gain(self) -> dict[str, float]:
        """Return each covariate's share of what splitting gained in the trees, largest first."""
        total = dict.fromkeys(self.names, 0.0)
        for booster in self.boosters:
            for name, gained in booster.get_score(importance_type="total_gain").items():
                total[name] += float(gained)
        whole = sum(total.values()) or 1.0
        return {name: total[name] / whole for name in sorted(total, key=lambda one: -total[one]) if total[name] > 0}


def fit(points: Points, settings: Settings, seed: int, weights: FloatArray | None = None) -> FloatModel:
    """Train on places; the same places, settings and seed give the same model. ``weights`` (n,) replace our own."""
    weights = weights_of(points, settings) if weights is None else weights
    matrix = xgboost.DMatrix(points.values, points.is_used, weight=weights, feature_names=list(points.names), nthread=1)
    boosters = []
    for bag in range(settings.bags):
        parameters = _parameters(points.names, settings, seed + bag)
        if settings.bags > 1:
            # Bags differ by the available places that they see: half of them, the used ones all.
            is_seen = (points.is_used > 0) | (np.random.default_rng([seed, bag]).random(points.is_used.size) < 0.5)
            matrix = xgboost.DMatrix(
                points.values[is_seen], points.is_used[is_seen], weight=(weights * (2 - points.is_used))[is_seen],
                feature_names=list(points.names), nthread=1,
            )  # fmt: skip
        boosters.append(xgboost.train(parameters, matrix, settings.rounds))
    return FloatModel(
        names=points.names,
        boosters=tuple(boosters),
        regression=glm.fit(
            _trending(points, settings), points.is_used, weights, ridge=RIDGE, furthest_sd=glm.FURTHEST_SD
        ),
        blend=settings.blend,
    )


def _trending(points: Points, settings: Settings) -> FloatArray:
    """Return the covariates for the regression; those that may only rise or fall are left to the trees, as zeros."""
    values = points.values.astype(np.float64)
    values[:, [name in (*settings.rising, *settings.falling) for name in points.names]] = 0.0
    return values


def weights_of(points: Points, settings: Settings) -> FloatArray:
    """Return the weight of each place: crowded squares thinned, used and available in balance, the sum fixed."""
    squares = folds.blocks(points.x_m, points.y_m, settings.block_m)
    groups = folds.numbered(points.animal, squares)
    used = points.is_used > 0
    if not used.any() or used.all():
        raise Invalid("a model needs used and available places")
    counts = np.bincount(groups[used], minlength=int(groups.max()) + 1).astype(np.float64)
    weights = np.ones(used.size)
    weights[used] = counts[groups[used]] ** -settings.crowding
    weights[used] *= WEIGHT / 2 / weights[used].sum()
    weights[~used] = WEIGHT / 2 / float((~used).sum())
    return weights


def _parameters(names: tuple[str, ...], settings: Settings, seed: int) -> dict[str, Any]:
    unknown = sorted({*settings.rising, *settings.falling} - set(names))
    if unknown:
        raise Invalid(f"habitat.toml: no covariate {', '.join(unknown)}; there are {', '.join(names)}")
    both = sorted({*settings.rising} & {*settings.falling})
    if both:
        raise Invalid(f"habitat.toml: {', '.join(both)} cannot rise and fall")
    parameters: dict[str, Any] = {
        "objective": "binary:logistic", "base_score": 0.5, "tree_method": "hist", "nthread": 1, "seed": seed,
        "max_depth": settings.depth, "eta": settings.learning_rate, "subsample": settings.rows,
        "colsample_bytree": settings.columns, "reg_lambda": settings.l2, "min_child_weight": settings.least_weight,
        "max_bin": settings.bins,
    }  # fmt: skip
    if settings.rising or settings.falling:
        signs = [int(name in settings.rising) - int(name in settings.falling) for name in names]
        parameters["monotone_constraints"] = f"({','.join(map(str, signs))})"
    return parameters


def held_out(points: Points, fold: IntArray, predict: Callable[[Points, Points], FloatArray]) -> FloatArray:
    """Return the score of every place by a model that has not seen its fold; ``predict`` takes seen and unseen."""
    scores = np.full(points.is_used.size, np.nan)
    for number in np.unique(fold).tolist():
        is_out = fold == number
        scores[is_out] = predict(points.part(~is_out), points.part(is_out))
    return scores


def fitted(settings: Settings, seed: int) -> Callable[[Points, Points], FloatArray]:
    """Return what ``held_out`` asks: a model of the seen places that scores the unseen ones."""
    return lambda seen, out: fit(seen, settings, seed).log_odds(out.values)


class _Made(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    name: str
    model: FloatModel
    points: Points
    metrics: dict[str, float]
    held_out: str
    trained_on: tuple[TrainingSet, ...]


def train(data: Path, folder: Path, *, version: int | None = None) -> list[Manifest]:
    """Train a model of each species in ``data`` and the generic one; write artefacts into ``folder``.

    Raises Invalid where tracks or maps cannot be used; what was there before stays.
    """
    studies, settings = [one for one in studies_in(data) if one.artifact is not None], settings_in(data)
    if not studies:
        raise Invalid(f"{data}: nothing here that a model can be shipped of")
    number = version if version is not None else max([0, *versions(folder, "habitat")]) + 1
    made = []
    with progress() as bar:
        task = bar.add_task("habitat", total=len(studies) * (_HELD_OUT_SEEDS + 1) + 1)
        for study in studies:
            bar.update(task, description=f"habitat: {study.name}")
            one = _made(data, study, settings, lambda: bar.advance(task))
            reached = one.metrics.get("auc", 0.0)
            if reached >= BETTER_THAN_CHANCE:
                made.append(one)
                continue
            bar.console.print(
                f"habitat: {study.name}: AUC {reached:.3f} on {one.held_out} that it had not seen, "
                f"under {BETTER_THAN_CHANCE}: no model of it is written; more animals or other maps may help",
                markup=False,
                soft_wrap=True,
            )
        if not made:
            raise Invalid(f"{data}: no species has a model that is better than chance on what it has not seen")
        bar.update(task, description="habitat: generic")
        made.append(_generic(made, settings))
        bar.advance(task)
    return [_written(folder, number, one, settings) for one in made]


def progress() -> Progress:
    """Return a bar on stderr, so that figures on stdout stay clean; in a log file there is none."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)


def _made(data: Path, study: Study, settings: Settings, advance: Callable[[], None]) -> _Made:
    animals = animals_of(data, study)
    with open_rasters(study.rasters) as rasters:
        points = points_of(animals, rasters, settings, seed=0)
    # With three animals and more each is left out in turn; of fewer, blocks of land are.
    is_by_animal = len(animals) > 2
    size_m = folds.block_size_m(points.x_m, points.y_m, settings.block_m)
    found = []
    for seed in range(_HELD_OUT_SEEDS):
        fold = points.animal if is_by_animal else folds.block_folds(points.x_m, points.y_m, seed, size_m)
        ours = held_out(points, fold, fitted(settings, seed))
        plain = held_out(points, fold, lambda seen, out: plain_glm(seen).log_odds(raw(out)))
        found.append([
            auc(points.is_used, ours), boyce(points.is_used, ours), auc(points.is_used, plain),
            boyce(points.is_used, plain),
        ])  # fmt: skip
        advance()
    means = np.mean(found, axis=0).tolist()
    made = _Made(
        name=str(study.artifact),
        model=fit(points, settings, seed=0),
        points=points,
        metrics=_finite(dict(zip(("auc", "boyce", "glm_auc", "glm_boyce"), means, strict=True))),
        held_out="animals" if is_by_animal else "blocks",
        trained_on=(_training_set(study, animals, points),),
    )
    advance()
    return made


def _generic(made: Sequence[_Made], settings: Settings) -> _Made:
    """Return the model of all sets; measured on each set by a model of the others."""
    everything = [one.points for one in made]
    metrics: dict[str, float] = {}
    if len(made) > 1:
        scores = []
        for place, one in enumerate(made):
            others = pooled([points for other, points in enumerate(everything) if other != place])
            model = fit(others, settings, 0, _equal_weights(others, settings))
            found = model.log_odds(aligned(one.points, others.names).values)
            scores.append([auc(one.points.is_used, found), boyce(one.points.is_used, found)])
            metrics[f"auc_{one.name}"] = scores[-1][0]
        metrics |= dict(zip(("auc", "boyce"), np.nanmean(scores, axis=0).tolist(), strict=True))
    points = pooled(everything)
    return _Made(
        name=GENERIC,
        model=fit(points, settings, 0, _equal_weights(points, settings)),
        points=points,
        metrics=_finite(metrics),
        held_out="sets" if len(made) > 1 else "nothing",
        trained_on=tuple(used for one in made for used in one.trained_on),
    )


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    """Return what could be measured: JSON has no word for what is no number."""
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def pooled(sets: Sequence[Points]) -> Points:
    """Return all sets as one; a covariate that a set has not is missing there, animals are numbered through."""
    names = tuple(dict.fromkeys(name for points in sets for name in points.names))
    whole = [aligned(points, names) for points in sets]
    before = np.cumsum([0, *(len(points.individuals) for points in sets)])
    columns = {
        name: np.concatenate([getattr(points, name) for points in whole])
        for name in ("values", "is_used", "x_m", "y_m", "months")
    }
    return Points(
        names=names,
        animal=np.concatenate([points.animal + first for points, first in zip(whole, before, strict=False)]),
        individuals=tuple(name for points in whole for name in points.individuals),
        own=tuple(dict.fromkeys(name for points in sets for name in points.own)),
        **columns,
    )


def aligned(points: Points, names: tuple[str, ...]) -> Points:
    """Return the places with other covariates: those they have, and NaN."""
    values = np.full((points.is_used.size, len(names)), np.nan, dtype=np.float32)
    for place, name in enumerate(names):
        if name in points.names:
            values[:, place] = points.values[:, points.names.index(name)]
    return msgspec.structs.replace(points, names=names, values=values)


def raw(points: Points) -> FloatArray:
    """Return the maps' own values alone, (n, maps): what a textbook regression is given."""
    own = [points.names.index(name) for name in points.own]
    return points.values[:, own].astype(np.float64)


def plain_glm(points: Points) -> Glm:
    """Return the baseline: used against available with quadratic terms of the maps' own values."""
    return glm.fit(raw(points), points.is_used)


def _equal_weights(points: Points, settings: Settings) -> FloatArray:
    """Each animal the same, so that no species speaks for all."""
    weights = np.zeros(points.is_used.size)
    for number in range(len(points.individuals)):
        here = points.animal == number
        weights[here] = weights_of(points.part(here), settings) / len(points.individuals)
    return weights


def _training_set(study: Study, animals: Sequence[Animal], points: Points) -> TrainingSet:
    return TrainingSet(
        dataset=", ".join(study.files),
        individuals=tuple(one.individual for one in animals),
        rows=int(points.is_used.sum()),
        licence=study.licence,
        citation=study.citation,
    )


def _written(folder: Path, number: int, one: _Made, settings: Settings) -> Manifest:
    months = tuple(sorted(set(one.points.months[one.points.is_used > 0].tolist())))
    small = quantised(
        one.model, name=one.name, version=number, held_out=one.held_out, metrics=one.metrics, months=months
    )
    found, wanted = (1 / (1 + np.exp(-log_odds)) for log_odds in _both(small, one))
    metrics = one.metrics | {"quantisation_max_dp": float(np.nanmax(np.abs(found - wanted)))}
    return export(
        folder,
        small,
        metrics=metrics,
        trained_on=one.trained_on,
        gain=one.model.gain(),
        settings=settings,
    )


def _both(small: HabitatModel, one: _Made) -> tuple[FloatArray, FloatArray]:
    return small.log_odds(one.points.values), one.model.log_odds(one.points.values)
