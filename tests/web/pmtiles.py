"""A map in one file (PMTiles version 3) of a single picture, as small as it can be.

::

    magic, version | offset and length of directory, metadata, leaves, tiles | counts | kinds, zooms | bounds | centre
    directory: how many entries, then their ids, runs, lengths and offsets, each as variable-length integers
"""

from __future__ import annotations

import io
import struct

from PIL import Image

_HEADER_BYTES = 127
_NONE, _PNG = 1, 2


def one_colour(colour: tuple[int, int, int]) -> bytes:
    """Return a map whose one tile, the whole world, has one colour."""
    png = io.BytesIO()
    Image.new("RGB", (256, 256), colour).save(png, "PNG")
    picture = png.getvalue()
    directory = b"".join(_varint(each) for each in (1, 0, 1, len(picture), 1))
    metadata = b"{}"
    at = _HEADER_BYTES + len(directory)
    places = struct.pack(
        "<11Q",
        _HEADER_BYTES, len(directory), at, len(metadata), 0, 0, at + len(metadata), len(picture), 1, 1, 1,
    )  # fmt: skip
    kinds = struct.pack("<6B", 1, _NONE, _NONE, _PNG, 0, 0)
    bounds = struct.pack("<4i", -1_800_000_000, -850_000_000, 1_800_000_000, 850_000_000)
    header = b"PMTiles\x03" + places + kinds + bounds + struct.pack("<B2i", 0, 0, 0)
    assert len(header) == _HEADER_BYTES
    return header + directory + metadata + picture


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
