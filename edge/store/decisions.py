"""Decisions on fixes by hand and the newest positions: the two channels whose rows are picked out of the others'."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Final

import msgspec

from edge.store.driver import Connection
from shared.domain import FixFlag
from shared.ids import random_id
from shared.sync.decisions import Decision

#: So many decisions go in one batch.
_MAX_DECISIONS: Final = 500


class Decided(msgspec.Struct, frozen=True, array_like=True):
    """The fix that a decision of a batch was on, and the id under which it was sent."""

    pk: int
    id: str


def waiting_decisions(db: Connection, unsent: Sequence[tuple[int, int]]) -> list[tuple[int, Decided, Decision]]:
    """Return decisions that may go now, by row of the outbox: those on fixes that the cloud has.

    ``unsent`` are runs of fixes that wait or are on their way, by their first row. The decision is what stands.
    """
    firsts = [first for first, _ in unsent]
    found = []
    for oseq, pk, body, collar_id, raw_ms, lon_e7, lat_e7, flags in db.execute(
        "SELECT o.oseq, o.first_pk, o.body, c.id, f.raw_ms, f.lon_e7, f.lat_e7, f.flags FROM outbox o"
        " JOIN fixes f ON f.pk = o.first_pk JOIN collars c ON c.pk = f.collar_pk"
        " WHERE o.entity = 'fix' AND o.operation = 'flag' ORDER BY o.oseq"
    ):
        place = bisect.bisect_right(firsts, pk)
        if any(first <= pk <= last for first, last in unsent[:place]):
            continue
        decided = Decided(pk, random_id() if body is None else bytes(body).decode("ascii"))
        decision = Decision(
            id=decided.id, collar_id=collar_id, raw_ms=raw_ms, lon_e7=lon_e7, lat_e7=lat_e7,
            is_excluded=bool(flags & FixFlag.EXCLUDED_BY_HAND),
        )  # fmt: skip
        found.append((oseq, decided, decision))
        if len(found) == _MAX_DECISIONS:
            break
    return found


def waiting_flags(db: Connection) -> set[int]:
    """Return the rows of fixes on which a decision of somebody here has no receipt of the cloud yet."""
    found = {
        pk for (pk,) in db.execute("SELECT first_pk FROM outbox WHERE entity = 'fix' AND operation = 'flag'").fetchall()
    }
    for (runs,) in db.execute("SELECT runs FROM batches WHERE channel = 'flags' AND acknowledged_ms IS NULL"):
        found.update(each.pk for each in msgspec.msgpack.decode(runs, type=list[Decided]))
    return found


def forget_gone(db: Connection) -> None:
    """Take decisions off the outbox whose fix is no more: it became another one, which has its flags."""
    db.execute(
        "DELETE FROM outbox WHERE entity = 'fix' AND operation = 'flag'"
        " AND NOT EXISTS (SELECT 1 FROM fixes WHERE pk = outbox.first_pk)"
    )


def newest_waiting(db: Connection, unsent: Sequence[tuple[int, int]]) -> list[int]:
    """Return the rows of those fixes that wait and are the newest of their collar; ``unsent`` are all that wait."""
    newest = [
        pk
        for (pk,) in db.execute(
            "SELECT (SELECT f.pk FROM fixes f WHERE f.collar_pk = c.pk ORDER BY f.recorded_ms DESC LIMIT 1)"
            " FROM collars c"
        )
        if pk is not None
    ]
    covered: list[int] = []
    ends: list[tuple[int, int]] = []
    for first, last in unsent:  # sorted: runs that overlap become one
        if ends and first <= ends[-1][1] + 1:
            ends[-1] = (ends[-1][0], max(ends[-1][1], last))
        else:
            ends.append((first, last))
    firsts = [first for first, _ in ends]
    for pk in sorted(newest):
        place = bisect.bisect_right(firsts, pk) - 1
        if place >= 0 and ends[place][0] <= pk <= ends[place][1]:
            covered.append(pk)
    return covered


def take_out(db: Connection, pks: Sequence[int]) -> None:
    """Take single fixes out of the runs that wait: what is left of a run keeps its place, its rest goes behind."""
    for pk in pks:
        for oseq, first_pk, last_pk, operation in db.execute(
            "SELECT oseq, first_pk, last_pk, operation FROM outbox WHERE entity = 'fix' AND operation <> 'flag'"
            " AND first_pk <= ? AND last_pk >= ?",
            (pk, pk),
        ).fetchall():
            if first_pk == pk == last_pk:
                db.execute("DELETE FROM outbox WHERE oseq = ?", (oseq,))
            elif first_pk == pk:
                db.execute("UPDATE outbox SET first_pk = ? WHERE oseq = ?", (pk + 1, oseq))
            else:
                db.execute("UPDATE outbox SET last_pk = ? WHERE oseq = ?", (pk - 1, oseq))
                if last_pk > pk:
                    db.execute(
                        "INSERT INTO outbox (entity, first_pk, last_pk, operation) VALUES ('fix', ?, ?, ?)",
                        (pk + 1, last_pk, operation),
                    )
