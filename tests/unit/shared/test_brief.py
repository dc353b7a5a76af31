"""Answers that are kept for seconds."""

from __future__ import annotations

import asyncio

import pytest

from shared.api.brief import Brief
from tests.fakes import FakeClock

pytestmark = pytest.mark.unit


class Making:
    """Counts how often an answer is made."""

    def __init__(self) -> None:
        self.count = 0
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self) -> int:
        self.count += 1
        await self.go.wait()
        return self.count


async def test_an_answer_is_kept_for_five_seconds() -> None:
    clock, making = FakeClock(), Making()
    brief = Brief(clock.monotonic)
    assert [await brief.get("a", making), await brief.get("a", making)] == [1, 1]
    clock.tick(4.9)
    assert await brief.get("a", making) == 1
    clock.tick(0.2)
    assert await brief.get("a", making) == 2


async def test_another_key_has_another_answer() -> None:
    brief, making = Brief(FakeClock().monotonic), Making()
    assert [await brief.get(("live", "ranger"), making), await brief.get(("live", "viewer"), making)] == [1, 2]


async def test_those_who_ask_meanwhile_wait_for_the_same_answer() -> None:
    brief, making = Brief(FakeClock().monotonic), Making()
    making.go.clear()
    waiting = [asyncio.create_task(brief.get("a", making)) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one who goes away takes nothing from the others
    await asyncio.sleep(0)
    making.go.set()
    assert await asyncio.gather(*waiting[1:]) == [1] * 19


async def test_a_failure_is_not_kept() -> None:
    brief = Brief(FakeClock().monotonic)

    async def fail() -> int:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await brief.get("a", fail)
    assert await brief.get("a", Making()) == 1
