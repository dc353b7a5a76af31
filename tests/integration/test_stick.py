"""A stick between the real homes, SpatiaLite and PostgreSQL: whatever becomes of it, every fix is there, once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud.accounts.rosters import Rosters
from cloud.accounts.secret import make_secret, read_secret
from cloud.app import accounts_of as cloud_accounts
from cloud.app import running
from cloud.config import AccountsSection, Config, DatabaseSection, ModelsSection
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from cloud.sync.stick import Sticks
from cloud.sync.uplink import Uplink
from edge.store import outbox, unsent
from edge.store.store import SpatialiteStore
from edge.sync import stick as edge_stick
from edge.sync.client import CloudClient, enrol
from edge.sync.people import exchange
from edge.sync.session import new_epoch, sync_once
from edge.sync.synced import Synced
from models.live.runtime import Models
from models.live.shelf import HomeShelf
from shared.accounts.service import Accounts
from shared.errors import Conflict, Invalid, LinkError, NotFound, StoreError, StoreFull
from shared.privacy import OPERATOR, View, view_for
from shared.stick import ROOT
from shared.store import AnimalQuery
from shared.sync import blobs
from shared.sync.records import to_ms
from shared.sync.streams import GENESIS, Batch, Receipt, StreamAnswer
from shared.wire.batch.container import RECORDS, pack
from shared.wire.signatures import new_key
from tests.access import TokenAuth, accounts_over
from tests.artefacts import PUBLISHERS, brought, later
from tests.fakes import FakeClock
from tests.integration.test_sync import Home, Post, outpost_station
from tests.services import require
from tests.small_disk import SmallDisk

pytestmark = [pytest.mark.integration, pytest.mark.sync]

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
SEEDS = 30 if NIGHTLY else 3
STEPS = 60 if NIGHTLY else 24
SABA = {"name": "Saba", "species": "elephant", "gender": "female"}


def _view() -> View:
    return view_for(OPERATOR)


def _all() -> AnimalQuery:
    return AnimalQuery(limit=500)


class Carrier:
    """Both homes and whoever carries sticks between them."""

    def __init__(self, home: Home, post: Post, accounts: Accounts, sticks: Sticks, folder: Path) -> None:
        self.home = home
        self.post = post
        self.accounts = accounts
        self.sticks = sticks
        self._folder = folder
        self._made = 0
        self.admin_token: Any = None

    def new(self) -> Path:
        """Give an empty stick."""
        self._made += 1
        path = self._folder / f"stick-{self._made}"
        path.mkdir(parents=True)
        return path

    async def write(self, medium: Path, batch_fixes: int = 5) -> edge_stick.Exported:
        return await edge_stick.export(self.post.store, self.accounts, medium, self.post.clock, batch_fixes=batch_fixes)

    async def take(self, medium: Path) -> edge_stick.Imported:
        return await edge_stick.take(self.post.store, self.accounts, medium, self.post.clock)

    async def there_and_back(self) -> Synced:
        """Carry one stick to the cloud and back."""
        medium = self.new()
        await self.write(medium)
        assert not (await self.sticks.take(medium)).refused
        await self.sticks.write(medium)
        taken = await self.take(medium)
        assert not taken.refused
        return taken.synced

    async def waiting(self) -> int:
        found = await self.post.store.read(unsent.waiting)
        return sum(each.items for each in found.values())


@pytest.fixture
async def carrier(database_url: str, tmp_path: Path) -> AsyncIterator[Carrier]:
    """Give a running cloud and a station that has held one session with it."""
    clock, key_file = FakeClock(), tmp_path / "cloud.key"
    make_secret(key_file)
    config = Config(
        database=DatabaseSection(url=database_url, pool_min=1, pool_max=4),
        accounts=AccountsSection(key_file=key_file), models=ModelsSection(publishers=PUBLISHERS),
    )  # fmt: skip
    async with running(config, clock=clock, port=0) as (url, _), Database.open(database_url, pool_max=2) as database:
        home = Home(url, database_url, PostgresStore(database, now=clock.now), clock)
        store = SpatialiteStore(tmp_path / "post.db", None, now=clock.now, readers=1)
        private_key, public_key = new_key()
        made = await enrol(home.url, await home.code("post-1"), public_key)
        await store.write(
            lambda db: outbox.enrol(
                db, url=home.url, station_id=made.station_id, private_key=private_key, cloud_epoch=made.cloud_epoch,
                epoch=new_epoch(), now_ms=to_ms(clock.now()),
            )
        )  # fmt: skip
        client = CloudClient(home.url, made.station_id, private_key, now=clock.now)
        accounts = accounts_over(store, clock)
        await exchange(client, await store.read(outbox.enrolled), accounts)
        rosters = Rosters(database, cloud_accounts(config, database, clock), read_secret(key_file))
        sticks = Sticks(
            home.store, Uplink(home.store, now=clock.now), seed=rosters.seed, roster_of=rosters.of, now=clock.now,
            shelf_of=rosters.shelf_of,
        )  # fmt: skip
        carrier = Carrier(home, Post(store, client, clock), accounts, sticks, tmp_path / "sticks")
        carrier.admin_token = cloud_accounts(config, database, clock).machine_token
        yield carrier
        await client.close()
        await store.close()


async def test_all_that_waits_goes_by_stick_and_its_receipts_come_back(carrier: Carrier) -> None:
    store = carrier.post.store
    await carrier.post.add(23)
    saba = await store.create_animal(_view(), {**SABA, "collar_id": "K1"})
    medium = carrier.new()
    written = await carrier.write(medium)
    assert written.batches == 6  # 5 of fixes and one of records
    assert written.items == await carrier.waiting() > 23
    taken = await carrier.sticks.take(medium)
    assert (taken.bundles, taken.batches, taken.refused, taken.outcomes["applied"]) == (1, 6, [], written.items)
    assert carrier.home.count("fixes") == 23
    person = await carrier.home.store.create_animal(_view(), {**SABA, "name": "Echo"})
    assert (await carrier.sticks.write(medium)).receipts == 6
    back = await carrier.take(medium)
    assert (back.refused, back.synced.batches, back.synced.fixes) == ([], 6, 23)
    assert await carrier.waiting() == 0
    assert (await store.animal(_view(), person.id)).name == "Echo"
    assert {row[0] for row in carrier.home.ask("SELECT id FROM animals")} == {saba.id, person.id}
    assert carrier.home.ask("SELECT path, total FROM sync_log WHERE path = 'usb'") == [("usb", written.items)]


async def test_the_bytes_on_a_stick_are_those_that_the_link_sends_afterwards(carrier: Carrier) -> None:
    await carrier.post.add(12)
    await carrier.write(carrier.new())  # and it is lost
    frozen = await carrier.post.store.read(
        lambda db: db.execute("SELECT n, hash FROM batches WHERE channel = 'fixes' ORDER BY n").fetchall()
    )
    await carrier.post.add(3, first=100)
    await carrier.post.sync()
    assert carrier.home.count("fixes") == 15
    sent = carrier.home.ask("SELECT n, hash FROM receipts WHERE channel = 'fixes' ORDER BY n")
    assert [(n, bytes(hashed)) for n, hashed in sent][: len(frozen)] == [(n, bytes(hashed)) for n, hashed in frozen]


async def test_a_newer_position_passes_what_lies_on_a_stick(carrier: Carrier) -> None:
    await carrier.post.add(40)
    await carrier.write(carrier.new())
    await carrier.post.add(1, first=500, device="K2")
    order: list[str] = []
    put = carrier.post.cloud.put_batch

    async def noted(batch: Batch) -> Receipt | StreamAnswer:
        order.append(batch.channel)
        return await put(batch)

    carrier.post.cloud.put_batch = noted  # type: ignore[method-assign] # watched, not replaced
    await carrier.post.sync()
    assert order.index("newest") < order.index("fixes")
    assert carrier.home.count("fixes") == 41


async def test_a_stick_tells_its_finder_nothing_of_what_it_carries(carrier: Carrier) -> None:
    await carrier.post.add(5, device="SECRETCOLLAR")
    await carrier.post.store.create_animal(_view(), SABA)
    medium = carrier.new()
    await carrier.write(medium)
    await carrier.sticks.take(medium)
    await carrier.sticks.write(medium)
    files = [path for path in medium.rglob("*") if path.is_file()]
    assert len(files) == 6
    for path in files:
        found = path.read_bytes()
        assert not any(word in found for word in (b"Saba", b"SECRETCOLLAR", b"elephant", b"collar_id", b"payload"))
        if path.name.startswith("part-"):
            assert found[:4] != b"\x28\xb5\x2f\xfd"
            assert b"\xcb" + b"F" not in found[:64]


async def test_read_twice_copied_and_late_changes_nothing(carrier: Carrier) -> None:
    await carrier.post.add(7)
    first = carrier.new()
    await carrier.write(first)
    copy = carrier.new()
    shutil.copytree(first, copy, dirs_exist_ok=True)
    await carrier.post.add(4, first=50)
    second = carrier.new()
    await carrier.write(second)  # holds what the first holds, and more
    await carrier.sticks.take(second)
    await carrier.sticks.write(second)
    for late in (first, copy, first):
        assert not (await carrier.sticks.take(late)).refused
    assert (carrier.home.count("fixes"), carrier.home.count("receipts")) == (11, 4)
    await carrier.take(second)
    await carrier.sticks.write(first)
    for again in (second, first, second):
        taken = await carrier.take(again)
        assert (taken.refused, taken.synced.batches) == ([], 0)
    assert await carrier.waiting() == 0
    assert (await carrier.post.sync()).healed == 0


async def test_what_is_half_written_damaged_or_of_another_is_refused_and_harms_nothing(carrier: Carrier) -> None:
    await carrier.post.add(3)
    medium = carrier.new()
    with pytest.raises(Invalid, match="no station wrote"):
        await carrier.sticks.take(medium)
    with pytest.raises(NotFound, match="no station has sent a stick"):
        await carrier.sticks.write(medium)
    await carrier.write(medium)
    (bundle,) = (medium / ROOT).iterdir()
    part, manifest = bundle / "part-0001", bundle / "manifest.json"
    whole, said = part.read_bytes(), manifest.read_bytes()
    for name, content, why in (
        ("part-0001", whole[:-1], "not written whole"),
        ("part-0001", whole[:-1] + bytes([whole[-1] ^ 1]), "damaged"),
        ("manifest.json", said.replace(b'"post-1"', b'"post-2"'), "not known here"),
        ("manifest.json", said.replace(b'"number": 1', b'"number": 9'), "not signed"),
        ("manifest.json", said.replace(b'"format": 1', b'"format": 2'), "bring it up to date"),
        ("manifest.json", said[:40], "manifest is damaged"),
    ):
        (bundle / name).write_bytes(content)
        (refusal,) = (await carrier.sticks.take(medium)).refused
        assert why in refusal
        part.write_bytes(whole)
        manifest.write_bytes(said)
    assert carrier.home.count("receipts") == 0
    manifest.unlink()  # pulled out before it was whole
    with pytest.raises(Invalid, match="no station wrote"):
        await carrier.sticks.take(medium)
    manifest.write_bytes(said)
    assert not (await carrier.sticks.take(medium)).refused
    await carrier.sticks.write(medium)
    await carrier.post.store.write(lambda db: db.execute("UPDATE enrolment SET station_id = 'post-7'"))
    with pytest.raises(Invalid, match="nothing on this stick is for post-7: it has answers for post-1"):
        await carrier.take(medium)


async def test_a_batch_of_a_later_program_waits_and_the_rest_of_its_stick_is_taken(carrier: Carrier) -> None:
    await carrier.post.add(3)
    await carrier.post.store.create_animal(_view(), SABA)
    later = Batch("", "records", 1, GENESIS.hash, pack(RECORDS, 2, [b"of a later program"]))
    await carrier.write(carrier.new())
    (kept,) = await carrier.post.store.read(
        lambda db: db.execute("SELECT payload, hash FROM batches WHERE channel = 'records'").fetchall()
    )

    def put(payload: bytes, hashed: bytes) -> Callable[[Any], Any]:
        return lambda db: db.execute(
            "UPDATE batches SET payload = ?, hash = ? WHERE channel = 'records'", (payload, hashed)
        )

    await carrier.post.store.write(put(later.payload, later.hash))
    medium = carrier.new()
    await carrier.write(medium)
    (refusal,) = (await carrier.sticks.take(medium)).refused
    assert "records 1: the batch of records has version 2" in refusal
    assert (carrier.home.count("fixes"), carrier.home.count("quarantine")) == (3, 0)
    await carrier.post.store.write(put(*kept))
    await carrier.there_and_back()
    assert await carrier.waiting() == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    """Give a stick that has room for 4 MiB of files behind what is kept free."""
    disk = SmallDisk(tmp_path / "small", 20)
    try:
        require(disk.is_mounted, f"a small disk needs the right to mount one (run as root): {disk.answer}")
        yield disk
    finally:
        disk.close()


async def test_a_full_stick_and_one_that_takes_nothing_are_told_and_nothing_is_lost(
    carrier: Carrier, small: SmallDisk, tmp_path: Path
) -> None:
    await carrier.post.add(400)
    waiting = await carrier.waiting()
    medium = small.seen_at
    (medium / ROOT).mkdir()
    small.fill()
    with pytest.raises(StoreFull, match="is full: make room or take another stick"):
        await carrier.write(medium)
    assert list((medium / ROOT).iterdir()) == []
    with pytest.raises(StoreError, match="is the stick mounted"):
        await carrier.write(tmp_path / "nowhere")
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / ROOT).write_bytes(b"")
    with pytest.raises(StoreError, match="nothing was written"):
        await carrier.write(tmp_path / "file")
    assert await carrier.waiting() == waiting
    small.make_room()
    await carrier.write(medium)
    assert not (await carrier.sticks.take(medium)).refused
    await carrier.there_and_back()
    assert (carrier.home.count("fixes"), await carrier.waiting()) == (400, 0)


async def test_photographs_go_by_stick_and_go_on_where_a_small_one_was_full(carrier: Carrier, small: SmallDisk) -> None:
    rng = random.Random(7)
    pictures = [rng.randbytes(3 << 20) for _ in range(2)]
    for number, picture in enumerate(pictures):
        for first in range(0, len(picture), 1 << 20):
            put = blobs.put(
                hashlib.sha256(picture).hexdigest(), size=len(picture), offset=first,
                part=picture[first : first + (1 << 20)], media_type="image/jpeg", owner="r1", origin="",
                now_ms=to_ms(carrier.post.clock.now()) + number,
            )  # fmt: skip
            await carrier.accounts.tables.write(put)
    await carrier.post.add(40)
    medium = small.seen_at
    for trip, (files, left, whole, unsent_files) in enumerate(((2, 1, 1, 1), (1, 0, 1, 0))):
        written = await carrier.write(medium)
        assert (written.files, written.files_left) == (files, left), trip
        taken = await carrier.sticks.take(medium)
        assert (taken.refused, taken.files) == ([], whole)
        assert (await carrier.sticks.take(medium)).files == 0  # the same stick once more
        await carrier.sticks.write(medium)
        assert (await carrier.take(medium)).synced.blobs == 1
        assert len(await carrier.accounts.tables.read(blobs.waiting())) == unsent_files
    assert carrier.home.ask("SELECT origin, owner, is_whole FROM blobs") == [("post-1", "r1", 1)] * 2
    for picture in pictures:
        parts = carrier.home.ask(
            "SELECT part FROM blob_parts WHERE sha256 = %s ORDER BY first", hashlib.sha256(picture).hexdigest()
        )
        assert b"".join(bytes(part) for (part,) in parts) == picture
    assert (await carrier.write(carrier.new())).files == 0
    assert (await sync_once(carrier.post.store, carrier.post.cloud, carrier.post.clock)).blobs == 0


async def test_what_the_cloud_chose_of_models_comes_by_stick_and_is_checked_as_over_a_link(
    carrier: Carrier, tmp_path: Path
) -> None:
    async with httpx.AsyncClient(base_url=carrier.home.url, auth=TokenAuth(carrier.admin_token)) as admin:
        await brought(admin, *later())
        answer = await admin.post("/api/v1/models/activate", json={"model": "hmm", "version": 2})
        assert answer.is_success, answer.text
    shelf = HomeShelf(carrier.accounts.tables, tmp_path / "shelf", now_ms=lambda: 0)
    models = Models()

    async def turn(folder: Path) -> None:
        models.turn_to(folder)

    shelf.follow(turn)
    medium = carrier.new()
    await carrier.write(medium)
    await carrier.sticks.take(medium)
    assert (await carrier.sticks.write(medium)).parts >= 1
    assert (await carrier.take(medium)).models == 1
    await shelf.refresh()
    assert models.behaviour("elephant").version == 2
    await carrier.write(medium)  # it tells what it has: nothing comes twice
    await carrier.sticks.take(medium)
    assert (await carrier.sticks.write(medium)).parts == 0
    assert (await carrier.take(medium)).models == 0


async def test_without_the_clouds_key_nothing_is_written(carrier: Carrier) -> None:
    await carrier.post.store.write(lambda db: db.execute("DELETE FROM facts WHERE name = 'roster.key'"))
    with pytest.raises(Conflict, match="sync --once"):
        await carrier.write(carrier.new())


async def test_a_cloud_that_was_restored_is_filled_over_sticks_alone(carrier: Carrier) -> None:
    await carrier.post.add(9)
    await carrier.there_and_back()
    old = carrier.new()
    await carrier.sticks.write(old)
    carrier.home.lose_everything()
    await carrier.post.add(2, first=30)
    medium = carrier.new()
    await carrier.write(medium)
    assert any("gap" in refusal for refusal in (await carrier.sticks.take(medium)).refused)
    await carrier.sticks.write(medium)
    await carrier.take(medium)
    assert await carrier.waiting() > 9
    await carrier.there_and_back()
    assert (carrier.home.count("fixes"), await carrier.waiting()) == (11, 0)
    (refusal,) = (await carrier.take(old)).refused
    assert "earlier life" in refusal


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_any_interleaving_of_sticks_and_link_ends_with_everything_once(carrier: Carrier, seed: int) -> None:
    rng = random.Random(seed)
    post, home = carrier.post, carrier.home
    up: list[Path] = []
    down: list[Path] = []
    fixes = edits = 0
    for _ in range(STEPS):
        match rng.choice(
            ("fix", "fix", "edit", "person", "link", "write", "write", "bring", "bring", "answer", "take")
        ):
            case "fix":
                count = rng.randrange(1, 12)
                await post.add(count, first=fixes)
                fixes += count
            case "edit":
                edits += 1
                await post.store.create_animal(_view(), {**SABA, "name": f"A{edits}"})
            case "person":
                for animal in (await home.store.animals(_view(), _all())).results[:1]:
                    await home.store.update_animal(_view(), animal.id, {"notes": f"seen {rng.random()}"})
            case "link":
                broken = _Broken(post.cloud, rng)
                try:
                    await carrier_sync(post, broken)
                except LinkError:
                    pass
            case "write":
                up.append(carrier.new())
                await carrier.write(up[-1], batch_fixes=rng.choice((3, 10)))
            case "bring" if up:
                assert not (await carrier.sticks.take(rng.choice(up))).refused
            case "answer" if home.count("sticks"):
                down.append(carrier.new())
                await carrier.sticks.write(down[-1])
            case "take" if down:
                assert not (await carrier.take(rng.choice(down))).refused
            case _:
                pass
    await carrier.there_and_back()
    await carrier.there_and_back()
    assert await carrier.waiting() == 0
    assert home.count("fixes") == fixes
    assert home.ask("SELECT count(*), count(DISTINCT id) FROM animals WHERE deleted_ms IS NULL") == [(edits, edits)]
    assert home.ask("SELECT count(*) FROM quarantine") == [(0,)]
    there = {each.id: (each.name, each.notes) for each in (await home.store.animals(_view(), _all())).results}
    here = {each.id: (each.name, each.notes) for each in (await post.store.animals(_view(), _all())).results}
    assert here == there
    done = await post.sync()
    assert (done.healed, done.fixes, done.records) == (0, 0, 0)


class _Broken:
    """A link that breaks before or after a request, sometimes."""

    def __init__(self, cloud: CloudClient, rng: random.Random) -> None:
        self._cloud = cloud
        self._rng = rng

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cloud, name)

    async def put_batch(self, batch: Batch) -> Receipt | StreamAnswer:
        chance = self._rng.random()
        if chance < 0.2:
            raise LinkError("lost on the way")
        said = await self._cloud.put_batch(batch)
        if chance < 0.4:
            raise LinkError("the answer is lost")
        return said


async def carrier_sync(post: Post, cloud: Any) -> Synced:
    return await sync_once(post.store, cloud, post.clock, batch_fixes=4)


async def test_an_operator_carries_a_stick_with_the_two_commands(carrier: Carrier, tmp_path: Path) -> None:
    home = carrier.home
    config, cloud_config, medium = tmp_path / "station.toml", tmp_path / "cloud.toml", carrier.new()
    config.write_text(f'[station]\ndata_dir = "{tmp_path / "data"}"\n[store]\nis_encrypted = false\n', encoding="utf-8")
    cloud_config.write_text(
        f"[database]\nurl = {json.dumps(home.database_url)}\n[accounts]\n"
        f"key_file = {json.dumps(str(tmp_path / 'cloud.key'))}\n",
        encoding="utf-8",
    )
    tracks = tmp_path / "tracks.csv"
    tracks.write_text(
        "individual,timestamp,lon,lat,species\nSaba,2026-01-01T00:00:00Z,37,-2,elephant\n", encoding="utf-8"
    )
    assert "not enrolled" in await outpost_station(config, "sync", "--export", str(medium), code=1)
    await outpost_station(config, "enrol", home.url, await home.code("post-9"))
    assert "sync --once" in await outpost_station(config, "sync", "--export", str(medium), code=1)
    await outpost_station(config, "sync", "--once")
    await outpost_station(config, "import", str(tracks))
    said = json.loads(await outpost_station(config, "sync", "--export", str(medium), "--json"))
    assert (said["number"], said["items"] > 1) == (1, True)
    taken = json.loads(await outpost_cloud(cloud_config, "sync", "--import", str(medium), "--json"))
    assert (taken["stations"], taken["refused"], home.count("fixes")) == (["post-9"], [], 1)
    assert json.loads(await outpost_cloud(cloud_config, "sync", "--export", str(medium), "--json"))["receipts"] >= 2
    back = json.loads(await outpost_station(config, "sync", "--import", str(medium), "--json"))
    assert (back["refused"], back["synced"]["fixes"]) == ([], 1)
    found = json.loads(await outpost_station(config, "verify", "--against", "cloud", "--json"))
    assert (found["matching"], found["waiting"], found["differences"]) == (1, 0, 0)
    assert "give one of" in await outpost_cloud(cloud_config, "sync", code=2)


async def outpost_cloud(config: Path, *arguments: str, code: int = 0) -> str:
    """Run a command of the cloud beside the one of this process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OUTPOST_", "DATABASE"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from cloud.cli import main; main()", *arguments, "--config", str(config),
        env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complained = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == code, (said, complained)
    return (said if code == 0 or said else complained).decode()
