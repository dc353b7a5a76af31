"""The change feed: what stations read of the cloud, in the order of commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from cloud.store import scope
from cloud.store.arrays import numbers_array, texts_array
from cloud.store.database import Connection
from cloud.store.partitions import highest_id, lowest_id
from cloud.store.records import one, record_of, selecting
from shared.domain import FixFlag
from shared.errors import StaleCursor
from shared.sync.decisions import Decision
from shared.sync.fixes import BY_HAND
from shared.sync.operations import STANDS_FOR
from shared.sync.personal import opened_rows
from shared.sync.records import ENTITIES, SCOPED, EntityName, Record
from shared.wire.batch import FIX_COLUMNS, FixColumns
from shared.wire.link import DOWN, OWN

_ELSEWHERE: Final = {"collar_id": "c.id", "said_animal_id": "a.id"}
_FIX: Final = ", ".join(_ELSEWHERE.get(column.name, f"f.{column.name}") for column in FIX_COLUMNS)

#: The key of the collar that a name stands for by now.
_NOW_CALLED: Final = (
    "coalesce((SELECT collar_pk FROM collar_aliases WHERE alias = {0}), (SELECT pk FROM collars WHERE id = {0}))"
)
#: A line ``n`` of the change log is of a record that the station has; its scope knows some kinds alone.
_IN_SCOPE: Final = (
    "(n.entity <> ALL(%(scoped)s) OR EXISTS (SELECT FROM station_rows w WHERE w.station_id = %(station)s"
    " AND w.entity = n.entity AND w.row_id = n.row_id))"
)
#: Or of a kind of which the station has what it entered itself.
_IS_FOR_IT: Final = (
    "(n.entity <> ALL(%(own)s) OR EXISTS (SELECT FROM changes m WHERE m.row_id = n.row_id AND m.entity = n.entity"
    " AND m.entity <> 'fix' AND m.kind = 'insert' AND m.origin = %(station)s))"
)
_COLLAR_IN_SCOPE: Final = (
    "EXISTS (SELECT FROM station_rows w JOIN collars k ON k.id = w.row_id WHERE w.station_id = %(station)s"
    f" AND w.entity = 'collar' AND k.pk = {_NOW_CALLED.format('n.row_id')})"
)
#: So many spans are looked up for one page.
_MAX_LINES: Final = 500


async def epoch(connection: Connection) -> str:
    """Return the name of this life of the database; cursors are worth nothing in another."""
    (value,) = await one(connection, "SELECT value FROM facts WHERE name = 'cloud_epoch'")
    return str(value)


class Changed(msgspec.Struct, frozen=True):
    """A page of the change feed: records as they stand now, and those that left the station's scope."""

    records: list[Record]
    left: list[tuple[EntityName, str]]
    #: the cursor after them
    next: int
    is_more: bool


async def changed_records(connection: Connection, station_id: str, since: int, limit: int) -> Changed:
    """Return what a station has not heard of after ``since``.

    A record that changed often comes once, with the records that it refers to: as it stands now it may name one that
    is newer than this page. What is not in the station's scope (``cloud.store.scope``) does not come, nor
    what others entered of some kinds (``shared.wire.link.OWN``). Numbers were
    given at the end of each transaction, so a snapshot that shows one shows all below it. Raises StaleCursor for a
    cursor beyond the last number.
    """
    (last,) = await one(connection, "SELECT value FROM counters WHERE name = 'change'")
    if since > last:
        raise StaleCursor("this cursor is not of this home's changes: begin at 0")
    is_limited = await scope.is_limited(connection, station_id)
    found = await connection.execute(
        f"(SELECT seq, entity, row_id, false FROM changes n WHERE seq > %(since)s AND entity <> 'fix'"
        f" AND {_IS_FOR_IT} AND {_IN_SCOPE if is_limited else 'true'} ORDER BY seq LIMIT %(limit)s) UNION ALL"
        " (SELECT seq, entity, row_id, true FROM scope_changes WHERE station_id = %(station)s AND seq > %(since)s"
        " AND entity <> 'fix' ORDER BY seq LIMIT %(limit)s) ORDER BY 1 LIMIT %(limit)s".encode(),
        {"station": station_id, "since": since, "limit": limit, "scoped": list(SCOPED), "own": list(OWN)},
    )
    lines = await found.fetchall()
    is_more = len(lines) == limit
    wanted: dict[EntityName, set[str]] = {name: set() for name in DOWN}
    for _, entity, row_id, _ in lines:
        if entity in wanted and not row_id.startswith(STANDS_FOR):
            wanted[entity].add(row_id)
    left: list[tuple[EntityName, str]] = []
    if is_limited:
        has = await _in_scope(connection, station_id, wanted)
        told: list[tuple[EntityName, str]] = [
            (entity, row_id) for _, entity, row_id, is_crossing in lines if is_crossing
        ]
        left = [key for key in dict.fromkeys(told) if key[1] in wanted.get(key[0], ()) and key not in has]
        for entity in SCOPED:
            wanted[entity] = {row_id for row_id in wanted[entity] if (entity, row_id) in has}
    records = await _as_they_stand(connection, wanted)
    return Changed(records, left, int(lines[-1][0]) if is_more else int(last), is_more)


