"""What was brought to this home and from it, session by session, and the single items that did not simply go through.

Both homes have the two tables. ``sync_log`` has a row for each session: a phone's upload or push, a station's session,
a batch, a stick. ``sync_items`` has a row for each item that failed or was in conflict, with what is needed to try it
again. Everything here is a job (``shared.accounts``): whoever takes an upload runs ``note`` in the transaction that
stores what was uploaded, so that log and rows are never at odds::

    yield from log.note(Session(...), [Item(...), ...])

An item's ``body`` is what its ``form`` says: a MessagePack ``Operation``, a fix as columns, a row of this station that
is sent to the cloud again, or nothing that this home could do again (the device has to send it once more).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from shared.accounts.users import Job
from shared.errors import Conflict, Invalid, NotFound
from shared.privacy import Principal
from shared.sync.records import to_ms

#: What brought it: the original's bulk upload, WatermelonDB's push, a station's session, one of its batches, a stick.
Path = Literal["upload", "push", "session", "batch", "usb"]
Status = Literal["pending", "syncing", "completed", "failed", "conflict"]
#: ``operation``: an ``Operation``; ``fix``: the columns of one fix; ``sent``: a row of this station; ``none``.
Form = Literal["operation", "fix", "sent", "none"]

#: A home forgets what is older, whatever became of it, but never what waits for a person.
RETAINED_MS: Final = 400 * 86_400_000


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session. ``user_id`` is whose it was; None is the home itself and its stations.

    Bytes are those of bodies as they travelled, towards the cloud and from it, as far as this home counts them.
    """

    id: str
    user_id: str | None
    device_id: str
    path: Path
    total: int
    synced: int
    conflicts: int
    failed: int
    started_ms: int
    completed_ms: int
    bytes_up: int = 0
    bytes_down: int = 0


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One item that failed, was in conflict, or waits; ``data`` and ``conflict_data`` are JSON objects as text."""

    id: str
    sync_id: str | None
    user_id: str | None
    device_id: str
    data_type: str
    local_id: str | None = None
    server_id: str | None = None
    data: str = "{}"
    status: Status = "failed"
    conflict_data: str | None = None
    error_message: str | None = None
    attempts: int = 1
    offline_since_ms: int | None = None
    created_ms: int
    synced_ms: int | None = None
    form: Form = "none"
    body: bytes | None = None


class Whose(msgspec.Struct, frozen=True):
    """Whose rows are asked for: those of a person and of some devices; both None: everybody's."""

    user_id: str | None = None
    devices: tuple[str, ...] | None = None

    @classmethod
    def of(cls, principal: Principal) -> Whose:
        """Return what a person may look at: managers what their stations brought, everybody else their own."""
        if principal.role not in ("admin", "conservation_manager"):
            return cls(principal.user_id, ())
        return cls() if principal.stations is None else cls(principal.user_id, principal.stations)


