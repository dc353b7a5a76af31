"""A damaged medium: a torn page, a broken or missing log, a box that is gone. What was heard comes back, once."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.ingest.decode import CONSUMER
from edge.ops.archive import Opener
from edge.ops.backup import DATABASE, Source, daily, hourly, newest, prove, read_manifest
from edge.ops.heal import heal
from edge.ops.restore import Place, restore
from edge.store import outbox
from edge.store.driver import connect
from edge.store.ledger import Ledger, LedgerReader
from edge.store.snapshot import contents_of, segments_of
from edge.store.store import SpatialiteStore
from shared.errors import Conflict, StoreError, WrongKey
from shared.sealed_stream import new_recovery_key, recovery_key_of
from tests.faults.test_power_cut import (
    COLLARS,
    KEY,
    START,
    VIEW,
    Key,
    decode_to_the_end,
    frame_of,
    posted_fix,
    stored_keys,
)

pytestmark = [pytest.mark.faults, pytest.mark.slow]

IS_NIGHTLY = os.environ.get("OUTPOST_NIGHTLY") == "1"
SEEDS = range(50 if IS_NIGHTLY else 5)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
PAGE_BYTES = 4096


class Post:
    """A station's files as its parts write them, and all that it acknowledged."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.database = folder / "station.db"
        self.ledger = folder / "ledger"
        self.backups = folder / "medium"
        self.rng = random.Random(seed)
        self.heard: set[Key] = set()
        self.posted: set[Key] = set()
        self._n = 0

    @property
    def source(self) -> Source:
        return Source(station="north", database=self.database, ledger=self.ledger, key=KEY)

    def hear(self, frames: int, *, is_decoded: bool = True) -> None:
        """Append frames, and decode them or leave that to the next start; a person posts a fix."""

        async def work() -> None:
            ledger = Ledger(self.ledger, KEY, boot="a", segment_bytes=30_000)
            for _ in range(frames):
                self._n += 1
                key, entry = frame_of(self.rng.choice(COLLARS), self._n * 8, self.rng)
                ledger.append([entry])
                self.heard.add(key)
            ledger.close()
            store = SpatialiteStore(self.database, KEY, now=lambda: START, readers=1)
            if is_decoded:
                await self._decode(store)
                key, fix = posted_fix(self._n)
                await store.add_fixes(VIEW, [fix])
                self.posted.add(key)
            await store.close()

        asyncio.run(work())

    def start(self) -> Counter[Key]:
        """Start as the program does, take one more frame, and return every fix with its number of rows."""

        async def work() -> Counter[Key]:
            store = SpatialiteStore(self.database, KEY, now=lambda: START, readers=1)
            ledger = Ledger(self.ledger, KEY, boot="b", is_key_proven=True)
            ledger.go_on_after(await store.cursor(CONSUMER))
            self._n += 1
            key, entry = frame_of(COLLARS[0], self._n * 8, self.rng)
            ledger.append([entry])
            self.heard.add(key)
            ledger.close()
            await self._decode(store)
            stored = Counter(await stored_keys(store))
            await store.check()
            await store.close()
            return stored

        return asyncio.run(work())

    async def _decode(self, store: SpatialiteStore) -> None:
        with closing(LedgerReader(self.ledger, KEY)) as reader:
            await decode_to_the_end(reader, store)

    def heal(self) -> bool:
        """Check as at a start; say whether something was found."""
        return heal(self.database, self.ledger, KEY, self.backups, epoch=lambda: "epoch-2") is not None


