"""GeoJSON (RFC 7946) in bodies: geometries passed on as they came, and many of what is drawn in one upload."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta, Raw, Struct, field

from shared.errors import Invalid, TooLarge
from shared.wire.geojson import AREAS, LINES
from shared.wire.reading import read_json

#: The largest number of Features in one upload.
MAX_FEATURES: Final = 1_000

NOTHING: Final = Raw(b"null")
_GEOJSON: Final = {*AREAS, *LINES, "Feature", "FeatureCollection", "GeometryCollection", "MultiPoint", "Point"}


class Geometry(Struct, frozen=True):
    """A GeoJSON geometry; other members of what a client sends are not kept."""

    type: str
    #: passed on as it came: an area may have tens of thousands of corners, and the store checks each
    coordinates: Annotated[Raw, Meta(description="Of [longitude, latitude] in degrees, WGS 84.")] = field(
        default_factory=lambda: NOTHING
    )

    @classmethod
    def of(cls, geometry: str) -> Self:
        """Return a stored geometry as it goes into an answer."""
        return msgspec.json.decode(geometry, type=cls)

    def geometry(self) -> str:
        """Return the text to store; raises Invalid for what is no JSON inside."""
        try:
            return msgspec.json.format(msgspec.json.encode(self), indent=-1).decode()
        except (UnicodeDecodeError, RecursionError) as error:
            raise Invalid("geometry: is no GeoJSON") from error


class Upload(Struct, frozen=True):
    """The items of a body, undecoded, so that a broken one harms only itself."""

    is_collection: bool
    items: list[Raw]


class _Kind(Struct):
    type: Any = None


class _Features(Struct):
    features: list[Raw]


def upload_of(body: bytes) -> Upload:
    """Return what a body holds: one item in any of its forms, or the Features of a collection.

    Raises Invalid, and TooLarge for more than are taken at once.
    """
    if read_json(body, _Kind).type != "FeatureCollection":
        return Upload(is_collection=False, items=[Raw(body)])
    features = read_json(body, _Features).features
    if len(features) > MAX_FEATURES:
        raise TooLarge(f"features: must have at most {MAX_FEATURES} items; send the rest in another request")
    return Upload(is_collection=True, items=features)


def geojson_kind(item: Raw) -> str | None:
    """Return the kind of GeoJSON that an item is, None for a plain body; raises Invalid."""
    kind = read_json(item, _Kind).type
    return kind if isinstance(kind, str) and kind in _GEOJSON else None
