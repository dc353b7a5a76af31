"""Collars that reach the cloud over the internet: kept before anything is confirmed, stored once, sent to stations."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import psycopg
import pytest
from litestar import Litestar
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from cloud.accounts.secret import make_secret
from cloud.api.app import create_app
from cloud.app import running
from cloud.config import AccountsSection, Config, DatabaseSection, IngestSection, ThingsStackSection
from cloud.ingest.decode import Decoder, redecode
from cloud.ingest.directip import KEPT, NOT_KEPT, DirectIpServer
from cloud.ingest.ledger import LedgerWriter
from cloud.ingest.rockblock import MAX_BODY_BYTES
from cloud.ingest.service import DirectIp, Ingest, MqttSource
from cloud.store import frames
from cloud.store.database import Database
from cloud.store.stations import follow, new_code
from cloud.store.store import PostgresStore
from edge.ops.verify_cloud import verify_cloud
from edge.store import outbox
from edge.store.store import SpatialiteStore
from edge.sync.client import CloudClient, enrol
from edge.sync.session import new_epoch, sync_once
from firmware_bridge.framing.directip import CONFIRMATION, encode_directip
from shared.domain import NewFix
from shared.errors import ConfigError
from shared.store import FixQuery
from shared.sync.records import to_ms
from shared.wire.batch import decode_fixes
from shared.wire.link import HeardFixes
from shared.wire.signatures import new_key
from tests.access import accounts_over, operator_of, rosters_over
from tests.clouds import START_MS, VIEW, Cloud, Station, ask, fix_row, operation, rows_of
from tests.fakes import START, FakeClock
from tests.satellites import DEVICE, EUI, directip, position, rockblock, things_stack
from tests.services import Broker, free_port

pytestmark = [pytest.mark.integration, pytest.mark.tracking]

DEADLINE_S = 120.0
KEY = "0123456789abcdef0123456789abcdef"
HOOK = f"/api/v1/ingest/rockblock/{KEY}/"
LOOPBACK = DirectIp(host="127.0.0.1", port=0, peers=("127.0.0.0/8",), does_confirm=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 (it watches another program)
            await asyncio.sleep(0.02)


class Intake(Cloud):
    """A cloud that takes collars in, over a database of the test's own."""

    def __init__(
        self, url: str, database: Database, client: httpx.AsyncClient, clock: FakeClock, ingest: Ingest
    ) -> None:
        super().__init__(url, database, client, clock)
        self.ingest = ingest

    async def say(self, *messages: bytes) -> bytes:
        """Connect as the gateway does, send, and return all that is answered until the connection ends."""
        assert self.ingest.directip_port is not None
        return await converse(self.ingest.directip_port, *messages)

    async def deliver(self, body: bytes, path: str = HOOK) -> httpx.Response:
        """Deliver as RockBLOCK does."""
        return await self.client.post(path, content=body)

    async def decoded(self) -> None:
        """Wait until the decoder has seen every frame."""
        last = self.ask("SELECT coalesce(max(seq), 0) FROM frames")[0][0]
        await until(lambda: self.ask("SELECT coalesce(max(position), 0) FROM cursors")[0][0] >= last)

    def copies(self) -> list[tuple[Any, ...]]:
        """Return link and count of every frame, in order."""
        return self.ask("SELECT link, copies FROM frames ORDER BY seq")

    def places(self) -> list[tuple[Any, ...]]:
        """Return collar, instant and place of every fix."""
        return self.ask(
            "SELECT c.id, f.raw_ms, f.lon_e7, f.lat_e7 FROM fixes f JOIN collars c ON c.pk = f.collar_pk"
            " ORDER BY c.id, f.raw_ms"
        )


async def converse(port: int, *pieces: bytes, pause: bool = False) -> bytes:
    """Send to a port of the loopback and return what comes back until the end."""
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if pause:
                    await asyncio.sleep(0)
            writer.write_eof()
        said = b""
        with contextlib.suppress(OSError):
            said = await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return said


