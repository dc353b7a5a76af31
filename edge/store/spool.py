"""The spool of a locked station: frames that were heard while its key was not at hand, sealed.

::

    DIR/spool-<n>.sealed     b"OUTPOST-SPOOL-1\\n" then records
    record                   4 bytes length, 32 bytes ephemeral X25519 key, ChaCha20-Poly1305 of the entries of a commit

Each record is sealed to the public half of a key that follows from the station's own, under a fresh ephemeral key that
is forgotten at once: neither the disk nor the memory of a locked station opens what it wrote a moment ago. ``append``
returns after the bytes are on the medium, as the ledger's does; a record that a power cut tore was never acknowledged.
A file is removed after all of it is in the ledger, where storing twice is storing once.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from edge.store.ledger import Entry, LedgerFacts
from edge.store.snapshot import sync
from shared.accounts.sealing import derived
from shared.errors import ConfigError, StoreFull

_MAGIC: Final = b"OUTPOST-SPOOL-1\n"
_NAME: Final = re.compile(r"spool-(\d{6})\.sealed")
_PURPOSE: Final = "spool"
_KEY_BYTES: Final = 32
_TAG_BYTES: Final = 16
_MOST_BYTES: Final = 1 << 26
#: A key seals one record, so its nonce need not differ.
_NONCE: Final = bytes(12)


def public_file(folder: Path) -> Path:
    """Return where the public half lies, which anybody may read."""
    return folder / "spool.pub"


def keep_public(folder: Path, key: bytes | None) -> None:
    """Have the public half of this station's spool beside its data, for a start at which the key is missing."""
    if key is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    text = _private(key).public_key().public_bytes_raw().hex() + "\n"
    file = public_file(folder)
    if not file.exists() or file.read_text(encoding="ascii") != text:
        fresh = file.with_suffix(".new")
        fresh.write_text(text, encoding="ascii")
        fresh.replace(file)


def read_public(folder: Path) -> bytes | None:
    """Return the public half; None where this station never had its key. Raises ConfigError for what is none."""
    try:
        raw = bytes.fromhex(public_file(folder).read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{public_file(folder)}: is damaged; the next start with the key writes it again") from error
    if len(raw) != _KEY_BYTES:
        raise ConfigError(f"{public_file(folder)}: is damaged; the next start with the key writes it again")
    return raw


class Spool:
    """Takes frames in the place of the ledger; not safe to share between threads, like the ledger."""

    def __init__(self, folder: Path, public: bytes) -> None:
        self._folder = folder
        self._public = X25519PublicKey.from_public_bytes(public)
        #: as the ledger's: nothing of a spool is set aside while it is written
        self.set_aside: list[Path] = []
        self._frames = 0
        self._path: Path
        self._file: int
        self._size: int
        self._is_spoilt: bool
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._begin()

    def append(self, entries: Sequence[Entry]) -> int:
        """Seal ``entries`` and have them on the medium; raises StoreFull or StoreError, and none is kept then."""
        record = self._sealed(msgspec.msgpack.encode(entries))
        if self._is_spoilt:
            former = self._file
            self._begin()
            os.close(former)
        try:
            _write(self._file, record, self._size)
        except OSError as error:
            # what is in the file from here on nobody can tell: it ends where it was, and another goes on
            self._is_spoilt = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise StoreFull(f"{self._path}: {error.strerror}; the frames wait on their links") from error
        self._size += len(record)
        self._frames += len(entries)
        return self._frames

    def facts(self) -> LedgerFacts:
        """Count and size what waits since this start."""
        files = files_of(self._folder)
        return LedgerFacts(len(files), sum(file.stat().st_size for file in files), self._frames, self._frames)

    def remove_before(self, _seq: int, _received_before_ms: int) -> int:
        """Remove nothing: what is sealed nobody has read."""
        return 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _begin(self) -> None:
        files = files_of(self._folder)
        path = self._folder / f"spool-{int(_number(files[-1])) + 1 if files else 1:06d}.sealed"
        file = -1
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            _write(file, _MAGIC, 0)
            sync(self._folder)
        except OSError as error:
            if file >= 0:
                os.close(file)
                path.unlink(missing_ok=True)
            raise StoreFull(f"{path}: {error.strerror}") from error
        self._path, self._file, self._size, self._is_spoilt = path, file, len(_MAGIC), False

    def _sealed(self, plain: bytes) -> bytes:
        ephemeral = X25519PrivateKey.generate()
        mine = ephemeral.public_key().public_bytes_raw()
        key = derived(ephemeral.exchange(self._public) + mine, _PURPOSE)
        body = mine + ChaCha20Poly1305(key).encrypt(_NONCE, plain, _MAGIC)
        return len(body).to_bytes(4, "big") + body


def _write(file: int, data: bytes, at: int) -> None:
    """Have ``data`` on the medium, in ``file`` from ``at`` on."""
    view = memoryview(data)
    while view:
        done = os.pwrite(file, view, at)
        view, at = view[done:], at + done
    os.fdatasync(file)


def files_of(folder: Path) -> list[Path]:
    """Return the files of a spool, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name) is not None)


def read(path: Path, key: bytes, damaged: list[str]) -> Iterator[list[Entry]]:
    """Give the entries of each record of a file; what does not open is told in ``damaged`` and passed over.

    The end of a file that a power cut tore is no damage: nobody was told that it was kept.
    """
    private = _private(key)
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            if path.stat().st_size >= len(_MAGIC):
                damaged.append(f"{path.name}: does not begin like a spool")
            return
        while len(head := file.read(4)) == 4:
            size, at = int.from_bytes(head, "big"), file.tell() - 4
            if not _KEY_BYTES + _TAG_BYTES <= size <= _MOST_BYTES:
                damaged.append(f"{path.name}: has no record at {at}")
                return
            body = file.read(size)
            if len(body) < size:
                return
            try:
                yield _opened(private, body)
            except (InvalidTag, ValueError, msgspec.DecodeError):
                damaged.append(f"{path.name}: the record at {at} does not open with this key")


def _opened(private: X25519PrivateKey, body: bytes) -> list[Entry]:
    theirs, sealed = body[:_KEY_BYTES], body[_KEY_BYTES:]
    key = derived(private.exchange(X25519PublicKey.from_public_bytes(theirs)) + theirs, _PURPOSE)
    return msgspec.msgpack.decode(ChaCha20Poly1305(key).decrypt(_NONCE, sealed, _MAGIC), type=list[Entry])


def _private(key: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(derived(key, _PURPOSE))


def _number(path: Path) -> str:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return match[1]
