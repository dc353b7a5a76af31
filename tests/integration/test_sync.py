"""The station's real client against the real cloud: PostgreSQL, uvicorn, a port; every fix is there, once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from cloud.accounts.secret import make_secret
from cloud.app import running
from cloud.config import AccountsSection, Config, DatabaseSection
from cloud.store.database import Database
from cloud.store.dump import begin_life
from cloud.store.scope import Scope
from cloud.store.stations import new_code, set_scope
from cloud.store.store import PostgresStore
from edge.app import running as station
from edge.config import load
from edge.ops.verify_cloud import verify_cloud
from edge.store import outbox
from edge.store.snapshot import snapshot
from edge.store.store import SpatialiteStore
from edge.sync.client import CloudClient, enrol
from edge.sync.session import new_epoch, sync_once
from edge.sync.synced import Synced
from shared.domain import Deployment, FixFlag, NewFix
from shared.errors import CorruptBatch, Forbidden, Invalid, LinkError, NotAuthenticated, StaleCursor
from shared.movement.areas import Place
from shared.privacy import OPERATOR, view_for
from shared.store import AnimalQuery, FixQuery, PatrolLogQuery, RangerPositionQuery, RangerQuery, RecordEdit
from shared.sync.records import to_ms
from shared.sync.streams import GENESIS, Batch
from shared.wire.link import CHANNELS, HeardFixes
from shared.wire.signatures import new_key
from tests.access import operator_of_station
from tests.clouds import ask, wipe
from tests.fakes import START, FakeClock
from tests.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.sync]

VIEW = view_for(OPERATOR)
ELEPHANT = {"name": "Saba", "species": "elephant", "gender": "female"}
DEADLINE_S = 60.0


class Home:
    """The cloud: its address, its database, its store."""

    def __init__(self, url: str, database_url: str, store: PostgresStore, clock: FakeClock) -> None:
        self.url = url
        self.database_url = database_url
        self.store = store
        self.clock = clock

    async def code(self, station_id: str) -> str:
        async with self.store.database.transaction() as connection:
            return await new_code(connection, station_id, station_id, to_ms(self.clock.now()), 600_000)

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return ask(self.database_url, statement, *values)

    def count(self, table: str) -> int:
        return int(self.ask(f"SELECT count(*) FROM {table}")[0][0])

    async def limit(self, station_id: str, animals: list[str] | None) -> None:
        """Tell a station of these animals alone, or of everything."""
        async with self.store.database.transaction() as connection:
            await set_scope(connection, station_id, Scope(animals=animals))

    def lose_everything(self) -> None:
        """Be what a backup from before the first batch is: only the stations are known, and the epoch is new."""
        stations = self.ask("SELECT id, name, public_key, enrolled_ms FROM stations")
        wipe(self.database_url)
        for known in stations:
            self.ask("INSERT INTO stations (id, name, public_key, enrolled_ms) VALUES (%s, %s, %s, %s)", *known)
        with psycopg.connect(self.database_url) as connection:
            begin_life(connection, new_epoch(), to_ms(self.clock.now()))


class Post:
    """A station: its store and its connection."""

    def __init__(self, store: SpatialiteStore, cloud: CloudClient, clock: FakeClock) -> None:
        self.store = store
        self.cloud = cloud
        self.clock = clock

    async def sync(self, **settings: Any) -> Synced:
        return await sync_once(self.store, self.cloud, self.clock, **settings)

    async def add(self, count: int, first: int = 0, device: str = "K1", **said: Any) -> None:
        await self.store.add_fixes(
            VIEW,
            [
                NewFix(
                    **{
                        "device": device, "recorded_at": at, "received_at": at, "lon_deg": 37.0,
                        "lat_deg": -2.0 - minute / 1e4, "battery_mv": 3_600 - minute % 7, **said,
                    }
                )
                for minute in range(first, first + count)
                for at in [START + timedelta(minutes=minute)]
            ],
        )  # fmt: skip


@pytest.fixture
async def home(database_url: str, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Home]:
    """Give a running cloud."""
    key_file = tmp_path / "cloud.key"
    make_secret(key_file)
    config = Config(
        database=DatabaseSection(url=database_url, pool_min=1, pool_max=4), accounts=AccountsSection(key_file=key_file)
    )
    async with running(config, clock=clock, port=0) as (url, _), Database.open(database_url, pool_max=2) as database:
        yield Home(url, database_url, PostgresStore(database, now=clock.now), clock)


@pytest.fixture(scope="module")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of an empty store."""
    path = tmp_path_factory.mktemp("new") / "station.db"
    SpatialiteStore(path, None, now=FakeClock().now).close_now()
    return path


