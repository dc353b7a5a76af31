"""Collars that reach the cloud over the internet: kept before anything is confirmed, and stored once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import httpx
import psycopg
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from cloud.app import running
from cloud.config import AccountsSection, Config, DatabaseSection, IngestSection, ThingsStackSection
from cloud.ingest.decode import Decoder, redecode
from cloud.ingest.directip import KEPT, NOT_KEPT, DirectIpServer
from cloud.ingest.ledger import LedgerWriter
from cloud.ingest.rockblock import MAX_BODY_BYTES
from cloud.ingest.service import Ingest, MqttSource
from cloud.store import frames
from firmware_bridge.framing.directip import CONFIRMATION, encode_directip
from shared.errors import ConfigError
from tests.clouds import START_MS, VIEW, fix_row, operation
from tests.fakes import START, FakeClock
from tests.integration.intakes import HERE, HOOK, KEY, Intake, app_over, converse, keyed
from tests.satellites import DEVICE, EUI, directip, position, rockblock, things_stack
from tests.services import Broker
from tests.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.integration, pytest.mark.tracking]


@pytest.fixture
def accounts(tmp_path: Path) -> AccountsSection:
    return keyed(tmp_path)


# --- Iridium DirectIP


async def test_what_the_gateway_brings_is_confirmed_kept_as_it_came_and_becomes_a_fix(intake: Intake) -> None:
    message = directip(position())
    assert await intake.say(message) == KEPT
    assert intake.ask("SELECT link, framing, payload, copies FROM frames") == [("directip", "directip", message, 1)]
    await intake.decoded()
    assert intake.places() == [HERE]
    assert intake.ask("SELECT last_heard_ms FROM collars") == [(START_MS,)]


async def test_a_message_that_comes_byte_by_byte_and_two_on_one_connection_are_each_confirmed(intake: Intake) -> None:
    port = intake.ingest.directip_port
    assert port is not None
    first, second = directip(position()), directip(position(START + timedelta(hours=1)), momsn=2)
    assert await converse(port, *(bytes((each,)) for each in first + second), pause=True) == KEPT + KEPT
    await intake.decoded()
    assert len(intake.places()) == 2


async def test_nothing_is_confirmed_before_it_is_committed(intake: Intake) -> None:
    with psycopg.connect(intake.url) as other:
        other.execute("SELECT value FROM counters WHERE name = 'frame' FOR UPDATE")  # who appends now has to wait
        saying = asyncio.create_task(intake.say(directip(position())))
        await until(lambda: intake.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)])
        assert not saying.done()
        assert intake.count("frames") == 0
        other.rollback()
    assert await saying == KEPT
    assert intake.count("frames") == 1


async def test_what_the_database_does_not_commit_in_time_is_not_confirmed_and_comes_again(intake: Intake) -> None:
    server = DirectIpServer(intake.ingest.ledger, [ip_network("127.0.0.1")], commit_s=0.2)
    async with server.listening("127.0.0.1", 0) as port:
        with psycopg.connect(intake.url) as other:
            other.execute("SELECT value FROM counters WHERE name = 'frame' FOR UPDATE")
            assert await converse(port, directip(position())) == NOT_KEPT
            other.rollback()
        assert intake.count("frames") == 0
    assert await intake.say(directip(position())) == KEPT  # by the server that waits longer
    await intake.decoded()
    assert intake.places() == [HERE]


async def test_a_confirmation_that_is_lost_costs_a_copy_and_no_second_fix(intake: Intake) -> None:
    for _ in range(3):
        assert await intake.say(directip(position())) == KEPT
    await intake.decoded()
    assert intake.copies() == [("directip", 3)]
    intake.clock.tick(86_400)
    assert await intake.say(directip(position())) == KEPT
    await intake.decoded()
    assert intake.copies() == [("directip", 3), ("directip", 1)]
    assert intake.places() == [HERE]


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x01\xff\xff" + b"x" * 5000, b"\x01\x00\x00", directip(position())[:-1], b"\x02"],
    ids=["another protocol", "a length that none has", "nothing in it", "cut short", "a stray byte"],
)
async def test_what_is_no_message_is_refused_and_leaves_only_a_count(intake: Intake, sent: bytes) -> None:
    assert (await intake.say(sent)) in (NOT_KEPT, b"")  # a peer that still sends may find the connection reset
    assert intake.ingest.ledger.taken["directip"].refused == 1
    assert intake.count("frames") == 0
    assert await intake.say(directip(position())) == KEPT


async def test_who_sends_slowly_is_told_so_and_cut_off(intake: Intake) -> None:
    server = DirectIpServer(intake.ingest.ledger, [ip_network("127.0.0.1")], message_s=0.2)
    async with server.listening("127.0.0.1", 0) as port, asyncio.timeout(DEADLINE_S):
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        for _, writer in slow:
            writer.write(directip(position())[:10])
        for reader, writer in slow:
            assert await reader.read() == NOT_KEPT  # and the end
            writer.close()
        await until(lambda: server.connections == 0)
    assert intake.ingest.ledger.taken["directip"].refused == 5
    assert intake.count("frames") == 0


async def test_who_is_one_too_many_is_not_let_in_and_the_others_are_served(intake: Intake) -> None:
    server = DirectIpServer(intake.ingest.ledger, [ip_network("127.0.0.1")], max_connections=2)
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
    assert intake.ingest.ledger.taken["directip"].refused == 1


async def test_only_the_gateways_own_addresses_are_let_in(intake: Intake) -> None:
    server = DirectIpServer(intake.ingest.ledger, [ip_network("192.0.2.0/24")])
    async with server.listening("127.0.0.1", 0) as port:
        assert await converse(port, directip(position())) == b""
    assert intake.count("frames") == 0
    assert "ingest.directip_peers" in intake.ingest.ledger.taken["directip"].last_error


async def test_a_gateway_that_wants_no_confirmation_hears_none(intake: Intake) -> None:
    server = DirectIpServer(intake.ingest.ledger, [ip_network("127.0.0.1")], does_confirm=False)
    async with server.listening("127.0.0.1", 0) as port:
        assert await converse(port, directip(position())) == b""
    assert intake.count("frames") == 1


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
    intake: Intake, message: bytes, why: str
) -> None:
    assert await intake.say(message) == KEPT
    await intake.decoded()
    async with intake.database.snapshot() as connection:
        (listed,) = await frames.undecoded(connection)
    assert why.lower() in listed.reason.lower()
    assert bytes.fromhex(listed.head) == message[: len(bytes.fromhex(listed.head))]
    assert (intake.count("fixes"), intake.count("collars")) == (0, 0)
    # its neighbours are not held up
    assert await intake.say(directip(position())) == KEPT
    await intake.decoded()
    assert intake.places() == [HERE]


async def test_a_frame_that_a_codec_has_learnt_to_read_is_decoded_again(intake: Intake) -> None:
    # as a program left it whose codec did not know these bytes
    intake.ask("INSERT INTO cursors VALUES ('decode', 1000)")
    assert await intake.say(directip(position()), directip(b"\xff" * 12)) == KEPT + KEPT
    intake.ask("INSERT INTO undecoded SELECT seq, 'what is this?' FROM frames")
    found = await redecode(intake.store, is_undecoded_only=True)
    assert (found.frames, found.new_fixes, found.undecoded) == (2, 1, 1)
    assert intake.places() == [HERE]
    assert intake.count("undecoded") == 1
    again = await redecode(intake.store)
    assert (again.frames, again.fixes, again.new_fixes, again.undecoded) == (2, 1, 0, 1)


async def test_two_decoders_at_once_write_each_fix_once(intake: Intake) -> None:
    async with intake.database.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (0x6F75_7470_6F73_7401,))  # nobody writes fixes
        assert await intake.say(*(directip(position(START + timedelta(hours=n)), momsn=n) for n in range(20)))
        others = [asyncio.create_task(Decoder(intake.store).turn()) for _ in range(2)]
        await until(lambda: intake.ask("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0] >= 2)
    await asyncio.gather(*others)
    await intake.decoded()
    assert intake.count("fixes") == 20


# --- RockBLOCK


@pytest.mark.parametrize("is_json", [False, True], ids=["form", "json"])
async def test_a_delivery_is_kept_then_answered_and_a_repeated_one_is_the_same(intake: Intake, is_json: bool) -> None:
    body = rockblock(position(), is_json=is_json)
    for _ in range(2):
        answer = await intake.deliver(body)
        assert (answer.status_code, answer.json()) == (200, {"status": "kept"})
    assert intake.ask("SELECT link, payload, copies FROM frames") == [("rockblock", body, 2)]
    await intake.decoded()
    assert intake.places() == [HERE]


async def test_each_of_several_keys_counts_so_that_one_can_be_replaced(intake: Intake) -> None:
    answer = await intake.deliver(rockblock(position()), HOOK.replace(KEY, KEY[::-1]))
    assert answer.status_code == 200


@pytest.mark.parametrize("key", ["wrong", KEY[:-1], KEY + "0", KEY.upper(), "%00", "é"])
async def test_a_wrong_key_is_not_found_and_stores_nothing(intake: Intake, key: str) -> None:
    answer = await intake.deliver(rockblock(position()), f"/api/v1/ingest/rockblock/{key}/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert intake.count("frames") == 0


async def test_a_cloud_without_keys_takes_no_delivery(intake: Intake) -> None:
    app = app_over(intake.store, intake.clock)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cast("Any", app)), base_url="http://cloud") as client:
        assert (await client.post(HOOK, content=rockblock(position()))).status_code == 404


async def test_a_body_that_is_no_delivery_is_bounded_and_kept_where_it_fits(intake: Intake) -> None:
    assert (await intake.deliver(b"x" * (MAX_BODY_BYTES + 1))).status_code == 413
    assert (await intake.deliver(b"")).status_code == 400
    assert intake.count("frames") == 0
    assert (await intake.deliver(b"hello")).status_code == 200
    await intake.decoded()
    assert intake.count("undecoded") == 1


async def test_a_delivery_that_is_not_committed_in_time_is_refused_before_the_sender_gives_up(
    intake: Intake, capsys: pytest.CaptureFixture[str]
) -> None:
    began = asyncio.get_running_loop().time()
    with psycopg.connect(intake.url) as other:
        other.execute("SELECT value FROM counters WHERE name = 'frame' FOR UPDATE")
        answer = await intake.deliver(rockblock(position()))
        other.rollback()
    assert asyncio.get_running_loop().time() - began >= 2
    assert answer.status_code == 503
    assert KEY not in "".join(capsys.readouterr())
    assert intake.count("frames") == 0
    assert (await intake.deliver(rockblock(position()))).status_code == 200


# --- The Things Stack


async def test_an_uplink_published_without_receipts_is_kept_as_it_arrives(intake: Intake, broker: Broker) -> None:
    source = MqttSource(
        name="ttn", host=broker.host, port=broker.port, topics=("v3/+/devices/+/up",), client_id="outpost-cloud-ttn",
        username=None, password=None, tls_ca=None, is_v5=False,
    )  # fmt: skip
    ingest = Ingest(intake.store, intake.clock)
    async with ingest.running([source]):
        await until(lambda: ingest.brokers[0].is_up)
        topic, body = things_stack(position())
        publisher = Client(CallbackAPIVersion.VERSION2)
        publisher.connect(broker.host, broker.port)
        publisher.loop_start()
        publisher.publish(topic, body, qos=0).wait_for_publish(DEADLINE_S)
        await until(lambda: intake.count("frames") == 1)
        publisher.disconnect()
        publisher.loop_stop()
        await intake.decoded()
    assert intake.ask("SELECT link, topic, payload FROM frames") == [("ttn", topic, body)]
    assert intake.places() == [(f"eui:{EUI}", *HERE[1:])]
    log = (broker._folder / "mosquitto.log").read_text()
    assert "outpost-cloud-ttn (p2," in log, log  # 3.1.1: the stack speaks no other


# --- one fix, whoever brings it


async def test_two_links_and_a_station_that_bring_one_fix_store_it_once(intake: Intake) -> None:
    station = intake.station()
    await station.bring_operations(operation("collar", "K1", {"aliases": [DEVICE, f"eui:{EUI}"]}))
    assert await intake.say(directip(position())) == KEPT
    assert (await intake.deliver(rockblock(position()))).status_code == 200
    await intake.ingest.ledger.append("ttn", "mqtt", [things_stack(position())])
    await intake.decoded()
    receipt = await station.bring_fixes(fix_row(battery_mv=3_600, h_acc_m=6.0))
    assert intake.places() == [("K1", *HERE[1:])]
    assert receipt.counts == {"applied": 1}  # it made the row richer
    assert intake.copies() == [("directip", 1), ("rockblock", 1), ("ttn", 1)]
    assert intake.ask("SELECT battery_mv FROM fixes") == [(3_600,)]


async def test_an_alias_that_is_entered_late_joins_what_came_under_the_radios_name(intake: Intake) -> None:
    station = intake.station()
    await station.bring_fixes(fix_row(h_acc_m=6.0))
    assert await intake.say(directip(position())) == KEPT
    await intake.decoded()
    assert len(intake.places()) == 2
    await intake.store.put_collar(VIEW, "K1", {"aliases": (DEVICE,)})
    assert intake.places() == [("K1", *HERE[1:])]


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


async def test_a_port_that_is_taken_is_refused_at_the_start(intake: Intake, accounts: AccountsSection) -> None:
    assert intake.ingest.directip_port is not None
    section = IngestSection(
        directip_host="127.0.0.1", directip_port=intake.ingest.directip_port, directip_peers=("127.0.0.1",)
    )
    config = Config(database=DatabaseSection(url=intake.url), accounts=accounts, ingest=section)
    with pytest.raises(ConfigError, match=r"ingest\.directip_port"):
        async with running(config, clock=intake.clock, port=0):
            pytest.fail("it started")


async def test_who_appends_at_once_gets_numbers_in_the_order_of_commits(intake: Intake) -> None:
    seen: list[int] = []
    stop = asyncio.Event()

    async def follow_on() -> None:
        while True:
            is_last = stop.is_set()
            async with intake.database.snapshot() as connection:
                seen.extend(row.seq for row in await frames.read_after(connection, seen[-1] if seen else 0, 50))
            if is_last:
                return

    async def bring(name: str) -> None:
        ledger = LedgerWriter(intake.database, intake.clock)
        for n in range(15):
            await ledger.append(name, "mqtt", [("t", bytes((n,))), ("t", bytes((n % 3,)))])

    following = asyncio.create_task(follow_on())
    await asyncio.gather(*(bring(f"link-{n}") for n in range(3)))
    stop.set()
    await following
    assert seen == [seq for (seq,) in intake.ask("SELECT seq FROM frames ORDER BY seq")]
    assert intake.ask("SELECT count(*), sum(copies) FROM frames") == [(45, 90)]
