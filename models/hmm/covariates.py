"""Transitions that depend on covariates (hour of day, distance to water): fitting by EM.

From each state, the chances of the next one are a multinomial logit of the covariates at the row that is entered; the
diagonal is the base. hmmlearn's chain has one matrix for all rows, so the E-step here is ``chain.py``'s; the emissions'
M-step is the one of ``train.py``, and that of the logits is Newton's method on weighted rows, one origin state after
another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from models.hmm import chain
from models.hmm.emissions import TINY, FloatArray, Parameters, statistics, weights
from models.hmm.features import IntArray
from models.hmm.train import maximised

_SOLAR_S_PER_DEG = 240.0
_RIDGE = 1e-7


class CovariateFit(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """``beta`` is (1 + p, K (K - 1)), intercept first; ``parameters.transitions`` are those at covariates of zero."""

    parameters: Parameters
    beta: FloatArray
    log_likelihood: float
    n_iterations: int


def hour_of_day(times_s: FloatArray, lon_deg: FloatArray) -> FloatArray:
    """Return cosine and sine of the local solar time of day; shape (n, 2)."""
    turn = 2 * math.pi * ((times_s + lon_deg * _SOLAR_S_PER_DEG) % 86_400.0) / 86_400.0
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def log_transitions(beta: FloatArray, covariates: FloatArray) -> FloatArray:
    """Return the log probability of each transition into each row.

    Shapes: ``beta`` (1 + p, K (K - 1)), intercept first, columns by row of the matrix with its diagonal (which is the
    base, 0) left out; ``covariates`` (n, p); result (n, K, K).
    """
    n_states = round((1 + math.sqrt(1 + 4 * beta.shape[1])) / 2)
    design = np.hstack([np.ones((covariates.shape[0], 1)), covariates])
    logits = np.zeros((covariates.shape[0], n_states, n_states))
    logits[:, ~np.eye(n_states, dtype=bool)] = design @ beta
    top = logits.max(axis=2, keepdims=True)
    return np.asarray(logits - top - np.log(np.exp(logits - top).sum(axis=2, keepdims=True)))


def fit_with_covariates(
    step: FloatArray,
    angle_rad: FloatArray,
    starts: IntArray,
    covariates: FloatArray,
    first: Parameters,
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 1000,
) -> CovariateFit:
    """Return the model whose transitions depend on ``covariates`` (n, p), beginning from one whose do not.

    Raises ValueError where a covariate is missing.
    """
    if not bool(np.isfinite(covariates).all()):
        raise ValueError("a covariate is missing: fill it, or leave the row's burst out")
    rows = statistics(step, angle_rad)
    design = np.hstack([np.ones((rows.shape[0], 1)), covariates])
    n_states = first.n_states
    off_diagonal = ~np.eye(n_states, dtype=bool)
    chances = np.maximum(np.array(first.transitions), 1e-6)
    beta = np.zeros((design.shape[1], n_states * (n_states - 1)))
    beta[0] = np.log(chances / np.diag(chances)[:, None])[off_diagonal]
    is_inner = np.ones(rows.shape[0], dtype=bool)
    is_inner[starts] = False
    parameters = first
    history: list[float] = []
    while True:
        transitions = log_transitions(beta, covariates)
        emissions = rows @ weights(parameters)
        start = np.log(np.maximum(np.array(parameters.start), TINY))
        filtered, log_likelihood = chain.forward(start, transitions, emissions, starts)
        history.append(log_likelihood)
        if len(history) >= max_iterations or _is_done(history, tolerance):
            break
        later = chain.backward(transitions, emissions, starts)
        posterior = chain.smoothed(filtered, later)
        inner = np.flatnonzero(is_inner)
        joint = filtered[inner - 1][:, :, None] + transitions[inner] + (emissions[inner] + later[inner])[:, None, :]
        pairs = np.exp(joint - joint.max(axis=(1, 2), keepdims=True))
        pairs /= pairs.sum(axis=(1, 2), keepdims=True)
        for origin in range(n_states):
            columns = slice(origin * (n_states - 1), (origin + 1) * (n_states - 1))
            targets = [state for state in range(n_states) if state != origin]
            beta[:, columns] = _logit(design[inner], pairs[:, origin, :], targets, beta[:, columns])
        parameters = msgspec.structs.replace(
            maximised(parameters, posterior.T @ rows),
            start=tuple(posterior[starts].mean(axis=0).tolist()),
        )
    order = sorted(range(n_states), key=lambda i: parameters.step_mean[i])
    matrix = np.empty((design.shape[1], n_states, n_states))
    matrix[:, off_diagonal] = beta
    matrix = matrix[:, order][:, :, order]
    beta = matrix[:, off_diagonal]
    at_zero = np.exp(log_transitions(beta, np.zeros((1, covariates.shape[1]))))[0]
    ordered = parameters.reordered(order)
    return CovariateFit(
        parameters=msgspec.structs.replace(ordered, transitions=tuple(tuple(row) for row in at_zero.tolist())),
        beta=beta,
        log_likelihood=history[-1],
        n_iterations=len(history),
    )


def _logit(design: FloatArray, pairs: FloatArray, targets: Sequence[int], beta: FloatArray) -> FloatArray:
    """Maximise the expected log probability of the moves from one state; ``pairs`` (n, K) weighs where they went."""
    n_columns, n_targets = design.shape[1], len(targets)
    moved, total = pairs[:, targets], pairs.sum(axis=1)
    value = _logit_value(design, moved, total, beta)
    for _ in range(10):
        logits = np.hstack([np.zeros((design.shape[0], 1)), design @ beta])
        chances = chain.normalised(logits)[:, 1:]
        gradient = design.T @ (moved - total[:, None] * chances) - _RIDGE * beta
        hessian = np.zeros((n_columns, n_targets, n_columns, n_targets))
        for a in range(n_targets):
            for b in range(n_targets):
                spread = total * chances[:, a] * ((a == b) - chances[:, b])
                hessian[:, a, :, b] = design.T @ (spread[:, None] * design)
        size = n_columns * n_targets
        matrix = hessian.reshape(size, size) + _RIDGE * np.eye(size)
        change = np.linalg.solve(matrix, gradient.reshape(size)).reshape(n_columns, n_targets)
        tried, better = beta + change, _logit_value(design, moved, total, beta + change)
        while better < value:
            change = change / 2
            tried, better = beta + change, _logit_value(design, moved, total, beta + change)
        gain, beta, value = better - value, tried, better
        if gain < 1e-10:
            break
    return beta


def _logit_value(design: FloatArray, moved: FloatArray, total: FloatArray, beta: FloatArray) -> float:
    scores = design @ beta
    top = np.maximum(scores.max(axis=1), 0.0)
    log_sum = top + np.log(np.exp(-top) + np.exp(scores - top[:, None]).sum(axis=1))
    return float((moved * scores).sum() - (total * log_sum).sum() - 0.5 * _RIDGE * (beta**2).sum())


def _is_done(history: Sequence[float], tolerance: float) -> bool:
    if len(history) < 4:
        return False
    gain, before = history[-1] - history[-2], history[-2] - history[-3]
    if gain <= 1e-9:
        return True
    ratio = min(gain / before, 0.9999) if before > 0 else 0.9999
    return gain * ratio / (1 - ratio) < tolerance
