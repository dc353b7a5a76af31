"""/api/v1/collars and /api/v1/deployments: the hardware, and who wore it when."""

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
from shared.errors import Conflict, Invalid, NotFound
from shared.privacy import View
from shared.store import Store
from shared.wire.public import (
    CollarIn,
    CollarOut,
    CollarPatch,
    DeploymentIn,
    DeploymentOut,
    DeploymentPatch,
    collar_id,
)

Search = Annotated[str | None, QueryParameter(description="Text to find in id or radio ids.")]


class Collars(Controller):
    """Collars and the radio ids that they answer to."""

    path = "/collars"
    tags = ("collars",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List collars", responses=documented(404))
    async def list_collars(
        self, store: StoreGiven, view: ViewGiven, paging: PagingGiven, search: Search = None
    ) -> Paged[CollarOut]:
        """List collars by id; a collar that was heard but never entered is among them."""
        page = await store.collars(view, search=search or None, offset=paging.offset, limit=paging.limit)
        return paging.of(page, CollarOut.of)

    @post("/", summary="Enter a collar", dto=JsonBody, responses=documented(409))
    async def create_collar(self, store: StoreGiven, view: ViewGiven, data: JSONBody[CollarIn]) -> CollarOut:
        """Enter a collar; what was heard under its radio ids before becomes its own."""
        wanted = collar_id("id", data.id)
        if await _is_known(store, view, wanted):
            raise Conflict(f"id: there is a collar {wanted} already; change it with PUT or PATCH")
        return CollarOut.of(await store.put_collar(view, wanted, data.columns()))

    @get("/{collar:str}", summary="Read a collar", responses=documented(404))
    async def collar(self, store: StoreGiven, view: ViewGiven, collar: FromPath[str]) -> CollarOut:
        """Return one collar."""
        return CollarOut.of(await store.collar(view, collar))

    @put("/{collar:str}", summary="Enter or change a collar", dto=JsonBody, responses=documented(409))
    async def put_collar(
        self, store: StoreGiven, view: ViewGiven, collar: FromPath[str], data: JSONBody[CollarPatch]
    ) -> CollarOut:
        """Enter the collar, or change what the body names."""
        return CollarOut.of(await store.put_collar(view, collar_id("id", collar), data.columns()))

    @patch("/{collar:str}", summary="Change a collar", dto=JsonBody, responses=documented(404, 409))
    async def patch_collar(
        self, store: StoreGiven, view: ViewGiven, collar: FromPath[str], data: JSONBody[CollarPatch]
    ) -> CollarOut:
        """Change what the body names."""
        known = await store.collar(view, collar)
        return CollarOut.of(await store.put_collar(view, known.id, data.columns()))

    @delete("/{collar:str}", summary="Delete a collar", responses=documented(404, 409))
    async def delete_collar(self, store: StoreGiven, view: ViewGiven, collar: FromPath[str]) -> None:
        """Delete a collar that has no positions and is not worn."""
        await store.delete_collar(view, collar)


async def _is_known(store: Store, view: View, wanted: str) -> bool:
    try:
        await store.collar(view, wanted)
    except NotFound:
        return False
    return True


class Deployments(Controller):
    """Which animal wore which collar, from when to when."""

    path = "/deployments"
    tags = ("deployments",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List deployments", responses=documented(404))
    async def list_deployments(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        animal: Exactly = None,
        animal_id: Exactly = None,
        collar: Annotated[str | None, QueryParameter(name="collar_id", description="Only of this collar.")] = None,
    ) -> Paged[DeploymentOut]:
        """List deployments, newest first."""
        page = await store.deployments(
            view,
            animal_id=animal or animal_id or None,
            collar_id=collar or None,
            offset=paging.offset,
            limit=paging.limit,
        )
        return paging.of(page, DeploymentOut.of)

    @post("/", summary="Put a collar on an animal", dto=JsonBody, responses=documented(409))
    async def create_deployment(
        self, store: StoreGiven, view: ViewGiven, data: JSONBody[DeploymentIn]
    ) -> DeploymentOut:
        """Enter a deployment, also one of the past: the positions of that time become the animal's."""
        return DeploymentOut.of(await store.create_deployment(view, await _columns(store, view, data)))

    @get("/{deployment_id:str}", summary="Read a deployment", responses=documented(404))
    async def deployment(self, store: StoreGiven, view: ViewGiven, deployment_id: FromPath[str]) -> DeploymentOut:
        """Return one deployment."""
        return DeploymentOut.of(await store.deployment(view, deployment_id))

    @put("/{deployment_id:str}", summary="Rewrite a deployment", dto=JsonBody, responses=documented(404, 409))
    async def put_deployment(
        self, store: StoreGiven, view: ViewGiven, deployment_id: FromPath[str], data: JSONBody[DeploymentIn]
    ) -> DeploymentOut:
        """Change a deployment; animal, collar and start are required, what is left out stays as it is."""
        return DeploymentOut.of(await store.update_deployment(view, deployment_id, await _columns(store, view, data)))

    @patch("/{deployment_id:str}", summary="Change a deployment", dto=JsonBody, responses=documented(404, 409))
    async def patch_deployment(
        self, store: StoreGiven, view: ViewGiven, deployment_id: FromPath[str], data: JSONBody[DeploymentPatch]
    ) -> DeploymentOut:
        """Change what the body names; the positions of the collar are given to whoever wore it then."""
        return DeploymentOut.of(await store.update_deployment(view, deployment_id, await _columns(store, view, data)))

    @delete("/{deployment_id:str}", summary="Delete a deployment", responses=documented(404))
    async def delete_deployment(self, store: StoreGiven, view: ViewGiven, deployment_id: FromPath[str]) -> None:
        """Delete a deployment; its positions go back to the collar alone."""
        await store.delete_deployment(view, deployment_id)


async def _columns(store: Store, view: View, body: DeploymentPatch) -> dict[str, Any]:
    """Return the columns to store, once the animal that the body names is known; raises Invalid."""
    columns = body.columns()
    if animal_id := columns.get("animal_id"):
        await named_animal(store, view, animal_id)
    started_at, ended_at = columns.get("started_at"), columns.get("ended_at")
    if started_at and ended_at and ended_at <= started_at:
        raise Invalid("ended_at: must be after started_at")
    return columns
