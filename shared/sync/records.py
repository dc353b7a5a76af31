"""What people edit, as both homes keep and exchange it: one shape for every kind of record.

A record is a set of columns with a revision of its own, an author, and a tombstone in the place of its deletion. Its
``marks`` say for each column at which revision and by whom it was last changed since it was made; that is what a merge
needs to know of a record's past. Columns are in stored form: references are ids, instants integer milliseconds since
1970, positions 1e-7 degree. ``None`` means not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from shared.domain import (
    Alert,
    Animal,
    Collar,
    Corridor,
    Deployment,
    Observation,
    Patrol,
    PatrolLog,
    PatrolRoute,
    Ranger,
    RangerPosition,
    Team,
    Zone,
)
from shared.errors import Invalid
from shared.movement.quality import collar_limits
from shared.wire.geojson import check_area, check_lines, check_route, is_area

EntityName = Literal[
    "animal", "collar", "deployment", "observation", "zone", "corridor", "alert", "team", "ranger", "ranger_position",
    "patrol_log", "patrol_route", "patrol",
]  # fmt: skip

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_FIRST_MS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MS
_LAST_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS


def to_ms(instant: datetime) -> int:
    """Return whole milliseconds since 1970 of an aware instant."""
    return (instant - _EPOCH) // _MS


def from_ms(ms: int) -> datetime:
    """Return the aware UTC instant of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of record: its table and its columns with what a new one holds unless told otherwise.

    ``required`` columns may never be empty. ``references`` name the kind of record that a column points to; ``held``
    references are foreign keys in both databases, the others are ids that may arrive before what they name.
    """

    name: EntityName
    table: str
    columns: Mapping[str, Any]
    required: frozenset[str] = frozenset()
    references: Mapping[str, EntityName] = {}
    held: frozenset[str] = frozenset()


ANIMAL: Final = Entity(
    name="animal",
    table="animals",
    columns={
        "name": None, "species": None, "status": "active", "health_status": "unknown", "gender": "unknown", "age": None,
        "weight": None, "notes": None, "created_by": None,
    },
    required=frozenset({"name", "species", "status", "health_status", "gender"}),
)  # fmt: skip
COLLAR: Final = Entity(
    name="collar",
    table="collars",
    columns={"model": None, "fix_interval_s": None, "notes": None, "limits": None, "aliases": ()},
)
DEPLOYMENT: Final = Entity(
    name="deployment",
    table="deployments",
    columns={"collar_id": None, "animal_id": None, "started_ms": None, "ended_ms": None, "notes": None},
    required=frozenset({"collar_id", "animal_id", "started_ms"}),
    references={"collar_id": "collar", "animal_id": "animal"},
    held=frozenset({"collar_id", "animal_id"}),
)
OBSERVATION: Final = Entity(
    name="observation",
    table="observations",
    columns={
        "animal_id": None, "observation_type": "sighting", "description": "", "recorded_ms": None, "lon_e7": None,
        "lat_e7": None, "photo_url": None, "observer": None, "local_id": None,
    },
    required=frozenset({"observation_type", "recorded_ms"}),
    references={"animal_id": "animal"},
)  # fmt: skip
ZONE: Final = Entity(
    name="zone",
    table="zones",
    columns={
        "name": None, "zone_type": None, "risk_level": "medium", "geometry": None, "buffer_m": 0.0, "description": "",
        "is_active": True,
    },
    required=frozenset({"name", "zone_type", "risk_level", "geometry"}),
)  # fmt: skip
CORRIDOR: Final = Entity(
    name="corridor",
    table="corridors",
    columns={
        "name": None, "description": "", "species": None, "status": "planned", "start_lon_e7": None,
        "start_lat_e7": None, "end_lon_e7": None, "end_lat_e7": None, "geometry": None, "width_m": 2_000.0,
        "optimization_score": None, "optimization_data": None, "created_by": None,
    },
    required=frozenset({"name", "status"}),
)  # fmt: skip
ALERT: Final = Entity(
    name="alert",
    table="alerts",
    columns={
        "animal_id": None, "zone_id": None, "alert_type": None, "severity": "medium", "status": "active", "title": None,
        "message": "", "lon_e7": None, "lat_e7": None, "detected_ms": None, "note": None, "acknowledged_ms": None,
        "acknowledged_by": None, "resolved_ms": None, "is_late": False,
    },
    required=frozenset({"alert_type", "severity", "status", "title", "detected_ms"}),
    references={"animal_id": "animal", "zone_id": "zone"},
)  # fmt: skip
PATROL: Final = Entity(
    name="patrol",
    table="patrols",
    columns={"started_ms": None, "ended_ms": None, "note": "", "track": None, "created_by": None},
    required=frozenset({"started_ms"}),
)

TEAM: Final = Entity(
    name="team",
    table="teams",
    columns={"name": None, "description": "", "is_active": True},
    required=frozenset({"name"}),
)
RANGER: Final = Entity(
    name="ranger",
    table="rangers",
    columns={
        "user_id": None, "name": None, "badge_number": None, "team_id": None, "phone": None, "emergency_contact": None,
        "current_status": "off_duty", "device_id": None,
    },
    required=frozenset({"name", "badge_number", "current_status"}),
    references={"team_id": "team"},
)  # fmt: skip
RANGER_POSITION: Final = Entity(
    name="ranger_position",
    table="ranger_positions",
    columns={
        "ranger_id": None, "recorded_ms": None, "lon_e7": None, "lat_e7": None, "alt_m": None, "h_acc_m": None,
        "speed_mps": None, "heading_deg": None, "activity_type": "patrolling",
    },
    required=frozenset({"ranger_id", "recorded_ms", "lon_e7", "lat_e7", "activity_type"}),
    references={"ranger_id": "ranger"},
)  # fmt: skip
PATROL_LOG: Final = Entity(
    name="patrol_log",
    table="patrol_logs",
    columns={
        "ranger_id": None, "team_id": None, "log_type": None, "priority": "low", "title": None, "description": "",
        "recorded_ms": None, "lon_e7": None, "lat_e7": None, "animal_id": None, "photo_url": None, "notes": None,
        "is_resolved": False, "resolved_ms": None, "resolved_by": None, "reported_by": None, "alert_id": None,
        "local_id": None,
    },
    required=frozenset({"log_type", "priority", "title", "recorded_ms"}),
    references={"ranger_id": "ranger", "team_id": "team", "animal_id": "animal", "alert_id": "alert"},
)  # fmt: skip
PATROL_ROUTE: Final = Entity(
    name="patrol_route",
    table="patrol_routes",
    columns={
        "name": None, "description": "", "team_id": None, "assigned_rangers": "[]", "waypoints": "[]",
        "estimated_duration_h": None, "scheduled_start_ms": None, "scheduled_end_ms": None, "actual_start_ms": None,
        "actual_end_ms": None, "status": "planned", "created_by": None,
    },
    required=frozenset({"name", "status", "assigned_rangers", "waypoints"}),
    references={"team_id": "team"},
)  # fmt: skip

ENTITIES: Final[Mapping[str, Entity]] = {
    entity.name: entity
    for entity in (
        ANIMAL, COLLAR, DEPLOYMENT, OBSERVATION, ZONE, CORRIDOR, ALERT, TEAM, RANGER, RANGER_POSITION, PATROL_LOG,
        PATROL_ROUTE, PATROL,
    )
}  # fmt: skip

#: Kinds of records that lie in a station's scope or do not; of the others every station has all that come down.
SCOPED: Final[tuple[EntityName, ...]] = (
    "animal", "deployment", "collar", "zone", "corridor", "patrol_route", "observation",
)  # fmt: skip

#: The words that a column takes, where it takes no others.
WORDS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    (entity, column): frozenset(words.split())
    for entity, column, words in (
        ("animal", "status", "active inactive deceased missing"),
        ("animal", "health_status", "healthy injured sick unknown"),
        ("animal", "gender", "male female unknown"),
        ("observation", "observation_type", "sighting behavior health environment"),
        ("zone", "zone_type", "agriculture settlement road infrastructure protected_area buffer_zone"),
        ("zone", "risk_level", "low medium high"),
        ("corridor", "status", "active inactive planned under_review"),
        (
            "alert",
            "alert_type",
            (
                "high_risk_zone poaching_risk corridor_exit rapid_movement low_battery weak_signal stationary_too_long"
                " unusual_behavior zone_warning silent_collar proximity collar_fault ranger_emergency"
            ),
        ),
        ("alert", "severity", "low medium high critical"),
        ("alert", "status", "active acknowledged resolved false_alarm"),
        ("ranger", "current_status", "on_duty off_duty on_leave emergency_response"),
        ("ranger_position", "activity_type", "patrolling stationary responding resting traveling"),
        (
            "patrol_log",
            "log_type",
            "patrol_start patrol_end animal_sighting emergency incident checkpoint rest_break other",
        ),
        ("patrol_log", "priority", "low medium high critical"),
        ("patrol_route", "status", "planned in_progress completed cancelled"),
    )
}

#: What is no text, by its column: whole numbers and how far from zero they go, other numbers, yes or no.
_BOUNDS: Final[Mapping[str, int]] = {
    "fix_interval_s": 2**31 - 1,
    **dict.fromkeys(("lon_e7", "start_lon_e7", "end_lon_e7"), 1_800_000_000),
    **dict.fromkeys(("lat_e7", "start_lat_e7", "end_lat_e7"), 900_000_000),
}
_NUMBERS: Final = frozenset({
    "age", "weight", "buffer_m", "width_m", "optimization_score", "alt_m", "h_acc_m", "speed_mps", "heading_deg",
    "estimated_duration_h",
})  # fmt: skip
_MAX_NUMBER: Final = 1e15
_MAX_JSON_CHARACTERS: Final = 500_000
_FLAGS: Final = frozenset({"is_active", "is_late", "is_resolved"})
#: Text that holds JSON.
_JSON: Final = ("optimization_data", "assigned_rangers", "waypoints")

#: How the Store's callers name an instant or a degree, and the column that holds it.
_STORED_NAMES: Final[Mapping[str, str]] = {
    "started_at": "started_ms", "ended_at": "ended_ms", "recorded_at": "recorded_ms", "detected_at": "detected_ms",
    "acknowledged_at": "acknowledged_ms", "resolved_at": "resolved_ms", "lon_deg": "lon_e7", "lat_deg": "lat_e7",
    "start_lon_deg": "start_lon_e7", "start_lat_deg": "start_lat_e7", "end_lon_deg": "end_lon_e7",
    "end_lat_deg": "end_lat_e7", "scheduled_start_at": "scheduled_start_ms", "scheduled_end_at": "scheduled_end_ms",
    "actual_start_at": "actual_start_ms", "actual_end_at": "actual_end_ms",
}  # fmt: skip


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """When a column was last changed: the record's revision, and who brought it ("" is this home itself)."""

    rev: int
    origin: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One record as it stands. ``cloud_rev`` is the revision that the cloud is known to have; always 0 in the cloud."""

    entity: EntityName
    id: str
    columns: Mapping[str, Any]
    created_ms: int
    updated_ms: int
    rev: int = 1
    author: str | None = None
    deleted_ms: int | None = None
    marks: Mapping[str, Mark] = {}
    cloud_rev: int = 0

    @property
    def is_deleted(self) -> bool:
        """Say whether this is a tombstone."""
        return self.deleted_ms is not None


def stored_columns(entity: Entity, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a caller of the Store gave in the form in which it is kept; unknown names are left out.

    Raises Invalid for a word that the column does not take and for a geometry that is no area.
    """
    columns: dict[str, Any] = {}
    for name, value in given.items():
        column = _STORED_NAMES.get(name, name)
        if column not in entity.columns:
            continue
        if value is not None and column != name:
            value = to_ms(value) if column.endswith("_ms") else round(value * 1e7)
        elif value is None and column not in entity.required:
            value = entity.columns[column]
        elif column == "aliases":
            value = aliases_of(value)
        columns[column] = value
    check_columns(entity, columns)
    return columns


