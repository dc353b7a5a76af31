"""What a state says about a step: gamma step length with a mass at zero, von Mises turning angle.

Both are exponential families, so a row enters every computation through seven sufficient statistics alone, and the
log density of n rows under K states is one matrix product, ``statistics (n, 7) @ weights (7, K)``::

    moved  stood  length  log length  turned  cos angle  sin angle

A missing step or angle is a row of zeros: it says nothing of the state. The gamma distribution is given by mean and
standard deviation, as in the field's literature: shape = (mean / sd)^2, rate = mean / sd^2. Lengths may be in any unit
that the parameters share; a log-likelihood depends on it.

Sources: Zucchini, MacDonald & Langrock (2016), Hidden Markov Models for Time Series, chapters 2 and 18; Patterson et
al. (2017), doi:10.1007/s10182-017-0302-7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]

N_STATISTICS: Final = 7
#: The smallest probability that is told apart from impossible.
TINY: Final = 1e-300
# Above this, I0 overflows its double.
_LARGE_CONCENTRATION: Final = 500.0


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """A model of K states, ordered by mean step.

    ``step_mean``, ``step_sd``: of steps that are not zero, in the unit of the steps. ``zero_mass``: probability of a
    step of length zero. ``angle_mean`` in radians. ``transitions[i][j]``: probability of state j after state i.
    ``start``: probability of each state at the first row of a burst.
    """

    step_mean: tuple[float, ...]
    step_sd: tuple[float, ...]
    zero_mass: tuple[float, ...]
    angle_mean: tuple[float, ...]
    angle_concentration: tuple[float, ...]
    transitions: tuple[tuple[float, ...], ...]
    start: tuple[float, ...]

    def __post_init__(self) -> None:
        n_states = len(self.step_mean)
        rows = (
            self.step_sd, self.zero_mass, self.angle_mean, self.angle_concentration, self.start, self.transitions,
            *self.transitions,
        )  # fmt: skip
        if n_states == 0 or any(len(row) != n_states for row in rows):
            raise ValueError("every parameter needs one value a state")

    @property
    def n_states(self) -> int:
        """The number of states."""
        return len(self.step_mean)

    def stationary(self) -> tuple[float, ...]:
        """Return the long-run share of each state."""
        chain = np.array(self.transitions, dtype=np.float64)
        # (I - T + 1)' x = 1 is solved by the stationary distribution; by a least-squares one where T is reducible.
        solution = np.linalg.lstsq((np.eye(self.n_states) - chain + 1.0).T, np.ones(self.n_states), rcond=None)[0]
        share = np.clip(solution, 0.0, None)
        return tuple((share / share.sum()).tolist())

    def reordered(self, order: Sequence[int]) -> Parameters:
        """Return the same model with its states in another order."""
        return Parameters(
            step_mean=tuple(self.step_mean[i] for i in order),
            step_sd=tuple(self.step_sd[i] for i in order),
            zero_mass=tuple(self.zero_mass[i] for i in order),
            angle_mean=tuple(self.angle_mean[i] for i in order),
            angle_concentration=tuple(self.angle_concentration[i] for i in order),
            transitions=tuple(tuple(self.transitions[i][j] for j in order) for i in order),
            start=tuple(self.start[i] for i in order),
        )


def statistics(step: FloatArray, angle_rad: FloatArray) -> FloatArray:
    """Return the sufficient statistics of each row.

    Shapes: inputs (n,), NaN where missing; result (n, 7). Raises ValueError for a negative step.
    """
    step = np.asarray(step, dtype=np.float64)
    angle = np.asarray(angle_rad, dtype=np.float64)
    if step.shape != angle.shape or step.ndim != 1:
        raise ValueError(f"steps {step.shape} and angles {angle.shape} must be two rows of one length")
    if bool((step < 0).any()):
        raise ValueError("a step is negative")
    moved = step > 0
    turned = np.isfinite(angle)
    length = np.where(moved, step, 1.0)
    result = np.zeros((step.size, N_STATISTICS))
    result[:, 0] = moved
    result[:, 1] = step == 0
    result[:, 2] = np.where(moved, length, 0.0)
    result[:, 3] = np.log(length)
    result[:, 4] = turned
    result[:, 5] = np.where(turned, np.cos(np.where(turned, angle, 0.0)), 0.0)
    result[:, 6] = np.where(turned, np.sin(np.where(turned, angle, 0.0)), 0.0)
    return result


def weights(parameters: Parameters) -> FloatArray:
    """Return what each statistic adds to the log density under each state; shape (7, K)."""
    mean = np.array(parameters.step_mean)
    sd = np.array(parameters.step_sd)
    zero = np.array(parameters.zero_mass)
    direction = np.array(parameters.angle_mean)
    concentration = np.array(parameters.angle_concentration)
    shape = (mean / sd) ** 2
    rate = mean / sd**2
    log_gamma = np.array([math.lgamma(value) for value in shape])
    return np.stack(
        [
            np.log(np.maximum(1.0 - zero, TINY)) + shape * np.log(rate) - log_gamma,
            np.log(np.maximum(zero, TINY)),
            -rate,
            shape - 1.0,
            -math.log(2 * math.pi) - log_i0(concentration),
            concentration * np.cos(direction),
            concentration * np.sin(direction),
        ]
    )


def log_densities(parameters: Parameters, step: FloatArray, angle_rad: FloatArray) -> FloatArray:
    """Return the log density of each row under each state; shape (n, K)."""
    return statistics(step, angle_rad) @ weights(parameters)


def log_i0(x: FloatArray) -> FloatArray:
    """Return the logarithm of the modified Bessel function of the first kind and order 0, for x >= 0."""
    x = np.asarray(x, dtype=np.float64)
    small = np.log(np.i0(np.minimum(x, _LARGE_CONCENTRATION)))
    large = np.maximum(x, _LARGE_CONCENTRATION)
    # Abramowitz & Stegun 9.7.1: the next term is below 1e-9 here.
    tail = 1 + 1 / (8 * large) + 9 / (128 * large**2) + 225 / (3072 * large**3)
    asymptotic = large - 0.5 * np.log(2 * math.pi * large) + np.log(tail)
    return np.where(x > _LARGE_CONCENTRATION, asymptotic, small)
