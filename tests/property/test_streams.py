"""Stations and a cloud over everything that goes wrong between them: nothing is lost, nothing is applied twice.

Requests and answers are lost, damaged, repeated and late; stations are put back to an old copy, cards are cloned, the
cloud is restored from a backup. Each rule of ``shared.sync.streams`` is then broken alone, and must be missed.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from shared.sync import streams
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
    chain_hash,
)

pytestmark = pytest.mark.sync

SEEDS = 3_000 if os.environ.get("OUTPOST_NIGHTLY") else 300
STEPS = 500
CHANNELS = ("alerts", "fixes")
_HEALING_ROUNDS = 400


class Rules:
    """The rules as they are; a mutant breaks one."""

    dedupes_operations = True
    restored_cloud_has_new_epoch = True
    keeps_acknowledged = True
    compares_heads = True

    def receive(self, head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
        return streams.receive(head, stored_hash, batch, claimed_hash)

    def answered(self, state: Sender, answer: Answer) -> tuple[Sender, Action]:
        return streams.answered(state, answer)


class Request(msgspec.Struct, frozen=True):
    station: str
    batch: Batch
    claimed_hash: bytes


class Cloud:
    """Heads, receipts and what was applied how often, in memory."""

    def __init__(self, rules: Rules, epoch: int = 0) -> None:
        self.rules = rules
        self.epoch = epoch
        self.heads: dict[tuple[str, str, str], Head] = {}
        self.receipts: dict[tuple[str, str, str, int], Receipt] = {}
        self.applied: Counter[int] = Counter()

    def copy(self) -> Cloud:
        made = Cloud(self.rules, self.epoch)
        made.heads, made.receipts, made.applied = dict(self.heads), dict(self.receipts), Counter(self.applied)
        return made

    def head(self, station: str, epoch: str, channel: str) -> Head:
        return self.heads.get((station, epoch, channel), GENESIS)

    def put(self, request: Request) -> Receipt | StreamAnswer | None:
        batch = request.batch
        stream = (request.station, batch.epoch, batch.channel)
        kept = self.receipts.get((*stream, batch.n))
        taken = self.rules.receive(
            self.heads.get(stream, GENESIS), kept.hash if kept else None, batch, request.claimed_hash
        )
        match taken:
            case Apply(head):
                operations: list[int] = msgspec.msgpack.decode(batch.payload, type=list[int])
                for operation in operations:
                    if operation not in self.applied or not self.rules.dedupes_operations:
                        self.applied[operation] += 1
                receipt = Receipt(n=head.n, hash=head.hash, counts={"applied": len(operations)})
                self.heads[stream] = head
                self.receipts[*stream, head.n] = receipt
                return receipt
            case Replay():
                assert kept is not None
                return kept
            case Gap() | Fork():
                return answer_of(taken)
            case Corrupt():
                return None


class Channel:
    """What a station keeps for one channel: unsent operations, what waits, what each acknowledged batch held."""

    def __init__(self, state: Sender) -> None:
        self.state = state
        self.unsent: list[int] = []
        self.waiting: list[int] = []
        self.acknowledged: dict[int, list[int]] = {}
        #: every operation that was ever written to this disk: what the station must still be able to send
        self.ever: set[int] = set()

    def add(self, operation: int) -> None:
        self.unsent.append(operation)
        self.ever.add(operation)

    def copy(self) -> Channel:
        made = Channel(self.state)
        made.unsent, made.waiting, made.acknowledged = list(self.unsent), list(self.waiting), dict(self.acknowledged)
        made.ever = set(self.ever)
        return made


class Station:
    """One station's disk; every answer goes through the rules."""

    def __init__(self, name: str, rules: Rules, rng: random.Random) -> None:
        self.name = name
        self.rules = rules
        self.rng = rng
        self.channels = {channel: Channel(Sender(self._new_epoch(), channel)) for channel in CHANNELS}
        self.cloud_epoch = 0

    def copy(self) -> Station:
        made = Station.__new__(Station)
        made.name, made.rules, made.rng, made.cloud_epoch = self.name, self.rules, self.rng, self.cloud_epoch
        made.channels = {name: channel.copy() for name, channel in self.channels.items()}
        return made

    def operations(self) -> set[int]:
        return set().union(*(channel.ever for channel in self.channels.values()))

    def is_done(self) -> bool:
        return not any(channel.unsent or channel.waiting for channel in self.channels.values())

    def next_request(self, name: str) -> Request | None:
        channel = self.channels[name]
        if channel.state.unacked is None:
            if not channel.unsent:
                return None
            count = self.rng.randint(1, 6)
            channel.waiting, channel.unsent = channel.unsent[:count], channel.unsent[count:]
            channel.state = streams.freeze(channel.state, msgspec.msgpack.encode(channel.waiting))
        batch = channel.state.unacked
        assert batch is not None
        return Request(self.name, batch, batch.hash)

    def hear(self, name: str, answer: Answer) -> None:
        channel = self.channels[name]
        self._act(channel, *self.rules.answered(channel.state, answer))

    def compare(self, cloud: Cloud) -> None:
        """Hear of the cloud's epoch; a new one has every head compared."""
        if self.cloud_epoch == cloud.epoch:
            return
        self.cloud_epoch = cloud.epoch
        for name, channel in self.channels.items():
            head = cloud.head(self.name, channel.state.epoch, name)
            if self.rules.compares_heads:
                self._act(channel, *streams.compared(channel.state, head))

    def _act(self, channel: Channel, state: Sender, action: Action) -> None:
        channel.state = state
        match action:
            case SendNext(receipt):
                if self.rules.keeps_acknowledged:
                    channel.acknowledged[receipt.n] = channel.waiting
                channel.waiting = []
            case ResumeFrom(head):
                self._send_again(channel, head.n)
            case StartOver():
                self._send_again(channel, 0)
                channel.state = Sender(self._new_epoch(), state.channel)
            case _:
                pass

    def _send_again(self, channel: Channel, after_n: int) -> None:
        again = [it for n in sorted(channel.acknowledged) if n > after_n for it in channel.acknowledged[n]]
        channel.unsent = again + channel.waiting + channel.unsent
        channel.waiting = []
        channel.acknowledged = {n: kept for n, kept in channel.acknowledged.items() if n <= after_n}

    def _new_epoch(self) -> str:
        return f"{self.rng.getrandbits(64):016x}"