@pytest.fixture
async def posts(home: Home, clock: FakeClock, new_database: Path, tmp_path: Path) -> AsyncIterator[list[Post]]:
    """Give two stations that are enrolled."""
    posts = []
    for name in ("post-1", "post-2"):
        path = Path(shutil.copy(new_database, tmp_path / f"{name}.db"))
        store = SpatialiteStore(path, None, now=clock.now, readers=1)
        private_key, public_key = new_key()
        made = await enrol(home.url, await home.code(name), public_key)
        await store.write(
            lambda db, made=made, private_key=private_key: outbox.enrol(  # type: ignore[misc] # of this turn
                db, url=home.url, station_id=made.station_id, private_key=private_key, cloud_epoch=made.cloud_epoch,
                epoch=new_epoch(), now_ms=to_ms(clock.now()),
            )
        )  # fmt: skip
        posts.append(Post(store, CloudClient(home.url, made.station_id, private_key, now=clock.now), clock))
    yield posts
    for post in posts:
        await post.cloud.close()
        await post.store.close()


async def differences(post: Post) -> tuple[int, int, int, int]:
    found = await verify_cloud(post.store, post.cloud)
    assert found.matching + found.differences + found.waiting == found.fixes + found.doubled, found
    return found.missing, found.differing, found.doubled, found.waiting


async def test_every_fix_and_record_of_a_station_arrives_once(home: Home, posts: list[Post]) -> None:
    post, _ = posts
    animal = await post.store.create_animal(VIEW, {**ELEPHANT, "collar_id": "K1"})
    await post.add(2_500)
    await post.add(40, device="eui:2", lon_deg=None, lat_deg=None)
    done = await post.sync()
    assert (done.records, done.fixes, done.quarantined, done.lost_edits) == (4, 2_540, 0, 0)
    # the newest positions go first, so the cloud has heard of both collars before their records come
    assert done.outcomes == {"applied": 2_542, "duplicate": 2}
    assert (home.count("fixes"), home.count("receipts"), home.count("quarantine")) == (2_540, 5, 0)
    assert 0 < done.bytes_up < 40_000
    assert await differences(post) == (0, 0, 0, 0)
    there = await home.store.animal(VIEW, animal.id)
    assert (there.name, there.collar_id) == ("Saba", "K1")
    again = await post.sync()
    assert (again.batches, again.changes) == (0, 0)


async def test_two_stations_that_hear_one_collar_make_one_fix_of_it(home: Home, posts: list[Post]) -> None:
    one, other = posts
    await one.add(20, rssi_dbm=-90.0, received_at=START + timedelta(hours=2))
    await other.add(20, rssi_dbm=-80.0, received_at=START + timedelta(hours=1), alt_m=1_200.5)
    await other.add(5, first=100)
    await one.sync()
    await other.sync()
    assert home.count("fixes") == 25
    for post in posts:
        assert await differences(post) == (0, 0, 0, 0)
    assert (await verify_cloud(one.store, one.cloud)).only_in_cloud == 5


async def test_records_meet_in_the_cloud(home: Home, posts: list[Post]) -> None:
    one, other = posts
    animal = await one.store.create_animal(VIEW, ELEPHANT)
    await one.sync()
    assert (await other.sync()).changes == 1
    await one.store.update_animal(VIEW, animal.id, {"notes": "limps"})
    await other.store.update_animal(VIEW, animal.id, {"weight": 2_900.0, "notes": "well"})
    await one.sync()
    done = await other.sync()
    assert (done.outcomes, done.lost_edits) == ({"merged": 1}, 1)
    await one.sync()
    for store in (one.store, other.store, home.store):
        kept = await store.animal(VIEW, animal.id)
        assert (kept.notes, kept.weight) == ("limps", 2_900.0)
    assert home.count("lost_edits") == 1