def aliases_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return radio ids in their one order: two homes that have the same ones have equal columns."""
    return tuple(sorted(set(names)))


def kept_form(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns that came over a wire or from a database as they are compared and kept."""
    kept = dict(columns)
    for name in _FLAGS & kept.keys():
        kept[name] = bool(kept[name])
    if "aliases" in kept:
        kept["aliases"] = aliases_of(kept["aliases"])
    return kept


def check_columns(entity: Entity, columns: Mapping[str, Any]) -> None:
    """Raise Invalid where a column holds what it may not."""
    for column, value in columns.items():
        if column not in entity.columns:
            raise Invalid(f"{column}: no column of {entity.table}")
        if value is None or value == "":
            if column in entity.required or (value is None and entity.columns[column] is not None):
                raise Invalid(f"{column}: must not be empty")
            if value is None:
                continue
        _check_kind(column, value)
        words = WORDS.get((entity.name, column))
        if words is not None and value not in words:
            raise Invalid(f"{column}: must be one of {', '.join(sorted(words))}")
    if columns.get("geometry") is not None:
        (check_route if entity.name == "corridor" else check_area)(columns["geometry"])
    if columns.get("track") is not None:
        check_lines("track", columns["track"])
    for column in _JSON:
        if columns.get(column) is not None:
            _check_json(column, columns[column])
    if columns.get("limits") is not None:
        try:
            collar_limits(columns["limits"])
        except ValueError as error:
            raise Invalid(f"limits: {error}") from error


