"""Rangers, their teams, positions, logs and planned routes in public form."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.domain import (
    DutyStatus,
    PatrolLog,
    PatrolLogType,
    PatrolRoute,
    Ranger,
    RangerActivity,
    RangerPosition,
    RouteStatus,
    Severity,
    Team,
)
from shared.errors import Invalid
from shared.store import LiveRanger
from shared.wire.public.fields import Latitude, Longitude, Name, Notes, Reference, When, given
from shared.wire.public.tracking import KMH_PER_MPS, speed_kmh
from shared.wire.reading import instant, optional_text, text

_MOST_WAYPOINTS: Final = 1_000
_MOST_RANGERS: Final = 200

Short = Annotated[str, Meta(max_length=200)]


# --- teams ------------------------------------------------------------------------------------------------------------
class TeamOut(Struct, frozen=True, kw_only=True):
    """Rangers who patrol together; ``ranger_count`` is how many belong to it."""

    id: str
    name: str
    description: str
    is_active: bool
    ranger_count: int
    created_at: datetime
    updated_at: datetime
    rev: int

    @classmethod
    def of(cls, team: Team, counts: Mapping[str, int]) -> TeamOut:
        """Return the public form of ``team``; ``counts`` are rangers by team."""
        return cls(
            id=team.id, name=team.name, description=team.description, is_active=team.is_active,
            ranger_count=counts.get(team.id, 0), created_at=team.created_at, updated_at=team.updated_at, rev=team.rev,
        )  # fmt: skip


class TeamPatch(Struct, kw_only=True):
    """Changes to a team; what is not named stays."""

    name: Name | UnsetType = UNSET
    description: Notes | UnsetType | None = UNSET
    is_active: bool | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns: dict[str, Any] = {}
        if isinstance(self.name, str):
            columns["name"] = text("name", self.name)
        if self.description is not UNSET:
            columns["description"] = optional_text("description", self.description) or ""
        if self.is_active is not UNSET:
            columns["is_active"] = self.is_active is not False
        return columns


class TeamIn(TeamPatch, kw_only=True):
    """A new team, or all that a person may say of one."""

    name: Name


# --- rangers ----------------------------------------------------------------------------------------------------------
class RangerOut(Struct, frozen=True, kw_only=True):
    """Someone who patrols; ``phone`` and ``emergency_contact`` are null for all but managers and the person."""

    id: str
    user: str | None
    name: str
    badge_number: str
    team: str | None
    phone: str | None
    emergency_contact: str | None
    current_status: DutyStatus
    device_id: str | None
    created_at: datetime
    updated_at: datetime
    rev: int

    @classmethod
    def of(cls, ranger: Ranger) -> RangerOut:
        """Return the public form of ``ranger``."""
        return cls(
            id=ranger.id, user=ranger.user_id, name=ranger.name, badge_number=ranger.badge_number, team=ranger.team_id,
            phone=ranger.phone, emergency_contact=ranger.emergency_contact, current_status=ranger.current_status,
            device_id=ranger.device_id, created_at=ranger.created_at, updated_at=ranger.updated_at, rev=ranger.rev,
        )  # fmt: skip


class RangerPatch(Struct, kw_only=True):
    """Changes to a ranger; what is not named stays. Rangers change status, device and numbers of their own alone."""

    user: Reference | UnsetType | None = UNSET
    name: Name | UnsetType | None = UNSET
    badge_number: Annotated[str, Meta(min_length=1, max_length=50)] | UnsetType = UNSET
    team: Reference | UnsetType | None = UNSET
    phone: Short | UnsetType | None = UNSET
    emergency_contact: Short | UnsetType | None = UNSET
    current_status: DutyStatus | UnsetType | None = UNSET
    device_id: Short | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns: dict[str, Any] = {}
        if self.user is not UNSET:
            columns["user_id"] = self.user or None
        if self.team is not UNSET:
            columns["team_id"] = self.team or None
        if isinstance(self.name, str):
            columns["name"] = text("name", self.name)
        if isinstance(self.badge_number, str):
            columns["badge_number"] = text("badge_number", self.badge_number)
        for field in ("phone", "emergency_contact", "device_id"):
            if not isinstance(value := getattr(self, field), UnsetType):
                columns[field] = optional_text(field, value)
        if self.current_status is not UNSET:
            columns["current_status"] = self.current_status or "off_duty"
        return columns


class RangerIn(RangerPatch, kw_only=True):
    """A new ranger, or all that a person may say of one; without a name it is the account's."""

    badge_number: Annotated[str, Meta(min_length=1, max_length=50)]


