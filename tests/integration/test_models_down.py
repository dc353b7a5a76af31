"""Models go down to a station from a running cloud: verified, resumed, chosen, taken back; a broken one is refused."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from cloud.accounts.secret import make_secret
from cloud.app import accounts_of, running
from cloud.config import AccountsSection, Config, DatabaseSection, ModelsSection
from cloud.store.database import Database
from cloud.store.stations import new_code
from edge.store import outbox
from edge.store.driver import Connection
from edge.store.jobs import run
from edge.store.store import SpatialiteStore
from edge.sync.client import CloudClient, enrol
from edge.sync.meter import Meter
from edge.sync.people import exchange
from edge.sync.profiles import profile_of
from edge.sync.session import new_epoch
from edge.sync.shelf import take_models
from models.live.runtime import Models
from models.live.shelf import HomeShelf
from shared.accounts.service import Accounts
from shared.errors import LinkError
from shared.shelf import MODEL_FILE
from shared.sync import blobs
from shared.sync.records import to_ms
from shared.wire.signatures import new_key
from tests.access import TokenAuth, accounts_over
from tests.artefacts import PUBLISHERS, brought, later
from tests.fakes import FakeClock

pytestmark = [pytest.mark.integration, pytest.mark.sync, pytest.mark.ml]

URL = "/api/v1/models/"


class Post:
    """An enrolled station with its shelf."""

    def __init__(self, store: SpatialiteStore, accounts: Accounts, cloud: CloudClient, folder: Path) -> None:
        self.store, self.accounts, self.cloud = store, accounts, cloud
        self.shelf = HomeShelf(accounts.tables, folder, now_ms=lambda: 0)
        self.models = Models()

        async def take(place: Path) -> None:
            self.models.turn_to(place)

        self.shelf.follow(take)

    async def take(self, profile: str = "lan") -> int:
        here = await self.store.read(outbox.enrolled)
        meter = Meter(self.store, profile_of(profile), FakeClock(), "boot", pause=_no_pause)
        return await take_models(self.cloud, here, self.accounts, self.shelf, meter)

    async def pin(self) -> None:
        await exchange(self.cloud, await self.store.read(outbox.enrolled), self.accounts)

    def version(self, species: str = "elephant") -> int:
        return self.models.behaviour(species).version


async def _no_pause(_seconds: float) -> None:
    pass


@pytest.fixture
async def cloud(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[str, httpx.AsyncClient, Database]]:
    clock = FakeClock()
    make_secret(tmp_path / "cloud.key")
    config = Config(
        database=DatabaseSection(url=database_url, pool_min=1, pool_max=4),
        accounts=AccountsSection(key_file=tmp_path / "cloud.key"), models=ModelsSection(publishers=PUBLISHERS),
    )  # fmt: skip
    async with running(config, clock=clock, port=0) as (url, _), Database.open(database_url, pool_max=2) as database:
        accounts = accounts_of(config, database, clock)
        async with httpx.AsyncClient(base_url=url, auth=TokenAuth(accounts.machine_token)) as admin:
            yield url, admin, database


@asynccontextmanager
async def post_of(cloud: tuple[str, httpx.AsyncClient, Database], folder: Path, name: str) -> AsyncIterator[Post]:
    url, _, database = cloud
    clock = FakeClock()
    store = SpatialiteStore(folder / f"{name}.db", None, now=clock.now, readers=1)
    async with database.transaction() as connection:
        code = await new_code(connection, name, name, to_ms(clock.now()), 600_000)
    private_key, public_key = new_key()
    found = await enrol(url, code, public_key)
    await store.write(
        lambda db: outbox.enrol(
            db, url=url, station_id=found.station_id, private_key=private_key, cloud_epoch=found.cloud_epoch,
            epoch=new_epoch(), now_ms=to_ms(clock.now()),
        )
    )  # fmt: skip
    client = CloudClient(url, found.station_id, private_key)
    try:
        yield Post(store, accounts_over(store, clock), client, folder / f"{name}-models")
    finally:
        await client.close()
        await store.close()


async def test_a_choice_of_the_cloud_reaches_its_stations_and_can_be_taken_back_at_both(
    cloud: tuple[str, httpx.AsyncClient, Database], tmp_path: Path
) -> None:
    _, admin, _ = cloud
    async with post_of(cloud, tmp_path, "north") as north, post_of(cloud, tmp_path, "south") as south:
        await brought(admin, *later())
        await brought(admin, *later(version=3))
        await admin.post(f"{URL}activate", json={"model": "hmm", "version": 2})
        await admin.post(f"{URL}activate", json={"model": "hmm", "version": 3, "station": "south"})
        assert await north.take() == 0  # nobody's word is known before the first roster
        for post in (north, south):
            await post.pin()
        assert (await north.take(), await south.take()) == (1, 1)
        assert (north.version(), south.version()) == (2, 3)
        assert await north.take() == 0  # nothing new: 204
        before = north.cloud.bytes_down
        await north.take()
        assert north.cloud.bytes_down - before == 0
        # a person at the station goes back by himself, with no cloud; the cloud's old choice does not undo it
        await north.shelf.roll_back("hmm", "elephant", user_id="admin")
        assert north.version() == 1
        await admin.post(f"{URL}activate", json={"model": "bbmm", "version": 1, "name": "elephant"})
        await north.take()
        assert north.version() == 1
        # what the cloud takes back goes back everywhere that it was chosen
        await admin.post(f"{URL}roll_back", json={"model": "hmm", "station": "south"})
        assert await south.take() == 2
        assert south.version() == 2
        assert await north.store.read(_unsent) == 0  # a model never goes up


def _unsent(db: Connection) -> int:
    return len(run(db, blobs.waiting()))


async def test_a_file_goes_on_where_the_link_broke_and_only_what_is_whole_is_chosen(
    cloud: tuple[str, httpx.AsyncClient, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, admin, _ = cloud
    async with post_of(cloud, tmp_path, "north") as north:
        await north.pin()
        manifest, data = later("forecast", "network")
        await brought(admin, manifest, data)
        await admin.post(f"{URL}activate", json={"model": "forecast", "version": 2})
        whole = north.cloud.model_part
        asked: list[int] = []

        async def breaking(sha256: str, first: int, limit: int) -> bytes:
            asked.append(first)
            if len(asked) == 3:
                raise LinkError("the link is gone")
            return await whole(sha256, first, limit)

        monkeypatch.setattr(north.cloud, "model_part", breaking)
        with pytest.raises(LinkError):
            await north.take()
        assert [each.version for each in await north.shelf.artefacts(model="forecast") if each.name == "network"] == [1]
        assert await north.take() == 1
        assert asked[3] == asked[2] == 2 * 65_536  # no part came twice
        assert {each.version: each.is_active for each in await north.shelf.artefacts(model="forecast")
                if each.name == "network"} == {1: False, 2: True}  # fmt: skip


async def test_what_is_altered_on_the_way_is_refused_and_what_served_goes_on(
    cloud: tuple[str, httpx.AsyncClient, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, admin, _ = cloud
    async with post_of(cloud, tmp_path, "north") as north:
        await north.pin()
        await brought(admin, *later())
        await admin.post(f"{URL}activate", json={"model": "hmm", "version": 2})
        whole, listed = north.cloud.model_part, north.cloud.models

        async def damaged(sha256: str, first: int, limit: int) -> bytes:
            part = await whole(sha256, first, limit)
            return bytes([part[0] ^ 1]) + part[1:]

        async def another(epoch: str | None, issue: int) -> bytes | None:
            sent = await listed(epoch, issue)
            return None if sent is None else sent[:-3] + bytes([sent[-3] ^ 1]) + sent[-2:]

        monkeypatch.setattr(north.cloud, "models", another)
        assert await north.take() == 0
        monkeypatch.setattr(north.cloud, "models", listed)
        monkeypatch.setattr(north.cloud, "model_part", damaged)
        assert await north.take() == 0
        assert north.version() == 1
        monkeypatch.setattr(north.cloud, "model_part", whole)
        assert await north.take() == 1
        assert north.version() == 2


async def test_a_link_that_carries_no_files_brings_no_model_and_a_photograph_is_none(
    cloud: tuple[str, httpx.AsyncClient, Database], tmp_path: Path
) -> None:
    _, admin, _ = cloud
    async with post_of(cloud, tmp_path, "north") as north:
        await north.pin()
        manifest, data = later()
        made = await brought(admin, manifest, data)
        await admin.post(f"{URL}activate", json={"model": "hmm", "version": 2})
        assert await north.take("sat") == 0
        assert await north.cloud.model_part(made["sha256"], 0, 10) == data[:10]
        photograph = b"\xff\xd8 no model" * 200
        name = hashlib.sha256(photograph).hexdigest()
        await admin.put(
            f"/api/v1/blobs/{name}", params={"size": len(photograph)}, content=photograph,
            headers={"Content-Type": "image/jpeg"},
        )  # fmt: skip
        with pytest.raises(Exception, match="no model file"):
            await north.cloud.model_part(name, 0, 10)
        assert MODEL_FILE not in blobs.MEDIA
