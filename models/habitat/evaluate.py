"""How well suitability tells used from available places on ground, and by animals, that the model has not seen.

Each set is cut in many ways. *Blocks* hold back squares of land, 20 seeds for where the squares begin and which are
held back together. *Animals* leaves one animal out, all of its places; the seeds draw availability anew. *Random* holds
back places anywhere: it is printed because it flatters, and nobody should quote it. Beside the model, on the same
places and folds, stand a logistic regression with quadratic terms of the maps' own values (``glm``, the textbook), and
one of all covariates with the same weights and a penalty (``glm_around``), which is the trend inside the model.

Where the reference folder has the points of a set, these are used, and its own folds are a row of their own.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from models.habitat import folds, glm
from models.habitat.covariates import FloatArray, IntArray, covariate_names
from models.habitat.datasets import (
    Animal,
    Points,
    Settings,
    Study,
    animals_of,
    at_places,
    points_of,
    settings_in,
    studies_in,
)
from models.habitat.export import quantised
from models.habitat.features import RasterSet, open_rasters
from models.habitat.metrics import auc, boyce
from models.habitat.train import RIDGE, FloatModel, fit, fitted, held_out, plain_glm, progress, raw, weights_of
from shared.errors import Invalid

SEEDS: Final = 20
_RANDOM_SEEDS: Final = 2
_TOP: Final = 0.01


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Mean, and the 5 % and 95 % quantiles, over the seeds; None where no seed could be measured."""

    mean: float | None
    low: float | None
    high: float | None


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    """One set, cut in one way. ``better`` is the share of seeds in which the model's AUC is above the textbook's.

    ``boyce`` slides its windows over ranks, ``boyce_range`` over probabilities; ``reference`` are the AUCs of others on
    the same points and folds, where there are any.
    """

    data_set: str
    cut: str
    used: int
    available: int
    seeds: int
    auc: Spread
    boyce: Spread
    boyce_range: Spread
    glm_auc: Spread
    glm_boyce: Spread
    glm_boyce_range: Spread
    glm_around_auc: Spread
    glm_around_boyce: Spread
    better: float
    reference: dict[str, float]


class OfAnimal(msgspec.Struct, frozen=True, kw_only=True):
    """An animal that was left out, the mean over the seeds."""

    data_set: str
    individual: str
    auc: float
    glm_auc: float


class Quantisation(msgspec.Struct, frozen=True, kw_only=True):
    """The station's model beside the float model, on every cell of the maps."""

    data_set: str
    cells: int
    max_dp: float
    top_cells: int
    top_cells_shared: int


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """A covariate's share of what the trees' questions gained."""

    data_set: str
    covariate: str
    share: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    skill: list[Skill]
    animals: list[OfAnimal]
    quantisation: list[Quantisation]
    gain: list[Gain]


