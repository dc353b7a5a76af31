"""Reads the database of the online platform that this replaces: one state of it, row by row, never writing.

It is PostgreSQL under Django; its tables are known by their names, and a column that a release of it had not yet, or
has no more, is read as None.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final, LiteralString

from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from cloud.store.database import Connection, described, parameters, translated
from shared.errors import Invalid

#: The tables that are read, and the columns without which one is another program's.
TABLES: Final[dict[str, tuple[str, ...]]] = {
    "users": ("id", "email", "name", "role"),
    "animals": ("id", "name", "species", "collar_id"),
    "tracking": ("id", "animal_id", "timestamp", "lat", "lon"),
    "observations": ("id", "observation_type", "timestamp"),
    "conflict_zones": ("id", "name", "zone_type", "geometry"),
    "corridors": ("id", "name", "start_point", "end_point"),
    "wildlife_alerts": ("id", "animal_id", "alert_type", "detected_at"),
    "predictions": ("id", "prediction_type", "results", "created_at"),
    "rangers_rangerteam": ("id", "name"),
    "rangers_ranger": ("id", "user_id", "badge_number"),
    "rangers_rangertracking": ("id", "ranger_id", "timestamp", "lat", "lon"),
    "rangers_patrollog": ("id", "ranger_id", "log_type", "title", "timestamp"),
    "rangers_patrolroute": ("id", "name", "team_id", "waypoints"),
    "rangers_patrolroute_assigned_rangers": ("patrolroute_id", "ranger_id"),
}
#: Tables of Django's own and of its cache, and what is no record of anything: sessions and codes are never read.
_PASSED_OVER: Final = ("auth_", "django_", "cache", "token_blacklist_", "spatial_ref_sys", "user_sessions", "otp_")
_ROWS: Final = 2_000
_WORN: Final = """
SELECT t.animal_id::text, coalesce(nullif(btrim(t.collar_id), ''), nullif(btrim(a.collar_id), '')) AS collar,
  min(t.timestamp), max(t.timestamp)
FROM tracking t JOIN animals a ON a.id = t.animal_id GROUP BY 1, 2"""


class Original:
    """The original's database, as it stood when it was opened."""

    def __init__(self, connection: AsyncConnection[Any], where: str, columns: dict[str, set[str]]) -> None:
        self._connection = connection
        self._where = where
        self._columns = columns

    def has(self, table: str) -> bool:
        """Say whether there is such a table."""
        return table in self._columns

    async def count(self, table: str) -> int:
        """Return how many rows a table has."""
        with translated(self._where):
            found = await self._connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))
            row = await found.fetchone()
        return 0 if row is None else int(row[0])

    async def rows(self, table: str, order: LiteralString) -> AsyncGenerator[dict[str, Any], None]:
        """Give the rows of a table; only a few thousand are held."""
        columns = sorted(self._columns[table] - {"password"})
        statement = sql.SQL("SELECT {} FROM {} ORDER BY {}").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table),
            sql.SQL(order),
        )  # fmt: skip
        with translated(self._where):
            async with self._connection.cursor(name="original", row_factory=dict_row) as cursor:
                cursor.itersize = _ROWS
                await cursor.execute(statement)
                async for row in cursor:
                    yield row

    async def worn(self) -> list[tuple[str, str | None, Any, Any]]:
        """Return of each animal and collar the first and the last position that was stored."""
        with translated(self._where):
            return await (await self._connection.execute(_WORN)).fetchall()

    async def names(self) -> dict[str, str]:
        """Return what people are called, by id."""
        return dict(await self._pairs("SELECT id::text, coalesce(nullif(btrim(name), ''), email) FROM users"))

    async def assigned(self) -> list[tuple[str, str]]:
        """Return each planned patrol with each ranger that is to go."""
        if not self.has("rangers_patrolroute_assigned_rangers"):
            return []
        return await self._pairs(
            "SELECT patrolroute_id::text, ranger_id::text FROM rangers_patrolroute_assigned_rangers ORDER BY 1, 2"
        )

    async def _pairs(self, statement: LiteralString) -> list[tuple[str, str]]:
        with translated(self._where):
            return [(one, other) for one, other in await (await self._connection.execute(statement)).fetchall()]

    async def left(self) -> dict[str, int]:
        """Return the tables that are not read, with their rows."""
        others = [name for name in self._columns if name not in TABLES and not name.startswith(_PASSED_OVER)]
        counted = {name: await self.count(name) for name in sorted(others)}
        return {name: n for name, n in counted.items() if n}


@contextlib.asynccontextmanager
async def open_original(url: str) -> AsyncIterator[Original]:
    """Give the original's database at ``url``; raises Invalid where it is another program's."""
    where = described(url)
    with translated(where):
        connection = await AsyncConnection.connect(
            **parameters(url, "outpost-cloud import-original"), autocommit=False, prepare_threshold=None
        )
    async with connection:
        with translated(where):
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            await connection.execute("SELECT set_config('statement_timeout', '0', true)")
            await connection.execute("SELECT set_config('TimeZone', 'UTC', true)")
            found = await connection.execute(
                "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
                " AND table_name IN (SELECT tablename FROM pg_tables WHERE schemaname = current_schema())"
            )
            columns: dict[str, set[str]] = {}
            for table, column in await found.fetchall():
                columns.setdefault(table, set()).add(column)
        _check(where, columns)
        yield Original(connection, where, columns)


def _check(where: str, columns: dict[str, set[str]]) -> None:
    for table in ("users", "animals", "tracking"):
        if table not in columns:
            raise Invalid(f"{where}: there is no table {table}; is this the database of the original platform?")
    for table, needed in TABLES.items():
        missing = [column for column in needed if column not in columns.get(table, needed)]
        if missing:
            raise Invalid(
                f"{where}: table {table} has no column {', '.join(missing)}; is this the original platform's database?"
            )


async def known_ids(connection: Connection, table: str, ids: Sequence[str]) -> set[str]:
    """Return which of ``ids`` our own ``table`` has, also as tombstones."""
    statement = sql.SQL("SELECT id FROM {} WHERE id = ANY(%s)").format(sql.Identifier(table))
    return {str(identity) for (identity,) in await (await connection.execute(statement, (list(ids),))).fetchall()}
