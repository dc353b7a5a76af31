"""What an animal may walk into: the chance that it is inside a zone or corridor at each horizon of its forecast.

A forecast is two ellipses that hold its place with 50 and 90 %. Between and beyond them the distance from the middle is
taken to follow the one Weibull law that has both radii (a Gaussian is the case of shape 2): with u the share of places
that are nearer, in units of an axis,

    r(u) = a * (-ln(1 - u))^b,    b = ln(r90 / r50) / ln(ln 10 / ln 2),    a = r50 / (ln 2)^b

``POINTS`` places are laid over it, equally likely each, in a sunflower's order: no chance is drawn, so the same
forecast gives the same answer. The chance of a horizon is the share of its points that lie inside. It speaks of that
instant, not of the way there: an animal that crosses a zone between two horizons is in neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from shared.domain import Corridor, Zone
from shared.insight import Ahead, Predicted
from shared.movement.kinds import is_meant

FloatArray = npt.NDArray[np.float64]

POINTS: Final = 128
#: Less than this is not told: it is one point of the sunflower or none.
LEAST: Final = 0.02
_DEGREE_M: Final = 111_195.0
_GOLDEN_RAD: Final = math.pi * (3.0 - math.sqrt(5.0))
_SHARES: Final = (np.arange(POINTS) + 0.5) / POINTS
_ANGLES: Final = np.arange(POINTS) * _GOLDEN_RAD
_COS: Final = np.cos(_ANGLES)
_SIN: Final = np.sin(_ANGLES)
_LOGS: Final = -np.log1p(-_SHARES)
_WEIBULL: Final = math.log(math.log(10.0) / math.log(2.0))


class Shape(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A zone or corridor as points are held against it.

    ``areas`` holds of each polygon its rings, (n, 2) of longitude and latitude; ``lines`` the corners of lines that
    reach ``half_width_m`` to either side. ``box`` is west, south, east, north.
    """

    ahead: Ahead
    species: str | None
    areas: tuple[tuple[FloatArray, ...], ...]
    lines: tuple[FloatArray, ...]
    half_width_m: float
    box: tuple[float, float, float, float]
    #: of a zone: how far around it risk still counts
    buffer_m: float = 0.0


def shape_of(value: Zone | Corridor) -> Shape | None:
    """Return a zone or corridor as a shape; None for a corridor that is a plan of two points."""
    if value.geometry is None:
        return None
    if isinstance(value, Corridor):
        ahead = Ahead(kind="corridor", id=value.id, name=value.name)
        return shape_within(ahead, value.geometry, width_m=value.width_m, species=value.species)
    ahead = Ahead(kind="zone", id=value.id, name=value.name, zone_type=value.zone_type, risk_level=value.risk_level)
    return msgspec.structs.replace(shape_within(ahead, value.geometry), buffer_m=value.buffer_m)


def shape_within(ahead: Ahead, geometry: str, *, width_m: float = 0.0, species: str | None = None) -> Shape:
    """Return the shape of a GeoJSON geometry; of lines ``width_m`` counts, from edge to edge."""
    areas, lines = _parts(msgspec.json.decode(geometry))
    half_width_m = width_m / 2 if lines else 0.0
    corners = np.concatenate([*(ring for rings in areas for ring in rings), *lines])
    north_deg = half_width_m / _DEGREE_M
    east_deg = north_deg / max(0.01, math.cos(math.radians(float(np.abs(corners[:, 1]).max()))))
    west, south = corners.min(axis=0).tolist()
    east, north = corners.max(axis=0).tolist()
    return Shape(
        ahead=ahead,
        species=species,
        areas=areas,
        lines=lines,
        half_width_m=half_width_m,
        box=(west - east_deg, south - north_deg, east + east_deg, north + north_deg),
    )


def aheads(predicted: Sequence[Predicted], shapes: Sequence[Shape], species: str) -> tuple[Ahead, ...]:
    """Return the zones, and the corridors for a species, in which an animal may be, the likeliest first."""
    if not predicted or not shapes:
        return ()
    points = np.stack([spread(each) for each in predicted])
    found = []
    for shape in shapes:
        if shape.ahead.kind == "corridor" and not is_meant(shape.species, species):
            continue
        chances = inside(shape, points.reshape(-1, 2)).reshape(len(predicted), POINTS).mean(axis=1)
        if chances.max() >= LEAST:
            told = tuple(
                (each.horizon_h, round(float(chance), 3)) for each, chance in zip(predicted, chances, strict=True)
            )
            found.append(msgspec.structs.replace(shape.ahead, chances=told))
    return tuple(sorted(found, key=lambda each: (-each.likeliest[1], each.id)))


