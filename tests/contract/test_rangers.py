"""/api/v1/rangers over every store: teams, rangers, positions, logs, routes, and who sees what of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from cloud.store import batches
from cloud.store.records import note
from cloud.store.store import PostgresStore
from edge.api.app import create_app
from edge.api.events import EventHub
from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.ids import derived_id
from shared.privacy import OPERATOR, Role, View
from shared.store import PatrolLogQuery, RangerPositionQuery, RangerQuery, Store
from shared.sync.operations import Operation
from shared.sync.records import to_ms
from tests.access import accounts_over, operator_of, person
from tests.contract.conftest import client_of, session_of
from tests.fakes import START, FakeClock, FakeHealth
from tests.memory_store import InMemoryStore

pytestmark = pytest.mark.api

PATH = "/api/v1/rangers"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
NOON = "2026-06-01T12:00:00Z"
HERE = {"lat": -2.7, "lon": 37.1}

Login = Callable[..., Any]


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    """Post a body and return what was made of it."""
    answer = await client.post(f"{PATH}/{path}", json=body)
    assert answer.status_code in (200, 201), answer.text
    made: dict[str, Any] = answer.json()
    return made


async def get(client: httpx.AsyncClient, path: str) -> Any:
    """Return what a path shows."""
    answer = await client.get(f"{PATH}/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def shown(client: httpx.AsyncClient, path: str, key: str = "id") -> list[Any]:
    """Return one field of every row of a list."""
    return [row[key] for row in (await get(client, path))["results"]]


@pytest.fixture
def login(app: Litestar, accounts: Accounts) -> Login:
    """Give a function that logs a person of a role in."""

    @asynccontextmanager
    async def enter(
        role: Role, name: str, stations: tuple[str, ...] = ("*",)
    ) -> AsyncIterator[tuple[httpx.AsyncClient, User]]:
        user = await person(accounts, role, name=name, stations=stations)
        async with client_of(app, await session_of(accounts, user)) as client:
            yield client, user

    return enter


# --- what is kept
async def test_a_team_and_its_rangers_live_and_die(client: httpx.AsyncClient, ranger_user: User) -> None:
    team = await post(client, "teams/", name=" Alpha ", description="north")
    assert list(team) == ["id", "name", "description", "is_active", "ranger_count", "created_at", "updated_at", "rev"]
    assert (team["name"], team["is_active"], team["ranger_count"]) == ("Alpha", True, 0)
    ranger = await post(client, "rangers/", user=ranger_user.id, badge_number="R-7", team=team["id"], phone="+254 700")
    assert ranger == {
        "id": ranger["id"], "user": ranger_user.id, "name": ranger_user.name, "badge_number": "R-7",
        "team": team["id"], "phone": "+254 700", "emergency_contact": None, "current_status": "off_duty",
        "device_id": None, "created_at": NOON, "updated_at": NOON, "rev": 1,
    }  # fmt: skip
    assert (await get(client, f"teams/{team['id']}/"))["ranger_count"] == 1
    path = f"{PATH}/rangers/{ranger['id']}/"
    changed = (await client.patch(path, json={"current_status": "on_leave", "name": "Asha"})).json()
    assert (changed["current_status"], changed["name"], changed["rev"]) == ("on_leave", "Asha", 2)
    written = (await client.put(path, json={"badge_number": "R-8"})).json()
    assert (written["badge_number"], written["name"]) == ("R-8", "Asha")
    renamed = (await client.put(f"{PATH}/teams/{team['id']}/", json={"name": "Beta", "is_active": False})).json()
    assert (renamed["name"], renamed["is_active"], renamed["description"]) == ("Beta", False, "north")
    taken = await client.delete(f"{PATH}/teams/{team['id']}/")
    assert (taken.status_code, taken.json()["code"]) == (409, "conflict")
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert (await client.delete(f"{PATH}/teams/{team['id']}/")).status_code == 204
    assert await shown(client, "teams/") == []


async def test_a_ranger_names_an_account_once_and_a_team_that_is_there(
    client: httpx.AsyncClient, ranger_user: User
) -> None:
    ranger = await post(client, "rangers/", user=ranger_user.id, badge_number="1")
    for body, status, detail in (
        ({"badge_number": "2", "user": ranger_user.id}, 409, "user: this account is a ranger's already"),
        ({"badge_number": "2", "user": UNKNOWN}, 400, f"user: there is no account {UNKNOWN}"),
        ({"badge_number": "2", "name": "B", "team": UNKNOWN}, 400, f"team: there is no team {UNKNOWN}"),
        ({"badge_number": "2"}, 400, "name: is required where no user is named"),
        ({"name": "B"}, 400, "badge_number: is required"),
        ({"badge_number": "2", "name": "B", "current_status": "asleep"}, 400,
         "current_status: must be one of emergency_response, off_duty, on_duty, on_leave"),
    ):  # fmt: skip
        answer = await client.post(f"{PATH}/rangers/", json=body)
        assert (answer.status_code, answer.json()["detail"]) == (status, detail)
    again = await client.patch(f"{PATH}/rangers/{ranger['id']}/", json={"user": ranger_user.id})
    assert again.status_code == 200


async def test_lists_are_filtered_searched_and_ordered(client: httpx.AsyncClient, clock: FakeClock) -> None:
    alpha = await post(client, "teams/", name="Alpha", description="north")
    await post(client, "teams/", name="Beta", is_active=False)
    for name, badge, team, status in (("Cy", "1", alpha, "on_duty"), ("Ayo", "3", None, "off_duty"),
                                      ("Bo", "2", alpha, "off_duty")):  # fmt: skip
        said = {"team": team["id"]} if team else {}
        await post(client, "rangers/", name=name, badge_number=badge, current_status=status, **said)
        clock.tick(1)
    assert await shown(client, "teams/?is_active=false", "name") == ["Beta"]
    assert await shown(client, "teams/?search=NORTH", "name") == ["Alpha"]
    assert await shown(client, "teams/?ordering=-name", "name") == ["Beta", "Alpha"]
    assert await shown(client, "rangers/", "name") == ["Ayo", "Bo", "Cy"]
    assert await shown(client, "rangers/?ordering=-created_at", "name") == ["Bo", "Ayo", "Cy"]
    assert await shown(client, "rangers/?ordering=badge_number", "name") == ["Cy", "Bo", "Ayo"]
    assert await shown(client, f"rangers/?team={alpha['id']}&current_status=off_duty", "name") == ["Bo"]
    assert await shown(client, "rangers/?search=ay", "name") == ["Ayo"]
    page = await get(client, "rangers/?page_size=2")
    assert (page["count"], len(page["results"]), page["previous"]) == (3, 2, None)
    refused = await client.get(f"{PATH}/rangers/?ordering=phone")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")


@pytest.mark.parametrize("kind", ["teams", "rangers", "tracking", "logs", "routes"])
async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient, kind: str) -> None:
    body = {"name": "N", "badge_number": "1", "log_type": "other", "title": "T"}
    for each in (UNKNOWN, "nobody", "%25"):
        path = f"{PATH}/{kind}/{each}/"
        answers = [await client.get(path)]
        if kind != "tracking":
            answers += [await client.put(path, json=body), await client.patch(path, json={}), await client.delete(path)]
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# --- positions
async def test_a_position_is_stored_once_for_ever(client: httpx.AsyncClient) -> None:
    ranger = await post(client, "rangers/", name="Asha", badge_number="1")
    body = {
        "ranger": ranger["id"], "timestamp": "2026-06-01T11:50:00Z", **HERE, "altitude": 900, "accuracy": 4.5,
        "speed_kmh": 3.6, "heading": 360, "activity_type": "traveling",
    }  # fmt: skip
    first = await client.post(f"{PATH}/tracking/", json=body)
    again = await client.post(f"{PATH}/tracking/", json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json() == {
        "id": first.json()["id"], "ranger": ranger["id"], "timestamp": "2026-06-01T11:50:00Z", **HERE,
        "altitude": 900.0, "accuracy": 4.5, "speed_kmh": 3.6, "directional_angle": 0.0, "activity_type": "traveling",
        "created_at": NOON,
    }  # fmt: skip
    assert first.json()["id"] == derived_id(
        ranger["id"], f"{int((START.timestamp() - 600) * 1000)} 371000000 -27000000"
    )
    assert await get(client, f"tracking/{first.json()['id']}/") == first.json()
    items = [body, {**body, "timestamp": NOON}, {**body, "lat": 91}, {**body, "ranger": UNKNOWN}, "x"]
    bulk = await post(client, "tracking/bulk_upload/", tracking_points=items)
    assert [bulk[name] for name in ("received", "created", "duplicates", "failed")] == [5, 1, 1, 3]
    assert bulk["results"][2]["errors"] == ["lat: must be between -90 and 90"]
    assert bulk["results"][3]["errors"] == [f"ranger: there is no ranger {UNKNOWN}"]
    assert await shown(client, f"tracking/?ranger={ranger['id']}", "timestamp") == [NOON, "2026-06-01T11:50:00Z"]
    assert await shown(client, f"tracking/?since={NOON}", "timestamp") == [NOON]
    assert await shown(client, "tracking/?activity_type=resting") == []


async def test_positions_of_long_ago_are_forgotten(store: Store, client: httpx.AsyncClient, view: View) -> None:
    ranger = await post(client, "rangers/", name="Asha", badge_number="1")
    for days in (100, 89, 0):
        at = (START - timedelta(days=days)).isoformat()
        await post(client, "tracking/", ranger=ranger["id"], timestamp=at, **HERE)
    assert await store.forget_ranger_positions(START - timedelta(days=90)) == 1
    assert (await store.ranger_positions(view, RangerPositionQuery())).count == 2


async def test_where_rangers_are_is_told_with_age_and_open_emergencies(
    client: httpx.AsyncClient, clock: FakeClock
) -> None:
    team = await post(client, "teams/", name="Alpha")
    asha = await post(client, "rangers/", name="Asha", badge_number="1", team=team["id"], current_status="on_duty")
    await post(client, "rangers/", name="Bo", badge_number="2")
    for minutes, lat in ((30, -2.5), (10, -2.6)):
        at = (START - timedelta(minutes=minutes)).isoformat()
        said = {"timestamp": at, "lat": lat, "lon": 37.1, "speed_kmh": 4, "activity_type": "patrolling"}
        await post(client, "tracking/", ranger=asha["id"], **said)
    # of a phone whose clock runs ahead: what is plausible comes first
    ahead = (START + timedelta(days=2)).isoformat()
    await post(client, "tracking/", ranger=asha["id"], timestamp=ahead, lat=0, lon=0)
    line = await post(client, "logs/", ranger=asha["id"], log_type="emergency", title="Snake bite", **HERE)
    clock.tick(60)
    live, other = await get(client, "live_status/")
    assert live == {
        "ranger_id": asha["id"], "name": "Asha", "badge_number": "1", "team": team["id"], "team_name": "Alpha",
        "current_status": "on_duty", "last_active": "2026-06-01T11:50:00Z",
        "current_position": {
            "lat": -2.6, "lon": 37.1, "altitude": None, "accuracy": None, "timestamp": "2026-06-01T11:50:00Z",
        },
        "activity_type": "patrolling", "speed_kmh": 4.0, "directional_angle": None, "age_s": 660.0,
        "emergencies": [{"id": line["id"], "title": "Snake bite", "priority": "low", "timestamp": NOON}],
    }  # fmt: skip
    assert (other["name"], other["current_position"], other["age_s"], other["emergencies"]) == ("Bo", None, None, [])
    assert await get(client, "rangers/live_status/") == [live, other]
    assert await get(client, "stats/") == {
        "total": 2, "by_status": {"on_duty": 1, "off_duty": 1, "on_leave": 0, "emergency_response": 0},
    }  # fmt: skip


# --- logs
async def test_a_line_of_a_log_lives_and_dies(client: httpx.AsyncClient, clock: FakeClock) -> None:
    line = await post(client, "logs/", log_type="incident", title="Snare", priority="high", notes="n", **HERE)
    said = {"log_type": "incident", "priority": "high", **HERE, "timestamp": NOON, "is_resolved": False, "alert": None}
    assert {name: line[name] for name in said} == said
    clock.tick(60)
    path = f"{PATH}/logs/{line['id']}/"
    changed = (await client.patch(path, json={"description": "cut", "is_resolved": True})).json()
    assert (changed["description"], changed["resolved_at"], changed["resolved_by"]) == (
        "cut", "2026-06-01T12:01:00Z", OPERATOR.user_id,
    )  # fmt: skip
    written = (await client.put(path, json={"log_type": "other", "title": "Wire", "is_resolved": False})).json()
    assert (written["title"], written["resolved_at"], written["priority"]) == ("Wire", None, "high")
    assert await shown(client, "logs/?log_type=other&is_resolved=false&search=wir") == [line["id"]]
    assert await shown(client, "logs/?priority=low") == []
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    bad = await client.post(f"{PATH}/logs/", json={"log_type": "other", "title": "T", "lat": 1})
    assert bad.json()["detail"] == "lat: stands together with lon, or both are left out"


async def test_a_patrol_begins_and_ends_by_its_log_whatever_comes_late(
    client: httpx.AsyncClient, store: Store, view: View
) -> None:
    ranger = await post(client, "rangers/", name="Asha", badge_number="1")

    async def status() -> str:
        return (await store.ranger(view, ranger["id"])).current_status

    async def log(log_type: str, at: str) -> None:
        await post(client, "logs/", log_type=log_type, title="Patrol", ranger=ranger["id"], timestamp=at)

    await log("patrol_start", "2026-06-01T06:00:00Z")
    assert await status() == "on_duty"
    await log("checkpoint", "2026-06-01T07:00:00Z")
    await log("patrol_end", "2026-06-01T11:00:00Z")
    assert await status() == "off_duty"
    await log("patrol_start", "2026-05-31T06:00:00Z")  # yesterday's, which comes only now
    assert await status() == "off_duty"


async def test_an_emergency_raises_an_alert_of_its_own_kind_and_its_end_resolves_it(
    client: httpx.AsyncClient, clock: FakeClock
) -> None:
    ranger = await post(client, "rangers/", name="Asha", badge_number="R-7")
    line = await post(
        client, "logs/", log_type="emergency", title="Snake bite", description="left hand", ranger=ranger["id"], **HERE
    )
    (alert,) = (await client.get("/api/v1/alerts/critical/")).json()["results"]
    assert line["alert"] == alert["id"]
    assert {name: alert[name] for name in ("alert_type", "severity", "title", "message", "latitude", "longitude")} == {
        "alert_type": "ranger_emergency", "severity": "critical", "title": "Asha (R-7): Snake bite",
        "message": "left hand", "latitude": HERE["lat"], "longitude": HERE["lon"],
    }  # fmt: skip
    assert await shown(client, "logs/emergencies/") == [line["id"]]
    clock.tick(60)
    for _ in range(2):
        done = await client.post(f"{PATH}/logs/{line['id']}/resolve/")
        assert (done.status_code, done.json()["is_resolved"]) == (200, True)
    alert = (await client.get(f"/api/v1/alerts/{alert['id']}/")).json()
    assert (alert["status"], alert["resolved_at"]) == ("resolved", "2026-06-01T12:01:00Z")
    assert await shown(client, "logs/emergencies/") == []
    # not over after all: another alert, because what was resolved stays resolved
    again = (await client.patch(f"{PATH}/logs/{line['id']}/", json={"is_resolved": False})).json()
    assert again["alert"] not in (None, alert["id"])
    assert (await client.get("/api/v1/alerts/active/")).json()["count"] == 1
    past = await post(client, "logs/", log_type="emergency", title="Over", is_resolved=True)
    assert past["alert"] is None


async def test_an_alert_that_was_closed_by_hand_stays_as_it_was_closed(client: httpx.AsyncClient) -> None:
    line = await post(client, "logs/", log_type="emergency", title="Help")
    await client.post(f"/api/v1/alerts/{line['alert']}/false_alarm/")
    await client.post(f"{PATH}/logs/{line['id']}/resolve/")
    assert (await client.get(f"/api/v1/alerts/{line['alert']}/")).json()["status"] == "false_alarm"


# --- routes
async def test_a_planned_patrol_is_walked_and_ends(client: httpx.AsyncClient, clock: FakeClock) -> None:
    ranger = await post(client, "rangers/", name="Asha", badge_number="1")
    team = await post(client, "teams/", name="Alpha")
    body = {
        "name": "River", "description": "", "team": team["id"], "assigned_rangers": [ranger["id"]],
        "waypoints": [{**HERE, "name": "ford"}, HERE], "estimated_duration_hours": 3.5,
        "scheduled_start": "2026-06-02T06:00:00Z", "scheduled_end": "2026-06-02T10:00:00Z",
    }  # fmt: skip
    route = await post(client, "routes/", **body)
    assert {name: route[name] for name in body} == body
    assert (route["status"], route["actual_start"], route["created_by"]) == ("planned", None, OPERATOR.user_id)
    clock.tick(60)
    for _ in range(2):
        begun = await client.post(f"{PATH}/routes/{route['id']}/start_patrol/")
        assert (begun.status_code, begun.json()["status"]) == (200, "in_progress")
        assert begun.json()["actual_start"] == "2026-06-01T12:01:00Z"
    assert (await get(client, f"rangers/{ranger['id']}/"))["current_status"] == "on_duty"
    ended = (await client.post(f"{PATH}/routes/{route['id']}/end_patrol/")).json()
    assert (ended["status"], ended["actual_end"]) == ("completed", "2026-06-01T12:01:00Z")
    again = await client.post(f"{PATH}/routes/{route['id']}/start_patrol/")
    assert (again.status_code, again.json()["detail"]) == (409, "status: the patrol is completed already")
    assert await shown(client, f"routes/?status=completed&team={team['id']}") == [route["id"]]
    for change, detail in (
        ({"scheduled_end": "2026-06-02T05:00:00Z"}, "scheduled_end: must not be before scheduled_start"),
        ({"assigned_rangers": [UNKNOWN]}, f"ranger: there is no ranger {UNKNOWN}"),
        ({"waypoints": [{"lat": 91, "lon": 0}]}, "waypoints[0].lat: expected `float` <= 90.0"),
    ):
        answer = await client.patch(f"{PATH}/routes/{route['id']}/", json=change)
        assert (answer.status_code, answer.json()["detail"]) == (400, detail)


# --- who sees what
async def test_rangers_see_their_own_team_managers_all_and_viewers_numbers_alone(
    client: httpx.AsyncClient, login: Login
) -> None:
    alpha, beta = await post(client, "teams/", name="Alpha"), await post(client, "teams/", name="Beta")
    async with (
        login("ranger", "asha") as (asha, asha_user),
        login("ranger", "nobody") as (stranger, _),
        login("conservation_manager", "mara") as (mara, _),
        login("viewer", "vi") as (viewer, _),
    ):
        numbers = {"phone": "+254 711", "emergency_contact": "+254 722"}
        me = await post(client, "rangers/", user=asha_user.id, badge_number="1", team=alpha["id"], **numbers)
        mate = await post(client, "rangers/", name="Bo", badge_number="2", team=alpha["id"], **numbers)
        other = await post(client, "rangers/", name="Cy", badge_number="3", team=beta["id"], **numbers)
        for ranger in (me, mate, other):
            await post(client, "tracking/", ranger=ranger["id"], timestamp=NOON, **HERE)
            await post(client, "logs/", ranger=ranger["id"], log_type="checkpoint", title="C", **HERE)
        for team in (alpha, beta):
            await post(client, "routes/", name=team["name"], team=team["id"], waypoints=[HERE])
        given = await post(client, "routes/", name="Given", team=beta["id"], assigned_rangers=[me["id"]])
        assert await shown(asha, "rangers/") == [mate["id"], me["id"]]
        assert await shown(asha, "teams/", "name") == ["Alpha"]
        assert sorted(await shown(asha, "tracking/", "ranger")) == sorted([me["id"], mate["id"]])
        assert sorted(await shown(asha, "logs/", "ranger")) == sorted([me["id"], mate["id"]])
        assert sorted(await shown(asha, "routes/", "name")) == ["Alpha", "Given"]
        assert (await asha.get(f"{PATH}/routes/{given['id']}/")).status_code == 200
        assert [row["ranger_id"] for row in await get(asha, "live_status/")] == [mate["id"], me["id"]]
        for path in (f"rangers/{other['id']}", f"teams/{beta['id']}"):
            assert (await asha.get(f"{PATH}/{path}/")).status_code == 404
        # numbers are for managers and the person alone
        mine, theirs = await get(asha, f"rangers/{me['id']}/"), await get(asha, f"rangers/{mate['id']}/")
        assert (mine["phone"], mine["emergency_contact"]) == ("+254 711", "+254 722")
        assert (theirs["phone"], theirs["emergency_contact"]) == (None, None)
        assert "+254" not in (await asha.get(f"{PATH}/rangers/?search=bo")).text
        assert len(await shown(mara, "rangers/")) == 3
        assert "+254 722" in (await mara.get(f"{PATH}/rangers/{mate['id']}/")).text
        for kind in ("rangers", "teams", "tracking", "logs", "routes"):
            assert await shown(stranger, f"{kind}/") == []
            assert (await viewer.get(f"{PATH}/{kind}/")).status_code == 403
        assert await get(stranger, "live_status/") == []
        assert (await viewer.get(f"{PATH}/live_status/")).status_code == 403
        counts = await viewer.get(f"{PATH}/stats/")
        assert counts.json()["total"] == 3
        assert str(HERE["lon"]) not in counts.text


async def test_no_view_of_a_viewer_reaches_a_ranger_in_the_store_itself(
    store: Store, accounts: Accounts, client: httpx.AsyncClient, viewer_user: User
) -> None:
    ranger = await post(client, "rangers/", name="Asha", badge_number="1")
    await post(client, "tracking/", ranger=ranger["id"], timestamp=NOON, **HERE)
    viewer = accounts.view(accounts._principal(viewer_user.id, "viewer", ("*",)))
    assert (await store.rangers(viewer, RangerQuery())).count == 0
    assert (await store.ranger_positions(viewer, RangerPositionQuery())).count == 0
    assert (await store.patrol_logs(viewer, PatrolLogQuery())).count == 0
    assert await store.live_rangers(viewer) == []


async def test_a_ranger_changes_what_is_the_rangers_own_and_nothing_else(
    client: httpx.AsyncClient, login: Login
) -> None:
    async with login("ranger", "asha") as (asha, user):
        team = await post(client, "teams/", name="Alpha")
        me = await post(client, "rangers/", user=user.id, badge_number="1", team=team["id"])
        mate = await post(client, "rangers/", name="Bo", badge_number="2", team=team["id"])
        own = await asha.patch(f"{PATH}/rangers/{me['id']}/", json={"phone": "+254 1", "current_status": "on_duty"})
        assert (own.status_code, own.json()["phone"]) == (200, "+254 1")
        for path, body in (
            (f"rangers/{mate['id']}", {"current_status": "on_duty"}),
            (f"rangers/{me['id']}", {"team": None}),
        ):
            refused = await asha.patch(f"{PATH}/{path}/", json=body)
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert (await post(asha, "tracking/", timestamp=NOON, **HERE))["ranger"] == me["id"]
        other = await asha.post(f"{PATH}/tracking/", json={"timestamp": NOON, **HERE, "ranger": mate["id"]})
        assert other.status_code == 403
        line = await post(asha, "logs/", log_type="patrol_start", title="Off we go")
        assert (line["ranger"], line["team"], line["reported_by"]) == (me["id"], team["id"], user.id)
        theirs = await post(client, "logs/", log_type="other", title="T", ranger=mate["id"])
        assert (await asha.patch(f"{PATH}/logs/{theirs['id']}/", json={"title": "U"})).status_code == 403
        assert (await asha.patch(f"{PATH}/logs/{line['id']}/", json={"title": "U"})).status_code == 200
        refused = await asha.post(f"{PATH}/logs/", json={"log_type": "other", "title": "T", "ranger": mate["id"]})
        assert refused.status_code == 403


async def test_who_is_entered_nowhere_still_reports_an_emergency(client: httpx.AsyncClient, login: Login) -> None:
    async with login("ranger", "new") as (new, user):
        line = await post(new, "logs/", log_type="emergency", title="Help", **HERE)
        assert (line["ranger"], line["reported_by"]) == (None, user.id)
        assert (await client.get("/api/v1/alerts/critical/")).json()["count"] == 1
        assert (await new.post(f"{PATH}/tracking/", json={"timestamp": NOON, **HERE})).status_code == 400


async def test_managers_of_a_station_see_in_the_cloud_what_it_brought_and_what_they_entered(
    store: Store, client: httpx.AsyncClient, login: Login
) -> None:
    if not isinstance(store, PostgresStore):
        pytest.skip("a station has no other stations' data")
    now = to_ms(START)
    for station in ("north", "south"):
        said = [
            Operation(id=f"{station} 1", entity="ranger", row_id=f"r {station}", kind="insert", made_ms=now,
                      columns={"name": station, "badge_number": station}, origin=station),
            Operation(id=f"{station} 2", entity="ranger", row_id=f"r {station}", kind="update", made_ms=now, base_rev=1,
                      columns={"current_status": "on_duty"}, origin=station),
            Operation(id=f"{station} 3", entity="ranger_position", row_id=f"p {station}", kind="insert", made_ms=now,
                      columns={"ranger_id": f"r {station}", "recorded_ms": now, "lon_e7": 1, "lat_e7": 2},
                      origin=station),
        ]  # fmt: skip
        async with store.database.transaction() as connection:
            taken = await batches.take_operations(connection, said, now)
            await note(connection, taken.lines)
        assert taken.counts["applied"] == 3
    async with login("conservation_manager", "mara", stations=("north",)) as (mara, _):
        assert await shown(mara, "rangers/", "name") == ["north"]
        assert await shown(mara, "tracking/", "ranger") == ["r north"]
        assert [row["name"] for row in await get(mara, "live_status/")] == ["north"]
        assert (await get(mara, "stats/"))["total"] == 1
        assert (await mara.get(f"{PATH}/rangers/r%20south/")).status_code == 404
        mine = await post(mara, "rangers/", name="Mine", badge_number="9")
        await post(mara, "tracking/", ranger=mine["id"], timestamp=NOON, **HERE)
        assert sorted(await shown(mara, "rangers/", "name")) == ["Mine", "north"]
        assert sorted(await shown(mara, "tracking/", "ranger")) == sorted([mine["id"], "r north"])
    assert len(await shown(client, "rangers/")) == 3


async def test_an_emergency_rings_at_the_stations_event_stream_and_so_does_its_end() -> None:
    clock, hub = FakeClock(), EventHub()
    app = create_app(
        InMemoryStore(clock.now), health=FakeHealth(), events=hub, clock=clock, accounts=accounts_over(None, clock)
    )
    listener = hub.listen()
    async with client_of(app, operator_of(app)) as client:
        long_ago = (START - timedelta(hours=5)).isoformat()
        line = await post(client, "logs/", log_type="emergency", title="Help", timestamp=long_ago, **HERE)
        await post(client, "logs/", log_type="incident", title="Snare", **HERE)
        await client.post(f"{PATH}/logs/{line['id']}/resolve/")
    told = [json.loads(lines.split(b"data: ", 1)[1]) for lines in await listener.take(1) or []]
    assert [(each["alert_type"], each["status"], each["rings"]) for each in told] == [
        ("ranger_emergency", "active", True), ("ranger_emergency", "resolved", True),
    ]  # fmt: skip
    assert str(HERE["lon"]) not in json.dumps(told)
