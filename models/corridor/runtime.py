"""Policies as they run: numpy or ONNX Runtime, no torch; routes by policy, and the advice of a station.

An artefact ``corridor/<version>/<algorithm>`` holds the network as int8 ONNX: what a station runs. Beside it
``<algorithm>_float`` holds float32 layers, what the cloud walks many routes at once with, and the ``.zip`` that
training goes on from; where it is missing or bad the int8 network walks. Settings name the species that a policy was
trained for; for another one there is no advice. (Policies that were brought may hold all three in one file.)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from models.artifact import PACKAGED, Loaded, load, load_newest
from models.corridor.observation import SIZE, pyramid
from models.corridor.surface import TERMS, BoolArray, Cell, Float32Array, FloatArray, IntArray, Surface
from models.corridor.walkers import Pool, Walkers
from shared.errors import ArtifactError, Invalid
from shared.symbols import own_symbols

Algorithm: TypeAlias = Literal["ppo", "dqn"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("ppo", "dqn")

_MOVES: Final = 8
#: Bytes that the walkers of one route may remember their ways in.
_MOST_REMEMBERED: Final = 256_000_000
#: Number formats of ONNX that a network of ours holds.
_FORMATS: Final[dict[int, np.dtype[Any]]] = {1: np.dtype(np.float32), 3: np.dtype(np.int8)}
#: How much longer walkers go on where none has arrived, and moves that they make at most.
PATIENCE: Final = 4
_MOST_MOVES: Final = 4_000
#: How warmly moves are drawn, as shares of the spread of their scores.
_WARMTHS: Final = (0.1, 0.7)


class Policy(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A policy: layers of weights (inputs, outputs) and biases with ReLU between them; the scores of eight moves."""

    algorithm: str
    version: int
    species: tuple[str, ...]
    layers: tuple[tuple[Float32Array, Float32Array], ...]
    onnx: bytes = b""
    refused: tuple[str, ...] = ()

    def scores(self, obs: Float32Array) -> Float32Array:
        """Return the score of each action, (n, 8)."""
        values = obs
        for number, (weights, bias) in enumerate(self.layers):
            values = values @ weights + bias
            if number + 1 < len(self.layers):
                np.maximum(values, 0, out=values)
        return values

    def knows(self, species: str | None) -> str | None:
        """Return the word of a species that the policy was trained for, None where it was not."""
        words = (species or "").lower().replace("_", " ").split()
        return next((word for word in reversed(words) if word in self.species), None)


def load_policy(algorithm: str, folder: Path = PACKAGED, version: int | None = None) -> Policy:
    """Return the newest good policy, or exactly ``version``; raises ModelUnavailable or ArtifactError."""
    if algorithm not in ALGORITHMS:
        raise Invalid(f"algorithm: {algorithm!r} is not one of {', '.join(ALGORITHMS)}")
    if version is not None:
        return _with_float(policy_of(load(folder, "corridor", version, algorithm)), folder)
    policy, loaded = load_newest(folder, "corridor", algorithm, policy_of)
    return _with_float(msgspec.structs.replace(policy, refused=loaded.refused), folder)


def _with_float(policy: Policy, folder: Path) -> Policy:
    """Return the policy with float32 layers where its version has a good file of them."""
    name = float_name(policy.algorithm)
    if not (folder / "corridor" / str(policy.version) / f"{name}.json").exists():
        return policy
    try:
        layers = layers_of(load(folder, "corridor", policy.version, name))
        if [weights.shape for weights, _ in layers] != [weights.shape for weights, _ in policy.layers]:
            raise ArtifactError(f"corridor/{policy.version}/{name}: its layers are not those of {policy.algorithm}")
    except ArtifactError as error:
        return msgspec.structs.replace(policy, refused=(*policy.refused, error.detail))
    return msgspec.structs.replace(policy, layers=layers)


def float_name(algorithm: str) -> str:
    """Return the name of the file of float32 layers beside a policy's."""
    return f"{algorithm}_float"


def layers_of(loaded: Loaded) -> tuple[tuple[Float32Array, Float32Array], ...]:
    """Return the float32 layers of an artefact; raises ArtifactError where they do not fit together, or are none."""
    arrays, title = loaded.arrays, f"corridor/{loaded.manifest.version}/{loaded.manifest.name}"
    layers = []
    width = SIZE
    for number in itertools.count():
        if f"weights_{number}" not in arrays:
            break
        weights, bias = arrays[f"weights_{number}"], arrays.get(f"bias_{number}")
        if bias is None or weights.ndim != 2 or weights.shape[0] != width or bias.shape != weights.shape[1:]:
            raise ArtifactError(f"{title}: layer {number} does not fit")
        layers.append((weights.astype(np.float32), bias.astype(np.float32)))
        width = weights.shape[1]
    if not layers or width != _MOVES:
        raise ArtifactError(f"{title}: not a policy of eight moves")
    return tuple(layers)


