"""/api/v1/predictions and /api/v1/ml: what models say when they are asked, and how they are."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Annotated, Final, TypeAlias

import msgspec
from litestar import Controller, Response, delete, get, post
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidationMarker

from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.filters import Exactly
from shared.api.inject import ClockGiven, StoreGiven, ViewGiven
from shared.api.insights import InsightGiven
from shared.api.openapi import TILE
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.api.references import named_animal
from shared.clock import Clock
from shared.domain import Animal, Prediction, PredictionType
from shared.errors import Forbidden, Invalid, ModelUnavailable
from shared.habitat import Habitat
from shared.ids import random_id
from shared.insight import Insight, ModelStatus
from shared.movement.areas import Place
from shared.privacy import View
from shared.routing import RouteAlgorithm, Router
from shared.store import FixQuery, PredictionQuery, Store
from shared.sync.predictions import tier_of
from shared.wire.habitat import EnvironmentOut, PlaceIn, SuitabilityOut
from shared.wire.predictions import (
    OUTER_SHARE,
    HealthOut,
    KeptPredictionOut,
    ModelsOut,
    MovementOut,
    PredictionIn,
    json_of,
)
from shared.wire.reading import text
from shared.wire.routes import DEFAULT_STEPS, CorridorAskedIn, EvaluationOut, PathIn, RouteIn, RouteOut

HabitatGiven: TypeAlias = Annotated[Habitat, Dependency(kind="named"), SkipValidationMarker()]
RouterGiven: TypeAlias = Annotated[Router, Dependency(kind="named"), SkipValidationMarker()]

#: Fixes among which the newest that is placed is looked for.
_LOOKED_AT: Final = 8
_MOST_RADIUS_M: Final = 50_000.0

Latitude = Annotated[float, QueryParameter(ge=-90, le=90, description="Degrees north, WGS 84.")]
Longitude = Annotated[float, QueryParameter(ge=-180, le=180, description="Degrees east, WGS 84.")]
Month = Annotated[int | None, QueryParameter(ge=1, le=12, description="Which season's maps; without, that of now.")]
Species = Annotated[str, QueryParameter(min_length=1, max_length=200, description="By common or scientific name.")]
MaybeSpecies = Annotated[
    str | None, QueryParameter(min_length=1, max_length=200, description="By common or scientific name.")
]


class Predictions(Controller):
    """What models said to those who asked. Rows of this home: they do not travel."""

    path = "/predictions"
    tags = ("predictions",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List predictions", responses=documented(404))
    async def list_predictions(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        animal: Exactly = None,
        animal_id: Exactly = None,
        prediction_type: Exactly = None,
        created_by: Exactly = None,
        search: Annotated[str | None, QueryParameter(description="Looks in the animal's name and species.")] = None,
        order: Annotated[
            str | None, QueryParameter(name="ordering", description="created_at or confidence; - for descending.")
        ] = None,
    ) -> Paged[KeptPredictionOut]:
        """List predictions, newest first unless told otherwise."""
        query = PredictionQuery(
            animal_id=animal or animal_id or None,
            prediction_type=prediction_type or None,
            created_by=created_by or None,
            search=search or None,
            ordering=order or "-created_at",
            offset=paging.offset,
            limit=paging.limit,
        )
        return paging.of(await store.predictions(view, query), KeptPredictionOut.of)

    @post(
        "/",
        summary="Ask a model for a prediction",
        dto=JsonBody,
        responses={
            **documented(503),
            200: ResponseSpec(KeptPredictionOut, generate_examples=False, description="It had been asked for before."),
            201: ResponseSpec(KeptPredictionOut, generate_examples=False, description="The prediction that was made."),
        },
    )
    async def create_prediction(
        self,
        store: StoreGiven,
        insight: InsightGiven,
        habitat: HabitatGiven,
        router: RouterGiven,
        view: ViewGiven,
        clock: ClockGiven,
        data: JSONBody[PredictionIn],
    ) -> Response[KeptPredictionOut]:
        """Ask for where an animal will be, how suitable a place is, or a route, and keep the answer.

        The same question of the same fix and model is answered with the row that is there. A model that is not there
        is a 503 ``model_unavailable``, never a made-up value.
        """
        kept, is_new = await _Asking(store, insight, habitat, router, view, clock).prediction(data)
        return Response(KeptPredictionOut.of(kept), status_code=201 if is_new else 200)

    @get("/history", summary="Predictions of one kind, newest first", responses=documented(404))
    async def history(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        kind: Annotated[
            PredictionType | None, QueryParameter(name="type", description="movement, habitat or corridor.")
        ] = None,
        animal: Exactly = None,
    ) -> Paged[KeptPredictionOut]:
        """Return what was predicted so far."""
        query = PredictionQuery(
            animal_id=animal or None, prediction_type=kind, offset=paging.offset, limit=paging.limit
        )  # fmt: skip
        return paging.of(await store.predictions(view, query), KeptPredictionOut.of)

    @get("/corridor", summary="A route that a corridor may take", responses=documented(503))
    async def corridor(
        self,
        router: RouterGiven,
        view: ViewGiven,
        species: Species,
        start_lat: Latitude,
        start_lon: Longitude,
        end_lat: Annotated[float | None, QueryParameter(ge=-90, le=90, description="Where it ends.")] = None,
        end_lon: Annotated[float | None, QueryParameter(ge=-180, le=180, description="Where it ends.")] = None,
        steps: Annotated[int, QueryParameter(ge=1, le=200, description="Cells of the ground.")] = DEFAULT_STEPS,
        algorithm: Annotated[RouteAlgorithm, QueryParameter(description="ppo, dqn, least_cost or auto.")] = "auto",
    ) -> RouteOut:
        """Return a route from a place; it is not kept."""
        asked = CorridorAskedIn(
            species=species, start_lat=start_lat, start_lon=start_lon, end_lat=end_lat, end_lon=end_lon, steps=steps,
            algorithm=algorithm,
        ).asked()  # fmt: skip
        return RouteOut.of(asked.species, await router.generate(view, asked))

    @post(
        "/corridor",
        summary="A route that a corridor may take",
        dto=JsonBody,
        status_code=200,
        responses=documented(503),
    )
    async def post_corridor(self, router: RouterGiven, view: ViewGiven, data: JSONBody[CorridorAskedIn]) -> RouteOut:
        """Return a route from a place; it is not kept."""
        asked = data.asked()
        return RouteOut.of(asked.species, await router.generate(view, asked))

    @get("/ml_status", summary="How the models are", responses=documented())
    async def ml_status(self, insight: InsightGiven, habitat: HabitatGiven, router: RouterGiven) -> ModelsOut:
        """Return of each model whether it serves, in which version, and why not."""
        return ModelsOut.of(await _statuses(insight, habitat, router), version("outpost"))

    @get("/xgboost/environment", summary="What the maps say of a place", responses=documented(413, 503))
    async def environment(
        self,
        habitat: HabitatGiven,
        clock: ClockGiven,
        lat: Latitude,
        lon: Longitude,
        radius: Annotated[float, QueryParameter(ge=0, le=_MOST_RADIUS_M, description="Metres around it.")] = 1_000.0,
        species: MaybeSpecies = None,
        month: Month = None,
    ) -> EnvironmentOut:
        """Return each map's value at a place and around it, and of a species how suitable the place is."""
        place, of_month = Place(lon_deg=lon, lat_deg=lat), month or clock.now().month
        ground = await habitat.ground(place, radius, of_month)
        if species is None:
            return EnvironmentOut.of(ground, None, "no species was named")
        try:
            found = await habitat.suitability(species, [place], of_month)
        except ModelUnavailable as error:
            return EnvironmentOut.of(ground, None, error.detail)
        return EnvironmentOut.of(ground, SuitabilityOut.of(species, place, found), None)

    @post(
        "/xgboost/predict",
        summary="How suitable a place is for a species",
        dto=JsonBody,
        status_code=200,
        responses=documented(503),
    )
    async def predict(self, habitat: HabitatGiven, clock: ClockGiven, data: JSONBody[PlaceIn]) -> SuitabilityOut:
        """Return the suitability of a place; it is not kept."""
        species, place = text("species", data.species), data.place()
        return SuitabilityOut.of(
            species, place, await habitat.suitability(species, [place], data.month or clock.now().month)
        )

    @get("/{prediction_id:str}", summary="Read a prediction", responses=documented(404))
    async def prediction(self, store: StoreGiven, view: ViewGiven, prediction_id: FromPath[str]) -> KeptPredictionOut:
        """Return one prediction."""
        return KeptPredictionOut.of(await store.prediction(view, prediction_id))

    @delete("/{prediction_id:str}", summary="Delete a prediction", responses=documented(404))
    async def delete_prediction(self, store: StoreGiven, view: ViewGiven, prediction_id: FromPath[str]) -> None:
        """Delete a prediction; rangers delete those that they asked for."""
        found = await store.prediction(view, prediction_id)
        if view.principal.role == "ranger" and found.created_by != view.principal.user_id:
            raise Forbidden("rangers delete what they asked for themselves")
        await store.delete_prediction(view, prediction_id)


