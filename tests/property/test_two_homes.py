"""Laws of two homes: the same words make the same rows in SpatiaLite, in PostgreSQL and in memory."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cloud.store import batches, feed
from cloud.store.database import Database
from cloud.store.records import note
from cloud.store.store import PostgresStore
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from shared.accounts.fields import FieldKeys
from shared.domain import NewFix
from shared.errors import RequestError
from shared.privacy import Principal, Role, View
from shared.store import (
    AnimalQuery,
    CorridorQuery,
    FixQuery,
    PatrolLogQuery,
    PatrolQuery,
    PatrolRouteQuery,
    RangerPositionQuery,
    RangerQuery,
    TeamQuery,
    ZoneQuery,
)
from shared.sync.fixes import OPTIONAL
from shared.sync.operations import Kind, Operation
from shared.sync.records import EntityName, Record, to_ms
from tests.clouds import START_MS, VIEW, ask, columns_of, wipe
from tests.fakes import START
from tests.memory_store import InMemoryStore
from tests.property.test_store import ANIMAL, COLLAR, OTHER, RADIO, new_fixes
from tests.services import Postgres

pytestmark = [pytest.mark.integration, pytest.mark.sync]

T = TypeVar("T")
NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
LION = "00000000-0000-4000-8000-00000000000b"
HOUR_MS = 3_600_000
#: Of those that hang on others first.
_TABLES = (
    "fixes",
    "deployments",
    "collar_aliases",
    "collars",
    "observations",
    "zones",
    "corridors",
    "alerts",
    "patrols",
    "ranger_positions",
    "patrol_logs",
    "patrol_routes",
    "rangers",
    "teams",
    "animals",
    "outbox",
    "changes",
)

Step = list[NewFix] | Operation | tuple[int, bool]


def examples(n: int) -> settings:
    return settings(
        max_examples=n * 10 if NIGHTLY else n, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        # an example takes a tenth of a second: to make a failure small is left to the nightly run
        phases=tuple(Phase) if NIGHTLY else (Phase.explicit, Phase.generate),
    )  # fmt: skip


class Homes:
    """A store of each kind in one loop; ``wipe`` empties them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.station = SpatialiteStore(folder / "station.db", None, now=lambda: START, synchronous="NORMAL", readers=1)
        self.database = self.run(self._stack.enter_async_context(Database.open(url, pool_min=1, pool_max=2)))
        self.database.fields = FieldKeys(bytes(32))  # telephone numbers of rangers are among what is drawn
        self.wipe()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self._stack.aclose())
        self.run(self.station.close())
        self._runner.close()

    def wipe(self) -> None:
        def job(db: Connection) -> None:
            for table in _TABLES:
                db.execute(f"DELETE FROM {table}")
            db.execute("UPDATE counters SET value = 0")

        self.run(self.station.write(job))
        self.station._fixes.forget()
        self.wipe_cloud()

    def wipe_cloud(self) -> None:
        """Empty the cloud and the memory."""
        wipe(self.url)
        ask(self.url, "INSERT INTO stations (id, name, public_key, enrolled_ms) VALUES ('post', '', '', 0)")
        self.cloud = PostgresStore(self.database, now=lambda: START)
        self.memory = InMemoryStore(lambda: START)


