"""Rows of the original platform as columns of ours: pure, and the only place that knows its odd values.

What a row says and ours cannot hold is kept as words in its notes (a battery that is ``High``, a signal of ``4 bars``);
what makes a row wrong (a place that is none, a time that is none, a kind that nobody knows) refuses it with the reason,
and its neighbours are taken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from shared.domain import FixSource, NewFix
from shared.errors import Invalid
from shared.wire.public.alerts import AlertIn
from shared.wire.public.animals import AnimalIn
from shared.wire.public.corridors import corridor_columns
from shared.wire.public.fields import ANIMAL_DEVICE, collar_id
from shared.wire.public.observations import ObservationIn
from shared.wire.public.tracking import KMH_PER_MPS
from shared.wire.public.zones import zone_columns
from shared.wire.reading import read_json

Row = Mapping[str, Any]

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2100, 1, 1, tzinfo=UTC)
#: Beyond this it is no number of degrees at all; up to here it is kept and flagged.
_MOST_DEG: Final = 1_000.0
_NUMBER: Final = re.compile(r"^\s*(-?\d+(?:\.\d+)?)\s*(%|dBm)?\s*$", re.IGNORECASE)
_VOLTS: Final = re.compile(r"^\s*(\d{1,2}(?:\.\d+)?)\s*V\s*$", re.IGNORECASE)
_UNFIT: Final = re.compile(r"[\s/]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SOURCES: Final[Mapping[str, FixSource]] = {
    "gps": "gps", "manual": "manual", "imported": "imported", "collar": "collar",
}  # fmt: skip


def collar_of(value: str | None) -> str | None:
    """Return a collar's id as ours are: no spaces, no slashes; None for none. Raises Invalid."""
    if value is None or not value.strip():
        return None
    return collar_id("collar_id", _UNFIT.sub("-", value.strip()))


def animal_columns(row: Row) -> dict[str, Any]:
    """Return the columns of an animal, without its collar; raises Invalid."""
    said = _said(row, "name", "species", "status", "gender", "age", "weight", "health_status", "notes")
    for word in ("status", "health_status"):
        said[word] = (said[word] or "").strip().lower() or None
    columns = read(said, AnimalIn).columns()
    return {**columns, "created_by": identity_of(row.get("created_by_id"))}


def fix(row: Row, wears: str | None) -> NewFix:
    """Return a position; ``wears`` is the collar that its animal has where the row names none. Raises Invalid."""
    at, stored = instant_of("timestamp", row["timestamp"]), row.get("created_at")
    lon, lat = (finite(row[name]) for name in ("lon", "lat"))
    if lon is None or lat is None or max(abs(lon), abs(lat)) > _MOST_DEG:
        raise Invalid("lat: it is no place")
    animal, words = identity_of(row["animal_id"]), words_of(row.get("notes"))
    if animal is None:
        raise Invalid("animal: is required")
    volts = _VOLTS.match(str(row.get("battery_level") or ""))
    battery, battery_words = (None, None) if volts else _measure("battery_level", row.get("battery_level"), 0, 100)
    signal, signal_words = _measure("signal_strength", row.get("signal_strength"), -200, 200)
    heading = finite(row.get("directional_angle", row.get("heading")))
    speed = finite(row.get("speed_kmh"))
    source = str(row.get("source") or "gps").lower()
    notes = "\n".join(filter(None, (words, battery_words, signal_words)))
    return NewFix(
        device=collar_of(row.get("collar_id")) or wears or f"{ANIMAL_DEVICE}{animal}",
        recorded_at=at,
        received_at=at if stored is None else instant_of("created_at", stored),
        lon_deg=lon, lat_deg=lat, alt_m=_within(row.get("altitude"), -12_000, 100_000),
        speed_mps=None if speed is None or not 0 <= speed <= 2_000 else speed / KMH_PER_MPS,
        heading_deg=None if heading is None or heading < 0 else heading % 360.0,
        h_acc_m=_within(row.get("accuracy"), 0, 1_000_000), battery_pct=battery,
        battery_mv=round(float(volts[1]) * 1000) if volts else None, rssi_dbm=signal,
        temperature_c=_within(row.get("temperature"), -100, 150), source=_SOURCES.get(source, "imported"),
        animal_id=animal, link="original", local_id=identity_of(row.get("local_id")) or identity_of(row["id"]),
        activity_type=words_of(row.get("activity_type")), notes=notes or None,
    )  # fmt: skip


def observation_columns(row: Row) -> dict[str, Any]:
    """Return the columns of an observation; raises Invalid."""
    said = _said(row, "observation_type", "lat", "lon", "description")
    photo = words_of(row.get("photo_url"))
    if photo and not photo.startswith(("http://", "https://", "/")):
        # a name in the media folder of a server that is no more
        said["description"] = "\n".join(filter(None, (said["description"], f"photo: {photo}")))
        photo = None
    columns = read(
        {
            **said, "timestamp": instant_of("timestamp", row["timestamp"]).isoformat(), "photo_url": photo,
            "animal": identity_of(row.get("animal_id")), "local_id": identity_of(row.get("local_id")),
        },
        ObservationIn,
    ).columns()  # fmt: skip
    return {**columns, "observer": identity_of(row.get("observer_id"))}


