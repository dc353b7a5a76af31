"""The station's web application behind the real server: bodies that are too large, streams, connections."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

import httpx
import pytest
import uvicorn

from edge.api.app import create_app
from edge.api.events import EventHub
from shared.api.body import MAX_BODY_BYTES
from tests.access import TokenAuth, accounts_over
from tests.fakes import START, FakeClock, FakeHealth
from tests.memory_store import InMemoryStore

pytestmark = [pytest.mark.integration, pytest.mark.api]

DEADLINE_S = 120.0


class Station:
    """A served application and the hub of its events."""

    def __init__(self, port: int, events: EventHub, token: str) -> None:
        self.bearer = f"Authorization: Bearer {token}\r\n".encode()
        self.auth = TokenAuth(lambda: token)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.events = events


@asynccontextmanager
async def serving(keep_alive_s: float = 15.0) -> AsyncIterator[Station]:
    """Serve a station on a free port and stop it as the station does: streams first."""
    events = EventHub()
    clock = FakeClock()
    accounts = accounts_over(None, clock)
    app = create_app(
        InMemoryStore(lambda: START), health=FakeHealth(), events=events, clock=clock, keep_alive_s=keep_alive_s,
        accounts=accounts,
    )  # fmt: skip
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", http="httptools", lifespan="on"))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        await until(lambda: server.started)
        try:
            yield Station(listening.getsockname()[1], events, accounts.machine_token())
        finally:
            events.close()
            server.should_exit = True
            async with asyncio.timeout(DEADLINE_S):
                await task


async def until(is_true: Callable[[], bool]) -> None:
    """Wait for a condition; fails at the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not is_true():  # noqa: ASYNC110  # conditions of three kinds, none of them an event
            await asyncio.sleep(0.01)


@pytest.fixture
async def station() -> AsyncIterator[Station]:
    """Give a served station."""
    async with serving() as station:
        yield station


async def head_and_body(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Read one answer from a raw connection."""
    async with asyncio.timeout(DEADLINE_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split(" ", 2)[1])
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        return status, headers, await reader.readexactly(int(headers["content-length"]))


async def test_a_body_that_announces_too_much_is_refused_unread(station: Station) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", station.port)
    writer.write(
        b"POST /api/v1/tracking/bulk_upload/ HTTP/1.1\r\nHost: station\r\n"
        + station.bearer
        + b"Content-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)
    )
    status, _, body = await head_and_body(reader)  # not one byte of the body was sent
    assert status == 413
    assert json.loads(body)["code"] == "too_large"
    writer.close()


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(station: Station) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", station.port)
    writer.write(
        b"POST /api/v1/tracking/bulk_upload/ HTTP/1.1\r\nHost: station\r\n"
        + station.bearer
        + b"Content-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    answer = asyncio.create_task(head_and_body(reader))
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    while not answer.done() and sent < 10 * MAX_BODY_BYTES:
        try:
            writer.write(chunk)
            await writer.drain()
        except ConnectionError:
            break
        sent += 0x10000
        await asyncio.sleep(0)
    status, _, body = await answer
    assert status == 413
    assert json.loads(body)["code"] == "too_large"
    assert sent < 3 * MAX_BODY_BYTES
    writer.close()


async def test_a_body_of_the_largest_size_is_read(station: Station) -> None:
    async with httpx.AsyncClient(auth=station.auth, base_url=station.url) as client:
        answer = await client.post("/api/v1/tracking/bulk_upload/", content=b"[]" + b" " * (MAX_BODY_BYTES - 2))
    assert answer.status_code == 200
    assert answer.json() == {"received": 0, "created": 0, "duplicates": 0, "failed": 0, "results": []}


async def test_a_connection_survives_refusals(station: Station) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", station.port)
    for path, body, expected in (
        (b"/api/v1/animals", b"{", 400),
        (b"/nowhere", b"{}", 404),
        (b"/api/v1/animals/", b'{"name": "Alpha", "species": "Lion"}', 201),
    ):
        head = b"POST %s HTTP/1.1\r\nHost: station\r\n%s" % (path, station.bearer)
        writer.write(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        status, headers, _ = await head_and_body(reader)
        assert status == expected
        assert headers["x-content-type-options"] == "nosniff"
    writer.close()


async def test_events_reach_a_listener_and_a_returning_one_gets_what_it_missed(station: Station) -> None:
    async def listen(count: int, last_id: str = "") -> list[dict[str, str]]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        events: list[dict[str, str]] = []
        async with (
            httpx.AsyncClient(auth=station.auth, base_url=station.url, timeout=DEADLINE_S) as client,
            client.stream("GET", "/api/v1/events", headers=headers) as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif not line and "event" in fields:
                    events.append(fields)
                    fields = {}
                if len(events) == count:
                    return events
        raise AssertionError("the stream ended early")

    listening = asyncio.create_task(listen(2))
    await until(lambda: station.events.listeners == 1)
    station.events.publish("fix", {"collar_id": "K1"})
    station.events.publish("clock", {"state": "gnss"})
    first, second = await listening
    assert (first["event"], json.loads(first["data"])) == ("fix", {"collar_id": "K1"})
    assert int(second["id"]) == int(first["id"]) + 1
    await until(lambda: station.events.listeners == 0)
    station.events.publish("alert", {"severity": "high"})
    (missed,) = await listen(1, second["id"])
    assert missed["event"] == "alert"
    assert (await listen(1, "5"))[0]["event"] == "lost"


async def test_a_silent_stream_says_that_it_lives() -> None:
    async with (
        serving(keep_alive_s=0.01) as station,
        httpx.AsyncClient(auth=station.auth, base_url=station.url, timeout=DEADLINE_S) as client,
        client.stream("GET", "/api/v1/events") as answer,
    ):
        heard = 0
        async for line in answer.aiter_lines():
            heard += line == ": still here"
            if heard == 3:
                break


async def test_a_listener_that_does_not_read_delays_nobody(station: Station) -> None:
    with closing(socket.create_connection(("127.0.0.1", station.port))) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: station\r\n" + station.bearer + b"\r\n")
        await until(lambda: station.events.listeners == 1)
        for n in range(5_000):
            station.events.publish("fix", {"n": n, "padding": "x" * 1000})
            if n % 100 == 0:
                await asyncio.sleep(0)
        async with httpx.AsyncClient(auth=station.auth, base_url=station.url) as client:
            assert (await client.get("/health/")).status_code == 200
    await until(lambda: station.events.listeners == 0)


async def test_stopping_does_not_wait_for_listeners() -> None:
    async with (
        serving() as station,
        httpx.AsyncClient(auth=station.auth, base_url=station.url, timeout=DEADLINE_S) as client,
    ):
        request = client.build_request("GET", "/api/v1/events")
        answer = await client.send(request, stream=True)
        await until(lambda: station.events.listeners == 1)
        station.events.close()
        ended = [line async for line in answer.aiter_lines()]
        assert "event: lost" not in ended
        await answer.aclose()
