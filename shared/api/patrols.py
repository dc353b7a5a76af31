"""/api/v1/rangers/logs and /routes: what happens on a patrol, and what is planned.

What follows from a line of a log is written in its own transaction::

    patrol_start, patrol_end   the ranger's duty, unless a later line has said otherwise
    emergency, not resolved    an alert of its own kind, critical, that rings; no rule mutes it
    resolved                   its alert is resolved with it
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from litestar import Controller, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody, QueryParameter

from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.filters import Exactly
from shared.api.inject import ClockGiven, Ring, RingGiven, StoreGiven, ViewGiven
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.api.references import caller_as_ranger, named_animal, named_ranger, named_team
from shared.api.spans import SPAN, SpanGiven
from shared.domain import PatrolLog, PatrolRoute, Ranger
from shared.errors import Conflict, Forbidden, NotFound
from shared.ids import derived_id, random_id
from shared.privacy import View
from shared.store import PatrolLogQuery, PatrolRouteQuery, RecordEdit, Store
from shared.wire.public.rangers import (
    PatrolLogIn,
    PatrolLogOut,
    PatrolLogPatch,
    PatrolRouteIn,
    PatrolRouteOut,
    PatrolRoutePatch,
    check_order,
)

_OPEN: Final = frozenset({"active", "acknowledged"})

Search = Annotated[str | None, QueryParameter(description="Text to find in the title, the name or the description.")]


class PatrolLogs(Controller):
    """What rangers write down on patrol, emergencies among it."""

    path = "/rangers/logs"
    tags = ("rangers",)
    dependencies = {**PAGING, **SPAN}  # noqa: RUF012  # Litestar reads this attribute and never changes it
    return_dto = None

    @get("/", summary="List lines of patrol logs", responses=documented(404))
    async def list_logs(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        span: SpanGiven,
        log_type: Exactly = None,
        priority: Exactly = None,
        is_resolved: Annotated[bool | None, QueryParameter(description="Only resolved lines, or the others.")] = None,
        ranger: Exactly = None,
        team: Exactly = None,
        search: Search = None,
        order: Annotated[
            str | None, QueryParameter(name="ordering", description="timestamp or created_at; - for descending.")
        ] = None,
    ) -> Paged[PatrolLogOut]:
        """List lines, newest first unless told otherwise; a ranger sees the own team's."""
        query = PatrolLogQuery(
            log_type=log_type or None, priority=priority or None, is_resolved=is_resolved, ranger_id=ranger or None,
            team_id=team or None, since=span.since, until=span.until, search=search or None,
            ordering=order or "-timestamp", offset=paging.offset, limit=paging.limit,
        )  # fmt: skip
        return paging.of(await store.patrol_logs(view, query), PatrolLogOut.of)

    @post("/", summary="Write a line into a patrol log", dto=JsonBody, responses=documented(403))
    async def create_log(
        self, store: StoreGiven, view: ViewGiven, clock: ClockGiven, ring: RingGiven, data: JSONBody[PatrolLogIn]
    ) -> PatrolLogOut:
        """Write a line: `patrol_start` and `patrol_end` change the ranger's duty, an `emergency` rings as an alert."""
        columns = await _log_columns(store, view, data)
        me = await caller_as_ranger(store, view)
        if view.principal.role == "ranger":  # who reports an emergency is never sent away for want of an entry
            if columns.get("ranger_id") not in (None, None if me is None else me.id):
                raise Forbidden("rangers write their own log")
            columns["ranger_id"] = None if me is None else me.id
        elif "ranger_id" not in columns and me is not None:
            columns["ranger_id"] = me.id
        ranger = await store.ranger(view, columns["ranger_id"]) if columns.get("ranger_id") else None
        if ranger is not None:
            columns.setdefault("team_id", ranger.team_id)
        now = clock.now()
        columns.setdefault("recorded_at", now)
        if columns.get("is_resolved"):
            columns |= {"resolved_at": now, "resolved_by": view.principal.user_id}
        log_id = random_id()
        edits = [RecordEdit(entity="patrol_log", row_id=log_id, columns=columns, is_new=True)]
        alert_id = None
        if columns["log_type"] == "emergency" and not columns.get("is_resolved"):
            alert_id = derived_id(log_id, "alert 1")
            columns["alert_id"] = alert_id
            edits.append(_alarm(alert_id, columns, ranger))
        edits += await _duty(store, view, columns, ranger)
        await store.edit_together(view, edits)
        await _rung(store, view, ring, alert_id)
        return PatrolLogOut.of(await store.patrol_log(view, log_id))

    @get("/emergencies", summary="List open emergencies", responses=documented(404))
    async def emergencies(self, store: StoreGiven, view: ViewGiven, paging: PagingGiven) -> Paged[PatrolLogOut]:
        """List the emergencies that nobody has resolved, newest first."""
        query = PatrolLogQuery(log_type="emergency", is_resolved=False, offset=paging.offset, limit=paging.limit)
        return paging.of(await store.patrol_logs(view, query), PatrolLogOut.of)

    @get("/{log_id:str}", summary="Read a line of a patrol log", responses=documented(404))
    async def log(self, store: StoreGiven, view: ViewGiven, log_id: FromPath[str]) -> PatrolLogOut:
        """Return one line."""
        return PatrolLogOut.of(await store.patrol_log(view, log_id))

    @put("/{log_id:str}", summary="Rewrite a line", dto=JsonBody, responses=documented(403, 404))
    async def put_log(
        self,
        store: StoreGiven,
        view: ViewGiven,
        clock: ClockGiven,
        ring: RingGiven,
        log_id: FromPath[str],
        data: JSONBody[PatrolLogIn],
    ) -> PatrolLogOut:
        """Change a line; type and title are required, what is left out stays as it is."""
        return await _change_log(store, view, clock.now(), ring, log_id, data)

    @patch("/{log_id:str}", summary="Change a line", dto=JsonBody, responses=documented(403, 404))
    async def patch_log(
        self,
        store: StoreGiven,
        view: ViewGiven,
        clock: ClockGiven,
        ring: RingGiven,
        log_id: FromPath[str],
        data: JSONBody[PatrolLogPatch],
    ) -> PatrolLogOut:
        """Change what the body names; rangers change what they wrote themselves."""
        return await _change_log(store, view, clock.now(), ring, log_id, data)

    @post("/{log_id:str}/resolve", summary="Resolve a line", status_code=200, responses=documented(404))
    async def resolve(
        self, store: StoreGiven, view: ViewGiven, clock: ClockGiven, ring: RingGiven, log_id: FromPath[str]
    ) -> PatrolLogOut:
        """Say that an emergency or an incident is over, and resolve its alert; a repeat changes nothing."""
        line = await store.patrol_log(view, log_id)
        return await _written(store, view, clock.now(), ring, line, {"is_resolved": True})

    @delete("/{log_id:str}", summary="Delete a line", responses=documented(404))
    async def delete_log(self, store: StoreGiven, view: ViewGiven, log_id: FromPath[str]) -> None:
        """Delete a line; the alert of an emergency stays, and is resolved by itself."""
        await store.patrol_log(view, log_id)
        await store.delete_record(view, "patrol_log", log_id)