def zone_row_columns(row: Row) -> dict[str, Any]:
    """Return the columns of a zone; raises Invalid."""
    said = _said(row, "name", "zone_type", "risk_level", "buffer_distance_km", "description", "is_active")
    return zone_columns(_raw({**said, "geometry": _geometry(row["geometry"])}), {})


def corridor_row_columns(row: Row) -> dict[str, Any]:
    """Return the columns of a corridor; raises Invalid."""
    said = _said(row, "name", "description", "species", "status")
    said["optimization_score"] = finite(row.get("optimization_score"))
    said["optimization_data"] = json_of(row.get("optimization_data")) or None
    path = json_of(row.get("path"))
    shape = path.get("geometry", path) if isinstance(path, dict) else None
    if isinstance(shape, dict):
        said["geometry"] = shape
    elif path:
        said["path"] = [point_of("path", each) for each in path] if isinstance(path, list) else path
    for end in ("start_point", "end_point"):
        said[end] = point_of(end, json_of(row[end]))
    columns = corridor_columns(_raw(said), {})
    return {**columns, "created_by": identity_of(row.get("created_by_id"))}


def alert_columns(row: Row) -> dict[str, Any]:
    """Return the columns of an alert as it stood: it is of the past, so no station rings for it. Raises Invalid."""
    said = _said(row, "alert_type", "severity", "title", "message", "latitude", "longitude")
    extra = json_of(row.get("metadata"))
    columns = read(
        {
            **said, "animal": identity_of(row["animal_id"]), "conflict_zone": identity_of(row.get("conflict_zone_id")),
            "detected_at": instant_of("detected_at", row["detected_at"]).isoformat(),
            "note": msgspec.json.encode(extra).decode() if extra else None,
        },
        AlertIn,
    ).columns()  # fmt: skip
    status = row.get("status") or "active"
    if status not in ("active", "acknowledged", "resolved", "false_alarm"):
        raise Invalid("status: must be one of active, acknowledged, resolved, false_alarm")
    return {
        **columns, "status": status, "is_late": True, "acknowledged_by": identity_of(row.get("acknowledged_by_id")),
        **{
            name: None if row.get(name) is None else instant_of(name, row[name])
            for name in ("acknowledged_at", "resolved_at")
        },
    }  # fmt: skip


# --- values -----------------------------------------------------------------------------------------------------------
def _said(row: Row, *names: str) -> dict[str, Any]:
    return {name: plain(row.get(name)) for name in names}


def plain(value: Any) -> Any:
    """Return a value without what no text of ours may hold."""
    if isinstance(value, float):
        return finite(value)
    return _CONTROL.sub(" ", value) if isinstance(value, str) else value


def read(said: dict[str, Any], shape: Any) -> Any:
    """Return what a row said in public form; raises Invalid."""
    return read_json(msgspec.json.encode(said), shape)


def _raw(said: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({name: value for name, value in said.items() if value is not None}))


def identity_of(value: Any) -> str | None:
    """Return a key as text."""
    return None if value is None else str(value)


def words_of(value: Any) -> str | None:
    """Return text without its ends and control characters, None for none."""
    return None if value is None else _CONTROL.sub(" ", str(value)).strip()[:10_000] or None


def finite(value: Any) -> float | None:
    """Return a number that is one, None for all else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _within(value: Any, least: float, most: float) -> float | None:
    found = finite(value)
    return found if found is not None and least <= found <= most else None


def _measure(name: str, value: Any, least: float, most: float) -> tuple[float | None, str | None]:
    """Return a measure as a number, or as the words that were said of it."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None, None
    found = _NUMBER.match(str(value))
    number = float(found[1]) if found else None
    if number is not None and least <= number <= most:
        return number, None
    return None, f"{name}: {words_of(value)}"


def instant_of(name: str, value: Any) -> datetime:
    """Return an instant, of no zone taken for UTC; raises Invalid."""
    if not isinstance(value, datetime):
        raise Invalid(f"{name}: is required")
    at = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if not _FIRST <= at < _LAST:
        raise Invalid(f"{name}: must lie between 1970 and 2100")
    return at


def json_of(value: Any) -> Any:
    """Return JSON that some clients had stored as a text once more."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Invalid("a JSON column holds no JSON") from error


def _geometry(value: Any) -> Any:
    shape = json_of(value)
    if isinstance(shape, dict) and shape.get("type") == "FeatureCollection" and len(shape.get("features") or ()) == 1:
        shape = shape["features"][0]
    return shape.get("geometry") if isinstance(shape, dict) and shape.get("type") == "Feature" else shape


def point_of(name: str, value: Any) -> dict[str, float]:
    """Return a place, which is written as {lat, lon}, {lat, lng}, {latitude, longitude} or [lat, lon]."""
    if isinstance(value, dict) and value.get("type") == "Point":
        value = list(reversed((value.get("coordinates") or [])[:2]))
    if isinstance(value, dict):
        lat = value.get("lat", value.get("latitude"))
        lon = value.get("lon", value.get("lng", value.get("longitude")))
    else:
        lat, lon = value if isinstance(value, list) and len(value) == 2 else (None, None)
    found = finite(lat), finite(lon)
    if found[0] is None or found[1] is None:
        raise Invalid(f"{name}: must be a place such as {{lat, lon}}")
    return {"lat": found[0], "lon": found[1]}
