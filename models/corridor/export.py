"""From layers to two artefacts: int8 ONNX for stations; float32 layers for the cloud, with SB3's own zip."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, checker, helper, numpy_helper

from models.artifact import Input, Manifest, TrainingSet, save
from models.corridor.observation import SIZE
from models.corridor.pools import training_pool
from models.corridor.runtime import Policy, Session, float_name
from models.corridor.surface import Float32Array
from models.corridor.walkers import Walkers
from shared.errors import ArtifactError

#: Share of moves that the int8 network must choose as the float one does.
LEAST_AGREEMENT: Final = 0.99
#: Seed of the landscapes on which agreement is measured: no policy was trained on them.
_AGREEMENT_SEED: Final = 1_900_000
#: Seed of those that weights are rounded on.
_ROUNDING_SEED: Final = 90_000

Layers = Sequence[tuple[Float32Array, Float32Array]]


def export(
    folder: Path,
    *,
    algorithm: str,
    version: int,
    zipped: bytes,
    layers: Layers,
    species: tuple[str, ...],
    trained_on: tuple[TrainingSet, ...],
    settings: Mapping[str, Any],
) -> list[Manifest]:
    """Write a policy, and its float32 form; raises ArtifactError where int8 chooses other moves too often."""
    onnx = int8_onnx(layers)
    agreed = agreement(layers, onnx)
    if agreed < LEAST_AGREEMENT:
        raise ArtifactError(f"{algorithm}: int8 agrees on {agreed:.2%} of moves, {LEAST_AGREEMENT:.0%} are needed")
    whole: dict[str, tuple[Any, float, str]] = {}
    for number, (weights, bias) in enumerate(layers):
        whole[f"weights_{number}"] = (weights, 1.0, "1")
        whole[f"bias_{number}"] = (bias, 1.0, "1")
    whole["sb3_zip"] = (np.frombuffer(zipped, dtype=np.uint8), 1.0, "byte")
    write = functools.partial(
        save, folder, model="corridor", version=version, trained_on=trained_on, licence="MIT",
        inputs=(Input(name="observation", unit="doublings of cost, cells; see observation.py"),),
        settings={"species": list(species), **settings},
    )  # fmt: skip
    # the float form first: a policy is there with what belongs to it
    return [
        write(name=float_name(algorithm), arrays=whole, metrics={}),
        write(
            name=algorithm, arrays={"onnx": (np.frombuffer(onnx, dtype=np.uint8), 1.0, "byte")},
            metrics={"int8_agreement": agreed, "onnx_bytes": float(len(onnx))},
        ),
    ]  # fmt: skip


def int8_onnx(layers: Layers) -> bytes:
    """Return the network as ONNX: weights int8 with a scale for each output, sums in float32.

    Weights are rounded one input after another; what rounding one does to the sums on real observations is made good
    by the ones that follow (Frantar et al. 2022, arXiv 2210.17323): a third of the moves that plain rounding changed.
    Activations in int8 too (``quantize_dynamic``) chose another move in 17 of 1,000 cases, and differ between
    processors; the network is so small that the sums cost nothing.
    """
    nodes, constants = [], []
    before = "observation"
    seen = _observations(layers)
    for number, (weights, bias) in enumerate(layers):
        steps, scale = _rounded(weights, seen)
        seen = np.maximum(seen @ (steps * scale) + bias, 0)
        is_last = number + 1 == len(layers)
        names = {part: f"{part}_{number}" for part in ("steps", "scale", "zero", "bias", "weights", "product", "sum")}
        constants += [
            numpy_helper.from_array(steps, names["steps"]),
            numpy_helper.from_array(scale, names["scale"]),
            numpy_helper.from_array(np.zeros(scale.shape, dtype=np.int8), names["zero"]),
            numpy_helper.from_array(bias.astype(np.float32), names["bias"]),
        ]
        added = "scores" if is_last else names["sum"]
        nodes += [
            helper.make_node(
                "DequantizeLinear", [names["steps"], names["scale"], names["zero"]], [names["weights"]], axis=1
            ),
            helper.make_node("MatMul", [before, names["weights"]], [names["product"]]),
            helper.make_node("Add", [names["product"], names["bias"]], [added]),
        ]
        if not is_last:
            before = f"relu_{number}"
            nodes.append(helper.make_node("Relu", [added], [before]))
    graph = helper.make_graph(
        nodes, "corridor",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["n", SIZE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 8])],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _rounded(weights: Float32Array, seen: Float32Array) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """Return weights as int8 and the scale of each output, for inputs such as ``seen``."""
    scale = np.maximum(np.abs(weights).max(axis=0), 1e-12).astype(np.float32) / np.float32(127)
    moments = seen.T.astype(np.float64) @ seen / len(seen)
    moments += np.eye(len(moments)) * max(0.01 * float(np.mean(np.diag(moments))), 1e-9)
    upper = np.linalg.cholesky(np.linalg.inv(moments)).T
    left = weights.astype(np.float64).copy()
    steps = np.zeros(weights.shape, dtype=np.int8)
    for number in range(len(left)):
        steps[number] = np.clip(np.rint(left[number] / scale), -127, 127)
        off = (left[number] - steps[number] * scale) / upper[number, number]
        left[number + 1 :] -= np.outer(upper[number, number + 1 :], off)
    return steps, scale


def _observations(layers: Layers, *, walkers: int = 256, steps: int = 40) -> Float32Array:
    """Return observations on walks by the float network, over landscapes other than those agreement is measured on."""
    policy = Policy(algorithm="", version=0, species=(), layers=tuple(layers))
    crowd = Walkers(training_pool(_ROUNDING_SEED, 24, (72, 72), goals=2), walkers, seed=5, has_terms=False)
    found = [crowd.reset(5)]
    for _ in range(steps):
        actions = np.where(crowd.is_open, policy.scores(found[-1]), -np.inf).argmax(axis=1)
        found.append(crowd.step(actions).obs)
    return np.concatenate(found)


def agreement(layers: Layers, onnx: bytes, *, walkers: int = 512, steps: int = 60) -> float:
    """Return the share of moves, on walks over unseen landscapes, that both networks choose alike."""
    session = Session(onnx)
    policy = Policy(algorithm="", version=0, species=(), layers=tuple(layers))
    crowd = Walkers(training_pool(_AGREEMENT_SEED, 24, (72, 72), goals=2), walkers, seed=7, has_terms=False)
    obs = crowd.reset(7)
    same = 0
    for _ in range(steps):
        scores = [np.where(crowd.is_open, one.scores(obs), -np.inf).argmax(axis=1) for one in (policy, session)]
        same += int((scores[0] == scores[1]).sum())
        obs = crowd.step(scores[0]).obs
    return same / (walkers * steps)
