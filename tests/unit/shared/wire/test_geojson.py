"""Areas are checked where they come in."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Invalid
from shared.wire.geojson import MAX_CHARACTERS, MAX_CORNERS, check_area, check_route, is_area, wkb_of

pytestmark = pytest.mark.unit

RING: list[Any] = [[37, -2], [38, -2], [38.5, -3], [37, -2]]
HOLE: list[Any] = [[37.6, -2.1], [37.7, -2.1], [37.7, -2.2], [37.6, -2.1]]


def line(*corners: Any) -> str:
    """Return a LineString as text."""
    return json.dumps({"type": "LineString", "coordinates": list(corners)})


def polygon(*rings: Any) -> str:
    """Return a Polygon as text."""
    return json.dumps({"type": "Polygon", "coordinates": list(rings)})


@pytest.mark.parametrize(
    "text",
    [
        polygon(RING),
        polygon(RING, HOLE),
        polygon([[*corner, 1200.5] for corner in RING]),  # with heights
        polygon([[180, 90], [-180, 90], [-180, -90], [180, 90]]),
        json.dumps({"type": "MultiPolygon", "coordinates": [[RING], [HOLE]], "bbox": [37, -3, 38, -2]}),
    ],
)
def test_an_area_is_taken(text: str) -> None:
    check_area(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is no GeoJSON"),
        ("{", "is no GeoJSON"),
        ("[" * 100_000, "is no GeoJSON"),
        ("\ud800", "is no GeoJSON"),
        ("5", "must be a GeoJSON Polygon or MultiPolygon"),
        ("{}", "must be a GeoJSON Polygon or MultiPolygon"),
        ('{"type": ["Polygon"]}', "must be a GeoJSON Polygon or MultiPolygon"),
        ('{"type": "Point", "coordinates": [37, -2]}', "must be a GeoJSON Polygon or MultiPolygon"),
        ('{"type": "MultiPolygon", "coordinates": 5}', "must be a GeoJSON Polygon or MultiPolygon"),
        ('{"type": "MultiPolygon", "coordinates": [5]}', "a polygon is a list of rings"),
        ('{"type": "MultiPolygon", "coordinates": [[]]}', "a polygon is a list of rings"),
        ('{"type": "MultiPolygon", "coordinates": []}', "has 0 corners"),
        ('{"type": "Polygon"}', "a polygon is a list of rings"),
        (polygon(5), "a ring has at least four corners"),
        (polygon(RING[:3]), "a ring has at least four corners"),
        (polygon([*RING[:3], [37, -2.5]]), "a ring ends where it begins"),
        (polygon([RING[0], RING[1], RING[1], RING[0]]), "a ring encloses an area"),
        (polygon(RING, HOLE[:2]), "a ring has at least four corners"),
        (polygon([[37], *RING[1:]]), "a corner is"),
        (polygon(["37,-2", *RING[1:]]), "a corner is"),
        (polygon([[True, 0], *RING[1:]]), "a corner is"),
        (polygon([["37", -2], *RING[1:]]), "a corner is"),
        (polygon([[None, -2], *RING[1:]]), "a corner is"),
        (polygon([[180.1, -2], *RING[1:]]), "a longitude is within 180 degrees"),
        (polygon([[37, -90.1], *RING[1:]]), "a latitude within 90"),
        (polygon([[10**400, -2], *RING[1:]]), "a longitude is within 180 degrees"),
        (polygon(RING).replace("38.5", "1e999"), "is no GeoJSON"),
        (polygon(RING).replace("38.5", "NaN"), "is no GeoJSON"),
        (polygon(RING * MAX_CORNERS), f"corners; 1 to {MAX_CORNERS} are taken"),
    ],
)
def test_what_is_no_area_is_refused(text: str, match: str) -> None:
    with pytest.raises(Invalid, match=match):
        check_area(text)


@pytest.mark.parametrize(
    ("text", "has_area"),
    [
        (line([37, -2], [38, -2]), False),
        (line([37, -2, 1200.5], [38, -2], [37, -2]), False),  # there and back
        (json.dumps({"type": "MultiLineString", "coordinates": [RING, HOLE], "crs": None}), False),
        (polygon(RING, HOLE), True),
        (json.dumps({"type": "MultiPolygon", "coordinates": [[RING], [HOLE]]}), True),
    ],
)
def test_a_route_is_lines_or_areas(text: str, *, has_area: bool) -> None:
    check_route(text)
    assert is_area(text) == has_area


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is no GeoJSON"),
        ("5", "must be a GeoJSON LineString, MultiLineString, Polygon or MultiPolygon"),
        ('{"type": "Point", "coordinates": [37, -2]}', "must be a GeoJSON LineString"),
        ('{"type": "MultiLineString", "coordinates": 5}', "must be a GeoJSON LineString"),
        ('{"type": "MultiLineString", "coordinates": []}', "has 0 corners"),
        ('{"type": "MultiLineString", "coordinates": [[37, -2], [38, -2]]}', "a corner is"),
        ('{"type": "LineString"}', "a line has at least two corners"),
        (line(), "a line has at least two corners"),
        (line([37, -2]), "a line has at least two corners"),
        (line([37, -2], [37.0, -2.0]), "a line leads somewhere"),
        (line([37, -2], [37, -2, 5]), "a line leads somewhere"),
        (line([37, -2], [180.5, -2]), "a longitude is within 180 degrees"),
        (line(*[[n / 1e4, 0] for n in range(MAX_CORNERS + 1)]), f"corners; 1 to {MAX_CORNERS} are taken"),
        (polygon(RING[:3]), "a ring has at least four corners"),
    ],
)
def test_what_is_no_route_is_refused(text: str, match: str) -> None:
    with pytest.raises(Invalid, match=match):
        check_route(text)


def test_a_line_is_no_area() -> None:
    with pytest.raises(Invalid, match="must be a GeoJSON Polygon or MultiPolygon"):
        check_area(line([37, -2], [38, -2]))


def test_binary_is_as_the_specification_has_it() -> None:
    # OGC 06-103r4, 8.2: byte order 1, kind 5 of 1 line, byte order 1, kind 2 of 2 points
    assert wkb_of(line([1, 2, 9], [-0.0, 0.5])) == bytes.fromhex(
        "01 05000000 01000000 01 02000000 02000000 000000000000f03f 0000000000000040 0000000000000000 000000000000e03f"
    )
    # kind 6 of 1 polygon, kind 3 of 1 ring of 4 points
    assert wkb_of(polygon([[0, 0], [1, 0], [0, 1], [0, 0]])) == bytes.fromhex(
        "01 06000000 01000000 01 03000000 01000000 04000000"
        " 0000000000000000 0000000000000000 000000000000f03f 0000000000000000"
        " 0000000000000000 000000000000f03f 0000000000000000 0000000000000000"
    )


@pytest.mark.parametrize("text", [None, "", "{", "5", '{"type":"Point","coordinates":[37,-2]}', polygon(RING[:3])])
def test_of_what_is_no_geometry_there_is_no_binary(text: str | None) -> None:
    assert wkb_of(text) is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "coordinates"]), inner),
    max_leaves=12,
)


@given(st.sampled_from(["Polygon", "MultiPolygon", "LineString", "MultiLineString"]), anything)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_whatever_comes_is_taken_or_refused(kind: str, coordinates: Any) -> None:
    for text in (json.dumps({"type": kind, "coordinates": coordinates}), json.dumps(coordinates)):
        with suppress(Invalid):
            check_area(text)
        try:
            check_route(text)
        except Invalid:
            assert wkb_of(text) is None
        else:
            assert wkb_of(text) is not None


def test_a_text_that_no_batch_could_hold_is_refused() -> None:
    with pytest.raises(Invalid, match="characters"):
        check_area(polygon(RING) + " " * MAX_CHARACTERS)
