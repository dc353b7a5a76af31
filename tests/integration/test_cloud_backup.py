"""Backups of the cloud over a real PostgreSQL: proved when made, restored into a new epoch, refused where damaged."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from cloud.store import dump
from cloud.store.sealed_files import open_file, seal_file
from shared.errors import Conflict, DatabaseCorrupt, StoreError, StoreFull, WrongKey
from shared.sealed_stream import new_recovery_key, recovery_key_of
from tests.services import Postgres

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def fill(url: str, rows: int) -> None:
    with psycopg.connect(url) as db:
        db.execute(
            "INSERT INTO animals (id, name, species, status, health_status, gender, rev, cloud_rev, marks, created_ms,"
            " updated_ms) SELECT 'a' || n, 'Animal ' || n, 'elephant', 'active', 'healthy', 'female', 1, 1, '{}', n, n"
            " FROM generate_series(1, %s) n",
            (rows,),
        )


def epoch(url: str) -> str:
    with psycopg.connect(url) as db:
        row = db.execute("SELECT value FROM facts WHERE name = 'cloud_epoch'").fetchone()
        assert row is not None
        return str(row[0])


def held(url: str) -> dict[str, dump.Table]:
    with psycopg.connect(url) as db:
        return dump.contents(db)


def test_a_backup_restored_on_another_database_holds_the_same_in_a_new_epoch(
    tmp_path: Path, database_url: str, blank_database_url: str
) -> None:
    fill(database_url, 200)
    config = tmp_path / "cloud.toml"
    config.write_text("# ours\n")
    made = dump.backup(database_url, tmp_path / "backups", NOW, config=config, is_proving=True)
    assert made.is_proved
    assert made.rows >= 200
    assert (Path(made.path) / "cloud.toml").read_text() == "# ours\n"
    with psycopg.connect(database_url) as db:
        left = db.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'outpost_proof%'").fetchone()
    assert left == (0,), "the proof's database is gone"
    before = held(database_url)
    manifest, new = dump.restore(tmp_path / "backups", blank_database_url)
    assert manifest.tables == before
    after = held(blank_database_url)
    assert {name for name in before if before[name] != after[name]} == {"public.facts", "public.counters"}
    assert epoch(blank_database_url) == new != epoch(database_url)
    with pytest.raises(Conflict, match="holds tables already"):
        dump.restore(tmp_path / "backups", blank_database_url)


def test_a_damaged_backup_is_refused_and_nothing_is_written(
    tmp_path: Path, database_url: str, blank_database_url: str
) -> None:
    made = Path(dump.backup(database_url, tmp_path, NOW, config=None, is_proving=False).path)
    content = bytearray((made / "database.dump").read_bytes())
    content[len(content) // 2] ^= 1
    (made / "database.dump").write_bytes(content)
    with pytest.raises(DatabaseCorrupt):
        dump.restore(made, blank_database_url)
    assert held(blank_database_url) == {}
    shutil.rmtree(made)
    with pytest.raises(StoreError, match="holds none"):
        dump.restore(tmp_path, blank_database_url)


def test_as_many_backups_stay_as_are_kept_by_number_not_by_clock(tmp_path: Path, database_url: str) -> None:
    for year in (2026, 1999, 2026):
        dump.backup(database_url, tmp_path, NOW.replace(year=year), config=None, is_proving=False, kept=2)
    assert [path.name[:6] for path in dump.newest(tmp_path)] == ["000003", "000002"]


def test_a_database_that_does_not_answer_leaves_no_backup(tmp_path: Path, postgres: Postgres) -> None:
    gone = postgres.create()
    postgres.drop(gone)
    with pytest.raises(StoreError):
        dump.backup(gone, tmp_path, NOW, config=None, is_proving=False)
    assert dump.newest(tmp_path) == []
    assert not (tmp_path / ".part").exists()


def test_a_sealed_backup_opens_for_its_recovery_key_alone_and_is_the_database(
    tmp_path: Path, database_url: str, blank_database_url: str
) -> None:
    fill(database_url, 200)
    config = tmp_path / "cloud.toml"
    config.write_text('password = "of the mail server"\n')
    (text, public), (other, _) = new_recovery_key(), new_recovery_key()
    folder = tmp_path / "backups"
    made = dump.backup(database_url, folder, NOW, config=config, is_proving=True, recovery_public=public)
    assert (made.is_proved, made.is_sealed) == (True, True)
    assert sorted(path.name for path in Path(made.path).iterdir()) == [
        "cloud.toml.sealed", "database.dump.sealed", "manifest.json",
    ]  # fmt: skip
    everything = b"".join(path.read_bytes() for path in Path(made.path).iterdir())
    assert b"PGDMP" not in everything
    assert b"of the mail server" not in everything
    before = held(database_url)
    assert dump.verify(folder, database_url, None).is_restored is False, "without the key each byte alone is looked at"
    assert dump.verify(folder, database_url, recovery_key_of(text)).is_restored is True
    for key in (None, recovery_key_of(other)):
        with pytest.raises(WrongKey):
            dump.restore(folder, blank_database_url, key)
        assert held(blank_database_url) == {}
    manifest, _ = dump.restore(folder, blank_database_url, recovery_key_of(text))
    assert manifest.tables == before
    assert held(blank_database_url)["public.animals"] == before["public.animals"]
    opened = tmp_path / "opened.toml"
    open_file(Path(made.path) / "cloud.toml.sealed", opened, recovery_key_of(text))
    assert (opened.read_text(), opened.stat().st_mode & 0o777) == (config.read_text(), 0o600)


@pytest.mark.parametrize("damage", ["a bit", "cut", "longer", "a swapped chunk"])
def test_a_sealed_file_that_is_not_what_was_written_does_not_open(tmp_path: Path, damage: str) -> None:
    plain = tmp_path / "x"
    plain.write_bytes(bytes(range(256)) * 12_000)  # three chunks
    text, public = new_recovery_key()
    sealed = seal_file(plain, public)
    assert not plain.exists()
    raw = bytearray(sealed.read_bytes())
    size = 4 + (1 << 20) + 16
    begin = len(raw) - (3_072_000 - 2 * (1 << 20)) - 16 - 4 - 2 * size
    match damage:
        case "a bit":
            raw[-100] ^= 1
        case "cut":
            del raw[begin + 2 * size :]
        case "longer":
            raw += b"x"
        case _:
            raw[begin : begin + 2 * size] = raw[begin + size : begin + 2 * size] + raw[begin : begin + size]
    sealed.write_bytes(raw)
    with pytest.raises(DatabaseCorrupt):
        open_file(sealed, tmp_path / "out", recovery_key_of(text))


def test_a_disk_that_is_full_while_sealing_leaves_no_backup_and_no_plain_file(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dump, "seal_file", full)
    _, public = new_recovery_key()
    with pytest.raises(StoreFull):
        dump.backup(database_url, tmp_path / "b", NOW, config=None, is_proving=False, recovery_public=public)
    assert list((tmp_path / "b").iterdir()) == []
