"""/api/v1/exports: fixes as a file, made by a job and fetched by whoever asked for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any, TypeAlias

from litestar import Controller, Response, get, post
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, SkipValidationMarker
from litestar.response import Stream

from cloud.api.jobs import JobsGiven
from cloud.jobs.export import EXPORT, ExportWish, seen_as
from cloud.jobs.files import Files
from cloud.jobs.service import Jobs
from shared.accounts.audit import Entry
from shared.accounts.service import Accounts
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.inject import ViewGiven
from shared.api.optimise import IdempotencyKey
from shared.errors import Conflict, Forbidden, Invalid, NotFound
from shared.privacy import View
from shared.wire.public.exports import ExportIn
from shared.wire.public.jobs import JobOut
from shared.wire.reading import bound, text

FilesGiven: TypeAlias = Annotated[Files, Dependency(kind="named"), SkipValidationMarker()]


class Exports(Controller):
    """Fixes as a file in a format of other systems."""

    path = "/api/v1/exports"
    tags = ("exports",)
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

    @get(
        "/{job_id:str}/file",
        summary="Fetch the file of an export",
        media_type="application/octet-stream",
        responses={
            **documented(403, 404, 409),
            200: ResponseSpec(
                bytes, description="The file.", media_type="application/octet-stream", generate_examples=False
            ),
        },
    )
    async def file(
        self,
        jobs: JobsGiven,
        files: FilesGiven,
        accounts: AccountsGiven,
        caller: CallerGiven,
        view: ViewGiven,
        job_id: FromPath[str],
    ) -> Response[Any]:
        """Return the file, to whoever asked for it and sees as precisely as then; 409 while it is being written."""
        await check_mine(jobs, caller.principal.user_id, job_id, view, EXPORT)
        return await file_of(files, accounts, view, job_id, "export.read")


async def check_mine(jobs: Jobs, user_id: str, job_id: str, view: View, kind: str) -> None:
    """Raise NotFound unless the job is of this kind, this person's, and made a file; Conflict while it is at it."""
    job = await jobs.job(view.principal, job_id)
    if job.kind != kind or job.owner != user_id:  # an administrator sees everybody's jobs, not their files
        raise NotFound(f"there is no {kind} {job_id}")
    if job.state in ("failed", "cancelled"):
        raise NotFound(f"this {kind} was {job.state}: there is no file")
    if job.state != "succeeded":
        raise Conflict(f"the {kind} is not written yet: follow its job")


async def file_of(files: Files, accounts: Accounts, view: View, job_id: str, action: str) -> Response[Any]:
    """Answer with a job's file and note that; raises Forbidden for who sees otherwise than when it was asked for."""
    file = await files.find(job_id)
    if file is None:
        raise NotFound("the file has expired: ask for it again")
    if file.seen_as != seen_as(view):
        raise Forbidden("what you may see has changed since you asked: ask for it again")
    await note(accounts, view, action, f"{job_id} {file.size_bytes} bytes")
    return Stream(
        _body(files, job_id),
        media_type=file.media_type,
        headers={
            "Content-Disposition": f'attachment; filename="{file.name}"',
            "Content-Length": str(file.size_bytes),
            "ETag": f'"{file.sha256.hex()}"',
            "Cache-Control": "no-store",
        },
    )


async def _body(files: Files, job_id: str) -> AsyncGenerator[bytes, None]:
    async for part in files.read(job_id):
        yield part


async def note(accounts: Accounts, view: View, action: str, detail: str) -> None:
    """Write into the audit log what somebody took along, and how precise it was."""
    precision = "exact" if view.is_exact else "reduced" if not view.stations else "exact of own stations"
    await accounts.note([Entry(accounts.moments().ms, view.principal.user_id, action, f"{detail} {precision}")])


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
