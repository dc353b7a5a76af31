"""/api/v1/conflict-zones over every store."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from shared.wire.public.features import MAX_FEATURES
from tests.fakes import FakeClock

pytestmark = pytest.mark.api

PATH = "/api/v1/conflict-zones/"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
AREA: dict[str, Any] = {"type": "Polygon", "coordinates": [[[37.0, -2.0], [38.0, -2.0], [38.0, -3.0], [37.0, -2.0]]]}
AREAS: dict[str, Any] = {"type": "MultiPolygon", "coordinates": [AREA["coordinates"]]}
ZONE: dict[str, Any] = {"name": "Fields", "zone_type": "agriculture", "geometry": AREA}
KEYS = [
    "id", "name", "zone_type", "risk_level", "geometry", "buffer_distance_km", "description", "is_active",
    "created_at", "updated_at", "rev",
]  # fmt: skip


def feature(geometry: Any = AREA, **properties: Any) -> dict[str, Any]:
    """Return a drawn zone."""
    return {"type": "Feature", "geometry": geometry, "properties": properties}


async def make(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Enter a zone and return it."""
    answer = await client.post(PATH, json={**ZONE, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def listed(client: httpx.AsyncClient, query: str = "") -> list[str]:
    """Return the names that a list shows."""
    answer = await client.get(PATH + query)
    assert answer.status_code == 200, answer.text
    return [row["name"] for row in answer.json()["results"]]


async def test_a_zone_lives_and_dies(client: httpx.AsyncClient, clock: FakeClock) -> None:
    made = await make(client)
    assert list(made) == KEYS
    assert {name: made[name] for name in KEYS[1:]} == {
        **ZONE,
        "risk_level": "medium",
        "buffer_distance_km": 0.0,
        "description": "",
        "is_active": True,
        "created_at": "2026-06-01T12:00:00Z",
        "updated_at": "2026-06-01T12:00:00Z",
        "rev": 1,
    }
    path = f"{PATH}{made['id']}/"
    assert (await client.get(path)).json() == made
    clock.tick(60)
    changed = (await client.patch(path, json={"geometry": AREAS, "is_active": False})).json()
    assert changed == {**made, "geometry": AREAS, "is_active": False, "updated_at": "2026-06-01T12:01:00Z", "rev": 2}
    body = {**ZONE, "name": " Maize ", "risk_level": "high", "buffer_distance_km": 2.3, "description": "by the river"}
    written = (await client.put(path, json=body)).json()
    assert written == {**changed, **body, "name": "Maize", "rev": 3}
    assert (await client.put(path, json=body)).json() == written
    reset = {"risk_level": None, "buffer_distance_km": None, "description": None, "is_active": None}
    assert (await client.patch(path, json=reset)).json() == {
        **made,
        "name": "Maize",
        "rev": 4,
        "updated_at": "2026-06-01T12:01:00Z",
    }
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert await listed(client) == []


async def test_a_buffer_comes_back_as_it_was_given(client: httpx.AsyncClient) -> None:
    for km in (0, 0.001, 0.1, 0.3, 1.1, 2.3, 17.777, 1000):
        assert (await make(client, buffer_distance_km=km))["buffer_distance_km"] == km


async def test_an_unknown_zone_is_not_found(client: httpx.AsyncClient) -> None:
    for zone_id in (UNKNOWN, "%25", "nobody"):
        for answer in (
            await client.get(f"{PATH}{zone_id}/"),
            await client.put(f"{PATH}{zone_id}/", json=ZONE),
            await client.patch(f"{PATH}{zone_id}/", json={"name": "B"}),
            await client.delete(f"{PATH}{zone_id}/"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"name": ...}, "name: is required"),
        ({"name": " "}, "name: must not be empty"),
        ({"name": "\x01"}, "name: must not contain control characters"),
        ({"zone_type": ...}, "zone_type: is required"),
        (
            {"zone_type": "swamp"},
            "zone_type: must be one of agriculture, buffer_zone, infrastructure, protected_area, road, settlement",
        ),
        ({"risk_level": "extreme"}, "risk_level: must be one of high, low, medium"),
        ({"buffer_distance_km": -1}, "buffer_distance_km: must be between 0 and 1000"),
        ({"buffer_distance_km": "2"}, "buffer_distance_km: expected `float | null`, got `str`"),
        ({"is_active": "yes"}, "is_active: expected `bool | null`, got `str`"),
        ({"geometry": ...}, "geometry: is required"),
        ({"geometry": None}, "geometry: expected `object`, got `null`"),
        ({"geometry": json.dumps(AREA)}, "geometry: expected `object`, got `str`"),
        ({"geometry": {}}, "geometry.type: is required"),
        ({"geometry": {"type": "Polygon"}}, "geometry: a polygon is a list of rings"),
        (
            {"geometry": {"type": "Point", "coordinates": [37, -2]}},
            "geometry: must be a GeoJSON Polygon or MultiPolygon",
        ),
        (
            {"geometry": {"type": "GeometryCollection", "geometries": [AREA]}},
            "geometry: must be a GeoJSON Polygon or MultiPolygon",
        ),
        (
            {"geometry": {"type": "Polygon", "coordinates": [AREA["coordinates"][0][:3]]}},
            "geometry: a ring has at least four corners",
        ),
        (
            {"geometry": {"type": "Polygon", "coordinates": [[*AREA["coordinates"][0][:3], [37.0, -2.1]]]}},
            "geometry: a ring ends where it begins",
        ),
        (
            {"geometry": {"type": "Polygon", "coordinates": [[[500000, 9700000]] * 4]}},
            "geometry: a longitude is within 180 degrees, a latitude within 90",
        ),
    ],
)
async def test_a_bad_zone_is_refused(refusing: httpx.AsyncClient, change: dict[str, Any], detail: str) -> None:
    body = {name: value for name, value in {**ZONE, **change}.items() if value is not ...}
    answer = await refusing.post(PATH, json=body)
    assert (answer.status_code, answer.json()) == (400, {"code": "invalid", "detail": detail})
    assert await listed(refusing) == []