async def _in_scope(
    connection: Connection, station_id: str, wanted: Mapping[EntityName, set[str]]
) -> set[tuple[EntityName, str]]:
    """Return which of some records are in a station's scope."""
    asked = [(entity, row_id) for entity in SCOPED for row_id in wanted[entity]]
    found = await connection.execute(
        "SELECT w.entity, w.row_id FROM unnest(%s::text[], %s::text[]) n (entity, row_id) JOIN station_rows w"
        " ON w.station_id = %s AND w.entity = n.entity AND w.row_id = n.row_id",
        (texts_array([entity for entity, _ in asked]), texts_array([row_id for _, row_id in asked]), station_id),
    )
    return {(entity, row_id) for entity, row_id in await found.fetchall()}


async def _as_they_stand(connection: Connection, wanted: dict[EntityName, set[str]]) -> list[Record]:
    """Return records and those that they hold on to, what is referred to before what refers."""
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
    return [record for name in DOWN for record in found_of[name]]


class Heard(msgspec.Struct, frozen=True):
    """A page of fixes that came to the cloud another way, and what people decided of them and of others there."""

    columns: FixColumns
    decisions: list[Decision]
    #: the cursor after them
    next: int
    after: str | None
    is_more: bool


async def own_fixes(connection: Connection, station_id: str, since: int, after: str | None, limit: int) -> Heard:
    """Return fixes that came to the cloud another way, and decisions that were made elsewhere, after a cursor.

    To a station with a scope those of collars in it, whoever brought them; to any other those that the cloud took
    itself, of the collars that it follows. The change log names a collar and a span of raw times. What lies there comes
    as it stands now, copies that the station brought among it: storing twice is storing once. ``after`` counts in the
    change that follows ``since`` alone, which a station may have ceased to follow. A decision comes with its fix, and
    by itself to a station that has brought or read fixes of the collar. Raises StaleCursor for a cursor beyond the last
    number.
    """
    (last,) = await one(connection, "SELECT value FROM counters WHERE name = 'change'")
    if since > last:
        raise StaleCursor("this cursor is not of this home's changes: begin at 0")
    lines = await _spans(connection, station_id, since, _MAX_LINES)
    rows: list[Sequence[Any]] = []
    decided: list[Sequence[Any]] = []
    for seq, collar_pk, first_ms, last_ms, is_decision in lines:
        if is_decision:
            decided += await _span(connection, collar_pk, first_ms, last_ms, None, _MAX_LINES)
            continue
        reached = after if seq == since + 1 else None
        some = await _span(connection, collar_pk, first_ms, last_ms, reached, limit - len(rows))
        rows += some
        if len(rows) >= limit:
            return Heard(_columns(rows), _decisions(rows, decided), seq - 1, some[-1][0].hex, True)
    is_more = len(lines) == _MAX_LINES
    return Heard(_columns(rows), _decisions(rows, decided), lines[-1][0] if is_more else int(last), None, is_more)


