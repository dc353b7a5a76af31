"""/api/v1/conflict-zones: areas with a risk, drawn by hand or imported as GeoJSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from litestar import Controller, Response, delete, get, patch, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Reference, Schema
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.typing import FieldDefinition
from msgspec.structs import replace

from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.inject import StoreGiven, ViewGiven
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.domain import Zone
from shared.errors import RequestError
from shared.privacy import View
from shared.store import Store, ZoneQuery
from shared.wire.public import (
    Area,
    BulkOut,
    BulkResult,
    FeatureCollectionIn,
    FeatureIn,
    ZoneCollection,
    ZoneFeature,
    ZoneIn,
    ZoneOut,
    ZonePatch,
    ZoneUpload,
    zone_columns,
    zone_upload,
)
from shared.wire.reading import text

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator

GEOJSON = "application/geo+json"
#: So many zones are read from the store at a time where all of them are wanted.
READ_ZONES = 500

Exactly = Annotated[str | None, QueryParameter(description="Only rows with exactly this value.")]
Active = Annotated[bool | None, QueryParameter(description="true: only active zones; false: only the others.")]
Unsaid = Annotated[
    str | None, QueryParameter(max_length=200, description="What holds for GeoJSON that does not say it itself.")
]


class ZoneBody(JsonBody):
    """Decodes a zone, a Feature, a GeoJSON area or the envelope of a FeatureCollection."""

    def decode_bytes(self, value: bytes) -> ZoneUpload:
        """Return the items, undecoded; raises Invalid or TooLarge."""
        return zone_upload(value)

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,  # noqa: ARG003  # Litestar passes these by name
        handler_id: str,  # noqa: ARG003 - the framework passes it
        schema_creator: SchemaCreator,
    ) -> Reference | Schema:
        """Return the schemas that clients may send."""
        return schema_creator.for_field_definition(
            FieldDefinition.from_annotation(ZoneIn | FeatureIn | FeatureCollectionIn | Area)
        )


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
        data: JSONBody[ZoneUpload],
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


async def _import(store: Store, view: View, upload: ZoneUpload, unsaid: dict[str, Any]) -> BulkOut:
    known = {_looks(zone): zone.id for zone in await _all_zones(store, view, ZoneQuery())}
    results = []
    for index, item in enumerate(upload.items):
        result = BulkResult(index=index)
        results.append(result)
        try:
            columns = zone_columns(item, unsaid)
            looks = (columns["name"], columns["zone_type"], columns["geometry"])
            result.id, result.outcome = known.get(looks), "duplicate"
            if result.id is None:
                made = await store.create_zone(view, columns)
                known[looks] = result.id = made.id
                result.outcome = "new"
        except RequestError as error:
            result.outcome, result.errors = None, [error.detail]
    created = sum(result.outcome == "new" for result in results)
    failed = sum(result.outcome is None for result in results)
    return BulkOut(
        received=len(results),
        created=created,
        duplicates=len(results) - created - failed,
        failed=failed,
        results=results,
    )


def _looks(zone: Zone) -> tuple[str, str, str]:
    return zone.name, zone.zone_type, Area.of(zone.geometry).geometry()


async def _all_zones(store: Store, view: View, query: ZoneQuery) -> list[Zone]:
    """Return every zone that ``query`` finds; one that is entered meanwhile comes last."""
    zones: list[Zone] = []
    while True:
        part = replace(query, ordering="created_at", offset=len(zones), limit=READ_ZONES)
        page = await store.zones(view, part)
        zones += page.results
        if len(page.results) < READ_ZONES:
            return zones
