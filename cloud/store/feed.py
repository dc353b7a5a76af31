"""The change feed: what stations read of the cloud, in the order of commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cloud.store.database import Connection
from cloud.store.partitions import highest_id, lowest_id
from cloud.store.records import one, record_of, selecting
from shared.errors import StaleCursor
from shared.sync.personal import opened_rows
from shared.sync.records import ENTITIES, EntityName, Record
from shared.wire.batch import FIX_COLUMNS, FixColumns
from shared.wire.link import DOWN

_ELSEWHERE: Final = {"collar_id": "c.id", "said_animal_id": "a.id"}
_FIX: Final = ", ".join(_ELSEWHERE.get(column.name, f"f.{column.name}") for column in FIX_COLUMNS)

#: The key of the collar that a name stands for by now.
_NOW_CALLED: Final = (
    "coalesce((SELECT collar_pk FROM collar_aliases WHERE alias = {0}), (SELECT pk FROM collars WHERE id = {0}))"
)
#: So many spans are looked up for one page.
_MAX_LINES: Final = 500


async def epoch(connection: Connection) -> str:
    """Return the name of this life of the database; cursors are worth nothing in another."""
    (value,) = await one(connection, "SELECT value FROM facts WHERE name = 'cloud_epoch'")
    return str(value)


async def changed_records(connection: Connection, since: int, limit: int) -> tuple[list[Record], int, bool]:
    """Return records that changed after ``since`` as they stand now, the cursor after them, and whether more wait.

    A record that changed often comes once, with the records that it refers to: as it stands now it may name one that
    is newer than this page. Numbers were given at the end of each transaction, so a snapshot that shows one shows all
    below it. Raises StaleCursor for a cursor beyond the last number.
    """
    (last,) = await one(connection, "SELECT value FROM counters WHERE name = 'change'")
    if since > last:
        raise StaleCursor("this cursor is not of this home's changes: begin at 0")
    found = await connection.execute(
        "SELECT seq, entity, row_id FROM changes WHERE seq > %s AND entity <> 'fix' ORDER BY seq LIMIT %s",
        (since, limit),
    )
    lines = await found.fetchall()
    is_more = len(lines) == limit
    wanted: dict[EntityName, set[str]] = {name: set() for name in DOWN}
    for _, entity, row_id in lines:
        if entity in wanted:
            wanted[entity].add(row_id)
    found_of: dict[EntityName, list[Record]] = {}
    for name in reversed(DOWN):  # what refers before what is referred to
        entity = ENTITIES[name]
        rows = await connection.execute(
            f"{selecting(entity)} WHERE r.id = ANY(%s) ORDER BY r.pk".encode(), (sorted(wanted[name]),)
        )
        read = opened_rows(entity, await rows.fetchall(), connection.fields)
        found_of[name] = [record_of(entity, row) for row in read]
        for column in entity.held:
            wanted[entity.references[column]].update(record.columns[column] for record in found_of[name])
    records = [record for name in DOWN for record in found_of[name]]
    return records, int(lines[-1][0]) if is_more else int(last), is_more


async def own_fixes(
    connection: Connection, station_id: str, since: int, after: str | None, limit: int
) -> tuple[FixColumns, int, str | None, bool]:
    """Return fixes that the cloud took itself and a station follows, the cursor after them, and whether more wait.

    The change log names a collar and a span of raw times. What lies there comes as it stands now, copies that stations
    brought among it: storing twice is storing once. ``after`` counts in the change that follows ``since`` alone, which
    a station may have ceased to follow. Raises StaleCursor for a cursor beyond the last number.
    """
    (last,) = await one(connection, "SELECT value FROM counters WHERE name = 'change'")
    if since > last:
        raise StaleCursor("this cursor is not of this home's changes: begin at 0")
    found = await connection.execute(
        f"SELECT n.seq, {_NOW_CALLED.format('n.row_id')} AS pk, n.first_ms, n.last_ms FROM changes n"
        " JOIN stations s ON s.id = %s WHERE n.seq > %s AND n.entity = 'fix' AND n.origin = '' AND n.kind = 'insert'"
        f" AND (s.follows IS NULL OR {_NOW_CALLED.format('n.row_id')} IN"
        f" (SELECT {_NOW_CALLED.format('w.name')} FROM unnest(s.follows) w (name))) ORDER BY n.seq LIMIT %s".encode(),
        (station_id, since, _MAX_LINES),
    )
    lines = await found.fetchall()
    rows: list[Sequence[Any]] = []
    for seq, collar_pk, first_ms, last_ms in lines:
        reached = after if seq == since + 1 else None
        some = await _span(connection, collar_pk, first_ms, last_ms, reached, limit - len(rows))
        rows += some
        if len(rows) >= limit:
            return _columns(rows), seq - 1, some[-1][0].hex, True
    is_more = len(lines) == _MAX_LINES
    return _columns(rows), lines[-1][0] if is_more else int(last), None, is_more


async def _span(
    connection: Connection, collar_pk: int, first_ms: int, last_ms: int, after: str | None, limit: int
) -> list[Sequence[Any]]:
    """Return fixes of a collar between two raw times, by id."""
    found = await connection.execute(
        f"SELECT f.id, {_FIX} FROM fixes f JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a"
        " ON a.pk = f.said_animal_pk WHERE f.collar_pk = %s AND f.raw_ms BETWEEN %s AND %s"
        f" AND f.id {'>' if after else '>='} %s::uuid AND f.id <= %s::uuid ORDER BY f.id LIMIT %s".encode(),
        (collar_pk, first_ms, last_ms, after or lowest_id(first_ms), highest_id(last_ms), limit),
    )
    return list(await found.fetchall())


def _columns(rows: Sequence[Sequence[Any]]) -> FixColumns:
    return {column.name: [row[place] for row in rows] for place, column in enumerate(FIX_COLUMNS, 1)}


async def fixes_of(
    connection: Connection, station_id: str, collar_id: str, after: str | None, limit: int
) -> tuple[FixColumns, str | None]:
    """Return fixes of a collar in the order of time and id, and the id of the last one where more may follow.

    Of a collar that the station has brought no fix of there are none.
    """
    found = await connection.execute(
        f"SELECT f.id, {_FIX} FROM fixes f JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a"
        " ON a.pk = f.said_animal_pk WHERE f.collar_pk = (SELECT collar_pk FROM station_collars s JOIN collars k"
        " ON k.pk = s.collar_pk WHERE s.station_id = %(station)s AND k.id = %(collar)s)"
        " AND (%(after)s::uuid IS NULL OR (f.recorded_ms, f.id) >"
        " ((SELECT recorded_ms FROM fixes WHERE id = %(after)s::uuid), %(after)s::uuid))"
        " ORDER BY f.recorded_ms, f.id LIMIT %(limit)s".encode(),
        {"station": station_id, "collar": collar_id, "after": after, "limit": limit},
    )
    rows = await found.fetchall()
    return _columns(rows), rows[-1][0].hex if len(rows) == limit else None