class World:
    """Three stations, a cloud, a network that cannot be trusted."""

    def __init__(self, seed: int, rules: Rules) -> None:
        self.rng = random.Random(seed)
        self.rules = rules
        self.cloud = Cloud(rules)
        self.stations = [Station(f"s{number}", rules, self.rng) for number in range(3)]
        self.made: set[int] = set()
        #: made after the copy that a station or the cloud was put back to, and nowhere else: gone with the hardware
        self.gone: set[int] = set()
        self.requests: list[Request] = []
        self.answers: list[tuple[str, str, Answer]] = []
        self.events: Counter[str] = Counter()

    def make(self, station: Station, count: int = 1) -> None:
        for _ in range(count):
            operation = self.rng.getrandbits(60)
            self.made.add(operation)
            station.channels[self.rng.choice(CHANNELS)].add(operation)

    def send(self, station: Station, loss: float) -> None:
        name = self.rng.choice(CHANNELS)
        request = station.next_request(name)
        if request is None:
            return
        if self.rng.random() < loss:
            self.events["request lost"] += 1
            return
        if self.rng.random() < loss / 3:
            self.requests.append(request)
        if self.rng.random() < loss / 3:
            self.events["request damaged"] += 1
            operations = msgspec.msgpack.encode([self.rng.getrandbits(60)])
            request = replace(request, batch=replace(request.batch, payload=operations))
        said = self.cloud.put(request)
        batch = station.channels[name].state.unacked
        assert batch is not None
        answer = Answer(batch.epoch, batch.n, request.claimed_hash, said)
        if self.rng.random() < loss / 3:
            self.answers.append((station.name, name, answer))
        if self.rng.random() < loss:
            self.events["answer lost"] += 1
            return
        station.hear(name, answer)

    def deliver_late(self) -> None:
        if self.requests and self.rng.random() < 0.5:
            self.events["late request"] += 1
            self.cloud.put(self.requests.pop(self.rng.randrange(len(self.requests))))
        elif self.answers:
            self.events["late answer"] += 1
            owner, name, answer = self.answers.pop(self.rng.randrange(len(self.answers)))
            self.rng.choice([it for it in self.stations if it.name == owner]).hear(name, answer)

    def put_back(self, place: int, old: Station) -> None:
        """The station loses its newest data: a power cut, a restored backup."""
        self.events["station put back"] += 1
        before = self.owned()
        self.stations[place] = old.copy()
        self.gone |= before - self.owned() - set(self.cloud.applied)

    def clone(self, old: Station) -> None:
        self.events["card cloned"] += 1
        self.stations.append(old.copy())

    def restore(self, old: Cloud) -> None:
        self.events["cloud restored"] += 1
        lost = set(self.cloud.applied) - set(old.applied)
        epoch = self.cloud.epoch + 1
        self.cloud = old.copy()
        self.cloud.epoch = epoch if self.rules.restored_cloud_has_new_epoch else old.epoch
        self.gone |= lost - self.owned()

    def owned(self) -> set[int]:
        return set().union(*(station.operations() for station in self.stations))

    def heal(self) -> None:
        """The network is whole: late things arrive, then everybody sends until nothing waits."""
        while self.requests or self.answers:
            self.deliver_late()
        for _ in range(_HEALING_ROUNDS):
            for station in self.stations:
                station.compare(self.cloud)
                self.send(station, 0.0)
            if all(station.is_done() for station in self.stations):
                return

    def faults(self) -> list[str]:
        """Return what is wrong at the end; nothing is right."""
        applied = set(self.cloud.applied)
        found = []
        if not all(station.is_done() for station in self.stations):
            found.append("stuck")
        if self.made - self.gone - applied:
            found.append("lost")
        if applied - self.made:
            found.append("invented")
        if any(times != 1 for times in self.cloud.applied.values()):
            found.append("twice")
        if self.owned() - applied:
            found.append("acknowledged in vain")
        return found


