"""A policy that chooses parcels one after another: what it knows of each, and how it learns by REINFORCE.

Of every parcel that can still be paid it is told

- what restoring it alone would add, for its price;
- what the best whole way between two patches that leads over it would add, for what is left to pay on that way, and the
  same summed over all such ways: a stepping stone shows its worth before the others are there;
- both once more times the share of the budget that is spent, and its price.

The score is linear in these, the choice a softmax. The weights are learnt on generated instances: several plans for
each, and what a plan gives more than their mean is its advantage (Williams 1992). Pure numpy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.artifact import PACKAGED, Input, Loaded, Manifest, TrainingSet, load_newest, save
from models.corridor.budget import Parcels, Plan, check, gains, greedy, instance, plan_of, swapped, weights_of
from models.corridor.exact import node_fields
from models.corridor.surface import FloatArray, IntArray
from shared.errors import ArtifactError

_log = logging.getLogger(__name__)

#: The artefact's name.
NAME: Final = "budget"
FEATURES: Final = ("gain", "way", "ways", "gain_late", "way_late", "price")
#: How much a price counts in the way that a whole connection is looked for.
_PRICE_WEIGHTS: Final = (0.3, 1.5)
#: Where learning begins.
_BEGIN: Final = np.array([2.0, 2.0, 0.0, 0.0, 0.0, 0.0])


class BudgetPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The learnt weights, by feature."""

    weights: dict[str, float]

    def plan(self, parcels: Parcels, *, seed: int = 0, tries: int = 8) -> Plan:
        """Return the best plan of several, each bettered by swaps; the first follows the policy to the letter."""
        check(parcels)
        rng = np.random.default_rng(seed)
        weights = np.array([self.weights[name] for name in FEATURES])
        plans = [
            plan_of(parcels, _walked(parcels, weights, None if number == 0 else rng)[0]) for number in range(tries)
        ]
        ordered = sorted({plan.parcels: plan for plan in plans}.values(), key=lambda plan: -plan.connectivity_ha)
        return max((swapped(parcels, plan) for plan in ordered[:3]), key=lambda plan: plan.connectivity_ha)

    def alone(self, parcels: Parcels) -> Plan:
        """Return the plan of the policy to the letter, with no search."""
        return plan_of(parcels, _walked(parcels, np.array([self.weights[name] for name in FEATURES]), None)[0])


def learn(
    *, seed: int = 1, rounds: int = 60, group: int = 8, rate: float = 0.6, say: Callable[[str], None] = _log.info
) -> BudgetPolicy:
    """Learn the weights; same seed, same weights."""
    rng = np.random.default_rng(seed)
    weights = _BEGIN.copy()
    mean_weights, kept = np.zeros_like(weights), 0
    for number in range(rounds):
        size = int(rng.integers(7, 12))
        parcels = instance(seed * 100_000 + number, (size, size), int(rng.integers(3, 7)), float(rng.uniform(3, 9)))
        walks = [_walked(parcels, weights, rng) for _ in range(group)]
        values = np.array([plan_of(parcels, chosen).connectivity_ha for chosen, _ in walks])
        beside = greedy(parcels).connectivity_ha
        advantage = (values - values.mean()) / (values.std() + 1e-9) if values.std() > 1e-9 else np.zeros(group)
        step = sum(one * slope for one, (_, slope) in zip(advantage, walks, strict=True)) / group
        weights = weights + rate * np.asarray(step)
        if number >= rounds // 2:
            mean_weights, kept = mean_weights + weights, kept + 1
        if number % 10 == 0:
            say(f"{number}: plans {values.mean() / beside:.4f} of greedy, best {values.max() / beside:.4f}")
    return BudgetPolicy(weights=dict(zip(FEATURES, (mean_weights / kept).tolist(), strict=True)))


def load_budget_policy(folder: Path = PACKAGED) -> BudgetPolicy:
    """Return the newest good policy; raises ModelUnavailable."""
    return load_newest(folder, "corridor", NAME, budget_of)[0]


