"""What models say of animals, as both homes serve it: values and one protocol, no model and no database.

A state is a state of movement; its name says what such movement most often is. The one shown is smoothed: it waits for
the next steps, ``is_settled`` says that it has them. Occurrence says where an animal was while it was followed; it is
not a home range, and every answer carries what it was made with.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from shared.domain import Animal, Fix, RiskLevel, ZoneType
from shared.movement.areas import Nearby
from shared.privacy import View
from shared.store import LiveAnimal


class StepSaid(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one step, from the fix at ``started_at`` to that at ``ended_at``.

    ``log_likelihood``: the log density of the step given those before it.
    """

    started_at: datetime
    ended_at: datetime
    step_m: float
    state: str
    confidence: float
    is_settled: bool
    log_likelihood: float


#: Start, end and state of a step.
StepSpan: TypeAlias = tuple[datetime, datetime, str]

ModelName: TypeAlias = Literal["hmm", "bbmm", "habitat", "forecast", "corridor"]


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is. ``degraded``: something serves, but not the best there could be; ``detail`` says why.

    ``versions`` are those that serve, by the name of the artefact.
    """

    model: ModelName
    status: Literal["ready", "degraded", "unavailable"]
    versions: Mapping[str, str] = {}
    detail: str | None = None


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of a span, by time, and the model that says so; ``missing``: why none does."""

    steps: list[StepSaid]
    model: str | None = None
    interval_s: float | None = None
    missing: str | None = None


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """Where an animal is expected at an instant, ``horizon_h`` after its newest fix, and who says so.

    Two ellipses about the place hold it with 50 and 90 %; ``bearing_deg`` is that of their long axis, clockwise from
    north.
    """

    at: datetime
    horizon_h: float
    lon_deg: float
    lat_deg: float
    semi_major_50_m: float
    semi_minor_50_m: float
    semi_major_90_m: float
    semi_minor_90_m: float
    bearing_deg: float
    model: str


class Ahead(msgspec.Struct, frozen=True, kw_only=True):
    """A zone or corridor in which an animal may be: hours ahead, and the chance that it is inside then."""

    kind: Literal["zone", "corridor"]
    id: str
    name: str
    zone_type: ZoneType | None = None
    risk_level: RiskLevel | None = None
    chances: tuple[tuple[float, float], ...] = ()

    @property
    def likeliest(self) -> tuple[float, float]:
        """The hours ahead at which it is likeliest, the first of several, and the chance then."""
        return max(self.chances, key=lambda each: (each[1], -each[0]), default=(0.0, 0.0))

    def first(self, chance: float, within_h: float) -> tuple[float, float] | None:
        """Return the first horizon, and its chance, that is as likely as ``chance``; None where none is."""
        return next((each for each in self.chances if each[0] <= within_h and each[1] >= chance), None)


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Where an animal will be, all of it as it was worked out after ``fix``, its newest that the view has.

    ``cell_deg``: the side of the cells to which places are generalised; None where they are exact.
    """

    animal: Animal
    fix: Fix
    predicted: tuple[Predicted, ...]
    cell_deg: float | None = None


Recommendation: TypeAlias = Literal[
    "continue", "stay_course", "return_to_corridor", "avoid_settlement", "avoid_risk_zone"
]


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What the corridor policy advises on an animal, and where to: ``bearing_deg`` clockwise from north.

    ``terms`` are the rewards of its walk one by one (minus their costs, in cells of the ground around), ``reward`` is
    their sum. The corridor is the one for its species that is nearest; None where none is within reach.
    """

    recommendation: Recommendation
    bearing_deg: float
    corridor_id: str | None
    corridor_name: str | None
    reward: float
    terms: dict[str, float]
    model: str


class AlertsNow(msgspec.Struct, frozen=True, kw_only=True):
    """The active alerts of an animal."""

    active_count: int = 0
    has_critical: bool = False
    latest_title: str | None = None


