"""The stage of maps: how suitable the place of each animal's newest fix is, for stations that have maps.

It follows the pipeline with a list of its own, the rows of ``computed`` that nobody has looked at: what the pipeline
writes anew is looked at anew. So no alarm ever waits for a map, and a process that is killed finds what it left.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from edge.store import computing
from edge.store.store import SpatialiteStore
from models.live.habitat import MappedHabitat
from models.live.standing import Spot, standings
from shared.errors import StoreError
from shared.movement.areas import Place
from shared.sync.records import from_ms

log = structlog.get_logger()

#: Animals of one question.
ANIMALS: Final = 256
LOOK_S: Final = 2.0
#: A station without maps is looked at this often: somebody may bring them.
LOOK_FOR_MAPS_S: Final = 30.0


class HabitatStage:
    """Keeps the suitability of each animal's newest fix beside what the pipeline says of it."""

    def __init__(self, store: SpatialiteStore, habitat: MappedHabitat) -> None:
        self._store = store
        self._habitat = habitat

    async def run(self) -> None:
        """Look at what is new, for ever."""
        while True:
            try:
                is_busy = self._habitat.has_maps and await self.advance()
            except StoreError as error:
                log.warning("habitat.unwritten", reason=error.detail)
                is_busy = False
            if not is_busy:
                await asyncio.sleep(LOOK_S if self._habitat.has_maps else LOOK_FOR_MAPS_S)

    async def advance(self) -> bool:
        """Ask for some of the animals that nobody has looked at; say whether there was one."""
        waiting = await self._store.read(lambda db: computing.without_standing(db, ANIMALS))
        if not waiting:
            return False
        found = await standings(
            self._habitat,
            [
                Spot(each.species, Place(each.lon_e7 / 1e7, each.lat_e7 / 1e7), from_ms(each.recorded_ms).month)
                for each in waiting
            ],
        )
        rows = [
            (each.animal_pk, each.recorded_ms, said.suitability, said.model, said.missing)
            for each, said in zip(waiting, found, strict=True)
        ]
        await self._store.write(lambda db: computing.write_standings(db, rows))
        return True
