"""The cloud's accounts in PostgreSQL: runs the jobs of ``shared.accounts``, those that write one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, Generic, TypeAlias, TypeVar

import psycopg
from psycopg import errors

from cloud.store.database import Connection, Database
from shared.accounts.users import Job
from shared.errors import Conflict

T = TypeVar("T")

#: Any number of ours; advisory locks are the database's own.
_LOCK: Final = 0x6F75_7470_6F73_7402
#: So many snapshots are read at once, each of so many jobs at most.
_READERS: Final = 2
_MOST: Final = 64

#: Statements with their values, and the rows that they gave in one snapshot.
Known: TypeAlias = dict[tuple[str, tuple[Any, ...]], list[tuple[Any, ...]]]


async def run(connection: Connection, job: Job[T], known: Known | None = None) -> T:
    """Run a job inside the transaction of ``connection``.

    ``known`` is what was asked of a snapshot already: asked again, it is not asked of the database.
    """
    rows: list[tuple[Any, ...]] | None = None
    try:
        while True:
            statement, values = next(job) if rows is None else job.send(rows)
            if (rows := connection.fields.answer(statement, values)) is not None:
                continue
            question = (statement, tuple(values))
            if known is not None and question in known:
                rows = list(known[question])
                continue
            try:
                found = await connection.execute(statement.replace("?", "%s").encode(), list(values))
            except errors.UniqueViolation as error:
                raise Conflict("somebody else did the same at this moment: try again") from error
            rows = [] if found.description is None else await found.fetchall()
            if known is not None:
                known[question] = list(rows)
    except StopIteration as ended:
        result: T = ended.value
        return result


class _Asked(Generic[T]):
    """A job that waits to be read, and where its result goes."""

    def __init__(self, job: Job[T]) -> None:
        self.answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._job = job

    async def read(self, connection: Connection, known: Known) -> None:
        """Run the job; what it raises is for who asked, but for what the database says: that ends the snapshot."""
        try:
            found = await run(connection, self._job, known)
        except psycopg.Error:
            raise
        except Exception as error:  # noqa: BLE001 - it comes back to whoever asked
            self.fail(error)
        else:
            if not self.answer.done():  # nobody gave up waiting
                self.answer.set_result(found)

    def fail(self, error: Exception) -> None:
        """Tell who asked that it went wrong."""
        if not self.answer.done():
            self.answer.set_exception(error)


class PostgresTables:
    """Implements ``shared.accounts.service.Tables`` over the cloud's database.

    Every request asks here who makes it. Reads that come while others are under way share the next snapshot: none
    sees less than what was committed before it came.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Asked[Any]] = deque()
        self._readers: set[asyncio.Task[None]] = set()

    async def read(self, job: Job[T]) -> T:
        """Run a job that only reads."""
        asked = _Asked(job)
        self._waiting.append(asked)
        if len(self._readers) < _READERS:
            reader = asyncio.create_task(self._read_on())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        return await asked.answer

    async def _read_on(self) -> None:
        """Read until nobody waits."""
        while self._waiting:
            some = deque(self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST)))
            asked: _Asked[Any] | None = None
            try:
                async with self._database.snapshot() as connection:
                    known: Known = {}
                    while some:
                        asked = some.popleft()
                        await asked.read(connection, known)
            except Exception as error:  # noqa: BLE001 - it comes back to whoever asked
                for each in some if asked is None else [asked]:
                    each.fail(error)
                if asked is not None:  # the others are not at fault
                    self._waiting.extendleft(reversed(some))

    async def write(self, job: Job[T]) -> T:
        """Run a job in one transaction, while no other process writes accounts."""
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            return await run(connection, job)
