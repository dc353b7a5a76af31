"""What happened between two numbers of the change log that somebody may want to hear of at once."""

from __future__ import annotations

from typing import Final

import msgspec

from cloud.store.database import Connection

#: So many lines are read at a time; who missed more looks at everything anew.
MOST_LINES: Final = 5_000


class News(msgspec.Struct, frozen=True):
    """Collars with new fixes, and the raw times between which these lie; alerts that were raised or changed."""

    spans: dict[str, tuple[int, int]]
    alerts: list[str]


async def between(connection: Connection, after: int, until: int) -> News | None:
    """Return what came after a number, up to another; None where that is too much, or no longer known."""
    found = await connection.execute(
        "SELECT entity, row_id, first_ms, last_ms FROM changes WHERE seq > %s AND seq <= %s"
        " AND (entity = 'fix' AND kind = 'insert' OR entity = 'alert' AND kind <> 'delete') ORDER BY seq LIMIT %s",
        (after, until, MOST_LINES + 1),
    )
    lines = await found.fetchall()
    if len(lines) > MOST_LINES:
        return None
    spans: dict[str, tuple[int, int]] = {}
    alerts: dict[str, None] = {}
    for entity, row_id, first_ms, last_ms in lines:
        if entity == "alert":
            alerts[row_id] = None
        else:
            before = spans.get(row_id, (first_ms, last_ms))
            spans[row_id] = (min(before[0], first_ms), max(before[1], last_ms))
    return News(spans, list(alerts))
