"""A disk that fails or fills up: the error comes back to the caller, nothing acknowledged is lost, work goes on."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from edge.store.driver import connect
from edge.store.ledger import Entry, Ledger, LedgerReader, Row
from edge.store.store import SpatialiteStore
from shared.errors import StoreError
from tests.faults.test_power_cut import (
    KEY,
    START,
    VIEW,
    after_each_cut,
    assert_intact,
    entry,
    ledger_workload,
    look_at_station,
    posted_fix,
    stored_keys,
    stored_rows,
)
from tests.faults.vfs import SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_WRITE, CrashImage, FaultKind, Mark, Recorder

pytestmark = [pytest.mark.faults, pytest.mark.slow]

IS_NIGHTLY = os.environ.get("OUTPOST_NIGHTLY") == "1"
SEEDS = range(100 if IS_NIGHTLY else 10)
GROUPS = 300
#: What fails, in which files, how, and how many times in a row at most. A new database whose first page was torn and
#: whose rollback fails as well holds nothing yet but stops the start, so a database file fails once at a time.
FAULTS: tuple[tuple[FaultKind, str, int, int], ...] = (
    ("sync", "-wal", SQLITE_IOERR_FSYNC, 3),
    ("write", "-wal", SQLITE_FULL, 3),
    ("write", "-wal", SQLITE_IOERR_WRITE, 3),
    ("sync", ".db", SQLITE_IOERR_FSYNC, 1),
    ("write", ".db", SQLITE_FULL, 1),
)


def let_something_fail(recorder: Recorder, rng: random.Random) -> None:
    """Prepare a fault that comes within the next few operations on its file."""
    recorder.heal()
    kind, suffix, code, times = rng.choice(FAULTS)
    recorder.fail(kind, suffix, code, skip=rng.randrange(6), times=rng.randint(1, times))


def payloads(entries: list[Entry]) -> set[bytes]:
    return {e.payload for e in entries}


@pytest.mark.parametrize("skip", range(3))
@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_new_database_is_write_ahead_logged_or_refused(tmp_path: Path, kind: FaultKind, skip: int) -> None:
    """A switch whose commit failed unseen leaves a rollback journal, whose deletion no sync makes certain."""
    with Recorder(tmp_path) as recorder:
        recorder.fail(kind, ".db", SQLITE_IOERR_WRITE, skip=skip)
        try:
            connection = connect(tmp_path / "t.db", KEY, is_spatial=False)
        except StoreError:
            return
        with closing(connection):
            connection.execute("CREATE TABLE row (n INTEGER PRIMARY KEY)")
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ledger_survives_failing_writes_and_syncs_and_a_cut_after_them(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    refusals = 0
    acknowledged: set[bytes] = set()
    with Recorder(tmp_path) as recorder:
        ledger = Ledger(tmp_path / "ledger", KEY, boot="a", segment_bytes=60_000)
        for entries in ledger_workload(seed, GROUPS):
            if rng.random() < 0.15:
                let_something_fail(recorder, rng)
            for _ in range(20):  # the link sends again what was not acknowledged
                try:
                    ledger.append(entries)
                except StoreError:
                    refusals += 1
                    continue
                acknowledged |= payloads(entries)
                recorder.mark(entries)
                break
            else:
                pytest.fail("a passing fault has stopped the ledger for good")
        recorder.heal()
        ledger.append([entry(10**6, b"all is well", day=9)])
        recorder.mark([entry(10**6, b"all is well", day=9)])
        ledger.close()
    assert refusals > 5
    rows = stored_rows(tmp_path / "ledger")
    assert {row.payload for row in rows} == acknowledged | {b"all is well"}
    assert len({row.seq for row in rows}) == len(rows)

    def look(image: CrashImage, folder: Path) -> None:
        heard = set().union(*(payloads(note) for note in image.notes))
        assert {row.payload for row in stored_rows(folder / "ledger")} >= heard
        for path in (folder / "ledger").glob("ledger-*.db"):
            assert_intact(path, is_spatial=False)

    after_each_cut(recorder.log, tmp_path, 10, look)


@pytest.mark.parametrize("skip", range(6))
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]}{fault[1]}-{fault[2]}")
def test_a_new_segment_that_failed_half_way_hides_no_frame(
    tmp_path: Path, fault: tuple[FaultKind, str, int, int], skip: int
) -> None:
    """Around midnight a link may still offer a frame of yesterday, after one of today was refused."""
    with Recorder(tmp_path) as recorder, closing(Ledger(tmp_path, KEY, boot="a", segment_bytes=1)) as ledger:
        read: list[Row] = []
        with closing(LedgerReader(tmp_path, KEY)) as reader:
            for n in range(40):
                ledger.append([entry(n, b"%d yesterday" % n)])
                read += reader.read(read[-1].seq if read else 0, 100)
            recorder.fail(*fault[:3], skip=skip, times=2)
            refused = []
            for n, day in ((40, 8), (41, 0), (42, 8), (43, 0)):
                late = entry(n, b"%d" % n, day)
                try:
                    ledger.append([late])
                except StoreError:
                    refused.append(late)
                read += reader.read(read[-1].seq, 100)
            recorder.heal()
            for late in refused:
                ledger.append([late])
            read += reader.read(read[-1].seq, 100)
    assert len({row.seq for row in read}) == len(read)
    assert {row.payload for row in read[40:]} == {b"40", b"41", b"42", b"43"}


def test_the_store_gives_back_what_fails_and_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(1)

    async def work(recorder: Recorder) -> int:
        store = SpatialiteStore(tmp_path / "station.db", KEY, now=lambda: START, readers=1)
        refusals = 0
        for n in range(400):
            if rng.random() < 0.2:
                let_something_fail(recorder, rng)
            key, fix = posted_fix(n)
            for _ in range(20):
                try:
                    await store.add_fixes(VIEW, [fix])
                except StoreError:
                    refusals += 1
                    continue
                recorder.mark(("stored", {key}))
                break
            else:
                pytest.fail("a passing fault has stopped the store for good")
        recorder.heal()
        assert Counter(await stored_keys(store)) == Counter(posted_fix(n)[0] for n in range(400))
        await store.close()
        return refusals

    with Recorder(tmp_path) as recorder:
        refusals = asyncio.run(work(recorder))
    assert refusals > 20

    def look(image: CrashImage, folder: Path) -> None:
        assert asyncio.run(look_at_station(image, folder)) == set()

    first = next(index for index, operation in enumerate(recorder.log) if isinstance(operation, Mark))
    after_each_cut(recorder.log, tmp_path, 100 if IS_NIGHTLY else 10, look, first=first)
