"""What models say of animals, over HTTP and the same in every home: live views, behaviour, trail, occurrence."""

from __future__ import annotations

import io
import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.contract.walks import upload, walk
from tests.fakes import START, FakeClock

pytestmark = [pytest.mark.api, pytest.mark.ml]

Make = Callable[..., Awaitable[dict[str, Any]]]
Settle = Callable[[], Awaitable[None]]
LIVE = "/api/v1/animals/live_status/"
TRACKED = "/api/v1/tracking/live_tracking/"
STATES = {"resting", "foraging", "migrating"}


async def test_live_status_has_the_originals_shape(
    client: httpx.AsyncClient, make_animal: Make, clock: FakeClock, settle: Settle
) -> None:
    made = await make_animal(collar_id="COL001")
    await make_animal(name="No position")
    clock.tick(7200)
    for minutes, lat in ((0, -2.0), (60, -2.01)):
        at = START + timedelta(minutes=minutes)
        body = {"collar_id": "COL001", "timestamp": at.isoformat(), "lat": lat, "lon": 34.0, "battery_level": "75%"}
        assert (await client.post("/api/v1/tracking/", json=body)).status_code == 201
    await settle()
    answer = await client.get(LIVE)
    assert answer.headers["cache-control"] == "no-store"
    (live,) = answer.json()
    models = live.pop("models")
    assert {stage: models[stage] for stage in ("behaviour", "path")} == {
        "behaviour": "elephant 1", "path": "elephant 1",
    }  # fmt: skip
    assert list(live.pop("missing")) == ["habitat"], "there are no maps"
    assert live.pop("habitat_suitability") is None
    assert live.pop("early_warnings") == []
    predictions = live.pop("predictions")
    assert [each["hours"] for each in predictions] == [3.0, 6.0, 12.0, 24.0]  # an hour is over already
    assert all(0 < each["semi_minor_50_m"] <= each["semi_major_50_m"] < each["semi_major_90_m"] for each in predictions)
    first = predictions[0]
    assert live.pop("predicted_position") == {
        "lat": first["lat"], "lon": first["lon"], "prediction_time": "2026-06-01T16:00:00Z",
        "radius_50_m": first["semi_major_50_m"], "radius_90_m": first["semi_major_90_m"],
    }  # fmt: skip
    assert abs(first["lat"] - -2.02) < 0.1
    assert live == {
        "animal_id": made["id"],
        "name": "Alpha",
        "species": "Elephant",
        "collar_id": "COL001",
        "cell_deg": None,
        "current_position": {
            "lat": -2.01, "lon": 34.0, "altitude": None, "timestamp": "2026-06-01T13:00:00Z",
            "received_at": live["current_position"]["received_at"],
            "area": None,
        },
        "movement": {
            "speed_kmh": 1.11,
            "directional_angle": 180.0,
            "distance_24h_km": 1.106,
            "activity_type": None,
            "behavior_state": "migrating",
            "behavior_source": "elephant 1",
            "behavior_confidence": live["movement"]["behavior_confidence"],
            "behavior_until": "2026-06-01T13:00:00Z",
            "path_width_m": live["movement"]["path_width_m"],
            "battery_level": "75%",
            "signal_strength": None,
        },
        "corridor_status": {
            "inside_corridor": False,
            "corridor_name": None,
            "predicted_in_corridor": False,
            "predicted_corridor_name": None,
        },
        "conflict_risk": {
            "current": {"risk_level": None, "reason": None, "distance_to_conflict_km": None, "conflict_zone": None},
            "predicted": {"risk_level": None, "reason": None},
        },
        "alerts": {"active_count": 0, "has_critical": False, "latest_alert": None},
        "last_update": "2026-06-01T13:00:00Z",
    }  # fmt: skip
    assert 0.3 < live["movement"]["behavior_confidence"] <= 1
    assert 10 < live["movement"]["path_width_m"] < 500


