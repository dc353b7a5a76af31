"""What waits for the cloud, and the batches that are cut from it: what the table ``outbox`` says.

Rows that wait go as they stand when they are frozen: a fix, what a person decided of one (``flag``), and a record that
has no edit of its own. ``newest`` has no rows of its own: they are picked out of those of ``fixes``. What models said
waits elsewhere (``edge.store.results``), frames are the ledger's (``edge.store.frames_up``). Everything here runs
inside a transaction; numbers, hashes and answers are the business of ``edge.store.outbox``.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, get_args

import msgspec
import structlog

from edge.store import frames_up, results
from edge.store.decisions import forget_gone, newest_waiting, take_out, waiting_decisions
from edge.store.driver import Connection
from edge.store.ledger import Row
from edge.store.records import record_of, selecting
from shared.errors import Invalid
from shared.ids import derived_id
from shared.sync.operations import Kind, Operation
from shared.sync.personal import opened_rows
from shared.sync.records import ENTITIES, EntityName
from shared.wire.batch import FIX_COLUMNS, decode_records, encode_fixes, encode_records
from shared.wire.link import CHANNELS, OF_OPERATIONS, Channel

log = structlog.get_logger()

T = TypeVar("T")

_OF_CHANNEL: Final[Mapping[Channel, str]] = {
    "alerts": "entity <> 'fix' AND entity = 'alert'",
    "newest": "false",
    "records": "entity <> 'fix' AND entity <> 'alert'",
    "fixes": "entity = 'fix' AND operation <> 'flag'",
    "flags": "entity = 'fix' AND operation = 'flag'",
    "results": "false",
    "frames": "false",
}
#: An outbox row that stands for a record which an earlier cloud had: where this one knows better, it is right.
AGAIN: Final = "again"
#: The counter of what no batch could hold.
UNSENDABLE: Final = "unsendable"
_NAMES: Final = tuple(column.name for column in FIX_COLUMNS)
_FLOATS: Final = frozenset(column.name for column in FIX_COLUMNS if column.kind in ("decimal", "number"))
_SOURCES: Final = {"collar_id": "c.id", "said_animal_id": "a.id"}
_FIX_SELECT: Final = (
    f"SELECT f.pk, {', '.join(_SOURCES.get(name, f'f.{name}') for name in _NAMES)} FROM fixes f"
    " JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.said_animal_pk"
)


class Waiting(msgspec.Struct, frozen=True):
    """Items of one channel that the cloud has not confirmed, and when the oldest came to be."""

    items: int
    oldest_ms: int | None


class Run(msgspec.Struct, frozen=True, array_like=True):
    """Rows from ``first_pk`` to ``last_pk``."""

    first_pk: int
    last_pk: int


class Held(msgspec.Struct, frozen=True, array_like=True):
    """The record that an operation of a batch was of."""

    entity: str
    pk: int


class _Posted(msgspec.Struct, frozen=True):
    """One row of the outbox."""

    oseq: int
    entity: str
    first_pk: int
    last_pk: int
    operation: str
    body: bytes | None


class Frozen(msgspec.Struct, frozen=True):
    """What a batch holds; ``runs`` says of which rows: of fixes, of records with their kinds, or a ``results.Cut``."""

    payload: bytes
    items: int
    runs: bytes


def cut(db: Connection, channel: Channel, limit: int, now_ms: int) -> Frozen | None:
    """Take what goes next in a channel off the outbox, at most ``limit`` items; None for nothing."""
    match channel:
        case "fixes":
            return _freeze_fixes(db, limit)
        case "newest":
            return _freeze_newest(db, limit)
        case "flags":
            return _freeze_decisions(db)
        case "results":
            return _freeze_results(db, limit, now_ms)
        case "frames":
            return None  # they are read from the ledger beforehand: freeze_frames
        case _:
            return _freeze_records(db, channel, limit)


def newest_alert(db: Connection) -> int | None:
    """Return a number of the newest alert that no batch holds yet: another one is another number; None for none."""
    (found,) = db.execute(f"SELECT max(oseq) FROM outbox WHERE {_OF_CHANNEL['alerts']}").fetchone()
    return None if found is None else int(found)


def has_alerts(db: Connection) -> bool:
    """Say whether an alert waits for the cloud's receipt, sent or not."""
    sent = "SELECT 1 FROM batches WHERE channel = 'alerts' AND acknowledged_ms IS NULL LIMIT 1"
    return newest_alert(db) is not None or db.execute(sent).fetchone() is not None


# --- fixes


