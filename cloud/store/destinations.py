"""Destinations: other systems that fixes are sent to, and how each stands. What leaves is ``cloud.store.departures``'s.

Functions run in the transaction of the connection that they are given; they know tokens only as they are sealed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from cloud.store.database import Connection
from cloud.store.records import one
from shared.errors import Conflict, NotFound
from shared.sync.records import from_ms

DestinationKind = Literal["earthranger", "gundi", "movebank"]
Precision = Literal["exact", "reduced"]

#: A receiver that takes nothing is asked again after twice as long each time, but after so long at most.
_LONGEST_PAUSE_MS: Final = 3_600_000
_ALIVE: Final = "EXISTS (SELECT 1 FROM jobs j WHERE j.id = d.job_id AND j.state IN ('queued', 'running'))"
#: What a destination is; all else of it is how it stands.
_IS: Final = (
    "pk", "id", "name", "kind", "url", "provider", "token", "species", "animals", "precision", "is_enabled",
    "interval_s", "created_by",
)  # fmt: skip
_SELECT: Final = (
    f"SELECT {', '.join(f'd.{name}' for name in _IS)}, d.walked IS NOT NULL, d.sent, d.failures, d.error_code, d.error,"
    " d.created_ms, d.sent_ms, d.failed_ms, d.due_ms, d.job_id,"
    " (SELECT coalesce(sum(cardinality(b.observations)), 0) FROM destination_batches b"
    "  WHERE b.destination_pk = d.pk AND NOT b.is_refused),"
    " (SELECT coalesce(sum(cardinality(b.observations)), 0) FROM destination_batches b"
    "  WHERE b.destination_pk = d.pk AND b.is_refused),"
    " (SELECT count(*) FROM destination_fixes f WHERE f.destination_pk = d.pk AND f.state <> 0),"
    " (SELECT value FROM counters WHERE name = 'change') - d.position FROM destinations d"
)


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver and how it stands. ``token`` is sealed; ``animals`` are ids.

    ``is_beginning`` while it is still being walked over all that there is. ``waiting`` fixes are frozen, ``refused``
    ones the receiver did not take, ``held`` ones wait for a rule, a deployment or their age; ``changes_waiting`` is how
    many numbers of the change log are still to be looked at.
    """

    pk: int
    id: str
    name: str
    kind: DestinationKind
    url: str
    provider: str
    token: str
    species: list[str] | None
    animals: list[str] | None
    precision: Precision
    is_enabled: bool
    interval_s: int
    created_by: str
    is_beginning: bool
    sent: int
    failures: int
    error_code: str | None
    error: str | None
    created_at: datetime
    last_sent_at: datetime | None
    failed_at: datetime | None
    due_at: datetime
    job_id: str | None
    waiting: int
    refused: int
    held: int
    changes_waiting: int


async def destinations(db: Connection) -> list[Destination]:
    """Return all, by name."""
    found = await db.execute(f'{_SELECT} ORDER BY d.name COLLATE "C"'.encode())
    return [_destination(row) for row in await found.fetchall()]


async def destination(db: Connection, identity: str, *, is_held: bool = False) -> Destination:
    """Return one by its id or name; ``is_held`` to the end of the transaction. Raises NotFound."""
    wanted = identity.replace("\0", "")
    if is_held:
        await db.execute("SELECT FROM destinations WHERE id = %s OR name = %s FOR UPDATE", (wanted, wanted))
    found = await db.execute(f"{_SELECT} WHERE d.id = %s OR d.name = %s".encode(), (wanted, wanted))
    if (row := await found.fetchone()) is None:
        raise NotFound(f"there is no destination {wanted}")
    return _destination(row)


async def insert(db: Connection, columns: Mapping[str, Any], now_ms: int) -> None:
    """Make one; what there is at this moment is walked over, what comes is in the change log after it."""
    await _check_name(db, columns["name"], "")
    values = {**columns, "animals": await _animal_ids(db, columns["animals"]), "created_ms": now_ms, "due_ms": now_ms}
    names = list(values)
    await db.execute(
        f"INSERT INTO destinations ({', '.join(names)}, position) SELECT {', '.join(['%s'] * len(names))}, value"
        " FROM counters WHERE name = 'change'".encode(),
        [values[name] for name in names],
    )


async def change(db: Connection, before: Destination, columns: Mapping[str, Any], now_ms: int) -> None:
    """Change one. Another scope or precision, another receiver: all that there is is looked at again."""
    values = dict(columns)
    if "name" in values:
        await _check_name(db, values["name"], before.id)
    if "animals" in values:
        values["animals"] = await _animal_ids(db, values["animals"])
    for name, value in values.items():
        await db.execute(f"UPDATE destinations SET {name} = %s WHERE pk = %s".encode(), (value, before.pk))
    is_elsewhere = any(name in values and values[name] != getattr(before, name) for name in ("kind", "url", "provider"))
    if is_elsewhere:  # it has nothing of what the other one was sent
        await db.execute("DELETE FROM destination_fixes WHERE destination_pk = %s", (before.pk,))
        await db.execute("DELETE FROM destination_batches WHERE destination_pk = %s", (before.pk,))
    if is_elsewhere or any(
        name in values and values[name] != getattr(before, name) for name in ("species", "animals", "precision")
    ):
        await _begin_again(db, before.pk)
    await db.execute(
        "UPDATE destinations SET failures = 0, error_code = NULL, error = NULL, failed_ms = NULL, due_ms = %s"
        " WHERE pk = %s",
        (now_ms, before.pk),
    )


