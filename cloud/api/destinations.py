"""/api/v1/destinations: other systems that fixes are sent to. A token goes in and never comes out."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar import Controller, Response, delete, get, patch, post
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, SkipValidationMarker

from cloud.api.jobs import JobsGiven
from cloud.jobs.sending import Destinations
from cloud.store.destinations import Destination
from shared.accounts.audit import Entry
from shared.accounts.service import Accounts
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.privacy import Principal
from shared.store import Page
from shared.wire.public.destinations import DestinationIn, DestinationOut, DestinationPatch
from shared.wire.public.jobs import JobOut

DestinationsGiven: TypeAlias = Annotated[Destinations, Dependency(kind="named"), SkipValidationMarker()]


class DestinationRoutes(Controller):
    """Other systems that fixes are sent to."""

    path = "/api/v1/destinations"
    tags = ("destinations",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List destinations", responses=documented(404))
    async def list_destinations(self, destinations: DestinationsGiven, paging: PagingGiven) -> Paged[DestinationOut]:
        """List destinations by name, and how each stands."""
        found = await destinations.all()
        return paging.of(Page(len(found), found[paging.offset : paging.offset + paging.limit]), DestinationOut.of)

    @post("/", summary="Add a destination", dto=JsonBody, responses=documented(403, 404, 409))
    async def add(
        self, destinations: DestinationsGiven, accounts: AccountsGiven, caller: CallerGiven,
        data: JSONBody[DestinationIn],
    ) -> DestinationOut:  # fmt: skip
        """Send fixes to another system from now on, those of before as well."""
        made = await destinations.add(data.columns(), caller.principal.user_id)
        await note(accounts, caller.principal, "destination.add", made)
        return DestinationOut.of(made)

    @get("/{destination_id:str}", summary="Read a destination", responses=documented(404))
    async def destination(self, destinations: DestinationsGiven, destination_id: FromPath[str]) -> DestinationOut:
        """Return a destination and how it stands."""
        return DestinationOut.of(await destinations.get(destination_id))

    @patch("/{destination_id:str}", summary="Change a destination", dto=JsonBody, responses=documented(403, 404, 409))
    async def change(
        self, destinations: DestinationsGiven, accounts: AccountsGiven, caller: CallerGiven,
        destination_id: FromPath[str], data: JSONBody[DestinationPatch],
    ) -> DestinationOut:  # fmt: skip
        """Change what is named; another scope is looked at from the beginning, and nothing is sent twice."""
        changed = await destinations.change(destination_id, data.columns())
        await note(accounts, caller.principal, "destination.change", changed)
        return DestinationOut.of(changed)

    @delete("/{destination_id:str}", summary="Remove a destination", responses=documented(403, 404))
    async def remove(
        self, destinations: DestinationsGiven, accounts: AccountsGiven, caller: CallerGiven,
        destination_id: FromPath[str],
    ) -> None:  # fmt: skip
        """Send nothing there any more, and forget what was sent: added again, it is sent everything again."""
        there = await destinations.get(destination_id)
        await destinations.remove(destination_id)
        await note(accounts, caller.principal, "destination.remove", there)

    @post(
        "/{destination_id:str}/send",
        summary="Send now",
        status_code=202,
        responses={
            **documented(403, 404, 409, 429, 503),
            202: ResponseSpec(JobOut, generate_examples=False, description="The job that sends."),
        },
    )
    async def send(
        self, destinations: DestinationsGiven, jobs: JobsGiven, accounts: AccountsGiven, caller: CallerGiven,
        destination_id: FromPath[str],
    ) -> Response[JobOut]:  # fmt: skip
        """Queue a run at once, or name the one that is under way; what was refused there is tried once more."""
        job = await destinations.send_now(jobs, destination_id, caller.principal)
        await note(accounts, caller.principal, "destination.send", await destinations.get(destination_id))
        return Response(JobOut.of(job), status_code=202, headers={"Location": f"/api/v1/jobs/{job.id}/"})


async def note(accounts: Accounts, principal: Principal, action: str, there: Destination) -> None:
    """Write into the audit log what somebody did to a destination."""
    scope = ", ".join([*(there.species or ()), *(f"animal {each}" for each in there.animals or ())]) or "all animals"
    detail = f"{there.id} {there.kind} {there.url} {there.precision} {scope}"
    await accounts.note([Entry(accounts.moments().ms, principal.user_id, action, detail)])
