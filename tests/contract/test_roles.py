"""The one table of roles, walked: every route of both homes, each role at each, nobody, and API keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar, get
from litestar.routes import HTTPRoute

from cloud.api.app import create_app as create_cloud
from cloud.store.store import PostgresStore
from edge.api.app import create_app
from edge.api.events import EventHub
from edge.api.trust import Trust
from shared.accounts import roles
from shared.accounts.roles import ALL, RULES, Rule, rule_of
from shared.accounts.service import Accounts
from shared.accounts.users import ROLES, User
from shared.privacy import OPERATOR, Role
from tests.access import TokenAuth, accounts_over, logged_in, person
from tests.contract.conftest import client_of
from tests.fakes import START, FakeClock, FakeHealth
from tests.memory_store import InMemoryStore

pytestmark = [pytest.mark.api, pytest.mark.auth, pytest.mark.usefixtures("only_homes")]

#: Answers without an end: whether it begins is all that is asked here.
ENDLESS = "/api/v1/events"
#: What a viewer asks for and takes back, of no record.
VIEWERS_OWN = {
    "DELETE /api/v1/jobs/{job_id}", "POST /api/v1/exports", "POST /api/v1/reports", "POST /api/v1/phones/codes",
    "POST /api/v1/phones/{phone_id}/revoke",
}  # fmt: skip
_PART = re.compile(r"\{[^}]+\}")


def routes_of(app: Litestar) -> Iterator[tuple[str, str]]:
    """Give method and path of every route; HEAD is GET without a body, under the same rule."""
    for route in app.routes:
        assert isinstance(route, HTTPRoute), route
        for method in sorted(route.route_handler_map):
            if method not in ("OPTIONS", "HEAD"):
                yield method, route.path_format


def url_of(path: str) -> str:
    return _PART.sub(lambda part: "1" if part[0] in ("{n}", "{z}", "{x}") else "nothing", path)


async def asked(
    app: Litestar, method: str, path: str, accounts: Accounts, user: User | None, *, is_fresh: bool = True
) -> httpx.Response:
    """Return the answer to a request without a body, in a session of its own."""
    auth = None
    if user is not None:
        access, _ = await logged_in(accounts, user, is_fresh=is_fresh)
        auth = TokenAuth(lambda: access)
    async with client_of(app, auth) as client:
        # a station's fixes are of a collar, a file has a size, and what is missing is told before who asks
        needed = {"fixes": {"collar_id": "K1"}, "{sha256}": {"size": "1"}}.get(path.rpartition("/")[2], {})
        return await client.request(method, url_of(path), params=needed)


async def people(accounts: Accounts) -> dict[Role, User]:
    for_all = {role: await person(accounts, role) for role in ROLES}
    await person(accounts, "admin", name="another")  # so that no test takes the last one's right
    return for_all


async def test_every_route_of_the_home_is_in_the_table(app: Litestar) -> None:
    missing = [f"{method} {path}" for method, path in routes_of(app) if rule_of(method, path) is roles.CLOSED]
    assert missing == []


async def test_the_table_names_no_route_that_neither_home_has() -> None:
    clock = FakeClock()
    accounts = accounts_over(None, clock)
    station = create_app(
        InMemoryStore(lambda: START), health=FakeHealth(), events=EventHub(), clock=clock, accounts=accounts,
        alarms=cast("Any", object()), trust=Trust(station="s", fingerprint="", pin="", pem=b""),
    )  # fmt: skip
    store = PostgresStore(cast("Any", None), now=clock.now)
    cloud = create_cloud(store, clock=clock, accounts=accounts, rosters=cast("Any", None))
    known = {f"{method} {path}" for app in (station, cloud) for method, path in routes_of(app)}
    assert sorted(set(RULES) - known) == []


async def test_nobody_gets_in_but_where_the_table_says_so(app: Litestar, accounts: Accounts) -> None:
    for method, path in routes_of(app):
        answer = await asked(app, method, path, accounts, None)
        rule = rule_of(method, path)
        if rule.access == "open":
            assert answer.status_code not in (401, 403) or "/auth/" in path or path.endswith("enrol"), (method, path)
        else:
            assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated"), (method, path)


async def test_each_role_gets_in_where_the_table_says_so_and_nowhere_else(app: Litestar, accounts: Accounts) -> None:
    known = await people(accounts)
    seen = 0
    for method, path in routes_of(app):
        rule = rule_of(method, path)
        if rule.access in ("open", "signed"):
            continue
        for role, user in known.items():
            if rule.allows(role, accounts.home) and path == ENDLESS:
                continue
            answer = await asked(app, method, path, accounts, user)
            where = (method, path, role, answer.text)
            if rule.allows(role, accounts.home):
                assert answer.status_code not in (401, 403), where
                seen += 1
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), where
    assert seen > 150


async def test_what_cannot_be_undone_asks_for_a_fresh_factor(app: Litestar, accounts: Accounts) -> None:
    admin = await person(accounts, "admin")
    sensitive = [(method, path) for method, path in routes_of(app) if rule_of(method, path).needs_factor]
    assert {path.split("/")[3] for _, path in sensitive} >= {"users", "api-keys", "animals", "conflict-zones"}
    for method, path in sensitive:
        answer = await asked(app, method, path, accounts, admin, is_fresh=False)
        assert (answer.status_code, answer.json()["code"]) == (403, "factor_required"), (method, path)


async def test_a_key_opens_what_its_scopes_name_and_nothing_that_asks_for_a_factor(
    app: Litestar, accounts: Accounts
) -> None:
    for scope in sorted(roles.SCOPES):
        _, text = await accounts.make_key(OPERATOR, name="gateway", role="ranger", scopes=[scope], stations=("*",))
        for method, path in routes_of(app):
            rule = rule_of(method, path)
            if rule.access != "token" or path == ENDLESS:
                continue
            async with client_of(app) as client:
                answer = await client.request(method, url_of(path), headers={"X-API-Key": text})
            is_open = rule.scope == scope and not rule.needs_factor and rule.allows("ranger", accounts.home)
            assert (answer.status_code not in (401, 403)) == is_open, (scope, method, path, answer.text)


async def test_a_route_that_the_table_does_not_name_is_for_administrators() -> None:
    @get("/api/v1/new-thing", sync_to_thread=False)
    def new_thing() -> str:
        return "secret"

    clock = FakeClock()
    accounts = accounts_over(None, clock)
    app = create_app(
        InMemoryStore(lambda: START), health=FakeHealth(), events=EventHub(), clock=clock, accounts=accounts
    )
    app.register(new_thing)
    got = {
        role: (await asked(app, "GET", "/api/v1/new-thing", accounts, await person(accounts, role))).status_code
        for role in ROLES
    }
    assert got == {"admin": 200, "conservation_manager": 403, "ranger": 403, "viewer": 403}
    assert (await asked(app, "GET", "/api/v1/new-thing", accounts, None)).status_code == 401


def test_the_table_says_what_the_design_says() -> None:
    def may(role: Role, method: str, path: str, home: roles.Home = "station") -> bool:
        rule = rule_of(method, path)
        assert isinstance(rule, Rule)
        return rule.allows(role, home)

    writes = [key.split(" ", 1) for key, rule in RULES.items() if rule.access == "token" and "/auth/" not in key]
    changing = {f"{method} {path}" for method, path in writes if method != "GET" and may("viewer", method, path)}
    assert changing <= VIEWERS_OWN
    assert may("ranger", "POST", "/api/v1/animals")
    assert not may("ranger", "POST", "/api/v1/animals", "cloud")
    assert not may("ranger", "DELETE", "/api/v1/animals/{animal_id}")
    assert may("ranger", "POST", "/api/v1/alerts/{alert_id}/acknowledge")
    assert not may("ranger", "POST", "/api/v1/conflict-zones")
    assert may("conservation_manager", "POST", "/api/v1/conflict-zones")
    assert not may("conservation_manager", "POST", "/api/v1/api-keys")
    assert roles.granted_by("conservation_manager") == {"ranger", "viewer"}
    assert roles.granted_by("admin") == ALL
    assert not roles.granted_by("ranger")
    assert rule_of("HEAD", "/api/v1/animals/") == rule_of("GET", "/api/v1/animals")


async def test_what_is_open_on_the_machine_itself_is_closed_to_who_comes_through_a_proxy_on_it(app: Litestar) -> None:
    transport = httpx.ASGITransport(cast("Any", app))
    for path in ("/api/docs/", "/api/schema/openapi.json", "/health/detail"):
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as here:
            assert (await here.get(path)).status_code == 200
            assert (await here.get(path, headers={"X-Forwarded-For": "10.0.0.9"})).status_code == 401
            assert (await here.get(path, headers={"Host": "post.example"})).status_code == 401
            assert (await here.get("/api/v1/animals/")).status_code == 401
        far = httpx.ASGITransport(cast("Any", app), client=("10.0.0.9", 1))
        async with httpx.AsyncClient(transport=far, base_url="http://localhost:8000") as there:
            assert (await there.get(path)).status_code == 401