async def test_an_animal_in_a_zone_and_a_corridor_says_so(
    client: httpx.AsyncClient, elephant: dict[str, Any], settle: Settle
) -> None:
    last = walk(48)[-1]
    lon, lat = last["lon"], last["lat"]
    ring = [[lon - 0.1, lat - 0.1], [lon + 0.1, lat - 0.1], [lon + 0.1, lat + 0.1], [lon - 0.1, lat - 0.1]]
    area = {"type": "Polygon", "coordinates": [ring]}
    zone = {"name": "Village", "zone_type": "settlement", "risk_level": "high", "geometry": area}
    assert (await client.post("/api/v1/conflict-zones/", json=zone)).status_code == 201
    route = {"name": "River", "species": "Elephant", "status": "active", "geometry": {
        "type": "LineString", "coordinates": [[lon - 0.2, lat], [lon + 0.2, lat]]}}  # fmt: skip
    assert (await client.post("/api/v1/corridors/", json=route)).status_code == 201
    alert = {"animal": elephant["id"], "alert_type": "high_risk_zone", "severity": "critical", "title": "In Village"}
    assert (await client.post("/api/v1/alerts/", json=alert)).status_code == 201
    await settle()
    (live,) = (await client.get(LIVE)).json()
    assert live["conflict_risk"]["current"] == {
        "risk_level": "high", "reason": "inside Village", "distance_to_conflict_km": 0.0, "conflict_zone": "Village",
    }  # fmt: skip
    assert live["corridor_status"]["inside_corridor"] is True
    assert live["corridor_status"]["corridor_name"] == "River"
    assert live["alerts"] == {"active_count": 1, "has_critical": True, "latest_alert": "In Village"}
    (tracked,) = (await client.get(TRACKED)).json()["species_data"]
    assert (tracked["in_corridor"], tracked["risk_zone"], tracked["risk_level"]) == (True, "Village", "high")


async def test_live_answers_are_kept_for_five_seconds(
    client: httpx.AsyncClient, elephant: dict[str, Any], clock: FakeClock, settle: Settle
) -> None:
    clock.tick(3600)
    last = walk(48)[-1]
    moved = [{**last, "timestamp": (START + timedelta(hours=48, minutes=-n)).isoformat()} for n in (1, 0)]
    before = (await client.get(LIVE)).json()
    await upload(client, moved[:1])
    assert (await client.get(LIVE)).json() == before
    await settle()
    assert (await client.get(LIVE)).json()[0]["current_position"]["timestamp"] == "2026-06-03T11:59:00Z"
    await upload(client, moved[1:])
    await settle()
    assert (await client.get(LIVE)).json()[0]["current_position"]["timestamp"] == "2026-06-03T12:00:00Z"


async def test_live_tracking_goes_through_every_stage(client: httpx.AsyncClient, elephant: dict[str, Any]) -> None:
    found = (await client.get(TRACKED)).json()
    assert list(found) == ["timestamp", "season", "species_data"]
    assert found["season"] == "dry"
    (tracked,) = found["species_data"]
    assert (tracked["species"], tracked["individual_id"]) == ("Elephant", elephant["id"])
    assert tracked["current_coords"] == [walk(48)[-1]["lat"], walk(48)[-1]["lon"]]
    assert tracked["state"] in STATES
    assert 0 < tracked["confidence"] <= 1
    assert tracked["distance_24h_km"] > 5
    assert tracked["recommendation"] == "continue"  # no zone and no corridor is near
    assert tracked["reward"] == pytest.approx(sum(tracked["reward_terms"].values()), abs=2e-3)
    assert (0 <= tracked["bearing"] < 360, tracked["corridor_id"]) == (True, None)
    assert tracked["predicted_coords"] == pytest.approx(tracked["current_coords"], abs=0.2)
    assert set(tracked["models"]) == {"behaviour", "path", "forecast", "corridor"}