async def test_a_station_has_what_it_is_told_of_and_gives_back_what_leaves_its_scope(
    home: Home, posts: list[Post]
) -> None:
    one, other = posts
    own = await one.store.create_animal(VIEW, {**ELEPHANT, "name": "Own"})
    theirs = await other.store.create_animal(VIEW, {**ELEPHANT, "name": "Theirs"})
    for post, animal, collar_id in ((one, own, "K1"), (other, theirs, "K2")):
        worn = {"animal_id": animal.id, "collar_id": collar_id, "started_at": START - timedelta(days=1)}
        await post.store.create_deployment(VIEW, worn)
    await one.add(5, device="K1")
    await other.add(30, device="K2")
    for post in (one, other, one):
        await post.sync()
    assert await names(one) == {"Own", "Theirs"}
    assert (await one.store.facts()).fixes == 5  # without a scope nobody has what others brought

    await home.limit("post-1", [theirs.id])
    done = await one.sync()
    assert done.new_fixes == 30
    track = await one.store.fixes(VIEW, FixQuery(animal_id=theirs.id, limit=100))
    assert track.count == 30
    assert await differences(one) == (0, 0, 0, 0)
    await other.add(2, first=40, device="K2")
    await other.sync()
    assert (await one.sync()).new_fixes == 2

    await one.store.update_animal(VIEW, theirs.id, {"notes": "limps"})  # said before it hears that this one left
    await home.limit("post-1", [])
    done = await one.sync()
    assert done.outcomes == {"applied": 1}
    assert await names(one) == {"Own"}
    assert [each.collar_id for each in (await deployments(one))] == ["K1"]
    assert (await home.store.animal(VIEW, theirs.id)).notes == "limps"
    assert (await one.store.facts()).fixes == 37  # what was there stays, whose it is nobody says any more
    assert (await one.sync()).records == 0
    await other.sync()
    assert await names(other) == {"Own", "Theirs"}

    home.lose_everything()  # a new life: what left is not offered to it as deleted
    for post in (one, other, one, other):
        await post.sync()
    assert {animal.name for animal in (await home.store.animals(VIEW, AnimalQuery())).results} == {"Own", "Theirs"}
    assert await names(one) == {"Own", "Theirs"}


async def test_what_people_decide_of_a_fix_at_one_home_is_so_at_all_that_have_it(home: Home, posts: list[Post]) -> None:
    one, other = posts
    for post in posts:
        await post.add(6)
        await post.sync()
    track = (await one.store.fixes(VIEW, FixQuery(collar_id="K1", limit=10))).results
    first, second, third = (fix.id for fix in track[:3])

    async def excluded(post: Post) -> set[str]:
        found = (await post.store.fixes(VIEW, FixQuery(collar_id="K1", limit=10))).results
        return {fix.id for fix in found if fix.flags & FixFlag.EXCLUDED_BY_HAND}

    await one.store.flag_fix(VIEW, first, is_excluded=True)
    await home.store.flag_fix(VIEW, second, is_excluded=True)
    assert (await one.sync()).told == 1
    assert (await other.sync()).told == 2
    assert await excluded(other) == {first, second}
    assert (await other.store.read(outbox.backlog)).channels["flags"].items == 0  # nobody is told of it again
    assert await excluded(one) == {first, second}

    await home.store.flag_fix(VIEW, third, is_excluded=True)
    await other.store.flag_fix(VIEW, third, is_excluded=False)  # decided here, and not sent yet
    await other.store.flag_fix(VIEW, first, is_excluded=False)
    await other.sync()
    assert (await one.sync()).told == 1
    for post in (*posts, *posts):
        await post.sync()
    assert await excluded(one) == await excluded(other) == {second}  # what was said last in the cloud's order

    in_cloud = (await home.store.fixes(VIEW, FixQuery(collar_id="K1", limit=10))).results
    assert {fix.id for fix in in_cloud if fix.flags & FixFlag.EXCLUDED_BY_HAND} == await excluded(one)


