"""Frames, location errors and tracks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.bbmm.features import LocationErrors, frame_for, location_errors_m, track_of
from shared.movement.geodesy import step_lengths_m

pytestmark = [pytest.mark.unit, pytest.mark.ml]


def test_a_track_in_one_zone_has_its_utm_zone() -> None:
    frame = frame_for(np.array([37.0, 37.5]), np.array([-1.0, -2.0]))
    assert frame.zone == -37
    x_m, y_m = frame.to_metres(np.array([39.0]), np.array([0.0]))
    assert x_m[0] == pytest.approx(500_000.0)
    assert y_m[0] == pytest.approx(10_000_000.0)


def test_a_track_across_zones_is_equal_area_and_keeps_areas() -> None:
    lon, lat = np.array([35.5, 36.5]), np.array([-1.0, -1.1])
    frame = frame_for(lon, lat)
    assert frame.zone is None
    x_m, y_m = frame.to_metres(np.array([36.5, 36.51, 36.51, 36.5]), np.array([-1.0, -1.0, -0.99, -0.99]))
    area_m2 = abs(np.dot(x_m, np.roll(y_m, -1)) - np.dot(y_m, np.roll(x_m, -1))) / 2
    width_m = step_lengths_m(np.array([36.5, 36.51]), np.array([-0.995, -0.995]))[0]
    height_m = step_lengths_m(np.array([36.5, 36.5]), np.array([-1.0, -0.99]))[0]
    assert area_m2 == pytest.approx(width_m * height_m, rel=1e-4)


def test_a_track_across_the_date_line_has_its_middle_there() -> None:
    frame = frame_for(np.array([179.9, -179.9]), np.array([-16.0, -16.0]))
    x_m, _ = frame.to_metres(np.array([179.9, -179.9]), np.array([-16.0, -16.0]))
    assert abs(x_m[1] - x_m[0]) == pytest.approx(21_400, rel=0.01)


@pytest.mark.parametrize(("lon", "lat"), [(37.1, -1.0), (35.5, -1.0), (179.95, 10.0)])
def test_metres_go_back_to_degrees(lon: float, lat: float) -> None:
    frame = frame_for(np.array([lon, lon + 1.2]), np.array([lat, lat]))
    back_lon, back_lat = frame.to_degrees(*frame.to_metres(np.array([lon]), np.array([lat])))
    assert (back_lon[0], back_lat[0]) == pytest.approx((lon, lat), abs=1e-7)


def test_a_frame_says_when_it_no_longer_serves() -> None:
    utm = frame_for(np.array([37.0]), np.array([-1.0]))
    assert utm.holds(np.array([41.9]), np.array([2.0]))
    assert not utm.holds(np.array([42.1]), np.array([2.0]))
    equal_area = frame_for(np.array([35.9, 36.1]), np.array([-1.0, -1.0]))
    assert equal_area.holds(np.array([42.1]), np.array([2.0]))
    assert not equal_area.holds(np.array([80.0]), np.array([2.0]))


def test_without_positions_there_is_no_frame() -> None:
    with pytest.raises(ValueError, match="no frame"):
        frame_for(np.empty(0), np.empty(0))


def test_the_stated_accuracy_goes_before_hdop_and_hdop_before_the_rest() -> None:
    errors = LocationErrors(unstated_m=20.0, per_hdop_m=4.0)
    found = location_errors_m(
        4, errors, h_acc_m=np.array([15.0, np.nan, np.nan, 0.0]), hdop=np.array([1.0, 2.0, np.nan, -1.0])
    )
    assert found == pytest.approx([15.0 / math.sqrt(-2 * math.log(1 - 0.6827)), 8.0, 20.0, 20.0])


def test_no_error_is_below_the_floor() -> None:
    assert location_errors_m(1, LocationErrors(), h_acc_m=np.array([0.01])) == pytest.approx([1.0])


def test_the_order_of_arrival_does_not_matter_and_what_cannot_be_used_is_counted() -> None:
    times_s = np.array([3.0, 1.0, 2.0, 2.0, np.nan, 5.0, 6.0])
    lon = np.array([37.3, 37.1, 37.2, 37.9, 37.0, np.nan, 37.6])
    lat = np.zeros(7)
    hdop = np.array([1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0])
    usable = np.array([True, True, True, True, True, True, False])
    frame = frame_for(lon[:2], lat[:2])
    errors = LocationErrors(per_hdop_m=5.0)
    track = track_of(times_s, lon, lat, frame, errors, hdop=hdop, is_usable=usable)
    assert track.times_s.tolist() == [1.0, 2.0, 3.0]
    assert track.dropped == 4
    assert track.x_m.tolist() == frame.to_metres(np.array([37.1, 37.2, 37.3]), np.zeros(3))[0].tolist()
    turned = slice(None, None, -1)
    again = track_of(times_s[turned], lon[turned], lat, frame, errors, hdop=hdop[turned], is_usable=usable[turned])
    assert again.x_m.tolist() == track.x_m.tolist()


def test_rows_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        track_of(np.zeros(2), np.zeros(3), np.zeros(3), frame_for(np.zeros(1), np.zeros(1)))
