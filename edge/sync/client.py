"""The cloud as a station sees it: one connection, signed requests, every failure as one of our errors.

==========================  =========================================================================
the link, 5xx, 429, not us  LinkError, with how long the cloud asks to wait: try later
409                         the ``StreamAnswer`` in it
410                         StaleCursor: begin the changes at 0
422                         CorruptBatch: send the same bytes again
426                         BatchTooNew: the channel waits until the cloud reads it; BatchTooOld: this program has to
                            be brought up to date
401, 403                    NotAuthenticated, Forbidden, with what a person has to do
other 4xx                   Invalid: this program and that cloud do not understand each other
==========================  =========================================================================

Between a station and the cloud stand proxies and the login pages of guest networks, which answer 200 or redirect with a
page of their own: what does not read as the cloud's answer is a failure of the link.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Protocol, TypeVar

import httpx
import msgspec

from shared.configuration import LOOPBACK
from shared.errors import (
    BatchTooNew,
    BatchTooOld,
    ConfigError,
    CorruptBatch,
    Forbidden,
    Invalid,
    LinkError,
    LinkTimeout,
    NotAuthenticated,
    OutpostError,
    StaleCursor,
)
from shared.sync.blobs import Blob
from shared.sync.streams import Batch, Receipt, StreamAnswer
from shared.wire import signatures
from shared.wire.batch.fixes import FIX_LADDER
from shared.wire.batch.schema import LADDER
from shared.wire.link import (
    BATCH,
    HASH,
    MAX_CHANGES,
    MAX_FIXES,
    MESSAGES,
    PREVIOUS,
    Changes,
    Clashes,
    EnrolIn,
    Enrolled,
    FixPage,
    Heads,
    HeardFixes,
    plain_code,
)
from shared.wire.releases import Offer

T = TypeVar("T")

#: Slow links are the rule: what counts is that bytes keep coming.
TIMEOUT: Final = httpx.Timeout(30.0, connect=15.0)
_MAX_DETAIL_CHARACTERS: Final = 300
_JSON: Final = {"Accept": "application/json"}
_ENROL_TRIES: Final = 3
_ENROL_ANEW: Final = (
    "the cloud does not know this station's key: have a code made there and run"
    " `outpost-station enrol URL CODE --again`"
)


class CloudBusy(LinkError):
    """The cloud asks to be left alone for ``retry_after_s``."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Cloud(Protocol):
    """What a session asks of the cloud. ``bytes_up`` and ``bytes_down`` count bodies as they travelled."""

    @property
    def bytes_up(self) -> int:
        """Bytes of bodies that went up."""
        ...

    @property
    def bytes_down(self) -> int:
        """Bytes of bodies that came down."""
        ...

    async def put_batch(self, batch: Batch) -> Receipt | StreamAnswer:
        """Bring a batch; raises CorruptBatch where it arrived damaged."""
        ...

    async def heads(self, epoch: str) -> Heads:
        """Return the heads of this station's streams in one of its epochs."""
        ...

    async def changes(self, epoch: str | None, since: int, limit: int = MAX_CHANGES) -> Changes:
        """Return what changed after ``since``; raises StaleCursor where ``epoch`` is not the cloud's any more."""
        ...

    async def heard(
        self, epoch: str | None, since: int, after: str | None, limit: int = MAX_FIXES
    ) -> HeardFixes | None:
        """Return fixes that came another way, after a cursor; None where the cloud knows none. StaleCursor as above."""
        ...

    async def newest(self, epoch: str | None, since: int, limit: int = MAX_FIXES) -> HeardFixes | None:
        """Return the newest fix of each collar of which some wait; None from a cloud that does not tell."""
        ...

    async def clashes(self, epoch: str | None, since: int) -> Clashes | None:
        """Return conflicts that concern this station after a cursor; None where the cloud tells of none."""
        ...

    async def fixes(self, collar_id: str, after: str | None, limit: int = MAX_FIXES) -> FixPage:
        """Return the cloud's fixes of a collar after the id ``after`` (hex digits)."""
        ...

    async def blob_offset(self, sha256: str) -> int:
        """Return how many bytes of a file the cloud has."""
        ...

    async def put_blob(self, blob: Blob, offset: int, part: bytes) -> int:
        """Bring a part of a file and return how many bytes the cloud has; raises CorruptBatch for a damaged file."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


class CloudClient:
    """Implements ``Cloud`` over HTTP. ``now`` dates the signatures, for people who read logs."""

    def __init__(
        self, url: str, station_id: str, private_key: bytes, *, now: Callable[[], datetime] | None = None
    ) -> None:
        self._station_id = station_id
        self._private_key = private_key
        self._now = now
        self._http = open_client(url)
        self._root = f"{checked(url)}/api/v1/stations/{station_id}"
        self.bytes_up = 0
        self.bytes_down = 0

    async def put_batch(self, batch: Batch) -> Receipt | StreamAnswer:
        """Bring a batch; raises CorruptBatch where it arrived damaged."""
        answer = await self._send(
            "PUT",
            f"/streams/{batch.epoch}/{batch.channel}/batches/{batch.n}",
            body=batch.payload,
            headers={"Content-Type": BATCH, PREVIOUS: batch.prev_hash.hex(), HASH: batch.hash.hex()},
        )
        if answer.status_code == httpx.codes.CONFLICT:
            return _decoded(answer, StreamAnswer)
        return _decoded(_accepted(answer), Receipt)

    async def heads(self, epoch: str) -> Heads:
        """Return the heads of this station's streams in one of its epochs."""
        return _decoded(_accepted(await self._send("GET", f"/streams/{epoch}")), Heads)

    async def changes(self, epoch: str | None, since: int, limit: int = MAX_CHANGES) -> Changes:
        """Return what changed after ``since``; raises StaleCursor where ``epoch`` is not the cloud's any more."""
        asked: dict[str, Any] = {"since": since, "limit": limit, "schema": LADDER.newest}
        asked |= {} if epoch is None else {"epoch": epoch}
        return _decoded(_accepted(await self._send("GET", "/changes", asked)), Changes)

    async def heard(
        self, epoch: str | None, since: int, after: str | None, limit: int = MAX_FIXES
    ) -> HeardFixes | None:
        """Return fixes that came another way, after a cursor; None from a cloud of before there were any."""
        asked: dict[str, Any] = {"since": since, "limit": limit, "schema": FIX_LADDER.newest}
        asked |= {name: value for name, value in (("epoch", epoch), ("after", after)) if value is not None}
        answer = await self._send("GET", "/heard", asked)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return _decoded(_accepted(answer), HeardFixes)

    async def newest(self, epoch: str | None, since: int, limit: int = MAX_FIXES) -> HeardFixes | None:
        """Return the newest fix of each collar of which some wait; None from a cloud of before there were any."""
        asked = {
            "since": since, "limit": limit, "schema": FIX_LADDER.newest, **({} if epoch is None else {"epoch": epoch})
        }  # fmt: skip
        answer = await self._send("GET", "/heard/newest", asked)
        return None if answer.status_code == httpx.codes.NOT_FOUND else _decoded(_accepted(answer), HeardFixes)

    async def clashes(self, epoch: str | None, since: int) -> Clashes | None:
        """Return conflicts that concern this station after a cursor; None from a cloud of before there were any."""
        asked = {"since": since, **({} if epoch is None else {"epoch": epoch})}
        answer = await self._send("GET", "/conflicts", asked)
        return None if answer.status_code == httpx.codes.NOT_FOUND else _decoded(_accepted(answer), Clashes)

    async def fixes(self, collar_id: str, after: str | None, limit: int = MAX_FIXES) -> FixPage:
        """Return the cloud's fixes of a collar after the id ``after`` (hex digits)."""
        asked = {
            "collar_id": collar_id, "limit": limit, "schema": FIX_LADDER.newest,
            **({} if after is None else {"after": after}),
        }  # fmt: skip
        return _decoded(_accepted(await self._send("GET", "/fixes", asked)), FixPage)

    async def blob_offset(self, sha256: str) -> int:
        """Return how many bytes of a file the cloud has."""
        answer = await self._send("GET", f"/blobs/{sha256}", headers=_JSON)
        return 0 if answer.status_code == httpx.codes.NOT_FOUND else _received(_accepted(answer))

    async def put_blob(self, blob: Blob, offset: int, part: bytes) -> int:
        """Bring a part of a file and return how many bytes the cloud has; raises CorruptBatch for a damaged file."""
        asked = {"size": blob.size, "offset": offset, **({} if blob.owner is None else {"owner": blob.owner})}
        headers = {"Content-Type": blob.media_type, **_JSON}
        return _received(_accepted(await self._send("PUT", f"/blobs/{blob.sha256}", asked, body=part, headers=headers)))

    async def models(self, epoch: str | None, issue: int) -> bytes | None:
        """Return which models the station shall take, as the cloud signed it; None where nothing is new since."""
        asked = {"issue": issue, **({} if epoch is None else {"epoch": epoch})}
        answer = await self._send("GET", "/models", asked)
        if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.NO_CONTENT):
            return None  # a cloud of before there were any, or the same as before
        return _accepted(answer).content

    async def model_part(self, sha256: str, first: int, limit: int) -> bytes:
        """Return at most ``limit`` bytes of a model's file from ``first`` on."""
        return _accepted(await self._send("GET", f"/models/{sha256}", {"first": first, "limit": limit})).content

    async def release(self, architecture: str) -> Offer | None:
        """Return the newest release of the station's program that is offered to it; None where none is."""
        answer = await self._send("GET", "/release", {"architecture": architecture})
        if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.NO_CONTENT):
            return None  # a cloud of before there were any, or no offer
        try:
            return msgspec.msgpack.decode(_accepted(answer).content, type=Offer)
        except msgspec.DecodeError as error:
            raise LinkError("the cloud's answer about releases cannot be read") from error

    async def release_part(self, sha256: str, first: int, limit: int) -> bytes:
        """Return at most ``limit`` bytes of a release from ``first`` on."""
        return _accepted(await self._send("GET", f"/release/{sha256}", {"first": first, "limit": limit})).content

    async def roster(self) -> bytes:
        """Return the station's roster as the cloud signed it."""
        return _accepted(await self._send("GET", "/roster")).content

    async def hand_over(self, body: bytes) -> None:
        """Tell the cloud of the station's own people."""
        _accepted(await self._send("PUT", "/roster", body=body, headers={"Content-Type": MESSAGES}))

    async def tell_audit(self, body: bytes) -> bool:
        """Bring lines of the station's audit log; False from a cloud of before, which keeps none."""
        answer = await self._send("PUT", "/audit/lines", body=body, headers={"Content-Type": MESSAGES})
        if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED):
            return False
        _accepted(answer)
        return True

    async def close(self) -> None:
        """End the connection."""
        await self._http.aclose()

    async def __aenter__(self) -> CloudClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(
        self,
        method: str,
        path: str,
        asked: Mapping[str, Any] | None = None,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        request = self._http.build_request(
            method,
            self._root + path,
            params=asked,
            content=body or None,
            headers={"Accept": MESSAGES, **(headers or {})},
        )
        line, _, query = request.url.raw_path.decode("ascii").partition("?")
        created_s = None if self._now is None else max(int(self._now().timestamp()), 0)
        request.headers.update(
            signatures.sign(self._private_key, self._station_id, method, line, query, body, created_s=created_s)
        )
        self.bytes_up += len(body)
        answer = await _sent(self._http, request)
        self.bytes_down += answer.num_bytes_downloaded
        return answer


async def enrol(url: str, code: str, public_key: bytes) -> Enrolled:
    """Make a station known at the cloud at ``url`` with the one-time code that a person brought.

    Where the answer is lost it asks again: the code is used by then, and counts for the same key alone.
    """
    asked = EnrolIn(plain_code(code), public_key.hex())
    async with open_client(url) as http:
        request = http.build_request(
            "POST", f"{checked(url)}/api/v1/stations/enrol", content=msgspec.json.encode(asked),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        for _ in range(_ENROL_TRIES - 1):
            with contextlib.suppress(LinkError):
                answer = await _sent(http, request)
                break
        else:
            answer = await _sent(http, request)
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise Forbidden(f"the cloud does not take this code ({_said(answer)}): have a new one made there")
    try:
        return msgspec.json.decode(_accepted(answer).content, type=Enrolled)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LinkError(f"what answers at {url} is not an Outpost cloud") from error


def checked(url: str) -> str:
    """Return ``url`` without its last slash; raises ConfigError unless it is of a cloud that nobody can listen to."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{url}: this is no address of a cloud: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.host or parts.query or parts.fragment or parts.userinfo:
        raise ConfigError(f"{url}: the address of a cloud is like https://cloud.example.org")
    if parts.scheme != "https" and parts.host not in LOOPBACK:
        raise ConfigError(f"{url}: only https is safe between a station and the cloud; http is for this machine alone")
    return url.rstrip("/")


def open_client(url: str) -> httpx.AsyncClient:
    """Return a client with the system's certificates, one connection, and nothing from the environment."""
    is_secure = checked(url).startswith("https")
    return httpx.AsyncClient(
        verify=ssl.create_default_context() if is_secure else True,
        timeout=TIMEOUT,
        trust_env=False,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=300.0),
    )


async def _sent(http: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Return the answer to ``request``; raises LinkError where there is none, or none of the cloud's own."""
    try:
        answer = await http.send(request)
    except httpx.TimeoutException as error:
        raise LinkTimeout(f"the cloud at {request.url.host} does not answer in time") from error
    except httpx.HTTPError as error:
        raise LinkError(
            f"the cloud at {request.url.host} cannot be reached: {str(error) or type(error).__name__}"
        ) from error
    if answer.is_redirect:
        where = answer.headers.get("Location", "elsewhere")
        raise LinkError(f"instead of the cloud something answers that redirects to {where}: a login page?")
    if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        detail = f"the cloud answers {answer.status_code}: {_said(answer)}"
        raise CloudBusy(detail, _seconds(answer.headers.get("Retry-After", "")))
    return answer


def _accepted(answer: httpx.Response) -> httpx.Response:
    """Return ``answer`` if it is a success; raises what it says otherwise."""
    if answer.is_success:
        return answer
    refusals: dict[int, tuple[type[OutpostError], str]] = {
        401: (NotAuthenticated, _ENROL_ANEW),
        403: (Forbidden, "the cloud has taken this station off its list: ask whoever runs it"),
        410: (StaleCursor, "the cloud has begun a new life"),
        426: (BatchTooNew, "the cloud's program is older than this station's and has to be brought up to date"),
        422: (CorruptBatch, "what arrived is not what was sent"),
    }
    if answer.status_code == httpx.codes.UPGRADE_REQUIRED and _code(answer) == BatchTooOld.code:
        raise BatchTooOld(f"this station's program is too old for the cloud: bring it up to date ({_said(answer)})")
    kind, meaning = refusals.get(answer.status_code, (Invalid, f"the cloud answers {answer.status_code}"))
    raise kind(f"{meaning} ({_said(answer)})")


def _decoded(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(answer.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LinkError("what answers is not the cloud, or not one that this station understands") from error


def _received(answer: httpx.Response) -> int:
    """Return how far a file is."""
    try:
        received = msgspec.json.decode(answer.content, type=_Received).received
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LinkError("what answers is not the cloud, or not one that this station understands") from error
    return max(received, 0)


def _code(answer: httpx.Response) -> str:
    """Return the stable word of an error of ours; empty for what is none."""
    try:
        return msgspec.json.decode(answer.content, type=_Refusal).code
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _said(answer: httpx.Response) -> str:
    """Return the sentence of an error of ours, or what else there is."""
    try:
        detail = msgspec.json.decode(answer.content, type=_Refusal).detail
    except (msgspec.DecodeError, UnicodeDecodeError):
        detail = answer.reason_phrase
    return detail[:_MAX_DETAIL_CHARACTERS]


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0.0


class _Refusal(msgspec.Struct):
    detail: str
    code: str = ""


class _Received(msgspec.Struct):
    received: int
