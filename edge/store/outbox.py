"""What waits for the cloud and what it has: the tables ``outbox``, ``batches`` and ``enrolment``.

Everything here runs inside a transaction of the writer thread. What an answer of the cloud means is decided by
``shared.sync.streams``; here is where its state lies and what its actions do::

    outbox --freeze--> a batch without acknowledged_ms --SendNext--> an acknowledged batch, kept 90 days
       ^                        |                                               |
       +-------- StartOver -----+------------ ResumeFrom, StartOver ------------+

A batch is frozen in the transaction that takes its rows from the outbox, so a row is in exactly one place whatever ends
the process. ``runs`` says what a batch held: of fixes pairs of first and last row, of records pairs of kind and row.
The payload of records stays after the receipt, because it holds the operations with their ids; fixes are read anew.

Rows that wait go as they stand when they are frozen: a fix, what a person decided of one (``flag``), and a record that
has no edit of its own. ``newest`` has no rows of its own: they are picked out of those of ``fixes``.
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

from edge.store.decisions import Decided, forget_gone, newest_waiting, take_out, waiting_decisions
from edge.store.driver import Connection
from edge.store.records import record_of, selecting
from shared.errors import Conflict, Invalid, NotFound
from shared.ids import derived_id
from shared.sync import streams
from shared.sync.fixes import BY_HAND
from shared.sync.operations import Kind, Operation
from shared.sync.records import ENTITIES, Entity, EntityName, Record
from shared.sync.streams import GENESIS, Action, Batch, Head, ResumeFrom, Sender, SendNext, StartOver
from shared.wire.batch import FIX_COLUMNS, decode_records, encode_fixes, encode_records
from shared.wire.link import CHANNELS, DOWN, OF_FIXES, OF_OPERATIONS, Channel

log = structlog.get_logger()

T = TypeVar("T")

#: Acknowledged batches are kept this long, to fill a cloud that was restored from a backup.
RETAINED_MS: Final = 90 * 86_400_000

_OF_CHANNEL: Final[Mapping[Channel, str]] = {
    "alerts": "entity <> 'fix' AND entity = 'alert'",
    "newest": "false",
    "records": "entity <> 'fix' AND entity <> 'alert'",
    "fixes": "entity = 'fix' AND operation <> 'flag'",
    "flags": "entity = 'fix' AND operation = 'flag'",
}
#: An outbox row that stands for a record which an earlier cloud had: where this one knows better, it is right.
_AGAIN: Final = "again"
#: The counter of what no batch could hold.
_UNSENDABLE: Final = "unsendable"
_NAMES: Final = tuple(column.name for column in FIX_COLUMNS)
_FLOATS: Final = frozenset(column.name for column in FIX_COLUMNS if column.kind in ("decimal", "number"))
_SOURCES: Final = {"collar_id": "c.id", "said_animal_id": "a.id"}
_FIX_SELECT: Final = (
    f"SELECT f.pk, {', '.join(_SOURCES.get(name, f'f.{name}') for name in _NAMES)} FROM fixes f"
    " JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.said_animal_pk"
)


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """The cloud that this station is enrolled at; ``epoch`` is the station's, the cursors are of ``cloud_epoch``.

    ``heard_cursor`` and ``heard_after`` are how far the fixes are taken that the cloud took itself.
    """

    url: str
    station_id: str
    private_key: bytes
    epoch: str
    cloud_epoch: str | None
    cursor: int
    enrolled_ms: int
    last_receipt_ms: int | None
    heard_cursor: int = 0
    heard_after: str | None = None


class Waiting(msgspec.Struct, frozen=True):
    """Items of one channel that the cloud has not confirmed, and when the oldest came to be."""

    items: int
    oldest_ms: int | None


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """All that waits for the cloud: by channel, and what no batch could hold."""

    enrolment: Enrolment | None
    channels: dict[Channel, Waiting]
    unsendable: int


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


class _Frozen(msgspec.Struct, frozen=True):
    payload: bytes
    items: int
    runs: bytes


# --- the enrolment


def enrolment(db: Connection) -> Enrolment | None:
    """Return where this station is enrolled; None where it is not."""
    row = db.execute(
        "SELECT url, station_id, private_key, epoch, cloud_epoch, cursor, enrolled_ms, last_receipt_ms,"
        " heard_cursor, heard_after FROM enrolment"
    ).fetchone()
    if row is None:
        return None
    url, station_id, private_key, epoch, cloud_epoch, cursor, enrolled_ms, last_receipt_ms, heard, after = row
    return Enrolment(
        url=url, station_id=station_id, private_key=private_key, epoch=epoch, cloud_epoch=cloud_epoch, cursor=cursor,
        enrolled_ms=enrolled_ms, last_receipt_ms=last_receipt_ms, heard_cursor=heard,
        heard_after=after,
    )  # fmt: skip


def enrolled(db: Connection) -> Enrolment:
    """Return where this station is enrolled; raises NotFound where it is not."""
    found = enrolment(db)
    if found is None:
        raise NotFound("this station is not enrolled at a cloud: `outpost-station enrol URL CODE`")
    return found


def enrol(
    db: Connection, *, url: str, station_id: str, private_key: bytes, cloud_epoch: str, epoch: str, now_ms: int,
    is_again: bool = False,
) -> None:  # fmt: skip
    """Store the enrolment; raises Conflict where there is one, unless ``is_again``: then everything is sent anew.

    The cloud may be another one, so everything is more than what is retained: all fixes, and every record as it stands
    after the operations that are still here.
    """
    if enrolment(db) is not None:
        if not is_again:
            raise Conflict("this station is enrolled already; --again enrols it anew and sends everything again")
        _start_over(db, epoch)
        db.execute("DELETE FROM enrolment")
        db.execute("DELETE FROM outbox WHERE entity = 'fix'")
        db.execute("DELETE FROM heard_above")
        db.execute(
            "INSERT INTO outbox (entity, first_pk, last_pk, operation)"
            " SELECT 'fix', min(pk), max(pk), 'insert' FROM fixes HAVING count(*)"
        )
        db.execute(
            "INSERT INTO outbox (entity, first_pk, last_pk, operation)"
            f" SELECT 'fix', pk, pk, 'flag' FROM fixes WHERE flags & {BY_HAND} <> 0 ORDER BY pk"
        )
        _offer(db, ENTITIES.values())
    db.execute(
        "INSERT INTO enrolment (pk, url, station_id, private_key, epoch, cloud_epoch, cursor, enrolled_ms)"
        " VALUES (1, ?, ?, ?, ?, ?, 0, ?)",
        (url, station_id, private_key, epoch, cloud_epoch, now_ms),
    )
    _forget_revisions(db)


def begin_epoch(db: Connection, epoch: str) -> bool:
    """Begin a new epoch, as a database must that was restored; everything retained waits again. False: not enrolled."""
    if enrolment(db) is None:
        begin_anew_for_phones(db)  # they were told of the same lost past
        return False
    _start_over(db, epoch)
    return True


def set_cursor(db: Connection, cloud_epoch: str, cursor: int) -> None:
    """Note how far the cloud's changes are taken. In another epoch of the cloud no revision means what it did."""
    if enrolled(db).cloud_epoch != cloud_epoch:
        _forget_revisions(db)
        db.execute("UPDATE enrolment SET heard_cursor = 0, heard_after = NULL")
        _send_what_was_heard_above(db)
        _offer(db, [ENTITIES[name] for name in DOWN])
    db.execute("UPDATE enrolment SET cloud_epoch = ?, cursor = ?", (cloud_epoch, cursor))


