"""What every answer carries, and who may write from a browser.

Browsers on the station's own machine can be made to post to it by any page that they show. Such a request carries the
page's ``Origin``; it is refused unless that is this home itself or an origin that the configuration names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Message, Scope

from shared.errors import Forbidden

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULTS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'",
}


async def add_headers(message: Message, _scope: Scope) -> None:
    """Add the headers of every answer, where the route has not set its own."""
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        for name, value in _DEFAULTS.items():
            headers.setdefault(name, value)


def same_origin(
    allowed_origins: Collection[str],
) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]:
    """Return a guard that refuses writes from other sites' pages; origins are in lower case, without final slash."""
    allowed = frozenset(allowed_origins)

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        origin = connection.headers.get("origin")
        if origin is None or connection.scope.get("method") in _SAFE_METHODS or origin.lower() in allowed:
            return
        if urlsplit(origin).netloc.lower() != connection.headers.get("host", "").lower():
            raise Forbidden(f"pages of {origin} may not write here; an administrator can allow that origin")

    return guard
