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


async def test_nobody_waits_for_the_next_answer_while_the_last_one_is_young() -> None:
    clock, making = FakeClock(), Making()
    brief = Brief(clock.monotonic)
    await brief.get("a", making)
    making.go.clear()
    clock.tick(3.4)
    assert await brief.get("a", making) == 1
    assert making.count == 1
    clock.tick(0.2)
    assert [await brief.get("a", making), await brief.get("a", making)] == [1, 1]
    await asyncio.sleep(0)
    assert making.count == 2  # begun once
    clock.tick(1.5)  # the first is too old now, and the second is not made yet
    waiting = asyncio.create_task(brief.get("a", making))
    await asyncio.sleep(0)
    assert not waiting.done()
    making.go.set()
    assert await waiting == 2
    assert await brief.get("a", making) == 2
    assert making.count == 2


async def test_a_next_answer_that_fails_leaves_the_last_one_until_it_is_too_old() -> None:
    clock = FakeClock()
    brief = Brief(clock.monotonic)

    async def fail() -> int:
        raise OSError("gone")

    await brief.get("a", Making())
    clock.tick(4.0)
    assert await brief.get("a", fail) == 1
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    later = Making()
    later.count = 6
    assert await brief.get("a", later) == 1
    await asyncio.sleep(0)
    clock.tick(1.1)
    assert await brief.get("a", fail) == 7


async def test_an_answer_that_takes_longer_than_it_is_kept_is_made_once() -> None:
    clock, making = FakeClock(), Making()
    brief = Brief(clock.monotonic)
    making.go.clear()
    first = asyncio.create_task(brief.get("a", making))
    await asyncio.sleep(0)
    clock.tick(6.0)
    second = asyncio.create_task(brief.get("a", making))
    await asyncio.sleep(0)
    making.go.set()
    assert list(await asyncio.gather(first, second)) == [1, 1]
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
