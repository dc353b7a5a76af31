"""What maps of wide areas draw is thinned beforehand: it shows what all fixes would, whatever became of them since."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from cloud.store import ladder, tiles
from shared.domain import NewFix
from shared.store import FixQuery
from tests.clouds import VIEW, Cloud, serving, wipe
from tests.contract.test_tiles import dots, tile_of
from tests.fakes import START

pytestmark = [pytest.mark.integration, pytest.mark.tracking]

SEEDS = range(20 if os.environ.get("OUTPOST_NIGHTLY") else 1)
PLACE = (37.123_456_7, -2.769_432_1)
RUNGS = range(ladder.FINEST + 1)
_RADIO = "eui:0101010101010101"
_LADDER = "SELECT zoom, tile, cell, of_animal, fix_id, collar_pk, wearer, recorded_ms, x, y FROM fix_ladder"


@pytest.fixture
async def cloud(database_url: str) -> AsyncIterator[Cloud]:
    """Give an empty cloud."""
    wipe(database_url)
    async with serving(database_url) as cloud:
        yield cloud


class Herd:
    """Animals that walk through the place, and whatever happens to their fixes; no two are of one instant."""

    def __init__(self, cloud: Cloud, seed: int = 1) -> None:
        self.cloud = cloud
        self.rng = random.Random(seed)
        self.animals: list[str] = []
        self._instants = iter(self.rng.sample(range(1_800, 80 * 86_400, 1_800), 3_000))

    async def enter(self, animals: int) -> None:
        """Enter so many animals, each with a collar of its own."""
        for n in range(animals):
            made = await self.cloud.store.create_animal(VIEW, {"name": f"A{n}", "species": "elephant"})
            self.animals.append(made.id)
            await self.wear(made.id, f"K{n}", days=90)

    async def wear(self, animal_id: str, collar: str, days: float) -> str:
        """Put a collar on an animal so many days ago, until now; return the deployment's id."""
        worn = {"animal_id": animal_id, "collar_id": collar, "started_at": START - timedelta(days=days)}
        return (await self.cloud.store.create_deployment(VIEW, worn)).id

    def fix(self, device: str, *, spread_deg: float = 0.2, **more: Any) -> NewFix:
        """Return a fix at some instant of the last eighty days, somewhere about the place."""
        at = START - timedelta(seconds=next(self._instants))
        lon, lat = (round(each + self.rng.uniform(-spread_deg, spread_deg), 7) for each in PLACE)
        return NewFix(
            device=device, recorded_at=at, received_at=at, is_clock_sure=True, lon_deg=lon, lat_deg=lat, **more
        )

    async def hear(self, fixes: list[NewFix]) -> list[str]:
        """Store fixes and return their ids."""
        return [each.id for each in await self.cloud.store.add_fixes(VIEW, fixes)]


async def both(cloud: Cloud, z: int, since_days: float | None = None) -> tuple[bytes | None, bytes]:
    """Return the tile about the place from the ladder, None where that may not be asked, and from all fixes."""
    x, y = tile_of(*PLACE, z)
    since = None if since_days is None else START - timedelta(days=since_days)
    async with cloud.database.snapshot() as connection:
        spans = await ladder.pending(connection)
        assert spans is not None
        is_undone = await ladder.is_undone(connection, spans, z, x, y)
        laddered = None if is_undone else await tiles._from_ladder(connection, spans, z, x, y, since)
        return laddered, await tiles._from_fixes(connection, VIEW, z, x, y, since, None)


async def hold_alike(cloud: Cloud, rungs: Iterable[int] = RUNGS) -> int:
    """Hold the ladder's tiles against those of all fixes; return how many of them the ladder may not be asked for."""
    undone = 0
    for z in rungs:
        for since_days in (None, 30):
            laddered, whole = await both(cloud, z, since_days)
            undone += laddered is None
            assert laddered in (None, whole)
            x, y = tile_of(*PLACE, z)
            async with cloud.database.snapshot() as connection:
                since = None if since_days is None else START - timedelta(days=since_days)
                assert await tiles.fixes_tile(connection, VIEW, z, x, y, since=since, until=None) == whole
    return undone


def rows_of(cloud: Cloud) -> set[tuple[Any, ...]]:
    return set(cloud.ask(_LADDER))


async def test_what_came_since_is_drawn_before_and_after_the_ladder_has_come_to_it(cloud: Cloud) -> None:
    herd = Herd(cloud)
    await herd.enter(3)
    await herd.hear([herd.fix(f"K{n % 3}", spread_deg=0.01) for n in range(400)])
    assert await hold_alike(cloud) == 0
    assert rows_of(cloud) == set()
    assert await ladder.follow(cloud.database) > 0
    assert rows_of(cloud) != set()
    assert await hold_alike(cloud) == 0
    await herd.hear([herd.fix("K1", spread_deg=0.02) for _ in range(50)])  # late ones, between those that there are
    assert await hold_alike(cloud) == 0
    await ladder.follow(cloud.database)
    assert await ladder.follow(cloud.database) == 0
    assert await hold_alike(cloud) == 0


async def test_a_dot_that_was_taken_back_is_drawn_by_nobody_and_what_lay_under_it_is(cloud: Cloud) -> None:
    herd = Herd(cloud)
    await herd.enter(1)
    ids = await herd.hear([herd.fix("K0", spread_deg=0.0) for _ in range(2)])
    await ladder.follow(cloud.database)
    other, newest = sorted(ids)  # they are in the order of time
    assert {str(row[4]) for row in rows_of(cloud)} == {newest}
    await cloud.store.flag_fix(VIEW, newest, is_excluded=True)
    assert await hold_alike(cloud) == 2 * len(RUNGS)
    await ladder.follow(cloud.database)
    assert {str(row[4]) for row in rows_of(cloud)} == {other}
    assert await hold_alike(cloud) == 0
    await cloud.store.flag_fix(VIEW, newest, is_excluded=False)
    await ladder.follow(cloud.database)
    assert {str(row[4]) for row in rows_of(cloud)} == {newest}


