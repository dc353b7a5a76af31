"""An HTTP proxy in the test's own event loop that does to each request what a script says.

It reads whole requests and whole answers, so that it can tell before the server from after it: an answer is lost after
the server has committed, a request is held back and comes when nobody waits for it, a connection is half open.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections import Counter
from collections.abc import Iterator
from socket import SO_LINGER, SOL_SOCKET
from typing import Final

from tests.schedules import Fate

_RESET: Final = struct.pack("ii", 1, 0)
_MAX_HEAD_BYTES: Final = 64 << 10
_CRUMB_BYTES: Final = 48


def always_through() -> Iterator[Fate]:
    """Yield what a good link does to each request."""
    while True:
        yield "through"


class HttpProxy:
    """Forwards requests from a port of its own to ``upstream``; ``fates`` says what becomes of each, in turn."""

    def __init__(self) -> None:
        self.upstream = 0
        self.fates = always_through()
        #: requests to batches that have not arrived, or that will arrive again
        self.late: list[bytes] = []
        self.happened: Counter[Fate] = Counter()
        self._rng = random.Random(3)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address that stations are told."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_MAX_HEAD_BYTES)

    async def close(self) -> None:
        """Take no more connections and end those that there are."""
        assert self._server is not None
        self._server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def deliver(self, request: bytes) -> None:
        """Bring a request that nobody waits for any more; its answer goes nowhere."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            writer.write(request)
            await _answer(reader)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while request := await _request(reader):
                if upstream is None:
                    upstream = await asyncio.open_connection("127.0.0.1", self.upstream)
                if not await self._forward(request, reader, writer, upstream):
                    _reset(writer)
                    return
        except (OSError, asyncio.IncompleteReadError):
            _reset(writer)
        finally:
            self._open.discard(task)
            for each in (writer, *([upstream[1]] if upstream else [])):
                each.close()

    async def _forward(
        self,
        request: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:
        """Do with a request what its fate says; False where the connection is to be cut."""
        fate = next(self.fates)
        is_batch = request.startswith(b"PUT ")
        self.happened[fate] += 1
        if fate in ("late", "repeated") and is_batch:
            self.late.append(request)
        if fate in ("request lost", "late"):
            return False
        if fate == "damaged":
            at = self._rng.randrange(request.index(b"\r\n\r\n") + 4, len(request)) if is_batch else None
            if at is None:
                return False
            request = request[:at] + bytes((request[at] ^ 1 << self._rng.randrange(8),)) + request[at + 1 :]
        upstream[1].write(request)
        answer = await _answer(upstream[0])
        if fate == "answer lost":
            return False
        if fate == "half open":  # the peer is gone and no packet says so; the client has to give up by itself
            await reader.read(1)
            return False
        if fate == "throttled":
            for start in range(0, len(answer), _CRUMB_BYTES):
                writer.write(answer[start : start + _CRUMB_BYTES])
                await writer.drain()
                await asyncio.sleep(0.001)
        else:
            writer.write(answer)
            await writer.drain()
        return True


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Return the next request, nothing where the client has hung up."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    return head + await reader.readexactly(_length(head))


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(_length(head))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
        assert name.lower() != b"transfer-encoding", "neither home sends in chunks"
    return 0


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset in the place of a goodbye."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
    writer.transport.abort()
