"""The network as a TFLite file, written with LiteRT's own schema.

The recurrent layer is unrolled: token by token one fully connected layer over token and hidden state, split into four
gates. All steps share one int8 weight, with a scale a row. The first step has no hidden state and needs none, so the
graph holds no tensor of a fixed number of animals and can be resized.

Only builtin operators are used, and only what LiteRT has had for years: a converter is not needed. (The one there is,
litert-torch, asks for older versions of packages that this project pins.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from models.forecast.baselines import HORIZONS_H
from models.forecast.engines import LAYERS, Float32Array
from models.forecast.features import N_CONTEXT, N_TOKENS, TOKEN_WIDTH
from models.forecast.heads import WIDTH

Int8Array = npt.NDArray[np.int8]

_OPERATORS: Final = schema.BuiltinOperator
_OPTIONS: Final = schema.BuiltinOptions
#: The versions of the operators that first take these arguments.
_VERSIONS: Final = {_OPERATORS.DEQUANTIZE: 5, _OPERATORS.UNPACK: 1}


class _Graph:
    """Tensors, operators and buffers as they are added; an index stands for a tensor."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[int] = []
        # The first buffer is by custom the empty one.
        self.buffers: list[Any] = [schema.BufferT()]

    def tensor(self, name: str, shape: Sequence[int], *, is_batch: bool = True) -> int:
        """Add a float32 tensor; its first axis is the number of animals if ``is_batch``."""
        found = schema.TensorT()
        found.name = name
        found.type = schema.TensorType.FLOAT32
        found.shape = list(shape)
        if is_batch:
            found.shapeSignature = [-1, *shape[1:]]
        found.buffer = 0
        self.tensors.append(found)
        return len(self.tensors) - 1

    def constant(self, name: str, values: npt.NDArray[Any], scale: Float32Array | None = None) -> int:
        """Add stored numbers; int8 ones have the scale of each row."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), dtype=np.uint8)
        self.buffers.append(buffer)
        found = schema.TensorT()
        found.name = name
        types = {"int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32, "float32": schema.TensorType.FLOAT32}
        found.type = types[values.dtype.name]
        found.shape = list(values.shape)
        found.buffer = len(self.buffers) - 1
        if scale is not None:
            found.quantization = schema.QuantizationParametersT()
            found.quantization.scale = scale.tolist()
            found.quantization.zeroPoint = [0] * scale.size
            found.quantization.quantizedDimension = 0
        self.tensors.append(found)
        return len(self.tensors) - 1

    def add(
        self, operator: int, inputs: Sequence[int], outputs: Sequence[int], options: tuple[int, Any] | None = None
    ) -> None:
        """Add an operator with its options as (kind, value)."""
        if operator not in self.codes:
            self.codes.append(operator)
        found = schema.OperatorT()
        found.opcodeIndex = self.codes.index(operator)
        found.inputs, found.outputs = list(inputs), list(outputs)
        if options is not None:
            found.builtinOptionsType, found.builtinOptions = options
        self.operators.append(found)

    def model(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the file."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        model = schema.ModelT()
        model.version = 3
        model.description = "Outpost forecast"
        model.subgraphs, model.buffers = [graph], self.buffers
        model.operatorCodes = []
        for code in self.codes:
            found = schema.OperatorCodeT()
            found.builtinCode = code
            found.deprecatedBuiltinCode = min(code, 127)
            found.version = _VERSIONS.get(code, 1)
            model.operatorCodes.append(found)
        builder = flatbuffers.Builder(1 << 17)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def tflite_of(weights: Mapping[str, tuple[Int8Array, Float32Array]], biases: Mapping[str, Float32Array]) -> bytes:
    """Return the file from each layer's int8 weights with their scales, and its float32 bias."""
    graph = _Graph()
    k = biases["lstm"].size // 4
    tokens = graph.tensor("tokens", (1, N_TOKENS, TOKEN_WIDTH))
    context = graph.tensor("context", (1, N_CONTEXT))
    bias = {layer: graph.constant(f"{layer}_bias", biases[layer]) for layer in LAYERS}
    full = {layer: _stored(graph, layer, *weights[layer]) for layer in LAYERS}
    values, scale = weights["lstm"]
    first_weight = _stored(graph, "lstm_first", np.ascontiguousarray(values[:, :TOKEN_WIDTH]), scale)

    steps = [graph.tensor(f"token_{t}", (1, TOKEN_WIDTH)) for t in range(N_TOKENS)]
    unpack = schema.UnpackOptionsT()
    unpack.num, unpack.axis = N_TOKENS, 1
    graph.add(_OPERATORS.UNPACK, [tokens], steps, (_OPTIONS.UnpackOptions, unpack))
    axis = graph.constant("split_axis", np.array([1], dtype=np.int32))
    hidden = cell = -1
    for t, token in enumerate(steps):
        given, weight = (
            (token, first_weight) if t == 0 else (_joined(graph, token, hidden, TOKEN_WIDTH + k), full["lstm"])
        )
        gates = _dense(graph, f"gates_{t}", given, weight, bias["lstm"], 4 * k)
        hidden, cell = _cell(graph, t, gates, cell, axis, k)
    x = _joined(graph, hidden, context, k + N_CONTEXT)
    for layer in ("first", "second"):
        x = _dense(graph, layer, x, full[layer], bias[layer], biases[layer].size, is_rectified=True)
    heads = _dense(graph, "heads", x, full["head"], bias["head"], len(HORIZONS_H) * WIDTH)
    return graph.model([tokens, context], [heads])


