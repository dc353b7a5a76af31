"""What of the cloud listens for collars: its links, the ledger they write into and the decoder that follows it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import msgspec

from cloud.ingest.decode import Decoder
from cloud.ingest.directip import DirectIpServer
from cloud.ingest.ledger import LedgerWriter
from cloud.ingest.receive import receive
from cloud.ingest.rockblock import RockBlockHook
from cloud.store.store import PostgresStore
from firmware_bridge.frames import Link
from firmware_bridge.transports.mqtt import MqttLink
from shared.clock import Clock
from shared.ending import end


class MqttSource(msgspec.Struct, frozen=True, kw_only=True):
    """An application of a network server: where its broker is and who we are there."""

    name: str
    host: str
    port: int
    topics: tuple[str, ...]
    client_id: str
    username: str | None
    password: str | None
    tls_ca: str | None
    is_v5: bool


class BrokerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the link to a broker is; counters since the program started."""

    name: str
    address: str
    is_up: bool
    frames: int
    reconnects: int
    last_frame_at: datetime | None
    last_error: str


class DirectIp(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen for the Iridium gateway, and from where it may come."""

    host: str
    port: int
    peers: tuple[str, ...]
    does_confirm: bool


class Ingest:
    """The ledger's writer and the hook, for whoever serves HTTP; ``running`` starts the rest."""

    def __init__(self, store: PostgresStore, clock: Clock, *, rockblock_keys: Sequence[str] = ()) -> None:
        self._decoder = Decoder(store)
        self._clock = clock
        self.ledger = LedgerWriter(store.database, clock, self._decoder.wake)
        self.hook = RockBlockHook(self.ledger, rockblock_keys)
        self._links: list[Link] = []
        #: the port on which the Iridium gateway is waited for; None where it is not
        self.directip_port: int | None = None

    @property
    def brokers(self) -> list[BrokerStatus]:
        """How the links to brokers are."""
        return [
            BrokerStatus(
                name=said.name, address=said.address, is_up=said.is_up, frames=said.frames, reconnects=said.reconnects,
                last_frame_at=said.last_frame_at, last_error=said.last_error,
            )
            for said in (link.status for link in self._links)
        ]  # fmt: skip

    @contextlib.asynccontextmanager
    async def running(
        self, sources: Sequence[MqttSource] = (), directip: DirectIp | None = None
    ) -> AsyncIterator[list[asyncio.Task[None]]]:
        """Listen and decode while the block runs; gives the tasks, none of which ends by itself but with an error."""
        async with contextlib.AsyncExitStack() as stack:
            if directip is not None:
                peers = [ipaddress.ip_network(peer, strict=False) for peer in directip.peers]
                server = DirectIpServer(self.ledger, peers, does_confirm=directip.does_confirm)
                self.directip_port = await stack.enter_async_context(server.listening(directip.host, directip.port))
            self._links = [self._link(source) for source in sources]
            tasks = [asyncio.create_task(self._decoder.run(), name="decode")]
            stack.push_async_callback(_end, tasks)
            for link in self._links:
                tasks.append(asyncio.create_task(receive(link, self.ledger), name=f"link {link.name}"))
                stack.push_async_callback(link.close)
            yield tasks

    def _link(self, source: MqttSource) -> Link:
        return MqttLink(
            source.name, source.host, source.port, now=self._clock.now, client_id=source.client_id,
            topics=source.topics, username=source.username, password=source.password, tls_ca=source.tls_ca,
            version="5" if source.is_v5 else "3.1.1",
        )  # fmt: skip


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    await end(*tasks)