async def test_a_decision_comes_down_with_the_fix_that_it_is_on(home: Home, posts: list[Post]) -> None:
    one, other = posts
    await other.add(5, device="K2")
    await other.sync()
    found = (await home.store.fixes(VIEW, FixQuery(collar_id="K2", limit=10))).results
    await home.store.flag_fix(VIEW, found[2].id, is_excluded=True)
    area = '{"type":"Polygon","coordinates":[[[36.0,-3.0],[38.0,-3.0],[38.0,-1.0],[36.0,-1.0],[36.0,-3.0]]]}'
    async with home.store.database.transaction() as connection:
        await set_scope(connection, "post-1", Scope(area=area))
    assert ((done := await one.sync()).new_fixes, done.told) == (5, 1)
    assert (await one.store.fix(VIEW, found[2].id)).flags & FixFlag.EXCLUDED_BY_HAND


async def names(post: Post) -> set[str]:
    return {animal.name for animal in (await post.store.animals(VIEW, AnimalQuery())).results}


async def deployments(post: Post) -> list[Deployment]:
    return (await post.store.deployments(VIEW, animal_id=None, collar_id=None, offset=0, limit=50)).results


async def test_a_backlog_comes_with_the_newest_position_of_each_collar_first(home: Home, posts: list[Post]) -> None:
    one, other = posts
    for device in ("K1", "K2"):
        await other.add(40, device=device)
    await other.sync()
    area = '{"type":"Polygon","coordinates":[[[36.0,-3.0],[38.0,-3.0],[38.0,-1.0],[36.0,-1.0],[36.0,-3.0]]]}'
    async with home.store.database.transaction() as connection:
        await set_scope(connection, "post-1", Scope(area=area))

    class SmallPages(CloudClient):
        async def heard(self, epoch: str | None, since: int, after: str | None, limit: int = 30) -> HeardFixes | None:
            page = await super().heard(epoch, since, after, 30)
            if after is not None:
                raise LinkError("it broke off behind the first page")
            return page

    one.cloud.__class__ = SmallPages
    with pytest.raises(LinkError):
        await one.sync()
    for device in ("K1", "K2"):
        track = await one.store.fixes(VIEW, FixQuery(collar_id=device, limit=100))
        assert START + timedelta(minutes=39) in {fix.recorded_at for fix in track.results}, device
    one.cloud.__class__ = CloudClient
    await one.sync()
    assert (await one.store.facts()).fixes == 80
    assert await differences(one) == (0, 0, 0, 0)


async def test_what_is_drawn_at_one_station_is_near_at_the_other(home: Home, posts: list[Post]) -> None:
    one, other = posts
    line = '{"type":"LineString","coordinates":[[37.0,-2.0],[37.1,-2.0]]}'
    square = '{"type":"Polygon","coordinates":[[[37.0,-2.1],[37.1,-2.1],[37.1,-2.2],[37.0,-2.2],[37.0,-2.1]]]}'
    route = await one.store.create_corridor(
        VIEW, {"name": "Kitenden", "geometry": line, "species": "elephant", "optimization_data": '{"steps":50}'}
    )
    zone = await one.store.create_zone(VIEW, {"name": "Farms", "zone_type": "agriculture", "geometry": square})
    assert (await one.sync()).outcomes == {"applied": 2}
    assert (await other.sync()).changes == 2
    await other.store.update_corridor(VIEW, route.id, {"status": "active", "width_m": 500.0})
    await one.store.update_corridor(VIEW, route.id, {"geometry": square, "status": "under_review"})
    assert (await one.sync()).outcomes == {"applied": 1}
    done = await other.sync()
    assert (done.outcomes, done.lost_edits) == ({"merged": 1}, 1)
    await one.sync()
    kept = await home.store.corridor(VIEW, route.id)
    assert (kept.geometry, kept.status, kept.species, kept.width_m) == (square, "under_review", "elephant", 0.0)
    for post in posts:
        there = await post.store.corridor(VIEW, route.id)
        assert (there.geometry, there.status, there.optimization_data) == (square, "under_review", '{"steps":50}')
        (near,) = await post.store.areas_near(VIEW, [Place(37.05, -2.15)], 1_000.0)
        assert [(each.id, each.is_inside) for each in near] == [(route.id, True), (zone.id, True)]
        await post.store.update_corridor(VIEW, route.id, {"geometry": line})
        assert (await post.store.corridor(VIEW, route.id)).width_m == 500.0


