"""Whose pages may call a home, and under which names it answers: at both homes, by the configuration alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar

from cloud.api.app import create_app as create_cloud
from cloud.store.store import PostgresStore
from edge.api.app import create_app as create_station
from edge.api.events import EventHub
from tests.access import accounts_over
from tests.fakes import START, FakeClock, FakeHealth
from tests.memory_store import InMemoryStore

pytestmark = [pytest.mark.api, pytest.mark.auth]

DASHBOARD = "https://dashboard.example"
PATH = "/health/live"


def station(**options: Any) -> Litestar:
    clock = FakeClock()
    return create_station(
        InMemoryStore(lambda: START), health=FakeHealth(), events=EventHub(), clock=clock,
        accounts=accounts_over(None, clock), **options,
    )  # fmt: skip


def cloud(**options: Any) -> Litestar:
    clock = FakeClock()
    store = PostgresStore(cast("Any", None), now=clock.now)  # what is asked here never reaches it
    return create_cloud(store, clock=clock, accounts=accounts_over(None, clock), rosters=cast("Any", None), **options)


HOMES = pytest.mark.parametrize("home", [station, cloud], ids=["station", "cloud"])


def client_of(app: Litestar, base_url: str = "http://home.example") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(cast("Any", app)), base_url=base_url)


@HOMES
async def test_without_a_list_no_other_site_s_page_reads_or_writes(home: Callable[..., Litestar]) -> None:
    async with client_of(home()) as client:
        for origin in (DASHBOARD, "null", "https://home.example.evil.example"):
            read = await client.get(PATH, headers={"Origin": origin})
            assert not [name for name in read.headers if name.startswith("access-control-")], origin
            asked = await client.options(
                "/api/v1/animals/", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
            )
            assert not [name for name in asked.headers if name.startswith("access-control-")], origin
            written = await client.post(
                "/api/v1/auth/login/", headers={"Origin": origin}, json={"email": "a@b.example"}
            )
            assert (written.status_code, written.json()["code"]) == (403, "forbidden"), origin


@HOMES
async def test_a_listed_site_s_page_may_and_its_neighbours_may_not(home: Callable[..., Litestar]) -> None:
    async with client_of(home(allowed_origins=[f"{DASHBOARD}/"])) as client:
        for origin, is_allowed in (
            (DASHBOARD, True), ("http://dashboard.example", False), (f"{DASHBOARD}:8443", False),
            ("https://dashboard.example.evil.example", False), ("https://sub.dashboard.example", False),
        ):  # fmt: skip
            asked = await client.options(
                "/api/v1/animals/", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
            )
            assert (asked.headers.get("access-control-allow-origin") == origin) == is_allowed, origin
            assert asked.headers.get("access-control-allow-origin") != "*"
            assert "access-control-allow-credentials" not in asked.headers
            written = await client.post("/api/v1/auth/logout/", headers={"Origin": origin}, json={})
            assert (written.status_code == 401) == is_allowed, (origin, written.text)  # let through to who asks


@HOMES
async def test_a_home_answers_to_its_names_and_to_addresses_alone(home: Callable[..., Litestar]) -> None:
    app = home(allowed_hosts=["home.example", "*.reserve.example"])
    for host, is_answered in (
        ("home.example", True), ("HOME.example:8000", True), ("post.reserve.example", True), ("192.0.2.7:8000", True),
        ("[2001:db8::1]", True), ("localhost", True), ("evil.example", False), ("home.example.evil.example", False),
        ("reserve.example", False), ("evilreserve.example", False),
    ):  # fmt: skip
        async with client_of(app) as client:
            answer = await client.get(PATH, headers={"Host": host})
        assert (answer.status_code == 200) == is_answered, host
        if not is_answered:
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), host
