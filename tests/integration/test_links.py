"""Links over real pseudo-terminals and a real broker: nothing is lost, nothing is acknowledged that should not be."""

from __future__ import annotations

import asyncio
import json
import os
import random
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from firmware_bridge.codecs.registry import codec_for
from firmware_bridge.frames import Frame, Heard, Link
from firmware_bridge.framing.cobs import encode_frame
from firmware_bridge.framing.meshtastic import encode_mesh_frame
from firmware_bridge.transports.broker import BrokerAddress
from firmware_bridge.transports.capture import CaptureLink, CaptureReader, CaptureWriter
from firmware_bridge.transports.mqtt import MAX_PAYLOAD_BYTES, MqttLink, MqttReceipt
from firmware_bridge.transports.publisher import MqttPublisher
from firmware_bridge.transports.serial import SerialLink
from firmware_bridge.transports.spec import LinkSpec, link_from
from shared.errors import LinkClosed
from tests.services import Broker

pytestmark = pytest.mark.integration

DEADLINE_S = 120.0
AnyLink = TypeVar("AnyLink", SerialLink, MqttLink)


def now() -> datetime:
    return datetime.now(UTC)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 (it watches other programs too)
            await asyncio.sleep(0.01)


async def collect(link: Link, count: int) -> list[Heard]:
    heard: list[Heard] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(heard) < count:
            heard += await link.read()
    return heard


def payloads(heard: list[Heard]) -> list[bytes]:
    return [each.frame.payload for each in heard]


