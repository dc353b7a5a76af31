"""The fixes around a fix, for judging: each collar's newest ones are kept in memory, older ones read when asked for.

Nearly every fix that arrives is its collar's newest or close to it. The tail of a collar is complete: it holds every
stored fix from its first instant on, so a question that lies inside it is answered without the database.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any, Final

from edge.store.driver import Connection
from shared.movement.quality import Judged
from shared.sync.fixes import RICH

_RICHNESS: Final = " + ".join(f"({name} IS NOT NULL)" for name in RICH)
_SELECT: Final = (
    "SELECT id, recorded_ms, raw_ms, lon_e7, lat_e7, hdop, pdop, sats, h_acc_m, seq, sure_received_ms, is_clock_unset,"
    f" {_RICHNESS}, flags FROM fixes WHERE collar_pk = ?"
)
_NEWEST_FIRST: Final = "ORDER BY recorded_ms DESC, id DESC LIMIT ?"

#: How many fixes a tail is loaded with, and when it is cut back to that.
TAIL: Final = 24
TAIL_MAX: Final = 96


class Neighbourhood:
    """Implements ``shared.movement.quality.Fetch`` for one collar; ``was`` gives the flags that are stored."""

    def __init__(self, connection: Connection, collar_pk: int) -> None:
        self._connection = connection
        self._collar_pk = collar_pk
        self._keys: list[tuple[int, bytes]] = []
        self._tail: list[Judged] = []
        self.was: dict[bytes, int] = {}
        newest = self._select(_NEWEST_FIRST, TAIL)
        self._is_whole = len(newest) < TAIL
        for fix in reversed(newest):
            self._keys.append((fix.time_ms, fix.id))
            self._tail.append(fix)

    def add(self, fix: Judged, flags: int) -> None:
        """Take note of a fix that was inserted; it may be known already."""
        key = (fix.time_ms, fix.id)
        if not self._is_whole and self._keys and key < self._keys[0]:
            return
        index = bisect.bisect_left(self._keys, key)
        if index < len(self._keys) and self._keys[index] == key:
            return
        self._keys.insert(index, key)
        self._tail.insert(index, fix)
        self.was[fix.id] = flags
        if len(self._tail) > TAIL_MAX:
            for old in self._tail[:-TAIL]:
                del self.was[old.id]
            del self._keys[:-TAIL], self._tail[:-TAIL]
            self._is_whole = False

    def forget_older(self) -> None:
        """Drop the flags of fixes that were read from the database for one judgement."""
        if len(self.was) > len(self._tail):
            self.was = {fix.id: self.was[fix.id] for fix in self._tail}

    def between(self, lo_ms: int, hi_ms: int) -> list[Judged]:
        """Return the fixes from ``lo_ms`` to ``hi_ms``, both included, by time and id."""
        if self._holds(lo_ms):
            return self._tail[self._first_at(lo_ms) : self._first_at(hi_ms + 1)]
        return self._select("AND recorded_ms BETWEEN ? AND ? ORDER BY recorded_ms, id", lo_ms, hi_ms)

    def before(self, ms: int, n: int) -> list[Judged]:
        """Return the last ``n`` fixes before ``ms``, by time and id."""
        end = self._first_at(ms)
        if self._is_whole or end >= n:
            return self._tail[max(end - n, 0) : end]
        return self._select(f"AND recorded_ms < ? {_NEWEST_FIRST}", ms, n)[::-1]

    def after(self, ms: int, n: int) -> list[Judged]:
        """Return the first ``n`` fixes after ``ms``, by time and id."""
        if self._holds(ms):
            start = self._first_at(ms + 1)
            return self._tail[start : start + n]
        return self._select("AND recorded_ms > ? ORDER BY recorded_ms, id LIMIT ?", ms, n)

    def count_from(self, ms: int) -> int | None:
        """Count the stored fixes at or after ``ms``; None where the tail does not reach back so far."""
        return len(self._tail) - self._first_at(ms) if self._holds(ms) else None

    def _holds(self, ms: int) -> bool:
        return self._is_whole or (bool(self._keys) and ms > self._keys[0][0])

    def _first_at(self, ms: int) -> int:
        return bisect.bisect_left(self._keys, (ms, b""))

    def _select(self, condition: str, *values: int) -> list[Judged]:
        fixes = []
        for row in self._connection.execute(f"{_SELECT} {condition}", (self._collar_pk, *values)):
            fixes.append(judged_row(row))
            self.was[row[0]] = row[-1]
        return fixes


def judged_row(values: Sequence[Any]) -> Judged:
    """Return a row of the statement above as the rules take it."""
    return Judged(
        id=values[0], time_ms=values[1], raw_ms=values[2], lon_e7=values[3], lat_e7=values[4], hdop=values[5],
        pdop=values[6], sats=values[7], h_acc_m=values[8], seq=values[9], received_ms=values[10],
        is_clock_unset=bool(values[11]), richness=values[12], is_rolled=values[1] != values[2],
    )  # fmt: skip
