"""Corridors in public form: as rows of a list, and as GeoJSON (RFC 7946) both ways.

The original has two points and a path; here a path is the one line of a ``geometry``, which may be more: many lines, or
areas. Its paths are lists of [latitude, longitude], the other way round than in GeoJSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from shared.domain import Corridor, CorridorStatus
from shared.errors import Invalid
from shared.wire.geojson import AREAS, LINES, MAX_CORNERS
from shared.wire.public.features import MAX_FEATURES, NOTHING, Geometry, geojson_kind
from shared.wire.public.fields import Latitude, Longitude, Name, Notes, given
from shared.wire.reading import optional_text, read_json, text

Score: TypeAlias = Annotated[float, Meta(ge=-1e15, le=1e15)]
#: [latitude, longitude], as the original's clients read it.
Pair: TypeAlias = tuple[Latitude, Longitude]

_NEEDED = ("name",)
_ENDS = ("start", "end")
_AXES = ("lon", "lat")
#: What a corridor has unless told otherwise, which is what null goes back to.
_DEFAULTS: Mapping[str, Any] = {"status": "planned", "width_m": 2_000.0}


class Point(Struct, frozen=True):
    """A place in degrees, WGS 84."""

    lat: Latitude
    lon: Longitude


class Route(Geometry, frozen=True):
    """GeoJSON lines or areas; other members of what a client sends are not kept."""

    type: Annotated[str, Meta(description="LineString, MultiLineString, Polygon or MultiPolygon.")]


class CorridorProperties(Struct, frozen=True, kw_only=True):
    """What a Feature says of its corridor beside id and geometry."""

    name: str
    description: str
    species: str | None
    status: CorridorStatus
    start_point: Point | None
    end_point: Point | None
    optimization_score: float | None
    optimization_data: Annotated[
        Raw, Meta(description="What the optimisation said, as JSON; null where there was none.")
    ]
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    width_m: float
    rev: int


class CorridorOut(Struct, frozen=True, kw_only=True):
    """A route to keep open; of one line the ends are its points where no others were given."""

    id: str
    name: str
    description: str
    species: str | None
    status: CorridorStatus
    start_point: Point | None
    end_point: Point | None
    path: Annotated[list[Pair] | None, Meta(description="[latitude, longitude] along one line; null of others.")]
    optimization_score: float | None
    optimization_data: Annotated[
        Raw, Meta(description="What the optimisation said, as JSON; null where there was none.")
    ]
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    geometry: Route | None
    width_m: Annotated[float, Meta(description="Of a line, from edge to edge; an area has 0.")]
    rev: int

    @classmethod
    def of(cls, corridor: Corridor) -> CorridorOut:
        """Return the public form of ``corridor``."""
        return cls(
            id=corridor.id, path=_path(corridor.geometry), geometry=_geometry(corridor), **_properties(corridor)
        )  # fmt: skip


class CorridorFeature(Struct, frozen=True, kw_only=True):
    """A corridor as a GeoJSON Feature; a plan has no geometry."""

    type: Literal["Feature"] = "Feature"
    id: str
    geometry: Route | None
    properties: CorridorProperties

    @classmethod
    def of(cls, corridor: Corridor) -> CorridorFeature:
        """Return ``corridor`` as a Feature."""
        properties = CorridorProperties(**_properties(corridor))
        return cls(id=corridor.id, geometry=_geometry(corridor), properties=properties)


class CorridorCollection(Struct, frozen=True, kw_only=True):
    """Corridors as a GeoJSON FeatureCollection."""

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: list[CorridorFeature]


class CorridorWords(Struct, kw_only=True):
    """What a client may say of a corridor beside its geometry; the properties of a Feature that is imported."""

    name: Name | UnsetType = UNSET
    description: Notes | UnsetType | None = UNSET
    species: Name | UnsetType | None = UNSET
    status: CorridorStatus | UnsetType | None = UNSET
    start_point: Point | UnsetType | None = UNSET
    end_point: Point | UnsetType | None = UNSET
    optimization_score: Score | UnsetType | None = UNSET
    optimization_data: dict[str, Any] | list[Any] | UnsetType | None = UNSET
    width_m: Annotated[float, Meta(ge=0, le=100_000)] | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns = given(self, "optimization_score")
        if isinstance(self.name, str):
            columns["name"] = text("name", self.name)
        if self.description is not UNSET:
            columns["description"] = optional_text("description", self.description) or ""
        if self.species is not UNSET:
            columns["species"] = optional_text("species", self.species)
        for name, default in _DEFAULTS.items():
            if (value := getattr(self, name)) is not UNSET:
                columns[name] = default if value is None else value
        for end in _ENDS:
            if (point := getattr(self, f"{end}_point")) is not UNSET:
                columns |= {f"{end}_{axis}_deg": point and getattr(point, axis) for axis in _AXES}
        if self.optimization_data is not UNSET:
            columns["optimization_data"] = _json("optimization_data", self.optimization_data)
        return columns


class CorridorPatch(CorridorWords, kw_only=True):
    """Changes to a corridor; what is not named stays."""

    geometry: Route | UnsetType | None = UNSET
    path: (
        Annotated[
            list[Point | Pair],
            Meta(
                max_length=MAX_CORNERS, description="In the place of geometry: {lat, lon} or [lat, lon] along a line."
            ),
        ]
        | UnsetType
        | None
    ) = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store; raises Invalid."""
        columns = super().columns()
        if not isinstance(self.geometry, UnsetType):
            columns["geometry"] = None if self.geometry is None else self.geometry.geometry()
        if not isinstance(self.path, UnsetType):
            if not columns.get("geometry"):
                columns["geometry"] = _line(self.path) if self.path else None
            elif self.path and _pairs(self.path) != _path(columns["geometry"]):
                raise Invalid("path: is another line than geometry; give one of the two")
        return _without_width(columns)


