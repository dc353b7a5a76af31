"""Around every request of a home: its id in the log and in the answer, how long it took, and what took too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from shared import logs

log = structlog.get_logger(__name__)

HEADER: Final = "X-Request-ID"
#: An answer that begins later is named in the log; streams begin at once and go on.
SLOW_S: Final = 1.0

#: Told of each answer: method, route with its {names}, status, seconds until it began.
Served = Callable[[str, str, int, float], None]


class Requests(ASGIMiddleware):
    """Gives each request an id, which every line of the log carries while it is served."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, served: Served) -> None:
        self._served = served

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Serve a request inside its id."""
        headers = {name: value for name, value in scope["headers"] if name == b"x-request-id"}
        method = str(scope.get("method", ""))
        name = logs.begin_request(headers.get(b"x-request-id", b"").decode("latin-1") or None)
        began_s = time.monotonic()

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableScopeHeaders.from_message(message).setdefault(HEADER, name)
                took_s = time.monotonic() - began_s
                # the template, not the path: an id or a bbox is nobody's business here
                route = str(scope.get("path_template") or "")
                self._served(method, route, message["status"], took_s)
                say = log.warning if took_s > SLOW_S else log.debug
                say(
                    "api.slow" if took_s > SLOW_S else "api.served", method=method, route=route,
                    status=message["status"], took_ms=round(took_s * 1000, 1),
                )  # fmt: skip
            await send(message)

        try:
            await next_app(scope, receive, send_named)
        finally:
            logs.end_request()
