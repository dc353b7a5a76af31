"""Phones that a home knows: enrolled by a one-time code, known by a key that the phone made itself.

::

    code for a person -> QR -> phone makes a key -> code + public key + signature -> the phone is known, and logged in
                                                    number + signature            -> logged in again, with no password

A code is good once, for fifteen minutes, and of one person; it is kept as a hash. The phone's private key never leaves
it. A key alone lets rangers and viewers in, who must not be locked out of a phone that was away for months; whoever may
do more logs in with password and second factor, as ever. What a login by key may do never counts as a fresh factor.

No clock decides: each login by key carries a number above the last one, so that a copy of an old one is refused.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.accounts import audit, logins, sessions, users
from shared.accounts.checks import Checks
from shared.accounts.moments import Moment, is_within, packed, unpacked
from shared.accounts.users import Job, User
from shared.errors import Conflict, Forbidden, NotAuthenticated, NotFound
from shared.ids import random_id
from shared.privacy import Principal, Role
from shared.wire.link import CODE_ALPHABET, CODE_LENGTH, plain_code

#: So long a code is good.
CODE_S: Final = 900.0
#: Roles that a key alone lets in.
BY_KEY: Final[frozenset[Role]] = frozenset({"ranger", "viewer"})
_SPENT: Final = "this code is not known here, was used, or is older than fifteen minutes: ask for another one"
_UNKNOWN: Final = "this phone is not known here: enrol it again"
_NAMES: Final = "id, user_id, name, public_key, counter, enrolled_ms, used_ms, revoked_ms"


class Phone(msgspec.Struct, frozen=True, kw_only=True):
    """A phone that has enrolled; ``counter`` is the number of its last login by key."""

    id: str
    user_id: str
    name: str
    public_key: str
    counter: int
    enrolled_ms: int
    used_ms: int
    revoked_ms: int | None


class NewCode(msgspec.Struct, frozen=True):
    """A one-time code, shown once, and whose it is."""

    code: str
    user: User


def enrolment_text(home: str, code: str, public_key: str) -> bytes:
    """Return what a phone signs to enrol: so it has the key that it names, and the code is spent on no other."""
    return f"outpost phone enrol\n{home}\n{plain_code(code)}\n{public_key}".encode()


def login_text(home: str, phone_id: str, counter: int) -> bytes:
    """Return what a phone signs to log in."""
    return f"outpost phone login\n{home}\n{phone_id}\n{counter}".encode()


class Devices(Checks):
    """The phones of one home."""

    @property
    def home_name(self) -> str:
        """What a phone signs to be let in at this home and at no other."""
        return self.signer.home

    async def make_phone_code(self, actor: Principal, user_id: str | None) -> NewCode:
        """Make a code for oneself, or for somebody whose role one may give; raises NotFound or Forbidden."""
        now, code = self.moments(), "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))

        def job() -> Job[User]:
            user = yield from users.get(user_id or actor.user_id)
            if user.id != actor.user_id:
                self._may_grant(actor, user.role, user.stations)
            if not user.may_enter:
                raise Conflict("this account is shut out")
            yield "DELETE FROM phone_codes WHERE user_id = ? AND phone_id IS NULL", (user.id,)
            yield (
                "INSERT INTO phone_codes (hash, user_id, made_by, made, made_ms) VALUES (?, ?, ?, ?, ?)",
                (_hashed(code), user.id, actor.user_id, packed(now), now.ms),
            )
            yield from audit.write([audit.Entry(now.ms, actor.user_id, "phone.code", user.id)])
            return user

        return NewCode(_grouped(code), await self.tables.write(job()))

    async def _enrol_phone(
        self, code: str, public_key: str, signature: str, name: str, address: str
    ) -> tuple[Phone, User, sessions.Tokens]:
        """Take a code and make a phone known; the same phone may ask again where the answer was lost."""
        asked = _hashed(plain_code(code))
        await self._limit("phone", asked, address)
        _check_signed(public_key, signature, enrolment_text(self.home_name, code, public_key))
        now = self.moments()

        def job() -> Job[tuple[Phone, User, sessions.Tokens]]:
            rows = yield "SELECT user_id, made, phone_id FROM phone_codes WHERE hash = ?", (asked,)
            if not rows or not is_within(unpacked(rows[0][1]), now, CODE_S):
                raise NotAuthenticated(_SPENT)
            user_id, _, phone_id = rows[0]
            user = yield from users.get(user_id)
            if not user.may_enter:
                raise NotAuthenticated(_SPENT)
            phone = yield from (
                _enrolled(user, public_key, name, code, now) if phone_id is None else find_phone(phone_id)
            )
            if phone.public_key != public_key or phone.revoked_ms is not None:
                raise NotAuthenticated(_SPENT)
            return phone, user, (yield from sessions.begin(user, now, device_id=phone.id, factor=None))

        found = await self.tables.write(job())
        await self.tables.write(_forgiven(asked, address))
        return found

    async def _login_phone(
        self, phone_id: str, counter: int, signature: str, address: str
    ) -> tuple[User, sessions.Tokens]:
        """Let the person of a phone in by its key; raises NotAuthenticated, Forbidden, Conflict for an old number."""
        await self._limit("phone", phone_id, address)
        now = self.moments()

        def job() -> Job[tuple[User, sessions.Tokens]]:
            try:
                phone = yield from find_phone(phone_id)
                user = yield from users.get(phone.user_id)
            except NotFound:
                raise NotAuthenticated(_UNKNOWN) from None
            _check_signed(phone.public_key, signature, login_text(self.home_name, phone_id, counter))
            if phone.revoked_ms is not None or not user.may_enter:
                raise NotAuthenticated(_UNKNOWN)
            if user.role not in BY_KEY:
                raise Forbidden("a key alone lets rangers and viewers in: log in with password and second factor")
            if counter <= phone.counter:
                raise Conflict(f"counter: {phone.counter} was used; take a higher number")
            yield "UPDATE phones SET counter = ?, used_ms = ? WHERE id = ?", (counter, now.ms, phone_id)
            yield from audit.write([audit.Entry(now.ms, user.id, "login", f"phone {phone_id}")])
            yield from sessions.revoke_all(user.id, now.ms, device_id=phone_id)
            return user, (yield from sessions.begin(user, now, device_id=phone_id, factor=None))

        found = await self.tables.write(job())
        await self.tables.write(_forgiven(phone_id, address))
        return found

    async def phones(self, user_id: str | None) -> list[Phone]:
        """Return the phones of a person, or all of them; the newest first."""
        of, values = ("", ()) if user_id is None else (" WHERE user_id = ?", (user_id,))

        def job() -> Job[list[Phone]]:
            rows = yield f"SELECT {_NAMES} FROM phones{of} ORDER BY enrolled_ms DESC, id", values
            return [_phone(row) for row in rows]

        return await self.tables.read(job())

    async def revoke_phone(self, actor: Principal, phone_id: str) -> Phone:
        """Know a phone no more and end its sessions; one's own, or those of people whose role one may give."""
        now = self.moments()

        def job() -> Job[Phone]:
            phone = yield from find_phone(phone_id)
            if phone.user_id != actor.user_id:
                user = yield from users.get(phone.user_id)
                self._may_grant(actor, user.role, user.stations)
            yield "UPDATE phones SET revoked_ms = coalesce(revoked_ms, ?) WHERE id = ?", (now.ms, phone_id)
            yield from sessions.revoke_all(phone.user_id, now.ms, device_id=phone_id)
            yield from audit.write([audit.Entry(now.ms, actor.user_id, "phone.revoke", phone_id)])
            return (yield from find_phone(phone_id))

        return await self.tables.write(job())


