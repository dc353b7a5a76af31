"""A read-only SQL session with the key and SpatiaLite, for an operator on the box itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from edge.store.driver import Connection, connect, sqlite, translated
from shared.errors import StoreError

MAX_ROWS: Final = 1_000
#: Pragmas that take an argument and change nothing.
_QUESTIONS: Final = frozenset({
    "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list",
    "foreign_key_check", "integrity_check", "quick_check",
})  # fmt: skip


class Shell:
    """Runs one statement at a time; writing, and any way to allow it, is refused by SQLite itself."""

    def __init__(self, connection: Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        connection.set_authorizer(_permission)

    def run(self, statement: str) -> tuple[list[str], list[Sequence[Any]]]:
        """Return column names and up to MAX_ROWS rows; raises StoreError with SQLite's own words."""
        try:
            with translated(self._path):
                cursor = self._connection.execute(statement)
                columns = [column[0] for column in cursor.description or ()]
                return columns, cursor.fetchmany(MAX_ROWS)
        except sqlite.Warning as warning:  # more than one statement
            raise StoreError(str(warning)) from warning


def _permission(action: int, first: str | None, second: str | None, *_: object) -> int:
    is_refused = action in (sqlite.SQLITE_ATTACH, sqlite.SQLITE_DETACH) or (
        action == sqlite.SQLITE_PRAGMA and second is not None and (first or "").lower() not in _QUESTIONS
    )
    return int(sqlite.SQLITE_DENY if is_refused else sqlite.SQLITE_OK)


@contextlib.contextmanager
def open_shell(path: Path, key: bytes | None) -> Iterator[Shell]:
    """Open the database read-only; raises StoreError where there is none."""
    if not path.exists():
        raise StoreError(f"{path}: there is no database; `outpost-station init` makes one")
    connection = connect(path, key, is_readonly=True)
    try:
        yield Shell(connection, path)
    finally:
        connection.close()


def text_of(value: Any) -> str:
    """Return a cell as text: bytes as hex, nothing as an empty cell."""
    if value is None:
        return ""
    return value.hex() if isinstance(value, bytes) else str(value)
