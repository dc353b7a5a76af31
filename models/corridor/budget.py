"""A corridor under a budget: which parcels to protect or restore so that patches of habitat hang together best.

::

    p(i, j)      = exp(-d(i, j) / reach)             d: cheapest way between two patches, over the parcels' resistance
    connectivity = sqrt(sum over i, j of area(i) area(j) p(i, j))               equivalent connected area, in hectares

Restoring a parcel lowers its resistance. What one parcel is worth depends on the others: a stepping stone alone is
worth nothing, so no shortest path and no greedy choice solves it. Plans are compared by connectivity; they keep within
the budget. Exact on small instances (``best_of_all``), greedy, greedy with swaps, and a policy (``budget_policy``).

Source of the measure: Saura and Pascual-Hortal (2007), doi:10.1016/j.landurbplan.2007.03.005.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from models.corridor.exact import node_fields
from models.corridor.landscape import noise
from models.corridor.surface import FloatArray, IntArray
from shared.errors import Invalid

#: Of plans with at most so many parcels pairs are exchanged too.
_PAIRS_UP_TO: Final = 6
#: Plans that ``best_of_all`` compares at most.
MOST_PLANS: Final = 200_000
_PATCH: Final = 1e-6


class Parcels(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A grid of parcels: resistance now and restored, price, patches (flat places) with their areas, reach, budget."""

    resistance: FloatArray
    restored: FloatArray
    price: FloatArray
    patches: IntArray
    area_ha: FloatArray
    reach: float
    budget: float

    @property
    def candidates(self) -> IntArray:
        """The parcels that can be restored, flat."""
        is_free = (self.restored < self.resistance).ravel()
        is_free[self.patches] = False
        return np.flatnonzero(is_free & (self.price.ravel() <= self.budget))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Parcels to restore, flat and in rising order, what they cost, and the connectivity that they give."""

    parcels: tuple[int, ...]
    price: float
    connectivity_ha: float


def check(parcels: Parcels) -> None:
    """Raise Invalid where an instance has nothing to decide."""
    if not np.isfinite(parcels.budget) or parcels.budget <= 0:
        raise Invalid("budget: nothing can be restored for nothing; give a budget above zero")
    if len(parcels.patches) < 2:
        raise Invalid("connectivity needs at least two patches of habitat")
    if not parcels.candidates.size:
        raise Invalid(f"budget: no parcel costs {parcels.budget:g} or less")


def weights_of(parcels: Parcels, chosen: IntArray) -> FloatArray:
    """Return every parcel's resistance once ``chosen`` are restored; patches have next to none."""
    weights = parcels.resistance.copy().ravel()
    weights[chosen] = parcels.restored.ravel()[chosen]
    weights[parcels.patches] = _PATCH
    return weights.reshape(parcels.resistance.shape)


def connectivity_ha(parcels: Parcels, chosen: IntArray) -> float:
    """Return the equivalent connected area once ``chosen`` are restored."""
    fields, _ = node_fields(weights_of(parcels, chosen), parcels.patches)
    return _connectivity(parcels, fields[:, parcels.patches])


def gains(parcels: Parcels, chosen: IntArray) -> tuple[float, FloatArray]:
    """Return the connectivity, and what each parcel alone would add to it, flat; exact for every parcel at once.

    A way through a parcel is the cheapest way to it from both ends, less what restoring saves on the parcel itself.
    """
    weights = weights_of(parcels, chosen)
    fields, _ = node_fields(weights, parcels.patches)
    between = fields[:, parcels.patches]
    saved = (weights - parcels.restored).ravel()
    saved[parcels.patches] = 0
    through = fields[:, None, :] + fields[None, :, :] - np.maximum(saved, 0)
    closer = np.minimum(between[:, :, None], through)
    areas = parcels.area_ha[:, None] * parcels.area_ha[None, :]
    both = (areas[:, :, None] * np.exp(-closer / parcels.reach)).sum(axis=(0, 1))
    # A way from a patch to itself is nothing long, whatever is restored.
    own = (parcels.area_ha**2)[:, None] * (1 - np.exp(-np.einsum("iin->in", closer) / parcels.reach))
    now = _connectivity(parcels, between)
    return now, np.sqrt(both + own.sum(axis=0)) - now


def best_of_all(parcels: Parcels) -> Plan:
    """Return the best plan of all; raises Invalid where there are too many to compare."""
    check(parcels)
    candidates = parcels.candidates
    price = parcels.price.ravel()
    cheapest = np.sort(price[candidates])
    most = int(np.searchsorted(np.cumsum(cheapest), parcels.budget, side="right"))
    best, compared = plan_of(parcels, np.array([], dtype=np.int64)), 0
    for size in range(1, most + 1):
        for some in itertools.combinations(candidates.tolist(), size):
            if price[list(some)].sum() > parcels.budget:
                continue
            compared += 1
            if compared > MOST_PLANS:
                raise Invalid("too many plans to compare all of them")
            value = connectivity_ha(parcels, np.array(some, dtype=np.int64))
            if value > best.connectivity_ha:
                best = plan_of(parcels, np.array(some, dtype=np.int64))
    return best


