"""What happens at the station, as it happens: Server-Sent Events at ``/api/v1/events``.

::

    publish --> ring of the newest events --> one bounded queue per listener --> its socket

A publisher never waits. A listener that is slower than the events loses the oldest of its own queue and is told so by
an event ``lost``; it then fetches what it shows once more. Ids only grow within one run and carry the run in their
upper bits: a browser that reconnects says ``Last-Event-ID`` and gets what it missed from the ring, or ``lost`` where
the ring no longer has all of it or the id is of another run.

Events: ``fix`` (a position as in ``/api/v1/tracking/``), ``state`` (what the models say after it), ``alert``, ``link``,
``clock``, ``sync`` (something changed that a phone may pull: ``shared.api.hints``), and ``lost`` with
``{"missed": n}``, n null where nobody knows how many.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.di import Dependency
from litestar.params import SkipValidationMarker

from shared.api.access import AccountsGiven
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
    spoken,
    still_allowed,
)
from shared.domain import EventName
from shared.errors import OutpostError, RateLimited

#: Events kept for those who reconnect.
RING_EVENTS = 1024
#: Events that wait for one listener.
QUEUE_EVENTS = 256
MAX_LISTENERS = 64

#: The run stands above these bits of an id; both together stay below 2**53, which is what a browser's numbers hold.
_RUN_SHIFT = 32
_RUN_BITS = 20


class Event(msgspec.Struct, frozen=True):
    """One event, encoded once for all who listen."""

    id: int
    name: str
    data: bytes

    def encoded(self) -> bytes:
        """Return the event as it goes over the wire; JSON has no line breaks of its own."""
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (self.id, self.name.encode(), self.data)


class Listener:
    """One client's queue. ``take`` waits; nothing else does."""

    def __init__(self, backlog: list[Event], *, missed: int | None, last_id: int, limit: int) -> None:
        self._last_id = last_id
        self._queue: deque[Event] = deque(backlog, maxlen=limit)
        #: Events that this client will never see; None: an unknown number.
        self._missed = missed
        self._is_closed = False
        self._woken = asyncio.Event()

    def put(self, event: Event) -> None:
        """Queue ``event``; a full queue loses its oldest."""
        if self._missed is not None and len(self._queue) == self._queue.maxlen:
            self._missed += 1
        self._queue.append(event)
        self._woken.set()

    def close(self) -> None:
        """End the stream once what is queued has been taken."""
        self._is_closed = True
        self._woken.set()

    async def take(self, timeout_s: float) -> list[bytes] | None:
        """Return what is to be sent, nothing when ``timeout_s`` passed, None at the end."""
        if not self._queue and self._missed == 0 and not self._is_closed:
            self._woken.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._woken.wait()
            except TimeoutError:
                return []
        lines: list[bytes] = []
        if self._missed != 0:
            # The id moves the browser past the gap: its next reconnection must not be told of the same loss.
            before = self._queue[0].id - 1 if self._queue else self._last_id
            lines.append(Event(before, "lost", msgspec.json.encode({"missed": self._missed})).encoded())
            self._missed = 0
        lines += [event.encoded() for event in self._queue]
        self._queue.clear()
        return lines or None if self._is_closed else lines


class EventHub:
    """Spreads events to all who listen. It belongs to one event loop; ``publish_threadsafe`` is for other threads."""

    def __init__(
        self, *, ring: int = RING_EVENTS, queue: int = QUEUE_EVENTS, max_listeners: int = MAX_LISTENERS
    ) -> None:
        self._run = (secrets.randbits(_RUN_BITS - 1) + 1) << _RUN_SHIFT
        self._count = 0
        self._ring: deque[Event] = deque(maxlen=ring)
        self._queue = queue
        self._max_listeners = max_listeners
        self._listeners: set[Listener] = set()
        self._is_closed = False

    @property
    def listeners(self) -> int:
        """How many clients listen now."""
        return len(self._listeners)

    @property
    def last_id(self) -> int:
        """The id of the newest event; before the first, the one that precedes it."""
        return self._run + self._count

    def publish(self, name: EventName, data: Any) -> None:
        """Give ``data`` (anything that msgspec encodes) to all who listen. On the loop's thread only; never waits."""
        self._count += 1
        event = Event(self.last_id, name, msgspec.json.encode(data))
        self._ring.append(event)
        for listener in self._listeners:
            listener.put(event)

    def pass_over(self, count: int) -> None:
        """Count events that nobody listened to and that are not kept: who comes back is told that some are ``lost``."""
        self._count += count
        self._ring.clear()

    def publish_threadsafe(self, loop: asyncio.AbstractEventLoop, name: EventName, data: Any) -> None:
        """Do the same from another thread; ``data`` must not change afterwards."""
        loop.call_soon_threadsafe(self.publish, name, data)

    def admit(self) -> None:
        """Raise RateLimited where so many listen that one more would harm the others."""
        if len(self._listeners) >= self._max_listeners:
            raise RateLimited("too many clients listen to this station", retry_after_s=30.0)

    def listen(self, last_id: str | None = None) -> Listener:
        """Return a new listener that first gets what followed ``last_id``."""
        backlog, missed = self._since(last_id)
        listener = Listener(backlog, missed=missed, last_id=self.last_id, limit=self._queue)
        if self._is_closed:
            listener.close()
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """End every stream, so that a server that waits for its connections can stop."""
        self._is_closed = True
        for listener in self._listeners:
            listener.close()

    def _since(self, last_id: str | None) -> tuple[list[Event], int | None]:
        """Return the events after ``last_id`` and how many of them are gone; None: there is no telling."""
        if not last_id:
            return [], 0
        seen = int(last_id) if last_id.isascii() and last_id.isdigit() and len(last_id) < 20 else 0
        if not self._run <= seen <= self.last_id:
            return [], None
        after = [event for event in self._ring if event.id > seen]
        sendable = after[-self._queue :]
        return sendable, self.last_id - seen - len(sendable)


