"""/api/v1/stations: what stations say to the cloud. Every request but enrolment is signed with the station's key."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, post, put
from litestar.di import Dependency, Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidationMarker

from cloud.accounts.rosters import Rosters
from cloud.store import feed, station_audit, stations
from cloud.store.store import PostgresStore
from cloud.sync.uplink import Uplink
from shared.accounts.audit import Line
from shared.accounts.roster import HandOver
from shared.api.access import AccountsGiven
from shared.api.blobs import BlobOut, Offset, Size, checked, media_type
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.inject import ClockGiven
from shared.errors import Invalid, NotAuthenticated, NotFound
from shared.shelf import MODEL_FILE
from shared.sync import blobs
from shared.sync.records import to_ms
from shared.sync.streams import Batch, Receipt, StreamAnswer
from shared.wire import signatures
from shared.wire.batch import MAX_BATCH_BYTES
from shared.wire.link import (
    CHANNELS,
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
)

UplinkGiven = Annotated[Uplink, Dependency(kind="named"), SkipValidationMarker()]
PostgresGiven = Annotated[PostgresStore, Dependency(kind="named"), SkipValidationMarker()]
RostersGiven = Annotated[Rosters, Dependency(kind="named"), SkipValidationMarker()]
SignedGiven = Annotated[str, Dependency(kind="named"), SkipValidationMarker()]

_KEY_BYTES = 32


async def signed_by(request: Request[Any, Any, Any], postgres: PostgresGiven, station_id: FromPath[str]) -> str:
    """Return the station that signed the request; raises NotAuthenticated unless it is the one in the path."""
    async with postgres.database.snapshot() as connection:
        key = await stations.public_key_of(connection, station_id)
    scope = request.scope
    path = scope["raw_path"].decode("latin-1").partition("?")[0]
    signer = signatures.verify(
        dict(request.headers.items()), request.method, path, scope["query_string"].decode("latin-1"),
        await request.body(), lambda key_id: key if key_id == station_id else None,
    )  # fmt: skip
    if signer != station_id:
        raise NotAuthenticated("the request is signed by another station")
    return signer


class StationLink(Controller):
    """The uplink of stations and what they read."""

    path = "/api/v1/stations"
    tags = ("stations",)
    dependencies = {"signed": Provide(signed_by)}  # noqa: RUF012  # Litestar reads this attribute and never changes it
    return_dto = None

    @post("/enrol", summary="Enrol a station", dto=JsonBody, status_code=201, responses=documented(403))
    async def enrol(self, postgres: PostgresGiven, clock: ClockGiven, data: JSONBody[EnrolIn]) -> Enrolled:
        """Take the public key of a station that brings a one-time code; from then on its signature counts."""
        try:
            key = bytes.fromhex(data.public_key)
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise Invalid(f"public_key: must be {2 * _KEY_BYTES} hex digits")
        async with postgres.database.transaction() as connection:
            station_id, name = await stations.enrol(connection, data.code, key, to_ms(clock.now()))
            return Enrolled(station_id, name, await feed.epoch(connection))

    @put(
        "/{station_id:str}/streams/{epoch:str}/{channel:str}/batches/{n:int}",
        summary="Bring a batch",
        status_code=200,
        request_max_body_size=MAX_BATCH_BYTES,
        responses={
            **documented(401, 413, 422, 426, 507),
            200: ResponseSpec(Receipt, description="Applied, durably; the receipt, as MessagePack."),
            409: ResponseSpec(
                StreamAnswer, description="Nothing was applied: the stream stands elsewhere. MessagePack."
            ),
        },
    )
    async def bring(
        self,
        request: Request[Any, Any, Any],
        uplink: UplinkGiven,
        signed: SignedGiven,
        epoch: FromPath[str],
        channel: FromPath[str],
        n: FromPath[int],
    ) -> Response[bytes]:
        """Apply the next batch of a stream, or repeat the receipt of one that was applied."""
        if channel not in CHANNELS:
            raise Invalid(f"channel: must be one of {', '.join(CHANNELS)}")
        if len(epoch) != 16 or not _is_hex(epoch):
            raise Invalid("epoch: must be 16 hex digits")
        batch = Batch(epoch, channel, n, _hash_of(request, PREVIOUS), await request.body())
        answer = await uplink.take(signed, batch, _hash_of(request, HASH))
        if isinstance(answer, StreamAnswer):
            return Response(msgspec.msgpack.encode(answer), status_code=409, media_type=MESSAGES)
        return Response(answer, media_type=MESSAGES)

    @get("/{station_id:str}/streams/{epoch:str}", summary="Heads of the streams", responses=documented(401))
    async def heads(self, postgres: PostgresGiven, signed: SignedGiven, epoch: FromPath[str]) -> Response[bytes]:
        """Tell how far the cloud has come in each stream of an epoch."""
        async with postgres.database.snapshot() as connection:
            found = await stations.heads(connection, signed, epoch)
        return _message(Heads({channel: found[channel] for channel in CHANNELS if channel in found}))

    @get("/{station_id:str}/changes", summary="What changed", responses=documented(401, 410, 426))
    async def changes(
        self,
        uplink: UplinkGiven,
        signed: SignedGiven,
        since: Annotated[int, QueryParameter(ge=0, description="The cursor; 0 for everything.")] = 0,
        epoch: Annotated[str | None, QueryParameter(description="The life of the cloud that it is of.")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_CHANGES)] = MAX_CHANGES,
        schema: Annotated[int, QueryParameter(ge=1, le=1_000_000, description="The version of records it reads.")] = 1,
    ) -> Response[bytes]:
        """Give the records that changed after a cursor, each as it stands now, in a version that the station reads."""
        return _message(await uplink.changes(signed, epoch, since, limit, schema))

    @put(
        "/{station_id:str}/blobs/{sha256:str}",
        summary="Bring a part of a file",
        status_code=200,
        request_max_body_size=blobs.MAX_PART_BYTES,
        responses=documented(401, 409, 413, 422, 507),
    )
    async def bring_part(
        self,
        request: Request[Any, Any, Any],
        accounts: AccountsGiven,
        clock: ClockGiven,
        signed: SignedGiven,
        sha256: FromPath[str],
        size: Size,
        offset: Offset = 0,
        owner: Annotated[str | None, QueryParameter(max_length=200, description="Whose file it is.")] = None,
    ) -> BlobOut:
        """Keep a part of a file that somebody gave to the station, as ``/api/v1/blobs/`` does."""
        kept = await accounts.tables.write(
            blobs.put(
                sha256, size=size, offset=offset, part=await request.body(), media_type=media_type(request),
                owner=owner, origin=signed, now_ms=to_ms(clock.now()),
            )
        )  # fmt: skip
        return BlobOut.of(checked(kept))

    @get("/{station_id:str}/blobs/{sha256:str}", summary="How far a file has come", responses=documented(401, 404))
    async def how_far(self, accounts: AccountsGiven, signed: SignedGiven, sha256: FromPath[str]) -> BlobOut:
        """Tell how many bytes of a file have come, from whichever station."""
        blobs.check_name(sha256)
        blob = await accounts.tables.read(blobs.find(sha256))
        if blob is None:
            raise NotFound(f"nothing of the file {sha256} has come, station {signed}")
        return BlobOut.of(blob)

    @get("/{station_id:str}/roster", summary="Who may log in", responses=documented(401))
    async def roster(self, rosters: RostersGiven, signed: SignedGiven) -> Response[bytes]:
        """Give the station's roster, signed: people, roles, hashes, seeds sealed for the station."""
        return Response(await rosters.of(signed), media_type=MESSAGES)

    @put("/{station_id:str}/roster", summary="Hand over people", status_code=200, responses=documented(401))
    async def hand_over(
        self, request: Request[Any, Any, Any], rosters: RostersGiven, signed: SignedGiven
    ) -> Response[bytes]:
        """Take people that the station made, for that station alone, and recovery codes that were used there."""
        try:
            sent = msgspec.msgpack.decode(await request.body(), type=HandOver)
        except msgspec.DecodeError as error:
            raise Invalid(f"the body: {error}") from error
        return Response(msgspec.msgpack.encode(await rosters.take(signed, sent)), media_type=MESSAGES)

    @put("/{station_id:str}/audit/lines", summary="Bring the audit log", status_code=204, responses=documented(401))
    async def tell_audit(
        self, request: Request[Any, Any, Any], postgres: PostgresGiven, clock: ClockGiven, signed: SignedGiven
    ) -> None:
        """Keep lines of the station's audit log, for good; those that are here already are passed over."""
        try:
            lines = msgspec.msgpack.decode(await request.body(), type=list[Line])
        except msgspec.DecodeError as error:
            raise Invalid(f"the body: {error}") from error
        async with postgres.database.transaction() as connection:
            await station_audit.take(connection, signed, lines, to_ms(clock.now()))

    @get(
        "/{station_id:str}/models",
        summary="Which models to take",
        responses={
            **documented(401),
            204: ResponseSpec(None, description="The same as before.", generate_examples=False),
        },
    )
    async def models(
        self,
        rosters: RostersGiven,
        signed: SignedGiven,
        epoch: Annotated[str | None, QueryParameter(description="The life of the cloud of the last answer.")] = None,
        issue: Annotated[int, QueryParameter(ge=0, description="The number of the last answer.")] = 0,
    ) -> Response[bytes]:
        """Give what was chosen for the station, signed; 204 where the last answer still holds."""
        shelf = await rosters.shelf_of(signed, epoch, issue)
        return Response(b"", status_code=204) if shelf is None else Response(shelf, media_type=MESSAGES)

    @get("/{station_id:str}/models/{sha256:str}", summary="A part of a model's file", responses=documented(401, 404))
    async def model_part(
        self,
        accounts: AccountsGiven,
        signed: SignedGiven,
        sha256: FromPath[str],
        first: Annotated[int, QueryParameter(ge=0, le=blobs.MAX_BYTES, description="Where the part begins.")] = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=blobs.MAX_PART_BYTES)] = blobs.MAX_PART_BYTES,
    ) -> Response[bytes]:
        """Give the bytes of a model's file from ``first`` on, at most ``limit``."""
        blobs.check_name(sha256)
        blob = await accounts.tables.read(blobs.find(sha256))
        if blob is None or not blob.is_whole or blob.media_type != MODEL_FILE:
            raise NotFound(f"there is no model file {sha256} for station {signed}")
        part = await accounts.tables.read(blobs.read(sha256, first, min(first + limit, blob.size)))
        return Response(part, media_type="application/octet-stream")

    @get("/{station_id:str}/conflicts", summary="Conflicts", responses=documented(401))
    async def conflicts(
        self,
        uplink: UplinkGiven,
        signed: SignedGiven,
        since: Annotated[int, QueryParameter(ge=0, description="The cursor; 0 for everything.")] = 0,
        epoch: Annotated[str | None, QueryParameter(description="The life of the cloud that it is of.")] = None,
    ) -> Response[bytes]:
        """Give conflicts that concern the station after a cursor, resolved ones too."""
        return _message(await uplink.clashes(signed, epoch, since))

    @get("/{station_id:str}/heard", summary="Fixes that came another way", responses=documented(401, 410, 426))
    async def heard(
        self,
        uplink: UplinkGiven,
        signed: SignedGiven,
        since: Annotated[int, QueryParameter(ge=0, description="The cursor; 0 for everything.")] = 0,
        after: Annotated[str | None, QueryParameter(description="The rest of the cursor, 32 hex digits.")] = None,
        epoch: Annotated[str | None, QueryParameter(description="The life of the cloud that it is of.")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_FIXES)] = MAX_FIXES,
        schema: Annotated[int, QueryParameter(ge=1, le=1_000_000, description="The version of fixes it reads.")] = 1,
    ) -> Response[bytes]:
        """Give fixes that the cloud took itself and, in a station's scope, those of others too, after a cursor."""
        _check_after(after)
        return _message(await uplink.heard(signed, epoch, since, after, limit, schema))

    @get("/{station_id:str}/heard/newest", summary="Newest fix of each collar", responses=documented(401, 410, 426))
    async def newest(
        self,
        uplink: UplinkGiven,
        signed: SignedGiven,
        since: Annotated[int, QueryParameter(ge=0, description="The cursor; 0 for everything.")] = 0,
        epoch: Annotated[str | None, QueryParameter(description="The life of the cloud that it is of.")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_FIXES)] = MAX_FIXES,
        schema: Annotated[int, QueryParameter(ge=1, le=1_000_000, description="The version of fixes it reads.")] = 1,
    ) -> Response[bytes]:
        """Give the newest fix of each collar of which ``heard`` has more than a page; no cursor moves by it."""
        return _message(await uplink.newest(signed, epoch, since, limit, schema))

    @get("/{station_id:str}/fixes", summary="Fixes of a collar", responses=documented(401, 426))
    async def fixes(
        self,
        uplink: UplinkGiven,
        signed: SignedGiven,
        collar_id: Annotated[str, QueryParameter(description="A collar that the station has brought fixes of.")],
        after: Annotated[str | None, QueryParameter(description="The id to go on after, 32 hex digits.")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_FIXES)] = MAX_FIXES,
        schema: Annotated[int, QueryParameter(ge=1, le=1_000_000, description="The version of fixes it reads.")] = 1,
    ) -> Response[bytes]:
        """Give the fixes that the cloud holds of a collar, as in a batch, for a comparison."""
        _check_after(after)
        return _message(await uplink.fixes(signed, collar_id, after, limit, schema))


def _check_after(after: str | None) -> None:
    if after is not None and (len(after) != 32 or not _is_hex(after)):
        raise Invalid("after: must be 32 hex digits")


def _message(answer: Changes | Clashes | Heads | FixPage | HeardFixes) -> Response[bytes]:
    return Response(msgspec.msgpack.encode(answer), media_type=MESSAGES)


def _hash_of(request: Request[Any, Any, Any], header: str) -> bytes:
    text = request.headers.get(header, "")
    if len(text) != 64 or not _is_hex(text):
        raise Invalid(f"{header}: must be 64 hex digits")
    return bytes.fromhex(text)


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdef" for digit in text)
