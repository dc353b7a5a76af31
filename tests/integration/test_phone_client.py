"""The client package's own tests and types, run by Node's test runner."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.phones import CLIENT, node

pytestmark = [pytest.mark.integration, pytest.mark.sync]


@pytest.mark.parametrize(
    "words",
    [
        ("node_modules/typescript/bin/tsc", "--noEmit"),
        ("--no-warnings", "--test", "--test-force-exit", "test/client.test.ts"),
    ],
    ids=["types", "tests"],
)
def test_the_client_package_is_sound(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [node(), *words], cwd=CLIENT, capture_output=True, text=True, check=False, timeout=120, env={**os.environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
