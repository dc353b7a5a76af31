"""Alerts in public form, and what people say when they look after one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, get_args

from msgspec import Meta, Struct

from shared.domain import Alert, AlertStatus, AlertType, Severity
from shared.errors import Invalid
from shared.sayings import Said, read_back
from shared.store import AlertCount
from shared.wire.public.fields import Latitude, Longitude, Name, Notes, Reference, When
from shared.wire.reading import instant, optional_text, text

#: Notes grow with each act; longer ones than this are refused.
MAX_NOTE = 10_000


class AlertMetadata(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is out of the ordinary; ``is_late`` stands here where an alert was found in data of the past."""

    is_late: bool = False


class AlertOut(Struct, frozen=True, kw_only=True):
    """Something that a person should look at; ``animal`` and ``conflict_zone`` are ids.

    ``title_said`` and ``message_said`` are title and message by code and values, for who says them in another language;
    null where they are not Outpost's own.
    """

    id: str
    animal: str | None
    alert_type: AlertType
    severity: Severity
    status: AlertStatus
    title: str
    title_said: Said | None
    message: str
    message_said: Said | None
    latitude: float | None
    longitude: float | None
    conflict_zone: str | None
    detected_at: datetime
    acknowledged_at: datetime | None
    resolved_at: datetime | None
    acknowledged_by: str | None
    metadata: AlertMetadata
    note: str | None
    created_at: datetime
    updated_at: datetime
    rev: int

    @classmethod
    def of(cls, alert: Alert) -> AlertOut:
        """Return the public form of ``alert``."""
        return cls(
            id=alert.id,
            animal=alert.animal_id,
            alert_type=alert.alert_type,
            severity=alert.severity,
            status=alert.status,
            title=alert.title,
            title_said=read_back("alarm", alert.title),
            message=alert.message,
            message_said=read_back("alarm", alert.message),
            latitude=alert.lat_deg,
            longitude=alert.lon_deg,
            conflict_zone=alert.zone_id,
            detected_at=alert.detected_at,
            acknowledged_at=alert.acknowledged_at,
            resolved_at=alert.resolved_at,
            acknowledged_by=alert.acknowledged_by,
            metadata=AlertMetadata(is_late=alert.is_late),
            note=alert.note,
            created_at=alert.created_at,
            updated_at=alert.updated_at,
            rev=alert.rev,
        )


class AlertIn(Struct, kw_only=True):
    """An alert that a person raises: active, and of now unless ``detected_at`` says otherwise."""

    alert_type: AlertType
    title: Name
    severity: Severity | None = None
    message: Notes | None = None
    animal: Reference | None = None
    animal_id: Reference | None = None
    conflict_zone: Reference | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    detected_at: When | None = None
    note: Notes | None = None

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        if (self.latitude is None) != (self.longitude is None):
            raise Invalid("latitude: stands together with longitude, or both are left out")
        return {
            "alert_type": self.alert_type,
            "title": text("title", self.title),
            "severity": self.severity or "medium",
            "message": optional_text("message", self.message) or "",
            "animal_id": self.animal or self.animal_id or None,
            "zone_id": self.conflict_zone or None,
            "lat_deg": self.latitude,
            "lon_deg": self.longitude,
            "detected_at": None if self.detected_at is None else instant("detected_at", self.detected_at),
            "note": optional_text("note", self.note),
        }


class AcknowledgeIn(Struct, kw_only=True):
    """What may be said when an alert is acknowledged or found false; it is added to the note."""

    notes: Notes | None = None


class ResolveIn(Struct, kw_only=True):
    """What may be said when an alert is resolved; it is added to the note."""

    resolution_notes: Notes | None = None


class NoteIn(Struct, kw_only=True):
    """The whole note; null or nothing takes it away."""

    note: Annotated[str, Meta(max_length=MAX_NOTE)] | None


def added_note(field: str, note: str | None, more: str | None) -> str | None:
    """Return ``note`` with ``more`` on lines of its own, once; raises Invalid where it would grow too long."""
    more = optional_text(field, more)
    if more is None or note is None:
        return more or note
    if f"\n{note}\n".endswith(f"\n{more}\n"):
        return note
    longer = f"{note}\n{more}"
    if len(longer) > MAX_NOTE:
        raise Invalid(f"{field}: the note would have more than {MAX_NOTE} characters; shorten it first")
    return longer


class AlertStats(Struct, frozen=True, kw_only=True):
    """How many alerts there are, in all and of each kind; every word stands there, also with 0."""

    total: int
    by_severity: dict[Severity, int]
    by_type: dict[AlertType, int]
    by_status: dict[AlertStatus, int]

    @classmethod
    def of(cls, counts: Iterable[AlertCount]) -> AlertStats:
        """Return the sums of ``counts``."""
        total = 0
        by_severity: dict[Severity, int] = dict.fromkeys(get_args(Severity), 0)
        by_type: dict[AlertType, int] = dict.fromkeys(get_args(AlertType), 0)
        by_status: dict[AlertStatus, int] = dict.fromkeys(get_args(AlertStatus), 0)
        for row in counts:
            total += row.count
            by_severity[row.severity] += row.count
            by_type[row.alert_type] += row.count
            by_status[row.status] += row.count
        return cls(total=total, by_severity=by_severity, by_type=by_type, by_status=by_status)
