"""The chance that an animal is inside a zone or corridor, by its forecast."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from models.live.ahead import LEAST, POINTS, Shape, aheads, inside, shape_of, shape_within, spread
from shared.domain import Corridor, Zone
from shared.insight import Ahead, Predicted

pytestmark = [pytest.mark.unit, pytest.mark.ml]

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
DEGREE_M = 111_195.0


def predicted(hours: float = 3.0, lon: float = 37.0, lat: float = 0.0, **said: Any) -> Predicted:
    """Return a Gaussian forecast of 1 km along its long axis, half as wide."""
    sd: dict[str, Any] = {
        "bearing_deg": 0.0,
        "semi_major_50_m": 1177.4,
        "semi_minor_50_m": 588.7,
        "semi_major_90_m": 2146.0,
        "semi_minor_90_m": 1073.0,
    }
    return Predicted(at=AT, horizon_h=hours, lon_deg=lon, lat_deg=lat, model="x", **(sd | said))


def zone(geometry: dict[str, Any], identity: str = "z") -> Shape:
    return shape_within(Ahead(kind="zone", id=identity, name=identity, zone_type="road"), json.dumps(geometry))


def box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.mark.parametrize("bearing", [0.0, 30.0, 90.0, 135.0])
def test_half_of_the_points_lie_in_the_inner_ellipse_and_nine_tenths_in_the_outer(bearing: float) -> None:
    of = predicted(bearing_deg=bearing, lat=-2.0)
    points = spread(of)
    assert points.shape == (POINTS, 2)
    east = (points[:, 0] - of.lon_deg) * DEGREE_M * math.cos(math.radians(of.lat_deg))
    north = (points[:, 1] - of.lat_deg) * DEGREE_M
    angle = math.radians(bearing)
    along, across = east * math.sin(angle) + north * math.cos(angle), east * math.cos(angle) - north * math.sin(angle)
    for major, minor, share in ((1177.4, 588.7, 0.5), (2146.0, 1073.0, 0.9)):
        assert np.mean(np.hypot(along / major, across / minor) <= 1.0) == pytest.approx(share, abs=1 / POINTS)
    assert abs(along.mean()) < 60
    assert along.std() == pytest.approx(1000, rel=0.06), "a Gaussian is one of the laws"
    assert across.std() == pytest.approx(500, rel=0.06)


def test_a_half_plane_through_the_middle_has_the_chance_of_a_half() -> None:
    (found,) = aheads([predicted()], [zone(box(37.0, -1.0, 38.0, 1.0))], "elephant")
    assert found.likeliest[1] == pytest.approx(0.5, abs=0.03)
    one_sd = 37.0 + 500 / DEGREE_M
    (found,) = aheads([predicted()], [zone(box(one_sd, -1.0, 38.0, 1.0))], "elephant")
    assert found.likeliest[1] == pytest.approx(0.1587, abs=0.03)


def test_holes_and_parts_count_and_far_zones_do_not() -> None:
    ring = box(36.0, -1.0, 38.0, 1.0)["coordinates"][0]
    hole = box(36.5, -0.5, 37.5, 0.5)["coordinates"][0]
    assert aheads([predicted()], [zone({"type": "Polygon", "coordinates": [ring, hole]})], "elephant") == ()
    both = {"type": "MultiPolygon", "coordinates": [[ring, hole], [box(36.9, -0.1, 37.1, 0.1)["coordinates"][0]]]}
    (found,) = aheads([predicted()], [zone(both)], "elephant")
    assert found.likeliest == (3.0, 1.0)
    assert aheads([predicted()], [zone(box(40, 0, 41, 1))], "elephant") == ()
    assert aheads([], [zone(both)], "elephant") == ()


def test_the_course_over_the_horizons_is_told_and_the_likeliest_comes_first() -> None:
    course = [predicted(hours, lon=37.0 + 0.02 * n) for n, hours in enumerate((1.0, 3.0, 6.0, 12.0, 24.0))]
    near, far = zone(box(37.03, -0.1, 37.05, 0.1), "near"), zone(box(37.07, -0.1, 37.3, 0.1), "far")
    found = aheads(course, [near, far], "elephant")
    assert [each.id for each in found] == ["far", "near"]
    assert [hours for hours, _ in found[1].chances] == [1.0, 3.0, 6.0, 12.0, 24.0]
    assert found[1].likeliest[0] == 6.0
    first = found[1].first(0.3, 12.0)
    assert first is not None
    assert first[0] == 6.0
    assert found[1].first(0.3, 3.0) is None
    assert all(each.likeliest[1] >= LEAST for each in found)


def test_a_corridor_is_as_wide_as_it_is_said_and_for_whom_it_is() -> None:
    line = {"type": "LineString", "coordinates": [[36.0, 0.0], [38.0, 0.0]]}
    made: dict[str, Any] = {"id": "c", "name": "River", "created_at": AT, "updated_at": AT, "status": "active"}
    shape = shape_of(Corridor(**made, geometry=json.dumps(line), width_m=2_000.0, species="elephant"))
    assert shape is not None
    (found,) = aheads([predicted(bearing_deg=90.0)], [shape], "elephant")
    assert found.kind == "corridor"
    assert found.likeliest[1] == pytest.approx(0.954, abs=0.03)  # 1 km either side of the middle, sd 500 m
    assert aheads([predicted()], [shape], "plains zebra") == ()
    points = np.array([[37.0, 0.0], [37.0, 1_100 / DEGREE_M], [37.0, 900 / DEGREE_M], [39.0, 0.0]])
    assert inside(shape, points).tolist() == [True, False, True, False]
    area = shape_of(Corridor(**made, geometry=json.dumps(box(36, -1, 38, 1)), width_m=0.0))
    assert area is not None
    assert aheads([predicted()], [area], "plains zebra")[0].likeliest[1] == 1.0
    assert shape_of(Corridor(**made)) is None, "a plan has no ground"


def test_a_zone_beyond_the_date_line_is_walked_into() -> None:
    east = Zone(
        id="z", name="z", zone_type="road", geometry=json.dumps(box(-180.0, -1.0, -179.0, 1.0)), created_at=AT,
        updated_at=AT, risk_level="high",
    )  # fmt: skip
    shape = shape_of(east)
    assert shape is not None
    (found,) = aheads([predicted(lon=179.999)], [shape], "elephant")
    assert 0.3 < found.likeliest[1] < 0.5
    assert found.risk_level == "high"


def test_a_forecast_without_spread_is_a_point() -> None:
    sure = predicted(semi_major_50_m=0.0, semi_minor_50_m=0.0, semi_major_90_m=0.0, semi_minor_90_m=0.0)
    (found,) = aheads([sure], [zone(box(36.9, -0.1, 37.1, 0.1))], "elephant")
    assert found.likeliest[1] == 1.0
