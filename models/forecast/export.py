"""From trained weights to artefacts: int8 for three engines, the plain forecasts alone, float weights to go on from.

Before anything is written each engine opens what it will be given and must answer a made-up question as the float
network does, within what int8 may cost; what it answered is in the manifest.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from models.artifact import Input, Manifest, TrainingSet, save
from models.forecast.baselines import HORIZONS_H
from models.forecast.engines import (
    LAYERS,
    Engine,
    Float32Array,
    LiteRtEngine,
    NumpyEngine,
    OnnxEngine,
    dequantised,
    quantised,
)
from models.forecast.features import N_CONTEXT, N_TOKENS, TOKEN_WIDTH
from models.forecast.fitted import ALL_GROUPS, SPEAKERS, Fitted, Scaling
from models.forecast.tflite import tflite_of
from shared.errors import ArtifactError

if TYPE_CHECKING:
    from models.forecast.train import Learned

LICENCE: Final = "MIT"

_INPUTS: Final = (
    Input(name="time", unit="s"),
    Input(name="longitude", unit="degree"),
    Input(name="latitude", unit="degree"),
    Input(name="state probability", unit="1"),
)
#: An engine may differ from the float network on the made-up question by as much; numbers are of the order of one.
_MOST_DEVIATION: Final = {"numpy": 0.1, "litert": 0.1, "onnx": 0.25}

Arrays = dict[str, tuple[npt.NDArray[Any], float, str]]


def export_network(
    folder: Path,
    version: int,
    learned: Learned,
    sets: tuple[TrainingSet, ...],
    metrics: Mapping[str, float],
    settings: Mapping[str, Any],
    probe: tuple[Float32Array, Float32Array],
) -> Manifest:
    """Write the network for each engine with all fitted numbers; raises ArtifactError where an engine is off."""
    int8, plain = int8_of(learned.weights)
    files = {
        "onnx": onnx_of(learned.weights),
        "tflite": tflite_of(
            {layer: quantised(learned.weights[f"{layer}_weight"]) for layer in LAYERS}, _biases(learned)
        ),
    }
    expected = NumpyEngine(learned.weights).heads(*probe)
    engines: dict[str, Engine] = {
        "numpy": plain,
        "litert": LiteRtEngine(files["tflite"]),
        "onnx": OnnxEngine(files["onnx"]),
    }
    deviations = {name: float(np.abs(engine.heads(*probe) - expected).max()) for name, engine in engines.items()}
    for name, deviation in deviations.items():
        if not deviation <= _MOST_DEVIATION[name]:
            raise ArtifactError(f"forecast: {name} is off the float network by {deviation:g} on the stored question")
    arrays: Arrays = {
        **_fitted_arrays(learned.fitted),
        **_scaling_arrays(learned.scaling),
        **int8,
        **{name: (np.frombuffer(data, dtype=np.uint8), 1.0, "byte") for name, data in files.items()},
        "probe_tokens": (probe[0], 1.0, "1"),
        "probe_context": (probe[1], 1.0, "1"),
        "probe_heads": (expected, 1.0, "1"),
    }
    sizes = {f"bytes/{name}": float(len(data)) for name, data in files.items()}
    sizes["bytes/numpy"] = float(sum(values.nbytes for values, _, _ in int8.values()))
    return _save(
        folder,
        "network",
        version,
        arrays,
        {**metrics, **{f"deviation/{name}": value for name, value in deviations.items()}, **sizes},
        sets,
        {**_served(learned.fitted), **settings},
    )


def export_baselines(
    folder: Path,
    version: int,
    fitted: Fitted,
    sets: tuple[TrainingSet, ...],
    metrics: Mapping[str, float],
    settings: Mapping[str, Any],
) -> Manifest:
    """Write the plain forecasts alone, which serve where no network is usable."""
    plain = {name: value for name, value in metrics.items() if not name.endswith("/network")}
    return _save(folder, "baselines", version, _fitted_arrays(fitted), plain, sets, {**_served(fitted), **settings})


def export_float(
    folder: Path,
    version: int,
    learned: Learned,
    sets: tuple[TrainingSet, ...],
    metrics: Mapping[str, float],
    settings: Mapping[str, Any],
) -> Manifest:
    """Write the float32 weights: what int8 is measured against, and what an update starts from."""
    arrays: Arrays = {
        **_fitted_arrays(learned.fitted),
        **_scaling_arrays(learned.scaling),
        **{name: (values, 1.0, "1") for name, values in learned.weights.items()},
    }
    return _save(folder, "float", version, arrays, metrics, sets, {**_served(learned.fitted), **settings})


def export_fold(
    folder: Path, version: int, fold: int, learned: Learned, left_out: Sequence[str], sets: tuple[TrainingSet, ...]
) -> Manifest:
    """Write a network that has never seen the individuals ``left_out``, for ``evaluate``."""
    arrays: Arrays = {
        **_fitted_arrays(learned.fitted),
        **_scaling_arrays(learned.scaling),
        **int8_of(learned.weights)[0],
    }
    settings = {**_served(learned.fitted), "left_out": list(left_out)}
    return _save(folder, f"fold{fold}", version, arrays, {}, sets, settings)


def int8_of(weights: Mapping[str, Float32Array]) -> tuple[Arrays, NumpyEngine]:
    """Return the int8 arrays of the weights, and the engine that runs them."""
    arrays: Arrays = {}
    plain: dict[str, Float32Array] = {}
    for layer in LAYERS:
        values, scale = quantised(weights[f"{layer}_weight"])
        arrays[f"{layer}_weight"] = (values, 1.0, "scale of the row")
        arrays[f"{layer}_scale"] = (scale, 1.0, "1")
        arrays[f"{layer}_bias"] = (weights[f"{layer}_bias"], 1.0, "1")
        plain[f"{layer}_weight"] = dequantised(values, scale)
        plain[f"{layer}_bias"] = weights[f"{layer}_bias"]
    return arrays, NumpyEngine(plain)


def onnx_of(weights: Mapping[str, Float32Array]) -> bytes:
    """Return the network as ONNX with int8 weights and activations that are quantised as they come.

    The tracing exporter is used on purpose: after the newer one the recurrent layer silently stays float.
    """
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from models.forecast.train import net_of

    net = net_of(weights).eval()
    given = (torch.zeros(2, N_TOKENS, TOKEN_WIDTH), torch.zeros(2, N_CONTEXT))
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        source, target = Path(place) / "float.onnx", Path(place) / "int8.onnx"
        # The tracing exporter is deprecated; the reason to stay with it is above.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            given,
            source,
            input_names=["tokens", "context"],
            output_names=["heads"],
            dynamic_axes={"tokens": {0: "n"}, "context": {0: "n"}, "heads": {0: "n"}},
            opset_version=17,
            dynamo=False,
        )
        # It advises a pre-processing that changes nothing here.
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)
        finally:
            logging.disable(logging.NOTSET)
        return target.read_bytes()


def _biases(learned: Learned) -> dict[str, Float32Array]:
    return {layer: learned.weights[f"{layer}_bias"] for layer in LAYERS}


def _fitted_arrays(fitted: Fitted) -> Arrays:
    stacked = {
        "growth": (fitted.growth, "scale"),
        "damping": (np.stack([one.damping for one in fitted.baselines]), "1"),
        "ridge": (np.stack([one.ridge for one in fitted.baselines]), "1"),
        "walk": (np.stack([one.walk for one in fitted.baselines]), "1"),
        "walk_unknown": (np.stack([one.walk_unknown for one in fitted.baselines]), "1"),
        "spread": (fitted.spread, "unit"),
        "levels": (fitted.levels, "spread"),
        "share": (fitted.share, "1"),
    }
    return {name: (values.astype(np.float32), 1.0, unit) for name, (values, unit) in stacked.items()}


def _scaling_arrays(scaling: Scaling) -> Arrays:
    return {
        "context_mean": (scaling.mean.astype(np.float32), 1.0, "1"),
        "context_deviation": (scaling.deviation.astype(np.float32), 1.0, "1"),
    }


def _served(fitted: Fitted) -> dict[str, Any]:
    def named(numbers: npt.NDArray[np.int64]) -> dict[str, list[str]]:
        return {group: [SPEAKERS[int(i)] for i in numbers[g]] for g, group in enumerate(ALL_GROUPS)}

    return {
        "groups": list(ALL_GROUPS),
        "horizons_h": list(HORIZONS_H),
        "served": named(fitted.served),
        "served_plain": named(fitted.served_plain),
    }


def _save(
    folder: Path,
    name: str,
    version: int,
    arrays: Arrays,
    metrics: Mapping[str, float],
    sets: tuple[TrainingSet, ...],
    settings: Mapping[str, Any],
) -> Manifest:
    return save(
        folder,
        model="forecast",
        name=name,
        version=version,
        inputs=_INPUTS,
        arrays=arrays,
        metrics=metrics,
        trained_on=sets,
        licence=LICENCE,
        settings=settings,
    )