async def test_an_analysis_tells_the_states_of_a_span(client: httpx.AsyncClient, elephant: dict[str, Any]) -> None:
    path = "/api/v1/tracking/behavior/analyze/"
    found = (await client.get(path, params={"animal_id": elephant["id"], "hours": 24})).json()
    assert (found["animal_name"], found["species"], found["time_period_hours"]) == ("Alpha", "Elephant", 24)
    assert found["points_analyzed"] == 24
    assert set(found["behavior_distribution"]) == STATES
    assert sum(share["count"] for share in found["behavior_distribution"].values()) == 24
    assert sum(share["percentage"] for share in found["behavior_distribution"].values()) == pytest.approx(100, abs=0.2)
    assert (found["model_used"], found["step_hours"], found["missing"]) == ("elephant 1", 1.0, None)
    recent = found["recent_behaviors"]
    assert len(recent) == 24
    assert recent[0]["timestamp"] == "2026-06-03T11:00:00Z"
    assert [row["is_settled"] for row in recent[:3]] == [False, False, True]
    assert found["current_behavior"] == recent[2]["behavior"]
    assert recent[5]["speed_kmh"] >= 0
    assert 0 <= recent[5]["direction"] < 360
    whole = (await client.get(path, params={"animal_id": elephant["id"], "hours": 72})).json()
    assert whole["points_analyzed"] == 47
    assert len(whole["recent_behaviors"]) == 47


async def test_an_analysis_without_steps_has_a_reason(
    client: httpx.AsyncClient, make_animal: Make, settle: Settle
) -> None:
    made = await make_animal(collar_id="COL001")
    await upload(client, walk(1))
    await settle()
    path = "/api/v1/tracking/behavior/analyze/"
    found = (await client.get(path, params={"animal_id": made["id"]})).json()
    assert (found["points_analyzed"], found["current_behavior"], found["behavior_distribution"]) == (0, None, {})
    assert "fewer than two fixes" in found["missing"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/tracking/behavior/analyze/?animal_id=nobody",
        "/api/v1/animals/nobody/movement_trail/",
        "/api/v1/animals/nobody/utilisation/",
        "/api/v1/animals/nobody/utilisation/3/2/1.png",
    ],
)
async def test_nobody_has_no_behaviour(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/tracking/behavior/analyze/",
        "/api/v1/tracking/behavior/analyze/?animal_id=a&hours=0",
        "/api/v1/tracking/behavior/analyze/?animal_id=a&hours=9000",
        "/api/v1/animals/a/movement_trail/?points=1",
        "/api/v1/animals/a/movement_trail/?hours=x",
    ],
)
async def test_a_span_that_cannot_be_is_refused(refusing: httpx.AsyncClient, path: str) -> None:
    answer = await refusing.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


async def test_the_summary_counts_animals_by_state(
    client: httpx.AsyncClient, elephant: dict[str, Any], make_animal: Make, clock: FakeClock, settle: Settle
) -> None:
    await make_animal(name="Beta", collar_id="COL002")
    lone = {**walk(1, collar_id="COL002", seed=2)[0], "timestamp": clock.now().isoformat()}
    await upload(client, [lone])
    await settle()
    found = (await client.get("/api/v1/tracking/behavior/summary/")).json()
    assert found["total_animals"] == 2
    alpha, beta = found["animals"]
    assert alpha["current_behavior"] in STATES
    assert (beta["name"], beta["current_behavior"]) == ("Beta", None)
    assert "fewer than two fixes" in beta["missing"]
    assert found["distribution"] == {alpha["current_behavior"]: 1}
    assert found["model_used"] == {"elephant 1": 1}


