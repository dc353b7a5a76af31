"""How the cloud is: ``/health/`` for everyone, ``live`` and ``ready`` for monitors, ``detail`` for its operator."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Literal

from litestar import Controller, Response, get
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import SkipValidationMarker
from msgspec import Struct

from cloud.ingest.ledger import Taken
from cloud.ingest.service import BrokerStatus, Ingest
from cloud.store import facts
from cloud.store.facts import CloudFacts
from cloud.store.store import PostgresStore
from shared.api.inject import ViewGiven
from shared.errors import StoreError

IngestGiven = Annotated[Ingest, Dependency(kind="named"), SkipValidationMarker()]
PostgresGiven = Annotated[PostgresStore, Dependency(kind="named"), SkipValidationMarker()]


class HealthWord(Struct, frozen=True):
    """One word for a monitor."""

    status: Literal["ok", "failing"]


class CloudDetail(Struct, frozen=True, kw_only=True):
    """What the operator sees."""

    status: Literal["ok", "failing"]
    version: str
    database: CloudFacts
    #: brokers that this process listens to, and what each of its links brought and refused since it started
    brokers: list[BrokerStatus]
    taken: dict[str, Taken]


class Health(Controller):
    """The cloud's own state."""

    path = "/health"
    tags = ("health",)

    @get("/", summary="Health", responses={503: ResponseSpec(HealthWord, description="The database does not answer.")})
    async def health(self, postgres: PostgresGiven) -> Response[HealthWord]:
        """Sum up in a word."""
        return await _word(postgres)

    @get("/live", summary="Liveness")
    async def live(self) -> HealthWord:
        """Answer while the process lives; asks nothing of the database."""
        return HealthWord("ok")

    @get("/ready", summary="Readiness", responses={503: ResponseSpec(HealthWord, description="Not yet, or no more.")})
    async def ready(self, postgres: PostgresGiven) -> Response[HealthWord]:
        """Say whether the database answers."""
        return await _word(postgres)

    @get("/detail", summary="All that the operator sees")
    async def detail(self, postgres: PostgresGiven, ingest: IngestGiven, view: ViewGiven) -> CloudDetail:
        """Count what is kept and name the stations."""
        async with postgres.database.snapshot() as connection:
            return CloudDetail(
                status="ok", version=version("outpost"), database=await facts.facts(connection),
                brokers=ingest.brokers, taken=ingest.ledger.taken,
            )  # fmt: skip


async def _word(postgres: PostgresStore) -> Response[HealthWord]:
    try:
        async with postgres.database.snapshot() as connection:
            await connection.execute("SELECT 1")
    except StoreError:
        return Response(HealthWord("failing"), status_code=HTTPStatus.SERVICE_UNAVAILABLE)
    return Response(HealthWord("ok"))
