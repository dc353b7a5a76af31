"""Fixes as vector tiles (Mapbox Vector Tile 2.1, ``ST_AsMVT``), cut from what the caller may see and from nothing else.

A tile is a window onto the same rows as a list: an exact view selects from ``fixes`` by its index of places, a reduced
one from ``shared.sync.reduced``, whose positions are centres of cells and old enough. A fix lies in a tile by the
position that is shown, so no tile tells more than the list does. Of fixes of one animal that fall on one point of the
tile's grid the newest is drawn.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from cloud.store.database import Connection
from cloud.store.queries import fixes_seen
from cloud.store.records import one
from shared.errors import NotFound
from shared.privacy import View
from shared.sync.listing import USABLE
from shared.sync.records import to_ms

MOST_ZOOM: Final = 22
#: So many of the newest fixes go into one tile at most.
MOST_FIXES: Final = 100_000
#: A tile has so many steps a side; what falls on one step is one dot.
_EXTENT: Final = 4096
_GRID: Final = 1024

_POINT: Final = "ST_SetSRID(ST_MakePoint(f.lon_e7 / 1e7, f.lat_e7 / 1e7), 4326)"


async def fixes_tile(
    db: Connection, view: View, z: int, x: int, y: int, *, since: datetime | None, until: datetime | None
) -> bytes:
    """Return one tile, with layer ``fixes``: ``animal`` (id), ``species`` and ``at`` (seconds since 1970).

    Raises NotFound for a tile that is not on the map.
    """
    if not 0 <= z <= MOST_ZOOM or not (0 <= x < 2**z and 0 <= y < 2**z):
        raise NotFound("there is no such tile")
    source = await fixes_seen(db, view)
    place = "f.geom" if view.is_exact else _POINT
    conditions = [USABLE, f"{place} && ST_Transform(ST_TileEnvelope(%s, %s, %s, margin => 0.02), 4326)"]
    values: list[Any] = [z, x, y]
    for sign, instant in ((">=", since), ("<", until)):
        if instant is not None:
            conditions.append(f"f.recorded_ms {sign} %s")
            values.append(to_ms(instant))
    rows = source.of(
        f"SELECT f.animal_pk, f.recorded_ms, ST_AsMVTGeom(ST_Transform({place}, 3857),"
        f" ST_TileEnvelope(%s, %s, %s), {_EXTENT}, 64, true) AS geom FROM fixes f WHERE {' AND '.join(conditions)}"
        " ORDER BY f.recorded_ms DESC LIMIT %s"
    )
    step = _EXTENT // _GRID
    statement = (
        f"{source.sql or 'WITH '}{', ' if source.sql else ''}shown AS ({rows}),"
        f" thinned AS (SELECT DISTINCT ON (animal_pk, floor(ST_X(geom) / {step}), floor(ST_Y(geom) / {step})) *"
        f" FROM shown WHERE geom IS NOT NULL"
        f" ORDER BY animal_pk, floor(ST_X(geom) / {step}), floor(ST_Y(geom) / {step}), recorded_ms DESC)"
        f" SELECT ST_AsMVT(t, 'fixes', {_EXTENT}, 'geom') FROM (SELECT n.geom, a.id AS animal, a.species,"
        " n.recorded_ms / 1000 AS at FROM thinned n"
        " LEFT JOIN animals a ON a.pk = n.animal_pk AND a.deleted_ms IS NULL) t"
    )
    (tile,) = await one(db, statement, [*source.values, z, x, y, *values, MOST_FIXES])
    return bytes(tile)
