"""Batch science: work that outgrows one process, here or on a Dask cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.commands.opening import (
    ConfigOption,
    JsonOption,
    load_config,
    server_clock,
)
from shared.console import print_facts, progress_bar
from shared.errors import Invalid

if TYPE_CHECKING:
    from cloud.config import Config


commands = typer.Typer(help="Work that outgrows one process: here, or on the Dask cluster of OUTPOST_DASK_SCHEDULER.")


@commands.command()
def habitat(
    species: Annotated[str, typer.Option(help="By common or scientific name.")],
    out: Annotated[Path, typer.Option(help="The GeoTIFF to write.")],
    month: Annotated[int | None, typer.Option(min=1, max=12, help="Whose maps are taken.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Local processes; without a cluster.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score the whole of the reserve's maps by chunks; memory is that of the chunks under way."""
    from cloud.jobs.science import habitat_map
    from cloud.jobs.spread import spread

    settings = load_config(config)
    if not settings.habitat.dir:
        raise Invalid("habitat.dir: name the folder of the reserve's maps")
    maps = Path(settings.habitat.dir) / "rasters.toml"
    with spread(workers) as over, progress_bar("habitat") as told:
        made = habitat_map(over, maps, species, month, out, artifacts=_artifacts(settings), progress=told)
    print_facts(made, as_json=as_json)


@commands.command()
def utilisations(
    out: Annotated[Path, typer.Option(help="The file of JSON lines to write, one an animal.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Local processes; without a cluster.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Work out where every animal was, exactly; for researchers on this machine. It leaves a line in the audit log."""
    from cloud.app import accounts_of
    from cloud.jobs.spread import spread
    from cloud.ops.science import write_utilisations
    from cloud.store.database import Database
    from cloud.store.store import PostgresStore
    from shared.accounts.audit import Entry
    from shared.privacy import OPERATOR

    settings = load_config(config)

    async def job() -> dict[str, int]:
        async with Database.open(
            settings.database_url(), pool_min=1, pool_max=2, is_pooled=settings.database.is_pooled
        ) as database:
            store = PostgresStore(database, now=server_clock().now)
            accounts = accounts_of(settings, database, server_clock())

            async def note(words: str) -> None:
                await accounts.note([Entry(accounts.moments().ms, OPERATOR.user_id, "export", words)])

            with spread(workers) as over, progress_bar("utilisations") as told:
                return await write_utilisations(
                    store, server_clock(), over, out, note=note, artifacts=_artifacts(settings), progress=told
                )

    print_facts(asyncio.run(job()), as_json=as_json)


@commands.command()
def corridors(
    data: Annotated[Path, typer.Option(help="The folder of track files and rasters.")],
    out: Annotated[Path, typer.Option(help="The folder for JSON of each algorithm.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Local processes; without a cluster.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure routes over many landscapes, as `outpost-models evaluate corridor` does."""
    from cloud.jobs.spread import spread
    from models.corridor.evaluate import evaluate, write

    with spread(workers) as over, progress_bar("corridors") as told:
        found = evaluate(data, data.parent / "reference", progress=told, spread=over.map)
    print_facts({"files": [str(path) for path in write(found, out)]}, as_json=as_json)


def _artifacts(settings: Config) -> Path:
    from models.artifact import PACKAGED

    return Path(settings.models.folder) if settings.models.folder else PACKAGED
