"""The stage of corridors: what the policy advises on each animal's newest fix, with no cloud and no maps needed.

It follows the pipeline with a list of its own, as the stage of maps does: animals whose newest computed fix nobody has
advised on, or not since zones and corridors changed. Where there are maps it waits for what they say of the place.
Walks are taken in a thread of their own, a few animals at a time: neither an alarm nor a request waits for them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import structlog

from edge.store import computing
from edge.store.computing import Unadvised
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from models.live.advice import AROUND_M, AT_ONCE, Advisor, Asked
from models.live.habitat import MappedHabitat
from models.live.shapes import Shapes
from models.live.telling import ADVISED_FOR
from shared.clock import Clock
from shared.errors import OutpostError
from shared.insight import Advice
from shared.movement.areas import Place
from shared.privacy import OPERATOR, view_for
from shared.sync.records import to_ms
from shared.wire.live import LONGEST_GAP, heading_between

log = structlog.get_logger()

LOOK_S: Final = 2.0
RETRY_S: Final = 10.0
_GAP_MS: Final = LONGEST_GAP // timedelta(milliseconds=1)


class AdviceStage:
    """Keeps what the corridor policy advises on each animal beside what the pipeline says of it."""

    def __init__(self, store: SpatialiteStore, advisor: Advisor, clock: Clock, habitat: MappedHabitat) -> None:
        self._store = store
        self._advisor = advisor
        self._clock = clock
        self._habitat = habitat
        self._shapes = Shapes(store, clock.monotonic)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "advice")

    async def run(self) -> None:
        """Advise on what is new, for ever."""
        while True:
            try:
                wait_s = 0.0 if await self.advance() else LOOK_S
            except OutpostError as error:
                log.warning("advice.unwritten", reason=error.detail)
                wait_s = RETRY_S
            await asyncio.sleep(wait_s)

    async def advance(self) -> bool:
        """Advise on some of the animals that nobody has advised on; say whether there was one."""
        since_ms = to_ms(self._clock.now() - ADVISED_FOR)
        has_maps = self._habitat.has_maps

        def look(db: Connection) -> tuple[str, list[tuple[Unadvised, float | None]]]:
            areas = computing.areas_stamp(db)
            waiting = computing.without_advice(db, areas, since_ms, AT_ONCE, has_maps=has_maps)
            return areas, [(each, _heading(db, each)) for each in waiting]

        areas, waiting = await self._store.read(look)
        if not waiting:
            return False
        places = [Place(each.lon_e7 / 1e7, each.lat_e7 / 1e7) for each, _ in waiting]
        shapes = await self._shapes.around(view_for(OPERATOR), places, AROUND_M)
        asked = [
            Asked(
                species=each.species, lon_deg=place.lon_deg, lat_deg=place.lat_deg, heading_deg=heading_deg,
                suitability=each.suitability, shapes=near,
            )
            for (each, heading_deg), place, near in zip(waiting, places, shapes, strict=True)
        ]  # fmt: skip
        said = await asyncio.get_running_loop().run_in_executor(self._thread, self._advisor.advise, asked)
        rows = [
            (
                each.animal_pk,
                each.recorded_ms,
                msgspec.json.encode(one).decode() if isinstance(one, Advice) else None,
                None if isinstance(one, Advice) else one,
            )
            for (each, _), one in zip(waiting, said, strict=True)
        ]
        await self._store.write(lambda db: computing.write_advice(db, areas, rows))
        return True

    async def take(self, folder: Path) -> None:
        """Ask the policy of another folder from now on, of every animal anew."""
        self._advisor.turn_to(folder)
        await self._store.write(computing.forget_advice)

    def close(self) -> None:
        """Stop the thread, after ``run`` was cancelled."""
        self._thread.shutdown()


def _heading(db: Connection, animal: Unadvised) -> float | None:
    """Return where the last step of an animal led; None where it stands or was not seen for long."""
    track = computing.track_between(db, animal.animal_pk, animal.recorded_ms - _GAP_MS, animal.recorded_ms)
    if len(track) < 2:
        return None
    degrees = np.array(track[-2:], dtype=np.float64)[:, 1:] * 1e-7
    return heading_between(degrees[:, 0], degrees[:, 1])