async def test_a_bad_change_of_a_zone_changes_nothing(client: httpx.AsyncClient) -> None:
    made = await make(client)
    for method, change in (
        ("PATCH", {"name": "B", "geometry": {"type": "Polygon", "coordinates": [[]]}}),
        ("PATCH", {"name": "B", "risk_level": "extreme"}),
        ("PATCH", {"name": None}),
        ("PUT", {"name": "B"}),
    ):
        answer = await client.request(method, f"{PATH}{made['id']}/", json=change)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), change
    assert (await client.get(PATH)).json()["results"] == [made]


@pytest.mark.parametrize(
    "coordinates",
    [
        "[[[37, -2], [38, -2], [38, 1e999], [37, -2]]]",
        "[" * 900 + "]" * 900,
        "[" * 100_000,
        '[["\\ud800"]]',
        '["\udcff"]',
    ],
)
async def test_geometry_that_is_none_never_crashes(refusing: httpx.AsyncClient, coordinates: str) -> None:
    geometry = f'{{"type": "Polygon", "coordinates": {coordinates}}}'
    body = f'{{"name": "A", "zone_type": "road", "geometry": {geometry}}}'
    answer = await refusing.post(PATH, content=body.encode(errors="surrogateescape"))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


async def test_zones_are_filtered_ordered_and_paged(client: httpx.AsyncClient, clock: FakeClock) -> None:
    for name, zone_type, risk_level, is_active in (
        ("Ayo", "road", "low", True),
        ("Bo", "settlement", "high", False),
        ("Cy", "road", "high", True),
    ):
        await make(client, name=name, zone_type=zone_type, risk_level=risk_level, is_active=is_active)
        clock.tick(1)
    assert await listed(client) == ["Cy", "Bo", "Ayo"]
    assert await listed(client, "?ordering=name") == ["Ayo", "Bo", "Cy"]
    assert await listed(client, "?zone_type=road") == ["Cy", "Ayo"]
    assert await listed(client, "?zone_type=road&risk_level=high") == ["Cy"]
    assert await listed(client, "?is_active=true&ordering=created_at") == ["Ayo", "Cy"]
    assert await listed(client, "?is_active=false") == ["Bo"]
    assert await listed(client, "?risk_level=%25") == []
    page = (await client.get(PATH + "?page_size=2&page=2")).json()
    assert (page["count"], page["next"], [row["name"] for row in page["results"]]) == (3, None, ["Ayo"])
    assert page["previous"] == f"http://station{PATH}?page_size=2&page=1"
    assert (await client.get(PATH + "?page=9")).status_code == 404
    for query in ("ordering=geometry", "is_active=perhaps", "page=0"):
        refused = await client.get(f"{PATH}?{query}")
        assert refused.status_code == 400
        assert refused.json()["detail"].startswith(query.split("=")[0] + ": ")


