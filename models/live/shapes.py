"""The zones and corridors of a home as shapes, kept while nobody changes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from models.live.ahead import Shape, shape_of
from shared.domain import Corridor, Zone
from shared.insight import Predicted
from shared.movement.areas import Place
from shared.privacy import View
from shared.store import CorridorQuery, Store, ZoneQuery

#: Zones and corridors are read this often at most, as a live view may be that old anyway.
READ_AGAIN_S: Final = 5.0
#: Of each kind, the newest.
MOST: Final = 2_000
_PAGE: Final = 500
#: Forecasts reach so many of their outer radius: beyond lies one place in a hundred.
_REACH: Final = 2.0
_DEGREE_M: Final = 111_195.0


class Shapes:
    """Zones that are active and corridors that are, as shapes."""

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._read_s: float | None = None
        self._kept: dict[tuple[str, str, int], Shape | None] = {}

    async def near(self, view: View, predicted: Sequence[Predicted]) -> list[Shape]:
        """Return the shapes that any of ``predicted`` may lie in; ``view`` sees everything exactly."""
        if not predicted:
            return []
        await self._refresh(view)
        lon, lat, reach_m = (
            np.array([getattr(each, name) for each in predicted])
            for name in ("lon_deg", "lat_deg", "semi_major_90_m")
        )  # fmt: skip
        up = _REACH * reach_m / _DEGREE_M
        across = up / np.maximum(0.01, np.cos(np.radians(lat)))
        found = []
        for shape in self._kept.values():
            if shape is None:
                continue
            west, south, east, north = shape.box
            is_level = (lat + up >= south) & (lat - up <= north)
            for turn in (0.0, -360.0, 360.0):
                if (is_level & (lon + turn + across >= west) & (lon + turn - across <= east)).any():
                    found.append(shape)
                    break
        return found

    async def around(self, view: View, places: Sequence[Place], reach_m: float) -> list[list[Shape]]:
        """Return of each place the shapes of which a part may lie within reach; ``view`` sees everything exactly."""
        await self._refresh(view)
        shapes = [shape for shape in self._kept.values() if shape is not None]
        if not shapes or not places:
            return [[] for _ in places]
        lon, lat = np.array([(place.lon_deg, place.lat_deg) for place in places]).T[:, :, None]
        west, south, east, north = np.array([shape.box for shape in shapes]).T
        up = reach_m / _DEGREE_M
        across = up / np.maximum(0.01, np.cos(np.radians(lat)))
        is_near = np.zeros((len(places), len(shapes)), dtype=np.bool_)
        for turn in (0.0, -360.0, 360.0):
            is_near |= (lon + turn + across >= west) & (lon + turn - across <= east)
        is_near &= (lat + up >= south) & (lat - up <= north)
        return [[shapes[number] for number in np.flatnonzero(row)] for row in is_near]

    async def _refresh(self, view: View) -> None:
        now_s = self._monotonic()
        if self._read_s is not None and now_s - self._read_s < READ_AGAIN_S:
            return
        values: list[Zone | Corridor] = []
        for offset in range(0, MOST, _PAGE):
            zones = await self._store.zones(view, ZoneQuery(is_active=True, offset=offset, limit=_PAGE))
            values += [zone for zone in zones.results if zone.zone_type != "protected_area"]
            if len(zones.results) < _PAGE:
                break
        for offset in range(0, MOST, _PAGE):
            corridors = await self._store.corridors(view, CorridorQuery(status="active", offset=offset, limit=_PAGE))
            values += corridors.results
            if len(corridors.results) < _PAGE:
                break
        known = self._kept
        self._kept = {
            (key := (type(value).__name__, value.id, value.rev)): known[key] if key in known else shape_of(value)
            for value in values
        }
        self._read_s = now_s
