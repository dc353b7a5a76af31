"""Degrees of longitude, and windows around a place."""

from __future__ import annotations

import pytest
from pyproj import Geod

from shared.movement.areas import Place, lon_scale, windows

pytestmark = pytest.mark.unit

GEOD = Geod(ellps="WGS84")


@pytest.mark.parametrize("lat_deg", [-89.0, -66.0, -35.0, -2.5, 0.0, 45.0, 80.0])
def test_a_degree_of_longitude_is_as_long_as_geodesics_say(lat_deg: float) -> None:
    tiny = 1e-5
    east_m = GEOD.inv(0, lat_deg, tiny, lat_deg)[2]
    north_m = GEOD.inv(0, lat_deg - tiny / 2, 0, lat_deg + tiny / 2)[2]
    assert lon_scale(lat_deg) == pytest.approx(east_m / north_m, rel=1e-5)


def test_at_a_pole_every_longitude_is_near() -> None:
    (window,) = windows(Place(0.0, 89.99), 10_000.0)
    assert (window.west, window.east, window.north) == (-180.0, 180.0, 90.0)
    assert lon_scale(90.0) > 0


def test_near_the_antimeridian_there_is_a_window_on_its_other_side() -> None:
    here, there = windows(Place(179.99, 0.0), 10_000.0)
    assert (here.lon_deg, here.east) == (179.99, 180.0)
    assert (round(there.lon_deg, 9), there.west) == (-180.01, -180.0)
    assert -180 < there.east < -179.9
    assert len(list(windows(Place(0.0, 0.0), 10_000.0))) == 1
