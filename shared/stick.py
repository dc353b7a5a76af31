"""Bundles as folders of a medium that may be full, read-only, damaged, or pulled out at any moment.

A bundle is written under another name, each file flushed to the medium, and renamed when it is whole; a reader checks
size and hash of every part and the signature before it gives out the first message.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import msgspec

from shared.errors import Invalid, StoreError, StoreFull
from shared.wire.stick import (
    MAX_MANIFEST_BYTES,
    MAX_PART_BYTES,
    PART_BYTES,
    Direction,
    Manifest,
    Message,
    Part,
    check_signature,
    manifest_of,
    opened_part,
    part_of,
    sealed_part,
    signed_manifest,
)

#: The folder on the stick, and what a bundle is called until it is whole.
ROOT: Final = "outpost"
_UNFINISHED: Final = ".unfinished"
_STATION_DIGITS: Final = 12
#: Left free behind files: what is collected and not written yet, the manifest, what the file system itself needs.
_RESERVE_BYTES: Final = 4 * PART_BYTES
#: A file goes in parts of so many bytes.
FILE_PART_BYTES: Final = 256 << 10


class Bundle(msgspec.Struct, frozen=True):
    """A bundle as it lies there; its manifest is not checked yet."""

    path: Path
    manifest: Manifest
    body: bytes


async def write(
    medium: Path, direction: Direction, station_id: str, number: int, messages: AsyncIterator[Message], *,
    private_key: bytes, public_key: bytes,
) -> Bundle:  # fmt: skip
    """Write a bundle, signed with ``private_key`` and sealed for ``public_key``, and remove older ones of its kind.

    Raises StoreFull where the medium is full and StoreError where it takes no file; nothing of the bundle is left then.
    """
    bundle_id = secrets.token_hex(8)
    stem = f"{direction}-{_named(station_id)}-"
    final = medium / ROOT / f"{stem}{number:06d}-{bundle_id}"
    folder = final.with_name(final.name + _UNFINISHED)
    _check_medium(medium)
    try:
        folder.mkdir(parents=True)
        parts: list[Part] = []
        async for some in _in_parts(messages):
            name = f"part-{len(parts) + 1:04d}"
            sealed = sealed_part(public_key, bundle_id, len(parts), some)
            _write_file(folder / name, sealed)
            parts.append(part_of(name, sealed))
        manifest = Manifest(direction=direction, station=station_id, number=number, id=bundle_id, parts=tuple(parts))
        body, signature = signed_manifest(private_key, manifest)
        _write_file(folder / "manifest.sig", signature)
        _write_file(folder / "manifest.json", body)
        _flush_folder(folder)
        folder.rename(final)
        _flush_folder(final.parent)
        for older in final.parent.glob(f"{stem}*"):  # all that waits is in the newest
            if older != final:
                shutil.rmtree(older, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull(f"{medium} is full: make room or take another stick; nothing was lost") from error
        raise StoreError(f"{medium}: {error.strerror}: nothing was written") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Bundle(final, manifest, body)


def bundles(medium: Path, direction: Direction) -> tuple[list[Bundle], list[str]]:
    """Return bundles of one direction, by name, and what is wrong with others; raises StoreError for no medium.

    What has no manifest is passed over: it was pulled out before it was whole.
    """
    _check_medium(medium)
    found, problems = [], []
    for path in sorted((medium / ROOT).glob(f"{direction}-*")):
        if path.name.endswith(_UNFINISHED) or not (path / "manifest.json").is_file():
            continue
        try:
            body = _read_file(path / "manifest.json", MAX_MANIFEST_BYTES)
            manifest = manifest_of(body)
        except Invalid as error:
            problems.append(f"{path.name}: {error.detail}")
            continue
        if manifest.direction == direction:
            found.append(Bundle(path, manifest, body))
    return found, problems


def read(bundle: Bundle, *, private_key: bytes, public_key: bytes) -> Iterator[Message]:
    """Return the messages of a bundle of the sender ``public_key``; raises Forbidden, Invalid before the first."""
    check_signature(public_key, bundle.body, _read_file(bundle.path / "manifest.sig", MAX_MANIFEST_BYTES))
    for part in bundle.manifest.parts:
        _checked(bundle, part)
    return _messages(bundle, private_key)


def _messages(bundle: Bundle, private_key: bytes) -> Iterator[Message]:
    for index, part in enumerate(bundle.manifest.parts):
        yield from opened_part(private_key, bundle.manifest.id, index, _checked(bundle, part))


def _checked(bundle: Bundle, part: Part) -> bytes:
    if "/" in part.name or part.name.startswith("."):
        raise Invalid(f"{bundle.path}: names a part outside of itself")
    sealed = _read_file(bundle.path / part.name, MAX_PART_BYTES)
    if len(sealed) != part.size or hashlib.sha256(sealed).hexdigest() != part.sha256:
        raise Invalid(f"{bundle.path / part.name} is damaged or was not written whole: export once more")
    return sealed


def room_for_files(medium: Path, direction: Direction, station_id: str, wanted: int) -> int:
    """Return how many bytes of files a medium still takes: what has to be on it is never refused for them.

    Where ``wanted`` bytes do not fit, older bundles of the kind go now and not when the new one is whole: all that is
    in them waits where it came from.
    """
    if shutil.disk_usage(medium).free - _RESERVE_BYTES < wanted:
        for older in (medium / ROOT).glob(f"{direction}-{_named(station_id)}-*"):
            if not older.name.endswith(_UNFINISHED):
                shutil.rmtree(older, ignore_errors=True)
    return max(0, shutil.disk_usage(medium).free - _RESERVE_BYTES)


async def _in_parts(messages: AsyncIterator[Message]) -> AsyncIterator[list[Message]]:
    some: list[Message] = []
    size = 0
    async for message in messages:
        some.append(message)
        size += len(msgspec.msgpack.encode(message))
        if size >= PART_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _named(station_id: str) -> str:
    """Return a station in a name that every file system takes."""
    return hashlib.sha256(station_id.encode()).hexdigest()[:_STATION_DIGITS]


def _check_medium(medium: Path) -> None:
    if not medium.is_dir():
        raise StoreError(f"{medium}: there is no such folder: is the stick mounted?")


def _write_file(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_file(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}: the stick is not whole") from error
    if len(data) > limit:
        raise Invalid(f"{path}: is larger than anything that we write")
    return data
