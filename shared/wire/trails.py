"""The trails of all animals in one answer: columns, because a map of 500 animals has tens of thousands of points."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from shared.domain import Fix
from shared.insight import StepSpan
from shared.sync.records import to_ms

#: A fix in no known step.
NO_STATE: Final = -1


class AnimalTrail(Struct, frozen=True, kw_only=True):
    """The newest usable fixes of an animal, by time: instants in ms, degrees, and the place of the state in ``states``.

    The state is that of the step in which the fix lies, or that ends with it; -1 where none is known. A regular step
    may pass over fixes of a collar that speaks more often.
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
        states: Mapping[str, Sequence[StepSpan]],
        since: datetime,
        until: datetime,
        points: int,
        *,
        is_cut: bool,
    ) -> TrailsOut:
        """Return the public form of ``fixes``, which stand newest first; of each animal ``points`` at most."""
        names = sorted({state for steps in states.values() for *_, state in steps})
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
            steps = states.get(animal_id, ())
            ends = [ended_at for _, ended_at, _ in steps]
            own.reverse()
            trails.append(
                AnimalTrail(
                    animal_id=animal_id,
                    at_ms=[to_ms(fix.recorded_at) for fix in own],
                    lon=[round(fix.lon_deg, 6) for fix in own if fix.lon_deg is not None],
                    lat=[round(fix.lat_deg, 6) for fix in own if fix.lat_deg is not None],
                    state=[_state_at(fix.recorded_at, steps, ends, places) for fix in own],
                )
            )
        return cls(since=since, until=until, states=names, animals=trails, is_cut=is_cut)


def _state_at(at: datetime, steps: Sequence[StepSpan], ends: Sequence[datetime], places: Mapping[str, int]) -> int:
    n = bisect_left(ends, at)
    return places[steps[n][2]] if n < len(steps) and steps[n][0] < at else NO_STATE
