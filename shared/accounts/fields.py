"""Personal fields at rest: telephone numbers and TOTP seeds, sealed one by one, with the key named in what is kept.

::

    s1.KEY.BASE64      12 bytes nonce, AES-256-GCM of the text; bound to its place, as in ``users.phone/ID``

Each key follows from the home's secret and its own name, so a value under a former key opens for ever, and a home that
is killed in the middle of sealing anew has nothing to mend. Which key seals now is a word in the database
(``shared.accounts.rotation``). What carries no such mark was kept before there were keys: it is what it says.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.accounts.sealing import derived
from shared.errors import Invalid, StoreError

#: The key before any was changed.
FIRST: Final = "0"
MARK: Final = "s1."
#: What a job asks of whoever runs it, in the place of a statement: values are place and text by turns.
SEAL: Final = "-- seal"
OPEN: Final = "-- open"
_NONCE_BYTES: Final = 12


class FieldKeys:
    """Seals and opens the personal fields of one home; ``current`` names the key that seals."""

    def __init__(self, secret: bytes | None, current: str = FIRST) -> None:
        self._secret = secret
        self._keys: dict[str, AESGCM] = {}
        self.current = current

    def sealed(self, place: str, text: str) -> str:
        """Return ``text`` as it is kept at ``place``; raises StoreError where this program was not given the secret."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        raw = nonce + self._key(self.current).encrypt(nonce, text.encode(), place.encode())
        return f"{MARK}{self.current}.{base64.b64encode(raw).decode()}"

    def opened(self, place: str, kept: str) -> str:
        """Return what is kept at ``place``; raises Invalid where it was sealed elsewhere or with another secret."""
        if not is_sealed(kept):
            return kept
        name, _, text = kept.removeprefix(MARK).partition(".")
        try:
            raw = base64.b64decode(text, validate=True)
            return self._key(name).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode()).decode()
        except (binascii.Error, InvalidTag, ValueError) as error:
            raise Invalid(
                f"{place}: does not open: the home's secret is not the one that it was sealed with"
            ) from error

    def answer(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]] | None:
        """Answer a job that asks for ``SEAL`` or ``OPEN``, a row for each text; None for a statement of SQL."""
        if statement not in (SEAL, OPEN):
            return None
        turn = self.sealed if statement == SEAL else self.opened
        pairs = zip(values[::2], values[1::2], strict=True)
        return [(None if text is None else turn(place, text),) for place, text in pairs]

    def _key(self, name: str) -> AESGCM:
        if self._secret is None:
            raise StoreError("personal fields are sealed, and this program was not given the home's secret")
        if name not in self._keys:
            self._keys[name] = AESGCM(derived(self._secret, f"field {name}"))
        return self._keys[name]


#: For who has no secret: what is sealed stays so, and nothing personal is kept.
NO_KEYS: Final = FieldKeys(None)


def is_sealed(kept: str) -> bool:
    """Say whether a text is a sealed one."""
    return kept.startswith(MARK)


def key_of(kept: str) -> str | None:
    """Return which key a kept text was sealed with; None for one that is not sealed."""
    return kept.removeprefix(MARK).partition(".")[0] if is_sealed(kept) else None
