"""Fitting: expectation-maximisation on hmmlearn's base class, from several starts, the best likelihood kept.

hmmlearn brings the chain (its E-step in C++, start and transition probabilities); the emissions of ``emissions.py`` are
ours, because Gaussian ones change the states. Rows enter as sufficient statistics, so the E-step of the emissions is a
matrix product and the M-step needs K sums of seven numbers: gamma shapes solve log a - digamma(a) = log mean - mean log
by Newton, von Mises concentrations solve I1(k) / I0(k) = mean resultant length by Newton.

EM crawls near the top. Every start is first run for a few iterations, the most promising go on until what is still to
be gained, estimated from the last two gains as a geometric series (Aitken), is below ``tolerance``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from hmmlearn.base import BaseHMM  # type: ignore[import-untyped] # it ships no types
from scipy.special import digamma, i0e, i1e, polygamma

from models.artifact import Manifest, TrainingSet, versions
from models.hmm import chain
from models.hmm.datasets import DATASETS, Dataset, Trajectory, trajectories
from models.hmm.emissions import TINY, FloatArray, Parameters, log_densities, statistics, weights
from models.hmm.export import export, quantised
from models.hmm.features import TOLERANCE, IntArray, Rows, rows_of
from models.hmm.runtime import GENERIC, Variant, model_name
from shared.errors import Invalid

#: Bounds that keep a state from collapsing onto a few rows with equal steps or headings.
MAX_SHAPE: Final = 1000.0
MAX_CONCENTRATION: Final = 300.0
#: Intervals between fixes for which a default is trained, in seconds. In six hours and more an animal does a bit of
#: everything: the slowest state of a buffalo walks 835 m, and "resting" would be its name and not its nature.
INTERVALS_S: Final = (900.0, 1200.0, 1800.0, 3600.0, 7200.0, 10_800.0, 14_400.0)
#: Fewer steps in all than this make no variant; an individual counts with so many, in bursts of so many on average.
MIN_ROWS: Final = 1000
MIN_ROWS_EACH: Final = 50
MIN_BURST: Final = 6
#: What one individual adds to the generic model at most.
GENERIC_ROWS_EACH: Final = 3000

_MIN_SHAPE: Final = 1e-3
_SCREEN_ITERATIONS: Final = 15


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The best model found, its log-likelihood on the training rows, and that of every start that was run out."""

    parameters: Parameters
    log_likelihood: float
    n_rows: int
    start_log_likelihoods: tuple[float, ...]
    n_iterations: int


class _Patience:
    """Says when EM has come close enough to its limit; stands in the place of hmmlearn's monitor."""

    def __init__(self, tolerance: float, max_iterations: int) -> None:
        self.history: list[float] = []
        self._tolerance = tolerance
        self._max_iterations = max_iterations

    def _reset(self) -> None:
        self.history.clear()

    def report(self, log_prob: float) -> None:
        """Take the log-likelihood of one iteration."""
        self.history.append(float(log_prob))

    @property
    def converged(self) -> bool:
        """Whether to stop."""
        history = self.history
        if len(history) >= self._max_iterations:
            return True
        if len(history) < 4:
            return False
        gain, before = history[-1] - history[-2], history[-2] - history[-3]
        if gain <= 1e-9:
            return True
        ratio = gain / before if before > gain else 0.9999
        return gain * ratio / (1 - ratio) < self._tolerance


