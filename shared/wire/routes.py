"""Routes that a corridor may take, in the original platform's words: what is asked, and what is answered."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from shared.errors import Invalid
from shared.movement.areas import Place
from shared.routing import RouteAlgorithm, RouteAsked, RouteFound, RouteGoal, RouteLimits, RouteScore
from shared.wire.public.corridors import Pair, Point
from shared.wire.public.fields import Latitude, Longitude, Name
from shared.wire.reading import text

#: The original's steps of a corridor that leads on from one place, and of one between two.
DEFAULT_STEPS = 50
Steps: TypeAlias = Annotated[int, Meta(ge=1, le=200)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Version: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Corners: TypeAlias = Annotated[list[Pair | Point], Meta(min_length=2, max_length=10_000)]


class LimitsIn(Struct, frozen=True, kw_only=True):
    """What a route must keep to."""

    min_width_m: Annotated[float, Meta(ge=0, le=100_000)] | None = None
    max_length_km: Annotated[float, Meta(gt=0, le=10_000)] | None = None
    max_road_crossings: Annotated[int, Meta(ge=0, le=1_000)] | None = None


class RouteIn(Struct, frozen=True, kw_only=True):
    """A route between two places (``ml/corridor/generate``)."""

    species: Name
    start_point: Point
    end_point: Point
    algorithm: RouteAlgorithm = "auto"
    optimization_goal: RouteGoal = "balanced"
    constraints: LimitsIn | None = None
    steps: Annotated[int, Meta(ge=10, le=200)] | None = None
    seed: Seed | None = None
    model_version: Version | None = None

    def asked(self) -> RouteAsked:
        """Return what a router is asked; raises Invalid where both places are one."""
        start, end = _place(self.start_point), _place(self.end_point)
        if start == end:
            raise Invalid("end_point: is the start_point")
        limits = self.constraints or LimitsIn()
        return RouteAsked(
            species=text("species", self.species),
            start=start,
            end=end,
            steps=self.steps,
            algorithm=self.algorithm,
            goal=self.optimization_goal,
            limits=RouteLimits(
                width_m=limits.min_width_m,
                most_length_m=None if limits.max_length_km is None else limits.max_length_km * 1000,
                most_road_crossings=limits.max_road_crossings,
            ),
            seed=self.seed,
            version=self.model_version,
        )


class PathIn(Struct, frozen=True, kw_only=True):
    """A route to score (``ml/corridor/evaluate``); ``path`` is [latitude, longitude] along it, or {lat, lon}."""

    species: Name
    path: Corners
    metrics: list[str] | None = None

    def places(self) -> tuple[Place, ...]:
        """Return the corners of the path."""
        return tuple(
            _place(corner) if isinstance(corner, Point) else Place(lon_deg=corner[1], lat_deg=corner[0])
            for corner in self.path
        )


class CorridorAskedIn(Struct, frozen=True, kw_only=True):
    """A corridor that leads on from a place, or to another (``predictions/corridor/``)."""

    species: Name
    start_lat: Latitude
    start_lon: Longitude
    end_lat: Latitude | None = None
    end_lon: Longitude | None = None
    steps: Steps = DEFAULT_STEPS
    algorithm: RouteAlgorithm = "auto"
    seed: Seed | None = None
    model_version: Version | None = None

    def asked(self) -> RouteAsked:
        """Return what a router is asked; raises Invalid for half a place."""
        if (self.end_lat is None) != (self.end_lon is None):
            raise Invalid("end_lat: stands together with end_lon, or both are left out")
        end = None
        if self.end_lat is not None and self.end_lon is not None:
            end = Place(lon_deg=self.end_lon, lat_deg=self.end_lat)
        return RouteAsked(
            species=text("species", self.species),
            start=Place(lon_deg=self.start_lon, lat_deg=self.start_lat),
            end=end,
            steps=self.steps,
            algorithm=self.algorithm,
            seed=self.seed,
            version=self.model_version,
        )


class TermOut(Struct, frozen=True, kw_only=True):
    """One term of what a route costs or gains."""

    value: float
    weight: float
    unit: str


class ScoreOut(Struct, frozen=True, kw_only=True):
    """What a planner asks of a route; ``cost_ratio`` is its cost over that of the cheapest there is."""

    cost: float
    bound_cost: float | None
    cost_ratio: float | None
    length_km: float
    habitat_quality: float | None
    conflict_exposure_km: float | None
    min_width_m: float | None
    mean_width_m: float | None
    bottlenecks: list[Pair]
    terms: dict[str, TermOut]
    missing: list[str]

    @classmethod
    def of(cls, score: RouteScore) -> ScoreOut:
        """Return the public form of a score."""
        exposure_m = score.conflict_exposure_m
        return cls(
            cost=score.cost,
            bound_cost=score.bound_cost,
            cost_ratio=score.cost_ratio,
            length_km=score.length_m / 1000,
            habitat_quality=score.habitat,
            conflict_exposure_km=None if exposure_m is None else exposure_m / 1000,
            min_width_m=score.smallest_width_m,
            mean_width_m=score.mean_width_m,
            bottlenecks=[(place.lat_deg, place.lon_deg) for place in score.bottlenecks],
            terms={term.name: TermOut(value=term.value, weight=term.weight, unit=term.unit) for term in score.terms},
            missing=list(score.missing),
        )


class LineOut(Struct, frozen=True, kw_only=True):
    """A GeoJSON LineString."""

    type: Literal["LineString"] = "LineString"
    coordinates: list[tuple[float, float]]


class RouteOut(Struct, frozen=True, kw_only=True):
    """A route that was found, how good it is, and by which algorithm and model."""

    species: str
    algorithm: str
    model_version: str
    seed: int | None
    confidence: float | None
    path: list[Pair]
    geometry: LineOut
    score: ScoreOut

    @classmethod
    def of(cls, species: str, found: RouteFound) -> RouteOut:
        """Return the public form of a route."""
        return cls(
            species=species,
            algorithm=found.algorithm,
            model_version=found.model,
            seed=found.seed,
            confidence=found.confidence,
            path=[(place.lat_deg, place.lon_deg) for place in found.path],
            geometry=LineOut(coordinates=[(place.lon_deg, place.lat_deg) for place in found.path]),
            score=ScoreOut.of(found.score),
        )


class EvaluationOut(Struct, frozen=True, kw_only=True):
    """The score of a given route; ``metrics`` are those terms that were asked for, all where none was named."""

    species: str
    score: ScoreOut
    metrics: dict[str, float]

    @classmethod
    def of(cls, asked: PathIn, score: RouteScore) -> EvaluationOut:
        """Return the public form of a score; raises Invalid for a metric that there is not."""
        out = ScoreOut.of(score)
        known: dict[str, Any] = {
            "cost": out.cost, "cost_ratio": out.cost_ratio, "length_km": out.length_km,
            "habitat_quality": out.habitat_quality, "conflict_exposure_km": out.conflict_exposure_km,
            "min_width_m": out.min_width_m, "mean_width_m": out.mean_width_m,
            **{name: term.value for name, term in out.terms.items()},
        }  # fmt: skip
        if unknown := sorted(set(asked.metrics or ()) - known.keys()):
            raise Invalid(f"metrics: there is no {unknown[0]}; there are {', '.join(sorted(known))}")
        wanted = asked.metrics or known
        return cls(
            species=asked.species,
            score=out,
            metrics={name: known[name] for name in wanted if known[name] is not None},
        )


def _place(point: Point) -> Place:
    return Place(lon_deg=point.lon, lat_deg=point.lat)
