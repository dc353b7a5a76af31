"""Phones at the cloud: runs the jobs of ``shared.sync.phone`` over PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from cloud.store.accounts import run
from cloud.store.appending import Columns
from cloud.store.arrays import BigintArray, UuidArray, texts_array
from cloud.store.batches import halving, picked
from cloud.store.database import Connection, Database
from cloud.store.effects import apply
from cloud.store.fixes import FixWriter
from cloud.store.records import Noted, load, note, record_of, selecting
from shared.domain import AddedFix
from shared.errors import Invalid, RequestError
from shared.ids import id_text
from shared.sync import clashes
from shared.sync.decide import decide
from shared.sync.operations import Effects, Operation, wanted
from shared.sync.phone.cursor import drawn_epoch
from shared.sync.phone.jobs import (
    TRACKING,
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

DIALECT: Final = Dialect(
    among=lambda column: f"{column} = ANY(?)",
    listed=list,
    fix_value=lambda raw: UUID(bytes=raw),
    fix_bytes=lambda value: value.bytes,
    is_corrected="NOT f.is_in_order",
    head="SELECT value FROM counters WHERE name = 'change'",
    scope="(v.collar_pk IN (SELECT collar_pk FROM station_collars WHERE station_id = ANY(?)))",
)


_64_BITS: Final = 2**64 - 1
_MAPPED: Final = (
    "SELECT device, tbl, local_id, server_id, coalesce(hash, '') FROM phone_ids WHERE (device, tbl, local_id) IN"
    " (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))"
)
_MAP: Final = (
    "INSERT INTO phone_ids (device, tbl, local_id, server_id, hash)"
    " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[])"
    " ON CONFLICT (device, tbl, local_id) DO UPDATE SET server_id = excluded.server_id, hash = excluded.hash"
)
_MAP_FIXES: Final = (
    "INSERT INTO phone_fixes (key, fix_id, said) SELECT * FROM unnest(%s, %s, %s)"
    " ON CONFLICT (key) DO UPDATE SET fix_id = excluded.fix_id, said = excluded.said"
)


def _key(key: LocalId) -> bytes:
    """Return the key of a position in ``phone_fixes``, as the migration that made the table works it out."""
    device, _, local_id = key
    return hashlib.sha256(f"{device}\x1f{local_id}".encode()).digest()[:16]


async def epoch(database: Database) -> int:
    """Return the number of this life of the cloud in the cursors of phones; a restored cloud draws another."""
    async with database.transaction() as connection:
        found = await connection.execute("SELECT name, value FROM facts WHERE name IN ('cloud_epoch', 'phone_epoch')")
        facts: dict[str, str] = dict(await found.fetchall())
        life = facts["cloud_epoch"]
        known, _, number = facts.get("phone_epoch", ":").rpartition(":")
        if known == life:
            return int(number)
        drawn = f"{life}:{drawn_epoch(is_station=False, but=int(number) if number else None)}"
        found = await connection.execute(
            "INSERT INTO facts AS f VALUES ('phone_epoch', %s) ON CONFLICT (name) DO UPDATE SET value = CASE"
            " WHEN starts_with(f.value, %s) THEN f.value ELSE excluded.value END RETURNING value",
            (drawn, f"{life}:"),
        )
        (value,) = (await found.fetchone()) or (drawn,)
        return int(value.rpartition(":")[2])


class Run:
    """One run of a job in the transaction of ``connection``."""

    def __init__(self, connection: Connection, now_ms: int = 0, *, is_careful: bool = True) -> None:
        self._connection = connection
        self._now_ms = now_ms
        self._is_careful = is_careful
        self._lines: list[Noted] = []
        self._new_fixes = 0
        #: of positions, which are looked up and then written
        self._keys: dict[LocalId, bytes] = {}

    async def of(self, job: Job[T]) -> T:
        """Run ``job`` and return its result."""
        answer: Any = None
        try:
            while True:
                answer = await self._do(job.send(answer))
        except StopIteration as ended:
            found: T = ended.value
            return found

    async def _do(self, wish: Wish) -> Any:
        if isinstance(wish, tuple):
            found = await self._connection.execute(_marked(wish[0]), list(wish[1]))
            return [] if found.description is None else await found.fetchall()
        match wish:
            case Records():
                return await self._records(wish)
            case Put(columns=columns, rows=rows):
                source = f"SELECT * FROM unnest({', '.join(['%s::text[]'] * len(columns))})"
                # in one order for everybody, so that two uploads of one device do not wait in a ring
                turned = [list(column) for column in zip(*sorted(rows), strict=True)]
                await self._connection.execute(wish.statement(source).encode(), turned)
            case Edit(operations):
                return await self._edit(operations)
            case AddFixes(columns):
                return await self._add(columns)
            case Mapped(keys):
                return await self._mapped(keys)
            case Map(became):
                await self._map(became)
            case Exclude(fix_id):
                lines = await FixWriter(self._connection, self._now_ms).set_by_hand(fix_id, is_excluded=True)
                self._lines += lines or []
            case Note(lines):
                self._lines += [Noted(entity, row_id, kind, origin) for entity, row_id, kind, origin in lines]
            case Numbered():
                last = await note(self._connection, self._lines, new_fixes=self._new_fixes)
                self._lines, self._new_fixes = [], 0
                return last
            case Lose():
                await self._lose(wish)
        return None

    async def _add(self, columns: Columns) -> list[AddedFix | RequestError]:
        """Store fixes; of one that the database itself refuses its neighbours hear nothing, where ``is_careful``."""
        answers: list[AddedFix | RequestError] = []

        async def take(places: Sequence[int]) -> None:
            some = columns if len(places) == len(columns["raw_ms"]) else picked(columns, places)
            added = await FixWriter(self._connection, self._now_ms).add_columns(some, is_heard=False)
            self._lines += added.lines
            self._new_fixes += added.new
            for place, identity, outcome in zip(places, added.ids, added.outcomes, strict=True):
                answers[place] = AddedFix(id=id_text(identity), outcome=outcome)

        def refuse(place: int, _code: str, detail: str) -> None:
            answers[place] = Invalid(detail)

        n = len(columns["raw_ms"])
        answers = [Invalid("it was not done")] * n
        if self._is_careful:
            await halving(self._connection, range(n), take, refuse)
        else:
            await take(range(n))
        return answers

    async def _mapped(self, keys: Sequence[LocalId]) -> dict[LocalId, tuple[str, str]]:
        found: dict[LocalId, tuple[str, str]] = {}
        positions = {_key(key): key for key in keys if key[1] == TRACKING}
        self._keys |= {key: made for made, key in positions.items()}
        if positions:
            cursor = self._connection.cursor(binary=True)
            await cursor.execute(
                "SELECT key, fix_id, said FROM phone_fixes WHERE key = ANY(%s)", (UuidArray(list(positions)),)
            )
            for key, fix_id, said in await cursor.fetchall():
                found[positions[key.bytes]] = (str(fix_id), f"{said & _64_BITS:016x}")
        others = [key for key in keys if key[1] != TRACKING]
        if others:
            rows = await self._connection.execute(
                _MAPPED, [texts_array(column) for column in zip(*others, strict=True)]
            )
            found |= {
                (device, table, local): (server, said) for device, table, local, server, said in await rows.fetchall()
            }
        return found

    async def _map(self, became: Mapping[LocalId, tuple[str, str]]) -> None:
        """Write what local ids became, in one order for everybody: two uploads of one device do not wait in a ring."""
        positions = sorted(
            (self._keys.get(key) or _key(key), server_id, said[:16]) for key, (server_id, said) in became.items()
            if key[1] == TRACKING
        )  # fmt: skip
        if positions:
            keys, server_ids, said = zip(*positions, strict=True)
            fix_ids = bytes.fromhex("".join(server_ids).replace("-", ""))
            await self._connection.execute(
                _MAP_FIXES, (UuidArray(keys), UuidArray(_cut(fix_ids, 16)), BigintArray(_cut(_bits(said), 8)))
            )
        others = sorted((*key, *known) for key, known in became.items() if key[1] != TRACKING)
        if others:
            await self._connection.execute(_MAP, [texts_array(column) for column in zip(*others, strict=True)])

    async def _records(self, wish: Records) -> list[Any]:
        entity = ENTITIES[wish.entity]
        statement, values = selecting(entity, *wish.more), list(wish.values)
        if wish.source is not None:
            statement = wish.source.sql + statement.replace(f"FROM {entity.table} r", "FROM reduced r")
            values = [*wish.source.values, *values]
        found = await self._connection.execute(_marked(f"{statement} WHERE {wish.condition} {wish.tail}"), values)
        n = len(wish.more)
        return [(record_of(entity, row), row[len(row) - n :]) for row in await found.fetchall()]

    async def _edit(self, operations: Sequence[Operation]) -> list[Effects | RequestError]:
        """Do each operation that can be done; what the database itself refuses is found by halving."""
        answers: list[Effects | RequestError] = [Invalid("it was not done")] * len(operations)

        async def take(places: Sequence[int]) -> None:
            rows = await load(self._connection, wanted(operations[place] for place in places))
            decided: list[tuple[Operation, Effects]] = []
            given: dict[int, Effects | RequestError] = {}
            for place in places:
                try:
                    effects = decide(operations[place], rows)
                except RequestError as error:
                    given[place] = error
                else:
                    rows.take(effects)
                    decided.append((operations[place], effects))
                    given[place] = effects
            lines, n = await apply(self._connection, decided, self._now_ms)
            self._lines += lines
            self._new_fixes += n
            for place, answer in given.items():
                answers[place] = answer

        def refuse(place: int, _code: str, detail: str) -> None:
            answers[place] = Invalid(detail)

        await halving(self._connection, range(len(operations)), take, refuse)
        return answers

    async def _lose(self, wish: Lose) -> None:
        effects = Effects(outcome="superseded", lost=wish.lost, kept=wish.kept)
        if (clash := clashes.of_loss(wish.operation, effects, self._now_ms)) is not None:
            await run(self._connection, clashes.note([clash]))


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _bits(hashed: Sequence[str]) -> bytes:
    """Return the first 64 bits of hashes, as PostgreSQL's bigint has them."""
    return bytes.fromhex("".join(hashed))


def _marked(statement: str) -> bytes:
    return statement.replace("?", "%s").encode()