class News:
    """Publishes hints for phones while somebody listens; the home is asked by nobody else."""

    def __init__(self, hub: EventHub, hints: Hints) -> None:
        self._hub = hub
        self._hints = hints
        self._seen: int | None = None
        self._telling: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """See that what changes from now on is told; what changed while nobody listened is told now."""
        if self._seen is None:
            self._seen = await self._hints.now()
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(self._seen))

    async def _tell(self, seen: int) -> None:
        last: int | None = seen
        while last is not None or self._hub.listeners:
            try:
                last = await self._hints.after(seen, KEEP_ALIVE_S)
            except OutpostError:  # a store that cannot serve is told of by whoever asks it
                last = None
                await asyncio.sleep(self._hints.every_s)
            if last is not None:
                self._seen = seen = last
                self._hub.publish("sync", Hint(last))


EventsGiven = Annotated[EventHub, Dependency(kind="named"), SkipValidationMarker()]
NewsGiven = Annotated[News, Dependency(kind="named"), SkipValidationMarker()]


async def stream(
    hub: EventHub,
    last_id: str | None,
    keep_alive_s: float,
    *,
    is_exact: bool = True,
    may_go_on: Callable[[], Awaitable[bool]] | None = None,
    recheck_s: float = RECHECK_S,
) -> AsyncGenerator[bytes, None]:
    """Yield what a listener gets, and a comment when nothing happens, so that proxies and phones keep the line.

    Without ``is_exact`` what tells of a place, now, is left out. ``may_go_on`` is asked every few seconds whether the
    listener may still listen: a stream must not outlive the right to it.
    """
    listener = hub.listen(last_id)
    asked_s = time.monotonic()
    try:
        yield OPENING
        while (lines := await listener.take(keep_alive_s)) is not None:
            if may_go_on is not None and time.monotonic() - asked_s >= recheck_s:
                asked_s = time.monotonic()
                if not await may_go_on():
                    return
            told = lines if is_exact else [line for line in lines if _tells_no_place(line)]
            if told or not lines:  # a sign of life for what is left out would tell of it
                yield b"".join(told) or STILL_HERE
    finally:
        hub.leave(listener)


def _tells_no_place(line: bytes) -> bool:
    """Say whether an encoded event is one that a reduced view may hear as it happens: of no animal and no alert."""
    return any(b"\nevent: %s\n" % name in line for name in (b"link", b"clock", b"lost"))


@get(
    "/api/v1/events",
    tags=["events"],
    summary="Listen to what happens",
    media_type="text/event-stream",
    responses={
        **documented(429),
        200: SPOKEN,
    },
)
async def events_stream(
    request: Request[Any, Any, Any],
    events: EventsGiven,
    news: NewsGiven,
    view: ViewGiven,
    accounts: AccountsGiven,
    keep_alive_s: Annotated[float, Dependency(kind="named")],
    last_event_id: LastEventId = None,
    last_id: LastId = None,
) -> Response[Any]:
    """Stream events: fix, state, alert, link, clock, sync, and lost when the client must fetch what it shows once more.

    A viewer hears neither fixes, states, alerts nor hints to sync. The stream ends with the token: connect again with
    the next one.
    """
    events.admit()
    await news.begin()
    may_go_on = still_allowed(request, accounts, lambda principal: principal.role == view.principal.role)
    return spoken(stream(events, last_event_id or last_id, keep_alive_s, is_exact=view.is_exact, may_go_on=may_go_on))
