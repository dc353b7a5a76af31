"""How the station is: ``/health/`` for everyone, ``/health/live`` and ``/health/ready`` for what watches the process,
``/health/detail`` for the person who has to repair it.
"""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal, Protocol

from litestar import Controller, Response, get, put
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, SkipValidationMarker
from msgspec import Struct

from firmware_bridge.frames import LinkStatus
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.inject import ClockGiven, ViewGiven
from shared.clock import Clock, ClockState, StationClock
from shared.errors import Conflict
from shared.sayings import Said
from shared.wire.reading import instant

Status = Literal["ok", "degraded", "failing"]


class ClockHealth(Struct, frozen=True, kw_only=True):
    """How far the station's time can be trusted; ``uncertainty_s`` is null where nobody knows."""

    now: datetime
    state: ClockState
    is_sure: bool
    uncertainty_s: float | None


class ClockIn(Struct, frozen=True):
    """The time as a person reads it: RFC 3339 with its offset."""

    utc: str


def clock_health(clock: Clock) -> ClockHealth:
    """Return how far ``clock`` can be trusted."""
    uncertainty = clock.uncertainty if isinstance(clock, StationClock) else None
    return ClockHealth(
        now=clock.now(),
        state=clock.state,
        is_sure=clock.state.is_sure,
        uncertainty_s=None if uncertainty is None else uncertainty.total_seconds(),
    )


class DiskHealth(Struct, frozen=True, kw_only=True):
    """Room on the medium of the database."""

    path: str
    free_bytes: int
    total_bytes: int


class LedgerHealth(Struct, frozen=True, kw_only=True):
    """Frames heard: ``pending`` are kept and wait to be decoded, ``undecoded`` no codec could read."""

    frames: int
    pending: int
    undecoded: int


class StoreHealth(Struct, frozen=True, kw_only=True):
    """The database; ``check`` is the result of its last integrity check, null before the first."""

    schema: int
    fixes: int
    animals: int
    size_bytes: int
    is_encrypted: bool
    check: str | None


class WaitingHealth(Struct, frozen=True, kw_only=True):
    """What one channel has not confirmed to the cloud; ``oldest_at`` is when its oldest item came to be."""

    items: int
    oldest_at: datetime | None


class CloudHealth(Struct, frozen=True, kw_only=True):
    """The cloud: null where the station is not enrolled, or has no receipt yet; ``is_enabled`` is the configuration's.

    ``waiting`` is by channel, the most urgent first. ``unsendable`` counts what no batch could hold, ``last_error``
    says why the last session failed.
    """

    is_enabled: bool
    url: str | None
    station_id: str | None
    last_receipt_at: datetime | None
    last_receipt_age_s: float | None
    waiting: dict[str, WaitingHealth]
    unsendable: int
    #: channels whose batch waits because station and cloud have programs that are too far apart
    held: list[str]
    last_error: str | None
    #: what the link may carry, its cap, and what went over it in the last measured day (0 without a cap)
    profile: str | None = None
    bytes_a_day: int | None = None
    bytes_today: int = 0
    #: when the roster of who may log in was taken last, and its age on a sure clock
    roster_taken_at: datetime | None = None
    roster_age_s: float | None = None


class PipelineHealth(Struct, frozen=True, kw_only=True):
    """The models: how many animals they still owe something to, and why any of them was refused."""

    owed: int
    refused: dict[str, str]


class BackupHealth(Struct, frozen=True, kw_only=True):
    """Copies of every hour and archives of every day; null before the first, ``last_error`` of the last round."""

    path: str
    is_enabled: bool
    is_on_the_same_medium: bool
    last_hourly_at: datetime | None
    last_daily_at: datetime | None
    last_error: str | None


class HealthDetail(Struct, frozen=True, kw_only=True):
    """All that the status page shows; ``reasons`` say why the status is not ok, ``said`` that by code and values."""

    status: Status
    reasons: list[str]
    version: str
    uptime_s: float
    clock: ClockHealth
    disk: DiskHealth
    ledger: LedgerHealth
    store: StoreHealth
    links: list[LinkStatus]
    pipeline: PipelineHealth | None = None
    cloud: CloudHealth | None = None
    backup: BackupHealth | None = None
    said: list[Said] = []


class HealthSource(Protocol):
    """What the station tells of itself."""

    def is_ready(self) -> bool:
        """Say whether the station takes frames and answers reads."""
        ...

    def status(self) -> Status:
        """Sum up in a word, asking no disk and no database: ``degraded`` keeps every fix, ``failing`` does not."""
        ...

    async def detail(self) -> HealthDetail:
        """Return everything."""
        ...


class StatusOut(Struct, frozen=True):
    """The station in one word."""

    status: Status


class ReadyOut(Struct, frozen=True):
    """Whether the station serves yet."""

    status: Literal["ready", "starting"]


HealthGiven = Annotated[HealthSource, Dependency(kind="named"), SkipValidationMarker()]


class Health(Controller):
    """The health of the station."""

    path = "/health"
    tags = ("health",)

    @get("/", summary="The station in one word", responses={503: ResponseSpec(StatusOut, description="failing")})
    async def overall(self, health: HealthGiven) -> Response[StatusOut]:
        """Return ok, degraded, or failing (503): a failing station loses fixes unless somebody acts."""
        status = health.status()
        code = HTTPStatus.SERVICE_UNAVAILABLE if status == "failing" else HTTPStatus.OK
        return Response(StatusOut(status), status_code=code)

    @get("/live", summary="Whether the process runs")
    async def live(self) -> StatusOut:
        """Return ok: a process that answers is alive."""
        return StatusOut("ok")

    @get(
        "/ready", summary="Whether the station serves", responses={503: ResponseSpec(ReadyOut, description="starting")}
    )
    async def ready(self, health: HealthGiven) -> Response[ReadyOut]:
        """Return ready, or starting with 503."""
        if health.is_ready():
            return Response(ReadyOut("ready"))
        return Response(ReadyOut("starting"), status_code=HTTPStatus.SERVICE_UNAVAILABLE)

    @put("/clock", summary="Set the clock by hand", dto=JsonBody, return_dto=None, responses=documented(409))
    async def set_clock(self, view: ViewGiven, clock: ClockGiven, data: JSONBody[ClockIn]) -> ClockHealth:
        """Take the time from a person at the station; refused where the station knows better, or it cannot be true."""
        if not isinstance(clock, StationClock):
            raise Conflict("this station replays the past on a clock of its own")
        if not clock.admin_says(instant("utc", data.utc)):
            raise Conflict(f"utc: the clock is {clock.state} and {clock.now():%Y-%m-%dT%H:%M:%SZ}: it was not changed")
        return clock_health(clock)

    @get("/detail", summary="Everything about the station's health", responses=documented())
    async def detail(self, health: HealthGiven, view: ViewGiven) -> HealthDetail:
        """Return clock, disk, ledger, database, links and cloud."""
        return await health.detail()
