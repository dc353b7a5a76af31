"""/api/v1/alerts: what someone should look at, and who does. An alert is looked after, never deleted."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.filters import Exactly
from shared.api.inject import ClockGiven, Ring, RingGiven, StoreGiven, ViewGiven
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.api.references import named_animal, named_zone
from shared.api.spans import SPAN, SpanGiven
from shared.domain import Alert, AlertStatus
from shared.errors import Conflict
from shared.privacy import View
from shared.store import AlertQuery, Store
from shared.sync.operations import RecordMoved
from shared.wire.public import AcknowledgeIn, AlertIn, AlertOut, AlertStats, NoteIn, ResolveIn, added_note
from shared.wire.reading import optional_text

Act = Literal["acknowledge", "resolve", "false_alarm"]

#: What becomes of an alert in each state; where an act is repeated nothing changes, what is not here is a conflict.
TRANSITIONS: Final[Mapping[Act, Mapping[AlertStatus, AlertStatus]]] = {
    "acknowledge": {"active": "acknowledged", "acknowledged": "acknowledged"},
    "resolve": {"active": "resolved", "acknowledged": "resolved", "resolved": "resolved"},
    "false_alarm": {"active": "false_alarm", "acknowledged": "false_alarm", "false_alarm": "false_alarm"},
}

_TRIES: Final = 20


class Alerts(Controller):
    """Alerts, by rules or by people."""

    path = "/alerts"
    tags = ("alerts",)
    dependencies = {**PAGING, **SPAN}  # noqa: RUF012  # Litestar reads this attribute and never changes it
    return_dto = None

    @get("/", summary="List alerts", responses=documented(404))
    async def list_alerts(
        self,
        store: StoreGiven,
        view: ViewGiven,
        paging: PagingGiven,
        span: SpanGiven,
        animal: Exactly = None,
        animal_id: Exactly = None,
        alert_type: Exactly = None,
        severity: Exactly = None,
        status: Exactly = None,
        order: Annotated[
            str | None, QueryParameter(name="ordering", description="detected_at or created_at; - for descending.")
        ] = None,
    ) -> Paged[AlertOut]:
        """List alerts, the last that was detected first unless told otherwise."""
        query = AlertQuery(
            animal_id=animal or animal_id or None,
            alert_type=alert_type or None,
            severity=severity or None,
            status=status or None,
            since=span.since,
            until=span.until,
            ordering=order or "-detected_at",
            offset=paging.offset,
            limit=paging.limit,
        )
        return paging.of(await store.alerts(view, query), AlertOut.of)

    @post("/", summary="Raise an alert", dto=JsonBody, responses=documented())
    async def create_alert(
        self, store: StoreGiven, view: ViewGiven, ring: RingGiven, data: JSONBody[AlertIn]
    ) -> AlertOut:
        """Raise an alert; it is active, and detected now unless the body says when."""
        columns = data.columns()
        if columns["animal_id"]:
            await named_animal(store, view, columns["animal_id"])
        if columns["zone_id"]:
            await named_zone(store, view, columns["zone_id"])
        return _told(ring, await store.create_alert(view, columns))

    @get("/active", summary="List active alerts", responses=documented(404))
    async def active(self, store: StoreGiven, view: ViewGiven, paging: PagingGiven) -> Paged[AlertOut]:
        """List the alerts that nobody has acknowledged or closed, newest first."""
        query = AlertQuery(status="active", offset=paging.offset, limit=paging.limit)
        return paging.of(await store.alerts(view, query), AlertOut.of)

    @get("/critical", summary="List critical alerts", responses=documented(404))
    async def critical(self, store: StoreGiven, view: ViewGiven, paging: PagingGiven) -> Paged[AlertOut]:
        """List the active alerts of severity critical, newest first."""
        query = AlertQuery(status="active", severity="critical", offset=paging.offset, limit=paging.limit)
        return paging.of(await store.alerts(view, query), AlertOut.of)

    @get("/stats", summary="Count alerts", responses=documented())
    async def stats(
        self,
        store: StoreGiven,
        view: ViewGiven,
        span: SpanGiven,
        animal: Exactly = None,
        animal_id: Exactly = None,
    ) -> AlertStats:
        """Count alerts by severity, type and status; every word of each stands in the answer, also with 0."""
        query = AlertQuery(animal_id=animal or animal_id or None, since=span.since, until=span.until)
        return AlertStats.of(await store.alert_counts(view, query))

    @get("/{alert_id:str}", summary="Read an alert", responses=documented(404))
    async def alert(self, store: StoreGiven, view: ViewGiven, alert_id: FromPath[str]) -> AlertOut:
        """Return one alert."""
        return AlertOut.of(await store.alert(view, alert_id))

    @post(
        "/{alert_id:str}/acknowledge",
        summary="Acknowledge an alert",
        dto=JsonBody,
        status_code=200,
        responses=documented(404, 409),
    )
    async def acknowledge(
        self,
        store: StoreGiven,
        view: ViewGiven,
        clock: ClockGiven,
        ring: RingGiven,
        alert_id: FromPath[str],
        data: JSONBody[AcknowledgeIn | None] = None,
    ) -> AlertOut:
        """Say that someone has seen the alert; who was first stays.

        Notes are added to its note; the body may be left out.
        """
        said = ("notes", data.notes if data else None)
        return await _act(store, view, clock.now(), ring, alert_id, "acknowledge", said)

    @post(
        "/{alert_id:str}/resolve",
        summary="Resolve an alert",
        dto=JsonBody,
        status_code=200,
        responses=documented(404, 409),
    )
    async def resolve(
        self,
        store: StoreGiven,
        view: ViewGiven,
        clock: ClockGiven,
        ring: RingGiven,
        alert_id: FromPath[str],
        data: JSONBody[ResolveIn | None] = None,
    ) -> AlertOut:
        """Close the alert: what it told of is over. Notes are added to its note; the body may be left out."""
        said = ("resolution_notes", data.resolution_notes if data else None)
        return await _act(store, view, clock.now(), ring, alert_id, "resolve", said)

    @post(
        "/{alert_id:str}/false_alarm",
        summary="Call an alert false",
        dto=JsonBody,
        status_code=200,
        responses=documented(404, 409),
    )
    async def false_alarm(
        self,
        store: StoreGiven,
        view: ViewGiven,
        clock: ClockGiven,
        ring: RingGiven,
        alert_id: FromPath[str],
        data: JSONBody[AcknowledgeIn | None] = None,
    ) -> AlertOut:
        """Close the alert: what it told of never was. Notes are added to its note; the body may be left out."""
        said = ("notes", data.notes if data else None)
        return await _act(store, view, clock.now(), ring, alert_id, "false_alarm", said)

    @post("/{alert_id:str}/note", summary="Write on an alert", dto=JsonBody, status_code=200, responses=documented(404))
    async def note(
        self, store: StoreGiven, view: ViewGiven, ring: RingGiven, alert_id: FromPath[str], data: JSONBody[NoteIn]
    ) -> AlertOut:
        """Replace the note, in any state of the alert; null takes it away."""
        return _told(ring, await store.update_alert(view, alert_id, {"note": optional_text("note", data.note)}))


def _told(ring: Ring, alert: Alert) -> AlertOut:
    """Tell those who listen how the alert stands now that it is on disk, and return it."""
    ring(alert)
    return AlertOut.of(alert)


async def _act(
    store: Store, view: View, now: datetime, ring: Ring, alert_id: str, act: Act, said: tuple[str, str | None]
) -> AlertOut:
    """Do ``act`` as ``TRANSITIONS`` says; ``said`` is the field of what to add to the note, and that.

    Where somebody else acts at the same instant, it is done once more on what that has left.
    """
    for _ in range(_TRIES):
        alert = await store.alert(view, alert_id)
        columns = _acted(alert, act, now, view.principal.user_id, said)
        if not columns:
            return AlertOut.of(alert)
        with contextlib.suppress(RecordMoved):
            return _told(ring, await store.update_alert(view, alert.id, columns, if_rev=alert.rev))
    raise Conflict("others act on this alert all the time: try again")


def _acted(alert: Alert, act: Act, now: datetime, user_id: str, said: tuple[str, str | None]) -> dict[str, Any]:
    """Return what an act changes of an alert; raises Conflict where it cannot be done in its state."""
    status = TRANSITIONS[act].get(alert.status)
    if status is None:
        raise Conflict(f"status: the alert is {alert.status.replace('_', ' ')} already")
    columns: dict[str, Any] = {}
    if status != alert.status:
        columns["status"] = status
        if act == "acknowledge":
            columns |= {"acknowledged_at": now, "acknowledged_by": user_id}
        else:
            columns["resolved_at"] = now
    note = added_note(said[0], alert.note, said[1])
    if note != alert.note:
        columns["note"] = note
    return columns
