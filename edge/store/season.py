"""What a season leaves behind that can be computed again: how much it is, and taking it off in steps.

Fixes, observations, alerts and what people wrote are no part of it. Of each animal the newest steps stay whatever
their age: a fix that comes late is judged from a step before it, and the page says what a silent animal did last.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edge.store import outbox, unsent
from edge.store.driver import Connection

#: Steps of an animal that stay: more than any model looks back, ten days of a fix each quarter of an hour.
STEPS_KEPT: Final = 1_000
#: What does not tell of the past: frames are kept by their own rule, results are asked about by the step they begin at.
_NOT_ASKED: Final = ("frames", "results")


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """Rows from before an instant: states of steps, and predictions that somebody asked for."""

    steps: int
    predictions: int


def past(db: Connection, before_ms: int) -> Past:
    """Count what would go."""
    steps = 0
    for animal_pk, until_ms in _ends(db, before_ms):
        (count,) = db.execute(
            "SELECT count(*) FROM steps WHERE animal_pk = ? AND ended_ms < ?", (animal_pk, until_ms)
        ).fetchone()
        steps += int(count)
    (predictions,) = db.execute("SELECT count(*) FROM predictions WHERE created_ms < ?", (before_ms,)).fetchone()
    return Past(steps=steps, predictions=int(predictions))


def waiting(db: Connection, before_ms: int) -> dict[str, int]:
    """Count, by channel, what the cloud has not confirmed of the time before; empty also where there is no cloud."""
    if outbox.enrolment(db) is None:
        return {}
    found = {
        str(channel): said.items
        for channel, said in unsent.waiting(db).items()
        if channel not in _NOT_ASKED and said.items and (said.oldest_ms is None or said.oldest_ms < before_ms)
    }
    (animals, frozen) = db.execute(
        "SELECT (SELECT count(*) FROM unsent_results WHERE since_ms < ?),"
        " (SELECT coalesce(sum(items), 0) FROM batches WHERE channel = 'results' AND acknowledged_ms IS NULL)",
        (before_ms,),
    ).fetchone()
    return {**found, "results": int(animals + frozen)} if animals + frozen else found


def newest_step_ms(db: Connection) -> int | None:
    """Return when the newest step of any animal ended."""
    ends = [
        db.execute("SELECT max(ended_ms) FROM steps WHERE animal_pk = ?", (pk,)).fetchone()[0] for pk in _animals(db)
    ]
    return max(map(int, ends), default=None)


def forget(db: Connection, before_ms: int, limit: int) -> int:
    """Take at most ``limit`` rows off, predictions first; return how many went, none when all is done."""
    gone = int(
        db.execute(
            "DELETE FROM predictions WHERE pk IN (SELECT pk FROM predictions WHERE created_ms < ? LIMIT ?)",
            (before_ms, limit),
        ).rowcount
    )
    for animal_pk, until_ms in _ends(db, before_ms):
        if gone >= limit:
            break
        rows = db.execute(
            "SELECT ended_ms FROM steps WHERE animal_pk = ? AND ended_ms < ? ORDER BY ended_ms LIMIT ?",
            (animal_pk, until_ms, limit - gone),
        ).fetchall()
        if rows:
            gone += db.execute(
                "DELETE FROM steps WHERE animal_pk = ? AND ended_ms <= ?", (animal_pk, rows[-1][0])
            ).rowcount
    return gone


def _ends(db: Connection, before_ms: int) -> list[tuple[int, int]]:
    """Return animals of which steps may go, and before which instant."""
    found = []
    for animal_pk in _animals(db):
        kept = db.execute(
            "SELECT ended_ms FROM steps WHERE animal_pk = ? ORDER BY ended_ms DESC LIMIT 1 OFFSET ?",
            (animal_pk, STEPS_KEPT - 1),
        ).fetchone()
        if kept is not None:
            found.append((animal_pk, min(before_ms, int(kept[0]))))
    return found


def _animals(db: Connection) -> list[int]:
    return [int(pk) for (pk,) in db.execute("SELECT DISTINCT animal_pk FROM steps ORDER BY animal_pk")]
