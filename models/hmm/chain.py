"""The hidden Markov chain: forward, backward, fixed-lag smoothing and Viterbi, in log space, with numpy alone.

Rows lie one after another in bursts; ``starts`` holds the first row of each, beginning with 0. A burst restarts the
chain from ``log_start``. ``log_transitions`` is (K, K), or (n, K, K) where transitions depend on covariates: entry t is
the step *into* row t (that of the first row of a burst is not used). Emissions are (n, K) log densities.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

# Bursts are taken abreast, as arrays, from so many on (of the longest one's length): it is faster then.
_BROAD: Final = 4
_BROAD_IN_LOGS: Final = 2


def forward(
    log_start: FloatArray, log_transitions: FloatArray, log_emissions: FloatArray, starts: IntArray
) -> tuple[FloatArray, float]:
    """Return log p(state at t | rows of the burst up to t), shape (n, K), and the log-likelihood of all rows."""
    filtered, evidence = forward_rows(log_start, log_transitions, log_emissions, starts)
    return filtered, float(evidence.sum())


def forward_rows(
    log_start: FloatArray, log_transitions: FloatArray, log_emissions: FloatArray, starts: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Return the same with the log density of each row given those before it in its burst; (n, K) and (n,)."""
    way = _abreast_in_logs if _is_broad(starts, log_emissions.shape[0], _BROAD_IN_LOGS) else _row_by_row
    return way(log_start, log_transitions, log_emissions, starts)


def _abreast_in_logs(
    log_start: FloatArray, log_transitions: FloatArray, log_emissions: FloatArray, starts: IntArray
) -> tuple[FloatArray, FloatArray]:
    """What ``_row_by_row`` returns, to the last bit, sooner where bursts are many."""
    n_rows, n_states = log_emissions.shape
    filtered = np.empty((n_rows, n_states))
    evidences = np.empty(n_rows)
    varies = log_transitions.ndim == 3
    state = np.empty((0, n_states))
    for t, rows in enumerate(_abreast(starts, n_rows)):
        if t == 0:
            state = log_start + log_emissions[rows]
        else:
            joint = state[: rows.size, :, None] + (log_transitions[rows] if varies else log_transitions)
            top = joint.max(axis=1)
            state = top + np.log(np.exp(joint - top[:, None]).sum(axis=1)) + log_emissions[rows]
        peak = state.max(axis=1)
        evidence = peak + np.log(np.exp(state - peak[:, None]).sum(axis=1))
        evidences[rows] = evidence
        state = state - evidence[:, None]
        filtered[rows] = state
    return filtered, evidences


def _row_by_row(
    log_start: FloatArray, log_transitions: FloatArray, log_emissions: FloatArray, starts: IntArray
) -> tuple[FloatArray, FloatArray]:
    n_rows, n_states = log_emissions.shape
    filtered = np.empty((n_rows, n_states))
    evidences = np.empty(n_rows)
    is_start = _marks(starts, n_rows)
    varies = log_transitions.ndim == 3
    state = log_start
    for t in range(n_rows):
        if is_start[t]:
            state = log_start + log_emissions[t]
        else:
            joint = state[:, None] + (log_transitions[t] if varies else log_transitions)
            top = joint.max(axis=0)
            state = top + np.log(np.exp(joint - top).sum(axis=0)) + log_emissions[t]
        peak = state.max()
        evidence = peak + np.log(np.exp(state - peak).sum())
        evidences[t] = evidence
        state = state - evidence
        filtered[t] = state
    return filtered, evidences


def filtered_probabilities(
    start: FloatArray, transitions: FloatArray, likelihoods: FloatArray, starts: IntArray
) -> FloatArray:
    """Return p(state at t | rows of the burst up to t), shape (n, K), of plain probabilities that do not vary.

    Few states are filtered sooner in plain numbers than in arrays, many bursts sooner abreast. Both add and multiply
    in one order: a burst's answer does not depend on what else is asked.
    """
    way = _side_by_side if _is_broad(starts, likelihoods.shape[0], _BROAD) else _one_by_one
    return way(start, transitions, likelihoods, starts)


def _side_by_side(start: FloatArray, transitions: FloatArray, likelihoods: FloatArray, starts: IntArray) -> FloatArray:
    n_rows, n_states = likelihoods.shape
    found = np.empty((n_rows, n_states))
    state = np.empty((0, n_states))
    for t, rows in enumerate(_abreast(starts, n_rows)):
        ahead: FloatArray = start
        if t:
            was = state[: rows.size]
            ahead = was[:, :1] * transitions[0]
            for k in range(1, n_states):
                ahead = ahead + was[:, k : k + 1] * transitions[k]
        joint = ahead * likelihoods[rows]
        total = joint[:, 0]
        for k in range(1, n_states):
            total = total + joint[:, k]
        state = joint / total[:, None]
        found[rows] = state
    return found


def _one_by_one(start: FloatArray, transitions: FloatArray, likelihoods: FloatArray, starts: IntArray) -> FloatArray:
    stationary, into = start.tolist(), transitions.T.tolist()
    begins = set(starts.tolist())
    found: list[list[float]] = []
    state: list[float] = stationary
    for t, likelihood in enumerate(likelihoods.tolist()):
        ahead = stationary
        if t not in begins:
            ahead = [_sum([was * share for was, share in zip(state, shares, strict=True)]) for shares in into]
        joint = [share * density for share, density in zip(ahead, likelihood, strict=True)]
        total = _sum(joint)
        state = [one / total for one in joint]
        found.append(state)
    return np.array(found, dtype=np.float64).reshape(likelihoods.shape)


