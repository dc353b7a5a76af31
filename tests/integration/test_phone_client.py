"""The client package's own tests and types, run by Node's test runner."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import Any, cast

import httpx
import pytest

from edge.api.app import create_app
from edge.api.events import EventHub
from tests.access import accounts_over, operator_of
from tests.fakes import FakeClock, FakeHealth
from tests.memory_store import InMemoryStore
from tests.phones import CLIENT, node

pytestmark = [pytest.mark.integration, pytest.mark.sync]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make the types of the API from what a home says of it."""
    clock = FakeClock()
    app = create_app(
        InMemoryStore(clock.now), health=FakeHealth(), events=EventHub(), clock=clock,
        accounts=accounts_over(None, clock),
    )  # fmt: skip

    async def description() -> bytes:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(cast("Any", app)), base_url="http://home", auth=operator_of(app)
        ) as client:
            return (await client.get("/api/schema/openapi.json")).raise_for_status().content

    file = tmp_path_factory.mktemp("api") / "openapi.json"
    file.write_bytes(asyncio.run(description()))
    program = CLIENT / "node_modules" / "openapi-typescript" / "bin" / "cli.js"
    done = subprocess.run(
        [node(), program, file, "--output", CLIENT / "src" / "home.gen.ts"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("described")
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