def some_payloads(count: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    return [index.to_bytes(4, "big") + rng.randbytes(rng.randrange(1, 60)) for index in range(count)]


class Terminal:
    """A cable: a pseudo-terminal behind a path; the test is the base station at its other end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.master = -1
        self._slave = -1
        self.plug()

    def plug(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))

    def pull(self) -> None:
        os.close(self.master)
        os.close(self._slave)
        self.path.unlink()

    async def write(self, data: bytes, *, chunk: int = 4096) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while data:
                try:
                    data = data[os.write(self.master, data[:chunk]) :]
                except BlockingIOError:
                    await asyncio.sleep(0.002)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "collar-base")
    yield terminal
    terminal.pull()


@asynccontextmanager
async def started(link: AnyLink) -> AsyncIterator[AnyLink]:
    """Start a link, wait until it is up, and close it in the end."""
    link.start()
    try:
        await until(lambda: link.status.is_up)
        yield link
    finally:
        await link.close()


# --- devices that have to be spoken to -------------------------------------------------------------------------------


async def said_to(terminal: Terminal, words: bytes) -> bytes:
    """Wait until the link has said ``words``; return all that it said."""
    said = b""
    async with asyncio.timeout(DEADLINE_S):
        while words not in said:
            try:
                said += os.read(terminal.master, 4096)
            except BlockingIOError:
                await asyncio.sleep(0.002)
    return said


async def test_a_mesh_node_is_asked_for_its_packets_and_its_position_is_heard(terminal: Terminal) -> None:
    data = b"\x08\x03\x12\x0a" + b"\x0d\x04\x67\x94\xfe" + b"\x15\x56\x41\x16\x16"
    packet = b"\x0d\x01\x02\x03\x04\x22" + bytes((len(data),)) + data
    frame = encode_mesh_frame(b"\x12" + bytes((len(packet),)) + packet)
    async with started(SerialLink("mesh", str(terminal.path), now=now, framing="meshtastic")) as link:
        assert (await said_to(terminal, b"\x18\x01")).endswith(b"\x94\xc3\x00\x02\x18\x01")
        await terminal.write(b"INFO | heard something\r\n" + frame)
        (heard,) = await collect(link, 1)
    assert heard.frame == Frame("meshtastic", frame)


async def test_a_modem_that_listens_once_is_told_to_listen_again_after_each_packet(terminal: Terminal) -> None:
    listen = b"radio rx 0\r\n"
    async with started(SerialLink("radio", str(terminal.path), now=now, framing="rn2483")) as link:
        assert b"mac pause" in await said_to(terminal, listen)
        for _ in range(2):
            await terminal.write(b"radio_rx  00FF\r\n")
            await collect(link, 1)
            assert await said_to(terminal, listen) == listen


async def test_a_base_station_is_never_spoken_to(terminal: Terminal) -> None:
    async with started(SerialLink("base", str(terminal.path), now=now)) as link:
        await terminal.write(encode_frame(b"hello"))
        await collect(link, 1)
    with pytest.raises(BlockingIOError):
        os.read(terminal.master, 1)


# --- serial --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 4096])
async def test_every_frame_of_a_serial_line_arrives_once_in_any_chunking(terminal: Terminal, chunk: int) -> None:
    sent = some_payloads(300)
    async with started(SerialLink("base", str(terminal.path), now=now, silence_s=5)) as link:
        writing = asyncio.create_task(terminal.write(b"".join(map(encode_frame, sent)), chunk=chunk))
        assert payloads(await collect(link, len(sent))) == sent
        await writing
        assert link.status.damaged_frames == 0
        assert link.status.frames == len(sent)
        assert link.status.last_frame_at is not None


async def test_bytes_that_came_before_the_port_was_opened_are_kept(terminal: Terminal) -> None:
    sent = some_payloads(20)
    await terminal.write(b"".join(map(encode_frame, sent)))
    async with started(SerialLink("base", str(terminal.path), now=now)) as link:
        assert payloads(await collect(link, len(sent))) == sent


class Stopwatch:
    """A monotonic clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_full_inbox_makes_the_sender_wait_and_loses_nothing(terminal: Terminal) -> None:
    sent = some_payloads(6000)
    wire = b"".join(map(encode_frame, sent))
    clock = Stopwatch()
    link = SerialLink("base", str(terminal.path), now=now, max_waiting=100, silence_s=0.05, monotonic=clock)
    async with started(link):
        writing = asyncio.create_task(terminal.write(wire))
        await until(lambda: link.status.frames >= 100)
        heard_at_first = link.status.frames
        # A long wait for the reader is no silence of the line: half a frame stays half a frame.
        clock.now_s += 100
        await asyncio.sleep(0.2)
        assert link.status.frames == heard_at_first
        assert not writing.done()
        assert payloads(await collect(link, len(sent))) == sent
        await writing


async def test_a_pulled_cable_is_noticed_and_the_link_comes_back_with_it(terminal: Terminal) -> None:
    sent = some_payloads(40)
    async with started(SerialLink("base", str(terminal.path), now=now)) as link:
        for times in range(1, 4):
            await terminal.write(b"".join(map(encode_frame, sent)))
            assert payloads(await collect(link, len(sent))) == sent
            terminal.pull()
            await until(lambda: not link.status.is_up)
            assert str(terminal.path) in link.status.last_error
            terminal.plug()
            await until(lambda: link.status.is_up)
            assert link.status.reconnects == times
            assert link.status.last_error == ""


async def test_a_port_that_appears_late_is_found(tmp_path: Path) -> None:
    link = SerialLink("base", str(tmp_path / "late"), now=now)
    first = asyncio.create_task(link.read())
    await until(lambda: "cannot open" in link.status.last_error)
    terminal = Terminal(tmp_path / "late")
    await terminal.write(encode_frame(b"here"))
    async with asyncio.timeout(DEADLINE_S):
        assert payloads(await first) == [b"here"]
    await link.close()
    terminal.pull()


async def test_a_path_that_leads_to_another_device_is_followed(terminal: Terminal) -> None:
    async with started(SerialLink("base", str(terminal.path), now=now)) as link:
        old_master = terminal.master
        terminal.plug()
        await until(lambda: link.status.reconnects == 1 and link.status.is_up)
        await terminal.write(encode_frame(b"from the new one"))
        assert payloads(await collect(link, 1)) == [b"from the new one"]
        os.close(old_master)


async def test_a_false_start_does_not_hold_up_the_line(terminal: Terminal) -> None:
    async with started(SerialLink("base", str(terminal.path), now=now, silence_s=0.05)) as link:
        await terminal.write(b"\x07noise")
        await until(lambda: link.status.damaged_frames == 1)
        await terminal.write(encode_frame(b"real"))
        assert payloads(await collect(link, 1)) == [b"real"]


async def test_close_hands_over_what_was_heard_and_then_ends_the_reader(terminal: Terminal) -> None:
    link = SerialLink("base", str(terminal.path), now=now)
    async with started(link):
        await terminal.write(encode_frame(b"last words"))
        await until(lambda: link.status.frames == 1)
    assert payloads(await link.read()) == [b"last words"]
    with pytest.raises(LinkClosed):
        await link.read()


async def test_close_wakes_a_waiting_reader(terminal: Terminal) -> None:
    async with started(SerialLink("base", str(terminal.path), now=now)) as link:
        waiting = asyncio.create_task(link.read())
        await asyncio.sleep(0)
        await link.close()
        with pytest.raises(LinkClosed):
            await waiting


# --- MQTT ----------------------------------------------------------------------------------------------------------


def mqtt_link(broker: Broker, **options: object) -> MqttLink:
    settings: dict[str, object] = {"now": now, "client_id": "station", "topics": ["outpost/+/+/fix"]} | options
    return MqttLink("mqtt", broker.host, broker.port, **settings)  # type: ignore[arg-type]


@asynccontextmanager
async def gateway(broker: Broker, name: str = "gw") -> AsyncIterator[MqttPublisher]:
    publisher = MqttPublisher(name, BrokerAddress(host=broker.host, port=broker.port, client_id=name))
    try:
        yield publisher
    finally:
        await publisher.close()


async def send(broker: Broker, messages: list[bytes], topic: str = "outpost/s/g/fix") -> None:
    async with gateway(broker) as publisher, asyncio.timeout(DEADLINE_S):
        for message in messages:
            await publisher.publish(topic, message)
        await publisher.drain()
        assert publisher.confirmed == len(messages)


async def test_unacknowledged_messages_come_again_after_a_restart_of_the_station_and_acknowledged_ones_do_not(
    broker: Broker,
) -> None:
    sent = some_payloads(30)
    async with started(mqtt_link(broker)) as link:
        await send(broker, sent)
        heard = await collect(link, len(sent))
        assert payloads(heard) == sent
        await link.acknowledge(heard[:12])
    async with started(mqtt_link(broker)) as link:
        again = await collect(link, len(sent) - 12)
        assert payloads(again) == sent[12:]
        await link.acknowledge(again)
    async with started(mqtt_link(broker)) as link:
        await send(broker, [b"marker"])
        assert payloads(await collect(link, 1)) == [b"marker"]


@pytest.mark.parametrize(
    "topic",
    [
        "application/17c82e96/device/0101010101010101/event/up",
        "v3/collars@ttn/devices/oc-0042/up",
        "msh/EU_868/2/json/LongFast/!7efeee00",
        "msh/US/CA/2/json/LongFast/!7efeee00",
    ],
)
async def test_a_link_without_topics_hears_every_network_whose_uplinks_a_codec_reads(
    broker: Broker, topic: str
) -> None:
    spec = LinkSpec(kind="mqtt", name="mqtt", host=broker.host, port=broker.port, client_id="station")
    link = link_from(spec, now=now)
    assert isinstance(link, MqttLink)
    async with started(link):
        await send(broker, [b"body"], topic)
        (heard,) = await collect(link, 1)
        await link.acknowledge([heard])
    assert heard.frame == Frame("mqtt", b"body", topic)
    assert codec_for(heard.frame).format in {"chirpstack_v4", "the_things_stack_v3", "meshtastic_mqtt"}


async def test_a_receipt_of_an_earlier_connection_acknowledges_nothing(broker: Broker) -> None:
    async with started(mqtt_link(broker)) as link:
        await send(broker, [b"first", b"second"])
        stale = await collect(link, 2)
        broker.restart()
        await until(lambda: link.status.reconnects == 1 and link.status.is_up)
        await link.acknowledge(stale)
        again = await collect(link, 2)
        assert payloads(again) == [b"first", b"second"]
        receipts = [each.token for each in (*stale, *again)]
        assert all(isinstance(receipt, MqttReceipt) for receipt in receipts)
        assert {receipt.generation for receipt in receipts[:2]} != {receipt.generation for receipt in receipts[2:]}
    # Neither of the stale receipts reached the broker: both messages are still queued there.
    async with started(mqtt_link(broker)) as link:
        assert payloads(await collect(link, 2)) == [b"first", b"second"]


async def test_the_link_recovers_from_a_killed_broker(broker: Broker) -> None:
    async with started(mqtt_link(broker)) as link:
        broker.kill()
        await until(lambda: not link.status.is_up)
        assert link.status.last_error
        broker.start()
        await until(lambda: link.status.is_up)
        await send(broker, [b"after"])
        heard = await collect(link, 1)
        assert payloads(heard) == [b"after"]
        await link.acknowledge(heard)


async def test_a_broker_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "late")
    link = mqtt_link(broker)
    link.start()
    await until(lambda: "cannot reach" in link.status.last_error)
    broker.start()
    try:
        await until(lambda: link.status.is_up)
    finally:
        await link.close()
        broker.stop()


