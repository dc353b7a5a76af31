"""The station's change log: lines are numbered inside the one writer's transactions, so in the order of commits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from edge.store.driver import Connection
from shared.sync.operations import Change

#: So many lines are kept; what a phone has not heard of by then it gets with everything else.
KEPT_LINES: Final = 1_000_000

#: entity, row, kind, first and last raw time, origin, revision
Line = tuple[str, str, str, int | None, int | None, str, int | None]


def note(db: Connection, lines: Iterable[Line]) -> None:
    """Number ``lines``."""
    db.executemany(
        "INSERT INTO changes (entity, row_id, kind, first_ms, last_ms, origin, rev) VALUES (?, ?, ?, ?, ?, ?, ?)",
        list(lines),
    )


def head(db: Connection) -> int:
    """Return the number of the last change."""
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM changes").fetchone()[0])


def last_number(db: Connection) -> int:
    """Return the number of the last change, and let lines go that are far behind it."""
    seq = head(db)
    db.execute("DELETE FROM changes WHERE seq <= ?", (seq - KEPT_LINES,))
    return seq


def of_records(changes: Iterable[Change], origin: str) -> list[Line]:
    """Return the lines of ``changes``; an animal that loses what it wore to another has changed too."""
    lines: list[Line] = []
    for change in changes:
        record = change.record
        lines.append((record.entity, record.id, change.kind, None, None, origin, record.rev))
        if record.entity == "deployment" and change.before is not None:
            was = change.before.columns["animal_id"]
            if was != record.columns["animal_id"]:
                lines.append(("animal", was, "update", None, None, origin, None))
    return lines


def of_fixes(collar_id: str, times_ms: Iterable[int], kind: str) -> list[Line]:
    """Return the line of fixes of a collar at these raw times; none where there are none."""
    times = list(times_ms)
    return [("fix", collar_id, kind, min(times), max(times), "", None)] if times else []


def of_rows(rows: Iterable[Any]) -> list[Line]:
    """Return a line for each collar of ``rows`` that were stored or altered."""
    times: dict[str, list[int]] = {}
    for row in rows:
        times.setdefault(row["collar"].id, []).append(row["raw_ms"])
    return [line for collar_id, each in sorted(times.items()) for line in of_fixes(collar_id, each, "insert")]
