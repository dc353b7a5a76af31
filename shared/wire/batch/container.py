"""The frame around every batch: magic, kind, version, and sections that zstd made smaller where it could.

A reader knows the versions up to its own; a batch of a later one is `BatchTooNew`, never unreadable. Lengths
are checked before anything is allocated: a section of zstd says its plain length, and all of them together may not
exceed ``MAX_PLAIN_BYTES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import zstandard

from shared.errors import BatchTooNew, Invalid

#: What one batch may have: bytes on the wire, bytes once decompressed, rows.
MAX_BATCH_BYTES: Final = 1 << 20
MAX_PLAIN_BYTES: Final = 16 << 20
MAX_ROWS: Final = 20_000

FIXES: Final = ord("F")
RECORDS: Final = ord("R")
RESULTS: Final = ord("M")

_MAGIC: Final = 0xCB
_KINDS: Final = {FIXES: "fixes", RECORDS: "records", RESULTS: "results"}
_MAX_VARINT_BYTES: Final = 10
#: The slowest level still costs a small batch less than a millisecond; a large one would hold up a small computer.
_BEST_LEVEL: Final = 19
_FAST_LEVEL: Final = 9
_BEST_UP_TO_BYTES: Final = 4 << 10


class Writer:
    """Bytes that grow; whole numbers are written seven bits a byte."""

    def __init__(self) -> None:
        self.data = bytearray()

    def byte(self, value: int) -> None:
        """Append one byte."""
        self.data.append(value)

    def raw(self, value: bytes) -> None:
        """Append bytes whose length the reader knows."""
        self.data += value

    def varint(self, value: int) -> None:
        """Append a number from 0 up to 64 bits."""
        while value > 0x7F:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)

    def signed(self, value: int) -> None:
        """Append a number of 64 bits with its sign in the lowest bit."""
        self.varint(value << 1 if value >= 0 else (-value << 1) - 1)


class Reader:
    """The other side of ``Writer``; running out of bytes raises Invalid."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_done(self) -> bool:
        """Whether every byte was read."""
        return self._at == len(self._data)

    def byte(self) -> int:
        """Return the next byte."""
        if self._at >= len(self._data):
            raise Invalid("the batch ends early")
        self._at += 1
        return self._data[self._at - 1]

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        if count > len(self._data) - self._at:
            raise Invalid("the batch ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def varint(self) -> int:
        """Return the next number, 0 up to 64 bits."""
        value = 0
        for place in range(_MAX_VARINT_BYTES):
            part = self.byte()
            value |= (part & 0x7F) << 7 * place
            if part <= 0x7F:
                if value >> 64:
                    break
                return value
        raise Invalid("the batch has a number of more than 64 bits")

    def signed(self) -> int:
        """Return the next number with a sign."""
        value = self.varint()
        return -((value + 1) >> 1) if value & 1 else value >> 1

    def count(self, limit: int, what: str) -> int:
        """Return the next number; raises Invalid where it exceeds ``limit``."""
        value = self.varint()
        if value > limit:
            raise Invalid(f"the batch claims {value} {what}, at most {limit} are read")
        return value


def pack(kind: int, version: int, sections: Sequence[bytes]) -> bytes:
    """Return ``sections`` as one batch; raises Invalid where that exceeds a limit."""
    if sum(map(len, sections)) > MAX_PLAIN_BYTES:
        raise Invalid(f"a batch of more than {MAX_PLAIN_BYTES} bytes uncompressed: send fewer rows")
    out = Writer()
    out.raw(bytes((_MAGIC, kind)))
    out.varint(version)
    for section in sections:
        level = _BEST_LEVEL if len(section) <= _BEST_UP_TO_BYTES else _FAST_LEVEL
        packed = zstandard.ZstdCompressor(level=level, write_content_size=True).compress(section)
        is_smaller = len(packed) < len(section)
        kept = packed if is_smaller else section
        out.varint(len(kept) << 1 | is_smaller)
        out.raw(kept)
    if len(out.data) > MAX_BATCH_BYTES:
        raise Invalid(f"a batch of more than {MAX_BATCH_BYTES} bytes: send fewer rows")
    return bytes(out.data)


def unpack(data: bytes, kind: int, newest: int) -> tuple[int, list[bytes]]:
    """Return the version of a batch and its sections; raises Invalid, BatchTooNew for one after ``newest``."""
    if len(data) > MAX_BATCH_BYTES:
        raise Invalid(f"a batch of {len(data)} bytes, at most {MAX_BATCH_BYTES} are read")
    source = Reader(data)
    if source.byte() != _MAGIC:
        raise Invalid("this is not a batch")
    if (found := source.byte()) != kind:
        raise Invalid(f"this is a batch of {_KINDS.get(found, 'an unknown kind')}, not of {_KINDS[kind]}")
    version = source.varint()
    if version < 1:
        raise Invalid(f"the batch has version {version}, the first is 1")
    if version > newest:
        raise BatchTooNew(
            f"the batch of {_KINDS[kind]} has version {version}, this program reads versions up to {newest}: "
            "install a later one here and send it again"
        )
    sections: list[bytes] = []
    left = MAX_PLAIN_BYTES
    while not source.is_done:
        length = source.varint()
        section = source.take(length >> 1)
        if length & 1:
            section = _plain(section, left)
        left -= len(section)
        if left < 0:
            raise Invalid(f"the batch holds more than {MAX_PLAIN_BYTES} bytes")
        sections.append(section)
    return version, sections


def _plain(packed: bytes, limit: int) -> bytes:
    # The length comes from the frame and is believed by the library: it must be looked at first.
    try:
        size = zstandard.get_frame_parameters(packed).content_size
        if size > limit:  # also where the frame does not say
            raise Invalid(f"the batch holds more than {MAX_PLAIN_BYTES} bytes, or does not say how many")
        return zstandard.ZstdDecompressor(max_window_size=MAX_PLAIN_BYTES).decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Invalid("a section of the batch does not decompress") from error
