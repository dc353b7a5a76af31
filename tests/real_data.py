"""Where real tracks and reference vectors lie: outside the project, which may not carry them.

``OUTPOST_REAL_DATA`` names the folder of the track files; ``reference/`` lies beside it. Without the variable,
``../shared/data`` beside the checkout is looked at. A test without its file skips, and says so.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("OUTPOST_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def reference(name: str) -> Path | None:
    """Return the reference file ``name``, or None where it is not at hand."""
    path = FOLDER.parent / "reference" / name
    return path if path.is_file() else None


def tracks(name: str) -> Path:
    """Return the track file ``name``; skips the calling test where it is not at hand."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"{path} is absent: set OUTPOST_REAL_DATA to the folder that holds {name}")
    return path
