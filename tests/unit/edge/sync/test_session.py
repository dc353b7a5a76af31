"""A session with a cloud in memory, over a real store: what is sent in which order, and what goes wrong on the way."""

from __future__ import annotations

import hashlib
import random
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from edge.ops.verify_cloud import verify_cloud
from edge.store import outbox, unsent
from edge.store.accounts import SqliteTables
from edge.store.store import SpatialiteStore
from edge.sync.queue import StationQueue
from edge.sync.session import BLOB_PART_BYTES, sync_once
from edge.sync.synced import Synced
from shared.clock import ClockState
from shared.domain import NewFix
from shared.errors import BatchTooNew, Invalid, LinkError, NotFound, SyncError
from shared.privacy import OPERATOR, Principal, view_for
from shared.sync import blobs, clashes
from shared.sync import log as sync_log
from shared.sync.clashes import Clash
from shared.sync.operations import Operation
from shared.sync.records import to_ms
from shared.sync.streams import Batch, Receipt, StreamAnswer
from shared.wire.batch.container import RECORDS, pack
from shared.wire.link import MAX_CHANGES, Changes
from tests.fakes import START, FakeClock
from tests.unit.edge.sync.fake_cloud import InMemoryCloud

pytestmark = [pytest.mark.integration, pytest.mark.sync]

VIEW = view_for(OPERATOR)
ELEPHANT = {"name": "Saba", "species": "elephant", "gender": "female"}


async def enrol(store: SpatialiteStore) -> None:
    await store.write(
        lambda db: outbox.enrol(
            db, url="https://cloud.example", station_id="post-1", private_key=bytes(32), cloud_epoch="cloud-1",
            epoch="e1" * 8, now_ms=to_ms(START),
        )
    )  # fmt: skip


async def add(store: SpatialiteStore, count: int, first: int = 0, device: str = "K1", **said: Any) -> None:
    await store.add_fixes(
        VIEW,
        [
            NewFix(device=device, recorded_at=at, received_at=at, lon_deg=37.0, lat_deg=-2.0 - minute / 1e4, **said)
            for minute in range(first, first + count)
            for at in [START + timedelta(minutes=minute)]
        ],
    )


async def sync(store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock, **settings: Any) -> Synced:
    return await sync_once(store, cloud, clock, **settings)


def person_edits(cloud: InMemoryCloud, entity: Any, row_id: str, kind: Any, **columns: Any) -> None:
    made_ms = to_ms(START)
    identity = f"by hand {len(cloud.kept.log)}"
    cloud.edit(Operation(id=identity, entity=entity, row_id=row_id, kind=kind, made_ms=made_ms, columns=columns))


def puts(cloud: InMemoryCloud) -> list[str]:
    return [request[1] for request in cloud.requests if request[0] == "put"]