def app_over(store: PostgresStore, clock: FakeClock, ingest: Ingest | None = None) -> Litestar:
    accounts = accounts_over(store, clock)
    return create_app(store, clock=clock, accounts=accounts, rosters=rosters_over(store, accounts), ingest=ingest)


@pytest.fixture
def accounts(tmp_path: Path) -> AccountsSection:
    made = AccountsSection(key_file=tmp_path / "cloud.key")
    make_secret(made.key_file)
    return made


@pytest.fixture
async def cloud(database_url: str) -> AsyncIterator[Intake]:
    clock = FakeClock()
    async with Database.open(database_url, pool_min=1, pool_max=4) as database:
        store = PostgresStore(database, now=clock.now)
        ingest = Ingest(store, clock, rockblock_keys=(KEY, KEY[::-1]))
        app = app_over(store, clock, ingest)
        transport = httpx.ASGITransport(cast("Any", app))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://cloud", auth=operator_of(app)) as client,
            ingest.running(directip=LOOPBACK),
        ):
            yield Intake(database_url, database, client, clock, ingest)
    counted = ask(
        database_url,
        "SELECT (SELECT value FROM counters WHERE name = 'fixes') - (SELECT count(*) FROM fixes),"
        " (SELECT value FROM counters WHERE name = 'change') - (SELECT count(*) FROM changes),"
        " (SELECT value FROM counters WHERE name = 'frames') - (SELECT count(*) FROM frames)",
    )
    assert counted == [(0, 0, 0)]


HERE = (DEVICE, START_MS, 375_000_000, -25_000_000)


# --- Iridium DirectIP


async def test_what_the_gateway_brings_is_confirmed_kept_as_it_came_and_becomes_a_fix(cloud: Intake) -> None:
    message = directip(position())
    assert await cloud.say(message) == KEPT
    assert cloud.ask("SELECT link, framing, payload, copies FROM frames") == [("directip", "directip", message, 1)]
    await cloud.decoded()
    assert cloud.places() == [HERE]
    assert cloud.ask("SELECT last_heard_ms FROM collars") == [(START_MS,)]


async def test_a_message_that_comes_byte_by_byte_and_two_on_one_connection_are_each_confirmed(cloud: Intake) -> None:
    port = cloud.ingest.directip_port
    assert port is not None
    first, second = directip(position()), directip(position(START + timedelta(hours=1)), momsn=2)
    assert await converse(port, *(bytes((each,)) for each in first + second), pause=True) == KEPT + KEPT
    await cloud.decoded()
    assert len(cloud.places()) == 2


async def test_nothing_is_confirmed_before_it_is_committed(cloud: Intake) -> None:
    with psycopg.connect(cloud.url) as other:
        other.execute("SELECT value FROM counters WHERE name = 'frame' FOR UPDATE")  # who appends now has to wait
        saying = asyncio.create_task(cloud.say(directip(position())))
        await until(lambda: cloud.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)])
        assert not saying.done()
        assert cloud.count("frames") == 0
        other.rollback()
    assert await saying == KEPT
    assert cloud.count("frames") == 1


async def test_what_the_database_does_not_commit_in_time_is_not_confirmed_and_comes_again(cloud: Intake) -> None:
    server = DirectIpServer(cloud.ingest.ledger, [ip_network("127.0.0.1")], commit_s=0.2)
    async with server.listening("127.0.0.1", 0) as port:
        with psycopg.connect(cloud.url) as other:
            other.execute("SELECT value FROM counters WHERE name = 'frame' FOR UPDATE")
            assert await converse(port, directip(position())) == NOT_KEPT
            other.rollback()
        assert cloud.count("frames") == 0
        assert await converse(port, directip(position())) == KEPT
    await cloud.decoded()
    assert cloud.places() == [HERE]


