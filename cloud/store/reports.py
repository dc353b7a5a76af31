"""Counts of a period that reports are made of; for those who see every position exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cloud.store.database import Connection
from shared.sync.listing import USABLE

#: A corridor is an area, or a line with half its width to each side.
_USE: Final = (
    "SELECT c.id, count(DISTINCT f.animal_pk), count(DISTINCT f.animal_pk) FILTER (WHERE inside), count(f.animal_pk),"
    " count(f.animal_pk) FILTER (WHERE inside) FROM corridors c LEFT JOIN LATERAL (SELECT f.animal_pk,"
    "  ST_DWithin(c.geom::geography, f.geom::geography, CASE ST_Dimension(c.geom) WHEN 1 THEN c.width_m / 2 ELSE 0 END)"
    f"  AS inside FROM fixes f JOIN animals a ON a.pk = f.animal_pk WHERE {USABLE} AND f.recorded_ms >= %s"
    "  AND f.recorded_ms < %s AND a.deleted_ms IS NULL AND (c.species IS NULL OR lower(c.species) = lower(a.species)))"
    " f ON true WHERE c.id = ANY(%s) AND c.geom IS NOT NULL AND c.deleted_ms IS NULL"
    ' GROUP BY c.id, c.name ORDER BY c.name COLLATE "C", c.id'
)


class CorridorUse(msgspec.Struct, frozen=True):
    """How many animals and usable fixes of a corridor's species there were, and how many of them inside it."""

    corridor_id: str
    animals: int
    animals_inside: int
    fixes: int
    inside: int


async def corridor_use(connection: Connection, corridors: Sequence[str], span_ms: tuple[int, int]) -> list[CorridorUse]:
    """Return how much corridors were used in a span of time, by name; one without a line is left out."""
    found = await connection.execute(_USE.encode(), [*span_ms, list(corridors)])
    return [CorridorUse(*row) for row in await found.fetchall()]
