"""Occurrence of every animal of the cloud, a line of JSON each, worked out wherever Dask's workers are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from cloud.jobs.science import Animal, Progress, Used, utilisations
from cloud.jobs.spread import AHEAD, Spread
from models.artifact import PACKAGED
from models.live.insight import OnDemand
from models.live.runtime import Models
from models.live.telling import columns_of
from shared.clock import Clock
from shared.privacy import OPERATOR, view_for
from shared.store import AnimalQuery, Store

_PAGE: Final = 200

#: Takes words for the audit log.
Note = Callable[[str], Awaitable[None]]


async def write_utilisations(
    store: Store,
    clock: Clock,
    over: Spread,
    path: Path,
    *,
    note: Note,
    artifacts: Path = PACKAGED,
    progress: Progress,
) -> dict[str, int]:
    """Write where each animal was, exactly; return how many there are and of how many nobody can tell.

    The file appears whole, once ``note`` has taken down what leaves.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        counts = await _write(store, clock, over, part, artifacts, progress)
        await note(f"occurrence of {counts['animals']} animals to {path.name} exact")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return counts


async def _write(
    store: Store, clock: Clock, over: Spread, path: Path, artifacts: Path, progress: Progress
) -> dict[str, int]:
    view, insight = view_for(OPERATOR), OnDemand(store, Models(artifacts), clock)
    whole = (await store.animals(view, AnimalQuery(limit=1))).count
    done = missing = 0
    with path.open("wb") as file:
        for offset in range(0, whole, _PAGE):
            page = (await store.animals(view, AnimalQuery(offset=offset, limit=_PAGE, ordering="created_at"))).results
            for begin in range(0, len(page), AHEAD * over.workers):
                asked = []
                for animal in page[begin : begin + AHEAD * over.workers]:
                    fixes = await insight.track(view, animal.id)
                    if not fixes:
                        file.write(_line(Used(animal_id=animal.id, occurrence=None, missing="it has no usable fix")))
                        done, missing = done + 1, missing + 1
                        continue
                    asked.append(
                        Animal(
                            id=animal.id, species=animal.species, fixes=columns_of(fixes),
                            since=fixes[0].recorded_at, until=fixes[-1].recorded_at,
                        )
                    )  # fmt: skip
                for used in await asyncio.to_thread(_listed, over, asked, artifacts):
                    file.write(_line(used))
                    done, missing = done + 1, missing + (used.occurrence is None)
                progress(done / max(1, whole), f"{done} of {whole} animals")
    return {"animals": done, "without": missing}


def _listed(over: Spread, animals: list[Animal], artifacts: Path) -> list[Used]:
    return list(utilisations(over, animals, artifacts=artifacts))


def _line(used: Used) -> bytes:
    return msgspec.json.encode(used) + b"\n"
