"""Laws of phones between a station and the cloud: all end alike, and no edit is lost that no log tells of."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from edge.api.app import create_app as create_station
from edge.api.events import EventHub
from edge.store.store import SpatialiteStore
from tests.access import accounts_over
from tests.clouds import Cloud, serving, wipe
from tests.fakes import FakeClock, FakeHealth
from tests.phones import Phone
from tests.phones import serving as serving_app
from tests.roaming import COLUMNS, CloudHome, HomeName, PhoneModel, RealPhone, StationHome, Step, play
from tests.services import Postgres

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
#: Two hundred examples take longer than a test may.
pytestmark = [pytest.mark.integration, pytest.mark.sync, pytest.mark.timeout(3600 if NIGHTLY else 300)]


class World:
    """A cloud, and the file of a station before anything."""

    def __init__(self, url: str, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.cloud: Cloud = self.runner.run(self._stack.enter_async_context(serving(url)))
        self._new = folder / "new.db"
        SpatialiteStore(self._new, None, now=FakeClock().now).close_now()
        self.path = folder / "station.db"

    def fresh(self) -> StationHome:
        """Empty the cloud and give a new station."""
        wipe(self.cloud.url)
        for left in self.path.parent.glob("station.db*"):
            left.unlink()
        shutil.copyfile(self._new, self.path)
        return StationHome(self.path, self.cloud, FakeClock())

    def close(self) -> None:
        """End it."""
        self.runner.run(self._stack.aclose())
        self.runner.close()


@pytest.fixture(scope="module")
def world(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    url = postgres.create()
    world = World(url, tmp_path_factory.mktemp("roaming"))
    yield world
    world.close()
    postgres.drop(url)


acts = st.sampled_from(
    ["create", "update", "update", "update", "update", "delete", "sync", "sync", "sync", "sync", "sync", "roam", "meet",
     "meet", "keep copy", "restore", "restore cloud"]
)  # fmt: skip
steps = st.lists(
    st.tuples(
        st.integers(0, 2), acts, st.integers(0, 5), st.sampled_from(COLUMNS),
        st.sampled_from(["", "", "", "pull", "push", "answer"]),
    ),
    min_size=5, max_size=40,
)  # fmt: skip


@settings(
    max_examples=200 if NIGHTLY else 12, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=tuple(Phase) if NIGHTLY else (Phase.explicit, Phase.generate),
)  # fmt: skip
@given(steps)
def test_phones_that_roam_end_alike_and_no_edit_is_lost_that_no_log_tells_of(world: World, said: list[Step]) -> None:
    async def run() -> None:
        station = world.fresh()
        await station.open()
        try:
            await play(said, [PhoneModel(name) for name in "abc"], station, CloudHome(world.cloud), event)
        finally:
            await station.close()

    world.runner.run(run())


class _Now:
    """The store that a station has now: its application outlives a restore."""

    def __init__(self, station: StationHome) -> None:
        self._station = station

    def __getattr__(self, name: str) -> Any:
        return getattr(self._station.store, name)


def test_the_laws_see_an_edit_that_a_tombstone_destroys(world: World) -> None:
    class Plain(PhoneModel):
        spares = False

    said: list[Step] = [
        (0, "create", 0, "description", ""), (0, "sync", 0, "description", ""), (1, "sync", 0, "description", ""),
        (1, "update", 0, "photo_url", ""), (0, "delete", 0, "description", ""), (0, "sync", 0, "description", ""),
        (1, "sync", 0, "description", ""),
    ]  # fmt: skip

    async def run(kind: type[PhoneModel]) -> None:
        station = world.fresh()
        await station.open()
        try:
            await play(said, [kind(name) for name in "ab"], station, CloudHome(world.cloud), lambda _: None)
        finally:
            await station.close()

    world.runner.run(run(PhoneModel))
    with pytest.raises(AssertionError, match="/v2"):
        world.runner.run(run(Plain))


@pytest.mark.nightly
@pytest.mark.skipif(not NIGHTLY, reason="the real client takes a second a sync: the nightly run drives it")
@settings(
    max_examples=int(os.environ.get("OUTPOST_REAL_EXAMPLES", "25")), deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate),
)  # fmt: skip
@given(steps)
def test_the_real_client_holds_the_same_laws(world: World, said: list[Step]) -> None:
    async def run() -> None:
        station = world.fresh()
        await station.open()
        clock = FakeClock()
        now = cast("Any", _Now(station))
        own = accounts_over(now, clock)
        app = create_station(now, health=FakeHealth(), events=EventHub(), clock=clock, accounts=own)
        try:
            async with serving_app(app) as here, serving_app(world.cloud.app) as above, AsyncExitStack() as stack:
                homes = {"station": (here, own), "cloud": (above, world.cloud.accounts)}

                def urls(home: HomeName) -> tuple[str, str]:
                    url, accounts = homes[home]
                    return url, accounts.machine_token()

                phones = [
                    RealPhone(name, await stack.enter_async_context(Phone.running(*urls("station"), name)), urls)
                    for name in "abc"
                ]
                await play(said, phones, station, CloudHome(world.cloud), event)
        finally:
            await station.close()

    world.runner.run(run())
