"""The roster: who may log in at a station, as the cloud signs it and a station without internet trusts it.

A roster is for one station and numbered; the station takes only higher numbers, signed by the key that it pinned when
it first heard of the cloud. It holds no secret in the clear: passwords are Argon2id hashes, TOTP seeds are sealed for
the station's own key. Rangers are never shut out by its age; administrators and managers need a recovery code to log in
where it is older than 90 days, and everybody sees its age from 30 days on.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.accounts.travelling import KnownPhone
from shared.errors import Forbidden
from shared.privacy import Role

WARN_MS: Final = 30 * 86_400_000
STRICT_MS: Final = 90 * 86_400_000
#: Beyond this a roster is of no use whatever a clock says of its age.
LIFE_MS: Final = 10 * 365 * 86_400_000
MAX_USERS: Final = 10_000
_CONTEXT: Final = b"outpost roster 1\0"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A person on a roster; ``totp`` is sealed for the station."""

    id: str
    email: str
    name: str
    role: Role
    phone: str | None = None
    organization: str | None = None
    stations: tuple[str, ...] = ()
    is_active: bool = True
    password_hash: str | None = None
    totp: str | None = None
    totp_step: int = 0
    recovery: tuple[str, ...] = ()
    updated_ms: int = 0


class Roster(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody of one station."""

    station_id: str
    version: int
    issued_ms: int
    not_after_ms: int
    users: list[Entry]
    phones: list[KnownPhone] = []


class Signed(msgspec.Struct, frozen=True):
    """A roster as it travels: its bytes, the signature over them, the key to check it with."""

    roster: bytes
    signature: bytes
    key: bytes


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """What a station tells the cloud of its people: those that it made, recovery codes that were used, phones."""

    users: list[Entry]
    spent: dict[str, list[str]] = {}
    phones: list[KnownPhone] = []


def signed(seed: bytes, roster: Roster) -> bytes:
    """Return a roster as it travels."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    body = msgspec.msgpack.encode(roster)
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return msgspec.msgpack.encode(Signed(body, key.sign(_CONTEXT + body), public))


def verified(sent: bytes, pinned: bytes | None, station_id: str, last_version: int) -> tuple[Roster, bytes]:
    """Return a roster that is genuine, and the key that signed it; raises Forbidden.

    ``pinned`` is the key that the station has come to trust; None: this is the first, and its key is taken.
    """
    try:
        whole = msgspec.msgpack.decode(sent, type=Signed)
        if pinned is not None and whole.key != pinned:
            raise Forbidden("the roster is signed by another key than before: enrol this station anew if that is meant")
        Ed25519PublicKey.from_public_bytes(whole.key).verify(whole.signature, _CONTEXT + whole.roster)
        roster = msgspec.msgpack.decode(whole.roster, type=Roster)
    except (msgspec.DecodeError, InvalidSignature, ValueError) as error:
        raise Forbidden("the roster is not genuine: nothing of it was taken") from error
    if roster.station_id != station_id:
        raise Forbidden("this roster is of another station: nothing of it was taken")
    if roster.version <= last_version:
        raise Forbidden("this roster is older than the one that is here: nothing of it was taken")
    if len(roster.users) > MAX_USERS:
        raise Forbidden(f"this roster names more than {MAX_USERS} people: nothing of it was taken")
    return roster, whole.key