async def test_the_broker_waits_while_too_many_messages_are_unacknowledged(broker: Broker) -> None:
    sent = some_payloads(60)
    async with started(mqtt_link(broker, receive_maximum=10)) as link:
        await send(broker, sent)
        heard = await collect(link, 10)
        await asyncio.sleep(0.2)
        assert link.status.frames == 10
        while len(heard) < len(sent):
            await link.acknowledge(heard[-10:])
            heard += await collect(link, 10)
        assert payloads(heard) == sent


async def test_a_payload_too_large_is_counted_and_does_not_block_the_others(broker: Broker) -> None:
    async with started(mqtt_link(broker)) as link:
        await send(broker, [bytes(MAX_PAYLOAD_BYTES + 1), b"small"])
        heard = await collect(link, 1)
        assert payloads(heard) == [b"small"]
        assert link.status.damaged_frames == 1
        await link.acknowledge(heard)
    async with started(mqtt_link(broker)) as link:
        await send(broker, [b"marker"])
        assert payloads(await collect(link, 1)) == [b"marker"]
        assert link.status.damaged_frames == 0


async def test_a_receipt_reaches_the_sender(broker: Broker) -> None:
    async with (
        started(mqtt_link(broker, client_id="sender", topics=["outpost/+/+/ack"])) as sender,
        started(mqtt_link(broker)) as station,
    ):
        await station.publish("outpost/s/g/ack", b"kept")
        heard = await collect(sender, 1)
        assert heard[0].frame == Frame("mqtt", b"kept", "outpost/s/g/ack")


