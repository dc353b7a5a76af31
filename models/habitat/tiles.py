"""Web mercator tiles: where the pixels of z/x/y lie, and a PNG of them.

A tile of zoom z is one of 2^z by 2^z squares of the world between +-85.0511 degrees, x from the west, y from the north.
The PNG has a palette: colour 0 is transparent, *no map*, and 1 to 255 are suitabilities from 0 to 1 in steps of 1/254,
from pale to dark green as the eye orders them (darker is better, also without colour). It is a few kilobytes, and a
client that wants the number back reads the palette's index.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid

FloatArray = npt.NDArray[np.float64]

TILE_PIXELS: Final = 256
DEEPEST_ZOOM: Final = 22
_STEPS: Final = 254
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_STOPS: Final = ((247, 244, 220), (173, 203, 126), (52, 132, 78), (4, 48, 40))


def pixel_positions(zoom: int, x: int, y: int) -> tuple[FloatArray, FloatArray]:
    """Return the longitudes of the columns' middles and the latitudes of the rows' middles, (256,) degrees each.

    Raises Invalid for a tile that is not there.
    """
    if not 0 <= zoom <= DEEPEST_ZOOM:
        raise Invalid(f"zoom {zoom}: there are 0 to {DEEPEST_ZOOM}")
    if not (0 <= x < 1 << zoom and 0 <= y < 1 << zoom):
        raise Invalid(f"tile {zoom}/{x}/{y}: x and y are 0 to {(1 << zoom) - 1} at this zoom")
    middles = (np.arange(TILE_PIXELS) + 0.5) / TILE_PIXELS
    lon_deg = (x + middles) / (1 << zoom) * 360.0 - 180.0
    lat_deg = np.degrees(np.arctan(np.sinh(math.pi * (1.0 - 2.0 * (y + middles) / (1 << zoom)))))
    return lon_deg, lat_deg


def coloured(suitability: FloatArray) -> bytes:
    """Return a PNG of suitabilities from 0 to 1, shape (256, 256); NaN is transparent."""
    is_known = np.isfinite(suitability)
    steps = np.rint(np.clip(np.where(is_known, suitability, 0.0), 0.0, 1.0) * _STEPS) + 1
    return _png(np.where(is_known, steps, 0).astype(np.uint8))


def empty_tile() -> bytes:
    """Return the tile of a place without a map: transparent."""
    return _png(np.zeros((TILE_PIXELS, TILE_PIXELS), dtype=np.uint8))


def _png(indices: npt.NDArray[np.uint8]) -> bytes:
    height, width = indices.shape
    # Each row begins with its filter; none suits indices.
    rows = np.concatenate((np.zeros((height, 1), dtype=np.uint8), indices), axis=1).tobytes()
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", _PALETTE),
            _chunk(b"tRNS", b"\0"),
            _chunk(b"IDAT", zlib.compress(rows, 6)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _palette() -> bytes:
    places = np.linspace(0, len(_STOPS) - 1, _STEPS + 1)
    channels = [np.interp(places, range(len(_STOPS)), [stop[channel] for stop in _STOPS]) for channel in range(3)]
    return b"\0\0\0" + np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes()


_PALETTE: Final = _palette()
