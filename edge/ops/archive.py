"""The file of a daily backup: everything of a station in one stream that only its recipients can read.

::

    magic | length of the header, 4 bytes | header: JSON | chunk | chunk | ... | last chunk

Each chunk is its length (4 bytes) and a ChaCha20-Poly1305 ciphertext of up to 1 MiB of a tar stream. The nonce is seven
random bytes of the header, a counter and whether it is the last one (STREAM; Hoang, Reyhanitabar, Rogaway, Vizar 2015),
the header is bound to every chunk: a chunk that is missing, moved or cut off is seen, and so is another header. The
content's key is in the header once for each recipient: the station itself by its own key, and whoever holds the
recovery key of the emergency kit, for whose public half alone it is sealed. The station can write what it cannot lose
to a thief: with the card alone the backups stay closed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from edge.store.snapshot import sync
from shared.accounts.sealing import derived, seal, seal_for, unseal, unseal_mine
from shared.errors import DatabaseCorrupt, Invalid, StoreError, StoreFull, WrongKey

SUFFIX: Final = ".outpost"
_MAGIC: Final = b"OUTPOST-BACKUP-1\n"
_CHUNK_BYTES: Final = 1 << 20
_TAG_BYTES: Final = 16
_MAX_HEADER_BYTES: Final = 1 << 16
_PREFIX_BYTES: Final = 7
_CHECK_BYTES: Final = 3
_PLACE: Final = "backup"
#: What an archive may hold; no name of another kind is ever written to a disk.
_NAME: Final = re.compile(
    r"(?:manifest\.json|station\.(?:db|toml|key)|tls/[a-z]+\.(?:pem|key)|ledger/ledger-\d{12}\.db)"
)

Progress = Callable[[int], None]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before the content: who made it, when, and the content's key for each recipient."""

    station: str
    made_at: str
    nonce: str
    #: sealed by the station's own key; empty where the station has none
    for_station: str = ""
    #: sealed for the recovery key; empty where the station was told none
    for_recovery: str = ""


class Opener(msgspec.Struct, frozen=True, kw_only=True):
    """What opens an archive: the station's key, or the recovery key of the emergency kit."""

    station_key: bytes | None = None
    recovery_key: bytes | None = None


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


def write_archive(
    path: Path,
    files: Sequence[tuple[str, Path]],
    *,
    station: str,
    made_at: str,
    station_key: bytes | None,
    recovery_public: str,
    progress: Progress = lambda _: None,
) -> None:
    """Write ``files``, (name inside, where it lies), to ``path``; it appears whole or not at all.

    Raises StoreError where nobody could ever read it, StoreFull where there is no room.
    """
    if station_key is None and not recovery_public:
        raise StoreError("a backup that leaves the station needs a recovery key: `outpost-station init` makes one")
    content_key = secrets.token_bytes(32)
    header = msgspec.json.encode(
        Header(
            station=station, made_at=made_at, nonce=secrets.token_hex(_PREFIX_BYTES),
            for_station="" if station_key is None else seal(derived(station_key, _PLACE), content_key.hex(), _PLACE),
            for_recovery=seal_for(bytes.fromhex(recovery_public), content_key.hex(), _PLACE) if recovery_public else "",
        )
    )  # fmt: skip
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("wb") as file:
            sink = _Sealing(file, content_key, header)
            with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload] # only write() is called
                for name, source in files:
                    entry = tarfile.TarInfo(name)
                    entry.size = source.stat().st_size
                    with source.open("rb") as content:
                        tar.addfile(entry, content)
                    progress(entry.size)
            sink.end()
        sync(fresh)
        fresh.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StoreFull(f"{path}: {error.strerror}; the backup was not written") from error
    finally:
        fresh.unlink(missing_ok=True)


def read_header(path: Path) -> Header:
    """Return what an archive says of itself without any key; raises StoreError."""
    with _opened(path) as file:
        return _read_header(path, file)[0]


