"""A station and a cloud through lost requests and answers, restored clouds, rewound stations: all arrives, once."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from edge.ops.verify_cloud import verify_cloud
from edge.store import outbox, unsent
from edge.store.driver import Connection
from edge.store.records import load
from edge.store.store import SpatialiteStore
from edge.sync.session import sync_once
from shared.domain import NewFix
from shared.errors import LinkError, RequestError
from shared.privacy import OPERATOR, view_for
from shared.store import AnimalQuery
from shared.sync.operations import Operation, Wanted
from shared.sync.records import Record, to_ms
from tests.fakes import START, FakeClock
from tests.unit.edge.sync.fake_cloud import InMemoryCloud

pytestmark = [pytest.mark.integration, pytest.mark.sync]

SEEDS = 60 if os.environ.get("OUTPOST_NIGHTLY") else 6
STEPS = 60
VIEW = view_for(OPERATOR)
ALL = AnimalQuery(limit=1_000)


@pytest.fixture(scope="module")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of an empty store that is enrolled."""
    path = tmp_path_factory.mktemp("new") / "station.db"
    store = SpatialiteStore(path, None, now=FakeClock().now)
    store.close_now()
    return path


class World:
    """One station's file and its cloud."""

    def __init__(self, seed: int, path: Path) -> None:
        self.rng = random.Random(seed)
        self.path = path
        self.clock = FakeClock()
        self.cloud = InMemoryCloud()
        self.cloud.page = self.rng.choice([1, 3, 1_000])
        self.store = self.open()
        self.minute = 0
        self.made = 0
        self.backups = [self.cloud.backup()]

    def open(self) -> SpatialiteStore:
        return SpatialiteStore(self.path, None, now=self.clock.now, readers=1)

    async def enrol(self) -> None:
        await self.store.write(
            lambda db: outbox.enrol(
                db, url="https://cloud.example", station_id="post-1", private_key=bytes(32),
                cloud_epoch=self.cloud.epoch, epoch=self.epoch(), now_ms=to_ms(START),
            )
        )  # fmt: skip

    def epoch(self) -> str:
        return self.rng.randbytes(8).hex()

    async def step(self) -> None:
        self.clock.tick(60)
        chance = self.rng.random()
        if chance < 0.35:
            await self.hear()
        elif chance < 0.6:
            await self.edit()
        elif chance < 0.7:
            self.edit_in_cloud()
        elif chance < 0.9:
            await self.session()
        elif chance < 0.93:
            self.backups.append(self.cloud.backup())
        elif chance < 0.96:
            self.cloud.restore(self.rng.choice(self.backups), f"cloud-{self.rng.random()}")
        else:
            await self.store.close()
            saved = self.path.with_suffix(".saved")
            if saved.exists() and self.rng.random() < 0.5:
                shutil.copy(saved, self.path)
            elif self.rng.random() < 0.5:
                shutil.copy(self.path, saved)
            self.store = self.open()

    async def hear(self) -> None:
        fixes = []
        for _ in range(self.rng.randint(1, 8)):
            self.minute += 1
            minute = self.minute if self.rng.random() < 0.8 else self.rng.randint(1, self.minute)
            at = START + timedelta(minutes=minute)
            device = self.rng.choice(["K1", "K2", "eui:1"])
            battery_mv = self.rng.choice([None, 3_600])
            fixes.append(
                NewFix(device=device, recorded_at=at, received_at=at, lon_deg=37.0, lat_deg=-2.0, battery_mv=battery_mv)
            )
        await self.store.add_fixes(VIEW, fixes)

    async def edit(self) -> None:
        animals = (await self.store.animals(VIEW, ALL)).results
        chance = self.rng.random()
        self.made += 1
        with contextlib.suppress(RequestError):  # a collar that is worn, an animal that is gone
            if not animals or chance < 0.3:
                columns = {"name": f"animal {self.made}", "species": "elephant", "gender": "female"}
                await self.store.create_animal(VIEW, columns)
            elif chance < 0.6:
                changed = {self.rng.choice(["notes", "name"]): f"said {self.made}"}
                await self.store.update_animal(VIEW, self.rng.choice(animals).id, changed)
            elif chance < 0.7:
                await self.store.update_animal(VIEW, self.rng.choice(animals).id, {"collar_id": "K1"})
            elif chance < 0.8:
                await self.store.put_collar(VIEW, self.rng.choice(["K1", "K2"]), {"notes": f"said {self.made}"})
            elif chance < 0.9:
                await self.store.put_collar(VIEW, "K1", {"aliases": ["eui:1"]})
            else:
                await self.store.delete_animal(VIEW, self.rng.choice(animals).id)

    def edit_in_cloud(self) -> None:
        living = [each for each in self.cloud.kept.rows.values() if each.entity == "animal" and not each.is_deleted]
        if not living:
            return
        self.made += 1
        self.cloud.edit(
            Operation(
                id=f"cloud {self.made}", entity="animal", row_id=self.rng.choice(living).id, kind="update",
                made_ms=to_ms(START), columns={self.rng.choice(["notes", "name"]): f"ruled {self.made}"},
            )
        )  # fmt: skip

    async def session(self) -> None:
        self.cloud.faults.extend(self.rng.choices(["ok", "lost", "unanswered", "damaged"], [7, 1, 1, 1], k=12))
        with contextlib.suppress(LinkError):
            await sync_once(self.store, self.cloud, self.clock, batch_fixes=5, batch_records=3, epochs=self.epoch)
        self.cloud.faults.clear()


def stored(db: Connection, record: Record) -> Record | None:
    collars = {record.id} if record.entity == "collar" else set()
    return load(db, Wanted({record.entity: {record.id}}, collars, set())).get(record.entity, record.id)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_all_that_a_station_has_arrives_once_whatever_happens(
    seed: int, new_database: Path, tmp_path: Path
) -> None:
    world = World(seed, Path(shutil.copy(new_database, tmp_path / "station.db")))
    await world.enrol()
    for _ in range(STEPS):
        await world.step()
    for _ in range(2):
        await sync_once(world.store, world.cloud, world.clock, epochs=world.epoch)
    assert {each.items for each in (await world.store.read(unsent.waiting)).values()} == {0}
    found = await verify_cloud(world.store, world.cloud)
    assert (found.missing, found.differing, found.doubled, found.waiting) == (0, 0, 0, 0), found.examples
    assert set(world.cloud.kept.applied.values()) <= {1}
    for record in world.cloud.kept.rows.values():
        if record.entity in ("animal", "collar", "deployment"):
            here = await world.store.read(functools.partial(stored, record=record))
            assert here is not None
            assert (here.columns, here.is_deleted) == (record.columns, record.is_deleted), record
    await world.store.close()