def overwrite_a_page(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        file.seek(rng.randrange(path.stat().st_size // PAGE_BYTES) * PAGE_BYTES + rng.randrange(PAGE_BYTES - 64))
        file.write(rng.randbytes(64))


def without_closing(post: Post, change: Callable[[Path], None]) -> None:
    """Hear more, end without the checkpoint of a close, and let ``change`` damage what lies beside the database."""
    copy = post.folder / "crashed"
    copy.mkdir()
    db = connect(post.database, KEY)  # holds the log open while another connection writes and closes
    post.hear(20)
    for path in post.folder.glob("station.db*"):
        shutil.copyfile(path, copy / path.name)
    db.close()
    for path in copy.iterdir():
        shutil.copyfile(path, post.folder / path.name)
    change(post.folder)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_page_is_seen_at_the_start_and_no_frame_that_was_heard_is_lost(tmp_path: Path, seed: int) -> None:
    post = Post(tmp_path, seed)
    post.hear(60)
    hourly(post.source, post.backups, NOW)
    since = set(post.posted)
    post.hear(40)
    post.hear(10, is_decoded=False)
    overwrite_a_page(post.database, post.rng)
    was_found = post.heal()
    stored = post.start()
    assert set(stored.values()) == {1}
    assert set(stored) >= post.heard | since
    if was_found:
        kept = list(tmp_path.glob("station.db.corrupt-1"))
        assert kept, "the damaged file is evidence and stays"
        assert not post.heal(), "what took its place is sound"
    else:  # free pages and what nobody reads
        assert set(stored) >= post.posted


def test_a_damaged_page_in_use_is_always_found(tmp_path: Path) -> None:
    post = Post(tmp_path, 1)
    post.hear(60)
    hourly(post.source, post.backups, NOW)
    sound = post.database.read_bytes()
    rng = random.Random(3)
    for _ in range(40 if IS_NIGHTLY else 8):
        post.database.write_bytes(sound)
        overwrite_a_page(post.database, rng)
        assert post.heal()


def test_without_a_copy_a_new_database_is_filled_from_the_whole_ledger(tmp_path: Path) -> None:
    post = Post(tmp_path, 2)
    post.hear(60)
    with post.database.open("r+b") as file:
        file.write(bytes(4096))
    assert post.heal()
    assert set(post.start()) >= post.heard


def test_a_copy_that_is_damaged_itself_is_passed_over(tmp_path: Path) -> None:
    post = Post(tmp_path, 3)
    post.hear(30)
    good = hourly(post.source, post.backups, NOW)
    post.hear(30)
    bad = hourly(post.source, post.backups, NOW)
    overwrite_a_page(bad.path / DATABASE, post.rng)
    with post.database.open("r+b") as file:
        file.write(bytes(4096))
    found = heal(post.database, post.ledger, KEY, post.backups, epoch=lambda: "epoch-2")
    assert found is not None
    assert found.copy == good.path
    assert set(post.start()) >= post.heard


def test_a_wrong_key_is_not_taken_for_damage(tmp_path: Path) -> None:
    post = Post(tmp_path, 4)
    post.hear(10)
    with pytest.raises(WrongKey):
        heal(post.database, post.ledger, bytes(32), post.backups, epoch=lambda: "epoch-2")
    assert post.database.exists()
    assert not post.heal()


@pytest.mark.parametrize("damage", ["wal cut off", "wal torn", "wal gone", "shm gone", "shm torn"])
def test_a_damaged_log_of_the_database_loses_no_frame(tmp_path: Path, damage: str) -> None:
    post = Post(tmp_path, 5)
    post.hear(40)

    def change(folder: Path) -> None:
        side = folder / f"station.db-{damage.partition(' ')[0]}"
        if damage.endswith("gone"):
            side.unlink()
        elif damage.endswith("off"):
            os.truncate(side, side.stat().st_size // 2)
        else:
            content = bytearray(side.read_bytes())
            for _ in range(5):
                content[post.rng.randrange(len(content))] ^= 0xFF
            side.write_bytes(content)

    without_closing(post, change)
    post.heal()
    stored = post.start()
    assert set(stored) >= post.heard
    assert set(stored.values()) == {1}


def test_a_ledger_that_lost_its_end_gives_no_frame_the_place_of_one_that_was_read(tmp_path: Path) -> None:
    post = Post(tmp_path, 6)
    post.hear(20)
    (segment,) = (tmp_path / "ledger").glob("ledger-*.db")
    before = segment.read_bytes()
    post.hear(20)
    for path in (tmp_path / "ledger").glob("ledger-*.db*"):
        path.unlink()
    segment.write_bytes(before)
    assert set(post.start()) >= post.heard


def test_a_box_that_is_gone_is_made_again_on_another_one_and_stores_nothing_twice(tmp_path: Path) -> None:
    """R11: an archive and the recovery key are enough; counts and hashes are those of the lost box."""
    recovery, public = new_recovery_key()
    post = Post(tmp_path / "old", 7)
    post.hear(50)

    async def enrol() -> None:
        store = SpatialiteStore(post.database, KEY, now=lambda: START, readers=1)
        await store.write(
            lambda db: outbox.enrol(
                db, url="https://cloud", station_id="north", private_key=bytes(32), cloud_epoch="c", epoch="epoch-1",
                now_ms=0,
            )
        )  # fmt: skip
        await store.close()

    asyncio.run(enrol())
    key_file = tmp_path / "station.key"
    key_file.write_text(KEY.hex())
    config = tmp_path / "old.toml"
    config.write_text("# of the old box\n")
    beside = {"station.key": key_file, "station.toml": config}
    source = Source(
        station="north", database=post.database, ledger=post.ledger, key=KEY, recovery_public=public, beside=beside
    )
    made = daily(source, post.backups, NOW)
    held = contents_of(post.database, KEY)
    usb = shutil.copy(made.path, tmp_path)
    shutil.rmtree(post.folder)

    new = Post(tmp_path / "new", 8)
    place = Place(
        database=new.database, ledger=new.ledger, config=tmp_path / "etc" / "station.toml",
        key_file=tmp_path / "etc" / "station.key", key=None,
    )  # fmt: skip
    with pytest.raises(WrongKey):
        restore(Path(usb), place, Opener(recovery_key=bytes(32)), epoch="epoch-2", is_replacing=False)
    assert not new.database.exists()
    opener = Opener(recovery_key=recovery_key_of(recovery))
    done = restore(Path(usb), place, opener, epoch="epoch-2", is_replacing=False)
    assert (tmp_path / "etc" / "station.key").read_text() == KEY.hex()
    assert done.station == "north"
    found = contents_of(new.database, KEY)
    changed = {name for name in held if held[name] != found[name]}
    assert changed <= {"enrolment", "outbox", "batches", "facts"}, (
        "all but what belongs to the epoch is equal to the bit"
    )
    stored = new.start()
    assert set(stored) >= post.heard | post.posted
    assert set(stored.values()) == {1}

    async def epoch() -> str:
        store = SpatialiteStore(new.database, KEY, now=lambda: START, readers=1)
        here = await store.read(outbox.enrolled)
        await store.close()
        return here.epoch

    assert asyncio.run(epoch()) == "epoch-2"


def test_a_backup_lets_go_of_the_logs_before_the_longer_half_of_its_work(tmp_path: Path) -> None:
    post = Post(tmp_path, 10)
    post.hear(60)
    newest_segment = segments_of(post.ledger)[-1]
    left: dict[str, int] = {}

    def fold() -> None:
        for path in (post.database, newest_segment):
            with closing(connect(path, KEY, is_spatial=False, busy_timeout_ms=0)) as db:
                db.execute("CREATE TABLE later (n INTEGER)")  # what the station writes meanwhile
                is_busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                left[path.name] = is_busy

    made = hourly(post.source, post.backups, NOW, then=fold)
    assert left == {"station.db": 0, newest_segment.name: 0}
    prove(made.path, read_manifest(made.path), KEY)
    assert "later" not in read_manifest(made.path).contents[DATABASE]


def test_a_restore_keeps_what_the_box_heard_since_and_sets_aside_what_it_replaces(tmp_path: Path) -> None:
    post = Post(tmp_path, 9)
    post.hear(30)
    made = hourly(post.source, post.backups, NOW)
    post.hear(30)
    place = Place(database=post.database, ledger=post.ledger, config=tmp_path / "c", key_file=tmp_path / "k", key=KEY)
    opener = Opener(station_key=KEY)
    with pytest.raises(Conflict, match="--replace"):
        restore(made.path, place, opener, epoch="e", is_replacing=False)
    done = restore(post.backups, place, opener, epoch="e", is_replacing=True)
    assert [Path(path).name for path in done.set_aside] == ["station.db.before-restore-1"]
    assert set(post.start()) >= post.heard


@pytest.mark.parametrize("seed", SEEDS)
def test_an_archive_that_is_damaged_anywhere_is_refused_and_nothing_changes(tmp_path: Path, seed: int) -> None:
    post = Post(tmp_path, seed)
    post.hear(20)
    made = daily(post.source, post.backups, NOW)
    content = bytearray(made.path.read_bytes())
    if seed % 2:
        content[post.rng.randrange(len(content))] ^= 1 << post.rng.randrange(8)
    else:
        del content[post.rng.randrange(len(content)) :]
    made.path.write_bytes(content)
    place = Place(
        database=tmp_path / "new" / "station.db", ledger=tmp_path / "new" / "ledger", config=tmp_path / "c",
        key_file=tmp_path / "k", key=KEY,
    )  # fmt: skip
    with pytest.raises(StoreError):
        restore(made.path, place, Opener(station_key=KEY), epoch="e", is_replacing=False)
    assert not place.database.exists()


def test_as_many_archives_stay_as_are_asked_for_whatever_the_clock_says(tmp_path: Path) -> None:
    post = Post(tmp_path, 10)
    post.hear(5)
    years = (2026, 1970, 2026, 2031)
    made = [daily(post.source, post.backups, NOW.replace(year=year), kept=3) for year in years]
    assert newest(post.backups / "daily") == [each.path for each in reversed(made[1:])]
