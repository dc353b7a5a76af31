"""Columns of records that are personal: a home keeps them sealed, and they are in the clear everywhere else in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from shared.accounts.fields import FieldKeys
from shared.sync.records import Entity, EntityName, Record

PERSONAL: Final[dict[EntityName, tuple[str, ...]]] = {"ranger": ("phone", "emergency_contact")}
#: Columns of a conflict that repeat what was said of a record; they are sealed whole where it has personal ones.
SAID: Final = ("ours", "theirs", "merged")


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


def without_personal(entity: EntityName, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns with None in the place of what is personal."""
    personal = PERSONAL.get(entity, ())
    return {name: None if name in personal else value for name, value in columns.items()}


def sealed_columns(entity: Entity, record: Record, fields: FieldKeys) -> dict[str, Any]:
    """Return the columns of ``record`` as they are kept."""
    columns = dict(record.columns)
    for name in PERSONAL.get(entity.name, ()):
        if columns[name] is not None:
            columns[name] = fields.sealed(f"{entity.table}.{name}/{record.id}", columns[name])
    return columns
