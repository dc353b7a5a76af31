"""Training: imitation of exact paths, then MaskablePPO and DQN on the shaped reward; the only home of torch and SB3.

1. **Imitation.** Walkers follow the policy as it is; at every cell they meet, the exact cost to go tells what each move
   costs more than the best one (its regret). The policy learns to make the expected regret small. Because the walkers
   go where the policy goes, it learns on its own mistakes too (DAgger; Ross, Gordon and Bagnell 2011).
2. **MaskablePPO** goes on from there. With the shaped reward a step's reward is minus its regret.
3. **DQN** begins with scores that were fitted to minus the regret, and has no masks.

The landscapes grow from stage to stage. One thread: two were twenty times slower on a busy machine of two cores.
"""

from __future__ import annotations

import io
import logging
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from models.artifact import Manifest, TrainingSet, versions
from models.corridor.budget_policy import learn, save_budget_policy
from models.corridor.env import observation_space
from models.corridor.export import export
from models.corridor.pools import training_pool
from models.corridor.surface import BoolArray, Float32Array, read_weights
from models.corridor.walkers import Pool, Walkers
from shared.errors import ArtifactError

_log = logging.getLogger(__name__)

HIDDEN: Final = (256, 128)
_BLOCKED_REGRET: Final = 4.0
#: The regret that makes a move e times less likely where imitation draws one.
_SHARPNESS: Final = 0.08


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the curriculum: landscapes of a side, how many, and steps of imitation on them."""

    side: int
    surfaces: int
    steps: int
    rate: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a training run does; every number is in the artefact's manifest."""

    seed: int = 1
    stages: tuple[Stage, ...] = (
        Stage(side=40, surfaces=192, steps=1_000_000, rate=1e-3),
        Stage(side=80, surfaces=160, steps=3_000_000, rate=7e-4),
        Stage(side=144, surfaces=96, steps=4_000_000, rate=4e-4),
        Stage(side=144, surfaces=96, steps=2_000_000, rate=1.5e-4),
    )
    walkers: int = 1024
    ppo_steps: int = 600_000
    dqn_steps: int = 60_000


