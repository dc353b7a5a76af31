"""Days and hours as people at a place count them: how far an animal went each day, what it does at which hour."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final

import numpy as np

from shared.domain import Fix
from shared.movement.geodesy import step_lengths_m

#: Of a step over a longer gap nobody knows to which day its way belongs.
LONGEST_STEP: Final = timedelta(days=1)
HOURS: Final = 24


def distance_of_days_m(fixes: Sequence[Fix], offset: timedelta) -> dict[date, float]:
    """Return the metres that an animal went each day, by the day on which its steps ended; ``fixes`` by time.

    ``offset`` is the place's own time less UTC. A day without a step is not there.
    """
    placed = [fix for fix in fixes if fix.lon_deg is not None and fix.lat_deg is not None]
    lengths = step_lengths_m(
        np.array([fix.lon_deg for fix in placed], dtype=np.float64),
        np.array([fix.lat_deg for fix in placed], dtype=np.float64),
    )
    found: dict[date, float] = {}
    for before, after, metres in zip(placed[:-1], placed[1:], lengths, strict=True):
        if after.recorded_at - before.recorded_at <= LONGEST_STEP:
            day = (after.recorded_at + offset).date()
            found[day] = found.get(day, 0.0) + float(metres)
    return found


def states_by_hour(steps: Iterable[tuple[datetime, str]], offset: timedelta) -> list[Counter[str]]:
    """Return how many steps of each state ended in each of the 24 hours of the place's day."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for ended_at, state in steps:
        found[(ended_at + offset).hour][state] += 1
    return [found[hour] for hour in range(HOURS)]