class Ml(Controller):
    """The models as a service of their own, as the original platform had them."""

    path = "/ml"
    tags = ("ml",)
    return_dto = None

    @get("/health", summary="Whether models serve", responses=documented())
    async def health(self, insight: InsightGiven, habitat: HabitatGiven, router: RouterGiven) -> HealthOut:
        """Say in one word how the models are."""
        found = ModelsOut.of(await _statuses(insight, habitat, router), version("outpost"))
        return HealthOut(status=found.status, version=found.version)

    @get("/health/live", summary="Whether the service runs", responses=documented(), sync_to_thread=False)
    def live(self) -> HealthOut:
        """Say that it does."""
        return HealthOut(status="alive", version=version("outpost"))

    @get("/health/ready", summary="Whether the models of movement are loaded", responses=documented(503))
    async def ready(self, insight: InsightGiven) -> HealthOut:
        """Say that each model of the movement serves; 503 names those that do not."""
        missing = [each.model for each in await insight.statuses() if each.status == "unavailable"]
        if missing:
            raise ModelUnavailable(f"not ready: {', '.join(missing)}")
        return HealthOut(status="ready", version=version("outpost"))

    @post(
        "/corridor/generate",
        summary="Find a route between two places",
        dto=JsonBody,
        status_code=200,
        responses=documented(503),
    )
    async def generate(self, router: RouterGiven, view: ViewGiven, data: JSONBody[RouteIn]) -> RouteOut:
        """Return a route and its score."""
        asked = data.asked()
        return RouteOut.of(asked.species, await router.generate(view, asked))

    @post("/corridor/evaluate", summary="Score a route", dto=JsonBody, status_code=200, responses=documented(503))
    async def evaluate(self, router: RouterGiven, view: ViewGiven, data: JSONBody[PathIn]) -> EvaluationOut:
        """Return how good a given route is."""
        species = text("species", data.species)
        return EvaluationOut.of(data, await router.evaluate(view, species, data.places()))


