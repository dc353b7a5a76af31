"""Schema changes of the cloud only expand: what a program of the release before writes and reads goes on unchanged.

Two releases serve side by side while processes are replaced one by one, so each migration is held against the schema
before it: no table, column or type goes, nothing that was optional becomes required, a new column of an old table fills
itself, and no new rule refuses rows that the former program writes.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cloud.store.migrate import known_versions, migrate
from tests.clouds import ask

pytestmark = pytest.mark.integration

MIGRATIONS = Path(__file__).resolve().parents[2] / "cloud" / "store" / "migrations"

_COLUMNS = """
SELECT table_name, column_name, udt_name, is_nullable = 'YES', column_default IS NOT NULL OR is_generated = 'ALWAYS'
  OR is_identity = 'YES'
FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name NOT LIKE 'procrastinate%'
  AND table_name NOT IN ('spatial_ref_sys', 'alembic_version')
"""
#: Checks, foreign keys and unique keys, whether made as a constraint or as an index.
_RULES = """
SELECT c.conrelid::regclass::text, pg_get_constraintdef(c.oid) FROM pg_constraint c
JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = 'public' AND c.contype IN ('c', 'f', 'u', 'p', 'x')
UNION SELECT indrelid::regclass::text, regexp_replace(pg_get_indexdef(indexrelid), '^.* USING ', 'UNIQUE ')
FROM pg_index JOIN pg_class t ON t.oid = indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE indisunique AND n.nspname = 'public'
"""


class Column(NamedTuple):
    """What a program that writes a row has to know of a column."""

    type: str
    is_optional: bool
    fills_itself: bool


class Schema(NamedTuple):
    """Columns by table and name, and rules by table."""

    columns: dict[tuple[str, str], Column]
    rules: set[tuple[str, str]]

    @property
    def tables(self) -> set[str]:
        """Return the names of its tables."""
        return {table for table, _ in self.columns}


def schema(url: str) -> Schema:
    columns = {(row[0], row[1]): Column(*row[2:]) for row in ask(url, _COLUMNS)}
    return Schema(columns, {(str(table), str(rule)) for table, rule in ask(url, _RULES)})


def broken(before: Schema, after: Schema) -> set[tuple[str, str]]:
    """Return what a program that knows ``before`` meets in ``after`` and cannot live with, by table and words."""
    found: set[tuple[str, str]] = set()
    for (table, name), was in before.columns.items():
        now = after.columns.get((table, name))
        if now is None:
            found.add((table, f"{name} is gone"))
        elif now.type != was.type:
            found.add((table, f"{name} is {now.type}, was {was.type}"))
        elif was.is_optional and not now.is_optional:
            found.add((table, f"{name} is required now"))
        elif was.fills_itself and not (now.fills_itself or now.is_optional):
            found.add((table, f"{name} does not fill itself any more"))
    for (table, name), column in after.columns.items():
        is_new = (table, name) not in before.columns and table in before.tables
        if is_new and not (column.is_optional or column.fills_itself):
            found.add((table, f"{name} is new and required"))
    found |= {(table, f"new rule: {rule}") for table, rule in after.rules - before.rules if table in before.tables}
    return found


def at_each_version(url: str, folder: Path) -> list[tuple[str, Schema]]:
    """Bring a blank database up one migration after the other, and return the schema after each."""
    folder.mkdir()
    found = []
    for version in known_versions():
        for file in MIGRATIONS.glob(f"{version}_*"):
            shutil.copy(file, folder)
        assert migrate(url, folder=folder) == version
        found.append((version, schema(url)))
    return found


def test_no_migration_takes_away_or_refuses_what_the_program_before_it_reads_and_writes(
    blank_database_url: str, tmp_path: Path
) -> None:
    versions = at_each_version(blank_database_url, tmp_path / "migrations")
    found = {
        (version, table, words)
        for (_, before), (version, after) in itertools.pairwise(versions)
        for table, words in broken(before, after)
    }
    assert found == set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE animals DROP COLUMN notes", "notes is gone"),
        ("ALTER TABLE animals RENAME COLUMN notes TO remarks", "notes is gone"),
        ("ALTER TABLE animals ALTER COLUMN notes TYPE varchar", "notes is varchar, was text"),
        ("ALTER TABLE animals ALTER COLUMN notes SET NOT NULL", "notes is required now"),
        ("ALTER TABLE animals ADD COLUMN herd text NOT NULL", "herd is new and required"),
        ("ALTER TABLE animals ADD CHECK (length(name) < 50)", "new rule: CHECK ((length(name) < 50))"),
        ("CREATE UNIQUE INDEX ON animals (name)", "new rule: UNIQUE btree (name)"),
        ("DROP TABLE quarantine CASCADE", "is gone"),
    ],
)
def test_a_change_that_does_not_expand_is_seen(database_url: str, change: str, words: str) -> None:
    before = schema(database_url)
    ask(database_url, change)
    assert any(words in said for _, said in broken(before, schema(database_url)))


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE animals ADD COLUMN herd text", "ALTER TABLE animals ADD COLUMN legs integer NOT NULL DEFAULT 4",
        "CREATE TABLE herds (id text PRIMARY KEY, name text NOT NULL)", "CREATE INDEX ON animals (species)",
        "ALTER TABLE animals ALTER COLUMN species DROP NOT NULL",
    ],
)  # fmt: skip
def test_a_change_that_expands_is_none_to_the_program_before(database_url: str, change: str) -> None:
    before: Any = schema(database_url)
    ask(database_url, change)
    assert broken(before, schema(database_url)) == set()
