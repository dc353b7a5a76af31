from __future__ import annotations

import asyncio

import pytest

from firmware_bridge.frames import Frame, Heard
from firmware_bridge.transports.inbox import Inbox
from shared.errors import LinkClosed

pytestmark = pytest.mark.unit


def heard(*payloads: bytes) -> list[Heard]:
    return [Heard(Frame("cobs", payload)) for payload in payloads]


async def test_frames_come_out_in_order_and_in_bounded_batches() -> None:
    inbox = Inbox(max_frames=10, max_bytes=1000)
    inbox.put(heard(b"1", b"2", b"3"))
    assert await inbox.take(2) == heard(b"1", b"2")
    assert await inbox.take(2) == heard(b"3")


async def test_it_is_full_by_frames_or_by_bytes_and_has_room_when_half_empty() -> None:
    inbox = Inbox(max_frames=4, max_bytes=100)
    inbox.put(heard(b"a", b"b", b"c", b"d"))
    seen = [(inbox.is_full, inbox.has_room)]
    await inbox.take(1)
    seen.append((inbox.is_full, inbox.has_room))
    await inbox.take(1)
    seen.append((inbox.is_full, inbox.has_room))
    inbox.put(heard(bytes(100)))
    seen.append((inbox.is_full, inbox.has_room))
    await inbox.take(10)
    seen.append((inbox.is_full, inbox.has_room))
    assert seen == [(True, False), (False, False), (False, True), (True, False), (False, True)]


async def test_a_put_succeeds_even_when_it_is_full() -> None:
    inbox = Inbox(max_frames=1, max_bytes=1)
    inbox.put(heard(b"a", b"b", b"c"))
    assert len(inbox) == 3


async def test_a_cancelled_take_takes_nothing() -> None:
    inbox = Inbox(max_frames=4, max_bytes=100)
    waiting = asyncio.create_task(inbox.take(1))
    await asyncio.sleep(0)
    inbox.put(heard(b"a"))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await inbox.take(1) == heard(b"a")


async def test_after_close_the_rest_comes_and_then_the_end() -> None:
    inbox = Inbox(max_frames=4, max_bytes=100)
    inbox.put(heard(b"a"))
    inbox.close("over")
    assert await inbox.take(5) == heard(b"a")
    with pytest.raises(LinkClosed, match="over"):
        await inbox.take(5)
