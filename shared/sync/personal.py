"""Columns of records that are personal: a home keeps them sealed, and they are in the clear everywhere else in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from shared.accounts.fields import FieldKeys
from shared.sync.records import Entity, EntityName, Record

PERSONAL: Final[dict[EntityName, tuple[str, ...]]] = {"ranger": ("phone", "emergency_contact")}


def opened_rows(entity: Entity, rows: Iterable[Sequence[Any]], fields: FieldKeys) -> list[Sequence[Any]]:
    """Return rows of a home's ``selecting``, id and columns first, with what is sealed in them opened."""
    columns = PERSONAL.get(entity.name)
    if columns is None:
        return list(rows)
    names = list(entity.columns)
    places = [(1 + names.index(column), f"{entity.table}.{column}") for column in columns]
    opened: list[Sequence[Any]] = []
    for row in rows:
        values = list(row)
        for index, place in places:
            if values[index] is not None:
                values[index] = fields.opened(f"{place}/{row[0]}", values[index])
        opened.append(values)
    return opened


def sealed_columns(entity: Entity, record: Record, fields: FieldKeys) -> dict[str, Any]:
    """Return the columns of ``record`` as they are kept."""
    columns = dict(record.columns)
    for name in PERSONAL.get(entity.name, ()):
        if columns[name] is not None:
            columns[name] = fields.sealed(f"{entity.table}.{name}/{record.id}", columns[name])
    return columns
