"""What all lists have in common: filters, order, pages and fields, as the original platform's clients ask for them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from litestar import Litestar

from tests.fakes import FakeClock

pytestmark = pytest.mark.api

AREA = {"type": "Polygon", "coordinates": [[[37.0, -2.0], [38.0, -2.0], [38.0, -3.0], [37.0, -2.0]]]}
ENDS = {"start_point": {"lat": -2.0, "lon": 37.0}, "end_point": {"lat": -3.0, "lon": 38.0}}
#: By list: the filters that the original has, what is posted twice, and what differs in the second.
LISTS: dict[str, tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = {
    "animals": (
        ("species", "status", "health_status", "gender"),
        {"name": "A", "species": "lion", "status": "active", "health_status": "healthy", "gender": "male"},
        {"species": "zebra", "status": "missing", "health_status": "sick", "gender": "female"},
    ),
    "tracking": (
        ("source", "activity_type", "collar_id"),
        {"collar_id": "K1", "timestamp": "2026-06-01T11:00:00Z", "lat": 1, "lon": 1, "source": "gps",
         "activity_type": "resting"},
        {"collar_id": "K2", "source": "manual", "activity_type": "feeding"},
    ),
    "tracking/observations": (
        ("observation_type",),
        {"observation_type": "sighting", "timestamp": "2026-06-01T11:00:00Z"},
        {"observation_type": "health"},
    ),
    "corridors": (
        ("species", "status"),
        {"name": "C", "species": "lion", "status": "active", **ENDS},
        {"species": "zebra", "status": "planned"},
    ),
    "conflict-zones": (
        ("zone_type", "risk_level", "is_active"),
        {"name": "Z", "zone_type": "road", "risk_level": "low", "is_active": True, "geometry": AREA},
        {"zone_type": "settlement", "risk_level": "high", "is_active": False},
    ),
    "alerts": (
        ("alert_type", "severity"),
        {"title": "T", "alert_type": "low_battery", "severity": "low"},
        {"alert_type": "weak_signal", "severity": "high"},
    ),
    "rangers/teams": (("is_active",), {"name": "T", "is_active": True}, {"is_active": False}),
    "rangers/rangers": (
        ("current_status",),
        {"name": "R", "badge_number": "1", "current_status": "on_duty"},
        {"badge_number": "2", "current_status": "on_leave"},
    ),
    "rangers/logs": (
        ("log_type", "priority", "is_resolved"),
        {"title": "L", "log_type": "incident", "priority": "low", "is_resolved": False},
        {"log_type": "other", "priority": "high", "is_resolved": True},
    ),
    "rangers/routes": (("status",), {"name": "R", "status": "planned"}, {"status": "cancelled"}),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_is_filtered_paged_and_shortened_as_the_originals(
    client: httpx.AsyncClient, clock: FakeClock, name: str
) -> None:
    filters, body, change = LISTS[name]
    path = f"/api/v1/{name}/"
    made = []
    for said in (body, {**body, **change}):
        answer = await client.post(path, json=said)
        assert answer.status_code == 201, answer.text
        made.append(answer.json())
        clock.tick(1)

    async def found(query: str) -> list[str]:
        answer = await client.get(f"{path}?{query}")
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["count", "next", "previous", "results"]
        return [row["id"] for row in answer.json()["results"]]

    for field in filters:
        for row in made:
            value = str(row[field]).lower() if isinstance(row[field], bool) else row[field]
            assert await found(f"{field}={value}") == [row["id"]], field
    assert await found("ordering=created_at") == [row["id"] for row in made]
    assert await found("ordering=-created_at") == [row["id"] for row in reversed(made)]
    assert await found("ordering=created_at&page_size=1&page=2") == [made[1]["id"]]
    assert len(await found("page_size=500")) == 2
    short = (await client.get(f"{path}?fields=id,{filters[0]}&ordering=created_at")).json()
    assert short["results"] == [{"id": row["id"], filters[0]: row[filters[0]]} for row in made]
    assert short["count"] == 2
    for query, detail in (
        ("fields=id,secret", "fields: there is no field secret; there are id"),
        ("page_size=501", "page_size"),
        ("ordering=secret", "ordering: must be one of"),
    ):
        answer = await client.get(f"{path}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
        assert answer.json()["detail"].startswith(detail)
    assert (await client.get(f"{path}?page=9")).status_code == 404


async def test_the_live_status_is_also_at_the_originals_path_without_a_version(client: httpx.AsyncClient) -> None:
    body = {"name": "Saba", "species": "elephant", "collar_id": "K1"}
    assert (await client.post("/api/v1/animals/", json=body)).status_code == 201
    at = {"collar_id": "K1", "timestamp": "2026-06-01T12:00:00Z", "lat": -2.0, "lon": 37.0}
    assert (await client.post("/api/v1/tracking/", json=at)).status_code == 201
    answers = [await client.get(f"/api/{version}animals/live_status/") for version in ("", "v1/")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json() != []


async def test_whether_a_home_is_well_needs_no_account(app: Litestar, nobody: httpx.AsyncClient) -> None:
    assert ((await nobody.get("/health/")).status_code, (await nobody.get("/health")).json()) == (200, {"status": "ok"})