@pytest.fixture(scope="module")
def homes(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    url = postgres.create()
    homes = Homes(url, tmp_path_factory.mktemp("homes"))
    yield homes
    homes.close()
    postgres.drop(url)


# --- what is said ---------------------------------------------------------------------------------------------------

collars = st.sampled_from([RADIO, COLLAR, OTHER])
animals = st.sampled_from([ANIMAL, LION])
instants_ms = st.sampled_from([START_MS + hours * HOUR_MS for hours in (-3, -1, 0, 1, 2, 4, 100)])
species = st.sampled_from(["elephant", "lion", "eland"])


@st.composite
def fixes(draw: st.DrawFn) -> NewFix:
    """A fix of a collar, or a position that a person entered for an animal."""
    fix = draw(new_fixes())
    if draw(st.integers(0, 7)) == 0:
        return replace(fix, device=f"animal:{ANIMAL}", source="manual")
    return fix


AREA = '{"type":"Polygon","coordinates":[[[37.0,-2.0],[38.0,-2.0],[38.0,-3.0],[37.0,-2.0]]]}'
#: Its ring crosses itself, its corners have heights and are of no one height where they meet.
ODD = '{"type":"Polygon","coordinates":[[[37,-2,1],[38.0,-3.0],[38.0,-2.0],[37.0,-3.0],[37.0,-2.0,2]]]}'
LINE = '{"type":"LineString","coordinates":[[37.0,-2.0],[38.0,-3.0]]}'
ENDS = {"start_lon_e7": 370_000_000, "start_lat_e7": 0, "end_lon_e7": 380_000_000, "end_lat_e7": 0}
drawn_columns: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "zone": {"geometry": st.sampled_from([AREA, ODD]), "is_active": st.booleans(), "buffer_m": st.just(0.5)},
    "corridor": {
        "geometry": st.sampled_from([None, LINE, AREA, ODD]), "width_m": st.sampled_from([0.0, 0.1]),
        "end_lat_e7": st.none() | st.just(7), "species": st.none() | species, "optimization_data": st.just("[1.5]"),
    },
}  # fmt: skip


#: What a new record of a patrol says, and what may be said of it later.
patrol_columns: dict[str, tuple[dict[str, Any], dict[str, st.SearchStrategy[Any]]]] = {
    "team": ({"name": "T"}, {"is_active": st.booleans(), "description": st.sampled_from(["", "d"])}),
    "ranger": (
        {"name": "R", "badge_number": "7"},
        {
            "team_id": st.none() | st.just("team-1"), "user_id": st.none() | st.just("ann"),
            "current_status": st.sampled_from(["on_duty", "on_leave"]), "phone": st.none() | st.just("+254"),
        },
    ),
    "patrol_log": (
        {"log_type": "emergency", "title": "Help"},
        {
            "ranger_id": st.none() | st.just("ranger-1"), "is_resolved": st.booleans(),
            "lon_e7": st.none() | st.just(370_000_000), "recorded_ms": instants_ms,
        },
    ),
    "patrol_route": (
        {"name": "River"},
        {
            "waypoints": st.sampled_from(["[]", '[{"lat":-2.0,"lon":37.0}]']),
            "assigned_rangers": st.just('["ranger-1"]'),
            "scheduled_start_ms": st.none() | instants_ms, "estimated_duration_h": st.none() | st.just(1.5),
        },
    ),
    "ranger_position": (
        {"ranger_id": "ranger-1", "recorded_ms": START_MS, "lon_e7": 1, "lat_e7": 2},
        {"h_acc_m": st.none() | st.just(4.5), "activity_type": st.sampled_from(["resting", "patrolling"])},
    ),
}  # fmt: skip


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    """An edit of one of few records, so that they meet; who made it may know less than is stored."""
    kinds: list[Kind] = ["insert", "update", "update", "delete"]
    entities: list[EntityName] = [
        "animal", "animal", "collar", "collar", "deployment", "deployment", "deployment", "deployment", "observation",
        "observation", "zone", "corridor", "team", "ranger", "patrol_log", "patrol_route", "ranger_position",
        "patrol",
    ]  # fmt: skip
    kind, entity = draw(st.sampled_from(kinds)), draw(st.sampled_from(entities))
    columns: dict[str, Any] = {}
    if entity == "animal":
        row_id = draw(animals)
        columns = draw(st.fixed_dictionaries({}, optional={
            "name": st.sampled_from(["A", "B"]), "species": species, "collar_id": collars | st.none(),
            "age": st.none() | st.just(7.5), "notes": st.none() | st.just("n"),
        }))  # fmt: skip
    elif entity == "collar":
        row_id = draw(collars)
        columns = draw(st.fixed_dictionaries({}, optional={
            "aliases": st.lists(collars, max_size=2, unique=True), "notes": st.none() | st.just("n"),
        }))  # fmt: skip
    elif entity == "deployment":
        row_id = draw(st.sampled_from(["d1", "d2"]))
        columns = draw(st.fixed_dictionaries(
            {"collar_id": collars, "animal_id": animals} if kind == "insert" else {},
            optional={"started_ms": instants_ms, "ended_ms": instants_ms | st.none()},
        ))  # fmt: skip
    elif entity in ("zone", "corridor"):
        row_id = "z1" if entity == "zone" else "c1"
        begun = {"name": "Z", "zone_type": "road", "geometry": AREA} if entity == "zone" else {"name": "C", **ENDS}
        columns = {**begun, **draw(st.fixed_dictionaries({}, optional=drawn_columns[entity]))}
    elif entity == "patrol":
        row_id = "p1"
        columns = {"started_ms": START_MS} | draw(st.fixed_dictionaries({}, optional={
            "ended_ms": instants_ms | st.none(), "track": st.sampled_from([None, LINE, AREA]), "note": st.just("x"),
        }))  # fmt: skip
    elif entity in patrol_columns:
        row_id = f"{entity}-1"
        begun, changed = patrol_columns[entity]
        columns = {**begun, **draw(st.fixed_dictionaries({}, optional=changed))}
    else:
        row_id = "o1"
        columns = draw(st.fixed_dictionaries({}, optional={
            "animal_id": animals | st.none(), "description": st.sampled_from(["", "x"]), "lon_e7": st.just(7),
        }))  # fmt: skip
    origin = draw(st.sampled_from(["", "", "post:1", "phone:2"]))
    return Operation(
        id="", entity=entity, row_id=row_id, kind=kind, columns={} if kind == "delete" else columns, made_ms=START_MS,
        author=draw(st.sampled_from(["ann", "bob"])), origin=origin,
        base_rev=draw(st.none() | st.integers(0, 3)) if origin else None,
    )  # fmt: skip


