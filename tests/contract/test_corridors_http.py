"""/api/v1/corridors over every store."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from litestar import Litestar

from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.wire.public.features import MAX_FEATURES
from tests.access import TokenAuth, logged_in
from tests.contract.conftest import client_of, session_of
from tests.fakes import FakeClock

pytestmark = [pytest.mark.api, pytest.mark.corridors]

PATH = "/api/v1/corridors/"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
CORNERS = [[37.0, -2.0], [37.5, -2.25], [38.0, -2.5]]
LINE: dict[str, Any] = {"type": "LineString", "coordinates": CORNERS}
LINES: dict[str, Any] = {"type": "MultiLineString", "coordinates": [CORNERS, [[38.5, -2.5], [39.0, -3.0]]]}
AREA: dict[str, Any] = {"type": "Polygon", "coordinates": [[[37.0, -2.0], [38.0, -2.0], [38.0, -3.0], [37.0, -2.0]]]}
POINTS: list[dict[str, Any]] = [{"lat": -2.0, "lon": 37.0}, {"lat": -2.25, "lon": 37.5}, {"lat": -2.5, "lon": 38.0}]
PAIRS = [[-2.0, 37.0], [-2.25, 37.5], [-2.5, 38.0]]
MIXED: list[Any] = [POINTS[0], PAIRS[1], {"lat": -2.5, "lon": 38.0, "name": "well"}]
ENDS: dict[str, Any] = {"start_point": POINTS[0], "end_point": POINTS[-1]}
ROUTE: dict[str, Any] = {"name": "Kitenden", "species": "elephant", "geometry": LINE}
KINDS = "LineString, MultiLineString, Polygon or MultiPolygon"
KEYS = [
    "id", "name", "description", "species", "status", "start_point", "end_point", "path", "optimization_score",
    "optimization_data", "created_at", "updated_at", "created_by", "geometry", "width_m", "rev",
]  # fmt: skip


def feature(geometry: Any = LINE, **properties: Any) -> dict[str, Any]:
    """Return a drawn corridor."""
    return {"type": "Feature", "geometry": geometry, "properties": properties}


async def make(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Enter a corridor and return it."""
    answer = await client.post(PATH, json={**ROUTE, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def listed(client: httpx.AsyncClient, query: str = "") -> list[str]:
    """Return the names that a list shows."""
    answer = await client.get(PATH + query)
    assert answer.status_code == 200, answer.text
    return [row["name"] for row in answer.json()["results"]]


async def test_a_corridor_lives_and_dies(client: httpx.AsyncClient, clock: FakeClock) -> None:
    made = await make(client)
    assert list(made) == KEYS
    assert {name: made[name] for name in KEYS[1:]} == {
        **ROUTE,
        **ENDS,
        "description": "",
        "status": "planned",
        "path": PAIRS,
        "optimization_score": None,
        "optimization_data": None,
        "created_at": "2026-06-01T12:00:00Z",
        "updated_at": "2026-06-01T12:00:00Z",
        "created_by": made["created_by"],
        "width_m": 2000.0,
        "rev": 1,
    }
    assert made["created_by"]
    path = f"{PATH}{made['id']}/"
    assert (await client.get(path)).json() == made
    clock.tick(60)
    changed = (await client.patch(path, json={"geometry": LINES, "status": "active"})).json()
    later: dict[str, Any] = {"updated_at": "2026-06-01T12:01:00Z", "rev": 2}
    nowhere: dict[str, Any] = {"start_point": None, "end_point": None, "path": None}
    assert changed == {**made, **later, **nowhere, "geometry": LINES, "status": "active"}
    body = {
        **ROUTE, **ENDS, "name": " Kimana ", "species": None, "status": "under_review", "width_m": 350.5,
        "description": "to the swamps", "optimization_score": 0.75, "optimization_data": {"summary": {"length_km": 7}},
    }  # fmt: skip
    written = (await client.put(path, json=body)).json()
    assert written == {**changed, **body, "name": "Kimana", "path": PAIRS, "rev": 3}
    assert (await client.put(path, json=body)).json() == written
    assert (await client.put(path, json=written)).json() == written
    reset: dict[str, Any] = dict.fromkeys(
        ("status", "width_m", "description", "optimization_score", "optimization_data")
    )
    again = (await client.patch(path, json=reset)).json()
    assert again == {**made, "name": "Kimana", "species": None, "rev": 4, "updated_at": "2026-06-01T12:01:00Z"}
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert await listed(client) == []


@pytest.mark.parametrize("path", [POINTS, PAIRS, MIXED])
async def test_a_path_of_the_original_is_a_line(client: httpx.AsyncClient, path: list[Any]) -> None:
    body = {"name": "Old", "species": "Elephant", "status": "active", **ENDS, "path": path}
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made == {**made, **body, "path": PAIRS, "geometry": LINE}
    moved = (await client.patch(f"{PATH}{made['id']}/", json={"path": path[:2]})).json()
    assert moved["geometry"] == {"type": "LineString", "coordinates": CORNERS[:2]}
    assert (moved["path"], moved["end_point"]) == (PAIRS[:2], ENDS["end_point"])


async def test_a_plan_is_two_points_until_it_is_drawn(client: httpx.AsyncClient) -> None:
    plan = await make(client, geometry=None, **ENDS)
    for nothing in ("", '"path": null', '"path": []', '"geometry": null', '"geometry": null, "path": []'):
        body = {"name": "Plan", **ENDS, **json.loads(f"{{{nothing}}}")}
        answer = await client.post(PATH, json=body)
        assert answer.status_code == 201, answer.text
        assert answer.json() == {**answer.json(), **ENDS, "path": None, "geometry": None}
    assert plan == {**plan, **ENDS, "path": None, "geometry": None, "width_m": 2000.0}
    path = f"{PATH}{plan['id']}/"
    drawn = (await client.patch(path, json={"path": POINTS, "start_point": None, "end_point": None})).json()
    assert (drawn["geometry"], drawn["start_point"], drawn["end_point"]) == (LINE, POINTS[0], POINTS[-1])
    refused = await client.patch(path, json={"geometry": None})
    assert (refused.status_code, refused.json()["detail"][:22]) == (400, "geometry: is required ")
    assert (await client.get(path)).json() == drawn


async def test_an_area_shows_no_width_and_lends_its_0_to_no_line(client: httpx.AsyncClient) -> None:
    made = await make(client, geometry=AREA)
    assert (made["width_m"], made["path"], made["start_point"]) == (0.0, None, None)
    path = f"{PATH}{made['id']}/"
    assert (await client.put(path, json=made)).json() == made
    assert (await client.patch(path, json={"geometry": LINE})).json()["width_m"] == 2000.0


async def test_an_unknown_corridor_is_not_found(client: httpx.AsyncClient) -> None:
    for corridor_id in (UNKNOWN, "%25", "nobody"):
        for answer in (
            await client.get(f"{PATH}{corridor_id}/"),
            await client.put(f"{PATH}{corridor_id}/", json=ROUTE),
            await client.patch(f"{PATH}{corridor_id}/", json={"name": "B"}),
            await client.delete(f"{PATH}{corridor_id}/"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"name": ...}, "name: is required"),
        ({"name": " "}, "name: must not be empty"),
        ({"name": "\x01"}, "name: must not contain control characters"),
        ({"status": "open"}, "status: must be one of active, inactive, planned, under_review"),
        ({"width_m": -1}, "width_m: must be between 0 and 100000"),
        ({"width_m": "2"}, "width_m: expected `float | null`, got `str`"),
        ({"optimization_data": 7}, "optimization_data: expected `object | array | null`, got `int`"),
        ({"start_point": {"lat": -91, "lon": 37}}, "start_point.lat: expected `float` >= -90.0"),
        ({"start_point": {"lat": -2}}, "start_point.lon: is required"),
        ({"end_point": [-2.0, 37.0]}, "end_point: expected `object | null`, got `array`"),
        ({"geometry": ...}, "geometry: is required where start and end are not both given"),
        ({"geometry": ..., "start_point": POINTS[0]}, "geometry: is required where start and end are not both given"),
        ({"geometry": ..., "path": POINTS[:1]}, "geometry: a line has at least two corners"),
        ({"geometry": ..., "path": [PAIRS[0], PAIRS[0]]}, "geometry: a line leads somewhere"),
        ({"geometry": ..., "path": [[37.0, -2.0, 1.0]]}, "path[0]: expected `array` of length 2"),
        ({"geometry": ..., "path": [[100.0, -2.0]]}, "path[0][0]: expected `float` <= 90.0"),
        ({"path": POINTS[:2]}, "path: is another line than geometry; give one of the two"),
        ({"geometry": AREA, "path": POINTS}, "path: is another line than geometry; give one of the two"),
        ({"geometry": json.dumps(LINE)}, "geometry: expected `object | null`, got `str`"),
        ({"geometry": {}}, "geometry.type: is required"),
        ({"geometry": {"type": "LineString"}}, "geometry: a line has at least two corners"),
        ({"geometry": {"type": "Point", "coordinates": [37, -2]}}, f"geometry: must be a GeoJSON {KINDS}"),
        (
            {"geometry": {"type": "LineString", "coordinates": [[500000, 9700000], [500001, 9700000]]}},
            "geometry: a longitude is within 180 degrees, a latitude within 90",
        ),
    ],
)
async def test_a_bad_corridor_is_refused(refusing: httpx.AsyncClient, change: dict[str, Any], detail: str) -> None:
    body = {name: value for name, value in {**ROUTE, **change}.items() if value is not ...}
    answer = await refusing.post(PATH, json=body)
    assert (answer.status_code, answer.json()) == (400, {"code": "invalid", "detail": detail})
    assert await listed(refusing) == []


