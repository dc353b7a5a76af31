"""Areas and routes as GeoJSON text (RFC 7946): checked where they come in, so that no database refuses them later.

For the databases' spatial columns a text becomes well-known binary here, not by their own readers: SpatiaLite's takes a
corner with a height for another kind of geometry, which its columns refuse, and gives nothing at all for a member that
is null; PostGIS refuses a ring whose first and last corner differ in height.
"""

from __future__ import annotations

import math
import struct
from typing import Any, Final

import msgspec

from shared.errors import Invalid

#: More corners than any reserve's border has, and few enough to answer quickly.
MAX_CORNERS: Final = 50_000
#: Longer than so many corners with every digit that says something; what is longer would fit in no batch.
MAX_CHARACTERS: Final = 2_500_000

#: Kinds of geometry; the second of two is many of the first.
LINES: Final = ("LineString", "MultiLineString")
AREAS: Final = ("Polygon", "MultiPolygon")

#: Well-known binary, as OGC Simple Features numbers its kinds; 1 says that the low byte comes first.
_WKB_LINE, _WKB_POLYGON, _WKB_LINES, _WKB_POLYGONS = 2, 3, 5, 6
_HEAD: Final = struct.Struct("<BII")
_COUNT: Final = struct.Struct("<I")


class _Kind(msgspec.Struct):
    type: str


def check_area(text: str) -> None:
    """Raise Invalid unless ``text`` is a GeoJSON Polygon or MultiPolygon in degrees with closed rings."""
    _read(text, AREAS)


def check_route(text: str) -> None:
    """Raise Invalid unless ``text`` is a GeoJSON line, area, or many of either, in degrees."""
    _read(text, LINES + AREAS)


def check_lines(field: str, text: str) -> None:
    """Raise Invalid unless ``text`` is a GeoJSON line or many of them, in degrees; ``field`` is what it is told of."""
    try:
        _read(text, LINES)
    except Invalid as error:
        raise Invalid(error.detail.replace("geometry", field, 1)) from error


def check_region(field: str, text: str) -> None:
    """Raise Invalid unless ``text`` is a GeoJSON area in degrees; ``field`` is what it is told of."""
    try:
        _read(text, AREAS)
    except Invalid as error:
        raise Invalid(error.detail.replace("geometry", field, 1)) from error


def is_area(text: str) -> bool:
    """Say whether GeoJSON text that was checked is a Polygon or MultiPolygon."""
    return msgspec.json.decode(text, type=_Kind).type in AREAS


def wkb_of(text: str | None) -> bytes | None:
    """Return GeoJSON lines or areas as well-known binary: a MultiLineString or MultiPolygon of two dimensions.

    None for no text, and for one that is none of these: a record of another home is kept also where it is broken.
    """
    if text is None:
        return None
    try:
        kind, parts = _read(text, LINES + AREAS)
    except Invalid:
        return None
    if kind in LINES:
        lines = [_HEAD.pack(1, _WKB_LINE, len(line)) + _corners(line) for line in parts]
        return _HEAD.pack(1, _WKB_LINES, len(lines)) + b"".join(lines)
    polygons = [
        _HEAD.pack(1, _WKB_POLYGON, len(rings)) + b"".join(_COUNT.pack(len(ring)) + _corners(ring) for ring in rings)
        for rings in parts
    ]
    return _HEAD.pack(1, _WKB_POLYGONS, len(polygons)) + b"".join(polygons)


def _corners(corners: list[Any]) -> bytes:
    # adding nothing makes -0.0 into 0.0: PostGIS compares the ends of a ring bit by bit
    return struct.pack(f"<{2 * len(corners)}d", *(value + 0.0 for corner in corners for value in corner[:2]))


def _read(text: str, kinds: tuple[str, ...]) -> tuple[str, list[Any]]:
    """Return the kind of a geometry and its lines or polygons; raises Invalid unless it is one of ``kinds``."""
    if len(text) > MAX_CHARACTERS:
        raise Invalid(f"geometry: has {len(text)} characters; {MAX_CHARACTERS} are taken")
    try:
        shape = msgspec.json.decode(text)
    except (msgspec.DecodeError, TypeError, UnicodeEncodeError, RecursionError) as error:
        raise Invalid(f"geometry: is no GeoJSON: {error}") from error
    kind = shape.get("type") if isinstance(shape, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise Invalid(f"geometry: must be a GeoJSON {', '.join(kinds[:-1])} or {kinds[-1]}")
    parts = shape.get("coordinates")
    if not kind.startswith("Multi"):
        parts = [parts]
    elif not isinstance(parts, list):
        raise Invalid(f"geometry: must be a GeoJSON {', '.join(kinds[:-1])} or {kinds[-1]}")
    corners = sum(_check_line(part) if kind in LINES else _check_polygon(part) for part in parts)
    if not corners or corners > MAX_CORNERS:
        raise Invalid(f"geometry: has {corners} corners; 1 to {MAX_CORNERS} are taken")
    return kind, parts


def _check_line(line: Any) -> int:
    if not isinstance(line, list) or len(line) < 2:
        raise Invalid("geometry: a line has at least two corners")
    _check_corners(line)
    if len({tuple(corner[:2]) for corner in line}) < 2:
        raise Invalid("geometry: a line leads somewhere")
    return len(line)


def _check_polygon(polygon: Any) -> int:
    if not isinstance(polygon, list) or not polygon:
        raise Invalid("geometry: a polygon is a list of rings")
    return sum(_check_ring(ring) for ring in polygon)


def _check_ring(ring: Any) -> int:
    if not isinstance(ring, list) or len(ring) < 4:
        raise Invalid("geometry: a ring has at least four corners")
    _check_corners(ring)
    if ring[0][:2] != ring[-1][:2]:
        raise Invalid("geometry: a ring ends where it begins")
    if len({tuple(corner[:2]) for corner in ring}) < 3:
        raise Invalid("geometry: a ring encloses an area")
    return len(ring)


def _check_corners(corners: list[Any]) -> None:
    for corner in corners:
        if not isinstance(corner, list) or len(corner) < 2 or not all(_is_number(value) for value in corner):
            raise Invalid("geometry: a corner is [longitude, latitude]")
        if abs(corner[0]) > 180 or abs(corner[1]) > 90:
            raise Invalid("geometry: a longitude is within 180 degrees, a latitude within 90")


def _is_number(value: Any) -> bool:
    # a whole number may have any number of digits; JSON has no infinity, but floats do
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf
