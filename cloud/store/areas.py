"""What lies near a place, by the spatial index: zones that count, and corridors. The station's answer, in PostGIS.

Boxes give candidates (GiST); each is then measured to the nearest point of its edge, on the ellipsoid, where a degree
of longitude is as long as one of latitude.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cloud.store.database import Connection
from shared.movement.areas import Nearby, Place, lon_scale, nearby_corridor, nearby_zone, windows

_POINT: Final = "ST_SetSRID(ST_MakePoint(%(lon)s, %(lat)s), 4326)"
_MEASURED: Final = (
    f"CASE WHEN ST_Distance(r.geom, {_POINT}) = 0 THEN 0 ELSE ST_Length(ST_Scale(ST_ShortestLine(ST_Scale(r.geom,"
    f" %(scale)s, 1), ST_Scale({_POINT}, %(scale)s, 1)), 1 / %(scale)s, 1)::geography) END"
)
_IN_BOX: Final = "r.geom && ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326) AND r.deleted_ms IS NULL"
_ZONES: Final = (
    f"SELECT r.id, {_MEASURED}, r.name, r.zone_type, r.risk_level, r.buffer_m FROM zones r"
    f" WHERE {_IN_BOX} AND r.is_active"
)
_CORRIDORS: Final = (
    f"SELECT r.id, {_MEASURED}, r.name, r.species, r.status, CASE ST_Dimension(r.geom) WHEN 1 THEN r.width_m ELSE 0 END"
    f" FROM corridors r WHERE {_IN_BOX}"
)
_WIDEST: Final = (
    "SELECT (SELECT max(buffer_m) FROM zones WHERE is_active AND deleted_ms IS NULL),"
    " (SELECT max(width_m) / 2 FROM corridors WHERE deleted_ms IS NULL)"
)


async def areas_near_each(connection: Connection, places: Sequence[Place], reach_m: float) -> list[list[Nearby]]:
    """Return of each place the zones and corridors within ``reach_m`` or their own buffer, the nearest first."""
    widest = await (await connection.execute(_WIDEST)).fetchone()
    assert widest is not None
    buffer_m, half_width_m = widest
    if buffer_m is None and half_width_m is None:
        return [[] for _ in places]
    found = []
    for place in places:
        near = [nearby_zone(row) for row in await _nearest(connection, _ZONES, place, max(reach_m, buffer_m or 0.0))]
        corridors = await _nearest(connection, _CORRIDORS, place, reach_m + (half_width_m or 0.0))
        near += [nearby_corridor(row) for row in corridors]
        near = [each for each in near if each.distance_m <= max(reach_m, each.buffer_m)]
        found.append(sorted(near, key=lambda each: (each.distance_m, each.kind, each.id)))
    return found


async def _nearest(connection: Connection, statement: str, place: Place, reach_m: float) -> list[Sequence[Any]]:
    """Return for each area its row with the least distance: it may lie on both sides of the antimeridian."""
    nearest: dict[str, Sequence[Any]] = {}
    for window in windows(place, reach_m):
        values = {
            "lon": window.lon_deg, "lat": place.lat_deg, "scale": lon_scale(place.lat_deg), "west": window.west,
            "east": window.east, "south": window.south, "north": window.north,
        }  # fmt: skip
        for row in await (await connection.execute(statement, values)).fetchall():
            if row[0] not in nearest or row[1] < nearest[row[0]][1]:
                nearest[row[0]] = row
    return list(nearest.values())
