"""MQTT links over a real broker: nothing is lost, nothing is acknowledged that should not be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from firmware_bridge.codecs.registry import codec_for
from firmware_bridge.frames import Frame
from firmware_bridge.transports.broker import BrokerAddress
from firmware_bridge.transports.capture import CaptureLink, CaptureWriter
from firmware_bridge.transports.mqtt import MAX_PAYLOAD_BYTES, MqttLink, MqttReceipt
from firmware_bridge.transports.publisher import MqttPublisher
from firmware_bridge.transports.spec import LinkSpec, link_from
from tests.integration.lines import collect, now, payloads, some_payloads, started
from tests.services import Broker
from tests.waiting import DEADLINE_S, until

pytestmark = pytest.mark.integration


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
