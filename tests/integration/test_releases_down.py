"""Releases from a running cloud to stations: staged, in parts over bad days, checked, and taken by the installer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from cloud.accounts.secret import make_secret
from cloud.app import accounts_of, running
from cloud.config import AccountsSection, Config, DatabaseSection, ReleasesSection
from cloud.store import releases
from cloud.store.database import Database
from cloud.store.stations import new_code
from edge.ops.update import current_of, take_fetched, wants
from edge.store.store import SpatialiteStore
from edge.sync import releases as fetching
from edge.sync.client import CloudClient, enrol
from edge.sync.meter import Meter
from edge.sync.profiles import profile_of
from edge.sync.releases import Fetching, take_release
from shared.accounts.service import Accounts
from shared.errors import Conflict, Invalid, LinkError
from shared.sync.records import to_ms
from shared.wire.releases import Offer, sha256_of
from shared.wire.signatures import new_key
from tests.e2e.test_update import PUBLIC, WORKS, signed
from tests.fakes import FakeClock

pytestmark = pytest.mark.integration


class Place:
    """A cloud that runs, its accounts, and its folder of releases."""

    def __init__(self, url: str, accounts: Accounts, database: Database, folder: Path) -> None:
        self.url = url
        self.accounts = accounts
        self.database = database
        self.folder = folder

    async def offer(self, file: Path, *stations: str) -> None:
        found, made_at = releases.brought(file, self.folder, (PUBLIC,))
        new = releases.Offered(offer=found, stations=stations, made_at=made_at, offered_ms=1)
        await self.accounts.tables.write(releases.offer(new, "operator"))


@pytest.fixture
async def cloud(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    clock = FakeClock()
    make_secret(tmp_path / "cloud.key")
    config = Config(
        database=DatabaseSection(url=database_url, pool_min=1, pool_max=4),
        accounts=AccountsSection(key_file=tmp_path / "cloud.key"),
        releases=ReleasesSection(dir=str(tmp_path / "offered"), public_keys=(PUBLIC,)),
    )
    async with running(config, clock=clock, port=0) as (url, _), Database.open(database_url, pool_max=2) as database:
        yield Place(url, accounts_of(config, database, clock), database, tmp_path / "offered")


class Post:
    """A station, as far as it fetches releases."""

    def __init__(self, client: CloudClient, store: SpatialiteStore, folder: Path) -> None:
        self.client = client
        self.store = store
        self.releases = folder / "releases"
        self.to = Fetching(inbox=folder / "inbox", public_keys=(PUBLIC,), architecture="amd64", is_news=self._is_news)

    def _is_news(self, offer: Offer) -> bool:
        return wants(self.releases, offer, running="0.1.0", architecture="amd64")

    @property
    def ready(self) -> Path:
        return self.to.inbox / "ready.outpost-update"

    async def take(self, profile: str = "lan") -> bool:
        meter = Meter(self.store, profile_of(profile), FakeClock(), "boot", pause=_no_pause)
        return await take_release(self.client, meter, self.to)


async def _no_pause(_seconds: float) -> None:
    pass


@asynccontextmanager
async def post_of(cloud: Place, folder: Path, name: str) -> AsyncIterator[Post]:
    clock = FakeClock()
    async with cloud.database.transaction() as connection:
        code = await new_code(connection, name, name, to_ms(clock.now()), 600_000)
    private_key, public_key = new_key()
    found = await enrol(cloud.url, code, public_key)
    store = SpatialiteStore(folder / f"{name}.db", None, now=clock.now, readers=1)
    client = CloudClient(cloud.url, found.station_id, private_key)
    try:
        yield Post(client, store, folder / name)
    finally:
        await client.close()
        await store.close()


async def test_a_release_goes_to_some_stations_first_then_to_all_and_is_installed_as_from_a_stick(
    cloud: Place, tmp_path: Path
) -> None:
    update = signed(tmp_path, "0.2.0", WORKS)
    async with post_of(cloud, tmp_path, "north") as north, post_of(cloud, tmp_path, "south") as south:
        assert await north.take() is False, "nothing is offered"
        await cloud.offer(update, "north")
        assert (await north.take(), await south.take()) == (True, False)
        assert north.ready.read_bytes() == update.read_bytes()
        with pytest.raises(Invalid, match="is not offered to station south"):
            await south.client.release_part(sha256_of(update), 0, 1_024)
        await cloud.offer(update, "*")
        assert await south.take() is True
        taken = take_fetched(north.to.inbox, north.releases, (PUBLIC,), running="0.1.0", architecture="amd64")
        assert taken is not None
        assert (current_of(north.releases), north.ready.exists()) == ("0.2.0", False)
        assert await north.take() is False, "it is there"
        assert list(north.to.inbox.iterdir()) == []


async def test_a_link_that_breaks_costs_no_part_that_has_come(
    cloud: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PART_BYTES", 512)
    update = signed(tmp_path, "0.2.0", WORKS)
    await cloud.offer(update, "*")
    async with post_of(cloud, tmp_path, "north") as north:
        asked: list[int] = []
        fetch = north.client.release_part

        async def breaking(sha256: str, first: int, limit: int) -> bytes:
            asked.append(first)
            if len(asked) % 2 == 0:
                raise LinkError("the link broke")
            return await fetch(sha256, first, limit)

        monkeypatch.setattr(north.client, "release_part", breaking)
        for _ in range(100):
            try:
                if await north.take():
                    break
            except LinkError:
                continue
        assert north.ready.read_bytes() == update.read_bytes()
        came = [first for n, first in enumerate(asked) if n % 2 == 0]
        assert came == list(range(0, update.stat().st_size, 512)), "each part once, in order"


async def test_what_the_station_does_not_trust_or_what_was_altered_never_becomes_ready(
    cloud: Place, tmp_path: Path
) -> None:
    update = signed(tmp_path, "0.2.0", WORKS)
    await cloud.offer(update, "*")
    async with post_of(cloud, tmp_path, "north") as north:
        pinned = north.to
        north.to = structs.replace(pinned, public_keys=("ab" * 32,))
        assert await north.take() is False
        assert list(pinned.inbox.iterdir()) == []
        north.to = pinned
        (kept,) = cloud.folder.iterdir()
        raw = bytearray(kept.read_bytes())
        raw[-5] ^= 1
        kept.write_bytes(raw)
        assert await north.take() is False
        assert list(pinned.inbox.iterdir()) == []
        kept.write_bytes(update.read_bytes())
        assert await north.take("sat") is False, "a link that carries no files brings none"
        assert await north.take() is True


async def test_the_cloud_offers_nothing_that_is_not_signed_and_no_other_file_under_a_version(
    cloud: Place, tmp_path: Path
) -> None:
    update = signed(tmp_path, "0.2.0", WORKS)
    with pytest.raises(Invalid, match="not signed"):
        releases.brought(update, cloud.folder, ("ab" * 32,))
    await cloud.offer(update, "*")
    other = tmp_path / "again"
    other.mkdir()
    with pytest.raises(Conflict, match="another file"):
        await cloud.offer(signed(other, "0.2.0", WORKS + "# of another day\n"), "*")
    assert len(await cloud.accounts.tables.read(releases.offered())) == 1
    await cloud.accounts.tables.write(releases.withdraw("0.2.0", 2, "operator"))
    async with post_of(cloud, tmp_path, "north") as north:
        assert await north.take() is False
    _, lines, _ = await cloud.accounts.audit_page(0, 10)
    assert [line.action for line in lines] == ["release.withdraw", "release.offer"]
