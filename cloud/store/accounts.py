"""The cloud's accounts in PostgreSQL: runs the jobs of ``shared.accounts``, those that write one after the other."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from psycopg import errors

from cloud.store.database import Connection, Database
from shared.accounts.users import Job
from shared.errors import Conflict

T = TypeVar("T")

#: Any number of ours; advisory locks are the database's own.
_LOCK: Final = 0x6F75_7470_6F73_7402


async def run(connection: Connection, job: Job[T]) -> T:
    """Run a job inside the transaction of ``connection``."""
    rows: list[tuple[Any, ...]] | None = None
    try:
        while True:
            statement, values = next(job) if rows is None else job.send(rows)
            if (rows := connection.fields.answer(statement, values)) is not None:
                continue
            try:
                found = await connection.execute(statement.replace("?", "%s").encode(), list(values))
            except errors.UniqueViolation as error:
                raise Conflict("somebody else did the same at this moment: try again") from error
            rows = [] if found.description is None else await found.fetchall()
    except StopIteration as ended:
        result: T = ended.value
        return result


class PostgresTables:
    """Implements ``shared.accounts.service.Tables`` over the cloud's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, job: Job[T]) -> T:
        """Run a job that only reads."""
        async with self._database.snapshot() as connection:
            return await run(connection, job)

    async def write(self, job: Job[T]) -> T:
        """Run a job in one transaction, while no other process writes accounts."""
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            return await run(connection, job)
