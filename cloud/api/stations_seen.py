"""/api/v1/stations for people: which stations there are, when each was heard of, and codes to enrol others."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from litestar import Controller, get, post, put
from litestar.di import Dependency
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidationMarker
from msgspec import Meta, Struct, json

from cloud.store import station_audit, station_frames, stations
from cloud.store.scope import Scope, scope_of
from cloud.store.station_frames import Frame
from cloud.store.stations import Station
from cloud.store.store import PostgresStore
from shared.accounts.audit import Entry
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.inject import ClockGiven, ViewGiven
from shared.api.paging import WHOLE_PAGING, PagingGiven
from shared.errors import Conflict, Invalid, NotFound
from shared.sync.records import from_ms, to_ms
from shared.wire.public.accounts import AuditLineOut, AuditOut
from shared.wire.reading import text

PostgresGiven = Annotated[PostgresStore, Dependency(kind="named"), SkipValidationMarker()]

#: Long enough to carry a code to the machine beside; it is good once.
CODE_VALID: Final = timedelta(minutes=10)
#: Frames of one answer; an instant that no clock reads.
MOST_FRAMES: Final = 1_000
FOREVER_MS: Final = 2**62
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class StationOut(Struct, frozen=True, kw_only=True):
    """A station; ``behind`` is how many of the changes here it has not read yet.

    ``has_scope`` says that it is told of what lies in its scope alone, ``doubled_at`` when two cards were last seen to
    write under its name by turns.
    """

    id: str
    name: str
    enrolled_at: datetime
    last_seen_at: datetime | None
    is_retired: bool
    behind: int
    follows: list[str] | None
    has_scope: bool
    doubled_at: datetime | None


class ScopeOut(Struct, frozen=True, kw_only=True):
    """What a station is told of: an area (GeoJSON) and animals (ids); null for both: everything."""

    area: dict[str, Any] | None
    animals: list[str] | None


class ScopeIn(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a station is to be told of; without both: everything."""

    area: dict[str, Any] | None = None
    animals: Annotated[list[str], Meta(max_length=10_000)] | None = None


class StationIn(Struct, kw_only=True):
    """A station that is to enrol; without ``id`` it is made of the name."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    id: Annotated[str, Meta(max_length=63)] | None = None


class CodeOut(Struct, frozen=True, kw_only=True):
    """A one-time code, shown only now."""

    id: str
    name: str
    code: str
    expires_at: datetime


class FrameOut(Struct, frozen=True, kw_only=True):
    """A frame as a station heard it: ``payload`` in hex digits, ``copies`` of it on that day until it was sent.

    ``received_at`` is the station's clock, whose state was ``clock``; ``taken_at`` this home's.
    """

    seq: int
    received_at: datetime
    clock: str
    link: str
    framing: str
    topic: str
    device: str
    payload: str
    copies: int
    taken_at: datetime


class FramesOut(Struct, frozen=True, kw_only=True):
    """Frames by their place in the station's ledger; ``next``: what to go on after, null where there are no more."""

    frames: list[FrameOut]
    next: int | None


