"""From the fixes of one animal's turn to what is written of it: pure, but for the models that are passed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edge.store.computing import Computed, Fixes, Step, Window
from models.hmm.runtime import LAG, StepState
from models.live import runtime as live
from shared.insight import Ahead, Predicted

#: After so many newer fixes the variance of the path is estimated anew.
VARIANCE_AFTER: Final = 12
#: Fixes that one turn computes at most; a year that arrives at once takes several.
TURN: Final = 4_096


class Outcome(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a turn found: ``steps`` stand in the place of those that end from ``since_ms`` through ``through_ms``.

    ``ahead`` is where it may walk into from its newest fix; None where nobody looked. ``through_ms`` is None where the
    turn reached the newest fix; else the next turn begins at ``again_ms``.
    """

    window: Window
    said: live.Said
    steps: list[Step]
    since_ms: int
    through_ms: int | None
    again_ms: int | None
    computed: Computed
    ahead: tuple[Ahead, ...] | None = None
    #: where it will be, where that was worked out on the way
    predicted: tuple[Predicted, ...] = ()

    @property
    def shown(self) -> Step | None:
        """The newest step that is settled; where none is, the newest."""
        settled = [step for step in self.steps if step.is_settled] or self.steps
        return settled[-1] if settled else None


def columns_of(fixes: Fixes) -> live.Fixes:
    """Return fixes as the models take them."""
    return live.Fixes(
        times_s=fixes.column("recorded_ms", 1e-3),
        lon_deg=fixes.column("lon_e7", 1e-7),
        lat_deg=fixes.column("lat_e7", 1e-7),
        h_acc_m=fixes.column("h_acc_m"),
        hdop=fixes.column("hdop"),
    )


def outcomes_of(windows: Sequence[Window], models: live.Models) -> list[Outcome]:
    """Return what the models say of each window's fixes and what of it is written."""
    asked = [
        live.Asked(
            species=window.subject.species,
            fixes=columns_of(window.fixes),
            variance_m2_per_s=window.computed.variance_m2_per_s if _is_variance_known(window) else None,
        )
        for window in windows
    ]
    return [_outcome_of(window, said) for window, said in zip(windows, live.said_of_each(models, asked), strict=True)]


def _is_variance_known(window: Window) -> bool:
    """Say whether the variance of the path was estimated from fixes of this window, and not long ago."""
    known_ms, recorded_ms = window.computed.variance_ms, window.fixes.recorded_ms
    newer = sum(ms > (known_ms or 0) for ms in recorded_ms[-VARIANCE_AFTER:])
    return known_ms is not None and newer < VARIANCE_AFTER and known_ms >= (recorded_ms or [0])[0]


def _outcome_of(window: Window, said: live.Said) -> Outcome:
    before, recorded_ms = window.computed, window.fixes.recorded_ms
    behaviour, path = said.behaviour, said.path
    states = [] if behaviour is None else behaviour.steps
    since_ms = window.due.since_ms
    if behaviour is not None:  # a nearer fix can take the place of one that the chain had chosen before the change
        since_ms -= round(2_000 * behaviour.tolerance_s)
    first = next((n for n, state in enumerate(states) if _ended_ms(state) >= since_ms), len(states))
    steps = [step_of(state) for state in states[max(0, first - LAG) :]]  # the first waited for what comes after
    if steps:
        since_ms = min(since_ms, steps[0].ended_ms)
    last_ms = recorded_ms[-1] if recorded_ms else None
    return Outcome(
        window=window,
        said=said,
        steps=steps,
        since_ms=since_ms,
        through_ms=None if window.is_whole else last_ms,
        again_ms=None if window.is_whole else last_ms,
        computed=Computed(
            model=None if behaviour is None else behaviour.model,
            version=None if behaviour is None else behaviour.version,
            interval_s=None if behaviour is None else behaviour.interval_s,
            through_ms=last_ms,
            missing={str(stage): reason for stage, reason in said.missing.items()},
            path_model=None if path is None else f"{path.model} {path.version}",
            path_sd_m=None if path is None else path.sd_m,
            variance_m2_per_s=None if path is None else path.variance_m2_per_s,
            variance_ms=(before.variance_ms if _is_variance_known(window) else None if path is None else last_ms),
        ),
    )


def step_of(step: StepState) -> Step:
    """Return a step as it is kept."""
    return Step(
        ended_ms=_ended_ms(step),
        started_ms=round(step.started_at_s * 1000),
        step_m=step.step_m,
        angle_rad=step.angle_rad,
        state=step.state,
        confidence=step.confidence,
        lag=step.lag,
        is_settled=step.is_settled,
        log_likelihood=step.log_likelihood,
    )


def _ended_ms(step: StepState) -> int:
    return round(step.ended_at_s * 1000)
