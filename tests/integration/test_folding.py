"""The change log is folded behind its readers: whoever slept, was put back or begins anew ends with what stands."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from cloud.store import folding
from cloud.store.folding import ASLEEP_MS
from cloud.store.tidying import tidy
from shared.domain import NewFix
from shared.sync.records import SCOPED, to_ms
from shared.wire.batch import decode_fixes
from shared.wire.link import HeardFixes
from tests.clouds import VIEW, Cloud, Station, operation, rows_of, serving, wipe
from tests.fakes import START
from tests.integration.test_scope import (
    Replica,
    happen,
    heard,
    in_scope,
    limit,
    living_of,
    reckoned,
    square,
    wearing,
)

pytestmark = [pytest.mark.integration, pytest.mark.sync]

SEEDS = range(30 if os.environ.get("OUTPOST_NIGHTLY") else 3)


@pytest.fixture
async def cloud(database_url: str) -> AsyncIterator[Cloud]:
    """Give an empty cloud."""
    wipe(database_url)
    async with serving(database_url) as cloud:
        yield cloud


class Reader(Replica):
    """A station that takes fixes too, and may be put back to what it was."""

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.fixes: set[tuple[str, int, int]] = set()
        self.heard_cursor = 0
        self.after: str | None = None
        self.backup: dict[str, Any] = {}

    async def hear(self, pages: int, size: int = 5_000) -> None:
        """Take so many pages of fixes at most."""
        for _ in range(pages):
            epoch = (await self.station.changes(0, limit=1)).epoch
            query = f"since={self.heard_cursor}&epoch={epoch}&limit={size}" + (
                f"&after={self.after}" if self.after else ""
            )
            answer = await self.station.send("GET", "/heard", query)
            assert answer.status_code == 200, answer.text
            page = msgspec.msgpack.decode(answer.content, type=HeardFixes)
            rows = rows_of(decode_fixes(page.batch))
            self.fixes |= {(row["collar_id"], row["raw_ms"], row["lon_e7"]) for row in rows}
            self.heard_cursor, self.after = page.next, page.after
            if not page.is_more:
                return

    def keep(self) -> None:
        """Copy the card."""
        names = ("cursor", "rows", "left", "fixes", "heard_cursor", "after")
        self.backup = {name: copy.deepcopy(getattr(self, name)) for name in names}

    def put_back(self) -> None:
        """Be what the copy was."""
        for name, value in copy.deepcopy(self.backup).items():
            setattr(self, name, value)


async def fold(cloud: Cloud, up_to: int | None = None, step: int = 7) -> int:
    """Fold the log, by default to its end, in small steps; return how many lines are no more."""
    gone, is_more = 0, True
    while is_more:
        async with cloud.database.transaction() as connection:
            newest = (await folding.size(connection)).newest
            done = await folding.fold(connection, newest if up_to is None else up_to, step)
        gone, is_more = gone + done.gone, done.is_more
    return gone


async def took(cloud: Cloud, minute: int, device: str) -> None:
    """Have the cloud take a fix itself."""
    at = START + timedelta(minutes=minute)
    await cloud.store.add_fixes(
        VIEW, [NewFix(device=device, recorded_at=at, received_at=at, lon_deg=37.5, lat_deg=-2.5)]
    )


@pytest.mark.parametrize("seed", SEEDS)
async def test_whoever_sleeps_wakes_or_is_put_back_ends_with_what_stands_wherever_the_log_is_folded(
    cloud: Cloud, seed: int
) -> None:
    rng = random.Random(seed)
    brought: list[set[Key]] = [set(), set(), set()]
    posts = [noting(cloud.station(f"post-{number}"), brought[number - 1]) for number in (1, 2, 3)]
    readers = [Reader(post) for post in posts]
    for reader in readers:
        reader.keep()
    animals = [await wearing(cloud, f"A{number}", f"K{number}") for number in range(4)]
    zones: list[str] = []
    gone = 0
    for turn in range(50):
        await happen(cloud, rng, turn, posts, animals, zones)
        if rng.random() < 0.3:
            await took(cloud, 300_000 + turn, f"K{rng.randrange(6)}")
        if zones and rng.random() < 0.1:
            await cloud.store.delete_zone(VIEW, zones.pop())
        reader = rng.choice(readers[:2])  # the third sleeps until the end
        if rng.random() < 0.5:
            await reader.pull(rng.choice((1, 2, 50)))
            await reader.hear(rng.choice((1, 3)), rng.choice((1, 2, 50)))
        if rng.random() < 0.15:
            reader.keep()
        if rng.random() < 0.1:
            reader.put_back()
        if rng.random() < 0.2:  # anywhere, also where nobody has read yet: what is folded is only told in fewer words
            newest = cloud.ask("SELECT value FROM counters WHERE name = 'change'")[0][0]
            gone += await fold(cloud, rng.randint(0, newest))
    gone += await fold(cloud)
    assert gone > 0
    begun_anew = [Reader(post) for post in posts]
    for reader in (*readers, *begun_anew):
        await reader.pull()
        await reader.hear(10_000, 50)
    stored = {tuple(row) for row in cloud.ask(_FIXES)}
    taken = stored - set().union(*brought)
    for place, reader in enumerate((*readers, *begun_anew)):
        station_id = reader.station.id
        kept = await in_scope(cloud, station_id)
        living = {key for entity in SCOPED for key in living_of(cloud, entity)}
        assert reader.fixes <= stored
        if kept is not None:
            assert kept == await reckoned(cloud, station_id), station_id
            living &= kept
            in_it = [identity for entity, identity in kept if entity == "collar"]
            wanted = {tuple(row) for row in cloud.ask(f"{_FIXES} WHERE c.id = ANY(%s)", in_it)}
            assert wanted - brought[place % 3] <= reader.fixes, station_id
        elif place > 1:  # who had a scope meanwhile may have passed over what lay out of it
            assert taken <= reader.fixes, station_id
        assert {key for key in reader.living if key[0] in SCOPED} == living, station_id
    # another fold finds nothing, and the log is as long as what it is about
    assert await fold(cloud) == 0


_FIXES = "SELECT c.id, f.raw_ms, f.lon_e7 FROM fixes f JOIN collars c ON c.pk = f.collar_pk"
Key = tuple[Any, ...]


def noting(station: Station, brought: set[Key]) -> Station:
    """Have a station write down which fixes it brought."""
    bring = station.bring_fixes

    async def noted(*rows: dict[str, Any]) -> Any:
        brought.update((row["collar_id"], row["raw_ms"], row["lon_e7"]) for row in rows)
        return await bring(*rows)

    station.bring_fixes = noted  # type: ignore[method-assign,assignment] # it notes, and brings them
    return station


async def story(cloud: Cloud) -> None:
    """Do what a fold could spoil, fold everything, and look whether it did."""
    first, sleeper = cloud.station("post-1"), Reader(cloud.station("post-2"))
    animal = await cloud.store.create_animal(VIEW, {"name": "Gone", "species": "elephant"})
    await first.bring_operations(operation("animal", "mine", {"name": "Mine", "species": "lion"}, id="op-1"))
    await first.bring_operations(operation("animal", "mine", {"notes": "n"}, id="op-2", kind="update", base_rev=1))
    await sleeper.pull()
    await cloud.store.update_animal(VIEW, animal.id, {"notes": "by hand"})
    await cloud.store.update_animal(VIEW, "mine", {"weight": 180.0})
    await first.bring_operations(operation("animal", "mine", {"notes": "m"}, id="op-3", kind="update", base_rev=1))
    await cloud.store.delete_animal(VIEW, animal.id)
    for minute in (0, 10, 20):
        await took(cloud, minute, "K1")
    await fold(cloud)

    await sleeper.pull()
    assert ("animal", animal.id) not in sleeper.living  # its tombstone came
    assert ("animal", "mine") in sleeper.living
    assert len(await heard(cloud.station("post-3"))) == 3  # of all three lines
    # who edits a row without having heard of another's edit is told so, whoever edited it since
    assert {origin for (origin,) in cloud.ask("SELECT origin FROM changes WHERE row_id = 'mine'")} == {"", "post-1"}
    await limit(cloud, "post-1", area=square(10.0, 10.0))
    assert ("animal", "mine") in (await in_scope(cloud, "post-1") or ())  # it entered it


async def test_a_fold_tells_the_same_in_fewer_lines(cloud: Cloud) -> None:
    await story(cloud)
    sizes = cloud.ask("SELECT count(*) FROM changes WHERE entity = 'fix'")
    assert sizes == [(1,)]


@pytest.mark.parametrize(
    ("name", "was", "becomes"),
    [
        ("_OF_RECORDS", "l.seq < n.seq", "l.seq <= n.seq"),  # tombstones too
        ("_OF_RECORDS", " AND l.kind <> 'insert'", ""),  # who entered a row is forgotten
        ("_OF_RECORDS", "AND l.origin = n.origin ", ""),  # of an edit by another nothing is left
        ("_OF_FIXES", "least(l.first_ms, g.first_ms)", "l.first_ms"),  # earlier fixes are lost
        ("_OF_FIXES", "l.seq < n.seq", "l.seq <= n.seq"),  # all are
    ],
)
async def test_a_fold_that_drops_more_is_found_out(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, name: str, was: str, becomes: str
) -> None:
    statement: str = getattr(folding, name)
    assert was in statement
    monkeypatch.setattr(folding, name, statement.replace(was, becomes))
    with pytest.raises(AssertionError):
        await story(cloud)


async def test_the_floor_is_what_all_have_read_who_are_awake_and_a_tidy_folds_up_to_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = to_ms(cloud.clock.now())
    for number in (1, 2, 3):
        cloud.station(f"post-{number}")
    cloud.ask("UPDATE stations SET enrolled_ms = %s", now_ms)
    cloud.ask("UPDATE counters SET value = 100 WHERE name = 'change'")

    async def floor(at_ms: int | None = now_ms) -> int:
        async with cloud.database.snapshot() as connection:
            return await folding.floor(connection, at_ms, kept=5)

    assert await floor() == 0  # they have read nothing
    cloud.ask("UPDATE stations SET cursor = 70")
    cloud.ask("UPDATE stations SET cursor = 40 WHERE id = 'post-2'")
    assert await floor() == 40
    cloud.ask("UPDATE stations SET heard_cursor = 30, heard_ms = %s WHERE id = 'post-1'", now_ms)
    assert await floor() == 30
    cloud.ask("UPDATE stations SET heard_cursor = 98 WHERE id = 'post-1'")
    cloud.ask("UPDATE stations SET last_seen_ms = %s WHERE id <> 'post-2'", now_ms + ASLEEP_MS)
    assert await floor(now_ms + ASLEEP_MS + 1) == 70  # the second sleeps
    assert await floor(None) == 40  # who sleeps nobody knows
    cloud.ask("UPDATE stations SET retired_ms = 1 WHERE id = 'post-2'")
    assert await floor(None) == 70
    cloud.ask("UPDATE stations SET cursor = 99")
    assert await floor() == 95  # the newest stay as they are

    cloud.ask(
        "INSERT INTO changes (seq, entity, row_id, kind, origin) SELECT n, 'zone', 'z', 'update', ''"
        " FROM generate_series(1, 100) n"
    )
    monkeypatch.setattr(folding.floor, "__defaults__", (5,))
    assert (await tidy(cloud.database, now_ms)).lines == 94
    async with cloud.database.snapshot() as connection:
        found = await folding.size(connection)
    assert (found.lines, found.newest, found.folded) == (6, 100, 95)
    assert (await tidy(cloud.database, now_ms)).lines == 0


async def test_what_a_station_says_to_have_read_is_noted(cloud: Cloud) -> None:
    station = cloud.station()
    await took(cloud, 1, "K1")
    reader = Reader(station)
    for _ in range(2):
        await reader.hear(5)
        await reader.pull()
    ((cursor, heard_cursor, heard_ms),) = cloud.ask("SELECT cursor, heard_cursor, heard_ms FROM stations")
    newest = cloud.ask("SELECT value FROM counters WHERE name = 'change'")[0][0]
    assert (cursor, heard_cursor, heard_ms) == (newest, newest, to_ms(cloud.clock.now()))
