"""The original platform's promises, walked: routes, methods, fields, filters, search and order, at both homes.

What an answer says beyond these is ours. What differs from the original on purpose stands in ``shared/README.md``.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from cloud.store.store import PostgresStore
from shared.store import Store
from tests.fakes import START, FakeClock

pytestmark = pytest.mark.api

AREA = {"type": "Polygon", "coordinates": [[[37.0, -2.0], [38.0, -2.0], [38.0, -3.0], [37.0, -2.0]]]}
ENDS = {"start_point": {"lat": -2.0, "lon": 37.0}, "end_point": {"lat": -3.0, "lon": 38.0}}
_CRUD = ("GET", "POST", "GET {id}", "PUT {id}", "PATCH {id}", "DELETE {id}")

#: Each route that the original's README or its clients name, below /api/v1.
ROUTES: dict[str, tuple[str, ...]] = {
    "auth": (
        "POST register", "POST verify-otp", "POST login", "POST login/verify", "POST logout", "POST refresh", "GET me",
        "PUT me", "PATCH me", "POST send-otp", "POST change-password",
    ),
    "animals": (*_CRUD, "GET live_status"),
    "tracking": (
        "GET", "POST", "GET {id}", "POST bulk_upload", "GET by_animal", "GET live_tracking", "GET live",
        "GET behavior/analyze", "GET behavior/summary",
    ),
    "tracking/observations": _CRUD,
    "predictions": (
        "GET", "POST", "GET {id}", "GET corridor", "POST corridor", "GET ml_status", "GET history",
        "GET xgboost/environment", "POST xgboost/predict",
    ),
    "corridors": (*_CRUD, "POST optimize"),
    "ml": ("GET health", "GET health/live", "GET health/ready", "POST corridor/generate", "POST corridor/evaluate"),
    "conflict-zones": (*_CRUD, "GET geojson"),
    "alerts": (
        "GET", "POST", "GET {id}", "GET active", "GET critical", "GET stats", "POST {id}/acknowledge",
        "POST {id}/resolve",
    ),
    "rangers": ("GET live_status", "GET tracking", "POST tracking"),
    "rangers/teams": _CRUD,
    "rangers/rangers": _CRUD,
    "rangers/logs": _CRUD,
    "rangers/routes": _CRUD,
    "sync": (
        "POST upload", "GET logs", "GET logs/recent", "GET logs/stats", "GET queue/pending", "GET queue/failed",
        "POST queue/retry_failed", "POST queue/{id}/retry_item",
    ),
}  # fmt: skip

#: By list: what is posted, and the fields that the original's clients read.
FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "animals": (
        {"name": "A", "species": "lion", "collar_id": "K1", "gender": "F"},
        "id name species collar_id status gender age weight health_status notes created_at updated_at created_by",
    ),
    "tracking": (
        {"collar_id": "K1", "timestamp": "2026-06-01T11:00:00Z", "lat": 1, "lon": 1, "heading": 90},
        (
            "id local_id animal collar_id timestamp lat lon altitude speed_kmh directional_angle battery_level"
            " signal_strength temperature activity_type source notes"
        ),
    ),
    "tracking/observations": (
        {"observation_type": "sighting", "timestamp": "2026-06-01T11:00:00Z", "lat": 1, "lon": 1},
        "id local_id animal observation_type description lat lon timestamp photo_url observer",
    ),
    "corridors": (
        {"name": "C", "species": "lion", **ENDS},
        "id name description species status start_point end_point path optimization_score optimization_data",
    ),
    "conflict-zones": (
        {"name": "Z", "zone_type": "road", "geometry": AREA, "buffer_distance_km": 2},
        "id name zone_type risk_level geometry buffer_distance_km description is_active",
    ),
    "alerts": (
        {"title": "T", "alert_type": "low_battery", "latitude": 1, "longitude": 2},
        (
            "id animal alert_type severity status title message latitude longitude conflict_zone detected_at"
            " acknowledged_at resolved_at acknowledged_by metadata"
        ),
    ),
    "rangers/rangers": (
        {"name": "R", "badge_number": "1"},
        "id user badge_number team emergency_contact current_status device_id",
    ),
    "rangers/logs": (
        {"title": "L", "log_type": "incident", "lat": 1, "lon": 2},
        "id log_type priority title description lat lon animal photo_url notes is_resolved",
    ),
    "rangers/routes": (
        {"name": "R"},
        "id name team assigned_rangers waypoints scheduled_start scheduled_end actual_start actual_end status",
    ),
}  # fmt: skip


def _offered(app: Litestar) -> set[tuple[str, str]]:
    """Return method and path of every route, whatever it calls its parts."""
    offered: set[tuple[str, str]] = set()
    for route in app.routes:
        assert isinstance(route, HTTPRoute), route
        path = "/".join("{id}" if part.startswith("{") else part for part in route.path_format.strip("/").split("/"))
        offered |= {(str(method), path) for method in route.route_handler_map}
    return offered


async def test_every_route_of_the_original_is_there(app: Litestar) -> None:
    offered = _offered(app)
    for area, promises in ROUTES.items():
        for promise in promises:
            method, _, rest = promise.partition(" ")
            assert (method, "/".join(filter(None, ("api/v1", area, rest)))) in offered, f"{area}: {promise}"


async def test_reports_are_the_clouds_and_health_and_live_status_stand_where_they_stood(
    app: Litestar, store: Store
) -> None:
    offered = _offered(app)
    assert {("GET", "health"), ("GET", "api/animals/live_status"), ("GET", "api/docs")} <= offered
    assert (("POST", "api/v1/reports") in offered) == isinstance(store, PostgresStore)


async def test_a_row_has_the_originals_fields_is_made_with_201_and_named_by_a_uuid(client: httpx.AsyncClient) -> None:
    for name, (body, fields) in FIELDS.items():
        made = await client.post(f"/api/v1/{name}/", json=body)
        assert made.status_code == 201, (name, made.text)
        row = made.json()
        assert set(fields.split()) <= set(row), name
        assert row["id"] in (str(uuid.UUID(row["id"])), uuid.UUID(row["id"]).hex), name
        listed = (await client.get(f"/api/v1/{name}/")).json()
        assert [each["id"] for each in listed["results"]] == [row["id"]], name
        assert set(fields.split()) <= set((await client.get(f"/api/v1/{name}/{row['id']}/")).json()), name


async def test_lists_have_twenty_rows_a_page_with_links_to_the_next(client: httpx.AsyncClient) -> None:
    for number in range(21):
        await client.post("/api/v1/animals/", json={"name": f"A{number}", "species": "lion"})
    first = (await client.get("/api/v1/animals/")).json()
    assert (first["count"], len(first["results"]), first["previous"]) == (21, 20, None)
    second = (await client.get(first["next"])).json()
    assert (len(second["results"]), second["next"]) == (1, None)
    assert second["previous"]


@pytest.fixture
async def herd(client: httpx.AsyncClient, clock: FakeClock) -> dict[str, dict[str, Any]]:
    """Enter two animals with a position, an alert and a prediction's worth of collars each."""
    made = {}
    for name, species, collar in (("Ayo", "lion", "COL001"), ("Bo", "zebra", "XYZ9")):
        animal = {"name": name, "species": species, "collar_id": collar}
        made[name] = (await client.post("/api/v1/animals/", json=animal)).json()
        clock.tick(60)
        at = {"collar_id": collar, "timestamp": clock.now().isoformat(), "lat": 1, "lon": 1}
        assert (await client.post("/api/v1/tracking/", json=at)).status_code == 201
        alert = {"title": f"of {name}", "alert_type": "low_battery", "animal": made[name]["id"]}
        assert (await client.post("/api/v1/alerts/", json=alert)).status_code == 201
    return made


