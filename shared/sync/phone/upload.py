"""What a bulk upload does: the original platform's contract over the same decisions as a push.

- Each item has a ``local_id``, unique on its device. What it became is remembered, so the same item again is ``synced``
  and stored once, and items may name an animal by the local id that it had in this upload or an earlier one.
- Ids of animals and observations follow from device and local id: the same upload at another home makes the same rows.
- What another local id has brought already (a collar, a fix, an observation) is a conflict: the row that is there is
  kept, and ``id_map`` names it.
- An item that cannot be taken is told in ``errors`` and harms no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from shared.domain import NewFix
from shared.errors import Invalid, KeyReused, RequestError
from shared.ids import derived_id, random_id
from shared.privacy import Role, View
from shared.sync import log
from shared.sync.operations import Effects, Operation
from shared.sync.phone.jobs import PHONE_KEY, AddFixes, Dialect, Edit, Job, Lose, Note, Numbered, Put, Records
from shared.sync.phone.push import LIVING, WEARER
from shared.sync.records import ENTITIES, EntityName, Record, stored_columns, to_ms
from shared.wire.phone.uploads import Conflicted, Item, Kind, Told
from shared.wire.public.fields import ANIMAL_DEVICE, collar_id

KINDS: Final[tuple[Kind, ...]] = ("animals", "tracking", "observations")
_ENTITY: Final[Mapping[str, EntityName]] = {"animals": "animal", "observations": "observation"}
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


def upload(ask: UploadAsk, dialect: Dialect) -> Job[Uploaded]:
    """Take an upload inside one transaction."""
    taker = _Taker(ask, dialect)
    yield from taker.know()
    yield from taker.animals()
    yield from taker.observations()
    yield from taker.fixes()
    yield from taker.finish()
    return taker.result


class _Taker:
    def __init__(self, ask: UploadAsk, dialect: Dialect) -> None:
        self.result = Uploaded(
            synced=dict.fromkeys(KINDS, 0), failed=dict.fromkeys(KINDS, 0), conflicts=[], errors=[], warnings=[],
            id_map={kind: {} for kind in KINDS},
        )  # fmt: skip
        self._ask = ask
        self._dialect = dialect
        self._now_ms = to_ms(ask.now)
        self._origin = f"phone:{ask.device_id}"
        #: by kind and local id: what it became, and the hash of what was said
        self._known: dict[tuple[str, str], tuple[str, str]] = {}
        self._animals: dict[str, Record] = {}
        self._new_ids: dict[tuple[str, str], tuple[str, str]] = {}
        self._lines: list[tuple[str, str, str, str]] = []

    def know(self) -> Job[None]:
        """Load what this device has brought before, and the animals that it names."""
        ask, dialect = self._ask, self._dialect
        items = [item for some in ask.items.values() for item in some]
        named = {item.animal for item in items if item.animal}
        local = {item.local_id for item in items if item.local_id} | named
        found = yield (
            "SELECT tbl, local_id, server_id, coalesce(hash, '') FROM phone_ids WHERE device = ?"
            " AND " + dialect.among("local_id"),
            (ask.device_id, dialect.listed(sorted(local))),
        )
        self._known = {(table, local_id): (server_id, said) for table, local_id, server_id, said in found}
        named |= {server_id for (table, _), (server_id, _) in self._known.items() if table == "animals"}
        if named:
            condition = f"{dialect.among('r.id')} AND r.deleted_ms IS NULL"
            rows = yield Records("animal", condition, (dialect.listed(sorted(named)),))
            self._animals = {record.id: record for record, _ in rows}

    # --- animals

    def animals(self) -> Job[None]:
        """Take the animals, one after the other: two of one upload may name one collar."""
        for item in self._ask.items["animals"]:
            try:
                if item.why:
                    raise Invalid(item.why)
                if self._ask.role == "ranger" and self._ask.home != "station":
                    raise Invalid("rangers enter animals at the station: upload this again there")
                yield from self._animal(item)
            except RequestError as error:
                self._fail("animals", item, error.code, error.detail)

    def _animal(self, item: Item) -> Job[None]:
        known = self._known.get(("animals", item.local_id))
        if known is not None and known[1] == item.hash:
            self._sync("animals", item, known[0])
            return
        identity = known[0] if known is not None else derived_id(self._ask.device_id, f"animals {item.local_id}")
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
        for item in self._ask.items["observations"]:
            try:
                if item.why:
                    raise Invalid(item.why)
                known = self._known.get(("observations", item.local_id))
                if known is not None and known[1] == item.hash:
                    self._sync("observations", item, known[0])
                    continue
                columns = stored_columns(ENTITIES["observation"], item.columns)
                columns["animal_id"] = self._named(item.animal)
                if item.animal and columns["animal_id"] is None:
                    self.result.warnings.append(
                        Told(type="observations", local_id=item.local_id, code="unknown_animal",
                             message=f"animal: there is no animal {item.animal}; it was kept without one")
                    )  # fmt: skip
                columns["observer"] = self._ask.author
                columns["local_id"] = item.local_id or None
                same = tuple(columns.get(name, ENTITIES["observation"].columns[name]) for name in _SAME)
                if known is None and (twin := seen.get(same) or (yield from self._twin(same))):
                    record = yield from self._record("observation", twin)
                    self._remember("observations", item, twin)
                    self._conflict("observations", item, "duplicate", twin, record)
                    continue
                fresh = derived_id(self._ask.device_id, f"observations {item.local_id}")
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

    def fixes(self) -> Job[None]:
        """Take the positions, set-wise."""
        waiting: list[tuple[Item, NewFix]] = []
        for item in self._ask.items["tracking"]:
            known = self._known.get(("tracking", item.local_id)) if item.local_id else None
            if known is not None and known[1] == item.hash:
                self._sync("tracking", item, known[0])
                continue
            try:
                waiting.append((item, self._fix(item)))
            except RequestError as error:
                self._fail("tracking", item, error.code, error.detail)
        if not waiting:
            return
        added = yield AddFixes([fix for _, fix in waiting])
        for (item, _), each in zip(waiting, added, strict=True):
            self._remember("tracking", item, each.id)
            if each.outcome == "new":
                self._sync("tracking", item, each.id)
            else:
                self._conflict("tracking", item, "duplicate", each.id, None)

    def _fix(self, item: Item) -> NewFix:
        if item.why or item.fix is None:
            raise Invalid(item.why)
        animal = self._named(item.animal)
        if item.fix.collar_id and item.fix.collar_id.strip():
            device = collar_id("collar_id", item.fix.collar_id)
        elif animal is not None:
            device = ANIMAL_DEVICE + animal
        else:
            raise Invalid("animal: is required, and known here, where there is no collar_id")
        return item.fix.fix(
            device=device, animal_id=animal, received_at=self._ask.now, is_clock_sure=self._ask.is_clock_sure
        )

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
            made_ms=self._now_ms, author=self._ask.author, base_rev=0, origin=self._origin,
        )  # fmt: skip

    def _done(self, kind: Kind, item: Item, operation: Operation, effects: Effects) -> Job[None]:
        self._remember(kind, item, operation.row_id)
        if not effects.lost:
            self._sync(kind, item, operation.row_id)
            return
        record = yield from self._record(_ENTITY[kind], operation.row_id)
        self._lines.append((operation.entity, operation.row_id, "update", ""))
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

    def finish(self) -> Job[None]:
        """Remember what each local id became."""
        if self._new_ids:
            device = self._ask.device_id
            yield Put(
                "phone_ids", ("device", "tbl", "local_id", "server_id", "hash"), PHONE_KEY,
                [(device, kind, local_id, *known) for (kind, local_id), known in self._new_ids.items()],
                replaced=("server_id", "hash"),
            )  # fmt: skip
        if self._lines:
            yield Note(self._lines)
        yield Numbered()


def shown(view: View, uploaded: Uploaded) -> Uploaded:
    """Return what became of an upload as its sender may see it: rows of others only where all positions are open."""
    if view.is_exact:
        return uploaded
    closed = [msgspec.structs.replace(each, server_record=None) for each in uploaded.conflicts]
    return msgspec.structs.replace(uploaded, conflicts=closed)


class Kept(msgspec.Struct, frozen=True):
    """An upload that its sender has given a name, so that a repeat is answered with the same bytes."""

    key: str
    hash: str


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


def upload_once(
    view: View, ask: UploadAsk, dialect: Dialect, kept: Kept | None, answer: Callable[[Uploaded], bytes], sync_id: str
) -> Job[bytes]:
    """Take an upload and return its answer, the stored one for a repeat; raises KeyReused."""
    if kept is not None:
        found = yield "SELECT hash, answer FROM uploads WHERE author = ? AND key = ?", (ask.author, kept.key)
        for hashed, stored in found:
            if hashed != kept.hash:
                raise KeyReused("Idempotency-Key: another upload was sent under this key")
            return bytes(stored, "utf-8")
    result = yield from upload(ask, dialect)
    yield from log.note(*_session(ask, result, sync_id))
    told = answer(shown(view, result))
    if kept is not None:
        yield (
            "INSERT INTO uploads (author, key, hash, answer, made_ms) VALUES (?, ?, ?, ?, ?)",
            (ask.author, kept.key, kept.hash, told.decode(), to_ms(ask.now)),
        )
    return told
