"""schemathesis over both homes' real applications: no fault, no status and no body that the description does not name.

Each home runs on a port of its own in a thread of its own. Requests are made from its description: such as it allows,
such as it refuses, and chains along its links. Their number is bounded and the seed fixed; the nightly run makes more.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import FlakyStrategyDefinition, Unsatisfiable
from litestar import Litestar
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.openapi.checks import UndefinedStatusCode
from schemathesis.specs.openapi import checks

from cloud.api.app import create_app as create_cloud
from cloud.store.store import PostgresStore
from edge.alerts.engine import Engine
from edge.alerts.keeper import Keeper
from edge.alerts.rules import RuleBook
from edge.api.app import create_app
from edge.api.events import EventHub
from edge.store.store import SpatialiteStore
from shared.accounts.service import Accounts
from shared.errors import ModelUnavailable
from shared.store import Store
from tests.access import accounts_over, rosters_over
from tests.contract.conftest import postgresql, spatialite
from tests.fakes import FakeClock, FakeHealth, FakeMessenger
from tests.services import Postgres

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
pytestmark = [pytest.mark.api, pytest.mark.slow, pytest.mark.timeout(7200 if NIGHTLY else 600)]
#: Requests of one operation that its description allows, and that it refuses.
POSITIVE, NEGATIVE = (60, 40) if NIGHTLY else (3, 1)
#: Chains, and how many of one seed at most.
CHAINS, STEPS, OF_A_SEED = (200, 12, 12) if NIGHTLY else (12, 6, 12)
#: However busy the machine is: no timing decides a test.
PATIENCE_S = 120.0
#: An answer without an end.
ENDLESS = "/api/v1/events"

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


def bounded(n: int, **more: Any) -> settings:
    """Return settings of ``n`` examples, the same ones every time."""
    return settings(
        max_examples=n, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
        phases=tuple(Phase) if NIGHTLY else (Phase.explicit, Phase.generate), **more,
    )  # fmt: skip


def no_fault(_ctx: Any, response: Any, _case: Any) -> None:
    """Take no fault for an answer, but for that of a model which is not there."""
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        assert response.json()["code"] == ModelUnavailable.code, response.text


class Served:
    """A home on a port, and what opens it."""

    def __init__(self, url: str, accounts: Accounts, schema: Any) -> None:
        self.url = url
        self.schema = schema
        self._accounts = accounts

    def call(self, case: Any) -> None:
        """Ask, and judge the answer."""
        response = case.call(base_url=self.url, headers=self.headers(), timeout=PATIENCE_S)
        case.validate_response(response, checks=[*CHECKS, no_fault])

    def headers(self) -> dict[str, str]:
        """Return what opens every door."""
        return {"Authorization": f"Bearer {self._accounts.machine_token()}"}


@asynccontextmanager
async def _served(app: Litestar, accounts: Accounts) -> AsyncIterator[Served]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, http="httptools"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event to wait for
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
        schema = (await client.get("/api/schema/openapi.json")).raise_for_status().json()
    schema["paths"].pop(ENDLESS, None)  # of the station alone
    try:
        yield Served(url, accounts, schemathesis.openapi.from_dict(schema))
    finally:
        server.should_exit = True
        await task


def _station(store: Store, clock: FakeClock) -> tuple[Litestar, Accounts]:
    assert isinstance(store, SpatialiteStore)
    accounts = accounts_over(store, clock, messenger=FakeMessenger())
    alarms = Keeper(store, Engine(RuleBook()), clock, lambda _told: None)
    return create_app(
        store, health=FakeHealth(), events=EventHub(), clock=clock, accounts=accounts, alarms=alarms
    ), accounts


def _cloud(store: Store, clock: FakeClock) -> tuple[Litestar, Accounts]:
    assert isinstance(store, PostgresStore)
    accounts = accounts_over(store, clock, messenger=FakeMessenger())
    return create_cloud(store, clock=clock, accounts=accounts, rosters=rosters_over(store, accounts)), accounts


HOMES: dict[str, tuple[Callable[[Path, Callable[[], datetime]], AbstractAsyncContextManager[Store]], Any]] = {
    "station": (spatialite, _station),
    "cloud": (postgresql, _cloud),
}


@pytest.fixture(scope="module", params=HOMES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Give each home, running."""
    opened, made = HOMES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "cloud":
        postgres: Postgres = request.getfixturevalue("postgres")
        (folder / "database.url").write_text(postgres.create())
    clock, found, is_over = FakeClock(), list[Served](), threading.Event()
    is_ready = threading.Event()

    async def run() -> None:
        async with opened(folder, clock.now) as store, _served(*made(store, clock)) as home:
            found.append(home)
            is_ready.set()
            await asyncio.to_thread(is_over.wait)

    def work() -> None:
        try:
            asyncio.run(run())
        finally:
            is_ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    is_ready.wait(3 * PATIENCE_S)
    assert found, "the home did not start; its traceback stands above"
    yield found[0]
    is_over.set()
    thread.join(30)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "refused"])
