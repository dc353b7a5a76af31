"""Routes between positions on a reserve's maps: maps, zones and wishes in, a line with its scores out.

Zones where people and animals meet are risk of conflict: as much as their risk level says inside, falling to nothing at
the end of their buffer. A goal shifts the species' weights. Limits are kept by trying again with the price raised of
what was too much; where that does not help the answer is that there is no such route.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from models.artifact import PACKAGED
from models.corridor.exact import check_place, cost_to_go, distances_cells, widened, widths_m
from models.corridor.features import Placed, filled, outline, surface_between
from models.corridor.planner import Choice, Progress, Route, generate
from models.corridor.scores import Scores, scores_of, straight
from models.corridor.surface import WEIGHTS, Cell, IntArray, Surface, Weights, read_weights, surface_of, weights_for
from models.habitat.features import open_rasters
from shared.errors import Invalid

#: How much a zone's risk level counts, and the types of zone that are a risk at all.
RISKS: Final = {"high": 1.0, "medium": 0.6, "low": 0.3}
RISKY: Final = frozenset({"agriculture", "settlement", "road", "infrastructure"})
#: How goals shift weights, by term.
GOALS: Final[dict[str, dict[str, float]]] = {
    "balanced": {},
    "shortest": dict.fromkeys(("habitat", "settlement", "road", "slope", "water", "cover", "use"), 0.2),
    "safest": {"conflict": 3.0, "settlement": 3.0, "road": 3.0},
    "most_connected": {"habitat": 2.0, "use": 2.0, "cover": 2.0},
}
_RAISE: Final = 8.0
_TRIES: Final = 3
_BOTTLENECKS: Final = 20
#: Metres to each side that a route has at least as an area.
_LEAST_HALF_WIDTH_CELLS: Final = 1


class Danger(msgspec.Struct, frozen=True, kw_only=True):
    """A zone as risk: GeoJSON text of an area, its buffer, and the risk inside (0 to 1)."""

    geometry: str
    buffer_m: float
    risk: float


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a route must keep to."""

    width_m: float | None = None
    most_length_m: float | None = None
    most_crossings: int | None = None


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A route between two positions, each (longitude, latitude); without ``end`` one that leads on for ``steps``.

    ``region`` is GeoJSON text of an area in WGS 84 that it must not leave.
    """

    species: str
    start: tuple[float, float]
    end: tuple[float, float] | None
    algorithm: Choice = "auto"
    goal: str = "balanced"
    steps: int | None = None
    seed: int = 0
    version: int | None = None
    limits: Limits = Limits()
    region: str | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A route in positions: corners (longitude, latitude), its area as GeoJSON, its scores, and what made it."""

    corners: tuple[tuple[float, float], ...]
    area: dict[str, Any]
    scores: Scores
    algorithm: str
    version: int | None
    seed: int
    weights: dict[str, float]
    species: str
    missing: tuple[str, ...]
    cell_m: float
    bottlenecks: tuple[tuple[float, float], ...]
    is_bounded: bool = True
    alone_cost_ratio: float | None = None


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """A reserve: its ``rasters.toml``, the weights of its species, and where the policies lie."""

    maps: Path
    weights: Path = WEIGHTS
    artifacts: Path = PACKAGED

    def route(self, wish: Wish, dangers: Sequence[Danger] = (), progress: Progress | None = None) -> Line:
        """Return a route; raises Invalid for places that cannot be joined or limits that no route keeps."""
        weights = _shifted(weights_for(wish.species, read_weights(self.weights)), wish)
        placed = self._placed(weights, wish, dangers)
        start = placed.cell(*wish.start)
        end = _leading_on(placed.surface, start, wish.steps or 50) if wish.end is None else placed.cell(*wish.end)
        found = self._tried(placed.surface, start, end, wish, progress)
        return _line(placed, found, wish)

    def score(self, species: str, corners: Sequence[tuple[float, float]], dangers: Sequence[Danger] = ()) -> Line:
        """Return the scores of a given line; raises Invalid where it leaves the maps or ground that is walked on."""
        weights = weights_for(species, read_weights(self.weights))
        wish = Wish(species=species, start=corners[0], end=corners[-1])
        lons, lats = [one[0] for one in corners], [one[1] for one in corners]
        placed = self._placed(
            weights, msgspec.structs.replace(wish, start=(min(lons), min(lats)), end=(max(lons), max(lats))), dangers
        )
        cells = [placed.cell(*corner) for corner in corners]
        parts = [straight(one, other) for one, other in itertools.pairwise(cells) if one != other]
        if not parts:
            raise Invalid("path: all of it lies in one cell of the maps")
        path = np.concatenate([parts[0], *(part[1:] for part in parts[1:])])
        surface = widened(placed.surface)
        if (path[0] == path[-1]).all():
            raise Invalid("path: it ends where it begins, so there is nothing to compare it with")
        route = Route(
            path=path, scores=scores_of(surface, path), algorithm="given", version=None, seed=0, is_bettered=False,
            alone_cost_ratio=None, missing_terms=surface.missing,
        )  # fmt: skip
        return _line(placed, route, wish)

    def _placed(self, weights: Weights, wish: Wish, dangers: Sequence[Danger]) -> Placed:
        with open_rasters(self.maps) as maps:
            region = None if wish.region is None else json.loads(wish.region)
            around = [] if region is None else corners_of(region["coordinates"])
            placed = surface_between(maps, weights, wish.start, wish.end or wish.start, around=around)
            if region is not None:
                placed = within(placed, region, wish)
            return with_dangers(placed, dangers)

    def _tried(self, surface: Surface, start: Cell, end: Cell, wish: Wish, progress: Progress | None) -> Route:
        limits, tried = wish.limits, surface
        said = ""
        for _ in range(_TRIES):
            found = generate(
                tried, start, end, algorithm=wish.algorithm, species=wish.species, seed=wish.seed,
                folder=self.artifacts, version=wish.version, progress=progress,
            )  # fmt: skip
            scores = found.scores
            if limits.most_crossings is not None and scores.crossings > limits.most_crossings:
                said = f"it crosses roads {scores.crossings} times, {limits.most_crossings} are allowed"
                tried = _dearer_roads(tried)
            elif limits.most_length_m is not None and scores.length_m > limits.most_length_m:
                said = f"it is {scores.length_m:.0f} m long, {limits.most_length_m:.0f} are allowed"
                tried = _shorter(tried)
            elif limits.width_m is not None and scores.min_width_m < limits.width_m:
                said = f"it is {scores.min_width_m:.0f} m wide at its narrowest, {limits.width_m:.0f} are asked for"
                tried = _wider(tried)
            elif tried is surface:
                return found
            else:  # what was raised to keep the limits is no cost of the route
                return msgspec.structs.replace(found, scores=scores_of(widened(surface), found.path))
        raise Invalid(f"constraints: no route was found that keeps them: the best of {_TRIES} does not: {said}")