async def test_a_receipt_is_waited_for_until_the_broker_has_it(broker: Broker) -> None:
    async with started(mqtt_link(broker)) as station:
        broker.freeze()
        try:
            receipts = [asyncio.create_task(station.publish("outpost/s/g/ack", b"%d" % n)) for n in range(30)]
            done, _ = await asyncio.wait(receipts, timeout=0.2)
            assert not done
        finally:
            broker.thaw()
        await asyncio.wait_for(asyncio.gather(*receipts), DEADLINE_S)


async def test_a_receipt_is_not_waited_for_where_it_cannot_come(broker: Broker) -> None:
    async with started(mqtt_link(broker)) as station:
        broker.freeze()
        receipt = asyncio.create_task(station.publish("outpost/s/g/ack", b"kept"))
        await asyncio.sleep(0)  # it is under way
        broker.kill()
        await asyncio.wait_for(receipt, DEADLINE_S)
        await asyncio.wait_for(station.publish("outpost/s/g/ack", b"kept"), DEADLINE_S)  # nobody is there
        broker.start()
    async with started(mqtt_link(broker, patience_s=0.01)) as station:
        broker.freeze()
        try:
            await asyncio.wait_for(station.publish("outpost/s/g/ack", b"kept"), DEADLINE_S)
        finally:
            broker.thaw()


async def test_a_receipt_is_not_waited_for_while_the_socket_is_not_read(broker: Broker) -> None:
    async with started(mqtt_link(broker, receive_maximum=1, max_batch=1)) as link:
        flood = Client(CallbackAPIVersion.VERSION2, client_id="flood")
        flood.connect(broker.host, broker.port)
        flood.loop_start()
        sent = [flood.publish("outpost/s/g/fix", str(number).encode(), qos=0) for number in range(20)]
        await asyncio.to_thread(sent[-1].wait_for_publish, DEADLINE_S)
        flood.disconnect()
        flood.loop_stop()
        await until(lambda: link.status.frames >= 2)  # the inbox is full: its answer could not be read
        await asyncio.wait_for(link.publish("outpost/s/g/ack", b"kept"), DEADLINE_S)
        assert len(await collect(link, 20)) == 20


async def test_a_message_that_nobody_subscribed_is_sent_until_somebody_does(broker: Broker) -> None:
    async with gateway(broker) as publisher:
        await publisher.publish("outpost/s/g/fix", b"early")
        await asyncio.sleep(0.2)
        assert publisher.unconfirmed == 1
        async with started(mqtt_link(broker)) as link:
            assert payloads(await collect(link, 1)) == [b"early"]
            await until(lambda: publisher.unconfirmed == 0)


async def test_a_publisher_sends_again_what_a_killed_broker_had_not_confirmed(broker: Broker) -> None:
    sent = some_payloads(500)
    async with started(mqtt_link(broker)) as link, gateway(broker) as publisher:

        async def publish_all() -> None:
            for message in sent:
                await publisher.publish("outpost/s/g/fix", message)
            await publisher.drain()

        publishing = asyncio.create_task(publish_all())
        seen: set[bytes] = set()
        seen.update(payloads(await collect(link, 1)))
        broker.restart()
        async with asyncio.timeout(DEADLINE_S):
            while not seen.issuperset(sent):
                heard = await link.read()
                seen.update(payloads(heard))
                await link.acknowledge(heard)
            await publishing
        assert publisher.confirmed == len(sent)


