"""Fixes as vector tiles (Mapbox Vector Tile 2.1, ``ST_AsMVT``), cut from what the caller may see and from nothing else.

A tile is a window onto the same rows as a list: an exact view selects from ``fixes``, a reduced one from
``shared.sync.reduced``, whose positions are centres of cells and old enough. A fix lies in a tile by the position that
is shown, and thinning comes after that, so no tile tells more than the list does.

A screen has no room for every fix: a tile is cut into squares (``cloud.store.squares``), and in each the newest fix
stands for all. The newest fix of each animal in the tile is there too, so that nobody is lost in a herd. From
``WHOLE_ZOOM`` on nothing is thinned. ``thinned`` in a feature says which it is.

Exact tiles of wide areas are read from a ladder (``cloud.store.ladder``) that has the same squares thinned beforehand.
Any other is thinned as it is asked for: of each square and animal the newest, by the integer that has a fix's time and
beside it its place within the square, to an eighth of a step. The ladder's places are cut to the same eighths.

A tile of few dots has a feature for each, with the time of its fix. A tile of many has one for each animal, of all its
dots: their times would be most of its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from cloud.store import ladder
from cloud.store.database import Connection
from cloud.store.queries import fixes_seen
from cloud.store.records import one
from cloud.store.squares import BITS, EXTENT, ON_MAP, X, Y, box_deg, square_bits
from shared.errors import NotFound
from shared.privacy import View
from shared.sync.listing import USABLE
from shared.sync.records import to_ms

MOST_ZOOM: Final = 22
#: From here on every fix is in the tile: a square would be 2 m wide, as good as positions are.
WHOLE_ZOOM: Final = 16
#: Dots that have a feature each; in a tile of more, one feature has all dots of its animal.
MOST_FEATURES: Final = 4_096

#: A time that no clock means would leave no room for the place beside it.
_LAST_MS: Final = 2**46
#: Bits of a place within its square that are kept beside the time, along each axis.
_WITHIN_BITS: Final = 8
#: Where an index finds a tile's rows sooner than a look at all of them does.
_INDEXED_ZOOM: Final = 8
#: Squares are counted in memory by hashing: the planner would sort every row, since it cannot know how few they are.
#: Its compiler takes longer than it saves.
_SETTINGS: Final = (
    "SELECT set_config('work_mem', '64MB', true), set_config('jit', 'off', true),"
    " set_config('enable_sort', 'off', true)"
)
#: Of ``squares``, which have the newest fix of each animal in each: of each square the newest, and of each animal.
_THINNED: Final = """
    SELECT s.* FROM squares s JOIN (SELECT square_x, square_y, max(newest) AS newest FROM squares GROUP BY 1, 2) n
      USING (square_x, square_y, newest)
    UNION
    SELECT s.* FROM squares s JOIN (SELECT wearer, max(newest) AS newest FROM squares GROUP BY 1) n
      USING (wearer, newest)"""


async def fixes_tile(
    db: Connection, view: View, z: int, x: int, y: int, *, since: datetime | None, until: datetime | None
) -> bytes:
    """Return one tile, with layer ``fixes``: ``animal`` (id), ``species``, ``thinned`` (whether fixes were left out).

    ``at`` is when the newest of a feature was, in seconds since 1970. Raises NotFound for what is no tile of the map.
    """
    if not 0 <= z <= MOST_ZOOM or not (0 <= x < 2**z and 0 <= y < 2**z):
        raise NotFound("there is no such tile")
    await db.execute(_SETTINGS, prepare=False)
    if view.is_exact and until is None and z <= ladder.FINEST:
        spans = await ladder.pending(db)
        if spans is not None and not await ladder.is_undone(db, spans, z, x, y):
            return await _from_ladder(db, spans, z, x, y, since)
    return await _from_fixes(db, view, z, x, y, since, until)


async def _from_ladder(
    db: Connection, spans: Sequence[ladder.Span], z: int, x: int, y: int, since: datetime | None
) -> bytes:
    """Return a tile of what stands on its rung and of the fixes that the ladder has not come to."""
    values: dict[str, Any] = {"zoom": z, "tile": ladder.tile_of(x, y)}
    columns = "cell, of_animal, wearer, recorded_ms, x, y"
    rows = f"SELECT {columns} FROM fix_ladder WHERE zoom = %(zoom)s AND tile = %(tile)s"
    if spans:
        values |= ladder.span_values(spans)
        more = ladder.on_rung(z, ladder.places_of())
        rows = (
            f"SELECT DISTINCT ON (cell, of_animal) {columns} FROM ({rows} UNION ALL SELECT {columns} FROM ({more}) m"
            " WHERE tile = %(tile)s) r ORDER BY cell, of_animal, recorded_ms DESC"
        )
    if since is not None:
        rows = f"SELECT * FROM ({rows}) r WHERE recorded_ms >= %(since)s"
        values["since"] = to_ms(since)
    eighths = square_bits(z) - _WITHIN_BITS
    kept = f"SELECT DISTINCT wearer, recorded_ms, {_cut('x', eighths)} AS x, {_cut('y', eighths)} AS y FROM ({rows}) r"
    return await _drawn(db, f"WITH places AS MATERIALIZED ({kept})", values, z, x, y)


async def _from_fixes(
    db: Connection, view: View, z: int, x: int, y: int, since: datetime | None, until: datetime | None
) -> bytes:
    """Return a tile of every fix that the view has in it, thinned here."""
    source = await fixes_seen(db, view)
    west, south, east, north = box_deg(z, x, y)
    conditions = [USABLE, ON_MAP, "f.lon_e7 BETWEEN %s AND %s AND f.lat_e7 BETWEEN %s AND %s"]
    values = [*source.values, *(round(each * 1e7) for each in (west, east, south, north))]
    if view.is_exact and z >= _INDEXED_ZOOM:
        conditions.append("f.geom && ST_MakeEnvelope(%s, %s, %s, %s, 4326)")
        values += [west, south, east, north]
    for sign, instant in ((">=", since), ("<", until)):
        if instant is not None:
            conditions.append(f"f.recorded_ms {sign} %s")
            values.append(to_ms(instant))
    is_thinned = z < WHOLE_ZOOM
    bits = square_bits(z) if is_thinned else 0
    is_inside = f"p.x >> {BITS - z} = {x} AND p.y >> {BITS - z} = {y}"
    squares = source.of(_squares(bits, " AND ".join(conditions), is_inside))
    eighths = max(bits - _WITHIN_BITS, 0)
    x_sql, y_sql = (
        _cut(f"(square_{axis} << {bits}) + ((newest >> {shift} & 255) << {eighths})", eighths)
        for axis, shift in (("x", _WITHIN_BITS), ("y", 0))
    )
    places = (
        f"SELECT wearer, newest >> {2 * _WITHIN_BITS} AS recorded_ms, {x_sql} AS x, {y_sql} AS y"
        f" FROM ({_THINNED if is_thinned else 'SELECT * FROM squares'}) d"
    )
    opening = f"{source.sql}, " if source.sql else "WITH "
    statement = f"{opening}squares AS MATERIALIZED ({squares}), places AS MATERIALIZED ({places})"
    return await _drawn(db, statement, values, z, x, y)


def _squares(bits: int, condition: str, is_inside: str) -> str:
    """Return the statement for the newest fix of each animal in each square of ``2**bits`` steps a side.

    ``condition`` is on fixes ``f``, ``is_inside`` on their places ``p``.
    """
    eighths, last = max(bits - _WITHIN_BITS, 0), 2**_WITHIN_BITS - 1 if bits else 0
    time = f"least(greatest(f.recorded_ms, -{_LAST_MS}), {_LAST_MS})"
    within = f"((p.x >> {eighths} & {last}) << {_WITHIN_BITS} | (p.y >> {eighths} & {last}))"
    return (
        f"SELECT wearer, p.x >> {bits} AS square_x, p.y >> {bits} AS square_y,"
        f" max((p.recorded_ms << {2 * _WITHIN_BITS}) + {within}) AS newest FROM"
        f" (SELECT coalesce(f.animal_pk, 0) AS wearer, {time} AS recorded_ms, {X} AS x, {Y} AS y FROM fixes f"
        f" WHERE {condition}) p WHERE {is_inside} GROUP BY 1, 2, 3"
    )


def _cut(place: str, eighths: int) -> str:
    """Return the statement for the middle of a place's eighth of a step, in halves of the map's steps."""
    return f"((({place})::bigint >> {eighths} << {eighths}) * 2 + {2**eighths})"


async def _drawn(db: Connection, opening: str, values: Any, z: int, x: int, y: int) -> bytes:
    """Return the tile of ``places``: who, when, and where in halves of the map's steps."""
    px, py = (
        f"round({axis} * {EXTENT * 2**z / 2 ** (BITS + 1)!r}::float8 - {EXTENT * at})"
        for axis, at in (("x", x), ("y", y))
    )
    is_thinned = "true" if z < WHOLE_ZOOM else "false"
    (tile,) = await one(
        db,
        f"{opening}, dots AS MATERIALIZED (SELECT wearer, max(recorded_ms) / 1000 AS at, {px} AS px, {py} AS py"
        f" FROM places GROUP BY wearer, px, py) SELECT ST_AsMVT(t, 'fixes', {EXTENT}, 'geom') FROM ("
        "SELECT ST_Collect(ST_MakePoint(d.px, d.py) ORDER BY d.py, d.px) AS geom, a.id AS animal, a.species,"
        f" max(d.at) AS at, {is_thinned} AS thinned"
        " FROM dots d LEFT JOIN animals a ON a.pk = d.wearer AND a.deleted_ms IS NULL"
        " GROUP BY d.wearer, a.id, a.species,"
        f" CASE WHEN (SELECT count(*) FROM dots) <= {MOST_FEATURES} THEN d.py * {EXTENT} + d.px END"
        " ORDER BY d.wearer, max(d.at), min(d.py), min(d.px)) t",
        values,
    )
    return bytes(tile)
