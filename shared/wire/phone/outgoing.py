"""Rows as a phone's tables hold them.

The client turns a value of the wrong type into zero without a word, so every column here is what the schema says: ids
are text, instants whole milliseconds, everything else text, numbers or null. ``_status`` and ``_changed`` are the
client's own and are never sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from shared.domain import Alert, Animal, Corridor, Observation, Patrol, Zone
from shared.sync.operations import STANDS_FOR
from shared.sync.records import to_ms
from shared.wire.public.tracking import speed_kmh

#: A row's ``rev`` on the phone: the life of the home (13 bits), how often what an animal wears has changed, and the
#: row's own revision. Another home counts otherwise, so a revision means nothing there.
_BITS: Final = 20
_MASK: Final = (1 << _BITS) - 1


class TrackingRow(msgspec.Struct, frozen=True):
    """A position."""

    id: str
    animal_id: str
    collar_id: str
    timestamp: int
    lat: float
    lon: float
    altitude: float | None
    speed_kmh: float | None
    heading: float | None
    battery_level: float | None
    source: str
    created_at: int
    updated_at: int
    rev: int = 1

    @classmethod
    def of(cls, row: Sequence[Any]) -> TrackingRow:
        """Return a fix (``shared.sync.phone.pull``) as a row."""
        identity, animal_id, collar_id, recorded_ms, lat_e7, lon_e7, alt_m, speed_mps, heading, battery, source, ms = (
            row
        )
        return cls(
            identity, animal_id or "", "" if collar_id is None or collar_id.startswith(STANDS_FOR) else collar_id,
            recorded_ms, lat_e7 / 1e7, lon_e7 / 1e7, alt_m, speed_kmh(speed_mps), heading, battery, source, ms, ms,
        )  # fmt: skip


def phone_rev(epoch: int, own: int, worn: int = 0) -> int:
    """Return the revision that a phone keeps of a row of the home whose life is ``epoch``."""
    return epoch << 2 * _BITS | (worn & _MASK) << _BITS | own & _MASK


def phone_revs(rev: int) -> tuple[int, int, int]:
    """Return the life of the home, the row's own revision, and that of what an animal wears."""
    return rev >> 2 * _BITS, rev & _MASK, rev >> _BITS & _MASK


def animal_row(animal: Animal, epoch: int, worn_rev: int) -> dict[str, Any]:
    """Return an animal as a row."""
    return {
        **_common(animal, epoch), "name": animal.name, "species": animal.species, "collar_id": animal.collar_id or "",
        "status": animal.status, "health_status": animal.health_status, "gender": animal.gender, "age": animal.age,
        "weight": animal.weight, "notes": animal.notes, "rev": phone_rev(epoch, animal.rev, worn_rev), "base_rev": None,
    }  # fmt: skip


def observation_row(observation: Observation, epoch: int) -> dict[str, Any]:
    """Return an observation as a row; where an area stands for its place, that is one column more."""
    return {
        **({} if observation.area is None else {"area": observation.area}),
        **_common(observation, epoch), "animal_id": observation.animal_id or "",
        "observation_type": observation.observation_type, "description": observation.description,
        "lat": observation.lat_deg, "lon": observation.lon_deg, "timestamp": to_ms(observation.recorded_at),
        "photo_url": observation.photo_url, "base_rev": None,
    }  # fmt: skip


def alert_row(alert: Alert, epoch: int) -> dict[str, Any]:
    """Return an alert as a row."""
    return {
        **_common(alert, epoch),
        "animal_id": alert.animal_id, "alert_type": alert.alert_type, "severity": alert.severity,
        "status": alert.status, "title": alert.title, "message": alert.message, "lat": alert.lat_deg,
        "lon": alert.lon_deg, "detected_at": to_ms(alert.detected_at), "note": alert.note, "base_rev": None,
    }  # fmt: skip


def zone_row(zone: Zone, epoch: int) -> dict[str, Any]:
    """Return a zone as a row."""
    return {
        **_common(zone, epoch),
        "name": zone.name, "species": None, "status": "active" if zone.is_active else "inactive",
        "geometry": zone.geometry, "risk_level": zone.risk_level,
    }  # fmt: skip


def corridor_row(corridor: Corridor, epoch: int) -> dict[str, Any]:
    """Return a corridor as a row; a plan between two points is the line between them."""
    geometry = corridor.geometry
    if geometry is None and corridor.start_lon_deg is not None and corridor.end_lon_deg is not None:
        ends = [[corridor.start_lon_deg, corridor.start_lat_deg], [corridor.end_lon_deg, corridor.end_lat_deg]]
        geometry = msgspec.json.encode({"type": "LineString", "coordinates": ends}).decode()
    return {
        **_common(corridor, epoch), "name": corridor.name, "species": corridor.species, "status": corridor.status,
        "geometry": geometry, "risk_level": None,
    }  # fmt: skip


def patrol_row(patrol: Patrol, epoch: int) -> dict[str, Any]:
    """Return a patrol as a row."""
    return {
        **_common(patrol, epoch), "started_at": to_ms(patrol.started_at),
        "ended_at": None if patrol.ended_at is None else to_ms(patrol.ended_at), "note": patrol.note,
        "track": patrol.track, "base_rev": None,
    }  # fmt: skip


def _common(record: Animal | Observation | Alert | Zone | Corridor | Patrol, epoch: int) -> dict[str, Any]:
    return {
        "id": record.id, "rev": phone_rev(epoch, record.rev), "created_at": to_ms(record.created_at),
        "updated_at": to_ms(record.updated_at),
    }  # fmt: skip


class TableChanges(msgspec.Struct, frozen=True):
    """What changed of one table."""

    created: list[Any]
    updated: list[Any]
    deleted: list[str]
