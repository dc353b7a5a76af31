"""A stream that only its recipient reads: sealed in chunks, so that a cut, a swap and another header are seen.

::

    magic | length of the header, 4 bytes | header | chunk | chunk | ... | last chunk

Each chunk is its length (4 bytes) and a ChaCha20-Poly1305 ciphertext of up to 1 MiB. The nonce is seven bytes, a
counter and whether it is the last one (STREAM; Hoang, Reyhanitabar, Rogaway, Vizar 2015); the header is bound to every
chunk. Backups of both homes are such streams, for the public half of a recovery key that lies on paper.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import IO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from shared.errors import DatabaseCorrupt, Invalid

PREFIX_BYTES: Final = 7
CHUNK_BYTES: Final = 1 << 20
_TAG_BYTES: Final = 16
_CHECK_BYTES: Final = 3


def new_recovery_key() -> tuple[str, str]:
    """Return a recovery key as it is printed, and its public half as it stands in the configuration."""
    key = Ed25519PrivateKey.generate()
    seed = key.private_bytes_raw()
    text = base64.b32encode(seed + _check(seed)).decode()
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4)), public_half(seed)


def recovery_key_of(text: str) -> bytes:
    """Return the recovery key that a person read off paper; raises Invalid where it was misread."""
    letters = re.sub(r"[\s-]", "", text).upper().replace("0", "O").replace("1", "I").replace("8", "B")
    try:
        raw = base64.b32decode(letters)
    except binascii.Error as error:
        raise Invalid("a recovery key is 14 groups of 4 letters and digits") from error
    seed, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
    if len(seed) != 32 or check != _check(seed):
        raise Invalid("this is no recovery key: a letter is missing or was misread")
    return seed


def public_half(seed: bytes) -> str:
    """Return the public half of a recovery key, as hex digits."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()


class Sealing:
    """A sink: cuts what is written into chunks and seals them."""

    def __init__(self, file: IO[bytes], key: bytes, *, magic: bytes, header: bytes, prefix: bytes) -> None:
        self._file = file
        self._cipher = ChaCha20Poly1305(key)
        self._header = header
        self._prefix = prefix
        self._pending = bytearray()
        self._count = 0
        file.write(magic + len(header).to_bytes(4, "big") + header)

    def write(self, data: bytes) -> int:
        """Take bytes; a chunk that is full goes to the file."""
        self._pending += data
        while len(self._pending) > CHUNK_BYTES:  # never the last one: that is marked
            self._emit(bytes(self._pending[:CHUNK_BYTES]), is_last=False)
            del self._pending[:CHUNK_BYTES]
        return len(data)

    def end(self) -> None:
        """Write the last chunk."""
        self._emit(bytes(self._pending), is_last=True)

    def _emit(self, plain: bytes, *, is_last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._prefix, self._count, is_last=is_last), plain, self._header)
        self._file.write(len(sealed).to_bytes(4, "big") + sealed)
        self._count += 1


class Opening:
    """A source: opens chunk after chunk of a file that stands behind its header."""

    def __init__(self, path: Path, file: IO[bytes], key: bytes, *, header: bytes, prefix: bytes) -> None:
        self._path = path
        self._file = file
        self._cipher = ChaCha20Poly1305(key)
        self._raw = header
        self._prefix = prefix
        self._pending = bytearray()
        self._count = 0
        self._is_ended = False

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, less at the end only; raises DatabaseCorrupt."""
        while len(self._pending) < size and not self._is_ended:
            self._next()
        taken = bytes(self._pending[:size])
        del self._pending[:size]
        return taken

    def drain(self) -> None:
        """Read to the marked end, so that a cut behind what was wanted is seen as well."""
        while not self._is_ended:
            self._next()
        if self._file.read(1):
            raise DatabaseCorrupt(f"{self._path}: goes on behind its end")

    def _next(self) -> None:
        size = int.from_bytes(self._file.read(4), "big")
        if not _TAG_BYTES <= size <= CHUNK_BYTES + _TAG_BYTES:
            raise DatabaseCorrupt(f"{self._path}: is cut off or damaged at chunk {self._count}")
        sealed = self._file.read(size)
        for is_last in (False, True):
            try:
                self._pending += self._cipher.decrypt(
                    _nonce(self._prefix, self._count, is_last=is_last), sealed, self._raw
                )
            except InvalidTag:
                continue
            self._is_ended = is_last
            self._count += 1
            return
        raise DatabaseCorrupt(f"{self._path}: is cut off or damaged at chunk {self._count}")


def _nonce(prefix: bytes, count: int, *, is_last: bool) -> bytes:
    return prefix + count.to_bytes(4, "big") + bytes([is_last])


def _check(seed: bytes) -> bytes:
    return hashlib.blake2b(seed, digest_size=_CHECK_BYTES, person=b"recovery key").digest()
