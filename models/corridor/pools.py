"""Pools of landscapes with goals, places to start from and the exact cost to go: what walkers are taught on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from models.corridor.exact import cost_to_go
from models.corridor.landscape import landscape
from models.corridor.observation import pyramid
from models.corridor.surface import (
    TERMS,
    Cell,
    Float32Array,
    FloatArray,
    IntArray,
    Surface,
    edge_step_cost,
    read_weights,
)
from models.corridor.walkers import Pool
from shared.errors import Invalid

_STARTS: Final = 64
_FAR_SHARE: Final = 0.4


def pool_of(surfaces: Sequence[Surface], *, goals: int, seed: int, has_edges: bool = False) -> Pool:
    """Return a pool; goals and starts are drawn from ``seed``. Raises Invalid where a surface has no two places."""
    rng = np.random.default_rng(seed)
    rows, columns = surfaces[0].shape
    count = len(surfaces)
    cost = np.empty((count, rows, columns), dtype=np.float32)
    terms = np.zeros((len(TERMS), count, rows, columns), dtype=np.float32)
    marks = np.zeros((count, rows, columns), dtype=np.uint8)
    prices = np.zeros((count, 2))
    ends = np.zeros((count, goals, 2), dtype=np.int64)
    starts = np.zeros((count, goals, _STARTS, 2), dtype=np.int64)
    to_go = np.empty((count, goals, rows, columns), dtype=np.float32)
    for number, surface in enumerate(surfaces):
        median = np.float32(np.median(surface.cost[surface.is_passable]))
        cost[number] = surface.cost / median
        for name, values in surface.terms.items():
            terms[TERMS.index(name), number] = values / median
        marks[number] = surface.is_road + 2 * surface.is_habitat
        prices[number] = np.array(edge_step_cost(surface)) / median if has_edges else 0.0
        for goal in range(goals):
            ends[number, goal], starts[number, goal], to_go[number, goal] = _ends(cost[number], rng)
    return Pool(cost, terms, marks, prices, pyramid(cost), ends, starts, to_go)


def training_pool(first_seed: int, count: int, shape: tuple[int, int], *, goals: int = 4) -> Pool:
    """Return a pool of generated landscapes with the seeds from ``first_seed`` on, each species' weights in turn."""
    species = list(read_weights().values())
    surfaces = [
        landscape(first_seed + number, shape, weights=species[number % len(species)]) for number in range(count)
    ]
    return pool_of(surfaces, goals=goals, seed=first_seed)


def _ends(cost: Float32Array, rng: np.random.Generator) -> tuple[IntArray, IntArray, FloatArray]:
    """Draw a goal and starts that reach it, most of them far away."""
    cells = np.argwhere(np.isfinite(cost))
    for _ in range(50):
        goal = Cell(*(int(value) for value in cells[rng.integers(len(cells))]))
        to_go = cost_to_go(cost, goal)
        reaching = np.argwhere(np.isfinite(to_go) & (to_go > 0))
        if len(reaching) < len(cells) // 3:
            continue  # a small island
        away = np.abs(reaching - np.array(goal)).max(axis=1)
        far = reaching[away >= _FAR_SHARE * max(cost.shape)]
        picked = far[rng.integers(len(far), size=_STARTS)] if len(far) else reaching[rng.integers(len(reaching))]
        some = reaching[rng.integers(len(reaching), size=_STARTS)]
        is_any = rng.random(_STARTS) < 0.25
        return np.array(goal), np.where(is_any[:, None], some, picked), to_go
    raise Invalid("a landscape has no two places that hang together")
