"""What the behaviour model is worth, measured: against reference fits, a behaviour label, simulated truth, and itself.

Reference rows (steps in km, angles) and fits by moveHMM 1.12 lie in a folder outside the project; where it is absent,
what needs it is left out and the rest is measured. Everything is seeded.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from models.hmm import chain
from models.hmm.covariates import fit_with_covariates, log_transitions
from models.hmm.datasets import DATASETS, Trajectory, trajectories
from models.hmm.emissions import TINY, FloatArray, Parameters, log_densities
from models.hmm.export import quantised
from models.hmm.features import TOLERANCE, IntArray, Rows, rows_of
from models.hmm.runtime import LAG, load_model, median_interval_s
from models.hmm.train import Fit, fit, log_likelihood
from shared.errors import Invalid, ModelUnavailable

#: The reference fits without covariates, by the name of their files.
REFERENCES: Final = ("hmm_elk_moveHMM", "hmm_buf_Wniger_30min", "hmm_salif_2009_1h", "hmm_AG195_2010_20min")
_KM: Final = 1000.0


class ReferenceCase(msgspec.Struct, frozen=True, kw_only=True):
    """One reference fit and ours, on the same rows.

    ``given_difference``: our log-likelihood at the reference's parameters less the reference's own.
    ``fit_difference``: our optimum less the reference's; above zero is better. Agreements are shares of rows:
    ``viterbi_agreement`` of our fit's Viterbi states with the reference's, ``given_viterbi_agreement`` at its own,
    ``quantised_viterbi_agreement`` of the station's tables with float64 at the reference's parameters,
    ``filter_viterbi_agreement`` and ``smoothed_viterbi_agreement`` of the filtered and the shown state with Viterbi,
    ``smoothed_full_agreement`` of the shown state with the one that knows the whole burst.
    """

    dataset: str
    n_states: int
    rows: int
    reference_log_likelihood: float
    log_likelihood: float
    fit_difference: float
    given_difference: float
    viterbi_agreement: float
    given_viterbi_agreement: float
    quantised_viterbi_agreement: float
    filter_viterbi_agreement: float
    smoothed_viterbi_agreement: float
    smoothed_full_agreement: float
    step_mean_km: tuple[float, ...]
    fit_s: float


class CovariateCase(msgspec.Struct, frozen=True, kw_only=True):
    """A reference fit whose transitions depend on a covariate: ours, and the reference's parameters scored by us."""

    dataset: str
    n_states: int
    reference_log_likelihood: float
    log_likelihood: float
    fit_difference: float
    given_difference: float
    given_viterbi_agreement: float


class LabelCase(msgspec.Struct, frozen=True, kw_only=True):
    """The Niger buffalo's activity sensor (active: at least half of the interval) against "not the slowest state"."""

    n_states: int
    intervals: int
    share_active: float
    accuracy_viterbi: float
    accuracy_shown: float
    mean_activity_by_state: tuple[float, ...]


class SimulatedCase(msgspec.Struct, frozen=True, kw_only=True):
    """A simulated animal: share of steps whose state is the true one, by model."""

    name: str
    n_states: int
    rows: int
    accuracy_own_fit: float
    accuracy_true_parameters: float
    accuracy_station_shown: float
    fit_s: float


class SpeciesCase(msgspec.Struct, frozen=True, kw_only=True):
    """What the species' packaged model makes of the tracks in a file; shares are of steps, by the shown state."""

    dataset: str
    individual: str
    model: str
    version: int
    interval_s: float
    steps: int
    bursts: int
    fixes_left_out: int
    share_by_state: dict[str, float]
    median_step_m_by_state: dict[str, float]
    mean_confidence: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """``log_likelihood``: of our fits to the reference rows, by data set and number of states.

    ``without_state`` names the individuals whose fixes are too far apart for a packaged model.
    """

    log_likelihood: dict[str, dict[str, float]]
    difference_to_reference: dict[str, dict[str, float]]
    reference: tuple[ReferenceCase, ...]
    covariates: tuple[CovariateCase, ...]
    labels: tuple[LabelCase, ...]
    simulated: tuple[SimulatedCase, ...]
    species: tuple[SpeciesCase, ...]
    without_state: tuple[str, ...]


