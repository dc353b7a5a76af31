"""Sends messages to a broker and knows which it has: what a gateway does, and the simulator in its place.

A message counts as delivered when the broker confirmed it *and* passed it on to a subscriber's session. A broker that
answers "no matching subscribers" has thrown it away; it is sent again a little later, so a station that starts after
its gateways loses nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict

import structlog
from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from firmware_bridge.transports.broker import BrokerAddress, BrokerConnection
from shared.ending import end

_NO_MATCHING_SUBSCRIBERS = 0x10
_ASK_AGAIN_S = 0.5

log = structlog.get_logger()


class MqttPublisher:
    """Publish with QoS 1 over any number of connections; what was not confirmed on one is sent again on the next."""

    def __init__(
        self,
        name: str,
        address: BrokerAddress,
        *,
        max_in_flight: int = 200,
        needs_subscriber: bool = True,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.address = address
        #: messages that the broker confirmed
        self.confirmed = 0
        self._max_in_flight = max_in_flight
        self._needs_subscriber = needs_subscriber
        self._unconfirmed: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        self._number = 0
        self._numbers_by_mid: dict[int, int] = {}
        self._progress = asyncio.Event()
        self._retries: set[asyncio.TimerHandle] = set()
        self._is_up = False
        self._has_warned = False
        self._connection = BrokerConnection(
            name,
            address,
            receive_maximum=100,
            keeps_session=False,
            on_up=self._send_all_again,
            on_down=self._went_down,
            on_published=self._published,
            rng=rng,
        )
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def unconfirmed(self) -> int:
        """Return how many messages wait for the broker's word."""
        return len(self._unconfirmed)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Take a message on; waits while too many are unconfirmed."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._connection.run(), name=f"publisher {self.name}")
        while len(self._unconfirmed) >= self._max_in_flight:
            await self._wait()
        self._number += 1
        self._unconfirmed[self._number] = (topic, payload)
        self._send(self._number)

    async def drain(self) -> None:
        """Wait until every message is confirmed."""
        while self._unconfirmed:
            await self._wait()

    async def close(self) -> None:
        """End the connection; what is unconfirmed stays unsent."""
        for retry in self._retries:
            retry.cancel()
        if self._supervisor is not None:
            await end(self._supervisor)

    async def _wait(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    def _send(self, number: int) -> None:
        client = self._connection.client
        message = self._unconfirmed.get(number)
        if client is None or message is None or not self._is_up:
            return
        info = client.publish(message[0], message[1], qos=1)
        if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._numbers_by_mid[info.mid] = number

    def _send_all_again(self, client: Client) -> None:
        self._is_up = True
        self._numbers_by_mid.clear()
        for number in self._unconfirmed:
            self._send(number)

    def _went_down(self, because: str) -> None:
        self._is_up = False

    def _published(self, mid: int, reason: ReasonCode) -> None:
        number = self._numbers_by_mid.pop(mid, None)
        if number is None or number not in self._unconfirmed:
            return
        if self._needs_subscriber and reason.value == _NO_MATCHING_SUBSCRIBERS:
            if not self._has_warned:
                self._has_warned = True
                log.warning("publisher.nobody_listens", publisher=self.name, topic=self._unconfirmed[number][0])
            self._send_later(number)
            return
        if reason.is_failure:
            log.warning("publisher.refused", publisher=self.name, reason=str(reason))
            self._send_later(number)
            return
        del self._unconfirmed[number]
        self.confirmed += 1
        self._progress.set()

    def _send_later(self, number: int) -> None:
        def again() -> None:
            self._retries.discard(handle)
            self._send(number)

        handle = asyncio.get_running_loop().call_later(_ASK_AGAIN_S, again)
        self._retries.add(handle)
