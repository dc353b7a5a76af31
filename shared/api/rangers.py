"""/api/v1/rangers: teams, rangers, where they are, and how they stand now.

Where a ranger is, is as secret as where an animal is: managers see those of their stations, rangers their own team,
viewers nobody; they may know how many are on duty. Telephone numbers are for managers and the person alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Response, delete, get, patch, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter

from shared.accounts.service import Accounts
from shared.api.access import AccountsGiven
from shared.api.body import BulkBody, JsonBody
from shared.api.errors import documented
from shared.api.filters import Exactly
from shared.api.inject import ClockGiven, StoreGiven, ViewGiven
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.api.references import caller_as_ranger, named_ranger, named_team
from shared.api.spans import SPAN, SpanGiven
from shared.clock import Clock
from shared.domain import Ranger
from shared.errors import Conflict, Forbidden, Invalid, NotFound, RequestError
from shared.ids import random_id
from shared.privacy import View
from shared.store import RangerPositionQuery, RangerQuery, RecordEdit, Store, TeamQuery
from shared.wire.public.rangers import (
    BulkRangerPositionsIn,
    LiveRangerOut,
    RangerIn,
    RangerOut,
    RangerPatch,
    RangerPositionIn,
    RangerPositionOut,
    RangerStats,
    TeamIn,
    TeamOut,
    TeamPatch,
)
from shared.wire.public.tracking import BulkOut, BulkResult
from shared.wire.reading import read_json

#: What rangers change of themselves.
OWN_COLUMNS: Final = frozenset({"phone", "emergency_contact", "current_status", "device_id"})
_MOST: Final = 1_000
_READ_SLICE: Final = 200


class BulkRangerBody(BulkBody):
    """Decodes the envelope of many positions of rangers."""

    shown = BulkRangerPositionsIn


class Teams(Controller):
    """Rangers who patrol together."""

    path = "/rangers/teams"
    tags = ("rangers",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List teams", responses=documented(404))
    async def list_teams(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        is_active: Annotated[bool | None, QueryParameter(description="Only active teams, or only the others.")] = None,
        search: Annotated[str | None, QueryParameter(description="Text to find in name or description.")] = None,
        order: Annotated[
            str | None, QueryParameter(name="ordering", description="name or created_at; - for descending.")
        ] = None,
    ) -> Paged[TeamOut]:
        """List teams by name unless told otherwise; a ranger sees the own."""
        query = TeamQuery(
            is_active=is_active, search=search or None, ordering=order or "name", offset=paging.offset,
            limit=paging.limit,
        )  # fmt: skip
        counts = await _counts(store, view)
        return paging.of(await store.teams(view, query), partial(TeamOut.of, counts=counts))

    @post("/", summary="Enter a team", dto=JsonBody, responses=documented())
    async def create_team(self, store: StoreGiven, view: ViewGiven, data: JSONBody[TeamIn]) -> TeamOut:
        """Enter a team."""
        team_id = random_id()
        await store.edit_together(
            view, [RecordEdit(entity="team", row_id=team_id, columns=data.columns(), is_new=True)]
        )
        return await _team(store, view, team_id)

    @get("/{team_id:str}", summary="Read a team", responses=documented(404))
    async def team(self, store: StoreGiven, view: ViewGiven, team_id: FromPath[str]) -> TeamOut:
        """Return one team."""
        return await _team(store, view, team_id)

    @put("/{team_id:str}", summary="Rewrite a team", dto=JsonBody, responses=documented(404))
    async def put_team(
        self, store: StoreGiven, view: ViewGiven, team_id: FromPath[str], data: JSONBody[TeamIn]
    ) -> TeamOut:
        """Change a team; the name is required, what is left out stays as it is."""
        return await _change_team(store, view, team_id, data)

    @patch("/{team_id:str}", summary="Change a team", dto=JsonBody, responses=documented(404))
    async def patch_team(
        self, store: StoreGiven, view: ViewGiven, team_id: FromPath[str], data: JSONBody[TeamPatch]
    ) -> TeamOut:
        """Change what the body names."""
        return await _change_team(store, view, team_id, data)

    @delete("/{team_id:str}", summary="Delete a team", responses=documented(404, 409))
    async def delete_team(self, store: StoreGiven, view: ViewGiven, team_id: FromPath[str]) -> None:
        """Delete a team to which nobody belongs."""
        await store.team(view, team_id)
        if (await store.rangers(view, RangerQuery(team_id=team_id, limit=1))).count:
            raise Conflict("rangers belong to this team: give them another one first")
        await store.delete_record(view, "team", team_id)


class Rangers(Controller):
    """Who patrols."""

    path = "/rangers"
    tags = ("rangers",)
    dependencies = PAGING
    return_dto = None

    @get("/rangers", summary="List rangers", responses=documented(404))
    async def list_rangers(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        current_status: Exactly = None,
        team: Exactly = None,
        search: Annotated[str | None, QueryParameter(description="Text to find in name or badge number.")] = None,
        order: Annotated[
            str | None,
            QueryParameter(name="ordering", description="name, badge_number or created_at; - for descending."),
        ] = None,
    ) -> Paged[RangerOut]:
        """List rangers by name unless told otherwise; a ranger sees the own team's."""
        query = RangerQuery(
            current_status=current_status or None, team_id=team or None, search=search or None,
            ordering=order or "name", offset=paging.offset, limit=paging.limit,
        )  # fmt: skip
        return paging.of(await store.rangers(view, query), RangerOut.of)

    @post("/rangers", summary="Enter a ranger", dto=JsonBody, responses=documented(409))
    async def create_ranger(
        self, store: StoreGiven, view: ViewGiven, accounts: AccountsGiven, data: JSONBody[RangerIn]
    ) -> RangerOut:
        """Enter a ranger; the account is named by ``user``, and so is the person unless the body has a name."""
        columns = await _checked(store, view, accounts, data.columns(), None)
        if not columns.get("name"):
            raise Invalid("name: is required where no user is named")
        ranger_id = random_id()
        await store.edit_together(view, [RecordEdit(entity="ranger", row_id=ranger_id, columns=columns, is_new=True)])
        return RangerOut.of(await store.ranger(view, ranger_id))

    @get("/live_status", summary="Where rangers are now", responses=documented())
    async def live_status(self, store: StoreGiven, view: ViewGiven, clock: ClockGiven) -> list[LiveRangerOut]:
        """Return every ranger with status, newest position and what nobody has resolved; a ranger sees the own team."""
        return await _live(store, view, clock)

    @get("/rangers/live_status", summary="Where rangers are now, by its other name", responses=documented())
    async def rangers_live_status(self, store: StoreGiven, view: ViewGiven, clock: ClockGiven) -> list[LiveRangerOut]:
        """Return the same as `rangers/live_status/`: the original platform's clients ask here."""
        return await _live(store, view, clock)

    @get("/stats", summary="Count rangers by duty", responses=documented())
    async def stats(self, store: StoreGiven, view: ViewGiven) -> RangerStats:
        """Return how many rangers are on duty, off duty, on leave and in an emergency; nothing of who or where."""
        counts = await store.ranger_counts(view)
        return RangerStats(total=sum(counts.values()), by_status=counts)

    @get("/rangers/{ranger_id:str}", summary="Read a ranger", responses=documented(404))
    async def ranger(self, store: StoreGiven, view: ViewGiven, ranger_id: FromPath[str]) -> RangerOut:
        """Return one ranger."""
        return RangerOut.of(await store.ranger(view, ranger_id))

    @put("/rangers/{ranger_id:str}", summary="Rewrite a ranger", dto=JsonBody, responses=documented(404, 409))
    async def put_ranger(
        self,
        store: StoreGiven,
        view: ViewGiven,
        accounts: AccountsGiven,
        ranger_id: FromPath[str],
        data: JSONBody[RangerIn],
    ) -> RangerOut:
        """Change a ranger; the badge number is required, what is left out stays as it is."""
        return await _change_ranger(store, view, accounts, ranger_id, data)

    @patch("/rangers/{ranger_id:str}", summary="Change a ranger", dto=JsonBody, responses=documented(403, 404, 409))
    async def patch_ranger(
        self,
        store: StoreGiven,
        view: ViewGiven,
        accounts: AccountsGiven,
        ranger_id: FromPath[str],
        data: JSONBody[RangerPatch],
    ) -> RangerOut:
        """Change what the body names; rangers change their own status, device and numbers."""
        return await _change_ranger(store, view, accounts, ranger_id, data)

    @delete("/rangers/{ranger_id:str}", summary="Delete a ranger", responses=documented(404))
    async def delete_ranger(self, store: StoreGiven, view: ViewGiven, ranger_id: FromPath[str]) -> None:
        """Delete a ranger; logs and positions stay."""
        await store.ranger(view, ranger_id)
        await store.delete_record(view, "ranger", ranger_id)