async def test_animals_and_positions_are_found_by_name_species_and_collar_and_by_animal(
    client: httpx.AsyncClient, herd: dict[str, dict[str, Any]]
) -> None:
    for name, key in (("animals", "id"), ("tracking", "animal")):
        for word in ("Ayo", "lion", "COL001", "ayo", "ol00"):
            found = (await client.get(f"/api/v1/{name}/", params={"search": word})).json()["results"]
            assert [row[key] for row in found] == [herd["Ayo"]["id"]], (name, word)
        assert (await client.get(f"/api/v1/{name}/", params={"search": "nothing"})).json()["count"] == 0
    for name in ("tracking", "alerts"):
        for animal in herd.values():
            found = (await client.get(f"/api/v1/{name}/", params={"animal": animal["id"]})).json()["results"]
            assert [row["animal"] for row in found] == [animal["id"]], name


async def test_corridors_are_found_by_name_and_description(client: httpx.AsyncClient) -> None:
    for name, description in (("North", "by the river"), ("South", "by the road")):
        await client.post("/api/v1/corridors/", json={"name": name, "description": description, **ENDS})
    for word in ("north", "RIVER"):
        found = (await client.get("/api/v1/corridors/", params={"search": word})).json()["results"]
        assert [row["name"] for row in found] == ["North"], word


async def test_alerts_are_listed_by_their_status(client: httpx.AsyncClient, herd: dict[str, dict[str, Any]]) -> None:
    (first, second) = (await client.get("/api/v1/alerts/")).json()["results"]
    acknowledged = await client.post(f"/api/v1/alerts/{first['id']}/acknowledge/", json={"notes": "seen"})
    resolved = await client.post(f"/api/v1/alerts/{second['id']}/resolve/", json={"resolution_notes": "gone"})
    assert (acknowledged.json()["status"], resolved.json()["status"]) == ("acknowledged", "resolved")
    for status, alert in (("acknowledged", first), ("resolved", second)):
        found = (await client.get("/api/v1/alerts/", params={"status": status})).json()["results"]
        assert [row["id"] for row in found] == [alert["id"]]
    stats = (await client.get("/api/v1/alerts/stats/")).json()
    assert stats["by_status"]["acknowledged"] == stats["by_status"]["resolved"] == 1