def unpack(path: Path, folder: Path, opener: Opener, progress: Progress = lambda _: None) -> Header:
    """Write what the archive holds into ``folder``; raises WrongKey, DatabaseCorrupt, StoreFull or StoreError."""
    with _opened(path) as file:
        header, raw = _read_header(path, file)
        source = _Opening(path, file, _content_key(path, header, opener), header, raw)
        try:
            with tarfile.open(fileobj=source, mode="r|") as tar:  # type: ignore[call-overload] # only read() is called
                for entry in tar:
                    if not entry.isfile() or _NAME.fullmatch(entry.name) is None:
                        raise DatabaseCorrupt(f"{path}: holds {entry.name!r}, which no backup does")
                    content = tar.extractfile(entry)
                    assert content is not None
                    _write_private(folder / entry.name, content)
                    progress(entry.size)
            source.drain()
        except tarfile.TarError as error:
            raise DatabaseCorrupt(f"{path}: {error}") from error
    return header


def _write_private(path: Path, content: IO[bytes]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    try:
        with path.open("wb") as file:
            while chunk := content.read(_CHUNK_BYTES):
                file.write(chunk)
    except OSError as error:
        raise StoreFull(f"{path}: {error.strerror}") from error
    sync(path)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def _read_header(path: Path, file: IO[bytes]) -> tuple[Header, bytes]:
    if file.read(len(_MAGIC)) != _MAGIC:
        raise StoreError(f"{path}: is no backup of a station")
    size = int.from_bytes(file.read(4), "big")
    raw = file.read(min(size, _MAX_HEADER_BYTES))
    try:
        return msgspec.json.decode(raw, type=Header), raw
    except msgspec.DecodeError as error:
        raise DatabaseCorrupt(f"{path}: its header is damaged") from error


def _content_key(path: Path, header: Header, opener: Opener) -> bytes:
    try:
        if opener.recovery_key is not None and header.for_recovery:
            return bytes.fromhex(unseal_mine(opener.recovery_key, header.for_recovery, _PLACE))
        if opener.station_key is not None and header.for_station:
            return bytes.fromhex(unseal(derived(opener.station_key, _PLACE), header.for_station, _PLACE))
    except Invalid as error:
        raise WrongKey(f"{path}: was not made for this key; it is of {header.station}, {header.made_at}") from error
    raise WrongKey(f"{path}: bring the recovery key of the emergency kit, or the key of station {header.station}")


class _Sealing:
    """The sink of a tar stream: cuts it into chunks and seals them."""

    def __init__(self, file: IO[bytes], key: bytes, header: bytes) -> None:
        self._file = file
        self._cipher = ChaCha20Poly1305(key)
        self._header = header
        self._prefix = bytes.fromhex(msgspec.json.decode(header, type=Header).nonce)
        self._pending = bytearray()
        self._count = 0
        file.write(_MAGIC + len(header).to_bytes(4, "big") + header)

    def write(self, data: bytes) -> int:
        """Take bytes; a chunk that is full goes to the file."""
        self._pending += data
        while len(self._pending) > _CHUNK_BYTES:  # never the last one: that is marked
            self._emit(bytes(self._pending[:_CHUNK_BYTES]), is_last=False)
            del self._pending[:_CHUNK_BYTES]
        return len(data)

    def end(self) -> None:
        """Write the last chunk."""
        self._emit(bytes(self._pending), is_last=True)

    def _emit(self, plain: bytes, *, is_last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._prefix, self._count, is_last=is_last), plain, self._header)
        self._file.write(len(sealed).to_bytes(4, "big") + sealed)
        self._count += 1


class _Opening:
    """The source of a tar stream: opens chunk after chunk."""

    def __init__(self, path: Path, file: IO[bytes], key: bytes, header: Header, raw: bytes) -> None:
        self._path = path
        self._file = file
        self._cipher = ChaCha20Poly1305(key)
        self._raw = raw
        self._prefix = bytes.fromhex(header.nonce)
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
        """Read to the marked end, so that a cut behind the last file is seen as well."""
        while not self._is_ended:
            self._next()
        if self._file.read(1):
            raise DatabaseCorrupt(f"{self._path}: goes on behind its end")

    def _next(self) -> None:
        size = int.from_bytes(self._file.read(4), "big")
        if not _TAG_BYTES <= size <= _CHUNK_BYTES + _TAG_BYTES:
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
