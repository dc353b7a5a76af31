"""Jobs in public form, and the body that asks for a corridor, as the original platform's clients send it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Raw, Struct

from shared.errors import Invalid
from shared.jobs import Algorithm, CorridorWish, Goal, Job, JobState
from shared.wire.geojson import check_region
from shared.wire.public.corridors import Point
from shared.wire.public.features import Geometry
from shared.wire.public.fields import Name
from shared.wire.reading import optional_text, text

_NULL: Final = Raw(b"null")


class JobError(Struct, frozen=True):
    """Why a job failed, or why its last attempt did; ``code`` is stable."""

    code: str
    detail: str


class JobOut(Struct, frozen=True, kw_only=True):
    """A piece of long work. ``best`` is the best answer so far, ``result`` the last one."""

    id: str
    kind: str
    state: JobState
    percent: float
    message: str
    best: Annotated[Raw, Meta(description="The best answer so far, as JSON; null where there is none yet.")]
    result: Annotated[Raw, Meta(description="The answer of a job that succeeded, as JSON; null of any other.")]
    error: JobError | None
    parameters: Annotated[Raw, Meta(description="What was asked for, as JSON.")]
    attempts: int
    is_cancel_asked: bool
    created_by: str
    created_at: datetime
    next_attempt_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> JobOut:
        """Return the public form of ``job``."""
        error = None if job.error_code is None else JobError(job.error_code, job.error or "")
        return cls(
            id=job.id, kind=job.kind, state=job.state, percent=job.percent, message=job.message,
            best=job.best or _NULL, result=job.result or _NULL, error=error,
            parameters=job.parameters, attempts=job.attempts,
            is_cancel_asked=job.is_cancel_asked, created_by=job.owner, created_at=job.made_at,
            next_attempt_at=job.due_at, started_at=job.started_at, ended_at=job.ended_at,
        )  # fmt: skip


class Region(Geometry, frozen=True):
    """A GeoJSON area; other members of what a client sends are not kept."""

    type: Annotated[str, Meta(description="Polygon or MultiPolygon.")]


class OptimiseIn(Struct, kw_only=True):
    """What a corridor shall be. ``seed`` and ``model_version`` repeat what was found before."""

    species: Name
    start_point: Point
    end_point: Point
    name: Name | None = None
    steps: Annotated[int, Meta(ge=10, le=200)] = 50
    optimization_goal: Goal = "balanced"
    algorithm: Algorithm = "auto"
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    model_version: Annotated[str, Meta(max_length=200)] | None = None
    region: Annotated[Region | None, Meta(description="An area that the corridor must not leave; null: any.")] = None

    def wish(self) -> CorridorWish:
        """Return the wish; raises Invalid."""
        if self.start_point == self.end_point:
            raise Invalid("end_point: must be another place than start_point")
        region = None if self.region is None else self.region.geometry()
        if region is not None:
            check_region("region", region)
        return CorridorWish(
            name=optional_text("name", self.name), species=text("species", self.species),
            start_lon_deg=self.start_point.lon, start_lat_deg=self.start_point.lat,
            end_lon_deg=self.end_point.lon, end_lat_deg=self.end_point.lat, steps=self.steps,
            goal=self.optimization_goal, algorithm=self.algorithm, seed=self.seed,
            model_version=optional_text("model_version", self.model_version), region=region,
        )  # fmt: skip
