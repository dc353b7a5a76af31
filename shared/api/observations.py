"""/api/v1/tracking/observations: what rangers report."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody, QueryParameter

from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.filters import Exactly
from shared.api.inject import StoreGiven, ViewGiven
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.api.references import named_animal
from shared.api.spans import SPAN, SpanGiven
from shared.errors import Forbidden
from shared.privacy import View
from shared.store import ObservationQuery, Store
from shared.wire.public import ObservationIn, ObservationOut, ObservationPatch

Search = Annotated[str | None, QueryParameter(description="Text to find in the description or the name of the animal.")]


class Observations(Controller):
    """Sightings, behaviour, health and environment, as people report them."""

    path = "/tracking/observations"
    tags = ("observations",)
    dependencies = {**PAGING, **SPAN}  # noqa: RUF012  # Litestar reads this attribute and never changes it
    return_dto = None

    @get("/", summary="List observations", responses=documented(404))
    async def list_observations(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        span: SpanGiven,
        animal: Exactly = None,
        animal_id: Exactly = None,
        observation_type: Exactly = None,
        search: Search = None,
        order: Annotated[
            str | None, QueryParameter(name="ordering", description="timestamp or created_at; - for descending.")
        ] = None,
    ) -> Paged[ObservationOut]:
        """List observations, newest first unless told otherwise."""
        query = ObservationQuery(
            animal_id=animal or animal_id or None,
            observation_type=observation_type or None,
            since=span.since,
            until=span.until,
            search=search or None,
            ordering=order or "-timestamp",
            offset=paging.offset,
            limit=paging.limit,
        )
        return paging.of(await store.observations(view, query), ObservationOut.of)

    @post("/", summary="Report an observation", dto=JsonBody, responses=documented())
    async def create_observation(
        self, store: StoreGiven, view: ViewGiven, data: JSONBody[ObservationIn]
    ) -> ObservationOut:
        """Store an observation; without an observer, it is the caller's."""
        columns = await _columns(store, view, data)
        if view.principal.role == "ranger" or not columns.get("observer"):
            columns["observer"] = view.principal.user_id
        return ObservationOut.of(await store.create_observation(view, columns))

    @get("/{observation_id:str}", summary="Read an observation", responses=documented(404))
    async def observation(self, store: StoreGiven, view: ViewGiven, observation_id: FromPath[str]) -> ObservationOut:
        """Return one observation."""
        return ObservationOut.of(await store.observation(view, observation_id))

    @put("/{observation_id:str}", summary="Rewrite an observation", dto=JsonBody, responses=documented(404))
    async def put_observation(
        self, store: StoreGiven, view: ViewGiven, observation_id: FromPath[str], data: JSONBody[ObservationIn]
    ) -> ObservationOut:
        """Change an observation; type and timestamp are required, what is left out stays as it is."""
        await _check_own(store, view, observation_id)
        return ObservationOut.of(
            await store.update_observation(view, observation_id, await _columns(store, view, data))
        )

    @patch("/{observation_id:str}", summary="Change an observation", dto=JsonBody, responses=documented(404))
    async def patch_observation(
        self, store: StoreGiven, view: ViewGiven, observation_id: FromPath[str], data: JSONBody[ObservationPatch]
    ) -> ObservationOut:
        """Change what the body names."""
        await _check_own(store, view, observation_id)
        return ObservationOut.of(
            await store.update_observation(view, observation_id, await _columns(store, view, data))
        )

    @delete("/{observation_id:str}", summary="Delete an observation", responses=documented(404))
    async def delete_observation(self, store: StoreGiven, view: ViewGiven, observation_id: FromPath[str]) -> None:
        """Delete an observation."""
        await _check_own(store, view, observation_id)
        await store.delete_observation(view, observation_id)


async def _check_own(store: Store, view: View, observation_id: str) -> None:
    """Raise Forbidden where a ranger would change what another one reported."""
    if view.principal.role == "ranger":
        found = await store.observation(view, observation_id)
        if found.observer != view.principal.user_id:
            raise Forbidden("rangers change what they reported themselves")


async def _columns(store: Store, view: View, body: ObservationPatch) -> dict[str, Any]:
    """Return the columns to store, once the animal that the body names is known; raises Invalid."""
    columns = body.columns()
    if animal_id := columns.get("animal_id"):
        await named_animal(store, view, animal_id)
    if view.principal.role == "ranger" and "observer" in columns:
        columns["observer"] = view.principal.user_id
    return columns