def _send_what_was_heard_above(db: Connection) -> None:
    """Have fixes wait that the cloud took itself in an earlier life: a backup may be from before them."""
    db.execute(
        "INSERT INTO outbox (entity, first_pk, last_pk, operation)"
        " SELECT 'fix', first_pk, last_pk, 'insert' FROM heard_above ORDER BY first_pk"
    )
    db.execute("DELETE FROM heard_above")


def _offer(db: Connection, entities: Iterable[Entity]) -> None:
    """Have records wait that this life of the cloud may not have; what it turns out to have is taken back."""
    for entity in entities:
        only = " WHERE id NOT GLOB 'animal:*'" if entity.name == "collar" else ""
        db.execute(
            "INSERT INTO outbox (entity, first_pk, last_pk, operation)"
            f" SELECT ?, pk, pk, ? FROM {entity.table}{only} ORDER BY pk",
            (entity.name, _AGAIN),
        )


def withdraw(db: Connection, records: Iterable[Record]) -> None:
    """Take back the offer of ``records``: they came down, so this life of the cloud has them."""
    came: dict[EntityName, list[str]] = {}
    for record in records:
        came.setdefault(record.entity, []).append(record.id)
    for name, ids in came.items():
        db.execute(
            "DELETE FROM outbox WHERE operation = ? AND entity = ? AND first_pk IN"
            f" (SELECT pk FROM {ENTITIES[name].table} WHERE id IN (SELECT value FROM json_each(?)))",
            (_AGAIN, name, msgspec.json.encode(ids).decode()),
        )