class RangerTracking(Controller):
    """Where rangers were. A position is stored once for ever, so there is no PUT and no DELETE."""

    path = "/rangers/tracking"
    tags = ("rangers",)
    dependencies = {**PAGING, **SPAN}  # noqa: RUF012  # Litestar reads this attribute and never changes it
    return_dto = None

    @get("/", summary="List positions of rangers", responses=documented(404))
    async def list_positions(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        span: SpanGiven,
        ranger: Exactly = None,
        activity_type: Exactly = None,
        order: Annotated[
            str | None, QueryParameter(name="ordering", description="timestamp or created_at; - for descending.")
        ] = None,
    ) -> Paged[RangerPositionOut]:
        """List positions, newest first unless told otherwise; a ranger sees the own team's."""
        query = RangerPositionQuery(
            ranger_id=ranger or None, activity_type=activity_type or None, since=span.since, until=span.until,
            ordering=order or "-timestamp", offset=paging.offset, limit=paging.limit,
        )  # fmt: skip
        return paging.of(await store.ranger_positions(view, query), RangerPositionOut.of)

    @post(
        "/",
        summary="Post a ranger's position",
        dto=JsonBody,
        responses={
            **documented(403, 507),
            200: ResponseSpec(RangerPositionOut, generate_examples=False, description="It was stored already."),
        },
    )
    async def create_position(
        self, store: StoreGiven, view: ViewGiven, data: JSONBody[RangerPositionIn]
    ) -> Response[RangerPositionOut]:
        """Store where a ranger is or was: 201 with the row where it is new, 200 where it was there already."""
        (added,) = await store.add_ranger_positions(view, [await _Whose(store, view).columns(data)])
        stored = RangerPositionOut.of(await store.ranger_position(view, added.id))
        return Response(stored, status_code=201 if added.outcome == "new" else 200)

    @post(
        "/bulk_upload",
        summary="Post many positions of rangers",
        dto=BulkRangerBody,
        status_code=200,
        responses=documented(413, 507),
    )
    async def bulk_upload(self, store: StoreGiven, view: ViewGiven, data: JSONBody[list[msgspec.Raw]]) -> BulkOut:
        """Store up to 10,000 positions, as a phone collects them on a patrol; a bad one takes no neighbour with it.

        The body is `{"tracking_points": [...]}`, `{"tracking": [...]}` or an array. The same upload may be sent again.
        """
        return await _upload(store, view, data)

    @get("/{position_id:str}", summary="Read a position of a ranger", responses=documented(404))
    async def position(self, store: StoreGiven, view: ViewGiven, position_id: FromPath[str]) -> RangerPositionOut:
        """Return one position."""
        return RangerPositionOut.of(await store.ranger_position(view, position_id))


