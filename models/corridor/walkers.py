"""Walkers: many at once over landscapes, in numpy, without a Python loop over cells.

::

    reward = - (length x mean(cost of both cells) + edges) / the surface's median cost       one term each, logged
             + potential(there) - potential(here)                                            only while training
    potential = - exact cost to go

The shaping adds up to the same number for every path that arrives (Ng, Harada and Russell 1999), so it changes how
fast a policy learns and not which one is best; it is a reward, never part of an observation. Episodes are not
discounted. A move is closed where nothing walks or where the walker has been; where all are closed, it may go back. A
closed move leaves the walker where it is and costs ``STANDING``: what DQN, which has no masks, learns to avoid.

The environments of ``env`` and the routes of ``runtime`` stand on these; only training has the cost to go.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.corridor.observation import MOVE_OF, PAD, Pyramid, frames, observe
from models.corridor.surface import (
    EDGE_TERMS,
    MOVE_CELLS,
    MOVES,
    TERMS,
    BoolArray,
    Float32Array,
    FloatArray,
    IntArray,
)
from shared.errors import Invalid

#: What a closed move costs: as much as two cells of median ground.
STANDING: Final = 2.0
#: Names of all reward terms, in the order of ``Stepped.ended_terms``.
REWARD_TERMS: Final = (*TERMS, *EDGE_TERMS, "standing")
#: Moves that an episode has for each cell of the way.
STEPS_A_CELL: Final = 4
_MOST_VISITS: Final = 255


class Pool(NamedTuple):
    """Surfaces of one size with goals, places to start from, and the cost to go that shaping and imitation use.

    ``cost`` (surfaces, rows, columns) over its median; ``terms`` (terms, surfaces, rows, columns) likewise;
    ``marks``: 1 road, 2 habitat. ``goals`` (surfaces, goals, 2), ``starts`` (surfaces, goals, starts, 2), ``to_go``
    (surfaces, goals, rows, columns), None where walkers only walk.
    """

    cost: Float32Array
    terms: Float32Array
    marks: npt.NDArray[np.uint8]
    prices: FloatArray
    ground: Pyramid
    goals: IntArray
    starts: IntArray
    to_go: Float32Array | None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of each surface."""
        return self.cost.shape[1], self.cost.shape[2]


class Stepped(NamedTuple):
    """What a step of all walkers gave. ``ended_obs`` are the last observations of those in ``ended``."""

    obs: Float32Array
    rewards: FloatArray
    terminated: BoolArray
    truncated: BoolArray
    ended: IntArray
    ended_obs: Float32Array
    ended_terms: FloatArray
    ended_cost: FloatArray
    ended_bound: FloatArray
    ended_steps: IntArray