class StationsSeen(Controller):
    """Stations as people see them."""

    path = "/api/v1/stations"
    tags = ("stations",)
    return_dto = None

    @get("/", summary="List stations", responses=documented())
    async def listed(self, postgres: PostgresGiven, view: ViewGiven) -> list[StationOut]:
        """List the stations that the caller may see, by id."""
        async with postgres.database.snapshot() as connection:
            newest = await stations.newest_change(connection)
            found = await stations.stations(connection)
        may_see = view.stations
        return [_out(each, newest) for each in found if may_see is None or each.id in may_see]

    @post("/", summary="Invite a station", dto=JsonBody, responses=documented(403, 409))
    async def invite(
        self,
        postgres: PostgresGiven,
        accounts: AccountsGiven,
        caller: CallerGiven,
        clock: ClockGiven,
        data: JSONBody[StationIn],
    ) -> CodeOut:
        """Make a one-time code of ten minutes by which a station enrols; an earlier one of the same station is void."""
        name = text("name", data.name)
        station_id = data.id or re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63]
        if not _ID.fullmatch(station_id):
            raise Invalid("id: must be small letters, digits and hyphens, and begin with a letter or digit")
        now = clock.now()
        async with postgres.database.transaction() as connection:
            known = {each.id: each for each in await stations.stations(connection)}
            if station_id in known and data.id is None:
                raise Conflict(f"id: there is a station {station_id}; give its id to enrol it anew, or another name")
            valid_ms = CODE_VALID // timedelta(milliseconds=1)
            code = await stations.new_code(connection, station_id, name, to_ms(now), valid_ms)
        await accounts.note([Entry(to_ms(now), caller.principal.user_id, "station.invite", station_id)])
        return CodeOut(id=station_id, name=name, code=code, expires_at=now + CODE_VALID)

    @post("/{station_id:str}/retire", summary="Retire a station", status_code=200, responses=documented(404, 409))
    async def retire(
        self,
        postgres: PostgresGiven,
        accounts: AccountsGiven,
        caller: CallerGiven,
        clock: ClockGiven,
        station_id: FromPath[str],
    ) -> StationOut:
        """Take a station's key away: what it sends is refused from now on, what it sent stays."""
        now_ms = to_ms(clock.now())
        async with postgres.database.transaction() as connection:
            await stations.retire(connection, station_id, now_ms)
            newest = await stations.newest_change(connection)
            found = await stations.stations(connection)
        await accounts.note([Entry(now_ms, caller.principal.user_id, "station.retire", station_id)])
        return next(_out(each, newest) for each in found if each.id == station_id)

    @get("/{station_id:str}/scope", summary="What a station is told of", responses=documented(404))
    async def scope(self, postgres: PostgresGiven, station_id: FromPath[str]) -> ScopeOut:
        """Give a station's scope."""
        async with postgres.database.snapshot() as connection:
            return _scope(await scope_of(connection, station_id))

    @get("/{station_id:str}/frames", summary="Frames as a station heard them", responses=documented(403, 404))
    async def frames(
        self,
        postgres: PostgresGiven,
        station_id: FromPath[str],
        since: Annotated[datetime | None, QueryParameter(description="Heard from then on.")] = None,
        until: Annotated[datetime | None, QueryParameter(description="Heard before then.")] = None,
        after: Annotated[int, QueryParameter(ge=0, description="The place to go on after.")] = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=MOST_FRAMES)] = 100,
    ) -> FramesOut:
        """Give frames that a station sent up, by place; each is kept for 180 days after it came."""
        async with postgres.database.snapshot() as connection:
            if station_id not in {each.id for each in await stations.stations(connection)}:
                raise NotFound(f"there is no station {station_id}")
            span = (
                -FOREVER_MS if since is None else to_ms(since),
                FOREVER_MS if until is None else to_ms(until),
            )
            found = await station_frames.frames_of(connection, station_id, *span, after, limit)
        return FramesOut(
            frames=[_frame(each) for each in found], next=found[-1].frame.seq if len(found) == limit else None
        )

    @get(
        "/{station_id:str}/audit", summary="A station's audit log", responses=documented(404), dependencies=WHOLE_PAGING
    )
    async def audit(self, postgres: PostgresGiven, station_id: FromPath[str], paging: PagingGiven) -> AuditOut:
        """Give the lines that a station brought, newest first, and the first that is torn from the one before it.

        One that was restored from a backup has written some numbers twice, and is torn there.
        """
        async with postgres.database.snapshot() as connection:
            if station_id not in {each.id for each in await stations.stations(connection)}:
                raise NotFound(f"there is no station {station_id}")
            count, lines, torn_at = await station_audit.page(connection, station_id, paging.offset, paging.limit)
        return AuditOut(count=count, broken_at=torn_at, results=[AuditLineOut.of(line) for line in lines])

    @put("/{station_id:str}/scope", summary="Limit what a station is told of", dto=JsonBody, responses=documented(404))
    async def limit(
        self,
        postgres: PostgresGiven,
        accounts: AccountsGiven,
        caller: CallerGiven,
        clock: ClockGiven,
        station_id: FromPath[str],
        data: JSONBody[ScopeIn],
    ) -> ScopeOut:
        """Tell a station of an area and of animals alone, and of all that it brings; what is in neither goes from it.

        Fixes that others brought of what is in scope go down to it.
        """
        area = None if data.area is None else json.encode(data.area).decode()
        animals = None if data.animals is None else sorted(set(data.animals))
        async with postgres.database.transaction() as connection:
            await stations.set_scope(connection, station_id, Scope(area=area, animals=animals))
            found = await scope_of(connection, station_id)
        await accounts.note([Entry(to_ms(clock.now()), caller.principal.user_id, "station.scope", station_id)])
        return _scope(found)


def _frame(found: Frame) -> FrameOut:
    frame = found.frame
    return FrameOut(
        seq=frame.seq, received_at=from_ms(frame.received_ms), clock=frame.clock, link=frame.link,
        framing=frame.framing, topic=frame.topic, device=frame.device, payload=frame.payload.hex(),
        copies=frame.copies, taken_at=from_ms(found.taken_ms),
    )  # fmt: skip


def _scope(found: Scope) -> ScopeOut:
    return ScopeOut(area=None if found.area is None else json.decode(found.area), animals=found.animals)


def _out(station: Station, newest: int) -> StationOut:
    return StationOut(
        id=station.id, name=station.name, enrolled_at=station.enrolled_at, last_seen_at=station.last_seen_at,
        is_retired=station.is_retired, behind=max(newest - station.cursor, 0), follows=station.follows,
        has_scope=station.has_scope, doubled_at=station.doubled_at,
    )  # fmt: skip
