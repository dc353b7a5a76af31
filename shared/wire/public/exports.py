"""The body that asks for an export."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.wire.public.fields import Name

ExportFormat = Literal["tidy", "movebank", "gpx", "geojson", "geojson-lines", "kml", "geoparquet"]


class ExportIn(Struct, kw_only=True):
    """What shall leave. ``animals`` are ids or names; what is not named is not asked for."""

    format: ExportFormat = "tidy"
    animals: Annotated[list[Name], Meta(max_length=1_000)] | None = None
    species: Name | None = None
    since: Annotated[str | int, Meta(description="From this instant or day on.")] | None = None
    until: Annotated[str | int, Meta(description="Before this instant, or to the end of this day.")] | None = None
    is_usable_only: bool = False
