"""Predictions in the cloud's database; what is in a statement is ``shared.sync.predictions``'."""

from __future__ import annotations

from typing import Final

from cloud.store.database import Connection
from cloud.store.records import one
from shared.domain import Prediction
from shared.errors import NotFound
from shared.privacy import View
from shared.store import Page, PredictionQuery
from shared.sync import predictions as words
from shared.sync.reduced import SPECIES

_LIKE: Final = "ILIKE %s"


async def find(db: Connection, view: View, query: PredictionQuery) -> Page[Prediction]:
    """Return a page of predictions."""
    asked = words.listing(view, query, await _species(db, view), mark="%s", like=_LIKE)
    (count,) = await one(db, asked.count_sql, asked.count_values)
    rows = await (await db.execute(asked.page_sql.encode(), asked.page_values)).fetchall()
    return Page(int(count), [words.prediction_of(row) for row in rows])


async def get(db: Connection, view: View, column: str, value: str) -> Prediction:
    """Return the prediction of an ``id`` or a ``key``; raises NotFound."""
    statement, values = words.reading(view, await _species(db, view), column, value, mark="%s")
    row = await (await db.execute(statement.encode(), values)).fetchone()
    if row is None:
        raise NotFound(f"there is no prediction {value}")
    return words.prediction_of(row)


async def keep(db: Connection, view: View, prediction: Prediction, key: str) -> tuple[Prediction, bool]:
    """Keep a prediction unless there is one of its key; return the one that is kept and whether it is new."""
    statement, values = words.keeping(view, prediction, key, mark="%s")
    is_new = (await db.execute(statement.encode(), values)).rowcount == 1
    if is_new:
        await db.execute(
            b"DELETE FROM predictions WHERE pk <= (SELECT max(pk) FROM predictions) - %s", (words.MOST_KEPT,)
        )
    return await get(db, view, "key", key), is_new


async def delete(db: Connection, view: View, prediction_id: str) -> None:
    """Delete a prediction; raises NotFound."""
    await get(db, view, "id", prediction_id)
    await db.execute(b"DELETE FROM predictions WHERE id = %s", (prediction_id,))


async def _species(db: Connection, view: View) -> list[str]:
    if view.is_exact:
        return []
    return [name for (name,) in await (await db.execute(SPECIES.encode())).fetchall()]
