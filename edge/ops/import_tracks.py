"""Track files into the store: streaming, in bounded memory, import twice is import once.

An individual is an animal by its name. Its rows belong to the collar that it wore then, so a file of fixes that also
came over the air adds nothing; where no deployment covers a row, to the collar of the ``collar_id`` column or to one
called ``import:INDIVIDUAL``, whose deployment is opened, or widened, to cover the file when it has been read: one for
each stretch between the deployments that are known.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from shared.domain import Animal, Deployment, NewFix
from shared.errors import Conflict
from shared.movement.tracks import BadRow, TrackRow, read_tracks
from shared.privacy import View
from shared.store import AnimalQuery, Store
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
    refused: int = 0
    animals_created: int = 0
    problems: list[str] = []


class _Individual(msgspec.Struct):
    animal: Animal
    deployments: list[Deployment]
    #: what the file needs: collar, and how many deployments begin before -> first and last instant without one
    uncovered: dict[tuple[str, int], tuple[datetime, datetime]]


async def import_tracks(
    store: Store,
    view: View,
    path: Path,
    *,
    received_at: datetime,
    species: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Import ``path``; ``species`` is for individuals whose rows name none. Bad rows are listed, good ones are kept."""
    done = Imported()
    individuals: dict[str, _Individual] = {}
    rows = read_tracks(path)
    while batch := list(islice(rows, BATCH)):
        fixes = []
        for row in batch:
            done.rows += 1
            if isinstance(row, BadRow):
                _refuse(done, row.line, row.reason)
                continue
            individual = individuals.get(row.individual)
            if individual is None:
                individual = await _individual(store, view, row, species, done)
                individuals[row.individual] = individual
            fixes.append(_fix(individual, row, received_at))
            done.failed_fixes += row.lon_deg is None
        for added in await store.add_fixes(view, fixes):
            done.new += added.outcome == "new"
            done.enriched += added.outcome == "enriched"
            done.duplicates += added.outcome == "duplicate"
        progress(done.rows)
    for individual in individuals.values():
        for (collar_id, _), (first, last) in individual.uncovered.items():
            await _cover(store, view, individual, collar_id, first, last, done)
    return done


async def _individual(store: Store, view: View, row: TrackRow, species: str | None, done: Imported) -> _Individual:
    for animal in await _animals_called(store, view, row.individual):
        deployments = await store.deployments(view, animal_id=animal.id, collar_id=None, offset=0, limit=1_000)
        return _Individual(animal, deployments.results, {})
    animal = await store.create_animal(view, {"name": row.individual, "species": row.species or species or "unknown"})
    done.animals_created += 1
    return _Individual(animal, [], {})


async def _animals_called(store: Store, view: View, name: str) -> list[Animal]:
    found: list[Animal] = []
    offset = 0
    while True:
        page = await store.animals(view, AnimalQuery(search=name, ordering="created_at", offset=offset, limit=1_000))
        found += [animal for animal in page.results if animal.name == name]
        offset += len(page.results)
        if not page.results or offset >= page.count:
            return found


def _fix(individual: _Individual, row: TrackRow, received_at: datetime) -> NewFix:
    at = row.recorded_at
    worn = next(
        (d for d in individual.deployments if d.started_at <= at and (d.ended_at is None or at < d.ended_at)), None
    )
    if row.collar_id is not None and row.collar_id.startswith(STANDS_FOR):
        collar_id = f"{STANDS_FOR}{individual.animal.id}"  # an export's name for positions without a collar
    elif worn is not None:
        collar_id = worn.collar_id
    else:
        collar_id = row.collar_id or f"import:{row.individual}"
        stretch = (collar_id, sum(d.started_at <= at for d in individual.deployments))
        first, last = individual.uncovered.get(stretch, (at, at))
        individual.uncovered[stretch] = (min(first, at), max(last, at))
    return NewFix(
        device=f"collar:{collar_id}",
        recorded_at=at,
        lon_deg=row.lon_deg,
        lat_deg=row.lat_deg,
        received_at=received_at,
        is_clock_sure=False,  # when the file was read says nothing about when the fix was heard
        source="imported",
        **row.extras,  # type: ignore[arg-type] # the reader rounds what must be whole
    )


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
