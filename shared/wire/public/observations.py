"""Observations in public form."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.domain import Observation, ObservationType
from shared.errors import Invalid
from shared.wire.public.fields import Latitude, Longitude, Reference, When, given
from shared.wire.reading import instant, optional_text


class ObservationOut(Struct, frozen=True, kw_only=True):
    """What a ranger reported; ``area`` names the protected area that stands for a place which is not shown."""

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
    area: str | None = None

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
            area=observation.area,
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
        columns = given(self, "observation_type")
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
