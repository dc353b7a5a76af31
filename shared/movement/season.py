"""Wet or dry: the rains of Africa by latitude, as rough as such a word is.

Around the equator (10 degrees to either side) it rains from March to May and from October to December, south of it from
November to April, north of it from June to September (Nicholson 2018, doi:10.1029/2018RG000616, for the east; the
Intertropical Convergence Zone's course for the rest). Elsewhere there is no answer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

Season = Literal["wet", "dry"]

_EQUATORIAL_DEG: Final = 10.0
_BOTH_RAINS: Final = frozenset({3, 4, 5, 10, 11, 12})
_SOUTHERN_RAINS: Final = frozenset({11, 12, 1, 2, 3, 4})
_NORTHERN_RAINS: Final = frozenset({6, 7, 8, 9})


def season(lon_deg: float, lat_deg: float, at: datetime) -> Season | None:
    """Return the season of a place in Africa between 35 south and 18 north; None elsewhere."""
    if not (-18.0 <= lon_deg <= 52.0 and -35.0 <= lat_deg <= 18.0):
        return None
    beyond = _SOUTHERN_RAINS if lat_deg < 0 else _NORTHERN_RAINS
    rains = _BOTH_RAINS if abs(lat_deg) <= _EQUATORIAL_DEG else beyond
    return "wet" if at.month in rains else "dry"
