"""Laws of the bridge: order, mass, growth, taking back, and the outline."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bbmm.density import bridges_of, grid_around, level_of, occurrence_of, positions_at
from models.bbmm.features import Track, frame_for, track_of
from models.bbmm.runtime import Utilisation
from models.bbmm.variance import motion_variance

pytestmark = [pytest.mark.unit, pytest.mark.ml]

EXAMPLES = 400 if os.environ.get("OUTPOST_NIGHTLY") == "1" else 40
FRAME = frame_for(np.array([37.0]), np.array([0.5]))

places = st.floats(-3_000, 3_000)


@st.composite
def tracks(draw: st.DrawFn, fewest: int = 2) -> Track:
    fixes = draw(st.integers(fewest, 8))
    gaps = draw(st.lists(st.integers(60, 7_200), min_size=fixes, max_size=fixes))
    rows = [draw(st.lists(places, min_size=fixes, max_size=fixes)) for _ in range(2)]
    errors = draw(st.lists(st.floats(60, 120), min_size=fixes, max_size=fixes))
    return Track(
        times_s=np.cumsum(np.array(gaps, dtype=np.float64)),
        x_m=np.array(rows[0]),
        y_m=np.array(rows[1]),
        error_m=np.array(errors),
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(tracks(), st.floats(0.01, 20))
def test_the_map_holds_all_of_the_time(track: Track, variance: float) -> None:
    found = occurrence_of(bridges_of(track, variance), grid_around(track, 60.0, 3_000.0))
    assert found.mass_on_grid == pytest.approx(1.0, abs=0.01)
    assert found.lasting_s == pytest.approx(track.times_s[-1] - track.times_s[0])
    assert found.area_km2(0.5) <= found.area_km2(0.95)
    assert ((found.levels() >= level_of(0.95)) >= (found.levels() >= level_of(0.5))).all()


@settings(max_examples=EXAMPLES, deadline=None)
@given(tracks(), st.floats(0.01, 20), st.data())
def test_bridges_in_any_order_give_one_map_and_can_be_taken_back(
    track: Track, variance: float, data: st.DataObject
) -> None:
    bridges = bridges_of(track, variance)
    whole, grown = Utilisation(FRAME, 60.0), Utilisation(FRAME, 60.0)
    whole.add(bridges)
    order = data.draw(st.permutations(range(len(bridges))))
    for n in order:
        grown.add(bridges.part(slice(n, n + 1)))
    wanted, found = whole.occurrence(), grown.occurrence()
    scale = float(wanted.seconds.max())
    assert found.grid == wanted.grid
    assert found.seconds == pytest.approx(wanted.seconds, abs=1e-5 * scale)
    grown.remove(bridges)
    assert float(grown.occurrence().seconds.max()) <= 1e-5 * scale


@settings(max_examples=EXAMPLES, deadline=None)
@given(tracks(fewest=3), st.floats(0.1, 10))
def test_the_variance_grows_with_the_square_of_the_scale(track: Track, scale: float) -> None:
    scaled = Track(
        times_s=track.times_s,
        x_m=track.x_m * scale,
        y_m=track.y_m * scale,
        error_m=track.error_m * scale,
    )
    before, after = motion_variance(track), motion_variance(scaled)
    # The highest likelihood grows by one factor for each fix; the place of the top may be flat near zero.
    shift = 2 * np.log(scale) * before.left_out
    assert after.log_likelihood == pytest.approx(before.log_likelihood - shift, abs=1e-3)
    if before.variance_m2_per_s > 0.01:
        assert after.variance_m2_per_s == pytest.approx(before.variance_m2_per_s * scale**2, rel=1e-2)


@settings(max_examples=EXAMPLES, deadline=None)
@given(tracks(), st.floats(0.01, 20), st.lists(st.floats(0, 60_000), max_size=5))
def test_positions_lie_between_their_fixes(track: Track, variance: float, at: list[float]) -> None:
    at_s = np.array(at, dtype=np.float64)
    found = positions_at(bridges_of(track, variance), at_s)
    is_in = (at_s >= track.times_s[0]) & (at_s <= track.times_s[-1])
    assert (np.isfinite(found.x_m) == is_in).all()
    assert (found.x_m[is_in] >= track.x_m.min() - 1e-6).all()
    assert (found.x_m[is_in] <= track.x_m.max() + 1e-6).all()
    assert (found.sd_m[is_in] > 0).all()


numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=12))
def test_any_numbers_make_a_track_in_order_whatever_the_order(
    rows: list[tuple[float, float, float, float]],
) -> None:
    turned = rows[::-1]
    made = []
    for given_rows in (rows, turned):
        times_s, lon, lat, h_acc = np.array(given_rows, dtype=np.float64).reshape(-1, 4).T
        made.append(track_of(times_s, lon, lat, FRAME, h_acc_m=h_acc))
    assert len(made[0]) + made[0].dropped == len(rows)
    assert (np.diff(made[0].times_s) > 0).all()
    assert made[0].times_s.tolist() == made[1].times_s.tolist()
    assert made[0].error_m.tolist() == made[1].error_m.tolist()
