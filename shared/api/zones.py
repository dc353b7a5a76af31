"""/api/v1/conflict-zones: areas with a risk, drawn by hand or imported as GeoJSON."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Annotated, Any

from litestar import Controller, Response, delete, get, patch, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec.structs import replace

from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.features import GEOJSON, READ_ROWS, FeatureBody, Unsaid, every, import_features
from shared.api.filters import Exactly
from shared.api.inject import StoreGiven, ViewGiven
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.domain import Zone
from shared.privacy import View
from shared.store import Store, ZoneQuery
from shared.wire.public import (
    Area,
    BulkOut,
    FeatureCollectionIn,
    FeatureIn,
    Upload,
    ZoneCollection,
    ZoneFeature,
    ZoneIn,
    ZoneOut,
    ZonePatch,
    zone_columns,
)
from shared.wire.reading import text

Active = Annotated[bool | None, QueryParameter(description="true: only active zones; false: only the others.")]


class ZoneBody(FeatureBody):
    """Decodes a zone, a Feature, a GeoJSON area or the envelope of a FeatureCollection."""

    shapes = ZoneIn | FeatureIn | FeatureCollectionIn | Area


class Zones(Controller):
    """Farms, settlements, roads and other areas where animals and people meet."""

    path = "/conflict-zones"
    tags = ("zones",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List zones", responses=documented(404))
    async def list_zones(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        zone_type: Exactly = None,
        risk_level: Exactly = None,
        is_active: Active = None,
        order: Annotated[
            str | None, QueryParameter(name="ordering", description="created_at or name; - for descending.")
        ] = None,
    ) -> Paged[ZoneOut]:
        """List zones, newest first unless told otherwise."""
        query = ZoneQuery(
            zone_type=zone_type or None,
            risk_level=risk_level or None,
            is_active=is_active,
            ordering=order or "-created_at",
            offset=paging.offset,
            limit=paging.limit,
        )
        return paging.of(await store.zones(view, query), ZoneOut.of)

    @post(
        "/",
        summary="Enter or import zones",
        dto=ZoneBody,
        responses={
            **documented(413),
            200: ResponseSpec(BulkOut, generate_examples=False, description="What became of each Feature."),
            201: ResponseSpec(ZoneOut, generate_examples=False, description="The zone that was entered."),
        },
    )
    async def create_zone(
        self,
        store: StoreGiven,
        view: ViewGiven,
        data: JSONBody[Upload],
        name: Unsaid = None,
        zone_type: Unsaid = None,
        risk_level: Unsaid = None,
    ) -> Response[Any]:
        """Enter a zone: as a body of its fields, as a GeoJSON Feature with them as properties, or as a bare area.

        A FeatureCollection of up to 1,000 Features imports many and answers 200 with what became of each; a bad one
        takes no neighbour with it, and one that is there already, of the same name, type and geometry, is not entered
        again. What GeoJSON does not say of itself (name, zone_type, risk_level) may stand in the query.
        """
        words = {"name": text("name", name) if name else None, "zone_type": zone_type, "risk_level": risk_level}
        unsaid = {column: value for column, value in words.items() if value}
        if data.is_collection:
            return Response(await _import(store, view, data, unsaid), status_code=200)
        (item,) = data.items
        return Response(ZoneOut.of(await store.create_zone(view, zone_columns(item, unsaid))), status_code=201)

    @get("/geojson", summary="Zones as GeoJSON", media_type=GEOJSON, responses=documented())
    async def geojson(
        self,
        store: StoreGiven,
        view: ViewGiven,
        zone_type: Exactly = None,
        risk_level: Exactly = None,
        is_active: Active = None,
    ) -> Response[ZoneCollection]:
        """Return all zones, oldest first, as a FeatureCollection that maps and GIS programs read."""
        query = ZoneQuery(zone_type=zone_type or None, risk_level=risk_level or None, is_active=is_active)
        features = [ZoneFeature.of(zone) for zone in await _all_zones(store, view, query)]
        return Response(ZoneCollection(features=features), media_type=GEOJSON)

    @get("/{zone_id:str}", summary="Read a zone", responses=documented(404))
    async def zone(self, store: StoreGiven, view: ViewGiven, zone_id: FromPath[str]) -> ZoneOut:
        """Return one zone."""
        return ZoneOut.of(await store.zone(view, zone_id))

    @put("/{zone_id:str}", summary="Rewrite a zone", dto=JsonBody, responses=documented(404))
    async def put_zone(
        self, store: StoreGiven, view: ViewGiven, zone_id: FromPath[str], data: JSONBody[ZoneIn]
    ) -> ZoneOut:
        """Change a zone; name, type and geometry are required, other fields that are left out stay as they are."""
        return ZoneOut.of(await store.update_zone(view, zone_id, data.columns()))

    @patch("/{zone_id:str}", summary="Change a zone", dto=JsonBody, responses=documented(404))
    async def patch_zone(
        self, store: StoreGiven, view: ViewGiven, zone_id: FromPath[str], data: JSONBody[ZonePatch]
    ) -> ZoneOut:
        """Change what the body names."""
        return ZoneOut.of(await store.update_zone(view, zone_id, data.columns()))

    @delete("/{zone_id:str}", summary="Delete a zone", responses=documented(404))
    async def delete_zone(self, store: StoreGiven, view: ViewGiven, zone_id: FromPath[str]) -> None:
        """Delete a zone; alerts that name it stay."""
        await store.delete_zone(view, zone_id)


async def _import(store: Store, view: View, upload: Upload, unsaid: dict[str, Any]) -> BulkOut:
    known: dict[Hashable, str] = {
        (zone.name, zone.zone_type, Area.of(zone.geometry).geometry()): zone.id
        for zone in await _all_zones(store, view, ZoneQuery())
    }

    def looks(columns: Mapping[str, Any]) -> tuple[str, str, str]:
        return columns["name"], columns["zone_type"], columns["geometry"]

    return await import_features(
        upload,
        lambda item: zone_columns(item, unsaid),
        known,
        looks,
        lambda columns: store.create_zone(view, columns),
    )


async def _all_zones(store: Store, view: View, query: ZoneQuery) -> list[Zone]:
    """Return every zone that ``query`` finds; one that is entered meanwhile comes last."""
    return await every(
        lambda offset: store.zones(view, replace(query, ordering="created_at", offset=offset, limit=READ_ROWS))
    )