steps = st.lists(
    st.lists(fixes(), min_size=1, max_size=5) | operations() | st.tuples(st.integers(0, 9), st.booleans()),
    min_size=2,
    max_size=14,
)


def told_apart(said: Sequence[Step]) -> list[Step]:
    """Give each operation its own id and instant, beginning with two animals."""
    begun = [
        Operation(id="a", entity="animal", row_id=ANIMAL, kind="insert", made_ms=START_MS,
                  columns={"name": "Alpha", "species": "elephant"}),
        Operation(id="b", entity="animal", row_id=LION, kind="insert", made_ms=START_MS,
                  columns={"name": "Beta", "species": "lion"}),
    ]  # fmt: skip
    return [*begun, *(
        replace(step, id=f"op-{number}", made_ms=START_MS + number * 1_000) if isinstance(step, Operation) else step
        for number, step in enumerate(said)
    )]  # fmt: skip


async def say(store: Any, step: Step, ids: Sequence[str]) -> object:
    """Say one thing to a store and return its answer, or how it refused."""
    try:
        if isinstance(step, Operation):
            return await store.edit(step)
        if isinstance(step, list):
            return await store.add_fixes(VIEW, step)
        if not ids:
            return None
        return await store.flag_fix(VIEW, ids[step[0] % len(ids)], is_excluded=step[1])
    except RequestError as refused:
        return type(refused), refused.detail


async def ids_of(store: Any) -> list[str]:
    return sorted(fix.id for fix in (await store.fixes(VIEW, FixQuery(limit=10_000))).results)