class ReferenceRows(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The rows of a reference file; ``columns`` holds every column as text."""

    step_km: FloatArray
    angle_rad: FloatArray
    starts: IntArray
    columns: dict[str, list[str]]

    @property
    def lengths(self) -> list[int]:
        """The number of rows of each track."""
        return [int(n) for n in np.diff(np.append(self.starts, self.step_km.size))]

    def states(self, column: str) -> IntArray:
        """Return the reference's states, counted from 0."""
        return np.array([int(value) - 1 for value in self.columns[column]], dtype=np.int64)

    def rows_m(self) -> Rows:
        """Return the rows as the runtime takes them."""
        none = np.zeros(self.step_km.size, dtype=np.int64)
        return Rows(
            step_m=self.step_km * _KM, angle_rad=self.angle_rad, fix=none, previous_fix=none, starts=self.starts,
            n_fixes_used=self.step_km.size,
        )  # fmt: skip


def evaluate(data: Path, reference: Path | None = None, *, seed: int = 0) -> Evaluation:
    """Measure the model on the track files in ``data`` and the reference rows in ``reference``.

    ``reference`` may be the folder of the rows or the one above it, ``models`` in which they lie; without it,
    ``data/../reference`` is looked at. Raises Invalid where neither has anything.
    """
    reference = reference if reference is not None else data.parent / "reference"
    if not any((reference / f"{name}.csv").is_file() for name in REFERENCES):
        reference = reference / "models"
    names = [name for name in REFERENCES if (reference / f"{name}.csv").is_file()]
    files = [dataset.file for dataset in DATASETS if (data / dataset.file).is_file()]
    if not names and not files:
        raise Invalid(f"neither {data} nor {reference} has anything to evaluate")
    cases: list[ReferenceCase] = []
    covariates: list[CovariateCase] = []
    labels: list[LabelCase] = []
    log_likelihoods: dict[str, dict[str, float]] = {}
    differences: dict[str, dict[str, float]] = {}
    for name in names:
        rows = read_reference(reference / f"{name}.csv")
        fits = msgspec.json.decode((reference / f"{name}.json").read_bytes())
        dataset = name.removeprefix("hmm_")
        for n_states in (2, 3):
            found = fits.get(f"K{n_states}") or fits[f"m{n_states}_null"]
            case, own = _reference_case(dataset, rows, found, n_states, seed)
            cases.append(case)
            log_likelihoods.setdefault(dataset, {})[str(n_states)] = case.log_likelihood
            differences.setdefault(dataset, {})[str(n_states)] = case.fit_difference
            if "activity_next" in rows.columns:
                labels.append(_label_case(rows, own))
            if (with_covariate := fits.get(f"m{n_states}_cov")) is not None:
                covariates.append(_covariate_case(dataset, rows, with_covariate, n_states, own, seed))
    species: list[SpeciesCase] = []
    without_state: list[str] = []
    for file in files:
        for trajectory in trajectories(data / file):
            found_case = _species_case(file, trajectory)
            if found_case is None:
                without_state.append(f"{file}: {trajectory.individual}")
            else:
                species.append(found_case)
    return Evaluation(
        log_likelihood=log_likelihoods,
        difference_to_reference=differences,
        reference=tuple(cases),
        covariates=tuple(covariates),
        labels=tuple(labels),
        simulated=simulated_cases(seed),
        species=tuple(species),
        without_state=tuple(without_state),
    )


def report(found: Evaluation) -> str:
    """Return the evaluation as Markdown tables."""
    parts = [
        _table(
            "Reference rows: moveHMM 1.12 and ours",
            ("data set", "states", "rows", "reference", "ours", "difference", "at its parameters", "Viterbi agrees",
             "station's tables", "filter / Viterbi", "shown / Viterbi", "shown / whole", "mean steps km", "s"),
            [
                (case.dataset, case.n_states, case.rows, f"{case.reference_log_likelihood:.3f}",
                 f"{case.log_likelihood:.3f}", f"{case.fit_difference:+.4f}", f"{case.given_difference:+.0e}",
                 f"{case.viterbi_agreement:.4f}", f"{case.quantised_viterbi_agreement:.4f}",
                 f"{case.filter_viterbi_agreement:.3f}", f"{case.smoothed_viterbi_agreement:.3f}",
                 f"{case.smoothed_full_agreement:.3f}", " ".join(f"{mean:.3f}" for mean in case.step_mean_km),
                 f"{case.fit_s:.1f}")
                for case in found.reference
            ],
        ),
        _table(
            "Transitions that depend on the distance to water",
            ("data set", "states", "reference", "ours", "difference", "at its parameters", "Viterbi agrees"),
            [
                (case.dataset, case.n_states, f"{case.reference_log_likelihood:.3f}", f"{case.log_likelihood:.3f}",
                 f"{case.fit_difference:+.4f}", f"{case.given_difference:+.0e}",
                 f"{case.given_viterbi_agreement:.4f}")
                for case in found.covariates
            ],
        ),
        _table(
            "Activity sensor of the Niger buffalo: not the slowest state = active",
            ("states", "intervals", "share active", "accuracy, Viterbi", "accuracy, shown", "mean activity by state"),
            [
                (case.n_states, case.intervals, f"{case.share_active:.4f}", f"{case.accuracy_viterbi:.4f}",
                 f"{case.accuracy_shown:.4f}", " ".join(f"{mean:.3f}" for mean in case.mean_activity_by_state))
                for case in found.labels
            ],
        ),
        _table(
            "Simulated animals: share of steps with the true state",
            ("animal", "states", "rows", "own fit", "true parameters", "shown at the station", "s to fit"),
            [
                (case.name, case.n_states, case.rows, f"{case.accuracy_own_fit:.4f}",
                 f"{case.accuracy_true_parameters:.4f}", f"{case.accuracy_station_shown:.4f}", f"{case.fit_s:.1f}")
                for case in found.simulated
            ],
        ),
        _table(
            "Packaged models on the tracks, by the shown state",
            ("animal", "model", "interval min", "steps", "bursts", "fixes left out", "shares", "median steps m",
             "confidence"),
            [
                (case.individual, f"{case.model} {case.version}", f"{case.interval_s / 60:g}", case.steps, case.bursts,
                 case.fixes_left_out, ", ".join(f"{name} {share:.2f}" for name, share in case.share_by_state.items()),
                 " ".join(f"{step:.0f}" for step in case.median_step_m_by_state.values()),
                 f"{case.mean_confidence:.2f}")
                for case in found.species
            ],
        ),
    ]  # fmt: skip
    if found.without_state:
        parts.append(f"Fixes too far apart for a state: {'; '.join(found.without_state)}.\n")
    return "\n".join(part for part in parts if part)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    lines = [f"{title}\n", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(str(value) for value in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def read_reference(path: Path) -> ReferenceRows:
    """Read a file of reference rows; raises Invalid where it cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    columns = {name: [row[name] for row in table] for name in table[0]} if table else {}
    if not {"ID", "step_km", "angle"} <= columns.keys():
        raise Invalid(f"{path}: it needs the columns ID, step_km, angle")
    tracks = columns["ID"]
    return ReferenceRows(
        step_km=_numbers(columns["step_km"]),
        angle_rad=_numbers(columns["angle"]),
        starts=np.array([i for i in range(len(tracks)) if i == 0 or tracks[i] != tracks[i - 1]], dtype=np.int64),
        columns=columns,
    )


def reference_parameters(found: Mapping[str, Any]) -> Parameters:
    """Return the parameters of a reference fit (steps in km); with covariates, its transitions are placeholders."""
    step = found.get("step") or found["step_km"]
    n_states = len(step[0])
    even = [[1 / n_states] * n_states] * n_states
    return Parameters(
        step_mean=tuple(step[0]),
        step_sd=tuple(step[1]),
        zero_mass=tuple(step[2]) if len(step) > 2 else (0.0,) * n_states,
        angle_mean=tuple(found["angle"][0]),
        angle_concentration=tuple(found["angle"][1]),
        transitions=tuple(tuple(row) for row in found["gamma"] or even),
        start=tuple(found["delta"]),
    )


def simulate(parameters: Parameters, n_rows: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return steps, angles and the true states of an animal that follows the model exactly; each (n,)."""
    states = np.empty(n_rows, dtype=np.int64)
    edges = np.cumsum(parameters.transitions, axis=1)
    draws = rng.random(n_rows)
    states[0] = int(np.searchsorted(np.cumsum(parameters.start), draws[0]).clip(0, parameters.n_states - 1))
    for t in range(1, n_rows):
        states[t] = min(int(np.searchsorted(edges[states[t - 1]], draws[t])), parameters.n_states - 1)
    mean, sd = np.array(parameters.step_mean)[states], np.array(parameters.step_sd)[states]
    step = rng.gamma((mean / sd) ** 2, sd**2 / mean)
    angle = rng.vonmises(np.array(parameters.angle_mean)[states], np.array(parameters.angle_concentration)[states])
    is_zero = rng.random(n_rows) < np.array(parameters.zero_mass)[states]
    step[is_zero] = 0.0
    angle[is_zero] = np.nan
    angle[0] = np.nan
    return step, angle, states


#: States that a person would tell apart on a map, in metres.
WELL_SEPARATED: Final = Parameters(
    step_mean=(12.0, 180.0, 1100.0),
    step_sd=(9.0, 110.0, 420.0),
    zero_mass=(0.02, 0.0, 0.0),
    angle_mean=(math.pi, 0.0, 0.0),
    angle_concentration=(0.4, 0.6, 3.5),
    transitions=((0.88, 0.10, 0.02), (0.08, 0.86, 0.06), (0.03, 0.12, 0.85)),
    start=(0.3, 0.4, 0.3),
)
#: States as close as those fitted to an elephant's hourly fixes.
AS_AN_ELEPHANT: Final = Parameters(
    step_mean=(110.0, 510.0, 1740.0),
    step_sd=(110.0, 350.0, 750.0),
    zero_mass=(0.0, 0.0, 0.0),
    angle_mean=(0.2, 0.05, 0.0),
    angle_concentration=(0.2, 1.4, 3.0),
    transitions=((0.74, 0.25, 0.01), (0.22, 0.70, 0.08), (0.03, 0.24, 0.73)),
    start=(0.5, 0.3, 0.2),
)


def simulated_cases(seed: int = 0, most_rows: int = 20_000) -> tuple[SimulatedCase, ...]:
    """Measure on simulated animals, the longest of 20,000 rows for the time that a fit takes."""
    cases = (
        ("well separated", _picked(WELL_SEPARATED, (0, 2)), 5000),
        ("well separated", WELL_SEPARATED, 5000),
        ("as an elephant, hourly", AS_AN_ELEPHANT, 20_000),
    )
    return tuple(
        _simulated_case(name, truth, n_rows, seed + i)
        for i, (name, truth, n_rows) in enumerate(cases)
        if n_rows <= most_rows
    )


def _picked(parameters: Parameters, states: Sequence[int]) -> Parameters:
    kept = [[parameters.transitions[i][j] for j in states] for i in states]
    return Parameters(
        step_mean=tuple(parameters.step_mean[i] for i in states),
        step_sd=tuple(parameters.step_sd[i] for i in states),
        zero_mass=tuple(parameters.zero_mass[i] for i in states),
        angle_mean=tuple(parameters.angle_mean[i] for i in states),
        angle_concentration=tuple(parameters.angle_concentration[i] for i in states),
        transitions=tuple(tuple(p / sum(row) for p in row) for row in kept),
        start=tuple(1 / len(states) for _ in states),
    )


def _simulated_case(name: str, truth: Parameters, n_rows: int, seed: int) -> SimulatedCase:
    step, angle, states = simulate(truth, n_rows, np.random.default_rng(seed))
    starts = np.array([0])
    began_s = time.perf_counter()
    own = fit(step, angle, [n_rows], truth.n_states, seed=seed)
    took_s = time.perf_counter() - began_s
    none = np.zeros(n_rows, dtype=np.int64)
    rows = Rows(step_m=step, angle_rad=angle, fix=none, previous_fix=none, starts=starts, n_fixes_used=n_rows)
    shown = quantised(own.parameters, 3600.0, TOLERANCE).decode(rows).smoothed.argmax(axis=1)
    return SimulatedCase(
        name=name,
        n_states=truth.n_states,
        rows=n_rows,
        accuracy_own_fit=_share(viterbi(own.parameters, step, angle, starts) == states),
        accuracy_true_parameters=_share(viterbi(truth, step, angle, starts) == states),
        accuracy_station_shown=_share(shown == states),
        fit_s=took_s,
    )


def viterbi(parameters: Parameters, step: FloatArray, angle_rad: FloatArray, starts: IntArray) -> IntArray:
    """Return the most likely states in float64; shape (n,)."""
    return chain.viterbi(
        _log(parameters.start), _log(parameters.transitions), log_densities(parameters, step, angle_rad), starts
    )


def _reference_case(
    dataset: str, rows: ReferenceRows, found: Mapping[str, Any], n_states: int, seed: int
) -> tuple[ReferenceCase, Fit]:
    parameters = reference_parameters(found)
    step, angle, starts = rows.step_km, rows.angle_rad, rows.starts
    given = log_likelihood(parameters, step, angle, starts)
    began_s = time.perf_counter()
    own = fit(step, angle, rows.lengths, n_states, seed=seed)
    took_s = time.perf_counter() - began_s
    theirs = rows.states(f"viterbi{n_states}")
    # The station restarts from the stationary distribution; so does its float64 counterpart here.
    restarted = msgspec.structs.replace(parameters, start=parameters.stationary())
    exact = viterbi(restarted, step, angle, starts)
    emissions = log_densities(restarted, step, angle)
    transitions = _log(restarted.transitions)
    filtered, _ = chain.forward(_log(restarted.start), transitions, emissions, starts)
    full = chain.smoothed(filtered, chain.backward(transitions, emissions, starts)).argmax(axis=1)
    shown = chain.fixed_lag(filtered, transitions, emissions, starts, LAG).argmax(axis=1)
    station = quantised(parameters, 3600.0, TOLERANCE, metres_per_unit=_KM)
    case = ReferenceCase(
        dataset=dataset,
        n_states=n_states,
        rows=step.size,
        reference_log_likelihood=float(found["loglik"]),
        log_likelihood=own.log_likelihood,
        fit_difference=own.log_likelihood - float(found["loglik"]),
        given_difference=given - float(found["loglik"]),
        viterbi_agreement=_share(viterbi(own.parameters, step, angle, starts) == theirs),
        given_viterbi_agreement=_share(viterbi(parameters, step, angle, starts) == theirs),
        quantised_viterbi_agreement=_share(station.viterbi(rows.rows_m()) == exact),
        filter_viterbi_agreement=_share(filtered.argmax(axis=1) == exact),
        smoothed_viterbi_agreement=_share(shown == exact),
        smoothed_full_agreement=_share(shown == full),
        step_mean_km=own.parameters.step_mean,
        fit_s=took_s,
    )
    return case, own


def _covariate_case(
    dataset: str, rows: ReferenceRows, found: Mapping[str, Any], n_states: int, without: Fit, seed: int
) -> CovariateCase:
    covariates = _numbers(rows.columns["dist_water_std"])[:, None]
    own = max(
        (
            fit_with_covariates(rows.step_km, rows.angle_rad, rows.starts, covariates, first, tolerance=1e-2)
            for first in (without.parameters, *_shaken(without.parameters, seed))
        ),
        key=lambda fitted: fitted.log_likelihood,
    )
    parameters = reference_parameters(found)
    emissions = log_densities(parameters, rows.step_km, rows.angle_rad)
    transitions = log_transitions(np.array(found["beta"], dtype=np.float64), covariates)
    start = _log(parameters.start)
    states = chain.viterbi(start, transitions, emissions, rows.starts)
    return CovariateCase(
        dataset=dataset,
        n_states=n_states,
        reference_log_likelihood=float(found["loglik"]),
        log_likelihood=own.log_likelihood,
        fit_difference=own.log_likelihood - float(found["loglik"]),
        given_difference=chain.forward(start, transitions, emissions, rows.starts)[1] - float(found["loglik"]),
        given_viterbi_agreement=_share(states == rows.states(f"viterbi{n_states}_cov")),
    )


def _shaken(parameters: Parameters, seed: int) -> list[Parameters]:
    """Return starts around a model: an optimum without covariates need not lie below the best one with them."""
    rng = np.random.default_rng(seed)
    even = np.full((parameters.n_states, parameters.n_states), 1 / parameters.n_states)
    starts: list[Parameters] = []
    for _ in range(3):
        factor = np.exp(rng.normal(0, 0.5, parameters.n_states))
        starts.append(
            msgspec.structs.replace(
                parameters,
                step_mean=tuple((np.array(parameters.step_mean) * factor).tolist()),
                step_sd=tuple((np.array(parameters.step_sd) * factor).tolist()),
                transitions=tuple(tuple(row) for row in (0.5 * np.array(parameters.transitions) + 0.5 * even).tolist()),
            )
        )
    return starts


def _label_case(rows: ReferenceRows, own: Fit) -> LabelCase:
    activity = _numbers(rows.columns["activity_next"])
    known = np.isfinite(activity) & np.isfinite(rows.step_km)
    is_active = activity[known] >= 0.5
    states = viterbi(own.parameters, rows.step_km, rows.angle_rad, rows.starts)[known]
    station = quantised(own.parameters, 1800.0, TOLERANCE, metres_per_unit=_KM)
    shown = station.decode(rows.rows_m()).smoothed.argmax(axis=1)[known]
    n_states = own.parameters.n_states
    return LabelCase(
        n_states=n_states,
        intervals=int(known.sum()),
        share_active=_share(is_active),
        accuracy_viterbi=_share((states > 0) == is_active),
        accuracy_shown=_share((shown > 0) == is_active),
        mean_activity_by_state=tuple(float(activity[known][states == k].mean()) for k in range(n_states)),
    )


def _species_case(file: str, trajectory: Trajectory) -> SpeciesCase | None:
    interval_s = median_interval_s(trajectory.times_s)
    if interval_s is None:
        return None
    model = load_model(trajectory.species)
    try:
        variant = model.variant_for(interval_s)
    except ModelUnavailable:
        return None
    rows = rows_of(
        trajectory.times_s,
        trajectory.lon_deg,
        trajectory.lat_deg,
        variant.interval_s,
        tolerance=variant.tolerance,
        flags=trajectory.flags,
    )
    if rows.step_m.size == 0:
        return None
    smoothed = variant.decode(rows).smoothed
    states = smoothed.argmax(axis=1)
    return SpeciesCase(
        dataset=file,
        individual=trajectory.individual,
        model=model.name,
        version=model.version,
        interval_s=variant.interval_s,
        steps=int(rows.step_m.size),
        bursts=int(rows.starts.size),
        fixes_left_out=int(trajectory.times_s.size - rows.n_fixes_used),
        share_by_state={name: _share(states == k) for k, name in enumerate(variant.state_names)},
        median_step_m_by_state={
            name: float(np.median(rows.step_m[states == k]))
            for k, name in enumerate(variant.state_names)
            if bool((states == k).any())
        },
        mean_confidence=float(smoothed.max(axis=1).mean()),
    )


def _numbers(texts: Sequence[str]) -> FloatArray:
    return np.array([math.nan if text in {"", "NA"} else float(text) for text in texts])


def _log(probabilities: Sequence[Any]) -> FloatArray:
    return np.log(np.maximum(np.array(probabilities, dtype=np.float64), TINY))


def _share(hits: Any) -> float:
    return float(np.mean(hits))
