"""What models say in the cloud: what a station said of the same newest fix, and else what is worked out when it is
asked for, from what one statement reads of a whole herd.

A station's word counts where it knows all of an animal (``cloud.store.results``) and speaks of the fix that is the
newest here. A map counts while it is a day behind: stations send theirs once a day. Who sees positions reduced hears
nothing of any of it, as of the models here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

import structlog

from cloud.store import results
from cloud.store.areas import areas_mark
from cloud.store.results import KeptMap
from cloud.store.store import PostgresStore
from cloud.store.tracks import Track, newest_tracks
from models.bbmm.runtime import Utilisation
from models.live.advice import Advisor
from models.live.drawing import DrawnMap, drawn_map
from models.live.forecasts import MOST_FIXES, SPAN
from models.live.insight import NEWEST, OnDemand
from models.live.runtime import Fixes, Models
from models.live.telling import Known, columns_of
from shared import insight
from shared.clock import Clock
from shared.errors import ArtifactError
from shared.habitat import Habitat
from shared.privacy import View
from shared.store import FixQuery, LiveAnimal
from shared.sync.records import from_ms, to_ms

#: A station's map may lie so far behind the newest fix; it sends one when it has grown by as much.
MAP_BEHIND_MS: Final = 86_400_000
#: Tiles in the box of a map, and cells along the side of one, beyond which none is drawn.
_MOST_TILES: Final = 10_000
_MOST_TILE_CELLS: Final = 64
#: Fixes among which the newest that is placed is looked for.
_LOOKED_AT: Final = 8

log = structlog.get_logger(__name__)


class CloudInsight(OnDemand):
    """Implements ``Insight`` over PostgreSQL."""

    def __init__(
        self,
        store: PostgresStore,
        models: Models,
        clock: Clock,
        habitat: Habitat | None = None,
        advisor: Advisor | None = None,
    ) -> None:
        super().__init__(store, models, clock, habitat, advisor)
        self._database = store.database

    async def _known(
        self, view: View, animals: Sequence[LiveAnimal], told: Mapping[str, Known] = MappingProxyType({})
    ) -> list[Known]:
        """Return what is known of animals: what stations said of their newest fixes, the rest worked out."""
        async with self._database.snapshot() as connection:
            found = await results.told(connection, [each.animal.id for each in animals])
        current = {}
        for each in animals:
            one = found.get(each.animal.id)
            if one is None or one.said.through_ms != to_ms(each.fix.recorded_at):
                continue
            if one.said.predicted:
                self._forecasts.take(each, one.said.predicted)
            current[each.animal.id] = Known(
                step=one.step, distance_24h_m=one.said.distance_24h_m, path_sd_m=one.said.path_sd_m,
                models=one.said.models, missing=one.said.missing, suitability=one.said.suitability,
                advice=one.said.advice,
            )  # fmt: skip
        return await super()._known(view, animals, {**current, **told})

    async def _behaviour(self, view: View, animal_id: str, since: datetime, until: datetime) -> insight.Behaviour:
        await self._store.animal(view, animal_id)
        query = FixQuery(animal_id=animal_id, until=until, is_usable=True, ordering="-timestamp", limit=_LOOKED_AT)
        newest = next((fix for fix in (await self._store.fixes(view, query)).results if fix.lon_deg is not None), None)
        async with self._database.snapshot() as connection:
            told = (await results.told(connection, [animal_id])).get(animal_id)
            if told is None or newest is None or (told.said.through_ms or 0) < to_ms(newest.recorded_at):
                return await super()._behaviour(view, animal_id, since, until)
            steps = await results.steps_between(connection, told.station_id, animal_id, to_ms(since), to_ms(until))
        said = told.said
        return insight.Behaviour(
            steps=steps, model=said.models.get("behaviour"), interval_s=said.interval_s,
            missing=said.missing.get("behaviour"),
        )  # fmt: skip

    async def states(self, view: View, since: datetime, until: datetime) -> dict[str, list[insight.StepSpan]]:
        """Return of each animal the steps and states that a station said; to a reduced view nothing."""
        if not view.is_exact:
            return {}
        async with self._database.snapshot() as connection:
            rows = await results.states_between(connection, to_ms(since), to_ms(until))
        found: dict[str, list[insight.StepSpan]] = {}
        for animal_id, started_ms, ended_ms, state in rows:
            found.setdefault(animal_id, []).append((from_ms(started_ms), from_ms(ended_ms), state))
        return found

    async def draw(self, view: View, animal_id: str) -> DrawnMap:
        """Draw an animal's map: a station's, where that is at most a day behind, else from its fixes."""
        query = FixQuery(animal_id=animal_id, is_usable=True, ordering="-timestamp", limit=1)
        newest = (await self._store.fixes(view, query)).results
        if newest:
            at_least_ms = to_ms(newest[0].recorded_at) - MAP_BEHIND_MS
            async with self._database.snapshot() as connection:
                kept = await results.map_of(connection, animal_id, at_least_ms)
            if kept is not None and (drawn := await asyncio.to_thread(drawn_of, kept)) is not None:
                return drawn
        return await super().draw(view, animal_id)

    async def _tracks(self, view: View, animals: Sequence[LiveAnimal]) -> list[Fixes]:
        """Return of each animal the fixes that its state is worked out from; ``view`` sees them exactly."""
        return await self._read(animals, timedelta(days=1), NEWEST)

    async def _forecast_tracks(self, view: View, animals: Sequence[LiveAnimal]) -> list[Fixes]:
        """Return of each animal the fixes that a forecast needs; ``view`` sees them exactly."""
        return [each.newest(MOST_FIXES) for each in await self._read(animals, SPAN, 1)]

    async def _read(self, animals: Sequence[LiveAnimal], span: timedelta, at_least: int) -> list[Fixes]:
        since_ms = [(each.animal.id, to_ms(each.fix.recorded_at - span)) for each in animals]
        async with self._database.snapshot() as connection:
            found = await newest_tracks(connection, since_ms, at_least)
        return [_fixes(found.get(each.animal.id)) for each in animals]

    async def _areas_mark(self) -> Hashable:
        """Return what changes with every zone and corridor."""
        async with self._database.snapshot() as connection:
            return await areas_mark(connection)


def drawn_of(kept: KeptMap) -> DrawnMap | None:
    """Return a station's map, drawn; None for one that cannot be, or would take more room than any true one."""
    rows, columns = [row for row, _ in kept.tiles], [column for _, column in kept.tiles]
    if not kept.tiles or (max(rows) - min(rows) + 1) * (max(columns) - min(columns) + 1) > _MOST_TILES:
        log.warning("results.no_map", station=kept.station_id, why="its tiles lie too far apart")
        return None
    try:
        used = Utilisation.restored(kept.head.head, kept.tiles)
        if used.tile_cells > _MOST_TILE_CELLS:
            return None
        return drawn_map(
            used.occurrence(), used.frame, since=from_ms(kept.head.since_ms), until=from_ms(kept.head.through_ms),
            model=kept.head.model,
        )  # fmt: skip
    except (ArtifactError, ArithmeticError, ValueError) as error:
        log.warning("results.no_map", station=kept.station_id, why=str(error))
        return None


def _fixes(track: Track | None) -> Fixes:
    if track is None:  # taken out since it was listed
        return columns_of([])
    return Fixes(
        times_s=track.times_s, lon_deg=track.lon_deg, lat_deg=track.lat_deg, h_acc_m=track.h_acc_m, hdop=track.hdop
    )