def policy_of(loaded: Loaded) -> Policy:
    """Return the policy of an artefact; raises ArtifactError where its layers do not fit together."""
    arrays, manifest = loaded.arrays, loaded.manifest
    title = f"corridor/{manifest.version}/{manifest.name}"
    onnx = arrays.get("onnx")
    if onnx is not None and (onnx.dtype != np.uint8 or onnx.ndim != 1):
        raise ArtifactError(f"{title}: onnx is no run of bytes")
    species = manifest.settings.get("species")
    if not isinstance(species, list) or not all(isinstance(one, str) for one in species):
        raise ArtifactError(f"{title}: not a policy of eight moves")
    network = b"" if onnx is None else onnx.tobytes()
    layers = layers_of(loaded) if "weights_0" in arrays else _int8_layers(network, title)
    return Policy(
        algorithm=manifest.name, version=manifest.version, species=tuple(species), layers=layers, onnx=network
    )


def int8_policy(policy: Policy) -> Policy:
    """Return the policy as its int8 network scores moves; raises ArtifactError where the network is not one of ours.

    The weights are read out of the ONNX file and run in numpy, as its nodes say (int8 times the scale of its output,
    float32 sums): a station has one runtime in memory, LiteRT, and needs no second one for three small products.
    """
    title = f"corridor/{policy.version}/{policy.algorithm}"
    layers = _int8_layers(policy.onnx, title)
    shapes = [weights.shape for weights, _ in layers]
    if shapes != [weights.shape for weights, _ in policy.layers]:
        raise ArtifactError(f"{title}: the layers of its network are not those of its float32 form")
    return msgspec.structs.replace(policy, layers=layers)


