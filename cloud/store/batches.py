"""What a station's batch holds, into the database: all of it set-wise, or all but what cannot be taken.

A batch is written in one statement a kind. Where the database refuses it, its halves are tried, each in a savepoint,
until the one item at fault is alone: it goes to the quarantine with its bytes, its neighbours are stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import psycopg

from cloud.store.database import Connection
from cloud.store.fixes import FixWriter
from cloud.store.records import Noted, load, lock_for_edits, lock_for_fixes
from cloud.store.store import apply
from shared.errors import Invalid, RequestError
from shared.sync.decide import Effects, Operation, Outcome, decide, wanted
from shared.sync.streams import Exceptional
from shared.wire.batch import FixColumns

Item = TypeVar("Item")

#: What the database says of a value that it does not take; anything else is no fault of the batch.
_REFUSALS = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError)


class Taken(msgspec.Struct):
    """What became of a batch: for its receipt, for the change log, for the quarantine."""

    counts: Counter[Outcome]
    exceptions: list[Exceptional]
    lines: list[Noted]
    new_fixes: int = 0
    #: (code, detail, bytes) of each item that was not taken
    refused: list[tuple[str, str, bytes]] = []


def unreadable(error: Invalid, payload: bytes) -> Taken:
    """Return what becomes of a batch that came as it was sent and yet cannot be read: kept, and in nobody's way."""
    exception = Exceptional(place=0, outcome="quarantined", code=error.code, detail=error.detail)
    counts: Counter[Outcome] = Counter({"quarantined": 1})
    return Taken(counts, [exception], [], refused=[(error.code, error.detail, payload)])


async def take_fixes(connection: Connection, columns: FixColumns, station_id: str, origin: str, now_ms: int) -> Taken:
    """Store the fixes of a batch; each is new, a richer copy, or a duplicate."""
    await lock_for_fixes(connection)
    taken = Taken(Counter(), [], [])
    collar_pks: set[int] = set()

    async def take(places: Sequence[int]) -> None:
        some = columns if len(places) == len(columns["raw_ms"]) else _picked(columns, places)
        writer = FixWriter(connection, now_ms, origin)
        added = await writer.add_columns(some)
        collar_pks.update(writer.collar_pks)
        taken.counts["applied"] += len(added.outcomes) - added.outcomes.count("duplicate")
        taken.counts["duplicate"] += added.outcomes.count("duplicate")
        taken.lines += added.lines
        taken.new_fixes += added.new

    def refuse(place: int, code: str, detail: str) -> None:
        body = msgspec.msgpack.encode({name: values[place] for name, values in columns.items()})
        taken.refused.append((code, detail, body))
        taken.exceptions.append(Exceptional(place=place, outcome="quarantined", code=code, detail=detail))

    await _halving(connection, range(len(columns["raw_ms"])), take, refuse)
    taken.counts["quarantined"] += len(taken.refused)
    await connection.execute(
        "INSERT INTO station_collars (station_id, collar_pk) SELECT %s, unnest(%s::bigint[]) ON CONFLICT DO NOTHING",
        (station_id, sorted(collar_pks)),
    )
    return taken


async def take_operations(connection: Connection, operations: Sequence[Operation], now_ms: int) -> Taken:
    """Decide and apply the operations of a batch; one that was ever taken is a duplicate, over whatever stream."""
    await lock_for_edits(connection)
    taken = Taken(Counter(), [], [])
    found = await connection.execute(
        "SELECT id FROM applied_operations WHERE id = ANY(%s)", ([operation.id for operation in operations],)
    )
    known = {identity for (identity,) in await found.fetchall()}
    fresh: dict[str, int] = {}
    for place, operation in enumerate(operations):
        if operation.id not in known:
            fresh.setdefault(operation.id, place)
    taken.counts["duplicate"] += len(operations) - len(fresh)
    outcomes: dict[str, Outcome] = {}

    async def take(places: Sequence[int]) -> None:
        some = [operations[place] for place in places]
        rows = await load(connection, wanted(some))
        decided: list[tuple[Operation, Effects]] = []
        refused: list[tuple[int, RequestError]] = []
        for place, operation in zip(places, some, strict=True):
            try:
                effects = decide(operation, rows)
            except RequestError as error:
                refused.append((place, error))
            else:
                rows.take(effects)
                decided.append((operation, effects))
        lines, n = await apply(connection, decided, now_ms)
        taken.lines += lines
        taken.new_fixes += n
        for place, refusal in refused:
            refuse(place, refusal.code, refusal.detail)
        for operation, effects in decided:
            outcomes[operation.id] = effects.outcome
            if effects.lost:
                taken.exceptions.append(
                    Exceptional(place=fresh[operation.id], outcome=effects.outcome, lost=tuple(sorted(effects.lost)))
                )

    def refuse(place: int, code: str, detail: str) -> None:
        outcomes[operations[place].id] = "quarantined"
        taken.refused.append((code, detail, msgspec.msgpack.encode(operations[place])))
        taken.exceptions.append(Exceptional(place=place, outcome="quarantined", code=code, detail=detail))

    await _halving(connection, list(fresh.values()), take, refuse)
    taken.counts.update(outcomes.values())
    async with connection.cursor() as cursor:
        await cursor.executemany("INSERT INTO applied_operations (id, outcome) VALUES (%s, %s)", list(outcomes.items()))
    return taken


async def quarantine(
    connection: Connection, station_id: str, epoch: str, channel: str, n: int,
    refused: Iterable[tuple[str, str, bytes]], now_ms: int,
) -> None:  # fmt: skip
    """Keep what was not taken, with its bytes, for a person to look at."""
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO quarantine (station_id, epoch, channel, n, code, detail, body, received_ms)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [(station_id, epoch, channel, n, code, detail, body, now_ms) for code, detail, body in refused],
        )


async def _halving(
    connection: Connection,
    places: Sequence[int],
    take: Callable[[Sequence[int]], Awaitable[None]],
    refuse: Callable[[int, str, str], None],
) -> None:
    if not places:
        return
    try:
        async with connection.transaction():
            await take(places)
    except _REFUSALS as error:
        if len(places) == 1:
            refuse(places[0], "unstorable", f"the database does not take it ({error.sqlstate or type(error).__name__})")
            return
        middle = len(places) // 2
        await _halving(connection, places[:middle], take, refuse)
        await _halving(connection, places[middle:], take, refuse)


def _picked(columns: Mapping[str, Sequence[Any]], places: Sequence[int]) -> FixColumns:
    return {name: [values[place] for place in places] for name, values in columns.items()}
