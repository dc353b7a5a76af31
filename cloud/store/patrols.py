"""Rangers and their patrols in PostgreSQL: what ``shared.sync.patrols`` asks, whose they are, what is forgotten."""

from __future__ import annotations

from collections.abc import Iterable

from cloud.store.database import Connection
from cloud.store.records import one, record_of, selecting
from shared.store import Page
from shared.sync.operations import Effects, Operation
from shared.sync.patrols import ORDERS, Asked, entity_of, order_of, where_of
from shared.sync.personal import opened_rows
from shared.sync.records import ENTITIES, EntityName, Record


async def answer(connection: Connection, asked: Asked) -> Page[Record]:
    """Return a page of records."""
    entity = entity_of(asked)
    where, values = where_of(asked)
    where = where.replace("?", "%s")
    # text in the order of its code points, as at the station, whatever the database's collation is
    order = order_of(asked, collation=' COLLATE "C"')
    (count,) = await one(connection, f"SELECT count(*) FROM {entity.table} r WHERE {where}", values)
    if not asked.limit:
        return Page(int(count), [])
    found = await connection.execute(
        f"{selecting(entity)} WHERE {where} ORDER BY {order} LIMIT %s OFFSET %s".encode(),
        [*values, asked.limit, asked.offset],
    )
    rows = opened_rows(entity, await found.fetchall(), connection.fields)
    return Page(int(count), [record_of(entity, row) for row in rows])


async def note_stations(connection: Connection, decided: Iterable[tuple[Operation, Effects]]) -> None:
    """Note of what stations brought which was first: people of a station see its rows."""
    brought: dict[tuple[EntityName, str], list[str]] = {}
    for operation, effects in decided:
        if operation.entity in ORDERS and operation.origin:
            made = [change.record.id for change in effects.changes if change.before is None]
            brought.setdefault((operation.entity, operation.origin), []).extend(made)
    for (entity, station_id), row_ids in brought.items():
        await connection.execute(
            f"UPDATE {ENTITIES[entity].table} SET station_id = %s WHERE id = ANY(%s)".encode(), (station_id, row_ids)
        )


async def forget_positions(connection: Connection, before_ms: int) -> int:
    """Remove positions of rangers that were recorded before then."""
    found = await connection.execute("DELETE FROM ranger_positions WHERE recorded_ms < %s", (before_ms,))
    return found.rowcount