async def test_a_confirmation_that_is_lost_costs_a_copy_and_no_second_fix(cloud: Intake) -> None:
    for _ in range(3):
        assert await cloud.say(directip(position())) == KEPT
    await cloud.decoded()
    assert cloud.copies() == [("directip", 3)]
    cloud.clock.tick(86_400)
    assert await cloud.say(directip(position())) == KEPT
    await cloud.decoded()
    assert cloud.copies() == [("directip", 3), ("directip", 1)]
    assert cloud.places() == [HERE]


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x01\xff\xff" + b"x" * 5000, b"\x01\x00\x00", directip(position())[:-1], b"\x02"],
    ids=["another protocol", "a length that none has", "nothing in it", "cut short", "a stray byte"],
)
async def test_what_is_no_message_is_refused_and_leaves_only_a_count(cloud: Intake, sent: bytes) -> None:
    assert (await cloud.say(sent)) in (NOT_KEPT, b"")  # a peer that still sends may find the connection reset
    assert cloud.ingest.ledger.taken["directip"].refused == 1
    assert cloud.count("frames") == 0
    assert await cloud.say(directip(position())) == KEPT


async def test_who_sends_slowly_is_told_so_and_cut_off(cloud: Intake) -> None:
    server = DirectIpServer(cloud.ingest.ledger, [ip_network("127.0.0.1")], message_s=0.2)
    async with server.listening("127.0.0.1", 0) as port, asyncio.timeout(DEADLINE_S):
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        for _, writer in slow:
            writer.write(directip(position())[:10])
        for reader, writer in slow:
            assert await reader.read() == NOT_KEPT  # and the end
            writer.close()
        await until(lambda: server.connections == 0)
    assert cloud.ingest.ledger.taken["directip"].refused == 5
    assert cloud.count("frames") == 0


async def test_who_is_one_too_many_is_not_let_in_and_the_others_are_served(cloud: Intake) -> None:
    server = DirectIpServer(cloud.ingest.ledger, [ip_network("127.0.0.1")], max_connections=2)
    message = directip(position())
    async with server.listening("127.0.0.1", 0) as port, asyncio.timeout(DEADLINE_S):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(lambda: server.connections == 2)
        assert await converse(port, message) == b""
        for reader, writer in idle:
            writer.write(message)
            writer.write_eof()
            assert await reader.read() == KEPT
            writer.close()
        await until(lambda: server.connections == 0)
        assert await converse(port, message) == KEPT
    assert cloud.ingest.ledger.taken["directip"].refused == 1


async def test_only_the_gateways_own_addresses_are_let_in(cloud: Intake) -> None:
    server = DirectIpServer(cloud.ingest.ledger, [ip_network("192.0.2.0/24")])
    async with server.listening("127.0.0.1", 0) as port:
        assert await converse(port, directip(position())) == b""
    assert cloud.count("frames") == 0
    assert "ingest.directip_peers" in cloud.ingest.ledger.taken["directip"].last_error


async def test_a_gateway_that_wants_no_confirmation_hears_none(cloud: Intake) -> None:
    server = DirectIpServer(cloud.ingest.ledger, [ip_network("127.0.0.1")], does_confirm=False)
    async with server.listening("127.0.0.1", 0) as port:
        assert await converse(port, directip(position())) == b""
    assert cloud.count("frames") == 1


# --- what cannot be read


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (directip(b"\xff" * 12), "neither an OpenCollar buffer"),
        (directip(position(), imei="30043406123456x"), "imei"),
        (b"\x01\x00\x05\x63\x00\x09ab", "cut short"),
        (encode_directip({CONFIRMATION: b"\x01"}), "names no device"),
    ],
    ids=["a payload of nobody", "no imei", "elements that do not add up", "no message of a collar"],
)
async def test_what_came_whole_and_cannot_be_read_is_kept_and_listed_with_the_reason(
    cloud: Intake, message: bytes, why: str
) -> None:
    assert await cloud.say(message) == KEPT
    await cloud.decoded()
    async with cloud.database.snapshot() as connection:
        (listed,) = await frames.undecoded(connection)
    assert why.lower() in listed.reason.lower()
    assert bytes.fromhex(listed.head) == message[: len(bytes.fromhex(listed.head))]
    assert (cloud.count("fixes"), cloud.count("collars")) == (0, 0)
    # its neighbours are not held up
    assert await cloud.say(directip(position())) == KEPT
    await cloud.decoded()
    assert cloud.places() == [HERE]


