"""Fields that bodies of several kinds share."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from shared.errors import Invalid
from shared.wire.reading import text

#: What stands before an animal's id in the device of a position that no collar made.
ANIMAL_DEVICE = "animal:"
#: What devices begin with where the store is told what kind of name they are.
RESERVED = (ANIMAL_DEVICE, "collar:")

Latitude = Annotated[float, Meta(ge=-90, le=90, description="Degrees north, WGS 84.")]
Longitude = Annotated[float, Meta(ge=-180, le=180, description="Degrees east, WGS 84.")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Notes = Annotated[str, Meta(max_length=10_000)]
Reference = Annotated[str, Meta(max_length=64)]
When = Annotated[str | int | float, Meta(description="RFC 3339 with a time zone, or milliseconds since 1970.")]

_COLLAR_ID = re.compile(r"^[^/\s]{1,64}$")


def collar_id(field: str, value: str) -> str:
    """Return a collar id as it is stored; raises Invalid for one that could not stand in a path."""
    stripped = text(field, value)
    if not _COLLAR_ID.match(stripped):
        raise Invalid(f"{field}: must have 1 to 64 characters without spaces and slashes")
    if stripped.startswith(RESERVED):
        raise Invalid(f"{field}: must not begin with {' or '.join(RESERVED)}")
    return stripped


def given(body: msgspec.Struct, *fields: str) -> dict[str, Any]:
    """Return those of ``fields`` that the client named."""
    return {field: value for field in fields if (value := getattr(body, field)) is not UNSET}
