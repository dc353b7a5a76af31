"""/api/v1/animals/{id}/results: what each station's models said of an animal, by which version, of which fix."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from litestar import Controller, get
from litestar.di import Dependency
from litestar.params import FromPath, SkipValidationMarker
from msgspec import Struct

from cloud.store import results
from cloud.store.store import PostgresStore
from shared.api.errors import documented
from shared.api.inject import ViewGiven
from shared.errors import Forbidden
from shared.sync.records import from_ms
from shared.wire.batch.results import Said

PostgresGiven = Annotated[PostgresStore, Dependency(kind="named"), SkipValidationMarker()]


class ForetoldOut(Struct, frozen=True, kw_only=True):
    """Where an animal was expected at an instant, with the ellipse that holds it with 90 %."""

    at: datetime
    lat: float
    lon: float
    semi_major_90_m: float
    semi_minor_90_m: float
    bearing_deg: float


class ToldOut(Struct, frozen=True, kw_only=True):
    """What a station's models said of an animal, of its fix at ``recorded_at``; ``models`` names versions by stage.

    ``told_at`` is the station's clock, ``received_at`` this home's. ``map_through`` is how far its map of occurrence
    reaches, where that has come whole.
    """

    station: str
    recorded_at: datetime | None
    told_at: datetime
    received_at: datetime
    models: dict[str, str]
    missing: dict[str, str]
    step_hours: float | None
    path_sd_m: float | None
    habitat_suitability: float | None
    distance_24h_m: float | None
    recommendation: str | None
    predicted: list[ForetoldOut]
    map_through: datetime | None
    map_model: str | None


class ToldRoutes(Controller):
    """What stations say of animals."""

    path = "/api/v1/animals"
    tags = ("animals",)
    return_dto = None

    @get("/{animal_id:str}/results", summary="What stations' models said", responses=documented(403, 404))
    async def told(self, postgres: PostgresGiven, view: ViewGiven, animal_id: FromPath[str]) -> list[ToldOut]:
        """Return what each station last said of an animal, by station; who sees positions reduced may not ask."""
        await postgres.animal(view, animal_id)
        if not view.is_exact:
            raise Forbidden("models speak of exact positions, which you may not see")
        async with postgres.database.snapshot() as connection:
            found = await results.all_of(connection, animal_id)
        return [_out(*each) for each in found]


def _out(station_id: str, said: Said, received_ms: int, drawn: tuple[int, str] | None) -> ToldOut:
    return ToldOut(
        station=station_id,
        recorded_at=None if said.through_ms is None else from_ms(said.through_ms),
        told_at=from_ms(said.told_ms),
        received_at=from_ms(received_ms),
        models=said.models,
        missing=said.missing,
        step_hours=None if said.interval_s is None else said.interval_s / 3600,
        path_sd_m=said.path_sd_m,
        habitat_suitability=said.suitability,
        distance_24h_m=said.distance_24h_m,
        recommendation=None if said.advice is None else said.advice.recommendation,
        predicted=[
            ForetoldOut(
                at=each.at, lat=each.lat_deg, lon=each.lon_deg, semi_major_90_m=each.semi_major_90_m,
                semi_minor_90_m=each.semi_minor_90_m, bearing_deg=each.bearing_deg,
            )
            for each in said.predicted
        ],
        map_through=None if drawn is None else from_ms(drawn[0]),
        map_model=None if drawn is None else drawn[1],
    )  # fmt: skip