class StepAngleHMM(BaseHMM):  # type: ignore[misc] # its base has no types
    """hmmlearn's chain over gamma steps and von Mises angles; rows are the statistics of ``emissions.statistics``."""

    def __init__(self, parameters: Parameters, *, tolerance: float = 1e-4, max_iterations: int = 3000) -> None:
        super().__init__(n_components=parameters.n_states, n_iter=max_iterations, params="ste", init_params="")
        self.monitor_ = _Patience(tolerance, max_iterations)
        self.parameters = parameters
        self._weights = weights(parameters)
        self.startprob_ = np.array(parameters.start)
        self.transmat_ = np.array(parameters.transitions)

    def fitted(self) -> Parameters:
        """Return the parameters as they stand, states ordered by mean step."""
        found = self.parameters
        current = Parameters(
            step_mean=found.step_mean,
            step_sd=found.step_sd,
            zero_mass=found.zero_mass,
            angle_mean=found.angle_mean,
            angle_concentration=found.angle_concentration,
            transitions=tuple(tuple(row) for row in self.transmat_.tolist()),
            start=tuple(self.startprob_.tolist()),
        )
        return current.reordered(sorted(range(current.n_states), key=lambda i: current.step_mean[i]))

    def _get_n_fit_scalars_per_param(self) -> None:
        # hmmlearn would compare the count with the number of statistics, not of rows.
        return None

    def _compute_log_likelihood(self, X: FloatArray) -> FloatArray:  # noqa: N803  # the base class's name
        return X @ self._weights

    def _compute_posteriors_log(self, fwdlattice: FloatArray, bwdlattice: FloatArray) -> FloatArray:
        # The base class's own costs more than everything else where bursts are short.
        return chain.normalised(fwdlattice + bwdlattice)

    def _initialize_sufficient_statistics(self) -> dict[str, Any]:
        stats: dict[str, Any] = super()._initialize_sufficient_statistics()
        stats["sums"] = np.zeros((self.n_components, 7))
        return stats

    def _accumulate_sufficient_statistics(
        self,
        stats: dict[str, Any],
        X: FloatArray,  # noqa: N803  # the base class's name
        lattice: FloatArray,
        posteriors: FloatArray,
        fwdlattice: FloatArray,
        bwdlattice: FloatArray,
    ) -> None:
        super()._accumulate_sufficient_statistics(stats, X, lattice, posteriors, fwdlattice, bwdlattice)
        stats["sums"] += posteriors.T @ X

    def _do_mstep(self, stats: dict[str, Any]) -> None:
        super()._do_mstep(stats)
        self.parameters = maximised(self.parameters, stats["sums"])
        self._weights = weights(self.parameters)


def fit(
    step: FloatArray,
    angle_rad: FloatArray,
    lengths: Sequence[int],
    n_states: int,
    *,
    seed: int = 0,
    n_starts: int = 8,
    n_finalists: int = 2,
    tolerance: float = 1e-4,
    first: Parameters | None = None,
) -> Fit:
    """Return the best model of ``n_states`` over the bursts of ``lengths`` rows each.

    ``step`` and ``angle_rad`` are (n,), NaN where missing. ``first`` is one more start (a fit of the same kind).
    Raises ValueError where there is too little to fit: fewer than ten steps a state.
    """
    rows = statistics(step, angle_rad)
    if rows[:, 0].sum() < 10 * n_states:
        raise ValueError(f"{int(rows[:, 0].sum())} steps are too few for {n_states} states")
    rng = np.random.default_rng(seed)
    starts = [_random_start(rows, n_states, rng, is_plain=i == 0) for i in range(n_starts)]
    if first is not None:
        starts.append(first)
    screened = [_run(rows, lengths, start, tolerance, _SCREEN_ITERATIONS) for start in starts]
    screened.sort(key=lambda run: -run[1])
    finals = [_run(rows, lengths, parameters, tolerance, 3000) for parameters, _, _ in screened[:n_finalists]]
    best = max(finals, key=lambda run: run[1])
    return Fit(
        parameters=best[0],
        log_likelihood=best[1],
        n_rows=len(rows),
        start_log_likelihoods=tuple(run[1] for run in finals),
        n_iterations=best[2] + _SCREEN_ITERATIONS,
    )


