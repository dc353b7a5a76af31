"""/api/v1/blobs: photographs and other files in parts, by the SHA-256 of their bytes."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Annotated, Any, Final

from litestar import Controller, Request, Response, get, head, put
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, QueryParameter, SkipValidationMarker
from msgspec import Struct

from shared.accounts.roles import shows
from shared.accounts.service import Caller
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.errors import documented
from shared.api.inject import ClockGiven
from shared.errors import CorruptBatch, Forbidden, Invalid, NotFound, StoreFull
from shared.photos import small
from shared.photos.plain import plain
from shared.photos.small import Smaller
from shared.shelf import MODEL_FILE
from shared.sync import blobs
from shared.sync.blobs import MAX_BYTES, MAX_PART_BYTES, Blob
from shared.sync.records import to_ms
from shared.wire.link import LENGTH, OFFSET

_BYTES: Final = "application/octet-stream"
_RANGE: Final = re.compile(r"bytes=(\d{0,12})-(\d{0,12})")
#: A browser keeps a photograph for a week, for the one who looked at it.
_KEPT: Final = {"Cache-Control": "private, max-age=604800, immutable", "Vary": "Authorization, Cookie, X-API-Key"}
_DAMAGED: Final = "the file is not what its name says: it was damaged on the way, begin at offset 0"

SmallerGiven = Annotated[Smaller, Dependency(kind="named"), SkipValidationMarker()]
Offset = Annotated[int, QueryParameter(ge=0, le=MAX_BYTES, description="Where the part begins, as HEAD says.")]
Size = Annotated[int, QueryParameter(ge=1, description="Bytes of the whole file.")]


class BlobOut(Struct, frozen=True, kw_only=True):
    """How far a file has come."""

    sha256: str
    size: int
    received: int
    is_whole: bool

    @classmethod
    def of(cls, blob: Blob) -> BlobOut:
        """Return the public form of ``blob``."""
        return cls(sha256=blob.sha256, size=blob.size, received=blob.received, is_whole=blob.is_whole)


class Blobs(Controller):
    """Files of people."""

    path = "/blobs"
    tags = ("sync",)
    return_dto = None

    @put(
        "/{sha256:str}",
        summary="Bring a part of a file",
        status_code=200,
        request_max_body_size=MAX_PART_BYTES,
        responses=documented(409, 413, 422, 507),
    )
    async def bring(
        self,
        request: Request[Any, Any, Any],
        accounts: AccountsGiven,
        caller: CallerGiven,
        clock: ClockGiven,
        sha256: FromPath[str],
        size: Size,
        offset: Offset = 0,
    ) -> BlobOut:
        """Keep the part of the body at ``offset``; a part that is here already changes nothing.

        A part has at most 1 MiB and, unless it is the last, at least 1 KiB; a file at most 16 MiB. The last part
        answers ``is_whole``, or 422 where the file is not what its name says and has to be sent from 0. The file of a
        model (``application/vnd.outpost.model``) is brought by administrators alone.
        """
        kind = media_type(request)
        if kind == MODEL_FILE and caller.principal.role != "admin":
            raise Forbidden("files of models are brought by administrators alone")
        kept = await accounts.tables.write(
            blobs.put(
                sha256, size=size, offset=offset, part=await request.body(), media_type=kind,
                owner=caller.principal.user_id, origin="", now_ms=to_ms(clock.now()), media={*blobs.MEDIA, MODEL_FILE},
            )
        )  # fmt: skip
        return BlobOut.of(checked(kept))

    @head("/{sha256:str}", summary="How far a file has come", responses=documented(404))
    async def how_far(self, accounts: AccountsGiven, caller: CallerGiven, sha256: FromPath[str]) -> Response[None]:
        """Tell in ``Upload-Offset`` how many bytes have come and in ``Upload-Length`` how many it has."""
        return told(await _open(accounts, caller, sha256))

    @get(
        "/{sha256:str}",
        summary="Read a file",
        media_type=_BYTES,
        responses={
            **documented(404, 416),
            200: ResponseSpec(bytes, description="The file.", media_type=_BYTES),
            206: ResponseSpec(bytes, description="The part that Range asked for.", media_type=_BYTES),
        },
    )
    async def read(
        self, request: Request[Any, Any, Any], accounts: AccountsGiven, caller: CallerGiven, sha256: FromPath[str]
    ) -> Response[bytes]:
        """Give a file that is whole, or the part that ``Range: bytes=first-last`` asks for.

        To a ranger a photograph of somebody else is given without what the camera wrote beside the picture, so it is
        not what its name says; other files of others are not given.
        """
        blob = await _whole(accounts, caller, sha256)
        is_plain = not _shows_place(caller, blob)
        picture = await _plain(accounts, blob) if is_plain else b""
        size = len(picture) if is_plain else blob.size
        headers = {**_KEPT, "ETag": f'"{sha256}{"-plain" if is_plain else ""}"', "Accept-Ranges": "bytes"}
        span = _span(request.headers.get("range", ""), size)
        if span is None:
            return Response(b"", status_code=416, headers={"Content-Range": f"bytes */{size}"})
        first, end = span
        content = picture[first:end] if is_plain else await accounts.tables.read(blobs.read(sha256, first, end))
        is_part = (first, end) != (0, size)
        if is_part:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        # never shown as a page: whoever brought it chose the type
        headers["Content-Disposition"] = "attachment" if not blob.media_type.startswith("image/") else "inline"
        return Response(content, status_code=206 if is_part else 200, headers=headers, media_type=blob.media_type)

    @get(
        "/{sha256:str}/thumbnail",
        summary="Look at a small copy of a photograph",
        media_type=small.MEDIA_TYPE,
        responses={
            **documented(404, 507),
            200: ResponseSpec(bytes, description="At most 480 pixels a side.", media_type=small.MEDIA_TYPE),
        },
    )
    async def thumbnail(
        self,
        accounts: AccountsGiven,
        caller: CallerGiven,
        clock: ClockGiven,
        smaller: SmallerGiven,
        sha256: FromPath[str],
    ) -> Response[bytes]:
        """Give a JPEG of at most 480 pixels a side that tells nothing beside the picture; it is made once."""
        blob = await _whole(accounts, caller, sha256)
        found = await accounts.tables.read(blobs.small_copy(sha256))
        if found is None:
            found = await _made(accounts, smaller, blob, to_ms(clock.now()))
        jpeg, why = found
        if jpeg is None:
            raise Invalid(why or "the picture cannot be read")
        headers = {**_KEPT, "ETag": f'"{sha256}-small"'}
        return Response(jpeg, headers=headers, media_type=small.MEDIA_TYPE)


async def _made(accounts: AccountsGiven, smaller: Smaller, blob: Blob, now_ms: int) -> tuple[bytes | None, str | None]:
    """Make a small copy and keep it, or why there is none; a full disk keeps nobody from looking."""
    jpeg, why = None, None
    try:
        data = await accounts.tables.read(blobs.read(blob.sha256, 0, blob.size))
        jpeg = await smaller.of(data, blob.media_type)
    except Invalid as error:
        why = error.detail
    with contextlib.suppress(StoreFull):
        await accounts.tables.write(blobs.keep_small_copy(blob.sha256, jpeg, why, now_ms))
    return jpeg, why


def _shows_place(caller: Caller, blob: Blob) -> bool:
    """Say whether a person may read what a camera wrote beside a picture: of his own, or by his role."""
    principal = caller.principal
    return shows("photo.place", principal.role) or blob.owner == principal.user_id


async def _plain(accounts: AccountsGiven, blob: Blob) -> bytes:
    data = await accounts.tables.read(blobs.read(blob.sha256, 0, blob.size))
    try:
        return await asyncio.to_thread(plain, data, blob.media_type)
    except Invalid as error:
        raise Forbidden(f"{error.detail}; it is for managers and for who took it") from error


async def _whole(accounts: AccountsGiven, caller: CallerGiven, sha256: str) -> Blob:
    blob = await _open(accounts, caller, sha256)
    if not blob.is_whole:
        raise NotFound(f"there is no file {sha256} yet")
    return blob


async def _open(accounts: AccountsGiven, caller: CallerGiven, sha256: str) -> Blob:
    blobs.check_name(sha256)
    blob = await accounts.tables.read(blobs.find(sha256))
    if blob is None or not blob.is_open_to(caller.principal):
        raise NotFound(f"there is no file {sha256}")
    return blob


def media_type(request: Request[Any, Any, Any]) -> str:
    """Return what kind of file a request brings."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def checked(blob: Blob) -> Blob:
    """Return ``blob``; raises CorruptBatch where its last part has just shown that it is not what its name says."""
    if not blob.received:
        raise CorruptBatch(_DAMAGED)
    return blob


def told(blob: Blob) -> Response[None]:
    """Return the answer to HEAD."""
    return Response(None, headers={OFFSET: str(blob.received), LENGTH: str(blob.size)})


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """Return first byte and end of what a Range header asks for; None for what does not lie in the file."""
    if not asked:
        return 0, size
    found = _RANGE.fullmatch(asked.strip())
    if found is None:  # several ranges, another unit: the whole is an answer too
        return 0, size
    first, last = found.groups()
    if not first and not last:
        raise Invalid("Range: bytes=first-last")
    if not first:
        return (max(size - int(last), 0), size) if int(last) else None
    end = min(int(last) + 1, size) if last else size
    return (int(first), end) if int(first) < end else None
