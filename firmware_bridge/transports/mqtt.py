"""Collar messages of an MQTT broker, acknowledged only when they are on this station's disk.

A broker's own word is not durability: with the defaults of Mosquitto a killed broker forgets what it accepted. So the
chain of receipts ends at the station's ledger::

    broker --PUBLISH, QoS 1, packet id--> inbox --read()--> ledger.append, commit --acknowledge()--> PUBACK

- The session never expires and does not start clean: the broker queues while the station is down.
- At most ``receive_maximum`` messages are unacknowledged; the broker then waits. That is the back-pressure.
- ``publish`` comes back when the broker has the receipt. paho keeps twenty under way and a broker that writes each
  change to disk reads one packet of ours a turn: who acknowledges only after the receipts is never sent messages, and
  with them copies, faster than their receipts get through. Nobody waits for it where it cannot come: with the
  connection gone, while the socket is not read, longer than ``patience_s``.
- A packet id means something on its own connection only. A receipt token therefore holds the number of the connection
  (its generation); a token of an earlier one acknowledges nothing, the broker sends the message again, and the ledger
  knows it already.
- What was heard and not read when the connection broke stays in the inbox: a broker that lost its session would not
  send it again. No new connection is made while the inbox is full.
- A message of QoS 0 carries no packet id: when the station or the connection goes down it may be lost, as its sender
  accepted.
- A payload of more than 256 KiB is no collar's. It is counted as damaged and acknowledged, so that it does not stand
  before the others for ever.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import structlog
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from firmware_bridge.frames import Frame, Heard, LinkStatus
from firmware_bridge.transports.broker import BrokerAddress, BrokerConnection, MqttVersion
from firmware_bridge.transports.capture import Tap
from firmware_bridge.transports.inbox import Inbox
from shared.ending import end

MAX_PAYLOAD_BYTES = 256 * 1024
#: So long a receipt may wait for the broker's word before its message is acknowledged all the same.
PATIENCE_S = 30.0

log = structlog.get_logger()


class MqttReceipt(msgspec.Struct, frozen=True):
    """Which message of which connection: the token of ``Heard``."""

    generation: int
    mid: int


class MqttLink:
    """Messages of a broker's topics; it survives the broker being killed."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int = 1883,
        *,
        now: Callable[[], datetime],
        client_id: str,
        topics: Sequence[str],
        username: str | None = None,
        password: str | None = None,
        tls_ca: str | None = None,
        version: MqttVersion = "5",
        receive_maximum: int = 500,
        device: str = "",
        max_batch: int = 500,
        tap: Tap | None = None,
        rng: random.Random | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.name = name
        self.device = device
        self._now = now
        self._patience_s = patience_s
        #: receipts under way, by packet id of this connection
        self._receipts: dict[int, asyncio.Future[None]] = {}
        self._topics = tuple(topics)
        self._version = version
        self._max_batch = max_batch
        self._tap = tap
        address = BrokerAddress(
            host=host, port=port, client_id=client_id, username=username, password=password, tls_ca=tls_ca,
            version=version,
        )  # fmt: skip
        self._connection = BrokerConnection(
            name,
            address,
            receive_maximum=receive_maximum,
            keeps_session=True,
            on_up=self._subscribe,
            on_down=self._went_down,
            on_message=self._hear,
            on_subscribed=self._subscribed,
            on_published=self._published,
            rng=rng,
        )
        # Twice what the broker may send: the rest of a broken connection and all of its successor.
        self._inbox = Inbox(max_frames=2 * receive_maximum, max_bytes=32 * 1024 * 1024)
        self._status = LinkStatus(name=name, kind="mqtt", address=address.text)
        self._supervisor: asyncio.Task[None] | None = None
        self._is_closed = False
        self._has_been_up = False

    @property
    def status(self) -> LinkStatus:
        """Counters and state; an oversized message counts as a damaged frame."""
        return msgspec.structs.replace(self._status)

    def start(self) -> None:
        """Begin to listen, if the first read has not begun it already."""
        if self._supervisor is None and not self._is_closed:
            self._supervisor = asyncio.create_task(self._connection.run(), name=f"link {self.name}")

    async def read(self) -> list[Heard]:
        """Wait for messages; raises LinkClosed after ``close``."""
        self.start()
        batch = await self._inbox.take(self._max_batch)
        if self._inbox.has_room:
            self._connection.resume()
        return batch

    async def acknowledge(self, heard: Sequence[Heard]) -> None:
        """Tell the broker that these are committed; a message of an earlier connection is left to its redelivery."""
        client = self._connection.client
        if client is None:
            return
        generation = self._connection.generation
        for each in heard:
            receipt = each.token
            if isinstance(receipt, MqttReceipt) and receipt.generation == generation:
                client.ack(receipt.mid, 1)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send a receipt with QoS 1 and come back when the broker has it.

        Without a connection it is not sent, and follows when the message comes again.
        """
        client = self._connection.client
        if client is None:
            return
        info = client.publish(topic, payload, qos=1)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS or self._connection.is_paused:
            return
        taken = self._receipts[info.mid] = asyncio.get_running_loop().create_future()
        await asyncio.wait([taken], timeout=self._patience_s)
        if not taken.done():
            self._receipts.pop(info.mid, None)
            log.warning("link.receipt_slow", link=self.name, topic=topic, waited_s=self._patience_s)

    async def close(self) -> None:
        """End the link; the broker keeps what was not acknowledged for the next start."""
        self._is_closed = True
        if self._supervisor is not None:
            await self._connection.settle()
            await end(self._supervisor)
        self._wait_no_more()
        self._status.is_up = False
        self._inbox.clear()
        self._inbox.close(f"{self.name}: closed")

    def _subscribe(self, client: Client) -> None:
        if self._has_been_up:
            self._status.reconnects += 1
        self._has_been_up = True
        if self._version != "5":
            client.subscribe([(topic, 1) for topic in self._topics])
            return
        # Retained messages once, when the subscription is new: not all of them again after every reconnect.
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        client.subscribe([(topic, options) for topic in self._topics])

    def _subscribed(self, reasons: list[ReasonCode]) -> None:
        refused = [
            f"{topic}: {reason}" for topic, reason in zip(self._topics, reasons, strict=False) if reason.is_failure
        ]
        self._status.is_up = not refused
        self._status.last_error = f"the broker refused to subscribe {', '.join(refused)}" if refused else ""
        if refused:
            log.warning("link.subscription_refused", link=self.name, refused=refused)

    def _published(self, mid: int, reason: ReasonCode) -> None:
        if reason.is_failure:
            log.warning("link.receipt_refused", link=self.name, reason=str(reason))
        if (taken := self._receipts.pop(mid, None)) is not None and not taken.done():
            taken.set_result(None)

    def _wait_no_more(self) -> None:
        for taken in self._receipts.values():
            if not taken.done():
                taken.set_result(None)
        self._receipts.clear()

    def _went_down(self, because: str) -> None:
        self._wait_no_more()
        self._status.is_up = False
        self._status.last_error = because

    def _hear(self, message: MQTTMessage) -> None:
        token = MqttReceipt(self._connection.generation, message.mid) if message.qos else None
        payload = bytes(message.payload)
        self._status.bytes_read += len(payload)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = None
        if topic is None or len(payload) > MAX_PAYLOAD_BYTES:
            self._refuse(message, topic)
            return
        if self._tap is not None:
            self._tap("message", topic, payload)
        self._status.frames += 1
        self._status.last_frame_at = self._now()
        self._inbox.put([Heard(Frame("mqtt", payload, topic), token)])
        if self._inbox.is_full:
            self._connection.pause()
            self._wait_no_more()

    def _refuse(self, message: MQTTMessage, topic: str | None) -> None:
        self._status.damaged_frames += 1
        self._status.skipped_bytes += len(message.payload)
        log.warning("link.message_refused", link=self.name, topic=topic, payload_bytes=len(message.payload))
        if message.qos and self._connection.client is not None:
            self._connection.client.ack(message.mid, 1)
