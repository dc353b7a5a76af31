"""/api/v1/charts: the series that charts are drawn of, the same at both homes.

Distances and behaviour are worked out of exact positions: between the middles of coarse cells there is no distance, so
who sees cells is told why there is nothing. Days and hours are those of the asker's own time zone.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final

from litestar import Controller, get
from litestar.params import QueryParameter

from shared.api.access import AccountsGiven, CallerGiven
from shared.api.errors import documented
from shared.api.inject import ClockGiven, StoreGiven, ViewGiven
from shared.api.insights import InsightGiven
from shared.domain import Animal, Fix
from shared.movement.days import distance_of_days_m, states_by_hour
from shared.privacy import View, cell_shown_deg
from shared.store import FixQuery, Store
from shared.sync import log
from shared.sync.log import Whose
from shared.wire.charts import BatteryChart, BehaviourChart, MovementChart, TrafficChart

#: Positions of one animal that one chart is made of: the newest of its span.
MOST_FIXES: Final = 20_000
#: Readings of a battery in one chart.
MOST_READINGS: Final = 400
REDUCED: Final = "distances are worked out of exact positions, and you see this animal's with reduced precision"

Days = Annotated[int, QueryParameter(description="How many days to look back, today among them.", ge=1, le=92)]
Offset = Annotated[
    int,
    QueryParameter(description="Your own time less UTC, in minutes: whose days and hours they are.", ge=-840, le=840),
]
Whom = Annotated[str, QueryParameter(name="animal_id", description="The animal; it must exist.")]


class Charts(Controller):
    """Series of an animal, and of the way to the other home."""

    path = "/charts"
    tags = ("charts",)
    return_dto = None

    @get("/movement", summary="How far an animal went each day", responses=documented(404))
    async def movement(
        self,
        store: StoreGiven,
        view: ViewGiven,
        clock: ClockGiven,
        animal_id: Whom,
        days: Days = 14,
        utc_offset_min: Offset = 0,
    ) -> MovementChart:
        """Return the distance along an animal's usable positions, day by day."""
        offset, now = timedelta(minutes=utc_offset_min), clock.now()
        animal = await store.animal(view, animal_id)
        fixes, is_cut = await _fixes(store, view, animal, _first(now, days, offset), now, is_usable=True)
        if is_cut:  # of the oldest day only a part is here
            fixes = _from_whole_day(fixes, offset)
        today = (now + offset).date()
        return MovementChart.of(
            animal.id,
            [today - timedelta(days=back) for back in reversed(range(days))],
            distance_of_days_m(fixes, offset),
            is_cut=is_cut,
            missing=None if _are_exact(view, animal, fixes) else REDUCED,
        )

    @get("/behaviour", summary="What an animal does at which hour", responses=documented(404))
    async def behaviour(
        self,
        store: StoreGiven,
        insight: InsightGiven,
        view: ViewGiven,
        clock: ClockGiven,
        animal_id: Whom,
        days: Days = 14,
        utc_offset_min: Offset = 0,
    ) -> BehaviourChart:
        """Return the share of each state of movement by hour of the day, of the steps of some days."""
        offset, now = timedelta(minutes=utc_offset_min), clock.now()
        animal = await store.animal(view, animal_id)
        found = await insight.behaviour(view, animal.id, _first(now, days, offset), now)
        hours = states_by_hour(((step.ended_at, step.state) for step in found.steps), offset)
        return BehaviourChart.of(animal.id, hours, found.model, found.missing)

    @get("/battery", summary="The battery of an animal's collars", responses=documented(404))
    async def battery(
        self,
        store: StoreGiven,
        view: ViewGiven,
        clock: ClockGiven,
        animal_id: Whom,
        days: Days = 14,
        utc_offset_min: Offset = 0,
    ) -> BatteryChart:
        """Return what collars said of their battery, with the positions that you see exactly."""
        now = clock.now()
        animal = await store.animal(view, animal_id)
        since = _first(now, days, timedelta(minutes=utc_offset_min))
        fixes, _ = await _fixes(store, view, animal, since, now)
        return BatteryChart.of(animal.id, fixes, MOST_READINGS)

    @get("/traffic", summary="What synchronisation carried", responses=documented())
    async def traffic(
        self,
        accounts: AccountsGiven,
        caller: CallerGiven,
        clock: ClockGiven,
        days: Days = 14,
        utc_offset_min: Offset = 0,
    ) -> TrafficChart:
        """Return the bytes that sessions between stations and the cloud carried, day by day.

        A station counts both ways, of sessions that brought something; the cloud what stations sent. Managers of some
        stations see those.
        """
        offset, now = timedelta(minutes=utc_offset_min), clock.now()
        since = _first(now, days, offset)
        whose = Whose(None, caller.principal.stations)
        carried = await accounts.tables.read(log.carried(whose, since, offset))
        return TrafficChart.of((since + offset).date(), (now + offset).date(), carried)


def _first(now: datetime, days: int, offset: timedelta) -> datetime:
    """Return when the first of so many days began at the asker's place."""
    midnight = (now + offset).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=days - 1) - offset


async def _fixes(
    store: Store, view: View, animal: Animal, since: datetime, until: datetime, *, is_usable: bool | None = None
) -> tuple[list[Fix], bool]:
    """Return the newest positions of a span by time, and whether there are more."""
    query = FixQuery(
        animal_id=animal.id, since=since, until=until, is_usable=is_usable, ordering="-timestamp", limit=MOST_FIXES
    )
    found = await store.fixes(view, query)
    return found.results[::-1], found.count > len(found.results)


def _from_whole_day(fixes: list[Fix], offset: timedelta) -> list[Fix]:
    """Return the positions without those of the oldest day."""
    oldest = (fixes[0].recorded_at + offset).date()
    return [fix for fix in fixes if (fix.recorded_at + offset).date() > oldest]


def _are_exact(view: View, animal: Animal, fixes: list[Fix]) -> bool:
    """Say whether every position is shown as it is."""
    return view.is_exact or (
        bool(view.stations)
        and all(
            fix.lon_deg is not None and cell_shown_deg(view, animal.species, fix.lon_deg, fix.lat_deg) is None
            for fix in fixes
        )
    )
