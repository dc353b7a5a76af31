"""What models say of animals: live views, behaviour, trail and occurrence, over a home's ``Insight``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final, TypeAlias

from litestar import Controller, Response, get
from litestar.di import Dependency
from litestar.params import FromPath, QueryParameter, SkipValidationMarker

from shared.api.brief import Brief
from shared.api.errors import documented
from shared.api.inject import ClockGiven, StoreGiven, ViewGiven
from shared.api.openapi import TILE
from shared.domain import Fix
from shared.insight import Insight
from shared.privacy import View, seen_alike
from shared.store import FixQuery, Store
from shared.wire.behaviour import AnalysisOut, OccurrenceOut, SummaryOut, TrailOut
from shared.wire.live import LiveStatusOut, LiveTrackingOut
from shared.wire.trails import TrailsOut

InsightGiven: TypeAlias = Annotated[Insight, Dependency(kind="named"), SkipValidationMarker()]
BriefGiven: TypeAlias = Annotated[Brief, Dependency(kind="named"), SkipValidationMarker()]

#: A year of hours, the longest span that one answer looks back.
MOST_HOURS: Final = 8_784
#: Steps that an analysis lists one by one.
RECENT: Final = 50
#: Fixes of a trail: the newest of its span.
TRAIL_FIXES: Final = 5_000
MOST_POINTS: Final = 2_000
#: Fixes of the trails of all animals together: the newest of the span.
ALL_TRAILS: Final = 40_000

Hours = Annotated[int, QueryParameter(description="How far to look back from now.", ge=1, le=MOST_HOURS)]


class LiveAnimals(Controller):
    """Animals as models see them."""

    path = "/animals"
    tags = ("animals",)
    return_dto = None

    @get("/live_status", summary="Where the active animals are and what models say of them", responses=documented())
    async def live_status(self, insight: InsightGiven, view: ViewGiven, brief: BriefGiven) -> list[LiveStatusOut]:
        """Return every active animal that has a usable position; an answer may be 5 seconds old."""
        return await _live_status(insight, view, brief)

    @get("/trails", summary="Where all animals were", responses=documented())
    async def trails(
        self,
        store: StoreGiven,
        insight: InsightGiven,
        view: ViewGiven,
        brief: BriefGiven,
        clock: ClockGiven,
        hours: Hours = 24,
        points: Annotated[int, QueryParameter(description="Fixes of one animal.", ge=1, le=MOST_POINTS)] = 200,
    ) -> TrailsOut:
        """Return the newest usable fixes of every animal, with states where they are kept; may be 5 seconds old."""

        async def make() -> TrailsOut:
            until = clock.now()
            since = until - timedelta(hours=hours)
            query = FixQuery(since=since, until=until, is_usable=True, ordering="-timestamp", limit=ALL_TRAILS)
            found = await store.fixes(view, query)
            states = await insight.states(view, since, until)
            return TrailsOut.of(found.results, states, since, until, points, is_cut=found.count > ALL_TRAILS)

        return await brief.get(("trails", hours, points, seen_alike(view)), make)

    @get("/{animal_id:str}/movement_trail", summary="Where an animal was", responses=documented(404))
    async def movement_trail(
        self,
        store: StoreGiven,
        insight: InsightGiven,
        view: ViewGiven,
        clock: ClockGiven,
        animal_id: FromPath[str],
        hours: Hours = 24,
        points: Annotated[
            int, QueryParameter(description="Instants of the likely path, evenly over the fixes.", ge=2, le=MOST_POINTS)
        ] = 200,
    ) -> TrailOut:
        """Return the newest usable fixes of a span with their states, and the likely path between them."""
        until = clock.now()
        since = until - timedelta(hours=hours)
        animal = await store.animal(view, animal_id)
        fixes = await _usable(store, view, animal_id, since, until, TRAIL_FIXES)
        return TrailOut.of(
            animal,
            fixes,
            await insight.behaviour(view, animal_id, since, until),
            await insight.path(view, animal_id, since, until, points),
            since,
            until,
        )

    @get("/{animal_id:str}/utilisation", summary="Where an animal spends its time", responses=documented(404, 503))
    async def utilisation(
        self, store: StoreGiven, insight: InsightGiven, view: ViewGiven, animal_id: FromPath[str]
    ) -> OccurrenceOut:
        """Return the smallest regions that hold 95 and 50 % of the time of the record; they are no home range."""
        animal = await store.animal(view, animal_id)
        return OccurrenceOut.of(animal, await insight.occurrence(view, animal_id))

    @get(
        "/{animal_id:str}/utilisation/{z:int}/{x:int}/{tile:str}",
        summary="Where an animal spends its time, as a map tile",
        media_type="image/png",
        responses={
            **documented(404, 503),
            200: TILE,
        },
    )
    async def utilisation_tile(
        self,
        insight: InsightGiven,
        view: ViewGiven,
        animal_id: FromPath[str],
        z: FromPath[int],
        x: FromPath[int],
        tile: FromPath[str],
    ) -> Response[bytes]:
        """Return a tile of Web Mercator; ``tile`` is the row with or without ``.png``."""
        row = tile.removesuffix(".png")
        png = await insight.occurrence_tile(view, animal_id, z, x, int(row) if row.isascii() and row.isdigit() else -1)
        return Response(png, media_type="image/png")


class LiveStatusUnversioned(Controller):
    """The one path that the original's clients also ask without a version."""

    path = "/api/animals"
    tags = ("animals",)
    return_dto = None

    @get("/live_status", summary="Where the active animals are, without a version", responses=documented())
    async def live_status_unversioned(
        self, insight: InsightGiven, view: ViewGiven, brief: BriefGiven
    ) -> list[LiveStatusOut]:
        """Return the same as `/api/v1/animals/live_status/`."""
        return await _live_status(insight, view, brief)


