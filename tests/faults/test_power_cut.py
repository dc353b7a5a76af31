"""Power cuts of the shipped ledger and store on their own driver: what was acknowledged is there, once, and whole."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.ingest.decode import CONSUMER, decode_rows, redecode
from edge.store.driver import Synchronous, connect
from edge.store.ledger import DAY_MS, Entry, Ledger, LedgerReader, Row
from edge.store.store import SpatialiteStore
from firmware_bridge.codecs.opencollar import encode_resend, encode_short
from firmware_bridge.codecs.station_frame import pack_station_frame
from shared.domain import NewFix
from shared.privacy import OPERATOR, view_for
from shared.store import FixQuery
from tests.faults.vfs import CrashImage, Mark, Operation, Recorder, power_cuts

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


# --- the store, fed from the ledger and by people -------------------------------------------------------------------

START = datetime(2026, 1, 1, tzinfo=UTC)
VIEW = view_for(OPERATOR)
COLLARS = [f"{n:016x}" for n in range(1, 9)]
#: What makes a fix itself in these tests: collar and instant.
Key = tuple[str, datetime]


def position(n: int) -> tuple[float, float]:
    """Return lon and lat of the ``n``-th fix of a collar: a slow walk."""
    return 37.0 + n * 1e-4, -2.5 + n * 5e-5


def frame_of(collar: str, n: int, rng: random.Random) -> tuple[Key, Entry]:
    """Return the ``n``-th fix of ``collar`` as a station frame heard now, in one of the forms that it may take."""
    recorded_at = START + timedelta(minutes=10 * n)
    lon_deg, lat_deg = position(n)
    port, encode = rng.choice(((13, encode_short), (13, encode_short), (16, encode_resend)))
    message = encode(recorded_at=recorded_at, lat_deg=lat_deg, lon_deg=lon_deg, h_acc_m=5.0)
    payload = pack_station_frame(collar, port, -90 - rng.randrange(9), 7.5, message)
    received_ms = int(recorded_at.timestamp() * 1000) + 2_000
    key = (f"eui:{collar}", recorded_at)
    return key, Entry("radio", "cobs", "", payload, received_ms, n, "ntp")


def posted_fix(n: int) -> tuple[Key, NewFix]:
    recorded_at = START + timedelta(minutes=7 * n)
    lon_deg, lat_deg = position(n)
    fix = NewFix(device="phone-1", recorded_at=recorded_at, lon_deg=lon_deg, lat_deg=lat_deg, received_at=recorded_at)
    return ("phone-1", recorded_at), fix


async def decode_to_the_end(reader: LedgerReader, store: SpatialiteStore) -> set[Key]:
    """Run the consumer from its cursor on, and return what it says it stored."""
    done: set[Key] = set()
    while rows := reader.read(await store.cursor(CONSUMER), 100):
        batch = decode_rows(rows)
        assert not batch.undecoded
        await store.take_decoded(CONSUMER, batch.position, batch.fixes, batch.heard, batch.undecoded)
        done |= {(fix.device, fix.recorded_at) for fix in batch.fixes}
    return done


async def stored_keys(store: SpatialiteStore) -> list[Key]:
    page = await store.fixes(VIEW, FixQuery(limit=100_000))
    assert page.count == len(page.results)
    return [(fix.collar_id, fix.raw_recorded_at) for fix in page.results]


def record_station(folder: Path, store_synchronous: Synchronous, groups: int) -> list[Operation]:
    """Append frames, decode them in batches and take fixes from people; mark what each call acknowledged."""
    rng = random.Random(7)

    async def work(recorder: Recorder) -> None:
        ledger = Ledger(folder / "ledger", KEY, boot="a", segment_bytes=100_000)
        store = SpatialiteStore(folder / "station.db", KEY, now=lambda: START, synchronous=store_synchronous, readers=1)
        recorder.mark(("ready", set()))
        with closing(LedgerReader(folder / "ledger", KEY)) as reader:
            for group in range(groups):
                frames = [frame_of(rng.choice(COLLARS), max(0, group - rng.randrange(9)), rng) for _ in range(6)]
                ledger.append([entry for _, entry in frames])
                recorder.mark(("heard", {key for key, _ in frames}))
                if rng.random() < 0.4:
                    recorder.mark(("stored", await decode_to_the_end(reader, store)))
                if rng.random() < 0.4:
                    keys, fixes = zip(*(posted_fix(group * 3 + n) for n in range(rng.randrange(1, 4))), strict=True)
                    await store.add_fixes(VIEW, fixes)
                    recorder.mark(("stored", set(keys)))
        await store.close()
        ledger.close()

    with Recorder(folder) as recorder:
        asyncio.run(work(recorder))
    return recorder.log


def marked(image: CrashImage, kind: str) -> set[Key]:
    return set().union(*(keys for said, keys in image.notes if said == kind))


async def look_at_station(image: CrashImage, folder: Path) -> set[Key]:
    """Start the shipped ledger and store on what a cut left, let the consumer catch up; return what is lost."""
    Ledger(folder / "ledger", KEY, boot="c").close()
    store = SpatialiteStore(folder / "station.db", KEY, now=lambda: START, readers=1)
    try:
        with closing(LedgerReader(folder / "ledger", KEY)) as reader:
            at_start = await stored_keys(store)
            lost = marked(image, "stored") - set(at_start)
            await decode_to_the_end(reader, store)
            caught_up = await stored_keys(store)
            assert len(caught_up) == len(set(caught_up)), "a fix is stored twice"
            lost |= (marked(image, "heard") | marked(image, "stored")) - set(caught_up)
            if image.position % 10 == 0:
                assert (await redecode(reader, store)).new_fixes == 0
    finally:
        await store.close()
    assert_intact(folder / "station.db", is_spatial=True)
    for path in (folder / "ledger").glob("ledger-*.db"):
        assert_intact(path, is_spatial=False)
    return lost


@pytest.mark.timeout(3600 if IS_NIGHTLY else 300)
def test_the_station_keeps_every_acknowledged_fix_once_through_every_cut(tmp_path: Path) -> None:
    log = record_station(tmp_path, "FULL", 600 if IS_NIGHTLY else 250)
    ready = next(index for index, operation in enumerate(log) if operation == Mark(("ready", set())))

    def look(image: CrashImage, folder: Path) -> None:
        assert asyncio.run(look_at_station(image, folder)) == set()

    after_each_cut(log[:ready], tmp_path, CUTS // 10, look)
    after_each_cut(log, tmp_path, CUTS - CUTS // 10, look, first=ready)


@pytest.mark.timeout(3600 if IS_NIGHTLY else 300)
def test_the_same_cuts_lose_fixes_where_the_store_does_not_sync_each_commit(tmp_path: Path) -> None:
    log = record_station(tmp_path, "NORMAL", 250)
    ready = next(index for index, operation in enumerate(log) if operation == Mark(("ready", set())))
    losses: list[int] = []

    def look(image: CrashImage, folder: Path) -> None:
        losses.append(len(asyncio.run(look_at_station(image, folder))))

    after_each_cut(log, tmp_path, max(CUTS // 10, 15), look, first=ready)
    assert sum(lost > 0 for lost in losses) > len(losses) // 2
