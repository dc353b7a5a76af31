"""Stations and a cloud in memory over the pure rules of ``shared.sync``: what the real homes do, without their I/O.

The rules are the real ones: ``streams`` for batches and answers, ``decide`` for operations, ``take`` for what comes
down. Around them stands the least that a home adds: an outbox, the ids of operations that were ever taken, a change
log, a quarantine. ``Rules`` has each of these decisions as one method or switch, so that a mutant can break it alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from shared.errors import RequestError
from shared.ids import derived_id
from shared.sync import streams
from shared.sync.decide import decide
from shared.sync.operations import Effects, Operation, Rows, bringing
from shared.sync.records import ENTITIES, EntityName, Record
from shared.sync.streams import (
    GENESIS,
    Action,
    Answer,
    Apply,
    Batch,
    Corrupt,
    Fork,
    Gap,
    Head,
    Receipt,
    Reception,
    Replay,
    ResumeFrom,
    Sender,
    SendNext,
    StartOver,
    StreamAnswer,
    answer_of,
)
from shared.sync.take import leave, take
from shared.wire.link import DOWN, OF_OPERATIONS, OWN, Channel

CHANNELS: Final[tuple[Channel, ...]] = ("alerts", "records", "fixes")
#: The version of batches that this cloud reads, and that of a program which is ahead of it.
VERSION: Final = 1
AHEAD: Final = 2
PAGE: Final = 7
BATCH: Final = {"alerts": 3, "records": 5, "fixes": 8}

#: Revisions of one life of the cloud are this far from those of the next.
LIFE: Final = 1 << 32

Key: TypeAlias = tuple[EntityName, str]


class Again(msgspec.Struct, frozen=True):
    """A record that an earlier life of the cloud had: it goes as it stands, unless this one has it too."""

    entity: EntityName
    row_id: str


#: By operation, the changes of its record that its author had heard of, in whatever life of the cloud.
Seen: TypeAlias = dict[str, frozenset[str]]
#: What a channel carries: an operation, or a fix by its collar and number.
Item: TypeAlias = Operation | tuple[str, int]


class Lost(Exception):
    """No answer came: the session ends."""


class Rules:
    """The rules as they are; a mutant breaks one."""

    dedupes_operations = True
    dedupes_fixes = True
    quarantines = True
    sends_rulings = True
    repeats_rulings = True
    sends_tombstones = True
    keeps_edits_on_top = True
    names_base_revisions = True
    cursor_runs_ahead = False
    restored_cloud_has_new_epoch = True
    forgets_revisions_in_a_new_life = True
    keeps_outbox_in_a_new_life = True
    offers_what_it_knows_in_a_new_life = True
    tells_lives_apart_by_revision = True
    keeps_acknowledged = True
    compares_heads = True
    tells_what_left = True
    tells_what_entered = True
    hides_what_is_out_of_scope = True

    def receive(self, head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
        return streams.receive(head, stored_hash, batch, claimed_hash)

    def answered(self, state: Sender, answer: Answer) -> tuple[Sender, Action]:
        return streams.answered(state, answer)

    def opened(self, version: int, items: Any) -> list[Item] | None:
        """Return what a batch of ``version`` holds, None for what cannot be read: upcasters have their place here."""
        return items if version <= VERSION else None


class Request(msgspec.Struct, frozen=True):
    station: str
    batch: Batch
    claimed_hash: bytes


def packed(channel: Channel, items: Sequence[Item], version: int) -> bytes:
    return bytes((version,)) + msgspec.msgpack.encode(items)


def unpacked(channel: str, payload: bytes) -> tuple[int, list[Any]]:
    kind: Any = list[Operation] if channel in OF_OPERATIONS else list[tuple[str, int]]
    return payload[0], msgspec.msgpack.decode(payload[1:], type=kind)


def name_of(item: Item) -> str:
    """Return what an item is known by in every world: an operation by its id, a fix by what it says."""
    return item.id if isinstance(item, Operation) else f"{item[0]} {item[1]}"


class Cloud:
    """Heads, receipts, records, and what became of everything that was ever brought."""

    def __init__(self, rules: Rules, knew: Seen, epoch: int = 1) -> None:
        self.rules = rules
        self.epoch = epoch
        self.heads: dict[tuple[str, str, str], Head] = {}
        self.receipts: dict[tuple[str, str, str, int], Receipt] = {}
        self.rows = Rows()
        self.outcomes: dict[str, str] = {}
        self.taken: Counter[str] = Counter()
        self.quarantine: list[tuple[str, bytes]] = []
        self.lost: set[str] = set()
        self.log: list[Key] = []
        #: the animals that a station is told of; of one that is not here everything
        self.scopes: dict[str, frozenset[str]] = {}
        #: by station, what it made itself, and lines of the log that are for it alone
        self.made_by: set[tuple[str, Key]] = set()
        self.own_lines: dict[int, str] = {}
        #: edits that went over what their authors had not seen, without a word
        self.overwritten: list[str] = []
        #: by record, every change that led to what stands; by column the one that set it
        self.changes_of: dict[Key, frozenset[str]] = {}
        self.set_by: dict[tuple[Key, str], str] = {}
        self._knew = knew

    def copy(self) -> Cloud:
        made = Cloud(self.rules, self._knew, self.epoch)
        made.heads, made.receipts = dict(self.heads), dict(self.receipts)
        made.rows = Rows(self.rows.values(), first_rev=self.rows.first_rev)
        made.outcomes, made.taken, made.quarantine = dict(self.outcomes), Counter(self.taken), list(self.quarantine)
        made.lost, made.log = set(self.lost), list(self.log)
        made.scopes, made.made_by, made.own_lines = dict(self.scopes), set(self.made_by), dict(self.own_lines)
        made.overwritten = self.overwritten
        made.changes_of, made.set_by = dict(self.changes_of), dict(self.set_by)
        return made

    def put(self, request: Request) -> Receipt | StreamAnswer | None:
        """Do what the cloud does with a batch; None is an error of the server, or damage on the way."""
        batch = request.batch
        stream = (request.station, batch.epoch, batch.channel)
        kept = self.receipts.get((*stream, batch.n))
        head = self.heads.get(stream, GENESIS)
        match taken := self.rules.receive(head, kept.hash if kept else None, batch, request.claimed_hash):
            case Apply(reached):
                if not self._apply(request.station, batch):
                    return None
                receipt = Receipt(n=reached.n, hash=reached.hash)
                self.heads[stream] = reached
                self.receipts[*stream, reached.n] = receipt
                return receipt
            case Replay():
                assert kept is not None
                if self.rules.repeats_rulings and batch.channel in OF_OPERATIONS:
                    for item in unpacked(batch.channel, batch.payload)[1]:  # it may have been heard of too early
                        self._answer(request.station, (item.entity, item.row_id))
                return kept
            case Gap() | Fork():
                return answer_of(taken)
            case Corrupt():
                return None

    def rule(self, operation: Operation) -> None:
        """Do what a person edits here."""
        try:
            effects = decide(operation, self.rows)
        except RequestError:
            return
        self._write(effects, operation.id)

    def has(self, station: str, key: Key) -> bool:
        """Say whether a record is in a station's scope, or one of its own where it has no others."""
        if key[0] in OWN:
            return (station, key) in self.made_by
        assigned = self.scopes.get(station)
        return key[0] != "animal" or assigned is None or key[1] in assigned or (station, key) in self.made_by

    def limit(self, station: str, animals: Sequence[str] | None) -> None:
        """Change what a station is told of; what that brings or takes is in the log for it alone."""
        keys = [(record.entity, record.id) for record in self.rows.values()]
        before = {key for key in keys if self.has(station, key)}
        if animals is None:
            self.scopes.pop(station, None)
        else:
            self.scopes[station] = frozenset(animals)
        for key in keys:
            is_in = self.has(station, key)
            if is_in != (key in before) and (self.rules.tells_what_entered or not is_in):
                self._tell_one(station, key)

    def changes(self, station: str, epoch: int | None, since: int) -> tuple[list[Record], list[Key], int, bool] | None:
        """Return a page of what changed and what left, the cursor after it, whether more waits; None: it is stale."""
        if since and (epoch != self.epoch or since > len(self.log)):
            return None
        lines = self.log[since : since + PAGE]
        numbered = [(key, self.own_lines.get(seq)) for seq, key in enumerate(lines, since)]
        told = dict.fromkeys(key for key, whose in numbered if whose in (None, station))
        left = [key for key, whose in numbered if whose == station and not self.has(station, key)]
        if not self.rules.tells_what_left:
            left = []
        if self.rules.hides_what_is_out_of_scope:
            told = dict.fromkeys(key for key in told if self.has(station, key))
        records = [record for key in told if (record := self.rows.get(*key)) is not None]
        if not self.rules.sends_tombstones:
            records = [record for record in records if not record.is_deleted]
        after = since + len(lines)
        if self.rules.cursor_runs_ahead and after % 5 == 0:
            after = min(after + 1, len(self.log))
        return [record for record in records if record.entity in DOWN], left, after, after < len(self.log)

    def kept(self) -> set[str]:
        """Return what lies in the quarantine, as far as a later program can read it."""
        return {name_of(item) for channel, payload in self.quarantine for item in unpacked(channel, payload)[1]}

    def refused_keys(self) -> set[Key]:
        """Return the alerts that a station raised and that lie in the quarantine: it has them alone."""
        items = [item for channel, payload in self.quarantine for item in unpacked(channel, payload)[1]]
        return {(item.entity, item.row_id) for item in items if isinstance(item, Operation) and item.entity in OWN}

    def _apply(self, station: str, batch: Batch) -> bool:
        version, items = unpacked(batch.channel, batch.payload)
        held = self.rules.opened(version, items)
        if held is None:
            self.quarantine.append((batch.channel, batch.payload))
            return self.rules.quarantines
        for item in held:
            if not isinstance(item, Operation):
                if name_of(item) not in self.taken or not self.rules.dedupes_fixes:
                    self.taken[name_of(item)] += 1
            elif not self._take(replace(item, origin=station)):
                return False
        return True

    def _take(self, operation: Operation) -> bool:
        key: Key = (operation.entity, operation.row_id)
        if operation.id in self.outcomes and self.rules.dedupes_operations:
            self._answer(operation.origin, key)
            return True
        before = self.rows.get(*key)
        try:
            effects = decide(operation, self.rows)
        except RequestError:
            self.outcomes[operation.id] = "quarantined"
            self.quarantine.append(("records", packed("records", [operation], VERSION)))
            self._answer(operation.origin, key)
            return self.rules.quarantines
        self._look_for_unseen(operation, before, effects)
        for change in effects.changes:
            if change.kind == "insert":
                self.made_by.add((operation.origin, (change.record.entity, change.record.id)))
        self._write(effects, operation.id)
        self.outcomes[operation.id] = effects.outcome
        self.taken[operation.id] += 1
        if effects.lost:
            self.lost.add(operation.id)
        if effects.outcome in ("superseded", "duplicate"):
            self._tell(key)
        for each in dict.fromkeys([key, *((change.record.entity, change.record.id) for change in effects.changes)]):
            if not self.has(operation.origin, each):
                self._tell_one(operation.origin, each)
        return True

    def _look_for_unseen(self, operation: Operation, before: Record | None, effects: Effects) -> None:
        """Note a change of what someone else had said and the author of ``operation`` had never seen."""
        knew = self._knew.get(operation.id)
        if before is None or before.is_deleted or knew is None:
            return
        for change in effects.changes:
            names = before.columns if change.record.is_deleted else change.columns
            for name in names:
                mark, by = before.marks.get(name), self.set_by.get(((before.entity, before.id), name))
                if mark is None or mark.origin == operation.origin or by is None or by in knew:
                    continue
                if change.record.is_deleted or before.columns[name] != change.record.columns[name]:
                    self.overwritten.append(f"{operation.id} {name}")

    def _tell(self, key: Key) -> None:
        if self.rules.sends_rulings:
            self.log.append(key)

    def _answer(self, station: str, key: Key) -> None:
        """Tell of a record that a station spoke of; of one out of its scope, that it left."""
        self._tell(key)
        if not self.has(station, key):
            self._tell_one(station, key)

    def _tell_one(self, station: str, key: Key) -> None:
        self.own_lines[len(self.log)] = station
        self.log.append(key)

    def _write(self, effects: Effects, by: str) -> None:
        self.rows.take(effects)
        for change in effects.changes:
            key: Key = (change.record.entity, change.record.id)
            self.changes_of[key] = self.changes_of.get(key, frozenset()) | {by}
            self.set_by |= dict.fromkeys(((key, name) for name in change.columns), by)
        self.log += [(change.record.entity, change.record.id) for change in effects.changes]


