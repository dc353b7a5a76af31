"""The station's store over a real encrypted file: records, whose fixes are whose, what is told to the cloud."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from edge.store.driver import Connection
from edge.store.fixes import FixWriter
from edge.store.records import RecordWriter
from edge.store.store import SpatialiteStore
from shared.domain import FixFlag, HeardDevice
from shared.errors import Conflict, Invalid, NotFound
from shared.ids import random_id
from shared.sync.operations import Effects, Kind, Operation
from shared.sync.records import COLLAR, ENTITIES, EntityName, Mark, Record, to_ms
from tests.fakes import START
from tests.integration.station_store import (
    EUI,
    HOUR,
    VIEW,
    add,
    ask,
    deploy,
    elephant,
    fix_of,
    fixes,
    outbox,
    outcomes,
)

pytestmark = pytest.mark.integration


# --- who wore the collar
async def test_fixes_of_an_unknown_collar_are_adopted_by_a_deployment_of_the_past(store: SpatialiteStore) -> None:
    await add(store, *(fix_of(at=START + index * HOUR) for index in range(6)))
    assert {(fix.collar_id, fix.animal_id) for fix in await fixes(store)} == {(EUI, None)}
    animal_id = await elephant(store)
    deployment = await deploy(store, animal_id, start=START + HOUR, end=START + 4 * HOUR)

    async def wearers() -> list[str | None]:
        return [fix.animal_id for fix in await fixes(store)]

    a = animal_id
    assert await wearers() == [None, a, a, a, None, None]
    await store.update_deployment(VIEW, deployment, {"started_at": START + 2 * HOUR, "ended_at": None})
    assert await wearers() == [None, None, a, a, a, a]
    await store.update_deployment(VIEW, deployment, {"collar_id": "eui:other"})
    assert await wearers() == [None] * 6
    await store.update_deployment(VIEW, deployment, {"collar_id": EUI})
    await store.delete_deployment(VIEW, deployment)
    assert await wearers() == [None] * 6


async def test_a_collar_used_again_gives_each_animal_its_own_fixes(store: SpatialiteStore) -> None:
    first, second = await elephant(store), await elephant(store, "Beta")
    await deploy(store, first, end=START + 2 * HOUR)
    await deploy(store, second, start=START + 3 * HOUR)
    await add(store, *(fix_of(at=START + index * HOUR) for index in range(5)))
    assert [fix.animal_id for fix in await fixes(store)] == [first, first, None, second, second]
    assert [fix.recorded_at for fix in await fixes(store, animal_id=second)] == [START + 3 * HOUR, START + 4 * HOUR]


async def test_overlapping_deployments_are_refused_and_change_nothing(store: SpatialiteStore) -> None:
    first, second = await elephant(store), await elephant(store, "Beta")
    await deploy(store, first, end=START + 4 * HOUR)
    before = await outbox(store)
    with pytest.raises(Conflict, match="collar is taken"):
        await deploy(store, second, start=START + 3 * HOUR)
    with pytest.raises(Conflict, match="animal is taken"):
        await deploy(store, first, "eui:unheard", start=START - HOUR)
    with pytest.raises(Invalid, match="ended_at"):
        await deploy(store, second, start=START + 5 * HOUR, end=START + 5 * HOUR)
    assert await outbox(store) == before
    with pytest.raises(NotFound):
        await store.collar(VIEW, "eui:unheard")
    await deploy(store, second, start=START + 4 * HOUR)  # one ends as the other begins


async def test_a_deployment_may_begin_with_the_epoch(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    deployment = await deploy(store, animal_id, start=epoch, end=START)
    assert (await store.deployment(VIEW, deployment)).started_at == epoch


async def test_another_species_judges_the_speed_anew(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await deploy(store, animal_id)
    await add(
        store, *(fix_of(at=START + index * HOUR, lat=-2.5 + 0.18 * (index == 1)) for index in range(4))
    )  # 20 km there and back, in an hour each
    assert [fix.flags for fix in await fixes(store)] == [0, FixFlag.IMPOSSIBLE_SPEED, 0, 0]
    await store.update_animal(VIEW, animal_id, {"species": "wildebeest"})
    assert [fix.flags for fix in await fixes(store)] == [0, 0, 0, 0]


async def test_another_species_judges_positions_without_a_collar_anew(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await add(
        store,
        *(
            fix_of(f"animal:{animal_id}", START + index * HOUR, lat=-2.5 + 0.18 * (index == 1), animal_id=animal_id)
            for index in range(4)
        ),
    )
    assert [fix.flags for fix in await fixes(store)] == [0, FixFlag.IMPOSSIBLE_SPEED, 0, 0]
    await store.update_animal(VIEW, animal_id, {"species": "wildebeest"})
    assert [fix.flags for fix in await fixes(store)] == [0, 0, 0, 0]


async def test_a_deleted_animal_leaves_a_word_for_each_deployment(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await deploy(store, animal_id, end=START + HOUR)
    await deploy(store, animal_id, start=START + HOUR)
    before = len(await outbox(store))
    await store.delete_animal(VIEW, animal_id)
    assert sorted((await outbox(store))[before:]) == [("animal", "delete")] + [("deployment", "delete")] * 2


# --- aliases
async def test_a_late_alias_rekeys_merges_and_moves_the_deployments(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await deploy(store, animal_id, EUI, end=START + 9 * HOUR)
    await add(store, *(fix_of(EUI, START + index * HOUR, alt_m=5.0) for index in range(3)))
    await add(store, *(fix_of("K1", START + index * HOUR, hdop=1.0) for index in range(1, 4)))
    assert (await store.facts()).fixes == 6
    collar = await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    assert collar.aliases == (EUI,)
    kept = await fixes(store)
    assert [(fix.collar_id, fix.alt_m, fix.hdop) for fix in kept] == [
        ("K1", 5.0, None), ("K1", 5.0, 1.0), ("K1", 5.0, 1.0), ("K1", None, 1.0),
    ]  # fmt: skip
    assert {fix.animal_id for fix in kept} == {animal_id}
    (deployment,) = (await store.deployments(VIEW, animal_id=animal_id, collar_id=None, offset=0, limit=9)).results
    assert deployment.collar_id == "K1"
    with pytest.raises(NotFound):
        await store.collar(VIEW, EUI)
    assert outcomes(await add(store, fix_of(EUI, START, alt_m=5.0))) == ["duplicate"]
    moved = await outbox(store)
    assert ("deployment", "update") in moved
    assert ("collar", "delete") in moved


async def test_an_alias_brings_its_own_aliases_along(store: SpatialiteStore) -> None:
    await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    await store.put_collar(VIEW, "K2", {"aliases": ["K1"]})
    await add(store, fix_of(EUI), fix_of("K1", START + HOUR), fix_of("K2", START + 2 * HOUR))
    assert [fix.collar_id for fix in await fixes(store)] == ["K2"] * 3
    assert (await store.collar(VIEW, "K2")).aliases == ("K1", EUI)


async def test_an_alias_that_would_put_one_collar_on_two_animals_is_refused(store: SpatialiteStore) -> None:
    await deploy(store, await elephant(store), EUI)
    await deploy(store, await elephant(store, "Beta"), "K1")
    with pytest.raises(Conflict, match="collar is taken"):
        await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    assert (await store.collar(VIEW, EUI)).aliases == ()


async def test_an_alias_named_twice_or_like_the_collar_itself_is_one(store: SpatialiteStore) -> None:
    assert (await store.put_collar(VIEW, "K1", {"aliases": [EUI, EUI, "K1"]})).aliases == (EUI,)
    with pytest.raises(Conflict, match=f"{EUI} belongs to collar K1"):
        await store.put_collar(VIEW, "K2", {"aliases": [EUI]})
    with pytest.raises(Conflict, match=f"{EUI} is an alias of collar K1"):
        await store.put_collar(VIEW, EUI, {})


async def test_a_word_by_hand_survives_a_late_alias(store: SpatialiteStore) -> None:
    added = await add(store, fix_of(EUI), fix_of("K1"), fix_of(EUI, START + HOUR))
    for each in (added[0], added[2]):
        await store.flag_fix(VIEW, each.id, is_excluded=True)
    await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    assert [fix.flags for fix in await fixes(store)] == [FixFlag.EXCLUDED_BY_HAND] * 2


async def test_what_an_alias_last_said_of_itself_is_kept(store: SpatialiteStore) -> None:
    await store.take_decoded("c", 1, [], [HeardDevice("K1", 1000, 3500, None, "old")], [])
    await store.take_decoded("c", 2, [], [HeardDevice(EUI, 2000, 3400)], [])
    collar = await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    assert (to_ms(collar.last_heard_at or START), collar.battery_mv, collar.firmware) == (2000, 3400, "old")


async def test_a_deleted_collar_that_is_heard_again_is_back(store: SpatialiteStore) -> None:
    await store.put_collar(VIEW, EUI, {"model": "m"})
    await store.delete_collar(VIEW, EUI)
    with pytest.raises(NotFound):
        await store.collar(VIEW, EUI)
    await add(store, fix_of(EUI))
    assert (await store.collar(VIEW, EUI)).model == "m"


async def test_the_row_that_stands_for_an_animal_is_no_collar(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await add(store, fix_of(f"animal:{animal_id}", animal_id=animal_id, source="manual"))
    assert (await store.collars(VIEW, search=None, offset=0, limit=9)).count == 0
    assert await fixes(store, search="animal") == []
    for call in (store.put_collar(VIEW, f"animal:{animal_id}", {}), store.put_collar(VIEW, "animal:x", {})):
        with pytest.raises(Invalid, match="animal:"):
            await call


# --- what is told to the cloud
async def test_every_write_leaves_its_outbox_row(store: SpatialiteStore) -> None:
    async def after(write: Any) -> list[tuple[str, str]]:
        before = len(await outbox(store))
        await write
        return (await outbox(store))[before:]

    animal_id = await elephant(store)
    assert await after(store.update_animal(VIEW, animal_id, {"age": 3.0})) == [("animal", "update")]
    assert await after(store.put_collar(VIEW, "K1", {"model": "m"})) == [("collar", "insert")]
    assert await after(store.put_collar(VIEW, "K1", {"model": "n"})) == [("collar", "update")]
    assert await after(deploy(store, animal_id, "K1")) == [("deployment", "insert")]
    assert await after(add(store, fix_of("K1"))) == [("fix", "insert")]
    assert await after(add(store, fix_of("K1"))) == []
    assert await after(add(store, fix_of("K1", alt_m=1.0))) == [("fix", "update")]
    assert await after(add(store, fix_of("new", START))) == [("collar", "insert"), ("fix", "insert")]
    (fix, _) = await fixes(store)
    assert await after(store.flag_fix(VIEW, fix.id, is_excluded=True)) == [("fix", "flag")]
    made = await store.create_observation(VIEW, {"description": "d"})
    assert await after(store.update_observation(VIEW, made.id, {"description": "e"})) == [("observation", "update")]
    assert await after(store.delete_observation(VIEW, made.id)) == [("observation", "delete")]


async def test_an_observation_that_exists_is_a_conflict(store: SpatialiteStore) -> None:
    made = await store.create_observation(VIEW, {"description": "d"})
    with pytest.raises(Conflict, match=made.id):
        await store.create_observation(VIEW, {"id": made.id})


async def test_a_deployment_that_had_not_begun_is_taken_back_when_the_collar_changes(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await deploy(store, animal_id, "early", START + 10_000 * HOUR)
    changed = await store.update_animal(VIEW, animal_id, {"collar_id": "now"})
    assert changed.collar_id == "now"
    deployments = await store.deployments(VIEW, animal_id=animal_id, collar_id=None, offset=0, limit=10)
    assert [found.collar_id for found in deployments.results] == ["now"]


async def bodies(store: SpatialiteStore) -> list[Operation]:
    rows = await ask(store, "SELECT body FROM outbox WHERE body IS NOT NULL ORDER BY oseq")
    return [msgspec.msgpack.decode(body, type=Operation) for (body,) in rows]


async def run(store: SpatialiteStore, *operations: Operation) -> list[Effects]:
    return await store.write(lambda db: RecordWriter(db, FixWriter(db)).run(operations))


async def test_an_edit_that_changes_nothing_leaves_nothing(store: SpatialiteStore) -> None:
    animal_id = await elephant(store, collar_id=EUI)
    await store.put_collar(VIEW, "K1", {"aliases": ["b", "a"], "model": "m"})
    before = await outbox(store)
    assert (await store.update_animal(VIEW, animal_id, {"name": "Alpha", "collar_id": EUI})).rev == 1
    assert (await store.put_collar(VIEW, "K1", {"aliases": ["a", "b"], "model": "m"})).rev == 1
    assert await outbox(store) == before


async def test_an_outbox_row_carries_an_operation_that_brings_its_change_alone(store: SpatialiteStore) -> None:
    animal_id = await elephant(store)
    await store.write(lambda db: db.execute("UPDATE animals SET cloud_rev = 7"))
    before = len(await bodies(store))
    await store.update_animal(VIEW, animal_id, {"age": 3.0, "name": "Alpha", "collar_id": "K1"})
    changed, collar, deployment = (await bodies(store))[before:]
    assert (changed.entity, changed.row_id, changed.kind, changed.columns) == (
        "animal", animal_id, "update", {"age": 3.0},
    )  # fmt: skip
    assert (changed.base_rev, changed.author, changed.origin) == (7, VIEW.principal.user_id, "")
    assert (collar.row_id, collar.kind, collar.base_rev) == ("K1", "insert", 0)
    assert collar.columns.keys() == COLLAR.columns.keys()
    assert (deployment.kind, deployment.columns["collar_id"], deployment.columns["animal_id"]) == (
        "insert", "K1", animal_id,
    )  # fmt: skip
    assert len({changed.id, collar.id, deployment.id}) == 3
    await add(store, fix_of("heard"))  # nobody edited it: the record is sent as it is then
    assert await ask(store, "SELECT entity, operation, body FROM outbox ORDER BY oseq DESC LIMIT 2") == [
        ("fix", "insert", None), ("collar", "insert", None),
    ]  # fmt: skip


async def test_the_collar_that_absorbs_is_told_before_what_follows_from_it(store: SpatialiteStore) -> None:
    animal_id = await elephant(store, collar_id=EUI)
    await add(store, fix_of(EUI), fix_of(EUI, START + HOUR), fix_of("K1"))
    before = len(await outbox(store))
    await store.put_collar(VIEW, "K1", {"aliases": [EUI]})
    told = (await outbox(store))[before:]
    assert told == [("collar", "update"), ("collar", "delete"), ("deployment", "update"), ("fix", "update")]
    absorbed = "SELECT id, rev, deleted_ms IS NULL FROM collars WHERE id <> 'K1'"
    assert await ask(store, absorbed) == [(EUI, 2, 0)]  # under its own name
    await add(store, fix_of(EUI, START + 2 * HOUR))
    assert await ask(store, absorbed) == [(EUI, 2, 0)]  # its radio id is another's now
    assert (await store.animal(VIEW, animal_id)).collar_id == "K1"


async def test_operations_follow_one_another_and_are_done_all_or_none(store: SpatialiteStore) -> None:
    def edit(entity: EntityName, row_id: str, kind: Kind, **columns: Any) -> Operation:
        made_ms = to_ms(START)
        return Operation(id=random_id(), entity=entity, row_id=row_id, kind=kind, columns=columns, made_ms=made_ms)

    new = edit("animal", "a", "insert", name="A", species="lion", collar_id="K1")
    older = edit("animal", "a", "update", age=3.0)
    collar = edit("collar", "K2", "insert", aliases=["K1"])
    with pytest.raises(NotFound):
        await run(store, new, older, edit("zone", "nowhere", "update", name="Z"))
    assert await outbox(store) == []
    done = await run(store, new, older, collar, edit("animal", "a", "update", collar_id="K1"))
    assert [effects.outcome for effects in done] == ["applied", "applied", "applied", "duplicate"]
    animal = await store.animal(VIEW, "a")
    assert (animal.rev, animal.age, animal.collar_id) == (2, 3.0, "K2")
    assert len(await bodies(store)) == sum(len(effects.changes) for effects in done)
    await run(store, edit("collar", "K3", "insert", aliases=["K2"]), edit("collar", "K3", "update", notes="n"))
    assert (await store.collar(VIEW, "K3")).aliases == ("K1", "K2")


async def test_positions_without_a_collar_and_its_animal_are_no_word_to_the_cloud(store: SpatialiteStore) -> None:
    await add(store, fix_of("animal:unknown"))
    assert await outbox(store) == [("fix", "insert")]
    with pytest.raises(NotFound):
        await store.delete_collar(VIEW, "animal:unknown")


# --- what the cloud sends down
AREA = '{"type":"Polygon","coordinates":[[[37,-2],[38,-2],[38,-3],[37,-2]]]}'


def sent(entity: EntityName, row_id: str, rev: int, **columns: Any) -> Record:
    now_ms = to_ms(START)
    full = {**ENTITIES[entity].columns, **columns}
    marks = dict.fromkeys(columns, Mark(rev))
    return Record(entity=entity, id=row_id, columns=full, rev=rev, marks=marks, created_ms=now_ms, updated_ms=now_ms)


async def take(
    store: SpatialiteStore, *records: Record, pending: Mapping[tuple[EntityName, str], set[str]] | None = None
) -> int:
    def job(db: Connection) -> int:
        return RecordWriter(db, FixWriter(db)).take(records, pending or {}, to_ms(START))

    return await store.write(job)


async def test_records_of_the_cloud_are_taken_without_a_word_back(store: SpatialiteStore) -> None:
    records = [
        sent("deployment", "d", 1, collar_id="K1", animal_id="a", started_ms=to_ms(START)),
        sent("collar", "K1", 3, model="m", aliases=["b", "a"]),
        sent("animal", "a", 2, name="A", species="lion"),
        sent("observation", "o", 1, animal_id="not here yet", recorded_ms=to_ms(START)),
        sent("zone", "z", 1, name="Z", zone_type="settlement", geometry=AREA, is_active=False),
        sent("corridor", "c", 5, name="C", geometry=AREA, status="active", width_m=500.0),
        sent("alert", "l", 4, alert_type="low_battery", title="T", detected_ms=to_ms(START), zone_id="nor this"),
    ]
    assert await take(store, *records) == 7
    assert await take(store, *records) == 0
    assert await outbox(store) == []
    assert (await store.animal(VIEW, "a")).collar_id == "K1"
    assert (await store.collar(VIEW, "K1")).aliases == ("a", "b")
    assert (await store.zone(VIEW, "z")).is_active is False
    assert (await store.corridor(VIEW, "c")).status == "active"
    assert (await store.observation(VIEW, "o")).animal_id == "not here yet"
    assert (await store.alert(VIEW, "l")).zone_id == "nor this"
    await add(store, fix_of("b"))
    assert [(fix.collar_id, fix.animal_id) for fix in await fixes(store)] == [("K1", "a")]


async def test_a_pending_edit_stays_on_top_of_what_the_cloud_sends(store: SpatialiteStore) -> None:
    first = sent("animal", "a", 2, name="A", species="lion")
    assert await take(store, first) == 1
    await store.update_animal(VIEW, "a", {"name": "mine"})
    second = replace(first, rev=3, columns={**first.columns, "name": "theirs", "age": 4.0}, marks={})
    assert await take(store, second, pending={("animal", "a"): {"name"}}) == 1
    animal = await store.animal(VIEW, "a")
    assert (animal.name, animal.age) == ("mine", 4.0)
    third = replace(second, rev=4, deleted_ms=to_ms(START))
    assert await take(store, third) == 1
    with pytest.raises(NotFound):
        await store.animal(VIEW, "a")


async def test_a_deployment_of_the_cloud_gives_the_past_to_its_animal_and_takes_it_back(store: SpatialiteStore) -> None:
    await add(store, fix_of(EUI))
    animal = sent("animal", "a", 1, name="A", species="lion")
    worn = sent("deployment", "d", 1, collar_id=EUI, animal_id="a", started_ms=to_ms(START))
    with pytest.raises(NotFound, match="deployment d: there is no animal a"):
        await take(store, worn, sent("zone", "z", 1, name="Z", zone_type="road", geometry=AREA))
    with pytest.raises(NotFound):
        await store.zone(VIEW, "z")
    await take(store, animal, worn)
    assert [fix.animal_id for fix in await fixes(store)] == ["a"]
    await take(store, replace(worn, rev=2, deleted_ms=to_ms(START)))
    assert [fix.animal_id for fix in await fixes(store)] == [None]


async def test_an_alias_of_the_cloud_rekeys_what_was_heard_here(store: SpatialiteStore) -> None:
    animal_id = await elephant(store, collar_id=EUI)
    await add(store, fix_of(EUI), fix_of(EUI, START + HOUR))
    before = await outbox(store)
    await take(store, sent("collar", "K1", 1, aliases=[EUI]))
    assert [(fix.collar_id, fix.animal_id) for fix in await fixes(store)] == [("K1", animal_id)] * 2
    with pytest.raises(NotFound):
        await store.collar(VIEW, EUI)
    assert await outbox(store) == before
    await take(store, sent("collar", "K2", 1, aliases=["K1", EUI]), sent("collar", "K1", 2))
    assert [fix.collar_id for fix in await fixes(store)] == ["K2"] * 2


async def test_a_tombstone_of_the_cloud_is_not_brought_back_by_looking_at_its_fixes(store: SpatialiteStore) -> None:
    await elephant(store, collar_id=EUI)
    ((deployment_id,),) = await ask(store, "SELECT id FROM deployments")
    columns = {"animal_id": (await store.deployment(VIEW, deployment_id)).animal_id, "collar_id": EUI}
    gone = [
        replace(sent("collar", EUI, 2), deleted_ms=to_ms(START)),
        replace(sent("deployment", deployment_id, 2, **columns, started_ms=to_ms(START)), deleted_ms=to_ms(START)),
    ]
    assert await take(store, *gone) == 2
    with pytest.raises(NotFound):
        await store.collar(VIEW, EUI)
