"""The world of ``tests.schedules`` made of the real things: SpatiaLite files, PostgreSQL, HTTP through a proxy."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import psycopg

from cloud.accounts.secret import make_secret
from cloud.app import running
from cloud.config import AccountsSection, Config, DatabaseSection
from cloud.store import records as cloud_records
from cloud.store.database import Database
from cloud.store.dump import begin_life
from cloud.store.scope import Scope
from cloud.store.stations import set_scope
from cloud.store.store import PostgresStore
from edge.ops.verify_cloud import verify_cloud
from edge.store import outbox
from edge.store import records as edge_records
from edge.store.driver import Connection, connect
from edge.store.store import SpatialiteStore
from edge.sync.client import CloudClient
from edge.sync.session import new_epoch, sync_once
from shared.domain import NewFix
from shared.errors import OutpostError, RequestError
from shared.ids import fix_id, id_text
from shared.privacy import OPERATOR, view_for
from shared.sync.operations import Operation
from shared.sync.records import ENTITIES, SCOPED, Entity, Record, to_ms
from shared.wire.link import DOWN, OWN
from shared.wire.signatures import new_key
from tests.clouds import ask
from tests.fakes import START, FakeClock
from tests.faults.http_proxy import HttpProxy, always_through
from tests.schedules import (
    COLLARS,
    STATIONS,
    Ahead,
    Backup,
    Clone,
    Copy,
    Fixes,
    Late,
    Limit,
    Make,
    PutBack,
    Restore,
    Rule,
    Script,
    Step,
    Talk,
)
from tests.services import Postgres

VIEW: Final = view_for(OPERATOR)
#: Long enough for an answer that comes, short enough to wait for one that does not.
_PATIENCE_S: Final = 0.75
_HEALING_ROUNDS: Final = 12
_FIXES_IN_BATCH: Final = 400
_RECORDS_IN_BATCH: Final = 5


class Post:
    """One station: its file, its name and key, and what was ever written to it."""

    def __init__(self, name: str, private_key: bytes, path: Path, clock: FakeClock, ever: set[str]) -> None:
        self.name = name
        self.private_key = private_key
        self.path = path
        self.ever = ever
        self._clock = clock
        self.store = SpatialiteStore(path, None, now=clock.now, readers=1)

    def copy(self, path: Path) -> tuple[Path, set[str]]:
        """Copy the card, as it stands, and return what was ever written to it."""
        source, target = (
            connect(self.path, None, is_spatial=False, is_readonly=True),
            connect(path, None, is_spatial=False),
        )
        try:
            source.backup(target)
        finally:
            source.close()
            target.close()
        return path, set(self.ever)

    async def put_back(self, path: Path, ever: set[str]) -> None:
        """Be what a copy is."""
        await self.store.close()
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        shutil.copy(path, self.path)
        self.ever = set(ever)
        self.store = SpatialiteStore(self.path, None, now=self._clock.now, readers=1)

    async def edit(self, operation: Operation) -> set[str]:
        """Do what a person edits, or tell him why not; return the ids of what waits for the cloud by it."""
        before = await self.store.read(_operations)
        try:
            await self.store.edit(operation)
        except RequestError:
            return set()
        made = await self.store.read(_operations) - before
        self.ever |= made
        return made

    async def hear(self, fixes: Fixes) -> set[str]:
        """Hear fixes of a collar and return their ids."""
        await self.store.add_fixes(VIEW, [_fix(fixes.collar, number) for number in range(fixes.first, fixes.end)])
        heard = {_id(fixes.collar, number) for number in range(fixes.first, fixes.end)}
        self.ever |= heard
        return heard

    async def post(self, operation: Operation) -> None:
        """Have an operation wait for the cloud that nobody here has looked at."""
        row = ("animal", 0, 0, "insert", msgspec.msgpack.encode(operation))
        await self.store.write(
            lambda db: db.execute(
                "INSERT INTO outbox (entity, first_pk, last_pk, operation, body) VALUES (?, ?, ?, ?, ?)", row
            )
        )
        self.ever.add(operation.id)


class Homes:
    """Stations and a cloud with a proxy between them; ``play`` lets a script happen, ``faults`` says what is wrong."""

    def __init__(self, postgres: Postgres, folder: Path, new_file: Path) -> None:
        self.postgres = postgres
        self.folder = folder
        self.clock = FakeClock()
        self.proxy = HttpProxy()
        self.posts: list[Post] = []
        self.made: set[str] = set()
        self.poison: set[str] = set()
        self.gone: set[str] = set()
        self.events: Counter[str] = Counter()
        self._new_file = new_file
        self._key_file = folder / "cloud.key"
        self._url = postgres.create()
        self._others: list[str] = []
        self._backups: list[str] = []
        self._copies: list[tuple[int, Path, set[str]]] = []
        self._numbers = iter(range(10**6))
        self._stack = AsyncExitStack()
        self._clones = 0

    async def open(self) -> None:
        """Start the cloud and the proxy, and enrol the stations."""
        make_secret(self._key_file)
        await self.proxy.start()
        await self._start_cloud()
        for number in range(STATIONS):
            name, (private_key, public_key) = f"post-{number}", new_key()
            self.ask(
                "INSERT INTO stations (id, name, public_key, enrolled_ms) VALUES (%s, %s, %s, 0)",
                name,
                name,
                public_key,
            )
            path = Path(shutil.copy(self._new_file, self.folder / f"{name}.db"))
            post = Post(name, private_key, path, self.clock, set())
            epoch = self.ask("SELECT value FROM facts WHERE name = 'cloud_epoch'")[0][0]
            await post.store.write(
                lambda db, post=post, epoch=epoch: outbox.enrol(  # type: ignore[misc] # of this turn
                    db, url=self.proxy.url, station_id=post.name, private_key=post.private_key, cloud_epoch=epoch,
                    epoch=new_epoch(), now_ms=to_ms(START),
                )
            )  # fmt: skip
            self.posts.append(post)

    async def close(self) -> None:
        """End everything, and remove its databases."""
        await self._stack.aclose()
        await self.proxy.close()
        for post in self.posts:
            await post.store.close()
        for url in (self._url, *self._others):
            self.postgres.drop(url)

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement of the cloud's database."""
        return ask(self._url, statement, *values)

    # --- a script

    async def play(self, script: Script, fixes: int) -> None:
        """Let all of ``script`` happen, hear more until there are so many ``fixes``, and have everybody talk."""
        for step in script:
            await self.happen(step)
        first = 100_000
        while (missing := fixes - len({it for it in self.made - self.gone if it.startswith("f-")})) > 0:
            post = self.posts[first % len(self.posts)]
            self.made |= await post.hear(Fixes(COLLARS[first % 4], first, first + min(missing, 500)))
            first += 1_001
        await self.heal()

    async def happen(self, step: Step) -> None:
        """Let one step happen; what it needs and is not there lets it pass."""
        match step:
            case Make(place, edits, fixes, poison):
                post = self.posts[place % len(self.posts)]
                for edit in edits:
                    self.made |= await post.edit(edit)
                for heard in fixes:
                    self.made |= await post.hear(heard)
                for each in poison:
                    await post.post(each)
                    self.poison.add(each.id)
                    self.made.add(each.id)
            case Rule(edit):
                try:
                    await self._store.edit(edit)
                except RequestError:
                    pass
            case Talk(place):
                self.proxy.fates = step.fates()
                await self._talk(self.posts[place % len(self.posts)], _PATIENCE_S)
            case Late(which):
                if self.proxy.late:
                    self.events["late request"] += 1
                    await self.proxy.deliver(self.proxy.late.pop(int(which * len(self.proxy.late))))
            case Copy(place):
                place %= len(self.posts)
                copied = self.posts[place].copy(self.folder / f"copy-{next(self._numbers)}.db")
                self._copies.append((place, *copied))
            case PutBack(which):
                if self._copies:
                    await self._put_back(*self._copies[int(which * len(self._copies))])
            case Clone(which):
                if self._copies and self._clones < 2:
                    self._clone(*self._copies[int(which * len(self._copies))])
            case Backup():
                self._backups.append(await self._copy_of_cloud(self._url))
            case Restore(which):
                if self._backups:
                    self._backups = self._backups[: int(which * len(self._backups)) + 1]
                    await self._restore(self._backups[-1])
            case Limit(place, animals):
                self.events["another scope"] += 1
                known = {identity for (identity,) in self.ask("SELECT id FROM animals")}
                some = None if animals is None else sorted(known.intersection(animals))
                async with self._store.database.transaction() as connection:
                    await set_scope(connection, self.posts[place % STATIONS].name, Scope(animals=some))
            case Ahead():
                pass  # this program writes no later version than it reads

    async def heal(self) -> None:
        """The network is whole: late things arrive, then everybody talks until nothing waits."""
        self.events += Counter({str(fate): count for fate, count in self.proxy.happened.items()})
        self.proxy.fates = always_through()
        for request in self.proxy.late:
            await self.proxy.deliver(request)
        for _ in range(_HEALING_ROUNDS):
            for post in self.posts:
                error = await self._talk(post, 30.0)
                assert error is None, f"{post.name}: {error}"
            if not any([await self._waiting(post) for post in self.posts]):
                break
        for post in self.posts * 2:  # the last one's news down to all
            await self._talk(post, 30.0)

    # --- what came of it

    async def faults(self) -> list[str]:
        """Return what is wrong at the end; nothing is right."""
        there, found = self.there(), []
        ((rows, ids, counted),) = self.ask(
            "SELECT count(*), count(DISTINCT (collar_pk, raw_ms, lon_e7, lat_e7)),"
            " (SELECT value FROM counters WHERE name = 'fixes') FROM fixes"
        )
        if not rows == ids == counted:
            found.append(f"twice: {rows} rows of {ids} fixes, counted as {counted}")
        if lost := self.made - self.gone - there:
            found.append(f"lost: {len(lost)} of {len(self.made)}")
        if made_up := self._fixes() - self.made:
            found.append(f"invented: {len(made_up)} fixes")
        if vain := set().union(*(post.ever for post in self.posts)) - there:
            found.append(f"acknowledged in vain: {len(vain)}")
        refused = {
            identity for (identity,) in self.ask("SELECT id FROM applied_operations WHERE outcome = 'quarantined'")
        }
        if self.poison & there - refused:
            found.append("poison taken")
        if (kept := self.ask("SELECT count(*) FROM quarantine")[0][0]) < len(refused):
            found.append(f"{len(refused)} operations were set aside and {kept} kept")
        expected = self._state(_cloud_rows(self._url))
        for post in self.posts:
            if waiting := await self._waiting(post):
                found.append(f"{post.name}: stuck with {waiting}")
            if self._state(await post.store.read(_station_rows)) != self._in_scope(post, expected):
                found.append(f"{post.name}: diverged")
            async with self._client(post, 30.0) as client:
                compared = await verify_cloud(post.store, client)
            if compared.differences or compared.doubled:
                found.append(f"{post.name}: {compared}")
        return found

    def _in_scope(
        self, post: Post, rows: dict[tuple[str, str], dict[str, Any]]
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """Return what of the cloud's records a station is told of."""
        made = "SELECT entity, row_id FROM changes WHERE kind = 'insert' AND entity <> 'fix' AND origin = %s"
        own = set(self.ask(made, post.name))
        rows = {key: columns for key, columns in rows.items() if key[0] not in OWN or key in own}
        limited = "SELECT scope_animals IS NOT NULL FROM stations WHERE id = %s"
        if not self.ask(limited, post.name)[0][0]:
            return rows
        has = set(self.ask("SELECT entity, row_id FROM station_rows WHERE station_id = %s", post.name))
        return {key: columns for key, columns in rows.items() if key[0] not in SCOPED or key in has}

    def there(self) -> set[str]:
        """Return the ids of all that the cloud has taken."""
        return self._fixes() | {identity for (identity,) in self.ask("SELECT id FROM applied_operations")}

    def _fixes(self) -> set[str]:
        return {identity for (identity,) in self.ask("SELECT 'f-' || id::text FROM fixes")}

    @staticmethod
    def _state(rows: Sequence[Record]) -> dict[tuple[str, str], dict[str, Any]]:
        return {(row.entity, row.id): dict(row.columns) for row in rows if not row.is_deleted}

    async def _waiting(self, post: Post) -> int:
        backlog = await post.store.read(outbox.backlog)
        return sum(waiting.items for waiting in backlog.channels.values())

    # --- the cloud's and the stations' fortunes

    async def _talk(self, post: Post, patience_s: float) -> OutpostError | None:
        async with self._client(post, patience_s) as client:
            try:
                await sync_once(
                    post.store, client, self.clock, batch_fixes=_FIXES_IN_BATCH, batch_records=_RECORDS_IN_BATCH
                )
            except OutpostError as error:
                return error
        return None

    def _client(self, post: Post, patience_s: float) -> CloudClient:
        client = CloudClient(self.proxy.url, post.name, post.private_key, now=self.clock.now)
        client._http.timeout = httpx.Timeout(patience_s)
        return client

    async def _put_back(self, place: int, path: Path, ever: set[str]) -> None:
        self.events["station put back"] += 1
        before = self._owned()
        await self.posts[place].put_back(path, ever)
        self.gone |= before - self._owned() - self.there()

    def _clone(self, place: int, path: Path, ever: set[str]) -> None:
        self.events["card cloned"] += 1
        self._clones += 1
        of = self.posts[place]
        copy = Path(shutil.copy(path, self.folder / f"clone-{self._clones}.db"))
        self.posts.append(Post(of.name, of.private_key, copy, self.clock, set(ever)))

    async def _copy_of_cloud(self, url: str) -> str:
        """Copy a database of the cloud; nobody may be connected to it meanwhile."""
        await self._stack.aclose()
        made = self.postgres.copy(url)
        self._others.append(made)
        await self._start_cloud()
        return made

    async def _restore(self, backup: str) -> None:
        self.events["cloud restored"] += 1
        had = self.there()
        await self._stack.aclose()
        self._others.append(self._url)
        self._url = self.postgres.copy(backup)
        self.clock.tick(60)
        with psycopg.connect(self._url) as connection:
            begin_life(connection, new_epoch(), to_ms(self.clock.now()))
        await self._start_cloud()
        self.gone |= had - self.there() - self._owned()

    async def _start_cloud(self) -> None:
        config = Config(
            database=DatabaseSection(url=self._url, pool_min=1, pool_max=4),
            accounts=AccountsSection(key_file=self._key_file),
        )
        self._stack = AsyncExitStack()
        url, _ = await self._stack.enter_async_context(running(config, clock=self.clock, port=0))
        database = await self._stack.enter_async_context(Database.open(self._url, pool_min=1, pool_max=2))
        self._store = PostgresStore(database, now=self.clock.now)
        self.proxy.upstream = int(url.rpartition(":")[2])

    def _owned(self) -> set[str]:
        return set().union(*(post.ever for post in self.posts))


def _fix(collar: str, number: int) -> NewFix:
    at = START + timedelta(minutes=number)
    return NewFix(
        device=collar, recorded_at=at, received_at=at, lon_deg=37.0 + COLLARS.index(collar),
        lat_deg=-2.0 - number / 1e5, battery_mv=3_600 - number % 7,
    )  # fmt: skip


def _id(collar: str, number: int) -> str:
    fix = _fix(collar, number)
    assert fix.lon_deg is not None
    assert fix.lat_deg is not None
    raw = fix_id(collar, to_ms(fix.recorded_at), round(fix.lon_deg * 1e7), round(fix.lat_deg * 1e7))
    return f"f-{id_text(raw)}"


def _operations(db: Connection) -> set[str]:
    """Return the ids of the edits that wait in the outbox."""
    return {
        msgspec.msgpack.decode(body, type=Operation).id
        for (body,) in db.execute("SELECT body FROM outbox WHERE body IS NOT NULL AND operation <> 'flag'")
    }


def _shown() -> list[Entity]:
    return [ENTITIES[name] for name in DOWN]


def _station_rows(db: Connection) -> list[Record]:
    return [
        edge_records.record_of(entity, row)
        for entity in _shown()
        for row in db.execute(edge_records.selecting(entity)).fetchall()
    ]


def _cloud_rows(url: str) -> list[Record]:
    return [
        cloud_records.record_of(entity, row) for entity in _shown() for row in ask(url, cloud_records.selecting(entity))
    ]
