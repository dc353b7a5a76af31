"""What a look for trouble finds, with cause and next step, and the looks that both homes take at their own machine."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

State = Literal["ok", "warning", "fault"]

OLDEST_PYTHON: Final = (3, 11)
LEAST_MEMORY_BYTES: Final = 64 * 2**20


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one look found. ``cause`` and ``next_step`` are for a person and empty where nothing is wrong."""

    name: str
    state: State
    cause: str = ""
    next_step: str = ""


def fine(name: str) -> Finding:
    """Say that nothing is wrong, or nothing can be told."""
    return Finding(name=name, state="ok")


def warning(name: str, cause: str, next_step: str) -> Finding:
    """Say what is wrong and can wait until somebody has time."""
    return Finding(name=name, state="warning", cause=cause, next_step=next_step)


def fault(name: str, cause: str, next_step: str) -> Finding:
    """Say what keeps a home from its work, or its data in danger."""
    return Finding(name=name, state="fault", cause=cause, next_step=next_step)


def look_at_python(packages: Sequence[str], *, next_step: str) -> Finding:
    """Look whether the interpreter is new enough and all ``packages`` can be imported."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if sys.version_info < OLDEST_PYTHON:
        return fault("python", f"this is Python {sys.version.split()[0]}", f"it takes 3.11 or later: {next_step}")
    if missing:
        return fault("python", f"packages are missing: {', '.join(missing)}", next_step)
    return fine("python")


def look_at_memory(meminfo: Path, *, next_step: str) -> Finding:
    """Look whether memory is left, in the kernel's own table."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return fine("memory")
    if free < LEAST_MEMORY_BYTES:
        return warning("memory", f"{free // 2**20} MiB of memory are left", next_step)
    return fine("memory")
