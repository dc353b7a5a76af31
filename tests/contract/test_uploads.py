"""The original platform's bulk upload over both homes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from shared.privacy import View
from shared.store import AnimalQuery, FixQuery, ObservationQuery, Store

pytestmark = [pytest.mark.api, pytest.mark.sync, pytest.mark.usefixtures("only_homes")]

PATH = "/api/v1/sync/upload/"
ANIMAL = {
    "local_id": "uuid-local-1", "name": "Elephant Alpha", "species": "Elephant", "collar_id": "COL001",
    "status": "active", "health_status": "healthy", "gender": "M",
}  # fmt: skip
FIX = {
    "local_id": "uuid-local-2", "animal": "animal-uuid", "lat": -2.1234, "lon": 34.5678,
    "timestamp": "2024-11-01T10:30:00Z", "collar_id": "COL001",
}  # fmt: skip
SIGHTING = {
    "local_id": "uuid-local-3", "animal": "animal-uuid", "observation_type": "sighting",
    "description": "Elephant spotted near waterhole", "timestamp": "2024-11-01T10:30:00Z",
}  # fmt: skip
PRINTED = {
    "device_id": "unique-device-identifier", "animals": [ANIMAL], "tracking": [FIX], "observations": [SIGHTING],
}  # fmt: skip


async def upload(client: httpx.AsyncClient, device: str = "d1", key: str = "", **items: Any) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    answer = await client.post(PATH, json={"device_id": device, **items}, headers=headers)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def counts(told: dict[str, Any]) -> tuple[int, int, int]:
    return told["summary"]["synced"], told["summary"]["conflicts"], told["summary"]["failed"]


async def test_the_printed_example_answers_as_printed(client: httpx.AsyncClient, store: Store, view: View) -> None:
    answer = await client.post(PATH, json=PRINTED)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    for kind in ("animals", "tracking", "observations"):
        assert told[kind] == {"synced": 1, "failed": 0, "conflicts": 0}
    summary = told["summary"]
    assert summary.pop("duration_seconds") >= 0
    assert summary == {"total_items": 3, "synced": 3, "conflicts": 0, "failed": 0, "success_rate": "100.0%"}
    assert told["errors"] == []
    assert told["sync_id"]
    assert [(each["type"], each["code"]) for each in told["warnings"]] == [("observations", "unknown_animal")]
    (animal,) = (await store.animals(view, AnimalQuery())).results
    assert (animal.name, animal.collar_id, animal.gender) == ("Elephant Alpha", "COL001", "male")
    (fix,) = (await store.fixes(view, FixQuery())).results
    assert (fix.collar_id, fix.lat_deg, fix.local_id) == ("COL001", -2.1234, "uuid-local-2")
    (seen,) = (await store.observations(view, ObservationQuery())).results
    assert (seen.animal_id, seen.local_id) == (None, "uuid-local-3")
    assert told["id_map"] == {
        "animals": {"uuid-local-1": animal.id}, "tracking": {"uuid-local-2": fix.id},
        "observations": {"uuid-local-3": seen.id},
    }  # fmt: skip


async def test_the_same_upload_again_is_synced_and_stored_once(
    client: httpx.AsyncClient, store: Store, view: View
) -> None:
    given: dict[str, Any] = {key: value for key, value in PRINTED.items() if key != "device_id"}
    first, again = [await upload(client, **given) for _ in range(2)]
    assert counts(first) == counts(again) == (3, 0, 0)
    assert first["id_map"] == again["id_map"]
    assert (await store.fixes(view, FixQuery())).count == 1
    assert (await store.observations(view, ObservationQuery())).count == 1


async def test_another_local_id_for_what_is_there_is_a_conflict_that_names_the_row_kept(
    client: httpx.AsyncClient, store: Store, view: View
) -> None:
    first = await upload(client, animals=[ANIMAL], tracking=[FIX], observations=[SIGHTING])
    again = await upload(
        client, "d2",
        animals=[{**ANIMAL, "local_id": "x1", "name": "Beta"}],
        tracking=[{**FIX, "local_id": "x2"}],
        observations=[{**SIGHTING, "local_id": "x3"}],
    )  # fmt: skip
    assert counts(again) == (0, 3, 0)
    reasons = {each["type"]: each["reason"] for each in again["conflicts"]}
    assert reasons == {"animals": "duplicate_collar", "tracking": "duplicate", "observations": "duplicate"}
    assert again["conflicts"][0]["server_record"]["name"] == "Elephant Alpha"
    for kind, there, here in (("animals", "uuid-local-1", "x1"), ("tracking", "uuid-local-2", "x2")):
        assert first["id_map"][kind][there] == again["id_map"][kind][here]
    assert (await store.animals(view, AnimalQuery())).count == 1
    assert (await store.fixes(view, FixQuery())).count == 1
    assert (await store.observations(view, ObservationQuery())).count == 1
    assert counts(await upload(client, "d2", animals=[{**ANIMAL, "local_id": "x1", "name": "Beta"}])) == (1, 0, 0)


async def test_items_name_animals_by_local_ids_of_this_upload_and_of_earlier_ones(
    client: httpx.AsyncClient, store: Store, view: View
) -> None:
    here = {"lat": -2.0, "lon": 34.0, "timestamp": 1_730_000_000_000}
    told = await upload(
        client,
        animals=[{"local_id": "a", "name": "Alpha", "species": "Elephant"}],
        tracking=[{**here, "local_id": "t", "animal": "a"}],
    )
    animal = told["id_map"]["animals"]["a"]
    later = await upload(
        client,
        tracking=[{**here, "local_id": "u", "animal": "a", "timestamp": 1_730_000_060_000}],
        observations=[{**SIGHTING, "local_id": "o", "animal": "a"}],
    )
    assert counts(told) == counts(later) == (2, 0, 0)
    assert {fix.animal_id for fix in (await store.fixes(view, FixQuery())).results} == {animal}
    (seen,) = (await store.observations(view, ObservationQuery())).results
    assert seen.animal_id == animal
    duplicate = await upload(client, "d2", animals=[{**ANIMAL, "local_id": "b", "collar_id": "K"}])
    ruled = await upload(
        client, "d3",
        animals=[{**ANIMAL, "local_id": "c", "collar_id": "K"}],
        tracking=[{**here, "local_id": "v", "animal": "c"}],
    )  # fmt: skip
    kept = duplicate["id_map"]["animals"]["b"]
    assert ruled["id_map"]["animals"]["c"] == kept
    assert (await store.fix(view, ruled["id_map"]["tracking"]["v"])).animal_id == kept


async def test_a_bad_item_is_told_and_takes_no_neighbour_with_it(
    client: httpx.AsyncClient, store: Store, view: View
) -> None:
    told = await upload(
        client,
        animals=[{"local_id": "a", "species": "Elephant"}],
        tracking=[{**FIX, "lat": 95}, {**FIX, "local_id": "good"}, {**FIX, "local_id": "lost", "collar_id": None}],
        observations=[7],
    )
    assert counts(told) == (1, 0, 4)
    assert told["summary"]["success_rate"] == "20.0%"
    assert {(each["type"], each["local_id"]) for each in told["errors"]} >= {("animals", "a"), ("tracking", "lost")}
    assert all(each["code"] == "invalid" and each["message"] for each in told["errors"])
    assert (await store.fixes(view, FixQuery())).count == 1


async def test_more_than_a_thousand_items_are_refused_with_nothing_applied(
    client: httpx.AsyncClient, store: Store, view: View
) -> None:
    many = [{**FIX, "local_id": str(n), "timestamp": 1_730_000_000_000 + n * 60_000} for n in range(1_001)]
    answer = await client.post(PATH, json={"device_id": "d1", "tracking": many})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert (await store.fixes(view, FixQuery())).count == 0
    assert counts(await upload(client, tracking=many[:1_000])) == (1_000, 0, 0)


async def test_a_named_upload_is_answered_again_with_the_same_bytes_and_its_name_is_of_one_upload(
    client: httpx.AsyncClient, store: Store, view: View
) -> None:
    first = await upload(client, key="k1", animals=[ANIMAL])
    (animal,) = (await store.animals(view, AnimalQuery())).results
    assert await upload(client, key="k1", animals=[ANIMAL]) == first
    other = await client.post(PATH, json={"device_id": "d1", "tracking": [FIX]}, headers={"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert (await store.fixes(view, FixQuery())).count == 0
    assert (await store.animal(view, animal.id)) == animal


async def test_an_item_that_says_something_new_under_its_local_id_changes_what_nobody_else_has(
    client: httpx.AsyncClient, store: Store, view: View
) -> None:
    told = await upload(client, animals=[ANIMAL])
    identity = told["id_map"]["animals"]["uuid-local-1"]
    before = await store.update_animal(view, identity, {"name": "Saba"})
    told = await upload(client, animals=[{**ANIMAL, "name": "Beta", "health_status": "injured"}])
    assert counts(told) == (0, 1, 0)
    assert told["conflicts"][0]["reason"] == "changed_by_someone_else"
    after = await store.animal(view, identity)
    assert after == replace(before, health_status="injured", rev=after.rev, updated_at=after.updated_at)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"device_id": 5}', b'{"device_id":"d","tracking":{}}'])
async def test_what_is_no_upload_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
