"""Routes over the cloud's maps and zones: the ``Router`` of the shared controllers, and what the job stands on too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import msgspec

from models.corridor.ground import RISKS, RISKY, Danger, Ground, Limits, Line, Wish
from models.corridor.runtime import ALGORITHMS, load_policy
from models.corridor.surface import WEIGHTS
from models.live.apart import Apart
from shared.errors import ArtifactError, Invalid, ModelUnavailable
from shared.movement.areas import Place
from shared.privacy import View
from shared.routing import RouteAlgorithm, RouteAsked, RouteFound, RouteScore, RouteTerm
from shared.store import Store, ZoneQuery

P = ParamSpec("P")
T = TypeVar("T")

_PAGE: Final = 500
NO_MAPS: Final = "this cloud has no maps to plan routes on: name the reserve's rasters.toml in corridors.maps"


class MapRouter:
    """Finds and scores routes on a reserve's maps; implements ``shared.routing.Router``.

    ``is_apart``: maps are read in a process of their own, as a program that answers requests must.
    """

    def __init__(
        self,
        store: Store,
        *,
        maps: Path | None,
        weights: Path | None,
        artifacts: Path | Callable[[], Path],
        forced: int | None = None,
        is_apart: bool = False,
    ) -> None:
        self._store = store
        self._ground = None if maps is None else Ground(maps=maps, weights=weights or WEIGHTS)
        # another version may be chosen at any time: where artefacts lie is asked each time
        self._artifacts = artifacts if callable(artifacts) else lambda: artifacts
        self._forced = forced
        self._apart = Apart("routes") if is_apart else None

    @property
    def models(self) -> dict[str, str]:
        """Name and version of each policy that is there."""
        found: dict[str, str] = {}
        for name in ALGORITHMS:
            try:
                found[name] = f"{name} {load_policy(name, self._artifacts(), self._forced).version}"
            except ArtifactError:
                continue
        return found

    @property
    def missing(self) -> str | None:
        """Why there are no routes."""
        return NO_MAPS if self._ground is None else None

    async def generate(self, view: View, asked: RouteAsked) -> RouteFound:
        """Return a route; raises Invalid or ModelUnavailable."""
        line = await self.line(view, asked)
        return RouteFound(
            path=tuple(Place(lon_deg=lon, lat_deg=lat) for lon, lat in line.corners),
            score=score_of(line), algorithm=asked.algorithm if line.algorithm == "given" else _algorithm(line),
            model=model_of(line), seed=line.seed,
        )  # fmt: skip

    async def evaluate(self, view: View, species: str, path: tuple[Place, ...]) -> RouteScore:
        """Return how good a given route is."""
        ground = self._there()
        dangers = await self._dangers(view)
        corners = [(place.lon_deg, place.lat_deg) for place in path]
        return score_of(await self._done(ground.score, species, corners, dangers))

    async def line(self, view: View, asked: RouteAsked) -> Line:
        """Return a route with all that is known of it."""
        ground, wish = self._there(), self.wish(asked)
        dangers = await self._dangers(view)
        return await self._done(ground.route, wish, dangers)

    async def prepared(self, view: View) -> tuple[Ground, list[Danger]]:
        """Return maps and dangers, for whoever plans in a thread of its own; raises ModelUnavailable."""
        return self._there(), await self._dangers(view)

    def wish(self, asked: RouteAsked) -> Wish:
        """Return what the maps are asked; a forced version goes before one that is asked for."""
        return Wish(
            species=asked.species,
            start=(asked.start.lon_deg, asked.start.lat_deg),
            end=None if asked.end is None else (asked.end.lon_deg, asked.end.lat_deg),
            algorithm=asked.algorithm,
            goal=asked.goal,
            steps=asked.steps,
            seed=asked.seed or 0,
            version=self._forced if self._forced is not None else _version(asked.version),
            region=asked.region,
            limits=Limits(
                width_m=asked.limits.width_m,
                most_length_m=asked.limits.most_length_m,
                most_crossings=asked.limits.most_road_crossings,
            ),
        )

    @property
    def pids(self) -> list[int]:
        """The process that reads maps, where it runs."""
        return [] if self._apart is None else self._apart.pids

    def close(self) -> None:
        """End the process that reads maps."""
        if self._apart is not None:
            self._apart.close()

    async def _done(self, work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
        """Return what ``work`` gives: in a process of its own where requests wait beside it, else in a thread."""
        if self._apart is not None:
            return await self._apart.ask(work, *values, **named)
        return await asyncio.to_thread(work, *values, **named)

    def _there(self) -> Ground:
        if self._ground is None:
            raise ModelUnavailable(NO_MAPS)
        return msgspec.structs.replace(self._ground, artifacts=self._artifacts())

    async def _dangers(self, view: View) -> list[Danger]:
        """Return the active zones that are a risk to routes."""
        found: list[Danger] = []
        offset = 0
        while True:
            query = ZoneQuery(is_active=True, ordering="created_at", offset=offset, limit=_PAGE)
            page = (await self._store.zones(view, query)).results
            found += [
                Danger(geometry=zone.geometry, buffer_m=zone.buffer_m, risk=RISKS[zone.risk_level])
                for zone in page
                if zone.zone_type in RISKY
            ]
            if len(page) < _PAGE:
                return found
            offset += _PAGE


def score_of(line: Line) -> RouteScore:
    """Return scores as both homes serve them."""
    scores = line.scores
    return RouteScore(
        cost=scores.cost,
        length_m=scores.length_m,
        terms=tuple(
            RouteTerm(name=name, value=value, weight=line.weights.get(name, 1.0), unit="cells of cost")
            for name, value in scores.terms.items()
        ),
        bound_cost=scores.bound if line.is_bounded else None,
        cost_ratio=scores.cost_ratio if line.is_bounded else None,
        habitat=scores.mean_habitat,
        conflict_exposure_m=scores.exposed_m,
        smallest_width_m=scores.min_width_m,
        mean_width_m=scores.mean_width_m,
        bottlenecks=tuple(Place(lon_deg=lon, lat_deg=lat) for lon, lat in line.bottlenecks),
        missing=line.missing,
    )


def model_of(line: Line) -> str:
    """Return what made a route: an algorithm, and its version where it has one."""
    return line.algorithm if line.version is None else f"{line.algorithm} {line.version}"


def _algorithm(line: Line) -> RouteAlgorithm:
    found: RouteAlgorithm = msgspec.convert(line.algorithm, RouteAlgorithm)
    return found


def _version(said: str | None) -> int | None:
    """Return the version of ``ppo 3`` or ``3``; raises Invalid."""
    if said is None:
        return None
    last = said.split()[-1] if said.split() else ""
    if not (last.isascii() and last.isdigit()):
        raise Invalid(f"model_version: {said!r} is no version; give a number, such as 1")
    return int(last)
