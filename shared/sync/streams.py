"""Both sides of one upstream channel: what the cloud does with a batch, what a station does with an answer.

A station's *stream* is (station, epoch, channel). In it goes a chain of *batches*, numbered from 1; each holds the hash
of the one before, so a number and a hash name all that was ever sent up to there::

    GENESIS = (0, 32 zero bytes)          hash(n) = sha256(hash(n - 1) || payload(n))          head = (n, hash(n))

Over a link a channel has one unacknowledged batch. Until it is answered, the same bytes are sent, however often. On a
stick go all that wait, frozen one behind the other: those *ahead* have numbers of the same chain, and the link sends
them one by one, as they are, where the stick has not brought them first.

The cloud keeps the head of each stream, and a *receipt* with the stored result of each batch. To a batch it says::

    what arrived does not hash to what was claimed      Corrupt   nothing can be concluded: send the same again
    n <= head.n, its receipt has this hash              Replay    the stored result once more, nothing is applied; the
                                                                  records it is about go down again
    n <= head.n otherwise                               Fork      someone else wrote this number
    n == head.n + 1, prev_hash == head.hash             Apply     rows, results, receipt, head: in one transaction
    n == head.n + 1 otherwise                           Fork      it stands on another history
    n >  head.n + 1                                     Gap       batches are missing: the cloud was restored

Corrupt comes first, so that a damaged request never looks like a fork. Gap and Fork tell the cloud's head.

The station keeps its acknowledged head, the hashes of acknowledged batches that it could send again, and the
unacknowledged batch. It says to an answer::

    about another epoch, or about another batch than the one that waits      Ignore      it is late
    acknowledged                                                             SendNext    the head moves
    corrupt, or no answer at all                                             SendAgain   the same bytes
    gap or fork, the cloud's head is a batch that waits, or one ahead        SendAgain   its receipt will come
    gap or fork, the cloud's head lies on our chain                          ResumeFrom  what is after it is sent again
    gap or fork otherwise                                                    StartOver   a new epoch, all that is kept

After a restore of the cloud the station compares heads also when it has nothing to send (``compared``).

Invariants

- A batch is applied at most once in its stream: the head moves by one, with the rows.
- What is acknowledged lies on the cloud's chain, or the next answer says so: a rewound station, a copy of its card and
  a restored cloud all end in a head that differs, never in silence.
- ResumeFrom and StartOver send again what the cloud may have: identities of fixes and ids of operations make that
  harmless. After ResumeFrom the batches behind the head are frozen anew and may hold other rows; their old hashes are
  forgotten, so that an answer about an old one is late, and a late old one that the cloud took shows as a fork.
- No clock: nothing here depends on when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from shared.errors import Invalid
from shared.sync.operations import Outcome

HASH_BYTES: Final = 32


class Head(msgspec.Struct, frozen=True):
    """How far a chain goes: the number and the hash of its last batch."""

    n: int
    hash: bytes


GENESIS: Final = Head(0, bytes(HASH_BYTES))


def chain_hash(prev_hash: bytes, payload: bytes) -> bytes:
    """Return the hash of a batch that follows ``prev_hash``."""
    return hashlib.sha256(prev_hash + payload).digest()


class Batch(msgspec.Struct, frozen=True):
    """One frozen batch; ``epoch`` is the station's, ``n`` counts from 1 in (epoch, channel)."""

    epoch: str
    channel: str
    n: int
    prev_hash: bytes
    payload: bytes

    @property
    def hash(self) -> bytes:
        """The hash of this batch and all before it."""
        return chain_hash(self.prev_hash, self.payload)

    @property
    def head(self) -> Head:
        """The head of the chain that ends with this batch."""
        return Head(self.n, self.hash)


# -- the cloud


class Apply(msgspec.Struct, frozen=True):
    """Apply the batch and move the stream's head to ``head``, in one transaction."""

    head: Head


class Replay(msgspec.Struct, frozen=True):
    """It was applied before: answer with its stored receipt."""


class Gap(msgspec.Struct, frozen=True):
    """Batches are missing between ``head`` and this one."""

    head: Head


class Fork(msgspec.Struct, frozen=True):
    """It contradicts what was applied up to ``head``."""

    head: Head


class Corrupt(msgspec.Struct, frozen=True):
    """What arrived is not what was sent."""


Reception: TypeAlias = Apply | Replay | Gap | Fork | Corrupt