def check_text(column: str, value: object) -> None:
    """Raise Invalid unless ``value`` is text that both databases keep as it is."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise Invalid(f"{column}: must be text")


def check_instant(column: str, value: object) -> None:
    """Raise Invalid unless ``value`` is milliseconds since 1970 of a year that can be told."""
    _check_whole(column, value, _FIRST_MS, _LAST_MS)


def _check_kind(column: str, value: object) -> None:
    """Raise Invalid where ``value`` is none of the kind of ``column``; it may come from whoever wrote a batch."""
    if column.endswith("_ms"):
        check_instant(column, value)
    elif column in _BOUNDS:
        _check_whole(column, value, -_BOUNDS[column], _BOUNDS[column])
    elif column in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MAX_NUMBER:
            raise Invalid(f"{column}: must be a number")
        if column == "width_m" and value < 0:
            raise Invalid("width_m: must not be less than 0")
    elif column in _FLAGS:
        if value not in (0, 1):
            raise Invalid(f"{column}: must be true or false")
    elif column == "aliases":
        if not isinstance(value, list | tuple):
            raise Invalid("aliases: must be a list")
        for alias in value:
            check_text(column, alias)
    elif value != "":
        check_text(column, value)


def _check_json(column: str, text: str) -> None:
    if len(text) > _MAX_JSON_CHARACTERS:
        raise Invalid(f"{column}: has {len(text)} characters; {_MAX_JSON_CHARACTERS} are taken")
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise Invalid(f"{column}: is no JSON: {error}") from error


def _check_whole(column: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Invalid(f"{column}: must be a whole number from {low} to {high}")


def animal_of(record: Record, collar_id: str | None) -> Animal:
    """Return a record of an animal with the collar that it wears."""
    return Animal(collar_id=collar_id, **_common(record), **record.columns)


def collar_of(
    record: Record,
    *,
    last_heard_ms: int | None,
    battery_mv: int | None,
    battery_pct: float | None,
    firmware: str | None,
) -> Collar:
    """Return a record of a collar with what it last said of itself."""
    return Collar(
        last_heard_at=_instant(last_heard_ms), battery_mv=battery_mv, battery_pct=battery_pct, firmware=firmware,
        **_common(record), **record.columns,
    )  # fmt: skip


def deployment_of(record: Record) -> Deployment:
    """Return a record of a deployment."""
    columns = dict(record.columns)
    return Deployment(
        started_at=from_ms(columns.pop("started_ms")), ended_at=_instant(columns.pop("ended_ms")), **_common(record),
        **columns,
    )  # fmt: skip


#: Columns of a row of an observation; in a reduced view one more follows, the area that stands for its place.
PLAIN_OBSERVATION: Final = 1 + len(OBSERVATION.columns) + 7


def observation_of(record: Record, area: str | None = None) -> Observation:
    """Return a record of an observation."""
    columns = dict(record.columns)
    return Observation(
        area=area,
        recorded_at=from_ms(columns.pop("recorded_ms")), lon_deg=degrees(columns.pop("lon_e7")),
        lat_deg=degrees(columns.pop("lat_e7")), **_common(record), **columns,
    )  # fmt: skip


def zone_of(record: Record) -> Zone:
    """Return a record of a zone."""
    columns = dict(record.columns)
    return Zone(is_active=bool(columns.pop("is_active")), **_common(record), **columns)


def corridor_of(record: Record) -> Corridor:
    """Return a record of a corridor; of an area no width is shown, whatever it had as a line."""
    columns = dict(record.columns)
    places: dict[str, Any] = {
        f"{end}_{axis}_deg": degrees(columns.pop(f"{end}_{axis}_e7"))
        for end in ("start", "end")
        for axis in ("lon", "lat")
    }
    if columns["geometry"] is not None and is_area(columns["geometry"]):
        columns["width_m"] = 0.0
    return Corridor(**places, **_common(record), **columns)


def alert_of(record: Record) -> Alert:
    """Return a record of an alert."""
    columns = dict(record.columns)
    return Alert(
        detected_at=from_ms(columns.pop("detected_ms")), acknowledged_at=_instant(columns.pop("acknowledged_ms")),
        resolved_at=_instant(columns.pop("resolved_ms")), lon_deg=degrees(columns.pop("lon_e7")),
        lat_deg=degrees(columns.pop("lat_e7")), is_late=bool(columns.pop("is_late")), **_common(record), **columns,
    )  # fmt: skip


def patrol_of(record: Record) -> Patrol:
    """Return a record of a patrol."""
    columns = dict(record.columns)
    return Patrol(
        started_at=from_ms(columns.pop("started_ms")), ended_at=_instant(columns.pop("ended_ms")), **_common(record),
        **columns,
    )  # fmt: skip


def team_of(record: Record) -> Team:
    """Return a record of a team."""
    columns = dict(record.columns)
    return Team(is_active=bool(columns.pop("is_active")), **_common(record), **columns)


def ranger_of(record: Record) -> Ranger:
    """Return a record of a ranger."""
    return Ranger(**_common(record), **record.columns)


def ranger_position_of(record: Record) -> RangerPosition:
    """Return a record of a ranger's position."""
    columns = dict(record.columns)
    return RangerPosition(
        recorded_at=from_ms(columns.pop("recorded_ms")), lon_deg=columns.pop("lon_e7") / 1e7,
        lat_deg=columns.pop("lat_e7") / 1e7, **_common(record), **columns,
    )  # fmt: skip