def train(
    data: Path,
    folder: Path,
    *,
    version: int | None = None,
    names: Sequence[str] = ("elephant", "wildebeest", "buffalo", "generic"),
    seed: int = 0,
) -> list[Manifest]:
    """Train the species' defaults on the track files in ``data``, write them to ``folder`` and return their manifests.

    Every interval of ``INTERVALS_S`` at which the species' tracks have enough steps gets a variant. The manifest says
    for each, measured: rows, quantised against float64 Viterbi, and, where there is more than one individual, what the
    model gains on individuals that were left out over a correlated random walk (one state), in nats a step.
    Raises Invalid where there is no track file to train on.
    """
    found = [
        (dataset, trajectory)
        for dataset in DATASETS
        if (data / dataset.file).is_file()
        for trajectory in trajectories(data / dataset.file)
    ]
    if not found:
        raise Invalid(f"{data}: none of the track files is here: {', '.join(d.file for d in DATASETS)}")
    number = version if version is not None else max([0, *versions(folder, "hmm")]) + 1
    return [
        manifest
        for name in names
        if (manifest := _train_one(name, _individuals_of(name, found), folder, number, seed)) is not None
    ]


def _individuals_of(name: str, found: list[tuple[Dataset, Trajectory]]) -> list[tuple[Dataset, Trajectory]]:
    return [pair for pair in found if name in (GENERIC, model_name(pair[1].species))]


def _train_one(
    name: str, individuals: list[tuple[Dataset, Trajectory]], folder: Path, version: int, seed: int
) -> Manifest | None:
    variants: list[tuple[Variant, Parameters]] = []
    metrics: dict[str, float] = {}
    used: dict[str, set[str]] = {}
    n_rows: dict[str, int] = {}
    # A pooled model must not be that of the animal with the longest record.
    most = GENERIC_ROWS_EACH if name == GENERIC else None
    for interval_s in INTERVALS_S:
        parts: list[_Part] = []
        sources: list[tuple[Dataset, Trajectory]] = []
        for dataset, trajectory in individuals:
            part = _part(trajectory, interval_s, most)
            if part is not None:
                parts.append(part)
                sources.append((dataset, trajectory))
        if sum(part.step.size for part in parts) < MIN_ROWS:
            continue
        best = _fit_parts(parts, 3, seed)
        variant = quantised(best.parameters, interval_s, TOLERANCE)
        variants.append((variant, best.parameters))
        for (dataset, trajectory), part in zip(sources, parts, strict=True):
            used.setdefault(dataset.file, set()).add(trajectory.individual)
            n_rows[dataset.file] = n_rows.get(dataset.file, 0) + part.step.size
        key = f"{interval_s:g}s"
        metrics[f"{key}/rows"] = float(best.n_rows)
        metrics[f"{key}/log_likelihood_per_step"] = best.log_likelihood / best.n_rows
        metrics[f"{key}/quantised_viterbi_agreement"] = _quantised_agreement(variant, best.parameters, parts)
        if len(parts) > 1:
            gains = [_held_out_gain(parts, left_out, best.parameters, seed) for left_out in range(len(parts))]
            metrics[f"{key}/held_out_gain_nats_per_step"] = float(np.mean(gains))
            metrics[f"{key}/held_out_gain_least"] = float(min(gains))
    if not variants:
        return None
    by_file = {dataset.file: dataset for dataset, _ in individuals}
    return export(
        folder,
        name,
        version,
        variants,
        metrics=metrics,
        trained_on=tuple(
            TrainingSet(
                dataset=file,
                individuals=tuple(sorted(used[file])),
                rows=n_rows[file],
                licence=by_file[file].licence,
                citation=by_file[file].citation,
            )
            for file in sorted(used)
        ),
    )


