"""/api/v1/tiles: fixes as vector tiles, for maps with more of them than a list could bring."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, Response, get
from litestar.di import Dependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, SkipValidationMarker

from cloud.store.store import PostgresStore
from cloud.store.tiles import fixes_tile
from shared.api.errors import documented
from shared.api.inject import ViewGiven
from shared.api.spans import SPAN, SpanGiven

PostgresGiven = Annotated[PostgresStore, Dependency(kind="named"), SkipValidationMarker()]
MVT = "application/vnd.mapbox-vector-tile"


class Tiles(Controller):
    """What a map draws, in tiles of Web Mercator."""

    path = "/api/v1/tiles"
    tags = ("tracking",)
    dependencies = SPAN
    return_dto = None

    @get(
        "/fixes/{z:int}/{x:int}/{tile:str}",
        summary="Positions as a vector tile",
        media_type=MVT,
        responses={
            **documented(404),
            200: ResponseSpec(bytes, description="A Mapbox Vector Tile.", media_type=MVT, generate_examples=False),
        },
    )
    async def fixes(
        self,
        postgres: PostgresGiven,
        view: ViewGiven,
        span: SpanGiven,
        z: FromPath[int],
        x: FromPath[int],
        tile: FromPath[str],
    ) -> Response[bytes]:
        """Return the usable positions in a tile as the caller may see them; ``tile`` is the row, with ``.mvt``."""
        row = tile.removesuffix(".mvt")
        y = int(row) if row.isascii() and row.isdigit() and len(row) < 10 else -1
        async with postgres.database.snapshot() as connection:
            found = await fixes_tile(connection, view, z, x, y, since=span.since, until=span.until)
        return Response(found, media_type=MVT)
