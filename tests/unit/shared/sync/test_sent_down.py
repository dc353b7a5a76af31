"""What a station does with records that the cloud sends down, and how it keeps them at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from shared.errors import NotFound
from shared.sync.operations import Effects, Rows, wanted
from shared.sync.records import EntityName, Mark, Record
from shared.sync.take import take
from tests.unit.shared.sync.desk import ANIMAL, T0, Desk, ids

pytestmark = [pytest.mark.unit, pytest.mark.sync]


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
