"""The cloud's store beside itself: months made on demand, writers at once, numbers in the order of commits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from cloud.store import feed
from cloud.store.database import Connection, Database
from cloud.store.fixes import FixWriter
from cloud.store.partitions import Partitions, month_of
from cloud.store.records import Noted, note
from cloud.store.store import PostgresStore
from shared.domain import Fix, FixFlag, NewFix
from shared.errors import Conflict, NotFound, StoreError
from shared.ids import fix_id, id_text
from shared.store import FixQuery
from shared.sync.records import to_ms
from tests.clouds import VIEW, ask, wipe
from tests.fakes import START
from tests.memory_store import InMemoryStore
from tests.services import Postgres

pytestmark = [pytest.mark.integration, pytest.mark.sync, pytest.mark.asyncio(loop_scope="module")]

HOUR = timedelta(hours=1)
WRITERS = 16


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    """Give one database to all tests here; each finds it empty."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(url: str) -> AsyncIterator[Database]:
    async with Database.open(url, pool_min=2, pool_max=WRITERS + 4) as database:
        yield database


@pytest_asyncio.fixture(loop_scope="module")
async def store(url: str, database: Database) -> AsyncIterator[PostgresStore]:
    """Give an empty store; when the test is over its counters must agree with its rows."""
    wipe(url)
    yield PostgresStore(database, now=lambda: START)
    counted, rows, last, lines, newest = ask(
        url,
        "SELECT (SELECT value FROM counters WHERE name = 'fixes'), (SELECT count(*) FROM fixes),"
        " (SELECT value FROM counters WHERE name = 'change'), (SELECT count(*) FROM changes),"
        " (SELECT coalesce(max(seq), 0) FROM changes)",
    )[0]
    assert counted == rows
    assert last == lines == newest
    outside = ask(
        url,
        "SELECT count(*) FROM fixes f JOIN collars c ON c.pk = f.collar_pk WHERE c.first_fix_ms IS NULL"
        " OR f.recorded_ms NOT BETWEEN c.first_fix_ms AND c.last_fix_ms OR (f.recorded_ms <> f.raw_ms AND NOT"
        " c.has_rolled)",
    )
    assert outside == [(0,)]


def fix_of(at: datetime = START, device: str = "K1", *, lon: float = 37.5, lat: float = -2.5, **fields: Any) -> NewFix:
    """Return a fix that was received as it was recorded, unless ``fields`` say otherwise."""
    said: dict[str, Any] = {"device": device, "recorded_at": at, "received_at": at, "lon_deg": lon, "lat_deg": lat}
    return NewFix(**{**said, **fields})


async def all_fixes(store: PostgresStore | InMemoryStore, **query: Any) -> list[Fix]:
    page = await store.fixes(VIEW, FixQuery(ordering="timestamp", limit=100_000, **query))
    assert len(page.results) == page.count
    return sorted(page.results, key=lambda fix: fix.id)


# --- months ---------------------------------------------------------------------------------------------------------


def partitions(url: str) -> set[str]:
    found = ask(url, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'fixes'::regclass")
    return {name for (name,) in found}


def months_from(year: int, n: int) -> list[int]:
    """Return an instant in each of ``n`` months, the first and the last millisecond of months among them."""
    found = []
    for number in range(n):
        first = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
        found += [to_ms(first) - 1, to_ms(first), to_ms(first) + 86_400_000 * 14]
    return found


async def test_a_month_is_made_when_its_first_fix_comes_with_every_index(store: PostgresStore, url: str) -> None:
    before = partitions(url)
    await store.add_fixes(
        VIEW, [fix_of(datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC)), fix_of(datetime(2032, 1, 1, tzinfo=UTC))]
    )
    assert partitions(url) - before == {"fixes_2031_12", "fixes_2032_01"}
    assert ask(url, "SELECT tableoid::regclass::text FROM fixes ORDER BY id") == [
        ("fixes_2031_12",),
        ("fixes_2032_01",),
    ]
    of_parent = ask(url, "SELECT count(*) FROM pg_index WHERE indrelid = 'fixes'::regclass")
    assert of_parent == ask(
        url, "SELECT count(*) FROM pg_index WHERE indisvalid AND indrelid = 'fixes_2032_01'::regclass"
    )


