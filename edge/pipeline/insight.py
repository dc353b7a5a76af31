"""``shared.insight.Insight`` at the station: what the pipeline has written down, read back.

The likely path is worked out when it is asked for, from the fixes of its span.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec
import numpy as np

from edge.pipeline.occurrence import OccurrenceKeeper
from edge.store import computing
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from models.live.insight import DrawnMap, OnDemand, alerts_now, drawn_map
from models.live.runtime import Models
from shared import insight
from shared.movement.areas import REACH_M, Place
from shared.movement.geodesy import step_lengths_m
from shared.privacy import View
from shared.sync.records import from_ms, to_ms

#: Steps of one answer.
MOST_STEPS: Final = 50_000
_DAY_MS: Final = 86_400_000


class _Kept(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    computed: computing.Computed
    step: computing.Step | None
    distance_24h_m: float | None
    path_sd_m: float | None


class KeptInsight(OnDemand):
    """Implements ``Insight`` over what the pipeline keeps; occurrence is brought up to date when it is asked for."""

    def __init__(
        self,
        store: SpatialiteStore,
        models: Models,
        occurrence: OccurrenceKeeper,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(store, models, monotonic)
        self._kept = store
        self._occurrence = occurrence

    async def live(self, view: View) -> list[insight.AnimalInsight]:
        """Return every active animal that has a usable position."""
        animals = await self._kept.live_animals(view)
        newest = {each.animal.id: to_ms(each.fix.recorded_at) for each in animals}
        kept = await self._kept.read(
            lambda db: {identity: _kept_of(db, identity, ms) for identity, ms in newest.items()}
        )
        places = [Place(each.fix.lon_deg or 0.0, each.fix.lat_deg or 0.0) for each in animals]
        nearby = await self._kept.areas_near(view, places, REACH_M)
        alerts = await alerts_now(self._kept, view)
        return [
            insight.AnimalInsight(
                live=each,
                step=None if (one := kept[each.animal.id]).step is None else said_of(one.step),
                distance_24h_m=one.distance_24h_m,
                path_sd_m=one.path_sd_m,
                nearby=tuple(near),
                alerts=alerts.get(each.animal.id, insight.AlertsNow()),
                models=_spoke(one.computed),
                missing=one.computed.missing,
            )
            for each, near in zip(animals, nearby, strict=True)
        ]

    async def behaviour(self, view: View, animal_id: str, since: datetime, until: datetime) -> insight.Behaviour:
        """Return the steps that ended in a span."""
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


def _kept_of(db: Connection, animal_id: str, newest_ms: int) -> _Kept:
    pk = computing.pk_of(db, animal_id)
    day = computing.track_between(db, pk, newest_ms - _DAY_MS + 1, newest_ms)
    lon, lat = np.array(day, dtype=np.float64).reshape(-1, 2).T * 1e-7
    found = computing.computed(db, pk)
    return _Kept(
        computed=found,
        step=computing.shown_step(db, pk),
        distance_24h_m=float(step_lengths_m(lon, lat).sum()) if len(day) > 1 else None,
        path_sd_m=found.path_sd_m,
    )


def _spoke(computed: computing.Computed) -> dict[str, str]:
    spoke = {}
    if computed.model is not None:
        spoke["behaviour"] = f"{computed.model} {computed.version}"
    if computed.path_model is not None:
        spoke["path"] = computed.path_model
    return spoke
