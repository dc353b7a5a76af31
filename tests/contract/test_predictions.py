"""Predictions and the models' health, over HTTP and the same in every home."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from cloud.store.store import PostgresStore
from shared.accounts.service import Accounts
from shared.api.predictions import Predictions
from shared.domain import Animal, Prediction, PredictionType
from shared.errors import ModelUnavailable
from shared.privacy import OPERATOR, Principal, view_for
from shared.routing import NoRouter, RouteAsked
from shared.store import PredictionQuery, Store
from tests.access import person
from tests.contract.conftest import client_of, session_of
from tests.contract.walks import upload, walk
from tests.fakes import START, FakeClock
from tests.memory_store import InMemoryStore

pytestmark = [pytest.mark.api, pytest.mark.ml, pytest.mark.predictions]

Make = Callable[..., Awaitable[dict[str, Any]]]
Settle = Callable[[], Awaitable[None]]
PATH = "/api/v1/predictions/"
ML = "/api/v1/ml/"
OPERATORS = view_for(OPERATOR)
ENDS = {"species": "Elephant", "start_lat": -2.5, "start_lon": 37.5}


async def test_a_movement_is_asked_for_kept_and_found_again(
    client: httpx.AsyncClient, elephant: dict[str, Any]
) -> None:
    answer = await client.post(PATH, json={"prediction_type": "movement", "animal": elephant["id"]})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    ahead = made["results"]["predictions"]
    assert [each["hours"] for each in ahead] == [1.0, 3.0, 6.0, 12.0, 24.0]
    assert made["results"]["made_of"] == made["input_data"]["timestamp"] == "2026-06-03T11:00:00Z"
    assert made["results"]["cell_degrees"] is None
    assert made["model_version"].startswith("forecast 1 (litert): ")
    assert (made["animal"], made["prediction_type"], made["confidence"]) == (elephant["id"], "movement", 0.9)
    assert (await client.get(f"{PATH}{made['id']}/")).json() == made
    assert (await client.get(PATH)).json()["results"] == [made]
    live = (await client.get("/api/v1/animals/live_status/")).json()[0]
    assert live["predictions"] == ahead, "the same forecast is shown wherever it is asked for"
    assert (await client.delete(f"{PATH}{made['id']}/")).status_code == 204
    assert (await client.get(f"{PATH}{made['id']}/")).status_code == 404


async def test_the_same_question_is_one_row_until_a_new_fix_comes(
    client: httpx.AsyncClient, elephant: dict[str, Any], clock: FakeClock, settle: Settle
) -> None:
    body = {"prediction_type": "movement", "animal_id": elephant["id"]}
    first = await client.post(PATH, json=body)
    clock.tick(600)
    again = await client.post(PATH, json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    clock.tick(3_000)
    await upload(client, walk(50)[48:49])
    await settle()
    newer = await client.post(PATH, json=body)
    assert newer.status_code == 201
    assert newer.json()["input_data"]["timestamp"] == "2026-06-03T12:00:00Z"
    assert (await client.get(PATH)).json()["count"] == 2


async def test_what_cannot_be_predicted_says_why_and_nothing_is_kept(
    client: httpx.AsyncClient, make_animal: Make, clock: FakeClock
) -> None:
    nowhere = await make_animal(name="No position")
    refusals = [
        ({"prediction_type": "movement"}, 400, "animal: is required"),
        ({"prediction_type": "movement", "animal": "nobody"}, 400, "there is no animal nobody"),
        ({"prediction_type": "movement", "animal": nowhere["id"]}, 503, "no usable position"),
        ({"prediction_type": "habitat", "animal": nowhere["id"]}, 503, "no usable position"),
        ({"prediction_type": "habitat", "input_data": {"lat": 1.0, "lon": 2.0}}, 400, "species: is required"),
        ({"prediction_type": "habitat", "input_data": {"lat": 1.0, "species": "Elephant"}}, 400, "together with lon"),
        ({"prediction_type": "habitat", "input_data": {"lat": 1.0, "lon": 2.0, "species": "E"}}, 503, "no maps"),
        ({"prediction_type": "corridor", "input_data": {}}, 400, "species: is required"),
        ({"prediction_type": "corridor", "input_data": ENDS}, 503, "no corridor model"),
        ({"prediction_type": "weather"}, 400, "prediction_type"),
    ]
    for body, status, words in refusals:
        answer = await client.post(PATH, json=body)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["detail"]
        assert answer.json()["code"] == ("model_unavailable" if status == 503 else "invalid")
    assert (await client.get(PATH)).json()["count"] == 0


async def test_a_fix_of_long_ago_says_nothing_of_the_future(
    client: httpx.AsyncClient, elephant: dict[str, Any], clock: FakeClock
) -> None:
    clock.tick(26 * 3600)
    answer = await client.post(PATH, json={"prediction_type": "movement", "animal": elephant["id"]})
    assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable")
    assert "too old" in answer.json()["detail"]


async def test_a_list_is_filtered_searched_and_ordered(store: Store, client: httpx.AsyncClient) -> None:
    animals = [
        await store.create_animal(OPERATORS, {"name": name, "species": species})
        for name, species in (("Alpha", "Elephant"), ("Gnu", "Wildebeest"))
    ]
    asked: list[tuple[Animal, PredictionType, str]] = [
        (animals[0], "movement", "ann"), (animals[1], "movement", "ben"), (animals[1], "habitat", "ann"),
    ]  # fmt: skip
    for number, (animal, kind, who) in enumerate(asked):
        prediction = Prediction(
            id=f"p{number}", prediction_type=kind, created_at=START + timedelta(hours=number), animal_id=animal.id,
            created_by=who, confidence=number / 10, results='{"a":1}',
        )  # fmt: skip
        assert await store.keep_prediction(OPERATORS, prediction, f"k{number}") == (prediction, True)

    async def ids(**query: str) -> list[str]:
        answer = await client.get(PATH, params=query)
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["results"]]

    assert await ids() == ["p2", "p1", "p0"]
    assert await ids(ordering="created_at") == ["p0", "p1", "p2"]
    assert await ids(ordering="-confidence") == ["p2", "p1", "p0"]
    assert await ids(animal=animals[1].id) == ["p2", "p1"]
    assert await ids(prediction_type="movement") == ["p1", "p0"]
    assert await ids(created_by="ann") == ["p2", "p0"]
    assert await ids(search="wildeb") == ["p2", "p1"]
    assert await ids(search="alph") == ["p0"]
    assert await ids(search="%") == []
    assert (await client.get(PATH, params={"ordering": "results"})).status_code == 400
    history = (await client.get(f"{PATH}history/", params={"type": "habitat"})).json()
    assert [row["id"] for row in history["results"]] == ["p2"]
    assert (await client.get(f"{PATH}history/", params={"type": "weather"})).status_code == 400


async def test_of_one_key_the_first_row_stays_and_the_oldest_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(store, InMemoryStore):
        pytest.skip("the double keeps all")
    monkeypatch.setattr("shared.sync.predictions.MOST_KEPT", 3)
    for number in range(5):
        made = Prediction(id=f"p{number}", prediction_type="movement", created_at=START)
        assert (await store.keep_prediction(OPERATORS, made, f"k{number}"))[1]
    again = Prediction(id="other", prediction_type="movement", created_at=START)
    kept, is_new = await store.keep_prediction(OPERATORS, again, "k4")
    assert (kept.id, is_new) == ("p4", False)
    found = await store.predictions(OPERATORS, PredictionQuery(ordering="created_at"))
    assert (found.count, [row.id for row in found.results]) == (3, ["p2", "p3", "p4"])


# --- who may see what ------------------------------------------------------------------------------------------------
async def test_a_viewer_sees_that_a_model_was_asked_and_no_place(
    store: Store,
    app: Litestar,
    accounts: Accounts,
    client: httpx.AsyncClient,
    elephant: dict[str, Any],
    clock: FakeClock,
) -> None:
    if isinstance(store, InMemoryStore):
        pytest.skip("the double reduces nothing")
    guest = await person(accounts, "viewer")
    made = (await client.post(PATH, json={"prediction_type": "movement", "animal": elephant["id"]})).json()
    async with client_of(app, await session_of(accounts, guest)) as viewer:
        assert (await viewer.get(PATH)).json()["count"] == 0, "not before its category's delay"
        assert (await viewer.get(f"{PATH}{made['id']}/")).status_code == 404
    clock.tick(73 * 3600)
    async with client_of(app, await session_of(accounts, guest)) as viewer:
        (row,) = (await viewer.get(PATH)).json()["results"]
        assert (row["id"], row["input_data"], row["results"]) == (made["id"], {}, {})
        assert (row["created_by"], row["confidence"], row["created_at"]) == (None, None, "2026-06-03T00:00:00Z")
        assert (await viewer.get(PATH, params={"created_by": "operator"})).json()["count"] == 0
        for method, path in (("POST", PATH), ("DELETE", f"{PATH}{made['id']}/"), ("POST", f"{PATH}xgboost/predict/")):
            assert (await viewer.request(method, path, json={})).status_code == 403


async def test_who_sees_positions_reduced_gets_a_forecast_of_reduced_positions(
    store: Store,
    app: Any,
    accounts: Accounts,
    client: httpx.AsyncClient,
    make_animal: Make,
    clock: FakeClock,
    settle: Settle,
) -> None:
    if not isinstance(store, PostgresStore):
        pytest.skip("only in the cloud may somebody ask who sees positions reduced")
    gnu = await make_animal(name="Gnu", species="wildebeest", collar_id="COL001")
    clock.tick(47 * 3600)
    await upload(client, walk(48))
    await settle()
    exact = (await client.post(PATH, json={"prediction_type": "movement", "animal": gnu["id"]})).json()
    far = Principal(user_id="far", role="ranger", stations=("post-9",))
    insight = app.dependencies["insight"].dependency()
    with pytest.raises(ModelUnavailable, match="no usable position"):  # what came within the hour is not for it
        await insight.forecast(accounts.view(far), gnu["id"])
    clock.tick(3_700)
    found = await insight.forecast(accounts.view(far), gnu["id"])
    assert found.cell_deg == 0.01
    last = walk(48)[-1]
    assert found.fix.lon_deg is not None
    assert 0 < abs(found.fix.lon_deg - last["lon"]) <= 0.005, "the middle of its cell"
    for each, known in zip(found.predicted, exact["results"]["predictions"], strict=True):
        for degrees in (each.lon_deg, each.lat_deg):
            cells = (degrees + 180) / 0.01 - 0.5
            assert abs(cells - round(cells)) < 1e-6
        assert each.semi_major_90_m % 1000 == 0
        assert each.semi_minor_50_m >= 787
        assert (each.lon_deg, each.lat_deg) != (known["lon"], known["lat"])
    clock.tick(26 * 3600)
    with pytest.raises(ModelUnavailable, match="too old"):
        await insight.forecast(accounts.view(far), gnu["id"])


async def test_rangers_delete_only_what_they_asked_for(
    app: Litestar, accounts: Accounts, client: httpx.AsyncClient, elephant: dict[str, Any]
) -> None:
    body = {"prediction_type": "movement", "animal": elephant["id"]}
    ours = (await client.post(PATH, json=body)).json()
    async with client_of(app, await session_of(accounts, await person(accounts, "ranger"))) as ranger:
        theirs = await ranger.post(PATH, json=body)
        assert theirs.status_code == 201, "another asker's answer is another row"
        assert (await ranger.delete(f"{PATH}{ours['id']}/")).status_code == 403
        assert (await ranger.delete(f"{PATH}{theirs.json()['id']}/")).status_code == 204
    assert (await client.get(PATH)).json()["count"] == 1


# --- routes and health -----------------------------------------------------------------------------------------------
async def test_routes_are_asked_of_a_router_and_a_home_without_one_says_so(client: httpx.AsyncClient) -> None:
    two = {"species": "Elephant", "start_point": {"lat": -2.5, "lon": 37.5}, "end_point": {"lat": -2.6, "lon": 37.6}}
    path = {"species": "Elephant", "path": [[-2.5, 37.5], {"lat": -2.6, "lon": 37.6}]}
    for method, where, given in (
        ("GET", f"{PATH}corridor/", {"params": ENDS}),
        ("POST", f"{PATH}corridor/", {"json": ENDS}),
        ("POST", f"{ML}corridor/generate", {"json": two}),
        ("POST", f"{ML}corridor/evaluate", {"json": path}),
    ):
        answer = await client.request(method, where, **given)
        assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable"), where
    for where, body in (
        (f"{PATH}corridor/", {**ENDS, "end_lat": 1.0}),
        (f"{PATH}corridor/", {**ENDS, "steps": 201}),
        (f"{ML}corridor/generate", {**two, "end_point": two["start_point"]}),
        (f"{ML}corridor/evaluate", {**path, "path": [[-2.5, 37.5]]}),
    ):
        answer = await client.post(where, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), answer.text


async def test_the_models_health_is_public_and_their_details_are_not(
    client: httpx.AsyncClient, nobody: httpx.AsyncClient
) -> None:
    for path, word in (("health", "degraded"), ("health/live", "alive"), ("health/ready", "ready")):
        answer = await nobody.get(f"{ML}{path}")
        assert answer.status_code == 200, path
        assert answer.json()["status"] == word
        assert answer.json().keys() == {"status", "service", "version"}
    assert (await nobody.get(f"{PATH}ml_status/")).status_code == 401
    status = (await client.get(f"{PATH}ml_status/")).json()
    assert status["status"] == "degraded"
    words = {name: model["status"] for name, model in status["models"].items()}
    assert words == {
        "hmm": "ready", "bbmm": "ready", "habitat": "unavailable", "forecast": "ready", "corridor": "degraded",
    }  # fmt: skip
    assert list(status["models"]) == ["hmm", "bbmm", "habitat", "forecast", "corridor"], "in the pipeline's order"
    assert "no maps" in status["models"]["habitat"]["detail"]
    assert status["models"]["corridor"]["detail"] == f"advice alone: {NoRouter.missing}"
    assert status["models"]["corridor"]["versions"] == {"ppo": "1"}


async def test_habitat_without_maps_is_unavailable(client: httpx.AsyncClient) -> None:
    for method, where, given in (
        ("GET", f"{PATH}xgboost/environment/", {"params": {"lat": -2.5, "lon": 37.5}}),
        ("POST", f"{PATH}xgboost/predict/", {"json": {"lat": -2.5, "lon": 37.5, "species": "Elephant"}}),
        ("GET", "/api/v1/habitat/elephant/3/4/4.png", {}),
    ):
        answer = await client.request(method, where, **given)
        assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable"), where


async def test_no_router_is_a_router_that_has_none() -> None:
    from shared.movement.areas import Place

    asked = RouteAsked(species="Elephant", start=Place(37.5, -2.5))
    with pytest.raises(ModelUnavailable):
        await NoRouter().generate(OPERATORS, asked)
    with pytest.raises(ModelUnavailable):
        await NoRouter().evaluate(OPERATORS, "Elephant", (asked.start,))
    assert Predictions.path == "/predictions"
