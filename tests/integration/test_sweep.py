"""The hourly sweep: what is old is forgotten, what waits for a person or for the cloud is not."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from edge.store import outbox, queue
from edge.store.accounts import SqliteTables
from edge.store.store import SpatialiteStore
from edge.sync.sweeping import sweep
from shared.accounts.service import Accounts
from shared.accounts.users import Job
from shared.clock import ClockState
from shared.domain import NewFix
from shared.privacy import OPERATOR, view_for
from shared.sync import blobs, log, sweeping
from shared.sync.log import Item, Session, Whose
from shared.sync.operations import Operation
from shared.sync.records import to_ms
from shared.sync.streams import Receipt, SendNext
from tests.access import accounts_over
from tests.clouds import Cloud, serving
from tests.fakes import START, FakeClock
from tests.integration.station_store import ask, enrol

pytestmark = [pytest.mark.integration, pytest.mark.sync]

VIEW = view_for(OPERATOR)


def session(identity: str, days: float) -> Session:
    ms = to_ms(START - timedelta(days=days))
    return Session(
        id=identity, user_id=None, device_id="phone", path="upload", total=1, synced=1, conflicts=0, failed=0,
        started_ms=ms, completed_ms=ms,
    )  # fmt: skip


def item(identity: str, status: Any, days: float) -> Item:
    ms = to_ms(START - timedelta(days=days))
    return Item(
        id=identity, sync_id=None, user_id="u-1", device_id="phone", data_type="animal", status=status, created_ms=ms
    )


async def fill(accounts: Accounts) -> None:
    """Leave behind sessions, items and files, old and fresh."""
    tables = accounts.tables
    await tables.write(log.note(session("old", 401), [item("settled", "completed", 401), item("open", "failed", 401)]))
    await tables.write(log.note(session("fresh", 399), [item("recent", "completed", 399)]))
    for name, days in (("a" * 64, 31), ("b" * 64, 29)):
        at_ms = to_ms(START - timedelta(days=days))
        part = blobs.put(
            name, size=5_000, offset=0, part=bytes(2_000), media_type="image/jpeg", owner=None, origin="", now_ms=at_ms
        )
        await tables.write(part)
    for name, days in (("gone", 91), ("kept", 89)):
        await tables.write(position(name, to_ms(START - timedelta(days=days))))


def position(name: str, recorded_ms: int) -> Job[None]:
    statement = """
        INSERT INTO ranger_positions (id, ranger_id, recorded_ms, lon_e7, lat_e7, activity_type, rev, cloud_rev, marks,
          created_ms, updated_ms)
        VALUES (?, 'r-1', ?, 370000000, -20000000, 'patrolling', 1, 0, '{}', ?, ?)"""
    yield statement, (name, recorded_ms, recorded_ms, recorded_ms)


@pytest.fixture
async def store(store: SpatialiteStore) -> SpatialiteStore:
    await store.write(functools.partial(enrol, epoch="e1" * 8))
    return store


async def test_a_station_forgets_what_is_old_and_nothing_that_waits(store: SpatialiteStore) -> None:
    clock = FakeClock()
    accounts = accounts_over(store, clock)
    assert isinstance(accounts.tables, SqliteTables)
    await fill(accounts)
    for n in range(3):
        at = START + timedelta(minutes=n)
        await store.add_fixes(VIEW, [NewFix(device="K1", recorded_at=at, received_at=at, lon_deg=37.0, lat_deg=-2.0)])
        acknowledged_ms = to_ms(START - timedelta(days=100 - n))

        def acknowledge(db: Any, acknowledged_ms: int = acknowledged_ms) -> None:
            batch = outbox.freeze(db, "fixes", 10, acknowledged_ms)
            assert batch is not None
            told = SendNext(Receipt(n=batch.n, hash=batch.hash))
            outbox.apply_answer(db, "fixes", told, now_ms=acknowledged_ms, new_epoch="e2" * 8)

        await store.write(acknowledge)
    clock.set_state(ClockState.UNSET)
    assert await sweep(store, accounts, clock) == sweeping.Swept()
    clock.set_state(ClockState.NTP)
    done = await sweep(store, accounts, clock)
    assert await ask(store, "SELECT id FROM ranger_positions") == [("kept",)]
    assert (done.sync_log, done.files, done.ranger_positions, done.batches) == (
        2,
        1,
        1,
        2,
    )  # the last batch is where the chain goes on
    assert sorted(await ask(store, "SELECT id FROM sync_items")) == [("open",), ("recent",)]
    assert await ask(store, "SELECT id FROM sync_log") == [("fresh",)]
    assert await ask(store, "SELECT sha256 FROM blobs") == [("b" * 64,)]
    assert await sweep(store, accounts, clock) == sweeping.Swept()


async def test_the_cloud_forgets_the_same(database_url: str) -> None:
    async with serving(database_url) as cloud:
        await _sweep_cloud(cloud)


async def _sweep_cloud(cloud: Cloud) -> None:
    await fill(cloud.accounts)
    assert (await sweeping.sweep(cloud.accounts, None)).sync_log == 0
    done = await sweeping.sweep(cloud.accounts, to_ms(START))
    assert (done.sync_log, done.files, done.ranger_positions) == (2, 1, 1)
    assert cloud.ask("SELECT id FROM ranger_positions") == [("kept",)]
    assert cloud.ask("SELECT id FROM sync_log") == [("fresh",)]
    assert cloud.ask("SELECT count(*) FROM blob_parts") == [(1,)]


async def test_pages_of_what_waits_are_the_whole_of_it_and_a_persons_edits_his_own(store: SpatialiteStore) -> None:
    for n in range(5):
        at = START + timedelta(minutes=n)
        await store.add_fixes(VIEW, [NewFix(device="K1", recorded_at=at, received_at=at, lon_deg=37.0, lat_deg=-2.0)])
    await store.write(lambda db: outbox.freeze(db, "fixes", 2, 1))
    operations = [
        Operation(
            id=f"op-{n}", entity="animal", row_id=f"a-{n}", kind="insert", author=author, made_ms=to_ms(START),
            columns={"name": "u-1 is a name too", "species": "elephant"},
        )
        for n, author in enumerate(("u-1", "u-2", "u-1", None))
    ]  # fmt: skip
    await store.edit_all(operations)
    everything = await store.read(lambda db: queue.pending(db, log.EVERYBODY, 0, 1_000))
    assert everything.count == len(everything.results) > 5
    assert everything.results[0].data_type == "fixes"
    for size in (1, 2, 3):
        paged: list[Item] = []
        while len(paged) < everything.count:
            page = await store.read(
                functools.partial(queue.pending, whose=log.EVERYBODY, offset=len(paged), limit=size)
            )
            assert page.count == everything.count
            paged += page.results
        assert paged == everything.results
    mine = await store.read(lambda db: queue.pending(db, Whose("u-1", ()), 0, 10))
    assert [msgspec.json.decode(each.data)["species"] for each in mine.results] == ["elephant", "elephant"]
    assert [each.local_id for each in mine.results] == ["a-0", "a-2"]
    assert (await store.read(lambda db: queue.pending(db, Whose("u-1", ()), 1, 10))).results == mine.results[1:]
