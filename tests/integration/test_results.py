"""What a station's models said goes up to the cloud, and the cloud says it: real SpatiaLite, real PostgreSQL."""

from __future__ import annotations

import copy
import functools
import os
import random
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
import pytest

from cloud.api.insight import drawn_of
from cloud.store.results import KeptMap, told
from edge.pipeline.pipeline import Pipeline
from edge.store import computing, occurrence, outbox, results
from edge.store.computing import Computed, Step
from edge.store.driver import Connection
from edge.store.occurrence import Kept
from edge.store.store import SpatialiteStore
from models.live.runtime import Models
from shared.sync.records import to_ms
from shared.sync.streams import GENESIS, Batch, Head, Receipt, ResumeFrom, SendNext, StartOver
from shared.wire.batch import decode_results, encode_results
from shared.wire.batch.results import NO_STEPS, MapHead, MapPart, Rest, Results, Said, Stretch
from tests.access import logged_in, person
from tests.clouds import Cloud, Station, serving, wipe
from tests.fakes import START, FakeClock
from tests.integration.station_store import HOUR, add, ask, deploy, elephant, enrol
from tests.integration.test_pipeline import walk
from tests.integration.test_scope import wearing

pytestmark = [pytest.mark.integration, pytest.mark.sync]

SEEDS = range(100 if os.environ.get("OUTPOST_NIGHTLY") else 10)
DAY_MS = 86_400_000
START_MS = to_ms(START)


@pytest.fixture
async def store(store: SpatialiteStore) -> SpatialiteStore:
    await store.write(functools.partial(enrol, epoch="e1" * 8))
    return store


def enter(db: Connection, number: int) -> None:
    db.execute(
        "INSERT INTO animals (pk, id, name, species, status, health_status, gender, created_ms, updated_ms)"
        " VALUES (?, ?, ?, 'elephant', 'active', 'unknown', 'unknown', 0, 0)",
        (number, f"a{number}", f"A{number}"),
    )


# --- the station's side: whatever happens on the way, the cloud ends with what stands


class Told:
    """What a cloud has of results: the rules of ``shared.wire.batch.results``, in a few dictionaries."""

    def __init__(self) -> None:
        self.steps: dict[tuple[str, int], tuple[Any, ...]] = {}
        self.said: dict[str, Said] = {}
        self.tiles: dict[tuple[str, int, int], bytes] = {}
        self.heads: dict[str, MapHead | None] = {}

    def take(self, payload: bytes) -> None:
        found = decode_results(payload)
        for stretch in found.rest.stretches:
            self.steps = {
                key: step
                for key, step in self.steps.items()
                if key[0] != stretch.animal_id
                or key[1] < stretch.since_ms
                or (stretch.until_ms is not None and key[1] > stretch.until_ms)
            }
        names = ("animal_id", "ended_ms", "started_ms", "state", "confidence", "is_settled")
        for animal_id, ended_ms, *rest in zip(*(found.steps[name] for name in names), strict=True):
            assert (animal_id, ended_ms) not in self.steps  # each lies in a stretch of its batch
            self.steps[animal_id, ended_ms] = tuple(rest)
        self.said |= {said.animal_id: said for said in found.rest.said}
        for part in found.rest.maps:
            for row, column, cells in part.tiles:
                self.tiles.pop((part.animal_id, row, column), None)
                if cells:
                    self.tiles[part.animal_id, row, column] = cells
            self.heads[part.animal_id] = part.head