EVERYBODY: Final = Whose()


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over sessions; ``failed_syncs`` are those of which at least one item failed."""

    syncs: int
    failed_syncs: int
    items: int
    synced: int
    conflicts: int
    failed: int


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """What the sessions of one station carried on one day."""

    device_id: str
    day: date
    bytes_up: int
    bytes_down: int


_DAY_MS: Final = 86_400_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC).date()
_SESSION: Final = tuple(field.name for field in msgspec.structs.fields(Session))
_ITEM: Final = tuple(field.name for field in msgspec.structs.fields(Item))
_SELECT_SESSION: Final = f"SELECT {', '.join(_SESSION)} FROM sync_log"
_SELECT_ITEM: Final = f"SELECT {', '.join(_ITEM)} FROM sync_items"
_SUMS: Final = (
    "SELECT count(*), coalesce(sum(CASE WHEN failed > 0 THEN 1 ELSE 0 END), 0), coalesce(sum(total), 0),"
    " coalesce(sum(synced), 0), coalesce(sum(conflicts), 0), coalesce(sum(failed), 0)"
)
#: The number of tries says whether somebody else was faster.
_RETRY: Final = (
    "UPDATE sync_items SET status = ?, error_message = ?, attempts = attempts + 1, synced_ms = ?"
    " WHERE id = ? AND status = 'failed' AND attempts = ? RETURNING id"
)


def note(session: Session, items: Iterable[Item] = ()) -> Job[None]:
    """Write a session and its items; a session that is there already (a replay) stays as it was told first."""
    written = yield (
        f"{_insert('sync_log', _SESSION)} ON CONFLICT (id) DO NOTHING RETURNING id",
        [getattr(session, name) for name in _SESSION],
    )
    if written:
        yield from keep(items)


def note_all(noted: Sequence[tuple[Session, Sequence[Item]]]) -> Job[None]:
    """Write sessions that have just come to be, with one statement, and their items."""
    if not noted:
        return
    row = f"({', '.join('?' * len(_SESSION))})"
    yield (
        f"INSERT INTO sync_log ({', '.join(_SESSION)}) VALUES {', '.join([row] * len(noted))}",
        [getattr(session, name) for session, _ in noted for name in _SESSION],
    )
    yield from keep(item for _, items in noted for item in items)


def keep(items: Iterable[Item]) -> Job[None]:
    """Write items; one that is there already stays."""
    for item in items:
        yield f"{_insert('sync_items', _ITEM)} ON CONFLICT (id) DO NOTHING", [getattr(item, name) for name in _ITEM]


def sessions(whose: Whose, offset: int, limit: int) -> Job[tuple[int, list[Session]]]:
    """Return how many sessions there are and some of them, newest first."""
    where, values = _of(whose)
    ((count,),) = yield f"SELECT count(*) FROM sync_log{where}", values
    rows = yield f"{_SELECT_SESSION}{where} ORDER BY started_ms DESC, id LIMIT ? OFFSET ?", (*values, limit, offset)
    return int(count), [_session(row) for row in rows]


def totals(whose: Whose) -> Job[Totals]:
    """Return sums over sessions."""
    where, values = _of(whose)
    (row,) = yield f"{_SUMS} FROM sync_log{where}", values
    syncs, failed_syncs, items, synced, conflicts, failed = map(int, row)
    return Totals(
        syncs=syncs, failed_syncs=failed_syncs, items=items, synced=synced, conflicts=conflicts, failed=failed
    )


def carried(whose: Whose, since: datetime, offset: timedelta) -> Job[list[Carried]]:
    """Return what sessions between homes carried, by station and day; ``offset`` is the time of the days less UTC."""
    shift_ms = offset // timedelta(milliseconds=1)
    where, values = _of(whose, "path IN ('session', 'batch') AND started_ms >= ?", to_ms(since))
    columns = f"device_id, (started_ms + ({shift_ms})) / {_DAY_MS}, sum(bytes_up), sum(bytes_down)"
    rows = yield f"SELECT {columns} FROM sync_log{where} GROUP BY 1, 2 ORDER BY 1, 2", values
    return [
        Carried(device_id=device, day=_EPOCH + timedelta(days=int(day)), bytes_up=int(up), bytes_down=int(down))
        for device, day, up, down in rows
    ]


def items(whose: Whose, status: Status, offset: int, limit: int) -> Job[tuple[int, list[Item]]]:
    """Return how many items have ``status`` and some of them, newest first."""
    where, values = _of(whose, "status = ?", status)
    ((count,),) = yield f"SELECT count(*) FROM sync_items{where}", values
    rows = yield f"{_SELECT_ITEM}{where} ORDER BY created_ms DESC, id LIMIT ? OFFSET ?", (*values, limit, offset)
    return int(count), [_item(row) for row in rows]


def item(item_id: str, whose: Whose) -> Job[Item]:
    """Return one item; raises NotFound, also where it is somebody else's."""
    where, values = _of(whose, "id = ?", item_id)
    rows = yield f"{_SELECT_ITEM}{where}", values
    if not rows:
        raise NotFound(f"there is no item {item_id} in this queue")
    return _item(rows[0])


def retried(before: Item, status: Status, now_ms: int, *, error: str | None = None) -> Job[Item]:
    """Note that an item was tried again and what became of it; raises Conflict where somebody else was faster."""
    synced_ms = now_ms if status == "completed" else None
    rows = yield _RETRY, (status, error, synced_ms, before.id, before.attempts)
    if not rows:
        raise Conflict("status: somebody else tried this item again at this moment")
    return (yield from item(before.id, EVERYBODY))


def check_failed(found: Item) -> None:
    """Raise Invalid for an item that has not failed."""
    if found.status != "failed":
        raise Invalid(f"status: the item is {found.status}; only one that failed is tried again")


def settle(item_id: str, status: Status, now_ms: int, *, error: str | None = None) -> Job[None]:
    """Note what the other side said of an item that was sent again."""
    yield (
        "UPDATE sync_items SET status = ?, error_message = ?, synced_ms = ? WHERE id = ? AND status = 'syncing'",
        (status, error, now_ms if status == "completed" else None, item_id),
    )


def forget(before_ms: int) -> Job[int]:
    """Forget sessions and what was settled before then and return how many; what waits for a person stays."""
    sessions = yield "DELETE FROM sync_log WHERE completed_ms < ? RETURNING 1", (before_ms,)
    settled = yield "DELETE FROM sync_items WHERE status = 'completed' AND created_ms < ? RETURNING 1", (before_ms,)
    return len(sessions) + len(settled)


def _insert(table: str, names: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


def _of(whose: Whose, condition: str | None = None, *values: Any) -> tuple[str, tuple[Any, ...]]:
    """Return a WHERE clause and its values: whose rows, and a further condition."""
    said = [] if condition is None else [condition]
    if whose.devices is not None:
        devices = ", ".join("?" * len(whose.devices))
        said.append(f"(user_id = ? OR device_id IN ({devices}))" if devices else "user_id = ?")
        values = (*values, whose.user_id, *whose.devices)
    return f" WHERE {' AND '.join(said)}" if said else "", values


def _session(row: Sequence[Any]) -> Session:
    return msgspec.convert(dict(zip(_SESSION, row, strict=True)), Session)


def _item(row: Sequence[Any]) -> Item:
    columns = dict(zip(_ITEM, row, strict=True))
    if columns["body"] is not None:
        columns["body"] = bytes(columns["body"])
    return msgspec.convert(columns, Item)
