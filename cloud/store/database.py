"""The pool of connections to PostgreSQL; the driver's errors become ours here, once.

A transaction is the only unit there is: a block that ends well is committed, one that raises is rolled back. What
``transaction`` has left without an error is on the server's disk, because ``synchronous_commit`` is on whatever the
server's or the role's default says. When the connection is lost the outcome of the last commit is not known, so nothing
may be acknowledged and the same may be sent again: storing twice is storing once.

Sessions are set up as little as a pooler in transaction mode allows. With ``is_pooled`` the settings are made in every
transaction, statements are never prepared on the server, and nothing outlives the transaction.
"""

from __future__ import annotations

import contextlib
import math
import select
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, Self

import psycopg
import structlog
from psycopg import AsyncConnection, AsyncCursor, conninfo, errors, sql
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from cloud.store.arrays import ADAPTERS
from shared.accounts.fields import NO_KEYS, FieldKeys
from shared.errors import ConfigError, DatabaseCorrupt, Invalid, StoreError, StoreFull

__all__ = [
    "Connection",
    "Database",
    "create_database",
    "described",
    "drop_database",
    "has_database",
    "parameters",
    "translated",
]


class Connection(AsyncConnection[TupleRow]):
    """A connection of the pool, which knows how the cloud's personal fields are sealed once the database was told."""

    fields: FieldKeys = NO_KEYS
    #: when it last ended a transaction, on the monotonic clock
    used_s: float = -math.inf

    def is_sound(self) -> bool:
        """Say whether it answered a moment ago and has not been ended since, as far as this machine has heard.

        Between transactions a server says nothing, unless it is to end the connection: no round trip is needed.
        """
        return time.monotonic() - self.used_s < _SOUND_S and not _is_readable(self.fileno())


#: PostgreSQL 15, the oldest that the SQL of this store is tried on.
OLDEST_SERVER: Final = 150_000
PREPARE_AFTER: Final = 5
#: Statements that take longer are named in the log, by their first characters.
SLOW_S: Final = 0.5
_TOLD: Final = 200
#: A connection that nobody has used for so long is asked whether it still works before anybody has it.
_SOUND_S: Final = 5.0

log = structlog.get_logger()
#: A failed attempt to connect is repeated for this long and then left to the next request, so that the pool is never in
#: the long pauses of its back-off when the server returns.
_RECONNECT_S: Final = 4.0

#: A server that has gone is noticed in a minute, not after the two hours of the kernel's default.
_CONNECTING: Final[dict[str, str]] = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

_SETTINGS: Final = """
    SELECT set_config('statement_timeout', %(statement_timeout)s, %(is_local)s),
           set_config('TimeZone', 'UTC', %(is_local)s),
           CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                THEN set_config('synchronous_commit', 'on', %(is_local)s) END
"""
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


class _TimedCursor(AsyncCursor[TupleRow]):
    """Names statements that others had to wait for; their values stay out, which may tell a place."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Run a statement and tell of it where it was slow."""
        began_s = time.monotonic()
        try:
            return await super().execute(query, params, **options)
        finally:
            took_s = time.monotonic() - began_s
            if took_s > SLOW_S:
                words = query if isinstance(query, str) else type(query).__name__
                log.warning("sql.slow", statement=" ".join(words.split())[:_TOLD], took_ms=round(took_s * 1000))