async def test_zones_are_given_as_geojson(client: httpx.AsyncClient, clock: FakeClock) -> None:
    empty = await client.get(PATH + "geojson/")
    assert empty.json() == {"type": "FeatureCollection", "features": []}
    first = await make(client)
    clock.tick(1)
    second = await make(client, name="Road", zone_type="road", geometry=AREAS, is_active=False, buffer_distance_km=0.3)
    answer = await client.get(PATH + "geojson/")
    assert answer.headers["content-type"] == "application/geo+json"
    assert answer.json() == {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "id": zone["id"],
                "geometry": zone["geometry"],
                "properties": {name: value for name, value in zone.items() if name not in {"id", "geometry"}},
            }
            for zone in (first, second)
        ],
    }
    some = (await client.get(PATH + "geojson/?is_active=false&zone_type=road&risk_level=medium")).json()
    assert [row["id"] for row in some["features"]] == [second["id"]]


@pytest.mark.parametrize(
    ("body", "query", "expected"),
    [
        (feature(name="Fields", zone_type="agriculture"), "", {}),
        (
            feature(name="Fields", zone_type="agriculture", risk_level="high", buffer_distance_km=0.5, fill="#ff0000"),
            "?risk_level=low&name=Other",
            {"risk_level": "high", "buffer_distance_km": 0.5},
        ),
        (feature(zone_type="agriculture"), "?name=Fields&zone_type=road&risk_level=low", {"risk_level": "low"}),
        ({"type": "Feature", "geometry": AREA, "properties": None}, "?name=Fields&zone_type=agriculture", {}),
        ({"type": "Feature", "geometry": AREA}, "?name=Fields&zone_type=agriculture", {}),
        (AREA, "?name=Fields&zone_type=agriculture", {}),
        ({**AREA, "bbox": [37, -3, 38, -2], "crs": None}, "?name=Fields&zone_type=agriculture", {}),
        ({**ZONE, "type": "farm"}, "?risk_level=low", {}),
    ],
)
async def test_a_drawn_zone_is_taken(
    client: httpx.AsyncClient, body: dict[str, Any], query: str, expected: dict[str, Any]
) -> None:
    content = json.dumps(body, indent=2)
    answer = await client.post(PATH + query, content=content, headers={"content-type": "application/geo+json"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made == {**made, **ZONE, "risk_level": "medium", "buffer_distance_km": 0.0, **expected}
    assert made["geometry"] == AREA
    assert (await client.get(f"{PATH}{made['id']}/")).json() == made


@pytest.mark.parametrize(
    ("body", "query", "detail"),
    [
        (AREA, "", "name: is required"),
        (AREA, "?name=Fields", "zone_type: is required"),
        (AREA, "?name=%20&zone_type=road", "name: must not be empty"),
        (
            AREA,
            "?name=Fields&zone_type=swamp",
            "zone_type: must be one of agriculture, buffer_zone, infrastructure, protected_area, road, settlement",
        ),
        (feature(zone_type="road"), "", "name: is required"),
        (feature(name=7), "", "name: expected `str`, got `int`"),
        (feature(name="A", zone_type="road", risk_level="extreme"), "", "risk_level: must be one of high, low, medium"),
        (feature(None, name="A", zone_type="road"), "", "geometry: expected `object`, got `null`"),
        (
            feature({"type": "Point", "coordinates": [37, -2]}, name="A", zone_type="road"),
            "",
            "geometry: must be a GeoJSON Polygon or MultiPolygon",
        ),
        ({"type": "Point", "coordinates": [37, -2]}, "", "geometry: must be a GeoJSON Polygon or MultiPolygon"),
        ({"type": "FeatureCollection"}, "", "features: is required"),
        ({"type": "FeatureCollection", "features": {}}, "", "features: expected `array`, got `object`"),
        ([feature()], "", "the body: expected `object`, got `array`"),
    ],
)
async def test_a_drawn_zone_that_says_too_little_is_refused(
    refusing: httpx.AsyncClient, body: Any, query: str, detail: str
) -> None:
    answer = await refusing.post(PATH + query, json=body)
    assert (answer.status_code, answer.json()) == (400, {"code": "invalid", "detail": detail})
    assert await listed(refusing) == []


async def test_a_bad_feature_takes_no_neighbour_with_it(client: httpx.AsyncClient) -> None:
    known = await make(client)
    body = {
        "type": "FeatureCollection",
        "name": "risk zones",
        "features": [
            feature(name="Fields"),
            feature(name="Village", zone_type="settlement", risk_level="low"),
            feature({"type": "Point", "coordinates": [37, -2]}, name="Well"),
            feature(name="Village", zone_type="settlement"),
            feature(),
            7,
            feature(AREAS, name="Fields"),
        ],
    }
    answer = await client.post(PATH + "?zone_type=agriculture", json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    village, fields = told["results"][1]["id"], told["results"][6]["id"]
    assert told == {
        "received": 7,
        "created": 2,
        "duplicates": 2,
        "failed": 3,
        "results": [
            {"index": 0, "id": known["id"], "outcome": "duplicate"},
            {"index": 1, "id": village, "outcome": "new"},
            {"index": 2, "errors": ["geometry: must be a GeoJSON Polygon or MultiPolygon"]},
            {"index": 3, "id": village, "outcome": "duplicate"},
            {"index": 4, "errors": ["name: is required"]},
            {"index": 5, "errors": ["the body: expected `object`, got `int`"]},
            {"index": 6, "id": fields, "outcome": "new"},
        ],
    }
    assert (await client.get(f"{PATH}{village}/")).json()["risk_level"] == "low"
    assert len({known["id"], village, fields}) == len(await listed(client)) == 3
    again = (await client.post(PATH + "?zone_type=agriculture", json=body)).json()
    assert (again["created"], again["duplicates"], again["failed"]) == (0, 4, 3)


async def test_what_one_home_gives_as_geojson_comes_back_the_same(client: httpx.AsyncClient) -> None:
    made = await make(client, risk_level="high", buffer_distance_km=1.1, description="maize", is_active=False)
    exported = (await client.get(PATH + "geojson/")).json()
    assert (await client.post(PATH, json=exported)).json()["duplicates"] == 1
    await client.delete(f"{PATH}{made['id']}/")
    (result,) = (await client.post(PATH, json=exported)).json()["results"]
    imported = (await client.get(f"{PATH}{result['id']}/")).json()
    assert result["id"] != made["id"]
    assert imported == {**made, "id": result["id"]}


async def test_more_features_than_are_taken_are_refused(refusing: httpx.AsyncClient) -> None:
    body = {"type": "FeatureCollection", "features": [{}] * (MAX_FEATURES + 1)}
    answer = await refusing.post(PATH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
