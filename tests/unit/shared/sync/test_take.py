"""What leaves a station's scope and what enters it again: a record is as if it had never left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.sync.operations import Rows
from shared.sync.records import ENTITIES, EntityName, Mark, Record
from shared.sync.take import leave, take

pytestmark = [pytest.mark.unit, pytest.mark.sync]


def record(entity: EntityName, **said: Any) -> Record:
    fields: dict[str, Any] = {"rev": 3, "created_ms": 1, "updated_ms": 2, "marks": {"name": Mark(3, "post-2")}}
    columns = {**ENTITIES[entity].columns, "name": "N", "species": "elephant", **said}
    kept = {name: value for name, value in columns.items() if name in ENTITIES[entity].columns}
    return Record(entity=entity, id="R", columns=kept, **fields)


edits = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from("ABC"), "notes": st.sampled_from("xyz"), "status": st.just("missing")}
)


@given(before=edits, after=edits, times=st.integers(1, 3))
def test_a_record_that_left_and_entered_again_is_what_it_is_in_the_cloud(
    before: dict[str, Any], after: dict[str, Any], times: int
) -> None:
    rows = Rows()
    theirs = record("animal", **before)
    rows.take(take(theirs, rows, (), 10))
    for turn in range(times):
        rows.take(leave("animal", "R", rows, (), 20 + turn))
        mine = rows.get("animal", "R")
        assert mine is not None
        assert mine.is_deleted
        assert mine.cloud_rev == 0
        theirs = replace(theirs, columns={**theirs.columns, **after}, rev=theirs.rev + turn % 2)
        rows.take(take(theirs, rows, (), 30 + turn))
    mine = rows.get("animal", "R")
    assert mine is not None
    assert (dict(mine.columns), mine.is_deleted, mine.cloud_rev) == (dict(theirs.columns), False, theirs.rev)


def test_what_somebody_has_edited_here_stays_until_it_is_ruled_on() -> None:
    rows = Rows([record("animal")])
    assert leave("animal", "R", rows, {"notes"}, 10).changes == ()


def test_what_is_not_here_or_deleted_here_cannot_leave() -> None:
    rows = Rows([replace(record("animal"), deleted_ms=5)])
    assert leave("animal", "R", rows, (), 10).changes == ()
    assert leave("animal", "other", rows, (), 10).changes == ()


def test_a_collar_that_left_answers_to_no_radio_id_and_does_again_when_it_enters() -> None:
    rows = Rows()
    theirs = record("collar", aliases=("eui:1",))
    rows.take(take(theirs, rows, (), 10))
    assert rows.canonical("eui:1") == "R"
    rows.take(leave("collar", "R", rows, (), 20))
    assert rows.canonical("eui:1") == "eui:1"
    rows.take(take(theirs, rows, (), 30))
    assert rows.canonical("eui:1") == "R"
