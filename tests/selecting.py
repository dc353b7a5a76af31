"""What lists of the API select, order and cut, over rows in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from shared.errors import Invalid
from shared.store import BoundingBox, Page
from shared.sync.fixes import Row, is_placed

T = TypeVar("T")

_ORDERS: Mapping[str, Mapping[str, str]] = {
    "animal": {name: name for name in ("name", "species", "status", "created_at", "updated_at")},
    "fix": {"timestamp": "recorded_at", "received_at": "received_at", "created_at": "age"},
    "observation": {"timestamp": "recorded_at", "created_at": "created_at"},
    "zone": {name: name for name in ("name", "created_at")},
    "corridor": {name: name for name in ("name", "created_at")},
    "patrol": {name: name for name in ("started_at", "created_at")},
    "alert": {name: name for name in ("detected_at", "created_at")},
    "prediction": {name: name for name in ("created_at", "confidence")},
}


def matches(row: object, wanted: Mapping[str, Any]) -> bool:
    """Say whether a row has these values; None asks for nothing."""
    return all(value is None or getattr(row, name) == value for name, value in wanted.items())


def is_found(search: str | None, *texts: str | None) -> bool:
    """Say whether one of some texts holds what is searched for, in any case."""
    return not search or any(text and search.lower() in text.lower() for text in texts)


def is_within(instant: datetime, since: datetime | None, until: datetime | None) -> bool:
    """Say whether an instant lies from ``since`` to before ``until``."""
    return (since is None or since <= instant) and (until is None or instant < until)


def is_inside(row: Row, box: BoundingBox) -> bool:
    """Say whether a fix lies in a box, which may cross the antimeridian."""
    if not is_placed(row):
        return False
    lon_deg, lat_deg = row["lon_e7"] / 1e7, row["lat_e7"] / 1e7
    west, east = box.west <= lon_deg, lon_deg <= box.east
    is_between = west and east if box.west <= box.east else west or east
    return bool(is_between and box.south <= lat_deg <= box.north)


def ordered(rows: Iterable[T], ordering: str, what: str) -> list[T]:
    """Return rows in an order that the API names."""
    columns = _ORDERS[what]
    column = columns.get(ordering.removeprefix("-"))
    if column is None:
        raise Invalid(f"ordering: must be one of {', '.join(columns)}, with - for descending")
    # Ties, and "age", go by the order in which rows came, like a database's row numbers.
    ordered = sorted(enumerate(rows), key=lambda row: (getattr(row[1], column, None) or 0, row[0]))
    return [row for _, row in (reversed(ordered) if ordering.startswith("-") else ordered)]


def page_of(rows: list[T], offset: int, limit: int) -> Page[T]:
    """Return a page of rows."""
    return Page(len(rows), rows[offset : offset + limit])
