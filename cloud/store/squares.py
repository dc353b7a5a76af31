"""The squares into which a map is cut to be thinned, in SQL: places on Web Mercator as integers of 31 bits.

A tile of zoom ``z`` is the square of side ``2**(31 - z)`` steps, and is itself cut into 128 squares a side: four dots
of a screen, about the size of what is drawn in them. Squares nest: the one of a coarser zoom is four of the next, and
which one a place lies in is a shift of bits.
"""

from __future__ import annotations

import math
from typing import Final

BITS: Final = 31
#: A tile is cut into so many squares a side, and so many steps of its own.
SQUARE_BITS: Final = 7
SQUARES: Final = 2**SQUARE_BITS
EXTENT: Final = 4096

_STEPS: Final = 2**BITS
_HALF_TURN_E7: Final = 1_800_000_000
#: More than a digit of a place.
_HAIR_DEG: Final = 1e-6
#: Beyond it the map ends.
LAST_LAT_E7: Final = 850_511_287

#: Fixes ``f`` that are on the map at all; for any other the two columns below may be no number.
ON_MAP: Final = (
    f"f.lon_e7 BETWEEN {-_HALF_TURN_E7} AND {_HALF_TURN_E7} AND f.lat_e7 BETWEEN {-LAST_LAT_E7} AND {LAST_LAT_E7}"
)
X: Final = f"least(((f.lon_e7 + {_HALF_TURN_E7}) << {BITS}) / {2 * _HALF_TURN_E7}, {_STEPS - 1})"
_SINE: Final = f"sin(least(greatest(f.lat_e7, {-LAST_LAT_E7}), {LAST_LAT_E7}) * {math.radians(1e-7)!r}::float8)"
Y: Final = f"floor((0.5::float8 - atanh({_SINE}) * {0.5 / math.pi!r}::float8) * {_STEPS}::float8)::bigint"


def square_bits(z: int) -> int:
    """Return how many bits of a place lie within a square of zoom ``z``."""
    return BITS - SQUARE_BITS - z


def box_deg(bits: int, column: int, row: int) -> tuple[float, float, float, float]:
    """Return west, south, east and north of a square where the map has ``2**bits`` a side, a hair wider than it is."""

    def lat_deg(at: int) -> float:
        return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * at / 2**bits))))

    side = 360 / 2**bits
    return (
        column * side - 180 - _HAIR_DEG, lat_deg(row + 1) - _HAIR_DEG, (column + 1) * side - 180 + _HAIR_DEG,
        lat_deg(row) + _HAIR_DEG,
    )  # fmt: skip
