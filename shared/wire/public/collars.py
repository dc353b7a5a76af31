"""Collars and deployments in public form."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.domain import Collar, Deployment
from shared.errors import Invalid
from shared.movement.quality import CollarLimits, collar_limits
from shared.wire.public.fields import RESERVED, Notes, Reference, When, collar_id, given
from shared.wire.public.tracking import battery_level
from shared.wire.reading import instant, optional_text, text

_EUI = re.compile(r"^eui:[0-9a-f]{16}$")
_ALIAS = re.compile(r"^[a-z]+:[^/\s]{1,64}$")


class CollarOut(Struct, frozen=True, kw_only=True):
    """A piece of hardware; ``aliases`` are the radio ids that it answers to."""

    id: str
    model: str | None
    fix_interval_s: int | None
    notes: str | None
    limits: CollarLimits
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
            limits=collar_limits(collar.limits),
            aliases=list(collar.aliases),
            last_heard_at=collar.last_heard_at,
            battery_level=battery_level(collar.battery_pct, collar.battery_mv),
            firmware=collar.firmware,
            created_at=collar.created_at,
            updated_at=collar.updated_at,
            rev=collar.rev,
        )


class CollarPatch(Struct, kw_only=True):
    """Changes to a collar; what is not named stays. ``aliases`` and ``limits`` replace what was there whole."""

    model: Annotated[str, Meta(max_length=100)] | UnsetType | None = UNSET
    fix_interval_s: Annotated[int, Meta(ge=1, le=31_536_000, description="Seconds.")] | UnsetType | None = UNSET
    notes: Notes | UnsetType | None = UNSET
    limits: CollarLimits | UnsetType | None = UNSET
    aliases: Annotated[list[str], Meta(max_length=32)] | UnsetType = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns = given(self, "fix_interval_s")
        for field in ("model", "notes"):
            if not isinstance(value := getattr(self, field), UnsetType):
                columns[field] = optional_text(field, value)
        if not isinstance(self.limits, UnsetType):
            columns["limits"] = None if self.limits is None else self.limits.text()
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
    if not (_EUI if is_eui else _ALIAS).match(alias) or alias.startswith(RESERVED):
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
