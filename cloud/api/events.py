"""What happens in the cloud, for phones: hints that something changed which they may pull, at ``/api/v1/events``.

The id of an event is the timestamp that it carries, so a phone that comes back with ``Last-Event-ID`` is told at once
whether it has missed anything, whichever process of the cloud it meets.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, QueryParameter, SkipValidationMarker
from litestar.response import Stream

from cloud.api.jobs import KEEP_ALIVE_S, RECHECK_S, RETRY_MS, ListenersGiven
from shared.api.access import AccountsGiven, CallerGiven, token_of
from shared.api.errors import documented
from shared.api.hints import Hint, Hints
from shared.errors import AccessError

HintsGiven = Annotated[Hints, Dependency(kind="named"), SkipValidationMarker()]
_LONGEST_ID: Final = 16


@get(
    "/api/v1/events",
    tags=["events"],
    summary="Listen to what changes",
    media_type="text/event-stream",
    responses={
        **documented(429),
        200: ResponseSpec(str, description="Events.", media_type="text/event-stream", generate_examples=False),
    },
)
async def events_stream(
    request: Request[Any, Any, Any],
    hints: HintsGiven,
    listeners: ListenersGiven,
    caller: CallerGiven,
    accounts: AccountsGiven,
    last_event_id: Annotated[
        str | None, HeaderParameter(name="Last-Event-ID", description="The last id that the client has seen.")
    ] = None,
    last_id: Annotated[
        str | None, QueryParameter(name="last_event_id", description="The same, for clients that cannot set headers.")
    ] = None,
) -> Response[Any]:
    """Stream events `sync` with `{"timestamp": ...}`: something changed since, pull.

    A viewer hears nothing: when something changes tells of when it was heard. The stream ends with the token.
    """
    listeners.admit()

    async def may_go_on() -> bool:
        try:
            found = await accounts.caller(token_of(request))
        except AccessError:
            return False
        return found.principal == caller.principal

    seen = _number(last_event_id or last_id) or await hints.now()

    async def told() -> AsyncGenerator[bytes, None]:
        with listeners:
            async for line in stream(hints, seen, is_told=caller.principal.role != "viewer", may_go_on=may_go_on):
                yield line

    return Stream(
        told(),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"},
    )


async def stream(
    hints: Hints, seen: int, *, is_told: bool, may_go_on: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes, None]:
    """Yield hints of what comes after ``seen``, and a comment when nothing happens, so that proxies keep the line."""
    yield b"retry: %d\n: listening\n\n" % RETRY_MS
    spoke_s = asked_s = time.monotonic()
    while True:
        last = await hints.after(seen, RECHECK_S)
        now_s = time.monotonic()
        if now_s - asked_s >= RECHECK_S:
            asked_s = now_s
            if not await may_go_on():
                return
        if last is not None and is_told:
            yield b"id: %d\nevent: sync\ndata: %s\n\n" % (last, msgspec.json.encode(Hint(last)))
            spoke_s = now_s
        elif now_s - spoke_s >= KEEP_ALIVE_S:
            yield b": still here\n\n"
            spoke_s = now_s
        seen = seen if last is None else last


def _number(last_id: str | None) -> int:
    return int(last_id) if last_id and last_id.isascii() and last_id.isdigit() and len(last_id) <= _LONGEST_ID else 0
