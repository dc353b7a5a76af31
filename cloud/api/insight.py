"""What models say in the cloud: worked out when it is asked for, from what one statement reads of a whole herd."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import timedelta

from cloud.store.areas import areas_mark
from cloud.store.store import PostgresStore
from cloud.store.tracks import Track, newest_tracks
from models.live.advice import Advisor
from models.live.forecasts import MOST_FIXES, SPAN
from models.live.insight import NEWEST, OnDemand
from models.live.runtime import Fixes, Models
from models.live.telling import columns_of
from shared.clock import Clock
from shared.habitat import Habitat
from shared.privacy import View
from shared.store import LiveAnimal
from shared.sync.records import to_ms


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


def _fixes(track: Track | None) -> Fixes:
    if track is None:  # taken out since it was listed
        return columns_of([])
    return Fixes(
        times_s=track.times_s, lon_deg=track.lon_deg, lat_deg=track.lat_deg, h_acc_m=track.h_acc_m, hdop=track.hdop
    )