class AnimalInsight(msgspec.Struct, frozen=True, kw_only=True):
    """An active animal, where it is and what the models say of it.

    ``step`` is the shown one. ``distance_24h_m`` is along its usable fixes of the last day before the newest.
    ``path_sd_m`` is the width of the path between its last two fixes, in the middle. ``suitability`` is that of its
    place, 0 to 1. ``ahead``: where it may walk into, the likeliest first. ``models`` gives name and version
    of what spoke, by stage; ``missing`` why a stage does not. ``nearby``: zones and corridors, the nearest first;
    ``predicted_nearby`` the same of the first of ``predicted``, which lie ahead, by time.
    """

    live: LiveAnimal
    step: StepSaid | None
    distance_24h_m: float | None
    path_sd_m: float | None
    nearby: tuple[Nearby, ...]
    alerts: AlertsNow
    predicted: tuple[Predicted, ...] = ()
    predicted_nearby: tuple[Nearby, ...] = ()
    suitability: float | None = None
    ahead: tuple[Ahead, ...] = ()
    #: what the corridor policy advises
    advice: Advice | None = None
    models: Mapping[str, str] = {}
    missing: Mapping[str, str] = {}
    #: the side of the cell whose centre stands in the place of the position; None: the position itself
    cell_deg: float | None = None


class PathPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where an animal probably was at an instant between fixes; radii that were measured to hold it."""

    at: datetime
    lon_deg: float
    lat_deg: float
    sd_m: float
    radius_50_m: float
    radius_95_m: float


class LikelyPath(msgspec.Struct, frozen=True, kw_only=True):
    """Points along the bridges of a span, by time; none in a gap."""

    points: list[PathPoint]
    model: str | None = None
    missing: str | None = None


class Occurrence(msgspec.Struct, frozen=True, kw_only=True):
    """Where an animal was during the record ``since`` to ``until``; not a home range.

    ``region_50`` and ``region_95`` are GeoJSON MultiPolygons of the smallest areas that hold the share of the time.
    ``mass_on_grid`` is the share of the time that the cells hold; far from 1 the cells are too wide for the error.
    """

    since: datetime
    until: datetime
    region_50: dict[str, Any]
    region_95: dict[str, Any]
    area_50_km2: float
    area_95_km2: float
    cell_m: float
    sigma_m_per_root_s: float
    location_error_m: float
    mass_on_grid: float
    bridges: int
    gaps: int
    gap_hours: float
    fixes_dropped: int
    model: str


class Insight(Protocol):
    """What a home's models say. Every method raises NotFound for an animal that is not there for ``view``."""

    async def live(self, view: View) -> list[AnimalInsight]:
        """Return every active animal that has a usable position, by name."""
        ...

    async def behaviour(self, view: View, animal_id: str, since: datetime, until: datetime) -> Behaviour:
        """Return the steps that ended in a span."""
        ...

    async def states(self, view: View, since: datetime, until: datetime) -> dict[str, list[StepSpan]]:
        """Return of each animal the steps that are written down, by time; nothing where none are."""
        ...

    async def path(self, view: View, animal_id: str, since: datetime, until: datetime, points: int) -> LikelyPath:
        """Return the likely path, ``points`` instants evenly over the fixes of the span."""
        ...

    async def occurrence(self, view: View, animal_id: str) -> Occurrence:
        """Return occurrence; raises ModelUnavailable where there are too few fixes or no model."""
        ...

    async def occurrence_tile(self, view: View, animal_id: str, z: int, x: int, y: int) -> bytes:
        """Return occurrence as a PNG of 256 x 256 in Web Mercator; raises as ``occurrence`` does."""
        ...

    async def forecast(self, view: View, animal_id: str) -> Forecast:
        """Return where an animal will be, made from the positions that ``view`` has; raises ModelUnavailable."""
        ...

    async def statuses(self) -> list[ModelStatus]:
        """Say how each model of the movement is."""
        ...
