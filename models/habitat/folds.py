"""Ways to hold places back: square blocks of land, whole animals, and, as a warning, places at random.

A place next to a used one is used too, so a model that remembers places looks good on places held back at random. A
fold of blocks holds back all places of a square; squares begin at a random corner and are dealt to the folds at random,
so one seed is one way to cut the land and many seeds are an interval.
"""

from __future__ import annotations

import numpy as np

from models.habitat.covariates import FloatArray, IntArray

BLOCK_M = 5_000.0
FOLDS = 5


def blocks(x_m: FloatArray, y_m: FloatArray, size_m: float = BLOCK_M, seed: int | None = None) -> IntArray:
    """Return the number of the square that each place lies in, from 0; with a seed the squares begin anywhere."""
    corner = np.zeros(2) if seed is None else np.random.default_rng(seed).uniform(0.0, size_m, 2)
    column = np.floor((x_m + corner[0]) / size_m).astype(np.int64)
    row = np.floor((y_m + corner[1]) / size_m).astype(np.int64)
    return numbered(column, row)


def numbered(first: IntArray, second: IntArray) -> IntArray:
    """Return a number for each pair, from 0, the same for the same pair, in the order of the pairs."""
    width = int(second.max()) - int(second.min()) + 1
    keys = (first - first.min()) * width + (second - second.min())
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)


def block_folds(x_m: FloatArray, y_m: FloatArray, seed: int, size_m: float = BLOCK_M, folds: int = FOLDS) -> IntArray:
    """Return the fold of each place, whole squares together."""
    return dealt(blocks(x_m, y_m, size_m, seed), seed, folds)


def block_size_m(x_m: FloatArray, y_m: FloatArray, wanted_m: float = BLOCK_M, folds: int = FOLDS) -> float:
    """Return the side of the squares: as wanted, halved until there are as many squares as folds."""
    size_m = wanted_m
    while int(blocks(x_m, y_m, size_m).max()) + 1 < folds and size_m > wanted_m / 64:
        size_m /= 2
    return size_m


def dealt(groups: IntArray, seed: int, folds: int = FOLDS) -> IntArray:
    """Return the fold of each place, whole groups together, dealt at random."""
    count = int(groups.max()) + 1
    of_group = np.empty(count, dtype=np.int64)
    of_group[np.random.default_rng(seed + 1_000_003).permutation(count)] = np.arange(count) % folds
    return of_group[groups]


def random_folds(count: int, seed: int, folds: int = FOLDS) -> IntArray:
    """Return a fold for each place without regard to where it lies: it flatters, and is printed to say so."""
    return np.random.default_rng(seed).permutation(count).astype(np.int64) % folds
