"""What an animal could have used instead: places of its home range, or where its next step could have led.

*Home range*: uniform over the convex hull of its fixes. *Steps*: from each fix the next step is drawn anew, its length
from a gamma distribution and its turn from a von Mises distribution that were fitted to the animal's own steps between
fixes of its usual interval; a fix after a gap begins anew.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from models.habitat.covariates import FloatArray, IntArray
from shared.errors import Invalid

PER_USED: Final = 10
# A step belongs to the usual interval within this share of it.
_TOLERANCE: Final = 0.25
_FEWEST_STEPS: Final = 20


def home_range(x_m: FloatArray, y_m: FloatArray, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return ``count`` places uniform in the convex hull of the fixes; raises Invalid where these span no area."""
    corners = convex_hull(x_m, y_m)
    if len(corners) < 3:
        raise Invalid("fixes on one line, or at one place, span no home range")
    # A fan of triangles from the first corner: one by area, a place in it by two uniform numbers.
    first, second, third = corners[0], corners[1:-1], corners[2:]
    areas = _areas(first, second, third)
    which = rng.choice(len(areas), size=count, p=areas / areas.sum())
    along, across = np.sqrt(rng.uniform(size=count)), rng.uniform(size=count)
    places = (
        first * (1 - along)[:, None]
        + second[which] * (along * (1 - across))[:, None]
        + third[which] * (along * across)[:, None]
    )
    return places[:, 0], places[:, 1]


def _areas(first: FloatArray, second: FloatArray, third: FloatArray) -> FloatArray:
    left, right = second - first, third - first
    return np.abs(left[:, 0] * right[:, 1] - left[:, 1] * right[:, 0])


def convex_hull(x_m: FloatArray, y_m: FloatArray) -> FloatArray:
    """Return the corners of the convex hull, counter-clockwise, shape (k, 2) (Andrew's monotone chain)."""
    points = np.unique(np.stack((x_m, y_m), axis=1), axis=0)

    def chain(ordered: FloatArray) -> list[tuple[float, float]]:
        kept: list[tuple[float, float]] = []
        for x, y in ordered.tolist():
            while len(kept) > 1 and _turn(kept[-2], kept[-1], (x, y)) <= 0:
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    if len(points) < 3:
        return points
    return np.array(chain(points) + chain(points[::-1]))


def _turn(first: tuple[float, float], second: tuple[float, float], third: tuple[float, float]) -> float:
    return (second[0] - first[0]) * (third[1] - first[1]) - (second[1] - first[1]) * (third[0] - first[0])


def steps(
    times_s: FloatArray, x_m: FloatArray, y_m: FloatArray, per_used: int, rng: np.random.Generator
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return the fixes that end a step with a heading before it, and for each ``per_used`` ends drawn instead.

    Shapes: fixes (k,), ends (k, per_used) each. Raises Invalid where there are too few steps to fit.
    """
    gap_s, dx, dy = np.diff(times_s), np.diff(x_m), np.diff(y_m)
    usual_s = float(np.median(gap_s)) if gap_s.size else 0.0
    is_step = np.abs(gap_s - usual_s) <= _TOLERANCE * usual_s
    length, heading = np.hypot(dx, dy), np.arctan2(dy, dx)
    ends = np.flatnonzero(is_step[1:] & is_step[:-1] & (length[:-1] > 0) & (length[1:] > 0)) + 1
    if ends.size < _FEWEST_STEPS:
        raise Invalid(f"{ends.size} steps in a row of the usual interval: too few to draw others; use home_range")
    shape, scale = fit_gamma(length[ends])
    concentration = fit_von_mises(heading[ends] - heading[ends - 1])
    drawn_m = rng.gamma(shape, scale, size=(ends.size, per_used))
    towards = heading[ends - 1][:, None] + rng.vonmises(0.0, concentration, size=drawn_m.shape)
    return ends + 1, x_m[ends][:, None] + drawn_m * np.cos(towards), y_m[ends][:, None] + drawn_m * np.sin(towards)


def fit_gamma(lengths: FloatArray) -> tuple[float, float]:
    """Return shape and scale of the gamma distribution by maximum likelihood (Minka's iteration)."""
    mean = float(lengths.mean())
    spread = math.log(mean) - float(np.log(lengths).mean())
    shape = (3 - spread + math.sqrt((spread - 3) ** 2 + 24 * spread)) / (12 * spread)
    for _ in range(20):
        step = (math.log(shape) - _digamma(shape) - spread) / (1 / shape - _trigamma(shape))
        if not math.isfinite(step) or abs(step) < 1e-10 * shape:
            break
        shape = shape - step if step < shape else shape / 2
    return shape, mean / shape


def fit_von_mises(angles: FloatArray) -> float:
    """Return the concentration about straight on by maximum likelihood; 0 where animals turn back more often."""
    wanted = float(np.cos(angles).mean())
    if wanted <= 0:
        return 0.0
    grid = np.linspace(0.0, 60.0, 6_001)
    circle = np.cos(np.linspace(0.0, math.pi, 721))
    # Mean cosine by concentration; the exponent is held below 0 so that it cannot overflow.
    density = np.exp(grid[:, None] * (circle - 1.0))
    mean = (density * circle).sum(axis=1) / density.sum(axis=1)
    return float(np.interp(wanted, mean, grid))


def _digamma(x: float) -> float:
    shift = 0.0
    while x < 8:
        shift -= 1 / x
        x += 1
    square = 1 / (x * x)
    return shift + math.log(x) - 0.5 / x - square * (1 / 12 - square * (1 / 120 - square / 252))


def _trigamma(x: float) -> float:
    shift = 0.0
    while x < 8:
        shift += 1 / (x * x)
        x += 1
    square = 1 / (x * x)
    return shift + 1 / x + square / 2 + square / x * (1 / 6 - square * (1 / 30 - square / 42))
