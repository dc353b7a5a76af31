"""What happens in the cloud, as it happens: Server-Sent Events at ``/api/v1/events``.

::

    change log --> once a second, where somebody listens --> what each kind of view may see --> sockets

Events: ``fix`` (the newest position of an animal that was heard), ``alert``, ``sync`` (something changed that a phone
may pull: ``shared.api.hints``), and ``lost`` where so much happened, or so long ago, that the client must fetch what it
shows once more. They are those of a station, read from the change log, so every process of the cloud tells the same
and nothing but the database is between them.

The id of ``sync`` is the timestamp that it carries, and it comes after what happened until then: who comes back with
``Last-Event-ID`` is told of what he missed, whichever process he meets, and at worst of the last second twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.di import Dependency
from litestar.params import SkipValidationMarker

from cloud.api.jobs import ListenersGiven
from cloud.store.store import PostgresStore
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.errors import documented
from shared.api.hints import Hint, Hints
from shared.api.inject import ViewGiven
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
from shared.errors import NotFound
from shared.privacy import View, seen_alike
from shared.sync.phone.cursor import Cursor
from shared.sync.records import to_ms
from shared.wire.events import Moved, told_of

#: Answers that are kept for those who ask the same.
_MOST_READ: Final = 64


class Happenings:
    """Reads the change log for those who listen: once for all whose answers are alike."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._reading: dict[Hashable, asyncio.Task[bytes]] = {}

    async def between(self, view: View, seen: int, last: int) -> bytes:
        """Return the events between two timestamps, as far as ``view`` may hear of them, encoded."""
        key = (seen_alike(view), seen, last)
        task = self._reading.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            if len(self._reading) >= _MOST_READ:
                del self._reading[next(iter(self._reading))]
            task = self._reading[key] = asyncio.create_task(self._read(view, Cursor.of(seen), Cursor.of(last)))
        # one listener that goes away takes the answer from no other
        return await asyncio.shield(task)

    async def _read(self, view: View, seen: Cursor, last: Cursor) -> bytes:
        news = await self._store.news(seen.seq, last.seq) if seen.epoch == last.epoch else None
        if news is None:
            return _event("lost", {"missed": None})
        lines: list[bytes] = []
        if news.spans:
            for live in await self._store.live_animals(view):
                first_ms, last_ms = news.spans.get(live.fix.collar_id, (1, 0))
                if first_ms <= to_ms(live.fix.raw_recorded_at) <= last_ms:
                    lines.append(_event("fix", Moved.of(live.fix)))
        for identity in news.alerts:
            with contextlib.suppress(NotFound):  # not for this view, or gone by now
                lines.append(_event("alert", told_of(await self._store.alert(view, identity))))
        return b"".join(lines)


def _event(name: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


HintsGiven = Annotated[Hints, Dependency(kind="named"), SkipValidationMarker()]
HappeningsGiven = Annotated[Happenings, Dependency(kind="named"), SkipValidationMarker()]


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
    happenings: HappeningsGiven,
    view: ViewGiven,
    caller: CallerGiven,
    accounts: AccountsGiven,
    last_event_id: LastEventId = None,
    last_id: LastId = None,
) -> Response[Any]:
    """Stream events: fix, alert, sync, and lost when the client must fetch what it shows once more.

    Positions are as exact as those of `/tracking/live`. A viewer hears nothing: when something changes tells of when it
    was heard. The stream ends with the token: connect again with the next one.
    """
    listeners.admit()
    may_go_on = still_allowed(request, accounts, lambda principal: principal == caller.principal)
    seen = number_of(last_event_id or last_id) or await hints.now()

    async def told() -> AsyncGenerator[bytes, None]:
        with listeners:
            hears = None if caller.principal.role == "viewer" else partial(happenings.between, view)
            async for line in stream(hints, seen, hears, may_go_on=may_go_on):
                yield line

    return spoken(told())


async def stream(
    hints: Hints,
    seen: int,
    hears: Callable[[int, int], Awaitable[bytes]] | None,
    *,
    may_go_on: Callable[[], Awaitable[bool]],
) -> AsyncGenerator[bytes, None]:
    """Yield what comes after ``seen``, and a comment when nothing happens, so that proxies keep the line.

    ``hears`` gives the events between two timestamps; None: this listener hears of none.
    """
    yield OPENING
    spoke_s = asked_s = time.monotonic()
    while True:
        last = await hints.after(seen, RECHECK_S)
        now_s = time.monotonic()
        if now_s - asked_s >= RECHECK_S:
            asked_s = now_s
            if not await may_go_on():
                return
        if last is not None and hears is not None:
            yield await hears(seen, last)
            yield event_bytes(last, "sync", Hint(last))
            spoke_s = now_s
        elif now_s - spoke_s >= KEEP_ALIVE_S:
            yield STILL_HERE
            spoke_s = now_s
        seen = seen if last is None else last