def receive(head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
    """Return what the cloud does with ``batch`` on a stream that stands at ``head``.

    ``stored_hash`` is that of the receipt of ``batch.n``, None where there is none. Raises Invalid for ``n`` below 1.
    """
    if batch.n < 1:
        raise Invalid("n: batches are numbered from 1")
    arrived = batch.head
    if len(batch.prev_hash) != HASH_BYTES or arrived.hash != claimed_hash:
        return Corrupt()
    if batch.n <= head.n:
        known = head.hash if batch.n == head.n else stored_hash
        return Replay() if known == arrived.hash else Fork(head)
    if batch.n > head.n + 1:
        return Gap(head)
    return Apply(arrived) if batch.prev_hash == head.hash else Fork(head)


# -- on the wire


class Exceptional(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one operation that was not simply applied; ``place`` is its index in the batch."""

    place: int
    outcome: Outcome
    code: str | None = None
    detail: str | None = None
    kept_id: str | None = None
    lost: tuple[str, ...] = ()


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of 200: batch ``n`` with ``hash`` is applied, durably.

    ``counts`` has every operation by its outcome; ``exceptions`` those that the station must hear more of.
    """

    n: int
    hash: bytes
    counts: dict[Outcome, int] = {}
    exceptions: tuple[Exceptional, ...] = ()


class StreamAnswer(msgspec.Struct, frozen=True):
    """The body of 409: nothing was applied; ``last`` and ``hash`` are the head of the cloud's chain."""

    code: Literal["gap", "fork"]
    last: int
    hash: bytes

    @property
    def head(self) -> Head:
        """The head of the cloud's chain."""
        return Head(self.last, self.hash)


def answer_of(refused: Gap | Fork) -> StreamAnswer:
    """Return the body that tells a station of a gap or a fork."""
    return StreamAnswer("gap" if isinstance(refused, Gap) else "fork", refused.head.n, refused.head.hash)


# -- the station


class Sender(msgspec.Struct, frozen=True):
    """One channel of a station: ``known`` has the hashes of acknowledged batches that it could send again.

    ``ahead`` has the hashes of batches that were frozen behind the one that waits, and went on a stick.
    """

    epoch: str
    channel: str
    acked: Head = GENESIS
    known: Mapping[int, bytes] = {}
    unacked: Batch | None = None
    ahead: Mapping[int, bytes] = {}


class Answer(msgspec.Struct, frozen=True):
    """What came back for one request: whose it is, and what was said.

    ``epoch``, ``n`` and ``hash`` are those of the batch that was sent. ``said`` is None for everything that is neither
    a receipt nor about the stream: corrupt in transit, timeouts, errors of the server.
    """

    epoch: str
    n: int
    hash: bytes
    said: Receipt | StreamAnswer | None


class Ignore(msgspec.Struct, frozen=True):
    """The answer is late, or there is nothing to do."""


class SendNext(msgspec.Struct, frozen=True):
    """The batch is acknowledged: keep its range and hash, store what its receipt says, freeze the next."""

    receipt: Receipt


class SendAgain(msgspec.Struct, frozen=True):
    """Send the same bytes again, after a pause."""


class ResumeFrom(msgspec.Struct, frozen=True):
    """The cloud stands at ``head``: everything behind it is unsent again."""

    head: Head


class StartOver(msgspec.Struct, frozen=True):
    """Begin a new epoch (``Sender(new_epoch, channel)``): everything retained is unsent again.

    The state that comes with it is the old one, which meets the same answer again should the station fall before the
    new epoch is stored.
    """


Action: TypeAlias = Ignore | SendNext | SendAgain | ResumeFrom | StartOver


def freeze(state: Sender, payload: bytes) -> Sender:
    """Return ``state`` with ``payload`` as its unacknowledged batch; raises ValueError where one waits already."""
    if state.unacked is not None:
        raise ValueError("a channel has at most one unacknowledged batch")
    batch = Batch(state.epoch, state.channel, state.acked.n + 1, state.acked.hash, payload)
    return replace(state, unacked=batch)


def answered(state: Sender, answer: Answer) -> tuple[Sender, Action]:
    """Return the state after ``answer``, and what to do."""
    batch = state.unacked
    if batch is None or (answer.epoch, answer.n, answer.hash) != (batch.epoch, batch.n, batch.hash):
        return state, Ignore()
    said = answer.said
    if said is None:
        return state, SendAgain()
    if isinstance(said, StreamAnswer):
        return _placed(state, said.head)
    if (said.n, said.hash) != (batch.n, batch.hash):  # a receipt for something else proves nothing
        return state, SendAgain()
    return replace(state, acked=batch.head, known={**state.known, batch.n: batch.hash}, unacked=None), SendNext(said)


def compared(state: Sender, head: Head) -> tuple[Sender, Action]:
    """Return the state after the cloud told its ``head`` of this stream, and what to do."""
    if head == state.acked:
        return state, Ignore()
    return _placed(state, head)


def forget(state: Sender, up_to_n: int) -> Sender:
    """Return ``state`` without the hashes of batches up to ``up_to_n``, whose rows are no longer retained for it."""
    return replace(state, known={n: hashed for n, hashed in state.known.items() if n > up_to_n})


def _placed(state: Sender, head: Head) -> tuple[Sender, Action]:
    if state.unacked is not None and (head == state.unacked.head or state.ahead.get(head.n) == head.hash):
        return state, SendAgain()
    if head not in (GENESIS, state.acked) and state.known.get(head.n) != head.hash:
        return state, StartOver()
    known = {n: hashed for n, hashed in state.known.items() if n <= head.n}
    return replace(state, acked=head, known=known, unacked=None, ahead={}), ResumeFrom(head)
