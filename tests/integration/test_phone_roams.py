"""A phone that goes from a station to the cloud, to another station and back, with the real client and real homes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cloud.api.app import create_app as create_cloud
from cloud.store.database import Database
from cloud.store.stations import new_code
from cloud.store.store import PostgresStore
from edge.api.app import create_app as create_station
from edge.api.events import EventHub
from edge.store import outbox
from edge.store.store import SpatialiteStore
from edge.sync.client import CloudClient, enrol
from edge.sync.session import sync_once
from shared.accounts.service import Accounts
from shared.privacy import OPERATOR, view_for
from shared.store import AnimalQuery, FixQuery
from shared.sync.records import to_ms
from shared.wire.signatures import new_key
from tests.access import accounts_over, rosters_over
from tests.fakes import START, FakeClock, FakeHealth
from tests.phones import Phone, serving
from tests.services import Postgres

pytestmark = [pytest.mark.integration, pytest.mark.sync, pytest.mark.slow]

VIEW = view_for(OPERATOR)
NOW_MS = to_ms(START)


class Home:
    """A home that answers: its store, address and an operator's token."""

    def __init__(self, store: Any, url: str, accounts: Accounts) -> None:
        self.store = store
        self.url = url
        self.token = accounts.machine_token()


@contextlib.asynccontextmanager
async def station(folder: Path, name: str, clock: FakeClock, cloud: Home) -> AsyncIterator[Home]:
    """Give a station that is enrolled at ``cloud``."""
    store = SpatialiteStore(folder / f"{name}.db", None, now=clock.now, synchronous="NORMAL", readers=1)
    accounts = accounts_over(store, clock)
    app = create_station(store, health=FakeHealth(), events=EventHub(), clock=clock, accounts=accounts)
    async with cloud.store.database.transaction() as connection:
        code = await new_code(connection, name, name, NOW_MS, 600_000)
    try:
        async with serving(app) as url:
            private_key, public_key = new_key()
            enrolled = await enrol(cloud.url, code, public_key)
            await store.write(
                lambda db: outbox.enrol(
                    db, url=cloud.url, station_id=enrolled.station_id, private_key=private_key,
                    cloud_epoch=enrolled.cloud_epoch, epoch=f"{name:0>16}", now_ms=NOW_MS,
                )
            )  # fmt: skip
            yield Home(store, url, accounts)
    finally:
        await store.close()


async def meet(home: Home, clock: FakeClock) -> None:
    """Have a station bring the cloud what it has and take what is there."""
    found = await home.store.read(outbox.enrolled)
    client = CloudClient(found.url, found.station_id, found.private_key, now=clock.now)
    try:
        for _ in range(2):
            await sync_once(home.store, client, clock)
    finally:
        await client.close()


@pytest.fixture
async def cloud(postgres: Postgres, clock: FakeClock) -> AsyncIterator[Home]:
    """Give a cloud that answers."""
    url = postgres.create()
    async with Database.open(url, pool_min=1, pool_max=4) as database:
        store = PostgresStore(database, now=clock.now)
        accounts = accounts_over(store, clock)
        app = create_cloud(store, clock=clock, accounts=accounts, rosters=rosters_over(store, accounts))
        async with serving(app) as address:
            yield Home(store, address, accounts)
    postgres.drop(url)


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock that stands."""
    return FakeClock()


async def test_a_phone_that_roams_loses_nothing_and_brings_its_offline_edits_to_whichever_home_it_finds(
    cloud: Home, clock: FakeClock, tmp_path: Path
) -> None:
    async with (
        station(tmp_path, "a", clock, cloud) as first,
        station(tmp_path, "b", clock, cloud) as second,
        Phone.running(first.url, first.token, "one") as phone,
    ):
        await phone.sync()
        animal = await phone.do(
            "create", table="animals",
            row={"name": "Alpha", "species": "Elephant", "collar_id": "K1", "status": "active",
                 "health_status": "healthy", "gender": "male"},
        )  # fmt: skip
        here = {"animal_id": animal, "collar_id": "K1", "timestamp": NOW_MS, "lat": -2.5, "lon": 37.5, "source": "gps"}
        await phone.do("create", table="tracking", row=here)
        await phone.sync()
        await meet(first, clock)

        # to town, with an edit that the station has not heard of
        await phone.do("update", table="animals", id=animal, changes={"notes": "limps"})
        await phone.do("roam", url=cloud.url, token=cloud.token)
        await phone.sync()
        assert (await cloud.store.animal(VIEW, animal)).notes == "limps"
        await phone.is_right()
        assert await phone.do("count", table="tracking") == 1

        # to another post: it has heard of the animal from above, and of no fix of another post
        await meet(second, clock)
        await phone.do("update", table="animals", id=animal, changes={"age": 12})
        await phone.do("roam", url=second.url, token=second.token)
        await phone.sync()
        await phone.sync()
        stored = await second.store.animal(VIEW, animal)
        assert (stored.name, stored.notes, stored.age, stored.collar_id) == ("Alpha", "limps", 12, "K1")
        assert await phone.do("count", table="tracking") == 1
        assert await phone.do("unsynced") is False

        # and back, after both posts have met the cloud
        await phone.do("update", table="animals", id=animal, changes={"weight": 3_000})
        await meet(second, clock)
        await meet(first, clock)
        await phone.do("roam", url=first.url, token=first.token)
        await phone.sync()
        await meet(first, clock)
        for home in (first, cloud):
            stored = await home.store.animal(VIEW, animal)
            assert (stored.notes, stored.age, stored.weight) == ("limps", 12, 3_000)
            assert (await home.store.animals(VIEW, AnimalQuery())).count == 1
            assert (await home.store.fixes(VIEW, FixQuery())).count == 1
        await phone.is_right()
