"""The description of the API, walked on both homes: every operation says all of what it takes and what it answers."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from litestar import Litestar

from cloud.store.store import PostgresStore
from shared.accounts.roles import rule_of
from shared.api.openapi import complete
from shared.store import Store
from tests.contract.test_roles import routes_of

pytestmark = [pytest.mark.api, pytest.mark.usefixtures("only_homes")]

METHODS = ("get", "put", "post", "delete", "patch")
#: What has no shape that JSON could tell of: streams, pictures, batches.
BINARY = ("text/event-stream", "image/png", "application/msgpack", "application/vnd.outpost.batch")

#: What the original platform says that it serves, and what its own clients ask besides; ids under one name.
ORIGINAL = """
POST auth/register; POST auth/verify-otp; POST auth/login; POST auth/login/verify; POST auth/logout; POST auth/refresh;
GET auth/me; PUT auth/me; PATCH auth/me; POST auth/send-otp; POST auth/change-password;
GET animals; POST animals; GET animals/{}; PUT animals/{}; PATCH animals/{}; DELETE animals/{}; GET animals/live_status;
GET tracking; POST tracking; POST tracking/bulk_upload; GET tracking/by_animal; GET tracking/live_tracking;
GET tracking/live; GET tracking/behavior/analyze; GET tracking/behavior/summary; GET tracking/observations;
POST tracking/observations;
GET predictions; POST predictions; GET predictions/corridor; POST predictions/corridor; GET predictions/ml_status;
GET predictions/history; GET predictions/xgboost/environment; POST predictions/xgboost/predict;
GET corridors; POST corridors; GET corridors/{}; PUT corridors/{}; DELETE corridors/{}; POST corridors/optimize;
GET ml/health/live; GET ml/health/ready; POST ml/corridor/generate; POST ml/corridor/evaluate;
POST sync/upload; GET sync/logs; GET sync/logs/recent; GET sync/logs/stats; GET sync/queue/pending;
GET sync/queue/failed; POST sync/queue/retry_failed; POST sync/queue/{}/retry_item;
GET conflict-zones; POST conflict-zones; PUT conflict-zones/{}; DELETE conflict-zones/{}; GET conflict-zones/geojson;
GET alerts; POST alerts; GET alerts/{}; GET alerts/active; GET alerts/critical; GET alerts/stats;
POST alerts/{}/acknowledge; POST alerts/{}/resolve;
GET rangers/teams; POST rangers/teams; GET rangers/rangers; POST rangers/rangers; GET rangers/tracking;
POST rangers/tracking; GET rangers/logs; POST rangers/logs; GET rangers/routes; POST rangers/routes;
GET rangers/live_status
"""


@pytest.fixture
async def schema(client: httpx.AsyncClient) -> dict[str, Any]:
    """Give the description as a client reads it."""
    answer = await client.get("/api/schema/openapi.json")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give method, path and description of each operation."""
    for path, item in schema["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def is_typed(schema: dict[str, Any], shape: dict[str, Any]) -> bool:
    """Say whether a shape says anything: an object with fields, a list of something, one of several, a word."""
    if "$ref" in shape:
        return is_typed(schema, schema["components"]["schemas"][shape["$ref"].rsplit("/", 1)[1]])
    for several in ("oneOf", "anyOf", "allOf"):
        if several in shape:
            return all(is_typed(schema, each) for each in shape[several])
    if shape.get("type") == "array":
        return is_typed(schema, shape["items"])
    if shape.get("type") == "object":
        return bool(shape.get("properties") or shape.get("additionalProperties"))
    return "type" in shape or "enum" in shape or "const" in shape


async def test_every_route_but_pages_and_what_stations_say_is_described(
    app: Litestar, store: Store, schema: dict[str, Any]
) -> None:
    described = {(method.upper(), path) for method, path, _ in operations(schema)}
    hidden = {
        (method, path)
        for method, path in routes_of(app)
        if (method, path.rstrip("/") or "/") not in described and method != "HEAD"
    }
    for method, path in hidden:
        if path.startswith(("/api/v1", "/api/animals", "/health")):
            assert isinstance(store, PostgresStore), (method, path)
            assert rule_of(method, path).access in ("signed", "open"), (method, path)


async def test_every_endpoint_of_the_original_platform_is_there(schema: dict[str, Any]) -> None:
    served = {
        f"{method.upper()} {re.sub(r'{[^}]*}', '{}', path).removeprefix('/api/v1/').rstrip('/')}"
        for method, path, _ in operations(schema)
    }
    wanted = {each.strip() for each in ORIGINAL.replace("\n", " ").split(";")}
    assert wanted - served == set()
    assert {"GET /api/animals/live_status", "GET /health"} <= served


async def test_every_operation_says_all_of_what_it_takes_and_answers(schema: dict[str, Any]) -> None:
    ids = set()
    for method, path, operation in operations(schema):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["tags"], where
        assert operation["operationId"] not in ids, where
        ids.add(operation["operationId"])
        if "requestBody" in operation:
            for media, body in operation["requestBody"]["content"].items():
                assert media in BINARY or is_typed(schema, body["schema"]), where
        for status, answer in operation["responses"].items():
            assert answer["description"], (where, status)
            if status == "204":
                assert "content" not in answer
                continue
            assert answer["content"], (where, status)
            for media, body in answer["content"].items():
                assert media in BINARY or is_typed(schema, body["schema"]), (where, status)
        for parameter in operation.get("parameters", ()):
            assert is_typed(schema, parameter["schema"]), (where, parameter["name"])


async def test_every_operation_names_its_errors_and_who_may_ask(schema: dict[str, Any]) -> None:
    for method, path, operation in operations(schema):
        where = f"{method} {path}"
        rule = rule_of(method.upper(), path)
        wanted = {"400", "503"}
        if rule.access in ("token", "local"):
            wanted |= {"401", "403"}
            assert {"token": []} in operation["security"], where
            assert ({"apiKey": []} in operation["security"]) == (rule.scope is not None and not rule.needs_factor)
            assert "For: admin" in operation["description"], where
        elif rule.access == "signed":
            assert operation["security"] == [{"signature": []}], where
        else:
            assert operation["security"] == [], where
        wanted |= {"404"} if "{" in path else set()
        wanted |= {"413"} if "requestBody" in operation else set()
        assert wanted <= operation["responses"].keys(), where
        for status in wanted - {"503"}:
            for body in operation["responses"][status]["content"].values():
                assert body["schema"]["$ref"].endswith("ErrorOut"), (where, status)
    used = {name for _, _, operation in operations(schema) for way in operation["security"] for name in way}
    assert used <= schema["components"]["securitySchemes"].keys()


async def test_what_is_made_leads_to_what_can_be_done_with_it(schema: dict[str, Any]) -> None:
    known = {operation["operationId"]: path for _, path, operation in operations(schema)}
    linked = set()
    for _, path, operation in operations(schema):
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                assert known[link["operationId"]].startswith(f"{path}/{{")
                linked.add(path)
    assert {"/api/v1/animals", "/api/v1/alerts", "/api/v1/rangers/logs"} <= linked


async def test_describing_it_again_changes_nothing(schema: dict[str, Any]) -> None:
    again = complete(copy.deepcopy(schema))
    assert again == schema
