"""The station's model: tables, tracker, choice of model."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.artifact import PACKAGED, TrainingSet, load, save
from models.hmm.emissions import Parameters, log_densities
from models.hmm.export import export, quantised
from models.hmm.features import rows_of
from models.hmm.runtime import (
    FINE_NAT,
    UNIT_NAT,
    BehaviourModel,
    Variant,
    load_model,
    median_interval_s,
    model_name,
    model_of,
)
from models.hmm.tracker import Tracker
from shared.errors import ArtifactError, ModelUnavailable

pytestmark = [pytest.mark.unit, pytest.mark.ml]

HOUR = 3600.0
PARAMETERS = Parameters(
    step_mean=(12.0, 180.0, 1100.0),
    step_sd=(9.0, 110.0, 420.0),
    zero_mass=(0.02, 0.0, 0.0),
    angle_mean=(math.pi, 0.0, 0.0),
    angle_concentration=(0.4, 0.6, 3.5),
    transitions=((0.88, 0.10, 0.02), (0.08, 0.86, 0.06), (0.03, 0.12, 0.85)),
    start=(0.3, 0.4, 0.3),
)
VARIANT = quantised(PARAMETERS, HOUR, 0.25)
TRAINED_ON = (TrainingSet(dataset="d.csv", individuals=("A",), rows=6, licence="CC0-1.0", citation="C"),)


def _fixes(steps_m: list[float]) -> list[tuple[float, float, float]]:
    """Fixes an hour apart on the equator, going east."""
    lon = np.concatenate(([0.0], np.cumsum(steps_m))) / 111_319.5 + 30.0
    return [(i * HOUR, float(value), 0.0) for i, value in enumerate(lon)]


def test_tables_are_within_a_unit_of_the_densities() -> None:
    rng = np.random.default_rng(5)
    step = np.exp(rng.uniform(math.log(0.1), math.log(5000.0), 3000))
    angle = rng.uniform(-math.pi, math.pi, 3000)
    exact = log_densities(PARAMETERS, step, angle)
    found = VARIANT.log_densities(step, angle) * FINE_NAT
    is_inside = exact > -100
    assert np.abs(found - exact)[is_inside].max() < 1.5 * UNIT_NAT


def test_what_is_missing_says_nothing_and_what_is_extreme_stays_finite() -> None:
    units = VARIANT.log_densities(np.array([np.nan, 1e9, 1e-9, 0.0]), np.array([np.nan, math.pi, -math.pi, np.nan]))
    assert units[0].tolist() == [0, 0, 0]
    assert (np.abs(units) < 1 << 25).all()
    assert units[3, 0] > units[3, 1]


def test_a_zero_step_counts_as_the_shortest_where_the_model_saw_none() -> None:
    never = Parameters(
        step_mean=(12.0, 500.0), step_sd=(9.0, 300.0), zero_mass=(0.0, 0.0), angle_mean=(0.0, 0.0),
        angle_concentration=(0.0, 1.0), transitions=((0.9, 0.1), (0.1, 0.9)), start=(0.5, 0.5),
    )  # fmt: skip
    variant = quantised(never, HOUR, 0.25)
    nowhere = np.array([np.nan])
    assert np.array_equal(
        variant.log_densities(np.array([0.0]), nowhere), variant.log_densities(np.array([0.1]), nowhere)
    )
    assert variant.state_names == ("resting", "moving")


def test_a_day_is_told_as_it_was() -> None:
    tracker = Tracker(VARIANT)
    for fix in _fixes([5.0, 9.0, 7.0, 4.0, 8.0, 6.0, 1200.0, 1000.0, 1300.0, 900.0, 1100.0]):
        tracker.add(*fix)
    states = tracker.states()
    assert [state.state for state in states] == ["resting"] * 6 + ["migrating"] * 5
    assert tracker.viterbi() == [state.state for state in states]
    assert [state.lag for state in states[-3:]] == [2, 1, 0]
    assert [state.is_settled for state in states[-3:]] == [True, False, False]
    shown = tracker.shown()
    assert shown == states[-3]
    assert shown.confidence > 0.95
    assert sum(shown.smoothed) == pytest.approx(1)


def test_the_tracker_says_what_the_whole_trajectory_says() -> None:
    rng = np.random.default_rng(2)
    steps = rng.gamma(1.5, 200.0, 300)
    fixes = [fix for i, fix in enumerate(_fixes(steps.tolist())) if i % 41]
    tracker = Tracker(VARIANT)
    said: dict[float, tuple[float, ...]] = {}
    for fix in fixes:
        for state in tracker.add(*fix).changed:
            said[state.ended_at_s] = state.smoothed
    times, lon, lat = np.array(fixes).T
    rows = rows_of(times, lon, lat, HOUR)
    decoded = VARIANT.decode(rows)
    assert sorted(said) == times[rows.fix].tolist()
    assert np.allclose([said[time] for time in sorted(said)], decoded.smoothed)
    path = [VARIANT.state_names[state] for state in decoded.viterbi]
    assert tracker.viterbi() == path[-len(tracker.viterbi()) :]


@pytest.mark.parametrize("last_h", [None, 400.0])
def test_the_steps_of_a_trajectory_are_those_of_the_tracker(last_h: float | None) -> None:
    rng = np.random.default_rng(3)
    fixes = [fix for i, fix in enumerate(_fixes(rng.gamma(1.5, 200.0, 90).tolist())) if i % 23]
    if last_h is not None:
        fixes.append((last_h * HOUR, 30.0, 0.0))
    tracker = Tracker(VARIANT)
    for fix in fixes:
        tracker.add(*fix)
    times, lon, lat = np.array(fixes).T
    found = VARIANT.steps(rows_of(times, lon, lat, HOUR), times)
    assert len(found) == len(tracker.states()) > 80
    for ours, theirs in zip(found, tracker.states(), strict=True):
        assert (ours.started_at_s, ours.ended_at_s, ours.state) == (
            theirs.started_at_s,
            theirs.ended_at_s,
            theirs.state,
        )
        assert (ours.lag, ours.is_settled) == (theirs.lag, theirs.is_settled)
        assert ours.smoothed == pytest.approx(theirs.smoothed)
        assert ours.filtered == pytest.approx(theirs.filtered)
        assert ours.log_likelihood == pytest.approx(theirs.log_likelihood)
    assert VARIANT.steps(rows_of(times[:1], lon[:1], lat[:1], HOUR), times[:1]) == []


def test_a_gap_restarts_from_the_stationary_distribution() -> None:
    tracker = Tracker(VARIANT)
    fixes = _fixes([5.0] * 6)
    for fix in fixes:
        tracker.add(*fix)
    tracker.add(20 * HOUR, 30.1, 0.0)
    last = tracker.add(21 * HOUR, 30.1005, 0.0).changed[-1]
    alone = Tracker(VARIANT)
    alone.add(20 * HOUR, 30.1, 0.0)
    assert alone.add(21 * HOUR, 30.1005, 0.0).changed[-1] == last
    assert last.angle_rad is None
    assert tracker.states()[-2].is_settled
    assert tracker.shown() == last


def test_a_late_fix_recomputes_from_its_place_on() -> None:
    fixes = _fixes([5.0, 9.0, 1200.0, 1000.0, 1300.0, 7.0, 4.0, 5.0])
    tracker, in_order = Tracker(VARIANT), Tracker(VARIANT)
    for fix in fixes:
        in_order.add(*fix)
    for fix in fixes[:4] + fixes[5:]:
        tracker.add(*fix)
    assert tracker.states() != in_order.states()
    update = tracker.add(*fixes[4])
    assert tracker.states() == in_order.states()
    assert {state.ended_at_s for state in update.changed} >= {fix[0] for fix in fixes[4:]}


def test_a_nearer_fix_takes_the_place_of_one_that_was_kept() -> None:
    tracker = Tracker(VARIANT)
    tracker.add(0.0, 30.0, 0.0)
    assert len(tracker.add(0.8 * HOUR, 30.001, 0.0).changed) == 1
    update = tracker.add(HOUR, 30.002, 0.0)
    assert update.removed_ended_at_s == (0.8 * HOUR,)
    assert [state.ended_at_s for state in tracker.states()] == [HOUR]


def test_repeats_and_fixes_older_than_the_window_are_counted_and_change_nothing() -> None:
    tracker = Tracker(VARIANT, window=12)
    fixes = _fixes([100.0 + i for i in range(60)])
    for fix in fixes:
        tracker.add(*fix)
    before = tracker.states()
    assert len(before) <= 16
    assert tracker.add(*fixes[-2]).changed == ()
    assert tracker.add(1.5 * HOUR, 30.0, 0.0).changed == ()
    assert (tracker.n_repeated, tracker.n_too_late) == (1, 1)
    assert tracker.states() == before


def test_a_collar_slower_than_the_model_has_no_steps_and_bounded_memory() -> None:
    tracker = Tracker(VARIANT, window=12)
    for i in range(200):
        assert tracker.add(i * 5 * HOUR, 30.0, 0.0).changed == ()
    assert tracker.states() == []
    assert tracker.shown() is None
    assert tracker.viterbi() == []
    assert len(tracker._fixes) < 20


def test_the_interval_chooses_the_variant() -> None:
    model = BehaviourModel(
        name="elephant", version=1, variants=tuple(quantised(PARAMETERS, hours * HOUR, 0.25) for hours in (0.25, 1, 4))
    )

    def chosen(minutes: float) -> float:
        return model.variant_for(minutes * 60).interval_s / HOUR

    assert [chosen(minutes) for minutes in (1, 15, 18, 20, 50, 74, 110, 240)] == [0.25, 0.25, 0.25, 1, 1, 1, 4, 4]
    with pytest.raises(ModelUnavailable, match="12 h apart"):
        model.variant_for(12 * HOUR)
    assert median_interval_s(np.array([0.0, HOUR, 2 * HOUR, 9 * HOUR])) == HOUR
    assert median_interval_s(np.array([5.0])) is None


@pytest.mark.parametrize(
    ("species", "name"),
    [
        ("Loxodonta africana", "elephant"),
        ("African elephants", "elephant"),
        ("Connochaetes taurinus", "wildebeest"),
        ("cape_buffalo", "buffalo"),
        ("Panthera leo", "generic"),
        ("", "generic"),
        (None, "generic"),
    ],
)
def test_a_species_has_its_model(species: str | None, name: str) -> None:
    assert model_name(species) == name


def test_an_exported_model_is_the_one_that_runs(tmp_path: Path) -> None:
    export(tmp_path, "generic", 1, [(VARIANT, PARAMETERS)], metrics={}, trained_on=TRAINED_ON)
    model = load_model("Panthera leo", tmp_path)
    assert (model.name, model.version) == ("generic", 1)
    found: Variant = model.variants[0]
    assert np.array_equal(found.step_table, VARIANT.step_table)
    assert np.array_equal(found.log_transitions, VARIANT.log_transitions)
    assert found.state_names == ("resting", "foraging", "migrating")


def test_a_species_whose_model_is_refused_is_served_by_the_generic_one(tmp_path: Path) -> None:
    for name in ("generic", "elephant"):
        export(tmp_path, name, 1, [(VARIANT, PARAMETERS)], metrics={}, trained_on=TRAINED_ON)
    assert load_model("elephant", tmp_path).name == "elephant"
    (tmp_path / "hmm/1/elephant.bin").write_bytes(b"")
    model = load_model("elephant", tmp_path)
    assert model.name == "generic"
    assert "elephant" in model.refused[0]
    (tmp_path / "hmm/1/generic.bin").write_bytes(b"")
    with pytest.raises(ModelUnavailable):
        load_model("elephant", tmp_path)


def test_an_artefact_of_another_make_is_refused(tmp_path: Path) -> None:
    save(
        tmp_path, model="hmm", name="odd", version=1, inputs=(), metrics={}, trained_on=TRAINED_ON, licence="MIT",
        arrays={"0/step_table": (np.zeros((3, 5), dtype=np.int16), UNIT_NAT, "nat")},
        settings={
            "variants": [{"interval_s": 3600, "tolerance": 0.25, "state_names": ["a", "b", "c"], "parameters": {}}]
        },
    )  # fmt: skip
    with pytest.raises(ArtifactError, match="not of shape"):
        model_of(load(tmp_path, "hmm", 1, "odd"))


def test_every_packaged_model_loads_and_names_what_it_was_trained_on() -> None:
    for name in ("elephant", "wildebeest", "buffalo", "generic"):
        model = load_model(name)
        assert model.name == name
        assert model.refused == ()
        assert model.variant_for(HOUR).interval_s == HOUR
        manifest = load(PACKAGED, "hmm", model.version, name).manifest
        assert all(used.individuals and used.rows and used.licence for used in manifest.trained_on)
        assert all(v >= 0.999 for key, v in manifest.metrics.items() if key.endswith("quantised_viterbi_agreement"))


def test_the_station_needs_no_library_of_training() -> None:
    code = (
        "import sys, models.hmm.runtime, models.hmm.features;"
        "models.hmm.runtime.load_model('elephant');"
        "sys.exit(' '.join({'hmmlearn', 'scipy', 'sklearn', 'models.hmm.train'} & sys.modules.keys()) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_filtering_alone_is_what_decoding_filters() -> None:
    rng = np.random.default_rng(8)
    times = np.cumsum(rng.choice([HOUR, HOUR, HOUR, 1.1 * HOUR, 5 * HOUR], 400))
    place = np.cumsum(rng.normal(0.0, 0.003, (400, 2)) * rng.choice([0.0, 0.05, 1.0, 3.0], (400, 1)), axis=0)
    for variant in load_model("elephant").variants:
        rows = rows_of(times, 30.0 + place[:, 0], place[:, 1], variant.interval_s)
        assert np.abs(variant.filtered(rows) - variant.decode(rows).filtered).max(initial=0.0) < 1e-9
    nothing = rows_of(times[:1], place[:1, 0], place[:1, 1], HOUR)
    assert VARIANT.filtered(nothing).shape == (0, 3)