async def test_a_bad_change_of_a_corridor_changes_nothing(client: httpx.AsyncClient) -> None:
    made = await make(client)
    for method, change in (
        ("PATCH", {"name": "B", "geometry": {"type": "LineString", "coordinates": [[37, -2]]}}),
        ("PATCH", {"name": "B", "status": "open"}),
        ("PATCH", {"name": None}),
        ("PUT", {"status": "active"}),
    ):
        answer = await client.request(method, f"{PATH}{made['id']}/", json=change)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), change
    assert (await client.get(PATH)).json()["results"] == [made]


@pytest.mark.parametrize(
    "coordinates",
    [
        "[[37, -2], [38, 1e999]]",
        "[" * 900 + "]" * 900,
        "[" * 100_000,
        '["\\ud800"]',
        '["\udcff"]',
        "[[1" + "0" * 500 + ", -2], [38, -2]]",
        '[[37, "x"], [38, -2]]',
    ],
)
@pytest.mark.parametrize("path", ["null", "[[1, 2], [3, 4]]"])
async def test_geometry_that_is_none_never_crashes(refusing: httpx.AsyncClient, coordinates: str, path: str) -> None:
    geometry = f'{{"type": "LineString", "coordinates": {coordinates}}}'
    body = f'{{"name": "A", "geometry": {geometry}, "path": {path}}}'
    answer = await refusing.post(PATH, content=body.encode(errors="surrogateescape"))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