class Walk:
    """A station whose models say things at random, and a way to a cloud that loses, repeats and forgets."""

    def __init__(self, store: SpatialiteStore, seed: int) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.told = Told()
        self.epoch = 1
        #: what the cloud had at each of its heads
        self.history: list[tuple[Head, Told]] = [(GENESIS, Told())]
        self.days = 0

    async def begin(self) -> None:
        for number in (1, 2, 3):
            await self.store.write(functools.partial(enter, number=number))

    async def act(self) -> None:
        act = self.rng.choice([self.say, self.say, self.draw, self.send, self.send, self.lose, self.restore, self.anew])
        await act()

    async def say(self, *, may_forget: bool = True) -> None:
        """Compute steps anew from some instant on; some are no more, some differ."""
        pk, since = self.rng.randint(1, 3), self.rng.randint(0, 12)
        through = None if self.rng.random() < 0.5 else since + self.rng.randint(0, 6)
        ends = [
            each for each in range(since, since + 8) if (through is None or each <= through) and self.rng.random() < 0.7
        ]
        steps = [
            Step(
                ended_ms=end * 1_000, started_ms=end * 1_000 - 900, step_m=1.0, angle_rad=None,
                state=self.rng.choice(["resting", "foraging"]), confidence=0.5, lag=0,
                is_settled=self.rng.random() < 0.5, log_likelihood=-1.0,
            )
            for end in ends
        ]  # fmt: skip
        model = self.rng.randint(1, 9)

        def job(db: Connection) -> None:
            computing.write_steps(db, pk, since * 1_000, None if through is None else through * 1_000, steps)
            computing.write_computed(db, pk, Computed(model="m", version=model, through_ms=since * 1_000))
            if may_forget and self.rng.random() < 0.1:
                computing.forget(db, [computing.Due(pk, 0, 0)])

        await self.store.write(job)

    async def draw(self) -> None:
        """Draw some tiles of a map, or all of it anew."""
        pk, is_new = self.rng.randint(1, 3), self.rng.random() < 0.2
        self.days += self.rng.choice([0, 1])
        changed = {
            (self.rng.randint(0, 2), self.rng.randint(0, 2)): bytes([self.rng.randint(1, 255)]) * 8
            for _ in range(self.rng.randint(1, 4))
        }
        kept = Kept(
            since_ms=0, through_ms=self.days * DAY_MS, stale_ms=None, species="elephant",
            head=bytes([self.rng.randint(0, 255)]), recent=b"",
        )  # fmt: skip
        await self.store.write(lambda db: occurrence.write(db, pk, kept, changed, is_new=is_new))

    async def freeze(self) -> Batch | None:
        limit = self.rng.choice([1, 2, 5, 40])
        return await self.store.write(lambda db: outbox.freeze(db, "results", limit, START_MS))

    async def send(self) -> bool:
        batch = await self.freeze()
        if batch is None:
            return False
        self.arrive(batch)
        receipt = Receipt(n=batch.n, hash=batch.hash)
        await self.apply(SendNext(receipt))
        return True

    def arrive(self, batch: Batch) -> None:
        if batch.n <= self.history[-1][0].n:
            assert batch.head == self.history[batch.n][0]  # a repeat is byte for byte the same, and applied once
            return
        self.told.take(batch.payload)
        self.history.append((batch.head, copy.deepcopy(self.told)))

    async def lose(self) -> None:
        """Send a batch; the cloud may have it, the station does not hear of it."""
        batch = await self.freeze()
        if batch is not None and self.rng.random() < 0.5:
            self.arrive(batch)

    async def restore(self) -> None:
        """Put the cloud back to an earlier head; the station resumes from there."""
        place = self.rng.randrange(len(self.history))
        self.history = self.history[: place + 1]
        head, told = self.history[-1]
        self.told = copy.deepcopy(told)
        await self.apply(ResumeFrom(head))

    async def anew(self) -> None:
        """Begin a new epoch, as a station does that was put back itself."""
        if self.rng.random() < 0.7:
            return
        self.epoch += 1
        self.history = [(GENESIS, copy.deepcopy(self.told))]
        await self.apply(StartOver(), f"{self.epoch:016x}")

    async def apply(self, action: Any, epoch: str = "e1" * 8) -> None:
        await self.store.write(lambda db: outbox.apply_answer(db, "results", action, now_ms=START_MS, new_epoch=epoch))

    async def settle(self) -> None:
        """Have every map grow beyond what the cloud may lack, and everything go up."""
        self.days += 2
        for pk, head in await ask(self.store, "SELECT animal_pk, head FROM utilisations"):
            kept = Kept(
                since_ms=0,
                through_ms=self.days * DAY_MS,
                stale_ms=None,
                species="elephant",
                head=bytes(head),
                recent=b"",
            )
            grown = functools.partial(occurrence.write, animal_pk=pk, found=kept, changed={(9, 9): b"x"}, is_new=False)
            await self.store.write(grown)
        while await self.send():
            pass

    async def check(self) -> None:
        rows = await ask(
            self.store,
            "SELECT a.id, s.ended_ms, s.started_ms, s.state, s.confidence, s.is_settled FROM steps s"
            " JOIN animals a ON a.pk = s.animal_pk",
        )
        assert {(row[0], row[1]): tuple(row[2:]) for row in rows} == self.told.steps
        said = await ask(
            self.store, "SELECT a.id, c.version, c.through_ms FROM computed c JOIN animals a ON a.pk = c.animal_pk"
        )
        assert {
            (each.animal_id, each.models["behaviour"], each.through_ms)
            for each in self.told.said.values()
            if each.models
        } == {(animal_id, f"m {version}", through_ms) for animal_id, version, through_ms in said}
        tiles = await ask(
            self.store,
            'SELECT a.id, t.row, t."column", t.cells FROM utilisation_tiles t JOIN animals a ON a.pk = t.animal_pk',
        )
        assert {tuple(row[:3]): bytes(row[3]) for row in tiles} == self.told.tiles
        heads = await ask(self.store, "SELECT a.id, u.head FROM utilisations u JOIN animals a ON a.pk = u.animal_pk")
        assert {animal_id: bytes(head) for animal_id, head in heads} == {
            animal_id: head.head for animal_id, head in self.told.heads.items() if head is not None
        }
        assert await self.store.read(results.waiting) == 0


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_is_lost_repeated_or_put_back_the_cloud_ends_with_what_stands(
    store: SpatialiteStore, seed: int
) -> None:
    walk = Walk(store, seed)
    await walk.begin()
    for _ in range(60):
        await walk.act()
    await walk.settle()
    await walk.check()


