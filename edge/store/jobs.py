"""Runs the jobs of ``shared`` (generators that ask for SQL) inside a transaction of the station's store."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from edge.store.driver import Connection, sqlite
from shared.accounts.users import Job
from shared.errors import Conflict

T = TypeVar("T")

#: What SQLite says of a value that is there already.
_TAKEN: Final = "UNIQUE constraint failed"


def run(db: Connection, job: Job[T]) -> T:
    """Run a job inside the transaction of ``db``."""
    rows: list[tuple[Any, ...]] | None = None
    try:
        while True:
            statement, values = next(job) if rows is None else job.send(rows)
            if (rows := db.fields.answer(statement, values)) is not None:
                continue
            try:
                rows = db.execute(statement, list(values)).fetchall()
            except sqlite.IntegrityError as error:
                if _TAKEN in str(error):
                    raise Conflict("somebody else did the same at this moment: try again") from error
                raise
    except StopIteration as ended:
        found: T = ended.value
        return found
