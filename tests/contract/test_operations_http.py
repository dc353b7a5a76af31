"""What operators ask of both homes: ids of requests, levels of the log, figures."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar

from cloud.store.store import PostgresStore
from shared.logs import LEVELS_NOW
from shared.store import Store
from tests.contract.conftest import client_of

ROOT = Path(__file__).resolve().parents[2]
#: Told by a station that runs alone: of links, the cloud, backups and the models.
OF_PARTS = ("link_", "cloud_", "backup_", "pipeline_")

pytestmark = pytest.mark.api


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    for package in LEVELS_NOW.told():
        LEVELS_NOW.set(package, None)


@pytest.mark.parametrize(
    ("path", "status"), [("/health/live", 200), ("/api/v1/animals/none/", 404), ("/api/v1/animals/?page=x", 400)]
)
async def test_every_answer_names_its_request(client: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await client.get(path, headers={"X-Request-ID": "from-the-proxy"})
    assert answer.status_code == status
    assert answer.headers["X-Request-ID"] == "from-the-proxy"
    another = await client.get(path)
    assert len(another.headers["X-Request-ID"]) == 16


async def test_a_refusal_names_its_request_too(nobody: httpx.AsyncClient) -> None:
    answer = await nobody.get("/api/v1/animals/")
    assert answer.status_code == 401
    assert len(answer.headers["X-Request-ID"]) == 16


async def test_an_administrator_changes_what_is_logged_and_the_audit_log_says_who(
    admin_client: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    changed = await admin_client.put("/api/v1/logs/levels/", json={"package": "edge.sync", "level": "debug"})
    assert changed.json() == {"levels": {"": "info", "edge.sync": "debug"}}
    assert LEVELS_NOW.allows("edge.sync.session", "debug")
    refused = await admin_client.put("/api/v1/logs/levels/", json={"package": "edge.sync", "level": "loud"})
    assert refused.status_code == 400
    back = await admin_client.put("/api/v1/logs/levels/", json={"package": "edge.sync", "level": None})
    assert back.json() == (await client.get("/api/v1/logs/levels/")).json() == {"levels": {"": "info"}}
    lines = (await client.get("/api/v1/audit/")).json()["results"]
    assert [line["detail"] for line in lines if line["action"] == "log.level"] == [
        "edge.sync as the rest", "edge.sync debug",
    ]  # fmt: skip


async def test_figures_are_for_this_machine_or_a_key_and_name_no_animal_and_no_place(
    app: Litestar, client: httpx.AsyncClient, nobody: httpx.AsyncClient, viewer_client: httpx.AsyncClient,
    make_animal: Callable[..., Awaitable[dict[str, Any]]],
) -> None:  # fmt: skip
    animal = await make_animal(name="Mkubwa", species="Rhino", collar_id="K-77")
    fix = {"collar_id": "K-77", "timestamp": "2026-11-01T06:00:00Z", "lat": -2.65271, "lon": 37.26063}
    assert (await client.post("/api/v1/tracking/", json=fix)).status_code == 201
    await client.get(f"/api/v1/animals/{animal['id']}/")
    assert (await nobody.get("/metrics")).status_code == 401
    assert (await viewer_client.get("/metrics")).status_code == 403
    made = await client.post(
        "/api/v1/api-keys/", json={"name": "collector", "role": "admin", "scopes": ["metrics:read"]}
    )
    assert made.status_code == 201, made.text
    async with client_of(app) as collector:
        collector.headers["X-API-Key"] = made.json()["key"]
        answer = await collector.get("/metrics")
        assert (await collector.get("/api/v1/animals/")).status_code == 403
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.text
    assert 'outpost_http_requests_total{method="POST",route="/api/v1/tracking",status="201"} 1.0' in text
    assert "outpost_process_resident_memory_bytes" in text
    for secret in ("Mkubwa", "Rhino", "rhino", "K-77", "-2.65", "37.26", animal["id"]):
        assert secret not in text, secret


async def test_the_dashboard_asks_for_figures_that_there_are(
    app: Litestar, client: httpx.AsyncClient, store: Store
) -> None:
    await client.get("/health/live")
    text = (await client.get("/metrics")).text
    home = "cloud" if isinstance(store, PostgresStore) else "edge"
    panels = json.loads((ROOT / home / "deploy" / "grafana.json").read_text())["panels"]
    asked = {name for panel in panels for each in panel["targets"] for name in re.findall(r"outpost_\w+", each["expr"])}
    assert len(asked) > 6
    missing = {name for name in asked if not re.search(rf"^{name}[ {{]", text, re.MULTILINE)}
    assert {name for name in missing if not name.removeprefix("outpost_").startswith(OF_PARTS)} <= {
        "outpost_station_age_seconds", "outpost_jobs",
    }  # fmt: skip
