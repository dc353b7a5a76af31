"""What both homes say over ``/api/v1/events``."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from shared.domain import Alert, Fix


class Told(Struct, frozen=True, kw_only=True):
    """An alert that was raised or changed; no position. ``rings`` is false for what is late, to its end."""

    id: str
    animal: str | None
    alert_type: str
    severity: str
    title: str
    status: str
    is_late: bool
    rings: bool


class Moved(Struct, frozen=True, kw_only=True):
    """A position that was heard."""

    id: str
    collar_id: str
    animal: str | None
    recorded_at: datetime
    received_at: datetime
    lon: float | None
    lat: float | None
    flags: int
    battery_mv: int | None
    link: str | None

    @classmethod
    def of(cls, fix: Fix) -> Moved:
        """Return what is said of ``fix``."""
        return cls(
            id=fix.id, collar_id=fix.collar_id, animal=fix.animal_id, recorded_at=fix.recorded_at,
            received_at=fix.received_at, lon=fix.lon_deg, lat=fix.lat_deg, flags=fix.flags,
            battery_mv=fix.battery_mv, link=fix.link,
        )  # fmt: skip


def told_of(alert: Alert) -> Told:
    """Return what is said of an alert; one that is late never rings."""
    return Told(
        id=alert.id, animal=alert.animal_id, alert_type=alert.alert_type, severity=alert.severity, title=alert.title,
        status=alert.status, is_late=alert.is_late, rings=not alert.is_late,
    )  # fmt: skip
