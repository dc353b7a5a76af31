"""What every store does, whatever is below it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from shared.domain import FixFlag, NewFix, is_usable
from shared.errors import Conflict, Invalid, NotFound
from shared.privacy import View
from shared.store import AnimalQuery, BoundingBox, FixQuery, ObservationQuery, Store
from tests.fakes import START, FakeClock

pytestmark = pytest.mark.api

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def fix_of(device: str, at: datetime = START, *, lon: float = 37.5, lat: float = -2.5, **fields: Any) -> NewFix:
    """Return a fix that was received as it was recorded."""
    return NewFix(device=device, recorded_at=at, received_at=at, lon_deg=lon, lat_deg=lat, **fields)


async def elephant(store: Store, view: View, **columns: Any) -> str:
    """Enter an elephant and return its id."""
    return (await store.create_animal(view, {"name": "Alpha", "species": "elephant", **columns})).id


# --- animals
async def test_an_animal_comes_back_as_it_was_stored(store: Store, view: View, clock: FakeClock) -> None:
    columns = {"name": "Alpha", "species": "elephant", "gender": "female", "age": 12.5, "weight": 2800.0, "notes": "n"}
    made = await store.create_animal(view, {**columns, "created_by": "operator"})
    assert made == await store.animal(view, made.id)
    assert {name: getattr(made, name) for name in columns} == columns
    assert (made.status, made.health_status, made.created_by, made.rev) == ("active", "unknown", "operator", 1)
    assert made.created_at == made.updated_at == clock.now()


async def test_a_change_touches_what_it_names_and_counts(store: Store, view: View, clock: FakeClock) -> None:
    made = await store.create_animal(view, {"name": "Alpha", "species": "elephant", "age": 3.0})
    clock.tick(60)
    changed = await store.update_animal(view, made.id, {"status": "missing", "age": None})
    assert changed == replace(made, status="missing", age=None, rev=made.rev + 1, updated_at=clock.now())
    clock.tick(60)
    assert await store.update_animal(view, made.id, {"status": "missing", "name": "Alpha"}) == changed


async def test_a_deleted_animal_is_gone_from_every_read(store: Store, view: View) -> None:
    animal_id = await elephant(store, view)
    await store.delete_animal(view, animal_id)
    assert (await store.animals(view, AnimalQuery())).count == 0
    for refused in (
        store.animal(view, animal_id),
        store.update_animal(view, animal_id, {"name": "Beta"}),
        store.delete_animal(view, animal_id),
    ):
        with pytest.raises(NotFound):
            await refused


@pytest.mark.parametrize("animal_id", [UNKNOWN, "", "not an id", "%", "x" * 500])
async def test_an_unknown_id_is_not_found(store: Store, view: View, animal_id: str) -> None:
    for asked in (
        store.animal(view, animal_id),
        store.collar(view, animal_id),
        store.deployment(view, animal_id),
        store.fix(view, animal_id),
        store.observation(view, animal_id),
        store.flag_fix(view, animal_id, is_excluded=True),
    ):
        with pytest.raises(NotFound):
            await asked


async def test_animals_are_filtered_searched_ordered_and_paged(store: Store, view: View, clock: FakeClock) -> None:
    for name, species, status in (
        ("Ayo", "elephant", "active"),
        ("Bo", "lion", "missing"),
        ("Cy", "elephant", "missing"),
    ):
        await store.create_animal(view, {"name": name, "species": species, "status": status})
        clock.tick(1)

    async def names(**query: Any) -> list[str]:
        return [animal.name for animal in (await store.animals(view, AnimalQuery(**query))).results]

    assert await names() == ["Cy", "Bo", "Ayo"]
    assert await names(ordering="name") == ["Ayo", "Bo", "Cy"]
    assert await names(ordering="-name", limit=2) == ["Cy", "Bo"]
    assert await names(ordering="name", offset=2) == ["Cy"]
    assert await names(species="elephant", ordering="name") == ["Ayo", "Cy"]
    assert await names(status="missing", species="elephant") == ["Cy"]
    assert await names(search="LIO") == ["Bo"]
    assert await names(search="%") == []
    assert (await store.animals(view, AnimalQuery(limit=1))).count == 3
    with pytest.raises(Invalid, match="ordering"):
        await store.animals(view, AnimalQuery(ordering="name; drop table"))


# --- collars on animals
async def test_naming_a_collar_deploys_it_and_taking_it_off_ends_that(
    store: Store, view: View, clock: FakeClock
) -> None:
    animal_id = await elephant(store, view, collar_id="K1")
    clock.tick(3600)
    changed = await store.update_animal(view, animal_id, {"collar_id": "K2"})
    assert changed.collar_id == "K2"
    clock.tick(3600)
    assert (await store.update_animal(view, animal_id, {"collar_id": None})).collar_id is None
    page = await store.deployments(view, animal_id=animal_id, collar_id=None, offset=0, limit=10)
    assert [(row.collar_id, row.started_at, row.ended_at) for row in page.results] == [
        ("K2", START + timedelta(hours=1), START + timedelta(hours=2)),
        ("K1", START, START + timedelta(hours=1)),
    ]


async def test_a_collar_is_on_one_animal_at_a_time(store: Store, view: View) -> None:
    await elephant(store, view, collar_id="K1")
    with pytest.raises(Conflict):
        await elephant(store, view, collar_id="K1")
    other = await elephant(store, view)
    with pytest.raises(Conflict):
        await store.update_animal(view, other, {"collar_id": "K1", "name": "Beta"})
    assert (await store.animals(view, AnimalQuery())).count == 2
    assert (await store.animal(view, other)).name == "Alpha"


async def test_a_late_deployment_adopts_the_fixes_of_its_time(store: Store, view: View) -> None:
    hours = [START + timedelta(hours=n) for n in range(4)]
    await store.add_fixes(view, [fix_of("K1", at, lon=37.5 + n / 100) for n, at in enumerate(hours)])
    animal_id = await elephant(store, view)
    columns = {"collar_id": "K1", "animal_id": animal_id, "started_at": hours[1], "ended_at": hours[3]}
    made = await store.create_deployment(view, columns)

    async def owned() -> list[datetime]:
        page = await store.fixes(view, FixQuery(animal_id=animal_id, ordering="timestamp"))
        return [fix.recorded_at for fix in page.results]

    assert await owned() == hours[1:3]
    await store.update_deployment(view, made.id, {"ended_at": None})
    assert await owned() == hours[1:]
    await store.delete_deployment(view, made.id)
    assert await owned() == []
    assert (await store.fixes(view, FixQuery(collar_id="K1"))).count == 4


async def test_a_deployment_may_not_overlap_nor_end_before_it_begins(store: Store, view: View) -> None:
    first, second = await elephant(store, view), await elephant(store, view)
    day = timedelta(days=1)
    columns = {"collar_id": "K1", "animal_id": first, "started_at": START, "ended_at": START + 2 * day}
    made = await store.create_deployment(view, columns)
    with pytest.raises(Conflict):
        await store.create_deployment(
            view, {**columns, "animal_id": second, "started_at": START + day, "ended_at": None}
        )
    next_one = await store.create_deployment(
        view, {**columns, "animal_id": second, "started_at": START + 2 * day, "ended_at": None}
    )
    with pytest.raises(Conflict):
        await store.update_deployment(view, made.id, {"ended_at": START + 3 * day})
    with pytest.raises(Invalid):
        await store.update_deployment(view, next_one.id, {"ended_at": START})
    with pytest.raises(NotFound):
        await store.create_deployment(view, {**columns, "collar_id": "K2", "animal_id": UNKNOWN})


async def test_a_deleted_animal_leaves_its_fixes_under_the_collar(store: Store, view: View, clock: FakeClock) -> None:
    animal_id = await elephant(store, view, collar_id="K1")
    clock.tick(60)
    (added,) = await store.add_fixes(view, [fix_of("K1", clock.now())])
    assert (await store.fix(view, added.id)).animal_id == animal_id
    await store.delete_animal(view, animal_id)
    assert (await store.fix(view, added.id)).animal_id is None
    assert await elephant(store, view, collar_id="K1")


# --- collars
async def test_a_heard_collar_is_known_and_cannot_be_deleted(store: Store, view: View) -> None:
    await store.add_fixes(view, [fix_of("K2"), fix_of("K1")])
    page = await store.collars(view, search=None, offset=0, limit=10)
    assert [collar.id for collar in page.results] == ["K1", "K2"]
    with pytest.raises(Conflict):
        await store.delete_collar(view, "K1")
    await store.put_collar(view, "K3", {"model": "x", "fix_interval_s": 3600})
    assert (await store.collar(view, "K3")).fix_interval_s == 3600
    await store.delete_collar(view, "K3")
    with pytest.raises(NotFound):
        await store.collar(view, "K3")


async def test_a_collars_own_limits_go_before_its_species_for_all_that_it_said_and_says(
    store: Store, view: View
) -> None:
    await elephant(store, view, collar_id="K1")
    await store.add_fixes(view, [fix_of("K1", START + timedelta(hours=k), lon=37.5 + (k == 2)) for k in range(4)])

    async def flags() -> list[FixFlag]:
        page = await store.fixes(view, FixQuery(collar_id="K1", ordering="timestamp"))
        return [FixFlag(fix.flags) for fix in page.results]

    assert await flags() == [FixFlag(0), FixFlag(0), FixFlag.IMPOSSIBLE_SPEED, FixFlag(0)]
    await store.put_collar(view, "K1", {"limits": '{"max_speed_mps":60.0}'})
    assert await flags() == [FixFlag(0)] * 4
    await store.add_fixes(view, [fix_of("K1", START + timedelta(hours=k), lon=37.5 + (k == 5)) for k in range(4, 7)])
    assert await flags() == [FixFlag(0)] * 7
    await store.put_collar(view, "K1", {"limits": None})
    assert [k for k, flag in enumerate(await flags()) if flag] == [2, 5]
    with pytest.raises(Invalid, match="limits"):
        await store.put_collar(view, "K1", {"limits": '{"speed":1}'})


async def test_an_alias_moves_what_was_heard_under_it(store: Store, view: View) -> None:
    radio = "eui:0101010101010101"
    later = START + timedelta(hours=1)
    await store.add_fixes(view, [fix_of(radio), fix_of(radio, later, lon=37.51), fix_of("K1", later, lon=37.51)])
    collar = await store.put_collar(view, "K1", {"aliases": (radio,)})
    assert collar.aliases == (radio,)
    page = await store.fixes(view, FixQuery(collar_id="K1", ordering="timestamp"))
    assert [fix.recorded_at for fix in page.results] == [START, later]
    assert (await store.fixes(view, FixQuery())).count == 2
    assert [row.id for row in (await store.collars(view, search=None, offset=0, limit=9)).results] == ["K1"]
    (again,) = await store.add_fixes(view, [fix_of(radio)])
    assert (again.id, again.outcome) == (page.results[0].id, "duplicate")
    with pytest.raises(Conflict):
        await store.put_collar(view, "K2", {"aliases": (radio,)})
    with pytest.raises(NotFound):
        await store.collar(view, "K2")


async def test_an_alias_moves_its_deployments_and_what_a_person_decided(
    store: Store, view: View, clock: FakeClock
) -> None:
    radio = "eui:0101010101010101"
    animal_id = await elephant(store, view, collar_id=radio)
    clock.tick(60)
    heard, twin = await store.add_fixes(view, [fix_of(radio, clock.now()), fix_of("K1", clock.now(), alt_m=1200.0)])
    await store.flag_fix(view, heard.id, is_excluded=True)
    await store.put_collar(view, "K1", {"aliases": (radio,)})
    assert (await store.animal(view, animal_id)).collar_id == "K1"
    (row,) = (await store.deployments(view, animal_id=animal_id, collar_id="K1", offset=0, limit=9)).results
    assert row.started_at == START
    (fix,) = (await store.fixes(view, FixQuery())).results
    assert (fix.id, fix.animal_id, fix.alt_m) == (twin.id, animal_id, 1200.0)
    assert fix.flags & FixFlag.EXCLUDED_BY_HAND


async def test_the_order_in_which_radio_ids_are_named_is_none(store: Store, view: View) -> None:
    made = await store.put_collar(view, "K1", {"aliases": ("eui:02", "eui:01")})
    assert made.aliases == ("eui:01", "eui:02")
    assert await store.put_collar(view, "K1", {"aliases": ("eui:01", "eui:02", "eui:01")}) == made


async def test_a_collar_that_was_deleted_comes_back_when_it_is_heard(store: Store, view: View) -> None:
    await store.put_collar(view, "K1", {"model": "x"})
    await store.delete_collar(view, "K1")
    await store.add_fixes(view, [fix_of("K1")])
    assert (await store.collar(view, "K1")).id == "K1"


# --- fixes
async def test_storing_twice_is_storing_once(store: Store, view: View) -> None:
    fixes = [fix_of("K1", START + timedelta(hours=n), lon=37.5 + n / 100) for n in range(3)]
    first = await store.add_fixes(view, fixes)
    assert [added.outcome for added in first] == ["new"] * 3
    again = await store.add_fixes(view, [*reversed(fixes), fixes[0]])
    assert [added.outcome for added in again] == ["duplicate"] * 4
    assert [added.id for added in again[:3]] == [added.id for added in reversed(first)]
    assert (await store.fixes(view, FixQuery())).count == 3


async def test_a_twin_in_one_call_is_one_row(store: Store, view: View) -> None:
    answers = await store.add_fixes(view, [fix_of("K1"), fix_of("K1")])
    assert [added.outcome for added in answers] == ["new", "duplicate"]
    assert answers[0].id == answers[1].id


async def test_a_richer_copy_fills_what_was_empty(store: Store, view: View) -> None:
    (added,) = await store.add_fixes(view, [fix_of("K1", battery_mv=3600)])
    (richer,) = await store.add_fixes(view, [fix_of("K1", alt_m=1200.0, temperature_c=31.0)])
    assert (richer.id, richer.outcome) == (added.id, "enriched")
    stored = await store.fix(view, added.id)
    assert (stored.alt_m, stored.temperature_c, stored.battery_mv) == (1200.0, 31.0, 3600)


async def test_a_fix_comes_back_with_all_that_was_said_of_it(store: Store, view: View) -> None:
    said = fix_of(
        "K1", lon=37.1234567, lat=-2.7654321, alt_m=1100.5, speed_mps=1.25, heading_deg=271.0, hdop=1.1, pdop=2.0,
        sats=9, h_acc_m=4.0, seq=77, battery_mv=3650, battery_pct=81.5, temperature_c=28.5, rssi_dbm=-101.0,
        snr_db=7.5, source="gps", link="lora", local_id="phone-1", activity_type="walking", notes="by the river",
        network_time=START + timedelta(seconds=2),
    )  # fmt: skip
    (added,) = await store.add_fixes(view, [said])
    stored = await store.fix(view, added.id)
    same = ("recorded_at", "received_at", "network_time", "lon_deg", "lat_deg", "alt_m", "speed_mps", "heading_deg",
            "hdop", "pdop", "sats", "h_acc_m", "seq", "battery_mv", "battery_pct", "temperature_c", "rssi_dbm",
            "snr_db", "source", "link", "local_id", "activity_type", "notes")  # fmt: skip
    assert {name: getattr(stored, name) for name in same} == {name: getattr(said, name) for name in same}
    assert (stored.collar_id, stored.animal_id, stored.flags) == ("K1", None, 0)


async def test_a_position_without_a_collar_belongs_to_the_animal_that_was_named(store: Store, view: View) -> None:
    animal_id = await elephant(store, view)
    said = fix_of(f"animal:{animal_id}", animal_id=animal_id, source="manual")
    (added,) = await store.add_fixes(view, [said])
    assert (await store.fix(view, added.id)).animal_id == animal_id
    assert (await store.collars(view, search=None, offset=0, limit=9)).count == 0


async def test_a_position_that_came_before_its_animal_belongs_to_it_once_that_is_entered(
    store: Store, view: View
) -> None:
    await store.add_fixes(view, [fix_of(f"animal:{UNKNOWN}", animal_id=UNKNOWN, source="manual")])
    assert (await store.collars(view, search=None, offset=0, limit=9)).count == 0
    await elephant(store, view, id=UNKNOWN)
    (fix,) = (await store.fixes(view, FixQuery())).results
    assert fix.animal_id == UNKNOWN


async def test_the_deployment_decides_before_the_sender(store: Store, view: View, clock: FakeClock) -> None:
    wearer, other = await elephant(store, view, collar_id="K1"), await elephant(store, view)
    clock.tick(60)
    before = fix_of("K1", START - timedelta(days=1), animal_id=other)
    during = fix_of("K1", clock.now(), lon=37.6, animal_id=other)
    added = await store.add_fixes(view, [before, during])
    assert [(await store.fix(view, one.id)).animal_id for one in added] == [other, wearer]


async def test_broken_positions_are_kept_flagged_and_out_of_the_models(store: Store, view: View) -> None:
    fixes = [
        fix_of("K1", START, lon=0.0, lat=0.0),
        replace(fix_of("K1", START + timedelta(hours=1)), lon_deg=None, lat_deg=None),
        fix_of("K1", START + timedelta(hours=2), lon=200.0),
        replace(fix_of("K1", START + timedelta(hours=3)), received_at=START),
        fix_of("K1", START + timedelta(hours=4), sats=2),
    ]
    added = await store.add_fixes(view, fixes)
    expected = (FixFlag.NULL_ISLAND, FixFlag.NO_FIX, FixFlag.OUT_OF_RANGE, FixFlag.FUTURE, FixFlag.FEW_SATELLITES)
    for one, flag in zip(added, expected, strict=True):
        stored = await store.fix(view, one.id)
        assert stored.flags & flag, flag
        assert not is_usable(stored.flags)
    assert (await store.fixes(view, FixQuery(is_usable=True))).count == 0
    assert (await store.fixes(view, FixQuery(is_usable=False))).count == 5


async def test_a_person_overrules_the_rules_both_ways(store: Store, view: View) -> None:
    good, bad = await store.add_fixes(view, [fix_of("K1"), fix_of("K1", START + timedelta(hours=1), sats=2)])
    assert not is_usable((await store.flag_fix(view, good.id, is_excluded=True)).flags)
    assert is_usable((await store.flag_fix(view, bad.id, is_excluded=False)).flags)
    await store.add_fixes(view, [fix_of("K1", START + timedelta(hours=2), lon=37.51)])
    assert not is_usable((await store.fix(view, good.id)).flags)
    assert is_usable((await store.fix(view, bad.id)).flags)
    assert is_usable((await store.flag_fix(view, good.id, is_excluded=False)).flags)


async def test_fixes_are_filtered_by_time_place_and_word(store: Store, view: View) -> None:
    places = [(179.9, -10.0), (-179.9, -10.1), (37.5, -2.5)]
    hours = [START + timedelta(hours=n) for n in range(3)]
    for n, ((lon, lat), at) in enumerate(zip(places, hours, strict=True)):
        await store.add_fixes(view, [fix_of(f"K{n}", at, lon=lon, lat=lat, activity_type="walking" if n else None)])

    async def collars(**query: Any) -> list[str]:
        page = await store.fixes(view, FixQuery(ordering="timestamp", **query))
        assert page.count == len(page.results)
        return [fix.collar_id for fix in page.results]

    assert await collars(since=hours[1]) == ["K1", "K2"]
    assert await collars(until=hours[1]) == ["K0"]
    assert await collars(bbox=BoundingBox(west=179, south=-11, east=-179, north=-9)) == ["K0", "K1"]
    assert await collars(bbox=BoundingBox(west=37, south=-3, east=38, north=-2)) == ["K2"]
    assert await collars(bbox=BoundingBox(west=37.5, south=-2.5, east=37.5, north=-2.5)) == ["K2"]
    assert await collars(activity_type="walking") == ["K1", "K2"]
    assert await collars(source="manual") == []
    assert await collars(search="k2") == ["K2"]
    assert await collars(animal_id=UNKNOWN) == []
    assert await collars(collar_id="nobody") == []
    with pytest.raises(Invalid, match="ordering"):
        await store.fixes(view, FixQuery(ordering="pk"))


async def test_fixes_are_paged_newest_first(store: Store, view: View) -> None:
    fixes = [fix_of("K1", START + timedelta(hours=n), lon=37.5 + n / 100) for n in range(5)]
    await store.add_fixes(view, fixes)
    page = await store.fixes(view, FixQuery(offset=1, limit=2))
    assert page.count == 5
    assert [fix.recorded_at for fix in page.results] == [fixes[3].recorded_at, fixes[2].recorded_at]
    assert (await store.fixes(view, FixQuery(offset=50))).results == []


async def test_nothing_to_store_is_nothing_stored(store: Store, view: View) -> None:
    assert await store.add_fixes(view, []) == []


# --- live
async def test_live_animals_are_active_and_have_a_usable_position(store: Store, view: View, clock: FakeClock) -> None:
    walker = await elephant(store, view, name="Walker", collar_id="K1")
    await elephant(store, view, name="Silent", collar_id="K2")
    gone = await elephant(store, view, name="Gone", collar_id="K3")
    later = [START + timedelta(hours=n) for n in (1, 2, 3)]
    await store.add_fixes(
        view,
        [
            fix_of("K1", later[0]),
            fix_of("K1", later[1], lon=37.52),
            fix_of("K1", later[2], lon=37.54, sats=2),
            fix_of("K3", later[0]),
        ],
    )
    await store.update_animal(view, gone, {"status": "deceased"})
    (live,) = await store.live_animals(view)
    assert (live.animal.id, live.animal.collar_id) == (walker, "K1")
    assert live.fix.recorded_at == later[1]
    assert live.previous is not None
    assert live.previous.recorded_at == later[0]


# --- observations
async def test_an_observation_is_stored_changed_listed_and_deleted(store: Store, view: View) -> None:
    animal_id = await elephant(store, view, name="Tembo")
    columns = {
        "observation_type": "sighting", "recorded_at": START, "animal_id": animal_id, "description": "at the waterhole",
        "lon_deg": 37.5, "lat_deg": -2.5, "observer": "asha", "local_id": "p1", "photo_url": "/photos/1.jpg",
    }  # fmt: skip
    made = await store.create_observation(view, columns)
    assert {name: getattr(made, name) for name in columns} == columns
    other = await store.create_observation(
        view, {"observation_type": "health", "recorded_at": START + timedelta(days=1)}
    )
    changed = await store.update_observation(view, other.id, {"description": "limps", "animal_id": animal_id})
    assert (changed.description, changed.animal_id, changed.lon_deg) == ("limps", animal_id, None)
    assert changed.rev > other.rev

    async def ids(**query: Any) -> list[str]:
        return [row.id for row in (await store.observations(view, ObservationQuery(**query))).results]

    assert await ids() == [other.id, made.id]
    assert await ids(observation_type="sighting") == [made.id]
    assert await ids(search="WATER") == [made.id]
    assert await ids(since=START + timedelta(hours=1)) == [other.id]
    assert await ids(animal_id=UNKNOWN) == []
    await store.delete_observation(view, made.id)
    assert await ids() == [other.id]
    with pytest.raises(NotFound):
        await store.observation(view, made.id)
