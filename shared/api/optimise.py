"""/api/v1/corridors/optimize: the wish for a corridor becomes a job, where a home can search one."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar import Controller, Response, post
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, SkipValidationMarker

from shared.api.access import CallerGiven
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.jobs import Optimiser
from shared.wire.public.jobs import JobOut, OptimiseIn

OptimiserGiven: TypeAlias = Annotated[Optimiser, Dependency(kind="named"), SkipValidationMarker()]
IdempotencyKey: TypeAlias = Annotated[
    str | None,
    HeaderParameter(name="Idempotency-Key", description="The same key again is the same job, not another one."),
]


class Optimise(Controller):
    """The search for a corridor."""

    path = "/corridors/optimize"
    tags = ("corridors",)
    return_dto = None

    @post(
        "/",
        summary="Search a corridor",
        status_code=202,
        dto=JsonBody,
        responses={
            **documented(403, 429, 503),
            202: ResponseSpec(JobOut, generate_examples=False, description="The job that searches it."),
        },
    )
    async def optimise(
        self,
        optimiser: OptimiserGiven,
        caller: CallerGiven,
        data: JSONBody[OptimiseIn],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[JobOut]:
        """Queue the search and answer with its job: follow it at `jobs/{id}/`, its result names the corridor.

        503 `model_unavailable` where this home cannot search: a station leaves it to the cloud.
        """
        job = await optimiser.optimise(caller.principal, data.wish(), idempotency_key)
        return Response(JobOut.of(job), status_code=202, headers={"Location": f"/api/v1/jobs/{job.id}/"})
