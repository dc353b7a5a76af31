"""Identifiers: derived ones, so that storing twice is storing once, and random ones for what people create.

A collar fix's id is 128 bits in UUID layout (version 8, RFC 9562)::

    48 bits   raw device time, ms since 1970 (clamped at 0): ids sort by time, a partition follows from the id
     4 bits   version 8
    12 bits   hash
     2 bits   variant
    62 bits   hash

The hash covers (canonical device, raw time, lon and lat in 1e-7 degree), so every copy of a fix, over two base
stations, MQTT, a phone and a replayed batch, has one id. The raw time is what the device said, before any correction:
a corrected week rollover does not change the id. A failed fix has no position; its id covers the time alone.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import uuid

_KEY = struct.Struct(">qqq")
NO_POSITION = -(2**62)
MAX_48 = 2**48 - 1
# Of the last 80 bits of a fix's id, what the hash fills, and what marks version and variant.
HASH = 0x0FFF_3FFF_FFFF_FFFF_FFFF
MARKS = 0x8000_8000_0000_0000_0000


def fix_id(device: str, raw_ms: int, lon_e7: int | None, lat_e7: int | None) -> bytes:
    """Return the 16-byte id of the fix that ``device`` recorded at ``raw_ms`` (ms since 1970, its own clock)."""
    packed = _KEY.pack(
        raw_ms,
        NO_POSITION if lon_e7 is None else lon_e7,
        NO_POSITION if lat_e7 is None else lat_e7,
    )
    digest = hashlib.blake2b(device.encode() + b"\x00" + packed, digest_size=10).digest()
    head = min(max(raw_ms, 0), MAX_48) << 80
    return (head | int.from_bytes(digest, "big") & HASH | MARKS).to_bytes(16, "big")


def fix_time_ms(fix: bytes) -> int:
    """Return the raw device time that a fix id begins with, ms since 1970."""
    return int.from_bytes(fix[:6], "big")


def random_id() -> str:
    """Return a new random id for a record that a person creates (UUID version 4, canonical text)."""
    return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))


def derived_id(of: str, what: str) -> str:
    """Return the id of what follows from ``of`` (an operation's id): the same wherever it is worked out."""
    digest = hashlib.blake2b(f"{of}\0{what}".encode(), digest_size=16).digest()
    return str(
        uuid.UUID(bytes=bytes((*digest[:6], 0x80 | digest[6] & 0x0F, digest[7], 0x80 | digest[8] & 0x3F, *digest[9:])))
    )


def id_text(raw: bytes) -> str:
    """Return the canonical UUID text of a 16-byte id."""
    digits = raw.hex()  # a quarter of what the library's object takes, and lists have thousands
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def id_bytes(text: str) -> bytes:
    """Return the 16 bytes of a UUID in text; raises ValueError for anything else."""
    return uuid.UUID(text).bytes