async def all_of(store: Any) -> dict[str, Any]:
    """Return all that a store holds, in one order."""
    found = await store.fixes(VIEW, FixQuery(limit=10_000))
    lists = {
        "animals": await store.animals(VIEW, AnimalQuery(limit=100)),
        "collars": await store.collars(VIEW, search=None, offset=0, limit=100),
        "deployments": await store.deployments(VIEW, animal_id=None, collar_id=None, offset=0, limit=100),
        "zones": await store.zones(VIEW, ZoneQuery(limit=100)),
        "corridors": await store.corridors(VIEW, CorridorQuery(limit=100)),
        "patrols": await store.patrols(VIEW, PatrolQuery(limit=100)),
        "teams": await store.teams(VIEW, TeamQuery(limit=100)),
        "rangers": await store.rangers(VIEW, RangerQuery(limit=100)),
        "positions": await store.ranger_positions(VIEW, RangerPositionQuery(limit=100)),
        "logs": await store.patrol_logs(VIEW, PatrolLogQuery(limit=100)),
        "routes": await store.patrol_routes(VIEW, PatrolRouteQuery(limit=100)),
        "fixes": found,
    }
    assert all(len(page.results) == page.count for page in lists.values())
    state: dict[str, Any] = {
        name: {each.id: each for each in page.results} for name, page in lists.items()
    }  # fmt: skip
    state["live"] = await store.live_animals(VIEW)
    state["live rangers"] = await store.live_rangers(VIEW)
    roles: tuple[Role, ...] = ("ranger", "viewer")
    for role in roles:
        view = View(principal=Principal(user_id="ann", role=role))
        state[role] = [
            await store.rangers(view, RangerQuery()), await store.teams(view, TeamQuery()),
            await store.patrol_logs(view, PatrolLogQuery()), await store.patrol_routes(view, PatrolRouteQuery()),
            await store.ranger_positions(view, RangerPositionQuery()), await store.ranger_counts(view),
        ]  # fmt: skip
    return state


@examples(40)
@given(steps)
def test_the_same_words_make_the_same_rows_in_every_home(homes: Homes, said: list[Step]) -> None:
    homes.wipe()

    async def play() -> None:
        for step in told_apart(said):
            ids = await ids_of(homes.memory) if isinstance(step, tuple) else []
            expected = await say(homes.memory, step, ids)
            assert await say(homes.cloud, step, ids) == expected, step
            assert await say(homes.station, step, ids) == expected, step
        expected_rows = await all_of(homes.memory)
        assert await all_of(homes.cloud) == expected_rows
        assert await all_of(homes.station) == expected_rows

    homes.run(play())


# --- PostgreSQL beside itself ---------------------------------------------------------------------------------------

_ROWS = (
    "SELECT f.id::text, c.id, a.id, s.id, recorded_ms, raw_ms, received_ms, sure_received_ms, network_ms, lon_e7,"
    f" lat_e7, flags, source, {', '.join(f'f.{name}' for name in OPTIONAL)}, is_clock_unset, geom::text FROM fixes f"
    " JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.animal_pk LEFT JOIN animals s"
    " ON s.pk = f.said_animal_pk ORDER BY f.id"
)


def as_row(fix: NewFix) -> dict[str, Any]:
    """Return a fix as a station's batch holds it."""
    received_ms = to_ms(fix.received_at)
    return {
        "collar_id": fix.device, "raw_ms": to_ms(fix.recorded_at), "received_ms": received_ms,
        "sure_received_ms": received_ms if fix.is_clock_sure else None,
        "lon_e7": None if fix.lon_deg is None else round(fix.lon_deg * 1e7),
        "lat_e7": None if fix.lat_deg is None else round(fix.lat_deg * 1e7),
        "said_animal_id": fix.animal_id, "source": fix.source, "is_clock_unset": int(fix.is_clock_unset),
        **{name: getattr(fix, name) for name in OPTIONAL},
    }  # fmt: skip


async def bring(homes: Homes, brought: Sequence[NewFix]) -> None:
    """Bring fixes as a station does."""
    await homes.cloud.partitions.ensure(to_ms(fix.recorded_at) for fix in brought)
    async with homes.database.transaction() as connection:
        taken = await batches.take_fixes(
            connection, columns_of([as_row(fix) for fix in brought]), "post", "post:1", START_MS
        )
        await note(connection, taken.lines, new_fixes=taken.new_fixes)
    assert taken.counts["quarantined"] == 0


