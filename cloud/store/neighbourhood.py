"""The fixes around a change, for judging: read ahead, set-wise, because the rules ask while nobody can wait.

The station's rules ask for neighbours one step at a time (``shared.movement.quality.Fetch``). Here a first helping is
read for all collars of a batch in one statement, restricted to the months around the change so that PostgreSQL looks
into few partitions. Where the rules ask for more than was read, ``NotEnough`` says so and the rest is read without that
restriction.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from cloud.store.database import Connection
from cloud.store.partitions import highest_id, lowest_id
from shared.movement.calm import CalmEnd, calm_end
from shared.movement.quality import CALM, CONTEXT, Judged, Limits
from shared.sync.fixes import DAY_MS, RICH

_RICHNESS: Final = " + ".join(f"(f.{name} IS NOT NULL)::int" for name in RICH)
_JUDGED: Final = (
    "f.id, f.recorded_ms, f.raw_ms, f.lon_e7, f.lat_e7, f.hdop, f.pdop, f.sats, f.h_acc_m, f.seq, f.sure_received_ms,"
    f" f.is_clock_unset, {_RICHNESS}, f.flags"
)
#: How far around a change the first helping looks, and how many fixes on each side it takes: one more than the rules
#: ask for before they find something flagged.
_AROUND_MS: Final = 45 * DAY_MS
FIRST_HELPING: Final = CONTEXT + 5
#: So many of a collar's newest fixes are looked at for a calm end, those that do not count among them.
CALM_HELPING: Final = 2 * CALM


class NotEnough(Exception):
    """The rules asked for more than was read."""


class Surroundings:
    """Implements ``shared.movement.quality.Fetch`` over what was read; ``was`` gives the flags that are stored."""

    def __init__(self, fixes: Iterable[Judged], *, is_first_there: bool, is_last_there: bool) -> None:
        self._fixes = sorted(fixes, key=lambda fix: (fix.time_ms, fix.id))
        self._keys = [(fix.time_ms, fix.id) for fix in self._fixes]
        self._is_first_there = is_first_there
        self._is_last_there = is_last_there

    def between(self, lo_ms: int, hi_ms: int) -> list[Judged]:
        """Return the fixes from ``lo_ms`` to ``hi_ms``, both included."""
        start, end = self._at(lo_ms), self._at(hi_ms + 1)
        if (start == 0 and not self._is_first_there) or (end == len(self._fixes) and not self._is_last_there):
            raise NotEnough
        return self._fixes[start:end]

    def before(self, ms: int, n: int) -> list[Judged]:
        """Return the last ``n`` fixes before ``ms``; fewer only where there are no more."""
        end = self._at(ms)
        if end < n and not self._is_first_there:
            raise NotEnough
        return self._fixes[max(end - n, 0) : end]

    def after(self, ms: int, n: int) -> list[Judged]:
        """Return the first ``n`` fixes after ``ms``; fewer only where there are no more."""
        start = self._at(ms + 1)
        if len(self._fixes) - start < n and not self._is_last_there:
            raise NotEnough
        return self._fixes[start : start + n]

    def _at(self, ms: int) -> int:
        return bisect.bisect_left(self._keys, (ms, b""))


class Bounds(msgspec.Struct):
    """No fix of a collar lies outside these corrected times; None where it has none."""

    first_ms: int | None = None
    last_ms: int | None = None
    #: raw times do not tell where corrected times lie, so no month can be left out
    has_rolled: bool = False
    #: where it is known that fixes which only come after all of these can be judged alone (``cloud.store.appending``)
    calm_end: bytes | None = None


class Stretch:
    """A span of corrected time of one collar in which something changed, and the stored fixes around it."""

    def __init__(self, collar_pk: int, first_ms: int, last_ms: int, bounds: Bounds) -> None:
        self.collar_pk = collar_pk
        self.first_ms = first_ms
        self.last_ms = last_ms
        self.bounds = bounds
        self.stored: list[Judged] = []
        self.was: dict[bytes, int] = {}
        self._is_first_there = self._is_last_there = True

    def surroundings(self, changed: Mapping[bytes, Judged]) -> Surroundings:
        """Return the set as it stands after the change: ``changed`` fixes in the place of what is stored."""
        fixes = [fix for fix in self.stored if fix.id not in changed]
        return Surroundings(
            [*fixes, *changed.values()], is_first_there=self._is_first_there, is_last_there=self._is_last_there
        )

    def calm_end(self, changed: Mapping[bytes, Judged], found: Mapping[bytes, int], limits: Limits) -> CalmEnd | None:
        """Return where the collar ends, if this stretch reaches so far and that is calm.

        ``changed`` are the collar's changed fixes, ``found`` what was found of any of its fixes just now.
        """
        newest_ms = max((fix.time_ms for fix in changed.values()), default=self.last_ms)
        if self.last_ms < max(newest_ms, self.bounds.last_ms or newest_ms):
            return None
        try:
            fixes = self.surroundings(changed).before(self.last_ms + 1, CALM_HELPING)
        except NotEnough:
            return None
        if any(fix.id in changed and fix.id not in found for fix in fixes):
            return None
        flags = [found[fix.id] if fix.id in found else self.was[fix.id] for fix in fixes]
        return calm_end(fixes, flags, limits, is_whole=len(fixes) < CALM_HELPING)

    def take(self, rows: Sequence[Sequence[Any]], helping: int, *, is_everywhere: bool) -> None:
        """Keep what was read for this stretch: ``helping`` fixes on each side, of all months or of those around it."""
        self.stored = [_judged(row) for row in rows]
        self.was = {fix.id: row[-1] for fix, row in zip(self.stored, rows, strict=True)}
        first_ms, last_ms = self.bounds.first_ms, self.bounds.last_ms
        assert first_ms is not None and last_ms is not None  # noqa: PT018 - one claim: there are fixes to read
        is_all_before = is_everywhere or first_ms >= self.first_ms - _AROUND_MS
        is_all_after = is_everywhere or last_ms <= self.last_ms + _AROUND_MS
        n_before = sum(fix.time_ms < self.first_ms for fix in self.stored)
        n_after = sum(fix.time_ms > self.last_ms for fix in self.stored)
        self._is_first_there = is_all_before and n_before < helping
        self._is_last_there = is_all_after and n_after < helping


async def read(connection: Connection, stretches: Sequence[Stretch], helping: int = FIRST_HELPING) -> None:
    """Read the stored fixes in and around every stretch, ``helping`` on each side."""
    filled = [each for each in stretches if each.bounds.first_ms is not None]
    near = [each for each in filled if helping == FIRST_HELPING and not each.bounds.has_rolled]
    far = [each for each in filled if helping != FIRST_HELPING or each.bounds.has_rolled]
    for some, is_everywhere in ((near, False), (far, True)):
        if some:
            found = await _select(connection, some, helping, is_everywhere=is_everywhere)
            for number, stretch in enumerate(some, 1):
                stretch.take(found.get(number, ()), helping, is_everywhere=is_everywhere)


async def _select(
    connection: Connection, stretches: Sequence[Stretch], helping: int, *, is_everywhere: bool
) -> dict[int, list[Sequence[Any]]]:
    first_ms = min(stretch.first_ms for stretch in stretches) - _AROUND_MS
    last_ms = max(stretch.last_ms for stretch in stretches) + _AROUND_MS
    months = "" if is_everywhere else "AND f.id BETWEEN %(lowest)s::uuid AND %(highest)s::uuid"
    side = f"SELECT {_JUDGED} FROM fixes f WHERE f.collar_pk = s.collar_pk {months} AND f.recorded_ms"
    statement = (
        "SELECT s.n, f.* FROM unnest(%(collars)s::bigint[], %(firsts)s::bigint[], %(lasts)s::bigint[])"
        " WITH ORDINALITY AS s (collar_pk, first_ms, last_ms, n) CROSS JOIN LATERAL ("
        f"({side} < s.first_ms ORDER BY f.recorded_ms DESC, f.id DESC LIMIT %(helping)s)"
        f" UNION ALL ({side} BETWEEN s.first_ms AND s.last_ms)"
        f" UNION ALL ({side} > s.last_ms ORDER BY f.recorded_ms, f.id LIMIT %(helping)s)) f"
    )
    cursor = connection.cursor(binary=True)
    await cursor.execute(
        statement.encode(),
        {
            "collars": [stretch.collar_pk for stretch in stretches],
            "firsts": [stretch.first_ms for stretch in stretches],
            "lasts": [stretch.last_ms for stretch in stretches],
            "helping": helping,
            "lowest": lowest_id(first_ms),
            "highest": highest_id(last_ms),
        },
    )
    found: dict[int, list[Sequence[Any]]] = {}
    for row in await cursor.fetchall():
        found.setdefault(row[0], []).append(row[1:])
    return found


def _judged(row: Sequence[Any]) -> Judged:
    return Judged(
        id=row[0].bytes, time_ms=row[1], raw_ms=row[2], lon_e7=row[3], lat_e7=row[4], hdop=row[5], pdop=row[6],
        sats=row[7], h_acc_m=row[8], seq=row[9], received_ms=row[10], is_clock_unset=bool(row[11]), richness=row[12],
        is_rolled=row[1] != row[2],
    )  # fmt: skip
