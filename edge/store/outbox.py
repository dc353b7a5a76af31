"""What was frozen for the cloud and what it has: the tables ``batches`` and ``enrolment``.

Everything here runs inside a transaction of the writer thread. What an answer of the cloud means is decided by
``shared.sync.streams``; here is where its state lies and what its actions do::

    outbox --freeze--> a batch without acknowledged_ms --SendNext--> an acknowledged batch, kept 90 days
       ^                        |                                               |
       +-------- StartOver -----+------------ ResumeFrom, StartOver ------------+

A batch is frozen in the transaction that takes its rows from the outbox, so a row is in exactly one place whatever ends
the process. ``runs`` says what a batch held: of fixes pairs of first and last row, of records pairs of kind and row, of
what models said the animals and tiles, of frames their places in the ledger. The payload of records stays after the
receipt, because it holds the operations with their ids; all else is read anew.
What waits and how a batch is cut from it is in ``edge.store.unsent``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from edge.store import frames_up, results, unsent
from edge.store.decisions import Decided
from edge.store.driver import Connection
from edge.store.ledger import Row
from edge.store.unsent import Frozen, Held, Run, Waiting
from shared.errors import Conflict, NotFound
from shared.sync import streams
from shared.sync.fixes import BY_HAND
from shared.sync.operations import Operation
from shared.sync.records import ENTITIES, Entity, EntityName, Record
from shared.sync.streams import GENESIS, Action, Batch, Head, ResumeFrom, Sender, SendNext, StartOver
from shared.wire.batch import decode_records
from shared.wire.batch.schema import ColumnLadder, Ladder
from shared.wire.link import CHANNELS, DOWN, OF_FIXES, Channel
from shared.wire.raw import FRAMES

#: Acknowledged batches are kept this long, to fill a cloud that was restored from a backup.
RETAINED_MS: Final = 90 * 86_400_000
#: The fact that says which version of records was spoken last.
_SCHEMA: Final = "records_schema"
#: The same of fixes.
_FIXES_SCHEMA: Final = "fixes_schema"
#: The fact that says which channels were held in the last session.
_HELD: Final = "sync_held"


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


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """All that waits for the cloud: by channel, and what no batch could hold."""

    enrolment: Enrolment | None
    channels: dict[Channel, Waiting]
    unsendable: int
    #: channels of which the cloud's program could not read a batch in the last session
    held: list[str]


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
        results.wait_whole(db)
        frames_up.wait_whole(db)
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
    """Have records wait that this life of the cloud may not have; what it turns out to have is taken back.

    What left this station's scope is deleted here alone: nobody may hear that it is.
    """
    for entity in entities:
        left = f"SELECT row_id FROM left_scope WHERE entity = '{entity.name}'"
        only = f" WHERE NOT (deleted_ms IS NOT NULL AND id IN ({left}))"
        only += " AND id NOT GLOB 'animal:*'" if entity.name == "collar" else ""
        db.execute(
            "INSERT INTO outbox (entity, first_pk, last_pk, operation)"
            f" SELECT ?, pk, pk, ? FROM {entity.table}{only} ORDER BY pk",
            (entity.name, unsent.AGAIN),
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
            (unsent.AGAIN, name, msgspec.json.encode(ids).decode()),
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


def schema(db: Connection) -> int:
    """Return the version of records that this station's database was last spoken with to a cloud."""
    return _version(db, _SCHEMA)


def fixes_schema(db: Connection) -> int:
    """Return the version of fixes that this station's database was last spoken with to a cloud."""
    return _version(db, _FIXES_SCHEMA)


def begin_fixes_schema(db: Connection, ladder: ColumnLadder) -> None:
    """Take up a later version of fixes: those that came down lack what the older program could not read.

    They come once more, each a richer copy of itself. What goes up is read from its row when it is frozen.
    """
    if fixes_schema(db) >= ladder.newest:
        return
    db.execute("UPDATE enrolment SET heard_cursor = 0, heard_after = NULL")
    _set_fact(db, _FIXES_SCHEMA, str(ladder.newest))


def begin_schema(db: Connection, ladder: Ladder) -> None:
    """Take up a later version of records, as the first session of a later program does.

    Edits that wait say what their program said, so they are raised. What an older program could not read was left
    out for it: the cloud's changes begin anew, and every record is taken once more. Batches keep the version in their
    frame.
    """
    before = schema(db)
    if before >= ladder.newest:
        return
    for oseq, body in db.execute(
        "SELECT oseq, body FROM outbox WHERE body IS NOT NULL AND operation <> 'flag'"
    ).fetchall():
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):  # it is told of when it is frozen
            (raised,) = ladder.raised(before, [msgspec.msgpack.decode(body)])
            db.execute("UPDATE outbox SET body = ? WHERE oseq = ?", (msgspec.msgpack.encode(raised), oseq))
    if enrolment(db) is not None:
        db.execute("UPDATE enrolment SET cursor = 0")
        _forget_revisions(db)
    _set_fact(db, _SCHEMA, str(ladder.newest))


def _version(db: Connection, name: str) -> int:
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return 1 if row is None else int(row[0])


def _forget_revisions(db: Connection) -> None:
    for entity in ENTITIES.values():
        db.execute(f"UPDATE {entity.table} SET cloud_rev = 0 WHERE cloud_rev <> 0")


# --- batches


