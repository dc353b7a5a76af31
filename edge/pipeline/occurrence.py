"""Occurrence of each animal, kept by adding the bridges that are new and taking back those that changed.

::

    fixes after through_ms --> bridges --> tiles that they touch --> the database
    stale_ms (a late fix, a flag) --> the newest bridges from there on are taken back, with the numbers they had,
                                      and drawn anew

Only the newest bridges keep their numbers. A change older than those, another species, a track that left its frame:
then all is drawn anew, a slice of fixes a turn.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from edge.store import occurrence as kept_in
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from models.bbmm.features import FloatArray, Track, frame_for, track_of
from models.bbmm.runtime import Bridges, Calibration, Utilisation, bridges_of, variances
from models.live.maps import cell_m_for, corners
from models.live.runtime import Models
from shared.errors import ArtifactError, ModelUnavailable

T = TypeVar("T")

#: Fixes that wait before an animal's occurrence is taken up without being asked for.
WAITING: Final = 24
#: Fixes drawn in one turn.
SLICE: Final = 1_000
#: Fixes before the new ones, from which their variance is judged too.
CONTEXT: Final = 62
#: The newest bridges are drawn anew with those that follow: their variance is judged by fixes on both sides.
REDRAWN: Final = 31
#: Bridges that can be taken back one by one.
RECENT: Final = 512
_COLUMNS: Final = ("start_s", "end_s", "x0_m", "y0_m", "x1_m", "y1_m", "error0_m", "error1_m", "variance_m2_per_s")


class Slice(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one turn reads: what is kept, and the fixes that are new, after some before them."""

    animal_pk: int
    species: str
    kept: kept_in.Kept | None
    tiles: dict[tuple[int, int], bytes]
    changed_ms: int | None
    through_ms: int | None
    extent: tuple[int, int, int, int] | None
    rows: Sequence[tuple[Any, ...]]
    is_whole: bool


