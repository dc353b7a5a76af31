"""Laws of edits: whatever is done in whatever order, the records stay sound, and homes that told each other agree."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.errors import RequestError
from shared.sync.decide import decide
from shared.sync.operations import Change, Effects, Kind, Operation, Rows, Wanted, wanted
from shared.sync.records import ENTITIES, EntityName, Record
from shared.sync.take import take

pytestmark = [pytest.mark.unit, pytest.mark.sync]

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
T0 = 1_780_000_000_000
ANIMALS, COLLARS, DEPLOYMENTS = ["a", "b"], ["K1", "K2", "r1", "r2"], ["d", "e", "f"]
FAR_MS = 2**62
Key = tuple[EntityName, str]


def examples(n: int) -> settings:
    return settings(max_examples=n * 10 if NIGHTLY else n, deadline=None, derandomize=True, database=None)


# --- operations among few records, so that they meet
instants = st.integers(0, 12).map(lambda n: T0 + n)
names = st.sampled_from(COLLARS)
aliases = st.lists(names, max_size=2).map(tuple)


def some(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=columns)


def all_of(given: dict[str, Any], columns: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return columns.map(lambda each: {**given, **each})


ANIMAL_COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["A", "B"]), "species": st.sampled_from(["lion", "elephant"]),
    "status": st.sampled_from(["active", "missing"]), "age": st.sampled_from([None, 1.0, 2.0]),
}  # fmt: skip
animal_edits = some(**ANIMAL_COLUMNS)
animal_columns = all_of({"name": "A", "species": "lion"}, animal_edits)
with_collar = some(collar_id=st.none() | names, name=ANIMAL_COLUMNS["name"])
collar_columns = some(model=st.sampled_from([None, "x", "y"]), aliases=aliases)
deployment_edits = some(
    collar_id=names, animal_id=st.sampled_from(ANIMALS), started_ms=instants, ended_ms=st.none() | instants
)
deployment_columns = st.builds(
    lambda edits, collar, animal: {"collar_id": collar, "animal_id": animal, **edits},
    deployment_edits,
    names,
    st.sampled_from(ANIMALS),
)
zone_edits = some(name=st.sampled_from(["Y", "Z"]), is_active=st.booleans())
AREA = '{"type":"Polygon","coordinates":[[[37,-2],[38,-2],[38,-3],[37,-2]]]}'
zone_columns = all_of({"name": "Z", "zone_type": "road", "geometry": AREA}, zone_edits)
LINE = '{"type":"LineString","coordinates":[[37,-2],[38,-3]]}'
ENDS = {"start_lon_e7": 370_000_000, "start_lat_e7": 0, "end_lon_e7": 380_000_000, "end_lat_e7": 0}
corridor_edits = some(
    status=st.sampled_from(["planned", "active"]), geometry=st.sampled_from([None, LINE, AREA]),
    width_m=st.sampled_from([0.0, 500.0]), start_lon_e7=st.sampled_from([None, 1]),
)  # fmt: skip
corridor_columns = all_of({"name": "C", **ENDS}, corridor_edits)


def edits(
    entity: EntityName, ids: list[str], kind: Kind, columns: st.SearchStrategy[dict[str, Any]]
) -> st.SearchStrategy[Operation]:
    return st.builds(
        Operation, id=st.just(""), entity=st.just(entity), row_id=st.sampled_from(ids), kind=st.just(kind),
        columns=columns, made_ms=instants,
    )  # fmt: skip


nothing: st.SearchStrategy[dict[str, Any]] = st.just({})
operations = st.one_of(
    edits("animal", ANIMALS, "insert", animal_columns),
    edits("animal", ANIMALS, "update", st.one_of(animal_edits, with_collar, with_collar)),
    edits("animal", ANIMALS, "delete", nothing),
    edits("collar", COLLARS, "insert", collar_columns),
    edits("collar", COLLARS, "insert", collar_columns),
    edits("collar", COLLARS, "delete", nothing),
    edits("deployment", DEPLOYMENTS, "insert", deployment_columns),
    edits("deployment", DEPLOYMENTS, "insert", deployment_columns),
    edits("deployment", DEPLOYMENTS, "update", deployment_edits),
    edits("deployment", DEPLOYMENTS, "delete", nothing),
    edits("zone", ["z"], "insert", zone_columns),
    edits("zone", ["z"], "update", zone_edits),
    edits("zone", ["z"], "delete", nothing),
    edits("corridor", ["c"], "insert", corridor_columns),
    edits("corridor", ["c"], "update", corridor_edits),
    edits("corridor", ["c"], "delete", nothing),
)
START = [
    Operation(id=f"start-{each}", entity="animal", row_id=each, kind="insert", made_ms=T0,
              columns={"name": each, "species": "lion"})
    for each in ANIMALS
]  # fmt: skip


def numbered(drawn: Iterable[Operation], start: list[Operation] = START) -> list[Operation]:
    """Give operations their ids; two animals are there from the start."""
    return [*start, *(replace(operation, id=f"op{n}") for n, operation in enumerate(drawn))]


local_plans = st.lists(operations, max_size=14).map(numbered)
mixed_plans = st.lists(
    st.builds(
        lambda operation, origin, base_rev: replace(operation, origin=origin, base_rev=base_rev),
        operations, st.sampled_from(["", "", "s", "t"]), st.sampled_from([None, 0, 1, 2, 3]),
    ),
    max_size=18,
).map(numbered)  # fmt: skip


def attempt(operation: Operation, rows: Rows) -> Effects | None:
    """Decide and note an operation; None, and nothing changed, where it is refused."""
    before = rows.values()
    try:
        effects = decide(operation, rows)
    except RequestError:
        assert rows.values() == before
        return None
    assert rows.values() == before
    rows.take(effects)
    return effects


def play(plan: Iterable[Operation]) -> Rows:
    rows = Rows()
    for operation in plan:
        attempt(operation, rows)
    return rows


def assert_sound(rows: Rows) -> None:
    """What holds of the records of a home, whatever was done."""
    living = [record for record in rows.values() if not record.is_deleted]
    collars = {record.id: record for record in living if record.entity == "collar"}
    owned: list[str] = [alias for record in collars.values() for alias in record.columns["aliases"]]
    assert len(owned) == len(set(owned)), "an alias of two collars"
    assert not set(owned) & collars.keys(), "an alias that is a collar"
    for record in rows.values():
        entity = ENTITIES[record.entity]
        assert record.columns.keys() == entity.columns.keys()
        assert all(record.columns[name] is not None for name in entity.required)
        assert all(mark.rev <= record.rev for mark in record.marks.values())
        assert not (record.is_deleted and record.columns.get("aliases"))
    worn = [record for record in living if record.entity == "deployment"]
    for n, one in enumerate(worn):
        assert one.columns["collar_id"] in collars
        animal = rows.get("animal", one.columns["animal_id"])
        assert animal is not None
        assert not animal.is_deleted
        assert one.columns["ended_ms"] is None or one.columns["ended_ms"] > one.columns["started_ms"]
        for other in worn[:n]:
            if any(one.columns[name] == other.columns[name] for name in ("collar_id", "animal_id")):
                first, second = sorted((one, other), key=lambda each: int(each.columns["started_ms"]))
                end_ms = first.columns["ended_ms"]
                assert (FAR_MS if end_ms is None else end_ms) <= second.columns["started_ms"], "worn twice at once"


@given(mixed_plans)
@examples(300)
def test_records_stay_sound_whatever_is_done(plan: list[Operation]) -> None:
    rows = Rows()
    for operation in plan:
        before = {(record.entity, record.id): record for record in rows.values()}
        effects = attempt(operation, rows)
        assert_sound(rows)
        for change in effects.changes if effects else ():
            record = change.record
            assert change.before == before.get((record.entity, record.id))
            assert record.rev == (1 if change.before is None else change.before.rev + 1)
            if change.before is not None:
                changed = {
                    name for name, value in record.columns.items() if value != change.before.columns[name]
                }  # fmt: skip
                assert changed <= change.columns.keys()
        if effects:
            assert bool(effects.changes) == (effects.outcome in ("applied", "merged"))
            assert bool(effects.lost) <= (effects.outcome in ("merged", "superseded", "alias"))
            assert not operation.origin <= "" or not effects.lost


@given(mixed_plans)
@examples(200)
def test_doing_an_operation_twice_is_doing_it_once(plan: list[Operation]) -> None:
    rows = Rows()
    for operation in plan:
        before = Rows(rows.values())
        effects = attempt(operation, rows)
        again = attempt(operation, rows)
        if effects is None or takes_radio_ids_over(operation, before):
            continue
        assert again is None or again.changes == ()


def takes_radio_ids_over(operation: Operation, rows: Rows) -> bool:
    """Say whether a collar with radio ids of its own becomes another: naming it alone again takes those away."""
    heard = [rows.get("collar", alias) for alias in operation.columns.get("aliases", ())]
    return any(record is not None and not record.is_deleted and record.columns["aliases"] for record in heard)


@given(
    plan=mixed_plans,
    edits=st.fixed_dictionaries({}, optional=ANIMAL_COLUMNS),
    is_first=st.lists(st.booleans(), min_size=4, max_size=4),
    base_revs=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
@examples(100)
def test_edits_of_different_columns_commute(
    plan: list[Operation], edits: dict[str, Any], is_first: list[bool], base_revs: tuple[int, int]
) -> None:
    first = {name for name, chosen in zip(ANIMAL_COLUMNS, is_first, strict=True) if chosen}
    pair = [
        Operation(
            id=f"last-{origin}", entity="animal", row_id="a", kind="update", made_ms=T0 + 20, origin=origin,
            columns={name: value for name, value in edits.items() if (name in first) == is_mine}, base_rev=base_rev,
        )
        for origin, is_mine, base_rev in (("p", True, base_revs[0]), ("q", False, base_revs[1]))
    ]  # fmt: skip
    ends = []
    for order in (pair, pair[::-1]):
        record = play([*plan, *order]).get("animal", "a")
        assert record is not None
        ends.append((dict(record.columns), record.is_deleted))
    assert ends[0] == ends[1]


def loaded(rows: Rows, needs: Wanted) -> Rows:
    """Return of ``rows`` what a home loads for ``needs``, and no more."""
    records = {(record.entity, record.id): record for record in rows.values()}
    found: dict[Key, Record] = {}

    def add(entity: EntityName, identity: str) -> None:
        if (entity, identity) in records:
            found[entity, identity] = records[entity, identity]

    for entity, identities in needs.ids.items():
        for identity in identities:
            add(entity, identity)
    named = set(needs.collars)
    for record in list(found.values()):
        if record.entity == "deployment":
            add("animal", record.columns["animal_id"])
            named.add(record.columns["collar_id"])
    for name in named:
        add("collar", name)
        add("collar", rows.canonical(name))
    for record in list(found.values()):
        column: Any = f"{record.entity}_id"
        for wearing in rows.worn(column, record.id) if record.entity in ("animal", "collar") else ():
            add("deployment", wearing.id)
            add("animal", wearing.columns["animal_id"])
            add("collar", wearing.columns["collar_id"])
    return Rows(found.values(), with_fixes=rows.with_fixes)


@given(mixed_plans, st.sets(names))
@examples(200)
def test_a_batch_decides_as_its_operations_alone_and_on_what_is_loaded(
    plan: list[Operation], with_fixes: set[str]
) -> None:
    whole = Rows(with_fixes=with_fixes)
    for operation in plan:
        some_rows = loaded(whole, wanted([operation]))
        assert attempt(operation, Rows(whole.values(), with_fixes=with_fixes)) == attempt(operation, some_rows)
        some_rows = loaded(whole, wanted([operation]))
        assert attempt(operation, some_rows) == attempt(operation, whole)


# --- a station and the cloud
def as_operation(change: Change, number: int) -> Operation:
    """Return a change of a station as it tells the cloud of it."""
    record = change.record
    columns = change.columns if change.kind == "update" else {} if change.kind == "delete" else record.columns
    return Operation(
        id=f"up{number}", entity=record.entity, row_id=record.id, kind=change.kind, columns=dict(columns),
        made_ms=record.updated_ms, author=record.author, base_rev=record.cloud_rev, origin="s",
    )  # fmt: skip


def living(rows: Rows) -> dict[Key, dict[str, Any]]:
    return {(record.entity, record.id): dict(record.columns) for record in rows.values() if not record.is_deleted}


@given(local_plans, st.randoms(use_true_random=False))
@examples(300)
def test_what_a_station_did_is_so_in_the_cloud_and_comes_back_as_it_was(plan: list[Operation], chance: Any) -> None:
    station, cloud = Rows(), Rows()
    up: list[Operation] = []
    for operation in plan:
        effects = attempt(operation, station)
        up += [as_operation(change, len(up) + n) for n, change in enumerate(effects.changes if effects else ())]
    for operation in up:
        effects = attempt(operation, cloud)
        assert effects is not None, operation
        assert effects.outcome in ("applied", "duplicate"), (operation, effects)
    assert living(cloud) == living(station)
    before = living(station)
    down = cloud.values()
    chance.shuffle(down)
    for theirs in down:
        effects = take(theirs, station, (), T0)
        station.take(effects)
        assert [dict(change.columns) for change in effects.changes] == [{}]
        assert take(theirs, station, (), T0).outcome == "duplicate"
    assert living(station) == before
    assert_sound(station)


@given(local_plans, st.randoms(use_true_random=False))
@examples(200)
def test_a_station_that_comes_late_learns_all_from_the_cloud(plan: list[Operation], chance: Any) -> None:
    cloud, station = play(plan), Rows()
    heard = [Operation(id=name, entity="collar", row_id=name, kind="insert", made_ms=T0) for name in COLLARS]
    for operation in heard:  # before it was told anything
        if chance.random() < 0.5:
            attempt(operation, station)
    unknown = living(station).keys() - {(record.entity, record.id) for record in cloud.values()}
    down = cloud.values()
    chance.shuffle(down)
    for theirs in down:
        station.take(take(theirs, station, (), T0))
    aliases = {alias for key, columns in living(cloud).items() if key[0] == "collar" for alias in columns["aliases"]}
    mine = {key: columns for key, columns in living(station).items() if key not in unknown}
    assert mine == living(cloud)
    assert not {identity for _, identity in living(station)} & aliases
    assert_sound(station)


class Station:
    """A station that edits, sends one record at a time as it stands, and takes what the cloud says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = Rows()
        self.pending: dict[Key, set[str]] = {}
        self.cursor = 0
        self.sent = 0

    def edit(self, operation: Operation) -> None:
        effects = attempt(replace(operation, id=f"{self.name}-{operation.id}"), self.rows)
        for change in effects.changes if effects else ():
            waiting = self.pending.setdefault((change.record.entity, change.record.id), set())
            waiting |= change.columns.keys() | ({"deleted_ms"} if change.kind == "delete" else set())

    def push(self, cloud: Rows, feed: list[Key]) -> None:
        if not self.pending:
            return
        key = next(iter(self.pending))
        record = self.rows.get(*key)
        assert record is not None
        columns = {name: record.columns[name] for name in self.pending.pop(key) if name in record.columns}
        self.sent += 1
        effects = attempt(
            Operation(
                id=f"{self.name}-up{self.sent}", entity=record.entity, row_id=record.id, made_ms=record.updated_ms,
                kind="delete" if record.is_deleted else "update", columns={} if record.is_deleted else columns,
                base_rev=record.cloud_rev, origin=self.name,
            ),
            cloud,
        )  # fmt: skip
        assert effects is not None
        feed += [(change.record.entity, change.record.id) for change in effects.changes]
        if effects.lost:  # the ruling goes down too
            feed.append(key)

    def pull(self, cloud: Rows, feed: list[Key]) -> None:
        for key in dict.fromkeys(feed[self.cursor :]):
            theirs = cloud.get(*key)
            assert theirs is not None
            self.rows.take(take(theirs, self.rows, self.pending.get(key, ()), T0))
        self.cursor = len(feed)


