"""The station's side of the queue: what waits for the cloud, and what the cloud could not take.

Everything here runs inside a transaction; the words of SQL for the two tables are ``shared.sync.log``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from edge.store import outbox
from edge.store.driver import Connection
from edge.store.jobs import run
from shared.errors import Conflict
from shared.ids import derived_id, fix_id
from shared.store import Page
from shared.sync import log
from shared.sync.log import Item, Whose
from shared.sync.operations import Operation
from shared.sync.records import ENTITIES
from shared.sync.streams import Batch, Exceptional, Receipt
from shared.wire.batch import FixColumns, decode_fixes, decode_records
from shared.wire.link import OF_FIXES, SPARE

_TRACKING: Final = "tracking"
_POST: Final = "oseq, entity, first_pk, last_pk, operation, body"


class Sent(msgspec.Struct, frozen=True):
    """A row of this station that was sent: a fix by its key, or an operation."""

    pk: int | None = None
    operation: Operation | None = None


def note_receipt(db: Connection, batch: Batch, receipt: Receipt, sync_id: str, now_ms: int) -> None:
    """Keep what the cloud did not take as it was sent, and settle what was sent again.

    Call it in the transaction that takes the receipt: then it is told once.
    """
    again = _sent_again(db)
    if not receipt.exceptions and not again:
        return
    station_id = outbox.enrolled(db).station_id
    exceptions = {each.place: each for each in receipt.exceptions}
    if batch.channel == "flags" or batch.channel in SPARE:
        # what a decision was on is in the log; the person sees the fix as it is. What models said is said again
        return
    if batch.channel in OF_FIXES:
        columns = decode_fixes(batch.payload)
        for place in exceptions.keys() if not again else range(len(columns["raw_ms"])):
            identity = _fix_id(columns, place)
            if item_id := again.get(identity.hex()):
                _settle(db, item_id, exceptions.get(place), now_ms)
            elif place in exceptions:
                run(
                    db,
                    log.keep([_of_fix(db, columns, place, identity, exceptions[place], station_id, sync_id, now_ms)]),
                )
        return
    operations: list[Operation] = decode_records(batch.payload, Operation)
    for place, operation in enumerate(operations):
        if item_id := again.get(operation.id):
            _settle(db, item_id, exceptions.get(place), now_ms)
        elif place in exceptions:
            run(db, log.keep([_of_operation(operation, exceptions[place], station_id, sync_id, now_ms)]))


def send_again(db: Connection, item: Item, now_ms: int) -> Item:
    """Have an item that the cloud did not take wait again; raises Conflict where there is nothing to send."""
    if item.form != "sent" or item.body is None:
        raise Conflict("this item is not sent by this station: its device has to send it again")
    sent = msgspec.msgpack.decode(item.body, type=Sent)
    tried = run(db, log.retried(item, "syncing", now_ms))
    if sent.operation is not None:
        operation = replace(sent.operation, id=_id_of_try(tried))
        entity = ENTITIES[operation.entity]
        done = db.execute(
            "INSERT INTO outbox (entity, first_pk, last_pk, operation, body)"
            f" SELECT ?, pk, pk, ?, ? FROM {entity.table} WHERE id = ?",
            (operation.entity, operation.kind, msgspec.msgpack.encode(operation), operation.row_id),
        )
    else:
        done = db.execute(
            "INSERT INTO outbox (entity, first_pk, last_pk, operation) SELECT 'fix', pk, pk, 'insert' FROM fixes"
            " WHERE pk = ?",
            (sent.pk,),
        )
    if not done.rowcount:
        raise Conflict("what this item was of is not here any more")
    return tried


def pending(db: Connection, whose: Whose, offset: int, limit: int) -> Page[Item]:
    """Return what waits for the cloud: batches on their way, then rows of the outbox in their order.

    Everybody's are paged by the database. Of one person only the edits wait that are his own: no fixes are looked at.
    """
    if whose != log.EVERYBODY:
        found = [item for item in _edits_of(db, whose.user_id) if item.user_id == whose.user_id]
        return Page(len(found), found[offset : offset + limit])
    (batches, posts) = db.execute(
        "SELECT (SELECT count(*) FROM batches WHERE acknowledged_ms IS NULL), (SELECT count(*) FROM outbox)"
    ).fetchone()
    here = outbox.enrolment(db)
    station_id = "" if here is None else here.station_id
    items = [
        Item(
            id=f"batch-{epoch}-{channel}-{n}", sync_id=None, user_id=None, device_id=station_id, data_type=channel,
            data=_json({"items": count}), status="syncing", created_ms=frozen_ms,
        )
        for epoch, channel, n, count, frozen_ms in db.execute(
            "SELECT epoch, channel, n, items, frozen_ms FROM batches WHERE acknowledged_ms IS NULL"
            " ORDER BY channel, n LIMIT ? OFFSET ?",
            (limit, offset),
        )
    ]  # fmt: skip
    rows = db.execute(
        f"SELECT {_POST} FROM outbox ORDER BY oseq LIMIT ? OFFSET ?", (limit - len(items), max(offset - batches, 0))
    ).fetchall()
    return Page(int(batches + posts), items + [_of_post(db, station_id, row) for row in rows])


def _edits_of(db: Connection, user_id: str | None) -> list[Item]:
    """Return edits that wait and may be of a person: those whose bytes name him."""
    if user_id is None:
        return []
    here = outbox.enrolment(db)
    rows = db.execute(
        f"SELECT {_POST} FROM outbox WHERE entity <> 'fix' AND instr(body, CAST(? AS BLOB)) ORDER BY oseq", (user_id,)
    ).fetchall()
    return [_of_post(db, "" if here is None else here.station_id, row) for row in rows]


def _of_post(db: Connection, station_id: str, row: Sequence[Any]) -> Item:
    oseq, entity, first_pk, last_pk, kind, body = row
    operation = None if body is None or entity == "fix" else msgspec.msgpack.decode(body, type=Operation)
    told: dict[str, Any] = {"kind": kind}
    told |= {"items": last_pk - first_pk + 1} if operation is None else operation.columns
    return Item(
        id=f"outbox-{oseq}", sync_id=None, user_id=None if operation is None else operation.author,
        device_id=station_id, data_type=_TRACKING if entity == "fix" else entity,
        local_id=None if operation is None else operation.row_id, data=_json(told), status="pending", attempts=0,
        created_ms=_since_ms(db, entity, first_pk) if operation is None else operation.made_ms,
    )  # fmt: skip


def _since_ms(db: Connection, entity: str, pk: int) -> int:
    table, column = ("fixes", "received_ms") if entity == "fix" else (ENTITIES[entity].table, "updated_ms")
    row = db.execute(f"SELECT {column} FROM {table} WHERE pk = ?", (pk,)).fetchone()
    return 0 if row is None else int(row[0])


def _sent_again(db: Connection) -> dict[str, str]:
    """Return items that were sent again and not answered: their ids by that of the operation or of the fix."""
    found: dict[str, str] = {}
    _, waiting = run(db, log.items(log.EVERYBODY, "syncing", 0, 10_000))
    for item in waiting:
        if item.form == "sent" and item.body is not None:
            sent = msgspec.msgpack.decode(item.body, type=Sent)
            if sent.operation is not None:
                found[_id_of_try(item)] = item.id
            elif (row := db.execute("SELECT id FROM fixes WHERE pk = ?", (sent.pk,)).fetchone()) is not None:
                found[bytes(row[0]).hex()] = item.id
    return found


def _settle(db: Connection, item_id: str, exception: Exceptional | None, now_ms: int) -> None:
    if exception is None or exception.outcome != "quarantined":
        run(db, log.settle(item_id, "completed", now_ms))
    else:
        run(db, log.settle(item_id, "failed", now_ms, error=exception.detail))


def _id_of_try(item: Item) -> str:
    """Return the id under which an item's operation is sent again: the former one was answered for ever."""
    return derived_id(item.id, f"try {item.attempts}")