async def test_a_refused_password_is_said_and_tried_again(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "closed", options=("allow_anonymous false",))
    broker.start()
    link = mqtt_link(broker)
    link.start()
    try:
        await until(lambda: "refused the connection" in link.status.last_error)
        assert not link.status.is_up
    finally:
        await link.close()
        broker.stop()


async def test_messages_arrive_and_are_acknowledged_over_tls(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "tls", has_tls=True)
    broker.start()
    authority = str(broker.certificate)
    sent = some_payloads(300)
    try:
        async with started(mqtt_link(broker, tls_ca=authority)) as link:
            address = BrokerAddress(host=broker.host, port=broker.port, client_id="gw", tls_ca=authority)
            publisher = MqttPublisher("gw", address)
            for message in sent:
                await publisher.publish("outpost/s/g/fix", message)
            heard = await collect(link, len(sent))
            await publisher.drain()
            await publisher.close()
            assert payloads(heard) == sent
            await link.acknowledge(heard)
        stranger = mqtt_link(broker, tls_ca=None, client_id="plain")
        stranger.start()
        await until(lambda: stranger.status.last_error != "")
        assert not stranger.status.is_up
        await stranger.close()
    finally:
        broker.stop()


async def test_a_flood_that_needs_no_receipt_is_held_back_and_not_dropped(broker: Broker) -> None:
    async with started(mqtt_link(broker, receive_maximum=10)) as link:
        flood = Client(CallbackAPIVersion.VERSION2, client_id="flood")
        flood.connect(broker.host, broker.port)
        flood.loop_start()
        sent = [flood.publish("outpost/s/g/fix", str(number).encode(), qos=0) for number in range(300)]
        await asyncio.to_thread(sent[-1].wait_for_publish, DEADLINE_S)
        flood.disconnect()
        flood.loop_stop()
        await until(lambda: link.status.frames >= 20)
        await asyncio.sleep(0.1)
        assert link.status.frames == 20
        heard = await collect(link, 300)
        assert payloads(heard) == [str(number).encode() for number in range(300)]
        await link.acknowledge(heard)


async def test_retained_messages_come_once(broker: Broker) -> None:
    keeper = Client(CallbackAPIVersion.VERSION2, client_id="keeper")
    keeper.connect(broker.host, broker.port)
    keeper.publish("outpost/s/g/fix", b"kept", qos=0, retain=True)
    keeper.disconnect()
    async with started(mqtt_link(broker)) as link:
        heard = await collect(link, 1)
        assert payloads(heard) == [b"kept"]
        await link.acknowledge(heard)
    async with started(mqtt_link(broker)) as link:
        await send(broker, [b"marker"])
        assert payloads(await collect(link, 1)) == [b"marker"]


# --- captures ------------------------------------------------------------------------------------------------------


async def test_a_recorded_serial_line_replays_byte_for_byte(terminal: Terminal, tmp_path: Path) -> None:
    sent = some_payloads(200)
    noise = b"\x07noise\x00"
    wire = b"".join(noise + encode_frame(payload) for payload in sent)
    path = tmp_path / "line.capture"
    spec = LinkSpec(kind="serial", name="base", path=str(terminal.path), record=str(path))
    link = link_from(spec, now=now)
    writing = asyncio.create_task(terminal.write(wire))
    assert payloads(await collect(link, len(sent))) == sent
    await writing
    live = link.status
    await link.close()
    reader = CaptureReader(path)
    assert b"".join(record.data for record in reader) == wire
    assert reader.torn_bytes == 0
    reader.close()
    replay = CaptureLink("replay", path, now=now)
    assert payloads(await collect(replay, len(sent))) == sent
    with pytest.raises(LinkClosed):
        await replay.read()
    assert (replay.status.bytes_read, replay.status.damaged_frames) == (live.bytes_read, live.damaged_frames)
    await replay.close()


async def test_recorded_messages_replay_with_their_topics(broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "broker.capture"
    writer = CaptureWriter(path)
    sent = [json.dumps({"n": number}).encode() for number in range(5)]
    async with started(mqtt_link(broker, tap=writer.tap)) as link:
        await send(broker, sent)
        live = [each.frame for each in await collect(link, len(sent))]
    writer.close()
    replay = CaptureLink("replay", path, now=now)
    assert [each.frame for each in await collect(replay, len(sent))] == live
    await replay.close()