async def test_the_newest_stands_first_where_nothing_else_is_asked(client: httpx.AsyncClient, clock: FakeClock) -> None:
    for number in range(3):
        for name in ("animals", "corridors", "conflict-zones", "alerts", "tracking"):
            body = dict(FIELDS[name][0])
            if name == "animals":
                body = {"name": f"A{number}", "species": "lion"}
            if name == "tracking":
                body["timestamp"] = (START + timedelta(minutes=number)).isoformat()
            assert (await client.post(f"/api/v1/{name}/", json=body)).status_code == 201, name
        clock.tick(60)
    for name, order in (
        ("animals", "created_at"), ("corridors", "created_at"), ("conflict-zones", "created_at"),
        ("alerts", "detected_at"), ("tracking", "timestamp"),
    ):  # fmt: skip
        rows = (await client.get(f"/api/v1/{name}/")).json()["results"]
        assert [row[order] for row in rows] == sorted((row[order] for row in rows), reverse=True), name
        assert len(rows) == 3
        assert (await client.get(f"/api/v1/{name}/?ordering={order}")).json()["results"] == rows[::-1], name


async def test_predictions_are_of_an_animal_a_type_and_whoever_asked(
    client: httpx.AsyncClient, herd: dict[str, dict[str, Any]], settle: Callable[[], Awaitable[None]]
) -> None:
    ayo = herd["Ayo"]["id"]
    at = {"collar_id": "COL001", "timestamp": (START + timedelta(minutes=40)).isoformat(), "lat": 1.01, "lon": 1}
    assert (await client.post("/api/v1/tracking/", json=at)).status_code == 201
    await settle()
    made = await client.post("/api/v1/predictions/", json={"animal": ayo, "prediction_type": "movement"})
    assert made.status_code in (200, 201), made.text
    row = made.json()
    fields = "id animal prediction_type input_data results confidence model_version created_by created_at"
    assert set(fields.split()) <= set(row)
    for asked, count in (
        ({"animal": ayo}, 1), ({"animal": herd["Bo"]["id"]}, 0), ({"prediction_type": "movement"}, 1),
        ({"prediction_type": "habitat"}, 0), ({"created_by": row["created_by"]}, 1), ({"created_by": "x"}, 0),
        ({"search": "ayo"}, 1), ({"search": "lion"}, 1), ({"search": "zebra"}, 0),
    ):  # fmt: skip
        assert (await client.get("/api/v1/predictions/", params=asked)).json()["count"] == count, asked
    history = (await client.get("/api/v1/predictions/history/", params={"type": "movement"})).json()
    assert row["id"] in str(history)


async def test_live_views_of_the_movement_have_the_originals_keys(
    client: httpx.AsyncClient, herd: dict[str, dict[str, Any]], settle: Callable[[], Awaitable[None]]
) -> None:
    await settle()
    tracked = (await client.get("/api/v1/tracking/live_tracking/")).json()
    assert {"timestamp", "season", "species_data"} <= set(tracked)
    keys = "species individual_id current_coords predicted_coords state in_corridor risk_zone reward recommendation"
    assert all(set(keys.split()) <= set(row) for row in tracked["species_data"])
    assert len(tracked["species_data"]) == 2
    asked = {"animal_id": herd["Ayo"]["id"], "hours": 24}
    said = (await client.get("/api/v1/tracking/behavior/analyze/", params=asked)).json()
    keys = (
        "animal_id animal_name species time_period_hours points_analyzed current_behavior behavior_distribution"
        " recent_behaviors model_used"
    )
    assert set(keys.split()) <= set(said)
    summary = (await client.get("/api/v1/tracking/behavior/summary/")).json()
    assert {"total_animals", "animals", "distribution", "model_used", "timestamp"} <= set(summary)
    keys = "animal_id name species current_behavior speed_kmh last_update"
    assert all(set(keys.split()) <= set(row) for row in summary["animals"])
    newest = (await client.get("/api/v1/tracking/live/")).json()
    assert sorted(row["animal"] for row in newest) == sorted(animal["id"] for animal in herd.values())


async def test_the_health_of_models_has_the_originals_keys_without_an_account(nobody: httpx.AsyncClient) -> None:
    said = (await nobody.get("/api/v1/ml/health/live")).json()
    assert {"status", "service", "version"} <= set(said)
    assert (await nobody.get("/api/v1/ml/health")).status_code == 200


async def test_what_was_synchronised_has_the_originals_keys(client: httpx.AsyncClient, store: Store) -> None:
    stats = (await client.get("/api/v1/sync/logs/stats/")).json()
    keys = "total_syncs successful_syncs failed_syncs success_rate total_items synced_items conflict_items"
    assert set(stats) == {*keys.split(), "failed_items", "sync_efficiency"}
    for path in ("logs/", "logs/recent/", "queue/pending/", "queue/failed/"):
        assert (await client.get(f"/api/v1/sync/{path}")).status_code == 200, path
    retried = await client.post("/api/v1/sync/queue/retry_failed/")
    assert set(retried.json()) == {"message", "retry_count"}