def freeze(db: Connection, channel: Channel, limit: int, now_ms: int) -> Batch | None:
    """Return the batch of ``channel`` that waits for its receipt, or a new one of what is oldest; None for nothing.

    What no batch can hold is left out and counted (``Backlog.unsendable``), so that it never holds up the others.
    """
    state = sender(db, channel)
    return state.unacked or _freeze_behind(db, state.epoch, channel, state.acked, limit, now_ms)


def freeze_ahead(db: Connection, channel: Channel, limit: int, now_ms: int) -> Batch | None:
    """Return a new batch behind all that wait in a channel, as a stick carries many; None for nothing."""
    epoch = enrolled(db).epoch
    row = db.execute(
        "SELECT n, hash FROM batches WHERE epoch = ? AND channel = ? ORDER BY n DESC LIMIT 1", (epoch, channel)
    ).fetchone()
    return _freeze_behind(db, epoch, channel, GENESIS if row is None else Head(*row), limit, now_ms)


def waiting_batch(db: Connection, channel: Channel, after_n: int) -> Batch | None:
    """Return the first batch behind ``after_n`` that the cloud has not confirmed; None for none."""
    epoch = enrolled(db).epoch
    row = db.execute(
        "SELECT n, prev_hash, payload FROM batches WHERE epoch = ? AND channel = ? AND n > ?"
        " AND acknowledged_ms IS NULL ORDER BY n LIMIT 1",
        (epoch, channel, after_n),
    ).fetchone()
    return None if row is None else Batch(epoch, channel, *row)


def items_of(db: Connection, channel: Channel, n: int) -> int:
    """Return how many items a batch of this epoch holds."""
    row = db.execute(
        "SELECT items FROM batches WHERE epoch = ? AND channel = ? AND n = ?", (enrolled(db).epoch, channel, n)
    ).fetchone()
    return 0 if row is None else int(row[0])


def _freeze_behind(
    db: Connection, epoch: str, channel: Channel, behind: Head, limit: int, now_ms: int
) -> Batch | None:  # fmt: skip
    return _keep(db, epoch, channel, behind, unsent.cut(db, channel, limit, now_ms), now_ms)


def freeze_frames(db: Connection, rows: Sequence[Row], now_ms: int) -> Batch | None:
    """Return the batch of frames that waits for its receipt, or a new one of ``rows``; None for nothing."""
    state = sender(db, FRAMES)
    if state.unacked is not None:
        return state.unacked
    return _keep(db, state.epoch, FRAMES, state.acked, unsent.freeze_frames(db, rows), now_ms)


def _keep(
    db: Connection, epoch: str, channel: Channel, behind: Head, frozen: Frozen | None, now_ms: int
) -> Batch | None:  # fmt: skip
    if frozen is None:
        return None
    batch = streams.freeze(Sender(epoch, channel, behind), frozen.payload).unacked
    assert batch is not None
    db.execute(
        "INSERT INTO batches (epoch, channel, n, prev_hash, hash, items, runs, payload, frozen_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            epoch, channel, batch.n, batch.prev_hash, batch.hash, frozen.items, frozen.runs, frozen.payload, now_ms,
        ),
    )  # fmt: skip
    return batch


def sender(db: Connection, channel: Channel, about_n: int | None = None) -> Sender:
    """Return the state of a channel; of the acknowledged hashes only that of ``about_n``: nothing asks for another."""
    epoch = enrolled(db).epoch
    of = "FROM batches WHERE epoch = ? AND channel = ? AND acknowledged_ms"
    last = db.execute(f"SELECT n, hash {of} IS NOT NULL ORDER BY n DESC LIMIT 1", (epoch, channel)).fetchone()
    state = Sender(
        epoch, channel, acked=GENESIS if last is None else Head(*last), unacked=waiting_batch(db, channel, 0)
    )
    if about_n is None:
        return state
    row = db.execute(
        "SELECT hash, acknowledged_ms IS NULL FROM batches WHERE epoch = ? AND channel = ? AND n = ?",
        (epoch, channel, about_n),
    ).fetchone()
    if row is None:
        return state
    return replace(state, **{"ahead" if row[1] else "known": {about_n: row[0]}})


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
        elif channel == FRAMES:
            frames_up.put_back(db, msgspec.msgpack.decode(runs, type=frames_up.Stretch))
        elif channel == "results":
            results.put_back(db, msgspec.msgpack.decode(runs, type=results.Cut))
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


# --- for people


def backlog(db: Connection) -> Backlog:
    """Return what waits for which cloud."""
    row = db.execute("SELECT value FROM counters WHERE name = ?", (unsent.UNSENDABLE,)).fetchone()
    return Backlog(
        enrolment=enrolment(db), channels=unsent.waiting(db), unsendable=0 if row is None else row[0], held=held(db)
    )


def held(db: Connection) -> list[str]:
    """Return which channels waited in the last session because both programs are too far apart."""
    row = db.execute("SELECT value FROM facts WHERE name = ?", (_HELD,)).fetchone()
    return [] if row is None else str(row[0]).split()


def set_held(db: Connection, channels: Iterable[str]) -> None:
    """Note which channels wait because the cloud's program and this one are too far apart."""
    _set_fact(db, _HELD, " ".join(channels))


def _set_fact(db: Connection, name: str, value: str) -> None:
    db.execute(
        "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )
