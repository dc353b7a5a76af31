"""Whose word counts on who asks: nginx's, wherever it stands, and nobody else's."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from cloud.app import _http
from cloud.config import ApiSection

pytestmark = pytest.mark.integration


async def says_who_asks(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the address that limits and sessions would count."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["client"][0].encode()})


@pytest.mark.parametrize(
    ("proxies", "counted"),
    [
        (("127.0.0.1",), "203.0.113.7"),
        (("172.31.251.3",), "127.0.0.1"),
        (("172.31.251.3", "127.0.0.0/8"), "203.0.113.7"),
        ((), "127.0.0.1"),
    ],
)
async def test_the_word_of_a_named_proxy_alone_says_who_asks(proxies: tuple[str, ...], counted: str) -> None:
    async with (
        _http(says_who_asks, ApiSection(proxies=proxies), 0) as (address, _),
        httpx.AsyncClient(trust_env=False) as client,
    ):
        answer = await client.get(address, headers={"X-Forwarded-For": "203.0.113.7"})
    assert answer.text == counted
