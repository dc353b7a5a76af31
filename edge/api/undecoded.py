"""/api/v1/undecoded: frames that are kept and that no codec can read, for whoever finds out why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, TypeAlias

from litestar import get
from litestar.di import Dependency
from litestar.params import QueryParameter, SkipValidationMarker
from msgspec import Struct

from edge.store.undecoded_frames import Undecoded
from shared.api.errors import documented

Unread: TypeAlias = Callable[[int], Awaitable[list[Undecoded]]]
UnreadGiven: TypeAlias = Annotated[Unread, Dependency(kind="named"), SkipValidationMarker()]


class UndecodedOut(Struct, frozen=True, kw_only=True):
    """A frame of the ledger that no codec can read; ``head`` are its first bytes, in hex."""

    ledger_seq: int
    link: str
    framing: str
    topic: str
    reason: str
    received_at: datetime
    size_bytes: int
    head: str


@get("/api/v1/undecoded", tags=["health"], summary="Frames that no codec can read", responses=documented())
async def undecoded(
    unread: UnreadGiven,
    limit: Annotated[int, QueryParameter(ge=1, le=1000, description="So many of the newest.")] = 100,
) -> list[UndecodedOut]:
    """List the newest frames that were kept and cannot be read, each with the reason."""
    return [
        UndecodedOut(
            ledger_seq=each.ledger_seq, link=each.link, framing=each.framing, topic=each.topic, reason=each.reason,
            received_at=each.received_at, size_bytes=each.size_bytes, head=each.head.hex(),
        )
        for each in await unread(limit)
    ]  # fmt: skip
