"""Routes for planners: a policy's routes, bettered by local search, certified against the exact path.

``least_cost`` is the exact path over the cells. ``ppo`` and ``dqn`` walk by policy and search around what they found.
``auto`` takes the cheapest of the exact path and PPO's, both bettered, by the full cost with road crossings and losses
of habitat, which the exact path over the cells knows nothing of. Every answer has the bound and its ratio to it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from models.artifact import PACKAGED
from models.corridor.exact import check_ends, component_of, least_cost, widened
from models.corridor.runtime import best_of, load_policy, routes
from models.corridor.scores import Scores, cost_of, cost_with_edges, scores_of
from models.corridor.search import bettered, priced
from models.corridor.surface import Cell, IntArray, Surface
from shared.errors import Invalid, ModelUnavailable

Choice: TypeAlias = Literal["ppo", "dqn", "least_cost", "auto"]
CHOICES: Final[tuple[Choice, ...]] = ("ppo", "dqn", "least_cost", "auto")

#: Says how far a route is, 0 to 1, and what the best costs so far.
Progress: TypeAlias = Callable[[float, float | None], None]

#: Walkers whose routes are put together.
WALKERS: Final = 16


class Route(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A route: its cells from start to end, its scores, and what made it. ``alone``: the policy's before the search."""

    path: IntArray
    scores: Scores
    algorithm: str
    version: int | None
    seed: int
    is_bettered: bool
    alone_cost_ratio: float | None
    missing_terms: tuple[str, ...]


def generate(
    surface: Surface,
    start: Cell,
    end: Cell,
    *,
    algorithm: Choice = "auto",
    species: str | None = None,
    seed: int = 0,
    folder: Path = PACKAGED,
    version: int | None = None,
    walkers: int = WALKERS,
    progress: Progress | None = None,
) -> Route:
    """Return the best route that an algorithm finds; same seed, same route.

    Raises Invalid for ends that cannot be joined, ModelUnavailable where no policy is there or where it was not trained
    for the species.
    """
    if algorithm not in CHOICES:
        raise Invalid(f"algorithm: {algorithm!r} is not one of {', '.join(CHOICES)}")
    say = progress or _silent
    ground = widened(surface)
    check_ends(ground, start, end)
    if not component_of(ground, start)[end]:
        raise Invalid("no path leads from start_point to end_point: unwalkable ground lies between them")
    exact = least_cost(ground, start, end)
    say(0.3, cost_with_edges(ground, exact))
    if algorithm == "least_cost":
        return _route(ground, exact, exact, "least_cost", None, seed, alone=None, is_bettered=False)
    found = _by_policy(ground, start, end, exact, algorithm, species, seed, folder, version, walkers, say)
    if algorithm == "auto" and cost_with_edges(ground, exact) <= found.scores.cost * (1 + 1e-9):
        found = _route(ground, exact, exact, "least_cost", None, seed, alone=None, is_bettered=False)
    say(1.0, found.scores.cost)
    return found


def _by_policy(
    ground: Surface,
    start: Cell,
    end: Cell,
    exact: IntArray,
    algorithm: Choice,
    species: str | None,
    seed: int,
    folder: Path,
    version: int | None,
    walkers: int,
    say: Progress,
) -> Route:
    policy = load_policy("ppo" if algorithm == "auto" else algorithm, folder, version)
    wanted = species or ground.weights.species
    if policy.knows(wanted) is None and wanted not in {"given", "default"}:
        raise ModelUnavailable(
            f"no corridor policy was trained for {wanted}; there is one for {', '.join(policy.species)}"
        )
    seen = priced(ground) if ground.has_edges else ground
    walked = routes(policy, seen, start, end, count=walkers, seed=seed)
    own = best_of(seen, walked)
    alone = None if own is None else cost_of(ground, own)
    begin = [path for path in walked if path is not None]
    if not begin:  # the exact path is then the answer, under its own name
        return _route(ground, exact, exact, "least_cost", None, seed, alone=None, is_bettered=False)
    say(0.7, None)
    best = bettered(seen, begin, price=lambda path: _price(ground, path), seen=lambda cost: say(0.8, cost))
    bound = cost_of(ground, exact)
    return _route(
        ground, best, exact, policy.algorithm, policy.version, seed,
        alone=None if alone is None else alone / bound, is_bettered=True,
    )  # fmt: skip


def _silent(_share: float, _cost: float | None) -> None:
    """Say nothing."""


def _price(ground: Surface, path: IntArray) -> float:
    return cost_with_edges(ground, path) if ground.has_edges else cost_of(ground, path)


def _route(
    ground: Surface,
    path: IntArray,
    exact: IntArray,
    algorithm: str,
    version: int | None,
    seed: int,
    *,
    alone: float | None,
    is_bettered: bool,
) -> Route:
    return Route(
        path=path, scores=scores_of(ground, path, exact=exact), algorithm=algorithm, version=version, seed=seed,
        is_bettered=is_bettered, alone_cost_ratio=alone, missing_terms=ground.missing,
    )  # fmt: skip