class _Whose:
    """Finds whose positions are posted; asks the store once for each ranger."""

    def __init__(self, store: Store, view: View) -> None:
        self._store = store
        self._view = view
        self._known: dict[str | None, Ranger] = {}

    async def columns(self, body: RangerPositionIn) -> dict[str, Any]:
        """Return the columns to store; raises Invalid, and Forbidden where a ranger posts for another one."""
        reference = body.ranger_reference
        if reference not in self._known:
            self._known[reference] = await self._ranger(reference)
        return {**body.columns(), "ranger_id": self._known[reference].id}

    async def _ranger(self, reference: str | None) -> Ranger:
        me = await caller_as_ranger(self._store, self._view)
        if reference is None:
            if me is None:
                raise Invalid("ranger: is required: your account is no ranger's")
            return me
        if self._view.principal.role == "ranger" and (me is None or me.id != reference):
            raise Forbidden("rangers post their own positions")
        return await named_ranger(self._store, self._view, reference)


async def _upload(store: Store, view: View, items: list[msgspec.Raw]) -> BulkOut:
    whose = _Whose(store, view)
    results = [BulkResult(index=index) for index in range(len(items))]
    accepted: list[BulkResult] = []
    positions: list[dict[str, Any]] = []
    for result, item in zip(results, items, strict=True):
        if result.index % _READ_SLICE == _READ_SLICE - 1:
            await asyncio.sleep(0)
        try:
            body = read_json(item, RangerPositionIn)
            result.local_id = body.local_id
            positions.append(await whose.columns(body))
        except (RequestError, Forbidden) as error:
            result.errors = [error.detail]
        else:
            accepted.append(result)
    added = await store.add_ranger_positions(view, positions)
    for result, outcome in zip(accepted, added, strict=True):
        result.id, result.outcome = outcome.id, outcome.outcome
    created = sum(outcome.outcome == "new" for outcome in added)
    return BulkOut(
        received=len(items), created=created, duplicates=len(added) - created, failed=len(items) - len(added),
        results=results,
    )  # fmt: skip


