"""What every engine promises, and the engines: plain numpy over int8 weights, ONNX Runtime, LiteRT.

An engine turns tokens (n, 24, 6) and a context (n, C), both float32 and already scaled, into heads (n, H, WIDTH). The
recurrent part is one LSTM layer (gates in torch's order: input, forget, cell, output), then two dense layers with
rectifiers and a linear one. Weights are int8 with one scale a row; sums are float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from models.forecast.baselines import HORIZONS_H
from models.forecast.features import N_TOKENS, TOKEN_WIDTH
from models.forecast.heads import WIDTH
from shared.errors import ArtifactError, ModelUnavailable

Float32Array: TypeAlias = npt.NDArray[np.float32]

#: The layers, in the order in which they are used; each has a weight (out, in) and a bias (out,).
LAYERS: Final = ("lstm", "first", "second", "head")
# Anchors that numpy works out at once: with many more its arrays leave the cache, which takes four times as long.
_AT_ONCE: Final = 1_024


class Engine(Protocol):
    """Something that runs the network."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def heads(self, tokens: Float32Array, context: Float32Array) -> Float32Array:
        """Return the network's numbers; shape (n, H, WIDTH) from tokens (n, 24, 6) and context (n, C)."""
        ...


class NumpyEngine:
    """The network in numpy: needs nothing beside it."""

    def __init__(self, weights: Mapping[str, Float32Array], name: str = "numpy") -> None:
        """Take ``<layer>_weight`` and ``<layer>_bias`` of each layer; raises ValueError where shapes do not fit."""
        self.name = name
        self._weights = {layer: np.ascontiguousarray(weights[f"{layer}_weight"].T) for layer in LAYERS}
        self._biases = {layer: weights[f"{layer}_bias"] for layer in LAYERS}
        self.n_hidden = self._biases["lstm"].size // 4
        self.n_context = self._weights["first"].shape[0] - self.n_hidden
        expected = {
            "lstm": (TOKEN_WIDTH + self.n_hidden, 4 * self.n_hidden),
            "first": (self.n_hidden + self.n_context, self._biases["first"].size),
            "second": (self._biases["first"].size, self._biases["second"].size),
            "head": (self._biases["second"].size, len(HORIZONS_H) * WIDTH),
        }
        for layer, shape in expected.items():
            if self._weights[layer].shape != shape or self._biases[layer].shape != shape[1:] or self.n_context < 1:
                raise ValueError(f"the layer {layer} has weights {self._weights[layer].shape}, not {shape}")

    def heads(self, tokens: Float32Array, context: Float32Array) -> Float32Array:
        """Return the network's numbers; shape (n, H, WIDTH)."""
        parts = [
            self._heads(tokens[begin : begin + _AT_ONCE], context[begin : begin + _AT_ONCE])
            for begin in range(0, max(tokens.shape[0], 1), _AT_ONCE)
        ]
        return np.concatenate(parts)

    def _heads(self, tokens: Float32Array, context: Float32Array) -> Float32Array:
        n, k = tokens.shape[0], self.n_hidden
        weight, bias = self._weights["lstm"], self._biases["lstm"]
        given = tokens @ weight[:TOKEN_WIDTH] + bias
        hidden = np.zeros((n, k), dtype=np.float32)
        cell = np.zeros((n, k), dtype=np.float32)
        for t in range(N_TOKENS):
            gates = given[:, t] + hidden @ weight[TOKEN_WIDTH:]
            cell = _sigmoid(gates[:, k : 2 * k]) * cell + _sigmoid(gates[:, :k]) * np.tanh(gates[:, 2 * k : 3 * k])
            hidden = _sigmoid(gates[:, 3 * k :]) * np.tanh(cell)
        x = np.concatenate((hidden, context), axis=1)
        for layer in ("first", "second"):
            x = np.maximum(x @ self._weights[layer] + self._biases[layer], np.float32(0))
        heads = x @ self._weights["head"] + self._biases["head"]
        return np.asarray(heads.reshape(n, len(HORIZONS_H), WIDTH), dtype=np.float32)


class OnnxEngine:
    """The network in ONNX Runtime; one thread, since a forecast is small and a station has other work."""

    name = "onnx"

    def __init__(self, model: bytes) -> None:
        """Open the model; raises ModelUnavailable without the library, ArtifactError where it is no model."""
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelUnavailable(f"ONNX Runtime is not installed: {error}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ArtifactError(f"ONNX Runtime cannot open it: {error}") from error

    def heads(self, tokens: Float32Array, context: Float32Array) -> Float32Array:
        """Return the network's numbers; shape (n, H, WIDTH)."""
        try:
            (found,) = self._session.run(None, {"tokens": tokens, "context": context})
        except Exception as error:
            raise ArtifactError(f"ONNX Runtime cannot run it: {error}") from error
        return np.asarray(found, dtype=np.float32).reshape(-1, len(HORIZONS_H), WIDTH)


class LiteRtEngine:
    """The network in LiteRT, one thread; the tensors grow when more animals are asked at once than ever before."""

    name = "litert"

    def __init__(self, model: bytes) -> None:
        """Open the model; raises ModelUnavailable without the library, ArtifactError where it is no model."""
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError as error:
            raise ModelUnavailable(f"LiteRT is not installed: {error}") from error
        try:
            # without XNNPACK, which writes to stderr whatever is asked of it, between the lines of a station's log
            plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            self._interpreter: Any = Interpreter(
                model_content=model, num_threads=1, experimental_op_resolver_type=plain
            )
            self._interpreter.allocate_tensors()
            inputs = {one["name"]: one["index"] for one in self._interpreter.get_input_details()}
            self._tokens, self._context = inputs["tokens"], inputs["context"]
            self._output = self._interpreter.get_output_details()[0]["index"]
        except (ValueError, RuntimeError, KeyError, IndexError) as error:
            raise ArtifactError(f"LiteRT cannot open it: {error}") from error
        self._n = 1

    def heads(self, tokens: Float32Array, context: Float32Array) -> Float32Array:
        """Return the network's numbers; shape (n, H, WIDTH)."""
        try:
            if tokens.shape[0] != self._n:
                self._interpreter.resize_tensor_input(self._tokens, tokens.shape)
                self._interpreter.resize_tensor_input(self._context, context.shape)
                self._interpreter.allocate_tensors()
                self._n = tokens.shape[0]
            self._interpreter.set_tensor(self._tokens, tokens)
            self._interpreter.set_tensor(self._context, context)
            self._interpreter.invoke()
            found = self._interpreter.get_tensor(self._output)
        except (ValueError, RuntimeError) as error:
            raise ArtifactError(f"LiteRT cannot run it: {error}") from error
        return np.asarray(found, dtype=np.float32).reshape(-1, len(HORIZONS_H), WIDTH)


def quantised(weight: Float32Array) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """Return weights (out, in) as int8 and the scale of each row (out,)."""
    scale = np.maximum(np.abs(weight).max(axis=1), 1e-12).astype(np.float32) / np.float32(127)
    return np.rint(weight / scale[:, None]).astype(np.int8), scale


def dequantised(values: npt.NDArray[np.int8], scale: Float32Array) -> Float32Array:
    """Return int8 weights (out, in) as float32."""
    return np.asarray(values.astype(np.float32) * scale[:, None], dtype=np.float32)


def _sigmoid(x: Float32Array) -> Float32Array:
    half = np.float32(0.5)
    return np.asarray(half * np.tanh(half * x) + half, dtype=np.float32)