def _stored(graph: _Graph, name: str, values: Int8Array, scale: Float32Array) -> int:
    """An int8 weight, and the operator that makes it float32 once."""
    stored = graph.constant(f"{name}_int8", values, scale)
    found = graph.tensor(f"{name}_weight", values.shape, is_batch=False)
    graph.add(_OPERATORS.DEQUANTIZE, [stored], [found], (_OPTIONS.DequantizeOptions, schema.DequantizeOptionsT()))
    return found


def _joined(graph: _Graph, left: int, right: int, width: int) -> int:
    found = graph.tensor(f"joined_{len(graph.tensors)}", (1, width))
    options = schema.ConcatenationOptionsT()
    options.axis = 1
    graph.add(_OPERATORS.CONCATENATION, [left, right], [found], (_OPTIONS.ConcatenationOptions, options))
    return found


def _dense(
    graph: _Graph, name: str, given: int, weight: int, bias: int, width: int, *, is_rectified: bool = False
) -> int:
    found = graph.tensor(name, (1, width))
    options = schema.FullyConnectedOptionsT()
    if is_rectified:
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    graph.add(_OPERATORS.FULLY_CONNECTED, [given, weight, bias], [found], (_OPTIONS.FullyConnectedOptions, options))
    return found


def _cell(graph: _Graph, t: int, gates: int, cell: int, axis: int, k: int) -> tuple[int, int]:
    """One step of the recurrent layer; returns the hidden state and the cell."""
    parts = [graph.tensor(f"{name}_{t}", (1, k)) for name in ("input", "forget", "candidate", "output")]
    split = schema.SplitOptionsT()
    split.numSplits = 4
    graph.add(_OPERATORS.SPLIT, [axis, gates], parts, (_OPTIONS.SplitOptions, split))

    def through(operator: int, given: int) -> int:
        found = graph.tensor(f"tensor_{len(graph.tensors)}", (1, k))
        graph.add(operator, [given], [found])
        return found

    def combined(operator: int, left: int, right: int) -> int:
        found = graph.tensor(f"tensor_{len(graph.tensors)}", (1, k))
        options = (_OPTIONS.MulOptions, schema.MulOptionsT())
        if operator == _OPERATORS.ADD:
            options = (_OPTIONS.AddOptions, schema.AddOptionsT())
        graph.add(operator, [left, right], [found], options)
        return found

    let_in, kept, candidate, let_out = parts
    new = combined(_OPERATORS.MUL, through(_OPERATORS.LOGISTIC, let_in), through(_OPERATORS.TANH, candidate))
    if cell >= 0:
        new = combined(_OPERATORS.ADD, combined(_OPERATORS.MUL, through(_OPERATORS.LOGISTIC, kept), cell), new)
    hidden = combined(_OPERATORS.MUL, through(_OPERATORS.LOGISTIC, let_out), through(_OPERATORS.TANH, new))
    return hidden, new