async def test_a_map_goes_when_it_has_grown_by_a_day_and_after_all_else(store: SpatialiteStore) -> None:
    walk = Walk(store, 1)
    await walk.begin()

    async def grow(through_ms: int) -> None:
        kept = Kept(since_ms=0, through_ms=through_ms, stale_ms=None, species="elephant", head=b"h", recent=b"")
        await store.write(lambda db: occurrence.write(db, 1, kept, {(0, 0): b"12345678"}, is_new=False))

    await grow(0)
    await walk.say(may_forget=False)
    first = await store.write(lambda db: outbox.freeze(db, "results", 40, START_MS))
    assert first is not None
    assert not decode_results(first.payload).rest.maps
    while await walk.send():
        pass
    assert walk.told.heads["a1"] is not None
    await grow(DAY_MS - 1)
    assert await store.read(results.waiting) == 0
    assert not await walk.send()
    await grow(DAY_MS)
    assert await store.read(results.waiting) == 1
    assert await walk.send()


async def test_a_station_that_enrols_again_says_everything_again(store: SpatialiteStore) -> None:
    walk = Walk(store, 2)
    await walk.begin()
    for _ in range(4):
        await walk.say()
        await walk.draw()
    await walk.settle()
    walk.told, walk.history = Told(), [(GENESIS, Told())]
    await store.write(functools.partial(enrol, epoch="e2" * 8, cloud_epoch="cloud-2", is_again=True))
    while await walk.send():
        pass
    await walk.check()


# --- both homes


@pytest.fixture
async def cloud(database_url: str) -> AsyncIterator[Cloud]:
    """Give an empty cloud."""
    wipe(database_url)
    async with serving(database_url) as cloud:
        yield cloud