def _enrolled(user: User, public_key: str, name: str, code: str, now: Moment) -> Job[Phone]:
    phone = Phone(
        id=random_id(), user_id=user.id, name=name, public_key=public_key, counter=0, enrolled_ms=now.ms,
        used_ms=now.ms, revoked_ms=None,
    )  # fmt: skip
    yield from insert_phone(phone)
    yield "UPDATE phone_codes SET phone_id = ? WHERE hash = ?", (phone.id, _hashed(plain_code(code)))
    yield from audit.write([audit.Entry(now.ms, user.id, "phone.enrol", phone.id)])
    return phone


def every_phone() -> Job[list[Phone]]:
    """Return all phones, lost ones too."""
    rows = yield f"SELECT {_NAMES} FROM phones ORDER BY id", ()
    return [_phone(row) for row in rows]


def insert_phone(phone: Phone) -> Job[None]:
    """Make a phone known."""
    yield f"INSERT INTO phones ({_NAMES}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(phone)


def find_phone(phone_id: str) -> Job[Phone]:
    """Return one phone; raises NotFound."""
    rows = yield f"SELECT {_NAMES} FROM phones WHERE id = ?", (phone_id,)
    if not rows:
        raise NotFound(f"there is no phone {phone_id}")
    return _phone(rows[0])


def _forgiven(account: str, address: str) -> Job[None]:
    yield from logins.forgive(f"phone account {account}")
    yield from logins.take_back(f"phone address {address}")


def _phone(row: tuple[object, ...]) -> Phone:
    names = [name.strip() for name in _NAMES.split(",")]
    return msgspec.convert(dict(zip(names, row, strict=True)), Phone)


def _check_signed(public_key: str, signature: str, text: bytes) -> None:
    """Raise NotAuthenticated unless ``text`` was signed with the private half of a key in hex digits."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        raise NotAuthenticated("signature: is not of this key") from None


def _hashed(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _grouped(code: str) -> str:
    return "-".join(code[start : start + 4] for start in range(0, len(code), 4))
