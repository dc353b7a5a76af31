"""Predictions in the station's database; what is in a statement is ``shared.sync.predictions``'."""

from __future__ import annotations

from typing import Final

from edge.store.driver import Connection
from shared.domain import Prediction
from shared.errors import NotFound
from shared.privacy import View
from shared.store import Page, PredictionQuery
from shared.sync import predictions as words
from shared.sync.reduced import SPECIES

_LIKE: Final = "LIKE ? ESCAPE '\\'"


def find(db: Connection, view: View, query: PredictionQuery) -> Page[Prediction]:
    """Return a page of predictions."""
    asked = words.listing(view, query, _species(db, view), mark="?", like=_LIKE)
    (count,) = db.execute(asked.count_sql, asked.count_values).fetchone()
    rows = db.execute(asked.page_sql, asked.page_values).fetchall()
    return Page(int(count), [words.prediction_of(row) for row in rows])


def get(db: Connection, view: View, column: str, value: str) -> Prediction:
    """Return the prediction of an ``id`` or a ``key``; raises NotFound."""
    row = db.execute(*words.reading(view, _species(db, view), column, value, mark="?")).fetchone()
    if row is None:
        raise NotFound(f"there is no prediction {value}")
    return words.prediction_of(row)


def keep(db: Connection, view: View, prediction: Prediction, key: str) -> tuple[Prediction, bool]:
    """Keep a prediction unless there is one of its key; return the one that is kept and whether it is new."""
    is_new = db.execute(*words.keeping(view, prediction, key, mark="?")).rowcount == 1
    if is_new:
        db.execute("DELETE FROM predictions WHERE pk <= (SELECT max(pk) FROM predictions) - ?", (words.MOST_KEPT,))
    return get(db, view, "key", key), is_new


def delete(db: Connection, view: View, prediction_id: str) -> None:
    """Delete a prediction; raises NotFound."""
    get(db, view, "id", prediction_id)
    db.execute("DELETE FROM predictions WHERE id = ?", (prediction_id,))


def _species(db: Connection, view: View) -> list[str]:
    return [] if view.is_exact else [name for (name,) in db.execute(SPECIES).fetchall()]
