"""Who wore which collar when: deployments, one collar for an animal at a time, and collars that turn out to be one."""

from __future__ import annotations

import pytest

from shared.errors import Conflict, Invalid, NotFound
from shared.ids import derived_id
from shared.sync.decide import decide
from shared.sync.operations import Effects
from shared.sync.records import Mark
from tests.unit.shared.sync.desk import ANIMAL, T0, Desk, ids

pytestmark = [pytest.mark.unit, pytest.mark.sync]


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
