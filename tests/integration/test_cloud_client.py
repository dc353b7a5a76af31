"""What a station takes for its cloud: nothing that answers otherwise, and no address that others could listen to."""

from __future__ import annotations

import asyncio

import pytest

from edge.sync.client import CloudClient, checked
from shared.errors import ConfigError, LinkError
from shared.wire.signatures import new_key

pytestmark = [pytest.mark.integration, pytest.mark.sync]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 14\r\n\r\n<html>Welcome.",
        b"HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
        b"no HTTP at all\r\n\r\n",
        b"",
    ],
)
async def test_what_is_not_the_cloud_is_a_bad_link(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, CloudClient(f"http://127.0.0.1:{port}/", "post-1", new_key()[0]) as cloud:
        with pytest.raises(LinkError):
            await cloud.changes(None, 0)


@pytest.mark.parametrize("url", ["http://cloud.example", "cloud.example", "ftp://x", "https://u:p@x", "https://x/?a=b"])
def test_an_address_that_anyone_could_listen_to_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        checked(url)
    assert checked("https://cloud.example/base/") == "https://cloud.example/base"