class TrackedBehaviour(Controller):
    """What animals do, by their movement."""

    path = "/tracking"
    tags = ("tracking",)
    return_dto = None

    @get("/live_tracking", summary="All active animals through all models", responses=documented())
    async def live_tracking(
        self, insight: InsightGiven, view: ViewGiven, brief: BriefGiven, clock: ClockGiven
    ) -> LiveTrackingOut:
        """Return every active animal with what each stage says; an answer may be 5 seconds old."""

        async def make() -> LiveTrackingOut:
            return LiveTrackingOut.of(await insight.live(view), clock.now())

        return await brief.get(("live_tracking", seen_alike(view)), make)

    @get("/behavior/analyze", summary="What an animal did", responses=documented(404))
    async def analyze(
        self,
        store: StoreGiven,
        insight: InsightGiven,
        view: ViewGiven,
        clock: ClockGiven,
        animal_id: Annotated[str, QueryParameter(description="The animal.", min_length=1)],
        hours: Hours = 24,
    ) -> AnalysisOut:
        """Return the states of an animal's steps and their shares; a state is one of movement, nobody has seen it."""
        until = clock.now()
        since = until - timedelta(hours=hours)
        animal = await store.animal(view, animal_id)
        found = await insight.behaviour(view, animal_id, since, until)
        recent = found.steps[-RECENT:]
        fixes = await _usable(store, view, animal_id, recent[0].started_at, until, TRAIL_FIXES) if recent else []
        return AnalysisOut.of(animal, found, fixes, hours, RECENT)

    @get("/behavior/summary", summary="What every animal does", responses=documented())
    async def summary(self, insight: InsightGiven, view: ViewGiven, brief: BriefGiven, clock: ClockGiven) -> SummaryOut:
        """Return the state of every active animal and how many are in each; an answer may be 5 seconds old."""

        async def make() -> SummaryOut:
            return SummaryOut.of(await insight.live(view), clock.now())

        return await brief.get(("summary", seen_alike(view)), make)


async def _live_status(insight: Insight, view: View, brief: Brief) -> list[LiveStatusOut]:
    async def make() -> list[LiveStatusOut]:
        return [LiveStatusOut.of(each) for each in await insight.live(view)]

    return await brief.get(("live_status", seen_alike(view)), make)


async def _usable(store: Store, view: View, animal_id: str, since: datetime, until: datetime, limit: int) -> list[Fix]:
    """Return the newest usable, placed fixes of a span, by time."""
    query = FixQuery(animal_id=animal_id, since=since, until=until, is_usable=True, ordering="-timestamp", limit=limit)
    return [fix for fix in reversed((await store.fixes(view, query)).results) if fix.lon_deg is not None]
