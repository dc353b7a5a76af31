"""Alerts over every store."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from shared.errors import Conflict, Invalid, NotFound
from shared.privacy import View
from shared.store import AlertCount, AlertQuery, Store
from tests.fakes import START, FakeClock

pytestmark = pytest.mark.api

UNKNOWN = "00000000-0000-4000-8000-000000000000"
ALERT = {"alert_type": "low_battery", "title": "Battery of K1"}


async def test_an_alert_comes_back_as_it_was_stored(store: Store, view: View, clock: FakeClock) -> None:
    animal = await store.create_animal(view, {"name": "Alpha", "species": "elephant"})
    columns = {
        **ALERT, "severity": "critical", "status": "resolved", "animal_id": animal.id, "zone_id": "z1",
        "message": "3.3 V", "lon_deg": 37.1234567, "lat_deg": -2.7654321, "note": "n", "is_late": True,
        "detected_at": START - timedelta(days=1), "acknowledged_at": START, "acknowledged_by": "asha",
        "resolved_at": START + timedelta(hours=1),
    }  # fmt: skip
    made = await store.create_alert(view, columns)
    assert made == await store.alert(view, made.id)
    assert {name: getattr(made, name) for name in columns} == columns
    assert made.is_late is True
    assert (made.rev, made.created_at) == (1, clock.now())


async def test_an_alert_has_what_an_alert_has_unless_told_otherwise(store: Store, view: View) -> None:
    made = await store.create_alert(view, {**ALERT, "id": UNKNOWN, "detected_at": None})
    assert (made.id, made.severity, made.status, made.message, made.is_late) == (UNKNOWN, "medium", "active", "", False)
    assert (made.detected_at, made.lon_deg, made.acknowledged_at) == (START, None, None)
    with pytest.raises(Conflict):
        await store.create_alert(view, {**ALERT, "id": UNKNOWN})


async def test_an_alert_never_waits_for_its_animal_or_zone(store: Store, view: View) -> None:
    made = await store.create_alert(view, {**ALERT, "animal_id": UNKNOWN, "zone_id": "nowhere"})
    assert (made.animal_id, made.zone_id) == (UNKNOWN, "nowhere")
    assert [row.id for row in (await store.alerts(view, AlertQuery(animal_id=UNKNOWN))).results] == [made.id]
    animal = await store.create_animal(view, {"id": UNKNOWN, "name": "Alpha", "species": "elephant"})
    await store.delete_animal(view, animal.id)
    assert (await store.alert(view, made.id)).animal_id == UNKNOWN


async def test_an_alert_is_acknowledged_and_resolved(store: Store, view: View, clock: FakeClock) -> None:
    made = await store.create_alert(view, ALERT)
    clock.tick(60)
    columns = {"status": "acknowledged", "acknowledged_by": "asha", "acknowledged_at": clock.now(), "note": "on my way"}
    seen = await store.update_alert(view, made.id, columns)
    assert seen == replace(
        made, status="acknowledged", acknowledged_by="asha", acknowledged_at=clock.now(), note="on my way", rev=2,
        updated_at=clock.now(),
    )  # fmt: skip
    clock.tick(60)
    assert await store.update_alert(view, made.id, columns) == seen
    closed = await store.update_alert(
        view, made.id, {"status": "false_alarm", "resolved_at": clock.now(), "note": None}
    )
    assert (closed.status, closed.resolved_at, closed.note, closed.rev) == ("false_alarm", clock.now(), None, 3)


@pytest.mark.parametrize("alert_id", [UNKNOWN, "", "%"])
async def test_an_unknown_alert_is_not_found(store: Store, view: View, alert_id: str) -> None:
    for refused in (store.alert(view, alert_id), store.update_alert(view, alert_id, {"note": "n"})):
        with pytest.raises(NotFound):
            await refused


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"title": None}, "title: is required"),
        ({"title": ""}, "title: must not be empty"),
        ({"alert_type": None}, "alert_type: is required"),
        ({"alert_type": "noise"}, "alert_type: must be one of"),
        ({"severity": "mild"}, "severity: must be one of critical, high, low, medium"),
        ({"status": "gone"}, "status: must be one of acknowledged, active, false_alarm, resolved"),
    ],
)
async def test_a_bad_alert_is_refused(store: Store, view: View, change: dict[str, Any], match: str) -> None:
    with pytest.raises(Invalid, match=match):
        await store.create_alert(view, {**ALERT, **change})
    assert (await store.alerts(view, AlertQuery())).count == 0
    alert = await store.create_alert(view, ALERT)
    with pytest.raises(Invalid, match=match.replace("is required", "must not be empty")):
        await store.update_alert(view, alert.id, {"note": "n", **change})
    assert await store.alert(view, alert.id) == alert


async def test_alerts_are_filtered_ordered_and_paged(store: Store, view: View, clock: FakeClock) -> None:
    for n, (title, alert_type, severity, status) in enumerate(
        (
            ("A", "low_battery", "low", "active"),
            ("B", "proximity", "high", "resolved"),
            ("C", "low_battery", "high", "active"),
        )
    ):
        columns = {"title": title, "alert_type": alert_type, "severity": severity, "status": status}
        await store.create_alert(view, {**columns, "animal_id": f"a{n % 2}", "detected_at": START - timedelta(hours=n)})
        clock.tick(1)

    async def titles(**query: Any) -> list[str]:
        return [alert.title for alert in (await store.alerts(view, AlertQuery(**query))).results]

    assert await titles() == ["A", "B", "C"]
    assert await titles(ordering="detected_at") == ["C", "B", "A"]
    assert await titles(ordering="-created_at", offset=1) == ["B", "A"]
    assert await titles(alert_type="low_battery") == ["A", "C"]
    assert await titles(severity="high", status="active") == ["C"]
    assert await titles(animal_id="a0", limit=1) == ["A"]
    assert await titles(status="%") == []
    assert await titles(since=START - timedelta(hours=1)) == ["A", "B"]
    assert await titles(until=START - timedelta(hours=1)) == ["C"]
    assert await titles(since=START - timedelta(hours=1), until=START) == ["B"]
    assert (await store.alerts(view, AlertQuery(animal_id="a0", limit=1))).count == 2
    with pytest.raises(Invalid, match="ordering"):
        await store.alerts(view, AlertQuery(ordering="title"))


async def test_alerts_are_counted_by_type_severity_and_status(store: Store, view: View) -> None:
    assert await store.alert_counts(view, AlertQuery()) == []
    for n, (severity, status) in enumerate((("low", "active"), ("low", "active"), ("high", "resolved"))):
        columns = {"severity": severity, "status": status, "animal_id": f"a{n}"}
        await store.create_alert(view, {**ALERT, **columns, "detected_at": START - timedelta(hours=n)})
    low = AlertCount("low_battery", "low", "active", 2)
    high = AlertCount("low_battery", "high", "resolved", 1)

    async def counted(**query: Any) -> list[AlertCount]:
        return sorted(await store.alert_counts(view, AlertQuery(**query)), key=lambda row: row.count)

    assert await counted(offset=1, limit=1) == [high, low]
    assert await counted(status="resolved") == [high]
    assert await counted(until=START, severity="low") == [replace(low, count=1)]
    assert await counted(animal_id="a0", since=START) == [replace(low, count=1)]
