"""What an operation does to the records: one rule after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from shared.errors import Conflict, Invalid, NotFound
from shared.ids import derived_id
from shared.sync.decide import decide
from shared.sync.operations import Effects, Kind, Operation, Rows, wanted
from shared.sync.records import EntityName, Mark, Record
from shared.sync.take import take

pytestmark = [pytest.mark.unit, pytest.mark.sync]

T0 = 1_780_000_000_000
AREA = '{"type":"Polygon","coordinates":[[[37,-2],[38,-2],[38,-3],[37,-2]]]}'
ANIMAL = {"name": "Tembo", "species": "elephant"}
ALERT = {"alert_type": "low_battery", "title": "Battery"}
ZONE = {"name": "Fields", "zone_type": "agriculture", "geometry": AREA}
CORRIDOR = {"name": "Kitenden", "geometry": AREA}
ENDS = {"start_lon_e7": 370_000_000, "start_lat_e7": 0, "end_lon_e7": 380_000_000, "end_lat_e7": 0}


class Desk:
    """Rows and a counter that names and dates operations."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.now_ms = T0

    def op(
        self, entity: EntityName, row_id: str, kind: Kind, columns: Mapping[str, Any] | None = None, **given: Any
    ) -> Operation:
        """Return an operation, a second later than the one before."""
        self.now_ms += 1000
        given = {"id": f"op{self.now_ms}", "author": "asha", "made_ms": self.now_ms, **given}
        return Operation(entity=entity, row_id=row_id, kind=kind, columns=dict(columns or {}), **given)

    def do(
        self, entity: EntityName, row_id: str, kind: Kind, columns: Mapping[str, Any] | None = None, **given: Any
    ) -> Effects:
        """Decide an operation and note what it did."""
        effects = decide(self.op(entity, row_id, kind, columns, **given), self.rows)
        self.rows.take(effects)
        return effects

    def refused(
        self,
        error: type[Exception],
        match: str,
        entity: EntityName,
        row_id: str,
        kind: Kind,
        columns: Mapping[str, Any] | None = None,
        **given: Any,
    ) -> None:
        """Expect that an operation is refused and that nothing of it is noted."""
        before = self.rows.values()
        with pytest.raises(error, match=match):
            self.do(entity, row_id, kind, columns, **given)
        assert self.rows.values() == before

    def get(self, entity: EntityName, row_id: str) -> Record:
        """Return a record that must be there."""
        record = self.rows.get(entity, row_id)
        assert record is not None
        return record

    def worn(self, animal_id: str) -> list[tuple[str, int, int | None]]:
        """Return what an animal wore, from when to when, in seconds."""
        return [
            (row.columns["collar_id"], _s(row.columns["started_ms"]), None if end is None else _s(end))
            for row in self.rows.worn("animal_id", animal_id)
            for end in [row.columns["ended_ms"]]
        ]


def _s(ms: int) -> int:
    return (ms - T0) // 1000


@pytest.fixture
def desk() -> Desk:
    """Give an empty desk."""
    return Desk()


def ids(effects: Effects) -> list[tuple[str, str]]:
    """Return which records changed."""
    return [(change.record.entity, change.record.id) for change in effects.changes]


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


# --- wearing
def test_naming_a_collar_opens_a_deployment_and_another_ends_it(desk: Desk) -> None:
    made = desk.do("animal", "a", "insert", {**ANIMAL, "collar_id": "K1"}, id="first")
    assert ids(made) == [("animal", "a"), ("collar", "K1"), ("deployment", derived_id("first", "deployment"))]
    assert made.moved == ("K1",)
    assert "collar_id" not in desk.get("animal", "a").columns
    effects = desk.do("animal", "a", "update", {"collar_id": "K2"})
    assert set(effects.moved) == {"K1", "K2"}
    assert desk.worn("a") == [("K1", 1, 2), ("K2", 2, None)]
    assert desk.do("animal", "a", "update", {"collar_id": "K2"}).outcome == "duplicate"
    assert desk.do("animal", "a", "update", {"collar_id": None}).moved == ("K2",)
    assert desk.do("animal", "a", "update", {"collar_id": ""}).outcome == "duplicate"
    assert desk.worn("a") == [("K1", 1, 2), ("K2", 2, 4)]


