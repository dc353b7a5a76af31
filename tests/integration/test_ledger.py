"""The ledger over real encrypted segments: every frame once a day, in order, through restarts, rotation and damage."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edge.store.driver import connect
from edge.store.ledger import DAY_MS, SCHEMA, Entry, Ledger, LedgerReader, Row, check_key
from shared.errors import DatabaseCorrupt, SchemaTooNew, StoreError, StoreFull, WrongKey

pytestmark = pytest.mark.integration

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
DAY = 20_000
PAGE_BYTES = 4096


def entry(payload: bytes, *, day: int = DAY, ms: int = 0, link: str = "base", topic: str = "") -> Entry:
    return Entry(link, "cobs", topic, payload, day * DAY_MS + ms, 1, "ntp", "eui:01")


def entries(count: int, *, seed: int = 1, size_bytes: int = 200, day: int = DAY) -> list[Entry]:
    rng = random.Random(seed)
    return [entry(rng.randbytes(size_bytes), day=day, ms=index) for index in range(count)]


@contextmanager
def opened(
    folder: Path, key: bytes | None = KEY, *, segment_bytes: int = 50_000, is_key_proven: bool = False
) -> Iterator[Ledger]:
    ledger = Ledger(folder, key, boot="b", segment_bytes=segment_bytes, is_key_proven=is_key_proven)
    try:
        yield ledger
    finally:
        ledger.close()


def read_all(folder: Path, key: bytes | None = KEY, *, limit: int = 100) -> tuple[list[Row], dict[Path, str]]:
    rows: list[Row] = []
    with closing(LedgerReader(folder, key)) as reader:
        while found := reader.read(rows[-1].seq if rows else 0, limit):
            assert len(found) <= limit
            rows += found
        return rows, reader.damaged


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("ledger-*.db"))


def filled(folder: Path, days: int, frames_a_day: int = 100) -> list[Entry]:
    """Fill a ledger with a segment a day; return what was appended."""
    sent: list[Entry] = []
    with opened(folder, segment_bytes=1) as ledger:
        for day in range(days):
            batch = entries(frames_a_day, seed=day, day=DAY + day)
            ledger.append(batch)
            sent += batch
    assert len(segments(folder)) == days
    return sent


def overwrite(path: Path, *pages: int, seed: int = 1) -> None:
    """Overwrite pages with noise; negative ones count from the end."""
    data = bytearray(path.read_bytes())
    rng = random.Random(seed)
    for page in pages:
        start = (page % (len(data) // PAGE_BYTES)) * PAGE_BYTES
        data[start : start + PAGE_BYTES] = rng.randbytes(PAGE_BYTES)
    path.write_bytes(data)


# --- what is appended
def test_a_frame_comes_back_as_it_was_heard(tmp_path: Path) -> None:
    heard = Entry("broker", "mqtt", "a/b", b"\x00payload\xff", DAY * DAY_MS + 5, 77, "held", "eui:aa")
    with opened(tmp_path) as ledger:
        assert ledger.append([heard]) == 1
    rows, damaged = read_all(tmp_path)
    assert rows == [Row(1, "broker", "mqtt", "a/b", "eui:aa", b"\x00payload\xff", DAY * DAY_MS + 5, "held", 1)]
    assert damaged == {}


def test_seq_grows_across_appends_restarts_and_segments(tmp_path: Path) -> None:
    seqs = []
    for day in range(6):
        with opened(tmp_path, segment_bytes=1) as ledger:
            seqs += [ledger.append(entries(3, seed=day, day=DAY + day)), ledger.append(entries(2, seed=-day - 1))]
            assert ledger.last_seq == seqs[-1]
    assert seqs == sorted(set(seqs))
    assert len(segments(tmp_path)) > 3
    rows, _ = read_all(tmp_path)
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})
    assert rows[-1].seq == seqs[-1]
    assert len(rows) == 30


def test_nothing_appended_is_nothing_committed(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        assert ledger.append([]) == 0
        ledger.append(entries(2))
        assert ledger.append([]) == 2


@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "plain"])
def test_identical_frames_of_a_link_and_day_are_one_row_with_a_count(tmp_path: Path, key: bytes | None) -> None:
    with opened(tmp_path, key) as ledger:
        ledger.append([entry(b"a"), entry(b"b", ms=1), entry(b"a", ms=2)])
        newest = ledger.append([entry(b"a", ms=DAY_MS - 1), entry(b"b", ms=9)])
        assert newest == ledger.last_seq
        assert ledger.facts().frames == 2
    with opened(tmp_path, key) as ledger:
        ledger.append([entry(b"a", ms=3)])
        assert ledger.facts().frames == 2
    rows, _ = read_all(tmp_path, key)
    assert [(row.payload, row.copies, row.received_ms) for row in rows] == [
        (b"a", 4, DAY * DAY_MS),
        (b"b", 2, DAY * DAY_MS + 1),
    ]


def test_the_same_bytes_on_another_link_topic_framing_or_day_are_another_frame(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        other = Entry("base", "kiss", "", b"a", DAY * DAY_MS, 1, "ntp")
        ledger.append([entry(b"a"), entry(b"a", link="two"), entry(b"a", topic="t"), other, entry(b"a", day=DAY + 1)])
        assert ledger.facts().frames == 5


def test_copies_are_counted_though_the_clock_steps_back_a_day(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=10**9) as ledger:
        for day in (DAY, DAY - 1, DAY, DAY - 1):
            ledger.append([entry(b"a", day=day), entry(b"b", day=day)])
    rows, _ = read_all(tmp_path)
    assert [(row.payload, row.received_ms // DAY_MS, row.copies) for row in rows] == [
        (b"a", DAY, 2), (b"b", DAY, 2), (b"a", DAY - 1, 2), (b"b", DAY - 1, 2),
    ]  # fmt: skip


def test_new_frames_after_copies_keep_their_order(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        for count in range(1, 8):  # each batch is the last one and a new frame
            ledger.append([entry(bytes([index])) for index in range(count)])
        assert ledger.facts().frames == 7
    rows, _ = read_all(tmp_path)
    assert [row.payload[0] for row in rows] == list(range(7))
    assert [row.copies for row in rows] == [7, 6, 5, 4, 3, 2, 1]


# --- rotation
def test_a_segment_is_closed_on_a_new_day_once_it_is_large(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=100_000) as ledger:
        ledger.append(entries(10, day=DAY))
        ledger.append(entries(10, day=DAY + 1))
        assert ledger.facts().segments == 1  # a new day alone closes nothing
        ledger.append(entries(6000, seed=2, size_bytes=800, day=DAY + 1))
        ledger.append(entries(10, seed=3, day=DAY + 1))
        assert ledger.facts().segments == 1  # nor does size: a copy must find its first
        ledger.append(entries(10, seed=4, day=DAY + 2))
        assert ledger.facts().segments == 2
        assert ledger.facts().frames == 6040


def test_a_segment_is_closed_when_it_is_old(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        for day in range(7):
            ledger.append([entry(b"a", day=DAY + day)])
        assert ledger.facts().segments == 1
        ledger.append([entry(b"a", day=DAY + 7)])
        assert ledger.facts().segments == 2


def test_a_restart_knows_how_old_the_open_segment_is(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.append([entry(b"a", day=DAY)])
    with opened(tmp_path) as ledger:
        ledger.append([entry(b"a", day=DAY + 7)])
        assert ledger.facts().segments == 2


def test_a_closed_segment_is_never_written_again(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    before = segments(tmp_path)[0].read_bytes()
    with opened(tmp_path) as ledger:
        ledger.append(entries(10, seed=9, day=DAY + 1))
    read_all(tmp_path)
    assert segments(tmp_path)[0].read_bytes() == before


# --- reading
@pytest.mark.parametrize("limit", [1, 7, 99, 100, 101, 1000])
def test_reading_goes_through_the_segments_in_order(tmp_path: Path, limit: int) -> None:
    sent = filled(tmp_path, 3, 60)
    rows, _ = read_all(tmp_path, limit=limit)
    assert [row.payload for row in rows] == [each.payload for each in sent]


def test_a_reader_sees_what_is_appended_after_it_has_come_to_the_end(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=1) as ledger, closing(LedgerReader(tmp_path, KEY)) as reader:
        assert reader.read(0, 10) == []
        for day in range(3):
            seq = ledger.append([entry(b"a", day=DAY + day)])
            assert [row.seq for row in reader.read(seq - 1, 10)] == [seq]
            assert reader.read(seq, 10) == []


def test_a_segment_that_is_just_being_made_is_empty_to_a_reader(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    connect(tmp_path / "ledger-000000000101.db", KEY, is_spatial=False).close()
    with closing(LedgerReader(tmp_path, KEY)) as reader:
        assert len(reader.read(0, 1000)) == 100
        assert reader.read(100, 10) == []
    with opened(tmp_path) as ledger:  # a power cut left it so: it is used
        assert ledger.append([entry(b"x")]) == 101
    assert len(segments(tmp_path)) == 2


def test_a_ledger_that_does_not_exist_yet_holds_nothing(tmp_path: Path) -> None:
    with closing(LedgerReader(tmp_path / "none", KEY)) as reader:
        assert reader.read(0, 10) == []
        reader.check()
    check_key(tmp_path / "none", KEY)


# --- keys and versions
def test_another_key_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for key in (OTHER_KEY, None):
        with pytest.raises(WrongKey):
            Ledger(tmp_path, key, boot="b")
        with pytest.raises(WrongKey):
            check_key(tmp_path, key)
    check_key(tmp_path, KEY)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_payloads_are_not_readable_in_the_file(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.append([entry(b"a position that kills")])
        ledger.append([entry(b"and another")])
        for path in tmp_path.iterdir():
            assert b"position that kills" not in path.read_bytes()


def test_a_ledger_of_a_later_version_is_refused_and_untouched(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    (path,) = segments(tmp_path)
    connection = connect(path, KEY, is_spatial=False)
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match=f"schema {SCHEMA + 1}"):
        Ledger(tmp_path, KEY, boot="b")
    with closing(LedgerReader(tmp_path, KEY)) as reader, pytest.raises(SchemaTooNew):
        reader.read(0, 10)
    assert path.read_bytes() == before


# --- damage
@pytest.mark.parametrize("pages", [(0,), (1, 2), (-1,), (3, 4, 5)], ids=["first", "second", "last", "middle"])
def test_a_damaged_newest_segment_is_set_aside_and_appending_goes_on(tmp_path: Path, pages: tuple[int, ...]) -> None:
    filled(tmp_path, 2)
    newest = segments(tmp_path)[-1]
    overwrite(newest, *pages)
    evidence = newest.read_bytes()
    with opened(tmp_path, is_key_proven=True) as ledger:
        assert ledger.set_aside == [newest]
        assert ledger.append([entry(b"after", day=DAY + 9)]) > 200
    with opened(tmp_path) as ledger:  # and again after a restart
        ledger.append([entry(b"later", day=DAY + 9)])
    assert newest.read_bytes() == evidence
    rows, damaged = read_all(tmp_path)
    assert [row.payload for row in rows[-2:]] == [b"after", b"later"]
    assert list(damaged) == [newest]
    with closing(LedgerReader(tmp_path, KEY)) as reader, pytest.raises((DatabaseCorrupt, WrongKey)):
        reader.check()


def test_one_segment_that_opens_proves_the_key_for_the_damaged_newest(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    overwrite(segments(tmp_path)[-1], 0)
    check_key(tmp_path, KEY)
    with opened(tmp_path) as ledger:
        assert ledger.set_aside == [segments(tmp_path)[1]]
    with pytest.raises(WrongKey):
        Ledger(tmp_path, OTHER_KEY, boot="b")


@pytest.mark.parametrize("pages", [(0,), (1, 2)], ids=["header", "schema"])
def test_a_closed_segment_that_is_lost_does_not_hold_up_newer_frames(tmp_path: Path, pages: tuple[int, ...]) -> None:
    sent = filled(tmp_path, 3)
    lost = segments(tmp_path)[1]
    overwrite(lost, *pages)
    evidence = lost.read_bytes()
    with opened(tmp_path) as ledger:
        assert ledger.set_aside == [lost]
        assert ledger.append([entry(b"new", day=DAY + 2)]) == 301
    rows, damaged = read_all(tmp_path)
    kept = [each.payload for each in (*sent[:100], *sent[200:])]
    assert [row.payload for row in rows] == [*kept, b"new"]
    assert list(damaged) == [lost]
    assert lost.read_bytes() == evidence


@pytest.mark.parametrize("limit", [1, 30, 500])
def test_a_bad_page_costs_the_frames_on_it_and_no_others(tmp_path: Path, limit: int) -> None:
    sent = filled(tmp_path, 3, 400)
    damaged_segment = segments(tmp_path)[1]
    pages = damaged_segment.stat().st_size // PAGE_BYTES
    overwrite(damaged_segment, pages // 2)
    rows, damaged = read_all(tmp_path, limit=limit)
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})
    assert {row.payload for row in rows} <= {each.payload for each in sent}
    assert 1200 - 40 <= len(rows) < 1200  # a page holds some fifteen frames
    assert list(damaged) == [damaged_segment]


def test_damage_under_the_open_segment_moves_appending_to_a_new_one(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.append(entries(2000))
    (path,) = segments(tmp_path)
    with opened(tmp_path) as ledger:
        overwrite(path, *range(40, path.stat().st_size // PAGE_BYTES))
        ledger._connection.execute("PRAGMA shrink_memory")  # nothing is answered from the cache
        for seed in range(2, 12):
            ledger.append(entries(50, seed=seed))
        assert ledger.set_aside == [path]
        assert ledger.last_seq == 2500
        rows, _ = read_all(tmp_path)
    assert len([row for row in rows if row.seq > 2000]) == 500


# --- a full disk
def test_rotation_that_finds_no_room_refuses_and_recovers(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=1) as ledger:
        ledger.append(entries(10))
        blocker = tmp_path / "ledger-000000000011.db"
        blocker.mkdir()  # the new segment cannot be made
        for _ in range(3):
            with pytest.raises(StoreError):
                ledger.append([entry(b"new", day=DAY + 1)])
        assert ledger.last_seq == 10
        blocker.rmdir()
        assert ledger.append([entry(b"new", day=DAY + 1)]) == 11
    rows, _ = read_all(tmp_path)
    assert len(rows) == 11


def test_a_full_disk_refuses_whole_and_recovers(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.append(entries(10))
        connection = ledger._connection  # the driver's own bound stands in for the disk
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(StoreFull):
            ledger.append(entries(500, seed=2))
        assert ledger.last_seq == 10
        assert ledger.facts().frames == 10
        connection.execute(f"PRAGMA max_page_count = {2**30}")
        assert ledger.append(entries(500, seed=2)) == 510
    rows, _ = read_all(tmp_path)
    assert len(rows) == 510


# --- removal and facts
def test_removal_takes_whole_old_segments_that_every_consumer_has_passed(tmp_path: Path) -> None:
    filled(tmp_path, 4)
    end_of = [(DAY + day + 1) * DAY_MS for day in range(4)]
    with opened(tmp_path) as ledger:
        assert ledger.remove_before(99, end_of[3]) == 0  # the consumer is one frame short of the first
        assert ledger.remove_before(400, DAY * DAY_MS) == 0  # nothing is old enough
        assert ledger.remove_before(250, end_of[3]) == 2
        assert ledger.remove_before(400, end_of[1]) == 0
        assert ledger.remove_before(10**9, end_of[3]) == 1  # the open segment always stays
        assert ledger.facts().frames == 100
        assert ledger.append([entry(b"new", day=DAY + 3)]) == 401
    rows, _ = read_all(tmp_path)
    assert [row.seq for row in rows] == list(range(301, 402))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_copy_heard_lately_keeps_its_segment(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=1) as ledger:
        ledger.append([entry(b"a", ms=1)])
        ledger.append([entry(b"a", ms=5000)])
        ledger.append([entry(b"b", day=DAY + 1)])
        assert ledger.remove_before(1, DAY * DAY_MS + 5000) == 0
        assert ledger.remove_before(1, DAY * DAY_MS + 5001) == 1


def test_a_damaged_segment_is_never_removed_and_stops_no_removal(tmp_path: Path) -> None:
    filled(tmp_path, 4)
    lost = segments(tmp_path)[1]
    overwrite(lost, 0)
    with opened(tmp_path) as ledger:
        assert ledger.remove_before(10**9, (DAY + 9) * DAY_MS) == 2
    assert segments(tmp_path)[0] == lost


def test_facts_are_what_is_there(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    with opened(tmp_path) as ledger:
        facts = ledger.facts()
        assert (facts.segments, facts.frames, facts.last_seq) == (3, 300, 300)
        assert facts.size_bytes >= sum(path.stat().st_size for path in segments(tmp_path))