def spread(predicted: Predicted) -> FloatArray:
    """Return equally likely places of a forecast, (POINTS, 2) of longitude and latitude."""
    inner, outer = max(predicted.semi_major_50_m, 0.1), max(predicted.semi_major_90_m, 0.1)
    power = max(math.log(max(outer / inner, 1.0)), 1e-3) / _WEIBULL
    along_m = inner / math.log(2.0) ** power * _LOGS**power
    flat = predicted.semi_minor_90_m / max(predicted.semi_major_90_m, 0.1)
    forward_m, right_m = along_m * _COS, along_m * _SIN * flat
    bearing = math.radians(predicted.bearing_deg)
    east_m = forward_m * math.sin(bearing) + right_m * math.cos(bearing)
    north_m = forward_m * math.cos(bearing) - right_m * math.sin(bearing)
    shrink = max(0.01, math.cos(math.radians(predicted.lat_deg)))
    lon = predicted.lon_deg + east_m / (_DEGREE_M * shrink)
    return np.stack((lon, predicted.lat_deg + north_m / _DEGREE_M), axis=1)


def inside(shape: Shape, points: FloatArray) -> npt.NDArray[np.bool_]:
    """Say of each point, (n, 2), whether it lies inside; the other side of the date line is looked at too."""
    found = np.zeros(len(points), dtype=np.bool_)
    west, south, east, north = shape.box
    for turn in (0.0, -360.0, 360.0):
        lon = points[:, 0] + turn
        near = (lon >= west) & (lon <= east) & (points[:, 1] >= south) & (points[:, 1] <= north) & ~found
        if near.any():
            moved = np.stack((lon[near], points[near, 1]), axis=1)
            found[near] = _inside_areas(shape.areas, moved) | _by_lines(shape.lines, moved, shape.half_width_m)
    return found


def _inside_areas(areas: Sequence[Sequence[FloatArray]], points: FloatArray) -> npt.NDArray[np.bool_]:
    """By the number of edges that a ray to the east crosses: odd is inside, also of rings with holes."""
    found = np.zeros(len(points), dtype=np.bool_)
    x, y = points[:, 0, None], points[:, 1, None]
    for rings in areas:
        crossed = np.zeros(len(points), dtype=np.int64)
        for ring in rings:
            (x0, y0), (x1, y1) = ring[:-1].T, ring[1:].T
            spans = (y0 > y) != (y1 > y)
            with np.errstate(divide="ignore", invalid="ignore"):
                at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            crossed += (spans & (x < at)).sum(axis=1)
        found |= crossed % 2 == 1
    return found


def _by_lines(lines: Sequence[FloatArray], points: FloatArray, half_width_m: float) -> npt.NDArray[np.bool_]:
    """By the distance to the nearest point of a line, on a plane in which a degree is as long either way."""
    found = np.zeros(len(points), dtype=np.bool_)
    if not lines or half_width_m <= 0:
        return found
    shrink = max(0.01, math.cos(math.radians(float(points[:, 1].mean()))))
    scale = np.array([_DEGREE_M * shrink, _DEGREE_M])
    here = points * scale
    for line in lines:
        corners = line * scale
        begin, way = corners[:-1], np.diff(corners, axis=0)
        square = np.maximum((way**2).sum(axis=1), 1e-9)
        along = np.clip(((here[:, None, :] - begin) * way).sum(axis=2) / square, 0.0, 1.0)
        apart = here[:, None, :] - (begin + along[:, :, None] * way)
        found |= np.hypot(apart[:, :, 0], apart[:, :, 1]).min(axis=1) <= half_width_m
    return found


def _parts(geometry: dict[str, Any]) -> tuple[tuple[tuple[FloatArray, ...], ...], tuple[FloatArray, ...]]:
    """Return the polygons and the lines of a GeoJSON geometry."""
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind == "Polygon":
        return (tuple(_corners(ring) for ring in coordinates),), ()
    if kind == "MultiPolygon":
        return tuple(tuple(_corners(ring) for ring in rings) for rings in coordinates), ()
    if kind == "LineString":
        return (), (_corners(coordinates),)
    return (), tuple(_corners(line) for line in coordinates)


def _corners(line: Sequence[Sequence[float]]) -> FloatArray:
    return np.array([corner[:2] for corner in line], dtype=np.float64)
