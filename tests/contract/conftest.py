"""One suite over every store: the protocol itself, and the HTTP interface over it.

A home that brings a store adds a factory to ``STORES``; every test of this folder then runs over it too.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar

from cloud.api.app import create_app as create_cloud
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from edge.alerts.engine import Engine
from edge.alerts.keeper import Keeper
from edge.alerts.rules import RuleBook
from edge.api.app import create_app
from edge.api.events import EventHub
from edge.pipeline.advice import AdviceStage
from edge.pipeline.insight import KeptInsight
from edge.pipeline.pipeline import Pipeline
from edge.store.store import SpatialiteStore
from models.live.advice import Advisor
from models.live.habitat import MappedHabitat
from models.live.runtime import Models
from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.privacy import OPERATOR, View, view_for
from shared.store import Store
from tests.access import TokenAuth, accounts_over, logged_in, operator_of, person, rosters_over
from tests.clouds import wipe
from tests.contract.logins import NOW
from tests.contract.walks import upload, walk
from tests.fakes import START, FakeClock, FakeHealth, FakeMessenger
from tests.memory_store import InMemoryStore
from tests.phones import serving
from tests.services import Postgres

KEY = bytes(range(32))

StoreFactory = Callable[[Path, Callable[[], datetime]], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def in_memory(_folder: Path, now: Callable[[], datetime]) -> AsyncIterator[Store]:
    """Give the double that other tests use."""
    yield InMemoryStore(now)


@cache
def _empty_station() -> bytes:
    """Return the file of a fresh station: making SpatiaLite's tables takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "station.db"
        SpatialiteStore(path, KEY, now=lambda: START).close_now()
        return path.read_bytes()


@asynccontextmanager
async def spatialite(folder: Path, now: Callable[[], datetime]) -> AsyncIterator[Store]:
    """Give the station's store over a real encrypted file; what is durable is tested elsewhere."""
    path = folder / "station.db"
    path.write_bytes(_empty_station())
    store = SpatialiteStore(path, KEY, now=now, synchronous="NORMAL", readers=1)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def postgresql(folder: Path, now: Callable[[], datetime]) -> AsyncIterator[Store]:
    """Give the cloud's store over an emptied database; ``folder`` holds the address that the fixture wrote there."""
    url = (folder / "database.url").read_text()
    wipe(url)
    async with Database.open(url, pool_min=1, pool_max=2) as database:
        yield PostgresStore(database, now=now)


STORES: list[tuple[str, StoreFactory]] = [
    ("memory", in_memory), ("spatialite", spatialite), ("postgresql", postgresql),
]  # fmt: skip


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock that stands at noon until a test moves it."""
    return FakeClock()


@pytest.fixture
def view() -> View:
    """Give the view of the operator."""
    return view_for(OPERATOR)


@pytest.fixture(scope="session")
def contract_database(postgres: Postgres) -> Iterator[str]:
    """Give one database for all of these tests: emptying it takes a tenth of making one."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture(params=[factory for _, factory in STORES], ids=[name for name, _ in STORES])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Store]:
    """Give an empty store, once for each kind."""
    if request.param is postgresql:
        (tmp_path / "database.url").write_text(request.getfixturevalue("contract_database"))
    async with request.param(tmp_path, clock.now) as store:
        yield store


@pytest.fixture(scope="session")
def models() -> Models:
    """Give the packaged models, loaded once."""
    return Models()


@pytest.fixture(scope="session")
def advisor() -> Advisor:
    """Give the packaged policy, loaded once."""
    return Advisor()


@pytest.fixture
def pipeline(store: Store, models: Models) -> Iterator[Pipeline | None]:
    """Give the station's pipeline over its store; other stores have none, their models are asked on demand."""
    if not isinstance(store, SpatialiteStore):
        yield None
        return
    pipeline = Pipeline(store, models, lambda _name, _data: None)
    yield pipeline
    pipeline.close()


@pytest.fixture
def settle(
    pipeline: Pipeline | None, store: Store, clock: FakeClock, advisor: Advisor
) -> Callable[[], Awaitable[None]]:
    """Give a function that lets the models come to all fixes, and kept answers grow old."""

    async def settle() -> None:
        if pipeline is not None:
            await pipeline.drain()
        if isinstance(store, SpatialiteStore):
            stage = AdviceStage(store, advisor, clock, MappedHabitat(None))
            while await stage.advance():
                pass
            stage.close()
        clock.tick(6)

    return settle


@pytest.fixture
def app(store: Store, clock: FakeClock, outbox: FakeMessenger, pipeline: Pipeline | None, models: Models) -> Litestar:
    """Give the application of the home that the store is of."""
    accounts = accounts_over(store, clock, messenger=outbox)
    if isinstance(store, PostgresStore):
        return create_cloud(store, clock=clock, accounts=accounts, rosters=rosters_over(store, accounts))
    insight = alarms = None
    if pipeline is not None and isinstance(store, SpatialiteStore):
        insight = KeptInsight(store, models, pipeline.occurrence, clock)
        alarms = Keeper(store, Engine(RuleBook()), clock, lambda _told: None)
    return create_app(
        store, health=FakeHealth(), events=EventHub(), clock=clock, accounts=accounts, insight=insight, alarms=alarms
    )


