"""What lies near a fix, by the spatial index: zones that count, and corridors.

The R*Tree gives candidates by their boxes; each is then measured, first in degrees (0 is inside, for areas of any
shape, also such as cross themselves), then to the nearest point of its edge, on the ellipsoid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from edge.store.driver import Connection
from shared.movement.areas import Nearby, Place, lon_scale, nearby_corridor, nearby_zone, windows

#: Distances from the place (:lon, :lat) to a geometry: in degrees, and in metres along the shortest line between them,
#: found where a degree of longitude is as long as one of latitude (:scale).
_MEASURED: Final = (
    "ST_Distance(r.geom, MakePoint(:lon, :lat, 4326)),"
    " ST_Length(ScaleCoords(ST_ShortestLine(ScaleCoords(r.geom, :scale, 1.0), MakePoint(:lon * :scale, :lat, 4326)),"
    " 1.0 / :scale, 1.0), 1)"
)
_IN_BOX: Final = (
    "r.pk IN (SELECT pkid FROM idx_{0}_geom"
    " WHERE xmax >= :west AND xmin <= :east AND ymax >= :south AND ymin <= :north)"
)
_ZONES: Final = (
    f"SELECT r.id, {_MEASURED}, r.name, r.zone_type, r.risk_level, r.buffer_m FROM zones r"
    f" WHERE {_IN_BOX.format('zones')} AND r.is_active AND r.deleted_ms IS NULL"
)
_CORRIDORS: Final = (
    f"SELECT r.id, {_MEASURED}, r.name, r.species, r.status, CASE ST_Dimension(r.geom) WHEN 1 THEN r.width_m ELSE 0 END"
    f" FROM corridors r WHERE {_IN_BOX.format('corridors')} AND r.deleted_ms IS NULL"
)
_SHAPES: Final = (
    "SELECT r.id, r.rev, r.name, r.zone_type, r.risk_level, r.geometry FROM zones r"
    f" WHERE {_IN_BOX.format('zones')} AND r.is_active AND r.deleted_ms IS NULL AND r.zone_type <> 'protected_area'"
)
_WIDEST: Final = (
    "SELECT (SELECT max(buffer_m) FROM zones WHERE is_active AND deleted_ms IS NULL),"
    " (SELECT max(width_m) / 2 FROM corridors WHERE deleted_ms IS NULL)"
)


def areas_near(db: Connection, lon_deg: float, lat_deg: float, *, reach_m: float) -> list[Nearby]:
    """Return the zones and corridors within ``reach_m`` of a place or their own buffer, the nearest first.

    Only active zones; corridors whatever their status. A line's corridor reaches half its width to either side.
    """
    return areas_near_each(db, [Place(lon_deg, lat_deg)], reach_m=reach_m)[0]


def areas_near_each(db: Connection, places: Sequence[Place], *, reach_m: float) -> list[list[Nearby]]:
    """Return what ``areas_near`` says of each of ``places``, in their order."""
    buffer_m, half_width_m = db.execute(_WIDEST).fetchone()
    found = []
    for place in places:
        near = _measured(db, _ZONES, place, max(reach_m, buffer_m or 0.0), nearby_zone)
        near += _measured(db, _CORRIDORS, place, reach_m + (half_width_m or 0.0), nearby_corridor)
        near = [each for each in near if each.distance_m <= max(reach_m, each.buffer_m)]
        found.append(sorted(near, key=lambda each: (each.distance_m, each.kind, each.id)))
    return found


def areas_mark(db: Connection) -> tuple[int, ...]:
    """Return what changes with every zone and every corridor: each change gives a record a higher revision."""
    statements = (
        f"SELECT count(*), coalesce(sum(rev), 0), coalesce(sum(updated_ms), 0) FROM {table}"
        for table in ("zones", "corridors")
    )
    return tuple(mark for statement in statements for mark in db.execute(statement).fetchone())


def shapes_near(db: Connection, place: Place, reach_m: float) -> list[tuple[str, int, str, str, str, str]]:
    """Return id, revision, name, type, risk and geometry of the active zones of which a part may lie within reach.

    Protected areas are where animals should be.
    """
    found: dict[str, tuple[str, int, str, str, str, str]] = {}
    for window in windows(place, reach_m):
        box = {"west": window.west, "east": window.east, "south": window.south, "north": window.north}
        found |= {row[0]: tuple(row) for row in db.execute(_SHAPES, box).fetchall()}
    return list(found.values())


def _measured(
    db: Connection, statement: str, place: Place, reach_m: float, make: Callable[[Sequence[Any]], Nearby]
) -> list[Nearby]:
    nearest: dict[str, tuple[float, Sequence[Any]]] = {}
    for window in windows(place, reach_m):
        values = {
            "lon": window.lon_deg, "lat": place.lat_deg, "scale": lon_scale(place.lat_deg), "west": window.west,
            "east": window.east, "south": window.south, "north": window.north,
        }  # fmt: skip
        for row in db.execute(statement, values).fetchall():
            identity, apart_deg, apart_m = row[:3]
            distance_m = float(apart_m or 0.0) if apart_deg else 0.0  # no line joins what touches
            if identity not in nearest or distance_m < nearest[identity][0]:
                nearest[identity] = distance_m, row
    return [make((row[0], distance_m, *row[3:])) for distance_m, row in nearest.values()]
