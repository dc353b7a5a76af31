"""Programs of different ages: the cloud takes its own version of records and the two before, and answers in theirs.

No record has changed its shape so far, so the history here is invented: what this program calls ``gender`` was ``sex``
in version 1; nobody knew of weights before version 3, nor of corridors before version 4.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from cloud.sync.uplink import Uplink
from edge.store import outbox
from edge.store.store import SpatialiteStore
from shared.errors import BatchTooNew, BatchTooOld, Invalid
from shared.sync.decisions import Decision
from shared.sync.operations import Operation
from shared.sync.records import ANIMAL, Record
from shared.sync.streams import GENESIS, Batch, Receipt
from shared.wire.batch import FixColumns, decode_fixes, decode_records, encode_fixes, encode_records
from shared.wire.batch.columns import Column, read_columns, write_columns
from shared.wire.batch.container import FIXES as CONTAINER_OF_FIXES
from shared.wire.batch.container import RECORDS, pack, unpack
from shared.wire.batch.fixes import FIX_LADDER
from shared.wire.batch.schema import ColumnLadder, ColumnStep, Ladder, Plain, Step
from tests.clouds import EPOCH, START_MS, VIEW, Cloud, operation, serving, wipe
from tests.fakes import FakeClock

pytestmark = [pytest.mark.integration, pytest.mark.sync]


def renamed(of: str, to: str) -> Any:
    def step(record: Plain) -> Plain:
        columns = {to if name == of else name: value for name, value in record["columns"].items()}
        return {**record, "columns": columns}

    return step


def without(column: str) -> Any:
    def step(record: Plain) -> Plain:
        return {**record, "columns": {name: value for name, value in record["columns"].items() if name != column}}

    return step


def as_it_is(record: Plain) -> Plain:
    return record


LADDER: Final = Ladder(
    [
        Step(up=renamed("sex", "gender"), down=renamed("gender", "sex")),
        Step(up=as_it_is, down=without("weight")),
        Step(up=as_it_is, down=lambda record: None if record["entity"] == "corridor" else record),
    ]
)
#: The same history one version earlier, when version 1 was still spoken.
EARLIER: Final = Ladder(
    [
        Step(up=renamed("sex", "gender"), down=renamed("gender", "sex")),
        Step(up=as_it_is, down=without("weight")),
    ]
)


@pytest.fixture
async def cloud(database_url: str) -> AsyncIterator[Cloud]:
    """Give an empty cloud."""
    wipe(database_url)
    async with serving(database_url) as cloud:
        yield cloud


def old(version: int, *plain: Plain) -> bytes:
    """Return operations as a program of ``version`` wrote them."""
    return pack(RECORDS, version, [msgspec.msgpack.encode(list(plain))])


def plain(payload: bytes) -> tuple[int, list[Plain]]:
    """Return the version of a batch and what a program of that version reads in it."""
    version, (section,) = unpack(payload, RECORDS, 9)
    return version, msgspec.msgpack.decode(section)


def read(payload: bytes) -> list[Record]:
    return decode_records(payload, Record, EARLIER)


def said(row_id: str, **columns: Any) -> Plain:
    return {
        "id": f"op-{row_id}", "entity": "animal", "row_id": row_id, "kind": "insert", "made_ms": START_MS,
        "columns": {"name": row_id, "species": "elephant", **columns},
    }  # fmt: skip


async def test_what_stations_of_the_last_versions_bring_is_raised_and_answered_in_their_own(cloud: Cloud) -> None:
    cloud.station("post-1")
    uplink = Uplink(cloud.store, now=cloud.clock.now, ladder=EARLIER)
    head = GENESIS
    for version, columns in ((1, {"sex": "female"}), (2, {"gender": "male"}), (3, {"gender": "male", "weight": 9.0})):
        batch = Batch(EPOCH, "records", head.n + 1, head.hash, old(version, said(f"of-{version}", **columns)))
        answer = await uplink.take("post-1", batch, batch.hash)
        assert isinstance(answer, bytes)
        assert msgspec.msgpack.decode(answer, type=Receipt).counts == {"applied": 1}
        head = batch.head
    assert [
        ((animal := await cloud.store.animal(VIEW, f"of-{version}")).gender, animal.weight) for version in (1, 2, 3)
    ] == [("female", None), ("male", None), ("male", 9.0)]

    for version, name, has_weight in ((1, "sex", False), (2, "gender", False), (3, "gender", True)):
        page = await uplink.changes("post-1", None, 0, 100, version)
        told, records = plain(page.batch)
        assert told == version
        assert {record["id"] for record in records} == {"of-1", "of-2", "of-3"}
        for record in records:
            assert (name in record["columns"], "weight" in record["columns"]) == (True, has_weight)


async def test_a_kind_that_an_older_program_does_not_know_is_left_out_for_it(cloud: Cloud) -> None:
    cloud.station("post-1")
    uplink = Uplink(cloud.store, now=cloud.clock.now, ladder=LADDER)
    await cloud.store.create_corridor(
        VIEW, {"name": "Pass", "geometry": '{"type":"LineString","coordinates":[[37.0,-2.0],[37.1,-2.0]]}'}
    )
    page = await uplink.changes("post-1", None, 0, 100, 3)
    assert plain(page.batch) == (3, [])
    (corridor,) = plain((await uplink.changes("post-1", None, 0, 100, 4)).batch)[1]
    assert corridor["columns"]["name"] == "Pass"


async def test_a_version_three_behind_is_held_and_told_and_nothing_of_it_is_put_aside(cloud: Cloud) -> None:
    cloud.station("post-1")
    uplink = Uplink(cloud.store, now=cloud.clock.now, ladder=LADDER)
    batch = Batch(EPOCH, "records", 1, GENESIS.hash, old(1, said("left-behind", sex="female")))
    with pytest.raises(BatchTooOld, match="version 1"):
        await uplink.take("post-1", batch, batch.hash)
    with pytest.raises(BatchTooOld):
        await uplink.changes("post-1", None, 0, 100, 1)
    with pytest.raises(BatchTooNew):
        await uplink.take("post-1", later := Batch(EPOCH, "records", 1, GENESIS.hash, old(5, said("x"))), later.hash)
    assert (cloud.count("quarantine"), cloud.count("receipts"), cloud.count("animals")) == (0, 0, 0)


async def test_what_no_program_of_that_version_wrote_is_put_aside_and_stops_nobody(cloud: Cloud) -> None:
    cloud.station("post-1")
    uplink = Uplink(cloud.store, now=cloud.clock.now, ladder=EARLIER)
    batch = Batch(EPOCH, "records", 1, GENESIS.hash, old(1, {"entity": "animal", "columns": 7}))
    answer = await uplink.take("post-1", batch, batch.hash)
    assert isinstance(answer, bytes)
    assert msgspec.msgpack.decode(answer, type=Receipt).counts == {"quarantined": 1}


async def test_over_http_a_station_that_names_no_version_is_of_the_first(cloud: Cloud) -> None:
    station = cloud.station("post-1")
    await cloud.store.create_animal(VIEW, {"name": "Saba", "species": "elephant"})
    answer = await station.send("GET", "/changes", "since=0")
    assert answer.status_code == 200
    answer = await station.send("GET", "/changes", "since=0&schema=0")
    assert answer.status_code == 400


def test_down_and_up_again_is_the_same_where_both_know_it() -> None:
    record = Record(
        entity="animal", id="A", columns={**ANIMAL.columns, "name": "N", "species": "lion", "weight": 4.0},
        created_ms=1, updated_ms=2,
    )  # fmt: skip
    for version in (1, 2, 3):
        (back,) = read(encode_records([record], version, EARLIER))
        known = {**record.columns, **({} if version == 3 else {"weight": None})}
        assert {**ANIMAL.columns, **back.columns} == known
    decision = Decision(id="d", collar_id="K", raw_ms=1, lon_e7=2, lat_e7=3, is_excluded=True)
    assert decode_records(encode_records([decision], 1, EARLIER), Decision, EARLIER) == [decision]
    with pytest.raises(BatchTooOld):
        encode_records([record], 1, LADDER)
    with pytest.raises(Invalid):
        decode_records(old(2, {"entity": "animal"}), Record, LADDER)


async def test_a_station_that_was_brought_up_to_date_raises_what_waits_and_takes_every_record_anew(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    store = SpatialiteStore(tmp_path / "station.db", None, now=clock.now, readers=1)
    try:
        await store.write(
            lambda db: outbox.enrol(
                db, url="http://127.0.0.1", station_id="post-1", private_key=b"", cloud_epoch="c1", epoch="e1", now_ms=0
            )
        )
        theirs = Record(
            entity="animal", id="theirs", columns={**ANIMAL.columns, "name": "T", "species": "lion"}, rev=4,
            created_ms=1, updated_ms=1,
        )  # fmt: skip
        await store.take_changes("c1", 9, [theirs])
        body = msgspec.msgpack.encode(said("waits", sex="female"))
        await store.write(
            lambda db: db.execute(
                "INSERT INTO outbox (entity, first_pk, last_pk, operation, body) VALUES ('animal', 0, 0, 'insert', ?)",
                (body,),
            )
        )
        await store.write(lambda db: outbox.begin_schema(db, EARLIER))
        assert await store.read(outbox.schema) == EARLIER.newest
        here = await store.read(outbox.enrolled)
        assert (here.cloud_epoch, here.cursor) == ("c1", 0)
        weighed = msgspec.structs.replace(theirs, columns={**theirs.columns, "weight": 7.0})  # at the same revision
        assert await store.take_changes("c1", 9, [weighed]) == 1
        assert (await store.animal(VIEW, "theirs")).weight == 7.0
        (kept,) = await store.read(lambda db: db.execute("SELECT body FROM outbox WHERE body IS NOT NULL").fetchone())
        assert msgspec.msgpack.decode(kept, type=Operation).columns["gender"] == "female"
        await store.write(lambda db: outbox.begin_schema(db, EARLIER))  # once
        assert (await store.read(outbox.enrolled)).cursor == 9
    finally:
        await store.close()


def test_an_operation_of_this_version_is_read_without_a_step() -> None:
    made = operation("animal", "A", {"name": "N"})
    assert decode_records(encode_records([made]), Operation) == [made]


# --- fixes

#: An invented history of fixes: version 2 told of a mount, version 3 gives its batteries in tenths of a volt.
_FIRST: Final = FIX_LADDER.table(1)
_SECOND: Final = msgspec.structs.replace(_FIRST, columns=(*_FIRST.columns, Column("mount", "text")))
_THIRD: Final = msgspec.structs.replace(_SECOND, columns=(*_SECOND.columns, Column("battery_dv", "integer")))


def _on_the_neck(columns: FixColumns) -> FixColumns:
    return {**columns, "mount": ["neck"] * len(columns["raw_ms"])}


def _with_volts(columns: FixColumns) -> FixColumns:
    values = [None if value is None else value // 100 for value in columns["battery_mv"]]
    return {**columns, "battery_dv": values}


def _lacking(name: str) -> Any:
    return lambda columns: {each: values for each, values in columns.items() if each != name}


FIXES: Final = ColumnLadder(
    _FIRST,
    [
        ColumnStep(_SECOND, up=_on_the_neck, down=_lacking("mount")),
        ColumnStep(_THIRD, up=_with_volts, down=_lacking("battery_dv")),
    ],
)
LATER_FIXES: Final = ColumnLadder(
    _FIRST,
    [
        ColumnStep(_SECOND, up=lambda columns: columns, down=_lacking("mount")),
        ColumnStep(_THIRD, up=lambda columns: columns, down=_lacking("battery_dv")),
        ColumnStep(_THIRD, up=lambda columns: columns, down=lambda columns: columns),
    ],
)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_fixes_of_the_last_versions_are_raised_and_lowered_step_by_step(version: int) -> None:
    said: dict[str, list[Any]] = {"collar_id": ["K1", "K1"], "raw_ms": [1, 2], "battery_mv": [3_712, None]}
    if version >= 2:
        said["mount"] = ["ear", None]
    if version >= 3:
        said["battery_dv"] = [40, 41]
    written = pack(CONTAINER_OF_FIXES, version, write_columns(FIXES.table(version), said))
    read_again = decode_fixes(written, FIXES)
    assert read_again["battery_mv"] == [3_712, None]
    assert read_again["mount"] == (["neck", "neck"] if version == 1 else ["ear", None])
    assert read_again["battery_dv"] == ([40, 41] if version == 3 else [37, None])
    lowered = encode_fixes(read_again, version, FIXES)
    assert unpack(lowered, CONTAINER_OF_FIXES, 9)[0] == version
    read_once_more = read_columns(FIXES.table(version), *unpack(lowered, CONTAINER_OF_FIXES, 9)[1])
    assert {name: read_once_more[name] for name in said} == said
    assert read_once_more.keys() == {column.name for column in FIXES.table(version).columns}


def test_fixes_of_a_version_three_behind_are_refused_and_of_a_later_program_wait() -> None:
    first = encode_fixes({"collar_id": ["K1"], "raw_ms": [1]})
    with pytest.raises(BatchTooOld, match="version 1 of fixes"):
        decode_fixes(first, LATER_FIXES)
    with pytest.raises(BatchTooOld):
        encode_fixes({"collar_id": ["K1"], "raw_ms": [1]}, 1, LATER_FIXES)
    with pytest.raises(BatchTooNew):
        decode_fixes(encode_fixes({"collar_id": ["K1"], "raw_ms": [1]}, 4, LATER_FIXES), FIXES)


async def test_fixes_of_an_older_station_are_taken_and_it_is_answered_in_its_own_version(cloud: Cloud) -> None:
    cloud.station("post-1")
    ladder = ColumnLadder(_FIRST, [ColumnStep(_SECOND, up=_lacking("mount"), down=_lacking("mount"))])
    uplink = Uplink(cloud.store, now=cloud.clock.now, fix_ladder=ladder)
    columns: FixColumns = {"collar_id": ["K1"], "raw_ms": [START_MS], "received_ms": [START_MS], "lon_e7": [370000000],
                           "lat_e7": [-20000000]}  # fmt: skip
    batch = Batch(EPOCH, "fixes", 1, GENESIS.hash, encode_fixes(columns))
    answer = await uplink.take("post-1", batch, batch.hash)
    assert isinstance(answer, bytes)
    assert msgspec.msgpack.decode(answer, type=Receipt).counts == {"applied": 1}
    for schema in (1, 2):
        page = await uplink.fixes("post-1", "K1", None, 10, schema)
        version, sections = unpack(page.batch, CONTAINER_OF_FIXES, 9)
        assert version == schema
        assert read_columns(ladder.table(version), *sections)["raw_ms"] == [START_MS]


async def test_a_station_that_reads_a_later_version_of_fixes_takes_those_from_above_once_more(tmp_path: Path) -> None:
    store = SpatialiteStore(tmp_path / "station.db", None, now=FakeClock().now)
    try:
        await store.write(
            lambda db: outbox.enrol(
                db, url="https://cloud.example.org", station_id="post-1", private_key=bytes(32), cloud_epoch="life",
                epoch=EPOCH, now_ms=START_MS,
            )
        )  # fmt: skip
        await store.write(lambda db: outbox.set_heard(db, "life", 7, "ab" * 16))
        await store.write(lambda db: outbox.begin_fixes_schema(db, FIX_LADDER))  # the version that it speaks already
        assert (await store.read(outbox.enrolled)).heard_cursor == 7
        await store.write(lambda db: outbox.begin_fixes_schema(db, FIXES))
        assert ((await store.read(outbox.enrolled)).heard_cursor, await store.read(outbox.fixes_schema)) == (0, 3)
        await store.write(lambda db: outbox.set_heard(db, "life", 9, None))
        await store.write(lambda db: outbox.begin_fixes_schema(db, FIXES))  # once
        assert (await store.read(outbox.enrolled)).heard_cursor == 9
    finally:
        await store.close()