def _int8_layers(onnx: bytes, title: str) -> tuple[tuple[Float32Array, Float32Array], ...]:
    if not onnx:
        raise ArtifactError(f"{title}: it has no network for a station")
    tensors = onnx_constants(onnx)
    layers = []
    width = SIZE
    for number in range(max(1, len(tensors) // 4)):
        try:
            steps, scale, zero, shift = (tensors[f"{part}_{number}"] for part in ("steps", "scale", "zero", "bias"))
        except KeyError as error:
            raise ArtifactError(f"{title}: its network has no {error.args[0]}") from error
        if steps.dtype != np.int8 or steps.ndim != 2 or steps.shape[0] != width:
            raise ArtifactError(f"{title}: layer {number} of its network does not fit")
        if scale.shape != steps.shape[1:] or shift.shape != steps.shape[1:]:
            raise ArtifactError(f"{title}: layer {number} of its network does not fit")
        if zero.any():
            raise ArtifactError(f"{title}: layer {number} of its network is not symmetric")
        layers.append((np.asarray(steps * scale, dtype=np.float32), np.asarray(shift, dtype=np.float32)))
        width = steps.shape[1]
    if len(tensors) != 4 * len(layers) or width != _MOVES:
        raise ArtifactError(f"{title}: its network is not one of eight moves")
    return tuple(layers)


def onnx_constants(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the constants of an ONNX file by name; raises ArtifactError for what is none.

    Protobuf wire format: of ``ModelProto`` the graph is field 7, of that ``initializer`` field 5; of a ``TensorProto``
    dims is 1, data_type 2 (1 float32, 3 int8), name 8 and raw_data 9 (github.com/onnx/onnx, onnx.proto).
    """
    found: dict[str, npt.NDArray[Any]] = {}
    try:
        for graph in _field(data, 7):
            for tensor in _field(graph, 5):
                (name,) = _field(tensor, 8)
                (raw,) = _field(tensor, 9)
                (kind,) = _numbers(tensor, 2)
                dtype = _FORMATS[kind]
                found[name.decode()] = np.frombuffer(raw, dtype=dtype).reshape(_numbers(tensor, 1))
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise ArtifactError(f"corridor: the network cannot be read: {error}") from error
    return found


def _field(data: bytes, wanted: int) -> list[bytes]:
    """Return the values of a field that has a length."""
    return [value for number, value in _fields(data) if number == wanted and isinstance(value, bytes)]


def _numbers(data: bytes, wanted: int) -> list[int]:
    """Return the values of a field of whole numbers, packed or not."""
    found: list[int] = []
    for number, value in _fields(data):
        if number != wanted:
            continue
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            one, at = _varint(value, at)
            found.append(one)
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + size > len(data):
            raise ValueError("it ends in the middle")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number has no end")


class Session:
    """The int8 network in ONNX Runtime, one thread: what ``int8_policy`` is measured against."""

    def __init__(self, onnx: bytes) -> None:
        with own_symbols():
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ArtifactError(f"corridor: the network cannot be read: {error}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].shape[-1] != SIZE or outputs[0].shape[-1] != 8:
            raise ArtifactError("corridor: the network has other inputs or outputs than this program gives it")
        self._input = inputs[0].name

    def scores(self, obs: Float32Array) -> Float32Array:
        """Return the score of each action, (n, 8)."""
        found: list[Any] = self._session.run(None, {self._input: obs})
        return np.asarray(found[0], dtype=np.float32)


def walking_pool(surface: Surface, ends: Sequence[tuple[Cell, Cell]]) -> Pool:
    """Return a surface for walkers that only walk: one goal and one start for each pair."""
    cost = surface.cost / np.float32(np.median(surface.cost[surface.is_passable]))
    rows, columns = surface.shape
    return Pool(
        cost=cost[None],
        terms=np.zeros((len(TERMS), 1, 0, 0), dtype=np.float32),
        marks=np.zeros((1, rows, columns), dtype=np.uint8),
        prices=np.zeros((1, 2)),
        ground=pyramid(cost),
        goals=np.array([[end for _, end in ends]], dtype=np.int64),
        starts=np.array([[[start] for start, _ in ends]], dtype=np.int64),
        to_go=None,
    )


def routes(
    policy: Policy, surface: Surface, start: Cell, end: Cell, *, count: int = 16, seed: int = 0
) -> list[IntArray | None]:
    """Return routes, each (cells, 2) from start to end, None where a walker did not arrive; same seed, same routes.

    The first two follow the policy to the letter; of the others every move is drawn, so that a later search has a
    choice. Every second one was walked backwards, from the end. A walker has four moves for each cell of the way; where
    nobody arrives by then all walk on, up to ``PATIENCE`` times as long, until somebody does.
    """
    rows, columns = surface.shape
    count = max(2, min(count, _MOST_REMEMBERED // ((rows + 2) * (columns + 2))))
    pool = walking_pool(surface, [(start, end), (end, start)])
    walkers = Walkers(pool, count, has_terms=False, seed=seed)
    obs = walkers.begin_at(np.zeros(count, dtype=np.int64), np.arange(count) % 2)
    rng = np.random.default_rng(seed)
    # From the policy to the letter to hardly more than a hint of it: what is drawn must differ to be of use.
    warmth = np.concatenate((np.zeros(2), np.linspace(*_WARMTHS, count - 2))) if count > 2 else np.zeros(2)
    places = [np.stack((walkers.row, walkers.column), axis=1)]
    lengths, arrived = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool)
    usual = int(walkers.limit.max())
    walkers.limit[:] = max(usual, min(PATIENCE * usual, _MOST_MOVES))
    while not (lengths > 0).all() and (len(places) <= usual or not arrived.any()):
        chosen = _chosen(policy.scores(obs), walkers.is_open, warmth, rng)
        goal_row, goal_column = walkers.goal_row.copy(), walkers.goal_column.copy()
        stepped = walkers.step(chosen)
        obs = stepped.obs
        at = np.stack((walkers.row, walkers.column), axis=1)
        at[stepped.terminated] = np.stack((goal_row, goal_column), axis=1)[stepped.terminated]
        places.append(at)
        new = stepped.ended[lengths[stepped.ended] == 0]
        lengths[new] = len(places)
        arrived[new] = stepped.terminated[new]
    walked = np.stack(places)
    found: list[IntArray | None] = []
    for one in range(count):
        path = walked[: lengths[one], one]
        found.append((path[::-1] if one % 2 else path) if arrived[one] else None)
    return found


def best_of(surface: Surface, found: Sequence[IntArray | None]) -> IntArray | None:
    """Return the cheapest of the routes that arrived, by what each of them paid on its own way; None where none did."""
    arrived = [path for path in found if path is not None]
    return min(arrived, key=lambda path: _paid(surface, path), default=None)


def _paid(surface: Surface, path: IntArray) -> float:
    along = surface.cost[path[:, 0], path[:, 1]].astype(np.float64)
    lengths = np.hypot(*np.diff(path, axis=0).T.astype(np.float64))
    return float((lengths * (along[:-1] + along[1:]) / 2).sum())


def _chosen(
    scores: Float32Array, is_open: BoolArray, warmth: FloatArray, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    spread = np.maximum(scores.std(axis=1), 1e-6) * warmth
    drawn = scores + spread[:, None] * rng.gumbel(size=scores.shape)
    return np.asarray(np.where(is_open, drawn, -np.inf).argmax(axis=1), dtype=np.int64)