class Drawn(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one turn writes; ``utilisation`` holds all of the animal's occurrence so far."""

    kept: kept_in.Kept
    changed: dict[tuple[int, int], bytes]
    is_new: bool
    is_whole: bool
    utilisation: Utilisation


class OccurrenceKeeper:
    """Keeps every animal's occurrence up to date, in idle moments and when it is asked for."""

    def __init__(
        self, store: SpatialiteStore, models: Models, *, slice_fixes: int = SLICE, recent: int = RECENT
    ) -> None:
        self._store = store
        self._models = models
        self._slice_fixes = slice_fixes
        self._recent = recent
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "occurrence")
        self._turn = asyncio.Lock()
        self._refused: set[int] = set()

    async def advance_next(self) -> bool:
        """Draw a slice of an animal that waits, if one does; say whether there was one."""
        waiting = await self._store.read(lambda db: kept_in.behind(db, WAITING, len(self._refused) + 1))
        animal_pk = next((pk for pk in waiting if pk not in self._refused), None)
        if animal_pk is None:
            return False
        try:
            is_drawn = await self.advance(animal_pk) is not None
        except ModelUnavailable:
            is_drawn = False
        if not is_drawn:
            self._refused.add(animal_pk)  # until the next start: what cannot be drawn must not be tried for ever
        return is_drawn

    async def advance(self, animal_pk: int) -> Drawn | None:
        """Draw a slice of an animal's fixes; None where there is nothing new. Raises ModelUnavailable."""
        async with self._turn:
            read = await self._store.read(lambda db: read_slice(db, animal_pk, self._slice_fixes))
            if read is None:
                return None
            drawn = await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: draw(read, self._models, self._recent)
            )
            if drawn is not None:
                await self._store.write(
                    lambda db: kept_in.write(db, animal_pk, drawn.kept, drawn.changed, is_new=drawn.is_new)
                )
            return drawn

    async def whole(self, animal_pk: int) -> tuple[kept_in.Kept, Utilisation]:
        """Return an animal's occurrence with every fix in it; raises ModelUnavailable where there is none."""
        while (drawn := await self.advance(animal_pk)) is not None and not drawn.is_whole:
            pass
        if drawn is not None:
            return drawn.kept, drawn.utilisation

        def job(db: Connection) -> tuple[kept_in.Kept | None, dict[tuple[int, int], bytes]]:
            return kept_in.kept(db, animal_pk), kept_in.tiles(db, animal_pk)

        kept, tiles = await self._store.read(job)
        if kept is None:
            raise ModelUnavailable("there is no occurrence yet: fewer than two usable fixes")
        return kept, Utilisation.restored(kept.head, tiles)

    async def run(self, work: Callable[[], T]) -> T:
        """Do ``work`` in the thread of maps."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown()


def read_slice(db: Connection, animal_pk: int, limit: int) -> Slice | None:
    """Return what the next turn of an animal needs; None where its occurrence holds every fix."""
    row = db.execute("SELECT species FROM animals WHERE pk = ? AND deleted_ms IS NULL", (animal_pk,)).fetchone()
    if row is None:
        return None
    kept = kept_in.kept(db, animal_pk)
    extent = kept_in.extent(db, animal_pk)
    if kept is not None and not _goes_on(kept, row[0], extent):
        kept = None
    changed_ms = through_ms = None
    if kept is not None:
        changed_ms = _changed_ms(kept)
        through_ms = kept_in.last_before(db, animal_pk, changed_ms)
        if through_ms is None:
            kept = changed_ms = None
    rows = kept_in.fixes_after(db, animal_pk, through_ms, CONTEXT, limit + 1)
    if not rows or (kept is not None and kept.stale_ms is None and rows[-1][0] <= kept.through_ms):
        return None
    return Slice(
        animal_pk=animal_pk,
        species=row[0],
        kept=kept,
        tiles={} if kept is None else kept_in.tiles(db, animal_pk),
        changed_ms=changed_ms,
        through_ms=through_ms,
        extent=extent,
        rows=rows,
        is_whole=sum(through_ms is None or fix[0] >= through_ms for fix in rows) <= limit,
    )


def _changed_ms(kept: kept_in.Kept) -> int:
    """Return from which end on bridges are drawn anew: those of which more is known now, and what has changed."""
    recent = bridges_from(kept.recent)
    again_ms = round(float(recent.end_s[-REDRAWN:][0]) * 1000) if len(recent) else kept.through_ms
    return again_ms if kept.stale_ms is None else min(again_ms, kept.stale_ms)


def _goes_on(kept: kept_in.Kept, species: str, extent: tuple[int, int, int, int] | None) -> bool:
    """Say whether what is kept can be altered into what is wanted."""
    if kept.species != species or extent is None:
        return False
    try:
        used = Utilisation.restored(kept.head, {})
    except ArtifactError:
        return False
    lon, lat = _box(extent)
    if not used.frame.holds(lon, lat) or cell_m_for(used.frame.to_metres(lon, lat)) > used.cell_m:
        return False
    recent = bridges_from(kept.recent)
    return kept.stale_ms is None or (len(recent) > 0 and kept.stale_ms > round(float(recent.start_s[0]) * 1000))


def _box(extent: tuple[int, int, int, int]) -> tuple[FloatArray, FloatArray]:
    west, south, east, north = (value * 1e-7 for value in extent)
    return corners(west, south, east, north)


def draw(read: Slice, models: Models, keep: int) -> Drawn | None:
    """Return occurrence with a slice's fixes in it; None where they are too few. Raises ModelUnavailable."""
    calibration = models.calibration(read.species)
    columns = [np.array(column, dtype=np.float64) for column in zip(*read.rows, strict=True)]
    if not columns:
        return None
    times_s, lon, lat, h_acc_m, hdop = columns[0] / 1000, columns[1] * 1e-7, columns[2] * 1e-7, columns[3], columns[4]
    kept, recent = read.kept, None
    if kept is None:
        assert read.extent is not None
        box = _box(read.extent)
        frame = frame_for(*box)
        used = Utilisation(frame, cell_m_for(frame.to_metres(*box)))
    else:
        used = Utilisation.restored(kept.head, read.tiles)
        recent = bridges_from(kept.recent)
        assert read.changed_ms is not None
        is_changed = recent.end_s * 1000 >= read.changed_ms - 0.5
        _take_back(used, recent.part(is_changed))
        recent = recent.part(~is_changed)
    track = track_of(times_s, lon, lat, used.frame, calibration.errors, h_acc_m=h_acc_m, hdop=hdop)
    fresh = _fresh_bridges(track, calibration, read.through_ms)
    if kept is None and len(track) < 2:
        return None
    _add(used, fresh)
    joined = fresh if recent is None else _joined(recent, fresh)
    through_ms = int(read.rows[-1][0])
    return Drawn(
        kept=kept_in.Kept(
            since_ms=int(read.rows[0][0]) if kept is None else kept.since_ms,
            through_ms=through_ms,
            stale_ms=None if kept is None else kept.stale_ms,
            species=read.species,
            head=used.head(),
            recent=bytes_of(joined.part(slice(-keep, None))),
        ),
        changed=used.take_changed(),
        is_new=kept is None,
        is_whole=read.is_whole,
        utilisation=used,
    )