async def bring(cloud: Cloud, station: Station, store: SpatialiteStore, channels: Sequence[Any]) -> None:
    """Bring what waits in some channels."""
    for channel in channels:
        freeze = functools.partial(outbox.freeze, channel=channel, limit=200, now_ms=START_MS)
        while (batch := await store.write(freeze)) is not None:
            answer = await station.put(batch)
            assert answer.status_code == 200, answer.text
            receipt = msgspec.msgpack.decode(answer.content, type=Receipt)
            assert "quarantined" not in receipt.counts
            await store.write(
                functools.partial(
                    outbox.apply_answer, channel=channel, action=SendNext(receipt), now_ms=START_MS, new_epoch=""
                )
            )


async def test_the_cloud_says_what_the_station_said_of_the_same_fix_and_which_model_of_which_version(
    store: SpatialiteStore, clock: FakeClock, cloud: Cloud
) -> None:
    models = Models()
    pipeline = Pipeline(store, models, lambda _name, _data: None)
    try:
        await pipeline.start()
        animal = await elephant(store)
        await deploy(store, animal)
        await add(store, *walk(60))
        clock.at = cloud.clock.at = START + 59 * HOUR
        await pipeline.drain()
        while await pipeline.occurrence.advance_next():
            pass
    finally:
        pipeline.close()
    # what the station says is told apart from what the cloud would work out itself
    await store.write(lambda db: db.execute("UPDATE steps SET state = 'migrating', confidence = 0.123"))
    await store.write(
        lambda db: db.execute(
            "UPDATE computed SET model = 'of-the-station', version = 7, suitability = 0.25,"
            " path_model = 'drawn-there 9'"
        )
    )
    await store.write(results.wait_whole)
    station = cloud.station("post-1", epoch="e1" * 8)
    live = "/api/v1/animals/live_status/"
    await bring(cloud, station, store, ("records", "fixes"))
    (before,) = (await cloud.client.get(live)).json()
    assert before["models"]["behaviour"] != "of-the-station 7"
    assert (await cloud.client.get(f"/api/v1/animals/{animal}/results/")).json() == []

    await bring(cloud, station, store, ("results",))
    cloud.clock.tick(61)  # an answer may be some seconds old
    (after,) = (await cloud.client.get(live)).json()
    assert after["models"]["behaviour"] == "of-the-station 7"
    (heard,) = (await cloud.client.get(f"/api/v1/animals/{animal}/results/")).json()
    assert (heard["station"], heard["models"]["behaviour"], heard["habitat_suitability"]) == (
        "post-1",
        "of-the-station 7",
        0.25,
    )
    assert datetime.fromisoformat(heard["recorded_at"]) == START + 59 * HOUR
    assert heard["map_through"] is not None
    assert heard["map_model"]
    analysis = (
        await cloud.client.get("/api/v1/tracking/behavior/analyze/", params={"animal_id": animal, "hours": 48})
    ).json()
    assert set(analysis["behavior_distribution"]) == {"migrating"}
    assert analysis["model_used"] == "of-the-station 7"
    trails = (await cloud.client.get("/api/v1/animals/trails/", params={"hours": 48})).json()
    assert "migrating" in str(trails)
    kept = (await cloud.client.get(f"/api/v1/animals/{animal}/utilisation/")).json()
    ((through_ms,),) = await ask(store, "SELECT through_ms FROM utilisations")
    assert kept["model"] == "drawn-there 9"
    assert to_ms(datetime.fromisoformat(heard["map_through"])) == through_ms

    # a newer fix that the station has not said anything of: the cloud works it out itself
    await add(store, *walk(61)[60:])
    await bring(cloud, station, store, ("fixes",))
    cloud.clock.at = START + 61 * HOUR
    cloud.clock.tick(10)
    (newer,) = (await cloud.client.get(live)).json()
    assert newer["models"].get("behaviour") != "of-the-station 7"