async def test_a_trail_has_fixes_states_and_the_path_between(
    client: httpx.AsyncClient, elephant: dict[str, Any]
) -> None:
    path = f"/api/v1/animals/{elephant['id']}/movement_trail/"
    found = (await client.get(path, params={"hours": 12, "points": 23})).json()
    items = walk(48)[-12:]
    assert [(point["lat"], point["lon"]) for point in found["fixes"]] == [(item["lat"], item["lon"]) for item in items]
    assert {point["behavior"] for point in found["fixes"]} <= STATES
    assert len(found["path"]) == 23
    assert found["path"][0]["timestamp"] == "2026-06-03T00:00:00Z"
    assert [point["lat"] for point in found["path"][::2]] == pytest.approx([i["lat"] for i in items], abs=1e-6)
    assert all(0 < point["radius_50_m"] < point["radius_95_m"] for point in found["path"])
    between, at = found["path"][1]["radius_95_m"], found["path"][0]["radius_95_m"]
    assert between > at  # surest at a fix
    assert found["geojson"]["geometry"]["type"] == "LineString"
    assert len(found["geojson"]["geometry"]["coordinates"]) == 12
    assert (found["models"], found["missing"]) == ({"behaviour": "elephant 1", "path": "elephant 1"}, {})
    assert len((await client.get(path, params={"hours": 96})).json()["fixes"]) == 48


async def test_utilisation_is_occurrence_with_what_it_was_made_of(
    client: httpx.AsyncClient, elephant: dict[str, Any]
) -> None:
    found = (await client.get(f"/api/v1/animals/{elephant['id']}/utilisation/")).json()
    assert found["type"] == "FeatureCollection"
    outer, inner = found["features"]
    assert (outer["properties"]["share"], inner["properties"]["share"]) == (0.95, 0.5)
    assert 0 < inner["properties"]["area_km2"] < outer["properties"]["area_km2"]
    assert outer["geometry"]["type"] == "MultiPolygon"
    assert "not a home range" in found["meaning"]
    assert (found["since"], found["until"]) == ("2026-06-01T12:00:00Z", "2026-06-03T11:00:00Z")
    assert (found["bridges"], found["gaps"], found["fixes_dropped"]) == (47, 0, 0)
    assert found["cell_m"] == 40.0
    assert found["mass_on_grid"] == pytest.approx(1.0, abs=0.02)
    assert found["sigma_m_per_root_s"] > 0
    assert found["location_error_m"] == pytest.approx(20.0)
    assert found["model"] == "elephant 1"


async def test_a_lone_fix_has_no_utilisation(client: httpx.AsyncClient, make_animal: Make, settle: Settle) -> None:
    made = await make_animal(collar_id="COL001")
    await upload(client, walk(1))
    await settle()
    answer = await client.get(f"/api/v1/animals/{made['id']}/utilisation/")
    assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable")
    assert "fewer than two usable fixes" in answer.json()["detail"]


def tile_of(lon: float, lat: float, z: int) -> tuple[int, int]:
    """Return the tile that holds a place."""
    x = (lon + 180) / 360 * 2**z
    y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**z
    return int(x), int(y)


async def test_a_tile_shows_where_the_animal_was(client: httpx.AsyncClient, elephant: dict[str, Any]) -> None:
    last = walk(48)[-1]
    x, y = tile_of(last["lon"], last["lat"], 12)
    for name in (f"{y}.png", f"{y}"):
        answer = await client.get(f"/api/v1/animals/{elephant['id']}/utilisation/12/{x}/{name}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/png"
        image = Image.open(io.BytesIO(answer.content))
        assert (image.size, image.mode) == ((256, 256), "RGBA")
        assert 0 < int(np.count_nonzero(np.asarray(image)[:, :, 3])) < 256 * 256
    far = await client.get(f"/api/v1/animals/{elephant['id']}/utilisation/12/0/0.png")
    assert np.count_nonzero(np.asarray(Image.open(io.BytesIO(far.content)))) == 0


@pytest.mark.parametrize("tile", ["3/8/1.png", "3/1/8.png", "30/1/1.png", "3/1/north.png"])
async def test_a_tile_off_the_map_is_not_found(client: httpx.AsyncClient, elephant: dict[str, Any], tile: str) -> None:
    answer = await client.get(f"/api/v1/animals/{elephant['id']}/utilisation/{tile}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
