"""Samples of the forecast from track files: anchors with what was known, where the animal then was, and its split.

*Forward in time* each animal's anchors are cut by their number: the first 60 % are for training, the next 10 % for
validation, the last 30 % for testing. An anchor whose target lies beyond its own part's end belongs to no part at that
horizon. *Leaving individuals out*, folds take whole animals away from training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.forecast.baselines import HORIZONS_H
from models.forecast.features import (
    GROUPS,
    HOUR_S,
    BoolArray,
    FloatArray,
    IntArray,
    anchor_indices,
    targets_m,
    unwrapped,
)
from models.forecast.runtime import behaviour_of, group_of, states_of
from models.hmm.datasets import DATASETS, Dataset, trajectories
from models.hmm.features import usable_fixes
from shared.errors import Invalid

TRAIN_SHARE: Final = 0.6
VALIDATION_SHARE: Final = 0.1
#: Animals left out together: one of each species in a fold where there are enough.
FOLDS: Final = 4
# Fewer anchors make neither training nor a test.
_FEWEST_ANCHORS: Final = 100


class Animal(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One animal's usable fixes (n,), its anchors among them (m,), and where it was after each (m, H, 2) in metres.

    ``split`` (m, H): 0 training, 1 validation, 2 test, -1 none or no target.
    """

    dataset: str
    individual: str
    species: str
    group: str | None
    times_s: FloatArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    states: FloatArray | None
    at: IntArray
    target_m: FloatArray
    split: IntArray

    @property
    def title(self) -> str:
        """The animal's name with its data set's."""
        return f"{Path(self.dataset).stem}/{self.individual}"


class Read(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The animals of a folder, and the sha256 of each file that was read."""

    animals: tuple[Animal, ...]
    sha256: dict[str, str]
    datasets: dict[str, Dataset]


def read(data: Path) -> Read:
    """Return the animals of the known track files in ``data``; raises Invalid where there is none."""
    animals: list[Animal] = []
    sha256: dict[str, str] = {}
    for dataset in DATASETS:
        path = data / dataset.file
        if not path.is_file():
            continue
        sha256[dataset.file] = hashlib.sha256(path.read_bytes()).hexdigest()
        for one in trajectories(path):
            chosen = usable_fixes(one.times_s, one.lon_deg, one.lat_deg, one.flags)
            columns = one.times_s[chosen], unwrapped(one.lon_deg[chosen]), one.lat_deg[chosen]
            animal = animal_of(dataset.file, one.individual, one.species, *columns)
            if animal is not None:
                animals.append(animal)
    if not animals:
        raise Invalid(f"{data}: no track file that the forecast knows has an animal of {_FEWEST_ANCHORS} fixes")
    return Read(
        animals=tuple(animals), sha256=sha256, datasets={one.file: one for one in DATASETS if one.file in sha256}
    )


def animal_of(
    dataset: str, individual: str, species: str, times_s: FloatArray, lon_deg: FloatArray, lat_deg: FloatArray
) -> Animal | None:
    """Return an animal with its anchors and targets; None for one with too few."""
    at = anchor_indices(times_s)
    if at.size < _FEWEST_ANCHORS:
        return None
    target = targets_m(times_s, lon_deg, lat_deg, at)
    has_target = np.asarray(np.isfinite(target).all(axis=2))
    return Animal(
        dataset=dataset,
        individual=individual,
        species=species,
        group=group_of(species),
        times_s=times_s,
        lon_deg=lon_deg,
        lat_deg=lat_deg,
        states=states_of(times_s, lon_deg, lat_deg, behaviour_of(species)),
        at=at,
        target_m=target,
        split=splits(times_s[at], has_target),
    )


def splits(times_s: FloatArray, has_target: BoolArray) -> IntArray:
    """Return the part of each anchor and horizon by time; shape (m, H)."""
    n = times_s.size
    ends = [int(n * TRAIN_SHARE), int(n * (TRAIN_SHARE + VALIDATION_SHARE)), n]
    part = np.searchsorted(np.array(ends), np.arange(n), side="right")
    end_s = np.append(times_s, np.inf)[np.array([*ends[:2], n])][part]
    found = np.full((n, len(HORIZONS_H)), -1, dtype=np.int64)
    for h, hours in enumerate(HORIZONS_H):
        is_in = has_target[:, h] & (times_s + hours * HOUR_S < end_s)
        found[is_in, h] = part[is_in]
    return found


def folds(animals: Sequence[Animal]) -> list[list[str]]:
    """Return the titles of the animals that each fold leaves out: those of a species are dealt out in turn."""
    found: list[list[str]] = [[] for _ in range(FOLDS)]
    dealt = 0
    for group in (*GROUPS, None):
        for animal in animals:
            if animal.group == group:
                found[dealt % FOLDS].append(animal.title)
                dealt += 1
    return [titles for titles in found if titles]
