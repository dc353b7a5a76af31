"""The search for a corridor is asked for at both homes; where none can be made the answer says so and why."""

from __future__ import annotations

import httpx
import pytest

from cloud.store.store import PostgresStore
from shared.store import Store

pytestmark = [pytest.mark.api, pytest.mark.corridors]

WISH = {"species": "Elephant", "start_point": {"lat": -2.5, "lon": 37.5}, "end_point": {"lat": -2.4, "lon": 37.9}}


async def test_a_home_without_an_optimiser_says_so_and_where_to_ask(client: httpx.AsyncClient, store: Store) -> None:
    answer = await client.post("/api/v1/corridors/optimize/", json=WISH)
    assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable")
    assert ("in the cloud" in answer.json()["detail"]) == (not isinstance(store, PostgresStore))


async def test_what_is_no_wish_is_refused_by_its_field(refusing: httpx.AsyncClient) -> None:
    for field, value in (
        ("species", ""), ("start_point", None), ("end_point", {"lat": -91, "lon": 0}), ("steps", 9), ("steps", 201),
        ("optimization_goal", "fastest"), ("algorithm", "sac"), ("seed", -1), ("end_point", WISH["start_point"]),
        ("region", {"type": "Point", "coordinates": [37.5, -2.5]}),
        ("region", {"type": "Polygon", "coordinates": [[[37, -3], [38, -3], [38, -2]]]}),
    ):  # fmt: skip
        answer = await refusing.post("/api/v1/corridors/optimize/", json={**WISH, field: value})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), (field, value)
        assert answer.json()["detail"].startswith(field), answer.text