def save_budget_policy(folder: Path, policy: BudgetPolicy, version: int, metrics: Mapping[str, float]) -> Manifest:
    """Write a policy as an artefact."""
    return save(
        folder, model="corridor", name=NAME, version=version,
        inputs=tuple(Input(name=name, unit="1") for name in FEATURES),
        arrays={"weights": (np.array([policy.weights[name] for name in FEATURES]), 1.0, "1")},
        metrics=metrics, trained_on=(
            TrainingSet(
                dataset="generated parcels", individuals=(), rows=0, licence="MIT", citation="models/corridor/budget.py"
            ),
        ),
        licence="MIT", settings={"features": list(FEATURES)},
    )  # fmt: skip


def budget_of(loaded: Loaded) -> BudgetPolicy:
    """Return the policy of an artefact; raises ArtifactError where it is none."""
    weights, features = loaded.arrays.get("weights"), loaded.manifest.settings.get("features")
    if weights is None or weights.shape != (len(FEATURES),) or features != list(FEATURES):
        raise ArtifactError(f"corridor/{loaded.manifest.version}/{NAME}: not a policy that chooses parcels")
    return BudgetPolicy(weights=dict(zip(FEATURES, weights.tolist(), strict=True)))


def _walked(parcels: Parcels, weights: FloatArray, rng: np.random.Generator | None) -> tuple[IntArray, FloatArray]:
    """Return the parcels that the policy takes, drawn where ``rng`` is given, and the slope of their log chance."""
    chosen = np.array([], dtype=np.int64)
    slope = np.zeros(len(FEATURES))
    price = parcels.price.ravel()
    while True:
        free = np.setdiff1d(parcels.candidates, chosen)
        free = free[price[free] <= parcels.budget - price[chosen].sum() + 1e-9]
        if not free.size:
            return chosen, slope
        seen = _seen(parcels, chosen)[free]
        scores = seen @ weights * 2
        chances = np.exp(scores - scores.max())
        chances /= chances.sum()
        taken = int(scores.argmax()) if rng is None else int(rng.choice(free.size, p=chances))
        slope += seen[taken] - chances @ seen
        chosen = np.append(chosen, free[taken])


def _seen(parcels: Parcels, chosen: IntArray) -> FloatArray:
    """Return what the policy knows of each parcel, (parcels, features)."""
    price = parcels.price.ravel()
    _, gain = gains(parcels, chosen)
    spent = float(price[chosen].sum()) / parcels.budget
    by_price = np.maximum(gain, 0) / price
    way, ways = _ways(parcels, chosen)
    columns = [by_price, way, ways]
    scaled = [one / max(float(one.max()), 1e-12) for one in columns]
    return np.stack([*scaled, scaled[0] * spent, scaled[1] * spent, price / price.mean() - 1], axis=1)


def _ways(parcels: Parcels, chosen: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return, for each parcel, the best worth of a whole way over it for its price, and the sum over ways."""
    price = parcels.price.ravel()
    left = parcels.budget - float(price[chosen].sum())
    now, _ = node_fields(weights_of(parcels, chosen), parcels.patches)
    between = now[:, parcels.patches]
    is_done = np.zeros(price.size, dtype=bool)
    is_done[chosen] = is_done[parcels.patches] = True
    restored = weights_of(parcels, np.setdiff1d(np.flatnonzero(parcels.restored.ravel() >= 0), parcels.patches))
    best, total = np.zeros(price.size), np.zeros(price.size)
    for price_weight in _PRICE_WEIGHTS:
        _, before = node_fields(
            restored + np.where(is_done, 0, price_weight * price).reshape(restored.shape), parcels.patches
        )
        for one in range(len(parcels.patches)):
            for other in range(one):
                path = _path(before[one], int(parcels.patches[one]), int(parcels.patches[other]))
                to_pay = path[~is_done[path]]
                bill = float(price[to_pay].sum())
                if not to_pay.size or bill > left + 1e-9:
                    continue
                length = float(restored.ravel()[path].sum())
                closer = np.exp(-min(length, between[one, other]) / parcels.reach)
                areas = parcels.area_ha[one] * parcels.area_ha[other]
                worth = float(areas * (closer - np.exp(-between[one, other] / parcels.reach))) / bill
                best[to_pay] = np.maximum(best[to_pay], worth)
                total[to_pay] += worth
    return best, total


def _path(before: IntArray, start: int, end: int) -> IntArray:
    """Return the parcels between two patches, by the parcels before each."""
    found = []
    here = int(before[end])
    while here != start and here >= 0:
        found.append(here)
        here = int(before[here])
    return np.array(found, dtype=np.int64)
