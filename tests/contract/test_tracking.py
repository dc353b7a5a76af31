"""/api/v1/tracking and its observations over every store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from shared.clock import ClockState
from tests.fakes import FakeClock

pytestmark = [pytest.mark.api, pytest.mark.tracking]

Make = Callable[..., Awaitable[dict[str, Any]]]

KEYS = [
    "id", "local_id", "animal", "collar_id", "timestamp", "lat", "lon", "altitude", "speed_kmh", "directional_angle",
    "battery_level", "signal_strength", "temperature", "activity_type", "source", "notes", "flags", "is_usable",
    "received_at", "hdop", "sats", "area",
]  # fmt: skip
#: As printed in the original's README, but for the animal's id.
EXAMPLE = {
    "local_id": "uuid-local-2", "lat": -2.1234, "lon": 34.5678, "timestamp": "2024-11-01T10:30:00Z",
    "collar_id": "COL001",
}  # fmt: skip


async def post(client: httpx.AsyncClient, status: int = 201, **fields: Any) -> dict[str, Any]:
    """Post the example with changes and return the answer's body."""
    body = {name: value for name, value in {**EXAMPLE, **fields}.items() if value is not ...}
    answer = await client.post("/api/v1/tracking/", json=body)
    assert answer.status_code == status, answer.text
    read: dict[str, Any] = answer.json()
    return read


async def test_the_originals_example_body_is_taken_as_printed(client: httpx.AsyncClient, make_animal: Make) -> None:
    animal = await make_animal(collar_id="COL001")
    stored = await post(client, animal=animal["id"])
    assert list(stored) == KEYS
    assert stored == {
        **dict.fromkeys(KEYS),
        "id": stored["id"],
        "local_id": "uuid-local-2",
        "animal": animal["id"],
        "collar_id": "COL001",
        "timestamp": "2024-11-01T10:30:00Z",
        "lat": -2.1234,
        "lon": 34.5678,
        "source": "gps",
        "flags": [],
        "is_usable": True,
        "received_at": "2026-06-01T12:00:00Z",
    }
    assert (await client.get(f"/api/v1/tracking/{stored['id']}/")).json() == stored
    of_animal = (await client.get(f"/api/v1/tracking/by_animal/?animal_id={animal['id']}")).json()
    assert of_animal["results"] == [stored]


async def test_the_phones_payload_is_taken_with_its_heading_and_milliseconds(client: httpx.AsyncClient) -> None:
    stored = await post(
        client, heading=271.5, speed_kmh=3.6, altitude=1200, timestamp=1730457000000, synced=False, server_id=None
    )
    assert (stored["directional_angle"], stored["speed_kmh"], stored["altitude"]) == (271.5, 3.6, 1200.0)
    assert stored["timestamp"] == "2024-11-01T10:30:00Z"


async def test_what_was_there_already_is_answered_with_200(client: httpx.AsyncClient) -> None:
    first = await post(client)
    assert await post(client, status=200) == first
    richer = await post(client, status=200, temperature=31.5, timestamp="2024-11-01T13:30:00+03:00")
    assert richer == {**first, "temperature": 31.5}
    assert (await client.get("/api/v1/tracking/")).json()["count"] == 1


@pytest.mark.parametrize(
    ("sent", "shown"),
    [("75%", "75%"), (75, "75%"), ("75", "75%"), (62.5, "62.5%"), ("3.65 V", "3.65 V"), (None, None), ("", None)],
)
async def test_battery_levels_are_read_as_clients_write_them(client: httpx.AsyncClient, sent: Any, shown: str) -> None:
    assert (await post(client, battery_level=sent))["battery_level"] == shown


async def test_a_position_may_name_the_animal_alone(client: httpx.AsyncClient, make_animal: Make) -> None:
    collared, bare = await make_animal(collar_id="COL001"), await make_animal()
    by_collar = await post(client, collar_id=..., animal=collared["id"])
    assert (by_collar["collar_id"], by_collar["animal"], by_collar["source"]) == ("COL001", collared["id"], "gps")
    by_hand = await post(client, collar_id=..., animal_id=bare["id"])
    assert (by_hand["collar_id"], by_hand["animal"], by_hand["source"]) == (None, bare["id"], "manual")
    seen = await post(client, collar_id=..., animal=collared["id"], source="manual", lat=-2.2)
    assert (seen["collar_id"], seen["animal"]) == (None, collared["id"])
    assert (await client.get("/api/v1/collars/")).json()["count"] == 1