def greedy(parcels: Parcels, begin: IntArray | None = None) -> Plan:
    """Return the plan that takes the parcel with the highest gain for its price until the budget is spent."""
    check(parcels)
    chosen = np.array([], dtype=np.int64) if begin is None else begin
    price = parcels.price.ravel()
    while True:
        left = parcels.budget - price[chosen].sum()
        free = np.setdiff1d(parcels.candidates, chosen)
        free = free[price[free] <= left + 1e-9]
        if not free.size:
            return plan_of(parcels, chosen)
        _, gain = gains(parcels, chosen)
        chosen = np.append(chosen, free[int((gain[free] / price[free]).argmax())])


def swapped(parcels: Parcels, plan: Plan) -> Plan:
    """Return a plan that no exchange betters: one parcel goes, or of a short plan two, and what is left is spent anew.

    It is spent by gain, by gain for its price, and in a short plan with each parcel taken first in turn: what two
    cheap ones do together a single step by gain does not see.
    """
    best = plan
    is_better = True
    while is_better:
        is_better = False
        for gone in _exchanges(best):
            rest = np.array([one for one in best.parcels if one not in gone], dtype=np.int64)
            other = max(
                (_refilled(parcels, begun, gone, by_price=by_price) for begun, by_price in _begun(parcels, rest, gone)),
                key=lambda each: each.connectivity_ha,
            )
            if other.connectivity_ha > best.connectivity_ha * (1 + 1e-9):
                best, is_better = other, True
                break
    return best


def _exchanges(plan: Plan) -> Iterator[tuple[int, ...]]:
    yield from ((one,) for one in plan.parcels)
    if len(plan.parcels) <= _PAIRS_UP_TO:
        yield from itertools.combinations(plan.parcels, 2)


def _begun(parcels: Parcels, rest: IntArray, gone: tuple[int, ...]) -> list[tuple[IntArray, bool]]:
    """Return the ways in which what is left is spent: the parcels that are taken first, and by what the others are."""
    found = [(rest, False), (rest, True)]
    if len(rest) + len(gone) > _PAIRS_UP_TO:
        return found[:1]
    price = parcels.price.ravel()
    free = np.setdiff1d(parcels.candidates, np.append(rest, gone))
    free = free[price[free] <= parcels.budget - price[rest].sum() + 1e-9]
    return found + [(np.append(rest, one), False) for one in free.tolist()]


def plan_of(parcels: Parcels, chosen: IntArray) -> Plan:
    """Return the plan that restores ``chosen``; raises Invalid where it exceeds the budget."""
    price = float(parcels.price.ravel()[chosen].sum())
    if price > parcels.budget + 1e-6:
        raise Invalid(f"budget: the plan costs {price:g}, there are {parcels.budget:g}")
    return Plan(
        parcels=tuple(sorted(int(one) for one in chosen)), price=price,
        connectivity_ha=connectivity_ha(parcels, chosen),
    )  # fmt: skip


def instance(seed: int, shape: tuple[int, int], patches: int, budget_parcels: float) -> Parcels:
    """Return the instance of a seed: a budget of so many parcels of mean price."""
    rng = np.random.default_rng((seed, *shape, patches))
    field = noise(rng, shape, 1.8)
    resistance = np.exp(1.6 + 0.5 * field).astype(np.float64)
    price = np.exp(0.35 * noise(rng, shape, 1.0)).astype(np.float64)
    places: list[int] = []
    for _ in range(100_000):
        if len(places) == patches:
            break
        place = int(rng.integers(resistance.size))
        row, column = divmod(place, shape[1])
        if all(abs(row - one // shape[1]) + abs(column - one % shape[1]) >= 3 for one in places):
            places.append(place)
    return Parcels(
        resistance=resistance, restored=np.full(shape, 0.5), price=price, patches=np.array(places, dtype=np.int64),
        area_ha=rng.uniform(20, 200, patches), reach=float(rng.uniform(3, 6)),
        budget=budget_parcels * float(price.mean()),
    )  # fmt: skip


def _refilled(parcels: Parcels, rest: IntArray, without: tuple[int, ...], *, by_price: bool = False) -> Plan:
    price = parcels.price.ravel()
    chosen = rest
    while True:
        free = np.setdiff1d(parcels.candidates, np.append(chosen, without))
        free = free[price[free] <= parcels.budget - price[chosen].sum() + 1e-9]
        if not free.size:
            return plan_of(parcels, chosen)
        gain = gains(parcels, chosen)[1][free]
        chosen = np.append(chosen, free[int((gain / price[free] if by_price else gain).argmax())])


def _connectivity(parcels: Parcels, between: FloatArray) -> float:
    chances = np.exp(-between / parcels.reach)
    np.fill_diagonal(chances, 1.0)
    return float(np.sqrt(parcels.area_ha @ chances @ parcels.area_ha))