class Database:
    """A pool of connections; ``async with Database.open(url) as database``."""

    def __init__(
        self, pool: AsyncConnectionPool[Connection], where: str, *, is_pooled: bool, settings: dict[str, Any]
    ) -> None:
        self._pool = pool
        self._is_pooled = is_pooled
        self._settings = settings
        #: the database without its password, for messages
        self.where = where
        #: what seals and opens personal fields; whoever has the cloud's secret sets it
        self.fields = NO_KEYS

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        pool_min: int = 2,
        pool_max: int = 10,
        is_pooled: bool = False,
        statement_timeout_s: float = 30.0,
        wait_s: float = 10.0,
        application_name: str = "outpost-cloud",
    ) -> AsyncIterator[Self]:
        """Connect to ``url`` (libpq's: TLS as its ``sslmode`` says) and give the pool; close it at the end.

        ``statement_timeout_s`` ends a statement of any connection, 0 ends none. ``wait_s`` is how long a caller waits
        for a free connection. Raises StoreError with the server's reason, or ConfigError for what is no URL.
        """
        given = parameters(url, application_name)
        where = described(url)
        # a pool tells only that nothing came in time; one connection of our own tells why
        with translated(where):
            async with await AsyncConnection.connect(**given, autocommit=True, prepare_threshold=None) as probe:
                _check_server(probe.info.server_version, where)
        settings = {"statement_timeout": f"{round(statement_timeout_s * 1000)}ms", "is_local": is_pooled}

        async def configure(connection: Connection) -> None:
            await connection.execute(_SETTINGS, settings)

        pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            connection_class=Connection,
            kwargs={
                **given,
                "autocommit": True,
                "prepare_threshold": None if is_pooled else PREPARE_AFTER,
                "cursor_factory": _TimedCursor,
                "context": ADAPTERS,
            },
            min_size=pool_min,
            max_size=pool_max,
            configure=None if is_pooled else configure,
            # no caller meets a connection that a restart of the server has ended
            check=_check,
            timeout=wait_s,
            reconnect_timeout=_RECONNECT_S,
            name=application_name,
            open=False,
        )
        database = cls(pool, where, is_pooled=is_pooled, settings=settings)
        try:
            with translated(where):
                await pool.open(wait=True, timeout=wait_s)
            yield database
        finally:
            await database.close()

    async def close(self) -> None:
        """Close every connection; a closed pool stays closed."""
        await self._pool.close()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Give a connection inside one transaction: committed at the end, rolled back by any exception.

        Raises StoreError, and StoreFull where the server's disk has no room.
        """
        with translated(self.where):
            async with self._pool.connection() as connection, connection.transaction():
                connection.fields = self.fields
                if self._is_pooled:
                    await connection.execute(_SETTINGS, self._settings)
                yield connection
                connection.used_s = time.monotonic()

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Give a connection that reads one state of the database, whatever others commit, and cannot write."""
        with translated(self.where):
            async with self._pool.connection() as connection:  # which ends what is begun in it
                connection.fields = self.fields
                await connection.execute(_SNAPSHOT, prepare=False)
                if self._is_pooled:
                    await connection.execute(_SETTINGS, self._settings)
                yield connection
                connection.used_s = time.monotonic()


async def _check(connection: Connection) -> None:
    """Raise the driver's error where a connection has ended."""
    if not connection.is_sound():
        await AsyncConnectionPool.check_connection(connection)


def _is_readable(socket_number: int) -> bool:
    """Say whether something waits to be read from a socket: words of the server, or its end."""
    poll = select.poll()
    poll.register(socket_number, select.POLLIN)
    return bool(poll.poll(0))


def parameters(url: str, application_name: str) -> dict[str, Any]:
    """Return libpq's parameters of ``url``, with what it leaves open; raises ConfigError for what is no URL."""
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        # libpq repeats what it cannot read, and that may be the password
        raise ConfigError("database.url: must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE") from error
    return {**_CONNECTING, "application_name": application_name, **given}


