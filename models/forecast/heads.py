"""What the network's numbers mean: a weighted sum of vectors, and a bivariate t distribution around it.

For each anchor and horizon the network gives V weights, a free displacement and a shape. The forecast is the sum of the
anchor's vectors by the weights (the ridge regression's weight counts from one, so a network that says nothing is the
ridge regression), plus the free displacement. Vectors longer than ``LONGEST`` units are cut to it: what lies far away
may draw, and no factor a little off makes it a forecast of tens of kilometres.

A *unit* is how far an animal of this pace usually is after this horizon: its scale times a factor of the horizon.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.forecast.baselines import FloatArray
from models.forecast.features import N_VECTORS, Anchors

#: Numbers of one horizon: weights, free displacement, log spread along and across, correlation.
WIDTH: Final = N_VECTORS + 5
LONGEST: Final = 8.0
#: Degrees of freedom of the t distribution.
FREEDOM: Final = 4.0
_STEEPEST: Final = 0.95
_WIDEST_LOG: Final = 4.0


class Distribution(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Forecasts of n anchors at H horizons in each anchor's frame.

    ``place_m`` (n, H, 2) along and across; ``spread_m`` (n, H, 2) and ``correlation`` (n, H) shape the t distribution
    around it; an ellipse of radius r holds the places whose ``distance`` is at most r.
    """

    place_m: FloatArray
    spread_m: FloatArray
    correlation: FloatArray

    def distance(self, target_m: FloatArray) -> FloatArray:
        """Return how far targets (n, H, 2) lie out, in units of the ellipse; shape (n, H)."""
        away = (target_m - self.place_m) / self.spread_m
        x, y = away[..., 0], away[..., 1]
        square = (x**2 - 2 * self.correlation * x * y + y**2) / (1 - self.correlation**2)
        return np.asarray(np.sqrt(np.maximum(square, 0.0)))

    def negative_log_likelihood(self, target_m: FloatArray) -> FloatArray:
        """Return minus the log density at targets (n, H, 2), in nats, of a density per square metre; shape (n, H)."""
        size = np.log(self.spread_m).sum(axis=-1) + 0.5 * np.log(1 - self.correlation**2)
        tail = 0.5 * (FREEDOM + 2) * np.log1p(self.distance(target_m) ** 2 / FREEDOM)
        return np.asarray(size + tail + math.log(2 * math.pi))


def units_m(scale_m: FloatArray, growth: FloatArray) -> FloatArray:
    """Return the unit of each anchor and horizon from scales (n,) and growth (H,); shape (n, H)."""
    return np.asarray(scale_m[:, None] * growth)


def cut(vectors_m: FloatArray, unit_m: FloatArray) -> FloatArray:
    """Return vectors (n, H, V, 2) in units, none longer than ``LONGEST``."""
    in_units = vectors_m / unit_m[:, :, None, None]
    length = np.sqrt((in_units**2).sum(axis=-1, keepdims=True))
    return np.asarray(in_units * np.minimum(1.0, LONGEST / np.maximum(length, 1e-9)))


def distribution(heads: npt.NDArray[np.float32], anchors: Anchors, growth: FloatArray) -> Distribution:
    """Return what the network's numbers (n, H, WIDTH) say at the anchors."""
    unit = units_m(anchors.scale_m, growth)
    found = heads.astype(np.float64)
    weights = found[..., :N_VECTORS].copy()
    weights[..., -1] += 1.0
    place = np.einsum("nhv,nhvk->nhk", weights, cut(anchors.vectors, unit)) + found[..., N_VECTORS : N_VECTORS + 2]
    spread = np.exp(np.clip(found[..., N_VECTORS + 2 : N_VECTORS + 4], -_WIDEST_LOG, _WIDEST_LOG))
    return Distribution(
        place_m=place * unit[..., None],
        spread_m=spread * unit[..., None],
        correlation=np.tanh(found[..., N_VECTORS + 4]) * _STEEPEST,
    )


def drawn(said: Distribution, place_m: FloatArray, share: FloatArray) -> Distribution:
    """Return forecasts of which ``share`` (H,) is the network's own and the rest another's places (n, H, 2)."""
    own = share[None, :, None]
    return Distribution(
        place_m=own * said.place_m + (1 - own) * place_m, spread_m=said.spread_m, correlation=said.correlation
    )


def circles(places_m: FloatArray, scale_m: FloatArray, growth: FloatArray, spread: FloatArray) -> Distribution:
    """Return a plain forecast as a distribution: places (n, H, 2), and round with ``spread`` (H,) units."""
    unit = units_m(scale_m, growth * spread)
    return Distribution(
        place_m=places_m, spread_m=np.repeat(unit[..., None], 2, axis=-1), correlation=np.zeros(unit.shape)
    )


def spread_of(distance_units: FloatArray) -> float:
    """Return the spread of a round t distribution that fits distances in units best; 1 where there are none."""
    square = distance_units[np.isfinite(distance_units)] ** 2
    if not square.size:
        return 1.0
    ladder = np.geomspace(0.02, 20.0, 200)
    tails = np.array([np.log1p(square / (FREEDOM * s * s)).mean() for s in ladder.tolist()])
    return float(ladder[int((2 * np.log(ladder) + 0.5 * (FREEDOM + 2) * tails).argmin())])
