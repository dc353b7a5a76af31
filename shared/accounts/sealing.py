"""Secrets at rest and on their way: sealed for a home, opened by it alone.

``seal`` and ``unseal`` are for what a home keeps (ChaCha20-Poly1305 under a key derived from the home's secret; the
place of the value is bound, so a sealed seed cannot be moved to another user). ``seal_for`` and ``unseal_mine`` send a
secret to a station whose Ed25519 key is known: an ephemeral X25519 exchange with the Montgomery form of that key (RFC
7748, section 4.1), HKDF, the same cipher.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.errors import Invalid

SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_P: Final = 2**255 - 19


def derived(secret: bytes, purpose: str) -> bytes:
    """Return the key for one purpose that follows from a home's secret."""
    return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=f"outpost/{purpose}".encode()).derive(secret)


def seal(key: bytes, value: str, place: str) -> str:
    """Return ``value`` as only the holder of ``key`` reads it, at ``place``."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return base64.b64encode(nonce + ChaCha20Poly1305(key).encrypt(nonce, value.encode(), place.encode())).decode()


def unseal(key: bytes, sealed: str, place: str) -> str:
    """Return what was sealed; raises Invalid where key, place or bytes are not those."""
    try:
        raw = base64.b64decode(sealed, validate=True)
        return ChaCha20Poly1305(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode()).decode()
    except (binascii.Error, InvalidTag, ValueError) as error:
        raise Invalid("a sealed secret does not open: the home's secret is not the one it was sealed with") from error


def seal_for(public_key: bytes, value: str, place: str) -> str:
    """Return ``value`` as only the station with this Ed25519 key reads it."""
    mine, key = _towards(public_key, "sealed for a station")
    return base64.b64encode(mine).decode() + "." + seal(key, value, place)


def unseal_mine(private_key: bytes, sealed: str, place: str) -> str:
    """Return what was sealed for the Ed25519 key of this seed; raises Invalid."""
    theirs, _, rest = sealed.partition(".")
    try:
        key = _from(private_key, base64.b64decode(theirs, validate=True), "sealed for a station")
    except (binascii.Error, ValueError) as error:
        raise Invalid("this was not sealed for a station") from error
    return unseal(key, rest, place)


def seal_bytes_for(public_key: bytes, value: bytes, place: str) -> bytes:
    """Return bytes as only the home with this Ed25519 key reads them: 32 bytes of an exchange, a nonce, the sealed."""
    mine, key = _towards(public_key, "sealed bytes")
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return mine + nonce + ChaCha20Poly1305(key).encrypt(nonce, value, place.encode())


def unseal_bytes(private_key: bytes, sealed: bytes, place: str) -> bytes:
    """Return bytes that were sealed for the Ed25519 key of this seed; raises Invalid."""
    begin = SECRET_BYTES + _NONCE_BYTES
    try:
        key = _from(private_key, sealed[:SECRET_BYTES], "sealed bytes")
        return ChaCha20Poly1305(key).decrypt(sealed[SECRET_BYTES:begin], sealed[begin:], place.encode())
    except (InvalidTag, ValueError) as error:
        raise Invalid("this does not open with the key of this home") from error


def _towards(public_key: bytes, purpose: str) -> tuple[bytes, bytes]:
    """Return the public half of an exchange with the owner of an Ed25519 key, and the key that both get by it."""
    ephemeral = X25519PrivateKey.generate()
    mine = ephemeral.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return mine, derived(ephemeral.exchange(X25519PublicKey.from_public_bytes(_montgomery(public_key))) + mine, purpose)


def _from(private_key: bytes, theirs: bytes, purpose: str) -> bytes:
    own = X25519PrivateKey.from_private_bytes(hashlib.sha512(private_key).digest()[:SECRET_BYTES])
    return derived(own.exchange(X25519PublicKey.from_public_bytes(theirs)) + theirs, purpose)


def _montgomery(public_key: bytes) -> bytes:
    """Return the X25519 form of an Ed25519 public key: u = (1 + y) / (1 - y)."""
    y = int.from_bytes(public_key, "little") & ((1 << 255) - 1)
    return ((1 + y) * pow(1 - y, -1, _P) % _P).to_bytes(32, "little")


class IdVeil:
    """Gives ids another face, and back: what follows from a position must not be handed to those who may not know it.

    The id of a fix is a hash of its place: who knows it can try all places. AES of the 16 bytes under the home's key is
    a one-to-one map that nobody else can compute.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305  # one block, each value once: a permutation

    def veiled(self, raw: bytes) -> bytes:
        """Return the other face of 16 bytes."""
        encryptor = self._cipher.encryptor()
        return encryptor.update(raw) + encryptor.finalize()

    def unveiled(self, veiled: bytes) -> bytes:
        """Return the 16 bytes behind a face."""
        decryptor = self._cipher.decryptor()
        return decryptor.update(veiled) + decryptor.finalize()