async def test_a_frame_that_a_codec_has_learnt_to_read_is_decoded_again(cloud: Intake) -> None:
    # as a program left it whose codec did not know these bytes
    cloud.ask("INSERT INTO cursors VALUES ('decode', 1000)")
    assert await cloud.say(directip(position()), directip(b"\xff" * 12)) == KEPT + KEPT
    cloud.ask("INSERT INTO undecoded SELECT seq, 'what is this?' FROM frames")
    found = await redecode(cloud.store, is_undecoded_only=True)
    assert (found.frames, found.new_fixes, found.undecoded) == (2, 1, 1)
    assert cloud.places() == [HERE]
    assert cloud.count("undecoded") == 1
    again = await redecode(cloud.store)
    assert (again.frames, again.fixes, again.new_fixes, again.undecoded) == (2, 1, 0, 1)


async def test_two_decoders_at_once_write_each_fix_once(cloud: Intake) -> None:
    async with cloud.database.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (0x6F75_7470_6F73_7401,))  # nobody writes fixes
        assert await cloud.say(*(directip(position(START + timedelta(hours=n)), momsn=n) for n in range(20)))
        others = [asyncio.create_task(Decoder(cloud.store).turn()) for _ in range(2)]
        await until(lambda: cloud.ask("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0] >= 2)
    await asyncio.gather(*others)
    await cloud.decoded()
    assert cloud.count("fixes") == 20


# --- RockBLOCK


@pytest.mark.parametrize("is_json", [False, True], ids=["form", "json"])
async def test_a_delivery_is_kept_then_answered_and_a_repeated_one_is_the_same(cloud: Intake, is_json: bool) -> None:
    body = rockblock(position(), is_json=is_json)
    for _ in range(2):
        answer = await cloud.deliver(body)
        assert (answer.status_code, answer.json()) == (200, {"status": "kept"})
    assert cloud.ask("SELECT link, payload, copies FROM frames") == [("rockblock", body, 2)]
    await cloud.decoded()
    assert cloud.places() == [HERE]


async def test_each_of_several_keys_counts_so_that_one_can_be_replaced(cloud: Intake) -> None:
    answer = await cloud.deliver(rockblock(position()), HOOK.replace(KEY, KEY[::-1]))
    assert answer.status_code == 200


@pytest.mark.parametrize("key", ["wrong", KEY[:-1], KEY + "0", KEY.upper(), "%00", "é"])
async def test_a_wrong_key_is_not_found_and_stores_nothing(cloud: Intake, key: str) -> None:
    answer = await cloud.deliver(rockblock(position()), f"/api/v1/ingest/rockblock/{key}/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert cloud.count("frames") == 0


async def test_a_cloud_without_keys_takes_no_delivery(cloud: Intake) -> None:
    app = app_over(cloud.store, cloud.clock)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cast("Any", app)), base_url="http://cloud") as client:
        assert (await client.post(HOOK, content=rockblock(position()))).status_code == 404


async def test_a_body_that_is_no_delivery_is_bounded_and_kept_where_it_fits(cloud: Intake) -> None:
    assert (await cloud.deliver(b"x" * (MAX_BODY_BYTES + 1))).status_code == 413
    assert (await cloud.deliver(b"")).status_code == 400
    assert cloud.count("frames") == 0
    assert (await cloud.deliver(b"hello")).status_code == 200
    await cloud.decoded()
    assert cloud.count("undecoded") == 1


async def test_a_delivery_that_is_not_committed_in_time_is_refused_before_the_sender_gives_up(
    cloud: Intake, capsys: pytest.CaptureFixture[str]
) -> None:
    began = asyncio.get_running_loop().time()
    with psycopg.connect(cloud.url) as other:
        other.execute("SELECT value FROM counters WHERE name = 'frame' FOR UPDATE")
        answer = await cloud.deliver(rockblock(position()))
        other.rollback()
    assert asyncio.get_running_loop().time() - began >= 2
    assert answer.status_code == 503
    assert KEY not in "".join(capsys.readouterr())
    assert cloud.count("frames") == 0
    assert (await cloud.deliver(rockblock(position()))).status_code == 200


# --- The Things Stack


async def test_an_uplink_published_without_receipts_is_kept_as_it_arrives(cloud: Intake, broker: Broker) -> None:
    source = MqttSource(
        name="ttn", host=broker.host, port=broker.port, topics=("v3/+/devices/+/up",), client_id="outpost-cloud-ttn",
        username=None, password=None, tls_ca=None, is_v5=False,
    )  # fmt: skip
    ingest = Ingest(cloud.store, cloud.clock)
    async with ingest.running([source]):
        await until(lambda: ingest.brokers[0].is_up)
        topic, body = things_stack(position())
        publisher = Client(CallbackAPIVersion.VERSION2)
        publisher.connect(broker.host, broker.port)
        publisher.loop_start()
        publisher.publish(topic, body, qos=0).wait_for_publish(DEADLINE_S)
        await until(lambda: cloud.count("frames") == 1)
        publisher.disconnect()
        publisher.loop_stop()
        await cloud.decoded()
    assert cloud.ask("SELECT link, topic, payload FROM frames") == [("ttn", topic, body)]
    assert cloud.places() == [(f"eui:{EUI}", *HERE[1:])]
    log = (broker._folder / "mosquitto.log").read_text()
    assert "outpost-cloud-ttn (p2," in log, log  # 3.1.1: the stack speaks no other


# --- one fix, whoever brings it


async def test_two_links_and_a_station_that_bring_one_fix_store_it_once(cloud: Intake) -> None:
    station = cloud.station()
    await station.bring_operations(operation("collar", "K1", {"aliases": [DEVICE, f"eui:{EUI}"]}))
    assert await cloud.say(directip(position())) == KEPT
    assert (await cloud.deliver(rockblock(position()))).status_code == 200
    await cloud.ingest.ledger.append("ttn", "mqtt", [things_stack(position())])
    await cloud.decoded()
    receipt = await station.bring_fixes(fix_row(battery_mv=3_600, h_acc_m=6.0))
    assert cloud.places() == [("K1", *HERE[1:])]
    assert receipt.counts == {"applied": 1}  # it made the row richer
    assert cloud.copies() == [("directip", 1), ("rockblock", 1), ("ttn", 1)]
    assert cloud.ask("SELECT battery_mv FROM fixes") == [(3_600,)]


async def test_an_alias_that_is_entered_late_joins_what_came_under_the_radios_name(cloud: Intake) -> None:
    station = cloud.station()
    await station.bring_fixes(fix_row(h_acc_m=6.0))
    assert await cloud.say(directip(position())) == KEPT
    await cloud.decoded()
    assert len(cloud.places()) == 2
    await cloud.store.put_collar(VIEW, "K1", {"aliases": (DEVICE,)})
    assert cloud.places() == [("K1", *HERE[1:])]


# --- down to the stations


async def heard(station: Station, since: int = 0, limit: int = 5_000) -> list[dict[str, Any]]:
    """Return every fix that the cloud took itself, page after page, and no page longer than ``limit``."""
    found: list[dict[str, Any]] = []
    query = f"since={since}"
    while True:
        answer = await station.send("GET", "/heard", f"{query}&limit={limit}")
        assert answer.status_code == 200, answer.text
        page = msgspec.msgpack.decode(answer.content, type=HeardFixes)
        rows = rows_of(decode_fixes(page.batch))
        assert len(rows) <= limit
        found += rows
        if not page.is_more:
            return found
        query = f"since={page.next}&epoch={page.epoch}" + (f"&after={page.after}" if page.after else "")


def by_time(count: int, device: str = "K9") -> list[NewFix]:
    times = [START + timedelta(minutes=n) for n in range(count)]
    return [NewFix(device=device, recorded_at=at, received_at=at, lon_deg=37.0, lat_deg=-2.0) for at in times]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_of_any_length_bring_every_fix_once(cloud: Intake, limit: int) -> None:
    await cloud.store.add_fixes(VIEW, by_time(5))
    await cloud.store.add_fixes(VIEW, [*by_time(1, "K8"), *by_time(6)[5:]])
    await cloud.store.add_fixes(VIEW, by_time(6))  # nothing new
    station = cloud.station()
    found = [(row["collar_id"], row["raw_ms"]) for row in await heard(station, limit=limit)]
    assert sorted(found) == sorted([("K8", START_MS), *(("K9", START_MS + 60_000 * n) for n in range(6))])


async def test_what_stations_brought_is_not_sent_down_and_neither_is_a_collar_that_is_renamed(cloud: Intake) -> None:
    station = cloud.station()
    await station.bring_fixes(fix_row(collar_id="K1"), fix_row(collar_id="eui:07", minutes=5))
    assert await heard(cloud.station("post-2")) == []
    await cloud.store.put_collar(VIEW, "K1", {"aliases": ("eui:07",)})
    assert await heard(cloud.station("post-2")) == []


async def test_a_collar_that_got_another_name_is_sent_under_that(cloud: Intake) -> None:
    assert await cloud.say(directip(position())) == KEPT
    await cloud.decoded()
    await cloud.store.put_collar(VIEW, "K1", {"aliases": (DEVICE,)})
    assert [row["collar_id"] for row in await heard(cloud.station())] == ["K1"]


async def test_a_station_reads_the_collars_that_it_follows_and_later_ones_from_their_beginning(cloud: Intake) -> None:
    for name in ("K8", "K9"):
        await cloud.store.add_fixes(VIEW, by_time(2, name))
    station = cloud.station()
    async with cloud.database.transaction() as connection:
        await follow(connection, station.id, ["K8"])
    assert {row["collar_id"] for row in await heard(station)} == {"K8"}
    (last,) = cloud.ask("SELECT value FROM counters WHERE name = 'change'")[0]
    async with cloud.database.transaction() as connection:
        await follow(connection, station.id, ["K8", "K9"])
    answer = await station.send("GET", "/heard", f"since={last}&epoch={(await station.changes()).epoch}")
    rows = rows_of(decode_fixes(msgspec.msgpack.decode(answer.content, type=HeardFixes).batch))
    assert sorted(row["collar_id"] for row in rows) == ["K8", "K8", "K9", "K9"]


async def test_what_no_page_can_hold_is_passed_over_alone(cloud: Intake) -> None:
    await cloud.store.add_fixes(VIEW, by_time(4))
    cloud.ask("UPDATE fixes SET notes = repeat(md5(raw_ms::text) || md5(id::text), 60000) WHERE raw_ms = %s", START_MS)
    cloud.ask("UPDATE fixes SET snr_db = 'NaN' WHERE raw_ms = %s", START_MS + 60_000)
    found = [row["raw_ms"] for row in await heard(cloud.station())]
    assert found[-2:] == [START_MS + 120_000, START_MS + 180_000]
    assert START_MS + 60_000 not in found


async def test_a_cursor_of_another_life_is_refused(cloud: Intake) -> None:
    station = cloud.station()
    epoch = (await station.changes()).epoch
    for query in ("since=5", "since=1&epoch=another", f"since=99&epoch={epoch}"):
        assert (await station.send("GET", "/heard", query)).status_code == 410
    assert (await station.send("GET", "/heard", "after=zz")).status_code == 400


async def test_a_fix_from_the_internet_is_at_the_station_after_its_next_session(
    database_url: str, broker: Broker, accounts: AccountsSection, tmp_path: Path
) -> None:
    clock = FakeClock()
    gateway = free_port()
    config = Config(
        database=DatabaseSection(url=database_url, pool_min=1, pool_max=4),
        accounts=accounts,
        ingest=IngestSection(
            rockblock_keys=(KEY,), directip_host="127.0.0.1", directip_port=gateway, directip_peers=("127.0.0.1",),
            things_stack=(ThingsStackSection(name="ttn", host=broker.host, port=broker.port, tls_ca=""),),
        ),
    )  # fmt: skip
    store = SpatialiteStore(tmp_path / "station.db", None, now=clock.now, readers=1)
    private_key, public_key = new_key()
    async with running(config, clock=clock, port=0) as (url, _), Database.open(database_url, pool_max=2) as database:
        async with database.transaction() as connection:
            code = await new_code(connection, "post-1", "Post", to_ms(START), 600_000)
        made = await enrol(url, code, public_key)
        await store.write(
            lambda db: outbox.enrol(
                db, url=url, station_id=made.station_id, private_key=private_key, cloud_epoch=made.cloud_epoch,
                epoch=new_epoch(), now_ms=to_ms(clock.now()),
            )
        )  # fmt: skip
        assert await converse(gateway, directip(position())) == KEPT
        async with httpx.AsyncClient() as client, asyncio.timeout(DEADLINE_S):
            later = rockblock(position(START + timedelta(hours=1)))
            assert (await client.post(f"{url}{HOOK}", content=later)).status_code == 200
            while (seen := (await client.get(f"{url}/health/detail")).json())["database"]["fixes"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (seen["database"]["frames"], seen["database"]["frames_waiting"]) == (2, 0)
        assert {name: each["frames"] for name, each in seen["taken"].items()} == {"directip": 1, "rockblock": 1}
        assert [each["name"] for each in seen["brokers"]] == ["ttn"]
        cloud = CloudClient(url, "post-1", private_key, now=clock.now)
        done = await sync_once(store, cloud, clock)
        assert (done.heard, done.new_fixes, done.fixes) == (2, 2, 0)
        page = await store.fixes(VIEW, FixQuery())
        assert sorted(fix.recorded_at for fix in page.results) == [START, START + timedelta(hours=1)]
        assert {fix.collar_id for fix in page.results} == {DEVICE}
        compared = await verify_cloud(store, cloud)
        assert (compared.fixes, compared.matching, compared.differences) == (2, 2, 0)
        again = await sync_once(store, cloud, clock)
        assert (again.heard, again.fixes, again.records) == (0, 0, 0)
        await cloud.close()
    await store.close()


async def test_a_broker_whose_authorities_are_missing_is_refused_at_the_start(
    database_url: str, accounts: AccountsSection, tmp_path: Path
) -> None:
    source = ThingsStackSection(name="ttn", host="stack.example", tls_ca=str(tmp_path / "none.pem"))
    config = Config(
        database=DatabaseSection(url=database_url), accounts=accounts, ingest=IngestSection(things_stack=(source,))
    )
    with pytest.raises(ConfigError, match="ca-certificates"):
        async with running(config, clock=FakeClock(), port=0):
            pytest.fail("it started")


async def test_a_port_that_is_taken_is_refused_at_the_start(cloud: Intake, accounts: AccountsSection) -> None:
    assert cloud.ingest.directip_port is not None
    section = IngestSection(
        directip_host="127.0.0.1", directip_port=cloud.ingest.directip_port, directip_peers=("127.0.0.1",)
    )
    config = Config(database=DatabaseSection(url=cloud.url), accounts=accounts, ingest=section)
    with pytest.raises(ConfigError, match=r"ingest\.directip_port"):
        async with running(config, clock=cloud.clock, port=0):
            pytest.fail("it started")


async def test_who_appends_at_once_gets_numbers_in_the_order_of_commits(cloud: Intake) -> None:
    seen: list[int] = []
    stop = asyncio.Event()

    async def follow_on() -> None:
        while True:
            is_last = stop.is_set()
            async with cloud.database.snapshot() as connection:
                seen.extend(row.seq for row in await frames.read_after(connection, seen[-1] if seen else 0, 50))
            if is_last:
                return

    async def bring(name: str) -> None:
        ledger = LedgerWriter(cloud.database, cloud.clock)
        for n in range(15):
            await ledger.append(name, "mqtt", [("t", bytes((n,))), ("t", bytes((n % 3,)))])

    following = asyncio.create_task(follow_on())
    await asyncio.gather(*(bring(f"link-{n}") for n in range(3)))
    stop.set()
    await following
    assert seen == [seq for (seq,) in cloud.ask("SELECT seq FROM frames ORDER BY seq")]
    assert cloud.ask("SELECT count(*), sum(copies) FROM frames") == [(45, 90)]