async def test_two_stores_that_need_the_same_months_at_once_make_each_once(url: str, store: PostgresStore) -> None:
    async with AsyncExitStack() as stack:
        pools = [await stack.enter_async_context(Database.open(url, pool_min=1, pool_max=2)) for _ in range(3)]
        wanted = months_from(2036, 14)
        await asyncio.gather(*(Partitions(pool).ensure(wanted) for pool in pools for _ in range(2)))
    made = {name for name in partitions(url) if name.startswith(("fixes_2035", "fixes_2036", "fixes_2037"))}
    assert made == {"fixes_2035_12", *(f"fixes_2036_{n:02}" for n in range(1, 13)), "fixes_2037_01", "fixes_2037_02"}


async def test_a_month_is_made_while_others_write_and_read(url: str, store: PostgresStore) -> None:
    await store.add_fixes(VIEW, [fix_of()])
    async with store.database.transaction() as writer, store.database.snapshot() as reader:
        await FixWriter(writer, 0).add([fix_of(START + HOUR)])
        await reader.execute("SELECT count(*) FROM fixes")
        await asyncio.wait_for(store.partitions.ensure([to_ms(datetime(2040, 5, 1, tzinfo=UTC))]), 120)
        await note(writer, [], new_fixes=1)
    assert "fixes_2040_05" in partitions(url)


async def test_fixes_of_the_ends_of_time_have_their_place(store: PostgresStore, url: str) -> None:
    ends = {
        datetime(1, 1, 1, tzinfo=UTC): "fixes_before_2000",
        datetime(1970, 1, 1, tzinfo=UTC): "fixes_before_2000",
        datetime(1999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC): "fixes_before_2000",
        datetime(2000, 1, 1, tzinfo=UTC): "fixes_2000_01",
        datetime(2049, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC): "fixes_2049_12",
        datetime(2050, 1, 1, tzinfo=UTC): "fixes_from_2050",
        datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC): "fixes_from_2050",
    }  # fmt: skip
    added = await store.add_fixes(VIEW, [fix_of(at, received_at=START) for at in ends])
    found = {str(identity): table for identity, table in ask(url, "SELECT id, tableoid::regclass::text FROM fixes")}
    assert [found[each.id] for each in added] == list(ends.values())
    assert {fix.raw_recorded_at for fix in await all_fixes(store)} == set(ends)
    again = await store.add_fixes(VIEW, [fix_of(at, received_at=START) for at in ends])
    assert {each.outcome for each in again} == {"duplicate"}


async def test_every_day_has_the_month_that_the_calendar_says() -> None:
    for ms in (*months_from(2000, 24), *months_from(2049, 12)):
        instant = datetime.fromtimestamp(ms / 1000, UTC)
        inside = 2000 <= instant.year < 2050
        assert month_of(ms) == ((instant.year, instant.month) if inside else None)


async def test_a_lookup_by_id_asks_one_month(store: PostgresStore, url: str) -> None:
    added = await store.add_fixes(VIEW, [fix_of(START + timedelta(days=31 * n)) for n in range(6)])
    plan = "\n".join(line for (line,) in ask(url, f"EXPLAIN SELECT * FROM fixes WHERE id = '{added[3].id}'"))
    assert "fixes_2026_09" in plan
    assert plan.count(" on fixes_2") == 1


async def test_a_place_is_a_geometry_where_there_is_one_on_the_globe(store: PostgresStore, url: str) -> None:
    nowhere: dict[str, Any] = {"lon_deg": None, "lat_deg": None}
    await store.add_fixes(VIEW, [
        fix_of(lon=180.0, lat=-90.0), fix_of(START + HOUR, lon=37.1234567, lat=-2.7654321),
        fix_of(lon=180.0000001, lat=0.0), fix_of(lon=0.0, lat=90.0000001), fix_of(**nowhere),
    ])  # fmt: skip
    found = ask(url, "SELECT ST_X(geom), ST_Y(geom), ST_SRID(geom), lon_e7, lat_e7 FROM fixes WHERE geom IS NOT NULL")
    assert sorted((round(x * 1e7), round(y * 1e7), srid) for x, y, srid, *_ in found) == [
        (371_234_567, -27_654_321, 4326), (1_800_000_000, -900_000_000, 4326),
    ]  # fmt: skip
    assert ask(url, "SELECT count(*) FROM fixes WHERE geom IS NULL") == [(3,)]
    people = ask(
        url, "SELECT collar_id, lon_deg, recorded_at FROM tracking WHERE geom IS NOT NULL ORDER BY recorded_at"
    )
    assert people == [("K1", 180, START), ("K1", people[1][1], START + HOUR)]


# --- at once --------------------------------------------------------------------------------------------------------


