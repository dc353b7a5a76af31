"""The effects of operations into PostgreSQL, set-wise, and what was not taken of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from cloud.store import patrols
from cloud.store.accounts import run
from cloud.store.database import Connection
from cloud.store.fixes import FixWriter
from cloud.store.records import Noted, noted, write
from shared.sync import clashes
from shared.sync.operations import Effects, Operation
from shared.sync.personal import without_personal


async def apply(
    connection: Connection, decided: Sequence[tuple[Operation, Effects]], now_ms: int
) -> tuple[list[Noted], int]:
    """Write the effects of operations, set-wise, inside a transaction that holds the lock of edits.

    Returns the lines for the change log and by how many rows the fixes became more or, as a negative number, fewer.
    """
    await _keep_losers(connection, decided, now_ms)
    await _keep_clashes(connection, decided, now_ms)
    changes = [change for _, effects in decided for change in effects.changes]
    if not changes:
        return [], 0
    await write(connection, changes)
    await patrols.note_stations(connection, decided)
    lines = [line for operation, effects in decided for line in noted(effects.changes, operation.origin)]
    fixes = FixWriter(connection, now_ms)
    n = 0
    for heard_id, into_id in dict.fromkeys(pair for _, effects in decided for pair in effects.rekeyed):
        more, fewer = await fixes.rekey(heard_id, into_id)
        lines += more
        n += fewer
    moved = dict.fromkeys(collar_id for _, effects in decided for collar_id in effects.moved)
    if animals := [each.record.id for each in changes if each.record.entity == "animal" and each.before is None]:
        moved |= dict.fromkeys(await fixes.stand_for(animals))
    if moved:
        lines += await FixWriter(connection, now_ms).readopt(moved)
    return lines, n


async def _keep_clashes(connection: Connection, decided: Sequence[tuple[Operation, Effects]], now_ms: int) -> None:
    """Write what a person should look at: what was lost, and observations that are probably told twice."""
    found = [clash for operation, effects in decided if (clash := clashes.of_loss(operation, effects, now_ms))]
    made = [
        (operation, change.record.columns)
        for operation, effects in decided
        for change in effects.changes
        if change.record.entity == "observation" and change.kind == "insert"
    ]
    found += await run(connection, clashes.note_twins(made, now_ms))
    await run(connection, clashes.note(found))


async def _keep_losers(connection: Connection, decided: Sequence[tuple[Operation, Effects]], now_ms: int) -> None:
    """Write what was not taken where a person can read it; what is personal stands in the conflict, sealed."""
    lost: list[tuple[Any, ...]] = [
        (
            operation.id, operation.entity, operation.row_id, operation.origin, operation.author,
            Jsonb(without_personal(operation.entity, effects.lost)),
            Jsonb(without_personal(operation.entity, effects.kept)), now_ms,
        )
        for operation, effects in decided
        if effects.lost
    ]  # fmt: skip
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO lost_edits (operation_id, entity, row_id, origin, author, columns, kept, received_ms)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            lost,
        )
