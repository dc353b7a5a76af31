"""The base stations of a simulation: a serial one behind a pseudo-terminal, and a gateway behind a broker.

Both take bytes as fast as the other side does and lose none: a full terminal or an unconfirmed broker makes ``send``
wait. A station can be unplugged and plugged in again; the path stays, as a by-id path does.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import termios
import tty
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from firmware_bridge.transports.broker import BrokerAddress
from firmware_bridge.transports.publisher import MqttPublisher

#: A write is small and made only when the terminal is nearly empty: then it is taken whole, and a frame never stands
#: half written while its reader already counts the silence.
_WRITE_BYTES = 4096
_BACKLOG_BYTES = 1024
_POLL_S = 0.002
_DRAIN_POLL_S = 0.02
#: The kernel moves bytes between two buffers behind our back: only after this many empty looks the terminal is empty.
_EMPTY_LOOKS = 3


class BaseStation(Protocol):
    """Somewhere that a plan's bytes go."""

    @property
    def address(self) -> str:
        """Where the other side finds it, for people."""
        ...

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Hand over (topic, bytes); waits while the other side is slower."""
        ...

    async def drain(self) -> None:
        """Wait until the other side has everything."""
        ...

    async def close(self) -> None:
        """End it."""
        ...


class SerialBaseStation:
    """A base station on a cable: a pseudo-terminal in raw mode, found at ``path``, a symbolic link.

    Both ends stay open here, so bytes wait in the kernel while nobody reads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._master = -1
        self._slave = -1
        self.plug()

    @property
    def address(self) -> str:
        """The path that a station opens."""
        return str(self.path)

    @property
    def is_plugged(self) -> bool:
        """Say whether the cable is in."""
        return self._master >= 0

    def plug(self) -> None:
        """Make the terminal appear at the path; it may have another number than before."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        link = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(self._slave))
        link.replace(self.path)

    def unplug(self) -> None:
        """Pull the cable: readers see the end, unread bytes are gone."""
        if self._master < 0:
            return
        if self.path.is_symlink() and self.path.readlink() == Path(os.ttyname(self._slave)):
            self.path.unlink()
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Write whole messages, as many at a time as the terminal takes at once; waits while the cable is out."""
        batch = b""
        for _, data in messages:
            if batch and len(batch) + len(data) > _WRITE_BYTES:
                await self._write(batch)
                batch = b""
            batch += data
        if batch:
            await self._write(batch)

    async def drain(self) -> None:
        """Wait until the reader has read everything."""
        empty_looks = 0
        while empty_looks < _EMPTY_LOOKS:
            await asyncio.sleep(_DRAIN_POLL_S)
            empty_looks = empty_looks + 1 if self._backlog_bytes() == 0 else 0

    async def close(self) -> None:
        """Pull the cable for good."""
        self.unplug()

    async def _write(self, data: bytes) -> None:
        while data:
            # Nothing tells when a reader has read: the kernel is asked.
            while not self.is_plugged or self._backlog_bytes() > _BACKLOG_BYTES:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(_POLL_S)
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                await asyncio.sleep(_POLL_S)

    def _backlog_bytes(self) -> int:
        """Return how much the reader has not read."""
        if not self.is_plugged:
            return 0
        count = array.array("i", [0])
        fcntl.ioctl(self._slave, termios.FIONREAD, count)
        return count[0]


class BrokerBaseStation:
    """A gateway that publishes to a broker with QoS 1."""

    def __init__(self, host: str, port: int, *, client_id: str, max_in_flight: int = 200) -> None:
        address = BrokerAddress(host=host, port=port, client_id=client_id)
        self._publisher = MqttPublisher(client_id, address, max_in_flight=max_in_flight)

    @property
    def address(self) -> str:
        """Host and port of the broker."""
        return self._publisher.address.text

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish; waits while too much is unconfirmed."""
        for topic, data in messages:
            await self._publisher.publish(topic, data)

    async def drain(self) -> None:
        """Wait until the broker has confirmed everything."""
        await self._publisher.drain()

    async def close(self) -> None:
        """End the connection."""
        await self._publisher.close()
