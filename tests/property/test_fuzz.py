"""Ten minutes of coverage-guided fuzzing for every decoder, at night; ``fuzz`` is what runs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.property.garbage import TARGETS

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get("OUTPOST_FUZZ_SECONDS") or 600)

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(SECONDS + 120),
    pytest.mark.skipif(not os.environ.get("OUTPOST_NIGHTLY"), reason="ten minutes a decoder: set OUTPOST_NIGHTLY"),
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None,
        reason="atheris is not installed: it has wheels for some versions of Python and machines only",
    ),
]


@pytest.mark.parametrize("name", TARGETS)
def test_a_fuzzer_finds_nothing_but_values_and_frame_errors(name: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.property.fuzz", name, "--seconds", str(SECONDS), "--corpus", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS + 90,
    )
    crashes = [path.read_bytes().hex() for path in tmp_path.glob("*-*") if path.name.startswith(("crash", "timeout"))]
    assert run.returncode == 0, f"{crashes}\n{run.stderr[-3000:]}"
    assert "DONE" in run.stderr
