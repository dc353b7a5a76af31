"""The stage of the forecast: where animals that are near a zone may walk into, from the newest fix of their turn.

Only animals within ``REACH_M`` of an active zone are looked at, and only from a fix that is new and no older than
``FRESH``: of a backfill nothing is foretold. The forecasts of one turn are asked of the model together.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, get_args

import msgspec

from edge.pipeline.insight import track_for_forecast
from edge.pipeline.outcome import Outcome
from edge.store import watches
from edge.store.areas import shapes_near
from edge.store.computing import Subject
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from models.live.ahead import Shape, aheads, shape_within
from models.live.forecasts import MEMORY, SPAN, OwnPast, worked_out
from models.live.runtime import Fixes, Models
from shared.domain import RiskLevel, ZoneType
from shared.insight import Ahead, Predicted
from shared.movement.areas import Place

#: How far a zone may be from an animal that is looked at.
REACH_M: Final = 10_000.0
#: An older fix tells of the past; the engine of the alarms has its own, narrower idea of that.
FRESH: Final = timedelta(hours=8)
#: From a collar that is faster nobody looks at every fix: the nearest horizon is an hour ahead.
AGAIN: Final = timedelta(minutes=30)
#: Shapes that are kept.
_SHAPES: Final = 4_096
_ANIMALS: Final = 8_192


class Look(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the forecast of one animal needs; no track where no zone is near."""

    animal_pk: int
    species: str
    track: Fixes | None
    shapes: tuple[Shape, ...]


class Lookout:
    """Looks ahead for the animals of a turn."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._past = OwnPast()
        #: from which fix an animal was looked at last
        self._looked_ms: dict[int, int] = {}
        self._shapes: dict[tuple[str, int], Shape] = {}
        #: where the animals of the last turn will be, of whom that was worked out
        self.foretold: dict[int, tuple[Predicted, ...]] = {}

    async def ahead(
        self, store: SpatialiteStore, outcomes: Sequence[Outcome], thread: concurrent.futures.Executor
    ) -> dict[int, tuple[Ahead, ...]]:
        """Return what lies ahead of each animal that was looked at, by its row."""
        self.foretold = {}
        looks = await store.read(lambda db: [look for each in outcomes if (look := self._look(db, each)) is not None])
        found: dict[int, tuple[Ahead, ...]] = {look.animal_pk: () for look in looks if look.track is None}
        if len(found) < len(looks):
            found |= await asyncio.get_running_loop().run_in_executor(thread, self._work_out, looks)
        return found

    def _look(self, db: Connection, outcome: Outcome) -> Look | None:
        """Return what is needed to look ahead; None where there is nothing to look from."""
        window = outcome.window
        if not window.is_whole or not window.fixes.fixes:
            return None
        newest = window.fixes.fixes[-1]
        received_ms = newest.received_ms if newest.sure_received_ms is None else newest.sure_received_ms
        judged_ms = watches.judged_ms(db, window.subject.id)
        if received_ms - newest.recorded_ms > FRESH / timedelta(milliseconds=1):
            return None
        if judged_ms is not None and newest.recorded_ms <= judged_ms:
            return None
        if newest.recorded_ms - self._looked_ms.get(window.subject.pk, -(2**62)) < AGAIN / timedelta(milliseconds=1):
            return None
        if len(self._looked_ms) >= _ANIMALS:
            self._looked_ms.clear()
        self._looked_ms[window.subject.pk] = newest.recorded_ms
        rows = shapes_near(db, Place(newest.lon_e7 / 1e7, newest.lat_e7 / 1e7), REACH_M)
        return Look(
            animal_pk=window.subject.pk,
            species=window.subject.species,
            track=self._track(db, window.subject, newest.recorded_ms) if rows else None,
            shapes=tuple(self._shape(*row) for row in rows),
        )

    def _track(self, db: Connection, subject: Subject, newest_ms: int) -> Fixes:
        is_kept = self._past.of((subject.pk, subject.species), newest_ms / 1000) is not None
        return track_for_forecast(db, subject.id, newest_ms, MEMORY if is_kept else SPAN)

    def _shape(self, identity: str, rev: int, name: str, zone_type: str, risk_level: str, geometry: str) -> Shape:
        key = identity, rev
        if key not in self._shapes:
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            ahead = Ahead(
                kind="zone", id=identity, name=name, zone_type=_zone_type(zone_type), risk_level=_risk_level(risk_level)
            )
            self._shapes[key] = shape_within(ahead, geometry)
        return self._shapes[key]

    def _work_out(self, looks: Sequence[Look]) -> dict[int, tuple[Ahead, ...]]:
        near = [(look, look.track) for look in looks if look.track is not None]
        tracks = [(look.species, track) for look, track in near]
        keys = [(look.animal_pk, look.species) for look, _ in near]
        said = worked_out(self._models, tracks, self._past, keys)
        self.foretold = {
            look.animal_pk: predicted
            for (look, _), predicted in zip(near, said, strict=True)
            if not isinstance(predicted, str)
        }
        return {
            look.animal_pk: aheads(predicted, look.shapes, look.species)
            for (look, _), predicted in zip(near, said, strict=True)
            if not isinstance(predicted, str)
        }


def _zone_type(word: str) -> ZoneType | None:
    return next((each for each in get_args(ZoneType) if each == word), None)


def _risk_level(word: str) -> RiskLevel | None:
    return next((each for each in get_args(RiskLevel) if each == word), None)
