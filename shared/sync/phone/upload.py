"""What a bulk upload does: the original platform's contract over the same decisions as a push.

- Each item has a ``local_id``, unique on its device. What it became is remembered, so the same item again is ``synced``
  and stored once, and items may name an animal by the local id that it had in this upload or an earlier one.
- Ids of animals and observations follow from device and local id: the same upload at another home makes the same rows.
- What another local id has brought already (a collar, a fix, an observation) is a conflict: the row that is there is
  kept, and ``id_map`` names it.
- An item that cannot be taken is told in ``errors`` and harms no other.

Uploads of several devices may be taken together (``upload_all``), in one transaction and with one statement of a kind:
nothing of one bears on another, so it is as if they came one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from shared.domain import AddedFix
from shared.errors import Invalid, KeyReused, RequestError
from shared.ids import derived_id, random_id
from shared.privacy import Role, View
from shared.sync import log
from shared.sync.operations import Effects, Operation
from shared.sync.phone.jobs import AddFixes, Dialect, Edit, Job, LocalId, Lose, Map, Mapped, Note, Numbered, Records
from shared.sync.phone.positions import Columns, Positions, together
from shared.sync.phone.push import LIVING, WEARER
from shared.sync.records import ENTITIES, EntityName, Record, stored_columns, to_ms
from shared.wire.phone.uploads import Conflicted, Item, Kind, Told

KINDS: Final[tuple[Kind, ...]] = ("animals", "tracking", "observations")
_ENTITY: Final[Mapping[str, EntityName]] = {"animals": "animal", "observations": "observation"}
_REUSED: Final = "Idempotency-Key: another upload was sent under this key"
#: What makes two observations one.
_SAME: Final = ("observation_type", "recorded_ms", "animal_id", "lon_e7", "lat_e7", "description", "observer")


class UploadAsk(msgspec.Struct, frozen=True, kw_only=True):
    """An upload: its items, and who brings it where. ``key`` tells a repeat of the whole from another upload."""

    device_id: str
    items: Mapping[Kind, Sequence[Item]]
    author: str
    role: Role
    home: Literal["station", "cloud"]
    now: datetime
    is_clock_sure: bool


class Uploaded(msgspec.Struct, kw_only=True):
    """What became of each item."""

    synced: dict[Kind, int]
    failed: dict[Kind, int]
    conflicts: list[Conflicted]
    errors: list[Told]
    warnings: list[Told]
    id_map: dict[Kind, dict[str, str]]


class Kept(msgspec.Struct, frozen=True):
    """An upload that its sender has given a name, so that a repeat is answered with the same bytes."""

    key: str
    hash: str


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """An upload on its way into a home: what its sender may see, how he named it, and what makes the answer of it."""

    view: View
    ask: UploadAsk
    kept: Kept | None
    answer: Callable[[Uploaded], bytes]
    sync_id: str

    @property
    def has_records(self) -> bool:
        """Say whether there is more in it than positions."""
        return bool(self.ask.items["animals"] or self.ask.items["observations"])

    def times_ms(self) -> list[int]:
        """Return when its positions were recorded, of those that can be read."""
        return [item.said[0] for item in self.ask.items["tracking"] if item.said]


def upload_all(brought: Sequence[Brought], dialect: Dialect) -> Job[list[bytes | RequestError]]:
    """Take uploads of different devices inside one transaction; return of each its answer, or KeyReused.

    A repeat under a key gets the answer that is kept.
    """
    answers: dict[int, bytes | RequestError] = yield from _repeats(brought, dialect)
    takers = {n: _Taker(each.ask, dialect) for n, each in enumerate(brought) if n not in answers}
    some = list(takers.values())
    if not some:
        return list(answers.values())
    yield from _know(some)
    for taker in some:
        yield from taker.animals()
        yield from taker.observations()
    yield from _add_fixes(some)
    yield from log.note_all([_session(each.ask, each.result, brought[n].sync_id) for n, each in takers.items()])
    named = []
    for n, taker in takers.items():
        each = brought[n]
        told = answers[n] = each.answer(shown(each.view, taker.result))
        if each.kept is not None:
            named.append((each.ask.author, each.kept.key, each.kept.hash, told.decode(), to_ms(each.ask.now)))
    if named:
        rows = ", ".join(["(?, ?, ?, ?, ?)"] * len(named))
        yield f"INSERT INTO uploads (author, key, hash, answer, made_ms) VALUES {rows}", [*chain.from_iterable(named)]
    yield from _finish(some)
    return [answers[n] for n in range(len(brought))]


def upload_one(brought: Brought, dialect: Dialect) -> Job[bytes]:
    """Take one upload; raises KeyReused."""
    (answer,) = yield from upload_all([brought], dialect)
    if isinstance(answer, RequestError):
        raise answer
    return answer


def _repeats(brought: Sequence[Brought], dialect: Dialect) -> Job[dict[int, bytes | RequestError]]:
    """Return by place what is answered already: the same upload under its key, or another one under a used key."""
    keys = {each.kept.key for each in brought if each.kept is not None}
    if not keys:
        return {}
    found = yield (
        f"SELECT author, key, hash, answer FROM uploads WHERE {dialect.among('key')}",
        (dialect.listed(sorted(keys)),),
    )
    stored = {(author, key): (hashed, answer) for author, key, hashed, answer in found}
    answers: dict[int, bytes | RequestError] = {}
    for n, each in enumerate(brought):
        if each.kept is not None and (before := stored.get((each.ask.author, each.kept.key))) is not None:
            is_same = before[0] == each.kept.hash
            answers[n] = before[1].encode() if is_same else KeyReused(_REUSED)
    return answers


def _know(takers: Sequence[_Taker]) -> Job[None]:
    """Load what the devices have brought before, and the animals that they name."""
    keys = [key for taker in takers for key in taker.local_ids()]
    known: dict[LocalId, tuple[str, str]] = {}
    if keys:
        known = yield Mapped(keys)
    named: set[str] = set()
    for taker in takers:
        named |= taker.learn(known)
    animals: dict[str, Record] = {}
    if named:
        dialect = takers[0].dialect
        condition = f"{dialect.among('r.id')} AND r.deleted_ms IS NULL"
        rows = yield Records("animal", condition, (dialect.listed(sorted(named)),))
        animals = {record.id: record for record, _ in rows}
    for taker in takers:
        taker.meet(animals)


def _add_fixes(takers: Sequence[_Taker]) -> Job[None]:
    """Take the positions of all, set-wise."""
    batches = [(taker, taker.positions()) for taker in takers]
    batches = [(taker, batch) for taker, batch in batches if len(batch["raw_ms"])]
    if not batches:
        return
    added = yield AddFixes(together(batch for _, batch in batches))
    begun = 0
    for taker, batch in batches:
        ended = begun + len(batch["raw_ms"])
        taker.take_in(added[begun:ended])
        begun = ended


def _finish(takers: Iterable[_Taker]) -> Job[None]:
    """Remember what each local id became, and number the changes."""
    became: dict[LocalId, tuple[str, str]] = {}
    lines: list[tuple[str, str, str, str]] = []
    for taker in takers:
        became |= taker.became()
        lines += taker.lines
    if became:
        yield Map(became)
    if lines:
        yield Note(lines)
    yield Numbered()


class _Taker:
    def __init__(self, ask: UploadAsk, dialect: Dialect) -> None:
        self.result = Uploaded(
            synced=dict.fromkeys(KINDS, 0), failed=dict.fromkeys(KINDS, 0), conflicts=[], errors=[], warnings=[],
            id_map={kind: {} for kind in KINDS},
        )  # fmt: skip
        self.ask = ask
        self.dialect = dialect
        self._now_ms = to_ms(ask.now)
        self._origin = f"phone:{ask.device_id}"
        #: by kind and local id: what it became, and the hash of what was said
        self._known: dict[tuple[str, str], tuple[str, str]] = {}
        self._keys: list[LocalId] = []
        self._animals: dict[str, Record] = {}
        self._waiting: list[Item] = []
        self._new_ids: dict[tuple[str, str], tuple[str, str]] = {}
        self.lines: list[tuple[str, str, str, str]] = []

    def local_ids(self) -> list[LocalId]:
        """Return the local ids that are said or named in it."""
        device = self.ask.device_id
        keys: dict[LocalId, None] = {}
        for kind, items in self.ask.items.items():
            keys |= dict.fromkeys((device, kind, item.local_id) for item in items if item.local_id)
            keys |= dict.fromkeys((device, "animals", item.animal) for item in items if item.animal)
        self._keys = list(keys)
        return self._keys

    def learn(self, known: Mapping[LocalId, tuple[str, str]]) -> set[str]:
        """Take note of what this device has brought before; return the animals that are named, by whatever id."""
        if known:
            self._known = {key[1:]: known[key] for key in self._keys if key in known}
        named = {item.animal for items in self.ask.items.values() for item in items if item.animal}
        return named | {identity for (table, _), (identity, _) in self._known.items() if table == "animals"}

    def meet(self, animals: Mapping[str, Record]) -> None:
        """Take note of the animals that are named."""
        self._animals = dict(animals)

    # --- animals

    def animals(self) -> Job[None]:
        """Take the animals, one after the other: two of one upload may name one collar."""
        for item in self.ask.items["animals"]:
            try:
                if item.why:
                    raise Invalid(item.why)
                if self.ask.role == "ranger" and self.ask.home != "station":
                    raise Invalid("rangers enter animals at the station: upload this again there")
                yield from self._animal(item)
            except RequestError as error:
                self._fail("animals", item, error.code, error.detail)

    def _animal(self, item: Item) -> Job[None]:
        known = self._known.get(("animals", item.local_id))
        if known is not None and _is_same(item, known[1]):
            self._sync("animals", item, known[0])
            return
        identity = known[0] if known is not None else derived_id(self.ask.device_id, f"animals {item.local_id}")
        if not item.local_id:
            identity = random_id()
        columns = stored_columns(ENTITIES["animal"], item.columns)
        collar = item.columns.get("collar_id")
        if collar:
            columns["collar_id"] = collar
            wearers = yield WEARER, (collar, collar)
            for other, status in wearers:
                if other == identity:
                    columns.pop("collar_id", None)
                elif status in LIVING:
                    record = yield from self._record("animal", other)
                    self._remember("animals", item, other)
                    self._conflict("animals", item, "duplicate_collar", other, record)
                    lost = {name: value for name, value in columns.items() if record and name in record.columns
                            and value not in (None, record.columns[name])}  # fmt: skip
                    if lost and record is not None:
                        kept = {name: record.columns[name] for name in lost}
                        yield Lose(self._operation("animal", other, columns, is_new=True), lost, kept)
                    return
                else:
                    yield Edit([replace(self._operation("animal", other, {"collar_id": None}), origin="")])
        record = yield from self._record("animal", identity)
        operation = self._operation("animal", identity, columns, is_new=record is None)
        (answer,) = yield Edit([operation])
        if isinstance(answer, RequestError):
            raise answer
        yield from self._record("animal", identity)
        yield from self._done("animals", item, operation, answer)

    # --- observations

    def observations(self) -> Job[None]:
        """Take the observations, set-wise."""
        waiting: list[tuple[Item, Operation]] = []
        seen: dict[tuple[Any, ...], str] = {}
        for item in self.ask.items["observations"]:
            try:
                if item.why:
                    raise Invalid(item.why)
                known = self._known.get(("observations", item.local_id))
                if known is not None and _is_same(item, known[1]):
                    self._sync("observations", item, known[0])
                    continue
                columns = stored_columns(ENTITIES["observation"], item.columns)
                columns["animal_id"] = self._named(item.animal)
                if item.animal and columns["animal_id"] is None:
                    self.result.warnings.append(
                        Told(type="observations", local_id=item.local_id, code="unknown_animal",
                             message=f"animal: there is no animal {item.animal}; it was kept without one")
                    )  # fmt: skip
                columns["observer"] = self.ask.author
                columns["local_id"] = item.local_id or None
                same = tuple(columns.get(name, ENTITIES["observation"].columns[name]) for name in _SAME)
                if known is None and (twin := seen.get(same) or (yield from self._twin(same))):
                    record = yield from self._record("observation", twin)
                    self._remember("observations", item, twin)
                    self._conflict("observations", item, "duplicate", twin, record)
                    continue
                fresh = derived_id(self.ask.device_id, f"observations {item.local_id}")
                identity = known[0] if known is not None else fresh if item.local_id else random_id()
                seen[same] = identity
                waiting.append((item, self._operation("observation", identity, columns, is_new=known is None)))
            except RequestError as error:
                self._fail("observations", item, error.code, error.detail)
        if not waiting:
            return
        answers = yield Edit([operation for _, operation in waiting])
        for (item, operation), answer in zip(waiting, answers, strict=True):
            if isinstance(answer, RequestError):
                self._fail("observations", item, answer.code, answer.detail)
            else:
                yield from self._done("observations", item, operation, answer)

    def _twin(self, same: Sequence[Any]) -> Job[str | None]:
        conditions, values = [], []
        for name, value in zip(_SAME, same, strict=True):
            conditions.append(f"{name} IS NULL" if value is None else f"{name} = ?")
            values += [] if value is None else [value]
        found = yield f"SELECT id FROM observations WHERE deleted_ms IS NULL AND {' AND '.join(conditions)}", values
        return found[0][0] if found else None

    # --- positions

    def positions(self) -> Columns:
        """Return the positions that have to be stored, as a batch."""
        batch = Positions(self.ask.now, is_clock_sure=self.ask.is_clock_sure, link="api")
        known = self._known
        for item in self.ask.items["tracking"]:
            found = known.get(("tracking", item.local_id)) if item.local_id and known else None
            if found is not None and _is_same(item, found[1]):
                self._sync("tracking", item, found[0])
                continue
            try:
                if not item.said:
                    raise Invalid(item.why)
                animal = self._named(item.animal)
                device = batch.device(item.collar, animal)
                if device is None:
                    raise Invalid("animal: is required, and known here, where there is no collar_id")
            except RequestError as error:
                self._fail("tracking", item, error.code, error.detail)
            else:
                batch.add(device, animal, item.said)
                self._waiting.append(item)
        return batch.columns()

    def take_in(self, added: Sequence[AddedFix | RequestError]) -> None:
        """Tell what became of the positions that were stored."""
        for item, each in zip(self._waiting, added, strict=True):
            if isinstance(each, RequestError):
                self._fail("tracking", item, each.code, each.detail)
                continue
            self._remember("tracking", item, each.id)
            if each.outcome == "new":
                self._sync("tracking", item, each.id)
            else:
                self._conflict("tracking", item, "duplicate", each.id, None)

    # --- what they share

    def _named(self, reference: str | None) -> str | None:
        """Return the animal that an item names, by its local id or its own."""
        if not reference:
            return None
        identity = self._known.get(("animals", reference), (reference, ""))[0]
        return identity if identity in self._animals else None

    def _record(self, entity: EntityName, identity: str) -> Job[Record | None]:
        rows = yield Records(entity, "r.id = ?", (identity,))
        record: Record | None = rows[0][0] if rows else None
        if entity == "animal" and record is not None and not record.is_deleted:
            self._animals[identity] = record
        return record

    def _operation(
        self, entity: EntityName, identity: str, columns: dict[str, Any], *, is_new: bool = False
    ) -> Operation:
        return Operation(
            id=random_id(), entity=entity, row_id=identity, kind="insert" if is_new else "update", columns=columns,
            made_ms=self._now_ms, author=self.ask.author, base_rev=0, origin=self._origin,
        )  # fmt: skip

    def _done(self, kind: Kind, item: Item, operation: Operation, effects: Effects) -> Job[None]:
        self._remember(kind, item, operation.row_id)
        if not effects.lost:
            self._sync(kind, item, operation.row_id)
            return
        record = yield from self._record(_ENTITY[kind], operation.row_id)
        self.lines.append((operation.entity, operation.row_id, "update", ""))
        self._conflict(kind, item, "changed_by_someone_else", operation.row_id, record)

    def _remember(self, kind: Kind, item: Item, identity: str) -> None:
        if item.local_id:
            self._known[kind, item.local_id] = self._new_ids[kind, item.local_id] = (identity, item.hash)

    def _sync(self, kind: Kind, item: Item, identity: str) -> None:
        self.result.synced[kind] += 1
        if item.local_id:
            self.result.id_map[kind][item.local_id] = identity

    def _conflict(self, kind: Kind, item: Item, reason: str, identity: str, record: Record | None) -> None:
        told = None if record is None else {"id": record.id, "rev": record.rev, **record.columns}
        self.result.conflicts.append(
            Conflicted(type=kind, local_id=item.local_id, reason=reason, server_id=identity, server_record=told)
        )
        if item.local_id:
            self.result.id_map[kind][item.local_id] = identity

    def _fail(self, kind: Kind, item: Item, code: str, detail: str) -> None:
        self.result.failed[kind] += 1
        self.result.errors.append(Told(type=kind, local_id=item.local_id, code=code, message=detail))

    def became(self) -> dict[LocalId, tuple[str, str]]:
        """Return what local ids have become."""
        return {(self.ask.device_id, *key): known for key, known in self._new_ids.items()}


def _is_same(item: Item, said: str) -> bool:
    """Say whether an item is what was said before, of whose hash a home may keep the beginning alone."""
    return said != "" and item.hash.startswith(said)


def shown(view: View, uploaded: Uploaded) -> Uploaded:
    """Return what became of an upload as its sender may see it: rows of others only where all positions are open."""
    if view.is_exact:
        return uploaded
    closed = [msgspec.structs.replace(each, server_record=None) for each in uploaded.conflicts]
    return msgspec.structs.replace(uploaded, conflicts=closed)


def _session(ask: UploadAsk, result: Uploaded, sync_id: str) -> tuple[log.Session, list[log.Item]]:
    """Return what the sync log says of an upload; only its device can send again what failed."""
    now_ms = to_ms(ask.now)
    session = log.Session(
        id=sync_id, user_id=ask.author, device_id=ask.device_id, path="upload",
        total=sum(map(len, ask.items.values())), synced=sum(result.synced.values()), conflicts=len(result.conflicts),
        failed=sum(result.failed.values()), started_ms=now_ms, completed_ms=now_ms,
    )  # fmt: skip
    is_told = bool(result.errors or result.conflicts)
    raw = {(kind, item.local_id): item.raw for kind, items in ask.items.items() for item in items if is_told}

    def item(told: Told | Conflicted, status: Literal["failed", "conflict"], message: str) -> log.Item:
        said = raw.get((told.type, told.local_id or ""), b"{}")
        return log.Item(
            id=random_id(), sync_id=sync_id, user_id=ask.author, device_id=ask.device_id, data_type=told.type,
            local_id=told.local_id, status=status,
            server_id=told.server_id if isinstance(told, Conflicted) else None,
            data=said.decode("utf-8", "replace").replace("\0", "") if said[:1] == b"{" else "{}",
            conflict_data=msgspec.json.encode(told).decode() if isinstance(told, Conflicted) else None,
            error_message=message, created_ms=now_ms,
        )  # fmt: skip

    return session, [
        *(item(each, "failed", each.message) for each in result.errors),
        *(item(each, "conflict", each.reason) for each in result.conflicts),
    ]
