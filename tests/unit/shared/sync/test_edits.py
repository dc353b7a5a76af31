"""The writes of a Store, in terms of one operation each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.errors import Invalid
from shared.privacy import OPERATOR, View, view_for
from shared.sync.edits import RecordEdits
from shared.sync.operations import Operation, Outcome
from shared.sync.records import to_ms
from tests.fakes import START

pytestmark = [pytest.mark.unit, pytest.mark.sync]

AREA = '{"type":"Polygon","coordinates":[[[37,-2],[38,-2],[38,-3],[37,-2]]]}'
VIEW: View = view_for(OPERATOR)


class Notebook(RecordEdits):
    """Notes the operations that it is asked to do."""

    def __init__(self) -> None:
        self.asked: list[Operation] = []

    async def edit(self, operation: Operation) -> object:
        """Note the operation."""
        self.asked.append(operation)
        return operation

    async def edit_all(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Note the operations."""
        self.asked += operations
        return ["applied"] * len(operations)

    def now(self) -> datetime:
        """Stand at noon."""
        return START


@pytest.fixture
def notebook() -> Notebook:
    """Give an empty notebook."""
    return Notebook()


@pytest.mark.parametrize(
    ("method", "given", "expected"),
    [
        ("create_animal", ({"name": "A", "species": "lion", "age": None, "status": None},),
         ("animal", "insert", None, {"name": "A", "species": "lion"})),
        ("create_animal", ({"name": "A", "collar_id": "K1", "id": "a"},),
         ("animal", "insert", "a", {"name": "A", "collar_id": "K1"})),
        ("update_animal", ("a", {"age": None, "collar_id": None, "x": 1}),
         ("animal", "update", "a", {"age": None, "collar_id": None})),
        ("update_animal", ("", {}), ("animal", "update", "", {})),
        ("delete_animal", ("a",), ("animal", "delete", "a", {})),
        ("put_collar", ("K1", {"model": None, "aliases": ["b", "a"]}),
         ("collar", "insert", "K1", {"model": None, "aliases": ("a", "b")})),
        ("delete_collar", ("K1",), ("collar", "delete", "K1", {})),
        ("create_deployment", ({"collar_id": "K1", "animal_id": "a", "started_at": START, "ended_at": None},),
         ("deployment", "insert", None, {"collar_id": "K1", "animal_id": "a", "started_ms": to_ms(START)})),
        ("update_deployment", ("d", {"collar_id": None, "animal_id": None, "started_at": None, "ended_at": None}),
         ("deployment", "update", "d", {"ended_ms": None})),
        ("delete_deployment", ("d",), ("deployment", "delete", "d", {})),
        ("create_observation", ({"observation_type": "health", "lon_deg": 37.5},),
         ("observation", "insert", None, {"observation_type": "health", "lon_e7": 375_000_000})),
        ("update_observation", ("o", {"lon_deg": None}), ("observation", "update", "o", {"lon_e7": None})),
        ("delete_observation", ("o",), ("observation", "delete", "o", {})),
        ("create_zone", ({"geometry": AREA, "risk_level": None},), ("zone", "insert", None, {"geometry": AREA})),
        ("update_zone", ("z", {"is_active": False}), ("zone", "update", "z", {"is_active": False})),
        ("delete_zone", ("z",), ("zone", "delete", "z", {})),
        ("create_corridor", ({"name": "C", "geometry": AREA, "status": None, "start_lon_deg": 37.5},),
         ("corridor", "insert", None, {"name": "C", "geometry": AREA, "start_lon_e7": 375_000_000})),
        ("update_corridor", ("c", {"width_m": 5.0}), ("corridor", "update", "c", {"width_m": 5.0})),
        ("delete_corridor", ("c",), ("corridor", "delete", "c", {})),
        ("create_alert", ({"title": "t", "detected_at": START + timedelta(seconds=1)},),
         ("alert", "insert", None, {"title": "t", "detected_ms": to_ms(START) + 1000})),
        ("update_alert", ("w", {"status": "resolved", "resolved_at": START}),
         ("alert", "update", "w", {"status": "resolved", "resolved_ms": to_ms(START)})),
    ],
)  # fmt: skip
async def test_a_write_is_one_operation(
    notebook: Notebook, method: str, given: tuple[Any, ...], expected: tuple[Any, ...]
) -> None:
    await getattr(notebook, method)(VIEW, *given)
    (operation,) = notebook.asked
    entity, kind, row_id, columns = expected
    assert (operation.entity, operation.kind, operation.columns) == (entity, kind, columns)
    assert operation.row_id == row_id if row_id is not None else len(operation.row_id) == 36
    assert (operation.author, operation.made_ms) == (OPERATOR.user_id, to_ms(START))
    assert (operation.origin, operation.base_rev) == ("", None)


async def test_each_operation_has_an_id_of_its_own(notebook: Notebook) -> None:
    for _ in range(2):
        await notebook.delete_zone(VIEW, "z")
    assert len({operation.id for operation in notebook.asked}) == 2


async def test_what_a_column_does_not_take_is_refused_before_anything_is_asked(notebook: Notebook) -> None:
    with pytest.raises(Invalid, match="gender"):
        await notebook.update_animal(VIEW, "a", {"gender": "M"})
    assert notebook.asked == []
