"""What a phone pushes, read row by row: a row that cannot be read harms no other.

Whole rows come, with the columns that the user edited in ``_changed``. Columns that no table has, and those of the
original app (``local_id``, ``server_id``, ``synced``), are left out. What the tables call otherwise than the API is
renamed here, and the API's own bodies check the values, so a phone is refused what everybody is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.errors import Invalid, TooLarge
from shared.sync.phone.jobs import ENTITY_OF, TABLES, TRACKING
from shared.sync.records import ENTITIES, stored_columns
from shared.wire.public import AlertIn, AnimalPatch, NoteIn, ObservationPatch, TrackingIn
from shared.wire.public.fields import Notes, When, given
from shared.wire.reading import instant, optional_text, read_json

#: So many rows are taken in one push; a phone sends the rest in the next.
MAX_PUSHED: Final = 10_000
READ_ONLY: Final = frozenset({"zones", "corridors"})

#: Columns that a phone may write, by table.
_WRITABLE: Final[Mapping[str, frozenset[str]]] = {
    "animals": frozenset(
        ["name", "species", "collar_id", "status", "health_status", "gender", "age", "weight", "notes"]
    ),
    TRACKING: frozenset(
        [
            "animal_id",
            "collar_id",
            "timestamp",
            "lat",
            "lon",
            "altitude",
            "speed_kmh",
            "heading",
            "battery_level",
            "source",
        ]
    ),
    "observations": frozenset({"animal_id", "observation_type", "description", "lat", "lon", "timestamp", "photo_url"}),
    "alerts": frozenset({"status", "note"}),
    "patrols": frozenset({"started_at", "ended_at", "note", "track"}),
    "zones": frozenset(),
    "corridors": frozenset(),
}
#: What may be said of a new alert besides.
_ALERT: Final = frozenset(
    ["animal_id", "alert_type", "severity", "title", "message", "lat", "lon", "detected_at", "note"]
)
#: Columns that stand for one thing: who sends one says the other with it.
_TOGETHER: Final = (frozenset({"lat", "lon"}),)
_ID: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}", re.ASCII)


class Row(Struct, frozen=True, kw_only=True):
    """One row of a push. ``columns`` (stored form) are what is edited, ``full`` all of it; ``fix`` is a position's.

    ``base_rev`` is the revision that the user edited (``outgoing.phone_rev``), 0 of a row of his own that he has not
    pulled yet, None where the app did not note it. ``why`` says what is wrong
    with the row; then nothing else of it means anything but its id. ``raw`` are its bytes.
    """

    table: str
    id: str
    is_new: bool = False
    is_deletion: bool = False
    columns: dict[str, Any] = {}
    full: dict[str, Any] = {}
    fix: TrackingIn | None = None
    base_rev: int | None = None
    why: str = ""
    raw: bytes = b""


class _Changed(Struct):
    created: list[msgspec.Raw] = []
    updated: list[msgspec.Raw] = []
    deleted: list[str] = []


class _Push(Struct):
    changes: dict[str, _Changed] | None = None


class _Head(Struct):
    id: Any = None
    _changed: Any = None
    base_rev: Any = None


class _AlertAct(Struct, kw_only=True):
    status: Annotated[str, Meta(max_length=20)] | UnsetType = UNSET
    note: Annotated[str, Meta(max_length=10_000)] | UnsetType | None = UNSET


class _PatrolBody(Struct, kw_only=True):
    started_at: When | UnsetType = UNSET
    ended_at: When | UnsetType | None = UNSET
    note: Notes | UnsetType | None = UNSET
    track: str | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        if not isinstance(self.started_at, UnsetType):
            columns["started_at"] = instant("started_at", self.started_at)
        if not isinstance(self.ended_at, UnsetType):
            columns["ended_at"] = None if self.ended_at is None else instant("ended_at", self.ended_at)
        if not isinstance(self.note, UnsetType):
            columns["note"] = optional_text("note", self.note) or ""
        return columns | given(self, "track")


def read_push(body: bytes) -> list[Row]:
    """Return the rows of a push, parents first; raises Invalid for what is no push, TooLarge for too many rows."""
    push = read_json(body, _Push)
    tables = push.changes if push.changes is not None else read_json(body, dict[str, _Changed])
    rows: list[Row] = []
    for table in TABLES:
        if (changed := tables.get(table)) is None:
            continue
        rows += [read_row(table, bytes(raw), is_new=True) for raw in changed.created]
        rows += [read_row(table, bytes(raw), is_new=False) for raw in changed.updated]
        rows += [_deletion(table, identity) for identity in changed.deleted]
    if len(rows) > MAX_PUSHED:
        raise TooLarge(f"changes: at most {MAX_PUSHED} rows are taken at once; send the rest in another push")
    return rows


def _deletion(table: str, identity: str) -> Row:
    why = "" if _ID.fullmatch(identity) else "id: must have 1 to 64 letters, digits and _ . -"
    return Row(table=table, id=identity, is_deletion=True, why=why)


def read_row(table: str, raw: bytes, *, is_new: bool) -> Row:
    """Return one row as it is pushed; what is wrong with it stands in ``why``."""
    identity = ""
    try:
        cells = read_json(raw, dict[str, Any])
        said = cells.get("id")
        if not isinstance(said, str) or not _ID.fullmatch(said):
            raise Invalid("id: must have 1 to 64 letters, digits and _ . -")
        identity = said
        row = _read(table, identity, cells, raw, is_new=is_new)
    except Invalid as error:
        row = Row(table=table, id=identity, is_new=is_new, why=error.detail, raw=raw)
    return row


def _read(table: str, identity: str, cells: Mapping[str, Any], raw: bytes, *, is_new: bool) -> Row:
    writable = _WRITABLE[table]
    full = {name: value for name, value in cells.items() if name in writable}
    changed = cells.get("_changed")
    edited = full
    if not is_new and isinstance(changed, str) and changed:
        names = set(changed.split(","))
        for together in _TOGETHER:
            names |= together if names & together else frozenset()
        edited = {name: value for name, value in full.items() if name in names}
    base = cells.get("base_rev")
    base_rev: int | None = None
    if isinstance(base, int | float) and not isinstance(base, bool) and 0 <= base < 2**53:
        base_rev = int(base)
    if table == TRACKING:
        return Row(table=table, id=identity, is_new=is_new, fix=_fix(full), base_rev=base_rev, raw=raw)
    if table in READ_ONLY:
        return Row(table=table, id=identity, is_new=is_new, raw=raw)
    if table == "alerts" and is_new:
        said = {name: value for name, value in cells.items() if name in _ALERT}
        columns = _alert(said)
        return Row(table=table, id=identity, is_new=True, columns=columns, full=columns, raw=raw)
    read = _READERS[table]
    return Row(
        table=table, id=identity, is_new=is_new, columns=read(edited), full=read(full), base_rev=base_rev, raw=raw
    )


def _stored(table: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    stored = stored_columns(ENTITIES[ENTITY_OF[table]], columns)
    if table == "animals" and "collar_id" in columns:
        stored["collar_id"] = columns["collar_id"]
    return stored


def _as(cells: Mapping[str, Any], shape: type[Any]) -> Any:
    return read_json(msgspec.json.encode(cells), shape)


def _animal(cells: Mapping[str, Any]) -> dict[str, Any]:
    return _stored("animals", _as(cells, AnimalPatch).columns())


def _observation(cells: Mapping[str, Any]) -> dict[str, Any]:
    # the client has "" in the place of nothing where a column is not optional
    named = {name: value for name, value in cells.items() if not (name == "observation_type" and value == "")}
    return _stored("observations", _as(named, ObservationPatch).columns())


def _patrol(cells: Mapping[str, Any]) -> dict[str, Any]:
    return _stored("patrols", _as(cells, _PatrolBody).columns())


def _alert_act(cells: Mapping[str, Any]) -> dict[str, Any]:
    act: _AlertAct = _as(cells, _AlertAct)
    columns = given(act, "status")
    if not isinstance(act.note, UnsetType):
        columns["note"] = optional_text("note", _as({"note": act.note}, NoteIn).note)
    return _stored("alerts", columns)


def _alert(cells: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {"lat": "latitude", "lon": "longitude"}
    body = {renamed.get(name, name): value for name, value in cells.items() if value not in (None, "")}
    return _stored("alerts", {k: v for k, v in _as(body, AlertIn).columns().items() if v is not None})


def _fix(cells: Mapping[str, Any]) -> TrackingIn:
    body = {name: value for name, value in cells.items() if value is not None and value != ""}
    found: TrackingIn = _as(body, TrackingIn)
    return found


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "animals": _animal, "observations": _observation, "patrols": _patrol, "alerts": _alert_act,
}  # fmt: skip
