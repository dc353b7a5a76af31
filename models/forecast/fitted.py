"""What was fitted, read from a verified artefact: the plain forecasts, the spreads, and the network with its engine.

An engine must give the stored answer to a stored question before it is used. What is missing, altered, of another
shape or made for other horizons is refused with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.artifact import Loaded
from models.forecast.baselines import HORIZONS_H, NAMES, RIDGE_LAGS_H, Baselines, FloatArray
from models.forecast.calibration import N_LEVELS
from models.forecast.engines import (
    LAYERS,
    Engine,
    Float32Array,
    LiteRtEngine,
    NumpyEngine,
    OnnxEngine,
    dequantised,
)
from models.forecast.features import GROUPS, N_STATES, N_TOKENS, TOKEN_WIDTH, Anchors, IntArray
from models.forecast.heads import WIDTH, Distribution, distribution
from shared.errors import ArtifactError, ModelUnavailable

NETWORK: Final = "network"
#: Every model that can speak, the network first; the order of ``Fitted.levels``.
SPEAKERS: Final = (NETWORK, *NAMES)
#: Groups of species in the order of the fitted numbers; the last is any other animal.
ALL_GROUPS: Final = (*GROUPS, "other")
#: Engines in the order in which they are tried.
ENGINES: Final = ("litert", "onnx", "numpy")

# An int8 engine may differ from the stored answer by as much as the quantisation of its activations makes it.
_MOST_DEVIATION: Final = 0.25
_WIDEST_INPUT: Final = 5.0


class Fitted(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything fitted but the network, for the groups of ``ALL_GROUPS``.

    ``growth`` (H,): the unit of a horizon in scales. ``spread`` (G, B, H): of the plain forecasts, in units. ``levels``
    (G, 1 + B, H, N_LEVELS): distances of validation truths by speaker. ``share`` (G, H): how much of the network's
    forecast is its own; the rest is that of ``served_plain``. ``served`` (G, H): index into ``SPEAKERS`` of who speaks;
    ``served_plain`` the same where there is no network.
    """

    growth: FloatArray
    baselines: tuple[Baselines, ...]
    spread: FloatArray
    levels: FloatArray
    share: FloatArray
    served: IntArray
    served_plain: IntArray