def set_heard(db: Connection, cloud_epoch: str, cursor: int, after: str | None) -> bool:
    """Note how far the fixes are taken that the cloud took itself; False where its life is another one by now."""
    changed = db.execute(
        "UPDATE enrolment SET heard_cursor = ?, heard_after = ? WHERE cloud_epoch = ?", (cursor, after, cloud_epoch)
    )
    return bool(changed.rowcount)


def forget_cursor(db: Connection) -> None:
    """Begin the cloud's changes anew, as in a life of it that is not known yet."""
    db.execute("UPDATE enrolment SET cloud_epoch = NULL, cursor = 0, heard_cursor = 0, heard_after = NULL")


def _forget_revisions(db: Connection) -> None:
    for entity in ENTITIES.values():
        db.execute(f"UPDATE {entity.table} SET cloud_rev = 0 WHERE cloud_rev <> 0")


# --- batches


def freeze(db: Connection, channel: Channel, limit: int, now_ms: int) -> Batch | None:
    """Return the batch of ``channel`` that waits for its receipt, or a new one of what is oldest; None for nothing.

    What no batch can hold is left out and counted (``Backlog.unsendable``), so that it never holds up the others.
    """
    epoch = enrolled(db).epoch
    state = sender(db, channel)
    if state.unacked is not None:
        return state.unacked
    frozen = _frozen(db, channel, limit)
    if frozen is None:
        return None
    batch = streams.freeze(state, frozen.payload).unacked
    assert batch is not None
    db.execute(
        "INSERT INTO batches (epoch, channel, n, prev_hash, hash, items, runs, payload, frozen_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            epoch, channel, batch.n, batch.prev_hash, batch.hash, frozen.items, frozen.runs, frozen.payload, now_ms,
        ),
    )  # fmt: skip
    return batch


def _frozen(db: Connection, channel: Channel, limit: int) -> _Frozen | None:
    match channel:
        case "fixes":
            return _freeze_fixes(db, limit)
        case "newest":
            return _freeze_newest(db, limit)
        case "flags":
            return _freeze_decisions(db)
        case _:
            return _freeze_records(db, channel, limit)


def sender(db: Connection, channel: Channel, about_n: int | None = None) -> Sender:
    """Return the state of a channel; of the acknowledged hashes only that of ``about_n``: nothing asks for another."""
    epoch = enrolled(db).epoch
    acked, known, unacked = GENESIS, {}, None
    for n, prev_hash, hashed, payload, acknowledged_ms in db.execute(
        "SELECT n, prev_hash, hash, payload, acknowledged_ms FROM batches WHERE epoch = ? AND channel = ?"
        " ORDER BY n DESC LIMIT 2",
        (epoch, channel),
    ):
        if acknowledged_ms is None:
            unacked = Batch(epoch, channel, n, prev_hash, payload)
        elif acked is GENESIS:
            acked = Head(n, hashed)
    if about_n is not None:
        row = db.execute(
            "SELECT hash FROM batches WHERE epoch = ? AND channel = ? AND n = ? AND acknowledged_ms IS NOT NULL",
            (epoch, channel, about_n),
        ).fetchone()
        known = {} if row is None else {about_n: row[0]}
    return Sender(epoch, channel, acked, known, unacked)