async def test_rangers_and_patrols_meet_and_where_they_were_goes_up_once(home: Home, posts: list[Post]) -> None:
    one, other = posts
    ids = {name: f"00000000-0000-4000-8000-00000000000{n}" for n, name in enumerate(("team", "asha", "bo", "log"))}
    asha = {"name": "Asha", "badge_number": "1", "team_id": ids["team"], "phone": "+254 700"}
    await one.store.edit_together(
        VIEW,
        [
            RecordEdit(entity="team", row_id=ids["team"], columns={"name": "Alpha"}, is_new=True),
            RecordEdit(entity="ranger", row_id=ids["asha"], columns=asha, is_new=True),
            RecordEdit(
                entity="patrol_log", row_id=ids["log"], columns={"log_type": "incident", "title": "Snare"}, is_new=True
            ),
        ],
    )
    bo = {"name": "Bo", "badge_number": "2"}
    await home.store.edit_together(VIEW, [RecordEdit(entity="ranger", row_id=ids["bo"], columns=bo, is_new=True)])
    walked = [
        {"ranger_id": ids["asha"], "recorded_at": START + timedelta(minutes=n), "lon_deg": 37.0, "lat_deg": -2.0}
        for n in range(30)
    ]
    await one.store.add_ranger_positions(VIEW, walked)
    assert (await one.sync()).outcomes == {"applied": 33}
    # a phone that walked on to another post brings the same ones there, and the cloud has each once
    await other.sync()
    assert [ranger.name for ranger in (await other.store.rangers(VIEW, RangerQuery())).results] == ["Asha", "Bo"]
    await other.store.add_ranger_positions(VIEW, walked)
    assert (await other.sync()).outcomes == {"duplicate": 30}
    assert (home.count("ranger_positions"), home.count("patrol_logs"), home.count("quarantine")) == (30, 1, 0)
    assert home.ask("SELECT DISTINCT station_id FROM ranger_positions") == [("post-1",)]
    assert (await other.store.patrol_logs(VIEW, PatrolLogQuery())).count == 0, "logs and positions go up, never down"
    # who is forgotten here is not brought back, nor taken from the cloud
    assert await one.store.forget_ranger_positions(START + timedelta(minutes=20)) == 20
    assert (await one.sync()).outcomes == {}
    assert (await one.store.ranger_positions(VIEW, RangerPositionQuery())).count == 10
    assert home.count("ranger_positions") == 30


async def test_an_edit_that_loses_altogether_is_kept_for_a_person_and_the_ruling_comes_down(
    home: Home, posts: list[Post]
) -> None:
    one, other = posts
    animal = await one.store.create_animal(VIEW, ELEPHANT)
    await one.sync()
    await other.sync()
    await one.store.update_animal(VIEW, animal.id, {"notes": "limps"})
    await other.store.update_animal(VIEW, animal.id, {"notes": "well"})
    await one.sync()
    assert (await other.sync()).outcomes == {"superseded": 1}
    assert (await other.store.animal(VIEW, animal.id)).notes == "limps"
    assert home.count("lost_edits") == 1


async def test_a_collar_known_late_is_one_collar_in_both_homes(home: Home, posts: list[Post]) -> None:
    one, _ = posts
    await one.add(10, device="eui:1")
    await one.sync()
    await one.add(5, first=20, device="eui:1")
    await one.store.put_collar(VIEW, "K1", {"aliases": ["eui:1"]})
    await one.sync()
    assert home.ask("SELECT DISTINCT c.id FROM fixes f JOIN collars c ON c.pk = f.collar_pk") == [("K1",)]
    assert home.count("fixes") == 15
    assert await differences(one) == (0, 0, 0, 0)


