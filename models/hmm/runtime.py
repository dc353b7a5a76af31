"""The behaviour model at the station: quantised tables, a forward filter per fix, a fixed-lag state, Viterbi.

Numpy alone. A state's log density of a step is the sum of two tables, over the logarithm of the step's length and over
the turning angle, stored as int16 in 1/256 nat and interpolated between bins. The few logarithms of transition and
stationary probabilities are int32 in 1/65536 nat: the error of a transition is the same at every step of a run and adds
up. All is added in whole 1/65536 nats.

Three answers, which differ on up to 15 % of rows; each name says which it is:

- *filtered*: given the steps up to this one; known at once.
- *smoothed*: given ``LAG`` more steps. **This is the state that is shown.** Until those have come it uses what there
  is, and ``lag`` says how many.
- *Viterbi*: the most likely whole sequence over the window.

A state is a state of movement. Its name says what such movement most often is; nothing here has seen the animal.

A gap ends a burst and the next one begins from the stationary distribution.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.artifact import PACKAGED, Loaded, load_newest
from models.hmm import chain
from models.hmm.features import NO_ROWS, FloatArray, IntArray, Rows, joined
from shared.errors import ArtifactError, ModelUnavailable

#: What one unit of a table is worth, in nats.
UNIT_NAT: Final = 1 / 256
#: What sums, and the logarithms of the chain's probabilities, are counted in.
FINE_NAT: Final = 1 / 65_536
_FINE_PER_UNIT: Final = 256
#: Later steps that the shown state waits for.
LAG: Final = 2

N_STEP_BINS: Final = 1024
N_ANGLE_BINS: Final = 256
#: Lengths covered by the step table; beyond, its ends serve. Below 0.1 m a position is noise.
MIN_STEP_M: Final = 0.1
MAX_STEP_M: Final = 200_000.0

#: A probability below exp of this is as good as none.
LEAST_NAT: Final = -128.0
_LOG_MIN_STEP: Final = math.log(MIN_STEP_M)
_STEP_BIN: Final = (math.log(MAX_STEP_M) - _LOG_MIN_STEP) / (N_STEP_BINS - 1)
_ANGLE_BIN: Final = 2 * math.pi / N_ANGLE_BINS

#: Names by number of states, in order of mean step.
STATE_NAMES: Final[dict[int, tuple[str, ...]]] = {
    1: ("moving",),
    2: ("resting", "moving"),
    3: ("resting", "foraging", "migrating"),
    4: ("resting", "foraging", "walking", "migrating"),
}

# By scientific name, by genus, and by the last word of a common name, in lower case.
_MODEL_OF: Final = {
    "loxodonta": "elephant",
    "elephas": "elephant",
    "elephant": "elephant",
    "syncerus": "buffalo",
    "buffalo": "buffalo",
    "connochaetes": "wildebeest",
    "wildebeest": "wildebeest",
    "gnu": "wildebeest",
}
GENERIC: Final = "generic"


class Variant(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A species' model for steps of one interval.

    Tables hold int16 in 1/256 nat: ``step_table`` (K, 1024) over log length, ``angle_table`` (K, 256) over the circle
    from -pi, ``zero_log`` (K,) for a step of length zero. In 1/65536 nat: ``log_transitions`` (K, K) and
    ``log_stationary`` (K,).
    """

    interval_s: float
    tolerance: float
    state_names: tuple[str, ...]
    step_table: npt.NDArray[np.int16]
    angle_table: npt.NDArray[np.int16]
    zero_log: npt.NDArray[np.int16]
    log_transitions: npt.NDArray[np.int32]
    log_stationary: npt.NDArray[np.int32]

    @property
    def n_states(self) -> int:
        """The number of states."""
        return len(self.state_names)

    def log_densities(self, step_m: FloatArray, angle_rad: FloatArray) -> IntArray:
        """Return the log density of each row under each state in 1/65536 nat; shape (n, K).

        Shapes: inputs (n,), NaN where missing: that says nothing and adds zero.
        """
        total = np.zeros((len(step_m), self.n_states), dtype=np.int64)
        moved = step_m > 0
        if bool(moved.any()):
            position = (np.log(np.clip(step_m[moved], MIN_STEP_M, MAX_STEP_M)) - _LOG_MIN_STEP) / _STEP_BIN
            total[moved] = _interpolated(self.step_table, position, is_circle=False)
        total[step_m == 0] = self.zero_log.astype(np.int64) * _FINE_PER_UNIT
        turned = np.isfinite(angle_rad)
        if bool(turned.any()):
            position = np.mod(angle_rad[turned] + math.pi, 2 * math.pi) / _ANGLE_BIN
            total[turned] += _interpolated(self.angle_table, position, is_circle=True)
        return total

    def viterbi(self, rows: Rows) -> IntArray:
        """Return the most likely states of a trajectory; shape (n,)."""
        emissions = self.log_densities(rows.step_m, rows.angle_rad)
        return chain.viterbi(
            self.log_stationary.astype(np.int64), self.log_transitions.astype(np.int64), emissions, rows.starts
        )

    def filtered(self, rows: Rows) -> FloatArray:
        """Return the posterior of each row's state given the rows of its burst up to it; shape (n, K).

        The same as ``decode`` gives, several times as fast: no logarithm is taken on the way, and nothing is looked at
        twice.
        """
        emissions = nats(self.log_densities(rows.step_m, rows.angle_rad))
        return chain.filtered_probabilities(
            np.exp(normalised_log(nats(self.log_stationary))),
            np.exp(normalised_log(nats(self.log_transitions))),
            np.exp(emissions - emissions.max(axis=1, keepdims=True)),
            rows.starts,
        )

    def decode(self, rows: Rows, lag: int = LAG) -> Decoded:
        """Return the states of a trajectory that is known as a whole."""
        emissions = self.log_densities(rows.step_m, rows.angle_rad)
        in_nats = nats(emissions)
        transitions = normalised_log(nats(self.log_transitions))
        filtered, log_likelihood = chain.forward(
            normalised_log(nats(self.log_stationary)), transitions, in_nats, rows.starts
        )
        return Decoded(
            filtered=np.exp(filtered),
            smoothed=chain.fixed_lag(filtered, transitions, in_nats, rows.starts, lag),
            viterbi=self.viterbi(rows),
            log_likelihood=log_likelihood,
        )

    def steps(self, rows: Rows, times_s: FloatArray, lag: int = LAG) -> list[StepState]:
        """Return what is said of each step of a trajectory once its last fix has come.

        ``times_s`` are those of its fixes. ``models.hmm.tracker`` says the same, fix by fix.
        """
        return self.steps_of_each([rows], [times_s], lag)[0]

    def steps_of_each(
        self, many: Sequence[Rows], times_s: Sequence[FloatArray], lag: int = LAG
    ) -> list[list[StepState]]:
        """Return what ``steps`` says of each trajectory; many are worked out sooner at once."""
        rows = joined(many) if many else NO_ROWS
        if not len(rows.step_m):
            return [[] for _ in many]
        in_nats = nats(self.log_densities(rows.step_m, rows.angle_rad))
        transitions = normalised_log(nats(self.log_transitions))
        start = normalised_log(nats(self.log_stationary))
        filtered, evidence = chain.forward_rows(start, transitions, in_nats, rows.starts)
        smoothed = chain.fixed_lag(filtered, transitions, in_nats, rows.starts, lag)
        posterior = np.exp(filtered)
        found, begin = [], 0
        for its, its_times_s in zip(many, times_s, strict=True):
            part = slice(begin, begin + len(its.step_m))
            found.append(self._states(its, its_times_s, smoothed[part], posterior[part], evidence[part], lag))
            begin = part.stop
        return found

    def _states(
        self,
        rows: Rows,
        times_s: FloatArray,
        smoothed: FloatArray,
        filtered: FloatArray,
        evidence: FloatArray,
        lag: int,
    ) -> list[StepState]:
        n_rows = len(rows.step_m)
        if not n_rows:
            return []
        ends = np.append(rows.starts[1:], n_rows)
        ahead = np.repeat(ends, rows.lengths) - np.arange(n_rows) - 1
        # the last burst has ended too where a fix lies beyond what could have continued it
        latest_s = times_s[rows.fix[-1]] + self.interval_s * (1 + self.tolerance)
        is_open = (np.arange(n_rows) >= rows.starts[-1]) & (np.nanmax(times_s) <= latest_s)
        best = smoothed.argmax(axis=1)
        columns = (
            times_s[rows.previous_fix], times_s[rows.fix], rows.step_m, rows.angle_rad, best, smoothed, filtered,
            np.minimum(ahead, lag), (ahead >= lag) | ~is_open, evidence,
        )  # fmt: skip
        listed = zip(*(np.asarray(column).tolist() for column in columns), strict=True)
        return [
            StepState(
                started_at_s=started_at_s,
                ended_at_s=ended_at_s,
                step_m=step_m,
                angle_rad=None if math.isnan(angle_rad) else angle_rad,
                state=self.state_names[state],
                confidence=after[state],
                smoothed=tuple(after),
                filtered=tuple(by_now),
                lag=waited,
                is_settled=is_settled,
                log_likelihood=density,
            )
            for started_at_s, ended_at_s, step_m, angle_rad, state, after, by_now, waited, is_settled, density in listed
        ]


