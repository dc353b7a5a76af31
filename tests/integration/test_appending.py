"""Fixes that come after all others of their collars: written without looking back, judged as if all were looked at."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from cloud.store.database import Connection, Database
from cloud.store.fixes import FixWriter
from cloud.store.store import PostgresStore
from shared.domain import Fix, NewFix
from shared.store import FixQuery
from shared.sync.records import to_ms
from tests.clouds import VIEW, ask, wipe
from tests.fakes import START
from tests.memory_store import InMemoryStore
from tests.services import Postgres

pytestmark = [pytest.mark.integration, pytest.mark.tracking, pytest.mark.asyncio(loop_scope="module")]

STEP = timedelta(minutes=15)


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    """Give one database to all tests here; each finds it empty."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest_asyncio.fixture(loop_scope="module")
async def store(url: str) -> AsyncIterator[PostgresStore]:
    wipe(url)
    async with Database.open(url, pool_min=1, pool_max=2) as database:
        yield PostgresStore(database, now=lambda: START)


def fix_of(collar: int, turn: int, *, lon: float = 37.5, **fields: Any) -> NewFix:
    at = START + turn * STEP
    said: dict[str, Any] = {"device": f"K{collar}", "recorded_at": at, "received_at": at, "lon_deg": lon, "lat_deg": -2}
    return NewFix(**{**said, **fields})


async def all_fixes(store: PostgresStore | InMemoryStore) -> list[Fix]:
    page = await store.fixes(VIEW, FixQuery(ordering="timestamp", limit=100_000))
    assert len(page.results) == page.count
    return sorted(page.results, key=lambda fix: fix.id)


async def reads_of(store: PostgresStore, fixes: list[NewFix]) -> int:
    """Return how often a table of fixes was looked into while ``fixes`` were written."""
    await store.partitions.ensure(to_ms(fix.recorded_at) for fix in fixes)
    async with store.database.transaction() as connection:
        before = await _scans(connection)
        await FixWriter(connection, to_ms(START)).add(fixes)
        return await _scans(connection) - before


async def _scans(connection: Connection) -> int:
    found = await connection.execute(
        "SELECT sum(coalesce(idx_scan, 0) + seq_scan) FROM pg_stat_xact_user_tables WHERE relname LIKE 'fixes%'"
    )
    row = await found.fetchone()
    assert row is not None
    return int(row[0] or 0)


async def test_of_animals_that_walk_on_no_fix_is_read(store: PostgresStore, url: str) -> None:
    for turn in range(0, 12, 2):
        batch = [fix_of(collar, turn + half, lon=37.5 + turn / 1e4) for half in range(2) for collar in range(20)]
        assert await reads_of(store, batch) == 0
    assert await reads_of(store, [fix_of(3, 4, lon=37.6)]) > 0  # one that comes late is looked up among the others
    assert ask(url, "SELECT count(*) FROM collars WHERE calm_end IS NULL") == [(1,)]
    assert await reads_of(store, [fix_of(3, 12, lon=37.5012)]) > 0  # and the next one of that collar
    assert await reads_of(store, [fix_of(3, 13, lon=37.5013)]) == 0


def history(rng: random.Random) -> list[list[NewFix]]:
    """Return batches of a herd, in the order of time but for a few that come late, with all kinds of faults."""
    faults = rng.choice([0.0, 0.05, 0.4])
    fixes: list[NewFix] = []
    for turn in range(30):
        for collar in rng.sample(range(4), rng.randint(1, 4)):
            said: dict[str, Any] = {
                "lon": 37.5 + rng.choice([0, 1, 2]) / 1e4,
                "seq": turn + 20,
                "notes": rng.choice([None, "a\tb\\c\nd"]),
            }
            if rng.random() < faults:
                said |= rng.choice(
                    [{"lon": 39.0}, {"lon_deg": None, "lat_deg": None}, {"lon": 0.0, "lat_deg": 0.0}, {"hdop": 99.0},
                     {"seq": turn}, {"is_clock_unset": True}, {"received_at": START}, {"h_acc_m": 80.0}, {"sats": 2},
                     {"recorded_at": START + turn * STEP - timedelta(weeks=1024)}]
                )  # fmt: skip
            fixes.append(fix_of(collar, turn, **said))
            if rng.random() < faults / 2:
                fixes.append(fix_of(collar, turn, **{**said, "battery_mv": 3_600}))
    for _ in range(rng.choice([0, 1, 5])):
        fixes.insert(rng.randrange(len(fixes)), fixes.pop(rng.randrange(len(fixes))))
    batches = []
    while fixes:
        n = rng.randint(1, 20)
        batches.append(fixes[:n])
        fixes = fixes[n:]
    return batches


@pytest.mark.parametrize("seed", range(8))
async def test_any_history_ends_as_in_the_home_that_judges_all_anew(store: PostgresStore, seed: int) -> None:
    rng = random.Random(seed)
    memory = InMemoryStore(now=lambda: START)
    homes: tuple[PostgresStore | InMemoryStore, ...] = (store, memory)
    animals = [await home.create_animal(VIEW, {"name": "A", "species": "Elephant"}) for home in homes]
    for number, batch in enumerate(history(rng)):
        for home, animal in zip(homes, animals, strict=True):
            if number == 2:
                await home.create_deployment(
                    VIEW, {"animal_id": animal.id, "collar_id": "K1", "started_at": START + 5 * STEP}
                )
            if number == 4:
                await home.put_collar(VIEW, "K1", {"limits": '{"max_speed_mps":0.01,"sprint_mps":0.0}'})
        said = [[(each.id, each.outcome) for each in await home.add_fixes(VIEW, batch)] for home in homes]
        assert said[0] == said[1]
        stored, expected = [await all_fixes(home) for home in homes]
        assert [fix.id for fix in stored] == [fix.id for fix in expected]
        for one, other in zip(stored, expected, strict=True):
            assert one.flags == other.flags, (number, one)
            assert (one.notes, one.recorded_at, one.seq) == (other.notes, other.recorded_at, other.seq)
            assert (one.animal_id is None) == (other.animal_id is None)