def _fresh_bridges(track: Track, calibration: Calibration, through_ms: int | None) -> Bridges:
    """Return the pairs of fixes from ``through_ms`` on, the gaps among them with a variance of NaN."""
    if len(track) < 2:
        return bridges_of(track, np.empty(0))
    variance = variances(track, calibration.variance_m2_per_s, calibration.max_gap_s)
    pairs = _pairs(track, variance)
    lasting = pairs.end_s - pairs.start_s
    pairs.variance_m2_per_s[lasting > calibration.max_gap_s] = np.nan
    return pairs if through_ms is None else pairs.part(pairs.start_s * 1000 >= through_ms - 0.5)


def _pairs(track: Track, variance: FloatArray) -> Bridges:
    return Bridges(
        start_s=track.times_s[:-1],
        end_s=track.times_s[1:],
        x0_m=track.x_m[:-1],
        y0_m=track.y_m[:-1],
        x1_m=track.x_m[1:],
        y1_m=track.y_m[1:],
        error0_m=track.error_m[:-1],
        error1_m=track.error_m[1:],
        variance_m2_per_s=variance.copy(),
    )


def _split(pairs: Bridges) -> Bridges:
    """Return the bridges among pairs, with what is a gap counted."""
    is_gap = np.isnan(pairs.variance_m2_per_s)
    gaps_s = float((pairs.end_s - pairs.start_s)[is_gap].sum())
    return msgspec.structs.replace(pairs.part(~is_gap), gaps=int(is_gap.sum()), gaps_s=gaps_s)


def _add(used: Utilisation, pairs: Bridges) -> None:
    used.add(_split(pairs))


def _take_back(used: Utilisation, pairs: Bridges) -> None:
    used.remove(_split(pairs))


def _joined(first: Bridges, second: Bridges) -> Bridges:
    return _bridges([np.concatenate((getattr(first, name), getattr(second, name))) for name in _COLUMNS])


def bytes_of(pairs: Bridges) -> bytes:
    """Return pairs as bytes, float64 little-endian, for the store."""
    return np.stack([getattr(pairs, name) for name in _COLUMNS]).astype("<f8").tobytes()


def bridges_from(data: bytes) -> Bridges:
    """Return the pairs of ``bytes_of``."""
    return _bridges(list(np.frombuffer(data, dtype="<f8").reshape(len(_COLUMNS), -1).astype(np.float64)))


def _bridges(columns: Sequence[FloatArray]) -> Bridges:
    start_s, end_s, x0_m, y0_m, x1_m, y1_m, error0_m, error1_m, variance_m2_per_s = columns
    return Bridges(
        start_s=start_s, end_s=end_s, x0_m=x0_m, y0_m=y0_m, x1_m=x1_m, y1_m=y1_m, error0_m=error0_m, error1_m=error1_m,
        variance_m2_per_s=variance_m2_per_s,
    )  # fmt: skip
