"""The cloud's migrations on a real server: once each, by one at a time, and nothing of one that fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud.store.migrate import known_versions, migrate, schema_version
from shared.errors import SchemaTooNew, StoreError
from tests.integration.test_postgres import rows, wait

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


FIRST = """-- of 100 % :none is a parameter; nor is %s
CREATE TABLE first (n int);
DO $$ BEGIN INSERT INTO first VALUES (1); END $$;
"""
SECOND = "ALTER TABLE first ADD COLUMN place geometry(Point, 4326);\n"
BROKEN = "CREATE TABLE second (n int);\n\nINSERT INTO second SELECT nothing FROM first;\n"


def scripts(folder: Path, *bodies: str) -> Path:
    """Write migrations with these bodies and return their folder."""
    folder.mkdir()
    for number, body in enumerate(bodies, 1):
        (folder / f"{number:04}_step.sql").write_text(body, encoding="utf-8")
        (folder / f"{number:04}_step.py").write_text(
            "from cloud.store.migrate import run_sql\n"
            f'revision = "{number:04}"\n'
            f"down_revision = {None if number == 1 else f'{number - 1:04}'!r}\n"
            "def upgrade() -> None:\n    run_sql(__file__)\n",
            encoding="utf-8",
        )
    return folder


def test_the_shipped_migrations_bring_an_empty_database_to_the_newest_schema(
    blank_database_url: str, database_url: str
) -> None:
    newest = known_versions()[-1]
    assert schema_version(blank_database_url) is None
    assert migrate(blank_database_url) == newest
    assert migrate(blank_database_url) == newest
    assert schema_version(blank_database_url) == schema_version(database_url) == newest


def test_every_shipped_script_has_its_number_and_every_number_its_script() -> None:
    folder = ROOT / "cloud" / "store" / "migrations"
    numbers = known_versions()
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    for kind in ("py", "sql"):
        assert sorted(file.name[:4] for file in folder.glob(f"*.{kind}")) == numbers


def test_each_migration_runs_once_and_a_later_one_on_top(blank_database_url: str, tmp_path: Path) -> None:
    one, two = scripts(tmp_path / "one", FIRST), scripts(tmp_path / "two %d", FIRST, SECOND)
    assert migrate(blank_database_url, folder=one) == "0001"
    assert migrate(blank_database_url, folder=two) == "0002"
    assert migrate(blank_database_url, folder=two) == "0002"
    assert rows(blank_database_url, "SELECT n, place FROM first") == [(1, None)]


def test_many_that_migrate_at_once_migrate_once(blank_database_url: str, tmp_path: Path) -> None:
    folder = scripts(tmp_path / "two", FIRST.replace("(1)", "(1); PERFORM pg_sleep(0.1)"), SECOND)
    start = threading.Barrier(5)

    def one(_: int) -> str:
        start.wait()
        return migrate(blank_database_url, folder=folder)

    with ThreadPoolExecutor(5) as threads:
        assert set(threads.map(one, range(5))) == {"0002"}
    assert rows(blank_database_url, "SELECT n FROM first") == [(1,)]


def test_waiting_for_another_that_migrates_ends(blank_database_url: str, tmp_path: Path) -> None:
    slow = scripts(tmp_path / "slow", "SELECT pg_sleep(60);")
    running = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%' AND datname = "
    running += "current_database()"
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(migrate, blank_database_url, folder=slow)
        wait(lambda: bool(rows(blank_database_url, running)))
        with pytest.raises(StoreError, match="another process"):
            migrate(blank_database_url, folder=slow, wait_s=0.05)
        rows(blank_database_url, f"SELECT pg_cancel_backend(pid) FROM ({running}) AS r")
        with pytest.raises(StoreError, match="0001_step"):
            first.result()
    assert migrate(blank_database_url, folder=scripts(tmp_path / "quick", "SELECT 1;"), wait_s=5) == "0001"


def test_a_database_of_a_later_program_is_refused_untouched(blank_database_url: str, tmp_path: Path) -> None:
    migrate(blank_database_url, folder=scripts(tmp_path / "two", FIRST, SECOND))
    with pytest.raises(SchemaTooNew) as refused:
        migrate(blank_database_url, folder=scripts(tmp_path / "one", FIRST))
    assert (refused.value.found, refused.value.known) == (2, 1)
    assert schema_version(blank_database_url) == "0002"


def test_a_database_of_another_program_is_refused(blank_database_url: str) -> None:
    rows(
        blank_database_url,
        "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('ae1027a6acf')",
    )
    with pytest.raises(StoreError, match="another program"):
        migrate(blank_database_url)


def test_a_migration_that_fails_leaves_nothing_and_keeps_those_before_it(
    blank_database_url: str, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=r"0002_step\.sql, line 3: .*nothing"):
        migrate(blank_database_url, folder=scripts(tmp_path / "broken", FIRST, BROKEN))
    assert schema_version(blank_database_url) == "0001"
    assert rows(blank_database_url, "SELECT to_regclass('second')") == [(None,)]
    assert migrate(blank_database_url, folder=scripts(tmp_path / "mended", FIRST, SECOND)) == "0002"


def test_a_user_that_may_not_add_postgis_is_told_what_to_run(blank_database_url: str, tmp_path: Path) -> None:
    rows(blank_database_url, "DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN; GRANT ALL ON SCHEMA public TO plain")
    plain = blank_database_url.replace("outpost@", "plain@")
    folder = scripts(tmp_path / "one", FIRST)
    try:
        with pytest.raises(StoreError, match="CREATE EXTENSION postgis"):
            migrate(plain, folder=folder)
        rows(blank_database_url, "CREATE EXTENSION postgis")
        assert migrate(plain, folder=folder) == "0001"
    finally:
        rows(blank_database_url, "DROP OWNED BY plain; DROP ROLE plain")
