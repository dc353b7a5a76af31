"""How far a place is from a GeoJSON geometry, edge by edge and without an index: what the double of a store answers."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from shared.movement.areas import Place, lon_scale
from shared.movement.geodesy import step_lengths_m

Line = list[list[float]]


def distance_m(geometry: str, place: Place) -> float:
    """Return the metres from ``place`` to the nearest point of what is drawn, round the world; 0 inside an area."""
    shape = json.loads(geometry)
    return min(_on_a_map_m(shape, Place(place.lon_deg + turn, place.lat_deg)) for turn in (-360.0, 0.0, 360.0))


def _on_a_map_m(shape: dict[str, Any], place: Place) -> float:
    if any(_is_inside(polygon, place) for polygon in _polygons(shape)):
        return 0.0
    scale = lon_scale(place.lat_deg)
    return min(_to_edge_m(line, place, scale) for line in _lines(shape))


def is_area(geometry: str) -> bool:
    """Say whether a geometry has an inside of its own."""
    return bool(json.loads(geometry)["type"].endswith("Polygon"))


def _polygons(shape: dict[str, Any]) -> list[list[Line]]:
    if shape["type"] == "Polygon":
        return [shape["coordinates"]]
    return list(shape["coordinates"]) if shape["type"] == "MultiPolygon" else []


def _lines(shape: dict[str, Any]) -> Iterator[Line]:
    if shape["type"] == "LineString":
        yield shape["coordinates"]
    elif shape["type"] == "MultiLineString":
        yield from shape["coordinates"]
    else:
        for polygon in _polygons(shape):
            yield from polygon


def _is_inside(polygon: list[Line], place: Place) -> bool:
    is_odd = False
    for ring in polygon:
        for (lon1, lat1, *_), (lon2, lat2, *_) in itertools.pairwise(ring):
            crosses = (lat1 > place.lat_deg) != (lat2 > place.lat_deg)
            if crosses and place.lon_deg < lon1 + (place.lat_deg - lat1) / (lat2 - lat1) * (lon2 - lon1):
                is_odd = not is_odd
    return is_odd


def _to_edge_m(line: Line, place: Place, scale: float) -> float:
    best = math.inf
    for (lon1, lat1, *_), (lon2, lat2, *_) in itertools.pairwise(line):
        dx, dy = (lon2 - lon1) * scale, lat2 - lat1
        along = ((place.lon_deg - lon1) * scale * dx + (place.lat_deg - lat1) * dy) / ((dx * dx + dy * dy) or 1.0)
        share = min(1.0, max(0.0, along))
        lon = np.array([place.lon_deg, lon1 + share * (lon2 - lon1)])
        lat = np.array([place.lat_deg, lat1 + share * (lat2 - lat1)])
        best = min(best, float(step_lengths_m(lon, lat)[0]))
    return best
