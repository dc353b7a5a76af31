"""The cloud as stations reach it, over HTTP and a real database, for the tests that speak to it as a station does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.clouds import Cloud, Station, serving, wipe
from tests.fakes import START
from tests.services import Postgres


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
