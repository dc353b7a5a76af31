"""From a link to the fixes: acknowledged after the commit and never before, decoded once whatever is restarted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.ingest.decode import CONSUMER, Decoder, decode_rows, redecode
from edge.ingest.group_commit import MAX_FRAMES, LedgerWriter
from edge.ingest.receive import discipline, receipt_for, receive
from edge.store.fixes import StoredFix
from edge.store.ledger import Entry, Ledger, LedgerReader, Row
from edge.store.store import SpatialiteStore, Undecoded
from firmware_bridge.codecs.lora_packet import pack_lp0
from firmware_bridge.codecs.opencollar import PORT_SHORT, PORT_STATUS, encode_short, encode_status
from firmware_bridge.codecs.outpost_json import encode_fix
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.frames import Frame, Framing, Heard, LinkStatus
from shared.clock import ClockState, StationClock
from shared.domain import Fix
from shared.errors import LinkClosed, LinkError, StoreFull
from shared.privacy import OPERATOR, view_for
from shared.store import FixQuery
from shared.sync.records import to_ms
from tests.fakes import START, FakeClock

pytestmark = pytest.mark.integration

KEY = bytes(range(32))
VIEW = view_for(OPERATOR)
DEADLINE_S = 120.0
EUI = "0101010101010101"
HOUR = timedelta(hours=1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 (other threads make it true)
            await asyncio.sleep(0.002)


class FakeLink:
    """A wire that a test feeds; ``told`` hears of everything that is done to it."""

    def __init__(self, name: str = "base", told: list[str] | None = None, *, device: str = "") -> None:
        self.name = name
        self.device = device
        self.told: list[str] = [] if told is None else told
        self.acknowledged: list[Heard] = []
        self.published: list[tuple[str, bytes]] = []
        self.is_deaf = False
        self.reads = 0
        self._queue: asyncio.Queue[list[Heard] | None] = asyncio.Queue()

    @property
    def status(self) -> LinkStatus:
        return LinkStatus(name=self.name, kind="fake", address="")

    def hear(self, *payloads: bytes, framing: Framing = "cobs", topic: str = "") -> list[Heard]:
        heard = [Heard(Frame(framing, payload, topic), index) for index, payload in enumerate(payloads)]
        self._queue.put_nowait(heard)
        return heard

    async def read(self) -> list[Heard]:
        self.reads += 1
        heard = await self._queue.get()
        if heard is None:
            raise LinkClosed("closed")
        return heard

    async def acknowledge(self, heard: Sequence[Heard]) -> None:
        if self.is_deaf:
            raise LinkError("the peer is gone")
        self.told.append(f"acknowledged {len(heard)}")
        self.acknowledged += heard

    async def publish(self, topic: str, payload: bytes) -> None:
        self.told.append(f"published {topic}")
        self.published.append((topic, payload))

    async def close(self) -> None:
        self._queue.put_nowait(None)


class WatchedLedger(Ledger):
    """A ledger that tells of its commits, waits where a test says so, and is full as long as a test says so."""

    def __init__(self, folder: Path, told: list[str] | None = None) -> None:
        super().__init__(folder, KEY, boot="b", synchronous="NORMAL")
        self.told: list[str] = [] if told is None else told
        self.gate = threading.Event()
        self.gate.set()
        self.is_full = False
        self.commits: list[int] = []
        self.attempts = 0

    def append(self, entries: Sequence[Entry]) -> int:
        self.attempts += 1
        assert self.gate.wait(DEADLINE_S)
        if self.is_full:
            raise StoreFull("no room")
        seq = super().append(entries)
        self.commits.append(len(entries))
        self.told.append(f"committed {len(entries)}")
        return seq


def station_frame(hours: int = 0, *, eui: str = EUI, lon: float = 37.5) -> bytes:
    message = encode_short(recorded_at=START + hours * HOUR, lat_deg=-2.5, lon_deg=lon, h_acc_m=5.0)
    return pack_station_frame(eui, PORT_SHORT, -90, 7.5, message)


def json_fix(hours: int = 0, collar_id: str = "K1", **fields: float | None) -> bytes:
    return encode_fix(collar_id=collar_id, recorded_at=START + hours * HOUR, lon_deg=37.5, lat_deg=-2.5, **fields)


@asynccontextmanager
async def writing(folder: Path, told: list[str] | None = None) -> AsyncIterator[tuple[LedgerWriter, WatchedLedger]]:
    ledger = WatchedLedger(folder, told)
    writer = LedgerWriter(ledger)
    try:
        yield writer, ledger
    finally:
        ledger.gate.set()
        await writer.close()


@asynccontextmanager
async def task(work: Any) -> AsyncIterator[asyncio.Task[None]]:
    running = asyncio.create_task(work)
    try:
        yield running
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def nothing() -> None:
    pass


# --- the order of events
async def test_a_receipt_goes_out_after_the_commit_and_the_acknowledgement_comes_last(tmp_path: Path) -> None:
    told: list[str] = []
    link = FakeLink(told=told)
    async with writing(tmp_path, told) as (writer, ledger):
        ledger.gate.clear()
        async with task(receive(link, writer, FakeClock(), lambda: told.append("woke the decoder"))) as running:
            link.hear(json_fix(), topic="outpost/station/gate/fix", framing="mqtt")
            await until(lambda: ledger.attempts == 1)
            assert told == []  # the commit is under way and nobody has been told anything
            ledger.gate.set()
            await until(lambda: len(told) == 4)
            assert told == ["committed 1", "woke the decoder", "published outpost/station/gate/ack", "acknowledged 1"]
            await link.close()
            await running


async def test_copies_get_one_receipt_and_are_acknowledged_after_it(tmp_path: Path) -> None:
    link = FakeLink()
    async with writing(tmp_path) as (writer, _), task(receive(link, writer, FakeClock(), nothing)):
        copies = [json_fix(hours) for _ in range(100) for hours in range(3)]
        link.hear(*copies, topic="outpost/station/gate/fix", framing="mqtt")
        await until(lambda: len(link.acknowledged) == 300)
        assert link.told == ["published outpost/station/gate/ack"] * 3 + ["acknowledged 300"]
        assert len({body for _, body in link.published}) == 3


async def test_what_was_heard_is_in_the_ledger_with_time_clock_and_device(tmp_path: Path) -> None:
    link, clock = FakeLink(device="eui:aa"), FakeClock(state=ClockState.HELD)
    async with writing(tmp_path) as (writer, _), task(receive(link, writer, clock, nothing)):
        link.hear(b"one", b"two")
        await until(lambda: len(link.acknowledged) == 2)
        reader = LedgerReader(tmp_path, KEY)
        rows = reader.read(0, 10)
        reader.close()
    assert [(row.payload, row.device, row.received_ms, row.clock, row.link) for row in rows] == [
        (b"one", "eui:aa", to_ms(START), "held", "base"), (b"two", "eui:aa", to_ms(START), "held", "base"),
    ]  # fmt: skip


async def test_a_full_disk_acknowledges_nothing_holds_the_frames_and_recovers(tmp_path: Path) -> None:
    link = FakeLink()
    async with writing(tmp_path) as (writer, ledger), task(receive(link, writer, FakeClock(), nothing)):
        ledger.is_full = True
        first, second = link.hear(b"one"), link.hear(b"two")
        await until(lambda: ledger.attempts == 2)  # it has tried again
        assert str(writer.refusal) == "no room"
        assert link.reads == 1  # back-pressure: it reads no more
        assert not link.acknowledged
        ledger.is_full = False
        await until(lambda: len(link.acknowledged) == 2)
        assert link.acknowledged == [*first, *second]
        assert writer.refusal is None
        assert (await writer.facts()).frames == 2


async def test_a_peer_that_is_gone_at_the_acknowledgement_costs_nothing(tmp_path: Path) -> None:
    link = FakeLink()
    async with writing(tmp_path) as (writer, ledger), task(receive(link, writer, FakeClock(), nothing)):
        link.is_deaf = True
        link.hear(b"one")
        await until(lambda: ledger.commits == [1] and link.reads == 2)
        link.is_deaf = False
        link.hear(b"one")  # sent again
        await until(lambda: len(link.acknowledged) == 1)
        assert (await writer.facts()).frames == 1


# --- group commit
async def test_frames_of_many_links_share_few_commits(tmp_path: Path) -> None:
    async with writing(tmp_path) as (writer, ledger):
        ledger.gate.clear()
        entries = [Entry(f"l{n}", "cobs", "", b"x", to_ms(START), 0, "ntp") for n in range(50)]
        first = asyncio.create_task(writer.append(entries[:1]))
        await until(lambda: ledger.attempts == 1)
        waiting = [first, *(asyncio.create_task(writer.append([entry])) for entry in entries[1:])]
        await asyncio.sleep(0)
        assert not any(each.done() for each in waiting)
        ledger.gate.set()
        seqs = await asyncio.gather(*waiting)
        assert ledger.commits == [1, 49]
        assert sorted(set(seqs)) == [1, 50]


async def test_a_commit_is_bounded_and_loses_nothing(tmp_path: Path) -> None:
    async with writing(tmp_path) as (writer, ledger):
        ledger.gate.clear()

        def batch(seed: int) -> list[Entry]:
            payloads = (b"%d %d" % (seed, n) for n in range(300))
            return [Entry("l", "cobs", "", payload, to_ms(START), 0, "ntp") for payload in payloads]

        waiting = [asyncio.create_task(writer.append(batch(seed))) for seed in range(20)]
        await until(lambda: ledger.attempts == 1)
        ledger.gate.set()
        await asyncio.gather(*waiting)
        assert sum(ledger.commits) == 6000
        assert max(ledger.commits) < MAX_FRAMES + 300
        assert (await writer.facts()).frames == 6000


async def test_a_refused_commit_is_told_to_those_whose_frames_it_held_alone(tmp_path: Path) -> None:
    async with writing(tmp_path) as (writer, ledger):
        ledger.is_full = True
        with pytest.raises(StoreFull):
            await writer.append([Entry("l", "cobs", "", b"x", to_ms(START), 0, "ntp")])
        ledger.is_full = False
        assert await writer.append([Entry("l", "cobs", "", b"y", to_ms(START), 0, "ntp")]) == 1


async def test_closing_commits_what_waits_though_nobody_waits_for_it(tmp_path: Path) -> None:
    async with writing(tmp_path) as (writer, ledger):
        ledger.gate.clear()
        waiting = asyncio.create_task(writer.append([Entry("l", "cobs", "", b"x", to_ms(START), 0, "ntp")]))
        await until(lambda: ledger.attempts == 1)
        waiting.cancel()
        ledger.gate.set()
    reader = LedgerReader(tmp_path, KEY)
    assert len(reader.read(0, 10)) == 1
    reader.close()


# --- receipts
def test_a_receipt_names_the_digest_and_the_fix() -> None:
    payload = json_fix(seq=7)
    receipt = receipt_for(Frame("mqtt", payload, "outpost/station/gate/fix"))
    assert receipt is not None
    assert receipt[0] == "outpost/station/gate/ack"
    assert json.loads(receipt[1]) == {
        "sha256": hashlib.sha256(payload).hexdigest(), "status": "kept", "collar_id": "K1",
        "recorded_at": "2026-06-01T12:00:00Z", "seq": 7,
    }  # fmt: skip


def test_a_receipt_of_what_cannot_be_read_says_that_it_is_kept_and_why() -> None:
    receipt = receipt_for(Frame("mqtt", b"not json", "outpost/station/gate/fix"))
    assert receipt is not None
    body = json.loads(receipt[1])
    assert body["sha256"] == hashlib.sha256(b"not json").hexdigest()
    assert body["status"] == "undecoded"
    assert body["detail"]


@pytest.mark.parametrize("topic", ["", "application/1/device/0101010101010101/event/up", "outpost/s/g/ack", "x/fix"])
def test_nobody_else_gets_a_receipt(topic: str) -> None:
    assert receipt_for(Frame("mqtt" if topic else "cobs", b"{}", topic)) is None


# --- decoding
@pytest.fixture(scope="module")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("new") / "station.db"
    SpatialiteStore(path, KEY, now=FakeClock().now).close_now()
    return path.read_bytes()


class WatchedStore(SpatialiteStore):
    """A store whose decoder waits, or is refused, where a test says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, KEY, now=FakeClock().now, synchronous="NORMAL")
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_full = False
        self.attempts = 0

    async def take_decoded(self, *args: Any, **kwargs: Any) -> list[StoredFix]:
        self.attempts += 1
        await self.gate.wait()
        if self.is_full:
            raise StoreFull("no room")
        return await super().take_decoded(*args, **kwargs)


@pytest.fixture
async def store(tmp_path: Path, new_database: bytes) -> AsyncIterator[WatchedStore]:
    path = tmp_path / "station.db"
    path.write_bytes(new_database)
    store = WatchedStore(path)
    yield store
    await store.close()


class Bench:
    """A ledger in which a test writes frames, and the store that a decoder fills from it."""

    def __init__(self, folder: Path, store: WatchedStore) -> None:
        self.folder = folder
        self.store = store
        self.ledger = Ledger(folder, KEY, boot="b", synchronous="NORMAL")
        self.announced: list[StoredFix] = []

    def heard(self, *frames: Frame, link: str = "base", device: str = "", at: datetime = START) -> int:
        return self.ledger.append(
            [Entry(link, frame.framing, frame.topic, frame.payload, to_ms(at), 0, "ntp", device) for frame in frames]
        )

    def reader(self) -> LedgerReader:
        return LedgerReader(self.folder, KEY)

    @asynccontextmanager
    async def decoding(self, reader: LedgerReader | None = None) -> AsyncIterator[Decoder]:
        decoder = Decoder(reader or self.reader(), self.store, self.announced.extend)
        async with task(decoder.run()):
            yield decoder
        await decoder.close()

    async def decode_all(self) -> None:
        async with self.decoding() as decoder:
            await until(lambda: decoder.position == self.ledger.last_seq)

    async def fixes(self) -> list[Fix]:
        return (await self.store.fixes(VIEW, FixQuery(ordering="timestamp", limit=1000))).results


@pytest.fixture
def bench(tmp_path: Path, store: WatchedStore) -> Any:
    bench = Bench(tmp_path / "ledger", store)
    yield bench
    bench.ledger.close()


def cobs(payload: bytes) -> Frame:
    return Frame("cobs", payload)


def own_json(payload: bytes) -> Frame:
    return Frame("mqtt", payload, "outpost/station/gate/fix")


async def test_frames_become_fixes_with_what_the_link_knew(bench: Bench) -> None:
    bench.heard(cobs(station_frame()), own_json(json_fix(1, hdop=1.5, battery_mv=3600)))
    await bench.decode_all()
    first, second = await bench.fixes()
    assert (first.collar_id, first.rssi_dbm, first.snr_db, first.link) == (f"eui:{EUI}", -90.0, 7.5, "base")
    assert (second.collar_id, second.hdop, second.battery_mv, second.received_at) == ("K1", 1.5, 3600, START)
    assert [fix.outcome for fix in bench.announced] == ["new", "new"]
    assert (await bench.store.collar(VIEW, "K1")).battery_mv == 3600


async def test_a_payload_that_names_no_device_is_the_links_own(bench: Bench) -> None:
    bare = encode_short(recorded_at=START, lat_deg=-2.5, lon_deg=37.5)
    bench.heard(cobs(bare), device="eui:aa")
    bench.heard(cobs(bare), link="cable")
    await bench.decode_all()
    assert {fix.collar_id for fix in await bench.fixes()} == {"eui:aa", "link:cable"}


async def test_a_status_tells_of_the_collar_and_stores_no_fix(bench: Bench) -> None:
    status = pack_station_frame(EUI, PORT_STATUS, -90, 7.5, encode_status(battery_mv=3650, temperature_c=30.0))
    bench.heard(cobs(status), at=START + HOUR)
    bench.heard(cobs(station_frame()), at=START + 2 * HOUR)
    await bench.decode_all()
    collar = await bench.store.collar(VIEW, f"eui:{EUI}")
    assert collar.battery_mv is not None
    assert abs(collar.battery_mv - 3650) <= 10
    assert collar.last_heard_at == START + 2 * HOUR
    assert len(await bench.fixes()) == 1


async def test_what_cannot_be_read_is_listed_and_costs_no_neighbour(bench: Bench) -> None:
    bench.heard(cobs(station_frame(0)), cobs(b"\x01short"), own_json(b"{}"), Frame("mqtt", b"?" * 99, "unknown/topic"))
    bench.heard(cobs(station_frame(1)))
    await bench.decode_all()
    assert len(await bench.fixes()) == 2
    listed = await bench.store.undecoded()
    assert [(each.ledger_seq, each.topic, each.size_bytes) for each in listed] == [
        (4, "unknown/topic", 99), (3, "outpost/station/gate/fix", 2), (2, "", 6),
    ]  # fmt: skip
    assert "unknown/topic" in listed[0].reason
    assert listed[0].head == b"?" * 64
    assert all(each.reason and each.received_at == START for each in listed)
    assert await bench.store.undecoded(limit=1) == listed[:1]


async def test_a_frame_leaves_the_list_when_a_codec_has_learnt_it(bench: Bench) -> None:
    # as an earlier version left it: the cursor is past a frame that nobody could read then
    seq = bench.heard(own_json(json_fix()))
    listed = Undecoded(seq, "base", "mqtt", "outpost/station/gate/fix", "no codec", START, 2, b"{}")
    await bench.store.take_decoded(CONSUMER, seq, [], [], [listed])
    await bench.decode_all()
    assert (await bench.fixes(), len(await bench.store.undecoded())) == ([], 1)
    reader = bench.reader()
    found = await redecode(reader, bench.store)
    assert (found.frames, found.fixes, found.new_fixes, found.undecoded) == (1, 1, 1, 0)
    assert await bench.store.undecoded() == []
    again = await redecode(reader, bench.store)
    assert (again.frames, again.new_fixes, again.enriched_fixes) == (1, 0, 0)
    reader.close()


async def test_decoding_again_changes_nothing(bench: Bench) -> None:
    bench.heard(*(cobs(station_frame(hours)) for hours in range(9)), cobs(b"junk"), own_json(json_fix(2, alt_m=5.0)))

    async def everything() -> list[Any]:
        tables = ("fixes", "collars", "undecoded", "outbox", "cursors", "counters")
        return [await bench.store.read(lambda db, t=t: db.execute(f"SELECT * FROM {t}").fetchall()) for t in tables]  # type: ignore[misc] # bound here

    await bench.decode_all()
    before = await everything()
    await bench.decode_all()
    assert await everything() == before
    reader = bench.reader()
    seen: list[int] = []
    found = await redecode(reader, bench.store, seen.append)
    reader.close()
    assert (found.frames, found.fixes, found.new_fixes, found.enriched_fixes, found.undecoded) == (11, 10, 0, 0, 1)
    assert seen == [11]
    assert await everything() == before


async def test_a_decoder_begins_where_the_last_one_ended(bench: Bench) -> None:
    for hours in range(5):
        bench.heard(cobs(station_frame(hours)))
        async with bench.decoding() as decoder:
            await until(lambda decoder=decoder: decoder.position == bench.ledger.last_seq)  # type: ignore[misc] # bound here
    assert len(await bench.fixes()) == 5
    assert [fix.outcome for fix in bench.announced] == ["new"] * 5  # each once, none again after a restart


async def test_a_decoder_that_is_woken_goes_on(bench: Bench) -> None:
    async with bench.decoding() as decoder:
        for hours in range(20):
            seq = bench.heard(cobs(station_frame(hours)))
            decoder.wake()
            if hours % 3:
                await until(lambda seq=seq: decoder.position == seq)  # type: ignore[misc] # bound here
        await until(lambda: decoder.position == bench.ledger.last_seq)
    assert len(await bench.fixes()) == 20


async def test_a_frame_that_comes_while_the_store_writes_does_not_wait_for_the_next(bench: Bench) -> None:
    class WatchedReader(LedgerReader):
        """A reader that counts how often it found nothing new."""

        empty = 0

        def read(self, after_seq: int, limit: int) -> list[Row]:
            rows = super().read(after_seq, limit)
            self.empty += not rows
            return rows

    reader = WatchedReader(bench.folder, KEY)
    async with bench.decoding(reader) as decoder:
        await until(lambda: reader.empty == 1)
        bench.store.gate.clear()
        bench.heard(cobs(station_frame(0)))
        decoder.wake()
        await until(lambda: bench.store.attempts == 1 and reader.empty == 2)  # it has looked ahead and seen nothing
        last = bench.heard(cobs(station_frame(1)))
        decoder.wake()
        bench.store.gate.set()
        await until(lambda: decoder.position == last)


async def test_a_store_without_room_is_tried_again(bench: Bench) -> None:
    bench.store.is_full = True
    last = bench.heard(cobs(station_frame(0)), cobs(station_frame(1)))
    async with bench.decoding() as decoder:
        await until(lambda: bench.store.attempts == 2)
        assert decoder.position == 0
        bench.store.is_full = False
        await until(lambda: decoder.position == last)
    assert len(await bench.fixes()) == 2


async def test_a_damaged_segment_is_passed_over_and_reported(bench: Bench) -> None:
    bench.heard(cobs(station_frame(0)))
    bench.ledger.close()
    (path,) = bench.folder.glob("*.db")
    path.write_bytes(bytes(8192))
    bench.ledger = Ledger(bench.folder, KEY, boot="b", is_key_proven=True)
    last = bench.heard(cobs(station_frame(1)))
    async with bench.decoding() as decoder:
        await until(lambda: decoder.position == last)
        assert list(decoder.damaged) == [path]
    assert len(await bench.fixes()) == 1


async def test_a_position_without_a_time_is_listed(bench: Bench) -> None:
    row = Row(1, "base", "nmea", "", "", b"$GPGGA,,0230.0,S,03730.0,E,1,08,1.0,100.0,M,0.0,M,,*66\r\n", 0, "ntp", 1)
    decoded = decode_rows([row])
    assert decoded.fixes == []
    assert [each.ledger_seq for each in decoded.undecoded] == [1]


# --- collars that do not tell the whole time
LPP = b64encode(b"\x01\x88" + (-25_000).to_bytes(3, "big", signed=True) + bytes.fromhex("05b8d8000000")).decode()


def chirpstack_lpp(time: str) -> Row:
    body = {
        "deviceInfo": {"devEui": EUI, "tags": {"payload": "cayenne_lpp"}}, "time": time, "fPort": 1, "data": LPP,
    }  # fmt: skip
    topic = f"application/a/device/{EUI}/event/up"
    return Row(1, "broker", "mqtt", topic, "", json.dumps(body).encode(), to_ms(START + HOUR), "ntp", 1)


def packet_radio(info: str, clock: str) -> Row:
    return Row(1, "radio", "aprs", "", "", f"COLLAR-7>APRS:{info}".encode(), to_ms(START + HOUR), clock, 1)


