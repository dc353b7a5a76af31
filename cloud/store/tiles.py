"""Fixes as vector tiles (Mapbox Vector Tile 2.1, ``ST_AsMVT``), cut from what the caller may see and from nothing else.

A tile is a window onto the same rows as a list: an exact view selects from ``fixes``, a reduced one from
``shared.sync.reduced``, whose positions are centres of cells and old enough. A fix lies in a tile by the position that
is shown, and thinning comes after that, so no tile tells more than the list does.

A screen has no room for every fix: a tile of 512 dots a side is cut into squares of two by two, which is less than the
smallest dot that is drawn, and in each square the newest fix stands for all. The newest fix of each animal in the tile
is there too, so that nobody is lost in a herd. The squares are of whole 1e-7 degrees and lie where they lie on the
globe, not in the tile: finding a row's square takes two divisions of integers, and neighbours agree at their edges.
Sine and logarithm are for the few that stay. A fix keeps its place within the square, to 1/256 of the side, beside its
time in the integer whose maximum says which is the newest.

A tile of few dots has a feature for each, with the time of its fix. A tile of many has one for each animal, of all its
dots: their times would be most of its bytes.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

import msgspec

from cloud.store.database import Connection
from cloud.store.queries import fixes_seen
from cloud.store.records import one
from shared.errors import NotFound
from shared.privacy import View
from shared.sync.listing import USABLE
from shared.sync.records import to_ms

MOST_ZOOM: Final = 22
#: A tile has so many steps a side, and so many squares of which each is one dot.
EXTENT: Final = 4096
SQUARES: Final = 256
#: Dots that have a feature each; in a tile of more, one feature has all dots of its animal.
MOST_FEATURES: Final = 4_096

#: What is drawn reaches into the tile beside it by so much of a tile.
_MARGIN: Final = 0.02
_TURN_E7: Final = 3_600_000_000
_HALF_TURN_E7: Final = _TURN_E7 // 2
_QUARTER_TURN_E7: Final = _TURN_E7 // 4
#: A time that no clock means would leave no room for the place beside it.
_LAST_MS: Final = 2**46
#: Where an index finds a tile's rows sooner than a look at all of them does.
_INDEXED_ZOOM: Final = 8
#: Squares are counted in memory by hashing: the planner would sort every row, since it cannot know how few they are.
#: Its compiler takes longer than it saves.
_SETTINGS: Final = (
    "SELECT set_config('work_mem', '64MB', true), set_config('jit', 'off', true),"
    " set_config('enable_sort', 'off', true)"
)
#: A row's place in 1e-7 degree from the map's lower left corner; what is divided is positive.
_FROM_CORNER: Final = (f"(f.lon_e7 + {_HALF_TURN_E7})", f"(f.lat_e7 + {_QUARTER_TURN_E7})")
_DRAWN: Final = """
    drawn AS (
      SELECT s.* FROM squares s JOIN (SELECT square_x, square_y, max(newest) AS newest FROM squares GROUP BY 1, 2) n
        USING (square_x, square_y, newest)
      UNION
      SELECT s.* FROM squares s JOIN (SELECT wearer, max(newest) AS newest FROM squares GROUP BY 1) n
        USING (wearer, newest)
    )"""
_TILE: Final = f"""
    SELECT ST_AsMVT(t, 'fixes', {EXTENT}, 'geom') FROM (
      SELECT ST_Collect(ST_MakePoint(d.px, d.py) ORDER BY d.py, d.px) AS geom, a.id AS animal, a.species,
        max(d.at) AS at, sum(d.fixes)::bigint AS fixes
      FROM dots d LEFT JOIN animals a ON a.pk = d.wearer AND a.deleted_ms IS NULL
      GROUP BY d.wearer, a.id, a.species, CASE WHEN (SELECT count(*) FROM dots) <= {MOST_FEATURES} THEN d.square END
      ORDER BY d.wearer, max(d.at), min(d.square)
    ) t"""


class _Window(msgspec.Struct, frozen=True, kw_only=True):
    """A tile on the ground in 1e-7 degree, with its margin, and the sides of its squares."""

    west: int
    east: int
    south: int
    north: int
    lon_side: int
    lat_side: int


def _window(z: int, x: int, y: int) -> _Window:
    def lat_deg(row: float) -> float:
        return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * row / 2**z))))

    lon_side = max(_TURN_E7 // 2**z // SQUARES, 1)
    middle = math.cos(math.radians(lat_deg(y + 0.5)))
    return _Window(
        west=round((x - _MARGIN) / 2**z * _TURN_E7) - _HALF_TURN_E7,
        east=round((x + 1 + _MARGIN) / 2**z * _TURN_E7) - _HALF_TURN_E7,
        south=round(lat_deg(y + 1 + _MARGIN) * 1e7),
        north=round(lat_deg(y - _MARGIN) * 1e7),
        lon_side=lon_side,
        lat_side=max(int(lon_side * middle), 1),
    )


async def fixes_tile(
    db: Connection, view: View, z: int, x: int, y: int, *, since: datetime | None, until: datetime | None
) -> bytes:
    """Return one tile, with layer ``fixes``: ``animal`` (id), ``species``, ``fixes`` (how many the feature stands for).

    ``at`` is when the newest of them was, in seconds since 1970. Raises NotFound for a tile that is not on the map.
    """
    if not 0 <= z <= MOST_ZOOM or not (0 <= x < 2**z and 0 <= y < 2**z):
        raise NotFound("there is no such tile")
    source = await fixes_seen(db, view)
    window = _window(z, x, y)
    conditions = [
        USABLE,
        f"f.lon_e7 BETWEEN {window.west} AND {window.east} AND f.lat_e7 BETWEEN {window.south} AND {window.north}",
    ]
    values = list(source.values)
    if view.is_exact and z >= _INDEXED_ZOOM:
        conditions.append("f.geom && ST_MakeEnvelope(%s, %s, %s, %s, 4326)")
        values += [each / 1e7 for each in (window.west - 1, window.south - 1, window.east + 1, window.north + 1)]
    for sign, instant in ((">=", since), ("<", until)):
        if instant is not None:
            conditions.append(f"f.recorded_ms {sign} %s")
            values.append(to_ms(instant))
    squares = source.of(_squares(window, " AND ".join(conditions)))
    statement = (
        f"{source.sql or 'WITH '}{', ' if source.sql else ''}squares AS MATERIALIZED ({squares}), {_DRAWN},"
        f" dots AS MATERIALIZED ({_dots(window, z, x, y)}) {_TILE}"
    )
    await db.execute(_SETTINGS, prepare=False)
    (tile,) = await one(db, statement, values)
    return bytes(tile)


def _squares(window: _Window, condition: str) -> str:
    """Return the statement for the newest fix of each animal in each square, and where in it that is."""
    (lon, lat), (width, height) = _FROM_CORNER, (window.lon_side, window.lat_side)
    within = f"{lon} %% {width} * 256 / {width} * 256 + {lat} %% {height} * 256 / {height}"
    time = f"least(greatest(f.recorded_ms, -{_LAST_MS}), {_LAST_MS})"
    return (
        f"SELECT coalesce(f.animal_pk, 0) AS wearer, {lon} / {width} AS square_x, {lat} / {height} AS square_y,"
        f" max({time} * 65536 + {within}) AS newest, count(*) AS fixes FROM fixes f WHERE {condition} GROUP BY 1, 2, 3"
    )


def _dots(window: _Window, z: int, x: int, y: int) -> str:
    """Return the statement for what is drawn, in steps of the tile from its upper left corner."""
    lon_turns = f"(square_x + ((newest >> 8 & 255) + 0.5::float8) / 256) * {window.lon_side} / {_TURN_E7}"
    lat_deg = f"(square_y + ((newest & 255) + 0.5::float8) / 256) * {window.lat_side} / 1e7::float8 - 90"
    lat_turns = f"0.5::float8 - ln(tan(pi() / 4 + radians({lat_deg}) / 2)) / (2 * pi())"
    return (
        "SELECT wearer, fixes, (newest >> 16) / 1000 AS at, (square_y << 32) + square_x AS square,"
        f" round((({lon_turns}) * {2**z} - {x}) * {EXTENT}) AS px,"
        f" round((({lat_turns}) * {2**z} - {y}) * {EXTENT}) AS py FROM drawn"
    )