Schedule = Callable[[World], None]


def anything(world: World) -> None:
    """Every fault, in any order."""
    rng = world.rng
    station_copies: list[tuple[int, Station]] = []
    cloud_copies: list[Cloud] = []
    clones = 0
    for _ in range(STEPS):
        place = rng.randrange(len(world.stations))
        station = world.stations[place]
        chance = rng.random()
        if chance < 0.35:
            world.make(station)
        elif chance < 0.72:
            world.send(station, 0.3)
        elif chance < 0.82:
            station.compare(world.cloud)
        elif chance < 0.90:
            world.deliver_late()
        elif chance < 0.94:
            station_copies.append((place, station.copy()))
        elif chance < 0.96 and station_copies:
            world.put_back(*rng.choice(station_copies))
        elif chance < 0.97 and station_copies and clones < 2:
            world.clone(rng.choice(station_copies)[1])
            clones += 1
        elif chance < 0.985:
            cloud_copies.append(world.cloud.copy())
        elif cloud_copies:
            world.restore(rng.choice(cloud_copies))
    world.heal()


def two_histories(world: World) -> None:
    """A clone writes the numbers that a restored cloud forgot; then the first station sends the one after them."""
    rng = world.rng
    first = world.stations[0]
    world.make(first, rng.randint(4, 12))
    _drain(world, first)
    backup = world.cloud.copy()
    world.clone(first)
    second = world.stations[-1]
    rounds = rng.randint(1, 3)
    _write(world, first, rounds)
    world.restore(backup)
    _write(world, second, rounds)
    if rng.random() < 0.2:
        first.compare(world.cloud)
    _write(world, first, 1)
    world.heal()