class _Cut(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    name: str
    folds: Sequence[tuple[Points, IntArray]]
    reference: dict[str, float] = {}


def evaluate(data: Path, reference: Path, *, seeds: int = SEEDS) -> Evaluation:
    """Return the figures for the tracks and maps in ``data``, with the points and results in ``reference``.

    Raises Invalid where there are none.
    """
    settings = settings_in(data)
    skill: list[Skill] = []
    animals: list[OfAnimal] = []
    quantisation: list[Quantisation] = []
    gains: list[Gain] = []
    with progress() as bar:
        task = bar.add_task("habitat", total=None)
        for study in studies_in(data):
            with open_rasters(study.rasters) as rasters:
                for name, of_set in _sets(animals_of(data, study), study):
                    cuts = _cuts(of_set, rasters, settings, reference, seeds)
                    for cut in cuts:
                        bar.update(task, description=f"habitat: {name}, {cut.name}", total=len(cut.folds), completed=0)
                        found, by_animal = _skill(name, cut, settings, lambda: bar.advance(task))
                        skill.append(found)
                        animals += by_animal
                    points = points_of(of_set, rasters, settings, seed=0)
                    model = fit(points, settings, seed=0)
                    quantisation.append(_quantisation(name, model, rasters, int(points.months[0])))
                    gains += [Gain(data_set=name, covariate=one, share=share) for one, share in model.gain().items()]
    return Evaluation(skill=skill, animals=animals, quantisation=quantisation, gain=gains)


def _sets(animals: list[Animal], study: Study) -> Iterator[tuple[str, list[Animal]]]:
    if study.is_each_alone:
        yield from ((f"{study.name} {one.individual}", [one]) for one in animals)
    if not study.is_each_alone or len(animals) > 1:
        yield study.name, animals


def _cuts(animals: list[Animal], rasters: RasterSet, settings: Settings, reference: Path, seeds: int) -> Iterator[_Cut]:
    points = points_of(animals, rasters, settings, seed=0)
    if len(animals) == 1:
        given = reference_points(reference, animals[0].individual, rasters)
        if given is not None:
            points, own_folds, others = given
            yield _Cut(name="reference blocks", folds=[(points, own_folds)], reference=others)
    size_m = folds.block_size_m(points.x_m, points.y_m, settings.block_m)
    cut = [(points, folds.block_folds(points.x_m, points.y_m, seed, size_m)) for seed in range(seeds)]
    yield _Cut(name=f"blocks of {size_m / 1_000:g} km", folds=cut)
    if len(animals) > 1:
        drawn = (points_of(animals, rasters, settings, seed) for seed in range(seeds))
        yield _Cut(name="animals", folds=[(one, one.animal) for one in drawn])
    count = points.is_used.size
    yield _Cut(
        name="random (flatters)",
        folds=[(points, folds.random_folds(count, seed)) for seed in range(min(seeds, _RANDOM_SEEDS))],
    )


def _skill(name: str, cut: _Cut, settings: Settings, advance: Callable[[], None]) -> tuple[Skill, list[OfAnimal]]:
    rows: list[list[float]] = []
    of_animals: dict[str, list[tuple[float, float]]] = {}
    for seed, (points, fold) in enumerate(cut.folds):
        ours = held_out(points, fold, fitted(settings, seed))
        plain = held_out(points, fold, lambda seen, out: plain_glm(seen).log_odds(raw(out)))
        around = held_out(
            points, fold, lambda seen, out: _glm_around(seen, settings).log_odds(out.values.astype(np.float64))
        )
        used = points.is_used
        rows.append([
            auc(used, ours), boyce(used, ours), boyce(used, _chance(ours), "range"),
            auc(used, plain), boyce(used, plain), boyce(used, _chance(plain), "range"),
            auc(used, around), boyce(used, around),
        ])  # fmt: skip
        if cut.name == "animals":
            for number, individual in enumerate(points.individuals):
                here = points.animal == number
                pair = (auc(used[here], ours[here]), auc(used[here], plain[here]))
                of_animals.setdefault(individual, []).append(pair)
        advance()
    columns = np.array(rows)
    fields = (
        "auc", "boyce", "boyce_range", "glm_auc", "glm_boyce", "glm_boyce_range", "glm_around_auc", "glm_around_boyce",
    )  # fmt: skip
    first = cut.folds[0][0].is_used
    spreads: dict[str, Any] = {field: _spread(columns[:, place]) for place, field in enumerate(fields)}
    found = Skill(
        data_set=name,
        cut=cut.name,
        used=int(first.sum()),
        available=int((first == 0).sum()),
        seeds=len(rows),
        better=float((columns[:, 0] > columns[:, 3]).mean()),
        reference=cut.reference,
        **spreads,
    )
    by_animal = []
    for individual, pairs in of_animals.items():
        mean, plain_mean = np.mean(pairs, axis=0).tolist()
        by_animal.append(OfAnimal(data_set=name, individual=individual, auc=mean, glm_auc=plain_mean))
    return found, by_animal


def _glm_around(points: Points, settings: Settings) -> glm.Glm:
    weights = weights_of(points, settings)
    return glm.fit(points.values.astype(np.float64), points.is_used, weights, ridge=RIDGE, furthest_sd=glm.FURTHEST_SD)


def _spread(values: FloatArray) -> Spread:
    known = values[np.isfinite(values)]
    if not known.size:
        return Spread(mean=None, low=None, high=None)
    low, high = np.quantile(known, (0.05, 0.95)).tolist()
    return Spread(mean=float(known.mean()), low=low, high=high)


def _chance(log_odds: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -500, 500))))


