"""Records in PostgreSQL: what an operation may touch is loaded with one statement a kind, effects are written likewise.

Two edits at once could each be right and both together wrong (two deployments of one collar), so edits take turns: an
advisory lock, held to the end of the transaction. Writers of fixes hold it shared, so that no fix is given to an animal
by deployments that are being changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from psycopg import sql
from psycopg.types.json import Jsonb

from cloud.store import scope
from cloud.store.arrays import numbers_array, texts_array
from cloud.store.database import Connection
from shared.accounts.fields import FieldKeys
from shared.sync.operations import Change, Rows, Wanted
from shared.sync.personal import opened_rows, sealed_columns
from shared.sync.records import ENTITIES, Entity, EntityName, Mark, Record
from shared.wire.geojson import wkb_of

#: Any number of ours; advisory locks are the database's own.
_LOCK: Final = 0x6F75_7470_6F73_7401

_KEPT: Final = ("rev", "cloud_rev", "marks", "author", "created_ms", "updated_ms", "deleted_ms")
#: Columns that lie elsewhere than in the table of their record, and how they are read.
_ELSEWHERE: Final[Mapping[str, str]] = {
    "aliases": "ARRAY(SELECT alias FROM collar_aliases WHERE collar_pk = r.pk ORDER BY alias)",
    "deployment.collar_id": "(SELECT id FROM collars WHERE pk = r.collar_pk)",
    "deployment.animal_id": "(SELECT id FROM animals WHERE pk = r.animal_pk)",
}
_MARKS: Final = dict[str, Mark]


async def lock_for_edits(connection: Connection) -> None:
    """Wait until nobody else edits records or adds fixes, to the end of the transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


