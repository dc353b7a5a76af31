"""The station's accounts, in its encrypted file: runs the jobs of ``shared.accounts`` on the store's connections."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from edge.store.driver import connect, transaction, translated
from edge.store.home_secret import home_secret, kept_secret
from edge.store.jobs import run
from edge.store.migrate import migrate, migrations, schema_version
from edge.store.store import SpatialiteStore
from edge.store.upgrading import prepare
from shared.accounts import rotation
from shared.accounts.users import Job

T = TypeVar("T")


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


def secret_of(path: Path, key: bytes | None) -> tuple[bytes, str]:
    """Return a station's secret and which key signs its tokens, for a command beside the running station."""
    reader = connect(path, key, is_spatial=False, is_readonly=True)
    try:
        with translated(path):
            if schema_version(reader) == len(migrations()):
                kept = run(reader, kept_secret())
                if kept is not None:
                    return kept, run(reader, rotation.tokens_in_use()).current
    finally:
        reader.close()
    prepare(path, key)
    db = connect(path, key)
    try:
        with translated(path):
            migrate(db)
            with transaction(db):
                return run(db, home_secret()), run(db, rotation.tokens_in_use()).current
    finally:
        db.close()
