"""Backups as an operator and a running station make them; a copy before every change of the schema."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.app import running, sole_owner
from edge.config import load
from edge.ops.backup_rounds import BackupRounds
from edge.ops.heal import mark_of
from edge.parts import backed_up
from edge.store.driver import connect, transaction
from edge.store.migrate import migrations, schema_version, statements
from edge.store.snapshot import contents_of
from edge.store.store import SpatialiteStore
from shared.errors import StoreFull
from shared.sealed_stream import new_recovery_key
from tests.access import operator_of_station
from tests.commands import STATION
from tests.fakes import START, FakeClock
from tests.integration.station_store import KEY
from tests.services import require
from tests.small_disk import SmallDisk

pytestmark = pytest.mark.integration


def made_station(folder: Path, *, backup: str = "") -> Path:
    config = folder / "station.toml"
    STATION.run("init", "--config", config, "--data-dir", folder / "data", "--key-file", folder / "station.key")
    made = re.sub(r"\[backup\]\n(?:.*\n)*?\n", "", config.read_text())
    if "[api]" in backup:
        made = re.sub(r"\[api\]\n(?:.*\n)*?\n", "", made)
    config.write_text(f"{made}\n[backup]\n{backup}\n")
    return config


def test_a_station_is_backed_up_and_restored_by_three_commands(tmp_path: Path) -> None:
    recovery, public = new_recovery_key()
    config = made_station(tmp_path, backup=f'recovery_public = "{public}"')
    file = tmp_path / "tracks.csv"
    file.write_text("individual,timestamp,lon,lat\nAlpha,2026-01-01T00:00:00Z,37.5,-2.5\n")
    STATION.run("import", file, "--config", config, "--utc")
    copied = STATION.facts("backup", "--config", config)
    assert copied["rows"] > 0
    made = STATION.facts("backup", "--daily", "--to", tmp_path / "usb", "--config", config)
    held = contents_of(tmp_path / "data" / "station.db", load(config).key())
    kit = tmp_path / "kit.txt"
    kit.write_text(recovery.lower())

    refused = STATION.run("restore", made["path"], "--config", config, code=1)
    assert "--replace" in refused.stderr
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = made_station(other)
    wrong = STATION.run("restore", made["path"], "--config", elsewhere, "--replace", code=1)
    assert "was not made for this key" in wrong.stderr
    done = json.loads(
        STATION.run(
            "restore", made["path"], "--config", elsewhere, "--replace", "--recovery-key-file", kit, "--json",
        ).stdout
    )  # fmt: skip
    assert {Path(path).name for path in done["set_aside"]} == {
        "station.db.before-restore-1", "station.key.before-restore-1",
    }  # fmt: skip
    restored = contents_of(other / "data" / "station.db", load(config).key())
    differing = {name for name in held.keys() | restored.keys() if held.get(name) != restored.get(name)}
    assert differing <= {"facts"}  # phones are told that this is another life
    STATION.run("verify", "--against", file, "--config", elsewhere, "--utc")
    STATION.run("check", "--config", elsewhere)


def test_a_restore_beside_a_running_station_is_refused(tmp_path: Path) -> None:
    config = made_station(tmp_path)
    made = STATION.facts("backup", "--config", config)
    with sole_owner(tmp_path / "data"):
        ended = STATION.run("restore", made["path"], "--config", config, "--replace", code=1)
    assert "another station runs" in ended.stderr


def rounds(config: Path, clock: FakeClock) -> BackupRounds:
    settings = load(config)
    return BackupRounds(
        backed_up(settings, config, settings.key()),
        settings.backup_dir,
        clock,
        hourly_kept=2,
        daily_kept=2,
        is_enabled=True,
    )


def test_a_station_makes_an_archive_a_day_and_copies_between(tmp_path: Path) -> None:
    clock = FakeClock()
    making = rounds(made_station(tmp_path), clock)

    async def quarters(count: int) -> list[str]:
        made = []
        for _ in range(count):
            round_made = await making.turn()
            assert round_made is not None
            made.append(round_made.path.parent.name)
            clock.tick(6 * 3600)
        return made

    assert asyncio.run(quarters(6)) == ["daily", *["hourly"] * 3, "daily", "hourly"]
    assert making.last_hourly_at is not None
    clock.tick(-5 * 3600)
    was_late = making.is_late
    clock.tick(4 * 3600)
    assert (was_late, making.is_late) == (False, True)
    assert making.is_on_the_same_medium


def test_a_medium_that_is_gone_is_said_and_stops_nothing(tmp_path: Path) -> None:
    config = made_station(tmp_path)
    (tmp_path / "unplugged").write_text("")
    config.write_text(config.read_text().replace("[backup]", f'[backup]\ndir = "{tmp_path / "unplugged"}"'))
    making = rounds(config, FakeClock())
    assert asyncio.run(making.turn()) is None
    assert making.last_error is not None
    assert "is the medium for backups there?" in making.last_error


def test_a_running_station_says_that_its_database_was_damaged(tmp_path: Path) -> None:
    config = made_station(tmp_path, backup="[api]\nport = 0")
    settings = load(config)
    auth = operator_of_station(settings.database, settings.key(), settings.station.id)
    with settings.database.open("r+b") as database:
        database.seek(40 * 4096)
        database.write(bytes(4096))
    mark_of(settings.database).touch()

    async def detail() -> dict[str, Any]:
        async with running(settings, file=config) as url, httpx.AsyncClient(base_url=url, auth=auth) as client:
            facts: dict[str, Any] = (await client.get("/health/detail")).json()
            return facts

    facts = asyncio.run(detail())
    assert facts["status"] == "degraded"
    assert any("the database was damaged" in reason for reason in facts["reasons"])
    assert any(each["code"] == "fault.healed_in_use" for each in facts["said"])
    assert len(facts["said"]) == len(facts["reasons"])
    assert facts["backup"]["last_hourly_at"] is None


def older_database(path: Path, version: int) -> None:
    with closing(connect(path, KEY)) as db:
        db.execute("SELECT InitSpatialMetaDataFull(1)").fetchone()
        with transaction(db):
            for statement in itertools.chain(*(statements(script) for _, script in migrations()[:version])):
                db.execute(statement).fetchone()
            db.execute(f"PRAGMA user_version = {version}")


def test_a_newer_schema_comes_after_a_proved_copy_of_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "station.db"
    older = len(migrations()) - 1
    older_database(path, older)
    held = contents_of(path, KEY)
    SpatialiteStore(path, KEY, now=lambda: START, readers=1).close_now()
    copy = tmp_path / f"station.db.schema-{older}"
    assert contents_of(copy, KEY) == held
    with closing(connect(copy, KEY, is_readonly=True)) as db:
        assert schema_version(db) == older
    SpatialiteStore(path, KEY, now=lambda: START, readers=1).close_now()
    assert sorted(tmp_path.glob("*.schema-*")) == [copy]


#: Copies a database where this process does not see the disk, and opens the copy as any other is opened.
COPIES = """
import sys
from pathlib import Path
from edge.store.driver import connect
from edge.store.snapshot import snapshot
source, copy, key = Path(sys.argv[1]), Path(sys.argv[2]), bytes.fromhex(sys.argv[3])
rows = snapshot(source, copy, key)["held"].rows
db = connect(copy, key, is_spatial=False)
(mode,), (found,) = db.execute("PRAGMA journal_mode").fetchone(), db.execute("PRAGMA integrity_check").fetchone()
db.close()
print(f"{rows} rows, {mode}, {found}")
"""


def test_a_copy_fits_where_there_is_room_for_it_once(tmp_path: Path) -> None:
    path = tmp_path / "station.db"
    with closing(connect(path, KEY, is_spatial=False)) as db:
        db.execute("CREATE TABLE held (n INTEGER PRIMARY KEY, what BLOB)")
        with transaction(db):
            db.executemany("INSERT INTO held (what) VALUES (?)", ((bytes([n % 251]) * 900,) for n in range(6_000)))
    assert 5 * 2**20 < path.stat().st_size < 7 * 2**20
    disk = SmallDisk(tmp_path / "medium", 8)
    try:
        require(disk.is_mounted, f"a mount namespace needs root: {disk.answer}")
        done = subprocess.run(
            [*disk.prefix, sys.executable, "-c", COPIES, path, disk.folder / "copy.db", KEY.hex()],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "6000 rows, wal, ok\n"), done.stderr
        assert [each.name for each in disk.seen_at.iterdir()] == ["copy.db"]
    finally:
        disk.close()


def test_without_room_for_the_copy_the_schema_stays(tmp_path: Path) -> None:
    path = tmp_path / "station.db"
    older = len(migrations()) - 1
    older_database(path, older)
    (tmp_path / f"station.db.schema-{older}.part").mkdir()  # no file can be made there
    with pytest.raises((StoreFull, OSError)):
        SpatialiteStore(path, KEY, now=lambda: START, readers=1)
    with closing(connect(path, KEY, is_readonly=True)) as db:
        assert schema_version(db) == older


#: Opens a station's store where this process does not see the disk, and says what kept it from that.
OPENS = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from edge.store.store import SpatialiteStore
from shared.errors import StoreFull
try:
    SpatialiteStore(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), now=lambda: datetime.now(UTC), readers=1).close_now()
except StoreFull as error:
    print(error.detail)
"""


