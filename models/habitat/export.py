"""From boosters to bytes: whole trees in heap order, thresholds in bins, leaves in int16; artefact and manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from models.artifact import Input, Manifest, TrainingSet, save
from models.habitat.covariates import FloatArray, unit_of
from models.habitat.datasets import Settings
from models.habitat.glm import Glm
from models.habitat.runtime import END_BIN, MOST_BINS, HabitatModel
from shared.errors import ArtifactError

_LARGEST: Final = 32_767


class Trained(Protocol):
    """What is exported."""

    @property
    def names(self) -> tuple[str, ...]:
        """The covariates."""

    @property
    def boosters(self) -> tuple[Any, ...]:
        """Boosters that are averaged."""

    @property
    def regression(self) -> Glm:
        """The trend."""

    @property
    def blend(self) -> float:
        """The share of the boosters."""


class _Tree(msgspec.Struct):
    left_children: list[int]
    right_children: list[int]
    split_indices: list[int]
    split_conditions: list[float]
    default_left: list[int]


def quantised(
    model: Trained,
    *,
    name: str,
    version: int,
    held_out: str,
    metrics: Mapping[str, float],
    months: tuple[int, ...] = (),
) -> HabitatModel:
    """Return the model as a station runs it; raises ArtifactError where a covariate has too many thresholds."""
    trees = [tree for booster in model.boosters for tree in _trees(booster)]
    share = model.blend / len(model.boosters)
    depth = max(1, max((_depth(tree) for tree in trees), default=1))
    thresholds = _thresholds(trees, len(model.names))
    inner, n_leaves = (1 << depth) - 1, 1 << depth
    features = np.zeros((len(trees), inner), dtype=np.uint8)
    bins = np.full((len(trees), inner), END_BIN, dtype=np.uint8)
    no_data_right = np.zeros((len(trees), inner), dtype=np.uint8)
    leaves = np.zeros((len(trees), n_leaves))
    for number, tree in enumerate(trees):
        _lay(tree, 0, 0, inner, features[number], bins[number], no_data_right[number], leaves[number], thresholds)
    leaves *= share
    scale = max(float(np.abs(leaves).max()), 1e-9) / _LARGEST
    regression = model.regression
    k = len(model.names)
    linear = np.stack((
        regression.mean, regression.sd, (1 - model.blend) * regression.coefficients[1 : k + 1],
        (1 - model.blend) * regression.coefficients[k + 1 :],
    ))  # fmt: skip
    return HabitatModel(
        name=name,
        version=version,
        names=model.names,
        base=float((1 - model.blend) * regression.coefficients[0]),
        furthest_sd=regression.furthest_sd,
        linear=linear.astype(np.float32),
        thresholds=np.concatenate(thresholds),
        ends=np.cumsum([one.size for one in thresholds]).astype(np.int64),
        features=features,
        bins=bins,
        no_data_right=no_data_right,
        leaves=np.rint(leaves / scale).astype(np.int16),
        leaf_scale=scale,
        months=months,
        auc=metrics.get("auc", float("nan")),
        boyce=metrics.get("boyce", float("nan")),
        held_out=held_out,
    )


def export(
    folder: Path,
    model: HabitatModel,
    *,
    metrics: Mapping[str, float],
    trained_on: tuple[TrainingSet, ...],
    gain: Mapping[str, float],
    settings: Settings,
) -> Manifest:
    """Write a model; ``gain`` is each covariate's share of what the trees' questions gained."""
    return save(
        folder,
        model="habitat",
        name=model.name,
        version=model.version,
        inputs=tuple(Input(name=name, unit=unit_of(name)) for name in model.names),
        arrays={
            "linear": (model.linear, 1.0, "mean, sd, slope, curve"),
            "thresholds": (model.thresholds, 1.0, "as the covariate"),
            "ends": (model.ends.astype(np.int32), 1.0, "1"),
            "features": (model.features, 1.0, "covariate"),
            "bins": (model.bins, 1.0, "threshold"),
            "no_data_right": (model.no_data_right, 1.0, "1"),
            "leaves": (model.leaves, model.leaf_scale, "log odds"),
        },
        metrics=metrics,
        trained_on=trained_on,
        licence="MIT",
        settings={
            "covariates": list(model.names),
            "base": model.base,
            "furthest_sd": model.furthest_sd,
            "months": list(model.months),
            "held_out": model.held_out,
            "gain": {name: round(value, 4) for name, value in gain.items()},
            "training": msgspec.to_builtins(settings),
        },
    )


def _trees(booster: Any) -> list[_Tree]:
    found = json.loads(bytes(booster.save_raw(raw_format="json")))
    return [
        msgspec.convert(tree, _Tree, strict=False) for tree in found["learner"]["gradient_booster"]["model"]["trees"]
    ]


def _depth(tree: _Tree, node: int = 0) -> int:
    if tree.left_children[node] < 0:
        return 0
    return 1 + max(_depth(tree, tree.left_children[node]), _depth(tree, tree.right_children[node]))


def _thresholds(trees: list[_Tree], count: int) -> list[npt.NDArray[np.float32]]:
    found: list[set[float]] = [set() for _ in range(count)]
    for tree in trees:
        for node, child in enumerate(tree.left_children):
            if child >= 0:
                found[tree.split_indices[node]].add(tree.split_conditions[node])
    rising = [np.unique(np.array(sorted(one), dtype=np.float32)) for one in found]
    most = max(one.size for one in rising)
    if most > MOST_BINS:
        raise ArtifactError(f"a covariate has {most} thresholds, {MOST_BINS} fit a byte: train with fewer bins")
    return rising


def _lay(
    tree: _Tree,
    node: int,
    place: int,
    inner: int,
    features: npt.NDArray[np.uint8],
    bins: npt.NDArray[np.uint8],
    no_data_right: npt.NDArray[np.uint8],
    leaves: FloatArray,
    thresholds: list[npt.NDArray[np.float32]],
) -> None:
    """Lay a tree from ``node`` down into the heap at ``place``; a leaf above the lowest level goes left to its copy."""
    if place >= inner:
        leaves[place - inner] = tree.split_conditions[node]
        return
    if tree.left_children[node] < 0:
        _lay(tree, node, 2 * place + 1, inner, features, bins, no_data_right, leaves, thresholds)
        return
    feature = tree.split_indices[node]
    features[place] = feature
    bins[place] = np.searchsorted(thresholds[feature], np.float32(tree.split_conditions[node]))
    no_data_right[place] = not tree.default_left[node]
    for child, below in ((tree.left_children[node], 1), (tree.right_children[node], 2)):
        _lay(tree, child, 2 * place + below, inner, features, bins, no_data_right, leaves, thresholds)