async def test_a_cloud_without_its_last_days_is_filled_again(home: Home, posts: list[Post]) -> None:
    one, _ = posts
    animal = await one.store.create_animal(VIEW, {**ELEPHANT, "collar_id": "K1"})
    await one.add(30)
    await one.sync(batch_fixes=7)
    await one.store.update_animal(VIEW, animal.id, {"notes": "limps"})
    await one.add(3, first=50)
    await one.sync()
    home.lose_everything()
    done = await one.sync()
    assert (done.healed, home.count("fixes")) == (3, 33)  # newest, records, fixes
    assert (await home.store.animal(VIEW, animal.id)).notes == "limps"
    assert (await one.store.animal(VIEW, animal.id)).notes == "limps"
    assert await differences(one) == (0, 0, 0, 0)


async def test_what_stations_alone_still_know_comes_back_to_a_cloud_that_was_put_back(
    home: Home, posts: list[Post]
) -> None:
    animal = await home.store.create_animal(VIEW, ELEPHANT)
    for post in posts:
        await post.sync()
    home.lose_everything()
    assert [(await post.sync()).outcomes for post in posts] == [{"applied": 1}, {}]
    assert (await home.store.animal(VIEW, animal.id)).name == "Saba"
    assert (home.count("animals"), home.count("lost_edits"), home.count("quarantine")) == (1, 0, 0)


async def test_an_edit_of_the_clouds_former_life_does_not_go_over_what_its_author_never_saw(
    home: Home, posts: list[Post]
) -> None:
    one, other = posts
    animal = await one.store.create_animal(VIEW, ELEPHANT)
    await one.sync()
    for notes in ("a", "b", "c", "d"):
        await home.store.update_animal(VIEW, animal.id, {"notes": notes})
    await other.sync()
    await other.store.update_animal(VIEW, animal.id, {"name": "seen long ago"})  # and names the cloud's revision 5
    home.lose_everything()
    await one.sync()
    await one.store.update_animal(VIEW, animal.id, {"name": "new"})
    await one.sync()
    assert (await other.sync()).lost_edits == 1
    for store in (home.store, other.store):
        assert (await store.animal(VIEW, animal.id)).name == "new"


async def test_a_station_that_was_put_back_hears_again_how_its_edit_was_ruled_on(
    home: Home, posts: list[Post], clock: FakeClock, tmp_path: Path
) -> None:
    one, other = posts
    animal = await one.store.create_animal(VIEW, ELEPHANT)
    await one.sync()
    await other.sync()
    await one.store.update_animal(VIEW, animal.id, {"notes": "limps"})
    await one.sync()
    await other.store.update_animal(VIEW, animal.id, {"notes": "well"})
    copy = tmp_path / "copy.db"
    snapshot(tmp_path / "post-2.db", copy, None)
    assert (await other.sync()).outcomes == {"superseded": 1}
    other.store = SpatialiteStore(copy, None, now=clock.now, readers=1)
    try:
        assert (await other.sync()).outcomes == {"superseded": 1}  # the stored receipt, once more
        assert (await other.store.animal(VIEW, animal.id)).notes == "limps"
    finally:
        await other.store.close()
    assert home.count("lost_edits") == 1


async def test_what_is_wrong_with_a_request_is_told_as_one_of_our_errors(home: Home, posts: list[Post]) -> None:
    one, _ = posts
    here = await one.store.read(outbox.enrolled)
    with pytest.raises(Forbidden, match="code"):
        await enrol(home.url, "0000-0000-0000-0000", new_key()[1])
    async with CloudClient(home.url, here.station_id, new_key()[0]) as stranger:
        with pytest.raises(NotAuthenticated, match="outpost-station enrol"):
            await stranger.changes(None, 0)
    with pytest.raises(StaleCursor):
        await one.cloud.changes("another", 5)
    with pytest.raises(StaleCursor):
        await one.cloud.changes(here.cloud_epoch, 99_999)
    assert (await one.cloud.changes("another", 0)).epoch == here.cloud_epoch
    assert (await one.cloud.heads(here.epoch)).heads == {}
    with pytest.raises(CorruptBatch):
        await one.cloud.put_batch(_Lying(here.epoch, "fixes", 1, GENESIS.hash, b"some bytes"))
    with pytest.raises(Invalid, match="channel"):
        await one.cloud.put_batch(Batch(here.epoch, "gossip", 1, GENESIS.hash, b""))
    async with CloudClient("http://127.0.0.1:1", here.station_id, here.private_key) as nobody:
        with pytest.raises(LinkError, match="cannot be reached"):
            await nobody.heads(here.epoch)


