"""What lies on a USB stick that is carried between a station and the cloud, in either direction.

A *bundle* is a folder; who finds it learns which station it is of, how large it is, and nothing else::

    up-<station>-<number>-<id>/    manifest.json    what it is, and size and SHA-256 of each part
                                   manifest.sig     the sender's Ed25519 signature over those bytes
                                   part-0001 ...    sealed for the receiver: a list of messages in MessagePack

Up go a request and the station's batches as the link would send them, the same bytes under the same numbers; down go
a reply, receipts and pages of what changed, as the link would answer. So there is one protocol: whatever is read twice,
late or never is to the other side what a request or an answer is that is repeated, late or lost.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.accounts.sealing import seal_bytes_for, unseal_bytes
from shared.errors import Forbidden, Invalid
from shared.sync.streams import Head, StreamAnswer
from shared.wire.link import Changes, Channel, Clashes, HeardFixes

FORMAT: Final = 1
#: A part is closed when it holds so much, and one beyond the second number is not read.
PART_BYTES: Final = 4 << 20
MAX_PART_BYTES: Final = 32 << 20
MAX_MANIFEST_BYTES: Final = 1 << 20
_CONTEXT: Final = b"outpost stick 1\0"

Direction = Literal["up", "down"]


class Request(msgspec.Struct, frozen=True, kw_only=True, tag="request"):
    """First in a bundle that goes up: where the station stands. ``number`` counts its sticks."""

    station_id: str
    number: int
    epoch: str
    cloud_epoch: str | None
    cursor: int
    heard_cursor: int
    heard_after: str | None
    #: the cloud's epoch and a number, as the station keeps them
    clashes: str | None
    #: the last number of each channel that the station has a receipt for
    acked: dict[Channel, int]
    #: the version of records that the station reads
    schema: int = 1
    #: and that of fixes
    fixes_schema: int = 1
    #: files of which it wants to hear how far they have come
    files: list[str] = []
    #: the list of models that it took last (life of the cloud and number), and how much it has of model files
    models: str | None = None
    has: dict[str, int] = {}


class Carried(msgspec.Struct, frozen=True, kw_only=True, tag="batch"):
    """One batch; see ``shared.sync.streams``."""

    epoch: str
    channel: Channel
    n: int
    prev_hash: bytes
    hash: bytes
    payload: bytes


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag="reply"):
    """First in a bundle that goes down: what it answers, the cloud's life, heads of the epoch that was asked about."""

    asked: Request
    cloud_epoch: str
    heads: dict[Channel, Head]
    roster: bytes | None


class Receipted(msgspec.Struct, frozen=True, kw_only=True, tag="receipt"):
    """The receipt of one batch, in the bytes in which the link would give it."""

    epoch: str
    channel: Channel
    n: int
    receipt: bytes


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """A batch that was not applied, and where the cloud stood."""

    epoch: str
    channel: Channel
    n: int
    hash: bytes
    said: StreamAnswer


class ChangesPage(msgspec.Struct, frozen=True, tag="changes"):
    """What changed after ``since``."""

    since: int
    page: Changes


class HeardPage(msgspec.Struct, frozen=True, tag="heard"):
    """Fixes that the cloud took itself, after a cursor."""

    since: int
    after: str | None
    page: HeardFixes


class FilePart(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """A part of a file, a photograph on its way up or a model on its way down; the rest may lie on another stick."""

    sha256: str
    size: int
    offset: int
    media_type: str
    owner: str | None
    part: bytes


class FileAt(msgspec.Struct, frozen=True, tag="file_at"):
    """How many bytes of a file the cloud has."""

    sha256: str
    received: int


class ModelList(msgspec.Struct, frozen=True, tag="models"):
    """Which models the station shall take: signed, as a link would bring it."""

    shelf: bytes


class ClashesPage(msgspec.Struct, frozen=True, tag="clashes"):
    """Conflicts after ``since``."""

    since: int
    page: Clashes


Message: TypeAlias = (
    Request
    | Carried
    | Reply
    | Receipted
    | Refused
    | ChangesPage
    | HeardPage
    | ClashesPage
    | FilePart
    | FileAt
    | ModelList
)


class Part(msgspec.Struct, frozen=True):
    """A file of a bundle."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle is."""

    direction: Direction
    station: str
    number: int
    id: str
    parts: tuple[Part, ...]
    format: int = FORMAT


def sealed_part(public_key: bytes, bundle_id: str, index: int, messages: list[Message]) -> bytes:
    """Return messages as only the owner of an Ed25519 key reads them, in their place of their bundle."""
    return seal_bytes_for(public_key, msgspec.msgpack.encode(messages), _place(bundle_id, index))


def opened_part(private_key: bytes, bundle_id: str, index: int, sealed: bytes) -> list[Message]:
    """Return the messages of a part; raises Invalid."""
    try:
        plain = unseal_bytes(private_key, sealed, _place(bundle_id, index))
        return msgspec.msgpack.decode(plain, type=list[Message])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"part {index} of this stick is not understood: a later version wrote it?") from error


def part_of(name: str, sealed: bytes) -> Part:
    """Return what a manifest says of a part."""
    return Part(name, len(sealed), hashlib.sha256(sealed).hexdigest())


def signed_manifest(private_key: bytes, manifest: Manifest) -> tuple[bytes, bytes]:
    """Return a manifest's bytes and the signature over them."""
    body = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    return body, Ed25519PrivateKey.from_private_bytes(private_key).sign(_CONTEXT + body).hex().encode()


def manifest_of(body: bytes) -> Manifest:
    """Return a manifest that nobody has checked yet; raises Invalid."""
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the manifest is damaged, or of a later version: {error}") from error
    if manifest.format != FORMAT:
        raise Invalid(f"the stick has format {manifest.format}, this program reads {FORMAT}: bring it up to date")
    return manifest


def check_signature(public_key: bytes, body: bytes, signature: bytes) -> None:
    """Raise Forbidden unless the owner of ``public_key`` signed a manifest."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(bytes.fromhex(signature.decode("ascii")), _CONTEXT + body)
    except (InvalidSignature, ValueError) as error:
        raise Forbidden("the stick is not signed by who it says it is of: nothing of it was taken") from error


def _place(bundle_id: str, index: int) -> str:
    return f"stick {bundle_id} {index}"