class _Part(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The rows of one individual."""

    step: FloatArray
    angle: FloatArray
    lengths: list[int]


def _part(trajectory: Trajectory, interval_s: float, most: int | None) -> _Part | None:
    rows = rows_of(trajectory.times_s, trajectory.lon_deg, trajectory.lat_deg, interval_s, flags=trajectory.flags)
    lengths: list[int] = []
    for length in rows.lengths:
        room = length if most is None else min(length, most - sum(lengths))
        if room > 0:
            lengths.append(room)
    n = sum(lengths)
    if n < MIN_ROWS_EACH or n < MIN_BURST * len(lengths):
        return None
    # Only the last burst is cut short, so the rows that are kept are the first ones.
    return _Part(step=rows.step_m[:n], angle=rows.angle_rad[:n], lengths=lengths)


def _fit_parts(parts: Sequence[_Part], n_states: int, seed: int, first: Parameters | None = None) -> Fit:
    return fit(
        np.concatenate([part.step for part in parts]),
        np.concatenate([part.angle for part in parts]),
        [length for part in parts for length in part.lengths],
        n_states,
        seed=seed,
        n_starts=0 if first is not None else 5,
        n_finalists=1,
        first=first,
        tolerance=1.0 if first is not None else 1e-2,
    )


def _held_out_gain(parts: list[_Part], left_out: int, first: Parameters, seed: int) -> float:
    others = [part for i, part in enumerate(parts) if i != left_out]
    part = parts[left_out]
    scores = []
    for n_states, start in ((3, first), (1, None)):
        parameters = _fit_parts(others, n_states, seed, start).parameters
        # A zero step that the others never made is not impossible.
        parameters = msgspec.structs.replace(
            parameters, zero_mass=tuple(max(mass, 1e-4) for mass in parameters.zero_mass)
        )
        scores.append(log_likelihood(parameters, part.step, part.angle, starts_of(part.lengths)))
    return (scores[0] - scores[1]) / part.step.size


def _quantised_agreement(variant: Variant, parameters: Parameters, parts: Sequence[_Part]) -> float:
    step = np.concatenate([part.step for part in parts])
    angle = np.concatenate([part.angle for part in parts])
    starts = starts_of([length for part in parts for length in part.lengths])
    exact = chain.viterbi(
        np.log(np.maximum(parameters.stationary(), TINY)),
        np.log(np.maximum(parameters.transitions, TINY)),
        log_densities(parameters, step, angle),
        starts,
    )
    none = np.zeros(step.size, dtype=np.int64)
    rows = Rows(step_m=step, angle_rad=angle, fix=none, previous_fix=none, starts=starts, n_fixes_used=0)
    return float((variant.viterbi(rows) == exact).mean())


def starts_of(lengths: Sequence[int]) -> IntArray:
    """Return the first row of each burst."""
    return np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)


def log_likelihood(parameters: Parameters, step: FloatArray, angle_rad: FloatArray, starts: IntArray) -> float:
    """Return the log-likelihood of rows under a model, computed by our own forward pass."""
    return chain.forward(
        np.log(np.maximum(parameters.start, TINY)),
        np.log(np.maximum(parameters.transitions, TINY)),
        log_densities(parameters, step, angle_rad),
        starts,
    )[1]


def _run(
    rows: FloatArray, lengths: Sequence[int], start: Parameters, tolerance: float, max_iterations: int
) -> tuple[Parameters, float, int]:
    model = StepAngleHMM(start, tolerance=tolerance, max_iterations=max_iterations)
    model.fit(rows, lengths)
    return model.fitted(), float(model.score(rows, lengths)), len(model.monitor_.history)


def _random_start(rows: FloatArray, n_states: int, rng: np.random.Generator, *, is_plain: bool) -> Parameters:
    """Cut the steps at quantiles (even ones, or random) and let each part be a state."""
    steps = np.sort(rows[rows[:, 0] > 0, 2])
    zero_share = float(rows[:, 1].sum() / max(1.0, rows[:, :2].sum()))
    inner = np.arange(1, n_states) / n_states if is_plain else np.sort(rng.uniform(0.05, 0.95, n_states - 1))
    cuts = np.concatenate(([0.0], inner, [1.0]))
    means, sds = [], []
    for low, high in itertools.pairwise(cuts.tolist()):
        begin = min(int(low * steps.size), steps.size - 5)
        part = steps[begin : max(int(high * steps.size), begin + 5)]
        means.append(float(part.mean()))
        sds.append(float(max(part.std(), 0.3 * part.mean())))
    stay = 0.8 if is_plain else float(rng.uniform(0.6, 0.95))
    leave = (1 - stay) / max(1, n_states - 1)
    directions = [math.pi if i == 0 and n_states > 1 else 0.0 for i in range(n_states)]
    return Parameters(
        step_mean=tuple(means),
        step_sd=tuple(sds),
        zero_mass=tuple(zero_share for _ in range(n_states)),
        angle_mean=tuple(directions),
        angle_concentration=tuple(0.5 + i for i in range(n_states))
        if is_plain
        else tuple(rng.uniform(0.1, 3, n_states).tolist()),
        transitions=tuple(
            tuple((stay if i == j else leave) if n_states > 1 else 1.0 for j in range(n_states))
            for i in range(n_states)
        ),
        start=tuple(1 / n_states for _ in range(n_states)),
    )


def maximised(old: Parameters, sums: FloatArray) -> Parameters:
    """Return the emissions that maximise the expected log-likelihood, given the weighted sums (K, 7)."""
    mean, sd, zero, direction, concentration = [], [], [], [], []
    for state, (moved, stood, length, log_length, turned, cosine, sine) in enumerate(sums.tolist()):
        zero.append(stood / (moved + stood) if moved + stood > 0 else old.zero_mass[state])
        if moved > TINY and length > 0:
            state_mean = length / moved
            shape = _gamma_shape(max(math.log(state_mean) - log_length / moved, 0.0))
            mean.append(state_mean)
            sd.append(state_mean / math.sqrt(shape))
        else:
            mean.append(old.step_mean[state])
            sd.append(old.step_sd[state])
        if turned > TINY:
            direction.append(math.atan2(sine, cosine))
            concentration.append(_concentration(min(math.hypot(cosine, sine) / turned, 1.0)))
        else:
            direction.append(old.angle_mean[state])
            concentration.append(old.angle_concentration[state])
    return msgspec.structs.replace(
        old,
        step_mean=tuple(mean),
        step_sd=tuple(sd),
        zero_mass=tuple(zero),
        angle_mean=tuple(direction),
        angle_concentration=tuple(concentration),
    )


def _gamma_shape(excess: float) -> float:
    """Solve log a - digamma(a) = ``excess`` (log of the mean less mean of the logs)."""
    if excess <= 0.5 / MAX_SHAPE:
        return MAX_SHAPE
    # Minka (2002): within 1.5 % of the root everywhere.
    shape = (3 - excess + math.sqrt((excess - 3) ** 2 + 24 * excess)) / (12 * excess)
    for _ in range(20):
        slope = 1 / shape - float(polygamma(1, shape))
        change = (math.log(shape) - float(digamma(shape)) - excess) / slope
        shape = shape / 2 if change >= shape else shape - change
        if abs(change) < 1e-12 * shape:
            break
    return min(max(shape, _MIN_SHAPE), MAX_SHAPE)


def _concentration(resultant: float) -> float:
    """Solve I1(k) / I0(k) = ``resultant`` length."""
    if resultant < 1e-9:
        return 0.0
    # Best & Fisher's starting value (Banerjee et al. 2005).
    limit = 0.9983
    kappa = resultant * (2 - resultant**2) / (1 - min(resultant, limit) ** 2)
    for _ in range(30):
        ratio = float(i1e(kappa) / i0e(kappa))
        slope = 1 - ratio / kappa - ratio**2
        change = (ratio - resultant) / slope
        kappa = kappa / 2 if change >= kappa else min(kappa - change, MAX_CONCENTRATION)
        if abs(change) < 1e-12 * max(kappa, 1.0):
            break
    return min(kappa, MAX_CONCENTRATION)
