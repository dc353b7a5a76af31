"""Rangers and their patrols as lists: what is asked for, who sees which rows, and the SQL that both homes run for it.

A home answers one question, ``Asked``; everything that the Store's protocol says of teams, rangers, positions, logs and
routes follows from it. Where a ranger is, and where one will be, is as secret as where an animal is: ``Sight``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeVar, cast

import msgspec

from shared.domain import DutyStatus, PatrolLog, PatrolRoute, Ranger, RangerPosition, Team
from shared.errors import NotFound
from shared.privacy import View
from shared.store import (
    LiveRanger,
    Page,
    PatrolLogQuery,
    PatrolRouteQuery,
    RangerPositionQuery,
    RangerQuery,
    TeamQuery,
)
from shared.sync.listing import like_pattern, order_by
from shared.sync.records import (
    ENTITIES,
    Entity,
    EntityName,
    Record,
    patrol_log_of,
    patrol_route_of,
    ranger_of,
    ranger_position_of,
    team_of,
    to_ms,
)
from shared.sync.reduced import personal

T = TypeVar("T")

#: A position that claims to be so much later than it came is of a wrong clock: an older one is shown before it.
AHEAD_MS: Final = 5 * 60_000
#: More rangers than this no live view shows.
MOST_RANGERS: Final = 1_000

#: By public name the column that orders a list.
ORDERS: Final[Mapping[str, Mapping[str, str]]] = {
    "team": {"name": "name", "created_at": "created_ms"},
    "ranger": {"name": "name", "badge_number": "badge_number", "created_at": "created_ms"},
    "ranger_position": {"timestamp": "recorded_ms", "created_at": "created_ms"},
    "patrol_log": {"timestamp": "recorded_ms", "created_at": "created_ms"},
    "patrol_route": {"scheduled_start": "scheduled_start_ms", "name": "name", "created_at": "created_ms"},
}
_TEXTS: Final = frozenset({"name", "badge_number"})


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """Whose rows are seen: ``all``; those of the user's own ``team``; those of some ``stations``; ``none``."""

    kind: Literal["all", "team", "stations", "none"]
    user_id: str
    stations: tuple[str, ...] = ()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A page of living records of one kind. ``since_ms`` is inclusive, ``until_ms`` exclusive, of ``recorded_ms``.

    ``is_newest``: of positions, each ranger's newest alone.
    """

    entity: EntityName
    sight: Sight
    equal: Mapping[str, Any] = {}
    search: str | None = None
    search_in: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    is_newest: bool = False
    ordering: str = "created_at"
    offset: int = 0
    limit: int = 20


def sight_of(view: View) -> Sight:
    """Return whose rows ``view`` sees: managers those of their stations, rangers their team's, viewers none."""
    user_id = view.principal.user_id
    match view.principal.role:
        case "viewer":
            return Sight(kind="none", user_id=user_id)
        case "ranger":
            return Sight(kind="team", user_id=user_id)
        case _:
            if view.stations is None:
                return Sight(kind="all", user_id=user_id)
            return Sight(kind="stations", user_id=user_id, stations=view.stations)


def where_of(asked: Asked) -> tuple[str, list[Any]]:
    """Return the conditions on records ``r`` and the values bound to them, with ``?`` for each."""
    conditions, values = ["r.deleted_ms IS NULL"], []
    for column, value in asked.equal.items():
        if value is not None:
            conditions.append(f"r.{column} = ?")
            values.append(value)
    if asked.search:
        found = [rf"lower(r.{column}) LIKE lower(?) ESCAPE '\'" for column in asked.search_in]
        conditions.append(f"({' OR '.join(found)})")
        values += [like_pattern(asked.search)] * len(found)
    for bound_ms, sign in ((asked.since_ms, ">="), (asked.until_ms, "<")):
        if bound_ms is not None:
            conditions.append(f"r.recorded_ms {sign} ?")
            values.append(bound_ms)
    if asked.is_newest:
        conditions.append(
            "r.pk IN (SELECT (SELECT p.pk FROM ranger_positions p WHERE p.ranger_id = m.id AND p.deleted_ms IS NULL"
            f" ORDER BY CASE WHEN p.recorded_ms <= p.created_ms + {AHEAD_MS} THEN 0 ELSE 1 END, p.recorded_ms DESC,"
            " p.pk DESC LIMIT 1) FROM rangers m WHERE m.deleted_ms IS NULL)"
        )
    seen, more = _seen(asked.entity, asked.sight)
    return " AND ".join([*conditions, *seen]), [*values, *more]


