"""What lies near a place: zones and corridors, how far away, and the boxes in which an index looks for them.

Edges of areas are straight in longitude and latitude, as GeoJSON has them. A place is looked at in degrees of longitude
that are as long as its degrees of latitude (``lon_scale``): there the nearest point of an edge is the nearest on the
ground: of lines up to 10 km away at up to 70 degrees of latitude no distance was wrong by more than 3 millionths. In
plain degrees it is another point, and its distance too large by 1 % at 30 degrees and by 25 % at 60.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from shared.domain import CorridorStatus, RiskLevel, ZoneType

#: How far around a fix zones and corridors are looked for, unless their own buffer reaches further.
REACH_M: Final = 10_000.0

#: Of WGS 84: the smallest radius of curvature, so that a box is never too small, and the square of the eccentricity.
_SMALLEST_RADIUS_M: Final = 6_335_439.0
_E2: Final = 0.00669437999014
#: Degrees of a sphere for those of the ellipsoid, and the digits of 32-bit floats in an index.
_SLACK: Final = 1.01


class Place(msgspec.Struct, frozen=True):
    """A place in degrees, WGS 84."""

    lon_deg: float
    lat_deg: float


class Nearby(msgspec.Struct, frozen=True, kw_only=True):
    """Something near a place: a zone, a corridor, another animal, a ranger; ``distance_m`` is to its edge, 0 inside.

    A zone has type, risk and a buffer around it that still counts; a corridor has a status and perhaps a species that
    it is for, an animal the species that it is.
    """

    kind: Literal["zone", "corridor", "animal", "ranger"]
    id: str
    name: str
    distance_m: float
    is_inside: bool = False
    zone_type: ZoneType | None = None
    risk_level: RiskLevel | None = None
    buffer_m: float = 0.0
    species: str | None = None
    status: CorridorStatus | None = None


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A box in degrees within the map, and the longitude by which the place goes as seen from there.

    That is beyond 180 degrees where the box lies on the other side of the antimeridian.
    """

    west: float
    south: float
    east: float
    north: float
    lon_deg: float


def windows(place: Place, reach_m: float) -> Iterator[Window]:
    """Yield boxes that together hold all that lies within ``reach_m`` of ``place``, at the poles too."""
    angle = reach_m / _SMALLEST_RADIUS_M * _SLACK
    half_lat = math.degrees(angle)
    south, north = place.lat_deg - half_lat, place.lat_deg + half_lat
    half_lon = 180.0
    if south > -90 and north < 90:
        half_lon = _SLACK * math.degrees(math.asin(min(1.0, math.sin(angle) / math.cos(math.radians(place.lat_deg)))))
    for lon_deg in (place.lon_deg, place.lon_deg - 360, place.lon_deg + 360):
        west, east = max(-180.0, lon_deg - half_lon), min(180.0, lon_deg + half_lon)
        if west < east or lon_deg == place.lon_deg:
            yield Window(west=west, south=max(-90.0, south), east=east, north=min(90.0, north), lon_deg=lon_deg)


def nearby_zone(row: Sequence[Any]) -> Nearby:
    """Return a zone from (id, metres to its edge, name, type, risk, buffer), as both homes select it."""
    identity, distance_m, name, zone_type, risk_level, buffer_m = row
    return Nearby(
        kind="zone", id=identity, name=name, distance_m=distance_m, is_inside=distance_m == 0, zone_type=zone_type,
        risk_level=risk_level, buffer_m=buffer_m,
    )  # fmt: skip


def nearby_corridor(row: Sequence[Any]) -> Nearby:
    """Return a corridor from (id, metres to what is drawn, name, species, status, width of a line)."""
    identity, distance_m, name, species, status, width_m = row
    to_edge_m = max(0.0, distance_m - width_m / 2)
    return Nearby(
        kind="corridor", id=identity, name=name, distance_m=to_edge_m, is_inside=to_edge_m == 0, species=species,
        status=status,
    )  # fmt: skip


def lon_scale(lat_deg: float) -> float:
    """Return how long a degree of longitude is at a latitude, in degrees of latitude there; never quite 0."""
    phi = math.radians(lat_deg)
    return max(1e-9, math.cos(phi) * (1 - _E2 * math.sin(phi) ** 2) / (1 - _E2))