class _Lying(Batch, frozen=True):
    """A batch that claims another hash than its own."""

    @property
    def hash(self) -> bytes:
        return bytes(32)


# --- as an operator does it
async def outpost_station(config: Path, *arguments: str, code: int = 0) -> str:
    """Run a command of the station beside the cloud of this process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OUTPOST_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge", *arguments, "--config", str(config), env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complained = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode == code, (said, complained)
    return (said if code == 0 or said else complained).decode()


async def test_an_operator_enrols_sends_and_compares(home: Home, tmp_path: Path) -> None:
    config, tracks = tmp_path / "station.toml", tmp_path / "tracks.csv"
    config.write_text(f'[station]\ndata_dir = "{tmp_path / "data"}"\n[store]\nis_encrypted = false\n', encoding="utf-8")
    tracks.write_text(
        "individual,timestamp,lon,lat,species\nSaba,2026-01-01T00:00:00Z,37,-2,elephant\n"
        "Saba,2026-01-01T01:00:00Z,37.1,-2,elephant\n",
        encoding="utf-8",
    )
    await outpost_station(config, "import", str(tracks))
    assert "not enrolled" in await outpost_station(config, "sync", "--once", code=1)
    assert "post-9" in await outpost_station(config, "enrol", home.url, (await home.code("post-9")).lower())
    assert "--again" in await outpost_station(config, "enrol", home.url, await home.code("post-9"), code=1)
    waiting = json.loads(await outpost_station(config, "verify", "--against", "cloud", "--json"))
    assert (waiting["fixes"], waiting["waiting"], waiting["differences"]) == (2, 2, 0)
    done = json.loads(await outpost_station(config, "sync", "--once", "--json"))
    assert (done["fixes"], done["quarantined"]) == (2, 0)
    found = json.loads(await outpost_station(config, "verify", "--against", "cloud", "--json"))
    assert (found["fixes"], found["matching"], found["waiting"], found["differences"]) == (2, 2, 0, 0)
    with psycopg.connect(home.database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM fixes WHERE id IN (SELECT id FROM fixes LIMIT 1)")
    found = json.loads(await outpost_station(config, "verify", "--against", "cloud", "--json", code=1))
    assert (found["missing"], found["differences"]) == (1, 1)
    await outpost_station(config, "enrol", home.url, await home.code("post-9"), "--again")
    await outpost_station(config, "sync", "--once")
    assert json.loads(await outpost_station(config, "verify", "--against", "cloud", "--json"))["matching"] == 2


async def test_a_running_station_sends_by_itself_and_says_how_far_it_is(home: Home, tmp_path: Path) -> None:
    config = tmp_path / "station.toml"
    config.write_text(
        f'[station]\ndata_dir = "{tmp_path / "data"}"\n[store]\nis_encrypted = false\n[cloud]\ninterval_s = 1\n',
        encoding="utf-8",
    )
    auth = operator_of_station(tmp_path / "data" / "station.db", None, "station")
    async with station(load(config), port=0) as url, httpx.AsyncClient(base_url=url, auth=auth) as http:
        detail = (await http.get("/health/detail")).json()["cloud"]
        assert (detail["is_enabled"], detail["station_id"], detail["last_receipt_at"]) == (True, None, None)
        said = {"collar_id": "K1", "timestamp": "2026-01-01T00:00:00Z", "lat": -2.0, "lon": 37.0}
        assert (await http.post("/api/v1/tracking/", json=said)).status_code == 201
        await outpost_station(config, "enrol", home.url, await home.code("post-9"))
        await until(lambda: home.count("fixes") == 1)
        await outpost_station(config, "sync", "--once")
        detail = (await http.get("/health/detail")).json()["cloud"]
        assert (detail["station_id"], detail["last_error"]) == ("post-9", None)
        assert list(detail["waiting"]) == list(CHANNELS)
        assert {each["items"] for each in detail["waiting"].values()} == {0}
        assert "as post-9, last receipt" in " ".join((await outpost_station(config, "status")).split())
