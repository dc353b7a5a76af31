"""What lies near a fix, against a measurement of every edge by geodesics: whatever is drawn, wherever one stands."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from edge.store.areas import areas_near
from edge.store.driver import Connection, connect
from edge.store.fixes import FixWriter
from edge.store.migrate import migrate
from edge.store.records import RecordWriter
from shared.movement.areas import Place, lon_scale, windows
from shared.sync.operations import Operation
from shared.sync.records import EntityName

pytestmark = pytest.mark.integration

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
T0 = 1_780_000_000_000
GEOD = Geod(ellps="WGS84")
STEPS = 400
Corner = list[float]
#: A part of what is drawn: corners of a line, or the rings of a polygon.
Part = list[Any]


def examples(n: int) -> settings:
    return settings(max_examples=n * 10 if NIGHTLY else n, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    connection = connect(tmp_path_factory.mktemp("areas") / Path("station.db"), None, synchronous="NORMAL")
    migrate(connection)
    yield connection
    connection.close()


def draw(db: Connection, entity: EntityName, row_id: str, columns: dict[str, Any]) -> None:
    operation = Operation(
        id=row_id, entity=entity, row_id=row_id, kind="insert", made_ms=T0, columns={"name": row_id, **columns}
    )
    RecordWriter(db, FixWriter(db)).run([operation])


def empty(db: Connection) -> None:
    for table in ("zones", "corridors", "outbox"):
        db.execute(f"DELETE FROM {table}")


# --- what is drawn, in metres around a place ------------------------------------------------------------------------

places = st.builds(
    Place,
    st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, -179.9999, 0.0, 37.5, 179.97, 180.0])),
    st.one_of(st.floats(-70, 70), st.sampled_from([-66.0, -35.0, 0.0, 2.5])),
)
offsets_m = st.tuples(st.integers(-14_000, 14_000), st.integers(-14_000, 14_000))
#: Lines and rings as they come: rings may cross themselves.
strokes = st.lists(offsets_m, min_size=3, max_size=6, unique=True)
boxes = st.tuples(offsets_m, st.integers(200, 9_000), st.integers(200, 9_000))


def corner(place: Place, east_m: float, north_m: float) -> Corner:
    """Return a corner so far from ``place``, of a longitude that may be beyond 180 degrees."""
    lat_deg = place.lat_deg + north_m / 111_000
    return [place.lon_deg + east_m / 111_000 / lon_scale(place.lat_deg), lat_deg]


def cut(ring: list[Corner]) -> list[list[Corner]]:
    """Return a box of four corners as parts on either side of the antimeridian, as GeoJSON wants them."""
    west, east = min(lon for lon, _ in ring), max(lon for lon, _ in ring)
    south, north = min(lat for _, lat in ring), max(lat for _, lat in ring)
    parts = []
    for turn in (-360.0, 0.0, 360.0):
        left, right = max(west + turn, -180.0), min(east + turn, 180.0)
        if left < right:
            parts.append([[left, south], [right, south], [right, north], [left, north], [left, south]])
    return parts


def is_on_the_map(corners: list[Corner]) -> bool:
    return all(abs(lon) <= 180 for lon, _ in corners)


# --- measured without an index --------------------------------------------------------------------------------------


def distance_m(place: Place, corners: list[Corner]) -> float:
    """Return how far the nearest edge is: every edge is walked in small steps, twice as closely where it is nearest."""
    best = math.inf
    for (lon1, lat1), (lon2, lat2) in itertools.pairwise(corners):
        low, high = 0.0, 1.0
        for _ in range(3):
            share = np.linspace(low, high, STEPS)
            lon, lat = lon1 + (lon2 - lon1) * share, lat1 + (lat2 - lat1) * share
            far = GEOD.inv(lon, lat, np.full(STEPS, place.lon_deg), np.full(STEPS, place.lat_deg))[2]
            best = min(best, float(far.min()))
            middle, step = float(share[far.argmin()]), (high - low) / STEPS
            low, high = max(0.0, middle - step), min(1.0, middle + step)
    return best


def is_within(place: Place, ring: list[Corner]) -> bool:
    """Say whether a ray to the east crosses the ring an odd number of times."""
    is_odd = False
    for (lon1, lat1), (lon2, lat2) in itertools.pairwise(ring):
        crosses = (lat1 > place.lat_deg) != (lat2 > place.lat_deg)
        if crosses and place.lon_deg < lon1 + (place.lat_deg - lat1) / (lat2 - lat1) * (lon2 - lon1):
            is_odd = not is_odd
    return is_odd


def to_area_m(place: Place, rings: list[list[Corner]]) -> float:
    """Return the distance to an area of parts that do not overlap, which may lie across the antimeridian."""
    turned = [Place(place.lon_deg + turn, place.lat_deg) for turn in (-360.0, 0.0, 360.0)]
    if any(is_within(each, ring) for each in turned for ring in rings):
        return 0.0
    return min(distance_m(place, ring) for ring in rings)


def said(db: Connection, place: Place, reach_m: float) -> dict[str, float]:
    return {each.id: each.distance_m for each in areas_near(db, place.lon_deg, place.lat_deg, reach_m=reach_m)}


def assert_near(said_m: dict[str, float], true_m: dict[str, float], reach_m: float) -> None:
    """What is surely near is named and what is surely not is not; distances are right to a few thousandths."""
    for name, metres in true_m.items():
        slack_m = 0.5 + 0.005 * metres
        if metres < reach_m - slack_m:
            assert name in said_m, (name, metres)
        if name in said_m:
            assert metres <= reach_m + slack_m
            assert said_m[name] == pytest.approx(metres, abs=slack_m), name


# --- laws -----------------------------------------------------------------------------------------------------------


@given(place=places, drawn=st.lists(strokes, min_size=1, max_size=3), reach_m=st.integers(1, 15_000))
@examples(100)
def test_areas_of_any_shape_are_as_far_as_their_edges_are(
    db: Connection, place: Place, drawn: list[list[tuple[int, int]]], reach_m: int
) -> None:
    empty(db)
    true_m = {}
    for n, stroke in enumerate(drawn):
        ring = [corner(place, *offset) for offset in (*stroke, stroke[0])]
        if is_on_the_map(ring):
            geometry = msgspec.json.encode({"type": "Polygon", "coordinates": [ring]}).decode()
            draw(db, "zone", f"z{n}", {"zone_type": "road", "geometry": geometry})
            true_m[f"z{n}"] = to_area_m(place, [ring])
    found = said(db, place, float(reach_m))
    assert_near(found, true_m, reach_m)
    inside = {
        each.id for each in areas_near(db, place.lon_deg, place.lat_deg, reach_m=float(reach_m)) if each.is_inside
    }
    assert inside == {name for name, metres in found.items() if metres == 0}


@given(place=places, boxes=st.lists(boxes, min_size=1, max_size=4), reach_m=st.integers(1, 15_000))
@examples(100)
def test_the_antimeridian_is_no_border(
    db: Connection, place: Place, boxes: list[tuple[tuple[int, int], int, int]], reach_m: int
) -> None:
    empty(db)
    drawn = {}
    for n, ((east_m, north_m), width_m, height_m) in enumerate(boxes):
        west_south = corner(place, east_m, north_m)
        east_north = corner(place, east_m + width_m, north_m + height_m)
        drawn[f"z{n}"] = cut([west_south, east_north])
    drawn["all"] = [ring for rings in drawn.values() for ring in rings]
    for name, rings in drawn.items():
        geometry = msgspec.json.encode({"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}).decode()
        draw(db, "zone", name, {"zone_type": "road", "geometry": geometry})
    true_m = {name: to_area_m(place, rings) for name, rings in drawn.items()}
    assert_near(said(db, place, float(reach_m)), true_m, reach_m)


@given(
    place=places,
    lines=st.lists(st.tuples(strokes, st.sampled_from([0.0, 50.0, 2_000.0, 9_000.0])), min_size=1, max_size=3),
    reach_m=st.integers(1, 8_000),
)
@examples(100)
def test_a_line_is_a_corridor_as_wide_as_it_says(
    db: Connection, place: Place, lines: list[tuple[list[tuple[int, int]], float]], reach_m: int
) -> None:
    empty(db)
    true_m = {}
    for n, (stroke, width_m) in enumerate(lines):
        line = [corner(place, *offset) for offset in stroke]
        if is_on_the_map(line):
            geometry = msgspec.json.encode({"type": "LineString", "coordinates": line}).decode()
            draw(db, "corridor", f"c{n}", {"geometry": geometry, "width_m": width_m})
            true_m[f"c{n}"] = max(0.0, distance_m(place, line) - width_m / 2)
    assert_near(said(db, place, float(reach_m)), true_m, reach_m)


@given(
    lon_deg=st.floats(-180, 180), lat_deg=st.floats(-90, 90), heading_deg=st.floats(0, 360),
    share=st.floats(0, 1), reach_m=st.floats(1, 1_000_000),
)  # fmt: skip
@examples(500)
def test_what_is_within_reach_is_in_a_window_at_any_latitude(
    lon_deg: float, lat_deg: float, heading_deg: float, share: float, reach_m: float
) -> None:
    there_lon, there_lat, _ = GEOD.fwd(lon_deg, lat_deg, heading_deg, reach_m * share)
    boxes = list(windows(Place(lon_deg, lat_deg), reach_m))
    assert any(box.west <= there_lon <= box.east and box.south <= there_lat <= box.north for box in boxes)
    for box in boxes:
        assert -180 <= box.west <= box.east <= 180
        assert -90 <= box.south <= box.north <= 90
        assert (box.lon_deg - lon_deg) % 360 == pytest.approx(0, abs=1e-9)
