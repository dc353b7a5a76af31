"""How each program of ours speaks: facts as text or JSON, errors as one line on stderr."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
import typer
from rich.console import Console
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