def _decisions(rows: Sequence[Sequence[Any]], decided: Sequence[Sequence[Any]]) -> list[Decision]:
    """Return what people decided of fixes, as it stands: of ``rows`` where they did, of ``decided`` in any case."""
    told = {row[0]: row for row in (*(each for each in rows if each[-1] & BY_HAND), *decided)}
    columns = _columns(list(told.values()))
    return [
        Decision(
            id=identity.hex, collar_id=columns["collar_id"][at], raw_ms=columns["raw_ms"][at],
            lon_e7=columns["lon_e7"][at], lat_e7=columns["lat_e7"][at],
            is_excluded=bool(row[-1] & FixFlag.EXCLUDED_BY_HAND),
        )
        for at, (identity, row) in enumerate(told.items())
    ]  # fmt: skip


async def newest_fixes(connection: Connection, station_id: str, since: int, limit: int) -> FixColumns:
    """Return the newest fix of each collar of which some wait for a station after ``since``, the newest first."""
    pks = sorted(
        {pk for _, pk, _, _, is_decision in await _spans(connection, station_id, since, None) if not is_decision}
    )
    found = await connection.execute(
        f"SELECT f.id, {_FIX} FROM unnest(%s::bigint[]) n (pk) CROSS JOIN LATERAL (SELECT * FROM fixes x"
        " WHERE x.collar_pk = n.pk ORDER BY x.recorded_ms DESC, x.id DESC LIMIT 1) f JOIN collars c"
        " ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.said_animal_pk ORDER BY f.recorded_ms DESC, f.id"
        " LIMIT %s".encode(),
        (numbers_array(pks), limit),
    )
    return _columns(await found.fetchall())


async def _spans(
    connection: Connection, station_id: str, since: int, limit: int | None
) -> list[tuple[int, int, int, int, bool]]:
    """Return what waits for a station after ``since``: number, collar, first and last raw time, by number.

    The last says that it is a decision on a fix, and no fix.
    """
    called = _NOW_CALLED.format("n.row_id")
    if await scope.is_limited(connection, station_id):
        mine = f"n.origin <> %(station)s AND n.kind = 'insert' AND {_COLLAR_IN_SCOPE}"
    else:
        mine = (
            f"n.origin = '' AND n.kind = 'insert' AND (s.follows IS NULL OR {called} IN"
            f" (SELECT {_NOW_CALLED.format('w.name')} FROM unnest(s.follows) w (name)))"
        )
    found = await connection.execute(
        f"(SELECT n.seq, {called}, n.first_ms, n.last_ms, n.kind = 'hand' FROM changes n"
        " JOIN stations s ON s.id = %(station)s WHERE n.seq > %(since)s AND n.entity = 'fix' AND ((n.kind = 'hand'"
        " AND n.origin <> %(station)s AND EXISTS (SELECT FROM station_collars k WHERE k.station_id = %(station)s"
        f" AND k.collar_pk = {called})) OR ({mine})) ORDER BY n.seq LIMIT %(limit)s) UNION ALL"
        f" (SELECT n.seq, {called}, n.first_ms, n.last_ms, false FROM scope_changes n"
        " WHERE n.station_id = %(station)s AND n.seq > %(since)s AND n.entity = 'fix'"
        f" AND {_COLLAR_IN_SCOPE} ORDER BY n.seq LIMIT %(limit)s) ORDER BY 1 LIMIT %(limit)s".encode(),
        {"station": station_id, "since": since, "limit": limit},
    )
    return [
        (int(seq), int(pk), int(first_ms), int(last_ms), bool(is_decision))
        for seq, pk, first_ms, last_ms, is_decision in await found.fetchall()
    ]


async def _span(
    connection: Connection, collar_pk: int, first_ms: int, last_ms: int, after: str | None, limit: int
) -> list[Sequence[Any]]:
    """Return fixes of a collar between two raw times, by id, each with its flags at the end."""
    found = await connection.execute(
        f"SELECT f.id, {_FIX}, f.flags FROM fixes f JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a"
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
