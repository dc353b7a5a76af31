"""Keeps time-zone twins out of the store: rows of a file that repeat what a collar said, hours later or earlier.

A row is held against what is stored of its collar and against the file's rows before it, fourteen hours around. Where a
fifth of a collar's rows repeat stored ones, the file as a whole is in another zone than it was read in and is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from edge.store.store import SpatialiteStore
from shared.domain import NewFix
from shared.errors import Invalid
from shared.movement.tracks import BadRow, TrackRow
from shared.movement.twins import REACH_MS, Place, Twin, zone_twins
from shared.sync.records import to_ms

#: So many rows of a collar and such a share of them make it the file's zone that is wrong.
_MANY: Final = 5
_SHARE: Final = 0.2
#: Rows of a collar that are remembered from one batch to the next: two a minute for fourteen hours.
_REMEMBERED: Final = 1_680
_EVER_MS: Final = (-(2**62), 2**62)


class _Seen(msgspec.Struct):
    """What is known of a collar: whether anything was stored before the import, and its newest rows in the file."""

    has_stored: bool
    places: list[Place] = []


class TwinWatch:
    """Holds the rows of one file against the store and against each other, batch by batch."""

    def __init__(self, store: SpatialiteStore, path: Path) -> None:
        self._store = store
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
        first_ms, last_ms = min(place.time_ms for place in new), max(place.time_ms for place in new)
        around = (first_ms - REACH_MS, last_ms + REACH_MS)
        if (seen := self._seen.get(collar_id)) is None:
            seen = self._seen[collar_id] = _Seen(has_stored=bool(await self._stored(collar_id, *_EVER_MS, limit=1)))
        stored = await self._stored(collar_id, *around) if seen.has_stored else []
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
        kept = [place for place in [*seen.places, *new] if place.time_ms >= last_ms - REACH_MS]
        seen.places = kept[-_REMEMBERED:]
        return found

    async def _stored(self, collar_id: str, since_ms: int, until_ms: int, limit: int = -1) -> list[Place]:
        """Return where the collar is known to have been in a span of time."""
        rows = await self._store.read(
            lambda db: db.execute(
                "SELECT recorded_ms, lon_e7, lat_e7 FROM fixes WHERE collar_pk = coalesce("
                "(SELECT collar_pk FROM collar_aliases WHERE alias = ?1), (SELECT pk FROM collars WHERE id = ?1))"
                " AND recorded_ms BETWEEN ?2 AND ?3 AND lon_e7 IS NOT NULL AND lat_e7 IS NOT NULL LIMIT ?4",
                (collar_id, since_ms, until_ms, limit),
            ).fetchall()
        )
        return [Place(*row) for row in rows]


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
