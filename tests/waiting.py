"""Waits for what other programs, threads or a database make true, and gives up where that never comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

DEADLINE_S: Final = 120.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` is true; raises TimeoutError where it does not come true."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - whoever makes it true knows no event of ours
            await asyncio.sleep(0.01)
