"""The months of ``fixes``. A fix's id begins with its raw time, so its month's partition follows from the id alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from psycopg import sql

from cloud.store.database import Database
from shared.sync.records import from_ms, to_ms

#: Outside these years no clock means what it says: such fixes lie in the two partitions of the ends.
FIRST_YEAR: Final = 2000
END_YEAR: Final = 2050

_FIRST_MS: Final = to_ms(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC))
_END_MS: Final = to_ms(datetime(END_YEAR, 1, 1, tzinfo=UTC))
_LOCK: Final = 0x6F75_7470_6F73_7402
_MAX_48: Final = 2**48 - 1


def lowest_id(raw_ms: int) -> str:
    """Return the smallest id that a fix recorded at ``raw_ms`` can have, as hex digits."""
    return f"{min(max(raw_ms, 0), _MAX_48):012x}{0:020x}"


def highest_id(raw_ms: int) -> str:
    """Return the largest id that a fix recorded at ``raw_ms`` can have, as hex digits."""
    return f"{min(max(raw_ms, 0), _MAX_48):012x}{'f' * 20}"


def month_of(raw_ms: int) -> tuple[int, int] | None:
    """Return year and month of the partition of a fix; None for one of the two ends."""
    if not _FIRST_MS <= raw_ms < _END_MS:
        return None
    instant = from_ms(raw_ms)
    return instant.year, instant.month


class Partitions:
    """Makes the partitions of months before their first fix comes; remembers which are there."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[tuple[int, int]] = set()

    async def ensure(self, raw_ms: Iterable[int]) -> None:
        """See that every fix recorded at one of ``raw_ms`` has a partition to go to.

        In a transaction of its own: a table being attached would hold up whoever else writes. Attaching keeps readers
        and writers of the other months at work, which creating it in place would not.
        """
        # most batches lie in a month or two: days first, months after
        days = {ms // 86_400_000 for ms in raw_ms}
        months = {month for day in days if (month := month_of(day * 86_400_000)) is not None} - self._known
        if not months:
            return
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            found = await connection.execute("SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class p"
                                             " ON p.oid = inhparent WHERE p.relname = 'fixes'")  # fmt: skip
            there = {name for (name,) in await found.fetchall()}
            for year, number in sorted(months):
                name = f"fixes_{year}_{number:02}"
                if name in there:
                    continue
                first = datetime(year, number, 1, tzinfo=UTC)
                after = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
                table = sql.Identifier(name)
                await connection.execute(
                    sql.SQL("CREATE TABLE {} (LIKE fixes INCLUDING DEFAULTS INCLUDING GENERATED)").format(table)
                )
                await connection.execute(
                    sql.SQL("ALTER TABLE fixes ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                        table, sql.Literal(lowest_id(to_ms(first))), sql.Literal(lowest_id(to_ms(after)))
                    )
                )
        self._known |= months

    def forget(self) -> None:
        """Look again at the next fix: the database may not be the one that it was."""
        self._known.clear()