def _freeze_fixes(db: Connection, limit: int) -> Frozen | None:
    while asked := list(itertools.islice(_asked(_posted(db, "fixes", limit)), limit)):
        wanted = list(dict.fromkeys(asked))
        stored = fixes_of(db, wanted)
        there = [pk for pk in wanted if pk in stored]  # one that was folded into another needs no sending
        payload, count, reason = _fitting([stored[pk] for pk in there], _encoded)
        if payload is None and count:
            _refuse(db, "fix", there[0], reason)
        _consume_fixes(db, asked.index(there[count]) if count < len(there) else len(asked), limit)
        if payload is not None:
            return Frozen(payload, count, msgspec.msgpack.encode(runs_of(there[:count])))
    return None


def _freeze_newest(db: Connection, limit: int) -> Frozen | None:
    """Pick the newest position of each collar out of a backlog that more than one batch holds."""
    unsent = sorted(
        (first, last)
        for first, last in db.execute(f"SELECT first_pk, last_pk FROM outbox WHERE {_OF_CHANNEL['fixes']}")
    )
    (ahead,) = db.execute("SELECT count(*) FROM batches WHERE channel = 'fixes' AND acknowledged_ms IS NULL").fetchone()
    if ahead < 2 and sum(last - first + 1 for first, last in unsent) <= limit:  # on a stick many may be under way
        return None
    stored = fixes_of(db, newest_waiting(db, unsent)[:limit])
    payload, count, _ = _fitting(list(stored.values()), _encoded)
    if payload is None:
        return None
    pks = list(stored)[:count]
    take_out(db, pks)
    return Frozen(payload, count, msgspec.msgpack.encode(runs_of(pks)))


def _freeze_decisions(db: Connection) -> Frozen | None:
    forget_gone(db)
    (waits,) = db.execute(f"SELECT EXISTS (SELECT 1 FROM outbox WHERE {_OF_CHANNEL['flags']})").fetchone()
    if not waits:
        return None
    found = waiting_decisions(db, sorted((run.first_pk, run.last_pk) for run in waiting_fixes(db)))
    payload, count, _ = _fitting([decision for _, _, decision in found], encode_records)
    if payload is None:
        return None
    db.executemany("DELETE FROM outbox WHERE oseq = ?", [(oseq,) for oseq, _, _ in found[:count]])
    return Frozen(payload, count, msgspec.msgpack.encode([decided for _, decided, _ in found[:count]]))


def _freeze_results(db: Connection, limit: int, now_ms: int) -> Frozen | None:
    found = results.cut(db, limit, now_ms)
    if found is None:
        return None
    payload, held = found
    return Frozen(payload, held.items, msgspec.msgpack.encode(held))


def freeze_frames(db: Connection, rows: Sequence[Row]) -> Frozen | None:
    """Return a batch of the first of ``rows`` of the ledger, which follow what went before; None for nothing."""
    after_seq, _ = msgspec.structs.astuple(frames_up.position(db))
    frames = frames_up.frames_of([row for row in rows if row.seq > after_seq])
    while frames:
        payload, count, reason = _fitting(frames, encode_records)
        last_seq = frames[max(count, 1) - 1].seq
        frames_up.move(db, last_seq)
        if payload is not None:
            return Frozen(payload, count, msgspec.msgpack.encode(frames_up.Stretch(after_seq, last_seq)))
        _refuse(db, "frame", last_seq, reason)
        frames = frames[1:]
    return None


def _encoded(rows: Sequence[Sequence[Any]]) -> bytes:
    return encode_fixes({name: list(values) for name, values in zip(_NAMES, zip(*rows, strict=True), strict=True)})


def _asked(posted: Iterable[_Posted]) -> Iterator[int]:
    for post in posted:
        yield from range(post.first_pk, post.last_pk + 1)


def _consume_fixes(db: Connection, count: int, limit: int) -> None:
    """Take the first ``count`` rows of fixes off the outbox."""
    for post in _posted(db, "fixes", limit):
        size = post.last_pk - post.first_pk + 1
        if count < size:
            if count > 0:
                db.execute("UPDATE outbox SET first_pk = first_pk + ? WHERE oseq = ?", (count, post.oseq))
            return
        db.execute("DELETE FROM outbox WHERE oseq = ?", (post.oseq,))
        count -= size


def fixes_of(db: Connection, pks: Iterable[int]) -> dict[int, list[Any]]:
    """Return fixes by row as they are sent: values in the order of FIX_COLUMNS; a row that is no more is left out."""
    found: dict[int, list[Any]] = {}
    for run in runs_of(pks):
        for row in db.execute(f"{_FIX_SELECT} WHERE f.pk BETWEEN ? AND ?", (run.first_pk, run.last_pk)):
            found[row[0]] = _sendable(row)
    return found