def test_a_collar_is_worn_under_its_id_whatever_it_was_called(desk: Desk) -> None:
    desk.do("collar", "K1", "insert", {"aliases": ("eui:1",)})
    desk.do("animal", "a", "insert", {**ANIMAL, "collar_id": "eui:1"})
    assert desk.worn("a") == [("K1", 2, None)]
    for name in ("K1", "eui:1"):
        assert desk.do("animal", "a", "update", {"collar_id": name}).outcome == "duplicate"
    desk.do("deployment", "d", "insert", {"collar_id": "eui:1", "animal_id": "a", "started_ms": T0, "ended_ms": T0 + 9})
    assert desk.get("deployment", "d").columns["collar_id"] == "K1"


def test_a_deployment_that_has_not_begun_is_taken_back(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.do("deployment", "d", "insert", {"collar_id": "K1", "animal_id": "a", "started_ms": T0 + 10**9})
    effects = desk.do("animal", "a", "update", {"collar_id": None})
    assert [change.kind for change in effects.changes] == ["delete"]
    assert desk.worn("a") == []


def test_a_wear_that_comes_again_late_is_nothing(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    operation = desk.op("animal", "a", "update", {"collar_id": "K1"}, origin="s")
    desk.rows.take(decide(operation, desk.rows))
    desk.do("animal", "a", "update", {"collar_id": None})
    assert decide(operation, desk.rows).outcome == "duplicate"


def test_a_collar_is_on_one_animal_and_an_animal_wears_one(desk: Desk) -> None:
    desk.do("animal", "a", "insert", {**ANIMAL, "collar_id": "K1"})
    desk.do("animal", "b", "insert", ANIMAL)
    desk.refused(
        Conflict, "the collar is taken then: .* K1 on Tembo", "animal", "b", "update", {"collar_id": "K1", "name": "B"}
    )
    desk.refused(Conflict, "the collar is taken", "animal", "c", "insert", {**ANIMAL, "collar_id": "K1"}, origin="s")
    desk.refused(Conflict, "the animal is taken", "deployment", "d", "insert", {"collar_id": "K2", "animal_id": "a"})
    assert desk.rows.get("collar", "K2") is None


def test_a_deployment_ends_after_it_began_and_touches_others_without_overlap(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    columns = {"collar_id": "K1", "animal_id": "a", "started_ms": T0, "ended_ms": T0 + 10}
    desk.do("deployment", "d", "insert", columns)
    desk.refused(Invalid, "ended_at: must be later", "deployment", "d", "update", {"ended_ms": T0})
    desk.do("deployment", "e", "insert", {**columns, "started_ms": T0 + 10, "ended_ms": None})
    desk.refused(Conflict, "taken then", "deployment", "d", "update", {"ended_ms": T0 + 11})
    desk.refused(Conflict, "taken then", "deployment", "d", "update", {"ended_ms": None})
    desk.refused(Conflict, "taken then", "deployment", "e", "update", {"started_ms": T0 + 9})
    desk.refused(NotFound, "animal nobody", "deployment", "d", "update", {"animal_id": "nobody"})
    desk.do("deployment", "f", "insert", {**columns, "started_ms": T0 - 10, "ended_ms": T0})


def test_a_deployment_that_moves_to_another_collar_moves_the_fixes_of_both(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.do("deployment", "d", "insert", {"collar_id": "K1", "animal_id": "a"})
    effects = desk.do("deployment", "d", "update", {"collar_id": "K2"})
    assert ids(effects) == [("collar", "K2"), ("deployment", "d")]
    assert effects.moved == ("K1", "K2")
    assert desk.do("deployment", "d", "delete").moved == ("K2",)


def test_what_is_lost_of_a_deployment_enters_no_collar(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.do("deployment", "d", "insert", {"collar_id": "K1", "animal_id": "a"})
    effects = desk.do("deployment", "d", "update", {"collar_id": "K9"}, origin="s", base_rev=0)
    assert effects == Effects(outcome="superseded", lost={"collar_id": "K9"}, kept={"collar_id": "K1"})


def test_a_deleted_animal_takes_its_deployments_along(desk: Desk) -> None:
    desk.do("animal", "a", "insert", {**ANIMAL, "collar_id": "K1"})
    effects = desk.do("animal", "a", "delete")
    assert [change.kind for change in effects.changes] == ["delete", "delete"]
    assert set(effects.moved) == {"K1", "animal:a"}
    assert desk.worn("a") == []


def test_another_species_has_other_limits(desk: Desk) -> None:
    desk.do("animal", "a", "insert", {**ANIMAL, "collar_id": "K1"})
    assert desk.do("animal", "a", "update", {"name": "B"}).moved == ()
    assert set(desk.do("animal", "a", "update", {"species": "lion"}).moved) == {"K1", "animal:a"}


# --- collars
def test_a_collar_that_was_taken_off_the_list_comes_back(desk: Desk) -> None:
    desk.do("collar", "K1", "insert", {"model": "x"})
    desk.do("collar", "K1", "delete")
    effects = desk.do("collar", "K1", "insert", {"notes": "found"})
    assert effects.changes[0].kind == "insert"
    record = desk.get("collar", "K1")
    assert (record.rev, record.columns["model"], record.created_ms) == (3, None, T0 + 1000)
    assert record.marks == {"notes": Mark(3)}


def test_a_collar_with_fixes_or_deployments_is_not_deleted(desk: Desk) -> None:
    desk.do("animal", "a", "insert", {**ANIMAL, "collar_id": "K1"})
    desk.refused(Conflict, "K1 has deployments", "collar", "K1", "delete")
    desk.do("collar", "K2", "insert", {"aliases": ("eui:2",)})
    desk.rows.with_fixes = {"K2"}
    for origin in ("", "s"):
        desk.refused(Conflict, "K2 has fixes", "collar", "K2", "delete", origin=origin)
    desk.rows.with_fixes = set()
    desk.do("collar", "K2", "delete")
    assert desk.get("collar", "K2").columns["aliases"] == ()
    assert desk.rows.canonical("eui:2") == "eui:2"


def test_an_alias_makes_one_collar_of_two(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.do("collar", "eui:1", "insert", {"aliases": ("imei:7",)})
    desk.do("deployment", "d", "insert", {"collar_id": "eui:1", "animal_id": "a"})
    effects = desk.do("collar", "K1", "insert", {"aliases": ["eui:1"]})
    assert ids(effects) == [("collar", "K1"), ("collar", "eui:1"), ("deployment", "d")]
    assert effects.rekeyed == (("eui:1", "K1"),)
    assert effects.moved == ("K1",)
    assert desk.get("collar", "K1").columns["aliases"] == ("eui:1", "imei:7")
    assert (desk.get("collar", "eui:1").is_deleted, desk.get("collar", "eui:1").columns["aliases"]) == (True, ())
    assert desk.get("deployment", "d").columns["collar_id"] == "K1"
    assert {desk.rows.canonical(name) for name in ("eui:1", "imei:7", "K1")} == {"K1"}
    assert desk.do("collar", "K1", "insert", {"aliases": ("imei:7", "eui:1")}).outcome == "duplicate"


def test_a_collar_comes_with_the_radio_ids_that_it_had(desk: Desk) -> None:
    desk.do("collar", "imei:7", "insert", {})
    desk.do("collar", "eui:1", "insert", {"aliases": ("imei:7",)})
    effects = desk.do("collar", "K1", "insert", {"aliases": ["eui:1", "imei:7"]}, origin="s", base_rev=0)
    assert effects.rekeyed == (("eui:1", "K1"),)  # what imei:7 had sent is eui:1's already
    assert desk.get("collar", "K1").columns["aliases"] == ("eui:1", "imei:7")


def test_an_alias_belongs_to_one_collar_and_is_none_itself(desk: Desk) -> None:
    desk.do("collar", "K1", "insert", {"aliases": ("eui:1",)})
    desk.refused(Conflict, "eui:1 belongs to collar K1", "collar", "K2", "insert", {"aliases": ("eui:1",)})
    desk.refused(Conflict, "eui:1 is an alias of collar K1", "collar", "eui:1", "insert", {})
    desk.refused(Invalid, "animal: stands for", "collar", "animal:a", "insert", {})
    desk.do("collar", "K1", "insert", {"aliases": ()})
    assert desk.do("collar", "eui:1", "insert", {}).outcome == "applied"


def test_a_station_that_heard_an_alias_is_told_so(desk: Desk) -> None:
    desk.do("collar", "K1", "insert", {"aliases": ("eui:1",)})
    heard = desk.do("collar", "eui:1", "insert", {"model": "x", "notes": None}, origin="s", base_rev=0)
    assert heard == Effects(outcome="alias", lost={"model": "x"})


def test_collars_that_become_one_may_not_have_been_on_two_animals(desk: Desk) -> None:
    for animal in ("a", "b"):
        desk.do("animal", animal, "insert", ANIMAL)
        desk.do("deployment", f"d{animal}", "insert", {"collar_id": f"eui:{animal}", "animal_id": animal})
    desk.refused(Conflict, "the collar is taken", "collar", "K1", "insert", {"aliases": ("eui:a", "eui:b")})
    desk.refused(Conflict, "the collar is taken", "collar", "eui:a", "insert", {"aliases": ("eui:b",)})


def test_an_alias_that_clashes_absorbs_nothing(desk: Desk) -> None:
    desk.do("collar", "K1", "insert", {"aliases": ("eui:1",)})
    desk.do("collar", "eui:2", "insert", {})
    effects = desk.do("collar", "K1", "insert", {"aliases": ["eui:2"], "notes": "n"}, origin="s", base_rev=0)
    assert (effects.outcome, effects.lost, effects.rekeyed) == ("merged", {"aliases": ("eui:2",)}, ())
    assert not desk.get("collar", "eui:2").is_deleted


def test_a_tombstone_that_becomes_another_collar_is_rekeyed_too(desk: Desk) -> None:
    desk.do("collar", "eui:1", "insert", {})
    desk.do("collar", "eui:1", "delete")
    assert desk.do("collar", "K1", "insert", {"aliases": ("eui:1",)}).rekeyed == (("eui:1", "K1"),)


# --- what the cloud sends down
def sent(entity: EntityName, identity: str, rev: int, columns: Mapping[str, Any], **given: Any) -> Record:
    """Return a record as the cloud has it."""
    return Record(entity=entity, id=identity, columns=columns, created_ms=T0, updated_ms=T0, rev=rev, **given)


def animal(desk: Desk, **columns: Any) -> dict[str, Any]:
    """Return the columns of the desk's animal with changes."""
    return {**desk.get("animal", "a").columns, **columns}


def test_a_record_that_is_new_here_is_taken_whole(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    theirs = sent("animal", "b", 7, animal(desk, name="B"), author="m", marks={"name": Mark(7, "x")})
    effects = take(theirs, desk.rows, (), T0 + 5)
    (change,) = effects.changes
    assert (effects.outcome, change.kind) == ("applied", "insert")
    assert change.record == replace(theirs, rev=1, cloud_rev=7, marks={}, updated_ms=T0 + 5)


def test_only_what_is_newer_is_taken(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.rows.take(take(sent("animal", "a", 3, animal(desk, name="B"), author="m"), desk.rows, (), desk.now_ms))
    record = desk.get("animal", "a")
    assert (record.columns["name"], record.rev, record.cloud_rev, record.author) == ("B", 2, 3, "m")
    assert record.marks == {"name": Mark(2, "cloud")}
    for rev in (3, 2):
        again = take(sent("animal", "a", rev, animal(desk, name="C")), desk.rows, (), desk.now_ms)
        assert again == Effects(outcome="duplicate")


def test_what_comes_back_as_it_was_sent_is_no_news(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    mine = desk.get("animal", "a")
    effects = take(sent("animal", "a", 3, animal(desk), author=mine.author), desk.rows, (), desk.now_ms + 5)
    (change,) = effects.changes
    assert (effects.outcome, change.is_news) == ("duplicate", False)
    assert change.record == replace(mine, cloud_rev=3)  # neither a revision nor a time of change
    desk.rows.take(effects)
    gone = sent("animal", "a", 4, animal(desk), deleted_ms=T0)
    (change,) = take(gone, desk.rows, (), desk.now_ms + 5).changes
    assert change.is_news
    assert change.record.is_deleted


def test_columns_with_an_edit_of_their_own_are_kept(desk: Desk) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    theirs = sent("animal", "a", 3, animal(desk, name="B", age=3.0))
    (change,) = take(theirs, desk.rows, {"name"}, desk.now_ms).changes
    assert (change.record.columns["name"], change.record.columns["age"]) == ("Tembo", 3.0)
    assert dict(change.columns) == {"age": 3.0}


@pytest.mark.parametrize(
    ("marks", "cloud_rev"),
    [({}, 2), ({"name": Mark(3)}, 2), ({"name": Mark(2), "age": Mark(3)}, 3), ({"age": Mark(3)}, 3)],
)
def test_a_kept_edit_is_sent_as_the_clash_that_it_is(desk: Desk, marks: dict[str, Mark], cloud_rev: int) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.rows.put(replace(desk.get("animal", "a"), cloud_rev=2))
    theirs = sent("animal", "a", 3, animal(desk, name="B", age=3.0), marks=marks)
    (change,) = take(theirs, desk.rows, {"name"}, desk.now_ms).changes
    assert change.record.cloud_rev == cloud_rev


def test_tombstones_come_down_unless_an_edit_waits(desk: Desk) -> None:
    desk.do("animal", "a", "insert", {**ANIMAL, "collar_id": "K1"})
    theirs = sent("animal", "a", 3, animal(desk), deleted_ms=T0 + 3)
    waits = take(theirs, desk.rows, {"name"}, desk.now_ms).changes[0].record
    assert (waits.is_deleted, waits.cloud_rev) == (False, 0)
    effects = take(theirs, desk.rows, (), desk.now_ms)
    assert (effects.changes[0].record.deleted_ms, effects.changes[0].record.cloud_rev) == (T0 + 3, 3)
    assert set(effects.moved) == {"K1", "animal:a"}
    desk.rows.take(effects)
    back = take(sent("animal", "a", 4, animal(desk)), desk.rows, (), desk.now_ms)
    assert (back.changes[0].kind, back.changes[0].record.is_deleted) == ("insert", False)


def collar(aliases: tuple[str, ...]) -> dict[str, Any]:
    """Return a collar's columns."""
    return {"model": None, "fix_interval_s": None, "notes": None, "limits": None, "aliases": aliases}


@pytest.mark.parametrize("is_tombstone_first", [False, True])
def test_an_alias_from_the_cloud_moves_what_hangs_on_it(desk: Desk, is_tombstone_first: bool) -> None:
    desk.do("animal", "a", "insert", ANIMAL)
    desk.do("collar", "eui:1", "insert", {"aliases": ("imei:7",)})
    desk.do("deployment", "d", "insert", {"collar_id": "eui:1", "animal_id": "a"})
    if is_tombstone_first:
        tombstone = sent("collar", "eui:1", 3, collar(()), deleted_ms=T0)
        desk.rows.take(take(tombstone, desk.rows, (), desk.now_ms))
    effects = take(sent("collar", "K1", 2, collar(("eui:1",))), desk.rows, (), desk.now_ms)
    assert effects.rekeyed == (("eui:1", "K1"),)
    assert effects.moved == ("K1",)
    desk.rows.take(effects)
    assert desk.get("collar", "eui:1").is_deleted
    assert desk.get("collar", "eui:1").columns["aliases"] == ()
    assert desk.get("deployment", "d").columns["collar_id"] == "K1"
    assert desk.rows.canonical("eui:1") == "K1"


def test_an_alias_from_the_cloud_is_taken_from_whoever_has_it_here(desk: Desk) -> None:
    desk.do("collar", "K2", "insert", {"aliases": ("eui:1", "eui:2", "eui:3")})
    theirs = sent("collar", "K1", 2, collar(("eui:2", "eui:1")))
    effects = take(theirs, desk.rows, (), desk.now_ms)
    assert ids(effects) == [("collar", "K1"), ("collar", "K2")]
    desk.rows.take(effects)
    assert desk.get("collar", "K2").columns["aliases"] == ("eui:3",)
    assert (desk.get("collar", "K2").rev, desk.get("collar", "K2").marks) == (2, {"aliases": Mark(2, "cloud")})
    assert desk.rows.canonical("eui:1") == "K1"


# --- rows
def test_what_must_be_loaded_is_named(desk: Desk) -> None:
    found = wanted(
        [
            desk.op("animal", "a", "update", {"collar_id": "K1"}),
            desk.op("deployment", "d", "insert", {"collar_id": "K2", "animal_id": "b"}),
            desk.op("collar", "K3", "insert", {"aliases": ("eui:3",)}),
            desk.op("collar", "K4", "delete"),
            desk.op("alert", "w", "insert", {"animal_id": 5}),
            desk.op("collar", "K5", "insert", {"aliases": 5}),
            desk.op("animal", "c", "update", {"collar_id": {}}),
        ]
    )
    assert found.ids == {"animal": {"a", "b", "c"}, "deployment": {"d"}, "alert": {"w"}}
    assert found.collars == {"K1", "K2", "K3", "eui:3", "K4", "K5"}
    assert found.emptied == {"K4"}


def test_rows_keep_their_indexes() -> None:
    rows = Rows()
    one = sent("collar", "K1", 1, collar(("eui:1", "eui:2")))
    rows.put(one)
    rows.put(sent("collar", "K2", 1, collar(("eui:1",))))  # the later word counts
    rows.put(replace(one, columns=collar(("eui:2",))))
    assert [rows.canonical(name) for name in ("eui:1", "eui:2")] == ["K2", "K1"]
    rows.put(replace(one, deleted_ms=T0))
    assert rows.canonical("eui:2") == "eui:2"
    columns = {"collar_id": "K1", "animal_id": "a", "started_ms": T0, "ended_ms": None, "notes": None}
    worn = sent("deployment", "d", 1, columns)
    earlier = sent("deployment", "c", 1, {**columns, "started_ms": T0 - 9})
    for record in (worn, earlier):
        rows.put(record)
    assert rows.worn("animal_id", "a") == [earlier, worn]
    rows.put(replace(worn, columns={**columns, "collar_id": "K2"}))
    assert [row.id for row in rows.worn("collar_id", "K1")] == ["c"]
    assert [row.id for row in rows.worn("collar_id", "K2")] == ["d"]
    rows.put(replace(earlier, deleted_ms=T0))
    assert rows.worn("collar_id", "K1") == []
    with pytest.raises(NotFound):
        rows.living("deployment", "c")
    assert len(rows.values()) == 4
