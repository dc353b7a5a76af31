"""The outbox over a real SpatiaLite file: what is frozen, sent again, put back and forgotten."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from edge.store import outbox, unsent
from edge.store.decisions import take_out
from edge.store.driver import Connection, connect
from edge.store.outbox import RETAINED_MS
from edge.store.store import SpatialiteStore
from edge.store.unsent import Run
from shared.domain import NewFix
from shared.errors import Conflict, NotFound
from shared.privacy import OPERATOR, view_for
from shared.sync.decisions import Decision
from shared.sync.operations import Operation
from shared.sync.records import Record, to_ms
from shared.sync.streams import GENESIS, Batch, Head, Receipt, ResumeFrom, Sender, SendNext, StartOver
from shared.wire.batch import decode_fixes, decode_records
from shared.wire.link import Channel
from tests.fakes import START, FakeClock
from tests.integration.station_store import enrol

pytestmark = [pytest.mark.integration, pytest.mark.sync]

VIEW = view_for(OPERATOR)
NOW_MS = to_ms(START)
FIRST, SECOND = "e1" * 8, "e2" * 8


@pytest.fixture(scope="module")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of an empty store."""
    path = tmp_path_factory.mktemp("new") / "station.db"
    SpatialiteStore(path, None, now=FakeClock().now).close_now()
    return path


@pytest.fixture
def path(new_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(new_database, tmp_path / "station.db"))


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SpatialiteStore]:
    store = SpatialiteStore(path, None, now=FakeClock().now, readers=1)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SpatialiteStore]:
    """Give a store that is enrolled."""
    async with opened(path) as store:
        await store.write(lambda db: enrol(db, FIRST))
        yield store


def fix_of(minute: int, device: str = "K1", **said: Any) -> NewFix:
    at = START + timedelta(minutes=minute)
    return NewFix(
        **{
            "device": device,
            "recorded_at": at,
            "received_at": at,
            "lon_deg": 37.0,
            "lat_deg": -2.0 - minute / 1e4,
            **said,
        }
    )


async def add(store: SpatialiteStore, count: int, first: int = 0, device: str = "K1") -> None:
    fixes = [replace(fix_of(minute), device=device) for minute in range(first, first + count)]
    await store.add_fixes(VIEW, fixes)


async def freeze(store: SpatialiteStore, channel: Channel = "fixes", limit: int = 1_000) -> Batch | None:
    return await store.write(lambda db: outbox.freeze(db, channel, limit, NOW_MS))


async def frozen(store: SpatialiteStore, channel: Channel = "fixes", limit: int = 1_000) -> Batch:
    batch = await freeze(store, channel, limit)
    assert batch is not None
    return batch


async def acknowledge(store: SpatialiteStore, batch: Batch, now_ms: int = NOW_MS) -> None:
    await apply(store, batch.channel, SendNext(Receipt(n=batch.n, hash=batch.hash)), now_ms)


async def apply(store: SpatialiteStore, channel: Any, action: Any, now_ms: int = NOW_MS) -> None:
    await store.write(lambda db: outbox.apply_answer(db, channel, action, now_ms=now_ms, new_epoch=SECOND))


