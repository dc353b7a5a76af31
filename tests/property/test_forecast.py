"""Laws of the forecast: any track has one, no order of fixes changes it, and no fix after now is read."""

from __future__ import annotations

import math
import os
from functools import cache
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.forecast.features import FloatArray
from models.forecast.runtime import Forecaster, Prediction, load_forecaster
from shared.movement.geodesy import haversine_m

EXAMPLES = 500 if os.environ.get("OUTPOST_NIGHTLY") else 50

#: Minutes between fixes: on schedule, drifting, too soon, slow collars, missed days.
gaps = st.lists(st.sampled_from([60, 60, 60, 59, 62, 46, 15, 2, 180, 360, 1_440, 20_000]), min_size=0, max_size=60)
species = st.sampled_from(["Loxodonta africana", "wildebeest", "Syncerus caffer", "Panthera leo", ""])


@cache
def forecaster(name: str) -> Forecaster:
    return load_forecaster(name)


@st.composite
def tracks(draw: st.DrawFn) -> tuple[FloatArray, FloatArray, FloatArray]:
    times = 1.6e9 + np.concatenate(([0.0], np.cumsum(draw(gaps)))) * 60.0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = 10 ** rng.uniform(-7, -1.5, (len(times), 2)) * rng.choice([-1.0, 0.0, 1.0], (len(times), 2))
    start = np.array([draw(st.sampled_from([30.0, -179.999, 179.999])), draw(st.sampled_from([-25.0, 0.0, 61.0]))])
    place = np.cumsum(size, axis=0) + start
    return times, (place[:, 0] + 180.0) % 360.0 - 180.0, place[:, 1]


def is_sound(one: Prediction) -> bool:
    numbers = (one.lon_deg, one.lat_deg, one.ellipse50.semi_major_m, one.ellipse90.semi_major_m)
    return (
        all(math.isfinite(number) for number in numbers)
        and -180 <= one.lon_deg <= 180
        and -90 <= one.lat_deg <= 90
        and 0 < one.ellipse50.semi_minor_m <= one.ellipse50.semi_major_m <= one.ellipse90.semi_major_m
        and one.ellipse50.bearing_deg == one.ellipse90.bearing_deg
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(tracks(), species)
def test_any_track_has_a_sound_forecast(track: tuple[FloatArray, FloatArray, FloatArray], name: str) -> None:
    found = forecaster(name).predict(*track)
    assert all(is_sound(one) for one in found), found
    travelled_m = sum(
        haversine_m(track[1][i], track[2][i], track[1][i + 1], track[2][i + 1]) for i in range(len(track[0]) - 1)
    )
    for one in found:
        away_m = haversine_m(track[1][-1], track[2][-1], one.lon_deg, one.lat_deg)
        assert away_m < 500_000 + 100 * travelled_m


@settings(max_examples=EXAMPLES, deadline=None)
@given(tracks(), st.randoms(use_true_random=False))
def test_no_order_of_fixes_changes_a_forecast(track: tuple[FloatArray, FloatArray, FloatArray], random: Random) -> None:
    order = list(range(len(track[0])))
    random.shuffle(order)
    # A fix that is heard twice is one fix.
    order += random.sample(order, len(order) // 3)
    mixed = [column[order] for column in track]
    assert forecaster("elephant").predict(*track) == forecaster("elephant").predict(*mixed)
