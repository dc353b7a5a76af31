"""All models of the house over the fixes of one animal, in their order; one that fails is named and stops no other.

::

    fixes -> behaviour (hmm) -> path (bbmm) -> what each says, and what is missing with the reason

Pure: models are loaded once (``Models``), fixes are passed in, nothing is kept between calls. A home that has the
states of earlier steps gives the fixes from a kept one on (``BURN_IN`` steps before what it wants to know); what the
steps before those would add has decayed by then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar

import msgspec
import numpy as np

from models.artifact import PACKAGED
from models.bbmm import runtime as bbmm
from models.bbmm.features import frame_for, track_of
from models.forecast import runtime as forecast
from models.hmm import runtime as hmm
from models.hmm.features import FloatArray, Rows, rows_of
from shared.errors import ArtifactError, ModelUnavailable
from shared.insight import ModelName, ModelStatus

Stage: TypeAlias = Literal["behaviour", "path"]

#: Steps before the ones wanted that a window begins with: a state's memory of them is gone after fewer.
BURN_IN: Final = 24
#: The newest fixes that the variance of the path is estimated from.
RECENT: Final = 64

_FAULTS: Final = (ArithmeticError, ValueError, LookupError)

T = TypeVar("T")


class Fixes(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Usable fixes of one animal by time, one at each instant; arrays (n,), NaN where nothing was stated."""

    times_s: FloatArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    h_acc_m: FloatArray
    hdop: FloatArray

    def __len__(self) -> int:
        return int(self.times_s.size)

    def newest(self, count: int) -> Fixes:
        """Return the last ``count`` of them."""
        return Fixes(
            times_s=self.times_s[-count:],
            lon_deg=self.lon_deg[-count:],
            lat_deg=self.lat_deg[-count:],
            h_acc_m=self.h_acc_m[-count:],
            hdop=self.hdop[-count:],
        )


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """What the behaviour model says: its name, version and regular step, and every step of the fixes given."""

    model: str
    version: int
    interval_s: float
    tolerance_s: float
    steps: list[hmm.StepState]


class Width(msgspec.Struct, frozen=True, kw_only=True):
    """How wide the path between the last two fixes is in its middle, and the variance that says so.

    ``radius_50_m`` and ``radius_95_m`` are measured radii; all three are None where the gap is too long for a bridge.
    """

    variance_m2_per_s: float
    gap_s: float
    sd_m: float | None
    radius_50_m: float | None
    radius_95_m: float | None
    model: str
    version: int


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What every stage says of one animal. ``missing``: why a stage says nothing."""

    behaviour: Behaviour | None
    path: Width | None
    missing: dict[Stage, str]


class Models:
    """The models of a home, each loaded when it is first asked for and kept; a refusal is kept too."""

    def __init__(self, folder: Path = PACKAGED) -> None:
        self._folder = folder
        self._behaviour: dict[str, hmm.BehaviourModel | str] = {}
        self._calibration: dict[str, bbmm.Calibration | str] = {}
        self._forecaster: dict[str, forecast.Forecaster | str] = {}
        self._mark = object()

    @property
    def mark(self) -> object:
        """What is another object once other models serve."""
        return self._mark

    def turn_to(self, folder: Path) -> None:
        """Load from another folder from now on; what was loaded is let go of when its answers are given."""
        self._folder = folder
        self._behaviour, self._calibration, self._forecaster = {}, {}, {}
        self._mark = object()

    def load(self) -> dict[str, str]:
        """Load what serves every species; return why something newer or all of it was refused, by model."""
        refused: dict[str, str] = {}
        for title, ask in (("hmm", self.behaviour), ("bbmm", self.calibration)):
            try:
                newer = ask(None).refused
            except ModelUnavailable as error:
                newer = (error.detail,)
            if newer:
                refused[title] = "; ".join(newer)
        try:
            unavailable = self.forecaster(None).unavailable
        except ModelUnavailable as error:
            unavailable = error.detail
        if unavailable is not None:
            refused["forecast"] = unavailable
        return refused

    def statuses(self) -> list[ModelStatus]:
        """Say how each model is, for species that have none of their own; loads what is not loaded yet."""
        return [
            _status("hmm", self.behaviour),
            _status("bbmm", self.calibration),
            self._forecast_status(),
        ]

    def _forecast_status(self) -> ModelStatus:
        try:
            forecaster = self.forecaster(None)
        except ModelUnavailable as error:
            return ModelStatus(model="forecast", status="unavailable", detail=error.detail)
        if forecaster.unavailable is not None:
            return ModelStatus(model="forecast", status="degraded", detail=f"plain forecasts: {forecaster.unavailable}")
        network = forecaster.network()
        return ModelStatus(
            model="forecast",
            status="degraded" if network.refused else "ready",
            versions={"network": f"{network.version} ({network.engine.name})"},
            detail="; ".join(network.refused) or None,
        )

    def behaviour(self, species: str | None) -> hmm.BehaviourModel:
        """Return the behaviour model of a species; raises ModelUnavailable."""
        return _kept(self._behaviour, hmm.model_name(species), lambda: hmm.load_model(species, self._folder))

    def calibration(self, species: str | None) -> bbmm.Calibration:
        """Return the calibration of a species' bridges; raises ModelUnavailable."""
        return _kept(
            self._calibration, bbmm.calibration_name(species), lambda: bbmm.load_calibration(species, self._folder)
        )

    def forecaster(self, species: str | None) -> forecast.Forecaster:
        """Return the forecaster of a species; raises ModelUnavailable."""
        return _kept(
            self._forecaster,
            forecast.group_of(species) or "",
            lambda: forecast.load_forecaster(species, self._folder),
        )


