"""Areas as GeoJSON text (RFC 7946): checked where they come in, so that no database refuses them later."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from shared.errors import Invalid

#: More corners than any reserve's border has, and few enough to answer quickly.
MAX_CORNERS: Final = 50_000
#: Longer than so many corners with every digit that says something; what is longer would fit in no batch.
MAX_CHARACTERS: Final = 2_500_000


def check_area(text: str) -> None:
    """Raise Invalid unless ``text`` is a GeoJSON Polygon or MultiPolygon in degrees with closed rings."""
    if len(text) > MAX_CHARACTERS:
        raise Invalid(f"geometry: has {len(text)} characters; {MAX_CHARACTERS} are taken")
    try:
        shape = msgspec.json.decode(text)
    except (msgspec.DecodeError, TypeError, UnicodeEncodeError, RecursionError) as error:
        raise Invalid(f"geometry: is no GeoJSON: {error}") from error
    kind = shape.get("type") if isinstance(shape, dict) else None
    if kind == "Polygon":
        polygons = [shape.get("coordinates")]
    elif kind == "MultiPolygon" and isinstance(shape.get("coordinates"), list):
        polygons = shape["coordinates"]
    else:
        raise Invalid("geometry: must be a GeoJSON Polygon or MultiPolygon")
    corners = 0
    for polygon in polygons:
        if not isinstance(polygon, list) or not polygon:
            raise Invalid("geometry: a polygon is a list of rings")
        for ring in polygon:
            corners += _check_ring(ring)
    if not corners or corners > MAX_CORNERS:
        raise Invalid(f"geometry: has {corners} corners; 1 to {MAX_CORNERS} are taken")


def _check_ring(ring: Any) -> int:
    if not isinstance(ring, list) or len(ring) < 4:
        raise Invalid("geometry: a ring has at least four corners")
    for corner in ring:
        if not isinstance(corner, list) or len(corner) < 2 or not all(_is_number(value) for value in corner):
            raise Invalid("geometry: a corner is [longitude, latitude]")
        if abs(corner[0]) > 180 or abs(corner[1]) > 90:
            raise Invalid("geometry: a longitude is within 180 degrees, a latitude within 90")
    if ring[0][:2] != ring[-1][:2]:
        raise Invalid("geometry: a ring ends where it begins")
    if len({tuple(corner[:2]) for corner in ring}) < 3:
        raise Invalid("geometry: a ring encloses an area")
    return len(ring)


def _is_number(value: Any) -> bool:
    # a whole number may have any number of digits; JSON has no infinity, but floats do
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf
