"""From the ledger to the fixes: decoded once whatever is restarted; what cannot be read is listed with the reason."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge.ingest.decode import CONSUMER, Decoder, decode_rows, redecode
from edge.ingest.receive import discipline
from edge.store.fixes import StoredFix
from edge.store.ledger import Entry, Ledger, LedgerReader, Row
from edge.store.store import SpatialiteStore
from edge.store.undecoded_frames import Undecoded
from firmware_bridge.codecs.lora_packet import pack_lp0
from firmware_bridge.codecs.opencollar import PORT_SHORT, PORT_STATUS, encode_short, encode_status
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.frames import Frame
from shared.clock import ClockState, StationClock
from shared.domain import Fix
from shared.errors import StoreFull
from shared.store import FixQuery
from shared.sync.records import to_ms
from tests.fakes import START, FakeClock
from tests.integration.ingesting import EUI, HOUR, KEY, VIEW, FakeLink, json_fix, station_frame, task
from tests.waiting import until

pytestmark = pytest.mark.integration


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
