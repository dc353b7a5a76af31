"""/api/v1/animals: who is tracked."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody, QueryParameter

from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.filters import Exactly
from shared.api.inject import StoreGiven, ViewGiven
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.store import AnimalQuery
from shared.wire.public import AnimalIn, AnimalOut, AnimalPatch

Search = Annotated[str | None, QueryParameter(description="Text to find in name, species or collar id.")]


class Animals(Controller):
    """Animals."""

    path = "/animals"
    tags = ("animals",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List animals", responses=documented(404))
    async def list_animals(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        species: Exactly = None,
        status: Exactly = None,
        health_status: Exactly = None,
        gender: Exactly = None,
        search: Search = None,
        order: Annotated[
            str | None,
            QueryParameter(
                name="ordering", description="name, species, status, created_at or updated_at; - for descending."
            ),
        ] = None,
    ) -> Paged[AnimalOut]:
        """List animals, newest first unless told otherwise."""
        query = AnimalQuery(
            species=species or None,
            status=status or None,
            health_status=health_status or None,
            gender=gender or None,
            search=search or None,
            ordering=order or "-created_at",
            offset=paging.offset,
            limit=paging.limit,
        )
        return paging.of(await store.animals(view, query), AnimalOut.of)

    @post("/", summary="Enter an animal", dto=JsonBody, responses=documented(409))
    async def create_animal(self, store: StoreGiven, view: ViewGiven, data: JSONBody[AnimalIn]) -> AnimalOut:
        """Enter an animal; a collar that is named with it is worn from now on."""
        columns = {**data.columns(), "created_by": view.principal.user_id}
        return AnimalOut.of(await store.create_animal(view, columns))

    @get("/{animal_id:str}", summary="Read an animal", responses=documented(404))
    async def animal(self, store: StoreGiven, view: ViewGiven, animal_id: FromPath[str]) -> AnimalOut:
        """Return one animal."""
        return AnimalOut.of(await store.animal(view, animal_id))

    @put("/{animal_id:str}", summary="Rewrite an animal", dto=JsonBody, responses=documented(404, 409))
    async def put_animal(
        self, store: StoreGiven, view: ViewGiven, animal_id: FromPath[str], data: JSONBody[AnimalIn]
    ) -> AnimalOut:
        """Change an animal; name and species are required, other fields that are left out stay as they are."""
        return AnimalOut.of(await store.update_animal(view, animal_id, data.columns()))

    @patch("/{animal_id:str}", summary="Change an animal", dto=JsonBody, responses=documented(404, 409))
    async def patch_animal(
        self, store: StoreGiven, view: ViewGiven, animal_id: FromPath[str], data: JSONBody[AnimalPatch]
    ) -> AnimalOut:
        """Change what the body names."""
        return AnimalOut.of(await store.update_animal(view, animal_id, data.columns()))

    @delete("/{animal_id:str}", summary="Delete an animal", responses=documented(404))
    async def delete_animal(self, store: StoreGiven, view: ViewGiven, animal_id: FromPath[str]) -> None:
        """Delete an animal; the positions of its collar stay, under the collar."""
        await store.delete_animal(view, animal_id)
