"""Answers that are kept for seconds: many screens ask for the same view of all animals.

Kept by who may see what, never by address alone: a ranger's exact answer must not reach a viewer. The clock is the
monotonic one. While an answer is made, others who ask for it wait for it instead of making it too; and whoever asks
shortly before an answer is too old has the next one begun, so that screens that ask all the time seldom wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: How long an answer is kept, counted from when its making began.
KEPT_S: Final = 5.0
#: Who asks so shortly before that gets it, and the next one is begun.
AHEAD_S: Final = 1.5


class Brief:
    """Keeps answers by key for ``kept_s``."""

    def __init__(self, monotonic: Callable[[], float], kept_s: float = KEPT_S, ahead_s: float = AHEAD_S) -> None:
        self._monotonic = monotonic
        self._kept_s = kept_s
        self._ahead_s = ahead_s
        #: by key, the oldest first: at most the one that is given and the one that is made
        self._answers: dict[Hashable, list[tuple[float, asyncio.Future[Any]]]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """Return the answer of ``key``, made anew where it is older; an answer that failed is not kept."""
        now_s = self._monotonic()
        self._forget_old(now_s)
        kept = self._answers.setdefault(key, [])
        if not kept or (len(kept) == 1 and kept[0][1].done() and now_s - kept[0][0] >= self._kept_s - self._ahead_s):
            making: asyncio.Future[T] = asyncio.ensure_future(make())
            kept.append((now_s, making))
            making.add_done_callback(lambda done: self._made(key, done))
        answer: T = await asyncio.shield(kept[0][1])
        return answer

    def _forget_old(self, now_s: float) -> None:
        young = {
            key: [each for each in kept if now_s - each[0] < self._kept_s or not each[1].done()]
            for key, kept in self._answers.items()
        }
        self._answers = {key: kept for key, kept in young.items() if kept}

    def _made(self, key: Hashable, done: asyncio.Future[Any]) -> None:
        """Let an answer take the place of those before it, or leave them theirs where it failed."""
        has_failed = done.cancelled() or done.exception() is not None
        kept = self._answers.get(key, [])
        if all(each[1] is not done for each in kept):
            return
        left = [each for each in kept if (each[1] is not done) is has_failed]
        if left:
            self._answers[key] = left
        else:
            del self._answers[key]
