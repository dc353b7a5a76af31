"""The live view of the original platform: each active animal, where it is and how it moves.

What no model of this version fills is null, in the places where clients look for it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from msgspec import Struct

from shared.domain import Fix
from shared.movement.geodesy import headings_deg, step_lengths_m
from shared.store import LiveAnimal
from shared.wire.public import battery_level, speed_kmh

#: Two fixes further apart say nothing about how the animal moves now.
LONGEST_GAP = timedelta(hours=24)
#: A move shorter than the receiver's own error has no direction.
SHORTEST_STEP_M = 10.0


class CurrentPosition(Struct, frozen=True, kw_only=True):
    """The newest usable position."""

    lat: float | None
    lon: float | None
    altitude: float | None
    timestamp: datetime


class PredictedPosition(Struct, frozen=True, kw_only=True):
    """Where a model expects the animal; null where none says so."""

    lat: float | None = None
    lon: float | None = None
    prediction_time: datetime | None = None


class Movement(Struct, frozen=True, kw_only=True):
    """How it moves, from its last two usable fixes; ``behavior_state`` is a model's word."""

    speed_kmh: float | None
    directional_angle: float | None
    activity_type: str | None
    behavior_state: str | None
    behavior_source: str | None
    battery_level: str | None
    signal_strength: float | None


class CorridorStatus(Struct, frozen=True, kw_only=True):
    """Where it stands to the corridors; null while none are known."""

    inside_corridor: bool | None = None
    corridor_name: str | None = None
    predicted_in_corridor: bool | None = None
    predicted_corridor_name: str | None = None


class CurrentRisk(Struct, frozen=True, kw_only=True):
    """The risk where it is."""

    risk_level: str | None = None
    reason: str | None = None
    distance_to_conflict_km: float | None = None
    conflict_zone: str | None = None


class PredictedRisk(Struct, frozen=True, kw_only=True):
    """The risk where it is expected."""

    risk_level: str | None = None
    reason: str | None = None


class ConflictRisk(Struct, frozen=True, kw_only=True):
    """Both risks; null while no zones are known."""

    current: CurrentRisk = CurrentRisk()
    predicted: PredictedRisk = PredictedRisk()


class AlertSummary(Struct, frozen=True, kw_only=True):
    """What rangers were told of it; null while nothing raises alerts."""

    active_count: int | None = None
    has_critical: bool | None = None
    latest_alert: str | None = None


class LiveStatusOut(Struct, frozen=True, kw_only=True):
    """One active animal with a position."""

    animal_id: str
    name: str
    species: str
    collar_id: str | None
    current_position: CurrentPosition
    predicted_position: PredictedPosition
    movement: Movement
    corridor_status: CorridorStatus
    conflict_risk: ConflictRisk
    alerts: AlertSummary
    last_update: datetime

    @classmethod
    def of(cls, live: LiveAnimal) -> LiveStatusOut:
        """Return the public form of an animal and its last fixes."""
        fix = live.fix
        mps, heading_deg = movement(live.previous, fix)
        return cls(
            animal_id=live.animal.id,
            name=live.animal.name,
            species=live.animal.species,
            collar_id=live.animal.collar_id,
            current_position=CurrentPosition(
                lat=fix.lat_deg, lon=fix.lon_deg, altitude=fix.alt_m, timestamp=fix.recorded_at
            ),
            predicted_position=PredictedPosition(),
            movement=Movement(
                speed_kmh=speed_kmh(mps),
                directional_angle=None if heading_deg is None else round(heading_deg, 1),
                activity_type=fix.activity_type,
                behavior_state=None,
                behavior_source=None,
                battery_level=battery_level(fix.battery_pct, fix.battery_mv),
                signal_strength=fix.rssi_dbm,
            ),
            corridor_status=CorridorStatus(),
            conflict_risk=ConflictRisk(),
            alerts=AlertSummary(),
            last_update=fix.recorded_at,
        )


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
    lon_deg, lat_deg = np.array([lon_a, lon_b]), np.array([lat_a, lat_b])
    step_m = float(step_lengths_m(lon_deg, lat_deg)[0])
    heading_deg = float(headings_deg(lon_deg, lat_deg)[0]) if step_m >= SHORTEST_STEP_M else None
    return step_m / gap.total_seconds(), heading_deg
