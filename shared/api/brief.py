"""Answers that are kept for seconds: many screens ask for the same view of all animals.

Kept by who may see what, never by address alone: a ranger's exact answer must not reach a viewer. The clock is the
monotonic one. While an answer is made, others who ask for it wait for it instead of making it too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: How long an answer is kept.
KEPT_S: Final = 5.0


class Brief:
    """Keeps answers by key for ``kept_s``."""

    def __init__(self, monotonic: Callable[[], float], kept_s: float = KEPT_S) -> None:
        self._monotonic = monotonic
        self._kept_s = kept_s
        self._answers: dict[Hashable, tuple[float, asyncio.Future[Any]]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """Return the answer of ``key``, made anew where it is older; an answer that failed is not kept."""
        now_s = self._monotonic()
        self._answers = {k: kept for k, kept in self._answers.items() if now_s - kept[0] < self._kept_s}
        kept = self._answers.get(key)
        if kept is None:
            making: asyncio.Future[T] = asyncio.ensure_future(make())
            kept = self._answers[key] = now_s, making
            making.add_done_callback(lambda done: self._forget_failed(key, done))
        answer: T = await asyncio.shield(kept[1])
        return answer

    def _forget_failed(self, key: Hashable, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or done.exception() is not None:
            kept = self._answers.get(key)
            if kept is not None and kept[1] is done:
                del self._answers[key]
