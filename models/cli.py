"""``outpost-models``: the program's commands arrive with the rooms that they open."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

cli = typer.Typer(name="outpost-models", no_args_is_help=True, pretty_exceptions_enable=False)


@cli.callback(invoke_without_command=True)
def root(
    is_version_asked: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Train, evaluate and verify models. This version has the station only; no model is here yet."""
    if is_version_asked:
        typer.echo(version("outpost"))


def main() -> None:
    """Run the program."""
    cli()
