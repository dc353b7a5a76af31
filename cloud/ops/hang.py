"""A process that hangs ends by itself, so that systemd or the container's restart policy starts another in its place.

The heartbeat comes from the event loop, each time after a proof that the process still does its work. Where none comes
in time the interpreter's own watchdog ends the process, also while nobody gives Python's lock back, and writes where
each thread stood: files and lines, no values.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

#: So long may a process say nothing: longer than any statement on the database may take.
PATIENCE_S: Final = 60.0
_BEATS: Final = 3
_AGAIN_S: Final = 1.0


async def end_if_hung(proof: Callable[[], Awaitable[bool]], *, patience_s: float = PATIENCE_S) -> None:
    """End this process, exit code 1, once ``proof`` has not said yes for ``patience_s``; for ever."""
    try:
        while True:
            faulthandler.dump_traceback_later(patience_s, exit=True)
            while not await proof():  # noqa: ASYNC110 - what is waited for is nothing that could tell
                await asyncio.sleep(min(_AGAIN_S, patience_s / _BEATS))
            await asyncio.sleep(patience_s / _BEATS)
    finally:
        faulthandler.cancel_dump_traceback_later()


async def loop_turns() -> bool:
    """Say that the loop turns, which whoever hears it knows by that."""
    return True


def answers_at(url: str) -> Callable[[], Awaitable[bool]]:
    """Return what says whether the service of this process answers that it lives, over its own port."""
    parts = urlsplit(url)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(parts.hostname or "", parts.hostname)  # noqa: S104 - as configured

    async def answers() -> bool:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, parts.port)
            try:
                writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
        return False

    return answers
