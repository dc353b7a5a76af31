"""Records in the station's database: what operations may touch is loaded set-wise, their effects are written likewise.

What an operation does is decided in ``shared.sync.decide``, the same in both homes. Every change leaves its outbox row
in the same transaction: an operation that brings this change, and nothing else, to the cloud.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from edge.store import changes as log
from edge.store.driver import Connection
from edge.store.fixes import FixWriter
from edge.store.jobs import run
from shared.accounts.fields import FieldKeys
from shared.errors import NotFound, RequestError
from shared.sync import clashes
from shared.sync.clashes import Clash
from shared.sync.decide import decide
from shared.sync.operations import STANDS_FOR, Change, Effects, Operation, Rows, Wanted, bringing, wanted
from shared.sync.personal import opened_rows, sealed_columns
from shared.sync.records import ENTITIES, Entity, EntityName, Mark, Record, kept_form
from shared.sync.take import leave, take
from shared.wire.geojson import wkb_of

_KEPT: Final = ("rev", "cloud_rev", "marks", "author", "created_ms", "updated_ms", "deleted_ms")
#: Columns that lie elsewhere than in the table of their record, and how they are read.
_ELSEWHERE: Final[Mapping[str, str]] = {
    "collar.aliases": "(SELECT json_group_array(alias) FROM collar_aliases WHERE collar_pk = r.pk)",
    "deployment.collar_id": "(SELECT id FROM collars WHERE pk = r.collar_pk)",
    "deployment.animal_id": "(SELECT id FROM animals WHERE pk = r.animal_pk)",
}
#: Several values bound as one, a list in JSON: one statement whatever their number.
_THESE: Final = "(SELECT value FROM json_each(?))"
#: Kinds in the order in which they are written: a deployment refers to its collar and its animal.
_ORDER: Final[tuple[EntityName, ...]] = (
    "animal", "collar", "deployment", "observation", "zone", "corridor", "alert", "team", "ranger", "ranger_position",
    "patrol_log", "patrol_route", "patrol",
)  # fmt: skip
#: Kinds that say whose fixes are whose.
_WORN: Final = frozenset({"animal", "collar", "deployment"})
_MARKS: Final = msgspec.json.Decoder(dict[str, Mark])


def selecting(entity: Entity, *more: str) -> str:
    """Return the statement that reads records of ``entity`` as ``r``, and ``more`` of it, without its condition."""
    columns = [_ELSEWHERE.get(f"{entity.name}.{name}", f"r.{name}") for name in entity.columns]
    return f"SELECT r.id, {', '.join([*columns, *(f'r.{name}' for name in _KEPT), *more])} FROM {entity.table} r"


def record_of(entity: Entity, row: Sequence[Any]) -> Record:
    """Return a row of ``selecting`` as a record."""
    size = len(entity.columns)
    columns = dict(zip(entity.columns, row[1 : 1 + size], strict=True))
    if entity.name == "collar":
        columns["aliases"] = msgspec.json.decode(columns["aliases"])
    rev, cloud_rev, marks, author, created_ms, updated_ms, deleted_ms = row[1 + size : 8 + size]
    return Record(
        entity=entity.name, id=row[0], columns=kept_form(columns), rev=rev, cloud_rev=cloud_rev,
        marks=_MARKS.decode(marks), author=author, created_ms=created_ms, updated_ms=updated_ms, deleted_ms=deleted_ms,
    )  # fmt: skip


def load(db: Connection, wanted: Wanted) -> Rows:
    """Return the records that ``wanted`` names and what hangs on them."""
    rows = Rows()
    animal_ids = set(wanted.ids.get("animal", ()))
    names = set(wanted.collars)
    for record in _fetch(db, "deployment", f"r.id IN {_THESE}", wanted.ids.get("deployment", ())):
        rows.put(record)
        animal_ids.add(record.columns["animal_id"])
        names.add(record.columns["collar_id"])
    collar_ids = set()
    condition = f"r.id IN {_THESE} OR r.pk IN (SELECT collar_pk FROM collar_aliases WHERE alias IN {_THESE})"
    for record in _fetch(db, "collar", condition, names, names):
        rows.put(record)
        collar_ids.add(record.id)
    hanging = _fetch(
        db,
        "deployment",
        f"r.deleted_ms IS NULL AND (r.collar_pk IN (SELECT pk FROM collars WHERE id IN {_THESE})"
        f" OR r.animal_pk IN (SELECT pk FROM animals WHERE id IN {_THESE}))",
        collar_ids,
        animal_ids,
    )
    for record in hanging:
        rows.put(record)
        animal_ids.add(record.columns["animal_id"])
    others = {record.columns["collar_id"] for record in hanging} - collar_ids
    for entity, ids in ({**wanted.ids, "animal": animal_ids, "collar": others}).items():
        if entity != "deployment":
            for record in _fetch(db, entity, f"r.id IN {_THESE}", ids):
                rows.put(record)
    if wanted.emptied:
        rows.with_fixes.update(
            identity
            for (identity,) in db.execute(
                f"SELECT id FROM collars c WHERE id IN {_THESE}"
                " AND EXISTS (SELECT 1 FROM fixes WHERE collar_pk = c.pk)",
                (_these(wanted.emptied),),
            )
        )
    return rows


def _fetch(db: Connection, name: EntityName, condition: str, *ids: Iterable[str]) -> list[Record]:
    """Return records by a condition; a row that stands for an animal without a collar is no record."""
    given = [list(each) for each in ids]
    if not any(given):
        return []
    entity = ENTITIES[name]
    found = db.execute(f"{selecting(entity)} WHERE {condition}", [_these(each) for each in given]).fetchall()
    found = opened_rows(entity, found, db.fields)
    return [record_of(entity, row) for row in found if not (name == "collar" and row[0].startswith(STANDS_FOR))]


def _these(ids: Iterable[str]) -> str:
    return msgspec.json.encode(list(ids)).decode()


class RecordWriter:
    """Owns the writes to mutable records; lives in the writer thread, inside its transactions."""

    def __init__(self, connection: Connection, fixes: FixWriter) -> None:
        self._connection = connection
        self._fixes = fixes

    def run(self, operations: Sequence[Operation]) -> list[Effects]:
        """Do ``operations`` one after the other and return what each did.

        Raises what the first of them raises that cannot be done: NotFound, Conflict or Invalid; then nothing is
        written.
        """
        rows = load(self._connection, wanted(operations))
        decided = []
        for operation in operations:
            effects = decide(operation, rows)
            rows.take(effects)
            decided.append(effects)
        self._do(list(zip(operations, decided, strict=True)))
        return decided

    def run_each(self, operations: Sequence[Operation]) -> list[Effects | RequestError]:
        """Do those of ``operations`` that can be done; of the others return why they cannot."""
        rows = load(self._connection, wanted(operations))
        answers: list[Effects | RequestError] = []
        done: list[tuple[Operation, Effects]] = []
        for operation in operations:
            try:
                effects = decide(operation, rows)
            except RequestError as error:
                answers.append(error)
            else:
                rows.take(effects)
                answers.append(effects)
                done.append((operation, effects))
        self._do(done)
        return answers

    def _do(self, done: Sequence[tuple[Operation, Effects]]) -> None:
        self._write([change for _, effects in done for change in effects.changes])
        for operation, effects in done:
            log.note(self._connection, log.of_records(effects.changes, operation.origin))
        self._post(done)
        self._give([effects for _, effects in done])
        self._keep_clashes(done)

    def _keep_clashes(self, done: Sequence[tuple[Operation, Effects]]) -> None:
        """Write what a person should look at, of those who brought their edits here."""
        found: list[Clash] = []
        for operation, effects in done:
            if (clash := clashes.of_loss(operation, effects, operation.made_ms)) is not None:
                found.append(clash)
        made = [
            (operation, change.record.columns)
            for operation, effects in done
            for change in effects.changes
            if operation.origin and change.record.entity == "observation" and change.kind == "insert"
        ]
        found += run(self._connection, clashes.note_twins(made))
        run(self._connection, clashes.note(found))

    def take(
        self,
        records: Sequence[Record],
        pending: Mapping[tuple[EntityName, str], AbstractSet[str]],
        now_ms: int,
    ) -> int:
        """Take over records that the cloud sent down, without a word to the cloud; return how many were news.

        ``pending`` are the columns with edits that the cloud does not know. Raises NotFound, and nothing is written,
        for a deployment whose collar or animal neither is here nor comes with it.
        """
        rows = load(self._connection, _wanted_by(records))
        taken = []
        for record in records:
            effects = take(record, rows, pending.get((record.entity, record.id), ()), now_ms)
            rows.take(effects)
            if effects.changes:
                taken.append(effects)
        changes = [change for effects in taken for change in effects.changes]
        for change in changes:
            entity = ENTITIES[change.record.entity]
            for column in sorted(entity.held):
                name, identity = entity.references[column], change.record.columns[column]
                if rows.get(name, identity) is None:
                    raise NotFound(f"{entity.name} {change.record.id}: there is no {name} {identity}")
        self._write(changes)
        self._connection.executemany(
            "DELETE FROM left_scope WHERE entity = ? AND row_id = ?", [(each.entity, each.id) for each in records]
        )
        log.note(self._connection, log.of_records([change for change in changes if change.is_news], "cloud"))
        self._give(taken)
        return len(taken)

    def leave(
        self,
        keys: Sequence[tuple[EntityName, str]],
        pending: Mapping[tuple[EntityName, str], AbstractSet[str]],
        waiting: AbstractSet[str],
        now_ms: int,
    ) -> int:
        """Take out records that left this station's scope, without a word to the cloud; return how many there were.

        A collar with fixes that wait for the cloud (``waiting``) stays: once they are there, it is in scope again. What
        was heard stays in any case.
        """
        rows = load(self._connection, _named(keys))
        left = []
        for entity, identity in keys:
            if entity == "collar" and identity in waiting:
                continue
            effects = leave(entity, identity, rows, pending.get((entity, identity), ()), now_ms)
            rows.take(effects)
            if effects.changes:
                left.append(effects)
        changes = [change for effects in left for change in effects.changes]
        gone = [(change.record.entity, change.record.id) for change in changes]
        self._write(changes)
        self._connection.executemany("INSERT OR IGNORE INTO left_scope (entity, row_id) VALUES (?, ?)", gone)
        self._connection.executemany(
            "DELETE FROM conflicts WHERE is_from_above = 1 AND entity = ? AND row_id = ?"
            " AND origin <> coalesce((SELECT station_id FROM enrolment), '')",
            gone,
        )
        log.note(self._connection, log.of_records(changes, "cloud"))
        self._give(left)
        return len(left)

    def heard(self, device: str, status: Mapping[str, Any], heard_ms: int, now_ms: int) -> None:
        """Note when a collar was heard and what it said of itself, unless something newer is known.

        What a clock that ran ahead has noted, an instant later than now, is not newer.
        """
        collar = self._fixes.collar(device, now_ms)
        said = {name: value for name, value in status.items() if value is not None}
        sets = "".join(f", {name} = ?" for name in said)
        self._connection.execute(
            f"UPDATE collars SET last_heard_ms = ?{sets} WHERE pk = ?"
            " AND (coalesce(last_heard_ms, 0) <= ? OR last_heard_ms > ?)",
            (heard_ms, *said.values(), collar.pk, heard_ms, now_ms),
        )

    def _write(self, changes: Iterable[Change]) -> None:
        """Write the records of ``changes`` as they stand after the last one."""
        by_kind: dict[EntityName, dict[str, Record]] = {}
        for change in changes:
            by_kind.setdefault(change.record.entity, {})[change.record.id] = change.record
        for name in _ORDER:
            if records := by_kind.get(name):
                self._connection.executemany(
                    _UPSERTS[name], [_values(record, self._connection.fields) for record in records.values()]
                )
        if collars := by_kind.get("collar"):
            self._connection.execute(
                f"DELETE FROM collar_aliases WHERE collar_pk IN (SELECT pk FROM collars WHERE id IN {_THESE})",
                (_these(collars),),
            )
            self._connection.executemany(
                "INSERT INTO collar_aliases (alias, collar_pk) VALUES (?, (SELECT pk FROM collars WHERE id = ?))",
                [
                    (alias, record.id)
                    for record in collars.values()
                    if not record.is_deleted
                    for alias in record.columns["aliases"]
                ],
            )
        if by_kind.keys() & _WORN:
            self._fixes.forget()

    def _post(self, done: Iterable[tuple[Operation, Effects]]) -> None:
        """Leave the outbox row of every change."""
        for operation, effects in done:
            for change in effects.changes:
                record = change.record
                self._connection.execute(
                    "INSERT INTO outbox (entity, first_pk, last_pk, operation, body)"
                    f" SELECT ?, pk, pk, ?, ? FROM {ENTITIES[record.entity].table} WHERE id = ?",
                    (record.entity, change.kind, msgspec.msgpack.encode(bringing(operation, change)), record.id),
                )

    def _give(self, decided: Iterable[Effects]) -> None:
        """Give fixes to the collar that theirs has become, and to whoever wore it."""
        decided = list(decided)
        rekeyed = dict.fromkeys(pair for effects in decided for pair in effects.rekeyed)
        for heard_id, into_id in rekeyed:
            self._fixes.rekey(heard_id, into_id)
        moved = [collar_id for effects in decided for collar_id in effects.moved]
        entered = [
            change.record.id
            for effects in decided
            for change in effects.changes
            if change.record.entity == "animal" and change.before is None
        ]
        moved += self._fixes.stand_for(entered)
        for collar_id in dict.fromkeys([*(into_id for _, into_id in rekeyed), *moved]):
            self._fixes.readopt(collar_id)


def _wanted_by(records: Iterable[Record]) -> Wanted:
    """Return what must be loaded to take ``records``."""
    found = Wanted({}, set(), set())
    for record in records:
        if record.entity == "collar":
            found.collars.update((record.id, *record.columns["aliases"]))
        else:
            found.ids.setdefault(record.entity, set()).add(record.id)
        for column in ENTITIES[record.entity].held:
            if column == "collar_id":
                found.collars.add(record.columns[column])
            else:
                found.ids.setdefault(ENTITIES[record.entity].references[column], set()).add(record.columns[column])
    return found


def _named(keys: Iterable[tuple[EntityName, str]]) -> Wanted:
    """Return what must be loaded of records by kind and id."""
    found = Wanted({}, set(), set())
    for entity, identity in keys:
        if entity == "collar":
            found.collars.add(identity)
        else:
            found.ids.setdefault(entity, set()).add(identity)
    return found


def _values(record: Record, fields: FieldKeys) -> list[Any]:
    entity = ENTITIES[record.entity]
    kept = sealed_columns(entity, record, fields)
    columns = [kept[name] for name in entity.columns if name != "aliases"]
    shape = [wkb_of(record.columns["geometry"])] if "geometry" in record.columns else []
    return [
        record.id, *columns, *shape, record.rev, record.cloud_rev, msgspec.json.encode(record.marks).decode(),
        record.author, record.created_ms, record.updated_ms, record.deleted_ms,
    ]  # fmt: skip


def _upsert(entity: Entity) -> str:
    targets, values = ["id"], ["?"]
    for name in entity.columns:
        if name in entity.held:
            targets.append(name.replace("_id", "_pk"))
            values.append(f"(SELECT pk FROM {ENTITIES[entity.references[name]].table} WHERE id = ?)")
        elif name != "aliases":
            targets.append(name)
            values.append("?")
    if "geometry" in entity.columns:
        # in this statement: SpatiaLite's own insert trigger runs after one of ours and would empty the index's entry
        targets.append("geom")
        values.append("GeomFromWKB(?, 4326)")
    targets += _KEPT
    values += ["?"] * len(_KEPT)
    sets = ", ".join(f"{name} = excluded.{name}" for name in targets[1:])
    return (
        f"INSERT INTO {entity.table} ({', '.join(targets)}) VALUES ({', '.join(values)})"
        f" ON CONFLICT (id) DO UPDATE SET {sets}"
    )


_UPSERTS: Final[dict[EntityName, str]] = {name: _upsert(ENTITIES[name]) for name in _ORDER}