def order_of(asked: Asked, *, collation: str = "") -> str:
    """Return the order of a page; raises Invalid for one that there is not. What is empty comes last when ascending."""
    columns = {
        name: f"r.{column}{collation}"
        if column in _TEXTS
        else (f"coalesce(r.{column}, {2**62})" if column.startswith("scheduled") else f"r.{column}")
        for name, column in ORDERS[asked.entity].items()
    }
    return order_by(asked.ordering, columns, "r.pk")


def _seen(entity: EntityName, sight: Sight) -> tuple[list[str], list[Any]]:
    if sight.kind == "all":
        return [], []
    if sight.kind == "none":
        return ["1 = 0"], []
    if sight.kind == "team":
        return _of_team(entity, sight.user_id)
    return _of_stations(entity, sight)


def _of_team(entity: EntityName, user_id: str) -> tuple[list[str], list[Any]]:
    me = "me.user_id = ? AND me.deleted_ms IS NULL"
    mates = (
        "SELECT m.id FROM rangers m WHERE m.user_id = ? OR m.team_id IN"
        f" (SELECT me.team_id FROM rangers me WHERE {me} AND me.team_id IS NOT NULL)"
    )
    match entity:
        case "team":
            return [f"r.id IN (SELECT me.team_id FROM rangers me WHERE {me})"], [user_id]
        case "ranger":
            return [f"r.id IN ({mates})"], [user_id, user_id]
        case "patrol_route":  # ids are letters and digits: what holds one names it
            named = "replace(r.assigned_rangers, me.id, '') <> r.assigned_rangers"
            return [f"EXISTS (SELECT 1 FROM rangers me WHERE {me} AND (me.team_id = r.team_id OR {named}))"], [user_id]
        case "patrol_log":
            return [f"(r.reported_by = ? OR r.ranger_id IN ({mates}))"], [user_id, user_id, user_id]
        case _:
            return [f"r.ranger_id IN ({mates})"], [user_id, user_id]


def _of_stations(entity: EntityName, sight: Sight) -> tuple[list[str], list[Any]]:
    """Return the condition that a row came from one of the stations, or was entered here by the user or of theirs."""
    marks = ", ".join("?" * len(sight.stations)) or "NULL"
    values: list[Any] = [*sight.stations, sight.user_id]

    def ours(row: str) -> str:
        return f"({row}.station_id IN ({marks}) OR ({row}.station_id IS NULL AND {row}.author = ?))"

    if entity not in ("ranger_position", "patrol_log"):
        return [ours("r")], values
    theirs = f"SELECT m.id FROM rangers m WHERE {ours('m')}"
    return [f"({ours('r')} OR (r.station_id IS NULL AND r.ranger_id IN ({theirs})))"], [*values, *values]