class Scaling(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How a context is scaled before the network sees it: less ``mean``, by ``deviation``, cut at five."""

    mean: Float32Array
    deviation: Float32Array

    def scaled(self, context: Float32Array) -> Float32Array:
        """Return the context (n, C) as the network takes it."""
        return np.asarray(np.clip((context - self.mean) / self.deviation, -_WIDEST_INPUT, _WIDEST_INPUT), np.float32)


class Network(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An opened engine with the scaling of its input; ``refused`` says why engines before it were not used."""

    engine: Engine
    scaling: Scaling
    version: int
    refused: tuple[str, ...] = ()

    def distribution(self, anchors: Anchors, growth: FloatArray) -> Distribution:
        """Return what the network says at anchors."""
        return distribution(self.engine.heads(anchors.tokens, self.scaling.scaled(anchors.context)), anchors, growth)


class _Settings(msgspec.Struct, frozen=True):
    groups: tuple[str, ...]
    horizons_h: tuple[int, ...]
    served: dict[str, tuple[str, ...]]
    served_plain: dict[str, tuple[str, ...]]


def fitted_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of fitted numbers, by name."""
    g, b, h = len(ALL_GROUPS), len(NAMES), len(HORIZONS_H)
    return {
        "growth": (h,),
        "damping": (g, h),
        "ridge": (g, h, RIDGE_LAGS_H),
        "walk": (g, h, N_STATES),
        "walk_unknown": (g, h),
        "spread": (g, b, h),
        "levels": (g, 1 + b, h, N_LEVELS),
        "share": (g, h),
    }


def fitted_of(loaded: Loaded) -> Fitted:
    """Build the fitted numbers of a verified artefact; raises ArtifactError where they are not ours."""
    title = _title(loaded)
    try:
        settings = msgspec.convert(
            {key: loaded.manifest.settings.get(key) for key in _Settings.__struct_fields__}, _Settings
        )
    except msgspec.ValidationError as error:
        raise ArtifactError(f"{title}: {error}") from error
    if settings.groups != ALL_GROUPS or settings.horizons_h != HORIZONS_H:
        raise ArtifactError(f"{title}: it is made for other groups of species or other horizons")
    found = _checked(loaded, fitted_shapes())
    numbers = {name: values.astype(np.float64) for name, values in found.items()}
    return Fitted(
        growth=numbers["growth"],
        baselines=tuple(
            Baselines(**{name: numbers[name][g] for name in ("damping", "ridge", "walk", "walk_unknown")})
            for g in range(len(ALL_GROUPS))
        ),
        spread=numbers["spread"],
        levels=numbers["levels"],
        share=numbers["share"],
        served=_numbers(settings.served, title, plain=False),
        served_plain=_numbers(settings.served_plain, title, plain=True),
    )


def weights_of(loaded: Loaded) -> dict[str, Float32Array]:
    """Return the network's weights as float32 from int8 or float32 arrays; raises ArtifactError."""
    found: dict[str, Float32Array] = {}
    for layer in LAYERS:
        for part in ("weight", "bias"):
            if f"{layer}_{part}" not in loaded.arrays:
                raise ArtifactError(f"{_title(loaded)}: it has no {layer}_{part}")
        weight = loaded.arrays[f"{layer}_weight"]
        if weight.dtype == np.int8:
            scale = loaded.arrays.get(f"{layer}_scale")
            if scale is None or weight.ndim != 2 or scale.shape != weight.shape[:1]:
                raise ArtifactError(f"{_title(loaded)}: the scales of {layer} do not fit its weights")
            weight = dequantised(weight, scale)
        found[f"{layer}_weight"] = weight
        found[f"{layer}_bias"] = loaded.arrays[f"{layer}_bias"]
    return found


def scaling_of(loaded: Loaded, n_context: int) -> Scaling:
    """Return how the network's context is scaled; raises ArtifactError."""
    found = _checked(loaded, {"context_mean": (n_context,), "context_deviation": (n_context,)})
    if not bool((found["context_deviation"] > 0).all()):
        raise ArtifactError(f"{_title(loaded)}: a deviation of the context is not positive")
    return Scaling(mean=found["context_mean"], deviation=found["context_deviation"])


def network_of(loaded: Loaded, only: str | None = None) -> Network:
    """Open the first engine that gives the stored answer; raises ArtifactError where none does."""
    title = _title(loaded)
    try:
        plain = NumpyEngine(weights_of(loaded))
    except (ValueError, IndexError) as error:
        raise ArtifactError(f"{title}: {error}") from error
    scaling = scaling_of(loaded, plain.n_context)
    n_probes = loaded.arrays["probe_tokens"].shape[0] if "probe_tokens" in loaded.arrays else 1
    probe = _checked(
        loaded,
        {
            "probe_tokens": (n_probes, N_TOKENS, TOKEN_WIDTH),
            "probe_context": (n_probes, plain.n_context),
            "probe_heads": (n_probes, len(HORIZONS_H), WIDTH),
        },
    )
    openers: dict[str, Callable[[], Engine]] = {
        "litert": lambda: LiteRtEngine(_bytes(loaded, "tflite")),
        "onnx": lambda: OnnxEngine(_bytes(loaded, "onnx")),
        "numpy": lambda: plain,
    }
    refused: list[str] = []
    for name in ENGINES if only is None else (only,):
        try:
            engine = openers[name]()
            _check_answer(engine, probe)
        except (ArtifactError, ModelUnavailable) as error:
            refused.append(f"{title}: {name}: {error.detail}")
            continue
        return Network(engine=engine, scaling=scaling, version=loaded.manifest.version, refused=tuple(refused))
    raise ArtifactError("; ".join(refused))


def _check_answer(engine: Engine, probe: Mapping[str, npt.NDArray[Any]]) -> None:
    expected = probe["probe_heads"]
    found = engine.heads(probe["probe_tokens"], probe["probe_context"])
    if found.shape != expected.shape:
        raise ArtifactError(f"it answers in the shape {found.shape}, not {expected.shape}")
    deviation = float(np.abs(found - expected).max())
    if not deviation <= _MOST_DEVIATION:
        raise ArtifactError(f"its answer to the stored question is off by {deviation:g}")


def _checked(loaded: Loaded, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, npt.NDArray[Any]]:
    for name, shape in shapes.items():
        values = loaded.arrays.get(name)
        if values is None or values.shape != shape or values.dtype != np.float32:
            raise ArtifactError(f"{_title(loaded)}: {name} is not float32 of shape {shape}")
    return {name: loaded.arrays[name] for name in shapes}


def _bytes(loaded: Loaded, name: str) -> bytes:
    values = loaded.arrays.get(name)
    if values is None or values.dtype != np.uint8:
        raise ArtifactError(f"{_title(loaded)}: it has no {name}")
    return values.tobytes()


def _numbers(served: Mapping[str, tuple[str, ...]], title: str, *, plain: bool) -> IntArray:
    allowed = NAMES if plain else SPEAKERS
    rows = [served.get(group, ()) for group in ALL_GROUPS]
    if any(len(row) != len(HORIZONS_H) or not set(row) <= set(allowed) for row in rows):
        raise ArtifactError(f"{title}: it does not say which model is served")
    return np.array([[SPEAKERS.index(name) for name in row] for row in rows], dtype=np.int64)


def _title(loaded: Loaded) -> str:
    return f"{loaded.manifest.model}/{loaded.manifest.version}/{loaded.manifest.name}"