class HabitatTiles(Controller):
    """Maps of how suitable places are."""

    path = "/habitat"
    tags = ("predictions",)
    return_dto = None

    @get(
        "/{species:str}/{z:int}/{x:int}/{tile:str}",
        summary="How suitable places are for a species, as a map tile",
        media_type="image/png",
        responses={
            **documented(503),
            200: TILE,
        },
    )
    async def tile(
        self,
        habitat: HabitatGiven,
        clock: ClockGiven,
        species: FromPath[str],
        z: FromPath[int],
        x: FromPath[int],
        tile: FromPath[str],
        month: Month = None,
    ) -> Response[bytes]:
        """Return a tile of Web Mercator, transparent where there is no map; ``tile`` is the row with or without .png.

        The palette's index is the suitability: 0 no map, 1 to 255 from 0 to 1.
        """
        row = tile.removesuffix(".png")
        y = int(row) if row.isascii() and row.isdigit() and len(row) < 9 else -1
        png = await habitat.tile(species, z, x, y, month or clock.now().month)
        return Response(png, media_type="image/png")


class _Made(msgspec.Struct, frozen=True, kw_only=True):
    """What a model said; ``of_fix`` is the fix that it was made of, where it was made of one."""

    input_data: str
    results: str
    model_version: str
    confidence: float | None = None
    of_fix: str | None = None


