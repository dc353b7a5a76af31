"""A desk on which operations are decided one after the other, and what they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from shared.sync.decide import decide
from shared.sync.operations import Effects, Kind, Operation, Rows
from shared.sync.records import EntityName, Record

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


def ids(effects: Effects) -> list[tuple[str, str]]:
    """Return which records changed."""
    return [(change.record.entity, change.record.id) for change in effects.changes]
