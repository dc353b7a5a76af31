"""What holds for every route: slashes, the shape of errors, headers, the documentation, and who may write."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar
from structlog.testing import capture_logs

from edge.api.app import create_app
from edge.api.events import EventHub
from shared.api.body import MAX_BODY_BYTES
from shared.errors import RateLimited, StoreFull
from shared.privacy import View
from shared.store import AnimalQuery, Page
from tests.access import accounts_over, operator_of
from tests.fakes import START, FakeClock, FakeHealth
from tests.memory_store import InMemoryStore

pytestmark = pytest.mark.api

JSON = {"content-type": "application/json"}
#: Paths that say how the home is, also when it is not well.
STATES = {"/health", "/health/ready"}


class FailingStore(InMemoryStore):
    """A store whose list of animals fails as it is told to."""

    def __init__(self, error: Exception) -> None:
        super().__init__(lambda: START)
        self._error = error

    async def animals(self, view: View, query: AnimalQuery) -> Page[Any]:
        """Fail."""
        raise self._error


def application(store: InMemoryStore | None = None, **options: Any) -> Litestar:
    """Return the station's application over doubles."""
    store = store or InMemoryStore(lambda: START)
    clock = FakeClock()
    accounts = accounts_over(None, clock)
    return create_app(store, health=FakeHealth(), events=EventHub(), clock=clock, accounts=accounts, **options)


def client_of(app: Litestar, base_url: str = "http://station") -> httpx.AsyncClient:
    """Return a client of ``app``."""
    transport = httpx.ASGITransport(cast("Any", app))
    return httpx.AsyncClient(transport=transport, base_url=base_url, auth=operator_of(app))


