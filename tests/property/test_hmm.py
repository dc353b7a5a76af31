"""Laws of the behaviour model: order of arrival, bounds, and never a crash."""

from __future__ import annotations

import math
import os
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.hmm.emissions import Parameters
from models.hmm.export import quantised
from models.hmm.features import regular_chain, rows_of
from models.hmm.runtime import StepState
from models.hmm.tracker import Tracker

EXAMPLES = 1000 if os.environ.get("OUTPOST_NIGHTLY") else 100
VARIANT = quantised(
    Parameters(
        step_mean=(12.0, 180.0, 1100.0),
        step_sd=(9.0, 110.0, 420.0),
        zero_mass=(0.02, 0.0, 0.0),
        angle_mean=(math.pi, 0.0, 0.0),
        angle_concentration=(0.4, 0.6, 3.5),
        transitions=((0.88, 0.10, 0.02), (0.08, 0.86, 0.06), (0.03, 0.12, 0.85)),
        start=(0.3, 0.4, 0.3),
    ),
    3600.0,
    0.25,
)

#: Minutes between fixes: on schedule, drifting, too soon, missed.
gaps = st.lists(st.sampled_from([60, 60, 60, 60, 59, 62, 70, 46, 20, 10, 120, 300]), min_size=1, max_size=40)


@st.composite
def tracks(draw: st.DrawFn) -> list[tuple[float, float, float]]:
    times = np.concatenate(([0.0], np.cumsum(draw(gaps)))) * 60.0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = 10 ** rng.uniform(-7, -1.5, (len(times), 2)) * rng.choice([-1.0, 0.0, 1.0], (len(times), 2))
    place = np.cumsum(size, axis=0) + np.array([30.0, -2.0])
    return [(float(t), float(lon), float(lat)) for t, (lon, lat) in zip(times, place, strict=True)]


@settings(max_examples=EXAMPLES, deadline=None)
@given(tracks(), st.randoms(use_true_random=False))
def test_any_order_of_arrival_ends_in_the_same_states(track: list[tuple[float, float, float]], random: Random) -> None:
    in_order, shuffled = Tracker(VARIANT), Tracker(VARIANT)
    for fix in track:
        in_order.add(*fix)
    order = list(track)
    random.shuffle(order)
    said: dict[float, StepState] = {}
    for fix in order:
        update = shuffled.add(*fix)
        for ended_at_s in update.removed_ended_at_s:
            said.pop(ended_at_s, None)
        said.update({state.ended_at_s: state for state in update.changed})
    assert shuffled.states() == in_order.states()
    assert shuffled.viterbi() == in_order.viterbi()
    # Who follows the updates alone knows the same.
    assert [said[ended_at_s] for ended_at_s in sorted(said)] == in_order.states()


@settings(max_examples=EXAMPLES, deadline=None)
@given(tracks())
def test_a_tracker_agrees_with_the_trajectory_as_a_whole(track: list[tuple[float, float, float]]) -> None:
    tracker = Tracker(VARIANT)
    for fix in track:
        tracker.add(*fix)
    times, lon, lat = np.array(track).T
    rows = rows_of(times, lon, lat, 3600.0)
    decoded = VARIANT.decode(rows)
    states = tracker.states()
    assert len(states) == rows.step_m.size
    if states:
        assert np.allclose([state.smoothed for state in states], decoded.smoothed)
        assert np.allclose([state.filtered for state in states], decoded.filtered)
        assert tracker.viterbi() == [VARIANT.state_names[k] for k in decoded.viterbi]
    for state in states:
        assert 1 / 3 - 1e-9 <= state.confidence <= 1 + 1e-12
        assert math.isfinite(state.log_likelihood)


@settings(max_examples=EXAMPLES, deadline=None)
@given(gaps)
def test_steps_are_regular_and_bursts_cover_what_is_kept(minutes: list[int]) -> None:
    times = np.concatenate(([0.0], np.cumsum(minutes))) * 60.0
    kept, begins = regular_chain(times.tolist(), 3600.0, 900.0)
    assert kept == sorted(set(kept))
    assert begins[0]
    for i in range(1, len(kept)):
        lag_s = times[kept[i]] - times[kept[i - 1]]
        if begins[i]:
            between = times[kept[i - 1]] + np.array([2700.0, 4500.0])
            assert not ((times >= between[0]) & (times <= between[1])).any()
        else:
            assert abs(lag_s - 3600.0) <= 900.0


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 3), max_size=30))
def test_no_fix_however_broken_stops_the_features(fixes: list[tuple[float, ...]]) -> None:
    columns = np.array(fixes, dtype=np.float64).reshape(-1, 3).T
    rows = rows_of(columns[0], columns[1], columns[2], 3600.0)
    assert np.isfinite(rows.step_m).all()