class RangerStats(Struct, frozen=True, kw_only=True):
    """How many rangers there are, and how many in each state of duty."""

    total: int
    by_status: dict[DutyStatus, int]


class RangerPlace(Struct, frozen=True, kw_only=True):
    """The newest position of a ranger."""

    lat: float
    lon: float
    altitude: float | None
    accuracy: float | None
    timestamp: datetime


class OpenEmergency(Struct, frozen=True, kw_only=True):
    """An emergency that nobody has resolved."""

    id: str
    title: str
    priority: Severity
    timestamp: datetime


class LiveRangerOut(Struct, frozen=True, kw_only=True):
    """Where a ranger was last, and what with; ``age_s`` is how long ago that was, by this home's clock."""

    ranger_id: str
    name: str
    badge_number: str
    team: str | None
    team_name: str | None
    current_status: DutyStatus
    last_active: datetime | None
    current_position: RangerPlace | None
    activity_type: RangerActivity | None
    speed_kmh: float | None
    directional_angle: float | None
    age_s: float | None
    emergencies: list[OpenEmergency]

    @classmethod
    def of(cls, live: LiveRanger, now: datetime) -> LiveRangerOut:
        """Return the public form of ``live`` at ``now``."""
        ranger, at = live.ranger, live.position
        return cls(
            ranger_id=ranger.id,
            name=ranger.name,
            badge_number=ranger.badge_number,
            team=ranger.team_id,
            team_name=None if live.team is None else live.team.name,
            current_status=ranger.current_status,
            last_active=None if at is None else at.recorded_at,
            current_position=None
            if at is None
            else RangerPlace(
                lat=at.lat_deg, lon=at.lon_deg, altitude=at.alt_m, accuracy=at.h_acc_m, timestamp=at.recorded_at
            ),
            activity_type=None if at is None else at.activity_type,
            speed_kmh=None if at is None else speed_kmh(at.speed_mps),
            directional_angle=None if at is None else at.heading_deg,
            age_s=None if at is None else (now - at.recorded_at).total_seconds(),
            emergencies=[
                OpenEmergency(id=line.id, title=line.title, priority=line.priority, timestamp=line.recorded_at)
                for line in live.emergencies
            ],
        )


# --- positions --------------------------------------------------------------------------------------------------------
class RangerPositionOut(Struct, frozen=True, kw_only=True):
    """Where a ranger was."""

    id: str
    ranger: str
    timestamp: datetime
    lat: float
    lon: float
    altitude: float | None
    accuracy: float | None
    speed_kmh: float | None
    directional_angle: float | None
    activity_type: RangerActivity
    created_at: datetime

    @classmethod
    def of(cls, position: RangerPosition) -> RangerPositionOut:
        """Return the public form of ``position``."""
        return cls(
            id=position.id, ranger=position.ranger_id, timestamp=position.recorded_at, lat=position.lat_deg,
            lon=position.lon_deg, altitude=position.alt_m, accuracy=position.h_acc_m,
            speed_kmh=speed_kmh(position.speed_mps), directional_angle=position.heading_deg,
            activity_type=position.activity_type, created_at=position.created_at,
        )  # fmt: skip


class RangerPositionIn(Struct, kw_only=True):
    """Where a ranger is or was; without ``ranger`` the caller."""

    timestamp: When
    lat: Latitude
    lon: Longitude
    ranger: Reference | None = None
    ranger_id: Reference | None = None
    altitude: Annotated[float, Meta(ge=-12_000, le=100_000, description="Metres.")] | None = None
    accuracy: Annotated[float, Meta(ge=0, le=1_000_000, description="Metres.")] | None = None
    speed_kmh: Annotated[float, Meta(le=2_000)] | None = None
    directional_angle: Annotated[float, Meta(le=360, description="Degrees from north, clockwise.")] | None = None
    heading: Annotated[float, Meta(le=360, description="The same, as phones call it.")] | None = None
    activity_type: RangerActivity | None = None
    local_id: Annotated[str, Meta(max_length=100)] | None = None

    @property
    def ranger_reference(self) -> str | None:
        """The ranger that was named, under either key."""
        return self.ranger or self.ranger_id or None

    def columns(self) -> dict[str, Any]:
        """Return the columns to store but the ranger's; raises Invalid."""
        heading = self.directional_angle if self.directional_angle is not None else self.heading
        return {
            "recorded_at": instant("timestamp", self.timestamp),
            "lat_deg": self.lat,
            "lon_deg": self.lon,
            "alt_m": self.altitude,
            "h_acc_m": self.accuracy,
            "speed_mps": None if self.speed_kmh is None or self.speed_kmh < 0 else self.speed_kmh / KMH_PER_MPS,
            "heading_deg": None if heading is None or heading < 0 else heading % 360.0,
            "activity_type": self.activity_type or "patrolling",
        }


