"""Access tokens: JWTs signed with Ed25519, fifteen minutes long; refresh tokens: opaque, random, kept as hashes.

The header names the key (``kid``) and the type (``typ`` is ``at+jwt``, RFC 9068); only EdDSA is read, and keys come
from this home alone: a token that brings a key or the address of one is refused. Claims: iss and aud (the home), sub,
iat, exp, jti, sid (the session) and two of ours, ``boot`` and ``mono_ms``: expiry follows ``shared.accounts.moments``,
so a wrong clock neither ends a token early nor lets one live on.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.accounts import sealing
from shared.accounts.fields import FIRST
from shared.accounts.moments import Moment, elapsed_s
from shared.errors import NotAuthenticated

ACCESS_S: Final = 900
TYPE: Final = "at+jwt"
_ALGORITHM: Final = "EdDSA"
_KID: Final = re.compile("[0-9a-f]{8}")
_REFRESH_BYTES: Final = 32
#: So many tokens are kept as they were read: the same is shown with every request.
_MOST_READ: Final = 1_024
#: Room for our claims, a small part of what servers take as a header.
_LONGEST: Final = 4_096


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid token says; ``session_id`` is empty for one that was made on the machine itself."""

    user_id: str
    session_id: str
    made: Moment
    token_id: str
    #: the name of the key that signed
    key: str


class Signer:
    """Makes and reads the access tokens of one home: ``home`` is issuer and audience.

    Its keys follow from ``seed`` and their names; ``current`` is the one that signs. Whether a key that signed still
    counts is asked of the home (``shared.accounts.rotation``).
    """

    def __init__(self, seed: bytes, home: str, current: str = FIRST) -> None:
        self._seed = seed
        self._home = home
        self._keys: dict[str, Ed25519PrivateKey] = {}
        self.current = current
        self._read: dict[bytes, Claims] = {}
        raw = self._key(FIRST).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        #: what the first key is called in a token, from before keys had names
        self._first = hashlib.sha256(raw).hexdigest()[:16]

    @property
    def kid(self) -> str:
        """What the key that signs is called in a token."""
        return self._first if self.current == FIRST else self.current

    def _key(self, name: str) -> Ed25519PrivateKey:
        if name in self._keys:
            return self._keys[name]
        key = Ed25519PrivateKey.from_private_bytes(
            self._seed if name == FIRST else sealing.derived(self._seed, f"token key {name}")
        )
        if name == self.current:  # a name comes with a token: what anybody may send is not kept
            self._keys[name] = key
        return key

    @property
    def home(self) -> str:
        """The home whose tokens these are."""
        return self._home

    def access_token(self, user_id: str, session_id: str, now: Moment) -> str:
        """Return a token for a user."""
        issued_s = now.ms // 1000
        claims: dict[str, Any] = {
            "iss": self._home, "aud": self._home, "sub": user_id, "iat": issued_s, "exp": issued_s + ACCESS_S,
            "jti": secrets.token_hex(8), "sid": session_id, "boot": now.boot, "mono_ms": now.mono_ms, "ms": now.ms,
            "sure": now.is_sure,
        }  # fmt: skip
        return jwt.encode(claims, self._key(self.current), algorithm=_ALGORITHM, headers={"kid": self.kid, "typ": TYPE})

    def read(self, token: str, now: Moment) -> Claims:
        """Return what a token says; raises NotAuthenticated for one that is forged, foreign or expired."""
        shown = hashlib.sha256(token.encode(errors="replace")).digest()
        if (found := self._read.get(shown)) is None:
            found = self._verified(token)
            if len(self._read) >= _MOST_READ:
                self._read.clear()
            self._read[shown] = found
        passed_s = elapsed_s(found.made, now)
        if passed_s is None or passed_s > ACCESS_S:
            raise NotAuthenticated("this token has expired: fetch another with the refresh token")
        return found

    def _verified(self, token: str) -> Claims:
        """Return what a token says, whenever it was made; raises NotAuthenticated for one that is forged or foreign."""
        try:
            if len(token) > _LONGEST:
                raise NotAuthenticated("this is no token of this home")
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            if header.get("typ") != TYPE or not isinstance(kid, str) or not (kid == self._first or _KID.fullmatch(kid)):
                raise NotAuthenticated("this token is not of this home: log in here")
            name = FIRST if kid == self._first else kid
            claims = jwt.decode(
                token, self._key(name).public_key(), algorithms=[_ALGORITHM], audience=self._home, issuer=self._home,
                options={
                    "require": ["iss", "aud", "sub", "iat", "exp", "jti"],
                    # the library asks the wall clock; ours is asked with every request
                    "verify_exp": False, "verify_iat": False, "verify_nbf": False,
                },
            )  # fmt: skip
            return Claims(
                user_id=str(claims["sub"]),
                session_id=str(claims["sid"]),
                made=Moment(int(claims["ms"]), int(claims["mono_ms"]), str(claims["boot"]), bool(claims["sure"])),
                token_id=str(claims["jti"]),
                key=name,
            )
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            raise NotAuthenticated("this is no token of this home") from error


def new_refresh_token() -> str:
    """Return 256 random bits as text."""
    return base64.urlsafe_b64encode(secrets.token_bytes(_REFRESH_BYTES)).rstrip(b"=").decode()


def hashed(secret: str) -> str:
    """Return what is kept of a random secret: with this many bits a fast hash is enough (ASVS 5.0, 6.5.2)."""
    return hashlib.sha256(secret.encode()).hexdigest()
