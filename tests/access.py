"""Accounts for tests: over any store, and clients that are logged in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import httpx
from litestar import Litestar

from cloud.accounts.rosters import Rosters
from cloud.store.accounts import PostgresTables
from cloud.store.store import PostgresStore
from edge.store.accounts import SqliteTables, secret_of
from edge.store.store import SpatialiteStore
from shared.accounts import sessions, users
from shared.accounts.fields import FieldKeys
from shared.accounts.moments import Moment, moments_of, sure_ms
from shared.accounts.passwords import Hasher
from shared.accounts.sealing import derived
from shared.accounts.service import Accounts, Messenger, Tables
from shared.accounts.tokens import Signer
from shared.accounts.users import Job, User
from shared.clock import Clock
from shared.configuration import boot_id
from shared.errors import Conflict
from shared.privacy import OPERATOR, Role
from shared.store import Store

T = TypeVar("T")

SECRET = bytes(range(100, 132))
BOOT = "one boot"


class MemoryTables:
    """Implements ``Tables`` over a database in memory, with the tables of the station's own migration."""

    def __init__(self) -> None:
        self.fields = FieldKeys(SECRET)
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute("CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)")
        for script in sorted((Path(str(resources.files("edge.store"))) / "migrations").glob("*.sql")):
            if script.stem.endswith(
                (
                    "_accounts",
                    "_sync_log",
                    "_blobs",
                    "_conflicts",
                    "_session_use",
                    "_models",
                    "_photos",
                    "_devices",
                    "_bytes_carried",
                )
            ):
                self._db.executescript(script.read_text(encoding="utf-8"))
        self._db.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)")

    async def read(self, job: Job[T]) -> T:
        """Run a job."""
        return self._run(job)

    async def write(self, job: Job[T]) -> T:
        """Run a job in a transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            found = self._run(job)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return found

    def _run(self, job: Job[T]) -> T:
        rows: list[tuple[Any, ...]] | None = None
        try:
            while True:
                statement, values = next(job) if rows is None else job.send(rows)
                if (rows := self.fields.answer(statement, values)) is not None:
                    continue
                try:
                    rows = self._db.execute(statement, list(values)).fetchall()
                except sqlite3.IntegrityError as error:
                    raise Conflict("taken") from error
        except StopIteration as ended:
            found: T = ended.value
            return found


def tables_of(store: Store | None) -> Tables:
    """Return where the accounts of a store's home lie."""
    if isinstance(store, SpatialiteStore):
        return SqliteTables(store)
    if isinstance(store, PostgresStore):
        return PostgresTables(store.database)
    return MemoryTables()


def accounts_over(
    store: Store | None, clock: Clock, *, boot: Callable[[], str] = lambda: BOOT, messenger: Messenger | None = None
) -> Accounts:
    """Return the accounts of the home that ``store`` is of."""

    def moments() -> Moment:
        return moments_of(clock, boot())()

    tables = tables_of(store)
    fields = store.fields if isinstance(store, SpatialiteStore) else FieldKeys(SECRET)
    if isinstance(store, PostgresStore):
        store.database.fields = fields
    return Accounts(
        tables,
        home="cloud" if isinstance(store, PostgresStore) else "station",
        name="test",
        secret=SECRET,
        moments=moments,
        now_ms=lambda: sure_ms(clock),
        messenger=messenger,
        hasher=Hasher(),
        fields=fields,
    )


def rosters_over(store: PostgresStore, accounts: Accounts) -> Rosters:
    """Return what makes the rosters of a cloud."""
    return Rosters(store.database, accounts, SECRET)


class TokenAuth(httpx.Auth):
    """Sends a token with every request; ``token`` is asked each time."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token, unless the test has sent one of its own."""
        if "authorization" not in request.headers:
            request.headers["Authorization"] = f"Bearer {self._token()}"
        yield request


def operator_of(app: Litestar) -> TokenAuth:
    """Return what makes a client of ``app`` its operator."""
    accounts: Accounts = app.state["accounts"]
    return TokenAuth(accounts.machine_token)


def operator_of_station(database: Path, key: bytes | None, station_id: str) -> TokenAuth:
    """Return what makes a client the operator of a station that runs over ``database``; it looks there once."""
    secrets: list[bytes] = []

    def token() -> str:
        if not secrets:
            secrets.append(secret_of(database, key)[0])
        return _token(secrets[0], f"outpost-station:{station_id}")

    return TokenAuth(token)


def operator_of_cloud(key_file: Path) -> TokenAuth:
    """Return what makes a client the operator of a cloud whose secret lies in ``key_file``."""
    return TokenAuth(lambda: _token(bytes.fromhex(key_file.read_text().strip()), "outpost-cloud:outpost"))


def _token(secret: bytes, home: str) -> str:
    from edge.ops.system_clock import system_clock

    now = moments_of(system_clock(), boot_id())()
    return Signer(derived(secret, "tokens"), home).access_token(OPERATOR.user_id, "", now)


async def person(
    accounts: Accounts, role: Role, *, stations: tuple[str, ...] = (users.ALL_STATIONS,), name: str = ""
) -> User:
    """Enter an account without a password, as nothing but a role."""
    now = accounts.moments()
    label = name or role
    made = users.new_user(email=f"{label}@example.org", name=label, role=role, now_ms=now.ms, stations=stations)

    def job() -> Job[User]:
        known = yield from users.find_by_email(made.email)
        return known or (yield from users.insert(made))

    return await accounts.tables.write(job())


async def logged_in(
    accounts: Accounts, user: User, *, is_fresh: bool = True, device_id: str | None = None
) -> tuple[str, str]:
    """Return access and refresh token of a session of ``user``; with ``is_fresh`` a factor was just shown."""
    now = accounts.moments()
    tokens = await accounts.tables.write(
        sessions.begin(user, now, device_id=device_id, factor=now if is_fresh else None)
    )
    return accounts.signer.access_token(user.id, tokens.session_id, now), tokens.refresh