class _Asking:
    """Who is asked, and by whom."""

    def __init__(
        self, store: Store, insight: Insight, habitat: Habitat, router: Router, view: View, clock: Clock
    ) -> None:
        self._store = store
        self._insight = insight
        self._habitat_of = habitat
        self._router = router
        self._view = view
        self._clock = clock

    async def prediction(self, data: PredictionIn) -> tuple[Prediction, bool]:
        """Return the prediction that is kept, and whether it is new."""
        animal = None if data.of_animal is None else await named_animal(self._store, self._view, data.of_animal)
        kinds = {"movement": self._movement, "habitat": self._habitat, "corridor": self._corridor}
        made = await kinds[data.prediction_type](data, animal)
        prediction = Prediction(
            id=random_id(),
            prediction_type=data.prediction_type,
            created_at=self._clock.now(),
            input_data=made.input_data,
            results=made.results,
            animal_id=None if animal is None else animal.id,
            confidence=made.confidence,
            model_version=made.model_version,
            created_by=self._view.principal.user_id,
        )
        key = json_of([
            tier_of(self._view), prediction.created_by, prediction.prediction_type, prediction.animal_id,
            made.input_data, made.model_version, made.of_fix,
        ])  # fmt: skip
        return await self._store.keep_prediction(self._view, prediction, hashlib.sha256(key.encode()).hexdigest())

    async def _movement(self, data: PredictionIn, animal: Animal | None) -> _Made:
        if animal is None:
            raise Invalid("animal: is required for a prediction of movement")
        forecast = await self._insight.forecast(self._view, animal.id)
        speakers = ", ".join(dict.fromkeys(each.model for each in forecast.predicted))
        versions = [each.versions for each in await self._insight.statuses() if each.model == "forecast"]
        version_of = versions[0].get("network") if versions else None
        return _Made(
            input_data=json_of({"timestamp": forecast.fix.recorded_at}),
            results=json_of(MovementOut.of(forecast)),
            model_version=f"forecast {version_of}: {speakers}" if version_of else f"forecast: {speakers}",
            confidence=OUTER_SHARE if forecast.cell_deg is None else None,
            of_fix=forecast.fix.id,
        )

    async def _habitat(self, data: PredictionIn, animal: Animal | None) -> _Made:
        asked = data.asked
        species = asked.species or (None if animal is None else animal.species)
        if species is None:
            raise Invalid("input_data.species: is required where no animal is named")
        if (asked.lat is None) != (asked.lon is None):
            raise Invalid("input_data.lat: stands together with lon, or both are left out")
        if asked.lat is not None and asked.lon is not None:
            place = Place(lon_deg=asked.lon, lat_deg=asked.lat)
        elif animal is not None:
            place = await self._place_of(animal)
        else:
            raise Invalid("input_data.lat: is required where no animal is named")
        month = asked.month or self._clock.now().month
        said = SuitabilityOut.of(species, place, await self._habitat_of.suitability(species, [place], month))
        return _Made(
            input_data=json_of({"species": species, "lat": said.lat, "lon": said.lon, "month": month}),
            results=json_of(said),
            model_version=said.model_version,
        )

    async def _corridor(self, data: PredictionIn, _animal: Animal | None) -> _Made:
        asked = data.asked.corridor()
        found = RouteOut.of(asked.species, await self._router.generate(self._view, asked.asked()))
        return _Made(
            input_data=json_of(asked),
            results=json_of(found),
            model_version=found.model_version,
            confidence=found.confidence,
        )

    async def _place_of(self, animal: Animal) -> Place:
        """Return where an animal is, as finely as the asker sees it."""
        query = FixQuery(animal_id=animal.id, is_usable=True, limit=_LOOKED_AT)
        for fix in (await self._store.fixes(self._view, query)).results:
            if fix.lon_deg is not None and fix.lat_deg is not None:
                return Place(lon_deg=fix.lon_deg, lat_deg=fix.lat_deg)
        raise ModelUnavailable("there is no usable position of this animal that you may see")


async def _statuses(insight: Insight, habitat: Habitat, router: Router) -> list[ModelStatus]:
    """Return how each model is, in the order of the pipeline."""
    found = {each.model: each for each in await insight.statuses()}
    found["habitat"] = await habitat.status()
    advice = found.get("corridor")
    found["corridor"] = ModelStatus(
        model="corridor",
        status="ready" if router.missing is None else "unavailable",
        versions=router.models,
        detail=router.missing,
    )
    if router.missing is not None and advice is not None and advice.status != "unavailable":
        found["corridor"] = msgspec.structs.replace(advice, status="degraded", detail=f"advice alone: {router.missing}")
    order = ("hmm", "bbmm", "habitat", "forecast", "corridor")
    return [found[name] for name in order if name in found]
