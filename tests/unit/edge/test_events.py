"""The hub of events: who gets what, what is lost, and who is told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from edge.api.events import EventHub, Listener, News, stream
from shared.api.hints import Hints
from shared.errors import RateLimited, StoreError

pytestmark = pytest.mark.unit

WITHIN_S = 20.0


def read(lines: list[bytes] | None) -> list[tuple[int, str, Any]]:
    """Return (id, name, data) of encoded events."""
    return list(_events(lines or []))


def _events(lines: list[bytes]) -> Iterator[tuple[int, str, Any]]:
    for line in lines:
        fields = dict(part.split(": ", 1) for part in line.decode().strip().split("\n"))
        yield int(fields["id"]), fields["event"], json.loads(fields["data"])


async def taken(listener: Listener) -> list[tuple[int, str, Any]]:
    """Return what waits for a listener."""
    return read(await listener.take(1.0))


async def test_all_who_listen_get_every_event_in_order() -> None:
    hub = EventHub()
    listeners = [hub.listen(), hub.listen()]
    for n in range(3):
        hub.publish("fix", {"n": n})
    for listener in listeners:
        got = await taken(listener)
        assert [(name, data["n"]) for _, name, data in got] == [("fix", 0), ("fix", 1), ("fix", 2)]
        ids = [identity for identity, _, _ in got]
        assert ids == sorted(set(ids))
        assert max(ids) == hub.last_id < 2**53


async def test_a_store_that_fails_once_costs_listeners_no_later_hint() -> None:
    answers: list[int | StoreError] = [1, StoreError("no room"), 2]

    async def ask() -> int:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, StoreError):
            raise answer
        return answer

    hub = EventHub()
    listener = hub.listen()
    news = News(hub, Hints(ask, every_s=0.0))
    await news.begin()
    async with asyncio.timeout(WITHIN_S):
        while not (heard := await taken(listener)):
            pass
    assert [(name, data) for _, name, data in heard] == [("sync", {"timestamp": 2})]


async def test_a_slow_listener_loses_the_oldest_and_is_told_once() -> None:
    hub = EventHub(queue=4)
    slow, quick = hub.listen(), hub.listen()
    for n in range(10):
        hub.publish("fix", n)
        assert len(await taken(quick)) == 1
    lost, *rest = await taken(slow)
    assert lost[1:] == ("lost", {"missed": 6})
    assert [data for _, _, data in rest] == [6, 7, 8, 9]
    assert lost[0] == rest[0][0] - 1
    hub.publish("alert", "a")
    assert [name for _, name, _ in await taken(slow)] == ["alert"]


async def test_a_listener_that_returns_gets_what_it_missed() -> None:
    hub = EventHub()
    for n in range(5):
        hub.publish("fix", n)
    assert [data for _, _, data in await taken(hub.listen(str(hub.last_id - 2)))] == [3, 4]
    assert read(await hub.listen(str(hub.last_id)).take(0.001)) == []
    assert read(await hub.listen().take(0.001)) == []


async def test_a_listener_that_returns_too_late_is_told_how_much_is_gone() -> None:
    hub = EventHub(ring=3)
    first_id = hub.last_id
    for n in range(10):
        hub.publish("fix", n)
    lost, *rest = await taken(hub.listen(str(first_id + 1)))
    assert lost[1:] == ("lost", {"missed": 6})
    assert [data for _, _, data in rest] == [7, 8, 9]


@pytest.mark.parametrize("last_id", ["0", "17", "-1", "abc", "9" * 30, "²", "9007199254740991"])
async def test_an_id_of_another_run_means_fetch_everything(last_id: str) -> None:
    hub = EventHub()
    hub.publish("fix", 1)
    (lost,) = await taken(hub.listen(last_id))
    assert lost == (hub.last_id, "lost", {"missed": None})


async def test_ids_of_two_runs_never_meet() -> None:
    old, new = EventHub(), EventHub()
    while old.last_id == new.last_id:
        new = EventHub()
    old.publish("fix", 1)
    assert [name for _, name, _ in await taken(new.listen(str(old.last_id)))] == ["lost"]


async def test_too_many_listeners_are_sent_away() -> None:
    hub = EventHub(max_listeners=2)
    first = hub.listen()
    hub.admit()
    hub.listen()
    with pytest.raises(RateLimited):
        hub.admit()
    hub.leave(first)
    hub.admit()


async def test_another_thread_may_publish() -> None:
    hub = EventHub()
    listener = hub.listen()
    loop = asyncio.get_running_loop()
    thread = threading.Thread(target=hub.publish_threadsafe, args=(loop, "clock", {"state": "gnss"}))
    thread.start()
    assert [(name, data) for _, name, data in await taken(listener)] == [("clock", {"state": "gnss"})]
    thread.join()


async def test_a_stream_greets_keeps_alive_and_forgets_who_leaves() -> None:
    hub = EventHub()
    events = stream(hub, None, keep_alive_s=0.001)
    assert b"retry: 3000" in await anext(events)
    assert hub.listeners == 1
    assert await anext(events) == b": still here\n\n"
    hub.publish("link", {"name": "lora"})
    assert b"event: link" in await anext(events)
    await events.aclose()
    assert hub.listeners == 0


async def test_closing_the_hub_ends_every_stream_after_what_is_queued() -> None:
    hub = EventHub()
    events = stream(hub, None, keep_alive_s=60)
    await anext(events)
    hub.publish("fix", 1)
    hub.close()
    assert [b"event: fix" in chunk async for chunk in events] == [True]
    assert [chunk async for chunk in stream(hub, None, keep_alive_s=60)][1:] == []


async def test_a_stream_ends_when_its_listener_may_listen_no_more() -> None:
    hub = EventHub()
    asked: list[bool] = []

    async def may_go_on() -> bool:
        asked.append(len(asked) < 2)
        return asked[-1]

    heard = b""
    async for part in stream(hub, None, 0.001, may_go_on=may_go_on, recheck_s=0.0):
        heard += part
    assert asked == [True, True, False]
    assert b"listening" in heard
    assert hub.listeners == 0


async def test_a_listener_that_is_cancelled_as_an_event_comes_ends() -> None:
    hub = EventHub()
    listener = hub.listen()
    taking = asyncio.create_task(listener.take(60))
    await asyncio.sleep(0)
    hub.publish("fix", 1)
    taking.cancel()
    await asyncio.wait([taking])
    assert taking.cancelled()