class PatrolReads(abc.ABC):
    """What ``shared.store.Store`` says of reading teams, rangers, positions, logs and routes. Every store inherits it.

    Nothing of it is more or less precise by ``view``: a row is seen or it is not; who is no manager sees no numbers but
    the own.
    """

    @abc.abstractmethod
    async def asked(self, asked: Asked) -> Page[Record]:
        """Return a page of records; raises Invalid for an order that there is not."""

    async def teams(self, view: View, query: TeamQuery) -> Page[Team]:
        """List teams."""
        return await self._page(
            view, "team", query, team_of, {"is_active": query.is_active}, search_in=("name", "description")
        )

    async def team(self, view: View, team_id: str) -> Team:
        """Return one team; raises NotFound."""
        return await self._one(view, "team", team_id, team_of)

    async def rangers(self, view: View, query: RangerQuery) -> Page[Ranger]:
        """List rangers."""
        equal = {"current_status": query.current_status, "team_id": query.team_id, "user_id": query.user_id}
        return await self._page(view, "ranger", query, ranger_of, equal, search_in=("name", "badge_number"))

    async def ranger(self, view: View, ranger_id: str) -> Ranger:
        """Return one ranger; raises NotFound."""
        return await self._one(view, "ranger", ranger_id, ranger_of)

    async def ranger_positions(self, view: View, query: RangerPositionQuery) -> Page[RangerPosition]:
        """List positions of rangers."""
        equal = {"ranger_id": query.ranger_id, "activity_type": query.activity_type}
        return await self._page(view, "ranger_position", query, ranger_position_of, equal)

    async def ranger_position(self, view: View, position_id: str) -> RangerPosition:
        """Return one position; raises NotFound."""
        return await self._one(view, "ranger_position", position_id, ranger_position_of)

    async def patrol_logs(self, view: View, query: PatrolLogQuery) -> Page[PatrolLog]:
        """List lines of logs."""
        equal = {
            "log_type": query.log_type, "priority": query.priority, "is_resolved": query.is_resolved,
            "ranger_id": query.ranger_id, "team_id": query.team_id,
        }  # fmt: skip
        return await self._page(view, "patrol_log", query, patrol_log_of, equal, search_in=("title", "description"))

    async def patrol_log(self, view: View, log_id: str) -> PatrolLog:
        """Return one line; raises NotFound."""
        return await self._one(view, "patrol_log", log_id, patrol_log_of)

    async def patrol_routes(self, view: View, query: PatrolRouteQuery) -> Page[PatrolRoute]:
        """List routes."""
        equal = {"status": query.status, "team_id": query.team_id}
        return await self._page(view, "patrol_route", query, patrol_route_of, equal, search_in=("name", "description"))

    async def patrol_route(self, view: View, route_id: str) -> PatrolRoute:
        """Return one route; raises NotFound."""
        return await self._one(view, "patrol_route", route_id, patrol_route_of)

    async def live_rangers(self, view: View) -> list[LiveRanger]:
        """Return every ranger with the newest position and the open emergencies."""
        rangers = await self.rangers(view, RangerQuery(limit=MOST_RANGERS))
        teams = {team.id: team for team in (await self.teams(view, TeamQuery(limit=MOST_RANGERS))).results}
        newest = await self.asked(
            Asked(entity="ranger_position", sight=sight_of(view), is_newest=True, limit=MOST_RANGERS)
        )
        positions = {each.ranger_id: each for each in map(ranger_position_of, newest.results)}
        query = PatrolLogQuery(log_type="emergency", is_resolved=False, limit=MOST_RANGERS)
        emergencies: dict[str | None, list[PatrolLog]] = {}
        for line in (await self.patrol_logs(view, query)).results:
            emergencies.setdefault(line.ranger_id, []).append(line)
        return [
            LiveRanger(
                ranger=ranger,
                team=teams.get(ranger.team_id or ""),
                position=positions.get(ranger.id),
                emergencies=tuple(emergencies.get(ranger.id, ())),
            )
            for ranger in rangers.results
        ]

    async def ranger_counts(self, view: View) -> dict[DutyStatus, int]:
        """Return how many rangers are in each state of duty; the one thing of rangers that a viewer may know."""
        user_id = view.principal.user_id
        sight = sight_of(view)
        whole = Sight(kind="all", user_id=user_id) if sight.kind in ("none", "team") else sight
        counts: dict[DutyStatus, int] = {}
        for status in ("on_duty", "off_duty", "on_leave", "emergency_response"):
            asked = Asked(entity="ranger", sight=whole, equal={"current_status": status}, limit=0)
            counts[status] = (await self.asked(asked)).count
        return counts

    async def _page(
        self,
        view: View,
        entity: EntityName,
        query: Any,
        make: Callable[[Record], T],
        equal: Mapping[str, Any],
        search_in: Sequence[str] = (),
    ) -> Page[T]:
        since, until = getattr(query, "since", None), getattr(query, "until", None)
        asked = Asked(
            entity=entity,
            sight=sight_of(view),
            equal=equal,
            search=getattr(query, "search", None) if search_in else None,
            search_in=tuple(search_in),
            since_ms=_ms(since),
            until_ms=_ms(until),
            ordering=query.ordering,
            offset=query.offset,
            limit=query.limit,
        )
        found = await self.asked(asked)
        return Page(found.count, [personal(view, make(record)) for record in found.results])

    async def _one(self, view: View, entity: EntityName, identity: str, make: Callable[[Record], T]) -> T:
        if "\0" not in identity:  # PostgreSQL keeps no such text
            asked = Asked(entity=entity, sight=sight_of(view), equal={"id": identity}, limit=1)
            for record in (await self.asked(asked)).results:
                return cast("T", personal(view, make(record)))
        raise NotFound(f"there is no {entity.replace('_', ' ')} {identity}")


def entity_of(asked: Asked) -> Entity:
    """Return the kind of record that is asked for."""
    return ENTITIES[asked.entity]


def _ms(instant: datetime | None) -> int | None:
    return None if instant is None else to_ms(instant)
