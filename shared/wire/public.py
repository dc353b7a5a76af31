"""The public names and shapes of the API, and the one mapping between them and ours.

The names are those of the original platform: ``timestamp``, ``lat``, ``speed_kmh``, ``animal``. Inside, names carry
units (``recorded_at``, ``lat_deg``, ``speed_mps``, ``animal_id``). Nothing else translates.

==================== ====================== ===================================================================
public               ours                   note
==================== ====================== ===================================================================
animal               animal_id              ``animal_id`` is read too
timestamp            recorded_at            read as RFC 3339 with a zone, or ms since 1970; written as RFC 3339
lat, lon             lat_deg, lon_deg       WGS 84
altitude             alt_m                  metres
speed_kmh            speed_mps              negative means unknown, as phones report it
directional_angle    heading_deg            ``heading`` is read too; negative means unknown
battery_level        battery_pct or _mv     text, ``75%``; ``3.65 V`` where a collar reports only its voltage
signal_strength      rssi_dbm               dBm; ``-85 dBm`` is read too
temperature          temperature_c          degrees Celsius
gender               gender                 ``M`` and ``F`` are read too
==================== ====================== ===================================================================

Responses carry, beside the original's fields, ``rev`` on what can be edited, and on a position ``flags``,
``is_usable``, ``received_at``, ``hdop`` and ``sats``.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.domain import (
    Animal,
    AnimalStatus,
    Collar,
    Deployment,
    Fix,
    FixFlag,
    FixSource,
    Gender,
    HealthStatus,
    NewFix,
    Observation,
    ObservationType,
    is_usable,
)
from shared.errors import Invalid
from shared.wire.reading import instant, optional_text, text

#: What stands before an animal's id in the device of a position that no collar made.
ANIMAL_DEVICE = "animal:"

KMH_PER_MPS = 3.6

Latitude = Annotated[float, Meta(ge=-90, le=90, description="Degrees north, WGS 84.")]
Longitude = Annotated[float, Meta(ge=-180, le=180, description="Degrees east, WGS 84.")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Notes = Annotated[str, Meta(max_length=10_000)]
Reference = Annotated[str, Meta(max_length=64)]
When = Annotated[str | int | float, Meta(description="RFC 3339 with a time zone, or milliseconds since 1970.")]

_GENDERS: dict[str, Gender] = {"m": "male", "f": "female", "u": "unknown", "": "unknown"}
_GENDERS |= {"male": "male", "female": "female", "unknown": "unknown"}
_PERCENT = re.compile(r"^(\d+(?:\.\d+)?)\s*%?$")
_VOLTS = re.compile(r"^(\d+(?:\.\d+)?)\s*V$", re.IGNORECASE)
_DBM = re.compile(r"^(-?\d+(?:\.\d+)?)\s*(?:dBm)?$", re.IGNORECASE)
_COLLAR_ID = re.compile(r"^[^/\s]{1,64}$")
#: What devices begin with where the store is told what kind of name they are.
_RESERVED = (ANIMAL_DEVICE, "collar:")
_EUI = re.compile(r"^eui:[0-9a-f]{16}$")
_ALIAS = re.compile(r"^[a-z]+:[^/\s]{1,64}$")


# --- animals ----------------------------------------------------------------------------------------------------------
class AnimalOut(Struct, frozen=True, kw_only=True):
    """An animal; ``collar_id`` is the collar that it wears now."""

    id: str
    name: str
    species: str
    collar_id: str | None
    status: AnimalStatus
    gender: Gender
    age: float | None
    weight: float | None
    health_status: HealthStatus
    notes: str | None
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    rev: int

    @classmethod
    def of(cls, animal: Animal) -> AnimalOut:
        """Return the public form of ``animal``."""
        return cls(**{name: getattr(animal, name) for name in cls.__struct_fields__})


class AnimalPatch(Struct, kw_only=True):
    """Changes to an animal; what is not named stays. ``collar_id`` null takes the collar off."""

    name: Name | UnsetType = UNSET
    species: Name | UnsetType = UNSET
    collar_id: Reference | UnsetType | None = UNSET
    status: AnimalStatus | UnsetType | None = UNSET
    gender: Annotated[str, Meta(description="male, female or unknown; M and F are read too.")] | UnsetType | None = (
        UNSET
    )
    age: Annotated[float, Meta(ge=0, le=200, description="Years.")] | UnsetType | None = UNSET
    weight: Annotated[float, Meta(ge=0, le=200_000, description="Kilograms.")] | UnsetType | None = UNSET
    health_status: HealthStatus | UnsetType | None = UNSET
    notes: Notes | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns = _given(self, "age", "weight")
        for field in ("name", "species"):
            if isinstance(value := getattr(self, field), str):
                columns[field] = text(field, value)
        if self.collar_id is not UNSET:
            columns["collar_id"] = collar_id("collar_id", self.collar_id) if self.collar_id else None
        if self.status is not UNSET:
            columns["status"] = self.status or "active"
        if self.health_status is not UNSET:
            columns["health_status"] = self.health_status or "unknown"
        if self.gender is not UNSET:
            columns["gender"] = _gender(self.gender)
        if self.notes is not UNSET:
            columns["notes"] = optional_text("notes", self.notes)
        return columns


class AnimalIn(AnimalPatch, kw_only=True):
    """A new animal, or all that a person may say of one."""

    name: Name
    species: Name


def _gender(value: str | None) -> Gender:
    found = _GENDERS.get((value or "").strip().lower())
    if found is None:
        raise Invalid("gender: must be one of male, female, unknown, M, F")
    return found


def collar_id(field: str, value: str) -> str:
    """Return a collar id as it is stored; raises Invalid for one that could not stand in a path."""
    stripped = text(field, value)
    if not _COLLAR_ID.match(stripped):
        raise Invalid(f"{field}: must have 1 to 64 characters without spaces and slashes")
    if stripped.startswith(_RESERVED):
        raise Invalid(f"{field}: must not begin with {' or '.join(_RESERVED)}")
    return stripped


# --- positions --------------------------------------------------------------------------------------------------------
class TrackingOut(Struct, frozen=True, kw_only=True):
    """A position as stored and judged; ``flags`` name what the quality rules found."""

    id: str
    local_id: str | None
    animal: str | None
    collar_id: str | None
    timestamp: datetime
    lat: float | None
    lon: float | None
    altitude: float | None
    speed_kmh: float | None
    directional_angle: float | None
    battery_level: str | None
    signal_strength: float | None
    temperature: float | None
    activity_type: str | None
    source: FixSource
    notes: str | None
    flags: list[str]
    is_usable: bool
    received_at: datetime
    hdop: float | None
    sats: int | None

    @classmethod
    def of(cls, fix: Fix) -> TrackingOut:
        """Return the public form of ``fix``."""
        return cls(
            id=fix.id,
            local_id=fix.local_id,
            animal=fix.animal_id,
            collar_id=None if fix.collar_id.startswith(ANIMAL_DEVICE) else fix.collar_id,
            timestamp=fix.recorded_at,
            lat=fix.lat_deg,
            lon=fix.lon_deg,
            altitude=fix.alt_m,
            speed_kmh=speed_kmh(fix.speed_mps),
            directional_angle=fix.heading_deg,
            battery_level=battery_level(fix.battery_pct, fix.battery_mv),
            signal_strength=fix.rssi_dbm,
            temperature=fix.temperature_c,
            activity_type=fix.activity_type,
            source=fix.source,
            notes=fix.notes,
            flags=flag_names(fix.flags),
            is_usable=is_usable(fix.flags),
            received_at=fix.received_at,
            hdop=fix.hdop,
            sats=fix.sats,
        )


class TrackingIn(Struct, kw_only=True):
    """A position that a person, a phone or a program posts; one of ``animal`` and ``collar_id`` is needed."""

    timestamp: When
    lat: Latitude
    lon: Longitude
    animal: Reference | None = None
    animal_id: Reference | None = None
    collar_id: Reference | None = None
    local_id: Annotated[str, Meta(max_length=100)] | None = None
    altitude: Annotated[float, Meta(ge=-12_000, le=100_000, description="Metres.")] | None = None
    speed_kmh: Annotated[float, Meta(le=2_000)] | None = None
    directional_angle: Annotated[float, Meta(le=360, description="Degrees from north, clockwise.")] | None = None
    heading: Annotated[float, Meta(le=360, description="The same, as phones call it.")] | None = None
    battery_level: Annotated[str | float, Meta(description="Percent (75 or 75%) or voltage (3.65 V).")] | None = None
    signal_strength: Annotated[str | float, Meta(description="dBm.")] | None = None
    temperature: Annotated[float, Meta(ge=-100, le=150, description="Degrees Celsius.")] | None = None
    activity_type: Annotated[str, Meta(max_length=50)] | None = None
    source: FixSource | None = None
    notes: Notes | None = None
    hdop: Annotated[float, Meta(ge=0, le=1_000)] | None = None
    sats: Annotated[int, Meta(ge=0, le=255)] | None = None

    @property
    def animal_reference(self) -> str | None:
        """The animal that was named, under either key."""
        return self.animal or self.animal_id or None

    def fix(self, *, device: str, animal_id: str | None, received_at: datetime, is_clock_sure: bool) -> NewFix:
        """Return the fix to store, made by ``device``; raises Invalid."""
        battery_pct, battery_mv = _battery(self.battery_level)
        default: FixSource = "manual" if device.startswith(ANIMAL_DEVICE) else "gps"
        heading = self.directional_angle if self.directional_angle is not None else self.heading
        return NewFix(
            device=device,
            recorded_at=instant("timestamp", self.timestamp),
            lon_deg=self.lon,
            lat_deg=self.lat,
            received_at=received_at,
            is_clock_sure=is_clock_sure,
            alt_m=self.altitude,
            speed_mps=None if self.speed_kmh is None or self.speed_kmh < 0 else self.speed_kmh / KMH_PER_MPS,
            heading_deg=None if heading is None or heading < 0 else heading % 360.0,
            hdop=self.hdop,
            sats=self.sats,
            battery_mv=battery_mv,
            battery_pct=battery_pct,
            temperature_c=self.temperature,
            rssi_dbm=_dbm(self.signal_strength),
            source=self.source or default,
            animal_id=animal_id,
            link="api",
            local_id=optional_text("local_id", self.local_id),
            activity_type=optional_text("activity_type", self.activity_type),
            notes=optional_text("notes", self.notes),
        )


def flag_names(flags: int) -> list[str]:
    """Return the public names of quality flags, in their stored order."""
    return [flag.name.lower() for flag in FixFlag if flags & flag and flag.name]


def speed_kmh(speed_mps: float | None) -> float | None:
    """Return km/h, to a hundredth, which is finer than any receiver."""
    return None if speed_mps is None else round(speed_mps * KMH_PER_MPS, 2)


def battery_level(battery_pct: float | None, battery_mv: int | None) -> str | None:
    """Return the public text of a battery: percent where known, else volts."""
    if battery_pct is not None:
        return f"{battery_pct:g}%"
    return None if battery_mv is None else f"{battery_mv / 1000:.2f} V"


def _battery(level: str | float | None) -> tuple[float | None, int | None]:
    """Return (percent, millivolts) of a battery level as clients write it; raises Invalid."""
    if level is None or (isinstance(level, str) and not level.strip()):
        return None, None
    if isinstance(level, str):
        if volts := _VOLTS.match(level.strip()):
            millivolts = float(volts[1]) * 1000
            if millivolts > 100_000:
                raise Invalid("battery_level: must be at most 100 V")
            return None, round(millivolts)
        percent = _PERCENT.match(level.strip())
        if percent is None:
            raise Invalid("battery_level: must be a percentage such as 75% or a voltage such as 3.65 V")
        level = float(percent[1])
    if not 0 <= level <= 100:
        raise Invalid("battery_level: must be between 0 and 100 percent")
    return level, None


def _dbm(signal: str | float | None) -> float | None:
    if signal is None or (isinstance(signal, str) and not signal.strip()):
        return None
    if isinstance(signal, str):
        found = _DBM.match(signal.strip())
        if found is None:
            raise Invalid("signal_strength: must be a number of dBm")
        signal = float(found[1])
    if not -200 <= signal <= 200:
        raise Invalid("signal_strength: must be between -200 and 200")
    return signal


# --- bulk upload ------------------------------------------------------------------------------------------------------
class BulkTrackingIn(Struct, kw_only=True):
    """Many positions; ``tracking`` and a bare array are read too."""

    tracking_points: Annotated[list[TrackingIn], Meta(max_length=10_000)]


class BulkResult(Struct, kw_only=True, omit_defaults=True):
    """What became of one item: an outcome with the id, or the reasons for refusing it."""

    index: int
    id: str | None = None
    local_id: str | None = None
    outcome: Literal["new", "enriched", "duplicate"] | None = None
    errors: list[str] = []


class BulkOut(Struct, kw_only=True):
    """What became of an upload: an item that is refused takes none of its neighbours with it."""

    received: int
    created: int
    duplicates: int
    failed: int
    results: list[BulkResult]


# --- observations -----------------------------------------------------------------------------------------------------
class ObservationOut(Struct, frozen=True, kw_only=True):
    """What a ranger reported."""

    id: str
    local_id: str | None
    animal: str | None
    observation_type: ObservationType
    description: str
    lat: float | None
    lon: float | None
    timestamp: datetime
    photo_url: str | None
    observer: str | None
    created_at: datetime
    updated_at: datetime
    rev: int

    @classmethod
    def of(cls, observation: Observation) -> ObservationOut:
        """Return the public form of ``observation``."""
        return cls(
            id=observation.id,
            local_id=observation.local_id,
            animal=observation.animal_id,
            observation_type=observation.observation_type,
            description=observation.description,
            lat=observation.lat_deg,
            lon=observation.lon_deg,
            timestamp=observation.recorded_at,
            photo_url=observation.photo_url,
            observer=observation.observer,
            created_at=observation.created_at,
            updated_at=observation.updated_at,
            rev=observation.rev,
        )


class ObservationPatch(Struct, kw_only=True):
    """Changes to an observation; what is not named stays."""

    observation_type: ObservationType | UnsetType = UNSET
    timestamp: When | UnsetType = UNSET
    animal: Reference | UnsetType | None = UNSET
    animal_id: Reference | UnsetType | None = UNSET
    description: Annotated[str, Meta(max_length=10_000)] | UnsetType | None = UNSET
    lat: Latitude | UnsetType | None = UNSET
    lon: Longitude | UnsetType | None = UNSET
    photo_url: Annotated[str, Meta(max_length=2_000)] | UnsetType | None = UNSET
    observer: Annotated[str, Meta(max_length=200)] | UnsetType | None = UNSET
    local_id: Annotated[str, Meta(max_length=100)] | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns = _given(self, "observation_type")
        if (self.lat is UNSET) != (self.lon is UNSET) or (self.lat is None) != (self.lon is None):
            raise Invalid("lat: stands together with lon, or both are left out")
        if self.lat is not UNSET:
            columns |= {"lat_deg": self.lat, "lon_deg": self.lon}
        if not isinstance(self.timestamp, UnsetType):
            columns["recorded_at"] = instant("timestamp", self.timestamp)
        animal = self.animal if self.animal is not UNSET else self.animal_id
        if animal is not UNSET:
            columns["animal_id"] = animal or None
        if self.description is not UNSET:
            columns["description"] = optional_text("description", self.description) or ""
        if self.photo_url is not UNSET:
            columns["photo_url"] = _photo_url(self.photo_url)
        for field in ("observer", "local_id"):
            if not isinstance(value := getattr(self, field), UnsetType):
                columns[field] = optional_text(field, value)
        return columns


class ObservationIn(ObservationPatch, kw_only=True):
    """A new observation, or all that a person may say of one."""

    observation_type: ObservationType
    timestamp: When


def _photo_url(value: str | None) -> str | None:
    url = optional_text("photo_url", value)
    if url and not url.startswith(("http://", "https://", "/")):
        raise Invalid("photo_url: must begin with https://, http:// or /")
    return url


# --- collars and deployments ------------------------------------------------------------------------------------------
class CollarOut(Struct, frozen=True, kw_only=True):
    """A piece of hardware; ``aliases`` are the radio ids that it answers to."""

    id: str
    model: str | None
    fix_interval_s: int | None
    notes: str | None
    aliases: list[str]
    last_heard_at: datetime | None
    battery_level: str | None
    firmware: str | None
    created_at: datetime
    updated_at: datetime
    rev: int

    @classmethod
    def of(cls, collar: Collar) -> CollarOut:
        """Return the public form of ``collar``."""
        return cls(
            id=collar.id,
            model=collar.model,
            fix_interval_s=collar.fix_interval_s,
            notes=collar.notes,
            aliases=list(collar.aliases),
            last_heard_at=collar.last_heard_at,
            battery_level=battery_level(collar.battery_pct, collar.battery_mv),
            firmware=collar.firmware,
            created_at=collar.created_at,
            updated_at=collar.updated_at,
            rev=collar.rev,
        )


class CollarPatch(Struct, kw_only=True):
    """Changes to a collar; what is not named stays. ``aliases`` replaces the whole list."""

    model: Annotated[str, Meta(max_length=100)] | UnsetType | None = UNSET
    fix_interval_s: Annotated[int, Meta(ge=1, le=31_536_000, description="Seconds.")] | UnsetType | None = UNSET
    notes: Notes | UnsetType | None = UNSET
    aliases: Annotated[list[str], Meta(max_length=32)] | UnsetType = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns = _given(self, "fix_interval_s")
        for field in ("model", "notes"):
            if not isinstance(value := getattr(self, field), UnsetType):
                columns[field] = optional_text(field, value)
        if not isinstance(self.aliases, UnsetType):
            columns["aliases"] = tuple(dict.fromkeys(_alias(alias) for alias in self.aliases))
        return columns


class CollarIn(CollarPatch, kw_only=True):
    """A new collar."""

    id: Reference


def _alias(value: str) -> str:
    """Return a radio id as frames carry it: labels print an EUI in capitals and in groups."""
    kind, colon, name = value.strip().partition(":")
    alias = kind.lower() + colon + (name.lower().replace("-", "") if kind.lower() == "eui" else name)
    is_eui = alias.startswith("eui:")
    if not (_EUI if is_eui else _ALIAS).match(alias) or alias.startswith(_RESERVED):
        raise Invalid("aliases: must look like eui:0101010101010101 (16 hex digits) or imei:300434063830000")
    return alias


class DeploymentOut(Struct, frozen=True, kw_only=True):
    """The interval in which a collar is on an animal: from ``started_at`` up to, not including, ``ended_at``."""

    id: str
    animal: str
    collar_id: str
    started_at: datetime
    ended_at: datetime | None
    notes: str | None
    created_at: datetime
    updated_at: datetime
    rev: int

    @classmethod
    def of(cls, deployment: Deployment) -> DeploymentOut:
        """Return the public form of ``deployment``."""
        return cls(
            id=deployment.id,
            animal=deployment.animal_id,
            collar_id=deployment.collar_id,
            started_at=deployment.started_at,
            ended_at=deployment.ended_at,
            notes=deployment.notes,
            created_at=deployment.created_at,
            updated_at=deployment.updated_at,
            rev=deployment.rev,
        )


class DeploymentPatch(Struct, kw_only=True):
    """Changes to a deployment; what is not named stays. ``ended_at`` null: it is still worn."""

    animal: Reference | UnsetType = UNSET
    animal_id: Reference | UnsetType = UNSET
    collar_id: Reference | UnsetType = UNSET
    started_at: When | UnsetType = UNSET
    ended_at: When | UnsetType | None = UNSET
    notes: Notes | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns: dict[str, Any] = {}
        animal = self.animal if self.animal is not UNSET else self.animal_id
        if not isinstance(animal, UnsetType):
            columns["animal_id"] = text("animal", animal)
        if not isinstance(self.collar_id, UnsetType):
            columns["collar_id"] = collar_id("collar_id", self.collar_id)
        if not isinstance(self.started_at, UnsetType):
            columns["started_at"] = instant("started_at", self.started_at)
        if not isinstance(self.ended_at, UnsetType):
            columns["ended_at"] = None if self.ended_at is None else instant("ended_at", self.ended_at)
        if not isinstance(self.notes, UnsetType):
            columns["notes"] = optional_text("notes", self.notes)
        return columns


class DeploymentIn(DeploymentPatch, kw_only=True):
    """A new deployment, also one of the past: the fixes of that time are adopted."""

    collar_id: Reference
    started_at: When

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns = super().columns()
        if "animal_id" not in columns:
            raise Invalid("animal: is required")
        return columns


def _given(body: msgspec.Struct, *fields: str) -> dict[str, Any]:
    """Return those of ``fields`` that the client named."""
    return {field: value for field in fields if (value := getattr(body, field)) is not UNSET}