class BulkRangerPositionsIn(Struct, kw_only=True):
    """Many positions; ``tracking`` and a bare array are read too."""

    tracking_points: Annotated[list[RangerPositionIn], Meta(max_length=10_000)]


# --- logs -------------------------------------------------------------------------------------------------------------
class PatrolLogOut(Struct, frozen=True, kw_only=True):
    """A line of a patrol's log; ``alert`` is the one that an emergency has raised."""

    id: str
    local_id: str | None
    ranger: str | None
    team: str | None
    log_type: PatrolLogType
    priority: Severity
    title: str
    description: str
    lat: float | None
    lon: float | None
    timestamp: datetime
    animal: str | None
    photo_url: str | None
    notes: str | None
    is_resolved: bool
    resolved_at: datetime | None
    resolved_by: str | None
    reported_by: str | None
    alert: str | None
    created_at: datetime
    updated_at: datetime
    rev: int

    @classmethod
    def of(cls, line: PatrolLog) -> PatrolLogOut:
        """Return the public form of ``line``."""
        return cls(
            id=line.id, local_id=line.local_id, ranger=line.ranger_id, team=line.team_id, log_type=line.log_type,
            priority=line.priority, title=line.title, description=line.description, lat=line.lat_deg, lon=line.lon_deg,
            timestamp=line.recorded_at, animal=line.animal_id, photo_url=line.photo_url, notes=line.notes,
            is_resolved=line.is_resolved, resolved_at=line.resolved_at, resolved_by=line.resolved_by,
            reported_by=line.reported_by, alert=line.alert_id, created_at=line.created_at, updated_at=line.updated_at,
            rev=line.rev,
        )  # fmt: skip


class PatrolLogPatch(Struct, kw_only=True):
    """Changes to a line of a log; what is not named stays."""

    log_type: PatrolLogType | UnsetType = UNSET
    title: Name | UnsetType = UNSET
    timestamp: When | UnsetType | None = UNSET
    ranger: Reference | UnsetType | None = UNSET
    team: Reference | UnsetType | None = UNSET
    priority: Severity | UnsetType | None = UNSET
    description: Notes | UnsetType | None = UNSET
    lat: Latitude | UnsetType | None = UNSET
    lon: Longitude | UnsetType | None = UNSET
    animal: Reference | UnsetType | None = UNSET
    photo_url: Annotated[str, Meta(max_length=2_000)] | UnsetType | None = UNSET
    notes: Notes | UnsetType | None = UNSET
    is_resolved: bool | UnsetType | None = UNSET
    local_id: Annotated[str, Meta(max_length=100)] | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns = given(self, "log_type")
        if (self.lat is UNSET) != (self.lon is UNSET) or (self.lat is None) != (self.lon is None):
            raise Invalid("lat: stands together with lon, or both are left out")
        if self.lat is not UNSET:
            columns |= {"lat_deg": self.lat, "lon_deg": self.lon}
        if isinstance(self.title, str):
            columns["title"] = text("title", self.title)
        if self.timestamp is not UNSET and not isinstance(self.timestamp, UnsetType) and self.timestamp is not None:
            columns["recorded_at"] = instant("timestamp", self.timestamp)
        for field, column in (("ranger", "ranger_id"), ("team", "team_id"), ("animal", "animal_id")):
            if not isinstance(value := getattr(self, field), UnsetType):
                columns[column] = value or None
        if self.priority is not UNSET:
            columns["priority"] = self.priority or "low"
        if self.description is not UNSET:
            columns["description"] = optional_text("description", self.description) or ""
        if self.is_resolved is not UNSET:
            columns["is_resolved"] = self.is_resolved is True
        if self.photo_url is not UNSET:
            columns["photo_url"] = _photo_url(self.photo_url)
        for field in ("notes", "local_id"):
            if not isinstance(value := getattr(self, field), UnsetType):
                columns[field] = optional_text(field, value)
        return columns


