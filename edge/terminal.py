"""What the commands of the station share: their options, the store over which they run, a bar for long work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from edge import app
from edge.config import DEFAULT_PATH, Config
from edge.store.store import SpatialiteStore
from shared.console import errors
from shared.errors import ConfigError
from shared.logs import configure_logging

T = TypeVar("T")

ConfigOption = Annotated[Path | None, typer.Option("--config", help=f"TOML file; {DEFAULT_PATH} by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]


def with_store(settings: Config, job: Callable[[SpatialiteStore], Awaitable[T]]) -> T:
    """Run ``job`` over the station's store and return what it returns."""
    configure_logging(settings.logs.levels)  # to stderr: what is printed is facts alone, however slow the disk is

    async def run_job() -> T:
        store = SpatialiteStore(settings.database, settings.key(), now=lambda: datetime.now(UTC))
        try:
            return await job(store)
        finally:
            await store.close()

    return asyncio.run(run_job())


class progress_of:  # noqa: N801 - reads as a statement where it is used
    """A progress bar on a terminal, silence elsewhere."""

    def __init__(self, what: str, *, as_json: bool, total: int = 0) -> None:
        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=errors, disable=as_json or not errors.is_terminal, transient=True,
        )  # fmt: skip
        self._what = what
        self._total = total or None

    def __enter__(self) -> Callable[..., None]:
        self._bar.start()
        task = self._bar.add_task(self._what, total=self._total)
        return lambda done, total=None: self._bar.update(task, completed=done, total=total or self._total)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def url_of(settings: Config) -> str:
    """Return the address of the running station; raises ConfigError where none runs."""
    try:
        return app.url_file(settings).read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError("the station is not running; start it with `outpost-station run`") from error
