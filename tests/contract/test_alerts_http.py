"""/api/v1/alerts over every store."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import httpx
import pytest

from edge.api.app import create_app
from edge.api.events import EventHub
from shared.api.alerts import TRANSITIONS, Act
from shared.domain import AlertStatus, AlertType, Severity
from tests.access import accounts_over, operator_of
from tests.contract.conftest import client_of
from tests.fakes import FakeClock, FakeHealth
from tests.memory_store import InMemoryStore

pytestmark = pytest.mark.api

Make = Callable[..., Awaitable[dict[str, Any]]]

PATH = "/api/v1/alerts/"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
ALERT: dict[str, Any] = {"alert_type": "poaching_risk", "title": "Snares at the river"}
KEYS = [
    "id", "animal", "alert_type", "severity", "status", "title", "title_said", "message", "message_said", "latitude",
    "longitude", "conflict_zone", "detected_at", "acknowledged_at", "resolved_at", "acknowledged_by", "metadata",
    "note", "created_at", "updated_at", "rev",
]  # fmt: skip
NOON = "2026-06-01T12:00:00Z"
#: What brings a new alert into each state.
WAYS: dict[AlertStatus, list[Act]] = {
    "active": [],
    "acknowledged": ["acknowledge"],
    "resolved": ["resolve"],
    "false_alarm": ["false_alarm"],
}
WORDS: dict[Act, str] = {"acknowledge": "notes", "resolve": "resolution_notes", "false_alarm": "notes"}


async def raised(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Raise an alert and return it."""
    answer = await client.post(PATH, json={**ALERT, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def done(client: httpx.AsyncClient, alert: dict[str, Any], act: str, **fields: Any) -> dict[str, Any]:
    """Look after an alert and return it."""
    answer = await client.post(f"{PATH}{alert['id']}/{act}/", json=fields)
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = answer.json()
    return read


async def listed(client: httpx.AsyncClient, path: str = "") -> list[str]:
    """Return the titles that a list shows."""
    answer = await client.get(PATH + path)
    assert answer.status_code == 200, answer.text
    return [row["title"] for row in answer.json()["results"]]


async def test_a_person_raises_an_alert(client: httpx.AsyncClient, make_animal: Make) -> None:
    made = await raised(client)
    assert list(made) == KEYS
    assert made == {
        **dict.fromkeys(KEYS),
        **ALERT,
        "id": made["id"],
        "severity": "medium",
        "status": "active",
        "message": "",
        "detected_at": NOON,
        "metadata": {},
        "created_at": NOON,
        "updated_at": NOON,
        "rev": 1,
    }
    assert (await client.get(f"{PATH}{made['id']}/")).json() == made
    area = {"type": "Polygon", "coordinates": [[[37.0, -2.0], [38.0, -2.0], [38.0, -3.0], [37.0, -2.0]]]}
    zone = await client.post("/api/v1/conflict-zones/", json={"name": "A", "zone_type": "road", "geometry": area})
    body = {
        "animal": (await make_animal())["id"],
        "conflict_zone": zone.json()["id"],
        "severity": "critical",
        "message": "three of them",
        "latitude": -2.1234567,
        "longitude": 37.7654321,
        "detected_at": "2026-05-31T23:30:00+03:00",
        "note": "seen by Asha",
    }
    full = await raised(client, **body, status="resolved", metadata={"is_late": True})
    assert full == {**made, **body, "id": full["id"], "detected_at": "2026-05-31T20:30:00Z"}
    assert (await raised(client, animal_id=body["animal"]))["animal"] == body["animal"]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"alert_type": ...}, "alert_type: is required"),
        ({"title": ...}, "title: is required"),
        ({"title": " "}, "title: must not be empty"),
        ({"title": "A" * 201}, "title: must have 1 to 200 characters"),
        ({"severity": "mild"}, "severity: must be one of critical, high, low, medium"),
        ({"message": 7}, "message: expected `str | null`, got `int`"),
        ({"animal": "nobody"}, "animal: there is no animal nobody"),
        ({"animal_id": "nobody"}, "animal: there is no animal nobody"),
        ({"conflict_zone": UNKNOWN}, f"conflict_zone: there is no zone {UNKNOWN}"),
        ({"latitude": 91, "longitude": 0}, "latitude: must be between -90 and 90"),
        ({"latitude": 9}, "latitude: stands together with longitude, or both are left out"),
        ({"detected_at": "2026-06-01T12:00:00"}, "detected_at: needs a time zone, as in 2024-11-01T10:30:00Z"),
        ({"note": "\x00"}, "note: must not contain control characters"),
    ],
)
async def test_a_bad_alert_is_refused(refusing: httpx.AsyncClient, change: dict[str, Any], detail: str) -> None:
    body = {name: value for name, value in {**ALERT, **change}.items() if value is not ...}
    answer = await refusing.post(PATH, json=body)
    assert (answer.status_code, answer.json()) == (400, {"code": "invalid", "detail": detail})
    assert await listed(refusing) == []


