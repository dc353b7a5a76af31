"""Reads of the cloud's accounts that share a snapshot, and what its statements send: arrays, rows as text."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cloud.store.accounts import PostgresTables
from cloud.store.appending import copy_text
from cloud.store.arrays import BigintArray, UuidArray
from cloud.store.database import Database
from shared.accounts.facts import fact, set_fact
from shared.accounts.users import Job
from shared.errors import NotFound, StoreError

pytestmark = [pytest.mark.integration, pytest.mark.auth]


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url, pool_min=1, pool_max=4) as database:
        yield database


def snapshot_of(name: str) -> Job[tuple[str | None, int]]:
    """Return a fact, and a number that only the statements of one transaction have in common."""
    value = yield from fact(name)
    rows = yield "SELECT extract(epoch FROM transaction_timestamp()) * 1e6, ?::text", (name,)
    return value, int(rows[0][0])


def refused() -> Job[None]:
    yield from fact("before")
    raise NotFound("nobody")


def broken() -> Job[None]:
    yield "SELECT 1 / ?::int", (0,)


async def test_reads_that_come_at_once_share_snapshots_and_each_has_its_own_answer(database: Database) -> None:
    tables = PostgresTables(database)
    for n in range(20):
        await tables.write(set_fact(f"n{n}", str(n)))
    found = await asyncio.gather(*(tables.read(snapshot_of(f"n{n}")) for n in range(20)))
    assert [value for value, _ in found] == [str(n) for n in range(20)]
    assert len({number for _, number in found}) < 10


async def test_what_one_raises_or_the_database_refuses_is_told_to_who_asked_alone(database: Database) -> None:
    tables = PostgresTables(database)
    await tables.write(set_fact("a", "1"))
    reads = [tables.read(fact("a")), tables.read(refused()), tables.read(broken()), tables.read(fact("a"))]
    found = await asyncio.gather(*reads, *(tables.read(fact("a")) for _ in range(5)), return_exceptions=True)
    assert [each for each in found if not isinstance(each, Exception)] == ["1"] * 7
    assert isinstance(found[1], NotFound)
    assert isinstance(found[2], StoreError)


async def test_who_gives_up_waiting_takes_no_others_answer_with_him(database: Database) -> None:
    tables = PostgresTables(database)
    await tables.write(set_fact("a", "1"))
    asked = [asyncio.create_task(tables.read(fact("a"))) for _ in range(6)]
    await asyncio.sleep(0)
    for each in asked[::2]:
        each.cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [each for each in found if not isinstance(each, asyncio.CancelledError)] == ["1"] * 3


async def test_a_read_sees_what_was_committed_before_it_came(database: Database) -> None:
    tables = PostgresTables(database)

    async def write_then_read(n: int) -> bool:
        await tables.write(set_fact(f"own{n}", "yes"))
        return await tables.read(fact(f"own{n}")) == "yes"

    busy = [asyncio.create_task(tables.read(fact("anything"))) for _ in range(50)]
    assert all(await asyncio.gather(*(write_then_read(n) for n in range(20))))
    await asyncio.gather(*busy)


async def test_arrays_arrive_as_they_were_meant(database: Database) -> None:
    ids = [uuid.UUID(int=n * 2**120 + n) for n in range(3)]
    numbers = [0, 1, -1, 2**63 - 1, -(2**63)]
    async with database.snapshot() as connection:
        for some in (ids, []):
            cursor = await connection.execute("SELECT %s", (UuidArray([each.bytes for each in some]),))
            assert await cursor.fetchone() == (some,)
        cursor = await connection.execute(
            "SELECT %s", (BigintArray([n.to_bytes(8, "big", signed=True) for n in numbers]),)
        )
        assert await cursor.fetchone() == (numbers,)


async def test_rows_as_text_arrive_as_they_were(database: Database) -> None:
    drawn = random.Random(7)
    words = ["a", "", "\\", "\\N", "\\.", "tab\there", "line\nend\r", "\b\f\v", "Übung", None]
    numbers, floats = [0, 1, -1, 2**63 - 1, -(2**63), None], [0.5, -1e300, 1e-300, 3.0, 7, None]
    columns = {
        "n": [drawn.choice(numbers) for _ in range(300)],
        "x": [drawn.choice(floats) for _ in range(300)],
        "notes": [drawn.choice(words) for _ in range(300)],
        "link": [drawn.choice(("one", "other")) for _ in range(300)],
        "same": [5] * 300,
    }
    ids = sorted(uuid.UUID(int=drawn.getrandbits(128)) for _ in range(300))
    async with database.transaction() as connection:
        await connection.execute(
            "CREATE TEMP TABLE rows (id uuid, n bigint, x float8, notes text, link text, same int) ON COMMIT DROP"
        )
        async with connection.cursor().copy("COPY rows FROM STDIN") as copy:
            await copy.write(copy_text([each.bytes for each in ids], columns))
        found = await (await connection.execute("SELECT * FROM rows ORDER BY id")).fetchall()
    assert found == list(zip(ids, *columns.values(), strict=True))
