"""What is removed when the disk runs full, and what never is."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from edge.ingest.decode import CONSUMER
from edge.ops.backup import Source, hourly, newest
from edge.ops.room import Room
from edge.store import outbox
from edge.store.ledger import DAY_MS, Entry, Ledger, LedgerReader
from edge.store.store import SpatialiteStore
from edge.store.undecoded_frames import Undecoded
from shared.clock import ClockState
from shared.domain import NewFix
from shared.sync.records import from_ms, to_ms
from tests.fakes import START, FakeClock
from tests.integration.station_store import EUI, KEY, fix_of, opened

pytestmark = pytest.mark.integration


class Disk(NamedTuple):
    """A medium."""

    total: int
    free: int


ROOMY, SCARCE = Disk(100, 50), Disk(100, 5)


class Post:
    """A station whose ledger has one segment a day, the newest of today."""

    def __init__(self, folder: Path, store: SpatialiteStore, days: int) -> None:
        self.store = store
        self.clock = FakeClock(START + timedelta(days=days))
        self.usage = SCARCE
        self.ledger = Ledger(folder / "ledger", KEY, boot="a", segment_bytes=1)
        for day in range(days):
            at_ms = to_ms(START) + day * DAY_MS
            self.ledger.append([Entry("radio", "cobs", "", b"%d" % day, at_ms, 0, "ntp")])
        self.room = Room(
            store, self._remove_before, self.clock, consumer=CONSUMER, database=folder / "station.db",
            ledger=folder / "ledger", backups=folder / "backup", usage=lambda _: self.usage,
        )  # fmt: skip
        self._folder = folder

    async def _remove_before(self, seq: int, before_ms: int) -> int:
        return self.ledger.remove_before(seq, before_ms)

    async def decoded(self, fixes: list[NewFix], *, through: int, undecoded: int | None = None) -> None:
        unread = [Undecoded(undecoded, "radio", "cobs", "", "why", START, 1, b"x")] if undecoded else []
        await self.store.take_decoded(CONSUMER, through, fixes, [], unread)

    async def enrol(self, receipt_day: int) -> None:
        def job(db: object) -> None:
            outbox.enrol(
                db, url="https://cloud", station_id="s", private_key=bytes(32), cloud_epoch="c", epoch="e", now_ms=0
            )
            db.execute("UPDATE enrolment SET last_receipt_ms = ?", (to_ms(START) + receipt_day * DAY_MS,))  # type: ignore[attr-defined] # a connection
            db.execute("DELETE FROM outbox")  # type: ignore[attr-defined] # as if the cloud had it all

        await self.store.write(job)

    def kept(self) -> list[int]:
        with closing(LedgerReader(self._folder / "ledger", KEY)) as reader:
            return [int(row.payload) for row in reader.read(0, 1000)]


async def test_raw_frames_go_when_they_are_confirmed_and_old_or_the_disk_is_full(tmp_path: Path) -> None:
    async with opened(tmp_path / "station.db", FakeClock()) as store:
        post = Post(tmp_path, store, 100)
        await post.decoded([], through=100)
        await post.enrol(receipt_day=100)
        post.usage = ROOMY
        assert (await post.room.turn()).segments > 0
        assert post.kept()[0] in (9, 10), "what is 90 days old"
        post.usage = SCARCE
        await post.room.turn()
        assert post.kept()[0] in (97, 98), "what is two days old"
        assert post.kept()[-1] == 99
        post.ledger.close()


@pytest.mark.parametrize("why", ["no cloud", "not decoded", "waiting", "undecoded", "clock"])
async def test_a_frame_that_somebody_may_need_is_never_removed(tmp_path: Path, why: str) -> None:
    async with opened(tmp_path / "station.db", FakeClock()) as store:
        post = Post(tmp_path, store, 100)
        through = 5 if why == "not decoded" else 100
        await post.decoded([], through=through, undecoded=6 if why == "undecoded" else None)
        if why != "no cloud":
            await post.enrol(receipt_day=100)
        if why == "waiting":
            await post.decoded([fix_of(EUI, from_ms(to_ms(START) + 5 * DAY_MS))], through=100)
        if why == "clock":
            post.clock.set_state(ClockState.HELD)
        await post.room.turn()
        assert 5 in post.kept()
        assert post.kept()[-1] == 99
        post.ledger.close()


async def test_older_copies_on_the_same_medium_go_first_and_the_newest_stays(tmp_path: Path) -> None:
    async with opened(tmp_path / "station.db", FakeClock()) as store:
        post = Post(tmp_path, store, 1)
        source = Source(station="s", database=tmp_path / "station.db", ledger=tmp_path / "ledger", key=KEY)
        made = [await asyncio.to_thread(hourly, source, tmp_path / "backup", START) for _ in range(3)]
        (tmp_path / "station.db.schema-3").write_bytes(b"older")
        assert (await post.room.turn()).copies == 3
        assert newest(tmp_path / "backup" / "hourly") == [made[-1].path]
        assert not (tmp_path / "station.db.schema-3").exists()
        post.usage = ROOMY
        assert (await post.room.turn()).is_nothing
        post.ledger.close()