class CorridorIn(CorridorPatch, kw_only=True):
    """A new corridor, or all that a person may say of one: a geometry, a path, or two points."""

    name: Name


class CorridorFeatureIn(Struct, kw_only=True):
    """A drawn or exported corridor; other properties than these are ignored."""

    type: Literal["Feature"]
    geometry: Route | None
    properties: CorridorWords | None = None


class CorridorCollectionIn(Struct, kw_only=True):
    """Many drawn or exported corridors."""

    type: Literal["FeatureCollection"]
    features: Annotated[list[CorridorFeatureIn], Meta(max_length=MAX_FEATURES)]


class _Feature(Struct):
    geometry: Route | None
    properties: Raw = field(default_factory=lambda: NOTHING)  # read on their own, so that a refusal names the field


class _Corners(Struct):
    type: str
    coordinates: list[Any]


def corridor_columns(item: Raw, unsaid: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a new corridor that comes as a plain body, as a Feature or as a bare GeoJSON geometry.

    ``unsaid`` are the columns of what GeoJSON does not say of itself. Raises Invalid.
    """
    kind = geojson_kind(item)
    if kind is None:
        return read_json(item, CorridorIn).columns()
    if kind == "Feature":
        feature = read_json(item, _Feature)
        columns = read_json(feature.properties, CorridorWords).columns() if feature.properties != NOTHING else {}
        columns["geometry"] = None if feature.geometry is None else feature.geometry.geometry()
    elif kind in LINES or kind in AREAS:
        columns = {"geometry": read_json(item, Route).geometry()}
    else:
        raise Invalid("geometry: must be a GeoJSON LineString, MultiLineString, Polygon or MultiPolygon")
    columns = {**unsaid, **columns}
    for column in _NEEDED:
        if column not in columns:
            raise Invalid(f"{column}: is required")
    return _without_width(columns)


def _without_width(columns: dict[str, Any]) -> dict[str, Any]:
    """Leave out the 0 that an area is shown with: it says nothing of the line that may come in its place."""
    geometry = columns.get("geometry")
    if geometry and not columns.get("width_m", True) and Route.of(geometry).type in AREAS:
        del columns["width_m"]
    return columns


def _properties(corridor: Corridor) -> dict[str, Any]:
    points = {f"{end}_point": _point(corridor, end) for end in _ENDS}
    if None in points.values() and (path := _path(corridor.geometry)):
        ends = {"start_point": Point(*path[0]), "end_point": Point(*path[-1])}
        points = {name: point or ends[name] for name, point in points.items()}
    return {
        "name": corridor.name, "description": corridor.description, "species": corridor.species,
        "status": corridor.status, **points, "optimization_score": corridor.optimization_score,
        "optimization_data": Raw((corridor.optimization_data or "null").encode()),
        "created_at": corridor.created_at, "updated_at": corridor.updated_at, "created_by": corridor.created_by,
        "width_m": corridor.width_m, "rev": corridor.rev,
    }  # fmt: skip


def _point(corridor: Corridor, end: str) -> Point | None:
    lon_deg, lat_deg = (getattr(corridor, f"{end}_{axis}_deg") for axis in _AXES)
    return None if lon_deg is None or lat_deg is None else Point(lat_deg, lon_deg)


def _geometry(corridor: Corridor) -> Route | None:
    return None if corridor.geometry is None else Route.of(corridor.geometry)


def _path(geometry: str | None) -> list[Pair] | None:
    """Return the corners of one line as the original has them; None for any other geometry."""
    if geometry is None or Route.of(geometry).type != "LineString":
        return None
    try:
        corners = msgspec.json.decode(geometry, type=_Corners).coordinates
        return [(float(lat), float(lon)) for lon, lat, *_ in corners]
    except (msgspec.DecodeError, UnicodeError, RecursionError, ArithmeticError, TypeError, ValueError):
        return None  # not looked at yet: what is wrong with it the store will say


def _pairs(path: list[Point | Pair]) -> list[Pair]:
    return [(point.lat, point.lon) if isinstance(point, Point) else point for point in path]


def _line(path: list[Point | Pair]) -> str:
    shape = {"type": "LineString", "coordinates": [[lon, lat] for lat, lon in _pairs(path)]}
    return msgspec.json.encode(shape).decode()


def _json(name: str, value: Any) -> str | None:
    if value is None:
        return None
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError as error:
        raise Invalid(f"{name}: is nested too deeply") from error
