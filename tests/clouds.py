"""A cloud for tests to talk to: an emptied database, its HTTP interface, stations that sign and chain their batches."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import msgspec
import psycopg
from litestar import Litestar

from cloud.api.app import create_app
from cloud.jobs.kinds import Kinds
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from shared.accounts.service import Accounts
from shared.privacy import OPERATOR, view_for
from shared.sync.operations import Operation
from shared.sync.records import Record, to_ms
from shared.sync.streams import GENESIS, Batch, Head, Receipt, StreamAnswer
from shared.wire.batch import FIX_COLUMNS, FixColumns, decode_fixes, decode_records, encode_fixes, encode_records
from shared.wire.link import BATCH, HASH, PREVIOUS, Changes, FixPage
from shared.wire.signatures import new_key, sign
from tests.access import accounts_over, operator_of, rosters_over
from tests.fakes import START, FakeClock

VIEW = view_for(OPERATOR)
EPOCH = "0123456789abcdef"
START_MS = to_ms(START)
#: Of those that hang on others first.
_TABLES = (
    "destinations",
    "jobs", "procrastinate_jobs", "procrastinate_workers", "undecoded", "frames", "cursors", "station_collars",
    "receipts", "streams",
    "blob_copies", "blob_parts", "blobs", "models", "model_choices", "sync_items", "sync_log", "conflicts",
    "undecoded", "frames", "cursors", "station_collars", "receipts", "streams",
    "station_audit", "station_frames", "station_results", "station_steps", "station_maps", "station_map_tiles",
    "station_rows", "scope_changes", "enrolment_codes", "sticks", "stations", "applied_operations", "quarantine",
    "lost_edits", "fix_ladder", "fixes", "changes", "deployments", "collar_aliases", "collars", "observations",
    "zones", "corridors", "predictions", "patrols", "phone_ids", "phone_fixes", "phone_rulings",
    "uploads", "alerts", "ranger_positions", "patrol_logs", "patrol_routes", "rangers", "teams",
    "phone_codes", "phones",
    "animals", "users", "sessions", "refresh_tokens", "challenges", "attempts", "api_keys", "audit",
)  # fmt: skip
_WIPE = "; ".join(
    [
        *(f"DELETE FROM {table}" for table in _TABLES),
        "UPDATE counters SET value = 0",
        "DELETE FROM facts WHERE name NOT IN ('cloud_epoch', 'queue_schema')",
    ]
)


def ask(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of one statement, or nothing where it has none; what it writes is committed."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description is not None else []


def wipe(url: str) -> None:
    """Empty the database; partitions stay, and so does its epoch."""
    ask(url, _WIPE)


class Cloud:
    """The cloud's application over a database, with a clock that a test sets."""

    def __init__(
        self, url: str, database: Database, client: httpx.AsyncClient, clock: FakeClock, app: Litestar | None = None
    ) -> None:
        self.url = url
        self._app = app
        self.database = database
        self.client = client
        self.clock = clock
        self.store = PostgresStore(database, now=clock.now)

    @property
    def app(self) -> Litestar:
        """Its application."""
        assert self._app is not None
        return self._app

    @property
    def accounts(self) -> Accounts:
        """Its accounts."""
        found: Accounts = self.app.state["accounts"]
        return found

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of one statement."""
        return ask(self.url, statement, *values)

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return int(self.ask(f"SELECT count(*) FROM {table}")[0][0])

    def station(self, identity: str = "post-1", *, epoch: str = EPOCH) -> Station:
        """Return a station that the cloud knows already."""
        seed, public = new_key()
        self.ask(
            "INSERT INTO stations (id, name, public_key, enrolled_ms) VALUES (%s, %s, %s, 0) ON CONFLICT (id) DO UPDATE"
            " SET public_key = excluded.public_key",
            identity, identity, public,
        )  # fmt: skip
        return Station(self.client, identity, seed, epoch)


@contextlib.asynccontextmanager
async def serving(url: str, *, pool_max: int = 4, kinds: Kinds | None = None) -> AsyncIterator[Cloud]:
    """Give the cloud's application over the database of ``url``."""
    clock = FakeClock()
    async with Database.open(url, pool_min=1, pool_max=pool_max) as database:
        store = PostgresStore(database, now=clock.now)
        accounts = accounts_over(store, clock)
        app = create_app(store, clock=clock, accounts=accounts, rosters=rosters_over(store, accounts), kinds=kinds)
        transport = httpx.ASGITransport(cast("Any", app))
        async with httpx.AsyncClient(transport=transport, base_url="http://cloud", auth=operator_of(app)) as client:
            yield Cloud(url, database, client, clock, app)


