"""Landscapes from a seed: habitat, slope, conflict, settlements, roads and rivers that a policy learns and is tried on.

Same seed, shape and kind, same landscape. The kinds differ in grain, contrast and barriers, so that nothing can be
learnt by heart: ``hills`` (smooth), ``mosaic`` (patches), ``fenced`` (long barriers with gaps), ``peopled`` (villages
and fields along roads), ``channels`` (narrow good ground in bad).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.corridor.surface import BoolArray, Float32Array, Surface, Weights, read_weights, surface_of

KINDS: Final = ("hills", "mosaic", "fenced", "peopled", "channels")
#: Seeds below are for training, those from here on are never trained on.
HELD_OUT: Final = 1_000_000


def landscape(
    seed: int,
    shape: tuple[int, int],
    *,
    kind: str | None = None,
    cell_m: float = 250.0,
    weights: Weights | None = None,
) -> Surface:
    """Return the landscape of a seed; ``kind`` is drawn where it is not given, and so are the weights' emphases."""
    rng = np.random.default_rng((seed, shape[0], shape[1]))
    drawn = KINDS[int(rng.integers(len(KINDS)))]
    kind = kind or drawn
    base = weights or read_weights()["default"]
    grain = float(rng.uniform(1.2, 2.6))
    suitability = _ranked(noise(rng, shape, grain))
    slope = _ranked(noise(rng, shape, float(rng.uniform(1.8, 3.0)))) ** float(rng.uniform(1, 3))
    is_blocked = np.zeros(shape, dtype=bool)
    if kind == "mosaic":
        suitability = np.asarray(np.floor(suitability * 5) / 5 + 0.1, dtype=np.float32)
    elif kind == "fenced":
        is_blocked |= _fences(rng, shape)
    elif kind == "channels":
        is_channel = np.abs(noise(rng, shape, 2.2)) < float(rng.uniform(0.08, 0.2))
        suitability = np.where(is_channel, np.float32(0.95), np.float32(0.05))
    villages = int(rng.integers(0, 4)) if kind != "peopled" else int(rng.integers(4, 12))
    nearness = _nearness(rng, shape, villages)
    is_road = _roads(rng, shape, int(rng.integers(0, 3)) + (kind == "peopled"))
    conflict = np.clip(0.7 * nearness + 0.5 * _ranked(noise(rng, shape, 2.0)) ** 4, 0, 1)
    terms = {
        "habitat": (1 - suitability).astype(np.float32),
        "conflict": conflict.astype(np.float32),
        "settlement": nearness,
        "slope": slope.astype(np.float32),
    }
    return surface_of(terms, weights=base, cell_m=cell_m, is_road=is_road, is_blocked=is_blocked)


def noise(rng: np.random.Generator, shape: tuple[int, int], exponent: float) -> Float32Array:
    """Return noise whose power falls with frequency^-exponent; mean 0, standard deviation 1."""
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    phases = rng.normal(size=(shape[0], shape[1] // 2 + 1)) + 1j * rng.normal(size=(shape[0], shape[1] // 2 + 1))
    field = np.fft.irfft2(phases * frequency**-exponent, s=shape)
    return np.asarray((field - field.mean()) / (field.std() + 1e-12), dtype=np.float32)


def _ranked(field: Float32Array) -> Float32Array:
    """Return a field with values spread evenly over 0 to 1."""
    order = np.empty(field.size, dtype=np.float32)
    order[np.argsort(field, axis=None, kind="stable")] = np.linspace(0, 1, field.size, dtype=np.float32)
    return order.reshape(field.shape)


def _fences(rng: np.random.Generator, shape: tuple[int, int]) -> BoolArray:
    """Return barriers: broken lines right across, each with one to three gaps."""
    found = np.zeros(shape, dtype=bool)
    for _ in range(int(rng.integers(1, 4))):
        is_upright = bool(rng.integers(2))
        along, across = (shape[0], shape[1]) if is_upright else (shape[1], shape[0])
        middle = rng.uniform(0.2, 0.8) * across
        line = middle + np.cumsum(rng.normal(0, 0.4, along))
        where = np.clip(np.rint(line), 1, across - 2).astype(np.int64)
        is_open = np.zeros(along, dtype=bool)
        for _ in range(int(rng.integers(1, 4))):
            width = int(rng.integers(2, max(3, along // 10)))
            begin = int(rng.integers(0, along - width))
            is_open[begin : begin + width] = True
        for thick in (0, 1):
            at = np.flatnonzero(~is_open)
            if is_upright:
                found[at, np.clip(where[at] + thick, 0, across - 1)] = True
            else:
                found[np.clip(where[at] + thick, 0, across - 1), at] = True
    return found


def _nearness(rng: np.random.Generator, shape: tuple[int, int], count: int) -> Float32Array:
    """Return how near the nearest of ``count`` villages is: 1 in it, falling to 0."""
    rows, columns = np.indices(shape, sparse=True)
    found = np.zeros(shape, dtype=np.float32)
    for _ in range(count):
        row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        reach = rng.uniform(0.04, 0.14) * max(shape)
        here = np.clip(1.4 - np.hypot(rows - row, columns - column) / reach, 0, 1)
        found = np.maximum(found, here.astype(np.float32))
    return found


def _roads(rng: np.random.Generator, shape: tuple[int, int], count: int) -> BoolArray:
    """Return roads right across, one cell wide."""
    found = np.zeros(shape, dtype=bool)
    for _ in range(count):
        if rng.integers(2):
            line = rng.uniform(0.1, 0.9) * shape[1] + np.cumsum(rng.normal(0, 0.5, shape[0]))
            found[np.arange(shape[0]), np.clip(np.rint(line), 0, shape[1] - 1).astype(np.int64)] = True
        else:
            line = rng.uniform(0.1, 0.9) * shape[0] + np.cumsum(rng.normal(0, 0.5, shape[1]))
            found[np.clip(np.rint(line), 0, shape[0] - 1).astype(np.int64), np.arange(shape[1])] = True
    return found
