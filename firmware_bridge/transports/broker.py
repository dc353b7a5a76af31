"""One connection to an MQTT broker after another, on the event loop's own thread.

::

    connect (in a thread: name look-up, TCP, TLS) --CONNACK ok--> on_up --lost--> on_down --back-off--> connect

Every connection is a fresh paho client, so nothing of an old one, neither a packet id nor half a packet, can reach the
next. The session at the broker outlives them where ``keeps_session`` says so: no clean start, and it never expires.

paho's own network thread is not used. Its three loop functions run from the loop's readiness callbacks, so messages,
acknowledgements and counters belong to one thread and need no lock.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from firmware_bridge.transports.backoff import Backoff

_NEVER = 0xFFFFFFFF
_CONNECT_TIMEOUT_S = 5.0
_KEEPALIVE_S = 30
_SETTLE_S = 3.0
_LOOK_S = 1.0
#: Messages taken per readiness callback before other work of the loop has its turn.
_READ_BURST = 64
#: The broker must not send more than this in one packet: it bounds the memory that a stranger can fill.
MAX_PACKET_BYTES = 16 * 1024 * 1024

log = structlog.get_logger()


#: The Things Stack speaks the older one alone.
MqttVersion = Literal["5", "3.1.1"]


class BrokerAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker is and who we are there. ``tls_ca`` is the path of the only authorities that are believed.

    ``version`` 3.1.1 has no bound on messages under way and no expiry of sessions: the broker's own settings count.
    """

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = None
    tls_ca: str | None = None
    version: MqttVersion = "5"

    @property
    def text(self) -> str:
        """Return host and port for people; no credentials."""
        return f"{self.host}:{self.port}"