async def _log_columns(store: Store, view: View, body: PatrolLogPatch) -> dict[str, Any]:
    """Return the columns to store, once all that the body names is there; raises Invalid."""
    columns = body.columns()
    if columns.get("animal_id"):
        await named_animal(store, view, columns["animal_id"])
    if columns.get("ranger_id"):
        await named_ranger(store, view, columns["ranger_id"])
    if columns.get("team_id"):
        await named_team(store, view, columns["team_id"])
    return columns


async def _change_log(
    store: Store, view: View, now: datetime, ring: Ring, log_id: str, body: PatrolLogPatch
) -> PatrolLogOut:
    line = await store.patrol_log(view, log_id)
    columns = await _log_columns(store, view, body)
    if view.principal.role == "ranger":
        if line.reported_by != view.principal.user_id:
            raise Forbidden("rangers change what they wrote themselves")
        columns.pop("ranger_id", None)
        columns.pop("team_id", None)
    return await _written(store, view, now, ring, line, columns)


async def _written(
    store: Store, view: View, now: datetime, ring: Ring, line: PatrolLog, columns: dict[str, Any]
) -> PatrolLogOut:
    """Write a change of ``line`` with what it does to the alert of an emergency."""
    is_resolved = columns.get("is_resolved", line.is_resolved)
    if is_resolved and not line.is_resolved:
        columns |= {"resolved_at": now, "resolved_by": view.principal.user_id}
    elif not is_resolved and line.is_resolved:
        columns |= {"resolved_at": None, "resolved_by": None}
    was_open = line.log_type == "emergency" and not line.is_resolved
    is_open = columns.get("log_type", line.log_type) == "emergency" and not is_resolved
    edits = [RecordEdit(entity="patrol_log", row_id=line.id, columns=columns)]
    alert_id = None
    if is_open and not was_open:  # found to be one, or not over after all
        alert_id = derived_id(line.id, f"alert {line.rev + 1}")
        columns["alert_id"] = alert_id
        ranger = await _ranger_of(store, view, columns.get("ranger_id", line.ranger_id))
        said = {name: getattr(line, name) for name in ("title", "description", "lat_deg", "lon_deg", "animal_id")}
        edits.append(_alarm(alert_id, {**said, "recorded_at": now, **columns}, ranger))
    elif was_open and not is_open and line.alert_id is not None:
        alert_id = line.alert_id
        edits += await _closing(store, view, now, alert_id)
    await store.edit_together(view, edits)
    await _rung(store, view, ring, alert_id)
    return PatrolLogOut.of(await store.patrol_log(view, line.id))