class Lane:
    """What a station keeps for one channel: unsent items, what waits, what each acknowledged batch held."""

    def __init__(self, state: Sender) -> None:
        self.state = state
        self.unsent: list[Item | Again] = []
        self.waiting: list[Item] = []
        self.acknowledged: dict[int, list[Item]] = {}

    def copy(self) -> Lane:
        made = Lane(self.state)
        made.unsent, made.waiting, made.acknowledged = list(self.unsent), list(self.waiting), dict(self.acknowledged)
        return made


class Station:
    """One station's card, and how it holds a session."""

    def __init__(self, name: str, rules: Rules, rng: random.Random, knew: Seen) -> None:
        self.name = name
        self.rules = rules
        self.rng = rng
        self.version = VERSION
        self.epoch = self._new_epoch()
        self.lanes = {channel: Lane(Sender(self.epoch, channel)) for channel in CHANNELS}
        self.rows = Rows()
        self.cloud_epoch: int | None = None
        self.cursor = 0
        #: everything that was ever written to this card
        self.ever: set[str] = set()
        #: an edit that the cloud has not ruled on, and that something has taken away here
        self.untimely: list[str] = []
        self.forks = 0
        self._knew = knew
        self._heard_of: dict[Key, frozenset[str]] = {}
        #: tombstones of what left its scope, which is deleted nowhere else
        self.left: set[Key] = set()

    def copy(self) -> Station:
        made = Station.__new__(Station)
        for name in ("name", "rules", "rng", "version", "epoch", "cloud_epoch", "cursor", "untimely", "forks", "_knew"):
            setattr(made, name, getattr(self, name))
        made.lanes = {name: lane.copy() for name, lane in self.lanes.items()}
        made.rows, made.ever = Rows(self.rows.values()), set(self.ever)
        made._heard_of, made.left = dict(self._heard_of), set(self.left)
        return made

    # --- what happens here

    def edit(self, operation: Operation) -> list[str]:
        """Do what a person edits, or tell him why not; return the names of what waits for the cloud by it."""
        try:
            effects = decide(operation, self.rows)
        except RequestError:
            return []
        self.rows.take(effects)
        made = []
        for change in effects.changes:
            brought = bringing(operation, change)
            self._knew[brought.id] = self._heard_of.get((brought.entity, brought.row_id), frozenset())
            if not self.rules.names_base_revisions:
                brought = replace(brought, base_rev=2**40)
            made.append(self._post("alerts" if change.record.entity == "alert" else "records", brought))
        return made

    def post(self, item: Item) -> str:
        """Have something wait for the cloud that nobody here looks at."""
        return self._post("records" if isinstance(item, Operation) else "fixes", item)

    def _post(self, channel: Channel, item: Item) -> str:
        name = name_of(item)
        if isinstance(item, Operation) or name not in self.ever:
            self.lanes[channel].unsent.append(item)
            self.ever.add(name)
        return name

    @property
    def is_done(self) -> bool:
        """Whether nothing waits."""
        return not any(lane.unsent or lane.waiting for lane in self.lanes.values())

    # --- a session

    def talk(
        self, cloud: Cloud, ask: Callable[[Request], Receipt | StreamAnswer | None], reach: Callable[[], None]
    ) -> None:
        """Hold a session; ``ask`` brings a batch, ``reach`` is called for every other request. Both may raise Lost."""
        for channel in OF_OPERATIONS & set(CHANNELS):
            while self.lanes[channel].state.unacked is not None:
                self._send(cloud, channel, ask, reach)
        while self._send_first(cloud, "alerts", ask, reach):
            pass
        self._pull(cloud, reach)
        did_send = False
        while any(self._send_first(cloud, channel, ask, reach) for channel in CHANNELS):
            did_send = True
        if did_send:
            self._pull(cloud, reach)

    def _send_first(self, cloud: Cloud, channel: Channel, ask: Any, reach: Any) -> bool:
        lane = self.lanes[channel]
        if lane.state.unacked is None:
            if not lane.unsent:
                return False
            count = self.rng.randint(1, BATCH[channel])
            while lane.unsent and len(lane.waiting) < count:
                item = lane.unsent.pop(0)
                if (brought := self._as_it_stands(item) if isinstance(item, Again) else item) is not None:
                    lane.waiting.append(brought)
            if not lane.waiting:
                return False
            version = self.version if channel == "alerts" else VERSION
            lane.state = streams.freeze(lane.state, packed(channel, lane.waiting, version))
        self._send(cloud, channel, ask, reach)
        return True

    def _as_it_stands(self, again: Again) -> Operation | None:
        record = self.rows.get(again.entity, again.row_id)
        if record is None or record.is_deleted:
            return None
        entity = ENTITIES[record.entity]
        said = {name: value for name, value in record.columns.items() if value != entity.columns[name]}
        content = msgspec.msgpack.encode([record.entity, record.id, said]).hex()
        return Operation(
            id=derived_id(self.name, content), entity=record.entity, row_id=record.id, kind="insert", columns=said,
            author=record.author, base_rev=0, made_ms=record.created_ms,
        )  # fmt: skip

    def _send(self, cloud: Cloud, channel: Channel, ask: Any, reach: Any) -> None:
        lane = self.lanes[channel]
        batch = lane.state.unacked
        assert batch is not None
        answer = Answer(batch.epoch, batch.n, batch.hash, ask(Request(self.name, batch, batch.hash)))
        state, action = self.rules.answered(lane.state, answer)
        self._act(lane, state, action)
        if isinstance(action, ResumeFrom | StartOver):
            self._compare(cloud, reach)
        elif isinstance(action, streams.SendAgain):
            raise Lost  # after a pause, in another session

    def _act(self, lane: Lane, state: Sender, action: Action) -> None:
        lane.state = state
        match action:
            case SendNext(receipt):
                if self.rules.keeps_acknowledged:
                    lane.acknowledged[receipt.n] = lane.waiting
                lane.waiting = []
            case ResumeFrom(head):
                _send_again(lane, head.n)
            case StartOver():
                self.forks += 1
                self.epoch = self._new_epoch()
                for each in self.lanes.values():
                    _send_again(each, 0)
                    each.state = Sender(self.epoch, each.state.channel)
            case _:
                pass

    def _compare(self, cloud: Cloud, reach: Callable[[], None]) -> None:
        reach()
        epoch = self.epoch
        for channel, lane in self.lanes.items():
            if self.epoch == epoch and self.rules.compares_heads:
                head = cloud.heads.get((self.name, epoch, channel), GENESIS)
                self._act(lane, *streams.compared(lane.state, head))

    def _pull(self, cloud: Cloud, reach: Callable[[], None]) -> None:
        while True:
            reach()
            page = cloud.changes(self.name, self.cloud_epoch, self.cursor)
            if page is None:
                self.cloud_epoch, self.cursor = None, 0
                continue
            if cloud.epoch != self.cloud_epoch:
                self._compare(cloud, reach)
                self._begin_another_life()
            records, left, after, is_more = page
            self.cloud_epoch, self.cursor = cloud.epoch, after
            self._leave(left)
            self._take(records, cloud.changes_of)
            if not is_more:
                return

    def _begin_another_life(self) -> None:
        if self.rules.forgets_revisions_in_a_new_life:
            for record in self.rows.values():
                self.rows.put(replace(record, cloud_rev=0))
        if self.rules.offers_what_it_knows_in_a_new_life:
            self.lanes["records"].unsent += [
                Again(record.entity, record.id)
                for record in self.rows.values()
                if record.entity in DOWN and (record.entity, record.id) not in self.left
            ]
        if not self.rules.keeps_outbox_in_a_new_life:
            for lane in self.lanes.values():
                lane.unsent = []

    def _pending(self) -> dict[Key, dict[str, Any]]:
        pending: dict[Key, dict[str, Any]] = {}
        for lane in self.lanes.values():
            for item in (*lane.waiting, *lane.unsent):
                if isinstance(item, Operation):
                    pending.setdefault((item.entity, item.row_id), {}).update({**item.columns, "deleted_ms": None})
        return pending

    def _leave(self, keys: Sequence[Key]) -> None:
        pending = self._pending()
        for key in keys:
            effects = leave(*key, self.rows, pending.get(key, ()), 0)
            self.rows.take(effects)
            self.left |= {key} if effects.changes else set()

    def _take(self, records: Sequence[Record], changes_of: Mapping[Key, frozenset[str]]) -> None:
        pending = self._pending()
        self.left -= {(record.entity, record.id) for record in records}
        came = {(record.entity, record.id) for record in records}
        lane = self.lanes["records"]
        lane.unsent = [it for it in lane.unsent if not (isinstance(it, Again) and (it.entity, it.row_id) in came)]
        for record in records:
            key: Key = (record.entity, record.id)
            before = self.rows.get(*key)
            kept = pending.get(key, {}) if self.rules.keeps_edits_on_top else {}
            self.rows.take(take(record, self.rows, kept, record.updated_ms))
            after = self.rows.get(*key)
            self._heard_of[key] = self._heard_of.get(key, frozenset()) | changes_of[key]
            if key not in pending or before is None or after is None:
                continue
            for name in pending[key]:
                if name in after.columns and after.columns[name] != before.columns[name]:
                    self.untimely.append(f"{record.id} {name}")

    def _new_epoch(self) -> str:
        return f"{self.rng.getrandbits(64):016x}"


def _send_again(lane: Lane, after_n: int) -> None:
    again: list[Item | Again] = [it for n in sorted(lane.acknowledged) if n > after_n for it in lane.acknowledged[n]]
    lane.unsent = again + lane.waiting + lane.unsent
    lane.waiting = []
    lane.acknowledged = {n: kept for n, kept in lane.acknowledged.items() if n <= after_n}
