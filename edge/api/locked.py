"""What a locked station answers: that it is locked, hears, and keeps; and the way to unlock it, on the machine itself.

Nothing of its data can be read, so nothing of it is served and nobody can log in. Plain HTTP: the key of the
station's certificate is locked too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from litestar import Litestar, Request, Response, get, post
from litestar.enums import MediaType
from litestar.params import JSONBody
from msgspec import Struct

from firmware_bridge.frames import Link, LinkStatus
from shared.api.access import is_local, known_hosts
from shared.api.errors import answer
from shared.api.security import add_headers
from shared.errors import Forbidden, Invalid

REASON: Final = "LOCKED: the key is not at hand. Frames are heard and kept sealed; nothing is decoded, nobody is warned"
_KEY_BYTES: Final = 32
_PAGE: Final = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Station locked</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"></head><body><h1>This station is locked</h1>'
    "<p><strong>No alarm is raised until somebody unlocks it.</strong> It hears collars and keeps what they say,"
    " sealed.</p><p>Plug in the medium with its key, or ask an administrator to run"
    " <code>outpost-station unlock</code> on it.</p></body></html>"
)


class LockedDetail(Struct, frozen=True, kw_only=True):
    """How a locked station is; ``frames`` were heard and sealed since its start."""

    status: str
    reasons: list[str]
    version: str
    is_locked: bool
    frames: int
    links: list[LinkStatus]


class Word(Struct, frozen=True):
    """One word."""

    status: str


class KeyIn(Struct, frozen=True):
    """The station's key: 64 hex digits."""

    key: str


def create_locked(links: Sequence[Link], unlock: Callable[[bytes], None], allowed_hosts: Sequence[str]) -> Litestar:
    """Return the application of a locked station; ``unlock`` takes a key or raises WrongKey."""

    @get("/", media_type=MediaType.HTML, sync_to_thread=False)
    def page() -> str:
        """Say that it is locked."""
        return _PAGE

    @get("/health", sync_to_thread=False)
    def overall() -> Response[Word]:
        """Return locked: warnings are not given."""
        return Response(Word("locked"), status_code=HTTPStatus.SERVICE_UNAVAILABLE)

    @get("/health/live", sync_to_thread=False)
    def live() -> Word:
        """Return ok: a process that answers is alive."""
        return Word("ok")

    @get("/health/ready", sync_to_thread=False)
    def ready() -> Response[Word]:
        """Return locked with 503: it takes frames and answers no reads."""
        return Response(Word("locked"), status_code=HTTPStatus.SERVICE_UNAVAILABLE)

    @get("/health/detail", sync_to_thread=False)
    def detail(request: Request[Any, Any, Any]) -> LockedDetail:
        """Return what is heard; elsewhere than on the machine only that it is locked."""
        told = [link.status for link in links] if is_local(request) else []
        return LockedDetail(
            status="failing", reasons=[REASON], version=version("outpost"), is_locked=True,
            frames=sum(link.status.frames for link in links), links=told,
        )  # fmt: skip

    @post("/unlock", status_code=200, sync_to_thread=False)
    def take(request: Request[Any, Any, Any], data: JSONBody[KeyIn]) -> Word:
        """Take the key from an operator of the machine itself; it stays in memory."""
        if not is_local(request):
            raise Forbidden("a station is unlocked on the machine itself: `outpost-station unlock`")
        try:
            key = bytes.fromhex(data.key.strip())
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise Invalid("key: is 64 hex digits")
        unlock(key)
        return Word("unlocked")

    return Litestar(
        route_handlers=[page, overall, live, ready, detail, take], guards=[known_hosts(allowed_hosts)],
        openapi_config=None, exception_handlers={Exception: answer}, before_send=[add_headers], logging_config=None,
        debug=False,
    )  # fmt: skip
