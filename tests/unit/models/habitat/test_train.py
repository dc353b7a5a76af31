"""Training on simulated maps and animals: what is learned, what is written, what is refused."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.artifact import load
from models.habitat import figures, folds
from models.habitat.datasets import Points, Settings, animals_of, points_of, settings_in, studies_in
from models.habitat.evaluate import Evaluation, evaluate, report
from models.habitat.features import open_rasters
from models.habitat.metrics import auc
from models.habitat.runtime import load_model
from models.habitat.train import aligned, fit, fitted, held_out, pooled, train, weights_of
from shared.errors import Invalid
from tests.unit.models.habitat.maps import write_reserve

pytestmark = [pytest.mark.unit, pytest.mark.ml]

FAST = Settings(rounds=30, per_used=4)


@pytest.fixture(scope="module")
def reserve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_reserve(tmp_path_factory.mktemp("reserve"), animals=3, fixes=500)
    (folder / "habitat.toml").write_text("rounds = 30\nper_used = 4\nblock_m = 2500\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def places(reserve: Path) -> Points:
    (study,) = studies_in(reserve)
    with open_rasters(study.rasters) as maps:
        return points_of(animals_of(reserve, study), maps, FAST, seed=1)


@pytest.fixture(scope="module")
def measured(reserve: Path) -> Evaluation:
    return evaluate(reserve, reserve, seeds=2)


def test_a_reserves_own_animals_make_a_model_that_a_station_runs(tmp_path: Path, reserve: Path) -> None:
    written = train(reserve, tmp_path)
    assert [(one.name, one.version) for one in written] == [("elephant", 1), ("generic", 1)]
    manifest = load(tmp_path, "habitat", 1, "elephant").manifest
    assert manifest.metrics["auc"] > 0.6
    assert manifest.metrics["quantisation_max_dp"] < 1e-4
    assert manifest.trained_on[0].individuals == ("animal 0", "animal 1", "animal 2")
    gain = manifest.settings["gain"]
    assert sum(gain.values()) == pytest.approx(1.0, abs=0.01)
    liked = sum(share for name, share in gain.items() if name.startswith(("elevation", "distance_to_water")))
    assert liked > 0.6
    found = load_model("Loxodonta africana", tmp_path)
    assert (found.held_out, found.months) == ("animals", (1,))
    assert [one.version for one in train(reserve, tmp_path)] == [2, 2]


def test_the_same_places_and_seed_make_the_same_model(places: Points) -> None:
    first, second = (fit(places, FAST, seed=4).log_odds(places.values) for _ in range(2))
    assert (first == second).all()
    assert (first != fit(places, FAST, seed=5).log_odds(places.values)).any()


def test_a_fold_is_scored_by_a_model_that_has_not_seen_it(places: Points) -> None:
    fold = folds.block_folds(places.x_m, places.y_m, 1, 2_500.0)
    seen: list[set[tuple[float, float]]] = []

    def predict(known: Points, unknown: Points) -> np.ndarray:
        inside = set(zip(known.x_m.tolist(), known.y_m.tolist(), strict=True))
        assert not inside & set(zip(unknown.x_m.tolist(), unknown.y_m.tolist(), strict=True))
        seen.append(inside)
        return np.full(unknown.x_m.size, float(len(seen)))

    scores = held_out(places, fold, predict)
    assert len(seen) == folds.FOLDS
    assert np.isfinite(scores).all()
    assert auc(places.is_used, held_out(places, fold, fitted(FAST, 1))) > 0.6


def test_used_and_available_weigh_the_same_and_crowded_squares_less(places: Points) -> None:
    weights = weights_of(places, FAST)
    used = places.is_used > 0
    assert weights[used].sum() == pytest.approx(weights[~used].sum())
    even = weights_of(places, msgspec.structs.replace(FAST, crowding=1.0))
    squares = folds.blocks(places.x_m, places.y_m) + 1_000 * places.animal
    sums = [even[used & (squares == square)].sum() for square in np.unique(squares[used])]
    assert sums == pytest.approx([sums[0]] * len(sums))
    assert weights_of(places, msgspec.structs.replace(FAST, crowding=0.0))[used].std() == pytest.approx(0.0)


def test_a_covariate_that_may_only_rise_never_lowers_suitability(places: Points) -> None:
    settings = msgspec.structs.replace(FAST, rising=("distance_to_water",))
    model = fit(places, settings, seed=1)
    rows = np.repeat(places.values[:50], 40, axis=0)
    rows[:, places.names.index("distance_to_water")] = np.tile(np.linspace(0, 4_000, 40), 50)
    assert (np.diff(model.log_odds(rows).reshape(50, 40), axis=1) >= -1e-9).all()
    free = fit(places, FAST, seed=1).log_odds(rows).reshape(50, 40)
    # These animals keep to the water: free to say so, the model falls.
    assert (np.diff(free, axis=1) < -0.001).any()
    for wrong in ({"rising": ("depth_of_snow",)}, {"rising": ("elevation",), "falling": ("elevation",)}):
        with pytest.raises(Invalid, match=r"habitat\.toml"):
            fit(places, msgspec.structs.replace(FAST, **wrong), seed=1)


def test_steps_are_available_too(reserve: Path) -> None:
    (study,) = studies_in(reserve)
    with open_rasters(study.rasters) as maps:
        animals = animals_of(reserve, study)
        found = points_of(animals, maps, msgspec.structs.replace(FAST, availability="steps"), seed=1)
    assert 0 < found.is_used.sum() < sum(one.times_s.size for one in animals)
    fold = folds.block_folds(found.x_m, found.y_m, 1, 2_500.0)
    assert auc(found.is_used, held_out(found, fold, fitted(FAST, 1))) > 0.55


def test_there_is_no_more_available_than_is_allowed(reserve: Path) -> None:
    (study,) = studies_in(reserve)
    with open_rasters(study.rasters) as maps:
        settings = msgspec.structs.replace(FAST, per_used=10, most_available=3_200)
        found = points_of(animals_of(reserve, study), maps, settings, seed=1)
    assert found.is_used.sum() == 1_500
    assert found.is_used.size <= 3 * 1_500


def test_sets_without_a_map_of_the_other_are_pooled_with_holes(places: Points) -> None:
    other = msgspec.structs.replace(aligned(places, ("woody_cover", "ndvi")), own=("woody_cover",))
    both = pooled([places, other])
    assert both.names == (*places.names, "ndvi")
    assert both.individuals == (*places.individuals, *places.individuals)
    assert set(both.animal.tolist()) == set(range(6))
    half = places.is_used.size
    assert np.isnan(both.values[half:, both.names.index("elevation")]).all()
    assert np.isnan(both.values[:, both.names.index("ndvi")]).all()


def test_an_animal_that_likes_nothing_gets_no_model(tmp_path: Path, reserve: Path) -> None:
    for name in ("ground.tif", "rasters.toml", "habitat.toml"):
        (tmp_path / name).write_bytes((reserve / name).read_bytes())
    with (reserve / "tracks.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    rng = np.random.default_rng(1)
    lon, lat = (np.array([float(row[place]) for row in rows[1:]]) for place in (2, 3))
    with (tmp_path / "tracks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        for row in rows[1:]:
            place = (rng.uniform(lon.min(), lon.max()), rng.uniform(lat.min(), lat.max()))
            writer.writerow((*row[:2], *(f"{value:.6f}" for value in place), row[4]))
    with pytest.raises(Invalid, match="better than chance"):
        train(tmp_path, tmp_path / "artifacts")
    assert not (tmp_path / "artifacts").exists()


def test_the_figures_of_a_reserve_are_measured_drawn_and_reported(reserve: Path, measured: Evaluation) -> None:
    assert [one.cut for one in measured.skill] == ["blocks of 2.5 km", "animals", "random (flatters)"]
    means = []
    for row in measured.skill:
        assert row.auc.mean is not None
        assert row.auc.low is not None
        assert row.auc.high is not None
        assert 0.6 < row.auc.low <= row.auc.mean <= row.auc.high < 1
        assert row.used == 1_500
        means.append(row.auc.mean)
    assert means[2] > means[0]
    assert {one.individual for one in measured.animals} == {"animal 0", "animal 1", "animal 2"}
    (rounded,) = measured.quantisation
    assert rounded.max_dp < 1e-4
    assert rounded.top_cells == rounded.top_cells_shared == 272
    printed = reserve / "printed.json"
    printed.write_bytes(msgspec.json.encode({"habitat": measured}))
    (picture,) = figures.write(printed, reserve / "figures")
    drawn = ET.fromstring(picture.read_text(encoding="utf-8"))
    assert len(drawn.findall("{*}circle")) == 3 * 3 * 2
    with pytest.raises(Invalid, match="evaluate habitat --json"):
        figures.write(reserve / "tracks.csv")
    text = report(measured)
    assert "random (flatters)" in text
    assert "| elephant | animal 1 |" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [("rounds = 0", ">= 1"), ("depth = 9", "<= 6"), ("colour = 1", "unknown field"), ("rounds = [", "habitat.toml")],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "habitat.toml").write_text(text, encoding="utf-8")
    with pytest.raises(Invalid) as error:
        settings_in(tmp_path)
    assert said in error.value.detail


def test_a_folder_without_maps_tracks_or_fixes_is_refused(tmp_path: Path, reserve: Path) -> None:
    with pytest.raises(Invalid, match=r"no rasters\.toml"):
        studies_in(tmp_path)
    for name in ("ground.tif", "rasters.toml"):
        (tmp_path / name).write_bytes((reserve / name).read_bytes())
    with pytest.raises(Invalid, match="no track file"):
        studies_in(tmp_path)
    track = tmp_path / "a.csv"
    track.write_text("individual,timestamp,lon,lat\nA,2024-01-01T00:00:00Z,31.2,-24.4\n", encoding="utf-8")
    (study,) = studies_in(tmp_path)
    with pytest.raises(Invalid, match="100 fixes"):
        animals_of(tmp_path, study)
    lines = [
        f"A,2024-01-{day:02d}T{hour:02d}:00:00Z,10.{hour:02d},20.{day:02d}"
        for day in (1, 2, 3, 4, 5)
        for hour in range(24)
    ]
    track.write_text("individual,timestamp,lon,lat\n" + "\n".join(lines) + "\n", encoding="utf-8")
    with open_rasters(study.rasters) as maps, pytest.raises(Invalid, match="no fix of A lies on the maps"):
        points_of(animals_of(tmp_path, study), maps, FAST, seed=1)