def _status(model: ModelName, ask: Callable[[None], hmm.BehaviourModel | bbmm.Calibration]) -> ModelStatus:
    try:
        found = ask(None)
    except ModelUnavailable as error:
        return ModelStatus(model=model, status="unavailable", detail=error.detail)
    return ModelStatus(
        model=model,
        status="degraded" if found.refused else "ready",
        versions={found.name: str(found.version)},
        detail="; ".join(found.refused) or None,
    )


def _kept(kept: dict[str, T | str], name: str, load: Callable[[], T]) -> T:
    if name not in kept:
        try:
            kept[name] = load()
        except (ModelUnavailable, ArtifactError) as error:
            kept[name] = error.detail
    found = kept[name]
    if isinstance(found, str):
        raise ModelUnavailable(found)
    return found


class Asked(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An animal's fixes; ``variance_m2_per_s`` spares its estimate where it is known from before."""

    species: str | None
    fixes: Fixes
    variance_m2_per_s: float | None = None


class _Chain(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One animal's rows and what decodes them."""

    model: hmm.BehaviourModel
    variant: hmm.Variant
    rows: Rows
    times_s: FloatArray


def said(models: Models, species: str | None, fixes: Fixes, *, variance_m2_per_s: float | None = None) -> Said:
    """Return what every stage says; ``variance_m2_per_s`` spares its estimate where it is known from before."""
    return said_of_each(models, [Asked(species=species, fixes=fixes, variance_m2_per_s=variance_m2_per_s)])[0]


def said_of_each(models: Models, asked: Sequence[Asked]) -> list[Said]:
    """Return what ``said`` says of each animal; many are worked out sooner at once."""
    missing: list[dict[Stage, str]] = [{} for _ in asked]
    behaviours = _behaviours(models, asked, missing)
    return [
        Said(
            behaviour=behaviours[number],
            path=_stage(
                missing[number],
                "path",
                functools.partial(newest_width, models, one.species, one.fixes, one.variance_m2_per_s),
            ),
            missing=missing[number],
        )
        for number, one in enumerate(asked)
    ]


def behaviour(models: Models, species: str | None, fixes: Fixes) -> Behaviour:
    """Return the state of every step; raises ModelUnavailable where there is no model for these intervals."""
    chain = _chain_of(models, species, fixes)
    return _behaviour_of(chain, chain.variant.steps(chain.rows, chain.times_s))


def _stage(missing: dict[Stage, str], name: Stage, ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except ModelUnavailable as error:
        missing[name] = error.detail
    except _FAULTS as error:  # a fault of one model is no reason to lose another
        missing[name] = f"failed: {type(error).__name__}: {error}"
    return None


def _behaviours(models: Models, asked: Sequence[Asked], missing: Sequence[dict[Stage, str]]) -> list[Behaviour | None]:
    """Return what the behaviour model says of each; those of one variant are decoded together."""
    found: list[Behaviour | None] = [None] * len(asked)
    groups: dict[int, list[tuple[int, _Chain]]] = {}
    for number, one in enumerate(asked):
        begun = _stage(missing[number], "behaviour", functools.partial(_chain_of, models, one.species, one.fixes))
        if begun is not None:
            groups.setdefault(id(begun.variant), []).append((number, begun))
    for group in groups.values():
        chains = [chain for _, chain in group]
        try:
            steps = chains[0].variant.steps_of_each([one.rows for one in chains], [one.times_s for one in chains])
        except _FAULTS:  # one by one, so that it is known whose it is
            for number, chain in group:
                decode = functools.partial(chain.variant.steps, chain.rows, chain.times_s)
                alone = _stage(missing[number], "behaviour", decode)
                found[number] = None if alone is None else _behaviour_of(chain, alone)
            continue
        for (number, chain), its in zip(group, steps, strict=True):
            found[number] = _behaviour_of(chain, its)
    return found


def _chain_of(models: Models, species: str | None, fixes: Fixes) -> _Chain:
    model = models.behaviour(species)
    interval_s = hmm.median_interval_s(fixes.times_s)
    if interval_s is None:
        raise ModelUnavailable("there is no step yet: fewer than two fixes")
    variant = model.variant_for(interval_s)
    rows = rows_of(fixes.times_s, fixes.lon_deg, fixes.lat_deg, variant.interval_s, tolerance=variant.tolerance)
    return _Chain(model=model, variant=variant, rows=rows, times_s=fixes.times_s)


def _behaviour_of(chain: _Chain, steps: list[hmm.StepState]) -> Behaviour:
    return Behaviour(
        model=chain.model.name,
        version=chain.model.version,
        interval_s=chain.variant.interval_s,
        tolerance_s=chain.variant.tolerance * chain.variant.interval_s,
        steps=steps,
    )


def newest_width(models: Models, species: str | None, fixes: Fixes, variance_m2_per_s: float | None = None) -> Width:
    """Return how wide the path is in the middle of the last bridge; raises ModelUnavailable for a lone fix."""
    calibration = models.calibration(species)
    if len(fixes) < 2:
        raise ModelUnavailable("there is no path yet: fewer than two fixes")
    if variance_m2_per_s is None:
        variance_m2_per_s = recent_variance(calibration, fixes)
    gap_s = float(fixes.times_s[-1] - fixes.times_s[-2])
    width = Width(
        variance_m2_per_s=variance_m2_per_s,
        gap_s=gap_s,
        sd_m=None,
        radius_50_m=None,
        radius_95_m=None,
        model=calibration.name,
        version=calibration.version,
    )
    if gap_s > calibration.max_gap_s:
        return width
    error0_m, error1_m = bbmm.errors_of(calibration, fixes.h_acc_m[-2:], fixes.hdop[-2:]).tolist()
    sd_m = float(np.sqrt(gap_s * variance_m2_per_s / 4 + (error0_m**2 + error1_m**2) / 4))
    inner, outer = calibration.multiples(np.array([gap_s]))
    return msgspec.structs.replace(
        width, sd_m=sd_m, radius_50_m=float(inner[0]) * sd_m, radius_95_m=float(outer[0]) * sd_m
    )


def recent_variance(calibration: bbmm.Calibration, fixes: Fixes) -> float:
    """Return the motion variance of the newest fixes, that of the species where they are too few."""
    newest = fixes.newest(RECENT)
    frame = frame_for(newest.lon_deg, newest.lat_deg)
    track = track_of(
        newest.times_s, newest.lon_deg, newest.lat_deg, frame, calibration.errors, h_acc_m=newest.h_acc_m,
        hdop=newest.hdop,
    )  # fmt: skip
    try:
        return bbmm.motion_variance(track, max_gap_s=calibration.max_gap_s).variance_m2_per_s
    except ValueError:
        return calibration.variance_m2_per_s