async def test_corridors_are_filtered_searched_ordered_and_paged(client: httpx.AsyncClient, clock: FakeClock) -> None:
    for name, species, status, description in (
        ("Ayo", "elephant", "active", "by the river"),
        ("Bo", "wildebeest", "planned", ""),
        ("Cy", "elephant", "planned", "over the ridge"),
    ):
        await make(client, name=name, species=species, status=status, description=description)
        clock.tick(1)
    assert await listed(client) == ["Cy", "Bo", "Ayo"]
    assert await listed(client, "?ordering=name") == ["Ayo", "Bo", "Cy"]
    assert await listed(client, "?species=elephant") == ["Cy", "Ayo"]
    assert await listed(client, "?species=elephant&status=active") == ["Ayo"]
    assert await listed(client, "?search=RI&ordering=created_at") == ["Ayo", "Cy"]
    assert await listed(client, "?search=bo") == ["Bo"]
    assert await listed(client, "?status=%25") == []
    page = (await client.get(PATH + "?page_size=2&page=2")).json()
    assert (page["count"], page["next"], [row["name"] for row in page["results"]]) == (3, None, ["Ayo"])
    assert page["previous"] == f"http://station{PATH}?page_size=2&page=1"
    assert (await client.get(PATH + "?page=9")).status_code == 404
    for query in ("ordering=geometry", "page=0"):
        refused = await client.get(f"{PATH}?{query}")
        assert refused.status_code == 400
        assert refused.json()["detail"].startswith(query.split("=")[0] + ": ")