class BrokerConnection:
    """Keep a connection to a broker until ``close``; the callbacks run on the event loop."""

    def __init__(
        self,
        name: str,
        address: BrokerAddress,
        *,
        receive_maximum: int,
        keeps_session: bool,
        on_up: Callable[[Client], None],
        on_down: Callable[[str], None],
        on_message: Callable[[MQTTMessage], None] | None = None,
        on_subscribed: Callable[[list[ReasonCode]], None] | None = None,
        on_published: Callable[[int, ReasonCode], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        #: counts connections: a receipt belongs to the generation in which its message came
        self.generation = 0
        #: the live client, None while there is no connection
        self.client: Client | None = None
        self._name = name
        self._address = address
        self._receive_maximum = receive_maximum
        self._keeps_session = keeps_session
        self._on_up = on_up
        self._on_down = on_down
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._on_published = on_published
        self._backoff = Backoff(rng)
        self._is_paused = False
        self._may_connect = asyncio.Event()
        self._may_connect.set()
        self._lost = asyncio.Event()
        self._lost_because = ""
        self._settled = asyncio.Event()
        #: callbacks so far, to see whether a read brought anything
        self._events = 0

    async def run(self) -> None:
        """Connect, stay, and connect again, until cancelled."""
        while True:
            await self._may_connect.wait()
            client = self._make_client()
            try:
                await self._dial(client)
                self._attach(client)
                await self._until_lost(client)
            except (OSError, ValueError) as error:
                self._lost_because = f"cannot reach {self._address.text}: {error}"
            finally:
                self._detach(client)
            if self._backoff.failures == 0:
                log.warning("link.down", link=self._name, address=self._address.text, error=self._lost_because)
            self._on_down(self._lost_because)
            await asyncio.sleep(self._backoff.next_s())

    @property
    def is_paused(self) -> bool:
        """Say whether the socket is not read."""
        return self._is_paused

    def pause(self) -> None:
        """Stop reading the socket, and do not reconnect: the reader has enough."""
        if not self._is_paused:
            self._is_paused = True
            self._may_connect.clear()
            if self.client is not None and (fd := _fd(self.client)) >= 0:
                asyncio.get_running_loop().remove_reader(fd)

    def resume(self) -> None:
        """Read again after ``pause``."""
        if self._is_paused:
            self._is_paused = False
            self._may_connect.set()
            if self.client is not None and (fd := _fd(self.client)) >= 0:
                loop = asyncio.get_running_loop()
                loop.add_reader(fd, self._on_readable, self.client)
                # TLS may hold decrypted bytes for which the socket will not become readable again.
                loop.call_soon(self._on_readable, self.client)

    async def settle(self) -> None:
        """Wait until the broker has read all that was sent, or three seconds: before a last disconnect.

        A broker answers one client's packets in order, so the answer to a last request, to unsubscribe what never was
        subscribed, says that it has all receipts. Without it a quick restart would cut off those it had not read.
        """
        client = self.client
        if client is None or not client.is_connected():
            return
        self._settled.clear()
        client.unsubscribe("outpost/none")
        try:
            async with asyncio.timeout(_SETTLE_S):
                await self._settled.wait()
        except TimeoutError:
            log.info("link.unsettled", link=self._name, address=self._address.text)

    # --- one connection ------------------------------------------------------------------------------------------

    def _make_client(self) -> Client:
        address = self._address
        is_v5 = address.version == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=address.client_id,
            clean_session=None if is_v5 else not self._keeps_session,
            protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        if address.tls_ca is not None:
            client.tls_set_context(ssl.create_default_context(cafile=address.tls_ca))
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_message = self._heard
        client.on_subscribe = self._subscribed
        client.on_publish = self._published
        client.on_unsubscribe = self._unsubscribed
        return client

    async def _dial(self, client: Client) -> None:
        """Open the socket and send CONNECT, in a thread because name look-up and TLS block."""
        of_version: dict[str, Any] = {}
        if self._address.version == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = _NEVER if self._keeps_session else 0
            properties.ReceiveMaximum = self._receive_maximum
            properties.MaximumPacketSize = MAX_PACKET_BYTES
            of_version = {"clean_start": not self._keeps_session, "properties": properties}
        dialling = asyncio.ensure_future(
            asyncio.to_thread(client.connect, self._address.host, self._address.port, _KEEPALIVE_S, **of_version)
        )
        try:
            await asyncio.shield(dialling)
        except asyncio.CancelledError:
            # The thread cannot be stopped; nothing may use the client before it is done.
            await asyncio.wait([dialling])
            raise

    def _attach(self, client: Client) -> None:
        """Let the loop watch the socket: from here on the client is used on the loop's thread only."""
        fd = _fd(client)
        if fd < 0:
            raise ConnectionError("the connection ended at once")
        self._lost.clear()
        self._lost_because = ""
        self.generation += 1
        loop = asyncio.get_running_loop()
        client.on_socket_register_write = self._want_write
        client.on_socket_unregister_write = self._no_more_write
        client.on_socket_close = self._socket_closes
        self.client = client
        if not self._is_paused:
            loop.add_reader(fd, self._on_readable, client)
        if client.want_write():
            loop.add_writer(fd, client.loop_write)

    async def _until_lost(self, client: Client) -> None:
        """Stay while the connection lives; once a second paho looks after its keep-alive."""
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._lost.wait()
            except TimeoutError:
                # While paused the broker's PINGRESP would not be read, and paho would take that for a dead line.
                if not self._is_paused:
                    client.loop_misc()

    def _detach(self, client: Client) -> None:
        self.client = None
        if (fd := _fd(client)) >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(fd)
            loop.remove_writer(fd)
        client.on_disconnect = None
        client.disconnect()
        # disconnect() only queues the packet; what cannot be written at once is not worth waiting for.
        client.loop_write()
        sock = client.socket()
        if sock is not None:
            client.on_socket_close = None
            sock.close()

    # --- paho's callbacks, all on the loop's thread ------------------------------------------------------------------

    def _on_readable(self, client: Client) -> None:
        for _ in range(_READ_BURST):
            if client is not self.client or self._is_paused:
                return
            before = self._events
            if client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._lose("the connection was lost")
                return
            if self._events == before and not _pending(client):
                return

    def _connected(
        self, client: Client, userdata: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._events += 1
        if reason.is_failure:
            self._lose(f"{self._address.text} refused the connection: {reason}")
            return
        self._backoff.reset()
        log.info("link.up", link=self._name, address=self._address.text, session_present=flags.session_present)
        self._on_up(client)

    def _disconnected(
        self,
        client: Client,
        userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._lose(f"{self._address.text} was lost: {reason}")

    def _heard(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        self._events += 1
        if self._on_message is not None:
            self._on_message(message)

    def _subscribed(
        self,
        client: Client,
        userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        self._events += 1
        if self._on_subscribed is not None:
            self._on_subscribed(reasons)

    def _unsubscribed(
        self,
        client: Client,
        userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        self._events += 1
        self._settled.set()

    def _published(
        self, client: Client, userdata: object, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._events += 1
        if self._on_published is not None:
            self._on_published(mid, reason)

    def _want_write(self, client: Client, userdata: object, sock: Any) -> None:
        if (fd := _fd(client)) >= 0:
            asyncio.get_running_loop().add_writer(fd, client.loop_write)

    def _no_more_write(self, client: Client, userdata: object, sock: Any) -> None:
        if (fd := _fd(client)) >= 0:
            asyncio.get_running_loop().remove_writer(fd)

    def _socket_closes(self, client: Client, userdata: object, sock: Any) -> None:
        fd = sock.fileno()
        if fd >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(fd)
            loop.remove_writer(fd)

    def _lose(self, because: str) -> None:
        if not self._lost.is_set():
            self._lost_because = because
            self._lost.set()


def _fd(client: Client) -> int:
    sock = client.socket()
    return -1 if sock is None else sock.fileno()


def _pending(client: Client) -> bool:
    """Say whether TLS holds decrypted bytes that the socket's readiness does not tell."""
    sock = client.socket()
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