def _sum(values: list[float]) -> float:
    """The sum from left to right: ``sum`` of later versions of Python keeps a remainder, arrays do not."""
    total = values[0]
    for value in values[1:]:
        total += value
    return total


def _is_broad(starts: IntArray, n_rows: int, least: int) -> bool:
    """Say whether there are so many rows, all bursts together, as ``least`` of the longest burst have."""
    return bool(n_rows and n_rows >= least * int(np.diff(np.append(starts, n_rows)).max(initial=0)))


def _abreast(starts: IntArray, n_rows: int) -> Iterator[IntArray]:
    """The first row of each burst, then the second of those that have one, and so on, the longest burst first."""
    if starts.size == 0 or starts[0] != 0:
        raise ValueError("the first row begins a burst")
    lengths = np.diff(np.append(starts, n_rows))
    order = np.argsort(-lengths, kind="stable")
    begins, lengths = starts[order], lengths[order]
    going = np.searchsorted(-lengths, -np.arange(int(lengths[0])), side="left")
    for t, n in enumerate(going.tolist()):
        yield begins[:n] + t


def backward(log_transitions: FloatArray, log_emissions: FloatArray, starts: IntArray) -> FloatArray:
    """Return log p(later rows of the burst | state at t) up to a constant a row; shape (n, K)."""
    n_rows, n_states = log_emissions.shape
    later = np.zeros((n_rows, n_states))
    is_start = _marks(starts, n_rows)
    varies = log_transitions.ndim == 3
    for t in range(n_rows - 2, -1, -1):
        if is_start[t + 1]:
            continue
        step = log_transitions[t + 1] if varies else log_transitions
        joint = step + log_emissions[t + 1] + later[t + 1]
        top = joint.max(axis=1)
        row = top + np.log(np.exp(joint - top[:, None]).sum(axis=1))
        later[t] = row - row.max()
    return later


def smoothed(filtered: FloatArray, later: FloatArray) -> FloatArray:
    """Return p(state at t | all rows of the burst) from what ``forward`` and ``backward`` returned; shape (n, K)."""
    return normalised(filtered + later)


def fixed_lag(
    filtered: FloatArray, log_transitions: FloatArray, log_emissions: FloatArray, starts: IntArray, lag: int
) -> FloatArray:
    """Return p(state at t | rows of the burst up to t + lag), shape (n, K), for transitions that do not vary.

    The last rows of a burst have fewer rows after them and use what there is. Raises ValueError for a negative lag.
    """
    if lag < 0:
        raise ValueError("the lag is negative")
    n_rows = filtered.shape[0]
    has_next = np.ones(n_rows, dtype=bool)
    has_next[-1:] = False
    has_next[starts[1:] - 1] = False
    transitions = np.exp(log_transitions)
    emissions = np.exp(log_emissions - log_emissions.max(axis=1, keepdims=True))
    later = np.ones_like(filtered)
    for _ in range(lag):
        ahead = np.ones_like(filtered)
        ahead[:-1] = (emissions[1:] * later[1:]) @ transitions.T
        ahead[~has_next] = 1.0
        later = ahead / ahead.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        return normalised(filtered + np.log(later))


def viterbi(
    log_start: FloatArray | IntArray,
    log_transitions: FloatArray | IntArray,
    log_emissions: FloatArray | IntArray,
    starts: IntArray,
) -> IntArray:
    """Return the most likely sequence of states; shape (n,). Takes logarithms in any unit, whole numbers too."""
    n_rows, n_states = log_emissions.shape
    if n_rows == 0:
        return np.empty(0, dtype=np.int64)
    is_start = _marks(starts, n_rows)
    varies = log_transitions.ndim == 3
    came_from = np.zeros((n_rows, n_states), dtype=np.int64)
    best_last = np.zeros(n_rows, dtype=np.int64)
    columns = np.arange(n_states)
    score = log_emissions[0]
    for t in range(n_rows):
        if is_start[t]:
            if t:
                best_last[t - 1] = score.argmax()
            score = log_start + log_emissions[t]
            continue
        joint = score[:, None] + (log_transitions[t] if varies else log_transitions)
        came_from[t] = joint.argmax(axis=0)
        score = joint[came_from[t], columns] + log_emissions[t]
    path = np.empty(n_rows, dtype=np.int64)
    path[-1] = score.argmax()
    for t in range(n_rows - 1, 0, -1):
        path[t - 1] = best_last[t - 1] if is_start[t] else came_from[t, path[t]]
    return path


def normalised(log_weights: FloatArray) -> FloatArray:
    """Return probabilities proportional to the exponentials of each row."""
    probabilities = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))


def _marks(starts: IntArray, n_rows: int) -> list[bool]:
    if n_rows and (starts.size == 0 or starts[0] != 0):
        raise ValueError("the first row begins a burst")
    marks = np.zeros(n_rows, dtype=bool)
    marks[starts] = True
    return marks.tolist()
