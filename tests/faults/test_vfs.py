"""The power-cut simulator itself, on a small encrypted database: it must spare what is safe and find what is not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlcipher3

from tests.faults.vfs import (
    SQLITE_FULL,
    SQLITE_IOERR_FSYNC,
    Create,
    Delete,
    Mark,
    Operation,
    Recorder,
    Sync,
    Write,
    power_cuts,
)

pytestmark = pytest.mark.faults

KEY = "x'" + "5a" * 32 + "'"


def open_database(path: Path, synchronous: str = "FULL") -> sqlcipher3.Connection:
    connection = sqlcipher3.connect(str(path), isolation_level=None)
    connection.execute(f'PRAGMA key = "{KEY}"')
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA wal_autocheckpoint = 20")
    return connection


def record(folder: Path, synchronous: str, rows: int = 120) -> list[Operation]:
    """Insert rows one commit each, marking each after its commit returned."""
    rng = random.Random(5)
    with Recorder(folder) as recorder, closing(open_database(folder / "t.db", synchronous)) as connection:
        connection.execute("CREATE TABLE row (n INTEGER PRIMARY KEY, body BLOB)")
        recorder.mark(-1)
        for n in range(rows):
            connection.execute("INSERT INTO row VALUES (?, ?)", (n, rng.randbytes(rng.randrange(10, 1500))))
            recorder.mark(n)
    return recorder.log


def losses(log: list[Operation], folder: Path, cuts: int) -> Iterator[tuple[int, str]]:
    """Cut, reopen with the default file system, and yield how many marked rows are missing and SQLite's verdict."""
    for number, image in enumerate(power_cuts(log, random.Random(11), cuts)):
        target = folder / f"cut-{number}"
        image.write(folder, target)
        with closing(open_database(target / "t.db")) as connection:
            verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'row'").fetchone()[0]
            stored = {n for (n,) in connection.execute("SELECT n FROM row")} if tables else set()
            expected = {note for note in image.notes if note >= 0}
            lost = len(expected - stored) + (bool(image.notes) and not tables)
            yield lost, verdict


@pytest.mark.parametrize(("synchronous", "is_safe"), [("FULL", True), ("NORMAL", False)])
def test_a_cut_loses_acknowledged_rows_only_without_a_sync_at_each_commit(
    tmp_path: Path, synchronous: str, is_safe: bool
) -> None:
    outcomes = list(losses(record(tmp_path, synchronous), tmp_path, 50))
    assert {verdict for _, verdict in outcomes} == {"ok"}
    cuts_with_losses = sum(lost > 0 for lost, _ in outcomes)
    assert cuts_with_losses == 0 if is_safe else cuts_with_losses > 25


def test_the_whole_log_gives_back_the_real_files(tmp_path: Path) -> None:
    log = record(tmp_path, "FULL", rows=30)
    *_, last = power_cuts(log, random.Random(1), 1, first=len(log))
    real = {str(path): path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert last.files == real


def test_what_was_synced_survives_and_what_was_not_is_torn_by_sectors() -> None:
    log: list[Operation] = [
        Create(1, "/d/f", None),
        Write(1, 0, b"a" * 2048),
        Sync(1, 2, True),
        Write(1, 512, b"b" * 1536),
        Write(1, 4096, b"c" * 512),
    ]
    seen = {image.files["/d/f"] for image in power_cuts(log, random.Random(3), 400, first=len(log))}
    assert all(content[:512] == b"a" * 512 for content in seen)
    sectors = {content[at : at + 512] for content in seen for at in (512, 1024, 1536)}
    assert {b"a" * 512, b"b" * 512} < sectors
    assert any(s.strip(b"b").strip(b"a") == b"" and s[:1] == b"b" and s[-1:] == b"a" for s in sectors)
    assert {len(content) for content in seen} >= {2048, 4608}


def test_a_sync_speaks_only_for_what_was_written_before_it_began() -> None:
    log: list[Operation] = [Create(1, "/f", None), Write(1, 0, b"a"), Write(1, 1, b"b"), Sync(1, 2, True)]
    seen = {image.files["/f"] for image in power_cuts(log, random.Random(3), 60, first=len(log))}
    assert seen >= {b"a", b"ab"}
    assert all(content.startswith(b"a") for content in seen)


def test_a_later_sync_does_not_save_what_a_failed_one_has_spoilt() -> None:
    log: list[Operation] = [
        Create(1, "/f", None),
        Sync(1, 1, True),
        Write(1, 0, b"a"),
        Sync(1, 3, False),
        Write(1, 1, b"b"),
        Sync(1, 5, True),
    ]
    seen = {image.files["/f"] for image in power_cuts(log, random.Random(3), 60, first=len(log))}
    assert seen == {b"\x00b", b"ab"}


def test_a_name_that_was_never_synced_may_vanish() -> None:
    log: list[Operation] = [Create(1, "/f", None), Write(1, 0, b"a"), Mark(1)]
    assert {"/f" in image.files for image in power_cuts(log, random.Random(3), 30, first=3)} == {True, False}


def test_a_deleted_journal_may_come_back_until_the_directory_is_synced() -> None:
    log: list[Operation] = [
        Create(1, "/d/j", None),
        Sync(1, 1, True),
        Delete("/d/j", False),
        Create(2, "/d/w", None),
        Sync(2, 4, True, "/d"),
    ]
    before = {"/d/j" in image.files for image in power_cuts(log[:4], random.Random(3), 30, first=4)}
    after = {"/d/j" in image.files for image in power_cuts(log, random.Random(3), 30, first=5)}
    assert (before, after) == ({True, False}, {False})


@pytest.mark.parametrize(("kind", "code"), [("sync", SQLITE_IOERR_FSYNC), ("write", SQLITE_FULL)])
def test_an_injected_fault_reaches_the_caller_and_passes(tmp_path: Path, kind: str, code: int) -> None:
    with Recorder(tmp_path) as recorder, closing(open_database(tmp_path / "t.db")) as connection:
        connection.execute("CREATE TABLE row (n INTEGER PRIMARY KEY)")
        recorder.fail("sync" if kind == "sync" else "write", "-wal", code)
        with pytest.raises(sqlcipher3.OperationalError):
            connection.execute("INSERT INTO row VALUES (1)")
        connection.execute("INSERT INTO row VALUES (2)")
        assert connection.execute("SELECT n FROM row").fetchall() == [(2,)]
