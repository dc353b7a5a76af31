"""Movebank's reference data into the store: who wore which collar from when to when; twice is once.

Animals that are not known are made. A deployment that says otherwise than one of the same animal and collar corrects
it: reference data are what people wrote down, where an import of fixes could only see the first and the last of them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from edge.ops.import_tracks import SHOWN_PROBLEMS, animals_called
from shared.domain import Animal, Deployment
from shared.errors import Conflict, Invalid
from shared.exchange.movebank import DeploymentRow, read_reference
from shared.movement.tracks import BadRow
from shared.privacy import View
from shared.store import Store

_END: datetime = datetime.max.replace(tzinfo=UTC)


class ImportedDeployments(msgspec.Struct, kw_only=True):
    """What an import of deployments did."""

    rows: int = 0
    new: int = 0
    corrected: int = 0
    duplicates: int = 0
    refused: int = 0
    animals_created: int = 0
    problems: list[str] = []


async def import_deployments(
    store: Store,
    view: View,
    path: Path,
    *,
    species: str | None = None,
    refused: Callable[[int, str], None] = lambda _, __: None,
) -> ImportedDeployments:
    """Import the deployments of ``path``; ``species`` is for animals whose rows name none. Bad rows are listed."""
    done = ImportedDeployments()
    for row in read_reference(path):
        done.rows += 1
        try:
            if isinstance(row, BadRow):
                raise Invalid(row.reason)
            await _take(store, view, row, species, done)
        except (Conflict, Invalid) as error:
            done.refused += 1
            refused(row.line, error.detail)
            if len(done.problems) < SHOWN_PROBLEMS:
                done.problems.append(f"line {row.line}: {error.detail}")
    return done


async def _take(store: Store, view: View, row: DeploymentRow, species: str | None, done: ImportedDeployments) -> None:
    if row.started_at is None:
        raise Invalid("deploy-on-date: is missing; a deployment has a beginning")
    animal = await _animal(store, view, row, species, done)
    span: dict[str, Any] = {"started_at": row.started_at, "ended_at": row.ended_at}
    page = await store.deployments(view, animal_id=animal.id, collar_id=None, offset=0, limit=1_000)
    known = [each for each in page.results if each.collar_id == row.collar_id and _overlap(each, row)]
    if len(known) > 1:
        raise Conflict(f"collar {row.collar_id} is on {animal.name} {len(known)} times in that time")
    if not known:
        columns = {**span, "collar_id": row.collar_id, "animal_id": animal.id, "notes": row.notes}
        await store.create_deployment(view, columns)
        done.new += 1
    elif (known[0].started_at, known[0].ended_at) == (row.started_at, row.ended_at):
        done.duplicates += 1
    else:
        await store.update_deployment(view, known[0].id, span)
        done.corrected += 1


async def _animal(
    store: Store, view: View, row: DeploymentRow, species: str | None, done: ImportedDeployments
) -> Animal:
    for animal in await animals_called(store, view, row.individual):
        return animal
    done.animals_created += 1
    columns = {"name": row.individual, "species": row.species or species or "unknown", "gender": row.gender}
    return await store.create_animal(view, columns)


def _overlap(known: Deployment, row: DeploymentRow) -> bool:
    assert row.started_at is not None
    return known.started_at < (row.ended_at or _END) and row.started_at < (known.ended_at or _END)