def _of_operation(operation: Operation, exception: Exceptional, station_id: str, sync_id: str, now_ms: int) -> Item:
    lost = {name: operation.columns.get(name) for name in exception.lost}
    return Item(
        id=derived_id(operation.id, "item"), sync_id=sync_id, user_id=operation.author, device_id=station_id,
        data_type=operation.entity, local_id=operation.row_id,
        server_id=exception.kept_id, data=_json(operation.columns),
        status="failed" if exception.outcome == "quarantined" else "conflict",
        conflict_data=_json({"outcome": exception.outcome, "lost": lost}) if lost else None,
        error_message=exception.detail, created_ms=now_ms, offline_since_ms=operation.made_ms,
        form="sent", body=msgspec.msgpack.encode(Sent(operation=operation)),
    )  # fmt: skip


def _of_fix(
    db: Connection, columns: FixColumns, place: int, identity: bytes, exception: Exceptional, station_id: str,
    sync_id: str, now_ms: int,
) -> Item:  # fmt: skip
    row = db.execute("SELECT pk FROM fixes WHERE id = ?", (identity,)).fetchone()
    told = {name: columns[name][place] for name in ("collar_id", "raw_ms", "lon_e7", "lat_e7")}
    return Item(
        id=derived_id(identity.hex(), "item"), sync_id=sync_id, user_id=None, device_id=station_id,
        data_type=_TRACKING, data=_json(told), error_message=exception.detail, created_ms=now_ms,
        form="none" if row is None else "sent",
        body=None if row is None else msgspec.msgpack.encode(Sent(pk=row[0])),
    )  # fmt: skip


def _fix_id(columns: FixColumns, place: int) -> bytes:
    values: Sequence[Any] = [columns[name][place] for name in ("collar_id", "raw_ms", "lon_e7", "lat_e7")]
    return fix_id(*values)


def _json(told: Any) -> str:
    return msgspec.json.encode(told).decode()
