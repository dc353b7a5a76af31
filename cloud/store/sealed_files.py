"""Files of a backup, sealed to the public half of a recovery key: who finds them, or the server, reads nothing."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import IO, Final

import msgspec

from shared.accounts.sealing import seal_for, unseal_mine
from shared.errors import DatabaseCorrupt, Invalid, StoreError, WrongKey
from shared.sealed_stream import CHUNK_BYTES, PREFIX_BYTES, Opening, Sealing

SUFFIX: Final = ".sealed"
_MAGIC: Final = b"OUTPOST-CLOUD-BACKUP-1\n"
_PLACE: Final = "backup"
_MAX_HEADER_BYTES: Final = 1 << 16


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    """The content's key, as the holder of the recovery key alone reads it, and what the nonces begin with."""

    nonce: str
    key: str


def seal_file(plain: Path, recovery_public: str) -> Path:
    """Seal a file beside it, read the sealed one back, and remove the plain one; return the sealed.

    Raises DatabaseCorrupt where the disk gives back something else than was written.
    """
    sealed = plain.with_name(plain.name + SUFFIX)
    key, prefix = secrets.token_bytes(32), secrets.token_bytes(PREFIX_BYTES)
    header = msgspec.json.encode(
        _Header(nonce=prefix.hex(), key=seal_for(bytes.fromhex(recovery_public), key.hex(), _PLACE))
    )
    digest = hashlib.sha256()
    with plain.open("rb") as source, sealed.open("wb") as out:
        sink = Sealing(out, key, magic=_MAGIC, header=header, prefix=prefix)
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            sink.write(chunk)
        sink.end()
    with sealed.open("rb") as file:
        found, _ = _read_header(sealed, file)
        if _copied(Opening(sealed, file, key, header=found, prefix=prefix), None) != digest.hexdigest():
            raise DatabaseCorrupt(f"{sealed}: the disk gave back something else than was written")
    plain.unlink()
    return sealed


def open_file(sealed: Path, target: Path, recovery_key: bytes) -> None:
    """Write what a sealed file holds to ``target``, for its owner alone; raises WrongKey or DatabaseCorrupt."""
    target.touch(mode=0o600, exist_ok=False)
    with sealed.open("rb") as file, target.open("wb") as out:
        raw, header = _read_header(sealed, file)
        try:
            key = bytes.fromhex(unseal_mine(recovery_key, header.key, _PLACE))
        except Invalid as error:
            raise WrongKey(f"{sealed}: was not sealed for this recovery key") from error
        _copied(Opening(sealed, file, key, header=raw, prefix=bytes.fromhex(header.nonce)), out)


def _copied(source: Opening, out: IO[bytes] | None) -> str:
    """Read a stream to its marked end, into ``out`` if there is one; return the SHA-256 of what it holds."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        if out is not None:
            out.write(chunk)
    source.drain()
    return digest.hexdigest()


def _read_header(path: Path, file: IO[bytes]) -> tuple[bytes, _Header]:
    if file.read(len(_MAGIC)) != _MAGIC:
        raise StoreError(f"{path}: is no sealed file of a backup")
    raw = file.read(min(int.from_bytes(file.read(4), "big"), _MAX_HEADER_BYTES))
    try:
        return raw, msgspec.json.decode(raw, type=_Header)
    except msgspec.DecodeError as error:
        raise DatabaseCorrupt(f"{path}: its header is damaged") from error