class Decoded(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """States of each row: posteriors (n, K) given the past and given a fixed lag more, and the Viterbi path (n,)."""

    filtered: FloatArray
    smoothed: FloatArray
    viterbi: IntArray
    log_likelihood: float


class BehaviourModel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A species' model: one variant an interval, shortest first."""

    name: str
    version: int
    variants: tuple[Variant, ...]
    refused: tuple[str, ...] = ()

    def variant_for(self, interval_s: float) -> Variant:
        """Return the variant for a collar whose fixes are usually ``interval_s`` apart.

        It is the one whose interval the collar keeps within the tolerance, or else the shortest of at least twice the
        collar's interval, to which its fixes are thinned. Raises ModelUnavailable for a collar slower than all.
        """
        close = [v for v in self.variants if abs(interval_s - v.interval_s) <= v.tolerance * v.interval_s]
        if close:
            return min(close, key=lambda v: abs(math.log(interval_s / v.interval_s)))
        for variant in self.variants:
            if variant.interval_s >= 2 * interval_s:
                return variant
        raise ModelUnavailable(
            f"the {self.name} model knows steps up to {self.variants[-1].interval_s / 3600:g} h, "
            f"this collar's fixes are {interval_s / 3600:g} h apart"
        )


class StepState(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says of one step, the one that ends at ``ended_at_s``.

    ``state`` is the most probable smoothed state and ``confidence`` its probability; ``lag`` later steps were used, and
    ``is_settled`` says that no more will be waited for. Posteriors are in the order of ``state_names``.
    ``log_likelihood``: log density of the step given those before; far below an animal's usual, it is unusual.
    """

    started_at_s: float
    ended_at_s: float
    step_m: float
    angle_rad: float | None
    state: str
    confidence: float
    smoothed: tuple[float, ...]
    filtered: tuple[float, ...]
    lag: int
    is_settled: bool
    log_likelihood: float


def model_name(species: str | None) -> str:
    """Return which model serves a species, by its common or scientific name in any case."""
    words = (species or "").lower().replace("_", " ").replace("-", " ").split()
    if not words:
        return GENERIC
    for word in (words[0], words[-1], words[-1].removesuffix("s")):
        if word in _MODEL_OF:
            return _MODEL_OF[word]
    return GENERIC


def load_model(species: str | None, folder: Path = PACKAGED) -> BehaviourModel:
    """Return the newest good model for a species; ``generic`` where it has none of its own that is good.

    Raises ModelUnavailable where the generic one cannot be used either.
    """
    name = model_name(species)
    if name != GENERIC:
        try:
            return _load(folder, name)
        except ModelUnavailable as error:
            fallback = _load(folder, GENERIC)
            return msgspec.structs.replace(fallback, refused=(error.detail, *fallback.refused))
    return _load(folder, GENERIC)


def _load(folder: Path, name: str) -> BehaviourModel:
    model, loaded = load_newest(folder, "hmm", name, model_of)
    return msgspec.structs.replace(model, refused=loaded.refused)


class _VariantSettings(msgspec.Struct, frozen=True):
    interval_s: float
    tolerance: float
    state_names: tuple[str, ...]
    parameters: dict[str, Any]


class _Settings(msgspec.Struct, frozen=True):
    variants: tuple[_VariantSettings, ...]


def model_of(loaded: Loaded) -> BehaviourModel:
    """Build the model of a verified artefact; raises ArtifactError where it is not one of ours."""
    manifest = loaded.manifest
    title = f"{manifest.model}/{manifest.version}/{manifest.name}"
    try:
        settings = msgspec.convert(manifest.settings, _Settings)
    except msgspec.ValidationError as error:
        raise ArtifactError(f"{title}: {error}") from error
    if not settings.variants:
        raise ArtifactError(f"{title}: it has no variant")
    for spec in manifest.arrays:
        if (spec.number_format, spec.scale) != number_format(spec.name):
            raise ArtifactError(f"{title}: {spec.name} is {spec.number_format} in {spec.scale:g} {spec.unit}")
    variants: list[Variant] = []
    for i, found in enumerate(settings.variants):
        k = len(found.state_names)
        if not found.interval_s > 0 or not 0 <= found.tolerance < 1 / 3:
            raise ArtifactError(f"{title}: variant {i} has an impossible interval")
        tables: dict[str, npt.NDArray[Any]] = {}
        for table, shape in table_shapes(k).items():
            values = loaded.arrays.get(f"{i}/{table}")
            if values is None or values.shape != shape:
                raise ArtifactError(f"{title}: {table} of variant {i} is not of shape {shape}")
            tables[table] = values
        variants.append(
            Variant(interval_s=found.interval_s, tolerance=found.tolerance, state_names=found.state_names, **tables)
        )
    if any(a.interval_s >= b.interval_s for a, b in itertools.pairwise(variants)):
        raise ArtifactError(f"{title}: its variants are not in order")
    return BehaviourModel(name=manifest.name, version=manifest.version, variants=tuple(variants))


def table_shapes(n_states: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each table of a variant, by name."""
    return {
        "step_table": (n_states, N_STEP_BINS),
        "angle_table": (n_states, N_ANGLE_BINS),
        "zero_log": (n_states,),
        "log_transitions": (n_states, n_states),
        "log_stationary": (n_states,),
    }


def number_format(table: str) -> tuple[str, float]:
    """Return how a table is stored, and what one of its units is worth in nats."""
    is_chain = table.endswith(("log_transitions", "log_stationary"))
    return ("int32", FINE_NAT) if is_chain else ("int16", UNIT_NAT)


def step_nodes_m() -> FloatArray:
    """Return the lengths at which the step table is given; shape (1024,)."""
    return np.exp(_LOG_MIN_STEP + _STEP_BIN * np.arange(N_STEP_BINS, dtype=np.float64))


def angle_nodes_rad() -> FloatArray:
    """Return the angles at which the angle table is given; shape (256,)."""
    return -math.pi + _ANGLE_BIN * np.arange(N_ANGLE_BINS, dtype=np.float64)


def median_interval_s(times_s: FloatArray) -> float | None:
    """Return how far apart the fixes of a collar usually are; None for fewer than two."""
    gaps_s = np.diff(times_s)
    if not bool((gaps_s > 0).all()):  # not in order, or an instant twice
        gaps_s = np.diff(np.unique(times_s))
    return float(np.median(gaps_s)) if gaps_s.size else None


def _interpolated(table: npt.NDArray[np.int16], position: FloatArray, *, is_circle: bool) -> IntArray:
    n_bins = table.shape[1]
    below = np.floor(position).astype(np.int64)
    below = np.mod(below, n_bins) if is_circle else np.clip(below, 0, n_bins - 2)
    above = np.mod(below + 1, n_bins) if is_circle else below + 1
    share = position - np.floor(position) if is_circle else position - below
    low, high = table[:, below].astype(np.float64), table[:, above].astype(np.float64)
    return np.rint((low + share * (high - low)) * _FINE_PER_UNIT).astype(np.int64).T


def nats(units: npt.NDArray[np.integer[Any]]) -> FloatArray:
    """Return whole 1/65536 nats as nats."""
    return units.astype(np.float64) * FINE_NAT


def normalised_log(values: FloatArray) -> FloatArray:
    """Return log probabilities whose rows sum to one, as rounded ones do not quite."""
    top = values.max(axis=-1, keepdims=True)
    shifted: FloatArray = values - top
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