async def test_the_word_of_an_unknown_type_names_those_that_are(refusing: httpx.AsyncClient) -> None:
    detail = (await refusing.post(PATH, json={**ALERT, "alert_type": "noise"})).json()["detail"]
    assert detail == "alert_type: must be one of " + ", ".join(sorted(get_args(AlertType)))


def test_the_table_of_transitions_is_whole() -> None:
    assert set(TRANSITIONS) == set(get_args(Act)) == set(WORDS)
    assert set(WAYS) == set(get_args(AlertStatus))
    for act, ways in TRANSITIONS.items():
        assert len(set(ways.values())) == 1, act  # one act, one outcome
        assert ways["active"] in ways  # so it may be repeated
        assert "active" not in ways.values()  # and nothing rings twice


async def test_every_transition_is_as_the_table_says(client: httpx.AsyncClient, clock: FakeClock) -> None:
    for status, way in WAYS.items():
        for act in get_args(Act):
            alert = await raised(client)
            for step in way:
                alert = await done(client, alert, step)
            assert alert["status"] == status
            clock.tick(60)
            answer = await client.post(f"{PATH}{alert['id']}/{act}/", json={})
            after = (await client.get(f"{PATH}{alert['id']}/")).json()
            outcome = TRANSITIONS[act].get(status)
            if outcome is None:
                assert answer.status_code == 409, (status, act)
                told = {"code": "conflict", "detail": f"status: the alert is {status.replace('_', ' ')} already"}
                assert (answer.json(), after) == (told, alert)
                continue
            assert (answer.status_code, answer.json()) == (200, after)
            if outcome == status:
                assert after == alert
                continue
            assert (after["status"], after["rev"]) == (outcome, alert["rev"] + 1)
            assert after["updated_at"] != alert["updated_at"]
            if act == "acknowledge":
                assert (after["acknowledged_by"], after["resolved_at"]) == ("operator", None)
                assert after["acknowledged_at"] == after["updated_at"]
            else:
                assert after["resolved_at"] == after["updated_at"]
                assert after["acknowledged_at"] == alert["acknowledged_at"]


async def test_what_is_said_with_an_act_is_added_to_the_note_once(client: httpx.AsyncClient, clock: FakeClock) -> None:
    alert = await raised(client, note="tracks")
    seen = await done(client, alert, "acknowledge", notes=" on my way ")
    assert (seen["note"], seen["acknowledged_at"]) == ("tracks\non my way", NOON)
    clock.tick(60)
    assert await done(client, alert, "acknowledge", notes="on my way") == seen
    more = await done(client, alert, "acknowledge", notes="with two others")
    assert more["note"] == "tracks\non my way\nwith two others"
    assert (more["acknowledged_at"], more["rev"]) == (NOON, 3)
    closed = await done(client, alert, "resolve", resolution_notes="snares removed")
    assert (closed["note"], closed["status"]) == ("tracks\non my way\nwith two others\nsnares removed", "resolved")
    assert await done(client, alert, "resolve", resolution_notes="snares removed") == closed
    false = await done(client, await raised(client), "false_alarm", notes="a branch")
    assert (false["note"], false["status"], false["resolved_at"]) == ("a branch", "false_alarm", "2026-06-01T12:01:00Z")
    full = await raised(client, note="A" * 9_990)
    answer = await client.post(f"{PATH}{full['id']}/resolve/", json={"resolution_notes": "B" * 10})
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "resolution_notes: the note would have more than 10000 characters; shorten it first",
    )
    assert (await client.get(f"{PATH}{full['id']}/")).json() == full


async def test_an_act_needs_no_body(client: httpx.AsyncClient) -> None:
    for act in WORDS:
        alert = await raised(client)
        for content in (b"", b"{}", b"null"):
            answer = await client.post(f"{PATH}{alert['id']}/{act}/", content=content)
            assert answer.status_code == 200, answer.text
            assert answer.json()["note"] is None
        for body, detail in (
            ([], "the body: expected `object | null`, got `array`"),
            ({WORDS[act]: 7}, f"{WORDS[act]}: expected `str | null`, got `int`"),
        ):
            answer = await client.post(f"{PATH}{alert['id']}/{act}/", json=body)
            assert (answer.status_code, answer.json()["detail"]) == (400, detail)


async def test_a_note_is_written_in_any_state(client: httpx.AsyncClient, clock: FakeClock) -> None:
    alert = await raised(client)
    clock.tick(60)
    noted = await done(client, alert, "note", note=" fresh tracks ")
    assert noted == {**alert, "note": "fresh tracks", "rev": 2, "updated_at": "2026-06-01T12:01:00Z"}
    await done(client, alert, "resolve")
    assert (await done(client, alert, "note", note="old tracks"))["note"] == "old tracks"
    assert (await done(client, alert, "note", note=None))["note"] is None
    answer = await client.post(f"{PATH}{alert['id']}/note/", json={})
    assert (answer.status_code, answer.json()["detail"]) == (400, "note: is required")