def apply_answer(db: Connection, channel: Channel, action: Action, *, now_ms: int, new_epoch: str) -> None:
    """Do what ``shared.sync.streams`` decided of an answer; ``new_epoch`` is taken where everything starts over."""
    epoch = enrolled(db).epoch
    match action:
        case SendNext(receipt=receipt):
            db.execute(
                "UPDATE batches SET acknowledged_ms = ?,"
                " payload = CASE WHEN channel IN ('alerts', 'records') THEN payload END"
                " WHERE epoch = ? AND channel = ? AND n = ?",
                (now_ms, epoch, channel, receipt.n),
            )
            db.execute("UPDATE enrolment SET last_receipt_ms = ?", (now_ms,))
        case ResumeFrom(head=head):
            _put_back(db, "epoch = ? AND channel = ? AND n > ?", (epoch, channel, head.n))
        case StartOver():
            _start_over(db, new_epoch)
        case _:
            pass


def forget_acknowledged(db: Connection, before_ms: int) -> int:
    """Forget batches that were acknowledged before then, oldest first, and return how many; call it on a sure clock.

    The last one of a channel stays: it is where its chain goes on. Fixes that the cloud took itself are as old then.
    """
    forgotten = 0
    db.execute("DELETE FROM heard_above WHERE taken_ms < ?", (before_ms,))
    for channel in CHANNELS:
        kept = db.execute(
            "SELECT min(n) FROM batches WHERE epoch = (SELECT epoch FROM enrolment) AND channel = ?1"
            " AND (acknowledged_ms IS NULL OR acknowledged_ms >= ?2 OR n = (SELECT max(n) FROM batches"
            "  WHERE epoch = (SELECT epoch FROM enrolment) AND channel = ?1 AND acknowledged_ms IS NOT NULL))",
            (channel, before_ms),
        ).fetchone()[0]
        if kept is not None:
            forgotten += db.execute(
                "DELETE FROM batches WHERE epoch = (SELECT epoch FROM enrolment) AND channel = ? AND n < ?",
                (channel, kept),
            ).rowcount
    return forgotten


def _start_over(db: Connection, epoch: str) -> None:
    _put_back(db, "true", ())
    db.execute("UPDATE enrolment SET epoch = ?", (epoch,))
    begin_anew_for_phones(db)


def begin_anew_for_phones(db: Connection) -> None:
    """Take another number for the cursors of phones: what they were told may be of a past that is no more here."""
    db.execute(
        "UPDATE facts SET value = (value - 4096 + 1 + abs(random() % 4095)) % 4096 + 4096 WHERE name = 'phone_epoch'"
    )


def _put_back(db: Connection, condition: str, values: Sequence[Any]) -> None:
    """Make what the batches of ``condition`` held wait again, in its order and before everything that waits."""
    posts: list[tuple[str, int, int, str, bytes | None]] = []
    for channel, runs, payload in db.execute(
        f"SELECT channel, runs, payload FROM batches WHERE {condition} ORDER BY channel, n", values
    ).fetchall():
        if channel in OF_FIXES:
            posts += [
                ("fix", run.first_pk, run.last_pk, "insert", None)
                for run in msgspec.msgpack.decode(runs, type=list[Run])
            ]
        elif channel == "flags":
            posts += [
                ("fix", each.pk, each.pk, "flag", each.id.encode("ascii"))
                for each in msgspec.msgpack.decode(runs, type=list[Decided])
            ]
        else:
            held = msgspec.msgpack.decode(runs, type=list[Held])
            operations: list[Operation] = decode_records(payload, Operation)
            for each, operation in zip(held, operations, strict=True):
                posts.append((each.entity, each.pk, each.pk, operation.kind, msgspec.msgpack.encode(operation)))
    (first,) = db.execute("SELECT min(0, coalesce(min(oseq), 0)) FROM outbox").fetchone()
    db.executemany(
        "INSERT INTO outbox (oseq, entity, first_pk, last_pk, operation, body) VALUES (?, ?, ?, ?, ?, ?)",
        [(oseq, *post) for oseq, post in enumerate(posts, first - len(posts))],
    )
    db.execute(f"DELETE FROM batches WHERE {condition}", values)


