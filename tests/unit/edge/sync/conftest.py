"""A station's store that is enrolled, and a cloud in memory."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.store.store import SpatialiteStore
from tests.fakes import FakeClock
from tests.unit.edge.sync.fake_cloud import InMemoryCloud
from tests.unit.edge.sync.test_session import enrol


@pytest.fixture(scope="module")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of an empty store."""
    path = tmp_path_factory.mktemp("new") / "station.db"
    SpatialiteStore(path, None, now=FakeClock().now).close_now()
    return path


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock that only a test moves."""
    return FakeClock()


@pytest.fixture
async def store(new_database: Path, tmp_path: Path, clock: FakeClock) -> AsyncIterator[SpatialiteStore]:
    """Give a store that is enrolled."""
    store = SpatialiteStore(Path(shutil.copy(new_database, tmp_path / "station.db")), None, now=clock.now, readers=1)
    await enrol(store)
    yield store
    await store.close()


@pytest.fixture
def cloud() -> InMemoryCloud:
    """Give a cloud that nobody has told anything."""
    return InMemoryCloud()
