"""What models say of one animal, in the original platform's words: behaviour, trail and occurrence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from msgspec import Struct

from shared.domain import Animal, Fix
from shared.insight import AnimalInsight, Behaviour, LikelyPath, Occurrence, StepSaid
from shared.movement.geodesy import headings_deg
from shared.wire.live import movement
from shared.wire.public import speed_kmh

#: What every map of occurrence must say of itself.
MEANING = "Occurrence during the record: where the animal was while it was followed. It is not a home range."


class ShareOut(Struct, frozen=True):
    """How many steps were of a state, and of how many percent that is."""

    count: int
    percentage: float


class RecentOut(Struct, frozen=True, kw_only=True):
    """One step, by the fix at which it ended; ``is_settled``: later fixes will not change it."""

    timestamp: datetime
    behavior: str
    confidence: float
    is_settled: bool
    speed_kmh: float | None
    direction: float | None


class AnalysisOut(Struct, frozen=True, kw_only=True):
    """The states of an animal's steps over some hours; ``missing``: why there are none."""

    animal_id: str
    animal_name: str
    species: str
    time_period_hours: int
    points_analyzed: int
    current_behavior: str | None
    behavior_distribution: dict[str, ShareOut]
    recent_behaviors: list[RecentOut]
    model_used: str | None
    step_hours: float | None
    missing: str | None

    @classmethod
    def of(cls, animal: Animal, found: Behaviour, fixes: Sequence[Fix], hours: int, recent: int) -> AnalysisOut:
        """Return the public form; ``fixes`` give the directions of the newest ``recent`` steps."""
        counts = Counter(step.state for step in found.steps)
        places = {fix.recorded_at: fix for fix in fixes}
        settled = [step for step in found.steps if step.is_settled] or found.steps
        return cls(
            animal_id=animal.id,
            animal_name=animal.name,
            species=animal.species,
            time_period_hours=hours,
            points_analyzed=len(found.steps),
            current_behavior=settled[-1].state if settled else None,
            behavior_distribution={
                state: ShareOut(count, round(100 * count / len(found.steps), 1))
                for state, count in counts.most_common()
            },
            recent_behaviors=[_recent(step, places) for step in reversed(found.steps[-recent:])],
            model_used=found.model,
            step_hours=None if found.interval_s is None else found.interval_s / 3600,
            missing=found.missing,
        )


class SummaryRow(Struct, frozen=True, kw_only=True):
    """One animal of the summary."""

    animal_id: str
    name: str
    species: str
    current_behavior: str | None
    confidence: float | None
    speed_kmh: float | None
    last_update: datetime
    missing: str | None


class SummaryOut(Struct, frozen=True, kw_only=True):
    """What every active animal does now; ``model_used`` gives for each model how many animals it speaks of."""

    total_animals: int
    animals: list[SummaryRow]
    distribution: dict[str, int]
    model_used: dict[str, int]
    timestamp: datetime

    @classmethod
    def of(cls, said: Sequence[AnimalInsight], now: datetime) -> SummaryOut:
        """Return the public form."""
        rows = [
            SummaryRow(
                animal_id=each.live.animal.id,
                name=each.live.animal.name,
                species=each.live.animal.species,
                current_behavior=None if each.step is None else each.step.state,
                confidence=None if each.step is None else round(each.step.confidence, 3),
                speed_kmh=speed_kmh(movement(each.live.previous, each.live.fix)[0]),
                last_update=each.live.fix.recorded_at,
                missing=each.missing.get("behaviour"),
            )
            for each in said
        ]
        return cls(
            total_animals=len(rows),
            animals=rows,
            distribution=dict(Counter(row.current_behavior for row in rows if row.current_behavior is not None)),
            model_used=dict(Counter(each.models["behaviour"] for each in said if "behaviour" in each.models)),
            timestamp=now,
        )


class TrailPoint(Struct, frozen=True, kw_only=True):
    """One usable fix, and the state of the step that ended there."""

    timestamp: datetime
    lat: float
    lon: float
    behavior: str | None
    confidence: float | None


class PathPointOut(Struct, frozen=True, kw_only=True):
    """Where the animal probably was between fixes; the radii hold it with 50 and 95 %."""

    timestamp: datetime
    lat: float
    lon: float
    radius_50_m: float
    radius_95_m: float