def walk(n: int, seed: int) -> list[NewFix]:
    """Return fixes of one collar, hurried ones, copies and jumps among them."""
    rng = random.Random(seed)
    found = []
    for number in range(n):
        at = START + timedelta(minutes=5 * number)
        lon, lat = 37.5 + number * 1e-3, -2.5
        if rng.random() < 0.15:
            lon += rng.choice([0.5, 5.0])
        found.append(fix_of(at, lon=lon, lat=lat, seq=number, hdop=rng.choice([1.0, 2.0, None])))
        if rng.random() < 0.2:
            found.append(fix_of(at, lon=round(lon, 3), lat=lat))
    rng.shuffle(found)
    return found


def shares(fixes: Sequence[NewFix], n: int) -> list[list[NewFix]]:
    return [list(fixes[start::n]) for start in range(n)]


@pytest.mark.parametrize("seed", range(3))
async def test_batches_about_one_collar_at_once_judge_their_union(store: PostgresStore, seed: int) -> None:
    fixes = walk(60, seed)
    memory = InMemoryStore(lambda: START)
    await memory.add_fixes(VIEW, fixes)
    await asyncio.gather(*(store.add_fixes(VIEW, some) for some in shares(fixes, 8)))
    assert await all_fixes(store) == await all_fixes(memory)
    assert any(fix.flags for fix in await all_fixes(store))


async def test_batches_about_the_same_new_collars_in_any_order_come_to_an_end(store: PostgresStore) -> None:
    names = [f"K{n}" for n in range(12)]
    batches = []
    for seed in range(8):
        rng = random.Random(seed)
        rng.shuffle(names)
        batches.append([fix_of(START + timedelta(seconds=seed), device) for device in names])
    added = await asyncio.wait_for(asyncio.gather(*(store.add_fixes(VIEW, batch) for batch in batches)), 120)
    assert {each.outcome for some in added for each in some} == {"new"}
    assert len(await all_fixes(store)) == 12 * 8


async def test_deployments_entered_at_once_never_overlap(store: PostgresStore) -> None:
    for name in ("a", "b", "c"):
        await store.create_animal(VIEW, {"id": name, "name": name, "species": "elephant"})

    async def enter(number: int) -> bool:
        rng = random.Random(number)
        started_at = START + timedelta(hours=rng.randrange(24))
        columns = {
            "animal_id": rng.choice("abc"), "collar_id": rng.choice(["K1", "K2"]), "started_at": started_at,
            "ended_at": started_at + timedelta(hours=rng.randrange(1, 6)),
        }  # fmt: skip
        try:
            await store.create_deployment(VIEW, columns)
        except Conflict:
            return False
        return True

    outcomes = await asyncio.gather(*(enter(number) for number in range(40)))
    assert True in outcomes
    assert False in outcomes
    worn = (await store.deployments(VIEW, animal_id=None, collar_id=None, offset=0, limit=100)).results
    assert len(worn) == sum(outcomes)
    for one in worn:
        for other in worn:
            if one.id < other.id and (one.collar_id == other.collar_id or one.animal_id == other.animal_id):
                assert one.ended_at is not None and other.ended_at is not None  # noqa: PT018  one claim
                assert one.ended_at <= other.started_at or other.ended_at <= one.started_at


async def test_a_deployment_entered_while_fixes_stream_in_leaves_none_behind(store: PostgresStore) -> None:
    await store.create_animal(VIEW, {"id": "a", "name": "Alpha", "species": "elephant"})
    fixes = walk(120, 7)
    streams = [store.add_fixes(VIEW, some) for some in shares(fixes, 20)]
    deployment = store.create_deployment(VIEW, {
        "id": "d", "animal_id": "a", "collar_id": "K1", "started_at": START + HOUR, "ended_at": START + 3 * HOUR,
    })  # fmt: skip
    await asyncio.gather(*streams[:10], deployment, *streams[10:])
    found = await all_fixes(store)
    for fix in found:
        is_worn = START + HOUR <= fix.recorded_at < START + 3 * HOUR
        assert fix.animal_id == ("a" if is_worn else None)
    memory = InMemoryStore(lambda: START)
    await memory.create_animal(VIEW, {"id": "a", "name": "Alpha", "species": "elephant"})
    await memory.create_deployment(VIEW, {
        "id": "d", "animal_id": "a", "collar_id": "K1", "started_at": START + HOUR, "ended_at": START + 3 * HOUR,
    })  # fmt: skip
    await memory.add_fixes(VIEW, fixes)
    assert found == await all_fixes(memory)


