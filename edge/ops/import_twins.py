"""Keeps time-zone twins out of the store: rows of a file that repeat what a collar said, hours later or earlier.

A row is held against what is stored of its collar and against the file's rows before it, fourteen hours around. Where a
fifth of a collar's rows repeat stored ones, the file as a whole is in another zone than it was read in and is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from shared.domain import NewFix
from shared.errors import Invalid
from shared.movement.tracks import BadRow, TrackRow
from shared.movement.twins import REACH_MS, Place, Twin, zone_twins
from shared.privacy import View
from shared.store import FixQuery, Store
from shared.sync.records import to_ms

#: So many rows of a collar and such a share of them make it the file's zone that is wrong.
_MANY: Final = 5
_SHARE: Final = 0.2
_PAGE: Final = 1_000
#: Rows of a collar that are remembered from one batch to the next: two a minute for fourteen hours.
_REMEMBERED: Final = 1_680
_REACH: Final = timedelta(milliseconds=REACH_MS)


class _Seen(msgspec.Struct):
    """What is known of a collar: whether anything was stored before the import, and its newest rows in the file."""

    has_stored: bool
    places: list[Place] = []


class TwinWatch:
    """Holds the rows of one file against the store and against each other, batch by batch."""

    def __init__(self, store: Store, view: View, path: Path) -> None:
        self._store = store
        self._view = view
        self._path = path
        self._seen: dict[str, _Seen] = {}

    async def twins(self, rows: Sequence[TrackRow], fixes: Sequence[NewFix]) -> dict[int, BadRow]:
        """Return the rows that are twins by their index, each with the reason; raises Invalid for a whole file."""
        by_collar: dict[str, list[int]] = defaultdict(list)
        for index, fix in enumerate(fixes):
            if fix.lon_deg is not None and fix.lat_deg is not None:
                by_collar[fix.device.removeprefix("collar:")].append(index)
        found: dict[int, BadRow] = {}
        for collar_id, indices in by_collar.items():
            found.update(await self._of_collar(collar_id, indices, rows, fixes))
        return found

    async def _of_collar(
        self, collar_id: str, indices: Sequence[int], rows: Sequence[TrackRow], fixes: Sequence[NewFix]
    ) -> dict[int, BadRow]:
        new = [_place(fixes[index]) for index in indices]
        if (seen := self._seen.get(collar_id)) is None:
            page = await self._store.fixes(self._view, FixQuery(collar_id=collar_id, limit=1))
            seen = self._seen[collar_id] = _Seen(has_stored=bool(page.results))
        stored: list[Place] = []
        if seen.has_stored:
            times = [fixes[index].recorded_at for index in indices]
            stored = await self._stored(collar_id, min(times) - _REACH, max(times) + _REACH)
        known = list({*stored, *seen.places}.difference(new))
        old, own = set(stored), set(new)
        repeats = [row for row in new if row in old]  # an import that is repeated brings nothing new
        everything = known + new
        found: dict[int, BadRow] = {}
        n_stored = 0
        for twin in zone_twins(everything):
            index, other, shift_ms = _which(twin, len(known))
            if index is None or everything[index + len(known)] in old:
                continue
            n_stored += everything[other] in old and everything[other] not in own
            row = rows[indices[index]]
            found[indices[index]] = BadRow(row.line, _reason(collar_id, shift_ms))
        if n_stored >= max(_MANY, _SHARE * (len(new) - len(repeats))):
            first = min(found.values(), key=lambda bad: bad.line)
            raise Invalid(
                f"{self._path}: line {first.line} and {n_stored - 1} more: {first.reason}. Its times seem to be of"
                " another zone than they were read in: give --timezone AREA/CITY, or --keep-twins to store them so"
            )
        newest_ms = max(place.time_ms for place in new)
        kept = [place for place in [*seen.places, *new] if place.time_ms >= newest_ms - REACH_MS]
        seen.places = kept[-_REMEMBERED:]
        return found

    async def _stored(self, collar_id: str, since: datetime, until: datetime) -> list[Place]:
        """Return where the collar is known to have been in a span of time."""
        places: list[Place] = []
        offset = 0
        while True:
            query = FixQuery(
                collar_id=collar_id, since=since, until=until, ordering="timestamp", offset=offset, limit=_PAGE
            )
            page = await self._store.fixes(self._view, query)
            places += [
                Place(to_ms(fix.recorded_at), round(fix.lon_deg * 1e7), round(fix.lat_deg * 1e7))
                for fix in page.results
                if fix.lon_deg is not None and fix.lat_deg is not None
            ]
            offset += len(page.results)
            if not page.results or offset >= page.count:
                return places


def _which(twin: Twin, n_known: int) -> tuple[int | None, int, int]:
    """Return which new row a twin accuses, if any, which fix it repeats, and how much later it is than that."""
    if twin.later >= n_known:
        return twin.later - n_known, twin.earlier, twin.shift_ms
    return (twin.earlier - n_known if twin.earlier >= n_known else None), twin.later, -twin.shift_ms


def _reason(collar_id: str, shift_ms: int) -> str:
    hours, minutes = divmod(abs(shift_ms) // 60_000, 60)
    when = "earlier" if shift_ms > 0 else "later"
    return f"collar {collar_id} was at this very place exactly {hours}:{minutes:02d} h {when}, and on its way there too"


def _place(fix: NewFix) -> Place:
    assert fix.lon_deg is not None and fix.lat_deg is not None  # noqa: PT018 - one claim: it is placed
    return Place(to_ms(fix.recorded_at), round(fix.lon_deg * 1e7), round(fix.lat_deg * 1e7))
