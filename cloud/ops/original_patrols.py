"""Rows of the original platform about its rangers, and what its models said, as columns of ours: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, get_args

import msgspec

from cloud.ops.original_rows import Row, finite, identity_of, instant_of, json_of, plain, point_of, read, words_of
from shared.domain import Prediction, PredictionType
from shared.errors import Invalid
from shared.wire.public.rangers import PatrolLogIn, PatrolRouteIn, RangerIn, RangerPositionIn, TeamIn, check_order

_KINDS: Final = get_args(PredictionType)


def team_columns(row: Row) -> dict[str, Any]:
    """Return the columns of a team; raises Invalid."""
    said = {"name": plain(row["name"]), "description": words_of(row.get("description"))}
    columns: dict[str, Any] = read({**said, "is_active": row.get("is_active") is not False}, TeamIn).columns()
    return columns


def ranger_columns(row: Row, name: str | None) -> dict[str, Any]:
    """Return the columns of a ranger, who is called as the account is; raises Invalid."""
    columns: dict[str, Any] = read(
        {
            "badge_number": plain(row["badge_number"]), "name": words_of(name) or words_of(row["badge_number"]),
            "user": identity_of(row["user_id"]), "team": identity_of(row.get("team_id")),
            "emergency_contact": words_of(row.get("emergency_contact")), "device_id": words_of(row.get("device_id")),
            "current_status": row.get("current_status") or None,
        },
        RangerIn,
    ).columns()  # fmt: skip
    return columns


def ranger_position_columns(row: Row) -> dict[str, Any]:
    """Return the columns of a ranger's position; raises Invalid."""
    said = {name: finite(row.get(name)) for name in ("altitude", "accuracy", "speed_kmh")}
    heading = finite(row.get("directional_angle"))
    columns: dict[str, Any] = read(
        {
            **said, **place_of(row), "timestamp": instant_of("timestamp", row["timestamp"]).isoformat(),
            "directional_angle": None if heading is None or heading < 0 else heading % 360.0,
            "activity_type": row.get("activity_type") or None,
        },
        RangerPositionIn,
    ).columns()  # fmt: skip
    return {**columns, "ranger_id": identity_of(row["ranger_id"])}


def patrol_log_columns(row: Row) -> dict[str, Any]:
    """Return the columns of a line of a log; an emergency of the past rings for nobody. Raises Invalid."""
    photo, notes = words_of(row.get("photo_url")), words_of(row.get("notes"))
    if photo and not photo.startswith(("http://", "https://", "/")):
        notes, photo = "\n".join(filter(None, (notes, f"photo: {photo}"))), None
    columns: dict[str, Any] = read(
        {
            **place_of(row), "log_type": row["log_type"], "title": plain(row["title"]),
            "description": words_of(row.get("description")), "priority": row.get("priority") or None,
            "ranger": identity_of(row["ranger_id"]), "team": identity_of(row.get("team_id")),
            "animal": identity_of(row.get("animal_id")), "photo_url": photo, "notes": notes,
            "timestamp": instant_of("timestamp", row["timestamp"]).isoformat(),
            "is_resolved": row.get("is_resolved") is True,
        },
        PatrolLogIn,
    ).columns()  # fmt: skip
    resolved_at = row.get("resolved_at")
    return {
        **columns, "resolved_by": identity_of(row.get("resolved_by_id")),
        "resolved_at": None if resolved_at is None else instant_of("resolved_at", resolved_at),
    }  # fmt: skip


def patrol_route_columns(row: Row, rangers: Sequence[str]) -> dict[str, Any]:
    """Return the columns of a patrol that was planned for ``rangers``; raises Invalid."""
    waypoints = json_of(row["waypoints"]) or []
    if not isinstance(waypoints, list):
        raise Invalid("waypoints: must be a list of places")
    times = ("scheduled_start", "scheduled_end", "actual_start", "actual_end")
    columns: dict[str, Any] = read(
        {
            "name": plain(row["name"]), "description": words_of(row.get("description")),
            "team": identity_of(row.get("team_id")), "assigned_rangers": list(rangers),
            "waypoints": [_waypoint(each) for each in waypoints],
            "estimated_duration_hours": finite(row.get("estimated_duration_hours")), "status": row.get("status"),
            **{
                name: None if row.get(name) is None else instant_of(name, row[name]).isoformat() for name in times
            },
        },
        PatrolRouteIn,
    ).columns()  # fmt: skip
    check_order(columns)
    return {**columns, "created_by": identity_of(row.get("created_by_id"))}


def prediction_of(row: Row) -> Prediction:
    """Return what a model of the original said; raises Invalid."""
    if row["prediction_type"] not in _KINDS:
        raise Invalid(f"prediction_type: must be one of {', '.join(_KINDS)}")
    said = {name: json_of(row.get(name)) for name in ("input_data", "results")}
    return Prediction(
        id=str(row["id"]), prediction_type=row["prediction_type"],
        created_at=instant_of("created_at", row["created_at"]), animal_id=identity_of(row.get("animal_id")),
        confidence=finite(row.get("confidence")), model_version=words_of(row.get("model_version")),
        created_by=identity_of(row.get("created_by_id")),
        **{name: msgspec.json.encode({} if value is None else value).decode() for name, value in said.items()},
    )  # fmt: skip


def place_of(row: Row) -> dict[str, float]:
    """Return a row's place; raises Invalid."""
    return point_of("lat", {"lat": row.get("lat"), "lon": row.get("lon")})


def _waypoint(value: Any) -> dict[str, Any]:
    name = value.get("name") if isinstance(value, dict) else None
    return {**point_of("waypoints", value), "name": None if name is None else str(plain(str(name)))[:200]}