@pytest.fixture
def outbox() -> FakeMessenger:
    """Give what takes the codes that the home would send."""
    return FakeMessenger()


@pytest.fixture
def accounts(app: Litestar) -> Accounts:
    """Give the accounts of the home."""
    found: Accounts = app.state["accounts"]
    return found


@pytest.fixture
async def url(app: Litestar) -> AsyncIterator[str]:
    """Give the address of the home, which answers over a socket."""
    async with serving(app) as url:
        yield url


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the application that is logged in as its administrator."""
    async with client_of(app, operator_of(app)) as client:
        yield client


@pytest.fixture
async def nobody(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client that has not logged in."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def admin_user(accounts: Accounts) -> User:
    """Give an administrator."""
    return await person(accounts, "admin")


@pytest.fixture
async def manager_user(accounts: Accounts) -> User:
    """Give a conservation manager of every station."""
    return await person(accounts, "conservation_manager")


@pytest.fixture
async def ranger_user(accounts: Accounts) -> User:
    """Give a ranger of every station."""
    return await person(accounts, "ranger")


@pytest.fixture
async def viewer_user(accounts: Accounts) -> User:
    """Give a viewer."""
    return await person(accounts, "viewer")


@pytest.fixture
async def jwt_tokens(accounts: Accounts, admin_user: User) -> dict[str, str]:
    """Give the tokens of an administrator who has just logged in."""
    access, refresh = await logged_in(accounts, admin_user)
    return {"access": access, "refresh": refresh}


@pytest.fixture
async def admin_client(app: Litestar, accounts: Accounts, admin_user: User) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client that is logged in as an administrator with a session."""
    async with client_of(app, await session_of(accounts, admin_user)) as client:
        yield client


@pytest.fixture
async def authenticated_client(
    app: Litestar, accounts: Accounts, ranger_user: User
) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client that is logged in as a ranger, as most people who use the API are."""
    async with client_of(app, await session_of(accounts, ranger_user)) as client:
        yield client


@pytest.fixture
async def viewer_client(app: Litestar, accounts: Accounts, viewer_user: User) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client that is logged in as a viewer."""
    async with client_of(app, await session_of(accounts, viewer_user)) as client:
        yield client


async def session_of(accounts: Accounts, user: User) -> TokenAuth:
    """Return what makes a client a user with a session."""
    access, _ = await logged_in(accounts, user)
    return TokenAuth(lambda: access)


def client_of(app: Litestar, auth: httpx.Auth | None = None) -> httpx.AsyncClient:
    """Return a client of ``app``."""
    transport = httpx.ASGITransport(cast("Any", app))
    return httpx.AsyncClient(transport=transport, base_url="http://station", auth=auth)


@pytest.fixture(scope="session")
def refusing_app() -> Litestar:
    """Give an application for requests that never reach a store: made once, because making one takes a while."""
    clock = FakeClock()
    return create_app(
        InMemoryStore(lambda: START), health=FakeHealth(), events=EventHub(), clock=clock,
        accounts=accounts_over(None, clock),
    )  # fmt: skip


@pytest.fixture
async def refusing(refusing_app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client for requests that are refused before any store is asked to change."""
    async with client_of(refusing_app, operator_of(refusing_app)) as client:
        yield client


@pytest.fixture
def make_animal(client: httpx.AsyncClient) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Give a function that enters an animal over HTTP and returns it."""

    async def make(**fields: Any) -> dict[str, Any]:
        answer = await client.post("/api/v1/animals/", json={"name": "Alpha", "species": "Elephant", **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    return make


@pytest.fixture
async def elephant(
    client: httpx.AsyncClient,
    make_animal: Callable[..., Awaitable[dict[str, Any]]],
    clock: FakeClock,
    settle: Callable[[], Awaitable[None]],
) -> dict[str, Any]:
    """Give an elephant that was followed for two days."""
    made = await make_animal(collar_id="COL001")
    clock.tick(47 * 3600)
    await upload(client, walk(48))
    await settle()
    return made


@pytest.fixture
def after_release(clock: FakeClock) -> None:
    """Have the clock stand at a time after this program was written."""
    clock.at = NOW


@pytest.fixture
def only_homes(request: pytest.FixtureRequest) -> None:
    """Leave the double out: its accounts are the station's, and it neither reduces nor keeps what real homes keep."""
    if "store" in request.fixturenames and isinstance(request.getfixturevalue("store"), InMemoryStore):
        pytest.skip("for real homes")


@pytest.fixture
def is_cloud(accounts: Accounts) -> bool:
    """Say which home this is."""
    return accounts.home == "cloud"


@pytest.fixture
def only_cloud(is_cloud: bool) -> None:
    """Leave the station out."""
    if not is_cloud:
        pytest.skip("codes are sent in the cloud alone")