def quiet_end(world: World) -> None:
    """A bad link at the end of a short day: no later batch shows what an earlier answer got wrong."""
    rng = world.rng
    for step in range(60):
        station = rng.choice(world.stations)
        if step < 20:
            world.make(station)
        world.send(station, 0.5)
        if rng.random() < (0.2 if step < 20 else 0.8):
            world.deliver_late()
    world.heal()


def _write(world: World, station: Station, rounds: int) -> None:
    for _ in range(rounds):
        for channel in station.channels.values():
            operation = world.rng.getrandbits(60)
            world.made.add(operation)
            channel.add(operation)
        _drain(world, station)


def _drain(world: World, station: Station) -> None:
    while not station.is_done():
        world.send(station, 0.1)


SCHEDULES: tuple[Schedule, ...] = (anything, two_histories, quiet_end)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_nothing_is_lost_and_nothing_happens_twice(schedule: Schedule) -> None:
    events: Counter[str] = Counter()
    for seed in range(SEEDS):
        world = World(seed, Rules())
        schedule(world)
        assert world.faults() == [], f"seed {seed}"
        events += world.events
    if schedule is anything:
        assert min(events.values()) >= SEEDS / 3, events
        assert len(events) == 8, events


# -- each rule broken alone


class ReplaysByNumber(Rules):
    def receive(self, head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
        if batch.n <= head.n:
            return Replay()
        return super().receive(head, stored_hash, batch, claimed_hash)


class AcknowledgesByNumber(Rules):
    """A station that does not look whose hash a receipt has, against a cloud that replays by number."""

    def receive(self, head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
        if batch.n <= head.n:
            return Replay()
        return super().receive(head, stored_hash, batch, claimed_hash)

    def answered(self, state: Sender, answer: Answer) -> tuple[Sender, Action]:
        if isinstance(answer.said, Receipt) and state.unacked is not None:
            answer = replace(answer, said=replace(answer.said, hash=state.unacked.hash))
        return super().answered(state, answer)


class IgnoresPrevHash(Rules):
    def receive(self, head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
        taken = super().receive(head, stored_hash, batch, claimed_hash)
        if isinstance(taken, Fork) and batch.n == head.n + 1:
            return Apply(batch.head)
        return taken


class IgnoresGaps(Rules):
    def receive(self, head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
        taken = super().receive(head, stored_hash, batch, claimed_hash)
        return Apply(batch.head) if isinstance(taken, Gap) else taken


class TrustsTheWire(Rules):
    def receive(self, head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
        taken = super().receive(head, stored_hash, batch, claimed_hash)
        if isinstance(taken, Corrupt) and batch.n == head.n + 1 and batch.prev_hash == head.hash:
            return Apply(Head(batch.n, claimed_hash))
        return taken


class AppliesAgain(Rules):
    def receive(self, head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
        taken = super().receive(head, stored_hash, batch, claimed_hash)
        return Apply(head) if isinstance(taken, Replay) else taken

    dedupes_operations = False


class NoOperationIds(Rules):
    dedupes_operations = False


class OldCloudEpoch(Rules):
    restored_cloud_has_new_epoch = False


class NeverComparesHeads(Rules):
    compares_heads = False


class DropsAcknowledged(Rules):
    keeps_acknowledged = False


class KeepsItsEpoch(Rules):
    """A fork is answered by going on from the cloud's head."""

    def answered(self, state: Sender, answer: Answer) -> tuple[Sender, Action]:
        after, action = super().answered(state, answer)
        if isinstance(action, StartOver):
            assert isinstance(answer.said, StreamAnswer)
            head = answer.said.head
            return replace(state, acked=head, unacked=None), ResumeFrom(head)
        return after, action


class HearsLateReceipts(Rules):
    """Any receipt acknowledges what waits."""

    def answered(self, state: Sender, answer: Answer) -> tuple[Sender, Action]:
        batch = state.unacked
        if isinstance(answer.said, Receipt) and batch is not None:
            said = Receipt(n=batch.n, hash=batch.hash)
            return super().answered(state, Answer(batch.epoch, batch.n, batch.hash, said))
        return super().answered(state, answer)


class ForgetsOnFailure(Rules):
    """What was not answered is frozen anew from what is unsent, and what waited is taken for sent."""

    def answered(self, state: Sender, answer: Answer) -> tuple[Sender, Action]:
        after, action = super().answered(state, answer)
        batch = state.unacked
        if answer.said is None and batch is not None and not isinstance(action, streams.Ignore):
            receipt = Receipt(n=batch.n, hash=batch.hash)
            return super().answered(state, replace(answer, said=receipt))
        return after, action


MUTANTS = (
    AcknowledgesByNumber,
    ReplaysByNumber,
    IgnoresPrevHash,
    IgnoresGaps,
    TrustsTheWire,
    AppliesAgain,
    NoOperationIds,
    OldCloudEpoch,
    NeverComparesHeads,
    DropsAcknowledged,
    KeepsItsEpoch,
    HearsLateReceipts,
    ForgetsOnFailure,
)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_rule_is_noticed(mutant: type[Rules]) -> None:
    assert any(is_noticed(schedule, seed, mutant()) for seed in range(30) for schedule in SCHEDULES)


def test_without_prev_hash_two_histories_are_noticed_in_most_seeds() -> None:
    noticed = sum(is_noticed(two_histories, seed, IgnoresPrevHash()) for seed in range(30))
    assert noticed > 15


def is_noticed(schedule: Schedule, seed: int, rules: Rules) -> bool:
    world = World(seed, rules)
    try:
        schedule(world)
    except (AssertionError, KeyError, msgspec.DecodeError):
        return True
    return bool(world.faults())


def test_a_chain_is_told_by_its_last_hash() -> None:
    rng = random.Random(5)
    payloads = [rng.randbytes(rng.randint(0, 9)) for _ in range(50)]
    seen = set()
    hashed = GENESIS.hash
    for payload in payloads:
        hashed = chain_hash(hashed, payload)
        seen.add(hashed)
    assert len(seen) == len(payloads)


def test_a_batch_that_a_stick_brought_before_the_link_is_asked_for_again_and_never_unsent() -> None:
    """Frozen one behind the other; the cloud may stand at any of them, and only elsewhere is another history."""
    chain = [Batch("e", "fixes", 1, GENESIS.hash, b"1")]
    for n in range(2, 6):
        chain.append(Batch("e", "fixes", n, chain[-1].hash, str(n).encode()))
    ahead = {batch.n: batch.hash for batch in chain[2:]}
    state = Sender("e", "fixes", acked=chain[0].head, known={1: chain[0].hash}, unacked=chain[1], ahead=ahead)
    for batch in chain[1:]:
        assert streams.compared(state, batch.head) == (state, streams.SendAgain())
    after, action = streams.compared(state, Head(4, bytes(32)))
    assert (after, action) == (state, StartOver())
    after, action = streams.compared(state, GENESIS)  # a cloud that lost all: what is ahead is cut anew, too
    assert (after.unacked, after.ahead, action) == (None, {}, ResumeFrom(GENESIS))
    receipt = Receipt(n=2, hash=chain[1].hash)
    after, action = streams.answered(state, Answer("e", 2, chain[1].hash, receipt))
    assert (after.acked, after.ahead, action) == (chain[1].head, ahead, SendNext(receipt))