@pytest.fixture
async def refused(refusing_app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of an empty station."""
    async with client_of(refusing_app) as client:
        yield client


# --- paths
async def test_every_route_answers_with_and_without_its_slash() -> None:
    # A path that is not a route would answer 404 with the routing's own words.
    nowhere = "there is nothing at this path"
    app = application()
    asked = 0
    async with client_of(app) as client:
        for route in app.routes:
            path = re.sub(r"\{[^}]+\}", lambda part: "1" if part[0].endswith(":int}") else "x", route.path).rstrip("/")
            if path in {"/api/v1/events", "/api/schema/openapi.json/x"}:
                continue
            for method in sorted(getattr(route, "methods", set()) - {"OPTIONS"}):
                plain, slashed = [
                    await client.request(
                        method, path + end, content=b"{}" if method in {"POST", "PUT", "PATCH"} else None
                    )
                    for end in ("", "/")
                ]
                asked += 1
                assert nowhere not in plain.text, (method, path)
                assert plain.status_code == slashed.status_code, (method, path)
                said: list[object] = [answer.content for answer in (plain, slashed)]
                if path == "/metrics":  # figures change from one answer to the next, what they are of does not
                    said = [re.findall(r"^# TYPE .*$", answer.text, re.MULTILINE) for answer in (plain, slashed)]
                    assert said[0]
                assert method == "PUT" or said[0] == said[1], (method, path)
                assert plain.status_code != 405
    assert asked > 40


# --- errors
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "not_found"),
        ("GET", "/api/nowhere/", None, 404, "not_found"),
        ("GET", "/api/v1/animals/x/y/z", None, 404, "not_found"),
        ("GET", "/api/schema/openapi.json/nowhere", None, 404, "not_found"),
        ("GET", "/api/assets/..%2f..%2fhome.py", None, 404, "not_found"),
        ("GET", "/api/assets/.done", None, 404, "not_found"),
        ("PATCH", "/api/v1/animals/", b"{}", 405, "method_not_allowed"),
        ("DELETE", "/health/", None, 405, "method_not_allowed"),
        ("POST", "/api/v1/animals/", b"", 400, "invalid"),
        ("POST", "/api/v1/animals/", b"{", 400, "invalid"),
        ("POST", "/api/v1/animals/", b"[]", 400, "invalid"),
        ("POST", "/api/v1/animals/", b"null", 400, "invalid"),
        ("POST", "/api/v1/animals/", b'{"name": "\xff", "species": "x"}', 400, "invalid"),
        ("POST", "/api/v1/animals/", b'{"name": "\\ud800", "species": "x"}', 400, "invalid"),
        ("POST", "/api/v1/tracking/bulk_upload/", b"[" * 100_000, 400, "invalid"),
        ("POST", "/api/v1/animals/", b'{"name": ' + b"[" * 100_000, 400, "invalid"),
        ("POST", "/api/v1/animals/", b" " * (MAX_BODY_BYTES + 1), 413, "too_large"),
        ("GET", "/api/v1/animals/?page=%00", None, 400, "invalid"),
    ],
)
async def test_every_refusal_has_one_shape(
    refused: httpx.AsyncClient, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    answer = await refused.request(method, path, content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["code", "detail"]
    assert answer.json()["code"] == code
    assert answer.json()["detail"]


@pytest.mark.parametrize("sent", [b"%ff", b"%00", b"%2e%2e", b"a" * 5000, b"%", "\u00e9".encode()])
async def test_odd_ids_are_refused_and_never_crash(refused: httpx.AsyncClient, sent: bytes) -> None:
    for area in (
        "animals", "tracking", "collars", "deployments", "tracking/observations", "conflict-zones", "corridors",
        "alerts",
    ):  # fmt: skip
        answer = await refused.get(httpx.URL(f"http://station/api/v1/{area}/{sent.decode()}"))
        assert answer.status_code in {200, 404}, (area, sent)


async def test_an_unmeant_failure_is_logged_once_and_its_cause_stays_inside() -> None:
    with capture_logs() as logs:
        async with client_of(application(FailingStore(ZeroDivisionError("the secret of the reserve")))) as client:
            answer = await client.get("/api/v1/animals/")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    told = [entry for entry in logs if entry["event"] != "api.served"]
    assert [(entry["event"], entry["path"]) for entry in told] == [("api.failed", "/api/v1/animals")]


async def test_a_full_disk_is_told_as_such() -> None:
    async with client_of(application(FailingStore(StoreFull("no room")))) as client:
        answer = await client.get("/api/v1/animals/")
    assert (answer.status_code, answer.json()) == (507, {"code": "store_full", "detail": "no room"})


async def test_a_limited_caller_is_told_when_to_come_back() -> None:
    async with client_of(application(FailingStore(RateLimited("too many", 1.2)))) as client:
        answer = await client.get("/api/v1/animals/")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")


# --- headers and origins
@pytest.mark.parametrize("path", ["/", "/api/v1/animals/", "/api/docs/", "/api/redoc/", "/health/", "/nowhere"])
async def test_every_answer_carries_the_guarding_headers(refused: httpx.AsyncClient, path: str) -> None:
    headers = (await refused.get(path)).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src ")
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy
    assert "frame-ancestors 'none'" in policy


async def test_pages_of_other_sites_may_not_write() -> None:
    body = {"name": "Alpha", "species": "Lion"}
    async with client_of(application(allowed_origins=["https://dashboard.example/"])) as client:
        for origin, status in (
            ("http://evil.example", 403),
            ("null", 403),
            ("http://station.evil.example", 403),
            ("http://station", 201),
            ("https://dashboard.example", 201),
        ):
            answer = await client.post("/api/v1/animals/", json=body, headers={"origin": origin})
            assert answer.status_code == status, origin
            assert (await client.get("/api/v1/animals/", headers={"origin": origin})).status_code == 200
        assert (await client.post("/api/v1/animals/", json=body)).status_code == 201
        allowed = await client.get("/api/v1/animals/", headers={"origin": "https://dashboard.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://dashboard.example"


async def test_a_name_that_is_not_the_homes_is_not_served() -> None:
    app = application(allowed_hosts=["station", "localhost"])
    async with client_of(app) as ours, client_of(app, "http://evil.example") as theirs:
        assert (await ours.get("/health/")).status_code == 200
        assert (await theirs.get("/health/")).status_code == 400


# --- health
async def test_health_says_what_the_station_says() -> None:
    health = FakeHealth()
    clock = FakeClock()
    app = create_app(
        InMemoryStore(lambda: START), health=health, events=EventHub(), clock=clock, accounts=accounts_over(None, clock)
    )
    async with client_of(app) as client:
        assert (await client.get("/health/")).json() == {"status": "ok"}
        assert (await client.get("/health/live")).json() == {"status": "ok"}
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        assert (await client.get("/health/detail")).json()["clock"]["state"] == "ntp"
        health.word, health.is_up = "failing", False
        failing, starting = await client.get("/health"), await client.get("/health/ready/")
        assert (failing.status_code, failing.json()) == (503, {"status": "failing"})
        assert (starting.status_code, starting.json()) == (503, {"status": "starting"})
        health.word = "degraded"
        assert (await client.get("/health/")).status_code == 200


# --- documentation
async def test_every_operation_is_described_and_its_errors_have_our_shape(refused: httpx.AsyncClient) -> None:
    document = (await refused.get("/api/schema/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            operations += 1
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            assert operation["tags"], (method, path)
            for status, response in operation["responses"].items():
                for media in response.get("content", {}).values():
                    schema = media["schema"]
                    is_state = status == "503" and path in STATES
                    is_error = int(status) >= 400 and not is_state
                    assert is_error == (schema.get("$ref") == "#/components/schemas/ErrorOut"), (method, path, status)
    assert operations > 30
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(ids)) == len(ids)


@pytest.fixture(params=["without files", "with files"])
async def documented(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of a station without and with the fetched files."""
    if request.param == "with files":
        for name in (
            "swagger-ui.css",
            "swagger-ui-bundle.js",
            "swagger-ui-standalone-preset.js",
            "redoc.standalone.js",
        ):
            (tmp_path / name).write_text(f"/* {name} */")
    async with client_of(application(assets=tmp_path)) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/api/docs/", "/api/redoc/"])
async def test_no_page_needs_the_internet(documented: httpx.AsyncClient, path: str) -> None:
    answer = await documented.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "//" not in answer.text.replace("<!DOCTYPE html>", "")
    assert 'rel="icon" href="' in answer.text
    assert "<script>" not in answer.text
    for reference in re.findall(r'(?:src|href|spec-url)="([^"]+)"', answer.text):
        if reference not in {"data:,", "/api/v1/events"}:
            found = await documented.get(reference)
            assert found.status_code == 200, reference


async def test_pages_without_their_files_say_how_to_get_them(tmp_path: Path) -> None:
    async with client_of(application(assets=tmp_path / "none")) as client:
        for path in ("/api/docs/", "/api/redoc/"):
            page = await client.get(path)
            assert "make run" in page.text
            assert "<script" not in page.text
        assert (await client.get("/api/assets/swagger-ui.css")).status_code == 404


async def test_only_the_known_files_are_served(tmp_path: Path) -> None:
    (tmp_path / "swagger-ui.css").write_text("body {}")
    (tmp_path / "secret.txt").write_text("secret")
    async with client_of(application(assets=tmp_path)) as client:
        css = await client.get("/api/assets/swagger-ui.css")
        assert (css.status_code, css.headers["content-type"]) == (200, "text/css; charset=utf-8")
        assert css.headers["x-content-type-options"] == "nosniff"
        assert (await client.get("/api/assets/secret.txt")).status_code == 404


def test_the_lock_of_the_pages_scripts_names_no_registry() -> None:
    folder = Path(__file__).parents[2] / "shared" / "api"
    lock = (folder / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert "://" not in lock
    assert '"integrity"' in lock
    pinned = re.findall(r'"(?:redoc|swagger-ui-dist)": "([^"]+)"', (folder / "package.json").read_text())
    assert len(pinned) == 2
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pinned)