class Walkers:
    """``n`` walkers over a pool. Whoever ends an episode begins another in the same step."""

    def __init__(self, pool: Pool, n: int, *, seed: int = 0, is_shaped: bool = False, has_terms: bool = True) -> None:
        self.pool, self.n, self.is_shaped = pool, n, is_shaped
        rows, columns = pool.shape
        self._offsets = pool.ground.offsets()
        self._ring = columns + 2
        self._blocked = np.ones((pool.cost.shape[0], (rows + 2) * self._ring), dtype=bool)
        inside = self._blocked.reshape(-1, rows + 2, columns + 2)[:, 1:-1, 1:-1]
        inside[...] = ~np.isfinite(pool.cost)
        self._visited = np.zeros((n, (rows + 2) * self._ring), dtype=np.uint8)
        self._visit = np.zeros(n, dtype=np.uint8)
        steps = MOVES[:, 0] * self._ring + MOVES[:, 1]
        self._around = steps[MOVE_OF]
        self._walkers = np.arange(n)
        self._flat_cost = pool.cost.reshape(-1)
        self._flat_go = None if pool.to_go is None else pool.to_go.reshape(-1)
        self._flat_terms = pool.terms.reshape(len(TERMS), -1).T.copy() if has_terms else None
        self._flat_marks = pool.marks.reshape(-1)
        for name in ("surface", "goal", "row", "column", "goal_row", "goal_column", "steps", "limit"):
            setattr(self, name, np.zeros(n, dtype=np.int64))
        self.cost, self.bound = np.zeros(n), np.zeros(n)
        self.terms = np.zeros((n, len(REWARD_TERMS)))
        self.frame = np.zeros(n, dtype=np.int64)
        self.is_open = np.ones((n, 8), dtype=bool)
        self._rng = np.random.default_rng(seed)

    surface: IntArray
    goal: IntArray
    row: IntArray
    column: IntArray
    goal_row: IntArray
    goal_column: IntArray
    steps: IntArray
    limit: IntArray

    def reset(self, seed: int | None = None) -> Float32Array:
        """Begin an episode for every walker; the same seed gives the same episodes."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._begin(self._walkers)
        return self._look(self._walkers)

    def begin_at(self, surface: IntArray, goal: IntArray) -> Float32Array:
        """Begin an episode for every walker towards a goal that is given, from the first of its starts."""
        self._begin(self._walkers, (surface, goal, np.zeros(self.n, dtype=np.int64)))
        return self._look(self._walkers)

    def step(self, actions: npt.NDArray[Any]) -> Stepped:
        """Let every walker take its action, a move in its own frame."""
        is_open = self.is_open[self._walkers, actions]
        move = MOVE_OF[self.frame, actions]
        there_row = self.row + np.where(is_open, MOVES[move, 0], 0)
        there_column = self.column + np.where(is_open, MOVES[move, 1], 0)
        rewards = self._paid(is_open, MOVE_CELLS[move], there_row, there_column)
        self.row, self.column = there_row, there_column
        self._visited[self._walkers, (there_row + 1) * self._ring + there_column + 1] = self._visit
        self.steps += 1
        terminated = (there_row == self.goal_row) & (there_column == self.goal_column)
        truncated = ~terminated & (self.steps >= self.limit)
        obs = self._look(self._walkers)
        ended = np.flatnonzero(terminated | truncated)
        last = Stepped(
            obs, rewards, terminated, truncated, ended, obs[ended], self.terms[ended], self.cost[ended],
            self.bound[ended], self.steps[ended].copy(),
        )  # fmt: skip
        if ended.size:
            self._begin(ended)
            obs[ended] = self._look(ended)
        return last

    def regrets(self) -> Float32Array:
        """Return what each action costs more than the best one would, (n, 8), infinite where nothing walks.

        Exact, from the cost to go: what imitation learns from. Where a walker has been makes no difference to it.
        """
        around = MOVES[MOVE_OF[self.frame]]
        rows, columns = self.pool.shape
        there_row, there_column = self.row[:, None] + around[..., 0], self.column[:, None] + around[..., 1]
        is_inside = (there_row >= 0) & (there_row < rows) & (there_column >= 0) & (there_column < columns)
        there = (self.surface[:, None] * rows + np.clip(there_row, 0, rows - 1)) * columns
        there = there + np.clip(there_column, 0, columns - 1)
        here = (self.surface * rows + self.row) * columns + self.column
        price = MOVE_CELLS[MOVE_OF[self.frame]] * (self._flat_cost[here][:, None] + self._flat_cost[there]) / 2
        go = self._to_go(there, self.goal[:, None])
        with np.errstate(invalid="ignore"):
            regret = price + go - self._to_go(here, self.goal)[:, None]
        return np.where(is_inside & np.isfinite(regret), regret, np.inf).astype(np.float32)

    def _to_go(self, flat: IntArray, goal: IntArray) -> Float32Array:
        if self._flat_go is None:
            raise Invalid("these walkers have no cost to go: they can walk, and not be taught")
        plane = self.pool.shape[0] * self.pool.shape[1]
        return np.asarray(self._flat_go[flat + (flat // plane) * plane * (self.pool.goals.shape[1] - 1) + goal * plane])

    def _begin(self, who: IntArray, given: tuple[IntArray, IntArray, IntArray] | None = None) -> None:
        pool = self.pool
        sizes = (*pool.goals.shape[:2], pool.starts.shape[2])
        drawn = tuple(self._rng.integers(size, size=who.size) for size in sizes) if given is None else given
        surface, goal, place = drawn
        start = pool.starts[surface, goal, place]
        end = pool.goals[surface, goal]
        self.surface[who], self.goal[who] = surface, goal
        self.row[who], self.column[who] = start[:, 0], start[:, 1]
        self.goal_row[who], self.goal_column[who] = end[:, 0], end[:, 1]
        self.steps[who] = 0
        self.limit[who] = STEPS_A_CELL * np.maximum(np.abs(end - start).max(axis=1), 8)
        self.cost[who] = 0
        self.terms[who] = 0
        if pool.to_go is not None:
            self.bound[who] = pool.to_go[surface, goal, start[:, 0], start[:, 1]]
        is_full = who[self._visit[who] == _MOST_VISITS]
        self._visited[is_full] = 0
        self._visit[is_full] = 0
        self._visit[who] += 1
        self._visited[who, (start[:, 0] + 1) * self._ring + start[:, 1] + 1] = self._visit[who]

    def _look(self, who: IntArray) -> Float32Array:
        row_ahead, column_ahead = self.goal_row[who] - self.row[who], self.goal_column[who] - self.column[who]
        frame = frames(row_ahead, column_ahead)
        self.frame[who] = frame
        ring = ((self.row[who] + 1) * self._ring + self.column[who] + 1)[:, None] + self._around[frame]
        is_free = ~self._blocked[self.surface[who][:, None], ring]
        is_open = is_free & (self._visited[who[:, None], ring] != self._visit[who][:, None])
        is_stuck = ~is_open.any(axis=1)
        if is_stuck.any():
            is_open[is_stuck] = is_free[is_stuck]
        self.is_open[who] = is_open
        ground = self.pool.ground
        at = self.surface[who] * ground.plane + (self.row[who] + PAD) * ground.stride + self.column[who] + PAD
        return observe(ground, self._offsets, at, frame, row_ahead, column_ahead, is_open)

    def _paid(self, is_open: BoolArray, length: FloatArray, there_row: IntArray, there_column: IntArray) -> FloatArray:
        rows, columns = self.pool.shape
        base = self.surface * rows
        here = (base + self.row) * columns + self.column
        there = (base + there_row) * columns + there_column
        price = np.where(is_open, length * (self._flat_cost[here] + self._flat_cost[there]) / 2, STANDING)
        marks_here, marks_there = self._flat_marks[here], self._flat_marks[there]
        prices = self.pool.prices[self.surface]
        crossing = prices[:, 0] * ((marks_there & 1) & ~marks_here)
        leaving = prices[:, 1] * ((marks_here & 2) > (marks_there & 2))
        if self._flat_terms is not None:
            half = np.where(is_open, length / 2, 0)[:, None]
            self.terms[:, : len(TERMS)] += half * (self._flat_terms[here] + self._flat_terms[there])
            self.terms[:, -3] += crossing
            self.terms[:, -2] += leaving
            self.terms[:, -1] += np.where(is_open, 0, STANDING)
        price += crossing + leaving
        self.cost += price
        if not self.is_shaped:
            return -price
        gone = self._to_go(here, self.goal) - self._to_go(there, self.goal)
        return np.asarray(gone - price, dtype=np.float64)
