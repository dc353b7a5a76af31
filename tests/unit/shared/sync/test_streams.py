"""One channel upstream, rule by rule."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from shared.errors import Invalid
from shared.sync.streams import (
    GENESIS,
    Answer,
    Apply,
    Batch,
    Corrupt,
    Exceptional,
    Fork,
    Gap,
    Head,
    Ignore,
    Receipt,
    Replay,
    ResumeFrom,
    SendAgain,
    Sender,
    SendNext,
    StartOver,
    StreamAnswer,
    answer_of,
    answered,
    chain_hash,
    compared,
    forget,
    freeze,
    receive,
)


def chain(*payloads: bytes, epoch: str = "e1") -> list[Batch]:
    batches: list[Batch] = []
    head = GENESIS
    for payload in payloads:
        batches.append(Batch(epoch, "fixes", head.n + 1, head.hash, payload))
        head = batches[-1].head
    return batches


OURS = chain(b"one", b"two", b"three")
THEIRS = chain(b"one", b"zwei", b"drei")


def test_a_hash_covers_all_that_came_before() -> None:
    first, second, _ = OURS
    assert first.hash == hashlib.sha256(bytes(32) + b"one").digest()
    assert second.hash == hashlib.sha256(first.hash + b"two").digest() == chain_hash(first.hash, b"two")
    assert second.hash != THEIRS[1].hash
    assert Head(0, bytes(32)) == GENESIS


def test_the_next_batch_is_applied() -> None:
    head = GENESIS
    for batch in OURS:
        taken = receive(head, None, batch, batch.hash)
        assert taken == Apply(batch.head)
        head = batch.head


def test_a_batch_that_was_applied_is_replayed() -> None:
    head = OURS[2].head
    for batch in OURS:
        assert receive(head, batch.hash, batch, batch.hash) == Replay()


def test_the_last_batch_is_known_by_the_head_where_its_receipt_is_gone() -> None:
    assert receive(OURS[1].head, None, OURS[1], OURS[1].hash) == Replay()
    assert receive(OURS[2].head, None, OURS[1], OURS[1].hash) == Fork(OURS[2].head)


def test_another_batch_of_an_applied_number_is_a_fork() -> None:
    head = OURS[2].head
    assert receive(head, OURS[1].hash, THEIRS[1], THEIRS[1].hash) == Fork(head)
    assert receive(head, OURS[2].hash, THEIRS[2], THEIRS[2].hash) == Fork(head)


def test_the_next_number_on_another_history_is_a_fork() -> None:
    head = OURS[1].head
    assert receive(head, None, THEIRS[2], THEIRS[2].hash) == Fork(head)


def test_a_number_that_is_not_next_is_a_gap() -> None:
    assert receive(OURS[0].head, None, OURS[2], OURS[2].hash) == Gap(OURS[0].head)
    assert receive(GENESIS, None, OURS[1], OURS[1].hash) == Gap(GENESIS)


def test_what_was_damaged_on_the_way_says_nothing_about_the_chain() -> None:
    head = OURS[1].head
    for batch in (OURS[0], OURS[1], OURS[2]):
        damaged = msgspec.structs.replace(batch, payload=batch.payload + b"!")
        assert receive(head, batch.hash, damaged, batch.hash) == Corrupt()
        assert receive(head, batch.hash, batch, bytes(32)) == Corrupt()
        elsewhere = msgspec.structs.replace(batch, prev_hash=bytes(31) + b"\1")
        assert receive(head, batch.hash, elsewhere, batch.hash) == Corrupt()
    # a hash that is one byte short may not move a byte into the payload
    shifted = Batch("e1", "fixes", 3, head.hash[:-1], head.hash[-1:] + b"three")
    assert shifted.hash == OURS[2].hash
    assert receive(head, None, shifted, shifted.hash) == Corrupt()


@pytest.mark.parametrize("n", [0, -1])
def test_numbers_begin_at_one(n: int) -> None:
    batch = Batch("e1", "fixes", n, bytes(32), b"")
    with pytest.raises(Invalid):
        receive(GENESIS, None, batch, batch.hash)


def test_refusals_tell_the_head() -> None:
    assert answer_of(Gap(GENESIS)) == StreamAnswer("gap", 0, bytes(32))
    assert answer_of(Fork(OURS[0].head)) == StreamAnswer("fork", 1, OURS[0].hash)
    assert answer_of(Fork(OURS[0].head)).head == OURS[0].head


def test_messages_survive_the_wire() -> None:
    receipt = Receipt(
        n=3,
        hash=OURS[2].hash,
        counts={"applied": 7, "quarantined": 1, "alias": 1},
        exceptions=(
            Exceptional(place=4, outcome="quarantined", code="invalid", detail="species: is required"),
            Exceptional(place=5, outcome="alias", kept_id="a1"),
            Exceptional(place=6, outcome="merged", lost=("name",)),
        ),
    )
    answer = StreamAnswer("gap", 3, OURS[2].hash)
    for codec in (msgspec.json, msgspec.msgpack):
        assert codec.decode(codec.encode(receipt), type=Receipt) == receipt
        assert codec.decode(codec.encode(answer), type=StreamAnswer) == answer
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"code":"other","last":1,"hash":""}', type=StreamAnswer)


# -- the station


def station(acked: int = 2, waiting: bytes | None = b"three") -> Sender:
    state = Sender("e1", "fixes")
    for batch in OURS[:acked]:
        state, action = answered(freeze(state, batch.payload), receipt_for(batch))
        assert isinstance(action, SendNext)
    return state if waiting is None else freeze(state, waiting)


def receipt_for(batch: Batch) -> Answer:
    return Answer(batch.epoch, batch.n, batch.hash, Receipt(n=batch.n, hash=batch.hash, counts={"applied": 1}))


def refusal(head: Head, of: Batch = OURS[2]) -> Answer:
    return Answer(of.epoch, of.n, of.hash, StreamAnswer("fork" if head.n >= of.n else "gap", head.n, head.hash))


def test_a_frozen_batch_follows_what_was_acknowledged() -> None:
    state = station()
    assert state.unacked == OURS[2]
    assert (state.acked, state.known) == (OURS[1].head, {1: OURS[0].hash, 2: OURS[1].hash})


def test_one_batch_waits_at_most() -> None:
    with pytest.raises(ValueError, match="at most one"):
        freeze(station(), b"four")


def test_a_receipt_moves_the_head() -> None:
    answer = receipt_for(OURS[2])
    state, action = answered(station(), answer)
    assert action == SendNext(Receipt(n=3, hash=OURS[2].hash, counts={"applied": 1}))
    assert state == Sender("e1", "fixes", OURS[2].head, {batch.n: batch.hash for batch in OURS})


def test_a_receipt_for_something_else_proves_nothing() -> None:
    wrong = Answer("e1", 3, OURS[2].hash, Receipt(n=3, hash=THEIRS[2].hash))
    assert answered(station(), wrong) == (station(), SendAgain())


def test_a_failure_sends_the_same_bytes_again() -> None:
    assert answered(station(), Answer("e1", 3, OURS[2].hash, None)) == (station(), SendAgain())


@pytest.mark.parametrize(
    "late",
    [
        msgspec.structs.replace(receipt_for(OURS[2]), epoch="e0"),
        receipt_for(OURS[1]),
        receipt_for(THEIRS[2]),
        refusal(GENESIS, OURS[1]),
        refusal(GENESIS, THEIRS[2]),
        Answer("e0", 3, OURS[2].hash, StreamAnswer("fork", 9, bytes(32))),
        Answer("e1", 2, OURS[1].hash, None),
    ],
)
def test_a_late_answer_changes_nothing(late: Answer) -> None:
    assert answered(station(), late) == (station(), Ignore())
    idle = station(waiting=None)
    assert answered(idle, late) == (idle, Ignore())


@pytest.mark.parametrize("head", [GENESIS, OURS[0].head])
def test_a_head_on_our_chain_is_resumed_from(head: Head) -> None:
    state, action = answered(station(), refusal(head))
    assert action == ResumeFrom(head)
    assert (state.acked, state.unacked, state.epoch) == (head, None, "e1")
    assert state.known == {batch.n: batch.hash for batch in OURS[: head.n]}
    again = freeze(state, OURS[head.n].payload)
    assert again.unacked == OURS[head.n]


@pytest.mark.parametrize("head", [THEIRS[1].head, Head(7, bytes(32)), Head(0, b"\1" * 32), Head(1, THEIRS[1].hash)])
def test_a_head_off_our_chain_begins_a_new_epoch(head: Head) -> None:
    assert answered(station(), refusal(head)) == (station(), StartOver())


def test_a_head_whose_hash_was_forgotten_begins_a_new_epoch() -> None:
    state = forget(station(), 1)
    assert state.known == {2: OURS[1].hash}
    assert answered(state, refusal(OURS[0].head))[1] == StartOver()
    assert answered(forget(state, 2), refusal(OURS[1].head))[1] == ResumeFrom(OURS[1].head)


def test_a_head_that_is_the_waiting_batch_asks_for_its_receipt() -> None:
    assert answered(station(), refusal(OURS[2].head)) == (station(), SendAgain())
    assert compared(station(), OURS[2].head) == (station(), SendAgain())


def test_heads_are_compared_without_anything_to_send() -> None:
    idle = station(acked=3, waiting=None)
    assert compared(idle, OURS[2].head) == (idle, Ignore())
    assert compared(station(), OURS[1].head) == (station(), Ignore())
    state, action = compared(idle, OURS[1].head)
    assert (state.acked, action) == (OURS[1].head, ResumeFrom(OURS[1].head))
    assert compared(idle, THEIRS[2].head) == (idle, StartOver())
    assert compared(Sender("e2", "fixes"), GENESIS) == (Sender("e2", "fixes"), Ignore())
