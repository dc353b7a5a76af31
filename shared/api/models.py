"""/api/v1/models: which models a home has, which of them serve, and how others come and go."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar import Controller, Response, get, post
from litestar.di import Dependency
from litestar.params import JSONBody, QueryParameter, SkipValidationMarker

from shared.api.access import CallerGiven
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.shelf import Shelf
from shared.store import Page
from shared.wire.public.models import ActivateIn, ChangeOut, ModelIn, ModelOut, ModelWord, RollBackIn

ShelfGiven: TypeAlias = Annotated[Shelf, Dependency(kind="named"), SkipValidationMarker()]


class ModelFiles(Controller):
    """The models of this home."""

    path = "/models"
    tags = ("models",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List models", responses=documented(404, 503))
    async def list_models(
        self,
        shelf: ShelfGiven,
        paging: PagingGiven,
        model: Annotated[ModelWord | None, QueryParameter(description="Files of this model alone.")] = None,
        species: Annotated[str | None, QueryParameter(max_length=200, description="Those that speak of it.")] = None,
        station: Annotated[
            str | None, QueryParameter(max_length=200, description="`is_active` as this station was told.")
        ] = None,
    ) -> Paged[ModelOut]:
        """List every version of every model file, with its measured figures and whether it serves."""
        found = await shelf.artefacts(model=model, species=species or None, station=station)
        return paging.of(Page(len(found), found[paging.offset : paging.offset + paging.limit]), ModelOut.of)

    @post("/", summary="Bring a model", dto=JsonBody, status_code=201, responses=documented(403, 404, 409, 503))
    async def bring(self, shelf: ShelfGiven, caller: CallerGiven, data: JSONBody[ModelIn]) -> ModelOut:
        """Take a model whose file was brought to `blobs/` before, in parts, as `application/vnd.outpost.model`.

        The manifest must be signed by a key that `models.publishers` names, the file must have its SHA-256 and the
        shape that it says, and the model's own runtime must be able to build itself from it. It serves once it is
        activated. What is no array of numbers is no model: no pickle is ever loaded.
        """
        made = await shelf.bring(
            data.manifest, key=data.key, signature=data.signature, user_id=caller.principal.user_id
        )
        return ModelOut.of(made)

    @post(
        "/activate",
        summary="Let a version serve",
        dto=JsonBody,
        status_code=200,
        responses=documented(403, 404, 409, 503),
    )
    async def activate(
        self, shelf: ShelfGiven, caller: CallerGiven, data: JSONBody[ActivateIn]
    ) -> Response[list[ChangeOut]]:
        """Choose a version, everywhere or at one station; stations take it with their next exchange.

        A version that `models.forced` names serves whatever is chosen.
        """
        made = await shelf.activate(data.model, data.version, data.name, data.station, caller.principal.user_id)
        return Response([ChangeOut.of(each) for each in made])

    @post(
        "/roll_back",
        summary="Take a choice back",
        dto=JsonBody,
        status_code=200,
        responses=documented(403, 404, 409, 503),
    )
    async def roll_back(
        self, shelf: ShelfGiven, caller: CallerGiven, data: JSONBody[RollBackIn]
    ) -> Response[list[ChangeOut]]:
        """Let the version serve that served before the last choice; 409 where nothing was chosen."""
        made = await shelf.roll_back(data.model, data.name, data.station, caller.principal.user_id)
        return Response([ChangeOut.of(each) for each in made])
