"""What a push does: rows of a phone become operations, decided as everybody's are.

- All or nothing: what this job does is one transaction. The only refusal of a whole push is ``PullFirst`` (409): the
  phone's cursor is of another life or another home, or a column that it edited was changed by someone else after the
  phone had pulled (the true race). Changes of other columns merge.
- A row that cannot be taken never holds up its neighbours and never stays on the phone as unsent: it is kept here as it
  came, its user is told, and the next pull puts the phone right (a new row goes, an edited one comes back as it was).
- What may be pushed, but not at this home, is handed back (``later``): the phone keeps it and tries elsewhere.
- ``base_rev`` is the revision that the user edited. What someone else has changed since keeps the home's value; what
  was lost is kept for a person. Without it the phone has seen what it had pulled.
- A deletion says nothing of what its user knew, but the cursor before this pull does: an edit of someone else after it
  comes before the deletion, and the row is put back on the phone.
- An animal whose collar another living animal wears is that animal: its id is an alias from then on, for rows that name
  it too. A collar of an animal that lives no more is free.
- A position becomes a fix with an id of its own. Deleting one takes it out by hand; nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from shared.errors import Conflict, Invalid, PullFirst, RequestError
from shared.ids import derived_id, id_bytes, id_text, random_id
from shared.privacy import Role
from shared.sync.operations import Effects, Kind, Operation
from shared.sync.phone.cursor import Cursor
from shared.sync.phone.jobs import (
    ENTITY_OF,
    PHONE_KEY,
    TRACKING,
    AddFixes,
    Dialect,
    Edit,
    Exclude,
    Job,
    Lose,
    Note,
    Numbered,
    Put,
    Records,
)
from shared.sync.phone.positions import Positions
from shared.sync.phone.pull import WORN_REV, Message
from shared.sync.records import Mark, Record, to_ms
from shared.wire.phone.incoming import READ_ONLY, Row
from shared.wire.phone.outgoing import phone_revs

#: What a person may make of an alert in each state, as at the API.
_NEXT: Final[Mapping[str, frozenset[str]]] = {
    "active": frozenset({"acknowledged", "resolved", "false_alarm"}),
    "acknowledged": frozenset({"resolved", "false_alarm"}),
    "resolved": frozenset(),
    "false_alarm": frozenset(),
}
_MANAGERS: Final = frozenset({"admin", "conservation_manager"})
_OWNER: Final = {"observations": "observer", "patrols": "created_by"}
LIVING: Final = frozenset({"active", "missing"})
WEARER: Final = (
    "SELECT a.id, a.status FROM deployments d JOIN collars c ON c.pk = d.collar_pk JOIN animals a ON a.pk = d.animal_pk"
    " WHERE d.ended_ms IS NULL AND d.deleted_ms IS NULL AND a.deleted_ms IS NULL AND c.pk = coalesce("
    "(SELECT collar_pk FROM collar_aliases WHERE alias = ?), (SELECT pk FROM collars WHERE id = ?))"
)

Ruling = Literal["deleted", "revived", "told"]


class PushAsk(msgspec.Struct, frozen=True, kw_only=True):
    """A push: its rows, how far its phone had pulled and before that, and who brings it where."""

    rows: Sequence[Row]
    since: Cursor
    before: Cursor | None = None
    origin: str
    author: str
    role: Role
    home: Literal["station", "cloud"]
    now: datetime
    is_clock_sure: bool
    may_delete_animals: bool = False


class Clash(msgspec.Struct, frozen=True, kw_only=True):
    """Columns of a row that kept this home's value."""

    table: str
    id: str
    columns: list[str]


class PushResult(msgspec.Struct, kw_only=True):
    """What became of a push; ``later`` are rows that the phone keeps as unsent."""

    later: dict[str, list[str]]
    clashes: list[Clash]
    messages: list[Message]
    #: ids of positions as they came, and of the fixes that they became
    fixes: dict[str, str]


class _Later(Exception):
    """Not at this home, or not yet: the phone keeps the row."""


def push(ask: PushAsk, epoch: int, dialect: Dialect) -> Job[PushResult]:
    """Do a push inside one transaction; raises PullFirst."""
    if ask.since.epoch != epoch:
        raise PullFirst("this phone has pulled from another home, or from one that was restored since: pull first")
    taker = _Taker(ask, dialect)
    yield from taker.know()
    yield from taker.take()
    yield from taker.finish()
    return taker.result


