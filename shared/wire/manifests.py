"""Signatures of models: over a manifest as it was written, which names its file by SHA-256; and over what to take.

A model is signed with the key of whoever publishes it, kept off every server; a home takes models of keys that its
configuration names and of no other. What a cloud sends down is signed with the key that its stations pinned with their
first roster, so that nobody between them, and no other cloud, can give a station a model.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import Forbidden, Invalid

_MANIFEST: Final = b"outpost model 1\0"
_SHELF: Final = b"outpost shelf 1\0"
KEY_DIGITS: Final = 64


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A version that a station shall take of a model file; 0: what came with its program.

    ``manifest`` and what follows are there where the version did not come with a program.
    """

    model: str
    name: str
    version: int
    manifest: str | None = None
    size: int = 0
    key: str = ""
    signature: str = ""


class StationShelf(msgspec.Struct, frozen=True, kw_only=True):
    """All choices for one station; ``issue`` grows with every choice within a life (``epoch``) of the cloud."""

    station_id: str
    epoch: str
    issue: int
    chosen: list[Chosen]


class SignedShelf(msgspec.Struct, frozen=True):
    """A shelf as it travels: its bytes and the signature over them."""

    shelf: bytes
    signature: bytes


def sign_manifest(seed: bytes, manifest: str) -> tuple[str, str]:
    """Return the public key and the signature of a manifest, in hex digits."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.public_key().public_bytes_raw().hex(), key.sign(_MANIFEST + manifest.encode()).hex()


def check_manifest(manifest: str, key: str, signature: str, publishers: Collection[str]) -> None:
    """Raise Forbidden unless one of ``publishers`` signed the manifest as it stands."""
    if not publishers:
        raise Forbidden(
            "this home takes no models: name the public keys of those who may publish them in models.publishers"
        )
    if key not in publishers:
        raise Forbidden("key: this home takes no models of this key; models.publishers names those that it takes")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(
            bytes.fromhex(signature), _MANIFEST + manifest.encode()
        )
    except (InvalidSignature, ValueError) as error:
        raise Forbidden("signature: the manifest is not what this key signed: nothing of it was taken") from error


def sign_shelf(seed: bytes, shelf: StationShelf) -> bytes:
    """Return a shelf as it travels."""
    body = msgspec.msgpack.encode(shelf)
    return msgspec.msgpack.encode(SignedShelf(body, Ed25519PrivateKey.from_private_bytes(seed).sign(_SHELF + body)))


def checked_shelf(sent: bytes, pinned: bytes, station_id: str) -> StationShelf:
    """Return a shelf that is genuine and for this station; raises Forbidden, Invalid for one of another program."""
    try:
        whole = msgspec.msgpack.decode(sent, type=SignedShelf)
        Ed25519PublicKey.from_public_bytes(pinned).verify(whole.signature, _SHELF + whole.shelf)
    except (msgspec.DecodeError, InvalidSignature, ValueError) as error:
        raise Forbidden("the list of models is not genuine: nothing of it was taken") from error
    try:
        shelf = msgspec.msgpack.decode(whole.shelf, type=StationShelf)
    except msgspec.DecodeError as error:
        raise Invalid(f"the list of models is not one that this station reads: {error}") from error
    if shelf.station_id != station_id:
        raise Forbidden("this list of models is of another station: nothing of it was taken")
    return shelf


def files_of(sent: bytes) -> list[str]:
    """Return the files (SHA-256) that a list of this home's own names, each once; raises Invalid for no list."""
    try:
        whole = msgspec.msgpack.decode(sent, type=SignedShelf)
        chosen = msgspec.msgpack.decode(whole.shelf, type=StationShelf).chosen
        named = [msgspec.json.decode(each.manifest, type=_Named).sha256 for each in chosen if each.manifest is not None]
    except msgspec.DecodeError as error:
        raise Invalid(f"the list of models cannot be read: {error}") from error
    return list(dict.fromkeys(named))


class _Named(msgspec.Struct, frozen=True):
    sha256: str
