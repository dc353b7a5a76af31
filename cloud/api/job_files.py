"""Files that jobs made: fetched by whoever asked for them and sees as precisely as then, and noted in the audit log."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any, ClassVar, TypeAlias

from litestar import Controller, Response, get
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, SkipValidationMarker
from litestar.response import Stream

from cloud.api.jobs import JobsGiven
from cloud.jobs.export import seen_as
from cloud.jobs.files import Files
from cloud.jobs.service import Jobs
from shared.accounts.audit import Entry
from shared.accounts.service import Accounts
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.errors import documented
from shared.api.inject import ViewGiven
from shared.errors import Conflict, Forbidden, NotFound
from shared.privacy import View

FilesGiven: TypeAlias = Annotated[Files, Dependency(kind="named"), SkipValidationMarker()]


class JobFiles(Controller):
    """The controller of a kind of job that makes a file."""

    kind: ClassVar[str]

    @get(
        "/{job_id:str}/file",
        summary="Fetch the file that was made",
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
        await _check_mine(jobs, caller.principal.user_id, job_id, view, self.kind)
        return await _file_of(files, accounts, view, job_id, f"{self.kind}.read")


async def _check_mine(jobs: Jobs, user_id: str, job_id: str, view: View, kind: str) -> None:
    """Raise NotFound unless the job is of this kind, this person's, and made a file; Conflict while it is at it."""
    job = await jobs.job(view.principal, job_id)
    if job.kind != kind or job.owner != user_id:  # an administrator sees everybody's jobs, not their files
        raise NotFound(f"there is no {kind} {job_id}")
    if job.state in ("failed", "cancelled"):
        raise NotFound(f"this {kind} was {job.state}: there is no file")
    if job.state != "succeeded":
        raise Conflict(f"the {kind} is not written yet: follow its job")


async def _file_of(files: Files, accounts: Accounts, view: View, job_id: str, action: str) -> Response[Any]:
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