def test_a_start_without_room_says_what_it_takes_and_leaves_the_former_program_able_to_start(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "medium", 40)
    try:
        require(disk.is_mounted, f"a mount namespace needs root: {disk.answer}")
        path, older = disk.seen_at / "station.db", len(migrations()) - 1
        older_database(tmp_path / "made.db", older)  # SQLite would follow the path to this process's own folder
        shutil.copy(tmp_path / "made.db", path)
        (disk.seen_at / f"station.db.schema-{older - 1}").write_bytes(b"older")
        held = path.read_bytes()
        names = {each.name for each in disk.seen_at.iterdir()}

        def opens() -> str:
            done = subprocess.run(
                [*disk.prefix, sys.executable, "-c", OPENS, disk.folder / "station.db", KEY.hex()],
                capture_output=True, text=True, check=True, timeout=120,
            )  # fmt: skip
            return done.stdout

        disk.fill()
        filler = disk.seen_at / "filler"
        os.truncate(filler, filler.stat().st_size - 2**21)  # room for a log, none for a copy
        said = opens()
        for word in ("MiB are free", "Nothing was changed", f"station.db.schema-{older - 1}", "former version"):
            assert word in said
        assert {each.name for each in disk.seen_at.iterdir()} - {"filler"} <= names | {
            "station.db-wal",
            "station.db-shm",
        }
        assert path.read_bytes() == held, "the former program finds what it left"
        disk.make_room()
        assert opens() == ""
        shutil.copy(path, tmp_path / "changed.db")
        with closing(connect(tmp_path / "changed.db", KEY, is_readonly=True)) as db:
            assert schema_version(db) == len(migrations())
        assert (disk.seen_at / f"station.db.schema-{older}").exists()
    finally:
        disk.close()