async def test_a_collar_renamed_while_it_is_heard_keeps_every_fix(store: PostgresStore) -> None:
    fixes = [fix_of(START + timedelta(minutes=n), "eui:01") for n in range(60)]
    streams = [store.add_fixes(VIEW, some) for some in shares(fixes, 12)]
    await asyncio.gather(*streams[:6], store.put_collar(VIEW, "K1", {"aliases": ["eui:01"]}), *streams[6:])
    assert {fix.collar_id for fix in await all_fixes(store)} == {"K1"}
    assert len(await all_fixes(store)) == 60


async def until_waiting(url: str, n: int = 1, *, unless: Callable[[], bool] = lambda: False) -> None:
    """Wait until ``n`` connections to this database wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(120):
        while ask(url, waiting) < [(n,)] and not unless():  # noqa: ASYNC110  another process is waited for
            await asyncio.sleep(0.01)


async def test_what_a_person_decides_of_a_fix_outlives_a_batch_that_judges_it(store: PostgresStore, url: str) -> None:
    """The person decides when the batch has read the flags and has not yet written what it made of them."""
    jump, after = fix_of(START + HOUR, lon=39.0), fix_of(START + HOUR)
    await store.add_fixes(VIEW, [fix_of()])
    (added,) = await store.add_fixes(VIEW, [jump])
    identity = id_text(fix_id("K1", to_ms(after.recorded_at), 375_000_000, -25_000_000))
    async with store.database.transaction() as connection:
        # the same row, never committed: whoever brings it waits for us before it writes
        await connection.execute(
            "INSERT INTO fixes (id, collar_pk, recorded_ms, raw_ms, received_ms, flags, source)"
            " VALUES (%s, 0, 0, 0, 0, 0, '')",
            (identity,),
        )
        batch = asyncio.create_task(store.add_fixes(VIEW, [after]))
        await until_waiting(url)
        person = asyncio.create_task(store.flag_fix(VIEW, added.id, is_excluded=True))
        await until_waiting(url, 2, unless=person.done)
        await connection.execute("DELETE FROM fixes WHERE id = %s", (identity,))
    await batch
    await person
    memory = InMemoryStore(lambda: START)
    await memory.add_fixes(VIEW, [fix_of(), jump, after])
    await memory.flag_fix(VIEW, added.id, is_excluded=True)
    assert await all_fixes(store) == await all_fixes(memory)
    flags = (await store.fix(VIEW, added.id)).flags
    assert flags == FixFlag.EXCLUDED_BY_HAND | FixFlag.POSITION_DISAGREEMENT  # what both said


async def test_a_fix_that_is_not_there_cannot_be_decided_of(store: PostgresStore) -> None:
    with pytest.raises(NotFound):
        await store.flag_fix(VIEW, id_text(bytes(16)), is_excluded=True)


# --- the change log -------------------------------------------------------------------------------------------------

Number = Callable[[Connection, Sequence[Noted]], Awaitable[int]]
_LINE = Noted("animal", "a", "update")


async def by_counter(connection: Connection, lines: Sequence[Noted]) -> int:
    return await note(connection, lines)


async def by_sequence(connection: Connection, lines: Sequence[Noted]) -> int:
    """Number lines as most change logs do: by a sequence, before the work is done."""
    number = 0
    for line in lines:
        found = await connection.execute(
            "INSERT INTO changes (seq, entity, row_id, kind, origin) VALUES (nextval('mutant'), %s, %s, %s, '')"
            " RETURNING seq",
            (line.entity, line.row_id, line.kind),
        )
        row = await found.fetchone()
        assert row is not None
        number = int(row[0])
    return number


async def read_after(database: Database, cursor: int) -> list[int]:
    async with database.snapshot() as connection:
        found = await connection.execute("SELECT seq FROM changes WHERE seq > %s ORDER BY seq", (cursor,))
        return [seq for (seq,) in await found.fetchall()]


async def race(database: Database, number: Number, rounds: int) -> tuple[set[int], set[int]]:
    """Let 16 writers, one of them slow, and a reader go; return what was acknowledged and what the reader saw."""
    acknowledged: set[int] = set()
    seen: set[int] = set()
    done = asyncio.Event()

    async def write(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(rounds):
            async with database.transaction() as connection:
                numbered = await number(connection, [_LINE]) if number is by_sequence else 0
                await connection.execute("SELECT pg_sleep(%s)", (rng.choice([0, 0.001, 0.004]),))
                numbered = numbered or await number(connection, [_LINE])
            acknowledged.add(numbered)

    async def read() -> None:
        cursor = 0
        while True:
            is_last = done.is_set()
            if found := await read_after(database, cursor):
                seen.update(found)
                cursor = found[-1]
            if is_last:
                return
            await asyncio.sleep(0.002)

    reader = asyncio.create_task(read())
    await asyncio.gather(*(write(seed) for seed in range(WRITERS)))
    done.set()
    await reader
    return acknowledged, seen


async def test_a_reader_sees_every_number_that_any_of_many_writers_was_given(store: PostgresStore) -> None:
    acknowledged, seen = await race(store.database, by_counter, 15)
    assert len(acknowledged) == WRITERS * 15
    assert acknowledged - seen == set()


async def test_the_same_reader_loses_numbers_that_a_sequence_gave(store: PostgresStore, url: str) -> None:
    """What the counter is for: the test above must be able to fail."""
    ask(url, "CREATE SEQUENCE mutant")
    try:
        acknowledged, seen = await race(store.database, by_sequence, 15)
        assert acknowledged - seen
    finally:
        ask(url, "DROP SEQUENCE mutant; DELETE FROM changes")


async def test_a_station_hears_of_every_collar_that_sixteen_writers_enter_while_a_transaction_is_held_open(
    store: PostgresStore,
) -> None:
    """The shipped writer beside the shipped feed: one writes first, takes its number last, and is not passed over."""
    heard: set[str] = set()
    passed, done = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        cursor, is_more = 0, False
        while True:
            is_last = done.is_set() and not is_more
            async with store.database.snapshot() as connection:
                page = await feed.changed_records(connection, "post-1", cursor, 5)
                records, cursor, is_more = page.records, page.next, page.is_more
            heard.update(record.id for record in records)
            if len(heard) == WRITERS * 4:
                passed.set()
            if is_last and not is_more:
                return
            await asyncio.sleep(0.001)

    async def write(writer: int) -> None:
        for turn in range(4):
            await store.add_fixes(VIEW, [fix_of(device=f"W{writer}-{turn}")])

    await store.partitions.ensure([to_ms(START)])
    reader = asyncio.create_task(read())
    async with store.database.transaction() as slow:
        first = await FixWriter(slow, 0).add([fix_of(device="slow")])
        await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
        await passed.wait()  # the reader is beyond all that came after it
        await note(slow, first.lines, new_fixes=first.new)
    done.set()
    await reader
    assert heard == {"slow", *(f"W{writer}-{turn}" for writer in range(WRITERS) for turn in range(4))}


@pytest.mark.parametrize("is_mutant", [False, True])
async def test_a_transaction_that_is_held_open_cannot_slip_in_behind_a_cursor(
    store: PostgresStore, url: str, *, is_mutant: bool
) -> None:
    """Whoever takes a number first and commits last is the whole race, without chance."""
    number = by_sequence if is_mutant else by_counter
    ask(url, "CREATE SEQUENCE IF NOT EXISTS mutant")
    try:
        async with store.database.transaction() as slow:
            first = await number(slow, [_LINE])
            quick = asyncio.create_task(one_line(store.database, number))
            if is_mutant:
                await quick
            else:
                await until_waiting(url)
            seen = await read_after(store.database, 0)
        last = await quick
        seen += await read_after(store.database, max(seen, default=0))
        assert first < last
        assert seen == ([last] if is_mutant else [first, last])
    finally:
        ask(url, "DROP SEQUENCE mutant")
        if is_mutant:
            ask(url, "DELETE FROM changes")


async def one_line(database: Database, number: Number) -> int:
    async with database.transaction() as connection:
        return await number(connection, [_LINE])


async def test_numbers_have_no_gaps_where_transactions_fail(store: PostgresStore) -> None:
    async def fail() -> None:
        async with store.database.transaction() as connection:
            await note(connection, [_LINE] * 3, new_fixes=5)
            await connection.execute("SELECT 1 / 0")

    for _ in range(2):
        with pytest.raises(StoreError):
            await fail()
        await one_line(store.database, by_counter)
    assert await read_after(store.database, 0) == [1, 2]


async def test_the_count_of_fixes_follows_every_way_in_which_they_become_more_or_fewer(store: PostgresStore) -> None:
    fixes = [fix_of(START + timedelta(minutes=n)) for n in range(10)]
    await store.add_fixes(VIEW, fixes)
    await store.add_fixes(VIEW, [*fixes, *fixes])
    await store.add_fixes(VIEW, [fix_of(START + timedelta(minutes=n), "eui:01") for n in range(5, 15)])
    assert (await store.fixes(VIEW, FixQuery())).count == 20
    await store.put_collar(VIEW, "K1", {"aliases": ["eui:01"]})
    assert (await store.fixes(VIEW, FixQuery())).count == 15