class TrailOut(Struct, frozen=True, kw_only=True):
    """The fixes of a span by time, the likely path between them, and both as GeoJSON lines."""

    animal_id: str
    animal_name: str
    species: str
    since: datetime
    until: datetime
    fixes: list[TrailPoint]
    path: list[PathPointOut]
    geojson: dict[str, Any]
    models: dict[str, str]
    missing: dict[str, str]

    @classmethod
    def of(
        cls,
        animal: Animal,
        fixes: Sequence[Fix],
        found: Behaviour,
        path: LikelyPath,
        since: datetime,
        until: datetime,
    ) -> TrailOut:
        """Return the public form."""
        states = {step.ended_at: step for step in found.steps}
        points = [_trail_point(fix, states.get(fix.recorded_at)) for fix in fixes]
        said = {"behaviour": (found.model, found.missing), "path": (path.model, path.missing)}
        return cls(
            animal_id=animal.id,
            animal_name=animal.name,
            species=animal.species,
            since=since,
            until=until,
            fixes=points,
            path=[
                PathPointOut(
                    timestamp=point.at, lat=point.lat_deg, lon=point.lon_deg, radius_50_m=round(point.radius_50_m, 1),
                    radius_95_m=round(point.radius_95_m, 1),
                )
                for point in path.points
            ],
            geojson=_line([[point.lon, point.lat] for point in points], {"animal_id": animal.id, "name": animal.name}),
            models={stage: model for stage, (model, _) in said.items() if model is not None},
            missing={stage: reason for stage, (_, reason) in said.items() if reason is not None},
        )  # fmt: skip


class OccurrenceOut(Struct, frozen=True, kw_only=True):
    """Occurrence as a GeoJSON FeatureCollection, the wider region first, and what it was made with."""

    type: str
    features: list[dict[str, Any]]
    meaning: str
    since: datetime
    until: datetime
    cell_m: float
    sigma_m_per_root_s: float
    location_error_m: float
    mass_on_grid: float
    bridges: int
    gaps: int
    gap_hours: float
    fixes_dropped: int
    model: str

    @classmethod
    def of(cls, animal: Animal, found: Occurrence) -> OccurrenceOut:
        """Return the public form."""
        regions = ((0.95, found.region_95, found.area_95_km2), (0.5, found.region_50, found.area_50_km2))
        return cls(
            type="FeatureCollection",
            features=[
                {
                    "type": "Feature",
                    "geometry": geometry,
                    "properties": {"animal_id": animal.id, "share": share, "area_km2": round(area_km2, 4)},
                }
                for share, geometry, area_km2 in regions
            ],
            meaning=MEANING,
            since=found.since,
            until=found.until,
            cell_m=found.cell_m,
            sigma_m_per_root_s=round(found.sigma_m_per_root_s, 4),
            location_error_m=round(found.location_error_m, 2),
            mass_on_grid=round(found.mass_on_grid, 4),
            bridges=found.bridges,
            gaps=found.gaps,
            gap_hours=round(found.gap_hours, 2),
            fixes_dropped=found.fixes_dropped,
            model=found.model,
        )


def _recent(step: StepSaid, places: Mapping[datetime, Fix]) -> RecentOut:
    seconds = (step.ended_at - step.started_at).total_seconds()
    return RecentOut(
        timestamp=step.ended_at,
        behavior=step.state,
        confidence=round(step.confidence, 3),
        is_settled=step.is_settled,
        speed_kmh=speed_kmh(step.step_m / seconds if seconds > 0 else None),
        direction=_direction_deg(places.get(step.started_at), places.get(step.ended_at), step.step_m),
    )


def _direction_deg(start: Fix | None, end: Fix | None, step_m: float) -> float | None:
    if start is None or end is None or step_m <= 0:
        return None
    lon = np.array([start.lon_deg, end.lon_deg], dtype=np.float64)
    lat = np.array([start.lat_deg, end.lat_deg], dtype=np.float64)
    return round(float(headings_deg(lon, lat)[0]), 1)


def _trail_point(fix: Fix, step: StepSaid | None) -> TrailPoint:
    assert fix.lon_deg is not None
    assert fix.lat_deg is not None
    return TrailPoint(
        timestamp=fix.recorded_at,
        lat=fix.lat_deg,
        lon=fix.lon_deg,
        behavior=None if step is None else step.state,
        confidence=None if step is None else round(step.confidence, 3),
    )


def _line(corners: list[list[float]], properties: dict[str, Any]) -> dict[str, Any]:
    geometry = {"type": "LineString", "coordinates": corners} if len(corners) > 1 else None
    return {"type": "Feature", "geometry": geometry, "properties": properties}
