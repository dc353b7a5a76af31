"""The live views of the original platform: each active animal, where it is, how it moves and what models say of it.

What no model says is null, in the places where clients look for it, and ``missing`` tells why.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from shared.domain import Fix, RiskLevel, ZoneType
from shared.insight import Ahead, AnimalInsight, Predicted, Recommendation
from shared.movement.areas import Nearby
from shared.movement.geodesy import headings_deg, step_between, step_lengths_m
from shared.movement.kinds import is_meant
from shared.movement.season import Season, season
from shared.wire.public import battery_level, speed_kmh

#: Two fixes further apart say nothing about how the animal moves now.
LONGEST_GAP = timedelta(hours=24)
#: A move shorter than the receiver's own error has no direction.
SHORTEST_STEP_M = 10.0


class CurrentPosition(Struct, frozen=True, kw_only=True):
    """The newest usable position: when the collar took it, and when a home heard of it.

    ``area`` is the name of the protected area that stands for a place which the caller may not see.
    """

    lat: float | None
    lon: float | None
    altitude: float | None
    timestamp: datetime
    received_at: datetime
    area: str | None = None


class PredictedPosition(Struct, frozen=True, kw_only=True):
    """Where a model expects the animal, and the radii that hold it with 50 and 90 %; null where none says so."""

    lat: float | None = None
    lon: float | None = None
    prediction_time: datetime | None = None
    radius_50_m: float | None = None
    radius_90_m: float | None = None


class PredictionOut(Struct, frozen=True, kw_only=True):
    """Where a model expects the animal; two ellipses hold it with 50 and 90 %, ``bearing`` is of their long axis."""

    timestamp: datetime
    hours: float
    lat: float
    lon: float
    semi_major_50_m: float
    semi_minor_50_m: float
    semi_major_90_m: float
    semi_minor_90_m: float
    bearing: float
    model: str

    @classmethod
    def of(cls, found: Predicted) -> PredictionOut:
        """Return the public form of a prediction."""
        return cls(
            timestamp=found.at,
            hours=found.horizon_h,
            lat=round(found.lat_deg, 6),
            lon=round(found.lon_deg, 6),
            semi_major_50_m=round(found.semi_major_50_m, 1),
            semi_minor_50_m=round(found.semi_minor_50_m, 1),
            semi_major_90_m=round(found.semi_major_90_m, 1),
            semi_minor_90_m=round(found.semi_minor_90_m, 1),
            bearing=round(found.bearing_deg, 1),
            model=found.model,
        )


class Movement(Struct, frozen=True, kw_only=True):
    """How it moves, from its last two usable fixes.

    ``behavior_state`` is a model's word for the newest step of which it is sure, which ended at ``behavior_until``.
    ``path_width_m`` is the standard deviation of the path between the last two fixes, in its middle.
    """

    speed_kmh: float | None
    directional_angle: float | None
    distance_24h_km: float | None
    activity_type: str | None
    behavior_state: str | None
    behavior_source: str | None
    behavior_confidence: float | None
    behavior_until: datetime | None
    path_width_m: float | None
    battery_level: str | None
    signal_strength: float | None


class CorridorStatus(Struct, frozen=True, kw_only=True):
    """Where it stands to the active corridors of its species; where it will stand is null while no model says so."""

    inside_corridor: bool
    corridor_name: str | None = None
    predicted_in_corridor: bool | None = None
    predicted_corridor_name: str | None = None


class CurrentRisk(Struct, frozen=True, kw_only=True):
    """The risk where it is, by the zones around it; null where no zone is near."""

    risk_level: str | None = None
    reason: str | None = None
    distance_to_conflict_km: float | None = None
    conflict_zone: str | None = None


class PredictedRisk(Struct, frozen=True, kw_only=True):
    """The risk where it is expected."""

    risk_level: str | None = None
    reason: str | None = None


class ConflictRisk(Struct, frozen=True, kw_only=True):
    """Both risks."""

    current: CurrentRisk
    predicted: PredictedRisk = PredictedRisk()


class AheadOut(Struct, frozen=True, kw_only=True):
    """A zone or corridor that an animal may walk into: how likely it is inside, how soon, and the whole course.

    ``chances`` are [hours ahead, chance that it is inside then]; ``probability`` is the greatest of them and
    ``lead_hours`` where that is.
    """

    kind: Literal["zone", "corridor"]
    id: str
    name: str
    zone_type: ZoneType | None
    risk_level: RiskLevel | None
    probability: float
    lead_hours: float
    chances: list[tuple[float, float]]

    @classmethod
    def of(cls, ahead: Ahead) -> AheadOut:
        """Return the public form of what lies ahead."""
        lead_hours, probability = ahead.likeliest
        return cls(
            kind=ahead.kind,
            id=ahead.id,
            name=ahead.name,
            zone_type=ahead.zone_type,
            risk_level=ahead.risk_level,
            probability=probability,
            lead_hours=lead_hours,
            chances=list(ahead.chances),
        )


class AlertSummary(Struct, frozen=True, kw_only=True):
    """Its active alerts."""

    active_count: int
    has_critical: bool
    latest_alert: str | None


class LiveStatusOut(Struct, frozen=True, kw_only=True):
    """One active animal with a position; ``cell_deg``: it is the centre of a cell of this side.

    ``models``: what spoke, by stage; ``missing``: why a stage did not.
    """

    animal_id: str
    name: str
    species: str
    collar_id: str | None
    cell_deg: float | None
    current_position: CurrentPosition
    predicted_position: PredictedPosition
    predictions: list[PredictionOut]
    movement: Movement
    corridor_status: CorridorStatus
    conflict_risk: ConflictRisk
    alerts: AlertSummary
    last_update: datetime
    models: dict[str, str]
    missing: dict[str, str]
    habitat_suitability: float | None = None
    early_warnings: list[AheadOut] = []

    @classmethod
    def of(cls, said: AnimalInsight) -> LiveStatusOut:
        """Return the public form of an animal and what models say of it."""
        live, fix, step = said.live, said.live.fix, said.step
        mps, heading_deg = movement(live.previous, fix)
        corridor = corridor_inside(live.animal.species, said.nearby)
        ahead = corridor_inside(live.animal.species, said.predicted_nearby)
        risk = current_risk(said.predicted_nearby)
        return cls(
            animal_id=live.animal.id,
            name=live.animal.name,
            species=live.animal.species,
            collar_id=live.animal.collar_id,
            cell_deg=said.cell_deg,
            current_position=CurrentPosition(
                lat=fix.lat_deg,
                lon=fix.lon_deg,
                altitude=fix.alt_m,
                timestamp=fix.recorded_at,
                received_at=fix.received_at,
                area=fix.area,
            ),
            predicted_position=_predicted(said.predicted),
            predictions=[PredictionOut.of(each) for each in said.predicted],
            movement=Movement(
                speed_kmh=speed_kmh(mps),
                directional_angle=None if heading_deg is None else round(heading_deg, 1),
                distance_24h_km=None if said.distance_24h_m is None else round(said.distance_24h_m / 1000, 3),
                activity_type=fix.activity_type,
                behavior_state=None if step is None else step.state,
                behavior_source=said.models.get("behaviour"),
                behavior_confidence=None if step is None else round(step.confidence, 3),
                behavior_until=None if step is None else step.ended_at,
                path_width_m=None if said.path_sd_m is None else round(said.path_sd_m, 1),
                battery_level=battery_level(fix.battery_pct, fix.battery_mv),
                signal_strength=fix.rssi_dbm,
            ),
            corridor_status=CorridorStatus(
                inside_corridor=corridor is not None,
                corridor_name=None if corridor is None else corridor.name,
                predicted_in_corridor=ahead is not None if said.predicted else None,
                predicted_corridor_name=None if ahead is None else ahead.name,
            ),
            conflict_risk=ConflictRisk(
                current=current_risk(said.nearby),
                predicted=PredictedRisk(risk_level=risk.risk_level, reason=risk.reason),
            ),
            alerts=AlertSummary(
                active_count=said.alerts.active_count,
                has_critical=said.alerts.has_critical,
                latest_alert=said.alerts.latest_title,
            ),
            last_update=fix.recorded_at,
            models=dict(said.models),
            missing=dict(said.missing),
            habitat_suitability=None if said.suitability is None else round(said.suitability, 3),
            early_warnings=[AheadOut.of(each) for each in said.ahead],
        )


class TrackedOut(Struct, frozen=True, kw_only=True):
    """One animal of ``live_tracking``; coordinates are [latitude, longitude].

    ``recommendation``, ``bearing`` (degrees from north), ``corridor_id``, ``reward`` and its terms are the corridor
    policy's; ``models`` names it, and ``missing`` tells why a stage says nothing.
    """

    species: str
    individual_id: str
    name: str
    current_coords: list[float] | None
    predicted_coords: list[float] | None
    timestamp: datetime
    state: str | None
    confidence: float | None
    speed_kmh: float | None
    heading: float | None
    distance_24h_km: float | None
    in_corridor: bool
    corridor_name: str | None
    risk_zone: str | None
    risk_level: str | None
    active_alerts: int
    reward: float | None
    recommendation: Recommendation | None
    models: dict[str, str]
    missing: dict[str, str]
    habitat_suitability: float | None = None
    early_warnings: list[AheadOut] = []
    current_area: str | None = None
    bearing: float | None = None
    corridor_id: str | None = None
    reward_terms: dict[str, float] = {}

    @classmethod
    def of(cls, said: AnimalInsight) -> TrackedOut:
        """Return the public form of an animal and what models say of it."""
        status, advice = LiveStatusOut.of(said), said.advice
        here, there = status.current_position, status.predicted_position
        return cls(
            species=status.species,
            individual_id=status.animal_id,
            name=status.name,
            current_coords=None if here.lat is None or here.lon is None else [here.lat, here.lon],
            predicted_coords=None if there.lat is None or there.lon is None else [there.lat, there.lon],
            timestamp=status.last_update,
            state=status.movement.behavior_state,
            confidence=status.movement.behavior_confidence,
            speed_kmh=status.movement.speed_kmh,
            heading=status.movement.directional_angle,
            distance_24h_km=status.movement.distance_24h_km,
            in_corridor=status.corridor_status.inside_corridor,
            corridor_name=status.corridor_status.corridor_name,
            risk_zone=status.conflict_risk.current.conflict_zone,
            risk_level=status.conflict_risk.current.risk_level,
            active_alerts=status.alerts.active_count,
            reward=None if advice is None else advice.reward,
            recommendation=None if advice is None else advice.recommendation,
            models=status.models,
            missing=status.missing,
            habitat_suitability=status.habitat_suitability,
            early_warnings=status.early_warnings,
            current_area=here.area,
            bearing=None if advice is None else advice.bearing_deg,
            corridor_id=None if advice is None else advice.corridor_id,
            reward_terms={} if advice is None else advice.terms,
        )


class LiveTrackingOut(Struct, frozen=True, kw_only=True):
    """Every active animal. ``season`` is that of most of them; null outside Africa."""

    timestamp: datetime
    season: Season | None
    species_data: list[TrackedOut]

    @classmethod
    def of(cls, said: list[AnimalInsight], now: datetime) -> LiveTrackingOut:
        """Return the public form of all animals."""
        return cls(timestamp=now, season=_season(said, now), species_data=[TrackedOut.of(each) for each in said])


def _season(said: list[AnimalInsight], now: datetime) -> Season | None:
    places = [(each.live.fix.lon_deg, each.live.fix.lat_deg) for each in said]
    seasons = [season(lon, lat, now) for lon, lat in places if lon is not None and lat is not None]
    return max(seasons, key=seasons.count) if seasons else None


def _predicted(predicted: tuple[Predicted, ...]) -> PredictedPosition:
    """Return the nearest prediction."""
    if not predicted:
        return PredictedPosition()
    first = PredictionOut.of(predicted[0])
    return PredictedPosition(
        lat=first.lat, lon=first.lon, prediction_time=first.timestamp, radius_50_m=first.semi_major_50_m,
        radius_90_m=first.semi_major_90_m,
    )  # fmt: skip


def corridor_inside(species: str, nearby: tuple[Nearby, ...]) -> Nearby | None:
    """Return the active corridor for a species that a place is in."""
    inside = (near for near in nearby if near.kind == "corridor" and near.is_inside and near.status == "active")
    return next((near for near in inside if is_meant(near.species, species)), None)


def current_risk(nearby: tuple[Nearby, ...]) -> CurrentRisk:
    """Return the risk by the zones around a place: the highest of those it is in, else in whose buffer, else none.

    A protected area is no conflict. In a zone's buffer the risk is one level below the zone's.
    """
    zones = [near for near in nearby if near.kind == "zone" and near.zone_type != "protected_area"]
    if not zones:
        return CurrentRisk()
    worst = max(zones, key=lambda near: (_risk(near), -near.distance_m))
    level, reason = _LEVELS[_risk(worst)], f"{worst.distance_m / 1000:.1f} km from {worst.name}"
    if worst.is_inside:
        reason = f"inside {worst.name}"
    elif worst.distance_m <= worst.buffer_m:
        reason = f"within the buffer of {worst.name}"
    else:
        worst = min(zones, key=lambda near: near.distance_m)
    return CurrentRisk(
        risk_level=level,
        reason=reason,
        distance_to_conflict_km=round(worst.distance_m / 1000, 3),
        conflict_zone=worst.name,
    )


_LEVELS = ("low", "medium", "high")


def _risk(near: Nearby) -> int:
    level = _LEVELS.index(near.risk_level or "low")
    if near.is_inside:
        return level
    return max(0, level - 1) if near.distance_m <= near.buffer_m else 0


def movement(previous: Fix | None, fix: Fix) -> tuple[float | None, float | None]:
    """Return (speed in m/s, heading in degrees) between two fixes.

    Where they are too far apart in time to mean anything, or there is only one, what the receiver said stands.
    """
    points = (previous.lon_deg, previous.lat_deg, fix.lon_deg, fix.lat_deg) if previous else (None,) * 4
    lon_a, lat_a, lon_b, lat_b = points
    if previous is None or lon_a is None or lat_a is None or lon_b is None or lat_b is None:
        return fix.speed_mps, fix.heading_deg
    gap = fix.recorded_at - previous.recorded_at
    if not timedelta(0) < gap <= LONGEST_GAP:
        return fix.speed_mps, fix.heading_deg
    length_m, heading_deg = step_between(lon_a, lat_a, lon_b, lat_b)
    return length_m / gap.total_seconds(), heading_deg if length_m >= SHORTEST_STEP_M else None


def heading_between(lon_deg: npt.NDArray[np.float64], lat_deg: npt.NDArray[np.float64]) -> float | None:
    """Return the heading from the first of two places to the second; None where they are too near each other."""
    if float(step_lengths_m(lon_deg, lat_deg)[0]) < SHORTEST_STEP_M:
        return None
    return float(headings_deg(lon_deg, lat_deg)[0])