async def test_corridors_are_given_as_geojson(client: httpx.AsyncClient, clock: FakeClock) -> None:
    empty = await client.get(PATH + "geojson/")
    assert empty.json() == {"type": "FeatureCollection", "features": []}
    first = await make(client)
    clock.tick(1)
    second = await make(client, name="Plan", geometry=None, status="active", species="wildebeest", **ENDS)
    answer = await client.get(PATH + "geojson/")
    assert answer.headers["content-type"] == "application/geo+json"
    assert answer.json() == {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "id": each["id"],
                "geometry": each["geometry"],
                "properties": {name: value for name, value in each.items() if name not in {"id", "geometry", "path"}},
            }
            for each in (first, second)
        ],
    }
    some = (await client.get(PATH + "geojson/?status=active&species=wildebeest&search=pl")).json()
    assert [row["id"] for row in some["features"]] == [second["id"]]


@pytest.mark.parametrize(
    ("body", "query", "expected"),
    [
        (feature(name="Kitenden", species="elephant"), "", {}),
        (
            feature(name="Kitenden", species="elephant", status="active", width_m=500, stroke="#ff0000"),
            "?status=inactive&name=Other&species=lion",
            {"status": "active", "width_m": 500.0},
        ),
        (feature(species="elephant"), "?name=Kitenden&species=lion&status=active", {"status": "active"}),
        ({"type": "Feature", "geometry": LINE, "properties": None}, "?name=Kitenden&species=elephant", {}),
        ({"type": "Feature", "geometry": LINE}, "?name=Kitenden&species=elephant", {}),
        (feature(None, **ENDS), "?name=Kitenden&species=elephant", {"geometry": None, "path": None}),
        (LINE, "?name=Kitenden&species=elephant", {}),
        (LINES, "?name=Kitenden&species=elephant", {"geometry": LINES, "path": None}),
        (AREA, "?name=Kitenden&species=elephant", {"geometry": AREA, "path": None, "width_m": 0.0}),
        ({**LINE, "bbox": [37, -3, 38, -2], "crs": None}, "?name=Kitenden&species=elephant", {}),
        ({**ROUTE, "type": "migration"}, "?status=active", {}),
    ],
)
async def test_a_drawn_corridor_is_taken(
    client: httpx.AsyncClient, body: dict[str, Any], query: str, expected: dict[str, Any]
) -> None:
    content = json.dumps(body, indent=2)
    answer = await client.post(PATH + query, content=content, headers={"content-type": "application/geo+json"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made == {**made, **ROUTE, "status": "planned", "width_m": 2000.0, "path": PAIRS, **expected}
    assert (await client.get(f"{PATH}{made['id']}/")).json() == made


@pytest.mark.parametrize(
    ("body", "query", "detail"),
    [
        (LINE, "", "name: is required"),
        (LINE, "?name=%20", "name: must not be empty"),
        (LINE, "?name=A&status=open", "status: must be one of active, inactive, planned, under_review"),
        (feature(), "", "name: is required"),
        (feature(name=7), "", "name: expected `str`, got `int`"),
        (feature(None, name="A"), "", "geometry: is required where start and end are not both given"),
        ({"type": "Feature", "properties": {"name": "A"}}, "", "geometry: is required"),
        (feature({"type": "Point", "coordinates": [37, -2]}, name="A"), "", f"geometry: must be a GeoJSON {KINDS}"),
        ({"type": "Point", "coordinates": [37, -2]}, "", f"geometry: must be a GeoJSON {KINDS}"),
        ({"type": "FeatureCollection"}, "", "features: is required"),
        ([feature()], "", "the body: expected `object`, got `array`"),
    ],
)
async def test_a_drawn_corridor_that_says_too_little_is_refused(
    refusing: httpx.AsyncClient, body: Any, query: str, detail: str
) -> None:
    answer = await refusing.post(PATH + query, json=body)
    assert (answer.status_code, answer.json()) == (400, {"code": "invalid", "detail": detail})
    assert await listed(refusing) == []


async def test_a_bad_feature_takes_no_neighbour_with_it(client: httpx.AsyncClient) -> None:
    known = await make(client)
    body = {
        "type": "FeatureCollection",
        "features": [
            feature(name="Kitenden"),
            feature(name="Kimana", status="active"),
            feature({"type": "Point", "coordinates": [37, -2]}, name="Well"),
            feature(name="Kimana"),
            feature(),
            7,
            feature(LINES, name="Kitenden"),
            feature(None, name="Plan", **ENDS),
            feature(None, name="Plan", **ENDS),
        ],
    }
    answer = await client.post(PATH + "?species=elephant", json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    kimana, kitenden, plan = (told["results"][index]["id"] for index in (1, 6, 7))
    assert told == {
        "received": 9,
        "created": 3,
        "duplicates": 3,
        "failed": 3,
        "results": [
            {"index": 0, "id": known["id"], "outcome": "duplicate"},
            {"index": 1, "id": kimana, "outcome": "new"},
            {"index": 2, "errors": [f"geometry: must be a GeoJSON {KINDS}"]},
            {"index": 3, "id": kimana, "outcome": "duplicate"},
            {"index": 4, "errors": ["name: is required"]},
            {"index": 5, "errors": ["the body: expected `object`, got `int`"]},
            {"index": 6, "id": kitenden, "outcome": "new"},
            {"index": 7, "id": plan, "outcome": "new"},
            {"index": 8, "id": plan, "outcome": "duplicate"},
        ],
    }
    assert (await client.get(f"{PATH}{kimana}/")).json()["status"] == "active"
    assert len({known["id"], kimana, kitenden, plan}) == len(await listed(client)) == 4
    again = (await client.post(PATH + "?species=elephant", json=body)).json()
    assert (again["created"], again["duplicates"], again["failed"]) == (0, 6, 3)


@pytest.mark.parametrize("geometry", [LINE, LINES, AREA, None])
async def test_what_one_home_gives_as_geojson_comes_back_the_same(client: httpx.AsyncClient, geometry: Any) -> None:
    made = await make(
        client, geometry=geometry, status="active", description="to the swamps", optimization_score=0.5,
        optimization_data={"steps": [1, 2]}, **ENDS,
    )  # fmt: skip
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


async def test_a_corridor_is_published_with_a_fresh_factor_alone(
    client: httpx.AsyncClient, app: Litestar, accounts: Accounts, manager_user: User
) -> None:
    made = await make(client)
    path = f"{PATH}{made['id']}/"
    plan = await client.post(PATH, json={"name": "Plan", "species": "elephant", **ENDS})
    refused = await client.post(f"{PATH}{plan.json()['id']}/publish/")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    stale, _ = await logged_in(accounts, manager_user, is_fresh=False)
    async with client_of(app, TokenAuth(lambda: stale)) as manager:
        for answer in (
            await manager.post(f"{path}publish/"),
            await manager.patch(path, json={"status": "active"}),
            await manager.put(path, json={**ROUTE, "status": "active"}),
            await manager.post(PATH, json={**ROUTE, "name": "Other", "status": "active"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "factor_required")
        assert (await manager.patch(path, json={"description": "seen"})).json()["status"] == "planned"
    async with client_of(app, await session_of(accounts, manager_user)) as manager:
        published = await manager.post(f"{path}publish/")
        assert published.status_code == 200, published.text
        assert published.json() == {**made, "description": "seen", "status": "active", "rev": 3}
    audit = (await client.get("/api/v1/audit/")).json()["results"]
    assert [line["detail"] for line in audit if line["action"] == "corridor.publish"] == [f"{made['id']} Kitenden"]
