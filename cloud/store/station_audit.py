"""Audit logs of stations: kept as they were told, never altered, and looked at for what was altered there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cloud.store.database import Connection
from shared.accounts.audit import GENESIS, Line, is_itself
from shared.errors import Invalid
from shared.wire.link import MAX_AUDIT_LINES

_MOST: Final = 2**62
_LINE: Final = "seq, at_ms, actor, action, detail, prev_hash, hash"
#: Lines whose one before is not here although there are earlier ones, and numbers that stand here twice.
_TORN: Final = """
SELECT min(seq) FROM (
  SELECT a.seq FROM station_audit a WHERE a.station_id = %(station)s
    AND a.seq > (SELECT min(seq) FROM station_audit WHERE station_id = %(station)s)
    AND NOT EXISTS (SELECT 1 FROM station_audit b WHERE b.station_id = a.station_id AND b.seq = a.seq - 1
      AND b.hash = a.prev_hash)
  UNION ALL
  SELECT seq FROM station_audit WHERE station_id = %(station)s GROUP BY seq HAVING count(*) > 1
  UNION ALL
  SELECT seq FROM station_audit WHERE station_id = %(station)s AND seq = 1 AND prev_hash <> %(genesis)s
) AS torn
"""


async def take(connection: Connection, station_id: str, lines: Sequence[Line], now_ms: int) -> None:
    """Keep lines of a station's log; raises Invalid for one whose hash is not that of its words."""
    if len(lines) > MAX_AUDIT_LINES:
        raise Invalid(f"at most {MAX_AUDIT_LINES} lines at once")
    for line in lines:
        if not 0 < line.seq <= _MOST or abs(line.at_ms) > _MOST or not is_itself(line):
            raise Invalid(f"line {line.seq}: its hash is not that of its words")
        if "\0" in line.actor + line.action + line.detail:
            raise Invalid(f"line {line.seq}: has a character that no database keeps")
    await connection.execute(
        "INSERT INTO station_audit (station_id, seq, at_ms, actor, action, detail, prev_hash, hash, taken_ms)"
        " SELECT %s, *, %s FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[],"
        " %s::text[]) ON CONFLICT DO NOTHING",
        (
            station_id, now_ms, [line.seq for line in lines], [line.at_ms for line in lines],
            [line.actor for line in lines], [line.action for line in lines], [line.detail for line in lines],
            [line.prev_hash for line in lines], [line.hash for line in lines],
        ),
    )  # fmt: skip


async def page(connection: Connection, station_id: str, offset: int, limit: int) -> tuple[int, list[Line], int | None]:
    """Return how many lines there are, some of them, newest first, and the number of the first that is torn."""
    counted = await connection.execute("SELECT count(*) FROM station_audit WHERE station_id = %s", (station_id,))
    torn = await connection.execute(_TORN, {"station": station_id, "genesis": GENESIS})
    found = await connection.execute(
        f"SELECT {_LINE} FROM station_audit WHERE station_id = %s ORDER BY seq DESC, taken_ms DESC, hash"
        " LIMIT %s OFFSET %s",
        (station_id, limit, offset),
    )
    lines = [
        Line(
            seq=seq, at_ms=at_ms, actor=actor, action=action, detail=detail, prev_hash=prev_hash, hash=hash_,
        )
        for seq, at_ms, actor, action, detail, prev_hash, hash_ in await found.fetchall()
    ]  # fmt: skip
    ((count,),), ((torn_at,),) = await counted.fetchall(), await torn.fetchall()
    return count, lines, torn_at