async def test_a_station_with_an_unsure_clock_refuses_nothing(client: httpx.AsyncClient, clock: FakeClock) -> None:
    clock.set_state(ClockState.UNSET)
    stored = await post(client, timestamp="2031-01-01T00:00:00Z")
    assert stored["flags"] == []
    clock.set_state(ClockState.NTP)
    assert (await post(client, timestamp="2031-01-01T01:00:00Z"))["flags"] == ["future"]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"lat": 90.5}, "lat: must be between -90 and 90"),
        ({"lon": -181}, "lon: must be between -180 and 180"),
        ({"lat": ...}, "lat: is required"),
        ({"lat": None}, "lat: expected `float`, got `null`"),
        ({"lat": "-2.1"}, "lat: expected `float`, got `str`"),
        ({"timestamp": ...}, "timestamp: is required"),
        ({"timestamp": "2024-11-01T10:30:00"}, "timestamp: needs a time zone, as in 2024-11-01T10:30:00Z"),
        ({"timestamp": "yesterday"}, "timestamp: must be RFC 3339 text such as 2024-11-01T10:30:00Z"),
        (
            {"timestamp": 1730457000},
            "timestamp: must lie between 1990 and 2100 (numbers are milliseconds since 1970)",
        ),
        ({"timestamp": True}, "timestamp: expected `int | float | str`, got `bool`"),
        ({"collar_id": ...}, "animal: is required where there is no collar_id"),
        ({"animal": "nobody"}, "animal: there is no animal nobody"),
        ({"source": "satellite"}, "source: must be one of collar, gps, imported, manual"),
        ({"battery_level": "full"}, "battery_level: must be a percentage such as 75% or a voltage such as 3.65 V"),
        ({"battery_level": 101}, "battery_level: must be between 0 and 100 percent"),
        ({"signal_strength": "good"}, "signal_strength: must be a number of dBm"),
        ({"sats": 4.5}, "sats: expected `int | null`, got `float`"),
    ],
)
async def test_a_refusal_names_the_field(refusing: httpx.AsyncClient, change: dict[str, Any], detail: str) -> None:
    assert await post(refusing, status=400, **change) == {"code": "invalid", "detail": detail}
    assert (await refusing.get("/api/v1/tracking/")).json()["count"] == 0


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400])
async def test_numbers_that_are_none_are_refused(refusing: httpx.AsyncClient, number: str) -> None:
    body = f'{{"collar_id": "K1", "timestamp": "2024-11-01T10:30:00Z", "lon": 34.5, "lat": {number}}}'
    answer = await refusing.post("/api/v1/tracking/", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid"


async def test_a_bad_item_takes_no_neighbour_with_it(client: httpx.AsyncClient, make_animal: Make) -> None:
    animal = await make_animal(collar_id="COL001")
    known = animal["id"]
    items = ", ".join((  # a JSON library would not write 1e999
        f'{{"local_id": "a", "animal": "{known}", "timestamp": "2024-11-01T10:30:00Z", "lat": -2.1, "lon": 34.5}}',
        '{"local_id": "b", "collar_id": "COL001", "timestamp": "2024-11-01T10:31:00Z", "lat": 1e999, "lon": 34.5}',
        '{"local_id": "c", "collar_id": "COL001", "timestamp": "2024-11-01T10:32:00Z", "lat": -2.2, "lon": 34.5}',
        '{"local_id": "c", "collar_id": "COL001", "timestamp": "2024-11-01T10:32:00Z", "lat": -2.2, "lon": 34.5}',
        '{"local_id": "d", "animal": "nobody", "timestamp": "2024-11-01T10:33:00Z", "lat": -2.2, "lon": 34.5}',
        "5",
        "null",
    ))  # fmt: skip
    answer = await client.post("/api/v1/tracking/bulk_upload/", content=f'{{"tracking_points": [{items}]}}')
    assert answer.status_code == 200
    body = answer.json()
    assert {name: body[name] for name in ("received", "created", "duplicates", "failed")} == {
        "received": 7, "created": 2, "duplicates": 1, "failed": 4,
    }  # fmt: skip
    results = body["results"]
    assert [result["index"] for result in results] == list(range(7))
    assert [result.get("outcome") for result in results] == ["new", None, "new", "duplicate", None, None, None]
    assert results[0]["local_id"] == "a"
    assert results[2]["id"] == results[3]["id"]
    assert results[4]["errors"] == ["animal: there is no animal nobody"]
    assert results[1]["errors"] == ["lat: number out of range"]
    assert results[5]["errors"] == ["the body: expected `object`, got `int`"]
    assert (await client.get("/api/v1/tracking/")).json()["count"] == 2


@pytest.mark.parametrize("key", ["tracking_points", "tracking", None])
async def test_an_upload_may_be_sent_again_and_in_three_envelopes(client: httpx.AsyncClient, key: str | None) -> None:
    items = [{**EXAMPLE, "timestamp": 1730457000000 + n * 60_000} for n in range(450)]
    body = items if key is None else {key: items}
    first = (await client.post("/api/v1/tracking/bulk_upload/", json=body)).json()
    assert (first["created"], first["failed"]) == (450, 0)
    again = (await client.post("/api/v1/tracking/bulk_upload/", json=body)).json()
    assert (again["created"], again["duplicates"]) == (0, 450)


@pytest.mark.parametrize(
    ("body", "status"),
    [("{}", 400), ("5", 400), ("", 400), ('{"tracking_points": 5}', 400), ("[" + "5," * 10_000 + "5]", 413)],
)
async def test_an_envelope_that_is_none_is_refused(refusing: httpx.AsyncClient, body: str, status: int) -> None:
    answer = await refusing.post("/api/v1/tracking/bulk_upload/", content=body)
    assert answer.status_code == status
    assert answer.json()["code"] in {"invalid", "too_large"}


async def test_positions_are_listed_by_what_is_asked(client: httpx.AsyncClient, make_animal: Make) -> None:
    animal = await make_animal(collar_id="COL001", name="Tembo")
    await post(client, animal=animal["id"])
    await post(client, collar_id="K2", timestamp="2024-11-02T10:30:00Z", lat=0, lon=0)

    async def times(query: str) -> list[str]:
        answer = await client.get(f"/api/v1/tracking/?ordering=timestamp&{query}")
        assert answer.status_code == 200, answer.text
        return [row["timestamp"][8:10] for row in answer.json()["results"]]

    assert await times("") == ["01", "02"]
    assert await times(f"animal={animal['id']}") == ["01"]
    assert await times("collar_id=K2") == ["02"]
    assert await times("usable=true") == ["01"]
    assert await times("usable=false") == ["02"]
    assert await times("search=tembo") == ["01"]
    assert await times("bbox=34,-3,35,-2") == ["01"]
    assert await times("since=2024-11-01T10:30:00Z&until=2024-11-02T10:30:00Z") == ["01"]
    assert await times("start_date=2024-11-02&end_date=2024-11-02") == ["02"]
    assert await times("since=1730457000001") == ["02"]
    assert await times("since=2024-11-01T13:30:01+03:00") == ["02"]
    assert await times("source=manual") == []


@pytest.mark.parametrize(
    "query",
    ["bbox=1,2,3", "bbox=a,b,c,d", "bbox=1,5,2,4", "bbox=nan,0,1,1", "since=never", "since=2024-11-01T10:30:00",
     "start_date=2024-02-31", "usable=perhaps", "ordering=lat"],
)  # fmt: skip
async def test_a_bad_query_names_its_parameter(refusing: httpx.AsyncClient, query: str) -> None:
    answer = await refusing.get(f"/api/v1/tracking/?{query}")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(query.split("=")[0] + ": ")


async def test_by_animal_needs_an_animal_that_exists(refusing: httpx.AsyncClient) -> None:
    assert (await refusing.get("/api/v1/tracking/by_animal/?animal_id=nobody")).status_code == 404
    assert (await refusing.get("/api/v1/tracking/by_animal/")).json()["detail"] == "animal_id: is required"


async def test_a_position_is_excluded_and_reinstated_by_hand(client: httpx.AsyncClient) -> None:
    stored = await post(client)
    path = f"/api/v1/tracking/{stored['id']}"
    excluded = await client.post(f"{path}/exclude/")
    assert excluded.status_code == 200
    assert (excluded.json()["flags"], excluded.json()["is_usable"]) == (["excluded_by_hand"], False)
    assert (await client.post(f"{path}/reinstate/")).json() == stored
    assert (await client.post("/api/v1/tracking/nothing/exclude/")).status_code == 404


async def test_positions_cannot_be_rewritten_or_deleted(client: httpx.AsyncClient) -> None:
    path = f"/api/v1/tracking/{(await post(client))['id']}/"
    for answer in (await client.put(path, json=EXAMPLE), await client.patch(path, json={}), await client.delete(path)):
        assert answer.status_code == 405
        assert answer.json()["code"] == "method_not_allowed"
        assert "GET" in answer.headers["allow"]


async def test_live_is_the_newest_of_the_last_hour(
    client: httpx.AsyncClient, make_animal: Make, clock: FakeClock
) -> None:
    await make_animal(collar_id="K1")
    await make_animal(collar_id="K2")
    for collar, at in (("K1", "11:10"), ("K1", "11:30"), ("K2", "10:59")):
        await client.post(
            "/api/v1/tracking/",
            json={**EXAMPLE, "collar_id": collar, "timestamp": f"2026-06-01T{at}:00Z"},
        )
    for row in (await client.get("/api/v1/deployments/")).json()["results"]:
        await client.patch(f"/api/v1/deployments/{row['id']}/", json={"started_at": "2026-05-01T00:00:00Z"})
    live = (await client.get("/api/v1/tracking/live/")).json()
    assert [(row["collar_id"], row["timestamp"]) for row in live] == [("K1", "2026-06-01T11:30:00Z")]
    clock.tick(3600)
    assert (await client.get("/api/v1/tracking/live/")).json() == []


# --- observations
OBSERVATION = {
    "local_id": "uuid-local-3",
    "observation_type": "sighting",
    "description": "Elephant spotted near waterhole",
    "timestamp": "2024-11-01T10:30:00Z",
}


async def test_an_observation_lives_and_dies(client: httpx.AsyncClient, make_animal: Make) -> None:
    animal = await make_animal()
    answer = await client.post("/api/v1/tracking/observations/", json={**OBSERVATION, "animal": animal["id"]})
    assert answer.status_code == 201
    made = answer.json()
    assert list(made) == [
        "id", "local_id", "animal", "observation_type", "description", "lat", "lon", "timestamp", "photo_url",
        "observer", "created_at", "updated_at", "rev", "area",
    ]  # fmt: skip
    assert (made["animal"], made["observer"], made["timestamp"]) == (animal["id"], "operator", OBSERVATION["timestamp"])
    path = f"/api/v1/tracking/observations/{made['id']}/"
    changed = (await client.patch(path, json={"lat": -2.5, "lon": 34.5, "observer": "asha"})).json()
    assert changed == {**made, "lat": -2.5, "lon": 34.5, "observer": "asha", "rev": changed["rev"]}
    rewritten = (await client.put(path, json={**OBSERVATION, "observation_type": "health"})).json()
    assert (rewritten["observation_type"], rewritten["lat"]) == ("health", -2.5)
    listed = (await client.get("/api/v1/tracking/observations/?observation_type=health&search=waterhole")).json()
    assert listed["results"] == [rewritten]
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"observation_type": "rumour"}, "observation_type: must be one of behavior, environment, health, sighting"),
        ({"lat": -2.5}, "lat: stands together with lon, or both are left out"),
        ({"animal_id": "nobody"}, "animal: there is no animal nobody"),
        ({"photo_url": "javascript:alert(1)"}, "photo_url: must begin with https://, http:// or /"),
    ],
)
async def test_a_bad_observation_is_refused(refusing: httpx.AsyncClient, change: dict[str, Any], detail: str) -> None:
    answer = await refusing.post("/api/v1/tracking/observations/", json={**OBSERVATION, **change})
    assert answer.status_code == 400
    assert answer.json() == {"code": "invalid", "detail": detail}
