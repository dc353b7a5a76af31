"""Spans of time and boxes of space in the queries of lists."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from litestar.di import Dependency, Provide
from litestar.params import QueryParameter, SkipValidationMarker
from msgspec import Struct

from shared.errors import Invalid
from shared.store import BoundingBox
from shared.wire.reading import bound

Start = Annotated[str | None, QueryParameter(description="From this instant on: RFC 3339, or a date (UTC).")]
End = Annotated[str | None, QueryParameter(description="Before this instant; a date means the whole of that day.")]


class Span(Struct, frozen=True):
    """``since`` is inclusive, ``until`` exclusive."""

    since: datetime | None
    until: datetime | None


SpanGiven = Annotated[Span, Dependency(kind="named"), SkipValidationMarker()]


def _span(since: Start = None, until: End = None, start_date: Start = None, end_date: End = None) -> Span:
    start = ("since", since) if since else ("start_date", start_date)
    end = ("until", until) if until else ("end_date", end_date)
    return Span(
        since=bound(start[0], start[1]) if start[1] else None,
        until=bound(end[0], end[1], is_end=True) if end[1] else None,
    )


#: For the ``dependencies`` of a controller with lists in time.
SPAN = {"span": Provide(_span, sync_to_thread=False)}


def box(value: str | None) -> BoundingBox | None:
    """Return the box that ``west,south,east,north`` in degrees names; raises Invalid."""
    if not value:
        return None
    try:
        west, south, east, north = (float(part) for part in value.split(","))
    except ValueError as error:
        raise Invalid("bbox: must be four numbers: west,south,east,north") from error
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise Invalid("bbox: must be west,south,east,north in degrees, with south below north")
    return BoundingBox(west=west, south=south, east=east, north=north)
