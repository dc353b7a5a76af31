"""/api/v1/exports: fixes as a file, made by a job and fetched by whoever asked for it."""

from __future__ import annotations

from litestar import Response, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody

from cloud.api.job_files import JobFiles, note
from cloud.api.jobs import JobsGiven
from cloud.jobs.export import EXPORT, ExportWish, seen_as
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.inject import ViewGiven
from shared.api.optimise import IdempotencyKey
from shared.errors import Invalid
from shared.privacy import View
from shared.wire.public.exports import ExportIn
from shared.wire.public.jobs import JobOut
from shared.wire.reading import bound, text


class Exports(JobFiles):
    """Fixes as a file in a format of other systems."""

    path = "/api/v1/exports"
    tags = ("exports",)
    kind = EXPORT
    return_dto = None

    @post(
        "/",
        summary="Export fixes",
        status_code=202,
        dto=JsonBody,
        responses={
            **documented(403, 429, 503),
            202: ResponseSpec(JobOut, generate_examples=False, description="The job that writes the file."),
        },
    )
    async def export(
        self,
        jobs: JobsGiven,
        accounts: AccountsGiven,
        caller: CallerGiven,
        view: ViewGiven,
        data: JSONBody[ExportIn],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[JobOut]:
        """Queue an export as precise as what you see; its file is at `exports/{id}/file/` once the job has succeeded.

        Where that is exact, a second factor of the last five minutes is asked for. Both leave a line in the audit log.
        """
        if _sees_exactly(view):
            accounts.require_factor(caller)
        wish = _wish(data, view)
        job = await jobs.submit(EXPORT, wish, caller.principal, key=idempotency_key)
        await note(accounts, view, "export", f"{job.id} {wish.format} {_what(wish)}")
        return Response(JobOut.of(job), status_code=202, headers={"Location": f"/api/v1/jobs/{job.id}/"})


def _sees_exactly(view: View) -> bool:
    return view.is_exact or bool(view.stations)


def _wish(data: ExportIn, view: View) -> ExportWish:
    since = None if data.since is None else bound("since", str(data.since))
    until = None if data.until is None else bound("until", str(data.until), is_end=True)
    if since is not None and until is not None and since >= until:
        raise Invalid("until: must be later than since")
    return ExportWish(
        format=data.format,
        animals=None if data.animals is None else tuple(text("animals", name) for name in data.animals),
        species=None if data.species is None else text("species", data.species),
        since=since, until=until, is_usable_only=data.is_usable_only, seen_as=seen_as(view),
    )  # fmt: skip


def _what(wish: ExportWish) -> str:
    if wish.animals is None:
        whose = wish.species or "all animals"
    else:
        whose = f"{len(wish.animals)} animals: {', '.join(wish.animals[:5])}"
    span = "" if wish.since is None and wish.until is None else f" {wish.since or ''}..{wish.until or ''}"
    return f"of {whose}{span}"
