"""Rangers and their patrols in the station's database: what ``shared.sync.patrols`` asks, and what is forgotten."""

from __future__ import annotations

from edge.store.driver import Connection
from edge.store.records import record_of, selecting
from shared.store import Page
from shared.sync.patrols import Asked, entity_of, order_of, where_of
from shared.sync.personal import opened_rows
from shared.sync.records import Record


def answer(db: Connection, asked: Asked) -> Page[Record]:
    """Return a page of records."""
    entity = entity_of(asked)
    where, values = where_of(asked)
    order = order_of(asked)
    (count,) = db.execute(f"SELECT count(*) FROM {entity.table} r WHERE {where}", values).fetchone()
    if not asked.limit:
        return Page(int(count), [])
    rows = db.execute(
        f"{selecting(entity)} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?", [*values, asked.limit, asked.offset]
    ).fetchall()
    return Page(int(count), [record_of(entity, row) for row in opened_rows(entity, rows, db.fields)])


def forget_positions(db: Connection, before_ms: int) -> int:
    """Remove positions of rangers that were recorded before then; what waits for the cloud still goes there."""
    return int(db.execute("DELETE FROM ranger_positions WHERE recorded_ms < ?", (before_ms,)).rowcount)
