"""/api/v1/reports: what a period was like, written by a job and fetched by whoever asked for it."""

from __future__ import annotations

from typing import Final

from litestar import Response, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody

from cloud.api.job_files import JobFiles, note
from cloud.api.jobs import JobsGiven
from cloud.jobs.export import seen_as
from cloud.jobs.report import REPORT, ReportWish, check_may
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.inject import ViewGiven
from shared.api.optimise import IdempotencyKey
from shared.errors import Invalid
from shared.wire.public.jobs import JobOut
from shared.wire.public.reports import ReportIn
from shared.wire.reading import bound, text

LONGEST_DAYS: Final = 3_660


class Reports(JobFiles):
    """Tables of a period, for people to read."""

    path = "/api/v1/reports"
    tags = ("reports",)
    kind = REPORT
    return_dto = None

    @post(
        "/",
        summary="Make a report",
        status_code=202,
        dto=JsonBody,
        responses={
            **documented(403, 429, 503),
            202: ResponseSpec(JobOut, generate_examples=False, description="The job that writes the report."),
        },
    )
    async def report(
        self,
        jobs: JobsGiven,
        accounts: AccountsGiven,
        caller: CallerGiven,
        view: ViewGiven,
        data: JSONBody[ReportIn],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[JobOut]:
        """Queue a report: PDF, spreadsheet or JSON; its file is at `reports/{id}/file/` once the job has succeeded.

        `movement`, `corridors` and `habitat` are worked out of exact positions and are refused to who does not see all
        of them; `species` is counted in cells of 0.1 degree of what you see. No report names an animal's place more
        precisely. Both acts leave a line in the audit log.
        """
        check_may(view, data.subject)
        since, until = bound("since", str(data.since)), bound("until", str(data.until), is_end=True)
        if since >= until:
            raise Invalid("until: must be later than since")
        if (until - since).days > LONGEST_DAYS:
            raise Invalid("until: a report is about ten years at most")
        wish = ReportWish(
            subject=data.subject, format=data.format, since=since, until=until,
            species=None if data.species is None else text("species", data.species), seen_as=seen_as(view),
            language=data.language,
        )  # fmt: skip
        job = await jobs.submit(REPORT, wish, caller.principal, key=idempotency_key)
        about = f"{wish.subject} of {wish.species or 'all species'} {wish.since}..{wish.until}"
        await note(accounts, view, "report", f"{job.id} {wish.format} {about}")
        return Response(JobOut.of(job), status_code=202, headers={"Location": f"/api/v1/jobs/{job.id}/"})
