"""/api/v1/corridors: routes to keep open, drawn by hand or imported as GeoJSON."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Annotated, Any

from litestar import Controller, Response, delete, get, patch, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec.structs import asdict, replace

from shared.accounts.audit import Entry
from shared.accounts.service import Accounts, Caller
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.features import GEOJSON, READ_ROWS, FeatureBody, Unsaid, every, import_features
from shared.api.filters import Exactly
from shared.api.inject import StoreGiven, ViewGiven
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.domain import Corridor
from shared.errors import Conflict
from shared.privacy import View
from shared.store import CorridorQuery, Store
from shared.wire.public import (
    BulkOut,
    CorridorCollection,
    CorridorCollectionIn,
    CorridorFeature,
    CorridorFeatureIn,
    CorridorIn,
    CorridorOut,
    CorridorPatch,
    Route,
    Upload,
    corridor_columns,
)
from shared.wire.reading import text

Search = Annotated[str | None, QueryParameter(description="Looks in name and description.")]

_PLACES = ("start_lon_deg", "start_lat_deg", "end_lon_deg", "end_lat_deg")


class CorridorBody(FeatureBody):
    """Decodes a corridor, a Feature, a GeoJSON line or area, or the envelope of a FeatureCollection."""

    shapes = CorridorIn | CorridorFeatureIn | CorridorCollectionIn | Route


class Corridors(Controller):
    """Routes between habitats that animals need and people should leave open."""

    path = "/corridors"
    tags = ("corridors",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List corridors", responses=documented(404))
    async def list_corridors(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        species: Exactly = None,
        status: Exactly = None,
        search: Search = None,
        order: Annotated[
            str | None, QueryParameter(name="ordering", description="created_at or name; - for descending.")
        ] = None,
    ) -> Paged[CorridorOut]:
        """List corridors, newest first unless told otherwise."""
        query = CorridorQuery(
            species=species or None,
            status=status or None,
            search=search or None,
            ordering=order or "-created_at",
            offset=paging.offset,
            limit=paging.limit,
        )
        return paging.of(await store.corridors(view, query), CorridorOut.of)

    @post(
        "/",
        summary="Enter or import corridors",
        dto=CorridorBody,
        responses={
            **documented(413),
            200: ResponseSpec(BulkOut, generate_examples=False, description="What became of each Feature."),
            201: ResponseSpec(CorridorOut, generate_examples=False, description="The corridor that was entered."),
        },
    )
    async def create_corridor(
        self,
        store: StoreGiven,
        view: ViewGiven,
        accounts: AccountsGiven,
        caller: CallerGiven,
        data: JSONBody[Upload],
        name: Unsaid = None,
        species: Unsaid = None,
        status: Unsaid = None,
    ) -> Response[Any]:
        """Enter a corridor: as a body of its fields, as a GeoJSON Feature with them as properties, or as bare lines.

        Where it runs is a geometry (lines with a width, or areas), a path along one line, or as a plan two points. A
        FeatureCollection of up to 1,000 Features imports many and answers 200 with what became of each; a bad one
        takes no neighbour with it, and one that is there already, of the same name, species and geometry, is not
        entered again. What GeoJSON does not say of itself (name, species, status) may stand in the query. Status
        `active` publishes at once, which asks for a second factor as `publish/` does.
        """
        words = {"name": text("name", name) if name else None, "species": species, "status": status}
        unsaid = {column: value for column, value in words.items() if value}
        if data.is_collection:
            return Response(await _import(store, view, accounts, caller, data, unsaid), status_code=200)
        (item,) = data.items
        made = await _create(store, view, accounts, caller, corridor_columns(item, unsaid))
        return Response(CorridorOut.of(made), status_code=201)

    @get("/geojson", summary="Corridors as GeoJSON", media_type=GEOJSON, responses=documented())
    async def geojson(
        self,
        store: StoreGiven,
        view: ViewGiven,
        species: Exactly = None,
        status: Exactly = None,
        search: Search = None,
    ) -> Response[CorridorCollection]:
        """Return all corridors, oldest first, as a FeatureCollection that maps and GIS programs read."""
        query = CorridorQuery(species=species or None, status=status or None, search=search or None)
        features = [CorridorFeature.of(corridor) for corridor in await _all_corridors(store, view, query)]
        return Response(CorridorCollection(features=features), media_type=GEOJSON)

    @get("/{corridor_id:str}", summary="Read a corridor", responses=documented(404))
    async def corridor(self, store: StoreGiven, view: ViewGiven, corridor_id: FromPath[str]) -> CorridorOut:
        """Return one corridor."""
        return CorridorOut.of(await store.corridor(view, corridor_id))

    @put("/{corridor_id:str}", summary="Rewrite a corridor", dto=JsonBody, responses=documented(404))
    async def put_corridor(
        self,
        store: StoreGiven,
        view: ViewGiven,
        accounts: AccountsGiven,
        caller: CallerGiven,
        corridor_id: FromPath[str],
        data: JSONBody[CorridorIn],
    ) -> CorridorOut:
        """Change a corridor; its name is required, other fields that are left out stay as they are.

        Status `active` publishes one that was not, and asks for a second factor as `publish/` does.
        """
        return await _change(store, view, accounts, caller, corridor_id, data.columns())

    @patch("/{corridor_id:str}", summary="Change a corridor", dto=JsonBody, responses=documented(404))
    async def patch_corridor(
        self,
        store: StoreGiven,
        view: ViewGiven,
        accounts: AccountsGiven,
        caller: CallerGiven,
        corridor_id: FromPath[str],
        data: JSONBody[CorridorPatch],
    ) -> CorridorOut:
        """Change what the body names; status `active` asks for a second factor as `publish/` does."""
        return await _change(store, view, accounts, caller, corridor_id, data.columns())

    @post(
        "/{corridor_id:str}/publish", summary="Publish a corridor", status_code=200, responses=documented(403, 404, 409)
    )
    async def publish(
        self, store: StoreGiven, view: ViewGiven, accounts: AccountsGiven, caller: CallerGiven,
        corridor_id: FromPath[str],
    ) -> CorridorOut:  # fmt: skip
        """Make a corridor active: stations watch who leaves it from their next exchange on.

        Asks for a second factor of the last five minutes; 409 for a plan that no line has been found for yet.
        """
        if (await store.corridor(view, corridor_id)).geometry is None:
            raise Conflict("this corridor is a plan between two places: search or draw its line first")
        return await _change(store, view, accounts, caller, corridor_id, {"status": "active"})

    @delete("/{corridor_id:str}", summary="Delete a corridor", responses=documented(404))
    async def delete_corridor(self, store: StoreGiven, view: ViewGiven, corridor_id: FromPath[str]) -> None:
        """Delete a corridor."""
        await store.delete_corridor(view, corridor_id)


async def _change(
    store: Store, view: View, accounts: Accounts, caller: Caller, corridor_id: str, columns: dict[str, Any]
) -> CorridorOut:
    """Change a corridor; raises FactorRequired where that publishes it and no fresh factor was shown."""
    publishes = columns.get("status") == "active" and (await store.corridor(view, corridor_id)).status != "active"
    if publishes:
        accounts.require_factor(caller)
    changed = await store.update_corridor(view, corridor_id, columns)
    if publishes:
        await _note_published(accounts, view, changed)
    return CorridorOut.of(changed)


async def _create(store: Store, view: View, accounts: Accounts, caller: Caller, columns: dict[str, Any]) -> Corridor:
    """Enter a corridor; raises FactorRequired where that publishes it and no fresh factor was shown."""
    publishes = columns.get("status") == "active"
    if publishes:
        accounts.require_factor(caller)
    made = await store.create_corridor(view, columns)
    if publishes:
        await _note_published(accounts, view, made)
    return made


async def _note_published(accounts: Accounts, view: View, corridor: Corridor) -> None:
    entry = Entry(accounts.moments().ms, view.principal.user_id, "corridor.publish", f"{corridor.id} {corridor.name}")
    await accounts.note([entry])


async def _import(
    store: Store, view: View, accounts: Accounts, caller: Caller, upload: Upload, unsaid: dict[str, Any]
) -> BulkOut:
    known = {
        _looks({**asdict(corridor), "geometry": corridor.geometry and Route.of(corridor.geometry).geometry()}): (
            corridor.id
        )
        for corridor in await _all_corridors(store, view, CorridorQuery())
    }
    return await import_features(
        upload,
        lambda item: corridor_columns(item, unsaid),
        known,
        _looks,
        lambda columns: _create(store, view, accounts, caller, columns),
    )


def _looks(columns: Mapping[str, Any]) -> Hashable:
    """Return by what two corridors are one: a plan has its two points in the place of a geometry."""
    place = columns.get("geometry") or tuple(columns.get(name) for name in _PLACES)
    return columns["name"], columns.get("species"), place


async def _all_corridors(store: Store, view: View, query: CorridorQuery) -> list[Corridor]:
    """Return every corridor that ``query`` finds; one that is entered meanwhile comes last."""
    return await every(
        lambda offset: store.corridors(view, replace(query, ordering="created_at", offset=offset, limit=READ_ROWS))
    )
