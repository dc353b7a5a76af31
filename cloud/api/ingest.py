"""/api/v1/ingest: where services on the internet deliver what collars sent. Each proves itself by a key."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, Response, post
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, SkipValidationMarker
from msgspec import Struct

from cloud.ingest.rockblock import MAX_BODY_BYTES, RockBlockHook
from shared.api.errors import ErrorOut, documented
from shared.errors import Invalid, NotFound, StoreError

HookGiven = Annotated[RockBlockHook, Dependency(kind="named"), SkipValidationMarker()]


class Kept(Struct, frozen=True):
    """The delivery is on disk."""

    status: str = "kept"


class Hooks(Controller):
    """Deliveries of satellite and network services."""

    path = "/api/v1/ingest"
    tags = ("ingest",)

    @post(
        "/rockblock/{key:str}",
        summary="Deliver a message of RockBLOCK",
        status_code=200,
        request_max_body_size=MAX_BODY_BYTES,
        responses={
            **documented(400, 404, 413),
            503: ResponseSpec(ErrorOut, description="It could not be kept in time: deliver it again."),
        },
    )
    async def rockblock(
        self, request: Request[Any, Any, Any], hook: HookGiven, key: FromPath[str]
    ) -> Response[Kept | ErrorOut]:
        """Keep a delivery, form or JSON, and say so; a delivery that is repeated is kept once."""
        if not hook.knows(key):
            raise NotFound("nothing is taken under this key")
        body = await request.body()
        if not body:
            raise Invalid("the delivery is empty")
        try:
            await hook.take(body)
        except StoreError as error:
            # answered here: the log of what was not served would hold the key
            return Response(ErrorOut(error.code, "it could not be kept: deliver it again"), status_code=503)
        return Response(Kept())