def _sendable(row: Sequence[Any]) -> list[Any]:
    """Return a stored fix in the order of FIX_COLUMNS; what is no number is not known."""
    return [
        None if name in _FLOATS and isinstance(value, float) and not math.isfinite(value) else value
        for name, value in zip(_NAMES, row[1:], strict=True)
    ]


def runs_of(pks: Iterable[int]) -> list[Run]:
    """Return rows as runs, in their order."""
    runs: list[Run] = []
    for pk in sorted(pks):
        if runs and runs[-1].last_pk == pk - 1:
            runs[-1] = Run(runs[-1].first_pk, pk)
        else:
            runs.append(Run(pk, pk))
    return runs


# --- records


def _freeze_records(db: Connection, channel: Channel, limit: int) -> Frozen | None:
    while posted := _posted(db, channel, limit):
        there: list[tuple[_Posted, Operation]] = []
        for post in posted:
            try:
                operation = _operation(db, post)
            except Invalid as error:
                _refuse(db, post.entity, post.first_pk, error.detail)
            else:
                there += [] if operation is None else [(post, operation)]
        payload, count, reason = _fitting([operation for _, operation in there], encode_records)
        if payload is None and count:
            _refuse(db, there[0][0].entity, there[0][0].first_pk, reason)
        rest = {post.oseq for post, _ in there[count:]}
        db.executemany("DELETE FROM outbox WHERE oseq = ?", [(it.oseq,) for it in posted if it.oseq not in rest])
        if payload is not None:
            held = [Held(post.entity, post.first_pk) for post, _ in there[:count]]
            return Frozen(payload, count, msgspec.msgpack.encode(held))
    return None


def _operation(db: Connection, post: _Posted) -> Operation | None:
    """Return what a row of the outbox says, None where its record is no more; raises Invalid for what says nothing."""
    if post.entity not in ENTITIES:
        raise Invalid("there is no such kind of record")
    if post.body is None:
        return _as_it_stands(db, post)
    try:
        return msgspec.msgpack.decode(post.body, type=Operation)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"its edit cannot be read: {error}") from error


def _as_it_stands(db: Connection, post: _Posted) -> Operation | None:
    """Return a record as an operation that makes it; the same record makes the same operation."""
    entity = ENTITIES[post.entity]
    row = db.execute(f"{selecting(entity)} WHERE r.pk = ?", (post.first_pk,)).fetchone()
    if row is None:
        return None
    record = record_of(entity, opened_rows(entity, [row], db.fields)[0])
    kind: Kind = "delete" if record.is_deleted else "insert"
    said = {name: value for name, value in record.columns.items() if value != entity.columns[name]}
    columns = {} if record.is_deleted else said
    content = hashlib.sha256(msgspec.msgpack.encode([kind, entity.name, record.id, columns])).hexdigest()
    home = db.execute("SELECT station_id FROM enrolment").fetchone()  # without one nothing is sent, only counted
    return Operation(
        id=derived_id("" if home is None else home[0], content), entity=entity.name, row_id=record.id,
        kind=kind, columns=columns, author=record.author, base_rev=record.cloud_rev,
        made_ms=record.created_ms if record.deleted_ms is None else record.deleted_ms,
    )  # fmt: skip


def pending_columns(db: Connection) -> dict[tuple[EntityName, str], set[str]]:
    """Return, by record, the columns with edits that the cloud has not confirmed.

    ``deleted_ms`` is among them: every edit says that its record lives, or that it does not.
    """
    pending: dict[tuple[EntityName, str], set[str]] = {}
    operations: list[Operation] = []
    for post in [post for channel in OF_OPERATIONS for post in _posted(db, channel, -1)]:
        with contextlib.suppress(Invalid):  # it is told of when it is frozen
            operation = None if post.operation == AGAIN else _operation(db, post)
            operations += [] if operation is None else [operation]
    for (payload,) in db.execute(
        "SELECT payload FROM batches WHERE channel IN ('alerts', 'records') AND acknowledged_ms IS NULL"
        " AND epoch = (SELECT epoch FROM enrolment)"
    ):
        operations += decode_records(payload, Operation)
    for operation in operations:
        columns = pending.setdefault((operation.entity, operation.row_id), {"deleted_ms"})
        columns.update(operation.columns)
    return pending


# --- what waits


