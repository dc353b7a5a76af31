"""What a station and the cloud say to each other over HTTP, besides the batches themselves.

::

    POST /api/v1/stations/enrol                                         {code, public_key} -> Enrolled
    PUT  /api/v1/stations/{id}/streams/{epoch}/{channel}/batches/{n}    a batch -> Receipt | 409 StreamAnswer
    GET  /api/v1/stations/{id}/streams/{epoch}                          Heads
    GET  /api/v1/stations/{id}/changes?epoch=&since=&limit=             Changes | 410 must_refetch
    GET  /api/v1/stations/{id}/heard?epoch=&since=&after=&limit=        HeardFixes | 410 must_refetch
    GET  /api/v1/stations/{id}/heard/newest?epoch=&since=&limit=        HeardFixes | 410 must_refetch
    GET  /api/v1/stations/{id}/fixes?collar_id=&after=&limit=           FixPage
    GET  /api/v1/stations/{id}/roster                                   a signed roster (shared.accounts.roster)
    PUT  /api/v1/stations/{id}/roster                                   HandOver: people that the station made
    PUT  /api/v1/stations/{id}/audit/lines                              lines of its audit log (shared.accounts.audit)

All but the first are signed with the station's key (``shared.wire.signatures``). Bodies are MessagePack
(``application/msgpack``) except of enrolment and errors, which a person may read: JSON. A batch goes with its claims in
headers: ``Outpost-Previous`` and ``Outpost-Hash``, hex digits. An HTTP error means that nothing was applied and the
same bytes may be sent again; an item that cannot be taken is never an error but an exception in the receipt.

What an older peer sees: unknown fields are left out; a batch of a newer version is not taken and not put aside but
answered with 426 ``batch_too_new``: its channel waits, the others go on.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from shared.errors import Invalid
from shared.sync.clashes import Clash
from shared.sync.decisions import Decision
from shared.sync.records import EntityName
from shared.sync.streams import Head

MESSAGES: Final = "application/msgpack"
BATCH: Final = "application/vnd.outpost.batch"
PREVIOUS: Final = "Outpost-Previous"
HASH: Final = "Outpost-Hash"
#: Lines of the audit log in one request.
MAX_AUDIT_LINES: Final = 200
#: How far a file has come, and its whole size, as resumable uploads on the web name them.
OFFSET: Final = "Upload-Offset"
LENGTH: Final = "Upload-Length"

#: Channels by priority: each is a stream of its own, so a backlog in one never delays another. ``alerts``; the newest
#: position of each collar while a backlog waits; what people edit; the fixes; decisions on fixes, which need them; what
#: the station's models said; frames as they were heard.
Channel = Literal["alerts", "newest", "records", "fixes", "flags", "results", "frames"]
CHANNELS: Final[tuple[Channel, ...]] = ("alerts", "newest", "records", "fixes", "flags", "results", "frames")
#: Channels that nobody misses while they wait. A cloud of before does not know them: there they are held. No stick
#: carries them, because a program of before reads all of one or nothing; of a capped link they may use half.
SPARE: Final[frozenset[Channel]] = frozenset({"results", "frames"})
#: Channels whose batches hold fixes, and those whose batches hold operations; ``flags`` holds decisions.
OF_FIXES: Final[frozenset[Channel]] = frozenset({"newest", "fixes"})
OF_OPERATIONS: Final[frozenset[Channel]] = frozenset({"alerts", "records"})

#: Records that the cloud sends down. A record comes as it stands, tombstones too.
DOWN: Final[tuple[EntityName, ...]] = (
    "animal", "collar", "deployment", "zone", "corridor", "team", "ranger", "patrol_route", "observation", "alert",
    "patrol_log", "patrol",
)  # fmt: skip
#: Of these a station is sent those that it entered itself: what became of them, and all of them when it was restored.
OWN: Final[tuple[EntityName, ...]] = ("alert", "patrol_log", "patrol")
MAX_CHANGES: Final = 1_000
MAX_FIXES: Final = 5_000
MAX_CLASHES: Final = 200

#: A one-time code: letters and digits that are not taken for one another (Crockford's base 32), 80 bits in groups.
CODE_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_LENGTH: Final = 16


class EnrolIn(msgspec.Struct, frozen=True):
    """A station makes itself known: the code that a person brought, and its public key (Ed25519, hex digits)."""

    code: str
    public_key: str


class Enrolled(msgspec.Struct, frozen=True):
    """The cloud's answer: the name under which the station signs from now on."""

    station_id: str
    name: str
    cloud_epoch: str


class Heads(msgspec.Struct, frozen=True):
    """The heads of a station's streams in one epoch, by channel; a channel that is not there has none."""

    heads: dict[Channel, Head]


class Changes(msgspec.Struct, frozen=True):
    """Records that changed in the cloud after a cursor; ``batch`` holds them (``shared.wire.batch.decode_records``).

    ``next`` is the cursor after them; ``is_more`` says that asking again brings more at once. ``left`` are records that
    are not in the station's scope any more: they go from it, and are not deleted. A station of before keeps them.
    """

    epoch: str
    next: int
    is_more: bool
    batch: bytes
    left: list[tuple[EntityName, str]] = []


class Clashes(msgspec.Struct, frozen=True):
    """Conflicts that concern a station, after a number of the cloud's; a cloud that knows no such path has none."""

    epoch: str
    next: int
    is_more: bool
    clashes: list[Clash]


class HeardFixes(msgspec.Struct, frozen=True):
    """Fixes that came to the cloud another way: over the internet, and those that other stations brought of what is in
    the station's scope. ``batch`` holds them (``shared.wire.batch.decode_fixes``).

    ``next`` and ``after`` together are the cursor after them: a number of the cloud's changes and, where a page ended
    among the fixes of one change, the id of the last one in hex digits. A cloud that knows no such path has none.
    ``decisions`` are what people decided elsewhere of these fixes, and of others that the station has.
    """

    epoch: str
    next: int
    after: str | None
    is_more: bool
    batch: bytes
    decisions: list[Decision] = []


class FixPage(msgspec.Struct, frozen=True):
    """Fixes of one collar by time and id; ``batch`` holds them (``shared.wire.batch.decode_fixes``).

    ``last`` is the id of the last one, hex digits, to go on after; None where there are no more.
    """

    last: str | None
    batch: bytes


def plain_code(typed: str) -> str:
    """Return a one-time code as it is compared: without spaces and hyphens, look-alikes read as what they stand for."""
    code = "".join(typed.split()).replace("-", "").upper().replace("O", "0").replace("I", "1").replace("L", "1")
    if len(code) != CODE_LENGTH or any(letter not in CODE_ALPHABET for letter in code):
        raise Invalid(f"code: has {CODE_LENGTH} letters and digits in groups of four, as the cloud printed it")
    return code