def described(url: str) -> str:
    """Return the database that ``url`` names, without its password."""
    given = parameters(url, "")
    host, port = str(given.get("host", "")), str(given.get("port", ""))
    user, name = str(given.get("user", "")), str(given.get("dbname", ""))
    return f"{name or 'the default database'} at {host or 'the local socket'}{':' if port else ''}{port}" + (
        f" as {user}" if user else ""
    )


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn the driver's errors into ours, with the database they concern.

    Text with the character 0, which PostgreSQL cannot hold, is the caller's fault (Invalid). What the server says of a
    row's values stays out: it would put positions into answers and logs.
    """
    try:
        yield
    except psycopg.Error as error:
        if isinstance(error, psycopg.DataError) and error.sqlstate is None:  # the driver's own: it was never sent
            raise Invalid("a text has the character 0, or a value is beyond what the database holds") from error
        raise _ours(error, where) from error


def create_database(url: str, name: str, template: str | None = None) -> None:
    """Create the database ``name`` on the server of ``url``, as a copy of ``template`` if one is named."""
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        # a copy of the files: for the few megabytes of a template it takes two thirds of a copy through the log
        statement += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
    _administer(url, statement)


def has_database(url: str, name: str) -> bool:
    """Say whether the server of ``url`` has the database ``name``."""
    with (
        translated(described(url)),
        psycopg.connect(**parameters(url, "outpost-cloud"), autocommit=True) as connection,
    ):
        return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None


def drop_database(url: str, name: str) -> None:
    """Remove the database ``name`` from the server of ``url``, whoever is connected to it."""
    _administer(url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _administer(url: str, statement: sql.Composed) -> None:
    with (
        translated(described(url)),
        psycopg.connect(**parameters(url, "outpost-cloud"), autocommit=True) as connection,
    ):
        connection.execute(statement)


def _check_server(version: int, where: str) -> None:
    if version < OLDEST_SERVER:
        raise StoreError(f"{where}: PostgreSQL {version // 10_000} is too old: at least {OLDEST_SERVER // 10_000}")


#: SQLSTATE, or its first two characters, and what a person can do. The longest match counts.
_REMEDIES: Final[dict[str, str]] = {
    "08": "the connection was lost; nothing was acknowledged, the same may be sent again",
    "25006": "the database only reads: this is a standby, or the transaction is a snapshot",
    "28": "the server refuses this user; check user and password in database.url and the server's pg_hba.conf",
    "3D000": "there is no such database; create it, or correct database.url",
    "40001": "two transactions were in each other's way and this one gave way; nothing was written, it may be repeated",
    "40P01": "two transactions waited for each other and this one gave way; nothing was written, it may be repeated",
    "42501": "the database's user lacks a right",
    "42P01": "a table is missing; run `outpost-cloud migrate`",
    "42703": "a column is missing; run `outpost-cloud migrate`",
    "53200": "the server is out of memory",
    "53300": "the server has no connection left; lower database.pool_max or raise its max_connections",
    "55P03": "a lock was not free in time; nothing was written, it may be repeated",
    "57014": "a statement took longer than database.statement_timeout_s; nothing was written",
    "57P": "the server is being stopped or started; nothing was acknowledged, the same may be sent again",
}
#: Classes whose message may repeat a value of the row at fault.
_WITH_VALUES: Final = ("22", "23")


def _ours(error: psycopg.Error, where: str) -> StoreError:
    state = error.sqlstate or ""
    if isinstance(error, PoolTimeout):
        return StoreError(
            f"{where}: no connection became free in time: all are busy, or the server does not answer; "
            "nothing was written, it may be repeated"
        )
    if isinstance(error, PoolClosed):
        return StoreError(f"{where}: the program is ending")
    if isinstance(error, errors.DiskFull):
        return StoreFull(f"{where}: no room on the database server's disk; nothing was written")
    if isinstance(error, errors.DataCorrupted | errors.IndexCorrupted):
        return DatabaseCorrupt(f"{where}: {_said(error)}")
    if isinstance(error, psycopg.OperationalError) and not state:
        return StoreError(
            f"{where}: {_said(error)}; is the server running? Nothing was acknowledged, the same may be sent again"
        )
    remedy = next((_REMEDIES[state[:size]] for size in (5, 3, 2) if state[:size] in _REMEDIES), None)
    if remedy is not None:
        return StoreError(f"{where}: {_said(error)} ({state}): {remedy}")
    if state.startswith(_WITH_VALUES):
        part = error.diag.constraint_name or error.diag.column_name or error.diag.table_name
        return StoreError(f"{where}: {type(error).__name__} ({state}){f' of {part}' if part else ''}; nothing written")
    return StoreError(f"{where}: {_said(error)}{f' ({state})' if state else ''}")


def _said(error: psycopg.Error) -> str:
    """Return the first line of what server or driver said."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    return text.strip().splitlines()[0]