def waiting(db: Connection) -> dict[Channel, Waiting]:
    """Count, by channel, what the cloud has not confirmed."""
    found: dict[Channel, Waiting] = {}
    for channel in CHANNELS:
        (items,) = db.execute(
            f"SELECT coalesce(sum(last_pk - first_pk + 1), 0) FROM outbox WHERE {_OF_CHANNEL[channel]}"
        ).fetchone()
        (frozen,) = db.execute(
            "SELECT coalesce(sum(items), 0) FROM batches WHERE channel = ? AND acknowledged_ms IS NULL", (channel,)
        ).fetchone()
        items += results.waiting(db) if channel == "results" else 0
        items += frames_up.waiting(db) if channel == "frames" else 0
        found[channel] = Waiting(items + frozen, _oldest_ms(db, channel))
    return found


def _oldest_ms(db: Connection, channel: Channel) -> int | None:
    if channel == "fixes":
        first = [run.first_pk for run in unacknowledged_fixes(db)[:1]]
        (oldest,) = db.execute(
            "SELECT min(received_ms) FROM fixes WHERE pk IN"
            f" (SELECT first_pk FROM outbox WHERE {_OF_CHANNEL[channel]} UNION SELECT ?)",
            (first[0] if first else None,),
        ).fetchone()
        return None if oldest is None else int(oldest)
    for (frozen_ms,) in db.execute(
        "SELECT frozen_ms FROM batches WHERE channel = ? AND acknowledged_ms IS NULL ORDER BY n LIMIT 1", (channel,)
    ):
        return int(frozen_ms)
    if channel not in OF_OPERATIONS:  # when a person decided is not written down
        return None
    with contextlib.suppress(Invalid):
        for post in _posted(db, channel, 1):
            operation = _operation(db, post)
            return None if operation is None else operation.made_ms
    return None


def unacknowledged_fixes(db: Connection) -> list[Run]:
    """Return the rows of fixes in a batch without a receipt."""
    found: list[Run] = []
    for (runs,) in db.execute(
        "SELECT runs FROM batches WHERE channel IN ('fixes', 'newest') AND acknowledged_ms IS NULL"
    ):
        found += msgspec.msgpack.decode(runs, type=list[Run])
    return found


def waiting_fixes(db: Connection) -> list[Run]:
    """Return the rows of fixes that the cloud has not confirmed, in no order; runs may overlap."""
    posted = db.execute(f"SELECT first_pk, last_pk FROM outbox WHERE {_OF_CHANNEL['fixes']}")
    return [*(Run(*row) for row in posted), *unacknowledged_fixes(db)]


def waiting_collars(db: Connection, collar_ids: Sequence[str]) -> set[str]:
    """Return which of some collars have fixes that the cloud has not confirmed."""
    these = msgspec.json.encode(list(collar_ids)).decode()
    return {
        identity
        for run in (waiting_fixes(db) if collar_ids else ())
        for (identity,) in db.execute(
            "SELECT DISTINCT c.id FROM fixes f JOIN collars c ON c.pk = f.collar_pk WHERE f.pk BETWEEN ? AND ?"
            " AND c.id IN (SELECT value FROM json_each(?))",
            (run.first_pk, run.last_pk, these),
        )
    }


def oldest_waiting_ms(db: Connection) -> int | None:
    """Return when the oldest fix was heard that the cloud has not confirmed; reads every row that waits."""
    found = [
        oldest
        for run in waiting_fixes(db)
        for (oldest,) in db.execute(
            "SELECT min(received_ms) FROM fixes WHERE pk BETWEEN ? AND ?", (run.first_pk, run.last_pk)
        )
        if oldest is not None
    ]
    return min(found, default=None)


def _refuse(db: Connection, entity: str, pk: int, reason: str) -> None:
    log.warning("sync.unsendable", entity=entity, pk=pk, reason=reason)
    db.execute(
        "INSERT INTO counters (name, value) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1",
        (UNSENDABLE,),
    )


def _posted(db: Connection, channel: Channel, limit: int) -> list[_Posted]:
    return [
        _Posted(*row)
        for row in db.execute(
            "SELECT oseq, entity, first_pk, last_pk, operation, body FROM outbox"
            f" WHERE {_OF_CHANNEL[channel]} ORDER BY oseq LIMIT ?",
            (limit,),
        )
    ]


def _fitting(items: Sequence[T], encode: Callable[[Sequence[T]], bytes]) -> tuple[bytes | None, int, str]:
    """Return a batch of the first items, halved as often as need be, how many it holds, and why it is none.

    None with a count of 1: not even the first item makes a batch. None with 0: there are no items.
    """
    count = len(items)
    while count:
        try:
            return encode(items[:count]), count, ""
        except Invalid as error:
            if count == 1:
                return None, 1, error.detail
            count //= 2
    return None, 0, ""


assert set(get_args(Channel)) == set(_OF_CHANNEL)
