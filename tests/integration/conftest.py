"""A station's empty store, and the cloud as stations reach it: over HTTP and a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio

from cloud.ingest.service import Ingest
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from edge.store.store import SpatialiteStore
from tests.access import operator_of
from tests.clouds import Cloud, Station, ask, serving, wipe
from tests.fakes import START, FakeClock
from tests.integration.intakes import KEY, LOOPBACK, Intake, app_over
from tests.integration.station_store import opened
from tests.services import Postgres


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "station.db"


@pytest.fixture
async def store(path: Path, clock: FakeClock) -> AsyncIterator[SpatialiteStore]:
    """Give a station's empty store; when the test is over its database must be sound."""
    async with opened(path, clock) as store:
        yield store


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    """Give one database to all tests here; each finds it empty."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(url: str) -> AsyncIterator[Cloud]:
    """Give one application to all tests here: making one takes longer than most of them."""
    async with serving(url) as cloud:
        yield cloud


@pytest_asyncio.fixture(loop_scope="module")
async def cloud(served: Cloud) -> AsyncIterator[Cloud]:
    wipe(served.url)
    served.clock.at = START
    yield served
    counted, rows, last, lines = served.ask(
        "SELECT (SELECT value FROM counters WHERE name = 'fixes'), (SELECT count(*) FROM fixes),"
        " (SELECT value FROM counters WHERE name = 'change'), (SELECT count(*) FROM changes)"
    )[0]
    assert (counted, last) == (rows, lines)


@pytest.fixture
def station(cloud: Cloud) -> Station:
    return cloud.station()


@pytest.fixture
async def intake(database_url: str) -> AsyncIterator[Intake]:
    """Give a cloud that takes collars in, over a database of the test's own, whose counts must be right at the end."""
    clock = FakeClock()
    async with Database.open(database_url, pool_min=1, pool_max=4) as database:
        store = PostgresStore(database, now=clock.now)
        ingest = Ingest(store, clock, rockblock_keys=(KEY, KEY[::-1]))
        app = app_over(store, clock, ingest)
        transport = httpx.ASGITransport(cast("Any", app))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://cloud", auth=operator_of(app)) as client,
            ingest.running(directip=LOOPBACK),
        ):
            yield Intake(database_url, database, client, clock, ingest)
    counted = ask(
        database_url,
        "SELECT (SELECT value FROM counters WHERE name = 'fixes') - (SELECT count(*) FROM fixes),"
        " (SELECT value FROM counters WHERE name = 'change') - (SELECT count(*) FROM changes),"
        " (SELECT value FROM counters WHERE name = 'frames') - (SELECT count(*) FROM frames)",
    )
    assert counted == [(0, 0, 0)]
