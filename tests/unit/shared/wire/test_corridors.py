"""Corridors between their public and their stored form."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from shared.domain import Corridor
from shared.errors import Invalid
from shared.wire.geojson import check_route
from shared.wire.public import CorridorFeature, CorridorIn, CorridorOut, CorridorPatch, Point, corridor_columns
from shared.wire.reading import read_json
from tests.fakes import START

pytestmark = [pytest.mark.unit, pytest.mark.corridors]

LINE = '{"type":"LineString","coordinates":[[37.0,-2.0],[38.0,-3.0]]}'
AREA = '{"type":"Polygon","coordinates":[[[37.0,-2.0],[38.0,-2.0],[38.0,-3.0],[37.0,-2.0]]]}'
ROUTE = Corridor(id="c1", name="Kitenden", geometry=LINE, created_at=START, updated_at=START)

corners = st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=2, max_size=8, unique=True)


def shown(corridor: Corridor) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(msgspec.json.encode(CorridorOut.of(corridor)))
    return out


@given(line=corners, is_pairs=st.booleans())
def test_any_path_is_a_line_and_comes_back_to_the_last_digit(line: list[tuple[float, float]], is_pairs: bool) -> None:
    path = [[lat, lon] if is_pairs else {"lat": lat, "lon": lon} for lon, lat in line]
    columns = corridor_columns(Raw(json.dumps({"name": "C", "path": path}).encode()), {})
    check_route(columns["geometry"])
    out = shown(replace(ROUTE, geometry=columns["geometry"]))
    assert out["path"] == [[lat, lon] for lon, lat in line]
    assert out["geometry"]["coordinates"] == [list(corner) for corner in line]
    again = read_json(json.dumps(out).encode(), CorridorIn).columns()
    assert json.loads(again["geometry"]) == json.loads(columns["geometry"])  # a number may be written in two ways


def test_of_a_line_alone_the_ends_are_its_points() -> None:
    out = CorridorOut.of(ROUTE)
    assert (out.start_point, out.end_point) == (Point(-2.0, 37.0), Point(-3.0, 38.0))
    half = CorridorOut.of(replace(ROUTE, end_lon_deg=39.0, end_lat_deg=-4.0))
    assert (half.start_point, half.end_point) == (Point(-2.0, 37.0), Point(-4.0, 39.0))
    for geometry in (AREA, None):
        area = CorridorOut.of(replace(ROUTE, geometry=geometry, start_lon_deg=1.0))
        assert (area.start_point, area.end_point, area.path) == (None, None, None)


def test_of_a_geometry_type_and_coordinates_are_kept() -> None:
    odd = LINE[:-1] + ',"bbox":[37,-3,38,-2],"crs":{"huge":123456789012345678901234567890}}'
    assert corridor_columns(Raw(odd.encode()), {"name": "C"})["geometry"] == LINE
    stored = replace(ROUTE, geometry=odd)  # as another home may have sent it
    assert shown(stored)["geometry"] == json.loads(LINE)
    assert json.loads(msgspec.json.encode(CorridorFeature.of(stored)))["geometry"] == json.loads(LINE)


def test_what_the_optimisation_said_goes_through_as_it_is() -> None:
    said = {"summary": {"length_km": 12.5}, "path": [[-2.0, 37.0]], "note": "\u00e9\0"}
    (text,) = read_json(json.dumps({"optimization_data": said}).encode(), CorridorPatch).columns().values()
    assert "\0" not in text
    assert shown(replace(ROUTE, optimization_data=text))["optimization_data"] == said
    deep = b'{"optimization_data":' + b"[" * 900 + b"]" * 900 + b"}"
    columns = read_json(deep, CorridorPatch).columns()
    assert shown(replace(ROUTE, optimization_data=columns["optimization_data"]))["optimization_data"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {}),
        ({"width_m": None, "status": None}, {"width_m": 2_000.0, "status": "planned"}),
        ({"width_m": 0}, {"width_m": 0.0}),
        ({"width_m": 0, "geometry": json.loads(AREA)}, {"geometry": AREA}),
        ({"width_m": 0, "geometry": json.loads(LINE)}, {"geometry": LINE, "width_m": 0.0}),
        ({"geometry": None}, {"geometry": None}),
        ({"path": None}, {"geometry": None}),
        ({"path": [], "geometry": json.loads(AREA)}, {"geometry": AREA}),
        ({"start_point": None}, {"start_lon_deg": None, "start_lat_deg": None}),
        ({"end_point": {"lat": 0, "lon": 0}}, {"end_lon_deg": 0.0, "end_lat_deg": 0.0}),
    ],
)
def test_a_change_says_what_it_names(body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert read_json(json.dumps(body).encode(), CorridorPatch).columns() == expected


def test_two_different_lines_are_refused() -> None:
    body = {"path": [[-2, 37], [-3, 38.5]], "geometry": json.loads(LINE)}
    with pytest.raises(Invalid, match="path: is another line than geometry"):
        read_json(json.dumps(body).encode(), CorridorPatch).columns()
