"""What an operation does to the records: one rule after the other."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import Conflict, Invalid, NotFound
from shared.sync.decide import decide
from shared.sync.operations import Effects, wanted
from shared.sync.records import EntityName, Mark
from tests.unit.shared.sync.desk import ALERT, ANIMAL, AREA, CORRIDOR, ENDS, T0, ZONE, Desk

pytestmark = [pytest.mark.unit, pytest.mark.sync]


# --- every kind of record
@pytest.mark.parametrize(
    ("entity", "columns", "update"),
    [
        ("animal", ANIMAL, {"status": "missing"}),
        ("observation", {"observation_type": "health"}, {"description": "limps"}),
        ("zone", ZONE, {"is_active": False}),
        ("corridor", CORRIDOR, {"status": "active", "width_m": 500.0}),
        ("alert", ALERT, {"status": "acknowledged", "acknowledged_by": "asha"}),
        ("team", {"name": "Alpha"}, {"is_active": False}),
        ("ranger", {"name": "Asha", "badge_number": "7"}, {"current_status": "on_duty"}),
        ("patrol_log", {"log_type": "incident", "title": "Snare"}, {"is_resolved": True}),
        ("patrol_route", {"name": "River"}, {"status": "in_progress"}),
    ],
)
def test_a_record_is_made_changed_and_deleted(
    desk: Desk, entity: EntityName, columns: dict[str, Any], update: dict[str, Any]
) -> None:
    made = desk.do(entity, "x", "insert", columns)
    assert (made.outcome, made.changes[0].kind) == ("applied", "insert")
    record = desk.get(entity, "x")
    assert columns.items() <= record.columns.items()
    assert (record.rev, record.author, record.created_ms, record.marks) == (1, "asha", T0 + 1000, {})
    changed = desk.do(entity, "x", "update", update)
    assert (changed.changes[0].kind, dict(changed.changes[0].columns)) == ("update", update)
    record = desk.get(entity, "x")
    assert (record.rev, record.created_ms, record.updated_ms) == (2, T0 + 1000, T0 + 2000)
    assert record.marks == dict.fromkeys(update, Mark(2))
    gone = desk.do(entity, "x", "delete")
    assert gone.changes[0].kind == "delete"
    assert (desk.get(entity, "x").rev, desk.get(entity, "x").deleted_ms) == (3, T0 + 3000)


def test_what_follows_from_the_operation_is_filled_in(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    assert desk.get("animal", "a").columns["created_by"] == "asha"
    desk.do("observation", "o", "insert", {"observation_type": "health"})
    seen = desk.get("observation", "o").columns
    assert (seen["recorded_ms"], seen["observer"]) == (T0 + 2000, "asha")
    desk.do("alert", "w", "insert", ALERT)
    assert desk.get("alert", "w").columns["detected_ms"] == T0 + 3000
    desk.do("deployment", "d", "insert", {"collar_id": "K1", "animal_id": "a"})
    assert desk.get("deployment", "d").columns["started_ms"] == T0 + 4000


@pytest.mark.parametrize(
    ("entity", "columns", "words"),
    [
        ("animal", {"name": "Tembo"}, "species: is required"),
        ("animal", {**ANIMAL, "name": ""}, "name: must not be empty"),
        ("animal", {**ANIMAL, "status": "asleep"}, "status: must be one of active"),
        ("animal", {**ANIMAL, "horns": 2}, "horns: no column of animals"),
        ("animal", {**ANIMAL, "notes": 5}, "notes: must be text"),
        ("animal", {**ANIMAL, "notes": "a\0b"}, "notes: must be text"),
        ("animal", {**ANIMAL, "age": "12"}, "age: must be a number"),
        ("animal", {**ANIMAL, "age": float("nan")}, "age: must be a number"),
        ("animal", {**ANIMAL, "status": ["active"]}, "status: must be text"),
        ("animal", {**ANIMAL, "collar_id": ["K1"]}, "collar_id: must be text"),
        ("animal", {**ANIMAL, "collar_id": "animal:x"}, "collar_id: animal: stands for"),
        ("collar", {"fix_interval_s": 2**40}, "fix_interval_s: must be a whole number"),
        ("collar", {"fix_interval_s": True}, "fix_interval_s: must be a whole number"),
        ("collar", {"aliases": "eui:01"}, "aliases: must be a list"),
        ("collar", {"aliases": [["eui:01"]]}, "aliases: must be text"),
        ("collar", {"aliases": ("animal:x",)}, "aliases: animal: stands for"),
        ("collar", {"aliases": None}, "aliases: must not be empty"),
        ("deployment", {"collar_id": "K1"}, "animal_id: is required"),
        ("deployment", {"animal_id": "a"}, "collar_id: is required"),
        ("deployment", {"collar_id": "K1", "animal_id": "a", "started_ms": 10**15}, "started_ms: must be a whole"),
        ("observation", {"lon_e7": 2 * 10**9}, "lon_e7: must be a whole number"),
        ("zone", {**ZONE, "geometry": None}, "geometry: must not be empty"),
        ("zone", {**ZONE, "geometry": "{}"}, "geometry: must be a GeoJSON"),
        ("zone", {**ZONE, "is_active": "yes"}, "is_active: must be true or false"),
        ("zone", {**ZONE, "buffer_m": None}, "buffer_m: must not be empty"),
        ("corridor", {"name": "C"}, "geometry: is required where start and end are not both given"),
        ("corridor", {"name": "C", **ENDS, "end_lat_e7": None}, "geometry: is required where start and end"),
        ("corridor", {**CORRIDOR, "geometry": "{}"}, "geometry: must be a GeoJSON LineString"),
        ("corridor", {**CORRIDOR, "width_m": -1}, "width_m: must not be less than 0"),
        ("corridor", {**CORRIDOR, "width_m": None}, "width_m: must not be empty"),
        ("corridor", {**CORRIDOR, "start_lat_e7": 10**9}, "start_lat_e7: must be a whole number"),
        ("corridor", {**CORRIDOR, "optimization_data": "{"}, "optimization_data: is no JSON"),
        ("alert", {**ALERT, "alert_type": "noise"}, "alert_type: must be one of"),
    ],
)
def test_what_no_home_could_keep_is_refused(
    desk: Desk, entity: EntityName, columns: dict[str, Any], words: str
) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    for origin in ("", "station-1"):
        operation = desk.op(entity, "x", "insert", columns, origin=origin)
        wanted([operation])
        before = desk.rows.values()
        with pytest.raises(Invalid, match=words):
            decide(operation, desk.rows)
        assert desk.rows.values() == before


def test_an_operation_without_a_name_or_of_no_year_is_refused(desk: Desk) -> None:
    desk.refused(Invalid, "id: must be text", "animal", "", "insert", ANIMAL, origin="s")
    desk.refused(Invalid, "id: must be text", "animal", "a\0", "delete", origin="s")
    desk.refused(Invalid, "author: must be text", "animal", "a", "insert", ANIMAL, author="a\0")
    desk.refused(Invalid, "made_ms", "animal", "a", "insert", ANIMAL, made_ms=2**60)


@pytest.mark.parametrize("entity", ["animal", "deployment", "observation", "zone", "corridor", "alert", "collar"])
def test_what_is_not_there_is_not_found(desk: Desk, entity: EntityName) -> None:
    if entity != "collar":
        desk.refused(NotFound, f"there is no {entity} x", entity, "x", "update", {})
    desk.refused(NotFound, f"there is no {entity} x", entity, "x", "delete")


def test_a_rangers_position_is_stored_once_and_never_changed(desk: Desk) -> None:
    said = {"ranger_id": "r", "recorded_ms": T0, "lon_e7": 1, "lat_e7": 2}
    assert desk.do("ranger_position", "p", "insert", said).outcome == "applied"
    assert desk.do("ranger_position", "p", "insert", said).outcome == "duplicate"
    assert desk.do("ranger_position", "p", "insert", said, origin="post").outcome == "duplicate"
    for origin in ("", "post"):
        desk.refused(Invalid, "never changed", "ranger_position", "p", "update", {"lon_e7": 3}, origin=origin)
        desk.refused(Invalid, "never changed", "ranger_position", "p", "delete", origin=origin)
    assert desk.get("ranger_position", "p").rev == 1


def test_what_is_there_is_not_made_again(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.refused(Conflict, "animal a exists", "animal", "a", "insert", ANIMAL)
    desk.do("animal", "a", "delete")
    desk.refused(Conflict, "animal a exists", "animal", "a", "insert", ANIMAL)
    desk.refused(NotFound, "animal a", "animal", "a", "update", {"name": "B"})
    desk.refused(NotFound, "animal a", "animal", "a", "delete")


def test_an_observation_at_the_api_names_an_animal_that_lives(desk: Desk) -> None:
    desk.refused(NotFound, "animal nobody", "observation", "o", "insert", {"animal_id": "nobody"})
    desk.do("observation", "o", "insert")
    desk.refused(NotFound, "animal nobody", "observation", "o", "update", {"animal_id": "nobody"})
    desk.do("observation", "p", "insert", {"animal_id": "nobody"}, origin="s")
    desk.do("observation", "o", "update", {"animal_id": "nobody"}, origin="s")
    assert desk.get("observation", "o").columns["animal_id"] == "nobody"


def test_a_corridor_says_who_made_it(desk: Desk) -> None:
    desk.do("corridor", "c", "insert", CORRIDOR)
    desk.do("corridor", "d", "insert", {**CORRIDOR, "created_by": "bea"})
    assert [desk.get("corridor", each).columns["created_by"] for each in ("c", "d")] == ["asha", "bea"]


def test_a_person_leaves_no_corridor_nowhere_and_two_homes_may(desk: Desk) -> None:
    desk.do("corridor", "c", "insert", {**CORRIDOR, **ENDS})
    desk.do("corridor", "c", "update", {"start_lon_e7": None})
    desk.refused(Invalid, "geometry: is required", "corridor", "c", "update", {"geometry": None})
    # another, who knew both ends, takes the geometry away: each was right, and the record goes on
    told = desk.do("corridor", "c", "update", {"geometry": None}, origin="station-1", base_rev=1)
    assert told.outcome == "applied"
    assert desk.get("corridor", "c").columns["geometry"] is None
    desk.do("corridor", "c", "update", {"name": "Kimana"})
    desk.refused(Invalid, "geometry: is required", "corridor", "c", "update", {"end_lon_e7": 1})
    desk.do("corridor", "c", "update", {"geometry": AREA})
    assert desk.get("corridor", "c").columns["geometry"] == AREA


def test_an_alert_need_not_know_its_animal_or_zone(desk: Desk) -> None:
    desk.do("alert", "w", "insert", {**ALERT, "animal_id": "later", "zone_id": "later"})
    assert desk.get("alert", "w").columns["animal_id"] == "later"


def test_doing_what_is_so_already_does_nothing(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    assert desk.do("animal", "a", "update", ANIMAL) == Effects(outcome="duplicate")
    desk.do("collar", "K1", "insert", {"aliases": ("eui:2", "eui:1")})
    assert desk.do("collar", "K1", "insert", {"aliases": ["eui:1", "eui:2", "eui:1", "K1"]}).outcome == "duplicate"
    desk.do("zone", "z", "insert", ZONE)
    assert desk.do("zone", "z", "update", {"is_active": 1}).outcome == "duplicate"
    desk.do("zone", "z", "update", {"is_active": 0})  # as a database without booleans has it
    assert desk.get("zone", "z").columns["is_active"] is False


# --- operations from elsewhere
def test_an_edit_that_knew_all_is_applied(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.do("animal", "a", "update", {"name": "B"})
    effects = desk.do("animal", "a", "update", {"name": "C"}, origin="s", base_rev=2)
    assert effects.outcome == "applied"
    assert desk.get("animal", "a").marks == {"name": Mark(3, "s")}


def test_an_edit_of_a_column_that_changed_since_is_superseded(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.do("animal", "a", "update", {"name": "B"})
    effects = desk.do("animal", "a", "update", {"name": "C"}, origin="s", base_rev=1)
    assert effects == Effects(outcome="superseded", lost={"name": "C"}, kept={"name": "B"})
    assert desk.get("animal", "a").columns["name"] == "B"


def test_an_edit_is_merged_where_it_does_not_clash(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.do("animal", "a", "update", {"name": "B", "notes": "n"})
    effects = desk.do("animal", "a", "update", {"name": "C", "age": 3.0, "notes": "n"}, origin="s", base_rev=1)
    assert (effects.outcome, effects.lost) == ("merged", {"name": "C"})
    assert dict(effects.changes[0].columns) == {"age": 3.0}


def test_what_nobody_has_said_anything_of_is_no_clash(desk: Desk) -> None:
    desk.do("collar", "K1", "insert", {"model": "x"})  # the same collar was heard at a station that has no internet
    effects = desk.do("collar", "K1", "insert", {"model": "y", "notes": "spare"}, origin="s", base_rev=0)
    assert (effects.outcome, effects.lost) == ("merged", {"model": "y"})
    assert desk.get("collar", "K1").columns["notes"] == "spare"


def test_one_origin_never_clashes_with_itself(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL, origin="s", base_rev=0)
    for name in ("B", "C"):
        assert desk.do("animal", "a", "update", {"name": name}, origin="s", base_rev=0).outcome == "applied"
    assert desk.do("animal", "a", "update", {"name": "D"}, origin="other", base_rev=1).outcome == "superseded"
    assert desk.do("animal", "a", "delete", origin="s", base_rev=0).outcome == "applied"


def test_the_api_never_clashes(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL, origin="s", base_rev=0)
    assert desk.do("animal", "a", "update", {"name": "B"}).outcome == "applied"


def test_a_deletion_loses_to_an_edit_that_it_did_not_know(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.do("animal", "a", "update", {"name": "B"})
    lost = desk.do("animal", "a", "delete", origin="s", base_rev=1)
    assert (lost.outcome, list(lost.lost)) == ("superseded", ["deleted_ms"])
    assert not desk.get("animal", "a").is_deleted
    assert desk.do("animal", "a", "delete", origin="s", base_rev=2).outcome == "applied"


def test_a_deletion_loses_to_a_record_that_it_never_knew(desk: Desk) -> None:
    desk.do("collar", "K1", "insert", {"model": "x"})
    assert desk.do("collar", "K1", "delete", origin="s", base_rev=0).outcome == "superseded"
    desk.do("collar", "K2", "insert", {})  # of which nobody has said anything
    assert desk.do("collar", "K2", "delete", origin="s", base_rev=0).outcome == "applied"


def test_an_edit_of_a_tombstone_is_superseded(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.do("animal", "a", "delete")
    assert desk.do("animal", "a", "delete", origin="s", base_rev=1).outcome == "duplicate"
    effects = desk.do("animal", "a", "update", {"name": "B", "collar_id": "K1"}, origin="s", base_rev=1)
    assert effects == Effects(outcome="superseded", lost={"name": "B"}, kept={"name": "Tembo"}, is_buried=True)
    assert desk.do("animal", "a", "update", {"name": "Tembo"}, origin="s", base_rev=1).outcome == "superseded"
    assert desk.do("animal", "nobody", "delete", origin="s").outcome == "duplicate"
