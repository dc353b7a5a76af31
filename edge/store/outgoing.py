"""What goes to another system, and how far it has come, in the store's own transactions.

For each receiver one row of ``facts``: the last row that was looked at, rows that could not be sent yet, and the
batches that are frozen. A fix is *held* while a quality rule excludes it or no deployment says whose it is: the newest
fix of a collar may be cleared by the next, a deployment may be entered late. A batch is frozen before it is tried, so a
crash or a lost answer is followed by the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from edge.store.driver import Connection
from shared.domain import is_usable
from shared.exchange.rows import EXTRAS, TrackFix
from shared.exchange.sites import MOST, is_sendable

_SCAN: Final = 2 * MOST
#: Beyond so many held fixes the oldest are given up, and counted.
MOST_HELD: Final = 50_000
_CHUNK: Final = 500
_SELECT: Final = (
    "SELECT f.pk, a.id AS animal_id, a.name AS individual, a.species, c.id AS collar_id, f.recorded_ms, f.lon_e7,"
    " f.lat_e7, f.flags, " + ", ".join(f"f.{name}" for name in EXTRAS) + " FROM fixes f JOIN collars c"
    " ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.animal_pk AND a.deleted_ms IS NULL WHERE "
)


class Outgoing(msgspec.Struct, kw_only=True):
    """How far a receiver has come. ``batches`` are frozen observations, each a list of JSON texts, the next first."""

    position: int = 0
    held: list[int] = []
    batches: list[list[str]] = []
    sent: int = 0
    refused: int = 0
    given_up: int = 0


def load(db: Connection, receiver: str) -> Outgoing:
    """Return how far ``receiver`` has come; one that is new stands at the beginning."""
    row = db.execute("SELECT value FROM facts WHERE name = ?", (f"outgoing:{receiver}",)).fetchone()
    return Outgoing() if row is None else msgspec.json.decode(row[0], type=Outgoing)


def save(db: Connection, receiver: str, state: Outgoing) -> None:
    """Write how far ``receiver`` has come."""
    db.execute(
        "INSERT INTO facts (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (f"outgoing:{receiver}", msgspec.json.encode(state).decode()),
    )


def waiting(db: Connection, state: Outgoing) -> int:
    """Return how many rows are still to be looked at, held ones and frozen ones included."""
    (ahead,) = db.execute("SELECT count(*) FROM fixes WHERE pk > ?", (state.position,)).fetchone()
    return int(ahead) + len(state.held) + sum(map(len, state.batches))


def freeze(
    db: Connection, receiver: str, observation: Callable[[TrackFix], str], *, most_held: int = MOST_HELD
) -> Outgoing:
    """Freeze the next batch where none is, and return how far ``receiver`` has come then."""
    state = load(db, receiver)
    if state.batches:
        return state
    ready: list[TrackFix] = []
    while len(ready) < MOST:
        rows = _rows(db, "f.pk > ? ORDER BY f.pk LIMIT ?", (state.position, _SCAN))
        if not rows:
            break
        for row in rows:
            state.position = row["pk"]
            fix = _fix(row)
            if fix is not None:
                ready.append(fix)
            elif row["lon_e7"] is not None:  # a failed fix will never have a place
                state.held.append(row["pk"])
            if len(ready) == MOST:
                break
    state.given_up += max(len(state.held) - most_held, 0)
    del state.held[:-most_held]
    if ready:
        state.batches.append([observation(fix) for fix in ready])
    save(db, receiver, state)
    return state


def release(db: Connection, receiver: str, observation: Callable[[TrackFix], str]) -> None:
    """Freeze what was held and can go now."""
    state = load(db, receiver)
    ready = [observation(fix) for fix in _of_held(db, state)]
    state.batches += [ready[start : start + MOST] for start in range(0, len(ready), MOST)]
    save(db, receiver, state)


def _of_held(db: Connection, state: Outgoing) -> list[TrackFix]:
    """Take from what is held all that can go now."""
    ready: list[TrackFix] = []
    gone: set[int] = set()
    for start in range(0, len(state.held), _CHUNK):
        chunk = state.held[start : start + _CHUNK]
        rows = _rows(db, f"f.pk IN ({', '.join('?' * len(chunk))}) ORDER BY f.pk", chunk)
        gone |= set(chunk) - {row["pk"] for row in rows}  # folded into another row since
        for row in rows:
            if (fix := _fix(row)) is not None:
                ready.append(fix)
                gone.add(row["pk"])
    state.held = [pk for pk in state.held if pk not in gone]
    return ready


def _rows(db: Connection, condition: str, values: Iterable[Any]) -> list[dict[str, Any]]:
    cursor = db.execute(_SELECT + condition, tuple(values))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _fix(row: dict[str, Any]) -> TrackFix | None:
    """Return a row that can be sent as it is now."""
    if row["individual"] is None or not is_usable(row["flags"]):
        return None
    fix = TrackFix(**{name: value for name, value in row.items() if name != "pk"})
    return fix if is_sendable(fix) else None
