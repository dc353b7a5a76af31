"""The station's accounts, in its encrypted file: runs the jobs of ``shared.accounts`` on the store's connections."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Final, TypeVar

from edge.store.driver import Connection, connect, transaction, translated
from edge.store.migrate import migrate, migrations, schema_version
from edge.store.snapshot import before_migration
from edge.store.store import SpatialiteStore
from shared.accounts.facts import fact, set_fact
from shared.accounts.sealing import SECRET_BYTES
from shared.accounts.users import Job
from shared.errors import Conflict

T = TypeVar("T")

_SECRET: Final = "accounts.secret"  # noqa: S105  # the name of a fact
#: What SQLite says of a value that is there already.
_TAKEN: Final = "UNIQUE constraint failed"


def run(db: Connection, job: Job[T]) -> T:
    """Run a job inside the transaction of ``db``."""
    rows: list[tuple[Any, ...]] | None = None
    try:
        while True:
            statement, values = next(job) if rows is None else job.send(rows)
            try:
                rows = db.execute(statement, list(values)).fetchall()
            except Exception as error:
                if _TAKEN in str(error):
                    raise Conflict("somebody else did the same at this moment: try again") from error
                raise
    except StopIteration as ended:
        found: T = ended.value
        return found


class SqliteTables:
    """Implements ``shared.accounts.service.Tables`` over the station's store."""

    def __init__(self, store: SpatialiteStore) -> None:
        self._store = store

    async def read(self, job: Job[T]) -> T:
        """Run a job that only reads."""
        return await self._store.read(lambda db: run(db, job))

    async def write(self, job: Job[T]) -> T:
        """Run a job in one transaction."""
        return await self._store.write(lambda db: run(db, job))


def kept_secret() -> Job[bytes | None]:
    """Return the station's secret; None before it was made."""
    kept = yield from fact(_SECRET)
    return None if kept is None else bytes.fromhex(kept)


def home_secret() -> Job[bytes]:
    """Return the station's secret, made once: what signs its tokens and seals its seeds follows from it."""
    kept = yield from kept_secret()
    if kept is None:
        kept = secrets.token_bytes(SECRET_BYTES)
        yield from set_fact(_SECRET, kept.hex())
    return kept


def secret_of(path: Path, key: bytes | None) -> bytes:
    """Return the secret of the station whose database this is, for a command beside the running station."""
    reader = connect(path, key, is_spatial=False, is_readonly=True)
    try:
        with translated(path):
            if schema_version(reader) == len(migrations()):
                kept = run(reader, kept_secret())
                if kept is not None:
                    return kept
    finally:
        reader.close()
    before_migration(path, key)
    db = connect(path, key)
    try:
        with translated(path):
            migrate(db)
            with transaction(db):
                return run(db, home_secret())
    finally:
        db.close()
