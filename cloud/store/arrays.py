"""Lists as PostgreSQL's arrays, for ``unnest``: the driver's own way asks a pattern of every element.

Most are text. Thousands of keys at a time go as the server keeps them (``BinaryArray``), so that it reads no digits.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format


def numbers_array(values: Sequence[int | float | None]) -> str:
    """Return numbers as an array."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def texts_array(values: Sequence[str]) -> str:
    """Return texts as an array."""
    quoted = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return '{"' + '","'.join(quoted) + '"}' if quoted else "{}"


def bytes_array(values: Sequence[bytes | None]) -> str:
    """Return bytes as an array of bytea."""
    return "{" + ",".join(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values]) + "}"


class BinaryArray:
    """An array as it goes over the wire: of elements that are all of one size."""

    def __init__(self, elements: Sequence[bytes], size: int, oid: int) -> None:
        n = len(elements)
        length = struct.pack(">i", size)
        # dimensions, NULLs, type, and of the one dimension how long it is and where it begins
        head = struct.pack(">iiIii", 1, 0, oid, n, 1) if n else struct.pack(">iiI", 0, 0, oid)
        #: what is sent
        self.data: Final = head + length + length.join(elements) if n else head


class UuidArray(BinaryArray):
    """Ids of 16 bytes each."""

    def __init__(self, ids: Sequence[bytes]) -> None:
        super().__init__(ids, 16, psycopg.adapters.types["uuid"].oid)


class BigintArray(BinaryArray):
    """Numbers of 64 bits, as 8 bytes each."""

    def __init__(self, numbers: Sequence[bytes]) -> None:
        super().__init__(numbers, 8, psycopg.adapters.types["int8"].oid)


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: BinaryArray) -> bytes:
        return obj.data


class _UuidArrayDumper(_ArrayDumper):
    oid = psycopg.adapters.types["uuid"].array_oid


class _BigintArrayDumper(_ArrayDumper):
    oid = psycopg.adapters.types["int8"].array_oid


#: What the connections of the cloud send, and how.
ADAPTERS: Final = AdaptersMap(psycopg.adapters)
ADAPTERS.register_dumper(UuidArray, _UuidArrayDumper)
ADAPTERS.register_dumper(BigintArray, _BigintArrayDumper)
