"""Operations on records, the rows that they may touch, and the effects that a home has to write.

Whose fixes must be looked at again (``moved``) and which collars became others (``rekeyed``) follows from the changes
alone (``consequences``), so it holds for what is decided here and for what the cloud sent down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from shared.errors import Conflict, NotFound
from shared.ids import derived_id
from shared.sync.records import EntityName, Record

Kind = Literal["insert", "update", "delete"]
Outcome = Literal["applied", "duplicate", "merged", "superseded", "alias", "quarantined"]

#: Positions that a person entered without a collar hang on a row with this in the place of one.
STANDS_FOR: Final = "animal:"


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One edit of one record. ``columns`` are in stored form; an animal's may hold ``collar_id`` besides."""

    id: str
    entity: EntityName
    row_id: str
    kind: Kind
    made_ms: int
    columns: dict[str, Any] = {}
    author: str | None = None
    base_rev: int | None = None
    origin: str = ""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One record as it stands afterwards, and what of it changed."""

    before: Record | None
    record: Record
    columns: Mapping[str, Any]

    @property
    def kind(self) -> Kind:
        """Say what became of the row."""
        if self.record.is_deleted:
            return "delete"
        return "insert" if self.before is None or self.before.is_deleted else "update"

    @property
    def is_news(self) -> bool:
        """Say whether whoever reads the row here finds another one: what the cloud is known to have he does not see."""
        return self.before is None or self.before.rev != self.record.rev


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """What a home has to write, in this order: changes, then ``rekeyed`` (from, to), then ``moved`` collars."""

    outcome: Outcome
    changes: tuple[Change, ...] = ()
    rekeyed: tuple[tuple[str, str], ...] = ()
    moved: tuple[str, ...] = ()
    #: what was not taken because someone else had changed it, and what stands in its place
    lost: Mapping[str, Any] = {}
    kept: Mapping[str, Any] = {}
    #: what stands is a tombstone
    is_buried: bool = False


def bringing(operation: Operation, change: Change) -> Operation:
    """Return the operation that brings ``change``, which ``operation`` made at a station, to the cloud."""
    record = change.record
    return Operation(
        id=derived_id(operation.id, f"{record.entity} {record.id}"),
        entity=record.entity,
        row_id=record.id,
        kind=change.kind,
        made_ms=operation.made_ms,
        columns=dict(change.columns),
        author=operation.author,
        base_rev=0 if change.before is None else change.before.cloud_rev,
    )


class CollarTaken(Conflict):
    """A collar or an animal is taken then, by another deployment: a person has to say whose it is."""

    def __init__(self, detail: str, other: Record) -> None:
        super().__init__(detail)
        self.other = other


class RecordMoved(Conflict):
    """Somebody else changed the record since the caller read it: read it again."""


class Wanted(msgspec.Struct, frozen=True):
    """What a home loads before it decides: records by id, tombstones too, and what hangs on them.

    ``collars`` are names: of collars or of their aliases. To every animal and collar belong its living deployments, to
    those their collars and animals. ``emptied`` are collars of which must be known whether they have fixes.
    """

    ids: dict[EntityName, set[str]]
    collars: set[str]
    emptied: set[str]


def wanted(operations: Iterable[Operation]) -> Wanted:
    """Return what must be loaded to decide ``operations``; what is no name in them is left to ``decide`` to refuse."""
    ids: dict[EntityName, set[str]] = {}
    collars: set[str] = set()
    emptied: set[str] = set()
    for operation in operations:
        columns = operation.columns
        if operation.entity == "collar":
            collars.add(operation.row_id)
            collars.update(_names(columns.get("aliases")))
            if operation.kind == "delete":
                emptied.add(operation.row_id)
        else:
            ids.setdefault(operation.entity, set()).add(operation.row_id)
        collars.update(_names([columns.get("collar_id")]))
        if animals := _names([columns.get("animal_id")]):
            ids.setdefault("animal", set()).update(animals)
    return Wanted(ids, collars, emptied)


def _names(given: object) -> list[str]:
    return [name for name in given if isinstance(name, str) and name] if isinstance(given, list | tuple) else []


class Rows:
    """The records that a batch may touch, as loaded; ``take`` notes what was decided.

    Revisions of this life of the home are above ``first_rev``. A home that was restored counts on from beyond all that
    its earlier life may have given, so that who knew a revision of that life knows nothing of this one by it.
    """

    def __init__(self, records: Iterable[Record] = (), *, with_fixes: Iterable[str] = (), first_rev: int = 0) -> None:
        self.first_rev = first_rev
        self._records: dict[tuple[EntityName, str], Record] = {}
        self._aliases: dict[str, str] = {}
        self._worn: dict[tuple[str, str], set[str]] = {}
        self.with_fixes = set(with_fixes)
        for record in records:
            self.put(record)

    def put(self, record: Record) -> None:
        """Hold ``record`` in the place of what was held under its id."""
        before = self._records.get((record.entity, record.id))
        self._records[record.entity, record.id] = record
        if record.entity == "collar":
            for alias in before.columns["aliases"] if before is not None else ():
                if self._aliases.get(alias) == record.id:
                    del self._aliases[alias]
            if not record.is_deleted:
                self._aliases.update(dict.fromkeys(record.columns["aliases"], record.id))
        elif record.entity == "deployment":
            for held, is_there in ((before, False), (record, not record.is_deleted)):
                for column in ("collar_id", "animal_id") if held is not None else ():
                    assert held is not None
                    wearings = self._worn.setdefault((column, held.columns[column]), set())
                    (wearings.add if is_there else wearings.discard)(record.id)

    def take(self, effects: Effects) -> None:
        """Note what was decided, for the next operation of the batch."""
        for change in effects.changes:
            self.put(change.record)

    def next_rev(self, before: Record | None) -> int:
        """Return the revision that a change of ``before`` makes."""
        return max(self.first_rev, 0 if before is None else before.rev) + 1

    def get(self, entity: EntityName, identity: str) -> Record | None:
        """Return a record, living or tombstone; None where there is none."""
        return self._records.get((entity, identity))

    def living(self, entity: EntityName, identity: str) -> Record:
        """Return a living record; raises NotFound."""
        record = self._records.get((entity, identity))
        if record is None or record.is_deleted:
            raise NotFound(f"there is no {entity} {identity}")
        return record

    def canonical(self, name: str) -> str:
        """Return the id of the collar that ``name`` stands for: an alias comes before an id of its own."""
        return self._aliases.get(name, name)

    def worn(self, column: Literal["collar_id", "animal_id"], identity: str) -> list[Record]:
        """Return the living deployments of a collar or an animal, by their beginning."""
        found = [self._records["deployment", each] for each in self._worn.get((column, identity), ())]
        return sorted(found, key=lambda record: (record.columns["started_ms"], record.id))

    def forget(self, record: Record) -> None:
        """Hold ``record`` no more."""
        self._records.pop((record.entity, record.id), None)

    def values(self) -> list[Record]:
        """Return every record."""
        return list(self._records.values())


def consequences(changes: Iterable[Change], rows: Rows) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return which collars became others and whose fixes belong to someone else or are judged by other limits now."""
    rekeyed: dict[str, str] = {}
    moved: dict[str, None] = {}
    for change in changes:
        before, after = change.before, change.record
        if after.entity == "deployment":
            if before is not None and not before.is_deleted:
                moved[before.columns["collar_id"]] = None
            if not after.is_deleted:
                moved[after.columns["collar_id"]] = None
        elif after.entity == "animal" and before is not None:
            if after.columns["species"] != before.columns["species"] or after.is_deleted != before.is_deleted:
                moved |= dict.fromkeys(wearing.columns["collar_id"] for wearing in rows.worn("animal_id", after.id))
                moved[f"{STANDS_FOR}{after.id}"] = None
        elif after.entity == "collar" and not after.is_deleted:
            if after.columns["limits"] != (None if before is None else before.columns["limits"]):
                moved[after.id] = None
            for alias in after.columns["aliases"]:
                # a tombstone too: the cloud may have sent it before it said which collar this one had become
                if rows.canonical(alias) == alias and rows.get("collar", alias) is not None:
                    rekeyed[alias] = after.id
    for heard_id in rekeyed:
        moved.pop(heard_id, None)
    return tuple(rekeyed.items()), tuple(moved)