#: What may clash: edits and deletions of plain columns.
plain = st.one_of(
    edits("animal", ANIMALS, "update", animal_edits),
    edits("animal", ANIMALS, "update", animal_edits),
    edits("animal", ANIMALS, "delete", nothing),
    edits("collar", ["K1", "K2"], "insert", some(model=st.sampled_from([None, "x", "y"]))),
    edits("collar", ["K1", "K2"], "insert", some(notes=st.sampled_from([None, "x", "y"]))),
    edits("zone", ["z"], "update", zone_edits),
    edits("zone", ["z"], "delete", nothing),
    edits("corridor", ["c"], "update", corridor_edits),
    edits("corridor", ["c"], "delete", nothing),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["cloud", "s", "t"]), st.sampled_from(["edit", "edit", "push", "pull"]), plain
    ),
    max_size=30,
)  # fmt: skip


@given(steps)
@examples(400)
def test_homes_that_have_told_each_other_everything_agree(plan: list[tuple[str, str, Operation]]) -> None:
    cloud, feed = Rows(), list[Key]()
    stations = {name: Station(name) for name in ("s", "t")}
    zone = Operation(id="z", entity="zone", row_id="z", kind="insert", made_ms=T0, columns=dict(zone_example()))
    corridor = Operation(
        id="c", entity="corridor", row_id="c", kind="insert", made_ms=T0, columns={"name": "C", **ENDS}
    )
    for operation in [*START, zone, corridor]:
        effects = attempt(operation, cloud)
        assert effects is not None
        feed += [(change.record.entity, change.record.id) for change in effects.changes]
    for station in stations.values():
        station.pull(cloud, feed)
    for n, (where, what, drawn) in enumerate(plan):
        operation = replace(drawn, id=f"op{n}")
        if where == "cloud":
            effects = attempt(operation, cloud)
            feed += [(change.record.entity, change.record.id) for change in effects.changes] if effects else []
        elif what == "edit":
            stations[where].edit(operation)
        elif what == "push":
            stations[where].push(cloud, feed)
        else:
            stations[where].pull(cloud, feed)
    for station in stations.values():
        while station.pending:
            station.push(cloud, feed)
    for station in stations.values():
        station.pull(cloud, feed)
        assert living(station.rows) == living(cloud)
        assert_sound(station.rows)


def zone_example() -> dict[str, Any]:
    return {"name": "Z", "zone_type": "road", "geometry": AREA}


def test_every_kind_of_record_has_its_entity() -> None:
    assert set(ENTITIES) == set(get_args(EntityName))
