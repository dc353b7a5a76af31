"""What an operation does to the records, decided once for both homes and whoever brings it.

A person at the API, a phone's push, an upload, a station's batch, a USB stick: each becomes operations. A home loads
the rows that they may touch (``wanted``), lets ``decide`` say what each does, and writes the effects of all set-wise::

    operations -> wanted -> (home loads) -> Rows -> decide, one after the other -> Effects -> (home applies)

Rules

- An operation of a person at this home (``origin`` "") edits what is stored. One that comes from elsewhere names in
  ``base_rev`` the revision that its author knew. A column that someone else has changed since keeps the home's value
  (a clash): the operation is ``merged`` when some of it was taken, ``superseded`` when nothing was; what was lost is in
  the effects. Changes of one origin never clash with each other: they come in its own order.
- Doing an operation twice does nothing the second time (``duplicate``): no revision, no effects.
- A deletion leaves a tombstone. It loses to an edit that it did not know; an edit of a tombstone is superseded.
- At this home's own API an insert that names the revision of a tombstone brings its record back, and a deletion of a
  deployment that nobody has but whoever brought it leaves a tombstone of what it says: both are rulings on conflicts.
- An animal wears at most one collar at an instant and a collar is on at most one animal. Naming a ``collar_id`` in an
  operation on an animal ends and opens deployments from then.
- An alias is a radio id that a collar answers to. A collar that was heard under it before becomes that collar: its
  deployments and aliases move, its fixes are re-keyed, it leaves a tombstone.
- What cannot be done raises NotFound, Conflict or Invalid and changes nothing: a caller of the API is told, an
  operation of a batch is quarantined and its neighbours go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec.structs import replace

from shared.errors import Conflict, Invalid
from shared.ids import derived_id
from shared.sync.operations import (
    STANDS_FOR,
    Change,
    CollarTaken,
    Effects,
    Operation,
    Outcome,
    RecordMoved,
    Rows,
    consequences,
)
from shared.sync.records import (
    COLLAR,
    ENTITIES,
    EntityName,
    Mark,
    Record,
    aliases_of,
    check_columns,
    check_instant,
    check_text,
    kept_form,
)

_FAR_MS: Final = 2**62
_ENDS: Final = ("start_lon_e7", "start_lat_e7", "end_lon_e7", "end_lat_e7")
_PLACE: Final = frozenset({"geometry", *_ENDS})


def decide(operation: Operation, rows: Rows) -> Effects:
    """Return what ``operation`` does; raises NotFound, Conflict or Invalid for what cannot be done."""
    draft = _Draft(_checked(operation), rows)
    match operation.entity:
        case "collar":
            draft.decide_collar()
        case "animal":
            draft.decide_animal()
        case "deployment":
            draft.decide_deployment()
        case "ranger_position":
            draft.decide_position()
        case _:
            draft.decide_plain()
    return draft.effects()


def _checked(operation: Operation) -> Operation:
    """Return ``operation`` with its columns as they are kept; raises Invalid for what no home could keep.

    Whoever brings operations need not have looked at them.
    """
    check_instant("made_ms", operation.made_ms)
    if operation.kind == "insert" or operation.origin:  # a person who names nothing is told that it is not there
        check_text("id", operation.row_id)
    if operation.author:
        check_text("author", operation.author)
    if operation.kind == "delete":
        return operation
    columns = dict(operation.columns)
    worn = {"collar_id": columns.pop("collar_id")} if operation.entity == "animal" and "collar_id" in columns else {}
    if worn.get("collar_id"):
        check_text("collar_id", worn["collar_id"])
    check_columns(ENTITIES[operation.entity], columns)
    return replace(operation, columns={**kept_form(columns), **worn})


class _Draft:
    """One operation being decided: the rows as loaded, with its own changes on top."""

    def __init__(self, operation: Operation, rows: Rows) -> None:
        self._operation = operation
        self._rows = rows
        self._changes: dict[tuple[EntityName, str], Change] = {}
        self._lost: dict[str, Any] = {}
        self._is_alias = False

    def effects(self) -> Effects:
        changes = list(self._changes.values())
        rekeyed, moved = consequences(changes, self._rows)
        outcome: Outcome = "applied" if changes else "superseded" if self._lost else "duplicate"
        if changes and self._lost:
            outcome = "merged"
        elif self._is_alias:
            outcome = "alias"
        record = self._rows.get(self._operation.entity, self._operation.row_id)
        kept = {name: record.columns.get(name) for name in self._lost} if record is not None else {}
        return Effects(
            outcome=outcome, changes=tuple(changes), rekeyed=rekeyed, moved=moved, lost=self._lost, kept=kept,
            is_buried=record is not None and record.is_deleted,
        )  # fmt: skip

    # --- one kind after the other

    def decide_plain(self) -> None:
        operation = self._operation
        record = self._record()
        if operation.kind == "delete":
            self._delete(record)
        elif record is None:
            self._insert_asked()
        else:
            self._update_asked(record)

    def decide_animal(self) -> None:
        operation = self._operation
        record = self._record()
        columns = dict(operation.columns)
        has_collar = "collar_id" in columns
        collar_id = columns.pop("collar_id", None)
        if operation.kind == "delete":
            if self._delete(record):
                for wearing in self._rows.worn("animal_id", operation.row_id):
                    self._change(wearing, {}, is_deleted=True)
            return
        if record is None:
            self._insert_asked(columns)
        else:
            self._update_asked(record, columns)
        if has_collar and not (record is not None and record.is_deleted):
            self._wear(collar_id or None, operation.row_id)

    def decide_collar(self) -> None:
        operation = self._operation
        identity = operation.row_id
        record = self._rows.get("collar", identity)
        if operation.kind == "delete":
            if not operation.origin:
                record = self._rows.living("collar", identity)
            if record is not None and not record.is_deleted:
                if identity in self._rows.with_fixes:
                    raise Conflict(f"collar {identity} has fixes")
                if self._rows.worn("collar_id", identity):
                    raise Conflict(f"collar {identity} has deployments")
            self._delete(record, {"aliases": ()} if record is not None and record.columns["aliases"] else {})
            return
        columns = dict(operation.columns)
        owner = self._rows.canonical(identity)
        if owner != identity:
            if not operation.origin:
                raise Conflict(f"{identity} is an alias of collar {owner}")
            self._is_alias = True  # whoever heard it did not know yet; what was said of it is for a person
            self._lost.update((name, value) for name, value in columns.items() if value != COLLAR.columns[name])
            return
        if identity.startswith(STANDS_FOR):
            raise Invalid(f"id: {STANDS_FOR} stands for an animal without a collar")
        is_new = record is None or record.is_deleted  # heard or named again: a collar comes back
        if "aliases" in columns:
            aliases = tuple(each for each in columns["aliases"] if each != identity)
            is_taken = is_new or record is None or not self._is_clash(record, "aliases")
            columns["aliases"] = self._absorb(identity, aliases) if is_taken else aliases
        if record is None or is_new:
            self._insert("collar", identity, columns)
        else:
            self._update_asked(record, columns)
        if (change := self._changes.pop(("collar", identity), None)) is not None:
            # before the collars that it absorbed: where these are told one after the other, theirs follow from it
            self._changes = {("collar", identity): change, **self._changes}

    def decide_deployment(self) -> None:
        operation = self._operation
        if operation.kind == "delete" and operation.columns and not operation.origin:
            self._bury()
            return
        record = self._record()
        if operation.kind == "delete":
            self._delete(record)
            return
        columns = dict(operation.columns)
        if columns.get("collar_id"):
            columns["collar_id"] = self._rows.canonical(columns["collar_id"])
        if record is None:
            columns.setdefault("started_ms", operation.made_ms)
            if columns["started_ms"] is None:
                columns["started_ms"] = operation.made_ms
            self._insert_asked(columns)
        else:
            self._update_asked(record, columns)
        change = self._changes.pop(("deployment", operation.row_id), None)
        if change is not None:
            if "collar_id" in change.columns:
                self._collar(change.columns["collar_id"])
            self._changes["deployment", operation.row_id] = change  # after its collar
            self._rows.living("animal", change.record.columns["animal_id"])
            self._check_interval(change.record)

    def decide_position(self) -> None:
        """A ranger's position is stored once for ever: its id follows from what it says."""
        operation = self._operation
        if operation.kind != "insert":
            raise Invalid("a ranger's position is never changed")
        if self._rows.get("ranger_position", operation.row_id) is None:
            self._insert_asked()

    # --- what they share

    def _record(self) -> Record | None:
        """Return the record that the operation names; at this home's own API it must be there, or must not."""
        operation = self._operation
        record = self._rows.get(operation.entity, operation.row_id)
        if operation.origin:
            return record
        if operation.kind != "insert":
            living = self._rows.living(operation.entity, operation.row_id)
            if operation.base_rev is not None and operation.base_rev != living.rev:
                raise RecordMoved(f"{operation.entity} {operation.row_id} was changed meanwhile: read it again")
            return living
        if record is not None and record.is_deleted and record.rev == operation.base_rev:
            return None  # it comes back
        if record is not None:
            raise Conflict(f"{operation.entity} {operation.row_id} exists")
        return None

    def _insert_asked(self, columns: Mapping[str, Any] | None = None) -> None:
        operation = self._operation
        self._insert(operation.entity, operation.row_id, operation.columns if columns is None else columns)

    def _insert(self, entity_name: EntityName, identity: str, columns: Mapping[str, Any]) -> None:
        entity = ENTITIES[entity_name]
        operation = self._operation
        before = self._rows.get(entity_name, identity)
        comes_back = before is not None and before.rev == operation.base_rev and not operation.origin
        full = {**entity.columns, **(before.columns if before is not None and comes_back else {}), **columns}
        if entity_name in ("observation", "patrol_log"):
            by = "observer" if entity_name == "observation" else "reported_by"
            full["recorded_ms"] = operation.made_ms if full["recorded_ms"] is None else full["recorded_ms"]
            full[by] = operation.author if full[by] is None else full[by]
        elif entity_name in ("animal", "corridor", "patrol_route", "patrol"):
            full["created_by"] = operation.author if full["created_by"] is None else full["created_by"]
        elif entity_name == "alert":
            full["detected_ms"] = operation.made_ms if full["detected_ms"] is None else full["detected_ms"]
        for name in sorted(entity.required):
            if full[name] is None or full[name] == "":
                raise Invalid(f"{name}: is required")
        if entity_name == "corridor":
            _check_place(full)
        elif entity_name == "patrol":
            _check_patrol(full)
        if full.get("animal_id") and entity_name == "observation" and not operation.origin:
            self._rows.living("animal", full["animal_id"])
        rev = self._rows.next_rev(before)
        marks = {}
        if operation.origin or rev > 1:  # of what was made here and first, no mark says the same
            said = [name for name, value in full.items() if value != entity.columns[name]]
            marks = dict.fromkeys(said, Mark(rev, operation.origin))
        record = Record(
            entity=entity_name,
            id=identity,
            columns=full,
            created_ms=operation.made_ms if before is None else before.created_ms,
            updated_ms=operation.made_ms,
            rev=rev,
            author=operation.author,
            marks=marks,
            cloud_rev=0 if before is None else before.cloud_rev,
        )
        self._changes[entity_name, identity] = Change(before=before, record=record, columns=full)

    def _update_asked(self, record: Record, columns: Mapping[str, Any] | None = None) -> None:
        operation = self._operation
        given = dict(operation.columns if columns is None else columns)
        if given.get("animal_id") and operation.entity == "observation" and not operation.origin:
            self._rows.living("animal", given["animal_id"])
        if record.is_deleted:  # also where it asks for what was there: its author has to be told
            self._lost.update(given)
            return
        given = {name: value for name, value in given.items() if record.columns[name] != value}
        for name in list(given):
            if self._is_clash(record, name):
                self._lost[name] = given.pop(name)
        if operation.entity == "corridor" and not operation.origin and given.keys() & _PLACE:
            _check_place({**record.columns, **given})  # two homes together may have left none
        if operation.entity == "patrol" and given and not operation.origin:
            _check_patrol({**record.columns, **given})  # two homes together may have turned it round
        if given:
            self._change(record, given)

    def _is_clash(self, record: Record, column: str) -> bool:
        """Say whether someone else has changed ``column`` since the revision that the operation's author knew."""
        operation = self._operation
        if not operation.origin:
            return False
        mark = record.marks.get(column)
        if mark is None and record.columns[column] == ENTITIES[record.entity].columns[column]:
            return False  # nobody has said anything of it
        mark = Mark(1) if mark is None else mark
        known = 0 if operation.base_rev is None else operation.base_rev
        return mark.rev > known and mark.origin != operation.origin

    def _delete(self, record: Record | None, columns: Mapping[str, Any] | None = None) -> bool:
        if record is None or record.is_deleted:
            return False
        operation = self._operation
        if operation.origin and any(self._is_clash(record, name) for name in record.columns):
            self._lost["deleted_ms"] = operation.made_ms
            return False
        self._change(record, columns or {}, is_deleted=True)
        return True

    def _bury(self) -> None:
        """Leave a tombstone of a deployment that this home never took, for whoever has it."""
        operation = self._operation
        record = self._rows.get("deployment", operation.row_id)
        if record is not None:
            self._delete(record)
            return
        columns = {**operation.columns, "collar_id": self._rows.canonical(operation.columns["collar_id"])}
        self._collar(columns["collar_id"])
        self._rows.living("animal", columns["animal_id"])
        self._insert("deployment", operation.row_id, columns)
        change = self._changes["deployment", operation.row_id]
        self._changes["deployment", operation.row_id] = replace(
            change, record=replace(change.record, deleted_ms=operation.made_ms)
        )

    def _change(self, record: Record, columns: Mapping[str, Any], *, is_deleted: bool = False) -> None:
        operation = self._operation
        rev = self._rows.next_rev(record)
        after = replace(
            record,
            columns={**record.columns, **columns},
            rev=rev,
            author=operation.author,
            updated_ms=operation.made_ms,
            deleted_ms=operation.made_ms if is_deleted else record.deleted_ms,
            marks={**record.marks, **dict.fromkeys(columns, Mark(rev, operation.origin))},
        )
        assert (record.entity, record.id) not in self._changes  # one change of a record in an operation
        self._changes[record.entity, record.id] = Change(before=record, record=after, columns=columns)

    def _seen(self, record: Record) -> Record:
        """Return ``record`` with this draft's change of it."""
        change = self._changes.get((record.entity, record.id))
        return record if change is None else change.record

    def _collar(self, name: str) -> str:
        """Return the id of the collar that ``name`` stands for; one that nobody knows yet is entered."""
        identity = self._rows.canonical(name)
        if identity.startswith(STANDS_FOR):
            raise Invalid(f"collar_id: {STANDS_FOR} stands for an animal without a collar")
        record = self._rows.get("collar", identity)
        if record is None or record.is_deleted:
            self._insert("collar", identity, {})
        return identity

    def _wear(self, collar_name: str | None, animal_id: str) -> None:
        """End the animal's open deployment unless it is of this collar already, and open one from now."""
        operation = self._operation
        identity = derived_id(operation.id, "deployment")
        if self._rows.get("deployment", identity) is not None:
            return  # this operation's own, from the first time
        collar_id = None if collar_name is None else self._rows.canonical(collar_name)
        for wearing in self._rows.worn("animal_id", animal_id):
            if wearing.columns["ended_ms"] is not None:
                continue
            if wearing.columns["collar_id"] == collar_id:
                return
            if wearing.columns["started_ms"] < operation.made_ms:
                self._change(wearing, {"ended_ms": operation.made_ms})
            else:  # it had not begun
                self._change(wearing, {}, is_deleted=True)
        if collar_name is None:
            return
        columns = {
            "collar_id": self._collar(collar_name), "animal_id": animal_id, "started_ms": operation.made_ms,
        }  # fmt: skip
        self._insert("deployment", identity, columns)
        self._check_interval(self._changes["deployment", identity].record)

    def _check_interval(self, deployment: Record) -> None:
        started_ms, ended_ms = deployment.columns["started_ms"], deployment.columns["ended_ms"]
        if ended_ms is not None and ended_ms <= started_ms:
            raise Invalid("ended_at: must be later than started_at")
        columns: Sequence[tuple[Literal["collar_id", "animal_id"], str]] = (
            ("collar_id", "collar"), ("animal_id", "animal"),
        )  # fmt: skip
        for column, what in columns:
            for other in self._worn(column, deployment.columns[column]):
                if other.id == deployment.id:
                    continue
                other_end_ms = _FAR_MS if other.columns["ended_ms"] is None else other.columns["ended_ms"]
                end_ms = _FAR_MS if ended_ms is None else ended_ms
                if other.columns["started_ms"] < end_ms and other_end_ms > started_ms:
                    animal = self._rows.get("animal", other.columns["animal_id"])
                    name = other.columns["animal_id"] if animal is None else animal.columns["name"]
                    worn = other.columns["collar_id"]
                    raise CollarTaken(
                        f"the {what} is taken then: deployment {other.id}, collar {worn} on {name}", other
                    )

    def _worn(self, column: Literal["collar_id", "animal_id"], identity: str) -> list[Record]:
        """Return the living deployments of a collar or an animal with this draft's changes of them."""
        found = {wearing.id: wearing for wearing in self._rows.worn(column, identity)}
        for change in self._changes.values():
            if change.record.entity == "deployment":
                found[change.record.id] = change.record
        return [each for each in found.values() if not each.is_deleted and each.columns[column] == identity]

    def _absorb(self, identity: str, aliases: Sequence[str]) -> tuple[str, ...]:
        """Make collar ``identity`` of every collar that was heard under one of ``aliases``; return all its aliases."""
        kept = list(aliases)
        for alias in aliases:
            if alias.startswith(STANDS_FOR):
                raise Invalid(f"aliases: {STANDS_FOR} stands for an animal without a collar")
            owner = self._rows.canonical(alias)
            if owner not in (alias, identity, *aliases):
                raise Conflict(f"aliases: {alias} belongs to collar {owner}")
            heard = self._rows.get("collar", alias)
            if heard is not None and not heard.is_deleted:
                kept += heard.columns["aliases"]
                self._change(heard, {"aliases": ()}, is_deleted=True)
            for wearing in self._rows.worn("collar_id", alias):
                self._change(wearing, {"collar_id": identity})
                self._check_interval(self._seen(wearing))
        return aliases_of(each for each in kept if each != identity)


def _check_place(columns: Mapping[str, Any]) -> None:
    """Raise Invalid for a corridor that is nowhere: it has a geometry, or as a plan both of its ends."""
    if columns["geometry"] is None and any(columns[name] is None for name in _ENDS):
        raise Invalid("geometry: is required where start and end are not both given")


def _check_patrol(columns: Mapping[str, Any]) -> None:
    """Raise Invalid for a patrol that ends before it begins."""
    if columns["ended_ms"] is not None and columns["ended_ms"] < columns["started_ms"]:
        raise Invalid("ended_at: must not be earlier than started_at")
