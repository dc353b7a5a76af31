"""The packaged policies: they arrive on ground never trained on, int8 chooses alike, nothing is unpickled."""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.artifact import PACKAGED, load, save
from models.corridor import studies
from models.corridor.exact import least_cost
from models.corridor.observation import SIZE
from models.corridor.planner import generate
from models.corridor.pools import training_pool
from models.corridor.runtime import ALGORITHMS, Session, int8_policy, layers_of, load_policy, policy_of, routes
from models.corridor.scores import check_path, cost_of
from models.corridor.surface import Cell, plain_surface
from models.corridor.walkers import Walkers
from shared.errors import ArtifactError, Invalid, ModelUnavailable

pytestmark = [pytest.mark.unit, pytest.mark.corridors, pytest.mark.ml]


def test_ppo_alone_arrives_and_with_search_is_nearly_exact_on_unseen_ground() -> None:
    policy = load_policy("ppo")
    alone, searched = [], []
    for case in studies.generated(48, 12):
        bound = cost_of(case.surface, least_cost(*case))
        path = routes(policy, *case, count=2)[0]
        alone.append(np.inf if path is None else cost_of(case.surface, path) / bound)
        found = generate(*case, algorithm="ppo")
        check_path(case.surface, found.path)
        searched.append(found.scores.cost_ratio)
    assert np.isfinite(alone).mean() >= 0.9
    assert np.median(alone) <= 1.15
    assert np.median(searched) <= 1.02


@pytest.mark.parametrize("name", ALGORITHMS)
def test_int8_chooses_as_float_does(name: str) -> None:
    policy = load_policy(name)
    crowd = Walkers(training_pool(1_500_000, 6, (48, 48), goals=2), 128, has_terms=False)
    obs, session, same = crowd.reset(1), Session(policy.onnx), []
    for _ in range(20):
        scores = [np.where(crowd.is_open, one.scores(obs), -np.inf) for one in (policy, session)]
        same.append((scores[0].argmax(axis=1) == scores[1].argmax(axis=1)).mean())
        obs = crowd.step(scores[0].argmax(axis=1)).obs
    assert np.mean(same) >= 0.99
    assert load(PACKAGED, "corridor", policy.version, name).manifest.metrics["int8_agreement"] >= 0.99


def test_the_same_seed_is_the_same_route() -> None:
    case = next(iter(studies.generated(48, 1)))
    one, again = (generate(*case, algorithm="ppo", seed=3) for _ in range(2))
    assert np.array_equal(one.path, again.path)
    assert one.scores == again.scores


def test_a_species_that_no_policy_was_trained_for_gets_none() -> None:
    case = next(iter(studies.generated(48, 1)))
    with pytest.raises(ModelUnavailable, match="zebra"):
        generate(*case, algorithm="ppo", species="Grevy's zebra")
    assert load_policy("ppo").knows("African elephant") == "elephant"
    assert generate(*case, algorithm="least_cost", species="Grevy's zebra").scores.cost_ratio == 1.0


def test_islands_and_algorithms_that_there_are_not_are_refused() -> None:
    cost = np.ones((20, 20))
    cost[10] = np.nan
    with pytest.raises(Invalid, match="unwalkable ground"):
        generate(plain_surface(cost, 100.0), Cell(2, 2), Cell(18, 18), algorithm="ppo")
    with pytest.raises(Invalid, match="algorithm"):
        generate(plain_surface(cost, 100.0), Cell(2, 2), Cell(5, 5), algorithm="a2c")  # type: ignore[arg-type]


def test_an_artefact_that_is_no_policy_is_refused() -> None:
    loaded = load(PACKAGED, "corridor", 1, "ppo_float")
    narrow = {**loaded.arrays, "weights_1": loaded.arrays["weights_1"][:5]}
    with pytest.raises(ArtifactError, match="layer 1"):
        layers_of(msgspec.structs.replace(loaded, arrays=narrow))
    with pytest.raises(ArtifactError, match="eight moves"):
        layers_of(load(PACKAGED, "corridor", 1, "ppo"))
    with pytest.raises(ArtifactError, match="no network"):
        policy_of(msgspec.structs.replace(load(PACKAGED, "corridor", 1, "ppo"), arrays={}))


