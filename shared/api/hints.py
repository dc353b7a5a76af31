"""Hints that something changed which a phone may pull: Server-Sent Events ``sync``.

A hint says no more than that it is worth pulling: a phone pulls when it connects, and again when it is told. So what
changes within a second is one hint, a hint may come for nothing, and none is needed for what came before. It carries
the timestamp that a pull of this moment would have.

Whoever waits asks, but all of one process ask the home once in ``every_s``, and where nobody waits nobody asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

EVERY_S: Final = 1.0


class Hint(msgspec.Struct, frozen=True):
    """What an event ``sync`` says: the timestamp of a pull of this moment."""

    timestamp: int


class Hints:
    """Waits for the number of a home's last change to become another one; ``ask`` gives it as phones keep it."""

    def __init__(self, ask: Callable[[], Awaitable[int]], *, every_s: float = EVERY_S) -> None:
        self._ask = ask
        self.every_s = every_s
        self._asking = asyncio.Lock()
        self._asked_s: float | None = None
        self._last = 0

    async def now(self) -> int:
        """Return the number, at most ``every_s`` old."""
        async with self._asking:
            if self._asked_s is None or time.monotonic() - self._asked_s >= self.every_s:
                self._last = await self._ask()
                self._asked_s = time.monotonic()
            return self._last

    async def after(self, seen: int, timeout_s: float) -> int | None:
        """Return the number as soon as it is not ``seen``; None when ``timeout_s`` has passed."""
        deadline_s = time.monotonic() + timeout_s
        while (last := await self.now()) == seen:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return None
            await asyncio.sleep(min(self.every_s, left_s))
        return last
