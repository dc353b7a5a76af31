"""What both homes say of an animal, from what models said of its fixes: words and values, and nothing that is asked.

To whoever sees positions reduced a state or a width would sharpen them: models say nothing then, and a forecast is as
coarse as the place that it starts from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.hmm.runtime import StepState
from models.live import runtime as live
from models.live.forecasts import Forecast
from models.live.runtime import Fixes
from models.live.standing import Standing
from shared import insight
from shared.domain import Fix
from shared.errors import ModelUnavailable
from shared.movement.areas import Place
from shared.movement.geodesy import step_lengths_m
from shared.privacy import TIERS, View, cell_shown_deg
from shared.store import LiveAnimal
from shared.sync.records import from_ms

#: Why models say nothing to whoever sees positions reduced: a state, a width or a place ahead would sharpen them.
REDUCED: Final = "models speak of exact positions, which you may not see"
#: An older fix tells nothing of where an animal should go now.
ADVISED_FOR: Final = timedelta(hours=24)
_TOO_OLD: Final = "its newest fix is too old"
DAY: Final = timedelta(days=1)
_DEGREE_M: Final = 111_320.0
_RADII: Final = ("semi_major_50_m", "semi_minor_50_m", "semi_major_90_m", "semi_minor_90_m")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the models said of an animal's fixes."""

    step: insight.StepSaid | None
    distance_24h_m: float | None
    path_sd_m: float | None
    models: Mapping[str, str]
    missing: Mapping[str, str]
    suitability: float | None = None
    advice: insight.Advice | None = None


def columns_of(fixes: Sequence[Fix]) -> Fixes:
    """Return fixes as the models take them; they are placed, by time, one at each instant."""

    def column(name: str) -> npt.NDArray[np.float64]:
        values = [getattr(fix, name) for fix in fixes]
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)

    return Fixes(
        times_s=np.array([fix.recorded_at.timestamp() for fix in fixes], dtype=np.float64),
        lon_deg=column("lon_deg"),
        lat_deg=column("lat_deg"),
        h_acc_m=column("h_acc_m"),
        hdop=column("hdop"),
    )


def distance_of_the_last_day_m(fixes: Fixes) -> float | None:
    """Return the length of the track over the day before its newest fix; None for a lone fix."""
    if not len(fixes):
        return None
    day = fixes.times_s > fixes.times_s[-1] - DAY.total_seconds()
    if day.sum() < 2:
        return None
    return float(step_lengths_m(fixes.lon_deg[day], fixes.lat_deg[day]).sum())


def said_of(step: StepState) -> insight.StepSaid:
    """Return a step as both homes serve it."""
    return insight.StepSaid(
        started_at=from_ms(round(step.started_at_s * 1000)),
        ended_at=from_ms(round(step.ended_at_s * 1000)),
        step_m=step.step_m,
        state=step.state,
        confidence=step.confidence,
        is_settled=step.is_settled,
        log_likelihood=step.log_likelihood,
    )


def shown(behaviour: live.Behaviour | None) -> insight.StepSaid | None:
    """Return the newest step that is settled; where none is, the newest."""
    if behaviour is None or not behaviour.steps:
        return None
    settled = [step for step in behaviour.steps if step.is_settled] or behaviour.steps
    return said_of(settled[-1])


def spoke_of(said: live.Said) -> dict[str, str]:
    """Return which models spoke of how an animal moved."""
    spoke: dict[str, str] = {}
    if said.behaviour is not None:
        spoke["behaviour"] = f"{said.behaviour.model} {said.behaviour.version}"
    if said.path is not None:
        spoke["path"] = f"{said.path.model} {said.path.version}"
    return spoke


def place_of(animal: LiveAnimal) -> Place | None:
    """Return where an animal is."""
    lon_deg, lat_deg = animal.fix.lon_deg, animal.fix.lat_deg
    return None if lon_deg is None or lat_deg is None else Place(lon_deg, lat_deg)


def spoke_of_place(standing: Standing) -> dict[str, str]:
    """Return which model spoke of a place."""
    return {} if standing.model is None or standing.suitability is None else {"habitat": standing.model}


def missing_of_place(standing: Standing) -> dict[str, str]:
    """Return why none did."""
    return {} if standing.missing is None else {"habitat": standing.missing}


def advised(animal: LiveAnimal, known: Known, forecast: Forecast, now: datetime) -> dict[str, Any]:
    """Return the advice on an animal with what spoke and what did not; of an old fix there is none."""
    advice, missing = known.advice, dict(known.missing)
    if now - animal.fix.recorded_at > ADVISED_FOR:
        advice, missing["corridor"] = None, _TOO_OLD
    if forecast.missing is not None:
        missing["forecast"] = forecast.missing
    spoke = {"forecast": forecast.predicted[0].model} if forecast.predicted else {}
    if advice is not None:
        spoke["corridor"] = advice.model
    return {"advice": advice, "models": {**known.models, **spoke}, "missing": missing}


def reduced(animal: LiveAnimal, view: View) -> insight.AnimalInsight:
    """Return an animal as whoever sees positions reduced has it: models say nothing."""
    return insight.AnimalInsight(
        live=animal,
        cell_deg=cell_shown_deg(view, animal.animal.species, animal.fix.lon_deg, animal.fix.lat_deg),
        step=None,
        distance_24h_m=None,
        path_sd_m=None,
        nearby=(),
        alerts=insight.AlertsNow(),
        missing=dict.fromkeys(("behaviour", "path", "habitat", "forecast", "corridor"), REDUCED),
    )


def generalised(view: View, animal: LiveAnimal, predicted: Sequence[insight.Predicted]) -> insight.Forecast:
    """Return a forecast as whoever sees positions reduced may have it."""
    assert view.species is not None
    tier = TIERS[view.species.category(animal.animal.species)]
    told = []
    for each in predicted:
        middle = tier.generalised(each.lon_deg, each.lat_deg)
        if middle is None or tier.cell_e7 is None:
            raise ModelUnavailable("no place of this species is shown to you")
        wider_m = tier.cell_e7 / 1e7 * _DEGREE_M / math.sqrt(2)
        radii = {name: getattr(each, name) + wider_m for name in _RADII}
        told.append(
            msgspec.structs.replace(each, lon_deg=middle[0], lat_deg=middle[1], bearing_deg=0.0, **_rounded(radii))
        )
    cell_deg = None if tier.cell_e7 is None else tier.cell_e7 / 1e7
    return insight.Forecast(animal=animal.animal, fix=animal.fix, predicted=tuple(told), cell_deg=cell_deg)


def _rounded(radii: Mapping[str, float]) -> dict[str, float]:
    """Return radii in whole kilometres, upwards: a metre of them would tell of steps within a cell."""
    return {name: math.ceil(value / 1000) * 1000.0 for name, value in radii.items()}
