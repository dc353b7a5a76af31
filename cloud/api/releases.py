"""/api/v1/stations/{id}/release: signed releases of the station's program, offered and handed out in parts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
from litestar import Controller, Response, get
from litestar.di import Dependency, Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, QueryParameter, SkipValidationMarker

from cloud.api.stations import SignedGiven, signed_by
from cloud.store import releases
from shared.api.access import AccountsGiven
from shared.api.errors import documented
from shared.errors import NotFound
from shared.sync import blobs
from shared.wire.link import MESSAGES
from shared.wire.releases import SUFFIX, Offer

ReleasesGiven = Annotated[Path | None, Dependency(kind="named"), SkipValidationMarker()]


class ReleaseLink(Controller):
    """What a station asks of releases; every request is signed with its key."""

    path = "/api/v1/stations"
    tags = ("stations",)
    dependencies = {"signed": Provide(signed_by)}  # noqa: RUF012  # Litestar reads this attribute and never changes it
    return_dto = None

    @get(
        "/{station_id:str}/release",
        summary="Which release to take",
        responses={
            **documented(401),
            200: ResponseSpec(Offer, description="The newest release for the station, as MessagePack."),
            204: ResponseSpec(None, description="None is offered.", generate_examples=False),
        },
    )
    async def offer(
        self,
        accounts: AccountsGiven,
        signed: SignedGiven,
        architecture: Annotated[
            str, QueryParameter(max_length=20, description="Debian's word for the machine.")
        ] = "all",
    ) -> Response[bytes]:
        """Name the newest release that is offered to the station; whether it is news, the station knows."""
        found = await accounts.tables.read(releases.offer_for(signed, architecture))
        if found is None:
            return Response(b"", status_code=204)
        return Response(msgspec.msgpack.encode(found), media_type=MESSAGES)

    @get("/{station_id:str}/release/{sha256:str}", summary="A part of a release", responses=documented(401, 404))
    async def part(
        self,
        accounts: AccountsGiven,
        signed: SignedGiven,
        releases_dir: ReleasesGiven,
        sha256: FromPath[str],
        first: Annotated[int, QueryParameter(ge=0, le=1 << 40, description="Where the part begins.")] = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=blobs.MAX_PART_BYTES)] = blobs.MAX_PART_BYTES,
    ) -> Response[bytes]:
        """Give bytes of a release that is offered to the station, from ``first`` on, at most ``limit``."""
        blobs.check_name(sha256)
        known = await accounts.tables.read(releases.offered())
        is_offered = any(each.offer.sha256 == sha256 and {signed, "*"} & set(each.stations) for each in known)
        file = None if releases_dir is None else releases_dir / f"{sha256}{SUFFIX}"
        if not is_offered or file is None or not file.exists():
            raise NotFound(f"release {sha256} is not offered to station {signed}")
        return Response(await asyncio.to_thread(_part, file, first, limit), media_type="application/octet-stream")


def _part(file: Path, first: int, limit: int) -> bytes:
    with file.open("rb") as source:
        source.seek(first)
        return source.read(limit)