def minutes(batch: Batch) -> list[int]:
    return [(ms - NOW_MS) // 60_000 for ms in decode_fixes(batch.payload)["raw_ms"]]


def operations(batch: Batch) -> list[Operation]:
    return decode_records(batch.payload, Operation)


async def waiting(store: SpatialiteStore) -> dict[str, int]:
    """Return what waits, of the channels that every test has something to say of and of those where something does."""
    found = await store.read(unsent.waiting)
    return {name: each.items for name, each in found.items() if each.items or name in ("records", "fixes")}


# --- freezing
async def test_a_batch_is_the_same_bytes_until_it_is_acknowledged_also_after_a_fall(path: Path) -> None:
    async with opened(path) as store:
        await store.write(lambda db: enrol(db, FIRST))
        await add(store, 5)
        first = await frozen(store, limit=3)
        await add(store, 2, first=10)
        await store.add_fixes(VIEW, [fix_of(0, battery_mv=3600)])
        assert await frozen(store, limit=100) == first
    async with opened(path) as store:
        again = await frozen(store)
        assert (again, again.hash, again.n, again.prev_hash) == (first, first.hash, 1, GENESIS.hash)
        await acknowledge(store, again)
        second = await frozen(store)
        assert (second.n, second.prev_hash) == (2, first.hash)
        assert sorted(minutes(first) + minutes(second)) == [0, 0, 1, 2, 3, 4, 10, 11]


async def test_what_ends_before_the_commit_has_frozen_nothing(store: SpatialiteStore, path: Path) -> None:
    await add(store, 3)
    db = connect(path, None)
    db.execute("BEGIN IMMEDIATE")
    assert outbox.freeze(db, "fixes", 10, NOW_MS) is not None
    db.close()
    assert await waiting(store) == {"records": 1, "fixes": 3}
    assert minutes(await frozen(store)) == [0, 1, 2]


async def test_runs_are_split_and_nothing_is_sent_twice_or_left(store: SpatialiteStore) -> None:
    await add(store, 7)
    await add(store, 4, first=7)
    seen: list[int] = []
    while (batch := await freeze(store, limit=3)) is not None:
        assert 1 <= len(minutes(batch)) <= 3
        seen += minutes(batch)
        await acknowledge(store, batch)
    assert sorted(seen) == list(range(11))
    assert await waiting(store) == {"records": 1, "fixes": 0}


async def test_a_fix_that_waits_twice_goes_once_as_it_stands(store: SpatialiteStore) -> None:
    await add(store, 2)
    await store.add_fixes(VIEW, [fix_of(1, battery_mv=3600)])
    columns = decode_fixes((await frozen(store)).payload)
    assert columns["battery_mv"] == [None, 3600]
    assert columns["collar_id"] == ["K1", "K1"]


async def test_a_fix_that_was_folded_into_another_is_passed_over(store: SpatialiteStore) -> None:
    await store.add_fixes(VIEW, [fix_of(0, "eui:1"), fix_of(1, "eui:1")])
    await store.add_fixes(VIEW, [fix_of(0, "K1")])
    await store.put_collar(VIEW, "K1", {"aliases": ["eui:1"]})
    batch = await frozen(store)
    assert (minutes(batch), set(decode_fixes(batch.payload)["collar_id"])) == ([0, 1], {"K1"})


async def test_an_empty_batch_is_never_frozen(store: SpatialiteStore) -> None:
    assert await freeze(store) is None
    await add(store, 1)
    await store.write(lambda db: db.execute("DELETE FROM fixes"))
    assert await freeze(store) is None
    assert await waiting(store) == {"records": 1, "fixes": 0}


async def test_what_no_batch_can_hold_is_left_out_and_counted(store: SpatialiteStore) -> None:
    await add(store, 5)
    await store.write(lambda db: db.execute("UPDATE fixes SET seq = 'x' WHERE raw_ms = ?", (NOW_MS + 2 * 60_000,)))
    seen: list[int] = []
    while (batch := await freeze(store)) is not None:
        seen += minutes(batch)
        await acknowledge(store, batch)
    assert sorted(seen) == [0, 1, 3, 4]
    assert (await store.read(outbox.backlog)).unsendable == 1


async def test_a_value_that_is_no_number_is_not_known(store: SpatialiteStore) -> None:
    await add(store, 1)
    await store.write(lambda db: db.execute("UPDATE fixes SET alt_m = 9e999"))
    assert decode_fixes((await frozen(store)).payload)["alt_m"] == [None]


async def test_a_decision_by_hand_goes_after_its_fix_and_says_what_stands(store: SpatialiteStore) -> None:
    await add(store, 1)
    (identity,) = await store.read(lambda db: db.execute("SELECT lower(hex(id)) FROM fixes").fetchone())
    await store.flag_fix(VIEW, identity, is_excluded=True)
    assert await freeze(store, "flags") is None  # its fix waits
    batch = await frozen(store)
    assert await freeze(store, "flags") is None  # its fix is on its way
    await acknowledge(store, batch)
    assert await freeze(store) is None
    sent = await frozen(store, "flags")
    decision: Decision
    (decision,) = decode_records(sent.payload, Decision)
    assert (decision.collar_id, decision.is_excluded, decision.fix_id("K1").hex()) == ("K1", True, identity)
    await acknowledge(store, sent)
    await apply(store, "flags", ResumeFrom(GENESIS))  # the cloud has lost it
    again: Decision
    (again,) = decode_records((await frozen(store, "flags")).payload, Decision)
    assert again == decision
    await store.flag_fix(VIEW, identity, is_excluded=False)
    assert (await store.read(unsent.waiting))["flags"].items == 2


async def test_alerts_have_a_channel_of_their_own(store: SpatialiteStore) -> None:
    await store.create_animal(VIEW, {"name": "Saba", "species": "elephant", "gender": "female"})
    alert = await store.create_alert(VIEW, {"alert_type": "high_risk_zone", "title": "near a field"})
    await store.update_alert(VIEW, alert.id, {"status": "acknowledged"})
    assert {channel: n for channel, n in (await waiting(store)).items() if n} == {"alerts": 2, "records": 1}
    assert [each.entity for each in operations(await frozen(store, "alerts"))] == ["alert", "alert"]
    assert [each.entity for each in operations(await frozen(store, "records"))] == ["animal"]


async def test_of_a_backlog_the_newest_position_of_each_collar_goes_first_and_once(store: SpatialiteStore) -> None:
    for device in ("K1", "K2"):
        await add(store, 9, device=device)
    assert await freeze(store, "newest", limit=18) is None  # one batch holds them all
    newest = await frozen(store, "newest", limit=17)
    columns = decode_fixes(newest.payload)
    assert sorted(columns["collar_id"]) == ["K1", "K2"]
    assert minutes(newest) == [8, 8]
    await acknowledge(store, newest)
    rest = await frozen(store, limit=20)
    assert sorted(minutes(rest)) == sorted([*range(8), *range(8)])
    await apply(store, "fixes", StartOver())
    assert sorted(minutes(await frozen(store, limit=20))) == sorted([*range(9), *range(9)])


async def test_a_position_in_the_middle_of_a_run_leaves_what_is_on_both_sides(store: SpatialiteStore) -> None:
    await add(store, 9)
    await store.write(lambda db: take_out(db, [5, 1, 9]))
    await store.write(lambda db: take_out(db, [5]))  # nothing of it waits
    assert sorted(minutes(await frozen(store))) == [1, 2, 3, 5, 6, 7]


# --- records
async def test_an_edit_goes_with_its_own_operation_and_what_was_heard_as_it_stands(store: SpatialiteStore) -> None:
    animal = await store.create_animal(VIEW, {"name": "Saba", "species": "elephant", "gender": "female"})
    await add(store, 1)
    await store.put_collar(VIEW, "K1", {"notes": "left ear"})
    sent = operations(await frozen(store, "records"))
    assert [(each.entity, each.kind, each.row_id) for each in sent] == [
        ("animal", "insert", animal.id), ("collar", "insert", "K1"), ("collar", "update", "K1"),
    ]  # fmt: skip
    assert sent[1].columns == {"notes": "left ear"}
    assert len({each.id for each in sent}) == 3


async def test_records_go_in_their_order_also_after_they_were_put_back(store: SpatialiteStore) -> None:
    for name in ("a", "b", "c"):
        await store.create_animal(VIEW, {"name": name, "species": "elephant", "gender": "female"})
    first = await frozen(store, "records", limit=2)
    await acknowledge(store, first)
    second = await frozen(store, "records")
    await store.create_animal(VIEW, {"name": "d", "species": "elephant", "gender": "female"})
    await apply(store, "records", ResumeFrom(GENESIS))
    again = operations(await frozen(store, "records"))
    assert [each.columns["name"] for each in again] == ["a", "b", "c", "d"]
    assert [each.id for each in again][:3] == [each.id for each in operations(first) + operations(second)]


async def test_columns_that_wait_are_pending_until_the_receipt(store: SpatialiteStore) -> None:
    animal = await store.create_animal(VIEW, {"name": "Saba", "species": "elephant", "gender": "female"})
    await acknowledge(store, await frozen(store, "records"))
    assert await store.read(unsent.pending_columns) == {}
    await store.update_animal(VIEW, animal.id, {"notes": "limps"})
    expected = {("animal", animal.id): {"notes", "deleted_ms"}}
    assert await store.read(unsent.pending_columns) == expected
    batch = await frozen(store, "records")
    await store.update_animal(VIEW, animal.id, {"status": "missing"})
    expected["animal", animal.id].add("status")
    assert await store.read(unsent.pending_columns) == expected
    await acknowledge(store, batch)
    assert await store.read(unsent.pending_columns) == {("animal", animal.id): {"status", "deleted_ms"}}


# --- answers
async def test_resuming_puts_back_what_is_behind_the_head_and_nothing_else(store: SpatialiteStore) -> None:
    batches = []
    for index in range(3):
        await add(store, 2, first=2 * index)
        batches.append(await frozen(store))
        await acknowledge(store, batches[-1])
    await add(store, 1, first=9)
    assert await store.read(lambda db: outbox.sender(db, "fixes", 1)) == Sender(
        FIRST, "fixes", batches[2].head, {1: batches[0].hash}, None
    )
    await apply(store, "fixes", ResumeFrom(batches[0].head))
    again = await frozen(store)
    assert (again.n, again.prev_hash, minutes(again)) == (2, batches[0].hash, [2, 3, 4, 5, 9])


async def test_starting_over_sends_everything_retained_in_a_new_epoch_of_every_channel(store: SpatialiteStore) -> None:
    await add(store, 2)
    for channel in ("fixes", "records"):
        await acknowledge(store, await frozen(store, channel))
    await add(store, 1, first=5)
    waits = await frozen(store)
    await apply(store, "fixes", StartOver())
    here = await store.read(outbox.enrolled)
    assert here.epoch == SECOND
    batch = await frozen(store)
    assert (batch.epoch, batch.n, batch.prev_hash, minutes(batch)) == (SECOND, 1, GENESIS.hash, [0, 1, 5])
    assert (await frozen(store, "records")).epoch == SECOND
    assert waits.hash != batch.hash


async def test_what_is_old_is_forgotten_but_the_place_where_the_chain_goes_on(store: SpatialiteStore) -> None:
    for index in range(4):
        await add(store, 1, first=index)
        await acknowledge(store, await frozen(store), NOW_MS + index * RETAINED_MS)
    batch = await frozen(store, "records")
    assert await store.write(lambda db: outbox.forget_acknowledged(db, NOW_MS + 2 * RETAINED_MS)) == 2
    assert await store.write(lambda db: outbox.forget_acknowledged(db, NOW_MS + 9 * RETAINED_MS)) == 1
    state = await store.read(lambda db: outbox.sender(db, "fixes", 3))
    assert (state.acked.n, state.known) == (4, {})
    assert await frozen(store, "records") == batch


async def test_a_receipt_is_dated_and_the_payload_of_fixes_is_let_go(store: SpatialiteStore) -> None:
    await add(store, 1)
    for channel in ("fixes", "records"):
        await acknowledge(store, await frozen(store, channel), NOW_MS + 5)
    assert (await store.read(outbox.enrolled)).last_receipt_ms == NOW_MS + 5
    held = await store.read(lambda db: dict(db.execute("SELECT channel, payload IS NOT NULL FROM batches").fetchall()))
    assert held == {"fixes": 0, "records": 1}


# --- the enrolment
async def test_without_an_enrolment_nothing_is_frozen(path: Path) -> None:
    async with opened(path) as store:
        assert await store.read(outbox.enrolment) is None
        with pytest.raises(NotFound, match="outpost-station enrol"):
            await freeze(store)


async def test_enrolling_twice_is_refused_and_again_sends_everything(store: SpatialiteStore) -> None:
    animal = await store.create_animal(
        VIEW, {"name": "Saba", "species": "elephant", "gender": "female", "collar_id": "K1"}
    )
    await add(store, 3)
    for channel in ("fixes", "records"):
        await acknowledge(store, await frozen(store, channel))
    await store.write(lambda db: outbox.forget_acknowledged(db, NOW_MS + 9 * RETAINED_MS))
    with pytest.raises(Conflict, match="--again"):
        await store.write(lambda db: enrol(db, epoch=SECOND))
    await store.write(lambda db: enrol(db, epoch=SECOND, cloud_epoch="cloud-2", is_again=True))
    assert minutes(await frozen(store)) == [0, 1, 2]
    names = {(each.entity, each.row_id) for each in operations(await frozen(store, "records"))}
    assert {("animal", animal.id), ("collar", "K1")} < names
    assert (await store.read(outbox.enrolled)).epoch == SECOND


async def test_in_another_life_of_the_cloud_no_revision_is_known(store: SpatialiteStore) -> None:
    record = Record(
        entity="animal", id="a1", created_ms=NOW_MS, updated_ms=NOW_MS, rev=7,
        columns={
            "name": "Saba", "species": "elephant", "status": "active", "health_status": "unknown", "gender": "female",
            "age": None, "weight": None, "notes": None, "created_by": None,
        },
    )  # fmt: skip
    assert await store.take_changes("cloud-1", 12, [record]) == 1
    assert await store.take_changes("cloud-1", 13, [record]) == 0
    here = await store.read(outbox.enrolled)
    assert (here.cloud_epoch, here.cursor) == ("cloud-1", 13)

    def revision(db: Connection) -> int:
        return int(db.execute("SELECT cloud_rev FROM animals").fetchone()[0])

    assert await store.read(revision) == 7
    await store.take_changes("cloud-2", 3, [])
    assert await store.read(revision) == 0


async def test_a_page_that_cannot_be_taken_leaves_the_cursor(store: SpatialiteStore) -> None:
    columns = {"collar_id": "nobody", "animal_id": "none", "started_ms": NOW_MS, "ended_ms": None, "notes": None}
    orphan = Record(entity="deployment", id="d1", created_ms=NOW_MS, updated_ms=NOW_MS, columns=columns)
    with pytest.raises(NotFound):
        await store.take_changes("cloud-1", 12, [orphan])
    assert (await store.read(outbox.enrolled)).cursor == 0


# --- what is told
async def test_what_waits_is_told_with_its_age(store: SpatialiteStore) -> None:
    found = await store.read(unsent.waiting)
    assert {name: found[name] for name in ("records", "fixes")} == {
        "records": unsent.Waiting(0, None), "fixes": unsent.Waiting(0, None),
    }  # fmt: skip
    await add(store, 3, first=4)
    found = await store.read(unsent.waiting)
    assert found["fixes"] == unsent.Waiting(3, NOW_MS + 4 * 60_000)
    await frozen(store, limit=2)
    await add(store, 1, first=1)
    assert (await store.read(unsent.waiting))["fixes"] == unsent.Waiting(4, NOW_MS + 60_000)
    assert len(await store.read(unsent.waiting_fixes)) == 3


def test_rows_become_runs() -> None:
    assert unsent.runs_of([5, 1, 2, 9, 3]) == [Run(1, 3), Run(5, 5), Run(9, 9)]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([Run(1, 3)]), type=list[Run]) == [Run(1, 3)]
    assert Head(0, bytes(32)) == GENESIS


async def test_what_waits_is_as_old_as_the_oldest_fix_that_the_cloud_has_not_confirmed(store: SpatialiteStore) -> None:
    await store.add_fixes(VIEW, [fix_of(30), fix_of(0), fix_of(60)])
    assert await store.read(unsent.oldest_waiting_ms) == to_ms(START)