def test_no_request_finds_a_fault_or_an_answer_that_is_not_described(served: Served, mode: GenerationMode) -> None:
    n = POSITIVE if mode is GenerationMode.POSITIVE else NEGATIVE
    failed: dict[str, str] = {}
    asked = 0
    for result in served.schema.get_all_operations():
        operation = result.ok()
        asked += 1

        @bounded(n)
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            served.call(case)

        try:
            ask()
        except Unsatisfiable:  # what takes nothing refuses nothing
            continue
        except Exception as error:  # noqa: BLE001  # each operation is told of, not the first alone
            failed[operation.label] = "".join([str(error), *(str(each) for each in getattr(error, "exceptions", ()))])
    assert asked > 100
    assert not failed, "\n\n".join(f"{label}\n{told}" for label, told in failed.items())


def test_an_answer_that_is_not_described_would_be_found(served: Served) -> None:
    raw = copy.deepcopy(served.schema.raw_schema)
    del raw["paths"]["/api/v1/animals/{animal_id}"]["get"]["responses"]["404"]
    schema = schemathesis.openapi.from_dict(raw)
    case = schema["/api/v1/animals/{animal_id}"]["GET"].Case(path_parameters={"animal_id": "nobody"})
    with pytest.raises(FailureGroup) as found:
        served.call(case)
    assert [type(failure) for failure in found.value.exceptions] == [UndefinedStatusCode]


def test_no_chain_along_the_links_finds_one(served: Served) -> None:
    machine: Any = served.schema.as_state_machine()
    begun = answered = 0
    faults: list[BaseException] = []

    class Chain(machine):  # type: ignore[misc]
        def setup(self) -> None:
            nonlocal begun
            begun += 1

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"base_url": served.url, "headers": served.headers(), "timeout": PATIENCE_S}

        def validate_response(self, response: Any, case: Any, additional_checks: Any = None, **kwargs: Any) -> None:
            nonlocal answered
            try:
                case.validate_response(response, checks=[*CHECKS, no_fault])
            except BaseException as fault:
                faults.append(fault)
                raise
            answered += 1

    seed = 0
    while begun < CHAINS:
        Chain._hypothesis_internal_use_seed = seed
        seed += 1
        # The engine expects the same answer to the same beginning, which a home that keeps what it was told does not
        # give: it then ends the chains of this seed, and the next one's begin. What was found stands in ``faults``.
        with contextlib.suppress(FlakyStrategyDefinition):
            Chain.run(
                settings=settings(
                    max_examples=min(OF_A_SEED, CHAINS - begun), stateful_step_count=STEPS, deadline=None,
                    database=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate),
                )
            )  # fmt: skip
        assert not faults
    assert answered >= CHAINS
