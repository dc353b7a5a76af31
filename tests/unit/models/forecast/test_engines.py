"""One network in torch, numpy, LiteRT and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.forecast.baselines import HORIZONS_H
from models.forecast.engines import LAYERS, Float32Array, LiteRtEngine, NumpyEngine, OnnxEngine, dequantised, quantised
from models.forecast.export import int8_of, onnx_of
from models.forecast.features import N_CONTEXT, N_TOKENS, TOKEN_WIDTH
from models.forecast.heads import WIDTH
from models.forecast.tflite import tflite_of
from models.forecast.train import Net, net_of
from shared.errors import ArtifactError

pytestmark = [pytest.mark.unit, pytest.mark.ml]


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(3)
    return Net(16, (24, 20), 0.0).eval()


@pytest.fixture(scope="module")
def weights(net: Net) -> dict[str, Float32Array]:
    return net.weights()


def question(n: int, seed: int = 1) -> tuple[Float32Array, Float32Array]:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(0, 1, (n, N_TOKENS, TOKEN_WIDTH)).astype(np.float32),
        np.clip(rng.normal(0, 1, (n, N_CONTEXT)), -5, 5).astype(np.float32),
    )


def test_numpy_says_what_torch_says(net: Net, weights: dict[str, Float32Array]) -> None:
    tokens, context = question(7)
    with torch.no_grad():
        expected = net(torch.tensor(tokens), torch.tensor(context)).numpy()
    assert np.abs(NumpyEngine(weights).heads(tokens, context) - expected).max() < 1e-6
    with torch.no_grad():
        again = net_of(weights)(torch.tensor(tokens), torch.tensor(context)).numpy()
    assert np.abs(again - expected).max() < 1e-6


@pytest.mark.parametrize("n", [0, 1_023, 1_024, 1_025, 2_500])
def test_numpy_says_the_same_of_many_anchors_as_of_few(weights: dict[str, Float32Array], n: int) -> None:
    engine = NumpyEngine(weights)
    tokens, context = question(n)
    found = engine.heads(tokens, context)
    few = [engine.heads(tokens[at : at + 100], context[at : at + 100]) for at in range(0, n, 100)]
    assert found.shape == (n, len(HORIZONS_H), WIDTH)
    np.testing.assert_allclose(found, np.concatenate([found[:0], *few]), atol=1e-5)


def test_int8_weights_are_within_half_a_step(weights: dict[str, Float32Array]) -> None:
    for layer in LAYERS:
        weight = weights[f"{layer}_weight"]
        values, scale = quantised(weight)
        assert values.dtype == np.int8
        assert (np.abs(dequantised(values, scale) - weight) <= 0.5001 * scale[:, None]).all()


def test_litert_says_to_the_last_digits_what_int8_numpy_says(weights: dict[str, Float32Array]) -> None:
    _, plain = int8_of(weights)
    engine = LiteRtEngine(
        tflite_of(
            {layer: quantised(weights[f"{layer}_weight"]) for layer in LAYERS},
            {layer: weights[f"{layer}_bias"] for layer in LAYERS},
        )
    )
    # More animals than before, fewer, and one.
    for n in (1, 33, 5, 1):
        assert np.abs(engine.heads(*question(n, n)) - plain.heads(*question(n, n))).max() < 2e-6


def test_onnx_runtime_is_int8_and_near_the_float_network(weights: dict[str, Float32Array]) -> None:
    model = onnx_of(weights)
    # The recurrent layer too: an exporter that leaves it float does so without a word.
    assert b"DynamicQuantizeLSTM" in model
    engine = OnnxEngine(model)
    expected = NumpyEngine(weights).heads(*question(64))
    found = engine.heads(*question(64))
    assert np.abs(found - expected).max() < 0.1
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_what_is_no_model_is_refused() -> None:
    for engine in (LiteRtEngine, OnnxEngine):
        with pytest.raises(ArtifactError, match="cannot open it"):
            engine(b"not a model at all, but long enough to look at")


def test_weights_that_do_not_fit_are_refused(weights: dict[str, Float32Array]) -> None:
    with pytest.raises(ValueError, match="head"):
        NumpyEngine({**weights, "head_weight": weights["head_weight"][:-1]})
