"""What systemd is told: ready, still hearing collars, about to end. Fifteen lines of sd_notify(3), no library.

The heartbeat is not a timer's. It comes from the loop that reads the links, and only after a round trip through the
thread that commits frames: a station whose loop is held up, or whose ledger hangs, falls silent here and is started
again, whatever else of it still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

#: Heartbeats within the time after which systemd loses patience.
_BEATS: Final = 3


class Supervisor:
    """The socket of whoever started this program; without one nothing is said to anybody."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # an abstract name begins with @ there and with a zero byte here
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        patience = environment.get("WATCHDOG_USEC", "")
        is_watched = bool(self._address) and patience.isdigit() and int(patience) > 0
        #: seconds between heartbeats; None where nobody waits for them
        self.interval_s = int(patience) / 1e6 / _BEATS if is_watched else None

    def ready(self, status: str) -> None:
        """Say that frames are taken and reads answered."""
        self._say(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the end is under way."""
        self._say("STOPPING=1")

    async def beat(self, proof: Callable[[], Awaitable[object]]) -> None:
        """Say from time to time that the station works, each time after ``proof`` came back; for ever."""
        if self.interval_s is None:
            return
        while True:
            await proof()
            self._say("WATCHDOG=1")
            await asyncio.sleep(self.interval_s)

    def _say(self, words: str) -> None:
        if not self._address:
            return
        # a supervisor that cannot be reached must not end the station
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(words.encode(), self._address)