async def test_an_unknown_alert_is_not_found(client: httpx.AsyncClient) -> None:
    for alert_id in (UNKNOWN, "%25", "nobody"):
        assert (await client.get(f"{PATH}{alert_id}/")).status_code == 404
        for act in (*WORDS, "note"):
            answer = await client.post(f"{PATH}{alert_id}/{act}/", json={"note": "n"})
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_an_alert_is_never_deleted_nor_rewritten(client: httpx.AsyncClient) -> None:
    alert = await raised(client)
    for method in ("DELETE", "PUT", "PATCH"):
        answer = await client.request(method, f"{PATH}{alert['id']}/", json={})
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert (await client.get(f"{PATH}{alert['id']}/")).json() == alert


async def test_alerts_are_filtered_ordered_and_paged(
    client: httpx.AsyncClient, make_animal: Make, clock: FakeClock
) -> None:
    animal = (await make_animal())["id"]
    for title, alert_type, severity, hour, act in (
        ("A", "low_battery", "low", 11, None),
        ("B", "proximity", "critical", 10, None),
        ("C", "low_battery", "critical", 9, "acknowledge"),
        ("D", "corridor_exit", "critical", 12, "resolve"),
    ):
        of = {"animal": animal} if title in "AB" else {}
        kind = {"title": title, "alert_type": alert_type, "severity": severity}
        alert = await raised(client, **of, **kind, detected_at=f"2026-06-01T{hour:02}:00:00Z")
        if act:
            await done(client, alert, act)
        clock.tick(1)
    assert await listed(client) == ["D", "A", "B", "C"]
    assert await listed(client, "?ordering=detected_at") == ["C", "B", "A", "D"]
    assert await listed(client, "?ordering=-created_at") == ["D", "C", "B", "A"]
    assert await listed(client, f"?animal={animal}") == await listed(client, f"?animal_id={animal}") == ["A", "B"]
    assert await listed(client, "?alert_type=low_battery") == ["A", "C"]
    assert await listed(client, "?severity=critical&status=active") == ["B"]
    assert await listed(client, "?status=acknowledged") == ["C"]
    assert await listed(client, "?status=%25") == []
    assert await listed(client, "?since=2026-06-01T10:00:00Z&until=2026-06-01T12:00:00Z") == ["A", "B"]
    assert await listed(client, "?since=2026-06-01&until=2026-06-01") == ["D", "A", "B", "C"]
    assert await listed(client, "?until=2026-05-31") == []
    assert await listed(client, "active/") == ["A", "B"]
    assert await listed(client, "active/?page_size=1&page=2") == ["B"]
    assert await listed(client, "critical/") == ["B"]
    page = (await client.get(PATH + "?page_size=3&severity=critical&page=1")).json()
    assert (page["count"], page["next"], page["previous"]) == (3, None, None)
    for query in ("ordering=title", "since=yesterday", "until=2026-06-01T12:00:00", "page_size=0"):
        refused = await client.get(f"{PATH}?{query}")
        assert refused.status_code == 400
        assert refused.json()["detail"].startswith(query.split("=")[0] + ": ")

    stats = (await client.get(PATH + "stats/")).json()
    assert stats == {
        "total": 4,
        "by_severity": {**dict.fromkeys(get_args(Severity), 0), "low": 1, "critical": 3},
        "by_type": {**dict.fromkeys(get_args(AlertType), 0), "low_battery": 2, "proximity": 1, "corridor_exit": 1},
        "by_status": {"active": 2, "acknowledged": 1, "resolved": 1, "false_alarm": 0},
    }
    some = (await client.get(f"{PATH}stats/?animal={animal}&since=2026-06-01T11:00:00Z")).json()
    assert (some["total"], some["by_status"]["active"], some["by_severity"]["low"]) == (1, 1, 1)


async def test_no_alerts_are_counted_as_none(refusing: httpx.AsyncClient) -> None:
    stats = (await refusing.get(PATH + "stats/")).json()
    assert stats.pop("total") == 0
    assert {count for counts in stats.values() for count in counts.values()} == {0}


async def test_what_a_person_does_with_an_alert_is_told_at_once_to_who_listens_to_a_station() -> None:
    clock, hub = FakeClock(), EventHub()
    app = create_app(
        InMemoryStore(clock.now), health=FakeHealth(), events=hub, clock=clock, accounts=accounts_over(None, clock)
    )
    listener = hub.listen()
    async with client_of(app, operator_of(app)) as client:
        alert = await raised(client)
        for act in ("acknowledge", "acknowledge", "note", "resolve"):  # the second changes nothing
            await done(client, alert, act, **({"note": "Team 2"} if act == "note" else {}))
    told = [json.loads(lines.split(b"data: ", 1)[1]) for lines in await listener.take(1) or []]
    assert [(each["id"], each["status"]) for each in told] == [
        (alert["id"], status) for status in ("active", "acknowledged", "acknowledged", "resolved")
    ]