async def test_everything_goes_up_and_comes_down(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    person_edits(cloud, "animal", "a-cloud", "insert", **ELEPHANT)
    animal = await store.create_animal(VIEW, {**ELEPHANT, "name": "Echo", "collar_id": "K1"})
    await add(store, 7)
    heard: list[int] = []
    done = await sync(store, cloud, clock, batch_fixes=3, progress=heard.append)
    assert (done.records, done.fixes, done.batches, done.quarantined, done.healed) == (3, 7, 4, 0, 0)
    assert done.changes >= 1
    assert heard == [1, 4, 7, 10]  # the newest position, the records, the rest
    assert done.bytes_up == sum(len(batch.payload) for batch in cloud.payloads)
    assert len(cloud.kept.fixes) == 7
    assert cloud.kept.rows.living("animal", animal.id).columns["name"] == "Echo"
    assert (await store.animal(VIEW, "a-cloud")).name == "Saba"
    found = await verify_cloud(store, cloud)
    assert (found.fixes, found.matching, found.differences, found.waiting) == (7, 7, 0, 0)
    again = await sync(store, cloud, clock)
    assert (again.batches, again.changes) == (0, 0)


async def test_a_backlog_of_fixes_never_delays_a_record(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    await add(store, 6)
    await sync(store, cloud, clock)
    await add(store, 4, first=10)
    cloud.requests.clear()

    class Busy(InMemoryCloud):
        async def put_batch(self, batch: Any) -> Any:
            answer = await cloud.put_batch(batch)
            if puts(cloud) == ["newest", "fixes"]:
                await store.create_animal(VIEW, ELEPHANT)
            return answer

        async def changes(self, *given: Any, **more: Any) -> Changes:
            return await cloud.changes(*given, **more)

    await sync(store, Busy(), clock, batch_fixes=1)
    assert puts(cloud) == ["newest", "fixes", "records", "fixes", "fixes"]


@pytest.mark.parametrize("fault", ["lost", "unanswered"])
async def test_what_is_lost_on_the_way_is_sent_again_to_the_byte(
    fault: str, store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    await add(store, 3)
    cloud.faults.extend(["ok", fault])
    with pytest.raises(LinkError):
        await sync(store, cloud, clock)
    await add(store, 2, first=5)
    await sync(store, cloud, clock)
    sent = [batch for batch in cloud.payloads if batch.channel == "records"]
    assert len(set(sent)) == 1
    assert len(cloud.kept.fixes) == 5
    assert set(cloud.kept.applied.values()) == {1}


async def test_a_damaged_batch_is_sent_again_but_not_for_ever(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    await add(store, 3)
    cloud.faults.extend(["ok", "damaged", "ok"])
    assert (await sync(store, cloud, clock)).fixes == 3
    await add(store, 3, first=5)
    cloud.faults.extend(["ok", *["damaged"] * 9])
    with pytest.raises(LinkError, match="alters"):
        await sync(store, cloud, clock)
    assert len(cloud.faults) == 6
    cloud.faults.clear()
    assert (await sync(store, cloud, clock)).fixes == 3


async def test_a_restored_cloud_gets_back_what_it_lost(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    animal = await store.create_animal(VIEW, ELEPHANT)
    await add(store, 3)
    await sync(store, cloud, clock)
    old = cloud.backup()
    await store.update_animal(VIEW, animal.id, {"notes": "limps"})
    await add(store, 3, first=5)
    await sync(store, cloud, clock)
    cloud.restore(old, "cloud-2")
    done = await sync(store, cloud, clock)
    assert done.healed == 2
    assert len(cloud.kept.fixes) == 6
    assert cloud.kept.rows.living("animal", animal.id).columns["notes"] == "limps"
    assert (await store.animal(VIEW, animal.id)).notes == "limps"
    assert (await store.read(outbox.enrolled)).cloud_epoch == "cloud-2"


async def test_a_cloud_that_forgot_without_saying_so_is_found_out(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    old = cloud.backup()
    animal = await store.create_animal(VIEW, ELEPHANT)
    await add(store, 3)
    await sync(store, cloud, clock)
    cloud.restore(old)
    assert (await sync(store, cloud, clock)).healed == 2
    assert len(cloud.kept.fixes) == 3
    assert cloud.kept.rows.living("animal", animal.id)


async def test_a_station_that_was_put_back_begins_a_new_epoch(
    new_database: Path, tmp_path: Path, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    path, backup = Path(shutil.copy(new_database, tmp_path / "station.db")), tmp_path / "backup.db"
    store = SpatialiteStore(path, None, now=clock.now, readers=1)
    await enrol(store)
    await add(store, 3)
    await sync(store, cloud, clock)
    await store.close()
    shutil.copy(path, backup)
    store = SpatialiteStore(path, None, now=clock.now, readers=1)
    await add(store, 3, first=10)
    await sync(store, cloud, clock)
    await store.close()
    shutil.copy(backup, path)
    store = SpatialiteStore(path, None, now=clock.now, readers=1)
    await add(store, 3, first=20)
    done = await sync(store, cloud, clock, epochs=lambda: "e2" * 8)
    assert done.healed == 1
    assert (await store.read(outbox.enrolled)).epoch == "e2" * 8
    assert len(cloud.kept.fixes) == 9
    assert (await verify_cloud(store, cloud)).differences == 0
    await store.close()


async def test_two_copies_of_a_card_end_in_an_error_and_not_in_a_loop(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    await add(store, 3)

    class Twin(InMemoryCloud):
        """Every batch finds that another wrote its number."""

        async def put_batch(self, batch: Any) -> Any:
            cloud.kept.heads[batch.epoch, batch.channel] = type(batch.head)(batch.n, b"x" * 32)
            return await cloud.put_batch(batch)

        async def changes(self, *given: Any, **more: Any) -> Changes:
            return await cloud.changes(*given, **more)

    epochs = iter(f"{number:016x}" for number in range(1_000))
    with pytest.raises(SyncError, match="copy of this station's card"):
        await sync(store, Twin(), clock, epochs=lambda: next(epochs))


async def test_an_edit_that_waits_stays_on_top_of_what_comes_down(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    animal = await store.create_animal(VIEW, ELEPHANT)
    await sync(store, cloud, clock)
    person_edits(cloud, "animal", animal.id, "update", notes="cloud's", status="missing")
    await store.update_animal(VIEW, animal.id, {"notes": "station's", "weight": 2_900.0})
    with capture_logs() as said:
        done = await sync(store, cloud, clock)
    kept = await store.animal(VIEW, animal.id)
    assert (kept.notes, kept.weight, kept.status) == ("cloud's", 2_900.0, "missing")
    assert done.lost_edits == 1
    assert [each["columns"] for each in said if each["event"] == "sync.lost_edit"] == [["notes"]]


async def test_what_the_cloud_quarantines_is_told_once_and_blocks_nothing(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    await add(store, 2)
    await add(store, 1, device="K2")
    cloud.poison = {"K2"}
    with capture_logs() as said:
        done = await sync(store, cloud, clock)
        await sync(store, cloud, clock)
    assert (done.quarantined, done.fixes, len(cloud.kept.fixes)) == (2, 3, 2)
    told = [(each.get("collar_id"), each.get("id")) for each in said if each["event"] == "sync.quarantined"]
    assert told == [(None, "K2"), ("K2", None)]


async def test_what_the_cloud_quarantined_is_sent_again_when_a_person_says_so(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    await add(store, 1, device="K2")
    await store.create_animal(VIEW, {**ELEPHANT, "id": "a1"})
    cloud.poison = {"K2", "a1"}
    await sync(store, cloud, clock)
    queue = StationQueue(store)
    tables = SqliteTables(store)
    _, failed = await tables.read(sync_log.items(sync_log.EVERYBODY, "failed", 0, 10))
    assert {(each.data_type, each.error_message) for each in failed} == {
        ("animal", "poison"), ("collar", "poison"), ("tracking", "poison"),
    }  # fmt: skip
    for item in failed:
        assert (await queue.retry(item)).status == "syncing"
    assert (await queue.pending(sync_log.EVERYBODY, 0, 10)).count == 3
    await sync(store, cloud, clock)  # it is refused once more
    _, failed = await tables.read(sync_log.items(sync_log.EVERYBODY, "failed", 0, 10))
    assert [each.attempts for each in failed] == [2, 2, 2]
    cloud.poison = set()
    for item in failed:
        await queue.retry(item)
    await sync(store, cloud, clock)
    assert (await tables.read(sync_log.items(sync_log.EVERYBODY, "completed", 0, 10)))[0] == 3
    assert (len(cloud.kept.fixes), cloud.kept.rows.get("animal", "a1") is not None) == (1, True)
    count, sessions = await tables.read(sync_log.sessions(sync_log.EVERYBODY, 0, 10))
    assert (count, {each.path for each in sessions}, {each.failed for each in sessions}) == (3, {"session"}, {0, 3})


async def test_conflicts_come_down_once_and_their_resolution_after_them(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    found = Clash(
        id="c1", seq=1, kind="same_column", entity="animal", row_id="a1", ours="{}", theirs="{}", author="r1",
        origin="post-1", made_ms=1, noted_ms=1, needs_person=True,
    )  # fmt: skip
    cloud.conflicts = [found]
    done = [(await sync(store, cloud, clock)).conflicts for _ in range(2)]
    cloud.conflicts.append(replace(found, seq=2, status="resolved", resolution="keep_server"))
    done.append((await sync(store, cloud, clock)).conflicts)
    assert done == [1, 0, 1]
    job = clashes.page(sync_log.EVERYBODY, status=None, kind=None, entity=None, needs_person=True, offset=0, limit=5)
    count, (told,) = await SqliteTables(store).read(job)
    assert (count, told.status, told.is_from_above) == (1, "resolved", True)
    cloud.epoch = "cloud-2"  # a restored cloud counts anew
    assert (await sync(store, cloud, clock)).conflicts == 2


async def test_a_file_goes_up_in_parts_from_where_the_cloud_has_it(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    content = random.Random(2).randbytes(3 * BLOB_PART_BYTES + 5)
    name = hashlib.sha256(content).hexdigest()
    put = blobs.put(
        name, size=len(content), offset=0, part=content, media_type="image/jpeg", owner="r1", origin="", now_ms=1,
    )  # fmt: skip
    await SqliteTables(store).write(put)
    await add(store, 2)
    cloud.faults.extend(["ok"] * 6 + ["unanswered"])
    with pytest.raises(LinkError):
        await sync(store, cloud, clock)
    assert len(cloud.kept.fixes) == 2  # no fix waits for a photograph
    assert 0 < len(cloud.blobs[name]) < len(content)
    cloud.faults.extend(["ok"] * 2 + ["damaged"])
    assert (await sync(store, cloud, clock)).blobs == 1
    assert cloud.blobs[name] == content
    assert (await sync(store, cloud, clock)).blobs == 0


async def test_what_waits_is_told_and_a_ranger_sees_his_own(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    await add(store, 5)
    ranger = view_for(Principal(user_id="r1", role="ranger"))
    await store.create_observation(ranger, {"description": "tracks"})
    await store.create_animal(VIEW, {**ELEPHANT, "id": "a1"})
    cloud.faults.extend(["ok", "lost"])
    with pytest.raises(LinkError):
        await sync(store, cloud, clock)
    queue = StationQueue(store)
    waiting = await queue.pending(sync_log.EVERYBODY, 0, 10)
    assert waiting.results[0].status == "syncing"
    assert "tracking" in {each.data_type for each in waiting.results}
    await store.create_observation(ranger, {"description": "more"})
    own = await queue.pending(sync_log.Whose("r1", ()), 0, 10)
    assert [(each.data_type, each.user_id) for each in own.results] == [("observation", "r1")]


async def test_a_deployment_that_comes_a_page_before_its_collar_waits_for_it(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    person_edits(cloud, "animal", "a1", "insert", **ELEPHANT)
    worn = {"collar_id": "K1", "animal_id": "a1", "started_ms": 0}
    person_edits(cloud, "deployment", "d1", "insert", **worn)
    cloud.kept.log.remove(("collar", "K1"))
    cloud.kept.log.append(("collar", "K1"))
    cloud.page = 1
    assert (await sync(store, cloud, clock)).changes == 3
    assert (await store.animal(VIEW, "a1")).collar_id == "K1"


async def test_what_cannot_be_taken_down_keeps_nothing_from_going_up(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    person_edits(cloud, "animal", "a1", "insert", **ELEPHANT)
    person_edits(cloud, "deployment", "d1", "insert", collar_id="K1", animal_id="a1", started_ms=0)
    cloud.kept.log.remove(("collar", "K1"))
    await add(store, 3, device="K9")
    with pytest.raises(NotFound, match="no collar K1"):
        await sync(store, cloud, clock)
    assert len(cloud.kept.fixes) == 3


async def test_old_receipts_are_forgotten_only_on_a_sure_clock(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    for minute in range(3):
        await add(store, 1, first=minute)
        await sync(store, cloud, clock)

    async def kept() -> int:
        return int(
            await store.read(
                lambda db: db.execute("SELECT count(*) FROM batches WHERE channel = 'fixes'").fetchone()[0]
            )
        )

    clock.tick(200 * 86_400)
    clock.set_state(ClockState.HELD)
    await sync(store, cloud, clock)
    assert await kept() == 3
    clock.set_state(ClockState.GNSS)
    await sync(store, cloud, clock)
    assert await kept() == 1
    await add(store, 1, first=9)
    assert (await sync(store, cloud, clock)).healed == 0


# --- the comparison
async def test_a_comparison_finds_what_is_missing_other_and_anothers(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    await add(store, 5, rssi_dbm=-90.0)
    await sync(store, cloud, clock)
    first, second, third, *_ = sorted(cloud.kept.fixes)
    del cloud.kept.fixes[first]
    cloud.kept.fixes[second]["rssi_dbm"] = None
    cloud.kept.fixes[third] |= {"received_ms": 1, "battery_mv": 3600}  # another station heard it too
    cloud.kept.fixes[b"x" * 16] = {**cloud.kept.fixes[third], "raw_ms": 1}
    await add(store, 1, first=30)
    found = await verify_cloud(store, cloud)
    assert (found.fixes, found.matching, found.missing, found.differing) == (6, 3, 1, 1)
    assert (found.waiting, found.only_in_cloud, found.doubled, found.differences) == (1, 1, 0, 2)
    assert [line.split(":")[0] for line in found.examples] == ["differing", "missing"]
    assert found.examples[0].endswith("in rssi_dbm")


# --- answers that no cloud gives
async def test_numbers_that_no_database_holds_are_a_bad_link(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    class Mad(InMemoryCloud):
        async def changes(self, *given: Any, **more: Any) -> Changes:
            return msgspec.structs.replace(await cloud.changes(*given, **more), next=2**64 - 1)

    with pytest.raises(LinkError):
        await sync(store, Mad(), clock)


async def test_a_batch_that_the_cloud_is_too_old_for_waits_and_the_other_channels_go_on(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    await store.create_animal(VIEW, ELEPHANT)
    await add(store, 5)
    put = cloud.put_batch

    async def older(batch: Batch) -> Receipt | StreamAnswer:
        if batch.channel == "records":
            raise BatchTooNew("version 2, this program reads versions up to 1")
        return await put(batch)

    cloud.put_batch = older  # type: ignore[method-assign] # an older program
    for _ in range(2):  # a later session tries the same bytes again, and stops nobody either
        done = await sync(store, cloud, clock)
        assert done.held == ["records"] == (await store.read(outbox.backlog)).held
    assert len(cloud.kept.fixes) == 5
    waiting = await store.read(unsent.waiting)
    assert {channel: each.items for channel, each in waiting.items() if each.items} == {"records": 2}
    cloud.put_batch = put  # type: ignore[method-assign] # brought up to date
    done = await sync(store, cloud, clock)
    assert (done.held, done.records, done.quarantined) == ([], 2, 0)
    assert (await store.read(outbox.backlog)).held == []


async def test_what_a_later_cloud_sends_down_waits_there_and_fixes_still_go_up(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    person_edits(cloud, "animal", "a-cloud", "insert", **ELEPHANT)
    await add(store, 3)
    changes = cloud.changes

    async def later(epoch: str | None, since: int, limit: int = MAX_CHANGES) -> Changes:
        page = await changes(epoch, since, limit)
        return Changes(page.epoch, page.next, page.is_more, pack(RECORDS, 2, [b"of a later program"]))

    cloud.changes = later  # type: ignore[method-assign] # a later program
    with pytest.raises(BatchTooNew, match="version 2"):
        await sync(store, cloud, clock)
    assert len(cloud.kept.fixes) == 3
    cloud.changes = changes  # type: ignore[method-assign] # this one brought up to date
    await sync(store, cloud, clock)
    assert (await store.animal(VIEW, "a-cloud")).name == "Saba"


async def test_a_cloud_of_before_a_channel_was_holds_it_and_nothing_else(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock
) -> None:
    await store.create_animal(VIEW, ELEPHANT)
    await store.write(lambda db: db.execute("INSERT INTO computed (animal_pk, missing) VALUES (1, '{}')"))
    put = cloud.put_batch

    async def older(batch: Batch) -> Receipt | StreamAnswer:
        if batch.channel == "results":
            raise Invalid("channel: must be one of alerts, newest, records, fixes, flags")
        return await put(batch)

    cloud.put_batch = older  # type: ignore[method-assign] # an older program
    done = await sync(store, cloud, clock)
    assert (done.held, done.records) == (["results"], 1)
    cloud.put_batch = put  # type: ignore[method-assign] # brought up to date
    done = await sync(store, cloud, clock)
    assert (done.held, done.results, done.outcomes) == ([], 1, {"applied": 1})


def test_what_sessions_did_adds_up_in_every_count() -> None:
    one = Synced(
        records=1, fixes=2, decisions=3, results=4, frames=5, batches=6, outcomes={"applied": 7}, quarantined=8,
        lost_edits=9, changes=10, conflicts=11, heard=12, new_fixes=13, told=14, healed=15, blobs=16, bytes_up=17,
        bytes_down=18, duration_s=19.5,
    )  # fmt: skip
    total = Synced(outcomes={"applied": 1, "merged": 1})
    total.add(one)
    total.add(one)
    facts, given = msgspec.to_builtins(total), msgspec.to_builtins(one)
    assert facts.pop("outcomes") == {"applied": 15, "merged": 1}
    kept = {"outcomes", "held", "is_spent", "has_more"}
    assert {name: facts[name] for name in given.keys() - kept} == {
        name: 2 * given[name] for name in given.keys() - kept
    }
    assert all(given[name] for name in given.keys() - kept), "a count that this test does not give"