class WalkersVecEnv(VecEnv):
    """Walkers as SB3 takes them: everything stays in arrays, an info is written only for those whose episode ended."""

    def __init__(self, pool: Pool, n: int, *, seed: int, is_shaped: bool = True) -> None:
        from gymnasium import spaces

        self.walkers = Walkers(pool, n, seed=seed, is_shaped=is_shaped)
        super().__init__(n, observation_space(), spaces.Discrete(8))
        self._actions: Any = None
        self.episodes: list[tuple[bool, float]] = []

    def reset(self) -> Float32Array:
        """Begin an episode for every walker."""
        return self.walkers.reset()

    def step_async(self, actions: Any) -> None:
        """Remember the actions."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
        """Take them."""
        stepped = self.walkers.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for number, who in enumerate(stepped.ended):
            infos[who] = {
                "terminal_observation": stepped.ended_obs[number],
                "TimeLimit.truncated": bool(stepped.truncated[who]),
            }
            has_arrived = bool(stepped.terminated[who])
            self.episodes.append((has_arrived, float(stepped.ended_cost[number] / stepped.ended_bound[number])))
        return stepped.obs, stepped.rewards.astype(np.float32), stepped.terminated | stepped.truncated, infos

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Answer ``action_masks``, the only method that walkers have."""
        if method_name != "action_masks":
            raise AttributeError(method_name)
        return list(self.walkers.is_open)

    def has_attr(self, attr_name: str) -> bool:
        """Say that there are masks."""
        return attr_name == "action_masks"

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return the same for every walker."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: walkers have nothing to set."""
        raise AttributeError(attr_name)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Say that nothing is wrapped."""
        return [False] * self.num_envs

    def close(self) -> None:
        """Do nothing: there is nothing open."""


def train(data: Path, folder: Path) -> list[Manifest]:  # noqa: ARG001 - every model's train is called so
    """Train both policies on generated landscapes and write their artefacts; ``data`` is not looked at."""
    return trained(folder, Plan())


def trained(folder: Path, plan: Plan, say: Callable[[str], None] = _log.info) -> list[Manifest]:
    """Train by a plan; returns the manifests of what was written."""
    torch.set_num_threads(1)
    begun = time.monotonic()
    torch.manual_seed(plan.seed)
    pool = training_pool(plan.seed * 10_000, plan.stages[0].surfaces, (plan.stages[0].side, plan.stages[0].side))
    ppo = ppo_of(pool, plan)
    network = nn.Sequential(*ppo.policy.mlp_extractor.policy_net, ppo.policy.action_net)
    for number, stage in enumerate(plan.stages):
        pool = training_pool(plan.seed * 10_000 + 1_000 * number, stage.surfaces, (stage.side, stage.side))
        imitate(network, pool, steps=stage.steps, n=plan.walkers, seed=plan.seed + number, rate=stage.rate, say=say)
    say(f"imitation took {time.monotonic() - begun:.0f} s")
    dqn = _dqn(pool, plan)
    dqn_network = dqn.policy.q_net.q_net
    _copy(network, dqn_network)
    with torch.no_grad():  # logits are minus the regret over the sharpness, but for what is the same for all moves
        for one in dqn_network[-1].parameters():
            one.mul_(_SHARPNESS)
    fit_scores(dqn_network, pool, steps=1_200_000, n=plan.walkers, seed=plan.seed + 100, say=say)
    say(f"scores for DQN took {time.monotonic() - begun:.0f} s")
    ppo.set_env(WalkersVecEnv(pool, ppo.n_envs, seed=plan.seed + 200))
    _learn(ppo, plan.ppo_steps, say)
    dqn.policy.q_net_target.load_state_dict(dqn.policy.q_net.state_dict())
    _learn(dqn, plan.dqn_steps, say)
    seconds = time.monotonic() - begun
    say(f"training took {seconds:.0f} s")
    return _written(folder, plan, ppo, dqn, seconds)


def imitate(
    network: nn.Module,
    pool: Pool,
    *,
    steps: int,
    n: int,
    seed: int,
    rate: float,
    say: Callable[[str], None] = _log.info,
) -> list[float]:
    """Teach a network the moves of small regret on the cells that it walks over; returns the loss over time."""
    return _walk_and_learn(network, pool, _regret_expected, steps=steps, n=n, seed=seed, rate=rate, say=say)


def fit_scores(
    network: nn.Module, pool: Pool, *, steps: int, n: int, seed: int, say: Callable[[str], None] = _log.info
) -> list[float]:
    """Fit a network's scores to minus the regret of each move, closed ones to minus ``_BLOCKED_REGRET``.

    What differs between the best moves counts most, so the loss of imitation stays beside the square.
    """

    def loss_of(scores: torch.Tensor, regrets: torch.Tensor, is_open: torch.Tensor) -> torch.Tensor:
        wanted = torch.where(is_open, -regrets, torch.full_like(regrets, -_BLOCKED_REGRET))
        weight = 1 / (0.1 + regrets)
        return _regret_expected(scores / _SHARPNESS, regrets, is_open) + 0.05 * (weight * (scores - wanted) ** 2).mean()

    return _walk_and_learn(network, pool, loss_of, steps=steps, n=n, seed=seed, rate=5e-4, say=say)


def _regret_expected(scores: torch.Tensor, regrets: torch.Tensor, is_open: torch.Tensor) -> torch.Tensor:
    """Return the regret to expect from a softmax of scores, and how far it is from one over minus the regrets."""
    logits = scores.masked_fill(~is_open, -1e9)
    chances = torch.softmax(logits, dim=1)
    expected = (chances * regrets).sum(dim=1)
    wanted = torch.softmax((-regrets / _SHARPNESS).masked_fill(~is_open, -1e9), dim=1)
    surprise = -(wanted * torch.log_softmax(logits, dim=1).clamp(min=-20)).sum(dim=1)
    return (expected + 0.15 * surprise).mean()


def _walk_and_learn(
    network: nn.Module,
    pool: Pool,
    loss_of: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    steps: int,
    n: int,
    seed: int,
    rate: float,
    say: Callable[[str], None],
) -> list[float]:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    walkers = Walkers(pool, n, seed=seed, has_terms=False)
    obs = walkers.reset(seed)
    rounds = max(1, steps // (n * 8))
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, rounds, eta_min=rate / 10)
    losses: list[float] = []
    arrived, ended = 0, 0
    ratios: list[float] = []
    for number in range(rounds):
        batch = []
        for _ in range(8):
            regrets = np.minimum(walkers.regrets(), _BLOCKED_REGRET)
            batch.append((obs, regrets, walkers.is_open.copy()))
            with torch.no_grad():
                scores = network(torch.from_numpy(obs)).numpy()
            actions = _drawn(scores, walkers.is_open, rng)
            stepped = walkers.step(actions)
            obs = stepped.obs
            ended += stepped.ended.size
            arrived += int(stepped.terminated.sum())
            ratios += (stepped.ended_cost / stepped.ended_bound)[stepped.terminated[stepped.ended]].tolist()
        columns = [torch.from_numpy(np.concatenate(parts)) for parts in zip(*batch, strict=True)]
        order = torch.randperm(columns[0].shape[0])
        found: list[float] = []
        for begin in range(0, order.shape[0], 1024):
            some = order[begin : begin + 1024]
            seen, regrets_seen, open_seen = (column[some] for column in columns)
            loss = loss_of(network(seen), regrets_seen, open_seen)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            found.append(float(loss.detach()))
        losses.append(float(np.mean(found)))
        schedule.step()
        if number % max(1, rounds // 10) == 0 or number == rounds - 1:
            ratio = float(np.median(ratios)) if ratios else float("nan")
            say(f"{number + 1}/{rounds}: loss {losses[-1]:.4f}, arrived {arrived}/{ended}, cost ratio {ratio:.4f}")
            arrived, ended, ratios = 0, 0, []
    return losses


def _drawn(scores: Float32Array, is_open: BoolArray, rng: np.random.Generator) -> Any:
    """Return the best open move; one in five walkers draws its move, so that mistakes are met and learnt from."""
    draw = scores + (rng.random((scores.shape[0], 1)) < 0.2) * rng.gumbel(size=scores.shape)
    return np.where(is_open, draw, -np.inf).argmax(axis=1)


def ppo_of(pool: Pool, plan: Plan) -> MaskablePPO:
    """Return PPO as a plan trains it, before its first step."""
    return MaskablePPO(
        "MlpPolicy", WalkersVecEnv(pool, 256, seed=plan.seed), n_steps=64, batch_size=2048, n_epochs=3,
        learning_rate=5e-5, gamma=1.0, gae_lambda=0.9, clip_range=0.1, ent_coef=0.0, target_kl=0.02, seed=plan.seed,
        device="cpu",
        policy_kwargs={"net_arch": {"pi": list(HIDDEN), "vf": [64, 64]}, "activation_fn": nn.ReLU},
    )  # fmt: skip


def _dqn(pool: Pool, plan: Plan) -> DQN:
    return DQN(
        "MlpPolicy", WalkersVecEnv(pool, 32, seed=plan.seed + 300), learning_rate=2e-5, buffer_size=60_000,
        learning_starts=5_000, batch_size=512, gamma=0.9, train_freq=4, gradient_steps=4, target_update_interval=2_000,
        exploration_initial_eps=0.05, exploration_final_eps=0.02, seed=plan.seed, device="cpu",
        policy_kwargs={"net_arch": list(HIDDEN), "activation_fn": nn.ReLU},
    )  # fmt: skip


def _learn(algorithm: Any, steps: int, say: Callable[[str], None]) -> None:
    begun = time.monotonic()
    algorithm.learn(total_timesteps=steps)
    episodes = algorithm.env.episodes[-2000:]
    arrived = [ratio for has_arrived, ratio in episodes if has_arrived]
    median = float(np.median(arrived)) if arrived else float("nan")
    rate = algorithm.num_timesteps / max(time.monotonic() - begun, 1e-9)
    say(
        f"{type(algorithm).__name__}: {algorithm.num_timesteps} steps, {rate:.0f} steps/s, "
        f"arrived {len(arrived)}/{len(episodes)}, cost ratio {median:.4f}"
    )


def _copy(source: nn.Module, target: nn.Module) -> None:
    with torch.no_grad():
        for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
            ours.copy_(theirs)


def policy_zip(algorithm: Any) -> bytes:
    """Return SB3's own ``.zip`` of a policy, with nothing in it that only a pickle could read.

    SB3's ``data`` holds pickled objects beside its facts; only the facts that are JSON stay. The optimiser is left out.
    """
    kept = io.BytesIO()
    algorithm.save(kept, exclude=["env", "policy_kwargs", "replay_buffer"])
    made = io.BytesIO()
    with zipfile.ZipFile(kept) as source, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        facts = {
            name: value
            for name, value in msgspec.json.decode(source.read("data")).items()
            if isinstance(value, str | int | float | bool) or value is None
        }
        for name, content in (
            ("data", msgspec.json.encode(facts)), ("policy.pth", source.read("policy.pth")),
            ("_stable_baselines3_version", source.read("_stable_baselines3_version")),
        ):  # fmt: skip
            target.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return made.getvalue()


def weights_of_zip(data: bytes) -> dict[str, Float32Array]:
    """Return the tensors of an SB3 ``.zip`` by name; raises ArtifactError where it would need a pickle.

    torch reads tensors and nothing else (``weights_only``); the pickled parts of ``data`` are never looked at.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source:
            tensors = torch.load(io.BytesIO(source.read("policy.pth")), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ArtifactError(f"not a policy that can be read without running what is in it: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(one, torch.Tensor) for one in tensors.values()):
        raise ArtifactError("not a policy: it holds something else than tensors")
    return {str(name): one.to(torch.float32).numpy() for name, one in tensors.items()}


def layers_of_zip(data: bytes) -> list[tuple[Float32Array, Float32Array]]:
    """Return the layers (inputs, outputs) that score moves in an SB3 ``.zip`` of MaskablePPO, PPO or DQN."""
    tensors = weights_of_zip(data)
    if any(name.startswith("q_net.q_net.") for name in tensors):
        names = sorted({int(name.split(".")[2]) for name in tensors if name.startswith("q_net.q_net.")})
        prefixes = [f"q_net.q_net.{number}" for number in names]
    else:
        names = sorted({int(n.split(".")[2]) for n in tensors if n.startswith("mlp_extractor.policy_net.")})
        prefixes = [*(f"mlp_extractor.policy_net.{number}" for number in names), "action_net"]
    try:
        return [(tensors[f"{one}.weight"].T.copy(), tensors[f"{one}.bias"]) for one in prefixes]
    except KeyError as error:
        raise ArtifactError(f"not a policy of MaskablePPO, PPO or DQN: {error} is missing") from error


def _written(folder: Path, plan: Plan, ppo: MaskablePPO, dqn: DQN, seconds: float) -> list[Manifest]:
    version = max(versions(folder, "corridor"), default=0) + 1
    sides: Sequence[int] = sorted({stage.side for stage in plan.stages})
    trained_on = TrainingSet(
        dataset="generated landscapes", individuals=tuple(f"seed {plan.seed}, side {side}" for side in sides),
        rows=sum(stage.steps for stage in plan.stages), licence="MIT", citation="models/corridor/landscape.py",
    )  # fmt: skip
    chooser = learn(seed=plan.seed)
    made = save_budget_policy(folder, chooser, version, {})
    written = [made]
    for name, algorithm in (("ppo", ppo), ("dqn", dqn)):
        written += export(
            folder, algorithm=name, version=version, zipped=policy_zip(algorithm),
            layers=layers_of_zip(policy_zip(algorithm)), species=tuple(read_weights()), trained_on=(trained_on,),
            settings={"plan": msgspec.to_builtins(plan), "seconds": round(seconds)},
        )  # fmt: skip
    return written