def corners_of(coordinates: Any) -> list[tuple[float, float]]:
    """Return every corner of a GeoJSON area, (longitude, latitude)."""
    if isinstance(coordinates[0], (int, float)):
        return [(float(coordinates[0]), float(coordinates[1]))]
    return [corner for part in coordinates for corner in corners_of(part)]


def within(placed: Placed, region: dict[str, Any], wish: Wish) -> Placed:
    """Return the surface on which nothing walks outside a region; raises Invalid where an end lies outside."""
    surface = placed.surface
    is_inside = filled(placed, [region])
    for name, at in (("start_point", wish.start), ("end_point", wish.end)):
        cell = None if at is None else placed.cell(*at)
        if cell is not None and not is_inside[cell]:
            raise Invalid(f"{name} is outside the region")
    cost = np.where(is_inside, surface.cost, np.float32(np.inf))
    return msgspec.structs.replace(placed, surface=msgspec.structs.replace(surface, cost=cost))


def with_dangers(placed: Placed, dangers: Sequence[Danger]) -> Placed:
    """Return the surface with the risk of zones in its conflict term."""
    surface = placed.surface
    weight = surface.weights.weights.get("conflict", 0.0)
    if not dangers or weight <= 0:
        return placed
    known = np.nan_to_num(surface.conflict, nan=0.0)
    for danger in dangers:
        is_inside = filled(placed, [json.loads(danger.geometry)])
        if danger.buffer_m > 0 and is_inside.any():
            apart_m = distances_cells(is_inside) * surface.cell_m
            share = np.clip(1 - apart_m / danger.buffer_m, 0, 1)
        else:
            share = is_inside.astype(np.float64)
        known = np.maximum(known, danger.risk * share)
    terms = {
        name: values / surface.weights.weights[name] for name, values in surface.terms.items() if name != "distance"
    }
    terms["conflict"] = known.astype(np.float32)
    made = surface_of(
        terms, weights=surface.weights, cell_m=surface.cell_m, is_road=surface.is_road, is_blocked=~surface.is_passable
    )
    return msgspec.structs.replace(placed, surface=made)


