"""Numbered migrations in SQL, run by alembic: each whole or not at all, a newer database is refused.

``migrations/NNNN_name.sql`` holds the statements and ``NNNN_name.py`` beside it tells alembic its number. There is no
way down: a backup is. One process migrates at a time. The lock is held by a transaction of its own connection, because
each migration ends the transaction it runs in and a pooler may give every transaction another session.

This is the one module that imports SQLAlchemy, which comes with alembic and does nothing else here.

The tables of the job queue are procrastinate's, made by the SQL that the installed library brings. How far that went is
in ``facts``: a later release's changes are run after ours, each once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import psycopg
from alembic import op
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from psycopg import errors
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from cloud.store.database import OLDEST_SERVER, described, parameters, translated
from shared.errors import SchemaTooNew, StoreError

__all__ = ["known_versions", "migrate", "run_queue_schema", "run_sql", "schema_version"]

APPLICATION: Final = "outpost-cloud migrate"
#: Any number of ours; advisory locks are the database's own.
_LOCK: Final = 0x0075_7470_6F73_74
#: How far the tables of the job queue have come: the name of the library's last migration.
_QUEUE_FACT: Final = "queue_schema"


def migrate(url: str, *, wait_s: float = 600.0, folder: Path | None = None) -> str:
    """Bring the database to the newest schema and return its version, ``"0001"``.

    Waits up to ``wait_s`` for another process that migrates. ``folder`` holds other migrations than the shipped ones.
    Raises SchemaTooNew and touches nothing, or StoreError; migrations that ended before an error stay.
    """
    where = described(url)
    with _scripts(folder) as scripts:
        with translated(where), _alone(url, where, wait_s):
            _refuse_newer(_heads(url), scripts, where)
            _add_postgis(url, where)
            with _connection(url) as connection:
                _upgrade(connection, scripts)
            _upgrade_queue(url)
        return scripts.get_current_head() or ""


def schema_version(url: str) -> str | None:
    """Return the version that the database stands at; None where nothing was ever migrated."""
    with translated(described(url)):
        heads = _heads(url)
    return max(heads, default=None)


def known_versions(folder: Path | None = None) -> list[str]:
    """Return the versions that this program can migrate to, oldest first."""
    with _scripts(folder) as scripts:
        return sorted(script.revision for script in scripts.walk_revisions())


def run_sql(revision_file: str) -> None:
    """Run the SQL file beside ``revision_file``, all of it in the migration's transaction; for a revision's upgrade."""
    file = Path(revision_file).with_suffix(".sql")
    script = file.read_text(encoding="utf-8")
    connection = op.get_bind().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    try:
        # without parameters the driver sends a script of many statements as it stands, percent signs and all
        connection.execute(script)
    except psycopg.Error as error:
        position = error.diag.statement_position
        line = "" if position is None else f", line {script.count(chr(10), 0, int(position) - 1) + 1}"
        said = (error.diag.message_primary or str(error)).strip()
        raise StoreError(f"migration {file.name}{line}: {said} ({error.sqlstate}); it left nothing behind") from error


def run_queue_schema() -> None:
    """Make the tables of the job queue; for a revision's upgrade."""
    connection = op.get_bind().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    connection.execute((_queue_sql() / "schema.sql").read_text(encoding="utf-8").encode())
    _note_queue(connection, _queue_changes()[-1].name)


def _upgrade_queue(url: str) -> None:
    """Run what releases of procrastinate have changed since the tables were made."""
    with _connect(url) as connection:
        if connection.execute("SELECT to_regclass('facts')").fetchone() in (None, (None,)):
            return  # other migrations than the shipped ones
        found = connection.execute("SELECT value FROM facts WHERE name = %s", (_QUEUE_FACT,)).fetchone()
    if found is None:
        return
    for change in _queue_changes():
        if change.name > found[0]:
            with _connect(url) as connection:
                connection.execute(change.read_text(encoding="utf-8").encode())
                _note_queue(connection, change.name)


def _note_queue(connection: psycopg.Connection, name: str) -> None:
    connection.execute(
        "INSERT INTO facts (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (_QUEUE_FACT, name),
    )


def _queue_sql() -> Traversable:
    return resources.files("procrastinate") / "sql"


def _queue_changes() -> list[Traversable]:
    """Return the library's migrations in their order, which is that of their names."""
    found = [each for each in (_queue_sql() / "migrations").iterdir() if each.name.endswith(".sql")]
    return sorted(found, key=lambda each: each.name)


@contextlib.contextmanager
def _scripts(folder: Path | None) -> Iterator[ScriptDirectory]:
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(resources.as_file(resources.files("cloud.store") / "migrations"))
        yield ScriptDirectory(str(folder), version_locations=[str(folder)])


def _upgrade(connection: Connection, scripts: ScriptDirectory) -> None:
    # what alembic's `upgrade` does around an env.py, without files to configure it
    with EnvironmentContext(Config(), scripts, fn=lambda heads, _: scripts._upgrade_revs("head", heads)) as environment:
        environment.configure(connection=connection, transaction_per_migration=True)
        with environment.begin_transaction():  # each migration has its own; this one only says so
            environment.run_migrations()


@contextlib.contextmanager
def _connection(url: str) -> Iterator[Connection]:
    """Give SQLAlchemy's connection over ours: libpq's URL means what it means everywhere else."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: _connect(url), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _connect(url: str) -> psycopg.Connection:
    return psycopg.connect(**parameters(url, APPLICATION), prepare_threshold=None)


@contextlib.contextmanager
def _alone(url: str, where: str, wait_s: float) -> Iterator[None]:
    """Hold the lock of migrations while the block runs."""
    with _connect(url) as connection:
        if connection.info.server_version < OLDEST_SERVER:
            raise StoreError(
                f"{where}: PostgreSQL {connection.info.server_version // 10_000} is too old: "
                f"at least {OLDEST_SERVER // 10_000}"
            )
        connection.execute(
            "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', '0', true),"
            " set_config('idle_in_transaction_session_timeout', '0', true)",
            (f"{round(wait_s * 1000)}ms",),
        )
        try:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        except errors.LockNotAvailable as error:
            raise StoreError(
                f"{where}: another process has been migrating for {wait_s:.0f} s; wait for it, or end it"
            ) from error
        yield


def _heads(url: str) -> tuple[str, ...]:
    with _connection(url) as connection:
        return MigrationContext.configure(connection).get_current_heads()


def _refuse_newer(heads: tuple[str, ...], scripts: ScriptDirectory, where: str) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    for head in heads:
        if head in known:
            continue
        if not head.isdecimal():
            raise StoreError(f"{where}: its schema is {head!r}, which is another program's")
        raise SchemaTooNew(int(head), max((int(version) for version in known), default=0))


def _add_postgis(url: str, where: str) -> None:
    with _connect(url) as connection:
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS postgis")
        except errors.InsufficientPrivilege as error:
            raise StoreError(
                f"{where}: this user may not add PostGIS; run `CREATE EXTENSION postgis` in this database as a "
                "superuser, or switch the extension on where your provider offers it, and migrate again"
            ) from error
        except (errors.FeatureNotSupported, errors.UndefinedFile) as error:
            major = connection.info.server_version // 10_000
            raise StoreError(
                f"{where}: the server has no PostGIS; on Debian install postgresql-{major}-postgis-3 there"
            ) from error
