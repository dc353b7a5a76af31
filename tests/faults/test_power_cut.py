"""Power cuts of the shipped ledger and store on their own driver: what was acknowledged is there, once, and whole."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.store.driver import Synchronous, connect
from edge.store.ledger import DAY_MS, Entry, Ledger, LedgerReader, Row
from tests.faults.vfs import CrashImage, Operation, Recorder, power_cuts

pytestmark = [pytest.mark.faults, pytest.mark.slow]

IS_NIGHTLY = os.environ.get("OUTPOST_NIGHTLY") == "1"
GROUPS = 700
CUTS = 1000 if IS_NIGHTLY else 100
KEY = bytes(range(32))
START_MS = 1_760_000_000_000


def entry(n: int, payload: bytes, day: int = 0) -> Entry:
    received_ms = START_MS + day * DAY_MS + n
    return Entry("radio", "cobs", "", payload, received_ms, n * 1_000_000, "ntp")


def ledger_workload(seed: int, groups: int) -> Iterator[list[Entry]]:
    """Yield groups of frames as links bring them: one or many, some heard twice, over nine days."""
    rng = random.Random(seed)
    heard: list[bytes] = []
    n = 0
    for group in range(groups):
        entries = []
        for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
            n += 1
            if heard and rng.random() < 0.1:
                payload = rng.choice(heard[-50:])
            else:
                payload = n.to_bytes(4, "big") + rng.randbytes(rng.randrange(8, 400))
            heard.append(payload)
            entries.append(entry(n, payload, day=group * 9 // groups))
        yield entries


def record_ledger(folder: Path, synchronous: Synchronous) -> list[Operation]:
    """Append the workload, marking each group and its last seq once ``append`` returned; reopen twice in between."""
    with Recorder(folder) as recorder:
        ledger = Ledger(folder / "ledger", KEY, boot="a", synchronous=synchronous, segment_bytes=150_000)
        for number, entries in enumerate(ledger_workload(1, GROUPS)):
            seq = ledger.append(entries)
            recorder.mark((seq, entries))
            if number in (GROUPS // 3, GROUPS // 2):
                ledger.close()
                ledger = Ledger(folder / "ledger", KEY, boot="b", synchronous=synchronous, segment_bytes=150_000)
        recorder.mark(None)
        ledger.close()
    return recorder.log


def stored_rows(folder: Path) -> list[Row]:
    """Open the ledger as the station does after a start, and read all of it."""
    Ledger(folder, KEY, boot="c").close()
    with closing(LedgerReader(folder, KEY)) as reader:
        reader.check()
        rows: list[Row] = []
        while page := reader.read(rows[-1].seq if rows else 0, 200):
            rows += page
        return rows


def assert_intact(path: Path, *, is_spatial: bool) -> None:
    with closing(connect(path, KEY, is_spatial=is_spatial, is_readonly=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def after_each_cut(
    log: list[Operation], root: Path, cuts: int, look: Callable[[CrashImage, Path], None], *, first: int = 0
) -> None:
    """Let ``look`` open what each cut left; the folder is removed afterwards."""
    for number, image in enumerate(power_cuts(log, random.Random(len(log)), cuts, first=first)):
        folder = root / f"after-cut-{number}"
        image.write(root, folder)
        look(image, folder)
        shutil.rmtree(folder)


def test_the_ledger_keeps_every_acknowledged_frame_through_every_cut(tmp_path: Path) -> None:
    log = record_ledger(tmp_path, "FULL")
    groups = [{e.payload for e in entries} for entries in ledger_workload(1, GROUPS)]
    segments: set[int] = set()

    def look(image: CrashImage, folder: Path) -> None:
        acknowledged = sum(note is not None for note in image.notes)
        heard = set().union(*groups[:acknowledged])
        under_way = set().union(*groups[acknowledged : acknowledged + 1]) - heard
        rows = stored_rows(folder / "ledger")
        stored = {row.payload for row in rows}
        assert stored in (heard, heard | under_way), "acknowledged frames, and the group under way whole or not at all"
        assert [row.seq for row in rows] == sorted({row.seq for row in rows})
        paths = sorted((folder / "ledger").glob("ledger-*.db"))
        for path in paths:
            assert_intact(path, is_spatial=False)
        segments.add(len(paths))
        with closing(Ledger(folder / "ledger", KEY, boot="d")) as ledger:
            assert ledger.append([entry(10**6, b"after the cut", day=9)]) > (rows[-1].seq if rows else 0)

    after_each_cut(log, tmp_path, CUTS, look)
    assert max(segments) > 2


def test_the_same_cuts_lose_frames_without_a_sync_at_each_commit(tmp_path: Path) -> None:
    log = record_ledger(tmp_path, "NORMAL")
    losses: list[int] = []

    def look(image: CrashImage, folder: Path) -> None:
        stored = {row.payload for row in stored_rows(folder / "ledger")}
        losses.append(len({e.payload for note in image.notes if note for e in note[1]} - stored))

    after_each_cut(log, tmp_path, max(CUTS // 4, 25), look)
    assert sum(lost > 0 for lost in losses) > len(losses) // 2
