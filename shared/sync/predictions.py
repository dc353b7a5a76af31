"""Predictions as rows of a home, in the words of SQL that both databases share.

A prediction was made for somebody, from the positions that they may see: ``tier`` says which those were. Whoever sees
everything exactly sees every row, others those of their own tier as they are. Of the rest they see that a model was
asked, of what kind and on what day, once that is as old as the animal's category asks: an answer may hold a place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from shared.domain import Prediction
from shared.privacy import View, seen_alike
from shared.store import PredictionQuery
from shared.sync.listing import like_pattern, order_by
from shared.sync.records import from_ms, to_ms
from shared.sync.reduced import Reduced, category_of_rows, is_old

#: A home keeps this many, the newest: they are answers, and can be asked for again.
MOST_KEPT: Final = 10_000

_COLUMNS: Final = (
    "id", "animal_id", "prediction_type", "input_data", "results", "confidence", "model_version", "created_by",
    "created_ms",
)  # fmt: skip
_SHOWN: Final = ", ".join(f"r.{name}" for name in _COLUMNS)
_FROM: Final = "LEFT JOIN animals a ON a.id = r.animal_id AND a.deleted_ms IS NULL"
_ORDER: Final = {"created_at": "r.created_ms", "confidence": "coalesce(r.confidence, -1)"}
_DAY_MS: Final = 86_400_000


class Listing(msgspec.Struct, frozen=True):
    """Statements that count and read a page of predictions, and the values of each."""

    count_sql: str
    count_values: list[Any]
    page_sql: str
    page_values: list[Any]


def tier_of(view: View) -> str:
    """Return by which positions an answer to ``view`` is made: two views of one tier see the same."""
    role, stations = seen_alike(view)
    return "exact" if view.is_exact else f"{role}:{','.join(sorted(stations or ()))}"


def listing(view: View, query: PredictionQuery, species: Sequence[str], *, mark: str, like: str) -> Listing:
    """Return how a page is read; ``species`` are those of ``reduced.SPECIES``, ``like`` the home's word for LIKE."""
    rows = _rows(view, species, mark)
    conditions, values = ["1 = 1"], []
    equal = {"animal_id": query.animal_id, "prediction_type": query.prediction_type, "created_by": query.created_by}
    for column, value in equal.items():
        if value is not None:
            conditions.append(f"r.{column} = {mark}")
            values.append(value)
    if query.search:
        conditions.append(f"(a.name {like} OR a.species {like})")
        values += [like_pattern(query.search)] * 2
    bound = [*rows.values, *values]
    body = f"FROM {_table(view)} r {_FROM} WHERE {' AND '.join(conditions)}"
    order = order_by(query.ordering, _ORDER, "r.pk")
    return Listing(
        count_sql=f"{rows.sql}SELECT count(*) {body}",
        count_values=bound,
        page_sql=f"{rows.sql}SELECT {_SHOWN} {body} ORDER BY {order} LIMIT {mark} OFFSET {mark}",
        page_values=[*bound, query.limit, query.offset],
    )


def reading(view: View, species: Sequence[str], column: str, value: str, *, mark: str) -> tuple[str, list[Any]]:
    """Return the statement that reads the prediction of an ``id`` or a ``key``, and its values."""
    rows = _rows(view, species, mark)
    return f"{rows.sql}SELECT {_SHOWN} FROM {_table(view)} r WHERE r.{column} = {mark}", [*rows.values, value]


def keeping(view: View, prediction: Prediction, key: str, *, mark: str) -> tuple[str, list[Any]]:
    """Return the statement that keeps a prediction unless there is one of its key, and its values."""
    stored = {
        **{name: getattr(prediction, name) for name in _COLUMNS if name != "created_ms"},
        "created_ms": to_ms(prediction.created_at), "key": key, "tier": tier_of(view),
    }  # fmt: skip
    marks = ", ".join([mark] * len(stored))
    return (
        f"INSERT INTO predictions ({', '.join(stored)}) VALUES ({marks}) ON CONFLICT (key) DO NOTHING",
        list(stored.values()),
    )


def prediction_of(row: Sequence[Any]) -> Prediction:
    """Return a row as a prediction."""
    said: Mapping[str, Any] = dict(zip(_COLUMNS[:-1], row[:-1], strict=True))
    return Prediction(**said, created_at=from_ms(row[-1]))


def _table(view: View) -> str:
    return "predictions" if view.is_exact else "reduced"


def _rows(view: View, species: Sequence[str], mark: str) -> Reduced:
    if view.is_exact:
        return Reduced("", [])
    category, values = category_of_rows(view, species, "v.animal_id", mark)
    shown = {
        "input_data": "'{}'", "results": "'{}'", "confidence": "nullif(v.confidence, v.confidence)",
        "created_by": "nullif(v.created_by, v.created_by)", "created_ms": f"v.created_ms / {_DAY_MS} * {_DAY_MS}",
    }  # fmt: skip
    columns = ["v.pk AS pk, v.key AS key, v.is_mine AS is_mine"]
    for name in _COLUMNS:
        said = shown.get(name)
        columns.append(
            f"v.{name} AS {name}"
            if said is None
            else f"CASE WHEN v.is_mine = 1 THEN v.{name} ELSE {said} END AS {name}"
        )
    sources = (
        f"(SELECT w.*, {category.replace('v.', 'w.')} AS category,"
        f" CASE WHEN w.tier = {mark} THEN 1 ELSE 0 END AS is_mine"
        " FROM predictions w LEFT JOIN animals s ON s.id = w.animal_id) v"
    )
    select = f"SELECT {', '.join(columns)} FROM {sources} WHERE v.is_mine = 1 OR ({is_old(view, 'v.created_ms')})"
    return Reduced(f"WITH reduced AS ({select}) ", [*values, tier_of(view)])
