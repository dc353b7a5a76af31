"""Fixes thinned beforehand, a rung for each zoom, so that a tile of a wide area reads what it draws and no more.

A rung has of each square (``cloud.store.squares``) the newest usable fix, whoever's it is, and of each tile the newest
of each animal in it. What is newest of all is also the newest since any day, so one ladder serves every ``since``.

The ladder follows the change log: ``laddered`` among the counters says how far. What the log has beyond it is
*pending*, spans of collars' fixes, and a reader takes those from the table of fixes beside the rungs; where one of
them has undone what stands on a rung (a fix is not usable any more, was corrected, has another wearer) he leaves the
ladder and reads all fixes. So a tile shows the same whether the ladder has come so far or not; it is only slower.
Following is::

    pending spans --> what stands on rungs and is not so any more goes --> fixes of the spans take squares that are
                      older --> squares that stand empty are filled from the next finer rung, the finest from the fixes

Whoever writes fixes knows nothing of it. The ladder holds exact places and is read for exact views alone, which have
all fixes anyway; a reduced view thins its own rows, cells that are old enough, so that what stands on a rung decides
nothing in its tiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from cloud.store.database import Connection, Database
from cloud.store.partitions import highest_id, lowest_id
from cloud.store.records import one
from cloud.store.squares import BITS, ON_MAP, SQUARE_BITS, SQUARES, X, Y, box_deg, square_bits
from shared.sync.listing import USABLE

#: The finest rung; closer maps read the fixes, of which few lie in so small a tile.
FINEST: Final = 10
#: A pass takes so many lines of the change log; with more pending a reader does without the ladder.
MOST_LINES: Final = 200
#: How often the service looks whether there are any.
EVERY_S: Final = 5.0

#: Any number of ours; advisory locks are the database's own.
_LOCK: Final = 0x6F75_7470_6F73_7403
_TILE_BITS: Final = 11
_ROW: Final = "fix_id, collar_pk, wearer, recorded_ms, x, y"
_PLACES: Final = (
    f"SELECT f.id AS fix_id, f.collar_pk, coalesce(f.animal_pk, 0) AS wearer, f.recorded_ms, {X} AS x, {Y} AS y"
)
_COUNTS: Final = f"{USABLE} AND {ON_MAP}"
#: What is on a rung ``l`` and is not so any more. Counted, so that the planner asks for one fix after the other by its
#: key: an anti-join may read all of them.
_UNDONE: Final = (
    f"(SELECT count(*) FROM fixes f WHERE f.id = l.fix_id AND {USABLE} AND f.recorded_ms = l.recorded_ms"
    " AND coalesce(f.animal_pk, 0) = l.wearer) = 0"
)
_SPANS: Final = (
    "unnest(%(pks)s::bigint[], %(firsts)s::bigint[], %(lasts)s::bigint[], %(lows)s::uuid[], %(highs)s::uuid[])"
    " s (collar_pk, first_ms, last_ms, low, high)"
)
_IN_SPAN: Final = "l.collar_pk = s.collar_pk AND l.fix_id BETWEEN s.low AND s.high"
#: Fixes ``f`` of spans: nearly all lie in the index by their collar's times, the others in one of their own.
_OF_SPANS: Final = (
    f"{_SPANS} CROSS JOIN LATERAL (SELECT * FROM fixes g WHERE g.collar_pk = s.collar_pk AND g.is_in_order"
    " AND g.recorded_ms BETWEEN s.first_ms AND s.last_ms AND g.id BETWEEN s.low AND s.high UNION ALL"
    " SELECT * FROM fixes g WHERE g.collar_pk = s.collar_pk AND NOT g.is_in_order AND g.id BETWEEN s.low AND s.high) f"
)


class Span(msgspec.Struct, frozen=True):
    """Fixes of a collar between two raw times."""

    collar_pk: int
    first_ms: int
    last_ms: int


class _Key(msgspec.Struct, frozen=True):
    """A place on a rung."""

    zoom: int
    tile: int
    cell: int
    of_animal: int


def tile_of(x: int, y: int) -> int:
    """Return the number of a tile of a rung."""
    return x << _TILE_BITS | y


def places_of(spans: str = _OF_SPANS) -> str:
    """Return the statement for the usable fixes of ``span_values``, as the rungs have them."""
    return f"{_PLACES} FROM {spans} WHERE {_COUNTS}"


def span_values(spans: Iterable[Span]) -> dict[str, list[Any]]:
    """Return what a statement over spans binds."""
    given = sorted(set(spans), key=lambda each: (each.collar_pk, each.first_ms, each.last_ms))
    return {
        "pks": [each.collar_pk for each in given],
        "firsts": [each.first_ms for each in given],
        "lasts": [each.last_ms for each in given],
        "lows": [lowest_id(each.first_ms) for each in given],
        "highs": [highest_id(each.last_ms) for each in given],
    }


def on_rung(z: int, points: str) -> str:
    """Return the statement for ``points`` (rows as ``places_of`` gives) as they compete for the places of a rung.

    Each competes twice: for its square, and to be its animal's newest in its tile.
    """
    tile, cell = _tile_sql(z), _cell_sql(z)
    return (
        f"SELECT {tile} AS tile, CASE WHEN k.is_square THEN {cell} ELSE -1 END AS cell,"
        f" CASE WHEN k.is_square THEN 0 ELSE wearer END AS of_animal, {_ROW}"
        f" FROM ({points}) p CROSS JOIN (VALUES (true), (false)) k (is_square)"
    )


async def pending(db: Connection) -> list[Span] | None:
    """Return what the ladder has not come to; None where it is not made, or too far behind to be of use."""
    laddered, change = await _numbers(db)
    if laddered < 0:
        return None
    lines = await _lines(db, laddered, change, MOST_LINES + 1)
    return None if len(lines) > MOST_LINES else [span for _, span in lines]


async def is_undone(db: Connection, spans: Sequence[Span], z: int, x: int, y: int) -> bool:
    """Say whether anything that stands on the rung in a tile is not so any more, by what is pending."""
    if not spans:
        return False
    (is_any,) = await one(
        db,
        f"SELECT EXISTS (SELECT FROM fix_ladder l JOIN {_SPANS} ON {_IN_SPAN} WHERE l.zoom = %(zoom)s"
        f" AND l.tile = %(tile)s AND {_UNDONE})",
        {**span_values(spans), "zoom": z, "tile": tile_of(x, y)},
    )
    return bool(is_any)


async def follow(database: Database) -> int:
    """Bring the ladder up to the change log, in steps; return how many lines were read. One process at a time does."""
    total = 0
    while True:
        async with database.transaction() as connection:
            (is_mine,) = await one(connection, "SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
            taken = await _step(connection) if is_mine else 0
        total += taken
        if taken < MOST_LINES:
            return total


async def _step(db: Connection) -> int:
    laddered, change = await _numbers(db)
    if laddered == change:
        return 0
    await db.execute("SELECT set_config('statement_timeout', '0', true), set_config('jit', 'off', true)")
    taken = 0
    if laddered < 0:
        await _make(db)
    elif lines := await _lines(db, laddered, change, MOST_LINES):
        await _take(db, [span for _, span in lines])
        taken = len(lines)
        if taken == MOST_LINES:
            change = lines[-1][0]
    await db.execute("UPDATE counters SET value = %s WHERE name = 'laddered'", (change,))
    return taken


async def _numbers(db: Connection) -> tuple[int, int]:
    laddered, change = await one(
        db,
        "SELECT (SELECT value FROM counters WHERE name = 'laddered'),"
        " (SELECT value FROM counters WHERE name = 'change')",
    )
    return int(laddered), int(change)


async def _lines(db: Connection, after: int, last: int, most: int) -> list[tuple[int, Span]]:
    found = await db.execute(
        "SELECT n.seq, c.pk, n.first_ms, n.last_ms FROM changes n JOIN collars c ON c.id = n.row_id"
        " WHERE n.seq > %s AND n.seq <= %s AND n.entity = 'fix' ORDER BY n.seq LIMIT %s",
        (after, last, most),
    )
    return [(int(seq), Span(int(pk), int(first), int(end))) for seq, pk, first, end in await found.fetchall()]


async def _make(db: Connection) -> None:
    """Make the whole ladder: the finest rung of all fixes, each other of the one below it."""
    await db.execute("DELETE FROM fix_ladder")
    await _put(db, FINEST, on_rung(FINEST, places_of("fixes f")))
    for z in reversed(range(FINEST)):
        await _put(
            db,
            z,
            f"SELECT {_tile_sql(z)} AS tile, CASE WHEN cell < 0 THEN -1 ELSE {_cell_sql(z)} END AS cell, of_animal,"
            f" {_ROW} FROM fix_ladder WHERE zoom = {z + 1}",
        )


async def _take(db: Connection, spans: Sequence[Span]) -> None:
    """Bring every rung in step with the fixes of ``spans``."""
    values = span_values(spans)
    found = await db.execute(
        f"DELETE FROM fix_ladder l USING {_SPANS} WHERE {_IN_SPAN} AND {_UNDONE}"
        " RETURNING l.zoom, l.tile, l.cell, l.of_animal".encode(),
        values,
    )
    empty = {_Key(*row) for row in await found.fetchall()}
    for z in reversed(range(FINEST + 1)):
        await _put(db, z, on_rung(z, places_of()), values)
        await _refill(db, z, [key for key in empty if key.zoom == z])


async def _refill(db: Connection, z: int, empty: Sequence[_Key]) -> None:
    """Fill places of a rung of which what stood there has gone with the newest that lies below."""
    if not empty:
        return
    if z == FINEST:
        await _refill_finest(db, empty)
        return
    below = [(key, *child) for key in empty for child in _below(key)]
    await _put(
        db,
        z,
        f"SELECT k.tile, k.cell, k.of_animal, {_ROW} FROM unnest(%(tiles)s::int[], %(cells)s::int[],"
        " %(animals)s::bigint[], %(child_tiles)s::int[], %(child_cells)s::int[])"
        " k (tile, cell, of_animal, child, part)"
        f" JOIN fix_ladder l ON l.zoom = {z + 1} AND l.tile = k.child AND l.cell = k.part"
        " AND l.of_animal = k.of_animal",
        {
            **_named([key for key, _, _ in below]),
            "child_tiles": [tile for _, tile, _ in below],
            "child_cells": [cell for _, _, cell in below],
        },
    )


async def _refill_finest(db: Connection, empty: Sequence[_Key]) -> None:
    sides = ("wests", "souths", "easts", "norths")
    boxes = zip(*(_box_deg(key) for key in empty), strict=True)
    is_there = f"{_tile_sql(FINEST)} = k.tile AND (k.cell < 0 AND wearer = k.of_animal OR {_cell_sql(FINEST)} = k.cell)"
    await _put(
        db,
        FINEST,
        f"SELECT k.tile, k.cell, k.of_animal, {_ROW} FROM unnest(%(tiles)s::int[], %(cells)s::int[],"
        " %(animals)s::bigint[], %(wests)s::float8[], %(souths)s::float8[], %(easts)s::float8[], %(norths)s::float8[])"
        f" k (tile, cell, of_animal, w, s, e, n) CROSS JOIN LATERAL (SELECT * FROM ({_PLACES} FROM fixes f"
        f" WHERE {_COUNTS} AND f.geom && ST_MakeEnvelope(k.w, k.s, k.e, k.n, 4326)) p WHERE {is_there}"
        " ORDER BY recorded_ms DESC, fix_id DESC LIMIT 1) b",
        {**_named(empty), **dict(zip(sides, map(list, boxes), strict=True))},
    )


def _named(keys: Sequence[_Key]) -> dict[str, list[Any]]:
    return {
        "tiles": [key.tile for key in keys],
        "cells": [key.cell for key in keys],
        "animals": [key.of_animal for key in keys],
    }


async def _put(db: Connection, z: int, rows: str, values: dict[str, Any] | None = None) -> None:
    """Let ``rows`` take the places of a rung that are empty, or whose fix is older."""
    await db.execute(
        f"INSERT INTO fix_ladder AS l (zoom, tile, cell, of_animal, {_ROW})"
        f" SELECT DISTINCT ON (tile, cell, of_animal) {z}, tile, cell, of_animal, {_ROW} FROM ({rows}) r"
        " ORDER BY tile, cell, of_animal, recorded_ms DESC, fix_id DESC"
        " ON CONFLICT (zoom, tile, cell, of_animal) DO UPDATE SET (fix_id, collar_pk, wearer, recorded_ms, x, y) ="
        " (excluded.fix_id, excluded.collar_pk, excluded.wearer, excluded.recorded_ms, excluded.x, excluded.y)"
        " WHERE (l.recorded_ms, l.fix_id) < (excluded.recorded_ms, excluded.fix_id)".encode(),
        values,
    )


def _tile_sql(z: int) -> str:
    return f"((x >> {BITS - z}) << {_TILE_BITS} | (y >> {BITS - z}))"


def _cell_sql(z: int) -> str:
    bits, last = square_bits(z), SQUARES - 1
    return f"(((x >> {bits}) & {last}) << {SQUARE_BITS} | ((y >> {bits}) & {last}))"


def _corner(key: _Key) -> tuple[int, int]:
    """Return column and row of a place, counted over the whole map in squares, or in tiles."""
    x, y = key.tile >> _TILE_BITS, key.tile & (2**_TILE_BITS - 1)
    if key.cell < 0:
        return x, y
    return x * SQUARES + (key.cell >> SQUARE_BITS), y * SQUARES + (key.cell & (SQUARES - 1))


def _below(key: _Key) -> Iterable[tuple[int, int]]:
    """Return tile and cell of the four places of the next finer rung that a place is made of."""
    column, row = _corner(key)
    for x in (2 * column, 2 * column + 1):
        for y in (2 * row, 2 * row + 1):
            if key.cell < 0:
                yield tile_of(x, y), -1
            else:
                last = SQUARES - 1
                yield tile_of(x >> SQUARE_BITS, y >> SQUARE_BITS), (x & last) << SQUARE_BITS | y & last


def _box_deg(key: _Key) -> tuple[float, float, float, float]:
    """Return west, south, east and north of a place, a hair wider than it is."""
    column, row = _corner(key)
    bits = key.zoom + (0 if key.cell < 0 else SQUARE_BITS)
    return box_deg(bits, column, row)