async def lock_for_fixes(connection: Connection) -> None:
    """Wait until nobody edits records; others may add fixes beside us.

    Every question of that transaction is answered by an index, also where the server has no statistics yet.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock_shared(%s), set_config('enable_bitmapscan', 'off', true),"
        " set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)",
        (_LOCK,),
    )


def selecting(entity: Entity, *more: str) -> str:
    """Return the statement that reads records of ``entity`` as ``r``, and ``more`` of it, without its condition."""
    columns = [
        _ELSEWHERE.get(name) or _ELSEWHERE.get(f"{entity.name}.{name}") or f"r.{name}" for name in entity.columns
    ]
    return f"SELECT r.id, {', '.join([*columns, *(f'r.{name}' for name in _KEPT), *more])} FROM {entity.table} r"


def record_of(entity: Entity, row: Sequence[Any]) -> Record:
    """Return a row of ``selecting`` as a record."""
    size = len(entity.columns)
    columns = dict(zip(entity.columns, row[1 : 1 + size], strict=True))
    if entity.name == "collar":
        columns["aliases"] = tuple(columns["aliases"])
    rev, cloud_rev, marks, author, created_ms, updated_ms, deleted_ms = row[1 + size : 8 + size]
    return Record(
        entity=entity.name, id=row[0], columns=columns, rev=rev, cloud_rev=cloud_rev,
        marks=msgspec.convert(marks, _MARKS), author=author, created_ms=created_ms, updated_ms=updated_ms,
        deleted_ms=deleted_ms,
    )  # fmt: skip


async def load(connection: Connection, wanted: Wanted) -> Rows:
    """Return the records that ``wanted`` names and what hangs on them."""
    (first_rev,) = await one(connection, "SELECT coalesce(max(value), 0) FROM counters WHERE name = 'life'")
    rows = Rows(first_rev=first_rev)
    animal_ids = set(wanted.ids.get("animal", ()))
    names = set(wanted.collars)
    for record in await _fetch(connection, "deployment", "r.id = ANY(%s)", wanted.ids.get("deployment", ())):
        rows.put(record)
        animal_ids.add(record.columns["animal_id"])
        names.add(record.columns["collar_id"])
    for record in await _fetch(
        connection,
        "collar",
        "(r.id = ANY(%s) OR r.pk IN (SELECT collar_pk FROM collar_aliases WHERE alias = ANY(%s)))",
        names,
        values=2,
    ):
        rows.put(record)
    collar_ids = [record.id for record in rows.values() if record.entity == "collar"]
    hanging = await _fetch(
        connection,
        "deployment",
        "r.deleted_ms IS NULL AND (r.collar_pk IN (SELECT pk FROM collars WHERE id = ANY(%s))"
        " OR r.animal_pk IN (SELECT pk FROM animals WHERE id = ANY(%s)))",
        collar_ids,
        animal_ids,
    )
    for record in hanging:
        rows.put(record)
    animal_ids.update(record.columns["animal_id"] for record in hanging)
    known = set(collar_ids)
    others = {record.columns["collar_id"] for record in hanging} - known
    for entity, ids in ({**wanted.ids, "animal": animal_ids, "collar": others}).items():
        if entity != "deployment":
            for record in await _fetch(connection, entity, "r.id = ANY(%s)", ids):
                rows.put(record)
    if wanted.emptied:
        found = await connection.execute(
            "SELECT id FROM collars c WHERE id = ANY(%s) AND EXISTS (SELECT 1 FROM fixes WHERE collar_pk = c.pk)",
            (list(wanted.emptied),),
        )
        rows.with_fixes.update(identity for (identity,) in await found.fetchall())
    return rows


async def _fetch(
    connection: Connection, entity_name: EntityName, condition: str, *ids: Iterable[str], values: int = 1
) -> list[Record]:
    given = [list(each) for each in ids]
    if not any(given):
        return []
    entity = ENTITIES[entity_name]
    statement = f"{selecting(entity)} WHERE {condition}"
    found = await connection.execute(statement.encode(), given * values)
    return [record_of(entity, row) for row in opened_rows(entity, await found.fetchall(), connection.fields)]


#: Kinds in the order in which they are written: a deployment refers to its collar and its animal.
_ORDER: Final[tuple[EntityName, ...]] = (
    "animal", "collar", "deployment", "observation", "zone", "corridor", "alert", "team", "ranger", "ranger_position",
    "patrol_log", "patrol_route", "patrol",
)  # fmt: skip


async def write(connection: Connection, changes: Iterable[Change]) -> None:
    """Write the records of ``changes`` as they stand afterwards."""
    by_kind: dict[EntityName, dict[str, Record]] = {}
    for change in changes:
        by_kind.setdefault(change.record.entity, {})[change.record.id] = change.record
    async with connection.cursor() as cursor:
        for name in _ORDER:
            if records := by_kind.get(name):
                await cursor.executemany(
                    _UPSERTS[name], [_values(record, connection.fields) for record in records.values()]
                )
        if collars := by_kind.get("collar"):
            await cursor.execute(
                "DELETE FROM collar_aliases WHERE collar_pk IN (SELECT pk FROM collars WHERE id = ANY(%s))",
                (list(collars),),
            )
            aliases = [(alias, each.id) for each in collars.values() for alias in each.columns["aliases"]]
            await cursor.executemany(
                "INSERT INTO collar_aliases (alias, collar_pk) VALUES (%s, (SELECT pk FROM collars WHERE id = %s))",
                aliases,
            )


def _values(record: Record, fields: FieldKeys) -> list[Any]:
    entity = ENTITIES[record.entity]
    kept = sealed_columns(entity, record, fields)
    columns = [kept[name] for name in entity.columns if name != "aliases"]
    shape = [wkb_of(record.columns["geometry"])] if "geometry" in record.columns else []
    marks = Jsonb({name: [mark.rev, mark.origin] for name, mark in record.marks.items()})
    return [
        record.id, *columns, *shape, record.rev, record.cloud_rev, marks, record.author, record.created_ms,
        record.updated_ms, record.deleted_ms,
    ]  # fmt: skip


def _upsert(entity: Entity) -> sql.Composed:
    targets: list[str] = []
    values: list[sql.Composable] = []
    for name in entity.columns:
        if name == "aliases":
            continue
        if name in entity.held:
            targets.append(name.replace("_id", "_pk"))
            table = ENTITIES[entity.references[name]].table
            values.append(sql.SQL("(SELECT pk FROM {} WHERE id = %s)").format(sql.Identifier(table)))
        else:
            targets.append(name)
            values.append(sql.Placeholder())
    if "geometry" in entity.columns:
        targets.append("geom")
        values.append(sql.SQL("ST_GeomFromWKB(%s, 4326)"))
    targets = ["id", *targets, *_KEPT]
    columns = [sql.Identifier(name) for name in targets]
    return sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}").format(
        sql.Identifier(entity.table),
        sql.SQL(", ").join(columns),
        sql.SQL(", ").join([sql.Placeholder(), *values, *[sql.Placeholder()] * len(_KEPT)]),
        sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(column) for column in columns[1:]),
    )


_UPSERTS: Final[dict[EntityName, sql.Composed]] = {name: _upsert(ENTITIES[name]) for name in _ORDER}


#: One statement, so that whoever waits for the counter's row waits for a commit alone. It is locked first by everybody.
_NUMBER: Final = (
    "WITH last AS (UPDATE counters SET value = value + %(n)s WHERE name = 'change' RETURNING value),"
    " counted AS (UPDATE counters SET value = value + %(new_fixes)s WHERE name = 'fixes' AND %(new_fixes)s <> 0"
    " AND EXISTS (SELECT FROM last)),"
    " told AS (INSERT INTO changes (seq, entity, row_id, kind, first_ms, last_ms, origin, rev)"
    " SELECT last.value - %(n)s + l.n, entity, row_id, kind, first_ms, last_ms, origin, rev FROM last,"
    " unnest(%(entities)s::text[], %(rows)s::text[], %(kinds)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[],"
    " %(origins)s::text[], %(revs)s::bigint[]) WITH ORDINALITY"
    " l (entity, row_id, kind, first_ms, last_ms, origin, rev, n))"
    " SELECT value FROM last"
)


class Noted(msgspec.Struct, frozen=True):
    """One line of the change log: a record, or the fixes of a collar between two raw times."""

    entity: str
    row_id: str
    kind: str
    origin: str = ""
    first_ms: int | None = None
    last_ms: int | None = None
    #: that a record came to have
    rev: int | None = None


def noted(changes: Iterable[Change], origin: str) -> list[Noted]:
    """Return the lines of the change log for ``changes``; an animal that loses what it wore has changed too."""
    lines = []
    for change in changes:
        record = change.record
        lines.append(Noted(record.entity, record.id, change.kind, origin, rev=record.rev))
        if record.entity == "deployment" and change.before is not None:
            was = change.before.columns["animal_id"]
            if was != record.columns["animal_id"]:
                lines.append(Noted("animal", was, "update", origin))
    return lines


async def note(connection: Connection, lines: Sequence[Noted], *, new_fixes: int = 0, met: Collection[str] = ()) -> int:
    """Number ``lines`` in the change log and return the last number; the last step of a transaction.

    What they bring into the scope of a station, or take out of it, is numbered after them; ``met`` are collars that a
    station brought fixes of for the first time.

    The counter's row is held until the commit, so numbers appear in the order of commits and a reader that has seen one
    has seen all before it. A sequence or the clock would let a slow transaction slip in behind a reader's cursor.
    """
    return await number(connection, lines, await scope.follow(connection, lines, met), new_fixes=new_fixes)


async def number(
    connection: Connection, lines: Sequence[Noted], crossings: Sequence[scope.Crossing], *, new_fixes: int = 0
) -> int:
    """Number lines of the change log, and what entered and left scopes behind them; return the last number."""
    (last,) = await one(
        connection,
        _NUMBER,
        {
            "n": len(lines) + len(crossings), "new_fixes": new_fixes,
            "entities": texts_array([line.entity for line in lines]),
            "rows": texts_array([line.row_id for line in lines]),
            "kinds": texts_array([line.kind for line in lines]),
            "firsts": numbers_array([line.first_ms for line in lines]),
            "lasts": numbers_array([line.last_ms for line in lines]),
            "origins": texts_array([line.origin for line in lines]),
            "revs": numbers_array([line.rev for line in lines]),
        },
    )  # fmt: skip
    if crossings:
        await scope.write(connection, crossings, int(last) - len(crossings) + 1)
    return int(last)


async def one(connection: Connection, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Sequence[Any]:
    """Return the one row that ``statement`` gives."""
    found = await connection.execute(statement.encode(), values)
    row = await found.fetchone()
    assert row is not None
    return row
