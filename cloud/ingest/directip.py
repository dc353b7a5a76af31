"""A server for Iridium DirectIP: the gateway connects, sends a message, and waits for the word that it is kept.

::

    gateway --connect--> 01 | length | elements --> ledger, commit --> 01 0004 05 0001 01, kept
                                                 \\-> not in time, no message, no room: 05 0001 00, close

The gateway sends what was not confirmed again for twelve hours, so nothing is confirmed before the commit. What came
whole and cannot be read is kept and confirmed: sending it again would not mend it. What is no message at all (another
version, a length that none has) or did not come whole in time leaves no trace but a count.

DirectIP proves nobody's identity. So the addresses that may connect are configured, and others are closed at once.
Connections are bounded in number, each in the time that it may take and in what it may send ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Sequence
from typing import Final

import structlog

from cloud.ingest.ledger import LedgerWriter
from firmware_bridge.framing.directip import CONFIRMATION, PREFIX_BYTES, encode_directip, message_length
from shared.errors import ConfigError, FrameError, StoreError

log = structlog.get_logger()

LINK: Final = "directip"
KEPT: Final = encode_directip({CONFIRMATION: b"\x01"})
NOT_KEPT: Final = encode_directip({CONFIRMATION: b"\x00"})

MAX_CONNECTIONS: Final = 64
#: A message must be whole so soon after the connection, or after the one before it.
MESSAGE_S: Final = 15.0
COMMIT_S: Final = 20.0
#: The gateway sends one and closes; whoever keeps a connection comes to its end.
MAX_MESSAGES: Final = 100
_READ_AHEAD_BYTES: Final = 4096
_SAY_S: Final = 5.0

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class DirectIpServer:
    """Takes messages of the gateway into the ledger."""

    def __init__(
        self,
        ledger: LedgerWriter,
        peers: Sequence[Network],
        *,
        does_confirm: bool = True,
        max_connections: int = MAX_CONNECTIONS,
        message_s: float = MESSAGE_S,
        commit_s: float = COMMIT_S,
    ) -> None:
        self._ledger = ledger
        self._peers = tuple(peers)
        self._does_confirm = does_confirm
        self._max_connections = max_connections
        self._message_s = message_s
        self._commit_s = commit_s
        self._open: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Listen while the block runs; gives the port. Raises ConfigError where it cannot be had."""
        try:
            server = await asyncio.start_server(self._accept, host, port, limit=_READ_AHEAD_BYTES)
        except OSError as error:
            raise ConfigError(f"ingest.directip_port: port {port} on {host} cannot be had: {error.strerror}") from error
        bound: int = server.sockets[0].getsockname()[1]
        log.info("ingest.directip_listens", host=host, port=bound)
        try:
            yield bound
        finally:
            server.close()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)
            await server.wait_closed()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if not self._may_connect(address):
            self._turn_away(writer, address, "is not one of ingest.directip_peers")
        elif len(self._open) >= self._max_connections:
            self._turn_away(
                writer, address, f"is one more than the {self._max_connections} that may be connected at once"
            )
        else:
            task = asyncio.create_task(self._serve(reader, writer, address), name=f"directip {address}")
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    def _may_connect(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self._peers)

    def _turn_away(self, writer: asyncio.StreamWriter, address: str, why: str) -> None:
        self._ledger.refuse(LINK, f"{address} {why}")
        log.warning("ingest.turned_away", link=LINK, peer=address, reason=why)
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        """Take the messages of one connection, each confirmed before the next is read."""
        try:
            for _ in range(MAX_MESSAGES):
                async with asyncio.timeout(self._message_s):
                    message = await read_message(reader)
                if message is None:
                    break
                await self._ledger.append(LINK, "directip", [("", message)], within_s=self._commit_s)
                await self._say(writer, KEPT)
        except (FrameError, TimeoutError, StoreError) as error:
            reason = str(error) or f"no whole message within {self._message_s:g} s"
            self._ledger.refuse(LINK, f"{address}: {reason}")
            log.warning("ingest.not_kept", link=LINK, peer=address, reason=reason)
            with contextlib.suppress(ConnectionError):
                await self._say(writer, NOT_KEPT)
            if not self._does_confirm:
                writer.transport.abort()  # closing in order would mean that it was taken
        except ConnectionError as error:
            log.info("ingest.hung_up", link=LINK, peer=address, reason=str(error))
        finally:
            await _close(writer)

    async def _say(self, writer: asyncio.StreamWriter, word: bytes) -> None:
        if not self._does_confirm:
            return
        writer.write(word)
        try:
            async with asyncio.timeout(_SAY_S):
                await writer.drain()
        except TimeoutError:
            raise ConnectionError("it does not read what it is told") from None


async def read_message(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next message, None at the end of the stream between two; raises FrameError for what is none.

    Holds no more than one message, whatever its length claims.
    """
    try:
        prefix = await reader.readexactly(PREFIX_BYTES)
        return prefix + await reader.readexactly(message_length(prefix) - PREFIX_BYTES)
    except asyncio.IncompleteReadError as error:
        if not error.partial and error.expected == PREFIX_BYTES:
            return None
        raise FrameError("the connection ended in the middle of a message") from None


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(_SAY_S):
            await writer.wait_closed()
    writer.transport.abort()  # a peer that reads nothing must not hold it open
