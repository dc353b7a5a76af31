"""Corridors under a budget: gains that are exact, plans within the budget, and what the policy adds."""

from __future__ import annotations

import os

import msgspec
import numpy as np
import pytest

from models.corridor.budget import best_of_all, connectivity_ha, gains, greedy, instance, plan_of, swapped
from models.corridor.budget_policy import FEATURES, BudgetPolicy, learn, load_budget_policy
from shared.errors import Invalid

#: Instances of each kind; the full count is measured by ``outpost-models evaluate corridor``.
COUNT = 20 if os.environ.get("OUTPOST_NIGHTLY") else 3

pytestmark = [pytest.mark.unit, pytest.mark.corridors, pytest.mark.ml]


def test_the_gain_of_a_parcel_is_what_restoring_it_adds() -> None:
    rng = np.random.default_rng(0)
    for seed in range(6):
        parcels = instance(seed, (6, 7), 4, 5)
        chosen = rng.choice(parcels.candidates, 3, replace=False)
        now, gain = gains(parcels, chosen)
        assert now == pytest.approx(connectivity_ha(parcels, chosen))
        for parcel in np.setdiff1d(parcels.candidates, chosen):
            added = connectivity_ha(parcels, np.append(chosen, parcel)) - now
            assert gain[parcel] == pytest.approx(added, abs=1e-7)


def test_two_patches_side_by_side_have_the_connectivity_of_the_formula() -> None:
    parcels = instance(1, (5, 5), 2, 5)
    parcels = msgspec.structs.replace(
        parcels, resistance=np.full((5, 5), 2.0), patches=np.array([0, 3]), area_ha=np.array([30.0, 40.0]), reach=4.0
    )
    chance = np.exp(-4.0 / 4.0)  # two parcels of resistance 2 lie between them
    assert connectivity_ha(parcels, np.array([], dtype=np.int64)) == pytest.approx(
        np.sqrt(30**2 + 40**2 + 2 * 30 * 40 * chance), rel=1e-5
    )


def test_no_plan_costs_more_than_the_budget_and_search_never_loses() -> None:
    policy = BudgetPolicy(weights=dict.fromkeys(FEATURES, 1.0))
    for seed in range(4):
        parcels = instance(50 + seed, (8, 8), 4, 5)
        first = greedy(parcels)
        better = swapped(parcels, first)
        by_policy = policy.plan(parcels, seed=seed, tries=3)
        assert better.connectivity_ha >= first.connectivity_ha
        assert by_policy.connectivity_ha >= policy.alone(parcels).connectivity_ha
        assert max(plan.price for plan in (first, better, by_policy)) <= parcels.budget + 1e-6
        assert policy.plan(parcels, seed=seed, tries=3) == by_policy


def test_the_best_of_all_plans_is_none_of_the_others_dearer_or_worse() -> None:
    parcels = instance(3, (4, 4), 3, 3)
    best = best_of_all(parcels)
    assert best.connectivity_ha >= swapped(parcels, greedy(parcels)).connectivity_ha
    rng = np.random.default_rng(0)
    for _ in range(60):
        some = rng.choice(parcels.candidates, 2, replace=False)
        if parcels.price.ravel()[some].sum() <= parcels.budget:
            assert plan_of(parcels, some).connectivity_ha <= best.connectivity_ha + 1e-9


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), 1e-9])
def test_a_budget_that_buys_nothing_is_refused(budget: float) -> None:
    parcels = msgspec.structs.replace(instance(1, (5, 5), 3, 4), budget=budget)
    with pytest.raises(Invalid, match="budget"):
        greedy(parcels)


def test_a_plan_beyond_the_budget_is_refused() -> None:
    parcels = instance(1, (5, 5), 3, 4)
    with pytest.raises(Invalid, match="budget"):
        plan_of(msgspec.structs.replace(parcels, budget=0.001), parcels.candidates[:1])


def test_the_same_seed_learns_the_same_policy_and_learning_changes_it() -> None:
    one, again = (learn(seed=3, rounds=6, group=4) for _ in range(2))
    assert one == again
    assert one != learn(seed=4, rounds=6, group=4)


def test_the_packaged_policy_is_in_the_mean_within_two_percent_of_the_best_plan_of_small_instances() -> None:
    policy = load_budget_policy()
    ratios = []
    for seed in range(COUNT):
        parcels = instance(7_000_000 + seed, (4, 5), 3, 3)
        ratios.append(policy.plan(parcels).connectivity_ha / best_of_all(parcels).connectivity_ha)
    assert np.mean(ratios) >= 0.98
    assert max(ratios) <= 1 + 1e-9


def test_the_packaged_policy_beats_greedy_with_swaps_on_large_instances() -> None:
    policy = load_budget_policy()
    ratios = []
    for seed in range(max(COUNT, 12)):
        parcels = instance(8_000_000 + seed, (16, 16), 8, 14)
        ratios.append(policy.plan(parcels).connectivity_ha / swapped(parcels, greedy(parcels)).connectivity_ha)
    assert np.mean(ratios) > 1.005
