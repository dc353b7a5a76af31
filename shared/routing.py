"""Routes that a corridor may take, asked of whoever can find them: values and one protocol, no model and no map.

Both homes hand a ``Router`` to their controllers (``shared.api.home.create_home``), ``NoRouter`` where they have none,
which says so. A route costs what its ground costs, summed along it; ``bound_cost`` is that of the cheapest route there
is, from an exact search over the same ground, so that everybody sees how far an answer is from it.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from shared.errors import ModelUnavailable
from shared.movement.areas import Place
from shared.privacy import View

#: ``auto``: whichever the router thinks best here.
RouteAlgorithm: TypeAlias = Literal["auto", "ppo", "dqn", "least_cost"]
RouteGoal: TypeAlias = Literal["balanced", "shortest", "safest", "most_connected"]


class RouteLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a route must keep to; None: nothing asked."""

    width_m: float | None = None
    most_length_m: float | None = None
    most_road_crossings: int | None = None


class RouteAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A route between two places; without ``end`` one that leads on from ``start`` for ``steps`` of the ground's cells.

    ``steps`` bounds a route between two places too; None: as many as it takes. ``version`` asks for that version of the
    algorithm's model and no other. ``region`` is a GeoJSON area that the route must not leave.
    """

    species: str
    start: Place
    end: Place | None = None
    steps: int | None = None
    algorithm: RouteAlgorithm = "auto"
    goal: RouteGoal = "balanced"
    limits: RouteLimits = RouteLimits()
    seed: int | None = None
    version: str | None = None
    region: str | None = None


class RouteTerm(msgspec.Struct, frozen=True, kw_only=True):
    """One term of what a route costs or gains: ``value`` in ``unit``, and the ``weight`` with which it counts."""

    name: str
    value: float
    weight: float
    unit: str


class RouteScore(msgspec.Struct, frozen=True, kw_only=True):
    """What a planner asks of a route.

    ``cost_ratio`` is ``cost`` over ``bound_cost``; both are None where there is no second place to bound it to.
    ``habitat`` is the mean suitability along it, 0 to 1, and ``conflict_exposure_m`` the length of it in zones or their
    buffers. ``bottlenecks`` are its narrowest places. ``missing`` names the layers of ground that no map gave.
    """

    cost: float
    length_m: float
    terms: tuple[RouteTerm, ...]
    bound_cost: float | None = None
    cost_ratio: float | None = None
    habitat: float | None = None
    conflict_exposure_m: float | None = None
    smallest_width_m: float | None = None
    mean_width_m: float | None = None
    bottlenecks: tuple[Place, ...] = ()
    missing: tuple[str, ...] = ()


class RouteFound(msgspec.Struct, frozen=True, kw_only=True):
    """A route, how good it is, and who says so: the ``algorithm`` that was taken and its model, and the seed.

    ``confidence``: the share of its choices of which the model was sure, 0 to 1; None where the algorithm has no such
    thing.
    """

    path: tuple[Place, ...]
    score: RouteScore
    algorithm: RouteAlgorithm
    model: str
    seed: int | None = None
    confidence: float | None = None


class Router(Protocol):
    """Finds and scores routes. Both raise ModelUnavailable, and Invalid for places that no route can join."""

    @property
    def models(self) -> dict[str, str]:
        """Name and version of each model that is loaded, by algorithm; empty where there is none."""
        ...

    @property
    def missing(self) -> str | None:
        """Why there are no routes at all; None where there are."""
        ...

    async def generate(self, view: View, asked: RouteAsked) -> RouteFound:
        """Return a route over what ``view`` may see of zones and animals."""
        ...

    async def evaluate(self, view: View, species: str, path: tuple[Place, ...]) -> RouteScore:
        """Return how good a given route is; it has two places at least."""
        ...


_NONE: Final = "no corridor model is installed at this home"


class NoRouter:
    """A home without routes."""

    models: Final[dict[str, str]] = {}
    missing: Final[str] = _NONE

    async def generate(self, view: View, asked: RouteAsked) -> RouteFound:
        """Raise ModelUnavailable."""
        raise ModelUnavailable(_NONE)

    async def evaluate(self, view: View, species: str, path: tuple[Place, ...]) -> RouteScore:
        """Raise ModelUnavailable."""
        raise ModelUnavailable(_NONE)