class PatrolLogIn(PatrolLogPatch, kw_only=True):
    """A new line of a log, or all that a person may say of one; of now unless it has a timestamp."""

    log_type: PatrolLogType
    title: Name


# --- routes -----------------------------------------------------------------------------------------------------------
class Waypoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A place that a patrol goes through."""

    lat: Latitude
    lon: Longitude
    name: Short | None = None


class PatrolRouteOut(Struct, frozen=True, kw_only=True):
    """A patrol that is planned."""

    id: str
    name: str
    description: str
    team: str | None
    assigned_rangers: list[str]
    waypoints: list[Waypoint]
    estimated_duration_hours: float | None
    scheduled_start: datetime | None
    scheduled_end: datetime | None
    actual_start: datetime | None
    actual_end: datetime | None
    status: RouteStatus
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    rev: int

    @classmethod
    def of(cls, route: PatrolRoute) -> PatrolRouteOut:
        """Return the public form of ``route``; what another home brought as a list that is none is shown as empty."""
        return cls(
            id=route.id,
            name=route.name,
            description=route.description,
            team=route.team_id,
            assigned_rangers=_listed(route.assigned_rangers, str),
            waypoints=_listed(route.waypoints, Waypoint),
            estimated_duration_hours=route.estimated_duration_h,
            scheduled_start=route.scheduled_start_at,
            scheduled_end=route.scheduled_end_at,
            actual_start=route.actual_start_at,
            actual_end=route.actual_end_at,
            status=route.status,
            created_by=route.created_by,
            created_at=route.created_at,
            updated_at=route.updated_at,
            rev=route.rev,
        )


class PatrolRoutePatch(Struct, kw_only=True):
    """Changes to a route; what is not named stays."""

    name: Name | UnsetType = UNSET
    description: Notes | UnsetType | None = UNSET
    team: Reference | UnsetType | None = UNSET
    assigned_rangers: Annotated[list[Reference], Meta(max_length=_MOST_RANGERS)] | UnsetType | None = UNSET
    waypoints: Annotated[list[Waypoint], Meta(max_length=_MOST_WAYPOINTS)] | UnsetType | None = UNSET
    estimated_duration_hours: Annotated[float, Meta(ge=0, le=10_000)] | UnsetType | None = UNSET
    scheduled_start: When | UnsetType | None = UNSET
    scheduled_end: When | UnsetType | None = UNSET
    actual_start: When | UnsetType | None = UNSET
    actual_end: When | UnsetType | None = UNSET
    status: RouteStatus | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns: dict[str, Any] = {}
        if isinstance(self.name, str):
            columns["name"] = text("name", self.name)
        if self.description is not UNSET:
            columns["description"] = optional_text("description", self.description) or ""
        if self.team is not UNSET:
            columns["team_id"] = self.team or None
        for field in ("assigned_rangers", "waypoints"):
            if not isinstance(value := getattr(self, field), UnsetType):
                columns[field] = msgspec.json.encode(value or []).decode()
        if self.estimated_duration_hours is not UNSET:
            columns["estimated_duration_h"] = self.estimated_duration_hours
        for field in ("scheduled_start", "scheduled_end", "actual_start", "actual_end"):
            if not isinstance(value := getattr(self, field), UnsetType):
                columns[f"{field}_at"] = None if value is None else instant(field, value)
        if self.status is not UNSET:
            columns["status"] = self.status or "planned"
        return columns


class PatrolRouteIn(PatrolRoutePatch, kw_only=True):
    """A new route, or all that a person may say of one."""

    name: Name


def check_order(columns: Mapping[str, Any]) -> None:
    """Raise Invalid where a patrol would end before it begins."""
    for kind in ("scheduled", "actual"):
        start, end = columns.get(f"{kind}_start_at"), columns.get(f"{kind}_end_at")
        if start is not None and end is not None and end < start:
            raise Invalid(f"{kind}_end: must not be before {kind}_start")


def _listed(text_of_json: str, shape: Any) -> list[Any]:
    try:
        found: list[Any] = msgspec.json.decode(text_of_json, type=list[shape])
    except msgspec.MsgspecError:
        return []
    return found


def _photo_url(value: str | None) -> str | None:
    url = optional_text("photo_url", value)
    if url and not url.startswith(("http://", "https://", "/")):
        raise Invalid("photo_url: must begin with https://, http:// or /")
    return url