async def _begin_again(db: Connection, pk: int) -> None:
    """Walk over all that there is once more; what was taken before stays taken."""
    await db.execute(
        "UPDATE destinations SET walked = '00000000-0000-0000-0000-000000000000', reached = NULL,"
        " position = (SELECT value FROM counters WHERE name = 'change') WHERE pk = %s",
        (pk,),
    )


async def remove(db: Connection, identity: str) -> None:
    """Forget one and what it was sent; raises NotFound."""
    found = await destination(db, identity, is_held=True)
    await db.execute("DELETE FROM destinations WHERE pk = %s", (found.pk,))


async def due(db: Connection, now_ms: int) -> list[str]:
    """Return those whose turn it is and that have something to look at, held to the end of the transaction.

    One that has nothing waits for its next turn.
    """
    found = await db.execute(
        "SELECT d.pk, d.id, d.walked IS NOT NULL OR EXISTS (SELECT 1 FROM changes c WHERE c.seq > d.position)"
        " OR EXISTS (SELECT 1 FROM destination_batches b WHERE b.destination_pk = d.pk AND NOT b.is_refused)"
        " OR EXISTS (SELECT 1 FROM destination_fixes f WHERE f.destination_pk = d.pk AND f.state <> 0"
        f"  AND f.due_ms <= %s) FROM destinations d WHERE d.is_enabled AND d.due_ms <= %s AND NOT {_ALIVE}"
        " ORDER BY d.pk FOR UPDATE OF d SKIP LOCKED".encode(),
        (now_ms, now_ms),
    )
    rows = await found.fetchall()
    await db.execute(
        "UPDATE destinations SET due_ms = %s + interval_s * 1000::bigint WHERE pk = ANY(%s)",
        (now_ms, [pk for pk, _, _ in rows]),
    )
    return [str(identity) for _, identity, has_work in rows if has_work]


async def job_alive(db: Connection, pk: int) -> str | None:
    """Return the job that sends there now, or is about to; the caller holds the destination."""
    found = await db.execute(f"SELECT d.job_id FROM destinations d WHERE d.pk = %s AND {_ALIVE}".encode(), (pk,))
    row = await found.fetchone()
    return None if row is None else str(row[0])


async def set_job(db: Connection, identity: str, job_id: str) -> None:
    """Note which job sends there."""
    await db.execute("UPDATE destinations SET job_id = %s WHERE id = %s", (job_id, identity))


async def try_refused_again(db: Connection, pk: int) -> None:
    """Put refused batches back into the row."""
    await db.execute("UPDATE destination_batches SET is_refused = false WHERE destination_pk = %s", (pk,))


async def note_well(db: Connection, pk: int, now_ms: int) -> None:
    """Note that a run came to its end; the next is due after the interval."""
    await db.execute(
        "UPDATE destinations SET failures = 0, error_code = NULL, error = NULL, failed_ms = NULL,"
        " due_ms = %s + interval_s * 1000::bigint WHERE pk = %s",
        (now_ms, pk),
    )


async def note_failure(db: Connection, pk: int, code: str, detail: str, now_ms: int, wait_s: float) -> None:
    """Note why a run ended before its end; the next is due later with every failure, and as late as is asked for."""
    await db.execute(
        "UPDATE destinations SET failures = failures + 1, error_code = %s, error = %s, failed_ms = %s, due_ms = %s +"
        " greatest(interval_s * 1000::bigint, least(interval_s * 1000::bigint << least(failures + 1, 12), %s), %s)"
        " WHERE pk = %s",
        (code, detail, now_ms, now_ms, _LONGEST_PAUSE_MS, round(wait_s * 1000), pk),
    )


async def _check_name(db: Connection, name: str, but: str) -> None:
    found = await db.execute("SELECT 1 FROM destinations WHERE name = %s AND id <> %s", (name, but))
    if await found.fetchone() is not None:
        raise Conflict(f"there is a destination {name} already")


async def _animal_ids(db: Connection, animals: Sequence[str] | None) -> list[str] | None:
    """Return the ids of animals that are named by id or name; raises NotFound."""
    if animals is None:
        return None
    ids: set[str] = set()
    for name in animals:
        found = await db.execute(
            "SELECT id FROM animals WHERE (id = %s OR name = %s) AND deleted_ms IS NULL", (name,) * 2
        )
        rows = await found.fetchall()
        if not rows:
            raise NotFound(f"there is no animal {name}")
        ids.update(identity for (identity,) in rows)
    return sorted(ids)


async def count(db: Connection) -> int:
    """Return how many there are."""
    (n,) = await one(db, "SELECT count(*) FROM destinations")
    return int(n)


def _destination(row: Sequence[Any]) -> Destination:
    is_beginning, sent, failures, code, error, created_ms, sent_ms, failed_ms, due_ms, job_id, *counts = row[len(_IS) :]
    waiting, refused, held, changes_waiting = counts
    return Destination(
        **dict(zip(_IS, row, strict=False)), is_beginning=is_beginning, sent=sent, failures=failures, error_code=code,
        error=error, created_at=from_ms(created_ms), last_sent_at=None if sent_ms is None else from_ms(sent_ms),
        failed_at=None if failed_ms is None else from_ms(failed_ms), due_at=from_ms(due_ms), job_id=job_id,
        waiting=int(waiting), refused=int(refused), held=int(held), changes_waiting=max(int(changes_waiting), 0),
    )  # fmt: skip