def test_a_collar_that_tells_no_time_has_the_networks() -> None:
    (fix,) = decode_rows([chirpstack_lpp(START.isoformat())]).fixes
    assert (fix.recorded_at, fix.network_time, fix.received_at) == (START, START, START + HOUR)
    assert (fix.lat_deg, fix.lon_deg) == (-2.5, 37.5)


def test_without_a_time_of_the_network_it_is_listed_and_never_given_the_stations() -> None:
    decoded = decode_rows([chirpstack_lpp("")])
    assert decoded.fixes == []
    assert [each.reason for each in decoded.undecoded] == ["a position without the device's time"]
    assert decode_rows([packet_radio("!0230.00S/03730.00E[", "ntp")]).fixes == []


def test_a_time_of_day_gets_its_date_from_a_sure_clock_and_from_no_other() -> None:
    said = (START + HOUR / 2).strftime("/%H%M%Sh0230.00S/03730.00E[")
    (fix,) = decode_rows([packet_radio(said, "ntp")]).fixes
    assert fix.recorded_at == START + HOUR / 2
    decoded = decode_rows([packet_radio(said, "unset")])
    assert decoded.fixes == []
    assert "no sure clock" in decoded.undecoded[0].reason


async def test_a_collar_of_a_new_format_is_listed_as_it_is_heard(bench: Bench) -> None:
    position = {"latitude_i": -25_000_000, "longitude_i": 375_000_000, "timestamp": int(START.timestamp())}
    body = json.dumps({"from": 0x7EFEEE00, "type": "position", "payload": position}).encode()
    gateways = ("!0a0b0c0d", "!0a0b0c0e")
    bench.heard(*(Frame("mqtt", body, f"msh/EU_868/2/json/LongFast/{gateway}") for gateway in gateways))
    await bench.decode_all()
    (fix,) = await bench.fixes()
    assert (fix.collar_id, fix.animal_id) == ("mesh:!7efeee00", None)
    collars = await bench.store.collars(VIEW, search=None, offset=0, limit=10)
    assert [collar.id for collar in collars.results] == ["mesh:!7efeee00"]


def offload(hours: int, rssi_dbm: int) -> Frame:
    message = encode_short(recorded_at=START + hours * HOUR, lat_deg=-2.5, lon_deg=37.5, h_acc_m=5.0)
    packet = b64encode(pack_lp0(7, PORT_SHORT, message)).decode()
    return Frame("lp0", json.dumps({"gatewayEui": "01", "rxpk": {"rssi": rssi_dbm, "data": packet}}).encode())


async def test_a_collar_that_offloads_its_memory_on_every_visit_is_stored_once(bench: Bench) -> None:
    for visit in range(3):
        bench.heard(*(offload(hours, -90 - visit) for hours in range(40)), at=START + (40 + visit) * HOUR)
    await bench.decode_all()
    fixes = await bench.fixes()
    assert len(fixes) == 40
    assert {fix.collar_id for fix in fixes} == {"lp0:00000007"}


# --- the station's own receiver
def sentence(text: str) -> bytes:
    checksum = 0
    for byte in text.encode():
        checksum ^= byte
    return f"${text}*{checksum:02X}\r\n".encode()


async def test_the_stations_own_receiver_sets_the_clock_and_stores_nothing() -> None:
    wall = datetime(2026, 6, 1, tzinfo=UTC)
    clock = StationClock(wall.timestamp, lambda: 0.0, built_at=wall)
    link = FakeLink("gnss")
    link.hear(b"noise", sentence("GPRMC,120000.00,V,,,,,,,010627,,,N"), framing="nmea")
    true = sentence("GPRMC,120000.00,A,0230.0000,S,03730.0000,E,0.0,0.0,010627,,,A")
    link.hear(true, framing="nmea")
    async with task(discipline(link, clock)) as running:
        await until(lambda: clock.state is ClockState.GNSS)
        assert clock.now() == datetime(2027, 6, 1, 12, tzinfo=UTC)
        await link.close()
        await running
    assert link.told == ["acknowledged 2", "acknowledged 1"]