async def _ranger_of(store: Store, view: View, ranger_id: str | None) -> Ranger | None:
    try:
        return await store.ranger(view, ranger_id) if ranger_id else None
    except NotFound:
        return None


def _alarm(alert_id: str, columns: dict[str, Any], ranger: Ranger | None) -> RecordEdit:
    """Return what raises the alert of an emergency. It is not late, however old: nobody has resolved it."""
    who = "" if ranger is None else f"{ranger.name} ({ranger.badge_number}): "
    return RecordEdit(
        entity="alert",
        row_id=alert_id,
        is_new=True,
        columns={
            "alert_type": "ranger_emergency",
            "severity": "critical",
            "title": f"{who}{columns['title']}"[:200],
            "message": columns.get("description") or "",
            "animal_id": columns.get("animal_id"),
            "lon_deg": columns.get("lon_deg"),
            "lat_deg": columns.get("lat_deg"),
            "detected_at": columns["recorded_at"],
        },
    )


async def _closing(store: Store, view: View, now: datetime, alert_id: str) -> list[RecordEdit]:
    try:
        alert = await store.alert(view, alert_id)
    except NotFound:  # it has not come here
        return []
    if alert.status not in _OPEN:
        return []
    return [RecordEdit(entity="alert", row_id=alert_id, columns={"status": "resolved", "resolved_at": now})]


async def _rung(store: Store, view: View, ring: Ring, alert_id: str | None) -> None:
    """Tell those who listen how the alert stands, once it is on disk."""
    if alert_id is None:
        return
    try:
        ring(await store.alert(view, alert_id))
    except NotFound:  # not here, or not for the eyes of the caller
        return


async def _duty(store: Store, view: View, columns: dict[str, Any], ranger: Ranger | None) -> list[RecordEdit]:
    """Return what the begin or the end of a patrol does to the ranger's duty; a later line has the last word."""
    if ranger is None or columns["log_type"] not in ("patrol_start", "patrol_end"):
        return []
    for log_type in ("patrol_start", "patrol_end"):
        query = PatrolLogQuery(log_type=log_type, ranger_id=ranger.id, since=columns["recorded_at"], limit=1)
        if (await store.patrol_logs(view, query)).count:
            return []
    status = "on_duty" if columns["log_type"] == "patrol_start" else "off_duty"
    if ranger.current_status == status:
        return []
    return [RecordEdit(entity="ranger", row_id=ranger.id, columns={"current_status": status})]


