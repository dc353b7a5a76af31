"""The station's accounts, in its encrypted file: runs the jobs of ``shared.accounts`` on the store's connections."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final, TypeVar

from edge.store.driver import connect, transaction, translated
from edge.store.jobs import run
from edge.store.migrate import migrate, migrations, schema_version
from edge.store.snapshot import before_migration
from edge.store.store import SpatialiteStore
from shared.accounts.facts import fact, set_fact
from shared.accounts.sealing import SECRET_BYTES
from shared.accounts.users import Job

T = TypeVar("T")

_SECRET: Final = "accounts.secret"  # noqa: S105  # the name of a fact


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