class Station:
    """What a station says over HTTP; ``heads`` are those that it was told of."""

    def __init__(self, client: httpx.AsyncClient, identity: str, seed: bytes, epoch: str) -> None:
        self.id = identity
        self.epoch = epoch
        self.path = f"/api/v1/stations/{identity}"
        self.heads: dict[tuple[str, str], Head] = {}
        self._client = client
        self._seed = seed

    async def send(
        self, method: str, path: str, query: str = "", body: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send a signed request; ``path`` follows the station's own."""
        whole = self.path + path
        signed = sign(self._seed, self.id, method, whole, query, body)
        url = f"{whole}?{query}" if query else whole
        return await self._client.request(method, url, content=body, headers={**signed, **(headers or {})})

    def batch(self, channel: str, payload: bytes) -> Batch:
        """Return the next batch of a stream."""
        head = self.heads.get((self.epoch, channel), GENESIS)
        return Batch(self.epoch, channel, head.n + 1, head.hash, payload)

    async def put(self, batch: Batch, *, hash: bytes | None = None, body: bytes | None = None) -> httpx.Response:  # noqa: A002  the header's word
        """Bring a batch; ``hash`` and ``body`` are what is claimed and sent in the place of its own."""
        return await self.send(
            "PUT",
            f"/streams/{batch.epoch}/{batch.channel}/batches/{batch.n}",
            body=batch.payload if body is None else body,
            headers={
                PREVIOUS: batch.prev_hash.hex(), HASH: (hash or batch.hash).hex(), "Content-Type": BATCH,
            },
        )  # fmt: skip

    async def bring(self, channel: str, payload: bytes) -> Receipt:
        """Bring the next batch of a stream, which must be applied."""
        batch = self.batch(channel, payload)
        answer = await self.put(batch)
        assert answer.status_code == 200, answer.content
        self.heads[self.epoch, channel] = batch.head
        receipt = msgspec.msgpack.decode(answer.content, type=Receipt)
        assert (receipt.n, receipt.hash) == (batch.n, batch.hash)
        return receipt

    async def bring_fixes(self, *rows: dict[str, Any]) -> Receipt:
        """Bring fixes as a batch."""
        return await self.bring("fixes", encode_fixes(columns_of(rows)))

    async def bring_operations(self, *operations: Operation) -> Receipt:
        """Bring operations as a batch."""
        return await self.bring("records", encode_records(operations))

    async def changes(self, since: int = 0, *, limit: int | None = None, epoch: str | None = None) -> Changes:
        """Read a page of changes."""
        query = f"since={since}" + ("" if limit is None else f"&limit={limit}") + (f"&epoch={epoch}" if epoch else "")
        answer = await self.send("GET", "/changes", query)
        assert answer.status_code == 200, answer.text
        return msgspec.msgpack.decode(answer.content, type=Changes)

    async def all_changes(self, *, limit: int) -> list[Record]:
        """Read every change, page after page."""
        found: list[Record] = []
        page = await self.changes(limit=limit)
        while True:
            found += decode_records(page.batch, Record)
            if not page.is_more:
                return found
            page = await self.changes(page.next, limit=limit, epoch=page.epoch)

    async def fixes(self, collar_id: str, *, limit: int = 5_000) -> list[dict[str, Any]]:
        """Read every fix of a collar, page after page."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            answer = await self.send("GET", "/fixes", f"collar_id={collar_id}&limit={limit}{after}")
            assert answer.status_code == 200, answer.text
            page = msgspec.msgpack.decode(answer.content, type=FixPage)
            found += rows_of(decode_fixes(page.batch))
            if page.last is None:
                return found
            after = f"&after={page.last}"


def refusal(answer: httpx.Response) -> StreamAnswer:
    """Return what a 409 says."""
    assert answer.status_code == 409, answer.content
    return msgspec.msgpack.decode(answer.content, type=StreamAnswer)


def fix_row(minutes: float = 0, collar_id: str = "K1", **columns: Any) -> dict[str, Any]:
    """Return a fix as a batch holds it, received as it was recorded."""
    ms = START_MS + round(minutes * 60_000)
    return {
        "collar_id": collar_id, "raw_ms": ms, "received_ms": ms, "sure_received_ms": ms, "lon_e7": 375_000_000,
        "lat_e7": -25_000_000, **columns,
    }  # fmt: skip


def columns_of(rows: Any) -> FixColumns:
    """Return rows as columns."""
    return {column.name: [row.get(column.name, column.default) for row in rows] for column in FIX_COLUMNS}


def rows_of(columns: FixColumns) -> list[dict[str, Any]]:
    """Return columns as rows."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def operation(entity: Any, row_id: str, columns: dict[str, Any] | None = None, **fields: Any) -> Operation:
    """Return an operation of a person at a station, an insert unless told otherwise."""
    said: dict[str, Any] = {
        "id": f"op-{entity}-{row_id}", "entity": entity, "row_id": row_id, "kind": "insert", "made_ms": START_MS,
        "columns": columns or {}, "author": "warden",
    }  # fmt: skip
    return Operation(**{**said, **fields})


def alpha(**fields: Any) -> Operation:
    """Return the operation that enters an animal."""
    return operation("animal", "a1", {"name": "Alpha", "species": "elephant"}, **fields)


def noise(seed: int) -> str:
    """Return a long text that no compression makes small."""
    return "".join(map(chr, random.Random(seed).choices(range(33, 900), k=9_000)))
