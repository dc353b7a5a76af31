"""The change log is folded behind those who read it, so that it grows with what there is and not with time.

Whoever reads the log is told of rows as they stand *now*, and storing twice is storing once. So of several lines about
one row the newest says all that the others did, to a reader at whatever cursor::

    records   of each row and origin the newest line; every line of an ``insert``, which says who entered the row
              (``cloud.store.scope`` and what phones and stations are told of reads those)
    fixes     of each collar, kind and origin one line, the newest, over the span of raw times of all of them
    scopes    what entered or left: of each station and row the newest; of fixes one line over all their spans
    kept      as they are: what people decided of fixes (``hand``), and what went under another name (``gone``)

A tombstone is a record's newest line, and stays. So nobody has to begin anew, however long he slept: what he finds
behind his cursor is the same rows, or more fixes of a collar than he lacks. Because that costs a link, lines are folded
only up to a *floor*: what every station has read that was heard of in the last ninety days (of fixes: that asked for
some), every destination that is on, and not the newest ``KEPT_LINES``, which phones and pages ask for all the time.

How far the log is folded is the counter ``folded``; a step is one transaction over a stretch of numbers.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cloud.store.database import Connection
from cloud.store.records import one

#: So many of the newest numbers are left as they are.
KEPT_LINES: Final = 10_000
#: A station that was not heard of for so long holds up nobody.
ASLEEP_MS: Final = 90 * 86_400_000
#: Numbers of one step.
STEP: Final = 5_000


class LogSize(msgspec.Struct, frozen=True, kw_only=True):
    """How long the change log is: its lines, its newest number, and the number through which it is folded."""

    lines: int
    newest: int
    folded: int


class Step(msgspec.Struct, frozen=True):
    """What one step did: lines that are no more, and whether there is more to do up to the floor."""

    gone: int
    is_more: bool


async def size(connection: Connection) -> LogSize:
    """Return how long the log is; counts its lines."""
    lines, newest, folded = await one(
        connection,
        "SELECT (SELECT count(*) FROM changes), (SELECT value FROM counters WHERE name = 'change'),"
        " (SELECT value FROM counters WHERE name = 'folded')",
    )
    return LogSize(lines=int(lines), newest=int(newest), folded=int(folded))


async def floor(connection: Connection, sure_now_ms: int | None, kept: int = KEPT_LINES) -> int:
    """Return the number up to which the log may be folded; ``sure_now_ms`` is None where nobody knows who sleeps."""
    since_ms = -(2**62) if sure_now_ms is None else sure_now_ms - ASLEEP_MS
    (found,) = await one(
        connection,
        "SELECT least((SELECT value FROM counters WHERE name = 'change') - %s,"
        " (SELECT min(cursor) FROM stations WHERE retired_ms IS NULL AND coalesce(last_seen_ms, enrolled_ms) >= %s),"
        " (SELECT min(heard_cursor) FROM stations WHERE retired_ms IS NULL AND heard_ms >= %s),"
        " (SELECT min(position) FROM destinations WHERE is_enabled))",
        (kept, since_ms, since_ms),
    )
    return max(0, int(found))


async def fold(connection: Connection, up_to: int, step: int = STEP) -> Step:
    """Fold the next stretch of the log, of at most ``step`` numbers, up to ``up_to``."""
    (before,) = await one(connection, "SELECT value FROM counters WHERE name = 'folded' FOR UPDATE")
    after = min(up_to, int(before) + step)
    if after <= before:
        return Step(0, False)
    span = {"first": before, "last": after}
    gone = 0
    for statement in (_OF_RECORDS, _OF_FIXES, _OF_SCOPES, _OF_SCOPED_FIXES):
        found = await connection.execute(statement.encode(), span)
        gone += sum(int(count) for (count,) in await found.fetchall())
    await connection.execute("UPDATE counters SET value = %s WHERE name = 'folded'", (after,))
    return Step(gone, after < up_to)


_OF_RECORDS: Final = (
    "WITH newest AS (SELECT entity, row_id, origin, max(seq) AS seq FROM changes WHERE seq > %(first)s"
    " AND seq <= %(last)s AND entity <> 'fix' GROUP BY entity, row_id, origin),"
    " gone AS (DELETE FROM changes l USING newest n WHERE l.row_id = n.row_id AND l.entity = n.entity"
    " AND l.origin = n.origin AND l.seq < n.seq AND l.entity <> 'fix' AND l.kind <> 'insert' RETURNING 1)"
    " SELECT count(*) FROM gone"
)
_OF_FIXES: Final = (
    "WITH newest AS (SELECT row_id, kind, origin, max(seq) AS seq FROM changes WHERE seq > %(first)s"
    " AND seq <= %(last)s AND entity = 'fix' AND kind NOT IN ('hand', 'gone') GROUP BY row_id, kind, origin),"
    " gone AS (DELETE FROM changes l USING newest n WHERE l.row_id = n.row_id AND l.kind = n.kind"
    " AND l.origin = n.origin AND l.seq < n.seq AND l.entity = 'fix' RETURNING n.seq, l.first_ms, l.last_ms),"
    " wider AS (UPDATE changes l SET first_ms = least(l.first_ms, g.first_ms), last_ms = greatest(l.last_ms, g.last_ms)"
    " FROM (SELECT seq, min(first_ms) AS first_ms, max(last_ms) AS last_ms FROM gone GROUP BY seq) g"
    " WHERE l.seq = g.seq RETURNING 1) SELECT (SELECT count(*) FROM gone) FROM (SELECT count(*) FROM wider) w"
)
_OF_SCOPES: Final = (
    "WITH newest AS (SELECT station_id, entity, row_id, max(seq) AS seq FROM scope_changes WHERE seq > %(first)s"
    " AND seq <= %(last)s AND entity <> 'fix' GROUP BY station_id, entity, row_id),"
    " gone AS (DELETE FROM scope_changes l USING newest n WHERE l.station_id = n.station_id AND l.entity = n.entity"
    " AND l.row_id = n.row_id AND l.seq < n.seq RETURNING 1) SELECT count(*) FROM gone"
)
_OF_SCOPED_FIXES: Final = (
    "WITH newest AS (SELECT station_id, row_id, max(seq) AS seq FROM scope_changes WHERE seq > %(first)s"
    " AND seq <= %(last)s AND entity = 'fix' GROUP BY station_id, row_id),"
    " gone AS (DELETE FROM scope_changes l USING newest n WHERE l.station_id = n.station_id AND l.entity = 'fix'"
    " AND l.row_id = n.row_id AND l.seq < n.seq RETURNING n.seq, l.first_ms, l.last_ms),"
    " wider AS (UPDATE scope_changes l SET first_ms = least(l.first_ms, g.first_ms),"
    " last_ms = greatest(l.last_ms, g.last_ms) FROM (SELECT seq, min(first_ms) AS first_ms, max(last_ms) AS last_ms"
    " FROM gone GROUP BY seq) g WHERE l.seq = g.seq RETURNING 1)"
    " SELECT (SELECT count(*) FROM gone) FROM (SELECT count(*) FROM wider) w"
)
