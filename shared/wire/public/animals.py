"""Animals in public form."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.domain import Animal, AnimalStatus, Gender, HealthStatus
from shared.errors import Invalid
from shared.wire.public.fields import Name, Notes, Reference, collar_id, given
from shared.wire.reading import optional_text, text

_GENDERS: dict[str, Gender] = {"m": "male", "f": "female", "u": "unknown", "": "unknown"}
_GENDERS |= {"male": "male", "female": "female", "unknown": "unknown"}


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
        columns = given(self, "age", "weight")
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