# --- fixes


def _freeze_fixes(db: Connection, limit: int) -> _Frozen | None:
    while asked := list(itertools.islice(_asked(_posted(db, "fixes", limit)), limit)):
        wanted = list(dict.fromkeys(asked))
        stored = fixes_of(db, wanted)
        there = [pk for pk in wanted if pk in stored]  # one that was folded into another needs no sending
        payload, count, reason = _fitting([stored[pk] for pk in there], _encoded)
        if payload is None and count:
            _refuse(db, "fix", there[0], reason)
        _consume_fixes(db, asked.index(there[count]) if count < len(there) else len(asked), limit)
        if payload is not None:
            return _Frozen(payload, count, msgspec.msgpack.encode(runs_of(there[:count])))
    return None


def _freeze_newest(db: Connection, limit: int) -> _Frozen | None:
    """Pick the newest position of each collar out of a backlog that more than one batch holds."""
    unsent = sorted(
        (first, last)
        for first, last in db.execute(f"SELECT first_pk, last_pk FROM outbox WHERE {_OF_CHANNEL['fixes']}")
    )
    if sum(last - first + 1 for first, last in unsent) <= limit:
        return None
    stored = fixes_of(db, newest_waiting(db, unsent)[:limit])
    payload, count, _ = _fitting(list(stored.values()), _encoded)
    if payload is None:
        return None
    pks = list(stored)[:count]
    take_out(db, pks)
    return _Frozen(payload, count, msgspec.msgpack.encode(runs_of(pks)))


def _freeze_decisions(db: Connection) -> _Frozen | None:
    forget_gone(db)
    (waits,) = db.execute(f"SELECT EXISTS (SELECT 1 FROM outbox WHERE {_OF_CHANNEL['flags']})").fetchone()
    if not waits:
        return None
    found = waiting_decisions(db, sorted((run.first_pk, run.last_pk) for run in waiting_fixes(db)))
    payload, count, _ = _fitting([decision for _, _, decision in found], encode_records)
    if payload is None:
        return None
    db.executemany("DELETE FROM outbox WHERE oseq = ?", [(oseq,) for oseq, _, _ in found[:count]])
    return _Frozen(payload, count, msgspec.msgpack.encode([decided for _, decided, _ in found[:count]]))


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


def _freeze_records(db: Connection, channel: Channel, limit: int) -> _Frozen | None:
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
            return _Frozen(payload, count, msgspec.msgpack.encode(held))
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
    record = record_of(entity, row)
    kind: Kind = "delete" if record.is_deleted else "insert"
    said = {name: value for name, value in record.columns.items() if value != entity.columns[name]}
    columns = {} if record.is_deleted else said
    content = hashlib.sha256(msgspec.msgpack.encode([kind, entity.name, record.id, columns])).hexdigest()
    home = enrolment(db)  # before there is one nothing is sent, but what waits is counted
    return Operation(
        id=derived_id("" if home is None else home.station_id, content), entity=entity.name, row_id=record.id,
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
            operation = None if post.operation == _AGAIN else _operation(db, post)
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


def backlog(db: Connection) -> Backlog:
    """Return what waits for which cloud."""
    row = db.execute("SELECT value FROM counters WHERE name = ?", (_UNSENDABLE,)).fetchone()
    return Backlog(enrolment=enrolment(db), channels=waiting(db), unsendable=0 if row is None else row[0])


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
        "SELECT frozen_ms FROM batches WHERE channel = ? AND acknowledged_ms IS NULL", (channel,)
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
        (_UNSENDABLE,),
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
