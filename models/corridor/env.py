"""The environment as Gymnasium says it: one walker, and many in one step. See ``walkers`` for rewards and moves."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space

from models.corridor.observation import SIZE
from models.corridor.pools import training_pool
from models.corridor.surface import BoolArray, Float32Array, FloatArray, IntArray
from models.corridor.walkers import REWARD_TERMS, Pool, Stepped, Walkers
from shared.errors import Invalid


def observation_space() -> gymnasium.spaces.Box:
    """Return the space of one observation."""
    return gymnasium.spaces.Box(low=-16.0, high=16.0, shape=(SIZE,), dtype=np.float32)


class CorridorEnv(gymnasium.Env[Float32Array, np.int64]):
    """One walker, as Gymnasium's own tools expect it."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - the base class declares it so

    def __init__(self, pool: Pool | None = None, *, is_shaped: bool = False) -> None:
        self._walkers = Walkers(pool or training_pool(0, 8, (48, 48)), 1, is_shaped=is_shaped)
        self.observation_space = observation_space()  # type: ignore[assignment]  # a Box says more than its Space
        self.action_space = gymnasium.spaces.Discrete(8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        return self._walkers.reset(int(self.np_random.integers(2**31)))[0], {}

    def step(self, action: np.int64) -> tuple[Float32Array, float, bool, bool, dict[str, Any]]:
        """Take one move; at the end of an episode ``info`` has its cost, its bound and every reward term."""
        stepped = self._walkers.step(np.array([action]))
        is_over = bool(stepped.ended.size)
        obs = stepped.ended_obs[0] if is_over else stepped.obs[0]
        info = _episode(stepped, 0) if is_over else {}
        return obs, float(stepped.rewards[0]), bool(stepped.terminated[0]), bool(stepped.truncated[0]), info

    def action_masks(self) -> BoolArray:
        """Return which moves are not closed: what MaskablePPO asks for."""
        return np.asarray(self._walkers.is_open[0])


class CorridorVectorEnv(gymnasium.vector.VectorEnv[Float32Array, IntArray, Any]):
    """Many walkers, as Gymnasium's vector environments are; whoever ends begins anew in the same step."""

    metadata: dict[str, Any] = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}  # noqa: RUF012 - as above

    def __init__(self, num_envs: int, pool: Pool | None = None, *, is_shaped: bool = False) -> None:
        self.walkers = Walkers(pool or training_pool(0, 8, (48, 48)), num_envs, is_shaped=is_shaped)
        self.num_envs = num_envs
        self.single_observation_space = observation_space()
        self.single_action_space = gymnasium.spaces.Discrete(8)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        """Begin an episode for every walker from one seed."""
        if isinstance(seed, list):
            raise Invalid("walkers share one seed: give a number")
        return self.walkers.reset(seed), {}

    def step(self, actions: IntArray) -> tuple[Float32Array, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Take a move each; ``info`` has the last observations and the terms of those that ended."""
        stepped = self.walkers.step(actions)
        info: dict[str, Any] = {}
        if stepped.ended.size:
            info = {
                "ended": stepped.ended, "final_obs": stepped.ended_obs, "terms": stepped.ended_terms,
                "cost": stepped.ended_cost, "bound": stepped.ended_bound,
            }  # fmt: skip
        return stepped.obs, stepped.rewards, stepped.terminated, stepped.truncated, info


def _episode(stepped: Stepped, number: int) -> dict[str, Any]:
    terms = dict(zip(REWARD_TERMS, stepped.ended_terms[number].tolist(), strict=True))
    return {"terms": terms, "cost": float(stepped.ended_cost[number]), "bound": float(stepped.ended_bound[number])}
