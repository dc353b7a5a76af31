"""Track files into the store: streaming, in bounded memory, import twice is import once.

An individual is an animal by its name. Its rows belong to the collar that it wore then, so a file of fixes that also
came over the air adds nothing; where no deployment covers a row, to the collar of the ``collar_id`` column or to one
called ``import:INDIVIDUAL``, whose deployment is opened, or widened, to cover the file when it has been read: one for
each stretch between the deployments that are known. A row that names the collar alone stays under it.

What a file says of a fix beyond the fix itself is taken over where our own rules cannot find it again: a person's
decision, a clock that was never set, and, once the whole file is judged, the doubt of somebody else's rules where
ours have none. A decision that was made here is never overruled.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from edge.ops.import_twins import TwinWatch
from edge.store.store import SpatialiteStore
from shared.domain import AddedFix, Animal, Deployment, NewFix, is_usable
from shared.errors import Conflict
from shared.exchange.formats import ImportFormat, format_of, read_rows
from shared.exchange.movebank import OtherSensor
from shared.movement.tracks import BadRow, TrackRow
from shared.privacy import View
from shared.store import AnimalQuery, Store
from shared.sync.fixes import BY_HAND
from shared.sync.operations import STANDS_FOR

BATCH: Final = 5_000
SHOWN_PROBLEMS: Final = 20


class Imported(msgspec.Struct, kw_only=True):
    """What an import did."""

    rows: int = 0
    new: int = 0
    enriched: int = 0
    duplicates: int = 0
    failed_fixes: int = 0
    excluded: int = 0
    reinstated: int = 0
    other_sensors: int = 0
    refused: int = 0
    animals_created: int = 0
    problems: list[str] = []


class _Individual(msgspec.Struct):
    animal: Animal
    deployments: list[Deployment]
    #: what the file needs: collar, and how many deployments begin before -> first and last instant without one
    uncovered: dict[tuple[str, int], tuple[datetime, datetime]]


class _Marks(msgspec.Struct):
    """Fixes of which the file says more than a fix does, by id."""

    excluded: list[str] = []
    reinstated: list[str] = []
    doubted: list[str] = []

    def note(self, row: TrackRow, fix_id: str) -> None:
        """Keep what ``row`` says of the fix it became."""
        if row.is_excluded:
            self.excluded.append(fix_id)
        elif row.is_reinstated:
            self.reinstated.append(fix_id)
        elif row.is_doubted:
            self.doubted.append(fix_id)


async def import_tracks(
    store: SpatialiteStore,
    view: View,
    path: Path,
    *,
    received_at: datetime,
    form: ImportFormat | None = None,
    zone: tzinfo | None = None,
    individual: str | None = None,
    species: str | None = None,
    is_keeping_twins: bool = False,
    progress: Callable[[int], None] = lambda _: None,
    refused: Callable[[int, str], None] = lambda _, __: None,
) -> Imported:
    """Import ``path``, in the format that it shows where none is given. Bad rows are listed, good ones are kept.

    ``zone`` is that of times which carry none (None: such a file is refused), ``individual`` and ``species`` are for
    rows that name none; ``refused`` hears of every bad row, by line and reason. Rows that repeat others at another hour
    (``edge.ops.import_twins``) are bad rows unless they are to be kept.
    """
    done = Imported()
    individuals: dict[str, _Individual] = {}
    marks = _Marks()
    watch = None if is_keeping_twins else TwinWatch(store, path)
    rows = read_rows(path, form or format_of(path), zone=zone, individual=individual)
    while batch := list(islice(rows, BATCH)):
        done.rows += len(batch)
        fixes: list[NewFix] = []
        taken: list[TrackRow] = []
        for row in batch:
            if isinstance(row, BadRow):
                _refuse(done, row.line, row.reason)
                refused(row.line, row.reason)
            elif isinstance(row, OtherSensor):
                done.other_sensors += 1
            else:
                if row.individual and row.individual not in individuals:
                    individuals[row.individual] = await _individual(store, view, row, species, done)
                fixes.append(_fix(individuals.get(row.individual), row, received_at))
                taken.append(row)
        twins = {} if watch is None else await watch.twins(taken, fixes)
        for bad in twins.values():
            _refuse(done, bad.line, bad.reason)
            refused(bad.line, bad.reason)
        taken = [row for index, row in enumerate(taken) if index not in twins]
        added = await store.add_fixes(view, [fix for index, fix in enumerate(fixes) if index not in twins])
        _count(done, marks, taken, added)
        done.excluded += await _decide(store, view, marks.excluded, is_excluded=True)
        marks.excluded.clear()
        progress(done.rows)
    for name in individuals:
        for (collar_id, _), (first, last) in individuals[name].uncovered.items():
            await _cover(store, view, individuals[name], collar_id, first, last, done)
    done.reinstated = await _decide(store, view, marks.reinstated, is_excluded=False)
    done.excluded += await _decide(store, view, marks.doubted, is_excluded=True, is_unless_judged=True)
    return done


def _count(done: Imported, marks: _Marks, rows: list[TrackRow], added: list[AddedFix]) -> None:
    for row, each in zip(rows, added, strict=True):
        done.new += each.outcome == "new"
        done.enriched += each.outcome == "enriched"
        done.duplicates += each.outcome == "duplicate"
        done.failed_fixes += row.lon_deg is None
        marks.note(row, each.id)


async def _decide(
    store: SpatialiteStore, view: View, fix_ids: list[str], *, is_excluded: bool, is_unless_judged: bool = False
) -> int:
    """Take fixes out, or reinstate them, where nobody has decided here; return how many.

    ``is_unless_judged`` leaves alone what the rules have found themselves.
    """
    n = 0
    for start in range(0, len(fix_ids), BATCH):
        asked = []
        for fix_id in fix_ids[start : start + BATCH]:
            flags = (await store.fix(view, fix_id)).flags
            is_needless = is_usable(flags) if not is_excluded else is_unless_judged and not is_usable(flags)
            if not (flags & BY_HAND or is_needless):
                asked.append(fix_id)
        await store.flag_fixes(view, asked, is_excluded=is_excluded)
        n += len(asked)
    return n


async def _individual(store: Store, view: View, row: TrackRow, species: str | None, done: Imported) -> _Individual:
    for animal in await animals_called(store, view, row.individual):
        deployments = await store.deployments(view, animal_id=animal.id, collar_id=None, offset=0, limit=1_000)
        return _Individual(animal, deployments.results, {})
    animal = await store.create_animal(view, {"name": row.individual, "species": row.species or species or "unknown"})
    done.animals_created += 1
    return _Individual(animal, [], {})


async def animals_called(store: Store, view: View, name: str) -> list[Animal]:
    """Return the animals of exactly this name, the oldest first."""
    found: list[Animal] = []
    offset = 0
    while True:
        page = await store.animals(view, AnimalQuery(search=name, ordering="created_at", offset=offset, limit=1_000))
        found += [animal for animal in page.results if animal.name == name]
        offset += len(page.results)
        if not page.results or offset >= page.count:
            return found


def _fix(individual: _Individual | None, row: TrackRow, received_at: datetime) -> NewFix:
    at = row.recorded_at
    return NewFix(
        device=f"collar:{_collar_id(individual, row)}",
        recorded_at=at,
        lon_deg=row.lon_deg,
        lat_deg=row.lat_deg,
        received_at=received_at,
        is_clock_sure=False,  # when the file was read says nothing about when the fix was heard
        is_clock_unset=row.is_clock_unset,
        source="imported",
        **row.extras,  # type: ignore[arg-type] # the reader rounds what must be whole
    )


def _collar_id(individual: _Individual | None, row: TrackRow) -> str:
    """Return whose the row is, and note what no deployment of its individual covers."""
    if individual is None:
        return row.collar_id or ""
    at = row.recorded_at
    worn = next(
        (d for d in individual.deployments if d.started_at <= at and (d.ended_at is None or at < d.ended_at)), None
    )
    if row.collar_id is not None and row.collar_id.startswith(STANDS_FOR):
        return f"{STANDS_FOR}{individual.animal.id}"  # an export's name for positions without a collar
    if worn is not None:
        return worn.collar_id
    collar_id = row.collar_id or f"import:{row.individual}"
    stretch = (collar_id, sum(d.started_at <= at for d in individual.deployments))
    first, last = individual.uncovered.get(stretch, (at, at))
    individual.uncovered[stretch] = (min(first, at), max(last, at))
    return collar_id


async def _cover(
    store: Store, view: View, individual: _Individual, collar_id: str, first: datetime, last: datetime, done: Imported
) -> None:
    end = last + timedelta(milliseconds=1)
    before = max((d for d in individual.deployments if d.started_at <= first), key=_start, default=None)
    after = min((d for d in individual.deployments if d.started_at > first), key=_start, default=None)
    try:
        if after is not None and after.collar_id == collar_id:
            await store.update_deployment(view, after.id, {"started_at": first})
        elif before is not None and before.collar_id == collar_id:
            await store.update_deployment(view, before.id, {"ended_at": end})
        else:
            columns_new = {
                "collar_id": collar_id, "animal_id": individual.animal.id, "started_at": first, "ended_at": end,
            }  # fmt: skip
            await store.create_deployment(view, columns_new)
    except Conflict as conflict:
        span = f"{first.astimezone(UTC):%Y-%m-%d} to {last.astimezone(UTC):%Y-%m-%d}"
        _note(done, f"{individual.animal.name}, {span}: kept under collar {collar_id} alone: {conflict.detail}")


def _start(deployment: Deployment) -> datetime:
    return deployment.started_at


def _refuse(done: Imported, line: int, reason: str) -> None:
    done.refused += 1
    _note(done, f"line {line}: {reason}")


def _note(done: Imported, problem: str) -> None:
    if len(done.problems) < SHOWN_PROBLEMS:
        done.problems.append(problem)
