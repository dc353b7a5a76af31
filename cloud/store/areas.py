"""What lies near a place, by the spatial index: zones that count, and corridors. The station's answer, in PostGIS.

Boxes give candidates (GiST); each is then measured to the nearest point of its edge, on the ellipsoid, where a degree
of longitude is as long as one of latitude.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cloud.store.arrays import numbers_array
from cloud.store.database import Connection
from shared.movement.areas import Nearby, Place, lon_scale, nearby_corridor, nearby_zone, windows

_POINT: Final = "ST_SetSRID(ST_MakePoint(w.lon, w.lat), 4326)"
_MEASURED: Final = (
    f"CASE WHEN ST_Distance(r.geom, {_POINT}) = 0 THEN 0 ELSE ST_Length(ST_Scale(ST_ShortestLine(ST_Scale(r.geom,"
    f" w.scale, 1), ST_Scale({_POINT}, w.scale, 1)), 1 / w.scale, 1)::geography) END"
)
_BOXES: Final = f"unnest(%s::int[], {', '.join(['%s::float8[]'] * 7)}) w (n, lon, lat, scale, west, south, east, north)"
_IN_BOX: Final = "r.geom && ST_MakeEnvelope(w.west, w.south, w.east, w.north, 4326) AND r.deleted_ms IS NULL"
_ZONES: Final = (
    f"SELECT w.n, r.id, {_MEASURED}, r.name, r.zone_type, r.risk_level, r.buffer_m FROM {_BOXES}"
    f" JOIN zones r ON {_IN_BOX} AND r.is_active"
)
_CORRIDORS: Final = (
    f"SELECT w.n, r.id, {_MEASURED}, r.name, r.species, r.status,"
    f" CASE ST_Dimension(r.geom) WHEN 1 THEN r.width_m ELSE 0 END FROM {_BOXES} JOIN corridors r ON {_IN_BOX}"
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
    if not places or (buffer_m is None and half_width_m is None):
        return [[] for _ in places]
    zones = await _nearest(connection, _ZONES, places, max(reach_m, buffer_m or 0.0))
    corridors = await _nearest(connection, _CORRIDORS, places, reach_m + (half_width_m or 0.0))
    found = []
    for zone_rows, corridor_rows in zip(zones, corridors, strict=True):
        near = [*map(nearby_zone, zone_rows), *map(nearby_corridor, corridor_rows)]
        near = [each for each in near if each.distance_m <= max(reach_m, each.buffer_m)]
        found.append(sorted(near, key=lambda each: (each.distance_m, each.kind, each.id)))
    return found


async def areas_mark(connection: Connection) -> tuple[int, ...]:
    """Return what changes with every zone and every corridor: each change gives a record a higher revision."""
    marks: list[int] = []
    for table in ("zones", "corridors"):
        found = await connection.execute(
            b"SELECT count(*), coalesce(sum(rev), 0)::bigint, coalesce(sum(updated_ms), 0)::bigint FROM"
            + f" {table}".encode()
        )
        row = await found.fetchone()
        assert row is not None
        marks += row
    return tuple(marks)


async def _nearest(
    connection: Connection, statement: str, places: Sequence[Place], reach_m: float
) -> list[list[Sequence[Any]]]:
    """Return for each place and area the row with the least distance: it may lie across the antimeridian."""
    boxes = [
        (n, each.lon_deg, place.lat_deg, lon_scale(place.lat_deg), each.west, each.south, each.east, each.north)
        for n, place in enumerate(places)
        for each in windows(place, reach_m)
    ]
    nearest: list[dict[str, Sequence[Any]]] = [{} for _ in places]
    found = await connection.execute(statement.encode(), [numbers_array(column) for column in zip(*boxes, strict=True)])
    for n, *row in await found.fetchall():
        if row[0] not in nearest[n] or row[1] < nearest[n][row[0]][1]:
            nearest[n][row[0]] = row
    return [list(rows.values()) for rows in nearest]