def _shifted(weights: Weights, wish: Wish) -> Weights:
    if wish.goal not in GOALS:
        raise Invalid(f"optimization_goal: {wish.goal!r} is not one of {', '.join(GOALS)}")
    shift = GOALS[wish.goal]
    edges = weights.edges
    if wish.limits.width_m is not None:
        edges = msgspec.structs.replace(edges, min_width_m=wish.limits.width_m)
    return msgspec.structs.replace(
        weights, weights={name: value * shift.get(name, 1.0) for name, value in weights.weights.items()}, edges=edges
    )


def _dearer_roads(surface: Surface) -> Surface:
    """Return the surface with roads dearer to cross and to stand on: search and price see the same."""
    edges = msgspec.structs.replace(surface.weights.edges, road_m=max(surface.weights.edges.road_m, 50.0) * _RAISE)
    price = edges.road_m / surface.cell_m * float(surface.cost[surface.is_passable].min())
    road = surface.terms.get("road", np.zeros(surface.shape, dtype=np.float32))
    added = np.where(surface.is_road, np.float32(price), np.float32(0))
    return msgspec.structs.replace(
        surface, cost=surface.cost + added, terms={**surface.terms, "road": road + added},
        weights=msgspec.structs.replace(surface.weights, edges=edges),
    )  # fmt: skip


def _shorter(surface: Surface) -> Surface:
    """Return the surface with the metre itself dearer."""
    distance = surface.terms["distance"]
    added = np.float32(float(np.median(surface.cost[surface.is_passable])) * 2)
    return msgspec.structs.replace(
        surface, cost=surface.cost + added, terms={**surface.terms, "distance": distance + added}
    )


def _wider(surface: Surface) -> Surface:
    """Return the surface with narrow ground dearer."""
    weights = {**surface.weights.weights, "width": max(surface.weights.weights.get("width", 0.0), 1.0) * _RAISE}
    return msgspec.structs.replace(surface, weights=msgspec.structs.replace(surface.weights, weights=weights))


def _leading_on(surface: Surface, start: Cell, steps: int) -> Cell:
    """Return where a route of so many cells leads best: the cheapest cell a metre, at least half of them away."""
    check_place(surface, "start_point", start)
    costs = cost_to_go(surface.cost, start)
    rows, columns = np.indices(surface.shape, sparse=True)
    away = np.maximum(np.abs(rows - start.row), np.abs(columns - start.column))
    is_meant = (away >= min(steps / 2, max(surface.shape) / 4)) & (away <= steps * 0.8) & np.isfinite(costs)
    if not is_meant.any():
        raise Invalid("no path leads on from start_point: unwalkable ground lies around it")
    price = np.where(is_meant, costs / np.maximum(away, 1), np.inf)
    row, column = np.unravel_index(int(price.argmin()), surface.shape)
    return Cell(int(row), int(column))


def _line(placed: Placed, route: Route, wish: Wish) -> Line:
    surface = placed.surface
    corners = _positions(placed, _thinned(route.path, wish.steps))
    widths = widths_m(surface)[route.path[:, 0], route.path[:, 1]]
    narrow = np.flatnonzero(widths < surface.weights.edges.min_width_m)
    narrowest = route.path[np.sort(narrow[np.argsort(widths[narrow], kind="stable")][:_BOTTLENECKS])]
    half = max(_LEAST_HALF_WIDTH_CELLS, round(surface.weights.edges.min_width_m / 2 / surface.cell_m))
    return Line(
        corners=corners, area=outline(placed, route.path, half), scores=route.scores, algorithm=route.algorithm,
        version=route.version, seed=route.seed, weights=surface.weights.weights, species=surface.weights.species,
        missing=route.missing_terms, cell_m=surface.cell_m, bottlenecks=_positions(placed, narrowest),
        is_bounded=wish.end is not None, alone_cost_ratio=route.alone_cost_ratio,
    )  # fmt: skip


def _thinned(path: IntArray, steps: int | None) -> IntArray:
    """Return the corners of a path where it turns, and of those at most ``steps``; its ends always."""
    turns = np.flatnonzero((np.diff(path, n=2, axis=0) != 0).any(axis=1)) + 1
    kept = np.concatenate(([0], turns, [len(path) - 1]))
    if steps is not None and kept.size > max(steps, 2):
        kept = kept[np.unique(np.linspace(0, kept.size - 1, max(steps, 2)).round().astype(np.int64))]
    return path[kept]


def _positions(placed: Placed, cells: IntArray) -> tuple[tuple[float, float], ...]:
    if not len(cells):
        return ()
    lon, lat = placed.positions(cells.astype(np.float64))
    return tuple(zip(np.round(lon, 7).tolist(), np.round(lat, 7).tolist(), strict=True))
