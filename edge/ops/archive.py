"""The file of a daily backup: everything of a station in one stream that only its recipients can read.

A stream of ``shared.sealed_stream`` with a tar stream inside. The content's key is in the header once for each
recipient: the station itself by its own key, and whoever holds the recovery key of the emergency kit, for whose public
half alone it is sealed. The station can write what it cannot lose to a thief: with the card alone the backups stay
closed.
"""

from __future__ import annotations

import re
import secrets
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from edge.store.snapshot import sync
from shared.accounts.sealing import derived, seal, seal_for, unseal, unseal_mine
from shared.errors import DatabaseCorrupt, Invalid, StoreError, StoreFull, WrongKey
from shared.sealed_stream import CHUNK_BYTES, PREFIX_BYTES, Opening, Sealing

SUFFIX: Final = ".outpost"
_MAGIC: Final = b"OUTPOST-BACKUP-1\n"
_MAX_HEADER_BYTES: Final = 1 << 16
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
    content_key, prefix = secrets.token_bytes(32), secrets.token_bytes(PREFIX_BYTES)
    header = msgspec.json.encode(
        Header(
            station=station, made_at=made_at, nonce=prefix.hex(),
            for_station="" if station_key is None else seal(derived(station_key, _PLACE), content_key.hex(), _PLACE),
            for_recovery=seal_for(bytes.fromhex(recovery_public), content_key.hex(), _PLACE) if recovery_public else "",
        )
    )  # fmt: skip
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("wb") as file:
            sink = Sealing(file, content_key, magic=_MAGIC, header=header, prefix=prefix)
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
        content_key = _content_key(path, header, opener)
        source = Opening(path, file, content_key, header=raw, prefix=bytes.fromhex(header.nonce))
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
            while chunk := content.read(CHUNK_BYTES):
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
