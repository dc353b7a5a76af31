"""Numbered SQL migrations with ``PRAGMA user_version``: each runs whole or not at all, a newer database is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

from edge.store.driver import Connection, sqlite, transaction
from shared.errors import SchemaTooNew, StoreError

_NAME = re.compile(r"(\d{4})_\w+\.sql")


def migrations() -> list[tuple[int, str]]:
    """Return (version, SQL) of every migration shipped, in order."""
    folder = resources.files("edge.store") / "migrations"
    found = sorted(
        (int(match[1]), entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if (match := _NAME.fullmatch(entry.name)) is not None
    )
    if [version for version, _ in found] != list(range(1, len(found) + 1)):
        raise StoreError("migrations are not numbered without a gap")
    return found


def statements(script: str) -> Iterator[str]:
    """Split a script at the semicolons that end a statement."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite.complete_statement(pending):
            if pending.strip():
                yield pending
            pending = ""
    if pending.strip() and not all(line.startswith("--") for line in pending.strip().splitlines()):
        raise StoreError(f"a migration ends in the middle of a statement: {pending.strip()[:60]!r}")


def schema_version(connection: Connection) -> int:
    """Return the version the database stands at; 0 for a new file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: Connection) -> int:
    """Bring the database to the newest schema and return the version; raises SchemaTooNew and touches nothing."""
    known = migrations()
    version = schema_version(connection)
    if version > len(known):
        raise SchemaTooNew(version, len(known))
    if version == 0 and not _has_spatial_metadata(connection):
        # in autocommit: inside a transaction it fails without raising
        (outcome,) = connection.execute("SELECT InitSpatialMetaDataFull(1)").fetchone()
        if outcome != 1:
            raise StoreError("SpatiaLite could not set up its metadata")
    for number, script in known[version:]:
        with transaction(connection):
            for statement in statements(script):
                row = connection.execute(statement).fetchone()
                if row is not None and row[0] != 1:
                    raise StoreError(f"migration {number} refused by SpatiaLite: {statement.strip()[:80]}")
            connection.execute(f"PRAGMA user_version = {number}")
    return len(known)


def _has_spatial_metadata(connection: Connection) -> bool:
    row = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'spatial_ref_sys'").fetchone()
    return row is not None