def reference_points(
    reference: Path, individual: str, rasters: RasterSet
) -> tuple[Points, IntArray, dict[str, float]] | None:
    """Return the reference's places of an animal with its folds of blocks, and the AUCs that others reached on them."""
    folder = reference / "models" if (reference / "models").is_dir() else reference
    path = folder / f"rsf_points_{individual}.csv.gz"
    if not path.is_file():
        return None
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = [(row["x"], row["y"], row["used"], row["spatial_fold"]) for row in csv.DictReader(file)]
    columns = np.array(rows, dtype=np.float64).T
    if columns.shape[0] != 4:
        raise Invalid(f"{path}: it has no places")
    x_m, y_m, is_used, fold = columns
    nowhere = np.zeros(x_m.size, dtype=np.int64)
    names = covariate_names(rasters.kinds, rasters.rasters.categories)
    points = at_places(rasters, names, x_m, y_m, is_used, nowhere, nowhere + 1, (individual,))
    if points.is_used.size != x_m.size:
        raise Invalid(f"{path}: {x_m.size - points.is_used.size} of its places are not on the maps")
    others = {}
    for file_name, keys, title in (
        ("amt_rsf_issf_reference.json", (f"rsf_glm_{individual}", "auc_spatial5km5"), "amt glm"),
        ("rsf_xgboost_reference.json", ("results", individual, "spatial_fold", "auc"), "xgboost"),
    ):
        if (folder / file_name).is_file():
            found: Any = msgspec.json.decode((folder / file_name).read_bytes())
            for key in keys:
                found = found.get(key, {})
            if found:
                others[title] = float(found)
    return points, fold.astype(np.int64), others


def _quantisation(name: str, model: FloatModel, rasters: RasterSet, month: int) -> Quantisation:
    small = quantised(model, name="evaluated", version=1, held_out="nothing", metrics={})
    wanted, found = [], []
    for window in rasters.grid.blocks():
        values = rasters.covariates(model.names, window, month).reshape(len(model.names), -1).T
        values = values[np.isfinite(values).any(axis=1)]
        if len(values):
            wanted.append(_chance(model.log_odds(values)))
            found.append(small.score(values))
    exact, rounded = np.concatenate(wanted), np.concatenate(found)
    count = max(1, round(_TOP * exact.size))
    top, top_rounded = (set(np.argsort(-one, kind="stable")[:count].tolist()) for one in (exact, rounded))
    return Quantisation(
        data_set=name,
        cells=exact.size,
        max_dp=float(np.abs(exact - rounded).max()),
        top_cells=count,
        top_cells_shared=len(top & top_rounded),
    )


def report(found: Evaluation) -> str:
    """Return the tables in Markdown, as the README has them."""
    lines = [
        (
            "| data set | held back | used | seeds | AUC | Boyce | Boyce, range | GLM AUC | Boyce | Boyce, range "
            "| GLM with surroundings AUC | Boyce | better than GLM | others |"
        ),
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in found.skill:
        spreads = (
            row.auc, row.boyce, row.boyce_range, row.glm_auc, row.glm_boyce, row.glm_boyce_range,
            row.glm_around_auc, row.glm_around_boyce,
        )  # fmt: skip
        others = ", ".join(f"{title} {value:.3f}" for title, value in row.reference.items()) or "-"
        lines.append(
            f"| {row.data_set} | {row.cut} | {row.used} | {row.seeds} | {' | '.join(map(_cell, spreads))} "
            f"| {row.better:.0%} | {others} |"
        )
    lines += ["", "| data set | animal left out | AUC | GLM AUC |", "|---|---|--:|--:|"]
    lines += [f"| {one.data_set} | {one.individual} | {one.auc:.3f} | {one.glm_auc:.3f} |" for one in found.animals]
    lines += ["", "| data set | cells | largest difference | best 1 % | of them the same |", "|---|--:|--:|--:|--:|"]
    lines += [
        f"| {one.data_set} | {one.cells} | {one.max_dp:.1e} | {one.top_cells} | {one.top_cells_shared} |"
        for one in found.quantisation
    ]
    lines += ["", "| data set | what the questions gained by |", "|---|---|"]
    for name in dict.fromkeys(one.data_set for one in found.gain):
        largest = [one for one in found.gain if one.data_set == name][:6]
        lines.append(f"| {name} | {', '.join(f'{one.covariate} {one.share:.0%}' for one in largest)} |")
    return "\n".join(lines)


def _cell(spread: Spread) -> str:
    if spread.mean is None or spread.low == spread.high:
        return "-" if spread.mean is None else f"{spread.mean:.3f}"
    return f"{spread.mean:.3f} ({spread.low:.3f} to {spread.high:.3f})"
