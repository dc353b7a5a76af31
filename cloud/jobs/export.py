"""Exports: the fixes that somebody may take along, as a file in a format of other systems.

How precise they are follows from the rights of whoever asked, twice: as the job runs, and as its file is fetched. What
was asked for with a fresh second factor by one who sees exactly is not made for one who does so no more, and the other
way round.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, BinaryIO, Final

import msgspec

from cloud.jobs.kinds import JobKind, Reporter, Run
from cloud.jobs.threads import ThreadFile, taken_in_thread
from cloud.store.database import Database
from cloud.store.export import Leaving, Selection, leaving
from shared.errors import Forbidden
from shared.exchange import geoparquet
from shared.exchange.formats import WRITTEN
from shared.exchange.rows import TrackFix
from shared.ids import derived_id
from shared.privacy import Principal, View, seen_alike

EXPORT: Final = "export"
GEOPARQUET: Final = "geoparquet"
FORMATS: Final = (*WRITTEN, GEOPARQUET)
#: The suffix and the media type of each format.
_KINDS: Final[dict[str, tuple[str, str]]] = {
    "tidy": ("csv", "text/csv; charset=utf-8"),
    "movebank": ("csv", "text/csv; charset=utf-8"),
    "gpx": ("gpx", "application/gpx+xml"),
    "geojson": ("geojson", "application/geo+json"),
    "geojson-lines": ("geojsonl", "application/geo+json-seq"),
    "kml": ("kml", "application/vnd.google-earth.kml+xml"),
    GEOPARQUET: ("parquet", "application/vnd.apache.parquet"),
}
_BUFFER: Final = 1 << 20
_EVERY: Final = 1_000


class ExportWish(msgspec.Struct, frozen=True, kw_only=True):
    """What shall leave, in which format. ``seen_as`` is how precisely whoever asked saw then."""

    format: str
    animals: tuple[str, ...] | None = None
    species: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_usable_only: bool = False
    seen_as: str

    @property
    def selection(self) -> Selection:
        """Return which fixes leave."""
        return Selection(
            animals=self.animals, species=self.species, since=self.since, until=self.until,
            is_usable_only=self.is_usable_only,
        )  # fmt: skip


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an export."""

    fixes: int
    file: str
    is_exact: bool
    url: str


def seen_as(view: View) -> str:
    """Return how precisely ``view`` sees, as text that is equal only for what sees alike."""
    return msgspec.json.encode(seen_alike(view)).decode()


def export_kind(database: Database, view_of: Callable[[Principal], View]) -> JobKind[ExportWish]:
    """Return the kind of job that writes exports."""

    async def run(run: Run[ExportWish]) -> Exported:
        wish, view = run.parameters, view_of(run.owner)
        if seen_as(view) != wish.seen_as:
            raise Forbidden("what you may see has changed since you asked: ask again")
        suffix, media_type = _KINDS[wish.format]
        name = f"outpost-{derived_id(run.id, 'file')[:8]}.{suffix}"
        async with leaving(database, view, wish.selection) as found:
            total = await found.count()
            await run.log(f"{total} fixes")
            async with run.file(name, media_type, seen_as=wish.seen_as) as file:
                n = await _written(run, found, wish.format, total, file.write_in_thread)
        return Exported(
            fixes=n, file=name, is_exact=view.is_exact, url=f"/api/v1/exports/{run.id}/file/"
        )  # fmt: skip

    return JobKind(name=EXPORT, parameters=ExportWish, run=run)


async def _written(run: Run[ExportWish], found: Leaving, form: str, total: int, write: Callable[[bytes], Any]) -> int:
    async with contextlib.aclosing(found.fixes()) as fixes:

        def work(reporter: Reporter) -> int:
            rows = _counted(run.each_in_thread(fixes), total, reporter)
            raw = ThreadFile(write)
            try:
                with io.BufferedWriter(raw, _BUFFER) as file:
                    return write_fixes(rows, form, file)
            except BaseException:
                raw.abandon()
                raise

        return await run.in_thread(work)


def _counted(fixes: Iterable[TrackFix], total: int, reporter: Reporter) -> Iterator[TrackFix]:
    for n, fix in enumerate(fixes, 1):
        yield fix
        if n % _EVERY == 0:
            reporter.progress(100 * n / max(total, n), f"{n} of {total} fixes")


def write_fixes(fixes: Iterable[TrackFix], form: str, file: BinaryIO) -> int:
    """Write fixes in a format and return how many there were; ``file`` stays open."""
    if form == GEOPARQUET:
        return geoparquet.write(fixes, file)
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=False)
    try:
        return WRITTEN[form](fixes, text)
    finally:
        with contextlib.suppress(ValueError):
            text.detach()  # flushes, and leaves the file to whoever opened it


async def export_to(
    database: Database, view: View, selection: Selection, form: str, file: BinaryIO,
    progress: Callable[[int, int], None],
) -> int:  # fmt: skip
    """Write an export to a file that is open here; ``progress`` hears of fixes written and in all."""
    loop = asyncio.get_running_loop()
    async with leaving(database, view, selection) as found:
        total = await found.count()
        rows = found.fixes()

        def told() -> Iterator[TrackFix]:
            for n, fix in enumerate(taken_in_thread(rows, loop), 1):
                yield fix
                if n % _EVERY == 0:
                    progress(n, total)

        return await asyncio.to_thread(lambda: write_fixes(told(), form, file))
