"""Walkers and their environment: Gymnasium's rules, seeds, masks, what is seen, and rewards that add up."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pytest

from models.corridor.observation import MOVE_OF, PAD, SCALES, SIZE, TURNS, frames, pyramid
from models.corridor.pools import pool_of, training_pool
from models.corridor.surface import MOVES, plain_surface
from models.corridor.walkers import REWARD_TERMS, STANDING, Pool, Walkers

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402 - only where gymnasium is

from models.corridor.env import CorridorEnv, CorridorVectorEnv  # noqa: E402 - the same

pytestmark = [pytest.mark.unit, pytest.mark.corridors, pytest.mark.ml]


@pytest.fixture(scope="module")
def pool() -> Pool:
    return training_pool(3, 6, (32, 32), goals=2)


def walk(pool: Pool, seed: int, *, is_shaped: bool, steps: int = 200) -> tuple[list[np.ndarray], list[np.ndarray]]:
    walkers = Walkers(pool, 16, is_shaped=is_shaped)
    obs, rewards = [walkers.reset(seed).copy()], []
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        stepped = walkers.step(rng.integers(8, size=16))
        obs.append(stepped.obs.copy())
        rewards.append(stepped.rewards.copy())
    return obs, rewards


def test_gymnasiums_checker_passes(pool: Pool) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not having a spec.*")
        check_env(CorridorEnv(pool), skip_render_check=True)


def test_the_same_seed_is_the_same_run(pool: Pool) -> None:
    one, again = (walk(pool, 4, is_shaped=True) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one[0] + one[1], again[0] + again[1], strict=True))
    other = walk(pool, 5, is_shaped=True)
    assert not np.array_equal(one[0][0], other[0][0])


def test_the_vector_environment_has_gymnasiums_shapes(pool: Pool) -> None:
    env = CorridorVectorEnv(5, pool)
    obs, _ = env.reset(seed=1)
    assert env.observation_space.contains(obs)
    seen, rewards, terminated, truncated, _ = env.step(env.action_space.sample())
    assert env.observation_space.contains(seen)
    assert rewards.shape == terminated.shape == truncated.shape == (5,)


def test_an_observation_does_not_change_with_the_cost_to_go(pool: Pool) -> None:
    assert pool.to_go is not None
    rng = np.random.default_rng(0)
    other = pool._replace(to_go=np.where(np.isfinite(pool.to_go), rng.random(pool.to_go.shape), np.inf).astype("f4"))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(walk(pool, 2, is_shaped=False)[0], walk(other, 2, is_shaped=False)[0], strict=True)
    )


def test_the_exact_cost_is_no_number_of_an_observation() -> None:
    """Two landscapes that differ far from the walker only: the way is 30 times dearer, and nothing is seen of it."""
    cost = np.ones((1, 400, 8), dtype=np.float32)
    dear = cost.copy()
    dear[0, 200:390] = 30.0
    dear[0, 390:] = 1.0
    reach = max(size * reach + size // 2 for size, reach in SCALES)
    assert reach < 200
    found = []
    for values in (cost, dear):
        # The median is part of what is seen, so both have the same one.
        scaled = np.concatenate((values, np.ones((1, 400, 8), dtype=np.float32)), axis=1)
        walkers = Walkers(
            Pool(scaled, np.zeros((10, 1, 800, 8), "f4"), np.zeros((1, 800, 8), "u1"), np.zeros((1, 2)),
                 pyramid(scaled), np.array([[[399, 4]]]), np.array([[[[10, 4]]]]), None),
            1, has_terms=False,
        )  # fmt: skip
        found.append(walkers.reset(0))
    assert np.array_equal(found[0], found[1])


def test_frames_turn_the_ground_and_the_moves_alike() -> None:
    """The same ground, turned and mirrored in all eight ways, looks the same and is walked the same."""
    rng = np.random.default_rng(1)
    cost = rng.uniform(1, 9, (30, 30)).astype(np.float32)
    start, goal = (4, 6), (24, 15)  # not on a diagonal, or two frames would do
    looks, ways = [], []
    for flip_rows, flip_columns, swap in product((False, True), repeat=3):
        turned, ends = cost, np.array([start, goal])
        if flip_rows:
            turned, ends = turned[::-1], np.stack((29 - ends[:, 0], ends[:, 1]), axis=1)
        if flip_columns:
            turned, ends = turned[:, ::-1], np.stack((ends[:, 0], 29 - ends[:, 1]), axis=1)
        if swap:
            turned, ends = turned.T, ends[:, ::-1]
        pool = pool_of([plain_surface(turned, 100.0)], goals=1, seed=0)
        walkers = Walkers(pool._replace(goals=ends[None, None, 1], starts=ends[None, None, None, 0]), 1)
        looks.append(walkers.reset(0))
        costs = []
        for action in (0, 1, 2, 0, 7, 0):
            walkers.step(np.array([action]))
            costs.append(float(pool.cost[0, walkers.row[0], walkers.column[0]]))
        ways.append(costs)
    assert all(np.array_equal(looks[0], look) for look in looks)
    assert all(way == pytest.approx(ways[0]) for way in ways)


def test_every_frame_puts_the_goal_ahead() -> None:
    rng = np.random.default_rng(2)
    ahead = rng.integers(-50, 50, size=(500, 2))
    frame = frames(ahead[:, 0], ahead[:, 1])
    for (row, column), number in zip(ahead.tolist(), frame.tolist(), strict=True):
        turned = np.linalg.inv(TURNS[number]) @ np.array([row, column])
        assert turned[0] >= turned[1] >= 0
    assert sorted(MOVE_OF[3].tolist()) == list(range(8))


def test_a_walker_never_stands_on_closed_ground_and_closed_moves_cost(pool: Pool) -> None:
    walkers = Walkers(pool, 64)
    walkers.reset(3)
    rng = np.random.default_rng(3)
    for _ in range(300):
        actions = rng.integers(8, size=64)
        is_open = walkers.is_open[np.arange(64), actions].copy()
        stepped = walkers.step(actions)
        assert np.isfinite(pool.cost[walkers.surface, walkers.row, walkers.column]).all()
        stayed = ~is_open & ~(stepped.terminated | stepped.truncated)
        assert (stepped.rewards[stayed] == -STANDING).all()
        assert walkers.is_open.any(axis=1).all()


def test_terms_add_up_to_the_cost_of_an_episode() -> None:
    pool = training_pool(40, 5, (24, 24), goals=2)
    with_edges = pool._replace(prices=np.full((5, 2), 0.7))
    walkers = Walkers(with_edges, 32)
    walkers.reset(1)
    rng = np.random.default_rng(1)
    seen = 0
    for _ in range(400):
        masked = np.where(walkers.is_open, rng.random((32, 8)), -1).argmax(axis=1)
        stepped = walkers.step(masked)
        seen += stepped.ended.size
        assert stepped.ended_terms.sum(axis=1) == pytest.approx(stepped.ended_cost, rel=1e-4)
        arrived = stepped.terminated[stepped.ended]
        assert (stepped.ended_cost[arrived] >= stepped.ended_bound[arrived] * (1 - 1e-5)).all()
    assert seen > 50
    assert walkers.terms.shape[1] == len(REWARD_TERMS)


def test_shaping_adds_the_same_to_every_path_that_arrives(pool: Pool) -> None:
    """With the potential an episode's rewards add up to its cost to go at the start minus its cost."""
    walkers = Walkers(pool, 32, is_shaped=True)
    walkers.reset(9)
    rng = np.random.default_rng(9)
    total, bound, checked = np.zeros(32), walkers.bound.copy(), 0
    for _ in range(300):
        ahead = rng.random((32, 8)) + np.array([1, 0.5, 0, 0, 0, 0, 0, 0.5])
        stepped = walkers.step(np.where(walkers.is_open, ahead, -1).argmax(axis=1))
        total += stepped.rewards
        for number, who in enumerate(stepped.ended):
            if stepped.terminated[who]:
                assert total[who] == pytest.approx(bound[who] - stepped.ended_cost[number], abs=1e-2)
                checked += 1
        total[stepped.ended] = 0
        bound = walkers.bound.copy()
    assert checked > 10


def test_regrets_are_zero_on_the_exact_way_and_lead_to_the_goal_at_its_cost(pool: Pool) -> None:
    walkers = Walkers(pool, 64)
    walkers.reset(11)
    arrived = 0
    for _ in range(120):
        regrets = walkers.regrets()
        assert regrets.min(axis=1) == pytest.approx(np.zeros(64), abs=1e-3)
        stepped = walkers.step(regrets.argmin(axis=1))
        assert stepped.ended_cost[stepped.terminated[stepped.ended]] == pytest.approx(
            stepped.ended_bound[stepped.terminated[stepped.ended]], rel=1e-4
        )
        arrived += int(stepped.terminated.sum())
    assert arrived > 64


def test_what_lies_outside_is_blocked() -> None:
    ground = pyramid(np.ones((5, 5), dtype=np.float32))
    assert (ground.levels[0, 0, :PAD] == 96).all()
    assert (ground.levels[0, 0, PAD : PAD + 5, PAD : PAD + 5] == 0).all()
    assert sum((2 * reach + 1) ** 2 for _, reach in SCALES) + 13 == SIZE
    assert MOVES.shape == (8, 2)
