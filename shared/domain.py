"""The nouns of Outpost. Values only: no database, no socket, no clock.

Instants are aware UTC datetimes. ``recorded_at`` is the collar's own clock after correction, ``raw_recorded_at`` before
it, ``received_at`` the station's. Positions are WGS 84 degrees. ``None`` means not known, never zero.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Literal

import msgspec

FixSource = Literal["collar", "gps", "manual", "imported"]
AnimalStatus = Literal["active", "inactive", "deceased", "missing"]
HealthStatus = Literal["healthy", "injured", "sick", "unknown"]
Gender = Literal["male", "female", "unknown"]
ObservationType = Literal["sighting", "behavior", "health", "environment"]
ZoneType = Literal["agriculture", "settlement", "road", "infrastructure", "protected_area", "buffer_zone"]
RiskLevel = Literal["low", "medium", "high"]
CorridorStatus = Literal["active", "inactive", "planned", "under_review"]
AlertType = Literal[
    "high_risk_zone", "poaching_risk", "corridor_exit", "rapid_movement", "low_battery", "weak_signal",
    "stationary_too_long", "unusual_behavior", "zone_warning", "silent_collar", "proximity", "collar_fault",
    "ranger_emergency",
]  # fmt: skip
Severity = Literal["low", "medium", "high", "critical"]
PredictionType = Literal["movement", "habitat", "corridor"]
EventName = Literal["fix", "state", "alert", "link", "clock", "sync"]
AlertStatus = Literal["active", "acknowledged", "resolved", "false_alarm"]
DutyStatus = Literal["on_duty", "off_duty", "on_leave", "emergency_response"]
RangerActivity = Literal["patrolling", "stationary", "responding", "resting", "traveling"]
PatrolLogType = Literal[
    "patrol_start", "patrol_end", "animal_sighting", "emergency", "incident", "checkpoint", "rest_break", "other",
]  # fmt: skip
RouteStatus = Literal["planned", "in_progress", "completed", "cancelled"]


class FixFlag(enum.IntFlag):
    """What the quality rules found; a flagged fix stays visible. Values are stored: never renumber."""

    DUPLICATE = 1 << 0  # a coarser copy of another fix of the same collar
    POSITION_DISAGREEMENT = 1 << 1  # another place at the same instant
    NULL_ISLAND = 1 << 2  # (0, 0), its surroundings, or power-of-two garbage
    OUT_OF_RANGE = 1 << 3  # beyond 90 or 180 degrees: kept without geometry
    FUTURE = 1 << 4  # recorded after it was received, on a sure clock
    WEEK_ROLLOVER = 1 << 5  # 1024 weeks were added; informative, does not exclude
    IMPOSSIBLE_SPEED = 1 << 6  # faster than the species can be, in and out
    POOR_DOP = 1 << 7
    FEW_SATELLITES = 1 << 8
    OUT_OF_ORDER = 1 << 9  # the collar's sequence number contradicts its clock
    CLOCK_UNSET = 1 << 10  # the collar's clock had never been set
    NO_FIX = 1 << 11  # the receiver tried and failed: an event without geometry
    EXCLUDED_BY_HAND = 1 << 12
    REINSTATED = 1 << 13  # a person overruled the rules


#: Flags that keep a fix out of the models unless REINSTATED is set.
EXCLUDING = (
    FixFlag.DUPLICATE
    | FixFlag.POSITION_DISAGREEMENT
    | FixFlag.NULL_ISLAND
    | FixFlag.OUT_OF_RANGE
    | FixFlag.FUTURE
    | FixFlag.IMPOSSIBLE_SPEED
    | FixFlag.POOR_DOP
    | FixFlag.FEW_SATELLITES
    | FixFlag.OUT_OF_ORDER
    | FixFlag.CLOCK_UNSET
    | FixFlag.NO_FIX
    | FixFlag.EXCLUDED_BY_HAND
)


def is_usable(flags: int) -> bool:
    """Say whether models and maps may use a fix with these flags."""
    if flags & FixFlag.EXCLUDED_BY_HAND:
        return False
    return bool(flags & FixFlag.REINSTATED) or not flags & EXCLUDING


class HeardDevice(msgspec.Struct, frozen=True):
    """A device that was heard, when, and what it said of itself (columns of ``collars``; None is not known)."""

    device: str
    heard_ms: int
    battery_mv: int | None = None
    battery_pct: float | None = None
    firmware: str | None = None

    def folded(self, known: HeardDevice | None) -> HeardDevice:
        """Fold this into what was known of the same device before, in whatever order both were said."""
        if known is None:
            return self
        first, last = sorted((known, self), key=lambda device: device.heard_ms)
        return HeardDevice(
            last.device,
            last.heard_ms,
            first.battery_mv if last.battery_mv is None else last.battery_mv,
            first.battery_pct if last.battery_pct is None else last.battery_pct,
            first.firmware if last.firmware is None else last.firmware,
        )


class NewFix(msgspec.Struct, frozen=True, kw_only=True):
    """A fix on its way into a store: what the device and the link said, not yet judged.

    ``device`` is a radio id (``eui:...``, ``imei:...``) or a collar id; the store resolves aliases. ``animal_id`` is
    whom the sender named; a deployment of the collar outranks it.
    """

    device: str
    recorded_at: datetime
    lon_deg: float | None
    lat_deg: float | None
    received_at: datetime
    is_clock_sure: bool = True
    network_time: datetime | None = None
    alt_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    hdop: float | None = None
    pdop: float | None = None
    sats: int | None = None
    h_acc_m: float | None = None
    seq: int | None = None
    battery_mv: int | None = None
    battery_pct: float | None = None
    temperature_c: float | None = None
    rssi_dbm: float | None = None
    snr_db: float | None = None
    is_clock_unset: bool = False
    source: FixSource = "collar"
    animal_id: str | None = None
    link: str | None = None
    local_id: str | None = None
    activity_type: str | None = None
    notes: str | None = None


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """One GPS position from a collar, as stored and judged; ``area`` names where it is where the place is not shown."""

    id: str
    collar_id: str
    animal_id: str | None
    recorded_at: datetime
    raw_recorded_at: datetime
    received_at: datetime
    network_time: datetime | None
    lon_deg: float | None
    lat_deg: float | None
    alt_m: float | None
    speed_mps: float | None
    heading_deg: float | None
    hdop: float | None
    pdop: float | None
    sats: int | None
    h_acc_m: float | None
    seq: int | None
    battery_mv: int | None
    battery_pct: float | None
    temperature_c: float | None
    rssi_dbm: float | None
    snr_db: float | None
    source: FixSource
    flags: int
    link: str | None = None
    local_id: str | None = None
    activity_type: str | None = None
    notes: str | None = None
    area: str | None = None


class Animal(msgspec.Struct, frozen=True, kw_only=True):
    """A subject; ``collar_id`` is the collar of its open deployment."""

    id: str
    name: str
    species: str
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    collar_id: str | None = None
    status: AnimalStatus = "active"
    health_status: HealthStatus = "unknown"
    gender: Gender = "unknown"
    age: float | None = None
    weight: float | None = None
    notes: str | None = None
    created_by: str | None = None


class Collar(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of hardware; ``aliases`` are the radio ids that it answers to.

    ``limits`` are its own for the quality rules, as JSON (``shared.movement.quality.CollarLimits``).
    """

    id: str
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    model: str | None = None
    fix_interval_s: int | None = None
    notes: str | None = None
    limits: str | None = None
    aliases: tuple[str, ...] = ()
    last_heard_at: datetime | None = None
    battery_mv: int | None = None
    battery_pct: float | None = None
    firmware: str | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """The interval in which a collar is on an animal: from ``started_at`` up to, not including, ``ended_at``."""

    id: str
    collar_id: str
    animal_id: str
    started_at: datetime
    ended_at: datetime | None
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    notes: str | None = None


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What a ranger reports; ``area`` names where it was where the place is not shown."""

    id: str
    observation_type: ObservationType
    recorded_at: datetime
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    animal_id: str | None = None
    description: str = ""
    lon_deg: float | None = None
    lat_deg: float | None = None
    photo_url: str | None = None
    observer: str | None = None
    local_id: str | None = None
    area: str | None = None


class Zone(msgspec.Struct, frozen=True, kw_only=True):
    """An area with a risk; ``geometry`` is GeoJSON text, a Polygon or MultiPolygon in WGS 84."""

    id: str
    name: str
    zone_type: ZoneType
    geometry: str
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    risk_level: RiskLevel = "medium"
    buffer_m: float = 0.0
    description: str = ""
    is_active: bool = True


class Corridor(msgspec.Struct, frozen=True, kw_only=True):
    """A route to keep open; ``geometry`` is GeoJSON text in WGS 84: lines with a width, or areas.

    ``width_m`` is a line's, from edge to edge; an area has 0. One without geometry is a plan between two points.
    """

    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    description: str = ""
    species: str | None = None
    status: CorridorStatus = "planned"
    start_lon_deg: float | None = None
    start_lat_deg: float | None = None
    end_lon_deg: float | None = None
    end_lat_deg: float | None = None
    geometry: str | None = None
    width_m: float = 2_000.0
    optimization_score: float | None = None
    optimization_data: str | None = None  # JSON text
    created_by: str | None = None


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What a model said when a person asked it; ``input_data`` and ``results`` are JSON text.

    A row of the home that was asked: it is worked out of what both homes have, and does not travel.
    """

    id: str
    prediction_type: PredictionType
    created_at: datetime
    input_data: str = "{}"
    results: str = "{}"
    animal_id: str | None = None
    confidence: float | None = None
    model_version: str | None = None
    created_by: str | None = None


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person should look at; ``is_late`` marks one that was found in data of the past."""

    id: str
    alert_type: AlertType
    title: str
    detected_at: datetime
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    severity: Severity = "medium"
    status: AlertStatus = "active"
    animal_id: str | None = None
    zone_id: str | None = None
    message: str = ""
    lon_deg: float | None = None
    lat_deg: float | None = None
    note: str | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    is_late: bool = False


class Patrol(msgspec.Struct, frozen=True, kw_only=True):
    """A walk or drive of rangers; ``track`` is GeoJSON text, lines in WGS 84. One without an end is under way."""

    id: str
    started_at: datetime
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    ended_at: datetime | None = None
    note: str = ""
    track: str | None = None
    created_by: str | None = None


class Team(msgspec.Struct, frozen=True, kw_only=True):
    """Rangers who patrol together."""

    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    description: str = ""
    is_active: bool = True


class Ranger(msgspec.Struct, frozen=True, kw_only=True):
    """Someone who patrols; ``user_id`` is the account. ``phone`` and ``emergency_contact`` are personal."""

    id: str
    name: str
    badge_number: str
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    user_id: str | None = None
    team_id: str | None = None
    phone: str | None = None
    emergency_contact: str | None = None
    current_status: DutyStatus = "off_duty"
    device_id: str | None = None


class RangerPosition(msgspec.Struct, frozen=True, kw_only=True):
    """Where a ranger was; never changed, so its id follows from ranger, instant and place."""

    id: str
    ranger_id: str
    recorded_at: datetime
    lon_deg: float
    lat_deg: float
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    alt_m: float | None = None
    h_acc_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    activity_type: RangerActivity = "patrolling"


class PatrolLog(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a patrol's log. An emergency that is not resolved has an alert, ``alert_id``."""

    id: str
    log_type: PatrolLogType
    title: str
    recorded_at: datetime
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    ranger_id: str | None = None
    team_id: str | None = None
    priority: Severity = "low"
    description: str = ""
    lon_deg: float | None = None
    lat_deg: float | None = None
    animal_id: str | None = None
    photo_url: str | None = None
    notes: str | None = None
    is_resolved: bool = False
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    reported_by: str | None = None
    alert_id: str | None = None
    local_id: str | None = None


class PatrolRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A patrol that is planned; ``assigned_rangers`` (ids) and ``waypoints`` ({lat, lon, name}) are JSON text."""

    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    rev: int = 1
    description: str = ""
    team_id: str | None = None
    assigned_rangers: str = "[]"
    waypoints: str = "[]"
    estimated_duration_h: float | None = None
    scheduled_start_at: datetime | None = None
    scheduled_end_at: datetime | None = None
    actual_start_at: datetime | None = None
    actual_end_at: datetime | None = None
    status: RouteStatus = "planned"
    created_by: str | None = None


class AddedFix(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one fix that was handed to a store."""

    id: str
    outcome: Literal["new", "enriched", "duplicate"]
