"""Fixtures that more than one package's tests use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from tests.services import Broker, Postgres

# Its folder in the checkout would be walked by pytest, which warns, and a warning is an error.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "outpost-hypothesis")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a running broker whose sessions survive a kill."""
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Give a running PostgreSQL, the same one to all tests."""
    postgres = Postgres()
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """Give the URL of a database of the test's own, with the cloud's schema and no row."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def blank_database_url(postgres: Postgres) -> Iterator[str]:
    """Give the URL of a database of the test's own in which there is nothing."""
    url = postgres.create(is_migrated=False)
    yield url
    postgres.drop(url)
