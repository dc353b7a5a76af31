"""/api/v1/collars and /api/v1/deployments over every store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.api, pytest.mark.animals]

Make = Callable[..., Awaitable[dict[str, Any]]]
RADIO = "eui:0101010101010101"
ALIASES = "aliases: must look like eui:0101010101010101 (16 hex digits) or imei:300434063830000"
POSITION = {"timestamp": "2024-11-01T10:30:00Z", "lat": -2.1234, "lon": 34.5678}


async def test_a_collar_lives_and_dies(client: httpx.AsyncClient) -> None:
    body = {"id": "K7", "model": "Savannah 2", "fix_interval_s": 3600, "aliases": [RADIO, RADIO]}
    answer = await client.post("/api/v1/collars/", json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert list(made) == [
        "id", "model", "fix_interval_s", "notes", "limits", "aliases", "last_heard_at", "battery_level", "firmware",
        "created_at", "updated_at", "rev",
    ]  # fmt: skip
    assert (made["id"], made["aliases"], made["last_heard_at"]) == ("K7", [RADIO], None)
    assert (await client.post("/api/v1/collars/", json=body)).status_code == 409
    changed = (await client.patch("/api/v1/collars/K7/", json={"notes": "spare"})).json()
    assert (changed["notes"], changed["model"], changed["aliases"]) == ("spare", "Savannah 2", [RADIO])
    assert (await client.put("/api/v1/collars/K7/", json={"notes": "spare", "aliases": [RADIO]})).json() == changed
    assert (await client.patch("/api/v1/collars/K8/", json={"notes": "none"})).status_code == 404
    assert (await client.put("/api/v1/collars/K8/", json={"notes": "entered"})).json()["id"] == "K8"
    assert [row["id"] for row in (await client.get("/api/v1/collars/?search=0101")).json()["results"]] == ["K7"]
    assert (await client.delete("/api/v1/collars/K7/")).status_code == 204
    assert (await client.get("/api/v1/collars/K7/")).status_code == 404


async def test_an_alias_entered_late_moves_what_was_heard(client: httpx.AsyncClient) -> None:
    heard = (await client.post("/api/v1/tracking/", json={**POSITION, "collar_id": RADIO})).json()
    assert heard["collar_id"] == RADIO
    await client.post("/api/v1/collars/", json={"id": "K7", "aliases": [RADIO]})
    (moved,) = (await client.get("/api/v1/tracking/?collar_id=K7")).json()["results"]
    assert {**moved, "id": heard["id"], "collar_id": RADIO} == heard
    again = await client.post("/api/v1/tracking/", json={**POSITION, "collar_id": RADIO})
    assert (again.status_code, again.json()["id"]) == (200, moved["id"])
    assert (await client.delete("/api/v1/collars/K7/")).json()["code"] == "conflict"


async def test_a_collar_has_limits_of_its_own_and_loses_them_whole(client: httpx.AsyncClient) -> None:
    positions = [{**POSITION, "collar_id": "K7", "hdop": 12.0}, {**POSITION, "collar_id": "K8", "hdop": 12.0}]
    for position in positions:
        made = (await client.post("/api/v1/tracking/", json=position)).json()
        assert made["flags"] == ["poor_dop"]
    changed = (await client.patch("/api/v1/collars/K7/", json={"limits": {"max_hdop": 20, "min_sats": 3}})).json()
    assert changed["limits"] == {"max_hdop": 20.0, "min_sats": 3}

    async def flags() -> list[list[str]]:
        rows = [(await client.get(f"/api/v1/tracking/?collar_id={name}")).json()["results"] for name in ("K7", "K8")]
        return [row["flags"] for (row,) in rows]

    assert await flags() == [[], ["poor_dop"]]
    again = (await client.patch("/api/v1/collars/K7/", json={"limits": {"min_sats": 3, "max_hdop": 20.0}})).json()
    assert again == changed
    (found,) = (await client.get("/api/v1/collars/?search=K7")).json()["results"]
    assert found == changed
    assert (await client.patch("/api/v1/collars/K7/", json={"limits": None})).json()["limits"] == {}
    assert await flags() == [["poor_dop"], ["poor_dop"]]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "id: is required"),
        ({"id": "a b"}, "id: must have 1 to 64 characters without spaces and slashes"),
        ({"id": "K7", "aliases": ["0101"]}, ALIASES),
        ({"id": "K7", "aliases": ["eui:0101"]}, ALIASES),
        ({"id": "K7", "aliases": ["animal:x"]}, ALIASES),
        ({"id": "collar:K7"}, "id: must not begin with animal: or collar:"),
        ({"id": "K7", "fix_interval_s": 0}, "fix_interval_s: must be between 1 and 31536000"),
        ({"id": "K7", "limits": {"max_speed_mps": 0}}, "limits.max_speed_mps: expected `float` > 0.0"),
        ({"id": "K7", "limits": {"speed": 3}}, "limits: object contains unknown field `speed`"),
    ],
)
async def test_a_bad_collar_is_refused(refusing: httpx.AsyncClient, body: dict[str, Any], detail: str) -> None:
    answer = await refusing.post("/api/v1/collars/", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (400, detail)


async def test_a_past_deployment_adopts_positions(client: httpx.AsyncClient, make_animal: Make) -> None:
    animal = await make_animal()
    await client.post("/api/v1/tracking/", json={**POSITION, "collar_id": "K7"})
    body = {"animal": animal["id"], "collar_id": "K7", "started_at": "2024-10-01T00:00:00Z", "notes": "first"}
    answer = await client.post("/api/v1/deployments/", json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert list(made) == [
        "id", "animal", "collar_id", "started_at", "ended_at", "notes", "created_at", "updated_at", "rev",
    ]  # fmt: skip
    by_animal = f"/api/v1/tracking/by_animal/?animal_id={animal['id']}"
    assert (await client.get(by_animal)).json()["count"] == 1
    path = f"/api/v1/deployments/{made['id']}/"
    ended = (await client.patch(path, json={"ended_at": "2024-10-02T00:00:00Z"})).json()
    assert ended["ended_at"] == "2024-10-02T00:00:00Z"
    assert (await client.get(by_animal)).json()["count"] == 0
    assert (await client.put(path, json=body)).json()["ended_at"] == "2024-10-02T00:00:00Z"
    assert (await client.patch(path, json={"ended_at": None})).json()["ended_at"] is None
    assert (await client.get(f"/api/v1/deployments/?collar_id=K7&animal={animal['id']}")).json()["count"] == 1
    assert (await client.get("/api/v1/deployments/?collar_id=K8")).json()["count"] == 0
    other = await make_animal()
    assert (await client.post("/api/v1/deployments/", json={**body, "animal": other["id"]})).status_code == 409
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"animal": None}, "animal: expected `str`, got `null`"),
        ({"animal": "nobody"}, "animal: there is no animal nobody"),
        ({"started_at": None}, "started_at: expected `int | float | str`, got `null`"),
        ({"ended_at": "2024-09-01T00:00:00Z"}, "ended_at: must be after started_at"),
    ],
)
async def test_a_bad_deployment_is_refused(
    client: httpx.AsyncClient, make_animal: Make, change: dict[str, Any], detail: str
) -> None:
    animal = await make_animal()
    body = {"animal": animal["id"], "collar_id": "K7", "started_at": "2024-10-01T00:00:00Z", **change}
    answer = await client.post("/api/v1/deployments/", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (400, detail)
