"""/api/v1/conflicts: what two people said of the same thing, and what a manager makes of it.

Rangers see what they said themselves; managers what their stations brought. What the cloud found is shown at stations
and resolved in the cloud; what a station found of its phones is resolved there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Protocol, TypeAlias

from litestar import Controller, get, post
from litestar.di import Dependency
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidationMarker

from shared.api.access import AccountsGiven, CallerGiven
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.errors import Conflict
from shared.store import Page
from shared.sync import clashes
from shared.sync.clashes import Clash, ClashKind, ClashStatus, Resolution
from shared.sync.log import Whose
from shared.sync.records import EntityName
from shared.wire.public.conflicts import ConflictDetail, ConflictOut, ResolveConflictIn
from shared.wire.reading import optional_text


class Resolver(Protocol):
    """A store that can make a resolution so."""

    async def resolve(
        self, clash: Clash, resolution: Resolution, columns: Mapping[str, Any], note_text: str | None, by: str
    ) -> Clash:
        """Do what the resolution means and note it, in one transaction."""
        ...


ResolverGiven: TypeAlias = Annotated[Resolver, Dependency(kind="named"), SkipValidationMarker()]


class Conflicts(Controller):
    """Conflicts for a person."""

    path = "/conflicts"
    tags = ("sync",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List conflicts", responses=documented(404))
    async def list_conflicts(
        self,
        accounts: AccountsGiven,
        caller: CallerGiven,
        paging: PagingGiven,
        status: Annotated[ClashStatus | None, QueryParameter(description="open or resolved.")] = None,
        kind: Annotated[ClashKind | None, QueryParameter(description="What kind of conflict.")] = None,
        entity: Annotated[EntityName | None, QueryParameter(description="Of what kind of record.")] = None,
        needs_person: Annotated[bool | None, QueryParameter(description="Only what a person has to decide.")] = None,
    ) -> Paged[ConflictOut]:
        """List conflicts with both values, newest first."""
        job = clashes.page(
            Whose.of(caller.principal), status=status, kind=kind, entity=entity, needs_person=needs_person,
            offset=paging.offset, limit=paging.limit,
        )  # fmt: skip
        return paging.of(Page(*await accounts.tables.read(job)), ConflictOut.of)

    @get("/{conflict_id:str}", summary="Read a conflict", responses=documented(404))
    async def conflict(
        self, accounts: AccountsGiven, caller: CallerGiven, conflict_id: FromPath[str]
    ) -> ConflictDetail:
        """Return a conflict and everything that was ever in conflict about its record."""
        whose = Whose.of(caller.principal)
        clash = await accounts.tables.read(clashes.find(conflict_id, whose))
        past = await accounts.tables.read(clashes.history(clash, whose))
        return ConflictDetail(conflict=ConflictOut.of(clash), history=[ConflictOut.of(each) for each in past])

    @post(
        "/{conflict_id:str}/resolve",
        summary="Resolve a conflict",
        dto=JsonBody,
        status_code=200,
        responses=documented(404, 409),
    )
    async def resolve(
        self,
        accounts: AccountsGiven,
        caller: CallerGiven,
        resolver: ResolverGiven,
        conflict_id: FromPath[str],
        data: JSONBody[ResolveConflictIn],
    ) -> ConflictOut:
        """Keep the server's value, the client's, or what ``columns`` put together; both values stay readable.

        Of a duplicate collar ``keep_server`` leaves it on the first animal, ``keep_client`` gives it to the second from
        then on, and ``merge`` says that both are one animal: what hangs on the second goes to the first. Of two like
        observations ``keep_both`` leaves both.
        """
        clash = await accounts.tables.read(clashes.find(conflict_id, Whose.of(caller.principal)))
        if clash.is_from_above:
            raise Conflict("the cloud found this conflict: resolve it there, its decision comes down")
        if clash.status != "open":
            raise Conflict("this conflict is resolved already")
        done = await resolver.resolve(
            clash, data.resolution, data.columns, optional_text("note", data.note), caller.principal.user_id
        )
        return ConflictOut.of(done)
