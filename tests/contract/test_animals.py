"""/api/v1/animals over every store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.api, pytest.mark.animals]

Make = Callable[..., Awaitable[dict[str, Any]]]

#: The keys of the original platform, and ours after them.
KEYS = [
    "id", "name", "species", "collar_id", "status", "gender", "age", "weight", "health_status", "notes", "created_at",
    "updated_at", "created_by", "rev",
]  # fmt: skip


async def test_the_originals_example_body_is_taken_as_printed(client: httpx.AsyncClient) -> None:
    body = {
        "local_id": "uuid-local-1", "name": "Elephant Alpha", "species": "Elephant", "collar_id": "COL001",
        "status": "active", "health_status": "healthy", "gender": "M",
    }  # fmt: skip
    answer = await client.post("/api/v1/animals/", json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert list(made) == KEYS
    assert (made["gender"], made["collar_id"], made["created_by"]) == ("male", "COL001", "operator")
    assert made["created_at"] == "2026-06-01T12:00:00Z"
    assert (await client.get(f"/api/v1/animals/{made['id']}/")).json() == made


@pytest.mark.parametrize(("sent", "stored"), [("M", "male"), ("F", "female"), ("female", "female"), (None, "unknown")])
async def test_genders_are_read_as_the_originals_clients_write_them(make_animal: Make, sent: str, stored: str) -> None:
    assert (await make_animal(gender=sent))["gender"] == stored


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"name": ""}, "name: must have 1 to 200 characters"),
        ({"name": "   "}, "name: must not be empty"),
        ({"name": "a\u0000b"}, "name: must not contain control characters"),
        ({"name": None}, "name: expected `str`, got `null`"),
        ({"species": 5}, "species: expected `str`, got `int`"),
        ({"status": "asleep"}, "status: must be one of active, deceased, inactive, missing"),
        ({"health_status": "fine"}, "health_status: must be one of healthy, injured, sick, unknown"),
        ({"gender": "X"}, "gender: must be one of male, female, unknown, M, F"),
        ({"age": -1}, "age: must be between 0 and 200"),
        ({"age": "twelve"}, "age: expected `float | null`, got `str`"),
        ({"collar_id": "a/b"}, "collar_id: must have 1 to 64 characters without spaces and slashes"),
    ],
)
async def test_a_refusal_names_the_field(refusing: httpx.AsyncClient, change: dict[str, Any], detail: str) -> None:
    answer = await refusing.post("/api/v1/animals/", json={"name": "Alpha", "species": "Elephant", **change})
    assert answer.status_code == 400
    assert answer.json() == {"code": "invalid", "detail": detail}
    assert (await refusing.get("/api/v1/animals/")).json()["count"] == 0


async def test_a_missing_field_is_named(refusing: httpx.AsyncClient) -> None:
    answer = await refusing.post("/api/v1/animals/", json={"name": "Alpha"})
    assert answer.json() == {"code": "invalid", "detail": "species: is required"}


async def test_a_patch_changes_what_it_names_and_null_empties(client: httpx.AsyncClient, make_animal: Make) -> None:
    made = await make_animal(age=12.5, notes="calm")
    path = f"/api/v1/animals/{made['id']}/"
    changed = (await client.patch(path, json={"notes": None, "status": "missing", "unknown_key": 1})).json()
    assert changed == {**made, "notes": None, "status": "missing", "rev": made["rev"] + 1}
    assert (await client.patch(path, json={"notes": None, "status": "missing"})).json() == changed
    assert (await client.patch(path, json={"name": None})).status_code == 400


async def test_a_put_needs_what_an_animal_needs_and_keeps_the_rest(
    client: httpx.AsyncClient, make_animal: Make
) -> None:
    made = await make_animal(age=12.5)
    path = f"/api/v1/animals/{made['id']}/"
    assert (await client.put(path, json={"name": "Beta"})).json()["detail"] == "species: is required"
    changed = (await client.put(path, json={"name": "Beta", "species": "Elephant"})).json()
    assert (changed["name"], changed["age"]) == ("Beta", 12.5)


async def test_a_record_read_can_be_written_back(client: httpx.AsyncClient, make_animal: Make) -> None:
    made = await make_animal(collar_id="COL001")
    answer = await client.put(f"/api/v1/animals/{made['id']}/", json=made)
    assert answer.status_code == 200
    assert answer.json() == made


async def test_deleting_is_final(client: httpx.AsyncClient, make_animal: Make) -> None:
    path = f"/api/v1/animals/{(await make_animal())['id']}/"
    answer = await client.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    for refused in (await client.get(path), await client.delete(path), await client.patch(path, json={"name": "B"})):
        assert refused.status_code == 404
        assert refused.json()["code"] == "not_found"


async def test_a_collar_in_use_is_a_conflict(client: httpx.AsyncClient, make_animal: Make) -> None:
    await make_animal(collar_id="COL001")
    answer = await client.post("/api/v1/animals/", json={"name": "B", "species": "Lion", "collar_id": "COL001"})
    assert answer.status_code == 409
    assert answer.json()["code"] == "conflict"


async def test_lists_are_paged_as_the_original_pages_them(client: httpx.AsyncClient, make_animal: Make) -> None:
    for n in range(5):
        await make_animal(name=f"Animal {n}")
    first = (await client.get("/api/v1/animals/?ordering=name&page_size=2&search=animal")).json()
    assert list(first) == ["count", "next", "previous", "results"]
    assert (first["count"], first["previous"]) == (5, None)
    assert first["next"] == "http://station/api/v1/animals/?ordering=name&page_size=2&search=animal&page=2"
    second = (await client.get(first["next"])).json()
    third = (await client.get(second["next"])).json()
    names = [row["name"] for page in (first, second, third) for row in page["results"]]
    assert names == [f"Animal {n}" for n in range(5)]
    assert third["next"] is None
    assert (await client.get(third["previous"])).json() == second


async def test_a_page_past_the_end_does_not_exist_but_an_empty_list_does(client: httpx.AsyncClient) -> None:
    empty = await client.get("/api/v1/animals/")
    assert empty.json() == {"count": 0, "next": None, "previous": None, "results": []}
    assert (await client.get("/api/v1/animals/?page=2")).status_code == 404


@pytest.mark.parametrize(
    ("query", "field"),
    [("page=0", "page"), ("page=two", "page"), ("page_size=501", "page_size"), ("ordering=weather", "ordering")],
)
async def test_a_bad_query_names_its_parameter(refusing: httpx.AsyncClient, query: str, field: str) -> None:
    answer = await refusing.get(f"/api/v1/animals/?{query}")
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid"
    assert answer.json()["detail"].startswith(f"{field}: ")


async def test_filters_narrow_and_empty_filters_do_not(client: httpx.AsyncClient, make_animal: Make) -> None:
    await make_animal(name="A", species="Lion", gender="F")
    await make_animal(name="B", species="Elephant", health_status="sick")

    async def names(query: str) -> list[str]:
        answer = await client.get(f"/api/v1/animals/?ordering=name&{query}")
        return [row["name"] for row in answer.json()["results"]]

    assert await names("species=Lion") == ["A"]
    assert await names("gender=female&status=active") == ["A"]
    assert await names("health_status=sick") == ["B"]
    assert await names("species=&search=") == ["A", "B"]