async def test_a_station_that_lacks_fixes_of_another_has_no_word_and_a_retired_one_is_not_heard(
    cloud: Cloud,
) -> None:
    first, second = cloud.station("post-1"), cloud.station("post-2")
    animal = await wearing(cloud, "A", "K1")
    said = Results(
        {
            "animal_id": [animal], "ended_ms": [5_000], "started_ms": [4_000], "state": ["resting"],
            "confidence": [0.9],
            "is_settled": [1], "step_m": [3.0], "log_likelihood": [-1.0],
        },
        Rest([Stretch(animal, 0, None)], [Said(animal_id=animal, through_ms=5_000, models={"behaviour": "hmm 1"})]),
    )  # fmt: skip
    for station in (first, second):
        assert (await station.put(station.batch("results", encode_results(said)))).status_code == 200

    async def heard() -> dict[str, str]:
        async with cloud.database.snapshot() as connection:
            return {key: each.station_id for key, each in (await told(connection, [animal])).items()}

    assert list(await heard()) == [animal]  # nobody has brought fixes of it: either counts
    cloud.ask("INSERT INTO station_collars (station_id, collar_pk) SELECT 'post-2', pk FROM collars")
    assert await heard() == {animal: "post-2"}  # the first does not know what the second heard
    cloud.ask("UPDATE stations SET retired_ms = 1 WHERE id = 'post-2'")
    assert await heard() == {}
    cloud.ask("UPDATE stations SET scope_animals = ARRAY['anything'] WHERE id = 'post-1'")
    assert await heard() == {}  # its scope does not tell it of the animal yet
    cloud.ask("INSERT INTO station_rows (station_id, entity, row_id) VALUES ('post-1', 'animal', %s)", animal)
    assert await heard() == {animal: "post-1"}


async def test_what_no_table_holds_is_put_aside_and_its_neighbours_are_kept(cloud: Cloud) -> None:
    station = cloud.station()
    step = {
        "started_ms": 0,
        "state": "resting",
        "confidence": 0.9,
        "is_settled": 1,
        "step_m": 3.0,
        "log_likelihood": -1.0,
    }
    names = ["fine", "nul\0", "", "loose", "twice", "twice"]
    columns: dict[str, list[Any]] = {name: [value] * len(names) for name, value in step.items()}
    columns |= {"animal_id": names, "ended_ms": [1, 2, 3, 4, 5, 5]}
    rest = Rest(
        [Stretch(name, 0, None) for name in ("fine", "nul\0", "", "twice")],
        [Said(animal_id="not finite", through_ms=1, path_sd_m=float("inf"))],
        [MapPart(animal_id="far", tiles=[(2**40, 0, b"x")])],
    )
    answer = await station.put(station.batch("results", encode_results(Results(columns, rest))))
    receipt = msgspec.msgpack.decode(answer.content, type=Receipt)
    assert receipt.counts == {"applied": 1, "quarantined": 6}
    assert cloud.ask("SELECT animal_id, ended_ms FROM station_steps") == [("fine", 1)]
    assert cloud.count("quarantine") == 6


async def test_a_map_that_would_take_all_memory_is_notdrawn_of(cloud: Cloud, store: SpatialiteStore) -> None:
    head = MapHead(since_ms=0, through_ms=1, model="bbmm 1", head=b"no head")
    assert drawn_of(KeptMap(station_id="s", head=head, tiles={(0, 0): b"x", (2**31 - 1, 0): b"x"})) is None
    assert drawn_of(KeptMap(station_id="s", head=head, tiles={(0, 0): b"x"})) is None
    assert drawn_of(KeptMap(station_id="s", head=head, tiles={})) is None


async def test_whoever_sees_positions_reduced_hears_nothing_of_what_stations_said(cloud: Cloud) -> None:
    animal = await wearing(cloud, "A", "K1")
    station = cloud.station()
    said = Results(NO_STEPS, Rest(said=[Said(animal_id=animal, through_ms=5_000, models={"behaviour": "hmm 1"})]))
    assert (await station.put(station.batch("results", encode_results(said)))).status_code == 200
    path = f"/api/v1/animals/{animal}/results/"
    assert (await cloud.client.get(path)).status_code == 200
    for user in (
        await person(cloud.accounts, "viewer"),
        await person(cloud.accounts, "conservation_manager", stations=("post-1",)),
    ):
        token, _ = await logged_in(cloud.accounts, user)
        answer = await cloud.client.get(path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code in (403, 404), answer.text  # of an animal that nobody shows him there is nothing
