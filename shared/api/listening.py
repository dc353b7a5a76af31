"""Server-Sent Events as every stream of both homes has them: how a client comes back, and how long it may listen.

A client that lost the line says ``Last-Event-ID`` and goes on from there. A stream outlives neither the token of who
listens nor what the token's owner may see: ``still_allowed`` is asked every few seconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from litestar import Request
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from shared.accounts.service import Accounts
from shared.api.access import token_of
from shared.errors import AccessError
from shared.privacy import Principal

#: So often a listener's right to listen is looked at again, in seconds.
RECHECK_S: Final = 5.0
KEEP_ALIVE_S: Final = 15.0
#: How long a browser waits before it connects again, in milliseconds.
RETRY_MS: Final = 3_000
#: What a stream begins with, and what it says where nothing happens, so that proxies and phones keep the line.
OPENING: Final = b"retry: %d\n: listening\n\n" % RETRY_MS
STILL_HERE: Final = b": still here\n\n"
#: Digits of the longest number that every client's numbers hold.
_LONGEST_ID: Final = 16
_MEDIA_TYPE: Final = "text/event-stream"

LastEventId: TypeAlias = Annotated[
    str | None, HeaderParameter(name="Last-Event-ID", description="The last id that the client has seen.")
]
LastId: TypeAlias = Annotated[
    str | None, QueryParameter(name="last_event_id", description="The same, for clients that cannot set headers.")
]
SPOKEN: Final = ResponseSpec(str, description="Events.", media_type=_MEDIA_TYPE, generate_examples=False)


def event_bytes(n: int, name: str, data: Any) -> bytes:
    """Return an event as it goes over the wire; JSON has no line breaks of its own."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (n, name.encode(), msgspec.json.encode(data))


def number_of(last_id: str | None) -> int:
    """Return the number that a client has seen last; 0 for none, and for what is none."""
    return int(last_id) if last_id and last_id.isascii() and last_id.isdigit() and len(last_id) <= _LONGEST_ID else 0


def still_allowed(
    request: Request[Any, Any, Any], accounts: Accounts, is_same: Callable[[Principal], bool]
) -> Callable[[], Awaitable[bool]]:
    """Return what says whether the listener's token is good, and its owner still ``is_same``."""

    async def may_go_on() -> bool:
        try:
            found = await accounts.caller(token_of(request))
        except AccessError:
            return False
        return is_same(found.principal)

    return may_go_on


def spoken(told: AsyncGenerator[bytes, None]) -> Stream:
    """Answer with a stream that no proxy holds back and nobody keeps."""
    return Stream(told, media_type=_MEDIA_TYPE, headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
