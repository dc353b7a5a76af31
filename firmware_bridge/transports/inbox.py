"""What a link has heard and its reader has not yet taken.

A link never drops what it heard: when an inbox is full, the link stops reading its port or socket, the peer's buffers
fill, and the peer waits. A reader that takes frames makes room, and the link goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from firmware_bridge.frames import Heard
from shared.errors import LinkClosed


class Inbox:
    """A bounded queue of one event loop with one reader. It is full by frames or by bytes; a put always succeeds."""

    def __init__(self, *, max_frames: int, max_bytes: int) -> None:
        self._heard: deque[Heard] = deque()
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._bytes = 0
        self._changed = asyncio.Event()
        self._closed_because: str | None = None

    def __len__(self) -> int:
        return len(self._heard)

    @property
    def is_full(self) -> bool:
        """Say whether the link should stop listening."""
        return len(self._heard) >= self._max_frames or self._bytes >= self._max_bytes

    @property
    def has_room(self) -> bool:
        """Say whether a link that stopped should listen again: half empty, so that it does not flutter."""
        return len(self._heard) <= self._max_frames // 2 and self._bytes <= self._max_bytes // 2

    def put(self, heard: Iterable[Heard]) -> None:
        """Add frames and wake the reader."""
        before = len(self._heard)
        self._heard.extend(heard)
        for index in range(before, len(self._heard)):
            self._bytes += len(self._heard[index].frame.payload)
        if self._heard:
            self._changed.set()

    async def take(self, at_most: int) -> list[Heard]:
        """Wait for frames and return up to ``at_most``; raises LinkClosed when it is closed and empty.

        A cancelled take takes nothing.
        """
        while not self._heard:
            if self._closed_because is not None:
                raise LinkClosed(self._closed_because)
            self._changed.clear()
            await self._changed.wait()
        taken = [self._heard.popleft() for _ in range(min(at_most, len(self._heard)))]
        self._bytes -= sum(len(heard.frame.payload) for heard in taken)
        return taken

    def clear(self) -> None:
        """Forget what waits: for a link whose peer will say it again."""
        self._heard.clear()
        self._bytes = 0

    def close(self, because: str) -> None:
        """Accept that no more will come; the reader gets the rest and then LinkClosed."""
        self._closed_because = because
        self._changed.set()
