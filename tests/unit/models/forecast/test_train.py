"""Training, measuring and updating on animals that never were."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from models.artifact import PACKAGED, load, versions
from models.cli import cli
from models.forecast.baselines import HORIZONS_H, FloatArray
from models.forecast.calibration import SHARES, is_known_by, own_anchors
from models.forecast.datasets import folds, read, splits
from models.forecast.engines import NumpyEngine
from models.forecast.evaluate import evaluate
from models.forecast.findings import SERVED, Evaluation, report
from models.forecast.fitted import ALL_GROUPS, SPEAKERS, Network, fitted_of, scaling_of, weights_of
from models.forecast.runtime import load_forecaster
from models.forecast.samples import samples_of
from models.forecast.train import Recipe, train
from models.forecast.update import RECIPE, update
from shared.errors import Invalid, ModelUnavailable
from tests.unit.models.forecast.commuters import HOUR_S, M_PER_DEG, write_tracks
from tests.unit.models.forecast.conftest import RECIPE as TINY

pytestmark = [pytest.mark.unit, pytest.mark.ml, pytest.mark.slow]


def quiet(text: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def evaluation(herd: Path, trained: Path) -> Evaluation:
    return evaluate(herd, herd, trained)


def test_no_part_of_a_track_sees_another() -> None:
    times = np.arange(0.0, 1_000 * HOUR_S, HOUR_S)
    found = splits(times, np.ones((1_000, len(HORIZONS_H)), dtype=bool))
    for h, hours in enumerate(HORIZONS_H):
        for part, end in ((0, 600), (1, 700)):
            assert times[found[:, h] == part].max() + hours * HOUR_S < times[end]
    assert set(np.unique(found)) == {-1, 0, 1, 2}


def test_a_fold_leaves_out_animals_of_several_species(herd: Path) -> None:
    animals = read(herd).animals
    found = folds(animals)
    assert sorted(title for fold in found for title in fold) == sorted(animal.title for animal in animals)


def test_manifests_say_what_was_trained_on_and_how(herd: Path, trained: Path) -> None:
    network = load(trained, "forecast", 1, "network").manifest
    assert {one.dataset for one in network.trained_on} == {path.name for path in herd.iterdir()}
    assert network.settings["data_sha256"].keys() == {path.name for path in herd.iterdir()}
    assert msgspec.convert(network.settings["recipe"], Recipe) == TINY
    assert set(network.settings["served"]) == set(ALL_GROUPS)
    assert any(name.startswith("validation_mean_error_m/elephant/24h/") for name in network.metrics)
    fold = load(trained, "forecast", 1, "fold1").manifest
    seen = {f"{Path(one.dataset).stem}/{name}" for one in fold.trained_on for name in one.individuals}
    assert fold.settings["left_out"]
    assert not seen & set(fold.settings["left_out"])


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    data = write_tracks(tmp_path / "data", animals=1, days=20)
    recipe = Recipe(epochs=1, hidden=4, dense=(8, 8), n_folds=0)
    for number in (1, 2):
        train(data, tmp_path / str(number), recipe=recipe, progress=quiet)
    for name in ("network", "baselines", "float"):
        one, other = (load(tmp_path / str(number), "forecast", 1, name).manifest.sha256 for number in (1, 2))
        assert one == other, name


def test_what_memory_can_foresee_is_foreseen(evaluation: Evaluation) -> None:
    """At night nobody could know where they go by the last hours alone: yesterday's and the day before's walk tells."""
    for split in ("forward", "left out"):
        rows = {
            (row.dataset, row.horizon_h, row.model): row.mean_m
            for row in evaluation.rows
            if row.split == split and row.individual is None
        }
        cells = {(dataset, hours) for dataset, hours, _ in rows if hours in (6, 12)}
        assert cells
        for dataset, hours in cells:
            assert rows[dataset, hours, SERVED] < 0.7 * rows[dataset, hours, "persistence"], (split, dataset, hours)


def test_an_evaluation_has_every_model_split_and_bar(evaluation: Evaluation) -> None:
    models = {row.model for row in evaluation.rows if row.split == "forward"}
    assert {"network, float32", "network, int8 litert", "network, int8 onnx", "network, int8 numpy", SERVED} <= models
    assert {row.split for row in evaluation.rows} == {"forward", "left out"}
    assert {row.individual for row in evaluation.rows} >= {None, "a0"}
    assert all(np.isfinite([row.mean_m, row.median_m, row.nll]).all() for row in evaluation.rows)
    assert {(one.split, one.baseline) for one in evaluation.against} >= {("forward", "ridge"), ("left out", "ridge")}
    assert all(one.low <= one.change <= one.high for one in evaluation.against)
    assert any(not bar.is_kept for bar in evaluation.bars) or all(bar.found for bar in evaluation.bars)
    assert msgspec.json.decode(msgspec.json.encode(evaluation), type=Evaluation) == evaluation
    assert "| promise | found | kept |" in report(evaluation)


def test_an_evaluation_of_the_promises_alone_finds_what_a_whole_one_finds(
    herd: Path, trained: Path, evaluation: Evaluation
) -> None:
    found = evaluate(herd, herd, trained, is_whole=False)
    assert found.speed == []
    assert found.without == []
    assert found.bars == [bar for bar in evaluation.bars if "takes less than" not in bar.promise]
    assert found.against == evaluation.against
    assert found.rows == [row for row in evaluation.rows if not row.model.startswith("network without ")]


def test_what_is_measured_is_what_a_station_says(herd: Path, trained: Path) -> None:
    """The tables rest on many anchors at once; a station asks for one, with the fixes up to then."""
    animal = read(herd).animals[0]
    fitted = fitted_of(load(trained, "forecast", 1, "network"))
    forecaster = load_forecaster(animal.species, trained, engine="numpy")
    samples = samples_of(animal, fitted.baselines)
    said = forecaster.said(samples.anchors)
    lon, lat = samples.anchors.degrees(samples.anchors.to_map(said.place_m))
    for now in (400, 707, 1_000):
        until = animal.at[now] + 1
        found = forecaster.predict(animal.times_s[:until], animal.lon_deg[:until], animal.lat_deg[:until])
        earlier = own_anchors(samples.anchors.times_s, now)
        known = is_known_by(samples.anchors.times_s[earlier], float(samples.anchors.times_s[now]))
        radius = forecaster.radii(np.where(known, said.distance(samples.target_m)[earlier], np.nan).T)
        for h, one in enumerate(found):
            away_m = np.hypot(one.lon_deg - lon[now, h], one.lat_deg - lat[now, h]) * M_PER_DEG
            longest_m = radius[h, 1] * said.spread_m[now, h].max()
            # States are worked out from the last weeks alone there, from the whole track here.
            assert away_m < 0.02 * one.ellipse90.semi_major_m
            assert 0.97 * longest_m <= one.ellipse90.semi_major_m
            assert one.n_own == int(known[:, h].sum())


@pytest.mark.parametrize("is_packaged", [True, False])
def test_an_animal_of_a_kind_that_nothing_was_learned_of_is_drawn_half_way_to_where_it_stands(
    herd: Path, trained: Path, is_packaged: bool
) -> None:
    folder = PACKAGED if is_packaged else trained
    other, persistence = ALL_GROUPS.index("other"), SPEAKERS.index("persistence")
    for path in sorted((folder / "forecast" / "1").glob("*.json")):
        fitted = fitted_of(load(folder, "forecast", 1, path.stem))
        assert fitted.served_plain[other].tolist() == [persistence] * 5, path.stem
        assert fitted.share[other].tolist() == [0.5] * 5, path.stem
        # No validation part chooses persistence alone for it: it says as little of strangers as of the share.
        assert fitted.served[other].tolist() == [SPEAKERS.index("network")] * 5, path.stem
    (animal, *_) = read(herd).animals
    lion = load_forecaster("lion", folder, engine="numpy")
    samples = samples_of(msgspec.structs.replace(animal, group=None), lion._fitted.baselines)
    own = lion.network().distribution(samples.anchors, lion._fitted.growth).place_m
    np.testing.assert_allclose(lion.by_speaker(samples.anchors)["network"].place_m, own / 2)


def test_a_strangers_ellipses_hold_their_share_of_the_validation_truths_around_the_place_that_is_served(
    herd: Path, trained: Path
) -> None:
    loaded = load(trained, "forecast", 1, "float")
    fitted, engine = fitted_of(loaded), NumpyEngine(weights_of(loaded))
    network = Network(engine=engine, scaling=scaling_of(loaded, engine.n_context), version=1)
    away: list[list[FloatArray]] = [[] for _ in HORIZONS_H]
    for animal in read(herd).animals:
        samples = samples_of(animal, fitted.baselines).of_part(1)
        said = network.distribution(samples.anchors, fitted.growth)
        served = msgspec.structs.replace(said, place_m=said.place_m / 2)
        distance = served.distance(samples.target_m)
        for h, of_horizon in enumerate(away):
            of_horizon.append(distance[samples.split[:, h] == 1, h])
    radii = load_forecaster("lion", trained, engine="numpy").radii(np.full((len(HORIZONS_H), 1), np.nan))
    for h, of_horizon in enumerate(away):
        truths = np.concatenate(of_horizon)
        inside = (truths[:, None] <= radii[h]).mean(axis=0)
        np.testing.assert_allclose(inside, SHARES, atol=0.02, err_msg=f"{HORIZONS_H[h]} h")


def test_int8_costs_next_to_nothing(evaluation: Evaluation) -> None:
    assert {cost.engine for cost in evaluation.int8} == {"litert", "onnx", "numpy"}
    for cost in evaluation.int8:
        assert cost.mean <= 0.005, cost
        assert cost.bytes < 200_000


def test_more_training_on_recent_tracks_is_promoted(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "artifacts")
    data = write_tracks(tmp_path / "recent", first_seed=31)
    longer = msgspec.structs.replace(RECIPE, epochs=6, rate=3e-3, batch=128)
    found = update(data, tmp_path / "artifacts", recipe=longer, progress=quiet)
    assert found.is_promoted, found
    assert found.high < 0
    assert found.untested == ("buffalo", "other")
    assert versions(tmp_path / "artifacts", "forecast") == [2, 1]
    settings = load(tmp_path / "artifacts", "forecast", 2, "network").manifest.settings
    assert settings["updated_from"] == 1
    assert settings["held_out_change"] == [found.change, found.low, found.high]


def test_an_update_that_is_no_better_leaves_everything_as_it_is(herd: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "artifacts")
    idle = msgspec.structs.replace(RECIPE, epochs=1, rate=1e-9, decay=0.0)
    found = update(herd, tmp_path / "artifacts", recipe=idle, progress=quiet)
    assert not found.is_promoted, found
    assert found.version == found.version_before == 1
    assert versions(tmp_path / "artifacts", "forecast") == [1]


def test_an_update_needs_something_to_go_on_from(herd: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable):
        update(herd, tmp_path, progress=quiet)
    with pytest.raises(Invalid):
        train(tmp_path, tmp_path, progress=quiet)


def test_the_program_measures_the_packaged_network_on_any_tracks(herd: Path) -> None:
    done = CliRunner().invoke(cli, ["evaluate", "forecast", "--data", str(herd), "--json"])
    assert done.exit_code == 0, done.output
    found = msgspec.json.decode(done.stdout)["forecast"]
    assert {row["model"] for row in found["rows"]} >= {SERVED, "persistence", "ridge", "network, float32"}


def test_the_program_updates_and_verifies(herd: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "artifacts")
    runner = CliRunner()
    done = runner.invoke(
        cli, ["update", "forecast", "--data", str(herd), "--artifacts", str(tmp_path / "artifacts"), "--json"]
    )
    assert done.exit_code == 0, done.output
    found = msgspec.json.decode(done.stdout)["forecast"]
    assert found["version_before"] == 1
    assert found["is_promoted"] == (found["version"] == 2)
    verified = runner.invoke(cli, ["verify", "forecast", "--artifacts", str(tmp_path / "artifacts"), "--json"])
    names = {one["artifact"] for one in msgspec.json.decode(verified.stdout)}
    assert names >= {f"forecast/1/{name}" for name in ("network", "baselines", "float", "fold1")}
