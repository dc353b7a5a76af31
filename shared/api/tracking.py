"""/api/v1/tracking: positions, read and posted.

A position is stored once for ever: its id follows from collar, time and place. So there is no PUT and no DELETE; a
wrong position is excluded by hand and stays visible, and can be reinstated.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated

import msgspec
from litestar import Controller, Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter

from shared.api.body import BulkBody, JsonBody
from shared.api.errors import documented
from shared.api.filters import Exactly
from shared.api.inject import ClockGiven, StoreGiven, ViewGiven
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.api.references import named_animal
from shared.api.spans import SPAN, SpanGiven, box
from shared.clock import Clock
from shared.domain import Animal, Fix, NewFix
from shared.errors import Invalid, RequestError
from shared.privacy import View
from shared.store import FixQuery, Store
from shared.wire.public import ANIMAL_DEVICE, BulkOut, BulkResult, TrackingIn, TrackingOut, collar_id
from shared.wire.reading import read_json

#: How far back ``live`` looks.
LIVE_SPAN = timedelta(hours=1)
#: So many items of an upload are read before other requests get their turn.
READ_SLICE = 200

Search = Annotated[str | None, QueryParameter(description="Text to find in animal name, species or collar id.")]
Usable = Annotated[
    bool | None, QueryParameter(description="true: only what models and maps use; false: only the rest.")
]
Order = Annotated[
    str | None, QueryParameter(name="ordering", description="timestamp or received_at; - for descending.")
]
Box = Annotated[str | None, QueryParameter(name="bbox", description="west,south,east,north in degrees.")]


class Tracking(Controller):
    """Positions of collars and people."""

    path = "/tracking"
    tags = ("tracking",)
    dependencies = {**PAGING, **SPAN}  # noqa: RUF012  # Litestar reads this attribute and never changes it
    return_dto = None

    @get("/", summary="List positions", responses=documented(404))
    async def list_tracking(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        span: SpanGiven,
        animal: Exactly = None,
        animal_id: Exactly = None,
        collar: Annotated[str | None, QueryParameter(name="collar_id", description="Only of this collar.")] = None,
        source: Exactly = None,
        activity_type: Exactly = None,
        search: Search = None,
        bbox: Box = None,
        usable: Usable = None,
        order: Order = None,
    ) -> Paged[TrackingOut]:
        """List positions, newest first unless told otherwise; flagged ones are among them."""
        query = FixQuery(
            animal_id=animal or animal_id or None,
            collar_id=collar or None,
            source=source or None,
            activity_type=activity_type or None,
            search=search or None,
            since=span.since,
            until=span.until,
            bbox=box(bbox),
            is_usable=usable,
            ordering=order or "-timestamp",
            offset=paging.offset,
            limit=paging.limit,
        )
        return paging.of(await store.fixes(view, query), TrackingOut.of)

    @post(
        "/",
        summary="Post a position",
        dto=JsonBody,
        responses={**documented(507), 200: ResponseSpec(TrackingOut, description="It was stored already.")},
    )
    async def create_tracking(
        self, store: StoreGiven, view: ViewGiven, clock: ClockGiven, data: JSONBody[TrackingIn]
    ) -> Response[TrackingOut]:
        """Store a position: 201 with the row where it is new, 200 where it was there already."""
        fix = await _Devices(store, view, clock).fix(data)
        (added,) = await store.add_fixes(view, [fix])
        stored = TrackingOut.of(await store.fix(view, added.id) if view.is_exact else _as_posted(added.id, fix))
        return Response(stored, status_code=201 if added.outcome == "new" else 200)

    @post("/bulk_upload", summary="Post many positions", dto=BulkBody, status_code=200, responses=documented(413, 507))
    async def bulk_upload(
        self, store: StoreGiven, view: ViewGiven, clock: ClockGiven, data: JSONBody[list[msgspec.Raw]]
    ) -> BulkOut:
        """Store up to 10,000 positions and say of each what became of it; a bad one takes no neighbour with it.

        The body is `{"tracking_points": [...]}`, `{"tracking": [...]}` or an array. The same upload may be sent again.
        """
        return await _upload(store, view, clock, data)

    @get("/by_animal", summary="List the positions of one animal", responses=documented(404))
    async def by_animal(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        span: SpanGiven,
        animal: Annotated[str | None, QueryParameter(description="The same as animal_id.")] = None,
        animal_id: Annotated[str | None, QueryParameter(description="The animal; it must exist.")] = None,
        usable: Usable = None,
        order: Order = None,
    ) -> Paged[TrackingOut]:
        """List the positions of one animal, newest first unless told otherwise."""
        wanted = animal_id or animal
        if not wanted:
            raise Invalid("animal_id: is required")
        found = await store.animal(view, wanted)
        query = FixQuery(
            animal_id=found.id,
            since=span.since,
            until=span.until,
            is_usable=usable,
            ordering=order or "-timestamp",
            offset=paging.offset,
            limit=paging.limit,
        )
        return paging.of(await store.fixes(view, query), TrackingOut.of)

    @get("/live", summary="The newest position of each animal", responses=documented())
    async def live(self, store: StoreGiven, view: ViewGiven, clock: ClockGiven) -> list[TrackingOut]:
        """Return the newest usable position of each active animal, where it is of the last hour."""
        since = clock.now() - LIVE_SPAN
        return [TrackingOut.of(live.fix) for live in await store.live_animals(view) if live.fix.recorded_at >= since]

    @get("/{fix_id:str}", summary="Read a position", responses=documented(404))
    async def fix(self, store: StoreGiven, view: ViewGiven, fix_id: FromPath[str]) -> TrackingOut:
        """Return one position."""
        return TrackingOut.of(await store.fix(view, fix_id))

    @post("/{fix_id:str}/exclude", summary="Take a position out", status_code=200, responses=documented(404))
    async def exclude(self, store: StoreGiven, view: ViewGiven, fix_id: FromPath[str]) -> TrackingOut:
        """Keep a position out of models and maps; it stays visible."""
        return TrackingOut.of(await store.flag_fix(view, fix_id, is_excluded=True))

    @post("/{fix_id:str}/reinstate", summary="Put a position back", status_code=200, responses=documented(404))
    async def reinstate(self, store: StoreGiven, view: ViewGiven, fix_id: FromPath[str]) -> TrackingOut:
        """Let models and maps use a position whatever the quality rules found."""
        return TrackingOut.of(await store.flag_fix(view, fix_id, is_excluded=False))


def _as_posted(fix_id: str, fix: NewFix) -> Fix:
    """Return a fix as it was posted, for who may not see what is stored of it."""
    given = {name: getattr(fix, name) for name in fix.__struct_fields__ if name in Fix.__struct_fields__}
    return Fix(**{**given, "id": fix_id, "collar_id": fix.device, "raw_recorded_at": fix.recorded_at, "flags": 0})


class _Devices:
    """Finds the device of posted positions; asks the store once for each animal."""

    def __init__(self, store: Store, view: View, clock: Clock) -> None:
        self._store = store
        self._view = view
        self._received_at = clock.now()
        self._is_clock_sure = clock.state.is_sure
        self._animals: dict[str, Animal] = {}

    async def fix(self, body: TrackingIn) -> NewFix:
        """Return the fix to store; raises Invalid."""
        reference = body.animal_reference
        animal = await self._animal(reference) if reference else None
        if body.collar_id and body.collar_id.strip():
            device = collar_id("collar_id", body.collar_id)
        elif animal is None:
            raise Invalid("animal: is required where there is no collar_id")
        elif animal.collar_id and body.source != "manual":
            device = animal.collar_id
        else:
            device = ANIMAL_DEVICE + animal.id
        return body.fix(
            device=device,
            animal_id=animal.id if animal else None,
            received_at=self._received_at,
            is_clock_sure=self._is_clock_sure,
        )

    async def _animal(self, animal_id: str) -> Animal:
        if animal_id not in self._animals:
            self._animals[animal_id] = await named_animal(self._store, self._view, animal_id)
        return self._animals[animal_id]


async def _upload(store: Store, view: View, clock: Clock, items: list[msgspec.Raw]) -> BulkOut:
    devices = _Devices(store, view, clock)
    results: list[BulkResult] = []
    fixes: list[NewFix] = []
    accepted: list[BulkResult] = []
    for index, item in enumerate(items):
        if index % READ_SLICE == READ_SLICE - 1:
            await asyncio.sleep(0)
        result = BulkResult(index=index)
        results.append(result)
        try:
            body = read_json(item, TrackingIn)
            result.local_id = body.local_id
            fixes.append(await devices.fix(body))
        except RequestError as error:
            result.errors = [error.detail]
        else:
            accepted.append(result)
    added = await store.add_fixes(view, fixes) if fixes else []
    for result, outcome in zip(accepted, added, strict=True):
        result.id, result.outcome = outcome.id, outcome.outcome
    created = sum(outcome.outcome == "new" for outcome in added)
    return BulkOut(
        received=len(items),
        created=created,
        duplicates=len(added) - created,
        failed=len(items) - len(added),
        results=results,
    )
