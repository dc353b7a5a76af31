"""Zones in public form: as rows of a list, and as GeoJSON (RFC 7946) both ways."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from shared.domain import RiskLevel, Zone, ZoneType
from shared.errors import Invalid
from shared.wire.geojson import AREAS
from shared.wire.public.features import MAX_FEATURES, NOTHING, Geometry, geojson_kind
from shared.wire.public.fields import Name, Notes, given
from shared.wire.reading import optional_text, read_json, text

_M_PER_KM = 1000.0
_NEEDED = ("name", "zone_type", "geometry")


class Area(Geometry, frozen=True):
    """A GeoJSON Polygon or MultiPolygon; other members of what a client sends are not kept."""

    type: Annotated[str, Meta(description="Polygon or MultiPolygon.")]


class ZoneOut(Struct, frozen=True, kw_only=True):
    """An area with a risk; ``buffer_distance_km`` is how far around it still counts."""

    id: str
    name: str
    zone_type: ZoneType
    risk_level: RiskLevel
    geometry: Area
    buffer_distance_km: float
    description: str
    is_active: bool
    created_at: datetime
    updated_at: datetime
    rev: int

    @classmethod
    def of(cls, zone: Zone) -> ZoneOut:
        """Return the public form of ``zone``."""
        return cls(id=zone.id, geometry=Area.of(zone.geometry), **_properties(zone))


class ZoneProperties(Struct, frozen=True, kw_only=True):
    """What a Feature says of its zone beside id and geometry."""

    name: str
    zone_type: ZoneType
    risk_level: RiskLevel
    buffer_distance_km: float
    description: str
    is_active: bool
    created_at: datetime
    updated_at: datetime
    rev: int


class ZoneFeature(Struct, frozen=True, kw_only=True):
    """A zone as a GeoJSON Feature."""

    type: Literal["Feature"] = "Feature"
    id: str
    geometry: Area
    properties: ZoneProperties

    @classmethod
    def of(cls, zone: Zone) -> ZoneFeature:
        """Return ``zone`` as a Feature."""
        return cls(id=zone.id, geometry=Area.of(zone.geometry), properties=ZoneProperties(**_properties(zone)))


class ZoneCollection(Struct, frozen=True, kw_only=True):
    """Zones as a GeoJSON FeatureCollection."""

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: list[ZoneFeature]


class ZoneWords(Struct, kw_only=True):
    """What a client may say of a zone beside its geometry; the properties of a Feature that is imported."""

    name: Name | UnsetType = UNSET
    zone_type: ZoneType | UnsetType = UNSET
    risk_level: RiskLevel | UnsetType | None = UNSET
    buffer_distance_km: Annotated[float, Meta(ge=0, le=1_000)] | UnsetType | None = UNSET
    description: Notes | UnsetType | None = UNSET
    is_active: bool | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns = given(self, "zone_type")
        if isinstance(self.name, str):
            columns["name"] = text("name", self.name)
        if self.risk_level is not UNSET:
            columns["risk_level"] = self.risk_level or "medium"
        if self.is_active is not UNSET:
            columns["is_active"] = self.is_active is not False
        if not isinstance(self.buffer_distance_km, UnsetType):
            # to the millimetre: 2.3 km are 2300 m
            columns["buffer_m"] = round((self.buffer_distance_km or 0.0) * _M_PER_KM, 3)
        if self.description is not UNSET:
            columns["description"] = optional_text("description", self.description) or ""
        return columns


class ZonePatch(ZoneWords, kw_only=True):
    """Changes to a zone; what is not named stays."""

    geometry: Area | UnsetType = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns = super().columns()
        if not isinstance(self.geometry, UnsetType):
            columns["geometry"] = self.geometry.geometry()
        return columns


class ZoneIn(ZonePatch, kw_only=True):
    """A new zone, or all that a person may say of one."""

    name: Name
    zone_type: ZoneType
    geometry: Area


class FeatureIn(Struct, kw_only=True):
    """A drawn or exported zone; other properties than these are ignored."""

    type: Literal["Feature"]
    geometry: Area
    properties: ZoneWords | None = None


class FeatureCollectionIn(Struct, kw_only=True):
    """Many drawn or exported zones."""

    type: Literal["FeatureCollection"]
    features: Annotated[list[FeatureIn], Meta(max_length=MAX_FEATURES)]


class _Feature(Struct):
    geometry: Area
    properties: Raw = field(default_factory=lambda: NOTHING)  # read on their own, so that a refusal names the field


def zone_columns(item: Raw, unsaid: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a new zone that comes as a plain body, as a Feature or as a bare GeoJSON area.

    ``unsaid`` are the columns of what GeoJSON does not say of itself. Raises Invalid.
    """
    kind = geojson_kind(item)
    if kind is None:
        return read_json(item, ZoneIn).columns()
    if kind == "Feature":
        feature = read_json(item, _Feature)
        columns = read_json(feature.properties, ZoneWords).columns() if feature.properties != NOTHING else {}
        columns["geometry"] = feature.geometry.geometry()
    elif kind in AREAS:
        columns = {"geometry": read_json(item, Area).geometry()}
    else:
        raise Invalid("geometry: must be a GeoJSON Polygon or MultiPolygon")
    columns = {**unsaid, **columns}
    for column in _NEEDED:
        if column not in columns:
            raise Invalid(f"{column}: is required")
    return columns


def _properties(zone: Zone) -> dict[str, Any]:
    return {
        "name": zone.name, "zone_type": zone.zone_type, "risk_level": zone.risk_level,
        "buffer_distance_km": round(zone.buffer_m / _M_PER_KM, 6), "description": zone.description,
        "is_active": zone.is_active, "created_at": zone.created_at, "updated_at": zone.updated_at, "rev": zone.rev,
    }  # fmt: skip
