"""Releases of the station's program: a signed file, and what the cloud offers of them.

::

    FILE.outpost-update   b"OUTPOST-UPDATE-1\\n", 4 bytes length, header (JSON), 64 bytes Ed25519 over all before it,
                          then the Debian package whose size and SHA-256 the header names

Nothing of a file is believed before its signature is: not its version and not its length. The cloud carries such files
and cannot make one: who signs keeps the key off every server, and each station holds the public half.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import Conflict, Invalid

VERSION: Final = re.compile(r"\d+(\.\d+){1,3}")
SUFFIX: Final = ".outpost-update"
#: What a station names a file that is whole, for the installer: ``deploy/outpost-station-update.path`` waits for it.
READY: Final = f"ready{SUFFIX}"
_MAGIC: Final = b"OUTPOST-UPDATE-1\n"
_SIGNATURE_BYTES: Final = 64
_MAX_HEADER_BYTES: Final = 1 << 16
_CHUNK_BYTES: Final = 1 << 20


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What an update is."""

    version: str
    architecture: str
    sha256: str
    size_bytes: int
    made_at: str


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A release that a station may take: the file's own hash and size, for parts that come over days."""

    version: str
    architecture: str
    sha256: str
    size_bytes: int


def numbers(version: str) -> tuple[int, ...]:
    """Return a version as it is compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def sign(package: Path, target: Path, private_key: bytes, *, version: str, architecture: str, made_at: str) -> Header:
    """Write ``package`` as an update signed with an Ed25519 seed."""
    if VERSION.fullmatch(version) is None:
        raise Invalid(f"{version}: a version is numbers with dots")
    header = Header(
        version=version, architecture=architecture, sha256=sha256_of(package), size_bytes=package.stat().st_size,
        made_at=made_at,
    )  # fmt: skip
    raw = msgspec.json.encode(header)
    signed = _MAGIC + len(raw).to_bytes(4, "big") + raw
    with target.open("wb") as out, package.open("rb") as content:
        out.write(signed + Ed25519PrivateKey.from_private_bytes(private_key).sign(signed))
        shutil.copyfileobj(content, out, _CHUNK_BYTES)
    return header


def read_header(file: IO[bytes], name: Path, public_keys: Sequence[str]) -> Header:
    """Return what an update says of itself, once one of the keys has signed it; ``file`` stands at the package then."""
    if not public_keys:
        raise Conflict("update.public_keys: is empty, so no update is believed; name whose signature counts")
    start = file.read(len(_MAGIC) + 4)
    size = int.from_bytes(start[len(_MAGIC) :], "big")
    if start[: len(_MAGIC)] != _MAGIC or size > _MAX_HEADER_BYTES:
        raise Invalid(f"{name}: is no update of a station")
    raw, signature = file.read(size), file.read(_SIGNATURE_BYTES)
    for text in public_keys:
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(text)).verify(signature, start + raw)
        except (InvalidSignature, ValueError):
            continue
        try:
            header = msgspec.json.decode(raw, type=Header)
        except msgspec.DecodeError as error:
            raise Invalid(f"{name}: its header cannot be read: {error}") from error
        if VERSION.fullmatch(header.version) is None:
            raise Invalid(f"{name}: {header.version!r} is no version")
        return header
    raise Invalid(f"{name}: is not signed by any of update.public_keys; nothing of it was used")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
