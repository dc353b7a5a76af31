"""Phones at the station: runs the jobs of ``shared.sync.phone`` on the store's connections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from edge.store import changes
from edge.store.driver import Connection
from edge.store.fixes import FixWriter, StoredFix
from edge.store.jobs import run
from edge.store.records import RecordWriter, record_of, selecting
from shared.domain import AddedFix
from shared.errors import NotFound
from shared.ids import id_bytes, id_text
from shared.sync import clashes
from shared.sync.operations import Effects
from shared.sync.phone.jobs import (
    AddFixes,
    Dialect,
    Edit,
    Exclude,
    Job,
    LocalId,
    Lose,
    Map,
    Mapped,
    Note,
    Numbered,
    Put,
    Records,
    Wish,
)
from shared.sync.records import ENTITIES

T = TypeVar("T")


def _listed(ids: Iterable[str]) -> str:
    return msgspec.json.encode(list(ids)).decode()


DIALECT: Final = Dialect(
    among=lambda column: f"{column} IN (SELECT value FROM json_each(?))",
    listed=_listed,
    fix_value=lambda raw: raw,
    fix_bytes=lambda value: value,
    is_corrected="f.recorded_ms <> f.raw_ms",
    head="SELECT coalesce(max(seq), 0) FROM changes",
    scope=None,
)


_MAPPED: Final = (
    "SELECT local_id, server_id, coalesce(hash, '') FROM phone_ids WHERE device = ? AND tbl = ?"
    f" AND {DIALECT.among('local_id')}"
)
_MAP: Final = (
    "INSERT INTO phone_ids (device, tbl, local_id, server_id, hash) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (device, tbl, local_id) DO UPDATE SET server_id = excluded.server_id, hash = excluded.hash"
)


def epoch(db: Connection) -> int:
    """Return the number of this life of the station in the cursors of phones."""
    return int(db.execute("SELECT value FROM facts WHERE name = 'phone_epoch'").fetchone()[0])


class Run:
    """One run of a job in the transaction of ``db``; ``writers`` are None where it only reads.

    ``stored`` are the fixes that it brought, for whoever wants to hear of them once they are committed.
    """

    def __init__(self, db: Connection, writers: tuple[RecordWriter, FixWriter] | None = None, now_ms: int = 0) -> None:
        self._db = db
        self._writers = writers
        self._now_ms = now_ms
        self.stored: list[StoredFix] = []

    def of(self, job: Job[T]) -> T:
        """Run ``job`` and return its result."""
        answer: Any = None
        try:
            while True:
                answer = self._do(job.send(answer))
        except StopIteration as ended:
            found: T = ended.value
            return found

    def _do(self, wish: Wish) -> Any:
        if isinstance(wish, tuple):
            return self._db.execute(wish[0], list(wish[1])).fetchall()
        if isinstance(wish, Records):
            return self._records(wish)
        assert self._writers is not None
        records, fixes = self._writers
        match wish:
            case Put(columns=columns, rows=rows):
                return self._db.executemany(wish.statement(f"VALUES ({', '.join('?' * len(columns))})"), rows)
            case Edit(operations):
                return records.run_each(operations)
            case AddFixes(columns):
                stored = fixes.add_columns(columns, self._now_ms)
                self.stored += stored
                return [AddedFix(id=id_text(fix.id), outcome=fix.outcome) for fix in stored]
            case Mapped(keys):
                return self._mapped(keys)
            case Map(became):
                return self._db.executemany(_MAP, [(*key, *known) for key, known in became.items()])
            case Exclude(fix_id):
                try:
                    return fixes.set_by_hand(id_bytes(fix_id), is_excluded=True)
                except (ValueError, NotFound):
                    return None
            case Note(lines):
                return changes.note(
                    self._db,
                    [(entity, row_id, kind, None, None, origin, None) for entity, row_id, kind, origin in lines],
                )
            case Numbered():
                return changes.last_number(self._db)
            case Lose():
                return self._lose(wish)

    def _mapped(self, keys: Sequence[LocalId]) -> dict[LocalId, tuple[str, str]]:
        asked: dict[tuple[str, str], list[str]] = {}
        for device, table, local_id in keys:
            asked.setdefault((device, table), []).append(local_id)
        found: dict[LocalId, tuple[str, str]] = {}
        for (device, table), local_ids in asked.items():
            rows = self._db.execute(_MAPPED, (device, table, _listed(local_ids)))
            found |= {(device, table, local_id): (server_id, said) for local_id, server_id, said in rows}
        return found

    def _records(self, wish: Records) -> list[Any]:
        entity = ENTITIES[wish.entity]
        statement, values = selecting(entity, *wish.more), list(wish.values)
        if wish.source is not None:
            statement = wish.source.sql + statement.replace(f"FROM {entity.table} r", "FROM reduced r")
            values = [*wish.source.values, *values]
        n = len(wish.more)
        return [
            (record_of(entity, row), row[len(row) - n :])
            for row in self._db.execute(f"{statement} WHERE {wish.condition} {wish.tail}", values)
        ]

    def _lose(self, wish: Lose) -> None:
        effects = Effects(outcome="superseded", lost=wish.lost, kept=wish.kept)
        if (clash := clashes.of_loss(wish.operation, effects, self._now_ms)) is not None:
            run(self._db, clashes.note([clash]))