def shuffled(brought: Sequence[NewFix], edits: Sequence[Operation], rng: random.Random) -> list[Step]:
    """Return fixes in batches of chance, and edits in their order somewhere between."""
    rest = list(brought)
    rng.shuffle(rest)
    found: list[Step] = []
    while rest:
        size = rng.choice([1, 2, 5, len(rest)])
        found.append(rest[:size])
        rest = rest[size:]
    places = sorted(rng.randint(0, len(found)) for _ in edits)
    for place, edit in reversed(list(zip(places, edits, strict=True))):
        found.insert(place, edit)
    return found


_EDITS = [
    Operation(id="e1", entity="deployment", row_id="d", kind="insert", made_ms=START_MS, columns={
        "collar_id": RADIO, "animal_id": ANIMAL, "started_ms": START_MS - 2 * HOUR_MS,
        "ended_ms": START_MS + 3 * HOUR_MS,
    }),
    Operation(id="e2", entity="collar", row_id=COLLAR, kind="insert", made_ms=START_MS, columns={"aliases": [RADIO]}),
    Operation(id="e3", entity="animal", row_id=ANIMAL, kind="update", made_ms=START_MS, columns={"species": "lion"}),
]  # fmt: skip


@examples(25)
@given(st.lists(fixes(), min_size=1, max_size=14), st.integers(0, 3), st.integers(0, 9))
def test_the_order_of_arrival_the_batching_and_the_way_do_not_matter_in_the_cloud(
    homes: Homes, brought: list[NewFix], n_edits: int, seed: int
) -> None:
    tables = []
    for way in range(2):
        homes.wipe_cloud()
        rng = random.Random(seed + way * 10)

        async def play(rng: random.Random = rng) -> None:
            for step in (*told_apart([]), *shuffled(brought, _EDITS[:n_edits], rng)):
                if isinstance(step, list) and rng.random() < 0.5:
                    await bring(homes, step)
                else:
                    assert isinstance(step, Operation | list)
                    answer = await say(homes.cloud, step, [])
                    assert not isinstance(answer, tuple), answer

        homes.run(play())
        tables.append(ask(homes.url, _ROWS))
    assert tables[0] == tables[1]
    assert ask(homes.url, "SELECT value FROM counters WHERE name = 'fixes'") == [(len(tables[1]),)]


@examples(25)
@given(st.lists(fixes(), max_size=6), st.lists(operations(), min_size=2, max_size=10), st.integers(0, 9))
def test_operations_do_the_same_in_one_batch_and_one_by_one(
    homes: Homes, brought: list[NewFix], edits: list[Operation], seed: int
) -> None:
    said = [
        replace(step, origin="post:1")
        for step in told_apart(edits)
        if isinstance(step, Operation)
    ]  # fmt: skip
    results = []
    for sizes in ([1], [len(said)], [1, 2, 3]):
        homes.wipe_cloud()
        rng = random.Random(seed)
        rest = list(said)
        outcomes: list[Any] = []

        async def take(some: Sequence[Operation]) -> None:
            async with homes.database.transaction() as connection:
                taken = await batches.take_operations(connection, some, START_MS)
                await note(connection, taken.lines, new_fixes=taken.new_fixes)

        async def records() -> list[Record]:
            async with homes.database.snapshot() as connection:
                return (await feed.changed_records(connection, "post-1", 0, 10_000)).records

        if brought:
            homes.run(bring(homes, brought))
        while rest:
            size = rng.choice(sizes)
            homes.run(take(rest[:size]))
            rest = rest[size:]
        outcomes = ask(homes.url, "SELECT id, outcome FROM applied_operations ORDER BY id")
        lost = ask(homes.url, "SELECT operation_id, columns, kept FROM lost_edits ORDER BY operation_id")
        found = sorted(homes.run(records()), key=lambda record: (record.entity, record.id))
        results.append((outcomes, lost, found, ask(homes.url, _ROWS)))
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            assert theirs == mine