async def _live(store: Store, view: View, clock: Clock) -> list[LiveRangerOut]:
    now = clock.now()
    return [LiveRangerOut.of(live, now) for live in await store.live_rangers(view)]


async def _counts(store: Store, view: View) -> Counter[str]:
    rangers = (await store.rangers(view, RangerQuery(limit=_MOST))).results
    return Counter(ranger.team_id for ranger in rangers if ranger.team_id is not None)


async def _team(store: Store, view: View, team_id: str) -> TeamOut:
    return TeamOut.of(await store.team(view, team_id), await _counts(store, view))


async def _change_team(store: Store, view: View, team_id: str, body: TeamPatch) -> TeamOut:
    await store.team(view, team_id)
    await store.edit_together(view, [RecordEdit(entity="team", row_id=team_id, columns=body.columns())])
    return await _team(store, view, team_id)


async def _change_ranger(store: Store, view: View, accounts: Accounts, ranger_id: str, body: RangerPatch) -> RangerOut:
    ranger = await store.ranger(view, ranger_id)
    columns = body.columns()
    if view.principal.role == "ranger":
        if ranger.user_id != view.principal.user_id:
            raise Forbidden("rangers change what is theirs")
        if others := sorted(columns.keys() - OWN_COLUMNS):
            raise Forbidden(f"rangers change status, device and numbers of their own; a manager changes {others[0]}")
    columns = await _checked(store, view, accounts, columns, ranger)
    await store.edit_together(view, [RecordEdit(entity="ranger", row_id=ranger_id, columns=columns)])
    return RangerOut.of(await store.ranger(view, ranger_id))


async def _checked(
    store: Store, view: View, accounts: Accounts, columns: dict[str, Any], before: Ranger | None
) -> dict[str, Any]:
    """Return ``columns`` once the account and the team that they name are there; raises Invalid or Conflict."""
    if columns.get("team_id"):
        await named_team(store, view, columns["team_id"])
    user_id = columns.get("user_id")
    if user_id and (before is None or before.user_id != user_id):
        try:
            user = await accounts.user(user_id)
        except NotFound as error:
            raise Invalid(f"user: there is no account {user_id}") from error
        if (await store.rangers(view, RangerQuery(user_id=user_id, limit=1))).count:
            raise Conflict("user: this account is a ranger's already")
        if before is None:
            columns.setdefault("name", user.name)
    return columns