class PatrolRoutes(Controller):
    """Patrols that are planned."""

    path = "/rangers/routes"
    tags = ("rangers",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List planned patrols", responses=documented(404))
    async def list_routes(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        status: Exactly = None,
        team: Exactly = None,
        search: Search = None,
        order: Annotated[
            str | None,
            QueryParameter(name="ordering", description="scheduled_start, name or created_at; - for descending."),
        ] = None,
    ) -> Paged[PatrolRouteOut]:
        """List routes, the latest first unless told otherwise; a ranger sees the own team's and those given to them."""
        query = PatrolRouteQuery(
            status=status or None, team_id=team or None, search=search or None, ordering=order or "-scheduled_start",
            offset=paging.offset, limit=paging.limit,
        )  # fmt: skip
        return paging.of(await store.patrol_routes(view, query), PatrolRouteOut.of)

    @post("/", summary="Plan a patrol", dto=JsonBody, responses=documented())
    async def create_route(self, store: StoreGiven, view: ViewGiven, data: JSONBody[PatrolRouteIn]) -> PatrolRouteOut:
        """Plan a patrol."""
        route_id = random_id()
        columns = await _route_columns(store, view, data, None)
        await store.edit_together(
            view, [RecordEdit(entity="patrol_route", row_id=route_id, columns=columns, is_new=True)]
        )
        return PatrolRouteOut.of(await store.patrol_route(view, route_id))

    @get("/{route_id:str}", summary="Read a planned patrol", responses=documented(404))
    async def route(self, store: StoreGiven, view: ViewGiven, route_id: FromPath[str]) -> PatrolRouteOut:
        """Return one route."""
        return PatrolRouteOut.of(await store.patrol_route(view, route_id))

    @put("/{route_id:str}", summary="Rewrite a planned patrol", dto=JsonBody, responses=documented(404))
    async def put_route(
        self, store: StoreGiven, view: ViewGiven, route_id: FromPath[str], data: JSONBody[PatrolRouteIn]
    ) -> PatrolRouteOut:
        """Change a route; the name is required, what is left out stays as it is."""
        return await _change_route(store, view, route_id, data)

    @patch("/{route_id:str}", summary="Change a planned patrol", dto=JsonBody, responses=documented(404))
    async def patch_route(
        self, store: StoreGiven, view: ViewGiven, route_id: FromPath[str], data: JSONBody[PatrolRoutePatch]
    ) -> PatrolRouteOut:
        """Change what the body names."""
        return await _change_route(store, view, route_id, data)

    @post("/{route_id:str}/start_patrol", summary="Begin a patrol", status_code=200, responses=documented(404, 409))
    async def start_patrol(
        self, store: StoreGiven, view: ViewGiven, clock: ClockGiven, route_id: FromPath[str]
    ) -> PatrolRouteOut:
        """Say that a planned patrol has begun; its rangers are on duty. A repeat changes nothing."""
        return await _turn(store, view, clock.now(), route_id, "in_progress")

    @post("/{route_id:str}/end_patrol", summary="End a patrol", status_code=200, responses=documented(404, 409))
    async def end_patrol(
        self, store: StoreGiven, view: ViewGiven, clock: ClockGiven, route_id: FromPath[str]
    ) -> PatrolRouteOut:
        """Say that a patrol is over. A repeat changes nothing."""
        return await _turn(store, view, clock.now(), route_id, "completed")

    @delete("/{route_id:str}", summary="Delete a planned patrol", responses=documented(404))
    async def delete_route(self, store: StoreGiven, view: ViewGiven, route_id: FromPath[str]) -> None:
        """Delete a route."""
        await store.patrol_route(view, route_id)
        await store.delete_record(view, "patrol_route", route_id)


async def _route_columns(
    store: Store, view: View, body: PatrolRoutePatch, before: PatrolRoute | None
) -> dict[str, Any]:
    """Return the columns to store, once all that the body names is there; raises Invalid."""
    columns = body.columns()
    if columns.get("team_id"):
        await named_team(store, view, columns["team_id"])
    for ranger_id in dict.fromkeys(body.assigned_rangers or ()):
        await named_ranger(store, view, ranger_id)
    known: dict[str, Any] = {} if before is None else {each: getattr(before, each) for each in before.__struct_fields__}
    check_order({**known, **columns})
    return columns


async def _change_route(store: Store, view: View, route_id: str, body: PatrolRoutePatch) -> PatrolRouteOut:
    route = await store.patrol_route(view, route_id)
    columns = await _route_columns(store, view, body, route)
    await store.edit_together(view, [RecordEdit(entity="patrol_route", row_id=route_id, columns=columns)])
    return PatrolRouteOut.of(await store.patrol_route(view, route_id))


async def _turn(
    store: Store, view: View, now: datetime, route_id: str, to: Literal["in_progress", "completed"]
) -> PatrolRouteOut:
    route = await store.patrol_route(view, route_id)
    if route.status == to:
        return PatrolRouteOut.of(route)
    allowed = {"in_progress": ("planned",), "completed": ("planned", "in_progress")}
    if route.status not in allowed[to]:
        raise Conflict(f"status: the patrol is {route.status.replace('_', ' ')} already")
    columns: dict[str, Any] = {"status": to, "actual_start_at" if to == "in_progress" else "actual_end_at": now}
    edits = [RecordEdit(entity="patrol_route", row_id=route_id, columns=columns)]
    if to == "in_progress":
        for ranger_id in dict.fromkeys(PatrolRouteOut.of(route).assigned_rangers):
            ranger = await _ranger_of(store, view, ranger_id)
            if ranger is not None and ranger.current_status != "on_duty":
                edits.append(RecordEdit(entity="ranger", row_id=ranger.id, columns={"current_status": "on_duty"}))
    await store.edit_together(view, edits)
    return PatrolRouteOut.of(await store.patrol_route(view, route_id))
