"""The pages of both homes without a browser: a plain form lets in, no script is needed to read, files and maps."""

from __future__ import annotations

import gzip
import html
import json
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
from litestar import Litestar

from cloud.api.app import create_app as create_cloud
from cloud.store.store import PostgresStore
from edge.api.app import create_app
from edge.api.events import EventHub
from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.domain import NewFix
from shared.privacy import OPERATOR, view_for
from shared.sayings import say, words_of
from shared.store import Store
from tests.access import accounts_over, logged_in, person, rosters_over
from tests.contract.conftest import client_of, session_of
from tests.fakes import START, FakeClock, FakeHealth, FakeMessenger

pytestmark = [pytest.mark.api, pytest.mark.web, pytest.mark.usefixtures("only_homes")]

PASSWORD = "nine wild dogs at dawn"
OPERATORS = view_for(OPERATOR)
ALERT = {"alert_type": "high_risk_zone", "severity": "critical", "title": "high_risk_zone", "message": "at <the> farm"}


async def begun(nobody: httpx.AsyncClient, email: str, password: str) -> httpx.Response:
    return await nobody.post(
        "/session", data={"email": email, "password": password}, headers={"Origin": "http://station"}
    )


def hidden(page: httpx.Response) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))


async def test_a_person_logs_in_by_a_plain_form_reads_status_and_alerts_and_logs_out(
    nobody: httpx.AsyncClient, client: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    _, seed, _ = await accounts.add_user(
        OPERATOR, email="asha@example.org", name="Asha", role="ranger", password=PASSWORD, stations=("*",)
    )
    assert seed is not None
    assert (await client.post("/api/v1/alerts/", json=ALERT)).status_code == 201
    assert "high_risk_zone" not in (await nobody.get("/")).text
    nobody.cookies.set("outpost_lang", "fr")
    wrong = await begun(nobody, "asha@example.org", "hyena hyena hyena")
    assert (wrong.status_code, 'role="alert"' in wrong.text) == (400, True)
    assert words_of("fr")["refused.not_right"] in html.unescape(wrong.text)
    nobody.cookies.delete("outpost_lang")
    asked = await begun(nobody, "asha@example.org", PASSWORD)
    assert (asked.status_code, hidden(asked)["factor"]) == (200, "totp")
    form = {**hidden(asked), "code": pyotp.TOTP(seed).at(clock.now())}
    entered = await nobody.post("/session/code", data=form, headers={"Origin": "http://station"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    still = {**ALERT, "title": say("alarm.still", animal="Naisha", hours=7)}
    assert (await client.post("/api/v1/alerts/", json=still)).status_code == 201
    page = await nobody.get("/", headers={"Accept-Language": "sw-KE,sw;q=0.9,en;q=0.5"})
    assert "Naisha hajasogea kwa saa 7" in page.text
    assert '<html lang="sw">' in page.text
    assert "at &lt;the&gt; farm" in page.text
    assert "Tahadhari hai" in page.text
    assert page.headers["cache-control"] == "no-store"
    assert (await nobody.post("/session/end", data={"csrf": "0" * 32})).status_code == 403
    out = await nobody.post("/session/end", data={"csrf": hidden(page)["csrf"]})
    assert out.status_code == 303
    assert 'name="password"' in (await nobody.get("/")).text


async def test_a_person_registers_by_a_plain_form_at_the_cloud_alone_and_begins_as_a_viewer(
    nobody: httpx.AsyncClient, accounts: Accounts, store: Store, outbox: FakeMessenger
) -> None:
    own = {"Origin": "http://station"}
    said = {"name": "Naserian <b>", "email": "naserian@example.org", "password": "six ostriches run east"}
    if not isinstance(store, PostgresStore):
        assert "/session/register" not in (await nobody.get("/")).text
        assert (await nobody.post("/session/register", data=said, headers=own)).status_code == 400
        return
    assert 'action="/session/register"' in (await nobody.get("/")).text
    short = await nobody.post("/session/register", data={**said, "password": "short"}, headers=own)
    assert (short.status_code, 'role="alert"' in short.text, "Naserian &lt;b&gt;" in short.text) == (400, True, True)
    assert "short" not in short.text.split("<form", 2)[2]  # a password is not said back
    asked = await nobody.post("/session/register", data=said, headers=own)
    assert (asked.status_code, hidden(asked)) == (200, {"email": "naserian@example.org"})
    wrong = await nobody.post("/session/register/code", data={**hidden(asked), "code": "1"}, headers=own)
    assert wrong.status_code == 400
    ((_, to, code),) = outbox.sent
    entered = await nobody.post("/session/register/code", data={"email": to, "code": code}, headers=own)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert (await accounts.user("naserian@example.org")).role == "viewer"
    assert (
        json.loads(re.findall(r'id="boot">(.*?)</script>', (await nobody.get("/")).text)[0])["user"]["role"] == "viewer"
    )


async def test_a_form_of_another_site_logs_nobody_in(nobody: httpx.AsyncClient) -> None:
    answer = await nobody.post("/session", data={"email": "a@example.org"}, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403


async def test_a_viewer_reads_that_there_is_an_alert_and_nothing_of_the_station(
    app: Litestar, client: httpx.AsyncClient, accounts: Accounts, viewer_user: User
) -> None:
    await client.post("/api/v1/alerts/", json={**ALERT, "latitude": -2.76943, "longitude": 37.12345})
    access, _ = await logged_in(accounts, viewer_user)
    async with client_of(app) as viewer:
        viewer.cookies.set("outpost_access", access)
        page = await viewer.get("/")
    assert '"role": "viewer"' in page.text
    assert "the farm" not in page.text
    assert "37.12" not in page.text


def home_over(store: Store, clock: FakeClock, dist: Path, maps: Path | None = None) -> Litestar:
    accounts = accounts_over(store, clock)
    if isinstance(store, PostgresStore):
        return create_cloud(store, clock=clock, accounts=accounts, rosters=rosters_over(store, accounts), dist=dist)
    return create_app(
        store, health=FakeHealth(), events=EventHub(), clock=clock, accounts=accounts, dist=dist, maps=maps
    )


async def test_without_the_built_files_the_page_says_how_to_build_them(
    store: Store, clock: FakeClock, tmp_path: Path
) -> None:
    async with client_of(home_over(store, clock, tmp_path / "none")) as client:
        page = await client.get("/")
        assert ".ci/web" in page.text
        assert '<script type="module"' not in page.text
        assert 'name="password"' in page.text
        assert (await client.get("/app/station.js")).status_code == 404


async def test_built_files_are_kept_for_good_packed_and_nothing_else_is_served(
    store: Store, clock: FakeClock, tmp_path: Path
) -> None:
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "page-AbCd1234.js").write_text("1")
    (dist / "page-AbCd1234.js.gz").write_bytes(gzip.compress(b"1"))
    (dist / "world.json").write_text("{}")
    (dist / "manifest.json").write_text(json.dumps({}))
    (tmp_path / "secret.js").write_text("secret")
    async with client_of(home_over(store, clock, dist)) as client:
        packed = await client.get("/app/page-AbCd1234.js")
        assert (packed.text, packed.headers["content-encoding"]) == ("1", "gzip")
        assert packed.headers["content-type"].startswith("text/javascript")
        assert "immutable" in packed.headers["cache-control"]
        plain = await client.get("/app/page-AbCd1234.js", headers={"Accept-Encoding": "identity"})
        assert (plain.text, "content-encoding" in plain.headers) == ("1", False)
        assert "immutable" not in (await client.get("/app/world.json")).headers["cache-control"]
        for name in ("manifest.json", "page-AbCd1234.js.gz", "..%2Fsecret.js", ".hidden", "nothing.js"):
            assert (await client.get(f"/app/{name}")).status_code == 404, name


async def test_a_reserves_map_is_read_in_pieces_by_people_of_the_home_alone(
    store: Store, clock: FakeClock, tmp_path: Path
) -> None:
    if isinstance(store, PostgresStore):
        pytest.skip("a station's folder")
    (tmp_path / "reserve.pmtiles").write_bytes(bytes(range(100)) * 2000)
    (tmp_path / "notes.txt").write_text("secret")
    app = home_over(store, clock, tmp_path / "none", tmp_path)
    accounts: Accounts = app.state["accounts"]
    async with client_of(app) as nobody:
        assert (await nobody.get("/basemap/reserve.pmtiles")).status_code == 401
    async with client_of(app, await session_of(accounts, await person(accounts, "viewer"))) as client:
        part = await client.get("/basemap/reserve.pmtiles", headers={"Range": "bytes=100-109"})
        assert (part.status_code, part.content) == (206, bytes(range(10)))
        assert part.headers["content-range"] == "bytes 100-109/200000"
        last = await client.get("/basemap/reserve.pmtiles", headers={"Range": "bytes=-1"})
        assert last.content == bytes([99])
        whole = await client.get("/basemap/reserve.pmtiles")
        assert (whole.status_code, len(whole.content), whole.headers["accept-ranges"]) == (200, 200_000, "bytes")
        changed = await client.get("/basemap/reserve.pmtiles", headers={"Range": "bytes=0-9", "If-Range": '"other"'})
        assert (changed.status_code, len(changed.content)) == (200, 200_000)
        behind = await client.get("/basemap/reserve.pmtiles", headers={"Range": "bytes=200000-"})
        assert (behind.status_code, behind.headers["content-range"]) == (416, "bytes */200000")
        for name in ("notes.txt", "other.pmtiles", "..%2Freserve.pmtiles"):
            assert (await client.get(f"/basemap/{name}")).status_code == 404, name


async def walk(store: Store, make_animal: Callable[..., Awaitable[dict[str, Any]]], count: int) -> dict[str, Any]:
    animal = await make_animal()
    await store.create_deployment(
        OPERATORS, {"animal_id": animal["id"], "collar_id": "K2", "started_at": START - timedelta(days=9)}
    )
    await store.add_fixes(
        OPERATORS,
        [
            NewFix(
                device="K2", recorded_at=START - timedelta(minutes=30 * n), received_at=START,
                lon_deg=37.0 + n / 1000, lat_deg=-2.5 + n / 1000,
            )
            for n in range(count)
        ],
    )  # fmt: skip
    return animal


async def test_the_trails_of_all_animals_come_in_one_answer_by_time_with_states_where_they_are_kept(
    store: Store,
    client: httpx.AsyncClient,
    clock: FakeClock,
    make_animal: Callable[..., Awaitable[dict[str, Any]]],
    settle: Callable[[], Awaitable[None]],
) -> None:
    animal = await walk(store, make_animal, 40)
    await settle()
    found = (await client.get("/api/v1/animals/trails/?hours=24")).json()
    (trail,) = found["animals"]
    assert trail["animal_id"] == animal["id"]
    assert len(trail["at_ms"]) == len(trail["lon"]) == len(trail["lat"]) == len(trail["state"]) == 40
    assert trail["at_ms"] == sorted(trail["at_ms"])
    assert trail["lon"][-1] == 37.0
    if not isinstance(store, PostgresStore):
        assert any(state >= 0 for state in trail["state"])
        assert set(found["states"]) <= {"resting", "foraging", "migrating"}
    clock.tick(6)
    few = (await client.get("/api/v1/animals/trails/?hours=24&points=5")).json()
    assert (few["animals"][0]["lon"][-1], len(few["animals"][0]["lon"]), few["is_cut"]) == (37.0, 5, True)


async def test_an_administrator_of_the_cloud_invites_and_retires_stations(
    store: Store, app: Litestar, accounts: Accounts, admin_client: httpx.AsyncClient
) -> None:
    if not isinstance(store, PostgresStore):
        pytest.skip("only the cloud has stations")
    made = await admin_client.post("/api/v1/stations/", json={"name": "North Post"})
    assert made.status_code == 201, made.text
    assert made.json()["id"] == "north-post"
    assert re.fullmatch(r"(?:[0-9A-Z]{4}-){3}[0-9A-Z]{4}", made.json()["code"])
    enrolled = await admin_client.post(
        "/api/v1/stations/enrol", json={"code": made.json()["code"], "public_key": "ab" * 32}
    )
    assert enrolled.status_code == 201, enrolled.text
    (station,) = (await admin_client.get("/api/v1/stations/")).json()
    assert (station["id"], station["name"], station["is_retired"]) == ("north-post", "North Post", False)
    again = await admin_client.post("/api/v1/stations/", json={"name": "North Post"})
    assert again.status_code == 409
    assert (await admin_client.post("/api/v1/stations/", json={"name": "?!"})).status_code == 400
    manager = await person(accounts, "conservation_manager", stations=("elsewhere",))
    async with client_of(app, await session_of(accounts, manager)) as client:
        assert (await client.get("/api/v1/stations/")).json() == []
        assert (await client.post("/api/v1/stations/", json={"name": "South"})).status_code == 403
    retired = await admin_client.post("/api/v1/stations/north-post/retire/")
    assert retired.json()["is_retired"] is True
    lines = (await admin_client.get("/api/v1/audit/")).json()["results"]
    assert {"station.invite", "station.retire"} <= {line["action"] for line in lines}
