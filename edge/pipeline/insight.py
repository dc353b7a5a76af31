"""``shared.insight.Insight`` at the station: what the pipeline has written down, read back.

The likely path is worked out when it is asked for, from the fixes of its span.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
import numpy as np

from edge.pipeline.occurrence import OccurrenceKeeper
from edge.store import computing
from edge.store.areas import areas_mark
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from models.live.advice import Advisor
from models.live.drawing import DrawnMap, drawn_map
from models.live.forecasts import MOST_FIXES, SPAN
from models.live.insight import OnDemand
from models.live.runtime import Fixes, Models
from models.live.standing import Standing
from models.live.telling import Known, missing_of_place, spoke_of_place
from shared import insight
from shared.clock import Clock
from shared.habitat import Habitat
from shared.movement.geodesy import step_lengths_m
from shared.privacy import View
from shared.store import LiveAnimal
from shared.sync.records import from_ms, to_ms

#: Steps of one answer.
MOST_STEPS: Final = 50_000
_DAY_MS: Final = 86_400_000


class KeptInsight(OnDemand):
    """Implements ``Insight`` over what the pipeline keeps; occurrence is brought up to date when it is asked for."""

    def __init__(
        self,
        store: SpatialiteStore,
        models: Models,
        occurrence: OccurrenceKeeper,
        clock: Clock,
        habitat: Habitat | None = None,
        advisor: Advisor | None = None,
    ) -> None:
        super().__init__(store, models, clock, habitat, advisor)
        self._kept = store
        self._occurrence = occurrence

    async def _live(self, view: View, animals: Sequence[LiveAnimal]) -> list[insight.AnimalInsight]:
        """Return what models said of animals."""
        newest = {each.animal.id: to_ms(each.fix.recorded_at) for each in animals}
        no_maps = self._habitat.missing()
        kept = await self._kept.read(lambda db: {each: _known_of(db, each, ms, no_maps) for each, ms in newest.items()})
        return await self._insights(view, animals, [kept[each.animal.id] for each in animals])

    async def _areas_mark(self) -> Hashable:
        """Return what changes with every zone and corridor."""
        return await self._kept.read(areas_mark)

    async def _behaviour(self, view: View, animal_id: str, since: datetime, until: datetime) -> insight.Behaviour:
        await self._kept.animal(view, animal_id)

        def job(db: Connection) -> tuple[list[computing.Step], computing.Computed]:
            pk = computing.pk_of(db, animal_id)
            steps = computing.steps_between(db, pk, to_ms(since), to_ms(until), MOST_STEPS)
            return steps, computing.computed(db, pk)

        steps, computed = await self._kept.read(job)
        missing = computed.missing.get("behaviour")
        if computed.through_ms is None:
            missing = "the models have not come to this animal yet"
        return insight.Behaviour(
            steps=[said_of(step) for step in steps],
            model=_spoke(computed).get("behaviour"),
            interval_s=computed.interval_s,
            missing=missing,
        )

    async def states(self, view: View, since: datetime, until: datetime) -> dict[str, list[insight.StepSpan]]:
        """Return of each animal its steps and their states, by time; to a reduced view nothing."""
        if not view.is_exact:
            return {}
        rows = await self._kept.read(lambda db: computing.states_between(db, to_ms(since), to_ms(until)))
        found: dict[str, list[insight.StepSpan]] = {}
        for animal_id, started_ms, ended_ms, state in rows:
            found.setdefault(animal_id, []).append((from_ms(started_ms), from_ms(ended_ms), state))
        return found

    async def _track(self, view: View, animal: LiveAnimal) -> Fixes:
        """Return the fixes that a forecast needs."""
        newest_ms = to_ms(animal.fix.recorded_at)
        return await self._kept.read(lambda db: track_for_forecast(db, animal.animal.id, newest_ms))

    async def draw(self, view: View, animal_id: str) -> DrawnMap:
        """Draw an animal's map from its tiles."""
        animal = await self._kept.animal(view, animal_id)
        pk = await self._kept.read(lambda db: computing.pk_of(db, animal_id))
        kept, used = await self._occurrence.whole(pk)
        calibration = self._models.calibration(animal.species)
        return await self._occurrence.run(
            lambda: drawn_map(
                used.occurrence(),
                used.frame,
                since=from_ms(kept.since_ms),
                until=from_ms(kept.through_ms),
                model=f"{calibration.name} {calibration.version}",
            )
        )


def said_of(step: computing.Step) -> insight.StepSaid:
    """Return a kept step as both homes serve it."""
    return insight.StepSaid(
        started_at=from_ms(step.started_ms),
        ended_at=from_ms(step.ended_ms),
        step_m=step.step_m,
        state=step.state,
        confidence=step.confidence,
        is_settled=step.is_settled,
        log_likelihood=step.log_likelihood,
    )


def _known_of(db: Connection, animal_id: str, newest_ms: int, no_maps: str | None) -> Known:
    pk = computing.pk_of(db, animal_id)
    day = computing.track_between(db, pk, newest_ms - _DAY_MS + 1, newest_ms)
    _, lon, lat = np.array(day, dtype=np.float64).reshape(-1, 3).T * 1e-7
    found = computing.computed(db, pk)
    step = computing.shown_step(db, pk)
    suitability, habitat_model, why_not = computing.standing_of(db, pk)
    if suitability is None and why_not is None:
        why_not = no_maps or "waits for its turn"
    place = Standing(suitability=suitability, model=habitat_model, missing=why_not)
    said, no_advice = computing.advice_of(db, pk, newest_ms)
    if said is None and no_advice is None:
        no_advice = "waits for its turn"
    return Known(
        step=None if step is None else said_of(step),
        distance_24h_m=float(step_lengths_m(lon, lat).sum()) if len(day) > 1 else None,
        path_sd_m=found.path_sd_m,
        models={**_spoke(found), **spoke_of_place(place)},
        missing={**found.missing, **missing_of_place(place), **({} if said else {"corridor": no_advice or ""})},
        suitability=suitability,
        advice=None if said is None else msgspec.json.decode(said, type=insight.Advice),
    )


def track_for_forecast(db: Connection, animal_id: str, newest_ms: int, span: timedelta = SPAN) -> Fixes:
    """Return the fixes up to an instant that a forecast needs."""
    span_ms = span // timedelta(milliseconds=1)
    rows = computing.track_between(db, computing.pk_of(db, animal_id), newest_ms - span_ms, newest_ms)[-MOST_FIXES:]
    times_ms, lon_e7, lat_e7 = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    nothing = np.full(times_ms.size, np.nan)
    return Fixes(times_s=times_ms * 1e-3, lon_deg=lon_e7 * 1e-7, lat_deg=lat_e7 * 1e-7, h_acc_m=nothing, hdop=nothing)


def _spoke(computed: computing.Computed) -> dict[str, str]:
    spoke = {}
    if computed.model is not None:
        spoke["behaviour"] = f"{computed.model} {computed.version}"
    if computed.path_model is not None:
        spoke["path"] = computed.path_model
    return spoke