async def test_fixes_are_drawn_for_whoever_wore_the_collar_by_what_is_known_now(cloud: Cloud) -> None:
    herd = Herd(cloud)
    await herd.hear([herd.fix("K0") for _ in range(100)])
    await ladder.follow(cloud.database)
    animal = await cloud.store.create_animal(VIEW, {"name": "A", "species": "elephant"})
    first = await herd.wear(animal.id, "K0", days=90)
    other = await cloud.store.create_animal(VIEW, {"name": "B", "species": "elephant"})
    for z in RUNGS:
        laddered, whole = await both(cloud, z)
        assert laddered is None
        x, y = tile_of(*PLACE, z)
        assert {who for who, _ in dots(whole, z, x, y)} == {animal.id}
    await ladder.follow(cloud.database)
    assert await hold_alike(cloud) == 0
    await cloud.store.update_deployment(VIEW, first, {"ended_at": START - timedelta(days=40)})
    await herd.wear(other.id, "K0", days=40)
    await hold_alike(cloud)
    await ladder.follow(cloud.database)
    assert await hold_alike(cloud) == 0
    x, y = tile_of(*PLACE, 5)
    laddered, _ = await both(cloud, 5)
    assert laddered is not None
    assert {who for who, _ in dots(laddered, 5, x, y)} == {animal.id, other.id}


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_ladder_that_followed_is_the_one_that_would_be_made_anew(cloud: Cloud, seed: int) -> None:
    herd = Herd(cloud, seed)
    await herd.enter(3)
    rng, ids, heard = herd.rng, [], []
    for _ in range(12):
        match rng.choice(["hear", "again", "flag", "wear", "alias", "follow"]):
            case "hear":
                device = rng.choice(["K0", "K1", "K2", "K9", _RADIO])
                new = [herd.fix(device, spread_deg=rng.choice([0.001, 0.2])) for _ in range(rng.randrange(1, 60))]
                heard += new
                ids += await herd.hear(new)
            case "again" if heard:  # another station's copy, which knows more: some are not usable by it
                known = rng.sample(heard, min(len(heard), 5))
                await herd.hear([msgspec.structs.replace(each, hdop=rng.choice([1.0, 50.0])) for each in known])
            case "flag" if ids:
                found = await cloud.store.fixes(VIEW, FixQuery(limit=200))
                for each in rng.sample(found.results, min(len(found.results), 8)):
                    await cloud.store.flag_fix(VIEW, each.id, is_excluded=rng.random() < 0.6)
            case "wear":
                deployments = await cloud.store.deployments(VIEW, animal_id=None, collar_id=None, offset=0, limit=50)
                worn = rng.choice(deployments.results)
                ended = START - timedelta(days=rng.uniform(1, 70))
                await cloud.store.update_deployment(VIEW, worn.id, {"ended_at": ended})
            case "alias":
                await cloud.store.put_collar(VIEW, "K0", {"aliases": [_RADIO]})
            case "follow":
                await ladder.follow(cloud.database)
        await hold_alike(cloud, rng.sample(RUNGS, 2))
    await ladder.follow(cloud.database)
    assert await hold_alike(cloud) == 0
    followed = rows_of(cloud)
    cloud.ask("UPDATE counters SET value = -1 WHERE name = 'laddered'")
    async with cloud.database.snapshot() as connection:
        assert await ladder.pending(connection) is None
    await ladder.follow(cloud.database)
    assert rows_of(cloud) == followed


async def test_a_ladder_far_behind_is_not_asked_and_takes_the_log_in_steps(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    herd = Herd(cloud)
    await herd.enter(2)
    for n in range(7):
        await herd.hear([herd.fix(f"K{n % 2}") for _ in range(10)])
    monkeypatch.setattr(ladder, "MOST_LINES", 3)
    async with cloud.database.snapshot() as connection:
        assert await ladder.pending(connection) is None
    x, y = tile_of(*PLACE, 6)
    async with cloud.database.snapshot() as connection:
        assert await tiles.fixes_tile(connection, VIEW, 6, x, y, since=None, until=None)
    assert await ladder.follow(cloud.database) >= 7
    assert await hold_alike(cloud) == 0


async def test_a_tile_says_whether_it_is_thinned_and_the_closest_have_every_fix(cloud: Cloud) -> None:
    herd = Herd(cloud)
    await herd.enter(1)
    lon, lat = PLACE
    at_one_place = [
        msgspec.structs.replace(herd.fix("K0"), lon_deg=round(lon + n * 3e-7, 7), lat_deg=lat) for n in range(20)
    ]
    await herd.hear(at_one_place)
    await ladder.follow(cloud.database)
    for z, is_thinned in ((10, True), (tiles.WHOLE_ZOOM - 1, True), (tiles.WHOLE_ZOOM, False), (22, False)):
        shown: set[tuple[float, float]] = set()
        x, y = tile_of(*PLACE, z)
        for column, row in ((x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            async with cloud.database.snapshot() as connection:
                tile = await tiles.fixes_tile(connection, VIEW, z, column, row, since=None, until=None)
            assert (b"thinned" in tile) == bool(tile)
            shown |= {place for _, place in dots(tile, z, column, row)}
        if is_thinned:
            assert 1 <= len(shown) <= 2  # within a square, or over the edge of two
        if z == tiles.MOST_ZOOM:
            assert len(shown) == len(at_one_place)