def test_a_policy_that_was_brought_in_one_file_walks_as_its_two_do() -> None:
    small, whole = (load(PACKAGED, "corridor", 1, name) for name in ("ppo", "ppo_float"))
    brought = policy_of(msgspec.structs.replace(small, arrays={**small.arrays, **whole.arrays}))
    ours = load_policy("ppo")
    assert brought.onnx == ours.onnx
    for (weights, bias), (own, own_bias) in zip(brought.layers, ours.layers, strict=True):
        assert np.array_equal(weights, own)
        assert np.array_equal(bias, own_bias)
    for (weights, _), (own, _) in zip(int8_policy(brought).layers, policy_of(small).layers, strict=True):
        assert np.array_equal(weights, own)


@pytest.mark.parametrize("damage", ["gone", "altered", "of another policy"])
def test_without_its_float_form_the_int8_network_walks_and_says_why(damage: str, tmp_path: Path) -> None:
    place = tmp_path / "corridor" / "1"
    shutil.copytree(PACKAGED / "corridor" / "1", place)
    data = (place / "ppo_float.bin").read_bytes()
    if damage == "gone":
        (place / "ppo_float.json").unlink()
    elif damage == "altered":
        (place / "ppo_float.bin").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    else:
        network = int8_policy(load_policy("ppo")).layers
        wide = [(network[0][0][:, :9], network[0][1][:9]), (np.zeros((9, 8), np.float32), np.zeros(8, np.float32))]
        arrays = {f"{part}_{n}": (v, 1.0, "1") for n, two in enumerate(wide)
                  for part, v in zip(("weights", "bias"), two, strict=True)}  # fmt: skip
        save(
            tmp_path, model="corridor", name="ppo_float", version=1, inputs=(), arrays=arrays, metrics={},
            trained_on=(), licence="MIT", settings={},
        )  # fmt: skip
    policy = load_policy("ppo", tmp_path)
    assert len(policy.refused) == (damage != "gone")
    for (weights, _), (own, _) in zip(policy.layers, int8_policy(policy).layers, strict=True):
        assert np.array_equal(weights, own)
    case = next(iter(studies.generated(48, 1)))
    assert generate(*case, algorithm="ppo", folder=tmp_path).scores.cost_ratio < 1.1


def test_the_zip_is_read_without_a_pickle_and_is_the_policy(tmp_path: Path) -> None:
    train = pytest.importorskip("models.corridor.train")
    loaded = load(PACKAGED, "corridor", 1, "ppo_float")
    layers = train.layers_of_zip(loaded.arrays["sb3_zip"].tobytes())
    for (weights, bias), (ours, own_bias) in zip(layers, load_policy("ppo").layers, strict=True):
        assert np.array_equal(weights, ours)
        assert np.array_equal(bias, own_bias)
    trap = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(trap).touch, ())  # type: ignore[return-value]

    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("policy.pth", pickle.dumps(Trap()))
    with pytest.raises(ArtifactError, match="without running"):
        train.weights_of_zip(made.getvalue())
    assert not trap.exists()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_int8_network_scores_in_numpy_as_onnx_runtime_does(algorithm: str) -> None:
    policy = load_policy(algorithm)
    rng = np.random.default_rng(5)
    obs = rng.normal(0, 2, (2_000, SIZE)).astype(np.float32)
    ours, theirs = int8_policy(policy).scores(obs), Session(policy.onnx).scores(obs)
    # where its processor has short sums for it, ONNX Runtime rounds on the way
    np.testing.assert_allclose(ours, theirs, atol=0.01 * float(np.abs(theirs).max()), rtol=0)
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.99
    assert not np.array_equal(ours, policy.scores(obs))  # it is the rounded network and not the float one


def test_a_network_that_is_cut_off_or_of_another_shape_is_refused() -> None:
    policy = load_policy("ppo")
    for onnx in (policy.onnx[:-40], b"", b"no network", policy.onnx[: len(policy.onnx) // 2]):
        with pytest.raises(ArtifactError):
            int8_policy(msgspec.structs.replace(policy, onnx=onnx))
    with pytest.raises(ArtifactError, match="not those of its float32 form"):
        int8_policy(msgspec.structs.replace(policy, layers=policy.layers[:-1]))
