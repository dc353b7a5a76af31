"""Anchors: nothing of the future, nothing of the compass, nothing made up."""

from __future__ import annotations

import numpy as np
import pytest

from models.forecast.baselines import HORIZONS_H, Baselines
from models.forecast.features import (
    CONTEXT_PARTS,
    MAX_BRIDGE_S,
    N_CONTEXT,
    N_VECTORS,
    Anchors,
    FloatArray,
    anchor_indices,
    anchors_of,
    context_slice,
    hours_of,
    known_at,
    targets_m,
    unwrapped,
)
from tests.unit.models.forecast.commuters import HOUR_S, M_PER_DEG, START_S, commuter

pytestmark = [pytest.mark.unit, pytest.mark.ml]

H = len(HORIZONS_H)
BASELINES = Baselines(
    damping=np.linspace(0.5, 1.5, H),
    ridge=np.tile(0.8 ** np.arange(48), (H, 1)),
    walk=np.ones((H, 3)),
    walk_unknown=np.ones(H),
)


def anchors(times_s: FloatArray, lon_deg: FloatArray, lat_deg: FloatArray, at: list[int]) -> Anchors:
    known = known_at(times_s, lon_deg, lat_deg, np.array(at), group="elephant")
    return anchors_of(known, BASELINES)


def test_the_parts_of_a_context_are_all_of_it() -> None:
    times, lon, lat = commuter(40, 1)
    found = anchors(times, lon, lat, [700, 900])
    assert found.context.shape == (2, N_CONTEXT)
    assert found.vectors.shape == (2, H, N_VECTORS, 2)
    assert context_slice("group") == slice(N_CONTEXT - 3, N_CONTEXT)
    assert found.context[0, context_slice("group")].tolist() == [1.0, 0.0, 0.0]
    assert sum(CONTEXT_PARTS.values()) == N_CONTEXT


def test_nothing_after_an_anchor_is_read() -> None:
    times, lon, lat = commuter(40, 1)
    whole = anchors(times, lon, lat, [700])
    cut = anchors(times[:701], lon[:701], lat[:701], [700])
    for name in Anchors.__struct_fields__:
        assert np.array_equal(getattr(whole, name), getattr(cut, name), equal_nan=True), name


def test_a_track_that_is_turned_gives_the_same_numbers() -> None:
    times, lon, lat = commuter(40, 2, lat_deg=0.0)
    x, y = lon - 30.0, lat
    for angle in (0.4, 2.0, 4.5):
        east, north = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
        straight, turned = anchors(times, lon, lat, [500, 803]), anchors(times, 30.0 + east, north, [500, 803])
        assert np.allclose(straight.tokens, turned.tokens, atol=2e-3)
        # The place itself has changed a little, and with it the hour by the sun and the season.
        assert np.allclose(straight.context, turned.context, atol=0.03)
        assert np.allclose(straight.vectors, turned.vectors, atol=1.0)


def test_places_go_to_the_frame_and_back() -> None:
    times, lon, lat = commuter(40, 3)
    found = anchors(times, lon, lat, [400, 500])
    place = np.array([[[120.0, -35.0], [0.0, 9.0]], [[1.0, 2.0], [3.0, 4.0]]])
    assert np.allclose(found.to_map(found.to_frame(place)), place)
    east, north = found.degrees(np.array([[[1_000.0, 0.0]], [[0.0, 1_000.0]]]))
    assert (east[0, 0] - found.lon_deg[0]) * M_PER_DEG == pytest.approx(1_000, rel=2e-3)
    assert (north[1, 0] - found.lat_deg[1]) * M_PER_DEG == pytest.approx(1_000, rel=2e-3)


def test_a_track_over_the_date_line_is_like_any_other() -> None:
    times, lon, lat = commuter(40, 4, lon_deg=0.0)
    away = lon + 179.99
    wrapped = np.where(away > 180.0, away - 360.0, away)
    assert (wrapped < 0).any()
    assert (wrapped > 0).any()
    here, there = anchors(times, lon, lat, [600]), anchors(times, unwrapped(wrapped), lat, [600])
    assert np.allclose(here.vectors, there.vectors, atol=0.01)


def test_hours_between_fixes_are_interpolated_and_those_in_a_long_gap_are_unknown() -> None:
    times = START_S + HOUR_S * np.array([0.0, 3.0, 6.0, 6.0 + MAX_BRIDGE_S / HOUR_S + 1.0])
    lon = 30.0 + np.array([0.0, 300.0, 600.0, 900.0]) / M_PER_DEG
    found = hours_of(times, lon, np.zeros(4), np.array([2, 3]), 6)
    assert found.place_m[0, :, 0] == pytest.approx([0, -100, -200, -300, -400, -500, -600], abs=1.0)
    assert found.is_known[0].all()
    assert found.is_known[1].tolist() == [True, False, False, False, False, False, False]
    assert (found.place_m[1] == 0).all()


def test_before_its_first_fix_nothing_is_known_of_an_animal() -> None:
    times, lon, lat = commuter(3, 5)
    found = hours_of(times, lon, lat, np.array([2]), 10)
    assert found.is_known[0].tolist() == [True] * 3 + [False] * 8
    assert np.isfinite(anchors(times, lon, lat, [0]).context).all()


def test_what_it_does_at_this_hour_is_remembered() -> None:
    times = START_S + HOUR_S * np.arange(24.0 * 30)
    hour = np.arange(times.size) % 24
    lon: FloatArray = 30.0 + np.where(hour < 12, 0.0, 2_000.0).astype(np.float64) / M_PER_DEG
    at = int(np.flatnonzero(hour == 8)[-1])
    found = anchors(times, lon, np.zeros(times.size), [at])
    names = 8 + np.arange(10)
    moved = found.to_map(found.vectors)[0, HORIZONS_H.index(6), names]
    # Six hours after eight it is always 2 km to the east.
    for slot in (0, 1, 2, 3, 4, 7):
        assert moved[slot, 0] == pytest.approx(2_000, rel=0.02), slot
    # Hours around this one count too, and from anywhere else in the day it goes nowhere or back.
    assert moved[6, 0] > 1_500 > moved[5, 0]


def test_targets_are_fixes_near_the_hour_and_never_in_between() -> None:
    times = START_S + HOUR_S * np.array([0.0, 1.05, 3.3, 6.2, 24.1])
    lon = 30.0 + np.arange(5.0) / M_PER_DEG
    found = targets_m(times, lon, np.zeros(5), np.array([0]))
    assert np.isfinite(found[0, :, 0]).tolist() == [True, False, True, False, True]
    assert found[0, 0, 0] == pytest.approx(1.0, abs=0.01)
    assert np.isnan(targets_m(times, lon, np.zeros(5), np.array([4]))).all()
    assert np.isnan(targets_m(times[:1], lon[:1], np.zeros(1), np.array([0]))).all()


def test_anchors_are_nearly_an_hour_apart() -> None:
    times = np.arange(0.0, 10 * HOUR_S, 900.0)
    chosen = anchor_indices(times)
    assert np.diff(times[chosen]).min() >= 0.9 * HOUR_S
    assert np.diff(times[chosen]).max() <= HOUR_S
    assert anchor_indices(np.array([])).size == 0
