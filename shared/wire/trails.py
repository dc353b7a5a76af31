"""The trails of all animals in one answer: columns, because a map of 500 animals has tens of thousands of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from shared.domain import Fix
from shared.sync.records import to_ms

#: A fix at which no known step ended.
NO_STATE: Final = -1


class AnimalTrail(Struct, frozen=True, kw_only=True):
    """The newest usable fixes of an animal, by time: instants in ms, degrees, and the place of the state in ``states``.

    The state is that of the step that ended at the fix; -1 where none is known.
    """

    animal_id: str
    at_ms: list[int]
    lon: list[float]
    lat: list[float]
    state: list[int]


class TrailsOut(Struct, frozen=True, kw_only=True):
    """The trails of a span; ``is_cut``: there are older fixes in it than are here."""

    since: datetime
    until: datetime
    states: list[str]
    animals: list[AnimalTrail]
    is_cut: bool

    @classmethod
    def of(
        cls,
        fixes: Sequence[Fix],
        states: Mapping[str, Sequence[tuple[datetime, str]]],
        since: datetime,
        until: datetime,
        points: int,
        *,
        is_cut: bool,
    ) -> TrailsOut:
        """Return the public form of ``fixes``, which stand newest first; of each animal ``points`` at most."""
        names = sorted({state for steps in states.values() for _, state in steps})
        places = {name: number for number, name in enumerate(names)}
        by_animal: dict[str, list[Fix]] = {}
        for fix in fixes:
            if fix.animal_id is None or fix.lon_deg is None or fix.lat_deg is None:
                continue
            own = by_animal.setdefault(fix.animal_id, [])
            if len(own) < points:
                own.append(fix)
            else:
                is_cut = True
        trails = []
        for animal_id, own in by_animal.items():
            ended = {at: places[state] for at, state in states.get(animal_id, ())}
            own.reverse()
            trails.append(
                AnimalTrail(
                    animal_id=animal_id,
                    at_ms=[to_ms(fix.recorded_at) for fix in own],
                    lon=[round(fix.lon_deg, 6) for fix in own if fix.lon_deg is not None],
                    lat=[round(fix.lat_deg, 6) for fix in own if fix.lat_deg is not None],
                    state=[ended.get(fix.recorded_at, NO_STATE) for fix in own],
                )
            )
        return cls(since=since, until=until, states=names, animals=trails, is_cut=is_cut)