class _Taker:
    def __init__(self, ask: PushAsk, dialect: Dialect) -> None:
        self.result = PushResult(later={}, clashes=[], messages=[], fixes={})
        self._ask = ask
        self._dialect = dialect
        self._now_ms = to_ms(ask.now)
        before = ask.before if ask.before is not None and ask.before.epoch == ask.since.epoch else ask.since
        self._seen_seq = min(before.seq, ask.since.seq)
        self._known: dict[tuple[str, str], Record] = {}
        self._worn_revs: dict[str, int] = {}
        self._aliases: dict[str, str] = {}
        #: by (kind, row): the least revision that someone else made after the phone's last pull, after that before it
        self._raced: dict[tuple[str, str], int] = {}
        self._edited: set[tuple[str, str]] = set()
        self._rulings: list[tuple[str, str, Ruling, str, str, bytes]] = []
        self._lines: list[tuple[str, str, str, str]] = []
        self._new_aliases: list[tuple[str, str, str]] = []

    # --- what has to be known

    def know(self) -> Job[None]:
        """Load the records that the push names, the aliases in it, and who else has changed them lately."""
        ask, dialect = self._ask, self._dialect
        named = {row.columns.get("animal_id") for row in ask.rows} | {row.full.get("animal_id") for row in ask.rows}
        named |= {row.fix.animal_reference for row in ask.rows if row.fix is not None}
        named |= {row.id for row in ask.rows if row.table == "animals"}
        found = yield (
            (
                f"SELECT local_id, server_id FROM phone_ids WHERE device = '' AND tbl = 'animals'"
                f" AND {dialect.among('local_id')}"
            ),
            (dialect.listed(sorted(name for name in named if name)),),
        )
        self._aliases = dict(found)
        ids: dict[str, set[str]] = {}
        for row in ask.rows:
            if row.id and row.table in ENTITY_OF:
                ids.setdefault(row.table, set()).add(row.id)
        ids.setdefault("animals", set()).update(self._aliases.values())
        ids["animals"] |= {row.fix.animal_reference for row in ask.rows if row.fix and row.fix.animal_reference}
        for table, some in ids.items():
            more = (WORN_REV,) if table == "animals" else ()
            records = yield Records(ENTITY_OF[table], dialect.among("r.id"), (dialect.listed(sorted(some)),), more)
            for record, extra in records:
                self._known[table, record.id] = record
                if extra:
                    self._worn_revs[record.id] = int(extra[0])
        yield from self._find_others(sorted(set().union(*ids.values())))

    def _find_others(self, ids: Sequence[str]) -> Job[None]:
        lines = yield (
            (
                "SELECT entity, row_id, seq, rev FROM changes WHERE seq > ? AND entity <> 'fix' AND origin <> ?"
                f" AND {self._dialect.among('row_id')} ORDER BY seq"
            ),
            (self._seen_seq, self._ask.origin, self._dialect.listed(ids)),
        )
        for entity, row_id, seq, rev in lines:
            self._edited.add((entity, row_id))
            if seq > self._ask.since.seq and rev is not None:
                self._raced.setdefault((entity, row_id), rev)

    # --- the rows, one after the other

    def take(self) -> Job[None]:
        """Take every row; those of one kind that do not touch each other together."""
        waiting: list[tuple[Row, Operation]] = []
        fixes: list[Row] = []
        for row in self._ask.rows:
            try:
                if row.why:
                    raise Invalid(row.why)
                if row.table in READ_ONLY:
                    raise Invalid("this is read on phones and drawn elsewhere")
                if row.table == TRACKING:
                    if row.is_deletion:
                        yield from self._take_out(row)
                    elif row.is_new or (yield from self._is_unknown_fix(row)):
                        fixes.append(row)
                    else:
                        raise Invalid("a position is never edited: delete it and enter another")
                elif row.table == "animals" and not row.is_deletion:
                    yield from self._take_animal(row)
                elif (operation := self._operation(row)) is not None:
                    waiting.append((row, operation))
            except _Later as error:
                self._wait(row, str(error))
            except RequestError as error:
                self._refuse(row, error)
        yield from self._edit(waiting)
        if fixes:
            yield from self._take_fixes(fixes)

    def _edit(self, waiting: Sequence[tuple[Row, Operation]]) -> Job[None]:
        if not waiting:
            return
        answers = yield Edit([operation for _, operation in waiting])
        for (row, _operation), answer in zip(waiting, answers, strict=True):
            if isinstance(answer, RequestError):
                self._refuse(row, answer)
            else:
                self._note(row, answer)

    def _operation(self, row: Row) -> Operation | None:
        """Return what a row asks for, None for nothing; raises PullFirst, Invalid, Conflict or ``_Later``."""
        record = self._known.get((row.table, row.id))
        self._check_right(row, record)
        if row.is_deletion:
            if record is None or record.is_deleted:
                return None
            if (record.entity, row.id) in self._edited:
                self._rule(row, "revived", "conflict", "someone else changed this after you had seen it: it was kept")
                return None
            return self._made(row, "delete", {}, record.rev)
        is_known = record is not None
        columns = dict(row.columns if is_known and not row.is_new else row.full)
        if "animal_id" in columns:
            columns["animal_id"] = self._aliases.get(columns["animal_id"] or "", columns["animal_id"])
        if (owner := _OWNER.get(row.table)) and (not is_known or self._ask.role == "ranger"):
            columns[owner] = self._ask.author
        if row.table == "alerts" and record is not None:
            columns = self._act(record, columns)
        base_rev = 0 if row.is_new or record is None else self._known_rev(row, record)
        if record is not None and not row.is_new:
            self._check_race(row, record, columns)
        return self._made(row, "update" if is_known else "insert", columns, base_rev)

    def _known_rev(self, row: Row, record: Record) -> int:
        """Return the revision of this home that the user knew: none of it, where he knew another home's."""
        if row.base_rev is None:
            return record.rev
        epoch, own, _ = phone_revs(row.base_rev)
        return own if epoch == self._ask.since.epoch else 0

    def _made(self, row: Row, kind: Kind, columns: dict[str, Any], base_rev: int) -> Operation:
        # the same again is the same conflict; but a collar may be put on, taken off and put on again
        said = msgspec.json.encode([self._ask.origin, row.table, row.id, kind, columns, base_rev], order="sorted")
        identity = random_id() if "collar_id" in columns else derived_id("push", said.decode())
        return Operation(
            id=identity, entity=ENTITY_OF[row.table], row_id=row.id, kind=kind, made_ms=self._now_ms,
            columns=columns, author=self._ask.author, base_rev=base_rev, origin=self._ask.origin,
        )  # fmt: skip

    def _check_right(self, row: Row, record: Record | None) -> None:
        role, table = self._ask.role, row.table
        is_manager = role in _MANAGERS
        if table == "animals":
            if row.is_deletion and not (is_manager and self._ask.may_delete_animals):
                raise Invalid("animals are deleted by managers who have just shown their second factor")
            if role == "ranger" and self._ask.home != "station":
                raise _Later("rangers enter animals at the station: this waits on the phone until you are there")
        elif table == "alerts":
            if row.is_deletion:
                raise Invalid("an alert is looked after, never deleted")
            if record is None and not row.is_new:
                raise _Later("this alert is not known here yet: this waits on the phone")
            if record is None and not is_manager:
                raise Invalid("alerts are raised by managers")
            if row.columns.get("status") == "false_alarm" and not is_manager:
                raise Invalid("managers say that an alert is false")
        elif record is not None and not is_manager and record.columns[_OWNER[table]] not in (None, self._ask.author):
            raise Invalid("rangers change what they reported themselves")

    def _act(self, record: Record, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the columns of an alert as what a person does with it sets them; raises Conflict."""
        status, was = columns.get("status"), record.columns["status"]
        if status is None or status == was:
            return {name: value for name, value in columns.items() if name == "note"}
        if status not in _NEXT[was]:
            raise Conflict(f"status: the alert is {was.replace('_', ' ')} already")
        if status == "acknowledged":
            return columns | {"acknowledged_ms": self._now_ms, "acknowledged_by": self._ask.author}
        return columns | {"resolved_ms": self._now_ms}

    def _check_race(self, row: Row, record: Record, columns: Iterable[str]) -> None:
        """Raise PullFirst where someone else has changed one of ``columns`` since the phone pulled."""
        first_rev = self._raced.get((record.entity, record.id))
        if first_rev is None:
            return
        unmarked = Mark(1)
        for name in columns:
            mark = record.marks.get(name, unmarked)
            if mark.rev >= first_rev and mark.origin != self._ask.origin:
                raise PullFirst(f"{row.table} {row.id}: {name} was changed by someone else meanwhile: pull first")

    # --- animals

    def _take_animal(self, row: Row) -> Job[None]:
        if row.id in self._aliases:
            self._lose(row, row.id, "this animal was entered by someone else too; theirs was kept")
            return (yield from self._keep(row, self._aliases[row.id]))
        operation = self._operation(row)
        if operation is None:
            return None
        record = self._known.get(("animals", row.id))
        columns = dict(operation.columns)
        collar = columns.get("collar_id")
        worn_clash = record is not None and "collar_id" in columns and self._is_worn_clash(row)
        if worn_clash:
            columns.pop("collar_id")
        elif collar:
            wearers = yield WEARER, (collar, collar)
            others = [(identity, status) for identity, status in wearers if identity != row.id]
            for identity, status in others:
                if status not in LIVING:  # its collar is on another animal now
                    yield Edit([self._taken_off(identity)])
                elif record is None:
                    self._new_aliases.append(("animals", row.id, identity))
                    self._aliases[row.id] = identity
                    self._lose(row, row.id, "this animal was entered by someone else too; theirs was kept")
                    return (yield from self._keep(row, identity))
                else:
                    columns.pop("collar_id", None)
                    self._tell(row, Conflict(f"collar_id: collar {collar} is on another animal"))
                    yield Lose(operation, {"collar_id": collar}, {"collar_id": None})
                    self._lines.append(("animal", row.id, "update", ""))
                    self.result.clashes.append(Clash(table="animals", id=row.id, columns=["collar_id"]))
        if worn_clash:
            yield Lose(operation, {"collar_id": collar}, {})
            self._lines.append(("animal", row.id, "update", ""))
            self.result.clashes.append(Clash(table="animals", id=row.id, columns=["collar_id"]))
        (answer,) = yield Edit([replace(operation, columns=columns)])
        if isinstance(answer, RequestError):
            self._refuse(row, answer)
            return None
        found = yield Records("animal", "r.id = ?", (row.id,))
        for changed, _ in found:
            self._known["animals", row.id] = changed
        self._note(row, answer)
        return None

    def _is_worn_clash(self, row: Row) -> bool:
        """Say whether what the animal wears was changed since the revision that the user edited."""
        if not row.base_rev:
            return False
        epoch, _, worn = phone_revs(row.base_rev)
        return epoch != self._ask.since.epoch or worn != self._worn_revs.get(row.id, 0) & 0xFFFFF

    def _taken_off(self, animal_id: str) -> Operation:
        return Operation(
            id=random_id(), entity="animal", row_id=animal_id, kind="update", made_ms=self._now_ms,
            columns={"collar_id": None}, author=self._ask.author,
        )  # fmt: skip

    def _keep(self, row: Row, kept_id: str) -> Job[None]:
        """Keep what was said of an animal that is another, where a person can read it."""
        kept = self._known.get(("animals", kept_id))
        if kept is None:
            for record, _ in (yield Records("animal", "r.id = ?", (kept_id,))):
                kept = self._known["animals", kept_id] = record
        values = {} if kept is None else kept.columns
        lost = {
            name: value for name, value in row.full.items() if name in values and value not in (None, values[name])
        }  # fmt: skip
        if lost:
            operation = self._made(row, "insert", dict(row.full), 0)
            yield Lose(replace(operation, row_id=kept_id), lost, {name: values[name] for name in lost})

    def _lose(self, row: Row, identity: str, detail: str) -> None:
        self._rule(replace(row, id=identity), "deleted", "duplicate_collar", detail)

    # --- positions

    def _is_unknown_fix(self, row: Row) -> Job[bool]:
        found = yield from self._fix_ids([row.id])
        return row.id not in found

    def _fix_ids(self, ids: Sequence[str]) -> Job[dict[str, str]]:
        """Return which fixes these ids of a phone are."""
        found = yield (
            (
                f"SELECT local_id, server_id FROM phone_ids WHERE device = '' AND tbl = 'tracking'"
                f" AND {self._dialect.among('local_id')}"
            ),
            (self._dialect.listed(ids),),
        )
        known = dict(found)
        for identity in ids:
            if identity not in known and _is_uuid(identity):
                value = self._dialect.fix_value(id_bytes(identity))
                if (yield "SELECT 1 FROM fixes WHERE id = ?", (value,)):
                    known[identity] = identity
        return known

    def _take_out(self, row: Row) -> Job[None]:
        known = yield from self._fix_ids([row.id])
        if row.id in known:
            yield Exclude(known[row.id])

    def _take_fixes(self, rows: Sequence[Row]) -> Job[None]:
        batch = Positions(self._ask.now, is_clock_sure=self._ask.is_clock_sure, link="phone")
        taken: list[Row] = []
        for row in rows:
            try:
                self._add(row, batch)
            except RequestError as error:
                self._refuse(row, error)
            else:
                taken.append(row)
        if not taken:
            return
        added = yield AddFixes(batch.columns())
        for row, each in zip(taken, added, strict=True):
            if isinstance(each, RequestError):
                self._refuse(row, each)
                continue
            self.result.fixes[row.id] = each.id
            if row.id != each.id:
                self._new_aliases.append((TRACKING, row.id, each.id))

    def _add(self, row: Row, batch: Positions) -> None:
        assert row.fix is not None
        reference = row.fix.animal_reference
        named = self._aliases.get(reference or "", reference)
        animal = self._known.get(("animals", named or ""))
        device = batch.device(row.fix.collar_id, named)
        if device is None:
            raise Invalid("animal_id: is required where there is no collar_id")
        said = replace(row.fix, local_id=row.id).said()
        batch.add(device, None if animal is None or animal.is_deleted else animal.id, said)

    # --- what the phone is told

    def _note(self, row: Row, effects: Effects) -> None:
        """Take note of what was lost: a person can read it, and the phone gets the row as it stands."""
        if not effects.lost:
            return
        entity = ENTITY_OF[row.table]
        self._lines.append((entity, row.id, "update", ""))
        if row.is_deletion:
            self._rule(row, "revived", "conflict", "someone else changed this: it was kept")
        else:
            clash = Clash(table=row.table, id=row.id, columns=sorted(effects.lost))
            self.result.clashes.append(clash)
            self._rule(row, "told", "conflict", f"someone else has changed {', '.join(clash.columns)}: theirs was kept")

    def _wait(self, row: Row, detail: str) -> None:
        self.result.later.setdefault(row.table, []).append(row.id)
        self.result.messages.append(Message(table=row.table, id=row.id, code="later", detail=detail))

    def _refuse(self, row: Row, error: RequestError) -> None:
        """See that a row that is not taken is not sent again for ever, and that its user hears of it."""
        record = self._known.get((row.table, row.id))
        if row.is_deletion:
            self._rule(row, "revived", error.code, error.detail)
            if row.table in ENTITY_OF:
                self._lines.append((ENTITY_OF[row.table], row.id, "update", ""))
        elif record is None and not (row.table == TRACKING and not row.is_new):
            self._rule(row, "deleted", error.code, error.detail)
            if row.table in READ_ONLY:
                self._lines.append((ENTITY_OF[row.table], row.id, "update", ""))
        else:
            self._rule(row, "told", error.code, error.detail)
            if row.table in ENTITY_OF:
                self._lines.append((ENTITY_OF[row.table], row.id, "update", ""))

    def _rule(self, row: Row, kind: Ruling, code: str, detail: str) -> None:
        self._rulings.append((row.table, row.id, kind, code, detail, row.raw))
        self.result.messages.append(Message(table=row.table, id=row.id, code=code, detail=detail))

    def _tell(self, row: Row, error: RequestError) -> None:
        self._rule(row, "told", error.code, error.detail)

    def finish(self) -> Job[None]:
        """Write down what this phone is told, under the number of this push."""
        for table, row_id, kind, code, detail, raw in self._rulings:
            yield (
                ("INSERT INTO phone_rulings (origin, author, tbl, row_id, kind, code, detail, body, made_ms, seq)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"),
                (
                    self._ask.origin, self._ask.author, table, row_id, kind, code, detail,
                    raw.decode("utf-8", "replace").replace("\0", ""), self._now_ms,
                ),
            )  # fmt: skip
        if self._new_aliases:
            yield Put(
                "phone_ids", ("device", "tbl", "local_id", "server_id"), PHONE_KEY,
                [("", *alias) for alias in self._new_aliases],
            )  # fmt: skip
        is_told = bool(self._rulings or self._new_aliases)
        if is_told:
            self._lines.append(("phone", self._ask.origin, "told", self._ask.origin))
        if self._lines:
            yield Note(list(dict.fromkeys(self._lines)))
        seq = yield Numbered()
        if is_told:
            yield "UPDATE phone_rulings SET seq = ? WHERE seq IS NULL", (seq,)
            for table, ids in self._unnumbered().items():  # by their key: there may be millions of others
                those = f"device = '' AND tbl = ? AND {self._dialect.among('local_id')} AND seq IS NULL"
                yield f"UPDATE phone_ids SET seq = ? WHERE {those}", (seq, table, self._dialect.listed(ids))

    def _unnumbered(self) -> dict[str, list[str]]:
        """Return the ids that became aliases in this push, by table."""
        ids: dict[str, list[str]] = {}
        for table, local_id, _ in self._new_aliases:
            ids.setdefault(table, []).append(local_id)
        return ids


def _is_uuid(text: str) -> bool:
    try:
        return id_text(id_bytes(text)) == text
    except ValueError:
        return False
