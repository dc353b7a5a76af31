"""What happens in the cloud, for phones: hints that something changed which they may pull, at ``/api/v1/events``.

The id of an event is the timestamp that it carries, so a phone that comes back with ``Last-Event-ID`` is told at once
whether it has missed anything, whichever process of the cloud it meets.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import Dependency
from litestar.params import SkipValidationMarker

from cloud.api.jobs import ListenersGiven
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.errors import documented
from shared.api.hints import Hint, Hints
from shared.api.listening import (
    KEEP_ALIVE_S,
    OPENING,
    RECHECK_S,
    SPOKEN,
    STILL_HERE,
    LastEventId,
    LastId,
    event_bytes,
    number_of,
    spoken,
    still_allowed,
)

HintsGiven = Annotated[Hints, Dependency(kind="named"), SkipValidationMarker()]


@get(
    "/api/v1/events",
    tags=["events"],
    summary="Listen to what changes",
    media_type="text/event-stream",
    responses={
        **documented(429),
        200: SPOKEN,
    },
)
async def events_stream(
    request: Request[Any, Any, Any],
    hints: HintsGiven,
    listeners: ListenersGiven,
    caller: CallerGiven,
    accounts: AccountsGiven,
    last_event_id: LastEventId = None,
    last_id: LastId = None,
) -> Response[Any]:
    """Stream events `sync` with `{"timestamp": ...}`: something changed since, pull.

    A viewer hears nothing: when something changes tells of when it was heard. The stream ends with the token.
    """
    listeners.admit()
    may_go_on = still_allowed(request, accounts, lambda principal: principal == caller.principal)
    seen = number_of(last_event_id or last_id) or await hints.now()

    async def told() -> AsyncGenerator[bytes, None]:
        with listeners:
            async for line in stream(hints, seen, is_told=caller.principal.role != "viewer", may_go_on=may_go_on):
                yield line

    return spoken(told())


async def stream(
    hints: Hints, seen: int, *, is_told: bool, may_go_on: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes, None]:
    """Yield hints of what comes after ``seen``, and a comment when nothing happens, so that proxies keep the line."""
    yield OPENING
    spoke_s = asked_s = time.monotonic()
    while True:
        last = await hints.after(seen, RECHECK_S)
        now_s = time.monotonic()
        if now_s - asked_s >= RECHECK_S:
            asked_s = now_s
            if not await may_go_on():
                return
        if last is not None and is_told:
            yield event_bytes(last, "sync", Hint(last))
            spoke_s = now_s
        elif now_s - spoke_s >= KEEP_ALIVE_S:
            yield STILL_HERE
            spoke_s = now_s
        seen = seen if last is None else last
