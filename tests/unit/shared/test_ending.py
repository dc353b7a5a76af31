"""Tasks end, also those that lose a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from shared.ending import end

pytestmark = pytest.mark.unit


async def test_a_task_that_loses_its_first_cancellation_ends_with_the_next() -> None:
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(120):
        [why] = await end(task, again_s=0.01)
    assert isinstance(why, asyncio.CancelledError)
    assert lost == 1


async def test_what_tasks_came_to_is_told_in_their_order() -> None:
    async def one() -> int:
        return 1

    async def falls() -> int:
        raise ValueError("x")

    async def stays() -> int:
        return await asyncio.Event().wait()

    tasks = [asyncio.create_task(work()) for work in (one, falls, stays)]
    await asyncio.sleep(0)
    came_to = await end(*tasks)
    assert came_to[0] == 1
    assert isinstance(came_to[1], ValueError)
    assert isinstance(came_to[2], asyncio.CancelledError)
    assert await end() == []
