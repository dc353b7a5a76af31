"""How each program of ours speaks: facts as text or JSON, errors as one line on stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from shared.errors import OutpostError

console = Console()
errors = Console(stderr=True)


def run_program(program: Callable[[], Any]) -> None:
    """Run ``program``; an error of ours is one line on stderr and exit code 1."""
    try:
        program()
    except OutpostError as error:
        fail(error.code, error.detail)
    except BrokenPipeError:
        raise SystemExit(1) from None  # whoever read the output has seen enough
    except OSError as error:
        fail("file", f"{error.filename}: {error.strerror}" if error.filename else str(error))


def fail(code: str, detail: str) -> NoReturn:
    """Say in one line what went wrong and end with exit code 1."""
    line = " ".join(detail.split())
    errors.print(Text.assemble((code, "red"), f": {line}"), soft_wrap=True)
    raise SystemExit(1)


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """Show on stderr how far long work is; gives a function that is told the share, 0 to 1, and at what it is.

    On no terminal (a log, a pipe) each whole tenth is a line.
    """
    if not errors.is_terminal:
        shown = [-1]

        def told(share: float, what: str) -> None:
            if int(share * 10) > shown[0]:
                shown[0] = int(share * 10)
                errors.print(f"{title}: {share:.0%}, {what}", highlight=False, markup=False)

        yield told
        return
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda share, what: progress.update(task, completed=share, description=f"{title}: {what}")


def print_facts(facts: Any, *, as_json: bool) -> None:
    """Print facts, a line each, or as JSON."""
    plain = msgspec.to_builtins(facts)
    if as_json:
        print_json(plain)
        return
    for name, value in plain.items():
        words = name.replace("_", " ")
        if isinstance(value, list):
            for item in value:
                console.print(f"  {item}", highlight=False, markup=False)
        else:
            console.print(f"{words}: {value}", highlight=False)


def print_json(facts: object) -> None:
    """Print facts as JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())