def patrol_log_of(record: Record) -> PatrolLog:
    """Return a record of a line of a patrol's log."""
    columns = dict(record.columns)
    return PatrolLog(
        recorded_at=from_ms(columns.pop("recorded_ms")), resolved_at=_instant(columns.pop("resolved_ms")),
        lon_deg=degrees(columns.pop("lon_e7")), lat_deg=degrees(columns.pop("lat_e7")),
        is_resolved=bool(columns.pop("is_resolved")), **_common(record), **columns,
    )  # fmt: skip


def patrol_route_of(record: Record) -> PatrolRoute:
    """Return a record of a patrol that is planned."""
    columns = dict(record.columns)
    instants = {
        f"{name}_at": _instant(columns.pop(f"{name}_ms"))
        for name in ("scheduled_start", "scheduled_end", "actual_start", "actual_end")
    }
    return PatrolRoute(**_common(record), **columns, **instants)  # type: ignore[arg-type] # columns are named alike


def degrees(e7: int | None) -> float | None:
    """Return a coordinate in degrees."""
    return None if e7 is None else e7 / 1e7


def _common(record: Record) -> dict[str, Any]:
    return {
        "id": record.id, "rev": record.rev, "created_at": from_ms(record.created_ms),
        "updated_at": from_ms(record.updated_ms),
    }  # fmt: skip


def _instant(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
